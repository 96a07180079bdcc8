//! The writer's side of a zone: stage changes, and when they are durable, make them the next snapshot.
//!
//! [`Zone::stage`] applies changes to the contents, builds the touched names again, and compares them with the snapshot.
//! If nothing published differs there is no commit: the epoch stays. Otherwise the commit carries the next epoch and the
//! delta. [`Zone::publish`] then turns the staged nodes into the next snapshot, or [`Zone::revert`] takes everything back.
//!
//! The cost is that of the touched names and of their pages in the persistent map ([`super::map`]).

use std::sync::Arc;

use crate::base::limits::RECORD_OCTETS;
use crate::base::{Epoch, Name, NameMap, NameSet, RecordType, Wall};

use super::change::{CausedChange, Commit};
use super::contents::{Contents, Undo};
use super::delta::Delta;
use super::map::SnapshotMap;
use super::records::txt::Fingerprint;
use super::room::Overfull;
use super::rrset::Node;
use super::settings::Settings;
use super::snapshot::Snapshot;

/// One zone as its publisher holds it.
#[derive(Debug)]
pub struct Zone {
    pub(super) contents: Contents,
    pub(super) snapshot: Snapshot,
    /// How many names directly below a name exist; names without any are left out.
    children: NameMap<u32>,
    open: Open,
}

/// Nodes that are about to take their places; those without records, and the places of those that go, are empty.
type Edits = NameMap<Option<Arc<Node>>>;

/// Changes applied to the contents and not staged yet.
#[derive(Debug, Default)]
struct Open {
    changes: Vec<CausedChange>,
    undo: Vec<Undo>,
    touched: NameSet,
}

/// Changes that were applied to the contents and wait for the store.
#[derive(Debug)]
pub struct Staged {
    /// The commit, or `None` if nothing that is published differs.
    pub commit: Option<Arc<Commit>>,
    nodes: Vec<(Name, Node)>,
    undo: Vec<Undo>,
    /// Services of which the store must be told.
    pub services: Vec<Name>,
    /// Services whose fingerprint moved, with what it was.
    moved: Vec<(Name, Epoch, Fingerprint)>,
    /// Names whose answers show addresses that changed.
    referrers: NameSet,
}

/// What a published commit touched.
#[derive(Debug, Clone)]
pub struct Published {
    /// The next snapshot.
    pub snapshot: Snapshot,
    /// Names whose answers must be compiled again: changed names, and those that show their addresses.
    pub touched: Vec<Name>,
}

/// What the store keeps of a known service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ServiceState {
    /// The epoch of its last change.
    pub changed: Epoch,
    /// Since when nobody is in it.
    pub empty_since: Option<Wall>,
    /// How many slots there are, or were.
    pub slots: u32,
}

impl Zone {
    /// An empty zone at an epoch; nothing is published, not even the apex.
    pub fn new(settings: Arc<Settings>, epoch: Epoch) -> Zone {
        let snapshot = Snapshot { epoch, settings: settings.clone(), names: SnapshotMap::default() };
        Zone { contents: Contents::new(settings), snapshot, children: NameMap::default(), open: Open::default() }
    }

    /// The sources behind the zone.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// What is published.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the store should keep of a service; `None`: it isn't known.
    pub fn service_state(&self, name: &Name) -> Option<ServiceState> {
        self.contents.service_state(name)
    }

    /// Applies a change to the contents, where prerequisites and later changes see it. [`Zone::stage`] collects it.
    pub fn change(&mut self, change: CausedChange, at: Wall) {
        self.contents.apply(&change.change, at, &mut self.open.undo, &mut self.open.touched);
        self.open.changes.push(change);
    }

    /// Applies changes as [`Zone::change`] does, or none of them if an RRset would become too large for an answer.
    pub fn try_change(&mut self, changes: Vec<CausedChange>, at: Wall) -> Result<(), Overfull> {
        let (mut undo, mut touched) = (Vec::new(), NameSet::default());
        for caused in &changes {
            self.contents.apply(&caused.change, at, &mut undo, &mut touched);
        }
        // What is too large already, since it was stored when more had room, may stay.
        let published = |name: &Name, rtype| {
            let rrset = self.snapshot.node(name.as_wire()).and_then(|node| node.rrset(rtype));
            rrset.map_or(0, |rrset| rrset.rdatas().map(|rdata| RECORD_OCTETS + rdata.len()).sum())
        };
        if let Some(overfull) = self.contents.find_overfull(&touched, published) {
            self.contents.revert(undo);
            return Err(overfull);
        }
        self.open.undo.extend(undo);
        self.open.touched.extend(touched);
        self.open.changes.extend(changes);
        Ok(())
    }

    /// Whether changes wait to be staged.
    pub fn is_changed(&self) -> bool {
        !self.open.changes.is_empty()
    }

    /// Finds out what the changes since the last time publish.
    pub fn stage(&mut self, at: Wall) -> Staged {
        self.stage_as(self.snapshot.epoch.next(), false, at)
    }

    /// The same for a copy, which gets the epoch that its primary decides about: there is a commit, whatever differs.
    pub fn stage_copy(&mut self, epoch: Epoch, at: Wall) -> Staged {
        self.stage_as(epoch, true, at)
    }

    fn stage_as(&mut self, epoch: Epoch, moves: bool, at: Wall) -> Staged {
        let Open { changes, undo, touched } = std::mem::take(&mut self.open);
        let mut told: NameSet = changes.iter().filter_map(|caused| caused.change.service().cloned()).collect();
        if changes.iter().any(|caused| matches!(caused.change, super::Change::Settings(_))) {
            told.extend(self.contents.services().map(|(name, ..)| name.clone()));
        }
        // Names first whose records don't depend on others; then the services, whose digest covers addresses.
        let (services, plain): (Vec<Name>, Vec<Name>) =
            touched.into_iter().partition(|name| self.contents.knows_service(name));
        let services: NameSet = services.into_iter().collect();
        let mut shown = NameSet::default();
        let mut nodes = Vec::new();
        for name in plain {
            let node = self.contents.node(&name);
            if self.addresses_differ(&name, &node) {
                shown.extend(self.contents.referrers(&name));
            }
            nodes.push((name, node));
        }
        // A service's owner rarely has addresses of its own; its other records don't matter to those who show them.
        for name in &services {
            if self.may_have_addresses(name) && self.addresses_differ(name, &self.contents.node(name)) {
                shown.extend(self.contents.referrers(name));
            }
        }
        let referring = shown.iter().filter(|name| self.contents.knows_service(name)).cloned();
        let services: NameSet = services.into_iter().chain(referring).collect();
        let mut moved = Vec::new();
        let mut shared = NameMap::default();
        for name in services {
            let fingerprint = self.contents.fingerprint(&name, &mut shared);
            let service = self.contents.service_mut(&name).expect("it is known");
            if service.changed == Epoch(0) || service.fingerprint != fingerprint {
                moved.push((name.clone(), service.changed, service.fingerprint));
                told.insert(name.clone());
                service.changed = epoch;
                service.fingerprint = fingerprint;
            }
            let node = self.contents.node(&name);
            nodes.push((name, node));
        }
        nodes.retain(|(name, node)| self.differs(name, node));
        nodes.sort_by(|(a, _), (b, _)| a.canonical_cmp(b));
        let mut delta = Delta::default();
        for (name, node) in &nodes {
            delta.compare(self.snapshot.node(name.as_wire()).map(|node| &**node), Some(node));
        }
        let new_soa = self.snapshot.is_empty() || !self.contents.settings().same_soa(&self.snapshot.settings);
        let commit = (moves || !delta.is_empty() || new_soa).then(|| Arc::new(Commit { epoch, at, changes, delta }));
        Staged { commit, nodes, undo, services: told.into_iter().collect(), moved, referrers: shown }
    }

    /// Takes staged changes back. Nothing may have been changed since.
    pub fn revert(&mut self, staged: Staged) {
        debug_assert!(!self.is_changed(), "staged changes are settled before the next ones");
        for (name, changed, fingerprint) in staged.moved {
            if let Some(service) = self.contents.service_mut(&name) {
                service.changed = changed;
                service.fingerprint = fingerprint;
            }
        }
        self.contents.revert(staged.undo);
    }

    /// Makes staged changes the next snapshot. `None` if they publish nothing.
    pub fn publish(&mut self, staged: Staged) -> Option<Published> {
        let commit = staged.commit?;
        let mut touched = staged.referrers;
        touched.extend(staged.nodes.iter().map(|(name, _)| name.clone()));
        let shown = self.swap(staged.nodes, commit.epoch);
        touched.extend(shown);
        Some(Published { snapshot: self.snapshot.clone(), touched: touched.into_iter().collect() })
    }

    fn differs(&self, name: &Name, node: &Node) -> bool {
        match self.snapshot.node(name.as_wire()) {
            Some(old) => **old != *node,
            None => !node.is_empty(),
        }
    }

    fn may_have_addresses(&self, name: &Name) -> bool {
        let old = self.snapshot.node(name.as_wire());
        old.is_some_and(|old| old.rrsets().any(|rrset| rrset.rtype.is_address()))
            || !self.contents.addresses_at(name).is_empty()
    }

    fn addresses_differ(&self, name: &Name, node: &Node) -> bool {
        let old = self.snapshot.node(name.as_wire());
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .any(|rtype| old.and_then(|old| old.rrset(rtype)) != node.rrset(rtype))
    }

    /// Puts nodes in place and keeps empty non-terminals in step; returns those that appeared or went.
    fn swap(&mut self, nodes: Vec<(Name, Node)>, epoch: Epoch) -> Vec<Name> {
        let mut edits = Edits::with_capacity_and_hasher(nodes.len(), Default::default());
        let mut bare = Vec::new();
        for (name, node) in nodes {
            let had_records = self.has_records(&name, &edits);
            let has_records = !node.is_empty();
            edits.insert(name.clone(), has_records.then(|| Arc::new(node)));
            if had_records != has_records && !self.children.contains_key(&name) {
                self.count(&name, has_records, &edits, &mut bare);
            }
            if !has_records {
                bare.push(name);
            }
        }
        // Names without records stay as empty nodes while something exists below them (RFC 4592 §2.2.2).
        for name in &bare {
            if !self.has_records(name, &edits) {
                let below = self.children.contains_key(name);
                edits.insert(name.clone(), below.then(|| Arc::new(Node::empty(name.clone()))));
            }
        }
        let names = self.snapshot.names.edit(edits.into_iter().collect());
        self.snapshot = Snapshot { epoch, settings: self.contents.settings().clone(), names };
        bare
    }

    /// A name began or ceased to exist: counts that at its parent, and upwards for as long as the parent itself begins or
    /// ceases to exist by it. Those are noted in `bare`.
    fn count(&mut self, name: &Name, exists: bool, edits: &Edits, bare: &mut Vec<Name>) {
        let mut name = name.clone();
        while name != self.contents.settings().origin {
            // Most have others beside them.
            let siblings = name.parent_wire().and_then(|parent| self.children.get_mut(parent));
            if let Some(children) = siblings.filter(|children| exists || **children > 1) {
                *children = if exists { *children + 1 } else { *children - 1 };
                return;
            }
            let Some(parent) = name.parent() else { return };
            debug_assert!(exists || self.children.contains_key(&parent), "what ceases to exist was counted");
            if exists {
                self.children.insert(parent.clone(), 1);
            } else {
                self.children.remove(&parent);
            }
            if self.has_records(&parent, edits) {
                return;
            }
            bare.push(parent.clone());
            name = parent;
        }
    }

    /// So many names directly below one began to exist, which they had not before.
    pub(super) fn begin_below(&mut self, parent: Name, number: u32, bare: &mut Vec<Name>) {
        let none = Edits::default();
        let children = self.children.entry(parent.clone()).or_insert(0);
        *children += number;
        if *children == number && !self.has_records(&parent, &none) {
            self.count(&parent, true, &none, bare);
            bare.push(parent);
        }
    }

    fn has_records(&self, name: &Name, edits: &Edits) -> bool {
        match edits.get(name) {
            Some(edit) => edit.as_ref().is_some_and(|node| !node.is_empty()),
            None => self.snapshot.node(name.as_wire()).is_some_and(|node| !node.is_empty()),
        }
    }
}
