//! What a store measures of its writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::meters::Histogram;

use super::Appended;

/// Figures of a store since it was opened.
#[derive(Debug, Default)]
pub struct Figures {
    /// How long transactions took, from their begin until the disk has them or they failed.
    pub times: Histogram,
    outcomes: [AtomicU64; LABELS.len()],
    failing: AtomicBool,
}

/// Names of outcomes in metrics, each at its place.
const LABELS: [&str; 4] = ["committed", "conflict", "unavailable", "unknown"];

impl Figures {
    /// Notes what became of one write of a transaction.
    pub fn count(&self, outcome: &Appended) {
        let place = match outcome {
            Appended::Committed => 0,
            Appended::Conflict(_) => 1,
            Appended::Unavailable(_) => 2,
            Appended::Unknown(_) => 3,
        };
        self.outcomes[place].fetch_add(1, Ordering::Relaxed);
        self.failing.store(place > 1, Ordering::Relaxed);
    }

    /// Writes by what became of them.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LABELS.into_iter().zip(self.outcomes.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_failing_until_a_write_succeeds() {
        let figures = Figures::default();
        assert!(!figures.is_failing());
        figures.count(&Appended::Unavailable("full".to_owned()));
        figures.count(&Appended::Unknown("full".to_owned()));
        assert!(figures.is_failing());
        figures.count(&Appended::Conflict(None));
        assert!(!figures.is_failing(), "it can be written");
        let outcomes: Vec<_> = figures.outcomes().collect();
        assert_eq!(outcomes, [("committed", 0), ("conflict", 1), ("unavailable", 1), ("unknown", 1)]);
    }
}
