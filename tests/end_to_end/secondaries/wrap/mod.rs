//! The serial goes over 2³² and begins anew at 0 (RFC 1982).

use super::changes::Registrations;
use super::{CHANGES, Scene, primary, register, stock};
use crate::support::MEMCACHED;

#[test]
fn secondaries_follow_the_serial_over_its_end() {
    let mut setup = primary();
    setup.arguments.extend(["--epoch", "4294967285"]);
    let mut scene = Scene::primary(&setup);
    let client = scene.server.client();
    register(&client, MEMCACHED, 0..60, 20);
    assert!(client.serial() > 4_294_967_280, "{}", client.serial());
    scene.follow(stock::all());
    scene.catch_up();
    let whole = scene.all_sent(super::WHOLE);
    let mut registrations = Registrations::new(&client, 1);
    let mut serials = Vec::new();
    while serials.last().is_none_or(|last| !(3..1_000_000).contains(last)) {
        registrations.change();
        scene.catch_up();
        serials.push(client.serial());
        scene.assert_equal();
    }
    serials.dedup();
    let around: Vec<u32> = serials.iter().copied().filter(|serial| serial.wrapping_add(2) < 4).collect();
    assert_eq!(around, [u32::MAX - 1, u32::MAX, 0, 1], "{serials:?}");
    // PowerDNS takes a serial of 0 for none, so it asks for the whole zone once more.
    let mut expected = whole;
    expected.iter_mut().filter(|(name, _)| *name == "PowerDNS").for_each(|(_, sent)| *sent += 1);
    assert_eq!(scene.all_sent(super::WHOLE), expected, "{serials:?}");
    assert!(scene.all_sent(CHANGES).iter().all(|(_, sent)| *sent > 4), "{:?}", scene.all_sent(CHANGES));
}
