//! What policy makes of an edit: damping, slots, the way to a weight; and what it keeps of members besides.
//!
//! All of it takes part in the transaction: an edit notes what it did to penalties and slots, and takes it back with itself.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Monotonic, Name, NameMap, NameSet, Now, SeededMap, SeededSet, Wall};

use crate::membership::damping::{Penalties, Penalty};
use crate::membership::member::RAMP_STEPS;
use crate::membership::policy::{Policies, ServicePolicy};
use crate::membership::slots::{self, Slots};

use super::{Index, Item, Key, Member, MemberId, State, Table};

/// What an edit did besides.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Side {
    /// A penalty: what it was.
    Penalty(Key, Option<Penalty>),
    /// The slots of a service.
    Slots(Name, slots::Undo),
}

/// How a member is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Since when, and until when at most.
    pub(super) since: Monotonic,
    pub(super) until: Monotonic,
    /// Few enough are held: since when, and when its last chance ends.
    pub(super) let_go: Option<(Monotonic, Monotonic)>,
    /// Whether it has been heard of.
    pub(super) heard: bool,
}

/// A service in which somebody is held.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holding {
    pub(super) members: usize,
    /// Whether it has to be looked at again, since somebody in it has changed.
    pub(super) is_stale: bool,
}

/// A step that a member takes by time alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It is damped no longer.
    Reuse,
    /// The next step to its weight.
    Ramp,
}

/// What policy keeps.
#[derive(Debug)]
pub(super) struct Governed {
    pub(super) policies: Arc<Policies>,
    /// The time as it was looked at last.
    pub(super) seen: Now,
    penalties: Penalties,
    pub(super) marks: SeededMap<Index, Mark>,
    pub(super) holding: NameMap<Holding>,
    /// Who is held and has been heard of.
    pub(super) heard: Vec<Index>,
    /// When the next step to its weight is due.
    ramps: SeededMap<Index, Monotonic>,
    pub(super) turns: Vec<(Index, Turn)>,
    pub(super) slots: NameMap<Slots>,
    /// Services whose slots the transaction under way has changed.
    pub(super) changed_slots: NameSet,
    /// The slots as they were before the transaction under way removed some.
    shrunk: Vec<(Name, Slots)>,
    /// Who waits for a slot, by service.
    pub(super) waiting: NameMap<SeededSet<Index>>,
    /// Until when slots are not given out: the store has refused a moment ago.
    pub(super) rests_until: Monotonic,
}

impl Governed {
    pub(super) fn new(policies: Arc<Policies>) -> Governed {
        Governed {
            policies,
            seen: Now { mono: Monotonic(0), wall: Wall(0) },
            penalties: Penalties::default(),
            marks: SeededMap::default(),
            holding: NameMap::default(),
            heard: Vec::new(),
            ramps: SeededMap::default(),
            turns: Vec::new(),
            slots: NameMap::default(),
            changed_slots: NameSet::default(),
            shrunk: Vec::new(),
            waiting: NameMap::default(),
            rests_until: Monotonic(0),
        }
    }
}

impl Table {
    /// The time, for edits from here on.
    pub fn see(&mut self, now: Now) {
        self.governed.seen = now;
    }

    /// Changes the policies; leases that have lapsed already, holds and penalties keep what they were given.
    pub fn set_policies(&mut self, policies: Arc<Policies>) {
        self.governed.policies = policies;
        // Where there are slots now, members of before have none yet; where there are none any more, nobody has to wait.
        let mut waiting: NameMap<SeededSet<Index>> = NameMap::default();
        for index in (0..self.slots.len()).filter_map(|at| u32::try_from(at).ok()).map(Index) {
            if let Some(Item::Member(member)) = self.item(index)
                && wants_slot(member, self.policy_of(&member.service))
            {
                waiting.entry(member.service.clone()).or_default().insert(index);
            }
        }
        self.governed.waiting = waiting;
    }

    /// The policies.
    pub fn policies(&self) -> &Arc<Policies> {
        &self.governed.policies
    }

    pub(super) fn policy_of(&self, service: &Name) -> &ServicePolicy {
        self.governed.policies.of(service)
    }

    pub(super) fn grace_of(&self, index: Index) -> Duration {
        match self.item(index) {
            Some(Item::Member(member)) => self.policy_of(&member.service).leases.grace,
            _ => Duration::ZERO,
        }
    }

    /// Until when a member is damped.
    pub fn damped_until(&self, member: &Member) -> Option<Monotonic> {
        let policy = &self.policy_of(&member.service).damping;
        let key = Key::Member(member.service.clone(), member.id.clone());
        let penalty = self.governed.penalties.get(&key).filter(|_| member.state == State::Damped)?;
        Some(penalty.reaches(policy.reuse))
    }

    /// Whether a member that comes now would be damped.
    pub fn would_damp(&self, service: &Name, id: &MemberId) -> bool {
        let policy = &self.policy_of(service).damping;
        let penalty = self.governed.penalties.get(&Key::Member(service.clone(), id.clone()));
        !policy.half_life.is_zero()
            && penalty.is_some_and(|penalty| penalty.would_suppress(policy, self.governed.seen.mono))
    }

    /// Whether a member waits for a slot.
    pub fn waits_for_slot(&self, index: Index) -> bool {
        matches!(self.item(index), Some(Item::Member(member)) if member.decided.waits)
    }

    /// The slots of a service, if it has some.
    pub fn slots_of(&self, service: &Name) -> Option<&Slots> {
        self.governed.slots.get(service)
    }

    /// Takes over what the store kept of the slots of a service.
    pub fn load_slots(&mut self, service: Name, slots: Slots) {
        self.governed.slots.insert(service, slots);
    }

    /// Removes the free slots at the end of a service, and returns how many are left; none if there is nothing to remove.
    /// Nothing may have been edited since the last transaction ended: this is not taken back with a savepoint, but with the
    /// whole.
    pub fn shrink_slots(&mut self, service: &Name) -> Option<u32> {
        debug_assert!(!self.is_dirty(), "what is edited before would be taken back behind this");
        let slots = self.governed.slots.get_mut(service)?;
        let before = slots.clone();
        if slots.shrink() == 0 {
            return None;
        }
        let count = slots.count;
        self.governed.shrunk.push((service.clone(), before));
        self.governed.changed_slots.insert(service.clone());
        Some(count)
    }

    /// The end of a transaction, durable or not.
    pub(super) fn settle_slots(&mut self, durable: bool) {
        for (service, before) in std::mem::take(&mut self.governed.shrunk).into_iter().rev().filter(|_| !durable) {
            self.governed.slots.insert(service, before);
        }
        self.governed.changed_slots.clear();
    }

    /// The services whose slots the transaction under way has changed.
    pub fn changed_slots(&self) -> impl Iterator<Item = (&Name, Option<&Slots>)> {
        self.governed.changed_slots.iter().map(|service| (service, self.governed.slots.get(service)))
    }

    // ---- edits --------------------------------------------------------------------------------------------------

    /// What policy decides of a member that comes or changes.
    pub(super) fn govern(&mut self, item: &mut Item, predecessor: Option<&MemberId>) -> Vec<Side> {
        let Item::Member(member) = item else { return Vec::new() };
        let policy = *self.policy_of(&member.service);
        let before = self.member(&member.service, member.id.as_str()).map(|(_, before)| (before.state, before.decided));
        let mut sides = Vec::new();
        match before {
            None => self.penalize_return(member, &policy, &mut sides),
            // Whoever was damped and drained meanwhile is as damped as before.
            Some((state, _)) if state.is_draining() && member.state == State::Up => {
                let key = Key::Member(member.service.clone(), member.id.clone());
                let (penalty, now) = (self.governed.penalties.get(&key), self.governed.seen.mono);
                if penalty.is_some_and(|penalty| penalty.still_suppresses(&policy.damping, now)) {
                    member.state = State::Damped;
                }
            }
            Some(_) => {}
        }
        self.assign_slot(member, &policy, before.and_then(|(_, decided)| decided.slot), predecessor, &mut sides);
        if before
            .is_none_or(|(state, _)| state != member.state && !(state == State::Suspect && member.state == State::Up))
        {
            member.decided.since = self.governed.seen.wall;
        }
        let serves = |state: State, waits: bool| state.is_published() && !waits;
        let served = before.is_some_and(|(state, decided)| serves(state, decided.waits));
        if policy.slow_start.is_zero() {
            member.decided.ramp = 0;
        } else if serves(member.state, member.decided.waits) && !served {
            member.decided.ramp = 1;
        }
        sides
    }

    /// Whoever comes back too often is damped.
    fn penalize_return(&mut self, member: &mut Member, policy: &ServicePolicy, sides: &mut Vec<Side>) {
        let now = self.governed.seen.mono;
        let key = Key::Member(member.service.clone(), member.id.clone());
        if policy.damping.half_life.is_zero() || self.governed.penalties.get(&key).is_none() {
            return;
        }
        let before = self.governed.penalties.add(&key, &policy.damping, now);
        let suppresses = before.is_some_and(|before| before.would_suppress(&policy.damping, now));
        if suppresses && member.state == State::Up {
            self.governed.penalties.suppress(&key);
            member.state = State::Damped;
        }
        sides.push(Side::Penalty(key, before));
    }

    fn assign_slot(
        &mut self,
        member: &mut Member,
        policy: &ServicePolicy,
        before: Option<u32>,
        predecessor: Option<&MemberId>,
        sides: &mut Vec<Side>,
    ) {
        let wall = self.governed.seen.wall;
        let service = &member.service;
        match policy.slot_hold {
            None => (member.decided.slot, member.decided.waits) = (None, false),
            Some(hold) if member.decided.slot.is_none() && member.state.is_published() => {
                let slots = self.governed.slots.entry(service.clone()).or_default();
                member.decided.waits = true;
                if let Some((number, undo)) = slots.take(&member.id, predecessor, hold, wall) {
                    (member.decided.slot, member.decided.waits) = (Some(number), false);
                    sides.push(Side::Slots(service.clone(), undo));
                    self.governed.changed_slots.insert(service.clone());
                }
            }
            Some(_) => member.decided.waits = false,
        }
        if let Some(number) = before.filter(|_| member.decided.slot != before) {
            self.free_slot(service, &member.id, number, sides);
        }
    }

    fn free_slot(&mut self, service: &Name, id: &MemberId, number: u32, sides: &mut Vec<Side>) {
        let wall = self.governed.seen.wall;
        let slots = self.governed.slots.entry(service.clone()).or_default();
        sides.push(Side::Slots(service.clone(), slots.free(number, id.clone(), wall)));
        self.governed.changed_slots.insert(service.clone());
    }

    /// The same of a member that goes.
    pub(super) fn govern_removal(&mut self, index: Index) -> Vec<Side> {
        let Some(Item::Member(member)) = self.item(index) else { return Vec::new() };
        let policy = self.policy_of(&member.service).damping;
        let (service, id, slot) = (member.service.clone(), member.id.clone(), member.decided.slot);
        let mut sides = Vec::new();
        if !policy.half_life.is_zero() {
            let key = Key::Member(service.clone(), id.clone());
            let before = self.governed.penalties.add(&key, &policy, self.governed.seen.mono);
            sides.push(Side::Penalty(key, before));
        }
        if let Some(number) = slot {
            self.free_slot(&service, &id, number, &mut sides);
        }
        sides
    }

    /// Takes back what an edit did besides.
    pub(super) fn take_back(&mut self, sides: Vec<Side>) {
        for side in sides.into_iter().rev() {
            match side {
                Side::Penalty(key, before) => self.governed.penalties.restore(&key, before),
                Side::Slots(service, undo) => {
                    if let Some(slots) = self.governed.slots.get_mut(&service) {
                        slots.undo(undo);
                    }
                }
            }
        }
    }

    /// Keeps what is known of a place in step with what is about to stand there.
    pub(super) fn note_standing(&mut self, index: Index, after: Option<&Item>) {
        let before = match self.slots.get(index.at()).and_then(|slot| slot.item.as_ref()) {
            Some(Item::Member(member)) => Some(member),
            _ => None,
        };
        let after = match after {
            Some(Item::Member(member)) => Some(member),
            _ => None,
        };
        let (Some(service), governed) = (after.or(before).map(|member| &member.service), &mut self.governed) else {
            return;
        };
        let policy = governed.policies.of(service);
        let is_held = |member: Option<&Member>| member.is_some_and(|member| member.state == State::Held);
        match (is_held(before), is_held(after)) {
            (false, true) => {
                let since = after.map_or(governed.seen.wall, |member| member.decided.since);
                let left = policy.hold.max.saturating_sub(governed.seen.wall.since(since));
                let now = governed.seen.mono;
                let mark = Mark { since: now, until: now.after(left), let_go: None, heard: false };
                governed.marks.insert(index, mark);
                governed.holding.entry(service.clone()).or_default().members += 1;
            }
            (true, false) => {
                governed.marks.remove(&index);
                if let Some(holding) = governed.holding.get_mut(service) {
                    holding.members -= 1;
                    if holding.members == 0 {
                        governed.holding.remove(service);
                    }
                }
            }
            _ => {}
        }
        if let Some(holding) = governed.holding.get_mut(service) {
            holding.is_stale = true;
        }
        match after.filter(|member| member.decided.ramp > 0) {
            Some(_) if before.zip(after).is_none_or(|(b, a)| b.decided.ramp != a.decided.ramp) => {
                let step = policy.slow_start / u32::from(RAMP_STEPS);
                // Without a slow start any more, at once.
                let at = if step.is_zero() { governed.seen.mono } else { next_step(governed.seen.mono, step) };
                governed.ramps.insert(index, at);
            }
            Some(_) => {}
            None => drop(governed.ramps.remove(&index)),
        }
        if after.is_some_and(|member| wants_slot(member, policy)) {
            governed.waiting.entry(service.clone()).or_default().insert(index);
        } else if let Some(waiting) = governed.waiting.get_mut(service) {
            waiting.remove(&index);
            if waiting.is_empty() {
                governed.waiting.remove(service);
            }
        }
    }

    /// Of a member that the store has as damped: its penalty, as far as it can be told.
    pub(super) fn revive_penalty(&mut self, item: &Item, now: Monotonic) {
        if let Item::Member(member) = item
            && member.state == State::Damped
        {
            let policy = self.policy_of(&member.service).damping;
            let ago = self.governed.seen.wall.since(member.decided.since);
            if !policy.half_life.is_zero() {
                self.governed.penalties.revive(&item.key(), &policy, ago, now);
            }
        }
    }

    // ---- time ---------------------------------------------------------------------------------------------------

    /// Forgets penalties that have come to little.
    pub(super) fn sweep_penalties(&mut self, now: Monotonic) {
        self.governed.penalties.sweep(now);
    }

    /// When an item's time comes next, stalls aside.
    pub(super) fn due(&self, index: Index) -> Monotonic {
        let deadline = self.reading(index).deadline;
        let Some(Item::Member(member)) = self.item(index) else { return deadline };
        match member.state {
            State::Suspect => deadline.after(self.grace_of(index)),
            State::Held => match self.governed.marks.get(&index) {
                // Time in which nobody could be heard of doesn't count here either; what of it was before has extended the lease.
                Some(mark) => {
                    let reading = self.reading(index);
                    let end = |(since, end)| self.stalls.extend_from(since, &reading, end);
                    let until = end((mark.since, mark.until));
                    mark.let_go.map_or(until, |let_go| end(let_go).min(until))
                }
                None => deadline,
            },
            _ => self.next_turn(index, member).map_or(deadline, |(at, _)| at.min(deadline)),
        }
    }

    /// The next step that a member takes by time alone.
    fn next_turn(&self, index: Index, member: &Member) -> Option<(Monotonic, Turn)> {
        match member.state {
            // Without a penalty, since the policy was switched off: at once.
            State::Damped => Some((self.damped_until(member).unwrap_or(Monotonic(0)), Turn::Reuse)),
            _ => self.governed.ramps.get(&index).map(|at| (*at, Turn::Ramp)),
        }
    }

    /// Notes the step that is due; else when the next one is.
    pub(super) fn take_turn(&mut self, index: Index, now: Monotonic) -> Option<Monotonic> {
        let Some(Item::Member(member)) = self.item(index) else { return None };
        let (at, turn) = self.next_turn(index, member)?;
        if at > now {
            return Some(at);
        }
        self.governed.turns.push((index, turn));
        None
    }

    pub(super) fn is_held(&self, index: Index) -> bool {
        self.governed.marks.contains_key(&index)
    }

    /// A hold goes on until then at the least.
    pub(super) fn hold_at_least(&mut self, index: Index, until: Monotonic) {
        if let Some(mark) = self.governed.marks.get_mut(&index) {
            mark.until = mark.until.max(until);
        }
    }

    /// Somebody who is held was heard of.
    pub(super) fn hear_of_held(&mut self, index: Index) {
        if let Some(mark) = self.governed.marks.get_mut(&index)
            && !std::mem::replace(&mut mark.heard, true)
        {
            self.governed.heard.push(index);
        }
    }

    /// What was to be up again, and could not be kept so, is tried again in a while, as lapses are.
    pub(super) fn retry_decisions(&mut self, returned: Vec<Index>, at: Monotonic) {
        self.governed.rests_until = at;
        for index in returned {
            if let Some(mark) = self.governed.marks.get_mut(&index) {
                mark.heard = true;
                self.arm(index, at);
            }
        }
    }

    /// Whether somebody who is held was heard of, and waits to be up again.
    pub(super) fn take_heard(&mut self, index: Index) -> bool {
        let heard = self.governed.marks.get(&index).is_some_and(|mark| mark.heard);
        if heard && !self.governed.heard.contains(&index) {
            self.governed.heard.push(index);
        }
        heard
    }

    /// Who is up by the transaction under way, since it was held and has been heard of.
    pub(super) fn returned_from_hold(&self) -> Vec<Index> {
        let was_held = |item: &Option<Item>| matches!(item, Some(Item::Member(member)) if member.state == State::Held);
        let is_up = |index: Index| matches!(self.item(index), Some(Item::Member(member)) if member.state == State::Up);
        let undone = self.journal.iter().filter(|undo| was_held(&undo.before) && is_up(undo.index));
        undone.map(|undo| undo.index).collect()
    }
}

/// Whether a member is to be given a slot, or to be told that it needs none.
fn wants_slot(member: &Member, policy: &ServicePolicy) -> bool {
    match policy.slot_hold {
        Some(_) => member.decided.slot.is_none() && member.state.is_published(),
        None => member.decided.waits,
    }
}

/// The next point of a grid of steps, so that members which come one after the other share their commits; half a step away at
/// the least.
fn next_step(now: Monotonic, step: Duration) -> Monotonic {
    let step = u64::try_from(step.as_millis()).unwrap_or(u64::MAX).max(1);
    Monotonic((now.0 + step / 2).div_ceil(step).saturating_mul(step))
}
