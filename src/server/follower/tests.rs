//! A follower with a primary on loopback and a store that refuses when it is told to.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::answer::Answers;
use crate::base::{Epoch, RecordType, Serial, Ttl};
use crate::dns::identity::Identity;
use crate::dns::reply::Transport;
use crate::dns::respond::{Context, ServedZone, Verdict, Zones, respond};
use crate::membership::{Key, Stamp};
use crate::server::clock::SystemClock;
use crate::server::load;
use crate::server::reading::{self, Ready};
use crate::store::{Appended, Pending, StoreError, StoredZone};
use crate::zone::scenes::{Universe, caused};
use crate::zone::{Change, Commit, Rrset, Step};

use super::*;

/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store that takes writes or refuses them.
#[derive(Default)]
struct Fickle {
    refuses: AtomicBool,
    /// Says so, and carries the write out all the same.
    lies: AtomicBool,
    writes: Mutex<Vec<Write>>,
    tries: AtomicU32,
    noted: AtomicU32,
}

impl Store for Fickle {
    fn start(&self, _: &Name, _: Wall) -> Result<Option<StoredZone>, StoreError> {
        Ok(None)
    }

    fn begin(&self, _: &Name, _: Wall) -> Pending<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn append(&self, write: Write) -> Pending<Appended> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        let mut writes = self.writes.lock().unwrap();
        let found = writes.last().and_then(|last| last.commit.as_ref()).map(|commit| commit.epoch);
        let outcome = if self.refuses.load(Ordering::Relaxed) {
            Appended::Unavailable("the disk is full".to_owned())
        } else if found != write.expected {
            Appended::Conflict(found)
        } else {
            writes.push(write);
            let lies = self.lies.load(Ordering::Relaxed);
            if lies { Appended::Unavailable("the disk hangs".to_owned()) } else { Appended::Committed }
        };
        Box::pin(async { outcome })
    }

    fn epoch(&self, _: &Name) -> Pending<Result<Option<Epoch>, String>> {
        Box::pin(async { Err("not asked for here".to_owned()) })
    }

    fn oldest(&self, _: &Name) -> Pending<Result<Option<Epoch>, String>> {
        Box::pin(async { Ok(None) })
    }

    fn checkpoint(&self, _: &Name, _: Vec<(Key, Stamp)>) -> Pending<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn refreshed(&self, _: &Name, _: Wall) -> Pending<Result<(), String>> {
        self.noted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn commits(&self, _: &Name, _: Option<Epoch>, _: usize) -> Pending<Result<Vec<Commit>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A primary that has whatever it is given, and sends it over TCP alone.
struct Primary {
    served: Arc<ServedZone>,
    address: SocketAddr,
    zone: Zone,
}

impl Primary {
    async fn start() -> Primary {
        let universe = Universe::new("z.");
        let zone = Zone::new(universe.settings(), Epoch(99));
        let served = Arc::new(ServedZone::new("z.".parse().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = served.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, peer)) = listener.accept().await {
                let length = stream.read_u16().await.unwrap();
                let mut packet = vec![0; usize::from(length)];
                stream.read_exact(&mut packet).await.unwrap();
                let (zones, keys, identity) = (Zones::new([answering.clone()]), Keys::default(), Identity::default());
                let context = Context {
                    zones: &zones,
                    keys: &keys,
                    identity: &identity,
                    udp_size: 1232,
                    now: Wall(0),
                    peer,
                    transport: Transport::Tcp,
                    tcp_idle: PATIENCE,
                    transfers: true,
                    cookies: None,
                    rate: None,
                    rotate: false,
                };
                let mut out = Vec::new();
                let mut outgoing = match respond(&context, &packet, &mut out) {
                    Verdict::Transfer(outgoing) => Some(outgoing),
                    Verdict::Reply => None, // nothing is newer
                    other => panic!("it admits whoever comes over TCP from loopback: {other:?}"),
                };
                loop {
                    let more = outgoing.as_mut().is_some_and(|outgoing| outgoing.message(Wall(0), &mut out));
                    let length = u16::try_from(out.len()).unwrap().to_be_bytes();
                    stream.write_all(&[&length, &out[..]].concat()).await.unwrap();
                    if !more {
                        break;
                    }
                }
            }
        });
        let mut primary = Primary { served, address, zone };
        let ns = Rrset { rtype: RecordType::NS, ttl: Ttl(60), rdatas: vec![universe.name("ns1").as_wire().into()] };
        primary.publish(Change::Static { name: universe.origin.clone(), rrsets: vec![ns] });
        primary
    }

    fn publish(&mut self, change: Change) {
        self.zone.change(caused(change), Wall(0));
        let before = self.zone.snapshot().clone();
        let staged = self.zone.stage(Wall(0));
        let commit = staged.commit.clone().unwrap();
        let published = self.zone.publish(staged).unwrap();
        if !before.is_empty() {
            let step = Step { from: before.soa().into(), to: published.snapshot.soa().into(), commit };
            self.served.history.lock().unwrap().push(step);
        }
        self.served.answers.store(Some(Arc::new(Answers::build(&published.snapshot))));
    }

    /// Adds a TXT record.
    fn add(&mut self, label: &str) {
        let txt = Rrset { rtype: RecordType::TXT, ttl: Ttl(60), rdatas: vec![[1, b'x'].into()] };
        self.publish(Change::Static { name: format!("{label}.z.").parse().unwrap(), rrsets: vec![txt] });
    }
}

fn ready(folder: &std::path::Path, primary: SocketAddr) -> Ready {
    std::fs::create_dir(folder.join("zones")).unwrap();
    std::fs::write(folder.join("zones/z.toml"), format!("origin = \"z.\"\nprimary = [\"{primary}\"]\n")).unwrap();
    std::fs::write(folder.join("livezone.toml"), "").unwrap();
    let reading = reading::read(Some(&folder.join("livezone.toml")), None);
    reading.whole(None).unwrap().1.remove(0)
}

struct Running {
    served: Arc<ServedZone>,
    state: Arc<Mutex<FollowState>>,
    notified: watch::Sender<Notified>,
    _others: (watch::Sender<bool>, watch::Sender<Following>, watch::Sender<Keys>),
}

fn follow(store: &Arc<Fickle>, primary: &Primary, folder: &std::path::Path) -> Running {
    follow_by_turns(store, primary, folder, &Arc::new(Semaphore::new(1)))
}

fn follow_by_turns(
    store: &Arc<Fickle>,
    primary: &Primary,
    folder: &std::path::Path,
    turns: &Arc<Semaphore>,
) -> Running {
    let ready = ready(folder, primary.address);
    let clock = Arc::new(SystemClock::start());
    let (opened, _) = load::open_copy(&ready, &**store, clock.now()).unwrap();
    let served = Arc::new(ServedZone::new("z.".parse().unwrap()));
    let (following, followed) = watch::channel(ready.zone.following.clone().unwrap());
    let (keys, keys_known) = watch::channel(Keys::default());
    let (stop, stopped) = watch::channel(false);
    let (notified, notices) = watch::channel(None);
    let around = Surroundings {
        visible: Visible {
            served: served.clone(),
            newest: watch::channel(None).0,
            on_commit: None,
            retired: Mutex::default(),
        },
        store: store.clone(),
        clock,
        keys: keys_known,
        listening: Arc::new([]),
        turns: turns.clone(),
    };
    let follower = Follower::new(followed, opened, around);
    let state = follower.state();
    tokio::spawn(follower.run(notices, stopped));
    Running { served, state, notified, _others: (stop, following, keys) }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Running {
    fn serial(&self) -> Option<Serial> {
        self.served.answers.load().as_deref().map(|answers| answers.snapshot().epoch.serial())
    }

    async fn reach(&self, primary: &Primary) {
        self.notified.send_replace(Some(primary.address.ip()));
        let serial = primary.zone.snapshot().epoch.serial();
        until(&format!("serial {serial}"), || self.serial() == Some(serial)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_the_store_refuses_is_served_and_written_whole_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Fickle::default());
    let mut primary = Primary::start().await;
    let running = follow(&store, &primary, folder.path());
    running.reach(&primary).await;
    until("the first copy", || store.writes.lock().unwrap().len() == 1).await;
    // One difference is one write, of what differs.
    primary.add("one");
    running.reach(&primary).await;
    until("a difference", || store.writes.lock().unwrap().len() == 2).await;
    store.refuses.store(true, Ordering::Relaxed);
    for label in ["two", "three"] {
        let tries = store.tries.load(Ordering::Relaxed);
        primary.add(label);
        running.reach(&primary).await;
        until("a refused write", || store.tries.load(Ordering::Relaxed) > tries).await;
    }
    let noted = store.noted.load(Ordering::Relaxed);
    // Nothing new, and yet it is written once the store takes it.
    store.refuses.store(false, Ordering::Relaxed);
    running.notified.send_replace(Some(primary.address.ip()));
    until("the whole copy", || store.writes.lock().unwrap().len() == 3).await;
    primary.add("four");
    running.reach(&primary).await;
    until("another difference", || store.writes.lock().unwrap().len() == 4).await;
    let writes = store.writes.lock().unwrap();
    let shape = |write: &Write| (write.replaces, write.statics.len(), write.settings.is_some());
    let shapes: Vec<_> = writes.iter().map(shape).collect();
    assert_eq!(shapes, [(true, 1, true), (false, 1, false), (true, 4, true), (false, 1, false)]);
    let epochs: Vec<u64> = writes.iter().map(|write| write.commit.as_ref().unwrap().epoch.0).collect();
    assert_eq!(epochs, [100, 101, 103, 104]);
    assert!(writes.iter().all(|write| write.refreshed.is_some()));
    assert_eq!(store.noted.load(Ordering::Relaxed), noted, "what is not there is not noted as fresh");
    let state = running.state.lock().unwrap().clone();
    assert_eq!((state.primary, state.expired, state.failures.len()), (Some(primary.address), false, 0));
}

#[tokio::test]
async fn a_write_that_came_into_force_late_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Fickle::default());
    let mut primary = Primary::start().await;
    let running = follow(&store, &primary, folder.path());
    store.lies.store(true, Ordering::Relaxed);
    running.reach(&primary).await;
    until("the first copy", || store.tries.load(Ordering::Relaxed) == 1).await;
    store.lies.store(false, Ordering::Relaxed);
    // The next try finds the epoch that it wants to write.
    running.notified.send_replace(Some(primary.address.ip()));
    until("a second try", || store.tries.load(Ordering::Relaxed) == 2).await;
    primary.add("one");
    running.reach(&primary).await;
    until("a difference", || store.writes.lock().unwrap().len() == 2).await;
    let writes = store.writes.lock().unwrap();
    assert_eq!(writes.iter().map(|write| write.replaces).collect::<Vec<_>>(), [true, false]);
    assert_eq!(store.tries.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_round_transfers_when_it_is_its_turn_and_gives_that_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Fickle::default());
    let mut primary = Primary::start().await;
    let turns = Arc::new(Semaphore::new(1));
    let turn = turns.clone().acquire_owned().await.unwrap();
    let running = follow_by_turns(&store, &primary, folder.path(), &turns);
    until("a round", || running.state.lock().unwrap().asking).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((running.serial(), running.state.lock().unwrap().asking), (None, true), "others have their turn");
    drop(turn);
    running.reach(&primary).await;
    until("the end of its turn", || turns.available_permits() == 1).await;
    primary.add("one");
    running.reach(&primary).await;
    until("the end of its turn", || turns.available_permits() == 1).await;
}
