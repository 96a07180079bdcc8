//! A server on all addresses of its host answers from the one that was asked. The clients are connected sockets, which take
//! nothing from another.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use crate::support::client::Client;
use crate::support::message::*;
use crate::support::namespace;
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, ZONE};

fn serve_all(any: &str) -> TestServer {
    TestServer::with(&Setup { listen: SocketAddr::new(any.parse().unwrap(), 0), ..Setup::default() })
}

/// A query that is answered by copying, one that is not, and an update, which its publisher answers.
fn assert_answers(server: &TestServer, asked: &str) {
    let client = Client::new(SocketAddr::new(asked.parse::<IpAddr>().unwrap(), server.address.port()));
    let plain = query(ZONE, SOA);
    let of_chaos = [header(next_id(), 0, [1, 0, 0, 0]), question("version.bind.", TXT, 3)].concat();
    for packet in [plain, of_chaos] {
        let answer = client.ask(&packet);
        assert_eq!((answer.rcode(), answer.message.answers.len()), (0, 1), "{asked}");
    }
    client.update(&Update::member(MEMCACHED, "a", "192.0.2.1"));
}

#[test]
fn an_answer_leaves_from_the_ipv4_address_that_was_asked() {
    let server = serve_all("0.0.0.0");
    for asked in ["127.0.0.1", "127.0.0.77", "127.200.0.1"] {
        assert_answers(&server, asked);
    }
}

#[test]
fn an_answer_leaves_from_the_ipv6_address_that_was_asked() {
    let test = "sources::an_answer_leaves_from_the_ipv6_address_that_was_asked";
    match namespace::enter(test, &["--net"]) {
        namespace::Place::Ran => return,
        namespace::Place::Unavailable => panic!("{test} needs a network namespace (unshare --net)"),
        namespace::Place::Inside => {}
    }
    for address in ["fd00::7/128", "fd00::8/128"] {
        let added = Command::new("ip").args(["address", "add", address, "dev", "lo", "nodad"]).status();
        assert!(added.unwrap().success(), "{address}");
    }
    let server = serve_all("::");
    for asked in ["::1", "fd00::7", "fd00::8"] {
        assert_answers(&server, asked);
    }
}
