//! Three agents with real memcacheds, and clients that keep to TTLs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::rr::RData;

use super::*;
use crate::follower::{primary_of, secondary_at};
use crate::http::http;
use crate::http::tokens::make;
use crate::support::client::Client;
use crate::support::other::free_address;

/// What a client met.
#[derive(Default)]
struct Met {
    lists: AtomicUsize,
    connections: AtomicUsize,
    /// Those to the port of the test.
    of_port: AtomicUsize,
    refused: AtomicUsize,
}

/// A client that asks one name server after the other, uses an answer until its TTL is over, and connects to every server on
/// its list over and over.
struct CachingClient {
    met: Arc<Met>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl CachingClient {
    fn start(name_servers: Vec<SocketAddr>, port: u16) -> CachingClient {
        let (met, stop) = (Arc::<Met>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (met, stop) = (met.clone(), stop.clone());
            std::thread::spawn(move || run(&name_servers, port, &met, &stop))
        };
        CachingClient { met, stop, thread: Some(thread) }
    }

    fn wait_for(&self, what: &str, counter: impl Fn(&Met) -> &AtomicUsize, more: usize) {
        let goal = counter(&self.met).load(Ordering::Relaxed) + more;
        wait_until(PATIENCE, what, || (counter(&self.met).load(Ordering::Relaxed) >= goal).then_some(()));
    }
}

impl Drop for CachingClient {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let result = self.thread.take().unwrap().join();
        assert!(result.is_ok() || std::thread::panicking());
    }
}

fn run(name_servers: &[SocketAddr], port: u16, met: &Met, stop: &AtomicBool) {
    for server in name_servers.iter().cycle() {
        let answer = Client::new(*server).try_ask(&edns_query(MEMCACHED, SRV, 1232), PATIENCE).expect("an answer");
        let received = Instant::now();
        met.lists.fetch_add(1, Ordering::Relaxed);
        let Some(ttl) = answer.message.answers.iter().map(|record| record.ttl).min() else { continue };
        let port_of = |data: &RData| if let RData::SRV(srv) = data { Some(srv.port) } else { None };
        let ports: Vec<u16> = answer.message.answers.iter().filter_map(|record| port_of(&record.data)).collect();
        while received.elapsed() < Duration::from_secs(ttl.into()) {
            for &at in &ports {
                if TcpStream::connect(("127.0.0.1", at)).is_err() {
                    met.refused.fetch_add(1, Ordering::Relaxed);
                }
                met.of_port.fetch_add(usize::from(at == port), Ordering::Relaxed);
                met.connections.fetch_add(1, Ordering::Relaxed);
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn memcacheds() -> Vec<Memcached> {
    (0..3).map(|_| Memcached::start()).collect()
}

/// Agents i-0, i-1 … of these, that reach the server in this way.
fn agents(memcacheds: &[Memcached], way: &[&str]) -> Vec<Agent> {
    let agent = |(number, memcached): (usize, &Memcached)| {
        let (id, port) = (format!("i-{number}"), memcached.address.port().to_string());
        let mut own = QUICK.map(str::to_owned);
        own[5] = id;
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let service = ["--address", "127.0.0.1", "--port", &port, "--check", "memcached", "--on-join", "flush"];
        Agent::start(&[&own[..], &service, way].concat())
    };
    memcacheds.iter().enumerate().map(agent).collect()
}

#[test]
fn a_killed_memcached_of_three_costs_one_commit_and_the_others_stay() {
    let server = TestServer::start();
    let mut memcacheds = memcacheds();
    let at = server.address.to_string();
    let _agents = agents(&memcacheds, &["--server", &at]);
    wait_for_members(&server, 3);
    let serial = server.client().serial();
    drop(memcacheds.remove(1)); // kill -9
    wait_for_members(&server, 2);
    assert_eq!(server.client().serial(), serial + 1);
    let targets = server.client().targets(MEMCACHED);
    assert_eq!(targets, ["i-0.memcached.svc.example.test.", "i-2.memcached.svc.example.test."]);
}

#[test]
fn measured_how_soon_a_killed_memcached_is_out() {
    let server = TestServer::start();
    let mut memcacheds = memcacheds();
    let at = server.address.to_string();
    let _agents = agents(&memcacheds, &["--server", &at]);
    wait_for_members(&server, 3);
    let killed = Instant::now();
    drop(memcacheds.remove(1));
    wait_for_members(&server, 2);
    eprintln!("out {:.2} s after kill -9; fall × interval is 0.30 s", killed.elapsed().as_secs_f64());
}

/// One of three agents is told to stop, and its memcached ends as soon as it has: no client meets the closed port.
fn stop_one(primary: &TestServer, name_servers: [SocketAddr; 2], way: &[&str]) {
    let mut memcacheds = memcacheds();
    let mut agents = agents(&memcacheds, way);
    for server in name_servers {
        let count = || Client::new(server).targets(MEMCACHED).len();
        wait_until(PATIENCE, "three members", || (count() == 3).then_some(()));
    }
    let port = memcacheds[1].address.port();
    let clients = [0, 1].map(|first| {
        let order = [name_servers[first], name_servers[1 - first]];
        CachingClient::start(order.to_vec(), port)
    });
    clients.iter().for_each(|client| client.wait_for("connections", |met| &met.of_port, 20));
    agents[1].signal("TERM");
    wait_for_members(primary, 2);
    // They go on by what they have.
    clients.iter().for_each(|client| client.wait_for("connections by an old list", |met| &met.of_port, 1));
    assert_eq!(agents[1].wait().code(), Some(0));
    drop(memcacheds.remove(1)); // as the unit of the service would end, after that of its agent
    for client in &clients {
        client.wait_for("new lists", |met| &met.lists, 3);
        assert_eq!(client.met.refused.load(Ordering::Relaxed), 0, "of {:?}", client.met.connections);
    }
}

#[test]
fn nobody_who_keeps_to_the_ttl_meets_a_closed_port_when_an_agent_ends_by_dns() {
    let listen = free_address();
    let primary = TestServer::with(&primary_of(&[listen]));
    let secondary = TestServer::with(&secondary_at(listen, &[primary.address], ""));
    let (one, two) = (primary.address.to_string(), secondary.address.to_string());
    let way = ["--server", &one, "--name-server", &one, "--name-server", &two];
    stop_one(&primary, [primary.address, secondary.address], &way);
}

#[test]
fn nobody_who_keeps_to_the_ttl_meets_a_closed_port_when_an_agent_ends_over_http() {
    let (listen, token) = (free_address(), make("agents", "services = [\"_memcached._tcp\"]\naccess = \"write\""));
    let primary = TestServer::with(&Setup { server: token.table.clone(), ..primary_of(&[listen]) });
    let secondary = TestServer::with(&secondary_at(listen, &[primary.address], ""));
    let (url, file) = (format!("http://{}", http(&primary)), primary.folder().join("token"));
    std::fs::write(&file, &token.file).unwrap();
    let way = ["--api", &url, "--token-file", file.to_str().unwrap()];
    stop_one(&primary, [primary.address, secondary.address], &way);
}
