//! What a question should get, found in the plain list of a zone's records, without index, flag or template: the algorithm
//! of RFC 1034 §4.3.2 with RFC 4592 and RFC 6672 as it stands there.

use crate::base::{Name, RecordType};
use crate::zone::{Record, Snapshot};

/// The sections that a question should get; additional records aside.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub rcode: u16,
    pub authoritative: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    /// The RRset whose targets' addresses go along.
    pub last: Vec<Record>,
}

struct Records<'s> {
    snapshot: &'s Snapshot,
    all: Vec<Record>,
}

impl Records<'_> {
    fn at(&self, name: &Name, rtype: RecordType) -> Vec<Record> {
        self.all.iter().filter(|record| record.owner == *name && record.rtype == rtype).cloned().collect()
    }

    fn exists(&self, name: &Name) -> bool {
        name == self.snapshot.origin() || self.all.iter().any(|record| record.owner.is_within(name))
    }

    /// From the name up to the apex.
    fn ancestors(&self, name: &Name) -> Vec<Name> {
        let mut names = vec![name.clone()];
        while names.last() != Some(self.snapshot.origin()) {
            names.push(names.last().and_then(Name::parent).expect("within the zone"));
        }
        names
    }
}

pub(super) fn resolve(snapshot: &Snapshot, question: &Name, qtype: RecordType) -> Expected {
    let mut all = vec![snapshot.soa()];
    let mut nodes: Vec<_> = snapshot.nodes().collect();
    nodes.sort_by(|a, b| a.name().canonical_cmp(b.name()));
    all.extend(nodes.iter().flat_map(|node| {
        node.rrsets().flat_map(|rrset| rrset.records(node.name()).collect::<Vec<_>>()).collect::<Vec<_>>()
    }));
    let records = Records { snapshot, all };
    let mut expected = Expected { authoritative: true, ..Expected::default() };
    let mut seen = vec![question.clone()];
    loop {
        let name = seen.last().expect("never empty").clone();
        let mut path = records.ancestors(&name);
        path.reverse();
        let mut redirected = None;
        for above in &path {
            let is_literal = above.first_label() != b"*";
            let servers = records.at(above, RecordType::NS);
            let is_alias = !records.at(above, RecordType::CNAME).is_empty();
            if !servers.is_empty()
                && above != snapshot.origin()
                && is_literal
                && !is_alias
                && !(*above == name && qtype == RecordType::DS)
            {
                expected.authoritative = seen.len() > 1;
                expected.authority = servers.clone();
                expected.last = servers;
                return expected;
            }
            let dname = records.at(above, RecordType::DNAME);
            if !dname.is_empty() && *above != name && is_literal && !is_alias {
                redirected = Some((above.clone(), dname));
                break;
            }
        }
        let target = if let Some((owner, dname)) = redirected {
            if !expected.answers.contains(&dname[0]) {
                expected.answers.extend(dname.clone());
            }
            let kept = &name.as_wire()[..name.as_wire().len() - owner.as_wire().len()];
            let Ok(target) = Name::from_wire(&[kept, &dname[0].rdata].concat()) else {
                expected.rcode = 6;
                return expected;
            };
            let rdata = target.as_wire().into();
            expected.answers.push(Record { owner: name, rtype: RecordType::CNAME, ttl: dname[0].ttl, rdata });
            if qtype == RecordType::CNAME {
                return expected;
            }
            target
        } else {
            // The name itself, or the wildcard below its closest encloser.
            let source = if records.exists(&name) {
                Some(name.clone())
            } else {
                let encloser = path.iter().rev().find(|above| records.exists(above)).expect("the apex exists");
                encloser.child(b"*").ok().filter(|wildcard| records.exists(wildcard))
            };
            let Some(source) = source else {
                expected.rcode = 3;
                expected.authority = vec![snapshot.soa()];
                return expected;
            };
            let owned = |records: Vec<Record>| -> Vec<Record> {
                records.into_iter().map(|record| Record { owner: name.clone(), ..record }).collect()
            };
            let alias = owned(records.at(&source, RecordType::CNAME));
            let ends = [RecordType::CNAME, RecordType::ANY, RecordType::RRSIG, RecordType::NSEC];
            if !alias.is_empty() && !ends.contains(&qtype) {
                let target = Name::from_wire(&alias[0].rdata).expect("a name");
                expected.answers.extend(alias);
                target
            } else {
                let found = match qtype {
                    RecordType::ANY => {
                        let first = records.all.iter().find(|record| record.owner == source).map(|record| record.rtype);
                        first.map(|rtype| records.at(&source, rtype)).unwrap_or_default()
                    }
                    rtype => records.at(&source, rtype),
                };
                if found.is_empty() {
                    expected.authority = vec![snapshot.soa()];
                } else {
                    expected.last = owned(found);
                    expected.answers.extend(expected.last.clone());
                }
                return expected;
            }
        };
        if !target.is_within(snapshot.origin()) || seen.contains(&target) || seen.len() == 16 {
            return expected;
        }
        seen.push(target);
    }
}
