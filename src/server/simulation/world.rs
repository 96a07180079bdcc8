//! The machine that a simulated server runs on: its clock, its disk, its process, and the way in and out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::base::{Monotonic, Name, Now, Wall};
use crate::config::{self, Config};
use crate::dns::cookie::Secret;
use crate::dns::reply::Transport;
use crate::dns::tsig::{Algorithm, Key, Keys};
use crate::membership::cell::{CellId, Cells, Heartbeats};
use crate::net::{Completion, Handled, Handler};
use crate::server::clock::Clock;
use crate::server::counters::Counters;
use crate::server::defence::Defence;
use crate::server::fleet::Fleet;
use crate::server::front::Front;
use crate::server::load;
use crate::server::notifier;
use crate::server::reading::{self, Ready};
use crate::store::embedded::fake_disk::FakeDisk;

use super::oracle::Oracle;
use super::store::{Faults, SimulatedStore};

/// The key of those who sign.
pub(super) const KEY: &str = "agents.";
pub(super) const SECRET: &[u8] = b"a secret of the simulation";

/// In which time penalties halve, in milliseconds.
const HALF_LIFE: u64 = 1_000;

/// The clock of the machine: tokio's, which the simulation moves, and a wall clock that somebody sets.
#[derive(Debug)]
pub(super) struct SimulatedClock {
    start: Instant,
    /// Milliseconds between the wall clock and the monotonic one.
    offset: AtomicI64,
}

impl SimulatedClock {
    fn new() -> SimulatedClock {
        SimulatedClock { start: Instant::now(), offset: AtomicI64::new(1_800_000_000_000) }
    }

    pub(super) fn mono(&self) -> u64 {
        1000 + u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// Sets the wall clock forward, or back.
    pub(super) fn set_wall(&self, by: i64) {
        self.offset.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        let mono = self.mono();
        let wall = i64::try_from(mono).unwrap() + self.offset.load(Ordering::Relaxed);
        Now { mono: Monotonic(mono), wall: Wall(u64::try_from(wall).unwrap()) }
    }
}

/// What the zone of a simulation is configured with.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The seed of the disk.
    pub(super) seed: u64,
    pub(super) settle: u64,
    pub(super) grace: u64,
    /// The shortest lease that is granted; longer than what members ask for, it is a planted fault.
    pub(super) shortest_lease: u32,
    /// Whether silent members are held, how many milliseconds at most, and flapping ones damped.
    pub(super) hold: Option<u64>,
    /// How long free slots of the last service are kept, in milliseconds, if it has some.
    pub(super) slots: Option<u64>,
    /// Static records, beside those that every zone has.
    pub(super) statics: String,
    pub(super) faults: Faults,
}

impl Setup {
    pub(super) fn new(seed: u64) -> Setup {
        Setup {
            seed,
            settle: 0,
            grace: 0,
            shortest_lease: 2,
            hold: None,
            slots: None,
            statics: String::new(),
            faults: Faults::default(),
        }
    }

    fn ready(&self, keys: &Keys) -> Ready {
        let folder = tempfile::tempdir().unwrap();
        let policies = if let Some(hold) = self.hold {
            format!("[hold]\nmin-members = 2\nmax = \"{hold}ms\"\n[damping]\nhalf-life = \"{HALF_LIFE}ms\"\n")
        } else {
            "[hold]\nfraction = 1.0\n[damping]\nhalf-life = \"0s\"\n".to_owned()
        };
        let slots = self.slots.map_or_else(String::new, |hold| {
            format!("[[service]]\nname = \"_y._tcp\"\nslots = true\nslot-hold = \"{hold}ms\"\n")
        });
        let zone = format!(
            "origin = \"z.\"\nttl = \"1s\"\nstatic = \"static.zone\"\nsettle = \"{}ms\"\n\
             [lease]\ndefault = \"10s\"\nmin = \"{}s\"\ngrace = \"{}ms\"\n\
             [access]\nupdate = [{{ network = \"127.0.0.0/8\" }}, {{ key = \"{KEY}\", members = \"any\" }}]\n{policies}{slots}",
            self.settle, self.shortest_lease, self.grace
        );
        let path = folder.path().join("z.toml");
        std::fs::write(&path, zone).unwrap();
        let statics = format!("@ 60 NS ns1\nns1 60 A 192.0.2.53\n{}", self.statics);
        std::fs::write(folder.path().join("static.zone"), statics).unwrap();
        reading::read_zone(config::load_zone(&path, keys).unwrap()).unwrap()
    }
}

/// A process of the server.
struct Process {
    front: Arc<Front>,
    /// Taken out when it ends.
    fleet: Fleet,
    cells: Arc<Cells>,
}

/// The machine.
pub(super) struct World {
    pub(super) clock: Arc<SimulatedClock>,
    pub(super) disk: FakeDisk,
    pub(super) oracle: Arc<Mutex<Oracle>>,
    /// The process was stopped in the middle of a write.
    pub(super) crashed: Arc<Notify>,
    setup: Setup,
    ready: Ready,
    config: Config,
    process: Mutex<Option<Process>>,
}

impl World {
    pub(super) fn new(setup: Setup) -> Arc<World> {
        let key = Key::new(KEY.parse().unwrap(), Algorithm::HmacSha256, SECRET);
        let mut config = config::load(None).unwrap();
        config.keys = vec![key];
        let ready = setup.ready(&Keys::new(config.keys.iter().cloned()));
        Arc::new(World {
            clock: Arc::new(SimulatedClock::new()),
            disk: FakeDisk::new(setup.seed),
            oracle: Arc::new(Mutex::new(Oracle::new(
                setup.settle,
                setup.grace,
                setup.hold.map(|hold| (hold, HALF_LIFE)),
                setup.slots.unwrap_or_default(),
            ))),
            crashed: Arc::default(),
            setup,
            ready,
            config,
            process: Mutex::new(None),
        })
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.mono()
    }

    pub(super) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap()
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap()
    }

    /// Starts the server. An error is what a person would read on its standard error.
    pub(super) async fn start(&self) -> Result<(), String> {
        let store = SimulatedStore::open(self, &self.setup.faults).map_err(|error| error.to_string())?;
        let store = Arc::new(store);
        let counters: Arc<Counters> = Arc::default();
        let opened = load::open(&self.ready, &*store, counters.clone(), None, self.clock.now());
        let opened = opened.map_err(|error| error.to_string())?;
        let cells = opened.publisher.table().cells().clone();
        let oracle = self.oracle.clone();
        let on_commit = move |_: &Name, commit: &crate::zone::Commit| oracle.lock().unwrap().note_commit(commit);
        let (open, _) = watch::channel(false);
        let mut fleet = Fleet {
            store,
            clock: self.clock.clone(),
            counters: counters.clone(),
            on_commit: Some(Arc::new(on_commit)),
            listening: Vec::new(),
            defence: Defence::new(Secret([0; 16])),
            notifying: notifier::Shared::new(Vec::new(), self.clock.clone(), Keys::default()),
            turns: Arc::new(Semaphore::new(1)),
            publishing: tokio::runtime::Handle::current(),
            open,
            running: Default::default(),
            absent: Default::default(),
            leaving: Default::default(),
            opening: None,
        };
        fleet.run(self.ready.clone(), opened).await.map_err(|error| error.to_string())?;
        let front =
            Front::new(fleet.routing(&self.config), &self.config, self.clock.clone(), counters, mpsc::channel(1).0);
        fleet.open();
        self.oracle().note_open(self.now());
        *self.process() = Some(Process { front: Arc::new(front), fleet, cells });
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.process().is_some()
    }

    /// Ends the process at once; with `power`, the machine as well.
    pub(super) async fn kill(&self, power: bool) {
        if power {
            self.disk.lose_power();
        } else {
            self.disk.kill();
        }
        let process = self.process().take();
        if let Some(Process { fleet, .. }) = process {
            fleet.abort().await;
        }
        let now = self.now();
        self.oracle().note_crash(now);
    }

    /// Ends the process as SIGTERM does.
    pub(super) async fn stop(&self) {
        let process = self.process().take();
        if let Some(Process { fleet, front, .. }) = process {
            drop(front);
            fleet.stop(Instant::now() + crate::server::fleet::STORE_PATIENCE).await;
        }
        self.disk.kill();
        let now = self.now();
        self.oracle().note_crash(now);
    }

    /// Nothing runs for so long.
    pub(super) async fn stall(&self, millis: u64) {
        let now = self.now();
        self.oracle().note_stall(now, now + millis);
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    /// Hands a datagram to the server; `reply` is called at most once. False if there is no server.
    pub(super) fn deliver(&self, packet: &[u8], port: u16, reply: impl FnOnce(Vec<u8>) + Send + 'static) -> bool {
        let Some(front) = self.process().as_ref().map(|process| process.front.clone()) else { return false };
        let reply = Arc::new(Mutex::new(Some(reply)));
        let mut out = Vec::new();
        let mut complete = || -> Completion {
            let reply = reply.clone();
            Box::new(move |octets| {
                if let Some(reply) = reply.lock().unwrap().take() {
                    reply(octets);
                }
            })
        };
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Handled::Answered = front.handle(packet, peer, Transport::Udp, &mut out, &mut complete)
            && let Some(reply) = reply.lock().unwrap().take()
        {
            reply(out);
        }
        true
    }

    /// Asks a question as over TCP; nothing if there is no server.
    pub(super) fn ask(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let front = self.process().as_ref().map(|process| process.front.clone())?;
        let mut out = Vec::new();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut complete = || -> Completion { panic!("a question is answered at once") };
        let handled = front.handle(packet, peer, Transport::Tcp, &mut out, &mut complete);
        matches!(handled, Handled::Answered).then_some(out)
    }

    /// A fault of the server: something moves leases without any heartbeat.
    pub(super) fn touch_leases(&self) {
        let Some(cells) = self.process().as_ref().map(|process| process.cells.clone()) else { return };
        for at in 0..64 {
            let generation = cells.read(CellId(at)).generation();
            cells.beat(CellId(at), generation, Monotonic(self.now()), None);
        }
    }
}
