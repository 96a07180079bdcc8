//! What survives: kill -9, restarts, second processes.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::message::*;
use crate::support::server::{Setup, TestServer, livezone};
use crate::support::{MEMCACHED, PATIENCE, wait_until};

/// RFC 1982: whether `a` is behind `b`.
fn is_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

#[test]
fn every_acknowledged_member_survives_fifty_kills_and_the_serial_never_goes_back() {
    const KILLS: usize = 50;
    const REGISTRARS: usize = 3;
    let mut server = TestServer::start();
    let address = server.address;
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    let count = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    for registrar in 0..REGISTRARS {
        let (stop, acknowledged, count) = (stop.clone(), acknowledged.clone(), count.clone());
        threads.push(std::thread::spawn(move || {
            let client = Client::new(address);
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let service = format!("_r{registrar}._tcp.svc.example.test.");
                let id = format!("i-{number}");
                let packet = Update::member(&service, &id, "192.0.2.1").lease(3600).encode();
                // What isn't answered may have been registered or not: nothing is claimed of it.
                match client.try_ask(&packet, Duration::from_millis(200)) {
                    Some(answer) if answer.rcode() == 0 => {
                        acknowledged.lock().unwrap().push(host_of(&service, &id));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(answer) => panic!("{answer:?}"),
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }));
    }
    let poller = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let client = Client::new(address);
            let mut seen: Vec<u32> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                match client.try_serial(Duration::from_millis(100)) {
                    Some(serial) => {
                        let last = *seen.last().unwrap_or(&serial);
                        assert!(!is_before(serial, last), "serial {serial} after {last}");
                        if serial != last || seen.is_empty() {
                            seen.push(serial);
                        }
                    }
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            seen.len()
        })
    };
    let mut starts = Vec::new();
    for kill in 0..KILLS {
        let goal = count.load(Ordering::Relaxed) + 1 + kill % 7 * 3;
        wait_until(PATIENCE, "registrations", || (count.load(Ordering::Relaxed) >= goal).then_some(()));
        server.kill_9();
        // What was acknowledged before the restart must be there at once after it.
        let claimed = acknowledged.lock().unwrap().clone();
        let start = Instant::now();
        server.restart();
        starts.push(start.elapsed().as_millis());
        let client = server.client();
        let mut there = std::collections::HashSet::new();
        for registrar in 0..REGISTRARS {
            there.extend(client.targets(&format!("_r{registrar}._tcp.svc.example.test.")));
        }
        let lost: Vec<_> = claimed.iter().filter(|host| !there.contains(*host)).collect();
        assert!(lost.is_empty(), "lost after kill {kill}: {lost:?}");
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let serials = poller.join().unwrap();
    assert!(serials > KILLS, "the poller saw only {serials} serials");
    starts.sort_unstable();
    println!(
        "measured: {KILLS} kills, {} members acknowledged, {serials} serials seen, start in {} ms (median), {} ms (worst)",
        count.load(Ordering::Relaxed),
        starts[KILLS / 2],
        starts[KILLS - 1]
    );
}

#[test]
fn a_restart_publishes_the_same_records_under_the_same_serial() {
    let mut server = TestServer::with(&Setup {
        tables: "[access]\nupdate = [{ network = \"127.0.0.0/8\", records = [\"*.hosts\"] }]\n".to_owned(),
        ..Setup::default()
    });
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1")
        .and_member("_www._tcp.svc.example.test.", "w-1", "2001:db8::1")
        .add(&format!("i-1.{MEMCACHED}"), TXT, 5, &txt(&["az=a"]))
        .add("x.hosts.svc.example.test.", TXT, 5, &txt(&["leased"]))
        .lease(3600);
    server.client().update(&update);
    let drained = Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(3600);
    server.client().update(&drained);
    let host = host_of(MEMCACHED, "i-2");
    let drain = Update::new().delete_rrset(MEMCACHED, SRV).and_member(MEMCACHED, "i-1", "192.0.2.1");
    server.client().update(&drain.add(&host, A, 5, &address("192.0.2.2").1).lease(3600));
    let look = |server: &TestServer| {
        let names = [
            (MEMCACHED, SRV),
            (MEMCACHED, TXT),
            ("memcached.svc.example.test.", A),
            ("i-2.memcached.svc.example.test.", A),
            ("w-1.www.svc.example.test.", AAAA),
            ("x.hosts.svc.example.test.", TXT),
            ("svc.example.test.", SOA),
        ];
        names.map(|(name, rtype)| server.client().ask_tcp(&query(name, rtype)).octets[2..].to_vec())
    };
    let before = look(&server);
    assert_eq!(server.client().targets(MEMCACHED), [host_of(MEMCACHED, "i-1")], "i-2 drains");
    server.kill_9();
    server.restart();
    assert_eq!(look(&server), before);
    assert!(server.terminate().success());
    server.restart();
    assert_eq!(look(&server), before);
}

#[test]
fn changed_files_are_one_commit_of_the_next_start() {
    let mut server = TestServer::start();
    let serial = server.client().serial();
    server.terminate();
    let statics = server.folder().join("zones/svc.example.test.zone");
    let text = std::fs::read_to_string(&statics).unwrap();
    std::fs::write(&statics, text.replace("::1", "::2") + "more IN TXT \"x\"\n").unwrap();
    server.restart();
    let client = server.client();
    assert_eq!(client.serial(), serial.wrapping_add(1));
    assert_eq!(client.ask(&query("more.svc.example.test.", TXT)).message.answers.len(), 1);
    server.terminate();
    server.restart();
    assert_eq!(server.client().serial(), serial.wrapping_add(1), "nothing differs, nothing moves");
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let server = TestServer::start();
    let config = server.folder().join("livezone.toml");
    let output = livezone()
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("in use by another process") && error.contains("data-dir"), "{error}");
    assert!(server.client().serial() > 0, "the first one goes on");
}

#[test]
fn sigterm_and_sigint_end_the_server_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut server = TestServer::start();
        server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
        let status = if signal == "TERM" {
            server.terminate()
        } else {
            let pid = server.pid().to_string();
            assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
            server.wait()
        };
        assert_eq!(status.code(), Some(0), "SIG{signal}");
        wait_until(PATIENCE, "the last line of the log", || (server.count_logged("stopping") == 1).then_some(()));
        server.restart();
        assert_eq!(server.client().targets(MEMCACHED).len(), 1);
    }
}

#[test]
fn updates_under_way_at_sigterm_are_answered_or_not_done_by_halves() {
    let mut server = TestServer::with(&Setup { top: "settle = \"500ms\"".to_owned(), ..Setup::default() });
    let client = server.client();
    client.send(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600).encode());
    // A query behind it on the same socket: when it is answered, the update has been taken in.
    assert!(client.try_ask(&query("svc.example.test.", SOA), PATIENCE).is_some());
    let started = Instant::now();
    assert!(server.terminate().success());
    assert!(started.elapsed() < Duration::from_secs(10));
    let acknowledged = client.receive(Duration::from_millis(1)).is_some_and(|answer| answer[3] & 0xf == 0);
    server.restart();
    let there = server.client().targets(MEMCACHED).len() == 1;
    assert!(there || !acknowledged, "acknowledged and lost");
    assert!(there, "what was taken in before the signal is finished");
}

/// A restart gives a fresh lease to those who renewed since the start before it; the others keep the deadline that that
/// start gave them, so that a crash loop doesn't keep the dead.
#[test]
fn a_crash_loop_keeps_the_living_and_not_the_dead() {
    const LEASE: u32 = 6;
    let lease = Duration::from_secs(u64::from(LEASE));
    let mut server = TestServer::start();
    let dead = Update::member(MEMCACHED, "dead", "192.0.2.1").lease(LEASE);
    let living = Update::member(MEMCACHED, "living", "192.0.2.2").lease(LEASE);
    server.client().update(&dead);
    server.client().update(&living);
    server.kill_9();
    // This start gives both a fresh lease, since both were heard of before it.
    let first_start = Instant::now();
    server.restart();
    let first_ready = Instant::now();
    let mut crashes = 0;
    let gone = loop {
        assert!(first_ready.elapsed() < lease + PATIENCE, "the dead stays through {crashes} crashes");
        let serial = server.client().serial();
        server.client().update(&living);
        assert_eq!(server.client().serial().wrapping_sub(serial) & !1, 0, "a renewal publishes nothing");
        // Crashes come slower than the checkpoints of renewals: a third of the shortest lease, here of a second.
        let until = Instant::now() + Duration::from_millis(900);
        let mut there = server.client().targets(MEMCACHED);
        while Instant::now() < until && there.contains(&host_of(MEMCACHED, "dead")) {
            std::thread::sleep(Duration::from_millis(20));
            there = server.client().targets(MEMCACHED);
        }
        assert!(there.contains(&host_of(MEMCACHED, "living")), "{there:?} after {crashes} crashes");
        if !there.contains(&host_of(MEMCACHED, "dead")) {
            break Instant::now();
        }
        server.kill_9();
        server.restart();
        crashes += 1;
    };
    assert!(gone >= first_start + lease, "the first restart gives a fresh lease");
    assert!(crashes >= 2, "a loop of {crashes} crashes shows nothing");
    println!(
        "measured: the dead left {} ms after the first restart's lease of {LEASE} s, through {crashes} crashes",
        gone.saturating_duration_since(first_ready + lease).as_millis()
    );
}

#[test]
fn the_first_epoch_can_be_chosen() {
    let server = TestServer::with(&Setup { arguments: vec!["--epoch", "41"], ..Setup::default() });
    assert_eq!(server.client().serial(), 41);
    // RFC 1982: serials wrap, epochs don't.
    let server = TestServer::with(&Setup { arguments: vec!["--epoch", "4294967295"], ..Setup::default() });
    assert_eq!(server.client().serial(), u32::MAX);
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!(server.client().serial(), 0);
}
