use super::*;
use crate::agent::health::Rhythm;

/// What servers, service and command of a test do; times are virtual.
struct World {
    machine: Machine,
    now: Monotonic,
    /// Whether each server answers.
    up: Vec<bool>,
    granted: Duration,
    slot: Option<&'static str>,
    /// Whether servers publish the member when they are asked.
    published: bool,
    well: bool,
    joins: bool,
    /// Everything that was done, with its time in milliseconds.
    log: Vec<(u64, Action)>,
    /// When an answer or a failure comes.
    pending: Vec<(Monotonic, Event)>,
}

const RHYTHM: Rhythm = Rhythm { interval: Duration::from_secs(2), rise: 2, fall: 3 };
const LATENCY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(15);

fn plan(servers: usize) -> Plan {
    Plan {
        servers,
        all_servers: false,
        lease: LEASE,
        initial_delay: Duration::ZERO,
        drain_timeout: Duration::from_secs(60),
        joins: false,
    }
}

impl World {
    fn new(plan: Plan, rhythm: Option<Rhythm>) -> World {
        let start = Monotonic(1000);
        let up = vec![true; plan.servers];
        let mut machine = Machine::new(plan, Health::new(rhythm, start), Jitter::new(1), start);
        machine.handle(Event::Addressed, start);
        World {
            machine,
            now: start,
            up,
            granted: LEASE,
            slot: None,
            published: false,
            well: true,
            joins: true,
            log: Vec::new(),
            pending: Vec::new(),
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.next_action() {
            self.log.push((self.now.0 - 1000, action.clone()));
            let soon = self.now.after(LATENCY);
            match action {
                Action::Check => self.pending.push((soon, Event::Checked(self.well))),
                Action::Join => self.pending.push((soon, Event::Joined(self.joins))),
                Action::Send { seat, server, order } => {
                    let slot = self.slot.map(str::to_owned);
                    let granted = Reply::Granted { lease: Some(self.granted), slot, unpublished: None };
                    let reply = match order {
                        Order::Ask => Reply::Published(self.published),
                        Order::Register { .. } => granted,
                        Order::Drain | Order::Deregister => Reply::Done,
                    };
                    let (at, reply) =
                        if self.up[server] { (soon, Some(reply)) } else { (self.now.after(PATIENCE), None) };
                    self.pending.push((at, Event::Told { seat, reply }));
                }
                Action::Ready | Action::WaitUntilSafe { .. } | Action::End { .. } => {}
            }
        }
    }

    /// Lets this much time pass.
    fn pass(&mut self, span: Duration) -> &mut World {
        let end = self.now.after(span);
        self.act();
        loop {
            self.pending.sort_by_key(|(at, _)| *at);
            let event = self.pending.first().map(|(at, _)| *at);
            let next = [event, self.machine.deadline()].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            assert!(self.log.len() < 10_000, "it runs hot: {:?}", &self.log[9_990..]);
            self.now = next.max(self.now);
            if event == Some(next) {
                let (_, event) = self.pending.remove(0);
                self.machine.handle(event, self.now);
            } else {
                self.machine.advance(self.now);
            }
            self.act();
        }
        self.now = end;
        self
    }

    fn seconds(&mut self, seconds: u64) -> &mut World {
        self.pass(Duration::from_secs(seconds))
    }

    fn tell(&mut self, event: Event) {
        self.machine.handle(event, self.now);
        self.act();
    }

    /// The orders since the last call, with their servers; the log begins anew.
    fn orders(&mut self) -> Vec<(u64, usize, Order)> {
        let order = |(at, action): (u64, Action)| match action {
            Action::Send { server, order, .. } => Some((at, server, order)),
            _ => None,
        };
        std::mem::take(&mut self.log).into_iter().filter_map(order).collect()
    }

    fn kinds(&mut self) -> Vec<Order> {
        self.orders().into_iter().map(|(.., order)| order).collect()
    }

    fn count(&self, wanted: &Action) -> usize {
        self.log.iter().filter(|(_, action)| action == wanted).count()
    }
}

const RENEW: Order = Order::Register { anew: false };
const ANEW: Order = Order::Register { anew: true };

#[test]
fn a_lease_is_renewed_at_a_jittered_third_of_what_was_granted() {
    let mut world = World::new(plan(1), None);
    let orders = world.seconds(300).orders();
    assert_eq!(orders[0], (0, 0, ANEW), "the first one replaces whatever was there");
    assert!(orders[1..].iter().all(|(_, _, order)| *order == RENEW), "the others are the same octets");
    let gaps: Vec<u64> = orders.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| (4500..=5500).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < 4800) && gaps.iter().any(|gap| *gap > 5200), "{gaps:?}");
    world.granted = Duration::from_secs(6);
    let orders = world.seconds(60).orders();
    let gaps: Vec<u64> = orders.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| (1800..=2200).contains(gap)), "a shorter lease is used: {gaps:?}");
}

#[test]
fn the_first_registration_is_delayed_by_chance_and_checks_are_not() {
    let first = |seed| {
        let plan = Plan { initial_delay: Duration::from_secs(3), ..plan(1) };
        let mut machine = Machine::new(plan, Health::new(None, Monotonic(0)), Jitter::new(seed), Monotonic(0));
        machine.handle(Event::Addressed, Monotonic(0));
        assert_eq!(machine.next_action(), None);
        machine.deadline().unwrap().0
    };
    let delays: Vec<u64> = (0..100).map(first).collect();
    assert!(delays.iter().all(|delay| *delay < 3000));
    for part in 0..6 {
        let count = delays.iter().filter(|delay| *delay / 500 == part).count();
        assert!((5..=30).contains(&count), "{count} of 100 agents start in part {part} of 6");
    }
    let plan = Plan { initial_delay: Duration::from_secs(3), ..plan(1) };
    let mut world = World::new(plan, Some(RHYTHM));
    world.act();
    assert_eq!(world.log, [(0, Action::Check)]);
}

#[test]
fn nothing_is_registered_before_the_checks_are_good_and_a_failing_service_is_withdrawn() {
    let mut world = World::new(plan(1), Some(RHYTHM));
    world.well = false;
    assert_eq!(world.seconds(20).kinds(), []);
    world.well = true;
    assert_eq!(world.seconds(5).kinds(), [ANEW], "after two good checks");
    world.well = false;
    world.seconds(7);
    assert_eq!(world.kinds().last(), Some(&Order::Deregister), "after three bad ones");
    assert_eq!(world.seconds(60).kinds(), []);
    world.well = true;
    assert_eq!(world.seconds(5).kinds(), [ANEW]);
}

#[test]
fn servers_are_tried_in_turn_at_once_and_then_with_back_off_and_nothing_is_withdrawn() {
    let mut world = World::new(plan(3), None);
    world.seconds(1).orders();
    world.up = vec![false, false, true];
    let orders = world.seconds(10).orders();
    let servers: Vec<usize> = orders.iter().map(|(_, server, _)| *server).collect();
    assert_eq!(servers, [0, 1, 2]);
    assert!(orders[2].0 - orders[0].0 <= 4001, "at once: {orders:?}");
    world.seconds(30);
    assert!(world.orders().iter().all(|(_, server, order)| *server == 2 && *order == RENEW), "it stays there");
    world.up = vec![false; 3];
    let orders = world.seconds(120).orders();
    assert!(orders.iter().all(|(_, _, order)| matches!(order, Order::Register { .. })), "{orders:?}");
    let pauses: Vec<u64> = orders.windows(2).map(|pair| pair[1].0 - pair[0].0 - 2000).collect();
    assert!(pauses.iter().filter(|pause| **pause == 0).count() * 3 >= pauses.len(), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause > 8000) && pauses.iter().all(|pause| *pause <= 18_750), "{pauses:?}");
    world.up[0] = true;
    let kinds = world.seconds(30).kinds();
    assert!(kinds.contains(&ANEW), "its lease has lapsed: {kinds:?}");
}

#[test]
fn with_all_servers_each_has_its_own_rhythm() {
    let mut world = World::new(Plan { all_servers: true, ..plan(2) }, None);
    world.up[0] = false;
    let orders = world.seconds(60).orders();
    assert_eq!(orders.iter().filter(|(_, server, order)| *server == 1 && *order == ANEW).count(), 1);
    assert!((10..16).contains(&orders.iter().filter(|(_, server, _)| *server == 1).count()));
    world.up[0] = true;
    let orders = world.seconds(20).orders();
    assert!(orders.iter().any(|(_, server, order)| *server == 0 && *order == RENEW), "{orders:?}");
    world.tell(Event::Stop);
    world.pass(LATENCY);
    let drained: Vec<usize> = world.orders().iter().map(|(_, server, _)| *server).collect();
    assert_eq!(drained, [0, 1]);
}

#[test]
fn the_on_join_command_comes_before_the_first_registration_and_is_tried_again() {
    let mut world = World::new(Plan { joins: true, ..plan(1) }, None);
    world.joins = false;
    assert_eq!(world.seconds(10).kinds(), [Order::Ask], "no registration without it");
    world.joins = true;
    world.seconds(20);
    let joins = world.count(&Action::Join);
    assert!(joins >= 1);
    assert_eq!(world.kinds()[0], ANEW);
    assert_eq!(world.seconds(60).count(&Action::Join), 0, "and not while the lease runs");
}

#[test]
fn it_runs_again_after_a_withdrawal_and_after_a_lapse() {
    let mut world = World::new(Plan { joins: true, ..plan(1) }, Some(RHYTHM));
    world.seconds(10);
    assert_eq!(world.count(&Action::Join), 1);
    world.well = false;
    world.seconds(10).orders();
    world.well = true;
    world.seconds(5);
    assert_eq!(world.count(&Action::Join), 1);
    assert_eq!(world.kinds(), [Order::Ask, ANEW]);
    // The server is away for longer than the lease, and doesn't publish the member any more.
    world.up[0] = false;
    world.seconds(60);
    assert_eq!(world.count(&Action::Join), 0, "not before a server answers");
    world.orders();
    world.up[0] = true;
    world.seconds(20);
    assert_eq!(world.count(&Action::Join), 1);
    assert_eq!(world.kinds().iter().find(|order| **order != Order::Ask), Some(&ANEW));
}

#[test]
fn after_an_outage_that_nobody_saw_it_does_not_run() {
    let mut world = World::new(Plan { joins: true, ..plan(1) }, None);
    world.seconds(10);
    world.up[0] = false;
    world.seconds(60).orders();
    (world.up[0], world.published) = (true, true);
    world.seconds(20);
    assert_eq!(world.count(&Action::Join), 0);
    assert!(world.kinds().contains(&ANEW));
}

#[test]
fn a_registration_without_an_answer_counts_as_one_that_may_have_lapsed_and_a_refused_one_does_not() {
    let mut world = World::new(Plan { joins: true, ..plan(1) }, None);
    let now = world.now;
    world.machine.join = Join::Done;
    world.machine.seats[0].flight = Some(Flight { order: ANEW, sent: now, content: 1 });
    world.machine.handle(Event::Told { seat: 0, reply: Some(Reply::Refused) }, now);
    assert_eq!(world.machine.join, Join::Done);
    world.machine.seats[0].flight = Some(Flight { order: ANEW, sent: now, content: 1 });
    world.machine.handle(Event::Told { seat: 0, reply: None }, now);
    assert_eq!(world.machine.join, Join::Needed { lapsed: true });
}

#[test]
fn a_short_outage_is_no_lapse() {
    let mut world = World::new(Plan { joins: true, ..plan(1) }, None);
    world.seconds(10).orders();
    world.up[0] = false;
    world.seconds(7);
    world.up[0] = true;
    world.seconds(20);
    assert_eq!(world.count(&Action::Join), 0);
    assert!(world.kinds().iter().all(|order| *order == RENEW));
}

#[test]
fn it_runs_when_another_s_slot_is_granted_and_the_lease_does_not_wait_for_it() {
    let mut world = World::new(Plan { joins: true, ..plan(1) }, None);
    world.slot = Some("s0001");
    world.seconds(20);
    assert_eq!(world.count(&Action::Join), 1);
    world.orders();
    (world.slot, world.joins) = (Some("s0007"), false);
    world.seconds(60);
    assert!(world.count(&Action::Join) > 1);
    assert!(world.kinds().iter().filter(|order| **order == RENEW).count() >= 10);
}

#[test]
fn a_command_that_ran_while_the_service_failed_does_not_count() {
    let mut world = World::new(Plan { joins: true, ..plan(1) }, Some(RHYTHM));
    world.seconds(3);
    let now = world.now;
    // The command is still running when the service fails and recovers.
    world.machine.join = Join::Running { void: false };
    for well in [false, false, false] {
        world.machine.handle(Event::Checked(well), now);
    }
    for well in [true, true] {
        world.machine.handle(Event::Checked(well), now);
    }
    world.machine.handle(Event::Joined(true), now);
    assert_eq!(world.machine.join, Join::Needed { lapsed: false });
}

#[test]
fn another_address_is_registered_at_once() {
    let mut world = World::new(plan(1), None);
    world.seconds(1).orders();
    world.tell(Event::Addressed);
    assert_eq!(world.kinds(), [ANEW]);
    // Once more while that is under way: what was answered is out of date.
    world.tell(Event::Addressed);
    assert_eq!(world.kinds(), []);
    world.seconds(1);
    assert_eq!(world.kinds(), [ANEW]);
    world.seconds(10);
    assert!(world.kinds().iter().all(|order| *order == RENEW));
}

#[test]
fn the_end_drains_waits_until_it_is_safe_and_withdraws() {
    let mut world = World::new(plan(2), None);
    world.seconds(10).orders();
    world.tell(Event::Stop);
    world.seconds(1);
    let drained = (world.now.0 - 2000, Action::Send { seat: 0, server: 0, order: Order::Drain });
    assert_eq!(world.log[0], drained);
    assert_eq!(world.log[1].1, Action::WaitUntilSafe { servers: vec![0] });
    let orders = world.seconds(30).kinds();
    assert!(
        orders.len() > 4 && orders.iter().all(|order| *order == Order::Drain),
        "it stays for that long: {orders:?}"
    );
    world.tell(Event::Safe(true));
    world.seconds(1);
    let actions: Vec<Action> = world.log.iter().map(|(_, action)| action.clone()).collect();
    let last = Action::Send { seat: 0, server: 0, order: Order::Deregister };
    assert_eq!(actions, [last, Action::End { clean: true }]);
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn a_registration_under_way_at_the_end_is_drained_as_soon_as_it_is_answered() {
    let mut world = World::new(plan(1), None);
    world.act();
    world.tell(Event::Stop);
    world.pass(LATENCY);
    assert_eq!(world.kinds(), [ANEW, Order::Drain]);
}

#[test]
fn the_second_signal_stops_waiting_and_still_withdraws() {
    let mut world = World::new(plan(1), None);
    world.seconds(10);
    world.tell(Event::Stop);
    world.seconds(1).orders();
    world.tell(Event::Stop);
    world.seconds(1);
    assert_eq!(world.log.last().unwrap().1, Action::End { clean: false });
    assert_eq!(world.kinds(), [Order::Deregister]);
}

#[test]
fn an_end_that_reaches_no_server_is_over_within_its_time_and_says_so() {
    let mut world = World::new(Plan { drain_timeout: Duration::from_secs(10), ..plan(2) }, None);
    world.seconds(10).orders();
    world.up = vec![false; 2];
    world.tell(Event::Stop);
    world.seconds(10);
    assert_eq!(world.log.last().unwrap().1, Action::End { clean: false });
    assert!(world.kinds().contains(&Order::Drain));
}

#[test]
fn who_is_not_registered_ends_at_once() {
    let mut world = World::new(plan(1), Some(RHYTHM));
    world.well = false;
    world.seconds(10);
    world.tell(Event::Stop);
    assert_eq!(world.log.last().unwrap().1, Action::End { clean: true });
    let mut world = World::new(Plan { drain_timeout: Duration::ZERO, ..plan(1) }, None);
    world.seconds(10).orders();
    world.tell(Event::Stop);
    world.seconds(1);
    assert_eq!(world.log.last().unwrap().1, Action::End { clean: true });
    assert_eq!(world.kinds(), [Order::Deregister]);
}

#[test]
fn it_is_ready_once() {
    let mut world = World::new(plan(1), Some(RHYTHM));
    world.seconds(60);
    assert_eq!(world.count(&Action::Ready), 1);
}
