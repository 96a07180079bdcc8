//! Figures that many threads add to and somebody reads now and then: no lock, no allocation, relaxed atomics alone.
//!
//! A reader that comes in between may see the count of an observation and not yet its sum; nothing is lost, and the next
//! reading has both.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Copies of what is [`Stripes`]: as many as there are threads that count on usual machines (two for each UDP thread, and those
/// of the runtime). Where there are more threads, some share a copy, and wait for its cache line now and then.
const STRIPES: usize = 32;

/// One copy for each thread, so that nobody writes to a cache line that another core has. A reader adds them up.
#[derive(Debug)]
pub struct Stripes<T>(Box<[Stripe<T>]>);

/// Two lines, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe<T>(T);

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The same for all that this thread counts in.
    static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
}

impl<T: Default> Default for Stripes<T> {
    fn default() -> Stripes<T> {
        Stripes((0..STRIPES).map(|_| Stripe::default()).collect())
    }
}

impl<T> Stripes<T> {
    /// The copy of the thread that calls.
    pub fn own(&self) -> &T {
        &self.0[PLACE.with(|place| *place)].0
    }

    /// All copies.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|stripe| &stripe.0)
    }

    /// The sum of one number of each.
    pub fn sum(&self, number: impl Fn(&T) -> &AtomicU64) -> u64 {
        self.iter().map(|copy| number(copy).load(Ordering::Relaxed)).sum()
    }
}

/// The upper bounds of a [`Histogram`], in nanoseconds: 1, 2.5 and 5 in each power of ten, from what a query takes that is
/// answered from the cache of a processor, to what nobody waits for any more. One scale for all, so that they can be
/// compared.
pub const BOUNDS: [u64; 20] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Observations up to each bound and above the one before, and those above the last.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds; they last for 584 years.
    sum: AtomicU64,
}

/// What a [`Histogram`] has seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observed {
    /// As in the histogram: not cumulative, the last one unbounded.
    pub counts: [u64; BOUNDS.len() + 1],
    /// In all.
    pub sum: Duration,
}

impl Histogram {
    /// Notes that something took this long.
    pub fn observe(&self, took: Duration) {
        self.observe_many(took, 1);
    }

    /// Notes that each of so many took this long.
    pub fn observe_many(&self, took: Duration, count: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|&bound| bound < nanos);
        self.counts[place].fetch_add(count, Ordering::Relaxed);
        self.sum.fetch_add(nanos.saturating_mul(count), Ordering::Relaxed);
    }

    /// What it has seen so far.
    pub fn read(&self) -> Observed {
        let counts = std::array::from_fn(|place| self.counts[place].load(Ordering::Relaxed));
        Observed { counts, sum: Duration::from_nanos(self.sum.load(Ordering::Relaxed)) }
    }
}

impl Observed {
    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl std::iter::Sum for Observed {
    fn sum<I: Iterator<Item = Observed>>(all: I) -> Observed {
        all.fold(Observed::default(), |total, one| Observed {
            counts: std::array::from_fn(|place| total.counts[place] + one.counts[place]),
            sum: total.sum + one.sum,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket_and_what_is_above_all_to_the_last() {
        assert!(BOUNDS.is_sorted());
        let histogram = Histogram::default();
        histogram.observe(Duration::ZERO);
        histogram.observe(Duration::from_micros(5));
        histogram.observe(Duration::from_nanos(5001));
        histogram.observe_many(Duration::from_secs(10), 3);
        histogram.observe(Duration::from_secs(11));
        let seen = histogram.read();
        let mut expected = [0; BOUNDS.len() + 1];
        (expected[0], expected[1], expected[19], expected[20]) = (2, 1, 3, 1);
        assert_eq!(seen.counts, expected);
        assert_eq!((seen.count(), seen.sum), (7, Duration::from_nanos(41_000_010_001)));
        let twice: Observed = [seen.clone(), seen].into_iter().sum();
        assert_eq!((twice.count(), twice.counts[19]), (14, 6));
    }

    #[test]
    fn what_many_threads_count_adds_up() {
        let counts: Stripes<AtomicU64> = Stripes::default();
        std::thread::scope(|scope| {
            for _ in 0..STRIPES + 8 {
                scope.spawn(|| (0..1000).for_each(|_| _ = counts.own().fetch_add(1, Ordering::Relaxed)));
            }
        });
        assert_eq!(counts.sum(|count| count), 1000 * (STRIPES as u64 + 8));
        assert!(std::ptr::eq(counts.own(), counts.own()), "a thread keeps its copy");
    }
}
