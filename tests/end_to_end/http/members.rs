//! Members over HTTP: registered, renewed, drained and deregistered with curl, and seen by DNS.

use super::*;

pub(crate) const MEMBERS: &str = "/v1/zones/svc.example.test/services/_memcached._tcp/members";

#[track_caller]
pub(crate) fn send(server: &TestServer, method: &str, path: &str, body: &str) -> Response {
    curl(server, &["-X", method, "--data-binary", body, "-H", "Content-Type: application/json"], path)
}

#[track_caller]
pub(crate) fn put(server: &TestServer, id: &str, body: &str) -> Value {
    let response = send(server, "PUT", &format!("{MEMBERS}/{id}"), body);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

pub(crate) fn targets(server: &TestServer) -> Vec<String> {
    let answer = server.client().ask(&query(MEMCACHED, SRV));
    let mut targets: Vec<String> = answer.message.answers.iter().map(|record| record.data.to_string()).collect();
    targets.sort();
    targets
}

#[test]
fn a_member_comes_renews_changes_drains_and_goes() {
    let server = TestServer::start();
    let body = r#"{"port":11211,"addresses":["10.0.0.5","fd00::5"],"lease":"60s","metadata":{"az":"a","hot":null}}"#;
    let first = put(&server, "i-1", body);
    let serial = server.client().serial();
    assert_eq!((&first["serial"], &first["changed"]), (&serial.into(), &true.into()), "whoever is told finds itself");
    assert_eq!((&first["lease"], &first["state"]), (&60.into(), &"up".into()));
    assert_eq!(targets(&server), ["0 256 11211 i-1.memcached.svc.example.test."]);
    for heartbeat in [body, "{}", ""] {
        let renewed = put(&server, "i-1", heartbeat);
        assert_eq!((&renewed["epoch"], &renewed["changed"]), (&first["epoch"], &false.into()), "{heartbeat}");
    }
    assert_eq!(server.client().serial(), serial);
    let member = get(&server, &format!("{MEMBERS}/i-1")).json();
    assert_eq!(member["metadata"], serde_json::json!({"az": "a", "hot": null}));
    assert_eq!((&member["addresses"][1], &member["lease"]), (&"fd00::5".into(), &60.into()));
    assert!(seconds(&member["lease-remaining"]) > 30.0);
    let changed = put(&server, "i-1", r#"{"port":11212,"addresses":["10.0.0.5"],"weight":512,"lease":60}"#);
    assert_eq!(changed["epoch"].as_u64(), first["epoch"].as_u64().map(|epoch| epoch + 1));
    assert_eq!(targets(&server), ["0 512 11212 i-1.memcached.svc.example.test."]);
    let drained = send(&server, "POST", &format!("{MEMBERS}/i-1/drain"), "").json();
    assert_eq!((&drained["state"], &drained["waiting-for"]), (&"draining".into(), &serde_json::json!([])));
    assert_eq!(targets(&server), [""; 0]);
    assert_eq!(send(&server, "POST", &format!("{MEMBERS}/i-1/undrain"), "").json()["state"], "up");
    let gone = send(&server, "DELETE", &format!("{MEMBERS}/i-1"), "").json();
    assert_eq!((&gone["state"], &gone["lease"], &gone["changed"]), (&Value::Null, &Value::Null, &true.into()));
    assert_eq!(targets(&server), [""; 0]);
    send(&server, "DELETE", &format!("{MEMBERS}/i-1"), "").assert_problem(404, "no member i-1 is registered");
    send(&server, "PUT", &format!("{MEMBERS}/i-1"), "{}").assert_problem(404, "no member i-1 is registered");
    let causes: Vec<String> =
        commits(&server, "").iter().skip(1).map(|commit| commit["changes"][0]["cause"].to_string()).collect();
    let expected = ["registered", "changed", "drained", "undrained", "removed"].map(|cause| format!("\"{cause}\""));
    assert_eq!(causes, expected);
}

#[test]
fn a_member_without_addresses_has_those_of_its_sender_and_its_lease_ends() {
    let server = TestServer::start();
    put(&server, "i-1", r#"{"port":1,"lease":"1s"}"#);
    let member = get(&server, &format!("{MEMBERS}/i-1")).json();
    assert_eq!((&member["addresses"], &member["weight"]), (&serde_json::json!(["127.0.0.1"]), &256.into()));
    wait_until(PATIENCE, "its lease ends", || targets(&server).is_empty().then_some(()));
}

#[test]
fn a_batch_reports_on_each_item_by_itself() {
    let server = TestServer::start();
    put(&server, "i-1", r#"{"port":1,"addresses":["10.0.0.1"]}"#);
    let batch = r#"[{"service":"_memcached._tcp","id":"i-1"},
        {"service":"_memcached._tcp.svc.example.test.","id":"i-2","port":2,"addresses":["10.0.0.2"]},
        {"service":"_memcached._tcp","id":"i-9"}, {"service":"_memcached._tcp","id":"no good","port":3},
        {"service":"_http._tcp","id":"i-1","port":80,"lease":0}]"#;
    let serial = server.client().serial();
    let told = send(&server, "POST", "/v1/zones/svc.example.test/heartbeats", batch).json();
    let items = told["items"].as_array().unwrap();
    assert_eq!((&items[0]["changed"], &items[1]["changed"]), (&false.into(), &true.into()), "{told}");
    assert_eq!(items[2]["status"], 404, "{told}");
    assert_eq!((&items[3]["status"], &items[3]["field"]), (&422.into(), &"[3].id".into()), "{told}");
    assert_eq!((&items[4]["status"], &items[4]["field"]), (&422.into(), &"[4].lease".into()), "{told}");
    assert_eq!(told["serial"], serial + 1);
    assert_eq!(targets(&server).len(), 2);
    // As many as a batch may have share a few commits, and all of them are there.
    let item = |number| {
        format!(r#"{{"service":"_x{}._tcp","id":"i-{number}","port":2,"addresses":["10.0.0.2"]}}"#, number % 50)
    };
    let batch: Vec<String> = (0..10_000).map(item).collect();
    let file = server.folder().join("batch.json");
    std::fs::write(&file, format!("[{}]", batch.join(","))).unwrap();
    let told = send(&server, "POST", "/v1/zones/svc.example.test/heartbeats", &format!("@{}", file.display())).json();
    let items = told["items"].as_array().unwrap();
    assert!(items.len() == 10_000 && items.iter().all(|item| item["changed"] == true), "{}", items[0]);
    assert!(server.client().serial() <= serial + 11);
    let more = vec!["{\"service\":\"_x._tcp\",\"id\":\"i\"}"; 10_001].join(",");
    std::fs::write(&file, format!("[{more}]")).unwrap();
    let refused = send(&server, "POST", "/v1/zones/svc.example.test/heartbeats", &format!("@{}", file.display()));
    refused.assert_problem(413, "10001 items are more than a batch may have");
}

#[test]
fn a_bad_request_names_its_field_and_changes_nothing() {
    let server = TestServer::start();
    put(&server, "i-1", r#"{"port":1,"addresses":["10.0.0.1"]}"#);
    let serial = server.client().serial();
    let problem = |id: &str, body: &str| {
        let response = send(&server, "PUT", &format!("{MEMBERS}/{id}"), body);
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{response:?}");
        (response.status, response.json()["field"].as_str().unwrap_or_default().to_owned())
    };
    for (body, status, field) in [
        (r#"{"port":70000}"#, 422, "port"),
        (r#"{"port":1,"addresses":["10.0.0.1","x"]}"#, 422, "addresses[1]"),
        (r#"{"port":1,"lease":"1.5s"}"#, 422, "lease"),
        (r#"{"port":1,"lease":"soon"}"#, 422, "lease"),
        (r#"{"port":1,"wieght":1}"#, 422, "wieght"),
        (r#"{"weight":1}"#, 422, "port"),
        (r#"{"port":1,"target":"a..b"}"#, 422, "target"),
        (r#"{"port":1,"replaces":"s0001"}"#, 422, "replaces"),
        (r#"{"port":1,"metadata":{"a=b":"c"}}"#, 422, "metadata.a=b"),
        (r#"{"port":1"#, 400, ""),
        (r#"{"port":1} x"#, 400, ""),
        ("[1]", 422, ""),
    ] {
        assert_eq!(problem("i-1", body), (status, field.to_owned()), "{body}");
    }
    for id in ["s0001", "-a", "a.b"] {
        assert_eq!(problem(id, r#"{"port":1}"#).0, 400, "{id}");
    }
    let large = format!(r#"{{"port":1,"metadata":{{"a":"{}"}}}}"#, "x".repeat(65_536));
    assert_eq!(problem("i-1", &large).0, 413);
    send(&server, "PATCH", &format!("{MEMBERS}/i-1"), "").assert_problem(405, "PATCH is not possible here");
    send(&server, "PUT", "/v1/zones/svc.example.test/services/www/members/a", r#"{"port":1}"#)
        .assert_problem(422, "two labels with an underscore");
    assert_eq!(server.client().serial(), serial);
}

/// How much time a process has had on any core.
fn processor_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = text.rsplit_once(") ").unwrap().1;
    let ticks: u64 = behind_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[test]
fn measured_heartbeats_in_batches() {
    use std::io::{BufRead, BufReader, Read, Write};
    // Beside other tests a few are enough: they need the processors as well.
    let rounds = if std::env::args().any(|argument| argument.starts_with("measured")) { 60 } else { 2 };
    let server = TestServer::start();
    let mut stream = BufReader::new(std::net::TcpStream::connect(http(&server)).unwrap());
    let mut post = |body: &str| {
        let path = "/v1/zones/svc.example.test/heartbeats";
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
        write!(stream.get_mut(), "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    };
    let batch = |full: bool| {
        let item = |number: usize| {
            let [.., high, low] = number.to_be_bytes();
            let rest = format!(r#","port":11211,"addresses":["10.0.{high}.{low}"],"lease":600"#);
            format!(r#"{{"service":"_s{}._tcp","id":"i-{number}"{}}}"#, number % 20, if full { &rest } else { "" })
        };
        format!("[{}]", (0..10_000).map(item).collect::<Vec<_>>().join(","))
    };
    for (what, full) in [("as they are registered", true), ("by service and id", false)] {
        let batch = batch(full);
        post(&batch);
        let before = processor_time(server.pid());
        for _ in 0..rounds {
            assert_eq!(post(&batch).matches(r#""lease":600,"state":"up","changed":false"#).count(), 10_000);
        }
        let took = processor_time(server.pid()) - before;
        let rate = f64::from(rounds) * 10_000.0 / took.as_secs_f64();
        eprintln!("members {what}, 10,000 a request: {rate:.0} renewals a second of one core");
    }
}
