//! Where a zone starts that the store doesn't know: after what its secondaries and name servers still have.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use tempfile::TempDir;

use crate::support::answering::Answering;
use crate::support::client::Client;
use crate::support::message::*;
use crate::support::namespace::{Place, enter, resolve_at};
use crate::support::other::{Other, free_address};
use crate::support::server::{Setup, TestServer};
use crate::support::tsig::unix_time;
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

/// Nothing listens there.
const ABSENT: &str = "127.53.0.77:1";
/// Where livezone and another name server listen, on port 53. No other test uses these addresses.
const LIVEZONE: &str = "127.53.0.6";
const OTHER: &str = "127.53.0.7";

/// The low 32 bits of the Unix time.
fn now() -> u32 {
    u32::try_from(unix_time() & 0xffff_ffff).unwrap()
}

/// A server that lists secondaries.
fn listing(secondaries: &[String]) -> Setup {
    Setup { tables: format!("[notify]\nsecondaries = {secondaries:?}\n"), ..Setup::default() }
}

/// Ends a server, and starts it again without its data.
fn lose_data(server: &mut TestServer) {
    server.kill_9();
    std::fs::remove_dir_all(server.folder().join("data")).unwrap();
    server.restart();
}

/// BIND with the zone under this serial.
fn start_bind(folder: &Path, address: SocketAddr, serial: u32) -> Other {
    let (place, ip, port) = (folder.display(), address.ip(), address.port());
    let conf = format!(
        "options {{ directory \"{place}\"; listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; recursion no;\n\
         pid-file none; lock-file none; session-keyfile \"session.key\"; dnssec-validation no; }};\ncontrols {{ }};\n\
         zone \"svc.example.test\" {{ type primary; file \"svc.zone\"; }};\n\
         zone \"example.net\" {{ type primary; file \"net.zone\"; }};\n"
    );
    std::fs::write(folder.join("named.conf"), conf).unwrap();
    let zone = |serial: u32| format!("$TTL 300\n@ IN SOA ns hostmaster {serial} 3600 600 86400 300\n@ IN NS ns\n");
    std::fs::write(folder.join("svc.zone"), zone(serial) + "ns IN A 127.0.0.1\n").unwrap();
    std::fs::write(folder.join("net.zone"), zone(1) + &format!("ns IN A 127.0.0.1\nns2 IN A {OTHER}\n")).unwrap();
    let mut bind = Other::start(folder, "named", &["-g", "-n", "1", "-c", "named.conf"]);
    bind.wait(address, ZONE);
    bind
}

/// The answer to a query for a SOA record: its owner is a pointer to the question.
fn answer(query: &[u8], serial: u32) -> Vec<u8> {
    answer_with(query, 0x8400, &[0xc0, 12], serial)
}

fn answer_with(query: &[u8], flags: u16, owner: &[u8], serial: u32) -> Vec<u8> {
    let id = u16::from_be_bytes([query[0], query[1]]);
    let names = [name("ns1.svc.example.test."), name("hostmaster.example.test.")].concat();
    let words: Vec<u8> = [serial, 30, 5, 3600, 2].into_iter().flat_map(u32::to_be_bytes).collect();
    // A record without its owner.
    let soa = &record("", SOA, IN, 5, &[names, words].concat())[1..];
    [&header(id, flags, [1, 1, 0, 0]), &query[12..], owner, soa].concat()
}

#[test]
fn a_zone_starts_one_beyond_a_secondary_that_is_ahead() {
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    let (address, ahead) = (free_address(), now().wrapping_add(100_000));
    let _bind = start_bind(folder.path(), address, ahead);
    let mut server = TestServer::with(&listing(&[address.to_string()]));
    assert_eq!(server.client().serial(), ahead.wrapping_add(1));
    server.assert_logged(&format!("{address}: {ahead}"), 1); // who answered what
    assert_eq!(server.count_logged("told no serial"), 0);
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    assert_eq!(server.client().serial(), ahead.wrapping_add(2));
    lose_data(&mut server);
    assert_eq!(server.client().serial(), ahead.wrapping_add(1), "the secondary has no more than that");
}

#[test]
fn a_zone_starts_at_the_unix_time_if_its_secondaries_are_behind() {
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    let (address, behind) = (free_address(), now().wrapping_sub(100_000));
    let _bind = start_bind(folder.path(), address, behind);
    let before = now();
    let server = TestServer::with(&listing(&[address.to_string()]));
    let serial = server.client().serial();
    assert!((before..=now()).contains(&serial), "{serial}");
    server.assert_logged(&format!("{address}: {behind}"), 1);
}

#[test]
fn who_does_not_answer_is_left_out_with_a_warning() {
    let silent = Answering::silent();
    let refusing = Answering::start("127.0.0.1:0", |query, _| vec![answer_with(query, 0x8005, &[0xc0, 12], 7)]);
    let listed = [silent.address.to_string(), ABSENT.to_owned(), refusing.address.to_string()];
    let before = now();
    let server = TestServer::with(&listing(&listed));
    let serial = server.client().serial();
    assert!((before..=now()).contains(&serial), "{serial}");
    for (secondary, reason) in listed.iter().zip(["no answer in time", "refused", "it answers REFUSED"]) {
        let warning = ["WARN", &format!("secondary={secondary}")];
        server.assert_lines(&warning, 1);
        server.assert_lines(&[&warning[..], &[reason]].concat(), 1);
    }
    // A plain question, the same each time.
    let asked = silent.questions();
    let id = u16::from_be_bytes([asked[0][0], asked[0][1]]);
    assert_eq!(asked, [[header(id, 0, [1, 0, 0, 0]), question(ZONE, SOA, IN)].concat()]);
}

#[test]
fn a_given_epoch_asks_nobody() {
    let other = Answering::start("127.0.0.1:0", |query, _| vec![answer(query, now().wrapping_add(1000))]);
    let setup = Setup { arguments: vec!["--epoch", "41"], ..listing(&[other.address.to_string()]) };
    let server = TestServer::with(&setup);
    assert_eq!(server.client().serial(), 41);
    assert!(other.questions().is_empty());
}

#[test]
fn a_zone_that_the_store_knows_asks_nobody() {
    let ahead = now().wrapping_add(1000);
    let other = Answering::start("127.0.0.1:0", move |query, _| vec![answer(query, ahead)]);
    let mut server = TestServer::with(&listing(&[other.address.to_string()]));
    assert_eq!(other.questions().len(), 1);
    for _ in 0..2 {
        server.kill_9();
        server.restart();
        assert_eq!(server.client().serial(), ahead.wrapping_add(1));
    }
    assert_eq!(other.questions().len(), 1);
    lose_data(&mut server);
    assert_eq!(other.questions().len(), 2);
}

#[test]
fn a_server_does_not_ask_itself() {
    let address = free_address();
    for listen in [address, format!("0.0.0.0:{}", address.port()).parse().unwrap()] {
        let server = TestServer::with(&Setup { listen, ..listing(&[address.to_string()]) });
        assert!(Client::new(address).serial() > 0);
        assert_eq!(server.count_logged(&address.to_string()), 0, "neither asked nor missed");
    }
}

/// What is no answer to a query, whatever serial it has.
fn rubbish(query: &[u8], serial: u32) -> Vec<Vec<u8>> {
    let good = answer(query, serial);
    let elsewhere = [&query[..12], &question("other.example.test.", SOA, IN)].concat();
    let (mut other_id, mut circular) = (good.clone(), good.clone());
    other_id[1] ^= 1;
    circular[12..14].copy_from_slice(&[0xc0, 12]);
    vec![
        Vec::new(),
        vec![0xff; 600],
        query.to_vec(),
        other_id,
        answer(&elsewhere, serial),
        // A query by its flags, and a response to a NOTIFY.
        answer_with(query, 0x0400, &[0xc0, 12], serial),
        answer_with(query, 0xa400, &[0xc0, 12], serial),
        good[..good.len() - 1].to_vec(),
        [good, vec![0]].concat(),
        circular,
    ]
}

#[test]
fn rubbish_is_no_answer() {
    let far = now().wrapping_add(1 << 20);
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let only = Answering::start("127.0.0.1:0", move |query, peer| {
        // Right in all but where it comes from.
        elsewhere.send_to(&answer(query, far), peer).unwrap();
        rubbish(query, far)
    });
    let at_last = Answering::start("127.0.0.1:0", move |query, _| {
        [rubbish(query, far), vec![answer(query, far - 1), answer(query, far)]].concat()
    });
    let of_another =
        Answering::start("127.0.0.1:0", move |query, _| vec![answer_with(query, 0x8400, &name("example.test."), far)]);
    let listed = [&only, &at_last, &of_another].map(|other| other.address.to_string());
    let server = TestServer::with(&listing(&listed));
    assert_eq!(server.client().serial(), far, "one beyond the only answer");
    server.assert_logged(&format!("{}: no answer in time", listed[0]), 1);
    server.assert_logged(&format!("{}: {}", listed[1], far - 1), 1);
    server.assert_logged(&format!("{}: its answer has no SOA record", listed[2]), 1);
}

/// The server answers nothing before it has been asked for both zones.
#[test]
fn all_zones_of_a_start_are_asked_for_together() {
    const SECOND: &str = "other.example.test.";
    let ahead = now().wrapping_add(1000);
    let mut withheld: Vec<Vec<u8>> = Vec::new();
    let other = Answering::start("127.0.0.1:0", move |query, _| {
        let zone = |query: &[u8]| query[12..].to_vec();
        withheld.push(query.to_vec());
        let both = withheld.iter().any(|one| zone(one) != zone(&withheld[0]));
        if both { withheld.iter().map(|query| answer(query, ahead)).collect() } else { Vec::new() }
    });
    let mut server = TestServer::start();
    let files = ["svc.example.test.toml", "other.toml"].map(|file| server.folder().join("zones").join(file));
    let listed = format!("[notify]\nsecondaries = [\"{}\"]\n", other.address);
    std::fs::write(&files[0], std::fs::read_to_string(&files[0]).unwrap() + &listed).unwrap();
    let text = format!("origin = \"{SECOND}\"\nstatic = \"svc.example.test.zone\"\n{listed}");
    std::fs::write(&files[1], text).unwrap();
    lose_data(&mut server);
    for zone in [ZONE, SECOND] {
        assert_eq!(server.client().serial_of(zone), ahead.wrapping_add(1), "{zone}");
    }
}

#[test]
fn a_zone_that_a_reload_adds_starts_beyond_its_secondaries() {
    const ADDED: &str = "added.example.test.";
    let ahead = now().wrapping_add(1000);
    let other = Answering::start("127.0.0.1:0", move |query, _| vec![answer(query, ahead)]);
    let server = TestServer::start();
    let client = server.client();
    let serial = client.serial();
    let text = format!(
        "origin = \"{ADDED}\"\nstatic = \"svc.example.test.zone\"\n[notify]\nsecondaries = [\"{}\"]\n",
        other.address
    );
    std::fs::write(server.folder().join("zones/added.toml"), text).unwrap();
    wait_until(PATIENCE, "the added zone", || (client.ask(&query(ADDED, SOA)).rcode() == 0).then_some(()));
    assert_eq!(client.serial_of(ADDED), ahead.wrapping_add(1));
    assert_eq!(other.zones(), [name(ADDED)], "and nobody is asked for the zone that runs");
    assert_eq!(client.serial(), serial);
}

#[test]
fn a_given_epoch_is_that_of_the_start_alone() {
    const ADDED: &str = "added.example.test.";
    let ahead = now().wrapping_add(1000);
    let other = Answering::start("127.0.0.1:0", move |query, _| vec![answer(query, ahead)]);
    let server = TestServer::with(&Setup { arguments: vec!["--epoch", "41"], ..Setup::default() });
    let client = server.client();
    let listed = format!("[notify]\nsecondaries = [\"{}\"]\n", other.address);
    let text = format!("origin = \"{ADDED}\"\nstatic = \"svc.example.test.zone\"\n{listed}");
    std::fs::write(server.folder().join("zones/added.toml"), text).unwrap();
    wait_until(PATIENCE, "the added zone", || (client.ask(&query(ADDED, SOA)).rcode() == 0).then_some(()));
    assert_eq!((client.serial(), client.serial_of(ADDED)), (41, ahead.wrapping_add(1)));
}

#[test]
fn name_servers_are_asked_like_secondaries() {
    let place = enter("first_epoch::name_servers_are_asked_like_secondaries", &["--net", "--mount"]);
    if place == Place::Ran {
        return;
    }
    let ahead = now().wrapping_add(1000);
    let other = Answering::start(&format!("{OTHER}:53"), move |query, _| vec![answer(query, ahead)]);
    let setup = |name_server: &str| Setup {
        statics: format!("$TTL 300\n@ IN NS ns1\nns1 IN A {LIVEZONE}\n{name_server}"),
        listen: format!("{LIVEZONE}:53").parse().unwrap(),
        ..Setup::default()
    };
    let server = TestServer::with(&setup(&format!("@ IN NS ns2\nns2 IN A {OTHER}\n")));
    assert_eq!(server.client().serial(), ahead.wrapping_add(1));
    server.assert_logged(&format!("servers=\"{OTHER}:53: {ahead}\""), 1); // and not the server itself
    assert_eq!(server.count_logged("WARN"), 0);
    drop(server);
    let before = now();
    let server = TestServer::with(&setup(""));
    assert!((before..=now()).contains(&server.client().serial()));
    assert_eq!(server.count_logged("first epoch"), 0, "nobody to ask");
    drop(server);
    // The system's resolver belongs to everybody, so it is changed in a namespace alone.
    if place == Place::Inside {
        let folder = TempDir::with_prefix("livezone-test-").unwrap();
        let bind = start_bind(folder.path(), "127.0.0.1:53".parse().unwrap(), 7);
        resolve_at(folder.path(), "127.0.0.1");
        let server = TestServer::with(&setup("@ IN NS ns2.example.net.\n@ IN NS ns3.example.net.\n"));
        assert_eq!(server.client().serial(), ahead.wrapping_add(1));
        server.assert_logged("not asked for a serial name=ns3.example.net.", 1); // which has no address
        drop((server, bind));
        let resolver = Answering::start("127.0.0.1:53", |_, _| Vec::new());
        let mut server = TestServer::with(&setup("@ IN NS ns2.example.net.\n"));
        assert!((before..=now()).contains(&server.client().serial()), "without a resolver that answers");
        server.assert_logged("not asked for a serial name=ns2.example.net.", 1);
        assert!(server.terminate().success(), "with the question still open");
        assert!(!resolver.questions().is_empty());
    }
    assert_eq!(other.zones(), [name(ZONE)]);
}
