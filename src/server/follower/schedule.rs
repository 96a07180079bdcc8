//! When a copy asks its primary, and until when it is good (RFC 1034 §4.3.5, RFC 1996 §4): a pure state machine that is told
//! what happened, and says what is due.

use std::time::Duration;

use crate::base::Monotonic;
use crate::zone::Settings;

/// The shortest time between two rounds of asking: a zone may well say 0.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest time without asking, and the longest that a copy is good without its primary: a zone may say 68 years.
const LONGEST: Duration = Duration::from_secs(4 * 7 * 86_400);
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
    /// As the zone has them, within reason.
    pub(super) fn of(settings: &Settings) -> Timers {
        let within = |seconds: u32| Duration::from_secs(seconds.into()).clamp(SHORTEST, LONGEST);
        Timers { refresh: within(settings.refresh), retry: within(settings.retry), expire: within(settings.expire) }
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
        Schedule { copy, next: now, failures: 0, again: false, asking: false }
    }

    /// When the next round is due; none while one is under way.
    pub(super) fn next(&self) -> Option<Monotonic> {
        (!self.asking).then_some(self.next)
    }

    /// Until when the copy is good; none if there is none.
    pub(super) fn expires(&self) -> Option<Monotonic> {
        self.copy.map(|copy| copy.expires)
    }

    /// Whether there is a copy that is good.
    pub(super) fn is_good(&self, now: Monotonic) -> bool {
        self.expires().is_some_and(|end| now < end)
    }

    /// A round begins.
    pub(super) fn begin(&mut self) {
        (self.asking, self.again) = (true, false);
    }

    /// The primary says that the zone has changed.
    pub(super) fn notify(&mut self, now: Monotonic) {
        if self.asking {
            self.again = true;
        } else {
            self.next = self.next.min(now);
        }
    }

    /// The round under way ended: somebody has the copy just as it is here, which has these timers.
    pub(super) fn succeed(&mut self, timers: Timers, now: Monotonic) {
        self.copy = Some(Copy { timers, expires: now.after(timers.expire) });
        self.failures = 0;
        self.next = if self.again { now } else { now.after(timers.refresh) };
        (self.asking, self.again) = (false, false);
    }

    /// The round under way ended: nobody had anything.
    pub(super) fn fail(&mut self, now: Monotonic) {
        let pause = match self.copy {
            Some(copy) if self.is_good(now) => copy.timers.retry,
            // Whoever waits for a first copy should have it soon after its primary came up.
            _ => SHORTEST.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WITHOUT),
        };
        self.failures = self.failures.saturating_add(1);
        self.next = if self.again { now } else { now.after(pause) };
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
            schedule.begin();
            assert_eq!(schedule.next(), None, "one round at a time");
            schedule.fail(at(now));
            let next = schedule.next().unwrap().since(at(now)).as_secs();
            pauses.push(next);
            now += next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.begin();
        schedule.succeed(TIMERS, at(now));
        assert_eq!(schedule.next(), Some(at(now + 30)));
        assert_eq!(schedule.expires(), Some(at(now + 100)));
    }

    #[test]
    fn a_copy_is_asked_for_by_refresh_and_retry_and_ends_at_expire() {
        let mut schedule = Schedule::new(None, at(0));
        schedule.begin();
        schedule.succeed(TIMERS, at(0));
        for now in [30, 35, 40, 95] {
            schedule.begin();
            schedule.fail(at(now));
            assert_eq!(schedule.next(), Some(at(now + 5)));
            assert_eq!(schedule.expires(), Some(at(100)), "nobody had it since");
        }
        assert!(schedule.is_good(at(99)) && !schedule.is_good(at(100)));
        schedule.begin();
        schedule.succeed(TIMERS, at(120));
        assert!(schedule.is_good(at(219)));
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
        schedule.begin();
        schedule.succeed(TIMERS, at(0));
        schedule.notify(at(7));
        assert_eq!(schedule.next(), Some(at(7)));
        schedule.begin();
        schedule.notify(at(8));
        schedule.notify(at(8));
        assert_eq!(schedule.next(), None);
        schedule.succeed(TIMERS, at(9));
        assert_eq!(schedule.next(), Some(at(9)));
        schedule.begin();
        schedule.succeed(TIMERS, at(10));
        assert_eq!(schedule.next(), Some(at(40)), "many are one");
        schedule.begin();
        schedule.notify(at(41));
        schedule.fail(at(42));
        assert_eq!(schedule.next(), Some(at(42)));
    }

    #[test]
    fn timers_are_within_reason() {
        let settings = Settings {
            refresh: 0,
            retry: 0,
            expire: u32::MAX,
            ..(*crate::zone::scenes::Universe::new("z.").settings()).clone()
        };
        let timers = Timers::of(&settings);
        assert_eq!((timers.refresh, timers.retry, timers.expire), (SHORTEST, SHORTEST, LONGEST));
    }
}
