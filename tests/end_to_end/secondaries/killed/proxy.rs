//! Between a secondary and its primary: lets messages through, and of each connection only so much as it is told.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::other::free_address;

/// A proxy. Its threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    primary: SocketAddr,
    gate: Mutex<bool>,
    opened: Condvar,
    /// Connections that wait at the gate.
    held: AtomicUsize,
    /// Octets of the connection that carried most to the client.
    most: AtomicUsize,
    ended: AtomicBool,
}

impl Proxy {
    /// A proxy for UDP and TCP that holds what the primary sends on a connection beyond `limit` octets.
    pub(super) fn start(primary: SocketAddr, limit: usize) -> Proxy {
        let address = free_address();
        let shared = Arc::new(Shared {
            primary,
            gate: Mutex::new(false),
            opened: Condvar::new(),
            held: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let (tcp, udp) = (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        udp.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let for_tcp = shared.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                if for_tcp.ended.load(Ordering::SeqCst) {
                    break;
                }
                let shared = for_tcp.clone();
                std::thread::spawn(move || drop(carry(&shared, &stream, limit)));
            }
        });
        let for_udp = shared.clone();
        std::thread::spawn(move || {
            let mut octets = vec![0; 65_535];
            while !for_udp.ended.load(Ordering::SeqCst) {
                let Ok((length, from)) = udp.recv_from(&mut octets) else { continue };
                let _ = exchange(primary, &octets[..length]).and_then(|answer| udp.send_to(&answer, from));
            }
        });
        Proxy { address, shared }
    }

    /// How many connections it has held.
    pub(super) fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// The most octets that a connection carried to the client.
    pub(super) fn most(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// Cuts off what is held, and lets everything through from now on.
    pub(super) fn open(&self) {
        *self.shared.gate.lock().unwrap() = true;
        self.shared.opened.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.open();
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn exchange(primary: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(primary)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send(packet)?;
    let mut octets = vec![0; 65_535];
    let length = socket.recv(&mut octets)?;
    octets.truncate(length);
    Ok(octets)
}

/// Carries a connection to its end, or up to the limit until the gate opens.
fn carry(shared: &Shared, mut client: &TcpStream, limit: usize) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    // So that the primary has most of its zone still to send when it is killed.
    socket.set_recv_buffer_size(16 << 10)?;
    socket.connect(&shared.primary.into())?;
    let mut primary = TcpStream::from(socket);
    let (mut from_client, mut to_primary) = (client.try_clone()?, primary.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_primary);
        let _ = to_primary.shutdown(Shutdown::Write);
    });
    let (mut octets, mut carried) = (vec![0; 8 << 10], 0);
    loop {
        let length = primary.read(&mut octets)?;
        if length == 0 {
            return client.shutdown(Shutdown::Both);
        }
        let mut is_open = shared.gate.lock().unwrap();
        if !*is_open && carried + length > limit {
            shared.held.fetch_add(1, Ordering::SeqCst);
            while !*is_open {
                is_open = shared.opened.wait(is_open).unwrap();
            }
            return client.shutdown(Shutdown::Both);
        }
        drop(is_open);
        carried += length;
        shared.most.fetch_max(carried, Ordering::SeqCst);
        client.write_all(&octets[..length])?;
    }
}
