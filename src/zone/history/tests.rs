use proptest::prelude::*;

use super::*;
use crate::base::{Name, NameSet, RecordType, Wall};
use crate::zone::scenes::{Universe, caused};
use crate::zone::{Rrset, Zone};

fn name(number: u8) -> Name {
    format!("n{number}.z.").parse().unwrap()
}

/// A zone, its history, and all that was ever published.
struct Scene {
    zone: Zone,
    history: History,
    versions: Vec<crate::zone::Snapshot>,
}

impl Scene {
    fn new(first: u64) -> Scene {
        let settings = Universe::new("z.").settings();
        let mut zone = Zone::new(settings.clone(), Epoch(first - 1));
        zone.change(caused(Change::Settings(settings)), Wall(0));
        let staged = zone.stage(Wall(0));
        zone.publish(staged);
        let versions = vec![zone.snapshot().clone()];
        Scene { zone, history: History::default(), versions }
    }

    /// One commit that makes a name have these addresses.
    fn commit(&mut self, number: u8, addresses: &[u8]) {
        let rdatas: Vec<_> = addresses.iter().map(|&last| [192, 0, 2, last].into()).collect();
        let rrset = Rrset { rtype: RecordType::A, ttl: crate::base::Ttl(u32::from(number % 3)), rdatas };
        let rrsets = if addresses.is_empty() { Vec::new() } else { vec![rrset] };
        self.zone.change(caused(Change::Static { name: name(number), rrsets }), Wall(0));
        let before = self.zone.snapshot().soa();
        let staged = self.zone.stage(Wall(0));
        let commit = staged.commit.clone();
        self.zone.publish(staged);
        if let Some(commit) = commit {
            let to = Arc::new(self.zone.snapshot().soa());
            self.history.push(Step { from: before.into(), to, commit });
            self.versions.push(self.zone.snapshot().clone());
        }
    }
}

fn sorted(snapshot: &crate::zone::Snapshot) -> Vec<Record> {
    let mut records: Vec<Record> = snapshot
        .nodes()
        .flat_map(|node| node.rrsets().flat_map(|rrset| rrset.records(node.name()).collect::<Vec<_>>()))
        .collect();
    records.sort_by(|a, b| (a.owner.as_wire(), a.ttl, &a.rdata).cmp(&(b.owner.as_wire(), b.ttl, &b.rdata)));
    records
}

proptest! {
    #[test]
    fn steps_condensed_lead_from_any_version_to_any_later_one_at_the_cost_of_what_differs(
        // Across the wrap of serials.
        first in (1u64 << 32) - 20..(1 << 32) + 1,
        acts in prop::collection::vec((0u8..6, prop::collection::btree_set(0u8..5, 0..4)), 1..40),
        at in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let mut scene = Scene::new(first);
        for (number, addresses) in acts {
            scene.commit(number, &addresses.into_iter().collect::<Vec<_>>());
        }
        let Scene { history, versions, .. } = &scene;
        let (at, to) = (at.index(versions.len()), to.index(versions.len()));
        let (old, new) = (&versions[at.min(to)], &versions[at.max(to)]);
        let steps = history.between(old.epoch.serial(), new.epoch.serial());
        let Some(difference) = steps.and_then(Condensed::new).map(|condensed| condensed.difference()) else {
            prop_assert!(at == to);
            return Ok(());
        };
        prop_assert_eq!((&difference.from, &difference.to), (&old.soa(), &new.soa()));
        let mut direct = Delta::default();
        let names: NameSet = old.nodes().chain(new.nodes()).map(|node| node.name().clone()).collect();
        for name in &names {
            direct.compare(old.node(name.as_wire()).map(|node| &**node), new.node(name.as_wire()).map(|node| &**node));
        }
        prop_assert_eq!(difference.delta.removed.len(), direct.removed.len());
        prop_assert_eq!(difference.delta.added.len(), direct.added.len());
        let mut records = sorted(old);
        for removed in &difference.delta.removed {
            let place = records.iter().position(|record| record == removed);
            records.remove(place.expect("what is removed was there"));
        }
        for added in difference.delta.added {
            prop_assert!(!records.contains(&added));
            records.push(added);
        }
        records.sort_by(|a, b| (a.owner.as_wire(), a.ttl, &a.rdata).cmp(&(b.owner.as_wire(), b.ttl, &b.rdata)));
        prop_assert_eq!(records, sorted(new));
    }
}

#[test]
fn the_oldest_steps_go_at_the_limit() {
    let mut scene = Scene::new(1000);
    for number in 0..HISTORY_COMMITS + 10 {
        scene.commit(0, &[u8::try_from(number % 200).unwrap()]);
    }
    let last = scene.zone.snapshot().epoch;
    let reach =
        |back: u64| scene.history.between(Epoch(last.0 - back).serial(), last.serial()).map(|steps| steps.len());
    assert_eq!(reach(HISTORY_COMMITS), Some(usize::try_from(HISTORY_COMMITS).unwrap()));
    assert_eq!(reach(HISTORY_COMMITS + 1), None);
    assert!(scene.history.between(last.next().serial(), last.serial()).is_none(), "ahead of us");
}

#[test]
fn a_large_step_displaces_those_before_it_and_one_too_large_itself() {
    let mut scene = Scene::new(1000);
    scene.commit(0, &[1]);
    let large = |octets: usize, scene: &mut Scene| {
        let record =
            Record { owner: name(1), rtype: RecordType::TXT, ttl: crate::base::Ttl(1), rdata: [0; 60_000].into() };
        let delta = Delta { removed: Vec::new(), added: vec![record; octets / 60_000] };
        let from = Arc::new(scene.zone.snapshot().soa());
        let epoch = scene.zone.snapshot().epoch.next();
        let to = Arc::new(scene.zone.snapshot().settings.soa(epoch.serial()));
        let commit = Arc::new(Commit { epoch, at: Wall(0), changes: Vec::new(), delta });
        scene.history.push(Step { from, to, commit });
        scene.history.steps.len()
    };
    assert_eq!(large(HISTORY_MEMORY - 200_000, &mut scene), 2);
    scene.history.clear();
    scene.commit(0, &[2]);
    assert_eq!(large(HISTORY_MEMORY * 2, &mut scene), 0);
    assert_eq!(scene.history.octets, 0);
}

#[test]
fn changes_count_also_where_nothing_came_of_them() {
    let mut scene = Scene::new(1000);
    // Who comes and goes in one batch leaves a change each time, and no record.
    let comes_and_goes = |scene: &mut Scene| {
        let service: Name = "_x._tcp.z.".parse().unwrap();
        let metadata: Vec<Box<[u8]>> = vec![[b'm'; 250].into(); 4];
        let registration = Arc::new(Registration {
            target: "a.x.z.".parse().unwrap(),
            port: 80,
            priority: 0,
            weight: 0,
            addresses: [[192, 0, 2, 1].into()].into(),
            metadata: metadata.into(),
        });
        let id = crate::membership::MemberId::new("a").unwrap();
        let member = crate::zone::PublishedMember::in_service(registration);
        let change = Change::Member { service, id, member: Some(member) };
        let from = Arc::new(scene.zone.snapshot().soa());
        let epoch = scene.zone.snapshot().epoch.next();
        let to = Arc::new(scene.zone.snapshot().settings.soa(epoch.serial()));
        let changes = vec![caused(change); 4000];
        let commit = Arc::new(Commit { epoch, at: Wall(0), changes, delta: Delta::default() });
        scene.history.clear();
        scene.history.push(Step { from, to, commit });
        scene.history.octets
    };
    let octets = comes_and_goes(&mut scene);
    assert!((4_000_000..HISTORY_MEMORY).contains(&octets), "{octets}");
}

#[test]
fn a_restored_history_reaches_back_to_the_last_change_of_settings() {
    let mut scene = Scene::new(1000);
    for number in 1..6 {
        scene.commit(0, &[number]);
    }
    let mut commits: Vec<Arc<Commit>> = scene.history.steps.iter().map(|step| step.commit.clone()).collect();
    let settings = scene.zone.snapshot().settings.clone();
    let epoch = scene.zone.snapshot().epoch;
    let reach = |commits: &[Arc<Commit>]| {
        let history = History::restore(&settings, epoch, commits, Lapses::default());
        history.steps.iter().map(|step| (serial_of(&step.from).0, serial_of(&step.to).0)).collect::<Vec<_>>()
    };
    // What the oldest commit began with isn't kept.
    assert_eq!(reach(&commits), [(1001, 1002), (1002, 1003), (1003, 1004), (1004, 1005)]);
    let mut changed = (*commits[2]).clone();
    changed.changes.push(caused(Change::Settings(settings.clone())));
    commits[2] = Arc::new(changed);
    assert_eq!(reach(&commits), [(1003, 1004), (1004, 1005)]);
    assert_eq!(reach(&commits[..4]), [], "it doesn't end with what is published");
}

#[test]
fn what_is_new_is_here_or_may_not_be() {
    let mut scene = Scene::new(1000);
    let after = |history: &History, since: u64, limit: usize| {
        let commits = history.after(Epoch(since), limit);
        commits.map(|commits| commits.iter().map(|commit| commit.epoch.0).collect::<Vec<_>>())
    };
    assert_eq!(after(&scene.history, 1000, 10), None, "nothing is known of that");
    for number in 1..6 {
        scene.commit(0, &[number]);
    }
    let history = &mut scene.history;
    assert_eq!(after(history, 1000, 10), Some(vec![1001, 1002, 1003, 1004, 1005]));
    assert_eq!(after(history, 1000, 2), Some(vec![1001, 1002]));
    assert_eq!(after(history, 1004, 10), Some(vec![1005]));
    for since in [1005, 1006, u64::MAX] {
        assert_eq!(after(history, since, 10), Some(Vec::new()));
    }
    assert_eq!(after(history, 999, 10), None);
    // Epochs of copies leave gaps, and there may have been one between.
    history.begin(&Commit { epoch: Epoch(2000), at: Wall(0), changes: Vec::new(), delta: Delta::default() });
    assert_eq!(after(history, 1999, 10), None);
    assert_eq!(after(history, 2000, 10), Some(Vec::new()));
}

#[test]
fn a_page_is_bounded_in_octets_and_has_one_commit_at_the_least() {
    let mut scene = Scene::new(1000);
    let page = usize::try_from(HISTORY_PAGE_OCTETS).unwrap();
    for (octets, epoch) in [page * 2, page / 2 - 1000, page / 2 - 1000, page / 2].into_iter().zip(1001..) {
        let record =
            Record { owner: name(1), rtype: RecordType::TXT, ttl: crate::base::Ttl(1), rdata: vec![0; octets].into() };
        let delta = Delta { removed: Vec::new(), added: vec![record] };
        let [from, to] = [epoch - 1, epoch].map(|epoch| Arc::new(scene.zone.snapshot().settings.soa(Serial(epoch))));
        let commit = Arc::new(Commit { epoch: Epoch(epoch.into()), at: Wall(0), changes: Vec::new(), delta });
        scene.history.push(Step { from, to, commit });
    }
    let pages = [1000, 1001, 1003].map(|since| scene.history.after(Epoch(since), 10).unwrap().len());
    assert_eq!(pages, [1, 2, 1]);
}
