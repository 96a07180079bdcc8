//! The SOA record behind any question of a zone: as the answer at the apex, and as the authority of negative answers.
//!
//! Every commit moves the serial, so this is the one thing that every commit compiles again. The owner and the names in the
//! data that end in the apex point into the question, where the apex stands at a place that depends on the length of the
//! question name; those pointers are patched in.

use crate::base::{Name, RecordType, Ttl};
use crate::zone::Snapshot;

use super::encode::HEADER;

/// The record, ready to be copied.
#[derive(Clone, Debug)]
pub struct SoaTail {
    origin_len: usize,
    octets: Box<[u8]>,
    /// Where the TTL stands.
    ttl_at: usize,
    /// The record's own, and that of negative answers, which is the smaller of that and MINIMUM (RFC 2308 §3).
    ttls: [Ttl; 2],
    /// Where pointers to the apex go.
    pointers: Vec<usize>,
}

impl SoaTail {
    /// Compiles the SOA of a snapshot.
    pub fn new(snapshot: &Snapshot) -> SoaTail {
        let settings = &snapshot.settings;
        let mut tail = SoaTail {
            origin_len: settings.origin.as_wire().len(),
            octets: Box::default(),
            ttl_at: 0,
            ttls: [settings.soa_ttl, settings.soa_ttl.min(settings.negative_ttl)],
            pointers: Vec::new(),
        };
        let mut octets = Vec::new();
        tail.name(&mut octets, &settings.origin, &settings.origin);
        octets.extend_from_slice(&RecordType::SOA.0.to_be_bytes());
        octets.extend_from_slice(&[0, 1]);
        tail.ttl_at = octets.len();
        octets.extend_from_slice(&settings.soa_ttl.0.to_be_bytes());
        let length_at = octets.len();
        octets.extend_from_slice(&[0, 0]);
        tail.name(&mut octets, &settings.primary, &settings.origin);
        tail.name(&mut octets, &settings.contact, &settings.origin);
        // The five numbers end the data of the uncompressed record.
        let rdata = snapshot.soa().rdata;
        octets.extend_from_slice(&rdata[rdata.len() - 20..]);
        let length = u16::try_from(octets.len() - length_at - 2).expect("two names and 20 octets");
        octets[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        tail.octets = octets.into();
        tail
    }

    fn name(&mut self, octets: &mut Vec<u8>, name: &Name, origin: &Name) {
        let wire = name.as_wire();
        if origin.as_wire().len() > 1 && name.is_within(origin) {
            octets.extend_from_slice(&wire[..wire.len() - origin.as_wire().len()]);
            self.pointers.push(octets.len());
            octets.extend_from_slice(&[0xc0, 0]);
        } else {
            octets.extend_from_slice(wire);
        }
    }

    /// Appends the record as the answer to a question for the apex, `qname`; false if it doesn't fit.
    pub fn write(&self, qname: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        self.write_with(self.ttls[0], qname, limit, out)
    }

    /// Appends the record as the authority of a negative answer to a question for `qname`, which lies within the zone;
    /// false if it doesn't fit.
    pub fn write_negative(&self, qname: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        self.write_with(self.ttls[1], qname, limit, out)
    }

    fn write_with(&self, ttl: Ttl, qname: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        if out.len() + self.octets.len() > limit {
            return false;
        }
        let start = out.len();
        out.extend_from_slice(&self.octets);
        out[start + self.ttl_at..start + self.ttl_at + 4].copy_from_slice(&ttl.0.to_be_bytes());
        let apex = HEADER + qname.len() - self.origin_len;
        let pointer = 0xc000 | u16::try_from(apex).expect("the question stands in the first 300 octets");
        for &at in &self.pointers {
            out[start + at..start + at + 2].copy_from_slice(&pointer.to_be_bytes());
        }
        true
    }
}
