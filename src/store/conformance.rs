//! What every store must do; each implementation runs it.
//!
//! Each function takes a way to open the store on a folder. Opening the same folder again, after the store was dropped, is
//! a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::base::limits::{HISTORY_COMMITS, HISTORY_MEMORY, HISTORY_PAGE_OCTETS};
use crate::base::{Epoch, Lease, Monotonic, Name, Now, RecordType, Ttl, Wall};
use crate::membership::{Item, Key, LeasedRecord, Owner, Stamp, Tombstone};
use crate::zone::scenes::Universe;
use crate::zone::{Cause, CausedChange, Change, Commit, Delta, Record, Rrset, ServiceState, Settings, StaticNode};

use super::{Appended, Pending, Starts, Store, StoreError, StoredZone, Write};

/// Opens the store on a folder.
pub type Open<'a> = &'a dyn Fn(&Path) -> Result<Box<dyn Store>, StoreError>;

/// Waits for what a store returns.
pub fn wait<T>(pending: Pending<T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(pending)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The item of this number, in a state of this number.
pub fn item(number: u8, state: u8) -> Item {
    Item::Leased(LeasedRecord {
        name: name("h.z."),
        rtype: RecordType::TXT,
        ttl: Ttl(u32::from(state)),
        rdata: [1, number].as_slice().into(),
        owner: Owner("somebody".into()),
        lease: Lease(15),
    })
}

fn commit(epoch: Epoch, number: u8) -> Commit {
    let record = |owner: &str| Record {
        owner: name(owner),
        rtype: RecordType::TXT,
        ttl: Ttl(5),
        rdata: [1, number].as_slice().into(),
    };
    let change = Change::Leased { name: name("h.z."), rtype: RecordType::TXT, ttl: Ttl(5), rdatas: Vec::new() };
    Commit {
        epoch,
        at: Wall(epoch.0),
        changes: vec![CausedChange { change, cause: Cause::Lapsed }],
        delta: Delta { removed: vec![record("a.z.")], added: vec![record("b.z.")] },
    }
}

fn settings(ttl: u8) -> Arc<Settings> {
    let mut settings = (*Universe::new("z.").settings()).clone();
    settings.ttl = Ttl(u32::from(ttl));
    Arc::new(settings)
}

/// A write that changes nothing but the epoch.
pub fn bare(zone: &Name, expected: Option<Epoch>, epoch: u64) -> Write {
    Write {
        zone: zone.clone(),
        expected,
        commit: Some(commit(Epoch(epoch), 0).into()),
        items: Vec::new(),
        tombstones: Vec::new(),
        services: Vec::new(),
        slots: Vec::new(),
        settings: expected.is_none().then(|| settings(5)),
        statics: Vec::new(),
        refreshed: None,
        replaces: false,
    }
}

/// Starts a run as a server does that serves.
fn start(store: &dyn Store, zone: &Name, now: Wall) -> Option<StoredZone> {
    let stored = store.start(zone, now).unwrap().map(whole);
    assert_eq!(wait(store.begin(zone, now)), Ok(()));
    stored
}

/// With all its items read.
fn whole(mut stored: StoredZone) -> StoredZone {
    stored.items.gather().unwrap();
    stored
}

fn open(open: Open<'_>, folder: &Path) -> Box<dyn Store> {
    open(folder).expect("nobody else has it")
}

/// A zone that is a copy knows when its primary was last known to have it so, and one that becomes a copy has nothing else.
pub fn copies_know_their_age(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let (zone, other) = (name("z."), name("other."));
    let store = open(how, folder.path());
    let node = |owner: &str| StaticNode {
        name: name(owner),
        rrsets: vec![Rrset { rtype: RecordType::TXT, ttl: Ttl(5), rdatas: vec![[1, 7].into()] }],
    };
    for zone in [&zone, &other] {
        let full = Write {
            items: vec![(item(1, 1).key(), Some((item(1, 1), Stamp::default())))],
            services: vec![(name("_x._tcp.z."), Some(ServiceState { changed: Epoch(1), empty_since: None, slots: 0 }))],
            statics: vec![node("s.z.")],
            ..bare(zone, None, 100)
        };
        assert_eq!(wait(store.append(full)), Appended::Committed);
        // It is our own.
        assert_eq!(wait(store.refreshed(zone, Wall(7))), Ok(()));
    }
    assert_eq!(start(&*store, &zone, Wall(8)).unwrap().refreshed, None);
    let copy = Write {
        statics: vec![node("copied.z.")],
        settings: Some(settings(6)),
        refreshed: Some(Wall(9)),
        replaces: true,
        ..bare(&zone, Some(Epoch(100)), 5_000_000_000)
    };
    assert_eq!(wait(store.append(copy)), Appended::Committed);
    drop(store);
    let store = open(how, folder.path());
    let stored = start(&*store, &zone, Wall(10)).unwrap();
    assert_eq!((stored.epoch, stored.refreshed), (Epoch(5_000_000_000), Some(Wall(9))));
    assert_eq!(stored.statics, [node("copied.z.")]);
    assert!(stored.items.ready().is_empty() && stored.tombstones.is_empty() && stored.services.is_empty());
    assert_eq!(stored.history.iter().map(|commit| commit.epoch.0).collect::<Vec<_>>(), [5_000_000_000]);
    let kept = start(&*store, &other, Wall(10)).unwrap();
    assert_eq!(
        (kept.items.ready().len(), kept.statics.len(), kept.services.len()),
        (1, 1, 1),
        "the other zone has all"
    );
    assert_eq!(wait(store.refreshed(&zone, Wall(11))), Ok(()));
    assert_eq!(start(&*store, &zone, Wall(12)).unwrap().refreshed, Some(Wall(11)));
    // Epochs of copies leave gaps.
    for (before, epoch) in [(5_000_000_000, 6_000_000_000), (6_000_000_000, 9_000_000_000)] {
        let write = Write { refreshed: Some(Wall(13)), ..bare(&zone, Some(Epoch(before)), epoch) };
        assert_eq!(wait(store.append(write)), Appended::Committed);
    }
    let stored = start(&*store, &zone, Wall(14)).unwrap();
    assert_eq!((stored.history.len(), stored.refreshed), (3, Some(Wall(13))));
    // It is our own from the next commit on, whether its settings differ or not.
    for settings in [None, Some(settings(7))] {
        let epoch = start(&*store, &zone, Wall(15)).unwrap().epoch;
        let own = Write { settings, ..bare(&zone, Some(epoch), epoch.0 + 1) };
        assert_eq!(wait(store.append(own)), Appended::Committed);
        assert_eq!(start(&*store, &zone, Wall(16)).unwrap().refreshed, None);
        let copy = Write { refreshed: Some(Wall(17)), ..bare(&zone, Some(Epoch(epoch.0 + 1)), epoch.0 + 2) };
        assert_eq!(wait(store.append(copy)), Appended::Committed);
    }
}

/// A write with another epoch than the store's is refused and leaves nothing.
pub fn a_conflict_leaves_nothing(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let zone = name("z.");
    let store = open(how, folder.path());
    assert!(store.start(&zone, Wall(0)).unwrap().is_none());
    assert_eq!(wait(store.epoch(&zone)), Ok(None));
    let full = |expected, epoch| Write {
        items: vec![(item(1, 1).key(), Some((item(1, 1), Stamp::default())))],
        services: vec![(name("_x._tcp.z."), Some(ServiceState { changed: Epoch(1), empty_since: None, slots: 0 }))],
        ..bare(&zone, expected, epoch)
    };
    assert_eq!(wait(store.append(full(Some(Epoch(9)), 10))), Appended::Conflict(None));
    assert_eq!(wait(store.append(bare(&zone, None, 100))), Appended::Committed);
    for expected in [None, Some(Epoch(99)), Some(Epoch(101))] {
        assert_eq!(wait(store.append(full(expected, 101))), Appended::Conflict(Some(Epoch(100))));
    }
    assert_eq!(wait(store.epoch(&zone)), Ok(Some(Epoch(100))));
    assert_eq!(wait(store.commits(&zone, None, usize::MAX)).unwrap().len(), 1);
    drop(store);
    let stored = whole(open(how, folder.path()).start(&zone, Wall(0)).unwrap().unwrap());
    assert_eq!((stored.epoch, stored.items.ready().len(), stored.services.len()), (Epoch(100), 0, 0));
}

/// Writes of several zones that wait together are carried out each for itself; those that conflict don't harm the others.
pub fn concurrent_writes_are_carried_out_each_for_itself(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    // One of them is a suffix of another, one is the root.
    let zones = ["z.", "a.z.", "b.", "."].map(name);
    let store = open(how, folder.path());
    for zone in &zones {
        assert!(store.start(zone, Wall(0)).unwrap().is_none());
    }
    let mut pending = Vec::new();
    for round in 0..50 {
        for zone in &zones {
            let expected = (round > 0).then(|| Epoch(99 + round));
            let write = Write {
                items: vec![(item(1, 0).key(), Some((item(1, zone.as_wire()[0]), Stamp::default())))],
                ..bare(zone, expected, 100 + round)
            };
            pending.push((store.append(write), true));
            pending.push((store.append(bare(zone, Some(Epoch(7)), 8)), false));
        }
    }
    for (append, fits) in pending {
        assert_eq!(wait(append) == Appended::Committed, fits);
    }
    drop(store);
    let store = open(how, folder.path());
    for zone in &zones {
        let stored = whole(store.start(zone, Wall(1)).unwrap().unwrap());
        assert_eq!(stored.epoch, Epoch(149));
        assert_eq!(
            stored.items.ready().iter().map(|(item, ..)| item).collect::<Vec<_>>(),
            [&item(1, zone.as_wire()[0])]
        );
        assert_eq!(wait(store.commits(zone, None, usize::MAX)).unwrap().len(), 50);
    }
}

/// The last commits are kept, in order.
pub fn history_is_bounded_and_in_order(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let zone = name("z.");
    let store = open(how, folder.path());
    store.start(&zone, Wall(0)).unwrap();
    // Over the edge where a byte of the epoch overflows.
    let first = 0xffff_fe00;
    let count = HISTORY_COMMITS + 20;
    let pending: Vec<_> = (0..count)
        .map(|number| {
            store.append(bare(&zone, number.checked_sub(1).map(|before| Epoch(first + before)), first + number))
        })
        .collect();
    for append in pending {
        assert_eq!(wait(append), Appended::Committed);
    }
    let commits = wait(store.commits(&zone, None, usize::MAX)).unwrap();
    let expected: Vec<Epoch> = (count - HISTORY_COMMITS..count).map(|number| Epoch(first + number)).collect();
    assert_eq!(commits.iter().map(|commit| commit.epoch).collect::<Vec<_>>(), expected);
    assert_eq!(commits[0], commit(expected[0], 0));
    assert_eq!(wait(store.oldest(&zone)), Ok(Some(expected[0])));
    assert_eq!(wait(store.oldest(&name("other.z."))), Ok(None));
    let last = *expected.last().unwrap();
    let page = |since: Option<Epoch>, limit: usize| -> Vec<Epoch> {
        wait(store.commits(&zone, since, limit)).unwrap().iter().map(|commit| commit.epoch).collect()
    };
    assert_eq!(page(None, 3), expected[..3]);
    assert_eq!(page(Some(Epoch(0)), 3), expected[..3], "what is kept no longer is passed over");
    assert_eq!(page(Some(expected[0]), usize::MAX), expected[1..]);
    // Over the edge of a byte, page by page.
    assert_eq!(page(Some(Epoch(0xffff_feff)), 2), [Epoch(0xffff_ff00), Epoch(0xffff_ff01)]);
    for none in [last, Epoch(u64::MAX)] {
        assert_eq!(page(Some(none), usize::MAX), []);
    }
    assert_eq!(page(None, 0), []);
}

/// A page of the history is bounded in octets; a commit larger than a page is one of its own.
pub fn a_page_of_the_history_is_bounded_in_octets(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let zone = name("z.");
    let store = open(how, folder.path());
    store.start(&zone, Wall(0)).unwrap();
    let page_octets = usize::try_from(HISTORY_PAGE_OCTETS).unwrap();
    let sizes = [page_octets + 1, page_octets / 2 - 1000, page_octets / 2 - 1000, page_octets / 3];
    for (number, size) in (0u64..).zip(sizes) {
        let expected = number.checked_sub(1).map(|before| Epoch(100 + before));
        let mut write = bare(&zone, expected, 100 + number);
        Arc::get_mut(write.commit.as_mut().unwrap()).unwrap().delta.added[0].rdata = vec![0; size].into();
        assert_eq!(wait(store.append(write)), Appended::Committed);
    }
    let page = |since: u64| -> Vec<u64> {
        let commits = wait(store.commits(&zone, Some(Epoch(since)), 10)).unwrap();
        commits.iter().map(|commit| commit.epoch.0).collect()
    };
    assert_eq!(page(0), [100]);
    assert_eq!(page(100), [101, 102]);
    assert_eq!(page(102), [103]);
}

/// A start knows who has returned after a lapse, also where the lapse stands in a commit that is too old for memory.
pub fn a_start_knows_the_lapses_of_all_commits(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let zone = name("z.");
    let store = open(how, folder.path());
    store.start(&zone, Wall(0)).unwrap();
    for epoch in 100..103 {
        let mut write = bare(&zone, (epoch > 100).then(|| Epoch(epoch - 1)), epoch);
        let commit = Arc::get_mut(write.commit.as_mut().unwrap()).unwrap();
        if epoch > 100 {
            commit.changes.clear();
            commit.delta.added[0].rdata = vec![0; HISTORY_MEMORY * 2 / 3].into();
        }
        if epoch == 102 {
            let change =
                Change::Leased { name: name("h.z."), rtype: RecordType::TXT, ttl: Ttl(5), rdatas: vec![[0].into()] };
            commit.changes.push(CausedChange { change, cause: Cause::Registered("key k.".into()) });
        }
        assert_eq!(wait(store.append(write)), Appended::Committed);
    }
    let stored = start(&*store, &zone, Wall(1)).unwrap();
    assert_eq!(stored.history.iter().map(|commit| commit.epoch.0).collect::<Vec<_>>(), [102]);
    assert_eq!(stored.lapses.newest(), Some(Epoch(102)));
    assert_eq!(stored.lapses.returns(Epoch(0)..=Epoch(102)), [((Epoch(102), 0), Epoch(100))].into());
}

/// A folder has one user.
pub fn a_second_open_is_refused(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(how, folder.path());
    assert!(matches!(how(folder.path()), Err(StoreError::InUse(_))));
    drop(store);
    drop(open(how, folder.path()));
}

/// Who renewed since the previous start gets a fresh lease, the others what that start gave them.
pub fn a_checkpoint_tells_the_next_start_who_renewed(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let zone = name("z.");
    let store = open(how, folder.path());
    assert!(start(&*store, &zone, Wall(100_000)).is_none());
    let items = [1, 2].map(|number| (item(number, 0).key(), Some((item(number, 0), Stamp { time: 50, mac: 1 }))));
    let write = Write { items: items.into(), ..bare(&zone, None, 100) };
    assert_eq!(wait(store.append(write)), Appended::Committed);
    drop(store);
    // The second run: 1 renews, 2 doesn't; and somebody who is not there any more.
    let store = open(how, folder.path());
    let stored = start(&*store, &zone, Wall(200_000)).unwrap();
    let now = Now { mono: Monotonic(0), wall: Wall(200_000) };
    assert!(
        stored.items.ready().iter().all(|(item, _, run)| stored.starts.deadline(*run, item.lease(), now).0 == 15_000)
    );
    let renewed = vec![(item(1, 0).key(), Stamp { time: 60, mac: 2 }), (item(9, 0).key(), Stamp::default())];
    assert_eq!(wait(store.checkpoint(&zone, renewed)), Ok(()));
    assert_eq!(wait(store.epoch(&zone)), Ok(Some(Epoch(100))), "a checkpoint moves no epoch");
    drop(store);
    let stored = whole(open(how, folder.path()).start(&zone, Wall(205_000)).unwrap().unwrap());
    let now = Now { mono: Monotonic(0), wall: Wall(205_000) };
    let found: Vec<(Key, Stamp, u64)> = stored
        .items
        .ready()
        .iter()
        .map(|(item, stamp, run)| (item.key(), *stamp, stored.starts.deadline(*run, item.lease(), now).0))
        .collect();
    assert_eq!(
        found,
        [
            (item(1, 0).key(), Stamp { time: 60, mac: 2 }, 15_000),
            (item(2, 0).key(), Stamp { time: 50, mac: 1 }, 10_000),
        ]
    );
}

/// A start that never served gave nobody time to renew.
pub fn a_start_that_came_to_nothing_does_not_count(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let zone = name("z.");
    let store = open(how, folder.path());
    assert!(start(&*store, &zone, Wall(100_000)).is_none());
    let items = vec![(item(1, 0).key(), Some((item(1, 0), Stamp::default())))];
    assert_eq!(wait(store.append(Write { items, ..bare(&zone, None, 100) })), Appended::Committed);
    drop(store);
    let deadline = |now: u64| {
        let stored = whole(open(how, folder.path()).start(&zone, Wall(now)).unwrap().unwrap());
        let (item, _, run) = &stored.items.ready()[0];
        stored.starts.deadline(*run, item.lease(), Now { mono: Monotonic(0), wall: Wall(now) }).0
    };
    for now in [200_000, 220_000, 240_000] {
        assert_eq!(deadline(now), 15_000);
    }
    // One that served is noted once, however often it says so.
    let store = open(how, folder.path());
    assert!(start(&*store, &zone, Wall(300_000)).is_some());
    assert_eq!(wait(store.begin(&zone, Wall(301_000))), Ok(()));
    drop(store);
    assert_eq!(deadline(305_000), 10_000);
}

#[derive(Clone, Debug)]
enum Step {
    Append { zone: usize, fits: bool, silent: bool, parts: Vec<(u8, u8, u8)> },
    Checkpoint { zone: usize, numbers: BTreeSet<u8> },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let parts = prop::collection::vec((0u8..5, 0u8..5, 0u8..4), 0..6);
    let step = prop_oneof![
        8 => (0usize..2, prop::bool::weighted(0.8), prop::bool::weighted(0.3), parts)
            .prop_map(|(zone, fits, silent, parts)| Step::Append { zone, fits, silent, parts }),
        2 => (0usize..2, prop::collection::btree_set(0u8..5, 0..4))
            .prop_map(|(zone, numbers)| Step::Checkpoint { zone, numbers }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

/// What the store should have of a zone.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) epoch: Option<Epoch>,
    settings: Option<Arc<Settings>>,
    items: BTreeMap<u8, (Item, Stamp, u32)>,
    tombstones: BTreeMap<u8, Tombstone>,
    services: BTreeMap<u8, ServiceState>,
    statics: BTreeMap<u8, StaticNode>,
    commits: Vec<Commit>,
    pub(super) starts: Starts,
}

fn service(number: u8) -> Name {
    name(&format!("_s{number}._tcp.z."))
}

impl Model {
    /// A random write on top of what is there.
    pub(super) fn write(&mut self, zone: &Name, fits: bool, silent: bool, parts: &[(u8, u8, u8)], time: u64) -> Write {
        let mut next = self.clone();
        let epoch = self.epoch.map_or(Epoch(100), Epoch::next);
        let commits = !silent || self.epoch.is_none();
        let mut write = Write {
            expected: if fits { self.epoch } else { Some(Epoch(5)) },
            commit: commits.then(|| commit(epoch, 3).into()),
            settings: None,
            ..bare(zone, None, 0)
        };
        if self.epoch.is_none() {
            write.settings = Some(settings(5));
        }
        let mut seen = BTreeSet::new();
        for &(kind, number, value) in parts {
            if !seen.insert((kind, number)) {
                continue;
            }
            match kind {
                0 => {
                    let stamp = Stamp { time, mac: u64::from(value) };
                    let after = (value > 0).then(|| (item(number, value), stamp));
                    match &after {
                        Some((item, stamp)) => {
                            drop(next.items.insert(number, (item.clone(), *stamp, self.starts.current())));
                        }
                        None => drop(next.items.remove(&number)),
                    }
                    write.items.push((item(number, 0).key(), after));
                }
                1 => {
                    let mark = (value > 0).then_some(Tombstone { stamp: Stamp { time, mac: 9 }, until: Wall(time) });
                    match mark {
                        Some(mark) => drop(next.tombstones.insert(number, mark)),
                        None => drop(next.tombstones.remove(&number)),
                    }
                    write.tombstones.push((item(number, 0).key(), mark));
                }
                2 => {
                    let empty_since = (value == 2).then_some(Wall(time));
                    let state =
                        (value > 0).then_some(ServiceState { changed: Epoch(time), empty_since, slots: value.into() });
                    match state {
                        Some(state) => drop(next.services.insert(number, state)),
                        None => drop(next.services.remove(&number)),
                    }
                    write.services.push((service(number), state));
                }
                3 => {
                    let rrset = Rrset { rtype: RecordType::A, ttl: Ttl(1), rdatas: vec![vec![value; 4].into()] };
                    let rrsets = if value > 0 { vec![rrset] } else { Vec::new() };
                    let node = StaticNode { name: service(number), rrsets };
                    match value {
                        0 => drop(next.statics.remove(&number)),
                        _ => drop(next.statics.insert(number, node.clone())),
                    }
                    write.statics.push(node);
                }
                _ => write.settings = Some(settings(value + 1)),
            }
        }
        if let Some(settings) = &write.settings {
            next.settings = Some(settings.clone());
        }
        if let Some(commit) = &write.commit {
            next.epoch = Some(commit.epoch);
            next.commits.push((**commit).clone());
        }
        if fits {
            *self = next;
        }
        write
    }

    pub(super) fn checkpoint(&mut self, numbers: &BTreeSet<u8>, time: u64) -> Vec<(Key, Stamp)> {
        let stamp = Stamp { time, mac: 77 };
        for number in numbers {
            if let Some((_, last, run)) = self.items.get_mut(number) {
                *last = if stamp.time >= last.time { stamp } else { *last };
                *run = self.starts.current();
            }
        }
        numbers.iter().map(|number| (item(*number, 0).key(), stamp)).collect()
    }

    pub(super) fn check(&self, stored: Option<StoredZone>) {
        let Some(epoch) = self.epoch else { return assert!(stored.is_none()) };
        let stored = stored.expect("it was committed");
        assert_eq!(stored.epoch, epoch);
        assert_eq!(Some(&stored.settings), self.settings.as_ref());
        assert_eq!(stored.starts, self.starts);
        let key = |item: &Item| format!("{:?}", item.key());
        let items: BTreeMap<_, _> = stored.items.ready().iter().cloned().map(|entry| (key(&entry.0), entry)).collect();
        assert_eq!(items, self.items.values().cloned().map(|entry| (key(&entry.0), entry)).collect());
        let marks: BTreeMap<_, _> = stored.tombstones.iter().map(|(key, mark)| (format!("{key:?}"), *mark)).collect();
        assert_eq!(marks, self.tombstones.iter().map(|(number, mark)| (key(&item(*number, 0)), *mark)).collect());
        let services: BTreeMap<_, _> = stored.services.iter().map(|(name, state)| (name.to_string(), *state)).collect();
        assert_eq!(
            services,
            self.services.iter().map(|(number, state)| (service(*number).to_string(), *state)).collect()
        );
        let statics: BTreeMap<_, _> = stored.statics.into_iter().map(|node| (node.name.to_string(), node)).collect();
        assert_eq!(statics, self.statics.values().cloned().map(|node| (node.name.to_string(), node)).collect());
    }
}

/// A write is carried out once it is handed over, whether or not anybody waits for the outcome.
pub fn a_write_begins_when_it_is_handed_over(how: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let zone = name("z.");
    let store = open(how, folder.path());
    let outcome = store.append(bare(&zone, None, 100));
    while wait(store.epoch(&zone)) != Ok(Some(Epoch(100))) {
        std::thread::yield_now();
    }
    assert_eq!(wait(outcome), Appended::Committed);
}

/// Whatever was committed is there after a restart, and nothing else.
pub fn a_restart_gives_back_what_was_committed(how: Open<'_>) {
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let run = |steps: Vec<Step>| {
        let folder = tempfile::tempdir().unwrap();
        let zones = ["z.", "a.z."].map(name);
        let mut models = [Model::default(), Model::default()];
        let mut store: Option<Box<dyn Store>> = None;
        let mut time = 1000;
        for step in std::iter::once(Step::Restart).chain(steps).chain([Step::Restart]) {
            time += 1;
            match step {
                Step::Append { zone, fits, silent, parts } => {
                    let before = models[zone].epoch;
                    let write = models[zone].write(&zones[zone], fits, silent, &parts, time);
                    let store = store.as_deref().expect("the first step opens it");
                    let expected = if fits { Appended::Committed } else { Appended::Conflict(before) };
                    prop_assert_eq!(wait(store.append(write)), expected);
                    prop_assert_eq!(wait(store.epoch(&zones[zone])), Ok(models[zone].epoch));
                }
                Step::Checkpoint { zone, numbers } => {
                    let renewed = models[zone].checkpoint(&numbers, time);
                    let store = store.as_ref().expect("the first step opens it");
                    prop_assert_eq!(wait(store.checkpoint(&zones[zone], renewed)), Ok(()));
                }
                Step::Restart => {
                    drop(store.take());
                    let opened = open(how, folder.path());
                    for (zone, model) in zones.iter().zip(&mut models) {
                        model.starts.begin(Wall(time));
                        model.check(start(&*opened, zone, Wall(time)));
                        prop_assert_eq!(&wait(opened.commits(zone, None, usize::MAX)).unwrap(), &model.commits);
                    }
                    store = Some(opened);
                }
            }
        }
        Ok(())
    };
    TestRunner::new(config).run(&steps(), run).unwrap();
}
