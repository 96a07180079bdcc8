//! The zones that are running, each with its publisher's task: bring one into force, change it, take it away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::base::limits::PUBLISHER_QUEUE;
use crate::base::{Epoch, Name};
use crate::config::Config;
use crate::dns::respond::{ServedZone, Zones};
use crate::membership::UpdateAccess;
use crate::store::Store;

use super::clock::Clock;
use super::counters::Counters;
use super::directory::{INQUIRIES, Inquiry};
use super::front::{Registrar, Routing};
use super::load::{self, OpenError, Opened};
use super::notifier::{self, Audience, Notifier};
use super::publisher::{Clash, Configuration, Submission};
use super::reading::Ready;
use super::run::StartError;
use super::task::{Changes, Changing, FIRST_COMMIT_PATIENCE, OnCommit, Task, ZoneChange, silence};

/// How long writes under way may take to end when a zone or the server stops.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// A zone with its running publisher.
#[derive(Debug)]
pub(super) struct Running {
    /// What it runs by.
    pub(super) ready: Ready,
    /// What it was told to run by, and has not said whether it does.
    changing: Option<(oneshot::Receiver<Outcome>, Ready)>,
    served: Arc<ServedZone>,
    queue: mpsc::Sender<Submission>,
    inquiries: mpsc::Sender<Inquiry>,
    changes: Arc<Changes>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    notifier: Notifier,
}

/// What became of a changed configuration.
type Outcome = Result<(), Clash>;

impl Running {
    /// What it runs by, or was told to.
    pub(super) fn latest(&self) -> &Ready {
        self.changing.as_ref().map_or(&self.ready, |(_, ready)| ready)
    }
}

/// All running zones.
pub(super) struct Fleet {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<Counters>,
    pub(super) on_commit: Option<OnCommit>,
    /// Where the server listens.
    pub(super) listening: Vec<SocketAddr>,
    /// What the notifiers of its zones share.
    pub(super) notifying: Arc<notifier::Shared>,
    /// Whether messages can come in.
    pub(super) open: watch::Sender<bool>,
    /// By origin, each below the zones that it lies in.
    pub(super) running: BTreeMap<Vec<u8>, Running>,
    /// Publishers of removed zones that still finish what was under way.
    pub(super) leaving: BTreeMap<Vec<u8>, JoinHandle<()>>,
    /// A zone that the store was asked for, without an answer yet: no other is asked for meanwhile.
    pub(super) opening: Option<JoinHandle<()>>,
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
        let deadline = Instant::now() + FIRST_COMMIT_PATIENCE;
        let unanswered = || StartError::FirstCommit { zone: origin.clone(), cause: silence(None) };
        // The writes of a zone that was removed, and comes back, are over before it is read.
        if let Some(leaving) = self.leaving.get_mut(&place(&origin)) {
            let _ = timeout_at(deadline, leaving).await.map_err(|_| unanswered())?;
            self.leaving.remove(&place(&origin));
        }
        let (store, counters, now) = (self.store.clone(), self.counters.clone(), self.clock.now());
        let (opened, found) = oneshot::channel();
        self.opening = Some(tokio::task::spawn_blocking(move || {
            let found = load::open(&ready, &*store, counters, first, now);
            drop(opened.send((ready, found)));
        }));
        let found = timeout_at(deadline, found).await.map_err(|_| unanswered())?;
        let (ready, opened) =
            found.map_err(|cause| StartError::FirstCommit { zone: origin.clone(), cause: cause.to_string() })?;
        let opened = opened.map_err(|error| match error {
            OpenError::Store(error) => StartError::Store(error),
            OpenError::Clash(problem) => StartError::Clash(problem),
        })?;
        self.run(ready, opened).await
    }

    /// Runs a zone: its first commit, and then its task.
    pub(super) async fn run(&mut self, ready: Ready, opened: Opened) -> Result<(), StartError> {
        let origin = ready.origin().clone();
        let zone = &ready.zone;
        let served = Arc::new(ServedZone {
            query: ArcSwapOption::new(zone.query.clone().map(Arc::new)),
            transfer: ArcSwap::from_pointee(zone.transfer.clone()),
            history: Mutex::new(opened.history),
            ..ServedZone::new(origin.clone())
        });
        let (newest, commits) = watch::channel(None);
        let mut task = Task {
            publisher: opened.publisher,
            store: self.store.clone(),
            served: served.clone(),
            clock: self.clock.clone(),
            on_commit: self.on_commit.clone(),
            newest,
            checkpoint_interval: zone.leases.min.duration() / 3,
            changing: None,
            open: self.open.subscribe(),
        };
        task.begin().await.map_err(|cause| StartError::FirstCommit { zone: origin.clone(), cause })?;
        let (queue, requests) = mpsc::channel(PUBLISHER_QUEUE);
        let (inquiries, questions) = mpsc::channel(INQUIRIES);
        let changes: Arc<Changes> = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let notifier = Notifier::start(self.notifying.clone(), Audience::of(&ready), commits, stopped.clone());
        let task = tokio::spawn(task.run(requests, questions, changes.clone(), stopped));
        let running = Running { ready, changing: None, served, queue, inquiries, changes, stop, task, notifier };
        self.running.insert(place(&origin), running);
        Ok(())
    }

    /// Whether the store still owes the answer that a zone was given up for.
    pub(super) fn is_silent(&self) -> bool {
        self.opening.as_ref().is_some_and(|opening| !opening.is_finished())
    }

    /// Hands a running zone its changed configuration, in the place of one that still waits. [`Fleet::settle`] tells when it
    /// is in force.
    pub(super) fn change(&mut self, ready: Ready) {
        let (done, outcome) = oneshot::channel();
        let zone = &ready.zone;
        let change = ZoneChange {
            configuration: Configuration {
                settings: Arc::new(zone.settings.clone()),
                statics: ready.nodes(),
                policy: load::policy(&ready),
            },
            changing: Changing {
                query: zone.query.clone(),
                transfer: zone.transfer.clone(),
                checkpoint_interval: zone.leases.min.duration() / 3,
                done,
            },
        };
        if let Some(running) = self.running.get_mut(&place(ready.origin())) {
            // For a task that ended, `done` is dropped, which tells enough.
            if !running.task.is_finished() {
                running.changes.put(change);
            }
            running.changing = Some((outcome, ready));
        }
    }

    /// Waits, up to the deadline, for changed configurations to be in force: until then a zone counts as running by what it
    /// ran by before, and so it does if its publisher can't take the change. Returns how many came into force; cut off, it
    /// has lost nothing.
    pub(super) async fn settle(&mut self, deadline: Instant, mut refused: impl FnMut(&Ready, &Clash)) -> usize {
        let mut changed = 0;
        for running in self.running.values_mut() {
            let Some((outcome, _)) = &mut running.changing else { continue };
            let Ok(outcome) = timeout_at(deadline, outcome).await else { continue };
            let Some((_, ready)) = running.changing.take() else { continue };
            match outcome {
                Ok(Ok(())) => {
                    running.notifier.set_audience(Audience::of(&ready));
                    running.ready = ready;
                    changed += 1;
                }
                Ok(Err(clash)) => refused(&ready, &clash),
                Err(_) => tracing::error!(zone = %ready.origin(), "its publisher has ended; restart the server"),
            }
        }
        changed
    }

    /// The zones whose changed configuration is not in force yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Name> {
        self.running.values().filter(|running| running.changing.is_some()).map(|running| running.ready.origin())
    }

    /// Takes a zone out of what is routed.
    pub(super) fn detach(&mut self, origin: &Name) -> Option<Running> {
        self.running.remove(&place(origin))
    }

    /// Has the publisher of a zone that is not routed any more end, once it has finished what is under way.
    pub(super) fn end(&mut self, running: Running) {
        self.leaving.retain(|_, leaving| !leaving.is_finished());
        let zone = running.ready.origin().clone();
        let place = place(&zone);
        let leaving = tokio::spawn(async move {
            stop(running, Instant::now() + STORE_PATIENCE).await;
            tracing::info!(%zone, "zone removed; the store keeps its members");
        });
        self.leaving.insert(place, leaving);
    }

    /// What messages meet from now on.
    pub(super) fn routing(&self, config: &Config) -> Routing {
        let registrar = |running: &Running| Registrar {
            queue: running.queue.clone(),
            inquiries: running.inquiries.clone(),
            access: UpdateAccess::new(running.ready.zone.update.clone()),
            notices: running.notifier.notices().clone(),
        };
        let running = || self.running.values();
        Routing {
            zones: Zones::new(running().map(|running| running.served.clone())),
            registrars: running().map(|running| (running.served.origin.clone(), registrar(running))).collect(),
            keys: super::run::keys(config),
            identity: super::run::identity(&config.dns),
            udp_size: config.dns.udp_size,
        }
    }

    /// Messages can come in from now on, for all zones that run: whoever is told of one can ask.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
        self.running.values().for_each(|running| running.notifier.open());
    }

    /// Ends all publishers, after they have finished what is under way, or at the deadline.
    pub(super) async fn stop(self, deadline: Instant) {
        let all = self.running.into_values().map(|running| tokio::spawn(stop(running, deadline)));
        for stopping in all.collect::<Vec<_>>() {
            let _ = stopping.await;
        }
        for leaving in self.leaving.into_values() {
            if timeout_at(deadline, leaving).await.is_err() {
                tracing::error!("a removed zone is not finished: the store doesn't answer");
            }
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
impl Fleet {
    /// Ends all publishers as a crash does.
    pub(super) async fn abort(self) {
        for Running { task, notifier, .. } in self.running.into_values() {
            task.abort();
            let _ = task.await;
            notifier.abort().await;
        }
    }
}

/// Ends a publisher that is not routed any more: what waits in its queue is carried out and answered. What the store
/// keeps of the zone stays.
async fn stop(running: Running, deadline: Instant) {
    let Running { served, stop, mut task, notifier, .. } = running;
    let zone = &served.origin;
    let _ = stop.send(true);
    notifier.join(zone).await;
    match timeout_at(deadline, &mut task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%zone, %error, "a publisher ended badly"),
        Err(_) => {
            // What it has handed to the store is carried out before anything that comes later.
            task.abort();
            tracing::error!(%zone, "the store doesn't answer; updates under way are not acknowledged");
        }
    }
}
