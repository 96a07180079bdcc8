//! The first transfer: everything that a zone can hold, whole.

use super::{Scene, WHOLE, primary, register, stock};
use crate::support::MEMCACHED;
use crate::support::message::*;
use crate::support::server::Setup;

/// Everything that a static file can hold.
const STATICS: &str = include_str!("../../peers/zone.txt");

#[test]
fn each_secondary_gets_the_whole_zone() {
    let mut scene = Scene::primary(&Setup { statics: STATICS.to_owned(), ..primary() });
    let client = scene.server.client();
    register(&client, MEMCACHED, 0..80, 20);
    let www = "_www._tcp.svc.example.test.";
    let update =
        Update::member(www, "w-1", "192.0.2.1").add(&format!("w-1.{www}"), TXT, 5, &txt(&["az=a", "two words"]));
    client.update(&update.add(&host_of(www, "w-1"), AAAA, 5, &address("2001:db8::1").1).lease(3600));
    client.update(&Update::new().add("_acme-challenge.svc.example.test.", TXT, 5, &txt(&["token"])).lease(3600));
    scene.follow(stock::all());
    scene.catch_up();
    scene.assert_equal();
    for (name, sent) in scene.all_sent(WHOLE) {
        assert!(sent >= 1, "{name} has the zone and was sent none");
    }
}
