//! The presentation format of record data: what stands behind the type in a master file.
//!
//! One table says of each type which items its text consists of; reading and writing both follow it, so that what is
//! written reads back. Data of any type, known or not, can also be given as octets (`\# LENGTH HEX…`, RFC 3597 §5).
//!
//! - [`parse`] makes words into canonical wire form: names absolute, folded and uncompressed. The octets of the generic
//!   form are held to the same rules as the type's own text, since a secondary would refuse a whole transfer for them.
//! - [`present`] makes canonical wire form into a text with absolute names that other servers' checkers read. What a
//!   type's own text can't express is written in the generic form; so `parse(present(x)) == x` for all data that
//!   `parse` yields.
//!
//! Bounds: data have at most 65,535 octets, a character string 255. Both directions take time in the length of the
//! text.
//!
//! Decisions: the types are read here and not by hickory-proto, whose lexer (0.26.3) gives `\DDD` another value, leaves
//! escapes in unquoted words alone, and whose strings can't hold every octet; the tests hold the two against each other
//! on what both can read. A type without its own text here is read in the generic form only, and the error says so.
//!
//! Sources: RFC 1035 §5.1, RFC 3597 §5, and beside each type in the table below.

mod item;
mod loc;
mod svcb;
mod token;

use std::fmt::Write as _;

use crate::base::{Name, NameError, RecordType};
use crate::zone::Rdata;

use super::schema::{RdataError, canonicalize};

use item::Cursor;
use item::Item::{self, *};
pub use token::{Position, Token, parse_seconds};

/// The most octets that the length field of a record can say (RFC 1035 §3.2.1).
const RDATA_OCTETS: usize = 65_535;

/// Why a text is not the data of a record, and which word shows it. Nothing was made of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct TextError {
    /// The place of the word that is wrong, or of the last one if something is missing behind it; `None` if there is no
    /// word at all.
    pub at: Option<Position>,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong with the text of record data, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The text ends before the data are complete.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// Words are left over.
    #[error("the record is complete before this word: remove it, or put text with spaces in quotation marks")]
    Extra,
    /// Only character strings may be quoted.
    #[error("the {0} must stand without quotation marks")]
    Quoted(&'static str),
    /// Not a number, or too large.
    #[error("the {what} must be a whole number from 0 to {max}")]
    Number {
        /// The item.
        what: &'static str,
        /// Its largest value.
        max: u64,
    },
    /// Neither a number nor a mnemonic of the item.
    #[error("the {what} must be one of its mnemonics or a whole number from 0 to {max}")]
    Choice {
        /// The item.
        what: &'static str,
        /// Its largest value.
        max: u64,
    },
    /// RFC 1035 §3.4.1.
    #[error("not an IPv4 address; it looks like 192.0.2.1")]
    Address4,
    /// RFC 3596 §2.4.
    #[error("not an IPv6 address; it looks like 2001:db8::1")]
    Address6,
    /// Not a name.
    #[error("{0}")]
    Name(#[from] NameError),
    /// RFC 1035 §5.1.
    #[error("a backslash must be followed by a character or by three digits (\\DDD, at most 255)")]
    Escape,
    /// A quotation mark inside a word.
    #[error("a quotation mark inside a word: quote the whole string, or write \\\" for the character")]
    InnerQuote,
    /// RFC 1035 §3.3.
    #[error("a character string is longer than 255 octets: split it into several, each in quotation marks")]
    StringTooLong,
    /// RFC 8659 §4.1.
    #[error("a CAA tag is 1 to 255 letters and digits, such as issue")]
    Tag,
    /// Not hexadecimal.
    #[error("the {0} must be hexadecimal digits, two for each octet")]
    Hex(&'static str),
    /// RFC 4648 §4.
    #[error("the {0} must be base64, with its padding")]
    Base64(&'static str),
    /// In a list of types.
    #[error("not a record type; an unusual one can be written as TYPEn (RFC 3597 §5)")]
    Type,
    /// RFC 3597 §5.
    #[error("\\# says {said} octets, and {found} follow")]
    GenericLength {
        /// The number behind `\#`.
        said: usize,
        /// How many octets the digits make.
        found: usize,
    },
    /// RFC 3658 §2.4, RFC 4509, RFC 6605, RFC 4255 §3.1.2, RFC 6594.
    #[error("a digest of this type has {octets} octets: is a part of it missing?")]
    Digest {
        /// How many it has.
        octets: usize,
    },
    /// No text form is known for the type.
    #[error("livezone does not read the text form of {0}: write its octets as \\# LENGTH HEX (RFC 3597 §5)")]
    NoText(RecordType),
    /// The octets don't fit the type.
    #[error("{0}")]
    Rdata(#[from] RdataError),
    /// The octets fit the type's lengths, but break a rule of its fields.
    #[error("these octets are not valid {0} data")]
    Malformed(RecordType),
    /// More than a record can hold.
    #[error("the data of a record can't be longer than 65535 octets")]
    TooLong,
    /// RFC 1876 §3.
    #[error("in the location, {0}")]
    Location(&'static str),
    /// RFC 9460 §2.1 and appendix A.
    #[error("in the service parameters, {0}")]
    Parameter(&'static str),
}

impl Cause {
    fn at(self, token: &Token<'_>) -> TextError {
        TextError { at: Some(token.at), cause: self }
    }
}

/// The items of a type's text, in order; `None` if only the generic form is known.
fn items(rtype: RecordType) -> Option<&'static [Item]> {
    Some(match rtype {
        RecordType::A => &[Address4],
        RecordType::AAAA => &[Address6],
        RecordType::NS => &[Domain("name of the server")],
        RecordType::CNAME | RecordType::DNAME => &[Domain("canonical name")],
        RecordType::PTR => &[Domain("target")],
        RecordType::MD | RecordType::MF | RecordType::MB | RecordType::MG | RecordType::MR => &[Domain("name")],
        RecordType::SOA => &[
            Domain("primary server"),
            Domain("contact"),
            Number(4, "serial"),
            Seconds("refresh time"),
            Seconds("retry time"),
            Seconds("expire time"),
            Seconds("negative TTL"),
        ],
        RecordType::HINFO => &[Text("CPU"), Text("operating system")],
        RecordType::MINFO => &[Domain("mailbox"), Domain("error mailbox")],
        RecordType::MX => &[Number(2, "preference"), Domain("mail server")],
        // SPF: RFC 7208 §3.1.
        RecordType::TXT | RecordType::SPF => &[Texts],
        // RP, AFSDB, RT: RFC 1183.
        RecordType::RP => &[Domain("mailbox"), Domain("name of the text")],
        RecordType::AFSDB => &[Number(2, "subtype"), Domain("server")],
        RecordType::RT => &[Number(2, "preference"), Domain("intermediate host")],
        // RFC 2163 §4.
        RecordType::PX => &[Number(2, "preference"), Domain("MAP822 name"), Domain("MAPX400 name")],
        RecordType::LOC => &[Location],
        // RFC 2782.
        RecordType::SRV => &[Number(2, "priority"), Number(2, "weight"), Number(2, "port"), Domain("target")],
        // RFC 3403 §4.1.
        RecordType::NAPTR => &[
            Number(2, "order"),
            Number(2, "preference"),
            Text("flags"),
            Text("services"),
            Text("regular expression"),
            Domain("replacement"),
        ],
        // RFC 2230 §3.
        RecordType::KX => &[Number(2, "preference"), Domain("key exchanger")],
        // RFC 4398 §2.
        RecordType::CERT => &[
            Choice(2, "certificate type", item::CERTIFICATE_TYPES),
            Number(2, "key tag"),
            Choice(1, "algorithm", item::ALGORITHMS),
            Base64("certificate"),
        ],
        // RFC 4034 §5.
        RecordType::DS => {
            &[Number(2, "key tag"), Choice(1, "algorithm", item::ALGORITHMS), Number(1, "digest type"), Hex("digest")]
        }
        // RFC 4255 §3.
        RecordType::SSHFP => &[Number(1, "algorithm"), Number(1, "fingerprint type"), Hex("fingerprint")],
        // RFC 6698 §2 and RFC 8162 §2.
        RecordType::TLSA | RecordType::SMIMEA => &[
            Number(1, "certificate usage"),
            Number(1, "selector"),
            Number(1, "matching type"),
            Hex("certificate association data"),
        ],
        // RFC 7929 §2.
        RecordType::OPENPGPKEY => &[Base64("key")],
        // RFC 7477 §2.1.
        RecordType::CSYNC => &[Number(4, "serial"), Number(2, "flags"), Types],
        // RFC 9460 §2.1.
        RecordType::SVCB | RecordType::HTTPS => &[Number(2, "priority"), Domain("target"), Parameters],
        // RFC 7553 §4.
        RecordType::URI => &[Number(2, "priority"), Number(2, "weight"), LongText("target")],
        // RFC 8659 §4.1.
        RecordType::CAA => &[Number(1, "flags"), Tag, LongText("value")],
        _ => return None,
    })
}

/// Reads the words behind the type. Names without a final dot are completed by `origin`.
pub fn parse(rtype: RecordType, tokens: &[Token<'_>], origin: &Name) -> Result<Rdata, TextError> {
    if let Some((first, rest)) = tokens.split_first()
        && first.text == "\\#"
        && !first.quoted
    {
        return parse_generic(rtype, first, rest);
    }
    let last = tokens.last().map(|token| token.at);
    let Some(items) = items(rtype) else {
        return Err(TextError { at: tokens.first().map(|token| token.at), cause: Cause::NoText(rtype) });
    };
    let mut cursor = Cursor::new(tokens, origin);
    let mut rdata = Vec::new();
    for item in items {
        item.read(&mut cursor, &mut rdata)?;
    }
    if let Some(token) = cursor.next() {
        return Err(Cause::Extra.at(token));
    }
    if rdata.len() > RDATA_OCTETS {
        return Err(TextError { at: last, cause: Cause::TooLong });
    }
    if let Some(octets) = wrong_digest(rtype, &rdata) {
        return Err(TextError { at: last, cause: Cause::Digest { octets } });
    }
    canonicalize(rtype, &rdata).map_err(|error| TextError { at: last, cause: error.into() })
}

/// RFC 3597 §5: the length, then the octets in any number of words.
fn parse_generic(rtype: RecordType, mark: &Token<'_>, tokens: &[Token<'_>]) -> Result<Rdata, TextError> {
    let origin = Name::root();
    let mut cursor = Cursor::new(tokens, &origin);
    let Some(token) = cursor.next() else {
        return Err(Cause::Missing("length behind \\#").at(mark));
    };
    let said = item::number(token, "length", RDATA_OCTETS as u64)?;
    let said = usize::try_from(said).expect("checked against the largest length");
    let rdata = if said == 0 && cursor.is_at_end() { Vec::new() } else { item::hex(&mut cursor, "data")? };
    if rdata.len() != said {
        return Err(Cause::GenericLength { said, found: rdata.len() }.at(token));
    }
    let rdata = canonicalize(rtype, &rdata).map_err(|error| Cause::from(error).at(token))?;
    match native(rtype, &rdata) {
        Err(Unshown::Malformed) => Err(Cause::Malformed(rtype).at(token)),
        Ok(_) | Err(Unshown::Inexpressible) => Ok(rdata),
    }
}

/// Why data have no text of their type's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unshown {
    /// The type has none here, or its text can't express these data, which are sound.
    Inexpressible,
    /// They break a rule of the type.
    Malformed,
}

/// Whether data follow the rules of their type, as far as they are known here. Other servers refuse a zone whose data
/// don't, also in a transfer.
pub fn is_sound(rtype: RecordType, rdata: &[u8]) -> bool {
    !matches!(native(rtype, rdata), Err(Unshown::Malformed))
}

/// Writes canonical data as text: in the type's own form, or as octets. Any octets get a text; only those that are
/// sound read back.
pub fn present(rtype: RecordType, rdata: &[u8]) -> String {
    native(rtype, rdata).unwrap_or_else(|_| generic(rdata))
}

fn native(rtype: RecordType, rdata: &[u8]) -> Result<String, Unshown> {
    let items = items(rtype).ok_or(Unshown::Inexpressible)?;
    let mut text = String::new();
    let mut rest = rdata;
    for item in items {
        let before = text.len();
        if before > 0 {
            text.push(' ');
        }
        let start = text.len();
        item.show(&mut rest, &mut text)?;
        if text.len() == start {
            text.truncate(before); // an empty list of types or parameters
        }
    }
    if rest.is_empty() && wrong_digest(rtype, rdata).is_none() { Ok(text) } else { Err(Unshown::Malformed) }
}

/// How long the digest should be, if it is not: BIND refuses a zone for that, also in a transfer.
fn wrong_digest(rtype: RecordType, rdata: &[u8]) -> Option<usize> {
    let (digest, octets) = match (rtype, rdata) {
        (RecordType::DS, [_, _, _, 1, digest @ ..]) => (digest, 20),
        (RecordType::DS, [_, _, _, 2, digest @ ..]) => (digest, 32),
        (RecordType::DS, [_, _, _, 4, digest @ ..]) => (digest, 48),
        (RecordType::SSHFP, [_, 1, digest @ ..]) => (digest, 20),
        (RecordType::SSHFP, [_, 2, digest @ ..]) => (digest, 32),
        _ => return None,
    };
    (digest.len() != octets).then_some(octets)
}

fn generic(rdata: &[u8]) -> String {
    let mut text = String::with_capacity(10 + 2 * rdata.len());
    write!(text, "\\# {}", rdata.len()).expect("a String takes whatever is written");
    if !rdata.is_empty() {
        text.push(' ');
        item::show_hex(rdata, &mut text);
    }
    text
}

#[cfg(test)]
mod tests;
