//! Orders beside updates: one batch, one commit, a report for each.

use crate::base::limits::BATCH_REQUESTS;
use crate::membership::State;
use crate::membership::access::Owner;
use crate::membership::policy::DampingPolicy;
use crate::membership::{MemberId, Permit};
use crate::zone::registration::Kind;
use crate::zone::registration::order::{Action, Done, Failure, Order, Orderer, Report, Wanted};

use super::*;

type Reports = Arc<Mutex<Vec<Vec<Report>>>>;

fn wanted(port: u16) -> Wanted {
    Wanted {
        target: None,
        port,
        priority: 0,
        weight: 256,
        addresses: ["192.0.2.1".parse().unwrap()].into(),
        metadata: Box::default(),
        lease: Some(10),
        replaces: None,
        drains: false,
    }
}

fn register(id: &str, port: u16) -> Order {
    order(id, Action::Register(Box::new(wanted(port))))
}

fn order(id: &str, action: Action) -> Order {
    Order { service: name("_x._tcp.z."), id: MemberId::new(id).unwrap(), action }
}

/// Orders of somebody who may touch anybody's members, or only its own.
fn give_as(stage: &mut Stage, who: &str, scope: Scope, orders: Vec<Order>) -> Reports {
    let reports = Reports::default();
    let told = reports.clone();
    let permit = Permit { owner: Owner(who.into()), scope };
    let orderer = Orderer { permit, by: who.into() };
    let orders = Orders::new(orders, orderer, move |reports| told.lock().unwrap().push(reports));
    stage.publisher.submit(Submission::Orders(orders), stage.time());
    reports
}

fn give(stage: &mut Stage, orders: Vec<Order>) -> Reports {
    give_as(stage, "http", Scope::Any, orders)
}

/// What was reported, once.
fn told(stage: &mut Stage, reports: &Reports) -> Vec<Report> {
    stage.replies();
    let mut told = std::mem::take(&mut *reports.lock().unwrap());
    assert_eq!(told.len(), 1, "one answer");
    told.pop().unwrap()
}

fn done(epoch: u64, state: State, changed: bool) -> Report {
    let (lease, state) = (Some(Lease(10)), Some(state));
    Ok(Done { epoch: Epoch(epoch), lease, state, damped_until: None, slot: None, waits_for_slot: false, changed })
}

/// Gives orders and sees their commit through.
fn carry_out(stage: &mut Stage, orders: Vec<Order>) -> Vec<Report> {
    let reports = give(stage, orders);
    if stage.seal().is_some() {
        stage.end(&Appended::Committed);
    }
    told(stage, &reports)
}

#[test]
fn orders_and_updates_of_a_batch_share_a_commit_and_each_has_its_report() {
    let mut stage = Stage::new();
    let reports = give(&mut stage, vec![register("a", 1), order("nobody", Action::Withdraw), register("b", 2)]);
    stage.send(1, srv("c"));
    let write = stage.seal().unwrap();
    assert_eq!((write.items.len(), write.commit.as_ref().unwrap().epoch), (3, Epoch(101)));
    stage.replies();
    assert!(reports.lock().unwrap().is_empty(), "nothing is acknowledged before it is durable");
    stage.end(&Appended::Committed);
    let told = told(&mut stage, &reports);
    assert_eq!((&told[0], &told[2]), (&done(101, State::Up, true), &done(101, State::Up, true)));
    let Err(Failure::Objection(objection)) = &told[1] else { panic!("{told:?}") };
    assert_eq!(objection.kind, Kind::Unknown);
    assert!(stage.is_published("a") && stage.is_published("b") && stage.is_published("c"));
}

#[test]
fn an_order_that_says_nothing_new_is_a_heartbeat_at_any_time() {
    let mut stage = Stage::new();
    carry_out(&mut stage, vec![register("a", 1)]);
    for renewal in [register("a", 1), order("a", Action::Renew)] {
        stage.now += 3000;
        assert_eq!(carry_out(&mut stage, vec![renewal]), [done(101, State::Up, false)]);
        assert_eq!(stage.lapses_at("a"), stage.now + 10_000);
    }
    // While a write is under way those that renew are told, and the batch waits for the one that does not.
    stage.send(1, srv("b"));
    stage.seal().unwrap();
    stage.now += 1000;
    let renewal = give(&mut stage, vec![order("a", Action::Renew)]);
    assert_eq!(told(&mut stage, &renewal), [done(101, State::Up, false)]);
    let mixed = give(&mut stage, vec![order("a", Action::Renew), register("c", 3)]);
    stage.replies();
    assert!(mixed.lock().unwrap().is_empty());
    stage.end(&Appended::Committed);
    stage.seal().expect("what waited");
    stage.end(&Appended::Committed);
    assert_eq!(told(&mut stage, &mixed), [done(103, State::Up, false), done(103, State::Up, true)]);
}

#[test]
fn a_write_that_is_refused_fails_what_changed_and_no_heartbeat() {
    let mut stage = Stage::new();
    carry_out(&mut stage, vec![register("a", 1)]);
    let before = stage.state();
    let reports = give(&mut stage, vec![order("a", Action::Renew), register("b", 2), order("a", Action::Withdraw)]);
    stage.seal().unwrap();
    stage.end(&UNAVAILABLE());
    let told = told(&mut stage, &reports);
    assert_eq!(told[0], done(101, State::Up, false));
    assert!(told[1..].iter().all(|report| matches!(report, Err(Failure::Unavailable(_)))), "{told:?}");
    assert_eq!(stage.state(), before);
}

#[test]
fn a_drained_member_leaves_the_answers_and_no_heartbeat_brings_it_back() {
    let mut stage = Stage::new();
    carry_out(&mut stage, vec![register("a", 1), register("b", 1)]);
    let service = name("_x._tcp.z.");
    let served = |stage: &Stage| {
        let node = stage.publisher.snapshot().node(service.as_wire()).unwrap();
        node.rrset(RecordType::SRV).map_or(0, |rrset| rrset.rdatas().count())
    };
    assert_eq!(carry_out(&mut stage, vec![order("a", Action::Drain)]), [done(102, State::Drained, true)]);
    assert_eq!((served(&stage), stage.is_published("a")), (1, true), "its own host record stays");
    assert_eq!(carry_out(&mut stage, vec![order("a", Action::Drain)]), [done(102, State::Drained, false)]);
    assert_eq!(carry_out(&mut stage, vec![register("a", 1)]), [done(102, State::Drained, false)]);
    stage.send(1, update().add("_x._tcp.z. SRV 0 256 1 a.x.z.").lease(10));
    assert_eq!(stage.replies(), [(1, NOERROR)]);
    assert_eq!(served(&stage), 1);
    assert_eq!(carry_out(&mut stage, vec![order("a", Action::Undrain)]), [done(103, State::Up, true)]);
    assert_eq!(served(&stage), 2);
    assert_eq!(carry_out(&mut stage, vec![order("a", Action::Undrain)]), [done(103, State::Up, false)]);
}

#[test]
fn who_drains_itself_is_renewed_meanwhile_and_back_when_it_registers() {
    let mut stage = Stage::new();
    let drain = || order("a", Action::Register(Box::new(Wanted { drains: true, ..wanted(1) })));
    let [Err(Failure::Objection(objection))] = &carry_out(&mut stage, vec![drain()])[..] else { panic!("drained") };
    assert_eq!(objection.kind, Kind::Unknown);
    carry_out(&mut stage, vec![register("a", 1)]);
    assert_eq!(carry_out(&mut stage, vec![drain()]), [done(102, State::Draining, true)]);
    for renewal in [drain(), order("a", Action::Renew)] {
        stage.now += 3000;
        assert_eq!(carry_out(&mut stage, vec![renewal]), [done(102, State::Draining, false)]);
        assert_eq!(stage.lapses_at("a"), stage.now + 10_000);
    }
    assert_eq!(carry_out(&mut stage, vec![register("a", 1)]), [done(103, State::Up, true)]);
    // Somebody's order holds whatever the member says.
    carry_out(&mut stage, vec![order("a", Action::Drain)]);
    assert_eq!(carry_out(&mut stage, vec![drain()]), [done(104, State::Drained, false)]);
    assert_eq!(carry_out(&mut stage, vec![register("a", 1)]), [done(104, State::Drained, false)]);
}

#[test]
fn a_replacement_drains_its_predecessor_in_the_commit_that_brings_it() {
    let mut stage = Stage::new();
    carry_out(&mut stage, vec![register("a", 1)]);
    let successor = Wanted { replaces: Some(MemberId::new("a").unwrap()), ..wanted(1) };
    let order = order("b", Action::Register(Box::new(successor)));
    assert_eq!(carry_out(&mut stage, vec![order.clone()]), [done(102, State::Up, true)]);
    let state =
        |stage: &Stage| stage.publisher.table().member(&name("_x._tcp.z."), "a").map(|(_, member)| member.state);
    assert_eq!(state(&stage), Some(State::Drained));
    // Its heartbeats say the same and do nothing more.
    carry_out(&mut stage, vec![self::order("a", Action::Undrain)]);
    assert_eq!(carry_out(&mut stage, vec![order]), [done(103, State::Up, false)]);
    assert_eq!(state(&stage), Some(State::Up));
}

#[test]
fn a_replacement_that_comes_damped_takes_nobodys_place_and_undraining_lets_nobody_out() {
    let leases = LeaseLimits { min: Lease(1), ..LeaseLimits::default() };
    let policy = ServicePolicy { damping: DampingPolicy::default(), ..ServicePolicy::plain(leases) };
    let mut stage = Stage::governed(0, policy);
    carry_out(&mut stage, vec![register("a", 1), register("b", 1)]);
    carry_out(&mut stage, vec![order("b", Action::Withdraw)]);
    carry_out(&mut stage, vec![register("b", 1)]);
    carry_out(&mut stage, vec![order("b", Action::Withdraw)]);
    let successor = Wanted { replaces: Some(MemberId::new("a").unwrap()), ..wanted(1) };
    let state = |stage: &Stage, id| {
        stage.publisher.table().member(&name("_x._tcp.z."), id).map(|(_, member)| member.state).unwrap()
    };
    let [Ok(done)] = &carry_out(&mut stage, vec![order("b", Action::Register(Box::new(successor)))])[..] else {
        panic!("it is registered")
    };
    assert!(done.damped_until.is_some(), "{done:?}");
    assert_eq!((state(&stage, "b"), state(&stage, "a")), (State::Damped, State::Up));
    // It drains and is brought back: as damped as before.
    carry_out(&mut stage, vec![order("b", Action::Drain)]);
    assert_eq!(state(&stage, "b"), State::Drained);
    let [Ok(done)] = &carry_out(&mut stage, vec![order("b", Action::Undrain)])[..] else { panic!("it is back") };
    assert!(done.damped_until.is_some(), "{done:?}");
    assert_eq!(state(&stage, "b"), State::Damped);
    // By itself as well.
    carry_out(&mut stage, vec![order("b", Action::Register(Box::new(Wanted { drains: true, ..wanted(1) })))]);
    assert_eq!(state(&stage, "b"), State::Draining);
    carry_out(&mut stage, vec![register("b", 1)]);
    assert_eq!(state(&stage, "b"), State::Damped);
}

#[test]
fn what_a_batch_says_last_of_a_member_holds() {
    let mut stage = Stage::new();
    carry_out(&mut stage, vec![register("a", 1)]);
    stage.send(1, srv("b"));
    stage.seal().unwrap();
    let parts = [2, 1].map(|port| give(&mut stage, vec![register("a", port)]));
    let other = give(&mut stage, vec![order("a", Action::Renew)]);
    stage.end(&Appended::Committed);
    stage.seal();
    stage.end(&Appended::Committed);
    let changed = |report: &Report| report.as_ref().unwrap().changed;
    assert_eq!(parts.map(|part| changed(&told(&mut stage, &part)[0])), [true, true]);
    assert!(!changed(&told(&mut stage, &other)[0]));
    let (_, member) = stage.publisher.table().member(&name("_x._tcp.z."), "a").unwrap();
    assert_eq!(member.registration.port, 1);
    // Nothing of it is left behind.
    stage.send(2, srv("c"));
    stage.seal().unwrap();
    let renewal = give(&mut stage, vec![order("a", Action::Renew)]);
    assert!(!changed(&told(&mut stage, &renewal)[0]), "at once");
}

/// Registrations of a thousand members in a service of their own.
fn thousand(service: usize) -> Vec<Order> {
    let service = name(&format!("_x{service}._tcp.z."));
    let members = (0..ORDERS).map(|number| register(&format!("i-{number}"), 1));
    members.map(|order| Order { service: service.clone(), ..order }).collect()
}

#[test]
fn what_waits_is_carried_out_in_parts_and_heartbeats_come_between_them() {
    let mut stage = Stage::with(500, 0);
    stage.register_settled("a");
    let reports: Vec<Reports> = (0..11).map(|service| give(&mut stage, thousand(service))).collect();
    assert!(stage.seal().is_none(), "the batch gathers");
    stage.now += 500;
    assert_eq!(stage.seal().unwrap().items.len(), 11 * ORDERS);
    let more: Vec<Reports> = (11..22).map(|service| give(&mut stage, thousand(service))).collect();
    stage.end(&Appended::Committed);
    let part = BATCH_REQUESTS.next_multiple_of(ORDERS);
    assert_eq!(stage.publisher.table().edited().len(), part);
    let is_due = |stage: &Stage| stage.publisher.next_wake().is_some_and(|at| at.0 <= stage.now);
    assert!(is_due(&stage), "the rest has not to wait for anything");
    // Who comes now is behind those that wait, unless it has nothing but a lease to renew.
    let renewal = give(&mut stage, vec![order("a", Action::Renew)]);
    assert!(told(&mut stage, &renewal)[0].as_ref().is_ok_and(|done| !done.changed));
    let last = give(&mut stage, vec![register("b", 1)]);
    assert!(stage.seal().is_none(), "the batch gathers");
    assert_eq!(stage.publisher.table().edited().len(), 2 * part);
    assert!(stage.tick().is_none() && !is_due(&stage), "nothing waits");
    stage.now += 500;
    assert_eq!(stage.seal().unwrap().items.len(), 11 * ORDERS + 1);
    stage.end(&Appended::Committed);
    for reports in reports.iter().chain(&more).chain([&last]) {
        assert!(told(&mut stage, reports).iter().all(|report| report.as_ref().is_ok_and(|done| done.changed)));
    }
}

#[test]
fn who_may_touch_its_own_members_touches_no_others() {
    let mut stage = Stage::new();
    carry_out(&mut stage, vec![register("a", 1)]);
    let replacing = Wanted { replaces: Some(MemberId::new("a").unwrap()), ..wanted(1) };
    let replacing = order("c", Action::Register(Box::new(replacing)));
    for foreign in [register("a", 2), order("a", Action::Withdraw), order("a", Action::Drain), replacing] {
        let reports = give_as(&mut stage, "token t", Scope::Own, vec![foreign.clone()]);
        let told = told(&mut stage, &reports);
        let [Err(Failure::Objection(objection))] = told.as_slice() else { panic!("{foreign:?}: {told:?}") };
        assert_eq!(objection.kind, Kind::Prohibited, "{foreign:?}");
    }
    assert!(stage.seal().is_none());
    let own = give_as(&mut stage, "token t", Scope::Own, vec![register("b", 1), register("b", 2)]);
    stage.seal().unwrap();
    stage.end(&Appended::Committed);
    assert_eq!(told(&mut stage, &own), [done(102, State::Up, true), done(102, State::Up, true)]);
}

#[test]
fn what_an_update_would_be_refused_for_an_order_is_too() {
    let mut stage = Stage::new();
    let target = |target: &str| Wanted { target: Some(name(target)), ..wanted(1) };
    let strange = Wanted { addresses: (0..17).map(|n| [192, 0, 2, n].into()).collect(), ..wanted(1) };
    let long = Wanted { metadata: vec![vec![b'x'; 250].into(); 5].into(), ..wanted(1) };
    for wanted in [target("."), target("other.x.z."), strange, long] {
        let reports = give(&mut stage, vec![order("a", Action::Register(Box::new(wanted.clone())))]);
        let told = told(&mut stage, &reports);
        let [Err(Failure::Objection(objection))] = told.as_slice() else { panic!("{wanted:?}: {told:?}") };
        assert_eq!(objection.kind, Kind::Invalid, "{wanted:?}");
    }
    let elsewhere = Order { service: name("www.z."), ..register("a", 1) };
    let reports = give(&mut stage, vec![elsewhere]);
    assert!(told(&mut stage, &reports)[0].is_err());
    assert!(stage.publisher.table().is_empty() && stage.seal().is_none());
}

#[test]
fn an_update_deletes_what_was_registered_under_an_id_of_its_own() {
    let mut stage = Stage::new();
    let wanted = Wanted { target: Some(name("host1.elsewhere.")), ..wanted(80) };
    carry_out(&mut stage, vec![order("mine", Action::Register(Box::new(wanted)))]);
    stage.send(1, update().delete_record("_x._tcp.z. SRV 0 256 80 host1.elsewhere."));
    stage.seal().expect("it is gone");
    stage.end(&Appended::Committed);
    assert_eq!(stage.replies(), [(1, NOERROR)]);
    assert!(!stage.has("mine"));
}
