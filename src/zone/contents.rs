//! What is published, by source: members, leased records, static records, settings; and the records that they make.
//!
//! A name's records are a pure function of these sources ([`Contents::node`]), so that equal state is equal bytes and
//! only touched names need to be built again. The writer edits in place and keeps an undo of each edit, since a commit
//! that the store refuses must leave no trace.

use std::sync::Arc;

use crate::base::{Epoch, Name, NameMap, NameSet, RecordType, Ttl, Wall};
use crate::membership::MemberId;

use super::change::{Change, PublishedMember};
use super::layout::{Layout, instance_name, slot_number};
use super::live::ServiceState;
use super::members::Members;
use super::records::{schema, txt};
use super::rrset::{Rdata, Rrset};
use super::settings::Settings;

/// A service that is known: it has or had members, or the configuration names it.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) layout: Layout,
    pub(super) members: Members,
    /// The epoch of the last change of its fingerprint.
    pub(super) changed: Epoch,
    pub(super) fingerprint: txt::Fingerprint,
    /// Since when nobody is in it.
    empty_since: Option<Wall>,
    /// How many slots there are, or were.
    pub(super) slots: u32,
}

/// The sources of one zone.
#[derive(Debug)]
pub struct Contents {
    pub(super) settings: Arc<Settings>,
    pub(super) services: NameMap<Service>,
    /// Which services have their members' names below a host name.
    pub(super) hosts: NameMap<Vec<Name>>,
    pub(super) statics: NameMap<Vec<Rrset>>,
    pub(super) leased: NameMap<Vec<Rrset>>,
    /// Members whose SRV target is in the zone and isn't their own host name.
    pub(super) targets: NameMap<Vec<(Name, MemberId)>>,
    /// Owners of static and leased records whose additional section shows a name of this zone.
    referrers: NameMap<Vec<Name>>,
}

/// How to take one edit back.
#[derive(Debug)]
pub(super) enum Undo {
    Settings(Arc<Settings>),
    Static(Name, Vec<Rrset>),
    Leased(Name, RecordType, Ttl, Vec<Rdata>),
    Member(Name, MemberId, Option<PublishedMember>),
    Slots(Name, u32),
    /// The service as it was known, without its members; `None`: it wasn't.
    Known(Name, Option<Box<Service>>),
}

impl Contents {
    pub(super) fn new(settings: Arc<Settings>) -> Contents {
        Contents {
            settings,
            services: NameMap::default(),
            hosts: NameMap::default(),
            statics: NameMap::default(),
            leased: NameMap::default(),
            targets: NameMap::default(),
            referrers: NameMap::default(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Whether a name is a known service.
    pub fn knows_service(&self, name: &Name) -> bool {
        self.services.contains_key(name)
    }

    /// The layout of a service, known or not; `None` for a name that can't be one.
    pub fn layout(&self, service: &Name) -> Option<Layout> {
        match self.services.get(service) {
            Some(known) => Some(known.layout.clone()),
            None => Layout::of(service, &self.settings),
        }
    }

    /// The known services whose members' names stand below this host name.
    pub fn services_at_host(&self, host: &Name) -> &[Name] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }

    /// The published members whose SRV target is this name, and not just by default.
    pub fn members_with_target(&self, target: &Name) -> &[(Name, MemberId)] {
        self.targets.get(target).map_or(&[], Vec::as_slice)
    }

    /// Whether a service has slots.
    pub fn has_slots(&self, service: &Name) -> bool {
        match self.services.get(service) {
            Some(known) => known.layout.slots,
            None => self.settings.has_slots(service),
        }
    }

    /// The static records at a name.
    pub fn statics(&self, name: &Name) -> &[Rrset] {
        self.statics.get(name).map_or(&[], Vec::as_slice)
    }

    /// The leased records at a name.
    pub fn leased(&self, name: &Name) -> &[Rrset] {
        self.leased.get(name).map_or(&[], Vec::as_slice)
    }

    /// All names with static records.
    pub fn static_names(&self) -> impl Iterator<Item = &Name> {
        self.statics.keys()
    }

    /// What is published of a member.
    pub fn member(&self, service: &Name, id: &MemberId) -> Option<&PublishedMember> {
        self.services.get(service)?.members.get(id.as_str())
    }

    /// The known services: name, epoch of the last change, and since when nobody is in it.
    pub fn services(&self) -> impl Iterator<Item = (&Name, Epoch, Option<Wall>)> {
        self.services.iter().map(|(name, service)| (name, service.changed, service.empty_since))
    }

    /// How many services are known.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The same of one service.
    pub fn service_state(&self, name: &Name) -> Option<ServiceState> {
        self.services.get(name).map(|service| ServiceState {
            changed: service.changed,
            empty_since: service.empty_since,
            slots: service.slots,
        })
    }

    pub(super) fn service_mut(&mut self, name: &Name) -> Option<&mut Service> {
        self.services.get_mut(name)
    }

    // ---- editing ------------------------------------------------------------------------------------------------

    /// Applies one change; notes what to undo and which names it touches.
    pub(super) fn apply(&mut self, change: &Change, at: Wall, undo: &mut Vec<Undo>, touched: &mut NameSet) {
        match change {
            Change::Settings(settings) => {
                // Everything derived can change with them: every name before and after is touched.
                touched.extend(self.all_names());
                undo.push(Undo::Settings(self.set_settings(settings.clone())));
                for service in settings.services.iter().map(|entry| entry.service.clone()) {
                    self.learn_service(&service, at, undo);
                }
                touched.extend(self.all_names());
            }
            Change::Static { name, rrsets } => {
                touched.insert(name.clone());
                undo.push(Undo::Static(name.clone(), self.set_statics(name, rrsets.clone())));
                // An address set gives way to static records at its name, and comes back when they go.
                self.touch_host(name, touched);
            }
            Change::Leased { name, rtype, ttl, rdatas } => {
                touched.insert(name.clone());
                let (ttl, rdatas) = self.set_leased(name, *rtype, *ttl, rdatas.clone());
                undo.push(Undo::Leased(name.clone(), *rtype, ttl, rdatas));
            }
            Change::Member { service, id, member } => {
                self.learn_service(service, at, undo);
                self.touch_member(service, id, touched);
                if let Some(known) = self.services.get(service).filter(|known| known.layout.slots) {
                    undo.push(Undo::Slots(service.clone(), known.slots));
                }
                let before = self.set_member(service, id, member.as_ref());
                undo.push(Undo::Member(service.clone(), id.clone(), before));
                self.touch_member(service, id, touched);
                self.note_emptiness(service, at, undo);
            }
            Change::Slots { service, count } => {
                self.learn_service(service, at, undo);
                touched.insert(service.clone());
                if let Some(known) = self.services.get_mut(service) {
                    let before = std::mem::replace(&mut known.slots, *count);
                    undo.push(Undo::Slots(service.clone(), before));
                }
            }
            Change::Forget { service } => {
                touched.insert(service.clone());
                if let Some(known) = self.services.get(service) {
                    touched.extend(known.layout.address_set.clone());
                    let shell = self.set_known(service, None);
                    undo.push(Undo::Known(service.clone(), shell));
                }
            }
        }
    }

    /// Takes over what a change once led to, without an account of it.
    pub(super) fn take_over(&mut self, change: &Change) {
        match change {
            Change::Member { service, id, member } => {
                self.learn_service(service, Wall(0), &mut Vec::new());
                self.set_member(service, id, member.as_ref());
                self.note_emptiness(service, Wall(0), &mut Vec::new());
            }
            change => self.apply(change, Wall(0), &mut Vec::new(), &mut NameSet::default()),
        }
    }

    /// Takes edits back, the last first.
    pub(super) fn revert(&mut self, undo: Vec<Undo>) {
        for edit in undo.into_iter().rev() {
            match edit {
                Undo::Settings(settings) => {
                    self.set_settings(settings);
                }
                Undo::Static(name, rrsets) => {
                    self.set_statics(&name, rrsets);
                }
                Undo::Leased(name, rtype, ttl, rdatas) => {
                    self.set_leased(&name, rtype, ttl, rdatas);
                }
                Undo::Member(service, id, member) => {
                    self.set_member(&service, &id, member.as_ref());
                }
                Undo::Slots(service, count) => {
                    if let Some(known) = self.services.get_mut(&service) {
                        known.slots = count;
                    }
                }
                Undo::Known(service, shell) => {
                    self.set_known(&service, shell);
                }
            }
        }
    }

    fn set_settings(&mut self, settings: Arc<Settings>) -> Arc<Settings> {
        let before = std::mem::replace(&mut self.settings, settings);
        // Host names may have moved.
        let names: Vec<Name> = self.services.keys().cloned().collect();
        for name in names {
            let mut service = self.services.remove(&name).expect("its key was listed");
            unlist(&mut self.hosts, &service.layout.host, &name);
            let members = std::mem::take(&mut service.members);
            for (id, member) in members.iter() {
                self.unlist_target(&name, id, &service.layout, member);
            }
            if let Some(layout) = Layout::of(&name, &self.settings) {
                service.layout = layout;
            }
            for (id, member) in members.iter() {
                self.list_target(&name, id, &service.layout, member);
            }
            service.members = members;
            service.members.reweigh(&service.layout, &name);
            self.hosts.entry(service.layout.host.clone()).or_default().push(name.clone());
            self.services.insert(name, service);
        }
        before
    }

    fn set_statics(&mut self, name: &Name, rrsets: Vec<Rrset>) -> Vec<Rrset> {
        let before = self.statics.remove(name).unwrap_or_default();
        for target in targets_of(&before) {
            unlist(&mut self.referrers, &target, name);
        }
        for target in targets_of(&rrsets) {
            self.referrers.entry(target).or_default().push(name.clone());
        }
        if !rrsets.is_empty() {
            self.statics.insert(name.clone(), rrsets);
        }
        before
    }

    fn set_leased(&mut self, name: &Name, rtype: RecordType, ttl: Ttl, rdatas: Vec<Rdata>) -> (Ttl, Vec<Rdata>) {
        let rrsets = self.leased.entry(name.clone()).or_default();
        let before = match rrsets.iter().position(|rrset| rrset.rtype == rtype) {
            Some(at) => rrsets.remove(at),
            None => Rrset { rtype, ttl, rdatas: Vec::new() },
        };
        let now = Rrset { rtype, ttl, rdatas };
        let (lost, won) = (targets_of(std::slice::from_ref(&before)), targets_of(std::slice::from_ref(&now)));
        if !now.rdatas.is_empty() {
            rrsets.push(now);
        }
        if rrsets.is_empty() {
            self.leased.remove(name);
        }
        for target in lost {
            unlist(&mut self.referrers, &target, name);
        }
        for target in won {
            self.referrers.entry(target).or_default().push(name.clone());
        }
        (before.ttl, before.rdatas)
    }

    fn set_member(&mut self, name: &Name, id: &MemberId, member: Option<&PublishedMember>) -> Option<PublishedMember> {
        // Not known although it was just learned: its name is that of no service. Nothing is published of such a member.
        let service = self.services.get_mut(name)?;
        let before = service.members.set(&service.layout, name, id, member);
        if let Some(number) = member.and_then(|member| member.slot) {
            service.slots = service.slots.max(number + 1);
        }
        let target_of =
            |member: Option<&PublishedMember>| own_target(&self.settings.origin, id, &service.layout, member?);
        let (lost, won) = (target_of(before.as_ref()), target_of(member));
        if let Some(target) = lost {
            unlist(&mut self.targets, &target, &(name.clone(), id.clone()));
        }
        if let Some(target) = won {
            self.targets.entry(target).or_default().push((name.clone(), id.clone()));
        }
        before
    }

    fn learn_service(&mut self, name: &Name, at: Wall, undo: &mut Vec<Undo>) {
        if self.services.contains_key(name) {
            return;
        }
        let Some(layout) = Layout::of(name, &self.settings) else { return };
        let service = Service {
            layout,
            members: Members::default(),
            changed: Epoch(0),
            fingerprint: txt::Fingerprint::default(),
            empty_since: Some(at),
            slots: 0,
        };
        self.set_known(name, Some(Box::new(service)));
        undo.push(Undo::Known(name.clone(), None));
    }

    /// Makes a service known that the store kept, without members.
    pub(super) fn know(&mut self, name: &Name) {
        self.learn_service(name, Wall(0), &mut Vec::new());
    }

    fn note_emptiness(&mut self, name: &Name, at: Wall, undo: &mut Vec<Undo>) {
        let Some(service) = self.services.get_mut(name) else { return };
        let empty = service.members.is_empty();
        if empty != service.empty_since.is_some() {
            let shell = Service { members: Members::default(), layout: service.layout.clone(), ..*service };
            undo.push(Undo::Known(name.clone(), Some(Box::new(shell))));
            service.empty_since = empty.then_some(at);
        }
    }

    /// Makes a service known as the shell says, keeping members that are there; or unknown.
    pub(super) fn set_known(&mut self, name: &Name, shell: Option<Box<Service>>) -> Option<Box<Service>> {
        let before = self.services.remove(name);
        if let Some(before) = &before {
            unlist(&mut self.hosts, &before.layout.host, name);
        }
        let mut before = before.map(Box::new);
        if let Some(mut service) = shell {
            self.hosts.entry(service.layout.host.clone()).or_default().push(name.clone());
            if let Some(before) = &mut before {
                service.members = std::mem::take(&mut before.members);
            }
            self.services.insert(name.clone(), *service);
        }
        before
    }

    /// Takes over what the store kept of a service.
    pub(super) fn restore_service(&mut self, name: &Name, state: ServiceState) {
        if let Some(service) = self.services.get_mut(name) {
            service.changed = state.changed;
            service.empty_since = state.empty_since;
            service.slots = service.slots.max(state.slots);
        }
    }

    fn list_target(&mut self, service: &Name, id: &MemberId, layout: &Layout, member: &PublishedMember) {
        if let Some(target) = own_target(&self.settings.origin, id, layout, member) {
            self.targets.entry(target).or_default().push((service.clone(), id.clone()));
        }
    }

    fn unlist_target(&mut self, service: &Name, id: &MemberId, layout: &Layout, member: &PublishedMember) {
        if let Some(target) = own_target(&self.settings.origin, id, layout, member) {
            unlist(&mut self.targets, &target, &(service.clone(), id.clone()));
        }
    }

    fn touch_member(&self, name: &Name, id: &MemberId, touched: &mut NameSet) {
        touched.insert(name.clone());
        let Some(service) = self.services.get(name) else { return };
        touched.extend(service.layout.address_set.clone());
        let member = service.members.get(id.as_str());
        touched.extend(
            member.and_then(|member| own_host(&service.layout, id, member)).or_else(|| service.layout.member_host(id)),
        );
        if service.layout.dns_sd {
            touched.extend(instance_name(name, id));
        }
        if let Some(member) = member {
            touched.extend(service.layout.slot_of(member));
            touched.extend(own_target(&self.settings.origin, id, &service.layout, member));
        }
    }

    fn touch_host(&self, name: &Name, touched: &mut NameSet) {
        if self.hosts.contains_key(name) {
            touched.insert(name.clone());
        }
    }

    /// Whose answers show the addresses of a name.
    pub(super) fn referrers(&self, name: &Name) -> NameSet {
        let mut found: NameSet = self.referrers.get(name).into_iter().flatten().cloned().collect();
        if *name == self.settings.primary {
            // The NS record of a zone without static ones names it.
            found.insert(self.settings.origin.clone());
        }
        let mut show = |service: &Name, id: &str| {
            found.insert(service.clone());
            if self.services[service].layout.dns_sd {
                found.extend(service.child(id.as_bytes()));
            }
        };
        for (service, id) in self.members_with_target(name) {
            show(service, id.as_str());
        }
        if let Some((services, id)) = self.member_host_parts(name) {
            for service in services.iter().filter(|service| self.services[*service].members.contains(id)) {
                show(service, id);
            }
        }
        for (service, id, _) in self.members_in_slot(name) {
            show(service, id.as_str());
        }
        found
    }

    /// The members whose slot has this name.
    pub(super) fn members_in_slot(&self, name: &Name) -> impl Iterator<Item = (&Name, &MemberId, &PublishedMember)> {
        let services =
            slot_number(name.first_label()).and_then(|number| Some((number, self.hosts.get(name.parent_wire()?)?)));
        services.into_iter().flat_map(move |(number, services)| {
            services.iter().filter_map(move |service| {
                let known = &self.services[service];
                let (id, member) = known.members.in_slot(number).filter(|_| known.layout.slots)?;
                Some((service, id, member))
            })
        })
    }

    /// Reads a name as an id and a host name of known services.
    pub(super) fn member_host_parts<'a>(&'a self, name: &'a Name) -> Option<(&'a [Name], &'a str)> {
        let services = self.hosts.get(name.parent_wire()?)?;
        Some((services, std::str::from_utf8(name.first_label()).ok()?))
    }
}

/// The member's SRV target, if it is in the zone and not its default host name.
pub(super) fn own_target(origin: &Name, id: &MemberId, layout: &Layout, member: &PublishedMember) -> Option<Name> {
    let target = &member.registration.target;
    (target.is_within(origin) && !is_own_host(layout, id, member)).then(|| target.clone())
}

/// The member's target, if it is its default host name: the name whose octets are shared then.
pub(super) fn own_host(layout: &Layout, id: &MemberId, member: &PublishedMember) -> Option<Name> {
    is_own_host(layout, id, member).then(|| member.registration.target.clone())
}

/// Whether the member's target is its default host name.
pub(super) fn is_own_host(layout: &Layout, id: &MemberId, member: &PublishedMember) -> bool {
    let target = &member.registration.target;
    target.first_label() == id.as_str().as_bytes() && target.parent_wire() == Some(layout.host.as_wire())
}

/// The names whose addresses go along with these records.
fn targets_of(rrsets: &[Rrset]) -> Vec<Name> {
    let records = rrsets.iter().flat_map(|rrset| rrset.rdatas.iter().map(|rdata| (rrset.rtype, rdata)));
    records.filter_map(|(rtype, rdata)| schema::additional_name(rtype, rdata)).collect()
}

fn unlist<V: PartialEq>(lists: &mut NameMap<Vec<V>>, name: &Name, value: &V) {
    if let Some(list) = lists.get_mut(name) {
        if let Some(at) = list.iter().position(|other| other == value) {
            list.swap_remove(at);
        }
        if list.is_empty() {
            lists.remove(name);
        }
    }
}
