//! AXFR: records a second, server CPU, and memory while many transfer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Settings;
use crate::servers::Server;
use crate::support::{keep_to, median};
use crate::wire::{self, AXFR, Record, SOA, ZONE, connect, framed};

#[derive(Default)]
struct Count {
    records: u64,
    messages: u64,
    octets: u64,
}

/// Takes a zone, and looks at the counts of its messages alone: it ends when as many records came as there are.
fn take(server: SocketAddr, signed: bool, records: u64) -> Count {
    let mut request = wire::query(1, ZONE, AXFR);
    if signed {
        wire::sign(&mut request);
    }
    let mut stream = connect(server);
    stream.write_all(&framed(&request)).unwrap();
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let mut count = Count::default();
    while count.records < records {
        let mut head = [0; 14];
        reader.read_exact(&mut head).unwrap();
        assert_eq!(head[5] & 15, 0, "the transfer is refused");
        let mut rest = usize::from(u16::from_be_bytes([head[0], head[1]])) - 12;
        count.octets += rest as u64 + 14;
        count.records += u64::from(u16::from_be_bytes([head[8], head[9]]));
        count.messages += 1;
        while rest > 0 {
            let taken = reader.fill_buf().unwrap().len().min(rest);
            assert_ne!(taken, 0, "the transfer ends early");
            reader.consume(taken);
            rest -= taken;
        }
    }
    count
}

/// How many records a transfer has, which begins and ends with the SOA record.
fn survey(server: &Server) -> u64 {
    let mut stream = connect(server.address);
    stream.write_all(&framed(&wire::query(1, ZONE, AXFR))).unwrap();
    let (mut records, mut ends) = (0, 0);
    while ends < 2 {
        let message = wire::read_message(&mut stream);
        let answers = wire::records(&message);
        records += answers.len() as u64;
        ends += answers.iter().filter(|record: &&Record<'_>| record.rtype == SOA).count();
    }
    records
}

/// Interleaved rounds over all servers.
pub(crate) fn rates(settings: Settings, servers: &[Server]) {
    let records = survey(&servers[0]);
    println!("\nAXFR, {records} records, medians of {} interleaved rounds ({})\n", settings.rounds, crate::load());
    for server in servers {
        assert_eq!(survey(server), records, "{} has the same zone", server.name);
    }
    println!("| server | TSIG | records/s | min..max | ms | server CPU ms | messages | octets |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let cases: Vec<(&Server, bool)> =
        servers.iter().map(|server| (server, false)).chain(servers.iter().map(|server| (server, true))).collect();
    let mut measured: Vec<(Vec<f64>, Duration, Count)> = cases.iter().map(|_| Default::default()).collect();
    for round in 0..=settings.rounds {
        for ((server, signed), (times, cpu, count)) in cases.iter().zip(&mut measured) {
            let (before, began) = (server.cpu(), Instant::now());
            *count = take(server.address, *signed, records);
            let took = began.elapsed();
            assert_eq!(count.records, records);
            // The first is for warming up.
            if round > 0 {
                times.push(took.as_secs_f64());
                *cpu += server.cpu() - before;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    for ((server, signed), (mut times, cpu, count)) in cases.iter().zip(measured) {
        let took = median(&mut times);
        let rate = |time: f64| records as f64 / time;
        println!(
            "| {} | {} | {:.0} | {:.0}..{:.0} | {:.0} | {:.0} | {} | {} |",
            server.name,
            if *signed { "yes" } else { "no" },
            rate(took),
            rate(times[times.len() - 1]),
            rate(times[0]),
            took * 1e3,
            cpu.as_secs_f64() * 1e3 / settings.rounds as f64,
            count.messages,
            count.octets
        );
    }
}

/// Clients that transfer again and again until they are told to stop. Returns how many transfers ended.
pub(crate) fn crowd(server: SocketAddr, clients: usize, records: u64, stop: &AtomicBool, core: Option<usize>) -> u64 {
    let ended = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                keep_to(core);
                while !stop.load(Ordering::Relaxed) {
                    take(server, false, records);
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    ended.into_inner()
}

/// How many records a transfer of this server has.
pub(crate) fn size(server: &Server) -> u64 {
    survey(server)
}

/// What 20 transfers at once take, one of which reads an octet a second.
pub(crate) fn memory(folder: &Path) {
    println!(
        "\nMemory: 20 clients transfer at once, again and again, one of them reading an octet a second ({})\n",
        crate::load()
    );
    println!("| run | RSS before, KiB | most, KiB | growth, KiB | transfers |");
    println!("| --- | --- | --- | --- | --- |");
    for run in ["fresh", "fresh", "fresh"] {
        let server = Server::livezone(folder, None);
        let records = survey(&server);
        std::thread::sleep(Duration::from_millis(500));
        let before = server.rss_kib();
        let stop = AtomicBool::new(false);
        let (most, ended) = std::thread::scope(|scope| {
            let many = scope.spawn(|| crowd(server.address, 19, records, &stop, None));
            scope.spawn(|| {
                let mut stream = connect(server.address);
                stream.write_all(&framed(&wire::query(1, ZONE, AXFR))).unwrap();
                while !stop.load(Ordering::Relaxed) && stream.read(&mut [0]).is_ok_and(|read| read > 0) {
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
            let (mut most, began) = (before, Instant::now());
            while began.elapsed() < Duration::from_secs(8) {
                most = most.max(server.rss_kib());
                std::thread::sleep(Duration::from_millis(2));
            }
            stop.store(true, Ordering::Relaxed);
            (most, many.join().unwrap())
        });
        println!("| {run} | {before} | {most} | {} | {ended} |", most - before);
    }
}
