//! Times in which the process stood still: stopped, starved, or the machine suspended.
//!
//! While nobody could be heard, no lease should end for want of a heartbeat. A lease that ran when a stall began goes on
//! for the stall's length, and for one usual interval more, in which a member that is alive is heard of. Several stalls
//! since the last heartbeat add their lengths, but that interval counts once: so a member that is dead is kept as long as
//! the process stood still and an interval, however often that happens.
//!
//! Whoever drives the table looks at the clock at least every [`PULSE`]; a stall is where it did not. What the wall clock
//! does plays no part. Other threads count heartbeats without that look: one that came after the last look, and so perhaps
//! just before everything stood still, has what followed it of the stall.
//!
//! Bounds: the last `STALLS` count. Whoever has let more of them pass, each of which ended, without a heartbeat, had its
//! chance: such a lease may end.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Monotonic;

use super::cell::Reading;

/// How often the clock is looked at while leases run.
pub const PULSE: Duration = Duration::from_millis(100);
/// A process that is well looks at the clock more often than this; a shorter delay is how machines are under load.
pub const SHORTEST_STALL: Duration = Duration::from_millis(250);
/// Stalls kept: a quarter of an hour at least of standing still, and at most 96 KiB.
const STALLS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Stall {
    from: Monotonic,
    length: Duration,
}

impl Stall {
    fn end(&self) -> Monotonic {
        self.from.after(self.length)
    }
}

/// The stalls of late.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// When the clock was looked at last.
    seen: Option<Monotonic>,
    /// In order.
    stalls: VecDeque<Stall>,
}

impl Stalls {
    /// Notes that the process is running. Returns the length of the stall that ends here, if leases ran and there was one.
    pub(super) fn observe(&mut self, now: Monotonic, leases_run: bool) -> Option<Duration> {
        let from = self.seen.replace(now)?;
        let length = now.since(from);
        if length < SHORTEST_STALL || !leases_run {
            return None;
        }
        if self.stalls.len() == STALLS {
            self.stalls.pop_front();
        }
        self.stalls.push_back(Stall { from, length });
        Some(length)
    }

    /// When something really ends that would end then (a lease, or its grace), by the stalls since the last heartbeat.
    pub(super) fn extend(&self, reading: &Reading, end: Monotonic) -> Monotonic {
        // Not `reading.last`, which heartbeats in quick succession leave where it is.
        self.extend_from(reading.deadline.before(reading.lease.duration()), reading, end)
    }

    /// The same of something that began after the last heartbeat, by the stalls since then.
    pub(super) fn extend_from(&self, from: Monotonic, reading: &Reading, end: Monotonic) -> Monotonic {
        let since = self.stalls.partition_point(|stall| stall.end() <= from);
        let mut extended = end;
        for stall in self.stalls.range(since..) {
            if extended <= stall.from {
                break; // it had ended by then, and later ones come later
            }
            if extended == end {
                extended = extended.after(reading.usual_interval().unwrap_or(reading.lease.duration()));
            }
            extended = extended.after(stall.length.min(stall.end().since(from)));
        }
        extended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::base::{Lease, Name, Now, Wall};
    use crate::membership::{Index, Item, Member, MemberId, Owner, Registration, State, Table};

    use super::*;

    const LEASE: u64 = 10_000;
    /// On the grid of expiry and of the pulse.
    const START: u64 = 1_000_000;

    /// A table with one member, whose driver looks at the clock as it should.
    struct Driven {
        table: Table,
        now: u64,
        member: Index,
    }

    impl Driven {
        fn with_grace(grace: u64) -> Driven {
            let mut table = Table::new(Duration::from_millis(grace));
            let registration = Registration {
                target: "a.x.z.".parse().unwrap(),
                port: 80,
                priority: 0,
                weight: 0,
                addresses: Box::default(),
                metadata: Box::default(),
            };
            let member = Member {
                service: "_x._tcp.z.".parse::<Name>().unwrap(),
                id: MemberId::new("a").unwrap(),
                registration: Arc::new(registration),
                owner: Owner("test".into()),
                lease: Lease(u32::try_from(LEASE / 1000).unwrap()),
                state: State::Up,
                decided: crate::membership::Decided::default(),
            };
            let member = table.put(Item::Member(member), None).unwrap();
            table.accept(Now { mono: Monotonic(START), wall: Wall(0) });
            assert_eq!(table.observe(Monotonic(START)), None);
            Driven { table, now: START, member }
        }

        fn new() -> Driven {
            Driven::with_grace(0)
        }

        /// Lets time pass with a look at the clock in every pulse; returns when the member lapsed, if it did.
        fn run(&mut self, millis: u64) -> Option<u64> {
            let end = self.now + millis;
            while self.now < end {
                self.now = (self.now + 50).min(end);
                self.table.observe(Monotonic(self.now));
                if self.table.lapsed(Monotonic(self.now)).contains(&self.member) {
                    return Some(self.now - START);
                }
            }
            None
        }

        /// Nothing runs for so long.
        fn stall(&mut self, millis: u64) {
            self.now += millis;
            let seen = self.table.observe(Monotonic(self.now));
            assert_eq!(seen, (millis >= 250).then(|| Duration::from_millis(millis)));
        }

        /// A heartbeat that another thread counts, so long after the last look at the clock.
        fn renew_in_place(&mut self, after: u64) {
            self.table.renew(self.member, Monotonic(self.now + after), None);
        }

        fn renew(&mut self) {
            self.table.renew(self.member, Monotonic(self.now), None);
        }
    }

    #[test]
    fn a_heartbeat_between_the_last_look_at_the_clock_and_a_stall_has_what_followed_it() {
        let mut driven = Driven::new();
        driven.renew_in_place(60);
        driven.stall(30_060);
        // A lease, the 30 s, and a lease in place of the usual interval: 50.06 s; the next look comes at 50.11 s.
        assert_eq!(driven.run(60_000), Some(50_110));
    }

    #[test]
    fn a_heartbeat_in_the_moment_after_a_stall_has_that_moment() {
        let mut driven = Driven::new();
        driven.run(5_000);
        driven.renew_in_place(29_990);
        driven.stall(30_000);
        // Counted at 34.99 s, 10 ms before the look that finds the stall; an interval, of a lease at most, on top.
        assert_eq!(driven.run(60_000), Some(55_000));
    }

    #[test]
    fn without_a_stall_a_lease_ends_when_it_ends() {
        assert_eq!(Driven::new().run(60_000), Some(LEASE));
    }

    #[test]
    fn delays_that_are_shorter_than_a_stall_extend_nothing() {
        let mut driven = Driven::new();
        for _ in 0..20 {
            driven.stall(240);
        }
        assert_eq!(driven.run(60_000), Some(LEASE));
    }

    #[test]
    fn a_stall_extends_a_lease_by_its_length_and_a_usual_interval() {
        let mut driven = Driven::new();
        driven.run(3_000);
        driven.renew();
        driven.run(1_000);
        driven.stall(30_000);
        assert_eq!(driven.run(60_000), Some(3_000 + LEASE + 30_000 + 3_000));
    }

    #[test]
    fn whoever_has_no_usual_interval_yet_is_given_a_lease() {
        let mut driven = Driven::new();
        driven.run(9_000);
        driven.stall(30_000);
        assert_eq!(driven.run(60_000), Some(LEASE + 30_000 + LEASE));
    }

    #[test]
    fn a_stall_over_the_end_of_a_lease_extends_it_too() {
        let mut driven = Driven::new();
        driven.run(LEASE - 50);
        driven.stall(300);
        assert_eq!(driven.run(60_000), Some(LEASE + 300 + LEASE));
    }

    #[test]
    fn several_stalls_add_their_lengths_and_the_interval_counts_once() {
        let mut driven = Driven::new();
        for _ in 0..10 {
            driven.run(500);
            driven.stall(1_000);
        }
        assert_eq!(driven.run(120_000), Some(LEASE + 10_000 + LEASE));
    }

    #[test]
    fn a_heartbeat_after_the_stall_ends_its_effect() {
        let mut driven = Driven::new();
        driven.run(3_000);
        driven.stall(30_000);
        driven.renew();
        assert_eq!(driven.run(60_000), Some(33_000 + LEASE));
    }

    #[test]
    fn a_heartbeat_within_a_second_of_the_last_one_counts_as_heard() {
        let mut driven = Driven::new();
        driven.run(500);
        driven.stall(300);
        driven.renew(); // too soon to count as an interval
        assert_eq!(driven.run(60_000), Some(800 + LEASE));
    }

    #[test]
    fn a_lease_that_had_ended_before_the_stall_is_not_revived() {
        let mut driven = Driven::new();
        assert_eq!(driven.run(LEASE), Some(LEASE));
        // The store refuses; then nothing runs.
        driven.table.remove(driven.member, None);
        driven.table.abandon(Monotonic(driven.now), Monotonic(driven.now));
        driven.run(100);
        driven.stall(30_000);
        assert_eq!(driven.run(1_000), Some(LEASE + 30_150));
    }

    #[test]
    fn a_stall_extends_the_grace_as_well() {
        let mut driven = Driven::with_grace(5_000);
        driven.run(LEASE + 2_000); // suspect
        driven.stall(20_000);
        assert_eq!(driven.run(60_000), Some(LEASE + 5_000 + 20_000 + LEASE));
    }

    #[test]
    fn whoever_lets_more_stalls_pass_than_are_kept_has_had_its_chance() {
        let mut driven = Driven::new();
        let kept = u64::try_from(STALLS).unwrap();
        for _ in 0..kept {
            driven.stall(300);
        }
        assert_eq!(driven.table.lapsed(Monotonic(driven.now)), []);
        for _ in 0..kept {
            driven.stall(300);
        }
        assert_eq!(driven.table.lapsed(Monotonic(driven.now)), [driven.member]);
    }

    #[test]
    fn stalls_before_the_last_heartbeat_keep_nobody_however_many_they_were() {
        let mut driven = Driven::new();
        for _ in 0..5_000 {
            driven.stall(300);
            driven.run(700);
            driven.renew();
        }
        let heard = driven.now - START;
        for _ in 0..70 {
            driven.stall(250);
        }
        assert_eq!(driven.run(600_000), Some(heard + LEASE + 70 * 250 + 1_000));
    }

    #[test]
    fn nobody_looks_at_the_clock_while_nobody_is_there() {
        let mut table = Table::new(Duration::ZERO);
        assert_eq!(table.observe(Monotonic(START)), None);
        assert_eq!(table.observe(Monotonic(START + 3_600_000)), None);
    }
}
