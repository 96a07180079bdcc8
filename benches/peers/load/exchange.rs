//! What a load does over either transport: messages that are due go into slots, and answers are matched with them and counted.

use std::time::{Duration, Instant};

use super::slots::Slots;
use super::{Load, Outcome, Plan, thread_cpu};

/// Nanoseconds since a generator began, as they were when it was last looked.
pub(super) struct Clock {
    start: Instant,
    /// CPU time that its thread had used before.
    cpu: Duration,
    pub(super) now: u64,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { cpu: thread_cpu(), start: Instant::now(), now: 0 }
    }

    pub(super) fn look(&mut self) -> u64 {
        self.now = self.start.elapsed().as_nanos() as u64;
        self.now
    }
}

/// A load on its way, over however many sockets or connections.
pub(super) struct Exchange<'l, L> {
    pub(super) plan: &'l Plan,
    load: &'l mut L,
    pub(super) outcome: Outcome,
    /// Whether there is more to send; if not, answers are waited for.
    pub(super) sending: bool,
}

impl<'l, L: Load> Exchange<'l, L> {
    pub(super) fn new(plan: &'l Plan, load: &'l mut L) -> Exchange<'l, L> {
        Exchange { plan, load, outcome: Outcome::default(), sending: true }
    }

    /// Writes the next message into a slot if time, rate, window and load allow one.
    pub(super) fn write(&mut self, slots: &mut Slots<L::Task>, now: u64) -> Option<usize> {
        let due = self.plan.due(self.outcome.sent);
        if !self.sending || due.is_some_and(|due| due > now) {
            return None;
        }
        let number = slots.take()?;
        let slot = slots.slot_mut(number);
        if !self.load.write(slot) {
            slots.give_back(number);
            return None;
        }
        slot.first = due.unwrap_or(now);
        self.outcome.sent += 1;
        Some(number)
    }

    /// Counts an answer; tells the slot of the message that it answers, which is free again.
    pub(super) fn take_answer(&mut self, slots: &mut Slots<L::Task>, answer: &[u8], now: u64) -> Option<usize> {
        let Some(number) = slots.answered_by(answer) else {
            self.outcome.stray += 1;
            return None;
        };
        let slot = slots.slot(number);
        if slot.attempts == 0 || !self.load.read(slot, answer) {
            self.outcome.mismatched += 1;
            return None;
        }
        self.outcome.count(answer, now.saturating_sub(slot.first));
        slots.give_back(number);
        Some(number)
    }

    /// Gives a message up.
    pub(super) fn lose(&mut self, slots: &mut Slots<L::Task>, number: usize) {
        self.outcome.lost += 1;
        self.load.lose(&slots.slot(number).task);
        slots.give_back(number);
    }

    /// When sending ends at the latest.
    pub(super) fn end(&self) -> u64 {
        self.plan.duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64)
    }

    /// Sends no more once the time is over, or the load is done.
    pub(super) fn end_in_time(&mut self, now: u64) {
        if self.sending && (now >= self.end() || self.load.is_done()) {
            self.sending = false;
            (self.outcome.took, self.outcome.in_time) = (Duration::from_nanos(now), self.outcome.answered);
        }
    }

    pub(super) fn finish(mut self, clock: &Clock) -> Outcome {
        self.outcome.cpu = thread_cpu() - clock.cpu;
        self.outcome.waited = self.outcome.waited.min(self.outcome.cpu);
        self.outcome
    }
}
