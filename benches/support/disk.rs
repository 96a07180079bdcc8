//! What a disk takes, beside which figures of durable writes are to be read.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// An append and an fdatasync in a folder: the median of 200.
pub(crate) fn fdatasync(folder: &Path) -> Duration {
    let file = std::fs::File::create(folder.join("probe")).unwrap();
    let mut times: Vec<Duration> = (0..200u64)
        .map(|number| {
            let began = Instant::now();
            file.write_all_at(&[0; 512], number * 512).unwrap();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[100]
}
