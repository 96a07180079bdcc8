//! What leases a zone grants, and how many.

use std::time::Duration;

use crate::base::Lease;

/// The `[lease]` section of a zone. Whoever builds one sees to `min <= default <= max`; nothing here relies on
/// `records`, which may exceed `max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseLimits {
    /// What a registration gets that asks for none.
    pub default: Lease,
    /// The shortest lease. No TTL of the zone exceeds it, so that no cache outlives a member's lease by more than one.
    pub min: Lease,
    /// The longest lease.
    pub max: Lease,
    /// How long a member stays published, as suspect, after its lease ran out.
    pub grace: Duration,
    /// The lease of a leased record whose update asks for none.
    pub records: Lease,
}

impl LeaseLimits {
    /// The lease for a request of so many seconds, or for a registration that asks for none: what was asked for, moved
    /// into the limits (RFC 9664 §5 lets a server grant more or less).
    ///
    /// A request of 0 is a withdrawal on every channel and is handled before it gets here.
    pub fn grant(&self, requested: Option<u32>) -> Lease {
        match requested {
            None => self.default,
            // Not `clamp`, which panics when the limits cross.
            Some(seconds) => Lease(seconds).min(self.max).max(self.min),
        }
    }
}

impl Default for LeaseLimits {
    fn default() -> LeaseLimits {
        LeaseLimits { default: Lease(15), min: Lease(5), max: Lease(3600), grace: Duration::ZERO, records: Lease(3600) }
    }
}

/// How many leases and services a zone takes, in all and of one owner. What is there when a limit is lowered stays, and
/// goes on to be renewed and changed; only what is new is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quotas {
    /// Members, leased records and waiting addresses of a zone.
    pub zone_leases: usize,
    /// Known services of a zone, those that nobody is in and that are not forgotten yet included.
    pub zone_services: usize,
    /// Members, leased records and waiting addresses of one owner in a zone.
    pub owner_leases: usize,
    /// Services of a zone that one owner has members in.
    pub owner_services: usize,
}

impl Default for Quotas {
    /// A zone of a million leases takes about 1 GiB. One owner gets a quarter, so that a key gone astray leaves room for
    /// the others.
    fn default() -> Quotas {
        Quotas { zone_leases: 1_000_000, zone_services: 65_536, owner_leases: 250_000, owner_services: 16_384 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_that_asks_for_none_gets_the_default() {
        assert_eq!(LeaseLimits::default().grant(None), Lease(15));
    }

    #[test]
    fn a_request_is_moved_into_the_limits() {
        let limits = LeaseLimits::default();
        assert_eq!(limits.grant(Some(0)), Lease(5));
        assert_eq!(limits.grant(Some(4)), Lease(5));
        assert_eq!(limits.grant(Some(5)), Lease(5));
        assert_eq!(limits.grant(Some(60)), Lease(60));
        assert_eq!(limits.grant(Some(3600)), Lease(3600));
        assert_eq!(limits.grant(Some(u32::MAX)), Lease(3600));
    }
}
