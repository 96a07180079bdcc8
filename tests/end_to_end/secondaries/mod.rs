//! BIND, NSD, Knot and PowerDNS as secondaries of livezone: a folder per scenario.
//!
//! All transfers are signed with a key of `livezone keygen`, as the examples in `examples/secondaries` have it, which are
//! what these servers run with (`stock`). The tests make them look for a newer zone by their control programs, so that
//! nothing but `notified` depends on NOTIFY.

mod away;
mod changes;
mod examples;
mod initial;
mod killed;
mod large;
mod notified;
mod restarted;
mod stock;
mod tsig;
mod wrap;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::ZONE;
use crate::support::client::Client;
use crate::support::message::*;
use crate::support::programs::run;
use crate::support::server::{Setup, TestServer};

use stock::{Place, Program, Secondary};

/// How long secondaries may take for what they are told to do, beside all other tests.
const SLOW: Duration = Duration::from_secs(90);
/// After this time they are told again: a command that comes while they work on the one before may be lost.
const TELL_AGAIN: Duration = Duration::from_millis(500);

/// The forms of a transfer, as livezone's log calls them.
const WHOLE: &str = "whole";
const CHANGES: &str = "changes";

/// The key of transfers.
const KEY: (&str, &str) = ("xfer", "hmac-sha256");

/// A primary and its secondaries.
#[derive(Debug)]
struct Scene {
    server: TestServer,
    secondaries: Vec<Secondary>,
}

/// What a primary is started with: transfers for the key, updates for this machine, and a log that tells of transfers.
fn primary() -> Setup {
    Setup {
        tables: "[[service]]\nname = \"_memcached._tcp\"\n[[service]]\nname = \"_www._tcp\"\ndns-sd = true\n"
            .to_owned(),
        keys: vec![KEY],
        arguments: vec!["--log", "info,livezone::server::front=debug,livezone::dns=debug"],
        ..Setup::default()
    }
}

/// The `[access]` table of these tests.
const ACCESS: &str = "[access]\ntransfer = [{ key = \"xfer.\" }]\n\
                      update = [{ network = \"127.0.0.0/8\", members = \"any\", records = [\"*\"] }]\n";

impl Scene {
    /// Starts a primary alone.
    fn primary(setup: &Setup) -> Scene {
        let tables = format!("{ACCESS}{}", setup.tables);
        Scene { server: TestServer::with(&Setup { tables, ..setup.clone() }), secondaries: Vec::new() }
    }

    /// Starts these secondaries.
    fn follow(&mut self, programs: impl IntoIterator<Item = Box<dyn Program>>) {
        let key = self.server.key(KEY.0);
        for program in programs {
            self.secondaries.push(Secondary::start(program, Place::new(&key), self.server.address));
        }
    }

    /// Waits until all secondaries have the primary's serial. They are told to look for it, again and again.
    fn catch_up(&self) {
        let wanted = self.server.client().serial();
        let start = Instant::now();
        let mut told: Option<Instant> = None;
        let mut behind: Vec<&Secondary> = self.secondaries.iter().collect();
        loop {
            behind.retain(|secondary| secondary.serial() != Some(wanted));
            if behind.is_empty() {
                return;
            }
            if told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
                behind.iter().for_each(|secondary| secondary.refresh());
                told = Some(Instant::now());
            }
            let names = || behind.iter().map(|secondary| secondary.name()).collect::<Vec<_>>();
            assert!(start.elapsed() < SLOW, "not within {SLOW:?}: serial {wanted} in {:?}", names());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The primary's zone, record by record.
    fn records(&self) -> BTreeSet<String> {
        records(self.server.address, Some(&self.server.key_file(KEY.0)))
    }

    /// Asserts that each secondary has the zone of the primary, record by record.
    fn assert_equal(&self) {
        let own = self.records();
        for secondary in &self.secondaries {
            let theirs = records(secondary.address(), None);
            if theirs != own {
                let mut text = String::new();
                for record in own.difference(&theirs).take(10) {
                    writeln!(text, "  missing: {record}").unwrap();
                }
                for record in theirs.difference(&own).take(10) {
                    writeln!(text, "  beyond:  {record}").unwrap();
                }
                panic!("{} has {} records and livezone {}\n{text}", secondary.name(), theirs.len(), own.len());
            }
        }
    }

    /// How many transfers of a form the primary has sent to an address.
    fn sent(&self, ip: IpAddr, form: &str) -> usize {
        self.server.count_lines(&["zone transfer", &format!(" peer={ip}:"), &format!("form=\"{form}\"")])
    }

    /// The same for each secondary.
    fn all_sent(&self, form: &str) -> Vec<(&'static str, usize)> {
        self.secondaries.iter().map(|secondary| (secondary.name(), self.sent(secondary.ip(), form))).collect()
    }
}

/// A zone as its server transfers it whole, one record a line.
fn records(server: SocketAddr, key: Option<&Path>) -> BTreeSet<String> {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let mut arguments = vec![&*at, "-p", &port, ZONE, "AXFR", "+onesoa", "+noall", "+answer"];
    let key = key.map(|key| key.to_str().unwrap());
    arguments.extend(key.iter().flat_map(|key| ["-k", key]));
    let output = run("dig", &arguments, "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !text.contains("Transfer failed"), "{text}{:?}", output.stderr);
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(';'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let records: BTreeSet<String> = lines.iter().cloned().collect();
    assert_eq!(records.len(), lines.len(), "a record stands there twice");
    assert!(!records.is_empty(), "{text}");
    records
}

/// Registers members of a service, so many in a message.
fn register(client: &Client, service: &str, members: std::ops::Range<usize>, each: usize) {
    let members: Vec<usize> = members.collect();
    for chunk in members.chunks(each) {
        let update = chunk.iter().fold(Update::new().lease(3600), |update, number| {
            update.and_member(service, &format!("m-{number}"), &format!("10.0.{}.{}", number / 250, number % 250))
        });
        assert_eq!(client.ask_tcp(&update.encode()).rcode(), 0);
    }
}
