//! Times in which the server stands still: whoever is alive is not withdrawn for it, and whoever is dead still is.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::message::*;
use crate::support::server::TestServer;
use crate::support::{PATIENCE, wait_until};

const SERVICES: usize = 5;
const MEMBERS: usize = 1_000;
const LEASE: u32 = 4;

fn signal(server: &TestServer, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &server.pid().to_string()]).status().unwrap().success());
}

fn service(number: usize) -> String {
    format!("_s{number}._tcp.svc.example.test.")
}

fn member(number: usize) -> Update {
    Update::member(&service(number % SERVICES), &format!("i-{number}"), "192.0.2.1").lease(LEASE)
}

fn is_stopped(server: &TestServer) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    status.lines().any(|line| line.starts_with("State:") && line.contains('T'))
}

/// A process that is stopped for three lease lengths, under a thousand members that renew all the time.
#[test]
fn a_stopped_process_withdraws_nobody_who_renews_and_the_dead_all_the_same() {
    let server = TestServer::start();
    let client = server.client();
    for number in 0..MEMBERS {
        client.update(&member(number));
    }
    let dead = "_dead._tcp.svc.example.test.";
    let stop = AtomicBool::new(false);
    // Answers of each round of renewals, by the thread that sent them.
    let renewed = [const { AtomicUsize::new(0) }; SERVICES];
    let stalled = Duration::from_secs(3 * u64::from(LEASE));
    let (asleep, there, serials) = std::thread::scope(|scope| {
        for (part, renewed) in renewed.iter().enumerate() {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    renew(&client, part, renewed);
                    let pause = Duration::from_secs(LEASE.into()) / 3;
                    std::thread::sleep(pause.saturating_sub(start.elapsed()));
                }
            });
        }
        let rounds = |least: usize| {
            let all = || renewed.iter().all(|renewed| renewed.load(Ordering::Relaxed) >= least).then_some(());
            wait_until(PATIENCE, "renewals", all);
        };
        rounds(2 * MEMBERS / SERVICES);
        client.update(&Update::member(dead, "i-1", "192.0.2.9").lease(LEASE));
        let before = client.serial();
        signal(&server, "STOP");
        wait_until(PATIENCE, "a stopped process", || is_stopped(&server).then_some(()));
        let start = Instant::now();
        wait_until(PATIENCE, "three lease lengths", || (start.elapsed() >= stalled).then_some(()));
        signal(&server, "CONT");
        let asleep = start.elapsed();
        let heard = renewed.iter().map(|renewed| renewed.load(Ordering::Relaxed)).max().unwrap();
        rounds(heard + 5 * MEMBERS / SERVICES);
        wait_until(PATIENCE, "the end of the dead", || client.targets(dead).is_empty().then_some(()));
        let there: usize = (0..SERVICES).map(|number| client.targets(&service(number)).len()).sum();
        let serials = client.serial().wrapping_sub(before);
        stop.store(true, Ordering::Relaxed);
        (asleep, there, serials)
    });
    println!("measured: stopped for {asleep:?} with leases of {LEASE} s: {} of {MEMBERS} withdrawn", MEMBERS - there);
    assert_eq!(there, MEMBERS);
    assert_eq!(serials, 1, "one commit: the dead has left");
    server.wait_for_line("stood still");
}

/// Sends a heartbeat of every member of a part, and counts what is answered for a while.
fn renew(client: &Client, part: usize, renewed: &AtomicUsize) {
    for number in (part..MEMBERS).step_by(SERVICES) {
        client.send(&member(number).encode());
        while let Some(answer) = client.receive(Duration::ZERO) {
            renewed.fetch_add(usize::from(answer[3] & 0xf == 0), Ordering::Relaxed);
        }
    }
}
