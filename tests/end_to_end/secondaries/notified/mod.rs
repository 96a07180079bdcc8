//! Nothing but NOTIFY tells the secondaries of changes.

use super::changes::Registrations;
use super::{CHANGES, Scene, primary, register, stock};
use crate::support::MEMCACHED;
use crate::support::wait_until;

#[test]
fn secondaries_that_are_told_follow_by_themselves() {
    let mut scene = Scene::primary(&primary());
    register(&scene.server.client(), MEMCACHED, 0..80, 40);
    scene.follow(stock::all());
    scene.catch_up();
    let entry = |secondary: &stock::Secondary| format!("{{ address = \"{}\", key = \"xfer.\" }}", secondary.address());
    let entries: Vec<String> = scene.secondaries.iter().map(entry).collect();
    let file = scene.server.folder().join("zones/svc.example.test.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[notify]\nsecondaries = [{}]\n", entries.join(", "))).unwrap();
    let whole = scene.all_sent(super::WHOLE);
    let client = scene.server.client();
    let mut registrations = Registrations::new(&client, 3);
    registrations.change();
    wait_until(super::SLOW, "NOTIFY acknowledged by all", || {
        (scene.server.count_logged("NOTIFY is acknowledged") == 4).then_some(())
    });
    // In bursts, each followed to its end: BIND waits half a second between two, PowerDNS and Knot up to a second.
    for _ in 0..10 {
        for _ in 0..registrations.random.u32(1..8) {
            registrations.change();
        }
        let serial = client.serial();
        for secondary in &scene.secondaries {
            wait_until(super::SLOW, &format!("serial {serial} in {}", secondary.name()), || {
                (secondary.serial() == Some(serial)).then_some(())
            });
        }
    }
    scene.assert_equal();
    assert_eq!(scene.all_sent(super::WHOLE), whole);
    assert!(scene.all_sent(CHANGES).iter().all(|(_, sent)| *sent >= 10), "{:?}", scene.all_sent(CHANGES));
}
