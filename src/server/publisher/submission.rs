//! What a publisher is handed, each with the way back to its sender, and the replies.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::base::{Epoch, Name, Now};
use crate::dns::update::{Refusal, Request, Verdict};
use crate::net::Completion;
use crate::server::figures::{Channel, Heartbeats, Outcome};
use crate::zone::registration::Kind;
use crate::zone::registration::order::{Action, Failure, Order, Orderer, Report};

/// Orders of one submission at most; a longer batch is several. They are carried out in one go, which takes some
/// milliseconds, and those that change something share a commit.
pub const ORDERS: usize = 1000;

/// What a publisher is handed.
#[derive(Debug)]
pub enum Submission {
    /// A DNS UPDATE message.
    Update(Update),
    /// Orders, each by itself.
    Orders(Box<Orders>),
    /// Free slots are to be removed.
    Shrink(Box<Shrink>),
}

impl Submission {
    /// How many requests it is.
    pub fn weight(&self) -> usize {
        match self {
            Submission::Update(_) | Submission::Shrink(_) => 1,
            Submission::Orders(orders) => orders.orders.len(),
        }
    }
}

/// The free slots at the end of a service are to be removed.
pub struct Shrink {
    /// The service.
    pub service: Name,
    /// Who wants it, for the cause of the commit.
    pub by: Arc<str>,
    /// Told how many are left and the epoch from which on that is visible.
    pub completion: Box<dyn FnOnce(Shrunk) + Send>,
}

/// How many slots are left, and the epoch from which on that is visible.
pub type Shrunk = Result<(u32, Epoch), Failure>;

impl fmt::Debug for Shrink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shrink").field("service", &self.service).finish_non_exhaustive()
    }
}

/// An update with the way back to its sender.
pub struct Update {
    /// The request.
    pub request: Box<Request>,
    /// Takes the reply.
    pub completion: Completion,
    /// When it came in.
    pub received: Instant,
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}

/// Orders of one sender, with the way back.
pub struct Orders {
    pub(super) orders: Vec<Order>,
    pub(super) orderer: Orderer,
    /// What became of each so far.
    pub(super) reports: Vec<Option<Report>>,
    /// Which of these hold only if the batch that they wait for becomes durable.
    pub(super) provisional: Vec<bool>,
    /// When they came in.
    received: Instant,
    completion: Box<dyn FnOnce(Vec<Report>) + Send>,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("orders", &self.orders).field("reports", &self.reports).finish_non_exhaustive()
    }
}

impl Orders {
    /// Orders, [`ORDERS`] at most; `completion` takes the report of each.
    pub fn new(
        orders: Vec<Order>,
        orderer: Orderer,
        completion: impl FnOnce(Vec<Report>) + Send + 'static,
    ) -> Box<Orders> {
        debug_assert!(orders.len() <= ORDERS, "longer batches are split");
        let (reports, provisional) = (vec![None; orders.len()], vec![false; orders.len()]);
        Box::new(Orders {
            orders,
            orderer,
            reports,
            provisional,
            received: Instant::now(),
            completion: Box::new(completion),
        })
    }

    /// Whether each has its report.
    pub(super) fn are_complete(&self) -> bool {
        self.reports.iter().all(Option::is_some)
    }

    /// Those without a report get this one.
    pub(super) fn fail_rest(&mut self, text: &str) {
        for report in self.reports.iter_mut().filter(|report| report.is_none()) {
            *report = Some(Err(Failure::Unavailable(text.to_owned())));
        }
    }
}

/// A reply that is ready to go, or will be with the batch that it waits for.
#[derive(Debug)]
pub enum Reply {
    /// To an update; what became of it if its verdict is that it was carried out.
    Update(Update, Verdict, Outcome),
    /// To orders.
    Orders(Box<Orders>),
    /// To whoever wanted free slots removed.
    Shrink(Box<Shrink>, Shrunk),
}

impl Reply {
    /// Since when the request was under way, if it changed something.
    pub fn changed_since(&self) -> Option<Instant> {
        match self {
            Reply::Update(update, verdict, done) => {
                (Outcome::of(verdict, *done) == Outcome::Changed).then_some(update.received)
            }
            Reply::Orders(orders) => {
                let changed = |report: &Report| report.as_ref().is_ok_and(|done| done.changed);
                orders.reports.iter().flatten().any(changed).then_some(orders.received)
            }
            Reply::Shrink(..) => None,
        }
    }

    /// Counts what became of it.
    pub(super) fn count(&self, heartbeats: &Heartbeats) {
        match self {
            Reply::Update(update, verdict, done) => {
                heartbeats.count(update.request.transport, Outcome::of(verdict, *done));
            }
            Reply::Orders(orders) => {
                for (order, report) in orders.orders.iter().zip(&orders.reports) {
                    heartbeats.count(Channel::Http, outcome_of(order, report.as_ref()));
                }
            }
            Reply::Shrink(..) => {}
        }
    }

    /// Encodes, signs and sends it.
    pub fn send(self, now: Now) {
        match self {
            Reply::Update(Update { request, completion, .. }, verdict, _) => {
                let mut octets = Vec::new();
                request.reply(&verdict, now.wall, &mut octets);
                completion(octets);
            }
            Reply::Orders(orders) => {
                let reports = orders.reports.into_iter();
                let lost = || Failure::Unavailable("it was not carried out".to_owned());
                (orders.completion)(reports.map(|report| report.unwrap_or_else(|| Err(lost()))).collect());
            }
            Reply::Shrink(shrink, done) => (shrink.completion)(done),
        }
    }

    /// The same with what could not be kept taken back.
    pub(super) fn refused(self, text: &str) -> Reply {
        match self {
            Reply::Update(update, _, done) => Reply::Update(update, Verdict::Refused(Refusal::not_ready(text)), done),
            Reply::Orders(mut orders) => {
                // Whoever only renewed has its lease, whatever becomes of the write.
                for (report, provisional) in orders.reports.iter_mut().zip(&orders.provisional) {
                    if *provisional || report.is_none() {
                        *report = Some(Err(Failure::Unavailable(text.to_owned())));
                    }
                }
                Reply::Orders(orders)
            }
            Reply::Shrink(shrink, _) => Reply::Shrink(shrink, Err(Failure::Unavailable(text.to_owned()))),
        }
    }

    /// The same once the commit that it waited for is made.
    pub(super) fn visible_from(mut self, epoch: Epoch) -> Reply {
        match &mut self {
            Reply::Orders(orders) => orders.reports.iter_mut().flatten().flatten().for_each(|done| done.epoch = epoch),
            Reply::Shrink(_, Ok((_, at))) => *at = epoch,
            Reply::Update(..) | Reply::Shrink(..) => {}
        }
        self
    }
}

/// What became of an order.
fn outcome_of(order: &Order, report: Option<&Report>) -> Outcome {
    match report {
        Some(Ok(done)) if done.changed => Outcome::Changed,
        Some(Ok(_)) if matches!(order.action, Action::Register(_) | Action::Renew) => Outcome::Renewed,
        Some(Ok(_)) => Outcome::Unchanged,
        Some(Err(Failure::Objection(objection))) if objection.kind == Kind::Unknown => Outcome::Failed,
        Some(Err(Failure::Objection(_))) => Outcome::Refused,
        Some(Err(Failure::Unavailable(_))) | None => Outcome::Unavailable,
    }
}
