//! Transfers at their limits: too many, too slow, given up, and beside queries.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::time::Duration;

use hickory_proto::rr::{Record, RecordType};
use socket2::{Domain, Socket, Type};

use crate::support::client::Answer;

use super::*;

/// A zone of more octets than the system's buffers of a connection take.
fn large() -> String {
    let mut statics = Setup::default().statics;
    let text = "x".repeat(250);
    for number in 0..160 {
        for line in 0..25 {
            statics += &format!("t{number} IN TXT \"{line}\" {}\n", [&*text; 8].join(" "));
        }
    }
    statics
}

fn start_large(idle: &str) -> TestServer {
    start_with(large(), idle)
}

fn start_with(statics: String, idle: &str) -> TestServer {
    TestServer::with(&Setup {
        statics,
        server: format!("[limits]\ntcp-idle = \"{idle}\"\n"),
        arguments: vec!["--log", "livezone=debug"],
        ..Setup::default()
    })
}

/// A connection whose side takes little.
fn connect_narrow(server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Begins a transfer that its client doesn't take.
fn hold(server: SocketAddr) -> TcpStream {
    let mut stream = connect_narrow(server);
    send_framed(&mut stream, &query(ZONE, AXFR));
    assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
    stream
}
#[test]
fn one_transfer_too_many_is_servfail_and_counted_and_those_under_way_go_on() {
    let server = start_large("60s");
    let mut held: Vec<TcpStream> = (0..TRANSFERS).map(|_| hold(server.address)).collect();
    let refused = ask_tcp(server.address, &edns_query(ZONE, AXFR, 1232));
    assert_eq!(refused.rcode(), SERVFAIL);
    assert!(refused.error_text().contains("too many zone transfers"), "{}", refused.error_text());
    server.assert_logged("limit=\"transfers\"", 1);
    // Whoever is refused has a connection all the same, and others their answers.
    assert_eq!(server.client().ask(&query(ZONE, SOA)).rcode(), 0);
    assert_eq!(server.client().ask(&ixfr(server.client().serial())).rcode(), 0);
    // A client that goes in the middle leaves its place to another.
    drop(held.pop());
    let whole = wait_until(PATIENCE, "a free place", || {
        let mut stream = connect(server.address);
        send_framed(&mut stream, &query(ZONE, AXFR));
        let mut head = [0; 6];
        let read = stream.peek(&mut head).unwrap();
        (read == 6 && head[5] & 0xf == 0).then(|| read_transfer(&mut stream, false))
    });
    let mut first = held.swap_remove(0);
    assert_eq!(read_transfer(&mut first, false).zone(), whole.zone());
    // And so do seventy that never were there for long.
    drop(held);
    for _ in 0..70 {
        drop(hold(server.address));
    }
    wait_until(PATIENCE, "free places", || (ask_tcp(server.address, &query(ZONE, AXFR)).rcode() == 0).then_some(()));
}

#[test]
fn a_client_may_read_one_octet_at_a_time_and_shut_its_side() {
    let server = TestServer::start();
    fill(server.address, 2000);
    let expected = axfr(server.address).zone();
    let mut stream = connect_narrow(server.address);
    send_framed(&mut stream, &query(ZONE, AXFR));
    stream.shutdown(Shutdown::Write).unwrap();
    let (mut octets, mut octet) = (Vec::new(), [0]);
    while stream.read(&mut octet).unwrap() == 1 {
        octets.push(octet[0]);
    }
    let mut records = Vec::new();
    let mut rest = &octets[..];
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (message, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
        let message = Message::from_vec(message).unwrap();
        records.extend(message.answers.iter().map(|record| format!("{record}").to_ascii_lowercase()));
        rest = tail;
    }
    assert_eq!(records.first(), records.last());
    assert_eq!(sorted(records[1..records.len() - 1].to_vec()), expected);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let server = start_large("500ms");
    let start = Instant::now();
    let mut stream = hold(server.address);
    server.assert_logged("reason=SlowReader", 1);
    assert!(start.elapsed() >= Duration::from_millis(500));
    let mut octets = Vec::new();
    match stream.read_to_end(&mut octets) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(octets.len() < axfr(server.address).messages.iter().map(Vec::len).sum());
}

#[test]
fn queries_behind_a_transfer_are_answered_meanwhile() {
    let server = start_large("60s");
    let framed = |packet: &[u8]| [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat();
    let mut stream = connect_narrow(server.address);
    let (first, second) = (query(ZONE, AXFR), query(ZONE, AXFR));
    let queries: Vec<Vec<u8>> = (0..5).map(|_| query(ZONE, SOA)).collect();
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600).encode();
    let mut octets = framed(&first);
    octets.extend(queries[..3].iter().flat_map(|query| framed(query)));
    octets.extend(framed(&second));
    octets.extend(framed(&update));
    stream.write_all(&octets).unwrap();
    // Some of it comes; then more is asked.
    let mut came: Vec<Message> = Vec::new();
    let mut soas = [0, 0];
    let ids = [&first, &second].map(|packet| u16::from_be_bytes([packet[0], packet[1]]));
    // An update may take longer than both transfers: it waits for the disk.
    let asked = queries.len() + 1;
    let transferred = |message: &Message| ids.contains(&message.metadata.id);
    while soas != [2, 2] || came.iter().filter(|message| !transferred(message)).count() < asked {
        if came.len() == 10 {
            stream.write_all(&[framed(&queries[3]), framed(&queries[4])].concat()).unwrap();
        }
        let message = Answer::read(read_framed(&mut stream)).message;
        for (id, soas) in ids.iter().zip(&mut soas) {
            let is_soa = |record: &&Record| message.metadata.id == *id && record.record_type() == RecordType::SOA;
            *soas += message.answers.iter().filter(is_soa).count();
        }
        came.push(message);
    }
    let places = |packet: &[u8]| {
        let id = u16::from_be_bytes([packet[0], packet[1]]);
        (0..came.len()).filter(|&at| came[at].metadata.id == id).collect::<Vec<_>>()
    };
    for (number, asked) in queries.iter().chain([&update]).enumerate() {
        assert_eq!(places(asked).len(), 1, "number {number} of {} messages", came.len());
    }
    let ends = places(&first);
    assert!(places(&queries[4])[0] < *ends.last().unwrap(), "not behind the transfer");
    // One after the other, each of one version: the second may have the member that came meanwhile.
    assert!(ends.last() < places(&second).first());
    let count = |packet: &[u8]| places(packet).iter().map(|&at| came[at].answers.len()).sum::<usize>();
    assert!([0, 4].contains(&(count(&second) - count(&first))));
}

/// `limits.tcp-idle` is for what a client was sent, not for the whole.
#[test]
fn a_transfer_may_take_longer_than_a_connection_may_be_idle() {
    const COUNT: usize = 60;
    let server = start_large("1s");
    let size: usize = axfr(server.address).messages.iter().map(|message| 2 + message.len()).sum();
    let mut stream = connect(server.address);
    let start = Instant::now();
    for _ in 0..COUNT {
        send_framed(&mut stream, &query(ZONE, AXFR));
    }
    let (mut taken, mut octets) = (0, vec![0; 1 << 16]);
    while taken < COUNT * size {
        let read = stream.read(&mut octets).unwrap();
        assert!(read > 0, "cut off after {taken} of {} octets and {:?}", COUNT * size, start.elapsed());
        taken += read;
    }
    println!("measured: {COUNT} transfers of {size} octets in {:?}, where 1 s of idling is too long", start.elapsed());
}

fn resident(server: &TestServer) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// What it is when it has stopped to change.
fn settled(server: &TestServer) -> usize {
    let mut last = (0, Instant::now());
    wait_until(PATIENCE, "an end of what moves", || {
        let now = resident(server);
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(300)).then_some(now)
    })
}

#[test]
fn transfers_that_nobody_takes_hold_a_message_each_and_no_zone() {
    const CLIENTS: usize = 20;
    let hosts = (0..20_000).fold(large(), |statics, number| statics + &format!("h{number} IN A 192.0.2.1\n"));
    let server = start_with(hosts, "60s");
    let size: usize = axfr(server.address).messages.iter().map(Vec::len).sum();
    // The watcher reads the files once more behind a start, and these are large.
    server.wait_for_line("files were looked at");
    let before = settled(&server);
    let held: Vec<TcpStream> = (0..CLIENTS).map(|_| hold(server.address)).collect();
    let after = settled(&server);
    println!(
        "measured: {CLIENTS} transfers of {size} octets that nobody takes hold {} octets each",
        after.saturating_sub(before) / CLIENTS
    );
    assert!(after < before + (10 << 20), "{before} to {after}");
    // Commits go on, and make new versions while the old ones are held.
    for number in 0..20 {
        server.client().update(&Update::member(MEMCACHED, &format!("i-{number}"), "192.0.2.1").lease(3600));
    }
    assert_eq!(held.len(), CLIENTS);
}

#[test]
fn a_stop_waits_for_no_transfer() {
    let mut server = start_large("60s");
    let held: Vec<TcpStream> = (0..5).map(|_| hold(server.address)).collect();
    let start = Instant::now();
    assert!(server.terminate().success());
    println!("measured: a stop with {} transfers under way takes {:?}", held.len(), start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_thousand_odd_requests_leave_the_server_as_it_was() {
    let server = TestServer::start();
    fill(server.address, 10);
    let expected = axfr(server.address).zone();
    let asked = [query(ZONE, AXFR), ixfr(0), ixfr(u32::MAX), edns_query(ZONE, AXFR, 0)];
    // Every octet of each, in turn, another one.
    for (number, packet) in asked.iter().enumerate() {
        for at in 2..packet.len() {
            for value in [0, 0xff, packet[at] ^ 1, packet[at] ^ 0x80] {
                let mut odd = packet.clone();
                odd[at] = value;
                // A response is not answered.
                if odd[2] & 0x80 == 0 && at % 4 == number {
                    let answer = ask_tcp(server.address, &odd);
                    assert!(answer.octets[2] & 0x80 != 0);
                }
            }
        }
    }
    assert_eq!(axfr(server.address).zone(), expected);
    assert!(Command::new("kill").args(["-0", &server.pid().to_string()]).status().unwrap().success());
}
