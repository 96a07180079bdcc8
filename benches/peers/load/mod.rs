//! Generators of load, and the loop that shows what the machine allows.
//!
//! - [`questions`]: queries, each for a name that the zone has, or each for a name that nobody has asked for before.
//! - [`members`]: signed updates, each another one: registrations and removals, or heartbeats.
//! - [`udp`] and [`tcp`] send either: a full window at all times (a closed loop), or at a fixed rate. An [`exchange`] matches
//!   id, QR and what the load knows of the answer, and counts what came back in an [`Outcome`]. Over UDP one thread can send two
//!   loads at once.
//! - [`limit`]: answers all with the same octets; what that costs, the kernel's path costs alone.
//!
//! A generator keeps asking the kernel and never sleeps: woken up by the server's answers, it would add to the server's CPU
//! time. What it spent without finding anything is told apart ([`Outcome::waited`]), so that a generator that is itself the
//! limit can be told from one that has time left.

#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]

pub(crate) mod batch;
mod exchange;
pub(crate) mod latencies;
pub(crate) mod limit;
pub(crate) mod members;
pub(crate) mod message;
pub(crate) mod questions;
pub(crate) mod slots;
pub(crate) mod tcp;
pub(crate) mod tsig;
pub(crate) mod udp;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use latencies::Latencies;
use slots::{Slot, Slots};

/// What is sent, and what is thought of the answers.
pub(crate) trait Load {
    /// What a message in flight is about.
    type Task: Default;

    /// Writes the next message, with the slot's id; `false` if there is nothing to send now.
    fn write(&mut self, slot: &mut Slot<Self::Task>) -> bool;

    /// Takes an answer whose id and QR are right; `false` if it answers something else.
    fn read(&mut self, slot: &Slot<Self::Task>, answer: &[u8]) -> bool;

    /// No answer came.
    fn lose(&mut self, task: &Self::Task);

    /// Whether all is done that was to be done; a load without an end never is.
    fn is_done(&self) -> bool {
        false
    }
}

/// How a load is sent.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    /// Messages in flight, over all sockets.
    pub(crate) window: usize,
    /// Sockets or connections.
    pub(crate) sockets: usize,
    /// How long; `None`: until the load is done.
    pub(crate) duration: Option<Duration>,
    /// Messages a second; `None`: as many as the window allows.
    pub(crate) rate: Option<f64>,
    /// How long an answer is waited for before the message is sent again, or given up.
    pub(crate) patience: Duration,
    /// How often a message is sent, at most.
    pub(crate) attempts: u32,
}

impl Plan {
    /// A full window for a time, and each message sent once.
    pub(crate) fn new(server: SocketAddr, duration: Duration) -> Plan {
        let patience = Duration::from_secs(1);
        Plan { server, window: 256, sockets: 4, duration: Some(duration), rate: None, patience, attempts: 1 }
    }

    /// As updates are sent: as patiently as nsupdate, and as often as no resolver library does.
    pub(crate) fn of_updates(self) -> Plan {
        Plan { patience: Duration::from_secs(3), attempts: 5, ..self }
    }

    /// The n-th message is due this many nanoseconds after the start.
    fn due(&self, number: u64) -> Option<u64> {
        self.rate.map(|rate| (number as f64 / rate * 1e9) as u64)
    }

    fn window_of_each(&self) -> usize {
        self.window.div_ceil(self.sockets).max(1)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// From the first message until no more were sent.
    pub(crate) took: Duration,
    /// Messages, retransmissions not counted.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Answered until no more were sent.
    pub(crate) in_time: u64,
    pub(crate) retransmitted: u64,
    /// Given up.
    pub(crate) lost: u64,
    /// Answers of what was given up, or of nothing that was sent.
    pub(crate) stray: u64,
    /// Answers that don't fit their message.
    pub(crate) mismatched: u64,
    /// By the low four bits of the rcode.
    pub(crate) rcodes: [u64; 16],
    pub(crate) truncated: u64,
    pub(crate) octets: u64,
    /// From the moment when it was sent first, or was due, to its answer.
    pub(crate) latencies: Latencies,
    /// The first answer.
    pub(crate) sample: Vec<u8>,
    /// CPU time of the generator's thread.
    pub(crate) cpu: Duration,
    /// Of that, what it spent without finding anything to do.
    pub(crate) waited: Duration,
}

impl Outcome {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.in_time as f64 / self.took.as_secs_f64()
    }

    /// Octets of an answer.
    pub(crate) fn mean_octets(&self) -> f64 {
        self.octets as f64 / self.answered.max(1) as f64
    }

    /// Answers with an rcode that is neither NOERROR nor NXDOMAIN.
    pub(crate) fn errors(&self) -> u64 {
        self.rcodes.iter().enumerate().filter(|(rcode, _)| ![0, 3].contains(rcode)).map(|(_, count)| count).sum()
    }

    /// A round between these times found nothing to do. One that took long was interrupted: the time was somebody else's.
    fn wait(&mut self, began: u64, ended: u64) {
        const INTERRUPTED: u64 = 50_000;
        let took = ended - began;
        if took < INTERRUPTED {
            self.waited += Duration::from_nanos(took);
        }
    }

    fn count(&mut self, answer: &[u8], latency: u64) {
        if self.answered == 0 {
            self.sample = answer.to_vec();
        }
        self.answered += 1;
        self.rcodes[usize::from(answer[3] & 15)] += 1;
        self.truncated += u64::from(answer[2] >> 1 & 1);
        self.octets += answer.len() as u64;
        self.latencies.add(latency);
    }
}

/// What a server answers to the first message of a load.
pub(crate) fn ask<L: Load>(server: SocketAddr, load: &mut L) -> io::Result<Vec<u8>> {
    let mut slots = Slots::new(1);
    let number = slots.take().expect("a slot");
    assert!(load.write(slots.slot_mut(number)), "a load has a first message");
    let socket = batch::connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut answer = vec![0; batch::DATAGRAM_OCTETS];
    socket.send(&slots.slot(number).message)?;
    loop {
        let length = socket.recv(&mut answer)?;
        if slots.answered_by(&answer[..length]).is_some() {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

/// CPU time of this thread so far.
pub(crate) fn thread_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}
