//! Queries and their answers.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;

use crate::support::client::{Client, read_framed, send_framed};
use crate::support::message::*;
use crate::support::programs::{dig, kdig};
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, PATIENCE, ZONE};

/// Two members with an address of each family, metadata, DNS-SD, and static records.
fn populated() -> TestServer {
    let server = TestServer::with(&Setup {
        tables: "[[service]]\nname = \"_memcached._tcp\"\ndns-sd = true\n[[service]]\nname = \"_idle._tcp\"\n"
            .to_owned(),
        statics: "$TTL 1h\n@ IN NS ns1\n@ IN NS ns2.example.net.\nns1 IN A 127.0.0.1\nns1 IN AAAA ::1\n\
                  alias IN CNAME ns1\nbelow.nothing IN TXT \"deep\"\n"
            .to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    for number in 1..=2 {
        let id = format!("i-{number}");
        let host = host_of(MEMCACHED, &id);
        let update = Update::member(MEMCACHED, &id, &format!("192.0.2.{number}"))
            .add(&host, AAAA, 5, &address(&format!("2001:db8::{number}")).1)
            .add(&format!("{id}.{MEMCACHED}"), TXT, 5, &txt(&["az=a"]))
            .lease(3600);
        client.update(&update);
    }
    server
}

fn set(records: &[String]) -> BTreeSet<&str> {
    records.iter().map(String::as_str).collect()
}

#[test]
fn the_apex_has_soa_and_ns() {
    let server = populated();
    let serial = server.client().serial();
    for look_up in [dig, kdig] {
        let soa = look_up(server.address, &["+norec", ZONE, "SOA"]);
        assert_eq!(soa.status, "NOERROR");
        assert_eq!(
            soa.answers,
            [format!("{ZONE} 2 IN SOA ns1.svc.example.test. hostmaster.example.test. {serial} 30 5 3600 2")]
        );
        let ns = look_up(server.address, &["+norec", ZONE, "NS"]);
        assert_eq!(
            set(&ns.answers),
            ["svc.example.test. 3600 IN NS ns1.svc.example.test.", "svc.example.test. 3600 IN NS ns2.example.net."]
                .into()
        );
        assert_eq!(
            set(&ns.additional),
            ["ns1.svc.example.test. 3600 IN A 127.0.0.1", "ns1.svc.example.test. 3600 IN AAAA ::1"].into(),
            "an address for the name server inside of the zone"
        );
    }
}

#[test]
fn a_service_answers_srv_with_the_addresses_of_every_target() {
    let server = populated();
    for look_up in [dig, kdig] {
        let printed = look_up(server.address, &["+norec", MEMCACHED, "SRV"]);
        assert_eq!(printed.status, "NOERROR");
        assert!(printed.has_flag("aa") && !printed.has_flag("tc") && !printed.has_flag("ra"), "{printed:?}");
        assert_eq!(
            printed.answers,
            [1, 2].map(|number| format!("{MEMCACHED} 1 IN SRV 0 256 11211 i-{number}.memcached.{ZONE}"))
        );
        let glue = [
            "i-1.memcached.svc.example.test. 1 IN A 192.0.2.1",
            "i-1.memcached.svc.example.test. 1 IN AAAA 2001:db8::1",
            "i-2.memcached.svc.example.test. 1 IN A 192.0.2.2",
            "i-2.memcached.svc.example.test. 1 IN AAAA 2001:db8::2",
        ];
        assert_eq!(set(&printed.additional), glue.into());
    }
}

#[test]
fn hosts_and_the_address_set_answer_by_family() {
    let server = populated();
    for look_up in [dig, kdig] {
        let host = look_up(server.address, &["i-1.memcached.svc.example.test", "A"]);
        assert_eq!(host.answers, ["i-1.memcached.svc.example.test. 1 IN A 192.0.2.1"]);
        let all = look_up(server.address, &["memcached.svc.example.test", "AAAA"]);
        assert_eq!(
            set(&all.answers),
            ["memcached.svc.example.test. 1 IN AAAA 2001:db8::1", "memcached.svc.example.test. 1 IN AAAA 2001:db8::2"]
                .into()
        );
    }
}

/// The digest is checked against its definition in the documentation, computed here from the answers.
#[test]
fn addresses_rotate_by_the_id_of_the_query_and_servers_do_not() {
    let server = TestServer::with(&Setup { server: "[dns]\nrotate = true\n".to_owned(), ..Setup::default() });
    let client = server.client();
    for number in 1..=3 {
        client.update(&Update::member(MEMCACHED, &format!("i-{number}"), &format!("192.0.2.{number}")).lease(3600));
    }
    let ask = |id: u16, owner: &str, rtype: u16| {
        client.ask(&[header(id, 0, [1, 0, 0, 0]), question(owner, rtype, IN)].concat()).message.answers
    };
    let addresses: Vec<Vec<String>> = (0..3)
        .map(|id| ask(id, &format!("memcached.{ZONE}"), A).iter().map(|record| record.data.to_string()).collect())
        .collect();
    let firsts: BTreeSet<&String> = addresses.iter().map(|set| &set[0]).collect();
    assert_eq!(firsts.len(), 3, "{addresses:?}");
    for set in &addresses {
        let sorted: BTreeSet<&str> = set.iter().map(String::as_str).collect();
        assert_eq!(sorted, ["192.0.2.1", "192.0.2.2", "192.0.2.3"].into());
    }
    assert_eq!(ask(0, MEMCACHED, SRV), ask(1, MEMCACHED, SRV));
}

#[test]
fn the_service_txt_counts_and_digests_what_srv_shows() {
    use sha2::Digest as _;
    let server = populated();
    let lines: String = (1..=2)
        .map(|number| format!("0 256 11211 i-{number}.memcached.{ZONE} 192.0.2.{number},2001:db8::{number}\n"))
        .collect();
    let hash = sha2::Sha256::digest(lines.as_bytes());
    let digest: String = hash[..8].iter().map(|octet| format!("{octet:02x}")).collect();
    let printed = dig(server.address, &[MEMCACHED, "TXT"]);
    assert_eq!(printed.answers.len(), 1);
    assert!(printed.answers[0].contains("\"epoch="), "{printed:?}");
    assert!(printed.answers[0].ends_with(&format!("\"members=2\" \"digest={digest}\"")), "{digest} {printed:?}");
}

#[test]
fn dns_sd_enumerates_instances() {
    let server = populated();
    let answers = |name: &str, rtype: &str| {
        let printed = dig(server.address, &[name, rtype]);
        (printed.answers.clone(), printed)
    };
    let (instances, _) = answers(MEMCACHED, "PTR");
    assert_eq!(instances, [1, 2].map(|number| format!("{MEMCACHED} 1 IN PTR i-{number}.{MEMCACHED}")));
    let instance = format!("i-1.{MEMCACHED}");
    assert_eq!(answers(&instance, "SRV").0, [format!("{instance} 1 IN SRV 0 256 11211 i-1.memcached.{ZONE}")]);
    assert_eq!(answers(&instance, "TXT").0, [format!("{instance} 1 IN TXT \"az=a\"")]);
    let services = answers("_services._dns-sd._udp.svc.example.test.", "PTR").0;
    assert!(services.iter().any(|line| line.ends_with(MEMCACHED)), "{services:?}");
    for browse in ["b", "lb"] {
        let domains = answers(&format!("{browse}._dns-sd._udp.svc.example.test."), "PTR").0;
        assert!(domains.iter().any(|line| line.ends_with(&format!("PTR {ZONE}"))), "{domains:?}");
    }
}

#[test]
fn any_is_answered_with_one_rrset() {
    let server = populated();
    for arguments in [&["+notcp", MEMCACHED, "ANY"], &["+tcp", MEMCACHED, "ANY"], &["+tcp", ZONE, "ANY"]] {
        let printed = dig(server.address, arguments);
        let types: BTreeSet<_> = printed.answers.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
        assert_eq!((printed.status.as_str(), types.len()), ("NOERROR", 1), "{printed:?}");
    }
}

#[test]
fn what_is_not_there_comes_with_the_soa_at_the_negative_ttl() {
    let server = populated();
    let names = [
        ("missing.svc.example.test", "A", "NXDOMAIN"),
        ("a.missing.svc.example.test", "A", "NXDOMAIN"),
        ("i-9.memcached.svc.example.test", "A", "NXDOMAIN"),
        (MEMCACHED, "A", "NOERROR"),
        (ZONE, "MX", "NOERROR"),
        // Empty non-terminals exist (RFC 4592 §2.2.2), as do names of services that nobody is in.
        ("_tcp.svc.example.test", "SRV", "NOERROR"),
        ("nothing.svc.example.test", "TXT", "NOERROR"),
        ("_idle._tcp.svc.example.test", "SRV", "NOERROR"),
        ("idle.svc.example.test", "A", "NOERROR"),
    ];
    for (name, rtype, status) in names {
        for look_up in [dig, kdig] {
            let printed = look_up(server.address, &["+norec", name, rtype]);
            assert_eq!((printed.status.as_str(), printed.answers.len()), (status, 0), "{name} {rtype} {printed:?}");
            assert!(printed.has_flag("aa"));
            assert_eq!(printed.authority.len(), 1, "{name} {rtype} {printed:?}");
            assert!(printed.authority[0].starts_with(&format!("{ZONE} 2 IN SOA ")), "{printed:?}");
        }
    }
}

/// RFC 1034 §3.6.2: the alias is the answer to every type; who asked follows it.
#[test]
fn an_alias_answers_for_every_type_but_its_own_name_only() {
    let server = populated();
    for rtype in ["A", "AAAA", "TXT", "CNAME"] {
        let printed = dig(server.address, &["alias.svc.example.test", rtype]);
        assert_eq!(printed.status, "NOERROR");
        assert_eq!(printed.answers[0], "alias.svc.example.test. 3600 IN CNAME ns1.svc.example.test.", "{printed:?}");
    }
    assert_eq!(dig(server.address, &["x.alias.svc.example.test", "A"]).status, "NXDOMAIN");
}

#[test]
fn the_question_comes_back_in_the_case_it_was_asked_in() {
    let server = populated();
    let mixed = query("_MemCached._tCp.sVC.eXample.TEST.", SRV);
    let answer = server.client().ask(&mixed);
    assert_eq!(answer.octets[12..mixed.len()], mixed[12..]);
    assert_eq!(answer.targets().len(), 2);
    let printed = kdig(server.address, &["_MEMCACHED._TCP.SVC.EXAMPLE.TEST", "SRV"]);
    assert_eq!(printed.answers.len(), 2);
}

#[test]
fn other_zones_and_classes_are_refused_without_aa() {
    let server = populated();
    for arguments in [
        &["example.test", "SOA"][..],
        &["www.example.com", "A"],
        &[".", "NS"],
        &["-c", "CH", "version.bind", "TXT"],
        &["-c", "CH", ZONE, "TXT"],
    ] {
        let printed = dig(server.address, arguments);
        assert_eq!(printed.status, "REFUSED", "{arguments:?}");
        assert!(!printed.has_flag("aa") && printed.answers.is_empty() && printed.authority.is_empty());
        assert!(printed.text.contains("EDE: 20"), "{}", printed.text);
        let plain = dig(server.address, &[&["+noedns"], arguments].concat());
        assert_eq!(plain.status, "REFUSED");
        assert!(!plain.text.contains("EDE"), "no EDNS, no Extended DNS Error: {}", plain.text);
    }
}

#[test]
fn recursion_is_never_available_and_rd_is_echoed() {
    let server = populated();
    for look_up in [dig, kdig] {
        let asked = look_up(server.address, &["+rec", MEMCACHED, "SRV"]);
        assert!(asked.has_flag("rd") && !asked.has_flag("ra"), "{asked:?}");
        let not_asked = look_up(server.address, &["+norec", MEMCACHED, "SRV"]);
        assert!(!not_asked.has_flag("rd") && !not_asked.has_flag("ra"), "{not_asked:?}");
    }
}

#[test]
fn edns_of_another_version_is_badvers() {
    let server = populated();
    let printed = dig(server.address, &["+edns=1", "+noednsnegotiation", MEMCACHED, "SRV"]);
    assert_eq!(printed.status, "BADVERS");
    assert!(printed.answers.is_empty());
    assert!(printed.text.contains("EDNS: version: 0"), "{}", printed.text);
    // A client that negotiates comes through.
    assert_eq!(dig(server.address, &["+edns=1", MEMCACHED, "SRV"]).answers.len(), 2);
}

#[test]
fn unknown_edns_options_and_flags_are_ignored() {
    let server = populated();
    let mut packet = [header(next_id(), 0, [1, 0, 0, 1]), question(MEMCACHED, SRV, IN)].concat();
    packet.extend(opt(1232, 0, &option(65_001, b"whatever")));
    let answer = server.client().ask(&packet);
    assert_eq!((answer.rcode(), answer.targets().len()), (0, 2));
    assert_eq!(dig(server.address, &["+ednsflags=0x4000", "+nsid", MEMCACHED, "SRV"]).answers.len(), 2);
}

/// So many members in one service; SRV records of about 47 octets, glue of 16 and more each.
fn crowd(server: &TestServer, members: usize) {
    let mut update = Update::new().lease(3600);
    for number in 0..members {
        update =
            update.and_member(MEMCACHED, &format!("m-{number}"), &format!("10.0.{}.{}", number / 250, number % 250));
    }
    assert_eq!(server.client().ask_tcp(&update.encode()).rcode(), 0);
}

#[test]
fn an_answer_that_does_not_fit_is_empty_and_truncated() {
    let server = TestServer::start();
    crowd(&server, 40);
    let client = server.client();
    for (packet, limit) in [
        (query(MEMCACHED, SRV), 512),
        (edns_query(MEMCACHED, SRV, 100), 512),
        (edns_query(MEMCACHED, SRV, 600), 600),
        (edns_query(MEMCACHED, SRV, 4096), 1232),
    ] {
        let answer = client.ask(&packet);
        assert!(answer.octets.len() <= limit, "{} octets", answer.octets.len());
        assert!(answer.message.metadata.truncation);
        assert_eq!((answer.message.answers.len(), answer.message.additionals.len()), (0, 0));
    }
    for look_up in [dig, kdig] {
        let ignored = look_up(server.address, &["+ignore", "+notcp", MEMCACHED, "SRV"]);
        assert!(ignored.has_flag("tc") && ignored.answers.is_empty(), "{ignored:?}");
        let complete = look_up(server.address, &[MEMCACHED, "SRV"]);
        assert_eq!((complete.answers.len(), complete.additional.len()), (40, 40), "by TCP, with all addresses");
        assert!(!complete.has_flag("tc"));
    }
}

#[test]
fn udp_answers_stay_within_the_client_and_the_configuration() {
    let server = TestServer::with(&Setup { server: "[dns]\nudp-size = 3000\n".to_owned(), ..Setup::default() });
    crowd(&server, 40);
    let client = server.client();
    let sizes: Vec<_> = [1232, 2200, 2900, 3000, 65_535]
        .map(|size| {
            let answer = client.ask(&edns_query(MEMCACHED, SRV, size));
            assert!(answer.octets.len() <= usize::from(size.min(3000)));
            assert_eq!(answer.message.edns.as_ref().unwrap().max_payload(), 3000, "our own size");
            (answer.message.answers.len(), answer.message.metadata.truncation)
        })
        .into();
    assert_eq!(sizes[0], (0, true));
    assert_eq!(sizes[1..], [(40, false); 4]);
}

#[test]
fn additional_records_go_first_and_silently() {
    let server = TestServer::start();
    crowd(&server, 20);
    let answer = server.client().ask(&edns_query(MEMCACHED, SRV, 1232));
    assert!(answer.octets.len() <= 1232);
    assert_eq!((answer.message.answers.len(), answer.message.metadata.truncation), (20, false));
    assert!(answer.message.additionals.len() < 20, "{} of 20 addresses", answer.message.additionals.len());
    let complete = server.client().ask_tcp(&query(MEMCACHED, SRV));
    assert_eq!((complete.message.answers.len(), complete.message.additionals.len()), (20, 20));
}

#[test]
fn a_tcp_connection_takes_many_queries_in_any_pieces() {
    let server = populated();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let queries: Vec<_> = (0..10).map(|_| query(MEMCACHED, SRV)).collect();
    for packet in &queries {
        send_framed(&mut stream, packet);
    }
    for packet in &queries {
        assert_eq!(read_framed(&mut stream)[..2], packet[..2], "in order");
    }
    let packet = query(ZONE, SOA);
    for octet in [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], &packet].concat() {
        stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(read_framed(&mut stream)[..2], packet[..2]);
}

/// What a packet got before a sentinel query that was sent behind it. Class CH is answered by the thread that all but plain
/// queries go to, in the order in which they came.
fn before_sentinel(client: &Client, packet: &[u8]) -> Option<Vec<u8>> {
    let sentinel = [header(next_id(), 0, [1, 0, 0, 0]), question("version.bind.", TXT, 3)].concat();
    client.send(packet);
    client.send(&sentinel);
    let first = client.receive(PATIENCE).expect("an answer to the sentinel");
    if first[..2] == sentinel[..2] {
        return None;
    }
    assert_eq!(client.receive(PATIENCE).expect("an answer to the sentinel")[..2], sentinel[..2]);
    Some(first)
}

#[test]
fn malformed_messages_get_formerr_or_nothing() {
    const FORMERR: u8 = 1;
    let server = populated();
    let client = server.client();
    let id = next_id;
    let good = || query(MEMCACHED, SRV);
    let with_tail = |counts, tail: &[u8]| [&header(id(), 0, counts)[..], &question(ZONE, SOA, IN), tail].concat();
    for packet in [&b""[..], b"\x12", b"\x12\x34\0\0\0\x01", &good()[..11]] {
        // An empty datagram carries no id to tell its answer by: whatever comes first must be the sentinel's.
        assert_eq!(before_sentinel(&client, packet), None, "{packet:02x?}");
    }
    let looping = [&header(id(), 0, [1, 0, 0, 0])[..], &[0xc0, 12, 0, 1, 0, 1]].concat();
    let forward = [&header(id(), 0, [1, 0, 0, 0])[..], &[0xc0, 40, 0, 1, 0, 1]].concat();
    let label_type = [&header(id(), 0, [1, 0, 0, 0])[..], &[0x80, 0, 0, 1, 0, 1]].concat();
    let long_name =
        [&header(id(), 0, [1, 0, 0, 0])[..], &[&[63u8][..], &[b'a'; 63]].concat().repeat(5), &[0, 0, 1, 0, 1]].concat();
    let cases = [
        header(id(), 0, [0; 4]),
        header(id(), 0, [1, 0, 0, 0]),
        [header(id(), 0, [2, 0, 0, 0]), question(ZONE, SOA, IN), question(ZONE, NS, IN)].concat(),
        good()[..20].to_vec(),
        looping,
        forward,
        label_type,
        long_name,
        with_tail([1, 0, 0, 0], b"trailing"),
        with_tail([1, 0, 0, 1], &[]),
        with_tail([1, 0, 0, 2], &opt(1232, 0, &[]).repeat(2)),
        with_tail([1, 1, 0, 0], &opt(1232, 0, &[])),
        with_tail([1, 0, 0, 1], &opt(1232, 0, &[0, 2, 0, 9, 1])),
        with_tail([1, 0, 0, 1], &record("x.", 41, 1232, 0, &[])),
    ];
    for packet in cases {
        let answer = before_sentinel(&client, &packet).unwrap_or_else(|| panic!("nothing for {packet:02x?}"));
        assert_eq!(answer[..2], packet[..2]);
        assert_eq!((answer[2] & 0x80, answer[3] & 0xf), (0x80, FORMERR), "{packet:02x?}");
    }
}

#[test]
fn responses_are_never_answered() {
    let server = populated();
    let client = server.client();
    let mut response = query(MEMCACHED, SRV);
    response[2] |= 0x80;
    assert_eq!(before_sentinel(&client, &response), None);
    let mut garbage = header(next_id(), 0x8000, [9, 9, 9, 9]);
    garbage.extend(b"garbage");
    assert_eq!(before_sentinel(&client, &garbage), None);
    let mut update = Update::member(MEMCACHED, "i-9", "192.0.2.9").encode();
    update[2] |= 0x80;
    assert_eq!(before_sentinel(&client, &update), None);
    assert_eq!(client.targets(MEMCACHED).len(), 2, "and change nothing");
}

#[test]
fn other_opcodes_are_not_implemented() {
    const NOTIMP: u16 = 4;
    let server = populated();
    for opcode in [1u16, 2, 3, 6, 15] {
        let mut packet = query(ZONE, SOA);
        packet[2] |= u8::try_from(opcode << 3).unwrap();
        let answer = server.client().ask(&packet);
        assert_eq!(answer.rcode(), NOTIMP);
        assert_eq!(answer.octets[2] >> 3 & 0xf, packet[2] >> 3 & 0xf, "the opcode is echoed");
    }
}

#[test]
fn queries_can_be_closed_to_networks() {
    let server = TestServer::with(&Setup {
        tables: "[access]\nquery = [{ network = \"192.0.2.0/24\" }]\n".to_owned(),
        ..Setup::default()
    });
    for arguments in [&[ZONE, "SOA", "+notcp"], &[ZONE, "SOA", "+tcp"]] {
        let printed = dig(server.address, arguments);
        assert_eq!(printed.status, "REFUSED");
        assert!(printed.text.contains("EDE: 18"), "{}", printed.text);
    }
}
