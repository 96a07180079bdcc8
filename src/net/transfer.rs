//! A zone from its primary, over TCP: a connection for one question and the messages of its answer.
//!
//! Bounds: [`CONNECT`] until the primary takes the connection, [`IDLE`] for each part of its answer, and
//! [`TRANSFER_PATIENCE`] for all of it. One message at a time is in memory; what comes of them is bounded by
//! [`Incoming`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::base::Wall;
use crate::base::limits::TRANSFER_PATIENCE;
use crate::dns::transfer::incoming::{Incoming, Progress, TransferError, Transferred};

use super::{aside, peer};

/// How long a connection may take to come about: three times a packet that is sent again.
const CONNECT: Duration = Duration::from_secs(5);
/// How long nothing may come. A primary that writes a large zone to disk before it sends has a while.
const IDLE: Duration = Duration::from_secs(20);
/// Octets read at once.
const INPUT: usize = 64 << 10;

/// Records from which on messages are read aside.
const MANY: u32 = 10_000;

/// Why nothing came of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// What came is no use.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The connection.
    #[error("{0}")]
    Unreachable(String),
}

/// What came of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// The result.
    pub transferred: Transferred,
    /// For how long the primary has the zone as good, if it said so (RFC 7314).
    pub expires_in: Option<Duration>,
}

/// Asks a primary, and reads what it answers. We listen at these addresses ([`peer::connect_tcp`]).
pub async fn fetch(
    primary: SocketAddr,
    listening: &[SocketAddr],
    request: &[u8],
    mut incoming: Incoming,
    now: impl Fn() -> Wall,
) -> Result<Fetched, Failure> {
    let result = timeout(TRANSFER_PATIENCE, read(primary, listening, request, &mut incoming, now)).await;
    match result.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
        Err(Ended::Connection(error)) => Err(match incoming.cut_short().filter(|_| incoming.tally().messages > 0) {
            // What was missing says more than how the connection ended.
            Some(missing) => missing.into(),
            None => Failure::Unreachable(error.to_string()),
        }),
        Err(Ended::Transfer(error)) => Err(error.into()),
        Ok(transferred) => Ok(Fetched { transferred, expires_in: incoming.expires_in() }),
    }
}

#[derive(Debug)]
enum Ended {
    Connection(io::Error),
    Transfer(TransferError),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Connection(error)
    }
}

async fn read(
    primary: SocketAddr,
    listening: &[SocketAddr],
    request: &[u8],
    incoming: &mut Incoming,
    now: impl Fn() -> Wall,
) -> Result<Transferred, Ended> {
    let mut stream = within(CONNECT, peer::connect_tcp(primary, listening)).await?;
    stream.set_nodelay(true)?;
    let length = u16::try_from(request.len()).map_err(io::Error::other)?;
    within(IDLE, stream.write_all(&[&length.to_be_bytes(), request].concat())).await?;
    let mut stream = BufReader::with_capacity(INPUT, stream);
    let mut message = Vec::new();
    loop {
        let length = within(IDLE, stream.read_u16()).await?;
        message.resize(usize::from(length), 0);
        within(IDLE, stream.read_exact(&mut message)).await?;
        // The last message of a large zone has all of it sorted.
        let is_large = incoming.tally().records >= MANY;
        let taken = if is_large { aside(|| incoming.take(&message, now())) } else { incoming.take(&message, now()) };
        match taken.map_err(Ended::Transfer)? {
            Progress::Done(transferred) => return Ok(transferred),
            Progress::More => {}
        }
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
