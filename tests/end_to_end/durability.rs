//! What survives: kill -9, restarts, second processes.

use std::collections::{HashMap, HashSet};
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

/// Those of the acknowledged members, by service and host, that are not published.
fn missing<'c>(client: &Client, claimed: &'c [(String, String)]) -> Vec<&'c str> {
    let mut there: HashMap<&str, HashSet<String>> = HashMap::new();
    let mut is_there = |service: &'c str, host: &String| {
        there.entry(service).or_insert_with(|| client.targets(service).into_iter().collect()).contains(host)
    };
    claimed.iter().filter(|(service, host)| !is_there(service, host)).map(|(_, host)| host.as_str()).collect()
}

/// Fifty kills, each as soon as some members more are acknowledged. More of them, or at a pace of their own:
/// `LIVEZONE_KILLS=600 LIVEZONE_KILL_EVERY=100ms tests/run every_acknowledged -- --show-output`.
#[test]
fn every_acknowledged_member_survives_all_kills_and_the_serial_never_goes_back() {
    const REGISTRARS: usize = 3;
    /// Members of one service, of which a registrar fills one after the other.
    const SERVICE: usize = 300;
    let kills: usize = std::env::var("LIVEZONE_KILLS").map_or(50, |text| text.parse().unwrap());
    let pace = std::env::var("LIVEZONE_KILL_EVERY").ok().map(|text| humantime::parse_duration(&text).unwrap());
    let mut server = TestServer::start();
    let address = server.address;
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
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
                let service = format!("_r{registrar}-{}._tcp.svc.example.test.", number / SERVICE);
                let id = format!("i-{number}");
                let packet = Update::member(&service, &id, "192.0.2.1").lease(3600).encode();
                // What isn't answered soon may have been registered or not: nothing is claimed of it.
                match client.try_ask(&packet, Duration::from_millis(30)) {
                    Some(answer) if answer.rcode() == 0 => {
                        let host = host_of(&service, &id);
                        acknowledged.lock().unwrap().push((service, host));
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
    let (mut starts, mut checked, begin) = (Vec::new(), 0, Instant::now());
    for kill in 0..kills {
        let more = if pace.is_some() { 1 } else { 1 + kill % 7 * 3 };
        let goal = count.load(Ordering::Relaxed) + more;
        let due = pace.unwrap_or_default() * u32::try_from(kill + 1).unwrap();
        wait_until(PATIENCE + pace.unwrap_or_default(), "registrations, and the time of the next kill", || {
            (count.load(Ordering::Relaxed) >= goal && begin.elapsed() >= due).then_some(())
        });
        server.kill_9();
        // What was acknowledged before the restart must be there at once after it.
        let claimed = acknowledged.lock().unwrap()[checked..].to_vec();
        let start = Instant::now();
        server.restart();
        starts.push(start.elapsed().as_millis());
        let lost = missing(&server.client(), &claimed);
        assert!(lost.is_empty(), "lost after kill {kill}: {lost:?}");
        checked += claimed.len();
    }
    let elapsed = begin.elapsed();
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    // Whoever was lost by a later kill than the one after its registration is missing here.
    let claimed = acknowledged.lock().unwrap().clone();
    let lost = missing(&server.client(), &claimed);
    assert!(lost.is_empty(), "lost at the end: {lost:?}");
    let serials = poller.join().unwrap();
    assert!(serials > kills, "the poller saw only {serials} serials");
    starts.sort_unstable();
    println!(
        "measured: {kills} kills in {elapsed:?}, {} members acknowledged, {serials} serials seen, start in {} ms (median), {} ms (worst)",
        claimed.len(),
        starts[kills / 2],
        starts[kills - 1]
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
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "", "--config"])
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
        server.assert_logged("stopping", 1); // the last line
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
        // Far more often than leases are renewed, and than a third of the shortest lease.
        let until = Instant::now() + Duration::from_millis(100);
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
    assert!(crashes >= 10, "a loop of {crashes} crashes shows nothing");
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
