//! The slots of a service: stable numbers, each somebody's or free.
//!
//! A member that comes takes its own slot if that is free; or that of the member which it says it replaces; or, of those that
//! have been free for longer than they are kept for whoever had them, the one that became free last, so that a replacement
//! takes its predecessor's place. If all that are free are kept, it waits. If none is free, there is one more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Wall;

use super::member::MemberId;

/// A slot that nobody has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FreeSlot {
    /// Its number.
    pub number: u32,
    /// Who had it last.
    pub last: MemberId,
    /// Since when it is free.
    pub since: Wall,
}

impl FreeSlot {
    /// Whether it is kept no longer for whoever had it.
    fn is_released(&self, hold: Duration, now: Wall) -> bool {
        now.since(self.since) >= hold
    }
}

/// The slots of one service. Those that are somebody's are known by their members.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Slots {
    /// How many there are.
    pub count: u32,
    /// Those that nobody has, in the order in which they became free.
    pub free: Vec<FreeSlot>,
}

/// How to take an edit back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Undo {
    /// A slot was taken: where it stood among the free ones.
    Took(usize, FreeSlot),
    /// There is one more.
    Grew,
    /// A slot became free.
    Freed,
}

impl Slots {
    /// The slot for a member that comes; none: it has to wait.
    pub(super) fn take(
        &mut self,
        id: &MemberId,
        replaces: Option<&MemberId>,
        hold: Duration,
        now: Wall,
    ) -> Option<(u32, Undo)> {
        let of = |id: &MemberId| self.free.iter().rposition(|slot| slot.last == *id);
        let released = |slot: &FreeSlot| slot.is_released(hold, now);
        let found = of(id).or_else(|| replaces.and_then(of)).or_else(|| self.free.iter().rposition(released));
        if let Some(at) = found {
            let slot = self.free.remove(at);
            return Some((slot.number, Undo::Took(at, slot)));
        }
        if !self.free.is_empty() {
            return None;
        }
        let number = self.count;
        self.count = self.count.checked_add(1)?;
        Some((number, Undo::Grew))
    }

    /// A slot is nobody's from now on.
    pub(super) fn free(&mut self, number: u32, last: MemberId, since: Wall) -> Undo {
        self.free.push(FreeSlot { number, last, since });
        Undo::Freed
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Took(at, slot) => self.free.insert(at, slot),
            Undo::Grew => self.count -= 1,
            Undo::Freed => drop(self.free.pop()),
        }
    }

    /// When one that waits has a slot, as far as is known now: the first that is kept no longer.
    pub(super) fn next_released(&self, hold: Duration, now: Wall) -> Option<Duration> {
        self.free.iter().map(|slot| hold.saturating_sub(now.since(slot.since))).min()
    }

    /// How many of the free ones are kept no longer.
    pub(super) fn released(&self, hold: Duration, now: Wall) -> usize {
        self.free.iter().filter(|slot| slot.is_released(hold, now)).count()
    }

    /// Removes the free slots at the end; returns how many.
    pub fn shrink(&mut self) -> u32 {
        let before = self.count;
        while let Some(at) =
            self.count.checked_sub(1).and_then(|last| self.free.iter().position(|slot| slot.number == last))
        {
            self.free.remove(at);
            self.count -= 1;
        }
        before - self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MemberId {
        MemberId::new(text).unwrap()
    }

    const NOW: Wall = Wall(1_000_000);
    const HOLD: Duration = Duration::from_secs(10);

    fn take(slots: &mut Slots, member: &str, replaces: Option<&str>, at: Wall) -> Option<u32> {
        slots.take(&id(member), replaces.map(id).as_ref(), HOLD, at).map(|(number, _)| number)
    }

    fn full() -> Slots {
        let mut slots = Slots::default();
        for (number, member) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(take(&mut slots, member, None, NOW), u32::try_from(number).ok());
        }
        slots
    }

    #[test]
    fn a_replacement_takes_the_slot_that_became_free_last_among_those_that_are_kept_no_longer() {
        let mut slots = full();
        slots.free(1, id("b"), NOW);
        slots.free(0, id("a"), NOW.after(Duration::from_secs(5)));
        assert_eq!(take(&mut slots, "d", None, NOW.after(Duration::from_secs(9))), None, "both are kept");
        assert_eq!(slots.next_released(HOLD, NOW.after(Duration::from_secs(9))), Some(Duration::from_secs(1)));
        assert_eq!(take(&mut slots.clone(), "d", None, NOW.after(Duration::from_secs(10))), Some(1));
        assert_eq!(take(&mut slots.clone(), "d", None, NOW.after(Duration::from_secs(15))), Some(0));
        // Who had one has it back at any time, and who says whom it replaces has that one's.
        assert_eq!(take(&mut slots.clone(), "b", None, NOW), Some(1));
        assert_eq!(take(&mut slots, "d", Some("a"), NOW), Some(0));
        assert_eq!(take(&mut slots, "b", Some("a"), NOW), Some(1));
        assert_eq!(take(&mut slots, "e", Some("b"), NOW), Some(3), "none is free: there is one more");
    }

    #[test]
    fn edits_are_taken_back_in_reverse() {
        let mut slots = full();
        slots.free(1, id("b"), NOW);
        let before = slots.clone();
        let mut undo = vec![slots.free(2, id("c"), NOW)];
        undo.extend(slots.take(&id("b"), None, HOLD, NOW).map(|(_, undo)| undo));
        undo.extend(slots.take(&id("x"), Some(&id("c")), HOLD, NOW).map(|(_, undo)| undo));
        undo.extend(slots.take(&id("y"), None, HOLD, NOW).map(|(_, undo)| undo));
        assert_eq!((undo.len(), slots.count), (4, 4));
        undo.into_iter().rev().for_each(|undo| slots.undo(undo));
        assert_eq!(slots, before);
    }

    #[test]
    fn only_free_slots_at_the_end_are_removed() {
        let mut slots = full();
        slots.free(2, id("c"), NOW);
        slots.free(0, id("a"), NOW);
        assert_eq!(slots.shrink(), 1);
        assert_eq!((slots.count, slots.free.len()), (2, 1));
        slots.free(1, id("b"), NOW);
        assert_eq!(slots.shrink(), 2);
        assert_eq!(slots, Slots::default());
    }
}
