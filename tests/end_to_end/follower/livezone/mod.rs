//! A primary and its secondaries, all of them livezone.

use fastrand::Rng;

use super::*;
use crate::support::MEMCACHED;

/// Changes of the members of a few services, a commit each.
struct Churn {
    rng: Rng,
    there: Vec<bool>,
}

const SERVICES: [&str; 3] = [MEMCACHED, "_memcached._udp.svc.example.test.", "_x._tcp.east.svc.example.test."];
const IDS: usize = 12;

impl Churn {
    fn new(seed: u64) -> Churn {
        Churn { rng: Rng::with_seed(seed), there: vec![false; SERVICES.len() * IDS] }
    }

    fn next(&mut self) -> Update {
        let place = self.rng.usize(..self.there.len());
        let (service, id) = (SERVICES[place / IDS], format!("i-{}", place % IDS));
        let host = host_of(service, &id);
        if self.there[place] && self.rng.u8(..3) == 0 {
            self.there[place] = false;
            return Update::new().delete_rrset(&host, A).delete_record(service, SRV, &srv(11211, &host)).lease(0);
        }
        self.there[place] = true;
        let (rtype, rdata) = address(&format!("192.0.2.{}", self.rng.u8(1..250)));
        Update::new()
            .delete_rrset(&host, A)
            .add(service, SRV, 5, &srv(11211, &host))
            .add(&host, rtype, 5, &rdata)
            .lease(3600)
    }
}

#[test]
fn each_side_knows_the_other_by_its_listening_address() {
    let at = |address: &str| SocketAddr::new(address.parse().unwrap(), free_address().port());
    let (primary, secondary) = (at("127.53.7.4"), at("127.53.7.3"));
    let setup = primary_of(&[secondary]);
    let tables = format!("{}[access]\ntransfer = [{{ network = \"127.53.7.3/32\" }}]\n", setup.tables);
    let primary = TestServer::with(&Setup { listen: primary, tables, ..setup });
    // It takes NOTIFY from its primary's address alone, and is admitted by its own.
    let secondary = TestServer::with(&secondary_at(secondary, &[primary.address], ""));
    wait_for_serial(secondary.address, serial(primary.address).unwrap());
    primary.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    wait_for_serial(secondary.address, serial(primary.address).unwrap());
    primary.wait_for_line("NOTIFY is acknowledged");
    assert_eq!(primary.count_logged("NOTIFY is refused"), 0);
    assert_eq!(secondary.count_logged("WARN"), 0);
}

#[test]
fn a_thousand_changes_arrive_as_differences() {
    const CHANGES: usize = 1000;
    let listen = free_address();
    // More than the differences are, which are sent as a whole else.
    let statics = (0..200).map(|number| format!("n{number} IN TXT {number}\n")).collect::<String>();
    let setup = primary_of(&[listen]);
    let primary = TestServer::with(&Setup { statics: setup.statics.clone() + &statics, ..setup });
    let secondary = TestServer::with(&secondary_at(listen, &[primary.address], ""));
    assert_copied(primary.address, listen);
    let (client, mut churn) = (primary.client(), Churn::new(0x5eed));
    for change in 1..=CHANGES {
        client.update(&churn.next());
        if change % 200 == 0 {
            assert_copied(primary.address, listen);
        }
    }
    let records = assert_copied(primary.address, listen);
    assert!(serial(listen).unwrap() > 1000 + 500, "most of them changed something");
    assert!(records.iter().any(|record| record.contains(" srv ")));
    // The whole zone went out once, besides those of this test.
    primary.assert_lines(&["zone transfer", "INFO"], 1 + 1 + CHANGES / 200 + 1);
    assert_eq!(secondary.count_logged("WARN") + secondary.count_logged("ERROR"), 0);
    // The same answers, and lists in the same order.
    let (ours, theirs) = (secondary.client(), primary.client());
    for service in SERVICES {
        let host = host_of(service, "i-1");
        for (owner, qtype) in [
            (service, SRV),
            (service, TXT),
            (host.as_str(), A),
            (host.as_str(), AAAA),
            ("none.svc.example.test.", A),
            (ZONE, NS),
            (ZONE, SOA),
        ] {
            let question = edns_query(owner, qtype, 1232);
            assert_eq!(ours.ask(&question).octets, theirs.ask(&question).octets, "{owner} {qtype}");
        }
    }
}

#[test]
fn the_serial_goes_round() {
    let listen = free_address();
    let mut primary = TestServer::with(&Setup { arguments: vec!["--epoch", "4294967290"], ..primary_of(&[listen]) });
    let mut secondary = TestServer::with(&secondary_at(listen, &[primary.address], ""));
    wait_for_serial(listen, 4_294_967_290);
    let mut churn = Churn::new(7);
    for id in 0..20 {
        primary.client().update(&Update::member(MEMCACHED, &format!("i-{id}"), "192.0.2.1").lease(3600));
        if id % 4 == 0 {
            assert_copied(primary.address, listen);
        }
    }
    assert_copied(primary.address, listen);
    assert_eq!(serial(listen), Some(14));
    let epoch = zone_view(&secondary, "").1["epoch"].as_u64();
    assert_eq!(epoch, Some((1 << 32) + 14), "as the primary counts");
    // Over restarts of both.
    secondary.kill_9();
    primary.client().update(&churn.next());
    primary.kill_9();
    primary.restart();
    secondary.restart();
    assert_copied(primary.address, listen);
    assert_eq!(secondary.count_logged("the whole zone is asked for"), 0);
}

fn with_key(mut setup: Setup, owner: &TestServer, name: &str) -> Setup {
    let file = owner.key_file(name);
    setup.server += &format!("[[key]]\nname = \"{name}.\"\nalgorithm = \"hmac-sha256\"\nsecret-file = {file:?}\n");
    setup
}

#[test]
fn a_key_signs_the_transfer_and_its_faults_are_told() {
    let listen = free_address();
    let entry = format!("{{ address = \"{listen}\", key = \"xfer.\" }}");
    let primary = TestServer::with(&Setup {
        keys: vec![("xfer", "hmac-sha256"), ("other", "hmac-sha256")],
        tables: format!("[access]\ntransfer = [{{ key = \"xfer.\" }}]\n[notify]\nsecondaries = [{entry}]\n"),
        ..primary_of(&[])
    });
    let copy = |key: &str| secondary_at(free_address(), &[primary.address], key);
    let good = Setup { listen, ..with_key(copy("key = \"xfer.\""), &primary, "xfer") };
    let good = TestServer::with(&good);
    primary.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    wait_for_serial(listen, primary.client().serial());
    let key = primary.key_file("xfer");
    assert_eq!(axfr(listen, &[]), axfr(primary.address, &["-k", key.to_str().unwrap()]));
    assert_eq!(good.count_logged("WARN"), 0);
    // None, one that may not, one that the primary doesn't know, and one with another secret.
    let none = TestServer::with(&copy(""));
    none.wait_for_line("REFUSED");
    let other = TestServer::with(&with_key(copy("key = \"other.\""), &primary, "other"));
    other.wait_for_line("REFUSED");
    let unknown = TestServer::with(&Setup { keys: vec![("unknown", "hmac-sha256")], ..copy("key = \"unknown.\"") });
    unknown.wait_for_line("no primary has the zone");
    let wrong = TestServer::with(&Setup { keys: vec![("xfer", "hmac-sha256")], ..copy("key = \"xfer.\"") });
    wrong.wait_for_line("no primary has the zone");
    for (server, reason) in [(&none, "REFUSED"), (&other, "REFUSED"), (&unknown, "key"), (&wrong, "BADSIG")] {
        let lines = server.logged();
        let line = lines.iter().find(|line| line.contains("no primary has the zone")).unwrap();
        assert!(line.contains(reason) && line.contains(&primary.address.to_string()), "{line}");
        let (rcode, text) = state(server.address);
        assert_eq!((rcode, text.as_str()), (2, "the copy of the zone is missing or has expired"));
        let view = zone_view(server, "").1;
        assert_eq!(view["failures"][0]["primary"], primary.address.to_string(), "{view}");
    }
}

#[test]
fn a_secondary_of_a_secondary_hears_of_changes_at_once() {
    let (second, third) = (free_address(), free_address());
    let first = TestServer::with(&primary_of(&[second]));
    let onward = format!("[notify]\nsecondaries = [\"{third}\"]");
    let middle = TestServer::with(&secondary_at(second, &[first.address], &onward));
    let last = TestServer::with(&secondary_at(third, &[second], ""));
    let mut churn = Churn::new(3);
    for _ in 0..20 {
        first.client().update(&churn.next());
        // Its refresh time is 30 s.
        assert_copied(first.address, third);
    }
    assert_eq!(middle.count_logged("WARN") + last.count_logged("the whole zone is asked for"), 0);
}

#[test]
fn a_copy_is_shown_with_where_it_comes_from_and_whom_it_tells() {
    let listen = free_address();
    let primary = TestServer::with(&primary_of(&[listen]));
    let secondary = TestServer::with(&secondary_at(listen, &[primary.address], ""));
    primary.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(3600));
    assert_copied(primary.address, listen);
    let view = wait_until(PATIENCE, "a refreshed copy", || {
        let (status, view) = zone_view(&secondary, "");
        assert_eq!(status, 200);
        (view["primary"] == primary.address.to_string()).then_some(view)
    });
    assert_eq!(view["role"], "secondary");
    assert_eq!(view["primaries"], serde_json::json!([primary.address.to_string()]));
    assert_eq!((&view["expired"], &view["failures"]), (&false.into(), &serde_json::json!([])));
    assert!(view["refreshed"].as_str().unwrap() < view["expires"].as_str().unwrap(), "{view}");
    let told = wait_until(PATIENCE, "an acknowledged NOTIFY", || {
        let view = zone_view(&primary, "").1;
        (view["notify"][0]["standing"] == "acknowledged").then_some(view)
    });
    assert_eq!((&told["role"], &told["notify"][0]["address"]), (&"primary".into(), &listen.to_string().into()));
    assert_eq!((&told["notify"][0]["acknowledged"], told.get("primaries")), (&told["serial"], None));
    // Services without members, and who is to be asked for these.
    let services = zone_view(&secondary, "/services").1;
    assert_eq!(services["services"][0]["members-count"], 1);
    assert_eq!(services["services"], zone_view(&primary, "/services").1["services"]);
    let (status, problem) = zone_view(&secondary, "/services/_memcached._tcp");
    assert_eq!(status, 421);
    assert!(problem["detail"].as_str().unwrap().contains(&primary.address.to_string()), "{problem}");
    assert_eq!(zone_view(&secondary, "/services/_none._tcp").0, 404);
    let commits = zone_view(&secondary, "/commits?since=42").1;
    assert_eq!(commits["incomplete"], false, "there was none before the first, whatever its epoch");
    let last = commits["commits"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["changes"][0]["cause"], "transferred", "{last}");
    assert!(last["changes"][0]["by"].as_str().unwrap().contains(&primary.address.to_string()), "{last}");
}
