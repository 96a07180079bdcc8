//! Messages, as far as the generators need them.

pub(crate) const A: u16 = 1;
pub(crate) const SOA: u16 = 6;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
pub(crate) const IN: u16 = 1;
/// Deletes a record (RFC 2136 §2.5.4).
pub(crate) const NONE: u16 = 254;
/// Deletes all of a name (RFC 2136 §2.5.3), as a class and as a type.
pub(crate) const ANY: u16 = 255;
const OPT: u16 = 41;
/// Where the first name of a message stands.
const FIRST_NAME: [u8; 2] = [0xc0, 12];

/// A name on the wire.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let mut wire = labels(text);
    wire.push(0);
    wire
}

fn labels(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat()).collect()
}

/// A name below the zone of an update, which is the first name of the message.
pub(crate) fn below_zone(text: &str) -> Vec<u8> {
    [&labels(text)[..], &FIRST_NAME].concat()
}

/// A query with id 0; with a size in an OPT record, unless that is 0.
pub(crate) fn query(owner: &str, qtype: u16, size: u16) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(name(owner));
    message.extend(qtype.to_be_bytes());
    message.extend(IN.to_be_bytes());
    if size > 0 {
        options(&mut message, size, &[]);
    }
    message
}

/// An update of a zone with id 0 and nothing in it (RFC 2136 §2).
pub(crate) fn update(zone: &str) -> Vec<u8> {
    let mut message = vec![0, 0, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(name(zone));
    message.extend(SOA.to_be_bytes());
    message.extend(IN.to_be_bytes());
    message
}

/// Appends a record of the update section.
pub(crate) fn change(message: &mut Vec<u8>, owner: &[u8], rtype: u16, class: u16, ttl: u32, rdata: &[u8]) {
    record(message, owner, rtype, class, ttl, rdata);
    count(message, 8);
}

/// Appends an OPT record.
pub(crate) fn options(message: &mut Vec<u8>, size: u16, options: &[u8]) {
    record(message, &[0], OPT, size, 0, options);
    count(message, 10);
}

fn record(message: &mut Vec<u8>, owner: &[u8], rtype: u16, class: u16, ttl: u32, rdata: &[u8]) {
    message.extend(owner);
    message.extend(rtype.to_be_bytes());
    message.extend(class.to_be_bytes());
    message.extend(ttl.to_be_bytes());
    message.extend((rdata.len() as u16).to_be_bytes());
    message.extend(rdata);
}

/// Counts a record more, at this place of the header.
fn count(message: &mut [u8], at: usize) {
    let count = u16::from_be_bytes([message[at], message[at + 1]]) + 1;
    message[at..at + 2].copy_from_slice(&count.to_be_bytes());
}

/// Takes a message for this slot: a copy of it with the slot's id.
pub(crate) fn copy_with_id(to: &mut Vec<u8>, message: &[u8], id: u16) {
    to.clear();
    to.extend_from_slice(message);
    to[..2].copy_from_slice(&id.to_be_bytes());
}
