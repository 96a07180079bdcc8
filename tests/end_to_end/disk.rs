//! A disk that is full, with the real binary on a file system of a few megabytes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::message::*;
use crate::support::programs::run;
use crate::support::server::{Setup, TestServer};
use crate::support::{MEMCACHED, PATIENCE, wait_until};

/// A server whose data folder is a small file system of its own.
fn start_on_small_disk() -> TestServer {
    // Root needs no more than a mount namespace; others become root in a user namespace.
    let namespaces: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let works = |arguments: &&&[&str]| {
        let status = Command::new("unshare").args(**arguments).arg("true").stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let namespace = namespaces.iter().find(works).expect("a namespace to mount a small file system in");
    let script = "mkdir -p data && mount -t tmpfs -o size=4m none data && exec \"$@\"";
    let wrapper = [&["unshare"], *namespace, &["sh", "-c", script, "sh"]].concat();
    TestServer::with(&Setup { wrapper: wrapper.into_iter().map(str::to_owned).collect(), ..Setup::default() })
}

/// The data folder as the server sees it.
fn data(server: &TestServer) -> PathBuf {
    let folder = server.folder().join("data");
    PathBuf::from(format!("/proc/{}/root{}", server.pid(), folder.display()))
}

#[test]
fn a_full_disk_refuses_registrations_with_the_reason_and_is_used_again_when_it_has_room() {
    let server = start_on_small_disk();
    let client = server.client();
    let member = |number: usize| Update::member(MEMCACHED, &format!("i-{number}"), "192.0.2.1").lease(3600);
    client.update(&member(0));
    let filler = data(&server).join("filler");
    // Whatever room is left; the write ends with an error.
    let _ = std::fs::write(&filler, vec![0; 8 << 20]);
    let mut there = 1;
    let refusal = loop {
        let answer = client.ask(&member(there).encode());
        if answer.rcode() != 0 {
            break answer;
        }
        there += 1;
        assert!(there < 10_000, "the disk never fills");
    };
    assert_eq!(refusal.rcode(), 2, "SERVFAIL");
    assert!(refusal.error_text().contains("store"), "{}", refusal.error_text());
    let url = format!("http://{}/readyz", server.http.unwrap());
    let ready = || String::from_utf8(run("curl", &["-s", "-w", "%{http_code}", &url], "").stdout).unwrap();
    assert!(ready().ends_with("503") && ready().contains("\"part\":\"store\",\"ready\":false"), "{}", ready());
    let serial = client.serial();
    // Answers and renewals go on; registrations are refused, and that is said once.
    for _ in 0..20 {
        client.update(&member(0));
        assert_eq!(client.ask(&member(there).encode()).rcode(), 2);
        assert_eq!(client.targets(MEMCACHED).len(), there);
    }
    assert_eq!(client.serial(), serial);
    server.assert_logged("the store can't be written", 1);
    std::fs::remove_file(&filler).unwrap();
    wait_until(PATIENCE, "a registration", || (client.ask(&member(there).encode()).rcode() == 0).then_some(()));
    wait_until(PATIENCE, "a server that is ready", || ready().ends_with("200").then_some(()));
    assert_eq!(client.targets(MEMCACHED).len(), there + 1);
    assert_eq!(client.serial(), serial.wrapping_add(1));
    server.assert_logged("can be written again", 1);
}
