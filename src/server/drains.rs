//! When it is safe to stop a member that drains.
//!
//! Its SRV record is gone with the commit that drained it; caches have it for the TTL that it was served with, from when the
//! last server stopped to serve it. So it is safe once every listed secondary serves that commit or a later one, and the TTL
//! and a second more have passed. Secondaries are asked for their SOA records while somebody waits for them; one that never
//! answers ends the wait at the zone's `drain-timeout`, and is named.
//!
//! This covers caches that keep to TTLs, and clients that ask again when those end. It says nothing of connections.
//!
//! What is waited for is kept in memory: after a restart a member that drains is waited for anew, from the commit that the zone
//! has then, which is later and never too early.
//!
//! Bounds: [`DRAINS`] members at a time; at the limit the oldest is forgotten, and waited for anew when it is asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::base::{Epoch, Monotonic, Name, Now, SeededMap, Serial, Ttl, Wall};
use crate::membership::MemberId;
use crate::net::ask::ask;

use super::clock::Clock;

/// Members that are waited for: every member of a large service at once.
const DRAINS: usize = 4096;
/// How often secondaries are asked that are waited for.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// What is added to the TTL: clients count in whole seconds.
const MARGIN: Duration = Duration::from_secs(1);

/// The member that drains.
type Key = (Name, Name, MemberId);

/// What a zone lays down about draining.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Terms {
    /// The servers that must have the commit.
    pub(super) secondaries: Vec<SocketAddr>,
    /// How long they are waited for.
    pub(super) timeout: Duration,
    /// The TTL that the member's records were served with last.
    pub(super) ttl: Ttl,
    /// The TTL before that, if it was lowered, and since when it is no more.
    pub(super) lowered: Option<(Ttl, Monotonic)>,
}

/// A member that drains.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Drain {
    /// Since when it drains: it may be brought back, and drain again.
    since: Box<str>,
    /// The first epoch without it.
    epoch: Epoch,
    began: Now,
    terms: Terms,
    /// Since when each secondary is known to serve the commit.
    served: BTreeMap<SocketAddr, Monotonic>,
}

/// How a member that drains stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    /// When it is safe to stop it, and how far that is away; not known yet while servers are waited for.
    pub(super) safe_at: Option<Wall>,
    pub(super) safe_in: Option<Duration>,
    /// The servers that don't serve the commit yet, or didn't by the end of the wait.
    pub(super) waiting_for: Vec<SocketAddr>,
    /// Whether the wait ended without them.
    pub(super) timed_out: bool,
}

impl Drain {
    fn missing(&self) -> Vec<SocketAddr> {
        let missing = |server: &&SocketAddr| !self.served.contains_key(server);
        self.terms.secondaries.iter().filter(missing).copied().collect()
    }

    fn standing(&self, now: Monotonic) -> Standing {
        let waiting_for = self.missing();
        let end = self.began.mono.after(self.terms.timeout);
        let timed_out = !waiting_for.is_empty() && now >= end;
        let last = self.served.values().copied().fold(self.began.mono, Monotonic::max);
        let last = if timed_out { last.max(end) } else { last };
        let gone = |from: Monotonic, ttl: Ttl| from.after(Duration::from_secs(ttl.0.into()) + MARGIN);
        // A secondary may have served the former TTL until it had the commit, or as long as it is waited for at most.
        let lowered = self.terms.lowered.map(|(ttl, at)| match self.terms.secondaries.is_empty() {
            true => gone(at, ttl),
            false => gone(last.min(at.after(self.terms.timeout)), ttl),
        });
        let safe = gone(last, self.terms.ttl).max(lowered.unwrap_or(last));
        let known = waiting_for.is_empty() || timed_out;
        Standing {
            safe_at: known.then(|| self.began.wall.after(safe.since(self.began.mono))),
            safe_in: known.then(|| safe.since(now)),
            waiting_for,
            timed_out,
        }
    }

    fn hear(&mut self, server: SocketAddr, serial: Serial, now: Monotonic) {
        let drained = self.epoch.serial();
        if serial >= drained {
            self.served.entry(server).or_insert(now);
        }
    }
}

/// The members that drain, of all zones.
#[derive(Debug, Default)]
pub(super) struct Drains {
    members: Mutex<SeededMap<Key, Drain>>,
    changed: Notify,
}

impl Drains {
    /// How a member stands that drains since this epoch; begins to wait for it, if that is news.
    pub(super) fn standing(&self, key: Key, since: &str, epoch: Epoch, terms: &Terms, now: Now) -> Standing {
        let mut members = self.members.lock().expect("no panic holds it");
        if members.get(&key).is_some_and(|drain| *drain.since != *since) {
            members.remove(&key);
        }
        if !members.contains_key(&key) && members.len() >= DRAINS {
            let oldest = members.iter().min_by_key(|(_, drain)| drain.began.mono).map(|(key, _)| key.clone());
            oldest.into_iter().for_each(|key| drop(members.remove(&key)));
        }
        let begin = || {
            self.changed.notify_one();
            Drain { since: since.into(), epoch, began: now, terms: terms.clone(), served: BTreeMap::new() }
        };
        let drain = members.entry(key).or_insert_with(begin);
        if drain.terms.secondaries != terms.secondaries {
            self.changed.notify_one();
        }
        // A secondary that the configuration has no more is not waited for, and a new one is.
        drain.terms.secondaries.clone_from(&terms.secondaries);
        drain.terms.timeout = terms.timeout;
        drain.standing(now.mono)
    }

    /// A member drains no longer.
    pub(super) fn end(&self, key: &Key) {
        self.members.lock().expect("no panic holds it").remove(key);
    }

    /// Whom to ask for which zones.
    fn questions(&self, now: Monotonic) -> BTreeMap<SocketAddr, Vec<Name>> {
        let members = self.members.lock().expect("no panic holds it");
        let mut questions: BTreeMap<SocketAddr, Vec<Name>> = BTreeMap::new();
        for ((zone, ..), drain) in members.iter().filter(|(_, drain)| !drain.standing(now).timed_out) {
            for server in drain.missing() {
                let zones = questions.entry(server).or_default();
                if !zones.contains(zone) {
                    zones.push(zone.clone());
                }
            }
        }
        questions
    }

    fn hear(&self, server: SocketAddr, zone: &Name, serial: Serial, now: Monotonic) {
        let mut members = self.members.lock().expect("no panic holds it");
        let of_zone = members.iter_mut().filter(|((of, ..), _)| of == zone);
        of_zone.for_each(|(_, drain)| drain.hear(server, serial, now));
    }

    /// Asks secondaries while they are waited for, until `stop` turns. We listen at these addresses.
    pub(super) async fn run(
        self: Arc<Drains>,
        clock: Arc<dyn Clock>,
        listening: Arc<[SocketAddr]>,
        mut stop: watch::Receiver<bool>,
    ) {
        let work = async {
            loop {
                let questions = self.questions(clock.now().mono);
                if questions.is_empty() {
                    self.changed.notified().await;
                    continue;
                }
                let asked = questions.into_iter().map(|(server, zones)| {
                    let (drains, clock, listening) = (self.clone(), clock.clone(), listening.clone());
                    tokio::spawn(async move {
                        let told = ask(server, &zones, &listening, Instant::now() + ANSWER).await;
                        let now = clock.now().mono;
                        match told {
                            Some(told) => {
                                let heard = zones.iter().zip(told).filter_map(|(zone, told)| Some((zone, told.ok()?)));
                                heard.for_each(|(zone, serial)| drains.hear(server, zone, serial, now));
                            }
                            // It is us, who serve every commit that we tell of.
                            None => zones.iter().for_each(|zone| drains.hear_own(server, zone, now)),
                        }
                    })
                });
                for asking in asked.collect::<Vec<_>>() {
                    let _ = asking.await; // a panic there is told by the supervision of panics
                }
                sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    fn hear_own(&self, server: SocketAddr, zone: &Name, now: Monotonic) {
        let mut members = self.members.lock().expect("no panic holds it");
        let of_zone = members.iter_mut().filter(|((of, ..), _)| of == zone);
        of_zone.for_each(|(_, drain)| {
            drain.served.entry(server).or_insert(now);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Monotonic(seconds * 1000), wall: Wall(1_000_000_000 + seconds * 1000) }
    }

    fn key(id: &str) -> Key {
        ("z.".parse().unwrap(), "_x._tcp.z.".parse().unwrap(), MemberId::new(id).unwrap())
    }

    fn server(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 53))
    }

    fn terms(secondaries: &[u8]) -> Terms {
        let secondaries = secondaries.iter().map(|&last| server(last)).collect();
        Terms { secondaries, timeout: Duration::from_secs(60), ttl: Ttl(5), lowered: None }
    }

    fn standing(drains: &Drains, terms: &Terms, seconds: u64) -> Standing {
        drains.standing(key("a"), "then", Epoch(100), terms, at(seconds))
    }

    #[test]
    fn without_secondaries_it_is_safe_a_ttl_and_a_second_after_the_commit() {
        let drains = Drains::default();
        let expected = |left| Standing {
            safe_at: Some(at(16).wall),
            safe_in: Some(Duration::from_secs(left)),
            waiting_for: Vec::new(),
            timed_out: false,
        };
        assert_eq!(standing(&drains, &terms(&[]), 10), expected(6));
        assert_eq!(standing(&drains, &terms(&[]), 90), expected(0), "it stays as it was promised");
        assert!(drains.questions(at(10).mono).is_empty());
    }

    #[test]
    fn it_is_safe_once_the_last_secondary_serves_the_commit_or_a_later_one() {
        let (drains, terms) = (Drains::default(), terms(&[1, 2]));
        let zone: Name = "z.".parse().unwrap();
        assert_eq!(standing(&drains, &terms, 10).waiting_for, [server(1), server(2)]);
        drains.hear(server(1), &zone, Serial(99), at(11).mono);
        drains.hear(server(2), &zone, Serial(101), at(12).mono);
        assert_eq!(drains.questions(at(12).mono), [(server(1), vec![zone.clone()])].into());
        let waiting = standing(&drains, &terms, 13);
        assert_eq!((waiting.safe_at, waiting.waiting_for), (None, vec![server(1)]));
        drains.hear(server(1), &zone, Serial(100), at(20).mono);
        drains.hear(server(1), &zone, Serial(105), at(30).mono);
        let safe = standing(&drains, &terms, 40);
        assert_eq!((safe.safe_at, safe.waiting_for, safe.timed_out), (Some(at(26).wall), Vec::new(), false));
        assert!(drains.questions(at(40).mono).is_empty());
    }

    #[test]
    fn a_secondary_that_never_has_it_ends_the_wait_and_is_named() {
        let (drains, terms) = (Drains::default(), terms(&[1]));
        standing(&drains, &terms, 10);
        assert_eq!(standing(&drains, &terms, 69).safe_at, None);
        let ended = standing(&drains, &terms, 70);
        assert_eq!((ended.safe_at, ended.waiting_for, ended.timed_out), (Some(at(76).wall), vec![server(1)], true));
        assert!(drains.questions(at(70).mono).is_empty(), "nobody asks for ever");
    }

    #[test]
    fn records_with_the_ttl_of_before_it_was_lowered_are_waited_for_too() {
        let safe = |terms: Terms, heard: Option<u64>| {
            let drains = Drains::default();
            standing(&drains, &terms, 10);
            heard.into_iter().for_each(|at_second| {
                drains.hear(server(1), &"z.".parse().unwrap(), Serial(100), at(at_second).mono);
            });
            standing(&drains, &terms, 30).safe_at
        };
        let lowered = |ttl, at_second| Some((Ttl(ttl), at(at_second).mono));
        assert_eq!(safe(Terms { lowered: lowered(300, 8), ..terms(&[]) }, None), Some(at(309).wall));
        assert_eq!(safe(Terms { lowered: lowered(3, 8), ..terms(&[]) }, None), Some(at(16).wall), "it is over before");
        // A secondary served it until it had the commit, perhaps.
        assert_eq!(safe(Terms { lowered: lowered(300, 8), ..terms(&[1]) }, Some(20)), Some(at(321).wall));
    }

    #[test]
    fn a_member_that_was_brought_back_and_drains_again_is_waited_for_anew() {
        let (drains, terms) = (Drains::default(), terms(&[]));
        standing(&drains, &terms, 10);
        let again = drains.standing(key("a"), "later", Epoch(103), &terms, at(20));
        assert_eq!(again.safe_at, Some(at(26).wall));
        drains.end(&key("a"));
        assert_eq!(standing(&drains, &terms, 30).safe_at, Some(at(36).wall));
    }

    #[test]
    fn at_the_limit_the_oldest_is_forgotten() {
        let drains = Drains::default();
        for number in 0..=u64::try_from(DRAINS).unwrap() {
            drains.standing(key(&format!("i-{number}")), "then", Epoch(1), &terms(&[]), at(number));
        }
        let members = drains.members.lock().unwrap();
        assert_eq!(members.len(), DRAINS);
        assert!(!members.contains_key(&key("i-0")) && members.contains_key(&key("i-1")));
    }
}
