//! Datagrams by the batch: recvmmsg(2) and sendmmsg(2) of a connected socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

/// Datagrams of a system call: what it costs itself is then below a hundredth of what the datagrams cost.
pub(crate) const BATCH: usize = 64;
/// Longer answers than any server gives over UDP here.
pub(crate) const DATAGRAM_OCTETS: usize = 4608;
/// Kernel buffers of a socket: a whole window of answers has room.
const SOCKET_BUFFER: usize = 4 << 20;

/// A socket of its own port, connected to a server.
pub(crate) fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    enlarge_buffers(&socket);
    Ok(socket)
}

/// Makes room for a window in a socket: in the kernel's default a window of signed updates has none.
pub(crate) fn enlarge_buffers(socket: &UdpSocket) {
    // Best effort: the kernel caps what an ordinary user may ask for.
    let _ = socket2::SockRef::from(socket).set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket2::SockRef::from(socket).set_send_buffer_size(SOCKET_BUFFER);
}

/// What a batch of answers is received into.
pub(crate) struct Received {
    headers: MultiHeaders<()>,
    buffers: Vec<u8>,
    lengths: Vec<usize>,
}

impl Received {
    pub(crate) fn new() -> Received {
        let headers = MultiHeaders::preallocate(BATCH, None);
        Received { headers, buffers: vec![0; BATCH * DATAGRAM_OCTETS], lengths: Vec::with_capacity(BATCH) }
    }

    /// Receives what is there.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.lengths.clear();
        let mut slices = [(); BATCH].map(|()| [IoSliceMut::new(&mut [])]);
        let buffers = self.buffers.chunks_exact_mut(DATAGRAM_OCTETS);
        slices.iter_mut().zip(buffers).for_each(|(slice, buffer)| *slice = [IoSliceMut::new(buffer)]);
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(results) => self.lengths.extend(results.map(|result| result.bytes)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.buffers.chunks_exact(DATAGRAM_OCTETS).zip(&self.lengths).map(|(buffer, &length)| &buffer[..length])
    }
}

/// Sends batches.
pub(crate) struct Sender {
    headers: MultiHeaders<()>,
}

impl Sender {
    pub(crate) fn new() -> Sender {
        Sender { headers: MultiHeaders::preallocate(BATCH, None) }
    }

    /// Sends the first messages of these, as many as the kernel takes now, and says how many those were.
    pub(crate) fn send<'m>(
        &mut self,
        socket: &UdpSocket,
        messages: impl Iterator<Item = &'m [u8]>,
    ) -> io::Result<usize> {
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        let filled = slices.iter_mut().zip(messages).map(|(slice, message)| *slice = [IoSlice::new(message)]).count();
        let nowhere = [None::<()>; BATCH];
        match sendmmsg(socket.as_raw_fd(), &mut self.headers, &slices[..filled], nowhere, [], MsgFlags::MSG_DONTWAIT) {
            Ok(results) => Ok(results.count()),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}
