//! The one encoder of records: whoever puts a record into a message does it with [`Encoder`].
//!
//! Names are compressed against the question and against names written before (RFC 1035 §4.1.4). Which names may be
//! compressed stands in the schema of record data; the target of SRV is not (RFC 2782; several clients refuse it), but
//! later owners point to it. Everything is encoded for the lower-case question at offset 12, so that the same octets fit
//! behind the question of any client, whatever case it wrote.

use std::collections::HashMap;

use crate::base::{Name, RecordType, Ttl};
use crate::zone::records::schema::{self, Field};

/// Octets of a message header.
pub const HEADER: usize = 12;
/// Offsets beyond this can't be pointed to.
const POINTER_REACH: usize = 0x3fff;
/// The compression pointer to the question name.
pub const QUESTION_POINTER: u16 = 0xc000 | 12;

/// Writes records behind a question.
#[derive(Debug)]
pub struct Encoder {
    /// What was written, from `base` on.
    tail: Vec<u8>,
    /// Where `tail` starts in the message.
    base: usize,
    /// Offsets of names and their suffixes in the message.
    known: HashMap<Box<[u8]>, u16, foldhash::fast::RandomState>,
}

impl Encoder {
    /// An encoder for the sections behind a single question for `name`.
    pub fn after_question(name: &Name) -> Encoder {
        let mut encoder =
            Encoder { tail: Vec::new(), base: HEADER + name.as_wire().len() + 4, known: HashMap::default() };
        encoder.learn(name.as_wire(), HEADER);
        encoder
    }

    /// How much was written.
    pub fn len(&self) -> usize {
        self.tail.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.tail.is_empty()
    }

    /// Takes back what was written behind `len`. Names that were learned there are forgotten.
    pub fn truncate(&mut self, len: usize) {
        self.tail.truncate(len);
        let end = self.base + len;
        self.known.retain(|_, offset| usize::from(*offset) < end);
    }

    /// Begins the next message behind the same question.
    pub fn restart(&mut self) {
        self.truncate(0);
    }

    /// What was written.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Writes one record, if the message has at most `limit` octets then; else nothing.
    pub fn try_record(&mut self, owner: &[u8], rtype: RecordType, ttl: Ttl, rdata: &[u8], limit: usize) -> bool {
        let before = self.len();
        self.record(owner, rtype, ttl, rdata);
        let fits = self.base + self.len() <= limit;
        if !fits {
            self.truncate(before);
        }
        fits
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.tail
    }

    /// Writes one record of class IN.
    pub fn record(&mut self, owner: &[u8], rtype: RecordType, ttl: Ttl, rdata: &[u8]) {
        self.name(owner, true);
        self.tail.extend_from_slice(&rtype.0.to_be_bytes());
        self.tail.extend_from_slice(&[0, 1]);
        self.tail.extend_from_slice(&ttl.0.to_be_bytes());
        let length_at = self.tail.len();
        self.tail.extend_from_slice(&[0, 0]);
        if matches!(schema::fields(rtype), [Field::Rest] | [Field::Fixed(_)] | [Field::CharStrings]) {
            self.tail.extend_from_slice(rdata);
        } else {
            let fields = schema::walk(rtype, rdata, |field, at, len| {
                let octets = &rdata[at..at + len];
                match field {
                    Field::CompressibleName => self.name(octets, true),
                    Field::PlainName => self.name(octets, false),
                    _ => self.tail.extend_from_slice(octets),
                }
            });
            debug_assert!(fields.is_ok(), "record data are checked before they get into a zone");
        }
        let length = self.tail.len() - length_at - 2;
        let length = u16::try_from(length).expect("record data are at most 65535 octets").to_be_bytes();
        self.tail[length_at..length_at + 2].copy_from_slice(&length);
    }

    fn name(&mut self, wire: &[u8], compress: bool) {
        let at = self.base + self.tail.len();
        if !compress {
            self.tail.extend_from_slice(wire);
            self.learn(wire, at);
            return;
        }
        let mut rest = wire;
        while rest[0] != 0 {
            if let Some(&offset) = self.known.get(rest) {
                self.tail.extend_from_slice(&wire[..wire.len() - rest.len()]);
                self.tail.extend_from_slice(&(0xc000 | offset).to_be_bytes());
                self.learn(wire, at);
                return;
            }
            rest = &rest[usize::from(rest[0]) + 1..];
        }
        self.tail.extend_from_slice(wire);
        self.learn(wire, at);
    }

    /// Notes where a name and its suffixes stand, if a pointer reaches there and they aren't known yet. Stops at the first
    /// suffix that is known: the shorter ones are then, too.
    fn learn(&mut self, wire: &[u8], at: usize) {
        let mut skip = 0;
        while wire[skip] != 0 && at + skip <= POINTER_REACH && !self.known.contains_key(&wire[skip..]) {
            let offset = u16::try_from(at + skip).expect("within reach of a pointer");
            self.known.insert(wire[skip..].into(), offset);
            skip += usize::from(wire[skip]) + 1;
        }
    }
}

/// Writes a record whose owner is the question name and whose data hold no name that could be compressed: what the
/// encoder would write, without its bookkeeping.
pub fn plain_record(out: &mut Vec<u8>, rtype: RecordType, ttl: Ttl, rdata: &[u8]) {
    out.extend_from_slice(&QUESTION_POINTER.to_be_bytes());
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&ttl.0.to_be_bytes());
    out.extend_from_slice(&u16::try_from(rdata.len()).expect("record data are at most 65535 octets").to_be_bytes());
    out.extend_from_slice(rdata);
}

/// Whether data of this type can be written by [`plain_record`].
pub fn is_plain(rtype: RecordType) -> bool {
    schema::fields(rtype).iter().all(|field| !matches!(field, Field::CompressibleName | Field::PlainName))
}
