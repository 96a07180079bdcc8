//! Queries as nearly all are, answered by copying: read in place, looked up, and written with what [`Answers`] has compiled.
//!
//! This is [`respond`](super::respond::respond) for one kind of message: an unsigned query of class IN with nothing behind
//! its question but perhaps an OPT record without options, for a zone that is there and open to its sender. [`answer`] says
//! of any other message that it is not for it, and whatever it answers it answers with the same octets; so nothing depends
//! on which of both a message meets. Both look up by [`Answers::lookup`].
//!
//! Cost: no allocation, no lock; one pass over the question, one hash of its name for each length that an origin has, one
//! for the look-up, and the copy.
//!
//! [`Answers`]: crate::answer::Answers
//! [`Answers::lookup`]: crate::answer::Answers::lookup

use crate::answer::End;
use crate::base::RecordType;
use crate::base::limits::{LABEL_OCTETS, NAME_OCTETS, PLAIN_UDP_OCTETS};

use super::edns::BARE;
use super::reply::response_flags;
use super::respond::{Context, may_query};
use super::wire::{CLASS_IN, HEADER, Rcode};

/// What stands behind the name of a question: type and class.
const QUESTION_TAIL: usize = 4;

/// A query, read in place.
struct Query<'p> {
    /// The question as it was sent.
    question: &'p [u8],
    /// Its name in lower case; the first `len` octets.
    name: [u8; NAME_OCTETS + 1],
    len: usize,
    qtype: RecordType,
    /// The largest answer that the client takes and its flags, if it sent an OPT record.
    edns: Option<(u16, [u8; 2])>,
}

impl<'p> Query<'p> {
    /// Reads a message; `None` if it is of another kind, or malformed.
    fn read(packet: &'p [u8]) -> Option<Query<'p>> {
        let header = packet.first_chunk::<HEADER>()?;
        // QR and opcode are zero; one question; no records, or one in the additional section.
        if header[2] & 0xf8 != 0 || header[4..10] != [0, 1, 0, 0, 0, 0] || header[10] != 0 || header[11] > 1 {
            return None;
        }
        let len = name_len(&packet[HEADER..])?;
        let end = HEADER + len + QUESTION_TAIL;
        let tail = packet.get(HEADER + len..end)?;
        let qtype = RecordType(u16::from_be_bytes([tail[0], tail[1]]));
        if u16::from_be_bytes([tail[2], tail[3]]) != CLASS_IN {
            return None;
        }
        let edns = match (header[11], &packet[end..]) {
            (0, []) => None,
            // The root, OPT, size, extended rcode (which means nothing in a query), version 0, flags, no options (RFC 6891
            // §6.1.2).
            (1, &[0, 0, 41, high, low, _, 0, flags, more, 0, 0]) => {
                Some((u16::from_be_bytes([high, low]), [flags, more]))
            }
            _ => return None,
        };
        let mut query = Query { question: &packet[HEADER..end], name: [0; NAME_OCTETS + 1], len, qtype, edns };
        let name = &mut query.name[..len];
        name.copy_from_slice(&packet[HEADER..HEADER + len]);
        // Length octets are at most 63, below every letter.
        name.make_ascii_lowercase();
        Some(query)
    }

    fn name(&self) -> &[u8] {
        &self.name[..self.len]
    }
}

/// The length of an uncompressed name; `None` if it is none, or too long.
fn name_len(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*octets.get(at)?) {
            0 => return (at < NAME_OCTETS).then_some(at + 1),
            len if len <= LABEL_OCTETS => at += len + 1,
            _ => return None,
        }
    }
}

/// Answers a datagram into `out`; false if it is not for this, and nothing is to be made of `out`.
pub fn answer(context: &Context<'_>, packet: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(query) = Query::read(packet) else { return false };
    // DS may be the parent's to answer, transfers have their own rules; and SOA at the apex is as any other.
    if matches!(query.qtype, RecordType::DS | RecordType::AXFR | RecordType::IXFR) {
        return false;
    }
    let Some(zone) = context.zones.closest(query.name()) else { return false };
    if !may_query(zone, context) {
        return false;
    }
    let loaded = zone.answers.load();
    let Some(answers) = loaded.as_deref() else { return false };
    let limit = match query.edns {
        Some((size, _)) => usize::from(size.min(context.udp_size)).max(PLAIN_UDP_OCTETS) - BARE,
        None => PLAIN_UDP_OCTETS,
    };
    out.clear();
    out.extend_from_slice(&packet[..HEADER]);
    out.extend_from_slice(query.question);
    let found = answers.lookup(query.name(), query.qtype, limit, context.turn(packet), out);
    let rcode = match found.end {
        End::Answer | End::NoData => Rcode::NOERROR,
        End::NoName => Rcode::NXDOMAIN,
        End::TooLong => Rcode::YXDOMAIN,
    };
    let flags = u16::from_be_bytes([packet[2], packet[3]]);
    let flags = response_flags(flags, rcode, found.authoritative, found.truncated);
    let additional = found.counts.additional + u16::from(query.edns.is_some());
    let words = [flags, 1, found.counts.answers, found.counts.authority, additional];
    for (place, word) in out[2..HEADER].chunks_exact_mut(2).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    if let Some((_, flags)) = query.edns {
        let [high, low] = context.udp_size.to_be_bytes();
        // DO comes back (RFC 3225 §3); the other flags are not ours to echo.
        out.extend_from_slice(&[0, 0, 41, high, low, 0, 0, flags[0] & 0x80, 0, 0, 0]);
    }
    true
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::respond::{Verdict, respond};
    use super::*;

    /// Asserts that a datagram gets the same octets both ways, if this is for it. Returns whether it is.
    pub(crate) fn assert_same(context: &Context<'_>, packet: &[u8]) -> bool {
        let (mut quick, mut general) = (vec![9; 5], vec![7; 3]);
        let is_answered = answer(context, packet, &mut quick);
        if is_answered {
            assert!(matches!(respond(context, packet, &mut general), Verdict::Reply));
            assert_eq!(quick, general);
        }
        is_answered
    }
}
