//! A zone that is a copy of another server's: what a transfer brings, as changes.
//!
//! All records of a copy are static ones, and its settings are those of its SOA record, so that the same snapshot, delta,
//! history and store serve zones of both kinds. Differences are applied strictly (RFC 1995 §5.2): one that takes away what
//! isn't there, or adds what is, was made for another version, and the copy needs the whole zone.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::base::limits::{RECORD_OCTETS, RRSET_OCTETS};
use crate::base::{Epoch, Name, NameMap, NameSet, RecordType, Serial, Ttl};

use super::change::Change;
use super::contents::Contents;
use super::history::Difference;
use super::records::schema;
use super::rrset::{Rdata, Record, Rrset};
use super::settings::{Settings, StaticNode};

/// Why a transfer can't become the zone. The copy stays as it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// Differences that are not from the version that is here.
    #[error("the differences don't fit the zone as it is here, at {owner} {rtype}")]
    Differences {
        /// Where.
        owner: Name,
        /// Of what.
        rtype: RecordType,
    },
    /// A set that could not be answered.
    #[error("the set {owner} {rtype} has more than {RRSET_OCTETS} octets, and could not be answered")]
    TooLarge {
        /// Where.
        owner: Name,
        /// Of what.
        rtype: RecordType,
    },
    /// Nobody could find its name servers.
    #[error("the zone has no NS record at its apex")]
    NoNameServer,
    /// Its SOA record can't be read.
    #[error("the SOA record of the zone is malformed")]
    NoSoa,
}

/// The settings that a SOA record stands for.
pub fn settings_of(soa: &Record) -> Result<Settings, Unfit> {
    let mut names = Vec::new();
    let walked = schema::walk(RecordType::SOA, &soa.rdata, |field, at, len| {
        if let schema::Field::CompressibleName | schema::Field::PlainName = field {
            names.extend(Name::from_wire(&soa.rdata[at..at + len]));
        }
    });
    let (Ok(_), [primary, contact], Some(words)) = (walked, names.as_slice(), soa.rdata.last_chunk::<20>()) else {
        return Err(Unfit::NoSoa);
    };
    let word = |at: usize| u32::from_be_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
    Ok(Settings {
        origin: soa.owner.clone(),
        // Of derived records, and a copy has none.
        ttl: soa.ttl,
        negative_ttl: Ttl(word(16)),
        soa_ttl: soa.ttl,
        primary: primary.clone(),
        contact: contact.clone(),
        refresh: word(4),
        retry: word(8),
        expire: word(12),
        services: Vec::new(),
    })
}

/// The epoch of a copy with this serial: the first one after `last` that has it as its low half.
pub fn epoch_after(last: Epoch, serial: Serial) -> Epoch {
    Epoch(last.0 + u64::from(serial.0.wrapping_sub(last.serial().0).wrapping_sub(1)) + 1)
}

/// The changes that make the contents a whole zone; none for what is the same.
pub fn replace(contents: &Contents, soa: &Record, nodes: Vec<StaticNode>) -> Result<Vec<Change>, Unfit> {
    let origin = &soa.owner;
    let has_ns = |node: &StaticNode| node.name == *origin && node.rrsets.iter().any(|set| set.rtype == RecordType::NS);
    if !nodes.iter().any(has_ns) {
        return Err(Unfit::NoNameServer);
    }
    let kept: NameSet = nodes.iter().map(|node| node.name.clone()).collect();
    let gone = contents.static_names().filter(|name| !kept.contains(*name));
    let gone = gone.map(|name| Change::Static { name: name.clone(), rrsets: Vec::new() });
    let mut changes: Vec<Change> = settings_change(contents, soa)?.into_iter().chain(gone).collect();
    let differing = nodes.into_iter().filter(|node| contents.statics(&node.name) != node.rrsets.as_slice());
    changes.extend(differing.map(|StaticNode { name, rrsets }| Change::Static { name, rrsets }));
    Ok(changes)
}

/// The changes that differences amount to.
pub fn amend(contents: &Contents, differences: &[Difference]) -> Result<Vec<Change>, Unfit> {
    let mut touched: NameMap<Vec<Rrset>> = NameMap::default();
    for Difference { delta, .. } in differences {
        for (records, comes) in [(&delta.removed, false), (&delta.added, true)] {
            for record in records {
                let rrsets =
                    touched.entry(record.owner.clone()).or_insert_with(|| contents.statics(&record.owner).to_vec());
                if !(if comes { add(rrsets, record) } else { take(rrsets, record) }) {
                    return Err(Unfit::Differences { owner: record.owner.clone(), rtype: record.rtype });
                }
            }
        }
    }
    for (owner, rrsets) in &touched {
        let octets = |set: &Rrset| set.rdatas.iter().map(|rdata| RECORD_OCTETS + rdata.len()).sum::<usize>();
        if let Some(large) = rrsets.iter().find(|set| octets(set) > RRSET_OCTETS) {
            return Err(Unfit::TooLarge { owner: owner.clone(), rtype: large.rtype });
        }
    }
    let soa = differences.last().map(|last| &last.to);
    let origin = &contents.settings().origin;
    if touched.get(origin).is_some_and(|rrsets| rrsets.iter().all(|set| set.rtype != RecordType::NS)) {
        return Err(Unfit::NoNameServer);
    }
    let settings = soa.map(|soa| settings_change(contents, soa)).transpose()?.flatten();
    let statics = touched.into_iter().map(|(name, rrsets)| Change::Static { name, rrsets });
    Ok(settings.into_iter().chain(statics).collect())
}

/// The settings, if the SOA record shows others.
fn settings_change(contents: &Contents, soa: &Record) -> Result<Option<Change>, Unfit> {
    let settings = settings_of(soa)?;
    Ok((**contents.settings() != settings).then(|| Change::Settings(Arc::new(settings))))
}

/// The order of data in a set of a copy, which doesn't depend on how they came: by octets; SRV data by the labels of their
/// targets first. That is the order of members by id where targets are the usual ones, so that primary and secondary show
/// the same list to clients that heed its order.
pub fn data_order(rtype: RecordType, a: &[u8], b: &[u8]) -> Ordering {
    let by_target = if rtype == RecordType::SRV { target_labels(a).cmp(target_labels(b)) } else { Ordering::Equal };
    by_target.then_with(|| a.cmp(b))
}

/// The labels of a target, behind priority, weight and port.
fn target_labels(srv: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = srv.get(6..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&len, behind) = rest.split_first().filter(|&(&len, _)| len > 0)?;
        let (label, behind) = behind.split_at_checked(usize::from(len))?;
        rest = behind;
        Some(label)
    })
}

fn place(set: &Rrset, rdata: &Rdata) -> Result<usize, usize> {
    set.rdatas.binary_search_by(|other| data_order(set.rtype, other, rdata))
}

/// Adds a record; false if it is there. Its TTL is that of the set from here on (RFC 2181 §5.2): a primary that changes a TTL
/// takes all records of the set away before.
fn add(rrsets: &mut Vec<Rrset>, record: &Record) -> bool {
    let at = match rrsets.binary_search_by_key(&record.rtype, |set| set.rtype) {
        Ok(at) => at,
        Err(at) => {
            rrsets.insert(at, Rrset { rtype: record.rtype, ttl: record.ttl, rdatas: Vec::new() });
            at
        }
    };
    let set = &mut rrsets[at];
    set.ttl = record.ttl;
    match place(set, &record.rdata) {
        Ok(_) => false,
        Err(at) => {
            set.rdatas.insert(at, record.rdata.clone());
            true
        }
    }
}

/// Takes a record away; false if it isn't there. Its TTL is not compared, since other servers don't either.
fn take(rrsets: &mut Vec<Rrset>, record: &Record) -> bool {
    let Ok(set) = rrsets.binary_search_by_key(&record.rtype, |set| set.rtype) else { return false };
    let Ok(at) = place(&rrsets[set], &record.rdata) else { return false };
    rrsets[set].rdatas.remove(at);
    if rrsets[set].rdatas.is_empty() {
        rrsets.remove(set);
    }
    true
}

#[cfg(test)]
mod tests;
