//! The store's file: opened, written and read by one owner.
//!
//! After an error of the disk the file is closed, and opened again for a later write, which is when redb looks at what is
//! really there. redb writes copies of pages and flips a root, so a crash at any point leaves the last transaction that
//! was acknowledged, or the one under way if it was complete.
//!
//! Opening again may mean a walk through the whole file and writes to repair it, so it is not tried more often than every
//! [`RETRY`], and only after the disk has shown on another file that it keeps what is written: what comes meanwhile is
//! refused at once. That the disk refuses is said once, and once that it does no longer.

use std::collections::HashMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError, Durability, ReadOnlyDatabase, ReadTransaction, ReadableDatabase};

use crate::base::{Epoch, Name, Wall};
use crate::membership::{Key, Stamp};
use crate::store::items::{Part, Parts};
use crate::store::{Appended, StoreError, StoredItem, StoredItems, StoredZone, Write};
use crate::zone::Commit;

use super::FILE;
use super::tables::{self, Fault, TABLES};

/// redb's page cache, half of which is room for pages that a transaction writes: a few hundred updates of as many services
/// touch two or three pages each, and a page that finds no room is written early and read again. Everything is read once,
/// at the start; after that only the pages that writes touch are.
const CACHE: usize = 16 << 20;
/// How long after a failure the file is left alone.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// Octets that are written to see whether the disk keeps any.
const PROBE: usize = 4096;

/// What the database is kept on.
pub trait Medium: Send {
    /// Opens the database; where there is none, it is created if `create` says so.
    fn open(&self, create: bool) -> Result<Database, DatabaseError>;

    /// Whether the disk keeps what is written, tried beside the database.
    fn probe(&self) -> std::io::Result<()>;

    /// What to call it.
    fn path(&self) -> &Path;
}

impl Medium for PathBuf {
    fn open(&self, create: bool) -> Result<Database, DatabaseError> {
        // Linux takes pages that it failed to write for clean, and hands them out to readers as if the disk had them, to a
        // process that is started anew as well. What is read from here on comes from the disk: whoever built on a page
        // that is in the cache alone would lose the whole file with the power.
        match std::fs::File::open(self) {
            Ok(file) => {
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(std::io::Error::from)?;
            }
            Err(error) if create && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        if create { builder.create(self) } else { builder.open(self) }
    }

    fn probe(&self) -> std::io::Result<()> {
        let path = self.with_extension("probe");
        let probed = std::fs::File::create(&path).and_then(|mut file| {
            file.write_all(&[0; PROBE])?;
            file.sync_data()
        });
        let _ = std::fs::remove_file(&path); // whatever came of it; the next one writes it anew
        probed
    }

    fn path(&self) -> &Path {
        self
    }
}

/// One thing to write.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A publisher's write.
    Append(Box<Write>),
    /// Who has renewed in this run.
    Checkpoint(Name, Vec<(Key, Stamp)>),
    /// When the primary of a zone that is a copy was known to have it so.
    Refreshed(Name, Wall),
    /// When this run began.
    Begin(Name, Wall),
}

impl Entry {
    fn zone(&self) -> &Name {
        match self {
            Entry::Append(write) => &write.zone,
            Entry::Checkpoint(zone, _) | Entry::Begin(zone, _) | Entry::Refreshed(zone, _) => zone,
        }
    }
}

/// What became of an entry that has no epoch.
pub(super) fn noted(outcome: Appended) -> Result<(), String> {
    match outcome {
        Appended::Committed => Ok(()),
        Appended::Unavailable(cause) | Appended::Unknown(cause) => Err(cause),
        Appended::Conflict(found) => Err(format!("nothing to conflict with {found:?}")),
    }
}

/// The file.
pub struct StoreFile {
    medium: Box<dyn Medium>,
    /// None after an error.
    database: Option<Database>,
    /// Since the last failure: why, when, and how many writes were refused.
    failure: Option<Failure>,
    /// The number of the run that each zone is in.
    runs: HashMap<Name, u32>,
}

struct Failure {
    cause: String,
    at: Instant,
    refused: usize,
}

/// A transaction that did not come about.
struct Failed {
    cause: String,
    /// Whether it may be durable all the same.
    unknown: bool,
}

impl Failed {
    fn before_commit(error: &dyn std::fmt::Display) -> Failed {
        Failed { cause: error.to_string(), unknown: false }
    }
}

impl StoreFile {
    /// Opens or creates it.
    pub fn open(medium: Box<dyn Medium>) -> Result<StoreFile, StoreError> {
        let database = open(&*medium, true)?;
        Ok(StoreFile { medium, database: Some(database), failure: None, runs: HashMap::new() })
    }

    /// Closes it; it is opened again when it is needed.
    pub fn close(&mut self) {
        self.database = None;
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        if self.database.is_none() {
            self.medium.probe().map_err(|error| io_error(self.medium.path(), &error))?;
            self.database = Some(open(&*self.medium, false)?);
        }
        Ok(self.database.as_ref().expect("opened above"))
    }

    // ---- writing ------------------------------------------------------------------------------------------------

    /// Writes all of that in one durable transaction: what became of each, in order.
    pub fn write(&mut self, entries: &[Entry], now: Instant) -> Vec<Appended> {
        let rests = self.failure.as_ref().filter(|failure| now.saturating_duration_since(failure.at) < RETRY);
        let result = match rests {
            Some(failure) => Err(Failed { cause: failure.cause.clone(), unknown: false }),
            None => {
                // redb panics on some damaged pages; whether the transaction took place is then as unknown as after a
                // failed commit.
                let result = catch_unwind(AssertUnwindSafe(|| self.write_transaction(entries)));
                let result = result
                    .unwrap_or_else(|_| Err(Failed { cause: "the store's file is damaged".to_owned(), unknown: true }));
                self.tell(&result, now);
                result
            }
        };
        match result {
            Ok(outcomes) => outcomes,
            Err(Failed { cause, unknown }) => {
                if let Some(failure) = &mut self.failure {
                    failure.refused += entries.len();
                }
                let outcome = if unknown { Appended::Unknown(cause) } else { Appended::Unavailable(cause) };
                vec![outcome; entries.len()]
            }
        }
    }

    /// Says that writing fails, or that it works again.
    fn tell(&mut self, result: &Result<Vec<Appended>, Failed>, now: Instant) {
        let path = self.medium.path().display();
        match result {
            Ok(_) => {
                if let Some(Failure { refused, .. }) = self.failure.take() {
                    tracing::info!(%path, refused, "the store can be written again");
                }
            }
            Err(Failed { cause, .. }) => {
                if self.failure.is_none() {
                    tracing::error!(
                        %path, %cause,
                        "the store can't be written: registrations are refused and nobody is withdrawn until it can be; \
                         answers and renewals go on; look after the disk"
                    );
                } else {
                    tracing::debug!(%path, %cause, "the store still can't be written");
                }
                let refused = self.failure.as_ref().map_or(0, |failure| failure.refused);
                self.failure = Some(Failure { cause: cause.clone(), at: now, refused });
                self.database = None;
            }
        }
    }

    fn write_transaction(&mut self, entries: &[Entry]) -> Result<Vec<Appended>, Failed> {
        let failed = |error: &dyn std::fmt::Display| Failed::before_commit(error);
        // A zone that nobody has started is in no run.
        let runs: Vec<u32> = entries.iter().map(|entry| self.runs.get(entry.zone()).copied().unwrap_or(0)).collect();
        let database = self.database().map_err(|error| failed(&error))?;
        let mut transaction = database.begin_write().map_err(|error| failed(&error))?;
        transaction.set_durability(Durability::Immediate).map_err(|error| failed(&error))?;
        let mut outcomes = Vec::with_capacity(entries.len());
        for (entry, run) in entries.iter().zip(runs) {
            let outcome = match entry {
                Entry::Append(write) => tables::append(&transaction, write, run),
                Entry::Checkpoint(zone, renewed) => {
                    tables::checkpoint(&transaction, zone, renewed, run).map(|()| Appended::Committed)
                }
                Entry::Refreshed(zone, at) => {
                    tables::note_refresh(&transaction, zone, *at).map(|()| Appended::Committed)
                }
                Entry::Begin(zone, at) => {
                    tables::note_start(&transaction, zone, *at, run).map(|()| Appended::Committed)
                }
            };
            outcomes.push(outcome.map_err(|error| failed(&error))?);
        }
        transaction.commit().map_err(|error| Failed { cause: error.to_string(), unknown: true })?;
        Ok(outcomes)
    }

    // ---- reading ------------------------------------------------------------------------------------------------

    /// Starts a run of a zone: what is kept of it.
    pub fn start(&mut self, zone: &Name, now: Wall) -> Result<Option<StoredZone>, StoreError> {
        let Some((stored, reading)) = self.begin_reading(zone, now)? else { return Ok(None) };
        let mut items = Vec::new();
        reading.read(|part| {
            items.extend(part);
            true
        })?;
        Ok(Some(StoredZone { items: items.into(), ..stored }))
    }

    /// The same without the items, which any thread can read while this one writes.
    pub fn begin_reading(&mut self, zone: &Name, now: Wall) -> Result<Option<(StoredZone, Reading)>, StoreError> {
        let path = self.medium.path().to_owned();
        guard(&path, || {
            let error = |error| fault_error(&path, error);
            let transaction = self.database()?.begin_read().map_err(Fault::from).map_err(error)?;
            let stored = tables::read_stored(&transaction, zone).map_err(error)?;
            let mut starts = tables::read_starts(&transaction, zone).map_err(error)?;
            self.runs.insert(zone.clone(), starts.begin(now));
            let reading = Reading { transaction, zone: zone.clone(), path: path.clone() };
            Ok(stored.map(|stored| (StoredZone { starts, ..stored }, reading)))
        })
    }

    /// The epoch of a zone's last commit.
    pub fn epoch(&mut self, zone: &Name) -> Result<Option<Epoch>, String> {
        let transaction = self.database().map_err(|error| error.to_string())?.begin_read();
        let epoch = transaction.map_err(Fault::from).and_then(|transaction| tables::read_epoch(&transaction, zone));
        epoch.map_err(|error| error.to_string())
    }

    /// The epoch of the oldest commit that is kept of a zone.
    pub fn oldest(&mut self, zone: &Name) -> Result<Option<Epoch>, String> {
        let transaction = self.database().map_err(|error| error.to_string())?.begin_read();
        let epoch = transaction.map_err(Fault::from).and_then(|transaction| tables::read_oldest(&transaction, zone));
        epoch.map_err(|error| error.to_string())
    }

    /// A page of the commits kept of a zone, from the oldest after an epoch.
    pub fn commits(&mut self, zone: &Name, since: Option<Epoch>, limit: usize) -> Result<Vec<Commit>, String> {
        let transaction = self.database().map_err(|error| error.to_string())?.begin_read();
        let read = |transaction| tables::read_commits(&transaction, zone, since, limit);
        let commits = transaction.map_err(Fault::from).and_then(read);
        commits.map_err(|error| error.to_string())
    }
}

/// The items of a zone as they were at one moment, to be read. While there is one, a file that failed can't be opened again.
pub struct Reading {
    transaction: ReadTransaction,
    zone: Name,
    path: PathBuf,
}

impl Reading {
    /// Hands them over by the part, until nobody wants more.
    pub fn read(self, mut take: impl FnMut(Vec<StoredItem>) -> bool) -> Result<(), StoreError> {
        let Reading { transaction, zone, path } = self;
        guard(&path, || tables::read_items(&transaction, &zone, &mut take).map_err(|error| fault_error(&path, error)))
    }

    /// Sends them, and that they are all.
    fn send(self, parts: &Parts) {
        let last = self.read(|items| parts.send(Ok(Part::Items(items))).is_ok()).map(|()| Part::End);
        drop(parts.send(last)); // or nobody wants to know
    }

    /// Reads on a thread of its own.
    pub fn spawn(self) -> Result<StoredItems, StoreError> {
        let (parts, items) = StoredItems::arriving();
        let path = self.path.clone();
        let spawned = std::thread::Builder::new().name("store-read".to_owned()).spawn(move || self.send(&parts));
        spawned.map_err(|error| io_error(&path, &error))?;
        Ok(items)
    }
}

// ---- opening --------------------------------------------------------------------------------------------------------

pub(super) fn io_error(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Io { path: path.display().to_string(), cause: error.to_string() }
}

fn fault_error(path: &Path, fault: Fault) -> StoreError {
    match fault {
        Fault::Store(error) if !matches!(error, redb::Error::Corrupted(_)) => io_error(path, &error),
        damage => StoreError::Damaged { path: path.display().to_string(), cause: damage.to_string() },
    }
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

/// Reads what an earlier process left. redb panics on some damaged pages; to whoever starts the server that is a damaged
/// store like any other.
fn guard<T>(path: &Path, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(StoreError::Damaged { path: path.display().to_string(), cause: "a page does not hold together".to_owned() })
    })
}

/// Opens the database. All tables exist from the first time on, so that reading needs no special case.
fn open(medium: &dyn Medium, create: bool) -> Result<Database, StoreError> {
    let path = medium.path();
    guard(path, || {
        let database = medium.open(create).map_err(|error| open_error(path, error))?;
        let make_tables = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            for table in TABLES {
                transaction.open_table(table)?;
            }
            transaction.commit()?;
            Ok(())
        };
        make_tables().map_err(|error| match error {
            redb::Error::Corrupted(cause) => StoreError::Damaged { path: path.display().to_string(), cause },
            error => io_error(path, &error),
        })?;
        Ok(database)
    })
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
                Box::new(copied.open(false).map_err(|error| open_error(&path, error))?)
            }
            Err(error) => return Err(open_error(&path, error)),
        };
        let transaction = database.begin_read().map_err(Fault::from).map_err(|error| fault_error(&path, error))?;
        let read = || -> Result<Option<StoredZone>, Fault> {
            let Some(stored) = tables::read_stored(&transaction, zone)? else { return Ok(None) };
            let mut items = Vec::new();
            tables::read_items(&transaction, zone, &mut |part| {
                items.extend(part);
                true
            })?;
            Ok(Some(StoredZone { items: items.into(), ..stored }))
        };
        match read() {
            Err(Fault::Store(redb::Error::TableDoesNotExist(_))) => Ok(None),
            stored => stored.map_err(|error| fault_error(&path, error)),
        }
    })
}
