//! Additions (RFC 2136 §3.4.2.2): what an added record means to the copy.

use std::net::IpAddr;
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use crate::base::limits::MEMBER_ADDRESSES;
use crate::base::{Limit, Name, RecordType, Ttl};
use crate::membership::member::sort_addresses;
use crate::membership::{MemberId, Permit, Registration};
use crate::zone::layout::{is_service_name, slot_number};
use crate::zone::records::{address, srv, text, txt};
use crate::zone::registration::{check_addresses, order};
use crate::zone::{Layout, Rdata};

use super::Refusal;
use super::draft::{HostDraft, LeasedDraft, MemberDraft};
use super::execute::{Executor, who};

impl Executor<'_> {
    pub(super) fn add(&mut self, name: &Name, rtype: RecordType, ttl: u32, rdata: &Rdata) -> Result<(), Refusal> {
        if self.scene.contents.statics(name).iter().any(|rrset| rrset.rtype == rtype && rrset.rdatas.contains(rdata)) {
            return Ok(()); // it is there already, and stays
        }
        if name == self.origin && (rtype == RecordType::SOA || rtype == RecordType::NS) {
            return Err(Refusal::prohibited("SOA and NS of the apex come from the configuration"));
        }
        if rtype == RecordType::SOA {
            return Err(Refusal::invalid("a SOA record belongs to the apex"));
        }
        if is_service_name(name, self.origin) {
            if rtype == RecordType::SRV {
                return self.add_srv(name, rdata);
            }
            if matches!(rtype, RecordType::TXT | RecordType::CNAME)
                || (rtype == RecordType::PTR && self.announces(name))
            {
                return Err(Refusal::invalid(format!("{rtype} at {name} is derived from the service's members")));
            }
        }
        if rtype.is_address() {
            return self.add_address(name, ttl, rtype, rdata);
        }
        if rtype == RecordType::TXT
            && let Some((service, id)) = self.instance(name)
        {
            return self.add_metadata(&service, id, rdata);
        }
        self.add_leased(name, rtype, ttl, rdata)
    }

    fn announces(&self, service: &Name) -> bool {
        self.scene.contents.layout(service).is_some_and(|layout| layout.dns_sd)
    }

    /// Reads a name as the instance name of a service's member.
    pub(super) fn instance(&self, name: &Name) -> Option<(Name, MemberId)> {
        let service = name.parent().filter(|parent| is_service_name(parent, self.origin))?;
        Some((service, MemberId::from_label(name.first_label()).ok()?))
    }

    fn add_srv(&mut self, service: &Name, rdata: &Rdata) -> Result<(), Refusal> {
        let too_long = || Refusal::invalid("the service's name is too long").at(Limit::NameOctets);
        let layout = self.scene.contents.layout(service).ok_or_else(too_long)?;
        let malformed = || Refusal::malformed("the SRV record is malformed");
        let (priority, weight, port, target) = srv::fields(rdata).ok_or_else(malformed)?;
        let target = Name::from_wire(target).map_err(|_| malformed())?;
        if target == Name::root() {
            return Err(Refusal::invalid(
                "an SRV target of \".\" says that there is no service; delete the member instead",
            ));
        }
        let id = member_id(&layout, &target, port)?;
        let permit = self.grant.member(service, id.as_str(), self.origin).ok_or_else(|| {
            Refusal::prohibited(format!(
                "needs an [access] update entry for {} with services covering {service} and ids covering {id}",
                who(self.request)
            ))
        })?;
        self.check_own_names(&layout, service, &id)?;
        self.swept.remove(service);
        let fields = |draft: &mut MemberDraft| {
            draft.registration.target = target.clone();
            (draft.registration.priority, draft.registration.weight, draft.registration.port) =
                (priority, weight, port);
            (draft.has_srv, draft.srv_added) = (true, true);
        };
        if let Some(at) = self.draft.member(service, &id) {
            let draft = &mut self.draft.members[at];
            if let Some((_, before)) = &draft.before
                && !permit.covers(&before.owner)
            {
                return Err(Refusal::prohibited(format!("{id} in {service} belongs to {}", before.owner)));
            }
            fields(draft);
            self.draft.host(target, at);
            return Ok(());
        }
        let addresses = self.addresses_of_siblings(&layout, &id, &target);
        let registration =
            Registration { target: target.clone(), port, priority, weight, addresses, metadata: Box::default() };
        let mut draft = MemberDraft {
            service: service.clone(),
            id,
            before: None,
            registration,
            owner: permit.owner,
            has_srv: false,
            srv_deleted: false,
            srv_added: false,
            addresses_added: false,
            allowed: Some(true),
        };
        fields(&mut draft);
        self.draft.insert(draft);
        Ok(())
    }

    /// The addresses that a new member finds: those of members on the same host that the requester may change.
    fn addresses_of_siblings(&mut self, layout: &Layout, id: &MemberId, target: &Name) -> Box<[IpAddr]> {
        let mut siblings = self.draft.members_at(target);
        if let Some(host) = layout.member_host(id) {
            siblings.extend(self.draft.members_at(&host));
        }
        let sibling = siblings.into_iter().find(|&at| self.may_touch(at));
        sibling.map_or_else(Box::default, |at| self.draft.members[at].registration.addresses.clone())
    }

    fn check_own_names(&mut self, layout: &Layout, service: &Name, id: &MemberId) -> Result<(), Refusal> {
        let draft = &mut self.draft;
        let has_alias = |name: &Name| {
            draft.leased_at(name).iter().any(|record| !record.deleted && record.rtype == RecordType::CNAME)
        };
        Ok(order::check_own_names(self.scene.contents, layout, service, id, has_alias)?)
    }

    fn add_address(&mut self, name: &Name, ttl: u32, rtype: RecordType, rdata: &Rdata) -> Result<(), Refusal> {
        let address = address::address(rtype, rdata).ok_or_else(|| Refusal::malformed("the address is malformed"))?;
        if !self.scene.contents.statics(name).is_empty() && !self.is_leasable(name) {
            return Err(Refusal::prohibited(format!("{name} holds static records")));
        }
        let nobody = self.draft.members_at(name).is_empty();
        if nobody && !self.targets.contains(name) && self.is_leasable(name) && !self.is_below_host(name) {
            return self.add_leased(name, rtype, ttl, rdata);
        }
        let members = self.members_to_address(name)?;
        for &at in &members {
            let draft = &mut self.draft.members[at];
            let mut addresses = draft.registration.addresses.to_vec();
            addresses.push(address);
            draft.registration.addresses = sort_addresses(addresses);
            draft.addresses_added = true;
            check_addresses(&draft.id, &draft.registration.addresses, 2 * MEMBER_ADDRESSES)?;
        }
        // Also a member that comes later in this message, or in a later one, will find them here.
        if members.is_empty() || self.targets.contains(name) {
            if members.is_empty() && !self.targets.contains(name) {
                self.permit_held(name)?;
            }
            let host = self.host_at(name);
            if !host.addresses.contains(&address) {
                host.addresses.push(address);
            }
            host.added = true;
            check_addresses(name, &host.addresses, 2 * MEMBER_ADDRESSES)?;
        }
        Ok(())
    }

    /// The members that addresses sent for a name go to, or why the requester may send none.
    ///
    /// A name belongs to the member whose own host name it is; who merely chose it as a target neither stands in that one's
    /// way nor speaks for it. A name that is a service's address set, or lies below a service's host name, needs the right to
    /// register there. Any other name belongs to whoever gave it addresses first.
    pub(super) fn members_to_address(&mut self, name: &Name) -> Result<Vec<usize>, Refusal> {
        let members = self.draft.members_at(name);
        let (own, others): (Vec<usize>, Vec<usize>) =
            members.into_iter().partition(|&at| self.draft.is_own_host(at, name));
        for &at in &own {
            self.check_member(at)?;
        }
        if own.is_empty() && !self.is_leasable(name) {
            let services = self.scene.contents.services_at_host(name);
            if !services.is_empty()
                && !services.iter().any(|service| self.grant.service(service, self.origin).is_some())
            {
                return Err(Refusal::prohibited(format!(
                    "{name} is the host name of a service that {} may not register",
                    who(self.request)
                )));
            }
            if self.is_below_host(name) {
                self.permit_held(name)?;
            }
        }
        let mut taking = own;
        for at in others {
            if self.may_touch(at) {
                taking.push(at);
            } else if taking.is_empty() && !self.draft.members[at].registration.addresses.is_empty() {
                self.check_member(at)?;
            }
        }
        Ok(taking)
    }

    /// Addresses that wait for a member at a name; those held from before only if the requester may take them.
    pub(super) fn host_at(&mut self, name: &Name) -> &mut HostDraft {
        let permit = self.scene.table.held(name).and_then(|_| self.permit_held(name).ok());
        self.draft.host_at(name, |owner| permit.is_some_and(|permit| permit.covers(owner)))
    }

    pub(super) fn is_leasable(&self, name: &Name) -> bool {
        self.grant.record(name, self.origin).is_some()
    }

    fn is_below_host(&self, name: &Name) -> bool {
        name.parent().is_some_and(|host| !self.scene.contents.services_at_host(&host).is_empty())
    }

    /// The service of whose slots one has this name.
    fn slotted_at(&self, name: &Name) -> Option<&Name> {
        slot_number(name.first_label())?;
        let services = self.scene.contents.services_at_host(&name.parent()?);
        services.iter().find(|service| self.scene.contents.has_slots(service))
    }

    /// Whether a member of some service could have this host name and be registered by the requester.
    pub(super) fn permit_held(&self, name: &Name) -> Result<Permit, Refusal> {
        let known = name.parent().map_or(&[][..], |host| self.scene.contents.services_at_host(&host));
        let permit = MemberId::from_label(name.first_label()).ok().and_then(|id| {
            let permit_of = |service: &Name| self.grant.member(service, id.as_str(), self.origin);
            known.iter().find_map(permit_of).or_else(|| self.possible_services(name).iter().find_map(permit_of))
        });
        permit.ok_or_else(|| {
            Refusal::prohibited(format!(
                "{name} is no host of a member that {} may register; other records need an [access] update entry whose records cover {name}",
                who(self.request)
            ))
        })
    }

    /// The services over TCP and UDP that would have their members' names where this one is.
    fn possible_services(&self, name: &Name) -> Vec<Name> {
        let host = name.parent().filter(|host| host.is_within(self.origin) && host != self.origin);
        let service = |host: &Name, transport: &[u8]| {
            let label = [b"_", host.first_label()].concat();
            host.parent()?.child(transport).ok()?.child(&label).ok()
        };
        host.map_or(Vec::new(), |host| {
            [b"_tcp", b"_udp"].iter().filter_map(|transport| service(&host, *transport)).collect()
        })
    }

    /// Whether the requester may change a member; looked up once a message.
    pub(super) fn may_touch(&mut self, at: usize) -> bool {
        if let Some(allowed) = self.draft.members[at].allowed {
            return allowed;
        }
        let draft = &self.draft.members[at];
        let permit = self.grant.member(&draft.service, draft.id.as_str(), self.origin);
        let before = draft.before.as_ref().map(|(_, before)| &before.owner);
        let allowed = permit.is_some_and(|permit| before.is_none_or(|owner| permit.covers(owner)));
        self.draft.members[at].allowed = Some(allowed);
        allowed
    }

    /// The requester's right to change a member, with the reason where there is none.
    pub(super) fn check_member(&mut self, at: usize) -> Result<(), Refusal> {
        if self.may_touch(at) {
            return Ok(());
        }
        let draft = &self.draft.members[at];
        let permit = self.grant.member(&draft.service, draft.id.as_str(), self.origin);
        Err(Refusal::prohibited(match (permit, &draft.before) {
            (Some(_), Some((_, before))) => format!("{} in {} belongs to {}", draft.id, draft.service, before.owner),
            _ => format!(
                "needs an [access] update entry for {} with services covering {} and ids covering {}",
                who(self.request),
                draft.service,
                draft.id
            ),
        }))
    }

    fn add_metadata(&mut self, service: &Name, id: MemberId, rdata: &Rdata) -> Result<(), Refusal> {
        order::check_metadata(&id, rdata.len(), txt::strings_in(rdata).count())?;
        self.draft.metadata.push((service.clone(), id, rdata.clone()));
        Ok(())
    }

    fn add_leased(&mut self, name: &Name, rtype: RecordType, ttl: u32, rdata: &Rdata) -> Result<(), Refusal> {
        let permit = self.grant.record(name, self.origin).ok_or_else(|| {
            Refusal::prohibited(format!(
                "needs an [access] update entry for {} whose records cover {name}",
                who(self.request)
            ))
        })?;
        if matches!(rtype, RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3 | RecordType::NSEC3PARAM) {
            return Err(Refusal::invalid(format!(
                "{rtype} records come from whoever signs a zone, and never by update"
            )));
        }
        // A secondary would refuse the whole zone for them.
        if !text::is_sound(rtype, rdata) {
            return Err(Refusal::malformed(&format!("the octets at {name} are not valid {rtype} data")));
        }
        if let Some(service) = self.slotted_at(name) {
            return Err(Refusal::prohibited(format!("{name} is the name of a slot of {service}")));
        }
        let ttl = Ttl(ttl.min(self.scene.contents.settings().ttl.0));
        let fixed = match self.fixed.get(name) {
            Some(fixed) => fixed.clone(),
            None => {
                // What stands at the name besides leased records: static and derived ones.
                let node = self.scene.contents.node(name);
                let leased = self.draft.leased_at(name);
                let types = node.rrsets().map(|rrset| rrset.rtype);
                let fixed: Rc<[RecordType]> =
                    types.filter(|&rtype| !leased.iter().any(|record| record.rtype == rtype)).collect();
                self.fixed.insert(name.clone(), fixed.clone());
                fixed
            }
        };
        let leased = self.draft.leased_at(name);
        let mine = |rtype| leased.iter().any(|record| !record.deleted && record.rtype == rtype);
        let others = |rtype: RecordType| {
            fixed.iter().any(|&other| other != rtype)
                || leased.iter().any(|record| !record.deleted && record.rtype != rtype)
        };
        // RFC 2136 §3.4.2.2: additions that an alias stands against are ignored silently.
        if (rtype == RecordType::CNAME && others(RecordType::CNAME))
            || (rtype != RecordType::CNAME && (mine(RecordType::CNAME) || fixed.contains(&RecordType::CNAME)))
        {
            return Ok(());
        }
        if fixed.contains(&rtype) {
            return Err(Refusal::prohibited(format!("{rtype} at {name} is not a leased record")));
        }
        if let Some(at) = leased.iter().position(|record| record.rtype == rtype && record.rdata == *rdata) {
            if !permit.covers(&leased[at].owner) {
                return Err(Refusal::prohibited(format!("{rtype} at {name} belongs to {}", leased[at].owner)));
            }
            (leased[at].deleted, leased[at].added) = (false, true);
        } else {
            if matches!(rtype, RecordType::CNAME | RecordType::DNAME) {
                // An alias takes the place of the former one. So does a DNAME: a name has one at most (RFC 6672 §2.4).
                for record in leased.iter_mut().filter(|record| record.rtype == rtype) {
                    if !permit.covers(&record.owner) {
                        return Err(Refusal::prohibited(format!("{rtype} at {name} belongs to {}", record.owner)));
                    }
                    record.deleted = true;
                }
            }
            let record = LeasedDraft {
                before: None,
                name: name.clone(),
                rtype,
                ttl,
                rdata: rdata.clone(),
                owner: permit.owner,
                deleted: false,
                added: true,
            };
            leased.push(record);
        }
        // One TTL for the set: that of the latest addition.
        for record in leased.iter_mut().filter(|record| record.rtype == rtype) {
            record.ttl = ttl;
        }
        Ok(())
    }
}

/// The id that an SRV record registers: the first label of a target directly below the service's host name; of any other
/// target its first label and a hash of target and port.
pub(super) fn member_id(layout: &Layout, target: &Name, port: u16) -> Result<MemberId, Refusal> {
    if target.parent().as_ref() == Some(&layout.host) {
        return MemberId::from_label(target.first_label())
            .map_err(|error| Refusal::invalid(format!("{target}: {error}")));
    }
    let hash = Sha256::digest(format!("{target}:{port}"));
    let label: String = target
        .first_label()
        .iter()
        .take(DERIVED_LABEL)
        .map(|&octet| if octet.is_ascii_alphanumeric() { char::from(octet) } else { '-' })
        .collect();
    let label = match label.trim_start_matches('-') {
        "" => "x",
        label => label,
    };
    let id = format!("{label}-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]);
    MemberId::new(&id).map_err(|error| Refusal::invalid(format!("{target}: {error}")))
}

/// How much of the target's first label a derived id keeps.
const DERIVED_LABEL: usize = 40;
