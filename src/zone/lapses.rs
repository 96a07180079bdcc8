//! Which registrations of the last commits brought back what had lapsed.
//!
//! What is kept of a commit says who registered something. That this was a return after a lapse is told by the commits before,
//! so it is found out once, as a commit is made or read at a start, and not by whoever looks at some commits later.
//!
//! Bounds: lapses of the last [`HISTORY_COMMITS`] epochs, [`LAPSES`] of them, and as many returns; the oldest go first. A
//! return after a lapse that is forgotten is told as a registration.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;

use crate::base::limits::{HISTORY_COMMITS, LAPSES};
use crate::base::{Epoch, Name, RecordType};
use crate::membership::{MemberId, Reason};

use super::change::{Cause, CausedChange, Change, Commit};

/// Returns after a lapse: by epoch of the commit and number of the change in it, the epoch of the lapse.
pub type Returns = BTreeMap<(Epoch, usize), Epoch>;

/// What the commits up to some epoch say of lapses.
#[derive(Clone, Debug, Default)]
pub struct Lapses {
    newest: Option<Epoch>,
    /// Whose last change was a lapse, and when.
    gone: HashMap<Subject, Epoch>,
    /// These in the order of their epochs, and some who have returned since.
    order: VecDeque<(Epoch, Subject)>,
    returns: Returns,
}

/// Something that somebody registers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Subject {
    Member(Name, MemberId),
    Leased(Name, RecordType),
}

impl Lapses {
    /// Takes note of the next commit. Cost: that of its changes.
    pub fn note(&mut self, commit: &Commit) {
        self.newest = Some(commit.epoch);
        for (number, caused) in commit.changes.iter().enumerate() {
            if let Some(lapse) = self.take(caused, commit.epoch) {
                self.returns.insert((commit.epoch, number), lapse);
            }
        }
        self.forget();
    }

    /// The last commit that was noted.
    pub fn newest(&self) -> Option<Epoch> {
        self.newest
    }

    /// The returns in the commits of these epochs, after lapses that are kept still.
    pub fn returns(&self, epochs: RangeInclusive<Epoch>) -> Returns {
        let (first, last) = epochs.into_inner();
        if first > last {
            return Returns::new();
        }
        let found = self.returns.range((first, 0)..=(last, usize::MAX));
        found.filter(|(_, lapse)| self.is_kept(**lapse)).map(|(at, lapse)| (*at, *lapse)).collect()
    }

    /// Takes note of the next change; if it brings back what has lapsed, the epoch of that.
    fn take(&mut self, caused: &CausedChange, epoch: Epoch) -> Option<Epoch> {
        let (subject, gone) = match &caused.change {
            Change::Member { service, id, member } => (Subject::Member(service.clone(), id.clone()), member.is_none()),
            Change::Leased { name, rtype, rdatas, .. } => (Subject::Leased(name.clone(), *rtype), rdatas.is_empty()),
            Change::Settings(_) | Change::Static { .. } | Change::Slots { .. } | Change::Forget { .. } => return None,
        };
        match &caused.cause {
            Cause::Lapsed | Cause::Policy(Reason::LetGo | Reason::HoldEnded) if gone => {
                self.order.push_back((epoch, subject.clone()));
                self.gone.insert(subject, epoch);
                None
            }
            Cause::Registered(_) => self.gone.remove(&subject),
            _ => {
                self.gone.remove(&subject);
                None
            }
        }
    }

    fn forget(&mut self) {
        while let Some((epoch, _)) = self.order.front()
            && (self.order.len() > LAPSES || !self.is_kept(*epoch))
        {
            let Some((epoch, subject)) = self.order.pop_front() else { break };
            // It may have lapsed again since.
            if self.gone.get(&subject) == Some(&epoch) {
                self.gone.remove(&subject);
            }
        }
        while let Some((&(epoch, _), _)) = self.returns.first_key_value()
            && (self.returns.len() > LAPSES || !self.is_kept(epoch))
        {
            self.returns.pop_first();
        }
    }

    /// Whether a commit of this epoch is kept: epochs of our own follow each other, and copies know no lapses.
    fn is_kept(&self, epoch: Epoch) -> bool {
        self.newest.is_none_or(|newest| newest.0.saturating_sub(epoch.0) < HISTORY_COMMITS)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Ttl, Wall};
    use crate::zone::{Delta, PublishedMember};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn member(id: &str, there: bool) -> Change {
        let registration = crate::membership::Registration {
            target: name("t.z."),
            port: 1,
            priority: 0,
            weight: 0,
            addresses: Box::default(),
            metadata: Box::default(),
        };
        Change::Member {
            service: name("_x._tcp.z."),
            id: MemberId::new(id).unwrap(),
            member: there.then(|| PublishedMember::in_service(registration.into())),
        }
    }

    fn by() -> Arc<str> {
        "key k.".into()
    }

    fn registered(id: &str) -> (Change, Cause) {
        (member(id, true), Cause::Registered(by()))
    }

    fn lapsed(id: &str) -> (Change, Cause) {
        (member(id, false), Cause::Lapsed)
    }

    fn leased(rdatas: &[u8], cause: Cause) -> (Change, Cause) {
        let rdatas = rdatas.iter().map(|&octet| vec![1, octet].into()).collect();
        (Change::Leased { name: name("h.z."), rtype: RecordType::TXT, ttl: Ttl(5), rdatas }, cause)
    }

    fn commit(epoch: u64, changes: Vec<(Change, Cause)>) -> Commit {
        let changes = changes.into_iter().map(|(change, cause)| CausedChange { change, cause }).collect();
        Commit { epoch: Epoch(epoch), at: Wall(epoch), changes, delta: Delta::default() }
    }

    fn of(lapses: &Lapses, first: u64, last: u64) -> Vec<(u64, usize, u64)> {
        let returns = lapses.returns(Epoch(first)..=Epoch(last));
        returns.into_iter().map(|((epoch, number), lapse)| (epoch.0, number, lapse.0)).collect()
    }

    #[test]
    fn a_registration_is_a_return_if_the_last_change_was_a_lapse() {
        let mut lapses = Lapses::default();
        for commit in [
            commit(1, vec![registered("a"), registered("b")]),
            commit(2, vec![lapsed("a"), lapsed("b")]),
            commit(3, vec![registered("a")]),
            // Somebody withdrew it meanwhile: no return after a lapse.
            commit(4, vec![(member("a", false), Cause::Removed(by()))]),
            commit(5, vec![registered("a")]),
            commit(6, vec![registered("b"), lapsed("a"), registered("a")]),
            commit(7, vec![(member("b", true), Cause::Changed(by()))]),
            commit(8, vec![leased(&[1, 2], Cause::Registered(by()))]),
            commit(9, vec![leased(&[1], Cause::Lapsed)]),
            // A record of the set was there all the time.
            commit(10, vec![leased(&[1, 3], Cause::Registered(by()))]),
            commit(11, vec![leased(&[], Cause::Lapsed)]),
            commit(12, vec![leased(&[4], Cause::Registered(by()))]),
        ] {
            lapses.note(&commit);
        }
        let all = [(3, 0, 2), (6, 0, 2), (6, 2, 6), (12, 0, 11)];
        assert_eq!(of(&lapses, 0, u64::MAX), all);
        assert_eq!(of(&lapses, 4, 11), all[1..3]);
        assert_eq!(of(&lapses, 4, 3), []);
        assert_eq!(lapses.newest(), Some(Epoch(12)));
    }

    #[test]
    fn a_return_is_told_as_long_as_both_commits_are_kept_whether_noted_before_or_at_a_start() {
        let mut commits = vec![commit(1, vec![lapsed("a"), lapsed("b")]), commit(2, vec![registered("a")])];
        commits.extend((3..=HISTORY_COMMITS).map(|epoch| commit(epoch, Vec::new())));
        let mut lapses = Lapses::default();
        commits.iter().for_each(|commit| lapses.note(commit));
        assert_eq!(of(&lapses, 0, u64::MAX), [(2, 0, 1)]);
        commits.push(commit(HISTORY_COMMITS + 1, vec![registered("b")]));
        lapses.note(&commits[commits.len() - 1]);
        let mut read = Lapses::default();
        commits[1..].iter().for_each(|commit| read.note(commit));
        for lapses in [lapses, read] {
            assert_eq!(of(&lapses, 0, u64::MAX), []);
            assert!(lapses.gone.is_empty() && lapses.order.is_empty());
        }
    }

    #[test]
    fn at_the_limit_the_oldest_are_forgotten() {
        let many = u32::try_from(LAPSES).unwrap() + 5;
        let id = |number| format!("m{number}");
        let mut lapses = Lapses::default();
        lapses.note(&commit(1, (0..many).map(|number| lapsed(&id(number))).collect()));
        assert_eq!((lapses.gone.len(), lapses.order.len()), (LAPSES, LAPSES));
        lapses.note(&commit(2, [4, 5].map(|number| registered(&id(number))).into()));
        assert_eq!(of(&lapses, 2, 2), [(2, 1, 1)]);
        // Those who lapse and return over and over leave no more behind.
        let back_and_forth = (0..many).flat_map(|_| [registered("a"), lapsed("a")]).chain([registered("a")]);
        lapses.note(&commit(3, back_and_forth.collect()));
        assert!(lapses.gone.len() <= LAPSES && lapses.order.len() <= LAPSES && lapses.returns.len() <= LAPSES);
        assert_eq!(of(&lapses, 3, 3).last(), Some(&(3, 2 * usize::try_from(many).unwrap(), 3)));
    }
}
