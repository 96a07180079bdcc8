//! Domain names in wire format, folded to lower case.
//!
//! A [`Name`] holds the uncompressed wire form (RFC 1035 §3.1), final root label included, with ASCII letters in lower
//! case (RFC 4343): two names are equal exactly when their octets are. What a client wrote is echoed from its own
//! question, so the case it used is never needed here. Names are shared, not copied: a clone costs a counter.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::{LABEL_OCTETS, NAME_OCTETS};

/// A domain name: absolute, lower case, uncompressed wire form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<[u8]>);

/// A map by name.
pub type NameMap<V> = SeededMap<Name, V>;
/// A set of names.
pub type NameSet = SeededSet<Name>;
/// A map by what registrars send. Its hash is fast on short keys and seeded, so that nobody can choose keys that collide.
pub type SeededMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
/// A set likewise.
pub type SeededSet<T> = HashSet<T, foldhash::fast::RandomState>;

/// Why a text or a run of octets is not a name. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An empty label: two dots in a row, or a dot in front.
    #[error("a name has an empty label (two dots in a row, or a dot in front)")]
    EmptyLabel,
    /// RFC 1035 §2.3.4.
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    /// RFC 1035 §2.3.4.
    #[error("a name is longer than 255 octets")]
    NameTooLong,
    /// A backslash that is not followed by a character or three digits up to 255 (RFC 1035 §5.1).
    #[error("a backslash in a name must be followed by a character or by three digits (\\DDD, at most 255)")]
    BadEscape,
    /// A name without its final dot where no origin completes it.
    #[error("the name does not end with a dot, and there is no origin to complete it")]
    Relative,
    /// The octets end in the middle of a name, or a length octet is none.
    #[error("the octets are not a name in wire format")]
    BadWire,
}

impl Name {
    /// The root.
    pub fn root() -> Name {
        Name(Arc::from([0u8].as_slice()))
    }

    /// Reads a name as people write it (RFC 1035 §5.1). A name without a final dot is completed by `origin`; `@` alone
    /// is the origin.
    pub fn parse(text: &str, origin: Option<&Name>) -> Result<Name, NameError> {
        if text == "@" {
            return origin.cloned().ok_or(NameError::Relative);
        }
        if text == "." {
            return Ok(Name::root());
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut start = 0; // of the label under way: its length octet
        wire.push(0);
        let mut bytes = text.bytes();
        let mut absolute = false;
        while let Some(byte) = bytes.next() {
            absolute = false;
            let octet = match byte {
                b'.' => {
                    close_label(&mut wire, start)?;
                    start = wire.len();
                    wire.push(0);
                    absolute = true;
                    continue;
                }
                b'\\' => unescape(&mut bytes)?,
                other => other,
            };
            wire.push(octet.to_ascii_lowercase());
        }
        if !absolute {
            close_label(&mut wire, start)?;
            wire.extend_from_slice(origin.ok_or(NameError::Relative)?.as_wire());
        }
        if wire.len() > NAME_OCTETS {
            return Err(NameError::NameTooLong);
        }
        Ok(Name(wire.into()))
    }

    /// Takes over an uncompressed name; letters are folded. The slice must hold exactly one name.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        if wire_len(wire)? != wire.len() {
            return Err(NameError::BadWire);
        }
        // Length octets are at most 63, below every letter, so folding the whole slice leaves them alone.
        Ok(Name(wire.iter().map(u8::to_ascii_lowercase).collect()))
    }

    /// The wire form: lower case, uncompressed, root label included.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels from the left, root label excluded.
    pub fn labels(&self) -> Labels<'_> {
        Labels { rest: &self.0 }
    }

    /// The leftmost label; empty for the root.
    pub fn first_label(&self) -> &[u8] {
        self.labels().next().unwrap_or(&[])
    }

    /// The name without its leftmost label; `None` for the root.
    pub fn parent(&self) -> Option<Name> {
        self.parent_wire().map(|wire| Name(Arc::from(wire)))
    }

    /// The same as octets.
    pub fn parent_wire(&self) -> Option<&[u8]> {
        match self.0[0] {
            0 => None,
            len => Some(&self.0[usize::from(len) + 1..]),
        }
    }

    /// This name with one label put in front.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        match label.len() {
            0 => return Err(NameError::EmptyLabel),
            len if len > LABEL_OCTETS => return Err(NameError::LabelTooLong),
            len if len + 1 + self.0.len() > NAME_OCTETS => return Err(NameError::NameTooLong),
            _ => {}
        }
        let mut wire = Vec::with_capacity(1 + label.len() + self.0.len());
        wire.push(u8::try_from(label.len()).expect("checked above: at most 63"));
        wire.extend(label.iter().map(u8::to_ascii_lowercase));
        wire.extend_from_slice(&self.0);
        Ok(Name(wire.into()))
    }

    /// Whether this name is `zone` or lies below it.
    pub fn is_within(&self, zone: &Name) -> bool {
        self.is_within_wire(&zone.0)
    }

    fn is_within_wire(&self, zone: &[u8]) -> bool {
        let mut rest: &[u8] = &self.0;
        loop {
            match rest.len().cmp(&zone.len()) {
                Ordering::Less => return false,
                Ordering::Equal => return rest == zone,
                Ordering::Greater => rest = &rest[usize::from(rest[0]) + 1..],
            }
        }
    }

    /// The order of RFC 4034 §6.1: by labels from the right, as octets.
    pub fn canonical_cmp(&self, other: &Name) -> Ordering {
        let (left, right) = (Starts::of(self), Starts::of(other));
        left.labels(self).cmp(right.labels(other))
    }

    /// Appends the text that [`Display`](fmt::Display) writes, faster.
    pub fn push_text(&self, out: &mut Vec<u8>) {
        if self.labels().flatten().all(|&octet| is_plain(octet)) && self.0[0] != 0 {
            for label in self.labels() {
                out.extend_from_slice(label);
                out.push(b'.');
            }
        } else {
            out.extend_from_slice(self.to_string().as_bytes());
        }
    }
}

/// Where the labels of a name begin: they can be walked from the left alone.
struct Starts {
    starts: [u8; NAME_OCTETS / 2 + 1],
    count: usize,
}

impl Starts {
    fn of(name: &Name) -> Starts {
        let mut starts = Starts { starts: [0; NAME_OCTETS / 2 + 1], count: 0 };
        let mut at = 0;
        while name.0[at] != 0 {
            starts.starts[starts.count] = u8::try_from(at).expect("a name has at most 255 octets");
            starts.count += 1;
            at += usize::from(name.0[at]) + 1;
        }
        starts
    }

    /// The labels from the right.
    fn labels<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a [u8]> {
        self.starts[..self.count].iter().rev().map(|&start| {
            let start = usize::from(start);
            &name.0[start + 1..=start + usize::from(name.0[start])]
        })
    }
}

/// The length of the uncompressed name at the start of `octets`, root label included.
pub fn wire_len(octets: &[u8]) -> Result<usize, NameError> {
    let mut at = 0;
    loop {
        match octets.get(at) {
            Some(0) if at < NAME_OCTETS => return Ok(at + 1),
            Some(&len) if usize::from(len) <= LABEL_OCTETS && at < NAME_OCTETS => at += usize::from(len) + 1,
            Some(_) if at >= NAME_OCTETS => return Err(NameError::NameTooLong),
            _ => return Err(NameError::BadWire),
        }
    }
}

fn close_label(wire: &mut [u8], start: usize) -> Result<(), NameError> {
    let len = wire.len() - start - 1;
    if len == 0 {
        return Err(NameError::EmptyLabel);
    }
    if len > LABEL_OCTETS {
        return Err(NameError::LabelTooLong);
    }
    wire[start] = u8::try_from(len).expect("checked above: at most 63");
    Ok(())
}

fn unescape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        match bytes.next() {
            Some(digit) if digit.is_ascii_digit() => value = value * 10 + u32::from(digit - b'0'),
            _ => return Err(NameError::BadEscape),
        }
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

/// The labels of a [`Name`] from the left.
#[derive(Debug, Clone)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.rest[0]);
        if len == 0 {
            return None;
        }
        let label = &self.rest[1..=len];
        self.rest = &self.rest[len + 1..];
        Some(label)
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    /// For look-ups by octets that are lower case already.
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Whether an octet needs no escape in a master file (RFC 1035 §5.1).
fn is_plain(octet: u8) -> bool {
    matches!(octet, 0x21..=0x7e) && !matches!(octet, b'.' | b';' | b'\\' | b'"' | b'(' | b')' | b'@' | b'$')
}

impl fmt::Display for Name {
    /// Master-file form with the final dot; unusual octets as `\DDD`, special characters as `\c` (RFC 1035 §5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0[0] == 0 {
            return f.write_str(".");
        }
        for label in self.labels() {
            match std::str::from_utf8(label) {
                Ok(text) if label.iter().all(|&octet| is_plain(octet)) => f.write_str(text)?,
                _ => label.iter().try_for_each(|&octet| match octet {
                    octet if is_plain(octet) => write!(f, "{}", char::from(octet)),
                    0x21..=0x7e => write!(f, "\\{}", char::from(octet)),
                    _ => write!(f, "\\{octet:03}"),
                })?,
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads an absolute name; the final dot is required.
    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::parse(text, None)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let wire: &[u8] = Deserialize::deserialize(deserializer)?;
        Name::from_wire(wire).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn text_is_folded_and_completed() {
        let origin = name("Svc.Example.TEST.");
        assert_eq!(origin.to_string(), "svc.example.test.");
        assert_eq!(Name::parse("I-1.memcached", Some(&origin)).unwrap(), name("i-1.memcached.svc.example.test."));
        assert_eq!(Name::parse("@", Some(&origin)).unwrap(), origin);
        assert_eq!(Name::parse(".", None).unwrap(), Name::root());
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let origin = Name::root();
        let bad = |text: &str| Name::parse(text, Some(&origin)).unwrap_err();
        assert_eq!(bad("a..b."), NameError::EmptyLabel);
        assert_eq!(bad(".a"), NameError::EmptyLabel);
        assert_eq!(bad(""), NameError::EmptyLabel);
        assert_eq!(bad(&"x".repeat(64)), NameError::LabelTooLong);
        assert_eq!(bad(&"abcdefgh.".repeat(32)), NameError::NameTooLong);
        assert_eq!(bad("a\\25"), NameError::BadEscape);
        assert_eq!(bad("a\\256"), NameError::BadEscape);
        assert_eq!("a.b".parse::<Name>().unwrap_err(), NameError::Relative);
    }

    #[test]
    fn within_looks_at_whole_labels() {
        let zone = name("svc.example.test.");
        assert!(zone.is_within(&zone));
        assert!(name("a.b.svc.example.test.").is_within(&zone));
        assert!(!name("xsvc.example.test.").is_within(&zone));
        assert!(!name("example.test.").is_within(&zone));
        assert!(zone.is_within(&Name::root()));
    }

    #[test]
    fn canonical_order_is_that_of_rfc_4034() {
        // The example of RFC 4034 §6.1.
        let mut names: Vec<Name> =
            ["z.example.", "a.example.", "\\001.z.example.", "*.z.example.", "example.", "yljkjljk.a.example."]
                .map(name)
                .to_vec();
        names.sort_by(Name::canonical_cmp);
        let texts: Vec<String> = names.iter().map(Name::to_string).collect();
        assert_eq!(
            texts,
            ["example.", "a.example.", "yljkjljk.a.example.", "z.example.", "\\001.z.example.", "*.z.example."]
        );
    }

    proptest! {
        #[test]
        fn text_and_wire_forms_read_back(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8)) {
            let mut built = Name::root();
            for label in &labels {
                built = built.child(label).unwrap();
            }
            prop_assert_eq!(&Name::parse(&built.to_string(), None).unwrap(), &built);
            prop_assert_eq!(&Name::from_wire(built.as_wire()).unwrap(), &built);
            let mut text = Vec::new();
            built.push_text(&mut text);
            prop_assert_eq!(String::from_utf8(text).unwrap(), built.to_string());
            prop_assert_eq!(built.labels().count(), labels.len());
            let stored = postcard::to_stdvec(&built).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Name>(&stored).unwrap(), built);
        }

        #[test]
        fn octets_that_are_no_name_never_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(name) = Name::from_wire(&octets) {
                prop_assert!(name.as_wire().len() <= 255);
            }
        }
    }
}
