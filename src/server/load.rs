//! From configuration and store to a publisher.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::base::{Epoch, Name, Now, RecordType};
use crate::config;
use crate::dns::update::Rules;
use crate::membership::{Item, State, Table, UpdateAccess};
use crate::store::{Store, StoreError, StoredZone};
use crate::zone::file::FileError;
use crate::zone::{Change, PublishedMember, StaticNode, Zone, file};

use super::publisher::{Policy, Publisher, leased_change};

/// Why a zone's static file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StaticsError {
    /// The file can't be read.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// Its content is wrong; all problems found.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Content(Vec<FileError>),
    /// No address for the name server that the zone names.
    #[error(
        "{path}: the zone has no NS record, so its name server is soa.primary, {primary}, and that name has no address: add NS and address records to a static file, or set soa.primary to a name outside of the zone"
    )]
    NoAddress {
        /// The zone's configuration.
        path: String,
        /// The name server.
        primary: Name,
    },
}

/// Reads the static records of a zone.
pub fn read_statics(zone: &config::Zone) -> Result<Vec<StaticNode>, StaticsError> {
    let settings = &zone.settings;
    let nodes = match &zone.static_file {
        None => Vec::new(),
        Some(path) => {
            let io = |cause| StaticsError::Io { path: path.display().to_string(), cause };
            let text = std::fs::read_to_string(path).map_err(io)?;
            let include = |path: &Path| std::fs::read_to_string(path);
            file::parse(&text, path, &settings.origin, settings.ttl, &include).map_err(StaticsError::Content)?
        }
    };
    let at = |name: &Name| nodes.iter().find(|node| node.name == *name);
    let has = |name: &Name, wanted: &dyn Fn(RecordType) -> bool| {
        at(name).is_some_and(|node| node.rrsets.iter().any(|rrset| wanted(rrset.rtype)))
    };
    let primary = &settings.primary;
    if !has(&settings.origin, &|rtype| rtype == RecordType::NS)
        && primary.is_within(&settings.origin)
        && !has(primary, &RecordType::is_address)
    {
        return Err(StaticsError::NoAddress { path: zone.source.display().to_string(), primary: primary.clone() });
    }
    Ok(nodes)
}

/// Restores a zone from the store, or begins it, and hands it its configuration. `epoch` is the least that its next commit
/// may have.
pub fn open(
    zone: &config::Zone,
    statics: Vec<StaticNode>,
    store: &dyn Store,
    epoch: Option<Epoch>,
    now: Now,
) -> Result<Publisher, StoreError> {
    let settings = Arc::new(zone.settings.clone());
    let policy = Policy {
        access: UpdateAccess::new(zone.update.clone()),
        rules: Rules { leases: zone.leases, peer_address: zone.peer_address },
        settle: zone.settle,
    };
    let table = Table::new(zone.leases.grace);
    let mut publisher = match store.start(&settings.origin, now.wall)? {
        Some(stored) => restore(stored, table, policy, now)?,
        None => {
            // A new zone starts at the Unix time, so that a zone whose store was lost is not behind what it was.
            let first = epoch.unwrap_or(Epoch(now.wall.seconds()));
            let before = Epoch(first.0.saturating_sub(1));
            Publisher::new(Zone::new(settings.clone(), before), table, policy, None, now)
        }
    };
    publisher.configure(settings, statics, now);
    Ok(publisher)
}

fn restore(stored: StoredZone, table: Table, policy: Policy, now: Now) -> Result<Publisher, StoreError> {
    let epoch = stored.epoch;
    let (zone, table) = revive(stored, table, now)?;
    Ok(Publisher::new(zone, table, policy, Some(epoch), now))
}

/// The zone and the membership as the store has them.
pub fn revive(stored: StoredZone, mut table: Table, now: Now) -> Result<(Zone, Table), StoreError> {
    let full = |cause: &dyn std::fmt::Display| StoreError::Io { path: "store".to_owned(), cause: cause.to_string() };
    for (item, stamp, renewed) in stored.items {
        let deadline = stored.starts.deadline(renewed, item.lease(), now);
        table.load(item, stamp, deadline, now.mono).map_err(|error| full(&error))?;
    }
    // The table forgets them in this order.
    let mut tombstones = stored.tombstones;
    tombstones.sort_by_key(|(_, tombstone)| tombstone.until);
    for (key, tombstone) in tombstones {
        table.entomb(key, tombstone);
    }
    let statics = stored.statics.into_iter().map(|node| Change::Static { name: node.name, rrsets: node.rrsets });
    // A leased RRset is one change, not one for each of its records.
    let mut leased: HashSet<(Name, RecordType)> = HashSet::new();
    let items = table.items().filter_map(|item| match item {
        Item::Member(member) => {
            let in_service = member.state != State::Draining;
            let published = PublishedMember { registration: member.registration.clone(), in_service };
            let (service, id) = (member.service.clone(), member.id.clone());
            Some(Change::Member { service, id, member: Some(published) })
        }
        Item::Leased(record) => leased
            .insert((record.name.clone(), record.rtype))
            .then(|| leased_change(&table, &record.name, record.rtype)),
        Item::Held(_) => None,
    });
    let zone = Zone::restore(stored.settings, stored.epoch, statics.chain(items), stored.services);
    Ok((zone, table))
}
