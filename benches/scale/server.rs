//! The server that is measured, started on a loopback port with its files in a folder, and what it says of itself in /proc.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::messages::{ORIGIN, query, registration};

/// Updates on their way at once while a zone is filled, so that they share writes.
const WINDOW: usize = 16;
/// Members an update registers.
const BATCH: u32 = 50;

/// Writes the configuration of a server whose one client may register millions.
pub(crate) fn configure(folder: &Path) {
    std::fs::create_dir(folder.join("zones")).unwrap();
    let limits =
        "[limits]\nzone-leases = 2000000\nowner-leases = 2000000\nzone-services = 200000\nowner-services = 200000\n";
    let config = format!("[dns]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n[http]\nlisten = \"\"\n{limits}");
    std::fs::write(folder.join("livezone.toml"), config).unwrap();
    let zone = format!("origin = \"{ORIGIN}\"\nstatic = \"static.zone\"\n[lease]\ndefault = \"1h\"\n");
    std::fs::write(folder.join("zones/zone.toml"), zone).unwrap();
    std::fs::write(folder.join("zones/static.zone"), "@ IN NS ns1\nns1 IN A 127.0.0.1\n").unwrap();
}

/// A running server. Killed when dropped, so that the next start finds what a crash leaves.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server and waits for its first answer.
    pub(crate) fn start(folder: &Path) -> (Server, Duration) {
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
        exchange(&mut server.connect(), &query(ORIGIN, 6, 1232, &[]));
        (server, began.elapsed())
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(crate) fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// User and system time.
    pub(crate) fn cpu(&self) -> Duration {
        let clock = clock_getcpuclockid(Pid::from_raw(self.process.id() as i32)).unwrap();
        clock_gettime(clock).unwrap().into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Registers so many members in each of these services.
pub(crate) fn fill(stream: &mut TcpStream, services: std::ops::Range<u32>, each: u32) {
    let mut waiting = 0;
    for service in services {
        for first in (0..each).step_by(BATCH as usize) {
            send(stream, &registration(service, first..each.min(first + BATCH), 11211));
            waiting += 1;
            if waiting == WINDOW {
                receive(stream);
                waiting -= 1;
            }
        }
    }
    (0..waiting).for_each(|_| receive(stream));
}

/// Sends a message and waits for its answer, which must be NOERROR.
pub(crate) fn exchange(stream: &mut TcpStream, message: &[u8]) {
    send(stream, message);
    receive(stream);
}

fn send(stream: &mut TcpStream, message: &[u8]) {
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    stream.write_all(&frame).unwrap();
}

fn receive(stream: &mut TcpStream) {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[3] & 15, 0, "the server refused: {answer:?}");
}
