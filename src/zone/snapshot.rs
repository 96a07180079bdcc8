//! The immutable zone of one epoch.

use std::sync::Arc;

use crate::base::{Epoch, Name};

use super::map::{Named, Position, SnapshotMap};
use super::rrset::{Node, Record};
use super::settings::Settings;

/// The zone of one epoch: all its names, empty non-terminals included. A clone is two pointers.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The epoch.
    pub epoch: Epoch,
    /// The settings behind SOA and TTLs.
    pub settings: Arc<Settings>,
    pub(super) names: SnapshotMap<Arc<Node>>,
}

impl Snapshot {
    /// The node of a name in wire form, lower case. A node without records is an empty non-terminal.
    pub fn node(&self, wire: &[u8]) -> Option<&Arc<Node>> {
        self.names.find(wire)
    }

    /// All names, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.names.iter()
    }

    /// What a function makes of the nodes of each page of the map, under the same names.
    pub fn map_nodes<W: Named + Send + Sync>(
        &self,
        values: impl Fn(&[Arc<Node>]) -> Box<[W]> + Sync,
    ) -> SnapshotMap<W> {
        self.names.map(values)
    }

    /// The names from a place on, in an order that stays the same for this snapshot, each with its place.
    pub fn nodes_from(&self, position: Position) -> impl Iterator<Item = (Position, &Arc<Node>)> {
        self.names.iter_from(position)
    }

    /// How many names there are, empty non-terminals included.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no name, not even the apex.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The apex.
    pub fn origin(&self) -> &Name {
        &self.settings.origin
    }

    /// The SOA record.
    pub fn soa(&self) -> Record {
        self.settings.soa(self.epoch.serial())
    }
}
