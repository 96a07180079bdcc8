//! What an agent does about one service, and when: events and times go in, actions and the next deadline come out. It
//! opens no socket and reads no clock; [`super::drive`] does.
//!
//! Three questions decide what is to be sent. Is the service well ([`super::health`])? Are its contents fit to be seen
//! (the rule of joining, below)? Has somebody asked for the end? From them follows what is aimed at: present, absent,
//! draining, or gone. Each *seat*, a place where the member is registered, is brought there by orders, one under way at a
//! time. There is one seat for all servers, which are tried in turn, or one for each (`--all-servers`).
//!
//! **A lapse.** A seat's lease is known to run until the granted lease after the moment at which its last acknowledged
//! registration was sent: the server counts from a later moment, so a lapse is noticed here first. A member of which no
//! seat is known to run is lapsed, as it is when it was withdrawn since its checks failed. So is one whose registration was not
//! answered: it may have been seen for a lease.
//!
//! **Joining.** What a member has in memory may be stale when clients did without it for a while: before it registers at the
//! start, which knows of nothing before it, and after each lapse and withdrawal, the on-join command must have succeeded. It
//! runs only once a server has answered, and not where that server still publishes the member: an outage of the servers that
//! is longer than the lease leaves the answers that clients have as they were, and had better not empty every cache. It
//! also runs when a server grants another slot than before.
//!
//! **Failing over.** A server that doesn't answer, or refuses, makes the seat turn to its next one, at once until all were
//! tried, then with back-off. Nothing is withdrawn for that.
//!
//! Bounds: one order a seat, one check and one join command are under way at most.

mod ending;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Monotonic;

use super::health::Health;
use super::jitter::Jitter;

use ending::Stop;

pub use terms::{Action, Event, Order, Plan, Reply};

/// The first pause after all servers failed; it doubles from then on.
const BACK_OFF: Duration = Duration::from_millis(250);
/// The longest pause while no lease is at stake: a server that comes back is found within it, and is not overrun.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(15);
/// The longest pause of whoever leaves, since somebody waits for that.
const LEAVING_BACK_OFF: Duration = Duration::from_secs(1);
/// How far a renewal may be off its third of the lease.
const RENEWAL_SHARE: f64 = 0.1;
/// The same of back-off, which has to spread those who failed together.
const BACK_OFF_SHARE: f64 = 0.25;

/// What is aimed at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aim {
    Present,
    Absent,
    Draining,
    Gone,
}

/// How far the contents are fit to be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Join {
    /// The command has to run. `lapsed`: unless a server still publishes the member.
    Needed { lapsed: bool },
    /// It runs. `void`: what it does comes too early.
    Running { void: bool },
    /// It failed, and runs again then.
    Failed { again: Monotonic },
    /// They are.
    Done,
}

/// An order under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Flight {
    order: Order,
    sent: Monotonic,
    content: u64,
}

/// A place where the member is registered.
#[derive(Clone, Debug)]
struct Seat {
    servers: Vec<usize>,
    turn: usize,
    flight: Option<Flight>,
    /// What was granted last, or is asked for.
    lease: Duration,
    /// Until when the lease is known to run.
    held: Option<Monotonic>,
    /// Until when the server may have the member: a registration without an answer counts.
    doubtful: Option<Monotonic>,
    due: Monotonic,
    failures: u32,
    /// What was registered there last, and answered.
    content: Option<u64>,
    drained: bool,
}

/// The agent of one service.
#[derive(Debug)]
pub struct Machine {
    plan: Plan,
    health: Health,
    join: Join,
    join_failures: u32,
    stop: Stop,
    seats: Vec<Seat>,
    /// Counts what is registered; 0 as long as no address is known.
    content: u64,
    slot: Option<String>,
    ready: bool,
    earliest: Monotonic,
    /// When the end must be over, once it was asked for.
    end: Option<Monotonic>,
    jitter: Jitter,
    actions: VecDeque<Action>,
}

impl Machine {
    /// A machine that starts now. Nothing is registered before [`Event::Addressed`].
    pub fn new(plan: Plan, health: Health, mut jitter: Jitter, now: Monotonic) -> Machine {
        let earliest = now.after(jitter.up_to(plan.initial_delay));
        let places: Vec<Vec<usize>> = match plan.all_servers {
            true => (0..plan.servers).map(|server| vec![server]).collect(),
            false => vec![(0..plan.servers).collect()],
        };
        let seat = |servers| Seat {
            servers,
            turn: 0,
            flight: None,
            lease: plan.lease,
            held: None,
            doubtful: None,
            due: now,
            failures: 0,
            content: None,
            drained: false,
        };
        let seats = places.into_iter().map(seat).collect();
        let join = if plan.joins { Join::Needed { lapsed: false } } else { Join::Done };
        let mut machine = Machine {
            plan,
            health,
            join,
            join_failures: 0,
            stop: Stop::No,
            seats,
            content: 0,
            slot: None,
            ready: false,
            earliest,
            end: None,
            jitter,
            actions: VecDeque::new(),
        };
        machine.advance(now);
        machine
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Monotonic) {
        match event {
            Event::Checked(well) => {
                let before = self.health.is_well();
                self.health.checked(well, now);
                if before != self.health.is_well() {
                    // Both coming and going are worth no delay.
                    self.hurry(now);
                }
            }
            Event::Joined(succeeded) => self.joined(succeeded, now),
            Event::Told { seat, reply } => self.told(seat, reply, now),
            Event::Addressed => {
                self.content += 1;
                self.hurry(now);
            }
            Event::Stop => self.stop(now),
            Event::Safe(safe) => {
                if matches!(self.stop, Stop::Draining { .. }) {
                    self.leave(safe, now);
                }
            }
        }
        self.advance(now);
    }

    /// When [`Machine::advance`] has something to do next; `None` as long as only an event can bring that.
    pub fn deadline(&self) -> Option<Monotonic> {
        if self.stop == Stop::Ended {
            return None;
        }
        let stop = match self.stop {
            Stop::Draining { until, .. } | Stop::Leaving { until, .. } => Some(until),
            Stop::No | Stop::Ended => None,
        };
        let check = self.health.due().filter(|_| self.stop == Stop::No);
        let join = match self.join {
            Join::Failed { again } if self.aim() == Aim::Present => Some(again),
            _ => None,
        };
        let orders = self.seats.iter().filter_map(|seat| self.wanted(seat)).map(|(at, _)| at);
        let ends = self.seats.iter().flat_map(|seat| [seat.held, seat.doubtful]).flatten();
        orders.chain(ends).chain(stop).chain(check).chain(join).min()
    }

    /// Does what is due.
    pub fn advance(&mut self, now: Monotonic) {
        self.lapse(now);
        if self.stop == Stop::No && self.health.begin(now) {
            self.actions.push_back(Action::Check);
        }
        let aim = self.aim();
        if aim == Aim::Absent {
            self.withdraw();
        }
        if let (Join::Failed { again }, Aim::Present) = (self.join, aim)
            && again <= now
        {
            self.run_join();
        }
        match self.stop {
            Stop::Draining { until, .. } if until <= now => self.leave(false, now),
            _ => {}
        }
        for at in 0..self.seats.len() {
            let Some((due, order)) = self.wanted(&self.seats[at]) else { continue };
            if due <= now {
                self.send(at, order, now);
            }
        }
        self.wind_up(now);
    }

    fn aim(&self) -> Aim {
        match self.stop {
            Stop::Draining { .. } => Aim::Draining,
            Stop::Leaving { .. } | Stop::Ended => Aim::Gone,
            Stop::No if self.health.is_well() => Aim::Present,
            Stop::No => Aim::Absent,
        }
    }

    /// What is registered no longer counts, whether or not a server could be told so yet.
    fn withdraw(&mut self) {
        self.seats.iter_mut().for_each(|seat| (seat.held, seat.content) = (None, None));
        if self.plan.joins {
            self.join = match self.join {
                Join::Running { .. } => Join::Running { void: true },
                _ => Join::Needed { lapsed: false },
            };
        }
    }

    /// Whether some lease is known to run.
    fn is_held(&self) -> bool {
        self.seats.iter().any(|seat| seat.held.is_some())
    }

    /// Whether the service is registered and well, for the status line.
    pub fn is_registered(&self) -> bool {
        self.aim() == Aim::Present && self.is_held()
    }

    /// What a seat would send next, and when.
    fn wanted(&self, seat: &Seat) -> Option<(Monotonic, Order)> {
        if seat.flight.is_some() {
            return None;
        }
        match self.aim() {
            Aim::Present if self.content == 0 => None,
            Aim::Present => match self.join {
                // Where the member is seen already, its lease doesn't wait for the command.
                _ if self.is_held() => Some((seat.due, self.registration(seat))),
                Join::Done => Some((seat.due.max(self.earliest), self.registration(seat))),
                Join::Needed { .. } => Some((seat.due.max(self.earliest), Order::Ask)),
                Join::Running { .. } | Join::Failed { .. } => None,
            },
            Aim::Draining => seat.doubtful.map(|_| (seat.due, Order::Drain)),
            Aim::Absent | Aim::Gone => seat.doubtful.map(|_| (seat.due, Order::Deregister)),
        }
    }

    fn registration(&self, seat: &Seat) -> Order {
        Order::Register { anew: seat.content != Some(self.content) }
    }

    fn send(&mut self, at: usize, order: Order, now: Monotonic) {
        let seat = &mut self.seats[at];
        if matches!(order, Order::Register { .. } | Order::Drain) {
            let end = now.after(seat.lease);
            seat.doubtful = Some(seat.doubtful.map_or(end, |before| before.max(end)));
        }
        seat.flight = Some(Flight { order, sent: now, content: self.content });
        let server = seat.servers[seat.turn];
        self.actions.push_back(Action::Send { seat: at, server, order });
    }

    fn told(&mut self, at: usize, reply: Option<Reply>, now: Monotonic) {
        let Some(flight) = self.seats[at].flight.take() else { return };
        let is_registration = matches!(flight.order, Order::Register { .. });
        let reply = match reply {
            Some(Reply::Refused) => return self.failed(at, now),
            Some(reply) => reply,
            None => {
                // The member may have been seen, and may have lapsed since.
                if is_registration && self.plan.joins && self.join == Join::Done && !self.is_held() {
                    self.join = Join::Needed { lapsed: true };
                }
                return self.failed(at, now);
            }
        };
        self.seats[at].failures = 0;
        let aim = self.aim();
        match (flight.order, reply) {
            (Order::Ask, reply) => {
                if let Join::Needed { lapsed } = self.join {
                    match lapsed && reply == Reply::Published(true) {
                        true => self.fit(now),
                        false => self.run_join(),
                    }
                }
            }
            (Order::Register { .. }, Reply::Granted { lease, slot, .. }) => {
                self.renewed(at, &flight, lease);
                self.seats[at].content = Some(flight.content);
                if flight.content != self.content || aim != Aim::Present {
                    self.seats[at].due = now; // something else is to be said by now
                }
                if !std::mem::replace(&mut self.ready, true) {
                    self.actions.push_back(Action::Ready);
                }
                // Whoever gets another's place has none of what that one had.
                if slot.is_some() && self.slot.is_some() && slot != self.slot && self.plan.joins {
                    self.run_join();
                }
                self.slot = slot.or(self.slot.take());
            }
            (Order::Drain, reply) => {
                let lease = if let Reply::Granted { lease, .. } = reply { lease } else { None };
                self.renewed(at, &flight, lease);
                self.seats[at].drained = true;
                if aim != Aim::Draining {
                    self.seats[at].due = now;
                }
            }
            (Order::Deregister, _) => {
                let seat = &mut self.seats[at];
                (seat.held, seat.doubtful, seat.content) = (None, None, None);
            }
            (Order::Register { .. }, _) => self.failed(at, now),
        }
    }

    /// The lease runs from when the order was sent; it is renewed at about a third.
    fn renewed(&mut self, at: usize, flight: &Flight, lease: Option<Duration>) {
        let seat = &mut self.seats[at];
        seat.lease = lease.unwrap_or(self.plan.lease);
        let end = flight.sent.after(seat.lease);
        (seat.held, seat.doubtful) = (Some(end), Some(end));
        seat.due = flight.sent.after(self.jitter.around(seat.lease / 3, RENEWAL_SHARE));
    }

    fn failed(&mut self, at: usize, now: Monotonic) {
        let aim = self.aim();
        let seat = &mut self.seats[at];
        seat.failures = seat.failures.saturating_add(1);
        seat.turn = (seat.turn + 1) % seat.servers.len();
        let rounds = seat.failures / u32::try_from(seat.servers.len()).unwrap_or(u32::MAX);
        if !(seat.failures as usize).is_multiple_of(seat.servers.len()) {
            seat.due = now;
            return;
        }
        let longest = match (aim, seat.held) {
            (Aim::Present, None) => LONGEST_BACK_OFF,
            (Aim::Present, Some(_)) => (seat.lease / 6).max(BACK_OFF),
            _ => LEAVING_BACK_OFF,
        };
        let pause = BACK_OFF.saturating_mul(1 << rounds.saturating_sub(1).min(16)).min(longest);
        seat.due = now.after(self.jitter.around(pause, BACK_OFF_SHARE));
    }

    /// Forgets what has ended.
    fn lapse(&mut self, now: Monotonic) {
        let was_held = self.is_held();
        for seat in &mut self.seats {
            if seat.held.is_some_and(|end| end <= now) {
                (seat.held, seat.content) = (None, None);
            }
            seat.doubtful = seat.doubtful.filter(|&end| now < end);
        }
        if was_held && !self.is_held() && self.plan.joins && self.join == Join::Done {
            self.join = Join::Needed { lapsed: true };
        }
    }

    fn run_join(&mut self) {
        self.join = Join::Running { void: false };
        self.actions.push_back(Action::Join);
    }

    /// The contents are fit to be seen.
    fn fit(&mut self, now: Monotonic) {
        self.join = Join::Done;
        self.join_failures = 0;
        if !self.is_held() {
            self.hurry(now);
        }
    }

    fn joined(&mut self, succeeded: bool, now: Monotonic) {
        let Join::Running { void } = self.join else { return };
        if void {
            self.join = Join::Needed { lapsed: false };
        } else if succeeded {
            self.fit(now);
        } else {
            let pause = BACK_OFF.saturating_mul(1 << self.join_failures.min(16)).min(LONGEST_BACK_OFF);
            self.join_failures += 1;
            self.join = Join::Failed { again: now.after(self.jitter.around(pause, BACK_OFF_SHARE)) };
        }
    }

    /// Lets every seat act at once.
    fn hurry(&mut self, now: Monotonic) {
        self.seats.iter_mut().for_each(|seat| seat.due = now);
    }
}
