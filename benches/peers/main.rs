//! Queries and updates beside Knot, NSD, BIND, PowerDNS and the bare limit of the machine's UDP path.
//!
//! `cargo bench --bench peers -- [cases=srv,a,…] [servers=limit,livezone,Knot,NSD,BIND,PowerDNS] [rounds=5] [seconds=3]
//! [window=256] [small=20x8] [large=2000x50] [members=10000] [folder=DIR] [livezone=PROGRAM] [server-core=0]
//! [generator-core=1] [--verify] [--json FILE]`: all cases ([`cases::CASES`]) at all servers by default. What isn't installed
//! is named and skipped. `small` and `large` are zones, services x members of each; `members` send the heartbeats; `folder` is
//! where the servers' files are, so that updates are measured on the disk that is meant. JSON is a line a run, appended.
//!
//! # Cases
//!
//! - `srv`, `a`, `nxdomain`, `tcp`, `tcp-single`; of the large zone `srv-4096`, `srv-1232`, `a-large`, `nxdomain-large`,
//!   `tcp-large`: queries, and what an answer costs.
//! - `cookies`: `srv` with a valid DNS cookie in each query (RFC 7873), which each server was asked for before. One that gives
//!   none ignores it, and is measured all the same.
//! - `limited`: a flood at a livezone that limits its answers, loopback included, to 1,000 a second: whole answers, those with
//!   TC, what is dropped, and what a query costs; and the same flood with valid cookies, which the limit lets pass. What a
//!   limit allows at once was used up before.
//! - `registrations`, `single`, `heartbeats`, `heartbeats-unsigned`: updates, and what an acknowledgement costs.
//! - `beside`: queries at half of the rate that a server answers at most (*maximum*), first by themselves (*quiet*), then
//!   with 1,000 signed registrations and removals a second (*beside*), both from one thread: latencies, what was lost, and of
//!   livezone what an answer costs the thread that answers. At livezone alone, unless servers are named.
//!
//! # How it measures
//!
//! All servers of a zone run at once, each with one worker, and all on one core; one at a time is loaded, from another core.
//! They have the same zone: livezone's as its members registered it, the others' as `livezone export` writes it. Rounds go
//! over the servers in turn, so that what the machine does meanwhile meets all of them; tables have medians.
//!
//! - *CPU*: user and system time of a server's processes (/proc/PID/stat, in ticks of 10 ms) over the answers. On loopback
//!   the kernel delivers a datagram in its sender's time, so that this has the delivery of answers in it, and not that of
//!   queries.
//! - *limit*: a process that receives a batch, patches the ids into copies of livezone's answer, or of that of the first
//!   server, and sends them; livezone's costs can't be much less. × limit is the ratio of CPU.
//! - *others*: the larger share of either core that neither server nor generator took. Where this is above 5 % the run is
//!   repeated up to three times, and the quietest counts.
//! - *generator*: the share of its core that the generator was at work; at 100 it was the limit itself.
//! - *remarks*: what was lost or sent again is, for most servers, what found the kernel's default receive buffer full; livezone and
//!   the limit ask for more.
//! - *UDP thread*: CPU time of livezone's thread `udp-0` over the answers (schedstat, in nanoseconds). The fewer queries come
//!   in a batch, the more each takes.
//! - *commits*: by how much the SOA serial rose.
//! - *records*: those of the answer, authority and additional sections of the first answer. NSD adds its NS set to each.
//! - Updates are the same octets for all, each signed by itself (hmac-sha256). Servers must accept what they get: one that
//!   refuses heartbeats is left out. BIND, Knot and PowerDNS keep a registration as livezone does, with a sync, and give it
//!   no lease.
//!
//! # Generators
//!
//! A generator by itself, against a server that runs already, which is left as it was:
//!
//! - `cargo bench --bench peers -- load queries address=127.0.0.1:5353 names=NAME,…|fresh|@FILE [type=SRV|A|AAAA|SOA]
//!   [size=1232] [tcp=yes]`: `fresh` asks for a name that nobody has at each query; a file has a name and a type a line.
//! - `cargo bench --bench peers -- load registrations address=… [key=NAME:SECRET] [standing=1000] [services=N]
//!   [lease=3600] [--verify]`: members come, and go when `standing` others have come after them.
//! - `cargo bench --bench peers -- load heartbeats address=… [members=10000] …`: members register, and renew their leases in
//!   turn.
//!
//! All take `[zone=svc.example.test] [seconds=3] [window=256] [sockets=4] [rate=N] [core=N] [pid=N] [--json FILE]`. Without a
//! rate the window is kept full; `window=1` has one at a time, whose latencies are how long an acknowledgement takes. With a
//! rate, a latency begins when the message was due. `pid` is the server's, whose CPU time is told too. A lease of 0 leaves the
//! option out.

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
