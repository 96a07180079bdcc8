//! Zone transfers, AXFR (RFC 5936) and IXFR (RFC 1995), without sockets: each side is a value that is fed or asked for
//! the messages of one TCP stream.

pub mod incoming;
pub mod outgoing;
