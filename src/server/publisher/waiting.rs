//! What waits for the write under way, in the order in which it came.
//!
//! A renewal needs no write, so that it goes ahead of all this; but not of what its own sender has said before of the same
//! thing: an update not of those of its connection, and an order not of another about its member, as in a batch that names a
//! member twice.
//!
//! Bounds: [`PUBLISHER_QUEUE`] submissions. Those who hand orders in bound how many these have.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::SocketAddr;

use crate::base::limits::PUBLISHER_QUEUE;
use crate::base::{Name, SeededMap};
use crate::dns::reply::Transport;
use crate::dns::update::Request;
use crate::membership::MemberId;
use crate::zone::registration::order::Order;

use super::submission::Submission;

/// What waits. Dropping it answers nobody.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Submission>,
    /// Connections with updates in it: how many.
    connections: SeededMap<SocketAddr, usize>,
    /// Members that orders in it speak of: how many.
    members: SeededMap<(Name, MemberId), usize>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= PUBLISHER_QUEUE
    }

    pub(super) fn push(&mut self, submission: Submission) {
        self.tally(&submission, true);
        self.queue.push_back(submission);
    }

    /// The one that came first.
    pub(super) fn pop(&mut self) -> Option<Submission> {
        let submission = self.queue.pop_front()?;
        self.tally(&submission, false);
        Some(submission)
    }

    /// All of them.
    pub(super) fn take(&mut self) -> VecDeque<Submission> {
        std::mem::take(self).queue
    }

    /// Counts one that comes or goes.
    fn tally(&mut self, submission: &Submission, comes: bool) {
        match submission {
            Submission::Update(update) => {
                let connection = connection(&update.request);
                connection.into_iter().for_each(|connection| tally(&mut self.connections, connection, comes));
            }
            Submission::Orders(orders) => {
                // Those without a report yet.
                let waiting = orders.orders.iter().zip(&orders.reports).filter(|(_, report)| report.is_none());
                for (Order { service, id, .. }, _) in waiting {
                    tally(&mut self.members, (service.clone(), id.clone()), comes);
                }
            }
            Submission::Shrink(_) => {}
        }
    }

    /// Whether an update came by a connection that has another one here.
    pub(super) fn holds_connection_of(&self, request: &Request) -> bool {
        connection(request).is_some_and(|connection| self.connections.contains_key(&connection))
    }

    /// Whether an order here speaks of a member.
    pub(super) fn speaks_of(&self, member: &(Name, MemberId)) -> bool {
        self.members.contains_key(member)
    }
}

/// The connection that an update came by; over UDP their order is nobody's.
fn connection(request: &Request) -> Option<SocketAddr> {
    (request.transport != Transport::Udp).then_some(request.peer)
}

fn tally<K: Hash + Eq>(counts: &mut SeededMap<K, usize>, key: K, comes: bool) {
    match counts.entry(key) {
        Entry::Occupied(entry) if !comes && *entry.get() == 1 => drop(entry.remove()),
        Entry::Occupied(mut entry) if !comes => *entry.get_mut() -= 1,
        entry => *entry.or_default() += 1,
    }
}
