//! BIND, Knot and NSD serve the zone that livezone exports, and all four are asked the same.
//!
//! Questions are generated from a seed, the same each time, so that a change is judged by what it does; `LIVEZONE_SEED` sets
//! another, `LIVEZONE_QUESTIONS` their number. What
//! differs must be explained by a rule of `rules`, or the test fails; so it does if a reply of ours is wrong by itself, as
//! `facts` has it.

mod daemons;
mod facts;
mod questions;
mod replies;
mod rules;
mod tests;

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::message::*;
use crate::support::server::{Setup, TestServer, livezone};
use crate::support::{MEMCACHED, ZONE};

use daemons::Peers;
use facts::{Facts, faults};
use questions::{Question, Questions};
use replies::{Difference, Reply, ask};

/// Everything that a static file can hold, beside members.
const STATICS: &str = include_str!("zone.txt");

const BIG: &str = "_big._udp.svc.example.test.";

/// A server with members of a small and a large service.
fn populated() -> TestServer {
    let server = TestServer::with(&Setup {
        server: "[dns]\nnsid = \"peer\"\nversion = \"peer\"\n[http]\nlisten = \"\"\n".to_owned(),
        tables: "[[service]]\nname = \"_memcached._tcp\"\ndns-sd = true\n[[service]]\nname = \"_idle._tcp\"\n"
            .to_owned(),
        statics: STATICS.to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    for number in 1..=8 {
        let id = format!("i-{number}");
        let update = Update::member(MEMCACHED, &id, &format!("192.0.2.{number}"))
            .add(&host_of(MEMCACHED, &id), AAAA, 5, &address(&format!("2001:db8::{number}")).1)
            .add(&format!("{id}.{MEMCACHED}"), TXT, 5, &txt(&["az=a", "x"]))
            .lease(3600);
        client.update(&update);
    }
    for number in 1..=60 {
        client.update(&Update::member(BIG, &format!("b-{number}"), &format!("198.51.100.{number}")).lease(3600));
    }
    server
}

fn export(server: &TestServer) -> std::process::Output {
    let config = server.folder().join("livezone.toml");
    livezone().args(["export", ZONE, "--config"]).arg(config).output().unwrap()
}

#[test]
fn an_exported_zone_is_what_other_servers_load() {
    let mut server = populated();
    let refused = export(&server);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("or stop the server"), "{refused:?}");
    let serial = server.client().serial();
    server.kill_9();
    let crashed = export(&server);
    assert!(crashed.status.success(), "{crashed:?}");
    server.restart();
    assert_eq!(server.client().serial(), serial);
    server.terminate();
    let exported = export(&server);
    assert_eq!(exported.stdout, crashed.stdout, "an export changes nothing, and neither does a crash");
    let text = String::from_utf8(exported.stdout).unwrap();
    assert!(text.starts_with(&format!("{ZONE} 2 IN SOA ns1.{ZONE} hostmaster.example.test. {serial} 30 5 3600 2\n")));
    let file = server.folder().join("exported.zone");
    std::fs::write(&file, &text).unwrap();
    for (program, arguments) in [
        ("named-checkzone", vec!["-i", "local", ZONE]),
        ("kzonecheck", vec!["-o", ZONE]),
        ("nsd-checkzone", vec![ZONE]),
    ] {
        let output = Command::new(program).args(arguments).arg(&file).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    }
    let config = server.folder().join("livezone.toml");
    let unknown = livezone().args(["export", "nowhere.test.", "--config"]).arg(config).output().unwrap();
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("has no zone nowhere.test."), "{unknown:?}");
}

/// The differences of a reply of ours to a peer's, each with the rule that explains it.
fn judge(
    peer: &str,
    question: &Question,
    facts: &Facts,
    ours: &Reply,
    theirs: Option<&Reply>,
) -> Vec<(Difference, Option<&'static str>)> {
    let silence = Reply::default();
    let case = rules::Case { peer, question, facts, ours, theirs: theirs.unwrap_or(&silence) };
    let differences = replies::differences(facts, ours, theirs);
    differences.into_iter().map(|difference| (difference, rules::explain(&case, difference))).collect()
}

const SEED: u64 = 4242;

#[test]
fn bind_knot_and_nsd_answer_the_same() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let seed: u64 = number("LIVEZONE_SEED", SEED);
    let count: u64 = number("LIVEZONE_QUESTIONS", 10_000);
    println!("LIVEZONE_SEED={seed} LIVEZONE_QUESTIONS={count}");
    let mut server = populated();
    server.terminate();
    let exported = export(&server);
    assert!(exported.status.success(), "{exported:?}");
    let text = String::from_utf8(exported.stdout).unwrap();
    server.restart();
    let peers = Peers::start(&text);
    let (_, bind) = peers.addresses().next().unwrap();
    let facts = Facts::transfer(bind, ZONE);
    let mut questions = Questions::new(seed, &text);
    let mut explained: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut unexplained: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for _ in 0..count {
        let question = questions.next();
        let ours = ask(server.address, &question);
        for fault in faults(&question, &facts, ours.as_ref()) {
            let example = format!("{question}\n  ours   {}", replies::show(ours.as_ref()));
            unexplained.entry(("livezone", fault.to_owned())).or_default().push(example);
        }
        let Some(ours) = ours else { continue };
        for (peer, address) in peers.addresses() {
            let theirs = ask(address, &question);
            for (difference, rule) in judge(peer, &question, &facts, &ours, theirs.as_ref()) {
                match rule {
                    Some(rule) => *explained.entry((peer, rule)).or_default() += 1,
                    None => unexplained.entry((peer, format!("{difference:?}"))).or_default().push(format!(
                        "{question}\n  ours   {}\n  theirs {}",
                        replies::show(Some(&ours)),
                        replies::show(theirs.as_ref())
                    )),
                }
            }
        }
    }
    for ((peer, rule), count) in &explained {
        println!("{peer}: {count} times: {rule}");
    }
    for ((peer, difference), found) in &unexplained {
        println!("{peer}: {} differ in {difference}, such as", found.len());
        found.iter().take(6).for_each(|example| println!("{example}"));
    }
    let number: usize = unexplained.values().map(Vec::len).sum();
    assert_eq!(number, 0, "unexplained differences for LIVEZONE_SEED={seed}; examples stand above");
}
