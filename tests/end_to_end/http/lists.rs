//! The lists that `livezone watch` writes, as the programs take them that they are for; and `--exec`.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use socket2::{Domain, Socket, Type};

use super::commands::{Running, member};
use super::members::{MEMBERS, put, send};
use super::*;
use crate::support::namespace::{Place, enter};

/// Whether the test goes on, in a network and with mounts of its own.
fn is_inside(test: &str) -> bool {
    let test = format!("http::lists::{test}");
    match enter(&test, &["--net", "--mount"]) {
        Place::Inside => true,
        Place::Ran => false,
        Place::Unavailable => {
            eprintln!("{test} did not run: it needs namespaces (unshare)");
            false
        }
    }
}

fn watch(format: &'static str) -> [&'static str; 5] {
    ["watch", ZONE, "_memcached._tcp", "--format", format]
}

#[test]
fn a_firewall_follows_the_members_by_sets_of_nftables() {
    if !is_inside("a_firewall_follows_the_members_by_sets_of_nftables") {
        return;
    }
    let server = TestServer::start();
    put(&server, "a", r#"{"port":11211,"addresses":["127.0.0.11","fd00::11"],"lease":60}"#);
    let nft = |script: &str| {
        let output = run("nft", &["-f", "-"], script);
        assert!(output.status.success(), "{output:?}\n{script}");
        String::from_utf8(output.stdout).unwrap()
    };
    let elements = |family: &str| -> Value {
        let output = run("nft", &["-j", "list", "set", "inet", "livezone", &format!("memcached_tcp_{family}")], "");
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        listed["nftables"][1]["set"]["elem"].clone()
    };
    let following = Running::start(&server, &[&watch("nft")[..], &["--exec", "nft -f -"]].concat());
    wait_until(PATIENCE, "the first list", || (elements("ipv4") == serde_json::json!(["127.0.0.11"])).then_some(()));
    assert_eq!(elements("ipv6"), serde_json::json!(["fd00::11"]));
    // The rules of the help, with an answer in place of silence.
    nft("add chain inet livezone input { type filter hook input priority -1; }\n\
         add rule inet livezone input tcp dport 11211 ip saddr != @memcached_tcp_ipv4 reject with tcp reset\n");
    let cache = TcpListener::bind("0.0.0.0:11211").unwrap();
    let is_let_in = |address: &str| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let (from, to): (SocketAddr, SocketAddr) =
            (format!("{address}:0").parse().unwrap(), "127.0.0.1:11211".parse().unwrap());
        socket.bind(&from.into()).unwrap();
        socket.connect(&to.into()).is_ok()
    };
    assert!(is_let_in("127.0.0.11") && !is_let_in("127.0.0.12"));
    put(&server, "b", r#"{"port":11211,"addresses":["127.0.0.12"],"lease":60}"#);
    wait_until(PATIENCE, "a newcomer is let in", || is_let_in("127.0.0.12").then_some(()));
    send(&server, "DELETE", &format!("{MEMBERS}/a"), "");
    wait_until(PATIENCE, "who went is not", || (!is_let_in("127.0.0.11")).then_some(()));
    assert_eq!((elements("ipv4"), elements("ipv6")), (serde_json::json!(["127.0.0.12"]), Value::Null));
    // The last one goes: the sets are empty, and the rule stands.
    send(&server, "DELETE", &format!("{MEMBERS}/b"), "");
    wait_until(PATIENCE, "nobody", || (!is_let_in("127.0.0.12")).then_some(()));
    assert_eq!(elements("ipv4"), Value::Null);
    assert_eq!(following.errors(), "");
    drop(cache);
}

#[test]
fn haproxy_takes_the_servers_of_a_service_into_its_configuration() {
    let server = TestServer::start();
    put(&server, "a", r#"{"port":11211,"addresses":["10.0.0.1","fd00::1"],"lease":60,"weight":65535}"#);
    put(&server, "b", r#"{"port":11212,"addresses":["fd00::2"],"lease":60,"weight":0}"#);
    // A target that only others know, and that has no address here.
    let elsewhere = Update::new().add(MEMCACHED, SRV, 5, &srv(11213, "c.nowhere.invalid.")).lease(60);
    server.client().update(&elsewhere);
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("haproxy.cfg");
    let list = ask(&server, &[&watch("haproxy")[..], &["--once"]].concat());
    assert_eq!(list.lines().filter(|line| line.starts_with("server ")).count(), 3, "{list}");
    let config = format!(
        "defaults\n mode tcp\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n\
         frontend f\n bind 127.0.0.1:1\n default_backend cache\nbackend cache\n{list}"
    );
    std::fs::write(&file, &config).unwrap();
    let checked = run("haproxy", &["-c", "-f", file.to_str().unwrap()], "");
    assert!(checked.status.success(), "{checked:?}\n{config}");
}

#[test]
fn the_system_resolves_members_by_the_lines_for_etc_hosts() {
    if !is_inside("the_system_resolves_members_by_the_lines_for_etc_hosts") {
        return;
    }
    let server = TestServer::start();
    put(&server, "a", r#"{"port":11211,"addresses":["10.0.0.1","fd00::1"],"lease":60}"#);
    put(&server, "b", &member(2));
    let hosts = server.folder().join("hosts");
    std::fs::write(&hosts, ask(&server, &[&watch("hosts")[..], &["--once"]].concat())).unwrap();
    let switch = server.folder().join("nsswitch");
    std::fs::write(&switch, "hosts: files\n").unwrap();
    for (file, place) in [(&hosts, "/etc/hosts"), (&switch, "/etc/nsswitch.conf")] {
        let place = std::fs::canonicalize(place).unwrap();
        assert!(Command::new("mount").arg("--bind").args([file, &place]).status().unwrap().success());
    }
    let resolved = |name: &str| -> Vec<String> {
        let text = String::from_utf8(run("getent", &["hosts", name], "").stdout).unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let a = "a.memcached.svc.example.test";
    assert_eq!(resolved(a), ["fd00::1", a]);
    // Backwards too.
    assert_eq!(resolved("10.0.0.1"), ["10.0.0.1", a]);
    let b = "b.memcached.svc.example.test";
    assert_eq!(resolved(b), ["10.0.0.2", b]);
    assert_eq!(resolved("c.memcached.svc.example.test"), [""; 0]);
}

#[test]
fn watch_ends_with_its_reader() {
    let server = TestServer::start();
    put(&server, "a", &member(1));
    let url = format!("http://{}", http(&server));
    let arguments = ["watch", ZONE, "_memcached._tcp", "--server", &url];
    let mut watch = livezone().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.ends_with(" members 1: a\n"), "{line}");
    put(&server, "b", &member(2));
    let status = wait_until(PATIENCE, "its end at the next change", || watch.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

/// The lists that a command was given, by the ids in each.
fn lists(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let of = |line: &str| {
        let view: Value = serde_json::from_str(line).unwrap();
        let ids = view["members"].as_array().unwrap().iter().map(|member| member["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(of).collect()
}

#[test]
fn a_command_runs_once_at_a_time_and_next_with_all_that_came_meanwhile() {
    let server = TestServer::start();
    put(&server, "a", &member(1));
    let (file, go) = (server.folder().join("lists"), server.folder().join("go"));
    // It ends with the test as well, which takes the file away.
    let (list, word) = (file.display(), go.display());
    let command = format!("cat >> {list}; until [ -e {word} ] || [ ! -e {list} ]; do sleep 0.01; done");
    let _following = Running::start(&server, &["watch", ZONE, "_memcached._tcp", "--exec", &command]);
    wait_until(PATIENCE, "the first list", || (lists(&file) == ["a"]).then_some(()));
    for (number, id) in ["b", "c", "d"].into_iter().enumerate() {
        put(&server, id, &member(u32::try_from(number).unwrap() + 2));
    }
    assert_eq!(lists(&file), ["a"], "the first run has not ended");
    std::fs::write(&go, "").unwrap();
    wait_until(PATIENCE, "the next list", || (lists(&file).len() > 1).then_some(()));
    put(&server, "e", &member(5));
    wait_until(PATIENCE, "one more", || (lists(&file).len() > 2).then_some(()));
    assert_eq!(lists(&file), ["a", "a b c d", "a b c d e"]);
}

#[test]
fn a_command_that_fails_is_told_and_runs_again_at_the_next_change_over_a_restart_of_the_server() {
    let mut server =
        TestServer::with(&Setup { server: "[http]\nlisten = \"127.0.0.1:0\"\n".to_owned(), ..Setup::default() });
    // Its port for HTTP from here on.
    let address = http(&server);
    std::fs::write(server.folder().join("livezone.toml"), format!("[http]\nlisten = \"{address}\"\n")).unwrap();
    put(&server, "a", &member(1));
    let file = server.folder().join("lists");
    let command = format!("cat >> {}; exit 3", file.display());
    let following = Running::start(&server, &["watch", ZONE, "_memcached._tcp", "--exec", &command]);
    let failures = || following.errors().matches("exit status: 3; it is run again at the next change").count();
    wait_until(PATIENCE, "the failure is told", || (failures() == 1).then_some(()));
    put(&server, "b", &member(2));
    wait_until(PATIENCE, "the next too", || (failures() == 2).then_some(()));
    server.kill_9();
    wait_until(PATIENCE, "the server is missed", || following.errors().contains("the last list stands").then_some(()));
    server.restart();
    put(&server, "c", &member(3));
    wait_until(PATIENCE, "a change after the restart", || (failures() == 3).then_some(()));
    assert_eq!(lists(&file), ["a", "a b", "a b c"], "a restart is no change");
    // Who reads nothing of the list has not failed.
    let ignoring = Running::start(&server, &["watch", ZONE, "_memcached._tcp", "--once", "--exec", "echo done"]);
    assert_eq!(ignoring.next(), "done");
    assert_eq!(ignoring.errors(), "");
}
