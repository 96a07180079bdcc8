//! Update messages for tests, built octet by octet and signed by the letter of RFC 8945, without the code under test.

use ring::hmac;
use sha2::{Digest as _, Sha256};

use crate::base::{Name, RecordType};

const IN: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The id of a member whose target is not below its service's host name.
pub(crate) fn hashed_id(label: &str, target: &str, port: u16) -> String {
    let hash = Sha256::digest(format!("{target}:{port}"));
    format!("{label}-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}

/// Data as written in a master file, of the few types that the tests use.
pub(crate) fn rdata(rtype: RecordType, text: &str) -> Vec<u8> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<u16>().unwrap().to_be_bytes().to_vec();
    match rtype {
        RecordType::A => words[0].parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec(),
        RecordType::AAAA => words[0].parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec(),
        RecordType::SRV => [number(0), number(1), number(2), name(words[3]).as_wire().to_vec()].concat(),
        RecordType::MX => [number(0), name(words[1]).as_wire().to_vec()].concat(),
        RecordType::NS | RecordType::CNAME | RecordType::DNAME | RecordType::PTR => name(words[0]).as_wire().to_vec(),
        RecordType::TXT => {
            words.iter().flat_map(|word| [&[u8::try_from(word.len()).unwrap()], word.as_bytes()].concat()).collect()
        }
        RecordType::SOA => [
            name(words[0]).as_wire(),
            name(words[1]).as_wire(),
            &(2..7).flat_map(|at| words[at].parse::<u32>().unwrap().to_be_bytes()).collect::<Vec<u8>>(),
        ]
        .concat(),
        _ => text.as_bytes().to_vec(),
    }
}

/// An update under way.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    zone: Name,
    id: u16,
    ztype: u16,
    prerequisites: Vec<Vec<u8>>,
    changes: Vec<Vec<u8>>,
    options: Option<Vec<u8>>,
}

fn record(owner: &str, rtype: RecordType, class: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut octets = name(owner).as_wire().to_vec();
    octets.extend_from_slice(&rtype.0.to_be_bytes());
    octets.extend_from_slice(&class.to_be_bytes());
    octets.extend_from_slice(&ttl.to_be_bytes());
    octets.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
    octets.extend_from_slice(rdata);
    octets
}

/// Splits `owner TYPE data…`.
fn parts(text: &str) -> (&str, RecordType, Vec<u8>) {
    let mut words = text.splitn(3, ' ');
    let (owner, rtype) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
    (owner, rtype, rdata(rtype, words.next().unwrap_or("")))
}

impl Update {
    pub(crate) fn new(zone: &str) -> Update {
        Update { zone: name(zone), id: 7, ztype: 6, prerequisites: Vec::new(), changes: Vec::new(), options: None }
    }

    pub(crate) fn id(mut self, id: u16) -> Update {
        self.id = id;
        self
    }

    pub(crate) fn ztype(mut self, ztype: u16) -> Update {
        self.ztype = ztype;
        self
    }

    pub(crate) fn add(self, text: &str) -> Update {
        self.add_with_ttl(300, text)
    }

    pub(crate) fn add_with_ttl(mut self, ttl: u32, text: &str) -> Update {
        let (owner, rtype, rdata) = parts(text);
        self.changes.push(record(owner, rtype, IN, ttl, &rdata));
        self
    }

    pub(crate) fn delete_record(mut self, text: &str) -> Update {
        let (owner, rtype, rdata) = parts(text);
        self.changes.push(record(owner, rtype, NONE, 0, &rdata));
        self
    }

    pub(crate) fn delete_rrset(mut self, owner: &str, rtype: &str) -> Update {
        self.changes.push(record(owner, rtype.parse().unwrap(), ANY, 0, &[]));
        self
    }

    pub(crate) fn delete_name(mut self, owner: &str) -> Update {
        self.changes.push(record(owner, RecordType::ANY, ANY, 0, &[]));
        self
    }

    pub(crate) fn raw_change(mut self, owner: &str, rtype: u16, class: u16, ttl: u32, rdata: &[u8]) -> Update {
        self.changes.push(record(owner, RecordType(rtype), class, ttl, rdata));
        self
    }

    pub(crate) fn in_use(mut self, owner: &str) -> Update {
        self.prerequisites.push(record(owner, RecordType::ANY, ANY, 0, &[]));
        self
    }

    pub(crate) fn not_in_use(mut self, owner: &str) -> Update {
        self.prerequisites.push(record(owner, RecordType::ANY, NONE, 0, &[]));
        self
    }

    pub(crate) fn exists(mut self, owner: &str, rtype: &str) -> Update {
        self.prerequisites.push(record(owner, rtype.parse().unwrap(), ANY, 0, &[]));
        self
    }

    pub(crate) fn exists_not(mut self, owner: &str, rtype: &str) -> Update {
        self.prerequisites.push(record(owner, rtype.parse().unwrap(), NONE, 0, &[]));
        self
    }

    pub(crate) fn equals(mut self, text: &str) -> Update {
        let (owner, rtype, rdata) = parts(text);
        self.prerequisites.push(record(owner, rtype, IN, 0, &rdata));
        self
    }

    pub(crate) fn raw_prerequisite(mut self, owner: &str, rtype: u16, class: u16, ttl: u32, rdata: &[u8]) -> Update {
        self.prerequisites.push(record(owner, RecordType(rtype), class, ttl, rdata));
        self
    }

    /// EDNS without options.
    pub(crate) fn edns(mut self) -> Update {
        self.options = Some(Vec::new());
        self
    }

    pub(crate) fn lease(mut self, lease: u32) -> Update {
        self.options = Some([&[0, 2, 0, 4], lease.to_be_bytes().as_slice()].concat());
        self
    }

    pub(crate) fn leases(mut self, lease: u32, key_lease: u32) -> Update {
        self.options =
            Some([&[0, 2, 0, 8], lease.to_be_bytes().as_slice(), key_lease.to_be_bytes().as_slice()].concat());
        self
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let count = |records: &[Vec<u8>]| u16::try_from(records.len()).unwrap().to_be_bytes();
        let mut octets = self.id.to_be_bytes().to_vec();
        octets.extend_from_slice(&[0x28, 0, 0, 1]);
        octets.extend_from_slice(&count(&self.prerequisites));
        octets.extend_from_slice(&count(&self.changes));
        octets.extend_from_slice(&[0, u8::from(self.options.is_some())]);
        octets.extend_from_slice(self.zone.as_wire());
        octets.extend_from_slice(&self.ztype.to_be_bytes());
        octets.extend_from_slice(&IN.to_be_bytes());
        octets.extend(self.prerequisites.concat());
        octets.extend(self.changes.concat());
        if let Some(options) = &self.options {
            octets.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0]);
            octets.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
            octets.extend_from_slice(options);
        }
        octets
    }

    /// Signed with hmac-sha256 at this second.
    pub(crate) fn signed(&self, key: &str, secret: &[u8], time: u64) -> Vec<u8> {
        sign(self.octets(), key, secret, time, 300)
    }
}

/// Signs a request with hmac-sha256 (RFC 8945 §4.3).
pub(crate) fn sign(mut message: Vec<u8>, key: &str, secret: &[u8], time: u64, fudge: u16) -> Vec<u8> {
    let algorithm = name("hmac-sha256.");
    let mut tbs = message.clone();
    tbs.extend_from_slice(name(key).as_wire());
    tbs.extend_from_slice(&[0, 255, 0, 0, 0, 0]);
    tbs.extend_from_slice(algorithm.as_wire());
    let timers = [&time.to_be_bytes()[2..], &fudge.to_be_bytes()].concat();
    tbs.extend_from_slice(&timers);
    tbs.extend_from_slice(&[0; 4]);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &tbs);
    let rdata = [algorithm.as_wire(), &timers, &[0, 32], mac.as_ref(), &message[..2], &[0; 4]].concat();
    message.extend(record(key, RecordType::TSIG, ANY, 0, &rdata));
    let additional = u16::from_be_bytes([message[10], message[11]]) + 1;
    message[10..12].copy_from_slice(&additional.to_be_bytes());
    message
}
