//! IXFR: what a change takes, and what a thousand that undo each other take.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::servers::Server;
use crate::wire::{self, connect, framed, registration, withdrawal};

const COMMITS: u32 = 1000;

/// Octets, records and messages of the answer to an IXFR, and how long it took.
fn take(server: &Server, from: u32) -> (usize, usize, usize, f64) {
    let newest = wire::serial(server.address).unwrap();
    let mut stream = connect(server.address);
    let began = Instant::now();
    stream.write_all(&framed(&wire::ixfr(from))).unwrap();
    let (mut octets, mut serials, mut records, mut messages) = (0, Vec::new(), 0, 0);
    loop {
        let message = wire::read_message(&mut stream);
        octets += message.len() + 2;
        messages += 1;
        for (at, record) in wire::records(&message).iter().enumerate() {
            assert!(messages > 1 || at != 1 || record.serial() == Some(from), "what differs, and not everything");
            serials.extend(record.serial());
            records += 1;
        }
        // The newest SOA record comes first, before what is added, and last.
        if serials.iter().filter(|serial| **serial == newest).count() == 3 {
            return (octets, records, messages, began.elapsed().as_secs_f64() * 1e3);
        }
    }
}

pub(crate) fn measure(folder: &Path, members: u32) {
    let server = Server::livezone(folder, None);
    let mut stream = connect(server.address);
    let before = wire::serial(server.address).unwrap();
    wire::exchange(&mut stream, &registration(1, 6000..6001));
    let (octets, records, messages, took) = take(&server, before);
    println!("| {members} | one registration | {records} | {octets} | {messages} | {took:.1} |");
    let before = wire::serial(server.address).unwrap();
    for number in 0..COMMITS {
        let mut message = if number % 2 == 0 { registration(1, 6001..6002) } else { withdrawal(1, 6001) };
        // The same message again would be a retransmission.
        message[..2].copy_from_slice(&(number as u16 + 2).to_be_bytes());
        wire::exchange(&mut stream, &message);
    }
    assert_eq!(wire::serial(server.address).unwrap(), before.wrapping_add(COMMITS));
    let (octets, records, messages, took) = take(&server, before);
    println!("| {members} | {COMMITS} commits that undo each other | {records} | {octets} | {messages} | {took:.1} |");
    wire::exchange(&mut stream, &withdrawal(1, 6000));
}
