//! Zone transfers: whole zones (AXFR, RFC 5936) and what differs (IXFR, RFC 1995).

pub mod outgoing;
