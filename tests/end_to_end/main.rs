//! The server as its users meet it: the real binary, over sockets, asked and fed by the field's own programs.
//!
//! One binary for all areas, so that everything runs in parallel. Every test has a server, a folder and ports of its own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "all of this is test code: it fails by panicking, and prints what it measured"
)]

mod abuse;
mod agent;
mod answers;
mod cli;
mod conformance;
mod consumers;
mod delegation;
mod disk;
mod durability;
mod first_epoch;
mod follower;
mod generators;
mod hostile;
mod http;
mod large;
mod leases;
#[expect(dead_code, reason = "the bench needs more of it")]
#[path = "../../benches/peers/load/mod.rs"]
mod load;
mod notify;
mod peers;
mod policy;
mod reload;
mod secondaries;
mod sources;
mod stalls;
#[path = "../support/mod.rs"]
mod support;
mod tcp;
mod tls;
mod transfers;
mod tsig;
mod updates;
