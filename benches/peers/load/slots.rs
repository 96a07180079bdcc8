//! What is in flight on one socket. An id is the number of a slot and how often the slot was used, so that an answer finds
//! its message by a division, and late answers to earlier messages don't match.

/// A message in flight, or room for one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot<T> {
    pub(crate) id: u16,
    pub(crate) flying: bool,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// When it was sent first, or due, in nanoseconds from the start.
    pub(crate) first: u64,
    /// When it was sent last.
    pub(crate) last: u64,
    pub(crate) message: Vec<u8>,
    pub(crate) task: T,
}

pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

/// Ids are 16 bits, and a slot should have a few of them.
const MOST: usize = 8192;

impl<T: Default> Slots<T> {
    pub(crate) fn new(count: usize) -> Slots<T> {
        assert!(count <= MOST, "at most {MOST} messages in flight on a socket");
        let slots = (0..count).map(|number| Slot { id: number as u16, ..Slot::default() }).collect();
        Slots { slots, free: (0..count).rev().collect() }
    }

    /// A free slot with a new id; it has to be given back if it is not used.
    pub(crate) fn take(&mut self) -> Option<usize> {
        let number = self.free.pop()?;
        let count = self.slots.len();
        let slot = &mut self.slots[number];
        let next = usize::from(slot.id) + count;
        slot.id = if next <= usize::from(u16::MAX) { next } else { number } as u16;
        (slot.flying, slot.attempts) = (true, 0);
        Some(number)
    }

    pub(crate) fn give_back(&mut self, number: usize) {
        self.slots[number].flying = false;
        self.free.push(number);
    }

    /// The message in flight that a message answers by its id and QR bit.
    pub(crate) fn answered_by(&self, answer: &[u8]) -> Option<usize> {
        let id = u16::from_be_bytes([*answer.first()?, *answer.get(1)?]);
        let number = usize::from(id) % self.slots.len();
        let slot = &self.slots[number];
        (answer.len() >= 12 && slot.flying && slot.id == id && answer[2] & 0x80 != 0).then_some(number)
    }

    pub(crate) fn slot(&self, number: usize) -> &Slot<T> {
        &self.slots[number]
    }

    pub(crate) fn slot_mut(&mut self, number: usize) -> &mut Slot<T> {
        &mut self.slots[number]
    }

    /// How many are in flight.
    pub(crate) fn flying(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Those in flight that were sent last before a time.
    pub(crate) fn sent_before(&self, time: u64) -> Vec<usize> {
        let late = |slot: &Slot<T>| slot.flying && slot.attempts > 0 && slot.last < time;
        (0..self.slots.len()).filter(|&number| late(&self.slots[number])).collect()
    }
}
