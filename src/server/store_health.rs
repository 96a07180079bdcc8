//! Whether the store takes writes, for whoever asks whether the server is ready.
//!
//! It is asked for a write that changes nothing, at most once in [`PROBES`]. Such a write may go through where a larger one
//! finds no room, so a store that has refused a commit in the last [`REFUSAL`] doesn't count as ready either.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::base::{Epoch, Name, Wall};
use crate::membership::{Key, Stamp};
use crate::store::figures::Figures;
use crate::store::{Appended, Pending, Store, StoreError, StoredZone, Write};
use crate::zone::Commit;

/// How long what a probe has found is good for: however many ask, the disk syncs once a second for them.
const PROBES: Duration = Duration::from_secs(1);
/// How long a probe may take: a disk that works takes milliseconds, and those who ask have little patience.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a refused commit counts. Members register again within seconds, and so tell whether it is over.
const REFUSAL: Duration = Duration::from_secs(10);

/// A store that is watched.
pub(super) struct Watched {
    store: Arc<dyn Store>,
    health: Arc<Health>,
}

/// How a store does.
#[derive(Default)]
pub(super) struct Health {
    refused: Mutex<Option<(Instant, String)>>,
    probed: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Watched {
    pub(super) fn new(store: Arc<dyn Store>) -> Watched {
        Watched { store, health: Arc::default() }
    }

    /// Where it is told how it does.
    pub(super) fn health(&self) -> Arc<Health> {
        self.health.clone()
    }
}

impl Health {
    fn note(&self, outcome: &Appended) {
        let refused = match outcome {
            Appended::Unavailable(cause) | Appended::Unknown(cause) => Some((Instant::now(), cause.clone())),
            Appended::Committed | Appended::Conflict(_) => None,
        };
        *self.refused.lock().expect("no panic holds it") = refused;
    }

    /// Whether a store takes writes; else why not.
    pub(super) async fn check(&self, store: &dyn Store, zone: &Name) -> Result<(), String> {
        let mut probed = self.probed.lock().await;
        let found = match &*probed {
            Some((at, found)) if at.elapsed() < PROBES => found.clone(),
            _ => {
                let silence = || Err(format!("it has not taken a write for {} s", PATIENCE.as_secs()));
                let found = timeout(PATIENCE, store.checkpoint(zone, Vec::new())).await.unwrap_or_else(|_| silence());
                *probed = Some((Instant::now(), found.clone()));
                found
            }
        };
        drop(probed);
        found?;
        match &*self.refused.lock().expect("no panic holds it") {
            Some((at, cause)) if at.elapsed() < REFUSAL => Err(cause.clone()),
            _ => Ok(()),
        }
    }
}

impl Store for Watched {
    fn figures(&self) -> Option<&Figures> {
        self.store.figures()
    }

    fn octets(&self) -> Option<u64> {
        self.store.octets()
    }

    fn start(&self, zone: &Name, now: Wall) -> Result<Option<StoredZone>, StoreError> {
        self.store.start(zone, now)
    }

    fn begin(&self, zone: &Name, now: Wall) -> Pending<Result<(), String>> {
        self.store.begin(zone, now)
    }

    fn append(&self, write: Write) -> Pending<Appended> {
        let (pending, health) = (self.store.append(write), self.health.clone());
        Box::pin(async move {
            let outcome = pending.await;
            health.note(&outcome);
            outcome
        })
    }

    fn epoch(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>> {
        self.store.epoch(zone)
    }

    fn oldest(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>> {
        self.store.oldest(zone)
    }

    fn checkpoint(&self, zone: &Name, renewed: Vec<(Key, Stamp)>) -> Pending<Result<(), String>> {
        self.store.checkpoint(zone, renewed)
    }

    fn refreshed(&self, zone: &Name, at: Wall) -> Pending<Result<(), String>> {
        self.store.refreshed(zone, at)
    }

    fn commits(&self, zone: &Name, since: Option<Epoch>, limit: usize) -> Pending<Result<Vec<Commit>, String>> {
        self.store.commits(zone, since, limit)
    }
}
