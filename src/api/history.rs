//! The history of a zone as the API tells it.
//!
//! What is stored of a commit says who registered a member. That this was a return after a lapse is told by the commits
//! before: so a page is read together with those, which are looked at and not kept.

use std::collections::HashMap;

use crate::base::{Epoch, Name, RecordType};
use crate::membership::MemberId;
use crate::zone::file::record_text;
use crate::zone::{Cause, CausedChange, Change, Commit};

use super::views::{self, CauseView, ChangeView, CommitView, What};
use super::{Directory, Unavailable};

/// Commits that are read at a time when only their causes matter.
const STEP: usize = 200;

/// A page of the history after an epoch, or from its beginning.
pub async fn page(
    directory: &dyn Directory,
    origin: &Name,
    since: Option<Epoch>,
    limit: usize,
) -> Result<Vec<CommitView>, Unavailable> {
    let commits = directory.commits(origin, since, limit).await?;
    let registers = |commit: &Commit| commit.changes.iter().any(|caused| matches!(caused.cause, Cause::Registered(_)));
    let mut lapses = Lapses::default();
    if let Some(since) = since.filter(|_| commits.iter().any(registers)) {
        let mut read = None;
        while read < Some(since) {
            let before = directory.commits(origin, read, STEP).await?;
            before.iter().filter(|commit| commit.epoch <= since).for_each(|commit| lapses.note(commit));
            match before.last() {
                Some(last) => read = Some(last.epoch),
                None => break,
            }
        }
    }
    Ok(commits.iter().map(|commit| lapses.tell(commit)).collect())
}

/// Something that somebody registers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Subject {
    Member(Name, MemberId),
    Leased(Name, RecordType),
}

/// Whose last change was a lapse, and when: what was said of them up to some commit.
#[derive(Clone, Debug, Default)]
pub struct Lapses(HashMap<Subject, Epoch>);

impl Lapses {
    /// Takes note of the next commit.
    pub fn note(&mut self, commit: &Commit) {
        for caused in &commit.changes {
            self.take(caused, commit.epoch);
        }
    }

    /// Takes note of the next change; if it brings back what has lapsed, the epoch of that.
    fn take(&mut self, caused: &CausedChange, epoch: Epoch) -> Option<Epoch> {
        let (subject, gone) = match &caused.change {
            Change::Member { service, id, member } => (Subject::Member(service.clone(), id.clone()), member.is_none()),
            Change::Leased { name, rtype, rdatas, .. } => (Subject::Leased(name.clone(), *rtype), rdatas.is_empty()),
            Change::Settings(_) | Change::Static { .. } | Change::Forget { .. } => return None,
        };
        match &caused.cause {
            Cause::Lapsed if gone => {
                self.0.insert(subject, epoch);
                None
            }
            Cause::Registered(_) => self.0.remove(&subject),
            _ => {
                self.0.remove(&subject);
                None
            }
        }
    }

    /// The next commit as it is told.
    pub fn tell(&mut self, commit: &Commit) -> CommitView {
        let epoch = commit.epoch;
        let records = |records: &[crate::zone::Record]| records.iter().map(record_text).collect();
        CommitView {
            epoch: epoch.0,
            serial: epoch.serial().0,
            time: views::time(commit.at),
            changes: commit.changes.iter().map(|caused| tell_change(caused, self.take(caused, epoch))).collect(),
            removed: records(&commit.delta.removed),
            added: records(&commit.delta.added),
        }
    }
}

fn tell_change(caused: &CausedChange, lapse: Option<Epoch>) -> ChangeView {
    let (cause, by) = match &caused.cause {
        Cause::Registered(by) if lapse.is_some() => (CauseView::RenewedAfterLapse, Some(by)),
        Cause::Registered(by) => (CauseView::Registered, Some(by)),
        Cause::Changed(by) => (CauseView::Changed, Some(by)),
        Cause::Removed(by) => (CauseView::Removed, Some(by)),
        Cause::Drained(by) => (CauseView::Drained, Some(by)),
        Cause::Lapsed => (CauseView::Expired, None),
        Cause::Configured => (CauseView::Configured, None),
        Cause::Forgotten => (CauseView::Forgotten, None),
        Cause::Transferred(by) => (CauseView::Transferred, Some(by)),
    };
    let bare = ChangeView {
        what: What::Settings,
        cause,
        by: by.map(ToString::to_string),
        service: caused.change.service().map(Name::to_string),
        id: None,
        name: None,
        rtype: None,
        lapse_epoch: lapse.map(|epoch| epoch.0),
    };
    match &caused.change {
        Change::Settings(settings) => ChangeView { name: Some(settings.origin.to_string()), ..bare },
        Change::Static { name, .. } => ChangeView { what: What::StaticRecords, name: Some(name.to_string()), ..bare },
        Change::Member { id, .. } => ChangeView { what: What::Member, id: Some(id.to_string()), ..bare },
        Change::Leased { name, rtype, .. } => ChangeView {
            what: What::LeasedRecords,
            name: Some(name.to_string()),
            rtype: Some(rtype.to_string()),
            ..bare
        },
        Change::Forget { .. } => ChangeView { what: What::Service, ..bare },
    }
}
