//! Prerequisites against the registered view (RFC 2136 §3.2).
//!
//! Wildcards and aliases are not followed: a prerequisite speaks of the records at its very name.

use std::collections::{HashMap, HashSet};

use crate::base::{Name, NameMap, RecordType};
use crate::dns::wire::Rcode;
use crate::zone::{Contents, Node, Rdata, Snapshot};

use super::Refusal;
use super::request::Prerequisite;

/// What prerequisites see: the sources as registered, and the SOA. A name is looked at once a message, however many
/// prerequisites speak of it.
#[derive(Debug)]
pub struct View<'a> {
    contents: &'a Contents,
    snapshot: &'a Snapshot,
    nodes: NameMap<Node>,
}

impl<'a> View<'a> {
    /// The registered view of a zone; the snapshot is for its SOA.
    pub fn new(contents: &'a Contents, snapshot: &'a Snapshot) -> View<'a> {
        View { contents, snapshot, nodes: NameMap::default() }
    }

    fn node(&mut self, name: &Name) -> &Node {
        self.nodes.entry(name.clone()).or_insert_with(|| self.contents.registered_node(name))
    }

    fn has(&mut self, name: &Name, rtype: RecordType) -> bool {
        match rtype {
            RecordType::SOA => name == self.snapshot.origin(),
            _ => self.node(name).rrset(rtype).is_some(),
        }
    }

    fn rrset(&mut self, name: &Name, rtype: RecordType) -> HashSet<Rdata> {
        match rtype {
            RecordType::SOA if name == self.snapshot.origin() => [self.snapshot.soa().rdata].into(),
            RecordType::SOA => HashSet::new(),
            _ => self.node(name).rrset(rtype).into_iter().flat_map(|rrset| rrset.rdatas()).map(Rdata::from).collect(),
        }
    }

    fn in_use(&mut self, name: &Name) -> bool {
        name == self.snapshot.origin() || !self.node(name).is_empty()
    }
}

/// Checks the prerequisites in order; the first that fails decides.
pub fn check(prerequisites: &[Result<Prerequisite, Refusal>], view: &mut View<'_>) -> Result<(), Refusal> {
    let fail = |rcode| Err(Refusal::plain(rcode));
    let mut wanted: HashMap<(&Name, RecordType), HashSet<Rdata>> = HashMap::new();
    for prerequisite in prerequisites {
        match prerequisite.as_ref().map_err(Clone::clone)? {
            Prerequisite::NameInUse(name) if !view.in_use(name) => return fail(Rcode::NXDOMAIN),
            Prerequisite::NameNotInUse(name) if view.in_use(name) => return fail(Rcode::YXDOMAIN),
            Prerequisite::RrsetExists(name, rtype) if !view.has(name, *rtype) => {
                return fail(Rcode::NXRRSET);
            }
            Prerequisite::RrsetDoesNotExist(name, rtype) if view.has(name, *rtype) => {
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
