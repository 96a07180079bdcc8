//! Checks take members out and bring them back.

use super::*;

/// The arguments of an agent that checks and flushes a memcached.
fn checked<'a>(server: &'a str, port: &'a str) -> Vec<&'a str> {
    arguments(server, port, &["--check", "memcached", "--on-join", "flush"])
}

#[test]
fn a_killed_memcached_leaves_the_answers_and_comes_back_when_it_is_started_again() {
    let server = TestServer::start();
    let mut memcached = Memcached::start();
    let (at, port) = (server.address.to_string(), memcached.address.port().to_string());
    let _agent = Agent::start(&checked(&at, &port));
    wait_for_members(&server, 1);
    memcached.child.kill().unwrap();
    memcached.child.wait().unwrap();
    wait_for_members(&server, 0);
    let _memcached = Memcached::at(memcached.address);
    wait_for_members(&server, 1);
}

#[test]
fn a_stopped_memcached_leaves_the_answers_and_is_flushed_before_it_comes_back() {
    let server = TestServer::start();
    let memcached = Memcached::start();
    let (at, port) = (server.address.to_string(), memcached.address.port().to_string());
    memcached.put_something();
    let _agent = Agent::start(&checked(&at, &port));
    wait_for_members(&server, 1);
    assert!(!memcached.has_something(), "what it had at the start may be stale");
    // memcached's clock for flush_all counts seconds: what is set in the second of a flush is flushed too.
    wait_until(PATIENCE, "something in memcached", || {
        memcached.put_something();
        memcached.has_something().then_some(())
    });
    signal(&memcached.child, "STOP");
    wait_for_members(&server, 0);
    signal(&memcached.child, "CONT");
    wait_for_members(&server, 1);
    assert!(!memcached.has_something(), "clients did without it for a while");
}

#[test]
fn nothing_is_registered_before_the_on_join_command_has_succeeded() {
    let server = TestServer::start();
    let at = server.address.to_string();
    let flag = server.folder().join("may-join");
    let command = format!("exec:test -e {}", flag.display());
    let agent = Agent::start(&arguments(&at, "1", &["--on-join", &command]));
    agent.wait_for_line("not joining before --on-join has succeeded");
    assert_eq!(members(&server), 0);
    std::fs::write(&flag, "").unwrap();
    wait_for_members(&server, 1);
}

#[test]
fn a_lapse_is_followed_by_a_flush() {
    let server = TestServer::start();
    let memcached = Memcached::start();
    let (at, port) = (server.address.to_string(), memcached.address.port().to_string());
    let agent = Agent::start(&checked(&at, &port));
    wait_for_members(&server, 1);
    wait_until(PATIENCE, "something in memcached", || {
        memcached.put_something();
        memcached.has_something().then_some(())
    });
    // The agent stands still until its lease is over.
    agent.signal("STOP");
    wait_for_members(&server, 0);
    assert!(memcached.has_something());
    agent.signal("CONT");
    wait_for_members(&server, 1);
    assert!(!memcached.has_something());
}

#[test]
fn an_outage_of_the_server_empties_no_cache() {
    let mut server = TestServer::start();
    let memcached = Memcached::start();
    let (at, port) = (server.address.to_string(), memcached.address.port().to_string());
    let agent = Agent::start(&checked(&at, &port));
    wait_for_members(&server, 1);
    agent.wait_for_line(": registered ");
    wait_until(PATIENCE, "something in memcached", || {
        memcached.put_something();
        memcached.has_something().then_some(())
    });
    server.kill_9();
    agent.wait_for_line("not registered any more");
    server.restart();
    // Its second registration.
    wait_until(PATIENCE, "another registration", || {
        let lines = agent.stderr.lock().unwrap();
        (lines.iter().filter(|line| line.contains("INFO") && line.contains(": registered ")).count() == 2).then_some(())
    });
    wait_for_members(&server, 1);
    assert!(memcached.has_something(), "the answers never lacked it");
}
