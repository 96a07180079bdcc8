//! The published members of one service, and how many octets their records take.
//!
//! The count is kept as members come and go, so that whether one more fits costs no walk over the others.

use std::ops::Deref;

use crate::base::limits::RECORD_OCTETS;
use crate::base::{Name, RecordType, SeededMap};
use crate::membership::{MemberId, Registration, Roster};

use super::change::{PublishedMember, Standing};
use super::layout::Layout;

/// Octets of the sets that members in service make together: those of one member, or the sum over all. Equal records
/// count each, though the first alone is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Octets {
    /// The SRV set.
    pub(super) srv: usize,
    /// The instances for DNS-SD, whether or not the service is announced.
    pub(super) ptr: usize,
    /// The address set.
    pub(super) addresses: AddressOctets,
}

/// Octets of addresses, by family.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct AddressOctets {
    pub(super) a: usize,
    pub(super) aaaa: usize,
}

impl AddressOctets {
    /// What a member's addresses take at one name.
    pub(super) fn of(registration: &Registration) -> AddressOctets {
        let aaaa = registration.addresses.iter().filter(|address| address.is_ipv6()).count();
        let a = registration.addresses.len() - aaaa;
        AddressOctets { a: a * (RECORD_OCTETS + 4), aaaa: aaaa * (RECORD_OCTETS + 16) }
    }

    /// Those of one type; none of a type that is no address.
    pub(super) fn at(self, rtype: RecordType) -> usize {
        match rtype {
            RecordType::A => self.a,
            RecordType::AAAA => self.aaaa,
            _ => 0,
        }
    }
}

impl Octets {
    /// What one member adds; nothing while it isn't in service.
    pub(super) fn of(layout: &Layout, service: &Name, id: &MemberId, member: &PublishedMember) -> Octets {
        // What is hidden comes back by time alone.
        if member.standing == Standing::Leaving {
            return Octets::default();
        }
        let own = member.registration.target.as_wire().len();
        let target = if layout.slots {
            // `s0007`, and its length octet; ten digits at most. Who has none yet gets one by time alone.
            let digits = if member.slot.is_none_or(|number| number < 10_000) { 6 } else { 12 };
            own.max(layout.host.as_wire().len() + digits)
        } else {
            own
        };
        Octets {
            srv: RECORD_OCTETS + 6 + target,
            ptr: RECORD_OCTETS + 1 + id.as_str().len() + service.as_wire().len(),
            addresses: AddressOctets::of(&member.registration),
        }
    }

    fn add(&mut self, other: Octets) {
        self.srv += other.srv;
        self.ptr += other.ptr;
        self.addresses.a += other.addresses.a;
        self.addresses.aaaa += other.addresses.aaaa;
    }

    fn take(&mut self, other: Octets) {
        self.srv -= other.srv;
        self.ptr -= other.ptr;
        self.addresses.a -= other.addresses.a;
        self.addresses.aaaa -= other.addresses.aaaa;
    }
}

/// The members by id. Reads as the roster that it is; edits keep the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    roster: Roster<PublishedMember>,
    octets: Octets,
    /// Who has which slot.
    slots: SeededMap<u32, MemberId>,
}

impl Members {
    /// What all of them take.
    pub(super) fn octets(&self) -> Octets {
        self.octets
    }

    /// Counts anew, for a service whose layout has changed.
    pub(super) fn reweigh(&mut self, layout: &Layout, service: &Name) {
        let mut octets = Octets::default();
        self.roster.iter().for_each(|(id, member)| octets.add(Octets::of(layout, service, id, member)));
        self.octets = octets;
    }

    /// The member with a slot.
    pub(super) fn in_slot(&self, number: u32) -> Option<(&MemberId, &PublishedMember)> {
        let id = self.slots.get(&number)?;
        Some((id, self.roster.get(id.as_str())?))
    }

    /// All in the order in which they are published: by slot, and those without one by id.
    pub(super) fn in_order(&self, layout: &Layout) -> Vec<(&MemberId, &PublishedMember)> {
        let mut members: Vec<(&MemberId, &PublishedMember)> = self.roster.iter().collect();
        if layout.slots {
            members.sort_by_key(|(_, member)| (member.slot.is_none(), member.slot));
        }
        members
    }

    /// Puts a member of this service, or takes it out; returns what was there.
    pub(super) fn set(
        &mut self,
        layout: &Layout,
        service: &Name,
        id: &MemberId,
        member: Option<&PublishedMember>,
    ) -> Option<PublishedMember> {
        let before = match member {
            Some(member) => {
                self.octets.add(Octets::of(layout, service, id, member));
                self.roster.insert(id.clone(), member.clone())
            }
            None => self.roster.remove(id.as_str()),
        };
        if let Some(before) = &before {
            self.octets.take(Octets::of(layout, service, id, before));
            // Another may have taken the slot before this one gave it up.
            if let Some(number) = before.slot.filter(|number| self.slots.get(number) == Some(id)) {
                self.slots.remove(&number);
            }
        }
        if let Some(number) = member.and_then(|member| member.slot) {
            self.slots.insert(number, id.clone());
        }
        before
    }
}

impl Deref for Members {
    type Target = Roster<PublishedMember>;

    fn deref(&self) -> &Roster<PublishedMember> {
        &self.roster
    }
}
