//! Malformed and mutated packets by the hundred thousand. Whatever comes in, the server lives, says what it must, says
//! nothing to responses, and its zone stays as it was.
//!
//! Every run has a seed of its own and prints it: `LIVEZONE_SEED=… tests/run hostile` makes the same choices again, and
//! `LIVEZONE_PACKETS=10000000` sends more.

mod packets;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use hickory_proto::op::Message;

use crate::support::client::{Client, ask_tcp};
use crate::support::message::*;
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, PATIENCE, ZONE};

use packets::Packets;

/// Members that no hostile packet has a right to.
const KEPT: u8 = 8;

/// How many packets each test sends at least.
fn packets() -> usize {
    std::env::var("LIVEZONE_PACKETS").map_or(100_000, |text| text.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var("LIVEZONE_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap())
}

/// A zone with all that a zone can have. Its members are one key's; another key may register beside them; who has neither
/// may register nothing, though it comes from loopback.
fn attacked() -> TestServer {
    let server = TestServer::with(&Setup {
        keys: vec![("keeper", "hmac-sha256"), ("agents", "hmac-sha256")],
        tables: "[access]\nupdate = [{ key = \"keeper.\" },\n\
                 { key = \"agents.\", services = [\"_other._tcp\"], records = [\"*.hosts\"] }]\n\
                 [[service]]\nname = \"_memcached._tcp\"\ndns-sd = true\n"
            .to_owned(),
        statics: "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\nwww IN CNAME ns1\nloop IN CNAME back\nback IN CNAME loop\n\
                  *.wild IN TXT \"w\"\nsub IN NS ns.sub\nns.sub IN A 192.0.2.53\nold IN DNAME new\na.new IN A 192.0.2.4\n"
            .to_owned(),
        ..Setup::default()
    });
    for number in 1..=KEPT {
        let update = Update::member(MEMCACHED, &format!("i-{number}"), &format!("192.0.2.{number}"));
        let answer = server.client().ask(&server.key("keeper").sign(&update.lease(3600).encode()).octets);
        assert_eq!(answer.rcode(), 0);
    }
    server
}

/// Everything that only the keeper and the files decide, as it is answered.
fn look(server: &TestServer) -> Vec<Vec<u8>> {
    let mut names = vec![
        (MEMCACHED.to_owned(), SRV),
        (MEMCACHED.to_owned(), TXT),
        (MEMCACHED.to_owned(), 12),
        ("memcached.svc.example.test.".to_owned(), A),
        (ZONE.to_owned(), NS),
        ("www.svc.example.test.".to_owned(), A),
        ("any.wild.svc.example.test.".to_owned(), TXT),
        ("x.sub.svc.example.test.".to_owned(), A),
        ("a.old.svc.example.test.".to_owned(), A),
    ];
    names.extend((1..=KEPT).map(|number| (host_of(MEMCACHED, &format!("i-{number}")), A)));
    names.iter().map(|(name, rtype)| ask_tcp(server.address, &query(name, *rtype)).octets[2..].to_vec()).collect()
}

/// Whether the server has to answer: to all that has a header and is no response, and to nothing else.
fn is_answered(packet: &[u8]) -> bool {
    packet.len() >= 12 && packet[2] & 0x80 == 0
}

/// Numbers a packet in its id. Even ids are answered, odd ones are not.
fn number(packet: &mut [u8], number: usize) {
    let id = u16::try_from(number * 2 % 65_536).unwrap() | u16::from(!is_answered(packet));
    if let Some(octets) = packet.get_mut(..2) {
        octets.copy_from_slice(&id.to_be_bytes());
    }
}

fn id_of(octets: &[u8]) -> u16 {
    u16::from_be_bytes([octets[0], octets[1]])
}

/// The largest datagram that whoever sent this may be sent.
fn offered(packet: &[u8]) -> usize {
    // The root, and type OPT: it may be something else that looks so, which only allows more.
    let sizes = packet.windows(5).filter(|octets| octets[..3] == [0, 0, 41]);
    let size = sizes.map(|octets| usize::from(u16::from_be_bytes([octets[3], octets[4]]))).max();
    size.unwrap_or(0).clamp(512, 1232)
}

/// The reply with other numbers for SIG, KEY, DNSKEY, CDS, CDNSKEY and ANAME: their data are octets to livezone (RFC 3597
/// §3), and here whoever has the key registers any; hickory expects more of them, such as reserved flags of KEY to be 0.
fn without_opaque_types(reply: &[u8]) -> Vec<u8> {
    const OPAQUE: [u16; 6] = [24, 25, 48, 59, 60, 65_305];
    const PRIVATE: u16 = 65_280;
    let word = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    let behind_name = |mut at: usize| loop {
        match reply[at] {
            0 => return at + 1,
            0xc0.. => return at + 2,
            length => at += usize::from(length) + 1,
        }
    };
    let mut octets = reply.to_vec();
    let mut at = (0..word(4)).fold(12, |at, _| behind_name(at) + 4);
    for _ in 0..word(6) {
        at = behind_name(at);
        if OPAQUE.contains(&word(at)) {
            octets[at..at + 2].copy_from_slice(&PRIVATE.to_be_bytes());
        }
        at += 10 + usize::from(word(at + 8));
    }
    octets
}

/// Replies by rcode.
type Tally = BTreeMap<u8, usize>;

/// What holds of every reply, whatever was sent.
fn check(packet: &[u8], reply: &[u8], tally: &mut Tally) {
    let what = || format!("{reply:02x?}\nto {packet:02x?}");
    assert!(reply.len() >= 12 && reply[2] & 0x80 != 0, "{}", what());
    assert_eq!(reply[2] & 0x78, packet[2] & 0x78, "the opcode comes back: {}", what());
    if let Err(error) = Message::from_vec(reply).or_else(|_| Message::from_vec(&without_opaque_types(reply))) {
        panic!("{error}: {}", what());
    }
    *tally.entry(reply[3] & 0xf).or_default() += 1;
}

/// What holds at the end.
fn conclude(mut server: TestServer, before: &[Vec<u8>]) {
    assert_eq!(look(&server), before, "the zone is as it was");
    assert!(server.terminate().success());
    server.assert_logged("stopping", 1); // the last line
    for text in ["ERROR", "panicked"] {
        assert_eq!(server.count_logged(text), 0, "{text}");
    }
}

#[test]
fn a_hundred_thousand_hostile_datagrams_get_a_fitting_reply_each_and_responses_none() {
    const WINDOW: usize = 64;
    let seed = seed();
    println!("LIVEZONE_SEED={seed}");
    let server = attacked();
    let mut source = Packets::new(seed, &server.key("agents"));
    let before = look(&server);
    // A flow stays on one of the server's threads: with a few of them, none is left out.
    let clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    let (start, mut sent, mut silent, mut tally) = (Instant::now(), 0, 0, Tally::new());
    let mut rest = source.beginnings().into_iter();
    while sent < packets() || rest.len() > 0 {
        let client = &clients[sent / WINDOW % clients.len()];
        let mut waiting = HashMap::new();
        for _ in 0..WINDOW {
            let mut packet = rest.next().unwrap_or_else(|| source.any());
            number(&mut packet, sent);
            sent += 1;
            client.send(&packet);
            if is_answered(&packet) {
                waiting.insert(id_of(&packet), packet);
            } else {
                silent += 1;
            }
        }
        let mut take = |reply: &[u8]| {
            let packet = waiting.remove(&id_of(reply));
            let packet = packet.unwrap_or_else(|| panic!("a reply that nothing is waiting for: {reply:02x?}"));
            assert!(reply.len() <= offered(&packet), "{} octets: {reply:02x?}\nto {packet:02x?}", reply.len());
            check(&packet, reply, &mut tally);
            waiting.len()
        };
        let mut open = usize::MAX;
        while open > 0 {
            let reply = client.receive(PATIENCE);
            open = take(&reply.unwrap_or_else(|| panic!("no reply")));
        }
        // Whatever else was said stands before the reply to this.
        let mut last = query(ZONE, SOA);
        number(&mut last, sent);
        sent += 1;
        client.send(&last);
        let reply = client.receive(PATIENCE).expect("the server lives");
        assert_eq!(id_of(&reply), id_of(&last), "a reply that nothing is waiting for: {reply:02x?}");
    }
    println!("measured: {sent} datagrams in {:?}, {silent} of them without a reply, rcodes {tally:?}", start.elapsed());
    conclude(server, &before);
}

/// A stream as the server cuts it into messages: the whole ones that have to be answered.
fn answered_messages(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk::<2>() {
        let Some((message, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { break };
        messages.extend(is_answered(message).then_some(message));
        stream = rest;
    }
    messages
}

fn append_framed(stream: &mut Vec<u8>, packet: &[u8]) {
    stream.extend(u16::try_from(packet.len()).unwrap().to_be_bytes());
    stream.extend(packet);
}

/// An end that no client should make: a length that is wrong, a message that is cut off, octets without any form.
fn append_bad_end(stream: &mut Vec<u8>, source: &mut Packets) {
    let packet = source.any();
    let length = u16::try_from(packet.len()).unwrap();
    match source.random.u8(..4) {
        0 => {
            let wrong = [0, 1, 11, length / 2, length.saturating_sub(1), length + 1, u16::MAX];
            stream.extend(wrong[source.random.usize(..wrong.len())].to_be_bytes());
            stream.extend(&packet);
            append_framed(stream, &source.any());
        }
        1 => {
            append_framed(stream, &packet);
            stream.truncate(stream.len() - source.random.usize(..=packet.len() + 1));
        }
        2 => stream.extend(source.octets(2000)),
        _ => stream.push(source.random.u8(..)),
    }
}

/// What comes back until the server closes.
fn read_replies(stream: &mut TcpStream) -> Vec<Vec<u8>> {
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).expect("the end, after all replies");
    let (mut replies, mut rest) = (Vec::new(), &octets[..]);
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (reply, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length))).expect("whole replies");
        replies.push(reply.to_vec());
        rest = tail;
    }
    assert!(rest.is_empty());
    replies
}

#[test]
fn a_hundred_thousand_hostile_messages_over_tcp_get_a_reply_each_and_responses_none() {
    const MESSAGES: usize = 100;
    let seed = seed();
    println!("LIVEZONE_SEED={seed}");
    let server = attacked();
    let mut source = Packets::new(seed, &server.key("agents"));
    let before = look(&server);
    let (start, mut sent, mut connections, mut cut, mut tally) = (Instant::now(), 0, 0, 0, Tally::new());
    let mut rest = source.beginnings().into_iter();
    while sent < packets() || rest.len() > 0 {
        let mut octets = Vec::new();
        for _ in 0..MESSAGES {
            let mut packet = rest.next().unwrap_or_else(|| source.any());
            number(&mut packet, sent);
            append_framed(&mut octets, &packet);
            sent += 1;
        }
        if source.random.u8(..4) == 0 {
            append_bad_end(&mut octets, &mut source);
            cut += 1;
        }
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&octets).unwrap();
        connections += 1;
        // Some leave without taking a reply: theirs count for nothing.
        if source.random.u8(..16) == 0 {
            sent -= MESSAGES;
            continue;
        }
        stream.shutdown(Shutdown::Write).unwrap();
        // At a bad end, ids are what they are: of equal ones the opcode tells the reply.
        let key = |message: &[u8]| (id_of(message), message[2] & 0x78);
        let mut waiting: HashMap<_, Vec<&[u8]>> = HashMap::new();
        for packet in answered_messages(&octets) {
            waiting.entry(key(packet)).or_default().push(packet);
        }
        for reply in read_replies(&mut stream) {
            let packet = waiting.get_mut(&key(&reply)).and_then(Vec::pop);
            let packet = packet.unwrap_or_else(|| panic!("a reply that nothing is waiting for: {reply:02x?}"));
            check(packet, &reply, &mut tally);
        }
        waiting.retain(|_, packets| !packets.is_empty());
        assert!(waiting.is_empty(), "no reply to {waiting:02x?}");
    }
    println!(
        "measured: {sent} messages over {connections} connections in {:?}, {cut} of these with a bad end, rcodes {tally:?}",
        start.elapsed()
    );
    conclude(server, &before);
}
