//! The two durations of a registration: how long an answer may be cached, and how long a member counts as alive.
//!
//! They have different types so that the one is never taken for the other.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long an answer may be cached, in seconds (RFC 1035 §3.2.1; at most 2^31 - 1, RFC 2181 §8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ttl(pub u32);

impl Ttl {
    /// The largest TTL that RFC 2181 §8 allows.
    pub const MAX: Ttl = Ttl(0x7fff_ffff);
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long a member counts as alive after its last heartbeat, in whole seconds (RFC 9664 LEASE). Never used as a TTL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Lease(pub u32);

impl Lease {
    /// The lease as a time span.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}
