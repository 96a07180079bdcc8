//! The history of a zone as the API tells it.

use crate::base::{Epoch, Name};
use crate::membership::Reason;
use crate::zone::file::record_text;
use crate::zone::{Cause, CausedChange, Change, Commit, PublishedMember, Record, Returns};

use super::Page;
use super::views::{self, CauseView, ChangeView, CommitView, What};

/// The commits of a page as they are told.
pub fn tell(page: &Page) -> Vec<CommitView> {
    page.commits.iter().map(|commit| tell_commit(commit, &page.returns)).collect()
}

fn tell_commit(commit: &Commit, returns: &Returns) -> CommitView {
    let epoch = commit.epoch;
    let records = |records: &[Record]| records.iter().map(record_text).collect();
    let changes = commit.changes.iter().enumerate();
    CommitView {
        epoch: epoch.0,
        serial: epoch.serial().0,
        time: views::time(commit.at),
        changes: changes.map(|(number, caused)| tell_change(caused, returns.get(&(epoch, number)).copied())).collect(),
        removed: records(&commit.delta.removed),
        added: records(&commit.delta.added),
    }
}

fn tell_change(caused: &CausedChange, lapse: Option<Epoch>) -> ChangeView {
    let (cause, by) = match &caused.cause {
        Cause::Registered(by) if lapse.is_some() => (CauseView::RenewedAfterLapse, Some(by)),
        Cause::Registered(by) => (CauseView::Registered, Some(by)),
        Cause::Changed(by) => (CauseView::Changed, Some(by)),
        Cause::Removed(by) => (CauseView::Removed, Some(by)),
        Cause::Drained(by) => (CauseView::Drained, Some(by)),
        Cause::Replaced(by, _) => (CauseView::Replaced, Some(by)),
        Cause::Undrained(by) => (CauseView::Undrained, Some(by)),
        Cause::Released(by) => (CauseView::Released, Some(by)),
        Cause::Shrunk(by) => (CauseView::Shrunk, Some(by)),
        Cause::Policy(reason) => (cause_of(*reason), None),
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
        successor: match &caused.cause {
            Cause::Replaced(_, successor) => Some(successor.to_string()),
            _ => None,
        },
        slot: None,
        published_weight: None,
        slots: None,
    };
    match &caused.change {
        Change::Settings(settings) => ChangeView { name: Some(settings.origin.to_string()), ..bare },
        Change::Static { name, .. } => ChangeView { what: What::StaticRecords, name: Some(name.to_string()), ..bare },
        Change::Member { id, member, .. } => ChangeView {
            what: What::Member,
            id: Some(id.to_string()),
            slot: member.as_ref().and_then(|member| member.slot),
            published_weight: member.as_ref().and_then(unlike_its_own),
            ..bare
        },
        Change::Leased { name, rtype, .. } => ChangeView {
            what: What::LeasedRecords,
            name: Some(name.to_string()),
            rtype: Some(rtype.to_string()),
            ..bare
        },
        Change::Slots { count, .. } => ChangeView { what: What::Service, slots: Some(*count), ..bare },
        Change::Forget { .. } => ChangeView { what: What::Service, ..bare },
    }
}

/// The weight that is published of a member, where that is not its own.
fn unlike_its_own(member: &PublishedMember) -> Option<u16> {
    Some(member.weight).filter(|weight| *weight != member.registration.weight)
}

fn cause_of(reason: Reason) -> CauseView {
    match reason {
        Reason::Held => CauseView::Held,
        Reason::Floor => CauseView::HeldByFloor,
        Reason::Heard => CauseView::HeardAgain,
        Reason::LetGo => CauseView::LetGo,
        Reason::HoldEnded => CauseView::HoldEnded,
        Reason::Damped => CauseView::Damped,
        Reason::Reused => CauseView::Reused,
        Reason::Slotted => CauseView::GivenSlot,
        Reason::Ramped => CauseView::Ramped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::MemberId;

    #[test]
    fn the_log_and_the_history_tell_a_cause_in_the_same_words() {
        let (by, id) = ("key k.".into(), |text| MemberId::new(text).unwrap());
        let by = || std::sync::Arc::clone(&by);
        let service: Name = "_x._tcp.z.".parse().unwrap();
        let mut causes = vec![
            Cause::Registered(by()),
            Cause::Changed(by()),
            Cause::Removed(by()),
            Cause::Drained(by()),
            Cause::Lapsed,
            Cause::Configured,
            Cause::Forgotten,
            Cause::Transferred(by()),
            Cause::Undrained(by()),
            Cause::Released(by()),
            Cause::Shrunk(by()),
            Cause::Replaced(by(), id("b")),
        ];
        causes.extend(Reason::ALL.map(Cause::Policy));
        for cause in causes {
            let member = Change::Member { service: service.clone(), id: id("a"), member: None };
            let slots = Change::Slots { service: service.clone(), count: 3 };
            for change in [member, slots] {
                let caused = CausedChange { change, cause: cause.clone() };
                let (logged, told) = (caused.to_string(), tell_change(&caused, None).to_string());
                // Where a member has all of its weight, that is told, and how many slots are left.
                let told =
                    told.replace("given all of its weight", "given more of its weight").replace(", 3 are left", "");
                assert_eq!(logged, told);
            }
        }
    }
}
