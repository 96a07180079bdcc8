//! Watching a service: long polls and streams.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use super::members::send;
use super::*;

const SERVICE: &str = "/v1/zones/svc.example.test/services/_memcached._tcp";
const OTHER: &str = "_other._tcp.svc.example.test.";

fn with_two_services() -> TestServer {
    let server = TestServer::start();
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(600));
    server.client().update(&Update::member(OTHER, "o-1", "192.0.2.9").lease(600));
    server
}

fn epoch(server: &TestServer) -> u64 {
    get(server, SERVICE).json()["epoch"].as_u64().unwrap()
}

/// A stream of events.
struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    fn open(server: &TestServer, headers: &str) -> Events {
        let mut stream = TcpStream::connect(http(server)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {SERVICE} HTTP/1.0\r\naccept: text/event-stream\r\n{headers}\r\n").unwrap();
        let mut events = Events { lines: BufReader::new(stream) };
        assert_eq!(events.line().unwrap(), "HTTP/1.0 200 OK");
        let head: Vec<String> = std::iter::from_fn(|| events.line().filter(|line| !line.is_empty())).collect();
        assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
        assert_eq!(events.block(), ["retry: 2000"]);
        events
    }

    /// The next line; none at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.lines.read_line(&mut line).unwrap();
        (length > 0).then(|| line.trim_end().to_owned())
    }

    /// The lines up to an empty one.
    fn block(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.line().filter(|line| !line.is_empty())).collect()
    }

    /// The id and the data of the next event.
    fn service(&mut self) -> (u64, Value) {
        let block = self.block();
        let [id, event, data] = block.as_slice() else { panic!("{block:?}") };
        assert_eq!(event, "event: service");
        let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        (id.strip_prefix("id: ").unwrap().parse().unwrap(), data)
    }
}

#[test]
fn a_long_poll_answers_at_the_next_change_of_its_service_and_at_no_other() {
    let server = with_two_services();
    let since = epoch(&server);
    let poll = |since: u64, wait: &str| curl(&server, &[], &format!("{SERVICE}?since={since}{wait}"));
    // What is newer is there at once.
    assert_eq!(poll(since - 1, "&wait=30s").json()["epoch"], since);
    let response = poll(since, "");
    assert_eq!((response.status, response.header("etag")), (304, Some(format!("\"{since}\"").as_str())));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| poll(since, "&wait=20s"));
        // Another service's change, and a heartbeat, are none of its own.
        server.client().update(&Update::member(OTHER, "o-2", "192.0.2.8").lease(600));
        server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(600));
        assert_eq!(poll(since, "&wait=300ms").status, 304);
        assert!(!waiting.is_finished() && start.elapsed() >= Duration::from_millis(300));
        server.client().update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(600));
        let told = waiting.join().unwrap();
        assert_eq!(told.status, 200);
        let members = told.json()["members"].as_array().unwrap().len();
        assert_eq!((told.json()["epoch"].as_u64().unwrap() > since, members), (true, 2));
        assert_eq!(told.header("etag").unwrap(), format!("\"{}\"", told.json()["epoch"]));
    });
    assert!(start.elapsed() < Duration::from_secs(15));
    // An epoch that never was: whoever has it is told how things are.
    assert_eq!(poll(since + 1_000_000, "&wait=30s").status, 200);
    curl(&server, &[], &format!("{SERVICE}?wait=3s")).assert_problem(400, "say `since=EPOCH` too");
    curl(&server, &[], &format!("{SERVICE}?since=1&wait=soon")).assert_problem(400, "write one such as 30s");
    curl(&server, &[], &format!("{SERVICE}x?since=1&wait=1s")).assert_problem(404, "knows no service");
}

#[test]
fn a_stream_tells_how_the_service_stands_and_then_each_change() {
    let server = with_two_services();
    let mut events = Events::open(&server, "");
    let (first, view) = events.service();
    assert_eq!((first, &view["members"][0]["id"]), (epoch(&server), &"i-1".into()));
    assert_eq!(view, {
        let mut now = get(&server, SERVICE).json();
        now["members"] = view["members"].clone();
        now
    });
    server.client().update(&Update::member(OTHER, "o-2", "192.0.2.8").lease(600));
    server.client().update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(600));
    let (second, view) = events.service();
    assert_eq!((second, view["members-count"].as_u64()), (epoch(&server), Some(2)));
    assert!(second > first);
    // Whoever comes again is told what it has missed, and nothing if that is nothing.
    assert_eq!(Events::open(&server, &format!("last-event-id: {first}\r\n")).service().0, second);
    let mut again = Events::open(&server, &format!("last-event-id: {second}\r\n"));
    server.client().update(&Update::member(MEMCACHED, "i-3", "192.0.2.3").lease(600));
    assert!(again.service().0 > second);
    assert_eq!(Events::open(&server, "last-event-id: 99999999999\r\n").service().0, epoch(&server));
}

#[test]
fn the_end_of_the_server_ends_watches_with_a_word_and_within_a_second() {
    let mut server = with_two_services();
    let mut events = Events::open(&server, "");
    let since = events.service().0;
    let address = http(&server);
    let start = std::thread::scope(|scope| {
        let path = format!("http://{address}{SERVICE}?since={since}&wait=20s");
        let poll = scope.spawn(move || run("curl", &["-s", "-m", "20", "-w", "%{http_code}", &path], ""));
        // Two connections watch.
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        assert!(server.terminate().success());
        assert!(String::from_utf8(poll.join().unwrap().stdout).unwrap().ends_with("503"));
        start
    });
    assert_eq!(events.block(), ["event: end", "data: the server stops"]);
    assert_eq!(events.line(), None);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_token_that_is_taken_away_ends_its_watches() {
    let server = TestServer::with(&Setup {
        server: "[[token]]\nsha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"\n".to_owned(),
        ..Setup::default()
    });
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(600));
    let mut events = Events::open(&server, "authorization: Bearer secret\r\n");
    events.service();
    let other = "[[token]]\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n";
    std::fs::write(server.folder().join("livezone.toml"), other).unwrap();
    let status = || curl(&server, &["-H", "Authorization: Bearer secret"], "/v1/zones").status;
    wait_until(PATIENCE, "the reload", || (status() == 401).then_some(()));
    server.client().update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(600));
    assert_eq!(events.block(), ["event: end", "data: the token is none that covers this any more"]);
}

/// Opens a stream and reads its head, as far as the event of how the service stands.
async fn open(address: SocketAddr) -> tokio::io::BufReader<tokio::net::TcpStream> {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {SERVICE} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = tokio::io::BufReader::with_capacity(2048, stream);
    next_event(&mut lines).await;
    lines
}

/// When the next event's data has come, and whether it tells of i-2.
async fn next_event(lines: &mut tokio::io::BufReader<tokio::net::TcpStream>) -> (Instant, bool) {
    let mut line = Vec::new();
    loop {
        line.clear();
        assert!(lines.read_until(b'\n', &mut line).await.unwrap() > 0, "the stream ended");
        if line.starts_with(b"data: ") {
            return (Instant::now(), line.windows(5).any(|octets| octets == b"\"i-2\""));
        }
    }
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn measured_ten_thousand_watchers_have_a_change_of_theirs_at_once_and_sleep_through_others() {
    // Unoptimized, and beside other tests, a tenth is enough to go beyond the connections that only ask.
    let count = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let server = with_two_services();
    let others: Vec<String> =
        (2..100).map(|number| format!(r#"{{"service":"_x{number}._tcp","id":"x","port":1,"lease":600}}"#)).collect();
    let told = send(&server, "POST", "/v1/zones/svc.example.test/heartbeats", &format!("[{}]", others.join(",")));
    assert_eq!(told.status, 200);
    let services = get(&server, "/v1/zones/svc.example.test/services").json();
    assert_eq!(services["services"].as_array().unwrap().len(), 100);
    let address = http(&server);
    let before = resident(server.pid());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut watchers = runtime.block_on(async {
        let mut watchers = Vec::new();
        while watchers.len() < count {
            let opening: Vec<_> = (0..100).map(|_| tokio::spawn(open(address))).collect();
            for watcher in opening {
                watchers.push(watcher.await.unwrap());
            }
        }
        watchers
    });
    let memory = resident(server.pid()).saturating_sub(before);
    let tell = |target: &str, id: &str, address: &str| {
        server.client().update(&Update::member(target, id, address).lease(600));
        Instant::now()
    };
    tell(OTHER, "o-2", "192.0.2.8");
    assert_eq!(get(&server, "/healthz").status, 200, "there is room for others");
    let mut latencies: Vec<Duration> = runtime.block_on(async {
        let begun = Arc::new(AtomicUsize::new(0));
        let read = |mut watcher| {
            let begun = begun.clone();
            tokio::spawn(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                (next_event(&mut watcher).await, watcher)
            })
        };
        let reading: Vec<_> = watchers.drain(..).map(read).collect();
        let all = async {
            while begun.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("all wait");
        let start = tokio::task::block_in_place(|| tell(MEMCACHED, "i-2", "192.0.2.2"));
        // By a task beside those that read, and with all connections kept: this thread would be woken for each, and each
        // end would be carried out, in the time that is measured.
        let gathering = tokio::spawn(async move {
            let mut ends = Vec::new();
            for reading in reading {
                ends.push(reading.await.unwrap());
            }
            ends
        });
        let ends = gathering.await.unwrap();
        let latency = |((at, is_theirs), _): &((Instant, bool), _)| {
            assert!(is_theirs, "another service's change wakes nobody");
            at.saturating_duration_since(start)
        };
        ends.iter().map(latency).collect()
    });
    latencies.sort();
    let at = |part: usize| latencies[(latencies.len() - 1) * part / 100];
    eprintln!(
        "{count} watchers: a change is with half of them {:?} after its acknowledgement, with 99 % {:?}, with all {:?}; \
         {} KiB a watcher",
        at(50),
        at(99),
        at(100),
        memory / u64::try_from(count).unwrap()
    );
}
