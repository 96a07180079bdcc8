//! What was refused or dropped at a limit: counted, and told in the log in few lines.
//!
//! A limit that is reached for the first time gets a line at once, and from then on one line a minute with what came
//! since. Refused registrations get a line each, but only [`REFUSALS`] a second; how many were left out is told as
//! well. So what strangers send fills no disk, and an operator still learns of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::base::{Limit, Monotonic};
use crate::dns::update::{Request, Verdict};
use crate::dns::wire::Rcode;

use super::figures::Figures;

/// How often the log tells of limits that were reached again.
const INTERVAL: Duration = Duration::from_secs(60);
/// Refused registrations that have a line of their own in a second.
const REFUSALS: u32 = 10;

/// The counts of a server, shared by all who refuse.
#[derive(Debug, Default)]
pub struct Counters {
    /// By the number of the limit.
    counts: [AtomicU64; Limit::COUNT],
    /// What the log has told of these.
    told: [AtomicU64; Limit::COUNT],
    refusals: Mutex<Throttle>,
    /// What else is counted and measured, which is nothing for the log.
    pub figures: Figures,
}

impl Counters {
    /// Counts something that was refused or dropped. The first at a limit is logged.
    pub fn count(&self, limit: Limit) {
        self.count_many(limit, 1);
    }

    /// The same for so many at once, perhaps none.
    pub fn count_many(&self, limit: Limit, count: u64) {
        if count > 0 && self.counts[limit as usize].fetch_add(count, Ordering::Relaxed) == 0 {
            self.told[limit as usize].fetch_add(count, Ordering::Relaxed);
            tracing::warn!(limit = limit.label(), "a limit is reached: {}", limit.meaning());
        }
    }

    /// How many were refused or dropped at a limit since the start.
    pub fn at(&self, limit: Limit) -> u64 {
        self.counts[limit as usize].load(Ordering::Relaxed)
    }

    /// Counts and logs an update that was not carried out; other outcomes are nobody's concern.
    pub fn note(&self, request: &Request, verdict: &Verdict, now: Monotonic) {
        match verdict {
            Verdict::Refused(refusal) => {
                if let Some(limit) = refusal.limit {
                    self.count(limit);
                }
                if refusal.rcode != Rcode::REFUSED {
                    let rcode = refusal.rcode.0;
                    tracing::debug!(zone = %request.zone, peer = %request.peer, rcode, "update not carried out");
                    return;
                }
                let (admitted, omitted) = self.refusals.lock().expect("no panic holds it").admit(now);
                tell_omitted(omitted);
                if admitted {
                    let reason = refusal.error.as_ref().map_or("", |error| error.text.as_str());
                    tracing::info!(zone = %request.zone, peer = %request.peer, reason, "registration refused");
                }
            }
            Verdict::Replayed => tracing::debug!(zone = %request.zone, peer = %request.peer, "replayed update"),
            Verdict::Done(_) | Verdict::Noted(..) => {}
        }
    }

    /// The limits that were reached since this was last asked: how often since then, and since the start.
    fn take_news(&self) -> Vec<(Limit, u64, u64)> {
        let news = Limit::ALL.into_iter().map(|limit| {
            let total = self.at(limit);
            (limit, total.saturating_sub(self.told[limit as usize].swap(total, Ordering::Relaxed)), total)
        });
        news.filter(|(_, since, _)| *since > 0).collect()
    }

    fn tell(&self) {
        for (limit, since, total) in self.take_news() {
            tracing::warn!(limit = limit.label(), since, total, "a limit is reached: {}", limit.meaning());
        }
        let omitted = self.refusals.lock().expect("no panic holds it").take_omitted();
        tell_omitted(omitted);
    }
}

/// Tells every minute what was counted, until `stop` turns.
pub async fn report(counters: Arc<Counters>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => counters.tell(),
            _ = stop.changed() => return counters.tell(),
        }
    }
}

fn tell_omitted(omitted: u64) {
    if omitted > 0 {
        tracing::info!(omitted, "more registrations were refused, without a line each");
    }
}

/// So many lines a second.
#[derive(Debug, Default)]
struct Throttle {
    second: u64,
    lines: u32,
    omitted: u64,
}

impl Throttle {
    /// Whether there is a line for one more, and how many were left out in an earlier second.
    fn admit(&mut self, now: Monotonic) -> (bool, u64) {
        let second = now.0 / 1000;
        let mut omitted = 0;
        if second != self.second {
            omitted = self.take_omitted();
            (self.second, self.lines) = (second, 0);
        }
        if self.lines == REFUSALS {
            self.omitted += 1;
            return (false, omitted);
        }
        self.lines += 1;
        (true, omitted)
    }

    fn take_omitted(&mut self) -> u64 {
        std::mem::take(&mut self.omitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_refusals_a_second_have_a_line_and_the_next_second_tells_how_many_had_none() {
        let mut throttle = Throttle::default();
        let mut admit = |at: u64, count: usize| {
            let outcomes: Vec<(bool, u64)> = (0..count).map(|_| throttle.admit(Monotonic(at))).collect();
            let lines = outcomes.iter().filter(|(admitted, _)| *admitted).count();
            (lines, outcomes.iter().map(|(_, omitted)| omitted).sum::<u64>())
        };
        assert_eq!(admit(5_000, 8), (8, 0));
        assert_eq!(admit(5_999, 1000), (2, 0));
        assert_eq!(admit(6_000, 3), (3, 998));
        assert_eq!(admit(9_000, 11), (10, 0));
        assert_eq!(throttle.take_omitted(), 1, "what nobody told is told within the minute");
        assert_eq!(throttle.take_omitted(), 0);
    }

    #[test]
    fn what_was_counted_is_news_once() {
        let counters = Counters::default();
        assert_eq!(counters.take_news(), []);
        counters.count(Limit::ZoneLeases); // has had its line
        assert_eq!(counters.take_news(), []);
        (0..5).for_each(|_| counters.count(Limit::ZoneLeases));
        (0..3).for_each(|_| counters.count(Limit::UpdateRate));
        assert_eq!(counters.take_news(), [(Limit::UpdateRate, 2, 3), (Limit::ZoneLeases, 5, 6)]);
        assert_eq!(counters.take_news(), []);
        assert_eq!((counters.at(Limit::ZoneLeases), counters.at(Limit::StoreQueue)), (6, 0));
    }
}
