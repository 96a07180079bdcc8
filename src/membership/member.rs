//! What is registered: members, leased records, and addresses that wait for their member.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::limits::LABEL_OCTETS;
use crate::base::{Lease, Name, RecordType, Ttl, Wall};

use super::access::Owner;

/// The id of a member within its service: one lower-case LDH label, and not of the form of a slot (`s0007`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct MemberId(Arc<str>);

/// Why a text is no member id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a lower-case label of letters, digits and inner hyphens.
    #[error("a member id is one label of letters, digits and inner hyphens, at most 63 octets")]
    NotLdh,
    /// `s` and four or more digits: such names belong to slots.
    #[error("ids of the form s0000 are names of slots; choose another")]
    SlotForm,
}

impl MemberId {
    /// Checks an id; letters are folded.
    pub fn new(text: &str) -> Result<MemberId, IdError> {
        let ldh = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
        if text.is_empty()
            || text.len() > LABEL_OCTETS
            || !text.bytes().all(ldh)
            || text.starts_with('-')
            || text.ends_with('-')
        {
            return Err(IdError::NotLdh);
        }
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('s') {
            Some(digits) if digits.len() >= 4 && digits.bytes().all(|octet| octet.is_ascii_digit()) => {
                Err(IdError::SlotForm)
            }
            _ => Ok(MemberId(text.into())),
        }
    }

    /// The same from a label on the wire.
    pub fn from_label(label: &[u8]) -> Result<MemberId, IdError> {
        MemberId::new(std::str::from_utf8(label).map_err(|_| IdError::NotLdh)?)
    }

    /// The text, which is also the label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for MemberId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a member said of itself; immutable and shared by all who need it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// The SRV target.
    pub target: Name,
    /// The SRV port.
    pub port: u16,
    /// The SRV priority.
    pub priority: u16,
    /// The SRV weight.
    pub weight: u16,
    /// Its addresses: IPv4 before IPv6, ascending, none twice.
    pub addresses: Box<[IpAddr]>,
    /// Metadata: the character strings of its TXT record.
    pub metadata: Box<[Box<[u8]>]>,
}

/// Puts addresses into their one order: IPv4 before IPv6, ascending, none twice.
pub fn sort_addresses(mut addresses: Vec<IpAddr>) -> Box<[IpAddr]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into()
}

/// Where a member stands. A member that is down is not in the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum State {
    /// Its lease runs.
    Up,
    /// Its lease has ended within the zone's grace; still published.
    Suspect,
    /// It is silent together with too many others, or there would be too few without it: still published, and marked.
    Held,
    /// It came back too often: not published for a while.
    Damped,
    /// It has withdrawn its SRV by an update and keeps its own host record until its lease ends, or it registers its SRV
    /// again.
    Draining,
    /// The same by an order: its heartbeats don't bring it back.
    Drained,
}

impl State {
    /// All of them, each at the place of its number.
    pub const ALL: [State; 6] =
        [State::Up, State::Suspect, State::Held, State::Damped, State::Draining, State::Drained];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Suspect => "suspect",
            State::Held => "held",
            State::Damped => "damped",
            State::Draining | State::Drained => "draining",
        }
    }

    /// Whether a member is out of the answers, but for its own host record.
    pub fn is_draining(self) -> bool {
        matches!(self, State::Draining | State::Drained)
    }

    /// Whether a member is in the answers, unless it waits for a slot.
    pub fn is_published(self) -> bool {
        matches!(self, State::Up | State::Suspect | State::Held)
    }
}

/// What policy decided of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Decided {
    /// Since when it is in its state (that it is suspect is not kept).
    pub since: Wall,
    /// Its slot, in a service with slots.
    pub slot: Option<u32>,
    /// Whether it waits for one, unpublished.
    pub waits: bool,
    /// While it ramps up: how many of [`RAMP_STEPS`] of its weight it has. Zero: all of it.
    pub ramp: u8,
}

/// Steps in which a member reaches its weight.
pub const RAMP_STEPS: u8 = 4;

/// One instance of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The SRV owner.
    pub service: Name,
    /// Its id within the service.
    pub id: MemberId,
    /// What it said of itself.
    pub registration: Arc<Registration>,
    /// Who registered it.
    pub owner: Owner,
    /// The lease that each heartbeat grants.
    pub lease: Lease,
    /// Where it stands.
    pub state: State,
    /// What policy decided of it.
    pub decided: Decided,
}

impl Member {
    /// The weight that is published of it.
    pub fn weight(&self) -> u16 {
        match self.decided.ramp {
            0 => self.registration.weight,
            // A weight of 0 would mean that it is hardly ever chosen (RFC 2782).
            step => match u32::from(self.registration.weight) * u32::from(step) / u32::from(RAMP_STEPS) {
                0 => self.registration.weight.min(1),
                part => u16::try_from(part).unwrap_or(self.registration.weight),
            },
        }
    }
}

/// Any other record registered by an update: held for its lease, without states.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeasedRecord {
    /// The record's owner name.
    pub name: Name,
    /// Its type.
    pub rtype: RecordType,
    /// Its TTL; the same for the whole RRset.
    pub ttl: Ttl,
    /// Its data, canonical.
    pub rdata: Box<[u8]>,
    /// Who registered it.
    pub owner: Owner,
    /// The lease that each heartbeat grants.
    pub lease: Lease,
}

/// Addresses sent before any SRV: kept unpublished for one lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldAddresses {
    /// The host name below a service's host name.
    pub host: Name,
    /// The addresses, sorted.
    pub addresses: Box<[IpAddr]>,
    /// Who sent them.
    pub owner: Owner,
    /// Their lease.
    pub lease: Lease,
}

/// Anything with a lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Item {
    /// A member.
    Member(Member),
    /// A leased record.
    Leased(LeasedRecord),
    /// Addresses that wait for their member.
    Held(HeldAddresses),
}

/// What identifies an item.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Key {
    /// A member by service and id.
    Member(Name, MemberId),
    /// A leased record by owner name, type and data.
    Leased(Name, RecordType, Box<[u8]>),
    /// Held addresses by host name.
    Held(Name),
}

impl Item {
    /// Its key.
    pub fn key(&self) -> Key {
        match self {
            Item::Member(member) => Key::Member(member.service.clone(), member.id.clone()),
            Item::Leased(record) => Key::Leased(record.name.clone(), record.rtype, record.rdata.clone()),
            Item::Held(held) => Key::Held(held.host.clone()),
        }
    }

    /// Its lease.
    pub fn lease(&self) -> Lease {
        match self {
            Item::Member(member) => member.lease,
            Item::Leased(record) => record.lease,
            Item::Held(held) => held.lease,
        }
    }

    pub(super) fn owner_mut(&mut self) -> &mut Owner {
        match self {
            Item::Member(member) => &mut member.owner,
            Item::Leased(record) => &mut record.owner,
            Item::Held(held) => &mut held.owner,
        }
    }

    /// Who registered it.
    pub fn owner(&self) -> &Owner {
        match self {
            Item::Member(member) => &member.owner,
            Item::Leased(record) => &record.owner,
            Item::Held(held) => &held.owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ldh_labels_and_no_slots() {
        assert_eq!(MemberId::new("I-1").unwrap().as_str(), "i-1");
        for bad in ["", "-a", "a-", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert_eq!(MemberId::new(bad), Err(IdError::NotLdh), "{bad}");
        }
        for slot in ["s0000", "S12345"] {
            assert_eq!(MemberId::new(slot), Err(IdError::SlotForm), "{slot}");
        }
        for fine in ["s123", "s0000a", "s"] {
            assert!(MemberId::new(fine).is_ok(), "{fine}");
        }
    }
}
