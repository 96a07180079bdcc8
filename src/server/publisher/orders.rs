//! Orders: requests that speak of whole members by their ids, many in one submission.
//!
//! Each is carried out by itself and reports for itself; those that change something share the batch's commit. What only
//! renews is done at once, also while a write is under way.

use crate::base::{Limit, Name, Now, SeededSet};
use crate::membership::MemberId;
use crate::zone::registration::order::{Done, Failure, Order, Orderer, carry_out};
use crate::zone::registration::{Ground, Kind, Objection, Outcome};
use crate::zone::{Cause, CausedChange, Change};

use super::submission::{Orders, Reply, Shrink, Submission};
use super::{NO_ANSWER, Publisher};

impl Publisher {
    /// Takes orders while a write is under way, or others wait that came before them.
    pub(super) fn submit_orders(&mut self, mut orders: Box<Orders>, now: Now) {
        // Who an earlier order of these concerns that has to wait.
        let mut waiting: SeededSet<(Name, MemberId)> = SeededSet::default();
        for at in 0..orders.orders.len() {
            let order = &orders.orders[at];
            let whom = (order.service.clone(), order.id.clone());
            if self.table.member(&order.service, order.id.as_str()).is_none() {
                waiting.insert(whom); // whoever is not there has no lease to renew
                continue;
            }
            let is_behind = waiting.contains(&whom) || self.waiting.speaks_of(&whom);
            match self.consider(order, &orders.orderer) {
                Ok(outcome) if !is_behind && self.only_renews(&outcome) => {
                    self.renew(&outcome, None, now);
                    orders.reports[at] = Some(Ok(self.done(order, false, now)));
                }
                Ok(outcome) => {
                    self.hear(&outcome, now);
                    waiting.insert(whom);
                }
                // It may come to something else once the write has ended.
                Err(_) => drop(waiting.insert(whom)),
            }
        }
        if orders.are_complete() {
            self.outbox.push(Reply::Orders(orders));
        } else if self.in_flight.as_ref().is_some_and(|in_flight| in_flight.given_up) {
            orders.fail_rest(NO_ANSWER);
            self.outbox.push(Reply::Orders(orders));
        } else if self.waiting.is_full() {
            self.counters.count(Limit::StoreQueue);
            orders.fail_rest("too many updates wait for the store; retry later");
            self.outbox.push(Reply::Orders(orders));
        } else {
            self.waiting.push(Submission::Orders(orders));
        }
    }

    /// Carries orders out.
    pub(super) fn process_orders(&mut self, mut orders: Box<Orders>, now: Now) {
        for at in 0..orders.orders.len() {
            if orders.reports[at].is_some() {
                continue;
            }
            let mut waits = false;
            let order = &orders.orders[at];
            let report = match self.consider(order, &orders.orderer) {
                Ok(outcome) => self.carry_out(order, &outcome, now, &mut waits),
                // Perhaps by what is not durable yet; then it is told with that.
                Err(objection) => {
                    waits |= self.table.is_dirty();
                    objection.limit.into_iter().for_each(|limit| self.counters.count(limit));
                    Err(objection.into())
                }
            };
            orders.reports[at] = Some(report);
            orders.provisional[at] = waits;
        }
        let waits = orders.provisional.contains(&true);
        let reply = Reply::Orders(orders);
        if waits {
            self.open(now);
            self.batch.replies.push(reply);
        } else {
            self.outbox.push(reply);
        }
    }

    /// Removes the free slots at the end of a service.
    pub(super) fn shrink(&mut self, shrink: Box<Shrink>, now: Now) {
        let epoch = self.zone.snapshot().epoch;
        let service = &shrink.service;
        let reply = if self.table.is_dirty() {
            Reply::Shrink(shrink, Err(busy()))
        } else if let Some(count) = self.table.shrink_slots(service) {
            let change = Change::Slots { service: service.clone(), count };
            self.zone.change(CausedChange { change, cause: Cause::Shrunk(shrink.by.clone()) }, now.wall);
            self.open(now);
            self.batch.replies.push(Reply::Shrink(shrink, Ok((count, epoch))));
            return;
        } else {
            let done = self.table.slots_of(service).map(|slots| (slots.count, epoch)).ok_or_else(|| {
                let text = format!("{service} has no slots: set `slots = true` in its [[service]] entry");
                Objection { kind: Kind::Unknown, text, limit: None }.into()
            });
            Reply::Shrink(shrink, done)
        };
        self.outbox.push(reply);
    }

    fn consider(&self, order: &Order, orderer: &Orderer) -> Result<Outcome, Objection> {
        let rules = &self.policy.rules;
        let ground = Ground { table: &self.table, contents: self.zone.contents(), quotas: &rules.quotas };
        carry_out(order, orderer, &ground, rules.leases_of(&order.service))
    }

    fn carry_out(&mut self, order: &Order, outcome: &Outcome, now: Now, waits: &mut bool) -> Result<Done, Failure> {
        if outcome.puts.is_empty() && outcome.removals.is_empty() {
            *waits |= match outcome.renewals.as_slice() {
                [] => self.table.is_dirty(),
                renewals => renewals.iter().any(|index| self.table.edited().contains(index)),
            };
            self.renew(outcome, None, now);
            return Ok(self.done(order, false, now));
        }
        self.apply(outcome, None, now)?;
        *waits = true;
        Ok(self.done(order, true, now))
    }

    /// The report on an order that was carried out.
    fn done(&self, order: &Order, changed: bool, now: Now) -> Done {
        let found = self.table.member(&order.service, order.id.as_str());
        let member = found.map(|(_, member)| member);
        Done {
            epoch: self.zone.snapshot().epoch,
            lease: member.map(|member| member.lease),
            state: member.map(|member| member.state),
            damped_until: member
                .and_then(|member| self.table.damped_until(member))
                .map(|until| now.wall.after(until.since(now.mono))),
            slot: member.and_then(|member| member.decided.slot),
            waits_for_slot: found.is_some_and(|(index, _)| self.table.waits_for_slot(index)),
            changed,
        }
    }
}

/// It can be tried again in a moment.
pub(super) fn busy() -> Failure {
    Failure::Unavailable("other changes of the zone are being made; try again".to_owned())
}
