//! Connections: accept, bound, end.
//!
//! Nothing that a client does, or doesn't, keeps a connection longer than these limits; a client that is slow costs its
//! own connection alone.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
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
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tower_service::Service;

use crate::net::tcp::places::DESCRIPTORS_KEPT;

use super::{Directory, routes};

/// Connections at a time: a few for each of many dashboards, far from what takes descriptors that DNS needs. Further ones
/// wait in the kernel until one ends. Fewer where the process may not open so many descriptors ([`room`]).
pub const CONNECTIONS: usize = 256;
/// How long a connection may be idle, the head of a request may take to come in, and a client may take nothing of what it
/// asked for.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection lives: a client that takes an octet now and then ends here. The largest zone passes over a slow
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

/// How many connections there may be beside so many of DNS: what these leave of the process's descriptors, and no fewer
/// than half of those that they always leave.
pub fn room(dns_connections: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current;
    let descriptors = descriptors.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let kept = DESCRIPTORS_KEPT / 2;
    descriptors.saturating_sub(dns_connections).saturating_sub(kept).clamp(kept, CONNECTIONS)
}

/// Serves until `stop` turns, so many connections at a time, then lets responses under way end.
pub async fn serve(
    listener: TcpListener,
    directory: Arc<dyn Directory>,
    connections: usize,
    mut stop: watch::Receiver<bool>,
) {
    let router = routes::router(directory);
    let places = Arc::new(Semaphore::new(connections));
    let mut connections = JoinSet::new();
    loop {
        let admit = async {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            admitted = admit => admitted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, address)) => {
                let peer = Peer(address.ip().to_canonical());
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    carry(stream, peer, router, stop).await;
                    drop(place);
                });
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

/// Carries one connection to its end.
async fn carry(stream: TcpStream, peer: Peer, router: Router, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true); // saves a wait at the end of a response; it goes without
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(BUFFER);
    let stream = TokioIo::new(Patient { stream, stalled: None });
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().call(request)
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
            () = &mut age => return,
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
