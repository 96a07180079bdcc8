//! A load over UDP.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::batch::{BATCH, Received, Sender, connect};
use super::slots::Slots;
use super::{Load, Outcome, Plan, thread_cpu};

/// One socket with its part of the window.
struct Lane<T> {
    socket: UdpSocket,
    slots: Slots<T>,
    /// Written, and to be sent now.
    ready: VecDeque<usize>,
}

/// Sends a load and counts what comes back. Fails where nobody listens.
pub(crate) fn run<L: Load>(plan: &Plan, load: &mut L) -> io::Result<Outcome> {
    let mut lanes = (0..plan.sockets)
        .map(|_| {
            let slots = Slots::new(plan.window_of_each());
            Ok(Lane { socket: connect(plan.server)?, slots, ready: VecDeque::new() })
        })
        .collect::<io::Result<Vec<Lane<L::Task>>>>()?;
    let (mut received, mut sender) = (Received::new(), Sender::new());
    let mut outcome = Outcome::default();
    let patience = plan.patience.as_nanos() as u64;
    let cpu = thread_cpu();
    let start = Instant::now();
    let elapsed = || start.elapsed().as_nanos() as u64;
    let end = plan.duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64);
    let (mut now, mut look, mut sending) = (elapsed(), patience / 8, true);
    loop {
        let began = now;
        let mut idle = true;
        // What is due goes out on each socket in turn.
        lanes.rotate_left(1);
        for lane in &mut lanes {
            if lane.slots.flying() > 0 {
                received.receive(&lane.socket)?;
                now = elapsed();
                for answer in received.messages() {
                    idle = false;
                    lane.take_answer(answer, now, load, &mut outcome);
                }
            }
            if sending {
                lane.fill(plan, now, load, &mut outcome);
            }
            idle &= lane.send(&mut sender, now)? == 0;
        }
        now = elapsed();
        if idle {
            outcome.wait(began, now);
        }
        if now >= look {
            look = now + patience / 8;
            for lane in &mut lanes {
                lane.give_up(plan, now.saturating_sub(patience), load, &mut outcome);
            }
        }
        if sending && (now >= end || load.is_done()) {
            sending = false;
            (outcome.took, outcome.in_time) = (Duration::from_nanos(now), outcome.answered);
        }
        if !sending && lanes.iter().all(|lane| lane.slots.flying() == 0) {
            break;
        }
    }
    outcome.cpu = thread_cpu() - cpu;
    outcome.waited = outcome.waited.min(outcome.cpu);
    Ok(outcome)
}

impl<T: Default> Lane<T> {
    fn take_answer<L: Load<Task = T>>(&mut self, answer: &[u8], now: u64, load: &mut L, outcome: &mut Outcome) {
        let Some(number) = self.slots.answered_by(answer) else {
            outcome.stray += 1;
            return;
        };
        let slot = self.slots.slot(number);
        if slot.attempts == 0 || !load.read(slot, answer) {
            outcome.mismatched += 1;
            return;
        }
        outcome.count(answer, now.saturating_sub(slot.first));
        // One that was about to be sent again needn't be.
        self.ready.retain(|&ready| ready != number);
        self.slots.give_back(number);
    }

    /// Writes what the window and the rate allow.
    fn fill<L: Load<Task = T>>(&mut self, plan: &Plan, now: u64, load: &mut L, outcome: &mut Outcome) {
        while self.ready.len() < BATCH {
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
            self.ready.push_back(number);
            outcome.sent += 1;
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
    fn give_up<L: Load<Task = T>>(&mut self, plan: &Plan, before: u64, load: &mut L, outcome: &mut Outcome) {
        for number in self.slots.sent_before(before) {
            if self.ready.contains(&number) {
                continue;
            }
            let slot = self.slots.slot(number);
            if slot.attempts < plan.attempts {
                outcome.retransmitted += 1;
                self.ready.push_back(number);
            } else {
                outcome.lost += 1;
                load.lose(&slot.task);
                self.slots.give_back(number);
            }
        }
    }
}
