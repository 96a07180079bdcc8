//! Sockets: UDP threads, the TCP listener, what hickory-server carries, and asking and telling other servers. All that the
//! first two know of DNS is that messages have two octets of length on a stream, and how long a name is.

pub mod ask;
pub mod hickory;
pub mod peer;
pub mod priority;
pub mod tcp;
pub mod transfer;
pub mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::base::Limit;
use crate::dns::reply::Transport;

/// Sends a reply to where its request came from. Called at most once, from any thread; dropped if there is no reply.
pub type Completion = Box<dyn FnOnce(Vec<u8>) + Send>;

/// Does what takes seconds for a zone of a million records, without holding up other tasks of this thread.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // There is no other thread for them.
        _ => work(),
    }
}

/// The messages of an answer that has several.
pub trait Messages: Send {
    /// Puts the next one into `out`, in place of what is there. False once it was the last.
    fn next(&mut self, out: &mut Vec<u8>) -> bool;
}

/// What is to be done with a message that was handled.
pub enum Handled {
    /// The answer is there, to be sent now.
    Answered,
    /// Nothing: there is no answer, or it comes through a completion.
    Nothing,
    /// All of these are to be sent, each once the client has taken those before. Over TCP alone.
    Stream(Box<dyn Messages>),
}

/// What the transports hand messages to.
pub trait Handler: Send + Sync + 'static {
    /// Answers those datagrams of a batch that need no more than a look-up, copying and perhaps a signature, without waiting
    /// for anything; the others go to `general`, and from there to [`Handler::handle`]. Returns how many queries were answered.
    fn quick(
        &self,
        datagrams: &mut dyn Iterator<Item = udp::Received<'_>>,
        general: &mut dyn FnMut(udp::Received<'_>),
    ) -> u64;

    /// Told how long the answers to so many queries of [`Handler::quick`] took, from when these were received until the answers
    /// were on their way.
    fn took(&self, queries: u64, took: Duration);

    /// The same for one message that [`Handler::handle`] answered at once.
    fn answered(&self, packet: &[u8], transport: Transport, took: Duration);

    /// Counts what a transport dropped.
    fn count(&self, limit: Limit, count: u64);

    /// Handles one message. An answer goes into `out`; one that has to wait goes through the completion that `complete`
    /// makes.
    fn handle(
        &self,
        packet: &[u8],
        peer: SocketAddr,
        transport: Transport,
        out: &mut Vec<u8>,
        complete: &mut dyn FnMut() -> Completion,
    ) -> Handled;

    /// Signs a reply that was encoded again: `reply` is what [`Handler::handle`] gave for this request, and `octets` its
    /// other form without a TSIG record, which is appended. False if the request can't be verified any more.
    fn seal_again(&self, request: &[u8], reply: &[u8], octets: &mut Vec<u8>) -> bool;
}
