//! `livezone explain` has a line for each thing that policy does, and for each order.

use std::time::Instant;

use super::members::send;
use super::*;

fn setup(services: &str) -> Setup {
    Setup {
        tables: services.to_owned(),
        policies: String::new(),
        lease: "default = \"2s\"\nmin = \"1s\"\nmax = \"1h\"\n".to_owned(),
        ..Setup::default()
    }
}

fn path(service: &str, rest: &str) -> String {
    format!("/v1/zones/svc.example.test/services/{service}{rest}")
}

fn put(server: &TestServer, service: &str, id: &str, body: &str) {
    let response = send(server, "PUT", &path(service, &format!("/members/{id}")), body);
    assert_eq!(response.status, 200, "{response:?}");
}

fn post(server: &TestServer, service: &str, action: &str) {
    let response = send(server, "POST", &path(service, action), "");
    assert_eq!(response.status, 200, "{response:?}");
}

fn delete(server: &TestServer, service: &str, id: &str) {
    let response = send(server, "DELETE", &path(service, &format!("/members/{id}")), "");
    assert_eq!(response.status, 200, "{response:?}");
}

/// What the lines of commits say, a change each.
fn told(server: &TestServer) -> Vec<String> {
    let text = ask(server, &["explain", ZONE]);
    let heads = text.lines().filter(|line| line.starts_with("epoch "));
    heads.flat_map(|line| line.split_once("Z: ").unwrap().1.split("; ").map(str::to_owned)).collect()
}

/// Waits until a line ends like that; these members are renewed meanwhile.
fn wait_for(server: &TestServer, wanted: &str, renewed: &[(&str, &str)]) {
    let start = Instant::now();
    loop {
        for (service, id) in renewed {
            put(server, service, id, "{}");
        }
        let lines = told(server);
        if lines.iter().any(|line| line.ends_with(wanted)) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "no {wanted} in {lines:#?}");
    }
}

/// Waits until these members of a service are held; others are renewed meanwhile.
fn wait_for_held(server: &TestServer, service: &str, ids: &[&str], renewed: &[(&str, &str)]) {
    wait_until(PATIENCE, "the hold", || {
        renewed.iter().for_each(|(service, id)| put(server, service, id, "{}"));
        let view = get(server, &path(service, "")).json();
        let members = view["members"].as_array().unwrap();
        let is_held = |id| members.iter().any(|member| member["id"] == id && member["state"] == "held");
        ids.iter().all(|&id: &&str| is_held(id)).then_some(())
    });
}

const BODY: &str = r#"{"port":11211,"addresses":["10.0.0.5"]}"#;
const LONG: &str = r#"{"port":11211,"addresses":["10.0.0.5"],"lease":3600}"#;

#[test]
fn a_hold_is_told_from_its_beginning_to_each_of_its_ends() {
    let server = TestServer::with(&setup(
        "[[service]]\nname = \"_short._tcp\"\n[service.hold]\nmax = \"1s\"\n\
         [[service]]\nname = \"_few._tcp\"\n[service.hold]\nfraction = 1.0\nfloor = 1\nmax = \"1s\"\n",
    ));
    let names = |service: &str, id: &str, what: &str| format!("{id} in {service}.svc.example.test. {what}");
    for id in ["a", "b", "c", "d", "e", "f"] {
        put(&server, "_cache._tcp", id, BODY);
        put(&server, "_short._tcp", id, BODY);
        put(&server, "_heal._tcp", id, BODY);
    }
    put(&server, "_few._tcp", "last", BODY);
    let steady = [("_cache._tcp", "a"), ("_cache._tcp", "b")];
    // Those who are held together have a line each; whoever joins them later changes nothing that is published.
    for service in ["_cache._tcp", "_heal._tcp"] {
        let line = format!("in {service}.svc.example.test. held, with too many others silent");
        wait_for(&server, &line, &steady);
        wait_for_held(&server, service, &["c", "d", "e", "f"], &steady);
    }
    // Where all are heard of again there is one more commit, with the last of them: what is published says no more of a hold.
    let all = ["a", "b", "c", "d", "e", "f"].map(|id| ("_heal._tcp", id));
    let all = [&steady[..], &all].concat();
    wait_for(&server, "in _heal._tcp.svc.example.test. heard of again, held no longer", &all);
    put(&server, "_cache._tcp", "c", "{}");
    post(&server, "_cache._tcp", "/members/d/release");
    wait_for(&server, &names("_cache._tcp", "d", "released by address 127.0.0.1"), &steady);
    let steady = [("_cache._tcp", "a"), ("_cache._tcp", "b"), ("_cache._tcp", "c")];
    for id in ["e", "f"] {
        wait_for(&server, &names("_cache._tcp", id, "let go, silent since few are held"), &steady);
    }
    wait_for(&server, &names("_short._tcp", "a", "let go, held for as long as may be"), &[]);
    wait_for(&server, &names("_few._tcp", "last", "held, too few would be left"), &[]);
    wait_for(&server, &names("_few._tcp", "last", "let go, held for as long as may be"), &[]);
}

#[test]
fn slots_weights_damping_and_drains_are_told() {
    let server = TestServer::with(&setup(
        "[[service]]\nname = \"_s._tcp\"\nslots = true\nslot-hold = \"1s\"\n[service.damping]\nhalf-life = \"0s\"\n\
         [[service]]\nname = \"_slow._tcp\"\nslow-start = \"1s\"\n\
         [[service]]\nname = \"_flap._tcp\"\n[service.damping]\nhalf-life = \"2s\"\n",
    ));
    let names = |service: &str, id: &str, what: &str| format!("{id} in {service}.svc.example.test. {what}");
    put(&server, "_slow._tcp", "a", LONG);
    // One that comes back too often is kept out without a commit.
    for _ in 0..4 {
        put(&server, "_flap._tcp", "a", LONG);
        delete(&server, "_flap._tcp", "a");
    }
    put(&server, "_flap._tcp", "a", LONG);
    for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
        put(&server, "_s._tcp", id, LONG);
        let line = names("_s._tcp", id, &format!("registered by address 127.0.0.1, slot {number}"));
        assert!(told(&server).contains(&line), "no {line} in {:#?}", told(&server));
    }
    // Who waits for a slot that is kept is not published, and has no line until it is.
    delete(&server, "_s._tcp", "a");
    put(&server, "_s._tcp", "d", LONG);
    wait_for(&server, &names("_s._tcp", "d", "given slot 0"), &[]);
    assert_eq!(told(&server).iter().filter(|line| line.starts_with("d in _s._tcp")).count(), 1);
    let replacement = r#"{"port":11211,"addresses":["10.0.0.7"],"lease":3600,"replaces":"c"}"#;
    put(&server, "_s._tcp", "e", replacement);
    let lines = told(&server);
    for line in [
        names("_s._tcp", "c", "drained by address 127.0.0.1, e takes its place"),
        names("_s._tcp", "e", "registered by address 127.0.0.1, slot 2"),
    ] {
        assert!(lines.contains(&line), "no {line} in {lines:#?}");
    }
    post(&server, "_s._tcp", "/members/b/drain");
    wait_for(&server, &names("_s._tcp", "b", "drained by address 127.0.0.1"), &[]);
    post(&server, "_s._tcp", "/members/b/undrain");
    wait_for(&server, &names("_s._tcp", "b", "brought back by address 127.0.0.1, slot 1"), &[]);
    delete(&server, "_s._tcp", "e");
    post(&server, "_s._tcp", "/slots/shrink");
    wait_for(&server, "_s._tcp.svc.example.test. rid of free slots by address 127.0.0.1, 2 are left", &[]);
    // The way to a weight, a quarter at a time.
    for line in [
        "registered by address 127.0.0.1, weight 64 for now",
        "given more of its weight, weight 128 for now",
        "given more of its weight, weight 192 for now",
        "given all of its weight",
    ] {
        wait_for(&server, &names("_slow._tcp", "a", line), &[]);
    }
    wait_for(&server, &names("_flap._tcp", "a", "published again, damped until now"), &[]);
}
