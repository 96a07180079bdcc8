//! A zone at scale: memory a member, start from the store, CPU of a commit.
//!
//! `cargo bench --bench scale -- [SERVICES] [MEMBERS-PER-SERVICE]`, by default 2000 services of 50. Starts the real server
//! on a loopback port with its store in a scratch folder, registers all members over TCP, and reads the server's own
//! accounting from /proc. Every figure is of one run; the first two lines tell what the disk takes for an append and an
//! fdatasync, beside which the commit figures are to be read.
//!
//! `cargo bench --bench scale -- curves [most=MEMBERS] [file=CSV]`: the same by the size of the zone, 1,000 to 1,000,000 members
//! or at `most` so many, and a commit by the size of the service that it touches, into `benches/plots/curves.csv`.
//! `benches/plot.py` makes plots of it.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod curves;
#[path = "../support/disk.rs"]
mod disk;
#[path = "../support/messages.rs"]
#[allow(dead_code, reason = "nobody withdraws here")]
mod messages;
mod server;

use std::path::Path;
use std::time::Instant;

use disk::fdatasync;
use messages::registration;
use server::{Server, configure, exchange, fill};

const COMMITS: u32 = 1000;
const RENEWALS: u32 = 20_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let option = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name));
    if arguments.iter().any(|argument| argument == "curves") {
        let file = option("file=").unwrap_or("benches/plots/curves.csv");
        let most = option("most=").map_or(u32::MAX, |text| text.parse().unwrap());
        return curves::measure(Path::new(file), most);
    }
    let numbers: Vec<u32> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    at_one_size(numbers.first().copied().unwrap_or(2000), numbers.get(1).copied().unwrap_or(50));
}

fn at_one_size(services: u32, each: u32) {
    let members = f64::from(services * each);
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path());
    println!("append and fdatasync: {:.0} us, median of 200", fdatasync(folder.path()).as_secs_f64() * 1e6);

    let (server, empty_start) = Server::start(folder.path());
    let empty = server.rss_kib();
    println!("empty: first answer {:.0} ms after the start, RSS {empty} KiB", empty_start.as_secs_f64() * 1e3);

    let began = Instant::now();
    let mut stream = server.connect();
    fill(&mut stream, 0..services, each);
    println!(
        "registered {members} members, 50 an update: {:.1} s, server CPU {:.1} s",
        began.elapsed().as_secs_f64(),
        server.cpu().as_secs_f64()
    );
    println!(
        "RSS after registration: {:.0} octets a member",
        server.rss_kib().saturating_sub(empty) as f64 * 1024.0 / members
    );

    let (cpu, began) = (server.cpu(), Instant::now());
    for number in 0..COMMITS {
        exchange(
            &mut stream,
            &registration(number * 7 % services, number % each..number % each + 1, 11212 + number as u16),
        );
    }
    println!(
        "commit that touches one member: {:.0} us CPU, {:.0} us until acknowledged, mean of {COMMITS}",
        (server.cpu() - cpu).as_secs_f64() * 1e6 / f64::from(COMMITS),
        began.elapsed().as_secs_f64() * 1e6 / f64::from(COMMITS)
    );

    let message = registration(1, 1..2, 9);
    exchange(&mut stream, &message);
    let cpu = server.cpu();
    for _ in 0..RENEWALS {
        exchange(&mut stream, &message);
    }
    println!("renewal over TCP: {:.1} us CPU", (server.cpu() - cpu).as_secs_f64() * 1e6 / f64::from(RENEWALS));
    drop(stream);

    drop(server); // killed, not stopped: the next start finds what a crash leaves
    let (server, start) = Server::start(folder.path());
    println!("start from the store after kill -9: first answer after {:.0} ms", start.as_secs_f64() * 1e3);
    println!(
        "RSS after that start: {:.0} octets a member",
        server.rss_kib().saturating_sub(empty) as f64 * 1024.0 / members
    );
    println!("store: {} MiB", std::fs::metadata(folder.path().join("data/livezone.redb")).unwrap().len() >> 20);
}
