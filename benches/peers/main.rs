//! Queries and updates beside Knot, NSD, BIND, PowerDNS and the bare limit of the machine's UDP path.
//!
//! A generator by itself, against a server that runs already, which is left as it was:
//!
//! - `cargo bench --bench peers -- load queries address=127.0.0.1:5353 names=NAME,…|fresh [type=SRV|A|AAAA|SOA] [size=1232]
//!   [tcp=yes]`: `fresh` asks for a name that nobody has at each query.
//! - `cargo bench --bench peers -- load registrations address=… [key=NAME:SECRET] [standing=1000] [services=N]
//!   [lease=3600] [--verify]`: members come, and go when `standing` others have come after them.
//! - `cargo bench --bench peers -- load heartbeats address=… [members=10000] …`: members register, and renew their leases in
//!   turn.
//!
//! All take `[zone=svc.example.test] [seconds=3] [window=256] [sockets=4] [rate=N] [core=N] [pid=N] [--json FILE]`. Without a
//! rate the window is kept full; `window=1` has one at a time, whose latencies are how long an acknowledgement takes. With a
//! rate, a latency begins when the message was due. `pid` is the server's, whose CPU time is told too.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]

mod alone;
mod arguments;
mod cases;
mod compare;
#[path = "../support/disk.rs"]
mod disk;
mod load;
mod machine;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod zones;

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let mut arguments = Arguments::of_program();
    let result = match arguments.word().as_deref() {
        None => compare::run(arguments),
        Some("load") => alone::run(arguments),
        Some("limit") => compare::limit(arguments),
        Some(other) => Err(format!("unknown argument: {other}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
