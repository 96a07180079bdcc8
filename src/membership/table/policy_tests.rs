//! Policies on virtual time: many members of one service, each with its own rhythm, and a driver that carries out what is
//! decided as a publisher does, in one transaction a tick.

use std::collections::BTreeSet;

use crate::base::{Lease, Wall};
use crate::membership::policy::{DampingPolicy, HoldPolicy};
use crate::membership::{Decided, MemberId, Owner, Reason, Registration, ServicePolicy};

use super::*;

const START: u64 = 1_000_000;
const LEASE: u64 = 15_000;

/// What was decided at a time: ids and reasons.
type Told = (u64, Vec<(String, Option<Reason>)>);
/// Who is published, with slot and weight, and whether somebody is held.
type Shown = (Vec<(String, Option<u32>, u16)>, bool);

struct Driven {
    table: Table,
    now: u64,
    /// When each member sends its next heartbeat, if it can be heard.
    beats: Vec<(String, u64)>,
    cut: BTreeSet<String>,
    interval: u64,
    /// What was decided, by time: ids and reasons.
    told: Vec<Told>,
    /// Decisions that changed which members are published, or whether some are held.
    commits: usize,
}

fn service() -> Name {
    "_x._tcp.z.".parse().unwrap()
}

fn plain() -> ServicePolicy {
    ServicePolicy::plain(LeaseLimits::default())
}

fn member(id: &str, weight: u16) -> Member {
    let registration = Registration {
        target: format!("{id}.x.z.").parse().unwrap(),
        port: 80,
        priority: 0,
        weight,
        addresses: Box::default(),
        metadata: Box::default(),
    };
    Member {
        service: service(),
        id: MemberId::new(id).unwrap(),
        registration: Arc::new(registration),
        owner: Owner("test".into()),
        lease: Lease(15),
        state: State::Up,
        decided: Decided::default(),
    }
}

impl Driven {
    fn new(policy: ServicePolicy) -> Driven {
        let table = Table::with(Policies::of_zone(policy).into());
        Driven {
            table,
            now: START,
            beats: Vec::new(),
            cut: BTreeSet::new(),
            interval: 5_000,
            told: Vec::new(),
            commits: 0,
        }
    }

    /// So many members whose heartbeats are spread over the interval, after half a minute of life.
    fn settled(policy: ServicePolicy, members: u64, interval: u64) -> Driven {
        let mut driven = Driven { interval, ..Driven::new(policy) };
        for number in 0..members {
            driven.now = START + number * interval / members;
            driven.register(&format!("i-{number}"));
        }
        driven.run(30_000);
        assert_eq!(driven.told, []);
        driven.commits = 0;
        driven
    }

    fn at(&self) -> Now {
        Now { mono: Monotonic(self.now), wall: Wall(1_700_000_000_000 + self.now) }
    }

    fn register(&mut self, id: &str) {
        self.register_in_place_of(id, None);
    }

    fn register_in_place_of(&mut self, id: &str, predecessor: Option<&str>) {
        let before = self.published();
        self.table.see(self.at());
        let predecessor = predecessor.map(|id| MemberId::new(id).unwrap());
        self.table.put_in_place_of(Item::Member(member(id, 100)), None, predecessor.as_ref()).unwrap();
        self.table.accept(self.at());
        self.beats.push((id.to_owned(), self.now + self.interval));
        self.note_commit(&before);
    }

    fn withdraw(&mut self, id: &str) {
        let before = self.published();
        self.table.see(self.at());
        let (index, _) = self.table.member(&service(), id).unwrap();
        self.table.remove(index, None);
        self.table.accept(self.at());
        self.beats.retain(|(other, _)| other != id);
        self.note_commit(&before);
    }

    /// Who is published, with slot and weight, and whether somebody is held.
    fn published(&self) -> Shown {
        let service = service();
        let members = self
            .table
            .members(&service)
            .filter(|(index, member)| member.state.is_published() && !self.table.waits_for_slot(*index));
        let shown = members.map(|(_, member)| (member.id.to_string(), member.decided.slot, member.weight()));
        let held = self.table.members(&service).any(|(_, member)| member.state == State::Held);
        (shown.collect(), held)
    }

    fn note_commit(&mut self, before: &Shown) {
        self.commits += usize::from(self.published() != *before);
    }

    fn state(&self, id: &str) -> Option<State> {
        self.table.member(&service(), id).map(|(_, member)| member.state)
    }

    fn count(&self, state: State) -> usize {
        self.table.members(&service()).filter(|(_, member)| member.state == state).count()
    }

    fn slot(&self, id: &str) -> Option<u32> {
        self.table.member(&service(), id).and_then(|(_, member)| member.decided.slot)
    }

    /// Lets time pass; everybody who can be heard sends its heartbeats, and one that was gone registers again.
    fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += 50;
            self.table.observe(Monotonic(self.now));
            self.send_beats();
            self.tick();
        }
    }

    fn send_beats(&mut self) {
        let due: Vec<usize> = (0..self.beats.len()).filter(|&at| self.beats[at].1 <= self.now).collect();
        for at in due {
            self.beats[at].1 += self.interval;
            let id = self.beats[at].0.clone();
            if self.cut.contains(&id) {
                continue;
            }
            match self.table.member(&service(), &id) {
                Some((index, _)) => self.table.renew(index, Monotonic(self.now), None),
                None => {
                    let next = self.beats.remove(at);
                    self.register(&id);
                    self.beats.pop();
                    self.beats.insert(at, next);
                }
            }
        }
    }

    fn tick(&mut self) {
        let before = self.published();
        let decisions = self.table.tick(self.at());
        if decisions.is_empty() {
            return;
        }
        let mut told = Vec::new();
        for Decision { index, after, reason } in decisions {
            let Some(Item::Member(member)) = self.table.item(index) else { panic!("nothing there") };
            told.push((member.id.to_string(), reason));
            match after {
                Some(after) => drop(self.table.amend(Item::Member(*after)).unwrap()),
                None => self.table.remove(index, None),
            }
        }
        self.table.accept(self.at());
        self.told.push((self.now, told));
        self.note_commit(&before);
    }

    fn cut_off(&mut self, numbers: std::ops::Range<u64>) {
        self.cut.extend(numbers.map(|number| format!("i-{number}")));
    }

    /// How many were decided about for a reason.
    fn told_of(&self, reason: Option<Reason>) -> usize {
        self.told.iter().flat_map(|(_, told)| told).filter(|(_, other)| *other == reason).count()
    }
}

fn holding() -> ServicePolicy {
    ServicePolicy { hold: HoldPolicy::default(), ..plain() }
}

#[test]
fn when_more_than_half_fall_silent_nobody_is_withdrawn_and_all_are_up_again_once_they_are_heard() {
    for grace in [0, 15] {
        // Those that renew at 80 % of their lease show what they have in common during the grace.
        let interval = if grace == 0 { 5_000 } else { 12_000 };
        let mut policy = holding();
        policy.leases.grace = Duration::from_secs(grace);
        let mut driven = Driven::settled(policy, 100, interval);
        driven.cut_off(0..60);
        driven.run(60_000);
        assert_eq!((driven.count(State::Held), driven.table.len()), (60, 100), "grace {grace}: {:?}", driven.told);
        assert_eq!(driven.commits, 1, "grace {grace}: all of them in one");
        driven.cut.clear();
        driven.run(60_000);
        assert_eq!((driven.count(State::Up), driven.commits), (100, 2), "grace {grace}: {:?}", driven.told);
        assert_eq!(driven.told_of(None), 0);
    }
}

#[test]
fn a_fault_is_no_usual_interval_so_that_the_next_one_soon_after_withdraws_nobody_either() {
    let mut driven = Driven::settled(holding(), 100, 5_000);
    for fault in 1..=3 {
        driven.cut_off(0..60);
        driven.run(60_000);
        assert_eq!((driven.count(State::Held), driven.table.len()), (60, 100), "fault {fault}: {:?}", driven.told);
        driven.cut.clear();
        driven.run(6_000);
        assert_eq!((driven.count(State::Up), driven.commits), (100, 2 * fault), "fault {fault}");
    }
}

#[test]
fn a_smaller_part_lapses_at_the_end_of_its_leases() {
    let mut driven = Driven::settled(holding(), 100, 5_000);
    let last: Vec<u64> = (0..20).map(|number| driven.beats[number].1 - 5_000).collect();
    driven.cut_off(0..20);
    driven.run(16_000);
    assert_eq!((driven.table.len(), driven.count(State::Held)), (80, 0));
    for (at, told) in &driven.told {
        for (id, reason) in told {
            let number: usize = id[2..].parse().unwrap();
            assert_eq!(*reason, None);
            assert_eq!(*at, (last[number] + LEASE).div_ceil(50) * 50, "{id}");
        }
    }
}

#[test]
fn those_that_are_dead_go_together_at_the_end_of_the_longest_hold() {
    let mut driven = Driven::settled(holding(), 100, 5_000);
    driven.cut_off(0..60);
    driven.run(20_000);
    let held = driven.told.iter().find(|(_, told)| told.len() == 60).map(|(at, _)| *at).expect("held together");
    driven.run(600_000);
    assert_eq!((driven.table.len(), driven.commits), (40, 2));
    assert_eq!(driven.told_of(Some(Reason::HoldEnded)), 60);
    assert_eq!(driven.told.last().unwrap().0, held + 600_000);
}

#[test]
fn in_a_heal_that_leaves_some_out_these_have_one_more_lease_and_go_together() {
    let mut driven = Driven::settled(holding(), 100, 5_000);
    driven.cut_off(0..60);
    driven.run(30_000);
    // Forty come back; at the tenth of them half are held.
    driven.cut.retain(|id| id[2..].parse::<u64>().unwrap() < 20);
    let healed = driven.now;
    driven.run(30_000);
    assert_eq!((driven.table.len(), driven.count(State::Up)), (80, 80), "{:?}", driven.told);
    let (at, gone) = driven.told.last().unwrap();
    assert_eq!(gone.len(), 20, "in one commit");
    assert!(gone.iter().all(|(_, reason)| *reason == Some(Reason::LetGo)));
    assert!((healed + LEASE..healed + LEASE + 5_000).contains(at), "{at}");
    assert_eq!(driven.commits, 2);
}

#[test]
fn with_too_few_left_to_hold_anybody_those_who_are_held_have_one_more_lease() {
    let mut driven = Driven::settled(holding(), 5, 5_000);
    driven.cut_off(0..3);
    driven.run(20_000);
    assert_eq!(driven.count(State::Held), 3);
    driven.withdraw("i-3");
    driven.withdraw("i-4");
    driven.run(14_000);
    assert_eq!(driven.count(State::Held), 3);
    driven.run(1_200);
    assert_eq!((driven.table.len(), driven.told_of(Some(Reason::LetGo))), (0, 3));
}

#[test]
fn who_was_heard_of_in_the_transaction_under_way_is_not_silent() {
    let mut driven = Driven::settled(holding(), 5, 5_000);
    driven.cut_off(0..5);
    driven.run(9_000);
    // Three say something new, which is gathered with what else comes while the leases of the others end.
    driven.table.see(driven.at());
    for id in ["i-2", "i-3", "i-4"] {
        let (_, before) = driven.table.member(&service(), id).unwrap();
        let changed = Member { registration: member(id, 7).registration, ..before.clone() };
        driven.table.put(Item::Member(changed), None).unwrap();
    }
    for _ in 0..120 {
        driven.now += 50;
        driven.table.observe(Monotonic(driven.now));
    }
    let ended = driven.table.tick(driven.at());
    let reasons: Vec<Option<Reason>> = ended.iter().map(|decision| decision.reason).collect();
    assert!(!reasons.is_empty() && reasons.iter().all(Option::is_none), "{reasons:?}");
}

#[test]
fn a_few_members_are_not_held() {
    let mut driven = Driven::settled(holding(), 3, 5_000);
    driven.cut_off(0..3);
    driven.run(20_000);
    assert!(driven.table.is_empty());
}

#[test]
fn more_that_fall_silent_while_many_are_held_are_held_as_well() {
    let mut driven = Driven::settled(holding(), 100, 5_000);
    driven.cut_off(0..60);
    driven.run(60_000);
    driven.cut_off(60..70);
    driven.run(60_000);
    assert_eq!((driven.count(State::Held), driven.table.len()), (70, 100));
}

#[test]
fn a_floor_keeps_those_that_were_heard_of_last_and_not_for_ever() {
    let hold = HoldPolicy { fraction: 1.0, floor: 2, max: Duration::from_secs(60), ..HoldPolicy::default() };
    let mut driven = Driven::settled(ServicePolicy { hold, ..plain() }, 5, 5_000);
    let latest = driven.beats.iter().max_by_key(|(_, next)| *next).unwrap().0.clone();
    driven.cut_off(0..5);
    driven.run(30_000);
    assert_eq!((driven.table.len(), driven.count(State::Held)), (2, 2), "{:?}", driven.told);
    assert_eq!(driven.state(&latest), Some(State::Held));
    driven.run(60_000);
    assert!(driven.table.is_empty());
    assert_eq!(driven.told_of(Some(Reason::HoldEnded)), 2);
}

#[test]
fn a_hold_outlives_a_restart_and_ends_when_it_would_have() {
    let mut driven = Driven::settled(holding(), 10, 5_000);
    driven.cut_off(0..8);
    driven.run(30_000);
    let held = driven.told[0].0;
    let mut started = Driven::new(holding());
    started.now = driven.now + 60_000;
    started.table.see(started.at());
    let items: Vec<Item> = driven.table.items().cloned().collect();
    for item in items {
        let deadline = Monotonic(started.now + LEASE);
        started.table.load(item, Stamp::default(), deadline, Monotonic(started.now)).unwrap();
    }
    started.beats = (8..10).map(|number| (format!("i-{number}"), started.now)).collect();
    assert_eq!(started.count(State::Held), 8);
    let rest = held + 600_000 - started.now;
    started.run(rest - 100);
    assert_eq!(started.count(State::Held), 8);
    started.run(200);
    assert_eq!(started.table.len(), 2, "{:?}", started.told);
}

#[test]
fn an_abandoned_hold_and_an_abandoned_return_are_decided_again() {
    let mut driven = Driven::settled(holding(), 10, 5_000);
    driven.cut_off(0..8);
    driven.run(9_000);
    let carry_out = |driven: &mut Driven| {
        for Decision { after, .. } in driven.table.tick(driven.at()) {
            driven.table.amend(Item::Member(*after.expect("nobody lapses"))).unwrap();
        }
    };
    while driven.table.edited().is_empty() {
        driven.now += 50;
        driven.table.observe(Monotonic(driven.now));
        carry_out(&mut driven);
    }
    driven.table.abandon(Monotonic(driven.now), Monotonic(driven.now));
    assert_eq!(driven.count(State::Held), 0);
    driven.run(1_100);
    assert_eq!((driven.count(State::Held), driven.table.len()), (8, 10));
    let (index, _) = driven.table.member(&service(), "i-3").unwrap();
    driven.table.renew(index, Monotonic(driven.now), None);
    carry_out(&mut driven);
    assert_eq!(driven.state("i-3"), Some(State::Up));
    driven.table.abandon(Monotonic(driven.now), Monotonic(driven.now));
    assert_eq!(driven.state("i-3"), Some(State::Held));
    // Not at once: a store that refuses would be asked for ever.
    assert_eq!(driven.table.tick(driven.at()), []);
    assert!(driven.table.next_wake().unwrap() > Monotonic(driven.now));
    driven.run(1_100);
    assert_eq!(driven.state("i-3"), Some(State::Up));
}

#[test]
fn slots_that_could_not_be_kept_are_given_out_again_after_a_while() {
    let mut driven = Driven::settled(slotted(1), 2, 5_000);
    driven.withdraw("i-0");
    driven.register("new");
    driven.now += 1_000;
    let decisions = driven.table.tick(driven.at());
    assert_eq!(decisions.len(), 1);
    driven.table.amend(Item::Member(*decisions[0].after.clone().unwrap())).unwrap();
    driven.table.abandon(Monotonic(driven.now), Monotonic(driven.now));
    assert_eq!(driven.slot("new"), None);
    assert_eq!(driven.table.tick(driven.at()), []);
    assert!(driven.table.next_wake().unwrap() > Monotonic(driven.now));
    driven.run(1_100);
    assert_eq!(driven.slot("new"), Some(0));
}

// ---- damping ------------------------------------------------------------------------------------------------------------

fn damping() -> ServicePolicy {
    ServicePolicy { damping: DampingPolicy::default(), ..plain() }
}

#[test]
fn a_member_that_flaps_for_a_minute_makes_a_few_commits_and_is_back_two_minutes_after() {
    let mut driven = Driven::settled(damping(), 3, 5_000);
    driven.register("flappy");
    driven.commits = 0;
    for _ in 0..30 {
        driven.run(1_000);
        driven.withdraw("flappy");
        driven.run(1_000);
        driven.register("flappy");
    }
    assert_eq!(driven.state("flappy"), Some(State::Damped));
    assert!(driven.commits <= 6, "{}", driven.commits);
    let (_, member) = driven.table.member(&service(), "flappy").unwrap();
    let until = driven.table.damped_until(member).unwrap();
    assert!(until.0 <= driven.now + 120_000 && until.0 > driven.now + 100_000, "{until:?}");
    let before = driven.commits;
    driven.run(until.0 - driven.now - 100);
    assert_eq!((driven.state("flappy"), driven.commits), (Some(State::Damped), before));
    driven.run(200);
    assert_eq!((driven.state("flappy"), driven.commits), (Some(State::Up), before + 1));
    assert_eq!(driven.told.last().unwrap().1, [("flappy".to_owned(), Some(Reason::Reused))]);
}

#[test]
fn one_restart_or_two_cost_nothing_and_a_new_member_has_no_past() {
    let mut driven = Driven::new(damping());
    driven.register("a");
    driven.withdraw("a");
    driven.register("a");
    assert_eq!(driven.state("a"), Some(State::Up));
    driven.run(60_000);
    driven.withdraw("a");
    driven.register("a");
    assert_eq!(
        driven.state("a"),
        Some(State::Damped),
        "1 and 1 half an hour ago would be forgotten, a minute ago count half"
    );
    driven.register("b");
    assert_eq!(driven.state("b"), Some(State::Up));
}

#[test]
fn who_deregisters_while_damped_leaves_at_once_and_a_damped_lease_ends_as_ever() {
    let mut driven = Driven::new(damping());
    for _ in 0..3 {
        driven.register("a");
        driven.withdraw("a");
    }
    driven.register("a");
    assert_eq!(driven.state("a"), Some(State::Damped));
    driven.withdraw("a");
    assert_eq!(driven.state("a"), None);
    driven.register("a");
    driven.cut.insert("a".to_owned());
    driven.run(15_100);
    assert_eq!(driven.state("a"), None);
}

#[test]
fn a_withdrawal_that_the_store_refused_is_no_withdrawal() {
    let mut driven = Driven::new(damping());
    driven.register("a");
    for _ in 0..5 {
        driven.table.see(driven.at());
        let (index, _) = driven.table.member(&service(), "a").unwrap();
        driven.table.remove(index, None);
        driven.table.abandon(Monotonic(driven.now), Monotonic(driven.now));
    }
    driven.withdraw("a");
    driven.register("a");
    assert_eq!(driven.state("a"), Some(State::Up));
}

// ---- slots --------------------------------------------------------------------------------------------------------------

fn slotted(hold: u64) -> ServicePolicy {
    ServicePolicy { slot_hold: Some(Duration::from_secs(hold)), ..plain() }
}

#[test]
fn a_replacement_takes_the_slot_of_the_one_it_replaces_and_no_other_moves() {
    let mut driven = Driven::settled(slotted(0), 50, 5_000);
    let before = driven.published().0;
    driven.cut_off(17..18);
    driven.run(20_000);
    assert_eq!(driven.table.len(), 49);
    driven.register("new");
    let mut after = driven.published().0;
    assert_eq!(driven.slot("new"), Some(17));
    after.retain(|(id, ..)| id != "new");
    let rest: Vec<_> = before.into_iter().filter(|(id, ..)| id != "i-17").collect();
    assert_eq!(after, rest);
}

#[test]
fn a_member_waits_while_all_free_slots_are_kept_for_their_former_holders() {
    let mut driven = Driven::settled(slotted(60), 3, 5_000);
    driven.withdraw("i-1");
    driven.run(1_000);
    driven.register("new");
    assert_eq!((driven.slot("new"), driven.published().0.len()), (None, 2));
    driven.run(30_000);
    driven.register("i-1");
    assert_eq!(driven.slot("i-1"), Some(1), "its own is still kept");
    // None is free now, so whoever waits has the next one.
    driven.run(100);
    assert_eq!(driven.slot("new"), Some(3));
    driven.withdraw("i-2");
    driven.register("newer");
    assert_eq!(driven.slot("newer"), None);
    driven.run(59_900);
    assert_eq!(driven.slot("newer"), None);
    driven.run(200);
    assert_eq!(driven.slot("newer"), Some(2));
    assert_eq!(driven.told.last().unwrap().1, [("newer".to_owned(), Some(Reason::Slotted))]);
}

#[test]
fn a_planned_replacement_has_its_predecessors_slot_though_it_is_kept() {
    let mut driven = Driven::settled(slotted(60), 3, 5_000);
    driven.withdraw("i-1");
    driven.register_in_place_of("new", Some("i-1"));
    assert_eq!(driven.slot("new"), Some(1));
}

#[test]
fn slots_are_as_they_were_after_a_refused_write() {
    let mut driven = Driven::settled(slotted(0), 3, 5_000);
    let before = (driven.published(), driven.table.slots_of(&service()).cloned());
    driven.table.see(driven.at());
    for id in ["i-0", "i-2"] {
        let (index, _) = driven.table.member(&service(), id).unwrap();
        driven.table.remove(index, None);
    }
    driven.table.put(Item::Member(member("new", 1)), None).unwrap();
    driven.table.put(Item::Member(member("newer", 1)), None).unwrap();
    assert_eq!((driven.slot("new"), driven.slot("newer")), (Some(2), Some(0)));
    assert_eq!(driven.table.changed_slots().count(), 1);
    driven.table.abandon(Monotonic(driven.now), Monotonic(driven.now));
    assert_eq!((driven.published(), driven.table.slots_of(&service()).cloned()), before);
    assert_eq!(driven.table.changed_slots().count(), 0);
}

// ---- slow start ---------------------------------------------------------------------------------------------------------

#[test]
fn a_new_member_reaches_its_weight_in_four_steps_which_those_that_come_together_share() {
    let policy = ServicePolicy { slow_start: Duration::from_secs(40), ..plain() };
    let mut driven = Driven::new(policy);
    driven.register("a");
    driven.now += 1_000;
    driven.register("b");
    let weights = |driven: &Driven| driven.published().0.iter().map(|(.., weight)| *weight).collect::<Vec<_>>();
    assert_eq!(weights(&driven), [25, 25]);
    let mut seen = vec![weights(&driven)];
    driven.commits = 0;
    for _ in 0..60 {
        driven.run(1_000);
        if seen.last() != Some(&weights(&driven)) {
            seen.push(weights(&driven));
        }
    }
    assert_eq!(seen, [[25, 25], [50, 50], [75, 75], [100, 100]]);
    assert_eq!(driven.commits, 3);
    assert_eq!(driven.told_of(Some(Reason::Ramped)), 6);
}

#[test]
fn a_weight_of_one_is_never_less_and_none_stays_none() {
    for (weight, expected) in [(0, 0), (1, 1), (3, 1), (4, 1), (65_535, 16_383)] {
        let mut member = member("a", weight);
        member.decided.ramp = 1;
        assert_eq!(member.weight(), expected, "{weight}");
    }
}

#[test]
fn slots_that_are_switched_on_are_given_to_all_and_switched_off_let_nobody_wait() {
    let mut driven = Driven::settled(plain(), 3, 5_000);
    let before = driven.published();
    driven.table.set_policies(Policies::of_zone(slotted(60)).into());
    assert_eq!(driven.published(), before, "who is there stays published until it has one");
    driven.run(100);
    assert_eq!(driven.published().0.iter().map(|(_, slot, _)| *slot).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    driven.withdraw("i-1");
    driven.register("new");
    assert_eq!(driven.published().0.len(), 2, "it waits");
    driven.table.set_policies(Policies::of_zone(plain()).into());
    driven.run(100);
    assert_eq!(driven.published().0.len(), 3);
}

#[test]
fn a_heartbeat_between_a_hold_and_its_commit_is_not_forgotten() {
    let mut driven = Driven::settled(holding(), 10, 5_000);
    driven.cut_off(0..8);
    driven.run(9_000);
    while driven.table.edited().is_empty() {
        driven.now += 50;
        driven.table.observe(Monotonic(driven.now));
        for Decision { after, .. } in driven.table.tick(driven.at()) {
            driven.table.amend(Item::Member(*after.expect("nobody lapses"))).unwrap();
        }
    }
    let (index, _) = driven.table.member(&service(), "i-3").unwrap();
    driven.table.renew(index, Monotonic(driven.now), None);
    assert_eq!(driven.table.tick(driven.at()), [], "it is edited");
    driven.table.accept(driven.at());
    driven.run(100);
    assert_eq!(driven.state("i-3"), Some(State::Up));
}

#[test]
fn a_hold_that_would_have_ended_while_the_process_was_down_leaves_a_lease_to_be_heard_of() {
    let mut driven = Driven::settled(holding(), 10, 5_000);
    driven.cut_off(0..8);
    driven.run(30_000);
    let mut started = Driven::new(holding());
    started.now = driven.now + 3_600_000;
    started.table.see(started.at());
    for item in driven.table.items().cloned().collect::<Vec<Item>>() {
        let deadline = Monotonic(started.now + LEASE);
        started.table.load(item, Stamp::default(), deadline, Monotonic(started.now)).unwrap();
    }
    started.beats = (6..10).map(|number| (format!("i-{number}"), started.now + 1_000)).collect();
    started.run(14_900);
    assert_eq!((started.table.len(), started.state("i-6")), (10, Some(State::Up)));
    started.run(200);
    assert_eq!(started.table.len(), 4, "{:?}", started.told);
}
