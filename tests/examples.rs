//! The programs in `examples/`, against the real server: a member registers itself with signed heartbeats, and a client
//! that follows the service sees it come and go.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};

/// How long something may take that should happen within a few seconds. Nothing waits for this to pass.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[dns]
listen = ["127.0.0.1:0"]
udp-size = 512
[http]
listen = ""
[[key]]
name = "agents."
secret-file = "agents.key"
"#;
const ZONE: &str = r#"
origin = "svc.example.test."
ttl = "1s"
negative-ttl = "1s"
static = "svc.example.test.zone"
[lease]
default = "2s"
min = "1s"
max = "2s"
[access]
update = [{ key = "agents.", services = ["_memcached._tcp"], ids = ["i-*"] }]
[[service]]
name = "_memcached._tcp"
"#;
const STATICS: &str = "@ NS ns1\nns1 A 127.0.0.1\n";

/// A process of ours, with its standard output line by line. It is killed when the test ends.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(program: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).env("RUST_LOG", "warn");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { child, lines }
    }

    /// The next line for which `wanted` holds.
    fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())).expect("one more line");
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Sends SIGINT, as Ctrl-C does, and waits for a good end.
    fn interrupt(&mut self) {
        let sent = Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo test` builds the examples beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run cargo test, or cargo build --examples first", path.display());
    path
}

struct Server {
    _process: Process,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(statics: &str) -> Server {
        let binary = Path::new(env!("CARGO_BIN_EXE_livezone"));
        let folder = tempfile::tempdir().unwrap();
        let key = Command::new(binary).args(["keygen", "agents."]).output().unwrap();
        assert!(key.status.success());
        std::fs::create_dir(folder.path().join("zones")).unwrap();
        let statics = [STATICS, statics].concat();
        for (name, content) in [
            ("agents.key", key.stdout.as_slice()),
            ("livezone.toml", CONFIG.as_bytes()),
            ("zones/svc.example.test.toml", ZONE.as_bytes()),
            ("zones/svc.example.test.zone", statics.as_bytes()),
        ] {
            std::fs::File::create(folder.path().join(name)).unwrap().write_all(content).unwrap();
        }
        let config = folder.path().join("livezone.toml");
        let process = Process::start(binary, &["serve", "--config", config.to_str().unwrap()]);
        let line = process.line(|line| line.starts_with("listening on "));
        let address = line["listening on ".len()..].split(',').next().unwrap().parse().unwrap();
        process.line(|line| line.starts_with("zone "));
        Server { _process: process, address, folder }
    }

    fn query(&self, name: &str, rtype: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&query.to_vec().unwrap(), self.address).unwrap();
        let mut buffer = [0; 4096];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, self.address);
        Message::from_vec(&buffer[..len]).unwrap()
    }

    fn serial(&self) -> u32 {
        match &self.query("svc.example.test.", RecordType::SOA).answers[0].data {
            RData::SOA(soa) => soa.serial,
            other => panic!("{other} is no SOA"),
        }
    }

    fn register(&self, id: &str) -> Process {
        let key = self.folder.path().join("agents.key");
        let server = self.address.to_string();
        let arguments = [
            &server,
            "svc.example.test.",
            "_memcached._tcp",
            id,
            "192.0.2.7",
            "11211",
            "agents.",
            key.to_str().unwrap(),
        ];
        Process::start(&example("register"), &arguments)
    }

    fn look_up(&self, service: &str) -> Process {
        Process::start(&example("lookup"), &[&self.address.to_string(), "svc.example.test.", service])
    }
}

const SERVICE: &str = "_memcached._tcp.svc.example.test.";

#[test]
fn a_client_sees_a_member_come_and_go() {
    let server = Server::start("");
    let empty = server.serial();
    let lookup = server.look_up("_memcached._tcp");
    assert_eq!(lookup.line(|_| true), format!("{empty}: nobody"));

    let mut register = server.register("i-7");
    assert_eq!(register.line(|_| true), "registered for 2 s");
    assert_eq!(server.serial(), empty + 1);
    let member = "i-7.memcached.svc.example.test.:11211=192.0.2.7";
    assert_eq!(lookup.line(|_| true), format!("{}: {member}", empty + 1));

    // It renews at a third of the lease: after four times, more than one lease has passed, and nothing has moved.
    for _ in 0..4 {
        assert_eq!(register.line(|_| true), "registered for 2 s");
    }
    assert_eq!(server.query(SERVICE, RecordType::SRV).answers.len(), 1);
    assert_eq!(server.serial(), empty + 1);

    register.interrupt();
    assert_eq!(register.line(|_| true), "withdrawn");
    assert_eq!(server.query(SERVICE, RecordType::SRV).answers.len(), 0);
    assert_eq!(server.serial(), empty + 2);
    assert_eq!(lookup.line(|_| true), format!("{}: nobody", empty + 2));
}

#[test]
fn a_member_that_dies_is_gone_when_its_lease_ends() {
    let server = Server::start("");
    let empty = server.serial();
    let lookup = server.look_up("_memcached._tcp");
    let register = server.register("i-7");
    lookup.line(|line| line.contains("i-7.memcached"));
    drop(register); // killed, without a goodbye
    assert_eq!(lookup.line(|_| true), format!("{}: nobody", empty + 2));
}

#[test]
fn a_member_outside_of_the_key_s_ids_is_told_so() {
    let server = Server::start("");
    let register = server.register("web-1");
    let line = register.line(|_| true);
    assert!(line.starts_with("not registered: ") && line.contains("ids covering web-1"), "{line}");
}

#[test]
fn a_client_reads_a_large_set_over_tcp() {
    let records: String =
        (0..20).map(|i| format!("_bulk._tcp SRV 0 0 {} a-rather-long-name-of-a-host\n", 8000 + i)).collect();
    let server = Server::start(&(records + "a-rather-long-name-of-a-host A 192.0.2.80\n"));
    assert!(server.query("_bulk._tcp.svc.example.test.", RecordType::SRV).truncation);
    let lookup = server.look_up("_bulk._tcp");
    let line = lookup.line(|_| true);
    for i in 0..20 {
        assert!(line.contains(&format!(":{}=192.0.2.80", 8000 + i)), "{line}");
    }
}

#[test]
fn the_annotated_configuration_holds_the_defaults_and_warns_of_nothing() {
    let example = livezone::config::load(Some(Path::new("examples/livezone.toml"))).unwrap();
    let default = livezone::config::load(None).unwrap();
    assert_eq!(example.warnings, Vec::<String>::new());
    assert_eq!(example.dns, default.dns);
    assert_eq!(example.data_dir, Path::new("examples").join(default.data_dir));
    assert_eq!(example.zones_dir, Path::new("examples").join(default.zones_dir));
}

#[test]
fn the_annotated_configuration_of_the_agent_holds_its_defaults() {
    use livezone::config::agent::{self, Access, Check, OnJoin};
    let text = std::fs::read_to_string("examples/agent.toml").unwrap();
    let example = agent::load(Path::new("examples/agent.toml")).unwrap();
    assert!(matches!(&example.access, Access::Dns { servers, key: None } if servers.len() == 2));
    let [memcached, www] = example.services.as_slice() else { panic!("{example:?}") };
    assert_eq!((&memcached.check, &memcached.on_join), (&Some(Check::Memcached(None)), &Some(OnJoin::Flush(None))));
    assert!(matches!(&www.check, Some(Check::Http { path, .. }) if path == "/health"));
    assert_eq!((memcached.weight, memcached.priority, memcached.lease), (256, 0, agent::LEASE));
    // What is commented out is as if it were not: the same with those lines that show a default.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    let shown = ["lease", "initial-delay", "drain-timeout", "all-servers", "weight", "priority", "interval", "timeout"];
    let shown = shown.into_iter().chain(["rise", "fall", "join-timeout"]);
    let with_defaults = shown.fold(text, |text, key| text.replace(&format!("\n# {key} "), &format!("\n{key} ")));
    std::fs::write(&path, with_defaults).unwrap();
    let spelt = agent::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    let settings = |agent: &agent::Agent| format!("{:?}", (agent.initial_delay, agent.drain_timeout, &agent.services));
    assert_eq!(settings(&spelt), settings(&example));
}
