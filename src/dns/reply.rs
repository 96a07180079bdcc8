//! Putting a reply together: header, the client's own question, sections, then OPT and TSIG, for which room is kept.

use crate::answer::Counts;
use crate::base::Wall;
use crate::base::limits::{MESSAGE_OCTETS, PLAIN_UDP_OCTETS};

use super::edns::{Edns, EdnsReply, ExtendedError};
use super::tsig::{Signer, TsigError, UnsignedError};
use super::wire::{Header, Rcode};

/// How a message came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A datagram: its answer is bounded by what the client takes.
    Udp,
    /// A stream.
    Tcp,
    /// A stream that carries one message as an answer.
    Tls,
}

impl Transport {
    /// All of them, each at the place of its number.
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// How a reply is authenticated.
#[derive(Clone, Debug, Default)]
pub enum Seal {
    /// The request was not signed.
    #[default]
    None,
    /// Signed, with an error to report or without.
    Sign(Box<Signer>, Option<TsigError>),
    /// A TSIG record without a MAC.
    Unsigned(UnsignedError),
}

impl Seal {
    fn len(&self) -> usize {
        match self {
            Seal::None => 0,
            Seal::Sign(signer, _) => signer.len(),
            Seal::Unsigned(error) => error.len(),
        }
    }
}

/// A reply under way. Begin, append sections, finish.
#[derive(Clone, Debug)]
pub struct Reply {
    header: Header,
    limit: usize,
    /// Our OPT record, if the client sent one.
    pub edns: Option<EdnsReply>,
    /// How the reply is authenticated.
    pub seal: Seal,
}

/// AA (RFC 1035 §4.1.1).
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RESPONSE: u16 = 0x8000;
/// Opcode, RD and CD come back as they were sent (RFC 1035 §4.1.1, RFC 4035 §3.1.6).
const ECHOED: u16 = 0x7800 | 0x0100 | 0x0010;

/// The second word of a response's header.
pub(super) fn response_flags(request: u16, rcode: Rcode, authoritative: bool, truncated: bool) -> u16 {
    let authoritative = if authoritative { AUTHORITATIVE } else { 0 };
    let truncated = if truncated { TRUNCATED } else { 0 };
    RESPONSE | request & ECHOED | authoritative | truncated | rcode.0 & 0xf
}

/// How long a reply may become, for a client that offers so much in an OPT record, if it sent one. `udp_size` is the largest
/// datagram that we send.
pub(super) fn message_limit(transport: Transport, offered: Option<u16>, udp_size: u16) -> usize {
    match (transport, offered) {
        (Transport::Tcp | Transport::Tls, _) => MESSAGE_OCTETS,
        (Transport::Udp, None) => PLAIN_UDP_OCTETS,
        // Sizes below 512 count as 512 (RFC 6891 §6.2.3).
        (Transport::Udp, Some(size)) => usize::from(size.min(udp_size)).max(PLAIN_UDP_OCTETS),
    }
}

impl Reply {
    /// A reply to a request with this header and OPT record. `udp_size` is the largest datagram that we send.
    pub fn new(header: Header, edns: Option<&Edns<'_>>, transport: Transport, udp_size: u16) -> Reply {
        let limit = message_limit(transport, edns.map(|edns| edns.size), udp_size);
        let edns = edns.map(|edns| EdnsReply { size: udp_size, dnssec_ok: edns.dnssec_ok, ..EdnsReply::default() });
        Reply { header, limit, edns, seal: Seal::None }
    }

    /// Puts the question in place, as the client wrote it, behind room for the header.
    pub fn begin(&self, question: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.resize(12, 0);
        out.extend_from_slice(question);
    }

    /// How long the message may become before OPT and TSIG.
    pub fn limit(&self) -> usize {
        self.limit.saturating_sub(self.kept())
    }

    /// Octets of OPT and TSIG.
    fn kept(&self) -> usize {
        self.edns.as_ref().map_or(0, EdnsReply::len) + self.seal.len()
    }

    /// Adds an Extended DNS Error, if the client speaks EDNS.
    pub fn explain(&mut self, error: ExtendedError) {
        if let Some(edns) = &mut self.edns {
            edns.error = Some(error);
        }
    }

    /// Fills in the header and appends OPT and TSIG. The question counts as one if there is any octet behind the header.
    pub fn finish(
        mut self,
        rcode: Rcode,
        authoritative: bool,
        truncated: bool,
        counts: Counts,
        now: Wall,
        out: &mut Vec<u8>,
    ) {
        // An explanation goes before the reply grows beyond what the client takes.
        if let Some(edns) = &mut self.edns
            && out.len() + edns.len() + self.seal.len() > self.limit
        {
            edns.error = None;
        }
        let cut = out.len() + self.kept() > self.limit;
        let counts = if cut { self.cut(out) } else { counts };
        self.head(rcode, authoritative, truncated || cut, counts, out);
        match self.seal {
            Seal::None => {}
            Seal::Sign(signer, error) => signer.sign(out, now, error),
            Seal::Unsigned(error) => error.append(out),
        }
    }

    /// Completes the next message of an answer that has several, and is authoritative: OPT goes with the first, and each is
    /// signed over the one before. Its sections are within [`Reply::limit`], as it is for each of them.
    pub fn finish_next(&mut self, counts: Counts, now: Wall, out: &mut Vec<u8>) {
        self.head(Rcode::NOERROR, true, false, counts, out);
        self.edns = None;
        if let Seal::Sign(signer, _) = &mut self.seal {
            signer.sign_next(out, now);
        }
    }

    /// Fills in the header, and appends OPT.
    fn head(&self, rcode: Rcode, authoritative: bool, truncated: bool, counts: Counts, out: &mut Vec<u8>) {
        let flags = response_flags(self.header.flags, rcode, authoritative, truncated);
        let questions = u16::from(out.len() > 12);
        let additional = counts.additional + u16::from(self.edns.is_some());
        let words = [self.header.id, flags, questions, counts.answers, counts.authority, additional];
        for (at, word) in words.into_iter().enumerate() {
            out[at * 2..at * 2 + 2].copy_from_slice(&word.to_be_bytes());
        }
        if let Some(edns) = &self.edns {
            edns.write(rcode, out);
        }
    }

    /// Leaves only the header, for a datagram that takes no more: names of a question and of a key may have 255 octets
    /// each. A TSIG record without a MAC, which repeats the client's own names, goes too where it doesn't fit; a signed one
    /// always fits behind a header. The client asks again over TCP.
    ///
    /// Deviates: RFC 8945 §5.3.1 keeps the question.
    fn cut(&mut self, out: &mut Vec<u8>) -> Counts {
        out.truncate(12);
        if matches!(self.seal, Seal::Unsigned(_)) && out.len() + self.kept() > self.limit {
            self.seal = Seal::None;
        }
        Counts::default()
    }

    /// A reply without records.
    pub fn refuse(self, rcode: Rcode, question: &[u8], now: Wall, out: &mut Vec<u8>) {
        self.begin(question, out);
        self.finish(rcode, false, false, Counts::default(), now, out);
    }
}
