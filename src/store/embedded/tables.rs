//! What stands where in the store's file, and how it is written and read within a transaction.

use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use crate::base::limits::{HISTORY_COMMITS, HISTORY_MEMORY, HISTORY_OCTETS, HISTORY_PAGE_OCTETS};
use crate::base::{Epoch, Name, Wall};
use crate::membership::{Key, Slots, Stamp, Tombstone};
use crate::store::format::{FormatError, commit_key, decode, encode, item_key, name_key, zone_range};
use crate::store::items::{PART, StoredItem, StoredItems};
use crate::store::start::Starts;
use crate::store::{Appended, StoredZone, Write};
use crate::zone::{Commit, Lapses, ServiceState, Settings, StaticNode};

type Octets = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Zone -> [`Head`]. Small, since every commit writes it.
pub(super) const HEADS: Octets = TableDefinition::new("heads");
/// Zone -> settings.
const SETTINGS: Octets = TableDefinition::new("settings");
/// Zone -> starts.
const STARTS: Octets = TableDefinition::new("starts");
/// Zone, item key -> item, signature, run.
pub(super) const ITEMS: Octets = TableDefinition::new("items");
/// Zone, item key -> signature, run: renewals of items that were registered in an earlier run.
const RENEWALS: Octets = TableDefinition::new("renewals");
/// Zone, item key -> replay mark.
const TOMBSTONES: Octets = TableDefinition::new("tombstones");
/// Zone, service -> state.
const SERVICES: Octets = TableDefinition::new("services");
/// Zone, service -> slots.
const SLOTS: Octets = TableDefinition::new("slots");
/// Zone, name -> static records.
const STATICS: Octets = TableDefinition::new("statics");
/// Zone, epoch -> commit with its delta.
const COMMITS: Octets = TableDefinition::new("commits");
/// Zone -> when its primary was known to have it so. Only of zones that are copies.
const REFRESHES: Octets = TableDefinition::new("refreshes");
pub(super) const TABLES: [Octets; 11] =
    [HEADS, SETTINGS, STARTS, ITEMS, RENEWALS, TOMBSTONES, SERVICES, SLOTS, STATICS, COMMITS, REFRESHES];

/// The last commit of a zone, and what is kept of those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
struct Head {
    epoch: Epoch,
    /// How many commits are kept.
    commits: u64,
    /// Their octets.
    octets: u64,
}

/// Anything that can go wrong inside a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Store(#[from] redb::Error),
    #[error(transparent)]
    Format(#[from] FormatError),
}

macro_rules! fault_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Fault {
                Fault::Store(error.into())
            }
        })*
    };
}
fault_from!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);

pub(super) fn append(transaction: &WriteTransaction, write: &Write, run: u32) -> Result<Appended, Fault> {
    let zone = &write.zone;
    let mut heads = transaction.open_table(HEADS)?;
    let head = heads.get(zone.as_wire())?.map(|octets| decode::<Head>(octets.value())).transpose()?;
    let found = head.map(|head| head.epoch);
    if found != write.expected {
        return Ok(Appended::Conflict(found));
    }
    if write.replaces {
        clear(transaction, zone)?;
    }
    if let Some(commit) = &write.commit {
        let head = keep_commit(transaction, zone, commit, head.filter(|_| !write.replaces))?;
        heads.insert(zone.as_wire(), encode(&head).as_slice())?;
    }
    let mut items = transaction.open_table(ITEMS)?;
    let mut renewals = transaction.open_table(RENEWALS)?;
    // There are some only of items that an earlier run registered.
    let has_renewals = !renewals.is_empty()?;
    for (key, item) in &write.items {
        let key = item_key(zone, key);
        // The item's own record knows the run from here on.
        if has_renewals {
            renewals.remove(key.as_slice())?;
        }
        match item {
            Some((item, stamp)) => drop(items.insert(key.as_slice(), encode(&(item, stamp, run)).as_slice())?),
            None => drop(items.remove(key.as_slice())?),
        }
    }
    put_all(transaction, TOMBSTONES, write.tombstones.iter().map(|(key, mark)| (item_key(zone, key), mark.as_ref())))?;
    put_all(transaction, SERVICES, write.services.iter().map(|(name, state)| (name_key(zone, name), state.as_ref())))?;
    put_all(transaction, SLOTS, write.slots.iter().map(|(name, slots)| (name_key(zone, name), slots.as_ref())))?;
    let statics = write.statics.iter().map(|node| {
        let value = (!node.rrsets.is_empty()).then_some(node);
        (name_key(zone, &node.name), value)
    });
    put_all(transaction, STATICS, statics)?;
    if let Some(settings) = &write.settings {
        transaction.open_table(SETTINGS)?.insert(zone.as_wire(), encode(&**settings).as_slice())?;
    }
    match write.refreshed {
        Some(at) => drop(transaction.open_table(REFRESHES)?.insert(zone.as_wire(), encode(&at).as_slice())?),
        // It is our own from here on, whatever else of it is as it was.
        None if write.commit.is_some() || write.settings.is_some() => {
            let mut table = transaction.open_table(REFRESHES)?;
            let was_copy = table.get(zone.as_wire())?.is_some();
            if was_copy {
                table.remove(zone.as_wire())?;
            }
        }
        None => {}
    }
    Ok(Appended::Committed)
}

/// Removes all that a zone has, but for its head, its settings and its starts.
fn clear(transaction: &WriteTransaction, zone: &Name) -> Result<(), Fault> {
    let (from, to) = zone_range(zone);
    for table in [ITEMS, RENEWALS, TOMBSTONES, SERVICES, SLOTS, STATICS, COMMITS] {
        transaction.open_table(table)?.retain_in(from.as_slice()..to.as_slice(), |_, _| false)?;
    }
    Ok(())
}

/// Notes that the primary of a zone has it as it is kept here, if it is a copy.
pub(super) fn note_refresh(transaction: &WriteTransaction, zone: &Name, at: Wall) -> Result<(), Fault> {
    let mut table = transaction.open_table(REFRESHES)?;
    let is_copy = table.get(zone.as_wire())?.is_some();
    if is_copy {
        table.insert(zone.as_wire(), encode(&at).as_slice())?;
    }
    Ok(())
}

/// Adds a commit to the history and drops the oldest ones beyond its bounds.
fn keep_commit(
    transaction: &WriteTransaction,
    zone: &Name,
    commit: &Commit,
    head: Option<Head>,
) -> Result<Head, Fault> {
    let epoch = commit.epoch;
    let mut head = Head { epoch, ..head.unwrap_or(Head { epoch, commits: 0, octets: 0 }) };
    let mut commits = transaction.open_table(COMMITS)?;
    let encoded = encode(commit);
    head.commits += 1;
    head.octets += octets_of(&encoded);
    commits.insert(commit_key(zone, epoch).as_slice(), encoded.as_slice())?;
    // The newest stays, however large it is.
    while head.commits > 1 && (head.commits > HISTORY_COMMITS || head.octets > HISTORY_OCTETS) {
        let (from, to) = zone_range(zone);
        let Some(oldest) = commits.range(from.as_slice()..to.as_slice())?.next().transpose()? else { break };
        let (key, octets) = (oldest.0.value().to_vec(), octets_of(oldest.1.value()));
        drop(oldest);
        commits.remove(key.as_slice())?;
        head.commits -= 1;
        head.octets = head.octets.saturating_sub(octets);
    }
    Ok(head)
}

fn octets_of(record: &[u8]) -> u64 {
    u64::try_from(record.len()).unwrap_or(u64::MAX)
}

/// Puts (`Some`) or removes (`None`) values.
fn put_all<'a, T: serde::Serialize + 'a>(
    transaction: &WriteTransaction,
    table: Octets,
    values: impl Iterator<Item = (Vec<u8>, Option<&'a T>)>,
) -> Result<(), Fault> {
    // Opening a table isn't free, and most writes leave most tables alone.
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut table = transaction.open_table(table)?;
    for (key, value) in values {
        match value {
            Some(value) => drop(table.insert(key.as_slice(), encode(value).as_slice())?),
            None => drop(table.remove(key.as_slice())?),
        }
    }
    Ok(())
}

pub(super) fn checkpoint(
    transaction: &WriteTransaction,
    zone: &Name,
    renewed: &[(Key, Stamp)],
    run: u32,
) -> Result<(), Fault> {
    let items = transaction.open_table(ITEMS)?;
    let mut renewals = transaction.open_table(RENEWALS)?;
    for (key, stamp) in renewed {
        let key = item_key(zone, key);
        // It may have been removed since.
        if items.get(key.as_slice())?.is_some() {
            renewals.insert(key.as_slice(), encode(&(stamp, run)).as_slice())?;
        }
    }
    Ok(())
}

pub(super) fn read_epoch(transaction: &ReadTransaction, zone: &Name) -> Result<Option<Epoch>, Fault> {
    let heads = transaction.open_table(HEADS)?;
    let head = heads.get(zone.as_wire())?.map(|octets| decode::<Head>(octets.value())).transpose()?;
    Ok(head.map(|head| head.epoch))
}

pub(super) fn read_oldest(transaction: &ReadTransaction, zone: &Name) -> Result<Option<Epoch>, Fault> {
    let commits = transaction.open_table(COMMITS)?;
    let (from, to) = zone_range(zone);
    let oldest = commits.range(from.as_slice()..to.as_slice())?.next().transpose()?;
    Ok(oldest.map(|(key, _)| epoch_of(key.value(), zone)).transpose()?)
}

/// The newest commits of a zone, from the oldest, as many as are kept in memory, and what all commits say of lapses.
fn read_history(transaction: &ReadTransaction, zone: &Name) -> Result<(Vec<Arc<Commit>>, Lapses), Fault> {
    let commits = transaction.open_table(COMMITS)?;
    let (from, to) = zone_range(zone);
    let (mut newest, mut octets, mut older) = (Vec::new(), 0, from.clone());
    for entry in commits.range(from.as_slice()..to.as_slice())?.rev() {
        let (key, value) = entry?;
        octets += value.value().len();
        if octets > HISTORY_MEMORY {
            older = commit_key(zone, epoch_of(key.value(), zone)?.next());
            break;
        }
        newest.push(Arc::new(decode::<Commit>(value.value())?));
    }
    newest.reverse();
    let mut lapses = Lapses::default();
    // Of a copy nothing lapses, and its older commits may be all of a large zone.
    if transaction.open_table(REFRESHES)?.get(zone.as_wire())?.is_none() {
        for entry in commits.range(from.as_slice()..older.as_slice())? {
            lapses.note(&decode(entry?.1.value())?);
        }
    }
    newest.iter().for_each(|commit| lapses.note(commit));
    Ok((newest, lapses))
}

/// The epoch in the key of a commit.
fn epoch_of(key: &[u8], zone: &Name) -> Result<Epoch, FormatError> {
    let epoch = key.get(zone.as_wire().len()..).and_then(|octets| octets.try_into().ok()).map(u64::from_be_bytes);
    epoch.map(Epoch).ok_or_else(|| FormatError::Damaged("a commit has no epoch".to_owned()))
}

pub(super) fn read_commits(
    transaction: &ReadTransaction,
    zone: &Name,
    since: Option<Epoch>,
    limit: usize,
) -> Result<Vec<Commit>, Fault> {
    let table = transaction.open_table(COMMITS)?;
    let (mut from, to) = zone_range(zone);
    match since.map(|since| since.0.checked_add(1)) {
        None => {}
        Some(Some(next)) => from = commit_key(zone, Epoch(next)),
        Some(None) => return Ok(Vec::new()), // nothing comes after the last epoch that there can be
    }
    let (mut commits, mut octets) = (Vec::new(), 0);
    for entry in table.range(from.as_slice()..to.as_slice())?.take(limit) {
        let (_, value) = entry?;
        octets += octets_of(value.value());
        if octets > HISTORY_PAGE_OCTETS && !commits.is_empty() {
            break;
        }
        commits.push(decode(value.value())?);
    }
    Ok(commits)
}

/// All values of a zone in a table, with the octets of their keys behind the zone.
fn read_zone<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    zone: &Name,
) -> Result<Vec<(Vec<u8>, T)>, Fault> {
    let (from, to) = zone_range(zone);
    let mut values = Vec::new();
    for entry in table.range(from.as_slice()..to.as_slice())? {
        let (key, value) = entry?;
        values.push((key.value()[from.len()..].to_vec(), decode(value.value())?));
    }
    Ok(values)
}

/// All values of a zone in a table whose keys are names.
fn read_named<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    zone: &Name,
) -> Result<Vec<(Name, T)>, Fault> {
    let named = read_zone::<T>(table, zone)?.into_iter().map(|(name, value)| match Name::from_wire(&name) {
        Ok(name) => Ok((name, value)),
        Err(error) => Err(FormatError::Damaged(error.to_string()).into()),
    });
    named.collect()
}

/// Notes the start of a run, unless that is noted already.
pub(super) fn note_start(transaction: &WriteTransaction, zone: &Name, now: Wall, run: u32) -> Result<(), Fault> {
    let mut table = transaction.open_table(STARTS)?;
    let starts = table.get(zone.as_wire())?.map(|octets| decode::<Starts>(octets.value())).transpose()?;
    let mut starts = starts.unwrap_or_default();
    if starts.current() < run {
        starts.begin(now);
        table.insert(zone.as_wire(), encode(&starts).as_slice())?;
    }
    Ok(())
}

/// The starts of a zone, as they were noted.
pub(super) fn read_starts(transaction: &ReadTransaction, zone: &Name) -> Result<Starts, Fault> {
    let starts = transaction.open_table(STARTS)?;
    let starts = starts.get(zone.as_wire())?.map(|octets| decode::<Starts>(octets.value())).transpose()?;
    Ok(starts.unwrap_or_default())
}

/// What is kept of a zone, but for its items ([`read_items`]); none if nothing was ever committed.
pub(super) fn read_stored(transaction: &ReadTransaction, zone: &Name) -> Result<Option<StoredZone>, Fault> {
    let Some(epoch) = read_epoch(transaction, zone)? else { return Ok(None) };
    let settings = transaction.open_table(SETTINGS)?;
    let settings: Option<Settings> = settings.get(zone.as_wire())?.map(|octets| decode(octets.value())).transpose()?;
    let settings = settings.ok_or_else(|| FormatError::Damaged(format!("the zone {zone} has no settings")))?;
    let tombstones = read_zone::<Tombstone>(&transaction.open_table(TOMBSTONES)?, zone)?;
    let tombstones: Result<Vec<(Key, Tombstone)>, FormatError> = tombstones
        .into_iter()
        .map(|(key, mark)| {
            let key = postcard::from_bytes(&key).map_err(|error| FormatError::Damaged(error.to_string()))?;
            Ok((key, mark))
        })
        .collect();
    let services = read_named::<ServiceState>(&transaction.open_table(SERVICES)?, zone)?;
    let slots = read_named::<Slots>(&transaction.open_table(SLOTS)?, zone)?;
    let statics = read_zone::<StaticNode>(&transaction.open_table(STATICS)?, zone)?;
    let (history, lapses) = read_history(transaction, zone)?;
    let refreshed = transaction.open_table(REFRESHES)?;
    let refreshed = refreshed.get(zone.as_wire())?.map(|octets| decode(octets.value())).transpose()?;
    Ok(Some(StoredZone {
        epoch,
        settings: settings.into(),
        statics: statics.into_iter().map(|(_, node)| node).collect(),
        services,
        slots,
        items: StoredItems::default(),
        tombstones: tombstones?,
        starts: read_starts(transaction, zone)?,
        refreshed,
        history,
        lapses,
    }))
}

/// The items of a zone, each with the later of what its own record and its renewal say, by the part, until nobody wants
/// more. Both tables are in the order of their keys. No key is copied: a start should leave no holes in memory.
pub(super) fn read_items(
    transaction: &ReadTransaction,
    zone: &Name,
    take: &mut dyn FnMut(Vec<StoredItem>) -> bool,
) -> Result<(), Fault> {
    let (items, renewals) = (transaction.open_table(ITEMS)?, transaction.open_table(RENEWALS)?);
    let (from, to) = zone_range(zone);
    let mut renewals = renewals.range(from.as_slice()..to.as_slice())?;
    let mut renewal = renewals.next().transpose()?;
    let mut found = Vec::with_capacity(PART);
    for entry in items.range(from.as_slice()..to.as_slice())? {
        let (key, value) = entry?;
        let (item, mut stamp, mut run) = decode::<StoredItem>(value.value())?;
        while let Some((renewed, value)) = &renewal {
            if renewed.value() > key.value() {
                break;
            }
            if renewed.value() == key.value() {
                let (renewed_stamp, renewed_run) = decode::<(Stamp, u32)>(value.value())?;
                (stamp, run) = (if renewed_stamp.time >= stamp.time { renewed_stamp } else { stamp }, renewed_run);
            }
            renewal = renewals.next().transpose()?;
        }
        found.push((item, stamp, run));
        if found.len() == PART && !take(std::mem::replace(&mut found, Vec::with_capacity(PART))) {
            return Ok(());
        }
    }
    take(found);
    Ok(())
}
