//! A primary that is killed in the middle of a transfer of 20,000 members.

mod proxy;

use super::stock::{Place, Secondary};
use super::{Scene, primary, register, stock};
use crate::support::{ZONE, wait_until};

use proxy::Proxy;

const SERVICES: usize = 40;
const MEMBERS: usize = 500;
/// Octets of the zone that come through before the primary dies.
const LIMIT: usize = 200_000;

#[test]
fn a_transfer_that_is_cut_leaves_nothing_and_is_done_again() {
    let mut scene = Scene::primary(&primary());
    let client = scene.server.client();
    for service in 0..SERVICES {
        register(&client, &format!("_s{service}._tcp.{ZONE}"), 0..MEMBERS, 250);
    }
    let key = scene.server.key(super::KEY.0);
    let mut proxies = Vec::new();
    for program in stock::all() {
        let place = Place::new(&key);
        let proxy = Proxy::start(scene.server.address, LIMIT);
        scene.secondaries.push(Secondary::start(program, place, proxy.address));
        proxies.push(proxy);
    }
    for (secondary, proxy) in scene.secondaries.iter().zip(&proxies) {
        secondary.refresh();
        let what = format!("a transfer to {} under way", secondary.name());
        wait_until(super::SLOW, &what, || (proxy.held() > 0).then_some(()));
    }
    assert!(proxies.iter().all(|proxy| proxy.most() <= LIMIT));
    scene.server.kill_9();
    proxies.iter().for_each(Proxy::open);
    for secondary in &scene.secondaries {
        assert_eq!(secondary.serial(), None, "{} serves a part of the zone", secondary.name());
    }
    scene.server.restart();
    scene.catch_up();
    assert!(scene.records().len() > 3 * SERVICES * MEMBERS);
    scene.assert_equal();
    for (secondary, proxy) in scene.secondaries.iter().zip(&proxies) {
        let (name, whole) = (secondary.name(), proxy.most());
        assert!(whole > 4 * LIMIT, "{name}: the first transfer was cut in its middle: {whole} octets are the whole");
    }
}
