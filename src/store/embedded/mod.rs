//! The embedded store: one redb file in the data folder.
//!
//! One thread writes. It takes whatever waits, of all zones, into one transaction and makes it durable with one fsync;
//! then it answers everybody. A write whose expected epoch doesn't match is left out of the transaction, the others go on.
//!
//! `file` is what the thread does, without the thread; `tables` is what stands where in the file.

#[cfg(test)]
pub mod fake_disk;
mod file;
mod tables;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::base::limits::{STORE_BATCH, STORE_QUEUE};
use crate::base::{Epoch, Name, Wall};
use crate::membership::{Key, Stamp};
use crate::zone::Commit;

use super::{Appended, Figures, Pending, Store, StoreError, StoredZone, Write};

pub use file::{Entry, Medium, Reading, StoreFile, inspect};

/// The file in the data folder.
const FILE: &str = "livezone.redb";

/// The embedded store.
#[derive(Debug)]
pub struct Embedded {
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    path: PathBuf,
    figures: Arc<Figures>,
}

enum Job {
    Start(Name, Wall, SyncSender<Result<Option<(StoredZone, Reading)>, StoreError>>),
    Write(Entry, oneshot::Sender<Appended>),
    Epoch(Name, oneshot::Sender<Result<Option<Epoch>, String>>),
    Oldest(Name, oneshot::Sender<Result<Option<Epoch>, String>>),
    Commits(Name, Option<Epoch>, usize, oneshot::Sender<Result<Vec<Commit>, String>>),
}

impl Embedded {
    /// Opens or creates the store in a folder, and takes it for this process alone.
    pub fn open(folder: &Path) -> Result<Embedded, StoreError> {
        std::fs::create_dir_all(folder).map_err(|error| file::io_error(folder, &error))?;
        let path: PathBuf = folder.join(FILE);
        let file = StoreFile::open(Box::new(path.clone()))?;
        let figures: Arc<Figures> = Arc::default();
        let (jobs, waiting) = mpsc::channel(STORE_QUEUE);
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn({
                let figures = figures.clone();
                move || run(file, waiting, &figures)
            })
            .map_err(|error| file::io_error(folder, &error))?;
        Ok(Embedded { jobs: Some(jobs), writer: Some(writer), path, figures })
    }

    fn submit<T: Send + 'static>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job, closed: T, full: T) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        // Never waits: whoever submits also serves others.
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job(reply)).is_ok());
        Box::pin(async move { if sent { answer.await.unwrap_or(closed) } else { full } })
    }

    fn note(&self, entry: Entry) -> Pending<Result<(), String>> {
        let written = self.write(entry);
        Box::pin(async { file::noted(written.await) })
    }

    fn write(&self, entry: Entry) -> Pending<Appended> {
        let (closed, full) = (Appended::Unknown(CLOSED.to_owned()), Appended::Unavailable(BUSY.to_owned()));
        self.submit(|reply| Job::Write(entry, reply), closed, full)
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
const BUSY: &str = "too many writes wait for the store";

impl Store for Embedded {
    fn start(&self, zone: &Name, now: Wall) -> Result<Option<StoredZone>, StoreError> {
        let (reply, answer) = sync_channel(1);
        let closed = || StoreError::Io { path: FILE.to_owned(), cause: CLOSED.to_owned() };
        let busy = || StoreError::Io { path: FILE.to_owned(), cause: BUSY.to_owned() };
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        jobs.try_send(Job::Start(zone.clone(), now, reply)).map_err(|_| busy())?;
        let Some((stored, reading)) = answer.recv().map_err(|_| closed())?? else { return Ok(None) };
        Ok(Some(StoredZone { items: reading.spawn()?, ..stored }))
    }

    fn append(&self, write: Write) -> Pending<Appended> {
        self.write(Entry::Append(Box::new(write)))
    }

    fn epoch(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>> {
        let zone = zone.clone();
        self.submit(|reply| Job::Epoch(zone, reply), Err(CLOSED.to_owned()), Err(BUSY.to_owned()))
    }

    fn oldest(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>> {
        let zone = zone.clone();
        self.submit(|reply| Job::Oldest(zone, reply), Err(CLOSED.to_owned()), Err(BUSY.to_owned()))
    }

    fn begin(&self, zone: &Name, now: Wall) -> Pending<Result<(), String>> {
        self.note(Entry::Begin(zone.clone(), now))
    }

    fn checkpoint(&self, zone: &Name, renewed: Vec<(Key, Stamp)>) -> Pending<Result<(), String>> {
        self.note(Entry::Checkpoint(zone.clone(), renewed))
    }

    fn refreshed(&self, zone: &Name, at: Wall) -> Pending<Result<(), String>> {
        self.note(Entry::Refreshed(zone.clone(), at))
    }

    fn commits(&self, zone: &Name, since: Option<Epoch>, limit: usize) -> Pending<Result<Vec<Commit>, String>> {
        let zone = zone.clone();
        let job = |reply| Job::Commits(zone, since, limit, reply);
        self.submit(job, Err(CLOSED.to_owned()), Err(BUSY.to_owned()))
    }

    fn figures(&self) -> Option<&Figures> {
        Some(&self.figures)
    }

    fn octets(&self) -> Option<u64> {
        std::fs::metadata(&self.path).ok().map(|metadata| metadata.len())
    }
}

/// The writer thread.
fn run(mut file: StoreFile, mut waiting: mpsc::Receiver<Job>, figures: &Figures) {
    while let Some(first) = waiting.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < STORE_BATCH {
            match waiting.try_recv() {
                Ok(job) => jobs.push(job),
                Err(_) => break,
            }
        }
        let (mut entries, mut replies, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Job::Write(entry, reply) => {
                    entries.push(entry);
                    replies.push(reply);
                }
                read => reads.push(read),
            }
        }
        if !entries.is_empty() {
            let begun = Instant::now();
            let outcomes = file.write(&entries, begun);
            figures.times.observe(begun.elapsed());
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                figures.count(&outcome);
                drop(reply.send(outcome));
            }
        }
        for job in reads {
            if catch_unwind(AssertUnwindSafe(|| read(&mut file, job))).is_err() {
                file.close(); // whoever asked is told that there was no answer
            }
        }
    }
}

fn read(file: &mut StoreFile, job: Job) {
    match job {
        Job::Start(zone, now, reply) => drop(reply.send(file.begin_reading(&zone, now))),
        Job::Epoch(zone, reply) => drop(reply.send(file.epoch(&zone))),
        Job::Oldest(zone, reply) => drop(reply.send(file.oldest(&zone))),
        Job::Commits(zone, since, limit, reply) => drop(reply.send(file.commits(&zone, since, limit))),
        Job::Write(..) => {}
    }
}
