//! The rules between the records of a file, and their arrangement in nodes.
//!
//! `named-checkzone` complains of the same. Names that the zone will only get from its members can't be known here, so
//! a target that isn't there is an error only where members can't help: the apex needs name servers that answer before
//! any member is there, and below a delegation the zone publishes nothing but what stands in this file.
//!
//! Names below a DNAME load, as they do with BIND, though they are never answered (RFC 6672 §2.4).
//!
//! Cost: one sort of the names and one of the records; sets of hashes for duplicates and look-ups.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::base::limits::RECORD_OCTETS;
use crate::base::{Name, RecordType, Ttl};
use crate::zone::records::schema::additional_name;
use crate::zone::room::room;
use crate::zone::{Rdata, Rrset, StaticNode};

use super::{Place, Problem};

/// A record that was read without a problem of its own.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub owner: Name,
    pub rtype: RecordType,
    pub ttl: Ttl,
    pub rdata: Rdata,
    /// Where its type stands.
    pub place: Place,
}

/// Arranges the records, and reports what they break of the rules.
pub(super) fn check(
    zone: &Name,
    records: Vec<Loaded>,
    problems: &mut Vec<(Place, Problem)>,
) -> Vec<(StaticNode, Place)> {
    let records = sort(records);
    let mut nodes = Vec::new();
    for node in records.chunk_by(|a, b| a.owner == b.owner) {
        check_aliases(zone, node, problems);
        let sets = node.chunk_by(|a, b| a.rtype == b.rtype);
        let rrsets = sets.map(|records| build_rrset(records, problems)).collect();
        let place = node.iter().map(|record| record.place).min().unwrap_or(node[0].place);
        nodes.push((StaticNode { name: node[0].owner.clone(), rrsets }, place));
    }
    check_targets(&Index::new(zone, &records), problems);
    nodes
}

/// Sorts by owner in canonical order, then by type; records of one set stay in the order of the file.
fn sort(records: Vec<Loaded>) -> Vec<Loaded> {
    let mut ranks: HashMap<Name, usize, RandomState> = HashMap::default();
    for record in &records {
        ranks.entry(record.owner.clone()).or_default();
    }
    let mut names: Vec<(Vec<u8>, Name)> = ranks.keys().map(|name| (canonical_key(name), name.clone())).collect();
    names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (rank, (_, name)) in names.into_iter().enumerate() {
        ranks.insert(name, rank);
    }
    let mut ranked: Vec<(usize, Loaded)> = records.into_iter().map(|record| (ranks[&record.owner], record)).collect();
    ranked.sort_by_key(|(rank, record)| (*rank, record.rtype));
    ranked.into_iter().map(|(_, record)| record).collect()
}

/// Octets whose plain order is the canonical order of names (RFC 4034 §6.1): labels from the right, each closed by two
/// zeros, with a zero inside one written as zero and one.
fn canonical_key(name: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 * name.as_wire().len());
    let labels: Vec<&[u8]> = name.labels().collect();
    for label in labels.into_iter().rev() {
        for &octet in label {
            key.push(octet);
            if octet == 0 {
                key.push(1);
            }
        }
        key.extend_from_slice(&[0, 0]);
    }
    key
}

/// Makes records of one owner and type into an RRset. Equal records are merged.
fn build_rrset(records: &[Loaded], problems: &mut Vec<(Place, Problem)>) -> Rrset {
    let first = &records[0];
    let (owner, rtype) = (&first.owner, first.rtype);
    let mut seen: HashSet<&[u8], RandomState> = HashSet::default();
    let mut rdatas = Vec::with_capacity(records.len());
    let mut octets = 0;
    let mut fits = true;
    for record in records {
        if record.ttl != first.ttl {
            let (owner, line) = (owner.clone(), first.place.at.line);
            let problem = Problem::TtlDiffers { owner, rtype, first: first.ttl, line, found: record.ttl };
            problems.push((record.place, problem));
        }
        if !seen.insert(&record.rdata) {
            continue;
        }
        if matches!(rtype, RecordType::CNAME | RecordType::DNAME) && seen.len() > 1 {
            let line = first.place.at.line;
            problems.push((record.place, Problem::Several { owner: owner.clone(), rtype, line }));
        }
        octets += RECORD_OCTETS + record.rdata.len();
        if octets > room(rtype) && std::mem::replace(&mut fits, false) {
            let owner = owner.clone();
            problems.push((record.place, Problem::RrsetTooLarge { owner, rtype, limit: room(rtype) }));
        }
        rdatas.push(record.rdata.clone());
    }
    // Records of a set have no order (RFC 1034 §3.6): lines in another order are the same zone.
    rdatas.sort_unstable();
    Rrset { rtype, ttl: first.ttl, rdatas }
}

/// RFC 1034 §3.6.2: a name with a CNAME has nothing else.
fn check_aliases(zone: &Name, node: &[Loaded], problems: &mut Vec<(Place, Problem)>) {
    let Some(alias) = node.iter().find(|record| record.rtype == RecordType::CNAME) else { return };
    if alias.owner == *zone {
        problems.push((alias.place, Problem::CnameAtApex));
    } else if let Some(other) = node.iter().find(|record| record.rtype != RecordType::CNAME) {
        let (owner, line) = (alias.owner.clone(), other.place.at.line);
        problems.push((alias.place, Problem::CnameAndOther { owner, other: other.rtype, line }));
    }
}

/// Finds the records of a name, as an answer would.
struct Index<'r> {
    zone: &'r Name,
    nodes: HashMap<Name, &'r [Loaded], RandomState>,
    records: &'r [Loaded],
    /// Owners of NS records below the apex.
    cuts: HashSet<Name, RandomState>,
    /// All owners and the names between them and the apex; made when a target isn't an owner itself.
    existing: OnceCell<HashSet<Name, RandomState>>,
}

impl<'r> Index<'r> {
    /// The records must be sorted.
    fn new(zone: &'r Name, records: &'r [Loaded]) -> Self {
        let chunks = records.chunk_by(|a, b| a.owner == b.owner);
        let nodes = chunks.map(|node| (node[0].owner.clone(), node)).collect();
        let servers = records.iter().filter(|record| record.rtype == RecordType::NS && record.owner != *zone);
        let cuts = servers.map(|record| record.owner.clone()).collect();
        Index { zone, nodes, records, cuts, existing: OnceCell::new() }
    }

    fn exact(&self, name: &Name) -> &'r [Loaded] {
        self.nodes.get(name).copied().unwrap_or(&[])
    }

    /// The delegation that a name lies at or below; the highest one.
    fn cut(&self, name: &Name) -> Option<Name> {
        if self.cuts.is_empty() {
            return None;
        }
        self.up_to_apex(name).filter(|name| self.cuts.contains(name)).last()
    }

    /// A name in the zone and what lies above it, up to the apex.
    fn up_to_apex(&self, name: &Name) -> impl Iterator<Item = Name> {
        let zone = self.zone.clone();
        std::iter::successors(Some(name.clone()), move |name| if *name == zone { None } else { name.parent() })
    }

    /// The records at a name, or those of the wildcard that stands for it (RFC 4592 §3.3.1).
    fn find(&self, name: &Name) -> &'r [Loaded] {
        if let Some(records) = self.nodes.get(name) {
            return records;
        }
        let existing = self.existing.get_or_init(|| {
            let mut existing: HashSet<Name, RandomState> = HashSet::default();
            existing.insert(self.zone.clone());
            for owner in self.nodes.keys() {
                for name in self.up_to_apex(owner) {
                    if !existing.insert(name) {
                        break; // and with it everything above
                    }
                }
            }
            existing
        });
        let encloser = self.up_to_apex(name).find(|name| existing.contains(name));
        match encloser {
            Some(encloser) if encloser != *name => encloser.child(b"*").map_or(&[], |wildcard| self.exact(&wildcard)),
            _ => &[],
        }
    }
}

/// Name servers in the zone have addresses, and no target is an alias (RFC 2181 §10.3).
fn check_targets(index: &Index<'_>, problems: &mut Vec<(Place, Problem)>) {
    for record in index.records {
        if !matches!(record.rtype, RecordType::NS | RecordType::MX | RecordType::SRV) {
            continue;
        }
        let Some(target) = additional_name(record.rtype, &record.rdata).filter(|name| name.is_within(index.zone))
        else {
            continue;
        };
        let needs_address =
            record.rtype == RecordType::NS && (record.owner == *index.zone || target.is_within(&record.owner));
        let found = match index.cut(&target) {
            None => index.find(&target),
            // Glue (RFC 1034 §4.2.1) is found where it stands.
            Some(_) if needs_address => index.exact(&target),
            // The child's own affair.
            Some(_) => continue,
        };
        let alias = found.iter().find(|found| found.rtype == RecordType::CNAME);
        if let Some(alias) = alias {
            let (rtype, line) = (record.rtype, alias.place.at.line);
            problems.push((record.place, Problem::TargetIsAlias { rtype, target, line }));
        } else if needs_address && !found.iter().any(|found| found.rtype.is_address()) {
            problems.push((record.place, Problem::NeedsGlue(target)));
        }
    }
}
