//! DNS cookies (RFC 7873), made and verified as all servers do (RFC 9018): what a client sent proves that it receives what is
//! sent to its address.
//!
//! A cookie of the COOKIE option is the client's own 8 octets, which come back to it, and behind them 16 of ours:
//!
//! ```text
//! version 1 | reserved, 3 octets | time, 4 octets | SipHash-2-4 over client cookie, all before, and client address, 8 octets
//! ```
//!
//! Nothing is kept of a client, so that servers which share a secret (those of an anycast address) know each other's
//! cookies. A server cookie that is wrong, old or of another kind is as good as none: the query is answered, and with a
//! cookie that is good (RFC 7873 §5.2.3, the third way). Several secrets let one follow another: the first makes, all verify.
//!
//! Cost: a hash for a cookie that is looked at, another for one that is made; no allocation.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::base::Wall;

/// Octets of a client cookie (RFC 7873 §4.1).
const CLIENT_OCTETS: usize = 8;
/// Octets of a server cookie of ours (RFC 9018 §4).
const SERVER_OCTETS: usize = 16;
/// Octets of both: the data of the option that is answered.
pub const COOKIE_OCTETS: usize = CLIENT_OCTETS + SERVER_OCTETS;
/// The version of the server cookies that RFC 9018 describes.
const VERSION: u8 = 1;
/// A server cookie is good from the time in it on for so many seconds (RFC 9018 §4.3).
const OLDEST: i32 = 3600;
/// How far the time in it may be ahead, since the servers that share a secret have a clock each (RFC 9018 §4.3).
const EARLIEST: i32 = -300;
/// A client whose cookie is older than this gets a new one (RFC 9018 §4.3).
const RENEWED: i32 = 1800;

/// Secrets of a server: one that makes, one that was before or will be next, and room for a rollover that met another. Each is
/// a hash more for whoever sends a wrong cookie.
pub const SECRETS: usize = 4;

/// What server cookies are made with. It is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Makes and verifies cookies.
#[derive(Clone)]
pub struct Cookies {
    /// The hash of each secret before its first octet; never empty.
    hashes: Vec<SipHasher24>,
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookies({} secrets)", self.hashes.len())
    }
}

/// What a cookie is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// The data of the option.
    pub octets: [u8; COOKIE_OCTETS],
    /// Whether the client sent a good server cookie: then it is where its address says.
    pub is_proven: bool,
}

impl Cookies {
    /// Cookies made with the first secret; the others are good too.
    pub fn new(first: &Secret, others: &[Secret]) -> Cookies {
        let hashes = std::iter::once(first).chain(others);
        Cookies { hashes: hashes.map(|secret| SipHasher24::new_with_key(&secret.0)).collect() }
    }

    /// The answer to a COOKIE option with this data; `None` if it has a length that no cookie has, which is FORMERR (RFC 7873
    /// §5.2.2).
    pub fn answer(&self, asked: &[u8], peer: IpAddr, now: Wall) -> Option<Answered> {
        let (client, server) = asked.split_first_chunk::<CLIENT_OCTETS>()?;
        // RFC 7873 §4.2: a server cookie has 8 to 32 octets, whoever made it.
        if !matches!(server.len(), 0 | 8..=32) {
            return None;
        }
        let peer = peer.to_canonical();
        let now = u32::try_from(now.seconds() & 0xffff_ffff).expect("32 bits");
        let mut is_proven = false;
        if let Some((place, age)) = self.verify(asked, peer, now) {
            // What another secret made is made anew, so that it can go once the hour is over.
            if place == 0 && age <= RENEWED {
                let octets = asked.try_into().expect("it was verified");
                return Some(Answered { octets, is_proven: true });
            }
            is_proven = true;
        }
        Some(Answered { octets: self.make(*client, peer, now), is_proven })
    }

    /// Which secret made a cookie, and how old it is, if it is good.
    fn verify(&self, asked: &[u8], peer: IpAddr, now: u32) -> Option<(usize, i32)> {
        let octets: &[u8; COOKIE_OCTETS] = asked.try_into().ok()?;
        let (head, sent) = octets.split_first_chunk::<16>().expect("16 of 24 octets");
        if head[CLIENT_OCTETS] != VERSION {
            return None;
        }
        // Serial arithmetic (RFC 1982, as RFC 9018 §4.3 wants it): seconds are counted over the end of 32 bits.
        let time = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
        let age = now.wrapping_sub(time).cast_signed();
        if !(EARLIEST..=OLDEST).contains(&age) {
            return None;
        }
        // The reserved octets are hashed as they came (RFC 9018 §4.2). The comparison is of one word, whose time tells nothing.
        let sent = u64::from_le_bytes(sent.try_into().expect("8 octets"));
        let place = self.hashes.iter().position(|hash| digest(hash, head, peer) == sent)?;
        Some((place, age))
    }

    fn make(&self, client: [u8; CLIENT_OCTETS], peer: IpAddr, now: u32) -> [u8; COOKIE_OCTETS] {
        let mut octets = [0; COOKIE_OCTETS];
        octets[..CLIENT_OCTETS].copy_from_slice(&client);
        octets[CLIENT_OCTETS] = VERSION;
        octets[12..16].copy_from_slice(&now.to_be_bytes());
        let head = octets.first_chunk().expect("16 of 24 octets");
        let hash = digest(&self.hashes[0], head, peer);
        octets[16..].copy_from_slice(&hash.to_le_bytes());
        octets
    }
}

/// The hash over what stands before it and the client's address (RFC 9018 §4.4).
fn digest(hash: &SipHasher24, head: &[u8; 16], peer: IpAddr) -> u64 {
    let mut input = [0; 32];
    input[..16].copy_from_slice(head);
    let len = match peer {
        IpAddr::V4(address) => {
            input[16..20].copy_from_slice(&address.octets());
            20
        }
        IpAddr::V6(address) => {
            input[16..].copy_from_slice(&address.octets());
            32
        }
    };
    hash.hash(&input[..len])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn secret(text: &str) -> Secret {
        Secret(hex(text).try_into().unwrap())
    }

    /// The secret of RFC 9018 appendices A.1 to A.3.
    fn cookies() -> Cookies {
        Cookies::new(&secret("e5e973e5a6b2a43f48e7dc849e37bfcf"), &[])
    }

    fn answer(cookies: &Cookies, asked: &str, peer: &str, seconds: u64) -> (Vec<u8>, bool) {
        let answered = cookies.answer(&hex(asked), peer.parse().unwrap(), Wall(seconds * 1000)).unwrap();
        (answered.octets.to_vec(), answered.is_proven)
    }

    #[test]
    fn cookies_are_those_of_rfc_9018_appendix_a() {
        let (cookies, peer) = (cookies(), "198.51.100.100");
        let first = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        assert_eq!(answer(&cookies, "2464c4abcf10c957", peer, 1_559_731_985), (hex(first), false), "A.1");
        let renewed = hex("2464c4abcf10c957010000005cf7a871d4a564a1442aca77");
        assert_eq!(answer(&cookies, first, peer, 1_559_734_385), (renewed, true), "A.2");
        // A.3 has reserved octets that aren't zero; it is answered nearly two hours after it was made.
        let (other, peer) = ("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "203.0.113.203");
        assert_eq!(answer(&cookies, other, peer, 1_559_727_985), (hex(other), true), "A.3, as it was made");
        let renewed = hex("fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e");
        assert_eq!(answer(&cookies, other, peer, 1_559_734_700), (renewed, false), "A.3");
        // A.4: IPv6, with a secret that has followed another.
        let rolled =
            Cookies::new(&secret("445536bcd2513298075a5d379663c962"), &[secret("dd3bdf9344b678b185a6f5cb60fca715")]);
        let (old, peer) = ("22681ab97d52c298010000005cf7c57926556bd0934c72f8", "2001:db8:220:1:59de:d0f4:8769:82b8");
        let renewed = hex("22681ab97d52c298010000005cf7c609a6bb79d16625507a");
        assert_eq!(answer(&rolled, old, peer, 1_559_741_961), (renewed, true), "A.4");
    }

    #[test]
    fn an_option_has_8_octets_or_16_to_40() {
        let peer = "192.0.2.1".parse().unwrap();
        for len in 0..60 {
            let answered = cookies().answer(&vec![1; len], peer, Wall(0));
            assert_eq!(answered.is_some(), matches!(len, 8 | 16..=40), "{len}");
            assert!(answered.is_none_or(|answered| !answered.is_proven && answered.octets[..8] == [1; 8]));
        }
    }

    #[test]
    fn a_cookie_is_good_for_an_hour_and_5_minutes_ahead_and_renewed_after_half_an_hour() {
        let (cookies, peer) = (cookies(), "192.0.2.1".parse().unwrap());
        // The second is just before the 32 bits end, so that ages reach over it.
        for made in [1_800_000_000, (1 << 32) - 100] {
            let at = |seconds: i64| Wall(u64::try_from(made + seconds).unwrap() * 1000);
            let cookie = cookies.answer(&[7; 8], peer, at(0)).unwrap().octets;
            for (age, is_proven, is_renewed) in [
                (-301, false, true),
                (-300, true, false),
                (0, true, false),
                (1800, true, false),
                (1801, true, true),
                (3600, true, true),
                (3601, false, true),
                (1 << 31, false, true),
            ] {
                let answered = cookies.answer(&cookie, peer, at(age)).unwrap();
                assert_eq!(
                    (answered.is_proven, answered.octets != cookie),
                    (is_proven, is_renewed),
                    "{age} after {made}"
                );
            }
        }
    }

    #[test]
    fn the_first_secret_makes_and_all_verify() {
        let [old, new, next] = [1, 2, 3].map(|octet| Secret([octet; 16]));
        let (peer, now) = ("2001:db8::1".parse().unwrap(), Wall(1_800_000_000_000));
        let make = |cookies: &Cookies, asked: &[u8]| cookies.answer(asked, peer, now).unwrap();
        let before = make(&Cookies::new(&old, &[]), &[7; 8]).octets;
        let during = make(&Cookies::new(&new, &[next.clone(), old]), &before);
        assert!(during.is_proven && during.octets != before);
        let after = make(&Cookies::new(&new, &[]), &during.octets);
        assert_eq!(after, Answered { octets: during.octets, is_proven: true });
        assert!(!make(&Cookies::new(&next, &[]), &before).is_proven);
    }

    #[test]
    fn an_address_mapped_into_ipv6_is_that_address() {
        let now = Wall(1_800_000_000_000);
        let octets = cookies().answer(&[7; 8], "192.0.2.1".parse().unwrap(), now).unwrap().octets;
        assert!(cookies().answer(&octets, "::ffff:192.0.2.1".parse().unwrap(), now).unwrap().is_proven);
    }

    proptest! {
        #[test]
        fn what_was_made_verifies_and_nothing_that_differs_from_it(
            key: [u8; 16], client: [u8; 8], peer: IpAddr, other: IpAddr, seconds in 0u64..1 << 34, at in 0usize..24, flip in 1u8..
        ) {
            let cookies = Cookies::new(&Secret(key), &[]);
            let now = Wall(seconds * 1000);
            let made = cookies.answer(&client, peer, now).unwrap();
            prop_assert!(!made.is_proven && made.octets.starts_with(&client));
            prop_assert_eq!(cookies.answer(&made.octets, peer, now).unwrap(), Answered { is_proven: true, ..made });
            let mut changed = made.octets;
            changed[at] ^= flip;
            prop_assert!(!cookies.answer(&changed, peer, now).unwrap().is_proven);
            prop_assert!(peer.to_canonical() == other.to_canonical() || !cookies.answer(&made.octets, other, now).unwrap().is_proven);
            prop_assert!(!Cookies::new(&Secret([!key[0]; 16]), &[]).answer(&made.octets, peer, now).unwrap().is_proven);
        }
    }
}
