//! Whether what is to be published fits an answer: an RRset is sent whole or not at all (RFC 2181 §9), so one that would
//! not fit is never made.
//!
//! [`Contents::octets`] bounds an RRset from above by what its sources have, [`Growth`] says what changes would add. The
//! bound counts what is not published at the moment but could be without anybody's doing: the mark of a service whose
//! addresses go. So no lapse and no removal makes a set that doesn't fit. Equal addresses count each in it; only where it
//! would refuse are they looked at one by one, and then count once, since services may share their hosts.
//!
//! The addresses of members that chose a name as their target stand there or not, depending on whose name it is
//! meanwhile. They have a room of their own, [`TARGET_OCTETS`], which the other addresses at a name leave free; of those,
//! too, equal ones count once.
//!
//! Cost: a few look-ups for each set that grows. A walk over all members in an address set whose bound is reached, and over
//! the members that share a target.

use std::fmt;
use std::net::IpAddr;

use crate::base::limits::{HOST_SERVICES, RECORD_OCTETS, RRSET_OCTETS, TARGET_MEMBERS, TARGET_OCTETS};
use crate::base::{Name, NameMap, NameSet, RecordType, SeededMap, SeededSet};
use crate::membership::MemberId;

use super::change::{PublishedMember, Standing};
use super::contents::{Contents, own_host, own_target};
use super::layout::{Layout, instance_name};
use super::members::{AddressOctets, Octets};
use super::records::{address, txt};
use super::rrset::Rdata;

/// What would not fit. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Overfull {
    /// An RRset.
    Rrset {
        /// Its owner.
        name: Name,
        /// Its type.
        rtype: RecordType,
    },
    /// The addresses of members that share a target.
    Target {
        /// The target.
        name: Name,
    },
    /// The members that share a target.
    Sharers {
        /// The target.
        name: Name,
    },
    /// A host name with too many services.
    Host {
        /// The host name.
        name: Name,
    },
}

impl Overfull {
    /// Where.
    pub fn name(&self) -> &Name {
        match self {
            Overfull::Rrset { name, .. }
            | Overfull::Target { name }
            | Overfull::Sharers { name }
            | Overfull::Host { name } => name,
        }
    }
}

impl fmt::Display for Overfull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overfull::Rrset { name, rtype } => write!(
                f,
                "more than {} octets of {rtype} would not fit 64 KiB beside all else: split the service into subdomains, \
                 or remove records, at {name}",
                room(*rtype)
            ),
            Overfull::Target { name } => write!(
                f,
                "members with the target {name} would have more than {TARGET_OCTETS} octets of addresses in all: give \
                 them targets of their own"
            ),
            Overfull::Sharers { name } => {
                write!(f, "{TARGET_MEMBERS} members may share a target, and {name} would have more: use several names")
            }
            Overfull::Host { name } => {
                write!(f, "{HOST_SERVICES} services may share a host name, and {name} would have more: use subdomains")
            }
        }
    }
}

/// How large an RRset may become, by [`Contents::octets`].
pub fn room(rtype: RecordType) -> usize {
    if rtype.is_address() { RRSET_OCTETS - TARGET_OCTETS } else { RRSET_OCTETS }
}

/// What these data take in an answer.
fn octets_of(rdatas: &[Rdata]) -> usize {
    rdatas.iter().map(|rdata| RECORD_OCTETS + rdata.len()).sum()
}

impl Contents {
    /// At most so many octets does an RRset take in an answer, whatever lapses or is removed; the addresses of members
    /// that chose the name as their target left out.
    pub(super) fn octets(&self, name: &Name, rtype: RecordType) -> usize {
        let fixed = self.statics(name).iter().chain(self.leased(name));
        let fixed: usize = fixed.filter(|rrset| rrset.rtype == rtype).map(|rrset| octets_of(&rrset.rdatas)).sum();
        let apex = usize::from(rtype == RecordType::NS && *name == self.settings().origin);
        fixed
            + apex * (RECORD_OCTETS + self.settings().primary.as_wire().len())
            + self.octets_of_service(name, rtype)
            + self.octets_of_host(name, rtype)
            + octets_of(&self.dns_sd_rdatas(name, rtype))
    }

    /// The records at a service's owner.
    fn octets_of_service(&self, name: &Name, rtype: RecordType) -> usize {
        let Some(service) = self.services.get(name) else { return 0 };
        match rtype {
            RecordType::SRV => service.members.octets().srv,
            RecordType::PTR if service.layout.dns_sd => service.members.octets().ptr,
            RecordType::TXT => RECORD_OCTETS + txt::SERVICE_OCTETS,
            _ => 0,
        }
    }

    /// The address sets and marks of services at their host name, and the addresses of members at theirs.
    fn octets_of_host(&self, name: &Name, rtype: RecordType) -> usize {
        let publishing = self.services_at_host(name).iter().filter(|service| {
            let layout = &self.services[*service].layout;
            layout.address_set.as_ref() == Some(name)
        });
        match rtype {
            RecordType::TXT => publishing.map(|service| self.mark_octets(service)).sum(),
            rtype if rtype.is_address() => {
                let sets: usize = match self.statics(name) {
                    [] => publishing.map(|service| self.services[service].members.octets().addresses.at(rtype)).sum(),
                    // The set gives way to static records.
                    _ => 0,
                };
                let (services, id) = self.member_host_parts(name).unwrap_or((&[], ""));
                let members = services.iter().filter_map(|service| self.services[service].members.get(id));
                sets + members.map(|member| AddressOctets::of(&member.registration).at(rtype)).sum::<usize>()
            }
            _ => 0,
        }
    }

    /// The addresses of those members that chose a name as their target, whether or not they are published there.
    fn addresses_with_target<'a>(
        &'a self,
        name: &Name,
        keep: impl Fn(&(Name, MemberId)) -> bool + 'a,
    ) -> impl Iterator<Item = IpAddr> + 'a {
        let members = self.members_with_target(name).iter().filter(move |member| keep(member));
        let members = members.filter_map(|(service, id)| self.member(service, id));
        members.flat_map(|member| member.registration.addresses.iter().copied())
    }

    fn mark_octets(&self, service: &Name) -> usize {
        RECORD_OCTETS + txt::host_rdata(service, &self.settings().origin).len()
    }

    /// A set among these names that is too large, and larger than what `published` says of it.
    pub(super) fn find_overfull(
        &self,
        names: &NameSet,
        published: impl Fn(&Name, RecordType) -> usize,
    ) -> Option<Overfull> {
        const DERIVED: [RecordType; 5] =
            [RecordType::SRV, RecordType::PTR, RecordType::TXT, RecordType::A, RecordType::AAAA];
        for name in names.iter().filter(|name| self.may_be_large(name)) {
            if self.services_at_host(name).len() > HOST_SERVICES {
                return Some(Overfull::Host { name: name.clone() });
            }
            if distinct_octets(self.addresses_with_target(name, |_| true)) > TARGET_OCTETS {
                return Some(Overfull::Target { name: name.clone() });
            }
            let fixed = self.statics(name).iter().chain(self.leased(name)).map(|rrset| rrset.rtype);
            for rtype in DERIVED.into_iter().chain(fixed) {
                let is_over = |octets: usize| octets > room(rtype) && octets > published(name, rtype);
                if is_over(self.octets(name, rtype))
                    && (!rtype.is_address() || is_over(distinct_octets(Growth::new(self).addresses(name, rtype))))
                {
                    return Some(Overfull::Rrset { name: name.clone(), rtype });
                }
            }
        }
        None
    }

    /// Whether more than the few records of one member may stand at a name.
    fn may_be_large(&self, name: &Name) -> bool {
        self.services.contains_key(name)
            || self.hosts.contains_key(name)
            || self.statics.contains_key(name)
            || self.leased.contains_key(name)
            || self.members_with_target(name).len() > 1
            || !self.dns_sd_rdatas(name, RecordType::PTR).is_empty()
    }
}

/// What changes of members and leased records would add to RRsets. Each member and each record is told once.
#[derive(Debug)]
pub struct Growth<'c> {
    contents: &'c Contents,
    sets: SeededMap<(Name, RecordType), Change>,
    /// Services that become known.
    learned: NameMap<Layout>,
    /// What is published of members from then on, by service.
    members: NameMap<SeededMap<MemberId, Option<PublishedMember>>>,
    /// Leased addresses that come (true) or go.
    leased: SeededMap<(Name, IpAddr), bool>,
    /// By the targets that members choose: how many they are, and their addresses from then on.
    targets: NameMap<(usize, Vec<IpAddr>)>,
}

/// Octets that a set wins and loses.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    won: usize,
    lost: usize,
}

impl<'c> Growth<'c> {
    /// None yet.
    pub fn new(contents: &'c Contents) -> Growth<'c> {
        Growth {
            contents,
            sets: SeededMap::default(),
            learned: NameMap::default(),
            members: NameMap::default(),
            leased: SeededMap::default(),
            targets: NameMap::default(),
        }
    }

    /// A member comes, changes, or goes (`None`).
    pub fn member(&mut self, service: &Name, id: &MemberId, after: Option<PublishedMember>) {
        let before = self.contents.member(service, id);
        if before == after.as_ref() {
            return;
        }
        // The name of no service has no layout, and nothing is published of its members.
        let Some(layout) = self.contents.layout(service) else { return };
        if after.is_some() && !self.contents.knows_service(service) && !self.learned.contains_key(service) {
            self.learn(service, &layout);
        }
        if let Some(before) = before {
            self.weigh(&layout, service, id, before, false);
        }
        if let Some(after) = &after {
            self.weigh(&layout, service, id, after, true);
            if let Some(target) = own_target(&self.contents.settings.origin, id, &layout, after) {
                let (members, addresses) = self.targets.entry(target).or_default();
                *members += 1;
                addresses.extend(&after.registration.addresses);
            }
        }
        self.members.entry(service.clone()).or_default().insert(id.clone(), after);
    }

    /// Whether a member is told of.
    fn changes(&self, service: &Name, id: &MemberId) -> bool {
        self.members.get(service).is_some_and(|members| members.contains_key(id))
    }

    /// A leased record comes, or goes.
    pub fn leased(&mut self, name: &Name, rtype: RecordType, rdata: &Rdata, comes: bool) {
        self.count(name.clone(), rtype, RECORD_OCTETS + rdata.len(), comes);
        if let Some(address) = address::address(rtype, rdata) {
            self.leased.insert((name.clone(), address), comes);
        }
    }

    fn learn(&mut self, service: &Name, layout: &Layout) {
        self.count(service.clone(), RecordType::TXT, RECORD_OCTETS + txt::SERVICE_OCTETS, true);
        if let Some(set) = &layout.address_set {
            self.count(set.clone(), RecordType::TXT, self.contents.mark_octets(service), true);
        }
        self.learned.insert(service.clone(), layout.clone());
    }

    /// Counts what a member makes as won or as lost.
    fn weigh(&mut self, layout: &Layout, service: &Name, id: &MemberId, member: &PublishedMember, won: bool) {
        let octets = Octets::of(layout, service, id, member);
        self.count(service.clone(), RecordType::SRV, octets.srv, won);
        if layout.dns_sd {
            self.count(service.clone(), RecordType::PTR, octets.ptr, won);
            if let Some(instance) = instance_name(service, id).filter(|_| member.is_in_service()) {
                let metadata = txt::metadata_rdata(&member.registration.metadata);
                self.count(instance.clone(), RecordType::SRV, octets.srv, won);
                self.count(instance, RecordType::TXT, RECORD_OCTETS + metadata.len(), won);
            }
        }
        if let Some(set) = layout.address_set.as_ref().filter(|set| self.contents.statics(set).is_empty()) {
            self.count(set.clone(), RecordType::A, octets.addresses.a, won);
            self.count(set.clone(), RecordType::AAAA, octets.addresses.aaaa, won);
        }
        if let Some(host) = own_host(layout, id, member).or_else(|| layout.member_host(id)) {
            let AddressOctets { a, aaaa } = AddressOctets::of(&member.registration);
            self.count(host.clone(), RecordType::A, a, won);
            self.count(host, RecordType::AAAA, aaaa, won);
        }
    }

    fn count(&mut self, name: Name, rtype: RecordType, octets: usize, won: bool) {
        if octets > 0 {
            let change = self.sets.entry((name, rtype)).or_default();
            *(if won { &mut change.won } else { &mut change.lost }) += octets;
        }
    }

    /// What would become too large. A set that wins nothing may still be too large, if it was before.
    pub fn check(&self) -> Result<(), Overfull> {
        // Of several always the same one. Addresses may have to be looked at one by one: last.
        let place = |(name, rtype): &(Name, RecordType)| (*rtype, name.as_wire().to_vec());
        for addresses in [false, true] {
            let sets = self.sets.iter().filter(|((_, rtype), _)| rtype.is_address() == addresses);
            let over = sets.filter(|((name, rtype), change)| self.is_over(name, *rtype, **change));
            if let Some((name, rtype)) = over.map(|(set, _)| set).min_by_key(|set| place(set)) {
                return Err(Overfull::Rrset { name: name.clone(), rtype: *rtype });
            }
        }
        let mut hosts: NameMap<usize> = NameMap::default();
        for layout in self.learned.values() {
            let services = hosts.entry(layout.host.clone()).or_default();
            *services += 1;
            if self.contents.services_at_host(&layout.host).len() + *services > HOST_SERVICES {
                return Err(Overfull::Host { name: layout.host.clone() });
            }
        }
        self.targets.iter().try_for_each(|(name, (members, addresses))| self.check_target(name, *members, addresses))
    }

    fn is_over(&self, name: &Name, rtype: RecordType, Change { won, lost }: Change) -> bool {
        let before = self.contents.octets(name, rtype);
        if before + won <= room(rtype) + lost {
            return false;
        }
        if !rtype.is_address() {
            return won > lost;
        }
        // As many addresses may come as go and be more, where those that go stay by other members.
        let after = distinct_octets(self.addresses(name, rtype));
        won > 0
            && after > room(rtype)
            && (before <= room(rtype) || after > distinct_octets(Growth::new(self.contents).addresses(name, rtype)))
    }

    /// The addresses of one family at a name from then on, some of them more than once; those of members that chose it as
    /// their target left out.
    fn addresses(&self, name: &Name, rtype: RecordType) -> impl Iterator<Item = IpAddr> {
        let contents = self.contents;
        let fixed = contents.statics(name).iter().chain(contents.leased(name)).filter(|rrset| rrset.rtype == rtype);
        let fixed =
            fixed.flat_map(|rrset| rrset.rdatas.iter().filter_map(|rdata| address::address(rrset.rtype, rdata)));
        let mut found: Vec<IpAddr> =
            fixed.filter(|address| self.leased.get(&(name.clone(), *address)) != Some(&false)).collect();
        let come = self.leased.iter().filter(|((owner, _), comes)| **comes && owner == name);
        found.extend(come.map(|((_, address), _)| *address));
        let mut add = |member: &PublishedMember| found.extend(&member.registration.addresses);
        let has_set = |layout: &Layout| layout.address_set.as_ref() == Some(name) && contents.statics(name).is_empty();
        for service in contents.services_at_host(name) {
            let known = &contents.services[service];
            if !has_set(&known.layout) {
                continue;
            }
            let changed = self.members.get(service);
            let members = known.members.iter().filter(|(id, member)| {
                member.standing != Standing::Leaving && changed.is_none_or(|changed| !changed.contains_key(*id))
            });
            members.for_each(|(_, member)| add(member));
        }
        let (services, id) = contents.member_host_parts(name).unwrap_or((&[], ""));
        for service in services {
            if let Ok(id) = MemberId::new(id)
                && !self.changes(service, &id)
            {
                contents.member(service, &id).into_iter().for_each(&mut add);
            }
        }
        for (service, members) in &self.members {
            let Some(layout) = contents.layout(service) else { continue };
            let has_set = has_set(&layout);
            for (id, member) in members {
                if let Some(member) = member
                    && ((member.standing != Standing::Leaving && has_set)
                        || layout.member_host(id).as_ref() == Some(name))
                {
                    add(member);
                }
            }
        }
        found.into_iter().filter(move |address| address.is_ipv6() == (rtype == RecordType::AAAA))
    }

    /// Whether the members with a target are not too many, and their addresses fit the room that it has for them; or are no
    /// more than before.
    fn check_target(&self, name: &Name, members: usize, addresses: &[IpAddr]) -> Result<(), Overfull> {
        let sharing = self.contents.members_with_target(name);
        let after = sharing.iter().filter(|(service, id)| !self.changes(service, id)).count() + members;
        if after > TARGET_MEMBERS && after > sharing.len() {
            return Err(Overfull::Sharers { name: name.clone() });
        }
        let kept = self.contents.addresses_with_target(name, |(service, id)| !self.changes(service, id));
        let after = distinct_octets(kept.chain(addresses.iter().copied()));
        if after > TARGET_OCTETS && after > distinct_octets(self.contents.addresses_with_target(name, |_| true)) {
            return Err(Overfull::Target { name: name.clone() });
        }
        Ok(())
    }
}

/// What these addresses take, equal ones once.
fn distinct_octets(addresses: impl Iterator<Item = IpAddr>) -> usize {
    let distinct: SeededSet<IpAddr> = addresses.collect();
    distinct.iter().map(|address| RECORD_OCTETS + address::rdata(address).1.len()).sum()
}

#[cfg(test)]
mod tests;
