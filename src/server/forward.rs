//! Updates for zones that are copies, on their way to the primary and back (RFC 2136 §6).
//!
//! The message goes out as it came, and the answer comes back as it is, so that signatures hold from end to end: this server
//! needs no key for it, and could change nothing. If no primary answers, neither do we, and the requester sends its message
//! again.
//!
//! Deviates: RFC 2136 §6.2 gives a forwarded message a new id. Here each has a socket of its own, which tells answers apart
//! as well, and the id stays.
//!
//! Bounds: [`UNDER_WAY`] at once, and [`PATIENCE`] for each; beyond that they are dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::base::Limit;
use crate::base::limits::UDP_OCTETS;
use crate::dns::wire::{Header, Opcode};
use crate::net::{Completion, peer};

use super::counters::Counters;

/// Updates on their way at once, each with a socket.
pub const UNDER_WAY: usize = 256;
/// How long all primaries of a zone together have for an answer: requesters send again after some seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one of them has over UDP before the next is asked.
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
    for &primary in primaries {
        let carried = if connected || packet.len() > usize::from(UDP_OCTETS) {
            exchange_tcp(packet, primary, listening).await
        } else {
            exchange_udp(packet, primary, listening).await
        };
        match carried {
            Ok(answer) => return Some(answer),
            Err(error) => tracing::debug!(%primary, %error, "forwarding an update"),
        }
    }
    None
}

async fn exchange_udp(packet: &[u8], primary: SocketAddr, listening: &[SocketAddr]) -> io::Result<Vec<u8>> {
    let socket = peer::connect(primary, listening).await?.ok_or_else(ourselves)?;
    let read = |answer: &[u8]| is_answer(packet, answer).then(|| Ok(answer.to_vec()));
    let answer = peer::exchange(&socket, packet, 1, Instant::now() + TURN, read).await.map_err(io::Error::other)?;
    if Header::read(&answer).is_some_and(|header| header.is_truncated()) {
        return exchange_tcp(packet, primary, listening).await;
    }
    Ok(answer)
}

async fn exchange_tcp(packet: &[u8], primary: SocketAddr, listening: &[SocketAddr]) -> io::Result<Vec<u8>> {
    // Tells whether that is us.
    peer::connect(primary, listening).await?.ok_or_else(ourselves)?;
    let mut stream = timeout(TURN, peer::connect_tcp(primary, listening)).await??;
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if is_answer(packet, &answer) { Ok(answer) } else { Err(io::Error::other("it answers something else")) }
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
