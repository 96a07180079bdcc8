//! Services of hundreds of members, and what happens where 64 KiB end.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::rr::{RData, RecordType};
use sha2::Digest as _;

use crate::support::client::{Answer, Client};
use crate::support::message::*;
use crate::support::programs::dig;
use crate::support::server::TestServer;
use crate::support::{MEMCACHED, ZONE};

const HOST: &str = "memcached.svc.example.test.";
const REFUSED: u16 = 5;

/// The addresses of a member: one of IPv4, and of every third one of IPv6.
fn addresses(number: usize) -> Vec<String> {
    let ipv6 = number.is_multiple_of(3).then(|| format!("2001:db8::{:x}", number + 1));
    [format!("10.0.{}.{}", number / 250, number % 250)].into_iter().chain(ipv6).collect()
}

/// Registers members of a service, so many in a message.
fn register(client: &Client, members: std::ops::Range<usize>, each: usize) {
    let members: Vec<usize> = members.collect();
    for chunk in members.chunks(each) {
        let update = chunk.iter().fold(Update::new().lease(3600), |update, &number| {
            let host = host_of(MEMCACHED, &format!("m-{number}"));
            addresses(number).iter().fold(update.add(MEMCACHED, SRV, 5, &srv(11211, &host)), |update, text| {
                let (rtype, rdata) = address(text);
                update.add(&host, rtype, 5, &rdata)
            })
        });
        assert_eq!(client.ask_tcp(&update.encode()).rcode(), 0);
    }
}

/// Addresses by owner, as they stand in an answer and its additional section.
fn addresses_in(answer: &Answer) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in answer.message.answers.iter().chain(&answer.message.additionals) {
        if let Some(address) = record.data.ip_addr() {
            found.entry(record.name.to_ascii()).or_default().insert(address.to_string());
        }
    }
    found
}

fn count(answer: &Answer, rtype: RecordType) -> usize {
    answer.message.answers.iter().filter(|record| record.record_type() == rtype).count()
}

/// The strings of a service's TXT record.
fn texts(client: &Client, service: &str) -> Vec<String> {
    let answer = client.ask_tcp(&query(service, TXT));
    let RData::TXT(txt) = &answer.message.answers[0].data else { panic!("{answer:?}") };
    txt.txt_data.iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

#[test]
fn five_hundred_members_are_answered_whole_or_not_at_all() {
    const MEMBERS: usize = 500;
    let server = TestServer::start();
    let client = server.client();
    register(&client, 0..MEMBERS, 100);
    for (name, rtype) in [(MEMCACHED, SRV), (HOST, A), (HOST, AAAA)] {
        let without_edns = query(name, rtype);
        let sizes = [512, 1232, 4096, u16::MAX];
        let with_edns = sizes.map(|size| (edns_query(name, rtype, size), size.min(1232)));
        for (packet, limit) in [(without_edns, 512)].into_iter().chain(with_edns) {
            let answer = client.ask(&packet);
            assert!(answer.octets.len() <= limit.into(), "{} octets", answer.octets.len());
            assert!(answer.message.metadata.truncation && answer.rcode() == 0, "{name} {rtype}");
            assert_eq!((answer.message.answers.len(), answer.message.additionals.len()), (0, 0));
        }
    }
    let srv = client.ask_tcp(&query(MEMCACHED, SRV));
    assert!(!srv.message.metadata.truncation);
    let expected: BTreeSet<String> = (0..MEMBERS).map(|number| host_of(MEMCACHED, &format!("m-{number}"))).collect();
    assert_eq!(srv.targets().into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(srv.targets().len(), MEMBERS);
    let hosts = (0..MEMBERS).map(|number| {
        (host_of(MEMCACHED, &format!("m-{number}")), addresses(number).into_iter().collect::<BTreeSet<_>>())
    });
    assert_eq!(addresses_in(&srv), hosts.collect(), "with all addresses");
    let six = (0..MEMBERS).filter(|number| number.is_multiple_of(3)).count();
    assert_eq!(count(&client.ask_tcp(&query(HOST, A)), RecordType::A), MEMBERS);
    assert_eq!(count(&client.ask_tcp(&query(HOST, AAAA)), RecordType::AAAA), six);
    // Who sees TC comes by TCP: the field's own program does.
    assert_eq!(dig(server.address, &[MEMCACHED, "SRV"]).answers.len(), MEMBERS);
    println!("measured: {MEMBERS} members are {} octets of SRV with addresses", srv.octets.len());

    // The definition of the digest, followed here by hand.
    let mut lines: Vec<String> = (0..MEMBERS)
        .map(|number| format!("0 256 11211 m-{number}.memcached.{ZONE} {}\n", addresses(number).join(",")))
        .collect();
    lines.sort();
    let hash = sha2::Sha256::digest(lines.concat().as_bytes());
    let digest: String = hash[..8].iter().map(|octet| format!("{octet:02x}")).collect();
    let strings = texts(&client, MEMCACHED);
    assert_eq!(strings[1..], ["members=500".to_owned(), format!("digest={digest}")]);
}

#[test]
fn one_member_too_many_for_64_kib_is_refused_and_all_others_are_answered_whole() {
    let server = TestServer::start();
    let client = server.client();
    let one = |number: usize| {
        let id = format!("m-{number:04}");
        Update::member(MEMCACHED, &id, &format!("10.1.{}.{}", number / 250, number % 250)).lease(3600)
    };
    register(&client, 0..1000, 100);
    let mut members = 1000;
    let refused = loop {
        let answer = client.ask(&one(members).encode());
        if answer.rcode() != 0 {
            break answer;
        }
        members += 1;
        assert!(members < 2000, "so many can't fit");
    };
    assert_eq!(refused.rcode(), REFUSED);
    assert!(refused.error_text().contains("would not fit 64 KiB"), "{}", refused.error_text());
    let whole = |members: usize| {
        for (name, rtype, kind) in [(MEMCACHED, SRV, RecordType::SRV), (HOST, A, RecordType::A)] {
            let answer = client.ask_tcp(&query(name, rtype));
            assert_eq!((count(&answer, kind), answer.message.metadata.truncation), (members, false), "{name}");
        }
        assert_eq!(texts(&client, MEMCACHED)[1], format!("members={members}"));
    };
    whole(members);
    let answer = client.ask_tcp(&query(MEMCACHED, SRV));
    println!("measured: {members} members fit, {} octets of SRV with as many addresses as fit", answer.octets.len());
    // Renewals go on, and move nothing.
    let serial = client.serial();
    client.update(&one(members - 1));
    // A message that brings one too many brings none, wherever that one stands in it.
    let several =
        Update::member("_www._tcp.svc.example.test.", "w-1", "192.0.2.1").and_member(MEMCACHED, "x", "192.0.2.2");
    assert_eq!(client.ask(&several.encode()).rcode(), REFUSED);
    assert_eq!(client.serial(), serial);
    // Other services have room, and so has this one once somebody leaves.
    client.update(&Update::member("_www._tcp.svc.example.test.", "w-1", "192.0.2.1"));
    client.update(&Update::new().delete_record(MEMCACHED, SRV, &srv(11211, &host_of(MEMCACHED, "m-1"))));
    whole(members - 1);
    client.update(&one(members));
    whole(members);
}

/// Members with as many addresses as they may have, in two services: here their address set is what grows too large.
#[test]
fn services_that_share_an_address_set_are_refused_what_would_not_fit_it() {
    let server = TestServer::start();
    let client = server.client();
    let member = |service: &str, third: u8, number: usize| {
        // Ids of their own: members with the same one are on the same host.
        let host = host_of(service, &format!("m-{third}-{number}"));
        (0..16).fold(Update::new().add(service, SRV, 5, &srv(11211, &host)).lease(3600), |update, last| {
            update.add(&host, A, 5, &address(&format!("10.{third}.{number}.{last}")).1)
        })
    };
    let (mut refused, mut members) = (0, 0);
    for number in 0..150 {
        for (third, service) in [(1, MEMCACHED), (2, "_memcached._udp.svc.example.test.")] {
            let answer = client.ask(&member(service, third, number).encode());
            if answer.rcode() == 0 {
                members += 1;
            } else {
                assert_eq!(answer.rcode(), REFUSED);
                assert!(answer.error_text().contains("would not fit 64 KiB"), "{}", answer.error_text());
                refused += 1;
            }
        }
    }
    let set = client.ask_tcp(&query(HOST, A));
    assert_eq!((count(&set, RecordType::A), set.message.metadata.truncation), (16 * members, false));
    assert!(refused > 0 && members > 180, "{members} members, {refused} refused");
}
