//! The copy that a message works on.
//!
//! Members and leased records are copied in when the message first touches them; the rest stays where it is. What the
//! message says about names that no member has yet (addresses, metadata) is kept aside and finds its member at the end, so
//! that the order of records in a message doesn't matter.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{Name, NameMap, NameSet, RecordType, SeededMap, Ttl};
use crate::membership::{Decided, Index, Item, LeasedRecord, Member, MemberId, Owner, Registration, Table};
use crate::zone::{Contents, Rdata};

use super::add::member_id;

/// A member in the copy.
#[derive(Clone, Debug)]
pub(super) struct MemberDraft {
    pub service: Name,
    pub id: MemberId,
    /// What is in the table.
    pub before: Option<(Index, Member)>,
    /// What the message makes of it.
    pub registration: Registration,
    /// Who would own it.
    pub owner: Owner,
    /// It has an SRV record now.
    pub has_srv: bool,
    /// The message deleted its SRV record.
    pub srv_deleted: bool,
    /// The message added its SRV record.
    pub srv_added: bool,
    /// The message added addresses to it.
    pub addresses_added: bool,
    /// Whether the requester may change it, once that was looked up.
    pub allowed: Option<bool>,
}

impl MemberDraft {
    /// Whether it exists as a member, also one that is about to be removed.
    pub(super) fn exists(&self) -> bool {
        self.has_srv || self.before.is_some()
    }
}

/// A leased record in the copy.
#[derive(Clone, Debug)]
pub(super) struct LeasedDraft {
    pub before: Option<(Index, LeasedRecord)>,
    pub name: Name,
    pub rtype: RecordType,
    pub ttl: Ttl,
    pub rdata: Rdata,
    pub owner: Owner,
    pub deleted: bool,
    pub added: bool,
}

/// Addresses of a host that no member has.
#[derive(Clone, Debug, Default)]
pub(super) struct HostDraft {
    pub addresses: Vec<IpAddr>,
    pub added: bool,
}

/// The copy.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub table: &'a Table,
    pub contents: &'a Contents,
    pub members: Vec<MemberDraft>,
    places: SeededMap<(Name, MemberId), usize>,
    /// Members by the names that their addresses may belong to: their own host name, and targets that they had or have.
    hosted: NameMap<Vec<usize>>,
    /// Services of which every member was copied in.
    swept: NameSet,
    pub leased: SeededMap<Name, Vec<LeasedDraft>>,
    /// Names in the order in which leased records at them were touched, so that equal messages have equal outcomes.
    pub leased_order: Vec<Name>,
    pub hosts: SeededMap<Name, HostDraft>,
    pub host_order: Vec<Name>,
    /// Metadata sent for members, which may come later in the message.
    pub metadata: Vec<(Name, MemberId, Rdata)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(table: &'a Table, contents: &'a Contents) -> Draft<'a> {
        Draft {
            table,
            contents,
            members: Vec::new(),
            places: SeededMap::default(),
            hosted: NameMap::default(),
            swept: NameSet::default(),
            leased: SeededMap::default(),
            leased_order: Vec::new(),
            hosts: SeededMap::default(),
            host_order: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// A member of the copy, if it was touched or is in the table.
    pub(super) fn member(&mut self, service: &Name, id: &MemberId) -> Option<usize> {
        if let Some(&at) = self.places.get(&(service.clone(), id.clone())) {
            return Some(at);
        }
        let (index, member) = self.table.member(service, id.as_str())?;
        let member = member.clone();
        Some(self.insert(MemberDraft {
            service: service.clone(),
            id: id.clone(),
            registration: (*member.registration).clone(),
            owner: member.owner.clone(),
            has_srv: true,
            srv_deleted: false,
            srv_added: false,
            addresses_added: false,
            allowed: None,
            before: Some((index, member)),
        }))
    }

    /// A new member of the copy.
    pub(super) fn insert(&mut self, draft: MemberDraft) -> usize {
        let at = self.members.len();
        let host = self.contents.layout(&draft.service).and_then(|layout| layout.member_host(&draft.id));
        self.places.insert((draft.service.clone(), draft.id.clone()), at);
        let target = draft.registration.target.clone();
        self.members.push(draft);
        for name in host.into_iter().chain([target]) {
            self.host(name, at);
        }
        at
    }

    /// Notes that addresses of a name may be this member's.
    pub(super) fn host(&mut self, name: Name, at: usize) {
        let members = self.hosted.entry(name).or_default();
        if members.last() != Some(&at) {
            members.push(at);
        }
    }

    /// Every member of a service, copied in.
    pub(super) fn members_of(&mut self, service: &Name) -> Vec<usize> {
        if self.swept.insert(service.clone()) {
            let ids: Vec<MemberId> = self.table.members(service).map(|(_, member)| member.id.clone()).collect();
            for id in &ids {
                self.member(service, id);
            }
        }
        (0..self.members.len()).filter(|&at| self.members[at].service == *service).collect()
    }

    /// The members of a service that could have registered an SRV record with this target and port.
    pub(super) fn members_with(&mut self, service: &Name, target: &Name, port: u16) -> Vec<usize> {
        let layout = self.contents.layout(service);
        let id = layout.and_then(|layout| member_id(&layout, target, port).ok());
        let others = self.contents.members_with_target(target).iter().filter(|(other, _)| other == service);
        let mut ids: Vec<MemberId> = others.map(|(_, id)| id.clone()).collect();
        ids.extend(id.filter(|id| !ids.contains(id)));
        let found: Vec<usize> = ids.iter().filter_map(|id| self.member(service, id)).collect();
        if !found.is_empty() || target.is_within(&self.contents.settings().origin) {
            return found;
        }
        // An order may have given it any id; targets outside of the zone are listed nowhere.
        let is_such = |member: &&Member| member.registration.target == *target && member.registration.port == port;
        let others = self.table.members(service).map(|(_, member)| member).filter(is_such);
        let ids: Vec<MemberId> = others.map(|member| member.id.clone()).collect();
        ids.iter().filter_map(|id| self.member(service, id)).collect()
    }

    /// The members that a host name's addresses belong to: those with that id below the host name of their service, and
    /// those that registered the name as their target.
    pub(super) fn members_at(&mut self, name: &Name) -> Vec<usize> {
        let mut keys: Vec<(Name, MemberId)> = self.contents.members_with_target(name).to_vec();
        if let (Some(host), Ok(id)) = (name.parent(), MemberId::from_label(name.first_label())) {
            keys.extend(self.contents.services_at_host(&host).iter().map(|service| (service.clone(), id.clone())));
        }
        let mut found: Vec<usize> = keys.iter().filter_map(|(service, id)| self.member(service, id)).collect();
        for &at in self.hosted.get(name).into_iter().flatten() {
            let draft = &self.members[at];
            // A target may have been given up in the meantime; a host name stays.
            let is_own = name.first_label() == draft.id.as_str().as_bytes() || draft.registration.target == *name;
            if draft.has_srv && is_own {
                found.push(at);
            }
        }
        found.retain(|&at| self.members[at].exists());
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether a name is the member's own host name, and not just the target that it chose.
    pub(super) fn is_own_host(&self, at: usize, name: &Name) -> bool {
        let draft = &self.members[at];
        name.first_label() == draft.id.as_str().as_bytes()
            && self
                .contents
                .layout(&draft.service)
                .is_some_and(|layout| name.parent_wire() == Some(layout.host.as_wire()))
    }

    /// The leased records at a name, copied in.
    pub(super) fn leased_at(&mut self, name: &Name) -> &mut Vec<LeasedDraft> {
        if !self.leased.contains_key(name) {
            let copies = self.table.leased(name).map(|(index, record)| LeasedDraft {
                before: Some((index, record.clone())),
                name: name.clone(),
                rtype: record.rtype,
                ttl: record.ttl,
                rdata: record.rdata.clone(),
                owner: record.owner.clone(),
                deleted: false,
                added: false,
            });
            self.leased.insert(name.clone(), copies.collect());
            self.leased_order.push(name.clone());
        }
        self.leased.get_mut(name).expect("inserted above")
    }

    /// Addresses of a host without a member; those held from before are copied in if `may_take` says so of their owner.
    pub(super) fn host_at(&mut self, name: &Name, may_take: impl FnOnce(&Owner) -> bool) -> &mut HostDraft {
        if !self.hosts.contains_key(name) {
            let held = self.table.held(name).filter(|(_, held)| may_take(&held.owner));
            let addresses = held.map_or(Vec::new(), |(_, held)| held.addresses.to_vec());
            self.hosts.insert(name.clone(), HostDraft { addresses, added: false });
            self.host_order.push(name.clone());
        }
        self.hosts.get_mut(name).expect("inserted above")
    }
}

/// The item of a member draft.
pub(super) fn member_item(draft: &MemberDraft, lease: crate::base::Lease, state: crate::membership::State) -> Item {
    Item::Member(Member {
        service: draft.service.clone(),
        id: draft.id.clone(),
        registration: match &draft.before {
            // Unchanged registrations stay shared.
            Some((_, before)) if *before.registration == draft.registration => before.registration.clone(),
            _ => Arc::new(draft.registration.clone()),
        },
        owner: draft.owner.clone(),
        lease,
        state,
        decided: draft.before.as_ref().map_or_else(Decided::default, |(_, before)| before.decided),
    })
}
