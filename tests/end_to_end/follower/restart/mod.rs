//! A secondary that ends and starts, and a primary that is away.

use std::time::{Duration, Instant};

use super::*;
use crate::support::server::livezone;

const EXPIRE: Duration = Duration::from_secs(3);

#[test]
fn a_copy_is_served_from_disk_until_it_expires_and_again_when_its_primary_is_back() {
    let mut primary = TestServer::with(&short_lived("t IN TXT hello\n"));
    let mut secondary = start_secondary(&[primary.address]);
    let records = assert_copied(primary.address, secondary.address);
    // Refreshed for a while, so that what is noted is what counts.
    let first = Instant::now();
    wait_until(PATIENCE, "more than one expire time", || {
        assert_eq!(state(secondary.address).0, 0, "its primary is there");
        (first.elapsed() > EXPIRE).then_some(())
    });
    primary.kill_9();
    let away = Instant::now();
    secondary.kill_9();
    let config = secondary.folder().join("livezone.toml");
    let exported = livezone().args(["export", ZONE, "--config", config.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(exported.stdout).unwrap();
    assert!(text.contains("hello") && text.contains("1000"), "{text}");
    secondary.restart();
    assert_eq!(axfr(secondary.address, &[]), records, "at once, from disk");
    let text = wait_for_servfail(secondary.address);
    assert!(away.elapsed() < EXPIRE + Duration::from_secs(2), "{:?}", away.elapsed());
    assert_eq!(text, "the copy of the zone is missing or has expired");
    secondary.assert_logged("the copy has expired: no primary", 1);
    let (status, view) = zone_view(&secondary, "");
    assert_eq!((status, &view["expired"], &view["epoch"]), (200, &true.into(), &serde_json::Value::Null), "{view}");
    assert!(axfr(secondary.address, &[]).is_empty(), "nor is it transferred on");
    // The rest of the server answers on.
    assert_eq!(Client::new(secondary.address).ask(&query("example.com.", A)).rcode(), 5);
    // Served again, without a transfer, since nothing has changed.
    primary.restart();
    let serial = primary.client().serial();
    wait_for_serial(secondary.address, serial);
    assert_eq!(axfr(secondary.address, &[]), records);
    primary.assert_logged("zone transfer", 2); // the first, and this test's own
    secondary.assert_logged("a primary answers again", 1);
    // It was down for longer than the zone lasts.
    secondary.kill_9();
    primary.kill_9();
    let away = Instant::now();
    wait_until(PATIENCE, "the time to pass", || (away.elapsed() > EXPIRE).then_some(()));
    secondary.restart();
    assert_eq!(state(secondary.address).0, 2, "never stale");
    primary.restart();
    wait_for_serial(secondary.address, serial);
    assert_eq!(axfr(secondary.address, &[]), records);
}

#[test]
fn a_secondary_without_a_copy_is_servfail_and_has_it_soon_after_its_primary_came() {
    let mut primary = TestServer::with(&short_lived(""));
    primary.kill_9();
    let secondary = start_secondary(&[primary.address]);
    assert_eq!(state(secondary.address).0, 2);
    secondary.wait_for_line("no primary has the zone");
    primary.restart();
    assert_copied(primary.address, secondary.address);
}

#[test]
fn secondaries_that_ask_each_other_expire_once_their_primary_is_gone() {
    let mut primary = TestServer::with(&short_lived(""));
    let [one, other] = [free_address(), free_address()];
    let first = TestServer::with(&secondary_at(one, &[primary.address, other], ""));
    let second = TestServer::with(&secondary_at(other, &[primary.address, one], ""));
    assert_copied(primary.address, one);
    assert_copied(primary.address, other);
    primary.kill_9();
    let away = Instant::now();
    for secondary in [&first, &second] {
        wait_for_servfail(secondary.address);
    }
    assert!(away.elapsed() < EXPIRE + Duration::from_secs(3), "{:?}", away.elapsed());
    primary.restart();
    let serial = primary.client().serial();
    for secondary in [&first, &second] {
        wait_for_serial(secondary.address, serial);
    }
}
