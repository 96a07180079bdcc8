//! The receiving side: the question for a zone or for its changes, and what reads the messages that answer it.
//!
//! [`Request`] is the question. It makes an [`Incoming`], which takes the messages of the TCP stream in turn, verifies and
//! checks each, and gives the result with the last one:
//!
//! ```text
//! Request::octets --> Exchange::sign --> the primary --> Incoming::take, once a message --> Transferred
//! ```
//!
//! # Rules
//!
//! Each message: QR, id and opcode are those of an answer to our question; the question may be left out of all but the
//! first (RFC 5936 §2.2.2); an rcode other than NOERROR or TC ends the transfer; AA means nothing; other sections than the
//! answer's are not looked at, but for OPT and TSIG. With TSIG a message may come unsigned where a signed one behind
//! it covers it (RFC 8945 §5.3.1), and nothing is given out before that came.
//!
//! Each record: the class is IN and the type one that zones have. Those outside of the zone are left out and counted. The
//! SOA record stands at the apex alone.
//!
//! The stream (RFC 5936 §2.2, RFC 1995 §4), `S` being the SOA record that the zone has in the end:
//!
//! ```text
//! S                                                              nothing changed
//! S, records, S                                                  the zone
//! S, (SOA from, records removed, SOA to, records added)..., S    its changes; only if they were asked for
//! ```
//!
//! Each `from` has the serial of the `to` before, the first one ours and the last `to` that of `S`; each leads forward as
//! RFC 1982 counts. Differences that a primary has condensed (RFC 1995 §6) look the same. Whether the second record is a SOA
//! record with another serial tells changes from a zone, and whether there is a second record tells "nothing changed".
//!
//! A lone `S` that is newer than ours says over UDP that the answer doesn't fit. Over TCP it means that the primary refuses to
//! send, or that more follows in messages of their own (BIND does so with `transfer-format one-answer`, PowerDNS always
//! sends its first SOA record alone): more is waited for, and [`Incoming::cut_short`] says the first where nothing comes.
//!
//! # Result
//!
//! Records are grouped by owner and type. Duplicates are dropped (RFC 5936 §2.2); records of one set take its smallest TTL
//! (RFC 2181 §5.2), and a TTL beyond 2^31 - 1 is zero (RFC 2181 §8). Data are canonical and sorted within their set, so
//! that a primary which sends them in another order sends the same zone. Names stand in the order in which they came first.
//!
//! # Bounds
//!
//! Records and octets of a transfer ([`Bounds`]), and octets of a set ([`RRSET_OCTETS`](crate::base::limits::RRSET_OCTETS)),
//! since a larger one could not be answered. At each there is an error. How long the whole may take is up to the driver.
//!
//! # Cost
//!
//! Linear in the octets, but for one sort of all records. A record takes 32 octets and its data until the end, and an
//! owner is allocated once, however often it comes.

mod collect;
mod error;
mod sequence;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::answer::encode::Encoder;
use crate::base::limits::{TRANSFER_OCTETS, TRANSFER_RECORDS};
use crate::base::{Name, RecordType, Serial, Ttl, Wall};
use crate::dns::edns::{self, Edns};
use crate::dns::soa;
use crate::dns::tsig::{Distrust, Exchange};
use crate::dns::wire::{CLASS_IN, Envelope, Opcode, Question, RawRecord, Rcode};
use crate::zone::{Difference, Record, StaticNode};

use collect::{Collected, Owners};
use sequence::Sequence;

pub use error::{Missing, TransferError};

/// A message of a transfer, whose question may be left out.
type Message<'m> = Envelope<'m, Option<Question<'m>>>;

/// What is asked of a primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// The zone (RFC 5936).
    Axfr,
    /// What changed since the serial that we have (RFC 1995).
    Ixfr {
        /// Ours.
        serial: Serial,
    },
}

/// The question for a zone or its changes.
#[derive(Clone, Debug)]
pub struct Request {
    origin: Name,
    id: u16,
    /// Our SOA record, and its serial, of a question for changes.
    have: Option<(Record, Serial)>,
}

impl Request {
    /// The question for the whole zone.
    pub fn axfr(origin: Name, id: u16) -> Request {
        Request { origin, id, have: None }
    }

    /// The question for what changed since this SOA record; `None` if it is none.
    pub fn ixfr(origin: Name, id: u16, soa: Record) -> Option<Request> {
        let serial = soa::serial(&soa.rdata).filter(|_| soa.rtype == RecordType::SOA)?;
        Some(Request { origin, id, have: Some((soa, serial)) })
    }

    /// What is asked.
    pub fn asked(&self) -> Asked {
        self.have.as_ref().map_or(Asked::Axfr, |&(_, serial)| Asked::Ixfr { serial })
    }

    /// The message, without a signature. Its EDNS asks for how long the zone is good (RFC 7314).
    pub fn octets(&self) -> Vec<u8> {
        let (qtype, authority) = if self.have.is_some() { (RecordType::IXFR, 1) } else { (RecordType::AXFR, 0) };
        let mut out = Vec::with_capacity(512);
        let (flags, counts) = (0, [1, 0, authority, 0]);
        for word in [self.id, flags].into_iter().chain(counts) {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(self.origin.as_wire());
        out.extend_from_slice(&qtype.0.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        if let Some((soa, _)) = &self.have {
            // RFC 1995 §3: the authority section has the SOA record of our version.
            let mut encoder = Encoder::after_question(&self.origin);
            encoder.record(soa.owner.as_wire(), RecordType::SOA, soa.ttl, &soa.rdata);
            out.extend_from_slice(encoder.tail());
        }
        edns::ask_for_expire(&mut out);
        out
    }

    /// What reads the answer; with the exchange that signed the question, if one did.
    pub fn incoming(self, exchange: Option<Exchange>, bounds: Bounds) -> Incoming {
        let asked = self.asked();
        Incoming::new(self.origin, self.id, asked, exchange, bounds)
    }
}

/// How much one transfer may bring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Records, also those that are left out.
    pub records: u32,
    /// Octets of data, and of each name once.
    pub octets: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { records: TRANSFER_RECORDS, octets: TRANSFER_OCTETS }
    }
}

/// How far a transfer is, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Messages that were read.
    pub messages: u32,
    /// Records in them, SOA records and those left out included; a message without any counts as one.
    pub records: u32,
    /// Octets of data, and of each name once.
    pub octets: u64,
    /// Records outside of the zone, which were left out.
    pub outside: u32,
}

/// What [`Incoming::take`] says of a message that it took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There is more to come.
    More,
    /// It was the last one.
    Done(Transferred),
}

/// The result of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transferred {
    /// Nothing changed: this is the primary's SOA record. Its serial is ours or older.
    Current(Record),
    /// What changed, in the order in which it did; at least one. They lead from our serial to one that is newer.
    Changes(Vec<Difference>),
    /// The zone. A primary may answer so a question for changes too (RFC 1995 §4).
    Whole(WholeZone),
}

/// A version of a zone. Nothing was checked between its records: it may have no name server, or a CNAME beside others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WholeZone {
    /// The SOA record.
    pub soa: Record,
    /// All other records, by name.
    pub nodes: Vec<StaticNode>,
}

/// Reads the messages of one transfer. After a result or an error it takes no more.
#[derive(Debug)]
pub struct Incoming {
    id: u16,
    asked: Asked,
    exchange: Option<Exchange>,
    bounds: Bounds,
    tally: Tally,
    expires_in: Option<Duration>,
    owners: Owners,
    sequence: Sequence,
}

impl Incoming {
    /// Waits for the first message that answers a question with this id; `exchange` is what signed it.
    pub fn new(origin: Name, id: u16, asked: Asked, exchange: Option<Exchange>, bounds: Bounds) -> Incoming {
        let (tally, owners) = (Tally::default(), Owners::new(origin));
        Incoming { id, asked, exchange, bounds, tally, expires_in: None, owners, sequence: Sequence::Start }
    }

    /// How far it is.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes the next message of the stream. Nothing of what an error interrupts is kept.
    pub fn take(&mut self, packet: &[u8], now: Wall) -> Result<Progress, TransferError> {
        let result = self.read(packet, now);
        if !matches!(result, Ok(Progress::More)) {
            self.sequence = Sequence::Ended;
        }
        result
    }

    /// For how long the primary has the zone as good, if it said so (RFC 7314).
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    /// What to say if the stream ends here, or nothing comes for too long; `None` if there was a result or an error.
    pub fn cut_short(&self) -> Option<TransferError> {
        let missing = match (&self.sequence, self.asked) {
            (Sequence::Ended, _) => return None,
            (Sequence::First(soa), Asked::Ixfr { serial }) => {
                let theirs = sequence::serial(soa);
                return Some(TransferError::RefusesToSend { ours: serial, theirs });
            }
            (Sequence::Start, _) => Missing::Everything,
            (Sequence::First(_), Asked::Axfr) => Missing::Records,
            (Sequence::Whole { .. }, _) => Missing::LastSoa,
            (Sequence::Removing { from, .. }, _) => Missing::Change(sequence::serial(from)),
            (Sequence::Adding { to, .. }, _) => Missing::AfterChange(sequence::serial(to)),
        };
        Some(TransferError::CutShort { missing, records: self.tally.records })
    }

    fn read(&mut self, packet: &[u8], now: Wall) -> Result<Progress, TransferError> {
        if matches!(self.sequence, Sequence::Ended) {
            return Err(TransferError::AfterEnd);
        }
        let message = Message::parse_transfer(packet)?;
        self.verify(&message, now)?;
        self.check(&message)?;
        self.tally.messages = self.tally.messages.saturating_add(1);
        self.expires_in = self.expires_in.or_else(|| message.edns.as_ref().and_then(Edns::expires_in));
        if message.header.counts[1] == 0 {
            self.count_record()?;
        }
        let mut done = None;
        for record in message.first_section() {
            if done.is_some() {
                return Err(TransferError::AfterEnd);
            }
            self.count_record()?;
            done = self.record(&record)?;
        }
        if done.is_none() {
            done = self.look_at_lone_soa()?;
        }
        let Some(done) = done else { return Ok(Progress::More) };
        // RFC 8945 §5.3.1: the last message is signed.
        if self.exchange.as_ref().is_some_and(|exchange| !exchange.is_settled()) {
            return Err(TransferError::Distrusted(Distrust::Unsigned));
        }
        Ok(Progress::Done(done))
    }

    fn verify(&mut self, message: &Message<'_>, now: Wall) -> Result<(), TransferError> {
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        match exchange.verify(message.packet, message.tsig.as_ref(), now) {
            // A server that can't read our signature answers without one. The rcode is no proof of anything, but it ends the
            // transfer like the missing signature, and says more.
            Err(Distrust::Unsigned) if message.rcode() != Rcode::NOERROR => Ok(()),
            result => Ok(result?),
        }
    }

    /// What must hold of every message, whatever records it has (RFC 5936 §2.2.1 and §2.2.2).
    fn check(&self, message: &Message<'_>) -> Result<(), TransferError> {
        let header = &message.header;
        let other = |what| Err(TransferError::OtherAnswer(what));
        if !header.is_response() {
            return other("it is a request");
        }
        if header.id != self.id {
            return other("its id is another");
        }
        if header.opcode() != Opcode::QUERY {
            return other("its opcode is another");
        }
        let rcode = message.rcode();
        if rcode != Rcode::NOERROR {
            let reason = message.edns.as_ref().and_then(|edns| edns.extended_error());
            return Err(TransferError::Refused { rcode, reason });
        }
        // RFC 5936 §2.2.1: TC is never set, since a message follows where one is full.
        if header.is_truncated() {
            return Err(TransferError::Truncated);
        }
        let qtype = if self.asked == Asked::Axfr { RecordType::AXFR } else { RecordType::IXFR };
        match &message.question {
            None if self.tally.messages == 0 => other("its first message has no question"),
            Some(question)
                if question.name() != self.owners.origin().as_wire()
                    || question.qtype != qtype
                    || question.class != CLASS_IN =>
            {
                other("its question is another")
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self, raw: &RawRecord<'_>) -> Result<Option<Transferred>, TransferError> {
        let owner = self.owners.find(raw, &mut self.tally.octets)?;
        let is_soa = raw.rtype == RecordType::SOA;
        if matches!(self.sequence, Sequence::Start) && !(is_soa && owner == Some(Owners::APEX)) {
            return Err(TransferError::NoSoa);
        }
        let Some(owner) = owner else {
            self.tally.outside += 1;
            return Ok(None);
        };
        if raw.class != CLASS_IN || raw.rtype.is_meta() {
            let (owner, rtype, class) = (self.owners.name(owner).clone(), raw.rtype, raw.class);
            return Err(TransferError::NoZoneRecord { owner, rtype, class });
        }
        let rdata = raw.rdata().map_err(|cause| {
            let owner = self.owners.name(owner).clone();
            TransferError::BadData { owner, rtype: raw.rtype, cause }
        })?;
        self.tally.octets += rdata.len() as u64;
        if self.tally.octets > self.bounds.octets {
            return Err(TransferError::TooManyOctets(self.bounds.octets));
        }
        // RFC 2181 §8: a TTL with the highest bit set is zero.
        let ttl = if raw.ttl > Ttl::MAX.0 { Ttl(0) } else { Ttl(raw.ttl) };
        if !is_soa {
            self.sequence.push(Collected { owner, rtype: raw.rtype, ttl, rdata });
            return Ok(None);
        }
        let name = self.owners.name(owner).clone();
        if owner != Owners::APEX {
            return Err(TransferError::MisplacedSoa(name));
        }
        let soa = Record { owner: name, rtype: RecordType::SOA, ttl, rdata };
        self.sequence.soa(soa, self.asked, &self.owners)
    }

    /// A first message with the SOA record alone is the whole answer where there is nothing newer (RFC 1995 §2 and §4).
    fn look_at_lone_soa(&mut self) -> Result<Option<Transferred>, TransferError> {
        match (&self.sequence, self.asked) {
            (Sequence::Start, _) => Err(TransferError::NoSoa),
            (Sequence::First(soa), Asked::Ixfr { serial: ours }) => {
                let theirs = sequence::serial(soa);
                match theirs.partial_cmp(&ours) {
                    // Two serials 2^31 apart have no order (RFC 1982 §3.2).
                    None => Err(TransferError::NoOrder { ours, theirs }),
                    Some(std::cmp::Ordering::Greater) => Ok(None),
                    Some(_) => Ok(Some(Transferred::Current(soa.clone()))),
                }
            }
            _ => Ok(None),
        }
    }

    fn count_record(&mut self) -> Result<(), TransferError> {
        if self.tally.records >= self.bounds.records {
            return Err(TransferError::TooManyRecords(self.bounds.records));
        }
        self.tally.records += 1;
        Ok(())
    }
}
