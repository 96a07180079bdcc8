//! The end: drained, waited for, removed; each step within its time.

use std::time::Duration;

use crate::base::Monotonic;

use super::{Action, Aim, Machine, Seat};

/// How long the last withdrawal is tried, as a part of the time for draining: the lease ends by itself soon after.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// How the end is coming.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    No,
    Draining { until: Monotonic, waits: bool },
    Leaving { until: Monotonic, clean: bool },
    Ended,
}

impl Machine {
    pub(super) fn stop(&mut self, now: Monotonic) {
        match self.stop {
            Stop::No if self.plan.drain_timeout.is_zero() => self.leave(true, now),
            Stop::No => {
                let is_there = self.aim() == Aim::Present && self.seats.iter().any(|seat| seat.doubtful.is_some());
                match is_there {
                    true => {
                        let timeout = self.plan.drain_timeout;
                        let until = now.after(timeout - LEAVE_PATIENCE.min(timeout / 4));
                        self.end = Some(now.after(timeout));
                        self.stop = Stop::Draining { until, waits: false };
                        self.hurry(now);
                    }
                    // Its withdrawal may still be under way.
                    false => self.leave(true, now),
                }
            }
            Stop::Draining { .. } => self.leave(false, now),
            Stop::Leaving { .. } | Stop::Ended => {}
        }
    }

    pub(super) fn leave(&mut self, clean: bool, now: Monotonic) {
        let until = now.after(LEAVE_PATIENCE);
        self.stop = Stop::Leaving { until: self.end.map_or(until, |end| end.min(until)), clean };
        self.hurry(now);
    }

    /// Goes on with the end, once everything before it is done.
    pub(super) fn wind_up(&mut self, now: Monotonic) {
        match self.stop {
            Stop::Draining { until, waits: false } => {
                let open: Vec<&Seat> = self.seats.iter().filter(|seat| seat.doubtful.is_some()).collect();
                if open.is_empty() {
                    // The leases ended before any server could be told: who uses the member is not known.
                    self.leave(false, now);
                    self.wind_up(now);
                } else if open.iter().all(|seat| seat.drained) {
                    let servers = open.iter().map(|seat| seat.servers[seat.turn]).collect();
                    self.stop = Stop::Draining { until, waits: true };
                    self.actions.push_back(Action::WaitUntilSafe { servers });
                }
            }
            Stop::Leaving { until, clean } => {
                let done = self.seats.iter().all(|seat| seat.doubtful.is_none() && seat.flight.is_none());
                if done || until <= now {
                    self.stop = Stop::Ended;
                    self.actions.push_back(Action::End { clean: clean && done });
                }
            }
            _ => {}
        }
    }
}
