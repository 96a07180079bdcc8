//! Routes, history and connections, with a directory that the test plays.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::base::Wall;
use crate::membership::{MemberId, Registration};
use crate::zone::{Cause, CausedChange, Change, Delta, PublishedMember};

use super::orders::BATCHES;
use super::routes::LARGE_RESPONSES;
use super::serve::{PATIENCE, Room};
use super::views::{CauseView, FreeSlotView, ServiceSummary};
use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A directory with one zone, `z.`.
struct Played {
    loaded: bool,
    is_copy: bool,
    page: Result<Page, Unavailable>,
    /// Of every service.
    view: Option<ServiceView>,
    /// What every order is told; none: they can't be given.
    report: Option<String>,
}

impl Played {
    fn with(commits: Vec<Commit>) -> Arc<Played> {
        let commits = commits.into_iter().map(Arc::new).collect();
        Arc::new(Played { page: Ok(Page { commits, ..Page::default() }), ..Played::bare() })
    }

    fn bare() -> Played {
        Played { loaded: true, is_copy: false, page: Ok(Page::default()), view: None, report: None }
    }
}

impl Directory for Played {
    fn tokens(&self) -> Arc<Tokens> {
        Arc::default()
    }

    fn store(&self) -> Pending<Result<(), Unavailable>> {
        Box::pin(async { Ok(()) })
    }

    fn zones(&self) -> Vec<ServedZone> {
        self.zone(&name("z.")).into_iter().collect()
    }

    fn zone(&self, origin: &Name) -> Option<ServedZone> {
        let settings = crate::zone::scenes::Universe::new("z.").settings();
        let snapshot = self.loaded.then(|| crate::zone::Zone::new(settings, Epoch(1000)).snapshot().clone());
        let copy = self.is_copy.then(|| CopyView {
            primaries: vec!["192.0.2.1:53".to_owned()],
            primary: None,
            refreshed: None,
            expires: None,
            expired: !self.loaded,
            failures: Vec::new(),
        });
        (*origin == name("z.")).then(|| ServedZone { origin: origin.clone(), copy, notify: Vec::new(), snapshot })
    }

    fn service(&self, _: &Name, _: &Name) -> Pending<Result<Option<ServiceView>, Unavailable>> {
        let view = self.view.clone().ok_or(Unavailable("its publisher is busy; ask again".to_owned()));
        Box::pin(async { view.map(Some) })
    }

    fn order(&self, _: &Name, _: Orderer, orders: Vec<Order>) -> Pending<Result<Vec<Report>, Unavailable>> {
        let report = self.report.clone().ok_or(Unavailable("its publisher is busy; ask again".to_owned()));
        Box::pin(async move { report.map(|text| vec![Err(Failure::Unavailable(text)); orders.len()]) })
    }

    fn drained(&self, _: &Name, _: &Name, _: &MemberId, _: &str) -> DrainView {
        let state = views::MemberState::Draining;
        DrainView { state, safe_to_stop_at: None, safe_in: None, waiting_for: Vec::new(), timed_out: false }
    }

    fn shrink(&self, _: &Name, _: &Name, _: Arc<str>) -> Pending<Result<Shrunk, Unavailable>> {
        Box::pin(async { Err(Unavailable("its publisher is busy; ask again".to_owned())) })
    }

    fn undrained(&self, _: &Name, _: &Name, _: &MemberId) {}

    fn commits(&self, _: &Name, _: Option<Epoch>, _: usize) -> Pending<Result<Page, Unavailable>> {
        let page = self.page.clone();
        Box::pin(async { page })
    }

    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }
}

fn member(id: &str, there: bool) -> Change {
    let registration = Registration {
        target: name("t.z."),
        port: 1,
        priority: 0,
        weight: 0,
        addresses: Box::default(),
        metadata: Box::default(),
    };
    Change::Member {
        service: name("_x._tcp.z."),
        id: MemberId::new(id).unwrap(),
        member: there.then(|| PublishedMember::in_service(registration.into())),
    }
}

fn by(text: &str) -> Arc<str> {
    text.into()
}

fn commit(epoch: u64, changes: Vec<(Change, Cause)>) -> Commit {
    let changes = changes.into_iter().map(|(change, cause)| CausedChange { change, cause }).collect();
    Commit { epoch: Epoch(epoch), at: Wall(epoch), changes, delta: Delta::default() }
}

#[test]
fn a_return_after_a_lapse_is_told_as_such() {
    let registered = |id| (member(id, true), Cause::Registered(by("key k.")));
    let commits =
        vec![Arc::new(commit(7, vec![registered("a"), registered("b"), (member("a", false), Cause::Lapsed)]))];
    let page = Page { commits, returns: [((Epoch(7), 1), Epoch(3))].into(), incomplete: false };
    let told: Vec<_> =
        history::tell(&page)[0].changes.iter().map(|change| (change.cause, change.lapse_epoch)).collect();
    use CauseView::{Expired, Registered, RenewedAfterLapse};
    assert_eq!(told, [(Registered, None), (RenewedAfterLapse, Some(3)), (Expired, None)]);
}

#[tokio::test]
async fn a_page_may_have_the_whole_history() {
    let (address, _stop, _) = serve_it(Played::with(vec![commit(1, Vec::new())])).await;
    for (query, limit) in [("", 100), ("?limit=7", 7), ("?limit=1024", 1024), ("?limit=5000", 1024)] {
        let page: Value = serde_json::from_str(&get(address, &format!("/v1/zones/z/commits{query}")).await.2).unwrap();
        assert_eq!(page["next"], format!("/v1/zones/z./commits?since=1&limit={limit}"));
    }
}

/// A server of a directory, with the switch that ends it.
async fn serve_it(directory: Arc<Played>) -> (std::net::SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    (
        address,
        stop,
        tokio::spawn(serve(
            (listener, None),
            directory,
            Arc::default(),
            Room { connections: 100, watchers: 100 },
            stopped,
        )),
    )
}

/// The status, the head and the body of a response.
async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn what_cant_be_read_at_the_moment_is_503_with_the_reason() {
    let full = Unavailable("the store can't be read: full".to_owned());
    let broken = Played { page: Err(full), ..Played::bare() };
    let unloaded = Played { loaded: false, ..Played::bare() };
    let (broken, _stop, _) = serve_it(Arc::new(broken)).await;
    let (unloaded, _stop_too, _) = serve_it(Arc::new(unloaded)).await;
    for (address, path, detail) in [
        (broken, "/v1/zones/z/commits", "the store can't be read: full"),
        (broken, "/v1/zones/z./services/_x._tcp", "busy"),
        (unloaded, "/v1/zones/z.", "not loaded"),
        (unloaded, "/v1/zones/z./services", "not loaded"),
        (unloaded, "/v1/zones/z./services/_x._tcp", "not loaded"),
        (unloaded, "/v1/zones/z./commits", "not loaded"),
    ] {
        let (status, head, body) = get(address, path).await;
        assert_eq!(status, 503, "{path}");
        assert!(head.contains("\r\nretry-after: 1") && head.contains("application/problem+json"), "{head}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&problem["title"], &problem["status"]), (&"Service Unavailable".into(), &503.into()));
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    let (status, _, body) = get(unloaded, "/v1/zones").await;
    assert_eq!(status, 200, "it is among the zones all the same");
    let zones: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&zones["zones"][0]["origin"], &zones["zones"][0]["epoch"]), (&"z.".into(), &Value::Null));
}

#[tokio::test]
async fn a_copy_tells_where_it_comes_from_and_sends_who_asks_for_members_there() {
    let copy = |loaded| Played { loaded, is_copy: true, ..Played::bare() };
    let (there, _stop, _) = serve_it(Arc::new(copy(true))).await;
    let (expired, _stop_too, _) = serve_it(Arc::new(copy(false))).await;
    for (address, epoch) in [(there, Value::from(1000)), (expired, Value::Null)] {
        let (status, _, body) = get(address, "/v1/zones/z.").await;
        let zone: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &zone["role"], &zone["epoch"]), (200, &"secondary".into(), &epoch), "{zone}");
        assert_eq!(zone["primaries"], serde_json::json!(["192.0.2.1:53"]));
        assert_eq!(zone["expired"], epoch.is_null());
    }
    // There is no such service in it.
    assert_eq!(get(there, "/v1/zones/z./services/_x._tcp").await.0, 404);
    assert_eq!(get(expired, "/v1/zones/z./services/_x._tcp").await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn idle_and_slow_connections_end_in_time() {
    let (address, _stop, _) = serve_it(Played::with(Vec::new())).await;
    for sent in ["", "GET /heal", "GET /healthz HTTP/1.1\r\nx: y\r\n", "GET /healthz HTTP/1.1\r\n\r\n"] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut octets = Vec::new();
        let _ = stream.read_to_end(&mut octets).await;
        let took = start.elapsed();
        assert!(took >= PATIENCE && took < PATIENCE + Duration::from_secs(5), "{sent:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_take_nothing_keep_others_from_large_responses_for_a_while_only() {
    // More than the kernel takes in for a client.
    let large = Cause::Registered(by(&"x".repeat(12 << 20)));
    let directory = Played::with(vec![commit(1, vec![(member("a", true), large)])]);
    let directory = Arc::new(Played { view: Some(service("_x._tcp.z.", 1000)), ..Arc::into_inner(directory).unwrap() });
    let (address, stop, server) = serve_it(directory).await;
    let stuck = stick(address, "GET /v1/zones/z/commits HTTP/1.1\r\n\r\n", LARGE_RESPONSES).await;
    let of_service = ["/v1/zones/z/services/_x._tcp/slots", "/v1/zones/z/services/_x._tcp"];
    for path in of_service {
        assert_eq!(get(address, path).await.0, 503, "{path}");
    }
    assert_eq!(get(address, "/v1/zones/z/services").await.0, 503);
    assert_eq!(get(address, "/healthz").await.0, 200);
    assert_eq!(get(address, "/metrics").await.0, 200, "it has places of its own");
    tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
    assert_eq!(get(address, "/v1/zones/z/services").await.0, 200);
    for path in of_service {
        assert_eq!(get(address, path).await.0, 200, "{path}");
    }
    // Nor do they hold up the end.
    let start = Instant::now();
    let mut another = TcpStream::connect(address).await.unwrap();
    another.write_all(b"GET /v1/zones/z/commits HTTP/1.1\r\n\r\n").await.unwrap();
    another.readable().await.unwrap();
    stop.send(true).unwrap();
    server.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(stuck);
}

/// Connections that each send a request and take no more than the beginning of what they get.
async fn stick(address: std::net::SocketAddr, request: &str, count: usize) -> Vec<TcpStream> {
    let mut stuck = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        stuck.push(stream);
    }
    stuck
}

/// A service with so many slots that nobody has.
fn service(name: &str, slots: u32) -> ServiceView {
    let free = |number| FreeSlotView { number, last: "x".repeat(63), since: views::time(Wall(0)) };
    ServiceView {
        zone: "z.".to_owned(),
        summary: ServiceSummary {
            service: name.to_owned(),
            host_name: None,
            epoch: 1000,
            members_count: 0,
            digest: String::new(),
            slots: Some(slots),
            hold: false,
        },
        members: Vec::new(),
        free_slots: (0..slots).map(free).collect(),
    }
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_its_place_until_its_client_has_the_report() {
    // More than the kernel takes in for a client.
    let directory = Played { report: Some("x".repeat(12 << 20)), ..Played::bare() };
    let (address, _stop, _) = serve_it(Arc::new(directory)).await;
    let batch = post("/v1/zones/z/heartbeats", r#"[{"service":"_x._tcp","id":"a"}]"#);
    let stuck = stick(address, &batch, BATCHES).await;
    let status = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(batch.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        String::from_utf8(first.to_vec()).unwrap()
    };
    assert_eq!(status().await, "HTTP/1.1 503");
    assert_eq!(get(address, "/v1/zones/z/services").await.0, 200, "it has places of its own");
    tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
    assert_eq!(status().await, "HTTP/1.1 200");
    drop(stuck);
}

#[test]
fn a_name_is_one_segment_of_a_path() {
    assert_eq!(segment("_x._tcp.z."), "_x._tcp.z.");
    assert_eq!(segment("a\\.b/c?%\\000.z."), "a%5C.b%2Fc%3F%25%5C000.z.");
}

#[test]
fn times_are_rfc_3339_with_milliseconds() {
    assert_eq!(views::time(Wall(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    assert_eq!(views::time(Wall(253_402_300_799_999)), "9999-12-31T23:59:59.999Z");
    assert_eq!(views::time(Wall(u64::MAX)), "1970-01-01T00:00:00.000Z", "rather than none");
}
