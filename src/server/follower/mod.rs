//! The follower of one zone that is a copy of another server's: it asks the primaries when it is time, makes what they have
//! visible, and keeps it in the store.
//!
//! [`schedule`] decides when, and is tested without sockets; `round` asks; `keep` writes; [`copy`] says what changes by what
//! came. One round is under way at a time, and nothing else writes the zone.
//!
//! What came is visible before it is kept, unlike with a publisher: nobody was promised anything, and an old zone is worse
//! than one that must be fetched again. It is written all the same, and the next round waits for that. If the store refuses,
//! the copy is served from memory, and written as a whole once the store takes it, which is tried after each round.
//!
//! A copy is good until its expire time has passed since a primary last had it so (RFC 1034 §4.3.5), also over restarts,
//! whose time counts by the wall clock; a clock that was set back counts as one that went on for as long, so that no machine
//! without a clock of its own serves a copy for ever. From then on the zone is SERVFAIL, and the first version that a primary
//! has is taken, whatever its serial.

mod keep;
mod round;
mod schedule;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::base::{Name, Now, RecordType, Wall};
use crate::config::Following;
use crate::dns::transfer::incoming::Transferred;
use crate::dns::tsig::Keys;
use crate::net::aside;
use crate::store::{Store, Write};
use crate::zone::copy::{self, Unfit};
use crate::zone::settings::serial_of;
use crate::zone::{Cause, CausedChange, Difference, StaticNode, Zone};

use super::clock::Clock;
use super::load::OpenedCopy;
use super::visible::Visible;

use keep::{Keeping, Kept};
use round::{Answer, Failures, Found, Round};
use schedule::{Schedule, Timers};

/// How many different reasons are told at most, each once, for which no primary has the zone, until one has.
const TOLD: usize = 8;
/// Records of differences from which on they are taken over aside, as whole zones are.
const MANY: usize = 1000;
/// The longest sleep: the clock counts the time that the machine is suspended, and timers don't.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Rounds of a server that transfer at once; the others wait for their turn, and keep what they have meanwhile. What a
/// transfer brings is in memory until it is taken over, [`TRANSFER_OCTETS`] at most: usual zones are far smaller, and
/// fetched so many at a time that a primary which keeps its connection waiting holds up a part of them alone.
///
/// [`TRANSFER_OCTETS`]: crate::base::limits::TRANSFER_OCTETS
pub const TURNS: usize = 16;

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
    /// How rounds ended so far.
    pub rounds: Rounds,
}

/// How rounds of asking the primaries ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rounds {
    /// A primary had the zone as it is here.
    pub current: u64,
    /// What a primary had was taken over.
    pub transferred: u64,
    /// No primary had anything of use.
    pub failed: u64,
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
    turns: Arc<Semaphore>,
    schedule: Schedule,
    state: Arc<Mutex<FollowState>>,
    /// The primary to begin the next round with.
    favourite: Option<IpAddr>,
    /// What the next round is for.
    next: Next,
    /// What was said of rounds in vain since one was not.
    told: Vec<String>,
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
    /// Turns to transfer, [`TURNS`] for all followers of the server.
    pub turns: Arc<Semaphore>,
}

type Asking = Pin<Box<dyn Future<Output = Result<Answer, Failures>> + Send>>;

impl Follower {
    /// A follower of these primaries, with the copy that the store has. If that is still good it is visible when this
    /// returns.
    pub fn new(following: watch::Receiver<Following>, opened: OpenedCopy, around: Surroundings) -> Follower {
        let Surroundings { visible, store, clock, keys, listening, turns } = around;
        let OpenedCopy { zone, epoch, refreshed } = opened;
        let now = clock.now();
        let settings = zone.contents().settings();
        let age = |at| now.wall.since(at).max(at.since(now.wall));
        let copy = refreshed.map(|at| (Timers::of(settings), age(at)));
        let follower = Follower {
            schedule: Schedule::new(copy, now.mono),
            kept: Kept {
                epoch,
                is_whole: refreshed.is_some(),
                missing: None,
                in_doubt: false,
                refused: false,
                noted: refreshed,
            },
            zone,
            visible,
            store,
            clock,
            following,
            keys,
            listening,
            turns,
            state: Arc::default(),
            favourite: None,
            next: Next::Refresh,
            told: Vec::new(),
        };
        if follower.schedule.is_good(now.mono) {
            aside(|| follower.visible.show(follower.zone.snapshot()));
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
        let mut keeping: Option<Keeping> = None;
        loop {
            let now = self.clock.now();
            let may_ask = asking.is_none() && keeping.is_none();
            if may_ask && self.schedule.next().is_some_and(|at| at <= now.mono) {
                asking = Some(self.begin(now));
            }
            self.expire(now);
            let wake = self.next_wake(now, keeping.is_some());
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                result = settle(&mut asking) => {
                    asking = None;
                    keeping = self.end(result).map(|write| self.keep(write));
                }
                written = settle(&mut keeping) => {
                    keeping = None;
                    self.note(written);
                }
                Ok(()) = notified.changed() => {
                    self.favourite = *notified.borrow_and_update();
                    self.next = self.next.max(Next::Notified);
                    self.schedule.notify(self.clock.now().mono);
                }
                // Others may have it; and with another key, whoever refused may not.
                Ok(()) = self.following.changed() => self.begin_anew(),
                Ok(()) = self.keys.changed() => self.begin_anew(),
                () = sleep_until(wake) => {}
            }
        }
        if let Some(keeping) = keeping {
            self.note(keeping.await);
        }
    }

    /// With another configuration: whatever was said before is no news of it.
    fn begin_anew(&mut self) {
        self.told.clear();
        self.schedule.notify(self.clock.now().mono);
    }

    fn next_wake(&self, now: Now, keeping: bool) -> Instant {
        let expires = self.is_shown().then(|| self.schedule.expires()).flatten();
        let next = self.schedule.next().filter(|_| !keeping);
        let due = next.into_iter().chain(expires).min();
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
        self.schedule.begin(now.mono);
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
            turns: self.turns.clone(),
            clock: self.clock.clone(),
        };
        Box::pin(round.run())
    }

    /// What comes of a round; what is to be written, if something is.
    fn end(&mut self, result: Result<Answer, Failures>) -> Option<Write> {
        let Answer { primary, found, expires_in, _turn } = match result {
            Ok(answer) => answer,
            Err(failures) => {
                self.fail(failures);
                return None;
            }
        };
        let taken = match found {
            Found::Same => Ok(None),
            Found::Newer(transferred) if is_large(&transferred) => aside(|| self.take(primary, transferred)),
            Found::Newer(transferred) => self.take(primary, transferred),
        };
        match taken {
            Ok(write) => {
                {
                    let rounds = &mut self.state.lock().expect("no panic holds it").rounds;
                    *(if write.is_some() { &mut rounds.transferred } else { &mut rounds.current }) += 1;
                }
                let refreshed = Some(self.succeed(primary, expires_in));
                let again = || self.kept.missing.clone().map(|commit| aside(|| self.whole(commit)));
                write.or_else(again).map(|write| Write { refreshed, ..write })
            }
            Err(unfit) => {
                if let Unfit::Differences { .. } = unfit {
                    tracing::info!(zone = %self.origin(), %primary, reason = %unfit, "the whole zone is asked for");
                    (self.favourite, self.next) = (Some(primary.ip().to_canonical()), Next::Whole);
                    self.schedule.notify(self.clock.now().mono);
                }
                self.fail(vec![(primary, unfit.to_string())]);
                None
            }
        }
    }

    /// A primary has the zone as it is here. Returns since when the copy counts.
    fn succeed(&mut self, primary: SocketAddr, expires_in: Option<Duration>) -> Wall {
        let now = self.clock.now();
        let timers = Timers::of(self.zone.contents().settings());
        self.schedule.succeed(timers, expires_in, now.mono);
        let since = now.wall.before(self.schedule.age(now.mono));
        self.favourite = Some(primary.ip().to_canonical());
        if !std::mem::take(&mut self.told).is_empty() {
            tracing::info!(zone = %self.origin(), %primary, "a primary answers again");
        }
        if !self.is_shown() {
            aside(|| self.visible.show(self.zone.snapshot()));
        }
        let is_due = |noted: Wall| now.wall.since(noted).max(noted.since(now.wall)) >= timers.note_interval();
        // What is being written says so itself.
        if self.kept.is_whole && self.kept.missing.is_none() && self.kept.noted.is_none_or(is_due) {
            self.kept.noted = Some(since);
            // Should it be refused, the copy looks a little older after a restart.
            tokio::spawn(self.store.refreshed(self.origin(), since));
        }
        {
            let mut state = self.state.lock().expect("no panic holds it");
            (state.primary, state.refreshed) = (Some(primary), Some(since));
        }
        self.tell(now, false, Some(Failures::new()));
        since
    }

    fn fail(&mut self, failures: Failures) {
        let now = self.clock.now();
        self.schedule.fail(now.mono);
        self.state.lock().expect("no panic holds it").rounds.failed += 1;
        let lines = failures.iter().map(|(primary, failure)| format!("{primary}: {failure}"));
        let primaries = lines.collect::<Vec<_>>().join("; ");
        let zone = self.origin();
        if self.told.contains(&primaries) || self.told.len() >= TOLD {
            tracing::debug!(%zone, primaries, "no primary has the zone");
        } else {
            tracing::warn!(%zone, primaries, "no primary has the zone; they are asked again until one does");
            self.told.push(primaries);
        }
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
        self.visible.served.expires.store(state.expires.map(Arc::new));
        state.expired = !self.schedule.is_good(now.mono);
        if let Some(failures) = failures {
            state.failures = failures;
        }
    }

    // ---- taking over --------------------------------------------------------------------------------------------

    /// Makes what came visible; returns what the store is to keep of it.
    fn take(&mut self, primary: SocketAddr, transferred: Transferred) -> Result<Option<Write>, Unfit> {
        let contents = self.zone.contents();
        let (soa, changes) = match transferred {
            Transferred::Whole(whole) => {
                warn_of_signatures(&whole.soa.owner, &whole.nodes);
                let changes = copy::replace(contents, &whole.soa, whole.nodes)?;
                (whole.soa, changes)
            }
            Transferred::Changes(differences) => {
                let changes = copy::amend(contents, &differences)?;
                let Some(last) = differences.into_iter().next_back() else { return Ok(None) };
                (last.to, changes)
            }
            Transferred::Current(_) => return Ok(None),
        };
        let before = self.zone.snapshot().clone();
        let at = self.clock.now().wall;
        let cause = Cause::Transferred(format!("primary {primary}").into());
        for change in changes {
            self.zone.change(CausedChange { change, cause: cause.clone() }, at);
        }
        let epoch = copy::epoch_after(before.epoch, serial_of(&soa));
        let staged = self.zone.stage_copy(epoch, at);
        let Some(commit) = staged.commit.clone() else { return Ok(None) };
        if let Some(published) = self.zone.publish(staged) {
            let shown = (!before.is_empty()).then_some(&before);
            self.visible.advance(shown, &published, &commit);
        }
        let write = if self.kept.is_whole { self.difference(&commit) } else { self.whole(commit.clone()) };
        self.kept.missing = Some(commit);
        Ok(Some(write))
    }
}

/// Waits for what is under way, if something is.
async fn settle<T>(under_way: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match under_way {
        Some(under_way) => under_way.await,
        None => std::future::pending().await,
    }
}

/// A signed zone is served without its signatures beside what they sign.
fn warn_of_signatures(origin: &Name, nodes: &[StaticNode]) {
    let is_signed =
        |node: &StaticNode| node.name == *origin && node.rrsets.iter().any(|rrset| rrset.rtype == RecordType::DNSKEY);
    if nodes.iter().any(is_signed) {
        tracing::warn!(
            zone = %origin,
            "the zone is signed, and livezone answers without signatures: validating resolvers take its answers for forged \
             if the parent has a DS record; serve it unsigned, or by a server that signs"
        );
    }
}

/// Whether taking it over takes long enough to be felt.
fn is_large(transferred: &Transferred) -> bool {
    match transferred {
        Transferred::Whole(_) => true,
        Transferred::Changes(differences) => {
            let records = |difference: &Difference| difference.delta.removed.len() + difference.delta.added.len();
            differences.iter().map(records).sum::<usize>() > MANY
        }
        Transferred::Current(_) => false,
    }
}

#[cfg(test)]
mod tests;
