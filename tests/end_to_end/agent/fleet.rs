//! A hundred agents, of which most are cut off at once, or die, or a few do.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;
use crate::http::{ask, commits, get};
use crate::support::message::query;

const AGENTS: usize = 100;
/// Of these a fault takes so many at once.
const CUT_OFF: usize = 60;

/// Three renewals fit into it on a machine that is busy with a hundred processes.
const LEASE: &str = "6s";

/// So that there is one at a time: two cores have enough to do with a hundred processes.
static ONE: Mutex<()> = Mutex::new(());

/// A hundred agents that register with a server.
struct Fleet {
    agents: Vec<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Fleet {
    fn start(server: &TestServer, more: &[&str]) -> Fleet {
        let at = server.address.to_string();
        let start = |number: usize| {
            let (id, port) = (format!("i-{number}"), (number + 1).to_string());
            livezone()
                .args(["agent", "--zone", "svc.example.test", "--service", "_memcached._tcp", "--address", "127.0.0.1"])
                .args(["--server", &at, "--id", &id, "--port", &port, "--lease", LEASE])
                .args(more)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        Fleet { agents: (0..AGENTS).map(start).collect(), _turn: turn }
    }

    fn at_once(server: &TestServer) -> Fleet {
        let fleet = Fleet::start(server, &["--initial-delay", "0s"]);
        wait_until(PATIENCE, "the whole fleet", || (published(server) == AGENTS).then_some(()));
        fleet
    }

    fn signal(&self, name: &str, count: usize) {
        let pids: Vec<String> = self.agents[..count].iter().map(|agent| agent.id().to_string()).collect();
        assert!(Command::new("kill").args(["-s", name]).args(pids).status().unwrap().success());
    }

    /// Kills the first ones.
    fn kill(&mut self, count: usize) {
        for mut agent in self.agents.drain(..count) {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.kill(self.agents.len());
    }
}

fn setup(tables: &str) -> Setup {
    Setup { policies: String::new(), tables: tables.to_owned(), ..Setup::default() }
}

/// How many members SRV shows. They are too many for a datagram.
fn published(server: &TestServer) -> usize {
    server.client().ask_tcp(&query(MEMCACHED, SRV)).targets().len()
}

/// How many members are in a state.
fn count(server: &TestServer, state: &str) -> usize {
    let view = get(server, "/v1/zones/svc.example.test/services/_memcached._tcp").json();
    view["members"].as_array().unwrap().iter().filter(|member| member["state"] == state).count()
}

/// Waits until a commit is published: what the table has is told before.
fn wait_for_serial(server: &TestServer, serial: u32) {
    wait_until(PATIENCE, "the commit", || (server.client().serial() == serial).then_some(()));
}

/// Waits until so many are held, while all are published.
fn wait_until_held(server: &TestServer, held: usize, all: usize) {
    wait_until(PATIENCE, &format!("{held} held members"), || {
        assert_eq!(published(server), all, "nobody is withdrawn");
        (count(server, "held") == held).then_some(())
    });
}

#[test]
fn most_of_a_hundred_agents_cut_off_stay_and_most_that_die_leave_by_an_operator_s_word() {
    let server = TestServer::with(&setup(""));
    let mut fleet = Fleet::at_once(&server);
    let serial = server.client().serial();
    fleet.signal("STOP", CUT_OFF);
    wait_until_held(&server, CUT_OFF, AGENTS);
    fleet.signal("CONT", CUT_OFF);
    wait_until_held(&server, 0, AGENTS);
    assert_eq!((count(&server, "up"), published(&server)), (AGENTS, AGENTS));
    wait_for_serial(&server, serial + 2); // one commit marked them, one takes the mark away

    fleet.kill(CUT_OFF);
    wait_until_held(&server, CUT_OFF, AGENTS);
    let told = ask(&server, &["release", "svc.example.test.", "_memcached._tcp", "--held"]);
    assert!(told.starts_with("released ") && told.matches(" i-").count() == CUT_OFF, "{told}");
    assert_eq!(
        (published(&server), server.client().serial()),
        (AGENTS - CUT_OFF, serial + 4),
        "at once, in one commit"
    );
}

#[test]
fn most_of_a_hundred_agents_that_die_leave_at_the_hold_s_end_and_a_few_at_the_end_of_their_leases() {
    let server = TestServer::with(&setup("[hold]\nmax = \"4s\"\n"));
    let mut fleet = Fleet::at_once(&server);
    let serial = server.client().serial();
    fleet.kill(CUT_OFF);
    wait_until_held(&server, CUT_OFF, AGENTS);
    wait_until(PATIENCE, "the end of the hold", || (published(&server) == AGENTS - CUT_OFF).then_some(()));
    assert_eq!(server.client().serial(), serial + 2, "one commit held them, one let them go");
    let few = (AGENTS - CUT_OFF) / 5;
    fleet.kill(few);
    let left = AGENTS - CUT_OFF - few;
    wait_until(PATIENCE, "the end of their leases", || {
        assert_eq!(count(&server, "held"), 0);
        (published(&server) == left).then_some(())
    });
}

#[test]
fn a_hundred_agents_that_start_at_once_come_spread_over_the_initial_delay() {
    let server = TestServer::with(&setup(""));
    // RFC 9664's three seconds, which is what they do unless told otherwise.
    let _fleet = Fleet::start(&server, &[]);
    wait_until(PATIENCE, "the whole fleet", || (published(&server) == AGENTS).then_some(()));
    let time = |commit: &serde_json::Value| humantime::parse_rfc3339(commit["time"].as_str().unwrap()).unwrap();
    let commits = commits(&server, "");
    let came: Vec<_> = commits
        .iter()
        .filter(|commit| commit["changes"].as_array().unwrap().iter().any(|change| change["cause"] == "registered"))
        .map(time)
        .collect();
    let span = came.last().unwrap().duration_since(came[0]).unwrap();
    assert!(span >= Duration::from_secs(1), "all came within {span:?}");
    assert!(came.len() > AGENTS / 4, "a herd would have come in a few commits, and not in {}", came.len());
}
