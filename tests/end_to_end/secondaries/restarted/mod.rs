//! A primary that is killed and started again: what it kept of its commits leads its secondaries on.

use super::changes::Registrations;
use super::{CHANGES, Scene, primary, register, stock};
use crate::support::MEMCACHED;
use crate::support::message::Update;

#[test]
fn secondaries_follow_a_restarted_primary_by_changes() {
    let mut scene = Scene::primary(&primary());
    register(&scene.server.client(), MEMCACHED, 0..80, 40);
    scene.follow(stock::all());
    scene.catch_up();
    let whole = scene.all_sent(super::WHOLE);
    for round in 0..3 {
        let client = scene.server.client();
        let mut registrations = Registrations::new(&client, round);
        for _ in 0..10 {
            registrations.change();
        }
        if round == 1 {
            scene.catch_up();
        }
        drop(registrations);
        scene.server.kill_9();
        scene.server.restart();
        let changes = scene.all_sent(CHANGES);
        let id = format!("after-{round}");
        scene.server.client().update(&Update::member(MEMCACHED, &id, "192.0.2.9").lease(3600));
        scene.catch_up();
        scene.assert_equal();
        for (before, now) in changes.iter().zip(scene.all_sent(CHANGES)) {
            assert!(now.1 > before.1, "{} followed by no changes after restart {round}", now.0);
        }
    }
    assert_eq!(scene.all_sent(super::WHOLE), whole, "a restart makes nobody take the whole zone");
}
