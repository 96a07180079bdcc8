//! Datagrams by the batch: recvmmsg(2) and sendmmsg(2), with the address that each was sent to.
//!
//! On a socket that is bound to all addresses of a host, an answer must leave from the address that was asked, or its client
//! takes it for a stranger's; the kernel would choose by the route. [`tell_destination`] has the kernel tell that address
//! with each datagram (IP_PKTINFO, RFC 3542 §6.2 for IPv6), and answers are sent with it.
//!
//! io_uring was measured beside these calls on a bare server of canned answers of 837 octets: multishot receives into provided
//! buffers and a send each took 1.1 to 1.3 times the CPU an answer, since every datagram is an operation of its own there.
//!
//! The one place of the server with `unsafe`: no crate has both calls with a source address a message. nix gives all messages of a batch
//! the same control data, rustix has no recvmmsg.
//!
//! Memory: [`BATCH`] places of 64 KiB for what comes in, of which the kernel backs those pages that were ever written, and
//! as many buffers for answers, which grow to the largest that was sent.

#![expect(unsafe_code, reason = "batched socket calls; see the module's documentation")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of C structures, and counts below BATCH")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use crate::base::limits::MESSAGE_OCTETS;
use crate::dns::quick::NameBuffer;

/// Datagrams received or sent by one system call. The call itself costs some 100 ns, a datagram some 2 µs: more of them
/// would win nothing, and their octets would leave the first-level cache before they are used.
pub const BATCH: usize = 64;

/// Octets from one place for a datagram to the next: the largest message, and a few lines of cache more, so that the
/// first octets of all places are not in the same set.
const STRIDE: usize = MESSAGE_OCTETS + 1 + 5 * 64;

/// The address that a datagram was sent to, if the kernel told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Local {
    /// The socket is bound to one address.
    Bound,
    /// An address of this host.
    V4(Ipv4Addr),
    /// The same, with the number of the interface, which a link-local address needs.
    V6(Ipv6Addr, u32),
}

/// Room for the control data of a datagram: one address, of either family.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

// SAFETY: CMSG_SPACE computes a number from a number.
const CONTROL: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32) } as usize;

/// What the kernel writes to, and reads from, by pointers from `headers`.
struct Storage {
    names: [libc::sockaddr_storage; BATCH],
    controls: [Control; BATCH],
    slices: [libc::iovec; BATCH],
    headers: [libc::mmsghdr; BATCH],
}

/// Datagrams that came in together, and their answers.
pub struct Batch {
    /// Taken out of its box for good, so that the pointers into it stay right wherever the batch goes.
    storage: *mut Storage,
    /// [`BATCH`] times [`STRIDE`] octets; likewise.
    inputs: *mut [u8],
    /// How many came in.
    len: usize,
    /// How many headers the kernel may have changed since they were prepared.
    used: usize,
    answers: Vec<Answer>,
    /// Whether addresses of destinations are told.
    is_told: bool,
}

/// What becomes of a datagram.
#[derive(Debug)]
pub struct Answer {
    /// Room for whoever reads the datagram: a name in lower case.
    pub name: NameBuffer,
    /// What is to be sent back.
    pub octets: Vec<u8>,
    /// Whether it is.
    pub is_due: bool,
}

impl Answer {
    fn empty() -> Answer {
        Answer { name: [0; size_of::<NameBuffer>()], octets: Vec::new(), is_due: false }
    }
}

/// A datagram of a batch, and where its answer goes.
pub struct Received<'b> {
    /// What was sent.
    pub packet: &'b [u8],
    /// By whom.
    pub peer: SocketAddr,
    /// Whereto.
    pub local: Local,
    /// What is to be sent back.
    pub answer: &'b mut Answer,
}

impl Batch {
    /// An empty batch for a socket on this address.
    pub fn new(address: SocketAddr) -> Batch {
        // SAFETY: all of these are plain C structures, for which zeros are a value.
        let storage: Box<Storage> = Box::new(unsafe { zeroed() });
        Batch {
            storage: Box::into_raw(storage),
            inputs: Box::into_raw(vec![0; BATCH * STRIDE].into_boxed_slice()),
            len: 0,
            used: BATCH,
            answers: (0..BATCH).map(|_| Answer::empty()).collect(),
            is_told: address.ip().is_unspecified(),
        }
    }

    /// Takes what waits at a socket, and waits for one if it is a blocking one; the batch before is gone. An error tells also
    /// of datagrams that were sent earlier.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.prepare();
        self.len = 0;
        // SAFETY: the headers and all that they point to were prepared, and live as long as the batch.
        let received = unsafe {
            let headers = (&raw mut (*self.storage).headers).cast::<libc::mmsghdr>();
            libc::recvmmsg(socket.as_raw_fd(), headers, BATCH as u32, libc::MSG_WAITFORONE, ptr::null_mut())
        };
        self.len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        self.used = self.len;
        Ok(self.len)
    }

    /// Has the headers that were used point to their places again.
    fn prepare(&mut self) {
        for at in 0..self.used {
            // SAFETY: `at` is below BATCH, the storage is ours alone, and no reference into it exists.
            unsafe {
                let storage = self.storage;
                let slice = &raw mut (*storage).slices[at];
                *slice =
                    libc::iovec { iov_base: self.inputs.cast::<u8>().add(at * STRIDE).cast(), iov_len: MESSAGE_OCTETS };
                let header = &raw mut (*storage).headers[at].msg_hdr;
                (*header).msg_name = (&raw mut (*storage).names[at]).cast();
                (*header).msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                (*header).msg_iov = slice;
                (*header).msg_iovlen = 1;
                (*header).msg_control = (&raw mut (*storage).controls[at]).cast();
                (*header).msg_controllen = if self.is_told { CONTROL } else { 0 };
                (*header).msg_flags = 0;
            }
        }
        self.used = 0;
    }

    /// The datagrams that came in.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Received<'_>> {
        let (storage, inputs, is_told) = (self.storage, self.inputs.cast::<u8>(), self.is_told);
        self.answers[..self.len].iter_mut().enumerate().map(move |(at, answer)| {
            // SAFETY: the kernel has filled the first `len` of each; nothing changes them while the batch is borrowed.
            unsafe {
                let header = &(*storage).headers[at];
                let len = usize::try_from(header.msg_len).expect("at most 64 KiB").min(MESSAGE_OCTETS);
                let packet = std::slice::from_raw_parts(inputs.add(at * STRIDE), len);
                let peer = read_name(&(*storage).names[at]);
                let local = if is_told { read_control(&header.msg_hdr) } else { Local::Bound };
                Received { packet, peer, local, answer }
            }
        })
    }

    /// Sends the answers that are due, from where their datagrams were sent to. Answers that the kernel doesn't take are
    /// lost like any datagram: `wait` is called for a full buffer, and may give up; `failed` is told why, and how many.
    pub fn send(
        &mut self,
        socket: &UdpSocket,
        mut wait: impl FnMut() -> bool,
        mut failed: impl FnMut(io::Error, usize),
    ) {
        let due = self.prepare_answers();
        let mut sent = 0;
        while sent < due {
            // SAFETY: the first `due` headers point to names, slices and control data of the storage, and slices to octets
            // of `answers`, none of which change until this returns.
            let taken = unsafe {
                let headers = (&raw mut (*self.storage).headers).cast::<libc::mmsghdr>().add(sent);
                libc::sendmmsg(socket.as_raw_fd(), headers, (due - sent) as u32, libc::MSG_DONTWAIT)
            };
            match usize::try_from(taken) {
                Ok(taken) => sent += taken,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::Interrupted => {}
                        io::ErrorKind::WouldBlock if wait() => {}
                        io::ErrorKind::WouldBlock => return failed(error, due - sent),
                        // It is about the first of them.
                        _ => {
                            failed(error, 1);
                            sent += 1;
                        }
                    }
                }
            }
        }
    }

    /// Has the first headers tell of the answers that are due; returns how many.
    fn prepare_answers(&mut self) -> usize {
        let mut due = 0;
        for at in 0..self.len {
            let answer = &mut self.answers[at];
            if !std::mem::take(&mut answer.is_due) {
                continue;
            }
            // SAFETY: `due` is at most `at`, so that what is still to be read of a later datagram isn't written to; each
            // slice points to its own answer.
            unsafe {
                let storage = self.storage;
                let from = (*storage).headers[at].msg_hdr;
                let slice = &raw mut (*storage).slices[due];
                *slice = libc::iovec { iov_base: answer.octets.as_mut_ptr().cast(), iov_len: answer.octets.len() };
                let header = &raw mut (*storage).headers[due].msg_hdr;
                (*header).msg_name = from.msg_name;
                (*header).msg_namelen = from.msg_namelen;
                (*header).msg_iov = slice;
                (*header).msg_control = from.msg_control;
                (*header).msg_controllen = 0;
                if self.is_told {
                    let local = read_control(&from);
                    write_control(&mut *header, local);
                }
            }
            due += 1;
        }
        self.used = self.len;
        due
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: both came out of boxes in `new`, and nobody has them any more.
        unsafe {
            drop(Box::from_raw(self.storage));
            drop(Box::from_raw(self.inputs));
        }
    }
}

// SAFETY: the batch owns what its pointers point to.
unsafe impl Send for Batch {}

/// Has the kernel tell where each datagram was sent to.
pub fn tell_destination(socket: &UdpSocket, is_ipv4: bool) -> io::Result<()> {
    let (level, option) = match is_ipv4 {
        true => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        false => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int, of which the length is told.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends one datagram from an address of this host.
pub fn send_from(socket: &UdpSocket, octets: &[u8], peer: SocketAddr, local: Local) -> io::Result<()> {
    let name = socket2::SockAddr::from(peer);
    let mut slice = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
    let mut control = Control([0; CONTROL]);
    // SAFETY: zeros are a value of a message header; its pointers are to what lives until the call returns, and the kernel
    // only reads there.
    let sent = unsafe {
        let mut header: libc::msghdr = zeroed();
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.len();
        header.msg_iov = &raw mut slice;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        write_control(&mut header, local);
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The address in a name that the kernel wrote for a socket of the Internet.
fn read_name(name: &libc::sockaddr_storage) -> SocketAddr {
    let name: *const libc::sockaddr_storage = name;
    // SAFETY: the family tells which structure it is; the storage is large and aligned enough for each.
    unsafe {
        if libc::c_int::from((*name).ss_family) == libc::AF_INET6 {
            let name = &*name.cast::<libc::sockaddr_in6>();
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            SocketAddrV6::new(ip, u16::from_be(name.sin6_port), name.sin6_flowinfo, name.sin6_scope_id).into()
        } else {
            let name = &*name.cast::<libc::sockaddr_in>();
            SocketAddrV4::new(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port)).into()
        }
    }
}

/// The destination that the kernel told.
///
/// # Safety
///
/// The header's control data must be those of a message that was received, or none.
unsafe fn read_control(header: &libc::msghdr) -> Local {
    // SAFETY: as above; each datum is as long as its kind says, which the kernel sees to, and is read unaligned.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        if control.is_null() {
            return Local::Bound;
        }
        let data = libc::CMSG_DATA(control);
        match ((*control).cmsg_level, (*control).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // For a broadcast it is the interface's own address, which the header's destination is not.
                let info = ptr::read_unaligned(data.cast::<libc::in_pktinfo>());
                Local::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)))
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info = ptr::read_unaligned(data.cast::<libc::in6_pktinfo>());
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                // A group's address can't be a source.
                if address.is_multicast() { Local::Bound } else { Local::V6(address, info.ipi6_ifindex) }
            }
            _ => Local::Bound,
        }
    }
}

/// Writes the source of an answer into the header's control data.
///
/// # Safety
///
/// The header's control data must have room for [`CONTROL`] octets.
unsafe fn write_control(header: &mut libc::msghdr, local: Local) {
    let (level, kind, len) = match local {
        Local::Bound => {
            header.msg_controllen = 0;
            return;
        }
        Local::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>()),
        Local::V6(..) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>()),
    };
    // SAFETY: as above, and either datum is at most as long as the room was made for.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(len as u32) as usize;
        let control = libc::CMSG_FIRSTHDR(header);
        (*control).cmsg_level = level;
        (*control).cmsg_type = kind;
        (*control).cmsg_len = libc::CMSG_LEN(len as u32) as usize;
        let data = libc::CMSG_DATA(control);
        match local {
            Local::V4(address) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0, // any: the route decides, as it does for other answers
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(address).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                ptr::write_unaligned(data.cast(), info);
            }
            Local::V6(address, interface) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                    ipi6_ifindex: if is_link_local(address) { interface } else { 0 },
                };
                ptr::write_unaligned(data.cast(), info);
            }
            Local::Bound => {}
        }
    }
}

/// Whether an address means something on one link alone.
fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn pair() -> (UdpSocket, UdpSocket) {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        for socket in &sockets {
            socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        }
        let [server, client] = sockets;
        client.connect(server.local_addr().unwrap()).unwrap();
        (server, client)
    }

    /// Waits for something, and takes it.
    fn receive(batch: &mut Batch, socket: &UdpSocket) -> usize {
        let _ = socket.peek(&mut [0; 1]).unwrap();
        batch.receive(socket).unwrap()
    }

    #[test]
    fn each_datagram_has_its_own_answer_however_many_come_in() {
        let (server, client) = pair();
        let mut batch = Batch::new(server.local_addr().unwrap());
        let sent: BTreeSet<Vec<u8>> = (0..150u8).map(|number| vec![number; usize::from(number)]).collect();
        for octets in &sent {
            client.send(octets).unwrap();
        }
        let mut count = 0;
        while count < sent.len() {
            let taken = receive(&mut batch, &server);
            assert!(taken <= BATCH);
            count += taken;
            for received in batch.datagrams() {
                assert_eq!((received.peer, received.local), (client.local_addr().unwrap(), Local::Bound));
                received.answer.octets = [b"to ", received.packet].concat();
                received.answer.is_due = true;
            }
            batch.send(&server, || false, |error, _| panic!("{error}"));
        }
        server.set_nonblocking(true).unwrap();
        assert_eq!(batch.receive(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut buffer = [0; 300];
        let answers = (0..sent.len()).map(|_| client.recv(&mut buffer).map(|len| buffer[3..len].to_vec()).unwrap());
        assert_eq!(answers.collect::<BTreeSet<_>>(), sent);
    }

    #[test]
    fn the_largest_datagram_is_whole_and_one_that_cannot_be_sent_does_not_hold_up_the_others() {
        let (server, client) = pair();
        let mut batch = Batch::new(server.local_addr().unwrap());
        let largest: Vec<u8> = (0..65_507u32).map(|at| (at % 251) as u8).collect();
        for octets in [b"first".as_slice(), b"too long", &largest, b"none", b"last"] {
            client.send(octets).unwrap();
        }
        let mut failures = 0;
        let mut count = 0;
        while count < 5 {
            count += receive(&mut batch, &server);
            for received in batch.datagrams() {
                received.answer.octets = match received.packet {
                    b"too long" => vec![0; 65_508],
                    packet => packet.to_vec(),
                };
                received.answer.is_due = received.packet != b"none";
            }
            batch.send(&server, || false, |_, count| failures += count);
        }
        assert_eq!(failures, 1);
        let mut buffer = vec![0; 70_000];
        for expected in [b"first".as_slice(), &largest, b"last"] {
            let len = client.recv(&mut buffer).unwrap();
            assert!(&buffer[..len] == expected, "{len} octets");
        }
    }

    #[test]
    fn a_wildcard_socket_is_told_where_a_datagram_was_sent_to_and_answers_from_there() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        tell_destination(&server, true).unwrap();
        let address = server.local_addr().unwrap();
        let mut batch = Batch::new(address);
        for asked in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::new(127, 1, 2, 3)] {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            client.send_to(b"?", (asked, address.port())).unwrap();
            assert_eq!(receive(&mut batch, &server), 1);
            let mut local = Local::Bound;
            for received in batch.datagrams() {
                local = received.local;
                received.answer.octets = b"!".to_vec();
                received.answer.is_due = true;
            }
            assert_eq!(local, Local::V4(asked));
            batch.send(&server, || false, |error, _| panic!("{error}"));
            send_from(&server, b"!", client.local_addr().unwrap(), local).unwrap();
            for _ in 0..2 {
                let (_, from) = client.recv_from(&mut [0; 1]).unwrap();
                assert_eq!(from, (asked, address.port()).into());
            }
        }
    }
}
