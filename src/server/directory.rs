//! What the HTTP API reads: the snapshots that are served, the publishers' memberships, and the history, of memory and store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::api::access::Tokens;
use crate::api::drain::DrainView;
use crate::api::views::{
    CopyView, FailureView, FreeSlotView, MemberState, MemberView, NotifyView, ServiceSummary, ServiceView, time,
};
use crate::api::{self, Page, Pending, ServedZone, Shrunk, Unavailable};
use crate::base::{Epoch, Name, Now, Ttl};
use crate::dns;
use crate::membership::MemberId;
use crate::store::{self, Store};
use crate::zone::registration::order::{Failure, Order, Orderer, Report};
use crate::zone::{Commit, History, Lapses, Returns};

use super::drains::{Drains, Terms};
use super::front::{Copied, Routing};
use super::metrics::{self, Sources};
use super::notifier::NotifyState;
use super::publisher::{ORDERS, Orders, Publisher, Shrink, Submission};
use super::store_health::Health;

/// Questions that wait for a publisher. It takes one after each batch of updates, so that readers don't hold up
/// heartbeats; at the limit they are told to come again.
pub const INQUIRIES: usize = 64;
/// How long a reader waits for a publisher or the store: they answer within milliseconds unless the disk hangs, and who
/// looks into that should soon see it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question for a publisher: how does this service stand?
#[derive(Debug)]
pub struct Inquiry {
    service: Name,
    answer: oneshot::Sender<Option<ServiceView>>,
}

impl Inquiry {
    /// Answers it. Cost: that of the service's members.
    pub fn answer(self, publisher: &Publisher, now: Now) {
        let _ = self.answer.send(look(publisher, &self.service, now)); // whoever asked may have gone
    }
}

/// A service as its publisher knows it. Its epoch, count and digest are published; what a write under way is about to
/// change in its members shows already, marked as pending.
pub(super) fn look(publisher: &Publisher, service: &Name, now: Now) -> Option<ServiceView> {
    let (snapshot, table) = (publisher.snapshot(), publisher.table());
    let members = table.members(service).map(|(index, of)| {
        let pending = table.edited().contains(&index);
        let member = MemberView::of(of, &table.reading(index), table.deadline(index), pending, now);
        member.governed(table.damped_until(of), table.waits_for_slot(index), now)
    });
    Some(ServiceView {
        zone: snapshot.origin().to_string(),
        summary: ServiceSummary::of(snapshot, service)?,
        members: members.collect(),
        free_slots: table
            .slots_of(service)
            .map_or_else(Vec::new, |slots| slots.free.iter().map(FreeSlotView::of).collect()),
    })
}

/// What a running server has to tell.
pub(super) struct Directory {
    pub(super) sources: Sources,
    pub(super) drains: Arc<Drains>,
    pub(super) health: Arc<Health>,
}

impl Directory {
    fn inquiries(&self, origin: &Name) -> Option<mpsc::Sender<Inquiry>> {
        self.sources.front.routing.load().registrars.get(origin).map(|registrar| registrar.inquiries.clone())
    }
}

impl api::Directory for Directory {
    fn tokens(&self) -> Arc<Tokens> {
        self.sources.front.routing.load().tokens.clone()
    }

    fn store(&self) -> Pending<Result<(), Unavailable>> {
        let (health, store) = (self.health.clone(), self.sources.store.clone());
        let zone = self.sources.front.routing.load().zones.iter().next().map(|zone| zone.origin.clone());
        Box::pin(async move {
            let Some(zone) = zone else { return Err(Unavailable("there is no zone to keep anything of".to_owned())) };
            let failed = |cause| Unavailable(format!("it can't be written: {cause}; see to its disk"));
            health.check(&*store, &zone).await.map_err(failed)
        })
    }

    fn zones(&self) -> Vec<ServedZone> {
        let routing = self.sources.front.routing.load();
        let mut zones: Vec<ServedZone> = routing.zones.iter().map(|zone| served(&routing, zone)).collect();
        zones.sort_by(|a, b| a.origin.canonical_cmp(&b.origin));
        zones
    }

    fn zone(&self, origin: &Name) -> Option<ServedZone> {
        let routing = self.sources.front.routing.load();
        routing.zones.find(origin.as_wire()).map(|zone| served(&routing, zone))
    }

    fn service(&self, origin: &Name, service: &Name) -> Pending<Result<Option<ServiceView>, Unavailable>> {
        let unavailable = |why: &str| Unavailable(format!("the zone {origin} can't be looked into: {why}"));
        let ended = unavailable("it was taken away or the server ends");
        let silent = unavailable("its publisher does not answer; ask again, and see the server's log");
        let (answer, view) = oneshot::channel();
        let sent = match self.inquiries(origin) {
            Some(inquiries) => inquiries.try_send(Inquiry { service: service.clone(), answer }).map_err(|_| {
                unavailable(&format!("{INQUIRIES} readers wait for its publisher already; ask again in a second"))
            }),
            None => Err(ended.clone()),
        };
        Box::pin(async move {
            sent?;
            timeout(PATIENCE, view).await.map_err(|_| silent)?.map_err(|_| ended)
        })
    }

    fn order(&self, origin: &Name, orderer: Orderer, orders: Vec<Order>) -> Pending<Result<Vec<Report>, Unavailable>> {
        let queue = self.sources.front.routing.load().registrars.get(origin).map(|registrar| registrar.queue.clone());
        let unavailable = |why: &str| Unavailable(format!("the zone {origin} takes no registrations: {why}"));
        let ended = unavailable("it was taken away or the server ends");
        let full = unavailable("more wait for its publisher than it takes; send it again in a second");
        Box::pin(async move { hand_over(queue.ok_or(ended.clone())?, orderer, orders, full, ended).await })
    }

    fn drained(&self, origin: &Name, service: &Name, id: &MemberId, since: &str) -> DrainView {
        let routing = self.sources.front.routing.load();
        let (secondaries, timeout) =
            routing.registrars.get(origin).map_or_else(Default::default, |registrar| registrar.draining.clone());
        let answers = routing.zones.find(origin.as_wire()).and_then(|zone| zone.answers.load_full());
        let (epoch, ttl) = answers.map_or((Epoch(0), Ttl(0)), |answers| {
            let snapshot = answers.snapshot();
            (snapshot.epoch, snapshot.settings.ttl)
        });
        let key = (origin.clone(), service.clone(), id.clone());
        let now = self.sources.front.clock.now();
        let lowered =
            routing.zones.find(origin.as_wire()).and_then(|zone| *zone.lowered.lock().expect("no panic holds it"));
        let lowered = lowered.map(|(ttl, at)| (ttl, now.mono.before(now.wall.since(at))));
        let standing = self.drains.standing(key, since, epoch, &Terms { secondaries, timeout, ttl, lowered }, now);
        DrainView {
            state: MemberState::Draining,
            safe_to_stop_at: standing.safe_at.map(time),
            safe_in: standing.safe_in.map(|left| left.as_secs_f64()),
            waiting_for: standing.waiting_for.iter().map(ToString::to_string).collect(),
            timed_out: standing.timed_out,
        }
    }

    fn shrink(&self, origin: &Name, service: &Name, by: Arc<str>) -> Pending<Result<Shrunk, Unavailable>> {
        let queue = self.sources.front.routing.load().registrars.get(origin).map(|registrar| registrar.queue.clone());
        let unavailable = |why: &str| Unavailable(format!("the zone {origin} takes no changes: {why}"));
        let ended = unavailable("it was taken away or the server ends");
        let full = unavailable("more wait for its publisher than it takes; send it again in a second");
        let service = service.clone();
        Box::pin(async move {
            let (done, shrunk) = oneshot::channel();
            let completion = Box::new(move |told| drop(done.send(told))); // whoever asked may have gone
            let submission = Submission::Shrink(Box::new(Shrink { service, by, completion }));
            queue.ok_or(ended.clone())?.try_send(submission).map_err(|_| full)?;
            shrunk.await.map_err(|_| ended)
        })
    }

    fn undrained(&self, origin: &Name, service: &Name, id: &MemberId) {
        self.drains.end(&(origin.clone(), service.clone(), id.clone()));
    }

    fn commits(&self, origin: &Name, since: Option<Epoch>, limit: usize) -> Pending<Result<Page, Unavailable>> {
        let (zone, store) =
            (self.sources.front.routing.load().zones.find(origin.as_wire()).cloned(), self.sources.store.clone());
        let gone = Unavailable(format!("the zone {origin} was taken away"));
        Box::pin(async move { read_page(&*store, &*zone.ok_or(gone)?, since, limit).await })
    }

    fn metrics(&self) -> String {
        metrics::page(&self.sources)
    }
}

/// Hands orders to a publisher and gathers what it reports on them. Where it doesn't take a part, each order of that and of those
/// behind it is told so, and where it ends with one, each of that; the others have their reports. Only without any is the whole
/// unavailable.
async fn hand_over(
    queue: mpsc::Sender<Submission>,
    orderer: Orderer,
    orders: Vec<Order>,
    full: Unavailable,
    ended: Unavailable,
) -> Result<Vec<Report>, Unavailable> {
    let count = orders.len();
    let mut waiting = Vec::new();
    let mut orders = orders.into_iter();
    let mut failure = None;
    while failure.is_none() {
        let part: Vec<Order> = orders.by_ref().take(ORDERS).collect();
        if part.is_empty() {
            break;
        }
        let (size, (report, reports)) = (part.len(), oneshot::channel());
        let completion = move |told| drop(report.send(told)); // whoever asked may have gone
        let part = Submission::Orders(Orders::new(part, orderer.clone(), completion));
        match timeout(PATIENCE, queue.send(part)).await {
            Ok(Ok(())) => waiting.push((size, reports)),
            Ok(Err(_)) => failure = Some(ended.clone()),
            Err(_) => failure = Some(full.clone()),
        }
    }
    let unavailable = |cause: &Unavailable| Err(Failure::Unavailable(cause.0.clone()));
    let mut reports: Vec<Report> = Vec::with_capacity(count);
    let mut any = false;
    for (size, part) in waiting {
        match part.await {
            Ok(told) => {
                any = true;
                reports.extend(told);
            }
            Err(_) => {
                reports.resize(reports.len() + size, unavailable(&ended));
                failure.get_or_insert_with(|| ended.clone());
            }
        }
    }
    match failure {
        Some(cause) if !any => Err(cause),
        Some(cause) => {
            reports.resize(count, unavailable(&cause));
            Ok(reports)
        }
        None => Ok(reports),
    }
}

/// A page of a zone's history: from memory where that reaches back so far, since whoever looks again and again at what is
/// new should cost the store's one thread nothing.
async fn read_page(
    store: &dyn Store,
    zone: &dns::respond::ServedZone,
    since: Option<Epoch>,
    limit: usize,
) -> Result<Page, Unavailable> {
    let history = || zone.history.lock().expect("no panic holds it");
    if let Some(since) = since
        && let Some(page) = remembered(&history(), since, limit)
    {
        return Ok(page);
    }
    let mut commits = within_patience(store.commits(&zone.origin, since, limit)).await?;
    let incomplete = match (since, commits.first()) {
        (Some(since), Some(first)) if first.epoch != since.next() && !first.begins(&zone.origin) => {
            // Epochs of copies leave gaps, so the first one may follow all the same.
            within_patience(store.oldest(&zone.origin)).await?.is_some_and(|oldest| since < oldest)
        }
        _ => false,
    };
    let history = history();
    // What the store has and nobody can see yet comes with the next page.
    commits.retain(|commit| history.lapses().newest().is_none_or(|newest| commit.epoch <= newest));
    let commits: Vec<Arc<Commit>> = commits.into_iter().map(Arc::new).collect();
    Ok(Page { incomplete, ..page_of(commits, history.lapses()) })
}

/// Waits for the store.
async fn within_patience<T>(answer: store::Pending<Result<T, String>>) -> Result<T, Unavailable> {
    let silence = Unavailable("the store does not answer; see to its disk, and ask again".to_owned());
    let answer = timeout(PATIENCE, answer).await.map_err(|_| silence)?;
    answer.map_err(|cause| Unavailable(format!("the store can't be read: {cause}; see to its disk")))
}

/// The page, if memory reaches back so far.
fn remembered(history: &History, since: Epoch, limit: usize) -> Option<Page> {
    Some(page_of(history.after(since, limit)?, history.lapses()))
}

/// Commits with what is known of lapses in them.
fn page_of(commits: Vec<Arc<Commit>>, lapses: &Lapses) -> Page {
    let ends = commits.first().zip(commits.last());
    let returns = ends.map_or_else(Returns::new, |(first, last)| lapses.returns(first.epoch..=last.epoch));
    Page { commits, returns, incomplete: false }
}

fn copy(copied: &Copied) -> CopyView {
    let state = copied.state.lock().expect("no panic holds it").clone();
    let failure = |(primary, reason): (SocketAddr, String)| FailureView { primary: primary.to_string(), reason };
    CopyView {
        primaries: copied.primaries.iter().map(ToString::to_string).collect(),
        primary: state.primary.map(|primary| primary.to_string()),
        refreshed: state.refreshed.map(time),
        expires: state.expires.map(time),
        expired: state.expired,
        failures: state.failures.into_iter().map(failure).collect(),
    }
}

fn notify(state: &NotifyState) -> NotifyView {
    NotifyView {
        address: state.target.address.to_string(),
        key: state.target.key.as_ref().map(ToString::to_string),
        listed: state.target.is_listed,
        standing: state.standing.word().to_owned(),
        reason: state.standing.reason(),
        since: time(state.since),
        sent: state.sent.map(|serial| serial.0),
        acknowledged: state.acknowledged.map(|serial| serial.0),
        unanswered: state.attempts,
    }
}

fn served(routing: &Routing, zone: &dns::respond::ServedZone) -> ServedZone {
    let notices = routing.notices.get(&zone.origin);
    ServedZone {
        origin: zone.origin.clone(),
        copy: routing.copies.get(&zone.origin).map(copy),
        notify: notices.map_or(Vec::new(), |notices| notices.states().iter().map(notify).collect()),
        snapshot: zone.answers.load().as_deref().map(|answers| answers.snapshot().clone()),
    }
}

#[cfg(test)]
mod tests;
