//! Points in time. The core reads no clock: it is handed a [`Now`].
//!
//! Liveness is counted on the monotonic clock, which no operator or NTP daemon sets. What is compared with something
//! outside the process (TSIG's Time Signed, what the store keeps across a restart) is wall clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds on the monotonic clock, counted from a start that is the same for the whole process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The point this much later.
    pub fn after(self, span: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(millis(span)))
    }

    /// The point this much earlier, at the earliest the start of the clock.
    pub fn before(self, span: Duration) -> Monotonic {
        Monotonic(self.0.saturating_sub(millis(span)))
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds since the Unix epoch, on the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Wall(pub u64);

impl Wall {
    /// The point this much earlier, at the earliest the Unix epoch.
    pub fn before(self, span: Duration) -> Wall {
        Wall(self.0.saturating_sub(millis(span)))
    }

    /// The point this much later.
    pub fn after(self, span: Duration) -> Wall {
        Wall(self.0.saturating_add(millis(span)))
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since the Unix epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// For liveness.
    pub mono: Monotonic,
    /// For signatures and for what outlives the process.
    pub wall: Wall,
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
