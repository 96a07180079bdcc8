//! `GET /metrics`: exact counts of what was done, and what the examples make of them, by Prometheus's own tools.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::support::answering::{Answering, acknowledge};
use crate::support::other::free_address;
use crate::tls::Secured;

/// A page of metrics: values by name and labels as they stand there, and types by family.
struct Page {
    samples: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
    text: String,
}

impl Page {
    fn of(server: &TestServer) -> Page {
        let response = get(server, "/metrics");
        assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
        for line in response.body.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} twice");
            }
        }
        Page { samples, types, text: response.body }
    }

    /// A sample by its name and labels; zero if there is none.
    fn value(&self, name: &str) -> f64 {
        self.samples.get(name).copied().unwrap_or(0.0)
    }

    #[track_caller]
    fn assert(&self, expected: &[(&str, f64)]) {
        for (name, value) in expected {
            assert_eq!(self.samples.get(*name), Some(value), "{name}\n{}", self.text);
        }
    }

    /// All samples of a family.
    fn family(&self, name: &str) -> BTreeMap<&str, f64> {
        let of = |sample: &&String| sample.split('{').next() == Some(name);
        self.samples.keys().filter(of).map(|sample| (&sample[name.len()..], self.samples[sample])).collect()
    }

    /// The family of a series, if there is one.
    fn family_of(&self, series: &str) -> Option<&str> {
        let stems = ["_bucket", "_sum", "_count"].iter().filter_map(|end| series.strip_suffix(end));
        let histogram = stems.filter(|stem| self.types.get(*stem).is_some_and(|kind| kind == "histogram"));
        let own = self.types.contains_key(series).then_some(series);
        own.into_iter().chain(histogram).next().and_then(|name| self.types.get_key_value(name)).map(|(name, _)| &**name)
    }
}

fn wait_for(server: &TestServer, what: &str, condition: impl Fn(&Page) -> bool) -> Page {
    wait_until(PATIENCE, what, || Some(Page::of(server)).filter(&condition))
}

#[test]
fn everything_that_was_done_is_counted_once() {
    let secured = Secured::start(Setup { arguments: vec!["--epoch", "100"], ..Setup::default() });
    let (server, client) = (&secured.server, secured.server.client());
    // Registered, renewed by the publisher, renewed in place, changed over TCP and TLS, lapsed, refused.
    for _ in 0..3 {
        client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    }
    assert_eq!(client.ask_tcp(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(60).encode()).rcode(), 0);
    assert_eq!(secured.ask(&Update::member(MEMCACHED, "i-3", "192.0.2.3").lease(60).encode()).rcode(), 0);
    client.update(&Update::member("_www._tcp.svc.example.test.", "w", "192.0.2.4").lease(1));
    let refused = Update::new().add("elsewhere.svc.example.test.", A, 1, &[192, 0, 2, 9]).encode();
    assert_eq!(client.ask(&refused).rcode(), 5);
    let nowhere = Update::of_zone("example.net.").add("x.example.net.", A, 1, &[192, 0, 2, 9]).encode();
    assert_eq!(client.ask(&nowhere).rcode(), 9);
    // 100: as configured; 101 to 104: registered; 105: lapsed.
    let up = "livezone_zone_members{zone=\"svc.example.test.\",state=\"up\"}";
    let epoch = "livezone_zone_epoch{zone=\"svc.example.test.\"}";
    wait_for(server, "the lapse", |page| page.value(up) == 3.0 && page.value(epoch) == 105.0);
    for _ in 0..3 {
        assert_eq!(client.ask(&query(MEMCACHED, SRV)).rcode(), 0);
    }
    assert_eq!(client.ask(&query("nobody.svc.example.test.", A)).rcode(), 3);
    assert_eq!(client.ask(&query("example.net.", A)).rcode(), 5);
    assert_eq!(client.ask(&query(ZONE, 9999)).rcode(), 0);
    let version_1 = [header(next_id(), 0, [1, 0, 0, 1]), question(ZONE, SOA, IN), opt(1232, 1, &[])].concat();
    client.ask(&version_1);
    for _ in 0..2 {
        assert_eq!(client.ask_tcp(&query(MEMCACHED, TXT)).rcode(), 0);
    }
    assert_eq!(secured.ask(&query(MEMCACHED, SRV)).rcode(), 0);
    let port = server.address.port().to_string();
    let whole = run("dig", &["@127.0.0.1", "-p", &port, ZONE, "AXFR"], "");
    assert!(String::from_utf8(whole.stdout).unwrap().contains("i-3.memcached"));

    let page = wait_for(server, "the end of the transfer", |page| {
        page.value("livezone_transfers_total{form=\"whole\",outcome=\"complete\"}") == 1.0
    });
    let queries: Vec<(&str, f64)> = page.family("livezone_queries_total").into_iter().collect();
    assert_eq!(
        queries,
        [
            ("{transport=\"tcp\",type=\"AXFR\",rcode=\"NOERROR\"}", 1.0),
            ("{transport=\"tcp\",type=\"TXT\",rcode=\"NOERROR\"}", 2.0),
            ("{transport=\"tls\",type=\"SRV\",rcode=\"NOERROR\"}", 1.0),
            ("{transport=\"udp\",type=\"A\",rcode=\"NXDOMAIN\"}", 1.0),
            ("{transport=\"udp\",type=\"A\",rcode=\"REFUSED\"}", 1.0),
            ("{transport=\"udp\",type=\"SOA\",rcode=\"BADVERS\"}", 1.0),
            ("{transport=\"udp\",type=\"SRV\",rcode=\"NOERROR\"}", 3.0),
            ("{transport=\"udp\",type=\"other\",rcode=\"NOERROR\"}", 1.0),
        ]
    );
    let mut heartbeats = page.family("livezone_heartbeats_total");
    heartbeats.retain(|_, count| *count > 0.0);
    assert_eq!(
        heartbeats.into_iter().collect::<Vec<_>>(),
        [
            ("{channel=\"tcp\",outcome=\"changed\"}", 1.0),
            ("{channel=\"tls\",outcome=\"changed\"}", 1.0),
            ("{channel=\"udp\",outcome=\"changed\"}", 2.0),
            ("{channel=\"udp\",outcome=\"refused\"}", 1.0),
            ("{channel=\"udp\",outcome=\"renewed\"}", 2.0),
            ("{channel=\"udp\",outcome=\"unauthenticated\"}", 1.0),
        ]
    );
    page.assert(&[
        ("livezone_query_duration_seconds_count{transport=\"tcp\"}", 2.0),
        ("livezone_publication_lag_seconds_count", 4.0),
        ("livezone_zone_loaded{zone=\"svc.example.test.\"}", 1.0),
        ("livezone_zone_serial{zone=\"svc.example.test.\"}", 105.0),
        ("livezone_zone_commits_total{zone=\"svc.example.test.\"}", 6.0),
        ("livezone_zone_members{zone=\"svc.example.test.\",state=\"suspect\"}", 0.0),
        ("livezone_zone_members{zone=\"svc.example.test.\",state=\"draining\"}", 0.0),
        ("livezone_zone_services{zone=\"svc.example.test.\"}", 2.0),
        ("livezone_zone_leased_records{zone=\"svc.example.test.\"}", 0.0),
        ("livezone_zone_queued_updates{zone=\"svc.example.test.\"}", 0.0),
        ("livezone_transfers_total{form=\"whole\",outcome=\"broken-off\"}", 0.0),
        ("livezone_transfers_under_way", 0.0),
        ("livezone_truncated_answers_total{transport=\"udp\"}", 0.0),
        ("livezone_store_failing", 0.0),
        ("livezone_store_writes_total{outcome=\"unavailable\"}", 0.0),
        ("livezone_limited_total{limit=\"answer-rate\"}", 0.0),
        ("livezone_udp_socket_drops_total", 0.0),
    ]);
    // Answers count as under way once they are: a client may be faster.
    let times = |page: &Page, transport: &str| {
        page.value(&format!("livezone_query_duration_seconds_bucket{{transport=\"{transport}\",le=\"+Inf\"}}"))
    };
    wait_for(server, "the time of every answer", |page| times(page, "udp") == 7.0 && times(page, "tls") == 1.0);
    assert!(page.value("livezone_store_writes_total{outcome=\"committed\"}") >= 6.0);
    assert!(page.value("livezone_store_size_bytes") > 1000.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for time in
        ["livezone_zone_last_commit_timestamp_seconds{zone=\"svc.example.test.\"}", "process_start_time_seconds"]
    {
        assert!((now - page.value(time)).abs() < 60.0, "{time} {now}: {}", page.text);
    }
    let megabyte = 1_000_000.0;
    assert!(page.value("process_resident_memory_bytes") > megabyte && page.value("process_cpu_seconds_total") > 0.0);
    assert!(page.value("process_open_fds") > 5.0 && page.value("process_max_fds") > page.value("process_open_fds"));
}

#[test]
fn answers_that_are_cut_and_updates_that_are_dropped_show() {
    let server = TestServer::with(&Setup { server: "[dns]\nupdate-rate = 1\n".to_owned(), ..Setup::default() });
    let client = server.client();
    let update = (0..40).fold(Update::new().lease(60), |update, number| {
        update.and_member(MEMCACHED, &format!("m-{number}"), &format!("192.0.2.{number}"))
    });
    client.update(&update);
    assert!(client.ask(&query(MEMCACHED, SRV)).message.metadata.truncation);
    Page::of(&server).assert(&[
        ("livezone_truncated_answers_total{transport=\"udp\"}", 1.0),
        ("livezone_queries_total{transport=\"udp\",type=\"SRV\",rcode=\"NOERROR\"}", 1.0),
        ("livezone_zone_members{zone=\"svc.example.test.\",state=\"up\"}", 40.0),
        ("livezone_heartbeats_total{channel=\"udp\",outcome=\"changed\"}", 1.0),
    ]);
    // A response gets no answer, and counts for nothing.
    client.send(&[header(7, 0x8000, [1, 0, 0, 0]), question(ZONE, SOA, IN)].concat());
    assert_eq!(client.serial(), client.serial());
    Page::of(&server).assert(&[("livezone_queries_total{transport=\"udp\",type=\"SOA\",rcode=\"NOERROR\"}", 2.0)]);
}

#[test]
fn secondaries_and_copies_tell_how_they_stand() {
    let is_notify = |message: &[u8]| message[2] & 0x78 == 0x20;
    let follows =
        Answering::to_all(
            "127.0.0.1:0",
            move |message, _| {
                if is_notify(message) { vec![acknowledge(message)] } else { Vec::new() }
            },
        );
    let silent = Answering::to_all("127.0.0.1:0", |_, _| Vec::new());
    let copying = free_address();
    let listed = [follows.address, silent.address, copying].map(|address| address.to_string());
    let primary = TestServer::with(&Setup {
        tables: format!("[notify]\nsecondaries = {listed:?}\n"),
        arguments: vec!["--epoch", "41"],
        ..Setup::default()
    });
    let copy = TestServer::with(&Setup {
        zone: Some(format!("origin = \"{ZONE}\"\nprimary = [\"{}\"]\n", primary.address)),
        listen: copying,
        ..Setup::default()
    });
    primary.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    let of =
        |name: &str, secondary: &str, more: &str| format!("{name}{{zone=\"{ZONE}\",secondary=\"{secondary}\"{more}}}");
    let acknowledged = of("livezone_secondary_acknowledged_serial", &listed[0], "");
    let transferred = of("livezone_secondary_transferred_serial", &listed[2], "");
    let missed = of("livezone_notifies_total", &listed[1], ",outcome=\"unanswered\"");
    let page = wait_for(&primary, "secondaries that have 42, and one that has nothing", |page| {
        page.value(&acknowledged) == 42.0 && page.value(&transferred) == 42.0 && page.value(&missed) >= 1.0
    });
    page.assert(&[
        (&of("livezone_secondary_current", &listed[0], ""), 1.0),
        (&of("livezone_secondary_current", &listed[1], ""), 0.0),
        (&of("livezone_secondary_behind_commits", &listed[0], ""), 0.0),
        (&of("livezone_secondary_acknowledged_timestamp_seconds", &listed[1], ""), 0.0),
        (&of("livezone_notifies_total", &listed[0], ",outcome=\"refused\""), 0.0),
    ]);
    assert!(page.value(&of("livezone_notifies_total", &listed[0], ",outcome=\"acknowledged\"")) >= 1.0);
    assert!(!page.samples.contains_key(&of("livezone_secondary_acknowledged_serial", &listed[1], "")), "{}", page.text);
    assert!(page.value("livezone_transfers_total{form=\"whole\",outcome=\"complete\"}") >= 1.0, "{}", page.text);

    let serial = format!("livezone_zone_serial{{zone=\"{ZONE}\"}}");
    let page = wait_for(&copy, "the copy", |page| page.value(&serial) == 42.0);
    page.assert(&[(&format!("livezone_copy_expired{{zone=\"{ZONE}\"}}"), 0.0)]);
    assert!(page.value(&format!("livezone_copy_rounds_total{{zone=\"{ZONE}\",outcome=\"transferred\"}}")) >= 1.0);
    let time = |name: &str| page.value(&format!("livezone_copy_{name}_timestamp_seconds{{zone=\"{ZONE}\"}}"));
    assert!((time("expires") - time("refreshed") - 3600.0).abs() < 2.0, "{}", page.text);
    assert!(page.family("livezone_zone_members").is_empty(), "a copy knows no members: {}", page.text);
    // Signed ones would be forwarded; this one is refused.
    let update = Update::member(MEMCACHED, "i-2", "192.0.2.2").encode();
    assert_eq!(copy.client().ask(&update).rcode(), 5);
    Page::of(&copy).assert(&[("livezone_heartbeats_total{channel=\"udp\",outcome=\"refused\"}", 1.0)]);
}

// ---- the examples -------------------------------------------------------------------------------------------------------

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

fn promtool(arguments: &[&str], input: &str) {
    let output = run("promtool", arguments, input);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("error"), "{arguments:?}: {said}");
}

/// Names of series in a text: those of the server, and those of the process.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("livezone_") || word.starts_with("process_")).collect()
}

/// The expressions of the dashboard, with its variables filled in.
fn dashboard_expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("examples/grafana/livezone.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let fill = |expression: &str| {
        let filled = expression.replace("$__rate_interval", "5m").replace("$job", "livezone");
        filled.replace("$instance", ".*").replace("$zone", ".*")
    };
    targets.map(|target| fill(target["expr"].as_str().unwrap())).collect()
}

#[test]
fn promtool_finds_nothing_wrong_with_metrics_rules_and_dashboard() {
    let other = Answering::silent();
    let server = TestServer::with(&Setup {
        tables: format!("[notify]\nsecondaries = [\"{}\"]\n", other.address),
        arguments: vec!["--epoch", "41"],
        ..Setup::default()
    });
    server.client().serial();
    promtool(&["check", "metrics"], &Page::of(&server).text);
    promtool(&["check", "rules", file("examples/prometheus/alerts.yml").to_str().unwrap()], "");
    promtool(&["test", "rules", file("examples/prometheus/alerts.test.yml").to_str().unwrap()], "");
    let expressions = dashboard_expressions();
    assert!(expressions.len() > 30);
    let rule = |(number, expression): (usize, &String)| {
        format!("      - record: panel:{number}\n        expr: {}\n", serde_json::to_string(expression).unwrap())
    };
    let rules: String = expressions.iter().enumerate().map(rule).collect();
    let place = server.folder().join("dashboard.yml");
    std::fs::write(&place, format!("groups:\n  - name: dashboard\n    rules:\n{rules}")).unwrap();
    promtool(&["check", "rules", place.to_str().unwrap()], "");
}

#[test]
fn every_metric_of_the_examples_exists_and_the_readme_has_every_metric() {
    let server = TestServer::start();
    let page = Page::of(&server);
    let rules = read("examples/prometheus/alerts.yml");
    for text in dashboard_expressions().iter().chain([&rules, &read("examples/prometheus/alerts.test.yml")]) {
        for name in names(text) {
            assert!(page.family_of(name).is_some(), "no such metric: {name}");
        }
    }
    // Each alert has a test in which it fires.
    let tests = read("examples/prometheus/alerts.test.yml");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("- alertname: {alert}\n")), "{alert} is not tested");
    }
    let readme = read("README.md");
    let section = readme.split("\n## Metrics\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: String = section.lines().filter(|line| line.starts_with("| `")).collect();
    let told = names(&rows);
    let existing: BTreeSet<&str> = page.types.keys().map(String::as_str).collect();
    assert_eq!(told, existing);
    // And every state that members are counted by.
    let row = section.lines().find(|line| line.starts_with("| `livezone_zone_members`")).unwrap();
    let states = page.family("livezone_zone_members");
    assert!(states.len() >= 5, "{states:?}");
    for labels in states.keys() {
        let state = labels.split("state=\"").nth(1).unwrap().trim_end_matches("\"}");
        assert!(row.contains(&format!("`{state}`")), "{state}: {row}");
    }
}

#[test]
fn prometheus_takes_the_page_and_the_rules() {
    let server = TestServer::start();
    let at = free_address();
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [\"{}\"]\n\
         scrape_configs: [{{ job_name: livezone, static_configs: [{{ targets: [\"{}\"] }}] }}]\n",
        file("examples/prometheus/alerts.yml").display(),
        http(&server)
    );
    std::fs::write(server.folder().join("prometheus.yml"), config).unwrap();
    let listen = format!("--web.listen-address={at}");
    let data = server.folder().join("series");
    let storage = format!("--storage.tsdb.path={}", data.display());
    let _prometheus = crate::support::other::Other::start(
        server.folder(),
        "prometheus",
        &["--config.file=prometheus.yml", &listen, &storage],
    );
    let ask = |query: &str| -> Option<Value> {
        let url = format!("http://{at}/api/v1/query");
        let output = run("curl", &["-s", "-m", "5", "--data-urlencode", &format!("query={query}"), &url], "");
        serde_json::from_slice::<Value>(&output.stdout).ok()?["data"]["result"].as_array()?.first().cloned()
    };
    wait_until(PATIENCE, "a scrape", || {
        let up = ask("up{job=\"livezone\"}")?["value"][1].as_str()?.to_owned();
        (up == "1").then_some(())
    });
    let members = wait_until(PATIENCE, "a sample", || ask("livezone_zone_loaded"));
    assert_eq!((&members["metric"]["zone"], &members["value"][1]), (&ZONE.into(), &"1".into()));
}
