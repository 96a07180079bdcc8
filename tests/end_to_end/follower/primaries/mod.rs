//! Several primaries, and one that breaks off.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::support::MEMCACHED;
use crate::support::answering::Answering;

#[test]
fn whoever_is_dead_or_refuses_is_passed_over() {
    let refusing = Answering::start("127.0.0.1:0", |query, _| {
        let mut refusal = query.to_vec();
        refusal[2] |= 0x80;
        refusal[3] |= 5;
        vec![refusal]
    });
    let dead = free_address();
    let listen = free_address();
    let primary = TestServer::with(&primary_of(&[listen]));
    let secondary = TestServer::with(&secondary_at(listen, &[dead, refusing.address, primary.address], ""));
    assert_copied(primary.address, listen);
    primary.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    assert_copied(primary.address, listen);
    assert_eq!(secondary.count_logged("WARN"), 0, "one had it");
}

#[test]
fn the_second_primary_is_asked_once_the_first_is_gone() {
    let mut first = TestServer::with(&short_lived(""));
    let second = start_secondary(&[first.address]);
    assert_copied(first.address, second.address);
    let secondary = start_secondary(&[first.address, second.address]);
    assert_copied(first.address, secondary.address);
    first.kill_9();
    // From the second it gets nothing newer, and yet both end in time: a secondary can't outlive its primary by another.
    wait_for_servfail(second.address);
    wait_for_servfail(secondary.address);
    first.restart();
    assert_copied(first.address, second.address);
    assert_copied(first.address, secondary.address);
}

/// Passes connections on, and breaks them off after so many octets of the answer.
struct Proxy {
    address: SocketAddr,
    most: Arc<AtomicUsize>,
    broken: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (most, broken) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        let counts = (most.clone(), broken.clone());
        // Ends with the test process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (most, broken) = counts.clone();
                std::thread::spawn(move || pass_on(client, to, &most, &broken));
            }
        });
        Proxy { address, most, broken }
    }
}

fn pass_on(mut client: TcpStream, to: SocketAddr, most: &AtomicUsize, broken: &AtomicUsize) {
    let Ok(mut server) = TcpStream::connect(to) else { return };
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut passed, mut buffer) = (0, [0; 4096]);
    while let Ok(len) = server.read(&mut buffer) {
        passed += len;
        if len == 0 || client.write_all(&buffer[..len]).is_err() {
            break;
        }
        if passed > most.load(Ordering::Relaxed) {
            broken.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

#[test]
fn a_transfer_that_breaks_off_changes_nothing_and_the_next_one_does() {
    let statics = |text: &str| -> String {
        (0..3000).map(|number| format!("n{number} IN TXT \"{text} {number:0>100}\"\n")).collect()
    };
    let setup = short_lived(&statics("old"));
    // Long enough for what follows.
    let zone = setup.zone.clone().unwrap().replace("expire = \"3s\"", "expire = \"1h\"");
    let primary = TestServer::with(&Setup { zone: Some(zone), ..setup });
    let proxy = Proxy::start(primary.address);
    let secondary = start_secondary(&[proxy.address]);
    assert_copied(primary.address, secondary.address);
    let before = serial(secondary.address).unwrap();
    proxy.most.store(100_000, Ordering::Relaxed);
    let text = format!("$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\n{}", statics("new"));
    std::fs::write(primary.folder().join("zones/svc.example.test.zone"), text).unwrap();
    wait_for_serial(primary.address, before + 1);
    wait_until(PATIENCE, "two broken transfers", || (proxy.broken.load(Ordering::Relaxed) >= 2).then_some(()));
    secondary.wait_for_line("the transfer stopped behind");
    let answer = secondary.client().ask(&query("n7.svc.example.test.", TXT));
    assert!(answer.message.answers[0].to_string().contains("old"), "all of the old version");
    assert_eq!(serial(secondary.address), Some(before));
    proxy.most.store(usize::MAX, Ordering::Relaxed);
    assert_copied(primary.address, secondary.address);
    let answer = secondary.client().ask(&query("n7.svc.example.test.", TXT));
    assert!(answer.message.answers[0].to_string().contains("new"));
}
