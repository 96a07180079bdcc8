//! What the programs that read such zones need, octet by octet: each rule with who depends on it. The programs themselves
//! are in `programs`.

mod programs;

use std::collections::BTreeSet;

use hickory_proto::rr::RData;

use crate::support::client::Answer;
use crate::support::message::*;
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, ZONE};

const HOST: &str = "memcached.svc.example.test.";
const OPT: u16 = 41;

/// A record as it stands in a message: names in the case in which they stand there.
#[derive(Debug)]
struct Raw {
    owner: String,
    rtype: u16,
    ttl: u32,
    rdata: Vec<u8>,
}

fn word(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

/// A name, and where the message goes on behind it.
fn expand(octets: &[u8], mut at: usize) -> (String, usize) {
    let (mut text, mut behind) = (String::new(), None);
    loop {
        match octets[at] {
            0 => return (text, behind.unwrap_or(at + 1)),
            0xc0.. => {
                behind = behind.or(Some(at + 2));
                at = usize::from(word(octets, at) & 0x3fff);
            }
            length => {
                let end = at + 1 + usize::from(length);
                text += std::str::from_utf8(&octets[at + 1..end]).unwrap();
                text.push('.');
                at = end;
            }
        }
    }
}

/// The records of the three sections behind the question.
fn sections(octets: &[u8]) -> [Vec<Raw>; 3] {
    let (_, question) = expand(octets, 12);
    let mut at = question + 4;
    [6, 8, 10].map(|count| {
        let records = (0..word(octets, count)).map(|_| {
            let (owner, fixed) = expand(octets, at);
            let rdata = fixed + 10;
            at = rdata + usize::from(word(octets, fixed + 8));
            Raw {
                owner,
                rtype: word(octets, fixed),
                ttl: u32::from(word(octets, fixed + 4)) << 16 | u32::from(word(octets, fixed + 6)),
                rdata: octets[rdata..at].to_vec(),
            }
        });
        records.collect()
    })
}

/// The target of an SRV record, which must stand in its data in full.
fn target(srv: &Raw) -> String {
    let (target, end) = expand(&srv.rdata, 6);
    assert_eq!(end, srv.rdata.len(), "{srv:?}");
    assert_eq!(srv.rdata.len(), 6 + target.len() + 1, "a compressed target: {srv:?}");
    target
}

fn member(id: &str, last: u8) -> Update {
    let host = host_of(MEMCACHED, id);
    // IPv6 first, so that the order is not that of the registration by chance.
    let update = Update::new().add(MEMCACHED, SRV, 5, &srv(11211, &host)).lease(3600);
    let update = update.add(&host, AAAA, 5, &address(&format!("2001:db8::{last}")).1);
    update.add(&host, A, 5, &address(&format!("192.0.2.{last}")).1)
}

/// HAProxy fills its servers in the order of the answer, once a second: another order each time would move all of them.
#[test]
fn members_keep_their_order_through_queries_renewals_and_restarts() {
    let mut server = TestServer::start();
    let client = server.client();
    for (last, id) in (1..).zip(["m", "a", "z", "k"]) {
        client.update(&member(id, last));
    }
    let all = client.targets(MEMCACHED);
    let addresses = client.ask(&query(HOST, A)).octets;
    for _ in 0..20 {
        assert_eq!(client.ask(&edns_query(MEMCACHED, SRV, 1232)).targets(), all);
        assert_eq!(client.ask(&query(HOST, A)).octets[2..], addresses[2..]);
    }
    client.update(&member("z", 3));
    client.update(&member("a", 2));
    assert_eq!(client.targets(MEMCACHED), all);
    client.update(&member("b", 5));
    let but = |id: &str| {
        let mut targets = server.client().targets(MEMCACHED);
        targets.retain(|target| *target != host_of(MEMCACHED, id));
        targets
    };
    assert_eq!(but("b"), all, "whoever comes finds a place between the others");
    client.update(&Update::new().delete_record(MEMCACHED, SRV, &srv(11211, &host_of(MEMCACHED, "b"))));
    assert_eq!(client.targets(MEMCACHED), all);
    client.update(&Update::new().delete_record(MEMCACHED, SRV, &srv(11211, &host_of(MEMCACHED, "k"))));
    client.update(&member("k", 4));
    assert_eq!(client.targets(MEMCACHED), all, "whoever comes back, too");
    server.kill_9();
    server.restart();
    assert_eq!(server.client().targets(MEMCACHED), all);
}

/// HAProxy takes for each SRV record the first additional record of its target's name, of either family, and takes members
/// with equal targets and ports for one.
#[test]
fn every_member_has_a_target_of_its_own_and_its_ipv4_address_comes_first() {
    let server = TestServer::start();
    let client = server.client();
    // Two of them on one machine.
    for (id, last) in [("i-1", 1), ("i-2", 1), ("i-3", 3)] {
        client.update(&member(id, last));
    }
    for answer in [client.ask(&edns_query(MEMCACHED, SRV, 1232)), client.ask_tcp(&query(MEMCACHED, SRV))] {
        let [answers, _, additional] = sections(&answer.octets);
        let targets: Vec<String> = answers.iter().map(target).collect();
        assert_eq!(targets.iter().collect::<BTreeSet<_>>().len(), 3, "{targets:?}");
        let types = |target: &String| -> Vec<u16> {
            additional.iter().filter(|record| record.owner == *target).map(|record| record.rtype).collect()
        };
        assert!(targets.iter().all(|target| types(target) == [A, AAAA]), "{additional:?}");
    }
}

/// HAProxy compares targets with the owners of additional records octet by octet; and resolvers such as unbound write
/// their questions in random case.
#[test]
fn additional_owners_are_their_targets_to_the_letter_whatever_the_case_of_the_question() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&member("i-1", 1));
    let upper = "I-2.MemCached.SVC.example.TEST.";
    client.update(&Update::new().add(MEMCACHED, SRV, 5, &srv(11211, upper)).add(upper, A, 5, &address("192.0.2.2").1));
    for asked in [MEMCACHED, "_MEMCACHED._TCP.SVC.EXAMPLE.TEST.", "_mEmCaChEd._TcP.sVc.eXaMpLe.TeSt."] {
        for answer in [client.ask(&edns_query(asked, SRV, 1232)), client.ask_tcp(&query(asked, SRV))] {
            let [answers, _, additional] = sections(&answer.octets);
            let targets: Vec<String> = answers.iter().map(target).collect();
            assert_eq!(targets, ["i-1", "i-2"].map(|id| host_of(MEMCACHED, id)));
            let owners: Vec<&str> =
                additional.iter().filter(|record| record.rtype != OPT).map(|record| record.owner.as_str()).collect();
            assert_eq!(owners, [&targets[0][..], &targets[0], &targets[1]]);
            // Go wants all records of an answer to have one owner, which is the question (golang/go#47110).
            assert!(answers.iter().all(|record| record.owner == asked), "{answers:?}");
        }
    }
}

/// Several versions of Go, and so of Caddy and others, refuse an SRV record whose target is compressed (RFC 2782).
#[test]
fn srv_targets_are_never_compressed() {
    let server = TestServer::start();
    let client = server.client();
    let names = ["i-1.memcached.svc.example.test.", MEMCACHED, ZONE, "cache.example.net.", "test."];
    for (port, name) in (1..).zip(names) {
        client.update(&Update::new().add(MEMCACHED, SRV, 5, &srv(port, name)));
    }
    let targets = |answer: &Answer| -> BTreeSet<String> { sections(&answer.octets)[0].iter().map(target).collect() };
    let expected: BTreeSet<String> = names.map(str::to_owned).into();
    for answer in [
        client.ask(&query(MEMCACHED, SRV)),
        client.ask(&edns_query(MEMCACHED, SRV, 4096)),
        client.ask_tcp(&query(MEMCACHED, SRV)),
    ] {
        assert_eq!(targets(&answer), expected);
    }
}

/// Prometheus offers 4096 octets and comes again by TCP without EDNS; Go offers 1232 and systemd-resolved and nginx offer
/// nothing, and all three repeat themselves over TCP.
#[test]
fn what_is_cut_over_udp_is_whole_over_tcp_with_edns_and_without() {
    let server = TestServer::start();
    let client = server.client();
    let crowd = (0..60).fold(Update::new().lease(3600), |update, number| {
        update.and_member(MEMCACHED, &format!("m-{number}"), &format!("10.0.0.{number}"))
    });
    assert_eq!(client.ask_tcp(&crowd.encode()).rcode(), 0);
    let plain = query(MEMCACHED, SRV);
    let offers = |size| edns_query(MEMCACHED, SRV, size);
    for (first, second) in [(offers(4096), plain.clone()), (offers(1232), offers(1232)), (plain.clone(), plain.clone())]
    {
        let with_edns = |answer: &Answer| answer.message.edns.is_some();
        let cut = client.ask(&first);
        assert_eq!((cut.rcode(), cut.message.metadata.truncation), (0, true));
        assert_eq!(with_edns(&cut), first[11] == 1);
        let whole = client.ask_tcp(&second);
        assert_eq!((whole.targets().len(), whole.message.metadata.truncation), (60, false));
        assert_eq!((with_edns(&whole), whole.message.additionals.len()), (second[11] == 1, 60));
    }
}

/// A name that is gone is cached by every resolver for as long as the SOA says; and Prometheus and others take an empty
/// answer for the truth.
#[test]
fn a_known_service_without_members_is_nodata_with_a_soa_whose_ttl_is_its_minimum() {
    let server =
        TestServer::with(&Setup { tables: "[[service]]\nname = \"_idle._tcp\"\n".to_owned(), ..Setup::default() });
    let client = server.client();
    client.update(&member("i-1", 1));
    client.update(&Update::new().delete_rrset(MEMCACHED, SRV));
    let (idle, idle_host) = ("_idle._tcp.svc.example.test.", "idle.svc.example.test.");
    for (name, rtype) in [(MEMCACHED, SRV), (HOST, A), (HOST, AAAA), (idle, SRV), (idle_host, A), (idle_host, AAAA)] {
        for answer in [client.ask(&query(name, rtype)), client.ask(&edns_query(name, rtype, 1232))] {
            assert_eq!((answer.rcode(), answer.message.answers.len()), (0, 0), "{name} {rtype}");
            assert!(answer.message.metadata.authoritative);
            let [soa] = &answer.message.authorities[..] else { panic!("{answer:?}") };
            let RData::SOA(data) = &soa.data else { panic!("{answer:?}") };
            assert_eq!((soa.name.to_ascii().as_str(), soa.ttl, data.minimum), (ZONE, 2, 2));
        }
    }
}

/// gRPC and Envoy resolve addresses only, and gRPC trips over a name that has SRV records and no addresses.
#[test]
fn the_address_set_has_whoever_srv_has_at_every_step() {
    let server = TestServer::start();
    let client = server.client();
    let count = |name, rtype| client.ask(&edns_query(name, rtype, 1232)).message.answers.len();
    for last in 1..=5 {
        client.update(&member(&format!("i-{last}"), last));
        let members = usize::from(last);
        assert_eq!([count(MEMCACHED, SRV), count(HOST, A), count(HOST, AAAA)], [members; 3]);
    }
    for last in (1..=5u8).rev() {
        let host = host_of(MEMCACHED, &format!("i-{last}"));
        client.update(&Update::new().delete_record(MEMCACHED, SRV, &srv(11211, &host)));
        let members = usize::from(last - 1);
        assert_eq!([count(MEMCACHED, SRV), count(HOST, A), count(HOST, AAAA)], [members; 3]);
    }
}

/// nginx and qorb ask again as soon as a TTL ends: at 0 they never stop. `ttl = "0s"` is refused with the configuration.
#[test]
fn nothing_that_members_make_has_a_ttl_of_0_or_above_the_zones() {
    let server = TestServer::with(&Setup {
        tables: "[[service]]\nname = \"_memcached._tcp\"\ndns-sd = true\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    // The TTL of an update is not a member's.
    for (ttl, id) in [(0, "i-1"), (u32::MAX, "i-2")] {
        let host = host_of(MEMCACHED, id);
        let update = Update::new().add(MEMCACHED, SRV, ttl, &srv(11211, &host)).lease(3600);
        client.update(&update.add(&host, A, ttl, &address("192.0.2.1").1));
    }
    let instance = format!("i-1.{MEMCACHED}");
    let host = host_of(MEMCACHED, "i-1");
    let services = "_services._dns-sd._udp.svc.example.test.";
    for (name, rtype) in [
        (MEMCACHED, SRV),
        (MEMCACHED, TXT),
        (MEMCACHED, 12),
        (HOST, A),
        (&host, A),
        (&instance, SRV),
        (&instance, TXT),
        (services, 12),
    ] {
        let [answers, _, additional] = sections(&client.ask(&query(name, rtype)).octets);
        assert!(!answers.is_empty(), "{name} {rtype}");
        assert!(answers.iter().chain(&additional).all(|record| record.ttl == 1), "{name} {rtype}: {answers:?}");
    }
}

/// AFS clients of today ask for SRV, older ones for AFSDB (RFC 5864), which a cell keeps in its static file.
#[test]
fn afsdb_brings_the_addresses_of_its_servers() {
    const AFSDB: u16 = 18;
    let server = TestServer::with(&Setup {
        statics: "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\n@ IN AFSDB 1 db1\n@ IN AFSDB 1 db2\n\
                  db1 IN A 192.0.2.1\ndb2 IN A 192.0.2.2\ndb2 IN AAAA 2001:db8::2\n"
            .to_owned(),
        ..Setup::default()
    });
    let [answers, _, additional] = sections(&server.client().ask(&query(ZONE, AFSDB)).octets);
    let servers: Vec<_> = answers.iter().map(|record| (word(&record.rdata, 0), expand(&record.rdata, 2).0)).collect();
    assert_eq!(servers, [(1, "db1.svc.example.test.".to_owned()), (1, "db2.svc.example.test.".to_owned())]);
    let owners: Vec<_> = additional.iter().map(|record| (record.owner.as_str(), record.rtype)).collect();
    assert_eq!(owners, [("db1.svc.example.test.", A), ("db2.svc.example.test.", A), ("db2.svc.example.test.", AAAA)]);
}
