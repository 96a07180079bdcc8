//! A load over UDP, or two of them from one thread.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;

use super::batch::{BATCH, Received, Sender, connect};
use super::exchange::{Clock, Exchange};
use super::slots::Slots;
use super::{Load, Outcome, Plan};

/// Sends a load and counts what comes back. Fails where nobody listens.
pub(crate) fn run<L: Load>(plan: &Plan, load: &mut L) -> io::Result<Outcome> {
    let mut flow = Flow::open(plan, load)?;
    let mut clock = Clock::start();
    while !flow.is_over() {
        let began = clock.now;
        if flow.turn(&mut clock)? {
            flow.exchange.outcome.wait(began, clock.now);
        }
    }
    Ok(flow.exchange.finish(&clock))
}

/// Sends two loads at once, in turn: two generators that never sleep would take the core from each other. CPU time and
/// waiting are those of both, in either outcome.
pub(crate) fn run_beside<L: Load, M: Load>(
    (plan, load): (&Plan, &mut L),
    (other_plan, other_load): (&Plan, &mut M),
) -> io::Result<(Outcome, Outcome)> {
    let (mut flow, mut other) = (Flow::open(plan, load)?, Flow::open(other_plan, other_load)?);
    let mut clock = Clock::start();
    while !flow.is_over() || !other.is_over() {
        let began = clock.now;
        if flow.turn(&mut clock)? & other.turn(&mut clock)? {
            flow.exchange.outcome.wait(began, clock.now);
            other.exchange.outcome.wait(began, clock.now);
        }
    }
    Ok((flow.exchange.finish(&clock), other.exchange.finish(&clock)))
}

/// A load with its sockets.
struct Flow<'l, L: Load> {
    exchange: Exchange<'l, L>,
    lanes: Vec<Lane<L::Task>>,
    received: Received,
    sender: Sender,
    /// When it is looked next what waits for too long.
    look: u64,
}

impl<'l, L: Load> Flow<'l, L> {
    fn open(plan: &'l Plan, load: &'l mut L) -> io::Result<Flow<'l, L>> {
        let lane = |_| Lane::open(plan);
        let lanes = (0..plan.sockets).map(lane).collect::<io::Result<_>>()?;
        let exchange = Exchange::new(plan, load);
        Ok(Flow { exchange, lanes, received: Received::new(), sender: Sender::new(), look: patience(plan) / 8 })
    }

    /// Takes what came and sends what is due. Tells whether there was neither.
    fn turn(&mut self, clock: &mut Clock) -> io::Result<bool> {
        let mut idle = true;
        // What is due goes out on each socket in turn.
        self.lanes.rotate_left(1);
        for lane in &mut self.lanes {
            if lane.slots.flying() > 0 {
                self.received.receive(&lane.socket)?;
                clock.look();
                for answer in self.received.messages() {
                    idle = false;
                    lane.take_answer(answer, clock.now, &mut self.exchange);
                }
            }
            lane.fill(clock.now, &mut self.exchange);
            idle &= lane.send(&mut self.sender, clock.now)? == 0;
        }
        let (now, patience) = (clock.look(), patience(self.exchange.plan));
        if now >= self.look {
            self.look = now + patience / 8;
            for lane in &mut self.lanes {
                lane.give_up(now.saturating_sub(patience), &mut self.exchange);
            }
        }
        self.exchange.end_in_time(now);
        Ok(idle)
    }

    fn is_over(&self) -> bool {
        !self.exchange.sending && self.lanes.iter().all(|lane| lane.slots.flying() == 0)
    }
}

fn patience(plan: &Plan) -> u64 {
    plan.patience.as_nanos() as u64
}

/// One socket with its part of the window.
struct Lane<T> {
    socket: UdpSocket,
    slots: Slots<T>,
    /// Written, and to be sent now.
    ready: VecDeque<usize>,
}

impl<T: Default> Lane<T> {
    fn open(plan: &Plan) -> io::Result<Lane<T>> {
        let slots = Slots::new(plan.window_of_each());
        Ok(Lane { socket: connect(plan.server)?, slots, ready: VecDeque::new() })
    }

    fn take_answer<L: Load<Task = T>>(&mut self, answer: &[u8], now: u64, exchange: &mut Exchange<'_, L>) {
        if let Some(number) = exchange.take_answer(&mut self.slots, answer, now) {
            // One that was about to be sent again needn't be.
            self.ready.retain(|&ready| ready != number);
        }
    }

    /// Writes what the window and the rate allow.
    fn fill<L: Load<Task = T>>(&mut self, now: u64, exchange: &mut Exchange<'_, L>) {
        while self.ready.len() < BATCH
            && let Some(number) = exchange.write(&mut self.slots, now)
        {
            self.ready.push_back(number);
        }
    }

    fn send(&mut self, sender: &mut Sender, now: u64) -> io::Result<usize> {
        if self.ready.is_empty() {
            return Ok(0);
        }
        let messages = self.ready.iter().map(|&number| self.slots.slot(number).message.as_slice());
        let sent = sender.send(&self.socket, messages)?;
        for number in self.ready.drain(..sent) {
            let slot = self.slots.slot_mut(number);
            slot.last = now;
            slot.attempts += 1;
        }
        Ok(sent)
    }

    /// Sends again, or gives up, what was sent before a time.
    fn give_up<L: Load<Task = T>>(&mut self, before: u64, exchange: &mut Exchange<'_, L>) {
        for number in self.slots.sent_before(before) {
            if self.ready.contains(&number) {
                continue;
            }
            if self.slots.slot(number).attempts < exchange.plan.attempts {
                exchange.outcome.retransmitted += 1;
                self.ready.push_back(number);
            } else {
                exchange.lose(&mut self.slots, number);
            }
        }
    }
}
