//! The publisher of one zone: requests in, commits out. No I/O, no clock.
//!
//! Requests gather in a batch. [`Publisher::seal`] closes it into one write for the store; [`Publisher::appended`] is told
//! how that went, and either makes the changes the next snapshot or takes them all back. One write is under way at a time.
//! Meanwhile requests that only renew leases are answered at once, since renewals need no disk; the others wait.
//!
//! Replies go to an outbox that the driver empties after it has made the new answers visible: whoever is told that it is
//! registered finds itself in the answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{BATCH_REQUESTS, STORE_PATIENCE};
use crate::base::{Epoch, Limit, Monotonic, Name, NameSet, Now, RecordType, SeededMap, SeededSet, text};
use crate::dns::update::request::MessageId;
use crate::dns::update::{Execution, Refusal, Request, Rules, Scene, Verdict, execute, renews_nothing};
use crate::membership::{Census, Item, Key, Reason, Stamp, Table, UpdateAccess};
use crate::zone::registration::{Objection, Outcome};
use crate::zone::{
    Cause, CausedChange, Change, Commit, Published, PublishedMember, Settings, Snapshot, Staged, StaticNode, Zone,
};

use super::counters::Counters;
use super::figures;

pub use configure::{Clash, Configuration};
pub use submission::{ORDERS, Orders, Reply, Shrink, Shrunk, Submission, Update};

use orders::busy;
use waiting::Waiting;

/// What the zone's configuration says, as far as the publisher is concerned.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who may update.
    pub access: UpdateAccess,
    /// How.
    pub rules: Rules,
    /// How long to gather changes for one commit.
    pub settle: Duration,
}

/// A commit that became visible.
#[derive(Debug)]
pub struct Advance {
    /// The next snapshot, and what it touched.
    pub published: Published,
    /// The commit.
    pub commit: Arc<Commit>,
}

#[derive(Debug, Default)]
struct Batch {
    /// Since when it gathers.
    opened: Option<Monotonic>,
    replies: Vec<Reply>,
    /// Messages in it, for their retransmissions.
    joined: SeededMap<MessageId, Remembered>,
    /// Whose leases have ended.
    lapsed: SeededSet<Key>,
    settings: Option<Arc<Settings>>,
    statics: Vec<StaticNode>,
}

#[derive(Debug)]
struct InFlight {
    staged: Staged,
    replies: Vec<Reply>,
    joined: SeededMap<MessageId, Remembered>,
    /// Whose leases have ended.
    lapsed: SeededSet<Key>,
    /// Replay marks that the store is told to forget.
    swept: Vec<Key>,
    /// When the store was given it.
    since: Monotonic,
    /// How long the process stood still since: the store's threads did too.
    stalled: Duration,
    /// How often.
    stalls: u32,
    /// Who of those that it concerns was heard of since, and when last.
    heard: SeededMap<Key, Monotonic>,
    /// Nobody waits for it any more.
    given_up: bool,
}

impl InFlight {
    /// Until when updates wait for it.
    fn patience_ends(&self) -> Option<Monotonic> {
        (!self.given_up).then(|| self.since.after(STORE_PATIENCE).after(self.stalled))
    }
}

/// How many times the store is forgiven that it did not answer while the process stood still: a machine that is suspended, and
/// not one that is starved all the time.
const FORGIVEN_STALLS: u32 = 8;

/// The outcome of an update, for its retransmissions.
#[derive(Clone, Debug)]
struct Remembered {
    verdict: Verdict,
    /// What it registered; `None` if that is much, and any lapse may concern it.
    keys: Option<Box<[Key]>>,
}

/// How many keys are kept with a remembered outcome: a registration has one or two.
const REMEMBERED_KEYS: usize = 4;

/// Lets a retransmission have the reply of its original; more of them than a batch has requests are dropped.
fn join(replies: &mut Vec<Reply>, update: Update, verdict: Verdict, counters: &Counters) {
    if replies.len() < 2 * BATCH_REQUESTS {
        replies.push(Reply::Update(update, verdict, figures::Outcome::Repeated));
    } else {
        counters.count(Limit::Retransmissions);
        counters.figures.heartbeats.count(update.request.transport, figures::Outcome::Dropped);
    }
}

const NO_ANSWER: &str = "the store does not answer; the update may come into force later; retry";

/// SERVFAIL, since the store isn't ready.
fn not_ready(text: &str) -> Verdict {
    Verdict::Refused(Refusal::not_ready(text))
}

/// The publisher of one zone.
#[derive(Debug)]
pub struct Publisher {
    zone: Zone,
    table: Table,
    policy: Policy,
    counters: Arc<Counters>,
    /// The epoch that the store has; none until the first write.
    stored: Option<Epoch>,
    batch: Batch,
    in_flight: Option<InFlight>,
    waiting: Waiting,
    recent: SeededMap<MessageId, Remembered>,
    recent_order: VecDeque<(Monotonic, MessageId)>,
    outbox: Vec<Reply>,
    next_forgetting: Monotonic,
    /// Whether messages are noted.
    noting: bool,
    /// Whether the clock was looked at since the start.
    observed: bool,
    /// Whether something is noted whose outcome depends on which services there are.
    notes_mind_services: bool,
    /// Names beside which nothing has been noted since the notes there were voided.
    voided: NameSet,
    /// A configuration that is not in force yet.
    pending: Option<configure::Pending>,
    configured: Option<Result<(), Clash>>,
}

/// How often services without members are looked at.
const FORGETTING_INTERVAL: Duration = Duration::from_secs(60);

impl Publisher {
    /// A publisher for a zone and its table as they were restored; `stored` is the epoch in the store.
    pub fn new(
        zone: Zone,
        table: Table,
        policy: Policy,
        counters: Arc<Counters>,
        stored: Option<Epoch>,
        now: Now,
    ) -> Publisher {
        Publisher {
            zone,
            table,
            policy,
            counters,
            stored,
            batch: Batch::default(),
            in_flight: None,
            waiting: Waiting::default(),
            recent: SeededMap::default(),
            recent_order: VecDeque::new(),
            outbox: Vec::new(),
            next_forgetting: now.mono.after(FORGETTING_INTERVAL),
            noting: true,
            observed: false,
            notes_mind_services: false,
            voided: NameSet::default(),
            pending: None,
            configured: None,
        }
    }

    /// What is published.
    pub fn snapshot(&self) -> &Snapshot {
        self.zone.snapshot()
    }

    /// The membership.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The membership, for checkpoints.
    pub fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Replies that may go now.
    pub fn take_replies(&mut self) -> Vec<Reply> {
        let replies = std::mem::take(&mut self.outbox);
        for reply in &replies {
            reply.count(&self.counters.figures.heartbeats);
        }
        replies
    }

    /// Who is in the zone, and how many services it knows; what waits for the store included.
    pub fn census(&self) -> (&Census, usize) {
        (self.table.census(), self.zone.contents().service_count())
    }

    /// What it counts in.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether requests or changes wait for a write.
    pub fn has_batch(&self) -> bool {
        self.batch.opened.is_some() || self.in_flight.is_some() || !self.waiting.is_empty()
    }

    /// Whether a write is under way.
    pub fn is_waiting_for_store(&self) -> bool {
        self.in_flight.is_some()
    }

    // ---- what comes in ------------------------------------------------------------------------------------------

    /// Takes a submission. It is answered at once, with its batch, or after the write under way.
    pub fn submit(&mut self, submission: Submission, now: Now) {
        match submission {
            submission if self.in_flight.is_none() && self.waiting.is_empty() => self.process(submission, now),
            Submission::Update(update) => self.submit_update(update, now),
            Submission::Orders(orders) => self.submit_orders(orders, now),
            Submission::Shrink(shrink) => self.outbox.push(Reply::Shrink(shrink, Err(busy()))),
        }
    }

    /// Takes an update while a write is under way, or others wait that came before it.
    fn submit_update(&mut self, update: Update, now: Now) {
        let request = &update.request;
        let given_up = self.in_flight.as_ref().is_some_and(|in_flight| in_flight.given_up);
        if let Some(in_flight) = self.in_flight.as_mut().filter(|_| !given_up)
            && let Some(remembered) = in_flight.joined.get(&request.id)
        {
            let verdict = remembered.verdict.clone();
            join(&mut in_flight.replies, update, verdict, &self.counters);
            return;
        }
        // What has to wait whatever comes of it is carried out once.
        let execution =
            (!renews_nothing(request, &self.table, self.zone.contents())).then(|| self.execute(request, now));
        let is_behind = self.waiting.holds_connection_of(request);
        if let Some(Ok(Execution::Apply(outcome))) = &execution
            && (is_behind || !self.only_renews(outcome))
        {
            self.hear(outcome, now);
        }
        match execution {
            Some(Ok(Execution::Apply(outcome))) if !is_behind && self.only_renews(&outcome) => {
                self.renew(&outcome, request.stamp, now);
                self.note(&update.request, &outcome);
                let verdict = self.acknowledge(&outcome, now);
                self.outbox.push(Reply::Update(update, verdict, figures::Outcome::Renewed));
            }
            // A retransmission of such a message.
            Some(Ok(Execution::Repeat(outcome))) if self.only_renews(&outcome) => {
                self.outbox.push(Reply::Update(update, Verdict::Done(outcome.granted), figures::Outcome::Repeated));
            }
            _ if given_up => {
                self.outbox.push(Reply::Update(update, not_ready(NO_ANSWER), figures::Outcome::Unavailable));
            }
            _ if self.waiting.is_full() => {
                let refusal = Refusal::not_ready("too many updates wait for the store; retry later");
                let verdict = Verdict::Refused(refusal.at(Limit::StoreQueue));
                self.counters.note(&update.request, &verdict, now.mono);
                self.outbox.push(Reply::Update(update, verdict, figures::Outcome::Unavailable));
            }
            _ => self.waiting.push(Submission::Update(update)),
        }
    }

    /// Carries out what waits, up to [`BATCH_REQUESTS`], unless a write is under way.
    fn resume(&mut self, now: Now) {
        // Perhaps nobody sees the last commit yet. Who is told now is told after it, so that nothing is counted in place
        // until the next time.
        self.noting = false;
        let mut room = if self.in_flight.is_none() { BATCH_REQUESTS } else { 0 };
        while room > 0
            && let Some(submission) = self.waiting.pop()
        {
            room = room.saturating_sub(submission.weight());
            self.process(submission, now);
        }
        self.noting = true;
    }

    fn process(&mut self, submission: Submission, now: Now) {
        match submission {
            Submission::Update(update) => self.process_update(update, now),
            Submission::Orders(orders) => self.process_orders(orders, now),
            Submission::Shrink(shrink) => self.shrink(shrink, now),
        }
    }

    /// Whether an update does nothing but renew leases that no edit under way concerns.
    fn only_renews(&self, outcome: &Outcome) -> bool {
        outcome.puts.is_empty()
            && outcome.removals.is_empty()
            && !outcome.renewals.is_empty()
            && !outcome.renewals.iter().any(|index| self.table.edited().contains(index))
    }

    fn execute(&self, request: &Request, now: Now) -> Result<Execution, Refusal> {
        let grant = self.policy.access.grant(&request.identity);
        let scene = Scene {
            table: &self.table,
            contents: self.zone.contents(),
            snapshot: self.zone.snapshot(),
            rules: &self.policy.rules,
            grant: grant.as_ref(),
            now,
        };
        execute(request, scene)
    }

    fn process_update(&mut self, update: Update, now: Now) {
        let request = &update.request;
        if let Some(remembered) = self.batch.joined.get(&request.id) {
            let verdict = remembered.verdict.clone();
            join(&mut self.batch.replies, update, verdict, &self.counters);
            return;
        }
        let remembered = self.recent.get(&request.id).map(|remembered| remembered.verdict.clone());
        let execution = self.execute(request, now);
        let mut done = figures::Outcome::Repeated;
        let verdict = match (execution, remembered) {
            // Of a retransmission too: it is told the lease that it renews.
            (Ok(Execution::Apply(outcome)), _) if outcome.puts.is_empty() && outcome.removals.is_empty() => {
                let waits = match outcome.renewals.as_slice() {
                    // There is nothing to do: perhaps since the batch has done it.
                    [] => self.table.is_dirty(),
                    renewals => renewals.iter().any(|index| self.table.edited().contains(index)),
                };
                self.renew(&outcome, request.stamp, now);
                let verdict = self.acknowledge(&outcome, now);
                done = match outcome.renewals.is_empty() {
                    true => figures::Outcome::Unchanged,
                    false => figures::Outcome::Renewed,
                };
                if waits {
                    return self.join(update, verdict, done, now);
                }
                self.note(request, &outcome);
                verdict
            }
            // A retransmission is not applied twice, whatever it would do now.
            (_, Some(remembered)) => remembered,
            (Ok(Execution::Apply(outcome)), None) => match self.apply(&outcome, request.stamp, now) {
                Ok(()) => {
                    let verdict = self.acknowledge(&outcome, now);
                    let keys = (outcome.puts.len() <= REMEMBERED_KEYS)
                        .then(|| outcome.puts.iter().map(|put| put.item.key()).collect());
                    self.batch.joined.insert(request.id, Remembered { verdict: verdict.clone(), keys });
                    self.batch.replies.push(Reply::Update(update, verdict, figures::Outcome::Changed));
                    return;
                }
                Err(objection) => Verdict::Refused(objection.into()),
            },
            (Ok(Execution::Repeat(outcome)), None) => Verdict::Done(outcome.granted),
            (Ok(Execution::Older), None) => Verdict::Replayed,
            // A prerequisite that fails by what is not durable yet.
            (Err(refusal), None) if refusal.is_of_prerequisite() && self.table.is_dirty() => {
                return self.join(update, Verdict::Refused(refusal), done, now);
            }
            (Err(refusal), None) => Verdict::Refused(refusal),
        };
        self.counters.note(&update.request, &verdict, now.mono);
        self.outbox.push(Reply::Update(update, verdict, done));
    }

    /// What is told of an update that was carried out: also of a member that is not published, why and until when.
    fn acknowledge(&self, outcome: &Outcome, now: Now) -> Verdict {
        let put = outcome.puts.iter().filter_map(|put| self.table.find(&put.item.key()));
        let unpublished = put.chain(outcome.renewals.iter().copied()).find_map(|index| {
            let Some(Item::Member(member)) = self.table.item(index) else { return None };
            let (id, service) = (&member.id, &member.service);
            if let Some(until) = self.table.damped_until(member) {
                let until = text::time(now.wall.after(until.since(now.mono)));
                return Some(format!("{id} in {service} is damped until {until}: it came back too often"));
            }
            let waits = self.table.waits_for_slot(index);
            waits.then(|| {
                format!("{id} in {service} waits for a slot: those that are free are kept for their former holders")
            })
        });
        unpublished.map_or(Verdict::Done(outcome.granted), |text| Verdict::Noted(outcome.granted, text))
    }

    /// Lets a request that adds nothing to the batch wait for it, since its verdict holds only if the batch becomes
    /// durable.
    fn join(&mut self, update: Update, verdict: Verdict, done: figures::Outcome, now: Now) {
        self.open(now);
        self.batch.replies.push(Reply::Update(update, verdict, done));
    }

    fn renew(&mut self, outcome: &Outcome, stamp: Option<Stamp>, now: Now) {
        for &index in &outcome.renewals {
            self.table.renew(index, now.mono, stamp);
        }
    }

    /// Whoever sends an update is alive, whatever becomes of what it says: the leases run anew of what is there and it
    /// would change or renew. What the write under way concerns gets its lease at the end of that.
    fn hear(&mut self, outcome: &Outcome, now: Now) {
        let put = outcome.puts.iter().filter(|put| put.heard).filter_map(|put| self.table.find(&put.item.key()));
        let places: Vec<_> = put.chain(outcome.renewals.iter().copied()).collect();
        for index in places {
            if !self.table.edited().contains(&index) {
                self.table.renew(index, now.mono, None);
            } else if let (Some(in_flight), Some(item)) = (&mut self.in_flight, self.table.item(index)) {
                in_flight.heard.insert(item.key(), now.mono);
            }
        }
    }

    /// Makes a request part of the batch.
    fn apply(&mut self, outcome: &Outcome, stamp: Option<Stamp>, now: Now) -> Result<(), Objection> {
        self.table.see(now);
        let savepoint = self.table.savepoint();
        let mut changes = Vec::new();
        for (index, cause) in &outcome.removals {
            if let Some(item) = self.table.item(*index).cloned() {
                self.table.remove(*index, stamp);
                changes.push((item, cause.clone(), true));
            }
        }
        for put in &outcome.puts {
            let item = put.item.clone();
            let done = match put.heard {
                true => self.table.put_in_place_of(item, stamp, put.replaces.as_ref()),
                false => self.table.amend(item),
            };
            let Ok(index) = done else {
                self.table.rollback(savepoint);
                return Err(Objection::invalid("the zone holds as many leases as it can").at(Limit::ZoneLeases));
            };
            // As policy has it.
            let item = self.table.item(index).unwrap_or(&put.item).clone();
            if matches!((&item, &put.item), (Item::Member(is), Item::Member(was)) if is.state != was.state) {
                self.counters.figures.decisions.count(Reason::Damped);
            }
            changes.push((item, put.cause.clone(), false));
        }
        self.renew(outcome, stamp, now);
        self.publish_items(changes, now);
        self.open(now);
        Ok(())
    }

    /// Passes the changes of items on to the zone. A leased RRset is one change, however many of its records differ.
    fn publish_items(&mut self, changes: Vec<(Item, Cause, bool)>, now: Now) {
        let mut leased: SeededSet<(Name, RecordType)> = SeededSet::default();
        let services = self.zone.contents().service_count();
        for (item, cause, removed) in changes {
            self.void_notes_beside(&item);
            if let Item::Leased(record) = &item
                && !leased.insert((record.name.clone(), record.rtype))
            {
                continue;
            }
            self.publish_item(&item, removed, cause, now);
        }
        if self.zone.contents().service_count() != services {
            self.void_notes_minding_services();
        }
    }

    /// Passes the change of an item on to the zone, unless it publishes what it did before.
    fn publish_item(&mut self, item: &Item, removed: bool, cause: Cause, now: Now) {
        let change = match item {
            Item::Member(member) => {
                let published = (!removed).then(|| PublishedMember::of(member));
                if self.zone.contents().member(&member.service, &member.id) == published.as_ref() {
                    return;
                }
                self.warn_of_static_host(&member.service);
                Change::Member { service: member.service.clone(), id: member.id.clone(), member: published }
            }
            Item::Leased(record) => leased_change(&self.table, &record.name, record.rtype),
            Item::Held(_) => return,
        };
        self.zone.change(CausedChange { change, cause }, now.wall);
    }

    fn warn_of_static_host(&self, service: &Name) {
        let contents = self.zone.contents();
        if contents.knows_service(service) {
            return;
        }
        let set = contents.layout(service).and_then(|layout| layout.address_set);
        if let Some(set) = set.filter(|set| !contents.statics(set).is_empty()) {
            tracing::warn!(%service, name = %set, "static records hold the name of the address set; the set is left out");
        }
    }

    fn open(&mut self, now: Now) {
        self.batch.opened.get_or_insert(now.mono);
    }
}

/// The whole leased RRset of a name and type, as it stands in the table.
pub(super) fn leased_change(table: &Table, name: &Name, rtype: RecordType) -> Change {
    let mut records: Vec<_> =
        table.leased(name).map(|(_, record)| record).filter(|record| record.rtype == rtype).collect();
    records.sort_by(|a, b| a.rdata.cmp(&b.rdata));
    Change::Leased {
        name: name.clone(),
        rtype,
        ttl: records.first().map_or(crate::base::Ttl(0), |record| record.ttl),
        rdatas: records.iter().map(|record| record.rdata.clone()).collect(),
    }
}

mod commits;
mod configure;
mod notes;
mod orders;
mod submission;
#[cfg(test)]
mod tests;
mod time;
mod waiting;
