//! 1,000 random changes, followed by IXFR.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::{CHANGES, Scene, primary, register, stock};
use crate::support::client::Client;
use crate::support::message::*;
use crate::support::{MEMCACHED, ZONE};

/// Where members come and go; `_www._tcp` is announced by DNS-SD, and the last two share a host name.
const SERVICES: [&str; 5] = [
    MEMCACHED,
    "_www._tcp.svc.example.test.",
    "_memcached._tcp.east.svc.example.test.",
    "_sip._tcp.svc.example.test.",
    "_sip._udp.svc.example.test.",
];

const SEED: u64 = 4242;
const ROUNDS: u32 = 1_000;
/// Changes between two times that the secondaries look for them, at most.
const LONGEST_RUN: u32 = 40;

/// What is registered, as far as changes need to know.
pub(super) struct Registrations<'a> {
    client: &'a Client,
    pub(super) random: Rng,
    /// Members by service and id, with their ports.
    members: BTreeMap<(usize, String), u16>,
    records: Vec<(String, u16, Vec<u8>)>,
    next: u32,
}

impl Registrations<'_> {
    pub(super) fn new(client: &Client, seed: u64) -> Registrations<'_> {
        let (members, records) = (BTreeMap::new(), Vec::new());
        Registrations { client, random: Rng::with_seed(seed), members, records, next: 0 }
    }

    fn any_address(&mut self) -> (u16, Vec<u8>) {
        let number = self.random.u8(1..250);
        if self.random.bool() {
            address(&format!("192.0.2.{number}"))
        } else {
            address(&format!("2001:db8::{number:x}"))
        }
    }

    /// An update that changes something, most likely.
    pub(super) fn change(&mut self) {
        let known: Vec<(usize, String)> = self.members.keys().cloned().collect();
        let update = match (self.random.u8(0..100), self.random.choice(&known).cloned()) {
            (0..35, _) | (_, None) => self.join(),
            (35..55, Some(member)) => self.leave(&member),
            (55..65, Some((service, id))) => {
                let port = self.random.u16(1..);
                self.members.insert((service, id.clone()), port);
                Update::new().add(SERVICES[service], SRV, 5, &srv(port, &host_of(SERVICES[service], &id)))
            }
            (65..80, Some((service, id))) => {
                let host = host_of(SERVICES[service], &id);
                let ((old, _), (rtype, new)) = (self.any_address(), self.any_address());
                let update = if old == rtype { Update::new().delete_rrset(&host, rtype) } else { Update::new() };
                update.add(&host, rtype, 5, &new)
            }
            (80..85, Some((service, id))) => {
                let text = format!("v={}", self.random.u32(..));
                Update::new().add(&format!("{id}.{}", SERVICES[service]), TXT, 5, &txt(&[&text, "Mixed Case"]))
            }
            _ => self.change_record(),
        };
        let answer = self.client.ask(&update.lease(3600).encode());
        assert_eq!(answer.rcode(), 0, "{}: {update:?}", answer.error_text(), update = answer.message);
    }

    fn join(&mut self) -> Update {
        let service = self.random.usize(..SERVICES.len());
        self.next += 1;
        let (id, port) = (format!("r-{}", self.next), self.random.u16(1..));
        let host = host_of(SERVICES[service], &id);
        self.members.insert((service, id), port);
        (0..=self.random.u8(..2)).fold(Update::new().add(SERVICES[service], SRV, 5, &srv(port, &host)), |update, _| {
            let (rtype, rdata) = self.any_address();
            update.add(&host, rtype, 5, &rdata)
        })
    }

    fn leave(&mut self, member: &(usize, String)) -> Update {
        let port = self.members.remove(member).unwrap();
        let (service, id) = (SERVICES[member.0], &member.1);
        let host = host_of(service, id);
        let update = Update::new().delete_record(service, SRV, &srv(port, &host));
        if self.random.bool() {
            return update;
        }
        // The addresses are renewed: it drains.
        let (rtype, rdata) = self.any_address();
        update.add(&host, rtype, 5, &rdata)
    }

    /// A leased record comes or goes.
    fn change_record(&mut self) -> Update {
        if self.records.len() > 8 || (!self.records.is_empty() && self.random.bool()) {
            let (owner, rtype, rdata) = self.records.swap_remove(self.random.usize(..self.records.len()));
            return Update::new().delete_record(&owner, rtype, &rdata);
        }
        self.next += 1;
        let number = self.next;
        let (owner, rtype, rdata) = match self.random.u8(..4) {
            0 => (format!("_acme-challenge.h{number}.{ZONE}"), TXT, txt(&[&format!("token {number}")])),
            1 => (format!("h{number}.hosts.{ZONE}"), A, address("198.51.100.7").1),
            2 => (format!("h{number}.hosts.{ZONE}"), AAAA, address("2001:db8::7").1),
            _ => (format!("h{number}.hosts.{ZONE}"), 44, [&[4, 2][..], &[7; 32]].concat()), // SSHFP
        };
        self.records.push((owner.clone(), rtype, rdata.clone()));
        Update::new().add(&owner, rtype, 5, &rdata)
    }
}

#[test]
fn a_thousand_random_changes_are_followed_step_by_step() {
    let seed: u64 = std::env::var("LIVEZONE_SEED").map_or(SEED, |text| text.parse().unwrap());
    println!("LIVEZONE_SEED={seed}");
    let mut scene = Scene::primary(&primary());
    let client = scene.server.client();
    register(&client, MEMCACHED, 0..80, 40);
    scene.follow(stock::all());
    scene.catch_up();
    let whole: Vec<_> = scene.all_sent(super::WHOLE);
    let first = client.serial();
    let mut registrations = Registrations::new(&client, seed);
    let mut pause = 0;
    while client.serial() - first < ROUNDS {
        registrations.change();
        if pause == 0 {
            // Without waiting for them: what changes meanwhile goes with this transfer or the next.
            scene.secondaries.iter().for_each(stock::Secondary::refresh);
            pause = registrations.random.u32(1..=LONGEST_RUN);
        }
        pause -= 1;
    }
    scene.catch_up();
    scene.assert_equal();
    assert_eq!(scene.all_sent(super::WHOLE), whole, "whole zones at the start only");
    for (name, sent) in scene.all_sent(CHANGES) {
        println!("{name}: {sent} transfers of changes");
        assert!(sent >= 10, "{name} followed by {sent} transfers of changes");
    }
}
