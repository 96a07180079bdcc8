//! What time brings: leases that end, and what policy decides of that.
//!
//! When leases of a service end, its members are looked at once. If more than a fraction of the published ones are silent,
//! the fault is probably ours, and all the silent ones are held: they stay published, and marked. Whoever is held leaves that
//! by a heartbeat, by being withdrawn, or when it has lasted long enough. Once the held are few again, those who still are have
//! one more of their own leases to be heard of, so that a network that heals withdraws nobody; and a fault that does not heal
//! ends by itself.
//!
//! Cost: a look at all members of a service when leases in it end, or when somebody in it changes while somebody is held.

use std::time::Duration;

use crate::base::{Monotonic, Name, NameMap, Now, SeededSet};

use crate::membership::member::RAMP_STEPS;
use crate::membership::policy::{HoldPolicy, Reason};

use super::governed::Turn;
use super::{Index, Item, Member, State, Table};

/// What is decided of an item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Where it stands.
    pub index: Index,
    /// What it becomes; `None`: it goes.
    pub after: Option<Box<Member>>,
    /// Why; `None`: its lease has ended.
    pub reason: Option<Reason>,
}

/// A service as its members stand.
struct Census {
    published: usize,
    silent: Vec<Index>,
}

impl Table {
    /// Lets time pass. What is decided is to be carried out in one transaction, with [`Table::remove`] and
    /// [`Table::amend`]; until then it is decided again.
    pub fn tick(&mut self, now: Now) -> Vec<Decision> {
        self.see(now);
        self.sweep_penalties(now.mono);
        let mut decisions = Vec::new();
        let ended = self.lapsed(now.mono);
        // Who is edited is decided about when the transaction has ended.
        let heard = std::mem::take(&mut self.governed.heard);
        let (edited, heard): (Vec<Index>, Vec<Index>) =
            heard.into_iter().partition(|index| self.edited.contains(index));
        self.governed.heard = edited;
        decisions.extend(heard.into_iter().filter_map(|index| self.become_state(index, State::Up, Reason::Heard)));
        self.judge(ended, now.mono, &mut decisions);
        for (index, turn) in std::mem::take(&mut self.governed.turns) {
            decisions.extend(match turn {
                Turn::Reuse => self.become_state(index, State::Up, Reason::Reused),
                Turn::Ramp => self.ramp_up(index),
            });
        }
        self.review_holds(now.mono);
        self.give_slots(&mut decisions);
        decisions
    }

    /// When somebody has to decide, timers aside.
    pub(super) fn next_decision(&self) -> Option<Monotonic> {
        let governed = &self.governed;
        let stale = governed.holding.values().any(|holding| holding.is_stale);
        if stale || governed.heard.iter().any(|index| !self.edited.contains(index)) {
            return Some(governed.seen.mono);
        }
        let waiting = governed.waiting.iter();
        let waiting = waiting.filter(|(_, members)| members.iter().any(|index| !self.edited.contains(index)));
        let released = waiting.filter_map(|(service, _)| {
            let Some(hold) = self.policy_of(service).slot_hold else { return Some(Duration::ZERO) };
            match governed.slots.get(service) {
                Some(slots) if !slots.free.is_empty() => slots.next_released(hold, governed.seen.wall),
                _ => Some(Duration::ZERO),
            }
        });
        released.min().map(|left| governed.seen.mono.after(left).max(governed.rests_until))
    }

    fn member_at(&self, index: Index) -> Option<&Member> {
        match self.item(index) {
            Some(Item::Member(member)) => Some(member),
            _ => None,
        }
    }

    /// A member in another state, unless the transaction under way has changed it.
    fn become_state(&self, index: Index, state: State, reason: Reason) -> Option<Decision> {
        let member = self.member_at(index).filter(|member| member.state != state && !self.edited.contains(&index))?;
        let after = Some(Box::new(Member { state, ..member.clone() }));
        Some(Decision { index, after, reason: Some(reason) })
    }

    fn ramp_up(&self, index: Index) -> Option<Decision> {
        let mut after = self.member_at(index).filter(|_| !self.edited.contains(&index))?.clone();
        after.decided.ramp = if after.decided.ramp + 1 < RAMP_STEPS { after.decided.ramp + 1 } else { 0 };
        Some(Decision { index, after: Some(Box::new(after)), reason: Some(Reason::Ramped) })
    }

    /// Decides about items whose time is over: each service once.
    fn judge(&mut self, ended: Vec<Index>, now: Monotonic, decisions: &mut Vec<Decision>) {
        let mut services: Vec<(Name, Vec<Index>)> = Vec::new();
        let mut places: NameMap<usize> = NameMap::default();
        for index in ended {
            match self.member_at(index) {
                Some(member) if member.state.is_published() && !self.waits_for_slot(index) => {
                    let service = &member.service;
                    let place = *places.entry(service.clone()).or_insert(services.len());
                    match services.get_mut(place) {
                        Some((_, members)) => members.push(index),
                        None => services.push((service.clone(), vec![index])),
                    }
                }
                _ => decisions.push(Decision { index, after: None, reason: None }),
            }
        }
        for (service, members) in services {
            self.judge_service(&service, members, now, decisions);
        }
    }

    fn judge_service(&mut self, service: &Name, ended: Vec<Index>, now: Monotonic, decisions: &mut Vec<Decision>) {
        let policy = self.policy_of(service).hold;
        let is_maxed = |index: &Index| self.governed.marks.get(index).is_some_and(|mark| now >= mark.until);
        let (maxed, ended): (Vec<Index>, Vec<Index>) = ended.into_iter().partition(is_maxed);
        let ends = |&index: &Index| Decision { index, after: None, reason: Some(Reason::HoldEnded) };
        decisions.extend(maxed.iter().map(ends));
        if ended.is_empty() {
            return;
        }
        let census = self.count(service, &maxed.into_iter().collect(), now);
        if policy.is_mass(census.silent.len(), census.published) {
            for index in census.silent {
                self.keep(index, Reason::Held, decisions);
            }
            return;
        }
        self.let_lapse(ended, &policy, census.published, decisions);
    }

    /// Lets members lapse, down to the floor.
    fn let_lapse(
        &mut self,
        mut ended: Vec<Index>,
        policy: &HoldPolicy,
        published: usize,
        decisions: &mut Vec<Decision>,
    ) {
        let floor = usize::try_from(policy.floor).expect("32 bits fit");
        let kept = floor.saturating_sub(published.saturating_sub(ended.len())).min(ended.len());
        if kept > 0 {
            // Whoever was heard of last is the likeliest to live.
            ended.sort_by_key(|&index| std::cmp::Reverse(self.reading(index).deadline));
        }
        for index in ended.drain(..kept).collect::<Vec<_>>() {
            self.keep(index, Reason::Floor, decisions);
        }
        decisions.extend(ended.into_iter().map(|index| {
            let reason = self.is_held(index).then_some(Reason::LetGo);
            Decision { index, after: None, reason }
        }));
    }

    /// Holds a member, or goes on to.
    fn keep(&mut self, index: Index, reason: Reason, decisions: &mut Vec<Decision>) {
        match self.governed.marks.get_mut(&index) {
            Some(mark) => {
                mark.let_go = None;
                let until = mark.until;
                self.arm(index, until);
            }
            None => decisions.extend(self.become_state(index, State::Held, reason)),
        }
    }

    /// The published members of a service but for these, and who of them is silent: overdue, or its lease has ended.
    fn count(&self, service: &Name, without: &SeededSet<Index>, now: Monotonic) -> Census {
        let mut census = Census { published: 0, silent: Vec::new() };
        for (index, member) in self.members(service) {
            if !member.state.is_published() || self.waits_for_slot(index) || without.contains(&index) {
                continue;
            }
            census.published += 1;
            if self.is_silent(index, member, now) {
                census.silent.push(index);
            }
        }
        census
    }

    fn is_silent(&self, index: Index, member: &Member, now: Monotonic) -> bool {
        match member.state {
            State::Held => self.governed.marks.get(&index).is_some_and(|mark| !mark.heard),
            State::Suspect => true,
            // Somebody was heard of whose new lease runs from the end of the transaction.
            _ if self.edited.contains(&index) => false,
            _ => {
                let reading = self.reading(index);
                let end = reading.deadline.min(reading.last.after(reading.patience()));
                self.stalls.extend(&reading, end) <= now
            }
        }
    }

    /// Where few enough are held again, or too few are published to hold anybody, those who still are have one more of their
    /// own leases.
    fn review_holds(&mut self, now: Monotonic) {
        let stale = self.governed.holding.iter_mut().filter(|(_, holding)| holding.is_stale);
        let services: Vec<Name> = stale
            .map(|(service, holding)| {
                holding.is_stale = false;
                service.clone()
            })
            .collect();
        for service in services {
            let policy = self.policy_of(&service).hold;
            let published = self.count(&service, &SeededSet::default(), now).published;
            let held: Vec<(Index, Monotonic)> = self
                .members(&service)
                .filter(|(index, _)| self.governed.marks.get(index).is_some_and(|mark| !mark.heard))
                .map(|(index, member)| (index, now.after(member.lease.duration())))
                .collect();
            if policy.is_mass(held.len(), published) {
                continue;
            }
            for (index, end) in held {
                let Some(mark) = self.governed.marks.get_mut(&index).filter(|mark| mark.let_go.is_none()) else {
                    continue;
                };
                mark.let_go = Some((now, end));
                // The end of the transaction arms what is edited.
                if !self.edited.contains(&index) {
                    self.arm(index, self.due(index));
                }
            }
        }
    }

    /// Whoever waits for a slot has one as soon as one is kept no longer.
    fn give_slots(&mut self, decisions: &mut Vec<Decision>) {
        if self.governed.waiting.is_empty() || self.governed.seen.mono < self.governed.rests_until {
            return;
        }
        let wall = self.governed.seen.wall;
        let mut left: NameMap<usize> = NameMap::default();
        let mut waiting: Vec<Index> = Vec::new();
        for (service, members) in &self.governed.waiting {
            let released = match self.governed.slots.get(service) {
                Some(slots) if !slots.free.is_empty() => {
                    slots.released(self.policy_of(service).slot_hold.unwrap_or_default(), wall)
                }
                // None is kept: there is one more for each.
                _ => usize::MAX,
            };
            if released > 0 {
                left.insert(service.clone(), released);
                waiting.extend(members.iter().filter(|index| !self.edited.contains(index)));
            }
        }
        // Those who came first are first.
        waiting.sort_by_cached_key(|&index| {
            self.member_at(index).map(|member| (member.decided.since, member.id.clone(), index.at()))
        });
        for index in waiting {
            let Some(member) = self.member_at(index) else { continue };
            if let Some(left) = left.get_mut(&member.service).filter(|left| **left > 0) {
                *left -= 1;
                // The edit itself takes the slot.
                let after = Some(Box::new(member.clone()));
                decisions.push(Decision { index, after, reason: Some(Reason::Slotted) });
            }
        }
    }
}
