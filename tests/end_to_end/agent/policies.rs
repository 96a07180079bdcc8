//! Agents whose members are damped, drained by an operator, or in slots.

use super::*;
use crate::http::members::{MEMBERS, put, send};
use crate::http::{ask, http};
use crate::support::message::query;

const SLOTTED: &str = "[[service]]\nname = \"_memcached._tcp\"\nslots = true\n";

#[test]
fn who_is_registered_and_not_published_is_told_why_on_either_way() {
    let server = TestServer::with(&Setup { policies: String::new(), ..Setup::default() });
    for _ in 0..4 {
        put(&server, "i-1", r#"{"port":1,"addresses":["127.0.0.1"],"lease":60}"#);
        send(&server, "DELETE", &format!("{MEMBERS}/i-1"), "");
    }
    let (at, url) = (server.address.to_string(), format!("http://{}", http(&server)));
    for way in [["--server", &at], ["--api", &url]] {
        let own = ["--address", "127.0.0.1", "--port", "1"];
        let agent = Agent::start(&[&QUICK[..], &own, &way].concat());
        let line = agent.wait_for_line("registered, and not published");
        assert!(line.contains("damped until 20"), "{line}");
    }
    assert_eq!(members(&server), 0);
}

#[test]
fn an_operator_s_drain_holds_against_the_agent_s_renewals_until_it_is_taken_back() {
    let server = TestServer::start();
    let url = format!("http://{}", http(&server));
    let agent = Agent::start(&[&QUICK[..], &["--address", "127.0.0.1", "--port", "1", "--api", &url]].concat());
    wait_for_members(&server, 1);
    ask(&server, &["drain", "svc.example.test.", "_memcached._tcp", "i-1"]);
    assert_eq!(members(&server), 0);
    let line = agent.wait_for_line("registered, and not published");
    assert!(line.contains("undrain"), "{line}");
    assert_eq!(members(&server), 0);
    ask(&server, &["undrain", "svc.example.test.", "_memcached._tcp", "i-1"]);
    assert_eq!(members(&server), 1);
}

/// An agent for a service with slots, without what could be left in its memcached.
fn slotted(server: &TestServer, id: &str, memcached: &Memcached) -> Agent {
    let (at, port) = (server.address.to_string(), memcached.address.port().to_string());
    let mut own = QUICK;
    own[5] = id;
    let service = ["--address", "127.0.0.1", "--port", &port, "--check", "memcached", "--on-join", "flush"];
    Agent::start(&[&own[..], &service, &["--server", &at, "--name-server", &at]].concat())
}

/// The ports at the slots' names, in their order.
fn ports(server: &TestServer) -> Vec<(String, u16)> {
    use hickory_proto::rr::RData;
    let answer = server.client().ask(&query(MEMCACHED, SRV));
    let of = |data: &RData| match data {
        RData::SRV(srv) => (srv.target.to_ascii().split('.').next().unwrap().to_owned(), srv.port),
        other => panic!("{other:?}"),
    };
    answer.message.answers.iter().map(|record| of(&record.data)).collect()
}

#[test]
fn a_replacement_is_flushed_before_it_takes_the_other_s_slot_and_drains_from_it() {
    let server = TestServer::with(&Setup { tables: SLOTTED.to_owned(), ..Setup::default() });
    let mut memcacheds: Vec<Memcached> = (0..3).map(|_| Memcached::start()).collect();
    let mut agents = Vec::new();
    for (number, memcached) in memcacheds.iter().enumerate() {
        agents.push(slotted(&server, ["a", "b", "c"][number], memcached));
        wait_for_members(&server, number + 1);
    }
    let expected = |at: [&Memcached; 3]| {
        let slot = |number: usize| (format!("s000{number}"), at[number].address.port());
        vec![slot(0), slot(1), slot(2)]
    };
    assert_eq!(ports(&server), expected([&memcacheds[0], &memcacheds[1], &memcacheds[2]]));
    drop(memcacheds.remove(1)); // kill -9
    wait_for_members(&server, 2);
    let replacement = Memcached::start();
    replacement.put_something();
    let mut agent = slotted(&server, "d", &replacement);
    wait_for_members(&server, 3);
    assert!(!replacement.has_something(), "what it had is not what clients put into that slot");
    assert_eq!(ports(&server), expected([&memcacheds[0], &replacement, &memcacheds[1]]));
    // Its update names its own host, the zone shows that of the slot.
    agent.signal("TERM");
    wait_for_members(&server, 2);
    assert_eq!(addresses(&server, "s0001.memcached.svc.example.test."), ["127.0.0.1"], "connections go on");
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!(addresses(&server, "s0001.memcached.svc.example.test."), [] as [String; 0]);
}
