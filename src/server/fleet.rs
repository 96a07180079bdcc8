//! The zones that are running, each with its publisher's task: bring one into force, change it, take it away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::base::limits::PUBLISHER_QUEUE;
use crate::base::{Epoch, Name};
use crate::config::{self, Config, Following};
use crate::dns::respond::{ServedZone, Source, Zones};
use crate::membership::{Renewals, UpdateAccess};
use crate::store::Store;
use crate::zone::History;

use super::clock::Clock;
use super::counters::Counters;
use super::defence::Defence;
use super::directory::{INQUIRIES, Inquiry};
use super::follower::{FollowState, Follower, Notified, Surroundings};
use super::front::{Copied, Registrar, Routing};
use super::large_sets::LargeSets;
use super::load::{self, OpenError, Opened, OpenedCopy};
use super::notifier::{self, Audience, Notifier};
use super::publisher::{Clash, Configuration, Submission};
use super::reading::Ready;
use super::run::StartError;
use super::supervision;
use super::task::{Changes, Changing, FIRST_COMMIT_PATIENCE, READING_PATIENCE, Task, ZoneChange, silence};
use super::visible::{OnCommit, Visible};

/// How long writes under way may take to end when a zone or the server stops.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// A zone with the task that writes it.
#[derive(Debug)]
pub(super) struct Running {
    /// What it runs by.
    pub(super) ready: Ready,
    /// What it was told to run by, and has not said whether it does.
    changing: Option<(oneshot::Receiver<Outcome>, Ready)>,
    served: Arc<ServedZone>,
    side: Side,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    notifier: Notifier,
}

/// What the task of a zone is spoken to by.
#[derive(Debug)]
enum Side {
    /// The publisher of a zone of our own.
    Publisher {
        queue: mpsc::Sender<Submission>,
        inquiries: mpsc::Sender<Inquiry>,
        changes: Arc<Changes>,
        renewals: Arc<Renewals>,
    },
    /// The follower of a copy.
    Follower { following: watch::Sender<Following>, notified: watch::Sender<Notified>, state: Arc<Mutex<FollowState>> },
}

/// A zone that is to be there and is not: in doubt SERVFAIL, and not the answer of a server that knows no such zone.
#[derive(Debug)]
pub(super) struct Absent {
    /// What it is to run by.
    pub(super) ready: Ready,
    served: Arc<ServedZone>,
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
    /// Cookies, and the rate of answers.
    pub(super) defence: Defence,
    /// What the notifiers of its zones share.
    pub(super) notifying: Arc<notifier::Shared>,
    /// Turns of its followers to transfer.
    pub(super) turns: Arc<Semaphore>,
    /// Where zones are published and written.
    pub(super) publishing: Handle,
    /// Whether messages can come in.
    pub(super) open: watch::Sender<bool>,
    /// By origin, each below the zones that it lies in.
    pub(super) running: BTreeMap<Vec<u8>, Running>,
    /// Zones that were to become copies, or to cease to be, and can't be brought into force yet.
    pub(super) absent: BTreeMap<Vec<u8>, Absent>,
    /// Publishers of removed zones that still finish what was under way.
    pub(super) leaving: BTreeMap<Vec<u8>, JoinHandle<()>>,
    /// A zone that the store was asked for, without an answer yet: no other is asked for meanwhile.
    pub(super) opening: Option<JoinHandle<()>>,
}

/// A zone as the store has it.
enum Found {
    Own(Box<Opened>),
    Copy(Box<(OpenedCopy, History)>),
}

/// A zone as the transports see it, before it is loaded.
fn served_zone(ready: &Ready, history: History) -> ServedZone {
    ServedZone {
        query: ArcSwapOption::new(ready.zone.query.clone().map(Arc::new)),
        transfer: ArcSwap::from_pointee(ready.zone.transfer.clone()),
        source: ArcSwapOption::new(source(ready).map(Arc::new)),
        history: Mutex::new(history),
        ..ServedZone::new(ready.origin().clone())
    }
}

/// Who may say that a copy has changed.
fn source(ready: &Ready) -> Option<Source> {
    let following = ready.zone.following.as_ref()?;
    let primaries = following.primaries.iter().map(|primary| primary.ip().to_canonical()).collect();
    Some(Source { primaries, key: following.key.clone() })
}

/// The secondaries that a drained member waits for, and for how long.
fn draining(zone: &config::Zone) -> (Vec<SocketAddr>, Duration) {
    (zone.secondaries.iter().map(|secondary| secondary.address).collect(), zone.drain_timeout)
}

/// The shortest lease of a zone's members.
fn shortest_lease(zone: &config::Zone) -> Duration {
    let of_services = zone.policies.services.values().map(|policy| policy.leases.min);
    of_services.fold(zone.leases.min, |shortest, lease| shortest.min(lease)).duration()
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
        self.opening = Some(self.publishing.spawn_blocking(move || {
            let found = match ready.zone.following {
                Some(_) => load::open_copy(&ready, &*store, now)
                    .map(|copy| Found::Copy(Box::new(copy)))
                    .map_err(OpenError::Store),
                None => load::open(&ready, &*store, counters, first, now).map(|own| Found::Own(Box::new(own))),
            };
            drop(opened.send((ready, found)));
        }));
        let unread = |_| StartError::FirstCommit {
            zone: origin.clone(),
            cause: format!("it was not read within {} s; see to the disk below data-dir", READING_PATIENCE.as_secs()),
        };
        let found = timeout(READING_PATIENCE, found).await.map_err(unread)?;
        let (ready, opened) =
            found.map_err(|cause| StartError::FirstCommit { zone: origin.clone(), cause: cause.to_string() })?;
        let opened = opened.map_err(|error| match error {
            OpenError::Store(error) => StartError::Store(error),
            OpenError::Clash(problem) => StartError::Clash(problem),
        })?;
        match opened {
            Found::Own(opened) => self.run(ready, *opened).await?,
            Found::Copy(found) => {
                let (copy, history) = *found;
                self.follow(ready, copy, history);
            }
        }
        self.absent.remove(&place(&origin));
        Ok(())
    }

    /// Follows the primaries of a zone. It is served as soon as there is a copy.
    fn follow(&mut self, ready: Ready, copy: OpenedCopy, history: History) {
        let Some(following) = ready.zone.following.clone() else { return };
        let served = Arc::new(served_zone(&ready, history));
        let (newest, commits) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let (notified, notices) = watch::channel(None);
        let (following, followed) = watch::channel(following);
        let around = Surroundings {
            visible: Visible {
                served: served.clone(),
                newest,
                on_commit: self.on_commit.clone(),
                retired: Mutex::default(),
            },
            store: self.store.clone(),
            clock: self.clock.clone(),
            keys: self.notifying.keys(),
            listening: self.listening.clone().into(),
            turns: self.turns.clone(),
        };
        let follower = Follower::new(followed, copy, around);
        let side = Side::Follower { following, notified, state: follower.state() };
        let notifier = Notifier::start(self.notifying.clone(), Audience::of(&ready), commits, stopped.clone());
        let task =
            supervision::spawn(&self.publishing, served.clone(), stopped.clone(), follower.run(notices, stopped));
        let place = place(ready.origin());
        self.running.insert(place, Running { ready, changing: None, served, side, stop, task, notifier });
    }

    /// Runs a zone: its first commit, and then its task.
    pub(super) async fn run(&mut self, ready: Ready, opened: Opened) -> Result<(), StartError> {
        let origin = ready.origin().clone();
        let zone = &ready.zone;
        let served = Arc::new(served_zone(&ready, opened.history));
        let (newest, commits) = watch::channel(None);
        let mut task = Task {
            publisher: opened.publisher,
            store: self.store.clone(),
            visible: Visible {
                served: served.clone(),
                newest,
                on_commit: self.on_commit.clone(),
                retired: Mutex::default(),
            },
            clock: self.clock.clone(),
            checkpoint_interval: shortest_lease(zone) / 3,
            changing: None,
            large_sets: LargeSets::default(),
            advance: None,
            open: self.open.subscribe(),
        };
        task.begin().await.map_err(|cause| StartError::FirstCommit { zone: origin.clone(), cause })?;
        let renewals = task.publisher.table().renewals().clone();
        let (queue, requests) = mpsc::channel(PUBLISHER_QUEUE);
        let (inquiries, questions) = mpsc::channel(INQUIRIES);
        let changes: Arc<Changes> = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let notifier = Notifier::start(self.notifying.clone(), Audience::of(&ready), commits, stopped.clone());
        let task = task.run(requests, questions, changes.clone(), stopped.clone());
        let task = supervision::spawn(&self.publishing, served.clone(), stopped, task);
        let side = Side::Publisher { queue, inquiries, changes, renewals };
        let running = Running { ready, changing: None, served, side, stop, task, notifier };
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
                checkpoint_interval: shortest_lease(zone) / 3,
                done,
            },
        };
        if let Some(running) = self.running.get_mut(&place(ready.origin())) {
            // For a task that ended, `done` is dropped, which tells enough.
            match &running.side {
                Side::Publisher { changes, .. } if !running.task.is_finished() => changes.put(change),
                Side::Follower { following, .. } if !running.task.is_finished() => {
                    running.served.query.store(ready.zone.query.clone().map(Arc::new));
                    running.served.transfer.store(Arc::new(ready.zone.transfer.clone()));
                    running.served.source.store(source(&ready).map(Arc::new));
                    notifier::replace(following, ready.zone.following.clone().unwrap_or_default());
                    drop(change.changing.done.send(Ok(())));
                }
                _ => {}
            }
            running.changing = Some((outcome, ready));
        }
    }

    /// Whether a zone that runs would become a copy by this, or cease to be one.
    pub(super) fn changes_side(&self, ready: &Ready) -> bool {
        self.running
            .get(&place(ready.origin()))
            .is_some_and(|running| matches!(running.side, Side::Follower { .. }) != ready.zone.following.is_some())
    }

    /// Ends a running zone that becomes a copy, or ceases to be one. It has no answers until it is added as what it is then.
    pub(super) fn change_side(&mut self, ready: &Ready) {
        if let Some(running) = self.detach(ready.origin()) {
            self.end(running);
        }
        self.hold(ready);
    }

    /// Whether a zone was ended to be added anew, and has not been.
    pub(super) fn is_absent(&self, origin: &Name) -> bool {
        self.absent.contains_key(&place(origin))
    }

    /// Routes a zone without answers until it is added.
    pub(super) fn hold(&mut self, ready: &Ready) {
        let served = Arc::new(served_zone(ready, History::default()));
        self.absent.insert(place(ready.origin()), Absent { ready: ready.clone(), served });
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
                Err(_) => tracing::error!(zone = %ready.origin(), "its task has ended; restart the server"),
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
        self.absent.remove(&place(origin));
        self.running.remove(&place(origin))
    }

    /// Has the publisher of a zone that is not routed any more end, once it has finished what is under way.
    pub(super) fn end(&mut self, running: Running) {
        self.leaving.retain(|_, leaving| !leaving.is_finished());
        let zone = running.ready.origin().clone();
        let place = place(&zone);
        let leaving = tokio::spawn(async move {
            stop(running, Instant::now() + STORE_PATIENCE).await;
            tracing::info!(%zone, "zone ended; the store keeps what it has");
        });
        self.leaving.insert(place, leaving);
    }

    /// What messages meet from now on.
    pub(super) fn routing(&self, config: &Config) -> Routing {
        let registrar = |running: &Running| match &running.side {
            Side::Publisher { queue, inquiries, renewals, .. } => Some(Registrar {
                queue: queue.clone(),
                renewals: renewals.clone(),
                inquiries: inquiries.clone(),
                access: UpdateAccess::new(running.ready.zone.update.clone()),
                draining: draining(&running.ready.zone),
            }),
            Side::Follower { .. } => None,
        };
        let copy = |running: &Running| match &running.side {
            Side::Follower { following, notified, state } => Some(Copied {
                primaries: following.borrow().primaries.clone(),
                notified: notified.clone(),
                state: state.clone(),
            }),
            Side::Publisher { .. } => None,
        };
        let running = || self.running.values();
        let absent = self.absent.values().map(|absent| &absent.served);
        let named = |running: &Running| running.served.origin.clone();
        Routing {
            zones: Zones::new(running().map(|running| &running.served).chain(absent).cloned()),
            registrars: running().filter_map(|running| Some((named(running), registrar(running)?))).collect(),
            copies: running().filter_map(|running| Some((named(running), copy(running)?))).collect(),
            notices: running().map(|running| (named(running), running.notifier.notices().clone())).collect(),
            keys: super::run::keys(config),
            tokens: Arc::new(config.admission()),
            certified: config.http.certified.clone(),
            identity: super::run::identity(&config.dns),
            udp_size: config.dns.udp_size,
            cookies: self.defence.cookies(&config.dns),
            answer_rate: Some(self.defence.rate(&config.dns)),
            rotate: config.dns.rotate,
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
        Ok(Err(error)) => tracing::error!(%zone, %error, "the task of a zone ended badly"),
        Err(_) => {
            // What it has handed to the store is carried out before anything that comes later.
            task.abort();
            tracing::error!(%zone, "the store doesn't answer; updates under way are not acknowledged");
        }
    }
}
