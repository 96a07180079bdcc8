//! Deletions (RFC 2136 §3.4.2.3 and §3.4.2.4): of a record, of an RRset, of a name.

use std::net::IpAddr;

use crate::base::{Name, RecordType};
use crate::membership::MemberId;
use crate::zone::Rdata;
use crate::zone::layout::is_service_name;
use crate::zone::records::{address, srv, txt};

use super::Refusal;
use super::execute::{Executor, who};

impl Executor<'_> {
    /// Deletes a record (`rtype` and `rdata`), an RRset (`rtype`), or all of a name.
    pub(super) fn delete(
        &mut self,
        name: &Name,
        rtype: Option<RecordType>,
        rdata: Option<&Rdata>,
    ) -> Result<(), Refusal> {
        let covers = |candidate: RecordType| rtype.is_none_or(|rtype| rtype == candidate);
        // RFC 2136 §3.4.2.3 and §3.4.2.4: SOA and NS of the apex stay; saying so is no error.
        if name == self.origin && rtype.is_some_and(|rtype| rtype == RecordType::SOA || rtype == RecordType::NS) {
            return Ok(());
        }
        if let (Some(rtype), Some(rdata)) = (rtype, rdata)
            && self
                .scene
                .contents
                .statics(name)
                .iter()
                .any(|rrset| rrset.rtype == rtype && rrset.rdatas.contains(rdata))
        {
            return Err(Refusal::prohibited(format!("{rtype} at {name} is a static record")));
        }
        let mut permitted = self.is_leasable(name);
        if is_service_name(name, self.origin) {
            permitted |= self.grant.service(name, self.origin).is_some();
            if covers(RecordType::SRV) {
                self.delete_srv(name, rdata)?;
            }
        }
        if covers(RecordType::A) || covers(RecordType::AAAA) {
            permitted |= self.delete_addresses(name, rtype, rdata)?;
        }
        if let Some((service, id)) = self.instance(name).filter(|_| covers(RecordType::TXT)) {
            permitted |= self.grant.member(&service, id.as_str(), self.origin).is_some();
            self.delete_metadata(&service, &id, rdata)?;
        }
        self.delete_leased(name, rtype, rdata)?;
        if permitted {
            return Ok(());
        }
        Err(Refusal::prohibited(format!("no [access] update entry lets {} delete at {name}", who(self.request))))
    }

    fn delete_srv(&mut self, service: &Name, rdata: Option<&Rdata>) -> Result<(), Refusal> {
        let candidates = match rdata {
            None if !self.swept.insert(service.clone()) => return Ok(()),
            None => self.draft.members_of(service),
            Some(rdata) => {
                let Some((_, _, port, target)) = srv::fields(rdata) else { return Ok(()) };
                Name::from_wire(target).map_or(Vec::new(), |target| self.draft.members_with(service, &target, port))
            }
        };
        for at in candidates {
            let draft = &self.draft.members[at];
            if !draft.has_srv || rdata.is_some_and(|rdata| srv::rdata(&draft.registration) != *rdata) {
                continue;
            }
            // Naming another's record exactly is refused; a sweep passes it by.
            if rdata.is_some() {
                self.check_member(at)?;
            }
            if self.may_touch(at) {
                let draft = &mut self.draft.members[at];
                (draft.has_srv, draft.srv_deleted, draft.srv_added) = (false, true, false);
            }
        }
        Ok(())
    }

    /// Returns whether the requester may touch addresses there at all.
    fn delete_addresses(
        &mut self,
        name: &Name,
        rtype: Option<RecordType>,
        rdata: Option<&Rdata>,
    ) -> Result<bool, Refusal> {
        let doomed = |candidate: &IpAddr| {
            let (candidate_type, candidate_rdata) = address::rdata(candidate);
            rtype.is_none_or(|rtype| rtype == candidate_type) && rdata.is_none_or(|rdata| candidate_rdata == *rdata)
        };
        let members = self.draft.members_at(name);
        let mut permitted = self.targets.contains(name) || self.permit_held(name).is_ok();
        for at in members {
            let has_some = self.draft.members[at].registration.addresses.iter().any(doomed);
            if rdata.is_some() && has_some && self.draft.is_own_host(at, name) {
                self.check_member(at)?;
            }
            if self.may_touch(at) {
                permitted = true;
                let addresses = &mut self.draft.members[at].registration.addresses;
                *addresses = addresses.iter().filter(|address| !doomed(address)).copied().collect();
            }
        }
        let held = self.scene.table.held(name).map(|(_, held)| held.owner.clone());
        let own = held.is_none_or(|owner| self.permit_held(name).is_ok_and(|permit| permit.covers(&owner)));
        if own && (self.draft.hosts.contains_key(name) || self.scene.table.held(name).is_some()) {
            self.host_at(name).addresses.retain(|address| !doomed(address));
        }
        Ok(permitted)
    }

    fn delete_metadata(&mut self, service: &Name, id: &MemberId, rdata: Option<&Rdata>) -> Result<(), Refusal> {
        self.draft.metadata.retain(|(other, other_id, sent)| {
            other != service || other_id != id || rdata.is_some_and(|rdata| rdata != sent)
        });
        let Some(at) = self.draft.member(service, id) else { return Ok(()) };
        let current = txt::metadata_rdata(&self.draft.members[at].registration.metadata);
        if rdata.is_some_and(|rdata| *rdata != current) {
            return Ok(());
        }
        match (self.check_member(at), rdata) {
            (Err(refusal), Some(_)) => Err(refusal),
            (Err(_), None) => Ok(()),
            (Ok(()), _) => {
                self.draft.members[at].registration.metadata = Box::default();
                Ok(())
            }
        }
    }

    fn delete_leased(&mut self, name: &Name, rtype: Option<RecordType>, rdata: Option<&Rdata>) -> Result<(), Refusal> {
        let permit = self.grant.record(name, self.origin);
        let request = self.request;
        for record in self.draft.leased_at(name) {
            let hit = !record.deleted
                && rtype.is_none_or(|rtype| rtype == record.rtype)
                && rdata.is_none_or(|rdata| *rdata == record.rdata);
            if !hit {
                continue;
            }
            let covered = permit.as_ref().is_some_and(|permit| permit.covers(&record.owner));
            match (covered, rdata) {
                (true, _) => (record.deleted, record.added) = (true, false),
                (false, Some(_)) => {
                    return Err(Refusal::prohibited(format!(
                        "{} at {name} belongs to {}, not to {}",
                        record.rtype,
                        record.owner,
                        who(request)
                    )));
                }
                (false, None) => {}
            }
        }
        Ok(())
    }
}
