//! TCP as RFC 7766 and RFC 7828 want it, and what happens at its limits.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::client::{Answer, ask_tcp, read_framed, send_framed};
use crate::support::message::*;
use crate::support::programs::{dig, kdig};
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

/// Far beyond what a test takes: the deadline that a test isn't about never comes.
const LONG: &str = "tcp-idle = \"60s\"";

fn start(limits: &str, top: &str) -> TestServer {
    TestServer::with(&Setup {
        server: format!("[limits]\n{limits}\n"),
        top: top.to_owned(),
        arguments: vec!["--log", "livezone=debug"],
        ..Setup::default()
    })
}

fn connect(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection from this address of the loopback network.
fn connect_from(server: &TestServer, last: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect_timeout(&server.address.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat()
}

fn id_of(octets: &[u8]) -> u16 {
    u16::from_be_bytes([octets[0], octets[1]])
}

/// Everything until the server closes; a reset is an end too.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    match stream.read_to_end(&mut octets) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        Err(error) => panic!("the server doesn't close: {error}"),
    }
    octets
}

/// Whether the server serves this connection; false if it closed it.
fn is_served(stream: &mut TcpStream) -> bool {
    if stream.write_all(&framed(&query(ZONE, SOA))).is_err() {
        return false;
    }
    let mut octet = [0];
    match stream.read(&mut octet) {
        Ok(0) => false,
        Ok(_) => {
            let mut rest = [0; 1];
            stream.read_exact(&mut rest).unwrap();
            let mut message = vec![0; usize::from(u16::from_be_bytes([octet[0], rest[0]]))];
            stream.read_exact(&mut message).unwrap();
            Answer::read(message).rcode() == 0
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => panic!("{error}"),
    }
}

fn wait_for_cut(server: &TestServer, reason: &str, count: usize) {
    let reason = format!("reason={reason}");
    wait_until(PATIENCE, &reason, || (server.count_logged(&reason) >= count).then_some(()));
}

#[test]
fn a_thousand_pipelined_queries_are_all_answered() {
    let server = start(LONG, "");
    let mut stream = connect(&server);
    let queries: Vec<Vec<u8>> = (0..1000).map(|_| query(ZONE, SOA)).collect();
    let mut asked: HashSet<u16> = queries.iter().map(|query| id_of(query)).collect();
    let octets: Vec<u8> = queries.iter().flat_map(|query| framed(query)).collect();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&octets).unwrap());
    for _ in 0..queries.len() {
        let answer = Answer::read(read_framed(&mut stream));
        assert_eq!((answer.rcode(), answer.message.answers.len()), (0, 1));
        assert!(asked.remove(&id_of(&answer.octets)));
    }
    writing.join().unwrap();
    assert!(asked.is_empty());
    // And the connection goes on.
    assert!(is_served(&mut stream));
}

#[test]
fn a_query_behind_an_update_is_answered_first() {
    let server = start(LONG, "settle = \"1s\"");
    let mut stream = connect(&server);
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").encode();
    let later = query(ZONE, SOA);
    stream.write_all(&[framed(&update), framed(&later)].concat()).unwrap();
    let order: Vec<u16> = (0..2).map(|_| id_of(&read_framed(&mut stream))).collect();
    assert_eq!(order, [id_of(&later), id_of(&update)]);
}

#[test]
fn updates_beyond_what_may_be_outstanding_wait_and_are_all_answered() {
    let server = start(LONG, "settle = \"200ms\"");
    let mut stream = connect(&server);
    let updates: Vec<Vec<u8>> =
        (0..400).map(|number| Update::member(MEMCACHED, &format!("i-{number}"), "192.0.2.1").encode()).collect();
    let mut asked: HashSet<u16> = updates.iter().map(|update| id_of(update)).collect();
    let octets: Vec<u8> = updates.iter().flat_map(|update| framed(update)).collect();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&octets).unwrap());
    for _ in 0..updates.len() {
        let answer = Answer::read(read_framed(&mut stream));
        assert_eq!(answer.rcode(), 0, "{answer:?}");
        assert!(asked.remove(&id_of(&answer.octets)));
    }
    writing.join().unwrap();
    assert_eq!(server.client().targets(MEMCACHED).len(), 400);
}

#[test]
fn a_client_that_shuts_its_side_gets_all_its_answers() {
    let server = start(LONG, "settle = \"300ms\"");
    let mut stream = connect(&server);
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").encode();
    let mut octets = framed(&update);
    (0..100).for_each(|_| octets.extend(framed(&query(ZONE, SOA))));
    stream.write_all(&octets).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut ids = HashSet::new();
    for _ in 0..101 {
        ids.insert(id_of(&read_framed(&mut stream)));
    }
    assert!(ids.len() == 101 && ids.contains(&id_of(&update)));
    assert!(read_to_end(&mut stream).is_empty());
}

#[test]
fn messages_may_come_one_octet_at_a_time() {
    let server = start(LONG, "");
    let mut stream = connect(&server);
    stream.set_nodelay(true).unwrap();
    for _ in 0..3 {
        let packet = query(ZONE, SOA);
        for octet in framed(&packet) {
            stream.write_all(&[octet]).unwrap();
        }
        assert_eq!(read_framed(&mut stream)[..2], packet[..2]);
    }
}

#[test]
fn a_message_without_an_answer_leaves_the_connection_open() {
    let server = start(LONG, "");
    let mut stream = connect(&server);
    let response = [header(next_id(), 0x8000, [1, 0, 0, 0]), question(ZONE, SOA, IN)].concat();
    for silent in [&[][..], &[0], &[0; 11], &response] {
        send_framed(&mut stream, silent);
        let packet = query(ZONE, SOA);
        send_framed(&mut stream, &packet);
        assert_eq!(read_framed(&mut stream)[..2], packet[..2], "after {silent:02x?}");
    }
}

#[test]
fn the_largest_message_is_read() {
    let server = start(LONG, "");
    let mut stream = connect(&server);
    // Padding (RFC 7830) up to 65,535 octets.
    let head = [header(next_id(), 0, [1, 0, 0, 1]), question(ZONE, SOA, IN)].concat();
    let padding = 65_535 - head.len() - 11 - 4;
    let packet = [head, opt(1232, 0, &option(12, &vec![0; padding]))].concat();
    assert_eq!(packet.len(), 65_535);
    send_framed(&mut stream, &packet);
    assert_eq!(Answer::read(read_framed(&mut stream)).rcode(), 0);
}

#[test]
fn an_idle_connection_is_closed_and_one_that_waits_for_its_commit_is_not() {
    let server = start("tcp-idle = \"200ms\"", "settle = \"1s\"");
    let mut idle = connect(&server);
    let mut waiting = connect(&server);
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").encode();
    send_framed(&mut waiting, &update);
    assert!(read_to_end(&mut idle).is_empty());
    assert_eq!(read_framed(&mut waiting)[..2], update[..2]);
    assert!(read_to_end(&mut waiting).is_empty());
    wait_for_cut(&server, "Idle", 2);
}

#[test]
fn messages_that_nobody_answers_do_not_keep_a_connection_open() {
    let server = start("tcp-idle = \"200ms\"", "");
    let mut stream = connect(&server);
    let start = Instant::now();
    // The server closes while the rubbish goes on.
    while stream.write_all(&[0, 0]).is_ok() {
        assert!(start.elapsed() < PATIENCE);
    }
    wait_for_cut(&server, "Idle", 1);
}

#[test]
fn a_message_that_trickles_in_is_cut_off() {
    let server = start("tcp-idle = \"300ms\"", "");
    let mut stream = connect(&server);
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[0xff, 0xff]).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let start = Instant::now();
    // An octet now and then doesn't buy time: the whole message has one deadline.
    loop {
        assert!(start.elapsed() < PATIENCE);
        if stream.write_all(&[0]).is_err() {
            break;
        }
        match stream.read(&mut [0; 16]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(0) | Err(_) => break,
            Ok(_) => panic!("half a message was answered"),
        }
    }
    wait_for_cut(&server, "SlowWriter", 1);
}

#[test]
fn a_client_that_takes_no_answers_is_cut_off() {
    let server = start("tcp-idle = \"500ms\"", "");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let octets: Vec<u8> = (0..500).flat_map(|_| framed(&query(ZONE, SOA))).collect();
    let (start, mut at) = (Instant::now(), 0);
    loop {
        assert!(start.elapsed() < PATIENCE);
        match stream.write(&octets[at..]) {
            Ok(written) => at = (at + written) % octets.len(),
            // Our writes fill up once the server stops reading.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    wait_for_cut(&server, "SlowReader", 1);
    assert_eq!(server.client().ask(&query(ZONE, SOA)).rcode(), 0);
}

#[test]
fn a_client_has_its_share_of_connections_and_others_have_theirs() {
    let server = start(&format!("{LONG}\ntcp-connections-per-client = 3"), "");
    let mut held: Vec<TcpStream> = (0..3).map(|_| connect_from(&server, 1)).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(!is_served(&mut connect_from(&server, 1)));
    assert!(is_served(&mut connect_from(&server, 2)));
    assert!(held.iter_mut().all(is_served));
    // A place that is given up is free again.
    drop(held.pop());
    wait_until(PATIENCE, "a free place", || is_served(&mut connect_from(&server, 1)).then_some(()));
}

#[test]
fn at_the_total_limit_an_idle_connection_of_the_busiest_client_makes_room() {
    let server = start(&format!("{LONG}\ntcp-connections = 4\ntcp-connections-per-client = 3"), "");
    let mut light = connect_from(&server, 1);
    assert!(is_served(&mut light));
    let mut heavy: Vec<TcpStream> = (0..3).map(|_| connect_from(&server, 2)).collect();
    assert!(heavy.iter_mut().all(is_served));
    // A client has its answer a moment before its connection counts as idle: the others stay busy beyond that.
    let first = Instant::now();
    wait_until(PATIENCE, "the first to be idle for longest", || {
        assert!(heavy[1..].iter_mut().all(is_served));
        (first.elapsed() > Duration::from_millis(200)).then_some(())
    });
    let mut newcomer = connect_from(&server, 3);
    assert!(is_served(&mut newcomer));
    assert!(read_to_end(&mut heavy[0]).is_empty());
    assert!(is_served(&mut light) && is_served(&mut heavy[1]) && is_served(&mut heavy[2]));
    wait_for_cut(&server, "Displaced", 1);
}

#[test]
fn a_flood_of_connections_leaves_udp_and_other_clients_untouched() {
    let server = start("tcp-connections = 64\ntcp-connections-per-client = 48\ntcp-idle = \"60s\"", "");
    let stop = Arc::new(AtomicBool::new(false));
    let address = server.address;
    let flood: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (mut opened, mut held) = (0u32, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    // A backlog that is full shows as an error or a timeout: that is the flood's concern.
                    if let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
                        opened += 1;
                        held.push(stream);
                    }
                    if held.len() > 200 {
                        held.clear();
                    }
                }
                opened
            })
        })
        .collect();
    let client = server.client();
    for round in 0..2000 {
        let answer = client.ask(&query(ZONE, SOA));
        assert_eq!(answer.rcode(), 0);
        if round % 100 == 0 {
            client.update(&Update::member(MEMCACHED, &format!("i-{round}"), "192.0.2.1"));
            wait_until(PATIENCE, "a place for another client", || {
                is_served(&mut connect_from(&server, 2)).then_some(())
            });
        }
    }
    stop.store(true, Ordering::Relaxed);
    let opened: u32 = flood.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(opened > 300, "only {opened} connections");
    server.wait_for_line("client limit");
}

#[test]
fn a_lack_of_descriptors_rests_new_connections_and_nothing_else() {
    let server = start(LONG, "");
    // The soft limit alone: an ordinary user may move it both ways.
    let limit = |files: usize| {
        let (pid, limit) = (server.pid().to_string(), format!("--nofile={files}:"));
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    limit(open + 8);
    let held: Vec<TcpStream> = (0..40).map(|_| connect(&server)).collect();
    server.wait_for_line("no new TCP connections");
    let client = server.client();
    for number in 0..100 {
        assert_eq!(client.ask(&query(ZONE, SOA)).rcode(), 0);
        client.update(&Update::member(MEMCACHED, &format!("i-{number}"), "192.0.2.1"));
    }
    // Said once, not once for every try; and again after the watch of files, which lacks them too, gave some back.
    let said = server.count_logged("no new TCP connections");
    assert!(said <= 1 + 4 * server.count_logged("go unnoticed"), "said {said} times");
    limit(open + 200);
    let mut last = held.into_iter().last().unwrap();
    assert!(is_served(&mut last));
}

#[test]
fn keepalive_tells_the_idle_timeout_over_tcp_to_whoever_asks() {
    let server = start("tcp-idle = \"7s\"", "");
    let ask =
        |options: &[u8]| [header(next_id(), 0, [1, 0, 0, 1]), question(ZONE, SOA, IN), opt(1232, 0, options)].concat();
    let keepalive = option(11, &[]);
    // OPT ends the answer: code, length, and 70 times 100 ms.
    let answer = ask_tcp(server.address, &ask(&keepalive));
    assert_eq!(answer.rcode(), 0);
    assert!(answer.octets.ends_with(&[0, 11, 0, 2, 0, 70]), "{answer:?}");
    // Not to others, and not over UDP.
    let plain = ask_tcp(server.address, &ask(&[]));
    assert_eq!(plain.octets.len() + 6, answer.octets.len());
    let datagram = server.client().ask(&ask(&keepalive));
    assert_eq!((datagram.rcode(), datagram.octets.len()), (0, plain.octets.len()));
    // A client has nothing to say in it; over UDP it is ignored whatever it holds.
    let wrong = ask(&option(11, &[0, 50]));
    let refusal = ask_tcp(server.address, &wrong);
    assert!(refusal.rcode() == 1 && refusal.error_text().contains("keepalive option"), "{refusal:?}");
    assert_eq!(server.client().ask(&wrong).rcode(), 0);
    // An acknowledged update carries it too.
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").edns_option(11, &[]).encode();
    assert!(ask_tcp(server.address, &update).octets.windows(6).any(|part| part == [0, 11, 0, 2, 0, 70]));
    let printed = dig(server.address, &["+tcp", "+keepalive", ZONE, "SOA"]);
    assert_eq!(printed.status, "NOERROR", "{}", printed.text);
    assert!(
        printed.text.to_uppercase().contains("TCP-KEEPALIVE: 7.0 SECS")
            || printed.text.to_uppercase().contains("TCP KEEPALIVE: 7.0 SECS"),
        "{}",
        printed.text
    );
}

#[test]
fn kdig_keeps_one_connection_for_many_queries() {
    let server = start(LONG, "");
    let printed = kdig(server.address, &["+tcp", "+keepopen", ZONE, "SOA", ZONE, "NS", ZONE, "SOA"]);
    assert_eq!(printed.answers.len(), 3, "{}", printed.text);
}

#[test]
fn at_shutdown_what_is_under_way_is_answered() {
    let mut server = start(LONG, "settle = \"300ms\"");
    let mut stream = connect(&server);
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").encode();
    // The query's answer says that the update before it was read.
    let later = query(ZONE, SOA);
    stream.write_all(&[framed(&update), framed(&later)].concat()).unwrap();
    assert_eq!(read_framed(&mut stream)[..2], later[..2]);
    let status = server.terminate();
    assert!(status.success());
    assert_eq!(read_framed(&mut stream)[..2], update[..2]);
    assert!(read_to_end(&mut stream).is_empty());
}

#[test]
fn over_ipv6_a_network_is_a_client() {
    let server = TestServer::with(&Setup {
        server: format!("[limits]\n{LONG}\ntcp-connections-per-client = 2\n"),
        listen: SocketAddr::from((IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 0)),
        ..Setup::default()
    });
    let mut held: Vec<TcpStream> = (0..2).map(|_| connect(&server)).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(!is_served(&mut connect(&server)));
}
