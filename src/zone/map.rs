//! A persistent map from names to values: readers keep an old version while the writer makes the next one.
//!
//! Two levels: a vector of pages, each an open-addressed table of a few dozen slots, chosen by the upper and the lower
//! bits of the name's hash. An edit copies the touched pages and the vector of pointers, so it costs
//! O(touched × page + pages), with both factors held near the square root of the size; a lookup costs one hash and one
//! probe. The hash is seeded, so that registrars can't choose names that collide.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;

use crate::base::Name;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The hash of a name in wire form, lower case: the same for every map of the process.
pub fn hash_name(wire: &[u8]) -> u64 {
    HASHER.hash_one(wire)
}

/// A value that knows the name it stands under.
pub trait Named: Clone {
    /// The key.
    fn name(&self) -> &Name;
}

/// The map. A clone is a pointer.
#[derive(Clone, Debug)]
pub struct SnapshotMap<V> {
    pages: Arc<[Arc<Page<V>>]>,
    len: usize,
}

/// A place in one version of a map.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    page: usize,
    slot: usize,
}

#[derive(Debug)]
struct Page<V> {
    /// At most four fifths are taken.
    slots: Box<[Option<V>]>,
    /// The middle bits of the hash per slot, compared before the name is.
    tags: Box<[u32]>,
    len: usize,
}

/// Values per page above which the map doubles its pages, as a multiple of the number of pages, but never below
/// `MIN_PAGE`: keeps both near the square root of the size.
const PAGE_PER_PAGES: usize = 16;
const MIN_PAGE: usize = 16;

impl<V: Named> Default for SnapshotMap<V> {
    fn default() -> Self {
        SnapshotMap { pages: Arc::from([Arc::new(Page::build(Vec::new()))]), len: 0 }
    }
}

impl<V: Named> SnapshotMap<V> {
    /// How many names there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Finds a name in wire form, lower case.
    pub fn find(&self, wire: &[u8]) -> Option<&V> {
        self.find_hashed(hash_name(wire), wire)
    }

    /// The same with the hash at hand.
    pub fn find_hashed(&self, hash: u64, wire: &[u8]) -> Option<&V> {
        self.pages[page_of(hash, self.pages.len())].find(hash, wire)
    }

    /// All values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        self.pages.iter().flat_map(|page| page.slots.iter().flatten())
    }

    /// The values from a place on, in the order of [`SnapshotMap::iter`], each with its place.
    pub fn iter_from(&self, position: Position) -> impl Iterator<Item = (Position, &V)> {
        let pages = self.pages.iter().enumerate().skip(position.page);
        pages.flat_map(move |(page, values)| {
            let start = if page == position.page { position.slot } else { 0 };
            let slots = values.slots.iter().enumerate().skip(start);
            slots.filter_map(move |(slot, value)| Some((Position { page, slot }, value.as_ref()?)))
        })
    }

    /// The map with these names set (`Some`) or taken out (`None`). Each name may occur once.
    pub fn edit(&self, changes: Vec<(Name, Option<V>)>) -> SnapshotMap<V> {
        let mut hashed: Vec<(u64, Name, Option<V>)> =
            changes.into_iter().map(|(name, value)| (hash_name(name.as_wire()), name, value)).collect();
        let grown = self.len + hashed.len();
        let pages = pages_for(grown).max(self.pages.len());
        let base = if pages > self.pages.len() { self.spread(pages) } else { self.pages.to_vec() };
        // One page at a time: changes in the order of their page.
        hashed.sort_by_key(|(hash, ..)| page_of(*hash, pages));
        let mut edited = base;
        let mut len = self.len;
        for group in hashed.chunk_by_mut(|(a, ..), (b, ..)| page_of(*a, pages) == page_of(*b, pages)) {
            let at = page_of(group[0].0, pages);
            let old = &edited[at];
            let mut values: Vec<V> = old
                .slots
                .iter()
                .flatten()
                .filter(|value| !group.iter().any(|(_, name, _)| name == value.name()))
                .cloned()
                .collect();
            values.extend(group.iter_mut().filter_map(|(.., value)| value.take()));
            len = len - old.len + values.len();
            edited[at] = Arc::new(Page::build(values));
        }
        SnapshotMap { pages: edited.into(), len }
    }

    /// The same values on more pages.
    fn spread(&self, pages: usize) -> Vec<Arc<Page<V>>> {
        let mut groups: Vec<Vec<V>> = vec![Vec::new(); pages];
        for value in self.iter() {
            groups[page_of(hash_name(value.name().as_wire()), pages)].push(value.clone());
        }
        groups.into_iter().map(|values| Arc::new(Page::build(values))).collect()
    }
}

/// How many pages hold this many values well: a power of two.
fn pages_for(len: usize) -> usize {
    let mut pages = 1;
    while len > pages * (pages / PAGE_PER_PAGES).max(MIN_PAGE) {
        pages *= 2;
    }
    pages
}

/// The page comes from the upper half of the hash, the slot from the lowest bits, the tag from those between.
fn page_of(hash: u64, pages: usize) -> usize {
    usize::try_from(hash >> 40).expect("24 bits") & (pages - 1)
}

#[expect(clippy::cast_possible_truncation, reason = "a tag is any 32 bits of the hash")]
fn tag_of(hash: u64) -> u32 {
    (hash >> 16) as u32
}

fn slot_of(hash: u64, slots: usize) -> usize {
    // Spreads 16 bits over any number of slots.
    let bits = usize::try_from(hash & 0xffff).expect("16 bits");
    (bits * slots) >> 16
}

impl<V: Named> Page<V> {
    fn build(values: Vec<V>) -> Page<V> {
        let len = values.len();
        let size = len * 5 / 4 + 1;
        let mut slots: Vec<Option<V>> = Vec::new();
        slots.resize_with(size, || None);
        let mut tags = vec![0; size];
        for value in values {
            let hash = hash_name(value.name().as_wire());
            let mut at = slot_of(hash, size);
            while slots[at].is_some() {
                at = if at + 1 == size { 0 } else { at + 1 };
            }
            slots[at] = Some(value);
            tags[at] = tag_of(hash);
        }
        Page { slots: slots.into(), tags: tags.into(), len }
    }

    fn find(&self, hash: u64, wire: &[u8]) -> Option<&V> {
        let tag = tag_of(hash);
        let mut at = slot_of(hash, self.slots.len());
        while let Some(value) = &self.slots[at] {
            if self.tags[at] == tag && value.name().as_wire() == wire {
                return Some(value);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Clone, PartialEq, Debug)]
    struct Entry(Name, u32);

    impl Named for Entry {
        fn name(&self) -> &Name {
            &self.0
        }
    }

    fn name(number: u32) -> Name {
        Name::root().child(number.to_string().as_bytes()).unwrap()
    }

    proptest! {
        #[test]
        fn behaves_like_a_hash_map_and_leaves_old_versions_alone(
            batches in prop::collection::vec(prop::collection::hash_map(0u32..400, prop::option::of(any::<u32>()), 0..80), 1..12),
        ) {
            let mut map = SnapshotMap::default();
            let mut model: HashMap<u32, u32> = HashMap::new();
            let mut versions = Vec::new();
            for batch in batches {
                versions.push((map.clone(), model.clone()));
                map = map.edit(
                    batch.iter().map(|(&key, value)| (name(key), value.map(|value| Entry(name(key), value)))).collect(),
                );
                for (key, value) in batch {
                    match value {
                        Some(value) => model.insert(key, value),
                        None => model.remove(&key),
                    };
                }
            }
            versions.push((map, model));
            for (map, model) in versions {
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.iter().count(), model.len());
                let placed: Vec<_> = map.iter_from(Position::default()).collect();
                for (at, (position, _)) in placed.iter().enumerate() {
                    let rest: Vec<_> = map.iter_from(*position).collect();
                    prop_assert_eq!(&rest, &placed[at..]);
                }
                for key in 0..400 {
                    prop_assert_eq!(map.find(name(key).as_wire()).map(|entry| entry.1), model.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn pages_stay_near_the_square_root() {
        let filled: SnapshotMap<Entry> =
            SnapshotMap::default().edit((0..100_000).map(|key| (name(key), Some(Entry(name(key), key)))).collect());
        assert_eq!(filled.len(), 100_000);
        assert!(filled.pages.len() <= 4096 && filled.pages.len() >= 512, "{} pages", filled.pages.len());
        let fullest = filled.pages.iter().map(|page| page.len).max().unwrap();
        assert!(fullest <= 300, "{fullest} on one page");
        assert_eq!(filled.find(name(99_999).as_wire()), Some(&Entry(name(99_999), 99_999)));
    }
}
