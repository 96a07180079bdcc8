//! What a heartbeat moves: one fixed-size cell per lease.
//!
//! A cell is written by whichever thread received the heartbeat, as one consistent whole and without waiting: its
//! `version` word holds the generation (which registration the cell belongs to), a sequence number, and two flags. A
//! writer takes the cell by compare-and-swap; one that finds it taken, claimed or of another generation doesn't wait but
//! hands its heartbeat on to the publisher as an event. A reader takes the words and checks that the version stood still.
//!
//! Expiry claims a cell by compare-and-swap of the version that it read the deadline under. So a heartbeat is either
//! counted before the claim, which then fails, or finds the cell claimed and is handed on. Nothing falls between.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::base::limits::SHORTEST_GAP;
use crate::base::{Lease, Monotonic};

use super::renewals::Digest;

/// When and with which signature something was last accepted, against replays.
///
/// The default stands for "unsigned": older than anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// TSIG Time Signed, in seconds since the Unix epoch (48 bits).
    pub time: u64,
    /// The first eight octets of the MAC.
    pub mac: u64,
}

/// How a signature stands to the last accepted one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// Newer, or of the same second with another MAC.
    New,
    /// The very same message: same outcome, nothing is applied twice.
    Repeat,
    /// Signed before the last accepted one.
    Older,
}

impl Stamp {
    /// The later of two accepted signatures; `other` was accepted last.
    pub fn later(self, other: Stamp) -> Stamp {
        if other.time >= self.time { other } else { self }
    }

    /// Compares a message's stamp with `self`, the last accepted one. Unsigned messages are always new.
    pub fn freshness(self, message: Option<Stamp>) -> Freshness {
        match message {
            Some(message) if message.time < self.time => Freshness::Older,
            Some(message) if message == self => Freshness::Repeat,
            _ => Freshness::New,
        }
    }
}

/// A consistent reading of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    version: u64,
    /// When the lease ends.
    pub deadline: Monotonic,
    /// The last accepted heartbeat.
    pub last: Monotonic,
    /// The last four gaps between accepted heartbeats, the newest first; zero where there was none yet.
    pub gaps: [Duration; 4],
    /// The lease that each heartbeat grants anew.
    pub lease: Lease,
    /// The last accepted signature.
    pub stamp: Stamp,
}

impl Reading {
    /// The usual interval: the largest of the last four gaps, at most the lease; none before the second heartbeat.
    pub fn usual_interval(&self) -> Option<Duration> {
        let largest = self.gaps.into_iter().max().expect("four gaps");
        (!largest.is_zero()).then(|| largest.min(self.lease.duration()))
    }

    /// Whether the heartbeat is overdue while the lease still runs: silent for more than 1.5 × the usual interval, or for
    /// more than half of the lease while there is none.
    pub fn is_late(&self, now: Monotonic) -> bool {
        now < self.deadline && now.since(self.last) > self.patience()
    }

    /// How long it may be silent before its heartbeat is overdue.
    pub fn patience(&self) -> Duration {
        match self.usual_interval() {
            Some(usual) => usual * 3 / 2,
            None => self.lease.duration() / 2,
        }
    }

    /// The registration that the cell belongs to.
    pub fn generation(&self) -> u32 {
        generation_of(self.version)
    }
}

/// What became of a heartbeat at its cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beat {
    /// Counted: this lease runs anew.
    Renewed(Lease),
    /// The same signed message again, which was counted already for this lease.
    Repeat(Lease),
    /// Signed before the last accepted one.
    Older,
    /// Not counted: taken, claimed, or another registration's by now. The publisher decides.
    HandOn,
}

/// The operations on heartbeat cells. Any thread may call them.
pub trait Heartbeats {
    /// Reads a cell as one whole.
    fn read(&self, cell: CellId) -> Reading;

    /// Counts a heartbeat for the registration `generation`.
    fn beat(&self, cell: CellId, generation: u32, now: Monotonic, stamp: Option<Stamp>) -> Beat;

    /// Claims a cell, so that no heartbeat is counted in place any more; false if it moved since `seen`.
    fn claim(&self, cell: CellId, seen: &Reading) -> bool;
}

/// The place of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct CellId(pub u32);

#[derive(Debug, Default)]
struct Cell {
    version: AtomicU64,
    deadline: AtomicU64,
    last: AtomicU64,
    gaps: [AtomicU64; 2],
    lease: AtomicU64,
    signed: AtomicU64,
    mac: AtomicU64,
    /// The digest of the message that renews the lease, for one generation; zero: none. No part of the whole.
    note: [AtomicU64; 2],
}

const BUSY: u64 = 1;
const CLAIMED: u64 = 2;
const SEQUENCE_STEP: u64 = 4;
const SEQUENCE_MASK: u64 = 0xffff_fffc;

fn generation_of(version: u64) -> u32 {
    u32::try_from(version >> 32).expect("32 bits are left")
}

impl Cell {
    fn read(&self) -> Reading {
        loop {
            let version = self.version.load(Ordering::Acquire);
            if version & BUSY == 0 {
                let reading = self.words(version);
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == version {
                    return reading;
                }
            }
            std::hint::spin_loop();
        }
    }

    fn words(&self, version: u64) -> Reading {
        let [new, old] = [0, 1].map(|at| self.gaps[at].load(Ordering::Relaxed));
        Reading {
            version,
            deadline: Monotonic(self.deadline.load(Ordering::Relaxed)),
            last: Monotonic(self.last.load(Ordering::Relaxed)),
            gaps: [new >> 32, new & 0xffff_ffff, old >> 32, old & 0xffff_ffff].map(Duration::from_millis),
            lease: Lease(u32::try_from(self.lease.load(Ordering::Relaxed)).unwrap_or(u32::MAX)),
            stamp: Stamp { time: self.signed.load(Ordering::Relaxed), mac: self.mac.load(Ordering::Relaxed) },
        }
    }

    fn store(&self, reading: &Reading) {
        let gap = |at: usize| u64::from(u32::try_from(reading.gaps[at].as_millis()).unwrap_or(u32::MAX));
        self.deadline.store(reading.deadline.0, Ordering::Relaxed);
        self.last.store(reading.last.0, Ordering::Relaxed);
        self.gaps[0].store(gap(0) << 32 | gap(1), Ordering::Relaxed);
        self.gaps[1].store(gap(2) << 32 | gap(3), Ordering::Relaxed);
        self.lease.store(u64::from(reading.lease.0), Ordering::Relaxed);
        self.signed.store(reading.stamp.time, Ordering::Relaxed);
        self.mac.store(reading.stamp.mac, Ordering::Relaxed);
    }

    fn beat(&self, generation: u32, now: Monotonic, stamp: Option<Stamp>) -> Beat {
        let version = self.version.load(Ordering::Relaxed);
        if version & (BUSY | CLAIMED) != 0 || generation_of(version) != generation {
            return Beat::HandOn;
        }
        if self.version.compare_exchange(version, version | BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Beat::HandOn;
        }
        // Orders the BUSY mark before the words, for readers that see new words.
        fence(Ordering::Release);
        let mut reading = self.words(version);
        let beat = match reading.stamp.freshness(stamp) {
            Freshness::Older => Beat::Older,
            Freshness::Repeat => Beat::Repeat(reading.lease),
            Freshness::New => {
                reading.beat(now, stamp);
                self.store(&reading);
                Beat::Renewed(reading.lease)
            }
        };
        self.version.store(next_sequence(version), Ordering::Release);
        beat
    }
}

impl Reading {
    fn beat(&mut self, now: Monotonic, stamp: Option<Stamp>) {
        let gap = now.since(self.last);
        if gap >= SHORTEST_GAP {
            self.gaps = [gap, self.gaps[0], self.gaps[1], self.gaps[2]];
            self.last = now;
        }
        self.deadline = now.after(self.lease.duration()).max(self.deadline);
        if let Some(stamp) = stamp {
            self.stamp = stamp;
        }
    }
}

fn next_sequence(version: u64) -> u64 {
    (version & !SEQUENCE_MASK & !(BUSY | CLAIMED)) | (version.wrapping_add(SEQUENCE_STEP) & SEQUENCE_MASK)
}

/// Cells in chunks that never move, so that other threads keep their place while the table grows.
#[derive(Debug)]
pub struct Cells {
    chunks: Box<[OnceLock<Box<[Cell]>>]>,
}

/// Cells a chunk: 320 KiB.
const CHUNK: usize = 4096;
/// Chunks: four million leases in one zone.
const CHUNKS: usize = 1024;

impl Default for Cells {
    fn default() -> Self {
        Cells { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }
}

impl Cells {
    /// How many there can be.
    pub const LIMIT: usize = CHUNK * CHUNKS;

    fn cell(&self, id: CellId) -> &Cell {
        let at = usize::try_from(id.0).expect("32 bits fit");
        let chunk = self.chunks[at / CHUNK].get_or_init(|| (0..CHUNK).map(|_| Cell::default()).collect());
        &chunk[at % CHUNK]
    }

    /// Gives a cell to a registration (its first, or a changed one): a new generation, so that heartbeats for the
    /// former one are handed on. Only the table calls this, and no other thread writes then except a heartbeat under way,
    /// which is waited for (a few stores).
    pub(super) fn assign(
        &self,
        id: CellId,
        deadline: Monotonic,
        last: Monotonic,
        lease: Lease,
        stamp: Stamp,
        gaps: [Duration; 4],
    ) {
        let cell = self.cell(id);
        let version = self.take(cell);
        cell.store(&Reading { version, deadline, last, gaps, lease, stamp });
        let generation = u64::from(generation_of(version).wrapping_add(1).max(1));
        cell.version.store(generation << 32, Ordering::Release);
    }

    /// Takes a cell from its registration: every heartbeat for it is handed on.
    pub(super) fn retire(&self, id: CellId) {
        self.assign(id, Monotonic(0), Monotonic(0), Lease(0), Stamp::default(), Default::default());
    }

    /// Claims a cell, whatever its deadline: from here on every heartbeat for it is handed on.
    pub(super) fn shut(&self, id: CellId) {
        let cell = self.cell(id);
        let version = self.take(cell);
        cell.version.store(next_sequence(version) | CLAIMED, Ordering::Release);
    }

    /// Ends a claim without a change: heartbeats are counted in place again.
    pub(super) fn unclaim(&self, id: CellId) {
        let cell = self.cell(id);
        let version = self.take(cell);
        cell.version.store(next_sequence(version), Ordering::Release);
    }

    /// The publisher's own heartbeat, which also counts on a claimed cell: for what was handed on.
    pub(super) fn beat_claimed(&self, id: CellId, now: Monotonic, stamp: Option<Stamp>) {
        let cell = self.cell(id);
        let version = self.take(cell);
        let mut reading = cell.words(version);
        reading.beat(now, stamp);
        cell.store(&reading);
        cell.version.store(next_sequence(version) | (version & CLAIMED), Ordering::Release);
    }

    /// Ends a silence that is no usual interval: the gap up to now is not counted.
    pub(super) fn end_silence(&self, id: CellId, now: Monotonic) {
        let cell = self.cell(id);
        let version = self.take(cell);
        let mut reading = cell.words(version);
        reading.last = now;
        cell.store(&reading);
        cell.version.store(next_sequence(version) | (version & CLAIMED), Ordering::Release);
    }

    /// Puts the digest of the message that renews a lease beside its cell.
    pub(super) fn note(&self, id: CellId, words: [u64; 2]) {
        for (place, word) in self.cell(id).note.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }

    /// The first word of what stands beside a cell.
    pub(super) fn note_of(&self, id: CellId) -> u64 {
        self.cell(id).note[0].load(Ordering::Relaxed)
    }

    /// The generation for which a message stands beside a cell, if that is the one that the cell has.
    pub(super) fn noted(&self, id: CellId, digest: Digest) -> Option<u32> {
        let cell = self.cell(id);
        let generation = generation_of(cell.version.load(Ordering::Acquire));
        // Halves of two notes are no digest of anything, so that the words need not be read as one.
        let words = [0, 1].map(|at: usize| cell.note[at].load(Ordering::Relaxed));
        (words == digest.words(generation)).then_some(generation)
    }

    fn take(&self, cell: &Cell) -> u64 {
        loop {
            let version = cell.version.load(Ordering::Relaxed);
            if version & BUSY == 0
                && cell.version.compare_exchange(version, version | BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                fence(Ordering::Release);
                return version;
            }
            std::hint::spin_loop();
        }
    }
}

impl Heartbeats for Cells {
    fn read(&self, cell: CellId) -> Reading {
        self.cell(cell).read()
    }

    fn beat(&self, cell: CellId, generation: u32, now: Monotonic, stamp: Option<Stamp>) -> Beat {
        self.cell(cell).beat(generation, now, stamp)
    }

    fn claim(&self, cell: CellId, seen: &Reading) -> bool {
        seen.version & CLAIMED == 0
            && self
                .cell(cell)
                .version
                .compare_exchange(seen.version, seen.version | CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(lease: u32) -> Cells {
        let cells = Cells::default();
        cells.assign(
            CellId(0),
            Monotonic(u64::from(lease) * 1000),
            Monotonic(0),
            Lease(lease),
            Stamp::default(),
            Default::default(),
        );
        cells
    }

    fn beat_at(cells: &Cells, millis: u64) -> Beat {
        cells.beat(CellId(0), 1, Monotonic(millis), None)
    }

    #[test]
    fn a_heartbeat_moves_the_deadline_and_keeps_the_gap() {
        let cells = assigned(15);
        assert_eq!(beat_at(&cells, 5000), Beat::Renewed(Lease(15)));
        let reading = cells.read(CellId(0));
        assert_eq!(reading.deadline, Monotonic(20_000));
        assert_eq!(reading.usual_interval(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn the_usual_interval_is_the_largest_of_four_gaps_at_most_the_lease_and_ignores_short_ones() {
        let cells = assigned(15);
        for at in [9_000, 11_000, 11_500, 13_000, 15_000, 17_000] {
            beat_at(&cells, at);
        }
        // 9000 fell out: the gaps are 2000 (11 s), 2000 (13 s; 11.5 s came too soon to count), 2000, 2000.
        assert_eq!(cells.read(CellId(0)).usual_interval(), Some(Duration::from_secs(2)));
        beat_at(&cells, 90_000);
        assert_eq!(cells.read(CellId(0)).usual_interval(), Some(Duration::from_secs(15)));
    }

    #[test]
    fn a_member_is_late_after_one_and_a_half_intervals_or_half_its_lease() {
        let cells = assigned(20);
        let reading = cells.read(CellId(0));
        assert!(!reading.is_late(Monotonic(10_000)));
        assert!(reading.is_late(Monotonic(10_001)));
        beat_at(&cells, 4_000);
        let reading = cells.read(CellId(0));
        assert!(!reading.is_late(Monotonic(10_000)));
        assert!(reading.is_late(Monotonic(10_001)));
        assert!(!reading.is_late(Monotonic(24_000)), "a lapsed lease is not late");
    }

    #[test]
    fn a_claim_fails_after_a_heartbeat_and_a_heartbeat_after_a_claim_is_handed_on() {
        let cells = assigned(15);
        let seen = cells.read(CellId(0));
        beat_at(&cells, 14_999);
        assert!(!cells.claim(CellId(0), &seen));
        let seen = cells.read(CellId(0));
        assert!(cells.claim(CellId(0), &seen));
        assert_eq!(beat_at(&cells, 20_000), Beat::HandOn);
        cells.unclaim(CellId(0));
        assert_eq!(beat_at(&cells, 20_000), Beat::Renewed(Lease(15)));
    }

    #[test]
    fn a_shut_cell_counts_no_heartbeat_until_it_is_given_back_or_assigned() {
        let cells = assigned(15);
        cells.shut(CellId(0));
        assert_eq!(beat_at(&cells, 1), Beat::HandOn);
        cells.unclaim(CellId(0));
        assert!(matches!(beat_at(&cells, 1), Beat::Renewed(_)));
        cells.shut(CellId(0));
        cells.assign(CellId(0), Monotonic(9), Monotonic(0), Lease(5), Stamp::default(), Default::default());
        assert!(matches!(cells.beat(CellId(0), 2, Monotonic(1), None), Beat::Renewed(_)));
    }

    #[test]
    fn a_heartbeat_for_a_former_registration_is_handed_on() {
        let cells = assigned(15);
        cells.assign(CellId(0), Monotonic(9), Monotonic(0), Lease(5), Stamp::default(), Default::default());
        assert_eq!(beat_at(&cells, 1), Beat::HandOn);
        assert_eq!(cells.beat(CellId(0), 2, Monotonic(1), None), Beat::Renewed(Lease(5)));
    }

    #[test]
    fn older_signatures_are_refused_and_repeated_ones_not_counted_twice() {
        let cells = assigned(15);
        let stamp = |time, mac| Some(Stamp { time, mac });
        assert_eq!(cells.beat(CellId(0), 1, Monotonic(5_000), stamp(100, 7)), Beat::Renewed(Lease(15)));
        assert_eq!(cells.beat(CellId(0), 1, Monotonic(9_000), stamp(100, 7)), Beat::Repeat(Lease(15)));
        assert_eq!(cells.beat(CellId(0), 1, Monotonic(9_000), stamp(99, 8)), Beat::Older);
        assert_eq!(cells.read(CellId(0)).deadline, Monotonic(20_000));
        assert_eq!(cells.beat(CellId(0), 1, Monotonic(9_000), stamp(100, 8)), Beat::Renewed(Lease(15)));
    }

    #[test]
    fn readers_never_see_halves_while_threads_beat() {
        // Each heartbeat's deadline, time and MAC tell the same story; a torn reading would not.
        let cells = assigned(15);
        std::thread::scope(|scope| {
            for thread in 0..2u64 {
                let cells = &cells;
                scope.spawn(move || {
                    for round in 1..50_000u64 {
                        let at = round * 2 + thread;
                        cells.beat(CellId(0), 1, Monotonic(at), Some(Stamp { time: at, mac: at }));
                    }
                });
            }
            for _ in 0..50_000 {
                let reading = cells.read(CellId(0));
                assert_eq!(reading.stamp.time, reading.stamp.mac);
                if reading.stamp.time != 0 {
                    assert_eq!(reading.deadline.0, reading.stamp.time + 15_000);
                }
            }
        });
    }
}
