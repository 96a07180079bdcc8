//! What a zone file of a copy is checked for, and what a reload makes of it.

use super::*;
use crate::support::MEMCACHED;
use crate::support::server::livezone;

fn zone_file(server: &TestServer) -> std::path::PathBuf {
    server.folder().join("zones/svc.example.test.toml")
}

#[test]
fn check_prints_a_copy_with_its_primaries() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("zones")).unwrap();
    let config = folder.path().join("livezone.toml");
    std::fs::write(&config, "").unwrap();
    let file = folder.path().join("zones/z.toml");
    let check = || {
        let output = livezone().args(["check", "--config", config.to_str().unwrap()]).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text)
    };
    let primaries: [SocketAddr; 2] = ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()];
    std::fs::write(&file, copy_file(&primaries, "")).unwrap();
    let (code, text) = check();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("zone {ZONE}, a copy of 192.0.2.1:53, [2001:db8::1]:53")), "{text}");
    std::fs::write(&file, copy_file(&primaries, "ttl = \"5s\"\nkey = \"none.\"")).unwrap();
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("z.toml:3:") && text.contains("z.toml:4:"), "{text}");
}

#[test]
fn a_zone_becomes_a_copy_and_our_own_again() {
    let listen = free_address();
    let primary = TestServer::with(&Setup { arguments: vec!["--epoch", "5000"], ..primary_of(&[listen]) });
    primary.client().update(&Update::member(MEMCACHED, "theirs", "192.0.2.1").lease(3600));
    // It begins as a server of its own, with a member, and ahead of the other.
    let mut server = TestServer::with(&Setup { listen, arguments: vec!["--epoch", "9000"], ..Setup::default() });
    server.client().update(&Update::member(MEMCACHED, "ours", "192.0.2.2").lease(3600));
    let own = std::fs::read_to_string(zone_file(&server)).unwrap();
    let follower = free_address();
    std::fs::write(zone_file(&server), copy_file(&[primary.address], "")).unwrap();
    let records = assert_copied(primary.address, listen);
    assert!(!records.iter().any(|record| record.contains("ours")), "{records:#?}");
    // And after a restart there is nothing else.
    server.kill_9();
    server.restart();
    assert_eq!(axfr(listen, &[]), records);
    let epoch = |server: &TestServer| zone_view(server, "").1["epoch"].as_u64().unwrap();
    let copied = epoch(&server);
    assert!(copied > 9001 && copied % (1 << 32) == u64::from(serial(primary.address).unwrap()), "{copied}");
    // Somebody follows it, whatever it is.
    let third = TestServer::with(&secondary_at(follower, &[listen], ""));
    assert_copied(listen, follower);
    let notify = format!("[notify]\nsecondaries = [\"{follower}\"]\n");
    std::fs::write(zone_file(&server), own + &notify).unwrap();
    wait_until(PATIENCE, "a zone of our own", || {
        let view = zone_view(&server, "").1;
        (view["role"] == "primary" && !view["epoch"].is_null()).then_some(())
    });
    assert_eq!(epoch(&server), copied + 1, "it goes on from the copy's");
    server.client().update(&Update::member(MEMCACHED, "again", "192.0.2.3").lease(3600));
    let records = assert_copied(listen, follower);
    assert!(records.iter().any(|record| record.contains("again.memcached")), "{records:#?}");
    assert!(!records.iter().any(|record| record.contains("theirs")));
    assert_eq!(third.count_logged("WARN"), 0);
}

#[test]
fn a_reload_changes_primaries_key_and_access() {
    let first = TestServer::with(&short_lived(""));
    let keyed = Setup {
        keys: vec![("xfer", "hmac-sha256")],
        tables: "[access]\ntransfer = [{ key = \"xfer.\" }]\n".to_owned(),
        arguments: vec!["--epoch", "2000"],
        ..Setup::default()
    };
    let second = TestServer::with(&keyed);
    let mut setup = secondary_at(free_address(), &[first.address], "");
    setup.server = format!(
        "[[key]]\nname = \"xfer.\"\nalgorithm = \"hmac-sha256\"\nsecret-file = {:?}\n",
        second.key_file("xfer")
    );
    let secondary = TestServer::with(&setup);
    assert_copied(first.address, secondary.address);
    // A primary that wants a key, and then the key.
    std::fs::write(zone_file(&secondary), copy_file(&[second.address], "")).unwrap();
    secondary.wait_for_line("REFUSED");
    std::fs::write(zone_file(&secondary), copy_file(&[second.address], "key = \"xfer.\"")).unwrap();
    wait_for_serial(secondary.address, 2000);
    assert_eq!(zone_view(&secondary, "").1["primaries"], serde_json::json!([second.address.to_string()]));
    // Who may have it from here.
    assert!(!axfr(secondary.address, &[]).is_empty());
    let closed = copy_file(
        &[second.address],
        "key = \"xfer.\"\n[access]\ntransfer = []\nquery = [{ network = \"192.0.2.0/24\" }]",
    );
    std::fs::write(zone_file(&secondary), closed).unwrap();
    wait_until(PATIENCE, "a closed zone", || (state(secondary.address).0 == 5).then_some(()));
    assert!(axfr(secondary.address, &[]).is_empty());
}
