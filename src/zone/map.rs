//! A persistent map from names to values: readers keep an old version while the writer makes the next one.
//!
//! A tree of fixed height over the hash of a name, whose leaves are pages of a dozen to two dozen values: bits of the
//! upper half of the hash choose the page, a tag of 16 bits tells its values apart before names are compared. An edit copies the touched
//! pages and the branches on the way to them, which have sixteen children each below the root, so that it costs
//! O(touched × (page + branches) + root) whatever the size of the map; a lookup costs one hash and one probe.
//! The edit at which the map has outgrown its pages makes twice as many, which costs as much as all values; pages that
//! became empty stay. The hash is
//! seeded, so that registrars can't choose names that collide.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;

use crate::base::Name;

use super::parts::by_parts;

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
    root: Tree<V>,
    /// How many bits of the hash choose a page.
    bits: u32,
    len: usize,
}

/// A place in one version of a map.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    page: usize,
    slot: usize,
}

#[derive(Debug)]
enum Tree<V> {
    /// A power of two of them.
    Branch(Arc<[Tree<V>]>),
    Page(Arc<Page<V>>),
}

impl<V> Clone for Tree<V> {
    fn clone(&self) -> Tree<V> {
        match self {
            Tree::Branch(children) => Tree::Branch(children.clone()),
            Tree::Page(page) => Tree::Page(page.clone()),
        }
    }
}

/// Values that stand together.
#[derive(Debug)]
pub struct Page<V> {
    /// Sixteen bits of the hash a value, which no page number takes in: one cache line tells for a usual page.
    tags: Box<[u16]>,
    values: Box<[V]>,
}

/// A change on its way to its page.
struct Edit<V> {
    hash: u64,
    name: Name,
    value: Option<V>,
}

/// Values a page above which the map doubles its pages. Pages have between half of it and all of it on average: fewer would
/// take more memory for the pages themselves, more would make edits copy more.
const PAGE: usize = 24;
/// Bits of the hash that a branch below the root takes: as few as keep a lookup to three branches, since an edit copies all
/// children of a branch.
const BRANCH_BITS: u32 = 4;
/// Branches below the root on the way to a page, at most.
const LEVELS: u32 = 2;
/// Bits of the hash that can choose a page: for 400 million values.
const MOST_BITS: u32 = 24;

impl<V: Named> Default for SnapshotMap<V> {
    fn default() -> Self {
        SnapshotMap {
            root: Tree::Page(Arc::new(Page { tags: Box::default(), values: Box::default() })),
            bits: 0,
            len: 0,
        }
    }
}

impl<V: Named> SnapshotMap<V> {
    /// The map of these values, each with the hash of its name. Of several with the same name it has one.
    pub fn build(hashed: Vec<(u64, V)>) -> SnapshotMap<V> {
        let bits = bits_for(hashed.len());
        SnapshotMap::build_with(hashed, bits)
    }

    fn build_with(mut hashed: Vec<(u64, V)>, bits: u32) -> SnapshotMap<V> {
        // Equal names come together.
        hashed.sort_unstable_by_key(|(hash, _)| (page_of(*hash, bits), *hash));
        let mut len = 0;
        let mut values = hashed.into_iter().peekable();
        let pages = (0..1 << bits).map(|number| {
            let mut page: Vec<(u64, V)> = Vec::new();
            while let Some((hash, value)) = values.next_if(|(hash, _)| page_of(*hash, bits) == number) {
                let alike = page.iter().rev().take_while(|(other, _)| *other == hash);
                if !alike.into_iter().any(|(_, other)| other.name() == value.name()) {
                    page.push((hash, value));
                }
            }
            len += page.len();
            Tree::Page(Arc::new(page.into_iter().map(|(hash, value)| (tag_of(hash), value)).collect()))
        });
        SnapshotMap { root: plant(pages.collect(), bits), bits, len }
    }

    /// The map that has other values in the place of these, under the same names: a function makes those of a page.
    pub fn map<W: Named + Send + Sync>(&self, values: impl Fn(&[V]) -> Box<[W]> + Sync) -> SnapshotMap<W>
    where
        V: Send + Sync,
    {
        let root = match &self.root {
            Tree::Page(_) => self.root.map(&values),
            Tree::Branch(children) => {
                let of_part =
                    |part: &[Tree<V>]| -> Vec<Tree<W>> { part.iter().map(|child| child.map(&values)).collect() };
                let each = self.len / children.len();
                Tree::Branch(by_parts(children, |_| each, of_part).into_iter().flatten().collect())
            }
        };
        SnapshotMap { root, bits: self.bits, len: self.len }
    }

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
        self.page(page_of(hash, self.bits)).find(tag_of(hash), wire)
    }

    /// Where a name with this hash would stand.
    pub fn page_at(&self, hash: u64) -> &Page<V> {
        self.page(page_of(hash, self.bits))
    }

    fn page(&self, number: usize) -> &Page<V> {
        let (mut tree, mut bits) = (&self.root, self.bits);
        loop {
            match tree {
                Tree::Page(page) => return page,
                Tree::Branch(children) => {
                    bits -= children.len().trailing_zeros();
                    tree = &children[(number >> bits) & (children.len() - 1)];
                }
            }
        }
    }

    /// All values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        (0..1 << self.bits).flat_map(|number| self.page(number).values.iter())
    }

    /// The values from a place on, in the order of [`SnapshotMap::iter`], each with its place.
    pub fn iter_from(&self, position: Position) -> impl Iterator<Item = (Position, &V)> {
        (position.page..1 << self.bits).flat_map(move |page| {
            let start = if page == position.page { position.slot } else { 0 };
            let values = self.page(page).values.iter().enumerate().skip(start);
            values.map(move |(slot, value)| (Position { page, slot }, value))
        })
    }

    /// The map with these names set (`Some`) or taken out (`None`). Each name may occur once.
    pub fn edit(&self, changes: Vec<(Name, Option<V>)>) -> SnapshotMap<V> {
        let bits = self.bits;
        if bits_for(self.len + changes.len()) > bits {
            // Perhaps: most changes are of names that are there.
            let is_new = |(name, value): &&(Name, Option<V>)| value.is_some() && self.find(name.as_wire()).is_none();
            let grown = bits_for(self.len + changes.iter().filter(is_new).count());
            if grown > bits {
                return self.spread(grown).edit(changes);
            }
        }
        let mut edits: Vec<Edit<V>> =
            changes.into_iter().map(|(name, value)| Edit { hash: hash_name(name.as_wire()), name, value }).collect();
        // One page at a time: changes in the order of their page.
        edits.sort_unstable_by_key(|edit| page_of(edit.hash, bits));
        let mut len = self.len;
        let root = if edits.is_empty() { self.root.clone() } else { self.root.edit(&mut edits, bits, bits, &mut len) };
        SnapshotMap { root, bits, len }
    }

    /// The same values on more pages, and room for more.
    fn spread(&self, bits: u32) -> SnapshotMap<V> {
        let hashed = self.iter().map(|value| (hash_name(value.name().as_wire()), value.clone()));
        SnapshotMap::build_with(hashed.collect(), bits)
    }
}

/// Grows a tree over pages: branches of [`BRANCH_BITS`] on at most [`LEVELS`], and a root that takes the other bits.
fn plant<V>(pages: Vec<Tree<V>>, bits: u32) -> Tree<V> {
    let mut trees = pages;
    let mut rest = bits;
    for _ in 0..LEVELS {
        if rest <= BRANCH_BITS {
            break;
        }
        rest -= BRANCH_BITS;
        let mut children = trees.into_iter();
        trees = (0..1 << rest).map(|_| Tree::Branch(children.by_ref().take(1 << BRANCH_BITS).collect())).collect();
    }
    match trees.pop() {
        Some(tree) if trees.is_empty() => tree,
        last => {
            trees.extend(last);
            Tree::Branch(trees.into())
        }
    }
}

/// How many bits of the hash choose among pages that hold this many values well.
fn bits_for(len: usize) -> u32 {
    len.div_ceil(PAGE).next_power_of_two().trailing_zeros().min(MOST_BITS)
}

/// The page comes from the upper bits of the hash, the tag from its lowest ones.
fn page_of(hash: u64, bits: u32) -> usize {
    usize::try_from(hash >> (64 - MOST_BITS)).expect("24 bits") & ((1 << bits) - 1)
}

#[expect(clippy::cast_possible_truncation, reason = "a tag is any 16 bits of the hash")]
fn tag_of(hash: u64) -> u16 {
    hash as u16
}

impl<V> Tree<V> {
    fn map<W>(&self, values: &impl Fn(&[V]) -> Box<[W]>) -> Tree<W> {
        match self {
            Tree::Page(page) => {
                let next = Page { tags: page.tags.clone(), values: values(&page.values) };
                assert_eq!(next.values.len(), next.tags.len(), "a value for each tag");
                Tree::Page(Arc::new(next))
            }
            Tree::Branch(children) => Tree::Branch(children.iter().map(|child| child.map(values)).collect()),
        }
    }
}

impl<V: Named> Tree<V> {
    /// The tree with changes of pages that are all in it, in the order of their pages; `below` is the number of bits of
    /// which this tree takes the first.
    fn edit(&self, edits: &mut [Edit<V>], bits: u32, below: u32, len: &mut usize) -> Tree<V> {
        match self {
            Tree::Page(page) => {
                let next = page.edit(edits);
                *len = *len + next.values.len() - page.values.len();
                Tree::Page(Arc::new(next))
            }
            Tree::Branch(children) => {
                let below = below - children.len().trailing_zeros();
                let child = |edit: &Edit<V>| (page_of(edit.hash, bits) >> below) & (children.len() - 1);
                let mut next: Vec<Tree<V>> = children.to_vec();
                for group in edits.chunk_by_mut(|a, b| child(a) == child(b)) {
                    let at = child(&group[0]);
                    next[at] = children[at].edit(group, bits, below, len);
                }
                Tree::Branch(next.into())
            }
        }
    }
}

impl<V> FromIterator<(u16, V)> for Page<V> {
    fn from_iter<I: IntoIterator<Item = (u16, V)>>(values: I) -> Page<V> {
        let (tags, values): (Vec<u16>, Vec<V>) = values.into_iter().unzip();
        Page { tags: tags.into(), values: values.into() }
    }
}

impl<V: Named> Page<V> {
    fn edit(&self, edits: &mut [Edit<V>]) -> Page<V> {
        let mut tags = Vec::with_capacity(self.tags.len() + edits.len());
        let mut values = Vec::with_capacity(self.tags.len() + edits.len());
        for (&tag, value) in self.tags.iter().zip(&self.values) {
            let is_edited = edits.iter().any(|edit| tag_of(edit.hash) == tag && edit.name == *value.name());
            if !is_edited {
                tags.push(tag);
                values.push(value.clone());
            }
        }
        for edit in edits {
            if let Some(value) = edit.value.take() {
                tags.push(tag_of(edit.hash));
                values.push(value);
            }
        }
        Page { tags: tags.into(), values: values.into() }
    }

    fn find(&self, tag: u16, wire: &[u8]) -> Option<&V> {
        let tagged = self.tags.iter().zip(&self.values).filter(|(other, _)| **other == tag);
        tagged.map(|(_, value)| value).find(|value| value.name().as_wire() == wire)
    }

    /// The first value whose name may have this hash.
    pub fn candidate(&self, hash: u64) -> Option<&V> {
        self.tags.iter().position(|tag| *tag == tag_of(hash)).map(|at| &self.values[at])
    }

    /// Reads what tells of the values, so that it is near when they are looked for.
    pub fn touch(&self) {
        std::hint::black_box(self.tags.first().copied());
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

    fn hashed(key: u32) -> (u64, Entry) {
        (hash_name(name(key).as_wire()), Entry(name(key), key))
    }

    fn filled(count: u32) -> SnapshotMap<Entry> {
        SnapshotMap::build((0..count).map(hashed).collect())
    }

    #[test]
    fn of_equal_names_one_is_kept_and_every_value_is_mapped() {
        for count in [3, 20_000] {
            let twice = (0..count).chain(0..count / 2).map(hashed).collect();
            let map = SnapshotMap::build(twice)
                .map(|page| page.iter().map(|Entry(name, key)| Entry(name.clone(), key + 1)).collect());
            assert_eq!((map.len(), map.iter().count()), (count as usize, count as usize));
            for key in 0..count {
                assert_eq!(map.find(name(key).as_wire()), Some(&Entry(name(key), key + 1)));
            }
        }
    }

    #[test]
    fn an_edit_copies_the_way_to_its_page_and_shares_the_rest() {
        fn pages<'a>(tree: &'a Tree<Entry>, into: &mut Vec<&'a Arc<Page<Entry>>>) {
            match tree {
                Tree::Page(page) => into.push(page),
                Tree::Branch(children) => children.iter().for_each(|child| pages(child, into)),
            }
        }
        let before = filled(100_000);
        let after = before.edit(vec![(name(7), Some(Entry(name(7), 8)))]);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        pages(&before.root, &mut old);
        pages(&after.root, &mut new);
        let copied = old.iter().zip(&new).filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
        assert_eq!((old.len(), new.len(), copied), (8192, 8192, 1));
        assert_eq!(
            (before.find(name(7).as_wire()), after.find(name(7).as_wire())),
            (Some(&Entry(name(7), 7)), Some(&Entry(name(7), 8)))
        );
        let Tree::Branch(children) = &after.root else { panic!("many pages need a branch") };
        assert_eq!(children.len(), 32, "two branches of 16 lie below");
    }

    #[test]
    fn pages_stay_small_however_the_map_came_about() {
        let mut grown = SnapshotMap::default();
        for start in (0..30_000).step_by(1000) {
            grown = grown.edit((start..start + 1000).map(|key| (name(key), Some(Entry(name(key), key)))).collect());
        }
        for map in [&grown, &filled(30_000)] {
            assert_eq!((map.len(), map.iter().count()), (30_000, 30_000));
            let fullest = (0..1 << map.bits).map(|number| map.page(number).values.len()).max().unwrap();
            assert!(map.bits == 11 && fullest <= 48, "{fullest} on one of 2^{} pages", map.bits);
            assert_eq!(map.find(name(29_999).as_wire()), Some(&Entry(name(29_999), 29_999)));
            assert_eq!(map.find(name(30_000).as_wire()), None);
        }
    }
}
