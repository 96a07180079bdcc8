//! Random numbers from a seed (SplitMix64), so that a hundred agents spread, and a test knows what comes.

use std::time::Duration;

/// A generator. Nothing secret depends on it.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// From 0 to just below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A span up to `limit`, all equally likely.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.fraction())
    }

    /// A span, give or take this share of it.
    pub fn around(&mut self, span: Duration, share: f64) -> Duration {
        span.mul_f64(1.0 - share + 2.0 * share * self.fraction())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_to_their_bounds_spread_over_them_and_come_again_with_their_seed() {
        let spans = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..1000).map(|_| jitter.around(Duration::from_secs(10), 0.1)).collect::<Vec<_>>()
        };
        let first = spans(7);
        assert!(first.iter().all(|span| (9.0..11.0).contains(&span.as_secs_f64())));
        assert!(
            first.iter().any(|span| span.as_secs_f64() < 9.1) && first.iter().any(|span| span.as_secs_f64() > 10.9)
        );
        assert_eq!(first, spans(7));
        assert_ne!(first, spans(8));
        let mut jitter = Jitter::new(1);
        assert!((0..1000).all(|_| jitter.up_to(Duration::from_secs(3)) < Duration::from_secs(3)));
        assert_eq!(jitter.up_to(Duration::ZERO), Duration::ZERO);
    }
}
