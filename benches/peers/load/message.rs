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
/// The EDNS option COOKIE (RFC 7873 §4).
const COOKIE: u16 = 10;
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

/// Puts the COOKIE option into the OPT record that a message ends with, which has none yet.
pub(crate) fn add_cookie(message: &mut Vec<u8>, cookie: &[u8]) {
    let octets = cookie.len() as u16;
    message.truncate(message.len() - 2);
    for number in [octets + 4, COOKIE, octets] {
        message.extend(number.to_be_bytes());
    }
    message.extend(cookie);
}

/// What an answer has in the COOKIE option: the client's cookie and the server's.
pub(crate) fn cookie(answer: &[u8]) -> Option<&[u8]> {
    let (_, mut options) = records(answer).find(|(rtype, _)| *rtype == OPT)?;
    while let Some((&[high, low, octets @ ..], rest)) = options.split_first_chunk::<4>() {
        let (data, rest) = rest.split_at_checked(u16::from_be_bytes(octets).into())?;
        if u16::from_be_bytes([high, low]) == COOKIE {
            return Some(data);
        }
        options = rest;
    }
    None
}

/// The serial of an answer's SOA record: what stands before its last four numbers.
pub(crate) fn serial(answer: &[u8]) -> Option<u32> {
    let (_, rdata) = records(answer).find(|(rtype, _)| *rtype == SOA)?;
    let serial = rdata.get(rdata.len().checked_sub(20)?..)?.first_chunk()?;
    Some(u32::from_be_bytes(*serial))
}

/// Types and data of the records of an answer to one question, as far as they can be read.
fn records(answer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut at = behind_name(answer, 12).map_or(answer.len(), |end| end + 4);
    std::iter::from_fn(move || {
        let fixed = behind_name(answer, at)?;
        let &[high, low, _, _, _, _, _, _, ref octets @ ..] = answer.get(fixed..)?.first_chunk::<10>()?;
        let rdata = fixed + 10;
        at = rdata + usize::from(u16::from_be_bytes(*octets));
        Some((u16::from_be_bytes([high, low]), answer.get(rdata..at)?))
    })
}

/// Where a name ends that begins at a place.
fn behind_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length < 0xc0 => at += 1 + usize::from(length),
            _ => return Some(at + 2),
        }
    }
}

/// Takes a message for this slot: a copy of it with the slot's id.
pub(crate) fn copy_with_id(to: &mut Vec<u8>, message: &[u8], id: u16) {
    to.clear();
    to.extend_from_slice(message);
    to[..2].copy_from_slice(&id.to_be_bytes());
}
