use super::*;

const FIRST: Serial = Serial(100);

fn at(millis: u64) -> Now {
    Now { mono: Monotonic(10_000 + millis), wall: Wall(1_800_000_000_000 + millis) }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 53))
}

fn target(last: u8) -> Target {
    Target { address: address(last), key: None, is_listed: true }
}

fn late() -> Outcome {
    Outcome::Missed(Miss::Failure(Failure::Late))
}

const YES: Outcome = Outcome::Answered(Rcode::NOERROR);

/// A zone at its first serial with these targets.
fn begun(targets: &[Target]) -> Schedule {
    let mut schedule = Schedule::default();
    schedule.set_targets(targets, at(0));
    assert!(schedule.depart(at(0)).is_empty() && schedule.next_wake().is_none(), "nothing to tell yet");
    schedule.commit(FIRST, at(0));
    schedule
}

/// One target that acknowledged the first serial.
fn acknowledged() -> Schedule {
    let mut schedule = begun(&[target(1)]);
    let flight = depart(&mut schedule, FIRST, 0);
    schedule.settle(address(1), flight, YES, at(1));
    schedule
}

/// The only departure, which is sent with this serial.
fn depart(schedule: &mut Schedule, serial: Serial, millis: u64) -> Flight {
    let departures = schedule.depart(at(millis));
    assert_eq!(departures.len(), 1, "at {millis} of {schedule:?}");
    schedule.sent(departures[0].address, departures[0].flight, serial, at(millis));
    departures[0].flight
}

fn wake(schedule: &Schedule) -> Option<u64> {
    schedule.next_wake().map(|at| at.0 - 10_000)
}

fn state(schedule: &Schedule) -> NotifyState {
    schedule.states().into_iter().next().unwrap()
}

#[test]
fn every_target_is_told_at_the_start_and_once() {
    let mut schedule = begun(&[target(1), target(2)]);
    let departures = schedule.depart(at(0));
    assert_eq!(departures.iter().map(|departure| departure.address).collect::<Vec<_>>(), [address(1), address(2)]);
    assert_eq!((schedule.depart(at(0)), wake(&schedule)), (Vec::new(), None), "one in flight");
    for departure in departures {
        schedule.sent(departure.address, departure.flight, FIRST, at(0));
        let news = schedule.settle(departure.address, departure.flight, YES, at(20));
        assert_eq!(news, Some(News::Acknowledged(FIRST)));
    }
    assert_eq!(wake(&schedule), None);
    for state in schedule.states() {
        assert_eq!((state.sent, state.acknowledged), (Some(FIRST), Some(FIRST)));
        assert_eq!((state.standing, state.since, state.attempts), (Standing::Acknowledged, at(20).wall, 0));
    }
}

#[test]
fn a_commit_is_told_at_once_and_its_acknowledgement_is_no_news() {
    let mut schedule = acknowledged();
    schedule.commit(Serial(101), at(1000));
    assert_eq!((state(&schedule).standing, state(&schedule).since), (Standing::Waiting, at(1000).wall));
    let flight = depart(&mut schedule, Serial(101), 1000);
    assert_eq!(schedule.settle(address(1), flight, YES, at(1001)), None);
    schedule.commit(Serial(101), at(2000));
    assert_eq!(wake(&schedule), None, "no commit");
}

#[test]
fn what_came_of_each_request_is_counted_and_a_transfer_is_that_of_its_address() {
    let mut schedule = acknowledged();
    schedule.commit(Serial(101), at(1000));
    let flight = depart(&mut schedule, Serial(101), 1000);
    schedule.settle(address(1), flight, late(), at(5000));
    let flight = depart(&mut schedule, Serial(101), 6000);
    schedule.settle(address(1), flight, Outcome::Answered(Rcode::SERVFAIL), at(6001));
    let flight = depart(&mut schedule, Serial(101), 9000);
    schedule.settle(address(1), flight, Outcome::Answered(Rcode::REFUSED), at(9001));
    let known = state(&schedule);
    assert_eq!(known.counts, Counts { acknowledged: 1, refused: 1, missed: 2 });
    assert_eq!((known.acknowledged_at, known.transferred), (Some(at(1).wall), None));
    schedule.transferred("192.0.2.9".parse().unwrap(), Serial(7));
    assert_eq!(state(&schedule).transferred, None);
    schedule.transferred("::ffff:192.0.2.1".parse().unwrap(), Serial(101));
    assert_eq!(state(&schedule).transferred, Some(Serial(101)));
}

#[test]
fn a_thousand_commits_in_a_second_are_some_twenty_notifies_and_the_last_has_the_newest_serial() {
    // Answers take 1, 7 and 120 milliseconds.
    for delay in [1, 7, 120] {
        let mut schedule = acknowledged();
        let (mut sent, mut flying) = (Vec::new(), None);
        for millis in 1000..3000 {
            if millis < 2000 {
                schedule.commit(Serial(u32::try_from(millis).unwrap()), at(millis));
            }
            if let Some((flight, until)) = flying
                && until <= millis
            {
                schedule.settle(address(1), flight, YES, at(millis));
                flying = None;
            }
            for departure in schedule.depart(at(millis)) {
                let newest = schedule.newest.unwrap();
                schedule.sent(departure.address, departure.flight, newest, at(millis));
                sent.push((millis, newest));
                assert!(flying.replace((departure.flight, millis + delay)).is_none(), "one in flight");
            }
        }
        let at_most = 1000 / u64::max(50, delay) + 2;
        assert!(sent.len() as u64 <= at_most && sent.len() as u64 >= at_most - 2, "{delay}: {}", sent.len());
        assert!(sent.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 50), "{sent:?}");
        assert_eq!(sent.last().unwrap().1, Serial(1999));
        assert_eq!(state(&schedule).acknowledged, Some(Serial(1999)));
        assert_eq!(state(&schedule).standing, Standing::Acknowledged);
    }
}

#[test]
fn what_is_committed_during_a_flight_goes_out_after_it_and_not_within_the_gap() {
    let mut schedule = acknowledged();
    schedule.commit(Serial(101), at(1000));
    let flight = depart(&mut schedule, Serial(101), 1000);
    schedule.commit(Serial(102), at(1001));
    schedule.commit(Serial(103), at(1002));
    assert_eq!(wake(&schedule), None);
    schedule.settle(address(1), flight, YES, at(1003));
    assert_eq!(state(&schedule).standing, Standing::Waiting, "it knows, but not of the newest");
    assert_eq!(wake(&schedule), Some(1050));
    assert!(schedule.depart(at(1049)).is_empty());
    let flight = depart(&mut schedule, Serial(103), 1050);
    schedule.settle(address(1), flight, YES, at(1200));
    assert_eq!((wake(&schedule), state(&schedule).acknowledged), (None, Some(Serial(103))));
}

#[test]
fn a_request_that_waited_for_its_turn_tells_the_newest() {
    let mut schedule = acknowledged();
    schedule.commit(Serial(101), at(1000));
    let flight = schedule.depart(at(1000))[0].flight;
    schedule.commit(Serial(102), at(3000));
    schedule.sent(address(1), flight, Serial(102), at(3000));
    schedule.settle(address(1), flight, YES, at(3001));
    assert_eq!((wake(&schedule), state(&schedule).standing), (None, Standing::Acknowledged));
}

#[test]
fn what_is_lost_is_sent_again_with_growing_pauses_and_then_given_up_until_the_next_commit() {
    let mut schedule = acknowledged();
    schedule.commit(Serial(101), at(100_000));
    let (mut sent, mut news) = (Vec::new(), Vec::new());
    while let Some(millis) = wake(&schedule) {
        let departure = schedule.depart(at(millis)).remove(0);
        schedule.sent(address(1), departure.flight, Serial(101), at(millis));
        sent.push(millis - 100_000);
        let end = at(millis + u64::try_from(departure.listen.as_millis()).unwrap());
        news.extend(schedule.settle(address(1), departure.flight, late(), end));
    }
    assert_eq!(&sent[..8], [0, 500, 1500, 3500, 7500, 15_500, 30_500, 90_500]);
    assert!(sent[7..].windows(2).all(|pair| pair[1] - pair[0] == 60_000));
    assert_eq!(sent.len(), 20);
    assert_eq!(news, [News::Silent(Miss::Failure(Failure::Late))], "one line");
    let silent = state(&schedule);
    assert_eq!((silent.standing.word(), silent.attempts), ("unanswered", 20));
    assert_eq!(silent.since, at(100_500).wall);
    assert_eq!((silent.sent, silent.acknowledged), (Some(Serial(101)), Some(FIRST)));
    schedule.commit(Serial(102), at(9_000_000));
    let flight = depart(&mut schedule, Serial(102), 9_000_000);
    let news = schedule.settle(address(1), flight, YES, at(9_000_010));
    assert_eq!(news, Some(News::Acknowledged(Serial(102))));
    assert_eq!((wake(&schedule), state(&schedule).attempts), (None, 0));
}

#[test]
fn a_single_lost_datagram_is_no_news() {
    let mut schedule = acknowledged();
    schedule.commit(Serial(101), at(1000));
    let flight = depart(&mut schedule, Serial(101), 1000);
    assert_eq!(schedule.settle(address(1), flight, late(), at(1500)), None);
    assert_eq!(state(&schedule).standing.word(), "unanswered");
    let flight = depart(&mut schedule, Serial(101), 1500);
    assert_eq!(schedule.settle(address(1), flight, YES, at(1501)), None);
    assert_eq!(state(&schedule).standing, Standing::Acknowledged);
}

#[test]
fn commits_reach_a_silent_target_soon_and_do_not_become_a_storm() {
    let mut schedule = acknowledged();
    let mut sent = Vec::new();
    for millis in (1000..601_000).step_by(10) {
        schedule.commit(Serial(u32::try_from(millis).unwrap()), at(millis));
        for departure in schedule.depart(at(millis)) {
            let newest = schedule.newest.unwrap();
            schedule.sent(address(1), departure.flight, newest, at(millis));
            let reason = Outcome::Missed(Miss::Failure(Failure::Unreachable("nobody there".to_owned())));
            schedule.settle(address(1), departure.flight, reason, at(millis));
            sent.push(millis);
        }
    }
    assert!(sent.len() <= 302 && sent.windows(2).all(|pair| pair[1] - pair[0] <= 2000), "{}", sent.len());
    assert_eq!(state(&schedule).standing.word(), "unreachable");
}

#[test]
fn who_refuses_is_told_again_of_the_next_commit_alone() {
    for rcode in [Rcode::FORMERR, Rcode::NOTIMP, Rcode::REFUSED, Rcode::NOTAUTH] {
        let mut schedule = acknowledged();
        schedule.commit(Serial(101), at(100_000));
        let flight = depart(&mut schedule, Serial(101), 100_000);
        let news = schedule.settle(address(1), flight, Outcome::Answered(rcode), at(100_001));
        assert_eq!((news, wake(&schedule)), (Some(News::Refused(rcode)), None));
        assert_eq!(state(&schedule).standing, Standing::Refused(rcode));
        assert_eq!(state(&schedule).acknowledged, Some(FIRST));
        schedule.commit(Serial(102), at(200_000));
        let flight = depart(&mut schedule, Serial(102), 200_000);
        assert_eq!(schedule.settle(address(1), flight, Outcome::Answered(rcode), at(200_001)), None, "no news");
        schedule.commit(Serial(103), at(300_000));
        let flight = depart(&mut schedule, Serial(103), 300_000);
        assert_eq!(schedule.settle(address(1), flight, YES, at(300_001)), Some(News::Acknowledged(Serial(103))));
    }
}

#[test]
fn who_can_not_answer_now_is_told_again() {
    let mut schedule = begun(&[target(1)]);
    let flight = depart(&mut schedule, FIRST, 0);
    schedule.settle(address(1), flight, Outcome::Answered(Rcode::SERVFAIL), at(1));
    assert_eq!((wake(&schedule), state(&schedule).standing.word()), (Some(500), "unanswered"));
    assert_eq!(state(&schedule).standing.reason().unwrap(), "it answers SERVFAIL");
}

#[test]
fn who_comes_and_goes_has_two_lines_a_minute_at_most() {
    let mut schedule = acknowledged();
    let mut news = 0;
    for round in 0..600_u32 {
        let millis = 1000 + u64::from(round) * 1000;
        schedule.commit(Serial(200 + round), at(millis));
        for departure in schedule.depart(at(millis)) {
            schedule.sent(address(1), departure.flight, Serial(200 + round), at(millis));
            let rcode = if news % 2 == 0 { Rcode::REFUSED } else { Rcode::NOERROR };
            let told = schedule.settle(address(1), departure.flight, Outcome::Answered(rcode), at(millis + 1));
            news += u32::from(told.is_some());
        }
    }
    assert!((18..=22).contains(&news), "{news} in ten minutes");
}

#[test]
fn targets_that_stay_keep_their_state_and_new_ones_are_told_at_once() {
    let mut schedule = acknowledged();
    let flight = {
        schedule.commit(Serial(101), at(1000));
        depart(&mut schedule, Serial(101), 1000)
    };
    schedule.set_targets(&[target(1), target(2)], at(1010));
    assert_eq!(schedule.states()[0].acknowledged, Some(FIRST));
    let departures = schedule.depart(at(1010));
    assert_eq!(departures.iter().map(|departure| departure.address).collect::<Vec<_>>(), [address(2)]);
    schedule.settle(address(1), flight, YES, at(1011));
    schedule.set_targets(&[target(1)], at(1020));
    assert_eq!(schedule.states().len(), 1);
    assert_eq!(schedule.settle(address(2), departures[0].flight, YES, at(1021)), None, "nobody waits for it");
    schedule.set_targets(&[target(1), target(2)], at(1030));
    assert_eq!(schedule.settle(address(2), departures[0].flight, YES, at(1031)), None, "nor in its second life");
    assert_eq!((schedule.states()[1].acknowledged, wake(&schedule)), (None, Some(1030)));
    assert_eq!(schedule.states()[0].acknowledged, Some(Serial(101)));
}

#[test]
fn another_key_is_tried_at_once_where_something_was_wrong() {
    let mut schedule = begun(&[target(1), target(2)]);
    let departures = schedule.depart(at(0));
    for departure in &departures {
        schedule.sent(departure.address, departure.flight, FIRST, at(0));
    }
    schedule.settle(address(1), departures[0].flight, YES, at(1));
    schedule.settle(address(2), departures[1].flight, Outcome::Answered(Rcode::NOTAUTH), at(1));
    let key: Option<Name> = Some("xfer.".parse().unwrap());
    let keyed = |last| Target { key: key.clone(), ..target(last) };
    schedule.set_targets(&[keyed(1), keyed(2)], at(50));
    let departures = schedule.depart(at(50));
    assert_eq!((departures.len(), departures[0].address, &departures[0].key), (1, address(2), &key));
    schedule.settle(address(2), departures[0].flight, Outcome::Missed(Miss::NoKey("xfer.".parse().unwrap())), at(51));
    assert_eq!(wake(&schedule), Some(550));
    schedule.try_again(at(60));
    assert_eq!(wake(&schedule), Some(60));
}

#[test]
fn this_server_is_not_told_and_not_shown() {
    let mut schedule = begun(&[target(1)]);
    let flight = schedule.depart(at(0))[0].flight;
    assert_eq!(schedule.settle(address(1), flight, Outcome::Own, at(1)), None);
    schedule.commit(Serial(101), at(1000));
    assert_eq!((wake(&schedule), schedule.states()), (None, Vec::new()));
    schedule.set_targets(&[target(1)], at(2000));
    assert_eq!(wake(&schedule), Some(2000), "addresses move");
}
