//! What a zone and each of its services lay down about membership: leases, and what keeps a fault from emptying the zone.
//!
//! Settings alone; [`table`](super::table) acts by them. A service without settings of its own has those of its zone.

use std::time::Duration;

use crate::base::{Name, NameMap};

use super::limits::LeaseLimits;

/// When many fall silent together, and how few there may be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HoldPolicy {
    /// With more than this part of the published members late, the late ones are held. 1.0: never.
    pub fraction: f64,
    /// With fewer published members than this none is held.
    pub min_members: u32,
    /// How long one is held at most.
    pub max: Duration,
    /// Lapses leave this many published, for `max` at most.
    pub floor: u32,
}

impl Default for HoldPolicy {
    fn default() -> HoldPolicy {
        HoldPolicy { fraction: 0.5, min_members: 4, max: Duration::from_secs(600), floor: 0 }
    }
}

impl HoldPolicy {
    /// Whether so many of the published are too many to be a coincidence.
    pub fn is_mass(&self, silent: usize, published: usize) -> bool {
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        self.fraction < 1.0 && count(published) >= self.min_members.into() && self.exceeds(silent, published)
    }

    /// Whether so many are more than `fraction` of the published.
    pub fn exceeds(&self, silent: usize, published: usize) -> bool {
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        count(silent) > self.fraction * count(published)
    }
}

/// How a member that comes and goes is kept from the answers (in the style of RFC 2439).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DampingPolicy {
    /// In which time a penalty halves. Zero: there are none.
    pub half_life: Duration,
    /// A member that returns with this much is damped.
    pub suppress: f64,
    /// Until it has come down to this.
    pub reuse: f64,
}

impl Default for DampingPolicy {
    fn default() -> DampingPolicy {
        DampingPolicy { half_life: Duration::from_secs(60), suppress: 3.0, reuse: 1.0 }
    }
}

/// What holds for the members of a service.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ServicePolicy {
    /// Leases, and how long a lapsed member stays published.
    pub leases: LeaseLimits,
    /// When many fall silent together.
    pub hold: HoldPolicy,
    /// When one comes and goes.
    pub damping: DampingPolicy,
    /// With slots: how long a slot that became free is kept for whoever had it; none: no slots.
    pub slot_hold: Option<Duration>,
    /// In which time a member that comes reaches its weight. Zero: at once.
    pub slow_start: Duration,
}

impl ServicePolicy {
    /// Leases and grace, and no other policy.
    pub fn plain(leases: LeaseLimits) -> ServicePolicy {
        ServicePolicy {
            leases,
            hold: HoldPolicy { fraction: 1.0, ..HoldPolicy::default() },
            damping: DampingPolicy { half_life: Duration::ZERO, ..DampingPolicy::default() },
            slot_hold: None,
            slow_start: Duration::ZERO,
        }
    }
}

/// The policies of a zone.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Policies {
    /// For services without their own.
    pub zone: ServicePolicy,
    /// For services that have some.
    pub services: NameMap<ServicePolicy>,
}

impl Policies {
    /// The same for all.
    pub fn of_zone(zone: ServicePolicy) -> Policies {
        Policies { zone, services: NameMap::default() }
    }

    /// What holds for a service.
    pub fn of(&self, service: &Name) -> &ServicePolicy {
        self.services.get(service).unwrap_or(&self.zone)
    }
}

/// What policy did to a member, and why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub enum Reason {
    /// It fell silent with too many others: it is held.
    Held,
    /// There would be too few without it: it is held.
    Floor,
    /// It was held and has been heard of.
    Heard,
    /// It was held, few enough are by now, and it has not been heard of for one more lease: it is gone.
    LetGo,
    /// It was held for as long as that may be: it is gone.
    HoldEnded,
    /// It came back too often.
    Damped,
    /// It has stayed since: it is damped no longer.
    Reused,
    /// It waited for a slot and has one.
    Slotted,
    /// The next step to its weight.
    Ramped,
}

impl Reason {
    /// All of them, each at the place of its number.
    pub const ALL: [Reason; 9] = [
        Reason::Held,
        Reason::Floor,
        Reason::Heard,
        Reason::LetGo,
        Reason::HoldEnded,
        Reason::Damped,
        Reason::Reused,
        Reason::Slotted,
        Reason::Ramped,
    ];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Held => "held",
            Reason::Floor => "held-by-floor",
            Reason::Heard => "heard-again",
            Reason::LetGo => "let-go",
            Reason::HoldEnded => "hold-ended",
            Reason::Damped => "damped",
            Reason::Reused => "reused",
            Reason::Slotted => "given-slot",
            Reason::Ramped => "ramped",
        }
    }

    /// What it did to a member, for people.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Held => "held, with too many others silent",
            Reason::Floor => "held, too few would be left",
            Reason::Heard => "heard of again, held no longer",
            Reason::LetGo => "let go, silent since few are held",
            Reason::HoldEnded => "let go, held for as long as may be",
            Reason::Damped => "damped, it came back too often",
            Reason::Reused => "published again, damped until now",
            Reason::Slotted => "given a slot",
            Reason::Ramped => "given more of its weight",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mass_is_more_than_the_fraction_of_enough_members() {
        let policy = HoldPolicy::default();
        assert!(policy.is_mass(51, 100) && !policy.is_mass(50, 100));
        assert!(policy.is_mass(3, 4) && !policy.is_mass(3, 3));
        let off = HoldPolicy { fraction: 1.0, ..policy };
        assert!(!off.is_mass(100, 100));
    }
}
