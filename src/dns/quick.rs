//! Queries as nearly all are, answered by copying: read in place, looked up, and written with what [`Answers`] has compiled.
//!
//! This is [`respond`](super::respond::respond) for one kind of message: an unsigned query of class IN with nothing behind
//! its question but perhaps an OPT record, which may have a cookie, for a zone that is there and open to its sender. [`read`]
//! says of any other message that it is not for this, and whatever is answered here is answered with the same octets; so
//! nothing depends on which of both a message meets. Both look up by [`Answers::lookup`].
//!
//! Cost: no allocation and no lock, but by the first who asks for a template after a commit has touched it unasked, and for
//! what is put together ([`resolve`](crate::answer)): aliases, wildcards, delegations, DNAME. One pass over the question, one hash of its name for each length that an origin has, one
//! for the look-up, and the copy.
//!
//! [`Answers`]: crate::answer::Answers
//! [`Answers::lookup`]: crate::answer::Answers::lookup

use std::sync::Arc;

use crate::answer::{Answers, Lookup};
use crate::base::RecordType;
use crate::base::limits::{LABEL_OCTETS, NAME_OCTETS};
use crate::zone::map::hash_name;

use super::cookie::{Answered, COOKIE_OCTETS};
use super::edns::BARE;
use super::rate::Admission;
use super::reply::{message_limit, response_flags};
use super::respond::{Context, ServedZone, may_query};
use super::wire::{CLASS_IN, HEADER, Rcode};

/// What stands behind the name of a question: type and class.
const QUESTION_TAIL: usize = 4;
/// Code and length of the COOKIE option (RFC 7873 §4).
const COOKIE_OPTION: [u8; 4] = [0, 10, 0, 24];
const _: () = assert!(COOKIE_OCTETS == 24);
/// Room for a name in lower case.
pub type NameBuffer = [u8; NAME_OCTETS + 1];

/// A query for a zone, read in place. Its name stands in the buffer that it was read with.
#[derive(Debug)]
pub struct Query<'p, 'z> {
    packet: &'p [u8],
    /// Where the zone's answers are.
    pub zone: &'z Arc<ServedZone>,
    len: usize,
    hash: u64,
    qtype: RecordType,
    edns: Option<Opt>,
    /// What its cookie is answered with.
    cookie: Option<Answered>,
}

/// What an OPT record says.
#[derive(Clone, Copy, Debug)]
struct Opt {
    /// The largest answer that the client takes.
    size: u16,
    /// The first octet of the flags.
    flags: u8,
}

/// Reads an OPT record of version 0 that ends the message, and the data of the COOKIE option, if that is in it and of the form
/// that we make or begin with; `None` if there is anything else.
fn read_opt(octets: &[u8]) -> Option<(Opt, &[u8])> {
    // The root, OPT, size, extended rcode (which means nothing in a query), version, flags, length (RFC 6891 §6.1.2).
    let (&[0, 0, 41, high, low, _, 0, flags, _, length @ ..], options) = octets.split_first_chunk::<BARE>()? else {
        return None;
    };
    let opt = Opt { size: u16::from_be_bytes([high, low]), flags };
    if usize::from(u16::from_be_bytes(length)) != options.len() {
        return None;
    }
    match options {
        [] => Some((opt, &[])),
        [0, 10, 0, len, cookie @ ..]
            if matches!(cookie.len(), 8 | COOKIE_OCTETS) && cookie.len() == usize::from(*len) =>
        {
            Some((opt, cookie))
        }
        _ => None,
    }
}

/// Reads a message, its name into `buffer`; `None` if it is not for this.
pub fn read<'p, 'z>(context: &Context<'z>, packet: &'p [u8], buffer: &mut NameBuffer) -> Option<Query<'p, 'z>> {
    let header = packet.first_chunk::<HEADER>()?;
    // QR and opcode are zero; one question; no records, or one in the additional section.
    if header[2] & 0xf8 != 0 || header[4..10] != [0, 1, 0, 0, 0, 0] || header[10] != 0 || header[11] > 1 {
        return None;
    }
    let len = name_len(&packet[HEADER..])?;
    let end = HEADER + len + QUESTION_TAIL;
    let tail = packet.get(HEADER + len..end)?;
    let qtype = RecordType(u16::from_be_bytes([tail[0], tail[1]]));
    // DS may be the parent's to answer, and transfers have their own rules.
    if u16::from_be_bytes([tail[2], tail[3]]) != CLASS_IN
        || matches!(qtype, RecordType::DS | RecordType::AXFR | RecordType::IXFR)
    {
        return None;
    }
    let (edns, asked) = match (header[11], &packet[end..]) {
        (0, []) => (None, &[][..]),
        (1, octets) => read_opt(octets).map(|(opt, asked)| (Some(opt), asked))?,
        _ => return None,
    };
    let name = &mut buffer[..len];
    name.copy_from_slice(&packet[HEADER..HEADER + len]);
    // Length octets are at most 63, below every letter.
    name.make_ascii_lowercase();
    let zone = context.zones.closest(name).filter(|zone| may_query(zone, context))?;
    let cookies = context.cookies.filter(|_| !asked.is_empty());
    let cookie = cookies.and_then(|cookies| cookies.answer(asked, context.peer.ip(), context.now));
    Some(Query { packet, zone, len, hash: hash_name(name), qtype, edns, cookie })
}

/// The length of an uncompressed name; `None` if it is none, or too long.
pub(super) fn name_len(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*octets.get(at)?) {
            0 => return (at < NAME_OCTETS).then_some(at + 1),
            len if len <= LABEL_OCTETS => at += len + 1,
            _ => return None,
        }
    }
}

impl Query<'_, '_> {
    /// What is asked for.
    pub fn qtype(&self) -> RecordType {
        self.qtype
    }

    /// What [`Answers::touch`] wants to know.
    pub fn sought(&self) -> (u64, RecordType) {
        (self.hash, self.qtype)
    }

    /// Answers it into `out` by answers of its zone, as far as the rate of its sender lets it.
    pub fn answer(
        &self,
        context: &Context<'_>,
        answers: &Answers,
        buffer: &NameBuffer,
        out: &mut Vec<u8>,
    ) -> Admission {
        let is_proven = self.cookie.is_some_and(|cookie| cookie.is_proven);
        let admission = if is_proven { Admission::Answer } else { context.admit() };
        if admission == Admission::Drop {
            return admission;
        }
        out.clear();
        out.extend_from_slice(&self.packet[..HEADER + self.len + QUESTION_TAIL]);
        if admission == Admission::Slip {
            self.finish(context, Rcode::NOERROR, &Lookup { authoritative: false, ..Lookup::TRUNCATED }, None, out);
            return admission;
        }
        let turn = context.turn(self.packet);
        let found = answers.lookup(&buffer[..self.len], self.qtype, self.limit(context), turn, out);
        self.finish(context, found.end.rcode(), &found, self.cookie, out);
        admission
    }

    /// How long the answer may become before its OPT record.
    fn limit(&self, context: &Context<'_>) -> usize {
        let limit = message_limit(context.transport, self.edns.map(|opt| opt.size), context.udp_size);
        limit - self.edns.map_or(0, |_| BARE) - self.cookie.map_or(0, |_| 4 + COOKIE_OCTETS)
    }

    /// Fills in the header, whose first word is the query's, and appends the OPT record.
    fn finish(&self, context: &Context<'_>, rcode: Rcode, found: &Lookup, cookie: Option<Answered>, out: &mut Vec<u8>) {
        let flags = u16::from_be_bytes([self.packet[2], self.packet[3]]);
        let flags = response_flags(flags, rcode, found.authoritative, found.truncated);
        let additional = found.counts.additional + u16::from(self.edns.is_some());
        let words = [flags, 1, found.counts.answers, found.counts.authority, additional];
        for (place, word) in out[2..HEADER].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        let Some(opt) = self.edns else { return };
        let [high, low] = context.udp_size.to_be_bytes();
        // DO comes back (RFC 3225 §3); the other flags are not ours to echo.
        let mut record = [0, 0, 41, high, low, 0, 0, opt.flags & 0x80, 0, 0, 0];
        let Some(cookie) = cookie else { return out.extend_from_slice(&record) };
        record[10] = COOKIE_OPTION[3] + 4;
        out.extend_from_slice(&record);
        out.extend_from_slice(&COOKIE_OPTION);
        out.extend_from_slice(&cookie.octets);
    }
}

/// Answers one message into `out`; false if it is not for this, or over UDP its sender has had enough answers.
pub fn answer(context: &Context<'_>, packet: &[u8], out: &mut Vec<u8>) -> bool {
    let mut buffer = [0; NAME_OCTETS + 1];
    let Some(query) = read(context, packet, &mut buffer) else { return false };
    let loaded = query.zone.answers.load();
    let Some(answers) = loaded.as_deref() else { return false };
    query.answer(context, answers, &buffer, out) == Admission::Answer
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::respond::{Verdict, respond};
    use super::*;

    /// Asserts that a datagram gets the same octets both ways, if this is for it. Returns whether it is.
    pub(crate) fn assert_same(context: &Context<'_>, packet: &[u8]) -> bool {
        let (mut quick, mut general) = (vec![9; 5], vec![7; 3]);
        // Each would count.
        let context = &Context { rate: None, ..*context };
        let is_answered = answer(context, packet, &mut quick);
        if is_answered {
            assert!(matches!(respond(context, packet, &mut general), Verdict::Reply));
            assert_eq!(quick, general);
        }
        is_answered
    }
}
