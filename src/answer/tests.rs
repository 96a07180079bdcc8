//! Answers of random zones: those kept up to date are those that would be built afresh, and both are what the snapshot
//! says, as an independent reader (hickory) sees it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hickory_proto::op::Message;
use hickory_proto::rr::Record as WireRecord;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use proptest::prelude::*;

use crate::base::{Epoch, Name, RecordType, Wall};
use crate::dns::identity::Identity;
use crate::dns::quick;
use crate::dns::reply::Transport;
use crate::dns::respond::{Context, ServedZone, Verdict, Zones, respond};
use crate::dns::tsig::Keys;
use crate::dns::wire::Envelope;
use crate::membership::{MemberId, Registration};
use crate::zone::records::schema;
use crate::zone::scenes::{self, Sources, Universe, caused};
use crate::zone::{Change, PublishedMember, Record, Snapshot, Zone};

use super::{Answers, End, oracle};

const TYPES: [RecordType; 19] = [
    RecordType::A,
    RecordType::NS,
    RecordType::CNAME,
    RecordType::SOA,
    RecordType::PTR,
    RecordType::MX,
    RecordType::TXT,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::ANY,
    RecordType::OPT,
    RecordType::DS,
    RecordType::DNAME,
    RecordType::RRSIG,
    RecordType::TSIG,
    RecordType::MAILB,
    RecordType::DNSKEY,
    RecordType(65_280),
    RecordType(0),
];

/// How a question is put.
#[derive(Clone, Copy, Debug)]
struct Asked {
    rtype: RecordType,
    /// The client's size; none: no EDNS.
    edns: Option<u16>,
    transport: Transport,
    /// Which letters are upper case.
    case: u64,
}

impl Asked {
    fn limit(self) -> usize {
        match (self.transport, self.edns) {
            (Transport::Tcp, _) => 65_535,
            (_, None) => 512,
            (_, Some(size)) => usize::from(size.clamp(512, 4096)),
        }
    }
}

fn served(answers: Answers) -> Zones {
    let origin = answers.snapshot().origin().clone();
    Zones::new([Arc::new(ServedZone { answers: ArcSwapOption::from_pointee(answers), ..ServedZone::new(origin) })])
}

fn question(name: &Name, asked: Asked) -> Vec<u8> {
    let mut packet = vec![0xab, 0xcd, 1, 0x10, 0, 1, 0, 0, 0, 0, 0, u8::from(asked.edns.is_some())];
    let mut at = 0;
    let wire = name.as_wire();
    while wire[at] != 0 {
        packet.push(wire[at]);
        for octet in &wire[at + 1..=at + usize::from(wire[at])] {
            let upper = asked.case >> (packet.len() % 64) & 1 == 1;
            packet.push(if upper { octet.to_ascii_uppercase() } else { *octet });
        }
        at += usize::from(wire[at]) + 1;
    }
    packet.push(0);
    packet.extend_from_slice(&asked.rtype.0.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    if let Some(size) = asked.edns {
        packet.extend_from_slice(&[0, 0, 41]);
        packet.extend_from_slice(&size.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0x80, 0, 0, 0]);
    }
    packet
}

fn ask(zones: &Zones, name: &Name, asked: Asked) -> Vec<u8> {
    let packet = question(name, asked);
    let keys = Keys::default();
    let context = Context {
        tcp_idle: std::time::Duration::from_secs(10),
        transfers: true,
        cookies: None,
        rate: None,
        rotate: false,
        zones,
        keys: &keys,
        identity: &Identity::default(),
        udp_size: 4096,
        now: Wall(0),
        peer: "192.0.2.1:53".parse().unwrap(),
        transport: asked.transport,
    };
    let mut out = vec![7; 3];
    assert!(matches!(respond(&context, &packet, &mut out), Verdict::Reply));
    if asked.transport == Transport::Udp {
        let is_quick = quick::tests::assert_same(&Context { rotate: asked.case % 2 == 1, ..context }, &packet);
        assert_eq!(is_quick, asked.rtype != RecordType::DS, "{name} {}", asked.rtype);
    }
    let end = 12 + name.as_wire().len() + 4;
    assert_eq!(out[..2], packet[..2]);
    assert_eq!(out[12..end], packet[12..end], "the question comes back octet by octet");
    out
}

/// The record as hickory reads it from its plain form.
fn wire_record(record: &Record) -> WireRecord {
    let mut octets = record.owner.as_wire().to_vec();
    octets.extend_from_slice(&record.rtype.0.to_be_bytes());
    octets.extend_from_slice(&[0, 1]);
    octets.extend_from_slice(&record.ttl.0.to_be_bytes());
    octets.extend_from_slice(&u16::try_from(record.rdata.len()).unwrap().to_be_bytes());
    octets.extend_from_slice(&record.rdata);
    WireRecord::read(&mut BinDecoder::new(&octets)).unwrap()
}

fn assert_same(found: &[WireRecord], expected: &[Record]) {
    let expected: Vec<WireRecord> = expected.iter().map(wire_record).collect();
    assert_eq!(found, expected);
    assert!(found.iter().zip(&expected).all(|(found, expected)| found.ttl == expected.ttl));
}

/// The largest and the smallest form of records: owner written out, or a pointer.
fn plain_len(records: &[Record]) -> usize {
    records.iter().map(|record| record.owner.as_wire().len() + 10 + record.rdata.len()).sum()
}

/// Whether a reply is what the snapshot says.
fn check(snapshot: &Snapshot, zones: &Zones, name: &Name, asked: Asked) {
    let reply = ask(zones, name, asked);
    let message = Message::from_vec(&reply).expect("a reply that can be read");
    let fixed = if asked.edns.is_some() { 11 } else { 0 };
    assert!(reply.len() <= asked.limit(), "{} octets for a limit of {}", reply.len(), asked.limit());
    assert_eq!(message.edns.is_some(), asked.edns.is_some());
    assert!(message.metadata.recursion_desired && !message.metadata.recursion_available);
    let expected = oracle::resolve(snapshot, name, asked.rtype);
    assert_eq!(message.metadata.authoritative, expected.authoritative, "{name} {}", asked.rtype);
    let is_referral = expected.authority.first().is_some_and(|record| record.rtype == RecordType::NS);
    if message.metadata.truncation && message.answers.is_empty() && message.authorities.is_empty() {
        assert!(message.additionals.is_empty(), "whole, or not at all");
        let end = 12 + name.as_wire().len() + 4 + fixed;
        let whole = plain_len(&expected.answers) + plain_len(&expected.authority);
        assert!(end + whole > asked.limit(), "{name} {} would have fitted", asked.rtype);
        return;
    }
    assert_eq!(u16::from(message.metadata.response_code), expected.rcode, "{name} {}", asked.rtype);
    assert_same(&message.answers, &expected.answers);
    assert_same(&message.authorities, &expected.authority);
    if let Some(soa) = message.authorities.iter().find(|_| !is_referral) {
        assert_eq!(soa.ttl, snapshot.soa().ttl.0.min(snapshot.settings.negative_ttl.0));
    }
    if asked.rtype == RecordType::SRV {
        let envelope = Envelope::parse(&reply).unwrap();
        for (raw, record) in envelope.first_section().zip(&expected.answers) {
            let is_srv = record.rtype == RecordType::SRV;
            assert!(!is_srv || raw.raw_rdata() == &*record.rdata, "targets of SRV are not compressed");
        }
    }
    // Addresses of every target in the zone, cut at a whole RRset and only where the next one doesn't fit; of those that a
    // referral needs none may be missing without TC.
    let mut shown = std::collections::HashSet::new();
    let mut glue: Vec<(bool, Vec<Record>)> = Vec::new();
    let Some(owner) = expected.last.first().map(|record| &record.owner) else {
        return assert!(message.additionals.is_empty() && !message.metadata.truncation);
    };
    for record in &expected.last {
        let Some(target) = schema::additional_target(record.rtype, &record.rdata) else { continue };
        if target == owner.as_wire() && record.rtype != RecordType::NS || !shown.insert(target.to_vec()) {
            continue;
        }
        let target = Name::from_wire(target).unwrap();
        for rtype in [RecordType::A, RecordType::AAAA] {
            let found = snapshot.node(target.as_wire()).and_then(|node| node.rrset(rtype));
            let needed = is_referral && target.is_within(owner);
            glue.extend(found.map(|rrset| (needed, rrset.records(&target).collect())));
        }
    }
    glue.sort_by_key(|(needed, _)| !needed);
    let mut rest = message.additionals.as_slice();
    let mut is_short = false;
    for (needed, set) in &glue {
        if rest.is_empty() {
            assert!(reply.len() + plain_len(set) > asked.limit(), "{name} {}: glue left out", asked.rtype);
            is_short = *needed;
            break;
        }
        let (found, tail) = rest.split_at(set.len());
        assert_same(found, set);
        rest = tail;
    }
    assert!(rest.is_empty());
    assert_eq!(message.metadata.truncation, is_short);
}

/// All names of a snapshot, and some that don't exist.
fn names(snapshot: &Snapshot) -> Vec<Name> {
    let mut names: Vec<Name> = snapshot.nodes().map(|node| node.name().clone()).collect();
    let strangers: Vec<Name> =
        names.iter().step_by(5).filter_map(|name| name.child(b"nobody").ok()?.child(b"q").ok()).collect();
    let neighbours: Vec<Name> = names.iter().filter_map(|name| name.child(b"q").ok()).collect();
    names.extend(neighbours);
    names.extend(strangers);
    names
}

/// Octet by octet the same, for every name and type.
fn assert_equal(advanced: &Answers, built: &Answers) {
    for name in names(built.snapshot()) {
        for rtype in TYPES {
            for limit in [200, 512, 1232, 65_535] {
                let answer = |answers: &Answers| {
                    let mut out = vec![0; 12 + name.as_wire().len() + 4];
                    let lookup = answers.lookup(name.as_wire(), rtype, limit, 0, &mut out);
                    (lookup, out)
                };
                assert_eq!(answer(advanced), answer(built), "{name} {rtype}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_kept_up_to_date_are_those_built_afresh_and_say_what_the_snapshot_says(
        root in prop::bool::weighted(0.2),
        batches in scenes::batches(),
        asked in prop::collection::vec((any::<usize>(), 0..TYPES.len(), prop::option::of(400u16..4200), any::<bool>(), any::<u64>()), 120),
    ) {
        let universe = Universe::new(if root { "." } else { "svc.z." });
        let mut sources = Sources::new(universe.settings());
        let mut zone = Zone::new(universe.settings(), Epoch(0xffff_fffd));
        let mut answers = Answers::build(zone.snapshot());
        for batch in &batches {
            if zone.snapshot().is_empty() {
                zone.change(caused(Change::Settings(universe.settings())), Wall(0));
            }
            let mut trial = sources.clone();
            for act in &batch.acts {
                if let Some(change) = universe.change(act, &trial) {
                    trial.apply(&change);
                    zone.change(caused(change), Wall(0));
                }
            }
            let staged = zone.stage(Wall(0));
            if batch.refused && !zone.snapshot().is_empty() {
                zone.revert(staged);
                continue;
            }
            sources = trial;
            if let Some(published) = zone.publish(staged) {
                answers = answers.advance(&published);
                assert_equal(&answers, &Answers::build(zone.snapshot()));
            }
        }
        let snapshot = zone.snapshot().clone();
        let names = names(&snapshot);
        let zones = served(answers);
        for (name, rtype, edns, tcp, case) in asked {
            let transport = if tcp { Transport::Tcp } else { Transport::Udp };
            check(&snapshot, &zones, &names[name % names.len()], Asked { rtype: TYPES[rtype], edns, transport, case });
        }
        for name in &names {
            for rtype in TYPES {
                check(&snapshot, &zones, name, Asked { rtype, edns: None, transport: Transport::Udp, case: 0x5555 });
            }
        }
    }
}

/// A service with this many members, two addresses each.
fn big(members: usize) -> Zone {
    let universe = Universe::new("svc.example.test.");
    let member = |number: usize| {
        let address = |octet| [octet, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250).unwrap()];
        let [a, b, c] = address(10);
        Change::Member {
            service: universe.name("_x._tcp"),
            id: MemberId::new(&format!("i-{number}")).unwrap(),
            member: Some(PublishedMember::in_service(Arc::new(Registration {
                target: universe.name(&format!("i-{number}.x")),
                port: 80,
                priority: 0,
                weight: 0,
                addresses: [[a, 0, b, c].into(), [0xfd00, 0, 0, 0, 0, 0, u16::from(b), u16::from(c)].into()].into(),
                metadata: Box::default(),
            }))),
        }
    };
    scenes::zone_of(&universe, (0..members).map(member))
}

#[test]
fn a_template_is_compiled_when_asked_for_and_by_a_commit_if_it_was_since_the_last_one() {
    let mut zone = big(3);
    let service = Universe::new("svc.example.test.").name("_x._tcp");
    let mut answers = Answers::build(zone.snapshot());
    let ask = |answers: &Answers| {
        let lookup = answers.lookup(service.as_wire(), RecordType::SRV, 4096, 0, &mut Vec::new());
        assert_eq!(lookup.end, End::Answer);
    };
    let mut remove = |id: &str, answers: &Answers| {
        let id = MemberId::new(id).unwrap();
        zone.change(caused(Change::Member { service: service.clone(), id, member: None }), Wall(0));
        let staged = zone.stage(Wall(0));
        answers.advance(&zone.publish(staged).unwrap())
    };
    assert_eq!(answers.compiled(), 0);
    ask(&answers);
    assert_eq!(answers.compiled(), 1);
    answers = remove("i-0", &answers);
    assert_eq!(answers.compiled(), 1, "compiled ahead");
    answers = remove("i-1", &answers);
    assert_eq!(answers.compiled(), 0, "nobody had asked in between");
    ask(&answers);
    assert_eq!(answers.compiled(), 1);
}

#[test]
fn names_beyond_the_reach_of_pointers_are_written_out() {
    let mut zone = big(900);
    let answers = Answers::build(zone.snapshot());
    let universe = Universe::new("svc.example.test.");
    let service = universe.name("_x._tcp");
    let asked = |transport, edns| Asked { rtype: RecordType::SRV, edns, transport, case: 0 };
    let zones = served(answers.clone());
    check(zone.snapshot(), &zones, &service, asked(Transport::Tcp, Some(1232)));
    check(zone.snapshot(), &zones, &service, asked(Transport::Udp, Some(4096)));
    for rtype in [RecordType::A, RecordType::AAAA] {
        check(zone.snapshot(), &zones, &universe.name("x"), Asked { rtype, ..asked(Transport::Tcp, None) });
    }
    let reply = ask(&zones, &service, asked(Transport::Tcp, None));
    let message = Message::from_vec(&reply).unwrap();
    assert_eq!(message.answers.len(), 900);
    assert!(reply.len() > 50_000 && message.additionals.len() > 600, "{} {}", reply.len(), message.additionals.len());
    // One of them goes: everything behind it moves.
    let id = MemberId::new("i-17").unwrap();
    zone.change(caused(Change::Member { service: service.clone(), id, member: None }), Wall(0));
    let staged = zone.stage(Wall(0));
    let published = zone.publish(staged).unwrap();
    let advanced = answers.advance(&published);
    let built = Answers::build(zone.snapshot());
    for name in [service, universe.name("x"), universe.name("i-17.x"), universe.name("i-18.x")] {
        for rtype in TYPES {
            let answer = |answers: &Answers| {
                let mut out = vec![0; 12 + name.as_wire().len() + 4];
                (answers.lookup(name.as_wire(), rtype, 65_535, 0, &mut out), out)
            };
            assert_eq!(answer(&advanced), answer(&built), "{name} {rtype}");
        }
    }
}
