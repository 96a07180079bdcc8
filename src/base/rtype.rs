//! Record types by number, with their mnemonics.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A record type or query type (RFC 1035 §3.2.2, IANA "Resource Record (RR) TYPEs").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RecordType(pub u16);

macro_rules! record_types {
    ($($name:ident $(= $text:literal)? : $number:literal),* $(,)?) => {
        #[expect(missing_docs, reason = "each constant is the mnemonic of the IANA registry")]
        impl RecordType {
            $(pub const $name: RecordType = RecordType($number);)*

            /// The mnemonic, if the type has one here.
            pub fn mnemonic(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(record_types!(@text $name $($text)?)),)*
                    _ => None,
                }
            }

            fn from_mnemonic(text: &str) -> Option<RecordType> {
                $(if text.eq_ignore_ascii_case(record_types!(@text $name $($text)?)) { return Some(RecordType($number)); })*
                None
            }
        }
    };
    (@text $name:ident $text:literal) => { $text };
    (@text $name:ident) => { stringify!($name) };
}

record_types! {
    A: 1, NS: 2, MD: 3, MF: 4, CNAME: 5, SOA: 6, MB: 7, MG: 8, MR: 9, NULL: 10, PTR: 12, HINFO: 13, MINFO: 14, MX: 15,
    TXT: 16, RP: 17, AFSDB: 18, RT: 21, KEY: 25, PX: 26, AAAA: 28, LOC: 29, SRV: 33, NAPTR: 35, KX: 36, CERT: 37,
    DNAME: 39, OPT: 41, DS: 43, SSHFP: 44, RRSIG: 46, NSEC: 47, DNSKEY: 48, NSEC3: 50, NSEC3PARAM: 51, TLSA: 52,
    SMIMEA: 53, OPENPGPKEY: 61, CSYNC: 62, SVCB: 64, HTTPS: 65, SPF: 99, TKEY: 249, TSIG: 250, IXFR: 251, AXFR: 252,
    MAILB: 253, MAILA: 254, ANY: 255, URI: 256, CAA: 257,
}

impl RecordType {
    /// Types that exist in questions or as metadata only and can't be stored in a zone: OPT, and 128 to 255
    /// (RFC 6895 §3.1).
    pub fn is_meta(self) -> bool {
        self.0 == 0 || self == RecordType::OPT || (128..=255).contains(&self.0)
    }

    /// A or AAAA.
    pub fn is_address(self) -> bool {
        self == RecordType::A || self == RecordType::AAAA
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(text) => f.write_str(text),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl FromStr for RecordType {
    type Err = UnknownType;

    /// Reads a mnemonic or `TYPEn` (RFC 3597 §5), in any case.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        if let Some(found) = RecordType::from_mnemonic(text) {
            return Ok(found);
        }
        match text.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("TYPE") => {
                text[4..].parse().map(RecordType).map_err(|_| UnknownType)
            }
            _ => Err(UnknownType),
        }
    }
}

/// The text is neither a mnemonic that livezone knows nor `TYPEn`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a record type; an unusual one can be written as TYPEn (RFC 3597)")]
pub struct UnknownType;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_back_from_their_text() {
        for number in 0..=300 {
            let rtype = RecordType(number);
            assert_eq!(rtype.to_string().parse(), Ok(rtype));
            assert_eq!(rtype.to_string().to_lowercase().parse(), Ok(rtype));
        }
        assert!("TYPE65536".parse::<RecordType>().is_err());
        assert!("BOGUS".parse::<RecordType>().is_err());
    }
}
