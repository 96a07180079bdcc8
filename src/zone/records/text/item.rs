//! The items of which the text of record data consists, each with its two directions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::name::wire_len;
use crate::base::{Name, RecordType};

use super::token::{Token, parse_seconds, quote};
use super::{Cause, TextError, Unshown, loc, svcb};

/// One item. The text in it names it in errors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    /// An IPv4 address.
    Address4,
    /// An IPv6 address.
    Address6,
    /// A number of this many octets.
    Number(usize, &'static str),
    /// A number of this many octets that may be written as a mnemonic; it is shown as a number.
    Choice(usize, &'static str, &'static [(&'static str, u32)]),
    /// A time of 32 bits, in any unit; it is shown in seconds.
    Seconds(&'static str),
    /// A domain name.
    Domain(&'static str),
    /// One character string.
    Text(&'static str),
    /// One or more character strings, to the end.
    Texts,
    /// The tag of a CAA record: a character string of letters and digits, never quoted (RFC 8659 §4.1).
    Tag,
    /// The rest as one string without a length octet.
    LongText(&'static str),
    /// The rest in hexadecimal, in any number of words; at least one octet.
    Hex(&'static str),
    /// The rest in base64, in any number of words; at least one octet.
    Base64(&'static str),
    /// A list of types (RFC 4034 §4.1.2); it may be empty.
    Types,
    /// Service parameters (RFC 9460 §2.1); there may be none.
    Parameters,
    /// A place on earth (RFC 1876).
    Location,
}

/// RFC 4398 §2.1.
pub(super) const CERTIFICATE_TYPES: &[(&str, u32)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

/// IANA "DNS Security Algorithm Numbers", with the short forms that BIND reads.
pub(super) const ALGORITHMS: &[(&str, u32)] = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("NSEC3DSA", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("NSEC3RSASHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECCGOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Walks over the words of one record's data.
pub(super) struct Cursor<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    /// Completes relative names.
    origin: &'t Name,
}

impl<'t, 'a> Cursor<'t, 'a> {
    pub(super) fn new(tokens: &'t [Token<'a>], origin: &'t Name) -> Self {
        Cursor { tokens, at: 0, origin }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.tokens.len()
    }

    /// The next word or string, if any.
    pub(super) fn next(&mut self) -> Option<&'t Token<'a>> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    /// The next word or string, which must be there.
    pub(super) fn any(&mut self, what: &'static str) -> Result<&'t Token<'a>, TextError> {
        let last = self.tokens.last().map(|token| token.at);
        self.next().ok_or(TextError { at: last, cause: Cause::Missing(what) })
    }

    /// The next word, which must be there and stand without quotation marks.
    pub(super) fn word(&mut self, what: &'static str) -> Result<&'t Token<'a>, TextError> {
        let token = self.any(what)?;
        if token.quoted { Err(Cause::Quoted(what).at(token)) } else { Ok(token) }
    }

    /// The rest as words, joined.
    fn joined(&mut self, what: &'static str) -> Result<(String, &'t Token<'a>), TextError> {
        let first = self.word(what)?;
        let mut joined = String::from(first.text);
        while !self.is_at_end() {
            joined.push_str(self.word(what)?.text);
        }
        Ok((joined, first))
    }
}

fn largest(octets: usize) -> u64 {
    (1 << (8 * octets)) - 1
}

/// Appends the low octets of a number that was checked to fit them.
fn push_number(value: u64, octets: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes()[8 - octets..]);
}

/// A number in decimal digits.
pub(super) fn number(token: &Token<'_>, what: &'static str, max: u64) -> Result<u64, TextError> {
    digits(token).filter(|&value| value <= max).ok_or(Cause::Number { what, max }.at(token))
}

fn digits(token: &Token<'_>) -> Option<u64> {
    // `parse` alone would take a sign.
    if token.quoted || !token.text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    token.text.parse().ok()
}

/// The rest of the words as hexadecimal; at least one octet.
pub(super) fn hex(cursor: &mut Cursor<'_, '_>, what: &'static str) -> Result<Vec<u8>, TextError> {
    let (text, first) = cursor.joined(what)?;
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let octets: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(*pair.get(1)?)?)).collect();
    octets.ok_or(Cause::Hex(what).at(first))
}

/// Appends octets in hexadecimal, as one word.
pub(super) fn show_hex(octets: &[u8], text: &mut String) {
    for octet in octets {
        write!(text, "{octet:02x}").expect("a String takes whatever is written");
    }
}

fn push_string(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), TextError> {
    let octets = token.octets()?;
    out.push(u8::try_from(octets.len()).map_err(|_| Cause::StringTooLong.at(token))?);
    out.extend_from_slice(&octets);
    Ok(())
}

/// Takes the first octets of what is left.
pub(super) fn take<'a>(rest: &mut &'a [u8], octets: usize) -> Result<&'a [u8], Unshown> {
    let (head, tail) = rest.split_at_checked(octets).ok_or(Unshown::Malformed)?;
    *rest = tail;
    Ok(head)
}

fn take_number(rest: &mut &[u8], octets: usize) -> Result<u64, Unshown> {
    Ok(take(rest, octets)?.iter().fold(0, |value, &octet| value << 8 | u64::from(octet)))
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Unshown> {
    let len = take(rest, 1)?[0];
    take(rest, usize::from(len))
}

/// Takes what is left, which must be something.
fn take_rest<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Unshown> {
    let all = take(rest, rest.len())?;
    if all.is_empty() { Err(Unshown::Malformed) } else { Ok(all) }
}

fn is_tag(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().all(u8::is_ascii_alphanumeric)
}

impl Item {
    /// Reads the item's words and appends its octets.
    pub(super) fn read(self, cursor: &mut Cursor<'_, '_>, out: &mut Vec<u8>) -> Result<(), TextError> {
        match self {
            Item::Address4 => {
                let token = cursor.word("IPv4 address")?;
                let address: Ipv4Addr = token.text.parse().map_err(|_| Cause::Address4.at(token))?;
                out.extend_from_slice(&address.octets());
            }
            Item::Address6 => {
                let token = cursor.word("IPv6 address")?;
                let address: Ipv6Addr = token.text.parse().map_err(|_| Cause::Address6.at(token))?;
                out.extend_from_slice(&address.octets());
            }
            Item::Number(octets, what) => {
                push_number(number(cursor.word(what)?, what, largest(octets))?, octets, out);
            }
            Item::Choice(octets, what, mnemonics) => {
                let token = cursor.word(what)?;
                let named = mnemonics.iter().find(|(text, _)| text.eq_ignore_ascii_case(token.text));
                let value = named.map(|&(_, value)| u64::from(value)).or_else(|| digits(token));
                let max = largest(octets);
                let value = value.filter(|&value| value <= max).ok_or(Cause::Choice { what, max }.at(token))?;
                push_number(value, octets, out);
            }
            Item::Seconds(what) => {
                let token = cursor.word(what)?;
                let value = parse_seconds(token.text).filter(|&value| value <= largest(4));
                push_number(value.ok_or(Cause::Number { what, max: largest(4) }.at(token))?, 4, out);
            }
            Item::Domain(what) => {
                let token = cursor.word(what)?;
                token.octets()?; // refuses bare quotation marks
                let name =
                    Name::parse(token.text, Some(cursor.origin)).map_err(|error| Cause::from(error).at(token))?;
                out.extend_from_slice(name.as_wire());
            }
            Item::Text(what) => push_string(cursor.any(what)?, out)?,
            Item::Texts => {
                push_string(cursor.any("text")?, out)?;
                while let Some(token) = cursor.next() {
                    push_string(token, out)?;
                }
            }
            Item::Tag => {
                let token = cursor.word("tag")?;
                if !is_tag(token.text.as_bytes()) || token.text.len() > 255 {
                    return Err(Cause::Tag.at(token));
                }
                push_string(token, out)?;
            }
            Item::LongText(what) => out.extend_from_slice(&cursor.any(what)?.octets()?),
            Item::Hex(what) => out.extend_from_slice(&hex(cursor, what)?),
            Item::Base64(what) => {
                let (text, first) = cursor.joined(what)?;
                let octets = STANDARD.decode(text).map_err(|_| Cause::Base64(what).at(first))?;
                out.extend_from_slice(&octets);
            }
            Item::Types => read_types(cursor, out)?,
            Item::Parameters => svcb::read(cursor, out)?,
            Item::Location => loc::read(cursor, out)?,
        }
        Ok(())
    }

    /// Takes the item's octets from the front of `rest` and appends its text.
    pub(super) fn show(self, rest: &mut &[u8], text: &mut String) -> Result<(), Unshown> {
        match self {
            Item::Address4 => {
                let octets: [u8; 4] = take(rest, 4)?.try_into().map_err(|_| Unshown::Malformed)?;
                text.push_str(&Ipv4Addr::from(octets).to_string());
            }
            Item::Address6 => {
                let octets: [u8; 16] = take(rest, 16)?.try_into().map_err(|_| Unshown::Malformed)?;
                text.push_str(&Ipv6Addr::from(octets).to_string());
            }
            Item::Number(octets, _) | Item::Choice(octets, ..) => {
                text.push_str(&take_number(rest, octets)?.to_string());
            }
            Item::Seconds(_) => text.push_str(&take_number(rest, 4)?.to_string()),
            Item::Domain(_) => {
                let len = wire_len(rest).map_err(|_| Unshown::Malformed)?;
                let name = Name::from_wire(take(rest, len)?).map_err(|_| Unshown::Malformed)?;
                text.push_str(&name.to_string());
            }
            Item::Text(_) => quote(take_string(rest)?, text),
            Item::Texts => {
                quote(take_string(rest)?, text);
                while !rest.is_empty() {
                    text.push(' ');
                    quote(take_string(rest)?, text);
                }
            }
            Item::Tag => {
                let tag = take_string(rest)?;
                if !is_tag(tag) {
                    return Err(Unshown::Malformed);
                }
                text.extend(tag.iter().map(|&octet| char::from(octet)));
            }
            Item::LongText(_) => quote(take(rest, rest.len())?, text),
            Item::Hex(_) => show_hex(take_rest(rest)?, text),
            Item::Base64(_) => STANDARD.encode_string(take_rest(rest)?, text),
            Item::Types => show_types(rest, text)?,
            Item::Parameters => svcb::show(rest, text)?,
            Item::Location => loc::show(rest, text)?,
        }
        Ok(())
    }
}

/// RFC 4034 §4.1.2: per window of 256 types its number, a length, and so many octets of bits, highest bit first.
fn read_types(cursor: &mut Cursor<'_, '_>, out: &mut Vec<u8>) -> Result<(), TextError> {
    let mut windows: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while !cursor.is_at_end() {
        let token = cursor.word("type")?;
        let rtype: RecordType = token.text.parse().map_err(|_| Cause::Type.at(token))?;
        let [window, low] = rtype.0.to_be_bytes();
        let bits = windows.entry(window).or_default();
        let octet = usize::from(low / 8);
        if bits.len() <= octet {
            bits.resize(octet + 1, 0);
        }
        bits[octet] |= 0x80 >> (low % 8);
    }
    for (window, bits) in windows {
        out.push(window);
        out.push(u8::try_from(bits.len()).expect("256 bits are 32 octets"));
        out.extend_from_slice(&bits);
    }
    Ok(())
}

fn show_types(rest: &mut &[u8], text: &mut String) -> Result<(), Unshown> {
    let mut previous = None;
    let mut separator = "";
    while !rest.is_empty() {
        let window = take(rest, 1)?[0];
        let bits = take_string(rest)?;
        // Windows ascend and no octet at the end is empty, so that each list has one form only.
        if previous.is_some_and(|previous| window <= previous) || bits.len() > 32 || bits.last().is_none_or(|&b| b == 0)
        {
            return Err(Unshown::Malformed);
        }
        previous = Some(window);
        for (low, _) in
            (0u8..=255).zip(0..8 * bits.len()).filter(|(low, _)| bits[usize::from(low / 8)] & 0x80 >> (low % 8) != 0)
        {
            let rtype = RecordType(u16::from_be_bytes([window, low]));
            write!(text, "{separator}{rtype}").expect("a String takes whatever is written");
            separator = " ";
        }
    }
    Ok(())
}
