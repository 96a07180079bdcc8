//! The HTTP API, asked with curl, and the commands that ask it.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::message::*;
use crate::support::programs::run;
use crate::support::server::{Setup, TestServer, livezone};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

mod bodies;
mod browsers;
mod clients;
mod commands;
mod description;
mod documents;
mod errors;
mod explained;
mod lists;
pub(crate) mod members;
mod metrics;
mod policies;
mod readiness;
mod secured;
mod tables;
pub(crate) mod tokens;
mod watching;

/// A response as curl prints it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A problem with this status, whose detail contains this.
    #[track_caller]
    fn assert_problem(&self, status: u16, detail: &str) {
        assert_eq!((self.status, self.header("content-type")), (status, Some("application/problem+json")), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
}

pub(crate) fn http(server: &TestServer) -> SocketAddr {
    server.http.expect("it serves HTTP")
}

pub(crate) fn curl(server: &TestServer, arguments: &[&str], path: &str) -> Response {
    let url = format!("http://{}{path}", http(server));
    let output =
        run("curl", &[&["-s", "-S", "-i", "--path-as-is", "-m", "20"], arguments, &[url.as_str()]].concat(), "");
    assert!(output.status.success(), "{path}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Response { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
}

#[track_caller]
pub(crate) fn get(server: &TestServer, path: &str) -> Response {
    let response = curl(server, &[], path);
    assert_eq!(response.status, 200, "{path}: {response:?}");
    response
}

/// The commits of the tests' zone that the server tells, over all pages.
pub(crate) fn commits(server: &TestServer, query: &str) -> Vec<Value> {
    let mut path = format!("/v1/zones/{ZONE}/commits{query}");
    let mut commits = Vec::new();
    loop {
        let page = get(server, &path).json();
        commits.extend(page["commits"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => return commits,
        }
    }
}

fn command(arguments: &[&str]) -> Output {
    livezone().args(arguments).output().unwrap()
}

/// A client command against a server; what it printed.
#[track_caller]
pub(crate) fn ask(server: &TestServer, arguments: &[&str]) -> String {
    let url = format!("http://{}", http(server));
    let output = command(&[arguments, &["--server", &url]].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn seconds(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn zones_and_services_are_told_as_dns_has_them() {
    let server = TestServer::with(&Setup {
        tables: "[[service]]\nname = \"_memcached._tcp\"\n[[service]]\nname = \"_x._tcp.east\"\nhost-name = \"\"\n"
            .to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    let serial = client.serial();
    let zones = get(&server, "/v1/zones").json();
    let zone = &zones["zones"][0];
    assert_eq!(zones["zones"].as_array().unwrap().len(), 1);
    assert_eq!((zone["origin"].as_str(), zone["role"].as_str()), (Some(ZONE), Some("primary")));
    assert_eq!((&zone["serial"], &zone["services"]), (&serial.into(), &2.into()));
    assert_eq!(zone["epoch"].as_u64().unwrap() & 0xffff_ffff, u64::from(serial));
    for path in [ZONE, "svc.example.test", "SVC.Example.Test.", "%73vc.example.test"] {
        assert_eq!(&get(&server, &format!("/v1/zones/{path}")).json(), zone, "{path}");
    }
    let services = get(&server, "/v1/zones/svc.example.test/services").json();
    assert_eq!((&services["serial"], &services["epoch"]), (&serial.into(), &zone["epoch"]));
    let [memcached, east] = services["services"].as_array().unwrap().as_slice() else { panic!("{services}") };
    assert_eq!(east["service"], "_x._tcp.east.svc.example.test.");
    assert_eq!((&east["host-name"], &east["members-count"]), (&Value::Null, &0.into()));
    assert_eq!(memcached["service"], MEMCACHED);
    assert_eq!(memcached["host-name"], "memcached.svc.example.test.");
    let said = client.ask(&query(MEMCACHED, TXT)).message.answers[0].data.to_string();
    for (key, value) in [("epoch", &memcached["epoch"]), ("members", &memcached["members-count"])] {
        assert!(said.contains(&format!("{key}={value}")), "{said}");
    }
    assert!(said.contains(&format!("digest={}", memcached["digest"].as_str().unwrap())), "{said}");
    assert_eq!(curl(&server, &[], "/healthz").body, "ok\n");
    let head = curl(&server, &["-I"], "/v1/zones");
    assert_eq!((head.status, head.body.as_str(), head.header("content-type")), (200, "", Some("application/json")));
}

#[test]
fn members_are_told_with_state_lease_owner_and_metadata() {
    let server = TestServer::with(&Setup {
        keys: vec![("agents", "hmac-sha256")],
        tables: "[access]\nupdate = [{ key = \"agents.\" }, { network = \"127.0.0.0/8\" }]\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let signed = Update::member(MEMCACHED, "i-1", "192.0.2.1")
        .add("i-1.memcached.svc.example.test.", AAAA, 5, &address("2001:db8::1").1)
        .add(&format!("i-1.{MEMCACHED}"), TXT, 5, &txt(&["az=a", "flag", "k=v=w"]))
        .lease(60);
    assert_eq!(client.ask(&server.key("agents").sign(&signed.encode()).octets).rcode(), 0);
    client.update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(300));
    let path = format!("/v1/zones/{ZONE}/services/");
    let view = get(&server, &format!("{path}_memcached._tcp")).json();
    for other in ["_memcached._tcp.svc.example.test", MEMCACHED, "_MEMCACHED._TCP"] {
        assert_eq!(get(&server, &format!("{path}{other}")).json()["digest"], view["digest"], "{other}");
    }
    assert_eq!((&view["service"], &view["members-count"]), (&MEMCACHED.into(), &2.into()));
    let member = &view["members"][0];
    assert_eq!(member["id"], "i-1");
    assert_eq!(member["target"], "i-1.memcached.svc.example.test.");
    assert_eq!([&member["port"], &member["priority"], &member["weight"], &member["lease"]], [11211, 0, 256, 60]);
    assert_eq!(member["addresses"], serde_json::json!(["192.0.2.1", "2001:db8::1"]));
    assert_eq!(
        (&member["state"], &member["late"], &member["owner"]),
        (&"up".into(), &false.into(), &"key agents.".into())
    );
    assert_eq!(member["metadata"], serde_json::json!({"az": "a", "flag": null, "k": "v=w"}));
    assert!((30.0..=60.0).contains(&seconds(&member["lease-remaining"])), "{member}");
    let heard = humantime::parse_rfc3339(member["last-heartbeat"].as_str().unwrap()).unwrap();
    assert!(heard.elapsed().unwrap() < Duration::from_secs(30), "{member}");
    assert!(view["members"][1]["owner"].as_str().unwrap().contains("127.0.0.0/8"), "{view}");
    // A heartbeat moves the lease and no epoch; one that drains keeps its name.
    client.update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(300));
    let drain = Update::new().delete_record(MEMCACHED, SRV, &srv(11211, &host_of(MEMCACHED, "i-2"))).add(
        &host_of(MEMCACHED, "i-2"),
        A,
        5,
        &address("192.0.2.2").1,
    );
    client.update(&drain.lease(300));
    let view = get(&server, &format!("{path}_memcached._tcp")).json();
    assert_eq!((&view["members"][1]["state"], &view["members-count"]), (&"draining".into(), &1.into()));
    let table = ask(&server, &["members", ZONE, "_memcached._tcp"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    let columns = |row: usize| lines[row].iter().copied().filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    assert_eq!(columns(0), ["SERVICE", "ID", "ADDRESS", "PORT", "STATE", "LEASE LEFT", "OWNER"]);
    assert_eq!(columns(1)[..5], [MEMCACHED, "i-1", "192.0.2.1,2001:db8::1", "11211", "up"]);
    assert!(columns(2)[4].starts_with("draining since "), "{table}");
    assert_eq!(ask(&server, &["members"]).lines().count(), 3);
    let json: Value = serde_json::from_str(&ask(&server, &["members", ZONE, "--json"])).unwrap();
    assert_eq!(json["members"][0]["id"], "i-1");
}

#[test]
fn an_epoch_that_the_client_has_is_not_sent_again() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    let paths = ["", "/services", "/services/_memcached._tcp"].map(|rest| format!("/v1/zones/{ZONE}{rest}"));
    for path in &paths {
        let first = get(&server, path);
        let tag = first.header("etag").unwrap();
        assert_eq!(tag, format!("\"{}\"", first.json()["epoch"]), "{path}");
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"1\", {tag}"), "*".to_owned()] {
            let again = curl(&server, &["-H", &format!("If-None-Match: {known}")], path);
            assert_eq!(
                (again.status, again.body.as_str(), again.header("etag")),
                (304, "", Some(tag)),
                "{path} {known}"
            );
        }
        assert_eq!(curl(&server, &["-H", "If-None-Match: \"1\""], path).status, 200);
    }
    // A commit of another service moves the zone's and not the service's.
    let tags = paths.clone().map(|path| get(&server, &path).header("etag").unwrap().to_owned());
    client.update(&Update::member("_www._tcp.svc.example.test.", "w", "192.0.2.9").lease(60));
    let moved = [true, true, false];
    for ((path, tag), moved) in paths.iter().zip(&tags).zip(moved) {
        let status = curl(&server, &["-H", &format!("If-None-Match: {tag}")], path).status;
        assert_eq!(status, if moved { 200 } else { 304 }, "{path}");
    }
}

#[test]
fn every_commit_is_told_with_who_and_why_and_what() {
    let server = TestServer::with(&Setup {
        keys: vec![("agents", "hmac-sha256")],
        tables: "[access]\nupdate = [{ key = \"agents.\" }, { network = \"127.0.0.0/8\", records = [\"*\"] }]\n"
            .to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let before = get(&server, &format!("/v1/zones/{ZONE}")).json()["epoch"].as_u64().unwrap();
    let signed = Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60).encode();
    assert_eq!(client.ask(&server.key("agents").sign(&signed).octets).rcode(), 0);
    client.update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(1));
    wait_until(PATIENCE, "the lapse of i-2", || (client.targets(MEMCACHED).len() == 1).then_some(()));
    client.update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(60));
    client.update(&Update::new().delete_record(MEMCACHED, SRV, &srv(11211, &host_of(MEMCACHED, "i-2"))));
    client.update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(60));
    client.update(&Update::new().add("h.svc.example.test.", TXT, 1, &txt(&["x\"y"])).lease(60));

    let told = commits(&server, &format!("?since={before}"));
    let epochs: Vec<u64> = told.iter().map(|commit| commit["epoch"].as_u64().unwrap()).collect();
    assert_eq!(epochs, (before + 1..=before + 7).collect::<Vec<_>>());
    let causes: Vec<(&str, Option<&str>)> = told
        .iter()
        .map(|commit| {
            let [change] = commit["changes"].as_array().unwrap().as_slice() else { panic!("{commit}") };
            (change["cause"].as_str().unwrap(), change["by"].as_str())
        })
        .collect();
    let loopback = Some("address 127.0.0.1");
    assert_eq!(
        causes,
        [
            ("registered", Some("key agents.")),
            ("registered", loopback),
            ("expired", None),
            ("renewed-after-lapse", loopback),
            ("removed", loopback),
            ("registered", loopback),
            ("registered", loopback),
        ]
    );
    let change = &told[3]["changes"][0];
    assert_eq!(
        (&change["what"], &change["service"], &change["id"]),
        (&"member".into(), &MEMCACHED.into(), &"i-2".into())
    );
    assert_eq!(change["lapse-epoch"], before + 3);
    let added = told[0]["added"].as_array().unwrap();
    assert!(added.contains(&format!("{MEMCACHED} 1 IN SRV 0 256 11211 i-1.memcached.{ZONE}").into()), "{added:?}");
    assert_eq!(told[0]["added"], told[0]["added"]);
    assert!(told[2]["removed"].as_array().unwrap().contains(&format!("i-2.memcached.{ZONE} 1 IN A 192.0.2.2").into()));
    assert_eq!(told[6]["changes"][0]["what"], "leased-records");
    assert_eq!(told[6]["added"], serde_json::json!(["h.svc.example.test. 1 IN TXT \"x\\\"y\""]));
    for commit in &told {
        assert_eq!(commit["serial"].as_u64().unwrap(), commit["epoch"].as_u64().unwrap() & 0xffff_ffff);
        let time = commit["time"].as_str().unwrap();
        assert!(
            time.len() == 24 && humantime::parse_rfc3339(time).unwrap().elapsed().unwrap() < PATIENCE * 2,
            "{time}"
        );
    }
    // Page by page it is the same, also where the lapse stands on an earlier page.
    assert_eq!(commits(&server, &format!("?since={before}&limit=1")), told);
    assert_eq!(commits(&server, "?limit=2"), commits(&server, ""));
    let page = get(&server, &format!("/v1/zones/svc.example.test/commits?since={}", before + 7)).json();
    assert_eq!(
        (&page["commits"], &page["next"], &page["incomplete"]),
        (&serde_json::json!([]), &Value::Null, &false.into())
    );
    let whole = get(&server, &format!("/v1/zones/{ZONE}/commits?since=1")).json();
    assert_eq!(whole["incomplete"], false, "nothing was before the first one");

    let text = ask(&server, &["explain", ZONE, "--since", &before.to_string()]);
    let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("epoch ")).collect();
    assert_eq!(heads.len(), 7, "{text}");
    let head = format!("epoch {} serial {} ", before + 1, (before + 1) & 0xffff_ffff);
    assert!(
        heads[0].starts_with(&head) && heads[0].ends_with(&format!(": i-1 in {MEMCACHED} registered by key agents."))
    );
    let lapse = format!("i-2 in {MEMCACHED} renewed by address 127.0.0.1 after its lapse in epoch {}", before + 3);
    assert!(heads[3].ends_with(&lapse), "{}", heads[3]);
    assert!(heads[2].ends_with("i-2 in _memcached._tcp.svc.example.test. expired"), "{}", heads[2]);
    assert!(text.contains(&format!("\n  + i-1.memcached.{ZONE} 1 IN A 192.0.2.1\n")), "{text}");
    assert!(text.contains(&format!("\n  - i-2.memcached.{ZONE} 1 IN A 192.0.2.2\n")), "{text}");
    let json = ask(&server, &["explain", "svc.example.test", "--json", "--since", &before.to_string()]);
    assert_eq!(json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>(), told);
}

#[test]
fn history_is_told_over_a_restart() {
    let mut server = TestServer::start();
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    let told = commits(&server, "");
    assert!(told.len() >= 2 && told[0]["changes"][0]["cause"] == "configured", "{told:?}");
    server.kill_9();
    server.restart();
    assert_eq!(commits(&server, ""), told);
}

#[test]
fn what_is_asked_for_wrongly_is_told_as_a_problem() {
    let server = TestServer::start();
    let zone = format!("/v1/zones/{ZONE}");
    for (path, status, detail) in [
        ("/v1/zones/nowhere.test.".to_owned(), 404, "no zone nowhere.test."),
        ("/v1/zones/nowhere.test/commits".to_owned(), 404, "GET /v1/zones"),
        ("/v1/zones/a..b".to_owned(), 404, "no zone"),
        ("/v1/zones/%ff".to_owned(), 400, "path"),
        (format!("{zone}/services/_nobody._tcp"), 404, "no service _nobody._tcp"),
        (format!("{zone}/services/www"), 404, "/services lists"),
        (format!("{zone}/commits?since=yesterday"), 400, "`since`"),
        (format!("{zone}/commits?since=-1"), 400, "`since`"),
        (format!("{zone}/commits?since=18446744073709551616"), 400, "`since`"),
        (format!("{zone}/commits?since=1&since=2"), 400, "twice"),
        (format!("{zone}/commits?limit=0"), 400, "`limit`"),
        (format!("{zone}/commits?sinec=1"), 400, "`sinec`"),
        ("/v1".to_owned(), 404, "/v1/zones"),
        ("/v1/zone".to_owned(), 404, "/v1/zones"),
        (format!("{zone}/commits/"), 404, "/v1/zones"),
    ] {
        curl(&server, &[], &path).assert_problem(status, detail);
    }
    assert_eq!(curl(&server, &[], &format!("{zone}/commits?since=x")).json()["parameter"], "since");
    assert_eq!(
        get(&server, &format!("{zone}/commits?since=18446744073709551615")).json()["commits"],
        serde_json::json!([])
    );
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        let response = curl(&server, &["-X", method, "-d", "{}"], &zone);
        response.assert_problem(405, method);
        let allow = response.header("allow").unwrap();
        assert!(allow.contains("GET") && allow.contains("HEAD"), "{allow}");
    }
    // The commands say what to do, and end with 1.
    let refused = |arguments: &[&str], words: &[&str]| {
        let output = command(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty() && words.iter().all(|word| said.contains(word)), "{said}");
    };
    let url = http(&server).to_string();
    for command in ["explain", "members", "export"] {
        refused(&[command, "nowhere.test", "--server", &url], &["no zone nowhere.test.", "livezone members"]);
        refused(&[command, ZONE, "--server", "127.0.0.1:9"], &["no answer from http://127.0.0.1:9", "--server"]);
        refused(&[command, ZONE, "--server", &server.address.to_string()], &["--server"]);
    }
    refused(&["members", ZONE, "_nobody._tcp", "--server", &url], &["no service _nobody._tcp"]);
}

/// What a master file can have that is easily written wrong.
const ODD: &str = "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\nns1 IN AAAA ::1\n\
    q IN TXT \"a \\\"quoted\\\" ; text\" \"\" \"back\\\\slash\" \"\\000\\255\"\nu IN TYPE65280 \\# 3 0a0b0c\n\
    * IN TXT \"anything\"\n*.deep IN A 192.0.2.7\nd IN MX 10 ns1\na\\.b IN A 192.0.2.8\nsub IN NS ns.sub\nns.sub IN A 192.0.2.53\n\
    c IN CAA 0 issue \"ca.example.net; x=y\"\nl IN LOC 51 30 12.748 N 0 7 39.612 W 0.00m\n";

/// Holds a master file against those that would load it.
#[track_caller]
fn check(server: &TestServer, text: &str) {
    let file = server.folder().join("exported.zone");
    std::fs::write(&file, text).unwrap();
    for (program, arguments) in [
        ("named-checkzone", vec!["-i", "local", ZONE]),
        ("kzonecheck", vec!["-o", ZONE]),
        ("nsd-checkzone", vec![ZONE]),
    ] {
        let output = Command::new(program).args(arguments).arg(&file).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}\n{text}");
    }
}

#[test]
fn the_running_servers_zone_is_a_master_file_that_others_take() {
    let mut server = TestServer::with(&Setup {
        statics: ODD.to_owned(),
        tables: "[[service]]\nname = \"_memcached._tcp\"\ndns-sd = true\n".to_owned(),
        // A port of its own, for the configuration to tell.
        server: format!("[http]\nlisten = \"{}\"\n", crate::support::other::free_address()),
        ..Setup::default()
    });
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    client.update(&Update::member(MEMCACHED, "i-2", "2001:db8::2").lease(3600));
    let serial = client.serial();
    let exported = ask(&server, &["export", ZONE]);
    assert!(
        exported.starts_with(&format!("{ZONE} 2 IN SOA ns1.{ZONE} hostmaster.example.test. {serial} ")),
        "{exported}"
    );
    assert!(
        exported.contains("\nu.svc.example.test. 3600 IN TYPE65280 \\# 3 0A0B0C\n") || exported.contains("# 3 0a0b0c")
    );
    check(&server, &exported);
    let path = format!("/v1/zones/{ZONE}");
    let served = curl(&server, &["-H", "Accept: text/dns"], &path);
    assert_eq!((served.body.as_str(), served.header("content-type")), (exported.as_str(), Some("text/dns")));
    let epoch = get(&server, &path).json()["epoch"].to_string();
    assert_eq!((served.header("etag"), served.header("vary")), (Some(&*format!("\"{epoch}\"")), Some("Accept")));
    let known = format!("If-None-Match: \"{epoch}\"");
    assert_eq!(curl(&server, &["-H", "Accept: text/dns", "-H", &known], &path).status, 304);
    let head = curl(&server, &["-I", "-H", "Accept: text/dns"], &path);
    assert_eq!((head.status, head.header("content-type"), head.body.as_str()), (200, Some("text/dns"), ""));
    for json in ["*/*", "application/json, text/dns;q=0.5", "text/dns;q=0"] {
        assert_eq!(curl(&server, &["-H", &format!("Accept: {json}")], &path).json()["origin"], ZONE, "{json}");
    }
    // The configuration tells where the server is, and where its store is once it has ended.
    let config = server.folder().join("livezone.toml");
    let configured = || command(&["export", ZONE, "--config", config.to_str().unwrap()]);
    assert_eq!(String::from_utf8(configured().stdout).unwrap(), exported);
    server.terminate();
    assert_eq!(String::from_utf8(configured().stdout).unwrap(), exported);
}

#[test]
fn twenty_thousand_members_are_exported_from_one_snapshot_while_commits_go_on() {
    const SERVICES: usize = 20;
    const MEMBERS: usize = 1000;
    let server = TestServer::start();
    let client = server.client();
    for service in 0..SERVICES {
        let owner = format!("_s{service}._tcp.{ZONE}");
        for from in (0..MEMBERS).step_by(250) {
            let update = (from..from + 250).fold(Update::new().lease(3600), |update, number| {
                update.and_member(
                    &owner,
                    &format!("m-{number}"),
                    &format!("10.{service}.{}.{}", number / 250, number % 250),
                )
            });
            assert_eq!(client.ask_tcp(&update.encode()).rcode(), 0);
        }
    }
    let ended = AtomicBool::new(false);
    let (first, texts, last) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = server.client();
            let mut number = 0u32;
            // Two members that come and go together, so that a snapshot has both or none.
            while !ended.load(Ordering::Relaxed) {
                let pair = |update: Update| {
                    update.and_member(MEMCACHED, "a", "192.0.2.1").and_member(MEMCACHED, "b", "192.0.2.2")
                };
                client.update(&pair(Update::new()).lease(if number.is_multiple_of(2) { 3600 } else { 0 }));
                number += 1;
            }
        });
        let first = client.serial();
        wait_until(PATIENCE, "commits", || (client.serial() != first).then_some(()));
        let texts: Vec<String> = (0..2).map(|_| ask(&server, &["export", ZONE])).collect();
        let last = client.serial();
        ended.store(true, Ordering::Relaxed);
        (first, texts, last)
    });
    assert!(last > first + 2, "commits went on: {first} to {last}");
    for text in &texts {
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!(count("IN A 10."), 2 * SERVICES * MEMBERS, "each at its own name and in its address set");
        let [a, b] = ["a", "b"].map(|id| count(&format!("SRV 0 256 11211 {id}.memcached.")));
        assert_eq!(a, b);
        let said = text.lines().find(|line| line.starts_with(&format!("{MEMCACHED} 1 IN TXT"))).unwrap();
        assert!(said.contains(&format!("\"members={}\"", a + b)), "{said}");
        let serial: u32 = text.split(' ').nth(6).unwrap().parse().unwrap();
        let epoch: u32 = said.split("epoch=").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        assert!((first..=last).contains(&serial) && epoch <= serial, "{serial} {said}");
    }
    check(&server, &texts[0]);
}
