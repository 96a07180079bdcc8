//! A client that follows a service: whenever the zone's serial has moved, it prints the serial and who is there.
//!
//! `lookup SERVER:PORT ZONE SERVICE`
//!
//! It asks again when the TTL of the answer has run out. An answer that is cut (TC) is asked for again over TCP, and a
//! failure keeps the list that was there: only an answer that nobody is there empties it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that shows what it does")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, RecordType};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, zone, service] = arguments.as_slice() else {
        return Err("usage: lookup SERVER:PORT ZONE SERVICE".into());
    };
    let server = server.to_socket_addrs()?.next().ok_or("the server has no address")?;
    let zone = Name::from_ascii(zone)?;
    let service = Name::from_ascii(service)?.append_domain(&zone)?;
    let mut shown = None;
    loop {
        match read(server, &zone, &service) {
            Ok((serial, members, ttl)) => {
                if shown != Some(serial) {
                    println!("{serial}: {}", if members.is_empty() { "nobody".to_owned() } else { members.join(" ") });
                    shown = Some(serial);
                }
                sleep(Duration::from_secs(ttl.max(1).into()));
            }
            Err(error) => {
                eprintln!("the list stays as it was: {error}");
                sleep(Duration::from_secs(1));
            }
        }
    }
}

/// The serial, the members in the order of preference, and for how long they may be remembered.
fn read(server: SocketAddr, zone: &Name, service: &Name) -> Result<(u32, Vec<String>, u32)> {
    loop {
        let before = serial(server, zone)?;
        let answer = ask(server, service, RecordType::SRV)?;
        let (members, ttl) = members(server, &answer)?;
        // The list belongs to the serial only if that stood still around it.
        if serial(server, zone)? == before {
            return Ok((before, members, ttl));
        }
    }
}

fn serial(server: SocketAddr, zone: &Name) -> Result<u32> {
    let answer = ask(server, zone, RecordType::SOA)?;
    let soa = answer.answers.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    });
    soa.ok_or_else(|| format!("{zone} has no SOA record").into())
}

fn members(server: SocketAddr, answer: &Message) -> Result<(Vec<String>, u32)> {
    let mut found: Vec<&SRV> = Vec::new();
    for record in &answer.answers {
        if let RData::SRV(srv) = &record.data {
            found.push(srv);
        }
    }
    // Lower priorities first (RFC 2782); the weight is for whoever picks one.
    found.sort_by_key(|srv| (srv.priority, srv.target.clone(), srv.port));
    let mut members = Vec::new();
    for srv in found {
        let mut addresses = addresses(&srv.target, &answer.additionals);
        if addresses.is_empty() {
            // Additional records are a courtesy: they are left out first when there is no room.
            for rtype in [RecordType::A, RecordType::AAAA] {
                addresses.extend(self::addresses(&srv.target, &ask(server, &srv.target, rtype)?.answers));
            }
        }
        members.push(format!("{}:{}={}", srv.target, srv.port, addresses.join(",")));
    }
    // Without records, the TTL of the SOA is how long that may be remembered (RFC 2308 §5).
    let records = if answer.answers.is_empty() { &answer.authorities } else { &answer.answers };
    Ok((members, records.iter().map(|record| record.ttl).min().unwrap_or(1)))
}

fn addresses(name: &Name, records: &[hickory_proto::rr::Record]) -> Vec<String> {
    let of_name = records.iter().filter(|record| record.name == *name);
    of_name.filter_map(|record| record.data.ip_addr().map(|address| address.to_string())).collect()
}

/// Asks over UDP, three times at most, and over TCP if the answer doesn't fit.
fn ask(server: SocketAddr, name: &Name, rtype: RecordType) -> Result<Message> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true; // so that it works through a resolver, too
    query.add_query(Query::query(name.clone(), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    query.set_edns(edns);
    let octets = query.to_vec()?;
    let mut answer = over_udp(server, &octets)?;
    if answer.truncation {
        answer = over_tcp(server, &octets)?;
    }
    match answer.response_code {
        _ if answer.id != query.id => Err("an answer to another question".into()),
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        error => Err(format!("{name} {rtype}: {error}").into()),
    }
}

fn over_udp(server: SocketAddr, query: &[u8]) -> Result<Message> {
    let socket = UdpSocket::bind(if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 4096];
    for _ in 0..3 {
        socket.send(query)?;
        if let Ok(len) = socket.recv(&mut buffer) {
            return Ok(Message::from_vec(&buffer[..len])?);
        }
    }
    Err("no answer".into())
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> Result<Message> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(query.len())?.to_be_bytes();
    stream.write_all(&[&length, query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut octets = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut octets)?;
    Ok(Message::from_vec(&octets)?)
}
