//! Who is told what, and when: the notifier without sockets and without a clock.
//!
//! Commits, targets and outcomes go in; [`Schedule::depart`] says who is to be told now, and [`Schedule::next_wake`] when to
//! ask again. The serial that goes out is the newest when it is sent, so that what a target is told depends on how fast it
//! answers and never on how many commits there were.
//!
//! Bounds: one request in flight a target, [`GAP`] between two of them; [`ATTEMPTS`] for a commit, with [`BACK_OFF`]
//! between those that are not answered; two lines a minute in the log for each target.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::{Monotonic, Name, Now, Serial, Wall};
use crate::dns::wire::Rcode;
use crate::net::peer::Failure;

/// The least time between two requests to a target, 20 a second: what a secondary can make something of, whatever the
/// commits are.
pub const GAP: Duration = Duration::from_millis(50);
/// The same for a target that does not answer, or refuses: it is told of a commit, but not of each.
pub const QUIET: Duration = Duration::from_secs(2);
/// How long after a request that was not answered the next one goes out; the last holds for all that follow (RFC 1996 §3.6
/// has 60 s).
pub const BACK_OFF: [Duration; 7] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// Requests without an answer, until a target is given up until the next commit: a good quarter of an hour. It asks by
/// itself when its refresh time is over.
pub const ATTEMPTS: u32 = 20;
/// How long an answer is waited for: longer than one takes from anywhere on earth, and not as long as the back-off, since
/// each that waits holds a socket.
const LISTEN: Duration = Duration::from_secs(4);
/// The same for a target that has been silent for a while, of which there may be many.
const LISTEN_TO_THE_SILENT: Duration = Duration::from_secs(1);
/// Requests without an answer, until a target counts as silent: datagrams get lost.
const SILENT: u32 = 3;
/// How long nothing bad is logged of a target of which something bad was.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// A server that is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// The key that requests to it are signed with.
    pub key: Option<Name>,
    /// Whether the configuration lists it; else it is a name server of the zone.
    pub is_listed: bool,
}

/// Why a target has not said that it knows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Miss {
    /// No answer that counts.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// It answers that it can't, for now.
    #[error("it answers {0}")]
    Rcode(Rcode),
    /// Its key is gone from the configuration; unsigned it is told nothing.
    #[error("key {0} is not configured any more")]
    NoKey(Name),
}

/// How a target stands to the newest commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is being told, and nothing is wrong.
    Waiting,
    /// It knows.
    Acknowledged,
    /// It has not answered, and is told again.
    Missed(Miss),
    /// It wants to know nothing. It is told again of the next commit.
    Refused(Rcode),
}

impl Standing {
    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::Waiting => "waiting",
            Standing::Acknowledged => "acknowledged",
            Standing::Missed(Miss::Failure(Failure::Unreachable(_))) => "unreachable",
            Standing::Missed(_) => "unanswered",
            Standing::Refused(_) => "refused",
        }
    }

    /// What is wrong, if something is.
    pub fn reason(&self) -> Option<String> {
        match self {
            Standing::Waiting | Standing::Acknowledged => None,
            Standing::Missed(miss) => Some(miss.to_string()),
            Standing::Refused(rcode) => Some(format!("it answers {rcode}")),
        }
    }
}

/// What became of NOTIFY to one target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotifyState {
    /// The target.
    pub target: Target,
    /// The serial that it was told last.
    pub sent: Option<Serial>,
    /// The serial that it acknowledged last.
    pub acknowledged: Option<Serial>,
    /// How it stands.
    pub standing: Standing,
    /// Since when it stands so.
    pub since: Wall,
    /// Requests in a row that were not answered.
    pub attempts: u32,
    /// When it last acknowledged one.
    pub acknowledged_at: Option<Wall>,
    /// The serial of the last transfer to its address that came to its end.
    pub transferred: Option<Serial>,
    /// What came of requests so far.
    pub counts: Counts,
}

/// What came of requests to a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// It said that it knows.
    pub acknowledged: u64,
    /// It wants to know nothing.
    pub refused: u64,
    /// No answer that counts.
    pub missed: u64,
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The target answered.
    Answered(Rcode),
    /// It did not.
    Missed(Miss),
    /// The target is this server, which needs not be told.
    Own,
}

/// A request that is to go out now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Departure {
    /// To whom.
    pub address: SocketAddr,
    /// Signed with this key.
    pub key: Option<Name>,
    /// Which request it is.
    pub flight: Flight,
    /// How long to wait for its answer.
    pub listen: Duration,
    /// Whether its target has been silent for a while.
    pub is_silent: bool,
}

/// The number of a request, so that what comes of it is not taken for another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flight(u64);

/// Something worth a line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// It knows this serial, and did not before.
    Acknowledged(Serial),
    /// It has stopped answering, or never began.
    Silent(Miss),
    /// It refuses.
    Refused(Rcode),
}

/// All targets of a zone.
#[derive(Debug, Default)]
pub struct Schedule {
    newest: Option<Serial>,
    targets: BTreeMap<SocketAddr, Entry>,
    flights: u64,
}

#[derive(Debug)]
struct Entry {
    state: NotifyState,
    phase: Phase,
    /// When the last request went out, and with which serial.
    attempted: Option<Monotonic>,
    carried: Option<Serial>,
    /// Requests that may still stay without an answer.
    left: u32,
    /// What was logged last.
    told: Option<Told>,
    warned: Option<Monotonic>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It knows, or is given up.
    Idle,
    Due(Monotonic),
    InFlight(Flight),
    /// It turned out to be this server, which is tried again when the targets are set.
    Own,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Well,
    Silent,
    Refused(Rcode),
}

impl Schedule {
    /// Replaces the targets. Those that stay keep their state; what comes is told of the newest commit at once.
    pub fn set_targets(&mut self, targets: &[Target], now: Now) {
        self.targets.retain(|address, _| targets.iter().any(|target| target.address == *address));
        for target in targets {
            let entry = self.targets.entry(target.address).or_insert_with(|| Entry::new(target.clone(), now));
            let is_other_key = entry.state.target.key != target.key;
            entry.state.target = target.clone();
            if entry.phase == Phase::Own {
                entry.phase = Phase::Due(now.mono);
            } else if is_other_key {
                entry.try_again(now);
            }
        }
    }

    /// Notes a commit, and whoever is not told of one already is told at once. The same serial again is none.
    pub fn commit(&mut self, serial: Serial, now: Now) {
        if self.newest.replace(serial) == Some(serial) {
            return;
        }
        for entry in self.targets.values_mut() {
            entry.left = ATTEMPTS;
            match entry.phase {
                Phase::Idle => entry.phase = Phase::Due(entry.next_for_commit(now)),
                Phase::Due(at) => entry.phase = Phase::Due(at.min(entry.next_for_commit(now))),
                Phase::InFlight(_) | Phase::Own => {}
            }
            if entry.state.standing == Standing::Acknowledged {
                entry.stand(Standing::Waiting, now);
            }
        }
    }

    /// Tells those again who don't know: what was wrong with them may be mended.
    pub fn try_again(&mut self, now: Now) {
        self.targets.values_mut().for_each(|entry| entry.try_again(now));
    }

    /// Who is to be told now. Each is in flight from here on, until [`Schedule::settle`].
    pub fn depart(&mut self, now: Now) -> Vec<Departure> {
        let mut departures = Vec::new();
        if self.newest.is_none() {
            return departures;
        }
        for (&address, entry) in &mut self.targets {
            if !matches!(entry.phase, Phase::Due(at) if at <= now.mono) {
                continue;
            }
            self.flights += 1;
            let flight = Flight(self.flights);
            entry.phase = Phase::InFlight(flight);
            (entry.attempted, entry.carried) = (Some(now.mono), self.newest);
            let attempts = entry.state.attempts;
            let is_silent = attempts >= SILENT;
            let listen = back_off(attempts).min(if is_silent { LISTEN_TO_THE_SILENT } else { LISTEN });
            departures.push(Departure { address, key: entry.state.target.key.clone(), flight, listen, is_silent });
        }
        departures
    }

    /// Notes that a request goes out, with this serial: it may have had to wait for its turn.
    pub fn sent(&mut self, address: SocketAddr, flight: Flight, serial: Serial, now: Now) {
        if let Some(entry) = self.targets.get_mut(&address).filter(|entry| entry.phase == Phase::InFlight(flight)) {
            entry.state.sent = Some(serial);
            (entry.attempted, entry.carried) = (Some(now.mono), Some(serial));
        }
    }

    /// Notes what came of a request. What came of one to a target that has left meanwhile is nothing.
    pub fn settle(&mut self, address: SocketAddr, flight: Flight, outcome: Outcome, now: Now) -> Option<News> {
        let newest = self.newest;
        let entry = self.targets.get_mut(&address).filter(|entry| entry.phase == Phase::InFlight(flight))?;
        let is_behind = entry.carried != newest;
        match outcome {
            Outcome::Own => {
                entry.phase = Phase::Own;
                None
            }
            Outcome::Answered(Rcode::NOERROR) => {
                entry.state.acknowledged = entry.state.sent;
                entry.state.acknowledged_at = Some(now.wall);
                entry.state.counts.acknowledged += 1;
                entry.state.attempts = 0;
                entry.stand(if is_behind { Standing::Waiting } else { Standing::Acknowledged }, now);
                entry.go_on(is_behind, now);
                let is_news = entry.told.replace(Told::Well) != Some(Told::Well);
                entry.state.acknowledged.filter(|_| is_news).map(News::Acknowledged)
            }
            // A server that can't now may later (RFC 1035 §4.1.1).
            Outcome::Answered(Rcode::SERVFAIL) => entry.miss(Miss::Rcode(Rcode::SERVFAIL), is_behind, now),
            // The others mean that it never will, RFC 1996 §3.12: the transaction is complete.
            Outcome::Answered(rcode) => {
                entry.state.attempts = 0;
                entry.state.counts.refused += 1;
                entry.stand(Standing::Refused(rcode), now);
                entry.go_on(is_behind, now);
                entry.warn(Told::Refused(rcode), News::Refused(rcode), now)
            }
            Outcome::Missed(miss) => entry.miss(miss, is_behind, now),
        }
    }

    /// A transfer to this address has come to its end. All targets there have it: they can't be told apart by it.
    pub fn transferred(&mut self, address: IpAddr, serial: Serial) {
        let address = address.to_canonical();
        for (_, entry) in self.targets.iter_mut().filter(|(target, _)| target.ip().to_canonical() == address) {
            entry.state.transferred = Some(serial);
        }
    }

    /// When somebody is to be told next.
    pub fn next_wake(&self) -> Option<Monotonic> {
        self.newest?;
        let due = |entry: &Entry| if let Phase::Due(at) = entry.phase { Some(at) } else { None };
        self.targets.values().filter_map(due).min()
    }

    /// What became of NOTIFY to each target, by address.
    pub fn states(&self) -> Vec<NotifyState> {
        let others = self.targets.values().filter(|entry| entry.phase != Phase::Own);
        others.map(|entry| entry.state.clone()).collect()
    }
}

impl Entry {
    fn new(target: Target, now: Now) -> Entry {
        let state = NotifyState {
            target,
            sent: None,
            acknowledged: None,
            standing: Standing::Waiting,
            since: now.wall,
            attempts: 0,
            acknowledged_at: None,
            transferred: None,
            counts: Counts::default(),
        };
        Entry {
            state,
            phase: Phase::Due(now.mono),
            attempted: None,
            carried: None,
            left: ATTEMPTS,
            told: None,
            warned: None,
        }
    }

    fn stand(&mut self, standing: Standing, now: Now) {
        if standing.word() != self.state.standing.word() {
            self.state.since = now.wall;
        }
        self.state.standing = standing;
    }

    /// When it may be told of a commit at the earliest.
    fn next_for_commit(&self, now: Now) -> Monotonic {
        let is_well = matches!(self.state.standing, Standing::Waiting | Standing::Acknowledged);
        self.attempted.map_or(now.mono, |at| now.mono.max(at.after(if is_well { GAP } else { QUIET })))
    }

    /// After an answer: the next request, if there is something new.
    fn go_on(&mut self, is_behind: bool, now: Now) {
        self.left = ATTEMPTS;
        self.phase = if is_behind { Phase::Due(self.next_for_commit(now)) } else { Phase::Idle };
    }

    fn miss(&mut self, miss: Miss, is_behind: bool, now: Now) -> Option<News> {
        let pause = back_off(self.state.attempts);
        self.state.counts.missed += 1;
        self.state.attempts = self.state.attempts.saturating_add(1);
        self.left = self.left.saturating_sub(1);
        self.stand(Standing::Missed(miss.clone()), now);
        let again = now.mono.max(self.attempted.unwrap_or(now.mono).after(pause));
        self.phase = match (self.left, is_behind) {
            (0, _) => Phase::Idle,
            (_, true) => Phase::Due(again.min(self.next_for_commit(now))),
            (_, false) => Phase::Due(again),
        };
        if self.state.attempts < SILENT {
            return None;
        }
        self.warn(Told::Silent, News::Silent(miss), now)
    }

    fn warn(&mut self, told: Told, news: News, now: Now) -> Option<News> {
        let is_soon = self.warned.is_some_and(|at| now.mono < at.after(LOG_PAUSE));
        if self.told == Some(told) || is_soon {
            return None;
        }
        (self.told, self.warned) = (Some(told), Some(now.mono));
        Some(news)
    }

    fn try_again(&mut self, now: Now) {
        let is_well = matches!(self.state.standing, Standing::Waiting | Standing::Acknowledged);
        if !is_well && matches!(self.phase, Phase::Idle | Phase::Due(_)) {
            self.left = ATTEMPTS;
            self.state.attempts = 0;
            self.phase = Phase::Due(now.mono);
        }
    }
}

/// How long after a request the next one goes out, if so many before it were not answered either.
fn back_off(attempts: u32) -> Duration {
    let last = BACK_OFF.len() - 1;
    BACK_OFF[usize::try_from(attempts).map_or(last, |attempts| attempts.min(last))]
}

#[cfg(test)]
mod tests;
