//! Messages that benches send: updates as members send them, and queries.

use std::ops::Range;

use livezone::base::Name;

/// The zone that they are about.
pub(crate) const ORIGIN: &str = "svc.example.test.";

/// An update that registers members of a service: an SRV, an A and an AAAA record each.
pub(crate) fn registration(service: u32, members: Range<u32>, port: u16) -> Vec<u8> {
    let mut message = head(members.len() as u16 * 3);
    for member in members {
        let host = wire(&format!("i-{member:04}.cache{service:04}.{ORIGIN}"));
        let mut srv = [0u16, 256, port].iter().flat_map(|field| field.to_be_bytes()).collect::<Vec<u8>>();
        srv.extend(&host);
        let number = service << 16 | member;
        let mut aaaa = vec![0xfd, 0, 0, 0x53, 0, 0, 0, 0, 0, 0, 0, 0];
        aaaa.extend(number.to_be_bytes());
        record(&mut message, &wire(&service_name(service)), 33, 1, &srv);
        record(&mut message, &host, 1, 1, &(0x0a00_0000 | number & 0xff_ffff).to_be_bytes());
        record(&mut message, &host, 28, 1, &aaaa);
    }
    message
}

/// An update that withdraws a member.
pub(crate) fn withdrawal(service: u32, member: u32) -> Vec<u8> {
    let mut message = head(1);
    let mut srv = [0u16, 256, 1].iter().flat_map(|field| field.to_be_bytes()).collect::<Vec<u8>>();
    srv.extend(wire(&format!("i-{member:04}.cache{service:04}.{ORIGIN}")));
    record(&mut message, &wire(&service_name(service)), 33, 254, &srv);
    message
}

/// Adds the Update Lease option, which asks for an hour.
pub(crate) fn lease(mut message: Vec<u8>) -> Vec<u8> {
    message[11] += 1;
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 8, 0, 2, 0, 4, 0, 0, 14, 16]);
    message
}

/// A query with an OPT record, which has a cookie if there is one.
pub(crate) fn query(name: &str, rtype: u16, size: u16, cookie: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    message.extend(wire(name));
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1, 0, 0, 41]);
    message.extend(size.to_be_bytes());
    message.extend([0; 4]);
    let len = cookie.len() as u8;
    match len {
        0 => message.extend([0, 0]),
        _ => message.extend([0, len + 4, 0, 10, 0, len]),
    }
    message.extend(cookie);
    message
}

/// The owner of a service's SRV records.
pub(crate) fn service_name(service: u32) -> String {
    format!("_cache{service:04}._tcp.{ORIGIN}")
}

/// A name in wire form.
pub(crate) fn wire(text: &str) -> Vec<u8> {
    text.parse::<Name>().unwrap().as_wire().to_vec()
}

fn head(updates: u16) -> Vec<u8> {
    let mut message = vec![0, 0, 0x28, 0, 0, 1, 0, 0];
    message.extend(updates.to_be_bytes());
    message.extend([0, 0]);
    message.extend(wire(ORIGIN));
    message.extend([0, 6, 0, 1]);
    message
}

fn record(message: &mut Vec<u8>, owner: &[u8], rtype: u16, class: u16, rdata: &[u8]) {
    message.extend(owner);
    message.extend(rtype.to_be_bytes());
    message.extend(class.to_be_bytes());
    message.extend(if class == 1 { [0, 0, 0, 5] } else { [0; 4] });
    message.extend((rdata.len() as u16).to_be_bytes());
    message.extend(rdata);
}
