//! Updates for zones that are copies, on their way to the primary and back (RFC 2136 §6).
//!
//! The message goes out as it came, and the answer comes back as it is, so that signatures hold from end to end: this server
//! needs no key for it, and could change nothing. If no primary answers, neither do we, and the requester sends its message
//! again.
//!
//! Deviates: RFC 2136 §6.2 gives a forwarded message a new id. Here each has a socket of its own, which tells answers apart
//! as well, and the id stays.
//!
//! Bounds: [`UNDER_WAY`] at once, and [`PATIENCE`] for each; beyond that they are dropped. What a UDP
//! client gets is never longer than what it takes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::base::Limit;
use crate::base::limits::{PLAIN_UDP_OCTETS, UDP_OCTETS};
use crate::dns::wire::{Envelope, Header, Opcode};
use crate::net::{Completion, peer};

use super::counters::Counters;

/// Updates on their way at once, each with a socket.
pub const UNDER_WAY: usize = 256;
/// How long all primaries of a zone together have for an answer: requesters send again after some seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one of them has before the next is asked.
const TURN: Duration = Duration::from_secs(2);

/// An update to be forwarded.
pub struct Forwarded {
    /// The message.
    pub packet: Vec<u8>,
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
    let mut tasks = JoinSet::new();
    loop {
        let forwarded = tokio::select! {
            forwarded = queue.recv() => forwarded,
            _ = stop.changed() => None,
        };
        let Some(forwarded) = forwarded else { break };
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= UNDER_WAY {
            counters.count(Limit::Forwards);
            continue;
        }
        let listening = listening.clone();
        tasks.spawn(async move {
            let Forwarded { packet, primaries, connected, completion } = forwarded;
            let carried = timeout(PATIENCE, carry(&packet, &primaries, connected, &listening)).await;
            if let Ok(Some(answer)) = carried {
                completion(answer);
            }
        });
    }
    tasks.shutdown().await;
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
