//! The first epoch of a zone that the store doesn't know.
//!
//! With the data folder, a zone's epoch is lost, and those who have copies still know a serial of it. If the zone came back
//! behind that, they would take it for old and keep what they have (RFC 1982 §3.2). So its secondaries and name servers
//! are asked first, and the zone starts at the Unix time or beyond the serials that they answer, whichever is later
//! ([`Epoch::first`]).
//!
//! **Whom.** The listed secondaries; and the targets of the apex's NS records, or `soa.primary` without any, on port 53:
//! those inside the zone at their static addresses, the others at those that the system's resolver has. Never this server
//! itself: nothing answers while it starts.
//!
//! **When.** All zones of a start, or of a reload, together, before any of them is brought into force. Nobody is asked for
//! a zone that the store knows, nor at a start that is given the first epoch (`--epoch`).
//!
//! Bounds: [`PATIENCE`] for all of it, less when everybody has answered or can't be reached; who has not answered by then
//! is left out, with a warning if it is listed. [`UNDER_WAY`], and those of
//! [`name_servers`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::base::{Epoch, Name, NameMap, Serial};
use crate::net::ask::{self, Silence, Told};

use super::fleet::Fleet;
use super::name_servers;
use super::reading::Ready;

/// How long a start waits for answers: a second lost datagram is made up for, and a start stays a start.
const PATIENCE: Duration = Duration::from_secs(2);
/// Servers asked and names looked up at the same moment, each of which takes a descriptor or a thread. The others wait
/// for their turn, as long as there is time.
const UNDER_WAY: usize = 256;

/// The first epochs of zones, in their order: the given one, if any. `None` where the store knows the zone.
pub(super) async fn choose(fleet: &Fleet, zones: &[Ready], given: Option<Epoch>) -> Vec<Option<Epoch>> {
    let mut epochs = vec![given; zones.len()];
    if given.is_some() {
        return epochs;
    }
    let deadline = Instant::now() + PATIENCE;
    let mut numbers = Vec::new();
    // A copy has the serial of its primary.
    for (number, ready) in zones.iter().enumerate().filter(|(_, ready)| ready.zone.following.is_none()) {
        // A store that can't tell now may have nothing of the zone when it is opened.
        let known = timeout_at(deadline, fleet.store.epoch(ready.origin())).await;
        if !matches!(known, Ok(Ok(Some(_)))) {
            numbers.push(number);
        }
    }
    let unknown: Vec<&Ready> = numbers.iter().map(|&number| &zones[number]).collect();
    let accounts = Inquiry::new(&unknown, &fleet.listening).run().await;
    let time = Epoch(fleet.clock.now().wall.seconds());
    for (number, account) in numbers.into_iter().zip(accounts) {
        epochs[number] = Some(account.conclude(time));
    }
    epochs
}

/// Zones, by their number among those that are asked for.
type Numbers = Vec<usize>;

/// All that is asked together.
struct Inquiry {
    accounts: Vec<Account>,
    servers: BTreeMap<SocketAddr, Numbers>,
    names: NameMap<Numbers>,
    listening: Arc<[SocketAddr]>,
    deadline: Instant,
    permits: Arc<Semaphore>,
    tasks: JoinSet<Done>,
}

/// What came of one task.
enum Done {
    /// A name's addresses; none, if there are none, or not in time.
    Found(Vec<SocketAddr>, Numbers),
    /// A server's answers; none, if it is this one.
    Told(SocketAddr, Numbers, Option<Vec<Told>>),
}

impl Inquiry {
    fn new(zones: &[&Ready], listening: &[SocketAddr]) -> Inquiry {
        let mut inquiry = Inquiry {
            accounts: Vec::new(),
            servers: BTreeMap::new(),
            names: NameMap::default(),
            listening: listening.into(),
            deadline: Instant::now() + PATIENCE,
            permits: Arc::new(Semaphore::new(UNDER_WAY)),
            tasks: JoinSet::new(),
        };
        for (number, ready) in zones.iter().enumerate() {
            let listed: Vec<SocketAddr> = ready.zone.secondaries.iter().map(|secondary| secondary.address).collect();
            let (addresses, names) = name_servers::locate(ready, name_servers::names(ready));
            for &server in listed.iter().chain(&addresses) {
                inquiry.servers.entry(server).or_default().push(number);
            }
            for name in names {
                inquiry.names.entry(name).or_default().push(number);
            }
            inquiry.accounts.push(Account { origin: ready.origin().clone(), listed, told: BTreeMap::new() });
        }
        inquiry
    }

    /// Asks, and returns what each zone's servers told.
    async fn run(mut self) -> Vec<Account> {
        for (server, numbers) in std::mem::take(&mut self.servers) {
            self.ask(server, numbers);
        }
        for (name, numbers) in std::mem::take(&mut self.names) {
            self.look_up(name, numbers);
        }
        // Each task heeds the deadline by itself; one that ends badly has told nothing.
        while let Some(done) = self.tasks.join_next().await {
            match done {
                Ok(Done::Found(addresses, numbers)) => {
                    for server in addresses {
                        self.ask(server, numbers.clone());
                    }
                }
                Ok(Done::Told(server, numbers, told)) => {
                    for (at, number) in numbers.into_iter().enumerate() {
                        let told = told.as_ref().map(|told| told[at].clone());
                        self.accounts[number].note(server, told);
                    }
                }
                Err(error) => tracing::error!(%error, "asking for a serial ended badly"),
            }
        }
        self.accounts
    }

    /// Starts to ask a server for the zones that it is not asked for already.
    fn ask(&mut self, server: SocketAddr, mut numbers: Numbers) {
        numbers.retain(|&number| self.accounts[number].begin(server));
        if numbers.is_empty() {
            return;
        }
        let origins: Vec<Name> = numbers.iter().map(|&number| self.accounts[number].origin.clone()).collect();
        let (listening, permits, deadline) = (self.listening.clone(), self.permits.clone(), self.deadline);
        self.tasks.spawn(async move {
            let told = match timeout_at(deadline, permits.acquire()).await {
                Ok(_permit) => ask::ask(server, &origins, &listening, deadline).await,
                Err(_) => Some(vec![Err(Silence::Late); origins.len()]),
            };
            Done::Told(server, numbers, told)
        });
    }

    fn look_up(&mut self, name: Name, numbers: Numbers) {
        let (permits, deadline) = (self.permits.clone(), self.deadline);
        self.tasks.spawn(async move {
            let found = match timeout_at(deadline, permits.acquire()).await {
                Ok(_permit) => name_servers::look_up(&name, deadline).await,
                Err(elapsed) => Err(elapsed.into()),
            };
            let addresses = found.unwrap_or_else(|error| {
                tracing::info!(%name, %error, "a name server has no address, so it is not asked for a serial");
                Vec::new()
            });
            Done::Found(addresses, numbers)
        });
    }
}

/// What the servers of a zone told.
#[derive(Debug)]
struct Account {
    origin: Name,
    /// The secondaries that the configuration lists.
    listed: Vec<SocketAddr>,
    /// Every server that was asked, this one excluded.
    told: BTreeMap<SocketAddr, Told>,
}

impl Account {
    /// Notes that a server is asked; false if it is already.
    fn begin(&mut self, server: SocketAddr) -> bool {
        let is_new = !self.told.contains_key(&server);
        self.told.entry(server).or_insert(Err(Silence::Late));
        is_new
    }

    /// Notes what a server told; `None` if it is this one.
    fn note(&mut self, server: SocketAddr, told: Option<Told>) {
        match told {
            Some(told) => self.told.insert(server, told),
            None => self.told.remove(&server),
        };
    }

    /// Chooses the first epoch from this Unix time on, and logs why.
    fn conclude(&self, time: Epoch) -> Epoch {
        let zone = &self.origin;
        let serials: Vec<Serial> = self.told.values().filter_map(|told| told.clone().ok()).collect();
        let epoch = Epoch::first(time, &serials);
        let line = |(server, told): (&SocketAddr, &Told)| match told {
            Ok(serial) => format!("{server}: {serial}"),
            Err(silence) => format!("{server}: {silence}"),
        };
        let servers = self.told.iter().map(line).collect::<Vec<_>>().join(", ");
        // A zone that has nobody but itself, or name servers that are not there yet, is no news.
        let is_news = |told: &Told| matches!(told, Ok(_) | Err(Silence::Late));
        if self.told.values().any(is_news) || self.listed.iter().any(|listed| self.told.contains_key(listed)) {
            tracing::info!(%zone, %epoch, serial = %epoch.serial(), servers, "first epoch");
        } else {
            tracing::debug!(%zone, %epoch, serial = %epoch.serial(), servers, "first epoch");
        }
        for secondary in &self.listed {
            if let Some(Err(silence)) = self.told.get(secondary) {
                tracing::warn!(
                    %zone,
                    %secondary,
                    reason = %silence,
                    "a secondary told no serial; should its own be ahead, it must transfer the zone anew"
                );
            }
        }
        if !serials.iter().all(|&serial| serial < epoch.serial()) {
            tracing::warn!(
                %zone,
                servers,
                "no serial comes after all of these (RFC 1982 §3.2); who is not behind must transfer the zone anew"
            );
        }
        epoch
    }
}

#[cfg(test)]
mod tests {
    use super::super::name_servers::tests::ready;
    use super::*;

    fn server(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_server_is_asked_once_for_a_zone() {
        let listed = ["192.0.2.1:53", "192.0.2.2:5300"];
        let one = ready(&listed, "ns1.z.test.", "@ IN NS ns1\nns1 IN A 192.0.2.1\n");
        let other = ready(&[], "ns1.z.test.", "@ IN NS ns.example.net.\n@ IN NS ns1\nns1 IN A 192.0.2.1\n");
        let mut inquiry = Inquiry::new(&[&one, &other], &[]);
        assert_eq!(inquiry.servers[&server("192.0.2.1:53")], [0, 0, 1]);
        assert_eq!(inquiry.servers[&server("192.0.2.2:5300")], [0]);
        assert_eq!(inquiry.names[&"ns.example.net.".parse::<Name>().unwrap()], [1]);
        let mut begin = |number: usize, text| inquiry.accounts[number].begin(server(text));
        assert!(begin(0, "192.0.2.1:53") && begin(1, "192.0.2.1:53"));
        assert!(!begin(0, "192.0.2.1:53"), "also where a name turns out to be there");
    }

    #[test]
    fn the_epoch_comes_after_what_was_told() {
        let time = Epoch(1_800_000_000);
        let mut account = Account { origin: Name::root(), listed: Vec::new(), told: BTreeMap::new() };
        assert_eq!(account.conclude(time), time);
        let (one, other, own) = (server("192.0.2.1:53"), server("192.0.2.2:53"), server("192.0.2.3:53"));
        for server in [one, other, own] {
            account.begin(server);
        }
        assert_eq!(account.conclude(time), time, "who is silent is left out");
        account.note(own, None);
        account.note(one, Some(Ok(Serial(1_700_000_000))));
        assert_eq!(account.conclude(time), time);
        account.note(other, Some(Ok(Serial(1_800_000_041))));
        assert_eq!(account.conclude(time), Epoch(1_800_000_042));
        assert_eq!(account.told.len(), 2, "this server is not among them");
    }
}
