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
//! is left out, with a warning if it is listed. [`NAME_SERVERS`], [`ADDRESSES`] and [`UNDER_WAY`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::base::{Epoch, Name, NameMap, RecordType, Serial};
use crate::net::ask::{self, Silence, Told};
use crate::zone::records::address;
use crate::zone::records::schema::additional_name;

use super::fleet::Fleet;
use super::reading::{self, Ready};

/// How long a start waits for answers: a second lost datagram is made up for, and a start stays a start.
const PATIENCE: Duration = Duration::from_secs(2);
/// Name servers of a zone that are asked: more than any zone has. The others go without.
const NAME_SERVERS: usize = 16;
/// Addresses of a name server that are asked: it is the same server at each, so a few are for those that can't be
/// reached.
const ADDRESSES: usize = 4;
/// Servers asked and names looked up at the same moment, each of which takes a descriptor or a thread. The others wait
/// for their turn, as long as there is time.
const UNDER_WAY: usize = 256;
/// Where name servers listen.
const PORT: u16 = 53;

/// The first epochs of zones, in their order: the given one, if any. `None` where the store knows the zone.
pub(super) async fn choose(fleet: &Fleet, zones: &[Ready], given: Option<Epoch>) -> Vec<Option<Epoch>> {
    let mut epochs = vec![given; zones.len()];
    if given.is_some() {
        return epochs;
    }
    let deadline = Instant::now() + PATIENCE;
    let mut numbers = Vec::new();
    for (number, ready) in zones.iter().enumerate() {
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

/// Where the name servers of a zone are: addresses that its static records have, and names to look up.
fn name_servers(ready: &Ready) -> (Vec<SocketAddr>, Vec<Name>) {
    let settings = &ready.zone.settings;
    let rrsets = |name: &Name| {
        let located = reading::find(&ready.statics, name);
        located.into_iter().flat_map(|located| &located.node.rrsets)
    };
    let servers = rrsets(&settings.origin).filter(|rrset| rrset.rtype == RecordType::NS);
    let mut targets: Vec<Name> = servers
        .flat_map(|rrset| rrset.rdatas.iter().filter_map(|rdata| additional_name(RecordType::NS, rdata)))
        .take(NAME_SERVERS)
        .collect();
    if targets.is_empty() {
        targets.push(settings.primary.clone());
    }
    let (inside, outside): (Vec<Name>, Vec<Name>) =
        targets.into_iter().partition(|target| target.is_within(&settings.origin));
    let addresses_of = |name: &Name| {
        let addresses =
            rrsets(name).flat_map(|rrset| rrset.rdatas.iter().filter_map(|rdata| address::address(rrset.rtype, rdata)));
        addresses.map(|address| SocketAddr::new(address.to_canonical(), PORT)).take(ADDRESSES).collect::<Vec<_>>()
    };
    (inside.iter().flat_map(addresses_of).collect(), outside)
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
            let (addresses, names) = name_servers(ready);
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
                Ok(_permit) => ask::look_up(&name, PORT, ADDRESSES, deadline).await,
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
    use super::*;
    use crate::config;
    use crate::dns::tsig::Keys;

    /// A zone with these secondaries and static records.
    fn ready(secondaries: &[&str], primary: &str, statics: &str) -> Ready {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("z.toml");
        let text = format!(
            "origin = \"z.test.\"\nstatic = \"z.zone\"\n[soa]\nprimary = \"{primary}\"\n[notify]\nsecondaries = \
             {secondaries:?}\n"
        );
        std::fs::write(&file, text).unwrap();
        std::fs::write(folder.path().join("z.zone"), statics).unwrap();
        let zone = config::load_zone(&file, &Keys::default()).unwrap();
        reading::read_zone(zone).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn name_servers_of(primary: &str, statics: &str) -> (Vec<String>, Vec<String>) {
        let (addresses, names) = name_servers(&ready(&[], primary, statics));
        (addresses.iter().map(ToString::to_string).collect(), names.iter().map(ToString::to_string).collect())
    }

    fn server(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn name_servers_in_the_zone_have_their_static_addresses_and_others_are_looked_up() {
        let statics = "@ IN NS ns1\n@ IN NS ns2.sub\n@ IN NS ns.example.net.\nns1 IN A 192.0.2.1\nns1 IN AAAA 2001:db8::1\n\
                       ns1 IN TXT \"x\"\nsub IN NS ns2.sub\nns2.sub IN A 192.0.2.2\nother IN A 192.0.2.3\n";
        let (addresses, names) = name_servers_of("ns9.z.test.", statics);
        assert_eq!(addresses, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
        assert_eq!(names, ["ns.example.net."]);
    }

    #[test]
    fn without_ns_records_the_primary_is_the_name_server() {
        let (addresses, names) =
            name_servers_of("ns1.z.test.", "ns1 IN A 192.0.2.1\nsub IN NS ns.sub\nns.sub IN A 192.0.2.2\n");
        assert_eq!((addresses, names), (vec!["192.0.2.1:53".to_owned()], Vec::new()));
        let (addresses, names) = name_servers_of("ns.example.net.", "www IN A 192.0.2.1\n");
        assert_eq!((addresses, names), (Vec::new(), vec!["ns.example.net.".to_owned()]));
    }

    #[test]
    fn name_servers_and_their_addresses_are_bounded() {
        let mut statics = String::new();
        for number in 0..40 {
            statics += &format!("@ IN NS ns{number}\n");
            for last in 1..=9 {
                statics += &format!("ns{number} IN A 192.0.2.{last}\n");
            }
        }
        let (addresses, _) = name_servers_of("ns1.z.test.", &statics);
        assert_eq!(addresses.len(), NAME_SERVERS * ADDRESSES);
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
