//! Those who wait for services to change.
//!
//! A watched service has one task, which asks its publisher once for each change, makes the octets that every watcher of the
//! service sends, and wakes these. So a change costs its publisher one question however many watch, a watcher holds no copy
//! of what it sends, and nobody wakes for a change of another service. What a commit changed of a service shows in its TXT
//! record, which carries the service's epoch: that is what [`Watches::tell`] looks at.
//!
//! A watcher that is slow misses what lies between: it gets what is newest when it can take it.
//!
//! Bounds: the places of watchers ([`super::serve::WATCHERS`]), and so as many tasks at the most; a service's changes within
//! [`GATHER`] are told together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::base::{Epoch, Name, RecordType};
use crate::zone::Commit;

use super::views::ServiceView;
use super::{Directory, Unavailable};

/// How long after a change is told the next one is, at the least: a service that changes a thousand times a second wakes its
/// watchers fifty times.
pub const GATHER: Duration = Duration::from_millis(20);
/// How long until a publisher that could not be asked is asked again.
const RETRY: Duration = Duration::from_millis(200);
/// How often it is looked whether the zone is still there, since its end is no commit.
const LOOK: Duration = Duration::from_secs(5);

/// What watchers of a service are told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// It has not been asked for yet.
    Nothing,
    /// How it stands.
    Service(Arc<Shared>),
    /// It is no longer known, or its zone isn't served any more.
    Gone,
}

/// A service, made once for all who watch it.
#[derive(Debug)]
pub(super) struct Shared {
    /// The epoch of its last change.
    pub(super) epoch: Epoch,
    /// The document.
    pub(super) document: Bytes,
    /// The same as an event of a stream.
    pub(super) event: Bytes,
}

impl Shared {
    fn of(view: &ServiceView) -> Shared {
        let document = serde_json::to_vec(view).expect("plain data with keys of text");
        let epoch = Epoch(view.summary.epoch);
        // JSON without line breaks is one line of data.
        let mut event = format!("id: {epoch}\nevent: service\ndata: ").into_bytes();
        let start = event.len();
        event.extend_from_slice(&document);
        let end = event.len();
        event.extend_from_slice(b"\n\n");
        let event = Bytes::from(event);
        Shared { epoch, document: event.slice(start..end), event }
    }
}

/// A service that is watched.
#[derive(Debug)]
struct Watched {
    /// It may have changed.
    moved: Notify,
    told: watch::Sender<Told>,
}

impl Watched {
    /// Tells how the service stands, if that is new.
    fn show(&self, view: &ServiceView) {
        self.told.send_if_modified(|told| {
            let differs = !matches!(told, Told::Service(known) if known.epoch.0 == view.summary.epoch);
            if differs {
                *told = Told::Service(Arc::new(Shared::of(view)));
            }
            differs
        });
    }
}

/// All services that are watched.
#[derive(Debug, Default)]
pub struct Watches {
    /// By zone and service.
    watched: Mutex<HashMap<Name, HashMap<Name, Arc<Watched>>>>,
    woken: AtomicU64,
    asked: AtomicU64,
}

impl Watches {
    /// Takes note of a commit that is visible. Cost: a look at its records, if the zone is watched at all.
    pub fn tell(&self, zone: &Name, commit: &Commit) {
        let watched = self.watched.lock().expect("no panic holds it");
        let Some(services) = watched.get(zone) else { return };
        let records = commit.delta.removed.iter().chain(&commit.delta.added);
        for record in records.filter(|record| record.rtype == RecordType::TXT) {
            if let Some(service) = services.get(&record.owner) {
                service.moved.notify_one();
            }
        }
    }

    /// How often watchers were woken by changes since the start.
    pub fn woken(&self) -> u64 {
        self.woken.load(Ordering::Relaxed)
    }

    /// How often publishers were asked for watchers since the start.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Counts a watcher that a change has woken.
    pub(super) fn wake(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }

    /// Watches a service.
    pub(super) fn watch(
        self: &Arc<Watches>,
        directory: &Arc<dyn Directory>,
        zone: &Name,
        service: &Name,
    ) -> watch::Receiver<Told> {
        let mut watched = self.watched.lock().expect("no panic holds it");
        let services = watched.entry(zone.clone()).or_default();
        if let Some(found) = services.get(service) {
            return found.told.subscribe();
        }
        let (told, receiver) = watch::channel(Told::Nothing);
        let fresh = Arc::new(Watched { moved: Notify::new(), told });
        services.insert(service.clone(), fresh.clone());
        let (watches, directory) = (self.clone(), directory.clone());
        let (zone, service) = (zone.clone(), service.clone());
        tokio::spawn(async move { watches.follow(&fresh, &*directory, &zone, &service).await });
        receiver
    }

    /// Tells how a service stands, and each change, until nobody watches it.
    async fn follow(&self, watched: &Watched, directory: &dyn Directory, zone: &Name, service: &Name) {
        while !self.forget(watched, zone, service) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            match directory.service(zone, service).await {
                Ok(Some(view)) => watched.show(&view),
                Ok(None) => drop(watched.told.send_replace(Told::Gone)),
                Err(Unavailable(_)) if directory.zone(zone).is_none() => drop(watched.told.send_replace(Told::Gone)),
                Err(Unavailable(cause)) => {
                    tracing::debug!(%service, cause, "a watched service can't be read; it will be tried again");
                    sleep(RETRY).await;
                    continue;
                }
            }
            sleep(GATHER).await;
            while timeout(LOOK, watched.moved.notified()).await.is_err() {
                if watched.told.receiver_count() == 0 {
                    break;
                }
                if directory.zone(zone).is_none() {
                    watched.told.send_replace(Told::Gone);
                }
            }
        }
    }

    /// Ends the watch of a service that nobody watches any more.
    fn forget(&self, watched: &Watched, zone: &Name, service: &Name) -> bool {
        let mut all = self.watched.lock().expect("no panic holds it");
        // Whoever comes to watch holds the lock.
        if watched.told.receiver_count() > 0 {
            return false;
        }
        if let Some(services) = all.get_mut(zone) {
            services.remove(service);
            if services.is_empty() {
                all.remove(zone);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::api::Shrunk;
    use crate::api::access::Tokens;
    use crate::api::drain::DrainView;
    use crate::api::views::MemberState;
    use crate::api::views::ServiceSummary;
    use crate::api::{Page, Pending, ServedZone};
    use crate::base::{Ttl, Wall};
    use crate::membership::MemberId;
    use crate::zone::registration::order::{Order, Orderer, Report};
    use crate::zone::{Delta, Record};

    /// A zone `z.` whose services all have this epoch.
    struct Played {
        epoch: AtomicU64,
        knows: AtomicBool,
    }

    impl Directory for Played {
        fn tokens(&self) -> Arc<Tokens> {
            Arc::default()
        }

        fn store(&self) -> Pending<Result<(), Unavailable>> {
            Box::pin(async { Ok(()) })
        }

        fn zones(&self) -> Vec<ServedZone> {
            Vec::new()
        }

        fn zone(&self, origin: &Name) -> Option<ServedZone> {
            Some(ServedZone { origin: origin.clone(), copy: None, notify: Vec::new(), snapshot: None })
        }

        fn service(&self, origin: &Name, service: &Name) -> Pending<Result<Option<ServiceView>, Unavailable>> {
            let summary = ServiceSummary {
                service: service.to_string(),
                host_name: None,
                epoch: self.epoch.load(Ordering::Relaxed),
                members_count: 0,
                digest: String::new(),
                slots: None,
                hold: false,
            };
            let view = ServiceView { zone: origin.to_string(), summary, members: Vec::new(), free_slots: Vec::new() };
            let view = self.knows.load(Ordering::Relaxed).then_some(view);
            Box::pin(async { Ok(view) })
        }

        fn order(&self, _: &Name, _: Orderer, _: Vec<Order>) -> Pending<Result<Vec<Report>, Unavailable>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn drained(&self, _: &Name, _: &Name, _: &MemberId, _: &str) -> DrainView {
            let state = MemberState::Draining;
            DrainView { state, safe_to_stop_at: None, safe_in: None, waiting_for: Vec::new(), timed_out: false }
        }

        fn shrink(&self, _: &Name, _: &Name, _: Arc<str>) -> Pending<Result<Shrunk, Unavailable>> {
            Box::pin(async { Ok(Ok((0, Epoch(0)))) })
        }

        fn undrained(&self, _: &Name, _: &Name, _: &MemberId) {}

        fn commits(&self, _: &Name, _: Option<Epoch>, _: usize) -> Pending<Result<Page, Unavailable>> {
            Box::pin(async { Ok(Page::default()) })
        }

        fn metrics(&self) -> String {
            String::new()
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A commit that changes this service's TXT record, and an address.
    fn commit(service: &str) -> Commit {
        let record = |owner: &str, rtype| Record { owner: name(owner), rtype, ttl: Ttl(5), rdata: Box::default() };
        let added = vec![record(service, RecordType::TXT), record("_other._tcp.z.", RecordType::SRV)];
        Commit { epoch: Epoch(2), at: Wall(0), changes: Vec::new(), delta: Delta { removed: Vec::new(), added } }
    }

    async fn epoch(receiver: &mut watch::Receiver<Told>) -> u64 {
        receiver.changed().await.unwrap();
        match &*receiver.borrow_and_update() {
            Told::Service(shared) => shared.epoch.0,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_asked_for_once_and_wakes_who_watches_that_service_alone() {
        let played = Arc::new(Played { epoch: AtomicU64::new(1), knows: AtomicBool::new(true) });
        let directory: Arc<dyn Directory> = played.clone();
        let watches: Arc<Watches> = Arc::default();
        let watch = |service: &str| watches.watch(&directory, &name("z."), &name(service));
        let mut many: Vec<_> = (0..100).map(|_| watch("_x._tcp.z.")).collect();
        let mut other = watch("_other._tcp.z.");
        for receiver in &mut many {
            assert_eq!(epoch(receiver).await, 1);
        }
        assert_eq!((epoch(&mut other).await, watches.asked()), (1, 2));
        played.epoch.store(2, Ordering::Relaxed);
        watches.tell(&name("z."), &commit("_x._tcp.z."));
        watches.tell(&name("y."), &commit("_other._tcp.z."));
        for receiver in &mut many {
            assert_eq!(epoch(receiver).await, 2);
        }
        sleep(Duration::from_secs(60)).await;
        assert_eq!((other.has_changed().unwrap(), watches.asked()), (false, 3));
        // What was told of is the same for all.
        let [Told::Service(a), Told::Service(b)] = [0, 99].map(|at| many[at].borrow().clone()) else { panic!() };
        assert!(Arc::ptr_eq(&a, &b));
        assert!(a.event.starts_with(b"id: 2\nevent: service\ndata: {") && a.event.ends_with(b"}\n\n"));
        // A commit that leaves the epoch is none of theirs.
        watches.tell(&name("z."), &commit("_x._tcp.z."));
        sleep(Duration::from_secs(1)).await;
        assert_eq!((many[0].has_changed().unwrap(), watches.asked()), (false, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_gone_is_told_and_one_that_nobody_watches_is_forgotten() {
        let played = Arc::new(Played { epoch: AtomicU64::new(1), knows: AtomicBool::new(true) });
        let directory: Arc<dyn Directory> = played.clone();
        let watches: Arc<Watches> = Arc::default();
        let mut receiver = watches.watch(&directory, &name("z."), &name("_x._tcp.z."));
        assert_eq!(epoch(&mut receiver).await, 1);
        played.knows.store(false, Ordering::Relaxed);
        watches.tell(&name("z."), &commit("_x._tcp.z."));
        receiver.changed().await.unwrap();
        assert!(matches!(*receiver.borrow(), Told::Gone));
        drop(receiver);
        sleep(LOOK * 2).await;
        assert!(watches.watched.lock().unwrap().is_empty());
    }
}
