//! The stored form of records: one octet of format version, then postcard's encoding of the type.
//!
//! Keys are the zone's name in wire form (which no other zone's name begins with), then the key within the zone. Commits are
//! keyed by epoch, big endian, so that they stand in order.
//!
//! A record with a version that this program doesn't know is an error, never skipped: an older program must not empty a
//! zone that a newer one has written.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{Epoch, Name};
use crate::membership::Key;

/// The version of every record written now.
pub const VERSION: u8 = 4;

/// A stored record can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// Written by another version of the program.
    #[error("a record has format version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// Not what a program of this version writes.
    #[error("a record doesn't decode: {0}")]
    Damaged(String),
}

/// Encodes a record.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut octets = vec![VERSION];
    octets.extend(postcard::to_stdvec(value).expect("plain data always encodes"));
    octets
}

/// Decodes a record.
pub fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, FormatError> {
    match octets.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| FormatError::Damaged(error.to_string())),
        Some((&version, _)) => Err(FormatError::Version(version)),
        None => Err(FormatError::Damaged("it is empty".to_owned())),
    }
}

/// The key of an item or of its replay mark.
pub fn item_key(zone: &Name, key: &Key) -> Vec<u8> {
    let mut octets = zone.as_wire().to_vec();
    octets.extend(postcard::to_stdvec(key).expect("plain data always encodes"));
    octets
}

/// The key of something at a name.
pub fn name_key(zone: &Name, name: &Name) -> Vec<u8> {
    [zone.as_wire(), name.as_wire()].concat()
}

/// The key of a commit.
pub fn commit_key(zone: &Name, epoch: Epoch) -> Vec<u8> {
    [zone.as_wire(), &epoch.0.to_be_bytes()].concat()
}

/// The range of all keys of a zone.
pub fn zone_range(zone: &Name) -> (Vec<u8>, Vec<u8>) {
    let start = zone.as_wire().to_vec();
    let mut end = start.clone();
    // No key within a zone begins with 0xff: names begin with a length, item keys with a small tag, epochs with zero.
    end.push(0xff);
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_an_error() {
        let mut octets = encode(&Epoch(7));
        assert_eq!(decode::<Epoch>(&octets), Ok(Epoch(7)));
        octets[0] = VERSION + 1;
        assert_eq!(decode::<Epoch>(&octets), Err(FormatError::Version(VERSION + 1)));
        assert!(matches!(decode::<Epoch>(&[VERSION, 0xff]), Err(FormatError::Damaged(_))));
        assert!(matches!(decode::<Epoch>(&[]), Err(FormatError::Damaged(_))));
    }

    #[test]
    fn ranges_of_zones_do_not_overlap_even_if_one_lies_in_the_other() {
        let zones: Vec<Name> = ["a.", "b.a.", "a.a.", "aa."].map(|text| text.parse().unwrap()).into();
        for zone in &zones {
            let (start, end) = zone_range(zone);
            for other in &zones {
                let key = commit_key(other, Epoch(u64::from(u32::MAX)));
                assert_eq!((start.as_slice()..end.as_slice()).contains(&key.as_slice()), zone == other);
            }
        }
    }
}
