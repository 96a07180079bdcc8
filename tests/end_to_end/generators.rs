//! The generators of load of `benches/peers`: against a real server all that they send is right, and all is answered.

use std::time::Duration;

use crate::load::latencies::Latencies;
use crate::load::members::{Heartbeats, Members, Pass, Registrations};
use crate::load::message::{A, SRV};
use crate::load::questions::Questions;
use crate::load::slots::Slots;
use crate::load::tsig::Signer;
use crate::load::{Load, Outcome, Plan, limit, tcp, udp};
use crate::support::message::Update;
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, ZONE};

const COUNT: u32 = 50;

/// A server with a key, and who registers there.
fn start() -> (TestServer, Members) {
    let access = "[access]\nupdate = [{ key = \"agents.\", services = [\"*\"] }, { network = \"127.0.0.0/8\" }]\n";
    let keys = vec![("agents", "hmac-sha256")];
    let server = TestServer::with(&Setup { keys, tables: access.to_owned(), ..Setup::default() });
    let key = server.key("agents").as_argument();
    let mut parts = key.split(':').skip(1);
    let signer = Signer::new(parts.next().unwrap(), parts.next().unwrap());
    let zone = ZONE.trim_end_matches('.').to_owned();
    let members =
        Members { zone, label: "load", services: 5, run: 1, lease: Some(600), signer: Some(signer), verify: true };
    (server, members)
}

fn plan(server: &TestServer) -> Plan {
    // Servers of other tests share the cores: nobody is given up.
    Plan { window: 32, patience: Duration::from_secs(20), ..Plan::new(server.address, Duration::from_millis(200)) }
}

fn pass(server: &TestServer, load: &mut Pass<'_>) {
    let outcome = udp::run(&Plan { duration: None, ..plan(server) }, load).unwrap();
    assert_eq!((outcome.sent, outcome.rcodes[0]), (u64::from(COUNT), u64::from(COUNT)), "{outcome:?}");
}

/// All was answered as it should be, with one rcode.
fn assert_all(outcome: &Outcome, rcode: usize) {
    assert!(outcome.sent > 0, "{outcome:?}");
    assert_eq!(outcome.sent, outcome.rcodes[rcode], "{outcome:?}");
    assert_eq!(outcome.lost + outcome.stray + outcome.mismatched + outcome.truncated, 0, "{outcome:?}");
}

#[test]
fn queries_are_answered_over_udp_and_tcp_at_a_full_window_and_at_a_rate() {
    let (server, _) = start();
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    let names = || vec![(MEMCACHED.to_owned(), SRV), ("i-1.memcached.svc.example.test.".to_owned(), A)];
    let plan = plan(&server);
    assert_all(&udp::run(&plan, &mut Questions::new(names(), 1232)).unwrap(), 0);
    assert_all(&tcp::run(&plan, &mut Questions::new(names(), 1232)).unwrap(), 0);
    assert_all(&udp::run(&Plan { rate: Some(500.0), ..plan.clone() }, &mut Questions::new(names(), 0)).unwrap(), 0);
    assert_all(&udp::run(&plan, &mut Questions::of_nobody("svc.example.test", 1232)).unwrap(), 3);
}

#[test]
fn members_come_and_go_and_leave_nobody_behind() {
    let (server, members) = start();
    let mut registrations = Registrations::new(members.clone(), 20);
    assert_all(&udp::run(&plan(&server), &mut registrations).unwrap(), 0);
    let left = registrations.left().count();
    assert!(left >= 20, "{left}");
    let mut removal = Pass::removing(&members, registrations.left());
    assert_all(&udp::run(&Plan { duration: None, ..plan(&server) }, &mut removal).unwrap(), 0);
    for service in 0..members.services {
        let targets = server.client().targets(&format!("_load{service:04}._tcp.{ZONE}"));
        assert_eq!(targets, Vec::<String>::new());
    }
}

#[test]
fn heartbeats_of_members_that_are_there_change_nothing() {
    let (server, signed) = start();
    let unsigned = Members { signer: None, run: 2, ..signed.clone() };
    for members in [signed, unsigned] {
        pass(&server, &mut Pass::registering(&members, 0..COUNT));
        let serial = server.client().serial();
        assert_all(&udp::run(&plan(&server), &mut Heartbeats::new(members.clone(), COUNT)).unwrap(), 0);
        assert_eq!(server.client().serial(), serial);
        pass(&server, &mut Pass::removing(&members, 0..COUNT));
        assert_ne!(server.client().serial(), serial);
    }
}

#[test]
fn an_answer_that_is_signed_wrongly_does_not_count() {
    let (server, members) = start();
    let signer = Some(Signer::new("agents", "c29tZWJvZHkgZWxzZSdzIHNlY3JldA=="));
    let strangers = Members { signer, ..members };
    let plan = Plan { window: 1, sockets: 1, patience: Duration::from_secs(2), ..plan(&server) };
    let outcome = udp::run(&plan, &mut Heartbeats::new(strangers, 1)).unwrap();
    assert!(outcome.mismatched > 0 && outcome.answered == 0, "{outcome:?}");
}

#[test]
fn the_limit_answers_each_message_with_the_canned_octets() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap();
    let canned = [&[0, 0, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[7; 300]].concat();
    // Answers until the process ends.
    std::thread::spawn(move || limit::answer(&socket, &canned));
    let plan = Plan { patience: Duration::from_secs(20), ..Plan::new(server, Duration::from_millis(100)) };
    let mut questions = Questions::new(vec![(MEMCACHED.to_owned(), SRV)], 1232).any_answer();
    let outcome = udp::run(&plan, &mut questions).unwrap();
    assert_all(&outcome, 0);
    assert_eq!(outcome.octets, outcome.answered * 312);
}

#[test]
fn a_quantile_is_at_most_a_32nd_too_low() {
    let mut latencies = Latencies::default();
    (1..=100_000).for_each(|micros| latencies.add(micros * 1000));
    for (quantile, exact) in [(0.0, 1.0), (0.5, 50_001.0), (0.99, 99_001.0)] {
        let told = latencies.quantile(quantile);
        assert!(told <= exact && told >= exact * 31.0 / 32.0 - 1e-3, "{quantile}: {told}");
    }
    assert_eq!((latencies.quantile(1.0), latencies.most()), (100_000.0, 100_000.0));
}

#[test]
fn an_answer_finds_its_message_until_the_slot_is_used_again() {
    let mut slots: Slots<()> = Slots::new(3);
    let answer = |id: u16| [&id.to_be_bytes()[..], &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    for _ in 0..100_000 {
        let number = slots.take().unwrap();
        let id = slots.slot(number).id;
        assert_eq!(slots.answered_by(&answer(id)), Some(number));
        slots.give_back(number);
        assert_eq!(slots.answered_by(&answer(id)), None);
        let again = slots.take().unwrap();
        assert_eq!((again, slots.answered_by(&answer(id))), (number, None));
        slots.give_back(again);
    }
}

#[test]
fn a_heartbeat_is_the_registration_but_for_id_and_signature() {
    let (_, members) = start();
    let mut heartbeats = Heartbeats::new(members.clone(), 1);
    let mut slots: Slots<_> = Slots::new(1);
    let mut written = || {
        let number = slots.take().unwrap();
        assert!(heartbeats.write(slots.slot_mut(number)));
        slots.give_back(number);
        slots.slot(number).message.clone()
    };
    let (first, second) = (written(), written());
    assert_ne!(first[..2], second[..2]);
    let registration = members.registration(0);
    for message in [&first, &second] {
        assert!(message.len() > registration.len());
        assert_eq!(message[2..11], registration[2..11]);
        assert_eq!(message[12..registration.len()], registration[12..]);
    }
}
