//! What `--json` prints: the fields of each command, by name. A field that goes, or has another name, breaks scripts.

use std::collections::BTreeSet;

use super::members::{MEMBERS, put, send};
use super::*;

/// These and no others; and the README's table has them where it tells of this kind of document.
#[track_caller]
fn assert_keys(kind: &str, document: &Value, keys: &str) {
    let found: BTreeSet<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys.split_whitespace().collect(), "{document}");
    let readme = include_str!("../../../README.md");
    let row = readme.lines().find(|line| line.starts_with("| ") && line.contains(&format!(" | `{kind}` | ")));
    let row = row.unwrap_or_else(|| panic!("the README tells nothing of {kind}"));
    for key in found {
        assert!(row.contains(&format!("`{key}`")), "the README does not tell of {key}: {row}");
    }
}

/// The documents that a command prints, a line each.
fn documents(server: &TestServer, arguments: &[&str]) -> Vec<Value> {
    let text = ask(server, &[arguments, &["--json"]].concat());
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const SERVICE: &str = "zone service host-name epoch members-count digest members";
const MEMBER: &str = "id target port priority weight addresses state since late owner lease lease-remaining \
                      last-heartbeat metadata";
const ACKNOWLEDGEMENT: &str = "epoch serial lease state changed";
const COMMIT: &str = "epoch serial time changes removed added";

#[test]
fn every_command_prints_the_fields_that_it_is_known_for() {
    let services = "[[service]]\nname = \"_memcached._tcp\"\nslots = true\nslot-hold = \"1h\"\nslow-start = \"1h\"\n\
                    [[service]]\nname = \"_x._tcp\"\n[[service]]\nname = \"_flap._tcp\"\n[service.damping]\nhalf-life = \"1h\"\n";
    let server = TestServer::with(&Setup { tables: services.to_owned(), ..Setup::default() });
    let body = r#"{"port":11211,"addresses":["10.0.0.5"],"lease":3600}"#;
    // With all of what policy adds: in a slot and on the way to its weight, waiting for one, damped.
    for id in ["a", "b"] {
        put(&server, id, body);
    }
    send(&server, "DELETE", &format!("{MEMBERS}/b"), "");
    put(&server, "c", body);
    let of = |service: &str| format!("/v1/zones/svc.example.test/services/{service}/members/m");
    send(&server, "PUT", &of("_x._tcp"), body);
    for _ in 0..4 {
        send(&server, "PUT", &of("_flap._tcp"), body);
        send(&server, "DELETE", &of("_flap._tcp"), "");
    }
    send(&server, "PUT", &of("_flap._tcp"), body);

    let members = |service: &str| documents(&server, &["members", ZONE, service]);
    let plain = members("_x._tcp");
    assert_keys("ServiceView", &plain[0], SERVICE);
    assert_keys("MemberView", &plain[0]["members"][0], MEMBER);
    assert_keys("MemberView", &members("_flap._tcp")[0]["members"][0], &format!("{MEMBER} damped-until"));
    let slotted = members("_memcached._tcp");
    assert_keys("ServiceView", &slotted[0], &format!("{SERVICE} slots free-slots"));
    assert_keys("MemberView", &slotted[0]["members"][0], &format!("{MEMBER} slot published-weight"));
    assert_keys("MemberView", &slotted[0]["members"][1], &format!("{MEMBER} waits-for-slot"));
    assert_keys("ServiceView", &slotted[0]["free-slots"][0], "number last since");
    assert_eq!(documents(&server, &["members"]).len(), 3, "a service a line");
    let watched = documents(&server, &["watch", ZONE, "_x._tcp", "--once"]);
    assert_keys("ServiceView", &watched[0], SERVICE);
    assert_keys("MemberView", &watched[0]["members"][0], MEMBER);

    let slots = documents(&server, &["slots", ZONE, "_memcached._tcp"]);
    assert_keys("SlotsView", &slots[0], "zone service epoch slots");
    for slot in slots[0]["slots"].as_array().unwrap() {
        assert_keys("SlotsView", slot, "number name id last since");
    }
    assert_keys(
        "DrainView",
        &documents(&server, &["drain", ZONE, "_x._tcp", "m"])[0],
        "state safe-to-stop-at safe-in waiting-for",
    );
    let undrained = |service: &str, id: &str| documents(&server, &["undrain", ZONE, service, id]).remove(0);
    assert_keys("Acknowledgement", &undrained("_x._tcp", "m"), ACKNOWLEDGEMENT);
    assert_keys("Acknowledgement", &undrained("_flap._tcp", "m"), &format!("{ACKNOWLEDGEMENT} damped-until"));
    assert_keys("Acknowledgement", &undrained("_memcached._tcp", "a"), &format!("{ACKNOWLEDGEMENT} slot"));
    assert_keys("Acknowledgement", &undrained("_memcached._tcp", "c"), &format!("{ACKNOWLEDGEMENT} waits-for-slot"));
    assert_keys(
        "ReleaseView",
        &documents(&server, &["release", ZONE, "_x._tcp", "--held"])[0],
        "epoch serial released",
    );

    // The documents that the README names are described.
    let described = get(&server, "/v1/openapi.json").json();
    for kind in [
        "ServiceView",
        "MemberView",
        "SlotsView",
        "CommitView",
        "ChangeView",
        "DrainView",
        "Acknowledgement",
        "ReleaseView",
    ] {
        assert!(described["components"]["schemas"][kind].is_object(), "{kind}");
    }

    let commits = documents(&server, &["explain", ZONE]);
    commits.iter().for_each(|commit| assert_keys("CommitView", commit, COMMIT));
    let change = |cause: &str, service: &str| -> Value {
        let mut changes = commits.iter().flat_map(|commit| commit["changes"].as_array().unwrap());
        let is_that = |change: &&Value| {
            change["cause"] == cause && change["service"].as_str().is_some_and(|name| name.starts_with(service))
        };
        changes.find(is_that).unwrap_or_else(|| panic!("{commits:#?}")).clone()
    };
    assert_keys("ChangeView", &change("registered", "_x._tcp"), "what cause by service id");
    assert_keys(
        "ChangeView",
        &change("registered", "_memcached._tcp"),
        "what cause by service id slot published-weight",
    );
    let configured = commits[0]["changes"].as_array().unwrap();
    let settings = configured.iter().find(|change| change["what"] == "settings").unwrap();
    assert_keys("ChangeView", settings, "what cause name");
}
