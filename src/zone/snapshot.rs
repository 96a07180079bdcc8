//! The immutable zone of one epoch.

use std::sync::Arc;

use crate::base::{Epoch, Name, RecordType};

use super::map::SnapshotMap;
use super::rrset::{Node, Rdata, Record};
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

    /// The SOA record (RFC 1035 §3.3.13). Its TTL and MINIMUM are the negative TTL.
    pub fn soa(&self) -> Record {
        let settings = &self.settings;
        let mut rdata = Vec::with_capacity(settings.primary.as_wire().len() + settings.contact.as_wire().len() + 20);
        rdata.extend_from_slice(settings.primary.as_wire());
        rdata.extend_from_slice(settings.contact.as_wire());
        for field in [self.epoch.serial().0, settings.refresh, settings.retry, settings.expire, settings.negative_ttl.0]
        {
            rdata.extend_from_slice(&field.to_be_bytes());
        }
        Record {
            owner: settings.origin.clone(),
            rtype: RecordType::SOA,
            ttl: settings.negative_ttl,
            rdata: Rdata::from(rdata),
        }
    }
}
