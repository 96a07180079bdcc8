//! Replay marks of what was removed: they outlive it by twice the fudge, bounded by [`TOMBSTONES`].

use crate::base::Wall;
use crate::base::limits::{TOMBSTONE, TOMBSTONES};

use super::{Key, Stamp, Table};

/// A replay mark of something that was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Tombstone {
    /// The last accepted signature.
    pub stamp: Stamp,
    /// Until when it counts.
    pub until: Wall,
}

impl Table {
    pub(super) fn bury(&mut self, key: Key, stamp: Stamp, now: Wall) {
        if stamp == Stamp::default() {
            return;
        }
        let until = now.after(TOMBSTONE);
        self.entomb(key, Tombstone { stamp, until });
    }

    /// Puts a replay mark in place; also those that the store kept.
    pub fn entomb(&mut self, key: Key, tombstone: Tombstone) {
        self.tombstone_order.push_back((tombstone.until, key.clone()));
        self.tombstones.insert(key, tombstone);
        while self.tombstone_order.len() > TOMBSTONES {
            let dropped = self.drop_oldest_tombstone();
            self.displaced += u64::from(dropped.is_some());
            self.forgotten.extend(dropped);
        }
    }

    /// How many replay marks went by the limit since this was last asked.
    pub fn take_displaced(&mut self) -> u64 {
        std::mem::take(&mut self.displaced)
    }

    /// Forgets replay marks that no longer count, and returns the keys of all that are gone, for the store.
    pub fn sweep_tombstones(&mut self, now: Wall) -> Vec<Key> {
        let mut gone = std::mem::take(&mut self.forgotten);
        while self.tombstone_order.front().is_some_and(|(until, _)| *until <= now) {
            gone.extend(self.drop_oldest_tombstone());
        }
        gone
    }

    /// Puts back what the store could not be told.
    pub fn restore_swept(&mut self, keys: Vec<Key>) {
        self.forgotten.extend(keys.into_iter().filter(|key| !self.tombstones.contains_key(key)));
    }

    pub(super) fn drop_oldest_tombstone(&mut self) -> Option<Key> {
        let (until, key) = self.tombstone_order.pop_front()?;
        // A key that was buried again later has a newer mark, which stays.
        if self.tombstones.get(&key).is_some_and(|tombstone| tombstone.until == until) {
            self.tombstones.remove(&key);
            return Some(key);
        }
        None
    }
}
