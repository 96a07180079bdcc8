//! What time brings to a publisher: leases that end, a store that does not answer, services that nobody is in.

use crate::base::limits::{FORGET_SERVICE_AFTER, RECENT_UPDATE_AGE};
use crate::base::{Monotonic, Name, Now};
use crate::membership::{Decision, Item};
use crate::zone::{Cause, CausedChange, Change};

use super::submission::{Reply, Submission};
use super::{FORGETTING_INTERVAL, FORGIVEN_STALLS, NO_ANSWER, Publisher, busy, figures, not_ready};

impl Publisher {
    /// When [`Publisher::tick`] and [`Publisher::seal`] should be called next, requests aside.
    pub fn next_wake(&self) -> Option<Monotonic> {
        if let Some(in_flight) = &self.in_flight {
            return in_flight.patience_ends();
        }
        if !self.waiting.is_empty() {
            return Some(Monotonic(0)); // at once
        }
        let settled = self.batch.opened.map(|opened| opened.after(self.policy.settle));
        [settled, self.table.next_wake(), Some(self.next_forgetting), self.next_configuration()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Notes that the process is running; called before anything else is done after a wait, and at least every
    /// [`PULSE`](crate::membership::stall::PULSE) while [`Publisher::has_leases`].
    pub fn observe(&mut self, now: Monotonic) {
        let is_first = !std::mem::replace(&mut self.observed, true);
        let Some(stall) = self.table.observe(now) else { return };
        if let Some(in_flight) = self.in_flight.as_mut().filter(|in_flight| in_flight.stalls < FORGIVEN_STALLS) {
            in_flight.stalls += 1;
            in_flight.stalled += stall.min(now.since(in_flight.since));
        }
        let zone = self.snapshot().origin();
        if is_first {
            tracing::info!(%zone, took = ?stall, "leases go on for as long as the start took, and an interval");
        } else {
            tracing::warn!(%zone, ?stall, "the process stood still; leases that ran go on for as long, and an interval");
        }
    }

    /// Whether leases run.
    pub fn has_leases(&self) -> bool {
        !self.table.is_empty()
    }

    /// Lets time pass: what has lapsed joins the batch.
    pub fn tick(&mut self, now: Now) {
        if let Some(in_flight) = &self.in_flight {
            if in_flight.patience_ends().is_some_and(|end| now.mono >= end) {
                self.give_up();
            }
            return;
        }
        self.retry_configuration(now);
        let mut changes = Vec::new();
        for Decision { index, after, reason } in self.table.tick(now) {
            let Some(item) = self.table.item(index).cloned() else { continue };
            let cause = reason.map_or(Cause::Lapsed, Cause::Policy);
            reason.into_iter().for_each(|reason| self.counters.figures.decisions.count(reason));
            match after {
                None => {
                    self.table.remove(index, None);
                    self.batch.lapsed.insert(item.key());
                    changes.push((item, cause, true));
                }
                Some(member) => {
                    let amended = self.table.amend(Item::Member(*member)).ok();
                    let item = amended.and_then(|index| self.table.item(index)).cloned();
                    changes.extend(item.map(|item| (item, cause, false)));
                }
            }
        }
        if !changes.is_empty() {
            self.publish_items(changes, now);
            self.open(now);
        }
        if now.mono >= self.next_forgetting {
            self.next_forgetting = now.mono.after(FORGETTING_INTERVAL);
            self.forget_services(now);
        }
        while self.recent_order.front().is_some_and(|(at, _)| now.mono.since(*at) > RECENT_UPDATE_AGE) {
            self.drop_oldest_recent();
        }
    }

    /// The store does not answer: whoever waits for it is told so. What is under way may come into force all the same;
    /// registrations can be sent again.
    fn give_up(&mut self) {
        let Some(in_flight) = &mut self.in_flight else { return };
        in_flight.given_up = true;
        let replies = std::mem::take(&mut in_flight.replies).into_iter();
        let waiting = self.waiting.take().into_iter().map(|submission| match submission {
            Submission::Update(update) => Reply::Update(update, not_ready(NO_ANSWER), figures::Outcome::Unavailable),
            Submission::Orders(orders) => Reply::Orders(orders),
            Submission::Shrink(shrink) => Reply::Shrink(shrink, Err(busy())),
        });
        self.outbox.extend(replies.chain(waiting).map(|reply| reply.refused(NO_ANSWER)));
        let zone = self.snapshot().origin();
        tracing::warn!(%zone, "the store does not answer; registrations are refused until it does");
    }

    /// Services that nobody has been in for an hour, and that the configuration doesn't name, are no longer known.
    fn forget_services(&mut self, now: Now) {
        let contents = self.zone.contents();
        let configured = |name: &Name| contents.settings().services.iter().any(|entry| entry.service == *name);
        let over: Vec<Name> = contents
            .services()
            .filter(|(name, _, empty_since)| {
                empty_since.is_some_and(|since| now.wall.since(since) >= FORGET_SERVICE_AFTER) && !configured(name)
            })
            .map(|(name, ..)| name.clone())
            .collect();
        for service in over {
            self.zone.change(CausedChange { change: Change::Forget { service }, cause: Cause::Forgotten }, now.wall);
            self.void_notes_minding_services();
            self.open(now);
        }
    }
}
