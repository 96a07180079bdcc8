//! The end of a message: the copy is compared with what was there.

use crate::base::limits::MEMBER_ADDRESSES;
use crate::base::{Lease, RecordType};
use crate::membership::member::sort_addresses;
use crate::membership::{Freshness, HeldAddresses, Item, Key, LeaseLimits, LeasedRecord, State};
use crate::zone::Cause;
use crate::zone::records::txt;
use crate::zone::registration::{self, Outcome, Put, check_addresses};

use super::Refusal;
use super::draft::member_item;
use super::execute::{Execution, Executor};
use super::request::granted;

impl Executor<'_> {
    pub(super) fn finish(mut self) -> Result<Execution, Refusal> {
        self.settle_metadata()?;
        self.settle_hosts();
        let rules = self.scene.rules;
        let asked = self.request.lease.map(|(lease, _)| lease);
        let lease = rules.leases().grant(asked);
        let mut outcome = Outcome::default();
        // One lease is told for all: the shortest.
        let mut limits: Option<&LeaseLimits> = None;
        for at in 0..self.draft.members.len() {
            self.complete_address(at);
            let of_service = rules.leases_of(&self.draft.members[at].service);
            if limits.is_none_or(|limits| of_service.grant(asked) < limits.grant(asked)) {
                limits = Some(of_service);
            }
            self.conclude_member(at, of_service.grant(asked), &mut outcome)?;
        }
        let limits = limits.unwrap_or(rules.leases());
        outcome.granted = granted(self.request.lease, |asked| if asked == 0 { 0 } else { limits.grant(Some(asked)).0 });
        self.conclude_hosts(lease, &mut outcome)?;
        self.conclude_leased(&mut outcome);
        let execution = self.check_replay(outcome);
        // What was accepted before has the same outcome, whatever the limits are by now.
        if let Execution::Apply(outcome) = &execution {
            registration::check(&self.scene.ground(), outcome)?;
        }
        Ok(execution)
    }

    fn settle_metadata(&mut self) -> Result<(), Refusal> {
        for (service, id, rdata) in std::mem::take(&mut self.draft.metadata) {
            let Some(at) = self.draft.member(&service, &id).filter(|&at| self.draft.members[at].exists()) else {
                return Err(Refusal::invalid(format!("no member {id} in {service}; register its SRV record first")));
            };
            self.check_member(at)?;
            self.draft.members[at].registration.metadata = txt::metadata(&rdata);
        }
        Ok(())
    }

    /// Gives addresses that were sent for a name to the members that have it.
    fn settle_hosts(&mut self) {
        // Members new in this message take what an earlier one left for them.
        for at in 0..self.draft.members.len() {
            let draft = &self.draft.members[at];
            if draft.before.is_none() && draft.has_srv {
                let host = self.scene.contents.layout(&draft.service).and_then(|layout| layout.member_host(&draft.id));
                for name in host.into_iter().chain([draft.registration.target.clone()]) {
                    if self.scene.table.held(&name).is_some() {
                        self.host_at(&name);
                    }
                }
            }
        }
        for name in self.draft.host_order.clone() {
            let members: Vec<usize> =
                self.draft.members_at(&name).into_iter().filter(|&at| self.draft.members[at].has_srv).collect();
            if members.is_empty() {
                continue;
            }
            let host = self.host_at(&name);
            let (sent, added) = (std::mem::take(&mut host.addresses), std::mem::take(&mut host.added));
            for at in members {
                if !self.may_touch(at) {
                    continue;
                }
                let draft = &mut self.draft.members[at];
                let mut addresses = draft.registration.addresses.to_vec();
                addresses.extend(&sent);
                draft.registration.addresses = sort_addresses(addresses);
                draft.addresses_added |= added;
            }
        }
    }

    /// With `peer-address`, a member whose target is in the zone and has no address gets its sender's: where its sender could
    /// have sent that address itself, and never that of a secondary or one of the zone's name servers, which forwards for
    /// others.
    fn complete_address(&mut self, at: usize) {
        let draft = &self.draft.members[at];
        let target = draft.registration.target.clone();
        let wanting = draft.has_srv && draft.srv_added && draft.registration.addresses.is_empty();
        if !self.scene.rules.peer_address || !wanting || !target.is_within(self.origin) {
            return;
        }
        let peer = self.request.peer.ip().to_canonical();
        let contents = self.scene.contents;
        // A name server at a loopback address is this machine, whose own programs register for themselves.
        let is_other = self.scene.rules.forwarders.contains(&peer) || contents.name_server_addresses().contains(&peer);
        let forwards = !peer.is_loopback() && is_other;
        let aliased = self.draft.leased_at(&target).iter().any(|record| record.rtype == RecordType::CNAME);
        let addressed =
            [RecordType::A, RecordType::AAAA].iter().any(|&rtype| contents.node(&target).rrset(rtype).is_some());
        if aliased || addressed || !contents.statics(&target).is_empty() || forwards {
            return;
        }
        if self.members_to_address(&target).is_ok_and(|members| members.contains(&at)) {
            self.draft.members[at].registration.addresses = [peer].into();
        }
    }

    fn conclude_member(&mut self, at: usize, lease: Lease, outcome: &mut Outcome) -> Result<(), Refusal> {
        let by = self.grant.by().clone();
        let draft = &self.draft.members[at];
        let before_state = draft.before.as_ref().map(|(_, before)| before.state);
        // An update that deletes a member's SRV and renews its addresses drains it.
        let drains = draft.srv_deleted && !draft.has_srv && draft.addresses_added && before_state.is_some();
        let touched = draft.srv_added || draft.srv_deleted || draft.addresses_added;
        let remains = (draft.has_srv || drains) && !(self.withdraws && touched);
        let Some((index, before)) = &draft.before else {
            if remains {
                check_addresses(&draft.id, &draft.registration.addresses, MEMBER_ADDRESSES)?;
                let item = member_item(draft, lease, State::Up);
                outcome.puts.push(Put::of(item, Cause::Registered(by), true));
            }
            return Ok(());
        };
        let index = *index;
        if !remains {
            outcome.removals.push((index, Cause::Removed(by)));
            return Ok(());
        }
        let state = match before.state {
            State::Drained => State::Drained,
            _ if drains => State::Draining,
            State::Draining if !draft.srv_added => State::Draining,
            State::Damped => State::Damped,
            State::Draining | State::Up | State::Suspect | State::Held => State::Up,
        };
        let before = before.clone();
        check_addresses(&draft.id, &draft.registration.addresses, MEMBER_ADDRESSES)?;
        // A suspect or held member that is heard of is up again by the heartbeat itself.
        let silent = matches!(before.state, State::Suspect | State::Held);
        let same_state = state == before.state || (state == State::Up && silent);
        let unchanged = draft.registration == *before.registration && same_state;
        if unchanged && !touched {
            return Ok(()); // copied in for a look
        }
        if unchanged && before.lease == lease {
            outcome.renewals.push(index);
            return Ok(());
        }
        let cause = if drains && !before.state.is_draining() { Cause::Drained(by) } else { Cause::Changed(by) };
        outcome.puts.push(Put::of(member_item(draft, lease, state), cause, true));
        Ok(())
    }

    /// Addresses that found no member wait for one.
    fn conclude_hosts(&mut self, lease: Lease, outcome: &mut Outcome) -> Result<(), Refusal> {
        for name in std::mem::take(&mut self.draft.host_order) {
            let host = self.draft.hosts.remove(&name).expect("listed in the order");
            let held = self.scene.table.held(&name).map(|(index, held)| (index, held.clone()));
            let cause = Cause::Changed(self.grant.by().clone());
            if host.addresses.is_empty() || (self.withdraws && host.added) {
                // What another left there is not the requester's to take away; it lapses.
                let held =
                    held.filter(|(_, held)| self.permit_held(&name).is_ok_and(|permit| permit.covers(&held.owner)));
                outcome.removals.extend(held.map(|(index, _)| (index, cause)));
                continue;
            }
            if !host.added {
                continue;
            }
            let permit = self.permit_held(&name)?;
            let addresses = sort_addresses(host.addresses);
            check_addresses(&name, &addresses, MEMBER_ADDRESSES)?;
            match held {
                Some((_, held)) if !permit.covers(&held.owner) => {
                    return Err(Refusal::prohibited(format!("addresses of {name} belong to {}", held.owner)));
                }
                Some((index, held)) if held.addresses == addresses && held.lease == lease => {
                    outcome.renewals.push(index);
                }
                _ => {
                    let item = Item::Held(HeldAddresses { host: name, addresses, owner: permit.owner, lease });
                    outcome.puts.push(Put::of(item, cause, true));
                }
            }
        }
        Ok(())
    }

    fn conclude_leased(&mut self, outcome: &mut Outcome) {
        let by = self.grant.by().clone();
        let leases = self.scene.rules.leases();
        let (lease, key_lease) = match self.request.lease {
            Some((lease, key_lease)) => (leases.grant(Some(lease)), leases.grant(Some(key_lease.unwrap_or(lease)))),
            None => (leases.records, leases.records),
        };
        for name in std::mem::take(&mut self.draft.leased_order) {
            for draft in self.draft.leased.remove(&name).expect("listed in the order") {
                // KEY-LEASE governs KEY records (RFC 9664 §4).
                let lease = if draft.rtype == RecordType::KEY { key_lease } else { lease };
                let deleted = draft.deleted || (self.withdraws && draft.added);
                let lease = match &draft.before {
                    // Records that the message didn't add keep their lease; the TTL of the set may have changed.
                    Some((_, before)) if !draft.added => before.lease,
                    _ => lease,
                };
                let record = LeasedRecord {
                    name: draft.name,
                    rtype: draft.rtype,
                    ttl: draft.ttl,
                    rdata: draft.rdata,
                    owner: draft.owner,
                    lease,
                };
                match draft.before {
                    Some((index, _)) if deleted => outcome.removals.push((index, Cause::Removed(by.clone()))),
                    None if deleted => {}
                    Some((_, before)) if before == record && !draft.added => {}
                    Some((index, before)) if before == record => outcome.renewals.push(index),
                    before => {
                        let by = by.clone();
                        let cause = if before.is_some() { Cause::Changed(by) } else { Cause::Registered(by) };
                        outcome.puts.push(Put::of(Item::Leased(record), cause, draft.added));
                    }
                }
            }
        }
    }

    /// Replays: by the last accepted signature of everything that the message would touch.
    fn check_replay(&self, outcome: Outcome) -> Execution {
        let Some(stamp) = self.request.stamp else { return Execution::Apply(outcome) };
        let table = self.scene.table;
        let places = outcome.removals.iter().map(|(index, _)| *index).chain(outcome.renewals.iter().copied());
        let keys: Vec<Key> = places
            .filter_map(|index| table.item(index).map(Item::key))
            .chain(outcome.puts.iter().filter(|put| put.heard).map(|put| put.item.key()))
            .collect();
        let freshness = |key: &Key| table.stamp(key, self.scene.now.wall).freshness(Some(stamp));
        let found: Vec<Freshness> = keys.iter().map(freshness).collect();
        if found.contains(&Freshness::Older) {
            Execution::Older
        } else if !found.is_empty() && found.iter().all(|freshness| *freshness == Freshness::Repeat) {
            Execution::Repeat(outcome)
        } else {
            Execution::Apply(outcome)
        }
    }
}
