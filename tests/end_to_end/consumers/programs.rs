//! The programs themselves, with their own resolvers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tempfile::TempDir;

use crate::support::message::*;
use crate::support::namespace::{Place, enter, resolve_at};
use crate::support::other::{Other, free_address};
use crate::support::programs::run;
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, PATIENCE, wait_until};

/// A member's SRV record data.
fn srv_of(id: &str, weight: u16, port: u16) -> Vec<u8> {
    let fields: Vec<u8> = [0, weight, port].into_iter().flat_map(u16::to_be_bytes).collect();
    [fields, name(&host_of(MEMCACHED, id))].concat()
}

fn member(id: &str, weight: u16, port: u16, host_address: &str) -> Update {
    let update = Update::new().add(MEMCACHED, SRV, 5, &srv_of(id, weight, port)).lease(3600);
    update.add(&host_of(MEMCACHED, id), A, 5, &address(host_address).1)
}

/// Runs a command of HAProxy's.
fn haproxy(folder: &Path, command: &str) -> Option<String> {
    let mut socket = UnixStream::connect(folder.join("haproxy.sock")).ok()?;
    writeln!(socket, "{command}").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A server that HAProxy has taken from the zone: its own name for it, then target, address, port and weight.
type Taken = (String, [String; 4]);

fn taken(folder: &Path) -> Option<Vec<Taken>> {
    let text = haproxy(folder, "show servers state")?;
    let servers = text.lines().skip(2).map(|line| line.split(' ').collect::<Vec<_>>());
    let servers = servers.filter(|columns| columns.len() > 18 && columns[4] != "-");
    Some(servers.map(|columns| (columns[3].to_owned(), [17, 4, 18, 7].map(|at| columns[at].to_owned()))).collect())
}

/// A server as it should be there.
fn expected(id: &str, address: &str, port: &str, weight: &str) -> [String; 4] {
    [&format!("{id}.memcached.svc.example.test"), address, port, weight].map(str::to_owned)
}

/// How many answers HAProxy has taken.
fn answers_taken(folder: &Path) -> Option<u64> {
    let text = haproxy(folder, "show resolvers")?;
    text.lines().find_map(|line| line.trim().strip_prefix("valid:")?.trim().parse().ok())
}

#[test]
fn haproxy_follows_members_by_address_port_and_weight_and_moves_nobody_else() {
    // The size bounds answers over TCP too, to HAProxy.
    for (transport, size) in [("", 1232), ("tcp@", 8192)] {
        let server = TestServer::start();
        let client = server.client();
        let folder = TempDir::with_prefix("livezone-test-").unwrap();
        let folder = folder.path();
        let config = format!(
            "global\n stats socket {}/haproxy.sock level admin\n maxconn 50\n\
             defaults\n mode tcp\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n\
             resolvers livezone\n nameserver one {transport}{}\n accepted_payload_size {size}\n\
             \x20timeout resolve 100ms\n timeout retry 500ms\n hold valid 100ms\n\
             backend cache\n server-template m 1-50 {MEMCACHED} resolvers livezone init-addr none\n",
            folder.display(),
            server.address
        );
        std::fs::write(folder.join("haproxy.cfg"), config).unwrap();
        let _haproxy = Other::start(folder, "haproxy", &["-db", "-f", "haproxy.cfg"]);
        let wait_for = |what: &str, members: &[[String; 4]]| {
            let members: BTreeSet<_> = members.iter().cloned().collect();
            wait_until(PATIENCE, what, || {
                taken(folder).filter(|servers| {
                    servers.iter().map(|(_, server)| server.clone()).collect::<BTreeSet<_>>() == members
                })
            })
        };
        client.update(&member("i-1", 256, 11211, "127.0.0.11"));
        client.update(&member("i-2", 512, 11212, "127.0.0.12"));
        client.update(&member("i-3", 256, 11211, "127.0.0.13"));
        let one = expected("i-1", "127.0.0.11", "11211", "1");
        let two = expected("i-2", "127.0.0.12", "11212", "2");
        let three = expected("i-3", "127.0.0.13", "11211", "1");
        let before = wait_for("all three", &[one.clone(), two.clone(), three.clone()]);
        // HAProxy says of every change that it makes; while nothing changes in the zone, it makes none.
        let log = || std::fs::read_to_string(folder.join("haproxy.log")).unwrap();
        let (lines, seen) = (log(), answers_taken(folder).unwrap());
        wait_until(PATIENCE, "ten more answers", || answers_taken(folder).filter(|&count| count >= seen + 10));
        assert_eq!(log(), lines);

        client.update(&Update::new().delete_record(MEMCACHED, SRV, &srv_of("i-1", 256, 11211)));
        let after = wait_for("the withdrawal of the first", &[two, three.clone()]);
        assert!(after.iter().all(|server| before.contains(server)), "{before:?} became {after:?}");
        client.update(&member("i-2", 1024, 11299, "127.0.0.12"));
        let changed = expected("i-2", "127.0.0.12", "11299", "4");
        wait_for("another port and weight", &[changed.clone(), three.clone()]);
        client.update(&member("i-4", 256, 11211, "127.0.0.14"));
        wait_for("a newcomer", &[changed, three, expected("i-4", "127.0.0.14", "11211", "1")]);
        // HAProxy doesn't come again by TCP: what doesn't fit 1232 octets takes `tcp@`.
        if transport == "tcp@" {
            for last in 21..58 {
                client.update(&member(&format!("m-{last}"), 256, 11211, &format!("127.0.0.{last}")));
            }
            wait_until(PATIENCE, "forty members", || taken(folder).filter(|servers| servers.len() == 40));
        }
    }
}

/// A server that this namespace's programs have as their resolver; `None` where there is no namespace to have, or the test
/// has run in it.
fn as_resolver(test: &str, folder: &Path) -> Option<TestServer> {
    match enter(test, &["--net", "--mount"]) {
        Place::Inside => {}
        Place::Ran => return None,
        Place::Unavailable => {
            eprintln!("{test} did not run: it needs namespaces (unshare)");
            return None;
        }
    }
    resolve_at(folder, "127.0.0.1");
    Some(TestServer::with(&Setup {
        statics: "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\ncell IN AFSDB 1 db1\ncell IN AFSDB 1 db2\n\
                  db1 IN A 192.0.2.1\ndb2 IN A 192.0.2.2\n"
            .to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 53)),
        ..Setup::default()
    }))
}

/// A page of Prometheus.
fn page(at: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

#[test]
fn prometheus_scrapes_whoever_is_there_and_goes_on_while_the_server_is_away() {
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    let folder = folder.path();
    let test = "consumers::programs::prometheus_scrapes_whoever_is_there_and_goes_on_while_the_server_is_away";
    let Some(mut server) = as_resolver(test, folder) else { return };
    let client = server.client();
    // More than a datagram takes.
    let crowd = (0..60).fold(Update::new().lease(3600), |update, number| {
        update.and_member(MEMCACHED, &format!("m-{number}"), &format!("127.0.1.{number}"))
    });
    assert_eq!(client.ask_tcp(&crowd.encode()).rcode(), 0);
    std::fs::write(
        folder.join("prometheus.yml"),
        format!(
            "global:\n  scrape_interval: 1h\nscrape_configs:\n  - job_name: cache\n    dns_sd_configs:\n      \
             - names: [{MEMCACHED}]\n        type: SRV\n        refresh_interval: 1s\n"
        ),
    )
    .unwrap();
    let at = free_address();
    let listen = format!("--web.listen-address={at}");
    let _prometheus =
        Other::start(folder, "prometheus", &["--config.file=prometheus.yml", "--storage.tsdb.path=data", &listen]);
    let targets = || -> Option<BTreeSet<String>> {
        let page: serde_json::Value = serde_json::from_str(&page(at, "/api/v1/targets?state=active")?).ok()?;
        let targets = page["data"]["activeTargets"].as_array()?;
        Some(targets.iter().map(|target| target["labels"]["instance"].as_str().unwrap().to_owned()).collect())
    };
    let expected = |numbers: std::ops::Range<u8>| -> BTreeSet<String> {
        numbers.map(|number| format!("m-{number}.memcached.svc.example.test:11211")).collect()
    };
    wait_until(PATIENCE, "sixty targets", || targets().filter(|targets| *targets == expected(0..60)));
    let leave = (2..60).fold(Update::new(), |update, number| {
        update.delete_record(MEMCACHED, SRV, &srv(11211, &host_of(MEMCACHED, &format!("m-{number}"))))
    });
    assert_eq!(client.ask_tcp(&leave.encode()).rcode(), 0);
    wait_until(PATIENCE, "two targets", || targets().filter(|targets| *targets == expected(0..2)));
    server.kill_9();
    let failures = || -> Option<f64> {
        let page = page(at, "/metrics")?;
        page.lines().find_map(|line| line.strip_prefix("prometheus_sd_dns_lookup_failures_total ")?.parse().ok())
    };
    let before = failures().unwrap();
    wait_until(2 * PATIENCE, "failed look-ups", || failures().filter(|&count| count >= before + 2.0));
    assert_eq!(targets(), Some(expected(0..2)));
}

/// What the kernel asks for the servers of an AFS cell: it looks for SRV, and then for AFSDB. It says what it found on a
/// terminal only, which `script` gives it.
#[test]
fn the_afs_resolver_of_the_kernel_finds_members_by_srv_and_static_servers_by_afsdb() {
    let folder = TempDir::with_prefix("livezone-test-").unwrap();
    let test = "consumers::programs::the_afs_resolver_of_the_kernel_finds_members_by_srv_and_static_servers_by_afsdb";
    let Some(server) = as_resolver(test, folder.path()) else { return };
    let service = "_afs3-vlserver._udp.svc.example.test.";
    let update = (1..=2).fold(Update::new(), |update, last| {
        let host = host_of(service, &format!("vl-{last}"));
        let update = update.add(service, SRV, 5, &srv(7003, &host));
        update.add(&host, A, 5, &address(&format!("192.0.2.1{last}")).1)
    });
    server.client().update(&update);
    let servers = |cell: &str| -> BTreeSet<String> {
        let command = format!("/sbin/key.dns_resolver -D -v -v afsdb:{cell} ''");
        let text = String::from_utf8(run("script", &["-qec", &command, "/dev/null"], "").stdout).unwrap();
        let data = text.split_once("The key instantiation data is '").unwrap_or_else(|| panic!("{text}")).1;
        data.split_once('\'').unwrap().0.split(',').map(str::to_owned).collect()
    };
    assert_eq!(servers("svc.example.test"), ["192.0.2.11+7003", "192.0.2.12+7003"].map(str::to_owned).into());
    assert_eq!(servers("cell.svc.example.test"), ["192.0.2.1", "192.0.2.2"].map(str::to_owned).into());
}
