//! What a zone tells of itself in numbers, for whoever looks in passing: left here by its only writer, and read without it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::Wall;
use crate::membership::{Census, State};

/// Figures of one zone since it began to run here.
#[derive(Debug, Default)]
pub struct Figures {
    commits: AtomicU64,
    /// In milliseconds since the Unix epoch; zero: there was none.
    last_commit: AtomicU64,
    /// Whether the membership is known here: it is not of a copy.
    counted: AtomicBool,
    members: [AtomicU64; State::ALL.len()],
    leased: AtomicU64,
    held: AtomicU64,
    services: AtomicU64,
}

/// Who is in a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Population {
    members: [u64; State::ALL.len()],
    /// Leased records.
    pub leased: u64,
    /// Addresses that wait for their member.
    pub held: u64,
    /// Services that the zone knows.
    pub services: u64,
}

impl Population {
    /// Members in a state.
    pub fn members(&self, state: State) -> u64 {
        self.members[state as usize]
    }
}

impl Figures {
    /// A commit is visible.
    pub fn committed(&self, at: Wall) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.last_commit.store(at.0, Ordering::Relaxed);
    }

    /// How many commits became visible, and when the last one was proposed.
    pub fn commits(&self) -> (u64, Option<Wall>) {
        let last = self.last_commit.load(Ordering::Relaxed);
        (self.commits.load(Ordering::Relaxed), (last > 0).then_some(Wall(last)))
    }

    /// Notes who is in the zone.
    pub fn populate(&self, census: &Census, services: usize) {
        let store = |place: &AtomicU64, count: usize| {
            place.store(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        };
        for state in State::ALL {
            store(&self.members[state as usize], census.members(state));
        }
        store(&self.leased, census.leased);
        store(&self.held, census.held);
        store(&self.services, services);
        self.counted.store(true, Ordering::Relaxed);
    }

    /// Who is in the zone, if that is known here.
    pub fn population(&self) -> Option<Population> {
        let load = |place: &AtomicU64| place.load(Ordering::Relaxed);
        self.counted.load(Ordering::Relaxed).then(|| Population {
            members: std::array::from_fn(|state| load(&self.members[state])),
            leased: load(&self.leased),
            held: load(&self.held),
            services: load(&self.services),
        })
    }
}
