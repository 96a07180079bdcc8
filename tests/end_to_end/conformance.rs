//! Authoritative DNS beyond the records of members: aliases, wildcards, delegations, other classes, EDNS.

use crate::support::ZONE;
use crate::support::message::*;
use crate::support::programs::{dig, kdig};
use crate::support::server::{Setup, TestServer};

const CH: u16 = 3;

fn served() -> TestServer {
    TestServer::with(&Setup {
        server: "[dns]\nnsid = \"one\"\nversion = \"two\"\n".to_owned(),
        statics: "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\nwww IN CNAME web\nweb IN CNAME host\nhost IN A 192.0.2.1\n\
                  dangling IN CNAME nowhere\naway IN CNAME www.example.net.\nloop IN CNAME back\nback IN CNAME loop\n\
                  *.wild IN TXT \"w\"\nreal.wild IN A 192.0.2.2\nbelow.ent.wild IN A 192.0.2.3\n\
                  sub IN NS ns.sub\nsub IN NS ns.example.net.\nns.sub IN A 192.0.2.53\n\
                  old IN DNAME new\na.new IN A 192.0.2.4\nolder IN DNAME a.name.that.is.much.longer\n"
            .to_owned(),
        ..Setup::default()
    })
}

#[test]
fn aliases_are_followed_and_the_last_name_decides_the_rcode() {
    let server = served();
    for look_up in [dig, kdig] {
        let at = |name: &str| look_up(server.address, &["+norec", &format!("{name}.{ZONE}"), "A"]);
        let chain = at("www");
        assert_eq!((chain.status.as_str(), chain.has_flag("aa")), ("NOERROR", true));
        assert_eq!(
            chain.answers,
            [
                "www.svc.example.test. 3600 IN CNAME web.svc.example.test.",
                "web.svc.example.test. 3600 IN CNAME host.svc.example.test.",
                "host.svc.example.test. 3600 IN A 192.0.2.1",
            ]
        );
        let dangling = at("dangling");
        assert_eq!((dangling.status.as_str(), dangling.answers.len(), dangling.authority.len()), ("NXDOMAIN", 1, 1));
        let away = at("away");
        assert_eq!((away.status.as_str(), away.answers.len(), away.authority.len()), ("NOERROR", 1, 0));
        assert_eq!(at("loop").answers.len(), 2, "each alias of a loop once");
        let redirected = at("a.old");
        assert_eq!(
            redirected.answers,
            [
                "old.svc.example.test. 3600 IN DNAME new.svc.example.test.",
                "a.old.svc.example.test. 3600 IN CNAME a.new.svc.example.test.",
                "a.new.svc.example.test. 3600 IN A 192.0.2.4",
            ]
        );
        let label = "x".repeat(60);
        let long = format!("{label}.{label}.{label}.{}.older", &label[..40]);
        let too_long = at(&long);
        assert_eq!((too_long.status.as_str(), too_long.answers.len()), ("YXDOMAIN", 1), "RFC 6672 §2.2");
    }
}

#[test]
fn a_wildcard_stands_for_what_does_not_exist_below_its_closest_encloser() {
    let server = served();
    for look_up in [dig, kdig] {
        let at = |name: &str, rtype: &str| look_up(server.address, &[&format!("{name}.wild.{ZONE}"), rtype]);
        assert_eq!(at("any.thing", "TXT").answers, ["any.thing.wild.svc.example.test. 3600 IN TXT \"w\""]);
        assert_eq!(at("any", "A").status, "NOERROR");
        assert_eq!(at("real", "TXT").answers.len(), 0, "the name exists");
        assert_eq!(at("x.real", "TXT").status, "NXDOMAIN", "the closest encloser has no wildcard");
        assert_eq!(at("ent", "TXT").status, "NOERROR");
        assert_eq!(at("ent", "TXT").answers.len(), 0, "an empty non-terminal exists");
    }
}

#[test]
fn below_a_delegation_there_are_referrals_with_glue() {
    let server = served();
    for look_up in [dig, kdig] {
        let at = |name: &str, rtype: &str| look_up(server.address, &["+norec", &format!("{name}.{ZONE}"), rtype]);
        for referral in [at("host.sub", "A"), at("sub", "NS"), at("ns.sub", "A"), at("sub", "ANY")] {
            assert_eq!((referral.status.as_str(), referral.has_flag("aa")), ("NOERROR", false));
            assert_eq!((referral.answers.len(), referral.authority.len()), (0, 2));
            assert_eq!(referral.additional, ["ns.sub.svc.example.test. 3600 IN A 192.0.2.53"]);
        }
        let ds = at("sub", "DS");
        assert_eq!((ds.has_flag("aa"), ds.answers.len(), ds.authority.len()), (true, 0, 1), "the parent's affair");
    }
}

#[test]
fn class_ch_tells_who_answers_and_other_classes_are_refused() {
    let server = served();
    let version = dig(server.address, &["CH", "TXT", "version.bind"]);
    assert_eq!(version.answers, ["version.bind. 0 CH TXT \"two\""]);
    assert_eq!(dig(server.address, &["CH", "TXT", "id.server"]).answers, ["id.server. 0 CH TXT \"one\""]);
    let client = server.client();
    for (name, rtype, class) in
        [("authors.bind.", TXT, CH), ("version.bind.", A, CH), (ZONE, SOA, CH), (ZONE, SOA, 4), (ZONE, SOA, 255)]
    {
        let mut packet = [header(next_id(), 0, [1, 0, 0, 1]), question(name, rtype, class)].concat();
        packet.extend(opt(1232, 0, &[]));
        let answer = client.ask(&packet);
        assert_eq!(answer.rcode(), 5, "{name} {rtype} {class}");
        assert!(answer.error_text().contains("class IN"), "{}", answer.error_text());
    }
}

#[test]
fn nsid_is_told_to_who_asks_and_unknown_options_are_not_echoed() {
    let server = served();
    let ask = |options: &[u8], flags: u16| {
        let mut packet = [header(next_id(), 0, [1, 0, 0, 1]), question(ZONE, SOA, 1)].concat();
        let mut record = opt(1232, 0, options);
        record[7..9].copy_from_slice(&flags.to_be_bytes());
        packet.extend(record);
        server.client().ask(&packet)
    };
    let plain = ask(&[option(65_001, b"what"), option(8, &[0, 1, 24, 0, 192, 0, 2])].concat(), 0x7fff);
    assert!(plain.octets.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]), "neither options nor flags: {plain:?}");
    let named = ask(&option(3, &[]), 0x8000);
    assert!(named.octets.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 7, 0, 3, 0, 3, b'o', b'n', b'e']));
}

#[test]
fn unknown_opcodes_and_versions_say_what_is_known() {
    let server = served();
    let client = server.client();
    for opcode in [1u16, 2, 3, 6, 15] {
        let mut packet = [header(next_id(), opcode << 11, [1, 0, 0, 1]), question(ZONE, SOA, 1)].concat();
        packet.extend(opt(1232, 0, &[]));
        let answer = client.ask(&packet);
        assert_eq!((answer.rcode(), answer.octets[2] >> 3 & 0xf), (4, opcode.try_into().unwrap()));
        assert!(answer.error_text().contains("queries, updates and NOTIFY only"), "{}", answer.error_text());
        // Without a question, as DSO has it: a header alone.
        let answer = client.ask(&header(next_id(), opcode << 11, [0; 4]));
        assert_eq!((answer.rcode(), answer.octets.len()), (4, 12));
    }
    let mut packet = [header(next_id(), 0, [1, 0, 0, 1]), question(ZONE, SOA, 1)].concat();
    packet.extend(opt(1232, 1, &[]));
    let answer = client.ask(&packet);
    assert_eq!(answer.rcode(), 16);
    assert!(answer.error_text().contains("version 0"));
}
