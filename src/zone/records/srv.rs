//! SRV records of a service (RFC 2782): one per published member, and the static ones at the same owner.

use crate::membership::Registration;
use crate::zone::rrset::Rdata;

/// The data of a member's SRV record.
pub fn rdata(registration: &Registration) -> Rdata {
    let target = registration.target.as_wire();
    let mut rdata = Vec::with_capacity(6 + target.len());
    for field in [registration.priority, registration.weight, registration.port] {
        rdata.extend_from_slice(&field.to_be_bytes());
    }
    rdata.extend_from_slice(target);
    rdata.into()
}

/// The fields of SRV data: priority, weight, port, target in wire form. `None` for data that are no SRV.
pub fn fields(rdata: &[u8]) -> Option<(u16, u16, u16, &[u8])> {
    let (numbers, target) = rdata.split_at_checked(6)?;
    let number = |at: usize| u16::from_be_bytes([numbers[at], numbers[at + 1]]);
    Some((number(0), number(2), number(4), target))
}
