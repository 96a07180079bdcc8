//! Random changes through a zone: what it publishes step by step is what it would publish from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::base::{Epoch, Name, RecordType, Wall};
use crate::membership::{MemberId, Registration};
use crate::zone::records::{srv, txt};

use super::scenes::{self, Batch, Sources, Universe, caused, nodes, record_parts, records, restored, service_states};
use super::{Change, Published, PublishedMember, Snapshot, Zone};

/// A zone, a twin that never sees what the store refuses, and the sources as a plain map.
struct Run {
    universe: Universe,
    zone: Zone,
    twin: Zone,
    sources: Sources,
    /// What is known of each service's list: digest, members, epoch of the last change.
    lists: BTreeMap<String, (String, usize, u64)>,
    at: u64,
}

impl Run {
    fn new(universe: Universe) -> Run {
        let settings = universe.settings();
        let mut run = Run {
            zone: Zone::new(settings.clone(), Epoch(1000)),
            twin: Zone::new(settings.clone(), Epoch(1000)),
            sources: Sources::new(settings.clone()),
            universe,
            lists: BTreeMap::new(),
            at: 1,
        };
        run.batch(&[Change::Settings(settings)], false);
        run
    }

    fn changes(&self, batch: &Batch) -> Vec<Change> {
        let mut sources = self.sources.clone();
        let mut changes = Vec::new();
        for act in &batch.acts {
            if let Some(change) = self.universe.change(act, &sources) {
                sources.apply(&change);
                changes.push(change);
            }
        }
        changes
    }

    fn batch(&mut self, changes: &[Change], refused: bool) -> Option<Published> {
        self.at += 1;
        let at = Wall(self.at);
        let before = self.zone.snapshot().clone();
        let states = service_states(&self.zone);
        for change in changes {
            self.zone.change(caused(change.clone()), at);
        }
        let staged = self.zone.stage(at);
        if refused {
            self.zone.revert(staged);
            assert_eq!(nodes(self.zone.snapshot()), nodes(&before));
            assert_eq!(self.zone.snapshot().epoch, before.epoch);
            assert_eq!(service_states(&self.zone), states);
            assert_eq!(**self.zone.contents().settings(), *self.sources.settings);
            return None;
        }
        for change in changes {
            if let Change::Forget { service } = change {
                // If it comes back in the same batch, it begins anew.
                self.lists.remove(&service.to_string());
            }
            self.sources.apply(change);
            self.twin.change(caused(change.clone()), at);
        }
        let commit = staged.commit.clone();
        let told: BTreeSet<String> = staged.services.iter().map(ToString::to_string).collect();
        let published = self.zone.publish(staged);
        assert_eq!(published.is_some(), commit.is_some());
        // What was refused in between makes no difference.
        let twin_staged = self.twin.stage(at);
        assert_eq!(twin_staged.commit, commit);
        self.twin.publish(twin_staged);
        // The epoch moves by one exactly when something that is published differs.
        let after = self.zone.snapshot().clone();
        let differs = records(&before) != records(&after) || !before.settings.same_soa(&after.settings);
        assert_eq!(commit.is_some(), differs || before.is_empty());
        let moved = u64::from(commit.is_some());
        assert_eq!(after.epoch, Epoch(before.epoch.0 + moved));
        if let Some(commit) = &commit {
            assert_eq!(commit.epoch, after.epoch);
            check_delta(&before, &after, &commit.delta);
        }
        // The store learns of every service of which it keeps something else.
        let now = service_states(&self.zone);
        for name in states.keys().chain(now.keys()) {
            assert!(states.get(name) == now.get(name) || told.contains(name), "the store isn't told about {name}");
        }
        self.check_from_scratch();
        self.check_lists(commit.is_some());
        published
    }

    fn check_from_scratch(&self) {
        let fresh = restored(&self.sources, &self.zone);
        assert_eq!(nodes(fresh.snapshot()), nodes(self.zone.snapshot()));
        assert_eq!(fresh.snapshot().len(), self.zone.snapshot().len());
        assert_eq!(fresh.snapshot().soa(), self.zone.snapshot().soa());
        // Empty non-terminals are the names between records and the apex, and no others.
        let snapshot = self.zone.snapshot();
        let mut expected = BTreeSet::new();
        for node in snapshot.nodes().filter(|node| !node.is_empty()) {
            let mut name = node.name().clone();
            while expected.insert(name.to_string()) && name != self.universe.origin {
                name = name.parent().unwrap();
            }
        }
        assert_eq!(snapshot.nodes().map(|node| node.name().to_string()).collect::<BTreeSet<_>>(), expected);
    }

    /// The TXT record of each service, from what is published.
    fn check_lists(&mut self, committed: bool) {
        let snapshot = self.zone.snapshot().clone();
        let known: Vec<Name> = self.zone.contents().services().map(|(name, ..)| name.clone()).collect();
        self.lists.retain(|service, _| known.iter().any(|name| name.to_string() == *service));
        for service in &known {
            let digest = digest(&snapshot, service);
            let members = self.sources.members.values();
            let members = members.filter(|(of, member)| of == service && member.is_in_service()).count();
            let list = self.lists.entry(service.to_string()).or_insert((String::new(), 0, 0));
            if (&list.0, list.1) != (&digest, members) {
                assert!(committed, "the list of {service} changed without a commit");
                *list = (digest.clone(), members, snapshot.epoch.0);
            }
            let text = [format!("epoch={}", list.2), format!("members={members}"), format!("digest={digest}")]
                .map(String::into_bytes);
            let node = snapshot.node(service.as_wire()).expect("a known service has a TXT record");
            let found: Vec<_> = node.rrset(RecordType::TXT).unwrap().rdatas().map(txt::metadata).collect();
            assert!(
                found.iter().any(|strings| strings.iter().map(|s| s.to_vec()).eq(text.iter().cloned())),
                "{service}: {:?} in {found:?}",
                text.map(|text| String::from_utf8(text).unwrap())
            );
        }
    }
}

fn check_delta(before: &Snapshot, after: &Snapshot, delta: &super::Delta) {
    let removed: Vec<_> = delta.removed.iter().map(record_parts).collect();
    let added: Vec<_> = delta.added.iter().map(record_parts).collect();
    let mut applied = records(before);
    for record in &removed {
        assert!(applied.remove(record), "{record:?} was not there");
    }
    for record in &added {
        assert!(applied.insert(record.clone()), "{record:?} was there already");
        assert!(!removed.contains(record), "{record:?} is removed and added");
    }
    assert_eq!(applied, records(after));
}

/// The digest as DESIGN documents it, over the records that are published.
fn digest(snapshot: &Snapshot, service: &Name) -> String {
    let node = snapshot.node(service.as_wire()).expect("it is known");
    let mut lines = BTreeSet::new();
    for rdata in node.rrset(RecordType::SRV).into_iter().flat_map(|rrset| rrset.rdatas()) {
        let (priority, weight, port, target) = srv::fields(rdata).unwrap();
        let addresses = scenes::published_addresses(snapshot, target);
        let mut v4: Vec<String> = addresses.iter().filter(|a| a.is_ipv4()).map(IpAddr::to_string).collect();
        let mut v6: Vec<String> = addresses.iter().filter(|a| a.is_ipv6()).map(IpAddr::to_string).collect();
        v4.sort();
        v6.sort();
        let list = [v4, v6].concat().join(",");
        let target = Name::from_wire(target).unwrap();
        lines.insert(format!("{priority} {weight} {port} {target} {list}\n").into_bytes());
    }
    let hash = Sha256::digest(lines.into_iter().flatten().collect::<Vec<u8>>());
    hash[..8].iter().map(|octet| format!("{octet:02x}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_published_step_by_step_is_what_would_be_from_scratch(
        root in prop::bool::weighted(0.2), batches in scenes::batches(),
    ) {
        let mut run = Run::new(Universe::new(if root { "." } else { "svc.z." }));
        for batch in &batches {
            let changes = run.changes(batch);
            run.batch(&changes, batch.refused);
        }
    }

    #[test]
    fn equal_state_is_equal_records_in_any_order_of_events(
        acts in prop::collection::vec(scenes::acts(), 1..30), seed in any::<u64>(),
    ) {
        let universe = Universe::new("svc.z.");
        let mut sources = Sources::new(universe.settings());
        for act in &acts {
            // Host names are fixed in this test, so that default targets mean the same in any order.
            if let Some(change) = universe.change(act, &sources).filter(|change| !matches!(change, Change::Settings(_))) {
                sources.apply(&change);
            }
        }
        let ordered = sources.changes();
        let mut shuffled = ordered.clone();
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        let (one, other) = (scenes::zone_of(&universe, ordered), scenes::zone_of(&universe, shuffled));
        prop_assert_eq!(nodes(one.snapshot()), nodes(other.snapshot()));
        prop_assert_eq!(one.snapshot().soa(), other.snapshot().soa());
    }
}

fn member(universe: &Universe, service: &str, id: &str, target: &str, addresses: &[&str]) -> Change {
    Change::Member {
        service: universe.name(service),
        id: MemberId::new(id).unwrap(),
        member: Some(PublishedMember::in_service(Arc::new(Registration {
            target: universe.name(target),
            port: 80,
            priority: 0,
            weight: 0,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            metadata: Box::default(),
        }))),
    }
}

#[test]
fn the_digest_covers_the_address_set_when_a_member_points_there() {
    // `_y`'s member has the host name of `_x` as its target: clients see the addresses of all of `_x` there.
    let universe = Universe::new("z.");
    let mut run = Run::new(universe.clone());
    run.batch(&[member(&universe, "_y._tcp", "b", "x", &[])], false);
    run.batch(&[member(&universe, "_x._tcp", "a", "a.x", &["192.0.2.1"])], false);
    assert_eq!(run.lists["_y._tcp.z."].2, run.zone.snapshot().epoch.0);
}

#[test]
fn a_service_that_nobody_is_in_keeps_its_names() {
    let universe = Universe::new("z.");
    let mut run = Run::new(universe.clone());
    run.batch(&[member(&universe, "_x._tcp", "a", "a.x", &["192.0.2.1"])], false);
    run.batch(
        &[Change::Member { service: universe.name("_x._tcp"), id: MemberId::new("a").unwrap(), member: None }],
        false,
    );
    let node = run.zone.snapshot().node(universe.name("x").as_wire()).expect("NODATA, never NXDOMAIN").clone();
    let strings = node.rrset(RecordType::TXT).unwrap().rdatas().map(txt::metadata).next().unwrap();
    assert_eq!(&*strings[0], b"service=_x._tcp");
    assert!(run.zone.contents().service_state(&universe.name("_x._tcp")).unwrap().empty_since.is_some());
    run.batch(&[Change::Forget { service: universe.name("_x._tcp") }], false);
    assert!(run.zone.snapshot().node(universe.name("x").as_wire()).is_none());
    assert!(run.zone.snapshot().node(universe.name("_tcp").as_wire()).is_none());
}

/// Large enough for every processor to build a part of it, with names that belong to several services.
#[test]
fn a_large_zone_is_restored_as_it_was_and_changes_go_on() {
    let universe = Universe::new("z.");
    let registration = |target: Name, last: u8| {
        PublishedMember::in_service(Arc::new(Registration {
            target,
            port: 80,
            priority: 0,
            weight: 0,
            addresses: [[10, 0, 0, last].into()].into(),
            metadata: Box::default(),
        }))
    };
    let member = |transport: &str, service: u16, last: u8, published: bool| {
        let id = MemberId::new(&format!("i-{last}")).unwrap();
        let target = universe.name(&format!("{id}.c{service}.deep"));
        let service = universe.name(&format!("_c{service}._{transport}.deep"));
        Change::Member { service, id, member: published.then(|| registration(target, last)) }
    };
    // Those over UDP have their members below the same host names.
    let services = (0..400).flat_map(|service| [("tcp", service, 3), ("udp", service, 1)]);
    let services = services.filter(|(transport, service, _)| *transport == "tcp" || service % 7 == 0);
    let changes: Vec<Change> = services
        .flat_map(|(transport, service, count)| (0..count).map(move |last| (transport, service, last)))
        .map(|(transport, service, last)| member(transport, service, last, true))
        .collect();
    let mut run = Run::new(universe.clone());
    run.batch(&changes, false);
    let mut fresh = restored(&run.sources, &run.zone);
    assert_eq!(nodes(fresh.snapshot()), nodes(run.zone.snapshot()));
    assert_eq!(service_states(&fresh), service_states(&run.zone));
    assert!(fresh.snapshot().node(universe.name("deep").as_wire()).is_some_and(|node| node.is_empty()));
    // Empty non-terminals go with the last name below them.
    for change in &changes {
        let Change::Member { service, id, .. } = change else { continue };
        let gone = Change::Member { service: service.clone(), id: id.clone(), member: None };
        fresh.change(caused(gone), Wall(5));
    }
    let known: Vec<Name> = fresh.contents().services().map(|(name, ..)| name.clone()).collect();
    known.into_iter().for_each(|service| fresh.change(caused(Change::Forget { service }), Wall(5)));
    let staged = fresh.stage(Wall(5));
    fresh.publish(staged).unwrap();
    assert_eq!(nodes(fresh.snapshot()).keys().collect::<Vec<_>>(), ["z."]);
}
