//! Which message renews which lease: what lets any thread count a heartbeat without asking the publisher.
//!
//! A heartbeat is the update that registered its member, sent again. So the publisher notes, for a message that has come to
//! nothing but a renewal, a [`Digest`] of what it said and who said it, beside the cell of the lease. Whoever receives the
//! same message again finds the cell by the digest and counts the heartbeat there ([`Heartbeats::beat`]). A note holds for
//! one registration: the generation of the cell is part of it. Whoever changes something else that the outcome of the
//! message depends on has the note voided; the message then goes to the publisher again, who notes it anew. One message is
//! noted for a lease, the latest.
//!
//! The index from digests to cells is written by the table's writer alone and read by any thread without a lock: slots of
//! four octets (ten bits of the digest and the cell's number), open addressing, in shards that are replaced when they are
//! to grow. A slot is a hint, and what stands beside the cell decides. So a reader that meets a slot under way, or a shard
//! that was replaced, misses at worst, and the publisher answers.
//!
//! A message that was found before its note was voided may be counted a moment after that: as if it had come before
//! whatever voided it, which nobody had been told of yet.
//!
//! Memory: 16 octets beside the cell, and 5 to 8 in the index, for each lease with a note.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::base::Monotonic;

use super::cell::{Beat, CellId, Cells, Heartbeats, Stamp};

/// Of a message: what it says, and who says it. Seeded, so that nobody can tell which two messages would have the same one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest {
    /// Finds the slot; never zero, which stands for no note.
    first: u64,
    second: u64,
}

impl Digest {
    /// Takes two hashes, each with a seed of its own.
    pub fn new(first: u64, second: u64) -> Digest {
        Digest { first: first.max(1), second }
    }

    /// What stands beside a cell of this generation.
    pub(super) fn words(self, generation: u32) -> [u64; 2] {
        // An odd factor: no two generations have the same product.
        [self.first, self.second ^ u64::from(generation).wrapping_mul(0x9e37_79b9_7f4a_7c15)]
    }
}

/// A lease that a message renews.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Noted {
    cell: CellId,
    generation: u32,
}

/// The notes of a table, with its cells.
#[derive(Debug)]
pub struct Renewals {
    cells: Arc<Cells>,
    shards: Box<[ArcSwap<Shard>]>,
}

/// Parts that grow by themselves, so that growing a table of a million leases holds up its publisher for some milliseconds
/// at most.
const SHARDS: u64 = 64;
/// Bits of a slot that number the cell; the others are of the digest.
const CELL_BITS: u32 = Cells::LIMIT.ilog2();
const CELL: u32 = u32::MAX >> (32 - CELL_BITS);
/// No slot was here: a search ends.
const EMPTY: u32 = 0;
/// A slot was here: a search goes on. No slot looks like this, since the bits of the digest are never all zero.
const VOID: u32 = 1;
/// Slots of a shard's first table.
const SMALLEST: usize = 16;

#[derive(Debug, Default)]
struct Shard {
    slots: Box<[AtomicU32]>,
    /// Slots that are not empty. The writer's own, as is the next one.
    used: AtomicUsize,
    /// Those of them that are not void.
    live: AtomicUsize,
}

/// What a slot has of a digest, above the number of the cell.
fn tag(first: u64) -> u32 {
    let bits = u32::try_from(first >> 32 & u64::from(u32::MAX >> CELL_BITS)).expect("masked to ten bits");
    bits.max(1) << CELL_BITS
}

impl Shard {
    fn with_room_for(count: usize) -> Shard {
        let slots = (0..(2 * count).max(SMALLEST)).map(|_| AtomicU32::new(EMPTY)).collect();
        Shard { slots, ..Shard::default() }
    }

    /// The places where a digest may be, in order.
    fn places(&self, first: u64) -> impl Iterator<Item = &AtomicU32> {
        let len = u64::try_from(self.slots.len()).expect("64 bits are enough");
        // The lower half of the digest, as a part of the length.
        let start = usize::try_from(((first & 0xffff_ffff) * len) >> 32).expect("below the length");
        let (before, from) = self.slots.split_at(start);
        from.iter().chain(before)
    }

    fn is_full(&self) -> bool {
        4 * (self.used.load(Ordering::Relaxed) + 1) > 3 * self.slots.len()
    }

    /// Takes up a slot; there is room.
    fn insert(&self, first: u64, cell: CellId) {
        let free = self.places(first).find(|place| [EMPTY, VOID].contains(&place.load(Ordering::Relaxed)));
        let Some(place) = free else { return };
        if place.load(Ordering::Relaxed) == EMPTY {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        // After the words beside the cell.
        place.store(tag(first) | cell.0, Ordering::Release);
    }

    fn remove(&self, first: u64, cell: CellId) {
        for place in self.places(first) {
            match place.load(Ordering::Relaxed) {
                EMPTY => return,
                slot if slot == tag(first) | cell.0 => {
                    self.live.fetch_sub(1, Ordering::Relaxed);
                    return place.store(VOID, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }
}

impl Renewals {
    pub(super) fn new(cells: Arc<Cells>) -> Renewals {
        Renewals { cells, shards: (0..SHARDS).map(|_| ArcSwap::default()).collect() }
    }

    /// The cells.
    pub fn cells(&self) -> &Arc<Cells> {
        &self.cells
    }

    fn shard(&self, first: u64) -> &ArcSwap<Shard> {
        &self.shards[usize::try_from(first >> (64 - SHARDS.ilog2())).expect("below the number of shards")]
    }

    /// The lease that a message renews, if it was noted.
    pub fn find(&self, digest: Digest) -> Option<Noted> {
        let shard = self.shard(digest.first).load();
        for place in shard.places(digest.first) {
            match place.load(Ordering::Acquire) {
                EMPTY => return None,
                slot if slot & !CELL == tag(digest.first) => {
                    let cell = CellId(slot & CELL);
                    if let Some(generation) = self.cells.noted(cell, digest) {
                        return Some(Noted { cell, generation });
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Counts a heartbeat that was found.
    pub fn beat(&self, noted: Noted, now: Monotonic, stamp: Option<Stamp>) -> Beat {
        self.cells.beat(noted.cell, noted.generation, now, stamp)
    }

    /// Notes a message for a lease, in place of the one before. Only the table calls this and what follows.
    pub(super) fn note(&self, cell: CellId, digest: Digest) {
        let generation = self.cells.read(cell).generation();
        if self.find(digest) == Some(Noted { cell, generation }) {
            return;
        }
        self.void(cell);
        self.cells.note(cell, digest.words(generation));
        let place = self.shard(digest.first);
        let mut shard = place.load_full();
        if shard.is_full() {
            let larger = Shard::with_room_for(shard.live.load(Ordering::Relaxed) + 1);
            for slot in &shard.slots {
                let slot = slot.load(Ordering::Relaxed);
                if ![EMPTY, VOID].contains(&slot) {
                    let cell = CellId(slot & CELL);
                    larger.insert(self.cells.note_of(cell), cell);
                }
            }
            shard = Arc::new(larger);
            place.store(shard.clone());
        }
        shard.insert(digest.first, cell);
    }

    /// Voids the note of a lease, if there is one.
    pub(super) fn void(&self, cell: CellId) {
        let first = self.cells.note_of(cell);
        if first != 0 {
            self.cells.note(cell, [0; 2]);
            self.shard(first).load().remove(first, cell);
        }
    }

    /// Voids all notes.
    pub(super) fn void_all(&self) {
        // What stands beside the cells is out of reach then, and voided when the cell is noted again.
        self.shards.iter().for_each(|shard| shard.store(Arc::default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Lease;
    use proptest::prelude::*;

    fn renewals(count: u32) -> Renewals {
        let renewals = Renewals::new(Arc::default());
        (0..count).for_each(|at| assign(&renewals, at));
        renewals
    }

    fn assign(renewals: &Renewals, at: u32) {
        let (start, lease) = (Monotonic(0), Lease(10));
        renewals.cells.assign(CellId(at), start, start, lease, Stamp::default(), Default::default());
    }

    fn digest(of: u64) -> Digest {
        // Spread as hashes are.
        Digest::new(of.wrapping_mul(0x9e37_79b9_7f4a_7c15), of)
    }

    #[test]
    fn a_noted_message_is_counted_until_its_registration_changes() {
        let renewals = renewals(1);
        assert_eq!(renewals.find(digest(7)), None);
        renewals.note(CellId(0), digest(7));
        let noted = renewals.find(digest(7)).unwrap();
        assert_eq!(renewals.beat(noted, Monotonic(5_000), None), Beat::Renewed(Lease(10)));
        assert_eq!(renewals.cells.read(CellId(0)).deadline, Monotonic(15_000));
        assign(&renewals, 0);
        assert_eq!(renewals.find(digest(7)), None);
        assert_eq!(renewals.beat(noted, Monotonic(6_000), None), Beat::HandOn);
    }

    #[test]
    fn a_digest_is_compared_as_a_whole() {
        let renewals = renewals(1);
        renewals.note(CellId(0), Digest::new(3 << 40, 1));
        assert_eq!(renewals.find(Digest::new(3 << 40, 2)), None);
        assert_eq!(renewals.find(Digest::new((3 << 40) + 1, 1)), None);
        assert!(renewals.find(Digest::new(3 << 40, 1)).is_some());
    }

    #[test]
    fn an_index_of_many_leases_takes_eight_octets_each() {
        let count = 20_000;
        let renewals = renewals(count);
        (0..count).for_each(|at| renewals.note(CellId(at), digest(at.into())));
        let found = (0..count).filter(|&at| renewals.find(digest(at.into())).is_some_and(|noted| noted.cell.0 == at));
        assert_eq!(found.count(), usize::try_from(count).unwrap());
        let slots: usize = renewals.shards.iter().map(|shard| shard.load().slots.len()).sum();
        assert!(slots <= 2 * usize::try_from(count).unwrap() + 2 * 64, "{slots}");
        // Notes that come and go don't make it grow, but for what shards had more of than they have now.
        for round in 1..5 {
            (0..count).for_each(|at| renewals.note(CellId(at), digest(u64::from(at) + round * 100_000)));
        }
        let now: usize = renewals.shards.iter().map(|shard| shard.load().slots.len()).sum();
        assert!(10 * now <= 22 * usize::try_from(count).unwrap(), "{now}");
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_the_latest_note_of_each_cell(
            steps in prop::collection::vec((0u8..20, 0u32..40, 0u64..60), 0..400),
        ) {
            let renewals = renewals(40);
            let mut model = std::collections::HashMap::new();
            for (kind, cell, message) in steps {
                match kind {
                    0 => {
                        renewals.void_all();
                        model.clear();
                    }
                    1 => {
                        assign(&renewals, cell);
                        model.remove(&cell);
                    }
                    2..=4 => {
                        renewals.void(CellId(cell));
                        model.remove(&cell);
                    }
                    // A message renews one lease.
                    _ if model.iter().any(|(&other, &noted)| other != cell && noted == message) => {}
                    _ => {
                        renewals.note(CellId(cell), digest(message));
                        model.insert(cell, message);
                    }
                }
                for message in 0..60 {
                    let expected = model.iter().find(|(_, noted)| **noted == message).map(|(cell, _)| *cell);
                    prop_assert_eq!(renewals.find(digest(message)).map(|noted| noted.cell.0), expected);
                }
            }
        }
    }

    #[test]
    fn what_other_threads_find_while_notes_move_is_never_another_message() {
        // Message n is noted for cell n % 8 alone, in every generation, while the index grows and is voided.
        let renewals = renewals(8);
        let done = std::sync::atomic::AtomicBool::new(false);
        let found = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        for message in 0..64u64 {
                            if let Some(noted) = renewals.find(digest(message)) {
                                assert_eq!(u64::from(noted.cell.0), message % 8);
                                found.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
            // So often, and then until the readers have had their turn.
            let began = std::time::Instant::now();
            let mut round = 0u64;
            while round < 40_000 || found.load(Ordering::Relaxed) < 1000 && began.elapsed().as_secs() < 60 {
                let message = round * 7 % 64;
                let cell = CellId(u32::try_from(message % 8).unwrap());
                if round.is_multiple_of(5) {
                    assign(&renewals, cell.0);
                }
                renewals.note(cell, digest(message));
                if round.is_multiple_of(1000) {
                    renewals.void_all();
                }
                round += 1;
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(found.into_inner() >= 1000, "the readers saw notes");
    }
}
