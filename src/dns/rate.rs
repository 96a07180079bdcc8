//! Response rate limiting: how many answers a second go to one network over UDP, where sources can be forged.
//!
//! An answer of 837 octets to a query of 60 makes a server an amplifier for whoever forges the victim's address. So each network,
//! an IPv4 /24 or an IPv6 /56, has so many answers a second, and those of a second at once. Of what exceeds it, every `slip`-th
//! query is answered by its question alone with TC, which is never larger than the query: whoever is really there comes
//! again over TCP, which proves its address. The others are dropped. Senders that have proven their address ([`super::cookie`],
//! a verified signature) are not counted, nor are exempt networks.
//!
//! Other servers count equal answers. Here all clients of a site ask for the same few names, and a forger need ask no other
//! way, so all answers of a network count alike; the default is accordingly higher than theirs.
//!
//! Format: a bucket is one word, the time up to which its network has used its rate, and how many answers were dropped since the
//! last slip. There are [`BUCKETS`], found by a seeded hash of the network; networks whose hashes are equal share one.
//!
//! Cost: a hash and a compare-exchange of one word, without a lock; one more for each thread that gets ahead at the same bucket.

use std::fmt;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::base::{Limit, Monotonic};

/// Buckets: half a megabyte, which a core's cache holds; a thousand networks at once share one with a probability of 1.5 %
/// each.
const BUCKETS: usize = 65_536;
/// The answers of a network in a second: a site of 2,500 clients that ask for two names every 5 s. A forger gets at most as much
/// through, with answers as above 7 Mbit/s. NSD has 200 by default, which is for resolvers that remember answers for longer.
const PER_SECOND: u32 = 1000;
/// Every second one of the others is told to use TCP: the default of BIND and NSD. A real client that asks three times
/// misses out with a probability of 1/8.
const SLIP: u8 = 2;
/// What one customer of a network commonly has, and BIND takes too.
const PREFIXES: [u8; 2] = [24, 56];
/// Networks that may be exempt: each is looked at for every query.
pub const EXEMPT: usize = 64;
/// The highest `slip` (as in BIND): it is counted in [`TURN_BITS`].
pub const SLIP_LIMIT: u8 = 10;

/// Bits of a bucket for the answers that were dropped since the last slip.
const TURN_BITS: u32 = 4;
const TURNS: u64 = (1 << TURN_BITS) - 1;
/// Fractions of a millisecond that time is counted in, so that the highest rates divide well. What is left of the word goes on for
/// 34 years.
const FRACTION_BITS: u32 = 20;
const SECOND: u64 = 1000 << FRACTION_BITS;

/// Who gets how many answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Answers a second; 0 is no limit.
    pub per_second: u32,
    /// Every so-manieth of the others is told to use TCP; 0 is none.
    pub slip: u8,
    /// Bits of an IPv4 network, 1 to 32.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 network, 1 to 64.
    pub ipv6_prefix: u8,
    /// Networks without a limit.
    pub exempt: Vec<IpNet>,
}

impl Default for Settings {
    fn default() -> Settings {
        let [ipv4_prefix, ipv6_prefix] = PREFIXES;
        let loopback = [
            Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
            Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
        ];
        Settings { per_second: PER_SECOND, slip: SLIP, ipv4_prefix, ipv6_prefix, exempt: loopback.into() }
    }
}

/// What becomes of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It goes out.
    Answer,
    /// The question goes out alone, with TC.
    Slip,
    /// Nothing goes out.
    Drop,
}

impl Admission {
    /// The limit that is reached, if one is.
    pub fn limit(self) -> Option<Limit> {
        match self {
            Admission::Answer => None,
            Admission::Slip => Some(Limit::AnswerSlips),
            Admission::Drop => Some(Limit::AnswerRate),
        }
    }
}

/// What the networks have used, shared by all threads; a reload changes rates and keeps it.
pub struct Buckets {
    words: Box<[AtomicU64]>,
    /// Whose bucket is whose can't be told from outside.
    hash: RandomState,
}

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets { words: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), hash: RandomState::default() }
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buckets")
    }
}

/// The rate of answers to each network.
#[derive(Clone, Debug)]
pub struct Rate {
    /// Of the time of a network, what an answer takes; none: no limit.
    cost: Option<u64>,
    slip: u64,
    ipv4_mask: u32,
    ipv6_mask: u64,
    /// Network and mask each.
    exempt_ipv4: Box<[(u32, u32)]>,
    exempt_ipv6: Box<[(u128, u128)]>,
    buckets: Arc<Buckets>,
}

impl Rate {
    /// These rates, for networks that have used so much.
    pub fn new(settings: &Settings, buckets: Arc<Buckets>) -> Rate {
        let ipv4 = |network: &Ipv4Net| (network.network().to_bits(), network.netmask().to_bits());
        let ipv6 = |network: &Ipv6Net| (network.network().to_bits(), network.netmask().to_bits());
        let mut exempt = (Vec::new(), Vec::new());
        for network in &settings.exempt {
            match network {
                IpNet::V4(network) => exempt.0.push(ipv4(network)),
                IpNet::V6(network) => exempt.1.push(ipv6(network)),
            }
        }
        Rate {
            cost: SECOND.checked_div(settings.per_second.into()),
            slip: settings.slip.min(SLIP_LIMIT).into(),
            ipv4_mask: !u32::MAX.checked_shr(settings.ipv4_prefix.into()).unwrap_or(0),
            ipv6_mask: !u64::MAX.checked_shr(settings.ipv6_prefix.into()).unwrap_or(0),
            exempt_ipv4: exempt.0.into(),
            exempt_ipv6: exempt.1.into(),
            buckets,
        }
    }

    /// Counts an answer to this address, and says what becomes of it.
    pub fn admit(&self, peer: IpAddr, now: Monotonic) -> Admission {
        let Some(cost) = self.cost else { return Admission::Answer };
        let Some(network) = self.network(peer) else { return Admission::Answer };
        let place =
            usize::try_from(self.buckets.hash.hash_one(network) % BUCKETS as u64).expect("a place in the table");
        let bucket = &self.buckets.words[place];
        let now = (now.0 & (u64::MAX >> (FRACTION_BITS + TURN_BITS))) << FRACTION_BITS;
        let mut word = bucket.load(Ordering::Relaxed);
        loop {
            let (used, turns) = (word >> TURN_BITS, word & TURNS);
            let next = used.max(now) + cost;
            let (word_after, admission) = if next <= now + SECOND {
                (next << TURN_BITS | turns, Admission::Answer)
            } else if self.slip == 0 {
                return Admission::Drop;
            } else if turns + 1 >= self.slip {
                (used << TURN_BITS, Admission::Slip)
            } else {
                (used << TURN_BITS | (turns + 1), Admission::Drop)
            };
            // Who loses a race counts after the winner.
            match bucket.compare_exchange_weak(word, word_after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return admission,
                Err(changed) => word = changed,
            }
        }
    }

    /// The network that an address counts for, unless it is exempt.
    fn network(&self, peer: IpAddr) -> Option<u64> {
        match peer.to_canonical() {
            IpAddr::V4(address) => {
                let address = address.to_bits();
                let is_exempt = self.exempt_ipv4.iter().any(|(network, mask)| address & mask == *network);
                (!is_exempt).then_some(u64::from(address & self.ipv4_mask))
            }
            IpAddr::V6(address) => {
                let address = address.to_bits();
                let is_exempt = self.exempt_ipv6.iter().any(|(network, mask)| address & mask == *network);
                let high = u64::try_from(address >> 64).expect("64 bits");
                (!is_exempt).then_some(high & self.ipv6_mask)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(settings: &Settings) -> Rate {
        Rate::new(settings, Arc::default())
    }

    /// How many of so many were answered, slipped and dropped.
    fn admit(rate: &Rate, peer: &str, at: u64, count: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..count {
            counts[rate.admit(peer.parse().unwrap(), Monotonic(at)) as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_network_has_its_rate_and_a_second_of_burst() {
        for per_second in [1, 7, 1000, 20_000] {
            let rate = rate(&Settings { per_second, slip: 0, ..Settings::default() });
            let full = usize::try_from(per_second).unwrap();
            assert_eq!(admit(&rate, "192.0.2.1", 5_000, full + 50), [full, 0, 50]);
            assert_eq!(admit(&rate, "192.0.2.99", 5_500, full), [full / 2, 0, full - full / 2]);
            assert_eq!(admit(&rate, "192.0.2.1", 60_000, full + 1), [full, 0, 1], "no more for having been silent");
            assert_eq!(admit(&rate, "198.51.100.1", 60_000, 1), [1, 0, 0]);
        }
    }

    #[test]
    fn every_so_manieth_of_the_others_slips() {
        for (slip, expected) in
            [(0, [10, 0, 90]), (1, [10, 90, 0]), (2, [10, 45, 45]), (3, [10, 30, 60]), (10, [10, 9, 81])]
        {
            let rate = rate(&Settings { per_second: 10, slip, ..Settings::default() });
            assert_eq!(admit(&rate, "192.0.2.1", 0, 100), expected, "{slip}");
        }
    }

    #[test]
    fn addresses_of_one_prefix_share_a_rate_and_no_others_do() {
        let rate = rate(&Settings { per_second: 10, slip: 0, ..Settings::default() });
        for (first, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.254", "192.0.3.1"),
            ("2001:db8:0:a100::1", "2001:db8:0:a1ff:ffff::", "2001:db8:0:a200::1"),
        ] {
            assert_eq!(admit(&rate, first, 0, 6), [6, 0, 0]);
            assert_eq!(admit(&rate, same, 0, 6), [4, 0, 2]);
            assert_eq!(admit(&rate, other, 0, 6), [6, 0, 0]);
        }
        let narrow = Settings { per_second: 1, slip: 0, ipv4_prefix: 32, ipv6_prefix: 64, ..Settings::default() };
        let rate = Rate::new(&narrow, Arc::default());
        for peer in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"] {
            assert_eq!(admit(&rate, peer, 0, 2), [1, 0, 1]);
        }
    }

    #[test]
    fn loopback_is_exempt_by_default_and_counts_once_no_network_is_named() {
        let loopback = ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"];
        let exempt = rate(&Settings { per_second: 1, ..Settings::default() });
        let counted =
            rate(&Settings { per_second: 1, slip: 0, ipv4_prefix: 32, exempt: Vec::new(), ..Settings::default() });
        for peer in loopback {
            assert_eq!(admit(&exempt, peer, 0, 100), [100, 0, 0]);
        }
        for peer in &loopback[..3] {
            assert_eq!(admit(&counted, peer, 0, 100), [1, 0, 99]);
        }
        let named = vec!["192.0.2.128/25".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let named = rate(&Settings { per_second: 1, slip: 0, exempt: named, ..Settings::default() });
        for (peer, expected) in [
            ("192.0.2.200", [3, 0, 0]),
            ("192.0.2.100", [1, 0, 2]),
            ("2001:db8:ff::", [3, 0, 0]),
            ("127.0.0.1", [1, 0, 2]),
        ] {
            assert_eq!(admit(&named, peer, 0, 3), expected, "{peer}");
        }
    }

    #[test]
    fn a_rate_of_0_is_no_limit() {
        let rate = rate(&Settings { per_second: 0, ..Settings::default() });
        assert_eq!(admit(&rate, "192.0.2.1", 0, 10_000), [10_000, 0, 0]);
    }

    #[test]
    fn a_changed_rate_begins_with_what_was_used() {
        let buckets: Arc<Buckets> = Arc::default();
        let with = |per_second| Rate::new(&Settings { per_second, slip: 0, ..Settings::default() }, buckets.clone());
        assert_eq!(admit(&with(1000), "192.0.2.1", 0, 1001), [1000, 0, 1]);
        assert_eq!(admit(&with(10), "192.0.2.1", 0, 10), [0, 0, 10]);
        assert_eq!(admit(&with(10), "192.0.2.1", 500, 10), [5, 0, 5]);
        assert_eq!(admit(&with(0), "192.0.2.1", 500, 10), [10, 0, 0]);
    }

    #[test]
    fn threads_that_meet_at_a_bucket_let_out_its_rate_together_and_no_more() {
        let rate = rate(&Settings { per_second: 1000, ..Settings::default() });
        let counts: Vec<[usize; 3]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| admit(&rate, "192.0.2.1", 0, 5_000))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let sum = |what: usize| counts.iter().map(|counts| counts[what]).sum::<usize>();
        assert_eq!([sum(0), sum(1), sum(2)], [1000, 9500, 9500]);
    }
}
