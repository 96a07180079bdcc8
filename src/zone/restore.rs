//! A zone from what the store kept.
//!
//! Every name is built, service by service, since what its records are made of lies close together then; of a large zone by
//! as many threads as there are processors, since nothing is answered until it is done.

use std::sync::Arc;

use crate::base::{Epoch, Name, NameMap, NameSet};

use super::change::Change;
use super::contents::Contents;
use super::live::{ServiceState, Zone};
use super::map::{SnapshotMap, hash_name};
use super::parts::by_parts;
use super::rrset::Node;
use super::settings::Settings;

/// Nodes that some of a zone's names make.
#[derive(Default)]
struct Built {
    /// Those with records, and the hashes of their names.
    nodes: Vec<(u64, Arc<Node>)>,
    /// How many of them stand directly below a name.
    below: NameMap<u32>,
}

impl Built {
    fn of(names: impl Iterator<Item = Name>, contents: &Contents) -> Built {
        let mut built = Built::default();
        for name in names {
            let node = contents.node(&name);
            if !node.is_empty() {
                built.count(&name, contents.settings());
                built.nodes.push((hash_name(name.as_wire()), Arc::new(node)));
            }
        }
        built
    }

    fn count(&mut self, name: &Name, settings: &Settings) {
        let Some(parent) = name.parent_wire().filter(|_| *name != settings.origin) else { return };
        match self.below.get_mut(parent) {
            Some(number) => *number += 1,
            None => drop(self.below.insert(name.parent().expect("it has one in wire form"), 1)),
        }
    }
}

/// A zone that takes over what the store kept of it.
#[derive(Debug)]
pub struct Restoring {
    zone: Zone,
}

impl Restoring {
    /// A zone at its epoch.
    pub fn new(settings: Arc<Settings>, epoch: Epoch) -> Restoring {
        let mut restoring = Restoring { zone: Zone::new(settings.clone(), epoch) };
        restoring.apply(&Change::Settings(settings));
        restoring
    }

    /// Takes over what this change once led to.
    pub fn apply(&mut self, change: &Change) {
        self.zone.contents.take_over(change);
    }

    /// The zone, with what is known of its services.
    pub fn finish(self, services: impl IntoIterator<Item = (Name, ServiceState)>) -> Zone {
        let mut zone = self.zone;
        for (name, state) in services {
            zone.contents.know(&name);
            zone.contents.restore_service(&name, state);
        }
        let services: Vec<Name> = zone.contents.services().map(|(name, ..)| name.clone()).collect();
        let contents = &zone.contents;
        let fingerprints = by_parts(
            &services,
            |name| contents.names_near(name),
            |names| -> Vec<_> {
                let mut shared = NameMap::default();
                names.iter().map(|name| contents.fingerprint(name, &mut shared)).collect()
            },
        );
        for (name, fingerprint) in services.iter().zip(fingerprints.into_iter().flatten()) {
            zone.contents.service_mut(name).expect("listed above").fingerprint = fingerprint;
        }
        zone.build(&services);
        zone
    }
}

impl Zone {
    /// A zone as the store kept it at its epoch: the changes that lead there, and what is known of its services.
    pub fn restore(
        settings: Arc<Settings>,
        epoch: Epoch,
        changes: impl IntoIterator<Item = Change>,
        services: impl IntoIterator<Item = (Name, ServiceState)>,
    ) -> Zone {
        let mut restoring = Restoring::new(settings, epoch);
        changes.into_iter().for_each(|change| restoring.apply(&change));
        restoring.finish(services)
    }

    /// Builds the nodes of all names anew.
    fn build(&mut self, services: &[Name]) {
        let contents = &self.contents;
        let others: NameSet = contents.unserved_names().collect();
        let others: Vec<Name> = others.into_iter().collect();
        let mut parts = by_parts(
            services,
            |service| contents.names_near(service),
            |services| Built::of(services.iter().flat_map(|service| contents.names_of(service)), contents),
        );
        parts.extend(by_parts(&others, |_| 1, |names| Built::of(names.iter().cloned(), contents)));
        let count = parts.iter().map(|part| part.nodes.len()).sum();
        let mut nodes = Vec::with_capacity(count);
        let mut below = Vec::with_capacity(parts.len());
        for mut part in parts {
            nodes.append(&mut part.nodes);
            below.push(part.below);
        }
        let names = SnapshotMap::build(nodes);
        if names.len() < count {
            // Some were built for several services, and counted as often.
            let mut counted = Built::default();
            names.iter().for_each(|node: &Arc<Node>| counted.count(node.name(), contents.settings()));
            below = vec![counted.below];
        }
        self.snapshot.settings = contents.settings().clone();
        self.snapshot.names = names.clone();
        // Names above others exist by them, if they have no records of their own.
        let mut bare = Vec::new();
        below.into_iter().flatten().for_each(|(parent, number)| self.begin_below(parent, number, &mut bare));
        let bare = bare.into_iter().map(|name| (name.clone(), Some(Arc::new(Node::empty(name)))));
        self.snapshot.names = names.edit(bare.collect());
    }
}
