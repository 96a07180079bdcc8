//! `[hold]`, `[damping]` and what a `[[service]]` entry has in their place: what a zone lays down about its members.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use crate::base::{Name, Ttl};
use crate::membership::damping::CAP;
use crate::membership::limits::LeaseLimits;
use crate::membership::policy::{DampingPolicy, HoldPolicy, Policies, ServicePolicy};

use super::problems::Findings;
use super::{values, written};

/// The policies of a zone; those of services without an entry of their own are the zone's.
pub(super) fn check(
    findings: &mut Findings,
    written: &written::Zone,
    leases: LeaseLimits,
    ttl: Ttl,
    name_of: impl Fn(&str) -> Option<Name>,
) -> Policies {
    let hold = written.hold.as_ref().map(Spanned::get_ref);
    let damping = written.damping.as_ref().map(|damping| (damping.span(), damping.get_ref()));
    let zone = ServicePolicy {
        leases,
        hold: check_hold(findings, "hold", hold, HoldPolicy::default()),
        damping: check_damping(findings, "damping", damping, DampingPolicy::default()),
        slot_hold: None,
        slow_start: Duration::ZERO,
    };
    let mut policies = Policies::of_zone(zone);
    for entry in &written.service {
        let policy = check_service(findings, entry, &zone, ttl);
        let name = entry.get_ref().name.as_ref().and_then(|name| name_of(name.get_ref()));
        policies.services.extend(name.map(|name| (name, policy)));
    }
    policies
}

fn check_service(
    findings: &mut Findings,
    entry: &Spanned<written::Service>,
    zone: &ServicePolicy,
    ttl: Ttl,
) -> ServicePolicy {
    let service = entry.get_ref();
    let leases = match &service.lease {
        Some(written) => {
            if let Some(records) = &written.records {
                let message = "`records` is for leased records, which are no service's: set it in [lease]";
                findings.problem(&records.span(), message);
            }
            super::zone::check_leases(findings, "service.lease", written, zone.leases, ttl)
        }
        None => zone.leases,
    };
    let hold = service.hold.as_ref().map(Spanned::get_ref);
    let damping = service.damping.as_ref().map(|damping| (damping.span(), damping.get_ref()));
    let has_slots = service.slots.as_ref().is_some_and(|slots| *slots.get_ref());
    let slot_hold = values::duration(findings, "slot-hold", &service.slot_hold, Duration::ZERO);
    if let Some(text) = service.slot_hold.as_ref().filter(|_| !has_slots) {
        findings.problem(&text.span(), "`slot-hold` needs `slots = true`: add that, or leave it out");
    }
    ServicePolicy {
        leases,
        hold: check_hold(findings, "service.hold", hold, zone.hold),
        damping: check_damping(findings, "service.damping", damping, zone.damping),
        slot_hold: has_slots.then_some(slot_hold),
        slow_start: check_slow_start(findings, &service.slow_start),
    }
}

/// The longest way to a weight: beyond that it is a weight of its own.
const SLOW_START: Duration = Duration::from_secs(3600);

fn check_slow_start(findings: &mut Findings, written: &written::Text) -> Duration {
    let span = values::duration(findings, "slow-start", written, Duration::ZERO);
    if let Some(text) = written.as_ref().filter(|_| span > SLOW_START) {
        findings.problem(&text.span(), format!("`slow-start` may be 1h at most, and is \"{}\"", text.get_ref()));
    }
    span
}

fn check_hold(findings: &mut Findings, key: &str, written: Option<&written::Hold>, default: HoldPolicy) -> HoldPolicy {
    let Some(written) = written else { return default };
    let key = |name: &str| format!("{key}.{name}");
    HoldPolicy {
        fraction: number(findings, &key("fraction"), written.fraction.as_ref(), default.fraction, 0.0, 1.0),
        min_members: values::integer(
            findings,
            &key("min-members"),
            written.min_members.as_ref(),
            default.min_members,
            0..=u32::MAX.into(),
        ),
        max: values::duration(findings, &key("max"), &written.max, default.max),
        floor: values::integer(findings, &key("floor"), written.floor.as_ref(), default.floor, 0..=u32::MAX.into()),
    }
}

fn check_damping(
    findings: &mut Findings,
    key: &str,
    written: Option<(Range<usize>, &written::Damping)>,
    default: DampingPolicy,
) -> DampingPolicy {
    let Some((span, written)) = written else { return default };
    let before = findings.count();
    let name = |name: &str| format!("{key}.{name}");
    let policy = DampingPolicy {
        half_life: values::duration(findings, &name("half-life"), &written.half_life, default.half_life),
        suppress: number(findings, &name("suppress"), written.suppress.as_ref(), default.suppress, 0.1, f64::MAX),
        reuse: number(findings, &name("reuse"), written.reuse.as_ref(), default.reuse, 0.1, CAP),
    };
    if findings.count() == before && policy.reuse >= policy.suppress {
        let message = format!(
            "`{key}.reuse` ({}) must be less than `{key}.suppress` ({}): a damped member comes back at the one and is \
             damped at the other",
            policy.reuse, policy.suppress
        );
        findings.problem(&span, message);
    }
    policy
}

/// A number within a range; the default when the key is absent or wrong.
fn number(findings: &mut Findings, key: &str, written: Option<&Spanned<f64>>, default: f64, min: f64, max: f64) -> f64 {
    let Some(written) = written else { return default };
    let value = *written.get_ref();
    if value >= min && value <= max {
        return value;
    }
    let most = if max == f64::MAX { String::new() } else { format!(" to {max}") };
    findings.problem(&written.span(), format!("`{key}` must be {min}{most}, and is {value}"));
    default
}
