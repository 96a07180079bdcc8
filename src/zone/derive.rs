//! The records that the sources make: a name's records are a pure function of them, one rule a function here.

use std::net::IpAddr;

use crate::base::{Name, NameMap, NameSet, RecordType, Ttl};
use crate::membership::{MemberId, Registration};

use super::change::{PublishedMember, Standing};
use super::contents::{Contents, Service, is_own_host, own_host};
use super::layout::{Layout, instance_name, slot_number};
use super::records::{address, srv, txt};
use super::rrset::{Node, NodeBuilder, Rdata};

impl Contents {
    /// All records of a name but the SOA, as they are published.
    pub fn node(&self, name: &Name) -> Node {
        self.node_in(name, View::Published)
    }

    /// The same as the members were registered: with their own targets and weights, and whether they are published or not.
    pub fn registered_node(&self, name: &Name) -> Node {
        self.node_in(name, View::Registered)
    }

    fn node_in(&self, name: &Name, view: View) -> Node {
        let mut builder = Builder::new(self.settings.ttl);
        for rrset in self.statics(name).iter().chain(self.leased.get(name).into_iter().flatten()) {
            for rdata in &rrset.rdatas {
                builder.node.add(rrset.rtype, rrset.ttl, rdata);
            }
        }
        if *name == self.settings.origin && !builder.node.has(RecordType::NS) {
            builder.derive(RecordType::NS, self.settings.primary.as_wire());
        }
        if let Some(service) = self.services.get(name) {
            self.add_service(name, service, view, &mut builder);
        }
        if let Some(services) = self.hosts.get(name)
            && self.statics(name).is_empty()
        {
            self.mark_services(name, services, &mut builder);
        }
        for address in self.derived_addresses(name, view) {
            match address {
                IpAddr::V4(v4) => builder.derive(RecordType::A, &v4.octets()),
                IpAddr::V6(v6) => builder.derive(RecordType::AAAA, &v6.octets()),
            }
        }
        self.add_dns_sd(name, view, &mut builder);
        builder.node.finish(name.clone())
    }

    fn add_service(&self, name: &Name, service: &Service, view: View, builder: &mut Builder) {
        // Static SRV records were added first; members follow by id. One TTL for the joined set.
        builder.retime(RecordType::SRV);
        builder.retime(RecordType::TXT);
        for (_, member) in
            service.members.in_order(&service.layout).into_iter().filter(|(_, member)| view.serves(member))
        {
            builder.derive_srv(&service.layout, member, view);
        }
        builder.derive(RecordType::TXT, &txt::service_rdata(service.changed, &service.fingerprint));
        if service.layout.dns_sd {
            for (id, _) in service.members.iter().filter(|(_, member)| view.serves(member)) {
                if let Some(instance) = instance_name(name, id) {
                    builder.derive(RecordType::PTR, instance.as_wire());
                }
            }
        }
    }

    /// A host name without addresses says whose it is.
    fn mark_services(&self, name: &Name, services: &[Name], builder: &mut Builder) {
        if self.address_set(name, services).next().is_some() {
            return;
        }
        let mut marks: Vec<&Name> = self.publishing(name, services).collect();
        marks.sort_by(|a, b| a.canonical_cmp(b));
        for service in marks {
            builder.derive(RecordType::TXT, &txt::host_rdata(service, &self.settings.origin));
        }
    }

    /// The services among those with this host name that have their address set there.
    fn publishing<'a>(&'a self, name: &'a Name, services: &'a [Name]) -> impl Iterator<Item = &'a Name> {
        services.iter().filter(move |&service| self.services[service].layout.address_set.as_ref() == Some(name))
    }

    fn address_set<'a>(&'a self, name: &'a Name, services: &'a [Name]) -> impl Iterator<Item = IpAddr> + 'a {
        self.publishing(name, services)
            .flat_map(|service| self.services[service].members.values())
            .filter(|member| member.is_in_service())
            .flat_map(|member| member.registration.addresses.iter().copied())
    }

    /// The addresses that members give a name, in order: as their own host name, as the target that they registered, and
    /// as the address set of their service.
    fn derived_addresses(&self, name: &Name, view: View) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        if let Some((services, id)) = self.member_host_parts(name) {
            let members = services.iter().filter_map(|service| self.services.get(service)?.members.get(id));
            let shown = members.filter(|member| view.hosts(member));
            shown.for_each(|member| addresses.extend_from_slice(&member.registration.addresses));
        }
        for (service, id) in self.members_with_target(name) {
            if !self.may_address(service, name) {
                continue;
            }
            let member = self.member(service, id).filter(|member| view.hosts(member));
            addresses.extend(member.iter().flat_map(|member| member.registration.addresses.iter()));
        }
        if view == View::Published {
            let members = self.members_in_slot(name);
            members.for_each(|(.., member)| addresses.extend_from_slice(&member.registration.addresses));
        }
        if let Some(services) = self.hosts.get(name)
            && self.statics(name).is_empty()
        {
            addresses.extend(self.address_set(name, services));
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Whether members of a service that chose a name as their target add their addresses there: not beside static
    /// records, nor at a name that belongs to another service or to a member of one.
    fn may_address(&self, service: &Name, name: &Name) -> bool {
        // The names of slots are their holders' alone.
        let hosts = name.parent_wire().and_then(|parent| self.hosts.get(parent));
        let has_slots = |service: &Name| self.services.get(service).is_some_and(|known| known.layout.slots);
        if slot_number(name.first_label()).is_some() && hosts.is_some_and(|hosts| hosts.iter().any(has_slots)) {
            return false;
        }
        let within = |services: &[Name]| services.contains(service);
        let set = self.hosts.get(name).filter(|services| self.publishing(name, services).next().is_some());
        let hosted = self.member_host_parts(name).filter(|(services, id)| {
            services.iter().any(|service| self.services.get(service).is_some_and(|known| known.members.contains(id)))
        });
        self.statics(name).is_empty()
            && set.is_none_or(|services| within(services))
            && hosted.is_none_or(|(services, _)| within(services))
    }

    /// The addresses of the zone's name servers, as far as the zone knows them.
    pub fn name_server_addresses(&self) -> Vec<IpAddr> {
        let apex = self.node(&self.settings.origin);
        let servers = apex.rrset(RecordType::NS).into_iter().flat_map(|rrset| rrset.rdatas());
        servers
            .filter_map(|server| Name::from_wire(server).ok())
            .flat_map(|server| self.addresses_at(&server))
            .collect()
    }

    /// The records that announce services (RFC 6763 §4.1, §9, §11) and their instances.
    fn add_dns_sd(&self, name: &Name, view: View, builder: &mut Builder) {
        if is_dns_sd_name(name) {
            let announced = self.settings.services.iter().filter(|entry| entry.dns_sd).map(|entry| &entry.service);
            for service in announced {
                let Some(known) = self.services.get(service) else { continue };
                let domain = &known.layout.domain;
                if dns_sd_name(b"_services", domain).as_ref() == Some(name) {
                    builder.derive(RecordType::PTR, service.as_wire());
                }
                if [b"b".as_slice(), b"lb"].iter().any(|label| dns_sd_name(label, domain).as_ref() == Some(name)) {
                    builder.derive(RecordType::PTR, domain.as_wire());
                }
            }
        }
        let parent = name.parent_wire().and_then(|parent| self.services.get(parent));
        if let Some(service) = parent.filter(|service| service.layout.dns_sd)
            && let Ok(id) = MemberId::from_label(name.first_label())
            && let Some(member) = service.members.get(id.as_str()).filter(|member| view.serves(member))
        {
            builder.derive_srv(&service.layout, member, view);
            builder.derive(RecordType::TXT, &txt::metadata_rdata(&member.registration.metadata));
        }
    }

    /// The data of one type among these records.
    pub(super) fn dns_sd_rdatas(&self, name: &Name, rtype: RecordType) -> Vec<Rdata> {
        let is_instance = name.parent_wire().is_some_and(|parent| self.services.contains_key(parent));
        if !is_instance && !is_dns_sd_name(name) {
            return Vec::new(); // asked of every set that an update touches
        }
        let mut builder = Builder::new(self.settings.ttl);
        self.add_dns_sd(name, View::Published, &mut builder);
        let node = builder.node.finish(name.clone());
        node.rrset(rtype).map_or(Vec::new(), |rrset| rrset.to_owned().rdatas)
    }

    /// What clients can compare of a service. `shared` has the addresses of targets that several members share, as far as
    /// they were looked up before: a host may be in many services, on ports of its own, and have many members in each.
    pub(super) fn fingerprint(&self, name: &Name, shared: &mut NameMap<Vec<IpAddr>>) -> txt::Fingerprint {
        let Some(service) = self.services.get(name) else { return txt::Fingerprint::default() };
        let mut lines = txt::Lines::default();
        let fixed = self.statics(name).iter().chain(self.leased.get(name).into_iter().flatten());
        let fixed = fixed.filter(|rrset| rrset.rtype == RecordType::SRV).flat_map(|rrset| &rrset.rdatas);
        for (priority, weight, port, target) in fixed.filter_map(|rdata| srv::fields(rdata)) {
            if let Ok(target) = Name::from_wire(target) {
                lines.push(priority, weight, port, &target, &self.addresses_at(&target));
            }
        }
        // Members that have a host name to themselves are where they say, and nowhere else. That is told without looking
        // the name up in all that could stand there.
        let is_alone = self.services_at_host(&service.layout.host).len() == 1;
        let mut count = 0;
        for (id, member) in service.members.iter().filter(|(_, member)| member.is_in_service()) {
            count += 1;
            let Registration { priority, port, target, addresses, .. } = &*member.registration;
            let weight = &member.weight;
            if let Some(slot) = service.layout.slot_of(member) {
                match is_alone && !self.has_others(&slot) {
                    true => lines.push(*priority, *weight, *port, &slot, addresses),
                    false => lines.push(*priority, *weight, *port, &slot, &self.addresses_at(&slot)),
                }
                continue;
            }
            if is_alone && is_own_host(&service.layout, id, member) && !self.has_others(target) {
                lines.push(*priority, *weight, *port, target, addresses);
                continue;
            }
            if self.members_with_target(target).len() < 2 {
                lines.push(*priority, *weight, *port, target, &self.addresses_at(target));
                continue;
            }
            let addresses = shared.entry(target.clone()).or_insert_with(|| self.addresses_at(target));
            lines.push(*priority, *weight, *port, target, addresses);
        }
        txt::Fingerprint {
            slots: service.layout.slots.then_some(service.slots),
            hold: service.members.values().any(|member| member.standing == Standing::Held),
            ..lines.fingerprint(count)
        }
    }

    /// Whether something stands at the name of a member besides the member itself.
    fn has_others(&self, name: &Name) -> bool {
        self.statics.contains_key(name)
            || self.leased.contains_key(name)
            || self.targets.contains_key(name)
            || self.hosts.contains_key(name)
    }

    /// The addresses that the zone publishes at a name; none outside.
    pub(super) fn addresses_at(&self, name: &Name) -> Vec<IpAddr> {
        let mut addresses = self.derived_addresses(name, View::Published);
        let fixed = self.statics(name).iter().chain(self.leased.get(name).into_iter().flatten());
        addresses.extend(
            fixed.flat_map(|rrset| rrset.rdatas.iter().filter_map(|rdata| address::address(rrset.rtype, rdata))),
        );
        addresses
    }

    /// Every name that has records of its own.
    pub(super) fn all_names(&self) -> NameSet {
        let mut names: NameSet = self.unserved_names().collect();
        self.services.keys().for_each(|name| names.extend(self.names_of(name)));
        names
    }

    /// The names that have records for another reason than a service; some perhaps several times.
    pub(super) fn unserved_names(&self) -> impl Iterator<Item = Name> {
        let names = self.statics.keys().chain(self.leased.keys()).chain(self.targets.keys());
        names.chain([&self.settings.origin]).cloned()
    }

    /// How many names [`Contents::names_of`] has, roughly.
    pub(super) fn names_near(&self, name: &Name) -> usize {
        self.services.get(name).map_or(0, |service| 2 + service.members.len())
    }

    /// The names that have records since there is this service: its own and those of its members, some of which another
    /// service may have as well.
    pub(super) fn names_of<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = Name> + 'a {
        self.services.get(name).into_iter().flat_map(move |service| {
            let Service { layout, members, .. } = service;
            let announcing = layout.dns_sd.then_some([b"_services".as_slice(), b"b", b"lb"]);
            let announcing = announcing.into_iter().flatten().filter_map(|label| dns_sd_name(label, &layout.domain));
            let of_members = members.iter().flat_map(move |(id, member)| {
                // The target shares its octets with the registration; taking it saves a copy a member.
                let host = own_host(layout, id, member).or_else(|| layout.member_host(id));
                let instance = layout.dns_sd.then(|| instance_name(name, id)).flatten();
                let slot = layout.slot_of(member);
                [host, instance, slot].into_iter().flatten()
            });
            [Some(name.clone()), layout.address_set.clone()].into_iter().flatten().chain(announcing).chain(of_members)
        })
    }
}

/// Whether a name has the form of those that announce services.
fn is_dns_sd_name(name: &Name) -> bool {
    let mut labels = name.labels().skip(1);
    (labels.next(), labels.next()) == (Some(b"_dns-sd"), Some(b"_udp"))
}

fn dns_sd_name(label: &[u8], domain: &Name) -> Option<Name> {
    domain.child(b"_udp").ok()?.child(b"_dns-sd").ok()?.child(label).ok()
}

/// Whose view of the members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum View {
    /// What queries see.
    Published,
    /// What prerequisites see.
    Registered,
}

impl View {
    /// Whether a member is in the SRV set. One that drains has withdrawn its record.
    fn serves(self, member: &PublishedMember) -> bool {
        member.is_in_service() || (self == View::Registered && member.standing == Standing::Hidden)
    }

    /// Whether a member's names have its addresses.
    fn hosts(self, member: &PublishedMember) -> bool {
        member.has_host() || self == View::Registered
    }
}

/// Gathers the records of one name.
struct Builder {
    ttl: Ttl,
    node: NodeBuilder,
}

impl Builder {
    fn new(ttl: Ttl) -> Builder {
        Builder { ttl, node: NodeBuilder::default() }
    }

    fn derive(&mut self, rtype: RecordType, rdata: &[u8]) {
        self.node.add(rtype, self.ttl, rdata);
    }

    fn derive_srv(&mut self, layout: &Layout, member: &PublishedMember, view: View) {
        let registration = &member.registration;
        let slot = layout.slot_of(member).filter(|_| view == View::Published);
        let weight = if view == View::Published { member.weight } else { registration.weight };
        let numbers = srv::numbers(registration, weight);
        let target = slot.as_ref().unwrap_or(&registration.target);
        self.node.add_parts(RecordType::SRV, self.ttl, &[&numbers, target.as_wire()]);
    }

    /// A set that derived records join takes the zone's TTL (RFC 2181 §5.2: one TTL per RRset).
    fn retime(&mut self, rtype: RecordType) {
        self.node.retime(rtype, self.ttl);
    }
}
