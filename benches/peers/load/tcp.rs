//! A load over TCP connections that stay, several messages in flight on each.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use super::exchange::{Clock, Exchange};
use super::slots::Slots;
use super::{Load, Outcome, Plan};

/// Read at a time: a window of large answers.
const READ_OCTETS: usize = 1 << 18;

struct Connection<T> {
    stream: TcpStream,
    slots: Slots<T>,
    /// Framed messages that the kernel hasn't taken yet.
    out: Vec<u8>,
    taken: usize,
    /// What came in, up to `filled`; whole messages before `read` were taken.
    input: Vec<u8>,
    read: usize,
    filled: usize,
}

/// Sends a load and counts what comes back. Fails if a connection can't be made, or ends.
pub(crate) fn run<L: Load>(plan: &Plan, load: &mut L) -> io::Result<Outcome> {
    let mut connections =
        (0..plan.sockets).map(|_| Connection::open(plan)).collect::<io::Result<Vec<Connection<L::Task>>>>()?;
    let mut exchange = Exchange::new(plan, load);
    let patience = plan.patience.as_nanos() as u64;
    let mut clock = Clock::start();
    loop {
        let began = clock.now;
        let mut idle = true;
        for connection in &mut connections {
            idle &= connection.receive()? == 0;
            clock.look();
            connection.take_answers(clock.now, &mut exchange);
            connection.fill(clock.now, &mut exchange);
            connection.send()?;
        }
        let now = clock.look();
        if idle {
            exchange.outcome.wait(began, now);
        }
        exchange.end_in_time(now);
        let flying: usize = connections.iter().map(|connection| connection.slots.flying()).sum();
        let late = plan.duration.is_some() && now > exchange.end().saturating_add(patience);
        if !exchange.sending && (flying == 0 || late) {
            exchange.outcome.lost = flying as u64;
            return Ok(exchange.finish(&clock));
        }
    }
}

impl<T: Default> Connection<T> {
    fn open(plan: &Plan) -> io::Result<Connection<T>> {
        let stream = TcpStream::connect(plan.server)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            slots: Slots::new(plan.window_of_each()),
            out: Vec::new(),
            taken: 0,
            input: vec![0; READ_OCTETS],
            read: 0,
            filled: 0,
        })
    }

    fn receive(&mut self) -> io::Result<usize> {
        if self.slots.flying() == 0 {
            return Ok(0);
        }
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(octets) => {
                self.filled += octets;
                Ok(octets)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn take_answers<L: Load<Task = T>>(&mut self, now: u64, exchange: &mut Exchange<'_, L>) {
        while let Some(length) =
            self.input[self.read..self.filled].first_chunk().map(|&length| u16::from_be_bytes(length))
        {
            let start = self.read + 2;
            let Some(answer) = self.input[..self.filled].get(start..start + usize::from(length)) else { break };
            self.read = start + answer.len();
            exchange.take_answer(&mut self.slots, answer, now);
        }
        self.input.copy_within(self.read..self.filled, 0);
        self.filled -= self.read;
        self.read = 0;
    }

    fn fill<L: Load<Task = T>>(&mut self, now: u64, exchange: &mut Exchange<'_, L>) {
        while let Some(number) = exchange.write(&mut self.slots, now) {
            let slot = self.slots.slot_mut(number);
            slot.attempts = 1;
            self.out.extend((slot.message.len() as u16).to_be_bytes());
            self.out.extend(&slot.message);
        }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.taken == self.out.len() {
            return Ok(());
        }
        match self.stream.write(&self.out[self.taken..]) {
            Ok(octets) => self.taken += octets,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if self.taken == self.out.len() {
            self.out.clear();
            self.taken = 0;
        }
        Ok(())
    }
}
