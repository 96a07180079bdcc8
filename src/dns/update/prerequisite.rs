//! Prerequisites against the registered view (RFC 2136 §3.2).
//!
//! Wildcards and aliases are not followed: a prerequisite speaks of the records at its very name.

use std::collections::{HashMap, HashSet};

use crate::base::{Name, RecordType};
use crate::dns::wire::Rcode;
use crate::zone::{Contents, Node, Rdata, Snapshot};

use super::Refusal;
use super::request::Prerequisite;

/// What prerequisites and deletes see: the sources as registered, and the SOA.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The sources.
    pub contents: &'a Contents,
    /// For the SOA record.
    pub snapshot: &'a Snapshot,
}

impl View<'_> {
    fn rrset(&self, name: &Name, rtype: RecordType) -> HashSet<Rdata> {
        if rtype == RecordType::SOA {
            return (name == self.snapshot.origin()).then(|| self.snapshot.soa().rdata).into_iter().collect();
        }
        let node = self.contents.node(name);
        node.rrset(rtype).into_iter().flat_map(|rrset| rrset.rdatas().map(Rdata::from).collect::<Vec<_>>()).collect()
    }

    fn in_use(&self, name: &Name) -> bool {
        let node: Node = self.contents.node(name);
        !node.is_empty() || name == self.snapshot.origin()
    }
}

/// Checks the prerequisites in order; the first that fails decides.
pub fn check(prerequisites: &[Result<Prerequisite, Refusal>], view: View<'_>) -> Result<(), Refusal> {
    let fail = |rcode| Err(Refusal::plain(rcode));
    let mut wanted: HashMap<(&Name, RecordType), HashSet<Rdata>> = HashMap::new();
    for prerequisite in prerequisites {
        match prerequisite.as_ref().map_err(Clone::clone)? {
            Prerequisite::NameInUse(name) if !view.in_use(name) => return fail(Rcode::NXDOMAIN),
            Prerequisite::NameNotInUse(name) if view.in_use(name) => return fail(Rcode::YXDOMAIN),
            Prerequisite::RrsetExists(name, rtype) if view.rrset(name, *rtype).is_empty() => {
                return fail(Rcode::NXRRSET);
            }
            Prerequisite::RrsetDoesNotExist(name, rtype) if !view.rrset(name, *rtype).is_empty() => {
                return fail(Rcode::YXRRSET);
            }
            Prerequisite::RrsetEquals(name, rtype, rdata) => {
                wanted.entry((name, *rtype)).or_default().insert(rdata.clone());
            }
            _ => {}
        }
    }
    // RFC 2136 §3.2.3: equal as sets, TTLs aside.
    for ((name, rtype), rdatas) in wanted {
        if view.rrset(name, rtype) != rdatas {
            return fail(Rcode::NXRRSET);
        }
    }
    Ok(())
}
