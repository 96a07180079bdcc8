//! Bodies that are slow, large or of no use, and whoever waits behind them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::members::MEMBERS;
use super::*;

const BATCHES: &str = "/v1/zones/svc.example.test/heartbeats";
const BATCH: &str = r#"[{"service":"_memcached._tcp","id":"i-1","port":1,"addresses":["10.0.0.1"]}]"#;
const MOST: usize = 4 << 20;

/// Announces a body of so many octets and sends the first of them.
fn begin(server: &TestServer, (method, path): (&str, &str), more: &str, announced: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(http(server)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {announced}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; sent]).unwrap();
    stream
}

/// What comes on a connection first.
fn said(stream: &mut TcpStream) -> String {
    let mut octets = [0; 1024];
    let length = stream.read(&mut octets).unwrap();
    String::from_utf8_lossy(&octets[..length]).into_owned()
}

/// Whether the kernel has nothing that is to be sent or read on connections of the HTTP API (`tx_queue:rx_queue` in proc(5)).
fn nothing_is_queued(server: &TestServer) -> bool {
    let port = format!(":{:04X}", http(server).port());
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ours = connections.lines().filter(|line| line.split_whitespace().any(|field| field.ends_with(&port)));
    ours.into_iter().all(|line| line.contains(" 00000000:00000000 "))
}

#[test]
fn who_may_not_write_is_told_so_without_its_body() {
    let reader = tokens::make("reader", "");
    let server = TestServer::with(&Setup { server: reader.table.clone(), ..Setup::default() });
    let token = format!("authorization: Bearer {}\r\n", reader.token);
    let member = format!("{MEMBERS}/i-1");
    let start = Instant::now();
    for request in [("POST", BATCHES), ("PUT", &member)] {
        let told = said(&mut begin(&server, request, &token, 1000, 0));
        assert!(told.starts_with("HTTP/1.1 403") && told.contains("token reader only reads"), "{told}");
    }
    for path in ["/v1/zones/none.test/heartbeats", "/v1/zones/svc.example.test/heartbeats?x=1"] {
        let status = if path.contains("none") { 404 } else { 400 };
        let server = TestServer::start();
        let told = said(&mut begin(&server, ("POST", path), "", 1000, 0));
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
    }
    assert!(start.elapsed() < Duration::from_secs(9), "a body has 10 s to come in");
}

#[test]
fn slow_batches_keep_no_other_out_and_take_from_their_own_client() {
    let server = TestServer::start();
    let post = |arguments: &[&str]| curl(&server, &[&["-d", BATCH], arguments].concat(), BATCHES);
    // More than are carried out at a time.
    let begin = |announced, sent| begin(&server, ("POST", BATCHES), "", announced, sent);
    let trickling: Vec<TcpStream> = (0..40).map(|_| begin(MOST, 10_000)).collect();
    assert_eq!(post(&[]).status, 200);
    drop(trickling);
    // As many as one client may have, each but for its last octet, and one that is small enough to go beside them.
    let stuck: Vec<TcpStream> = (0..4).map(|_| begin(MOST, MOST - 1)).collect();
    wait_until(PATIENCE, "all that was sent is read", || nothing_is_queued(&server).then_some(()));
    let told = said(&mut begin(MOST, (256 << 10) + 1));
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("bodies of this client"), "{told}");
    assert_eq!(post(&[]).status, 200);
    let large = server.folder().join("batch.json");
    std::fs::write(&large, format!("{BATCH}{}", " ".repeat(1 << 20))).unwrap();
    let large = format!("@{}", large.display());
    let large = |address| {
        let body = ["-H", "Expect:", "--data-binary", &large];
        curl(&server, &[&body[..], &["--interface", address]].concat(), BATCHES).status
    };
    assert_eq!(large("127.0.0.2"), 200);
    drop(stuck);
    wait_until(PATIENCE, "its share", || (large("127.0.0.1") == 200).then_some(()));
}

#[test]
fn a_refusal_arrives_though_the_body_is_not_read() {
    let reader = tokens::make("reader", "");
    let server = TestServer::with(&Setup { server: reader.table.clone(), ..Setup::default() });
    let body = server.folder().join("batch.json");
    std::fs::write(&body, " ".repeat(MOST)).unwrap();
    let (token, body) = (format!("Authorization: Bearer {}", reader.token), format!("@{}", body.display()));
    for _ in 0..10 {
        // `Expect:` sends the body without waiting for a word.
        let response = curl(&server, &["-H", &token, "-H", "Expect:", "--data-binary", &body], BATCHES);
        response.assert_problem(403, "token reader only reads");
    }
    // Who waits to be told to go on is not.
    for _ in 0..20 {
        let more = format!("authorization: Bearer {}\r\nexpect: 100-continue\r\n", reader.token);
        let told = said(&mut begin(&server, ("POST", BATCHES), &more, MOST, 0));
        assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    }
    // The connection goes on behind it.
    let token = format!("authorization: Bearer {}\r\n", reader.token);
    let mut stream = begin(&server, ("POST", BATCHES), &token, 1 << 20, 1 << 20);
    assert!(said(&mut stream).starts_with("HTTP/1.1 403"));
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let told = said(&mut stream);
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
}
