//! Latencies, counted in buckets whose width is a 32nd of their lower bound, so that any number of them takes the same room.

/// Buckets of each power of two.
const FINE: u64 = 32;
const BITS: u32 = FINE.ilog2();

#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    most: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { buckets: vec![0; bucket(u64::MAX) + 1], count: 0, most: 0 }
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - BITS;
    (u64::from(shift) * FINE + (nanos >> shift)) as usize
}

/// The lowest value of a bucket.
fn floor(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    (bucket % FINE + FINE) << shift
}

impl Latencies {
    pub(crate) fn add(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.most = self.most.max(nanos);
    }

    /// Microseconds, at most a 32nd too low.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let rank = (self.count as f64 * quantile) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen > rank {
                return floor(bucket) as f64 / 1e3;
            }
        }
        self.most()
    }

    /// Microseconds.
    pub(crate) fn most(&self) -> f64 {
        self.most as f64 / 1e3
    }
}
