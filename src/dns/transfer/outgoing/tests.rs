//! What goes out, as hickory-proto reads it.

use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name as WireName, Record as WireRecord, RecordType as WireType, TSigner};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use proptest::prelude::*;

use super::*;
use crate::base::limits::MESSAGE_OCTETS;
use crate::base::{Epoch, RecordType, Ttl};
use crate::dns::reply::{Seal, Transport};
use crate::dns::tsig::{Algorithm, Exchange, Key, Keys, verify};
use crate::dns::wire::Envelope;
use crate::zone::scenes::{Batch, Sources, Universe, batches, caused, zone_of};
use crate::zone::{Change, History, Rrset, Zone};

const NOW: Wall = Wall(1_700_000_000_000);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const ID: u16 = 0x4d2;
/// As a client may write it.
const QUESTION: &[u8] = b"\x03Svc\x01Z\x00\x00\xfc\x00\x01";

/// The longest name that a key may have.
fn long_key() -> Key {
    let label = "k".repeat(63);
    let name = format!("{label}.{label}.{label}.{}.", "k".repeat(61)).parse::<Name>().unwrap();
    assert_eq!(name.as_wire().len(), 255);
    Key::new(name, Algorithm::HmacSha512, SECRET)
}

/// A request with a question for `svc.z.`.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    edns: Option<u16>,
    signed: bool,
    udp: bool,
}

impl Asked {
    const UDP: Asked = Asked { edns: None, signed: false, udp: true };

    fn packet(self) -> Vec<u8> {
        let mut packet = [&ID.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], QUESTION].concat();
        if let Some(size) = self.edns {
            packet.extend([&[0, 0, 41][..], &size.to_be_bytes(), &[0; 6]].concat());
            packet[11] += 1;
        }
        if self.signed {
            Exchange::sign(&long_key(), &mut packet, NOW);
        }
        packet
    }

    fn reply(self) -> Reply {
        let packet = self.packet();
        let envelope = Envelope::parse(&packet).unwrap();
        let transport = if self.udp { Transport::Udp } else { Transport::Tcp };
        let mut reply = Reply::new(envelope.header, envelope.edns.as_ref(), transport, 1232);
        if let Some(signature) = &envelope.tsig {
            let signer = verify(&packet, signature, &Keys::new([long_key()]), NOW).unwrap();
            reply.seal = Seal::Sign(Box::new(signer), None);
        }
        reply
    }

    fn outgoing(self, body: Body) -> Outgoing {
        Outgoing::new(self.reply(), QUESTION, body)
    }

    /// All messages, each held against what holds for every one.
    fn messages(self, body: Body) -> Vec<Message> {
        let mut outgoing = self.outgoing(body);
        let (mut messages, mut out) = (Vec::new(), vec![9; 3]);
        loop {
            let more = outgoing.message(NOW, &mut out);
            messages.push(out.clone());
            if !more {
                break;
            }
        }
        self.check(&messages)
    }

    fn check(self, messages: &[Vec<u8>]) -> Vec<Message> {
        let signer = TSigner::new(
            SECRET.to_vec(),
            TsigAlgorithm::HmacSha512,
            WireName::from_ascii(long_key().name.to_string()).unwrap(),
            300,
        )
        .unwrap();
        let mut prior = self.signed.then(|| Message::from_vec(&self.packet()).unwrap().signature.unwrap().data.mac);
        let mut read = Vec::new();
        for (number, octets) in messages.iter().enumerate() {
            assert!(octets.len() <= MESSAGE_OCTETS, "{} octets", octets.len());
            assert_eq!(octets[..2], ID.to_be_bytes());
            // A response with AA, without TC, and without an error.
            assert_eq!((octets[2], octets[3]), (0x84, 0));
            assert_eq!(
                (&octets[4..6], &octets[12..12 + QUESTION.len()]),
                (&[0, 1][..], QUESTION),
                "in the client's case"
            );
            let message = Message::from_vec(octets).unwrap();
            assert!(message.authorities.is_empty() && message.additionals.is_empty());
            assert_eq!(message.edns.is_some(), self.edns.is_some() && number == 0);
            assert_eq!(message.signature.is_some(), self.signed);
            if let Some(mac) = &mut prior {
                (*mac, _, _) = signer.verify_message_byte(octets, Some(mac), number == 0).expect("a MAC that holds");
            }
            assert!(message.answers.iter().all(|record| record.dns_class == hickory_proto::rr::DNSClass::IN));
            read.push(message);
        }
        self.check_full(messages, &read);
        read
    }

    /// The first record of a message would not have fitted the one before.
    fn check_full(self, messages: &[Vec<u8>], read: &[Message]) {
        let mut reply = self.reply();
        for ((octets, message), next) in messages.iter().zip(read).zip(&read[1..]) {
            let mut encoder = Encoder::after_question(&"svc.z.".parse().unwrap());
            let limit = reply.limit().min(PACKED);
            let mut put = |record: &WireRecord| {
                let ours = ours(record);
                encoder.try_record(ours.owner.as_wire(), ours.rtype, ours.ttl, &ours.rdata, limit)
            };
            assert!(message.answers.iter().all(&mut put));
            assert!(!put(&next.answers[0]), "{} octets and room", octets.len());
            reply.edns = None;
        }
    }
}

fn ours(record: &WireRecord) -> Record {
    use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
    let mut rdata = Vec::new();
    let mut encoder = BinEncoder::new(&mut rdata);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    record.data.emit(&mut encoder).unwrap();
    let owner = record.name.to_ascii().to_ascii_lowercase().parse().unwrap();
    Record { owner, rtype: RecordType(record.record_type().into()), ttl: Ttl(record.ttl), rdata: rdata.into() }
}

/// A record as hickory reads it alone and uncompressed.
fn theirs(record: &Record) -> WireRecord {
    let mut octets = record.owner.as_wire().to_vec();
    octets.extend(record.rtype.0.to_be_bytes());
    octets.extend([0, 1]);
    octets.extend(record.ttl.0.to_be_bytes());
    octets.extend(u16::try_from(record.rdata.len()).unwrap().to_be_bytes());
    octets.extend(&record.rdata);
    WireRecord::read(&mut BinDecoder::new(&octets)).unwrap()
}

/// In an order of its own, so that multisets can be compared.
fn sorted(records: impl IntoIterator<Item = WireRecord>) -> Vec<String> {
    let mut texts: Vec<String> = records.into_iter().map(|record| format!("{record}").to_ascii_lowercase()).collect();
    texts.sort();
    texts
}

fn records_of(snapshot: &Snapshot) -> Vec<WireRecord> {
    let of_node = |node: &Arc<Node>| {
        let records = node.rrsets().flat_map(|rrset| rrset.records(node.name()).collect::<Vec<_>>());
        records.map(|record| theirs(&record)).collect::<Vec<_>>()
    };
    snapshot.nodes().flat_map(of_node).collect()
}

fn answers(messages: Vec<Message>) -> Vec<WireRecord> {
    messages.into_iter().flat_map(|message| message.answers).collect()
}

/// The records of a whole zone, which stand between its SOA records.
fn between_soas(answers: &[WireRecord], snapshot: &Snapshot) -> Vec<WireRecord> {
    let soa = theirs(&snapshot.soa());
    let [first, zone @ .., last] = answers else { panic!("{answers:?}") };
    assert_eq!((first, last), (&soa, &soa));
    assert_eq!((first.ttl, last.ttl), (soa.ttl, soa.ttl));
    assert!(zone.iter().all(|record| record.record_type() != WireType::SOA));
    zone.to_vec()
}

/// The steps of a zone, and each version that it had.
struct Past {
    zone: Zone,
    history: History,
    versions: Vec<Snapshot>,
}

impl Past {
    fn new(first: u64) -> Past {
        let settings = Universe::new("svc.z.").settings();
        let mut zone = Zone::new(settings.clone(), Epoch(first - 1));
        zone.change(caused(Change::Settings(settings)), Wall(0));
        let staged = zone.stage(Wall(0));
        zone.publish(staged);
        let versions = vec![zone.snapshot().clone()];
        Past { zone, history: History::default(), versions }
    }

    fn commit(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.zone.change(caused(change), Wall(0));
        }
        let from = Arc::new(self.zone.snapshot().soa());
        let staged = self.zone.stage(Wall(0));
        let commit = staged.commit.clone();
        self.zone.publish(staged);
        if let Some(commit) = commit {
            let to = Arc::new(self.zone.snapshot().soa());
            self.history.push(Step { from, to, commit });
            self.versions.push(self.zone.snapshot().clone());
        }
    }

    fn of(first: u64, batches: &[Batch]) -> Past {
        let universe = Universe::new("svc.z.");
        let mut sources = Sources::new(universe.settings());
        let mut past = Past::new(first);
        for batch in batches {
            let mut changes = Vec::new();
            for act in &batch.acts {
                if let Some(change) = universe.change(act, &sources) {
                    sources.apply(&change);
                    changes.push(change);
                }
            }
            past.commit(changes);
        }
        past
    }

    fn newest(&self) -> &Snapshot {
        self.versions.last().unwrap()
    }

    fn since(&self, serial: u32) -> Body {
        Body::since(Serial(serial), self.newest(), |from, to| self.history.between(from, to))
    }
}

fn static_set(name: &str, rtype: RecordType, rdatas: impl IntoIterator<Item = Vec<u8>>) -> Change {
    let rdatas = rdatas.into_iter().map(Into::into).collect();
    Change::Static { name: name.parse().unwrap(), rrsets: vec![Rrset { rtype, ttl: Ttl(5), rdatas }] }
}

/// So many addresses of one name.
fn addresses(name: &str, count: u32) -> Change {
    static_set(name, RecordType::A, (0..count).map(|number| number.to_be_bytes().to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_whole_zone_is_each_of_its_records_once_between_twice_its_soa(
        batches in batches(),
        edns in prop::option::of(Just(1232)),
        signed in any::<bool>(),
    ) {
        let past = Past::of(100, &batches);
        let asked = Asked { edns, signed, udp: false };
        let answers = answers(asked.messages(Body::whole(past.newest())));
        prop_assert_eq!(sorted(between_soas(&answers, past.newest())), sorted(records_of(past.newest())));
    }

    #[test]
    fn an_ixfr_applied_equals_an_axfr(
        // Across the wrap of serials.
        first in (1u64 << 32) - 8..(1 << 32) + 1,
        batches in batches(),
        signed in any::<bool>(),
    ) {
        let past = Past::of(first, &batches);
        let newest = past.newest();
        let asked = Asked { signed, ..Asked::default() };
        for old in &past.versions[..past.versions.len() - 1] {
            let body = past.since(old.epoch.serial().0);
            let changes = matches!(body, Body::Changes(_));
            let answers = answers(asked.messages(body));
            if !changes {
                // Only since it is less.
                let zone = between_soas(&answers, newest);
                prop_assert_eq!(sorted(zone), sorted(records_of(newest)));
                continue;
            }
            let (from, to) = (theirs(&old.soa()), theirs(&newest.soa()));
            let [first, second, rest @ .., last] = &answers[..] else { panic!("{answers:?}") };
            // RFC 1995 §4: the new SOA, then what differs behind the SOA before and the SOA after, then the new one.
            prop_assert_eq!((first, second, last), (&to, &from, &to));
            let middle = rest.iter().position(|record| record.record_type() == WireType::SOA).unwrap();
            let (removed, added) = (&rest[..middle], &rest[middle + 1..]);
            prop_assert_eq!(&rest[middle], &to);
            let mut copy = sorted(records_of(old));
            for record in removed {
                let text = format!("{record}").to_ascii_lowercase();
                let place = copy.iter().position(|other| *other == text);
                copy.remove(place.expect("what goes was there"));
            }
            copy.extend(added.iter().map(|record| format!("{record}").to_ascii_lowercase()));
            copy.sort();
            prop_assert_eq!(copy, sorted(records_of(newest)));
            prop_assert!(removed.len() + added.len() <= records_of(newest).len().max(newest.len()));
        }
    }

    #[test]
    fn over_udp_it_is_one_message_within_what_the_client_takes(
        batches in batches(),
        edns in prop::option::of(300u16..5000),
        signed in any::<bool>(),
        at in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let past = Past::of(100, &batches);
        let old = &past.versions[at.index(past.versions.len())];
        let body = || if whole { Body::whole(past.newest()) } else { past.since(old.epoch.serial().0) };
        let asked = Asked { edns, signed, udp: true };
        let mut out = Vec::new();
        asked.outgoing(body()).only_message(NOW, &mut out);
        let limit = usize::from(edns.unwrap_or(0)).clamp(512, 1232);
        prop_assert!(out.len() <= limit, "{} octets", out.len());
        let all = answers(Asked { udp: false, ..asked }.messages(body()));
        if out[2] & 2 != 0 {
            // Long names of the key.
            prop_assert!(signed && Message::from_vec(&out).unwrap().answers.is_empty());
            return Ok(());
        }
        let answers = answers(asked.check(&[out]));
        prop_assert!(answers == all || answers == [theirs(&past.newest().soa())]);
    }
}

#[test]
fn messages_are_full_and_below_64_kib_with_the_longest_signature() {
    let sets = (0..4).map(|number| addresses(&format!("n{number}.svc.z."), 3000));
    let hosts = (0..9000).map(|number| addresses(&format!("h{number}.deep.er.svc.z."), 1));
    let zone = zone_of(&Universe::new("svc.z."), sets.chain(hosts));
    let snapshot = zone.snapshot();
    for (edns, signed) in [(None, false), (Some(1232), true)] {
        let messages = Asked { edns, signed, udp: false }.messages(Body::whole(snapshot));
        let mut sets_in: Vec<usize> = Vec::new();
        for message in &messages {
            let mut owners: Vec<_> = message.answers.iter().map(|record| record.name.to_ascii()).collect();
            owners.retain(|owner| owner.starts_with('n'));
            owners.dedup();
            sets_in.push(owners.len());
        }
        assert!(sets_in.iter().sum::<usize>() > 4, "an RRset is split where a message ends: {sets_in:?}");
        assert_eq!(sorted(between_soas(&answers(messages), snapshot)), sorted(records_of(snapshot)));
    }
}

#[test]
fn names_are_compressed_against_the_question_from_the_first_record_on() {
    let zone = zone_of(&Universe::new("svc.z."), (0..9000).map(|number| addresses(&format!("h{number}.svc.z."), 1)));
    let mut outgoing = Asked::default().outgoing(Body::whole(zone.snapshot()));
    let (mut out, mut messages, mut octets) = (Vec::new(), 0, 0);
    loop {
        let more = outgoing.message(NOW, &mut out);
        // At most one label, then the pointer to the apex.
        let owner = &out[12 + QUESTION.len()..];
        let label = if owner[0] < 64 { 1 + usize::from(owner[0]) } else { 0 };
        assert_eq!(owner[label..label + 2], [0xc0, 12]);
        messages += 1;
        octets += out.len();
        if !more {
            break;
        }
    }
    // A length, five octets of label at most, a pointer, and an address record.
    assert!(octets < messages * (12 + QUESTION.len()) + 9000 * (1 + 5 + 2 + 14) + 500, "{octets} octets");
}

#[test]
fn a_transfer_stays_what_it_was_while_the_zone_goes_on_and_when_it_is_gone() {
    let mut past = Past::new(100);
    past.commit((0..9000).map(|number| addresses(&format!("h{number}.svc.z."), 1)));
    let expected = sorted(records_of(past.newest()));
    let snapshot = past.newest().clone();
    let mut outgoing = Asked::default().outgoing(Body::whole(&snapshot));
    let (mut messages, mut out) = (Vec::new(), Vec::new());
    while outgoing.message(NOW, &mut out) {
        messages.push(Message::from_vec(&out).unwrap());
        let number = messages.len();
        past.commit((0..2000).map(|other| addresses(&format!("h{}.svc.z.", other * number % 9000), 2)));
        if number == 2 {
            past = Past::new(5);
        }
    }
    messages.push(Message::from_vec(&out).unwrap());
    assert!(messages.len() > 3);
    assert_eq!(sorted(between_soas(&answers(messages), &snapshot)), expected);
}

#[test]
fn a_zone_with_an_apex_alone_and_empty_non_terminals() {
    let apex = Past::new(100);
    // NS is made of the primary.
    let records = answers(Asked::default().messages(Body::whole(apex.newest())));
    assert_eq!(sorted(between_soas(&records, apex.newest())), sorted(records_of(apex.newest())));
    let deep = zone_of(&Universe::new("svc.z."), [addresses("a.very.deep.name.svc.z.", 1)]);
    assert!(deep.snapshot().node(b"\x04name\x03svc\x01z\x00").unwrap().is_empty());
    let records = answers(Asked::default().messages(Body::whole(deep.snapshot())));
    let addresses: Vec<_> = records.iter().filter(|record| record.record_type() == WireType::A).collect();
    assert_eq!(addresses.len(), 1);
    assert!(
        records.iter().all(
            |record| ["a.very.deep.name.svc.z.", "svc.z."].contains(&&*record.name.to_ascii().to_ascii_lowercase())
        )
    );
}

#[test]
fn who_is_not_behind_gets_the_soa_alone_and_who_is_in_no_order_gets_everything() {
    let mut past = Past::new(1000);
    for number in 1..5 {
        past.commit([addresses("h.svc.z.", number)]);
    }
    assert_eq!(past.newest().epoch, Epoch(1004));
    for newer in [1004, 1005, 1004 + (1 << 31) - 1] {
        let body = past.since(newer);
        assert!(matches!(body, Body::Current(_)), "{newer}");
        let outgoing = Asked::default().outgoing(past.since(newer));
        assert_eq!((outgoing.form(), outgoing.is_whole(), outgoing.serial().0), ("current", false, 1004));
        assert_eq!(answers(Asked::default().messages(body)), [theirs(&past.newest().soa())]);
    }
    // RFC 1982 §3.2 leaves these two without an order.
    assert!(matches!(past.since(1004 + (1 << 31)), Body::Whole { .. }));
    for (older, known) in [(1003, true), (1000, true), (999, false), (1004u32.wrapping_sub((1 << 31) - 1), false)] {
        assert_eq!(matches!(past.since(older), Body::Changes(_)), known, "{older}");
        assert_eq!(matches!(past.since(older), Body::Whole { .. }), !known, "{older}");
    }
}

#[test]
fn a_difference_larger_than_the_zone_comes_as_the_whole_zone() {
    let mut past = Past::new(1000);
    past.commit([addresses("h.svc.z.", 100)]);
    past.commit([addresses("h.svc.z.", 90)]);
    assert!(matches!(past.since(1001), Body::Changes(_)), "10 records go");
    assert!(matches!(past.since(1000), Body::Changes(_)), "90 records come to those that there were");
    past.commit([addresses("h.svc.z.", 1)]);
    assert!(matches!(past.since(1002), Body::Whole { .. }), "89 records go, and a few are left");
    assert!(matches!(past.since(1000), Body::Changes(_)), "one came in the end");
}

#[test]
fn over_udp_what_does_not_fit_is_the_soa_alone_without_tc() {
    // RFC 1995 §2 and §4.
    let mut past = Past::new(1000);
    past.commit([addresses("h.svc.z.", 100)]);
    past.commit([addresses("h.svc.z.", 90)]);
    past.commit([addresses("g.svc.z.", 20)]);
    let ask = |asked: Asked, body: Body| {
        let mut out = Vec::new();
        asked.outgoing(body).only_message(NOW, &mut out);
        answers(asked.check(&[out])).len()
    };
    // 20 new ones between four SOA records fit 512 octets.
    assert_eq!(ask(Asked::UDP, past.since(1002)), 24);
    assert_eq!(ask(Asked::UDP, past.since(1000)), 1);
    assert_eq!(ask(Asked { edns: Some(4096), ..Asked::UDP }, past.since(1000)), 1, "1232 octets at most");
    assert_eq!(ask(Asked::UDP, Body::whole(past.newest())), 1);
    assert_eq!(ask(Asked::UDP, past.since(1003)), 1);
}

#[test]
fn a_record_that_fits_no_message_ends_the_transfer() {
    // The bounds of RRsets see to it that there is none.
    let huge = static_set("h.svc.z.", RecordType(65_280), [vec![0; 65_400]]);
    let zone = zone_of(&Universe::new("svc.z."), [huge]);
    let mut outgoing = Asked { signed: true, ..Asked::default() }.outgoing(Body::whole(zone.snapshot()));
    let (mut out, mut messages) = (Vec::new(), 1);
    while outgoing.message(NOW, &mut out) {
        messages += 1;
        assert!(messages < 10, "it doesn't end");
    }
    assert!(Message::from_vec(&out).unwrap().answers.is_empty());
}
