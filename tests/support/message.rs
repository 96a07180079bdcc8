//! Messages as octets. Written here rather than by a codec, so that tests say exactly what is sent, odd cases included;
//! answers are read by hickory-proto.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use super::ZONE;

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
pub(crate) const ANY: u16 = 255;

pub(crate) const IN: u16 = 1;
pub(crate) const CLASS_NONE: u16 = 254;
pub(crate) const CLASS_ANY: u16 = 255;

/// A message id that no other message of this process has, until they wrap.
pub(crate) fn next_id() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A name on the wire, absolute and in the case as written.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets
}

/// A record.
pub(crate) fn record(owner: &str, rtype: u16, class: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut octets = name(owner);
    octets.extend(rtype.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets.extend(ttl.to_be_bytes());
    octets.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
    octets.extend_from_slice(rdata);
    octets
}

/// An OPT record with options as octets.
pub(crate) fn opt(size: u16, version: u8, options: &[u8]) -> Vec<u8> {
    record("", 41, size, u32::from(version) << 16, options)
}

/// An EDNS option.
pub(crate) fn option(code: u16, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
}

/// A header with these flags and counts.
pub(crate) fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [id, flags, counts[0], counts[1], counts[2], counts[3]].into_iter().flat_map(u16::to_be_bytes).collect()
}

/// A question.
pub(crate) fn question(owner: &str, qtype: u16, class: u16) -> Vec<u8> {
    [&name(owner)[..], &qtype.to_be_bytes(), &class.to_be_bytes()].concat()
}

/// A query without EDNS.
pub(crate) fn query(owner: &str, qtype: u16) -> Vec<u8> {
    [header(next_id(), 0, [1, 0, 0, 0]), question(owner, qtype, IN)].concat()
}

/// A query with EDNS.
pub(crate) fn edns_query(owner: &str, qtype: u16, size: u16) -> Vec<u8> {
    [header(next_id(), 0, [1, 0, 0, 1]), question(owner, qtype, IN), opt(size, 0, &[])].concat()
}

/// SRV record data.
pub(crate) fn srv(port: u16, target: &str) -> Vec<u8> {
    [&0u16.to_be_bytes()[..], &256u16.to_be_bytes(), &port.to_be_bytes(), &name(target)].concat()
}

/// The type and record data of an address.
pub(crate) fn address(address: &str) -> (u16, Vec<u8>) {
    match address.parse().unwrap() {
        IpAddr::V4(address) => (A, address.octets().to_vec()),
        IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
    }
}

/// TXT record data.
pub(crate) fn txt(strings: &[&str]) -> Vec<u8> {
    strings.iter().flat_map(|text| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()).collect()
}

/// An update under way (RFC 2136 §2).
#[derive(Clone, Debug)]
pub(crate) struct Update {
    zone: String,
    prerequisites: Vec<Vec<u8>>,
    changes: Vec<Vec<u8>>,
    options: Option<Vec<u8>>,
}

impl Update {
    /// An update of the tests' zone, with an OPT record.
    pub(crate) fn new() -> Update {
        Update::of_zone(ZONE)
    }

    pub(crate) fn of_zone(zone: &str) -> Update {
        Update { zone: zone.to_owned(), prerequisites: Vec::new(), changes: Vec::new(), options: Some(Vec::new()) }
    }

    /// The registration of a member whose host stands at its usual place: SRV and address.
    pub(crate) fn member(service: &str, id: &str, host_address: &str) -> Update {
        Update::new().and_member(service, id, host_address)
    }

    pub(crate) fn and_member(self, service: &str, id: &str, host_address: &str) -> Update {
        let host = host_of(service, id);
        let (rtype, rdata) = address(host_address);
        self.add(service, SRV, 5, &srv(11211, &host)).add(&host, rtype, 5, &rdata)
    }

    pub(crate) fn add(mut self, owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Update {
        self.changes.push(record(owner, rtype, IN, ttl, rdata));
        self
    }

    pub(crate) fn delete_record(mut self, owner: &str, rtype: u16, rdata: &[u8]) -> Update {
        self.changes.push(record(owner, rtype, CLASS_NONE, 0, rdata));
        self
    }

    pub(crate) fn delete_rrset(mut self, owner: &str, rtype: u16) -> Update {
        self.changes.push(record(owner, rtype, CLASS_ANY, 0, &[]));
        self
    }

    pub(crate) fn delete_name(self, owner: &str) -> Update {
        self.delete_rrset(owner, ANY)
    }

    /// A prerequisite as it stands on the wire (RFC 2136 §2.4); its TTL is 0.
    pub(crate) fn require(mut self, owner: &str, rtype: u16, class: u16, rdata: &[u8]) -> Update {
        self.prerequisites.push(record(owner, rtype, class, 0, rdata));
        self
    }

    /// Update Lease in the form of 4 octets.
    pub(crate) fn lease(self, seconds: u32) -> Update {
        self.lease_option(&seconds.to_be_bytes())
    }

    /// Update Lease with any data.
    pub(crate) fn lease_option(mut self, data: &[u8]) -> Update {
        self.options = Some(option(2, data));
        self
    }

    /// Another EDNS option, behind those before.
    pub(crate) fn edns_option(mut self, code: u16, data: &[u8]) -> Update {
        self.options.get_or_insert_default().extend(option(code, data));
        self
    }

    pub(crate) fn without_edns(mut self) -> Update {
        self.options = None;
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = |records: &[Vec<u8>]| u16::try_from(records.len()).unwrap();
        let counts = [1, count(&self.prerequisites), count(&self.changes), u16::from(self.options.is_some())];
        let mut octets = header(next_id(), 5 << 11, counts);
        octets.extend(question(&self.zone, SOA, IN));
        octets.extend(self.prerequisites.concat());
        octets.extend(self.changes.concat());
        octets.extend(self.options.iter().flat_map(|options| opt(1232, 0, options)));
        octets
    }
}

/// The host name of a service's member: `i-1.memcached.Z`.
pub(crate) fn host_of(service: &str, id: &str) -> String {
    let (label, rest) = service.split_once('.').unwrap();
    let rest = rest.split_once('.').unwrap().1;
    format!("{id}.{}.{rest}", label.trim_start_matches('_'))
}
