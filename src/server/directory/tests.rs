//! The history, from a store that counts what it is asked, and orders, for a publisher that takes as many as it likes.

use std::sync::Mutex;

use crate::base::{Monotonic, RecordType, Ttl, Wall};
use crate::membership::access::Scope;
use crate::membership::{Key, Stamp};
use crate::membership::{Owner, Permit};
use crate::server::publisher::Reply;
use crate::store::{Appended, StoreError, StoredZone, Write};
use crate::zone::registration::order::Action;
use crate::zone::scenes::{Universe, caused};
use crate::zone::{Cause, CausedChange, Change, Delta, Rdata, Record, Rrset, Settings, Step};

use super::*;

/// A store that has commits, and whatever else is asked of it hangs.
#[derive(Default)]
struct Shelf {
    commits: Vec<Commit>,
    /// What it was asked for: since when, and how many.
    asked: Mutex<Vec<(Option<u64>, usize)>>,
}

fn never<T: Send + 'static>() -> store::Pending<T> {
    Box::pin(std::future::pending())
}

impl Store for Shelf {
    fn start(&self, _: &Name, _: Wall) -> Result<Option<StoredZone>, StoreError> {
        Ok(None)
    }

    fn begin(&self, _: &Name, _: Wall) -> store::Pending<Result<(), String>> {
        never()
    }

    fn append(&self, _: Write) -> store::Pending<Appended> {
        never()
    }

    fn epoch(&self, _: &Name) -> store::Pending<Result<Option<Epoch>, String>> {
        never()
    }

    fn oldest(&self, _: &Name) -> store::Pending<Result<Option<Epoch>, String>> {
        let oldest = self.commits.first().map(|commit| commit.epoch);
        Box::pin(async move { Ok(oldest) })
    }

    fn checkpoint(&self, _: &Name, _: Vec<(Key, Stamp)>) -> store::Pending<Result<(), String>> {
        never()
    }

    fn refreshed(&self, _: &Name, _: Wall) -> store::Pending<Result<(), String>> {
        never()
    }

    fn commits(&self, _: &Name, since: Option<Epoch>, limit: usize) -> store::Pending<Result<Vec<Commit>, String>> {
        self.asked.lock().unwrap().push((since.map(|since| since.0), limit));
        let later = self.commits.iter().filter(|commit| Some(commit.epoch) > since);
        let commits = later.take(limit).cloned().collect();
        Box::pin(async { Ok(commits) })
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn settings() -> Arc<Settings> {
    Universe::new("z.").settings()
}

fn leased(there: bool, cause: Cause) -> CausedChange {
    let rdatas = if there { vec![[1, 1].into()] } else { Vec::new() };
    CausedChange { change: Change::Leased { name: name("h.z."), rtype: RecordType::TXT, ttl: Ttl(5), rdatas }, cause }
}

fn commit(epoch: u64, changes: Vec<CausedChange>) -> Commit {
    Commit { epoch: Epoch(epoch), at: Wall(epoch), changes, delta: Delta::default() }
}

/// A first commit, a registration, its lapse, and the return.
fn commits() -> Vec<Commit> {
    let registered = || leased(true, Cause::Registered("key k.".into()));
    vec![
        commit(100, vec![caused(Change::Settings(settings()))]),
        commit(101, vec![registered()]),
        commit(102, vec![leased(false, Cause::Lapsed)]),
        commit(103, vec![registered()]),
    ]
}

fn step(commit: &Commit) -> Step {
    let [from, to] = [commit.epoch.0 - 1, commit.epoch.0].map(|epoch| settings().soa(Epoch(epoch).serial()));
    Step { from: from.into(), to: to.into(), commit: Arc::new(commit.clone()) }
}

/// A zone whose commits are in memory from this number on.
fn served(commits: &[Commit], from: usize) -> dns::respond::ServedZone {
    let zone = dns::respond::ServedZone::new(name("z."));
    {
        let mut history = zone.history.lock().unwrap();
        commits[..from].iter().for_each(|commit| history.begin(commit));
        commits[from..].iter().for_each(|commit| history.push(step(commit)));
    }
    zone
}

async fn page(shelf: &Shelf, zone: &dns::respond::ServedZone, since: Option<u64>, limit: usize) -> Page {
    read_page(shelf, zone, since.map(Epoch), limit).await.unwrap()
}

fn epochs(page: &Page) -> Vec<u64> {
    page.commits.iter().map(|commit| commit.epoch.0).collect()
}

/// The commits of a page, and the lapses that it tells.
fn told(page: &Page) -> (Vec<u64>, Vec<(u64, usize, u64)>) {
    let returns = page.returns.iter().map(|(&(epoch, number), lapse)| (epoch.0, number, lapse.0));
    (epochs(page), returns.collect())
}

#[tokio::test]
async fn what_is_new_is_told_from_memory_and_what_is_older_costs_the_store_one_page() {
    let shelf = Shelf { commits: commits(), ..Shelf::default() };
    let zone = served(&shelf.commits, 3);
    let returned = vec![(103, 0, 102)];
    for since in [102, 103, 104, u64::MAX] {
        let new: Vec<u64> = (100..104).filter(|&epoch| epoch > since).collect();
        let returned = if since == 102 { returned.clone() } else { Vec::new() };
        assert_eq!(told(&page(&shelf, &zone, Some(since), 10).await), (new, returned), "since {since}");
        assert!(shelf.asked.lock().unwrap().is_empty(), "since {since}");
    }
    // The lapse lies before what is told.
    for since in [None, Some(99), Some(100), Some(101)] {
        let all: Vec<u64> = (100..104).filter(|&epoch| Some(epoch) > since).collect();
        assert_eq!(told(&page(&shelf, &zone, since, 10).await), (all, returned.clone()), "since {since:?}");
        assert_eq!(std::mem::take(&mut *shelf.asked.lock().unwrap()), [(since, 10)]);
    }
    assert_eq!(told(&page(&shelf, &zone, Some(101), 1).await), (vec![102], Vec::new()));
}

#[tokio::test]
async fn a_zone_that_was_restored_tells_the_same() {
    let shelf = Shelf { commits: commits(), ..Shelf::default() };
    let kept: Vec<Arc<Commit>> = shelf.commits.iter().cloned().map(Arc::new).collect();
    let mut lapses = Lapses::default();
    kept.iter().for_each(|commit| lapses.note(commit));
    let zone = dns::respond::ServedZone::new(name("z."));
    *zone.history.lock().unwrap() = History::restore(&settings(), Epoch(103), &kept, lapses);
    for (since, asked) in [(102, 0), (101, 0), (100, 0), (99, 1)] {
        let told = told(&page(&shelf, &zone, Some(since), 10).await);
        assert_eq!(told, ((since + 1..104).collect(), vec![(103, 0, 102)]), "since {since}");
        assert_eq!(std::mem::take(&mut *shelf.asked.lock().unwrap()).len(), asked, "since {since}");
    }
}

#[tokio::test]
async fn a_commit_that_nobody_can_see_yet_is_not_told() {
    let shelf = Shelf { commits: commits(), ..Shelf::default() };
    let zone = served(&shelf.commits[..3], 3);
    assert_eq!(told(&page(&shelf, &zone, None, 10).await), (vec![100, 101, 102], Vec::new()));
    assert_eq!(told(&page(&shelf, &zone, Some(102), 10).await), (Vec::new(), Vec::new()));
}

/// The first commit of a zone, and others; those of a copy leave gaps.
fn gaps() -> Vec<Commit> {
    let rdata: Rdata = name("ns1.z.").as_wire().into();
    let rrset = Rrset { rtype: RecordType::NS, ttl: Ttl(5), rdatas: vec![rdata.clone()] };
    let begins = Change::Static { name: name("z."), rrsets: vec![rrset] };
    let mut first = commit(100, vec![caused(Change::Settings(settings())), caused(begins)]);
    first.delta.added = vec![Record { owner: name("z."), rtype: RecordType::NS, ttl: Ttl(5), rdata }];
    vec![first, commit(110, Vec::new()), commit(111, Vec::new()), commit(5_000_000_000, Vec::new())]
}

#[tokio::test]
async fn a_page_is_incomplete_if_commits_after_its_beginning_are_kept_no_longer() {
    let all = gaps();
    let zone = served(&all, all.len());
    let incomplete = async |kept: &[Commit], since| {
        let shelf = Shelf { commits: kept.to_vec(), ..Shelf::default() };
        page(&shelf, &zone, since, 2).await.incomplete
    };
    // Nothing was before the first one.
    for since in [None, Some(0), Some(99), Some(100), Some(105), Some(110), Some(111), Some(9_000_000_000)] {
        assert!(!incomplete(&all, since).await, "since {since:?}");
    }
    for (since, is_incomplete) in [(42, true), (100, true), (108, true), (109, false), (110, false), (111, false)] {
        assert_eq!(incomplete(&all[1..], Some(since)).await, is_incomplete, "since {since}");
    }
    assert!(!incomplete(&all[1..], None).await);
}

/// What is told of so many orders that go through a queue with room for one part.
async fn told_of(orders: usize, queue: mpsc::Sender<Submission>) -> Result<Vec<String>, String> {
    let permit = Permit { owner: Owner("token t".into()), scope: Scope::Any };
    let order = |number: usize| Order {
        service: name("_x._tcp.z."),
        id: MemberId::new(&format!("i-{number}")).unwrap(),
        action: Action::Renew,
    };
    let [full, ended] = ["full", "ended"].map(|why| Unavailable(why.to_owned()));
    let orderer = Orderer { permit, by: "token t".into() };
    let reports = hand_over(queue, orderer, (0..orders).map(order).collect(), full, ended).await;
    let text = |report: Report| report.unwrap_err().to_string();
    reports.map(|reports| reports.into_iter().map(text).collect()).map_err(|cause| cause.0)
}

/// Takes a part and reports on each order of it.
async fn report(submissions: &mut mpsc::Receiver<Submission>) {
    let Some(Submission::Orders(orders)) = submissions.recv().await else { panic!("no orders") };
    Reply::Orders(orders).send(Now { mono: Monotonic(0), wall: Wall(0) });
}

/// What the report says of an order that a publisher has left out: others are of orders that came to none.
const REPORTED: &str = "it was not carried out";

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_a_part_is_taken_is_reported_item_by_item() {
    let start = tokio::time::Instant::now();
    let (queue, mut submissions) = mpsc::channel(1);
    tokio::spawn(async move {
        report(&mut submissions).await;
        // The second part waits meanwhile; there is no room for the third.
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        report(&mut submissions).await;
        std::future::pending::<()>().await;
    });
    let told = told_of(4 * ORDERS + 1, queue).await.unwrap();
    assert!(told[..2 * ORDERS].iter().all(|text| text == REPORTED), "{}", told[0]);
    assert!(told[2 * ORDERS..].iter().all(|text| text == "full") && told.len() == 4 * ORDERS + 1, "{}", told.len());
    assert!(start.elapsed() < 2 * PATIENCE, "those behind it wait for nothing");

    let (queue, mut submissions) = mpsc::channel(1);
    tokio::spawn(async move {
        report(&mut submissions).await;
        drop(submissions.recv().await);
    });
    let told = told_of(3 * ORDERS, queue).await.unwrap();
    assert!(told[..ORDERS].iter().all(|text| text == REPORTED), "{}", told[0]);
    assert!(told[ORDERS..].iter().all(|text| text == "ended") && told.len() == 3 * ORDERS, "{}", told.len());
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_nothing_is_taken_is_unavailable_as_a_whole() {
    let (queue, submissions) = mpsc::channel(1);
    drop(submissions);
    assert_eq!(told_of(2 * ORDERS, queue).await, Err("ended".to_owned()));
    let (queue, mut submissions) = mpsc::channel(1);
    tokio::spawn(async move { drop(submissions.recv().await) });
    assert_eq!(told_of(1, queue).await, Err("ended".to_owned()), "it was taken and lost");
    let (queue, _submissions) = mpsc::channel(1);
    let shrink = Shrink { service: name("_x._tcp.z."), by: "key k.".into(), completion: Box::new(|_| {}) };
    queue.try_send(Submission::Shrink(Box::new(shrink))).unwrap();
    assert_eq!(told_of(2 * ORDERS, queue).await, Err("full".to_owned()));
}
