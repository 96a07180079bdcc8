//! A and AAAA records of members.

use std::net::IpAddr;

use crate::base::RecordType;
use crate::zone::rrset::Rdata;

/// The type and data of an address.
pub fn rdata(address: &IpAddr) -> (RecordType, Rdata) {
    match address {
        IpAddr::V4(v4) => (RecordType::A, v4.octets().as_slice().into()),
        IpAddr::V6(v6) => (RecordType::AAAA, v6.octets().as_slice().into()),
    }
}

/// The address in A or AAAA data.
pub fn address(rtype: RecordType, rdata: &[u8]) -> Option<IpAddr> {
    match rtype {
        RecordType::A => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
        RecordType::AAAA => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
        _ => None,
    }
}
