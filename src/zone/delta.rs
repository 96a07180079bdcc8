//! What a commit takes away and adds, record by record: the stuff of IXFR.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::rrset::{Node, Rdatas, Record};

/// The records removed and added between two snapshots, SOA left out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Delta {
    /// In the old snapshot only.
    pub removed: Vec<Record>,
    /// In the new snapshot only.
    pub added: Vec<Record>,
}

impl Delta {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Adds the difference between two states of one name. A change of TTL changes every record of an RRset.
    pub fn compare(&mut self, old: Option<&Node>, new: Option<&Node>) {
        collect_missing(old, new, &mut self.removed);
        collect_missing(new, old, &mut self.added);
    }
}

/// Collects the records of `from` that `other` has not.
fn collect_missing(from: Option<&Node>, other: Option<&Node>, into: &mut Vec<Record>) {
    let Some(node) = from else { return };
    for rrset in node.rrsets() {
        let counterpart = other.and_then(|other| other.rrset(rrset.rtype)).filter(|found| found.ttl == rrset.ttl);
        if counterpart == Some(rrset) {
            continue;
        }
        let (rdatas, others) = match counterpart {
            // A change usually leaves what stands before it in place.
            Some(found) => behind_common(rrset.rdatas(), found.rdatas()),
            None => (rrset.rdatas(), Rdatas::default()),
        };
        let kept: HashSet<&[u8], foldhash::fast::RandomState> = others.collect();
        into.extend(rdatas.filter(|rdata| !kept.contains(rdata)).map(|rdata| Record {
            owner: node.name().clone(),
            rtype: rrset.rtype,
            ttl: rrset.ttl,
            rdata: rdata.into(),
        }));
    }
}

/// What follows the data with which both begin.
fn behind_common<'a>(mut left: Rdatas<'a>, mut right: Rdatas<'a>) -> (Rdatas<'a>, Rdatas<'a>) {
    loop {
        let (mut next_left, mut next_right) = (left.clone(), right.clone());
        match (next_left.next(), next_right.next()) {
            (Some(one), Some(other)) if one == other => (left, right) = (next_left, next_right),
            _ => return (left, right),
        }
    }
}
