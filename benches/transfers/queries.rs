//! Queries while others transfer: an open loop at half of what the server was seen to answer.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::servers::Server;
use crate::support::{keep_to, median};
use crate::whole;
use crate::wire::{self, A};

/// Where the server's threads run, and where everything else does: both share a core with nobody of the other side.
pub(crate) const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
const SOCKETS: usize = 2;
/// In flight in each socket while the maximum is measured.
const OUTSTANDING: u32 = 64;
/// How often the paced sender sends what is due.
const TICK: Duration = Duration::from_micros(100);
const PACED: Duration = Duration::from_secs(4);
const CLIENTS: usize = 20;

fn sockets(server: &Server) -> Vec<UdpSocket> {
    let socket = || {
        let socket = wire::udp(server.address);
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
        socket
    };
    (0..SOCKETS).map(|_| socket()).collect()
}

/// Questions for addresses of members.
fn questions(services: u32, each: u32) -> Vec<Vec<u8>> {
    (0..8192u32).map(|number| wire::query(0, &wire::host(number * 7 % services, number % each), A)).collect()
}

/// The threads that ask come first on their core: they stand for other machines.
fn be_prompt() {
    keep_to(Some(CLIENT_CORE));
    let _ = rustix::process::setpriority_process(None, -20);
}

/// Answers a second in a closed loop, and the share of its core that the server used.
fn maximum(server: &Server, questions: &[Vec<u8>]) -> (f64, f64) {
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), server.cpu());
    std::thread::scope(|scope| {
        for socket in sockets(server) {
            let (stop, answers) = (&stop, &answers);
            scope.spawn(move || {
                be_prompt();
                let mut buffer = [0; 4096];
                let mut next = 0;
                let mut send = || {
                    next = (next + 1) % questions.len();
                    socket.send(&questions[next]).unwrap();
                };
                (0..OUTSTANDING).for_each(|_| send());
                while !stop.load(Ordering::Relaxed) {
                    if socket.recv(&mut buffer).is_ok() {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                    send();
                }
            });
        }
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
    });
    let took = began.elapsed().as_secs_f64();
    (answers.into_inner() as f64 / took, (server.cpu() - cpu).as_secs_f64() / took)
}

struct Paced {
    sent: usize,
    /// Microseconds, in order.
    latencies: Vec<f64>,
}

impl Paced {
    fn at(&self, quantile: f64) -> f64 {
        self.latencies[((self.latencies.len() - 1) as f64 * quantile) as usize]
    }
}

/// Sends at a rate whatever comes back, and notes how long each answer took from the moment when its question was sent.
fn paced(server: &Server, questions: &[Vec<u8>], rate: f64) -> Paced {
    let (sockets, stop) = (sockets(server), AtomicBool::new(false));
    let start = Instant::now();
    let sent_at: Vec<Vec<AtomicU64>> =
        (0..SOCKETS).map(|_| (0..1 << 16).map(|_| AtomicU64::new(0)).collect()).collect();
    let micros = || start.elapsed().as_nanos() as u64;
    let mut sent = 0;
    let mut latencies = Vec::new();
    std::thread::scope(|scope| {
        let receivers: Vec<_> = sockets
            .iter()
            .zip(&sent_at)
            .map(|(socket, sent_at)| {
                let stop = &stop;
                scope.spawn(move || {
                    be_prompt();
                    let (mut buffer, mut latencies) = ([0; 4096], Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        if socket.recv(&mut buffer).is_ok() {
                            let id = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
                            let at = sent_at[id].swap(0, Ordering::Relaxed);
                            if at > 0 {
                                latencies.push((micros() - at) as f64 / 1e3);
                            }
                        }
                    }
                    latencies
                })
            })
            .collect();
        let sender = scope.spawn(|| {
            be_prompt();
            let mut message = Vec::new();
            let mut sent = 0usize;
            while start.elapsed() < PACED {
                let due = (start.elapsed().as_secs_f64() * rate) as usize;
                while sent < due {
                    let (socket, id) = (sent % SOCKETS, (sent / SOCKETS) as u16);
                    message.clone_from(&questions[sent % questions.len()]);
                    message[..2].copy_from_slice(&id.to_be_bytes());
                    sent_at[socket][usize::from(id)].store(micros(), Ordering::Relaxed);
                    sockets[socket].send(&message).unwrap();
                    sent += 1;
                }
                std::thread::sleep(TICK);
            }
            sent
        });
        sent = sender.join().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        latencies = receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
    });
    latencies.sort_by(f64::total_cmp);
    Paced { sent, latencies }
}

pub(crate) fn measure(rounds: usize, servers: &[Server], services: u32, each: u32) {
    let questions = questions(services, each);
    println!(
        "\nQueries beside {CLIENTS} transfers in a loop: server on one core, clients on the other, medians of {rounds} rounds ({})\n",
        crate::load()
    );
    println!(
        "| server | most, answers/s (server CPU) | offered/s | quiet p50, p99 us | beside transfers p50, p99 us | ratio of p99 | unanswered | transfers/s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for server in servers {
        let records = whole::size(server);
        let mut most: Vec<(f64, f64)> = (0..3).map(|_| maximum(server, &questions)).collect();
        most.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (most, share) = most[1];
        let offered = most / 2.0;
        let (mut quiet, mut beside, mut ratios, mut rate) = ([vec![], vec![]], [vec![], vec![]], vec![], vec![]);
        let mut unanswered = 0;
        for _ in 0..rounds {
            let alone = paced(server, &questions, offered);
            let stop = AtomicBool::new(false);
            let (crowded, ended) = std::thread::scope(|scope| {
                let crowd = scope.spawn(|| whole::crowd(server.address, CLIENTS, records, &stop, Some(CLIENT_CORE)));
                std::thread::sleep(Duration::from_millis(500));
                let crowded = paced(server, &questions, offered);
                stop.store(true, Ordering::Relaxed);
                (crowded, crowd.join().unwrap())
            });
            unanswered += alone.sent - alone.latencies.len() + crowded.sent - crowded.latencies.len();
            for (at, quantile) in [0.5, 0.99].into_iter().enumerate() {
                quiet[at].push(alone.at(quantile));
                beside[at].push(crowded.at(quantile));
            }
            ratios.push(crowded.at(0.99) / alone.at(0.99));
            rate.push(ended as f64 / (PACED.as_secs_f64() + 1.5));
        }
        let [[q50, q99], [b50, b99]] = [quiet, beside].map(|pair| pair.map(|mut values| median(&mut values)));
        println!(
            "| {} | {most:.0} ({:.0} %) | {offered:.0} | {q50:.0}, {q99:.0} | {b50:.0}, {b99:.0} | {:.2} | {unanswered} | {:.1} |",
            server.name,
            share * 100.0,
            median(&mut ratios),
            median(&mut rate)
        );
    }
}
