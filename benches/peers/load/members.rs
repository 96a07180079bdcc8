//! Updates: members that register, renew and go, each message another one and signed by itself.
//!
//! A member is an SRV, an A and an AAAA record in one message, with the Update Lease option. Its removal deletes its SRV
//! record and all of its host's name. A heartbeat is its registration again, octet for octet but for id and signature.

use std::collections::VecDeque;

use super::Load;
use super::message::{A, AAAA, ANY, IN, NONE, SRV, below_zone, change, copy_with_id, name, options, update};
use super::slots::Slot;
use super::tsig::{MAC_OCTETS, Signer};

/// The EDNS option Update Lease (RFC 9664).
const UPDATE_LEASE: u16 = 2;
const TTL: u32 = 5;
const OPCODE_UPDATE: u8 = 5;

/// Who registers: names, and how their messages look.
#[derive(Clone)]
pub(crate) struct Members {
    pub(crate) zone: String,
    /// What their services are called, before a number.
    pub(crate) label: &'static str,
    /// Services that they are spread over.
    pub(crate) services: u32,
    /// Stands in their names unless it is 0, so that two runs have different members.
    pub(crate) run: u32,
    /// Seconds; `None` without the option, for a server that refuses it.
    pub(crate) lease: Option<u32>,
    pub(crate) signer: Option<Signer>,
    /// Whether the signatures of answers are verified.
    pub(crate) verify: bool,
}

impl Members {
    /// The registration, with id 0 and not signed.
    pub(crate) fn registration(&self, number: u32) -> Vec<u8> {
        let mut message = update(&self.zone);
        self.add(&mut message, number);
        self.ask_for_lease(&mut message);
        message
    }

    /// The registration of several in one message.
    fn registrations(&self, numbers: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut message = update(&self.zone);
        numbers.for_each(|number| self.add(&mut message, number));
        self.ask_for_lease(&mut message);
        message
    }

    fn add(&self, message: &mut Vec<u8>, number: u32) {
        let host = below_zone(&self.host(number));
        change(message, &below_zone(&self.service(number)), SRV, IN, TTL, &self.srv(number));
        // Of 10.0.0.0/8, and of fd00::/8 where there is room for all.
        let address = (0x0a00_0000 | number & 0xff_ffff).to_be_bytes();
        change(message, &host, A, IN, TTL, &address);
        let address = u128::from(0xfd00_0053u32) << 96 | u128::from(self.run) << 32 | u128::from(number);
        change(message, &host, AAAA, IN, TTL, &address.to_be_bytes());
    }

    /// The removal, with id 0 and not signed.
    fn removal(&self, number: u32) -> Vec<u8> {
        let mut message = update(&self.zone);
        change(&mut message, &below_zone(&self.service(number)), SRV, NONE, 0, &self.srv(number));
        change(&mut message, &below_zone(&self.host(number)), ANY, ANY, 0, &[]);
        self.ask_for_lease(&mut message);
        message
    }

    fn ask_for_lease(&self, message: &mut Vec<u8>) {
        if let Some(lease) = self.lease {
            let option = [&UPDATE_LEASE.to_be_bytes()[..], &[0, 4], &lease.to_be_bytes()].concat();
            options(message, 1232, &option);
        }
    }

    /// A member's service, below the zone.
    pub(crate) fn service(&self, number: u32) -> String {
        format!("_{}{:04}._tcp", self.label, number % self.services)
    }

    /// Its host name, below the zone.
    pub(crate) fn host(&self, number: u32) -> String {
        let (service, member) = (number % self.services, number / self.services);
        let run = if self.run == 0 { String::new() } else { format!("{:x}-", self.run) };
        format!("i-{run}{member:04}.{}{service:04}", self.label)
    }

    fn srv(&self, number: u32) -> Vec<u8> {
        let fields = [0u16, 100, 11211].into_iter().flat_map(u16::to_be_bytes);
        // Not compressed (RFC 2782).
        fields.chain(name(&format!("{}.{}", self.host(number), self.zone))).collect()
    }

    /// Puts a message into a slot, and signs it.
    fn write(&self, slot: &mut Slot<Task>, message: &[u8], change: Change) {
        copy_with_id(&mut slot.message, message, slot.id);
        slot.task.change = change;
        if let Some(signer) = &self.signer {
            slot.task.mac = signer.sign(&mut slot.message);
        }
    }

    /// Whether an answer is one of an update, and, if that is asked for, signed rightly.
    fn accept(&self, slot: &Slot<Task>, answer: &[u8]) -> bool {
        let right = |signer: &Signer| signer.verify(answer, &slot.task.mac);
        answer[2] >> 3 & 15 == OPCODE_UPDATE && (!self.verify || self.signer.as_ref().is_none_or(right))
    }
}

/// What a message does.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Change {
    #[default]
    Renewal,
    Registration(u32),
    Removal,
}

/// An update in flight.
#[derive(Clone, Default)]
pub(crate) struct Task {
    change: Change,
    mac: [u8; MAC_OCTETS],
}

/// Messages that are sent once each.
pub(crate) struct Pass<'m> {
    members: &'m Members,
    messages: VecDeque<Vec<u8>>,
    open: usize,
}

impl<'m> Pass<'m> {
    /// A registration a member.
    pub(crate) fn registering(members: &'m Members, numbers: impl IntoIterator<Item = u32>) -> Pass<'m> {
        Pass::new(members, numbers.into_iter().map(|number| members.registration(number)))
    }

    /// A registration a service, of all its members.
    pub(crate) fn registering_services(members: &'m Members, each: u32) -> Pass<'m> {
        let of_service = |service| (0..each).map(move |number| service + number * members.services);
        Pass::new(members, (0..members.services).map(|service| members.registrations(of_service(service))))
    }

    /// A removal a member.
    pub(crate) fn removing(members: &'m Members, numbers: impl IntoIterator<Item = u32>) -> Pass<'m> {
        Pass::new(members, numbers.into_iter().map(|number| members.removal(number)))
    }

    fn new(members: &'m Members, messages: impl Iterator<Item = Vec<u8>>) -> Pass<'m> {
        let messages: VecDeque<Vec<u8>> = messages.collect();
        Pass { members, open: messages.len(), messages }
    }
}

impl Load for Pass<'_> {
    type Task = Task;

    fn write(&mut self, slot: &mut Slot<Task>) -> bool {
        let Some(message) = self.messages.pop_front() else { return false };
        self.members.write(slot, &message, Change::Renewal);
        true
    }

    fn read(&mut self, slot: &Slot<Task>, answer: &[u8]) -> bool {
        let accepted = self.members.accept(slot, answer);
        self.open -= usize::from(accepted);
        accepted
    }

    fn lose(&mut self, _: &Task) {
        self.open -= 1;
    }

    fn is_done(&self) -> bool {
        self.open == 0
    }
}

/// Members that are there and renew their leases in turn, without an end.
pub(crate) struct Heartbeats {
    members: Members,
    messages: Vec<Vec<u8>>,
    next: usize,
}

impl Heartbeats {
    /// Of members that registered.
    pub(crate) fn new(members: Members, count: u32) -> Heartbeats {
        let messages = (0..count).map(|number| members.registration(number)).collect();
        Heartbeats { members, messages, next: 0 }
    }
}

impl Load for Heartbeats {
    type Task = Task;

    fn write(&mut self, slot: &mut Slot<Task>) -> bool {
        self.members.write(slot, &self.messages[self.next], Change::Renewal);
        self.next = (self.next + 1) % self.messages.len();
        true
    }

    fn read(&mut self, slot: &Slot<Task>, answer: &[u8]) -> bool {
        self.members.accept(slot, answer)
    }

    fn lose(&mut self, _: &Task) {}
}

/// New members, each of which goes after `standing` others have come.
pub(crate) struct Registrations {
    members: Members,
    standing: u32,
    next: u32,
    /// Registered, or on their way, and not removed.
    present: u32,
    acknowledged: VecDeque<u32>,
}

impl Registrations {
    pub(crate) fn new(members: Members, standing: u32) -> Registrations {
        Registrations { members, standing, next: 0, present: 0, acknowledged: VecDeque::new() }
    }

    /// Members that were registered and not removed.
    pub(crate) fn left(&self) -> impl Iterator<Item = u32> {
        self.acknowledged.iter().copied()
    }
}

impl Load for Registrations {
    type Task = Task;

    fn write(&mut self, slot: &mut Slot<Task>) -> bool {
        // Only who is known to be there is removed, since datagrams may overtake each other.
        let gone = if self.present > self.standing { self.acknowledged.pop_front() } else { None };
        if let Some(number) = gone {
            self.present -= 1;
            self.members.write(slot, &self.members.removal(number), Change::Removal);
        } else {
            self.members.write(slot, &self.members.registration(self.next), Change::Registration(self.next));
            self.next += 1;
            self.present += 1;
        }
        true
    }

    fn read(&mut self, slot: &Slot<Task>, answer: &[u8]) -> bool {
        let accepted = self.members.accept(slot, answer);
        if let (Change::Registration(number), true) = (slot.task.change, accepted) {
            if answer[3] & 15 == 0 {
                self.acknowledged.push_back(number);
            } else {
                self.present -= 1;
            }
        }
        accepted
    }

    fn lose(&mut self, task: &Task) {
        if let Change::Registration(_) = task.change {
            self.present -= 1;
        }
    }
}
