//! TCP (RFC 7766): messages behind two octets of length, one connection for as many as the client likes.
//!
//! - `connection`: one connection: messages are read while earlier ones wait, and answers go out as they are ready.
//! - [`bulk`]: the thread that zone transfers are made and written on.
//! - [`places`]: who may hold a connection, who makes room at the limit, and counts of everything that was cut off.
//!
//! Here: binding, and accepting. Connections are tasks of the runtime; UDP has threads of its own, which no flood of
//! connections takes a turn from. Accepting is bounded three times: by the places, by `ACCEPTS` in a
//! `TURN`, and by the descriptors of the process, of which some are left to everything else.

pub mod bulk;
mod connection;
pub mod places;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Handler;

pub use places::{Limits, Places};

/// Connections accepted in one [`TURN`]; more wait in the kernel's backlog, and then in its clients. That is 20,000 a
/// second, above what one core can serve.
const ACCEPTS: u32 = 100;
/// See [`ACCEPTS`].
const TURN: Duration = Duration::from_millis(5);
/// How long to rest when the system has no descriptor or memory for a new connection: it would say so again at once.
const REST: Duration = Duration::from_millis(100);
/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// Binds a listener.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // A restarted server need not wait for connections of its predecessor; another listener still excludes it.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop` turns, then lets the messages under way end. Answers of many messages are made on `bulk`.
pub async fn serve(
    listener: TcpListener,
    handler: Arc<dyn Handler>,
    places: Arc<Places>,
    bulk: Handle,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut pace = Pace::new();
    let mut resting = false;
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &mut pace) => accepted,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                resting = false;
                let place = tokio::select! {
                    place = places.take(peer.ip()) => place,
                    _ = stop.changed() => break,
                };
                // Without a place the connection is closed again; its client may try later, or use UDP.
                let Some(place) = place else { continue };
                let moves = bulk::Move::default();
                let run = connection::run(stream, peer, handler.clone(), place, moves.clone(), stop.clone());
                connections.spawn(bulk::carry(run, moves, bulk.clone()));
            }
            Err(error) if concerns_one(&error) => tracing::debug!(%error, "accepting a connection"),
            Err(error) => {
                places.cuts.accept.fetch_add(1, Ordering::Relaxed);
                if !resting {
                    tracing::warn!(%error, "no new TCP connections until the system has room for them");
                }
                resting = true;
                tokio::select! {
                    () = tokio::time::sleep(REST) => {}
                    _ = stop.changed() => break,
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener, pace: &mut Pace) -> io::Result<(TcpStream, SocketAddr)> {
    pace.wait().await;
    listener.accept().await
}

/// Whether an error is about the connection that was to be accepted, and the next may well succeed (accept(2)).
fn concerns_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}

/// Lets [`ACCEPTS`] pass in a [`TURN`].
struct Pace {
    turn: Instant,
    accepted: u32,
}

impl Pace {
    fn new() -> Pace {
        Pace { turn: Instant::now(), accepted: 0 }
    }

    /// May be dropped at any time: what was counted then is an accept that did not happen.
    async fn wait(&mut self) {
        let now = Instant::now();
        if now >= self.turn + TURN {
            *self = Pace { turn: now, accepted: 0 };
        } else if self.accepted >= ACCEPTS {
            tokio::time::sleep_until(self.turn + TURN).await;
            *self = Pace::new();
        }
        self.accepted += 1;
    }
}
