//! Rule by rule, with messages that hickory has encoded.

mod properties;
mod signed;

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message as WireMessage, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name as WireName, RData, Record as WireRecord, RecordType as WireType};

use super::*;
use crate::base::limits::RRSET_OCTETS;
use crate::dns::edns::ExtendedError;
use crate::dns::messages::{self, name};
use crate::dns::wire::Malformed;
use crate::zone::Delta;
use crate::zone::Rrset;

const NOW: Wall = Wall(1_800_000_000_000);
const ID: u16 = 7;
const IXFR: Asked = Asked::Ixfr { serial: Serial(5) };

fn soa(serial: u32) -> String {
    format!("z.test. 300 SOA ns.z.test. h.z.test. {serial} 1 2 3 4")
}

/// A record as our side has it, of `owner ttl TYPE data…`.
fn record(text: &str) -> Record {
    let words: Vec<&str> = text.splitn(4, ' ').collect();
    let rtype = words[2].parse().unwrap();
    let rdata = messages::rdata(rtype, words[3]).into();
    Record { owner: name(words[0]), rtype, ttl: Ttl(words[1].parse().unwrap()), rdata }
}

/// The same as hickory has it.
fn wire_record(text: &str) -> WireRecord {
    let words: Vec<&str> = text.splitn(4, ' ').collect();
    let rdata = RData::try_from_str(words[2].parse().unwrap(), words[3]).unwrap();
    WireRecord::from_rdata(WireName::from_ascii(words[0]).unwrap(), words[1].parse().unwrap(), rdata)
}

/// A message of the answer to a question of this type, before a test changes it.
fn message<T: AsRef<str>>(qtype: WireType, records: &[T], change: impl FnOnce(&mut WireMessage)) -> Vec<u8> {
    let mut message = WireMessage::new(ID, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(WireName::from_ascii("Z.Test.").unwrap(), qtype));
    message.add_answers(records.iter().map(|text| wire_record(text.as_ref())));
    change(&mut message);
    message.to_vec().unwrap()
}

fn qtype(asked: Asked) -> WireType {
    if asked == Asked::Axfr { WireType::AXFR } else { WireType::IXFR }
}

fn incoming(asked: Asked) -> Incoming {
    Incoming::new(name("z.test."), ID, asked, None, Bounds::default())
}

/// What comes of messages with these records: the first result that is not `More`, or else what is missing.
fn take<T: AsRef<str>>(asked: Asked, stream: &[&[T]]) -> Result<Transferred, TransferError> {
    let messages: Vec<_> = stream.iter().map(|records| message(qtype(asked), records, |_| {})).collect();
    take_octets(&mut incoming(asked), &messages)
}

fn take_octets(incoming: &mut Incoming, messages: &[Vec<u8>]) -> Result<Transferred, TransferError> {
    for (at, message) in messages.iter().enumerate() {
        if let Progress::Done(transferred) = incoming.take(message, NOW)? {
            assert_eq!(at + 1, messages.len(), "done before the last message");
            assert_eq!(incoming.cut_short(), None);
            return Ok(transferred);
        }
    }
    Err(incoming.cut_short().expect("neither a result nor an error yet"))
}

fn take_changed(asked: Asked, change: impl FnOnce(&mut WireMessage)) -> Result<Transferred, TransferError> {
    take_octets(&mut incoming(asked), &[message(qtype(asked), &[soa(9), soa(9)], change)])
}

/// The nodes of records that are grouped and sorted already.
fn nodes(groups: &[&[&str]]) -> Vec<StaticNode> {
    let rrset = |texts: &&[&str]| {
        let records: Vec<Record> = texts.iter().map(|text| record(text)).collect();
        let rrset = Rrset {
            rtype: records[0].rtype,
            ttl: records[0].ttl,
            rdatas: records.iter().map(|record| record.rdata.clone()).collect(),
        };
        (records[0].owner.clone(), rrset)
    };
    let mut nodes: Vec<StaticNode> = Vec::new();
    for (name, rrset) in groups.iter().map(rrset) {
        match nodes.last_mut().filter(|node| node.name == name) {
            Some(node) => node.rrsets.push(rrset),
            None => nodes.push(StaticNode { name, rrsets: vec![rrset] }),
        }
    }
    nodes
}

fn whole(serial: u32, groups: &[&[&str]]) -> Result<Transferred, TransferError> {
    Ok(Transferred::Whole(WholeZone { soa: record(&soa(serial)), nodes: nodes(groups) }))
}

fn difference(from: u32, to: u32, removed: &[&str], added: &[&str]) -> Difference {
    let records = |texts: &[&str]| texts.iter().map(|text| record(text)).collect();
    let delta = Delta { removed: records(removed), added: records(added) };
    Difference { from: record(&soa(from)), to: record(&soa(to)), delta }
}

/// RFC 7314 §3.1: the option without data.
fn asks_for_expire(message: &WireMessage) -> bool {
    let option = message.edns.as_ref().and_then(|edns| edns.option(9.into()));
    matches!(option, Some(EdnsOption::Unknown(9, data)) if data.is_empty())
}

#[test]
fn questions_are_as_another_implementation_reads_them() {
    let request = Request::axfr(name("z.test."), ID);
    let axfr = WireMessage::from_vec(&request.octets()).unwrap();
    assert_eq!(request.asked(), Asked::Axfr);
    assert_eq!(axfr.queries, [Query::query(WireName::from_ascii("z.test.").unwrap(), WireType::AXFR)]);
    assert!(axfr.answers.is_empty() && axfr.authorities.is_empty());
    assert!(asks_for_expire(&axfr));
    assert_eq!((axfr.metadata.id, axfr.metadata.op_code), (ID, OpCode::Query));
    assert!(axfr.metadata.message_type == MessageType::Query && !axfr.metadata.recursion_desired);

    let request = Request::ixfr(name("z.test."), ID, record(&soa(5))).unwrap();
    let ixfr = WireMessage::from_vec(&request.octets()).unwrap();
    assert_eq!(request.asked(), IXFR);
    assert_eq!(ixfr.queries, [Query::query(WireName::from_ascii("z.test.").unwrap(), WireType::IXFR)]);
    assert_eq!(ixfr.authorities, [wire_record(&soa(5))]);
    assert!(asks_for_expire(&ixfr));
    assert!(Request::ixfr(name("z.test."), ID, record("z.test. 5 NS ns.z.test.")).is_none());
}

#[test]
fn a_zone_comes_in_one_message_or_a_record_a_message() {
    let texts = [
        soa(9),
        "z.test. 300 NS NS.z.test.".to_owned(),
        "A.z.test. 60 TXT hello".to_owned(),
        "z.test. 300 NS another.test.".to_owned(),
        "a.Z.test. 60 A 192.0.2.1".to_owned(),
        "_x._tcp.z.test. 5 SRV 0 0 80 a.z.TEST.".to_owned(),
        soa(9),
    ];
    let expected = whole(
        9,
        &[
            &["z.test. 300 NS ns.z.test.", "z.test. 300 NS another.test."],
            &["a.z.test. 60 A 192.0.2.1"],
            &["a.z.test. 60 TXT hello"],
            &["_x._tcp.z.test. 5 SRV 0 0 80 a.z.test."],
        ],
    );
    for asked in [Asked::Axfr, IXFR] {
        assert_eq!(take(asked, &[&texts]), expected);
        assert_eq!(take(asked, &[&texts[..3], &texts[3..]]), expected);
        let single: Vec<&[String]> = texts.chunks(1).collect();
        assert_eq!(take(asked, &single), expected, "a lone SOA record that is newer waits for more");
        assert_eq!(take(asked, &[&[soa(9), soa(9)]]), whole(9, &[]), "a zone may be as good as empty");
    }
}

#[test]
fn the_question_is_due_in_the_first_message_only() {
    // RFC 5936 §2.2.2.
    let texts = [soa(9), soa(9)];
    let bare = |texts| message(WireType::AXFR, texts, |message| message.queries.clear());
    let first = message(WireType::AXFR, &texts[..1], |_| {});
    assert_eq!(take_octets(&mut incoming(Asked::Axfr), &[first, bare(&texts[1..])]), whole(9, &[]));
    let none = TransferError::OtherAnswer("its first message has no question");
    assert_eq!(take_octets(&mut incoming(Asked::Axfr), &[bare(&texts)]), Err(none));
}

#[test]
fn what_answers_another_question_is_an_error() {
    let other = |what| Err(TransferError::OtherAnswer(what));
    assert_eq!(take_changed(Asked::Axfr, |message| message.metadata.id += 1), other("its id is another"));
    let request = |message: &mut WireMessage| message.metadata.message_type = MessageType::Query;
    assert_eq!(take_changed(Asked::Axfr, request), other("it is a request"));
    let notify = |message: &mut WireMessage| message.metadata.op_code = OpCode::Notify;
    assert_eq!(take_changed(Asked::Axfr, notify), other("its opcode is another"));
    for (owner, qtype, class) in [
        ("y.test.", WireType::AXFR, DNSClass::IN),
        ("z.test.", WireType::IXFR, DNSClass::IN),
        ("z.test.", WireType::AXFR, DNSClass::CH),
    ] {
        let mut question = Query::query(WireName::from_ascii(owner).unwrap(), qtype);
        question.set_query_class(class);
        let asked = |message: &mut WireMessage| message.queries = vec![question];
        assert_eq!(take_changed(Asked::Axfr, asked), other("its question is another"));
    }
    let two = |message: &mut WireMessage| message.queries.push(message.queries[0].clone());
    assert!(matches!(take_changed(Asked::Axfr, two), Err(TransferError::Malformed(_))));
    let cut = |message: &mut WireMessage| message.metadata.truncation = true;
    assert_eq!(take_changed(Asked::Axfr, cut), Err(TransferError::Truncated));
    // AA, RD, RA, AD and CD mean nothing here.
    let flags = |message: &mut WireMessage| message.metadata.recursion_available = true;
    assert_eq!(take_changed(Asked::Axfr, flags), whole(9, &[]));
}

#[test]
fn an_rcode_ends_it_in_any_message_and_says_why() {
    let refuse = |message: &mut WireMessage| {
        message.metadata.response_code = ResponseCode::Refused;
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Unknown(15, b"\x00\x12not\nyou\0".to_vec()));
        message.edns = Some(edns);
    };
    let error = take_changed(Asked::Axfr, refuse).unwrap_err();
    let reason = Some(ExtendedError::new(ExtendedError::PROHIBITED, "not\nyou"));
    assert_eq!(error, TransferError::Refused { rcode: Rcode::REFUSED, reason });
    let text =
        "the primary answers REFUSED (extended error 18, \"not\\nyou\"): allow this server's address or key there";
    assert_eq!(error.to_string(), text);
    assert!(!error.suggests_axfr());

    let fail = |message: &mut WireMessage| message.metadata.response_code = ResponseCode::ServFail;
    let messages = [message(WireType::AXFR, &[soa(9)], |_| {}), message(WireType::AXFR, &[soa(9)], fail)];
    let failed = Err(TransferError::Refused { rcode: Rcode::SERVFAIL, reason: None });
    assert_eq!(take_octets(&mut incoming(Asked::Axfr), &messages), failed);

    // A server that couldn't read the question answers with a header.
    let header = vec![0, 7, 0x80, 4, 0, 0, 0, 0, 0, 0, 0, 0];
    let error = take_octets(&mut incoming(IXFR), &[header]).unwrap_err();
    assert_eq!(error, TransferError::Refused { rcode: Rcode::NOTIMP, reason: None });
    assert!(error.suggests_axfr());

    let version = |message: &mut WireMessage| {
        message.metadata.response_code = ResponseCode::BADVERS;
        message.edns = Some(Edns::new());
    };
    let refused = Err(TransferError::Refused { rcode: Rcode::BADVERS, reason: None });
    assert_eq!(take_changed(Asked::Axfr, version), refused);
}

#[test]
fn an_answer_begins_with_the_soa_record_of_the_zone() {
    for records in [vec![], vec!["z.test. 5 NS ns.z.test.".to_owned(), soa(9)], vec![soa(9).replace("z.t", "y.t")]] {
        assert_eq!(take(Asked::Axfr, &[&records]), Err(TransferError::NoSoa), "{records:?}");
        assert_eq!(take(IXFR, &[&records]), Err(TransferError::NoSoa), "{records:?}");
    }
}

#[test]
fn an_answer_ends_with_the_soa_record_that_it_began_with() {
    // RFC 5936 §2.2.
    let changed = TransferError::SoaChanged { first: Serial(9), last: Serial(10) };
    assert_eq!(take(Asked::Axfr, &[&[soa(9), soa(10)]]), Err(changed.clone()));
    let address = "a.z.test. 5 A 192.0.2.1".to_owned();
    assert_eq!(take(Asked::Axfr, &[&[soa(9), address.clone(), soa(10)]]), Err(changed.clone()));
    assert_eq!(take(IXFR, &[&[soa(9), address.clone(), soa(10)]]), Err(changed));
    let mut other_case = vec![soa(9), soa(9).replace("ns.z", "NS.Z").replace(" 300 ", " 5 ")];
    assert_eq!(take(Asked::Axfr, &[&other_case]), whole(9, &[]), "neither case nor TTL matter");
    other_case[1] = soa(9).replace("h.z", "i.z");
    assert!(matches!(take(Asked::Axfr, &[&other_case]), Err(TransferError::SoaChanged { .. })));
    // What follows is an error, in the same message and in another.
    assert_eq!(take(Asked::Axfr, &[&[soa(9), soa(9), address]]), Err(TransferError::AfterEnd));
    let (mut incoming, octets) = (incoming(Asked::Axfr), message(WireType::AXFR, &[soa(9), soa(9)], |_| {}));
    assert!(matches!(incoming.take(&octets, NOW), Ok(Progress::Done(_))));
    assert_eq!(incoming.take(&octets, NOW), Err(TransferError::AfterEnd));
}

#[test]
fn records_outside_of_the_zone_are_left_out_and_counted() {
    let stream = [
        soa(9),
        "y.test. 5 A 192.0.2.1".to_owned(),
        "xz.test. 5 A 192.0.2.1".to_owned(),
        "a.z.test. 5 A 192.0.2.1".to_owned(),
        soa(3).replace("z.test. 300", "test. 300"),
        soa(9),
    ];
    let mut incoming = incoming(Asked::Axfr);
    let octets = message(WireType::AXFR, &stream, |message| {
        // Other sections are not looked at (RFC 5936 §2.2.4 and §2.2.5).
        message.add_authority(wire_record("b.z.test. 5 A 192.0.2.1"));
        message.add_additional(wire_record("c.z.test. 5 A 192.0.2.1"));
        message.edns = Some(Edns::new());
    });
    assert_eq!(take_octets(&mut incoming, &[octets]), whole(9, &[&["a.z.test. 5 A 192.0.2.1"]]));
    let tally = incoming.tally();
    assert_eq!((tally.messages, tally.records, tally.outside), (1, 6, 3));
}

#[test]
fn records_that_no_zone_has_are_errors() {
    let with = |text: &str| take(Asked::Axfr, &[&[soa(9), text.to_owned()]]);
    let misplaced = Err(TransferError::MisplacedSoa(name("a.z.test.")));
    assert_eq!(with("a.z.test. 300 SOA ns.z.test. h.z.test. 9 1 2 3 4"), misplaced);
    let class = take_changed(Asked::Axfr, |message| message.answers[1].dns_class = DNSClass::CH);
    let no_record = TransferError::NoZoneRecord { owner: name("z.test."), rtype: RecordType::SOA, class: 3 };
    assert_eq!(class, Err(no_record));
    let unknown = |code: u16, data: &[u8]| {
        let rdata = hickory_proto::rr::rdata::NULL::with(data.to_vec());
        let rdata = RData::Unknown { code: code.into(), rdata };
        take_changed(Asked::Axfr, |message| message.answers[1].data = rdata)
    };
    let no_record = TransferError::NoZoneRecord { owner: name("z.test."), rtype: RecordType::AXFR, class: 1 };
    assert_eq!(unknown(252, &[0]), Err(no_record));
    let cause = Malformed("record data have the wrong length for their type");
    let short = TransferError::BadData { owner: name("z.test."), rtype: RecordType::A, cause };
    assert_eq!(unknown(1, &[192, 0, 2]), Err(short));
    assert!(matches!(unknown(41, &[0, 10, 0, 0]), Err(TransferError::Malformed(_))), "OPT among the answers");
}

#[test]
fn duplicates_are_dropped_and_a_set_takes_its_smallest_ttl() {
    // RFC 5936 §2.2, RFC 2181 §5.2 and §8.
    let stream = [
        soa(9),
        "a.z.test. 60 A 192.0.2.2".to_owned(),
        "b.z.test. 4000000000 A 192.0.2.1".to_owned(),
        "a.z.test. 30 A 192.0.2.1".to_owned(),
        "A.z.test. 90 A 192.0.2.2".to_owned(),
        soa(9),
    ];
    let expected: &[&[&str]] =
        &[&["a.z.test. 30 A 192.0.2.1", "a.z.test. 30 A 192.0.2.2"], &["b.z.test. 0 A 192.0.2.1"]];
    assert_eq!(take(Asked::Axfr, &[&stream]), whole(9, expected));
}

#[test]
fn limits_are_errors() {
    let stream = [soa(9), "a.z.test. 60 A 192.0.2.2".to_owned(), "y.test. 60 A 192.0.2.2".to_owned(), soa(9)];
    let octets = message(WireType::AXFR, &stream, |_| {});
    let bounded = |records, octets| Incoming::new(name("z.test."), ID, Asked::Axfr, None, Bounds { records, octets });
    let used = 2 * record(&soa(9)).rdata.len() as u64 + 10 + 4;
    assert!(bounded(4, used).take(&octets, NOW).is_ok());
    assert_eq!(bounded(3, used).take(&octets, NOW), Err(TransferError::TooManyRecords(3)));
    assert_eq!(bounded(4, used - 1).take(&octets, NOW), Err(TransferError::TooManyOctets(used - 1)));
    // Messages without records end too.
    let (mut incoming, empty) = (bounded(3, used), message::<&str>(WireType::AXFR, &[], |_| {}));
    let first = message(WireType::AXFR, &[soa(9)], |_| {});
    let results = [&first, &empty, &empty, &empty].map(|octets| incoming.take(octets, NOW));
    assert_eq!(results[2..], [Ok(Progress::More), Err(TransferError::TooManyRecords(3))]);

    let address = |number: usize| Ipv4Addr::from(u32::try_from(number).unwrap());
    let fits = RRSET_OCTETS / (12 + 4);
    for count in [fits, fits + 1] {
        let set = (0..count).map(|number| format!("a.z.test. 60 A {}", address(number)));
        let stream: Vec<String> = [soa(9)].into_iter().chain(set).chain([soa(9)]).collect();
        let chunks: Vec<&[String]> = stream.chunks(1000).collect();
        let changes: Vec<String> = [soa(9), soa(5), soa(9)].iter().chain(&stream[1..]).cloned().collect();
        let changes: Vec<&[String]> = changes.chunks(1000).collect();
        let (owner, rtype, octets) = (name("a.z.test."), RecordType::A, count * 16);
        let too_large = TransferError::RrsetTooLarge { owner, rtype, octets, limit: RRSET_OCTETS };
        for result in [take(Asked::Axfr, &chunks), take(IXFR, &changes)] {
            assert_eq!(result.err(), (count > fits).then(|| too_large.clone()));
        }
    }
}

#[test]
fn nothing_changed_where_the_serial_is_ours_or_older() {
    for serial in [5, 4, 0, u32::MAX, 0x8000_0006] {
        assert_eq!(take(IXFR, &[&[soa(serial)]]), Ok(Transferred::Current(record(&soa(serial)))), "{serial}");
    }
    let no_order = TransferError::NoOrder { ours: Serial(5), theirs: Serial(0x8000_0005) };
    assert_eq!(take(IXFR, &[&[soa(0x8000_0005)]]), Err(no_order));
    for serial in [6, 0x8000_0004] {
        let refuses = TransferError::RefusesToSend { ours: Serial(5), theirs: Serial(serial) };
        assert_eq!(take(IXFR, &[&[soa(serial)]]), Err(refuses.clone()));
        assert!(refuses.suggests_axfr());
    }
    // Across the wrap.
    let asked = Asked::Ixfr { serial: Serial(u32::MAX) };
    let refuses = TransferError::RefusesToSend { ours: Serial(u32::MAX), theirs: Serial(0) };
    assert_eq!(take(asked, &[&[soa(0)]]), Err(refuses));
    assert_eq!(take(asked, &[&[soa(u32::MAX - 1)]]), Ok(Transferred::Current(record(&soa(u32::MAX - 1)))));
    // A whole zone is one whatever its serial: whoever asked decides.
    assert_eq!(take(IXFR, &[&[soa(4), soa(4)]]), whole(4, &[]));
}

#[test]
fn changes_come_in_order_and_condensed_ones_look_the_same() {
    let [a, b, c] = ["a.z.test. 5 A 192.0.2.1", "b.z.test. 5 A 192.0.2.2", "c.z.test. 5 A 192.0.2.3"];
    let texts = [soa(9), soa(5), a.into(), soa(6), b.into(), soa(6), soa(9), b.into(), c.into(), soa(9)];
    let expected = Ok(Transferred::Changes(vec![difference(5, 6, &[a], &[b]), difference(6, 9, &[], &[b, c])]));
    assert_eq!(take(IXFR, &[&texts]), expected);
    let single: Vec<&[String]> = texts.chunks(1).collect();
    assert_eq!(take(IXFR, &single), expected);
    let condensed = [soa(9), soa(5), a.into(), soa(9), c.into(), soa(9)];
    assert_eq!(take(IXFR, &[&condensed]), Ok(Transferred::Changes(vec![difference(5, 9, &[a], &[c])])));
    let only_soa = [soa(9), soa(5), soa(9), soa(9)];
    assert_eq!(take(IXFR, &[&only_soa]), Ok(Transferred::Changes(vec![difference(5, 9, &[], &[])])));
    // Across the wrap.
    let asked = Asked::Ixfr { serial: Serial(u32::MAX) };
    let wrapping = [soa(1), soa(u32::MAX), a.into(), soa(0), b.into(), soa(0), soa(1), c.into(), soa(1)];
    let expected = vec![difference(u32::MAX, 0, &[a], &[b]), difference(0, 1, &[], &[c])];
    assert_eq!(take(asked, &[&wrapping]), Ok(Transferred::Changes(expected)));
}

#[test]
fn a_chain_that_does_not_hold_is_an_error() {
    let broken = |expected, found| TransferError::Broken { expected: Serial(expected), found: Serial(found) };
    let backwards = |from, to| TransferError::Backwards { from: Serial(from), to: Serial(to) };
    let a = || "a.z.test. 5 A 192.0.2.1".to_owned();
    for (texts, error) in [
        // It begins elsewhere.
        (vec![soa(9), soa(6), soa(9), soa(9)], broken(5, 6)),
        // A gap.
        (vec![soa(9), soa(5), soa(6), soa(7), soa(9), soa(9)], broken(6, 7)),
        // It ends early.
        (vec![soa(9), soa(5), a(), soa(6), a(), soa(9)], broken(6, 9)),
        // It leads backwards, or to where it was.
        (vec![soa(9), soa(5), soa(4)], backwards(5, 4)),
        (vec![soa(9), soa(5), soa(5)], backwards(5, 5)),
        (vec![soa(9), soa(5), soa(0x8000_0005)], backwards(5, 0x8000_0005)),
        // It leads beyond the end, and there is no way back.
        (vec![soa(9), soa(5), soa(10), soa(10), soa(9)], backwards(10, 9)),
        // To something older than ours.
        (vec![soa(4), soa(5), soa(4), soa(4)], backwards(5, 4)),
        // Past the end.
        (vec![soa(9), soa(5), soa(9), soa(10)], TransferError::SoaChanged { first: Serial(9), last: Serial(10) }),
    ] {
        assert_eq!(take(IXFR, &[&texts]), Err(error.clone()), "{texts:?}");
        assert!(error.suggests_axfr());
    }
    // The last serial with other data.
    let other = vec![soa(9), soa(5), soa(9).replace("h.z", "i.z"), soa(9)];
    assert!(matches!(take(IXFR, &[&other]), Err(TransferError::SoaChanged { .. })));
}

#[test]
fn a_stream_that_stops_says_what_is_missing() {
    let a = || "a.z.test. 5 A 192.0.2.1".to_owned();
    let nothing: [&[String]; 0] = [];
    let cut = |missing, records| Err(TransferError::CutShort { missing, records });
    assert_eq!(take(Asked::Axfr, &nothing), cut(Missing::Everything, 0));
    assert_eq!(take(Asked::Axfr, &[&[soa(9)]]), cut(Missing::Records, 1));
    assert_eq!(take(Asked::Axfr, &[&[soa(9), a()]]), cut(Missing::LastSoa, 2));
    assert_eq!(take(IXFR, &[&[soa(9), a()]]), cut(Missing::LastSoa, 2));
    assert_eq!(take(IXFR, &[&[soa(9), soa(5), a()]]), cut(Missing::Change(Serial(5)), 3));
    assert_eq!(take(IXFR, &[&[soa(9), soa(5), soa(9)]]), cut(Missing::AfterChange(Serial(9)), 3));
    let text =
        "the transfer stopped behind 2 records: the SOA record that ends the zone is missing; it can be tried again";
    assert_eq!(take(IXFR, &[&[soa(9), a()]]).unwrap_err().to_string(), text);
}
