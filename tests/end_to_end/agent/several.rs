//! Several servers, and several services.

use super::*;
use crate::support::message::query;

#[test]
fn the_second_server_takes_over_when_the_first_is_gone() {
    let mut first = TestServer::start();
    let second = TestServer::start();
    let (one, two) = (first.address.to_string(), second.address.to_string());
    let _agent = Agent::start(&arguments(&one, "1", &["--server", &two]));
    wait_for_members(&first, 1);
    assert_eq!(members(&second), 0);
    first.kill_9();
    wait_for_members(&second, 1);
}

#[test]
fn with_all_servers_it_registers_with_both() {
    let first = TestServer::start();
    let second = TestServer::start();
    let (one, two) = (first.address.to_string(), second.address.to_string());
    let mut agent = Agent::start(&arguments(
        &one,
        "1",
        &["--server", &two, "--all-servers", "--name-server", &one, "--drain-timeout", "0s"],
    ));
    wait_for_members(&first, 1);
    wait_for_members(&second, 1);
    agent.signal("TERM");
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!((members(&first), members(&second)), (0, 0));
}

#[test]
fn a_file_names_several_services_and_a_wrong_one_its_line() {
    let server = TestServer::start();
    let memcached = Memcached::start();
    let file = server.folder().join("agent.toml");
    let text = format!(
        "zone = \"svc.example.test.\"\nserver = \"{}\"\nid = \"i-1\"\naddress = \"127.0.0.1\"\ninitial-delay = \"0s\"\n\
         lease = \"3s\"\n[[service]]\nname = \"_memcached._tcp\"\nport = {}\ncheck = \"memcached\"\ninterval = \"100ms\"\n\
         [[service]]\nname = \"_www._tcp\"\nport = 80\ncheck = \"exec:true\"\ninterval = \"100ms\"\n",
        server.address,
        memcached.address.port()
    );
    std::fs::write(&file, &text).unwrap();
    let path = file.to_str().unwrap();
    let mut agent = Agent::start(&["--config", path, "--drain-timeout", "0s"]);
    let www = || server.client().ask(&query("_www._tcp.svc.example.test.", SRV)).targets().len();
    wait_for_members(&server, 1);
    wait_until(PATIENCE, "the other service", || (www() == 1).then_some(()));
    agent.signal("TERM");
    assert_eq!(agent.wait().code(), Some(0));
    assert_eq!((members(&server), www()), (0, 0));
    std::fs::write(&file, text.replace("port = 80", "prot = 80")).unwrap();
    let output = livezone().args(["agent", "--config", path]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("agent.toml:14:1:") && text.contains("prot"), "{text}");
}
