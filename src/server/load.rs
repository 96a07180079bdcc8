//! From configuration and store to a publisher.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::{Epoch, Name, Now, RecordType, Wall};
use crate::config::Problem;
use crate::dns::update::Rules;
use crate::membership::{Item, Table, UpdateAccess};
use crate::store::{Store, StoreError, StoredZone};
use crate::zone::{Change, History, PublishedMember, Restoring, StaticNode, Zone};

use super::counters::Counters;
use super::publisher::{Clash, Policy, Publisher, leased_change};
use super::reading::Ready;

/// What the configuration says of a zone, as far as its publisher is concerned.
pub fn policy(ready: &Ready) -> Policy {
    let zone = &ready.zone;
    let forwarders = zone.secondaries.iter().map(|secondary| secondary.address.ip().to_canonical()).collect();
    Policy {
        access: UpdateAccess::new(zone.update.clone()),
        rules: Rules {
            policies: zone.policies.clone(),
            quotas: ready.quotas,
            peer_address: zone.peer_address,
            forwarders,
        },
        settle: zone.settle,
    }
}

/// Why a zone can't be brought into force.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its configuration doesn't go with what the store kept.
    #[error("{0}")]
    Clash(Problem),
}

/// Restores a zone from the store, or begins it, and hands it its configuration. `first` is the epoch of the first commit
/// of a zone that begins; else that is the Unix time.
pub fn open(
    ready: &Ready,
    store: &dyn Store,
    counters: Arc<Counters>,
    first: Option<Epoch>,
    now: Now,
) -> Result<Opened, OpenError> {
    let zone = &ready.zone;
    let settings = Arc::new(zone.settings.clone());
    let policy = policy(ready);
    let mut table = Table::with(zone.policies.clone());
    table.see(now);
    // From here on to the first message that can come in, nobody can renew: that counts as a stall.
    table.observe(now.mono);
    let mut history = History::default();
    let mut publisher = match store.start(&settings.origin, now.wall)? {
        Some(mut stored) => {
            let lapses = std::mem::take(&mut stored.lapses);
            let epoch = stored.epoch;
            history = History::restore(&stored.settings, epoch, &stored.history, lapses);
            let (zone, table) = revive(stored, table, now)?;
            Publisher::new(zone, table, policy, counters, Some(epoch), now)
        }
        None => {
            let first = first.unwrap_or(Epoch(now.wall.seconds()));
            let before = Epoch(first.0.saturating_sub(1));
            Publisher::new(Zone::new(settings.clone(), before), table, policy, counters, None, now)
        }
    };
    let statics = ready.nodes();
    let clash = publisher.find_clash(&settings, &statics);
    let configured = clash.map_or_else(|| publisher.configure(settings, statics, now), Err);
    let located = |clash: Clash| OpenError::Clash(ready.problem_at(clash.name(), clash.to_string()));
    configured.map_err(located)?;
    Ok(Opened { publisher, history })
}

/// A zone that is ready to run.
#[derive(Debug)]
pub struct Opened {
    /// Its publisher.
    pub publisher: Publisher,
    /// What it committed last.
    pub history: History,
}

/// A zone that is a copy, as the store has it.
#[derive(Debug)]
pub struct OpenedCopy {
    /// The zone; empty, if there is no copy of it.
    pub zone: Zone,
    /// The epoch in the store.
    pub epoch: Option<Epoch>,
    /// When a primary was last known to have it so; none if there is no copy.
    pub refreshed: Option<Wall>,
}

/// Restores a zone that is a copy of another server's, with its last commits. What the store kept of a zone that was our own
/// is left there until the first transfer replaces it.
pub fn open_copy(ready: &Ready, store: &dyn Store, now: Now) -> Result<(OpenedCopy, History), StoreError> {
    let settings = Arc::new(ready.zone.settings.clone());
    let Some(stored) = store.start(&settings.origin, now.wall)? else {
        return Ok((
            OpenedCopy { zone: Zone::new(settings, Epoch(0)), epoch: None, refreshed: None },
            History::default(),
        ));
    };
    let epoch = stored.epoch;
    if stored.refreshed.is_none() {
        let zone = Zone::new(settings, epoch);
        return Ok((OpenedCopy { zone, epoch: Some(epoch), refreshed: None }, History::default()));
    }
    let history = History::restore(&stored.settings, epoch, &stored.history, stored.lapses);
    let statics = stored.statics.into_iter().map(|node| Change::Static { name: node.name, rrsets: node.rrsets });
    let zone = Zone::restore(stored.settings, epoch, statics, []);
    Ok((OpenedCopy { zone, epoch: Some(epoch), refreshed: stored.refreshed }, history))
}

/// The zone and the membership as the store has them.
pub fn revive(stored: StoredZone, mut table: Table, now: Now) -> Result<(Zone, Table), StoreError> {
    let full = |cause: &dyn std::fmt::Display| StoreError::Io { path: "store".to_owned(), cause: cause.to_string() };
    let mut restoring = Restoring::new(stored.settings, stored.epoch);
    for StaticNode { name, rrsets } in stored.statics {
        restoring.apply(&Change::Static { name, rrsets });
    }
    for (service, slots) in stored.slots {
        table.load_slots(service, slots);
    }
    // A leased RRset is one change, not one for each of its records.
    let mut leased: HashSet<(Name, RecordType)> = HashSet::new();
    for part in stored.items {
        for (item, stamp, renewed) in part? {
            let deadline = stored.starts.deadline(renewed, item.lease(), now);
            let index = table.load(item, stamp, deadline, now.mono).map_err(|error| full(&error))?;
            match table.item(index) {
                Some(Item::Member(member)) => {
                    let (service, id) = (member.service.clone(), member.id.clone());
                    let published = PublishedMember::of(member);
                    restoring.apply(&Change::Member { service, id, member: Some(published) });
                }
                Some(Item::Leased(record)) => drop(leased.insert((record.name.clone(), record.rtype))),
                Some(Item::Held(_)) | None => {}
            }
        }
    }
    leased.iter().for_each(|(name, rtype)| restoring.apply(&leased_change(&table, name, *rtype)));
    // The table forgets them in this order.
    let mut tombstones = stored.tombstones;
    tombstones.sort_by_key(|(_, tombstone)| tombstone.until);
    for (key, tombstone) in tombstones {
        table.entomb(key, tombstone);
    }
    Ok((restoring.finish(stored.services), table))
}
