//! Registration by DNS UPDATE, with the field's own programs and message by message.

use crate::support::message::*;
use crate::support::programs::{Updated, dig, knsupdate, nsupdate};
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};
use std::net::SocketAddr;

type Program = fn(SocketAddr, &[&str], &str) -> Updated;
const PROGRAMS: [Program; 2] = [nsupdate, knsupdate];

const NXDOMAIN: u16 = 3;
const FORMERR: u16 = 1;
const REFUSED: u16 = 5;
const YXDOMAIN: u16 = 6;
const YXRRSET: u16 = 7;
const NXRRSET: u16 = 8;
const NOTAUTH: u16 = 9;
const NOTZONE: u16 = 10;

const ADD: &str = "update add _memcached._tcp.svc.example.test. 5 SRV 0 256 11211 i-1.memcached.svc.example.test.\n\
                   update add i-1.memcached.svc.example.test. 5 A 192.0.2.1";
const SRV_1: &str = "_memcached._tcp.svc.example.test. 1 IN SRV 0 256 11211 i-1.memcached.svc.example.test.";

/// A zone that also takes leased records.
fn with_records() -> TestServer {
    TestServer::with(&Setup {
        tables: "[access]\nupdate = [{ network = \"127.0.0.0/8\", records = [\"_acme-challenge\", \"_acme-challenge.*\", \"*.hosts\"] }]\n"
            .to_owned(),
        ..Setup::default()
    })
}

#[test]
fn update_programs_register_renew_and_withdraw_a_member() {
    for program in PROGRAMS {
        let server = TestServer::start();
        let client = server.client();
        let before = client.serial();
        let run = |script: &str| {
            let updated = program(server.address, &[], script);
            assert!(updated.success, "{script}\n{}", updated.text);
        };
        run(ADD);
        assert_eq!(dig(server.address, &[MEMCACHED, "SRV"]).answers, [SRV_1]);
        assert_eq!(client.serial(), before + 1);
        run(ADD);
        assert_eq!(client.serial(), before + 1, "a renewal publishes nothing");
        run("update delete _memcached._tcp.svc.example.test. SRV 0 256 11211 i-1.memcached.svc.example.test.");
        assert!(client.targets(MEMCACHED).is_empty());
        assert_eq!(client.serial(), before + 2);
        run(ADD);
        run("update delete _memcached._tcp.svc.example.test. SRV");
        assert!(client.targets(MEMCACHED).is_empty());
        run(ADD);
        run("update delete _memcached._tcp.svc.example.test.");
        assert!(client.targets(MEMCACHED).is_empty());
        assert_eq!(client.serial(), before + 6);
    }
}

#[test]
fn a_refresh_changes_what_differs() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    let serial = client.serial();
    let host = host_of(MEMCACHED, "i-1");
    let heavier = [&7u16.to_be_bytes()[..], &9u16.to_be_bytes(), &11212u16.to_be_bytes(), &name(&host)].concat();
    client.update(&Update::new().add(MEMCACHED, SRV, 5, &heavier));
    let printed = dig(server.address, &[MEMCACHED, "SRV"]);
    assert_eq!(printed.answers, [format!("{MEMCACHED} 1 IN SRV 7 9 11212 {host}")], "the port is no part of the id");
    assert_eq!(client.serial(), serial + 1);
    let (rtype, second) = address("192.0.2.2");
    client.update(&Update::new().delete_rrset(&host, A).add(&host, rtype, 5, &second));
    assert_eq!(dig(server.address, &[&host, "A"]).answers, [format!("{host} 1 IN A 192.0.2.2")]);
    assert_eq!(client.serial(), serial + 2);
}

#[test]
fn a_member_deleted_and_added_in_one_message_has_only_renewed() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    let serial = client.serial();
    client.update(&Update::new().delete_rrset(MEMCACHED, SRV).and_member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!((client.serial(), client.targets(MEMCACHED).len()), (serial, 1));
}

#[test]
fn targets_elsewhere_make_members_too() {
    let server = TestServer::start();
    let client = server.client();
    for (target, port) in [("cache.example.net.", 11211), ("cache.example.net.", 11212), ("other.svc.example.test.", 1)]
    {
        client.update(&Update::new().add(MEMCACHED, SRV, 5, &srv(port, target)));
    }
    let mut targets = client.targets(MEMCACHED);
    targets.sort();
    assert_eq!(targets, ["cache.example.net.", "cache.example.net.", "other.svc.example.test."]);
}

#[test]
fn services_may_be_deeper_in_the_zone() {
    let server = TestServer::start();
    let east = "_memcached._tcp.east.svc.example.test.";
    server.client().update(&Update::member(east, "i-1", "192.0.2.1"));
    assert_eq!(
        dig(server.address, &[east, "SRV"]).answers,
        [format!("{east} 1 IN SRV 0 256 11211 i-1.memcached.east.svc.example.test.")]
    );
    assert_eq!(
        dig(server.address, &["memcached.east.svc.example.test", "A"]).answers,
        ["memcached.east.svc.example.test. 1 IN A 192.0.2.1"]
    );
}

#[test]
fn addresses_sent_before_the_srv_record_wait_for_it() {
    let server = TestServer::start();
    let client = server.client();
    let host = host_of(MEMCACHED, "i-1");
    let serial = client.serial();
    client.update(&Update::new().add(&host, A, 5, &address("192.0.2.1").1).lease(60));
    assert_eq!(client.serial(), serial, "held, not published");
    assert_eq!(dig(server.address, &[&host, "A"]).answers.len(), 0);
    client.update(&Update::new().add(MEMCACHED, SRV, 5, &srv(11211, &host)));
    assert_eq!(dig(server.address, &[&host, "A"]).answers, [format!("{host} 1 IN A 192.0.2.1")]);
    assert_eq!(client.serial(), serial + 1);
}

#[test]
fn update_programs_report_failed_prerequisites() {
    for program in PROGRAMS {
        let server = TestServer::start();
        let run = |script: &str| program(server.address, &[], script);
        let add_if = |condition: &str| format!("prereq {condition}\n{ADD}");
        let yxrrset = add_if("yxrrset _memcached._tcp.svc.example.test. SRV");
        let nxrrset = add_if("nxrrset _memcached._tcp.svc.example.test. SRV");
        let yxdomain = add_if("yxdomain i-1.memcached.svc.example.test.");
        let nxdomain = add_if("nxdomain i-1.memcached.svc.example.test.");
        for (script, error) in [(&yxrrset, "NXRRSET"), (&yxdomain, "NXDOMAIN")] {
            let updated = run(script);
            assert!(!updated.success && updated.text.contains(error), "{script}\n{}", updated.text);
        }
        assert!(server.client().targets(MEMCACHED).is_empty());
        assert!(run(&nxrrset).success);
        for (script, error) in [(&nxrrset, "YXRRSET"), (&nxdomain, "YXDOMAIN")] {
            let updated = run(script);
            assert!(!updated.success && updated.text.contains(error), "{script}\n{}", updated.text);
        }
        assert!(run(&yxrrset).success && run(&yxdomain).success);
        let equal = "yxrrset _memcached._tcp.svc.example.test. SRV 0 256 11211 i-1.memcached.svc.example.test.";
        let unequal = "yxrrset _memcached._tcp.svc.example.test. SRV 0 256 11211 i-2.memcached.svc.example.test.";
        assert!(run(&add_if(equal)).success);
        let updated = run(&add_if(unequal));
        assert!(!updated.success && updated.text.contains("NXRRSET"), "{}", updated.text);
    }
}

/// RFC 2136 §3.2.
#[test]
fn prerequisites_hold_for_whole_rrsets_at_their_very_name() {
    let server = TestServer::with(&Setup {
        statics: "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\nalias IN CNAME ns1\nbelow.nothing IN TXT x\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let members = Update::member(MEMCACHED, "i-1", "192.0.2.1").and_member(MEMCACHED, "i-2", "192.0.2.2");
    client.update(&members);
    let rdata = |id: &str| srv(11211, &host_of(MEMCACHED, id));
    let (one, two, three) = (rdata("i-1"), rdata("i-2"), rdata("i-3"));
    let equal = |values: &[&Vec<u8>]| {
        values.iter().fold(Update::new(), |update, value| update.require(MEMCACHED, SRV, IN, value))
    };
    let upper = srv(11211, &host_of(MEMCACHED, "i-1").to_uppercase());
    let on = |owner: &str, rtype, class| Update::new().require(owner, rtype, class, &[]);
    let cases = [
        (equal(&[&two, &one]), 0),
        (equal(&[&upper, &two]), 0),     // names in data compare without case
        (equal(&[&one, &one, &two]), 0), // as sets
        (equal(&[&one]), NXRRSET),
        (equal(&[&one, &two, &three]), NXRRSET),
        (equal(&[&three]), NXRRSET),
        (on(MEMCACHED, SRV, CLASS_ANY), 0),
        (on(MEMCACHED, AAAA, CLASS_ANY), NXRRSET),
        (on(MEMCACHED, AAAA, CLASS_NONE), 0),
        (on(MEMCACHED, SRV, CLASS_NONE), YXRRSET),
        (on(ZONE, SOA, CLASS_ANY), 0),
        (on(ZONE, ANY, CLASS_ANY), 0),
        (on("alias.svc.example.test.", CNAME, CLASS_ANY), 0),
        (on("alias.svc.example.test.", A, CLASS_ANY), NXRRSET), // no alias is followed
        (on("ALIAS.svc.example.test.", ANY, CLASS_NONE), YXDOMAIN),
        (on("nothing.svc.example.test.", ANY, CLASS_ANY), NXDOMAIN), // an empty non-terminal is not in use
        (on("nothing.svc.example.test.", ANY, CLASS_NONE), 0),
        (on("ns1.example.net.", ANY, CLASS_NONE), NOTZONE),
        (Update::new().require(MEMCACHED, SRV, CLASS_ANY, &one), FORMERR),
        (Update::new().require(MEMCACHED, SRV, 3, &[]), FORMERR),
        // The first that fails decides.
        (on(MEMCACHED, SRV, CLASS_NONE).require("x.svc.example.test.", ANY, CLASS_ANY, &[]), YXRRSET),
    ];
    for (update, rcode) in cases {
        let answer = client.ask(&update.encode());
        assert_eq!(answer.rcode(), rcode, "{update:?}");
    }
}

#[test]
fn the_zone_section_must_name_a_zone_of_ours() {
    let server = TestServer::start();
    let client = server.client();
    for zone in ["example.test.", "memcached.svc.example.test.", "example.net.", "."] {
        assert_eq!(client.ask(&Update::of_zone(zone).encode()).rcode(), NOTAUTH, "{zone}");
    }
    let host = host_of(MEMCACHED, "i-1");
    let upper = Update::of_zone("SVC.Example.TEST.").add(MEMCACHED, SRV, 5, &srv(1, &host));
    assert_eq!(client.ask(&upper.encode()).rcode(), 0);
    for program in PROGRAMS {
        let updated = program(server.address, &[], &format!("zone example.test.\n{ADD}"));
        assert!(!updated.success && updated.text.contains("NOTAUTH"), "{}", updated.text);
    }
    for name in ["host.example.net.", "example.test.", "xsvc.example.test."] {
        let update = Update::new().add(name, A, 5, &address("192.0.2.1").1);
        assert_eq!(client.ask(&update.encode()).rcode(), NOTZONE, "{name}");
        assert_eq!(client.ask(&Update::new().delete_name(name).encode()).rcode(), NOTZONE, "{name}");
    }
    // Sections of another type or number are malformed.
    let mut odd = Update::new().encode();
    let ztype = 12 + name(ZONE).len() + 1;
    odd[ztype] = u8::try_from(A).unwrap();
    assert_eq!(client.ask(&odd).rcode(), FORMERR);
}

#[test]
fn one_bad_record_refuses_the_whole_message() {
    let server = TestServer::start();
    let client = server.client();
    let serial = client.serial();
    let good = || Update::member(MEMCACHED, "i-1", "192.0.2.1");
    let target = host_of(MEMCACHED, "i-2");
    for (update, rcode) in [
        (good().add("x.example.net.", A, 5, &address("192.0.2.1").1), NOTZONE),
        (good().add("x.svc.example.test.", TXT, 5, &txt(&["no rule covers it"])), REFUSED),
        (good().add(&target, A, 5, &[1, 2, 3]), FORMERR),
        (good().add(MEMCACHED, ANY, 5, &[]), FORMERR),
        (good().add(MEMCACHED, SRV, 5, &srv(1, "s0001.memcached.svc.example.test.")), REFUSED),
        (good().delete_record("ns1.svc.example.test.", A, &address("127.0.0.1").1), REFUSED),
    ] {
        let answer = client.ask(&update.encode());
        assert_eq!(answer.rcode(), rcode, "{update:?}");
        assert!(client.targets(MEMCACHED).is_empty(), "{update:?}");
    }
    assert_eq!(client.serial(), serial);
}

#[test]
fn soa_and_ns_of_the_apex_stay() {
    let server = TestServer::with(&Setup {
        tables: "[access]\nupdate = [{ network = \"127.0.0.0/8\", records = [\"*\", \"@\"] }]\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let serial = client.serial();
    // RFC 2136 §3.4.2.3: deleting all of the apex spares them, without an error.
    for update in
        [Update::new().delete_name(ZONE), Update::new().delete_rrset(ZONE, NS), Update::new().delete_rrset(ZONE, SOA)]
    {
        client.update(&update);
    }
    let ns = Update::new().add(ZONE, NS, 5, &name("ns9.example.net."));
    assert_eq!(client.ask(&ns.encode()).rcode(), REFUSED);
    assert_eq!(client.serial(), serial);
    assert_eq!(dig(server.address, &[ZONE, "NS"]).answers.len(), 1);
    assert_eq!(dig(server.address, &[ZONE, "SOA"]).answers.len(), 1);
}

#[test]
fn refusals_name_the_rule_that_would_be_needed() {
    let server = TestServer::with(&Setup {
        tables: "[access]\nupdate = [{ network = \"127.0.0.0/8\", services = [\"_www._tcp\"], ids = [\"a-*\"] }]\n"
            .to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let www = "_www._tcp.svc.example.test.";
    client.update(&Update::member(www, "a-1", "192.0.2.1"));
    let text_of = |update: &Update| {
        let answer = client.ask(&update.encode());
        assert_eq!(answer.rcode(), REFUSED, "{answer:?}");
        answer.error_text()
    };
    let other_service = text_of(&Update::member(MEMCACHED, "a-1", "192.0.2.1"));
    assert!(other_service.contains("[access] update") && other_service.contains(MEMCACHED), "{other_service}");
    let other_id = text_of(&Update::member(www, "b-1", "192.0.2.1"));
    assert!(other_id.contains("ids covering b-1"), "{other_id}");
    let record = text_of(&Update::new().add("_acme-challenge.svc.example.test.", TXT, 5, &txt(&["x"])));
    assert!(record.contains("records cover _acme-challenge.svc.example.test."), "{record}");
    let without = client.ask(&Update::member(MEMCACHED, "a-1", "192.0.2.1").without_edns().encode());
    assert_eq!((without.rcode(), without.message.edns.is_none()), (REFUSED, true));
}

#[test]
fn an_acme_client_can_put_and_remove_its_challenge() {
    for program in PROGRAMS {
        let server = with_records();
        let challenge = "_acme-challenge.www.svc.example.test.";
        let add = |text: &str| format!("update add {challenge} 60 TXT \"{text}\"");
        for text in ["first", "second"] {
            let updated = program(server.address, &[], &add(text));
            assert!(updated.success, "{}", updated.text);
        }
        let printed = dig(server.address, &[challenge, "TXT"]);
        assert_eq!(printed.answers.len(), 2);
        assert!(
            printed.answers[0].starts_with(&format!("{challenge} 1 IN TXT ")),
            "the zone's ttl caps it: {printed:?}"
        );
        assert!(program(server.address, &[], &format!("update delete {challenge} TXT \"first\"")).success);
        assert_eq!(dig(server.address, &[challenge, "TXT"]).answers, [format!("{challenge} 1 IN TXT \"second\"")]);
        assert!(program(server.address, &[], &format!("update delete {challenge}")).success);
        assert_eq!(dig(server.address, &[challenge, "TXT"]).status, "NXDOMAIN");
        let updated = program(server.address, &[], "update add www.svc.example.test. 60 TXT \"elsewhere\"");
        assert!(!updated.success && updated.text.contains("REFUSED"), "{}", updated.text);
    }
}

#[test]
fn a_leased_record_ends_with_its_lease() {
    let server = with_records();
    let client = server.client();
    let host = "a.hosts.svc.example.test.";
    let serial = client.serial();
    client.update(&Update::new().add(host, A, 60, &address("192.0.2.1").1).lease(2));
    assert_eq!(dig(server.address, &[host, "A"]).answers, [format!("{host} 1 IN A 192.0.2.1")]);
    wait_until(PATIENCE, "the end of the lease", || (client.serial() == serial + 2).then_some(()));
    assert_eq!(dig(server.address, &[host, "A"]).status, "NXDOMAIN");
}

/// RFC 2136 §3.4.2.2.
#[test]
fn an_alias_and_other_records_exclude_each_other_silently() {
    let server = with_records();
    let client = server.client();
    let (alias, host) = ("alias.hosts.svc.example.test.", "a.hosts.svc.example.test.");
    client.update(&Update::new().add(alias, CNAME, 1, &name("one.example.net.")));
    client.update(&Update::new().add(alias, TXT, 1, &txt(&["ignored"])));
    client.update(&Update::new().add(alias, A, 1, &address("192.0.2.1").1));
    let at = |name: &str| dig(server.address, &["+tcp", name, "TXT"]).answers;
    assert_eq!(at(alias), [format!("{alias} 1 IN CNAME one.example.net.")]);
    client.update(&Update::new().add(alias, CNAME, 1, &name("two.example.net.")));
    assert_eq!(at(alias), [format!("{alias} 1 IN CNAME two.example.net.")], "an alias takes the place of the former");
    client.update(&Update::new().add(host, TXT, 1, &txt(&["kept"])));
    client.update(&Update::new().add(host, CNAME, 1, &name("ignored.example.net.")));
    assert_eq!(at(host), [format!("{host} 1 IN TXT \"kept\"")]);
}

#[test]
fn metadata_stands_at_the_instance_name() {
    let server = TestServer::with(&Setup {
        tables: "[[service]]\nname = \"_memcached._tcp\"\ndns-sd = true\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let instance = format!("i-1.{MEMCACHED}");
    let metadata = Update::new().add(&instance, TXT, 5, &txt(&["az=a", "rack=7"]));
    assert_eq!(client.ask(&metadata.encode()).rcode(), REFUSED, "there is no member");
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    client.update(&metadata);
    let text = || dig(server.address, &[&instance, "TXT"]).answers;
    assert_eq!(text(), [format!("{instance} 1 IN TXT \"az=a\" \"rack=7\"")]);
    let serial = client.serial();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!((text().len(), client.serial()), (1, serial), "a heartbeat leaves it alone");
    client.update(&Update::new().delete_rrset(&instance, TXT));
    // RFC 6763 §6.1: an instance has a TXT record, if an empty one.
    assert_eq!(text(), [format!("{instance} 1 IN TXT \"\"")]);
}

#[test]
fn a_member_that_deletes_its_srv_and_renews_its_address_drains() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").and_member(MEMCACHED, "i-2", "192.0.2.2"));
    let serial = client.serial();
    let host = host_of(MEMCACHED, "i-1");
    let drain =
        Update::new().delete_record(MEMCACHED, SRV, &srv(11211, &host)).add(&host, A, 5, &address("192.0.2.1").1);
    client.update(&drain);
    assert_eq!(client.targets(MEMCACHED), [host_of(MEMCACHED, "i-2")]);
    assert_eq!(client.serial(), serial + 1);
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!(client.targets(MEMCACHED).len(), 2, "it is back by registering");
}

#[test]
fn granted_leases_are_echoed_in_the_form_of_the_request() {
    let server = TestServer::with(&Setup {
        lease: "default = \"15s\"\nmin = \"10s\"\nmax = \"1m\"\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let ask = |data: &[u8]| {
        let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").lease_option(data);
        client.ask(&update.encode())
    };
    let octets = |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|number| number.to_be_bytes()).collect() };
    for (asked, granted) in [(30, 30), (1, 10), (10, 10), (61, 60), (u32::MAX, 60)] {
        assert_eq!(ask(&octets(&[asked])).lease(), Some(octets(&[granted])), "{asked}");
        assert_eq!(ask(&octets(&[asked, 7200])).lease(), Some(octets(&[granted, 60])), "{asked}, 7200");
    }
    let without = client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!((without.lease(), without.message.edns.is_some()), (None, true));
    for malformed in [&[][..], &[0; 3], &[0; 5], &[0; 12]] {
        assert_eq!(ask(malformed).rcode(), FORMERR);
    }
}

#[test]
fn a_lease_of_zero_withdraws() {
    let server = with_records();
    let client = server.client();
    let challenge = "_acme-challenge.svc.example.test.";
    let member = Update::member(MEMCACHED, "i-1", "192.0.2.1").add(challenge, TXT, 1, &txt(&["x"]));
    client.update(&member.clone().lease(60));
    assert_eq!(client.targets(MEMCACHED).len(), 1);
    let answer = client.update(&member.lease(0));
    assert_eq!(answer.lease(), Some(vec![0; 4]));
    assert!(client.targets(MEMCACHED).is_empty());
    assert_eq!(dig(server.address, &[challenge, "TXT"]).status, "NXDOMAIN");
}

#[test]
fn a_retransmission_gets_the_same_answer_and_is_applied_once() {
    let server = TestServer::start();
    let client = server.client();
    let serial = client.serial();
    let packet =
        Update::member(MEMCACHED, "i-1", "192.0.2.1").require(MEMCACHED, SRV, CLASS_NONE, &[]).lease(60).encode();
    let first = client.ask(&packet);
    assert_eq!(first.rcode(), 0);
    for _ in 0..3 {
        assert_eq!(client.ask(&packet).octets, first.octets, "though its prerequisite would fail now");
    }
    assert_eq!(client.serial(), serial + 1);
    // The same octets from somebody else are another message.
    assert_eq!(server.client().ask(&packet).rcode(), YXRRSET);
    // A withdrawal that is repeated doesn't hit the member that came back in between.
    let withdrawal = Update::new().delete_rrset(MEMCACHED, SRV).encode();
    assert_eq!(client.ask(&withdrawal).rcode(), 0);
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!(client.ask(&withdrawal).rcode(), 0);
    assert_eq!(client.targets(MEMCACHED).len(), 1);
    assert_eq!(client.serial(), serial + 3);
}

#[test]
fn retransmissions_join_an_update_that_waits() {
    let server = TestServer::with(&Setup { top: "settle = \"300ms\"".to_owned(), ..Setup::default() });
    let client = server.client();
    let serial = client.serial();
    let packet = Update::member(MEMCACHED, "i-1", "192.0.2.1").encode();
    let sent = std::time::Instant::now();
    for _ in 0..3 {
        client.send(&packet);
    }
    let answers: Vec<_> = (0..3).map(|_| client.receive(PATIENCE).expect("an answer each")).collect();
    assert!(sent.elapsed() >= std::time::Duration::from_millis(300), "acknowledged before its commit");
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer[3] & 0xf == 0), "{answers:02x?}");
    assert_eq!(client.serial(), serial + 1);
}

#[test]
fn changes_that_wait_together_are_one_commit() {
    let server = TestServer::with(&Setup { top: "settle = \"500ms\"".to_owned(), ..Setup::default() });
    let client = server.client();
    let serial = client.serial();
    for number in 1..=20 {
        client.send(&Update::member(MEMCACHED, &format!("i-{number}"), "192.0.2.1").encode());
    }
    for _ in 0..20 {
        assert_eq!(client.receive(PATIENCE).expect("an answer each")[3] & 0xf, 0);
    }
    assert_eq!(client.targets(MEMCACHED).len(), 20);
    let commits = client.serial().wrapping_sub(serial);
    assert!((1..=3).contains(&commits), "{commits} commits");
}

#[test]
fn registrations_come_over_tcp_too() {
    let server = TestServer::start();
    let updated = nsupdate(server.address, &["-v"], ADD);
    assert!(updated.success, "{}", updated.text);
    assert_eq!(server.client().targets(MEMCACHED).len(), 1);
}

#[test]
fn static_records_are_out_of_reach() {
    let server = with_records();
    let client = server.client();
    let serial = client.serial();
    for update in [
        Update::new().add("ns1.svc.example.test.", A, 5, &address("192.0.2.66").1),
        Update::new().delete_record("ns1.svc.example.test.", A, &address("127.0.0.1").1),
    ] {
        assert_eq!(client.ask(&update.encode()).rcode(), REFUSED);
    }
    assert_eq!(client.serial(), serial);
    assert_eq!(dig(server.address, &["ns1.svc.example.test", "A"]).answers.len(), 1);
}
