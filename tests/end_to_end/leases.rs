//! What moves the serial, and when: registrations, renewals, lapses.

use std::time::{Duration, Instant};

use crate::support::message::*;
use crate::support::server::TestServer;
use crate::support::{MEMCACHED, PATIENCE, wait_until};

#[test]
fn a_registration_moves_the_serial_by_one_and_ten_thousand_renewals_by_none() {
    const RENEWALS: u32 = 10_000;
    let server = TestServer::start();
    let client = server.client();
    let before = client.serial();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    assert_eq!(client.serial(), before.wrapping_add(1));
    let start = Instant::now();
    for _ in 0..RENEWALS {
        client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    }
    println!("measured: {RENEWALS} renewals, one after the other, in {:?}", start.elapsed());
    assert_eq!(client.serial(), before.wrapping_add(1));
    assert_eq!(client.targets(MEMCACHED).len(), 1);
    // One line for the registration, one for the start; none for renewals.
    server.assert_logged("commit", 2);
}

#[test]
fn a_member_leaves_the_answers_when_its_lease_ends_and_not_before() {
    const ROUNDS: usize = 5;
    const LEASE: Duration = Duration::from_secs(1);
    let server = TestServer::start();
    let client = server.client();
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        let serial = client.serial();
        let sent = Instant::now();
        client.update(&Update::member(MEMCACHED, &format!("i-{round}"), "192.0.2.1").lease(1));
        let acknowledged = Instant::now();
        let gone = wait_until(PATIENCE, "the lapse", || {
            let asked = Instant::now();
            let there = client.ask(&edns_query(MEMCACHED, SRV, 1232)).targets().len() == 1;
            // The lease began between the two, so this is before its end at the earliest.
            assert!(there || Instant::now() >= sent + LEASE, "gone {:?} after it registered", asked - sent);
            (!there).then(Instant::now)
        });
        let delay = gone.saturating_duration_since(acknowledged + LEASE);
        assert!(delay < Duration::from_secs(5), "gone {delay:?} after the end of its lease");
        delays.push(delay.as_millis());
        assert_eq!(client.serial(), serial.wrapping_add(2), "one for coming, one for going");
    }
    println!("measured: a lapse left the answers {delays:?} ms after the lease's end");
}

#[test]
fn a_renewal_puts_the_end_of_the_lease_off() {
    let server = TestServer::start();
    let client = server.client();
    let start = Instant::now();
    let serial = {
        client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(2));
        client.serial()
    };
    let mut last = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        // Where the machine paused for longer than the lease, the lapse would be right.
        let silent = last.elapsed();
        last = Instant::now();
        client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(2));
        assert!(client.serial() == serial || silent > Duration::from_millis(1500), "lapsed under renewals");
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_until(PATIENCE, "the lapse after the last renewal", || client.targets(MEMCACHED).is_empty().then_some(()));
}

#[test]
fn a_thousand_members_that_lapse_together_are_a_few_commits() {
    const MESSAGES: usize = 10;
    const EACH: usize = 100;
    let server = TestServer::start();
    let client = server.client();
    let packets: Vec<_> = (0..MESSAGES)
        .map(|message| {
            let service = format!("_s{message}._tcp.svc.example.test.");
            (0..EACH).fold(Update::new().lease(5), |update, number| {
                update.and_member(&service, &format!("i-{number}"), &format!("10.0.{message}.{number}"))
            })
        })
        .map(|update| update.encode())
        .collect();
    let before = client.serial();
    let start = Instant::now();
    for packet in &packets {
        client.send(packet);
    }
    for _ in 0..MESSAGES {
        assert_eq!(client.receive(PATIENCE).expect("an answer each")[3] & 0xf, 0);
    }
    let registering = start.elapsed();
    let registered = client.serial();
    assert!(registered.wrapping_sub(before) <= 10, "{} commits", registered.wrapping_sub(before));
    let service = |number: usize| format!("_s{number}._tcp.svc.example.test.");
    assert_eq!((0..MESSAGES).map(|number| client.targets(&service(number)).len()).sum::<usize>(), MESSAGES * EACH);
    wait_until(PATIENCE, "the lapse of all", || {
        (0..MESSAGES).all(|number| client.targets(&service(number)).is_empty()).then_some(())
    });
    let commits = client.serial().wrapping_sub(registered);
    assert!((1..=10).contains(&commits), "{commits} commits for the lapse");
    println!(
        "measured: {} members registered in {registering:?} and {} commits, lapsed in {commits} commits",
        MESSAGES * EACH,
        registered.wrapping_sub(before)
    );
}

#[test]
fn whoever_is_acknowledged_is_in_the_answers() {
    const ROUNDS: usize = 500;
    let server = TestServer::start();
    let (registrar, reader) = (server.client(), server.client());
    let start = Instant::now();
    for round in 0..ROUNDS {
        let id = format!("i-{round}");
        let host = host_of(MEMCACHED, &id);
        let octet = u8::try_from(round % 250 + 1).unwrap();
        registrar.update(&Update::member(MEMCACHED, &id, &format!("192.0.2.{octet}")).lease(3600));
        let answer = reader.ask(&query(&host, A));
        assert_eq!((answer.rcode(), answer.message.answers.len()), (0, 1), "round {round}: {answer:?}");
    }
    println!("measured: {ROUNDS} rounds of registration and query in {:?}", start.elapsed());
    assert_eq!(reader.targets(MEMCACHED).len(), ROUNDS);
}

#[test]
fn a_suspect_member_stays_published_for_its_grace() {
    use crate::support::server::Setup;
    let server = TestServer::with(&Setup {
        lease: "default = \"1s\"\nmin = \"1s\"\nmax = \"1h\"\ngrace = \"2s\"\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let sent = Instant::now();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    let serial = client.serial();
    wait_until(PATIENCE, "the end of the grace", || {
        let there = !client.targets(MEMCACHED).is_empty();
        assert!(there || sent.elapsed() >= Duration::from_secs(3), "gone after {:?}", sent.elapsed());
        (!there).then_some(())
    });
    assert_eq!(client.serial(), serial.wrapping_add(1));
}

#[test]
fn a_service_that_nobody_is_in_any_more_is_nodata() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    client.update(&Update::new().delete_rrset(MEMCACHED, SRV));
    let nodata = |name: &str, rtype| {
        let answer = client.ask(&query(name, rtype));
        assert_eq!(
            (answer.rcode(), answer.message.answers.len(), answer.message.authorities.len()),
            (0, 0, 1),
            "{name}"
        );
    };
    nodata(MEMCACHED, SRV);
    nodata("memcached.svc.example.test.", A);
    let text = crate::support::programs::dig(server.address, &[MEMCACHED, "TXT"]).answers;
    assert!(text.len() == 1 && text[0].contains("\"members=0\""), "{text:?}");
    let text = crate::support::programs::dig(server.address, &["memcached.svc.example.test.", "TXT"]).answers;
    assert_eq!(text, ["memcached.svc.example.test. 1 IN TXT \"service=_memcached._tcp\""]);
}
