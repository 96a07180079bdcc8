//! The one encoder of records: whoever puts a record into a message does it with [`Encoder`].
//!
//! Names are compressed against the question and against names written before (RFC 1035 §4.1.4). Which names may be
//! compressed stands in the schema of record data; the target of SRV is not (RFC 2782; several clients refuse it), but
//! later owners point to it. Everything is encoded for the lower-case question at offset 12, so that the same octets fit
//! behind the question of any client, whatever case it wrote.
//!
//! An encoder has the whole message: the head, which is a header and the question, and the tail, which is the records. The
//! tail is what is taken; whoever goes on with another message restarts the encoder.
//!
//! Cost: no allocation per name or record, and none per message after a restart.

mod known;
#[cfg(test)]
mod tests;

use foldhash::fast::RandomState;

use crate::base::{Name, RecordType, Ttl};
use crate::zone::records::schema::{self, Field};

use known::{KnownNames, POINTER_REACH};

/// Octets of a message header.
pub const HEADER: usize = 12;
/// Room at first: most answers need no more. What grew stays over a restart.
const USUAL_OCTETS: usize = 512;
/// The compression pointer to the question name.
pub const QUESTION_POINTER: u16 = 0xc000 | 12;

/// Writes records behind a question.
#[derive(Debug)]
pub struct Encoder {
    /// With room for the header and the octets of the question, which is what pointers count from.
    message: Vec<u8>,
    /// Octets of the head.
    head: usize,
    known: KnownNames,
    /// Where the owner of the last record stands, if a pointer reaches it.
    owner: Option<u16>,
}

impl Encoder {
    /// An encoder for the sections behind a single question for `name`.
    pub fn after_question(name: &Name) -> Encoder {
        let mut message = Vec::with_capacity(USUAL_OCTETS);
        message.resize(HEADER, 0);
        let known = KnownNames::new(RandomState::default());
        let mut encoder = Encoder { message, head: HEADER, known, owner: None };
        encoder.name(name.as_wire(), false);
        encoder.message.extend_from_slice(&[0; 4]);
        encoder.head = encoder.message.len();
        encoder
    }

    /// Begins the next message behind the head of the last one.
    pub fn restart(&mut self) {
        self.truncate(0);
    }

    /// The records.
    pub fn tail(&self) -> &[u8] {
        &self.message[self.head..]
    }

    /// Octets of the records.
    pub fn len(&self) -> usize {
        self.message.len() - self.head
    }

    /// Whether no record was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes back the records behind `len`, which is where one of them ends. Names that were learned there are forgotten.
    pub fn truncate(&mut self, len: usize) {
        self.message.truncate(self.head + len);
        self.known.forget(self.head + len);
        self.owner = None;
    }

    /// Writes one record of class IN, if the message then has at most `limit` octets; otherwise it stays as it is.
    pub fn try_record(&mut self, owner: &[u8], rtype: RecordType, ttl: Ttl, rdata: &[u8], limit: usize) -> bool {
        let before = self.len();
        self.record(owner, rtype, ttl, rdata);
        self.is_within(limit, before)
    }

    /// The same for the owner of the last record, which is not searched for again.
    pub fn try_further_record(
        &mut self,
        owner: &[u8],
        rtype: RecordType,
        ttl: Ttl,
        rdata: &[u8],
        limit: usize,
    ) -> bool {
        let Some(offset) = self.owner else { return self.try_record(owner, rtype, ttl, rdata, limit) };
        debug_assert!(known::stands_at(owner, &self.message, usize::from(offset), self.head), "the same owner");
        let before = self.len();
        self.message.extend_from_slice(&(0xc000 | offset).to_be_bytes());
        self.data(rtype, ttl, rdata);
        self.is_within(limit, before)
    }

    /// Whether the message keeps to a limit; what stands behind `before` is taken back if it doesn't.
    fn is_within(&mut self, limit: usize, before: usize) -> bool {
        let fits = self.message.len() <= limit;
        if !fits {
            self.truncate(before);
        }
        fits
    }

    /// Writes one record of class IN.
    pub fn record(&mut self, owner: &[u8], rtype: RecordType, ttl: Ttl, rdata: &[u8]) {
        self.owner = self.name(owner, true);
        self.data(rtype, ttl, rdata);
    }

    /// Writes what follows the owner.
    fn data(&mut self, rtype: RecordType, ttl: Ttl, rdata: &[u8]) {
        let [t0, t1] = rtype.0.to_be_bytes();
        let [ttl0, ttl1, ttl2, ttl3] = ttl.0.to_be_bytes();
        let [len0, len1] = rdata_len(rdata.len());
        self.message.extend_from_slice(&[t0, t1, 0, 1, ttl0, ttl1, ttl2, ttl3, len0, len1]);
        if is_plain(rtype) {
            self.message.extend_from_slice(rdata);
            return;
        }
        let start = self.message.len();
        let fields = schema::walk(rtype, rdata, |field, at, len| {
            let octets = &rdata[at..at + len];
            match field {
                Field::CompressibleName | Field::PlainName => {
                    self.name(octets, field == Field::CompressibleName);
                }
                _ => self.message.extend_from_slice(octets),
            }
        });
        debug_assert!(fields.is_ok(), "record data are checked before they get into a zone");
        let len = rdata_len(self.message.len() - start);
        self.message[start - 2..start].copy_from_slice(&len);
    }

    /// Writes a name, and learns where those of its suffixes stand that weren't known, as far as a pointer reaches. From
    /// the first known suffix on there is nothing to learn: the shorter ones are known, too, or were out of reach. Returns
    /// where a pointer to the whole name leads, unless that is out of reach or the root.
    fn name(&mut self, wire: &[u8], compress: bool) -> Option<u16> {
        let at = self.message.len();
        let mut skip = 0;
        let mut known = None;
        while wire[skip] != 0 {
            let offset = u16::try_from(at + skip).ok().filter(|offset| usize::from(*offset) <= POINTER_REACH);
            if offset.is_none() && !compress {
                break;
            }
            match (self.known.find(&wire[skip..], &self.message, self.head), offset) {
                (Ok(found), _) => {
                    known = Some(found);
                    break;
                }
                (Err(vacancy), Some(offset)) => self.known.learn(&vacancy, offset),
                (Err(_), None) => {}
            }
            skip += usize::from(wire[skip]) + 1;
        }
        match known.filter(|_| compress) {
            Some(offset) => {
                self.message.extend_from_slice(&wire[..skip]);
                self.message.extend_from_slice(&(0xc000 | offset).to_be_bytes());
            }
            None => self.message.extend_from_slice(wire),
        }
        match known {
            Some(offset) if skip == 0 => Some(offset),
            _ if wire[0] == 0 => None,
            _ => u16::try_from(at).ok().filter(|at| usize::from(*at) <= POINTER_REACH),
        }
    }
}

fn rdata_len(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("record data are at most 65535 octets").to_be_bytes()
}

/// Writes a record whose owner is the question name and whose data hold no name that could be compressed: what the
/// encoder would write, without its bookkeeping.
pub fn plain_record(out: &mut Vec<u8>, rtype: RecordType, ttl: Ttl, rdata: &[u8]) {
    out.extend_from_slice(&QUESTION_POINTER.to_be_bytes());
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&ttl.0.to_be_bytes());
    out.extend_from_slice(&rdata_len(rdata.len()));
    out.extend_from_slice(rdata);
}

/// Whether data of this type can be written by [`plain_record`].
pub fn is_plain(rtype: RecordType) -> bool {
    schema::fields(rtype).iter().all(|field| !matches!(field, Field::CompressibleName | Field::PlainName))
}
