//! The zone as the rest of the world reaches it: BIND serves the parent, which delegates to livezone, and unbound resolves.
//!
//! Delegations mean port 53. The test runs itself again in a network namespace of its own, where that port is free and
//! no privilege is needed; where the system has none to give, it runs in 127.0.0.0/8 as it is, which takes root.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::support::message::*;
use crate::support::namespace;
use crate::support::other::Other;
use crate::support::programs::{Printed, dig, kdig};
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, PATIENCE, wait_until};

// BIND listens on addresses that an interface has; the others are content with any in 127.0.0.0/8.
const PARENT: &str = "127.0.0.1";
const LIVEZONE: &str = "127.53.0.2";
const RESOLVER: &str = "127.53.0.3";

fn address(ip: &str) -> SocketAddr {
    format!("{ip}:53").parse().unwrap()
}

fn start_bind(folder: &Path) -> Other {
    std::fs::write(
        folder.join("named.conf"),
        format!(
            "options {{ directory \"{}\"; listen-on port 53 {{ {PARENT}; }}; listen-on-v6 {{ none; }}; recursion no;\n\
             pid-file none; lock-file none; session-keyfile \"session.key\"; dnssec-validation no; allow-transfer {{ none; }}; }};\ncontrols {{ }};\n\
             zone \"example.test\" {{ type primary; file \"example.test.zone\"; }};\n",
            folder.display()
        ),
    )
    .unwrap();
    std::fs::write(
        folder.join("example.test.zone"),
        format!(
            "$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 300\n@ IN NS ns\nns IN A {PARENT}\n\
             svc IN NS ns1.svc\nns1.svc IN A {LIVEZONE}\n"
        ),
    )
    .unwrap();
    let mut bind = Other::start(folder, "named", &["-g", "-c", "named.conf"]);
    bind.wait(address(PARENT), "example.test.");
    bind
}

fn start_unbound(folder: &Path) -> Other {
    std::fs::write(
        folder.join("unbound.conf"),
        format!(
            "server:\n directory: \"{}\"\n interface: {RESOLVER}\n port: 53\n do-ip6: no\n access-control: 127.0.0.0/8 allow\n\
             \x20chroot: \"\"\n username: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n num-threads: 1\n\
             \x20do-not-query-localhost: no\n local-zone: \"test.\" nodefault\n module-config: \"iterator\"\n\
             \x20use-caps-for-id: yes\n qname-minimisation: yes\n qname-minimisation-strict: yes\n\
             remote-control:\n control-enable: no\n\
             stub-zone:\n name: \"example.test.\"\n stub-addr: {PARENT}\n",
            folder.display()
        ),
    )
    .unwrap();
    let mut unbound = Other::start(folder, "unbound", &["-d", "-c", "unbound.conf"]);
    unbound.wait(address(RESOLVER), "example.test.");
    unbound
}

#[test]
fn unbound_resolves_through_a_delegation_of_bind() {
    if namespace::has_run("delegation::unbound_resolves_through_a_delegation_of_bind") {
        return;
    }
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    let server = TestServer::with(&Setup {
        statics: format!("$TTL 300\n@ IN NS ns1\nns1 IN A {LIVEZONE}\n"),
        listen: address(LIVEZONE),
        ..Setup::default()
    });
    let _bind = start_bind(folder.path());
    let _unbound = start_unbound(folder.path());
    let referral = dig(address(PARENT), &["+norec", MEMCACHED, "SRV"]);
    assert_eq!(referral.authority, ["svc.example.test. 300 IN NS ns1.svc.example.test."]);

    let client = server.client();
    let ask = |name: &str, rtype: &str| dig(address(RESOLVER), &[name, rtype]);
    // A full answer is unbound's; one that unbound gives up on would be SERVFAIL.
    let nobody = ask(MEMCACHED, "SRV");
    assert_eq!(nobody.status, "NXDOMAIN");
    client.update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    // unbound may say for the negative TTL, 2 s, that nobody is there, and then sees the member.
    let first = wait_until(PATIENCE, "the end of the negative TTL", || {
        Some(ask(MEMCACHED, "SRV")).filter(|printed| !printed.answers.is_empty())
    });
    assert!(first.has_flag("ra") && !first.has_flag("aa"), "{first:?}");
    assert!(first.answers[0].ends_with("SRV 0 256 11211 i-1.memcached.svc.example.test."), "{first:?}");
    let has = |printed: &Printed, ending: &str| printed.answers.iter().any(|line| line.ends_with(ending));
    for look_up in [dig, kdig] {
        let host = look_up(address(RESOLVER), &["i-1.memcached.svc.example.test", "A"]);
        assert!(has(&host, " A 192.0.2.1"), "{host:?}");
        let set = look_up(address(RESOLVER), &["memcached.svc.example.test", "A"]);
        assert!(has(&set, " A 192.0.2.1"), "{set:?}");
        // An empty non-terminal on the way, which strict minimisation asks for.
        let between = look_up(address(RESOLVER), &["_tcp.svc.example.test", "A"]);
        assert_eq!(between.status, "NOERROR", "{between:?}");
    }
    client.update(&Update::member(MEMCACHED, "i-2", "192.0.2.2").lease(3600));
    wait_until(PATIENCE, "the second member after the TTL", || {
        (ask(MEMCACHED, "SRV").answers.len() == 2).then_some(())
    });
    // A set that only TCP can carry.
    let crowd = (0..60).fold(Update::new().lease(3600), |update, number| {
        update.and_member("_crowd._tcp.svc.example.test.", &format!("m-{number}"), &format!("10.0.0.{number}"))
    });
    assert_eq!(client.ask_tcp(&crowd.encode()).rcode(), 0);
    assert_eq!(ask("_crowd._tcp.svc.example.test", "SRV").answers.len(), 60);
    client.update(&Update::new().delete_rrset(MEMCACHED, SRV));
    let gone = wait_until(PATIENCE, "the withdrawal after the TTL", || {
        Some(ask(MEMCACHED, "SRV")).filter(|printed| printed.answers.is_empty())
    });
    assert_eq!((gone.status.as_str(), gone.authority.len()), ("NOERROR", 1), "known, and nobody there: {gone:?}");
}
