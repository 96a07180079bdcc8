//! Registering and renewing.

use std::os::unix::net::UnixDatagram;

use super::*;
use crate::support::message::{TXT, query};
use crate::support::programs::dig;
use crate::support::server::make_key;

fn keyed() -> Setup {
    Setup {
        keys: vec![("agents", "hmac-sha256")],
        tables: "[access]\nupdate = [{ key = \"agents.\", services = [\"*\"], ids = [\"i-*\"] }]\n\
                 [[service]]\nname = \"_memcached._tcp\"\ndns-sd = true\n"
            .to_owned(),
        ..Setup::default()
    }
}

#[test]
fn a_checked_service_is_registered_signed_and_renewed_without_moving_the_serial() {
    let server = TestServer::with(&keyed());
    let memcached = Memcached::start();
    let (at, port) = (server.address.to_string(), memcached.address.port().to_string());
    let key = server.key_file("agents");
    let more = [
        "--key-file",
        key.to_str().unwrap(),
        "--check",
        "memcached",
        "--weight",
        "7",
        "--priority",
        "1",
        "--meta",
        "az=a",
    ];
    let _agent = Agent::start(&arguments(&at, &port, &more));
    wait_for_members(&server, 1);
    let printed = dig(server.address, &[MEMCACHED, "SRV"]);
    assert_eq!(printed.answers, [format!("{MEMCACHED} 1 IN SRV 1 7 {port} {HOST}")]);
    assert_eq!(addresses(&server, HOST), ["127.0.0.1"]);
    let text = dig(server.address, &["i-1._memcached._tcp.svc.example.test.", "TXT"]).answers;
    assert!(text.len() == 1 && text[0].contains("\"az=a\""), "{text:?}");
    // Twice the lease later it is still there, and nothing has moved.
    let client = server.client();
    let serial = client.serial();
    let start = std::time::Instant::now();
    wait_until(PATIENCE, "two leases", || {
        assert_eq!((members(&server), client.serial()), (1, serial));
        (start.elapsed() > Duration::from_secs(6)).then_some(())
    });
    assert_eq!(server.count_logged("refused"), 0);
}

#[test]
fn another_run_replaces_what_the_one_before_left() {
    let server = TestServer::with(&keyed());
    let at = server.address.to_string();
    let key = server.key_file("agents");
    let key = key.to_str().unwrap();
    let first =
        [&QUICK[..], &["--server", &at, "--address", "192.0.2.1", "--port", "1", "--key-file", key, "--meta", "a=b"]];
    let agent = Agent::start(&first.concat());
    wait_for_members(&server, 1);
    drop(agent); // killed, so that its lease goes on
    let second = [&QUICK[..], &["--server", &at, "--address", "192.0.2.2", "--port", "2", "--key-file", key]];
    let _agent = Agent::start(&second.concat());
    wait_until(PATIENCE, "the other address", || (addresses(&server, HOST) == ["192.0.2.2"]).then_some(()));
    let text = server.client().ask(&query("i-1._memcached._tcp.svc.example.test.", TXT));
    assert!(!text.message.answers.iter().any(|record| record.data.to_string().contains("a=b")), "{text:?}");
    assert_eq!(members(&server), 1);
}

#[test]
fn a_key_that_the_server_does_not_know_is_explained() {
    let server = TestServer::with(&keyed());
    let other = server.folder().join("other.key");
    make_key("other", "hmac-sha256", &other);
    let at = server.address.to_string();
    let agent = Agent::start(&arguments(&at, "1", &["--key-file", other.to_str().unwrap()]));
    let line = agent.wait_for_line("not registered");
    assert!(line.contains("BADKEY") && line.contains("[[key]]"), "{line}");
    let key = server.key_file("agents");
    let mut refused = arguments(&at, "1", &["--key-file", key.to_str().unwrap()]);
    let place = refused.iter().position(|argument| *argument == "i-1").unwrap();
    refused[place] = "web-1";
    let agent = Agent::start(&refused);
    let line = agent.wait_for_line("not registered");
    assert!(line.contains("REFUSED") && line.contains("ids covering web-1"), "{line}");
    assert_eq!(members(&server), 0);
}

#[test]
fn systemd_is_told_of_the_first_registration_and_of_the_end() {
    let server = TestServer::start();
    let socket_path = server.folder().join("notify");
    let socket = UnixDatagram::bind(&socket_path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let receive = || {
        let mut buffer = [0; 200];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    let at = server.address.to_string();
    let mut command = livezone();
    command.arg("agent").args(arguments(&at, "1", &["--drain-timeout", "0s"])).env("NOTIFY_SOCKET", &socket_path);
    let mut agent = Agent::start_with(&mut command);
    assert_eq!(receive(), "READY=1\nSTATUS=1 of 1 services registered");
    assert_eq!(members(&server), 1);
    agent.signal("TERM");
    assert_eq!(receive(), "STOPPING=1");
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!(members(&server), 0);
}

#[test]
fn wrong_usage_is_told_before_anything_is_sent() {
    let run = |arguments: &[&str]| livezone().arg("agent").args(arguments).output().unwrap();
    for wrong in [
        &["--zone", "z."][..],
        &["--zone", "z.", "--service", "_x._tcp", "--port", "1"],
        &["--zone", "z.", "--service", "_x._tcp", "--port", "0", "--server", "127.0.0.1"],
        &["--zone", "z.", "--service", "_x._tcp", "--port", "1", "--server", "127.0.0.1", "--check", "icmp"],
        &["--zone", "z.", "--service", "_x._tcp", "--port", "1", "--server", "127.0.0.1", "--lease", "1500ms"],
        &["--zone", "z.", "--service", "_x._tcp", "--port", "1", "--server", "127.0.0.1", "--api", "http://127.0.0.1"],
        &["--config", "agent.toml", "--zone", "z."],
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let output = run(&["--zone", "z.", "--service", "memcached", "--port", "1", "--server", "127.0.0.1"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && text.contains("--service") && text.contains("_memcached._tcp"),
        "{text}"
    );
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(help.contains("Examples:") && help.contains("livezone agent --config"), "{help}");
}
