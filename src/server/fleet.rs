//! The zones that are running, each with its publisher's task: bring one into force, change it, take it away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::base::limits::PUBLISHER_QUEUE;
use crate::base::{Epoch, Name};
use crate::config::Config;
use crate::dns::respond::{ServedZone, Zones};
use crate::dns::tsig::Keys;
use crate::membership::UpdateAccess;
use crate::store::Store;

use super::clock::Clock;
use super::counters::Counters;
use super::front::{Registrar, Routing};
use super::load::{self, OpenError};
use super::publisher::{Clash, Configuration, Publisher, Submission};
use super::reading::Ready;
use super::run::StartError;
use super::task::{Changing, OnCommit, Task, ZoneChange};

/// Changed configurations that wait for a publisher: reloads come one after the other, and a later one has everything.
const CHANGES: usize = 1;
/// How long writes under way may take to end when a zone or the server stops.
const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// A zone with its running publisher.
#[derive(Debug)]
pub(super) struct Running {
    /// What it runs by.
    pub(super) ready: Ready,
    served: Arc<ServedZone>,
    queue: mpsc::Sender<Submission>,
    changes: mpsc::Sender<ZoneChange>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// All running zones.
pub(super) struct Fleet {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<Counters>,
    pub(super) on_commit: Option<OnCommit>,
    /// Where the server listens.
    pub(super) listening: Vec<SocketAddr>,
    /// Whether messages can come in.
    pub(super) open: watch::Sender<bool>,
    /// By origin, each below the zones that it lies in.
    pub(super) running: BTreeMap<Vec<u8>, Running>,
}

/// The place of a zone among the others.
pub(super) fn place(origin: &Name) -> Vec<u8> {
    origin.as_wire().to_vec()
}

impl Fleet {
    /// Brings a zone into force: what the store kept of it, and its first commit. It is served once it is routed. `first`
    /// is the epoch that it begins with if the store doesn't know it ([`super::first_epoch`]).
    pub(super) async fn add(&mut self, ready: Ready, first: Option<Epoch>) -> Result<(), StartError> {
        let origin = ready.origin().clone();
        let (store, counters, now) = (self.store.clone(), self.counters.clone(), self.clock.now());
        let opening = tokio::task::spawn_blocking(move || {
            let publisher = load::open(&ready, &*store, counters, first, now);
            (ready, publisher)
        });
        let (ready, publisher) =
            opening.await.map_err(|cause| StartError::FirstCommit { zone: origin, cause: cause.to_string() })?;
        let publisher = publisher.map_err(|error| match error {
            OpenError::Store(error) => StartError::Store(error),
            OpenError::Clash(problem) => StartError::Clash(problem),
        })?;
        self.run(ready, publisher).await
    }

    /// Runs a publisher: its first commit, and then its task.
    pub(super) async fn run(&mut self, ready: Ready, publisher: Publisher) -> Result<(), StartError> {
        let origin = ready.origin().clone();
        let zone = &ready.zone;
        let served = Arc::new(ServedZone {
            origin: origin.clone(),
            answers: ArcSwapOption::empty(),
            query: ArcSwapOption::new(zone.query.clone().map(Arc::new)),
        });
        let mut task = Task {
            publisher,
            store: self.store.clone(),
            served: served.clone(),
            clock: self.clock.clone(),
            on_commit: self.on_commit.clone(),
            checkpoint_interval: zone.leases.min.duration() / 3,
            changing: None,
            open: self.open.subscribe(),
        };
        task.begin().await.map_err(|cause| StartError::FirstCommit { zone: origin.clone(), cause })?;
        let (queue, requests) = mpsc::channel(PUBLISHER_QUEUE);
        let (changes, changed) = mpsc::channel(CHANGES);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(task.run(requests, changed, stopped));
        self.running.insert(place(&origin), Running { ready, served, queue, changes, stop, task });
        Ok(())
    }

    /// Hands a running zone its changed configuration. What comes back tells when it is in force.
    pub(super) async fn change(&self, ready: &Ready) -> oneshot::Receiver<Result<(), Clash>> {
        let (done, outcome) = oneshot::channel();
        let zone = &ready.zone;
        let change = ZoneChange {
            configuration: Configuration {
                settings: Arc::new(zone.settings.clone()),
                statics: ready.nodes(),
                policy: load::policy(ready),
            },
            changing: Changing { query: zone.query.clone(), checkpoint_interval: zone.leases.min.duration() / 3, done },
        };
        if let Some(running) = self.running.get(&place(ready.origin())) {
            // A task that ended drops `done` with it, which tells enough.
            let _ = running.changes.send(change).await;
        }
        outcome
    }

    /// What messages meet from now on.
    pub(super) fn routing(&self, config: &Config) -> Routing {
        let registrar = |running: &Running| Registrar {
            queue: running.queue.clone(),
            access: UpdateAccess::new(running.ready.zone.update.clone()),
        };
        let running = || self.running.values();
        Routing {
            zones: Zones::new(running().map(|running| running.served.clone())),
            registrars: running().map(|running| (running.served.origin.clone(), registrar(running))).collect(),
            keys: Keys::new(config.keys.iter().cloned()),
            identity: super::run::identity(&config.dns),
            udp_size: config.dns.udp_size,
        }
    }

    /// Messages can come in from now on.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Ends all publishers, after they have finished what is under way.
    pub(super) async fn stop(self) {
        let all = self.running.into_values().map(|running| tokio::spawn(stop(running)));
        for stopping in all.collect::<Vec<_>>() {
            let _ = stopping.await;
        }
    }
}

#[cfg(test)]
pub(super) mod tests;

#[cfg(test)]
impl Fleet {
    /// Ends all publishers as a crash does.
    pub(super) async fn abort(self) {
        for Running { task, .. } in self.running.into_values() {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Ends a publisher that is not routed any more: what waits in its queue is carried out and answered. What the store
/// keeps of the zone stays.
pub(super) async fn stop(running: Running) {
    let Running { served, stop, mut task, .. } = running;
    let zone = &served.origin;
    let _ = stop.send(true);
    match tokio::time::timeout(STORE_PATIENCE, &mut task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%zone, %error, "a publisher ended badly"),
        Err(_) => {
            // What it has handed to the store is carried out before anything that comes later.
            task.abort();
            tracing::error!(%zone, "the store doesn't answer; updates under way are not acknowledged");
        }
    }
}
