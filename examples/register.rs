//! A member that registers itself by signed heartbeats (RFC 2136, RFC 8945, RFC 9664) and withdraws on Ctrl-C.
//!
//! `register SERVER:PORT ZONE SERVICE ID ADDRESS PORT KEY SECRET`; SECRET is a file of `livezone keygen`, or in base64.
#![expect(clippy::print_stdout, reason = "a program that shows what it does")]

use std::{net::IpAddr, pin::pin, time::UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{SRV, tsig::TsigAlgorithm};
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};
use tokio::net::UdpSocket;
use tokio::time::{Duration, sleep, timeout};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, zone, service, id, address, port, key, secret] = arguments.as_slice() else {
        return Err("usage: register SERVER:PORT ZONE SERVICE ID ADDRESS PORT KEY SECRET".into());
    };
    let file = std::fs::read_to_string(secret).unwrap_or_default();
    let inside = file.lines().find_map(|line| line.trim().strip_prefix("secret \"")?.split('"').next());
    let secret = STANDARD.decode(inside.unwrap_or(secret))?;
    let signer = TSigner::new(secret, TsigAlgorithm::HmacSha256, Name::from_ascii(key)?, 300)?;
    let zone = Name::from_ascii(zone)?;
    // The member's own name: i-7.memcached for i-7 in _memcached._tcp.
    let domain = service.trim_start_matches('_').replacen("._tcp", "", 1).replacen("._udp", "", 1);
    let host = Name::from_ascii(format!("{id}.{domain}"))?.append_domain(&zone)?;
    let srv = RData::SRV(SRV::new(0, 256, port.parse()?, host.clone()));
    let records = [
        Record::from_rdata(Name::from_ascii(service)?.append_domain(&zone)?, 5, srv),
        Record::from_rdata(host, 5, address.parse::<IpAddr>()?.into()),
    ];
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        let result = update(server, &zone, &records, &signer, 15).await; // seconds; the zone's limits decide
        match &result {
            Ok(granted) => println!("registered for {granted} s"),
            Err(error) => println!("not registered: {error}"),
        }
        let pause = sleep(Duration::from_secs(result.unwrap_or(3).into()) / 3);
        tokio::select! { _ = &mut stop => break, () = pause => {} }
    }
    update(server, &zone, &records, &signer, 0).await?; // a lease of 0 withdraws
    println!("withdrawn");
    Ok(())
}

/// Sends a signed update until it is answered, three times at most; returns the lease granted.
async fn update(server: &str, zone: &Name, records: &[Record], signer: &TSigner, lease: u32) -> Result<u32> {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.add_query(Query::query(zone.clone(), RecordType::SOA)).add_authorities(records.iter().cloned());
    let option = EdnsOption::Unknown(EdnsCode::UL.into(), lease.to_be_bytes().into());
    message.edns.get_or_insert_with(Edns::new).options_mut().insert(option);
    let mut verifier = message.finalize(signer, UNIX_EPOCH.elapsed()?.as_secs())?.ok_or("not signed")?;
    // A socket of its own, so that no late answer to an earlier message gets in the way.
    let socket = UdpSocket::bind(if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).await?;
    socket.connect(server).await?;
    let mut buffer = [0; 1232];
    for _ in 0..3 {
        socket.send(&message.to_vec()?).await?;
        let Ok(len) = timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await else { continue };
        let answer = verifier.verify(&buffer[..len?])?;
        let option = |code: EdnsCode| match answer.edns.as_ref()?.option(code)? {
            EdnsOption::Unknown(_, octets) => Some(octets.as_slice()),
            _ => None,
        };
        if answer.response_code != ResponseCode::NoError {
            let why = option(EdnsCode::from(15)).and_then(|error| error.get(2..)).unwrap_or_default(); // RFC 8914
            return Err(format!("{}: {}", answer.response_code, String::from_utf8_lossy(why)).into());
        }
        return Ok(option(EdnsCode::UL).map_or(Ok(lease), |granted| granted.try_into().map(u32::from_be_bytes))?);
    }
    Err("no answer".into())
}
