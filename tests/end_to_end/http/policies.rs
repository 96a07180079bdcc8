//! What keeps a fault from emptying a zone, over real sockets: held, damped, in slots, drained with a promise.

use hickory_proto::rr::RData;

use super::members::{MEMBERS, put, send, targets};
use super::*;
use crate::support::answering::Answering;

fn setup(tables: &str) -> Setup {
    Setup {
        tables: tables.to_owned(),
        policies: String::new(),
        lease: "default = \"2s\"\nmin = \"1s\"\nmax = \"1h\"\n".to_owned(),
        ..Setup::default()
    }
}

/// The strings of the service's TXT record.
fn text(server: &TestServer) -> Vec<String> {
    let answer = server.client().ask(&query(MEMCACHED, TXT));
    match answer.message.answers.first().map(|record| &record.data) {
        Some(RData::TXT(text)) => text.txt_data.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
        _ => Vec::new(),
    }
}

fn states(server: &TestServer) -> Vec<(String, String)> {
    let view = get(server, "/v1/zones/svc.example.test/services/_memcached._tcp").json();
    let of = |member: &Value| (member["id"].as_str().unwrap().to_owned(), member["state"].as_str().unwrap().to_owned());
    view["members"].as_array().unwrap().iter().map(of).collect()
}

fn causes(server: &TestServer) -> Vec<String> {
    let changes = commits(server, "").into_iter().flat_map(|commit| commit["changes"].as_array().unwrap().clone());
    changes.map(|change| change["cause"].as_str().unwrap().to_owned()).collect()
}

/// Renews these members until something holds.
fn renew_until(server: &TestServer, ids: &[&str], what: &str, mut condition: impl FnMut() -> bool) {
    wait_until(PATIENCE, what, || {
        for id in ids {
            put(server, id, "{}");
        }
        condition().then_some(())
    });
}

#[test]
fn most_of_a_service_falls_silent_and_stays_until_it_is_heard_or_released() {
    let server = TestServer::with(&setup(""));
    for id in ["a", "b", "c", "d", "e", "f"] {
        server.client().update(&Update::member(MEMCACHED, id, "192.0.2.1").lease(2));
    }
    let serial = server.client().serial();
    renew_until(&server, &["a", "b"], "the others are held", || text(&server).contains(&"hold=1".to_owned()));
    assert_eq!((targets(&server).len(), server.client().serial()), (6, serial + 1), "one commit holds all four");
    assert_eq!(text(&server)[1], "members=6");
    let held = states(&server).into_iter().filter(|(_, state)| state == "held").map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(held, ["c", "d", "e", "f"]);
    // One is heard of by its own update, one more leaves by an operator's word; two go with the rest.
    server.client().update(&Update::member(MEMCACHED, "c", "192.0.2.1").lease(2));
    renew_until(&server, &["a", "b", "c"], "it is up", || states(&server)[2].1 == "up");
    send(&server, "POST", &format!("{MEMBERS}/a/release"), "").assert_problem(409, "is not held");
    let released = send(&server, "POST", &format!("{MEMBERS}/d/release"), "").json();
    assert_eq!(released["released"], serde_json::json!(["d"]));
    put(&server, "a", "{}");
    let before = server.client().serial();
    let released = send(&server, "POST", "/v1/zones/svc.example.test/services/_memcached._tcp/release", "").json();
    assert_eq!((&released["released"], &released["serial"]), (&serde_json::json!(["e", "f"]), &(before + 1).into()));
    assert!(!text(&server).contains(&"hold=1".to_owned()));
    assert_eq!(targets(&server).len(), 3);
    let causes = causes(&server);
    for cause in ["held", "released"] {
        assert!(causes.contains(&cause.to_owned()), "{causes:?}");
    }
}

#[test]
fn a_held_member_is_held_after_a_restart_and_the_zone_is_the_same() {
    let mut server = TestServer::with(&setup(""));
    for id in ["a", "b", "c", "d", "e", "f"] {
        server.client().update(&Update::member(MEMCACHED, id, "192.0.2.1").lease(2));
    }
    renew_until(&server, &["a"], "the others are held", || text(&server).contains(&"hold=1".to_owned()));
    let (serial, before) = (server.client().serial(), text(&server));
    server.kill_9();
    server.restart();
    assert_eq!((server.client().serial(), text(&server)), (serial, before));
    assert_eq!(states(&server).iter().filter(|(_, state)| state == "held").count(), 5);
}

#[test]
fn a_member_that_comes_and_goes_is_damped_and_told_so_on_every_channel() {
    let server = TestServer::with(&setup("[damping]\nhalf-life = \"3s\"\n"));
    let body = r#"{"port":11211,"addresses":["10.0.0.5"],"lease":"60s"}"#;
    let serial = server.client().serial();
    for _ in 0..4 {
        put(&server, "flappy", body);
        send(&server, "DELETE", &format!("{MEMBERS}/flappy"), "");
    }
    let last = put(&server, "flappy", body);
    assert_eq!((&last["state"], last["damped-until"].is_string()), (&"damped".into(), true), "{last}");
    assert_eq!(targets(&server), [""; 0]);
    assert!(server.client().serial() <= serial + 4, "coming back damped is no commit");
    let renewal = Update::new().add(MEMCACHED, SRV, 5, &srv(11211, "flappy.memcached.svc.example.test.")).lease(60);
    let answer = server.client().update(&renewal);
    assert!(answer.error_text().contains("flappy in") && answer.error_text().contains("damped until"), "{answer:?}");
    // It stays, and is back.
    wait_until(PATIENCE, "it is published again", || (!targets(&server).is_empty()).then_some(()));
    assert_eq!(causes(&server).last().unwrap(), "reused");
    assert_eq!(put(&server, "flappy", "{}")["state"], "up");
}

#[test]
fn slots_outlive_members_and_restarts_and_only_the_replaced_one_changes() {
    let service = "[[service]]\nname = \"_memcached._tcp\"\nslots = true\n[damping]\nhalf-life = \"0s\"\n";
    let mut server = TestServer::with(&setup(service));
    for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
        let told = put(&server, id, &format!(r#"{{"port":11211,"addresses":["10.0.0.{number}"],"lease":60}}"#));
        assert_eq!(told["slot"], number);
    }
    let slot = |number: u32| format!("0 256 11211 s000{number}.memcached.svc.example.test.");
    assert_eq!(targets(&server), [slot(0), slot(1), slot(2)]);
    assert_eq!(text(&server)[3], "slots=3");
    let addresses = |server: &TestServer, name: &str| {
        let answer = server.client().ask(&query(&format!("{name}.memcached.svc.example.test."), A));
        answer.message.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (addresses(&server, "s0001"), addresses(&server, "b")),
        (vec!["10.0.0.1".to_owned()], vec!["10.0.0.1".to_owned()])
    );
    send(&server, "DELETE", &format!("{MEMBERS}/b"), "");
    server.kill_9();
    server.restart();
    assert_eq!(targets(&server), [slot(0), slot(2)]);
    // By an update as well, which names the member's own host as its target: prerequisites and deletes see it as registered.
    let own = srv(11211, "d.memcached.svc.example.test.");
    server.client().update(&Update::member(MEMCACHED, "d", "10.0.0.9").lease(60));
    assert_eq!(addresses(&server, "s0001"), ["10.0.0.9"]);
    assert_eq!(targets(&server).len(), 3);
    let required = Update::new().require(MEMCACHED, SRV, ANY_CLASS, &[]).delete_record(MEMCACHED, SRV, &own);
    server.client().update(&required);
    assert_eq!(targets(&server), [slot(0), slot(2)]);
    // A planned replacement.
    let told = put(&server, "e", r#"{"port":11211,"addresses":["10.0.0.7"],"lease":60,"replaces":"c"}"#);
    assert_eq!(told["slot"], 2);
    assert_eq!((addresses(&server, "s0002"), states(&server)[1].1.as_str()), (vec!["10.0.0.7".to_owned()], "draining"));
}

const ANY_CLASS: u16 = CLASS_ANY;

#[test]
fn a_drained_member_may_stop_when_its_secondaries_and_their_caches_are_without_it() {
    let serial = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let served = serial.clone();
    let secondary = Answering::start("127.0.0.1:0", move |message, _| {
        let mut answer = message.to_vec();
        answer[2..8].copy_from_slice(&[0x84, 0, 0, 1, 0, 1]);
        let words = [served.load(Ordering::Relaxed), 1, 1, 1, 1].map(u32::to_be_bytes).concat();
        answer.truncate(12 + name(ZONE).len() + 4);
        answer[8..12].copy_from_slice(&[0; 4]);
        answer.extend(record(ZONE, SOA, IN, 5, &[&[0, 0][..], &words].concat()));
        vec![answer]
    });
    let tables = format!("[notify]\nsecondaries = [\"{}\"]\n", secondary.address);
    let server = TestServer::with(&Setup { top: "drain-timeout = \"1h\"\n".to_owned(), ..setup(&tables) });
    put(&server, "a", r#"{"port":11211,"addresses":["10.0.0.5"],"lease":"60s"}"#);
    serial.store(server.client().serial(), Ordering::Relaxed);
    let drained = send(&server, "POST", &format!("{MEMBERS}/a/drain"), "").json();
    let waiting = serde_json::json!([secondary.address.to_string()]);
    let expected = (&Value::from("draining"), &Value::Null, &waiting);
    assert_eq!((&drained["state"], &drained["safe-to-stop-at"], &drained["waiting-for"]), expected, "{drained}");
    assert_eq!(targets(&server), [""; 0]);
    let asked = secondary.questions().len();
    wait_until(PATIENCE, "it is asked again", || (secondary.questions().len() > asked + 1).then_some(()));
    assert_eq!(get(&server, &format!("{MEMBERS}/a/drain")).json()["safe-to-stop-at"], Value::Null);
    serial.store(server.client().serial(), Ordering::Relaxed);
    let before = std::time::SystemTime::now();
    let told = wait_until(PATIENCE, "it is safe to stop", || {
        let told = get(&server, &format!("{MEMBERS}/a/drain")).json();
        told["safe-to-stop-at"].is_string().then_some(told)
    });
    let safe = humantime::parse_rfc3339(told["safe-to-stop-at"].as_str().unwrap()).unwrap();
    // The zone's TTL and a second after the secondary was seen to have it.
    assert!(safe >= before + Duration::from_millis(1990), "{safe:?} {before:?}");
    assert_eq!(told["waiting-for"], serde_json::json!([]));
    send(&server, "POST", &format!("{MEMBERS}/a/undrain"), "");
    let told = get(&server, &format!("{MEMBERS}/a/drain")).json();
    assert_eq!((&told["state"], &told["safe-to-stop-at"]), (&"up".into(), &Value::Null));
}

#[test]
fn a_secondary_that_never_answers_ends_the_wait_and_is_named_and_a_drain_outlives_a_restart() {
    let secondary = Answering::silent();
    let tables = format!("[notify]\nsecondaries = [\"{}\"]\n", secondary.address);
    let mut server = TestServer::with(&Setup { top: "drain-timeout = \"1s\"\n".to_owned(), ..setup(&tables) });
    put(&server, "a", r#"{"port":11211,"addresses":["10.0.0.5"],"lease":"60s"}"#);
    send(&server, "POST", &format!("{MEMBERS}/a/drain"), "");
    server.kill_9();
    server.restart();
    assert_eq!((targets(&server), states(&server)[0].1.as_str()), (Vec::new(), "draining"));
    let told = wait_until(PATIENCE, "the wait ends", || {
        let told = get(&server, &format!("{MEMBERS}/a/drain")).json();
        told["safe-to-stop-at"].is_string().then_some(told)
    });
    assert_eq!((&told["timed-out"], &told["waiting-for"][0]), (&true.into(), &secondary.address.to_string().into()));
}
