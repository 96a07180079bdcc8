//! Zone transfers and NOTIFY, beside Knot, BIND and NSD.
//!
//! `cargo bench --bench transfers -- [SECTION…] [rounds=N] [paced=N] [services=N] [each=N] [livezone=PROGRAM]
//! [only=livezone,Knot]`, where sections are `axfr`, `memory`,
//! `queries`, `latency` and `ixfr`; all of them by default. Needs `knotd`, `named` and `nsd` on the path. All servers are
//! on loopback, with their files in a scratch folder, and have the same zone: livezone's as its members registered it, the
//! others' as `livezone export` writes it. Tables are in Markdown.
//!
//! Everything runs at a nice value of -10 where that is allowed, so that what else the machine does costs less of the figures.
//!
//! - `axfr`: one client reads framed messages and looks at their ANCOUNT; rounds interleave the servers. CPU is that of
//!   all processes of a server, from /proc, in ticks of 10 ms over all rounds.
//! - `memory`: VmRSS while 20 clients transfer, one of them reading an octet a second.
//! - `queries`: an open loop beside 20 transfers, at half of the rate that a closed loop reached. The server keeps to one
//!   core and its clients to another. Those that ask have priority over those that transfer, as far as the system lets
//!   them: they stand for other machines.
//! - `latency`: from an update sent to the primary to the first answer of the secondary that has the member.
//! - `ixfr`: octets of the answer.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]

mod deltas;
mod latency;
mod queries;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod whole;
mod wire;

use std::path::{Path, PathBuf};

use servers::{Role, Server, configure_livezone};
use support::free_address;

/// The nice value of all servers and clients; those of [`queries`] that ask have a lower one.
const PRIORITY: i32 = -10;

#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    services: u32,
    each: u32,
}

fn main() {
    // What else the machine does waits, as far as the system lets us; the servers inherit it.
    let _ = rustix::process::setpriority_process(None, PRIORITY);
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let number = |key: &str, usual: u32| {
        let value = arguments.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='));
        value.map_or(usual, |text| text.parse().expect("a number"))
    };
    let settings =
        Settings { rounds: number("rounds", 9) as usize, services: number("services", 2000), each: number("each", 50) };
    let sections: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| !argument.contains('=')).collect();
    let wants = |section: &str| sections.is_empty() || sections.contains(&section);
    let scratch = tempfile::tempdir().unwrap();
    let scratch = scratch.path();
    let Settings { services, each, .. } = settings;
    let members = services * each;
    let (large, large_file) = register(&scratch.join("large"), services, each);
    if wants("axfr") {
        let servers = primaries(&large, &large_file, &scratch.join("axfr"), None);
        whole::rates(settings, &servers);
    }
    if wants("memory") {
        whole::memory(&large);
    }
    if wants("queries") {
        let servers = primaries(&large, &large_file, &scratch.join("queries"), Some(queries::SERVER_CORE));
        queries::measure(number("paced", 3) as usize, &servers, services, each);
    }
    if wants("latency") || wants("ixfr") {
        let (small, small_file) = register(&scratch.join("small"), 10, 10);
        if wants("latency") {
            latency::compare(scratch, &small, &small_file, "100 members", 10, true);
            let what = format!("{members} members");
            latency::compare(scratch, &large, &large_file, &what, services, false);
        }
        if wants("ixfr") {
            println!("\nIXFR\n\n| members | since | records | octets | messages | ms |");
            println!("| --- | --- | --- | --- | --- | --- |");
            deltas::measure(&small, 100);
            deltas::measure(&large, members);
        }
    }
}

/// Registers all members in a livezone, and leaves its folder and the zone as a master file.
fn register(folder: &Path, services: u32, each: u32) -> (PathBuf, PathBuf) {
    configure_livezone(folder, &[]);
    let server = Server::livezone(folder, None);
    let mut stream = wire::connect(server.address);
    for service in 0..services {
        wire::exchange(&mut stream, &wire::registration(service, 0..each));
    }
    drop(server);
    let file = folder.join("exported.zone");
    Server::export(folder, &file);
    (folder.to_owned(), file)
}

/// All servers as primaries of the same zone.
fn primaries(livezone: &Path, file: &Path, scratch: &Path, core: Option<usize>) -> Vec<Server> {
    let starts: [(&str, latency::Start); 3] = [("knot", Server::knot), ("bind", Server::bind), ("nsd", Server::nsd)];
    let mut servers = vec![Server::livezone(livezone, core)];
    let only = std::env::args().find_map(|argument| argument.strip_prefix("only=").map(str::to_lowercase));
    for (name, start) in starts {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|other| other == name)) {
            continue;
        }
        let folder = scratch.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        servers.push(start(&folder, free_address(), Role { file: Some(file), core, ..Role::default() }).answering());
    }
    servers
}

/// What else the machine does.
pub(crate) fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap();
    format!("load average {}", averages.split(' ').next().unwrap())
}
