//! TSIG (RFC 8945).

use std::process::Command;

use crate::support::client::Client;
use crate::support::message::*;
use crate::support::programs::{dig, kdig};
use crate::support::server::{Setup, TestServer};
use crate::support::tsig::{AnswerTsig, BADKEY, BADSIG, BADTIME, Signed, TsigKey, unix_time};
use crate::support::{MEMCACHED, ZONE};

const NOTAUTH: u16 = 9;

fn keyed() -> (TestServer, TsigKey) {
    let server = TestServer::with(&Setup {
        keys: vec![("agents", "hmac-sha256"), ("big", "hmac-sha512"), ("middle", "hmac-sha384")],
        tables: "[access]\nupdate = [{ key = \"agents.\" }, { key = \"middle.\", members = \"any\" }, { key = \"big.\", members = \"any\" }]\n"
            .to_owned(),
        ..Setup::default()
    });
    let key = server.key("agents");
    (server, key)
}

/// The answer's rcode and its TSIG record.
fn ask(client: &Client, key: &TsigKey, signed: &Signed) -> (u16, AnswerTsig) {
    let answer = client.ask(&signed.octets);
    let tsig = key.read_answer(&answer.octets, &signed.mac).unwrap_or_else(|| panic!("no TSIG: {answer:?}"));
    (answer.rcode(), tsig)
}

#[test]
fn signed_queries_get_signed_answers_that_dig_and_kdig_verify() {
    let (server, _) = keyed();
    for key in ["agents", "middle", "big"] {
        let file = server.key_file(key);
        let printed = dig(server.address, &["-k", file.to_str().unwrap(), ZONE, "SOA"]);
        assert_eq!((printed.status.as_str(), printed.answers.len()), ("NOERROR", 1), "{}", printed.text);
        assert!(printed.text.contains("TSIG") && !printed.text.contains("erify"), "{}", printed.text);
        let argument = server.key(key).as_argument();
        for transport in ["+notcp", "+tcp"] {
            let printed = kdig(server.address, &["-y", &argument, transport, ZONE, "SOA"]);
            assert_eq!(printed.answers.len(), 1, "{}", printed.text);
            assert!(!printed.text.contains(";; WARNING") && !printed.text.contains(";; ERROR"), "{}", printed.text);
        }
        let dig_argument = argument.clone();
        let printed = dig(server.address, &["-y", &dig_argument, MEMCACHED, "SRV"]);
        assert!(printed.status == "NXDOMAIN" && !printed.text.contains("erify"), "{}", printed.text);
    }
}

#[test]
fn every_algorithm_signs_updates_with_its_name_in_any_case() {
    let (server, _) = keyed();
    let client = server.client();
    for (number, key) in ["agents", "middle", "big"].into_iter().enumerate() {
        let mut key = server.key(key);
        for upper in [false, true] {
            if upper {
                key.algorithm = key.algorithm.to_uppercase();
                key.name = key.name.to_uppercase();
            }
            let id = format!("i-{number}-{upper}");
            let signed = key.sign(&Update::member(MEMCACHED, &id, "192.0.2.1").encode());
            let (rcode, tsig) = ask(&client, &key, &signed);
            assert_eq!((rcode, tsig.error, tsig.verified), (0, 0, Some(true)), "{key:?}");
        }
    }
    assert_eq!(client.targets(MEMCACHED).len(), 6);
}

/// RFC 8945 §5.2.1.
#[test]
fn an_unknown_key_is_badkey_in_an_unsigned_answer() {
    let (server, key) = keyed();
    let client = server.client();
    let unknown = TsigKey { name: "nobody.".to_owned(), ..key.clone() };
    let other_algorithm = TsigKey { algorithm: "hmac-sha512.".to_owned(), ..key };
    for key in [unknown, other_algorithm] {
        for packet in [Update::member(MEMCACHED, "i-1", "192.0.2.1").encode(), query(ZONE, SOA)] {
            let (rcode, tsig) = ask(&client, &key, &key.sign(&packet));
            assert_eq!((rcode, tsig.error, tsig.verified), (NOTAUTH, BADKEY, None));
        }
    }
    assert!(client.targets(MEMCACHED).is_empty());
}

/// RFC 8945 §5.2.2.
#[test]
fn a_wrong_signature_is_badsig_in_an_unsigned_answer() {
    let (server, key) = keyed();
    let client = server.client();
    let wrong = TsigKey { secret: vec![7; 32], ..key.clone() };
    let packet = Update::member(MEMCACHED, "i-1", "192.0.2.1").encode();
    let (rcode, tsig) = ask(&client, &key, &wrong.sign(&packet));
    assert_eq!((rcode, tsig.error, tsig.verified), (NOTAUTH, BADSIG, None));
    // One bit of the message changed on its way.
    let mut changed = key.sign(&packet);
    changed.octets[packet.len() / 2] ^= 1;
    let answer = client.ask(&changed.octets);
    assert!([1, NOTAUTH].contains(&answer.rcode()), "{answer:?}");
    assert!(client.targets(MEMCACHED).is_empty());
    // Time comes after the signature: a wrong one is never told the server's time.
    let (_, tsig) = ask(&client, &key, &wrong.sign_at(&packet, unix_time() - 3600));
    assert_eq!((tsig.error, tsig.other.len()), (BADSIG, 0));
}

/// RFC 8945 §5.2.3.
#[test]
fn a_wrong_time_is_badtime_in_a_signed_answer_with_the_servers_time() {
    let (server, key) = keyed();
    let client = server.client();
    let now = unix_time();
    for time in [now - 3600, now + 3600, 0] {
        let signed = key.sign_at(&Update::member(MEMCACHED, "i-1", "192.0.2.1").encode(), time);
        let (rcode, tsig) = ask(&client, &key, &signed);
        assert_eq!((rcode, tsig.error, tsig.verified), (NOTAUTH, BADTIME, Some(true)));
        assert_eq!(tsig.time, time, "the client's time comes back");
        assert_eq!(tsig.other.len(), 6);
        let servers = tsig.other.iter().fold(0, |time, &octet| time << 8 | u64::from(octet));
        assert!((now..now + 60).contains(&servers), "{servers}");
    }
    assert!(client.targets(MEMCACHED).is_empty());
    let (rcode, _) =
        ask(&client, &key, &key.sign_at(&Update::member(MEMCACHED, "i-1", "192.0.2.1").encode(), now - 200));
    assert_eq!(rcode, 0, "within the fudge");
}

#[test]
fn a_replay_of_an_older_update_is_badtime() {
    let (server, key) = keyed();
    let client = server.client();
    let now = unix_time();
    let registration = |time| key.sign_at(&Update::member(MEMCACHED, "i-1", "192.0.2.1").encode(), time);
    let old = registration(now - 20);
    assert_eq!(ask(&client, &key, &old).0, 0);
    let withdrawal = key.sign_at(&Update::new().delete_rrset(MEMCACHED, SRV).encode(), now - 10);
    assert_eq!(ask(&client, &key, &withdrawal).0, 0);
    let serial = client.serial();
    // From another socket, later on, and over TCP: what was withdrawn stays so.
    let attacker = server.client();
    let older = registration(now - 19);
    for answer in [attacker.ask(&older.octets), attacker.ask_tcp(&older.octets)] {
        let tsig = key.read_answer(&answer.octets, &older.mac).unwrap();
        assert_eq!((answer.rcode(), tsig.error, tsig.verified), (NOTAUTH, BADTIME, Some(true)));
    }
    assert!(client.targets(MEMCACHED).is_empty());
    assert_eq!(client.serial(), serial);
    assert_eq!(ask(&client, &key, &registration(now)).0, 0, "a later one is welcome");
    let heavier = key.sign_at(&Update::member(MEMCACHED, "i-1", "192.0.2.9").encode(), now);
    assert_eq!(ask(&client, &key, &heavier).0, 0, "another one of the same second, too");
    let (rcode, tsig) = ask(&client, &key, &withdrawal);
    assert!(rcode == 0 || tsig.error == BADTIME, "a repeated withdrawal is a retransmission or a replay");
    assert_eq!(client.targets(MEMCACHED).len(), 1, "and changes nothing");
}

#[test]
fn replays_are_told_after_a_restart() {
    let (mut server, key) = keyed();
    let now = unix_time();
    let old = key.sign_at(&Update::member(MEMCACHED, "i-1", "192.0.2.1").encode(), now - 20);
    let withdrawal = key.sign_at(&Update::new().delete_rrset(MEMCACHED, SRV).encode(), now - 10);
    for signed in [&old, &withdrawal] {
        assert_eq!(ask(&server.client(), &key, signed).0, 0);
    }
    server.kill_9();
    server.restart();
    let (rcode, tsig) = ask(&server.client(), &key, &old);
    assert_eq!((rcode, tsig.error), (NOTAUTH, BADTIME));
    assert!(server.client().targets(MEMCACHED).is_empty());
}

#[test]
fn a_repeated_signed_update_is_signed_anew_and_applied_once() {
    let (server, key) = keyed();
    let client = server.client();
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").require(MEMCACHED, SRV, CLASS_NONE, &[]).lease(60);
    let signed = key.sign(&update.encode());
    let serial = client.serial();
    for _ in 0..3 {
        let (rcode, tsig) = ask(&client, &key, &signed);
        assert_eq!((rcode, tsig.error, tsig.verified), (0, 0, Some(true)));
    }
    assert_eq!(client.serial(), serial + 1);
}

#[test]
fn refusals_of_signed_updates_are_signed() {
    let (server, key) = keyed();
    let client = server.client();
    let signed = key.sign(&Update::new().add("x.svc.example.test.", TXT, 5, &txt(&["x"])).encode());
    let (rcode, tsig) = ask(&client, &key, &signed);
    assert_eq!((rcode, tsig.error, tsig.verified), (5, 0, Some(true)));
    let signed = key.sign(&Update::of_zone("example.net.").encode());
    let (rcode, tsig) = ask(&client, &key, &signed);
    assert_eq!((rcode, tsig.error, tsig.verified), (NOTAUTH, 0, Some(true)), "NOTAUTH of an update, not of TSIG");
}

#[test]
fn nsupdate_accepts_signed_answers_and_names_what_went_wrong() {
    let (server, _) = keyed();
    let file = server.key_file("agents");
    // The same key under a name that the server doesn't know.
    let text = std::fs::read_to_string(&file).unwrap().replace("key \"agents.\"", "key \"strangers.\"");
    let stranger = server.folder().join("strangers.key");
    std::fs::write(&stranger, text).unwrap();
    let mut other = Command::new(env!("CARGO_BIN_EXE_livezone"));
    let fresh = other.args(["keygen", "agents."]).output().unwrap().stdout;
    let wrong = server.folder().join("wrong.key");
    std::fs::write(&wrong, fresh).unwrap();
    let script = "update add _memcached._tcp.svc.example.test. 5 SRV 0 256 11211 i-1.memcached.svc.example.test.";
    for (key, error) in [(&stranger, "BADKEY"), (&wrong, "BADSIG")] {
        let updated = crate::support::programs::nsupdate(server.address, &["-k", key.to_str().unwrap()], script);
        assert!(!updated.success && updated.text.contains(error), "{error}: {}", updated.text);
    }
    assert!(server.client().targets(MEMCACHED).is_empty());
}
