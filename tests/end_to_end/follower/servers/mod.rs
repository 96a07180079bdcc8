//! Secondaries of BIND and of Knot DNS.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::support::other::Other;
use crate::support::programs::{knsupdate, nsupdate};

/// Records of all kinds that a secondary may meet: the SOA's TTL is not its MINIMUM.
fn zone_text(serial: u32, expire: u32) -> String {
    format!(
        "$TTL 300\n@ 77 IN SOA ns hostmaster {serial} 1 1 {expire} 33\n@ IN NS ns\nns IN A 127.0.0.1\n\
         *.wild IN A 192.0.2.7\nwild IN TXT \"under\"\nalias IN CNAME Target.Mixed\nTarget.Mixed IN AAAA 2001:db8::1\n\
         sub IN NS ns.sub\nsub IN NS ns.elsewhere.example.\nns.sub IN A 192.0.2.53\n\
         text IN TXT \"a \\\"quoted\\\" string\" \"Mixed Case; and a semicolon\" \"\"\n\
         odd IN TYPE65280 \\# 4 00010203\nodd IN TYPE731 \\# 0\n_x._tcp IN SRV 1 2 80 a.Mixed\n\
         _x._tcp IN SRV 1 2 80 ab.Mixed\nmail IN MX 10 Target.Mixed\ndeep.er.still IN LOC 52 22 23 N 4 53 32 E 0m\n\
         key IN SSHFP 1 1 0123456789abcdef0123456789abcdef01234567\n@ IN CAA 0 issue \"ca.example\"\n"
    )
}

fn start_bind(folder: &Path, address: SocketAddr, secondary: SocketAddr) -> Other {
    let (place, port, told) = (folder.display(), address.port(), secondary.port());
    let conf = format!(
        "options {{ directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no;\n\
         pid-file none; lock-file none; session-keyfile \"session.key\"; dnssec-validation no; notify-delay 0;\n\
         notify-rate 1000; startup-notify-rate 1000; allow-transfer {{ 127.0.0.1; }}; }};\ncontrols {{ }};\n\
         zone \"svc.example.test\" {{ type primary; file \"svc.zone\"; check-names ignore; allow-update {{ 127.0.0.1; }};\n\
         notify explicit; also-notify {{ 127.0.0.1 port {told}; }}; }};\n"
    );
    std::fs::write(folder.join("named.conf"), conf).unwrap();
    let mut bind = Other::start(folder, "named", &["-g", "-n", "1", "-c", "named.conf"]);
    bind.wait(address, ZONE);
    bind
}

fn start_knot(folder: &Path, address: SocketAddr, secondary: SocketAddr) -> Other {
    let (place, port, told) = (folder.display(), address.port(), secondary.port());
    let conf = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {place}\ndatabase:\n  storage: {place}/knot-db\n\
         log:\n  - target: stderr\n    any: info\nremote:\n  - id: secondary\n    address: 127.0.0.1@{told}\n\
         acl:\n  - id: all\n    address: 127.0.0.0/8\n    action: [transfer, update, notify]\n\
         zone:\n  - domain: {ZONE}\n    file: {place}/svc.zone\n    journal-content: changes\n    zonefile-sync: -1\n\
         \x20   semantic-checks: off\n    notify: secondary\n    acl: all\n"
    );
    std::fs::write(folder.join("knot.conf"), conf).unwrap();
    std::fs::create_dir_all(folder.join("knot-db")).unwrap();
    let mut knot = Other::start(folder, "knotd", &["-c", "knot.conf"]);
    knot.wait(address, ZONE);
    knot
}

/// Changes that a primary's journal has as differences, the odd ones among them.
const CHANGES: [&str; 12] = [
    "update add new.svc.example.test. 300 A 192.0.2.1",
    "update add new.svc.example.test. 300 A 192.0.2.2",
    // Another TTL for a set that is there.
    "update add new.svc.example.test. 77 A 192.0.2.3",
    "update delete new.svc.example.test. A 192.0.2.1",
    "update add Mixed.Case.svc.example.test. 300 TXT \"Some Text\"\nupdate add mixed.case.svc.example.test. 300 CAA 0 issue \"x\"",
    "update delete alias.svc.example.test. CNAME\nupdate add alias.svc.example.test. 60 CNAME OTHER.svc.example.test.",
    "update delete wild.svc.example.test. TXT",
    "update delete *.wild.svc.example.test.",
    "update add odd.svc.example.test. 300 TYPE65280 \\# 2 ffee",
    "update delete odd.svc.example.test. TYPE65280 \\# 4 00010203",
    "update add svc.example.test. 300 NS ns.Elsewhere.example.",
    "update delete text.svc.example.test.\nupdate delete sub.svc.example.test.\nupdate delete ns.sub.svc.example.test.",
];

type Update = fn(SocketAddr, &[&str], &str) -> crate::support::programs::Updated;

/// Follows a primary through changes, and tells how often it took all of the zone.
fn follow(name: &str, start: fn(&Path, SocketAddr, SocketAddr) -> Other, update: Update) {
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    std::fs::write(folder.path().join("svc.zone"), zone_text(100, 3600)).unwrap();
    let (address, listen) = (free_address(), free_address());
    let _primary = start(folder.path(), address, listen);
    let secondary = TestServer::with(&secondary_at(listen, &[address], ""));
    let records = assert_copied(address, listen);
    assert!(records.len() > 18, "{records:#?}");
    for change in CHANGES {
        let before = serial(address).unwrap();
        let updated = update(address, &[], change);
        assert!(updated.success, "{name}: {change}: {}", updated.text);
        assert_ne!(serial(address), Some(before), "{change}");
        assert_copied(address, listen);
    }
    assert_eq!(secondary.count_logged("the whole zone is asked for"), 0, "differences fit");
    // One whole zone, and as many differences as the primary told of.
    let commits = zone_view(&secondary, "/commits?limit=100").1;
    let large =
        commits["commits"].as_array().unwrap().iter().filter(|commit| commit["added"].as_array().unwrap().len() > 15);
    assert_eq!(large.count(), 1, "{name}");
    // RFC 2308: the SOA record with its own TTL, negative answers with the lesser one.
    let client = secondary.client();
    assert_eq!(client.ask(&query(ZONE, SOA)).message.answers[0].ttl, 77);
    assert_eq!(client.ask(&query("none.svc.example.test.", A)).message.authorities[0].ttl, 33);
}

#[test]
fn bind_is_followed_by_differences() {
    follow("bind", start_bind, nsupdate);
}

#[test]
fn knot_is_followed_by_differences() {
    follow("knot", start_knot, knsupdate);
}

#[test]
fn what_a_secondary_answers_is_what_bind_answers() {
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    std::fs::write(folder.path().join("svc.zone"), zone_text(100, 3600)).unwrap();
    let (address, listen) = (free_address(), free_address());
    let _primary = start_bind(folder.path(), address, listen);
    let secondary = TestServer::with(&secondary_at(listen, &[address], ""));
    assert_copied(address, listen);
    let (ours, theirs) = (secondary.client(), Client::new(address));
    for (owner, qtype) in [
        ("a.wild", A),
        ("a.wild", TXT),
        ("wild", TXT),
        ("alias", AAAA),
        ("alias", CNAME),
        ("target.mixed", AAAA),
        ("text", TXT),
        ("odd", 65_280),
        ("er.still", A),
        ("none", A),
        ("www.sub", A),
        ("sub", NS),
        ("mail", 15),
        ("_x._tcp", SRV),
        ("key", 44),
    ] {
        let question = edns_query(&format!("{owner}.{ZONE}"), qtype, 1232);
        let parts = |client: &Client| {
            let answer = client.ask(&question);
            let texts = |records: &[hickory_proto::rr::Record]| {
                let mut texts: Vec<String> = records.iter().map(|record| canonical(&record.to_string())).collect();
                texts.sort();
                texts
            };
            let message = &answer.message;
            (answer.rcode(), message.metadata.authoritative, texts(&message.answers), texts(&message.authorities))
        };
        let (ours, mut theirs) = (parts(&ours), parts(&theirs));
        if theirs.0 == 0 && theirs.1 && !theirs.2.is_empty() {
            // BIND adds the name servers, which nobody has to.
            theirs.3.clone_from(&ours.3);
        }
        assert_eq!(ours, theirs, "{owner} {qtype}");
    }
}

#[test]
fn a_journal_that_does_not_reach_and_a_serial_that_went_back() {
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    let write = |serial: u32, more: &str| {
        std::fs::write(folder.path().join("svc.zone"), zone_text(serial, 4) + more).unwrap();
        let _ = std::fs::remove_file(folder.path().join("svc.zone.jnl"));
    };
    write(100, "");
    let (address, listen) = (free_address(), free_address());
    let bind = start_bind(folder.path(), address, listen);
    let secondary = TestServer::with(&secondary_at(listen, &[address], ""));
    assert_copied(address, listen);
    bind.kill_9();
    write(200, "later IN A 192.0.2.200\n");
    let bind = start_bind(folder.path(), address, listen);
    let records = assert_copied(address, listen);
    assert!(records.iter().any(|record| record.starts_with("later.")));
    bind.kill_9();
    // Behind what is here: it counts once the copy has expired.
    write(150, "back IN A 192.0.2.150\n");
    let bind = start_bind(folder.path(), address, listen);
    secondary.wait_for_line("its serial 150 is behind 200");
    if let Some(serial) = serial(listen) {
        assert!([150, 200].contains(&serial));
    }
    let records = assert_copied(address, listen);
    assert!(records.iter().any(|record| record.starts_with("back.")));
    secondary.assert_logged("the copy has expired: no primary", 1); // not before
    drop(bind);
}
