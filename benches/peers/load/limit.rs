//! What the machine allows: a loop that answers each datagram with the same octets, in batches, and patches the id alone.
//! No server on this path of the kernel can be much faster.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use super::batch::{BATCH, enlarge_buffers};

/// Longer queries than any that are sent here.
const REQUEST_OCTETS: usize = 1024;

/// Answers for as long as the process is there.
pub(crate) fn answer(socket: &UdpSocket, canned: &[u8]) -> io::Result<()> {
    enlarge_buffers(socket);
    let mut requests = vec![0; BATCH * REQUEST_OCTETS];
    // Each its own octets, as answers of a server have.
    let mut answers = vec![canned.to_vec(); BATCH];
    // Two of them: nix leaves pointers to the addresses of an earlier sendmmsg(2) in its headers.
    let (mut receiving, mut sending) = (
        MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None),
        MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None),
    );
    let mut clients = Vec::with_capacity(BATCH);
    loop {
        clients.clear();
        // On the stack, as is what is sent: a batch costs system calls, and no allocation.
        let mut slices = [(); BATCH].map(|()| [IoSliceMut::new(&mut [])]);
        let buffers = requests.chunks_exact_mut(REQUEST_OCTETS);
        slices.iter_mut().zip(buffers).for_each(|(slice, buffer)| *slice = [IoSliceMut::new(buffer)]);
        match recvmmsg(socket.as_raw_fd(), &mut receiving, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
            Ok(results) => clients.extend(results.map(|result| result.address)),
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        let both = answers.iter_mut().zip(requests.chunks_exact(REQUEST_OCTETS));
        for (slice, (answer, request)) in slices.iter_mut().zip(both).take(clients.len()) {
            answer[..2].copy_from_slice(&request[..2]);
            *slice = [IoSlice::new(answer)];
        }
        // What doesn't go out is lost, and counted by whoever waits for it.
        let sent =
            sendmmsg(socket.as_raw_fd(), &mut sending, &slices[..clients.len()], &clients, [], MsgFlags::empty());
        sent.map(drop)?;
    }
}
