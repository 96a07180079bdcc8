//! Who may register what: keys, networks, owners.

use crate::support::client::Client;
use crate::support::message::*;
use crate::support::programs::{dig, nsupdate};
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, ZONE};

const REFUSED: u16 = 5;

/// Two keys that may each register anything, and touch their own.
fn two_keys() -> TestServer {
    TestServer::with(&Setup {
        keys: vec![("alpha", "hmac-sha256"), ("beta", "hmac-sha256")],
        tables: "[access]\nupdate = [{ key = \"alpha.\", records = [\"*.hosts\"] }, { key = \"beta.\", records = [\"*.hosts\"] }]\n"
            .to_owned(),
        ..Setup::default()
    })
}

/// Sends an update signed with a key; the rcode.
fn signed(server: &TestServer, client: &Client, key: &str, update: &Update) -> u16 {
    client.ask(&server.key(key).sign(&update.encode()).octets).rcode()
}

#[test]
fn one_nodes_key_cannot_change_or_withdraw_anothers_member() {
    let server = two_keys();
    let client = server.client();
    let send = |key: &str, update: &Update| signed(&server, &client, key, update);
    let (alpha, beta) = ("a-1", "b-1");
    assert_eq!(send("alpha", &Update::member(MEMCACHED, alpha, "192.0.2.1")), 0);
    assert_eq!(send("beta", &Update::member(MEMCACHED, beta, "192.0.2.2")), 0);
    let serial = client.serial();
    let (host, other) = (host_of(MEMCACHED, alpha), srv(9, &host_of(MEMCACHED, alpha)));
    let refused = [
        Update::member(MEMCACHED, alpha, "192.0.2.66"),
        Update::new().add(MEMCACHED, SRV, 5, &other),
        Update::new().add(&host, A, 5, &address("192.0.2.66").1),
        Update::new().add(&format!("{alpha}.{MEMCACHED}"), TXT, 5, &txt(&["mine"])),
        Update::new().delete_record(MEMCACHED, SRV, &srv(11211, &host)),
        Update::new().delete_record(&host, A, &address("192.0.2.1").1),
        Update::member(MEMCACHED, alpha, "192.0.2.1").lease(0),
    ];
    for update in refused {
        assert_eq!(send("beta", &update), REFUSED, "{update:?}");
    }
    assert_eq!(client.serial(), serial);
    // Sweeps pass others by.
    assert_eq!(send("beta", &Update::new().delete_name(&host)), 0);
    assert_eq!(client.serial(), serial);
    assert_eq!(send("beta", &Update::new().delete_rrset(MEMCACHED, SRV)), 0);
    assert_eq!(client.targets(MEMCACHED), std::slice::from_ref(&host));
    assert_eq!(dig(server.address, &[&host, "A"]).answers, [format!("{host} 1 IN A 192.0.2.1")]);
    assert_eq!(client.serial(), serial + 1);
}

#[test]
fn one_nodes_key_cannot_change_anothers_leased_records() {
    let server = two_keys();
    let client = server.client();
    let send = |key: &str, update: &Update| signed(&server, &client, key, update);
    let host = "x.hosts.svc.example.test.";
    let theirs = address("192.0.2.1").1;
    assert_eq!(send("alpha", &Update::new().add(host, A, 1, &theirs)), 0);
    assert_eq!(send("beta", &Update::new().delete_record(host, A, &theirs)), REFUSED);
    assert_eq!(send("beta", &Update::new().add(host, A, 1, &address("192.0.2.2").1)), 0);
    assert_eq!(dig(server.address, &[host, "A"]).answers.len(), 2);
    assert_eq!(send("beta", &Update::new().delete_name(host)), 0);
    assert_eq!(dig(server.address, &[host, "A"]).answers, [format!("{host} 1 IN A 192.0.2.1")]);
}

#[test]
fn an_owner_ends_with_its_member() {
    let server = two_keys();
    let client = server.client();
    let send = |key: &str, update: &Update| signed(&server, &client, key, update);
    assert_eq!(send("alpha", &Update::member(MEMCACHED, "a-1", "192.0.2.1")), 0);
    assert_eq!(send("beta", &Update::member(MEMCACHED, "a-1", "192.0.2.2")), REFUSED);
    assert_eq!(send("alpha", &Update::new().delete_rrset(MEMCACHED, SRV)), 0);
    assert_eq!(send("beta", &Update::member(MEMCACHED, "a-1", "192.0.2.2")), 0);
}

#[test]
fn a_key_is_bound_to_its_services_and_ids() {
    let server = TestServer::with(&Setup {
        keys: vec![("web", "hmac-sha256")],
        tables:
            "[access]\nupdate = [{ key = \"web.\", services = [\"_www._tcp\", \"_*._tcp.east\"], ids = [\"web-?\"] }]\n"
                .to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let send = |service: &str, id: &str| signed(&server, &client, "web", &Update::member(service, id, "192.0.2.1"));
    assert_eq!(send("_www._tcp.svc.example.test.", "web-1"), 0);
    assert_eq!(send("_cache._tcp.east.svc.example.test.", "web-2"), 0);
    assert_eq!(send("_www._tcp.svc.example.test.", "web-10"), REFUSED);
    assert_eq!(send(MEMCACHED, "web-1"), REFUSED);
    let unsigned = client.ask(&Update::member("_www._tcp.svc.example.test.", "web-1", "192.0.2.1").encode());
    assert_eq!(unsigned.rcode(), REFUSED, "loopback is open only where nothing else is said");
    assert!(unsigned.error_text().contains("unsigned"), "{}", unsigned.error_text());
}

#[test]
fn an_entry_with_key_and_network_needs_both() {
    let server = TestServer::with(&Setup {
        keys: vec![("far", "hmac-sha256"), ("near", "hmac-sha256")],
        tables: "[access]\nupdate = [{ key = \"far.\", network = \"192.0.2.0/24\" }, { key = \"near.\", network = \"127.0.0.0/8\" }]\n"
            .to_owned(),
        ..Setup::default()
    });
    let client = server.client();
    let member = Update::member(MEMCACHED, "i-1", "192.0.2.1");
    assert_eq!(signed(&server, &client, "far", &member), REFUSED);
    assert_eq!(client.ask(&member.encode()).rcode(), REFUSED);
    assert_eq!(signed(&server, &client, "near", &member), 0);
}

#[test]
fn a_member_without_an_address_gets_its_senders_where_the_zone_says_so() {
    let update = Update::new().add(MEMCACHED, SRV, 5, &srv(11211, &host_of(MEMCACHED, "i-1")));
    let host = host_of(MEMCACHED, "i-1");
    let plain = TestServer::start();
    plain.client().update(&update);
    assert_eq!(plain.client().targets(MEMCACHED), std::slice::from_ref(&host), "published without an address");
    assert_eq!(dig(plain.address, &[&host, "A"]).answers.len(), 0);
    let server = TestServer::with(&Setup { top: "peer-address = true".to_owned(), ..Setup::default() });
    server.client().update(&update);
    assert_eq!(dig(server.address, &[&host, "A"]).answers, [format!("{host} 1 IN A 127.0.0.1")]);
    let serial = server.client().serial();
    server.client().update(&update);
    assert_eq!(server.client().serial(), serial, "and keeps it");
}

#[test]
fn nsupdate_signs_with_the_key_file_of_keygen() {
    for algorithm in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let server = TestServer::with(&Setup {
            keys: vec![("agents", algorithm)],
            tables: "[access]\nupdate = [{ key = \"agents.\" }]\n".to_owned(),
            ..Setup::default()
        });
        let script = "update add _memcached._tcp.svc.example.test. 5 SRV 0 256 11211 i-1.memcached.svc.example.test.\n\
                      update add i-1.memcached.svc.example.test. 5 A 192.0.2.1";
        let file = server.key_file("agents");
        let unsigned = nsupdate(server.address, &[], script);
        assert!(!unsigned.success && unsigned.text.contains("REFUSED"), "{}", unsigned.text);
        let updated = nsupdate(server.address, &["-k", file.to_str().unwrap()], script);
        assert!(updated.success, "{algorithm}: {}", updated.text);
        let key = server.key("agents").as_argument();
        let updated = crate::support::programs::knsupdate(server.address, &["-y", &key], script);
        assert!(updated.success, "{algorithm}: {}", updated.text);
        assert_eq!(dig(server.address, &[MEMCACHED, "SRV"]).answers.len(), 1);
        assert_eq!(dig(server.address, &[ZONE, "SOA"]).status, "NOERROR");
    }
}
