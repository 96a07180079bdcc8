//! NOTIFY, the side that tells (RFC 1996): secondaries learn of a commit at once, and need not wait for their refresh time.
//!
//! **Whom.** The listed secondaries, each with its key; and on port 53 the targets of the apex's static NS records but for the
//! one that is `soa.primary` (RFC 1996 §2.1): those inside the zone at their static addresses, the others at those that the
//! system's resolver has. An address that is listed and a name server's counts once, as it is listed. Never this server
//! itself. A reload changes the targets; those that stay keep their state.
//!
//! **When.** After each commit that is visible, and once at the start (RFC 1996 §4.1), since the zone may have changed while
//! the server was down. [`schedule`] decides, and is tested without sockets. One request is in flight a target, with the
//! serial that is the newest when it is sent: a storm of commits is 20 requests a second at most, and the last one tells the
//! last serial. What is not answered is sent again with growing pauses.
//!
//! **How.** A datagram each, from a socket of its own, which lives as long as its answer is waited for. With a key it is
//! signed, and its answer counts only if it is signed as well; unsigned it never goes out instead.
//!
//! One task a zone, which a publisher tells of commits by a `watch`: that neither waits nor queues. Requests on their way
//! are tasks of that task, and end with it.
//!
//! Bounds: `PROMPT` and `PATIENT` sockets for the whole server, `LOOK_UPS` names looked up at the same moment; who
//! finds none free waits for its turn. Targets: those that a zone may list, and the name servers of
//! `server::name_servers`.

pub mod schedule;

use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::base::{Name, NameMap, NameSet, Serial};
use crate::config::Secondary;
use crate::dns::notify;
use crate::dns::transaction::Transaction;
use crate::dns::tsig::Keys;
use crate::net::peer;
use crate::zone::Record;
use crate::zone::settings::serial_of;

use super::clock::Clock;
use super::name_servers;
use super::reading::Ready;

use schedule::{Departure, Flight, News, Outcome, Schedule};
pub use schedule::{Miss, NotifyState, Standing, Target};

/// Sockets for targets that answer: they are needed for a moment each.
const PROMPT: usize = 64;
/// Sockets for targets that have been silent for a while, so that they hold up none that answers.
const PATIENT: usize = 16;
/// Names looked up at the same moment, each of which takes a thread.
const LOOK_UPS: usize = 16;
/// How long the system's resolver may take: longer than it tries.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(60);
/// How long a name server's addresses are good: they move rarely, and the secondary asks by itself meanwhile.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(600);
/// The same after a look-up that failed; the addresses known before stay.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(60);

/// The SOA record of the newest commit that is visible; none before the first.
pub type Newest = Option<Arc<Record>>;

/// What the notifiers of a server share.
#[derive(Debug)]
pub struct Shared {
    listening: Vec<SocketAddr>,
    clock: Arc<dyn Clock>,
    keys: watch::Sender<Keys>,
    prompt: Semaphore,
    patient: Semaphore,
    look_ups: Semaphore,
}

impl Shared {
    /// For a server that listens there, and has these keys.
    pub fn new(listening: Vec<SocketAddr>, clock: Arc<dyn Clock>, keys: Keys) -> Arc<Shared> {
        Arc::new(Shared {
            listening,
            clock,
            keys: watch::Sender::new(keys),
            prompt: Semaphore::new(PROMPT),
            patient: Semaphore::new(PATIENT),
            look_ups: Semaphore::new(LOOK_UPS),
        })
    }

    /// The keys, as they change.
    pub fn keys(&self) -> watch::Receiver<Keys> {
        self.keys.subscribe()
    }

    /// Replaces the keys: whatever is sent from now on is signed with these. If they differ, what was wrong is tried again.
    pub fn set_keys(&self, keys: Keys) {
        replace(&self.keys, keys);
    }
}

/// Whom a zone's configuration wants to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audience {
    listed: Vec<Secondary>,
    addresses: Vec<SocketAddr>,
    names: Vec<Name>,
}

impl Audience {
    /// As the zone's files have it.
    pub fn of(ready: &Ready) -> Audience {
        let mut servers = name_servers::names(ready);
        servers.retain(|name| *name != ready.zone.settings.primary);
        let (addresses, names) = name_servers::locate(ready, servers);
        Audience { listed: ready.zone.secondaries.clone(), addresses, names }
    }

    /// The targets, with what is known of the names, each address once.
    fn targets(&self, found: &NameMap<Vec<SocketAddr>>) -> Vec<Target> {
        let listed = self.listed.iter().map(|secondary| Target {
            address: secondary.address,
            key: secondary.key.clone(),
            is_listed: true,
        });
        let mut targets: Vec<Target> = listed.collect();
        let located = self.names.iter().filter_map(|name| found.get(name)).flatten();
        for &address in self.addresses.iter().chain(located) {
            if !targets.iter().any(|target| target.address == address) {
                targets.push(Target { address, key: None, is_listed: false });
            }
        }
        targets
    }
}

/// What became of NOTIFY to the targets of a zone, for whoever wants to show it. A clone is one pointer.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<Mutex<Schedule>>);

impl Notices {
    /// The state of each target, by address.
    pub fn states(&self) -> Vec<NotifyState> {
        self.lock().states()
    }

    /// A transfer to this address has come to its end, with this serial.
    pub fn transferred(&self, address: IpAddr, serial: Serial) {
        self.lock().transferred(address, serial);
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.0.lock().expect("no panic holds it")
    }
}

/// The notifier of a running zone.
#[derive(Debug)]
pub struct Notifier {
    notices: Notices,
    audience: watch::Sender<Audience>,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Notifier {
    /// Starts a zone's notifier. It tells nothing before [`Notifier::open`], and ends when `stop` turns.
    pub fn start(
        shared: Arc<Shared>,
        audience: Audience,
        newest: watch::Receiver<Newest>,
        stop: watch::Receiver<bool>,
    ) -> Notifier {
        let notices = Notices::default();
        let (audience, wanted) = watch::channel(audience);
        let (open, opened) = watch::channel(false);
        let keys = shared.keys.subscribe();
        let driver = Driver {
            shared,
            notices: notices.clone(),
            audience: wanted,
            newest,
            keys,
            found: NameMap::default(),
            sought: NameSet::default(),
            look_up_at: Instant::now(),
            tasks: JoinSet::new(),
        };
        Notifier { notices, audience, open, task: tokio::spawn(driver.run(opened, stop)) }
    }

    /// The zone is served from now on: whoever is told can ask.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Replaces whom to tell.
    pub fn set_audience(&self, audience: Audience) {
        replace(&self.audience, audience);
    }

    /// Where its states can be seen.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Waits for its end, after it was told to stop.
    pub async fn join(self, zone: &Name) {
        if let Err(error) = self.task.await {
            tracing::error!(%zone, %error, "a notifier ended badly");
        }
    }

    /// Ends it as a crash does.
    #[cfg(test)]
    pub async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Puts a value in the place of another, and tells of it if it differs: a reload that changes nothing is no news.
pub(super) fn replace<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let differs = *current != value;
        *current = value;
        differs
    });
}

/// What drives a schedule.
struct Driver {
    shared: Arc<Shared>,
    notices: Notices,
    audience: watch::Receiver<Audience>,
    newest: watch::Receiver<Newest>,
    keys: watch::Receiver<Keys>,
    /// Where the name servers outside of the zone are.
    found: NameMap<Vec<SocketAddr>>,
    /// Those that were looked up, or are.
    sought: NameSet,
    look_up_at: Instant,
    tasks: JoinSet<Done>,
}

/// What came of a task.
enum Done {
    Told(SocketAddr, Flight, Outcome),
    /// The addresses of a name server, if the resolver has them.
    Found(Name, io::Result<Vec<SocketAddr>>),
}

impl Driver {
    async fn run(mut self, mut open: watch::Receiver<bool>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            _ = open.wait_for(|open| *open) => {}
        }
        self.audience.mark_changed();
        self.newest.mark_changed();
        loop {
            self.depart();
            let wake = self.next_wake();
            let looks_up = !self.audience.borrow().names.is_empty();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Ok(()) = self.audience.changed() => self.aim(),
                Ok(()) = self.keys.changed() => self.notices.lock().try_again(self.shared.clock.now()),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.heed(done),
                    Err(error) => tracing::error!(%error, "a NOTIFY ended badly"),
                },
                Ok(()) = self.newest.changed() => self.commit(),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                () = sleep_until(self.look_up_at), if looks_up => self.look_up(),
            }
        }
        self.tasks.shutdown().await;
    }

    /// Sends what is due on its way.
    fn depart(&mut self) {
        for departure in self.notices.lock().depart(self.shared.clock.now()) {
            let (shared, notices, newest) = (self.shared.clone(), self.notices.clone(), self.newest.clone());
            self.tasks.spawn(async move {
                let (address, flight) = (departure.address, departure.flight);
                let outcome = tell(&shared, &notices, newest, departure).await;
                Done::Told(address, flight, outcome.unwrap_or_else(Outcome::Missed))
            });
        }
    }

    /// When to look at the schedule again; a millisecond more, since the clocks are cut to whole ones.
    fn next_wake(&self) -> Option<Instant> {
        let (start, now) = (Instant::now(), self.shared.clock.now().mono);
        let due = self.notices.lock().next_wake();
        due.map(|at| start + at.since(now) + Duration::from_millis(1))
    }

    /// Sets the targets. Names that were never looked up are, at once.
    fn aim(&mut self) {
        let audience = self.audience.borrow_and_update().clone();
        self.found.retain(|name, _| audience.names.contains(name));
        self.sought.retain(|name| audience.names.contains(name));
        if audience.names.iter().any(|name| !self.sought.contains(name)) {
            self.look_up_at = Instant::now();
        }
        self.notices.lock().set_targets(&audience.targets(&self.found), self.shared.clock.now());
    }

    fn commit(&self) {
        // The version seen is that of the last `changed`; should it be newer already, this is called again for nothing.
        let serial = self.newest.borrow().as_ref().map(|record| serial_of(record));
        if let Some(serial) = serial {
            self.notices.lock().commit(serial, self.shared.clock.now());
        }
    }

    fn heed(&mut self, done: Done) {
        match done {
            Done::Told(address, flight, outcome) => {
                let news = self.notices.lock().settle(address, flight, outcome, self.shared.clock.now());
                if let Some(news) = news {
                    self.log(address, &news);
                }
            }
            Done::Found(name, Ok(addresses)) => {
                self.found.insert(name, addresses);
                self.aim();
            }
            Done::Found(name, Err(error)) => {
                self.look_up_at = self.look_up_at.min(Instant::now() + LOOK_UP_AGAIN);
                // What was known stays; that nothing is, is said once.
                if let Entry::Vacant(place) = self.found.entry(name) {
                    let name = place.key();
                    tracing::info!(%name, %error, "a name server has no address, so it is not told of commits");
                    place.insert(Vec::new());
                }
            }
        }
    }

    /// Looks the name servers up that are not in the zone, in the background.
    fn look_up(&mut self) {
        self.look_up_at = Instant::now() + LOOK_UP_INTERVAL;
        for name in self.audience.borrow().names.clone() {
            self.sought.insert(name.clone());
            let shared = self.shared.clone();
            self.tasks.spawn(async move {
                let _permit = shared.look_ups.acquire().await.expect("it is never closed");
                let addresses = name_servers::look_up(&name, Instant::now() + LOOK_UP_PATIENCE).await;
                Done::Found(name, addresses)
            });
        }
    }

    fn log(&self, target: SocketAddr, news: &News) {
        let record = self.newest.borrow().clone();
        let Some(zone) = record.as_ref().map(|record| &record.owner) else { return };
        match news {
            News::Acknowledged(serial) => tracing::info!(%zone, %target, %serial, "NOTIFY is acknowledged"),
            News::Silent(reason) => tracing::warn!(%zone, %target, %reason, "NOTIFY is not answered; it is tried on"),
            News::Refused(rcode) => tracing::warn!(
                %zone, %target, %rcode, "NOTIFY is refused: the target does not know the zone, this server or the key"
            ),
        }
    }
}

/// Tells one target of the newest commit, once it is its turn.
async fn tell(
    shared: &Shared,
    notices: &Notices,
    newest: watch::Receiver<Newest>,
    departure: Departure,
) -> Result<Outcome, Miss> {
    let Departure { address, key, flight, listen, is_silent } = departure;
    let permits = if is_silent { &shared.patient } else { &shared.prompt };
    let _permit = permits.acquire().await.expect("it is never closed");
    let key = match key {
        Some(name) => Some(shared.keys.borrow().find(&name).cloned().ok_or(Miss::NoKey(name))?),
        None => None,
    };
    let unreachable = |error: io::Error| peer::Failure::Unreachable(error.to_string());
    let Some(socket) = peer::connect(address, &shared.listening).await.map_err(unreachable)? else {
        return Ok(Outcome::Own);
    };
    let record = newest.borrow().clone().expect("nobody is told before the first commit");
    let mut request = notify::request(peer::random_id().map_err(unreachable)?, &record);
    let now = shared.clock.now();
    let mut transaction = Transaction::begin(&mut request, key.as_ref(), now.wall);
    notices.lock().sent(address, flight, serial_of(&record), now);
    let read = |packet: &[u8]| {
        let envelope = transaction.accept(packet, shared.clock.now().wall)?;
        Some(envelope.map(|envelope| envelope.header.rcode()))
    };
    let rcode = peer::exchange(&socket, &request, 1, Instant::now() + listen, read).await?;
    Ok(Outcome::Answered(rcode))
}

#[cfg(test)]
mod tests {
    use super::super::name_servers::tests::ready;
    use super::*;

    fn addresses(targets: &[Target]) -> Vec<String> {
        targets.iter().map(|target| target.address.to_string()).collect()
    }

    #[test]
    fn targets_are_the_listed_and_the_name_servers_but_the_primary_each_address_once() {
        let statics = "@ IN NS ns1\n@ IN NS ns2\n@ IN NS ns.example.net.\n@ IN NS ns.example.org.\nns1 IN A 192.0.2.1\n\
                       ns2 IN A 192.0.2.2\nns2 IN A 192.0.2.3\n";
        let audience = Audience::of(&ready(&["192.0.2.2:53", "192.0.2.9:5300"], "ns1.z.test.", statics));
        assert_eq!(
            addresses(&audience.targets(&NameMap::default())),
            ["192.0.2.2:53", "192.0.2.9:5300", "192.0.2.3:53"]
        );
        let found = [("ns.example.net.", "192.0.2.3:53"), ("ns.example.org.", "192.0.2.4:53")];
        let found = found.map(|(name, address)| (name.parse().unwrap(), vec![address.parse().unwrap()]));
        let targets = audience.targets(&found.into_iter().collect());
        assert_eq!(addresses(&targets)[2..], ["192.0.2.3:53", "192.0.2.4:53"]);
        assert_eq!(targets.iter().filter(|target| target.is_listed).count(), 2);
    }

    #[test]
    fn keys_that_do_not_differ_are_no_news() {
        let keys = |secret: &[u8]| {
            Keys::new([crate::dns::tsig::Key::new(
                "k.".parse().unwrap(),
                crate::dns::tsig::Algorithm::HmacSha256,
                secret,
            )])
        };
        let clock = Arc::new(crate::server::clock::SystemClock::start());
        let shared = Shared::new(Vec::new(), clock, keys(b"one"));
        let mut known = shared.keys();
        shared.set_keys(keys(b"one"));
        assert!(!known.has_changed().unwrap());
        shared.set_keys(keys(b"two"));
        assert!(known.has_changed().unwrap());
        assert_eq!(*known.borrow_and_update(), keys(b"two"));
    }

    #[test]
    fn a_zone_whose_only_name_server_is_its_primary_has_no_targets() {
        for statics in ["@ IN NS ns1\nns1 IN A 192.0.2.1\n", "ns1 IN A 192.0.2.1\n"] {
            let audience = Audience::of(&ready(&[], "ns1.z.test.", statics));
            assert_eq!((audience.targets(&NameMap::default()), audience.names), (Vec::new(), Vec::new()));
        }
    }
}
