//! The commands that act on members, and the one that follows them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use super::members::{MEMBERS, put, send, targets};
use super::*;
use crate::support::server::{Lines, collect};

/// A command that goes on, killed when dropped; its lines, and its errors.
pub(super) struct Running(Child, mpsc::Receiver<String>, Lines);

impl Running {
    pub(super) fn start(server: &TestServer, arguments: &[&str]) -> Running {
        let url = format!("http://{}", http(server));
        let arguments = [arguments, &["--server", &url]].concat();
        let mut child = livezone().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = Lines::default();
        collect(child.stderr.take().unwrap(), &errors);
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running(child, lines, errors)
    }

    pub(super) fn errors(&self) -> String {
        self.2.lock().unwrap().join("\n")
    }

    pub(super) fn next(&self) -> String {
        self.1.recv_timeout(PATIENCE).expect("a line")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn member(number: u32) -> String {
    format!(r#"{{"port":11211,"addresses":["10.0.0.{number}"],"lease":60}}"#)
}

#[test]
fn watch_tells_each_change_of_its_service_and_hands_the_list_to_a_command() {
    let server = TestServer::start();
    put(&server, "a", &member(1));
    let lines = Running::start(&server, &["watch", ZONE, "_memcached._tcp"]);
    assert!(lines.next().ends_with(" members 1: a"));
    let file = server.folder().join("list");
    let copy = format!("cat > {0}.new && mv {0}.new {0}", file.display());
    let _following =
        Running::start(&server, &["watch", ZONE, "_memcached._tcp", "--format", "haproxy", "--exec", &copy]);
    put(&server, "b", &member(2));
    assert!(lines.next().ends_with(" members 2: +b"));
    // Another service's change is none of this one.
    server.client().update(&Update::member("_x._tcp.svc.example.test.", "z", "192.0.2.1").lease(60));
    put(&server, "a", &member(3));
    assert!(lines.next().ends_with(" members 2: ~a"));
    wait_until(PATIENCE, "the command has the list", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.ends_with("server a 10.0.0.3:11211 weight 1\nserver b 10.0.0.2:11211 weight 1\n").then_some(())
    });
    let nft = ask(&server, &["watch", ZONE, "_memcached._tcp", "--format", "nft", "--once"]);
    assert!(nft.contains("add element inet livezone memcached_tcp_ipv4 { 10.0.0.2, 10.0.0.3 }"), "{nft}");
    let url = format!("http://{}", http(&server));
    let unknown = command(&["watch", ZONE, "_nobody._tcp", "--server", &url]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

#[test]
fn watch_goes_on_when_its_server_comes_back() {
    let mut server = TestServer::start();
    put(&server, "a", &member(1));
    // The port of HTTP is another one after a restart, unless it is named.
    let address = http(&server).to_string();
    std::fs::write(server.folder().join("livezone.toml"), format!("[http]\nlisten = \"{address}\"\n")).unwrap();
    server.kill_9();
    server.restart();
    let lines = Running::start(&server, &["watch", ZONE, "_memcached._tcp"]);
    assert!(lines.next().ends_with(" members 1: a"));
    assert_eq!(http(&server).to_string(), address);
    server.kill_9();
    server.restart();
    put(&server, "b", &member(2));
    assert!(lines.next().ends_with(" members 2: +b"));
}

#[test]
fn drain_waits_until_it_is_safe_and_undrain_brings_back() {
    let server = TestServer::start();
    put(&server, "a", &member(1));
    let began = std::time::Instant::now();
    let drained = ask(&server, &["drain", ZONE, "_memcached._tcp", "a", "--wait"]);
    assert!(drained.starts_with("a drains; safe to stop at "), "{drained}");
    assert!(began.elapsed() >= Duration::from_millis(1900), "the TTL of a second, and another");
    assert_eq!(targets(&server), [""; 0]);
    let members = ask(&server, &["members", ZONE, "_memcached._tcp"]);
    assert!(members.contains("draining"), "{members}");
    assert!(ask(&server, &["undrain", ZONE, "_memcached._tcp", "a"]).starts_with("a is back, with serial "));
    assert_eq!(targets(&server).len(), 1);
    assert_eq!(ask(&server, &["release", ZONE, "_memcached._tcp", "--held"]), "nobody was held\n");
    let url = format!("http://{}", http(&server));
    let wrong = command(&["release", ZONE, "_memcached._tcp", "a", "--server", &url]);
    assert!(
        wrong.status.code() == Some(1) && String::from_utf8_lossy(&wrong.stderr).contains("is not held"),
        "{wrong:?}"
    );
}

#[test]
fn slots_are_listed_and_free_ones_at_the_end_removed_for_good() {
    let service = "[[service]]\nname = \"_memcached._tcp\"\nslots = true\n";
    let mut server = TestServer::with(&Setup { tables: service.to_owned(), ..Setup::default() });
    for (id, number) in [("a", 1), ("b", 2), ("c", 3)] {
        put(&server, id, &member(number));
    }
    send(&server, "DELETE", &format!("{MEMBERS}/a"), "");
    send(&server, "DELETE", &format!("{MEMBERS}/c"), "");
    let name = |number: u32| format!("s000{number}.memcached.svc.example.test.");
    let listed = ask(&server, &["slots", ZONE, "_memcached._tcp"]);
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].concat(), "SLOTMEMBERFREESINCELASTMEMBER");
    assert_eq!(lines[2], [name(1).as_str(), "b"]);
    assert!(matches!(lines[1].as_slice(), [free, "-", _since, "a"] if *free == name(0)), "{listed}");
    let serial = server.client().serial();
    assert_eq!(ask(&server, &["slots", ZONE, "_memcached._tcp", "--shrink"]).lines().count(), 3);
    assert_eq!(server.client().serial(), serial + 1);
    assert_eq!(ask(&server, &["slots", ZONE, "_memcached._tcp", "--shrink"]).lines().count(), 3);
    assert_eq!(server.client().serial(), serial + 1, "there is nothing more to remove");
    server.kill_9();
    server.restart();
    assert_eq!(ask(&server, &["slots", ZONE, "_memcached._tcp"]).lines().count(), 3);
    assert_eq!((put(&server, "d", &member(4))["slot"].clone(), server.client().serial()), (0.into(), serial + 2));
}
