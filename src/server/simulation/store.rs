//! The embedded store of a simulated machine: the real file on the fake disk, without its thread.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::{Epoch, Name, Wall};
use crate::membership::{Key, Stamp};
use crate::store::embedded::fake_disk::FakeDisk;
use crate::store::embedded::{Entry, StoreFile};
use crate::store::{Appended, Pending, Store, StoreError, StoredZone, Write};
use crate::zone::Commit;

use super::oracle::Oracle;
use super::world::{SimulatedClock, World};

/// How the store behaves, beside what its disk does.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// A planted fault: writes are acknowledged before they are carried out, so that the answers are swapped before the
    /// commit.
    pub(super) acknowledges_first: bool,
    /// How long a write takes, in milliseconds: set by the simulation as it goes.
    pub(super) latency: Arc<Mutex<Latency>>,
}

/// How long writes take.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    /// The next ones, from the last.
    pub(super) next: Vec<u64>,
    /// The process dies once this many more writes are durable, before anybody hears of it.
    pub(super) dies_after: Option<u32>,
}

/// The store.
pub(super) struct SimulatedStore {
    /// Held for as long as a write takes: there is one writing thread.
    file: Arc<tokio::sync::Mutex<StoreFile>>,
    disk: FakeDisk,
    clock: Arc<SimulatedClock>,
    oracle: Arc<Mutex<Oracle>>,
    crashed: Arc<Notify>,
    faults: Faults,
}

impl SimulatedStore {
    pub(super) fn open(world: &World, faults: &Faults) -> Result<SimulatedStore, StoreError> {
        Ok(SimulatedStore {
            file: Arc::new(tokio::sync::Mutex::new(StoreFile::open(Box::new(world.disk.clone()))?)),
            disk: world.disk.clone(),
            clock: world.clock.clone(),
            oracle: world.oracle.clone(),
            crashed: world.crashed.clone(),
            faults: faults.clone(),
        })
    }

    fn write(&self, entry: Entry) -> Pending<Appended> {
        let SimulatedStore { file, disk, clock, oracle, crashed, faults } = self;
        let (file, disk, clock, oracle) = (file.clone(), disk.clone(), clock.clone(), oracle.clone());
        let (crashed, latency) = (crashed.clone(), faults.latency.clone());
        let takes = latency.lock().unwrap().next.pop().unwrap_or(0);
        if takes > 0 {
            oracle.lock().unwrap().note_slow(clock.mono() + takes);
        }
        if let Entry::Append(_) = entry {
            oracle.lock().unwrap().note_write(clock.mono());
        }
        let carry_out = async move {
            let mut file = file.lock().await;
            if takes > 0 {
                oracle.lock().unwrap().note_slow(clock.mono() + takes);
                tokio::time::sleep(Duration::from_millis(takes)).await;
            }
            let outcome = file.write(std::slice::from_ref(&entry), Instant::now().into_std()).remove(0);
            let mut dies = disk.is_stopped();
            if outcome == Appended::Committed
                && let Some(left) = &mut latency.lock().unwrap().dies_after
            {
                dies |= *left == 0;
                *left = left.saturating_sub(1);
            }
            if dies {
                crashed.notify_one();
                std::future::pending::<()>().await;
            }
            oracle.lock().unwrap().note_written(&entry, &outcome, clock.mono());
            outcome
        };
        if faults.acknowledges_first {
            tokio::spawn(carry_out);
            return Box::pin(async { Appended::Committed });
        }
        Box::pin(carry_out)
    }

    fn note(&self, entry: Entry) -> Pending<Result<(), String>> {
        let written = self.write(entry);
        Box::pin(async {
            match written.await {
                Appended::Committed => Ok(()),
                outcome => Err(format!("{outcome:?}")),
            }
        })
    }
}

impl Store for SimulatedStore {
    fn start(&self, zone: &Name, now: Wall) -> Result<Option<StoredZone>, StoreError> {
        let stored = self.file.try_lock().expect("nobody writes yet").start(zone, now)?;
        let now = crate::base::Now { mono: crate::base::Monotonic(self.clock.mono()), wall: now };
        self.oracle.lock().unwrap().note_start(stored.as_ref(), now);
        Ok(stored)
    }

    fn begin(&self, zone: &Name, now: Wall) -> Pending<Result<(), String>> {
        self.note(Entry::Begin(zone.clone(), now))
    }

    fn append(&self, write: Write) -> Pending<Appended> {
        self.write(Entry::Append(Box::new(write)))
    }

    fn epoch(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>> {
        let SimulatedStore { file, disk, clock, oracle, crashed, .. } = self;
        let (file, disk, clock, oracle) = (file.clone(), disk.clone(), clock.clone(), oracle.clone());
        let (crashed, zone) = (crashed.clone(), zone.clone());
        Box::pin(async move {
            let found = file.lock().await.epoch(&zone);
            if disk.is_stopped() {
                crashed.notify_one();
                std::future::pending::<()>().await;
            }
            if let Ok(Some(epoch)) = found {
                oracle.lock().unwrap().note_settled(epoch, clock.mono());
            }
            found
        })
    }

    fn oldest(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>> {
        let (file, zone) = (self.file.clone(), zone.clone());
        Box::pin(async move { file.lock().await.oldest(&zone) })
    }

    fn checkpoint(&self, zone: &Name, renewed: Vec<(Key, Stamp)>) -> Pending<Result<(), String>> {
        self.note(Entry::Checkpoint(zone.clone(), renewed))
    }

    fn refreshed(&self, zone: &Name, at: Wall) -> Pending<Result<(), String>> {
        self.note(Entry::Refreshed(zone.clone(), at))
    }

    fn commits(&self, zone: &Name, since: Option<Epoch>, limit: usize) -> Pending<Result<Vec<Commit>, String>> {
        let (file, zone) = (self.file.clone(), zone.clone());
        Box::pin(async move { file.lock().await.commits(&zone, since, limit) })
    }
}
