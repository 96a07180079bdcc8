//! The clocks of the process.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::{Monotonic, Now, Wall};

/// Reads both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

/// The monotonic clock starts here rather than at zero, which stands for "never".
const BASE: Duration = Duration::from_secs(1);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// One reading.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Monotonic(0).after(BASE + self.start.elapsed()), wall: Wall(0).after(wall) }
    }

    /// The instant of a point on the monotonic clock, never before it.
    pub fn instant(&self, at: Monotonic) -> Instant {
        self.start + Duration::from_millis(at.0 + 1).saturating_sub(BASE)
    }
}
