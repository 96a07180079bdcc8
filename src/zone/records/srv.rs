//! SRV records of a service (RFC 2782): one per published member, and the static ones at the same owner.

use crate::membership::Registration;
use crate::zone::rrset::Rdata;

/// The data of a member's SRV record as it was registered.
pub fn rdata(registration: &Registration) -> Rdata {
    let target = registration.target.as_wire();
    [&numbers(registration, registration.weight), target].concat().into()
}

/// Their first octets: priority, weight and port. The weight is that which is published.
pub fn numbers(registration: &Registration, weight: u16) -> [u8; 6] {
    let [[p0, p1], [w0, w1], [o0, o1]] = [registration.priority, weight, registration.port].map(u16::to_be_bytes);
    [p0, p1, w0, w1, o0, o1]
}

/// The fields of SRV data: priority, weight, port, target in wire form. `None` for data that are no SRV.
pub fn fields(rdata: &[u8]) -> Option<(u16, u16, u16, &[u8])> {
    let (numbers, target) = rdata.split_at_checked(6)?;
    let number = |at: usize| u16::from_be_bytes([numbers[at], numbers[at + 1]]);
    Some((number(0), number(2), number(4), target))
}
