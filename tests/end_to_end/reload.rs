//! Files that change while the server runs.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::message::*;
use crate::support::server::{Setup, TestServer, livezone, make_key};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

const STATICS: &str = "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\n";
const OTHER: &str = "other.example.test.";

fn statics(server: &TestServer) -> PathBuf {
    server.folder().join("zones/svc.example.test.zone")
}

fn zone_file(server: &TestServer) -> PathBuf {
    server.folder().join("zones/svc.example.test.toml")
}

fn hang_up(server: &TestServer) {
    assert!(Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap().success());
}

/// Sends SIGHUP and waits until it was heeded.
fn reload(server: &TestServer) {
    let before = server.count_logged("reloaded");
    hang_up(server);
    wait_until(PATIENCE, "a reload", || (server.count_logged("reloaded") > before).then_some(()));
}

/// Waits until `www` has this address.
fn wait_for_www(server: &TestServer, address: [u8; 4]) {
    let client = server.client();
    let has = || {
        let answer = client.ask(&query(&format!("www.{ZONE}"), A));
        answer.octets.windows(4).any(|octets| octets == address).then_some(())
    };
    wait_until(PATIENCE, "the changed record", has);
}

fn with_www(last: u8) -> String {
    format!("{STATICS}www IN A 192.0.2.{last}\n")
}

/// What becomes of another start from the files of a server.
fn start_again(server: &TestServer) -> std::process::Output {
    let own = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"];
    livezone().args(own).arg(server.folder().join("livezone.toml")).output().unwrap()
}

#[test]
fn a_changed_static_file_is_one_commit_however_it_is_written() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    let serial = client.serial();
    // In place.
    std::fs::write(statics(&server), with_www(1)).unwrap();
    wait_for_www(&server, [192, 0, 2, 1]);
    // Renamed over it, as editors do.
    let draft = server.folder().join("zones/.draft");
    std::fs::write(&draft, with_www(2)).unwrap();
    std::fs::rename(&draft, statics(&server)).unwrap();
    wait_for_www(&server, [192, 0, 2, 2]);
    assert_eq!(client.serial(), serial.wrapping_add(2), "one commit each");
    // Other lines, the same records.
    std::fs::write(statics(&server), format!("; a comment\nwww 1h IN A 192.0.2.2\n{STATICS}")).unwrap();
    reload(&server);
    assert_eq!(client.serial(), serial.wrapping_add(2), "nothing that is published differs");
    assert_eq!(client.targets(MEMCACHED).len(), 1);
}

/// Kubernetes mounts a folder of links to `..data/file`, and `..data` is a link that is swapped.
#[test]
fn a_swapped_link_is_a_change() {
    let server = TestServer::start();
    let zones = server.folder().join("zones");
    let version = |name: &str, last: u8| {
        let folder = zones.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("svc.example.test.zone"), with_www(last)).unwrap();
    };
    version("..one", 11);
    version("..two", 12);
    symlink("..one", zones.join("..data")).unwrap();
    symlink("..data/svc.example.test.zone", zones.join("link")).unwrap();
    std::fs::rename(zones.join("link"), statics(&server)).unwrap();
    wait_for_www(&server, [192, 0, 2, 11]);
    symlink("..two", zones.join("..swap")).unwrap();
    std::fs::rename(zones.join("..swap"), zones.join("..data")).unwrap();
    wait_for_www(&server, [192, 0, 2, 12]);
}

#[test]
fn a_broken_file_leaves_its_zone_as_it_was_and_says_where() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    let serial = client.serial();
    let good = std::fs::read_to_string(zone_file(&server)).unwrap();
    for (file, text, place) in [
        (statics(&server), format!("{STATICS}www IN A 192.0.2.300\n"), "svc.example.test.zone:4:"),
        (statics(&server), format!("{STATICS}@ IN SOA a. b. 1 2 3 4 5\n"), "svc.example.test.zone:4:"),
        (zone_file(&server), good.replace("ttl = \"1s\"", "ttl = \"2m\""), "svc.example.test.toml:"),
        (zone_file(&server), good.replace("origin", "origni"), "svc.example.test.toml:1:1"),
    ] {
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, &text).unwrap();
        reload(&server);
        server.wait_for_line(place);
        assert_eq!((client.serial(), client.targets(MEMCACHED).len()), (serial, 1));
        let check = livezone().args(["check", "--config"]).arg(server.folder().join("livezone.toml")).output().unwrap();
        assert_eq!(check.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&check.stderr).contains(place), "{check:?}");
        std::fs::write(&file, before).unwrap();
    }
    std::fs::write(statics(&server), with_www(5)).unwrap();
    wait_for_www(&server, [192, 0, 2, 5]);
    let check = livezone().args(["check", "--config"]).arg(server.folder().join("livezone.toml")).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn zones_come_and_go_and_a_zone_that_comes_back_has_its_members() {
    let server = TestServer::start();
    let client = server.client();
    let rcode = |name: &str| client.ask(&query(name, SOA)).rcode();
    assert_eq!(rcode(OTHER), 5);
    let file = server.folder().join("zones/other.toml");
    // Its name server lies inside, where nobody listens, so no name is looked up for its first epoch.
    let zones = server.folder().join("zones");
    std::fs::write(zones.join("other.zone"), "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.53.0.78\n").unwrap();
    let text = format!("origin = \"{OTHER}\"\nstatic = \"other.zone\"\n");
    std::fs::write(&file, &text).unwrap();
    wait_until(PATIENCE, "the new zone", || (rcode(OTHER) == 0).then_some(()));
    let service = format!("_x._tcp.{OTHER}");
    client.update(&{
        let host = format!("a.x.{OTHER}");
        Update::of_zone(OTHER).add(&service, SRV, 5, &srv(80, &host)).add(&host, A, 5, &[192, 0, 2, 7]).lease(3600)
    });
    assert_eq!(client.targets(&service).len(), 1);
    std::fs::remove_file(&file).unwrap();
    wait_until(PATIENCE, "the removal", || (rcode(OTHER) == 5).then_some(()));
    assert_eq!(rcode(ZONE), 0, "others are served");
    std::fs::write(&file, &text).unwrap();
    wait_until(PATIENCE, "the zone again", || (rcode(OTHER) == 0).then_some(()));
    assert_eq!(client.targets(&service).len(), 1, "the store kept its member");
}

#[test]
fn a_static_record_at_a_members_own_name_is_refused_with_its_line() {
    let server = TestServer::start();
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    let serial = client.serial();
    std::fs::write(statics(&server), format!("{STATICS}i-1.memcached IN TXT \"mine\"\n")).unwrap();
    reload(&server);
    server.wait_for_line("svc.example.test.zone:4:");
    assert_eq!((client.serial(), client.targets(MEMCACHED).len()), (serial, 1));
}

#[test]
fn a_static_delegation_or_dname_above_members_is_refused_with_its_line_by_a_reload_and_by_a_start() {
    let mut server = TestServer::start();
    let client = server.client();
    let service = "_x._tcp.east.svc.example.test.";
    client.update(&Update::member(service, "i-1", "192.0.2.1").lease(3600));
    let serial = client.serial();
    for (cut, word) in [("east IN NS ns1\n", "delegated"), ("east IN DNAME west\n", "redirected")] {
        std::fs::write(statics(&server), format!("{STATICS}{cut}")).unwrap();
        reload(&server);
        let said = format!("east.svc.example.test. is {word} by this ");
        assert!(server.count_logged("svc.example.test.zone:4:") > 0 && server.count_logged(&said) > 0, "{word}");
        assert_eq!((client.serial(), client.targets(service).len()), (serial, 1));
    }
    server.kill_9();
    let output = start_again(&server);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("svc.example.test.zone:4:") && said.contains("is redirected by this DNAME record"), "{said}");
}

#[test]
fn keys_and_access_are_those_of_the_files() {
    let server = TestServer::with(&Setup {
        keys: vec![("old", "hmac-sha256")],
        tables: "[access]\nupdate = [{ key = \"old.\", services = [\"*\"] }]\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let member = Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600);
    let signed_by = |name: &str| client.ask(&server.key(name).sign(&member.encode()).octets).rcode();
    assert_eq!(signed_by("old"), 0);
    make_key("new", "hmac-sha256", &server.key_file("new"));
    let config = server.folder().join("livezone.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("old", "new");
    std::fs::write(&config, text).unwrap();
    let zone = std::fs::read_to_string(zone_file(&server)).unwrap().replace("old.", "new.");
    std::fs::write(zone_file(&server), zone).unwrap();
    reload(&server);
    wait_until(PATIENCE, "the new key", || (signed_by("new") == 5).then_some(()));
    assert_eq!(signed_by("old"), 9, "a key that was taken away admits nobody");
    let other = Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(3600);
    assert_eq!(client.ask(&server.key("new").sign(&other.encode()).octets).rcode(), 0, "i-1 is another owner's");
}

#[test]
fn a_host_name_that_would_merge_two_address_sets_into_too_large_a_one_is_refused() {
    let mut server = TestServer::start();
    let client = server.client();
    // 60 members with 16 IPv6 addresses in each service: one address set holds 1714.
    for service in ["_x._tcp.svc.example.test.", "_y._tcp.svc.example.test."] {
        for number in 0..60 {
            let host = host_of(service, &format!("m{number}"));
            let update = Update::new().add(service, SRV, 5, &srv(80, &host)).lease(3600);
            let name = &service[1..2];
            let addresses =
                (0..16).map(|last| address(&format!("fd00::{:x}:{number:x}:{last:x}", name.as_bytes()[0])).1);
            client.update(&addresses.fold(update, |update, rdata| update.add(&host, AAAA, 5, &rdata)));
        }
    }
    let serial = client.serial();
    let good = std::fs::read_to_string(zone_file(&server)).unwrap();
    let merged = format!("{good}\n[[service]]\nname = \"_y._tcp\"\nhost-name = \"x\"\n");
    std::fs::write(zone_file(&server), &merged).unwrap();
    reload(&server);
    server.wait_for_line("svc.example.test.toml:1:10: ");
    server.wait_for_line("48000 octets of AAAA would not fit 64 KiB beside all else: split the service into subdomains, or remove records, at x.svc.example.test.");
    let addresses = |host: &str| client.ask_tcp(&query(host, AAAA)).message.answers.len();
    let sets = ["x.svc.example.test.", "y.svc.example.test."];
    assert_eq!((client.serial(), sets.map(addresses)), (serial, [960, 960]));
    // So is a start with it.
    server.kill_9();
    let serve = start_again(&server);
    assert_eq!(serve.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&serve.stderr).contains("48000 octets of AAAA"), "{serve:?}");
    std::fs::write(
        zone_file(&server),
        good.replace("[soa]", "[[service]]\nname = \"_y._tcp\"\nhost-name = \"z\"\n[soa]"),
    )
    .unwrap();
    server.restart();
    assert_eq!(["x.svc.example.test.", "z.svc.example.test."].map(addresses), [960, 960]);
}

#[test]
fn limits_of_leases_are_those_of_the_file_and_a_lower_one_takes_nothing_away() {
    let server = TestServer::with(&Setup { server: "[limits]\nzone-leases = 2\n".to_owned(), ..Setup::default() });
    let client = server.client();
    let member = |id: usize| Update::member(MEMCACHED, &format!("i-{id}"), "192.0.2.1").lease(3600);
    let set_limit = |limit: usize| {
        let config = server.folder().join("livezone.toml");
        std::fs::write(config, format!("[limits]\nzone-leases = {limit}\n")).unwrap();
        reload(&server);
    };
    client.update(&member(1));
    client.update(&member(2));
    let serial = client.serial();
    let refused = |id: usize, limit: usize| {
        let answer = client.ask(&member(id).encode());
        let text = format!("zone-leases in [limits] is {limit}");
        assert!(answer.rcode() == 5 && answer.error_text().contains(&text), "{answer:?}");
    };
    refused(3, 2);
    set_limit(3);
    client.update(&member(3));
    assert_eq!(client.serial(), serial + 1, "the limit itself is no commit");
    refused(4, 3);
    set_limit(1);
    refused(4, 1);
    (1..=3).for_each(|id| drop(client.update(&member(id))));
    assert_eq!((client.serial(), client.targets(MEMCACHED).len()), (serial + 1, 3));
    // A hundred refusals: ten lines a second, the limit once, and it takes no more than two seconds.
    (0..100).for_each(|_| refused(4, 1));
    let lines = server.count_logged("registration refused");
    assert!((10..=43).contains(&lines), "{lines} lines");
    server.assert_logged("a limit is reached", 1);
}

/// The figures are printed; the assertions are about answers and leases.
#[test]
fn reloads_under_load_lose_no_query_and_no_lease() {
    const RELOADS: u32 = 1_000;
    const MEMBERS: usize = 20;
    let server = TestServer::start();
    let client = server.client();
    let renew = |id: usize| Update::member(MEMCACHED, &format!("i-{id}"), "192.0.2.1").lease(3);
    for id in 0..MEMBERS {
        client.update(&renew(id));
    }
    let stop = AtomicBool::new(false);
    let (answered, unanswered, renewed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = server.client();
            while !stop.load(Ordering::Relaxed) {
                match client.try_ask(&edns_query(MEMCACHED, SRV, 1232), Duration::from_secs(2)) {
                    Some(answer) if answer.targets().len() == MEMBERS => answered.fetch_add(1, Ordering::Relaxed),
                    _ => unanswered.fetch_add(1, Ordering::Relaxed),
                };
            }
        });
        scope.spawn(|| {
            let client = server.client();
            while !stop.load(Ordering::Relaxed) {
                for id in 0..MEMBERS {
                    client.update(&renew(id));
                    renewed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for round in 0..RELOADS {
            let last = u8::try_from(round % 250).unwrap();
            std::fs::write(statics(&server), with_www(last)).unwrap();
            reload(&server);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let [answered, unanswered, renewed] = [answered, unanswered, renewed].map(AtomicU64::into_inner);
    println!(
        "measured: {RELOADS} reloads in {:?} under {answered} queries and {renewed} renewals: {unanswered} queries unanswered or short",
        start.elapsed()
    );
    assert!(answered > 0 && renewed > 0);
    assert_eq!(unanswered, 0);
    assert_eq!(client.targets(MEMCACHED).len(), MEMBERS);
}
