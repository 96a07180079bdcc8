//! A zone at scale: memory a member, start from the store, CPU of a commit.
//!
//! `cargo bench --bench scale -- [SERVICES] [MEMBERS-PER-SERVICE]`, by default 2000 services of 50. Starts the real server
//! on a loopback port with its store in a scratch folder, registers all members over TCP, and reads the server's own
//! accounting from /proc. Every figure is of one run; the first two lines tell what the disk takes for an append and an
//! fdatasync, beside which the commit figures are to be read.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

#[path = "support/disk.rs"]
mod disk;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use disk::fdatasync;

const ZONE: &str = "svc.example.test";
const COMMITS: u32 = 1000;
const RENEWALS: u32 = 20_000;

fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let (services, each) = (numbers.first().copied().unwrap_or(2000), numbers.get(1).copied().unwrap_or(50));
    let members = f64::from(services * each);
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path());
    println!("append and fdatasync: {:.0} us, median of 200", fdatasync(folder.path()).as_secs_f64() * 1e6);

    let (server, empty_start) = Server::start(folder.path());
    let empty = server.rss_kib();
    println!("empty: first answer {:.0} ms after the start, RSS {empty} KiB", empty_start.as_secs_f64() * 1e3);

    let began = Instant::now();
    let mut stream = server.connect();
    for service in 0..services {
        exchange(&mut stream, &registration(service, 0..each, 11211));
    }
    println!(
        "registered {members} members, {each} an update: {:.1} s, server CPU {:.1} s",
        began.elapsed().as_secs_f64(),
        server.cpu().as_secs_f64()
    );
    println!(
        "RSS after registration: {:.0} octets a member",
        server.rss_kib().saturating_sub(empty) as f64 * 1024.0 / members
    );

    let (cpu, began) = (server.cpu(), Instant::now());
    for number in 0..COMMITS {
        exchange(
            &mut stream,
            &registration(number * 7 % services, number % each..number % each + 1, 11212 + number as u16),
        );
    }
    println!(
        "commit that touches one member: {:.0} us CPU, {:.0} us until acknowledged, mean of {COMMITS}",
        (server.cpu() - cpu).as_secs_f64() * 1e6 / f64::from(COMMITS),
        began.elapsed().as_secs_f64() * 1e6 / f64::from(COMMITS)
    );

    let message = registration(1, 1..2, 9);
    exchange(&mut stream, &message);
    let cpu = server.cpu();
    for _ in 0..RENEWALS {
        exchange(&mut stream, &message);
    }
    println!("renewal over TCP: {:.1} us CPU", (server.cpu() - cpu).as_secs_f64() * 1e6 / f64::from(RENEWALS));
    drop(stream);

    drop(server); // killed, not stopped: the next start finds what a crash leaves
    let (server, start) = Server::start(folder.path());
    println!("start from the store after kill -9: first answer after {:.0} ms", start.as_secs_f64() * 1e3);
    println!(
        "RSS after that start: {:.0} octets a member",
        server.rss_kib().saturating_sub(empty) as f64 * 1024.0 / members
    );
    println!("store: {} MiB", std::fs::metadata(folder.path().join("data/livezone.redb")).unwrap().len() >> 20);
}

fn configure(folder: &Path) {
    std::fs::create_dir(folder.join("zones")).unwrap();
    // One client registers all of them.
    let limits =
        "[limits]\nzone-leases = 2000000\nowner-leases = 2000000\nzone-services = 200000\nowner-services = 200000\n";
    let config = format!("[dns]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n[http]\nlisten = \"\"\n{limits}");
    std::fs::write(folder.join("livezone.toml"), config).unwrap();
    let zone = format!("origin = \"{ZONE}.\"\nstatic = \"static.zone\"\n[lease]\ndefault = \"1h\"\n");
    std::fs::write(folder.join("zones/zone.toml"), zone).unwrap();
    std::fs::write(folder.join("zones/static.zone"), "@ IN NS ns1\nns1 IN A 127.0.0.1\n").unwrap();
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server and waits for its first answer.
    fn start(folder: &Path) -> (Server, Duration) {
        let began = Instant::now();
        let mut process = Command::new(env!("CARGO_BIN_EXE_livezone"))
            .args(["serve", "--http", "", "--log", "warn", "--config"])
            .arg(folder.join("livezone.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("listening on ")?.split(',').next()?.parse().ok())
            .expect("the server says where it listens");
        let server = Server { process, address };
        let mut stream = server.connect();
        let mut query = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(name(ZONE));
        query.extend([0, 6, 0, 1]);
        exchange(&mut stream, &query);
        (server, began.elapsed())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap()
    }

    fn rss_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// User and system time, in ticks of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Sends a message and waits for its answer, which must be NOERROR.
fn exchange(stream: &mut TcpStream, message: &[u8]) {
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    stream.write_all(&frame).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[3] & 15, 0, "the server refused: {answer:?}");
}

/// An update that registers members of one service: an SRV, an A and an AAAA record each.
fn registration(service: u32, members: std::ops::Range<u32>, port: u16) -> Vec<u8> {
    let mut message = vec![0, 1, 0x28, 0, 0, 1, 0, 0];
    message.extend(((members.len() * 3) as u16).to_be_bytes());
    message.extend([0, 0]);
    message.extend(name(ZONE));
    message.extend([0, 6, 0, 1]);
    for member in members {
        let host = name(&format!("i-{member:04}.cache{service:04}.{ZONE}"));
        let mut srv = [0u16, 256, port].iter().flat_map(|field| field.to_be_bytes()).collect::<Vec<u8>>();
        srv.extend(&host);
        let number = service << 16 | member;
        let mut aaaa = vec![0xfd, 0, 0, 0x53, 0, 0, 0, 0, 0, 0, 0, 0];
        aaaa.extend(number.to_be_bytes());
        record(&mut message, &name(&format!("_cache{service:04}._tcp.{ZONE}")), 33, &srv);
        record(&mut message, &host, 1, &(0x0a00_0000 | number & 0xff_ffff).to_be_bytes());
        record(&mut message, &host, 28, &aaaa);
    }
    message
}

fn record(message: &mut Vec<u8>, owner: &[u8], rtype: u16, rdata: &[u8]) {
    message.extend(owner);
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1, 0, 0, 0, 5]);
    message.extend((rdata.len() as u16).to_be_bytes());
    message.extend(rdata);
}

fn name(text: &str) -> Vec<u8> {
    let mut wire: Vec<u8> =
        text.split('.').flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}
