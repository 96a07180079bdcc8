//! When a copy asks its primary, and until when it is good (RFC 1034 §4.3.5, RFC 1996 §4): a pure state machine that is told
//! what happened, and says what is due.

use std::time::Duration;

use crate::base::Monotonic;
use crate::zone::Settings;

/// The shortest time between two rounds of asking: a zone may well say 0.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest time without asking: a zone may say 68 years.
const LONGEST: Duration = Duration::from_secs(4 * 7 * 86_400);
/// The longest that a copy is good without its primary, as with BIND: 24 weeks.
const LONGEST_GOOD: Duration = Duration::from_secs(24 * 7 * 86_400);
/// The least time from the beginning of a round to one that NOTIFY asks for: anybody can send NOTIFY in a primary's name,
/// and livezone as a primary tells no more often.
const GAP: Duration = Duration::from_millis(50);
/// How often it is noted in the store, at most, that a primary has the copy as it is here: a crash makes a copy look older
/// by so much.
const LONGEST_NOTE: Duration = Duration::from_secs(10);
/// How long a server that has nothing to show waits at most before it asks again.
const LONGEST_WITHOUT: Duration = Duration::from_secs(60);

/// The timers of a zone, from its SOA record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timers {
    refresh: Duration,
    retry: Duration,
    expire: Duration,
}

impl Timers {
    /// As the zone has them, within reason. A zone whose refresh time is not well below its expire time is asked for more
    /// often, so that it does not lapse while its primary is there.
    pub(super) fn of(settings: &Settings) -> Timers {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let expire = seconds(settings.expire).clamp(2 * SHORTEST, LONGEST_GOOD);
        let within = |time: u32| seconds(time).clamp(SHORTEST, LONGEST).min(expire / 2);
        Timers { refresh: within(settings.refresh), retry: within(settings.retry), expire }
    }

    /// How often it is noted that a primary has the copy as it is here: a small part of the time for which that counts.
    pub(super) fn note_interval(self) -> Duration {
        LONGEST_NOTE.min(self.expire / 8)
    }

    /// How long the store may take for a write, `most` if there is time: nothing is asked meanwhile, and the copy must not
    /// lapse by that.
    pub(super) fn write_patience(self, most: Duration) -> Duration {
        most.min(self.expire / 4)
    }
}

/// What the schedule knows.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Of the copy that is there.
    copy: Option<Copy>,
    next: Monotonic,
    /// Rounds in which nobody answered, since somebody did.
    failures: u32,
    /// A NOTIFY came while a round was under way, and may tell of what that has not seen.
    again: bool,
    /// Whether a round is under way.
    asking: bool,
    /// When the last round began.
    began: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug)]
struct Copy {
    timers: Timers,
    /// Until when it is good: so long after its primary was last known to have it so.
    expires: Monotonic,
}

impl Schedule {
    /// A schedule that begins to ask at once. `copy` is what there is: its timers, and how long ago its primary was known to
    /// have it so.
    pub(super) fn new(copy: Option<(Timers, Duration)>, now: Monotonic) -> Schedule {
        let copy = copy.map(|(timers, age)| Copy { timers, expires: now.after(timers.expire.saturating_sub(age)) });
        Schedule { copy, next: now, failures: 0, again: false, asking: false, began: None }
    }

    /// When the next round is due; none while one is under way.
    pub(super) fn next(&self) -> Option<Monotonic> {
        (!self.asking).then_some(self.next)
    }

    /// Until when the copy is good; none if there is none.
    pub(super) fn expires(&self) -> Option<Monotonic> {
        self.copy.map(|copy| copy.expires)
    }

    /// How long ago the copy was new, so that it is good for its whole expire time from then on.
    pub(super) fn age(&self, now: Monotonic) -> Duration {
        self.copy.map_or(Duration::ZERO, |copy| copy.timers.expire.saturating_sub(copy.expires.since(now)))
    }

    /// Whether there is a copy that is good.
    pub(super) fn is_good(&self, now: Monotonic) -> bool {
        self.expires().is_some_and(|end| now < end)
    }

    /// A round begins.
    pub(super) fn begin(&mut self, now: Monotonic) {
        (self.asking, self.again, self.began) = (true, false, Some(now));
    }

    /// The primary says that the zone has changed.
    pub(super) fn notify(&mut self, now: Monotonic) {
        if self.asking {
            self.again = true;
        } else {
            self.next = self.next.min(self.soon(now));
        }
    }

    /// As soon as NOTIFY may have it.
    fn soon(&self, now: Monotonic) -> Monotonic {
        self.began.map_or(now, |began| began.after(GAP).max(now))
    }

    /// The round under way ended: somebody has the copy just as it is here, which has these timers. `left` is for how long
    /// that one has it as good, if it is a copy itself: it prolongs ours by no more, or two that ask each other would keep
    /// each other alive without end (RFC 7314 §4).
    pub(super) fn succeed(&mut self, timers: Timers, left: Option<Duration>, now: Monotonic) {
        let good = now.after(timers.expire.min(left.unwrap_or(timers.expire)));
        // What somebody else said before may well go further.
        let before = self.copy.map_or(good, |copy| copy.expires.min(now.after(timers.expire)));
        self.copy = Some(Copy { timers, expires: good.max(before) });
        self.failures = 0;
        self.next = if self.again { self.soon(now) } else { now.after(timers.refresh) };
        (self.asking, self.again) = (false, false);
    }

    /// The round under way ended: nobody had anything.
    pub(super) fn fail(&mut self, now: Monotonic) {
        // Whoever waits for a first copy should have it soon after its primary came up.
        let growing = SHORTEST.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WITHOUT);
        let pause = match self.copy {
            Some(copy) if self.is_good(now) => copy.timers.retry,
            // Nor is one that has expired asked for less often than before.
            Some(copy) => growing.min(copy.timers.retry),
            None => growing,
        };
        self.failures = self.failures.saturating_add(1);
        self.next = if self.again { self.soon(now) } else { now.after(pause) };
        (self.asking, self.again) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMERS: Timers =
        Timers { refresh: Duration::from_secs(30), retry: Duration::from_secs(5), expire: Duration::from_secs(100) };

    fn at(seconds: u64) -> Monotonic {
        Monotonic(1_000_000 + seconds * 1000)
    }

    #[test]
    fn a_new_copy_is_asked_for_at_once_and_again_with_growing_pauses() {
        let mut schedule = Schedule::new(None, at(0));
        assert_eq!((schedule.next(), schedule.expires()), (Some(at(0)), None));
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            schedule.begin(at(now));
            assert_eq!(schedule.next(), None, "one round at a time");
            schedule.fail(at(now));
            let next = schedule.next().unwrap().since(at(now)).as_secs();
            pauses.push(next);
            now += next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.begin(at(now));
        schedule.succeed(TIMERS, None, at(now));
        assert_eq!(schedule.next(), Some(at(now + 30)));
        assert_eq!(schedule.expires(), Some(at(now + 100)));
    }

    #[test]
    fn a_copy_is_asked_for_by_refresh_and_retry_and_ends_at_expire() {
        let mut schedule = Schedule::new(None, at(0));
        schedule.begin(at(0));
        schedule.succeed(TIMERS, None, at(0));
        for now in [30, 35, 40, 95] {
            schedule.begin(at(now));
            schedule.fail(at(now));
            assert_eq!(schedule.next(), Some(at(now + 5)));
            assert_eq!(schedule.expires(), Some(at(100)), "nobody had it since");
        }
        assert!(schedule.is_good(at(99)) && !schedule.is_good(at(100)));
        for now in [100, 105, 5000] {
            schedule.begin(at(now));
            schedule.fail(at(now));
            assert!(schedule.next().unwrap() <= at(now + 5), "it is missed the more");
        }
        schedule.begin(at(6000));
        schedule.succeed(TIMERS, None, at(6000));
        assert!(schedule.is_good(at(6099)));
    }

    #[test]
    fn two_copies_that_ask_each_other_expire_all_the_same() {
        let (mut one, mut other) = (Schedule::new(None, at(0)), Schedule::new(None, at(0)));
        one.succeed(TIMERS, None, at(0));
        other.succeed(TIMERS, Some(Duration::from_secs(100)), at(0));
        for now in (10..=90).step_by(10) {
            let left = |of: &Schedule| Some(of.expires().unwrap().since(at(now)));
            one.succeed(TIMERS, left(&other), at(now));
            other.succeed(TIMERS, left(&one), at(now));
        }
        assert_eq!((one.expires(), other.expires()), (Some(at(100)), Some(at(100))));
        assert_eq!(one.age(at(90)), Duration::from_secs(90));
        // One that knows less than we do takes nothing away, and the primary itself gives all of it.
        one.succeed(TIMERS, Some(Duration::from_secs(1)), at(90));
        assert_eq!(one.expires(), Some(at(100)));
        one.succeed(TIMERS, Some(Duration::from_secs(5000)), at(95));
        assert_eq!((one.expires(), one.age(at(95))), (Some(at(195)), Duration::ZERO));
    }

    #[test]
    fn a_copy_from_before_a_restart_is_as_old_as_it_is() {
        let schedule = Schedule::new(Some((TIMERS, Duration::from_secs(60))), at(0));
        assert_eq!((schedule.next(), schedule.expires()), (Some(at(0)), Some(at(40))));
        let schedule = Schedule::new(Some((TIMERS, Duration::from_secs(5000))), at(0));
        assert!(!schedule.is_good(at(0)));
        assert_eq!(schedule.next(), Some(at(0)));
    }

    #[test]
    fn a_notify_is_heeded_at_once_or_right_after_the_round_under_way() {
        let mut schedule = Schedule::new(None, at(0));
        schedule.begin(at(0));
        schedule.succeed(TIMERS, None, at(0));
        schedule.notify(at(7));
        assert_eq!(schedule.next(), Some(at(7)));
        schedule.begin(at(7));
        schedule.notify(at(8));
        schedule.notify(at(8));
        assert_eq!(schedule.next(), None);
        schedule.succeed(TIMERS, None, at(9));
        assert_eq!(schedule.next(), Some(at(9)));
        schedule.begin(at(9));
        schedule.succeed(TIMERS, None, at(10));
        assert_eq!(schedule.next(), Some(at(40)), "many are one");
        schedule.begin(at(40));
        schedule.notify(at(41));
        schedule.fail(at(42));
        assert_eq!(schedule.next(), Some(at(42)));
    }

    #[test]
    fn a_flood_of_notify_makes_twenty_rounds_a_second_at_most() {
        let mut schedule = Schedule::new(None, at(0));
        let (mut now, mut rounds) = (at(0), 0);
        while now < at(10) {
            schedule.notify(now);
            if schedule.next().unwrap() <= now {
                schedule.begin(now);
                rounds += 1;
                schedule.notify(now);
                if rounds % 2 == 0 { schedule.succeed(TIMERS, None, now) } else { schedule.fail(now) }
            }
            now = now.after(Duration::from_millis(1));
        }
        assert_eq!(rounds, 200);
    }

    #[test]
    fn timers_are_within_reason() {
        let with = |refresh, retry, expire| {
            let scene = crate::zone::scenes::Universe::new("z.").settings();
            let timers = Timers::of(&Settings { refresh, retry, expire, ..(*scene).clone() });
            (timers.refresh, timers.retry, timers.expire)
        };
        let seconds = Duration::from_secs;
        assert_eq!(with(0, 0, u32::MAX), (SHORTEST, SHORTEST, LONGEST_GOOD));
        assert_eq!(with(u32::MAX, u32::MAX, 3_600_000), (seconds(1_800_000), seconds(1_800_000), seconds(3_600_000)));
        assert_eq!(with(86_400, 60, 3600), (seconds(1800), seconds(60), seconds(3600)), "asked for before it lapses");
        assert_eq!(with(5, 5, 0), (seconds(1), seconds(1), seconds(2)));
    }

    #[test]
    fn a_short_lived_copy_is_noted_often() {
        let timers = |expire| Timers { expire: Duration::from_secs(expire), ..TIMERS };
        assert_eq!(timers(3600).note_interval(), Duration::from_secs(10));
        assert_eq!(timers(4).note_interval(), Duration::from_millis(500));
    }
}
