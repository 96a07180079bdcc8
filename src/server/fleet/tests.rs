//! Zones on a store that does not answer.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::Wall;
use crate::config;
use crate::dns::cookie::Secret;
use crate::dns::tsig::Keys;
use crate::membership::access::{Owner, Scope};
use crate::membership::{Key, MemberId, Permit, Stamp};
use crate::server::clock::SystemClock;
use crate::server::front::Front;
use crate::server::publisher::{ORDERS, Orders};
use crate::server::reading;
use crate::server::reload::Reloader;
use crate::store::{Appended, Pending, StoreError, StoredZone, Write};
use crate::zone::Commit;
use crate::zone::registration::order::{Action, Order, Orderer, Wanted};

use super::*;

/// A store whose disk hangs, or which can't tell what became of a write, unless a test ends it.
#[derive(Default)]
struct Silent {
    unknown: bool,
    /// So many writes are durable before.
    commits: AtomicUsize,
    under_way: Mutex<Vec<oneshot::Sender<Appended>>>,
}

fn never<T: Send + 'static>() -> Pending<T> {
    Box::pin(std::future::pending())
}

impl Store for Silent {
    fn start(&self, _: &Name, _: Wall) -> Result<Option<StoredZone>, StoreError> {
        Ok(None)
    }

    fn begin(&self, _: &Name, _: Wall) -> Pending<Result<(), String>> {
        never()
    }

    fn append(&self, _: Write) -> Pending<Appended> {
        if self.commits.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Box::pin(async { Appended::Committed });
        }
        if self.unknown {
            return Box::pin(async { Appended::Unknown("sync failed".to_owned()) });
        }
        let (end, outcome) = oneshot::channel();
        self.under_way.lock().unwrap().push(end);
        Box::pin(async {
            match outcome.await {
                Ok(outcome) => outcome,
                Err(_) => std::future::pending().await,
            }
        })
    }

    fn epoch(&self, _: &Name) -> Pending<Result<Option<Epoch>, String>> {
        if self.unknown { Box::pin(async { Err("read failed".to_owned()) }) } else { never() }
    }

    fn oldest(&self, _: &Name) -> Pending<Result<Option<Epoch>, String>> {
        never()
    }

    fn checkpoint(&self, _: &Name, _: Vec<(Key, Stamp)>) -> Pending<Result<(), String>> {
        never()
    }

    fn refreshed(&self, _: &Name, _: Wall) -> Pending<Result<(), String>> {
        never()
    }

    fn commits(&self, _: &Name, _: Option<Epoch>, _: usize) -> Pending<Result<Vec<Commit>, String>> {
        never()
    }
}

fn fleet(store: Arc<dyn Store>) -> Fleet {
    let clock = Arc::new(SystemClock::start());
    Fleet {
        store,
        clock: clock.clone(),
        counters: Arc::default(),
        on_commit: None,
        listening: Vec::new(),
        defence: Defence::new(Secret([0; 16])),
        notifying: notifier::Shared::new(Vec::new(), clock, Keys::default()),
        turns: Arc::new(Semaphore::new(1)),
        publishing: Handle::current(),
        open: watch::channel(true).0,
        running: BTreeMap::new(),
        absent: BTreeMap::new(),
        leaving: BTreeMap::new(),
        opening: None,
    }
}

/// Nobody listens where its name server is.
fn write_zone(folder: &std::path::Path, origin: &str, more: &str) {
    let zone = format!("origin = \"{origin}\"\nstatic = \"z.zone\"\n{more}");
    std::fs::write(folder.join("z.toml"), zone).unwrap();
    std::fs::write(folder.join("z.zone"), "@ 60 NS ns1\nns1 60 A 127.53.0.78\n").unwrap();
}

/// A zone whose file has more text.
fn ready(origin: &str, more: &str) -> Ready {
    let folder = tempfile::tempdir().unwrap();
    write_zone(folder.path(), origin, more);
    let file = folder.path().join("z.toml");
    let zone = config::load_zone(&file, &Keys::default()).unwrap();
    reading::read_zone(zone).unwrap_or_else(|problems| panic!("{problems}"))
}

#[tokio::test(start_paused = true)]
async fn a_first_commit_that_the_store_does_not_answer_is_an_error_after_a_while() {
    for (unknown, says) in [(false, "no answer for 10 s;"), (true, "no answer for 10 s (sync failed);")] {
        let mut fleet = fleet(Arc::new(Silent { unknown, ..Silent::default() }));
        let start = Instant::now();
        let error = fleet.add(ready("z.", ""), None).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(start.elapsed().as_secs(), 10);
        assert!(fleet.running.is_empty());
    }
}

/// A fleet with one zone whose first commit is durable, and whose store hangs from then on.
async fn hanging() -> Fleet {
    let mut fleet = fleet(Arc::new(Silent { commits: 1.into(), ..Silent::default() }));
    fleet.add(ready("z.", ""), None).await.unwrap();
    fleet
}

#[tokio::test(start_paused = true)]
async fn a_changed_configuration_takes_the_place_of_one_that_waits_and_counts_once_it_is_in_force() {
    let mut fleet = hanging().await;
    for ttl in 1..=5 {
        fleet.change(ready("z.", &format!("ttl = \"{ttl}s\"\n")));
        let changed = fleet.settle(Instant::now() + STORE_PATIENCE, |_, _| {}).await;
        assert_eq!((changed, fleet.waiting().count()), (0, 1));
        let running = &fleet.running[&place(&"z.".parse().unwrap())];
        let ttl_of = |ready: &Ready| ready.zone.settings.clone();
        assert_eq!(ttl_of(&running.ready), ttl_of(&ready("z.", "")));
        assert_eq!(ttl_of(running.latest()), ttl_of(&ready("z.", &format!("ttl = \"{ttl}s\"\n"))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_became_durable_is_in_force_as_a_whole_whatever_becomes_of_the_next_one() {
    let store = Arc::new(Silent { commits: 1.into(), ..Silent::default() });
    let mut fleet = fleet(store.clone());
    fleet.add(ready("z.", ""), None).await.unwrap();
    let with = |ttl: u8, network: &str| {
        ready("z.", &format!("negative-ttl = \"{ttl}s\"\n[access]\nquery = [{{ network = \"{network}\" }}]\n"))
    };
    for (ttl, network) in [(3, "192.0.2.0/24"), (4, "0.0.0.0/0")] {
        fleet.change(with(ttl, network));
        fleet.settle(Instant::now() + Duration::from_millis(100), |_, _| {}).await;
    }
    for outcome in [Appended::Committed, Appended::Unavailable("no space".to_owned())] {
        let end = store.under_way.lock().unwrap().pop().expect("one write is under way");
        end.send(outcome).unwrap();
        fleet.settle(Instant::now() + Duration::from_millis(100), |_, _| {}).await;
    }
    let running = &fleet.running[&place(&"z.".parse().unwrap())];
    let snapshot = running.served.answers.load_full().unwrap().snapshot().clone();
    assert_eq!(snapshot.settings.negative_ttl.0, 3);
    let networks = running.served.query.load_full().map(|query| query.iter().map(ToString::to_string).collect());
    assert_eq!(networks, Some(vec!["192.0.2.0/24".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn zones_end_within_thirty_seconds_on_a_store_that_hangs() {
    let mut fleet = hanging().await;
    let origin = "z.".parse().unwrap();
    fleet.change(ready("z.", "ttl = \"2s\"\n"));
    fleet.settle(Instant::now(), |_, _| {}).await;
    tokio::task::yield_now().await;
    let start = Instant::now();
    let running = fleet.detach(&origin).unwrap();
    fleet.end(running);
    assert_eq!(start.elapsed().as_secs(), 0, "a reload does not wait for it");
    let error = fleet.add(ready("z.", ""), None).await.unwrap_err().to_string();
    assert!(error.contains("no answer for 10 s"), "not before its last write has ended: {error}");
    fleet.stop(start + STORE_PATIENCE).await;
    assert!(start.elapsed() <= STORE_PATIENCE + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn all_that_waits_is_answered_when_a_zone_ends() {
    let store = Arc::new(Silent { commits: 1.into(), ..Silent::default() });
    let mut fleet = fleet(store.clone());
    fleet.add(ready("z.", ""), None).await.unwrap();
    let running = fleet.detach(&"z.".parse().unwrap()).unwrap();
    let Side::Publisher { queue, .. } = &running.side else { panic!("no copy") };
    let mut answers = Vec::new();
    let permit = Permit { owner: Owner("http".into()), scope: Scope::Any };
    let orderer = Orderer { permit, by: "http".into() };
    let mut order = |id: &str, action: Action, count: usize| {
        let order = Order { service: "_x._tcp.z.".parse().unwrap(), id: MemberId::new(id).unwrap(), action };
        let (answer, reports) = oneshot::channel();
        answers.push(reports);
        let completion = move |reports| drop(answer.send(reports));
        queue.try_send(Submission::Orders(Orders::new(vec![order; count], orderer.clone(), completion))).unwrap();
    };
    let wanted = Wanted {
        target: None,
        port: 1,
        priority: 0,
        weight: 0,
        addresses: Box::default(),
        metadata: Box::default(),
        lease: None,
        replaces: None,
        drains: false,
    };
    order("a", Action::Register(Box::new(wanted)), 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let end = store.under_way.lock().unwrap().pop().expect("one write is under way");
    // Several parts that come to nothing, so that no other write brings the next one.
    (0..20).for_each(|_| order("nobody", Action::Withdraw, ORDERS));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    fleet.end(running);
    tokio::task::yield_now().await;
    end.send(Appended::Committed).unwrap();
    for answer in answers {
        answer.await.unwrap();
    }
    fleet.stop(start + STORE_PATIENCE).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_hangs_is_left_when_the_server_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("livezone.toml");
    std::fs::write(&path, "").unwrap();
    std::fs::create_dir(folder.path().join("zones")).unwrap();
    write_zone(&folder.path().join("zones"), "z.", "");
    let (config, _, source) = reading::read(Some(&path), None).whole(Some(&path)).unwrap();
    let fleet = fleet(Arc::new(Silent::default()));
    let front =
        Arc::new(Front::new(fleet.routing(&config), &config, fleet.clock.clone(), Arc::default(), mpsc::channel(1).0));
    let (stop, stopped) = watch::channel(false);
    let (reloads, requests) = mpsc::channel(1);
    let reloader = tokio::spawn(Reloader::new(fleet, front, config, Some(source)).run(requests, stopped));
    reloads.send(()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let start = Instant::now();
    stop.send(true).unwrap();
    reloader.await.unwrap().stop(start + STORE_PATIENCE).await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_can_not_become_our_own_yet_has_no_answers_until_it_is_or_goes() {
    for goes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (path, zones_dir) = (folder.path().join("livezone.toml"), folder.path().join("zones"));
        std::fs::write(&path, "").unwrap();
        std::fs::create_dir(&zones_dir).unwrap();
        for origin in ["y", "z"] {
            let copy = format!("origin = \"{origin}.\"\nprimary = [\"127.53.0.77:1\"]\n");
            std::fs::write(zones_dir.join(format!("{origin}.toml")), copy).unwrap();
        }
        let (config, zones, source) = reading::read(Some(&path), None).whole(Some(&path)).unwrap();
        let store = Arc::new(Silent::default());
        let mut fleet = fleet(store.clone());
        for ready in zones {
            fleet.add(ready, None).await.unwrap();
        }
        let routing = fleet.routing(&config);
        let front = Arc::new(Front::new(routing, &config, fleet.clock.clone(), Arc::default(), mpsc::channel(1).0));
        let (stop, stopped) = watch::channel(false);
        let (reloads, requests) = mpsc::channel(1);
        let reloader = tokio::spawn(Reloader::new(fleet, front.clone(), config, Some(source)).run(requests, stopped));
        let has_answers = |origin: &str| {
            let origin: Name = origin.parse().unwrap();
            let routing = front.routing.load();
            routing.zones.find(origin.as_wire()).map(|zone| zone.answers.load().is_some())
        };
        write_zone(&zones_dir, "z.", "");
        reloads.send(()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(16)).await;
        assert_eq!((has_answers("z."), front.routing.load().copies.len()), (Some(false), 1));
        if goes {
            std::fs::remove_file(zones_dir.join("z.toml")).unwrap();
        } else {
            store.commits.store(1, Relaxed);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(has_answers("z."), (!goes).then_some(true));
        stop.send(true).unwrap();
        reloader.await.unwrap().stop(Instant::now() + STORE_PATIENCE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_whose_publisher_panics_is_hidden_at_once() {
    let mut fleet = fleet(Arc::new(Silent { commits: 9.into(), ..Silent::default() }));
    let commits = AtomicUsize::new(0);
    fleet.on_commit = Some(Arc::new(move |_, _| assert_eq!(commits.fetch_add(1, Relaxed), 0, "a mistake")));
    fleet.add(ready("z.", ""), None).await.unwrap();
    let served = fleet.running[&place(&"z.".parse().unwrap())].served.clone();
    assert!(served.answers.load().is_some());
    fleet.change(ready("z.", "[soa]\nrefresh = \"7s\"\n"));
    fleet.settle(Instant::now() + STORE_PATIENCE, |_, _| {}).await;
    assert!(served.answers.load().is_none());
    fleet.stop(Instant::now() + STORE_PATIENCE).await;
}
