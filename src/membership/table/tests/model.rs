//! A model of the table beside the real one: a map of what is there and a map of what the cells say, no timers, no
//! indexes, no undo. Random sequences of edits, heartbeats and time run through both.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const ITEMS: usize = 12;

#[derive(Clone, Debug)]
enum Step {
    Put {
        number: usize,
        variant: u16,
        lease: u32,
        signed: Option<u64>,
    },
    Remove {
        number: usize,
        signed: Option<u64>,
    },
    /// The publisher counts a heartbeat.
    Renew {
        number: usize,
        signed: Option<u64>,
    },
    /// Another thread counts a heartbeat at the cell.
    Beat {
        number: usize,
        signed: Option<u64>,
    },
    Advance(u64),
    /// What the publisher does on each tick.
    Lapse,
    Accept,
    Abandon,
    Mark,
    Rollback,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || 0..ITEMS;
    let signed = || prop::option::of(1u64..400);
    let step = prop_oneof![
        6 => (number(), 0u16..4, 1u32..8, signed())
            .prop_map(|(number, variant, lease, signed)| Step::Put { number, variant, lease, signed }),
        2 => (number(), signed()).prop_map(|(number, signed)| Step::Remove { number, signed }),
        2 => (number(), signed()).prop_map(|(number, signed)| Step::Renew { number, signed }),
        4 => (number(), signed()).prop_map(|(number, signed)| Step::Beat { number, signed }),
        4 => (1u64..3000).prop_map(Step::Advance),
        4 => Just(Step::Lapse),
        4 => Just(Step::Accept),
        2 => Just(Step::Abandon),
        1 => Just(Step::Mark),
        1 => Just(Step::Rollback),
    ];
    prop::collection::vec(step, 1..120)
}

/// What a cell should say of an accepted item.
#[derive(Clone, Copy, Debug)]
struct Lived {
    deadline: u64,
    lease: u32,
    stamp: Stamp,
    /// Suspect, or lapsed and not settled: heartbeats are handed on.
    claimed: bool,
}

type Mark = (BTreeMap<usize, Item>, BTreeMap<usize, Stamp>, BTreeSet<usize>);

#[derive(Clone, Debug, Default)]
struct Model {
    items: BTreeMap<usize, Item>,
    /// As of the last accept.
    accepted: BTreeMap<usize, Item>,
    cells: BTreeMap<usize, Lived>,
    tombs: BTreeMap<usize, (Stamp, u64)>,
    /// Signatures of the transaction under way.
    fresh: BTreeMap<usize, Stamp>,
    /// Edited in the transaction under way.
    edited: BTreeSet<usize>,
    /// Edited, even if that was rolled back since.
    touched: BTreeSet<usize>,
    /// The point that a rollback goes back to: `items`, `fresh`, `edited`.
    mark: Option<Mark>,
}

fn later(a: Stamp, b: Stamp) -> Stamp {
    if b.time >= a.time { b } else { a }
}

impl Model {
    fn edit(&mut self, number: usize) {
        self.edited.insert(number);
        self.touched.insert(number);
    }

    fn sign(&mut self, number: usize, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            let before = self.fresh.get(&number).copied().unwrap_or_default();
            self.fresh.insert(number, later(before, stamp));
        }
    }

    /// The newest accepted signature, the transaction under way included.
    fn stamp(&self, number: usize, wall: u64) -> Stamp {
        let mut newest = self.fresh.get(&number).copied().unwrap_or_default();
        if let Some(cell) = self.cells.get(&number) {
            newest = later(cell.stamp, newest);
        }
        if let Some((stamp, until)) = self.tombs.get(&number)
            && *until > wall
        {
            newest = later(*stamp, newest);
        }
        newest
    }

    fn is_suspect(&self, number: usize) -> bool {
        matches!(self.items.get(&number), Some(Item::Member(member)) if member.state == State::Suspect)
    }

    /// States between up and suspect take no part in transactions.
    fn set_state(&mut self, number: usize, state: State) {
        let marked = self.mark.as_mut().map(|(items, ..)| items);
        for items in [&mut self.items, &mut self.accepted].into_iter().chain(marked) {
            if let Some(Item::Member(member)) = items.get_mut(&number) {
                member.state = state;
            }
        }
    }

    /// A suspect member was heard of.
    fn set_state_up(&mut self, number: usize) {
        if self.is_suspect(number) {
            self.set_state(number, State::Up);
        }
    }

    fn accept(&mut self, now: u64) {
        self.touched.clear();
        for number in std::mem::take(&mut self.edited) {
            let fresh = self.fresh.get(&number).copied().unwrap_or_default();
            let before = self.cells.remove(&number).map_or(Stamp::default(), |cell| cell.stamp);
            let stamp = later(before, fresh);
            match self.items.get(&number) {
                Some(item) => {
                    let lease = item.lease().0;
                    let deadline = now + u64::from(lease) * 1000;
                    self.cells.insert(number, Lived { deadline, lease, stamp, claimed: false });
                }
                None if stamp != Stamp::default() => {
                    let until = now + u64::try_from(TOMBSTONE.as_millis()).unwrap();
                    self.tombs.insert(number, (stamp, until));
                }
                None => {}
            }
        }
        self.fresh.clear();
        self.mark = None;
        self.accepted = self.items.clone();
    }
}

const GRACE_MILLIS: [u64; 2] = [0, 1500];
const TICK: u64 = 50;
const RETRY: u64 = 1000;

struct Run {
    table: Table,
    model: Model,
    now: u64,
    grace: u64,
    stamps: u64,
    savepoint: Option<Savepoint>,
    /// Until when a failed expiry of an item is not tried again.
    retry: BTreeMap<usize, u64>,
    /// Signatures as they were sent at this time, so that some are sent again.
    sent: Vec<Stamp>,
}

impl Run {
    fn new(grace: u64) -> Run {
        let table = Table::new(Duration::from_millis(grace));
        Run {
            table,
            model: Model::default(),
            now: 0,
            grace,
            stamps: 0,
            savepoint: None,
            retry: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn mono(&self) -> Monotonic {
        Monotonic(self.now)
    }

    fn wall(&self) -> Wall {
        Wall(self.now)
    }

    /// Small numbers repeat an earlier signature, the others are new with that time.
    fn stamp(&mut self, signed: Option<u64>) -> Option<Stamp> {
        let time = signed?;
        if time < 40 && !self.sent.is_empty() {
            return Some(self.sent[usize::try_from(time).unwrap() % self.sent.len()]);
        }
        self.stamps += 1;
        let stamp = Stamp { time, mac: self.stamps };
        self.sent.push(stamp);
        Some(stamp)
    }

    fn key(number: usize) -> Key {
        item(number, 0, 1).key()
    }

    fn end(&self, number: usize) -> u64 {
        let grace = match self.model.items.get(&number) {
            Some(Item::Member(member)) if member.state != State::Draining => self.grace,
            _ => 0,
        };
        self.model.cells[&number].deadline + grace
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Put { number, variant, lease, signed } => {
                let stamp = self.stamp(signed);
                let item = item(number, variant, lease);
                self.table.put(item.clone(), stamp).unwrap();
                self.model.items.insert(number, item);
                self.model.edit(number);
                self.model.sign(number, stamp);
            }
            Step::Remove { number, signed } => {
                let stamp = self.stamp(signed);
                let Some(index) = self.table.find(&Self::key(number)) else { return };
                self.table.remove(index, stamp);
                self.model.items.remove(&number);
                self.model.edit(number);
                self.model.sign(number, stamp);
            }
            Step::Renew { number, signed } => self.renew(number, signed),
            Step::Beat { number, signed } => self.beat(number, signed),
            Step::Advance(millis) => self.now += millis,
            Step::Lapse => self.lapse(),
            Step::Accept => {
                self.check_edits();
                self.table.accept(Now { mono: self.mono(), wall: self.wall() });
                for number in &self.model.edited {
                    self.retry.remove(number);
                }
                self.model.accept(self.now);
                self.savepoint = None;
            }
            Step::Abandon => self.abandon(),
            Step::Mark => {
                self.savepoint = Some(self.table.savepoint());
                self.model.mark = Some((self.model.items.clone(), self.model.fresh.clone(), self.model.edited.clone()));
            }
            Step::Rollback => {
                let (Some(savepoint), Some((items, fresh, edited))) = (self.savepoint.take(), self.model.mark.take())
                else {
                    return;
                };
                self.table.rollback(savepoint);
                // What was suspect stays so; heartbeats and time are not taken back.
                self.model.items = items;
                self.model.fresh = fresh;
                self.model.edited = edited;
            }
        }
    }

    fn renew(&mut self, number: usize, signed: Option<u64>) {
        let Some(index) = self.table.find(&Self::key(number)) else { return };
        if self.model.touched.contains(&number) {
            return; // covered where it matters: `a_renewal_in_the_batch_of_its_registration_counts_as_signed`
        }
        let stamp = self.stamp(signed);
        // The publisher asks for freshness first.
        let last = self.table.stamp(&Self::key(number), self.wall());
        if last.freshness(stamp) != crate::membership::Freshness::New {
            return;
        }
        self.table.renew(index, self.mono(), stamp);
        let now = self.now;
        let was_suspect = self.model.is_suspect(number);
        let cell = self.model.cells.get_mut(&number).unwrap();
        cell.deadline = cell.deadline.max(now + u64::from(cell.lease) * 1000);
        cell.stamp = stamp.unwrap_or(cell.stamp);
        if was_suspect {
            cell.claimed = false;
            self.model.set_state(number, State::Up);
        }
    }

    fn beat(&mut self, number: usize, signed: Option<u64>) {
        let Some(index) = self.table.find(&Self::key(number)) else { return };
        if self.model.touched.contains(&number) {
            return;
        }
        let stamp = self.stamp(signed);
        let generation = self.table.reading(index).generation();
        let beat = self.table.cells().beat(CellId(index.0), generation, self.mono(), stamp);
        let now = self.now;
        let cell = self.model.cells.get_mut(&number).unwrap();
        let expected = match cell.stamp.freshness(stamp) {
            _ if cell.claimed => Beat::HandOn,
            crate::membership::Freshness::Older => Beat::Older,
            crate::membership::Freshness::Repeat => Beat::Repeat(Lease(cell.lease)),
            crate::membership::Freshness::New => {
                cell.deadline = cell.deadline.max(now + u64::from(cell.lease) * 1000);
                cell.stamp = stamp.unwrap_or(cell.stamp);
                Beat::Renewed(Lease(cell.lease))
            }
        };
        assert_eq!(beat, expected, "item {number}");
    }

    fn lapse(&mut self) {
        // A message that is rolled back came after this.
        (self.savepoint, self.model.mark) = (None, None);
        let lapsed = self.table.lapsed(self.mono());
        let mut numbers = Vec::new();
        for index in lapsed {
            let key = self.table.item(index).expect("only items lapse").key();
            let number = (0..ITEMS).find(|&number| Self::key(number) == key).unwrap();
            assert!(self.end(number) <= self.now, "item {number} lapsed early");
            numbers.push(number);
            // From here on a heartbeat is handed on.
            let generation = self.table.reading(index).generation();
            let beat = self.table.cells().beat(CellId(index.0), generation, self.mono(), None);
            assert_eq!(beat, Beat::HandOn);
            self.table.remove(index, None);
            // Whoever was not looked at during its grace was suspect for a moment only.
            if self.end(number) > self.model.cells[&number].deadline {
                self.model.set_state(number, State::Suspect);
            }
            self.model.items.remove(&number);
            self.model.edit(number);
            self.model.cells.get_mut(&number).unwrap().claimed = true;
        }
        let distinct: SeededSet<_> = numbers.iter().collect();
        assert_eq!(distinct.len(), numbers.len(), "an item lapsed twice");
        // Everything over for a tick is gone, or suspect.
        for number in 0..ITEMS {
            // What is edited gets a new lease at the end of the transaction.
            if self.model.touched.contains(&number) {
                continue;
            }
            let Some(cell) = self.model.cells.get(&number).copied() else { continue };
            let due = self.retry.get(&number).copied().unwrap_or(0);
            let is_over = |end: u64| end.div_ceil(TICK) * TICK <= self.now && due.div_ceil(TICK) * TICK <= self.now;
            let Some(Item::Member(member)) = self.model.items.get(&number) else {
                let stays = self.model.items.contains_key(&number);
                assert!(!(stays && is_over(cell.deadline)), "item {number} should have lapsed");
                continue;
            };
            if member.state == State::Draining || self.grace == 0 {
                assert!(!is_over(cell.deadline), "member {number} should have lapsed");
                continue;
            }
            assert!(!is_over(cell.deadline + self.grace), "member {number} should have lapsed");
            let real = self.table.item(self.table.find(&Self::key(number)).unwrap());
            let Some(Item::Member(real)) = real else { panic!("member {number} is there") };
            if is_over(cell.deadline) {
                assert_eq!(real.state, State::Suspect, "member {number}");
            }
            if real.state == State::Suspect && member.state == State::Up {
                assert!(cell.deadline <= self.now, "member {number} is suspect early");
                self.model.cells.get_mut(&number).unwrap().claimed = true;
                self.model.set_state(number, State::Suspect);
            }
        }
    }

    fn abandon(&mut self) {
        self.table.abandon(self.mono(), self.mono());
        let edited = std::mem::take(&mut self.model.edited);
        let heard: BTreeSet<usize> =
            edited.into_iter().filter(|number| self.model.items.contains_key(number)).collect();
        let touched = std::mem::take(&mut self.model.touched);
        self.model.items = self.model.accepted.clone();
        self.model.fresh.clear();
        self.model.mark = None;
        self.savepoint = None;
        for number in touched {
            if !self.model.accepted.contains_key(&number) {
                continue;
            }
            if heard.contains(&number) {
                self.model.set_state_up(number);
            }
            let suspect = self.model.is_suspect(number);
            let cell = self.model.cells.get_mut(&number).unwrap();
            cell.claimed = suspect;
            if heard.contains(&number) {
                cell.deadline = cell.deadline.max(self.now + u64::from(cell.lease) * 1000);
            }
            if cell.deadline + if suspect { self.grace } else { 0 } <= self.now {
                self.retry.insert(number, self.now + RETRY);
            }
        }
    }

    /// `edits` is the difference that the transaction makes.
    fn check_edits(&self) {
        let edits = self.table.edits();
        let mut keys = SeededSet::default();
        for edit in &edits {
            assert!(keys.insert(edit.key.clone()), "an edit twice");
            let number = (0..ITEMS).find(|&number| Self::key(number) == edit.key).unwrap();
            assert_eq!(edit.after.as_ref(), self.model.items.get(&number));
            let before = self.model.cells.get(&number).map_or(Stamp::default(), |cell| cell.stamp);
            let fresh = self.model.fresh.get(&number).copied().unwrap_or_default();
            assert_eq!(edit.stamp, later(before, fresh), "item {number}");
            assert_eq!(edit.tombstone(self.wall()).is_some(), edit.after.is_none() && edit.stamp != Stamp::default());
        }
        for number in 0..ITEMS {
            // A suspect member is one without an edit.
            let differs = self.model.items.get(&number) != self.model.accepted.get(&number);
            assert!(!differs || keys.contains(&Self::key(number)), "item {number} differs without an edit");
        }
    }

    /// How many there are of what, counted again.
    fn check_census(&self) {
        let mut counted = [0; State::ALL.len()];
        let (mut leased, mut held) = (0, 0);
        for item in self.table.items() {
            match item {
                Item::Member(member) => counted[member.state as usize] += 1,
                Item::Leased(_) => leased += 1,
                Item::Held(_) => held += 1,
            }
        }
        let census = self.table.census();
        assert_eq!(State::ALL.map(|state| census.members(state)), counted);
        assert_eq!((census.leased, census.held), (leased, held));
    }

    /// What each owner holds, counted again.
    fn check_holdings(&self) {
        for variant in 0..4 {
            let owner = Owner(format!("owner {variant}").into());
            let held = || self.model.items.values().filter(|item| *item.owner() == owner);
            let mut services: BTreeMap<String, usize> = BTreeMap::new();
            for item in held() {
                if let Item::Member(member) = item {
                    *services.entry(member.service.to_string()).or_default() += 1;
                }
            }
            let Some(holding) = self.table.holding(&owner) else {
                assert_eq!(held().count(), 0, "{owner}");
                continue;
            };
            assert_eq!((holding.leases(), holding.services()), (held().count(), services.len()), "{owner}");
            for service in ["_x._tcp.z.", "_y._udp.z."] {
                assert_eq!(holding.members(&name(service)), services.get(service).copied().unwrap_or(0), "{service}");
            }
        }
    }

    /// The real table against the model.
    fn check(&self) {
        for number in 0..ITEMS {
            let key = Self::key(number);
            let index = self.table.find(&key);
            let expected = self.model.items.get(&number);
            assert_eq!(index.and_then(|index| self.table.item(index)), expected, "item {number}");
            assert_eq!(self.table.stamp(&key, self.wall()), self.model.stamp(number, self.now), "stamp of {number}");
            if let (Some(index), Some(cell), false) =
                (index, self.model.cells.get(&number), self.model.touched.contains(&number))
            {
                let reading = self.table.reading(index);
                assert_eq!((reading.deadline.0, reading.lease.0), (cell.deadline, cell.lease), "item {number}");
            }
        }
        assert_eq!(self.table.items().count(), self.model.items.len());
        for service in ["_x._tcp.z.", "_y._udp.z."].map(name) {
            let listed: Vec<&MemberId> = self.table.members(&service).map(|(_, member)| &member.id).collect();
            assert!(listed.is_sorted());
            let expected =
                self.model.items.values().filter(|item| matches!(item, Item::Member(m) if m.service == service));
            assert_eq!((listed.len(), self.table.member_count(&service)), (expected.clone().count(), listed.len()));
        }
        for owner in ["r1.z.", "r2.z."].map(name) {
            let expected = self.model.items.values().filter(|item| matches!(item, Item::Leased(r) if r.name == owner));
            assert_eq!(self.table.leased(&owner).count(), expected.count());
        }
        for host in ["h1.x.z.", "h2.x.z."].map(name) {
            let expected = self.model.items.values().any(|item| matches!(item, Item::Held(held) if held.host == host));
            assert_eq!(self.table.held(&host).is_some(), expected);
        }
        self.check_holdings();
        self.check_census();
        assert_eq!(self.table.len(), self.model.items.len());
        if !self.table.is_dirty() {
            assert!(self.table.slots.len() <= ITEMS * 4, "free places are taken first");
        }
        // Whoever sleeps until `next_wake` is not late for anybody.
        let wake = self.table.next_wake();
        for (&number, cell) in &self.model.cells {
            if !self.model.items.contains_key(&number) || self.model.touched.contains(&number) {
                continue;
            }
            let suspect = self.model.is_suspect(number);
            let end = if suspect { cell.deadline + self.grace } else { cell.deadline };
            let due = end.max(self.retry.get(&number).copied().unwrap_or(0)).div_ceil(TICK) * TICK;
            assert!(wake.is_some_and(|wake| wake.0 <= due), "item {number} is due at {due}, wake is {wake:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_model_does(grace in 0usize..2, steps in steps()) {
        let mut run = Run::new(GRACE_MILLIS[grace]);
        for step in &steps {
            run.step(step);
            run.check();
        }
    }
}
