//! UDP: a thread per core, each with a socket of its own on the same address (SO_REUSEPORT), so that the kernel spreads
//! clients over them and no thread shares anything but the answers.
//!
//! A thread takes what waits in one call, or waits there for the next datagram, has it answered by [`Handler::quick`], and
//! sends the answers in one call. It is woken to stop by the shutdown of its socket's receiving side. What is not answered by copying goes over a
//! bounded queue to a thread beside it, the general one, which also is the only one that hands updates to publishers. Their
//! replies are sent on the socket that the update came in on, from whoever has them.
//!
//! An answer leaves from the address that was asked, also where the socket has several ([`batch`]).
//!
//! Bounds: [`QUEUE`] datagrams and [`QUEUE_OCTETS`] of them wait for the general thread; more are dropped and counted
//! ([`Limit::GeneralQueue`]), and their clients ask again.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::base::Limit;
use crate::base::limits::MESSAGE_OCTETS;
use crate::dns::reply::Transport;

use super::{Completion, Handled, Handler};
use batch::{Batch, Local};

pub mod batch;

pub use batch::Received;

/// Kernel buffers a socket: bursts of a few thousand queries wait there instead of being lost.
const SOCKET_BUFFER: usize = 4 << 20;
/// Datagrams that wait for the general thread: as many as a publisher's queue takes.
const QUEUE: usize = 4096;
/// Octets of these: most have a few hundred, and it is the large ones that this bounds.
const QUEUE_OCTETS: usize = 16 << 20;
/// How long a full send buffer is waited for: a network card empties one within that, or its link is down.
const SEND_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// The threads of one address.
#[derive(Debug)]
pub struct Listener {
    threads: Vec<JoinHandle<()>>,
    sockets: Vec<Arc<UdpSocket>>,
    stop: Arc<AtomicBool>,
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
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    if address.ip().is_unspecified() {
        batch::tell_destination(&socket, address.is_ipv4())?;
    }
    Ok(socket)
}

impl Listener {
    /// Starts the threads.
    pub fn start(sockets: Vec<UdpSocket>, handler: &Arc<dyn Handler>) -> io::Result<Listener> {
        let stop: Arc<AtomicBool> = Arc::default();
        let mut threads = Vec::new();
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        for (number, socket) in sockets.iter().cloned().enumerate() {
            let (queue, waiting) = queue();
            let named = |name: &str| std::thread::Builder::new().name(format!("{name}-{number}"));
            let general = General { socket: socket.clone(), handler: handler.clone() };
            threads.push(named("udp-general").spawn(move || go_on(|| general.run(&waiting)))?);
            let quick = Quick { address: socket.local_addr()?, socket, handler: handler.clone(), queue };
            let stop = stop.clone();
            threads.push(named("udp").spawn(move || go_on(|| quick.run(&stop)))?);
        }
        Ok(Listener { threads, sockets, stop })
    }

    /// Stops the threads and waits for them. The general ones end with their queues, once those are empty.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // It wakes whoever waits there, and says all the same that a datagram socket is not connected.
            let _ = rustix::net::shutdown(&**socket, rustix::net::Shutdown::Read);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a UDP thread ended badly");
            }
        }
    }
}

/// Runs a thread to its end. A panic loses what was under way; the thread's clients, which the kernel gives to no other, are
/// served on.
fn go_on(run: impl Fn()) {
    while catch_unwind(AssertUnwindSafe(&run)).is_err() {
        tracing::error!("a UDP thread has panicked, and begins anew; this is a bug of livezone");
    }
}

/// A datagram on its way to the general thread.
struct Waiting {
    packet: Box<[u8]>,
    peer: SocketAddr,
    local: Local,
    /// When it was received.
    since: Instant,
}

/// The queue of a general thread, for its only sender.
struct Queue {
    datagrams: SyncSender<Waiting>,
    octets: Arc<AtomicUsize>,
}

/// Its other end.
struct Arrivals {
    datagrams: Receiver<Waiting>,
    octets: Arc<AtomicUsize>,
}

fn queue() -> (Queue, Arrivals) {
    let (sender, receiver) = sync_channel(QUEUE);
    let octets: Arc<AtomicUsize> = Arc::default();
    (Queue { datagrams: sender, octets: octets.clone() }, Arrivals { datagrams: receiver, octets })
}

impl Queue {
    /// Puts a datagram at the end; false if there is no room.
    fn put(&self, packet: &[u8], peer: SocketAddr, local: Local, since: Instant) -> bool {
        // Nobody else adds to it, so it doesn't grow meanwhile.
        if self.octets.load(Ordering::Relaxed) + packet.len() > QUEUE_OCTETS {
            return false;
        }
        self.octets.fetch_add(packet.len(), Ordering::Relaxed);
        let put = self.datagrams.try_send(Waiting { packet: packet.into(), peer, local, since }).is_ok();
        if !put {
            self.octets.fetch_sub(packet.len(), Ordering::Relaxed);
        }
        put
    }
}

impl Arrivals {
    /// The next datagram; `None` once the sender is gone and nothing is left.
    fn next(&self) -> Option<Waiting> {
        let waiting = self.datagrams.recv().ok()?;
        self.octets.fetch_sub(waiting.packet.len(), Ordering::Relaxed);
        Some(waiting)
    }
}

/// What a thread has that answers by copying.
struct Quick {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    handler: Arc<dyn Handler>,
    queue: Queue,
}

impl Quick {
    fn run(&self, stop: &AtomicBool) {
        let mut batch = Batch::new(self.address);
        loop {
            let received = batch.receive(&self.socket);
            // A socket that is shut down gives empty datagrams without end.
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match received {
                Ok(_) => self.answer(&mut batch, Instant::now()),
                // Errors of earlier sends (ICMP) show up here; they concern nobody else.
                Err(error) => tracing::debug!(%error, "receiving datagrams"),
            }
        }
    }

    fn answer(&self, batch: &mut Batch, since: Instant) {
        let queries = self.handler.quick(&mut batch.datagrams(), &mut |general| {
            if !self.queue.put(general.packet, general.peer, general.local, since) {
                self.handler.count(Limit::GeneralQueue, 1);
            }
        });
        let wait = || poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&SEND_PATIENCE)) == Ok(1);
        // An answer that doesn't go out is lost like any datagram; the client asks again.
        batch.send(&self.socket, wait, |error, count| {
            tracing::debug!(%error, count, "sending datagrams");
            self.handler.count(Limit::Unsent, count.try_into().unwrap_or(u64::MAX));
        });
        if queries > 0 {
            self.handler.took(queries, since.elapsed());
        }
    }
}

/// What a thread has that does all the rest.
struct General {
    socket: Arc<UdpSocket>,
    handler: Arc<dyn Handler>,
}

impl General {
    fn run(&self, arrivals: &Arrivals) {
        let mut out = Vec::with_capacity(MESSAGE_OCTETS);
        while let Some(Waiting { packet, peer, local, since }) = arrivals.next() {
            let mut complete = || -> Completion {
                let (socket, handler) = (self.socket.clone(), self.handler.clone());
                Box::new(move |octets| {
                    if !send(&socket, &octets, peer, local) {
                        handler.count(Limit::Unsent, 1);
                    }
                })
            };
            if let Handled::Answered = self.handler.handle(&packet, peer, Transport::Udp, &mut out, &mut complete) {
                if !send(&self.socket, &out, peer, local) {
                    self.handler.count(Limit::Unsent, 1);
                }
                self.handler.answered(&packet, Transport::Udp, since.elapsed());
            }
        }
    }
}

/// A reply that doesn't go out is lost like any datagram; the client asks again. Returns whether it went.
fn send(socket: &UdpSocket, octets: &[u8], peer: SocketAddr, local: Local) -> bool {
    let sent = batch::send_from(socket, octets, peer, local);
    sent.inspect_err(|error| tracing::debug!(%error, %peer, "sending a datagram")).is_ok()
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
    fn a_queue_is_bounded_in_datagrams_and_in_octets() {
        let (peer, now) = ("127.0.0.1:1".parse().unwrap(), Instant::now());
        let (queue, arrivals) = queue();
        assert_eq!((0..QUEUE + 10).filter(|_| queue.put(b"x", peer, Local::Bound, now)).count(), QUEUE);
        assert_eq!(arrivals.next().map(|waiting| waiting.packet.len()), Some(1));
        assert!(queue.put(b"y", peer, Local::Bound, now));
        let (queue, arrivals) = super::queue();
        let large = vec![0; 60_000];
        assert_eq!((0..QUEUE).filter(|_| queue.put(&large, peer, Local::Bound, now)).count(), QUEUE_OCTETS / 60_000);
        assert!(arrivals.next().is_some() && queue.put(&large, peer, Local::Bound, now));
        drop(queue);
        assert_eq!(std::iter::from_fn(|| arrivals.next()).count(), QUEUE_OCTETS / 60_000);
    }

    #[test]
    fn a_thread_goes_on_after_a_panic() {
        let rounds = AtomicUsize::new(0);
        go_on(|| assert!(rounds.fetch_add(1, Ordering::Relaxed) == 2, "a panic that is meant"));
        assert_eq!(rounds.into_inner(), 3);
    }

    #[test]
    fn an_address_that_somebody_has_is_refused() {
        let taken = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert!(bind(taken[0].local_addr().unwrap(), 2).is_err());
    }
}
