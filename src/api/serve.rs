//! Connections: accept, bound, end.
//!
//! Nothing that a client does, or doesn't, keeps a connection longer than these limits; a client that is slow costs its
//! own connection alone.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::net::tcp::places::DESCRIPTORS_KEPT;

use super::leftover::Lingering;
use super::watches::Watches;
use super::{Directory, routes};

/// Connections at a time: a few for each of many dashboards, far from what takes descriptors that DNS needs. Further ones
/// wait in the kernel until one ends. Fewer where the process may not open so many descriptors ([`room`]).
pub const CONNECTIONS: usize = 256;
/// Connections beside these that watch a service, or have: a fleet of ten thousand, each with one. Each takes some
/// 15 KiB of the process over plain HTTP (measured with 10,000), whatever it watches, and a descriptor; what it sends is shared
/// by all who watch the same. Further ones are told to come again. Fewer where the process may not open so many descriptors ([`room`]).
pub const WATCHERS: usize = 10_240;
/// How long a connection may be idle, the head of a request may take to come in, and a client may take nothing of what it
/// asked for.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection lives that doesn't watch: a client that takes an octet now and then ends here. The largest zone passes over a slow
/// link in that time.
pub const CONNECTION_AGE: Duration = Duration::from_secs(600);
/// Octets of a request's head, and of a response that waits to be taken, besides the piece under way.
const BUFFER: usize = 32 << 10;
/// How long responses under way may take at shutdown.
const ENDING: Duration = Duration::from_secs(1);
/// How long nothing is accepted after the system refused (no descriptor is free, say): without it the loop would spin.
const REST: Duration = Duration::from_millis(100);

/// Where a request came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// How many connections there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Those that ask.
    pub connections: usize,
    /// Those that watch.
    pub watchers: usize,
}

/// How many connections there may be beside so many of DNS: what these leave of the process's descriptors, and no fewer
/// than half of those that they always leave.
pub fn room(dns_connections: usize) -> Room {
    let descriptors = getrlimit(Resource::Nofile).current;
    let descriptors = descriptors.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let kept = DESCRIPTORS_KEPT / 2;
    let left = descriptors.saturating_sub(dns_connections).saturating_sub(kept);
    let connections = left.clamp(kept, CONNECTIONS);
    let watchers = left.saturating_sub(connections).min(WATCHERS);
    if watchers < WATCHERS {
        tracing::info!(
            watchers,
            descriptors,
            "fewer than {WATCHERS} may watch over HTTP: the limit of open files is low"
        );
    }
    Room { connections, watchers }
}

/// The place of a connection: among all, or, once it has watched, among those that do.
#[derive(Debug)]
pub(super) struct Standing {
    place: Mutex<OwnedSemaphorePermit>,
    has_watched: AtomicBool,
    /// Watches under way.
    watching: AtomicUsize,
}

impl Standing {
    fn new(place: OwnedSemaphorePermit) -> Standing {
        Standing { place: Mutex::new(place), has_watched: AtomicBool::new(false), watching: AtomicUsize::new(0) }
    }

    /// Begins a watch, which moves the connection among those that watch; none if there is no place.
    pub(super) fn watch(self: &Arc<Standing>, watchers: &Arc<Semaphore>) -> Option<Watching> {
        let mut place = self.place.lock().expect("no panic holds it");
        if !self.has_watched.load(Ordering::Relaxed) {
            *place = watchers.clone().try_acquire_owned().ok()?;
            self.has_watched.store(true, Ordering::Relaxed);
        }
        self.watching.fetch_add(1, Ordering::Relaxed);
        Some(Watching(self.clone()))
    }

    fn is_watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed) > 0
    }
}

/// A watch under way: while it lasts, its connection doesn't age.
#[derive(Debug)]
pub(super) struct Watching(Arc<Standing>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watching.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves until `stop` turns, so many connections at a time, then lets responses under way end.
pub async fn serve(
    (listener, tls): (TcpListener, Option<TlsAcceptor>),
    directory: Arc<dyn Directory>,
    watches: Arc<Watches>,
    room: Room,
    mut stop: watch::Receiver<bool>,
) {
    let router = routes::router(directory, watches, room.watchers, stop.clone());
    let places = Arc::new(Semaphore::new(room.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            admitted = next => admitted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, address)) => {
                let peer = Peer(address.ip().to_canonical());
                let standing = Arc::new(Standing::new(place));
                connections.spawn(admit(stream, tls.clone(), peer, standing, router.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::debug!(%error, "no HTTP connection can be accepted");
                sleep(REST).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(ENDING, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

/// Carries one connection to its end, over TLS if that is spoken here. A handshake has to be over in [`PATIENCE`].
async fn admit(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    peer: Peer,
    standing: Arc<Standing>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true); // saves a wait at the end of a response; it goes without
    let stream = Patient { stream, stalled: None };
    let Some(tls) = tls else { return carry(stream, peer, standing, router, stop).await };
    match timeout(PATIENCE, tls.accept(stream)).await {
        // Larger than what most connections need.
        Ok(Ok(stream)) => Box::pin(carry(stream, peer, standing, router, stop)).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Carries one connection to its end.
async fn carry(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    standing: Arc<Standing>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(BUFFER);
    let stream = TokioIo::new(stream);
    let owned = standing.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(owned.clone());
        router.clone().call(Lingering::of(request))
    });
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut age = pin!(sleep(CONNECTION_AGE));
    let mut ending = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "an HTTP connection ended early");
                }
                return;
            }
            () = &mut age => {
                if !standing.is_watching() {
                    return;
                }
                age.as_mut().reset(Instant::now() + CONNECTION_AGE);
            }
            _ = stop.wait_for(|stop| *stop), if !ending => {
                connection.as_mut().graceful_shutdown();
                ending = true;
            }
        }
    }
}

/// A stream whose writes fail once the other side has taken nothing for [`PATIENCE`]. What may come in is for hyper to
/// limit.
struct Patient {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn judge<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, octets)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, octets);
        self.judge(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, octets);
        self.judge(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(polled, context)
    }
}
