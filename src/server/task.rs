//! The driver of a publisher: its queue, its timers, its store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::answer::Answers;
use crate::base::limits::{BATCH_REQUESTS, SETTLE_LIMIT};
use crate::base::{Epoch, Name, Now};
use crate::membership::access::TransferAccess;
use crate::membership::stall::PULSE;
use crate::membership::{Key, Stamp};
use crate::store::{Appended, Pending, Store};

use super::clock::Clock;
use super::directory::Inquiry;
use super::large_sets::LargeSets;
use super::publisher::{Advance, Clash, Configuration, Publisher, Submission};
use super::visible::Visible;

/// A publisher with what it needs to run.
pub struct Task {
    /// The publisher.
    pub publisher: Publisher,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Where it becomes visible.
    pub visible: Visible,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How often to note who has renewed since the start: a third of the shortest lease.
    pub checkpoint_interval: Duration,
    /// A changed configuration on its way into force.
    pub changing: Option<Changing>,
    /// What was told of RRsets that some secondaries don't take.
    pub large_sets: LargeSets,
    /// A commit that is not visible yet.
    pub advance: Option<Advance>,
    /// Turns when messages can come in. Until then nobody can renew, so no time passes.
    pub open: watch::Receiver<bool>,
}

/// A changed configuration for a running zone.
#[derive(Debug)]
pub struct ZoneChange {
    /// What the publisher is told.
    pub configuration: Configuration,
    /// What the task itself goes by.
    pub changing: Changing,
}

/// The changed configuration that waits for a publisher: the latest alone, which has everything.
#[derive(Debug, Default)]
pub struct Changes {
    waiting: Mutex<Option<ZoneChange>>,
    there: Notify,
}

impl Changes {
    /// Puts a change in the place of one that still waits.
    pub fn put(&self, change: ZoneChange) {
        *self.waiting.lock().expect("no panic holds it") = Some(change);
        self.there.notify_one();
    }

    /// Takes the change that waits, or the next one.
    async fn next(&self) -> ZoneChange {
        loop {
            let waiting = self.waiting.lock().expect("no panic holds it").take();
            match waiting {
                Some(change) => return change,
                None => self.there.notified().await,
            }
        }
    }
}

/// The rest of a changed configuration, which comes into force with the publisher's part.
#[derive(Debug)]
pub struct Changing {
    /// Who may query.
    pub query: Option<Vec<IpNet>>,
    /// Who may transfer the zone.
    pub transfer: TransferAccess,
    /// How often to note who has renewed.
    pub checkpoint_interval: Duration,
    /// Told when it is in force, or why it can't be.
    pub done: oneshot::Sender<Result<(), Clash>>,
}

/// How long to wait before the fate of a write is asked for again: the next one must not build on a guess.
const SETTLING_PAUSE: Duration = Duration::from_secs(1);

/// How soon it is noted that somebody has renewed for the first time in this run: soon enough for a process that is killed
/// ten times a second. Each member is noted once a run, so that this ends by itself.
const NOTE_SOON: Duration = Duration::from_millis(20);
/// How long a start, or a reload that adds a zone, waits for the store to carry out a zone's first commit: longer than any
/// disk that works takes, also a busy one that syncs what others wrote, and short enough that whoever waits at a terminal,
/// or supervises the process, learns of it.
pub(super) const FIRST_COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// How long reading a zone may take: a disk that works, and any machine that can hold the zone, is done by then.
pub(super) const READING_PATIENCE: Duration = Duration::from_secs(120);

/// A write that settles to what really happened.
type Write = Pending<Appended>;
type Checkpoint = Pending<(Vec<(Key, Stamp)>, Result<(), String>)>;

impl Task {
    /// Makes what the store kept visible and brings the configuration into force, so that the zone is served when this
    /// returns. An error if the store refuses, or has not answered for [`FIRST_COMMIT_PATIENCE`]: what it was handed is
    /// carried out whole or not at all.
    pub async fn begin(&mut self) -> Result<(), String> {
        if !self.publisher.snapshot().is_empty() {
            self.visible.show(self.publisher.snapshot());
        }
        let mut now = self.clock.now();
        now.mono = now.mono.after(SETTLE_LIMIT); // the first commit has nothing to wait for
        if let Some(write) = self.publisher.seal(now) {
            let mut doubt = None;
            let outcome = timeout(FIRST_COMMIT_PATIENCE, append(&*self.store, write, &mut doubt)).await;
            match outcome {
                Ok(Appended::Committed) => {
                    self.settle(&Appended::Committed);
                    self.show();
                }
                Ok(Appended::Conflict(_)) => return Err("the store changed while it was read".to_owned()),
                Ok(Appended::Unavailable(cause) | Appended::Unknown(cause)) => return Err(cause),
                Err(_) => return Err(silence(doubt)),
            }
        }
        self.populate();
        Ok(())
    }

    /// Runs until `stop` turns, then finishes what is under way.
    pub async fn run(
        mut self,
        queue: mpsc::Receiver<Submission>,
        inquiries: mpsc::Receiver<Inquiry>,
        changes: Arc<Changes>,
        stop: watch::Receiver<bool>,
    ) {
        // The time until then shows as a stall.
        let _ = self.open.wait_for(|open| *open).await;
        let mut inputs = Inputs { queue, inquiries, changes, stop };
        let mut jobs = Jobs {
            change: None,
            write: None,
            beginning: Some(self.begin_run()),
            begun: false,
            checkpoint: None,
            next_checkpoint: Instant::now() + self.checkpoint_interval,
            pause: NOTE_SOON,
            stopping: false,
        };
        loop {
            let event = self.next_event(&mut inputs, &mut jobs).await;
            self.publisher.observe(self.clock.now().mono);
            self.heed(event, &mut inputs, &mut jobs);
            self.turn(&mut jobs);
            if jobs.stopping && jobs.write.is_none() && !self.publisher.has_batch() {
                break;
            }
        }
        if let Some(checkpoint) = jobs.checkpoint {
            let _ = checkpoint.await;
        }
        if let Some(last) = self.checkpoint() {
            let _ = last.await;
        }
    }

    /// Waits for something to do. Heartbeats that wait come before leases that end.
    async fn next_event(&mut self, inputs: &mut Inputs, jobs: &mut Jobs) -> Event {
        let Inputs { queue, inquiries, changes, stop } = inputs;
        let goes_on = !jobs.stopping;
        let wake = self.next_wake().filter(|_| goes_on);
        let awaits_checkpoint =
            jobs.awaits_beginning() || (jobs.checkpoint.is_none() && self.publisher.table().awaits_checkpoint());
        tokio::select! {
            biased;
            _ = stop.changed(), if goes_on => Event::Stop,
            result = settled(&mut jobs.write) => Event::Written(result),
            result = settled(&mut jobs.beginning) => Event::Begun(result.is_ok()),
            result = settled(&mut jobs.checkpoint) => Event::Noted(result),
            next = changes.next(), if goes_on => Event::Change(next),
            () = sleep_until(jobs.next_checkpoint), if awaits_checkpoint => Event::Checkpoint,
            first = queue.recv(), if goes_on => Event::Request(first),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Event::Wake,
            // Last, so that readers hold up nothing; a batch of requests takes one along.
            Some(inquiry) = inquiries.recv(), if goes_on => Event::Inquiry(inquiry),
        }
    }

    fn heed(&mut self, event: Event, inputs: &mut Inputs, jobs: &mut Jobs) {
        match event {
            Event::Stop => {
                jobs.stopping = true;
                inputs.queue.close();
                while let Ok(submission) = inputs.queue.try_recv() {
                    self.publisher.submit(submission, self.clock.now());
                }
            }
            Event::Written(result) => {
                jobs.write = None;
                self.settle(&result);
            }
            Event::Begun(noted) => (jobs.beginning, jobs.begun) = (None, noted),
            Event::Noted((renewed, result)) => {
                jobs.checkpoint = None;
                if result.is_err() {
                    self.publisher.table_mut().restore_unrenewed(&renewed);
                }
            }
            Event::Change(next) => jobs.change = Some(next),
            Event::Request(Some(first)) => {
                self.take(first, &mut inputs.queue);
                if let Ok(inquiry) = inputs.inquiries.try_recv() {
                    inquiry.answer(&self.publisher, self.clock.now());
                }
                // A crash loop must not lose who has renewed.
                if self.publisher.table().awaits_checkpoint() {
                    jobs.next_checkpoint = jobs.next_checkpoint.min(Instant::now() + jobs.pause);
                }
            }
            Event::Inquiry(inquiry) => inquiry.answer(&self.publisher, self.clock.now()),
            Event::Request(None) => jobs.stopping = true,
            Event::Checkpoint => {
                jobs.next_checkpoint = Instant::now() + self.checkpoint_interval;
                if jobs.awaits_beginning() {
                    jobs.beginning = Some(self.begin_run());
                }
                if jobs.checkpoint.is_none() {
                    let start = Instant::now();
                    jobs.checkpoint = self.checkpoint();
                    // Looking for who has renewed takes a twentieth of the time at most.
                    jobs.pause = NOTE_SOON.max(20 * start.elapsed());
                }
            }
            Event::Wake => {}
        }
    }

    /// What every event ends with: time passes, the next write goes to the store, replies go out.
    fn turn(&mut self, jobs: &mut Jobs) {
        let mut now = self.clock.now();
        if jobs.stopping {
            now.mono = now.mono.after(SETTLE_LIMIT); // nothing more comes that a batch could wait for
        } else {
            self.publisher.tick(now);
        }
        if jobs.write.is_none()
            && !jobs.stopping
            && let Some(change) = jobs.change.take()
        {
            // What is in force already is completed, and a large zone may take a while to be configured.
            self.show();
            self.configure(change, now);
        }
        if jobs.write.is_none() {
            let mut write = self.publisher.seal(now);
            // No event comes any more for the rest of what waits.
            while jobs.stopping && write.is_none() && self.publisher.has_batch() {
                write = self.publisher.seal(now);
            }
            jobs.write = write.map(|write| self.append(write));
        }
        // While the store is at work already on what waited.
        self.show();
    }

    /// When to look at the clock again: for the publisher's own sake, or to see that the process runs.
    fn next_wake(&self) -> Option<Instant> {
        let (start, now) = (Instant::now(), self.clock.now().mono);
        // A millisecond more, since both clocks are cut to whole ones: never before it.
        let due = self.publisher.next_wake().map(|at| start + at.since(now) + Duration::from_millis(1));
        let pulse = self.publisher.has_leases().then(|| start + PULSE);
        due.into_iter().chain(pulse).min()
    }

    fn configure(&mut self, change: ZoneChange, now: Now) {
        match self.publisher.reconfigure(change.configuration, now) {
            Ok(()) => self.changing = Some(change.changing),
            Err(clash) => drop(change.changing.done.send(Err(clash))),
        }
    }

    /// Completes a change of configuration that the publisher has in force.
    fn complete_change(&mut self) {
        let Some(outcome) = self.publisher.take_configured() else { return };
        let Some(changing) = self.changing.take() else { return };
        if let Err(clash) = &outcome {
            tracing::error!(zone = %self.visible.served.origin, "the changed configuration can't be used: {clash}");
        } else {
            self.visible.served.query.store(changing.query.map(Arc::new));
            self.visible.served.transfer.store(Arc::new(changing.transfer));
            self.checkpoint_interval = changing.checkpoint_interval;
        }
        drop(changing.done.send(outcome));
    }

    /// Takes what waits, up to a batch.
    fn take(&mut self, first: Submission, queue: &mut mpsc::Receiver<Submission>) {
        let now = self.clock.now();
        let mut room = BATCH_REQUESTS;
        let mut next = Some(first);
        while let Some(submission) = next {
            room = room.saturating_sub(submission.weight());
            self.publisher.submit(submission, now);
            next = if room > 0 { queue.try_recv().ok() } else { None };
        }
    }

    /// Hands a write to the store, which begins with it at once.
    fn append(&self, write: crate::store::Write) -> Write {
        let store = self.store.clone();
        let append = Append::begin(&*store, write);
        Box::pin(async move { append.settle(&*store, &mut None).await })
    }

    /// Settles the write that was under way. What comes of it shows with [`Task::show`].
    fn settle(&mut self, result: &Appended) {
        if let Appended::Conflict(found) = result {
            let zone = &self.visible.served.origin;
            tracing::error!(%zone, ?found, "the store has another epoch than this server; its commits are refused");
        }
        let advance = self.publisher.appended(result, self.clock.now());
        assert!(self.advance.is_none(), "a commit is shown before the next one is settled");
        self.advance = advance;
    }

    /// Makes the last commit visible, and only then answers those who wait for it.
    fn show(&mut self) {
        if let Some(advance) = self.advance.take() {
            let shown = self.visible.served.answers.load_full();
            let before = shown.as_deref().map(Answers::snapshot);
            self.visible.advance(before, &advance.published, &advance.commit);
            self.large_sets.tell(before, &advance.published);
        }
        self.complete_change();
        let replies = self.publisher.take_replies();
        if !replies.is_empty() {
            let now = self.clock.now();
            for reply in replies {
                if let Some(received) = reply.changed_since() {
                    self.publisher.counters().figures.publication.observe(received.elapsed());
                }
                reply.send(now);
            }
        }
        self.populate();
    }

    /// Shows who is in the zone.
    fn populate(&self) {
        let (census, services) = self.publisher.census();
        self.visible.served.figures.populate(census, services);
    }

    /// Notes that this run has begun.
    fn begin_run(&self) -> Pending<Result<(), String>> {
        self.store.begin(&self.visible.served.origin, self.clock.now().wall)
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        let renewed = self.publisher.checkpoint();
        if renewed.is_empty() {
            return None;
        }
        let store = self.store.clone();
        let zone = self.visible.served.origin.clone();
        Some(Box::pin(async move {
            let result = store.checkpoint(&zone, renewed.clone()).await;
            (renewed, result)
        }))
    }
}

/// A write that the store was handed.
struct Append {
    pending: Pending<Appended>,
    zone: Name,
    epoch: Option<Epoch>,
    /// A write without a commit leaves the epoch alone, so writing it once more settles it.
    again: Option<crate::store::Write>,
}

impl Append {
    fn begin(store: &dyn Store, write: crate::store::Write) -> Append {
        let epoch = write.commit.as_ref().map(|commit| commit.epoch);
        let again = epoch.is_none().then(|| write.clone());
        Append { zone: write.zone.clone(), epoch, again, pending: store.append(write) }
    }

    /// What became of it. When its fate is unknown, the store's epoch tells, as soon as it can be read. `doubt` has why it
    /// was unknown last.
    async fn settle(self, store: &dyn Store, doubt: &mut Option<String>) -> Appended {
        let Append { pending, zone, epoch, again } = self;
        let mut outcome = pending.await;
        while let Appended::Unknown(cause) = &outcome {
            *doubt = Some(cause.clone());
            let settled = match &again {
                // That the store is away now says nothing of the first time.
                Some(write) => match store.append(write.clone()).await {
                    Appended::Unavailable(_) => outcome.clone(),
                    settled => settled,
                },
                None => match store.epoch(&zone).await {
                    Ok(found) if found == epoch => Appended::Committed,
                    Ok(_) => Appended::Unavailable(cause.clone()),
                    Err(_) => outcome.clone(),
                },
            };
            outcome = settled;
            if matches!(outcome, Appended::Unknown(_)) {
                tokio::time::sleep(SETTLING_PAUSE).await;
            }
        }
        outcome
    }
}

/// Hands a write to the store and waits until it is settled ([`Append::settle`]).
pub(super) async fn append(store: &dyn Store, write: crate::store::Write, doubt: &mut Option<String>) -> Appended {
    Append::begin(store, write).settle(store, doubt).await
}

/// What is said of a store that does not answer, or not what became of a write.
pub(super) fn silence(doubt: Option<String>) -> String {
    let cause = doubt.map_or_else(String::new, |cause| format!(" ({cause})"));
    let seconds = FIRST_COMMIT_PATIENCE.as_secs();
    format!(
        "no answer for {seconds} s{cause}; see to the disk below data-dir, and start again: the store is left as it is"
    )
}

/// What comes in.
struct Inputs {
    queue: mpsc::Receiver<Submission>,
    inquiries: mpsc::Receiver<Inquiry>,
    changes: Arc<Changes>,
    stop: watch::Receiver<bool>,
}

/// What is under way.
struct Jobs {
    /// A changed configuration waits for the write under way, which might have to be taken back.
    change: Option<ZoneChange>,
    write: Option<Write>,
    /// The note that this run has begun.
    beginning: Option<Pending<Result<(), String>>>,
    begun: bool,
    checkpoint: Option<Checkpoint>,
    next_checkpoint: Instant,
    /// How soon after a request who has renewed is noted, while somebody has not in this run.
    pause: Duration,
    stopping: bool,
}

impl Jobs {
    /// The note that this run has begun was refused.
    fn awaits_beginning(&self) -> bool {
        self.beginning.is_none() && !self.begun
    }
}

/// What a publisher's task waits for.
enum Event {
    Stop,
    Written(Appended),
    Begun(bool),
    Noted((Vec<(Key, Stamp)>, Result<(), String>)),
    Change(ZoneChange),
    Request(Option<Submission>),
    Inquiry(Inquiry),
    Checkpoint,
    Wake,
}

/// The result of what is under way; never, if nothing is.
async fn settled<T>(pending: &mut Option<Pending<T>>) -> T {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}
