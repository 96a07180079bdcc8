//! Keeping a copy: what is written to the store, and what becomes of it.
//!
//! A difference is written as such while the store has the copy as it was before, and else all of the zone in place of what
//! is there. What a write came to is found out before the next one: one that was given up may come into force later.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::base::{Epoch, Name, Wall};
use crate::server::task;
use crate::store::{Appended, Write};
use crate::zone::{CausedChange, Change, Commit, StaticNode};

use super::Follower;
use super::schedule::Timers;

/// How long a write may take before the copy counts as not kept: one of a large zone takes seconds.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// What the store has.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its epoch; none if it doesn't know the zone.
    pub(super) epoch: Option<Epoch>,
    /// Whether it has what is here, or had before what is being written.
    pub(super) is_whole: bool,
    /// The last commit, if it has that not: it is written again, with all of the zone.
    pub(super) missing: Option<Arc<Commit>>,
    /// Whether its epoch must be read first, since the fate of a write isn't known.
    pub(super) in_doubt: bool,
    /// Whether it took the last write not, which was said.
    pub(super) refused: bool,
    /// When it was last noted that a primary has it so.
    pub(super) noted: Option<Wall>,
}

pub(super) type Keeping = Pin<Box<dyn Future<Output = Written> + Send>>;

/// What became of a write.
pub(super) enum Written {
    /// The store has the zone as it is here, as of then.
    Kept { epoch: Option<Epoch>, at: Option<Wall> },
    /// It has not, and is at this epoch.
    Refused { epoch: Option<Epoch>, cause: String },
    /// It may have.
    InDoubt { cause: String },
}

impl Follower {
    /// A commit, for a store that has the zone as it was before.
    pub(super) fn difference(&self, commit: &Arc<Commit>) -> Write {
        let mut write = self.bare(commit.clone());
        for CausedChange { change, .. } in &commit.changes {
            match change {
                Change::Settings(changed) => write.settings = Some(changed.clone()),
                Change::Static { name, rrsets } => {
                    write.statics.push(StaticNode { name: name.clone(), rrsets: rrsets.clone() });
                }
                _ => {}
            }
        }
        write
    }

    /// The last commit, and all of the zone in place of what the store has.
    pub(super) fn whole(&self, commit: Arc<Commit>) -> Write {
        let contents = self.zone.contents();
        let node = |name: &Name| StaticNode { name: name.clone(), rrsets: contents.statics(name).to_vec() };
        Write {
            statics: contents.static_names().map(node).collect(),
            settings: Some(contents.settings().clone()),
            replaces: true,
            ..self.bare(commit)
        }
    }

    fn bare(&self, commit: Arc<Commit>) -> Write {
        Write {
            zone: self.origin().clone(),
            expected: self.kept.epoch,
            commit: Some(commit),
            items: Vec::new(),
            tombstones: Vec::new(),
            services: Vec::new(),
            slots: Vec::new(),
            settings: None,
            statics: Vec::new(),
            refreshed: Some(self.clock.now().wall),
            replaces: false,
        }
    }

    /// Writes what is visible to the store.
    pub(super) fn keep(&self, mut write: Write) -> Keeping {
        let (store, in_doubt) = (self.store.clone(), self.kept.in_doubt);
        let patience = Timers::of(self.zone.contents().settings()).write_patience(WRITE_PATIENCE);
        Box::pin(async move {
            let (epoch, at) = (write.commit.as_ref().map(|commit| commit.epoch), write.refreshed);
            if in_doubt {
                match timeout(patience, store.epoch(&write.zone)).await {
                    Ok(Ok(found)) if found == epoch => return Written::Kept { epoch, at },
                    Ok(Ok(found)) => write.expected = found,
                    Ok(Err(cause)) => return Written::InDoubt { cause },
                    Err(_) => return Written::InDoubt { cause: "it does not answer".to_owned() },
                }
            }
            let expected = write.expected;
            match timeout(patience, task::append(&*store, write, &mut None)).await {
                Ok(Appended::Committed) => Written::Kept { epoch, at },
                // A write that was given up came into force meanwhile.
                Ok(Appended::Conflict(found)) if found == epoch => Written::Kept { epoch, at },
                Ok(Appended::Conflict(found)) => {
                    Written::Refused { epoch: found, cause: "its epoch is another than expected".to_owned() }
                }
                Ok(Appended::Unavailable(cause)) => Written::Refused { epoch: expected, cause },
                Ok(Appended::Unknown(cause)) => Written::InDoubt { cause },
                Err(_) => Written::InDoubt { cause: "it does not answer".to_owned() },
            }
        })
    }

    /// What became of a write.
    pub(super) fn note(&mut self, written: Written) {
        let zone = self.zone.snapshot().origin();
        let cause = match written {
            Written::Kept { epoch, at } => {
                if self.kept.refused {
                    tracing::info!(%zone, "the copy is kept in the store again");
                }
                self.kept = Kept { epoch, is_whole: true, missing: None, in_doubt: false, refused: false, noted: at };
                return;
            }
            Written::Refused { epoch, cause } => {
                (self.kept.epoch, self.kept.in_doubt) = (epoch, false);
                cause
            }
            Written::InDoubt { cause } => {
                self.kept.in_doubt = true;
                cause
            }
        };
        self.kept.is_whole = false;
        if !std::mem::replace(&mut self.kept.refused, true) {
            tracing::error!(%zone, cause, "the store does not take the copy: it is served, and not kept");
        }
    }
}
