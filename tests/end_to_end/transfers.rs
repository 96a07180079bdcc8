//! Zone transfers out: AXFR (RFC 5936) and IXFR (RFC 1995).

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;

use crate::support::client::{Client, ask_tcp, read_framed, send_framed};
use crate::support::message::*;
use crate::support::programs::run;
use crate::support::server::{Setup, TestServer, livezone};
use crate::support::tsig::{BADKEY, BADSIG, BADTIME, TsigKey, unix_time};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

mod limits;

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
