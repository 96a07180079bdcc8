//! livezone as a secondary, of itself and of other servers.

mod forwarding;
mod livezone;
mod primaries;
mod restart;
mod roles;
mod servers;

use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::message::*;
use crate::support::other::free_address;
use crate::support::programs::run;
use crate::support::server::{Setup, TestServer};
use crate::support::{PATIENCE, ZONE, wait_until};

/// The zone file of a copy.
pub(super) fn copy_file(primaries: &[SocketAddr], more: &str) -> String {
    let primaries: Vec<String> = primaries.iter().map(ToString::to_string).collect();
    format!("origin = \"{ZONE}\"\nprimary = {primaries:?}\n{more}\n")
}

/// A secondary of these primaries, at an address that they were told before.
pub(super) fn secondary_at(listen: SocketAddr, primaries: &[SocketAddr], more: &str) -> Setup {
    Setup { zone: Some(copy_file(primaries, more)), listen, ..Setup::default() }
}

pub(super) fn start_secondary(primaries: &[SocketAddr]) -> TestServer {
    TestServer::with(&secondary_at(free_address(), primaries, ""))
}

/// A primary that tells these secondaries.
pub(super) fn primary_of(secondaries: &[SocketAddr]) -> Setup {
    let secondaries: Vec<String> = secondaries.iter().map(ToString::to_string).collect();
    Setup {
        tables: format!("[notify]\nsecondaries = {secondaries:?}\n"),
        arguments: vec!["--epoch", "1000"],
        ..Setup::default()
    }
}

/// A primary whose copies expire after three seconds. It tells nobody.
pub(super) fn short_lived(statics: &str) -> Setup {
    Setup {
        zone: Some(format!(
            "origin = \"{ZONE}\"\nttl = \"1s\"\nnegative-ttl = \"2s\"\nstatic = \"svc.example.test.zone\"\n\
             [soa]\nrefresh = \"1s\"\nretry = \"1s\"\nexpire = \"3s\"\n[lease]\nmin = \"1s\"\n"
        )),
        statics: format!("$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\n{statics}"),
        arguments: vec!["--epoch", "1000"],
        listen: free_address(),
        ..Setup::default()
    }
}

/// A line as every server would print it: words between single spaces, names in lower case.
fn canonical(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let text = words.join(" ");
    let owner = words[0].to_ascii_lowercase();
    // Text has its case.
    if words.get(3) == Some(&"TXT") { format!("{owner}{}", &text[owner.len()..]) } else { text.to_ascii_lowercase() }
}

/// A comment is none, nor is the signature.
fn is_record(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(';') && line.split_whitespace().nth(3) != Some("TSIG")
}

/// All records of a zone, by AXFR with dig, in an order of their own.
pub(super) fn axfr(server: SocketAddr, arguments: &[&str]) -> Vec<String> {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let arguments = [arguments, &[&at, "-p", &port, ZONE, "AXFR", "+nostats", "+nocmd", "+nocomments"]].concat();
    let output = run("dig", &arguments, "");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text.lines().filter(|line| is_record(line)).map(canonical).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// The serial that a server has, if it has the zone.
pub(super) fn serial(server: SocketAddr) -> Option<u32> {
    Client::new(server).try_serial(PATIENCE)
}

/// Waits until a server has this serial.
pub(super) fn wait_for_serial(server: SocketAddr, wanted: u32) {
    wait_until(PATIENCE, &format!("serial {wanted} at {server}"), || (serial(server) == Some(wanted)).then_some(()));
}

/// Waits until one server has what the other has, and compares all records.
#[track_caller]
pub(super) fn assert_copied(primary: SocketAddr, secondary: SocketAddr) -> Vec<String> {
    wait_for_serial(secondary, serial(primary).expect("the primary has it"));
    let records = axfr(primary, &[]);
    assert!(records.len() > 2, "{records:?}");
    assert_eq!(axfr(secondary, &[]), records);
    records
}

/// The rcode of the SOA query, and what is said of it.
pub(super) fn state(server: SocketAddr) -> (u16, String) {
    let answer = Client::new(server).ask(&edns_query(ZONE, SOA, 1232));
    (answer.rcode(), answer.error_text())
}

/// Waits until a server answers SERVFAIL for the zone.
pub(super) fn wait_for_servfail(server: SocketAddr) -> String {
    wait_until(PATIENCE, "SERVFAIL", || {
        let (rcode, text) = state(server);
        (rcode == 2).then_some(text)
    })
}

/// What the HTTP API says of the zone.
pub(super) fn zone_view(server: &TestServer, path: &str) -> (u16, serde_json::Value) {
    let url = format!("http://{}/v1/zones/{ZONE}{path}", server.http.unwrap());
    let output = run("curl", &["-s", "-S", "-m", "20", "-w", "\n%{http_code}", &url], "");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")))
}
