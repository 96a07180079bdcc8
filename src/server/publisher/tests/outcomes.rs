//! What became of updates is counted once each, whatever they waited for.

use crate::server::figures::{Channel, Outcome};

use super::*;

/// How many updates over UDP became what since the last time; those that none became are left out.
fn outcomes(stage: &Stage, before: &mut [u64; Outcome::ALL.len()]) -> Vec<(&'static str, u64)> {
    let heartbeats = &stage.publisher.counters.figures.heartbeats;
    let now = Outcome::ALL.map(|outcome| heartbeats.at(Channel::Udp, outcome));
    let since =
        Outcome::ALL.into_iter().map(|outcome| (outcome.label(), now[outcome as usize] - before[outcome as usize]));
    let since = since.filter(|(_, count)| *count > 0).collect();
    *before = now;
    since
}

#[test]
fn every_update_becomes_one_thing() {
    let mut stage = Stage::new();
    let seen = &mut [0; Outcome::ALL.len()];
    stage.register(1, "a");
    assert_eq!(outcomes(&stage, seen), [("changed", 1)]);
    stage.send(1, srv("a"));
    stage.send(2, srv("a"));
    stage.send(3, update().delete_rrset("_nobody._tcp.z.", "SRV"));
    stage.send(4, update().add("elsewhere.z. A 192.0.2.9"));
    stage.send(5, update().exists("nobody.z.", "A").add("host.z. A 192.0.2.9"));
    stage.replies();
    assert_eq!(outcomes(&stage, seen), [("renewed", 2), ("unchanged", 1), ("refused", 1), ("failed", 1)]);
    // One that changes something, and its copy, wait for the store, which refuses.
    stage.send(6, srv("b"));
    stage.send(6, srv("b"));
    stage.seal().unwrap();
    stage.send(7, srv("a"));
    stage.send(8, srv("c"));
    stage.replies();
    assert_eq!(outcomes(&stage, seen), [("renewed", 1)], "a renewal waits for nobody");
    stage.end(&UNAVAILABLE());
    stage.replies();
    assert_eq!(outcomes(&stage, seen), [("unavailable", 2)]);
    stage.seal().expect("what waited is the next write");
    stage.end(&Appended::Committed);
    stage.replies();
    assert_eq!(outcomes(&stage, seen), [("changed", 1)]);
}

#[test]
fn copies_of_a_registration_are_repeated_and_only_the_first_has_changed_something() {
    let mut stage = Stage::with(500, 0);
    let seen = &mut [0; Outcome::ALL.len()];
    stage.send(1, srv("a"));
    stage.send(1, srv("a"));
    stage.now += 500;
    stage.tick().unwrap();
    stage.send(1, srv("a"));
    stage.end(&Appended::Committed);
    let replies = stage.publisher.take_replies();
    assert_eq!(replies.iter().filter(|reply| reply.changed_since().is_some()).count(), 1);
    assert_eq!(outcomes(&stage, seen), [("changed", 1), ("repeated", 2)]);
}
