//! Reading messages: header, question, records, and the two pseudo-records that concern a message as a whole.
//!
//! [`Envelope::parse`] walks a message once, checks every length and pointer, and notes where things stand; nothing is
//! copied until somebody asks for a name or for data. What can't be walked to its end is FORMERR.
//! [`Envelope::parse_transfer`] does the same with the messages of a zone transfer, which may leave out the question.

use std::fmt;

use crate::base::limits::NAME_OCTETS;
use crate::base::{Name, RecordType};
use crate::zone::Rdata;
use crate::zone::records::schema::{self, Field};

use super::edns::Edns;
use super::tsig;

/// Octets of a message's header (RFC 1035 §4.1.1).
pub(super) const HEADER: usize = 12;

/// The class Internet (RFC 1035 §3.2.4).
pub const CLASS_IN: u16 = 1;
/// The class Chaos (RFC 1035 §3.2.4), of what servers say of themselves.
pub const CLASS_CH: u16 = 3;
/// NONE (RFC 2136 §2.4).
pub const CLASS_NONE: u16 = 254;
/// ANY, of questions and updates.
pub const CLASS_ANY: u16 = 255;

/// An operation code (RFC 1035 §4.1.1, RFC 2136 §2.2, RFC 1996).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opcode(pub u8);

impl Opcode {
    /// A question.
    pub const QUERY: Opcode = Opcode(0);
    /// A zone has changed.
    pub const NOTIFY: Opcode = Opcode(4);
    /// A dynamic update.
    pub const UPDATE: Opcode = Opcode(5);
}

/// A response code, extended ones included (RFC 6895 §2.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rcode(pub u16);

#[expect(missing_docs, reason = "each constant is the mnemonic of the IANA registry")]
impl Rcode {
    pub const NOERROR: Rcode = Rcode(0);
    pub const FORMERR: Rcode = Rcode(1);
    pub const SERVFAIL: Rcode = Rcode(2);
    pub const NXDOMAIN: Rcode = Rcode(3);
    pub const NOTIMP: Rcode = Rcode(4);
    pub const REFUSED: Rcode = Rcode(5);
    pub const YXDOMAIN: Rcode = Rcode(6);
    pub const YXRRSET: Rcode = Rcode(7);
    pub const NXRRSET: Rcode = Rcode(8);
    pub const NOTAUTH: Rcode = Rcode(9);
    pub const NOTZONE: Rcode = Rcode(10);
    pub const BADVERS: Rcode = Rcode(16);
}

impl fmt::Display for Rcode {
    /// The mnemonic, or `RCODE` and the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Rcode::NOERROR => "NOERROR",
            Rcode::FORMERR => "FORMERR",
            Rcode::SERVFAIL => "SERVFAIL",
            Rcode::NXDOMAIN => "NXDOMAIN",
            Rcode::NOTIMP => "NOTIMP",
            Rcode::REFUSED => "REFUSED",
            Rcode::YXDOMAIN => "YXDOMAIN",
            Rcode::YXRRSET => "YXRRSET",
            Rcode::NXRRSET => "NXRRSET",
            Rcode::NOTAUTH => "NOTAUTH",
            Rcode::NOTZONE => "NOTZONE",
            Rcode::BADVERS => "BADVERS",
            Rcode(number) => return write!(f, "RCODE{number}"),
        })
    }
}

/// The message can't be read to its end, or breaks a rule of its sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

/// The fixed part of a message (RFC 1035 §4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The id that the response must carry.
    pub id: u16,
    /// The flags, opcode and rcode word.
    pub flags: u16,
    /// QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT.
    pub counts: [u16; 4],
}

impl Header {
    /// Reads a header; `None` if the octets aren't enough for one.
    pub fn read(packet: &[u8]) -> Option<Header> {
        let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
        Some(Header { id: word(0)?, flags: word(2)?, counts: [word(4)?, word(6)?, word(8)?, word(10)?] })
    }

    /// QR: this is a response.
    pub fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// AA: whoever answers has the zone itself.
    pub fn is_authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    /// TC: something that did not fit was left out.
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// The operation code.
    pub fn opcode(&self) -> Opcode {
        Opcode(u8::try_from(self.flags >> 11 & 0xf).expect("four bits"))
    }

    /// The response code, as far as the header has it.
    pub fn rcode(&self) -> Rcode {
        Rcode(self.flags & 0xf)
    }
}

/// The only entry of the question section (the zone section of an update).
#[derive(Clone, Debug)]
pub struct Question<'m> {
    /// The entry as it was sent, for the echo.
    pub octets: &'m [u8],
    /// The name, lower case; the first `len` octets.
    name: [u8; NAME_OCTETS],
    len: usize,
    /// QTYPE or ZTYPE.
    pub qtype: RecordType,
    /// QCLASS or ZCLASS.
    pub class: u16,
}

impl Question<'_> {
    /// The name in wire form, lower case.
    pub fn name(&self) -> &[u8] {
        &self.name[..self.len]
    }
}

/// One record as it stands in a message.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'m> {
    packet: &'m [u8],
    /// Where the record starts.
    pub start: usize,
    /// The type.
    pub rtype: RecordType,
    /// The class.
    pub class: u16,
    /// The TTL.
    pub ttl: u32,
    rdata_at: usize,
    rdata_len: usize,
}

impl<'m> RawRecord<'m> {
    /// Reads the record that starts there; returns where the next one does.
    pub fn read(packet: &'m [u8], start: usize) -> Result<(RawRecord<'m>, usize), Malformed> {
        let fixed = skip_name(packet, start)?;
        let head = packet.get(fixed..fixed + 10).ok_or(Malformed("a record ends early"))?;
        let record = RawRecord {
            packet,
            start,
            rtype: RecordType(u16::from_be_bytes([head[0], head[1]])),
            class: u16::from_be_bytes([head[2], head[3]]),
            ttl: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            rdata_at: fixed + 10,
            rdata_len: usize::from(u16::from_be_bytes([head[8], head[9]])),
        };
        let end = record.rdata_at + record.rdata_len;
        if end > packet.len() {
            return Err(Malformed("record data end behind the message"));
        }
        Ok((record, end))
    }

    /// The owner, expanded and folded.
    pub fn name(&self) -> Result<Name, Malformed> {
        Name::from_wire(self.owner(&mut [0; NAME_OCTETS])?).map_err(|_| Malformed("a name is malformed"))
    }

    /// The same as octets in `buffer`, for look-ups.
    pub fn owner<'b>(&self, buffer: &'b mut [u8; NAME_OCTETS]) -> Result<&'b [u8], Malformed> {
        let (len, _) = read_name(self.packet, self.start, buffer)?;
        Ok(&buffer[..len])
    }

    /// The data as they stand, names possibly compressed.
    pub fn raw_rdata(&self) -> &'m [u8] {
        &self.packet[self.rdata_at..self.rdata_at + self.rdata_len]
    }

    /// The data in canonical form: names expanded and folded, lengths checked (RFC 3597 §4).
    pub fn rdata(&self) -> Result<Rdata, Malformed> {
        let mut plain = Vec::with_capacity(self.rdata_len);
        let end = self.rdata_at + self.rdata_len;
        let mut at = self.rdata_at;
        for &field in schema::fields(self.rtype) {
            match field {
                Field::CompressibleName | Field::PlainName => {
                    let mut buffer = [0; NAME_OCTETS];
                    let (len, next) = read_name(&self.packet[..end], at, &mut buffer)?;
                    plain.extend_from_slice(&buffer[..len]);
                    at = next;
                }
                Field::Fixed(len) => {
                    plain.extend_from_slice(self.packet.get(at..(at + len).min(end)).unwrap_or_default());
                    at += len;
                }
                Field::CharString => {
                    let len = self.packet.get(at).map_or(0, |&len| usize::from(len) + 1);
                    plain.extend_from_slice(self.packet.get(at..(at + len).min(end)).unwrap_or_default());
                    at += len.max(1);
                }
                Field::CharStrings | Field::Rest => {
                    plain.extend_from_slice(self.packet.get(at..end).unwrap_or_default());
                    at = end;
                }
            }
        }
        if at != end {
            return Err(Malformed("record data have the wrong length for their type"));
        }
        schema::canonicalize(self.rtype, &plain).map_err(|_| Malformed("record data don't fit their type"))
    }
}

/// A message, walked once; `Q` is its question, or an option of one.
#[derive(Clone, Debug)]
pub struct Envelope<'m, Q = Question<'m>> {
    /// The message.
    pub packet: &'m [u8],
    /// Its header.
    pub header: Header,
    /// Its only question.
    pub question: Q,
    /// The OPT record (RFC 6891).
    pub edns: Option<Edns<'m>>,
    /// The TSIG record (RFC 8945).
    pub tsig: Option<tsig::Signature<'m>>,
    sections: [usize; 3],
}

impl<'m> Envelope<'m> {
    /// Walks a message with exactly one question.
    pub fn parse(packet: &'m [u8]) -> Result<Envelope<'m>, Malformed> {
        let header = Header::read(packet).ok_or(Malformed("shorter than a header"))?;
        if header.counts[0] != 1 {
            return Err(Malformed("there must be exactly one question"));
        }
        let (question, at) = read_question(packet)?;
        Envelope::walk(packet, header, question, at)
    }
}

impl<'m> Envelope<'m, Option<Question<'m>>> {
    /// Walks a message with one question or none: the messages of a transfer behind the first may leave it out (RFC 5936
    /// §2.2.2), and so do errors of servers that could not read ours, and queries for a cookie alone (RFC 7873 §5.4).
    pub fn parse_transfer(packet: &'m [u8]) -> Result<Self, Malformed> {
        let header = Header::read(packet).ok_or(Malformed("shorter than a header"))?;
        match header.counts[0] {
            0 => Envelope::walk(packet, header, None, HEADER),
            1 => {
                let (question, at) = read_question(packet)?;
                Envelope::walk(packet, header, Some(question), at)
            }
            _ => Err(Malformed("there must be one question at most")),
        }
    }
}

impl<'m, Q> Envelope<'m, Q> {
    /// Walks the records, which begin at `at`.
    fn walk(packet: &'m [u8], header: Header, question: Q, mut at: usize) -> Result<Self, Malformed> {
        let mut envelope = Envelope { packet, header, question, edns: None, tsig: None, sections: [at; 3] };
        for section in 0..3 {
            envelope.sections[section] = at;
            for number in 0..header.counts[section + 1] {
                let (record, next) = RawRecord::read(packet, at)?;
                let is_last = section == 2 && number + 1 == header.counts[3];
                envelope.note(&record, section, is_last)?;
                at = next;
            }
        }
        if at != packet.len() {
            return Err(Malformed("octets follow the last record"));
        }
        Ok(envelope)
    }

    fn note(&mut self, record: &RawRecord<'m>, section: usize, is_last: bool) -> Result<(), Malformed> {
        match record.rtype {
            RecordType::OPT => {
                // RFC 6891 §6.1.1: one, in the additional section, at the root.
                if section != 2 || self.edns.is_some() || self.packet[record.start] != 0 {
                    return Err(Malformed("a misplaced OPT record"));
                }
                self.edns = Some(Edns::read(record.class, record.ttl, record.raw_rdata())?);
            }
            RecordType::TSIG => {
                // RFC 8945 §5.1: the last record of the additional section.
                if section != 2 || !is_last {
                    return Err(Malformed("a misplaced TSIG record"));
                }
                self.tsig = Some(tsig::Signature::read(record)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The response code, with the bits that the OPT record has of it (RFC 6891 §6.1.3).
    pub fn rcode(&self) -> Rcode {
        let extended = self.edns.as_ref().map_or(0, |edns| u16::from(edns.extended_rcode));
        Rcode(extended << 4 | self.header.rcode().0)
    }

    /// The records of the first section behind the question (answers; prerequisites of an update).
    pub fn first_section(&self) -> Records<'m> {
        self.section(0)
    }

    /// The records of the second section (authority; the changes of an update).
    pub fn second_section(&self) -> Records<'m> {
        self.section(1)
    }

    fn section(&self, section: usize) -> Records<'m> {
        Records { packet: self.packet, at: self.sections[section], left: self.header.counts[section + 1] }
    }
}

/// The records of a section.
#[derive(Clone, Debug)]
pub struct Records<'m> {
    packet: &'m [u8],
    at: usize,
    left: u16,
}

impl<'m> Iterator for Records<'m> {
    type Item = RawRecord<'m>;

    fn next(&mut self) -> Option<RawRecord<'m>> {
        self.left = self.left.checked_sub(1)?;
        let (record, next) = RawRecord::read(self.packet, self.at).ok()?;
        self.at = next;
        Some(record)
    }
}

/// The first question; its name may not be compressed, as there is nothing before it to point to.
pub fn read_question(packet: &[u8]) -> Result<(Question<'_>, usize), Malformed> {
    let mut name = [0; NAME_OCTETS];
    let (len, at) = read_name(packet, HEADER, &mut name)?;
    if at != HEADER + len {
        return Err(Malformed("a compressed question"));
    }
    let fixed = packet.get(at..at + 4).ok_or(Malformed("the question ends early"))?;
    let question = Question {
        octets: &packet[HEADER..at + 4],
        name,
        len,
        qtype: RecordType(u16::from_be_bytes([fixed[0], fixed[1]])),
        class: u16::from_be_bytes([fixed[2], fixed[3]]),
    };
    Ok((question, at + 4))
}

/// Expands a name into `buffer` in lower case. Returns its length and where the message goes on behind it.
///
/// Pointers must point backwards (RFC 1035 §4.1.4: a prior occurrence), so a walk ends.
fn read_name(packet: &[u8], start: usize, buffer: &mut [u8; NAME_OCTETS]) -> Result<(usize, usize), Malformed> {
    let (mut at, mut len, mut after, mut lowest) = (start, 0, None, start);
    loop {
        let octet = *packet.get(at).ok_or(Malformed("a name ends behind the message"))?;
        match octet {
            0 => {
                *buffer.get_mut(len).ok_or(Malformed("a name is longer than 255 octets"))? = 0;
                return Ok((len + 1, after.unwrap_or(at + 1)));
            }
            1..=63 => {
                let label =
                    packet.get(at..=at + usize::from(octet)).ok_or(Malformed("a label ends behind the message"))?;
                let room =
                    buffer.get_mut(len..len + label.len()).ok_or(Malformed("a name is longer than 255 octets"))?;
                room.copy_from_slice(label);
                room.make_ascii_lowercase();
                len += label.len();
                at += label.len();
            }
            0xc0.. => {
                let low = *packet.get(at + 1).ok_or(Malformed("a pointer ends behind the message"))?;
                after = after.or(Some(at + 2));
                let target = usize::from(u16::from_be_bytes([octet & 0x3f, low]));
                if target >= lowest {
                    return Err(Malformed("a pointer doesn't point backwards"));
                }
                at = target;
                lowest = target;
            }
            _ => return Err(Malformed("an unknown kind of label")),
        }
    }
}

/// Where the message goes on behind a name; its labels are checked when it is read.
fn skip_name(packet: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut buffer = [0; NAME_OCTETS];
    match packet.get(start) {
        // Most owners in updates and queries are a pointer or the root.
        Some(0) => Ok(start + 1),
        _ => read_name(packet, start, &mut buffer).map(|(_, next)| next),
    }
}
