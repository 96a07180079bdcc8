//! Updates for zones that are copies, on their way to the primary and back (RFC 2136 §6).
//!
//! The message goes out as it came, and the answer comes back as it is, so that signatures hold from end to end: this server
//! needs no key for it, and could change nothing. If no primary answers, neither do we, and the requester sends its message
//! again.
//!
//! Deviates: RFC 2136 §6.2 gives a forwarded message a new id. Here each has a socket of its own, which tells answers apart
//! as well, and the id stays.
//!
//! Secondaries that have each other for primaries must not hand a message around for ever, and it can bear no mark that it
//! was here before. So its octets are remembered ([`Passing`]): while it is under way, and from others than its first sender
//! for [`KEPT`] if nobody answered it, it is dropped when it comes again.
//!
//! Bounds: [`UNDER_WAY`] at once, [`UNVERIFIED`] of them with keys that are not known here, [`PATIENCE`] for each; beyond that
//! they are dropped. What a UDP client gets is never longer than what it takes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::base::Limit;
use crate::base::limits::{PLAIN_UDP_OCTETS, UDP_OCTETS};
use crate::dns::wire::{Envelope, Header, Opcode};
use crate::net::{Completion, peer};

use super::counters::Counters;

/// Updates on their way at once, each with a socket.
pub const UNDER_WAY: usize = 256;
/// Those of them whose signature was not verified here: strangers send such, and the others keep their places.
const UNVERIFIED: usize = 64;
/// How long all primaries of a zone together have for an answer: requesters send again after some seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one of them has before the next is asked.
const TURN: Duration = Duration::from_secs(2);
/// How long a message that nobody answered is remembered, from when it came: a circle of six servers takes as long, if each
/// uses all of [`PATIENCE`].
const KEPT: Duration = Duration::from_secs(30);
/// Messages that are remembered; the oldest goes. More than are ever under way.
const REMEMBERED: usize = 4096;

/// An update to be forwarded.
pub struct Forwarded {
    /// The message.
    pub packet: Vec<u8>,
    /// Who sent it.
    pub sender: SocketAddr,
    /// Whether its signature was verified here.
    pub is_verified: bool,
    /// Where to, in the order in which they are tried.
    pub primaries: Vec<SocketAddr>,
    /// Whether it came over a stream: then it goes out over one.
    pub connected: bool,
    /// Takes the answer.
    pub completion: Completion,
}

/// Carries updates until `stop` turns.
pub async fn run(
    mut queue: mpsc::Receiver<Forwarded>,
    listening: Arc<[SocketAddr]>,
    counters: Arc<Counters>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks: JoinSet<(u64, bool)> = JoinSet::new();
    let mut passing = Passing::default();
    let unverified = Arc::new(Semaphore::new(UNVERIFIED));
    loop {
        let forwarded = tokio::select! {
            forwarded = queue.recv() => forwarded,
            _ = stop.changed() => None,
        };
        let Some(Forwarded { packet, sender, is_verified, primaries, connected, completion }) = forwarded else {
            break;
        };
        while let Some(ended) = tasks.try_join_next() {
            if let Ok((message, is_answered)) = ended {
                passing.end(message, is_answered);
            }
        }
        let now = Instant::now();
        let message = passing.identify(&packet);
        if !passing.admits(message, sender, now) {
            tracing::debug!(%sender, "an update that is or was on its way here is dropped");
            continue;
        }
        let place = if is_verified { None } else { unverified.clone().try_acquire_owned().ok() };
        if tasks.len() >= UNDER_WAY || (place.is_none() && !is_verified) {
            counters.count(Limit::Forwards);
            continue;
        }
        passing.begin(message, sender, now);
        let listening = listening.clone();
        tasks.spawn(async move {
            let _place = place;
            let carried = timeout(PATIENCE, carry(&packet, &primaries, connected, &listening)).await;
            let answer = carried.ok().flatten();
            let is_answered = answer.is_some();
            if let Some(answer) = answer {
                completion(answer);
            }
            (message, is_answered)
        });
    }
    tasks.shutdown().await;
}

/// Messages that are on their way, and those that nobody answered.
#[derive(Default)]
struct Passing {
    /// Seeded, so that nobody can make two messages alike.
    hash: RandomState,
    messages: HashMap<u64, Passage>,
    /// All of them by their time, and some that have begun anew since.
    order: VecDeque<(Instant, u64)>,
}

struct Passage {
    sender: SocketAddr,
    since: Instant,
    is_under_way: bool,
}

impl Passing {
    fn identify(&self, packet: &[u8]) -> u64 {
        self.hash.hash_one(packet)
    }

    /// Whether it may set out: it is not under way. If nobody answered it, its sender may try again, but for anybody else it
    /// has gone in a circle.
    fn admits(&mut self, message: u64, sender: SocketAddr, now: Instant) -> bool {
        while self.order.front().is_some_and(|&(since, _)| now - since >= KEPT) || self.order.len() > REMEMBERED {
            let Some((since, oldest)) = self.order.pop_front() else { break };
            if self.messages.get(&oldest).is_some_and(|passage| passage.since == since) {
                self.messages.remove(&oldest);
            }
        }
        self.messages.get(&message).is_none_or(|passage| !passage.is_under_way && passage.sender == host(sender))
    }

    fn begin(&mut self, message: u64, sender: SocketAddr, now: Instant) {
        self.messages.insert(message, Passage { sender: host(sender), since: now, is_under_way: true });
        self.order.push_back((now, message));
    }

    fn end(&mut self, message: u64, is_answered: bool) {
        if is_answered {
            self.messages.remove(&message);
        } else if let Some(passage) = self.messages.get_mut(&message) {
            passage.is_under_way = false;
        }
    }
}

/// Who a sender is: a host, whatever its port; but on loopback, which many share, the port tells.
fn host(sender: SocketAddr) -> SocketAddr {
    let ip = sender.ip().to_canonical();
    SocketAddr::new(ip, if ip.is_loopback() { sender.port() } else { 0 })
}

/// The answer of the first primary that has one.
async fn carry(packet: &[u8], primaries: &[SocketAddr], connected: bool, listening: &[SocketAddr]) -> Option<Vec<u8>> {
    let takes = if connected { usize::MAX } else { takes(packet) };
    for &primary in primaries {
        let carried = if connected || packet.len() > usize::from(UDP_OCTETS) {
            let late = |_| Err(io::ErrorKind::TimedOut.into());
            timeout(TURN, exchange_tcp(packet, primary, listening)).await.unwrap_or_else(late)
        } else {
            exchange_udp(packet, primary, listening).await
        };
        match carried {
            Ok(answer) if answer.len() <= takes => return Some(answer),
            // It could be cut only without its signature. What it tells of is done, and not to be tried elsewhere.
            Ok(answer) => {
                tracing::debug!(%primary, octets = answer.len(), "an answer to an update is too long for its UDP client");
                return None;
            }
            Err(error) => tracing::debug!(%primary, %error, "forwarding an update"),
        }
    }
    None
}

async fn exchange_udp(packet: &[u8], primary: SocketAddr, listening: &[SocketAddr]) -> io::Result<Vec<u8>> {
    let socket = peer::connect(primary, listening).await?.ok_or_else(ourselves)?;
    let read = |answer: &[u8]| is_answer(packet, answer).then(|| Ok(answer.to_vec()));
    // One with TC goes back as well: its requester decides whether to come again over TCP.
    peer::exchange(&socket, packet, 1, Instant::now() + TURN, read).await.map_err(io::Error::other)
}

async fn exchange_tcp(packet: &[u8], primary: SocketAddr, listening: &[SocketAddr]) -> io::Result<Vec<u8>> {
    // Tells whether that is us.
    peer::connect(primary, listening).await?.ok_or_else(ourselves)?;
    let mut stream = peer::connect_tcp(primary, listening).await?;
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if is_answer(packet, &answer) { Ok(answer) } else { Err(io::Error::other("it answers something else")) }
}

/// How long an answer over UDP may be (RFC 6891 §6.2.3).
fn takes(packet: &[u8]) -> usize {
    let edns = Envelope::parse(packet).ok().and_then(|envelope| envelope.edns);
    edns.map_or(PLAIN_UDP_OCTETS, |edns| usize::from(edns.size).max(PLAIN_UDP_OCTETS))
}

fn ourselves() -> io::Error {
    io::Error::other("the primary is this server itself")
}

fn is_answer(packet: &[u8], answer: &[u8]) -> bool {
    match (Header::read(packet), Header::read(answer)) {
        (Some(asked), Some(header)) => {
            header.is_response() && header.id == asked.id && header.opcode() == Opcode::UPDATE
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
