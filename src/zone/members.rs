//! The published members of one service, and how many octets their records take.
//!
//! The count is kept as members come and go, so that whether one more fits costs no walk over the others.

use std::ops::Deref;

use crate::base::limits::RECORD_OCTETS;
use crate::base::{Name, RecordType};
use crate::membership::{MemberId, Registration, Roster};

use super::change::PublishedMember;

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
    pub(super) fn of(service: &Name, id: &MemberId, member: &PublishedMember) -> Octets {
        if !member.in_service {
            return Octets::default();
        }
        Octets {
            srv: RECORD_OCTETS + 6 + member.registration.target.as_wire().len(),
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
}

impl Members {
    /// What all of them take.
    pub(super) fn octets(&self) -> Octets {
        self.octets
    }

    /// Puts a member of this service, or takes it out; returns what was there.
    pub(super) fn set(
        &mut self,
        service: &Name,
        id: &MemberId,
        member: Option<&PublishedMember>,
    ) -> Option<PublishedMember> {
        let before = match member {
            Some(member) => {
                self.octets.add(Octets::of(service, id, member));
                self.roster.insert(id.clone(), member.clone())
            }
            None => self.roster.remove(id.as_str()),
        };
        if let Some(before) = &before {
            self.octets.take(Octets::of(service, id, before));
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
