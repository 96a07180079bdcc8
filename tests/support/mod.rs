//! What the end-to-end tests stand on: the real binary in a scratch folder, the field's own programs run against it, and a
//! small client that says byte for byte what it sends.

pub(crate) mod answering;
pub(crate) mod client;
pub(crate) mod message;
pub(crate) mod namespace;
pub(crate) mod other;
pub(crate) mod programs;
pub(crate) mod server;
pub(crate) mod tsig;

use std::time::{Duration, Instant};

/// How long anything may take that is expected to happen. Reached only when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The zone of the tests.
pub(crate) const ZONE: &str = "svc.example.test.";
/// A service in it.
pub(crate) const MEMCACHED: &str = "_memcached._tcp.svc.example.test.";

/// Tries again until there is a result; panics after `deadline`, saying what was waited for.
pub(crate) fn wait_until<T>(deadline: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = condition() {
            return result;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
