//! What a server counts and measures while it works, for whoever asks: plain atomics, added to where the work is done and read
//! by [`super::metrics`] alone.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::meters::Histogram;
use crate::dns::reply::Transport;
use crate::dns::tally::Queries;
use crate::dns::update::Verdict;
use crate::dns::wire::Rcode;
use crate::membership::Reason;

/// The figures of a server.
#[derive(Debug, Default)]
pub struct Figures {
    /// Queries by what they were answered with.
    pub queries: Queries,
    /// Updates by what became of them.
    pub heartbeats: Heartbeats,
    /// From when an update that changes something came in until it was durable and visible, and its answer under way.
    pub publication: Histogram,
    /// Zone transfers of several messages, by form and whether they came to their end.
    pub transfers: Transfers,
    /// What policy decided of members.
    pub decisions: Decisions,
    /// NOTIFY that came in for copies, and counts.
    pub notified: AtomicU64,
}

/// How an update came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// DNS UPDATE in a datagram.
    Udp,
    /// Over TCP.
    Tcp,
    /// Over TLS.
    Tls,
    /// The HTTP API.
    Http,
}

impl Channel {
    /// All of them, each at the place of its number.
    pub const ALL: [Channel; 4] = [Channel::Udp, Channel::Tcp, Channel::Tls, Channel::Http];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Channel::Udp => "udp",
            Channel::Tcp => "tcp",
            Channel::Tls => "tls",
            Channel::Http => "http",
        }
    }
}

impl From<Transport> for Channel {
    fn from(transport: Transport) -> Channel {
        match transport {
            Transport::Udp => Channel::Udp,
            Transport::Tcp => Channel::Tcp,
            Transport::Tls => Channel::Tls,
        }
    }
}

/// What became of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Leases run anew, and nothing else came of it.
    Renewed,
    /// Something was registered, changed or removed.
    Changed,
    /// There was nothing to do.
    Unchanged,
    /// It came again, and got the answer of the first time.
    Repeated,
    /// REFUSED: policy or a limit.
    Refused,
    /// Another rcode: a prerequisite, or a mistake in the message.
    Failed,
    /// SERVFAIL: the store or the zone isn't ready.
    Unavailable,
    /// NOTAUTH: a signature that is not accepted, an older one, or a zone that is not here.
    Unauthenticated,
    /// No answer: beyond the rate of its source, or a full queue.
    Dropped,
    /// Handed on to the primary of a copy.
    Forwarded,
}

impl Outcome {
    /// All of them, each at the place of its number.
    pub const ALL: [Outcome; 10] = [
        Outcome::Renewed,
        Outcome::Changed,
        Outcome::Unchanged,
        Outcome::Repeated,
        Outcome::Refused,
        Outcome::Failed,
        Outcome::Unavailable,
        Outcome::Unauthenticated,
        Outcome::Dropped,
        Outcome::Forwarded,
    ];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Renewed => "renewed",
            Outcome::Changed => "changed",
            Outcome::Unchanged => "unchanged",
            Outcome::Repeated => "repeated",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Unavailable => "unavailable",
            Outcome::Unauthenticated => "unauthenticated",
            Outcome::Dropped => "dropped",
            Outcome::Forwarded => "forwarded",
        }
    }

    /// What an rcode that refuses says.
    pub fn of_rcode(rcode: Rcode) -> Outcome {
        match rcode {
            Rcode::REFUSED => Outcome::Refused,
            Rcode::SERVFAIL => Outcome::Unavailable,
            Rcode::NOTAUTH => Outcome::Unauthenticated,
            _ => Outcome::Failed,
        }
    }

    /// What became of an update that would have been this, had it been carried out.
    pub fn of(verdict: &Verdict, done: Outcome) -> Outcome {
        match verdict {
            Verdict::Done(_) | Verdict::Noted(..) => done,
            Verdict::Refused(refusal) => Outcome::of_rcode(refusal.rcode),
            Verdict::Replayed => Outcome::Unauthenticated,
        }
    }
}

/// How many updates became what. Not by thread: most of those that are many are counted in place by the thread that received
/// them, some millions a second at most.
#[derive(Debug, Default)]
pub struct Heartbeats([[AtomicU64; Outcome::ALL.len()]; Channel::ALL.len()]);

impl Heartbeats {
    /// Counts one.
    pub fn count(&self, channel: impl Into<Channel>, outcome: Outcome) {
        self.count_many(channel, outcome, 1);
    }

    /// Counts so many.
    pub fn count_many(&self, channel: impl Into<Channel>, outcome: Outcome, count: u64) {
        if count > 0 {
            self.0[channel.into() as usize][outcome as usize].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub fn at(&self, channel: Channel, outcome: Outcome) -> u64 {
        self.0[channel as usize][outcome as usize].load(Ordering::Relaxed)
    }
}

/// How often policy decided what.
#[derive(Debug, Default)]
pub struct Decisions([AtomicU64; Reason::ALL.len()]);

impl Decisions {
    /// Counts one.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn at(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

/// How a transfer of several messages ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Its last message was made, once those before were taken.
    Complete,
    /// The client has gone, or took too long.
    BrokenOff,
}

/// Zone transfers that were sent.
#[derive(Debug, Default)]
pub struct Transfers([[AtomicU64; 2]; 2]);

impl Transfers {
    /// Names of forms and of endings in metrics, by their places.
    const FORMS: [&'static str; 2] = ["changes", "whole"];
    const ENDINGS: [&'static str; 2] = ["complete", "broken-off"];

    /// Counts one.
    pub fn count(&self, is_whole: bool, ending: Ending) {
        self.0[usize::from(is_whole)][ending as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All counts: form, ending, how many.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let load = |form: usize, ending: usize| self.0[form][ending].load(Ordering::Relaxed);
        let one = move |(form, ending)| (Self::FORMS[form], Self::ENDINGS[ending], load(form, ending));
        [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().map(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_its_place() {
        assert!(Channel::ALL.iter().enumerate().all(|(place, channel)| *channel as usize == place));
        assert!(Outcome::ALL.iter().enumerate().all(|(place, outcome)| *outcome as usize == place));
        let heartbeats = Heartbeats::default();
        heartbeats.count(Transport::Tls, Outcome::Forwarded);
        heartbeats.count_many(Channel::Http, Outcome::Renewed, 3);
        assert_eq!(heartbeats.at(Channel::Tls, Outcome::Forwarded), 1);
        assert_eq!(heartbeats.at(Channel::Http, Outcome::Renewed), 3);
        assert_eq!(heartbeats.at(Channel::Udp, Outcome::Renewed), 0);
        let transfers = Transfers::default();
        transfers.count(true, Ending::BrokenOff);
        assert!(
            transfers
                .counts()
                .all(|(form, ending, count)| count == u64::from((form, ending) == ("whole", "broken-off")))
        );
    }
}
