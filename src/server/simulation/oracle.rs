//! What must hold, whatever happens: kept beside the simulation and fed with what goes in and comes out of the server.
//!
//! Of each member it knows until when it may be published (`upper`) and until when it must be (`lower`), from the updates
//! that were delivered and acknowledged, and from what a start finds in the store.

use std::collections::HashMap;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use sha2::{Digest as _, Sha256};

use crate::base::limits::EXPIRY_TICK;
use crate::base::{Epoch, Name, Now, Serial};
use crate::membership::{Key, MemberId};
use crate::store::embedded::Entry;
use crate::store::{Appended, StoredZone, Write};
use crate::zone::Commit;

/// A member of the simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number(pub(super) usize);

/// What an update says of its member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Intent {
    /// It registers or renews, for so many milliseconds.
    Register(u64),
    /// It withdraws.
    Withdraw,
}

/// A copy of an update that reached the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// No copy did before, so that this one does what it says.
    pub(super) first: bool,
    /// A signature may be one that is refused as older, whatever else there is to say.
    pub(super) signed: bool,
    pub(super) at: u64,
}

/// An end, as of when somebody was heard of.
#[derive(Clone, Copy, Debug)]
struct End {
    heard: u64,
    lease: u64,
    at: u64,
}

#[derive(Debug)]
struct Member {
    service: Name,
    id: MemberId,
    /// Until when it may be published: the last of these. A repeated message may have renewed its lease, or not.
    upper: Vec<End>,
    /// Until when it must be.
    lower: Option<End>,
    /// Since when it must be without a gap.
    since: u64,
    /// Whether anything was delivered since its withdrawal that registers it.
    possible: bool,
    /// Registrations that were delivered and not answered yet.
    registering: usize,
    /// Withdrawals likewise.
    withdrawing: usize,
    /// The last run in which the store has acknowledged that it renewed.
    recorded: u32,
    /// When it was last told that it has renewed, in this run.
    renewed: Option<u64>,
}

/// The oracle.
#[derive(Debug)]
pub(super) struct Oracle {
    settle: u64,
    grace: u64,
    /// How long silent members are held at most, and in which time penalties halve, if that is so.
    policies: Option<(u64, u64)>,
    /// How long a free slot is kept at most.
    slot_hold: u64,
    members: Vec<Member>,
    stalls: Vec<(u64, u64)>,
    started: u64,
    crashed: u64,
    run: u32,
    /// The epoch of the last commit that the store is known to have.
    durable: Option<Epoch>,
    /// The last serial that was seen.
    served: Option<Serial>,
    /// What was answered under a serial.
    answered: HashMap<u32, [u8; 32]>,
    /// Since when a write is under way.
    writing: Option<u64>,
    slow: u64,
    refused: u64,
    /// No write has worked since one was refused.
    failing: bool,
    /// A write of which nobody knows yet whether it is durable.
    unsettled: Option<Box<Write>>,
    violation: Option<String>,
    /// How many slots a service was last seen to have.
    slots: HashMap<Name, u32>,
    trace: Sha256,
    /// Answers that were looked at.
    pub(super) observations: usize,
    pub(super) commits: usize,
    pub(super) acknowledged: usize,
}

/// What was answered of a service.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) service: Name,
    pub(super) srv: Vec<u8>,
    pub(super) txt: Vec<u8>,
    /// The addresses of each target that is a slot.
    pub(super) slots: Vec<Vec<u8>>,
}

/// How long after a write that took time what it held up is written.
const SLOW: u64 = 200;
/// How long after a refused write lapses are tried again.
const RETRY: u64 = 2_000;
/// How soon it is noted who has renewed.
const NOTED: u64 = 100;
/// Between two looks of the server at its clock, and for cutting to whole milliseconds.
const SLACK: u64 = 10;

impl Oracle {
    pub(super) fn new(settle: u64, grace: u64, policies: Option<(u64, u64)>, slot_hold: u64) -> Oracle {
        Oracle {
            settle,
            grace,
            policies,
            slot_hold,
            members: Vec::new(),
            stalls: Vec::new(),
            started: 0,
            crashed: 0,
            run: 0,
            durable: None,
            served: None,
            answered: HashMap::new(),
            writing: None,
            slow: 0,
            refused: 0,
            failing: false,
            unsettled: None,
            violation: None,
            slots: HashMap::new(),
            trace: Sha256::new(),
            observations: 0,
            commits: 0,
            acknowledged: 0,
        }
    }

    pub(super) fn add_member(&mut self, service: Name, id: MemberId) -> Number {
        self.members.push(Member {
            service,
            id,
            upper: Vec::new(),
            lower: None,
            since: 0,
            possible: false,
            registering: 0,
            withdrawing: 0,
            recorded: 0,
            renewed: None,
        });
        Number(self.members.len() - 1)
    }

    /// The first violation, if there was one.
    pub(super) fn violation(&self) -> Option<String> {
        self.violation.clone()
    }

    /// A digest over everything that came out of the server.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.trace.clone().finalize().into()
    }

    pub(super) fn violate(&mut self, now: u64, text: impl std::fmt::Display) {
        self.violation.get_or_insert(format!("at {now} ms: {text}"));
    }

    // ---- updates ------------------------------------------------------------------------------------------------

    pub(super) fn note_delivery(&mut self, number: Number, intent: Intent) {
        let member = &mut self.members[number.0];
        match intent {
            Intent::Register(_) => {
                member.registering += 1;
                member.possible = true;
            }
            Intent::Withdraw => {
                member.withdrawing += 1;
                member.lower = None;
            }
        }
    }

    /// A reply to an update.
    pub(super) fn note_reply(&mut self, number: Number, intent: Intent, delivery: Delivery, octets: &[u8], now: u64) {
        let Delivery { first, signed, at } = delivery;
        self.trace.update(octets);
        let done = octets[3] & 0xf == 0;
        let refused = octets[3] & 0xf == 2 && !signed;
        let lived = self.members[number.0].lower.is_some_and(|lower| self.earliest(lower) > now);
        self.acknowledged += usize::from(done);
        let member = &mut self.members[number.0];
        if let Intent::Register(_) = intent {
            member.registering = member.registering.saturating_sub(1);
        }
        match intent {
            Intent::Register(lease) if done => {
                if first {
                    member.renewed = Some(now);
                }
                let end = End { heard: now, lease, at: now + lease };
                member.upper.push(end);
                if first && member.withdrawing == 0 {
                    if !lived {
                        member.since = now;
                    }
                    member.lower = Some(end);
                }
            }
            // Whoever was heard of is alive, also if what else the message says could not be kept.
            Intent::Register(lease) => {
                let end = End { heard: at, lease, at: at + lease };
                member.upper.push(end);
                // Either when it came, or when it was refused.
                member.upper.push(End { heard: now, lease, at: now + lease });
                if first
                    && refused
                    && member.withdrawing == 0
                    && lived
                    && member.lower.is_some_and(|lower| lower.at < end.at)
                {
                    member.lower = Some(end);
                }
            }
            Intent::Withdraw => {
                member.withdrawing = member.withdrawing.saturating_sub(1);
                if done && first {
                    member.upper.clear();
                    member.lower = None;
                    member.possible = member.registering > 0;
                }
            }
        }
    }

    // ---- time ---------------------------------------------------------------------------------------------------

    pub(super) fn note_stall(&mut self, from: u64, to: u64) {
        // What was about to be tried again has to wait.
        if from < self.refused + RETRY {
            self.refused = to;
        }
        self.slow = self.slow.max(to);
        self.stalls.push((from, to));
    }

    /// When something ends that must not end sooner.
    fn earliest(&self, end: End) -> u64 {
        self.stalls
            .iter()
            .filter(|(from, _)| *from >= end.heard)
            .fold(end.at, |at, (from, to)| if *from < at { at + (to - from) } else { at })
    }

    /// When something has ended for sure.
    fn latest(&self, end: End) -> u64 {
        let tick = u64::try_from(EXPIRY_TICK.as_millis()).unwrap();
        let lapses = self.outlast(end.at + self.grace, end.heard, end.lease) + tick + self.settle + SLACK;
        let Some((hold, _)) = self.policies else { return lapses };
        // A hold begins when the store can keep it.
        let held = lapses.max(self.slow + SLOW + self.settle).max(self.refused + RETRY + self.settle);
        // The interval that a stall grants is granted to the lease and to the hold.
        let granted = if self.stalls.iter().any(|(_, to)| *to >= end.heard) { end.lease } else { 0 };
        self.outlast(held + hold + granted, lapses, 0) + tick + self.settle + SLACK
    }

    /// When something is over at the latest, by the stalls since somebody was heard of.
    fn outlast(&self, end: u64, heard: u64, lease: u64) -> u64 {
        let mut at = end;
        let mut interval = lease;
        for (from, to) in self.stalls.iter().filter(|(_, to)| *to >= heard) {
            // The server counts a stall from its last look at the clock.
            if from.saturating_sub(150) < at {
                at += to - from + 150 + std::mem::take(&mut interval);
            }
        }
        at
    }

    // ---- the store and the process ------------------------------------------------------------------------------

    /// Whatever comes to the store waits until then.
    pub(super) fn note_slow(&mut self, until: u64) {
        self.slow = self.slow.max(until);
    }

    pub(super) fn note_write(&mut self, now: u64) {
        self.writing.get_or_insert(now);
    }

    pub(super) fn note_written(&mut self, entry: &Entry, outcome: &Appended, now: u64) {
        let appends = matches!(entry, Entry::Append(_));
        if appends && self.writing.take().is_some_and(|since| now > since) {
            self.slow = self.slow.max(now);
        }
        match (entry, outcome) {
            (Entry::Append(write), Appended::Committed) => self.note_append(write, now),
            (Entry::Append(write), Appended::Unknown(_)) => {
                (self.refused, self.failing) = (now, true);
                self.unsettled = Some(write.clone());
            }
            (Entry::Checkpoint(_, renewed), Appended::Committed) => {
                let run = self.run;
                for (key, _) in renewed {
                    if let Some(member) = self.find(key) {
                        member.recorded = run;
                    }
                }
            }
            (Entry::Begin(..) | Entry::Refreshed(..), Appended::Committed) => {}
            _ => (self.refused, self.failing) = (now, true),
        }
        if *outcome == Appended::Committed && std::mem::take(&mut self.failing) {
            self.refused = now;
        }
    }

    /// A write has become durable: who is in it lives from now on, also if nobody was told.
    fn note_append(&mut self, write: &Write, now: u64) {
        self.unsettled = None;
        if let Some(commit) = &write.commit {
            self.durable = self.durable.max(Some(commit.epoch));
        }
        let run = self.run;
        for (key, item) in &write.items {
            let (Some(member), Some((item, _))) = (self.find(key), item) else { continue };
            member.recorded = run;
            let lease = u64::from(item.lease().0) * 1000;
            let end = End { heard: now, lease, at: now + lease };
            member.upper.push(end);
        }
    }

    /// The epoch was read back from the store, after a write of unknown fate.
    pub(super) fn note_settled(&mut self, epoch: Epoch, now: u64) {
        let settles = |write: &Write| write.commit.as_ref().is_some_and(|commit| commit.epoch == epoch);
        if let Some(write) = self.unsettled.take_if(|write| settles(write)) {
            self.note_append(&write, now);
        }
        // If it is not, its members are looked at again after a while.
        self.unsettled = None;
        self.refused = now;
        self.durable = self.durable.max(Some(epoch));
    }

    fn find(&mut self, key: &Key) -> Option<&mut Member> {
        let Key::Member(service, id) = key else { return None };
        self.members.iter_mut().find(|member| member.service == *service && member.id == *id)
    }

    pub(super) fn note_commit(&mut self, commit: &Commit) {
        self.commits += 1;
        self.trace.update(format!("{} {:?}", commit.epoch, commit.delta));
    }

    pub(super) fn note_crash(&mut self, now: u64) {
        // What was told a while ago, with a store that worked ever since, is noted.
        let troubled = self.failing || self.writing.is_some() || self.unsettled.is_some();
        for member in &mut self.members {
            // In the very millisecond of the start a renewal moves no lease.
            let noted = |at: u64| self.started < at && at + NOTED < now && self.slow < at && self.refused < at;
            if member.renewed.take().is_some_and(noted) && !troubled {
                member.recorded = member.recorded.max(self.run);
            }
        }
        self.crashed = now;
        self.writing = None;
        self.unsettled = None;
        self.failing = false;
    }

    /// A start has read the store: what was acknowledged must be there, and what was withdrawn must not.
    pub(super) fn note_start(&mut self, stored: Option<&StoredZone>, now: Now) {
        let at = now.mono.0;
        self.started = at;
        let epoch = stored.map(|stored| stored.epoch);
        if let Some(served) = self.served
            && !epoch.is_some_and(|epoch| epoch.serial() >= served)
        {
            self.violate(at, format!("serial {served} was served, and the store has {epoch:?}"));
        }
        // Another start may find less, if the one before had not begun to serve.
        self.durable = epoch;
        self.run = stored.map_or(1, |stored| stored.starts.current());
        for place in 0..self.members.len() {
            let member = &self.members[place];
            let key = Key::Member(member.service.clone(), member.id.clone());
            let items = stored.map_or(&[][..], |stored| stored.items.ready());
            let found = items.iter().find(|(item, ..)| item.key() == key);
            let name = format!("{} of {}", member.id, member.service);
            let missed =
                member.lower.is_some_and(|lower| self.earliest(lower) > self.crashed) && member.withdrawing == 0;
            let recorded = member.recorded;
            let possible = member.possible;
            let member = &mut self.members[place];
            (member.registering, member.withdrawing) = (0, 0);
            member.upper.clear();
            member.lower = None;
            match (found, stored) {
                (Some((item, _, run)), Some(stored)) => {
                    let lease = u64::from(item.lease().0) * 1000;
                    let deadline = stored.starts.deadline(*run, item.lease(), now).0;
                    let end = End { heard: at, lease, at: deadline };
                    member.upper.push(end);
                    member.lower = Some(end);
                    member.since = at;
                    let run = *run;
                    if !possible {
                        self.violate(at, format!("{name} has withdrawn, and the store has it"));
                    } else if run < recorded {
                        self.violate(at, format!("{name} renewed in run {recorded}, and the store has {run}"));
                    }
                }
                _ if missed => self.violate(at, format!("{name} was acknowledged, and the store lacks it")),
                _ => {}
            }
        }
    }

    pub(super) fn note_open(&mut self, now: u64) {
        self.stalls.push((self.started, now));
    }

    // ---- answers ------------------------------------------------------------------------------------------------

    /// Looks at the answers to the SOA of the zone, and to those of each service, all of the same moment.
    pub(super) fn observe(&mut self, now: u64, soa: &[u8], services: &[Seen]) {
        self.observations += 1;
        let Some(serial) = read(soa).iter().find_map(|data| match data {
            RData::SOA(soa) => Some(Serial(soa.serial)),
            _ => None,
        }) else {
            return self.violate(now, "no SOA record");
        };
        self.check_serial(now, serial);
        let mut digest = Sha256::new();
        for seen in services {
            for octets in [&seen.srv, &seen.txt].into_iter().chain(&seen.slots) {
                digest.update(&octets[2..]);
            }
            self.check_service(now, seen);
        }
        let digest: [u8; 32] = digest.finalize().into();
        self.trace.update(digest);
        if *self.answered.entry(serial.0).or_insert(digest) != digest {
            self.violate(now, format!("two answers under serial {serial}"));
        }
    }

    /// Whatever held lapses up is over.
    pub(super) fn note_rest(&mut self) {
        (self.failing, self.unsettled, self.writing) = (false, None, None);
    }

    fn check_serial(&mut self, now: u64, serial: Serial) {
        if self.served.is_some_and(|served| serial < served) {
            self.violate(now, format!("serial {serial} after {:?}", self.served));
        }
        let durable = self.durable.map(Epoch::serial);
        if !durable.is_some_and(|durable| serial <= durable) {
            self.violate(now, format!("serial {serial} is served, and {durable:?} is durable"));
        }
        self.served = Some(serial);
    }

    fn check_service(&mut self, now: u64, seen: &Seen) {
        let Seen { service, srv, txt, .. } = seen;
        let targets = targets(srv);
        let members = format!("members={}", targets.len());
        let strings: Vec<String> = read(txt).iter().map(ToString::to_string).collect();
        let told = strings.iter().any(|text| text.contains(&members));
        let is_unknown = targets.is_empty() && strings.is_empty();
        if !told && !is_unknown {
            self.violate(now, format!("{service} has {targets:?}, and TXT says otherwise"));
        }
        let ids = self.members_of(now, seen, &targets);
        self.check_slots(now, service, &targets, &strings);
        // A write that takes no time is over when anybody looks.
        let held_up = self.failing
            || self.unsettled.is_some()
            || self.writing.is_some()
            || now < self.slow + SLOW + self.settle
            || now < self.refused + RETRY + self.settle;
        for place in 0..self.members.len() {
            let member = &self.members[place];
            if member.service != *service {
                continue;
            }
            let published = ids.iter().any(|id| id == member.id.as_str());
            let name = format!("{} of {service}", member.id);
            let until = member.upper.iter().map(|upper| self.latest(*upper)).max();
            let must = member.lower.map(|lower| self.earliest(lower));
            let upper = member.upper.last().copied();
            match until {
                _ if !published && must.is_some_and(|must| now < must) && self.is_settled(place, now, held_up) => {
                    self.violate(now, format!("{name} is not published, and lives until {must:?}"));
                }
                None if published => self.violate(now, format!("{name} is published, and has withdrawn")),
                Some(until) if published && now > until && !held_up => {
                    self.violate(now, format!("{name} is published, and has expired by {until}: {upper:?}"));
                }
                _ => {}
            }
        }
    }
}

impl Oracle {
    /// Whose targets these are: that of a slot is the member's whose address is there.
    fn members_of(&mut self, now: u64, seen: &Seen, targets: &[String]) -> Vec<String> {
        let mut slots = seen.slots.iter();
        let mut ids: Vec<String> = Vec::new();
        for target in targets {
            let label = target.split('.').next().unwrap_or_default();
            let id = match slot_of(target) {
                Some(_) => match &read(slots.next().expect("one answer a slot"))[..] {
                    [RData::A(address)] => format!("i-{}", address.octets()[3]),
                    found => {
                        self.violate(now, format!("{target} has {found:?}"));
                        continue;
                    }
                },
                None => label.to_owned(),
            };
            ids.push(id);
        }
        ids
    }

    /// Slots are as few as they can be, and stay.
    fn check_slots(&mut self, now: u64, service: &Name, targets: &[String], strings: &[String]) {
        let used: Vec<u32> = targets.iter().filter_map(|target| slot_of(target)).collect();
        if used.is_empty() {
            return;
        }
        let told = strings.iter().find_map(|text| {
            let (_, count) = text.split_once("slots=")?;
            count.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>().ok()
        });
        let members = self.members.iter().filter(|member| member.service == *service).count();
        let before = self.slots.insert(service.clone(), told.unwrap_or_default()).unwrap_or_default();
        let fits = told.is_some_and(|count| {
            used.iter().all(|slot| *slot < count) && usize::try_from(count).is_ok_and(|count| count <= members)
        });
        if !fits || used.len() != targets.len() || told.is_some_and(|count| count < before) {
            self.violate(now, format!("{service} has {targets:?} and {told:?} slots, and had {before}"));
        }
    }

    /// Whether nothing may keep a member out any more that has stayed: two half-lives are the longest that it can be damped,
    /// and it comes back with a commit of its own.
    fn is_settled(&self, place: usize, now: u64, held_up: bool) -> bool {
        if self.policies.is_none() && self.slot_hold == 0 {
            return true;
        }
        let damped = self.policies.map_or(0, |(_, half_life)| 2 * half_life);
        let stalled = self.stalls.iter().map(|(_, to)| *to).max().unwrap_or(0);
        let since = self.members[place].since.max(stalled).max(self.slow).max(self.refused);
        !held_up && now > since + damped + self.slot_hold + RETRY + SLOW + self.settle
    }
}

/// The targets of an answer.
pub(super) fn targets(srv: &[u8]) -> Vec<String> {
    let data = read(srv).into_iter();
    let target = |data| match data {
        RData::SRV(srv) => Some(srv.target.to_ascii()),
        _ => None,
    };
    data.filter_map(target).collect()
}

/// The number of the slot whose name a target is.
pub(super) fn slot_of(target: &str) -> Option<u32> {
    target.split('.').next()?.strip_prefix('s')?.parse().ok()
}

/// The data of the answer section, as hickory reads it.
fn read(octets: &[u8]) -> Vec<RData> {
    let message = Message::from_vec(octets).expect("answers parse");
    message.answers.into_iter().map(|record| record.data).collect()
}
