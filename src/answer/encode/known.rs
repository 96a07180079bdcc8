//! Where names and their suffixes stand in a message: an open-addressed table without an allocation per name.
//!
//! A slot has a part of a suffix's hash and the offset where the suffix stands; the name itself is in the message alone.
//! What a slot says is believed once the labels there are those that are wanted, so that two suffixes with one hash cost
//! time and nothing else. The hash is seeded, since owners of zones choose names.
//!
//! Invariant: offsets grow in the order in which they are learned, and a table that grows takes them in again in that
//! order. So the slots that are searched on the way to a suffix were taken before its own, and those of the last suffixes
//! can be emptied without a gap in the way to one that stays.
//!
//! Bounds: a pointer reaches 16 KiB, and a suffix takes two octets or more, so that there are fewer than 8,192 suffixes and
//! at most 16,384 slots.

use std::hash::{BuildHasher, Hasher};

/// Offsets beyond this can't be pointed to (RFC 1035 §4.1.4).
pub(super) const POINTER_REACH: usize = 0x3fff;
/// Slots at first: enough for an answer with a handful of names.
const SLOTS: usize = 32;

/// Where the suffixes of one message stand.
#[derive(Debug)]
pub(super) struct KnownNames<S = foldhash::fast::RandomState> {
    /// A power of two of them, half of them empty or more.
    slots: Vec<Slot>,
    /// What has a slot, by offset.
    learned: Vec<Learned>,
    hasher: S,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the hash; the lower one says where the search begins.
    tag: u16,
    /// Zero in an empty slot: there the header stands.
    offset: u16,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    hash: u32,
    offset: u16,
}

/// The slot for a suffix that isn't known.
#[derive(Debug)]
pub(super) struct Vacancy {
    slot: usize,
    hash: u32,
}

impl Slot {
    const EMPTY: Slot = Slot { tag: 0, offset: 0 };
}

impl Learned {
    fn slot(self) -> Slot {
        Slot { tag: tag(self.hash), offset: self.offset }
    }
}

impl<S: BuildHasher> KnownNames<S> {
    /// No names.
    pub(super) fn new(hasher: S) -> KnownNames<S> {
        KnownNames { slots: vec![Slot::EMPTY; SLOTS], learned: Vec::with_capacity(SLOTS / 2), hasher }
    }

    /// Where a suffix stands in the message whose names these are, or which slot it would get. The first `folded` octets
    /// of the message may have letters of any case.
    #[inline]
    pub(super) fn find(&self, suffix: &[u8], message: &[u8], folded: usize) -> Result<u16, Vacancy> {
        let hash = self.hash(suffix);
        let mask = self.slots.len() - 1;
        let mut slot = start(hash) & mask;
        loop {
            let Slot { tag: found, offset } = self.slots[slot];
            if offset == 0 {
                return Err(Vacancy { slot, hash });
            }
            if found == tag(hash) && stands_at(suffix, message, usize::from(offset), folded) {
                return Ok(offset);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Notes where the suffix stands that wasn't found just now; the offset is beyond all that are known, and a pointer
    /// reaches it.
    #[inline]
    pub(super) fn learn(&mut self, vacancy: &Vacancy, offset: u16) {
        debug_assert!(self.learned.last().is_none_or(|last| last.offset < offset), "offsets grow");
        let learned = Learned { hash: vacancy.hash, offset };
        self.slots[vacancy.slot] = learned.slot();
        self.learned.push(learned);
        if self.learned.len() * 2 > self.slots.len() {
            self.grow();
        }
    }

    /// Forgets what stands at `end` or behind it.
    pub(super) fn forget(&mut self, end: usize) {
        let mask = self.slots.len() - 1;
        let kept = self.learned.partition_point(|learned| usize::from(learned.offset) < end);
        for learned in self.learned.drain(kept..) {
            let mut slot = start(learned.hash) & mask;
            while self.slots[slot].offset != learned.offset {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = Slot::EMPTY;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let slots = self.slots.len() * 2;
        self.slots.clear();
        self.slots.resize(slots, Slot::EMPTY);
        for &learned in &self.learned {
            let mut slot = start(learned.hash) & (slots - 1);
            while self.slots[slot].offset != 0 {
                slot = (slot + 1) & (slots - 1);
            }
            self.slots[slot] = learned.slot();
        }
    }

    fn hash(&self, suffix: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(suffix);
        let hash = hasher.finish();
        u32::try_from(hash >> 32).expect("half of the bits")
    }
}

/// The upper half of a hash.
fn tag(hash: u32) -> u16 {
    u16::try_from(hash >> 16).expect("half of the bits")
}

/// Where the search begins, before it is cut to the number of slots: the lower half of a hash.
fn start(hash: u32) -> usize {
    usize::try_from(hash & 0xffff).expect("16 bits")
}

/// Whether the name at an offset of the message is the wanted one. Pointers lead to what was written before, so the walk
/// ends; a name under way isn't written yet, and none of its suffixes is another one.
pub(super) fn stands_at(mut wanted: &[u8], message: &[u8], mut at: usize, folded: usize) -> bool {
    loop {
        let Some(&len) = message.get(at) else { return false };
        if len >= 0xc0 {
            at = usize::from(u16::from_be_bytes([len, message[at + 1]])) & POINTER_REACH;
            continue;
        }
        if len != wanted[0] {
            return false;
        }
        if len == 0 {
            return true;
        }
        let end = usize::from(len) + 1;
        let (label, found) = (&wanted[..end], &message[at..at + end]);
        let is_same = label == found || at < folded && label.eq_ignore_ascii_case(found);
        if !is_same {
            return false;
        }
        wanted = &wanted[end..];
        at += end;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Has four hashes.
    #[derive(Default)]
    struct Clumsy(u64);

    impl Hasher for Clumsy {
        fn write(&mut self, octets: &[u8]) {
            self.0 = octets.iter().map(|octet| u64::from(*octet)).sum::<u64>() % 4;
        }

        fn finish(&self) -> u64 {
            self.0 << 32
        }
    }

    proptest! {
        #[test]
        fn suffixes_of_one_hash_are_told_apart_also_after_some_are_forgotten(
            steps in prop::collection::vec((prop::collection::vec(b'a'..=b'e', 1..5), prop::option::weighted(0.1, any::<prop::sample::Index>())), 0..120),
        ) {
            let mut known = KnownNames::new(std::hash::BuildHasherDefault::<Clumsy>::default());
            let mut model: HashMap<Vec<u8>, u16> = HashMap::new();
            let mut message = vec![0; 12];
            let mut ends = vec![12];
            for (labels, cut) in steps {
                if let Some(cut) = cut {
                    ends.truncate(cut.index(ends.len()) + 1);
                    let end = ends[ends.len() - 1];
                    message.truncate(end);
                    known.forget(end);
                    model.retain(|_, offset| usize::from(*offset) < end);
                }
                let mut name: Vec<u8> = labels.iter().flat_map(|label| [1, *label]).collect();
                name.push(0);
                for skip in (0..name.len() - 1).step_by(2) {
                    let suffix = &name[skip..];
                    let found = known.find(suffix, &message, 12);
                    prop_assert_eq!(found.as_ref().ok(), model.get(suffix));
                    if let Err(vacancy) = found {
                        let offset = u16::try_from(message.len() + skip).unwrap();
                        known.learn(&vacancy, offset);
                        model.insert(suffix.to_vec(), offset);
                    }
                }
                message.extend_from_slice(&name);
                ends.push(message.len());
            }
        }
    }
}
