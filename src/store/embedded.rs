//! The embedded store: one redb file in the data folder.
//!
//! One thread writes. It takes whatever waits, of all zones, into one transaction and makes it durable with one fsync;
//! then it answers everybody. A write whose expected epoch doesn't match is left out of the transaction, the others go on.
//!
//! After an error of the disk the file is closed and opened again for the next write, which is when redb looks at what is
//! really there. redb writes copies of pages and flips a root, so a crash at any point leaves the last transaction that was
//! acknowledged, or the one under way if it was complete.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use redb::{
    Database, DatabaseError, Durability, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};
use tokio::sync::oneshot;

use crate::base::limits::{HISTORY_COMMITS, STORE_BATCH};
use crate::base::{Epoch, Name, Wall};
use crate::membership::{Item, Key, Stamp, Tombstone};
use crate::zone::{Commit, ServiceState, Settings, StaticNode};

use super::format::{FormatError, commit_key, decode, encode, item_key, name_key, zone_range};
use super::start::Starts;
use super::{Appended, Pending, Store, StoreError, StoredZone, Write};

type Octets = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Zone -> epoch. Small, since every commit writes it.
const EPOCHS: Octets = TableDefinition::new("epochs");
/// Zone -> settings.
const SETTINGS: Octets = TableDefinition::new("settings");
/// Zone -> starts.
const STARTS: Octets = TableDefinition::new("starts");
/// Zone, item key -> item, signature, run.
const ITEMS: Octets = TableDefinition::new("items");
/// Zone, item key -> signature, run: renewals of items that were registered in an earlier run.
const RENEWALS: Octets = TableDefinition::new("renewals");
/// Zone, item key -> replay mark.
const TOMBSTONES: Octets = TableDefinition::new("tombstones");
/// Zone, service -> state.
const SERVICES: Octets = TableDefinition::new("services");
/// Zone, name -> static records.
const STATICS: Octets = TableDefinition::new("statics");
/// Zone, epoch -> commit with its delta.
const COMMITS: Octets = TableDefinition::new("commits");
const TABLES: [Octets; 9] = [EPOCHS, SETTINGS, STARTS, ITEMS, RENEWALS, TOMBSTONES, SERVICES, STATICS, COMMITS];

/// redb's page cache. Everything is read once, at the start; after that only the pages that writes touch are.
const CACHE: usize = 4 << 20;
/// The file in the data folder.
const FILE: &str = "livezone.redb";

/// The embedded store.
#[derive(Debug)]
pub struct Embedded {
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
}

enum Job {
    Start(Name, Wall, SyncSender<Result<Option<StoredZone>, StoreError>>),
    Append(Box<Write>, oneshot::Sender<Appended>),
    Checkpoint(Name, Vec<(Key, Stamp)>, oneshot::Sender<Result<(), String>>),
    Epoch(Name, oneshot::Sender<Result<Option<Epoch>, String>>),
    Commits(Name, oneshot::Sender<Result<Vec<Commit>, String>>),
}

impl Embedded {
    /// Opens or creates the store in a folder, and takes it for this process alone.
    pub fn open(folder: &Path) -> Result<Embedded, StoreError> {
        std::fs::create_dir_all(folder).map_err(|error| io_error(folder, &error))?;
        let path = folder.join(FILE);
        let file = StoreFile { database: Some(open(&path)?), path };
        let (jobs, waiting) = sync_channel(STORE_BATCH);
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(file, &waiting))
            .map_err(|error| io_error(folder, &error))?;
        Ok(Embedded { jobs: Some(jobs), writer: Some(writer) })
    }

    fn submit<T: Send + 'static>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job, closed: T) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        // Publishers wait for one write each, so the channel has room for as many zones; beyond that, this blocks briefly.
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job(reply)).is_ok());
        Box::pin(async move {
            if !sent {
                return closed;
            }
            answer.await.unwrap_or(closed)
        })
    }
}

impl Drop for Embedded {
    /// Waits until what was submitted is written.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

const CLOSED: &str = "the store is closed";

impl Store for Embedded {
    fn start(&self, zone: &Name, now: Wall) -> Result<Option<StoredZone>, StoreError> {
        let (reply, answer) = sync_channel(1);
        let closed = || StoreError::Io { path: FILE.to_owned(), cause: CLOSED.to_owned() };
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(Job::Start(zone.clone(), now, reply)).map_err(|_| closed())?;
        answer.recv().map_err(|_| closed())?
    }

    fn append(&self, write: Write) -> Pending<Appended> {
        self.submit(|reply| Job::Append(Box::new(write), reply), Appended::Unknown(CLOSED.to_owned()))
    }

    fn epoch(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>> {
        let zone = zone.clone();
        self.submit(|reply| Job::Epoch(zone, reply), Err(CLOSED.to_owned()))
    }

    fn checkpoint(&self, zone: &Name, renewed: Vec<(Key, Stamp)>) -> Pending<Result<(), String>> {
        let zone = zone.clone();
        self.submit(|reply| Job::Checkpoint(zone, renewed, reply), Err(CLOSED.to_owned()))
    }

    fn commits(&self, zone: &Name) -> Pending<Result<Vec<Commit>, String>> {
        let zone = zone.clone();
        self.submit(|reply| Job::Commits(zone, reply), Err(CLOSED.to_owned()))
    }
}

fn io_error(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Io { path: path.display().to_string(), cause: error.to_string() }
}

/// Reads what an earlier process left. redb panics on some damaged pages; to whoever starts the server that is a damaged
/// store like any other.
fn guard<T>(path: &Path, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(StoreError::Damaged { path: path.display().to_string(), cause: "a page does not hold together".to_owned() })
    })
}

fn open(path: &Path) -> Result<Database, StoreError> {
    guard(path, || open_unguarded(path))
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    Database::builder().set_cache_size(CACHE).create(path).map_err(|error| open_error(path, error))
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.display().to_string()),
        DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
            io_error(path, &error)
        }
        error => StoreError::Damaged { path: path.display().to_string(), cause: error.to_string() },
    }
}

fn open_unguarded(path: &Path) -> Result<Database, StoreError> {
    let database = open_file(path)?;
    // All tables exist from the first start on, so that reading needs no special case.
    let create = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        for table in TABLES {
            transaction.open_table(table)?;
        }
        transaction.commit()?;
        Ok(())
    };
    create().map_err(|error| match error {
        redb::Error::Corrupted(cause) => StoreError::Damaged { path: path.display().to_string(), cause },
        error => io_error(path, &error),
    })?;
    Ok(database)
}

struct StoreFile {
    path: PathBuf,
    database: Option<Database>,
}

impl StoreFile {
    fn database(&mut self) -> Result<&Database, StoreError> {
        if self.database.is_none() {
            self.database = Some(open(&self.path)?);
        }
        Ok(self.database.as_ref().expect("opened above"))
    }
}

/// The writer thread.
fn run(mut file: StoreFile, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let mut jobs = vec![first];
        while jobs.len() < STORE_BATCH {
            match waiting.try_recv() {
                Ok(job) => jobs.push(job),
                Err(_) => break,
            }
        }
        let (writes, reads): (Vec<Job>, Vec<Job>) =
            jobs.into_iter().partition(|job| matches!(job, Job::Append(..) | Job::Checkpoint(..)));
        if !writes.is_empty() {
            write_all(&mut file, writes);
        }
        for job in reads {
            if catch_unwind(AssertUnwindSafe(|| read(&mut file, job))).is_err() {
                file.database = None; // whoever asked is told that there was no answer
            }
        }
    }
}

/// What a write of the transaction under way will be told once it is durable.
enum Answer {
    Append(oneshot::Sender<Appended>, Appended),
    Checkpoint(oneshot::Sender<Result<(), String>>),
}

fn write_all(file: &mut StoreFile, jobs: Vec<Job>) {
    // One answer a job, in order; those that nothing was done for yet are told about the failure as well.
    let mut jobs = jobs.into_iter();
    let mut answers = Vec::new();
    // redb panics on some damaged pages; whether the transaction took place is then as unknown as after a failed commit.
    let result = catch_unwind(AssertUnwindSafe(|| write_transaction(file, &mut jobs, &mut answers)))
        .unwrap_or_else(|_| Err(("the store's file is damaged".to_owned(), true)));
    if let Err((error, _)) = &result {
        tracing::warn!(%error, "the store could not be written");
        file.database = None;
    }
    for answer in answers {
        match (answer, &result) {
            (Answer::Append(reply, outcome), Ok(())) => drop(reply.send(outcome)),
            (Answer::Append(reply, _), Err((error, true))) => drop(reply.send(Appended::Unknown(error.clone()))),
            (Answer::Append(reply, _), Err((error, false))) => drop(reply.send(Appended::Unavailable(error.clone()))),
            (Answer::Checkpoint(reply), Ok(())) => drop(reply.send(Ok(()))),
            (Answer::Checkpoint(reply), Err((error, _))) => drop(reply.send(Err(error.clone()))),
        }
    }
    for job in jobs {
        let (Err((error, _)), job) = (&result, job) else { continue };
        match job {
            Job::Append(_, reply) => drop(reply.send(Appended::Unavailable(error.clone()))),
            Job::Checkpoint(.., reply) => drop(reply.send(Err(error.clone()))),
            _ => {}
        }
    }
}

/// One transaction over all jobs. On an error, whether the transaction may have become durable all the same.
fn write_transaction(
    file: &mut StoreFile,
    jobs: &mut impl Iterator<Item = Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), (String, bool)> {
    let failed = |error: &dyn std::fmt::Display| (error.to_string(), false);
    let database = file.database().map_err(|error| failed(&error))?;
    let mut transaction = database.begin_write().map_err(|error| failed(&error))?;
    transaction.set_durability(Durability::Immediate).map_err(|error| failed(&error))?;
    for job in jobs {
        match job {
            Job::Append(write, reply) => {
                answers.push(Answer::Append(reply, Appended::Committed));
                let outcome = append(&transaction, &write).map_err(|error| failed(&error))?;
                if let Some(Answer::Append(_, answer)) = answers.last_mut() {
                    *answer = outcome;
                }
            }
            Job::Checkpoint(zone, renewed, reply) => {
                answers.push(Answer::Checkpoint(reply));
                checkpoint(&transaction, &zone, &renewed).map_err(|error| failed(&error))?;
            }
            _ => {}
        }
    }
    transaction.commit().map_err(|error| (error.to_string(), true))
}

/// Anything that can go wrong inside a transaction.
#[derive(Debug, thiserror::Error)]
enum Fault {
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

fn append(transaction: &WriteTransaction, write: &Write) -> Result<Appended, Fault> {
    let zone = &write.zone;
    let mut epochs = transaction.open_table(EPOCHS)?;
    let found = epochs.get(zone.as_wire())?.map(|octets| decode::<Epoch>(octets.value())).transpose()?;
    if found != write.expected {
        return Ok(Appended::Conflict(found));
    }
    let run = run_of(transaction, zone)?;
    if let Some(commit) = &write.commit {
        epochs.insert(zone.as_wire(), encode(&commit.epoch).as_slice())?;
        let mut commits = transaction.open_table(COMMITS)?;
        commits.insert(commit_key(zone, commit.epoch).as_slice(), encode(commit).as_slice())?;
        if let Some(oldest) = commit.epoch.0.checked_sub(HISTORY_COMMITS) {
            commits.remove(commit_key(zone, Epoch(oldest)).as_slice())?;
        }
    }
    let mut items = transaction.open_table(ITEMS)?;
    let mut renewals = transaction.open_table(RENEWALS)?;
    for (key, item) in &write.items {
        let key = item_key(zone, key);
        // The item's own record knows the run from here on.
        renewals.remove(key.as_slice())?;
        match item {
            Some((item, stamp)) => drop(items.insert(key.as_slice(), encode(&(item, stamp, run)).as_slice())?),
            None => drop(items.remove(key.as_slice())?),
        }
    }
    put_all(transaction, TOMBSTONES, write.tombstones.iter().map(|(key, mark)| (item_key(zone, key), mark.as_ref())))?;
    put_all(transaction, SERVICES, write.services.iter().map(|(name, state)| (name_key(zone, name), state.as_ref())))?;
    let statics = write.statics.iter().map(|node| {
        let value = (!node.rrsets.is_empty()).then_some(node);
        (name_key(zone, &node.name), value)
    });
    put_all(transaction, STATICS, statics)?;
    if let Some(settings) = &write.settings {
        transaction.open_table(SETTINGS)?.insert(zone.as_wire(), encode(&**settings).as_slice())?;
    }
    Ok(Appended::Committed)
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

fn run_of(transaction: &WriteTransaction, zone: &Name) -> Result<u32, Fault> {
    let starts = transaction.open_table(STARTS)?;
    let starts = starts.get(zone.as_wire())?.map(|octets| decode::<Starts>(octets.value())).transpose()?;
    Ok(starts.map_or(0, |starts| starts.current()))
}

fn checkpoint(transaction: &WriteTransaction, zone: &Name, renewed: &[(Key, Stamp)]) -> Result<(), Fault> {
    let run = run_of(transaction, zone)?;
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

fn read(file: &mut StoreFile, job: Job) {
    match job {
        Job::Start(zone, now, reply) => {
            let path = file.path.clone();
            drop(reply.send(guard(&path, || start(file, &zone, now))));
        }
        Job::Epoch(zone, reply) => drop(reply.send(read_epoch(file, &zone).map_err(|error| error.to_string()))),
        Job::Commits(zone, reply) => drop(reply.send(read_commits(file, &zone).map_err(|error| error.to_string()))),
        Job::Append(..) | Job::Checkpoint(..) => {}
    }
}

/// An error of the file, or one inside it.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fault(#[from] Fault),
}

fn read_epoch(file: &mut StoreFile, zone: &Name) -> Result<Option<Epoch>, ReadError> {
    let transaction = file.database()?.begin_read().map_err(Fault::from)?;
    let epochs = transaction.open_table(EPOCHS).map_err(Fault::from)?;
    let found = epochs.get(zone.as_wire()).map_err(Fault::from)?;
    Ok(found.map(|octets| decode(octets.value())).transpose().map_err(Fault::from)?)
}

fn read_commits(file: &mut StoreFile, zone: &Name) -> Result<Vec<Commit>, ReadError> {
    let transaction = file.database()?.begin_read().map_err(Fault::from)?;
    let commits = transaction.open_table(COMMITS).map_err(Fault::from)?;
    Ok(read_zone(&commits, zone)?.into_iter().map(|(_, commit)| commit).collect())
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

fn start(file: &mut StoreFile, zone: &Name, now: Wall) -> Result<Option<StoredZone>, StoreError> {
    let path = file.path.clone();
    let error = |error| fault_error(&path, error);
    let database = file.database()?;
    let transaction = database.begin_read().map_err(Fault::from).map_err(error)?;
    let stored = read_stored(&transaction, zone).map_err(error)?;
    drop(transaction);
    // A start is noted once everything could be read: one that fails gave nobody time to renew.
    let starts = note_start(database, zone, now).map_err(error)?;
    Ok(stored.map(|stored| StoredZone { starts, ..stored }))
}

fn fault_error(path: &Path, fault: Fault) -> StoreError {
    match fault {
        Fault::Store(error) if !matches!(error, redb::Error::Corrupted(_)) => io_error(path, &error),
        damage => StoreError::Damaged { path: path.display().to_string(), cause: damage.to_string() },
    }
}

/// Reads what a stopped server's store keeps of a zone, without writing to it; none if it doesn't know the zone.
///
/// A store that was not closed has to be repaired before it can be read: that is done to a copy.
pub fn inspect(folder: &Path, zone: &Name) -> Result<Option<StoredZone>, StoreError> {
    let path = folder.join(FILE);
    guard(&path, || {
        let copy = tempfile::tempdir().map_err(|error| io_error(&path, &error))?;
        let database: Box<dyn ReadableDatabase> = match ReadOnlyDatabase::open(&path) {
            Ok(database) => Box::new(database),
            Err(DatabaseError::RepairAborted) => {
                let copied = copy.path().join(FILE);
                std::fs::copy(&path, &copied).map_err(|error| io_error(&path, &error))?;
                Box::new(open_file(&copied)?)
            }
            Err(error) => return Err(open_error(&path, error)),
        };
        let transaction = database.begin_read().map_err(Fault::from).map_err(|error| fault_error(&path, error))?;
        match read_stored(&transaction, zone) {
            Err(Fault::Store(redb::Error::TableDoesNotExist(_))) => Ok(None),
            stored => stored.map_err(|error| fault_error(&path, error)),
        }
    })
}

fn note_start(database: &Database, zone: &Name, now: Wall) -> Result<Starts, Fault> {
    let transaction = database.begin_write()?;
    let mut table = transaction.open_table(STARTS)?;
    let starts = table.get(zone.as_wire())?.map(|octets| decode::<Starts>(octets.value())).transpose()?;
    let mut starts = starts.unwrap_or_default();
    starts.begin(now);
    table.insert(zone.as_wire(), encode(&starts).as_slice())?;
    drop(table);
    transaction.commit()?;
    Ok(starts)
}

/// What is kept of a zone; none if nothing was ever committed.
fn read_stored(transaction: &ReadTransaction, zone: &Name) -> Result<Option<StoredZone>, Fault> {
    let starts = transaction.open_table(STARTS)?;
    let starts = starts.get(zone.as_wire())?.map(|octets| decode::<Starts>(octets.value())).transpose()?;
    let epochs = transaction.open_table(EPOCHS)?;
    let Some(epoch) = epochs.get(zone.as_wire())?.map(|octets| decode(octets.value())).transpose()? else {
        return Ok(None);
    };
    let settings = transaction.open_table(SETTINGS)?;
    let settings: Option<Settings> = settings.get(zone.as_wire())?.map(|octets| decode(octets.value())).transpose()?;
    let settings = settings.ok_or_else(|| FormatError::Damaged(format!("the zone {zone} has no settings")))?;
    let items = read_items(&transaction.open_table(ITEMS)?, &transaction.open_table(RENEWALS)?, zone)?;
    let tombstones = read_zone::<Tombstone>(&transaction.open_table(TOMBSTONES)?, zone)?;
    let tombstones: Result<Vec<(Key, Tombstone)>, FormatError> = tombstones
        .into_iter()
        .map(|(key, mark)| {
            let key = postcard::from_bytes(&key).map_err(|error| FormatError::Damaged(error.to_string()))?;
            Ok((key, mark))
        })
        .collect();
    let services = read_zone::<ServiceState>(&transaction.open_table(SERVICES)?, zone)?;
    let services: Result<Vec<(Name, ServiceState)>, FormatError> = services
        .into_iter()
        .map(|(name, state)| {
            let name = Name::from_wire(&name).map_err(|error| FormatError::Damaged(error.to_string()))?;
            Ok((name, state))
        })
        .collect();
    let statics = read_zone::<StaticNode>(&transaction.open_table(STATICS)?, zone)?;
    Ok(Some(StoredZone {
        epoch,
        settings: settings.into(),
        statics: statics.into_iter().map(|(_, node)| node).collect(),
        services: services?,
        items,
        tombstones: tombstones?,
        starts: starts.unwrap_or_default(),
    }))
}

/// The items of a zone, each with the later of what its own record and its renewal say. Both tables are in the order of
/// their keys. No key is copied: a start should leave no holes in memory.
fn read_items(
    items: &impl ReadableTable<&'static [u8], &'static [u8]>,
    renewals: &impl ReadableTable<&'static [u8], &'static [u8]>,
    zone: &Name,
) -> Result<Vec<(Item, Stamp, u32)>, Fault> {
    let (from, to) = zone_range(zone);
    let mut renewals = renewals.range(from.as_slice()..to.as_slice())?;
    let mut renewal = renewals.next().transpose()?;
    let mut found = Vec::new();
    for entry in items.range(from.as_slice()..to.as_slice())? {
        let (key, value) = entry?;
        let (item, mut stamp, mut run) = decode::<(Item, Stamp, u32)>(value.value())?;
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
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
