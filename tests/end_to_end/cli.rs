//! The command line: keys, errors, logs, the demo.

mod completions;
mod manual;

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::message::*;
use crate::support::programs::dig;
use crate::support::server::{Lines, Setup, TestServer, collect, livezone, make_key};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    livezone().args(arguments).current_dir(folder).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that is killed when dropped, and what it writes.
struct Running {
    child: std::process::Child,
    stdout: Lines,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = Lines::default();
        collect(child.stdout.take().unwrap(), &stdout);
        Running { child, stdout }
    }

    /// Waits for a line with this beginning; the rest of it.
    fn line(&self, beginning: &str) -> String {
        wait_until(PATIENCE, beginning, || {
            let lines = self.stdout.lock().unwrap();
            lines.iter().find_map(|line| line.strip_prefix(beginning)).map(str::to_owned)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_key_of_keygen_serves_server_and_nsupdate_alike() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("agents.key");
    make_key("agents", "hmac-sha256", &file);
    let text = std::fs::read_to_string(&file).unwrap();
    // What its comments say goes into the configuration, goes there.
    let block = |from: &str, to: &str| -> String {
        let lines = text.lines().skip_while(|line| !line.contains(from)).take_while(|line| !line.contains(to));
        lines.map(|line| line.trim_start_matches('#').trim().to_owned() + "\n").collect()
    };
    let mut server = TestServer::with(&Setup {
        tables: block("[access]", "To use it").replace("#\n", "\n"),
        keys: vec![("other", "hmac-sha256"), ("agents", "hmac-sha256")],
        ..Setup::default()
    });
    server.terminate();
    std::fs::copy(&file, server.key_file("agents")).unwrap();
    std::fs::write(server.folder().join("livezone.toml"), block("[[key]]", "In the zone file")).unwrap();
    server.restart();
    let script = format!("update add {MEMCACHED} 5 SRV 0 256 11211 i-1.memcached.{ZONE}");
    let updated = crate::support::programs::nsupdate(server.address, &["-k", file.to_str().unwrap()], &script);
    assert!(updated.success, "{}", updated.text);
    assert_eq!(server.client().targets(MEMCACHED).len(), 1);
}

#[test]
fn keys_differ_and_their_secrets_are_as_long_as_their_macs() {
    let folder = TempDir::new().unwrap();
    let secret = |algorithm: &str| {
        let file = folder.path().join("k.key");
        make_key("k", algorithm, &file);
        crate::support::tsig::TsigKey::read(&file).secret
    };
    assert_eq!(["hmac-sha256", "hmac-sha384", "hmac-sha512"].map(|algorithm| secret(algorithm).len()), [32, 48, 64]);
    assert_ne!(secret("hmac-sha256"), secret("hmac-sha256"));
}

#[test]
fn serve_needs_no_configuration_file() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("zones")).unwrap();
    for file in ["svc.example.test.toml", "svc.example.test.zone"] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("zones").join(file);
        std::fs::copy(shipped, folder.path().join("zones").join(file)).unwrap();
    }
    let running = Running::start(
        livezone().args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]).current_dir(folder.path()),
    );
    let address = running.line("listening on ").split(',').next().unwrap().parse().unwrap();
    assert!(running.line("zone svc.example.test.").contains("serial"));
    assert_eq!(dig(address, &[ZONE, "SOA"]).answers.len(), 1);
    let printed = dig(address, &[MEMCACHED, "SRV"]);
    assert_eq!((printed.status.as_str(), printed.authority.len()), ("NOERROR", 1), "known from the start");
    let script = format!("update add {MEMCACHED} 5 SRV 0 256 11211 i-1.memcached.{ZONE}");
    assert!(crate::support::programs::nsupdate(address, &[], &script).success);
    assert_eq!(dig(address, &[MEMCACHED, "SRV"]).answers.len(), 1);
    assert!(folder.path().join("data").is_dir(), "its store is ./data");
}

#[test]
fn a_wrong_configuration_is_an_error_with_file_and_line() {
    let folder = TempDir::new().unwrap();
    let zones = folder.path().join("zones");
    std::fs::create_dir(&zones).unwrap();
    let config = folder.path().join("livezone.toml");
    let expect = |main: &str, zone: &str, statics: &str, wanted: &[&str]| {
        std::fs::write(&config, main).unwrap();
        std::fs::write(zones.join("z.toml"), zone).unwrap();
        std::fs::write(zones.join("z.zone"), statics).unwrap();
        let output = run(folder.path(), &["serve", "--config", "livezone.toml", "--listen", "127.0.0.1:0"]);
        let text = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(output.stdout.is_empty());
        for part in wanted {
            assert!(text.contains(part), "no {part} in:\n{text}");
        }
    };
    let zone = "origin = \"svc.example.test.\"\nstatic = \"z.zone\"\n";
    let statics = "@ IN NS ns1\nns1 IN A 127.0.0.1\n";
    expect("[dns]\nlisten = [\"nowhere\"]\n", zone, statics, &["livezone.toml:2:"]);
    expect("\n\nport = 53\n", zone, statics, &["livezone.toml:3:", "port"]);
    expect("[dns\n", zone, statics, &["livezone.toml:1:"]);
    expect("", "origin = \"svc.example.test.\"\nttl = \"1h\"\n", statics, &["z.toml:2:", "lease.min"]);
    // Every problem at once.
    expect(
        "",
        "origin = \"svc.example.test.\"\nsettle = \"5s\"\nnegative-ttl = \"soon\"\n",
        statics,
        &["z.toml:2:", "z.toml:3:"],
    );
    expect("", zone, "@ IN NS ns1\nns1 IN A 127.0.0.999\n", &["z.zone:2:"]);
    expect("", "origin = \"svc.example.test.\"\n", statics, &["ns1.svc.example.test.", "no address"]);
    std::fs::remove_file(zones.join("z.toml")).unwrap();
    let output = run(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("origin = "), "{}", errors(&output));
    let output = run(folder.path(), &["serve", "--config", "missing.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("missing.toml"), "{}", errors(&output));
}

#[test]
fn wrong_usage_ends_with_status_2() {
    let folder = TempDir::new().unwrap();
    for arguments in [
        &["serve", "--nonsense"][..],
        &["nonsense"],
        &[],
        &["keygen"],
        &["keygen", "a b"],
        &["keygen", "k", "--algorithm", "hmac-md5"],
        &["serve", "--listen", "here"],
        &["serve", "--log-format", "xml"],
        &["serve", "--http", "8053"],
        &["explain"],
        &["explain", "z.", "--since", "yesterday"],
        &["members", "z.", "--server", "ftp://127.0.0.1"],
        &["export", "z.", "--server", "127.0.0.1:1", "--config", "livezone.toml"],
    ] {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let server = TestServer::start();
    let expect = |address: &str| {
        let folder = TempDir::new().unwrap();
        let output =
            livezone().args(["demo", "--listen", address, "--http", ""]).current_dir(folder.path()).output().unwrap();
        let text = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(address) && text.contains("in use") && text.contains("--listen"), "{text}");
    };
    expect(&server.address.to_string());
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    expect(&tcp.local_addr().unwrap().to_string());
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    expect(&udp.local_addr().unwrap().to_string());
}

#[test]
fn an_http_port_in_use_is_named_and_the_demo_takes_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), &["demo", "--listen", "127.0.0.1:0", "--http", &address]);
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&address) && text.contains("in use") && text.contains("[http] listen"), "{text}");
    // Whoever else has the default port here, somebody has it.
    let _taken = TcpListener::bind("127.0.0.1:8053");
    let demo = Running::start(livezone().args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", folder.path()));
    assert!(demo.line("127.0.0.1:8053 can't be had for HTTP").ends_with("another port is taken"));
    let http: std::net::SocketAddr = demo.line("http on ").parse().unwrap();
    assert!(http.ip().is_loopback() && http.port() != 8053);
}

#[test]
fn the_demo_answers_its_dig_line_with_live_members() {
    let folder = TempDir::new().unwrap();
    let mut demo = Running::start(
        livezone().args(["demo", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]).env("TMPDIR", folder.path()),
    );
    let line = demo.line("try: ");
    assert!(
        line.starts_with("dig @127.0.0.1 -p ") && line.ends_with("_memcached._tcp.svc.example.test. SRV"),
        "{line}"
    );
    let words: Vec<&str> = line.split(' ').collect();
    let address = format!("127.0.0.1:{}", words[3]).parse().unwrap();
    let printed = wait_until(PATIENCE, "two members", || {
        Some(dig(address, &words[4..])).filter(|printed| printed.answers.len() >= 2)
    });
    assert!(printed.has_flag("aa") && printed.additional.len() >= 2, "{printed:?}");
    // It shows each commit: epoch, serial, cause, delta.
    let commit = demo.line("epoch ");
    assert!(commit.contains(" serial "), "{commit}");
    demo.line("  + _memcached._tcp.svc.example.test. 5 IN SRV 0 256 11211 i-1.memcached.svc.example.test.");
    demo.line("  - _memcached._tcp.svc.example.test. 5 IN TXT ");
    let pid = demo.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = wait_until(PATIENCE, "the end of the demo", || demo.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
}

/// The log of a registration, a renewal, a refusal and a query.
fn logged(format: &'static str) -> Vec<String> {
    let server = TestServer::with(&Setup { arguments: vec!["--log-format", format], ..Setup::default() });
    let client = server.client();
    for _ in 0..3 {
        client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
        client.ask(&query(MEMCACHED, SRV));
    }
    let refused = Update::new().add("x.svc.example.test.", TXT, 5, &txt(&["x"]));
    assert_eq!(client.ask(&refused.encode()).rcode(), 5);
    server.wait_for_line("refused");
    let mut lines = server.logged();
    // Whom HTTP is for stands behind the first commit.
    let told = lines.remove(1);
    assert!(told.contains("HTTP is open to this machine"), "{told}");
    lines
}

#[test]
fn the_log_has_a_line_per_commit_and_per_refusal() {
    let lines = logged("text");
    assert_eq!(lines.len(), 3, "start, registration, refusal: {lines:#?}");
    let serial =
        |line: &str| -> u32 { line.split_once("serial=").unwrap().1.split(' ').next().unwrap().parse().unwrap() };
    assert!(lines[0].contains("INFO") && lines[0].contains("commit"), "{lines:#?}");
    assert_eq!(serial(&lines[1]), serial(&lines[0]).wrapping_add(1));
    assert!(lines[1].contains("epoch=") && lines[1].contains("cause="), "{lines:#?}");
    assert!(lines[2].contains("registration refused") && lines[2].contains("[access] update"), "{lines:#?}");
    assert!(!lines.concat().contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn json_lines_parse() {
    let lines = logged("json");
    let parsed: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed.len(), 3, "{lines:#?}");
    for (line, message) in parsed.iter().zip(["commit", "commit", "registration refused"]) {
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], message);
        assert_eq!(line["zone"], ZONE);
        assert!(line["timestamp"].is_string());
    }
    assert!(parsed[1]["cause"].as_str().unwrap().contains("i-1"), "{}", parsed[1]);
}

#[test]
fn the_log_filter_is_honoured() {
    let server = TestServer::with(&Setup { arguments: vec!["--log", "off"], ..Setup::default() });
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!(server.logged(), [] as [String; 0]);
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), &["serve", "--log", "verbose"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("--log"), "{}", errors(&output));
}

#[test]
fn a_reader_that_went_away_does_not_stop_the_server() {
    let folder = TempDir::new().unwrap();
    let mut child = livezone()
        .args(["demo", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Reads the address and closes the pipe; the demo goes on printing commits into it.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let listening = lines.find_map(|line| line.unwrap().strip_prefix("listening on ").map(str::to_owned));
    let address = listening.unwrap().split(',').next().unwrap().parse().unwrap();
    drop(lines);
    let running = Running { child, stdout: Lines::default() };
    wait_until(PATIENCE, "two members", || (dig(address, &[MEMCACHED, "SRV"]).answers.len() >= 2).then_some(()));
    drop(running);
}

#[test]
fn check_prints_the_mistakes_of_a_zone_file_and_of_its_master_file_in_one_run() {
    let folder = TempDir::new().unwrap();
    let zones = folder.path().join("zones");
    std::fs::create_dir(&zones).unwrap();
    std::fs::write(folder.path().join("livezone.toml"), "").unwrap();
    std::fs::write(zones.join("a.zone"), "@ IN NS ns1\nns1 IN A 127.0.0.1\nwww IN A 300.0.0.1\n").unwrap();
    std::fs::write(zones.join("b.zone"), "east IN NS ns.example.\nb IN AAAA ::1\n").unwrap();
    let check = |settings: &str, wanted: &[&str]| {
        std::fs::write(zones.join("a.toml"), format!("origin = \"a.test.\"\n{settings}")).unwrap();
        let output = run(folder.path(), &["check", "--config", "livezone.toml"]);
        let said = errors(&output) + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for place in wanted {
            let times = wanted.iter().filter(|other| *other == place).count();
            assert_eq!(said.matches(place).count(), times, "{place} in {said}");
        }
        let places = said.matches("a.toml:").count() + said.matches(".zone:").count();
        assert_eq!(places, wanted.len(), "{said}");
    };
    // A value that makes no sense, an unknown key, a value of another type.
    let file = "static = \"a.zone\"\n";
    check(&format!("ttl = \"0s\"\n{file}"), &["zones/a.toml:2:7: ", "zones/a.zone:3:10: "]);
    check(&format!("tll = \"5s\"\n{file}"), &["zones/a.toml:2:1: ", "zones/a.zone:3:10: "]);
    check(&format!("ttl = 5\n{file}"), &["zones/a.toml:2:7: ", "zones/a.zone:3:10: "]);
    check(&format!("{file}[soa]\nprimary = \"a..b\"\n"), &["zones/a.toml:4:11: ", "zones/a.zone:3:10: "]);
    // What the two say together, of the service and of its host name; nothing is made up of a name server that is illegible.
    let together = "static = \"b.zone\"\n[[service]]\nname = \"_x._tcp.east\"\n[soa]\nprimary = \"a..b\"\n";
    check(together, &["zones/a.toml:6:11: ", "zones/b.zone:1:9: ", "zones/b.zone:1:9: "]);
    // The names of slots are their holders' alone.
    std::fs::write(zones.join("c.zone"), "@ NS ns1\nns1 A 127.0.0.1\ns0003.x A 192.0.2.1\ns003.x A 192.0.2.1\n")
        .unwrap();
    let slotted = "static = \"c.zone\"\n[[service]]\nname = \"_x._tcp\"\nslots = true\n";
    check(slotted, &["zones/c.zone:3:9: s0003.x.a.test. is the name of a slot of _x._tcp.a.test."]);
}
