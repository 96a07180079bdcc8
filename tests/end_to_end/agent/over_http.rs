//! Registering over the real HTTP API.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::drain::name_server;
use super::*;
use crate::http::http;
use crate::http::members::{MEMBERS, send};
use crate::http::tokens::{Made, make};
use crate::tls::make_certificate;

fn url(server: &TestServer) -> String {
    format!("http://{}", http(server))
}

/// The arguments of an agent without a check.
fn over_http<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&QUICK[..], &["--api", url, "--address", "127.0.0.1", "--port", "1"], more].concat()
}

fn write_token(token: &Made, folder: &Path) -> PathBuf {
    let file = folder.join("token");
    std::fs::write(&file, &token.file).unwrap();
    file
}

#[test]
fn it_is_registered_with_a_token_and_renewed_by_the_lease_that_was_granted() {
    let token = make("agents", "services = [\"_memcached._tcp\"]\naccess = \"write\"");
    // The lease is shorter than the one that is asked for.
    let lease = "default = \"1s\"\nmin = \"1s\"\nmax = \"1s\"\n".to_owned();
    let server = TestServer::with(&Setup { server: token.table.clone(), lease, ..Setup::default() });
    let memcached = Memcached::start();
    let (url, file) = (url(&server), write_token(&token, server.folder()));
    let check = format!("memcached:{}", memcached.address);
    let more = ["--token-file", file.to_str().unwrap(), "--check", &check, "--meta", "az=a"];
    let mut agent = Agent::start(&over_http(&url, &more));
    wait_for_members(&server, 1);
    assert_eq!(addresses(&server, HOST), ["127.0.0.1"]);
    let (client, start) = (server.client(), std::time::Instant::now());
    let serial = client.serial();
    wait_until(PATIENCE, "some leases", || {
        assert_eq!((members(&server), client.serial()), (1, serial));
        (start.elapsed() > Duration::from_secs(4)).then_some(())
    });
    agent.signal("TERM");
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!((members(&server), addresses(&server, HOST)), (0, vec![]));
}

#[test]
fn while_it_drains_it_is_renewed_and_not_brought_back_until_the_secondaries_follow() {
    let serial = Arc::new(AtomicU32::new(1));
    let secondary = name_server("127.0.0.1:0", &serial);
    let server = TestServer::with(&Setup {
        tables: format!("[notify]\nsecondaries = [\"{}\"]\n", secondary.address),
        arguments: vec!["--epoch", "1000"],
        ..Setup::default()
    });
    let url = url(&server);
    let mut agent = Agent::start(&over_http(&url, &[]));
    wait_for_members(&server, 1);
    agent.signal("TERM");
    wait_for_members(&server, 0);
    let start = std::time::Instant::now();
    // Longer than its lease.
    wait_until(PATIENCE, "two leases", || {
        assert_eq!((members(&server), agent.has_ended()), (0, None));
        assert_eq!(addresses(&server, HOST), ["127.0.0.1"], "connections go on");
        (start.elapsed() > Duration::from_secs(6)).then_some(())
    });
    serial.store(server.client().serial(), Ordering::Relaxed);
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!(addresses(&server, HOST), [] as [String; 0]);
}

#[test]
fn who_is_killed_while_it_drains_is_back_when_it_starts_again() {
    // A secondary that does not follow keeps the drain from its end.
    let secondary = name_server("127.0.0.1:0", &Arc::new(AtomicU32::new(1)));
    let tables = format!("[notify]\nsecondaries = [\"{}\"]\n", secondary.address);
    let server = TestServer::with(&Setup { tables, arguments: vec!["--epoch", "1000"], ..Setup::default() });
    let (at, url, waits_for) = (server.address.to_string(), url(&server), secondary.address.to_string());
    let mut quick = QUICK;
    *quick.last_mut().unwrap() = "60s";
    let own = [&quick[..], &["--address", "127.0.0.1", "--port", "1"]].concat();
    for way in [&["--api", &url][..], &["--server", &at, "--name-server", &waits_for]] {
        let arguments = [&own[..], way].concat();
        let mut agent = Agent::start(&arguments);
        wait_for_members(&server, 1);
        agent.signal("TERM");
        wait_for_members(&server, 0);
        assert_eq!(addresses(&server, HOST), ["127.0.0.1"], "it drains");
        agent.signal("KILL");
        agent.wait();
        let agent = Agent::start(&arguments);
        wait_for_members(&server, 1);
        drop(agent); // kill -9
        send(&server, "DELETE", &format!("{MEMBERS}/i-1"), "");
        wait_for_members(&server, 0);
    }
}

#[test]
fn https_is_verified_by_the_certificate_that_is_given() {
    let folder = TempDir::with_prefix("livezone-tls-").unwrap();
    let at = folder.path().display();
    ["server", "other"].iter().for_each(|name| make_certificate(folder.path(), name));
    let server = TestServer::with(&Setup {
        server: format!(
            "[http]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{at}/server.pem\"\nkey = \"{at}/server.key\"\n"
        ),
        ..Setup::default()
    });
    let url = format!("https://{}", http(&server));
    let certificate = |name: &str| format!("{at}/{name}.pem");
    for wrong in [vec![], vec!["--api-ca".to_owned(), certificate("other")]] {
        let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
        let agent = Agent::start(&over_http(&url, &wrong));
        let line = agent.wait_for_line("certificate");
        assert!(line.contains("not registered"), "{line}");
    }
    assert_eq!(members(&server), 0);
    let _agent = Agent::start(&over_http(&url, &["--api-ca", &certificate("server")]));
    wait_for_members(&server, 1);
}

#[test]
fn a_server_that_forbids_it_is_explained() {
    let reader = make("reader", "services = [\"_memcached._tcp\"]");
    let other = make("other", "services = [\"_www._tcp\"]\naccess = \"write\"");
    let server = TestServer::with(&Setup { server: reader.table.clone() + &other.table, ..Setup::default() });
    let url = url(&server);
    let agent = Agent::start(&over_http(&url, &[]));
    let line = agent.wait_for_line("not registered: status 401");
    assert!(line.contains("--token-file"), "{line}");
    for token in [&reader, &other] {
        let file = write_token(token, server.folder());
        let agent = Agent::start(&over_http(&url, &["--token-file", file.to_str().unwrap()]));
        let line = agent.wait_for_line("not registered: status 403");
        assert!(line.contains("access = \"write\""), "{line}");
    }
    assert_eq!(members(&server), 0);
}
