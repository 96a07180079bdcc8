//! Penalties of members that come and go.
//!
//! One for each withdrawal and each return, halving in [`DampingPolicy::half_life`], at most [`CAP`], so that a member which
//! stays is back within two half-lives (from the cap to a reuse of 1). A penalty outlives its member until it is under
//! [`FORGOTTEN`].
//!
//! Bounds: [`PENALTIES`]; at the limit those go first that would be forgotten first.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::{Monotonic, SeededMap};

use super::member::Key;
use super::policy::DampingPolicy;

/// The most that a penalty can be.
pub const CAP: f64 = 4.0;
/// What is not worth to be remembered.
const FORGOTTEN: f64 = 0.1;
/// Penalties kept for a zone: those of a whole service of many, some 200 octets each.
const PENALTIES: usize = 1 << 16;

/// A penalty as it was when it last grew.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Penalty {
    value: f64,
    at: Monotonic,
    half_life: Duration,
    /// Whether its member was damped for it.
    suppresses: bool,
}

impl Penalty {
    /// What is left of it.
    pub fn left(&self, now: Monotonic) -> f64 {
        let halvings = now.since(self.at).as_secs_f64() / self.half_life.as_secs_f64();
        self.value * (-halvings).exp2()
    }

    /// Whether a member with one more is to be damped.
    pub fn would_suppress(&self, policy: &DampingPolicy, now: Monotonic) -> bool {
        (self.left(now) + 1.0).min(CAP) >= policy.suppress
    }

    /// Whether its member was damped and is not to be back yet.
    pub fn still_suppresses(&self, policy: &DampingPolicy, now: Monotonic) -> bool {
        self.suppresses && self.reaches(policy.reuse) > now
    }

    /// When so much is left.
    pub fn reaches(&self, left: f64) -> Monotonic {
        let halvings = (self.value / left).log2().max(0.0);
        self.at.after(self.half_life.mul_f64(halvings))
    }
}

/// The penalties of a zone.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    by_key: SeededMap<Key, Penalty>,
    /// By when they are forgotten.
    order: BTreeSet<(Monotonic, u64)>,
    keys: SeededMap<u64, Key>,
    numbers: SeededMap<Key, (Monotonic, u64)>,
    next: u64,
}

impl Penalties {
    /// What stands against a member.
    pub(super) fn get(&self, key: &Key) -> Option<&Penalty> {
        self.by_key.get(key)
    }

    /// Adds one; returns what stood before, for [`Penalties::restore`].
    pub(super) fn add(&mut self, key: &Key, policy: &DampingPolicy, now: Monotonic) -> Option<Penalty> {
        let before = self.by_key.get(key).copied();
        let left = before.map_or(0.0, |penalty| penalty.left(now));
        let suppresses = before.is_some_and(|penalty| penalty.still_suppresses(policy, now));
        let penalty = Penalty { value: (left + 1.0).min(CAP), at: now, half_life: policy.half_life, suppresses };
        self.set(key, Some(penalty));
        before
    }

    /// Its member is damped, for what stands against it.
    pub(super) fn suppress(&mut self, key: &Key) {
        if let Some(penalty) = self.by_key.get_mut(key) {
            penalty.suppresses = true;
        }
    }

    /// Of a member that a start finds damped since then: the most that it can have been.
    pub(super) fn revive(&mut self, key: &Key, policy: &DampingPolicy, ago: Duration, now: Monotonic) {
        let full = Penalty { value: CAP, at: now, half_life: policy.half_life, suppresses: true };
        let value = full.left(now.after(ago));
        self.set(key, Some(Penalty { value, ..full }));
    }

    /// Puts back what stood before.
    pub(super) fn restore(&mut self, key: &Key, before: Option<Penalty>) {
        self.set(key, before);
    }

    fn set(&mut self, key: &Key, penalty: Option<Penalty>) {
        if let Some(place) = self.numbers.remove(key) {
            self.order.remove(&place);
            self.keys.remove(&place.1);
        }
        match penalty {
            None => drop(self.by_key.remove(key)),
            Some(penalty) => {
                let place = (penalty.reaches(FORGOTTEN), self.next);
                self.next += 1;
                self.order.insert(place);
                self.keys.insert(place.1, key.clone());
                self.numbers.insert(key.clone(), place);
                self.by_key.insert(key.clone(), penalty);
            }
        }
        while self.by_key.len() > PENALTIES {
            self.drop_first();
        }
    }

    /// Forgets what has come to little.
    pub(super) fn sweep(&mut self, now: Monotonic) {
        while self.order.first().is_some_and(|(until, _)| *until <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, number)) = self.order.pop_first()
            && let Some(key) = self.keys.remove(&number)
        {
            self.numbers.remove(&key);
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> Key {
        let id = crate::membership::MemberId::new(&format!("i-{id}")).unwrap();
        Key::Member("_x._tcp.z.".parse().unwrap(), id)
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1000)
    }

    #[test]
    fn a_penalty_grows_by_one_halves_and_is_capped() {
        let (mut penalties, policy) = (Penalties::default(), DampingPolicy::default());
        let left = |penalties: &Penalties, now| penalties.get(&key(0)).map(|penalty| penalty.left(now)).unwrap();
        assert_eq!(penalties.add(&key(0), &policy, at(0)), None);
        assert!((left(&penalties, at(60)) - 0.5).abs() < 1e-9);
        penalties.add(&key(0), &policy, at(60));
        assert!((left(&penalties, at(60)) - 1.5).abs() < 1e-9);
        for _ in 0..9 {
            penalties.add(&key(0), &policy, at(60));
        }
        assert!((left(&penalties, at(60)) - CAP).abs() < 1e-9);
        // Back within two half-lives.
        assert_eq!(penalties.get(&key(0)).unwrap().reaches(policy.reuse), at(180));
        assert_eq!(penalties.get(&key(0)).unwrap().reaches(5.0), at(60), "it never was more");
    }

    #[test]
    fn a_penalty_is_forgotten_once_it_is_little_and_the_least_go_at_the_limit() {
        let (mut penalties, policy) = (Penalties::default(), DampingPolicy::default());
        penalties.add(&key(0), &policy, at(0));
        penalties.sweep(at(199));
        assert!(penalties.get(&key(0)).is_some(), "2^-3.3 is more than a tenth");
        penalties.sweep(at(200));
        assert!(penalties.get(&key(0)).is_none() && penalties.order.is_empty() && penalties.keys.is_empty());
        let most = u32::try_from(PENALTIES).unwrap();
        for id in 0..=most {
            penalties.add(&key(id), &policy, at(u64::from(id)));
        }
        assert!(penalties.get(&key(0)).is_none() && penalties.get(&key(1)).is_some());
        assert_eq!(
            (penalties.by_key.len(), penalties.order.len(), penalties.numbers.len()),
            (PENALTIES, PENALTIES, PENALTIES)
        );
    }

    #[test]
    fn what_is_taken_back_stands_as_before() {
        let (mut penalties, policy) = (Penalties::default(), DampingPolicy::default());
        let none = penalties.add(&key(0), &policy, at(0));
        let one = penalties.add(&key(0), &policy, at(1));
        penalties.restore(&key(0), one);
        assert!((penalties.get(&key(0)).unwrap().left(at(0)) - 1.0).abs() < 1e-9);
        penalties.restore(&key(0), none);
        assert!(penalties.get(&key(0)).is_none() && penalties.order.is_empty());
    }

    #[test]
    fn a_member_that_a_start_finds_damped_has_the_most_that_it_can_have() {
        let (mut penalties, policy) = (Penalties::default(), DampingPolicy::default());
        penalties.revive(&key(0), &policy, Duration::from_secs(60), at(1000));
        assert_eq!(penalties.get(&key(0)).unwrap().reaches(policy.reuse), at(1060));
    }
}
