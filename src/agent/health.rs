//! Whether a service is well, by its checks: so many good ones in a row make it so, so many bad ones in a row end that.

use std::time::Duration;

use crate::base::Monotonic;

/// How a service is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rhythm {
    /// From the start of one check to that of the next.
    pub interval: Duration,
    /// Good checks in a row that make a service well.
    pub rise: u32,
    /// Bad ones in a row that end that.
    pub fall: u32,
}

/// What checks have told so far.
#[derive(Clone, Debug)]
pub struct Health {
    /// Without one, the service is always well.
    rhythm: Option<Rhythm>,
    well: bool,
    /// Checks in a row that speak against `well`.
    against: u32,
    /// When the next one begins; `None` while one is under way.
    due: Option<Monotonic>,
    next: Monotonic,
}

impl Health {
    /// Nothing is known at first: a service with checks isn't well until they say so.
    pub fn new(rhythm: Option<Rhythm>, now: Monotonic) -> Health {
        Health { rhythm, well: rhythm.is_none(), against: 0, due: rhythm.map(|_| now), next: now }
    }

    /// Whether the service is well.
    pub fn is_well(&self) -> bool {
        self.well
    }

    /// When the next check begins.
    pub fn due(&self) -> Option<Monotonic> {
        self.due
    }

    /// Whether a check begins now.
    pub fn begin(&mut self, now: Monotonic) -> bool {
        let (Some(rhythm), true) = (self.rhythm, self.due.is_some_and(|due| due <= now)) else { return false };
        self.due = None;
        self.next = now.after(rhythm.interval);
        true
    }

    /// A check ended.
    pub fn checked(&mut self, well: bool, now: Monotonic) {
        let Some(rhythm) = self.rhythm else { return };
        self.due = Some(self.next.max(now));
        if well == self.well {
            self.against = 0;
            return;
        }
        self.against += 1;
        if self.against >= if well { rhythm.rise } else { rhythm.fall } {
            (self.well, self.against) = (well, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_rise_good_checks_in_a_row_and_fall_bad_ones() {
        let rhythm = Rhythm { interval: Duration::from_secs(2), rise: 2, fall: 3 };
        let mut health = Health::new(Some(rhythm), Monotonic(0));
        let mut now = Monotonic(0);
        let mut run = |results: &str| -> String {
            let one = |result| {
                assert!(health.begin(now) && !health.begin(now), "one at a time");
                health.checked(result == '+', now.after(Duration::from_millis(5)));
                now = health.due().unwrap();
                if health.is_well() { 'w' } else { 'i' }
            };
            results.chars().map(one).collect()
        };
        assert_eq!(run("+-++"), "iiiw");
        assert_eq!(run("--+---"), "wwwwwi");
        assert_eq!(run("+-+-++"), "iiiiiw");
        assert_eq!(now, Monotonic(16 * 2000), "from start to start");
    }

    #[test]
    fn a_slow_check_is_followed_at_once_and_no_check_is_always_well() {
        let rhythm = Rhythm { interval: Duration::from_secs(2), rise: 1, fall: 1 };
        let mut health = Health::new(Some(rhythm), Monotonic(0));
        assert!(health.begin(Monotonic(0)));
        assert_eq!(health.due(), None);
        health.checked(true, Monotonic(5000));
        assert_eq!(health.due(), Some(Monotonic(5000)));
        let mut unchecked = Health::new(None, Monotonic(0));
        assert!(unchecked.is_well() && unchecked.due().is_none() && !unchecked.begin(Monotonic(9)));
    }
}
