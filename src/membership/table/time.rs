//! What time does to a table: heartbeats, leases that end, and what the store must learn of both after a restart.

use std::cmp::Reverse;
use std::time::Duration;

use crate::base::Monotonic;
use crate::base::limits::EXPIRY_TICK;

use crate::membership::cell::Heartbeats;
use crate::membership::renewals::Digest;

use super::{Full, Index, Item, Key, Stamp, State, Table, Unrenewed};

impl Table {
    /// Counts a heartbeat that changes nothing. A suspect member is up again by it.
    pub fn renew(&mut self, index: Index, now: Monotonic, stamp: Option<Stamp>) {
        let state = match &mut self.slots[index.at()].item {
            Some(Item::Member(member)) => Some(&mut member.state),
            _ => None,
        };
        match state {
            Some(state @ State::Suspect) => {
                *state = State::Up;
                self.census.turn(State::Suspect, State::Up);
                self.cells.unclaim(index.cell());
            }
            // That it is held no longer is published, with the next look at the time.
            Some(State::Held) => {
                self.hear_of_held(index);
                // With the fault's own length as the usual interval, nobody would be late in the next one.
                self.cells.end_silence(index.cell(), now);
            }
            _ => {}
        }
        self.cells.beat_claimed(index.cell(), now, stamp);
        // The end of the transaction gives an edited item a cell that begins anew.
        if self.edited.contains(&index)
            && let Some(key) = self.item(index).map(Item::key)
        {
            self.sign(key, stamp);
        }
        let due = self.due(index);
        if self.slots[index.at()].armed > due {
            self.arm(index, due);
        }
    }

    /// Notes that a message does nothing but renew this item's lease, so that any thread may count it from now on. The
    /// caller sees to it that the note is voided before anything changes that the message's outcome depends on, besides the
    /// item.
    pub fn note(&mut self, index: Index, digest: Digest) {
        if self.item(index).is_some() && !self.edited.contains(&index) {
            self.renewals.note(index.cell(), digest);
        }
    }

    /// Voids what is noted of an item.
    pub fn void_note(&mut self, index: Index) {
        self.renewals.void(index.cell());
    }

    /// Voids all that is noted.
    pub fn void_notes(&mut self) {
        self.renewals.void_all();
    }

    /// When [`Table::tick`] should be called next.
    pub fn next_wake(&self) -> Option<Monotonic> {
        let timer = self.timers.peek().map(|Reverse((when, _))| on_grid(*when));
        timer.into_iter().chain(self.next_decision()).min()
    }

    /// Notes that the process is running; whoever drives the table calls it at least every
    /// [`PULSE`](super::stall::PULSE) while there are items. Returns the length of the stall that ends here, if there was
    /// one: leases that ran when it began have been extended.
    pub fn observe(&mut self, now: Monotonic) -> Option<Duration> {
        let leases_run = !self.is_empty();
        self.stalls.observe(now, leases_run)
    }

    /// The items whose time is over at `now` (a member's grace or hold included): each is claimed, so that a heartbeat which
    /// arrives from here on is handed to the publisher. The caller removes or holds them, in one transaction, or abandons
    /// it.
    pub fn lapsed(&mut self, now: Monotonic) -> Vec<Index> {
        let mut lapsed = Vec::new();
        while let Some(&Reverse((when, index))) = self.timers.peek() {
            if on_grid(when) > now {
                break;
            }
            self.timers.pop();
            if self.slots[index.at()].armed != when || self.slots[index.at()].item.is_none() {
                continue;
            }
            // Another timer of the same item for the same moment is void.
            self.slots[index.at()].armed = UNARMED;
            if self.edited.contains(&index) {
                // Somebody was heard of whose new lease runs from the end of the transaction, which arms it.
                continue;
            }
            if self.is_over(index, now, when) {
                lapsed.push(index);
            }
        }
        lapsed
    }

    /// Whether the time of an item is over whose timer has fired; arms it anew if not.
    fn is_over(&mut self, index: Index, now: Monotonic, fired: Monotonic) -> bool {
        let reading = self.reading(index);
        let deadline = self.stalls.extend(&reading, reading.deadline);
        let state = match &self.slots[index.at()].item {
            Some(Item::Member(member)) => Some(member.state),
            _ => None,
        };
        match state {
            Some(State::Suspect) => {
                let end = self.stalls.extend(&reading, reading.deadline.after(self.grace_of(index)));
                if end > now {
                    self.arm(index, end);
                }
                return end <= now;
            }
            Some(State::Held) if self.take_heard(index) => return false,
            Some(State::Held) => {
                let due = self.due(index);
                if due > now {
                    self.arm(index, due);
                }
                return due <= now;
            }
            _ if deadline > now => {
                let turn = self.take_turn(index, now);
                self.arm(index, turn.map_or(deadline, |turn| turn.min(deadline)));
                return false;
            }
            _ => {}
        }
        if !self.cells.claim(index.cell(), &reading) {
            // A heartbeat came between reading and claim; its deadline is the one to wait for.
            self.arm(index, fired.after(EXPIRY_TICK));
            return false;
        }
        let grace = self.grace_of(index);
        if let Some(Item::Member(member)) = &mut self.slots[index.at()].item
            && member.state == State::Up
            && !grace.is_zero()
        {
            member.state = State::Suspect;
            self.census.turn(State::Up, State::Suspect);
            self.arm(index, self.stalls.extend(&reading, reading.deadline.after(grace)));
            return false;
        }
        true
    }

    pub(super) fn arm(&mut self, index: Index, when: Monotonic) {
        if self.slots[index.at()].armed == when {
            return;
        }
        self.slots[index.at()].armed = when;
        if self.timers.len() > 2 * self.slots.len() + STALE_TIMERS {
            // Items that come and go leave timers behind that would fire for nothing, perhaps an hour later.
            let own = |timer: &Reverse<(Monotonic, Index)>| self.slots[timer.0.1.at()].armed == timer.0.0;
            self.timers = std::mem::take(&mut self.timers).into_iter().filter(own).collect();
        }
        if self.timers.len() == self.timers.capacity() {
            self.timers.reserve_exact(self.timers.len() / 8 + 64);
        }
        self.timers.push(Reverse((when, index)));
    }

    // ---- restart ------------------------------------------------------------------------------------------------

    /// Takes an item over from the store. `deadline` is what the start rules give it; `renewed` whether the store knows
    /// already that it has renewed in this run. Returns where it stands.
    pub fn load(&mut self, item: Item, stamp: Stamp, deadline: Monotonic, now: Monotonic) -> Result<Index, Full> {
        let lease = item.lease();
        self.revive_penalty(&item, now);
        let index = self.allocate()?;
        self.set(index, Some(item));
        self.cells.assign(index.cell(), deadline, now, lease, stamp, Default::default());
        if self.is_held(index) {
            self.cells.shut(index.cell());
            // While the process was down it could not be heard of: it has the lease that this start gives, like all.
            self.hold_at_least(index, deadline);
        }
        self.arm(index, self.due(index));
        self.unrenewed.push(Unrenewed { index, generation: self.reading(index).generation(), deadline });
        Ok(index)
    }

    /// Who has renewed since the start without the store knowing yet: each is returned once.
    pub fn renewed_since_start(&mut self) -> Vec<(Key, Stamp)> {
        let mut renewed = Vec::new();
        let waiting = std::mem::take(&mut self.unrenewed);
        for known in waiting {
            let reading = self.reading(known.index);
            // Another generation: changed or removed since, which the store was told.
            let Some(item) = self.item(known.index).filter(|_| reading.generation() == known.generation) else {
                continue;
            };
            if reading.deadline > known.deadline {
                renewed.push((item.key(), reading.stamp));
            } else {
                self.unrenewed.push(known);
            }
        }
        renewed
    }

    /// Puts back what a checkpoint could not write.
    pub fn restore_unrenewed(&mut self, keys: &[(Key, Stamp)]) {
        for (key, _) in keys {
            if let Some(index) = self.find(key) {
                let generation = self.reading(index).generation();
                self.unrenewed.push(Unrenewed { index, generation, deadline: Monotonic(0) });
            }
        }
    }

    /// Whether a checkpoint could have something to write.
    pub fn awaits_checkpoint(&self) -> bool {
        !self.unrenewed.is_empty()
    }
}

/// Timers of former items that are put up with before they are cleared out.
const STALE_TIMERS: usize = 4096;
/// No timer.
pub(super) const UNARMED: Monotonic = Monotonic(0);
/// How long after a refused write lapsed items are looked at again.
pub(super) const RETRY_EXPIRY: Duration = Duration::from_secs(1);

/// The next point of the grid at or after a deadline.
fn on_grid(when: Monotonic) -> Monotonic {
    let tick = u64::try_from(EXPIRY_TICK.as_millis()).expect("a small constant");
    Monotonic(when.0.div_ceil(tick) * tick)
}
