//! Where a zone becomes visible: to queries, to those who follow it, and to whoever is told of commits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::answer::Answers;
use crate::base::{Name, Ttl, Wall};
use crate::dns::respond::ServedZone;
use crate::zone::{Commit, Published, Snapshot, Step};

use super::notifier::Newest;

/// Called with each commit after it has become visible.
pub type OnCommit = Arc<dyn Fn(&Name, &Commit) + Send + Sync>;

/// A zone's visible side, for its only writer.
pub struct Visible {
    /// What transports read.
    pub served: Arc<ServedZone>,
    /// Where the notifier learns of commits.
    pub newest: watch::Sender<Newest>,
    /// Told of each commit.
    pub on_commit: Option<OnCommit>,
    /// The answers before the current ones. Whoever reads them is done by the next commit, so that it is never a reader who
    /// gives back their memory, which takes longer than a query.
    pub retired: Mutex<Option<Arc<Answers>>>,
}

impl Visible {
    /// Shows a zone as it was found.
    pub fn show(&self, snapshot: &Snapshot) {
        self.served.answers.store(Some(Arc::new(Answers::build(snapshot))));
        self.newest.send_replace(Some(Arc::new(snapshot.soa())));
    }

    /// Shows nothing: the zone is answered with SERVFAIL.
    pub fn hide(&self) {
        self.served.answers.store(None);
    }

    /// Shows what a commit has published. `before` is the zone before it, if there was one to follow.
    pub fn advance(&self, before: Option<&Snapshot>, published: &Published, commit: &Arc<Commit>) {
        let Visible { served, newest, on_commit, retired } = self;
        let zone = &served.origin;
        let soa = Arc::new(published.snapshot.soa());
        {
            // Ahead of the answers: whoever follows from what they show finds the way there.
            let mut history = served.history.lock().expect("no panic holds it");
            match before {
                Some(before) => {
                    history.push(Step { from: before.soa().into(), to: soa.clone(), commit: commit.clone() });
                }
                None => history.begin(commit),
            }
        }
        let answers = match served.answers.load_full().filter(|_| before.is_some()) {
            Some(current) => current.advance(published),
            None => Answers::build(&published.snapshot),
        };
        // Of answers that the new ones share nothing with, one set in memory is enough.
        let replaced = served.answers.swap(Some(Arc::new(answers))).filter(|_| before.is_some());
        drop(std::mem::replace(&mut *retired.lock().expect("no panic holds it"), replaced));
        served.figures.committed(commit.at);
        if let Some(before) =
            before.map(|before| before.settings.ttl).filter(|ttl| *ttl > published.snapshot.settings.ttl)
        {
            let mut lowered = served.lowered.lock().expect("no panic holds it");
            let until = |(ttl, at): (Ttl, Wall)| at.after(Duration::from_secs(ttl.0.into()));
            let latest = lowered.into_iter().chain([(before, commit.at)]).max_by_key(|lowering| until(*lowering));
            *lowered = latest;
        }
        newest.send_replace(Some(soa));
        tracing::info!(
            %zone,
            epoch = %commit.epoch,
            serial = %commit.epoch.serial(),
            removed = commit.delta.removed.len(),
            added = commit.delta.added.len(),
            cause = %commit.summary(),
            "commit"
        );
        if let Some(on_commit) = on_commit {
            on_commit(zone, commit);
        }
    }
}
