//! Clients of the HTTP API that are many, slow or rude, and a server that ends or has no HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use super::*;

fn connect(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(http(server)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whatever comes until the other side closes.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    let _ = stream.read_to_end(&mut octets); // a reset is an end too
    octets
}

#[test]
fn rubbish_is_answered_with_an_error_or_the_end_and_disturbs_nobody() {
    let server = TestServer::start();
    let mut random = fastrand::Rng::with_seed(7);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(50_000));
    let mut rubbish: Vec<Vec<u8>> = [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /v1/zones HTTP/1.1\r\nHost\r\n\r\n",
        "POST /v1/zones HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        &long,
        &many,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    rubbish.extend((0..30).map(|_| {
        let length = random.usize(1..600);
        let mut octets: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        octets.extend(b"\r\n\r\n");
        octets
    }));
    for octets in rubbish {
        let mut stream = connect(&server);
        let _ = stream.write_all(&octets); // it may be refused before it is sent
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = rest(&mut stream);
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned);
        assert!(status.as_deref().is_none_or(|status| status.starts_with('4')), "{octets:?}: {answer:?}");
        assert_eq!(curl(&server, &[], "/healthz").status, 200);
    }
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!(server.count_logged("panic"), 0);
}

#[test]
fn slow_and_idle_clients_are_cut_off_and_hold_up_nobody() {
    let server = TestServer::start();
    let start = Instant::now();
    let mut idle = connect(&server);
    let mut slow = connect(&server);
    slow.write_all(b"GET /v1/zones HTT").unwrap();
    let mut kept = connect(&server);
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let held: Vec<TcpStream> = (0..150).map(|_| connect(&server)).collect();
    // Meanwhile others are served, HTTP and DNS.
    assert_eq!(get(&server, "/v1/zones").json()["zones"].as_array().unwrap().len(), 1);
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    for stream in [&mut idle, &mut slow, &mut kept] {
        let _ = rest(stream);
    }
    assert!(start.elapsed() < PATIENCE, "they would have been read from for as long as that");
    drop(held);
    // More than there may be: the last ones wait, and are served when others have been cut off.
    let _held: Vec<TcpStream> = (0..300).map(|_| connect(&server)).collect();
    wait_until(PATIENCE * 2, "a place", || {
        let response = run("curl", &["-s", "-m", "5", &format!("http://{}/healthz", http(&server))], "");
        (response.stdout == b"ok\n").then_some(())
    });
}

#[test]
fn readers_and_registrars_go_on_beside_each_other() {
    const READERS: usize = 6;
    let server = TestServer::start();
    let client = server.client();
    let update = (0..250).fold(Update::new().lease(3600), |update, number| {
        update.and_member(MEMCACHED, &format!("m-{number}"), &format!("10.0.0.{number}"))
    });
    assert_eq!(client.ask_tcp(&update.encode()).rcode(), 0);
    let (ended, views) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let mut stream = connect(&server);
                    let request = format!("GET /v1/zones/{ZONE}/services/_memcached._tcp HTTP/1.0\r\n\r\n");
                    stream.write_all(request.as_bytes()).unwrap();
                    let answer = String::from_utf8(rest(&mut stream)).unwrap();
                    // Sixteen large responses at a time are more than these readers have.
                    assert!(
                        answer.starts_with("HTTP/1.0 200") && answer.contains("\"m-249\""),
                        "{}",
                        &answer[..answer.len().min(80)]
                    );
                    views.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut registered = 0;
        wait_until(PATIENCE, "commits beside views", || {
            client.update(&Update::member(MEMCACHED, &format!("n-{registered}"), "192.0.2.1").lease(3600));
            registered += 1;
            (registered >= 30 && views.load(Ordering::Relaxed) >= 30).then_some(())
        });
        ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_end_of_the_server_waits_for_no_http_client() {
    let mut server = TestServer::start();
    let client = server.client();
    let update = (0..250).fold(Update::new().lease(3600), |update, number| {
        update.and_member(MEMCACHED, &format!("m-{number}"), &format!("10.0.0.{number}"))
    });
    assert_eq!(client.ask_tcp(&update.encode()).rcode(), 0);
    let mut kept = connect(&server);
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut stuck = connect(&server);
    for _ in 0..200 {
        // Asks on and on, and takes nothing.
        let request = format!("GET /v1/zones/{ZONE} HTTP/1.1\r\nhost: localhost\r\naccept: text/dns\r\n\r\n");
        if stuck.write_all(request.as_bytes()).is_err() {
            break;
        }
    }
    let start = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    server.restart();
    assert_eq!(server.client().targets(MEMCACHED).len(), 250, "its store was closed well");
}

#[test]
fn http_is_switched_off_or_elsewhere_as_the_configuration_says() {
    let off = TestServer::with(&Setup { server: "[http]\nlisten = \"\"\n".to_owned(), ..Setup::default() });
    assert_eq!(off.http, None);
    let open = "[http]\nlisten = \"0.0.0.0:0\"\nopen = true\n".to_owned();
    let mut server = TestServer::with(&Setup { server: open, ..Setup::default() });
    assert!(http(&server).ip().is_unspecified());
    assert_eq!(server.count_logged("http.open"), 0, "it has effect");
    let config = server.folder().join("livezone.toml");
    std::fs::write(&config, "[http]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    server.wait_for_line("`http.listen` has changed");
    // A port that can't be had is named, with the key.
    server.terminate();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&config, format!("[http]\nlisten = \"{address}\"\n")).unwrap();
    let output = livezone().args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&address) && said.contains("[http] listen"), "{said}");
}
