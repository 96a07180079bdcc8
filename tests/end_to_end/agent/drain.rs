//! The end: drained, waited for, removed.

use std::time::Instant;

use super::*;

#[test]
fn sigterm_takes_the_srv_record_and_ends_only_once_caches_are_without_it() {
    const TTL: u64 = 2;
    let server = TestServer::with(&with_ttl(TTL));
    let at = server.address.to_string();
    let mut agent = Agent::start(&arguments(&at, "1", &["--name-server", &at]));
    wait_for_members(&server, 1);
    agent.signal("TERM");
    let asked = Instant::now();
    wait_for_members(&server, 0);
    let gone = Instant::now();
    assert_eq!(addresses(&server, HOST), ["127.0.0.1"], "connections go on");
    let status = loop {
        let there = addresses(&server, HOST) == ["127.0.0.1"];
        if let Some(status) = agent.has_ended() {
            break status;
        }
        // It is removed right before the end.
        assert!(there || asked.elapsed() + GRAIN > Duration::from_secs(TTL + 1), "removed after {:?}", asked.elapsed());
        assert!(gone.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0), "{:?}", agent.stderr.lock().unwrap());
    assert!(asked.elapsed() + GRAIN >= Duration::from_secs(TTL + 1), "ended after {:?}", asked.elapsed());
    assert_eq!(addresses(&server, HOST), [] as [String; 0]);
}

#[test]
fn the_name_servers_are_those_that_the_zone_names() {
    use crate::support::namespace::{Place, enter};
    if enter("agent::drain::the_name_servers_are_those_that_the_zone_names", &["--net"]) != Place::Inside {
        return; // done, or the system gives no network
    }
    // ns1 has two addresses, and serves at one of them; ns2 is a secondary that is behind at first.
    let serial = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(1));
    let other = name_server("127.0.0.2:53", &serial);
    let server = TestServer::with(&Setup {
        listen: "127.0.0.1:53".parse().unwrap(),
        statics: "@ IN NS ns1\n@ IN NS ns2\nns1 IN A 127.0.0.1\nns1 IN AAAA ::1\nns2 IN A 127.0.0.2\n".to_owned(),
        ..Setup::default()
    });
    let mut agent = Agent::start(&arguments("127.0.0.1", "1", &[]));
    wait_for_members(&server, 1);
    agent.signal("TERM");
    wait_for_members(&server, 0);
    wait_until(PATIENCE, "some questions", || (other.questions().len() >= 4).then_some(()));
    assert_eq!(agent.has_ended(), None);
    serial.store(server.client().serial(), std::sync::atomic::Ordering::Relaxed);
    assert_eq!(agent.wait().code(), Some(0));
}

/// Answers each query for a SOA record with this serial.
pub(super) fn name_server(
    address: &str,
    serial: &std::sync::Arc<std::sync::atomic::AtomicU32>,
) -> crate::support::answering::Answering {
    let serial = serial.clone();
    crate::support::answering::Answering::to_all(address, move |query, _| {
        let serial = serial.load(std::sync::atomic::Ordering::Relaxed);
        let rdata = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
        let mut answer = [query, &crate::support::message::record(crate::support::ZONE, 6, 1, 5, &rdata)].concat();
        answer[2..8].copy_from_slice(&[0x84, 0, 0, 1, 0, 1]);
        vec![answer]
    })
}

#[test]
fn it_waits_for_every_name_server() {
    let server = TestServer::start();
    let at = server.address.to_string();
    let serial = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(server.client().serial()));
    let other = name_server("127.0.0.1:0", &serial);
    let behind = other.address.to_string();
    let mut agent = Agent::start(&arguments(&at, "1", &["--name-server", &at, "--name-server", &behind]));
    wait_for_members(&server, 1);
    agent.signal("TERM");
    wait_for_members(&server, 0);
    wait_until(PATIENCE, "some questions", || (other.questions().len() >= 8).then_some(()));
    assert_eq!(agent.has_ended(), None);
    serial.store(server.client().serial().wrapping_add(1), std::sync::atomic::Ordering::Relaxed);
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn the_second_sigterm_stops_the_waiting_and_still_removes() {
    let server = TestServer::with(&with_ttl(15));
    let at = server.address.to_string();
    let mut agent = Agent::start(&arguments(&at, "1", &["--name-server", &at]));
    wait_for_members(&server, 1);
    agent.signal("TERM");
    wait_for_members(&server, 0);
    agent.wait_for_line("drained: waiting");
    agent.signal("TERM");
    let start = Instant::now();
    assert_eq!(agent.wait().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(addresses(&server, HOST), [] as [String; 0]);
    agent.wait_for_line("stopped before it was known to be safe");
}

#[test]
fn where_nobody_answers_it_ends_in_time_and_says_so() {
    let mut server = TestServer::start();
    let at = server.address.to_string();
    let mut agent = Agent::start(&arguments(&at, "1", &["--drain-timeout", "3s"]));
    wait_for_members(&server, 1);
    server.kill_9();
    agent.signal("TERM");
    let start = Instant::now();
    assert_eq!(agent.wait().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    agent.wait_for_line("not drained");
}
