//! Curves: what a zone costs by its size, and a commit by the size of the service that it touches.

use std::fmt::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use super::messages::{query, registration, service_name};
use super::server::{Server, configure, exchange, fill};

/// Members of a zone, 50 a service.
const MEMBERS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
const EACH: u32 = 50;
/// Members of the touched service: up to what an SRV answer of 64 KiB has room for with these names, which is below 1,300.
const TOUCHED: [u32; 7] = [1, 10, 50, 100, 200, 500, 1_000];
const COMMITS: u32 = 500;
/// Time for queries in each zone.
const ASKING: Duration = Duration::from_secs(3);
/// Queries on their way at once: below what the kernel's default receive buffer of the client takes of answers.
const WINDOW: usize = 32;

/// Where the figures go, a line each: curve, place on its axis, measure, value.
struct Figures<'a> {
    file: &'a Path,
    lines: String,
}

impl<'a> Figures<'a> {
    fn new(file: &'a Path) -> Figures<'a> {
        Figures { file, lines: "curve,x,measure,value\n".to_owned() }
    }

    /// Adds one. The file has all so far.
    fn add(&mut self, curve: &str, x: u32, measure: &str, value: f64) {
        println!("{curve} {x}: {measure} {value:.3}");
        let _ = writeln!(self.lines, "{curve},{x},{measure},{value:.3}");
        std::fs::write(self.file, &self.lines).unwrap();
    }
}

/// Measures both curves, the first one up to a size.
pub(crate) fn measure(file: &Path, most: u32) {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).unwrap();
    }
    let mut figures = Figures::new(file);
    by_touched(&mut figures);
    MEMBERS.into_iter().filter(|members| *members <= most).for_each(|members| by_members(&mut figures, members));
}

fn by_members(figures: &mut Figures<'_>, members: u32) {
    let services = members / EACH;
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path());
    let (server, _) = Server::start(folder.path());
    let empty = server.rss_kib();
    let a_member = |server: &Server| server.rss_kib().saturating_sub(empty) as f64 * 1024.0 / f64::from(members);
    let mut add = |measure: &str, value| figures.add("members", members, measure, value);

    let mut stream = server.connect();
    fill(&mut stream, 0..services, EACH);
    add("memory", a_member(&server));
    let touched = |number: u32| (number * 7 % services, number % EACH);
    let [cpu, latency] = commits(&server, touched);
    add("commit-cpu", cpu);
    add("commit-latency", latency);
    add("answer-cpu", answers(&server, services));
    add("memory-asked", a_member(&server));
    drop(stream);

    drop(server);
    let (server, start) = Server::start(folder.path());
    add("start", start.as_secs_f64());
    add("memory-restarted", a_member(&server));
}

/// In a zone of 10,000 members besides.
fn by_touched(figures: &mut Figures<'_>) {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path());
    let (server, _) = Server::start(folder.path());
    let mut stream = server.connect();
    fill(&mut stream, 0..200, EACH);
    for (at, members) in TOUCHED.into_iter().enumerate() {
        let service = 1000 + at as u32;
        fill(&mut stream, service..service + 1, members);
        let [cpu, latency] = commits(&server, |number| (service, number % members));
        figures.add("touched", members, "commit-cpu", cpu);
        figures.add("touched", members, "commit-latency", latency);
    }
}

/// Commits, one after the other, each of which changes the port of a member: microseconds of CPU, and until it is acknowledged.
fn commits(server: &Server, touched: impl Fn(u32) -> (u32, u32)) -> [f64; 2] {
    let mut stream = server.connect();
    let (cpu, began) = (server.cpu(), Instant::now());
    for number in 0..COMMITS {
        let (service, member) = touched(number);
        exchange(&mut stream, &registration(service, member..member + 1, 11212 + number as u16));
    }
    [server.cpu() - cpu, began.elapsed()].map(|time| time.as_secs_f64() * 1e6 / f64::from(COMMITS))
}

/// Asks for the SRV records of all services in turn, over UDP: microseconds of CPU an answer.
fn answers(server: &Server, services: u32) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let queries: Vec<_> = (0..services).map(|service| query(&service_name(service), 33, 4096, &[])).collect();
    let mut next = queries.iter().cycle();
    let mut buffer = [0; 4096];
    let mut ask = |until: &mut dyn FnMut(usize) -> bool| {
        let mut answered = 0;
        while !until(answered) {
            next.by_ref().take(WINDOW).for_each(|query| assert_eq!(socket.send(query).unwrap(), query.len()));
            // What is lost is not counted; what comes late counts for the next.
            answered += (0..WINDOW).take_while(|_| socket.recv(&mut buffer).is_ok()).count();
        }
        answered
    };
    // Every template is compiled before it counts.
    ask(&mut |answered| answered >= queries.len());
    let (cpu, began) = (server.cpu(), Instant::now());
    let answered = ask(&mut |_| began.elapsed() >= ASKING);
    (server.cpu() - cpu).as_secs_f64() * 1e6 / answered as f64
}
