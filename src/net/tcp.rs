//! TCP (RFC 7766): messages behind two octets of length, one connection for as many as the client likes.
//!
//! A connection is one task. It reads a message, answers it, and goes on; an update is awaited before the next message is
//! read. An idle connection, or one that takes no answer, is closed after `IDLE`. At `CONNECTIONS` new ones wait in the
//! kernel's backlog.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::dns::reply::Transport;

use super::{Completion, Handler};

/// How long a connection may be idle, or a message under way (RFC 7766 §6.2.3: some seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Open connections of one listener: a task and two buffers each.
const CONNECTIONS: usize = 1024;
/// How long to rest when the system has no descriptor for a new connection.
const REST: Duration = Duration::from_millis(100);

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
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop` turns, then lets the messages under way end.
pub async fn serve(listener: TcpListener, handler: Arc<dyn Handler>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
            _ = stop.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (handler, stop) = (handler.clone(), stop.clone());
                connections.spawn(async move {
                    if let Err(error) = converse(stream, peer, &*handler, stop).await {
                        tracing::debug!(%error, %peer, "connection");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(REST).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn converse(
    mut stream: TcpStream,
    peer: SocketAddr,
    handler: &dyn Handler,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut packet = Vec::new();
    let mut out = Vec::new();
    loop {
        let message = tokio::select! {
            message = timeout(IDLE, read_message(&mut stream, &mut packet)) => message,
            _ = stop.changed() => return Ok(()),
        };
        match message {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
        let mut reply = None;
        let mut complete = || -> Completion {
            let (sender, receiver) = oneshot::channel();
            reply = Some(receiver);
            Box::new(move |octets| drop(sender.send(octets)))
        };
        if !handler.handle(&packet, peer, Transport::Tcp, &mut out, &mut complete) {
            // An update answers when its commit does; one that was dropped closes the connection, so that the client knows.
            match reply {
                Some(reply) => out = reply.await.map_err(|_| io::Error::other("the update was dropped"))?,
                None => continue,
            }
        }
        let length = u16::try_from(out.len()).map_err(|_| io::Error::other("an answer exceeds 65535 octets"))?;
        let frame = [&length.to_be_bytes()[..], &out].concat();
        timeout(IDLE, stream.write_all(&frame)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
}

/// Reads one message; false at the end of the stream.
async fn read_message(stream: &mut TcpStream, packet: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    packet.resize(usize::from(u16::from_be_bytes(length)), 0);
    stream.read_exact(packet).await?;
    Ok(true)
}
