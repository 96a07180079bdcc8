//! From an update at the primary to a secondary's answer.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::servers::{Role, Server, configure_livezone};
use crate::support::{free_address, median};
use crate::wire::{self, A, connect, framed, query, registration};

/// How often a secondary is asked.
const POLL: Duration = Duration::from_micros(300);
const PATIENCE: Duration = Duration::from_secs(20);
const BURST: u32 = 10;

pub(crate) type Start = fn(&Path, SocketAddr, Role<'_>) -> Server;

/// How a row is measured.
#[derive(Clone, Copy)]
struct Plan {
    spaced: u32,
    bursts: u32,
}

/// Waits until a secondary has a member.
fn await_member(secondary: SocketAddr, service: u32, member: u32) {
    let (socket, began) = (wire::udp(secondary), Instant::now());
    let question = query(11, &wire::host(service, member), A);
    loop {
        if wire::ask(&socket, &question).is_some_and(|answer| answer[3] & 15 == 0 && answer[7] > 0) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the secondary does not follow");
        std::thread::sleep(POLL);
    }
}

/// The zone with another member, from the primary's answer and the secondary's: milliseconds.
struct Measured {
    acknowledged: Vec<f64>,
    spaced: Vec<f64>,
    burst: Vec<f64>,
}

fn measure(primary: SocketAddr, secondary: SocketAddr, plan: Plan, services: u32) -> Measured {
    let mut stream = connect(primary);
    // Each member is another one, whatever was measured before.
    let mut number = 0;
    let mut next = || {
        number += 1;
        (number % services, 5000 + number)
    };
    let mut measured = Measured { acknowledged: vec![], spaced: vec![], burst: vec![] };
    let millis = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    for spaced in 0..plan.spaced + 3 {
        // At no fixed distance from anything that happens once a second.
        std::thread::sleep(Duration::from_millis(150 + u64::from(spaced) * 37 % 100));
        let (service, member) = next();
        let began = Instant::now();
        wire::exchange(&mut stream, &registration(service, member..member + 1));
        let acknowledged = millis(began);
        await_member(secondary, service, member);
        // The first three are for warming up.
        if spaced >= 3 {
            measured.acknowledged.push(acknowledged);
            measured.spaced.push(millis(began));
        }
    }
    for _ in 0..plan.bursts {
        std::thread::sleep(Duration::from_millis(700));
        let members: Vec<(u32, u32)> = (0..BURST).map(|_| next()).collect();
        let messages: Vec<Vec<u8>> =
            members.iter().map(|&(service, member)| framed(&registration(service, member..member + 1))).collect();
        let began = Instant::now();
        stream.write_all(&messages.concat()).unwrap();
        for (service, member) in members {
            await_member(secondary, service, member);
            measured.burst.push(millis(began));
        }
        for _ in 0..BURST {
            assert_eq!(wire::read_message(&mut stream)[3] & 15, 0);
        }
    }
    measured
}

fn row(primary: &str, secondary: &str, mut measured: Measured) {
    let mut cells = [&mut measured.acknowledged, &mut measured.spaced, &mut measured.burst].map(|values| {
        let middle = median(values);
        (middle, values.last().copied().unwrap_or(f64::NAN), values.len())
    });
    let [(acknowledged, ..), (spaced, spaced_most, count), (burst, burst_most, burst_count)] = &mut cells;
    println!(
        "| {primary} | {secondary} | {acknowledged:.1} | {spaced:.1} | {spaced_most:.1} | {count} | {burst:.1} | {burst_most:.1} | {burst_count} |"
    );
}

fn heading(what: &str) {
    println!("\nFrom the update at the primary to the secondary's answer, {what} ({})\n", crate::load());
    println!(
        "| primary | secondary | acknowledged, ms | spaced: median, ms | most | of | bursts of {BURST}: median, ms | most | of |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
}

/// All secondaries behind livezone and behind BIND.
pub(crate) fn compare(scratch: &Path, livezone: &Path, file: &Path, what: &str, services: u32, behind_bind: bool) {
    let secondaries: [(&str, Start, u32); 4] = [
        ("Knot", Server::knot, 0),
        ("BIND", Server::bind, 0),
        ("NSD, xfrd-reload-timeout 0", Server::nsd, 0),
        ("NSD, default (1)", Server::nsd, 1),
    ];
    heading(what);
    for (name, start, reload_timeout) in secondaries.into_iter().take(if behind_bind { 4 } else { 3 }) {
        let address = free_address();
        configure_livezone(livezone, &[address]);
        let primary = Server::livezone(livezone, None);
        let folder = tempfile::tempdir_in(scratch).unwrap();
        let role = Role { primary: Some(primary.address), reload_timeout, ..Role::default() };
        let secondary = start(folder.path(), address, role).answering();
        // Until what was not answered at the start is tried again.
        std::thread::sleep(Duration::from_secs(3));
        let measured = measure(primary.address, secondary.address, Plan { spaced: 50, bursts: 5 }, services);
        row("livezone", name, measured);
        drop((primary, secondary));
        configure_livezone(livezone, &[]);
        let cleaning = Server::livezone(livezone, None);
        let mut stream = connect(cleaning.address);
        for number in 1..=103 {
            wire::exchange(&mut stream, &wire::withdrawal(number % services, 5000 + number));
        }
    }
    if !behind_bind {
        return;
    }
    let tunings = [
        ("BIND, notify-delay 0", Some(0), Plan { spaced: 50, bursts: 5 }),
        ("BIND, default (5)", None, Plan { spaced: 7, bursts: 2 }),
    ];
    for (tuning, notify_delay, plan) in tunings {
        // The default delay is the primary's alone.
        for (name, start, reload_timeout) in secondaries.into_iter().take(if notify_delay.is_some() { 4 } else { 1 }) {
            let (own, address) = (free_address(), free_address());
            let folders = [tempfile::tempdir_in(scratch).unwrap(), tempfile::tempdir_in(scratch).unwrap()];
            let told = [address];
            let role = Role { file: Some(file), notify_delay, secondaries: &told, ..Role::default() };
            let primary = Server::bind(folders[0].path(), own, role).answering();
            let role = Role { primary: Some(own), reload_timeout, ..Role::default() };
            let secondary = start(folders[1].path(), address, role).answering();
            std::thread::sleep(Duration::from_secs(3));
            row(tuning, name, measure(primary.address, secondary.address, plan, services));
        }
    }
}
