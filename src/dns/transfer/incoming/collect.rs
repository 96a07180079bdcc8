//! Records as they are kept until the end of their part of the stream, and how they are grouped then.
//!
//! One flat list that is sorted once, and not a map of sets: it costs 32 octets a record, and every vector of the result
//! is allocated once, in its final size.

use crate::base::limits::{NAME_OCTETS, RECORD_OCTETS, RRSET_OCTETS};
use crate::base::{Name, NameMap, RecordType, Ttl};
use crate::dns::wire::{Malformed, RawRecord};
use crate::zone::copy::data_order;
use crate::zone::{Rdata, Record, Rrset, StaticNode};

use super::TransferError;

/// A record.
#[derive(Debug)]
pub(super) struct Collected {
    /// The number of its owner.
    pub(super) owner: u32,
    pub(super) rtype: RecordType,
    pub(super) ttl: Ttl,
    pub(super) rdata: Rdata,
}

/// The names of the zone, each with a number, in the order in which they came.
#[derive(Debug)]
pub(super) struct Owners {
    names: Vec<Name>,
    numbers: NameMap<u32>,
    /// Of the record before: most have the same.
    last: u32,
}

impl Owners {
    /// The number of the apex.
    pub(super) const APEX: u32 = 0;

    pub(super) fn new(origin: Name) -> Owners {
        let numbers = NameMap::from_iter([(origin.clone(), Owners::APEX)]);
        Owners { names: vec![origin], numbers, last: Owners::APEX }
    }

    pub(super) fn origin(&self) -> &Name {
        self.name(Owners::APEX)
    }

    pub(super) fn name(&self, number: u32) -> &Name {
        &self.names[number as usize]
    }

    /// The number of a record's owner, `None` if it lies outside of the zone. Adds the octets of one that is new.
    pub(super) fn find(&mut self, record: &RawRecord<'_>, octets: &mut u64) -> Result<Option<u32>, Malformed> {
        let mut buffer = [0; NAME_OCTETS];
        let wire = record.owner(&mut buffer)?;
        if self.name(self.last).as_wire() == wire {
            return Ok(Some(self.last));
        }
        if let Some(&number) = self.numbers.get(wire) {
            self.last = number;
            return Ok(Some(number));
        }
        let name = Name::from_wire(wire).map_err(|_| Malformed("a name is malformed"))?;
        if !name.is_within(self.origin()) {
            return Ok(None);
        }
        *octets += wire.len() as u64;
        let number = u32::try_from(self.names.len()).expect("at most one a record, whose number has 32 bits");
        self.numbers.insert(name.clone(), number);
        self.names.push(name);
        self.last = number;
        Ok(Some(number))
    }
}

/// What a run of sorted records has in common.
struct Set {
    owner: u32,
    rtype: RecordType,
    ttl: Ttl,
    count: usize,
}

/// Sorts records into sets and rids them of duplicates.
fn group(records: &mut Vec<Collected>, owners: &Owners) -> Result<Vec<Set>, TransferError> {
    records.sort_unstable_by(|a, b| {
        let sets = (a.owner, a.rtype).cmp(&(b.owner, b.rtype));
        sets.then_with(|| data_order(a.rtype, &a.rdata, &b.rdata))
    });
    for set in records.chunk_by_mut(is_one_set) {
        // RFC 2181 §5.2: they are treated as if all had the smallest TTL.
        let ttl = set.iter().map(|record| record.ttl).min().expect("a chunk is not empty");
        set.iter_mut().for_each(|record| record.ttl = ttl);
    }
    // RFC 5936 §2.2: duplicates are ignored.
    records.dedup_by(|b, a| is_one_set(a, b) && a.rdata == b.rdata);
    let mut sets = Vec::new();
    for set in records.chunk_by(is_one_set) {
        let (owner, rtype, ttl) = (set[0].owner, set[0].rtype, set[0].ttl);
        // Bounds their number too, to what 16 bits can count.
        let octets: usize = set.iter().map(|record| RECORD_OCTETS + record.rdata.len()).sum();
        if octets > RRSET_OCTETS {
            let owner = owners.name(owner).clone();
            return Err(TransferError::RrsetTooLarge { owner, rtype, octets, limit: RRSET_OCTETS });
        }
        sets.push(Set { owner, rtype, ttl, count: set.len() });
    }
    Ok(sets)
}

fn is_one_set(a: &Collected, b: &Collected) -> bool {
    (a.owner, a.rtype) == (b.owner, b.rtype)
}

/// Groups records by name and type.
pub(super) fn nodes(mut records: Vec<Collected>, owners: &Owners) -> Result<Vec<StaticNode>, TransferError> {
    let sets = group(&mut records, owners)?;
    let mut rdatas = records.into_iter().map(|record| record.rdata);
    let mut rrset = |set: &Set| {
        let mut own = Vec::with_capacity(set.count);
        own.extend(rdatas.by_ref().take(set.count));
        Rrset { rtype: set.rtype, ttl: set.ttl, rdatas: own }
    };
    let mut nodes = Vec::with_capacity(sets.chunk_by(|a, b| a.owner == b.owner).count());
    for node in sets.chunk_by(|a, b| a.owner == b.owner) {
        let rrsets = node.iter().map(&mut rrset).collect();
        nodes.push(StaticNode { name: owners.name(node[0].owner).clone(), rrsets });
    }
    Ok(nodes)
}

/// Groups records by name and type, each with its owner.
pub(super) fn records(mut records: Vec<Collected>, owners: &Owners) -> Result<Vec<Record>, TransferError> {
    group(&mut records, owners)?;
    let record =
        |Collected { owner, rtype, ttl, rdata }| Record { owner: owners.name(owner).clone(), rtype, ttl, rdata };
    Ok(records.into_iter().map(record).collect())
}
