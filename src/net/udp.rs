//! UDP: a thread per core, each with a socket of its own on the same address (SO_REUSEPORT), so that the kernel spreads
//! clients over them and no thread shares anything but the answers.
//!
//! A thread reads until nothing is left and then sleeps in poll(2) on its socket and on the stop signal. Replies of
//! updates are sent by the publisher on the socket that the update came in on.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::base::limits::MESSAGE_OCTETS;
use crate::dns::reply::Transport;

use super::{Completion, Handled, Handler};

/// Kernel buffers a socket: bursts of a few thousand queries wait there instead of being lost.
const SOCKET_BUFFER: usize = 4 << 20;

/// The threads of one address.
#[derive(Debug)]
pub struct Listener {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<OwnedFd>,
}

/// Binds one socket a thread.
pub fn bind(address: SocketAddr, threads: usize) -> io::Result<Vec<UdpSocket>> {
    // Without SO_REUSEPORT first: with it, a second server of the same user could share the address unnoticed.
    drop(bind_one(address, false)?);
    (0..threads).map(|_| bind_one(address, true)).collect()
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: the kernel caps what an ordinary user may ask for.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl Listener {
    /// Starts the threads.
    pub fn start(sockets: Vec<UdpSocket>, handler: &Arc<dyn Handler>) -> io::Result<Listener> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let mut threads = Vec::new();
        for (number, socket) in sockets.into_iter().enumerate() {
            let (handler, stop, socket) = (handler.clone(), stop.clone(), Arc::new(socket));
            let thread = std::thread::Builder::new().name(format!("udp-{number}"));
            threads.push(thread.spawn(move || run(&socket, &*handler, &stop))?);
        }
        Ok(Listener { threads, stop })
    }

    /// Stops the threads and waits for them.
    pub fn stop(self) {
        // Nobody reads the event, so it wakes all of them.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a UDP thread ended badly");
            }
        }
    }
}

/// Datagrams answered before the stop signal is looked at again under load.
const BURST: usize = 256;

fn run(socket: &Arc<UdpSocket>, handler: &dyn Handler, stop: &OwnedFd) {
    let mut packet = vec![0; MESSAGE_OCTETS];
    let mut out = Vec::with_capacity(MESSAGE_OCTETS);
    loop {
        let mut idle = false;
        for _ in 0..BURST {
            match socket.recv_from(&mut packet) {
                Ok((len, peer)) => answer(socket, handler, &packet[..len], peer, &mut out),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    idle = true;
                    break;
                }
                // Errors of earlier sends (ICMP) show up here; they concern nobody else.
                Err(error) => tracing::debug!(%error, "receiving a datagram"),
            }
        }
        let timeout = if idle { None } else { Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }) };
        let mut events = [PollFd::new(socket, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        if poll(&mut events, timeout).is_ok() && !events[1].revents().is_empty() {
            return;
        }
    }
}

fn answer(socket: &Arc<UdpSocket>, handler: &dyn Handler, packet: &[u8], peer: SocketAddr, out: &mut Vec<u8>) {
    let mut complete = || -> Completion {
        let socket = socket.clone();
        Box::new(move |octets| send(&socket, &octets, peer))
    };
    if let Handled::Answered = handler.handle(packet, peer, Transport::Udp, out, &mut complete) {
        send(socket, out, peer);
    }
}

/// A reply that doesn't go out is lost like any datagram; the client asks again.
fn send(socket: &UdpSocket, octets: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(octets, peer) {
        tracing::debug!(%error, %peer, "sending a datagram");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_both_families_can_have_the_same_port() {
        let ipv4 = bind("0.0.0.0:0".parse().unwrap(), 2).unwrap();
        let port = ipv4[0].local_addr().unwrap().port();
        // A free port of one family may be taken in the other: then this says nothing.
        let free = UdpSocket::bind(("::1", port)).is_ok();
        assert_eq!(bind(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)), 2).is_ok(), free);
    }

    #[test]
    fn an_address_that_somebody_has_is_refused() {
        let taken = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert!(bind(taken[0].local_addr().unwrap(), 2).is_err());
    }
}
