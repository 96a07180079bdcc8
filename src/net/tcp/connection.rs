//! One connection (RFC 7766): a task that reads, hands messages on, and writes what comes back.
//!
//! Messages are read while earlier ones wait for their commit, so answers may overtake each other (§6.2.1.1, §7). All
//! that was read is handled before anything is written: the answers of one burst leave in one write, and length and
//! message are never apart (§8). A client that has said everything and shuts its side gets all its answers before we
//! close ours.
//!
//! An answer of many messages ([`Messages`]) is made as the client takes it: the next one when less than [`STREAMED`] octets
//! wait. A connection with one that goes on moves to a thread of lower priority ([`super::bulk`]).
//!
//! Bounds: [`OUTSTANDING`] requests that wait, [`OUTPUT`] octets of answers that are not taken. At either, nothing more
//! is read or handled until it is less, and the client's writes fill up. One patience ([`Limits::idle`]) bounds the rest:
//! a connection with nothing under way and no answer in that time is closed, and so is one whose message doesn't come in
//! whole, or whose answers are not taken. A message without an answer (a response, something shorter than a header)
//! leaves the connection as it is, but doesn't keep it from being idle.
//!
//! [`Limits::idle`]: super::Limits::idle

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::bulk::Move;
use super::places::{Cuts, Place};
use crate::base::limits::TRANSFER_PATIENCE;
use crate::dns::reply::Transport;
use crate::net::{Completion, Handled, Handler, Messages};

/// Requests of a connection that wait for their commit. More than a client usually has under way, and little beside
/// the queue of a publisher.
const OUTSTANDING: usize = 128;
/// Answers of several messages under way on a connection: each holds a place among those of the whole server while it waits
/// for the one before.
const STREAMS: usize = 4;
/// Octets of answers not yet taken by the client at which no further message is handled. One answer may go beyond.
const OUTPUT: usize = 64 << 10;
/// Octets of answers not yet taken below which the next message of a stream is made: it is there before the client waits,
/// and a write takes several messages.
const STREAMED: usize = 32 << 10;
/// Octets read at once.
const INPUT: usize = 4 << 10;
/// Buffers that grew beyond this are given back when they are empty.
const KEPT: usize = 20 << 10;

/// Why a connection ends before its client ended it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    Idle,
    SlowWriter,
    SlowReader,
    Displaced,
    Dropped,
}

impl Cut {
    fn count(self, cuts: &Cuts) -> Option<&AtomicU64> {
        match self {
            Cut::Idle => Some(&cuts.idle),
            Cut::SlowWriter => Some(&cuts.slow_writer),
            Cut::SlowReader => Some(&cuts.slow_reader),
            // Counted where the room was made.
            Cut::Displaced => None,
            Cut::Dropped => Some(&cuts.dropped),
        }
    }
}

/// Runs a connection to its end.
pub(super) async fn run(
    mut stream: TcpStream,
    peer: SocketAddr,
    handler: Arc<dyn Handler>,
    place: Place,
    moves: Move,
    stop: watch::Receiver<bool>,
) {
    let (replies, arrivals) = mpsc::channel(OUTSTANDING);
    let connection = Connection {
        peer,
        handler: &*handler,
        place: &place,
        moves,
        replies,
        outstanding: 0,
        input: Vec::new(),
        output: Output::default(),
        scratch: Vec::new(),
        streams: VecDeque::new(),
        active: Instant::now(),
        partial: None,
        ending: None,
    };
    // Answers are whole when they are written: nothing is won by waiting for more.
    let ended = match stream.set_nodelay(true) {
        Ok(()) => connection.converse(&mut stream, arrivals, stop).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(None) => {}
        Ok(Some(cut)) => {
            if let Some(count) = cut.count(&place.places().cuts) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            tracing::debug!(%peer, reason = ?cut, "connection cut off");
        }
        Err(error) => tracing::debug!(%error, %peer, "connection"),
    }
}

struct Connection<'h> {
    peer: SocketAddr,
    handler: &'h dyn Handler,
    place: &'h Place,
    moves: Move,
    replies: mpsc::Sender<Option<Vec<u8>>>,
    /// Requests whose completion is still to come.
    outstanding: usize,
    /// What was read and not handled.
    input: Vec<u8>,
    output: Output,
    /// Where the handler writes.
    scratch: Vec<u8>,
    /// Answers of several messages, and since when each is under way.
    streams: VecDeque<(Box<dyn Messages>, Instant)>,
    /// When the connection was opened, or last answered.
    active: Instant,
    /// Since when the message at the start of `input` is incomplete.
    partial: Option<Instant>,
    /// Set when nothing more is read: what is under way is finished, then the connection ends, for this reason.
    ending: Option<Option<Cut>>,
}

/// Answers behind their lengths, on their way out.
#[derive(Default)]
struct Output {
    octets: Vec<u8>,
    /// Of `octets`.
    written: usize,
    /// Until when the first `due` of `octets` are to be taken.
    deadline: Option<(Instant, usize)>,
}

impl Connection<'_> {
    async fn converse(
        mut self,
        stream: &mut TcpStream,
        mut arrivals: mpsc::Receiver<Option<Vec<u8>>>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<Option<Cut>> {
        let idle = self.place.places().limits.idle;
        let (mut reader, mut writer) = stream.split();
        let mut busy = false;
        loop {
            self.handle_messages()?;
            self.stream()?;
            if !self.streams.is_empty() {
                self.moves.go().await;
            }
            let now = Instant::now();
            self.output.watch(now, idle);
            let pending = self.outstanding > 0 || !self.output.is_empty();
            if pending != busy {
                busy = pending;
                self.place.set_busy(busy);
            }
            if let Some(cut) = self.ending.filter(|_| !pending) {
                // So that the client learns of the end behind its last answer.
                let _ = writer.shutdown().await;
                return Ok(cut);
            }
            let reading = self.reads();
            self.partial = if reading && !self.input.is_empty() { self.partial.or(Some(now)) } else { None };
            let deadline = self.deadline(pending, idle);
            tokio::select! {
                biased;
                () = self.place.leave() => return Ok(Some(Cut::Displaced)),
                _ = stop.changed(), if self.ending.is_none() => self.ending = Some(None),
                Some(reply) = arrivals.recv(), if self.outstanding > 0 => {
                    self.take(reply)?;
                    // Whatever one commit acknowledged goes out together.
                    while let Ok(reply) = arrivals.try_recv() {
                        self.take(reply)?;
                    }
                }
                // Before writing, which would go on and on while a stream has messages that the client takes; what reading
                // leads to is bounded by [`OUTPUT`].
                read = read_some(&mut reader, &mut self.input), if reading => {
                    if read? == 0 {
                        self.ending = Some(None);
                    }
                }
                written = self.output.write(&mut writer), if !self.output.is_empty() => written?,
                cut = expire(deadline) => return Ok(Some(cut)),
            }
        }
    }

    /// Whether more is to be read.
    fn reads(&self) -> bool {
        self.ending.is_none() && self.handles()
    }

    /// Whether more may be handled.
    fn handles(&self) -> bool {
        self.outstanding < OUTSTANDING && self.streams.len() < STREAMS && self.output.len() < OUTPUT
    }

    /// Which deadline comes first, and what it means.
    fn deadline(&self, pending: bool, idle: std::time::Duration) -> Option<(Instant, Cut)> {
        let output = self.output.deadline.map(|(at, _)| (at, Cut::SlowReader));
        let message = self.partial.map(|since| (since + idle, Cut::SlowWriter));
        let nothing = (!pending && self.input.is_empty()).then(|| (self.active + idle, Cut::Idle));
        let stream = self.streams.front().map(|(_, since)| (*since + TRANSFER_PATIENCE, Cut::SlowReader));
        [output, message, nothing, stream].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Handles the messages that are there, as far as there is room for what comes of them.
    fn handle_messages(&mut self) -> io::Result<()> {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        // What was read before the client's end is answered; after a stop or a dropped request nothing more is.
        while self.handles()
            && !matches!(self.ending, Some(Some(_)))
            && let Some((message, tail)) = split_message(rest)
        {
            self.handle(message)?;
            rest = tail;
        }
        let consumed = input.len() - rest.len();
        self.input = input;
        if consumed > 0 {
            self.input.drain(..consumed);
            self.partial = None;
        }
        give_back(&mut self.input);
        Ok(())
    }

    fn handle(&mut self, message: &[u8]) -> io::Result<()> {
        let mut out = std::mem::take(&mut self.scratch);
        let (replies, outstanding) = (&self.replies, &mut self.outstanding);
        let mut complete = || -> Completion {
            *outstanding += 1;
            let pending = Pending(Some(replies.clone()));
            Box::new(move |octets| pending.complete(octets))
        };
        let since = std::time::Instant::now();
        let pushed = match self.handler.handle(message, self.peer, Transport::Tcp, &mut out, &mut complete) {
            Handled::Answered => {
                self.handler.answered(message, Transport::Tcp, since.elapsed());
                self.push(&out)
            }
            Handled::Nothing => Ok(()),
            Handled::Stream(messages) => {
                self.streams.push_back((messages, Instant::now()));
                Ok(())
            }
        };
        give_back(&mut out);
        self.scratch = out;
        pushed
    }

    /// Takes the next message of an answer that has several, once the client has taken most of what is there: as fast as it
    /// reads. Other answers go out in between.
    fn stream(&mut self) -> io::Result<()> {
        while self.output.len() < STREAMED
            && let Some((messages, _)) = self.streams.front_mut()
        {
            let mut out = std::mem::take(&mut self.scratch);
            if !messages.next(&mut out) {
                self.streams.pop_front();
            }
            self.output.compact();
            let pushed = self.push(&out);
            give_back(&mut out);
            self.scratch = out;
            pushed?;
            self.moves.give_way();
        }
        if self.streams.is_empty() && self.output.is_empty() {
            give_back(&mut self.output.octets);
        }
        Ok(())
    }

    /// A reply that had to wait, or word that there will be none: then the client is told by the end of the connection,
    /// after the answers that are still under way.
    fn take(&mut self, reply: Option<Vec<u8>>) -> io::Result<()> {
        self.outstanding -= 1;
        match reply {
            Some(octets) => self.push(&octets),
            None => {
                self.ending = Some(Some(Cut::Dropped));
                Ok(())
            }
        }
    }

    fn push(&mut self, message: &[u8]) -> io::Result<()> {
        self.active = Instant::now();
        let length = u16::try_from(message.len()).map_err(|_| io::Error::other("an answer exceeds 65535 octets"))?;
        self.output.octets.extend_from_slice(&length.to_be_bytes());
        self.output.octets.extend_from_slice(message);
        Ok(())
    }
}

impl Output {
    fn len(&self) -> usize {
        self.octets.len() - self.written
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whatever is here now has to be taken in this time.
    fn watch(&mut self, now: Instant, patience: std::time::Duration) {
        if self.is_empty() {
            self.deadline = None;
        } else if self.deadline.is_none_or(|(_, due)| self.written >= due) {
            self.deadline = Some((now + patience, self.octets.len()));
        }
    }

    async fn write(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        match writer.write(&self.octets[self.written..]).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => self.written += written,
        }
        if self.is_empty() {
            self.octets.clear();
            self.written = 0;
            // What is put here next, perhaps before anybody looks, has its own time.
            self.deadline = None;
        } else if self.written >= OUTPUT {
            // Behind a client that is never quite finished the buffer doesn't grow without end.
            self.compact();
        }
        Ok(())
    }

    /// Forgets what was written.
    fn compact(&mut self) {
        self.octets.drain(..self.written);
        self.deadline = self.deadline.map(|(at, due)| (at, due.saturating_sub(self.written)));
        self.written = 0;
    }
}

/// The first whole message, and what follows it.
fn split_message(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Reads what is there, up to [`INPUT`] octets beyond a message under way. May be dropped: nothing is lost.
async fn read_some(reader: &mut ReadHalf<'_>, input: &mut Vec<u8>) -> io::Result<usize> {
    let expected = input.first_chunk::<2>().map_or(0, |length| 2 + usize::from(u16::from_be_bytes(*length)));
    // Grows with what has come, not with what a length of two octets promises.
    let room = expected.saturating_sub(input.len()).clamp(1, input.len().max(INPUT)).max(INPUT);
    input.reserve(room);
    reader.read_buf(input).await
}

/// Ends when a deadline does.
async fn expire(deadline: Option<(Instant, Cut)>) -> Cut {
    match deadline {
        Some((at, cut)) => {
            tokio::time::sleep_until(at).await;
            cut
        }
        None => std::future::pending().await,
    }
}

fn give_back(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT && buffer.len() <= KEPT {
        buffer.shrink_to(KEPT);
    }
}

/// Tells a connection of a request's end exactly once, also when the request is dropped. The channel has a slot for each
/// that may be outstanding; a connection that is gone needs no word.
struct Pending(Option<mpsc::Sender<Option<Vec<u8>>>>);

impl Pending {
    fn complete(mut self, octets: Vec<u8>) {
        if let Some(replies) = self.0.take() {
            let _ = replies.try_send(Some(octets));
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(replies) = self.0.take() {
            let _ = replies.try_send(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A client that takes all of a message before the next one is made has taken what was due.
    #[tokio::test]
    async fn what_comes_after_everything_was_taken_has_a_deadline_of_its_own() {
        let start = Instant::now();
        let (mut output, mut taken) = (Output::default(), Vec::new());
        for seconds in [0, 6, 12, 18] {
            output.octets.extend_from_slice(&[7; 100]);
            let now = start + Duration::from_secs(seconds);
            output.watch(now, PATIENCE);
            assert_eq!(output.deadline.map(|(at, _)| at), Some(now + PATIENCE));
            while !output.is_empty() {
                output.write(&mut taken).await.unwrap();
            }
        }
        output.watch(start, PATIENCE);
        assert_eq!(output.deadline, None);
    }

    #[tokio::test]
    async fn what_is_due_is_taken_in_time_whatever_comes_behind_it() {
        let start = Instant::now();
        let mut output = Output::default();
        let mut first = None;
        for second in 0..8 {
            output.octets.extend_from_slice(&[7; 100]);
            output.watch(start + Duration::from_secs(second), PATIENCE);
            let deadline = output.deadline.map(|(at, _)| at);
            assert_eq!(*first.get_or_insert(deadline), deadline);
            let mut narrow = [0; 10];
            output.write(&mut io::Cursor::new(&mut narrow[..])).await.unwrap();
        }
    }
}
