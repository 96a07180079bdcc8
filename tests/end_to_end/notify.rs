//! NOTIFY: who is told of a commit, when, and how often.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::RData;
use tempfile::TempDir;

use crate::support::answering::{Answering, acknowledge};
use crate::support::message::*;
use crate::support::namespace::{Place, enter, resolve_at};
use crate::support::other::{Other, free_address};
use crate::support::server::{Setup, TestServer};
use crate::support::tsig::TsigKey;
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

/// Where livezone and two other name servers listen, on port 53. No other test uses these addresses.
const LIVEZONE: &str = "127.53.0.8";
const OTHERS: [&str; 2] = ["127.53.0.9", "127.53.0.10"];

const ACKNOWLEDGED: &str = "NOTIFY is acknowledged";

/// A secondary that answers a NOTIFY as told, and no query.
fn secondary(mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Answering {
    Answering::to_all(
        "127.0.0.1:0",
        move |message, _| if message[2] & 0x78 == 0x20 { answer(message) } else { Vec::new() },
    )
}

fn acknowledging() -> Answering {
    secondary(|notify| vec![acknowledge(notify)])
}

fn listed(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("[notify]\nsecondaries = {addresses:?}\n")
}

/// A server that lists these secondaries. They tell no serial, so it starts without waiting for them.
fn start(addresses: &[SocketAddr]) -> TestServer {
    TestServer::with(&Setup { tables: listed(addresses), arguments: vec!["--epoch", "41"], ..Setup::default() })
}

/// The serials that it was told, in order; one again where its answer came late.
fn serials(other: &Answering) -> Vec<u32> {
    let serial = |octets: &Vec<u8>| match &Message::from_vec(octets).unwrap().answers[0].data {
        RData::SOA(soa) => soa.serial,
        other => panic!("{other:?}"),
    };
    other.notifies().iter().map(serial).collect()
}

/// The same, each once.
fn told(other: &Answering) -> Vec<u32> {
    let mut told = serials(other);
    told.dedup();
    told
}

fn wait_for(other: &Answering, serial: u32) {
    wait_until(PATIENCE, &format!("a NOTIFY of {serial}"), || serials(other).contains(&serial).then_some(()));
}

/// Registers another member; returns the serial.
fn commit(server: &TestServer, id: usize) -> u32 {
    let client = server.client();
    client.update(&Update::member(MEMCACHED, &format!("i-{id}"), "192.0.2.1").lease(3600));
    client.serial()
}

#[test]
fn a_secondary_is_told_at_the_start_and_at_once_after_a_commit() {
    let other = acknowledging();
    let server = start(&[other.address]);
    wait_for(&other, 41);
    let start = Instant::now();
    assert_eq!(commit(&server, 1), 42);
    wait_for(&other, 42);
    assert!(start.elapsed() < Duration::from_secs(5), "not when something else happens");
    server.wait_for_line(ACKNOWLEDGED);
    assert_eq!(told(&other), [41, 42]);
    server.assert_logged(ACKNOWLEDGED, 1); // it goes on to know
    let octets = other.notifies().into_iter().next_back().unwrap();
    let message = Message::from_vec(&octets).unwrap();
    let soa = server.client().ask(&query(ZONE, SOA)).message.answers;
    assert_eq!((message.metadata.op_code, message.metadata.message_type), (OpCode::Notify, MessageType::Query));
    assert!(message.metadata.authoritative);
    assert_eq!((message.answers, message.additionals.len(), message.edns), (soa, 0, None));
    assert!(octets[12..].starts_with(&question(ZONE, SOA, IN)));
    // A renewal is no commit.
    commit(&server, 1);
    assert_eq!(commit(&server, 2), 43);
    wait_for(&other, 43);
    assert_eq!(told(&other), [41, 42, 43]);
}

#[test]
fn a_storm_of_commits_is_no_storm_of_notifies() {
    const COMMITS: usize = 300;
    let other = acknowledging();
    let server = start(&[other.address]);
    wait_for(&other, 41);
    let (before, start) = (serials(&other).len(), Instant::now());
    let last = (0..COMMITS).fold(41, |_, id| commit(&server, id));
    wait_for(&other, last);
    let most = usize::try_from(start.elapsed().as_millis() / 50).unwrap() + 2;
    let told = serials(&other).split_off(before);
    assert!(told.len() <= most, "{} of {COMMITS} commits, {most} at most", told.len());
    assert_eq!(last, 41 + u32::try_from(COMMITS).unwrap());
    assert!(told.windows(2).all(|pair| pair[0] <= pair[1]), "{told:?}");
}

#[test]
fn what_is_lost_is_sent_again_with_the_newest_serial() {
    let count = Arc::new(AtomicUsize::new(0));
    let other = {
        let count = count.clone();
        secondary(
            move |notify| {
                if count.fetch_add(1, Ordering::Relaxed) < 2 { Vec::new() } else { vec![acknowledge(notify)] }
            },
        )
    };
    let server = start(&[other.address]);
    wait_for(&other, 41);
    let newest = commit(&server, 1);
    server.wait_for_line(ACKNOWLEDGED);
    assert_eq!(serials(&other).last(), Some(&newest));
    let ids: Vec<Vec<u8>> = other.notifies().iter().map(|notify| notify[..2].to_vec()).collect();
    assert_eq!(server.count_logged("NOTIFY is not answered"), 0, "datagrams get lost");
    assert!(ids.len() >= 3);
}

#[test]
fn who_refuses_is_told_of_the_next_commit_and_one_line_says_so() {
    let other = secondary(|notify| {
        let mut refusal = acknowledge(notify);
        refusal[3] |= 4; // NOTIMP
        vec![refusal]
    });
    let server = start(&[other.address]);
    server.wait_for_line("NOTIFY is refused");
    for id in 0..2 {
        let serial = commit(&server, id);
        wait_for(&other, serial);
    }
    assert_eq!(told(&other), [41, 42, 43], "and not of the same one again");
    server.assert_logged("NOTIFY is refused", 1);
    server.assert_logged("rcode=NOTIMP", 1);
}

#[test]
fn a_key_signs_what_is_sent_and_only_a_signed_answer_counts() {
    let key: Arc<OnceLock<TsigKey>> = Arc::default();
    let verified = Arc::new(AtomicUsize::new(0));
    let honest = {
        let (key, verified) = (key.clone(), verified.clone());
        secondary(move |notify| {
            // The first ones are lost: the test has not read the key yet.
            let Some(signed) = key.get().map(|key| key.read_request(notify).expect("a right signature")) else {
                return Vec::new();
            };
            verified.fetch_add(1, Ordering::Relaxed);
            let good = key.get().unwrap().sign_answer(&acknowledge(&signed.octets), &signed.mac);
            let mut wrong = good.clone();
            let at = wrong.len() - 20;
            wrong[at] ^= 1;
            let mut refusal = acknowledge(&signed.octets);
            refusal[3] |= 5;
            vec![refusal, wrong, good]
        })
    };
    let forger = secondary(|notify| {
        // Without its last record.
        let message = Message::from_vec(notify).unwrap();
        assert!(message.signature.is_some(), "never unsigned");
        let (mut octets, len) = (acknowledge(notify), 12 + 22);
        octets[6..12].fill(0);
        octets.truncate(len);
        vec![octets]
    });
    let entry = |other: &Answering| format!("{{ address = \"{}\", key = \"xfer.\" }}", other.address);
    let server = TestServer::with(&Setup {
        tables: format!("[notify]\nsecondaries = [{}, {}]\n", entry(&honest), entry(&forger)),
        keys: vec![("xfer", "hmac-sha256")],
        arguments: vec!["--epoch", "41"],
        ..Setup::default()
    });
    key.set(server.key("xfer")).unwrap();
    let of = |text: &str, other: &Answering| server.count_lines(&[text, &other.address.to_string()]);
    wait_until(PATIENCE, "the acknowledgement", || (of(ACKNOWLEDGED, &honest) == 1).then_some(()));
    let unsigned = "an answer is not signed";
    wait_until(PATIENCE, "the warning", || (of(unsigned, &forger) == 1).then_some(()));
    assert!(verified.load(Ordering::Relaxed) > 0);
    assert_eq!((of(ACKNOWLEDGED, &forger), of("WARN", &honest)), (0, 0));
}

#[test]
fn a_restart_tells_everybody() {
    let other = acknowledging();
    let mut server = start(&[other.address]);
    wait_for(&other, 41);
    let serial = commit(&server, 1);
    wait_for(&other, serial);
    for _ in 0..2 {
        server.kill_9();
        let before = serials(&other).len();
        server.restart();
        wait_until(PATIENCE, "a NOTIFY after the restart", || (serials(&other).len() > before).then_some(()));
        assert_eq!(serials(&other).last(), Some(&serial));
    }
    assert_eq!(server.client().serial(), serial, "which changed nothing");
}

#[test]
fn a_reload_adds_and_removes_a_target() {
    let [one, other] = [acknowledging(), acknowledging()];
    let server = start(&[one.address]);
    wait_for(&one, 41);
    let file = server.folder().join("zones/svc.example.test.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let list = |addresses: &[SocketAddr]| {
        std::fs::write(&file, text.replace(&listed(&[one.address]), &listed(addresses))).unwrap();
    };
    list(&[one.address, other.address]);
    wait_for(&other, 41);
    assert_eq!(told(&one), [41], "it knows");
    let lines = server.count_logged("reloaded");
    list(&[other.address]);
    wait_until(PATIENCE, "a reload", || (server.count_logged("reloaded") > lines).then_some(()));
    for id in 0..2 {
        let serial = commit(&server, id);
        wait_for(&other, serial);
    }
    assert_eq!((told(&one), told(&other)), (vec![41], vec![41, 42, 43]));
}

#[test]
fn a_zone_that_a_reload_adds_is_told_of_once_it_is_served() {
    const ADDED: &str = "added.example.test.";
    let server = TestServer::start();
    let client = server.client();
    let (known, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let other = {
        let (known, refused, address) = (known.clone(), refused.clone(), server.address);
        secondary(move |notify| {
            // As a secondary does: it asks the one that told it.
            let answer = crate::support::client::Client::new(address).ask(&query(ADDED, SOA));
            if answer.rcode() == 0 { &known } else { &refused }.fetch_add(1, Ordering::Relaxed);
            vec![acknowledge(notify)]
        })
    };
    let text = format!("origin = \"{ADDED}\"\nstatic = \"svc.example.test.zone\"\n{}", listed(&[other.address]));
    std::fs::write(server.folder().join("zones/added.toml"), text).unwrap();
    wait_until(PATIENCE, "a NOTIFY", || (known.load(Ordering::Relaxed) > 0).then_some(()));
    assert_eq!(refused.load(Ordering::Relaxed), 0);
    assert_eq!(told(&other), [client.serial_of(ADDED)]);
    // A removed zone is told of no more, and its notifier ends.
    std::fs::remove_file(server.folder().join("zones/added.toml")).unwrap();
    server.wait_for_line("zone ended");
    assert_eq!(told(&other).len(), 1);
}

#[test]
fn a_server_ends_while_nobody_answers() {
    let silent = secondary(|_| Vec::new());
    let mut server = start(&[silent.address]);
    server.wait_for_line("NOTIFY is not answered");
    let start = Instant::now();
    assert!(server.terminate().success());
    assert!(start.elapsed() < Duration::from_secs(5));
    server.assert_logged("NOTIFY is not answered", 1);
    assert!(serials(&silent).len() >= 3);
}

/// It has no copy of the zone, and answers NOTIFY all the same.
#[test]
fn bind_acknowledges_a_signed_notify() {
    let (folder, address) = (TempDir::with_prefix("livezone-test-").unwrap(), free_address());
    let server = TestServer::with(&Setup {
        tables: format!("[notify]\nsecondaries = [{{ address = \"{address}\", key = \"xfer.\" }}]\n"),
        keys: vec![("xfer", "hmac-sha256")],
        arguments: vec!["--epoch", "41"],
        ..Setup::default()
    });
    std::fs::copy(server.key_file("xfer"), folder.path().join("xfer.key")).unwrap();
    let (place, ip, port, primary) = (folder.path().display(), address.ip(), address.port(), server.address);
    let conf = format!(
        "include \"xfer.key\";\n\
         options {{ directory \"{place}\"; listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; recursion no;\n\
         pid-file none; lock-file none; session-keyfile \"session.key\"; dnssec-validation no; notify no; }};\n\
         controls {{ }};\n\
         zone \"svc.example.test\" {{ type secondary; primaries {{ {} port {} key \"xfer.\"; }}; }};\n",
        primary.ip(),
        primary.port()
    );
    std::fs::write(folder.path().join("named.conf"), conf).unwrap();
    let mut bind = Other::start(folder.path(), "named", &["-g", "-n", "1", "-c", "named.conf"]);
    bind.wait(address, ZONE);
    commit(&server, 1);
    server.wait_for_line(ACKNOWLEDGED);
    let log = std::fs::read_to_string(folder.path().join("named.log")).unwrap();
    assert!(log.contains("received notify for zone 'svc.example.test': TSIG 'xfer'"), "{log}");
}

/// A resolver that knows one name server, at one address.
fn resolver(host: &'static str, address: &str) -> Answering {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    Answering::start("127.0.0.1:53", move |asked, _| {
        let question = &asked[12..12 + name(host).len() + 4];
        let is_known = question.ends_with(&[0, 1, 0, 1]) && question.starts_with(&name(host));
        let id = u16::from_be_bytes([asked[0], asked[1]]);
        let head = header(id, 0x8580, [1, u16::from(is_known), 0, 0]);
        let record = record(host, A, IN, 60, &address.octets());
        vec![[&head[..], question, if is_known { &record } else { &[] }].concat()]
    })
}

#[test]
fn name_servers_are_told_but_the_primary() {
    let place = enter("notify::name_servers_are_told_but_the_primary", &["--net", "--mount"]);
    if place == Place::Ran {
        return;
    }
    let others = OTHERS.map(|other| Answering::start(&format!("{other}:53"), |_, _| Vec::new()));
    let setup = |name_servers: &str| Setup {
        // ns1 is the primary, which is this server; so is ns3.
        statics: format!(
            "$TTL 300\n@ IN NS ns1\n@ IN NS ns3\nns1 IN A {LIVEZONE}\nns3 IN A {LIVEZONE}\n{name_servers}"
        ),
        listen: format!("{LIVEZONE}:53").parse().unwrap(),
        arguments: vec!["--epoch", "41"],
        ..Setup::default()
    };
    let inside = format!("@ IN NS ns2\nns2 IN A {}\n", OTHERS[0]);
    let server = TestServer::with(&setup(&inside));
    wait_for(&others[0], 41);
    let serial = commit(&server, 1);
    wait_for(&others[0], serial);
    server.wait_for_line(ACKNOWLEDGED);
    assert_eq!((server.count_logged("NOTIFY"), server.count_logged(ACKNOWLEDGED)), (1, 1), "nobody else is told");
    drop(server);
    // The system's resolver belongs to everybody, so it is changed in a namespace alone.
    if place == Place::Inside {
        let folder = TempDir::with_prefix("livezone-test-").unwrap();
        let resolver = resolver("ns2.example.net.", OTHERS[1]);
        resolve_at(folder.path(), "127.0.0.1");
        let server = TestServer::with(&setup("@ IN NS ns2.example.net.\n"));
        wait_for(&others[1], 41);
        let asked = resolver.questions().len();
        assert!(asked > 0);
        let serial = commit(&server, 1);
        wait_for(&others[1], serial);
        assert_eq!(resolver.questions().len(), asked, "not looked up for a commit");
        // A reload moves the zone to the other one, which is told at once.
        let statics = server.folder().join("zones/svc.example.test.zone");
        std::fs::write(statics, setup(&inside).statics).unwrap();
        let before = serials(&others[0]).len();
        wait_until(PATIENCE, "the other name server", || (serials(&others[0]).len() > before).then_some(()));
    }
}
