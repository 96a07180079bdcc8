//! Zone transfers out: AXFR (RFC 5936) and IXFR (RFC 1995), and what happens at their limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record, RecordType};
use socket2::{Domain, Socket, Type};

use crate::support::client::{Answer, Client, ask_tcp, read_framed, send_framed};
use crate::support::message::*;
use crate::support::programs::run;
use crate::support::server::{Setup, TestServer, livezone};
use crate::support::tsig::{BADKEY, BADSIG, BADTIME, TsigKey, unix_time};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

const AXFR: u16 = 252;
const IXFR: u16 = 251;
const SERVFAIL: u16 = 2;
const REFUSED: u16 = 5;
const NOTAUTH: u16 = 9;

/// Most transfers at once.
const TRANSFERS: usize = 64;
/// Commits that are kept.
const HISTORY: u32 = 1024;

fn ixfr(serial: u32) -> Vec<u8> {
    let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
    [header(next_id(), 0, [1, 0, 1, 0]), question(ZONE, IXFR, IN), record(ZONE, SOA, IN, 0, &soa)].concat()
}

/// What a transfer brought.
#[derive(Debug)]
struct Transferred {
    messages: Vec<Vec<u8>>,
    /// As text, in order.
    records: Vec<String>,
    serial: u32,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Current,
    Whole,
    Changes,
}

fn serial_of(data: &RData) -> Option<u32> {
    match data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    }
}

/// Reads an answer to its end, which its SOA records tell (RFC 5936 §2.2, RFC 1995 §4).
fn read_transfer(stream: &mut TcpStream, is_ixfr: bool) -> Transferred {
    let (mut messages, mut records, mut current) = (Vec::new(), Vec::new(), 0);
    let mut serial = None;
    let mut form = None;
    loop {
        let octets = read_framed(stream);
        let message = Message::from_vec(&octets).unwrap();
        assert_eq!(octets[3] & 0xf, 0, "{message:?}");
        assert!(message.metadata.authoritative && !message.metadata.truncation && !message.answers.is_empty());
        messages.push(octets);
        for record in &message.answers {
            let soa = serial_of(&record.data);
            let first = *serial.get_or_insert_with(|| soa.expect("the first record is the SOA"));
            current += usize::from(soa == Some(first));
            records.push(format!("{record}").to_ascii_lowercase());
            if records.len() == 2 {
                form = Some(if is_ixfr && soa.is_some_and(|soa| soa != first) { Form::Changes } else { Form::Whole });
            }
        }
        if is_ixfr && records.len() == 1 {
            form = Some(Form::Current);
        }
        let ends = match form {
            Some(Form::Current) => 1,
            Some(Form::Whole) => 2,
            Some(Form::Changes) => 3,
            None => continue,
        };
        if current == ends {
            return Transferred { messages, records, serial: serial.unwrap(), form: form.unwrap() };
        }
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn transfer(server: SocketAddr, packet: &[u8]) -> Transferred {
    let mut stream = connect(server);
    send_framed(&mut stream, packet);
    read_transfer(&mut stream, packet[12 + name(ZONE).len() + 1] == 251)
}

fn axfr(server: SocketAddr) -> Transferred {
    transfer(server, &query(ZONE, AXFR))
}

impl Transferred {
    /// The records of a whole zone, without the SOA records around them.
    fn zone(&self) -> Vec<String> {
        assert_eq!(self.form, Form::Whole);
        assert_eq!(self.records.first(), self.records.last());
        let mut zone = self.records[1..self.records.len() - 1].to_vec();
        zone.sort();
        let count = zone.len();
        zone.dedup();
        assert_eq!(zone.len(), count, "each record once");
        zone
    }

    /// Makes of an older version what was transferred.
    fn apply(&self, copy: &mut Vec<String>) {
        match self.form {
            Form::Current => {}
            Form::Whole => *copy = self.zone(),
            Form::Changes => {
                let is_soa = |record: &String| record.starts_with(&format!("{ZONE} ")) && record.contains(" soa ");
                let rest = &self.records[2..self.records.len() - 1];
                let middle = rest.iter().position(is_soa).unwrap();
                for record in &rest[..middle] {
                    let place = copy.iter().position(|other| other == record);
                    copy.remove(place.unwrap_or_else(|| panic!("{record} goes and was not there")));
                }
                copy.extend_from_slice(&rest[middle + 1..]);
                copy.sort();
            }
        }
    }
}

/// Members of services of a thousand, some hundred in a message.
fn fill(server: SocketAddr, members: usize) {
    let members: Vec<usize> = (0..members).collect();
    for chunk in members.chunks(400) {
        let update = chunk.iter().fold(Update::new().lease(3600), |update, &number| {
            let service = format!("_s{}._tcp.{ZONE}", number / 1000);
            update.and_member(&service, &format!("i-{number}"), &format!("10.0.{}.{}", number / 250, number % 250))
        });
        assert_eq!(ask_tcp(server, &update.encode()).rcode(), 0);
    }
}

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

/// What dig or kdig print of a transfer: the records, and all of it.
fn print(program: &str, server: SocketAddr, arguments: &[&str]) -> (Vec<String>, String) {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let output = run(program, &[&[at.as_str(), "-p", &port], arguments].concat(), "");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let is_record = |line: &&str| !line.is_empty() && !line.starts_with(';');
    let records = text.lines().filter(is_record).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    (records.collect(), text)
}

fn sorted(mut records: Vec<String>) -> Vec<String> {
    records.sort();
    records
}

#[test]
fn dig_and_kdig_take_the_zone_and_what_changed() {
    let server = TestServer::start();
    let client = server.client();
    for number in 0..5 {
        client.update(&Update::member(MEMCACHED, &format!("i-{number}"), "192.0.2.1").lease(3600));
    }
    let before = client.serial();
    client.update(&Update::member(MEMCACHED, "i-9", "192.0.2.9").lease(3600));
    let (by_dig, text) = print("dig", server.address, &[ZONE, "AXFR"]);
    assert!(text.contains("XFR size") && !text.contains("failed"), "{text}");
    let (by_kdig, _) = print("kdig", server.address, &[ZONE, "AXFR"]);
    assert_eq!(sorted(by_dig.clone()), sorted(by_kdig));
    assert_eq!(by_dig.len(), axfr(server.address).records.len());
    let soa = format!("{ZONE} 2 IN SOA ns1.{ZONE} hostmaster.example.test. {} 30 5 3600 2", before + 1);
    assert_eq!((by_dig.first(), by_dig.last()), (Some(&soa), Some(&soa)));
    for record in [
        "_memcached._tcp.svc.example.test. 1 IN SRV 0 256 11211 i-9.memcached.svc.example.test.",
        "i-9.memcached.svc.example.test. 1 IN A 192.0.2.9",
        "memcached.svc.example.test. 1 IN A 192.0.2.9",
        "svc.example.test. 3600 IN NS ns1.svc.example.test.",
    ] {
        assert_eq!(by_dig.iter().filter(|other| *other == record).count(), 1, "{record}: {by_dig:#?}");
    }
    let (by_dig, _) = print("dig", server.address, &[ZONE, &format!("ixfr={before}")]);
    let (by_kdig, _) = print("kdig", server.address, &[ZONE, &format!("IXFR={before}")]);
    assert_eq!(sorted(by_dig.clone()), sorted(by_kdig));
    // Four SOA records, a TXT record before and after, and SRV and two addresses of the newcomer.
    assert_eq!(by_dig.len(), 9, "{by_dig:#?}");
    for serial in [before + 1, before + 2] {
        let (by_dig, _) = print("dig", server.address, &[ZONE, &format!("ixfr={serial}")]);
        assert_eq!(by_dig, [&*soa]);
    }
}

#[test]
fn a_registration_in_a_large_zone_costs_what_it_changes() {
    let server = TestServer::start();
    fill(server.address, 3000);
    let before = server.client().serial();
    server.client().update(&Update::member(&format!("_s1._tcp.{ZONE}"), "new", "192.0.2.1").lease(3600));
    let (records, _) = print("dig", server.address, &[ZONE, &format!("ixfr={before}")]);
    assert_eq!(records.len(), 9, "{records:#?}");
    // RFC 1995 §4: over UDP too, where it fits.
    let answer = server.client().ask(&ixfr(before));
    assert_eq!((answer.message.answers.len(), answer.message.metadata.truncation), (9, false));
    // And the SOA record alone, without TC, where it doesn't (§2).
    fill(server.address, 3020);
    let answer = server.client().ask(&ixfr(before));
    assert_eq!((answer.message.answers.len(), answer.message.metadata.truncation), (1, false));
    let by_tcp = transfer(server.address, &ixfr(before));
    assert_eq!((by_tcp.form, serial_of(&answer.message.answers[0].data)), (Form::Changes, Some(by_tcp.serial)));
    let by_udp = server.client().ask(&query(ZONE, AXFR));
    assert_eq!((by_udp.rcode(), by_udp.message.answers.len()), (REFUSED, 0));
}

#[test]
fn who_follows_by_ixfr_has_what_an_axfr_brings() {
    let server = TestServer::with(&Setup { arguments: vec!["--epoch", "4294967290"], ..Setup::default() });
    let address = server.address;
    fill(address, 300);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let client = Client::new(address);
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let host = host_of(MEMCACHED, &format!("i-{}", number % 40));
                let srv = srv(11211, &host);
                client.update(&match number % 3 {
                    0 => Update::new().delete_record(MEMCACHED, SRV, &srv),
                    _ => Update::member(MEMCACHED, &format!("i-{}", number % 40), "192.0.2.1").lease(3600),
                });
            }
        })
    };
    let first = axfr(address);
    let (mut copy, mut serial) = (first.zone(), first.serial);
    let (start, mut changes) = (Instant::now(), 0);
    while changes < 30 {
        assert!(start.elapsed() < PATIENCE);
        let next = transfer(address, &ixfr(serial));
        next.apply(&mut copy);
        serial = next.serial;
        changes += usize::from(next.form == Form::Changes);
        // Every version is whole in itself.
        let whole = axfr(address);
        let zone = whole.zone();
        let is_member = |record: &&String| record.starts_with("_memcached._tcp.") && record.contains(" srv ");
        let members = zone.iter().filter(is_member).count();
        let told = zone
            .iter()
            .any(|record| record.starts_with("_memcached._tcp.") && record.contains(&format!("members={members}")));
        assert!(told || members == 0, "{members} members: {zone:#?}");
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    transfer(address, &ixfr(serial)).apply(&mut copy);
    let whole = axfr(address);
    assert_eq!(copy, whole.zone());
    assert!(whole.serial < 1 << 31, "past the wrap of serials");
    // From before the wrap to behind it, at once.
    let mut older = first.zone();
    let all = transfer(address, &ixfr(first.serial));
    assert_eq!((all.form, first.serial > 4_294_967_289), (Form::Changes, true));
    all.apply(&mut older);
    assert_eq!(older, copy);
}

#[test]
fn a_thousand_commits_cost_what_differs_in_the_end_and_survive_a_crash() {
    let statics =
        (0..50).fold(Setup::default().statics, |statics, number| format!("{statics}t{number} IN TXT \"fixed\"\n"));
    let mut server = TestServer::with(&Setup { statics, ..Setup::default() });
    let client = server.client();
    let member =
        |number: u32| Update::member(MEMCACHED, "i-1", &format!("10.1.{}.{}", number / 250, number % 250)).lease(3600);
    client.update(&member(0));
    let first = client.serial();
    for number in 1..=HISTORY + 5 {
        client.update(&Update::new().delete_rrset(&host_of(MEMCACHED, "i-1"), A).and_member(
            MEMCACHED,
            "i-1",
            &format!("10.1.{}.{}", number / 250, number % 250),
        ));
    }
    let last = client.serial();
    assert_eq!(last, first + HISTORY + 5, "each was a commit");
    let reach = |server: &TestServer, serial: u32| transfer(server.address, &ixfr(serial));
    let all = reach(&server, last - HISTORY);
    // Four SOA records; TXT, and the address of member and service, before and after.
    assert_eq!((all.form, all.records.len()), (Form::Changes, 10), "{all:#?}");
    assert_eq!(reach(&server, last - HISTORY - 1).form, Form::Whole);
    // `explain` says that the oldest are gone, to those who ask for them.
    let says = |since: u32| {
        let url = format!("http://{}", server.http.unwrap());
        let output =
            livezone().args(["explain", ZONE, "--server", &url, "--since", &since.to_string()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(says(first).contains(&format!("not all commits after epoch {first};")), "{}", says(first));
    assert_eq!(says(last - HISTORY), "");
    server.kill_9();
    server.restart();
    assert_eq!(server.client().serial(), last);
    // What the oldest commit that is kept began with isn't known.
    let after = reach(&server, last - HISTORY + 1);
    assert_eq!((after.form, after.records.len()), (Form::Changes, 10));
    assert_eq!(reach(&server, last - HISTORY).form, Form::Whole);
    // A start with another SOA is one commit, and those who were there before follow.
    server.kill_9();
    let file = server.folder().join("zones/svc.example.test.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("negative-ttl = \"2s\"", "negative-ttl = \"3s\"");
    std::fs::write(&file, text).unwrap();
    server.restart();
    assert_eq!(server.client().serial(), last + 1);
    let across = reach(&server, last);
    assert_eq!((across.form, across.records.len()), (Form::Changes, 4), "{across:#?}");
    assert!(across.records[0].ends_with(" 3600 3") && across.records[1].ends_with(" 3600 2"), "{across:#?}");
    server.client().update(&member(1));
    server.kill_9();
    server.restart();
    // The SOA records of versions before can't be told any more.
    assert_eq!(reach(&server, last).form, Form::Whole);
    assert_eq!(reach(&server, last + 1).form, Form::Changes);
}

fn keyed(access: &str) -> (TestServer, TsigKey) {
    let server = TestServer::with(&Setup {
        keys: vec![("xfer", "hmac-sha256"), ("other", "hmac-sha512")],
        tables: format!("[access]\n{access}\n"),
        ..Setup::default()
    });
    let key = server.key("xfer");
    (server, key)
}

#[test]
fn with_a_key_each_message_is_signed_and_without_it_nothing_is_transferred() {
    let (server, key) = keyed("transfer = [{ key = \"xfer.\" }]");
    fill(server.address, 3000);
    let serial = server.client().serial();
    for packet in [query(ZONE, AXFR), edns_query(ZONE, AXFR, 1232), ixfr(serial - 3)] {
        let signed = key.sign(&packet);
        let transferred = transfer(server.address, &signed.octets);
        assert!(transferred.messages.len() > 1, "{}", transferred.messages.len());
        key.verify_messages(&transferred.messages, &signed.mac);
    }
    let file = server.key_file("xfer");
    let (argument, by_file) = (key.as_argument(), ["-k", file.to_str().unwrap()]);
    let count = transfer(server.address, &key.sign(&query(ZONE, AXFR)).octets).records.len();
    for (program, how) in [("dig", ["-y", &argument]), ("dig", by_file), ("kdig", ["-y", &argument])] {
        let (records, text) = print(program, server.address, &[how[0], how[1], ZONE, "AXFR"]);
        let records = records.iter().filter(|record| !record.contains(" TSIG ")).count();
        let trouble = ["failed", "WARNING", ";; ERROR", "erify"].into_iter().find(|word| text.contains(word));
        assert_eq!((records, trouble), (count, None), "{program} {how:?}");
    }
    // The other key, or none.
    let other = server.key("other");
    for packet in [other.sign(&query(ZONE, AXFR)).octets, query(ZONE, AXFR), ixfr(serial)] {
        assert_eq!(ask_tcp(server.address, &packet).rcode(), REFUSED);
    }
    let (records, text) =
        print("dig", server.address, &["-k", server.key_file("other").to_str().unwrap(), ZONE, "AXFR"]);
    assert!(records.iter().all(|record| record.contains(" TSIG ")) && text.contains("failed"), "{text}");
    let reason = ask_tcp(server.address, &edns_query(ZONE, AXFR, 1232)).error_text();
    assert!(reason.contains("[access] transfer"), "{reason}");
    // RFC 8945 §5.2, as for any query.
    let wrong = TsigKey { secret: vec![7; 32], ..key.clone() };
    let unknown = TsigKey { name: "nobody.".to_owned(), ..key.clone() };
    let now = unix_time();
    for (signed, reader, error) in [
        (wrong.sign(&query(ZONE, AXFR)), &key, BADSIG),
        (unknown.sign(&query(ZONE, AXFR)), &unknown, BADKEY),
        (key.sign_at(&query(ZONE, AXFR), now - 3600), &key, BADTIME),
        (key.sign_at(&ixfr(serial), now + 3600), &key, BADTIME),
    ] {
        let answer = ask_tcp(server.address, &signed.octets);
        let tsig = reader.read_answer(&answer.octets, &signed.mac).unwrap();
        assert_eq!((answer.rcode(), tsig.error, answer.message.answers.len()), (NOTAUTH, error, 0));
        assert_eq!(tsig.verified, (error == BADTIME).then_some(true));
    }
    let secret = argument.rsplit(':').next().unwrap();
    let bad = argument.replace(secret, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    for program in ["dig", "kdig"] {
        let (records, text) = print(program, server.address, &["-y", &bad, ZONE, "AXFR"]);
        let zone = records.iter().filter(|record| !record.contains(" TSIG ")).count();
        assert!(zone == 0 && text.contains("BADSIG"), "{text}");
    }
}

#[test]
fn a_reload_changes_who_may_transfer() {
    let (server, key) = keyed("transfer = [{ key = \"xfer.\" }]");
    let rcode = |packet: &[u8]| ask_tcp(server.address, packet).rcode();
    assert_eq!(rcode(&query(ZONE, AXFR)), REFUSED);
    assert_eq!(rcode(&key.sign(&query(ZONE, AXFR)).octets), 0);
    let file = server.folder().join("zones/svc.example.test.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let serial = server.client().serial();
    std::fs::write(&file, text.replace("{ key = \"xfer.\" }", "{ network = \"127.0.0.0/8\" }")).unwrap();
    wait_until(PATIENCE, "the new access", || (rcode(&query(ZONE, AXFR)) == 0).then_some(()));
    std::fs::write(&file, text.replace("{ key = \"xfer.\" }", "")).unwrap();
    wait_until(PATIENCE, "access for nobody", || (rcode(&query(ZONE, AXFR)) == REFUSED).then_some(()));
    assert_eq!(rcode(&key.sign(&query(ZONE, AXFR)).octets), REFUSED);
    assert_eq!(server.client().serial(), serial, "nothing that is published changed");
}

#[test]
fn one_transfer_too_many_is_servfail_and_counted_and_those_under_way_go_on() {
    let server = start_large("60s");
    let mut held: Vec<TcpStream> = (0..TRANSFERS).map(|_| hold(server.address)).collect();
    let refused = ask_tcp(server.address, &edns_query(ZONE, AXFR, 1232));
    assert_eq!(refused.rcode(), SERVFAIL);
    assert!(refused.error_text().contains("too many zone transfers"), "{}", refused.error_text());
    wait_until(PATIENCE, "the count", || (server.count_logged("limit=\"transfers\"") == 1).then_some(()));
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
    wait_until(PATIENCE, "the cut", || (server.count_logged("reason=SlowReader") == 1).then_some(()));
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
    wait_until(PATIENCE, "a look at the files", || (server.count_logged("files were looked at") > 0).then_some(()));
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
