//! The follower of one zone that is a copy of another server's: it asks the primaries when it is time, makes what they have
//! visible, and keeps it in the store.
//!
//! [`schedule`] decides when, and is tested without sockets; `round` asks; [`copy`](crate::zone::copy) says what changes by
//! what came. One round is under way at a time, and nothing else writes the zone.
//!
//! What came is visible before it is kept, unlike with a publisher: nobody was promised anything, and an old zone is worse
//! than one that must be fetched again. It is written all the same before the next round. If the store refuses, the copy is
//! served from memory, and written as a whole once the store takes it.
//!
//! A copy is good until its expire time has passed since a primary last had it so (RFC 1034 §4.3.5), also over restarts,
//! whose time counts by the wall clock. From then on the zone is SERVFAIL, and the first version that a primary has is taken,
//! whatever its serial.

mod round;
mod schedule;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::base::{Epoch, Name, Now, Wall};
use crate::config::Following;
use crate::dns::transfer::incoming::Transferred;
use crate::dns::tsig::Keys;
use crate::store::{Appended, Store, Write};
use crate::zone::copy::{self, Unfit};
use crate::zone::settings::serial_of;
use crate::zone::{Cause, CausedChange, Change, Published, Record, StaticNode, Zone};

use super::clock::Clock;
use super::load::OpenedCopy;
use super::task;
use super::visible::Visible;

use round::{Failures, Found, Round};
use schedule::{Schedule, Timers};

/// How long a write may take before the copy counts as not kept: one of a large zone takes seconds.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is noted, at most, that a primary has the copy as it is here: a crash makes a copy look older by so much.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);
/// The longest sleep: the clock counts the time that the machine is suspended, and timers don't.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// How a copy stands, for whoever wants to show it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FollowState {
    /// The primary that last had it as it is here.
    pub primary: Option<SocketAddr>,
    /// When.
    pub refreshed: Option<Wall>,
    /// Until when it is good.
    pub expires: Option<Wall>,
    /// Whether it is past that time, or there is none.
    pub expired: bool,
    /// Whether a round is under way.
    pub asking: bool,
    /// What each primary said that was asked in vain in the last round.
    pub failures: Vec<(SocketAddr, String)>,
}

/// Whoever said last that the zone has changed.
pub type Notified = Option<IpAddr>;

/// A follower with what it needs to run.
pub struct Follower {
    zone: Zone,
    kept: Kept,
    visible: Visible,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    following: watch::Receiver<Following>,
    keys: watch::Receiver<Keys>,
    listening: Arc<[SocketAddr]>,
    schedule: Schedule,
    state: Arc<Mutex<FollowState>>,
    /// The primary to begin the next round with.
    favourite: Option<IpAddr>,
    /// What the next round is for.
    next: Next,
    /// Whether the last round was in vain, which was said.
    in_vain: bool,
}

/// What the store has.
#[derive(Debug)]
struct Kept {
    /// Its epoch; none if it doesn't know the zone.
    epoch: Option<Epoch>,
    /// Whether it has what is here.
    is_whole: bool,
    /// Whether its epoch must be read first, since the fate of a write isn't known.
    in_doubt: bool,
    /// When it was last noted that a primary has it so.
    noted: Option<Wall>,
}

/// What a round is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Next {
    /// To see whether anything is new.
    Refresh,
    /// Something is.
    Notified,
    /// Differences didn't fit: the whole zone.
    Whole,
}

/// What a follower shares with the rest of the server.
pub struct Surroundings {
    /// Where its zone becomes visible.
    pub visible: Visible,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The TSIG keys.
    pub keys: watch::Receiver<Keys>,
    /// Where this server listens.
    pub listening: Arc<[SocketAddr]>,
}

type Asking = Pin<Box<dyn Future<Output = Result<Found, Failures>> + Send>>;

impl Follower {
    /// A follower of these primaries, with the copy that the store has. If that is still good it is visible when this
    /// returns.
    pub fn new(following: watch::Receiver<Following>, opened: OpenedCopy, around: Surroundings) -> Follower {
        let Surroundings { visible, store, clock, keys, listening } = around;
        let OpenedCopy { zone, epoch, refreshed } = opened;
        let now = clock.now();
        let settings = zone.contents().settings();
        let copy = refreshed.map(|at| (Timers::of(settings), now.wall.since(at)));
        let follower = Follower {
            schedule: Schedule::new(copy, now.mono),
            kept: Kept { epoch, is_whole: refreshed.is_some(), in_doubt: false, noted: refreshed },
            zone,
            visible,
            store,
            clock,
            following,
            keys,
            listening,
            state: Arc::default(),
            favourite: None,
            next: Next::Refresh,
            in_vain: false,
        };
        if follower.schedule.is_good(now.mono) {
            follower.visible.show(follower.zone.snapshot());
        }
        follower.state.lock().expect("no panic holds it").refreshed = refreshed;
        follower.tell(now, false, None);
        follower
    }

    /// Where its state can be seen.
    pub fn state(&self) -> Arc<Mutex<FollowState>> {
        self.state.clone()
    }

    /// Runs until `stop` turns.
    pub async fn run(mut self, mut notified: watch::Receiver<Notified>, mut stop: watch::Receiver<bool>) {
        let mut asking: Option<Asking> = None;
        loop {
            let now = self.clock.now();
            if asking.is_none() && self.schedule.next().is_some_and(|at| at <= now.mono) {
                asking = Some(self.begin(now));
            }
            self.expire(now);
            let wake = self.next_wake(now);
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                result = ask(&mut asking) => {
                    asking = None;
                    self.end(result).await;
                }
                Ok(()) = notified.changed() => {
                    self.favourite = *notified.borrow_and_update();
                    self.next = self.next.max(Next::Notified);
                    self.schedule.notify(self.clock.now().mono);
                }
                // Others may have it; and with another key, whoever refused may not.
                Ok(()) = self.following.changed() => self.schedule.notify(self.clock.now().mono),
                Ok(()) = self.keys.changed() => self.schedule.notify(self.clock.now().mono),
                () = sleep_until(wake) => {}
            }
        }
    }

    fn next_wake(&self, now: Now) -> Instant {
        let expires = self.is_shown().then(|| self.schedule.expires()).flatten();
        let due = self.schedule.next().into_iter().chain(expires).min();
        let sleep = due.map_or(LONGEST_SLEEP, |at| at.since(now.mono).min(LONGEST_SLEEP));
        // A millisecond more, since both clocks are cut to whole ones: never before it.
        Instant::now() + sleep + Duration::from_millis(1)
    }

    fn is_shown(&self) -> bool {
        self.visible.served.answers.load().is_some()
    }

    fn origin(&self) -> &Name {
        self.zone.snapshot().origin()
    }

    // ---- asking -------------------------------------------------------------------------------------------------

    fn begin(&mut self, now: Now) -> Asking {
        self.schedule.begin();
        let Following { mut primaries, key } = self.following.borrow_and_update().clone();
        if let Some(favourite) = self.favourite {
            primaries.sort_by_key(|primary| primary.ip().to_canonical() != favourite);
        }
        let next = std::mem::replace(&mut self.next, Next::Refresh);
        let keys = self.keys.borrow_and_update().clone();
        let key = key.map(|name| keys.find(&name).cloned());
        self.tell(now, true, None);
        if matches!(key, Some(None)) {
            // The configuration is held against the keys, so only for a moment of a reload.
            let failures = primaries.into_iter().map(|primary| (primary, "the key is not configured".to_owned()));
            return Box::pin(std::future::ready(Err(failures.collect())));
        }
        let snapshot = self.zone.snapshot();
        let round = Round {
            origin: snapshot.origin().clone(),
            primaries,
            key: key.flatten(),
            have: (!snapshot.is_empty()).then(|| Arc::new(snapshot.soa())),
            expired: !self.schedule.is_good(now.mono),
            probes: next == Next::Refresh,
            whole: next == Next::Whole,
            listening: self.listening.clone(),
            clock: self.clock.clone(),
        };
        Box::pin(round.run())
    }

    async fn end(&mut self, result: Result<Found, Failures>) {
        match result {
            Ok(Found::Same(primary)) => self.succeed(primary),
            Ok(Found::Newer(primary, transferred)) => match self.take(primary, transferred).await {
                Ok(()) => self.succeed(primary),
                Err(unfit @ Unfit::Differences { .. }) => {
                    tracing::info!(zone = %self.origin(), %primary, reason = %unfit, "the whole zone is asked for");
                    (self.favourite, self.next) = (Some(primary.ip().to_canonical()), Next::Whole);
                    self.schedule.notify(self.clock.now().mono);
                    self.fail(vec![(primary, unfit.to_string())]);
                }
                Err(unfit) => self.fail(vec![(primary, unfit.to_string())]),
            },
            Err(failures) => self.fail(failures),
        }
    }

    fn succeed(&mut self, primary: SocketAddr) {
        let now = self.clock.now();
        let timers = Timers::of(self.zone.contents().settings());
        self.schedule.succeed(timers, now.mono);
        self.favourite = Some(primary.ip().to_canonical());
        if std::mem::take(&mut self.in_vain) {
            tracing::info!(zone = %self.origin(), %primary, "a primary answers again");
        }
        if !self.is_shown() {
            self.visible.show(self.zone.snapshot());
        }
        if self.kept.is_whole && self.kept.noted.is_none_or(|noted| now.wall.since(noted) >= NOTE_INTERVAL) {
            self.kept.noted = Some(now.wall);
            // Should it be refused, the copy looks a little older after a restart.
            tokio::spawn(self.store.refreshed(self.origin(), now.wall));
        }
        {
            let mut state = self.state.lock().expect("no panic holds it");
            (state.primary, state.refreshed) = (Some(primary), Some(now.wall));
        }
        self.tell(now, false, Some(Failures::new()));
    }

    fn fail(&mut self, failures: Failures) {
        let now = self.clock.now();
        self.schedule.fail(now.mono);
        let lines = failures.iter().map(|(primary, failure)| format!("{primary}: {failure}"));
        let primaries = lines.collect::<Vec<_>>().join("; ");
        let zone = self.origin();
        if self.in_vain {
            tracing::debug!(%zone, primaries, "no primary has the zone");
        } else {
            tracing::warn!(%zone, primaries, "no primary has the zone; they are asked again until one does");
        }
        self.in_vain = true;
        self.tell(now, false, Some(failures));
    }

    /// The copy is past its time.
    fn expire(&self, now: Now) {
        if self.is_shown() && !self.schedule.is_good(now.mono) {
            self.visible.hide();
            let zone = self.origin();
            tracing::error!(%zone, "the copy has expired: no primary had it for too long; it is SERVFAIL until one does");
            self.tell(now, false, None);
        }
    }

    /// Shows how the copy stands.
    fn tell(&self, now: Now, asking: bool, failures: Option<Failures>) {
        let mut state = self.state.lock().expect("no panic holds it");
        state.asking = asking;
        state.expires = self.schedule.expires().map(|at| now.wall.after(at.since(now.mono)));
        state.expired = !self.schedule.is_good(now.mono);
        if let Some(failures) = failures {
            state.failures = failures;
        }
    }

    // ---- taking over --------------------------------------------------------------------------------------------

    /// Makes what came visible, and keeps it.
    async fn take(&mut self, primary: SocketAddr, transferred: Transferred) -> Result<(), Unfit> {
        let contents = self.zone.contents();
        let (soa, changes) = match transferred {
            Transferred::Whole(whole) => {
                let changes = copy::replace(contents, &whole.soa, whole.nodes)?;
                (whole.soa, changes)
            }
            Transferred::Changes(differences) => {
                let changes = copy::amend(contents, &differences)?;
                let Some(last) = differences.into_iter().next_back() else { return Ok(()) };
                (last.to, changes)
            }
            Transferred::Current(_) => return Ok(()),
        };
        let before = self.zone.snapshot().clone();
        let (write, published) = self.commit(primary, &soa, changes);
        let shown = (!before.is_empty()).then_some(&before);
        if let (Some(published), Some(commit)) = (published, &write.commit) {
            self.visible.advance(shown, &published, commit);
        }
        self.keep(write).await;
        Ok(())
    }

    /// Applies changes as the commit that leads to a SOA record.
    fn commit(&mut self, primary: SocketAddr, soa: &Record, changes: Vec<Change>) -> (Write, Option<Published>) {
        let at = self.clock.now().wall;
        let cause = Cause::Transferred(format!("primary {primary}").into());
        let (mut statics, mut settings) = (Vec::new(), None);
        for change in changes {
            match &change {
                Change::Settings(changed) => settings = Some(changed.clone()),
                Change::Static { name, rrsets } => {
                    statics.push(StaticNode { name: name.clone(), rrsets: rrsets.clone() });
                }
                _ => {}
            }
            self.zone.change(CausedChange { change, cause: cause.clone() }, at);
        }
        let epoch = copy::epoch_after(self.zone.snapshot().epoch, serial_of(soa));
        let staged = self.zone.stage_copy(epoch, at);
        let commit = staged.commit.clone();
        let published = self.zone.publish(staged);
        let contents = self.zone.contents();
        let replaces = !self.kept.is_whole;
        if replaces {
            let node = |name: &Name| StaticNode { name: name.clone(), rrsets: contents.statics(name).to_vec() };
            statics = contents.static_names().map(node).collect();
            settings = Some(contents.settings().clone());
        }
        let write = Write {
            zone: self.origin().clone(),
            expected: self.kept.epoch,
            commit,
            items: Vec::new(),
            tombstones: Vec::new(),
            services: Vec::new(),
            settings,
            statics,
            refreshed: Some(at),
            replaces,
        };
        (write, published)
    }

    /// Writes what is visible to the store.
    async fn keep(&mut self, mut write: Write) {
        let zone = write.zone.clone();
        if self.kept.in_doubt {
            match timeout(WRITE_PATIENCE, self.store.epoch(&zone)).await {
                Ok(Ok(epoch)) => (self.kept.epoch, self.kept.in_doubt) = (epoch, false),
                Ok(Err(_)) | Err(_) => return,
            }
            write.expected = self.kept.epoch;
        }
        let (epoch, at) = (write.commit.as_ref().map(|commit| commit.epoch), write.refreshed);
        let outcome = timeout(WRITE_PATIENCE, task::append(&*self.store, write, &mut None)).await;
        let was_whole = self.kept.is_whole;
        let cause = match outcome {
            Ok(Appended::Committed) => {
                if !was_whole && self.kept.noted.is_some() {
                    tracing::info!(%zone, "the copy is kept in the store again");
                }
                self.kept = Kept { epoch, is_whole: true, in_doubt: false, noted: at };
                return;
            }
            Ok(Appended::Conflict(found)) => {
                self.kept.epoch = found;
                "its epoch is another than expected".to_owned()
            }
            Ok(Appended::Unavailable(cause)) => cause,
            Ok(Appended::Unknown(cause)) => {
                self.kept.in_doubt = true;
                cause
            }
            Err(_) => {
                self.kept.in_doubt = true;
                "it does not answer".to_owned()
            }
        };
        self.kept.is_whole = false;
        if was_whole {
            tracing::error!(%zone, cause, "the store does not take the copy: it is served, and not kept");
        }
    }
}

async fn ask(asking: &mut Option<Asking>) -> Result<Found, Failures> {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}
