//! A load over TCP connections that stay, several messages in flight on each.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::slots::Slots;
use super::{Load, Outcome, Plan, thread_cpu};

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
    let mut outcome = Outcome::default();
    let cpu = thread_cpu();
    let start = Instant::now();
    let elapsed = || start.elapsed().as_nanos() as u64;
    let end = plan.duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64);
    let patience = plan.patience.as_nanos() as u64;
    let (mut now, mut sending) = (elapsed(), true);
    loop {
        let began = now;
        let mut idle = true;
        for connection in &mut connections {
            idle &= connection.receive()? == 0;
            now = elapsed();
            connection.take_answers(now, load, &mut outcome);
            if sending {
                connection.fill(plan, now, load, &mut outcome);
            }
            connection.send()?;
        }
        now = elapsed();
        if idle {
            outcome.wait(began, now);
        }
        if sending && (now >= end || load.is_done()) {
            sending = false;
            (outcome.took, outcome.in_time) = (Duration::from_nanos(now), outcome.answered);
        }
        let flying: usize = connections.iter().map(|connection| connection.slots.flying()).sum();
        let late = plan.duration.is_some() && now > end.saturating_add(patience);
        if !sending && (flying == 0 || late) {
            outcome.lost = flying as u64;
            break;
        }
    }
    outcome.cpu = thread_cpu() - cpu;
    outcome.waited = outcome.waited.min(outcome.cpu);
    Ok(outcome)
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

    fn take_answers<L: Load<Task = T>>(&mut self, now: u64, load: &mut L, outcome: &mut Outcome) {
        while let Some(length) =
            self.input[self.read..self.filled].first_chunk().map(|&length| u16::from_be_bytes(length))
        {
            let start = self.read + 2;
            let Some(answer) = self.input[..self.filled].get(start..start + usize::from(length)) else { break };
            self.read = start + answer.len();
            let Some(number) = self.slots.answered_by(answer) else {
                outcome.stray += 1;
                continue;
            };
            let slot = self.slots.slot(number);
            if !load.read(slot, answer) {
                outcome.mismatched += 1;
                continue;
            }
            outcome.count(answer, now.saturating_sub(slot.first));
            self.slots.give_back(number);
        }
        self.input.copy_within(self.read..self.filled, 0);
        self.filled -= self.read;
        self.read = 0;
    }

    fn fill<L: Load<Task = T>>(&mut self, plan: &Plan, now: u64, load: &mut L, outcome: &mut Outcome) {
        loop {
            let due = plan.due(outcome.sent);
            if due.is_some_and(|due| due > now) {
                return;
            }
            let Some(number) = self.slots.take() else { return };
            let slot = self.slots.slot_mut(number);
            if !load.write(slot) {
                self.slots.give_back(number);
                return;
            }
            slot.first = due.unwrap_or(now);
            self.out.extend((slot.message.len() as u16).to_be_bytes());
            self.out.extend(&slot.message);
            outcome.sent += 1;
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
