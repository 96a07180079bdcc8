//! RRsets and the nodes that hold them.
//!
//! [`Rrset`] is the form that is convenient to hold; [`Node`] is what a snapshot keeps: all RRsets of one name, packed
//! into one run of octets, because a zone of a hundred thousand members has a hundred thousand of them.
//!
//! Packed form, per RRset: type (2 octets), TTL (4), count (2), then per record the length of its data (2) and the data;
//! all big endian. RRsets stand in the order of their type number, data in the order that the builder gave.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::{Name, RecordType, Ttl};

/// The data of one record: canonical wire form, names uncompressed and in lower case.
pub type Rdata = Box<[u8]>;

/// One record with its owner.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The owner.
    pub owner: Name,
    /// The type.
    pub rtype: RecordType,
    /// The TTL.
    pub ttl: Ttl,
    /// The data.
    pub rdata: Rdata,
}

/// The records of one owner and type: one TTL (RFC 2181 §5.2), no datum twice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rrset {
    /// The type.
    pub rtype: RecordType,
    /// The TTL of each record.
    pub ttl: Ttl,
    /// The data, in the order in which they are answered.
    pub rdatas: Vec<Rdata>,
}

/// All RRsets of one name, immutable. A node without any is an empty non-terminal (RFC 4592 §2.2.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    name: Name,
    packed: Box<[u8]>,
}

impl Node {
    /// A node without records.
    pub fn empty(name: Name) -> Node {
        Node { name, packed: Box::default() }
    }

    /// The owner.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Reads an octet of each place in memory that the node takes. Whoever is about to read many nodes that lie scattered
    /// touches a few ahead, so that the processor waits for all of them at the same time rather than for one after another.
    pub fn touch(&self) {
        std::hint::black_box(self.name.as_wire()[0] ^ self.packed.first().copied().unwrap_or(0));
    }

    /// Whether the name has no record of its own.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// The RRsets, by ascending type number.
    pub fn rrsets(&self) -> Rrsets<'_> {
        Rrsets { rest: &self.packed }
    }

    /// The RRset of one type.
    pub fn rrset(&self, rtype: RecordType) -> Option<RrsetRef<'_>> {
        self.rrsets().find(|rrset| rrset.rtype == rtype)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name)?;
        f.debug_list().entries(self.rrsets().map(|rrset| rrset.to_owned())).finish()
    }
}

/// Gathers the records of one name, packed as they come.
#[derive(Debug, Default)]
pub struct NodeBuilder {
    sets: Vec<Gathered>,
}

/// The records of one type.
#[derive(Debug)]
struct Gathered {
    rtype: RecordType,
    ttl: Ttl,
    count: usize,
    /// Per record the length of its data and the data.
    octets: Vec<u8>,
}

impl NodeBuilder {
    /// Adds a record. Its set has the TTL of its first one.
    pub fn add(&mut self, rtype: RecordType, ttl: Ttl, rdata: &[u8]) {
        self.add_parts(rtype, ttl, &[rdata]);
    }

    /// The same with data in several parts.
    pub fn add_parts(&mut self, rtype: RecordType, ttl: Ttl, parts: &[&[u8]]) {
        let at = match self.sets.iter().position(|set| set.rtype == rtype) {
            Some(at) => at,
            None => {
                self.sets.push(Gathered { rtype, ttl, count: 0, octets: Vec::new() });
                self.sets.len() - 1
            }
        };
        let set = &mut self.sets[at];
        set.count += 1;
        set.octets.extend_from_slice(&length(parts.iter().map(|part| part.len()).sum()));
        parts.iter().for_each(|part| set.octets.extend_from_slice(part));
    }

    /// Whether there are records of a type.
    pub fn has(&self, rtype: RecordType) -> bool {
        self.sets.iter().any(|set| set.rtype == rtype)
    }

    /// Gives the records of a type another TTL.
    pub fn retime(&mut self, rtype: RecordType, ttl: Ttl) {
        self.sets.iter_mut().filter(|set| set.rtype == rtype).for_each(|set| set.ttl = ttl);
    }

    /// The node. Of equal records the first is kept.
    pub fn finish(mut self, name: Name) -> Node {
        self.sets.sort_unstable_by_key(|set| set.rtype);
        self.sets.iter_mut().filter(|set| set.count > 1).for_each(Gathered::drop_repeated);
        let mut packed = Vec::with_capacity(self.sets.iter().map(|set| 8 + set.octets.len()).sum());
        for set in &self.sets {
            packed.extend_from_slice(&set.rtype.0.to_be_bytes());
            packed.extend_from_slice(&set.ttl.0.to_be_bytes());
            packed.extend_from_slice(&length(set.count));
            packed.extend_from_slice(&set.octets);
        }
        Node { name, packed: packed.into() }
    }
}

impl Gathered {
    fn drop_repeated(&mut self) {
        let mut seen = HashSet::with_capacity_and_hasher(self.count, foldhash::fast::RandomState::default());
        if (Rdatas { rest: &self.octets }).all(|rdata| seen.insert(rdata)) {
            return;
        }
        seen.clear();
        let (mut count, mut octets) = (0, Vec::with_capacity(self.octets.len()));
        for rdata in (Rdatas { rest: &self.octets }).filter(|rdata| seen.insert(*rdata)) {
            count += 1;
            octets.extend_from_slice(&length(rdata.len()));
            octets.extend_from_slice(rdata);
        }
        drop(seen);
        (self.count, self.octets) = (count, octets);
    }
}

fn length(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("RRsets and record data are bounded to 16 bits before they get here").to_be_bytes()
}

/// One RRset inside a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RrsetRef<'a> {
    /// The type.
    pub rtype: RecordType,
    /// The TTL.
    pub ttl: Ttl,
    count: u16,
    data: &'a [u8],
}

impl<'a> RrsetRef<'a> {
    /// How many records there are; at least one.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The data in order.
    pub fn rdatas(&self) -> Rdatas<'a> {
        Rdatas { rest: self.data }
    }

    /// The data of an address set, begun with the record number `turn`, counted round; those of other types in their order.
    pub fn turned(&self, turn: u16) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let is_turned = matches!(self.rtype, RecordType::A | RecordType::AAAA);
        let first = if is_turned { usize::from(turn % self.count) } else { 0 };
        self.rdatas().skip(first).chain(self.rdatas().take(first))
    }

    /// The form that owns its data.
    pub fn to_owned(self) -> Rrset {
        Rrset { rtype: self.rtype, ttl: self.ttl, rdatas: self.rdatas().map(Into::into).collect() }
    }

    /// The records under an owner.
    pub fn records(self, owner: &Name) -> impl Iterator<Item = Record> + use<'a> {
        let owner = owner.clone();
        self.rdatas().map(move |rdata| Record {
            owner: owner.clone(),
            rtype: self.rtype,
            ttl: self.ttl,
            rdata: rdata.into(),
        })
    }
}

/// Iterates over the RRsets of a node.
#[derive(Clone, Debug)]
pub struct Rrsets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Rrsets<'a> {
    type Item = RrsetRef<'a>;

    fn next(&mut self) -> Option<RrsetRef<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (head, tail) = self.rest.split_at(8);
        let count = u16::from_be_bytes([head[6], head[7]]);
        let mut end = 0;
        for _ in 0..count {
            end += 2 + usize::from(u16::from_be_bytes([tail[end], tail[end + 1]]));
        }
        self.rest = &tail[end..];
        Some(RrsetRef {
            rtype: RecordType(u16::from_be_bytes([head[0], head[1]])),
            ttl: Ttl(u32::from_be_bytes([head[2], head[3], head[4], head[5]])),
            count,
            data: &tail[..end],
        })
    }
}

/// Iterates over the data of an RRset.
#[derive(Clone, Debug, Default)]
pub struct Rdatas<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Rdatas<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, tail) = self.rest.split_at_checked(2)?;
        let (rdata, rest) = tail.split_at(usize::from(u16::from_be_bytes([len[0], len[1]])));
        self.rest = rest;
        Some(rdata)
    }
}

impl super::map::Named for Arc<Node> {
    fn name(&self) -> &Name {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_node_gives_back_what_was_packed_each_record_once(
            sets in prop::collection::btree_map(1u16..300, (any::<u32>(), prop::collection::vec(prop::collection::vec(0u8..2, 0..40), 1..6)), 0..5),
        ) {
            let rrsets: Vec<Rrset> = sets
                .iter()
                .map(|(&rtype, (ttl, rdatas))| Rrset {
                    rtype: RecordType(rtype),
                    ttl: Ttl(*ttl),
                    rdatas: rdatas.iter().map(|rdata| rdata.as_slice().into()).collect(),
                })
                .collect();
            let mut builder = NodeBuilder::default();
            for rrset in rrsets.iter().rev() {
                rrset.rdatas.iter().for_each(|rdata| builder.add(rrset.rtype, rrset.ttl, rdata));
            }
            let rrsets: Vec<Rrset> = rrsets
                .into_iter()
                .map(|mut rrset| {
                    let mut seen = HashSet::new();
                    rrset.rdatas.retain(|rdata| seen.insert(rdata.clone()));
                    rrset
                })
                .collect();
            let node = builder.finish(Name::root());
            prop_assert_eq!(node.rrsets().map(RrsetRef::to_owned).collect::<Vec<_>>(), rrsets.clone());
            prop_assert_eq!(node.is_empty(), rrsets.is_empty());
            for rrset in rrsets {
                let found = node.rrset(rrset.rtype).unwrap();
                prop_assert_eq!(usize::from(found.count()), rrset.rdatas.len());
                prop_assert_eq!(found.to_owned(), rrset);
            }
            prop_assert!(node.rrset(RecordType(1000)).is_none());
        }
    }
}
