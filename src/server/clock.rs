//! The clocks of the process.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::base::{Monotonic, Now, Wall};

/// What tells the time: the machine's clocks, or those of a simulation.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// One reading of both clocks.
    fn now(&self) -> Now;
}

/// The machine's clocks.
///
/// The monotonic one goes on while the machine is suspended (CLOCK_BOOTTIME), so that a suspension shows as a time in
/// which nothing ran ([`crate::membership::stall`]); CLOCK_MONOTONIC would hide it, and leave a lease what little was left
/// of it before.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Duration,
}

/// The monotonic clock starts here rather than at zero, which stands for "never".
const BASE: Duration = Duration::from_secs(1);

impl SystemClock {
    /// A clock that starts now.
    pub fn start() -> SystemClock {
        SystemClock { start: since_boot() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Monotonic(0).after(BASE + since_boot().saturating_sub(self.start)), wall: Wall(0).after(wall) }
    }
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::Boottime).try_into().expect("the time since boot is not negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_at_its_base_and_goes_forward() {
        let clock = SystemClock::start();
        let first = clock.now();
        assert!(first.mono >= Monotonic(1000) && first.mono < Monotonic(6000), "{first:?}");
        assert!(first.wall.seconds() > 1_700_000_000);
        let later = clock.now();
        assert!(later.mono >= first.mono);
    }
}
