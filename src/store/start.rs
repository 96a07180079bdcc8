//! Whom a restart gives a fresh lease.
//!
//! While the process was down nobody could renew, so a restart has to give time. But if every restart gave everyone a fresh
//! lease, a process that crashes in a loop would keep the dead for ever. The rule: a start gives a fresh lease only to
//! those who renewed since the previous start; the others keep the wall-clock deadline which that start (or an earlier
//! one) gave them. So the store keeps per item the number of the run that it last renewed in, and the times of the starts.

use serde::{Deserialize, Serialize};

use crate::base::{Lease, Monotonic, Now, Wall};

/// The starts of a zone's server, in order; the last is the current run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Starts {
    /// The number of the first start that is kept.
    first: u32,
    times: Vec<Wall>,
}

/// Starts kept. A lease that outlives this many restarts is counted from the oldest one kept.
const KEPT: usize = 1024;

impl Starts {
    /// Notes a start and returns the number of its run.
    pub fn begin(&mut self, now: Wall) -> u32 {
        self.times.push(now);
        if self.times.len() > KEPT {
            self.times.remove(0);
            self.first += 1;
        }
        self.current()
    }

    /// The number of the current run; runs count from 1, and 0 is before the first.
    pub fn current(&self) -> u32 {
        self.first + u32::try_from(self.times.len()).expect("bounded")
    }

    /// When the lease of an item ends that last renewed in run `renewed`, as of a start at `now`.
    pub fn deadline(&self, renewed: u32, lease: Lease, now: Now) -> Monotonic {
        let fresh = now.mono.after(lease.duration());
        // The start after its last renewal gave it a lease. Of the current run, that is now.
        if renewed + 1 >= self.current() {
            return fresh;
        }
        let at = usize::try_from(renewed.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let Some(given) = self.times.get(at) else { return fresh };
        let left = given.after(lease.duration()).since(now.wall);
        now.mono.after(left).min(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(seconds: u64) -> Now {
        Now { mono: Monotonic(1000), wall: Wall(seconds * 1000) }
    }

    #[test]
    fn who_renewed_since_the_previous_start_gets_a_fresh_lease() {
        let mut starts = Starts::default();
        assert_eq!(starts.begin(Wall(100_000)), 1);
        assert_eq!(starts.begin(Wall(200_000)), 2);
        assert_eq!(starts.deadline(1, Lease(15), now(200)), Monotonic(16_000));
    }

    #[test]
    fn who_did_not_keeps_the_deadline_that_the_start_after_its_last_renewal_gave() {
        let mut starts = Starts::default();
        starts.begin(Wall(100_000)); // run 1: renews
        starts.begin(Wall(200_000)); // run 2 gives until 215
        starts.begin(Wall(205_000)); // run 3
        assert_eq!(starts.deadline(1, Lease(15), now(205)), Monotonic(11_000));
        starts.begin(Wall(212_000)); // run 4: a crash loop gives nothing more
        assert_eq!(starts.deadline(1, Lease(15), now(212)), Monotonic(4_000));
        starts.begin(Wall(300_000));
        assert_eq!(starts.deadline(1, Lease(15), now(300)), Monotonic(1_000));
    }

    #[test]
    fn a_clock_set_back_never_gives_more_than_a_fresh_lease() {
        let mut starts = Starts::default();
        for at in [100_000, 200_000, 50_000] {
            starts.begin(Wall(at));
        }
        assert_eq!(starts.deadline(1, Lease(15), now(50)), Monotonic(16_000));
    }

    #[test]
    fn starts_beyond_those_kept_are_forgotten_from_the_oldest() {
        let mut starts = Starts::default();
        for at in 0..3000 {
            assert_eq!(starts.begin(Wall(at * 1000)), u32::try_from(at).unwrap() + 1);
        }
        assert_eq!(starts.times.len(), KEPT);
        // Long past, and from the oldest start that is known: over.
        assert_eq!(starts.deadline(1, Lease(15), now(2999)), Monotonic(1000));
        assert_eq!(starts.deadline(2998, Lease(15), now(2999)), Monotonic(1000 + 14_000));
        assert_eq!(starts.deadline(2999, Lease(15), now(2999)), Monotonic(16_000));
    }
}
