//! What a member registers, and how its updates look (RFC 2136, RFC 9664).
//!
//! A renewal has the same octets each time but for its id and signature, so that the server can count it where it comes
//! in. The first registration deletes the host's addresses and the metadata before it adds its own, in one message: what an
//! earlier run left goes, and what is the same doesn't move the serial.

use std::net::IpAddr;

use crate::base::limits::UDP_OCTETS;
use crate::base::{Name, NameError, RecordType};
use crate::dns::edns::OPTION_UPDATE_LEASE;
use crate::dns::wire::{CLASS_ANY, CLASS_IN, CLASS_NONE};
use crate::membership::MemberId;
use crate::zone::records::address;

use super::machine::Order;

/// A member and its names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The zone.
    pub zone: Name,
    /// The owner of the SRV record.
    pub service: Name,
    /// The member's id.
    pub id: MemberId,
    /// The SRV target: `i-1.memcached.Z`.
    pub host: Name,
    /// The name of the metadata: `i-1._memcached._tcp.Z`.
    pub instance: Name,
    /// Where the service listens.
    pub port: u16,
    /// SRV priority.
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Key and value.
    pub metadata: Vec<(String, String)>,
    /// The lease that is asked for, in seconds.
    pub lease: u32,
}

/// The names of a member: its host and its instance. `label` stands for the service's own label without its underscore
/// where the zone gives the service another `host-name`.
pub fn names(service: &Name, label: Option<&str>, id: &MemberId) -> Result<(Name, Name), NameError> {
    let domain = service.parent().and_then(|name| name.parent()).ok_or(NameError::Relative)?;
    let own = service.first_label();
    let label = label.map_or(own.strip_prefix(b"_").unwrap_or(own), str::as_bytes);
    let host = domain.child(label)?.child(id.as_str().as_bytes())?;
    Ok((host, service.child(id.as_str().as_bytes())?))
}

impl Registration {
    /// The update of an order, unsigned. [`Order::Ask`] is none: it is as a renewal here.
    pub fn update(&self, order: Order, id: u16) -> Vec<u8> {
        let mut changes = Vec::new();
        let mut count = 0;
        let mut change = |owner: &Name, rtype: RecordType, class: u16, rdata: &[u8]| {
            count += 1;
            push_record(&mut changes, owner, rtype, class, rdata);
        };
        let class = if order == Order::Drain { CLASS_NONE } else { CLASS_IN };
        // First, since a refusal is about the first record that is not admitted: this one says most.
        change(&self.service, RecordType::SRV, class, &self.srv());
        if order == (Order::Register { anew: true }) {
            for rtype in [RecordType::A, RecordType::AAAA] {
                change(&self.host, rtype, CLASS_ANY, &[]);
            }
            change(&self.instance, RecordType::TXT, CLASS_ANY, &[]);
        }
        for address in &self.addresses {
            let (rtype, rdata) = address::rdata(address);
            change(&self.host, rtype, CLASS_IN, &rdata);
        }
        if matches!(order, Order::Register { .. }) && !self.metadata.is_empty() {
            change(&self.instance, RecordType::TXT, CLASS_IN, &self.txt());
        }
        // RFC 9664 §4: a lease of 0 takes back what the message names.
        let lease = if order == Order::Deregister { 0 } else { self.lease };
        let mut message = Vec::with_capacity(512);
        for word in [id, 5 << 11, 1, 0, count, 1] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        push_question(&mut message, &self.zone, RecordType::SOA);
        message.extend_from_slice(&changes);
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&UDP_OCTETS.to_be_bytes());
        message.extend_from_slice(&[0, 0, 0, 0, 0, 8]);
        message.extend_from_slice(&OPTION_UPDATE_LEASE.to_be_bytes());
        message.extend_from_slice(&4u16.to_be_bytes());
        message.extend_from_slice(&lease.to_be_bytes());
        message
    }

    fn srv(&self) -> Vec<u8> {
        let numbers = [self.priority, self.weight, self.port].map(u16::to_be_bytes).concat();
        [&numbers, self.host.as_wire()].concat()
    }

    fn txt(&self) -> Vec<u8> {
        let strings = self.metadata.iter().map(|(key, value)| format!("{key}={value}"));
        strings
            .flat_map(|text| [&[u8::try_from(text.len()).expect("checked when it was read")], text.as_bytes()].concat())
            .collect()
    }
}

/// A query without EDNS and without RD.
pub fn query(id: u16, name: &Name, rtype: RecordType) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    for word in [id, 0, 1, 0, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    push_question(&mut message, name, rtype);
    message
}

fn push_question(out: &mut Vec<u8>, name: &Name, rtype: RecordType) {
    out.extend_from_slice(name.as_wire());
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
}

/// A record with a TTL of 0 where it is deleted (RFC 2136 §2.5), and one of a second elsewhere: the zone's TTL holds.
fn push_record(out: &mut Vec<u8>, owner: &Name, rtype: RecordType, class: u16, rdata: &[u8]) {
    out.extend_from_slice(owner.as_wire());
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&u32::from(class == CLASS_IN).to_be_bytes());
    out.extend_from_slice(&u16::try_from(rdata.len()).expect("short data").to_be_bytes());
    out.extend_from_slice(rdata);
}

#[cfg(test)]
pub(super) mod tests {
    use hickory_proto::op::{Message, OpCode};
    use hickory_proto::rr::RData;

    use super::*;

    pub(in crate::agent) fn registration() -> Registration {
        let zone: Name = "svc.example.test.".parse().unwrap();
        let service: Name = "_memcached._tcp.svc.example.test.".parse().unwrap();
        let id = MemberId::new("i-1").unwrap();
        let (host, instance) = names(&service, None, &id).unwrap();
        Registration {
            zone,
            service,
            id,
            host,
            instance,
            port: 11211,
            priority: 1,
            weight: 256,
            addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            metadata: vec![("az".to_owned(), "a".to_owned())],
            lease: 15,
        }
    }

    /// Owner, class and type of each change, as another implementation reads them.
    fn changes(order: Order) -> Vec<String> {
        let message = Message::from_vec(&registration().update(order, 7)).unwrap();
        assert_eq!((message.metadata.id, message.metadata.op_code), (7, OpCode::Update));
        assert_eq!(message.queries[0].name().to_ascii(), "svc.example.test.");
        let text = |record: &hickory_proto::rr::Record| {
            let data = match &record.data {
                RData::Update0(_) => String::new(),
                data => format!(" {data}"),
            };
            format!("{} {} {}{data}", record.name, record.dns_class, record.record_type())
        };
        message.authorities.iter().map(text).collect()
    }

    #[test]
    fn the_first_registration_replaces_what_an_earlier_run_left() {
        assert_eq!(
            changes(Order::Register { anew: true }),
            [
                "_memcached._tcp.svc.example.test. IN SRV 1 256 11211 i-1.memcached.svc.example.test.",
                "i-1.memcached.svc.example.test. ANY A",
                "i-1.memcached.svc.example.test. ANY AAAA",
                "i-1._memcached._tcp.svc.example.test. ANY TXT",
                "i-1.memcached.svc.example.test. IN A 192.0.2.7",
                "i-1.memcached.svc.example.test. IN AAAA 2001:db8::7",
                "i-1._memcached._tcp.svc.example.test. IN TXT az=a",
            ]
        );
    }

    #[test]
    fn renewals_add_draining_deletes_the_srv_record_and_a_lease_of_0_withdraws() {
        let renewal = changes(Order::Register { anew: false });
        let first = changes(Order::Register { anew: true });
        assert_eq!((&renewal[0], &renewal[1..]), (&first[0], &first[4..]));
        let draining = changes(Order::Drain);
        assert_eq!(
            draining,
            [
                "_memcached._tcp.svc.example.test. NONE SRV 1 256 11211 i-1.memcached.svc.example.test.",
                "i-1.memcached.svc.example.test. IN A 192.0.2.7",
                "i-1.memcached.svc.example.test. IN AAAA 2001:db8::7",
            ]
        );
        assert_eq!(changes(Order::Deregister), renewal[..3]);
        let lease = |order| registration().update(order, 7).last_chunk::<4>().unwrap().to_owned();
        assert_eq!(lease(Order::Register { anew: false }), [0, 0, 0, 15]);
        assert_eq!(lease(Order::Drain), [0, 0, 0, 15]);
        assert_eq!(lease(Order::Deregister), [0, 0, 0, 0]);
    }

    #[test]
    fn names_follow_the_service_however_deep_and_the_zone_s_host_name() {
        let service: Name = "_memcached._tcp.east.z.".parse().unwrap();
        let id = MemberId::new("I-9").unwrap();
        let texts = |label| {
            let (host, instance) = names(&service, label, &id).unwrap();
            (host.to_string(), instance.to_string())
        };
        assert_eq!(texts(None), ("i-9.memcached.east.z.".to_owned(), "i-9._memcached._tcp.east.z.".to_owned()));
        assert_eq!(texts(Some("cache")).0, "i-9.cache.east.z.");
    }
}
