//! A publisher with a store that is played by hand: each write is answered when the test says so.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use arc_swap::ArcSwapOption;

use crate::base::limits::PUBLISHER_QUEUE;
use crate::base::{Lease, Ttl, Wall};
use crate::dns::identity::Identity;
use crate::dns::messages::{Update, name};
use crate::dns::reply::Transport;
use crate::dns::respond::{Context, ServedZone, Verdict as Answer, Zones, respond};
use crate::dns::tsig::{Algorithm, Key as TsigKey, Keys};
use crate::membership::access::{Globs, Scope, UpdateEntry};
use crate::membership::{Index, LeaseLimits, Policies, Quotas, ServicePolicy};
use crate::net::Completion;
use crate::store::{Appended, Write};
use crate::zone::Rrset;
use crate::zone::scenes::{Universe, nodes, records, service_states};

use super::*;

mod in_place;
mod inquiry;
mod orders;
mod outcomes;
mod room;

/// Replies by the id of their request, in order: rcode, and lease granted.
type Inbox = Arc<Mutex<Vec<(u16, u8)>>>;

struct Stage {
    publisher: Publisher,
    inbox: Inbox,
    now: u64,
    zones: Zones,
    keys: Keys,
    transport: Transport,
}

impl Stage {
    fn with(settle: u64, grace: u64) -> Stage {
        let leases = LeaseLimits { grace: Duration::from_millis(grace), min: Lease(1), ..LeaseLimits::default() };
        Stage::governed(settle, ServicePolicy::plain(leases))
    }

    fn governed(settle: u64, of_zone: ServicePolicy) -> Stage {
        let universe = Universe::new("z.");
        let entry = |key: Option<&str>| UpdateEntry {
            key: key.map(name),
            network: key.is_none().then(|| "127.0.0.0/8".parse().unwrap()),
            services: Globs::all(),
            ids: Globs::all(),
            members: Scope::Any,
            records: Globs(vec!["host*".to_owned()]),
        };
        let policies: Arc<Policies> = Policies::of_zone(of_zone).into();
        let policy = Policy {
            access: UpdateAccess::new(vec![entry(None), entry(Some("k."))]),
            rules: Rules {
                policies: policies.clone(),
                quotas: Quotas::default(),
                peer_address: false,
                forwarders: Vec::new(),
            },
            settle: Duration::from_millis(settle),
        };
        let now = Now { mono: Monotonic(1_000_000), wall: Wall(1_700_000_000_000) };
        let zone = Zone::new(universe.settings(), Epoch(99));
        let table = Table::with(policies);
        let mut publisher = Publisher::new(zone, table, policy, Arc::default(), None, now);
        let ns1 = Rrset { rtype: RecordType::A, ttl: Ttl(60), rdatas: vec![vec![192, 0, 2, 53].into()] };
        let statics = vec![StaticNode { name: name("ns1.z."), rrsets: vec![ns1] }];
        publisher.configure(universe.settings(), statics, now).expect("they have room");
        let served = ServedZone::new(name("z."));
        let mut stage = Stage {
            publisher,
            inbox: Arc::default(),
            now: 1_000_000 + settle,
            zones: Zones::new([Arc::new(served)]),
            keys: Keys::new([TsigKey::new(name("k."), Algorithm::HmacSha256, b"secret")]),
            transport: Transport::Udp,
        };
        let write = stage.seal().expect("a new zone has a first commit");
        assert_eq!((write.expected, write.commit.as_ref().map(|commit| commit.epoch)), (None, Some(Epoch(100))));
        assert!(write.settings.is_some() && write.statics.len() == 1);
        stage.end(&Appended::Committed).expect("visible");
        stage
    }

    fn new() -> Stage {
        Stage::with(0, 0)
    }

    fn time(&self) -> Now {
        Now { mono: Monotonic(self.now), wall: Wall(1_700_000_000_000 + self.now) }
    }

    /// Seconds since the Unix epoch.
    fn seconds(&self) -> u64 {
        self.time().wall.seconds()
    }

    fn submit(&mut self, octets: &[u8]) {
        let context = Context {
            tcp_idle: Duration::from_secs(10),
            transfers: true,
            cookies: None,
            rate: None,
            rotate: false,
            zones: &self.zones,
            keys: &self.keys,
            identity: &Identity::default(),
            udp_size: 1232,
            now: self.time().wall,
            peer: "127.0.0.1:5000".parse::<SocketAddr>().unwrap(),
            transport: self.transport,
        };
        let Answer::Update(request) = respond(&context, octets, &mut Vec::new()) else { panic!("no update") };
        let inbox = self.inbox.clone();
        let completion: Completion = Box::new(move |reply| {
            let id = u16::from_be_bytes([reply[0], reply[1]]);
            inbox.lock().unwrap().push((id, reply[3] & 0xf));
        });
        self.publisher.submit(
            Submission::Update(submission::Update { request, completion, received: Instant::now() }),
            self.time(),
        );
    }

    fn send(&mut self, id: u16, update: Update) {
        self.submit(&update.id(id).octets());
    }

    fn seal(&mut self) -> Option<Write> {
        self.publisher.seal(self.time())
    }

    /// As the driver does it on each turn.
    fn tick(&mut self) -> Option<Write> {
        self.publisher.tick(self.time());
        self.seal()
    }

    fn end(&mut self, result: &Appended) -> Option<Advance> {
        self.publisher.appended(result, self.time())
    }

    /// Replies that went out since the last time.
    fn replies(&mut self) -> Vec<(u16, u8)> {
        for reply in self.publisher.take_replies() {
            reply.send(self.time());
        }
        std::mem::take(&mut *self.inbox.lock().unwrap())
    }

    /// Registers this member, down to the reply.
    fn register(&mut self, id: u16, member: &str) -> Epoch {
        self.send(id, srv(member));
        let write = self.seal().expect("a change");
        self.end(&Appended::Committed).expect("visible");
        assert_eq!(self.replies(), [(id, NOERROR)]);
        write.commit.unwrap().epoch
    }

    fn has(&self, member: &str) -> bool {
        self.publisher.table().member(&name("_x._tcp.z."), member).is_some()
    }

    fn is_published(&self, member: &str) -> bool {
        self.publisher.snapshot().node(name(&format!("{member}.x.z.")).as_wire()).is_some()
    }

    /// All that a refused write must leave as it was.
    fn state(&self) -> impl PartialEq + fmt::Debug + use<> {
        let table = self.publisher.table();
        let mut items: Vec<String> = table.items().map(|item| format!("{item:?}")).collect();
        items.sort();
        let snapshot = self.publisher.snapshot();
        let contents = service_states(&self.publisher.zone);
        (items, table.len(), snapshot.epoch, nodes(snapshot), format!("{contents:?}"), self.publisher.stored)
    }

    fn lapses_at(&self, member: &str) -> u64 {
        let (index, _): (Index, _) = self.publisher.table().member(&name("_x._tcp.z."), member).unwrap();
        self.publisher.table().reading(index).deadline.0
    }
}

const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;
const UNAVAILABLE: fn() -> Appended = || Appended::Unavailable("no disk".to_owned());

fn update() -> Update {
    Update::new("z.")
}

/// The registration of a member with an address.
fn srv(member: &str) -> Update {
    update().add(&format!("_x._tcp.z. SRV 0 0 80 {member}.x.z.")).add(&format!("{member}.x.z. A 192.0.2.1")).lease(10)
}

#[test]
fn who_registers_hears_of_it_after_the_commit_and_finds_itself() {
    let mut stage = Stage::new();
    stage.send(1, srv("a"));
    assert_eq!(stage.replies(), []);
    let write = stage.seal().unwrap();
    assert_eq!(write.expected, Some(Epoch(100)));
    assert_eq!(write.commit.as_ref().unwrap().epoch, Epoch(101));
    assert_eq!((write.items.len(), write.services.len()), (1, 1));
    assert_eq!(stage.replies(), []);
    assert!(!stage.is_published("a"));
    let advance = stage.end(&Appended::Committed).unwrap();
    assert_eq!(advance.published.snapshot.epoch, Epoch(101));
    assert!(stage.is_published("a"));
    assert_eq!(stage.replies(), [(1, NOERROR)]);
    assert!(stage.seal().is_none());
}

#[test]
fn one_commit_gathers_all_that_wait() {
    let mut stage = Stage::new();
    stage.send(1, srv("a"));
    stage.send(2, srv("b"));
    assert!(stage.seal().unwrap().commit.is_some());
    // What comes meanwhile waits for the next.
    stage.send(3, srv("c"));
    stage.send(4, update().delete_rrset("_x._tcp.z.", "SRV"));
    assert!(stage.seal().is_none(), "one write at a time");
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies(), [(1, NOERROR), (2, NOERROR)]);
    let write = stage.seal().unwrap();
    assert_eq!(write.commit.as_ref().unwrap().epoch, Epoch(102));
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies(), [(3, NOERROR), (4, NOERROR)]);
    assert!(stage.publisher.table().is_empty());
}

#[test]
fn settle_holds_the_batch_and_its_replies_back() {
    let mut stage = Stage::with(500, 0);
    stage.send(1, srv("a"));
    let due = stage.now + 500;
    assert_eq!(stage.publisher.next_wake(), Some(Monotonic(due)));
    stage.now += 499;
    stage.send(2, srv("b"));
    assert!(stage.tick().is_none());
    assert_eq!(stage.replies(), []);
    stage.now += 1;
    let write = stage.tick().expect("it is due since the first request");
    assert_eq!(write.items.len(), 2);
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies(), [(1, NOERROR), (2, NOERROR)]);
}

#[test]
fn retransmissions_join_what_waits_and_get_the_same_answer_afterwards() {
    let mut stage = Stage::with(500, 0);
    stage.send(1, srv("a"));
    stage.send(1, srv("a"));
    stage.now += 500;
    let write = stage.tick().unwrap();
    assert_eq!(write.items.len(), 1);
    stage.send(1, srv("a"));
    assert_eq!(stage.replies(), [], "they wait with it");
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies(), [(1, NOERROR); 3]);
    // A withdrawal comes in between: the late copy does not bring the member back.
    stage.send(2, update().delete_rrset("_x._tcp.z.", "SRV"));
    stage.now += 500;
    stage.tick().unwrap();
    stage.end(&Appended::Committed);
    stage.send(1, srv("a"));
    assert_eq!(stage.replies(), [(2, NOERROR), (1, NOERROR)]);
    assert!(stage.tick().is_none() && !stage.has("a"));
    // A quarter of a minute later it counts as a new message.
    stage.now += 16_000;
    stage.publisher.tick(stage.time());
    stage.send(1, srv("a"));
    assert!(stage.has("a"));
}

#[test]
fn a_message_that_comes_again_after_its_lease_has_ended_registers_anew() {
    let mut stage = Stage::new();
    stage.register(1, "a");
    stage.replies();
    // The same octets from the same socket, as a fixed heartbeat would be; the lease of 15 s has ended in between.
    stage.now += 15_100;
    stage.tick().expect("the lapse is a write");
    stage.end(&Appended::Committed);
    assert!(!stage.has("a"));
    stage.send(1, srv("a"));
    stage.tick().expect("the registration is a write");
    stage.end(&Appended::Committed);
    assert!(stage.has("a"));
}

#[test]
fn many_leased_records_of_a_set_are_one_change() {
    let mut stage = Stage::new();
    let many = (0..200).fold(update(), |update, number| update.add(&format!("host1.z. A 10.0.0.{number}")));
    stage.send(1, many);
    let write = stage.tick().unwrap();
    assert_eq!(write.items.len(), 200);
    let commit = write.commit.expect("they are published");
    assert_eq!((commit.changes.len(), commit.delta.added.len()), (1, 200));
    stage.end(&Appended::Committed);
    // They lapse together, in one change as well.
    stage.now += 3_601_000;
    let commit = stage.tick().unwrap().commit.unwrap();
    assert_eq!((commit.changes.len(), commit.delta.removed.len()), (1, 200));
}

#[test]
fn renewals_need_no_store_and_are_answered_while_a_write_is_under_way() {
    let mut stage = Stage::new();
    stage.register(1, "a");
    let epoch = stage.publisher.snapshot().epoch;
    for number in 0..100 {
        stage.now += 50;
        stage.send(100 + number, srv("a"));
        assert_eq!(stage.replies(), [(100 + number, NOERROR)]);
        assert!(stage.tick().is_none());
    }
    assert_eq!(stage.publisher.snapshot().epoch, epoch);
    assert_eq!(stage.lapses_at("a"), stage.now + 10_000);
    stage.send(2, srv("b"));
    stage.seal().unwrap();
    stage.now += 50;
    stage.send(3, srv("a"));
    // b's heartbeat waits for its registration.
    stage.send(4, srv("b"));
    assert_eq!(stage.replies(), [(3, NOERROR)]);
    assert_eq!(stage.lapses_at("a"), stage.now + 10_000);
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies(), [(2, NOERROR), (4, NOERROR)]);
    assert!(stage.seal().is_none());
}

#[test]
fn a_renewal_behind_a_change_of_its_connection_waits_with_it() {
    for (transport, overtakes) in [(Transport::Udp, true), (Transport::Tcp, false)] {
        let mut stage = Stage::new();
        stage.register(1, "a");
        stage.send(2, srv("b"));
        stage.seal().unwrap();
        stage.transport = transport;
        stage.now += 5000;
        stage.send(3, update().delete_record("_x._tcp.z. SRV 0 0 80 a.x.z."));
        stage.send(4, srv("a"));
        assert_eq!(stage.replies(), if overtakes { vec![(4, NOERROR)] } else { vec![] });
        assert_eq!(stage.lapses_at("a"), stage.now + 10_000, "it is heard of at once");
        stage.end(&Appended::Committed);
        stage.seal().expect("a change");
        stage.end(&Appended::Committed);
        assert_eq!(stage.has("a"), !overtakes);
    }
}

#[test]
fn a_store_that_refuses_leaves_everything_as_it_was_and_a_retry_works() {
    for result in [UNAVAILABLE(), Appended::Conflict(Some(Epoch(7))), Appended::Unknown("?".to_owned())] {
        let mut stage = Stage::new();
        stage.register(1, "a");
        stage.send(2, update().add("other.x.z. A 192.0.2.9"));
        stage.seal();
        stage.end(&Appended::Committed);
        stage.replies();
        let before = stage.state();
        let attempt = |stage: &mut Stage, id: u16| {
            stage.send(id, srv("b"));
            stage.send(id + 1, update().add("_x._tcp.z. SRV 9 9 99 a.x.z."));
            stage.send(id + 2, update().add("_y._udp.z. SRV 0 0 1 other.x.z.").delete_name("other.x.z."));
            stage.send(id + 3, update().add("host1.z. TXT x"));
            stage.seal().expect("a change")
        };
        let first = attempt(&mut stage, 10);
        assert!(stage.end(&result).is_none());
        assert_eq!(stage.replies(), [10, 11, 12, 13].map(|id| (id, SERVFAIL)));
        assert_eq!(stage.state(), before);
        assert!(stage.seal().is_none());
        let second = attempt(&mut stage, 10);
        assert_eq!(second.commit.as_ref().unwrap().delta, first.commit.unwrap().delta);
        assert_eq!((second.expected, second.commit.unwrap().epoch), (Some(Epoch(101)), Epoch(102)));
        stage.end(&Appended::Committed).unwrap();
        assert_eq!(stage.replies(), [10, 11, 12, 13].map(|id| (id, NOERROR)));
        assert!(stage.has("b"));
    }
}

#[test]
fn what_waited_for_a_refused_write_is_judged_anew() {
    let mut stage = Stage::new();
    stage.send(1, srv("a"));
    stage.seal().unwrap();
    // These see the registration that is under way, and may not be answered by it.
    stage.send(2, srv("b").in_use("_x._tcp.z."));
    stage.send(3, update().not_in_use("_x._tcp.z.").add("_y._tcp.z. SRV 0 0 1 a.y.z."));
    stage.end(&UNAVAILABLE());
    assert_eq!(stage.replies(), [(1, SERVFAIL), (2, 3)], "NXDOMAIN: nobody is there");
    stage.seal().expect("the third can go on");
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies(), [(3, NOERROR)]);
}

#[test]
fn what_depends_on_a_batch_is_answered_with_it() {
    let mut stage = Stage::with(500, 0);
    stage.register_settled("a");
    stage.send(2, update().delete_rrset("_x._tcp.z.", "SRV"));
    // Nothing is left to do for these, if the batch becomes durable.
    stage.send(3, update().delete_rrset("_x._tcp.z.", "SRV"));
    stage.send(4, srv("b").in_use("a.x.z."));
    // This has nothing to do with it.
    stage.send(5, update().add("_s0._tcp.z. SRV 0 0 1 s0000.s0.z."));
    assert_eq!(stage.replies(), [(5, 5)]);
    stage.now += 500;
    stage.tick().unwrap();
    stage.end(&UNAVAILABLE());
    assert_eq!(stage.replies(), [(2, SERVFAIL), (3, SERVFAIL), (4, SERVFAIL)]);
    assert!(stage.has("a") && stage.is_published("a"));
}

impl Stage {
    fn register_settled(&mut self, member: &str) {
        self.send(1, srv(member));
        self.now += 500;
        self.tick().unwrap();
        self.end(&Appended::Committed);
        assert_eq!(self.replies(), [(1, NOERROR)]);
    }
}

#[test]
fn nothing_is_committed_when_nothing_published_changes() {
    let mut stage = Stage::new();
    stage.register(1, "a");
    let before = records(stage.publisher.snapshot());
    // A longer lease is the store's business, not the world's.
    stage.send(2, srv("a").lease(60));
    let write = stage.seal().expect("the store keeps leases");
    assert!(write.commit.is_none() && write.items.len() == 1);
    assert_eq!(write.expected, Some(Epoch(101)));
    assert!(stage.end(&Appended::Committed).is_none());
    assert_eq!(stage.replies(), [(2, NOERROR)]);
    // So are addresses that wait for their member.
    stage.send(3, update().add("later.x.z. A 192.0.2.7"));
    assert!(stage.seal().unwrap().commit.is_none());
    stage.end(&Appended::Committed);
    // Something that comes and goes in one batch.
    stage.send(4, srv("b"));
    stage.send(5, update().delete_record("_x._tcp.z. SRV 0 0 80 b.x.z."));
    if let Some(write) = stage.seal() {
        assert!(write.commit.is_none(), "{:?}", write.commit);
        stage.end(&Appended::Committed);
    }
    assert_eq!(stage.replies(), [(3, NOERROR), (4, NOERROR), (5, NOERROR)]);
    assert_eq!((records(stage.publisher.snapshot()), stage.publisher.snapshot().epoch), (before, Epoch(101)));
    // The next commit is the next epoch all the same.
    assert_eq!(stage.register(6, "c"), Epoch(102));
}

#[test]
fn a_lapse_is_published_within_a_tick_and_tried_again_when_the_store_refuses() {
    let mut stage = Stage::new();
    stage.register(1, "a");
    let end = stage.lapses_at("a");
    stage.now = end - 1;
    assert!(stage.tick().is_none());
    let wake = stage.publisher.next_wake().unwrap();
    assert!(wake.0 >= end && wake.0 < end + 50, "{wake:?} for {end}");
    stage.now = wake.0;
    let before = stage.state();
    assert!(stage.tick().is_some());
    assert!(stage.end(&UNAVAILABLE()).is_none());
    assert_eq!(stage.state(), before);
    // A heartbeat in between saves it; nobody else is affected.
    let wake = stage.publisher.next_wake().unwrap();
    assert!(wake.0 > stage.now && wake.0 <= stage.now + 1_050, "{wake:?}");
    stage.now = wake.0;
    let write = stage.tick().expect("it is tried again");
    assert_eq!(write.commit.as_ref().unwrap().epoch, Epoch(102));
    assert!(matches!(write.commit.unwrap().changes[0].cause, Cause::Lapsed));
    stage.end(&Appended::Committed).unwrap();
    assert!(!stage.has("a") && !stage.is_published("a"));
}

#[test]
fn a_heartbeat_after_a_refused_lapse_keeps_the_member() {
    let mut stage = Stage::new();
    stage.register(1, "a");
    stage.now = stage.lapses_at("a") + 50;
    assert!(stage.tick().is_some());
    stage.end(&UNAVAILABLE());
    stage.send(2, srv("a"));
    assert_eq!(stage.replies(), [(2, NOERROR)]);
    stage.now += 2_000;
    assert!(stage.tick().is_none());
    assert!(stage.has("a"));
}

#[test]
fn a_change_that_comes_as_the_lease_ends_keeps_the_member() {
    let mut stage = Stage::with(500, 0);
    stage.register_settled("a");
    stage.now = stage.lapses_at("a") - 10;
    stage.send(2, update().add("_x._tcp.z. SRV 0 7 80 a.x.z."));
    stage.now += 60;
    assert!(stage.tick().is_none());
    stage.now += 440;
    stage.tick().unwrap();
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies(), [(2, NOERROR)]);
    assert!(stage.has("a") && stage.is_published("a"));
}

#[test]
fn a_thousand_members_that_lapse_together_are_one_commit() {
    let mut stage = Stage::new();
    for number in 0..1000 {
        stage.send(number, srv(&format!("m{number}")));
    }
    stage.seal().unwrap();
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies().len(), 1000);
    stage.now += 10_050;
    let write = stage.tick().unwrap();
    assert_eq!((write.items.len(), write.commit.unwrap().epoch), (1000, Epoch(102)));
    let advance = stage.end(&Appended::Committed).unwrap();
    assert!(advance.published.snapshot.node(name("x.z.").as_wire()).is_some(), "the service is known and empty");
    assert!(stage.tick().is_none());
    assert!(stage.publisher.table().is_empty());
}

#[test]
fn members_stay_published_for_the_grace_and_are_up_again_without_a_commit() {
    let mut stage = Stage::with(0, 3_000);
    stage.register(1, "a");
    let end = stage.lapses_at("a");
    stage.now = end + 50;
    assert!(stage.tick().is_none());
    assert!(stage.is_published("a"));
    stage.now = end + 2_000;
    stage.send(2, srv("a"));
    assert_eq!(stage.replies(), [(2, NOERROR)]);
    stage.now = end + 3_050;
    assert!(stage.tick().is_none());
    assert_eq!(stage.lapses_at("a"), end + 12_000);
    stage.now = end + 15_050;
    assert!(stage.tick().unwrap().commit.is_some());
}

#[test]
fn a_service_that_nobody_comes_back_to_is_forgotten_by_a_commit() {
    let mut stage = Stage::new();
    stage.register(1, "a");
    stage.send(2, update().delete_rrset("_x._tcp.z.", "SRV"));
    stage.seal().unwrap();
    stage.end(&Appended::Committed);
    let hour = 3_600_000;
    stage.now += hour - 1;
    assert!(stage.tick().is_none());
    assert!(stage.publisher.snapshot().node(name("_x._tcp.z.").as_wire()).is_some());
    stage.now += 60_001;
    let write = stage.tick().unwrap();
    assert_eq!(write.services, [(name("_x._tcp.z."), None)]);
    stage.end(&Appended::Committed);
    assert!(stage.publisher.snapshot().node(name("x.z.").as_wire()).is_none());
}

#[test]
fn older_signatures_are_refused_within_a_batch_as_well() {
    let mut stage = Stage::with(500, 0);
    let now = stage.seconds();
    let sign = |update: Update, id: u16, time: u64| update.id(id).signed("k.", b"secret", time);
    stage.submit(&sign(update().add("_x._tcp.z. SRV 0 2 80 a.x.z."), 1, now));
    // Signed before, delivered after.
    stage.submit(&sign(update().add("_x._tcp.z. SRV 0 1 80 a.x.z."), 2, now - 1));
    stage.now += 500;
    stage.tick().unwrap();
    stage.end(&Appended::Committed);
    let mut replies = stage.replies();
    replies.sort_unstable();
    assert_eq!(replies, [(1, NOERROR), (2, 9)]);
    let (_, member) = stage.publisher.table().member(&name("_x._tcp.z."), "a").unwrap();
    assert_eq!(member.registration.weight, 2);
}

#[test]
fn a_removed_member_leaves_its_mark_with_the_commit() {
    let mut stage = Stage::new();
    let now = stage.seconds();
    stage.submit(&srv("a").signed("k.", b"secret", now));
    stage.seal().unwrap();
    stage.end(&Appended::Committed);
    stage.now += 10_050;
    let write = stage.tick().unwrap();
    let [(key, Some(mark))] = write.tombstones.as_slice() else { panic!("{:?}", write.tombstones) };
    assert_eq!((mark.stamp.time, mark.until), (now, stage.time().wall.after(Duration::from_secs(600))));
    assert!(matches!(key, Key::Member(..)));
    stage.end(&Appended::Committed);
    // When it no longer counts, the store is told with the next write; if that fails, with the one after.
    stage.now += 601_000;
    for result in [UNAVAILABLE(), Appended::Committed] {
        stage.send(9, srv("b"));
        let write = stage.seal().unwrap();
        assert_eq!(write.tombstones, [(key.clone(), None)]);
        stage.end(&result);
    }
}

#[test]
fn a_full_queue_behind_the_store_answers_servfail() {
    let mut stage = Stage::new();
    stage.send(1, srv("a"));
    stage.seal().unwrap();
    let packet = update().add("_y._tcp.z. SRV 0 0 1 a.y.z.").octets();
    for _ in 0..PUBLISHER_QUEUE {
        stage.submit(&packet);
    }
    assert_eq!(stage.replies(), []);
    stage.send(3, srv("c"));
    assert_eq!(stage.replies(), [(3, SERVFAIL)]);
    assert_eq!(stage.publisher.counters.at(Limit::StoreQueue), 1);
    stage.end(&Appended::Committed);
    stage.seal().unwrap();
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies().len(), PUBLISHER_QUEUE + 1);
}

#[test]
fn a_store_that_does_not_answer_is_waited_for_as_long_as_the_process_runs() {
    let mut stage = Stage::new();
    let look = |stage: &mut Stage, after: u64| {
        stage.now += after;
        stage.publisher.observe(Monotonic(stage.now));
        stage.tick();
        stage.replies()
    };
    look(&mut stage, 0);
    stage.send(1, srv("a"));
    stage.seal().unwrap();
    // Nor could the store answer while everything stood still.
    assert_eq!(look(&mut stage, 60_000), []);
    let patience = u64::try_from(STORE_PATIENCE.as_millis()).unwrap();
    for _ in 1..patience / 100 {
        assert_eq!(look(&mut stage, 100), []);
    }
    assert_eq!(look(&mut stage, 100), [(1, SERVFAIL)]);
    assert!(stage.end(&Appended::Committed).is_some(), "it comes into force all the same");
    // That has an end where it goes on and on.
    stage.send(2, srv("b"));
    stage.seal().unwrap();
    for _ in 0..FORGIVEN_STALLS {
        assert_eq!(look(&mut stage, 60_000), []);
    }
    assert_eq!(look(&mut stage, 60_000), [(2, SERVFAIL)]);
}

#[test]
fn quotas_count_what_the_batch_has_and_what_a_refused_write_gave_back() {
    let mut stage = Stage::with(500, 0);
    let quotas = Quotas { zone_leases: 2, zone_services: 9, owner_leases: 2, owner_services: 1 };
    stage.publisher.policy.rules.quotas = quotas;
    let withdraw = |member: &str| update().delete_record(&format!("_x._tcp.z. SRV 0 0 80 {member}.x.z."));
    let write = |stage: &mut Stage, result: &Appended| {
        stage.now += 500;
        stage.tick().expect("a change");
        stage.end(result);
    };
    stage.send(1, srv("a"));
    stage.send(2, srv("b"));
    stage.send(3, srv("c"));
    stage.send(
        4,
        update()
            .add("_y._tcp.z. SRV 0 0 1 a.y.z.")
            .delete_rrset("_x._tcp.z.", "SRV")
            .add("_x._tcp.z. SRV 0 0 80 b.x.z."),
    );
    assert_eq!(stage.replies(), [(3, REFUSED), (4, REFUSED)]);
    write(&mut stage, &UNAVAILABLE());
    assert_eq!(stage.replies(), [(1, SERVFAIL), (2, SERVFAIL)]);
    assert_eq!(stage.publisher.table().len(), 0);
    // A withdrawal in the batch makes room in the batch.
    stage.send(5, srv("a"));
    stage.send(6, srv("b"));
    stage.send(7, withdraw("a"));
    stage.send(8, srv("c"));
    stage.send(9, srv("d"));
    assert_eq!(stage.replies(), [(9, REFUSED)]);
    write(&mut stage, &Appended::Committed);
    assert_eq!(stage.replies(), [(5, NOERROR), (6, NOERROR), (7, NOERROR), (8, NOERROR)]);
    // And is taken back with it.
    stage.send(10, withdraw("b"));
    write(&mut stage, &UNAVAILABLE());
    assert_eq!(stage.replies(), [(10, SERVFAIL)]);
    stage.send(11, srv("e"));
    assert_eq!(stage.replies(), [(11, REFUSED)]);
    // Leases that end make room.
    stage.now += 60_000;
    assert!(stage.tick().is_none());
    write(&mut stage, &Appended::Committed);
    assert!(stage.publisher.table().is_empty());
    stage.send(12, srv("e"));
    write(&mut stage, &Appended::Committed);
    assert_eq!(stage.replies(), [(12, NOERROR)]);
    assert_eq!(stage.publisher.counters.at(Limit::ZoneLeases), 3);
    assert_eq!(stage.publisher.counters.at(Limit::OwnerServices), 1);
}
