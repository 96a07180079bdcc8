//! The own address, found by the route to the server, in a network of the test's own.

use super::*;
use crate::support::namespace::has_run;

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

/// The server's address is reached from this one.
fn route_from(source: &str) {
    ip(&["route", "replace", "table", "local", "local", "192.0.2.53", "dev", "lo", "src", source]);
}

#[test]
fn the_own_address_is_found_and_followed_in_place() {
    if has_run("agent::addresses::the_own_address_is_found_and_followed_in_place") {
        return;
    }
    if std::env::var_os("LIVEZONE_TEST_NAMESPACE").is_none() {
        return; // the system gives no network
    }
    for address in ["192.0.2.53/32", "192.0.2.7/32", "192.0.2.8/32"] {
        ip(&["address", "add", address, "dev", "lo"]);
    }
    route_from("192.0.2.7");
    let server = TestServer::with(&Setup {
        listen: "192.0.2.53:5353".parse().unwrap(),
        keys: vec![("agents", "hmac-sha256")],
        tables: "[access]\nupdate = [{ key = \"agents.\", services = [\"*\"], ids = [\"*\"] }]\n".to_owned(),
        ..Setup::default()
    });
    let key = server.key_file("agents");
    let at = server.address.to_string();
    let more = ["--server", &at, "--port", "1", "--key-file", key.to_str().unwrap()];
    let _agent = Agent::start(&[&QUICK[..], &more].concat());
    let ask = || {
        let client = std::net::UdpSocket::bind("192.0.2.53:0").unwrap();
        client.connect(server.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(&edns_query(HOST, A, 1232)).unwrap();
        let mut buffer = [0; 1232];
        let count = client.recv(&mut buffer).unwrap();
        let message = crate::support::client::Answer::read(buffer[..count].to_vec()).message;
        message.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    wait_until(PATIENCE, "the address of the route", || (ask() == ["192.0.2.7"]).then_some(()));
    route_from("192.0.2.8");
    wait_until(PATIENCE, "the other address, alone", || (ask() == ["192.0.2.8"]).then_some(()));
}
