//! How many unsigned updates a second are taken from one source.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::base::{Limit, Monotonic};
use crate::net::tcp::places::client_of;

/// A token bucket per source: a second's worth may come at once. A source is an IPv4 address or an IPv6 network of 64
/// bits, as with connections: whoever has one address of that has all.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    sources: HashMap<IpAddr, (Monotonic, f64)>,
    swept: Monotonic,
}

/// Sources remembered. At the limit, those that have been quiet for a second are forgotten; if none was, newcomers are
/// refused until one is.
const SOURCES: usize = 65_536;

impl RateLimit {
    /// So many a second for each source.
    pub fn new(per_second: u32) -> RateLimit {
        RateLimit { per_second, sources: HashMap::new(), swept: Monotonic(0) }
    }

    /// Changes the rate; sources keep what they have used.
    pub fn set_rate(&mut self, per_second: u32) {
        self.per_second = per_second;
    }

    /// Whether one more is within the rate, or the limit that it exceeds.
    pub fn admit(&mut self, source: IpAddr, now: Monotonic) -> Result<(), Limit> {
        let source = client_of(source);
        let full = f64::from(self.per_second);
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            // A sweep looks at all of them, so it comes once a second at most.
            if now.since(self.swept).as_secs() >= 1 || self.swept == Monotonic(0) {
                self.swept = now;
                self.sources.retain(|_, (last, _)| now.since(*last).as_secs() < 1);
            }
            if self.sources.len() >= SOURCES {
                return Err(Limit::UpdateSources);
            }
        }
        let (last, tokens) = self.sources.entry(source).or_insert((now, full));
        *tokens = (*tokens + now.since(*last).as_secs_f64() * full).min(full);
        *last = now;
        if *tokens < 1.0 {
            return Err(Limit::UpdateRate);
        }
        *tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_rate_and_a_second_of_burst() {
        let mut limit = RateLimit::new(10);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let admitted = |limit: &mut RateLimit, source, at, count| {
            (0..count).filter(|_| limit.admit(source, Monotonic(at)).is_ok()).count()
        };
        assert_eq!(admitted(&mut limit, a, 0, 50), 10);
        assert_eq!(admitted(&mut limit, b, 0, 5), 5);
        assert_eq!(admitted(&mut limit, a, 500, 50), 5);
        assert_eq!(admitted(&mut limit, a, 10_000, 50), 10);
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_of_64_bits_share_a_rate() {
        let mut limit = RateLimit::new(10);
        let mut admit = |source: &str| limit.admit(source.parse().unwrap(), Monotonic(0));
        assert_eq!((0..50).filter(|host| admit(&format!("2001:db8:1:2::{host:x}")).is_ok()).count(), 10);
        assert_eq!(admit("2001:db8:1:2:ffff::1"), Err(Limit::UpdateRate));
        // The next network is another source, and so is each IPv4 address, in either form.
        assert_eq!(admit("2001:db8:1:3::1"), Ok(()));
        assert_eq!((0..50).filter(|_| admit("::ffff:192.0.2.1").is_ok()).count(), 10);
        assert_eq!(admit("192.0.2.1"), Err(Limit::UpdateRate));
        assert_eq!(admit("192.0.2.2"), Ok(()));
        assert_eq!(limit.sources.len(), 4);
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let mut limit = RateLimit::new(10);
        for number in 0..70_000u32 {
            let _ = limit.admit(IpAddr::V4(number.into()), Monotonic(0));
        }
        assert_eq!(limit.sources.len(), SOURCES);
        let newcomer = "192.0.2.1".parse().unwrap();
        assert_eq!(limit.admit(newcomer, Monotonic(10)), Err(Limit::UpdateSources));
        // Looked at again a second later, and all have been quiet since.
        assert_eq!(limit.admit(newcomer, Monotonic(900)), Err(Limit::UpdateSources));
        assert_eq!(limit.admit(newcomer, Monotonic(1_010)), Ok(()));
        assert_eq!(limit.sources.len(), 1);
    }
}
