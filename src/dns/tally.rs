//! Queries, counted by transport, type and rcode, and how long their answers took.
//!
//! Both label sets are closed: types and rcodes that are not listed here count as "other", so that nobody can make more of
//! them by asking. A UDP thread keeps a [`Tally`] of a batch, which is on its stack, and adds it to the counts of its own
//! ([`Stripes`]) when the batch is answered: a few additions a batch, each of which costs some 20 cycles.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::RecordType;
use crate::base::meters::{Histogram, Observed, Stripes};

use super::quick::name_len;
use super::reply::Transport;
use super::wire::{Envelope, HEADER, Rcode};

/// The types that are told apart; all others are "other".
const TYPES: [RecordType; 19] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::TXT,
    RecordType::SOA,
    RecordType::NS,
    RecordType::PTR,
    RecordType::CNAME,
    RecordType::MX,
    RecordType::HTTPS,
    RecordType::SVCB,
    RecordType::NAPTR,
    RecordType::CAA,
    RecordType::TLSA,
    RecordType::DS,
    RecordType::DNSKEY,
    RecordType::ANY,
    RecordType::AXFR,
    RecordType::IXFR,
];
/// The rcodes that are told apart, by their number up to NOTAUTH; all others are "other".
const RCODES: [Rcode; 11] = [
    Rcode::NOERROR,
    Rcode::FORMERR,
    Rcode::SERVFAIL,
    Rcode::NXDOMAIN,
    Rcode::NOTIMP,
    Rcode::REFUSED,
    Rcode::YXDOMAIN,
    Rcode::YXRRSET,
    Rcode::NXRRSET,
    Rcode::NOTAUTH,
    Rcode::BADVERS,
];
const TYPE_CELLS: usize = TYPES.len() + 1;
const RCODE_CELLS: usize = RCODES.len() + 1;
const CELLS: usize = TYPE_CELLS * RCODE_CELLS;
/// Combinations of type and rcode in a batch that are added up before they are written; a batch has few.
const KEPT: usize = 8;
/// What a label says of everything that is not told apart.
pub const OTHER: &str = "other";

/// Queries of a batch, not yet added to the others.
#[derive(Debug, Default)]
pub struct Tally {
    kept: [Kept; KEPT],
    len: usize,
    truncated: u64,
    answered: u64,
}

/// Queries of one type with one rcode. Which of the counts that is, is looked for when they are added there.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    qtype: u16,
    /// Of the header, four bits.
    rcode: u8,
    count: u32,
}

/// How many queries were answered how.
#[derive(Debug, Default)]
pub struct Queries(Stripes<Counts>);

#[derive(Debug, Default)]
struct Counts([OfTransport; Transport::ALL.len()]);

#[derive(Debug)]
struct OfTransport {
    answered: [AtomicU64; CELLS],
    truncated: AtomicU64,
    times: Histogram,
}

impl Default for OfTransport {
    fn default() -> OfTransport {
        OfTransport {
            answered: [const { AtomicU64::new(0) }; CELLS],
            truncated: AtomicU64::default(),
            times: Histogram::default(),
        }
    }
}

fn cell(qtype: Option<RecordType>, rcode: Rcode) -> usize {
    let qtype = qtype.and_then(type_place).unwrap_or(TYPES.len());
    let rcode = match rcode.0 {
        rcode @ 0..=9 => usize::from(rcode),
        16 => 10,
        _ => RCODES.len(),
    };
    qtype * RCODE_CELLS + rcode
}

/// Where a type stands in [`TYPES`]. Compiled to a table, where looking through the list would cost a branch for each.
fn type_place(qtype: RecordType) -> Option<usize> {
    Some(match qtype {
        RecordType::A => 0,
        RecordType::AAAA => 1,
        RecordType::SRV => 2,
        RecordType::TXT => 3,
        RecordType::SOA => 4,
        RecordType::NS => 5,
        RecordType::PTR => 6,
        RecordType::CNAME => 7,
        RecordType::MX => 8,
        RecordType::HTTPS => 9,
        RecordType::SVCB => 10,
        RecordType::NAPTR => 11,
        RecordType::CAA => 12,
        RecordType::TLSA => 13,
        RecordType::DS => 14,
        RecordType::DNSKEY => 15,
        RecordType::ANY => 16,
        RecordType::AXFR => 17,
        RecordType::IXFR => 18,
        _ => return None,
    })
}

/// Whether TC is set.
fn is_truncated(reply: &[u8]) -> bool {
    reply[2] & 2 != 0
}

impl Tally {
    /// Takes an answer of the short way, which has no rcode beyond the header's.
    #[inline]
    pub fn note(&mut self, queries: &Queries, transport: Transport, qtype: RecordType, reply: &[u8]) {
        let &[_, _, flags, rcode, ..] = reply else { return };
        let rcode = rcode & 15;
        self.answered += 1;
        self.truncated += u64::from(flags >> 1 & 1);
        for kept in &mut self.kept[..self.len] {
            if kept.qtype == qtype.0 && kept.rcode == rcode {
                kept.count += 1;
                return;
            }
        }
        if self.len == KEPT {
            queries.write(transport, &self.kept);
            self.len = 0;
        }
        self.kept[self.len] = Kept { qtype: qtype.0, rcode, count: 1 };
        self.len += 1;
    }

    /// How many were taken.
    pub fn answered(&self) -> u64 {
        self.answered
    }
}

impl Queries {
    fn own(&self, transport: Transport) -> &OfTransport {
        &self.0.own().0[transport as usize]
    }

    fn write(&self, transport: Transport, kept: &[Kept]) {
        let own = self.own(transport);
        for kept in kept {
            let cell = cell(Some(RecordType(kept.qtype)), Rcode(kept.rcode.into()));
            own.answered[cell].fetch_add(kept.count.into(), Ordering::Relaxed);
        }
    }

    /// Adds what a batch had.
    pub fn add(&self, transport: Transport, tally: &Tally) {
        if tally.answered == 0 {
            return;
        }
        self.write(transport, &tally.kept[..tally.len]);
        if tally.truncated > 0 {
            self.own(transport).truncated.fetch_add(tally.truncated, Ordering::Relaxed);
        }
    }

    /// Counts one query by its octets and those of its reply; without one, it is answered by a transfer.
    pub fn count(&self, transport: Transport, query: &[u8], reply: Option<&[u8]>) {
        let own = self.own(transport);
        let rcode = reply.map_or(Rcode::NOERROR, rcode_of);
        own.answered[cell(type_of(query), rcode)].fetch_add(1, Ordering::Relaxed);
        if reply.is_some_and(is_truncated) {
            own.truncated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how long the answers to so many queries took.
    pub fn observe(&self, transport: Transport, took: Duration, count: u64) {
        self.own(transport).times.observe_many(took, count);
    }

    /// What was counted: transport, type, rcode and how often, where it is not zero.
    pub fn answered(&self) -> Vec<(Transport, &'static str, String, u64)> {
        let mut counted = Vec::new();
        for transport in Transport::ALL {
            for cell in 0..CELLS {
                let count = self.0.sum(|counts| &counts.0[transport as usize].answered[cell]);
                let qtype = TYPES.get(cell / RCODE_CELLS).and_then(|qtype| qtype.mnemonic());
                let rcode = RCODES.get(cell % RCODE_CELLS).map_or(OTHER.to_owned(), ToString::to_string);
                if count > 0 {
                    counted.push((transport, qtype.unwrap_or(OTHER), rcode, count));
                }
            }
        }
        counted
    }

    /// Answers with TC.
    pub fn truncated(&self, transport: Transport) -> u64 {
        self.0.sum(|counts| &counts.0[transport as usize].truncated)
    }

    /// How long answers took.
    pub fn times(&self, transport: Transport) -> Observed {
        self.0.iter().map(|counts| counts.0[transport as usize].times.read()).sum()
    }
}

/// The type that a message asks for, if it can be read.
fn type_of(query: &[u8]) -> Option<RecordType> {
    let after = HEADER + name_len(query.get(HEADER..)?)?;
    let octets = query.get(after..after + 2).filter(|_| query[4..6] == [0, 1])?;
    Some(RecordType(u16::from_be_bytes([octets[0], octets[1]])))
}

/// The rcode of a reply, whose upper bits stand in an OPT record. Only replies without any other record can have some.
fn rcode_of(reply: &[u8]) -> Rcode {
    let low = Rcode(u16::from(reply[3] & 15));
    let is_bare = reply[6..10] == [0; 4] && reply[10..12] != [0; 2];
    if !is_bare {
        return low;
    }
    Envelope::parse_transfer(reply).map_or(low, |envelope| envelope.rcode())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(qtype: u16, flags: [u8; 2]) -> Vec<u8> {
        let mut octets = vec![0, 7, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, 0, 1, b'z', 0];
        octets.extend_from_slice(&[qtype.to_be_bytes(), [0, 1]].concat());
        octets
    }

    fn labels(queries: &Queries) -> Vec<(Transport, &'static str, String, u64)> {
        queries.answered()
    }

    #[test]
    fn each_type_and_each_rcode_has_its_own_place() {
        for (place, qtype) in TYPES.into_iter().enumerate() {
            assert_eq!(type_place(qtype), Some(place));
            assert!(qtype.mnemonic().is_some());
            for (at, rcode) in RCODES.into_iter().enumerate() {
                assert_eq!(cell(Some(qtype), rcode), place * RCODE_CELLS + at);
            }
        }
        assert_eq!(cell(None, Rcode(15)), CELLS - 1);
    }

    #[test]
    fn a_batch_is_counted_as_its_queries_are_one_by_one() {
        let (one, many) = (Queries::default(), Queries::default());
        let mut tally = Tally::default();
        // More combinations than are kept, in turn.
        for round in 0..3 {
            for qtype in [1, 28, 33, 16, 6, 2, 12, 5, 15, 65, 64, 9999, 10_000] {
                let truncated = u8::from(qtype == 33 && round == 1) * 2;
                let reply = message(qtype, [0x84 | truncated, if qtype == 16 { 3 } else { 0 }]);
                tally.note(&many, Transport::Udp, RecordType(qtype), &reply);
                one.count(Transport::Udp, &message(qtype, [1, 0]), Some(&reply));
            }
        }
        many.add(Transport::Udp, &tally);
        assert_eq!(labels(&one), labels(&many));
        assert!(labels(&one).contains(&(Transport::Udp, "TXT", "NXDOMAIN".to_owned(), 3)));
        assert!(labels(&one).contains(&(Transport::Udp, OTHER, "NOERROR".to_owned(), 6)));
        assert_eq!((one.truncated(Transport::Udp), many.truncated(Transport::Udp), tally.answered()), (1, 1, 39));
        assert_eq!(many.truncated(Transport::Tcp), 0);
    }

    #[test]
    fn rcodes_beyond_the_header_are_read_from_opt() {
        let queries = Queries::default();
        let mut reply = message(1, [0x80, 0]);
        reply[11] = 1;
        reply.extend_from_slice(&[0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0]);
        queries.count(Transport::Tcp, &message(1, [1, 0]), Some(&reply));
        assert_eq!(labels(&queries), [(Transport::Tcp, "A", "BADVERS".to_owned(), 1)]);
    }

    #[test]
    fn what_cannot_be_read_is_of_another_type() {
        let queries = Queries::default();
        let refused = message(1, [0x80, 1]);
        let mut two = message(1, [1, 0]);
        two[5] = 2;
        for octets in [&two[..], &two[..14], &[0; 12]] {
            queries.count(Transport::Tls, octets, Some(&refused));
        }
        assert_eq!(labels(&queries), [(Transport::Tls, OTHER, "FORMERR".to_owned(), 3)]);
    }
}
