//! What an encoder writes, held against a plain one with a map of owned names, and read by a reader of its own.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::base::{Name, RecordType, Ttl};
use crate::zone::records::schema::{self, Field};

use super::{Encoder, HEADER};

/// The encoder as the rules say it, without any regard for cost.
struct Reference {
    tail: Vec<u8>,
    base: usize,
    known: HashMap<Vec<u8>, usize>,
}

impl Reference {
    fn new(question: &Name) -> Reference {
        let base = HEADER + question.as_wire().len() + 4;
        let mut reference = Reference { tail: Vec::new(), base, known: HashMap::new() };
        reference.learn(question.as_wire(), HEADER);
        reference
    }

    fn truncate(&mut self, len: usize) {
        self.tail.truncate(len);
        let end = self.base + len;
        self.known.retain(|_, offset| *offset < end);
    }

    fn record(&mut self, record: &Record) {
        self.name(record.owner.as_wire(), true);
        self.tail.extend_from_slice(&record.rtype.0.to_be_bytes());
        self.tail.extend_from_slice(&[0, 1]);
        self.tail.extend_from_slice(&record.ttl.0.to_be_bytes());
        let length_at = self.tail.len();
        self.tail.extend_from_slice(&[0, 0]);
        schema::walk(record.rtype, &record.rdata, |field, at, len| {
            let octets = &record.rdata[at..at + len];
            match field {
                Field::CompressibleName => self.name(octets, true),
                Field::PlainName => self.name(octets, false),
                _ => self.tail.extend_from_slice(octets),
            }
        })
        .unwrap();
        let length = u16::try_from(self.tail.len() - length_at - 2).unwrap().to_be_bytes();
        self.tail[length_at..length_at + 2].copy_from_slice(&length);
    }

    fn name(&mut self, wire: &[u8], compress: bool) {
        let at = self.base + self.tail.len();
        let known = suffixes(wire).find_map(|skip| Some((skip, *self.known.get(&wire[skip..])?)));
        match known.filter(|_| compress) {
            Some((skip, offset)) => {
                self.tail.extend_from_slice(&wire[..skip]);
                self.tail.extend_from_slice(&u16::try_from(0xc000 | offset).unwrap().to_be_bytes());
            }
            None => self.tail.extend_from_slice(wire),
        }
        self.learn(wire, at);
    }

    fn learn(&mut self, wire: &[u8], at: usize) {
        for skip in suffixes(wire) {
            if at + skip > 0x3fff || self.known.contains_key(&wire[skip..]) {
                return;
            }
            self.known.insert(wire[skip..].to_vec(), at + skip);
        }
    }
}

/// Where the labels of a name start, the root aside.
fn suffixes(wire: &[u8]) -> impl Iterator<Item = usize> {
    let after = |at: usize| at + usize::from(wire[at]) + 1;
    std::iter::successors(Some(0), move |at| Some(after(*at))).take_while(|at| wire[*at] != 0)
}

#[derive(Clone, Debug)]
struct Record {
    owner: Name,
    rtype: RecordType,
    ttl: Ttl,
    rdata: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Record(Record),
    /// A record for which there may be some octets too few.
    Try(Record, usize),
    /// The same for the owner of the last one.
    Further(Record, usize),
    /// Back to where one of the records ends.
    Truncate(Index),
    Restart,
}

fn name() -> impl Strategy<Value = Name> {
    let label = select(vec!["a", "b", "ab", "ba", "aaa", "_tcp", "i-1", "i-2", "a23456789012345678901234567890"]);
    let usual = prop::collection::vec(label, 0..6).prop_map(|labels| labels.join("."));
    let many = prop::collection::vec(select(vec!["a", "b"]), 100..128).prop_map(|labels| labels.join("."));
    prop_oneof![30 => usual, 1 => many].prop_map(|text| Name::parse(&format!("{text}."), None).unwrap_or(Name::root()))
}

fn record() -> impl Strategy<Value = Record> {
    let types = [
        RecordType::A,
        RecordType::AAAA,
        RecordType::NS,
        RecordType::SOA,
        RecordType::MX,
        RecordType::MINFO,
        RecordType::TXT,
        RecordType::HINFO,
        RecordType::SRV,
        RecordType::RP,
        RecordType::NAPTR,
        RecordType::HTTPS,
        RecordType(65_280),
    ];
    let rest = prop_oneof![8 => 0..8usize, 1 => 2000..5000usize];
    (name(), select(types.to_vec()), any::<u32>(), [name(), name()], rest).prop_map(
        |(owner, rtype, ttl, names, rest)| {
            let mut names = names.iter();
            let mut rdata = Vec::new();
            for field in schema::fields(rtype) {
                match field {
                    Field::Fixed(len) => rdata.extend(std::iter::repeat_n(0xc0, *len)),
                    Field::CompressibleName | Field::PlainName => {
                        rdata.extend_from_slice(names.next().unwrap().as_wire());
                    }
                    Field::CharString => rdata.extend_from_slice(b"\x02ab"),
                    Field::CharStrings => rdata.extend(std::iter::repeat_n(*b"\x03a\x01b", rest / 4 + 1).flatten()),
                    Field::Rest => rdata.extend(std::iter::repeat_n(1, rest)),
                }
            }
            Record { owner, rtype, ttl: Ttl(ttl), rdata }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => record().prop_map(Step::Record),
        5 => (record(), 0..60usize).prop_map(|(record, missing)| Step::Try(record, missing)),
        20 => (record(), prop_oneof![4 => Just(0), 1 => 0..60usize])
            .prop_map(|(record, missing)| Step::Further(record, missing)),
        3 => any::<Index>().prop_map(Step::Truncate),
        1 => Just(Step::Restart),
    ]
}

/// Reads a name; the second is where the reader goes on.
fn read_name(message: &[u8], mut at: usize) -> (Vec<u8>, usize) {
    let mut wire = Vec::new();
    let mut next = None;
    loop {
        let len = usize::from(message[at]);
        if len >= 0xc0 {
            let target = (len & 0x3f) << 8 | usize::from(message[at + 1]);
            assert!(target < at, "pointers lead back");
            next.get_or_insert(at + 2);
            at = target;
            continue;
        }
        wire.extend_from_slice(&message[at..at + len + 1]);
        at += len + 1;
        if len == 0 {
            return (wire, next.unwrap_or(at));
        }
    }
}

/// Reads a record, which must be the expected one; returns where it ends.
fn read_record(message: &[u8], at: usize, expected: &Record) -> usize {
    let (owner, at) = read_name(message, at);
    assert_eq!(owner, expected.owner.as_wire());
    let fixed = [&expected.rtype.0.to_be_bytes()[..], &[0, 1], &expected.ttl.0.to_be_bytes()].concat();
    assert_eq!(message[at..at + 8], fixed);
    let mut field_at = at + 10;
    let end = field_at + usize::from(u16::from_be_bytes([message[at + 8], message[at + 9]]));
    schema::walk(expected.rtype, &expected.rdata, |field, start, len| {
        let octets = &expected.rdata[start..start + len];
        if field == Field::CompressibleName {
            let (name, next) = read_name(message, field_at);
            assert_eq!(name, octets);
            field_at = next;
        } else {
            assert_eq!(&message[field_at..field_at + len], octets);
            field_at += len;
        }
    })
    .unwrap();
    assert_eq!(field_at, end);
    end
}

/// An encoder and the reference, with what they wrote.
struct Pair {
    encoder: Encoder,
    reference: Reference,
    question: Name,
    records: Vec<Record>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Pair {
    fn write(&mut self, record: &Record) {
        self.encoder.record(record.owner.as_wire(), record.rtype, record.ttl, &record.rdata);
        self.wrote(record);
    }

    fn wrote(&mut self, record: &Record) {
        self.reference.record(record);
        self.records.push(record.clone());
        self.ends.push(self.encoder.len());
    }

    /// Writes a record that may have too little room by some octets.
    fn attempt(
        &mut self,
        record: &Record,
        missing: usize,
        write: impl Fn(&mut Encoder, &[u8], RecordType, Ttl, &[u8], usize) -> bool,
    ) {
        let before = self.reference.tail.len();
        self.reference.record(record);
        let limit = (self.reference.base + self.reference.tail.len()).saturating_sub(missing);
        self.reference.truncate(before);
        let Record { owner, rtype, ttl, rdata } = record;
        let is_written = write(&mut self.encoder, owner.as_wire(), *rtype, *ttl, rdata, limit);
        assert_eq!(is_written, missing == 0);
        if is_written {
            self.wrote(record);
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Record(record) => self.write(record),
            Step::Further(record, missing) => {
                let Some(last) = self.records.last() else { return };
                let record = Record { owner: last.owner.clone(), ..record.clone() };
                self.attempt(&record, *missing, Encoder::try_further_record);
            }
            Step::Try(record, missing) => self.attempt(record, *missing, Encoder::try_record),
            Step::Truncate(index) => {
                let kept = index.index(self.ends.len() + 1);
                self.ends.truncate(kept);
                self.records.truncate(kept);
                let len = self.ends.last().copied().unwrap_or(0);
                self.encoder.truncate(len);
                self.reference.truncate(len);
            }
            Step::Restart => {
                self.encoder.restart();
                self.reference = Reference::new(&self.question);
                self.records.clear();
                self.ends.clear();
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.encoder.tail(), self.reference.tail);
        assert_eq!(self.encoder.len(), self.reference.tail.len());
        assert_eq!(self.encoder.is_empty(), self.records.is_empty());
    }

    fn read(&self) {
        let message = &self.encoder.message;
        let end = self.records.iter().fold(self.reference.base, |at, record| read_record(message, at, record));
        assert_eq!(end, message.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_are_encoded_as_the_reference_does_and_read_back(
        question in name(),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let encoder = Encoder::after_question(&question);
        let reference = Reference::new(&question);
        let mut pair = Pair { encoder, reference, question, records: Vec::new(), ends: Vec::new() };
        for step in &steps {
            if matches!(step, Step::Restart) {
                pair.read();
            }
            pair.take(step);
            pair.check();
        }
        pair.read();
    }
}

fn names(count: usize) -> impl Iterator<Item = Name> {
    (0..count).map(|number| Name::parse(&format!("i-{number}.x.svc.test."), None).unwrap())
}

#[test]
fn names_learned_within_reach_are_found_beyond_it_and_no_others_are() {
    let question = Name::parse("svc.test.", None).unwrap();
    let mut pair = Pair {
        encoder: Encoder::after_question(&question),
        reference: Reference::new(&question),
        question,
        records: Vec::new(),
        ends: Vec::new(),
    };
    // Twice, so that those beyond the reach come again; and once more behind a restart.
    let owners: Vec<Name> = names(1200).chain(names(1200)).collect();
    for _ in 0..2 {
        for owner in &owners {
            pair.write(&Record { owner: owner.clone(), rtype: RecordType::A, ttl: Ttl(5), rdata: vec![10, 0, 0, 1] });
        }
        pair.check();
        pair.read();
        assert!(pair.encoder.len() > 0x4000 * 2);
        pair.take(&Step::Restart);
        assert!(pair.encoder.is_empty());
    }
}
