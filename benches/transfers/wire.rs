//! Messages, as far as the bench needs them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const ZONE: &str = "svc.example.test";
pub(crate) const A: u16 = 1;
pub(crate) const SOA: u16 = 6;
const AAAA: u16 = 28;
const SRV: u16 = 33;
pub(crate) const IXFR: u16 = 251;
pub(crate) const AXFR: u16 = 252;
/// The key `xfer.` with hmac-sha256, in base64 and as it is.
pub(crate) const SECRET: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I=";
const SECRET_OCTETS: &[u8] = b"secret secret secret secret secr";

pub(crate) fn name(text: &str) -> Vec<u8> {
    let mut wire: Vec<u8> =
        text.split('.').flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

pub(crate) fn host(service: u32, member: u32) -> String {
    format!("i-{member:04}.cache{service:04}.{ZONE}")
}

pub(crate) fn query(id: u16, qname: &str, qtype: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(name(qname));
    message.extend(qtype.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Asks for what differs from a version: its SOA record goes along (RFC 1995 §3).
pub(crate) fn ixfr(serial: u32) -> Vec<u8> {
    let mut message = query(7, ZONE, IXFR);
    message[9] = 1;
    let mut data = vec![0, 0];
    data.extend(serial.to_be_bytes());
    data.extend([0; 16]);
    record(&mut message, &name(ZONE), SOA, &data);
    message
}

/// Signs a request (RFC 8945 §4.2).
pub(crate) fn sign(message: &mut Vec<u8>) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_be_bytes();
    let (key, algorithm) = (name("xfer"), name("hmac-sha256"));
    let signed = [&message[..], &key, &[0, 255, 0, 0, 0, 0], &algorithm, &time[2..], &[1, 44, 0, 0, 0, 0]].concat();
    let mac = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET_OCTETS), &signed);
    let data = [&algorithm, &time[2..], &[1, 44, 0, 32], mac.as_ref(), &message[..2], &[0; 4]].concat();
    message.extend([&key[..], &[0, 250, 0, 255, 0, 0, 0, 0, 0, data.len() as u8], &data].concat());
    message[11] += 1;
}

/// An update that registers members of one service: an SRV, an A and an AAAA record each.
pub(crate) fn registration(service: u32, members: std::ops::Range<u32>) -> Vec<u8> {
    let mut message = update((members.len() * 3) as u16);
    for member in members {
        let (owner, srv) = srv(service, member);
        let host = name(&host(service, member));
        let number = service << 16 | member;
        let mut aaaa = vec![0xfd, 0, 0, 0x53, 0, 0, 0, 0, 0, 0, 0, 0];
        aaaa.extend(number.to_be_bytes());
        record(&mut message, &owner, SRV, &srv);
        record(&mut message, &host, A, &(0x0a00_0000 | number & 0xff_ffff).to_be_bytes());
        record(&mut message, &host, AAAA, &aaaa);
    }
    message
}

/// An update that withdraws a member again.
pub(crate) fn withdrawal(service: u32, member: u32) -> Vec<u8> {
    let mut message = update(1);
    let (owner, data) = srv(service, member);
    record(&mut message, &owner, SRV, &data);
    let class = 12 + name(ZONE).len() + 4 + owner.len() + 2;
    message[class..class + 6].copy_from_slice(&[0, 254, 0, 0, 0, 0]);
    message
}

fn update(records: u16) -> Vec<u8> {
    let mut message = vec![0, 1, 0x28, 0, 0, 1, 0, 0];
    message.extend(records.to_be_bytes());
    message.extend([0, 0]);
    message.extend(name(ZONE));
    message.extend([0, 6, 0, 1]);
    message
}

fn srv(service: u32, member: u32) -> (Vec<u8>, Vec<u8>) {
    let mut data: Vec<u8> = [0u16, 256, 11211].iter().flat_map(|field| field.to_be_bytes()).collect();
    data.extend(name(&host(service, member)));
    (name(&format!("_cache{service:04}._tcp.{ZONE}")), data)
}

fn record(message: &mut Vec<u8>, owner: &[u8], rtype: u16, rdata: &[u8]) {
    message.extend(owner);
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1, 0, 0, 0, 5]);
    message.extend((rdata.len() as u16).to_be_bytes());
    message.extend(rdata);
}

pub(crate) fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

pub(crate) fn read_message(stream: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

/// Sends a message and waits for its answer, which must be NOERROR; a server whose disk is busy is asked again.
pub(crate) fn exchange(stream: &mut TcpStream, message: &[u8]) {
    for pause in [1, 2, 4, 0] {
        stream.write_all(&framed(message)).unwrap();
        let answer = read_message(stream);
        match answer[3] & 15 {
            0 => return,
            2 => std::thread::sleep(Duration::from_secs(pause)),
            _ => panic!("the server refused: {answer:?}"),
        }
    }
    panic!("the server can't");
}

/// A socket that asks one server.
pub(crate) fn udp(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket
}

/// Answers to a question over UDP, if one comes soon.
pub(crate) fn ask(socket: &UdpSocket, question: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; 4096];
    socket.send(question).ok()?;
    loop {
        let len = socket.recv(&mut buffer).ok()?;
        if buffer[..2] == question[..2] && len >= 12 {
            return Some(buffer[..len].to_vec());
        }
    }
}

/// The serial that a server answers.
pub(crate) fn serial(server: SocketAddr) -> Option<u32> {
    let answer = ask(&udp(server), &query(9, ZONE, SOA))?;
    records(&answer).first().and_then(Record::serial)
}

pub(crate) struct Record<'m> {
    pub(crate) rtype: u16,
    pub(crate) rdata: &'m [u8],
}

impl Record<'_> {
    pub(crate) fn serial(&self) -> Option<u32> {
        let (_, fields) = self.rdata.split_at_checked(self.rdata.len().checked_sub(20)?)?;
        (self.rtype == SOA).then(|| u32::from_be_bytes(fields[..4].try_into().unwrap()))
    }
}

/// The records of the answer section.
pub(crate) fn records(message: &[u8]) -> Vec<Record<'_>> {
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let mut at = 12;
    for _ in 0..word(4) {
        at = skip_name(message, at) + 4;
    }
    let mut records = Vec::new();
    for _ in 0..word(6) {
        at = skip_name(message, at);
        let (rtype, len) = (word(at), usize::from(word(at + 8)));
        records.push(Record { rtype, rdata: &message[at + 10..at + 10 + len] });
        at += 10 + len;
    }
    records
}

fn skip_name(message: &[u8], mut at: usize) -> usize {
    loop {
        match message[at] {
            0 => return at + 1,
            0xc0.. => return at + 2,
            len => at += usize::from(len) + 1,
        }
    }
}
