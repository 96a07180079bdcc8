//! What the zone file decides about a zone's records; part of the stream of commits.

use serde::{Deserialize, Serialize};

use crate::base::{Name, RecordType, Serial, Ttl};

use super::rrset::{Record, Rrset};

/// A zone's own settings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The apex.
    pub origin: Name,
    /// TTL of every derived record.
    pub ttl: Ttl,
    /// MINIMUM of the SOA: how long a negative answer may be cached (RFC 2308 §5).
    pub negative_ttl: Ttl,
    /// TTL of the SOA: the same, but where the zone is a copy of another server's.
    pub soa_ttl: Ttl,
    /// MNAME: the primary name server.
    pub primary: Name,
    /// RNAME: the mailbox of the person in charge.
    pub contact: Name,
    /// REFRESH, in seconds.
    pub refresh: u32,
    /// RETRY, in seconds.
    pub retry: u32,
    /// EXPIRE, in seconds.
    pub expire: u32,
    /// Services that the configuration names: they are known even while they have nobody.
    pub services: Vec<ServiceSettings>,
}

impl Settings {
    /// The SOA record with a serial (RFC 1035 §3.3.13).
    pub fn soa(&self, serial: Serial) -> Record {
        let mut rdata = Vec::with_capacity(self.primary.as_wire().len() + self.contact.as_wire().len() + 20);
        rdata.extend_from_slice(self.primary.as_wire());
        rdata.extend_from_slice(self.contact.as_wire());
        for word in [serial.0, self.refresh, self.retry, self.expire, self.negative_ttl.0] {
            rdata.extend_from_slice(&word.to_be_bytes());
        }
        let owner = self.origin.clone();
        Record { owner, rtype: RecordType::SOA, ttl: self.soa_ttl, rdata: rdata.into() }
    }

    /// Whether a service has slots.
    pub fn has_slots(&self, service: &Name) -> bool {
        self.services.iter().any(|entry| entry.slots && entry.service == *service)
    }

    /// Whether the SOA record shows the same, serial apart.
    pub fn same_soa(&self, other: &Settings) -> bool {
        let shown = |settings: &Settings| {
            let Settings { origin, negative_ttl, soa_ttl, primary, contact, refresh, retry, expire, .. } =
                settings.clone();
            (origin, [negative_ttl, soa_ttl], primary, contact, [refresh, retry, expire])
        };
        shown(self) == shown(other)
    }
}

/// The serial of a SOA record: the first of the five words behind the two names (RFC 1035 §3.3.13).
pub fn serial_of(soa: &Record) -> Serial {
    let words = soa.rdata.last_chunk::<20>().expect("the data of a SOA record are checked where it comes in");
    Serial(u32::from_be_bytes([words[0], words[1], words[2], words[3]]))
}

/// A `[[service]]` entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// The SRV owner.
    pub service: Name,
    /// Where the address set stands.
    pub host_name: HostName,
    /// Whether the service is announced by DNS-SD (RFC 6763).
    pub dns_sd: bool,
    /// Whether its members have slots.
    pub slots: bool,
}

impl ServiceSettings {
    /// A service that is named and has the defaults.
    pub fn of(service: Name) -> ServiceSettings {
        ServiceSettings { service, host_name: HostName::Default, dns_sd: false, slots: false }
    }
}

/// The `host-name` of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HostName {
    /// The label without its underscore: `memcached` for `_memcached._tcp`.
    Default,
    /// Another label.
    Label(Box<[u8]>),
    /// `""`: no address set is published; members' names use the default label.
    Unpublished,
}

/// The static records at one name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StaticNode {
    /// The owner.
    pub name: Name,
    /// Its RRsets.
    pub rrsets: Vec<Rrset>,
}
