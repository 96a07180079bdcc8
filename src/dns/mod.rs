//! The protocol, bytes in and bytes out.

pub mod cookie;
pub mod edns;
pub mod identity;
#[cfg(test)]
pub(crate) mod messages;
pub mod notify;
pub mod quick;
pub mod rate;
pub mod reply;
pub mod respond;
pub mod soa;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod transfer;
pub mod tsig;
pub mod update;
pub mod wire;
