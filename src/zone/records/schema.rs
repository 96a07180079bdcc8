//! The fields of record data, by type.
//!
//! Only what livezone must know about a type stands here: where names are (to fold them, to compress those of RFC 1035,
//! to find the addresses of their targets) and which lengths are fixed (to refuse data that no reader could parse).
//! A type that isn't listed is opaque (RFC 3597).

use crate::base::name::wire_len;
use crate::base::{Name, NameError, RecordType};

/// One field of record data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// This many octets.
    Fixed(usize),
    /// A name that may be compressed in messages (the types of RFC 1035; RFC 3597 §4).
    CompressibleName,
    /// A name that must not be compressed when sent, though receivers expand it (RFC 3597 §4).
    PlainName,
    /// One character string: a length octet and that many octets.
    CharString,
    /// One or more character strings, to the end.
    CharStrings,
    /// Whatever is left, also nothing.
    Rest,
}

use Field::{CharString, CharStrings, CompressibleName, Fixed, PlainName, Rest};

/// Why octets are not data of the type that they are said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RdataError {
    /// A field ends behind the data, or octets are left over.
    #[error("the record data do not have the length that their type asks for")]
    Length,
    /// A name in the data is malformed.
    #[error("a name in the record data is malformed: {0}")]
    Name(#[from] NameError),
}

/// The fields of a type.
pub fn fields(rtype: RecordType) -> &'static [Field] {
    match rtype {
        RecordType::A => &[Fixed(4)],
        RecordType::AAAA => &[Fixed(16)],
        RecordType::NS
        | RecordType::CNAME
        | RecordType::PTR
        | RecordType::MD
        | RecordType::MF
        | RecordType::MB
        | RecordType::MG
        | RecordType::MR => &[CompressibleName],
        RecordType::SOA => &[CompressibleName, CompressibleName, Fixed(20)],
        RecordType::MX => &[Fixed(2), CompressibleName],
        RecordType::MINFO => &[CompressibleName, CompressibleName],
        RecordType::TXT | RecordType::SPF => &[CharStrings],
        RecordType::HINFO => &[CharString, CharString],
        RecordType::SRV => &[Fixed(6), PlainName],
        RecordType::AFSDB | RecordType::RT | RecordType::KX => &[Fixed(2), PlainName],
        RecordType::RP => &[PlainName, PlainName],
        RecordType::PX => &[Fixed(2), PlainName, PlainName],
        RecordType::NAPTR => &[Fixed(4), CharString, CharString, CharString, PlainName],
        RecordType::DNAME => &[PlainName],
        RecordType::KEY | RecordType::DNSKEY => &[Fixed(4), Rest],
        RecordType::SVCB | RecordType::HTTPS => &[Fixed(2), PlainName, Rest],
        _ => &[Rest],
    }
}

/// Checks uncompressed data against their type and folds the names in them, so that equal data are equal octets
/// (RFC 4034 §6.2).
pub fn canonicalize(rtype: RecordType, rdata: &[u8]) -> Result<Box<[u8]>, RdataError> {
    let mut folded: Box<[u8]> = rdata.into();
    walk(rtype, rdata, |field, at, len| {
        if matches!(field, CompressibleName | PlainName) {
            folded[at..at + len].make_ascii_lowercase();
        }
    })?;
    Ok(folded)
}

/// Calls `visit(field, offset, length)` for each field of uncompressed data.
pub fn walk(rtype: RecordType, rdata: &[u8], mut visit: impl FnMut(Field, usize, usize)) -> Result<(), RdataError> {
    let mut at = 0;
    for &field in fields(rtype) {
        let rest = rdata.get(at..).ok_or(RdataError::Length)?;
        let len = match field {
            Fixed(len) => len,
            CompressibleName | PlainName => wire_len(rest)?,
            CharString => char_string_len(rest)?,
            CharStrings => {
                let mut len = char_string_len(rest)?;
                while len < rest.len() {
                    len += char_string_len(&rest[len..])?;
                }
                len
            }
            Rest => rest.len(),
        };
        if len > rest.len() {
            return Err(RdataError::Length);
        }
        visit(field, at, len);
        at += len;
    }
    if at == rdata.len() { Ok(()) } else { Err(RdataError::Length) }
}

fn char_string_len(octets: &[u8]) -> Result<usize, RdataError> {
    match octets.first() {
        Some(&len) if usize::from(len) < octets.len() => Ok(usize::from(len) + 1),
        _ => Err(RdataError::Length),
    }
}

/// The name whose addresses belong into the additional section beside such a record: RFC 1035 §3.3.9 and §3.3.11,
/// RFC 2782, RFC 1183 §1.
pub fn additional_target(rtype: RecordType, rdata: &[u8]) -> Option<&[u8]> {
    let skip = match rtype {
        RecordType::NS => 0,
        RecordType::MX | RecordType::AFSDB => 2,
        RecordType::SRV => 6,
        _ => return None,
    };
    rdata.get(skip..)
}

/// The same as a shared name.
pub fn additional_name(rtype: RecordType, rdata: &[u8]) -> Option<Name> {
    additional_target(rtype, rdata).and_then(|wire| Name::from_wire(wire).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_data_are_folded_and_nothing_else() {
        let mut srv = vec![0, b'A', 0, 1, 0, 80];
        srv.extend_from_slice(b"\x01A\x02bC\x00");
        let folded = canonicalize(RecordType::SRV, &srv).unwrap();
        assert_eq!(&folded[..6], &srv[..6]);
        assert_eq!(&folded[6..], b"\x01a\x02bc\x00");
        assert_eq!(&*canonicalize(RecordType::TXT, b"\x02Ab").unwrap(), b"\x02Ab");
    }

    #[test]
    fn data_of_the_wrong_length_are_refused() {
        assert_eq!(canonicalize(RecordType::A, &[1, 2, 3]), Err(RdataError::Length));
        assert_eq!(canonicalize(RecordType::A, &[1, 2, 3, 4, 5]), Err(RdataError::Length));
        assert_eq!(canonicalize(RecordType::TXT, &[]), Err(RdataError::Length));
        assert_eq!(canonicalize(RecordType::TXT, &[3, b'a']), Err(RdataError::Length));
        assert_eq!(canonicalize(RecordType::MX, b"\x00\x01\x01a\x00\x00"), Err(RdataError::Length));
        assert!(canonicalize(RecordType::CNAME, b"\xc0\x0c").is_err());
        assert_eq!(canonicalize(RecordType::KEY, &[2, 0, 3]), Err(RdataError::Length));
        assert_eq!(&*canonicalize(RecordType(65280), &[]).unwrap(), &[] as &[u8]);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics_and_folding_is_idempotent(number in 0u16..70, octets in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(once) = canonicalize(RecordType(number), &octets) {
                prop_assert_eq!(&canonicalize(RecordType(number), &once).unwrap(), &once);
            }
        }
    }
}
