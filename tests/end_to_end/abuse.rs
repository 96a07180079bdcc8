//! What forgers would use the server for: cookies tell clients from them, and the rate of answers bounds what they get.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::message::*;
use crate::support::other::{Other, free_address};
use crate::support::programs::{dig, kdig};
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

const CLIENT: &[u8] = b"a client";
/// One answer a second for each address, loopback too; one thread, so that answers come in the order of their queries.
const LIMITED: &str = "[dns]\nthreads = 1\n[dns.rrl]\nrate = 1\nipv4-prefix = 32\nexempt = []\n";

fn with(server: &str) -> TestServer {
    TestServer::with(&Setup { server: server.to_owned(), ..Setup::default() })
}

const REFUSED: u8 = 5;

fn cookie_query(cookie: &[u8]) -> Vec<u8> {
    let opt = opt(1232, 0, &option(10, cookie));
    [header(next_id(), 0, [1, 0, 0, 1]), question(MEMCACHED, SRV, IN), opt].concat()
}

/// The cookie that a server gives over TCP, where there is no limit.
fn learn(client: &Client, cookie: &[u8]) -> Vec<u8> {
    client.ask_tcp(&cookie_query(cookie)).cookie().expect("a cookie")
}

/// Writes `livezone.toml` and waits until it is in force.
fn reload(server: &TestServer, text: &str) {
    std::fs::write(server.folder().join("livezone.toml"), text).unwrap();
    let before = server.count_logged("reloaded");
    assert!(Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap().success());
    wait_until(PATIENCE, "a reload", || (server.count_logged("reloaded") > before).then_some(()));
}

/// Sends so many of a query, and then one with a good cookie, whose answer is the last. What came of them: answers, slips, and
/// those that were dropped. No slip is larger than its query.
fn ask_many(client: &Client, packet: &[u8], good: &[u8], count: usize) -> [usize; 3] {
    let last = cookie_query(good);
    (0..count).for_each(|_| client.send(packet));
    client.send(&last);
    let (mut answers, mut slips) = (0, 0);
    loop {
        let octets = client.receive(PATIENCE).expect("an answer to who has a good cookie");
        if octets[..2] == last[..2] {
            assert_eq!(octets[2] & 2, 0, "not cut");
            return [answers, slips, count - answers - slips];
        }
        assert_eq!(octets[..2], packet[..2]);
        if octets[2] & 2 == 0 {
            answers += 1;
            continue;
        }
        slips += 1;
        assert!(octets.len() <= packet.len(), "{octets:02x?} for {packet:02x?}");
        assert_eq!(octets[4..10], [0, 1, 0, 0, 0, 0], "the question alone");
        let end = packet[12..].iter().position(|&octet| octet == 0).unwrap();
        let question = 12..12 + end + 5;
        assert_eq!(octets[question.clone()], packet[question]);
        assert_eq!(octets[11], packet[11], "OPT where the query has it");
    }
}

#[test]
fn who_carries_its_cookie_is_served_beyond_the_rate_and_others_are_told_to_use_tcp_or_dropped() {
    let server = with(LIMITED);
    let client = server.client();
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    let good = learn(&client, CLIENT);
    assert!(good.len() == 24 && good.starts_with(CLIENT));
    for _ in 0..50 {
        let answer = client.ask(&cookie_query(&good));
        assert_eq!((answer.targets().len(), answer.message.metadata.truncation), (1, false));
        assert_eq!(answer.cookie(), Some(good.clone()));
    }
    let forged = [CLIENT, &[1; 16]].concat();
    for packet in [query(MEMCACHED, SRV), edns_query(MEMCACHED, SRV, 4096), cookie_query(CLIENT), cookie_query(&forged)]
    {
        let [answers, slips, dropped] = ask_many(&client, &packet, &good, 60);
        // Of what exceeded the rate, one of two was told to use TCP.
        assert!(slips > 0 && slips.abs_diff(dropped) <= 1, "{answers} {slips} {dropped}");
        assert_eq!(client.ask_tcp(&packet).targets().len(), 1, "whoever comes again by TCP is served");
    }
    ["answer-rate", "answer-slips"].iter().for_each(|limit| server.wait_for_line(limit));
}

#[test]
fn refusals_of_unsigned_updates_are_within_the_rate_too() {
    let server = TestServer::with(&Setup {
        server: LIMITED.to_owned(),
        tables: "[access]\nupdate = []\n".to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let good = learn(&client, CLIENT);
    let update = Update::member(MEMCACHED, "i-1", "192.0.2.1").encode();
    (0..60).for_each(|_| client.send(&update));
    // What is no plain query is answered in the order in which it came.
    let options = [option(10, &good), option(3, &[])].concat();
    let last = [header(next_id(), 0, [1, 0, 0, 1]), question(MEMCACHED, SRV, IN), opt(1232, 0, &options)].concat();
    client.send(&last);
    let (mut reasoned, mut short) = (0, 0);
    loop {
        let octets = client.receive(PATIENCE).expect("an answer to who has a good cookie");
        if octets[..2] == last[..2] {
            break;
        }
        assert_eq!((octets[2] & 2, octets[3] & 0xf), (0, REFUSED), "{octets:02x?}");
        if octets.len() > update.len() { reasoned += 1 } else { short += 1 }
    }
    let dropped = 60usize - reasoned - short;
    assert!(short > 0 && short.abs_diff(dropped) <= 1, "{reasoned} {short} {dropped}");
    assert_eq!(client.ask_tcp(&update).rcode(), u16::from(REFUSED));
}

#[test]
fn loopback_is_not_limited_unless_exempt_says_so_and_a_reload_counts_at_once() {
    let rate = "[dns]\nthreads = 1\n[dns.rrl]\nrate = 1\nipv4-prefix = 32\n";
    let server = with(rate);
    let client = server.client();
    let (packet, good) = (edns_query(ZONE, SOA, 1232), learn(&client, CLIENT));
    // Question and size are those of another query: only answers are expected here.
    let all_answered =
        |client: &Client| (0..50).for_each(|_| assert!(!client.ask(&packet).message.metadata.truncation));
    all_answered(&client);
    reload(&server, LIMITED);
    let [answers, slips, _] = ask_many(&client, &edns_query(MEMCACHED, SRV, 1232), &good, 60);
    assert!(answers < 40 && slips > 0, "{answers} {slips}");
    reload(&server, &LIMITED.replace("rate = 1\n", "rate = 0\n"));
    all_answered(&client);
}

#[test]
fn servers_with_a_secret_in_common_know_each_others_cookies_and_a_new_secret_takes_over() {
    let secrets = |secrets: &str| {
        format!("{LIMITED}[[key]]\nname = \"k.\"\nsecret = \"MDEyMzQ1Njc4OWFiY2RlZg==\"\n")
            .replace("[dns]\n", &format!("[dns]\ncookie-secret = {secrets}\n"))
    };
    let [old, new] = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"];
    let [one, other] = [(); 2].map(|()| with(&secrets(&format!("\"{old}\""))));
    let (one_client, other_client) = (one.client(), other.client());
    let cookie = learn(&one_client, CLIENT);
    assert_eq!(learn(&other_client, &cookie), cookie);
    assert_eq!(other_client.ask(&cookie_query(&cookie)).cookie(), Some(cookie.clone()));
    // Without the secret in common, each has its own.
    assert_ne!(learn(&with("").client(), &cookie), cookie);
    reload(&one, &secrets(&format!("[\"{new}\", \"{old}\"]")));
    let renewed = learn(&one_client, &cookie);
    assert_ne!(renewed, cookie);
    // Both are good: neither is limited.
    for cookie in [&cookie, &renewed] {
        for _ in 0..20 {
            assert_eq!(one_client.ask(&cookie_query(cookie)).cookie().map(|cookie| cookie.len()), Some(24));
        }
    }
    reload(&other, &secrets(&format!("\"{new}\"")));
    assert_eq!(learn(&other_client, &renewed), renewed);
    assert_ne!(learn(&other_client, &cookie), cookie);
}

#[test]
fn dig_and_kdig_get_their_cookie_and_have_it_accepted() {
    let server = TestServer::start();
    let cookie_of = |text: &str| {
        let (_, rest) = text.split_once("COOKIE: ").unwrap_or_else(|| panic!("no cookie: {text}"));
        rest.split_whitespace().next().unwrap().to_ascii_lowercase()
    };
    for (name, status) in [(ZONE, "NOERROR"), ("nobody.svc.example.test", "NXDOMAIN"), ("example.net", "REFUSED")] {
        for transport in ["+notcp", "+tcp"] {
            let printed = dig(server.address, &["+cookie=2464c4abcf10c957", transport, name, "SOA"]);
            let cookie = cookie_of(&printed.text);
            assert_eq!((printed.status.as_str(), cookie.len()), (status, 48), "{}", printed.text);
            assert!(
                cookie.starts_with("2464c4abcf10c95701000000") && printed.text.contains("(good)"),
                "{}",
                printed.text
            );
            let again = dig(server.address, &[&format!("+cookie={cookie}"), transport, name, "SOA"]);
            assert_eq!(cookie_of(&again.text), cookie);
            let again = kdig(server.address, &[&format!("+cookie={cookie}"), transport, name, "SOA"]);
            assert!(again.text.to_ascii_lowercase().contains(&cookie), "{}", again.text);
        }
    }
    // A query without a question.
    let printed = dig(server.address, &["+header-only", "+cookie=2464c4abcf10c957"]);
    assert_eq!((printed.status.as_str(), cookie_of(&printed.text).len()), ("NOERROR", 48), "{}", printed.text);
    let off = with("[dns]\ncookies = false\n");
    let printed = dig(off.address, &["+cookie", ZONE, "SOA"]);
    assert!(printed.status == "NOERROR" && !printed.text.contains("COOKIE"), "{}", printed.text);
}

/// A resolver's answers to so many names of members, which it doesn't know yet.
fn resolve_all(server: &TestServer, resolver: SocketAddr, count: usize) {
    let crowd = (0..count).fold(Update::new().lease(3600), |update, number| {
        update.and_member(MEMCACHED, &format!("m-{number}"), &format!("10.0.0.{number}"))
    });
    assert_eq!(server.client().ask_tcp(&crowd.encode()).rcode(), 0);
    for number in 0..count {
        let printed = dig(resolver, &[&format!("m-{number}.memcached.{ZONE}"), "A"]);
        assert_eq!((printed.status.as_str(), printed.answers.len()), ("NOERROR", 1), "{}", printed.text);
    }
}

/// A resolver without cookies takes what it is told: it comes again over TCP.
#[test]
fn unbound_resolves_behind_a_rate_that_it_exceeds() {
    let server = with(&LIMITED.replace("rate = 1\n", "rate = 1\nslip = 1\n"));
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    let resolver = free_address();
    let config = format!(
        "server:\n directory: \"{}\"\n interface: {}@{}\n do-ip6: no\n access-control: 127.0.0.0/8 allow\n chroot: \"\"\n\
         \x20username: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n num-threads: 1\n\
         \x20do-not-query-localhost: no\n local-zone: \"test.\" nodefault\n module-config: \"iterator\"\n\
         remote-control:\n control-enable: no\nstub-zone:\n name: \"{ZONE}\"\n stub-addr: {}@{}\n",
        folder.path().display(),
        resolver.ip(),
        resolver.port(),
        server.address.ip(),
        server.address.port(),
    );
    std::fs::write(folder.path().join("unbound.conf"), config).unwrap();
    let mut unbound = Other::start(folder.path(), "unbound", &["-d", "-c", "unbound.conf"]);
    unbound.wait(resolver, ZONE);
    resolve_all(&server, resolver, 20);
    server.wait_for_line("answer-slips");
}

/// BIND sends cookies: only what it asks before it has one is counted.
#[test]
fn bind_as_a_resolver_is_not_limited_since_it_carries_its_cookie() {
    let server = with(&LIMITED.replace("rate = 1\n", "rate = 4\n"));
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    let resolver = free_address();
    let config = format!(
        "options {{ directory \"{}\"; listen-on port {} {{ {}; }}; listen-on-v6 {{ none; }}; recursion yes; pid-file none;\n\
         lock-file none; session-keyfile \"session.key\"; dnssec-validation no; }};\ncontrols {{ }};\n\
         zone \"{ZONE}\" {{ type forward; forward only; forwarders {{ {} port {}; }}; }};\n",
        folder.path().display(),
        resolver.port(),
        resolver.ip(),
        server.address.ip(),
        server.address.port(),
    );
    std::fs::write(folder.path().join("named.conf"), config).unwrap();
    let mut bind = Other::start(folder.path(), "named", &["-g", "-c", "named.conf"]);
    bind.wait(resolver, ZONE);
    resolve_all(&server, resolver, 60);
    assert_eq!(server.count_logged("a limit is reached"), 0);
}
