//! The membership table: who is there, and until when.
//!
//! One writer edits it in transactions: edits take effect at once, each with its undo, and are then either accepted
//! (the store has them) or rolled back (it refused), so that a failing disk leaves the table as it was. Heartbeats don't
//! take part: they move cells, and so do other threads.
//!
//! Timers are data: `(when, item)` in a heap, one per item. A timer that fires reads the item's cell and, if heartbeats
//! moved the deadline on, re-arms; so a heartbeat costs nothing here, and expiry costs O(log n) per lease that ends or has
//! been renewed, never a scan. A timer that is no longer the item's own is dropped when it fires.
//!
//! Deadlines are looked at on a grid of [`EXPIRY_TICK`], so that leases which end together leave together.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::TOMBSTONE;
use crate::base::{Monotonic, Name, NameMap, Now, SeededMap, SeededSet, Wall};

use super::access::Owner;
use super::cell::{CellId, Cells, Heartbeats, Reading, Stamp};
use super::census::Census;
use super::holdings::{Holding, Holdings};
use super::limits::LeaseLimits;
use super::member::{HeldAddresses, Item, Key, LeasedRecord, Member, MemberId, State};
use super::policy::{Policies, ServicePolicy};
use super::renewals::Renewals;
use super::stall::Stalls;

use governed::{Governed, Side};
use time::{RETRY_EXPIRY, UNARMED};

pub use hold::Decision;
pub use tombstones::Tombstone;

/// The place of an item in the table, and of its cell. Stays the same while the item lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Index(pub u32);

impl Index {
    fn at(self) -> usize {
        usize::try_from(self.0).expect("32 bits fit")
    }

    fn cell(self) -> CellId {
        CellId(self.0)
    }
}

/// The table is full: [`Cells::LIMIT`] leases. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the zone holds as many leases as it can")]
pub struct Full;

/// What one accepted edit means to the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// Which item.
    pub key: Key,
    /// What it is now; `None`: it is gone.
    pub after: Option<Item>,
    /// The signature that brought it or took it, or the last one before.
    pub stamp: Stamp,
}

impl Edit {
    /// The replay mark that something removed leaves, if it was ever signed for.
    pub fn tombstone(&self, now: Wall) -> Option<Tombstone> {
        let buried = self.after.is_none() && self.stamp != Stamp::default();
        buried.then(|| Tombstone { stamp: self.stamp, until: now.after(TOMBSTONE) })
    }
}

#[derive(Debug)]
struct Slot {
    item: Option<Item>,
    /// When the item's own timer fires; any other timer of it is void.
    armed: Monotonic,
}

#[derive(Debug)]
struct Undo {
    index: Index,
    before: Option<Item>,
    /// Whether this edit took the place from the free ones.
    allocated: bool,
    /// What `signed` had for the item's key.
    signed: Option<Stamp>,
    /// Whether somebody was heard of by it, so that the lease runs anew.
    heard: bool,
    /// What else it did.
    sides: Vec<Side>,
}

/// The table of one zone.
#[derive(Debug)]
pub struct Table {
    cells: Arc<Cells>,
    renewals: Arc<Renewals>,
    slots: Vec<Slot>,
    free: Vec<Index>,
    /// Items there are: the places of those that the transaction under way took out are not free yet.
    items: usize,
    census: Census,
    holdings: Holdings,
    /// Members of each service, by id.
    services: NameMap<Vec<Index>>,
    leased: NameMap<Vec<Index>>,
    held: NameMap<Index>,
    timers: BinaryHeap<Reverse<(Monotonic, Index)>>,
    tombstones: SeededMap<Key, Tombstone>,
    tombstone_order: VecDeque<(Wall, Key)>,
    /// Replay marks that went by the limit; the store doesn't know yet.
    forgotten: Vec<Key>,
    /// How many of these since that was last asked.
    displaced: u64,
    journal: Vec<Undo>,
    /// Where edits took place since the last accept; a partial rollback leaves its places in.
    edited: SeededSet<Index>,
    /// The signatures that the transaction under way has accepted so far.
    signed: SeededMap<Key, Stamp>,
    governed: Governed,
    stalls: Stalls,
    /// Loaded from the store and not known to have renewed since: what checkpoints look at.
    unrenewed: Vec<Unrenewed>,
}

/// An item that the store gave, as it stood then.
#[derive(Clone, Copy, Debug)]
struct Unrenewed {
    index: Index,
    generation: u32,
    /// A later one tells that it has renewed. (The time of the last heartbeat would not: one that comes within
    /// [`SHORTEST_GAP`](crate::base::limits::SHORTEST_GAP) of the start doesn't move that.)
    deadline: Monotonic,
}

/// A point inside a transaction to which it can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Savepoint(usize);

impl Table {
    /// An empty table without other policy than this: `grace` is how long a lapsed member stays published.
    pub fn new(grace: Duration) -> Table {
        let leases = LeaseLimits { grace, ..LeaseLimits::default() };
        Table::with(Policies::of_zone(ServicePolicy::plain(leases)).into())
    }

    /// An empty table with these policies.
    pub fn with(policies: Arc<Policies>) -> Table {
        let cells: Arc<Cells> = Arc::default();
        Table {
            renewals: Arc::new(Renewals::new(cells.clone())),
            cells,
            slots: Vec::new(),
            free: Vec::new(),
            items: 0,
            census: Census::default(),
            holdings: Holdings::default(),
            services: NameMap::default(),
            leased: NameMap::default(),
            held: NameMap::default(),
            timers: BinaryHeap::new(),
            tombstones: SeededMap::default(),
            tombstone_order: VecDeque::new(),
            forgotten: Vec::new(),
            displaced: 0,
            journal: Vec::new(),
            edited: SeededSet::default(),
            signed: SeededMap::default(),
            governed: Governed::new(policies),
            stalls: Stalls::default(),
            unrenewed: Vec::new(),
        }
    }

    /// The heartbeat cells.
    pub fn cells(&self) -> &Arc<Cells> {
        &self.cells
    }

    /// What messages renew, for threads that do so in place.
    pub fn renewals(&self) -> &Arc<Renewals> {
        &self.renewals
    }

    // ---- reading ------------------------------------------------------------------------------------------------

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items
    }

    /// How many there are of what, with the edits of the transaction under way.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// What an owner holds; `None`: nothing.
    pub fn holding(&self, owner: &Owner) -> Option<&Holding> {
        self.holdings.get(owner)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at a place.
    pub fn item(&self, index: Index) -> Option<&Item> {
        self.slots.get(index.at())?.item.as_ref()
    }

    /// All items.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
    }

    /// A consistent reading of an item's cell.
    pub fn reading(&self, index: Index) -> Reading {
        self.cells.read(index.cell())
    }

    /// When an item's lease ends, as far as is known now: its deadline, and the time in which nobody could renew.
    pub fn deadline(&self, index: Index) -> Monotonic {
        let reading = self.reading(index);
        self.stalls.extend(&reading, reading.deadline)
    }

    /// One member.
    pub fn member(&self, service: &Name, id: &str) -> Option<(Index, &Member)> {
        let members = self.services.get(service)?;
        let index = members[self.place(members, id).ok()?];
        match self.item(index) {
            Some(Item::Member(member)) => Some((index, member)),
            _ => None,
        }
    }

    /// The members of a service, by id.
    pub fn members(&self, service: &Name) -> impl Iterator<Item = (Index, &Member)> {
        self.services.get(service).into_iter().flatten().filter_map(|&index| match self.item(index) {
            Some(Item::Member(member)) => Some((index, member)),
            _ => None,
        })
    }

    /// How many members a service has.
    pub fn member_count(&self, service: &Name) -> usize {
        self.services.get(service).map_or(0, Vec::len)
    }

    /// The leased records at a name.
    pub fn leased(&self, name: &Name) -> impl Iterator<Item = (Index, &LeasedRecord)> {
        self.leased.get(name).into_iter().flatten().filter_map(|&index| match self.item(index) {
            Some(Item::Leased(record)) => Some((index, record)),
            _ => None,
        })
    }

    /// Addresses that wait for a member at this host name.
    pub fn held(&self, host: &Name) -> Option<(Index, &HeldAddresses)> {
        let &index = self.held.get(host)?;
        match self.item(index) {
            Some(Item::Held(held)) => Some((index, held)),
            _ => None,
        }
    }

    /// The last accepted signature of an item, or of one that was removed lately, even if something unsigned has taken its
    /// place; the transaction under way included.
    pub fn stamp(&self, key: &Key, now: Wall) -> Stamp {
        let buried = self.tombstones.get(key).filter(|tomb| tomb.until > now).map(|tomb| tomb.stamp);
        let lives = self.find(key).map(|index| self.reading(index).stamp);
        let signed = self.signed.get(key).copied();
        [buried, lives, signed].into_iter().flatten().fold(Stamp::default(), Stamp::later)
    }

    /// Where an item stands.
    pub fn find(&self, key: &Key) -> Option<Index> {
        match key {
            Key::Member(service, id) => self.member(service, id.as_str()).map(|(index, _)| index),
            Key::Held(host) => self.held.get(host).copied(),
            Key::Leased(name, rtype, rdata) => self
                .leased(name)
                .find(|(_, record)| record.rtype == *rtype && record.rdata == *rdata)
                .map(|(index, _)| index),
        }
    }

    // ---- one transaction ----------------------------------------------------------------------------------------

    /// Where the transaction stands.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(self.journal.len())
    }

    /// Whether anything was edited since the last accept or rollback.
    pub fn is_dirty(&self) -> bool {
        !self.journal.is_empty()
    }

    /// Adds an item, or replaces the one with the same key. `stamp` is the signature that brought it.
    pub fn put(&mut self, item: Item, stamp: Option<Stamp>) -> Result<Index, Full> {
        self.replace(item, stamp, true, None)
    }

    /// The same for a member that takes another's place: its slot, if that one has none any more.
    pub fn put_in_place_of(
        &mut self,
        item: Item,
        stamp: Option<Stamp>,
        predecessor: Option<&MemberId>,
    ) -> Result<Index, Full> {
        self.replace(item, stamp, true, predecessor)
    }

    /// Changes an item of which nobody was heard: its lease and signature stay.
    pub fn amend(&mut self, item: Item) -> Result<Index, Full> {
        self.replace(item, None, false, None)
    }

    fn replace(
        &mut self,
        mut item: Item,
        stamp: Option<Stamp>,
        heard: bool,
        predecessor: Option<&MemberId>,
    ) -> Result<Index, Full> {
        let (index, allocated) = match self.find(&item.key()) {
            Some(index) => (index, false),
            None => (self.allocate()?, true),
        };
        let sides = self.govern(&mut item, predecessor);
        let signed = self.sign(item.key(), stamp);
        let before = self.set(index, Some(item));
        self.edited.insert(index);
        self.journal.push(Undo { index, before, allocated, signed, heard, sides });
        Ok(index)
    }

    /// Takes an item out.
    pub fn remove(&mut self, index: Index, stamp: Option<Stamp>) {
        let Some(key) = self.item(index).map(Item::key) else { return };
        // Until the end of the transaction heartbeats are handed on: none is counted whose signature the replay mark would
        // not have.
        self.cells.shut(index.cell());
        // What was accepted last counts on: the same transaction may put the item back at another place.
        let last = self.last_stamp(index, &key, true);
        let signed = self.sign(key, Some(stamp.map_or(last, |stamp| last.later(stamp))));
        let sides = self.govern_removal(index);
        let before = self.set(index, None);
        self.edited.insert(index);
        self.journal.push(Undo { index, before, allocated: false, signed, heard: true, sides });
    }

    /// Notes a signature for the transaction under way; returns what was noted before.
    fn sign(&mut self, key: Key, stamp: Option<Stamp>) -> Option<Stamp> {
        let before = self.signed.get(&key).copied();
        if let Some(stamp) = stamp {
            self.signed.insert(key, before.unwrap_or_default().later(stamp));
        }
        before
    }

    /// The last accepted signature of what stands or stood at a place, the transaction under way included.
    fn last_stamp(&self, index: Index, key: &Key, known: bool) -> Stamp {
        let base = if known { self.reading(index).stamp } else { Stamp::default() };
        self.signed.get(key).map_or(base, |stamp| base.later(*stamp))
    }

    /// Undoes every edit since the savepoint.
    pub fn rollback(&mut self, to: Savepoint) {
        while self.journal.len() > to.0 {
            let undo = self.journal.pop().expect("the loop checked");
            if let Some(key) = undo.before.as_ref().or(self.item(undo.index)).map(Item::key) {
                match undo.signed {
                    Some(stamp) => drop(self.signed.insert(key, stamp)),
                    None => drop(self.signed.remove(&key)),
                }
            }
            self.set(undo.index, undo.before);
            self.take_back(undo.sides);
            if undo.allocated {
                self.free.push(undo.index);
            }
        }
    }

    /// What the store must know of the edits since the last accept: each key once, with its last state.
    pub fn edits(&self) -> Vec<Edit> {
        let mut last: SeededMap<Key, Edit> = SeededMap::default();
        let mut order = Vec::new();
        for undo in &self.journal {
            let after = self.item(undo.index);
            let Some(key) = undo.before.as_ref().or(after).map(Item::key) else { continue };
            let stamp = self.last_stamp(undo.index, &key, undo.before.is_some());
            // It may have gone from one place and stand at another.
            let after = self.find(&key).and_then(|index| self.item(index)).cloned();
            if last.insert(key.clone(), Edit { key: key.clone(), after, stamp }).is_none() {
                order.push(key);
            }
        }
        order.into_iter().filter_map(|key| last.remove(&key)).collect()
    }

    /// Where edits took place since the last accept or rollback.
    pub fn edited(&self) -> &SeededSet<Index> {
        &self.edited
    }

    /// Ends the transaction: leases of what was edited run from `now`, and what was removed leaves its replay mark.
    pub fn accept(&mut self, now: Now) {
        let mut freed = SeededSet::default();
        for undo in std::mem::take(&mut self.journal) {
            let index = undo.index;
            let known = undo.before.is_some();
            let item = self.slots[index.at()].item.as_ref();
            let Some(key) = undo.before.as_ref().or(item).map(Item::key) else {
                self.release(index, &mut freed);
                continue;
            };
            // Heartbeats under way are over before the words are read, which others would be written in place of.
            self.cells.shut(index.cell());
            let stamp = self.last_stamp(index, &key, known);
            match item.map(Item::lease) {
                Some(lease) => {
                    let before = self.reading(index);
                    let gaps = if known { before.gaps } else { Default::default() };
                    let (deadline, last) = match known && !undo.heard {
                        true => (before.deadline, before.last),
                        false => (now.mono.after(lease.duration()), now.mono),
                    };
                    self.cells.assign(index.cell(), deadline, last, lease, stamp, gaps);
                    if self.is_held(index) {
                        self.cells.shut(index.cell());
                    }
                    // A timer that fires before the new deadline re-arms by itself.
                    let (armed, due) = (self.slots[index.at()].armed, self.due(index));
                    if armed == UNARMED || due < armed {
                        self.arm(index, due);
                    }
                }
                None => {
                    // Once a key, though it may have been edited more often.
                    if self.find(&key).is_none()
                        && let Some(stamp) = self.signed.remove(&key)
                    {
                        self.bury(key, stamp, now.wall);
                    }
                    self.release(index, &mut freed);
                }
            }
        }
        self.signed.clear();
        self.settle_timers(None);
        self.settle_slots(true);
    }

    /// Ends the transaction: everything is as it was, but for one thing. Who was heard of by an edit is alive, though what
    /// it said could not be kept, so that its lease runs anew from `heard`, when the transaction was closed. Items that [`Table::lapsed`] had claimed are counted in
    /// place again and looked at once more a second later; suspect members stay claimed, since the publisher decides about
    /// those.
    pub fn abandon(&mut self, now: Monotonic, heard: Monotonic) {
        let edits = self.journal.iter().filter(|undo| undo.heard);
        let known = edits.filter_map(|undo| undo.before.as_ref().map(Item::key));
        let living: SeededSet<Key> = known.filter(|key| self.find(key).is_some()).collect();
        let returned = self.returned_from_hold();
        self.rollback(Savepoint(0));
        self.settle_slots(false);
        self.signed.clear();
        self.settle_timers(Some(now));
        for key in living {
            if let Some(index) = self.find(&key) {
                self.renew(index, heard, None);
            }
        }
        self.retry_decisions(returned, now.after(RETRY_EXPIRY));
    }

    /// Items with edits have no timer while the transaction lasts, if theirs fires; at its end they get one.
    fn settle_timers(&mut self, abandoned: Option<Monotonic>) {
        for index in std::mem::take(&mut self.edited) {
            let Some(item) = self.item(index) else { continue };
            let claimed = matches!(item, Item::Member(member) if matches!(member.state, State::Suspect | State::Held));
            let end = self.due(index);
            if !claimed {
                self.cells.unclaim(index.cell());
            }
            match abandoned {
                Some(now) => {
                    self.arm(index, if end > now { end } else { now.after(RETRY_EXPIRY) });
                }
                None if self.slots[index.at()].armed == UNARMED => self.arm(index, end),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod tests;

mod governed;
mod hold;
mod places;
mod time;
mod tombstones;
