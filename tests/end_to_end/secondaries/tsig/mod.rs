//! Keys that are right, and keys that are not.

use super::stock::{Place, Secondary, foreign_key};
use super::{Scene, WHOLE, primary, register, stock};
use crate::support::message::*;
use crate::support::server::Setup;
use crate::support::tsig::TsigKey;
use crate::support::{MEMCACHED, ZONE, wait_until};

/// Asserts that no secondary with this key gets the zone, and that one line of the primary's log about each has these
/// texts.
fn assert_refused(key: impl Fn(&Scene) -> TsigKey, texts: &[&str]) {
    let mut scene = Scene::primary(&Setup { keys: vec![super::KEY, ("other", "hmac-sha256")], ..primary() });
    register(&scene.server.client(), MEMCACHED, 0..3, 3);
    let key = key(&scene);
    for program in stock::all() {
        scene.secondaries.push(Secondary::start(program, Place::new(&key), scene.server.address));
    }
    for secondary in &scene.secondaries {
        secondary.refresh();
        let name = secondary.name();
        let peer = format!(" peer={}:", secondary.ip());
        wait_until(super::SLOW, &format!("a line about {name}: {texts:?}"), || {
            (scene.server.count_lines(&[&[&*peer], texts].concat()) > 0).then_some(())
        });
    }
    for secondary in &scene.secondaries {
        assert_eq!(secondary.serial(), None, "{} has the zone", secondary.name());
    }
    assert!(scene.all_sent(WHOLE).iter().all(|(_, sent)| *sent == 0), "{:?}", scene.all_sent(WHOLE));
    // With the right one they get it.
    scene.secondaries.clear();
    scene.follow(stock::all());
    scene.catch_up();
    scene.assert_equal();
}

#[test]
fn a_wrong_secret_gets_no_zone() {
    let key = |scene: &Scene| foreign_key(scene.server.folder(), "xfer.");
    assert_refused(key, &["signature not accepted", "key=xfer.", "BADSIG"]);
}

#[test]
fn an_unknown_key_gets_no_zone() {
    let key = |scene: &Scene| foreign_key(scene.server.folder(), "nobody.");
    assert_refused(key, &["signature not accepted", "key=nobody.", "BADKEY"]);
}

#[test]
fn a_key_without_an_entry_gets_no_zone() {
    let texts = ["zone transfer refused", "key=other.", "needs an [access] transfer entry"];
    assert_refused(|scene| scene.server.key("other"), &texts);
}

#[test]
fn a_signed_question_for_the_serial_has_a_signed_answer() {
    let scene = Scene::primary(&primary());
    let key = scene.server.key(super::KEY.0);
    let signed = key.sign(&query(ZONE, SOA));
    let answer = scene.server.client().ask(&signed.octets);
    assert_eq!((answer.rcode(), answer.message.answers.len()), (0, 1));
    assert_eq!(key.read_answer(&answer.octets, &signed.mac).unwrap().verified, Some(true));
}
