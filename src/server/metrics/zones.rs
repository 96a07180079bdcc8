//! Zones, copies and secondaries.

use std::fmt;

use crate::base::{Serial, Wall};
use crate::membership::State;
use crate::server::follower::FollowState;
use crate::server::front::Routing;
use crate::server::notifier::{NotifyState, Standing};
use crate::zone::figures::Population;

use super::count;
use super::writer::Writer;

/// A zone as it stood when the page was made.
pub(super) struct Zone {
    origin: String,
    /// Of what is served: epoch and names.
    shown: Option<(u64, usize)>,
    commits: (u64, Option<Wall>),
    population: Option<Population>,
    /// Updates that wait for the publisher; none for a copy.
    queued: Option<usize>,
    copy: Option<FollowState>,
    secondaries: Vec<(String, NotifyState)>,
}

/// Looks at all zones, in canonical order.
pub(super) fn look(routing: &Routing) -> Vec<Zone> {
    let mut zones: Vec<_> = routing.zones.iter().collect();
    zones.sort_by(|a, b| a.origin.canonical_cmp(&b.origin));
    let zone = |zone: &crate::dns::respond::ServedZone| {
        let queue = routing.registrars.get(&zone.origin).map(|registrar| &registrar.queue);
        let notices = routing.notices.get(&zone.origin);
        let answers = zone.answers.load();
        let snapshot = answers.as_deref().map(|answers| answers.snapshot());
        Zone {
            origin: zone.origin.to_string(),
            shown: snapshot.map(|snapshot| (snapshot.epoch.0, snapshot.len())),
            commits: zone.figures.commits(),
            population: zone.figures.population(),
            queued: queue.map(|queue| queue.max_capacity() - queue.capacity()),
            copy: routing.copies.get(&zone.origin).map(|copy| copy.state.lock().expect("no panic holds it").clone()),
            secondaries: notices.map_or(Vec::new(), |notices| {
                notices.states().into_iter().map(|state| (state.target.address.to_string(), state)).collect()
            }),
        }
    };
    zones.into_iter().map(|served| zone(served)).collect()
}

type ZoneLabel<'z> = [(&'static str, &'z str); 1];

/// A number of each zone that has it.
fn each<'z, V>(zones: &'z [Zone], value: impl Fn(&'z Zone) -> Option<V>) -> impl Iterator<Item = (ZoneLabel<'z>, V)> {
    zones.iter().filter_map(move |zone| Some(([("zone", zone.origin.as_str())], value(zone)?)))
}

/// Seconds since the Unix epoch.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far from 2^53")]
fn seconds(at: Wall) -> f64 {
    at.0 as f64 / 1000.0
}

pub(super) fn write_zones(writer: &mut Writer<'_>, zones: &[Zone]) -> fmt::Result {
    writer.gauges(
        "livezone_zone_loaded",
        "1 if the zone is answered; 0: SERVFAIL.",
        each(zones, |zone| Some(u64::from(zone.shown.is_some()))),
    )?;
    let epoch = each(zones, |zone| Some(zone.shown?.0));
    writer.gauges("livezone_zone_epoch", "The epoch that is served.", epoch)?;
    let serial = each(zones, |zone| Some(u64::from(crate::base::Epoch(zone.shown?.0).serial().0)));
    writer.gauges("livezone_zone_serial", "The SOA serial that is served.", serial)?;
    let names = each(zones, |zone| Some(count(zone.shown?.1)));
    writer.gauges("livezone_zone_names", "Names that are served.", names)?;
    let commits = each(zones, |zone| Some(zone.commits.0));
    writer.counters("livezone_zone_commits", "Commits that became visible.", commits)?;
    writer.gauges(
        "livezone_zone_last_commit_timestamp_seconds",
        "When the last commit of this run was proposed.",
        each(zones, |zone| zone.commits.1.map(seconds)),
    )?;
    let members = zones.iter().flat_map(|zone| {
        // Those that drain by an update and those that drain by an order are one.
        let of = move |state: State| {
            let population = zone.population?;
            let others = if state == State::Draining { population.members(State::Drained) } else { 0 };
            let labels = [("zone", zone.origin.as_str()), ("state", state.label())];
            Some((labels, population.members(state) + others))
        };
        State::ALL.into_iter().filter(|state| *state != State::Drained).filter_map(of)
    });
    writer.gauges("livezone_zone_members", "Members by state, changes that wait for the store included.", members)?;
    let services = each(zones, |zone| Some(zone.population?.services));
    writer.gauges("livezone_zone_services", "Services that the zone knows.", services)?;
    let leased = each(zones, |zone| Some(zone.population?.leased));
    writer.gauges("livezone_zone_leased_records", "Leased records that are no members.", leased)?;
    let held = each(zones, |zone| Some(zone.population?.held));
    writer.gauges("livezone_zone_waiting_addresses", "Hosts whose addresses wait for their member.", held)?;
    let queued = each(zones, |zone| zone.queued.map(count));
    writer.gauges("livezone_zone_queued_updates", "Updates that wait for the zone's publisher.", queued)
}

pub(super) fn write_copies(writer: &mut Writer<'_>, zones: &[Zone]) -> fmt::Result {
    let copy = |zone: &Zone| zone.copy.clone();
    writer.gauges(
        "livezone_copy_refreshed_timestamp_seconds",
        "Of a zone that is a copy: when a primary last had it as it is here.",
        each(zones, |zone| copy(zone)?.refreshed.map(seconds)),
    )?;
    writer.gauges(
        "livezone_copy_expires_timestamp_seconds",
        "Of a zone that is a copy: until when it is good.",
        each(zones, |zone| copy(zone)?.expires.map(seconds)),
    )?;
    writer.gauges(
        "livezone_copy_expired",
        "1 if there is no copy that is still good.",
        each(zones, |zone| Some(u64::from(copy(zone)?.expired))),
    )?;
    let rounds = zones.iter().filter_map(|zone| Some((zone, zone.copy.as_ref()?.rounds)));
    let rounds = rounds.flat_map(|(zone, rounds)| {
        [("current", rounds.current), ("transferred", rounds.transferred), ("failed", rounds.failed)]
            .map(|(outcome, count)| ([("zone", zone.origin.as_str()), ("outcome", outcome)], count))
    });
    writer.counters("livezone_copy_rounds", "Rounds of asking the primaries of a copy, by outcome.", rounds)
}

pub(super) fn write_secondaries(writer: &mut Writer<'_>, zones: &[Zone]) -> fmt::Result {
    let all =
        || zones.iter().flat_map(|zone| zone.secondaries.iter().map(move |(address, state)| (zone, address, state)));
    let label = |zone: &'_ Zone, address: &'_ String| -> [(&'static str, String); 2] {
        [("zone", zone.origin.clone()), ("secondary", address.clone())]
    };
    let current =
        all().map(|(zone, address, state)| (label(zone, address), u64::from(state.standing == Standing::Acknowledged)));
    writer.gauges("livezone_secondary_current", "1 if the secondary acknowledged the newest serial.", current)?;
    let acknowledged =
        all().filter_map(|(zone, address, state)| Some((label(zone, address), u64::from(state.acknowledged?.0))));
    writer.gauges(
        "livezone_secondary_acknowledged_serial",
        "The serial that the secondary acknowledged last.",
        acknowledged,
    )?;
    let at = all().map(|(zone, address, state)| (label(zone, address), state.acknowledged_at.map_or(0.0, seconds)));
    writer.gauges(
        "livezone_secondary_acknowledged_timestamp_seconds",
        "When the secondary last acknowledged a serial; 0: never.",
        at,
    )?;
    let behind = all().filter_map(|(zone, address, state)| {
        let served = crate::base::Epoch(zone.shown?.0).serial();
        Some((label(zone, address), commits_behind(served, state.acknowledged?)))
    });
    writer.gauges(
        "livezone_secondary_behind_commits",
        "Commits since the serial that the secondary acknowledged last.",
        behind,
    )?;
    let transferred =
        all().filter_map(|(zone, address, state)| Some((label(zone, address), u64::from(state.transferred?.0))));
    writer.gauges(
        "livezone_secondary_transferred_serial",
        "The serial of the last transfer to the secondary's address that came to its end.",
        transferred,
    )?;
    let notifies = all().flat_map(|(zone, address, state)| {
        let counts = state.counts;
        [("acknowledged", counts.acknowledged), ("refused", counts.refused), ("unanswered", counts.missed)].map(
            |(outcome, count)| {
                let labels =
                    [("zone", zone.origin.clone()), ("secondary", address.clone()), ("outcome", outcome.to_owned())];
                (labels, count)
            },
        )
    });
    writer.counters("livezone_notifies", "NOTIFY sent to secondaries, by what came of it.", notifies)
}

/// How many commits lie between two serials; none if the secondary's is not behind (RFC 1982 §3.2).
fn commits_behind(served: Serial, acknowledged: Serial) -> u64 {
    if acknowledged < served { served.0.wrapping_sub(acknowledged.0).into() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secondary_is_behind_by_the_commits_since_its_serial_also_where_these_begin_anew() {
        for (served, acknowledged, behind) in [(7, 7, 0), (9, 7, 2), (1, u32::MAX, 2), (7, 9, 0), (u32::MAX, 3, 0)] {
            assert_eq!(commits_behind(Serial(served), Serial(acknowledged)), behind, "{served} {acknowledged}");
        }
    }
}
