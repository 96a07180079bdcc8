//! The last commits of a zone, at hand for those who follow it by IXFR (RFC 1995).
//!
//! Each step is a commit with the SOA records around it. The store keeps commits too; these here are in memory, so that
//! whoever transfers or looks at what is new waits for no disk, and a start fills them from the store. What the commits
//! say of lapses goes with them ([`Lapses`]).
//!
//! Bounds: [`HISTORY_COMMITS`] steps and [`HISTORY_MEMORY`] octets of commits; the oldest go first. Whoever is further behind needs the
//! whole zone.

use std::collections::{HashMap, VecDeque};
use std::slice;
use std::sync::Arc;

use crate::base::limits::{HISTORY_COMMITS, HISTORY_MEMORY, HISTORY_PAGE_OCTETS};
use crate::base::{Epoch, Name, Serial};
use crate::membership::Registration;

use super::change::{CausedChange, Change, Commit};
use super::delta::Delta;
use super::lapses::Lapses;
use super::rrset::{Record, Rrset};
use super::settings::{Settings, serial_of};

/// What leads from one version of a zone to a later one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The SOA record before.
    pub from: Record,
    /// The SOA record after.
    pub to: Record,
    /// All other records.
    pub delta: Delta,
}

/// One commit, between the SOA records before and after it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Before.
    pub from: Arc<Record>,
    /// After.
    pub to: Arc<Record>,
    /// The commit.
    pub commit: Arc<Commit>,
}

/// The steps that are kept, each following the one before.
#[derive(Debug, Default)]
pub struct History {
    steps: VecDeque<Step>,
    octets: usize,
    /// Of all commits, also of those that are no steps here.
    lapses: Lapses,
}

impl History {
    /// The history that ends with a zone as the store kept it, under these settings and with these commits, from the oldest,
    /// and what all commits up to the last say of lapses.
    pub fn restore(settings: &Settings, epoch: Epoch, commits: &[Arc<Commit>], lapses: Lapses) -> History {
        let mut history = History::default();
        if commits.last().is_none_or(|last| last.epoch != epoch) {
            return History { lapses, ..history };
        }
        // Which settings there were before these isn't known.
        let changes_settings =
            |commit: &Arc<Commit>| commit.changes.iter().any(|caused| matches!(caused.change, Change::Settings(_)));
        let known = commits.iter().rposition(changes_settings).unwrap_or(0);
        for pair in commits[known..].windows(2) {
            let [from, to] = [&pair[0], &pair[1]].map(|commit| Arc::new(settings.soa(commit.epoch.serial())));
            history.keep(Step { from, to, commit: pair[1].clone() });
        }
        History { lapses, ..history }
    }

    /// Takes note of a commit that no step leads to: the first one, or the first after the zone could not be shown.
    pub fn begin(&mut self, commit: &Commit) {
        self.clear();
        self.lapses.note(commit);
    }

    /// Adds the step to what is published next. One that doesn't follow the last makes those before it useless.
    pub fn push(&mut self, step: Step) {
        self.lapses.note(&step.commit);
        self.keep(step);
    }

    fn keep(&mut self, step: Step) {
        if self.steps.back().is_some_and(|last| last.to != step.from) {
            self.clear();
        }
        self.octets += octets_of(&step.commit);
        self.steps.push_back(step);
        let most = usize::try_from(HISTORY_COMMITS).expect("a few");
        while self.steps.len() > most || self.octets > HISTORY_MEMORY {
            let Some(oldest) = self.steps.pop_front() else { break };
            self.octets -= octets_of(&oldest.commit);
        }
    }

    /// Forgets all steps.
    fn clear(&mut self) {
        self.steps.clear();
        self.octets = 0;
    }

    /// The steps from one serial to another; `None` if they aren't all kept.
    pub fn between(&self, from: Serial, to: Serial) -> Option<Vec<Step>> {
        // Looked for from the end, where those who follow are. Serials of steps may come again after a whole circle, and
        // a thousand steps are far from that.
        let end = self.steps.iter().rposition(|step| serial_of(&step.to) == to)?;
        let start = self.steps.iter().take(end + 1).rposition(|step| serial_of(&step.from) == from)?;
        Some(self.steps.range(start..=end).cloned().collect())
    }

    /// The commits after an epoch, from the oldest: so many at most, and [`HISTORY_PAGE_OCTETS`] of them unless the first
    /// alone has more. `None`: there may be some that are not here.
    pub fn after(&self, since: Epoch, limit: usize) -> Option<Vec<Arc<Commit>>> {
        if self.lapses.newest()? <= since {
            return Some(Vec::new());
        }
        let start = self.steps.partition_point(|step| step.commit.epoch <= since);
        let first = self.steps.get(start)?;
        if start == 0 && since.next() != first.commit.epoch {
            return None;
        }
        let mut room = usize::try_from(HISTORY_PAGE_OCTETS).expect("some millions");
        let fits = |(number, step): &(usize, &Step)| {
            let octets = octets_of(&step.commit);
            let fits = *number == 0 || octets <= room;
            room = room.saturating_sub(octets);
            fits
        };
        let page = self.steps.range(start..).take(limit).enumerate().take_while(fits);
        Some(page.map(|(_, step)| step.commit.clone()).collect())
    }

    /// What the commits say of lapses.
    pub fn lapses(&self) -> &Lapses {
        &self.lapses
    }
}

/// What a commit takes in memory, more or less: its delta, and its changes, which may be many where little came of them.
fn octets_of(commit: &Commit) -> usize {
    let Commit { changes, delta, .. } = commit;
    let records = delta.removed.iter().chain(&delta.added);
    let delta: usize =
        records.map(|record| size_of::<Record>() + allocated(&record.owner, slice::from_ref(&record.rdata))).sum();
    let changes: usize =
        changes.iter().map(|caused| size_of::<CausedChange>() + octets_of_change(&caused.change)).sum();
    delta + changes
}

fn octets_of_change(change: &Change) -> usize {
    match change {
        Change::Settings(settings) => size_of::<Settings>() + allocated(&settings.origin, &[]),
        Change::Static { name, rrsets } => {
            let sets = rrsets.iter().map(|rrset| size_of::<Rrset>() + allocated(name, &rrset.rdatas));
            allocated(name, &[]) + sets.sum::<usize>()
        }
        Change::Member { service, member, .. } => {
            let registration = member.as_ref().map_or(0, |member| {
                let Registration { target, addresses, metadata, .. } = &*member.registration;
                size_of::<Registration>() + size_of_val(&**addresses) + allocated(target, metadata)
            });
            allocated(service, &[]) + registration
        }
        Change::Leased { name, rdatas, .. } => allocated(name, rdatas),
        Change::Forget { service } | Change::Slots { service, .. } => allocated(service, &[]),
    }
}

/// A name and data, each with its pointer and count.
fn allocated(name: &Name, data: &[Box<[u8]>]) -> usize {
    const EACH: usize = 16;
    EACH + name.as_wire().len() + data.iter().map(|data| EACH + data.len()).sum::<usize>()
}

/// Several steps as one (RFC 1995 §5): what came and went in between is left out, so that it costs what differs in the end.
///
/// It holds the commits and the places of records in them, and copies none: those who follow from far behind are many at
/// once, after a network has come back.
#[derive(Debug)]
pub struct Condensed {
    steps: Vec<Step>,
    removed: Vec<Spot>,
    added: Vec<Spot>,
}

/// A record of a step: among those that it removes, or that it adds.
#[derive(Clone, Copy, Debug)]
struct Spot {
    step: usize,
    record: usize,
}

impl Condensed {
    /// From at least one step.
    pub fn new(steps: Vec<Step>) -> Option<Condensed> {
        if steps.is_empty() {
            return None;
        }
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        // In the order in which they were met; a record that is met again the other way round is no difference any more.
        let mut net: Vec<Option<(Spot, bool)>> = Vec::new();
        let mut places: HashMap<&Record, usize> = HashMap::new();
        for (step, Step { commit, .. }) in steps.iter().enumerate() {
            for (records, comes) in [(&commit.delta.removed, false), (&commit.delta.added, true)] {
                for (number, record) in records.iter().enumerate() {
                    match places.remove(record) {
                        Some(place) => net[place] = None,
                        None => {
                            places.insert(record, net.len());
                            net.push(Some((Spot { step, record: number }, comes)));
                        }
                    }
                }
            }
        }
        for (spot, comes) in net.into_iter().flatten() {
            let into = if comes { &mut added } else { &mut removed };
            into.push(spot);
        }
        Some(Condensed { steps, removed, added })
    }

    /// The SOA record before.
    pub fn from(&self) -> &Record {
        &self.steps[0].from
    }

    /// The SOA record after.
    pub fn to(&self) -> &Record {
        &self.steps[self.steps.len() - 1].to
    }

    /// A record that goes, by its number.
    pub fn removed(&self, number: usize) -> Option<&Record> {
        let spot = self.removed.get(number)?;
        Some(&self.steps[spot.step].commit.delta.removed[spot.record])
    }

    /// A record that comes, by its number.
    pub fn added(&self, number: usize) -> Option<&Record> {
        let spot = self.added.get(number)?;
        Some(&self.steps[spot.step].commit.delta.added[spot.record])
    }

    /// How many records differ, the SOA records left out.
    pub fn len(&self) -> usize {
        self.removed.len() + self.added.len()
    }

    /// The records by themselves.
    #[cfg(test)]
    pub(crate) fn difference(&self) -> Difference {
        let removed: Vec<Record> = (0..).map_while(|number| self.removed(number).cloned()).collect();
        let added: Vec<Record> = (0..).map_while(|number| self.added(number).cloned()).collect();
        assert_eq!(self.len(), removed.len() + added.len());
        Difference { from: self.from().clone(), to: self.to().clone(), delta: Delta { removed, added } }
    }

    /// Whether only the SOA record does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
