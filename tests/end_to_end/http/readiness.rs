//! Whether the server is ready, the page for people, and targets for Prometheus.

use super::*;
use crate::support::other::{Other, free_address};

const SERVICE: &str = "/v1/zones/svc.example.test/services/_memcached._tcp";

fn put(server: &TestServer, id: &str, body: &str) {
    let path = format!("{SERVICE}/members/{id}");
    assert_eq!(curl(server, &["-X", "PUT", "-d", body], &path).status, 200);
}

#[test]
fn the_server_is_ready_when_its_zones_are_loaded_and_its_store_takes_writes() {
    let mut server = TestServer::start();
    let ready = get(&server, "/readyz").json();
    let part = |part: &str| serde_json::json!({"part": part, "ready": true});
    assert_eq!(ready, serde_json::json!({"ready": true, "parts": [part("store"), part("zone svc.example.test.")]}));
    // A copy that never came.
    server.kill_9();
    let copy = "origin = \"copy.test.\"\nprimary = [\"127.0.0.1:1\"]\n";
    std::fs::write(server.folder().join("zones/copy.test.toml"), copy).unwrap();
    server.restart();
    let response = curl(&server, &[], "/readyz");
    assert_eq!(response.status, 503);
    let parts = response.json()["parts"].clone();
    let unready: Vec<&Value> = parts.as_array().unwrap().iter().filter(|part| part["ready"] == false).collect();
    assert_eq!((unready.len(), &unready[0]["part"]), (1, &"zone copy.test.".into()), "{parts}");
    assert!(unready[0]["reason"].as_str().unwrap().contains("no primary"));
    assert_eq!(get(&server, "/healthz").body, "ok\n");
}

#[test]
fn the_page_shows_who_is_there_and_takes_no_markup_from_anybody() {
    let server = TestServer::start();
    put(&server, "i-1", r#"{"port":11211,"addresses":["10.0.0.5"],"target":"<b>.example."}"#);
    put(&server, "i-2", r#"{"port":11212,"target":"<b>.example."}"#);
    let page = get(&server, "/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for text in
        ["svc.example.test.", "<h3>_memcached._tcp.svc.example.test.</h3>", "<td>i-1<td>10.0.0.5<td>11211<td>up"]
    {
        assert!(page.body.contains(text), "{text} in {}", page.body);
    }
    assert!(page.body.contains("&lt;b&gt;.example.") && !page.body.contains("<b>"), "{}", page.body);
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
}

/// The labels of Prometheus' targets, by their instance.
fn targets(at: SocketAddr) -> Option<Vec<(String, String)>> {
    let url = format!("http://{at}/api/v1/targets?state=active");
    let output = run("curl", &["-s", "-m", "5", &url], "");
    let page: Value = serde_json::from_slice(&output.stdout).ok()?;
    let label = |target: &Value, name: &str| target["labels"][name].as_str().unwrap_or_default().to_owned();
    let targets = page["data"]["activeTargets"].as_array()?.iter();
    let mut targets: Vec<_> = targets.map(|target| (label(target, "instance"), label(target, "az"))).collect();
    targets.sort();
    Some(targets)
}

#[test]
fn prometheus_finds_members_and_their_metadata_over_http() {
    let server = TestServer::start();
    put(&server, "i-1", r#"{"port":9100,"addresses":["127.0.0.11"],"metadata":{"az":"a"}}"#);
    put(&server, "i-2", r#"{"port":9100,"addresses":["::1"],"lease":"1h"}"#);
    let groups = get(&server, &format!("{SERVICE}/http-sd"));
    assert_eq!(groups.header("content-type"), Some("application/json"));
    assert_eq!(groups.json()[1]["targets"], serde_json::json!(["[::1]:9100"]));
    let folder = tempfile::TempDir::with_prefix("livezone-test-").unwrap();
    let config = format!(
        "global:\n  scrape_interval: 1h\nscrape_configs:\n  - job_name: m\n    http_sd_configs:\n      \
         - url: http://{}{SERVICE}/http-sd\n        refresh_interval: 1s\n    relabel_configs:\n      \
         - source_labels: [__meta_livezone_metadata_az]\n        target_label: az\n",
        http(&server)
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let at = free_address();
    let listen = format!("--web.listen-address={at}");
    let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", &listen];
    let _prometheus = Other::start(folder.path(), "prometheus", &arguments);
    let wait_for = |expected: &[(&str, &str)]| {
        let expected: Vec<_> = expected.iter().map(|(at, az)| ((*at).to_owned(), (*az).to_owned())).collect();
        wait_until(PATIENCE, "its targets", || targets(at).filter(|targets| *targets == expected));
    };
    wait_for(&[("127.0.0.11:9100", "a"), ("[::1]:9100", "")]);
    assert_eq!(curl(&server, &["-X", "POST"], &format!("{SERVICE}/members/i-1/drain")).status, 200);
    wait_for(&[("[::1]:9100", "")]);
}
