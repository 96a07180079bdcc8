//! Updates that a secondary hands on (RFC 2136 §6).

use std::time::Duration;

use super::*;
use crate::support::MEMCACHED;
use crate::support::programs::nsupdate;
use crate::support::tsig::{BADKEY, TsigKey};
use crate::tls::Secured;

/// A primary that lets one key register, and its secondary, which knows another key than that.
fn start() -> (TestServer, TestServer) {
    let listen = free_address();
    let primary = TestServer::with(&Setup {
        keys: vec![("agents", "hmac-sha256"), ("known", "hmac-sha256")],
        tables: format!(
            "[access]\nupdate = [{{ key = \"agents.\", services = [\"*\"] }}, {{ key = \"known.\", services = [\"*\"] }}]\n\
             [notify]\nsecondaries = [\"{listen}\"]\n"
        ),
        ..primary_of(&[])
    });
    let mut setup = secondary_at(listen, &[primary.address], "");
    setup.server = format!(
        "[[key]]\nname = \"known.\"\nalgorithm = \"hmac-sha256\"\nsecret-file = {:?}\n",
        primary.key_file("known")
    );
    let secondary = TestServer::with(&setup);
    assert_copied(primary.address, listen);
    (primary, secondary)
}

fn registration(id: &str) -> String {
    format!(
        "update add {MEMCACHED} 5 SRV 0 256 11211 {id}.memcached.{ZONE}\n\
         update add {id}.memcached.{ZONE} 5 A 192.0.2.1"
    )
}

#[test]
fn a_signed_update_registers_at_the_primary_and_its_answer_verifies() {
    let (primary, secondary) = start();
    // One key that the secondary knows, and one that only the primary does; over UDP and over TCP.
    for (id, key, more) in
        [("i-1", "known", None), ("i-2", "known", Some("-v")), ("i-3", "agents", None), ("i-4", "agents", Some("-v"))]
    {
        let file = primary.key_file(key);
        let mut arguments = vec!["-k", file.to_str().unwrap()];
        arguments.extend(more);
        let updated = nsupdate(secondary.address, &arguments, &registration(id));
        assert!(updated.success, "{id}: {}", updated.text);
        assert!(primary.client().targets(MEMCACHED).contains(&format!("{id}.memcached.{ZONE}")), "{id}");
        assert_copied(primary.address, secondary.address);
    }
    assert_eq!(secondary.client().targets(MEMCACHED).len(), 4);
    // What the primary refuses, it refuses through its secondary as well, and says so under its signature.
    let file = primary.key_file("agents");
    let refused = nsupdate(
        secondary.address,
        &["-k", file.to_str().unwrap()],
        &format!("update add txt.{ZONE} 5 TXT \"not a member\""),
    );
    assert!(!refused.success && refused.text.contains("REFUSED"), "{}", refused.text);
    assert!(!refused.text.contains("tsig"), "{}", refused.text);
}

#[test]
fn what_is_not_signed_or_signed_wrongly_goes_nowhere() {
    let (primary, secondary) = start();
    let before = primary.client().serial();
    let unsigned = Update::member(MEMCACHED, "i-1", "192.0.2.1").encode();
    for answer in [secondary.client().ask(&unsigned), secondary.client().ask_tcp(&unsigned)] {
        assert_eq!(answer.rcode(), 5);
        assert!(answer.error_text().contains("forwards signed updates alone"), "{}", answer.error_text());
    }
    // A key that is known here is looked at here: NOTAUTH.
    let known = primary.key("known");
    let mut wrong = known.sign(&unsigned).octets;
    let at = wrong.len() - 10;
    wrong[at] ^= 1;
    assert_eq!(secondary.client().ask(&wrong).rcode(), 9);
    assert_eq!(secondary.client().ask(&known.sign_at(&unsigned, 1_000_000_000).octets).rcode(), 9);
    // One that nobody knows comes back as the primary has it.
    let folder = tempfile::tempdir().unwrap();
    crate::support::server::make_key("nobody", "hmac-sha256", &folder.path().join("nobody.key"));
    let nobody = TsigKey::read(&folder.path().join("nobody.key"));
    let signed = nobody.sign(&unsigned);
    let answer = secondary.client().ask(&signed.octets);
    assert_eq!(answer.rcode(), 9);
    assert_eq!(nobody.read_answer(&answer.octets, &signed.mac).map(|tsig| tsig.error), Some(17), "BADKEY");
    // Rubbish that begins like an update.
    let client = secondary.client();
    for cut in 12..unsigned.len() {
        let mut rubbish = unsigned[..cut].to_vec();
        rubbish.extend([0xc0, 0xff]);
        client.send(&rubbish);
    }
    assert_eq!(client.ask(&query(ZONE, SOA)).rcode(), 0);
    assert_eq!(primary.client().serial(), before);
    assert_eq!(secondary.count_logged("ERROR") + secondary.count_logged("WARN"), 0);
}

#[test]
fn without_a_primary_nobody_answers_and_the_copy_is_served_on() {
    let (mut primary, secondary) = start();
    let key = primary.key("agents");
    primary.kill_9();
    let update = key.sign(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60).encode()).octets;
    let client = secondary.client();
    assert!(client.try_ask(&update, Duration::from_secs(1)).is_none());
    assert_eq!(client.ask(&query(ZONE, SOA)).rcode(), 0);
    primary.restart();
    // The requester's business: it sends again.
    let key = primary.key("agents");
    let update = key.sign(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60).encode()).octets;
    let answer = wait_until(PATIENCE, "an answer", || client.try_ask(&update, Duration::from_secs(1)));
    assert_eq!(answer.rcode(), 0);
    assert_copied(primary.address, secondary.address);
}

#[test]
fn an_update_goes_on_through_a_chain() {
    let (primary, middle) = start();
    let last = start_secondary(&[middle.address]);
    assert_copied(primary.address, last.address);
    let file = primary.key_file("agents");
    let updated = nsupdate(last.address, &["-k", file.to_str().unwrap()], &registration("i-1"));
    assert!(updated.success, "{}", updated.text);
    assert_eq!(primary.client().targets(MEMCACHED).len(), 1);
}

#[test]
fn over_tls_updates_with_a_known_key_are_forwarded_and_the_others_are_told_why_not() {
    let (primary, _) = start();
    let mut setup = secondary_at(free_address(), &[primary.address], "");
    setup.server = format!(
        "[[key]]\nname = \"known.\"\nalgorithm = \"hmac-sha256\"\nsecret-file = {:?}\n",
        primary.key_file("known")
    );
    setup.keys = vec![("stale", "hmac-sha256")];
    let secondary = Secured::start(setup);
    assert_copied(primary.address, secondary.server.address);
    let update = |id| Update::member(MEMCACHED, id, "192.0.2.1").lease(60).encode();
    let known = primary.key("known");
    let signed = known.sign(&update("i-1"));
    let answer = secondary.ask(&signed.octets);
    assert_eq!((answer.rcode(), answer.lease()), (0, Some(60u32.to_be_bytes().to_vec())));
    let seal = known.read_answer(&answer.octets, &signed.mac).unwrap();
    assert_eq!((seal.verified, seal.error), (Some(true), 0));
    // A key that only the primary has: its answer could not be signed anew, so nothing is done.
    let agents = primary.key("agents");
    let answer = secondary.ask(&agents.sign(&update("i-2")).octets);
    assert_eq!(answer.rcode(), 5);
    assert!(answer.error_text().contains("over TLS"), "{}", answer.error_text());
    // One that the primary has no more.
    let stale = secondary.server.key("stale");
    let signed = stale.sign(&update("i-3"));
    let answer = secondary.ask(&signed.octets);
    let seal = stale.read_answer(&answer.octets, &signed.mac).unwrap();
    assert_eq!((answer.rcode(), seal.error, seal.verified), (9, BADKEY, None));
    assert_eq!(primary.client().targets(MEMCACHED), [format!("i-1.memcached.{ZONE}")]);
    assert_eq!(secondary.server.count_logged("ERROR") + secondary.server.count_logged("WARN"), 0);
}

#[test]
fn secondaries_of_each_other_hand_an_update_on_once() {
    let (mut primary, _) = start();
    let listen = [free_address(), free_address()];
    let start = |own: usize| TestServer::with(&secondary_at(listen[own], &[primary.address, listen[1 - own]], ""));
    let servers = [start(0), start(1)];
    for server in &servers {
        assert_copied(primary.address, server.address);
    }
    let key = primary.key("agents");
    primary.kill_9();
    let client = servers[0].client();
    let update = |id: &str| key.sign(&Update::member(MEMCACHED, id, "192.0.2.1").lease(60).encode()).octets;
    // Handed around, each of these would take all places of both servers within a moment.
    for number in 0..10 {
        client.send(&update(&format!("i-{number}")));
    }
    assert!(client.receive(Duration::from_secs(3)).is_none());
    primary.restart();
    let answer = client.ask(&update("i-1"));
    assert_eq!(answer.rcode(), 0);
    for server in &servers {
        assert_eq!(server.count_logged("a limit is reached"), 0);
    }
}
