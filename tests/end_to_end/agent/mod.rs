//! `livezone agent` beside a real memcached, against the real server.

mod addresses;
mod clients;
mod drain;
mod fleet;
mod health;
mod over_http;
mod policies;
mod registers;
mod several;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::support::message::{A, SRV, edns_query};
use crate::support::server::{Lines, Setup, TestServer, collect, livezone};
use crate::support::{MEMCACHED, PATIENCE, wait_until};

/// A running agent; killed when dropped.
struct Agent {
    child: Child,
    stderr: Lines,
}

impl Agent {
    fn start(arguments: &[&str]) -> Agent {
        Agent::start_with(livezone().arg("agent").args(arguments))
    }

    fn start_with(command: &mut Command) -> Agent {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Lines::default();
        collect(child.stderr.take().unwrap(), &stderr);
        Agent { child, stderr }
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn wait(&mut self) -> ExitStatus {
        wait_until(PATIENCE, "the end of the agent", || self.has_ended())
    }

    fn wait_for_line(&self, text: &str) -> String {
        wait_until(PATIENCE, text, || self.stderr.lock().unwrap().iter().find(|line| line.contains(text)).cloned())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}", self.stderr.lock().unwrap().join("\n"));
        }
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// A running memcached on a port of its own; killed when dropped.
struct Memcached {
    child: Child,
    address: SocketAddr,
}

impl Memcached {
    fn start() -> Memcached {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Somebody else may take the port in between.
        wait_until(PATIENCE, "a memcached", || Memcached::try_at(free()))
    }

    fn at(address: SocketAddr) -> Memcached {
        wait_until(PATIENCE, "memcached at its port", || Memcached::try_at(address))
    }

    fn try_at(address: SocketAddr) -> Option<Memcached> {
        let port = address.port().to_string();
        let child = Command::new("memcached")
            .args(["-l", "127.0.0.1", "-p", &port, "-U", "0", "-m", "8", "-t", "1", "-u", "nobody"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut memcached = Memcached { child, address };
        wait_until(PATIENCE, "memcached to listen or end", || {
            let ended = memcached.child.try_wait().unwrap().is_some();
            (ended || TcpStream::connect(address).is_ok()).then_some(!ended)
        })
        .then_some(memcached)
    }

    fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(command.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"END\r\n") && !answer.ends_with(b"STORED\r\n") {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "{answer:?}");
            answer.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(answer).unwrap()
    }

    fn put_something(&self) {
        assert_eq!(self.ask("set k 0 0 1\r\nv\r\n"), "STORED\r\n");
    }

    fn has_something(&self) -> bool {
        self.ask("get k\r\n").contains("VALUE k")
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // SIGKILL ends one that is stopped, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many members the service shows.
fn members(server: &TestServer) -> usize {
    let answer = server.client().try_ask(&edns_query(MEMCACHED, SRV, 1232), PATIENCE);
    answer.map_or(0, |answer| answer.targets().len())
}

fn wait_for_members(server: &TestServer, count: usize) {
    wait_until(PATIENCE, &format!("{count} members"), || (members(server) == count).then_some(()));
}

/// The addresses at a host name.
fn addresses(server: &TestServer, host: &str) -> Vec<String> {
    let answer = server.client().ask(&edns_query(host, A, 1232));
    answer.message.answers.iter().map(|record| record.data.to_string()).collect()
}

const HOST: &str = "i-1.memcached.svc.example.test.";

/// What all tests here say: quick, and without the delay at the start.
const QUICK: [&str; 14] = [
    "--zone",
    "svc.example.test",
    "--service",
    "_memcached._tcp",
    "--id",
    "i-1",
    "--initial-delay",
    "0s",
    "--interval",
    "100ms",
    "--timeout",
    "400ms",
    "--lease",
    "3s",
];

/// The arguments of an agent for a service at this address.
fn arguments<'a>(server: &'a str, port: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&QUICK[..], &["--server", server, "--address", "127.0.0.1", "--port", port], more].concat()
}

/// A zone whose TTL is that many seconds.
fn with_ttl(seconds: u64) -> Setup {
    let zone = format!(
        "origin = \"svc.example.test.\"\nttl = \"{seconds}s\"\nnegative-ttl = \"1s\"\nstatic = \"svc.example.test.zone\"\n\
         [soa]\ncontact = \"hostmaster.example.test.\"\n[lease]\ndefault = \"15s\"\nmin = \"{seconds}s\"\nmax = \"1h\"\n"
    );
    Setup { zone: Some(zone), ..Setup::default() }
}

/// How much shorter a span may look, since clocks and timers count in milliseconds.
const GRAIN: Duration = Duration::from_millis(5);
