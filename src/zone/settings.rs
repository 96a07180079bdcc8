//! What the zone file decides about a zone's records; part of the stream of commits.

use serde::{Deserialize, Serialize};

use crate::base::{Name, Ttl};

use super::rrset::Rrset;

/// A zone's own settings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The apex.
    pub origin: Name,
    /// TTL of every derived record.
    pub ttl: Ttl,
    /// TTL of the SOA and its MINIMUM field: how long a negative answer may be cached (RFC 2308 §5).
    pub negative_ttl: Ttl,
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
    /// Whether the SOA record shows the same, serial apart.
    pub fn same_soa(&self, other: &Settings) -> bool {
        let shown = |settings: &Settings| {
            let Settings { origin, negative_ttl, primary, contact, refresh, retry, expire, .. } = settings.clone();
            (origin, negative_ttl, primary, contact, [refresh, retry, expire])
        };
        shown(self) == shown(other)
    }
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
