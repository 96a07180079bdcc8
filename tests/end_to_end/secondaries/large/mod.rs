//! A service of 500 members, and BIND's limit of records in an RRset.

use tempfile::TempDir;

use super::stock::{Place, Secondary};
use super::{Scene, primary, register, stock};
use crate::support::MEMCACHED;
use crate::support::client::ask_tcp;
use crate::support::message::*;
use crate::support::other::{Other, free_address};
use crate::support::server::TestServer;
use crate::support::wait_until;

#[test]
fn a_service_of_500_members_is_whole_on_each_secondary() {
    let mut scene = Scene::primary(&primary());
    let client = scene.server.client();
    register(&client, MEMCACHED, 0..60, 20);
    scene.follow(stock::all());
    scene.catch_up();
    // By changes, and whole.
    register(&client, MEMCACHED, 60..500, 20);
    scene.catch_up();
    scene.assert_equal();
    scene.secondaries.clear();
    scene.follow(stock::all());
    scene.catch_up();
    scene.assert_equal();
    for secondary in &scene.secondaries {
        let answer = ask_tcp(secondary.address(), &query(MEMCACHED, SRV));
        assert_eq!(answer.targets().len(), 500, "{}", secondary.name());
    }
}

#[test]
fn bind_takes_no_set_of_more_than_100_records_unless_it_is_told_to_and_livezone_warns() {
    const WARNING: &str = "max-records-per-type 0";
    let mut scene = Scene::primary(&primary());
    let client = scene.server.client();
    register(&client, MEMCACHED, 0..100, 50);
    let mut place = Place::new(&scene.server.key(super::KEY.0));
    place.instead = vec![("\tmax-records-per-type 0;".to_owned(), String::new())];
    scene.secondaries.push(Secondary::start(stock::bind(), place, scene.server.address));
    scene.catch_up();
    scene.assert_equal();
    assert_eq!(scene.server.count_logged(WARNING), 0);
    let before = client.serial();
    register(&client, MEMCACHED, 100..101, 1);
    assert_eq!(client.serial(), before + 1);
    wait_until(super::SLOW, "the warning of livezone", || (scene.server.count_logged(WARNING) == 1).then_some(()));
    let bind = &scene.secondaries[0];
    wait_until(super::SLOW, "the refusal of BIND", || {
        bind.refresh();
        bind.log().contains("too many records").then_some(())
    });
    assert_eq!(bind.serial(), Some(before));
    // One that starts now has nothing at all.
    let mut place = Place::new(&scene.server.key(super::KEY.0));
    place.instead = vec![("\tmax-records-per-type 0;".to_owned(), String::new())];
    let fresh = Secondary::start(stock::bind(), place, scene.server.address);
    wait_until(super::SLOW, "the refusal of BIND", || fresh.log().contains("too many records").then_some(()));
    assert_eq!(fresh.serial(), None);
    // And the example's configuration takes it.
    scene.secondaries.clear();
    scene.follow([stock::bind()]);
    scene.catch_up();
    scene.assert_equal();
    register(&client, MEMCACHED, 101..110, 1);
    scene.server.assert_logged(WARNING, 1); // one line, not one for each member more
}

#[test]
fn bind_resolves_no_set_of_more_than_100_records_unless_it_is_told_to() {
    let server = TestServer::start();
    register(&server.client(), MEMCACHED, 0..101, 101);
    for (option, rcode, count) in [("", 2, 0), ("max-records-per-type 0;", 0, 101)] {
        let (folder, address) = (TempDir::with_prefix("livezone-resolver-").unwrap(), free_address());
        let (place, port) = (folder.path().display().to_string(), address.port().to_string());
        let (primary, primary_port) = (server.address.ip().to_string(), server.address.port().to_string());
        let instead =
            [("@FOLDER@", &place), ("@PORT@", &port), ("@PRIMARY@", &primary), ("@PRIMARY_PORT@", &primary_port)];
        let conf =
            instead.iter().fold(include_str!("resolver.conf").to_owned(), |text, (old, new)| text.replace(old, new));
        std::fs::write(folder.path().join("named.conf"), conf.replace("@OPTION@", option)).unwrap();
        let mut resolver = Other::start(folder.path(), "named", &["-g", "-n", "1", "-c", "named.conf"]);
        resolver.wait(address, "localhost.");
        let mut question = query(MEMCACHED, SRV);
        question[2] |= 1; // RD
        let answer = ask_tcp(address, &question);
        assert_eq!((answer.rcode(), answer.targets().len()), (rcode, count), "with {option:?}");
        drop(resolver);
    }
}
