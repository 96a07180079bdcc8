//! DNS UPDATE (RFC 2136): registrations.
//!
//! `request` reads a message as far as it can be read without knowing the zone's state. `prerequisite` holds it against
//! that state. `execute` carries its changes out on a copy (`draft`), with `add` and `delete`; `conclude` compares the copy
//! with what was there and says what is new, what went, and what only renewed its lease ([`crate::zone::registration`], which
//! refuses what would be too much and what nobody would see). `renewal` counts heartbeats without any of that, and `outlook` tells of other
//! updates what can be told without.

mod add;
mod conclude;
mod delete;
mod draft;
pub mod execute;
mod outlook;
pub mod prerequisite;
pub mod renewal;
pub mod request;
#[cfg(test)]
mod tests;

pub use execute::{Execution, Rules, Scene, execute};
pub use outlook::renews_nothing;
pub use request::{Request, Verdict};

use crate::base::{Limit, Name, Wall};
use crate::zone::registration::{Kind, Objection};

use super::edns::ExtendedError;
use super::reply::Reply;
use super::wire::Rcode;

/// Why an update is not carried out. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The response code.
    pub rcode: Rcode,
    /// What would have to be different, for people.
    pub error: Option<ExtendedError>,
    /// The limit that stands against it.
    pub limit: Option<Limit>,
}

impl Refusal {
    /// A refusal that its response code explains.
    pub fn plain(rcode: Rcode) -> Refusal {
        Refusal { rcode, error: None, limit: None }
    }

    /// Whether a prerequisite was not met (RFC 2136 §3.2): it might be at another time.
    pub fn is_of_prerequisite(&self) -> bool {
        [Rcode::NXDOMAIN, Rcode::YXDOMAIN, Rcode::NXRRSET, Rcode::YXRRSET].contains(&self.rcode)
    }

    /// NOTZONE (RFC 2136 §3.2.3 and 3.4.1.1).
    pub fn outside(name: &Name) -> Refusal {
        Refusal::explained(Rcode::NOTZONE, ExtendedError::INVALID_DATA, format!("{name} lies outside of the zone"))
    }

    /// FORMERR with the reason.
    pub fn malformed(text: &str) -> Refusal {
        Refusal::explained(Rcode::FORMERR, ExtendedError::INVALID_DATA, text)
    }

    /// REFUSED: a rule of the configuration stands against it.
    pub fn prohibited(text: impl Into<String>) -> Refusal {
        Refusal::explained(Rcode::REFUSED, ExtendedError::PROHIBITED, text)
    }

    /// REFUSED: it makes no sense in this zone, whoever asks.
    pub fn invalid(text: impl Into<String>) -> Refusal {
        Refusal::explained(Rcode::REFUSED, ExtendedError::INVALID_DATA, text)
    }

    /// SERVFAIL: it may go through later.
    pub fn not_ready(text: impl Into<String>) -> Refusal {
        Refusal::explained(Rcode::SERVFAIL, ExtendedError::NOT_READY, text)
    }

    /// A response code with a reason.
    pub fn explained(rcode: Rcode, code: u16, text: impl Into<String>) -> Refusal {
        Refusal { error: Some(ExtendedError::new(code, text)), ..Refusal::plain(rcode) }
    }

    /// The same, counted at a limit.
    pub fn at(self, limit: Limit) -> Refusal {
        Refusal { limit: Some(limit), ..self }
    }
}

impl From<Objection> for Refusal {
    fn from(objection: Objection) -> Refusal {
        let Objection { kind, text, limit } = objection;
        let refusal = match kind {
            Kind::Prohibited => Refusal::prohibited(text),
            Kind::Invalid | Kind::Unknown => Refusal::invalid(text),
        };
        Refusal { limit, ..refusal }
    }
}

/// A refusal on its way to the client.
#[derive(Clone, Debug)]
pub struct RefusedReply {
    pub(super) reply: Reply,
    pub(super) refusal: Refusal,
}

impl RefusedReply {
    /// The limit that stands against the request.
    pub fn limit(&self) -> Option<Limit> {
        self.refusal.limit
    }

    /// Writes the reply.
    pub fn write(mut self, question: &[u8], now: Wall, out: &mut Vec<u8>) {
        if let Some(error) = self.refusal.error {
            self.reply.explain(error);
        }
        self.reply.refuse(self.refusal.rcode, question, now, out);
    }
}
