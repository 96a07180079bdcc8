//! What a registration comes to, whichever channel it comes by, and what stands against it.
//!
//! A channel reads a request (a DNS UPDATE message, an item of the HTTP API) and finds its [`Outcome`]: what is new, what is
//! gone, what has only renewed its lease. [`check`] holds that against the zone's limits (`bounds`) and against what nobody
//! would see (`hidden`); the publisher applies it. [`order`] is the channel for whole members, which the HTTP API uses.
//!
//! Nothing is applied here. An [`Objection`] is a domain error: the channel says what it is in its protocol.

mod bounds;
mod hidden;
pub mod order;

use crate::base::Limit;
use crate::membership::{Index, Item, MemberId, Quotas, Table};

use super::change::Cause;
use super::contents::Contents;

pub use bounds::check_addresses;

/// An item to be put into the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// The item.
    pub item: Item,
    /// Why.
    pub cause: Cause,
    /// Whether the request speaks for it, so that its lease runs anew; not so if only its RRset got another TTL.
    pub heard: bool,
    /// The member whose place this one takes.
    pub replaces: Option<MemberId>,
}

impl Put {
    /// An item in nobody's place.
    pub fn of(item: Item, cause: Cause, heard: bool) -> Put {
        Put { item, cause, heard, replaces: None }
    }
}

/// What a request comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// New or changed.
    pub puts: Vec<Put>,
    /// Gone.
    pub removals: Vec<(Index, Cause)>,
    /// Unchanged: their leases run anew.
    pub renewals: Vec<Index>,
    /// For the reply to an update: the leases granted, if some were asked for.
    pub granted: Option<(u32, Option<u32>)>,
}

/// What a request is held against.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The members as registered, earlier requests of the batch included.
    pub table: &'a Table,
    /// The sources of the zone, likewise.
    pub contents: &'a Contents,
    /// How much there may be.
    pub quotas: &'a Quotas,
}

/// Why a request is not carried out. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Objection {
    /// Who could have it otherwise.
    pub kind: Kind,
    /// What would have to be different, for people.
    pub text: String,
    /// The limit that stands against it.
    pub limit: Option<Limit>,
}

/// The kinds of objections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A rule of the configuration, or what is registered, stands against it.
    Prohibited,
    /// It makes no sense in this zone, whoever asks.
    Invalid,
    /// There is no such member.
    Unknown,
}

impl Objection {
    /// A rule of the configuration, or what is registered, stands against it.
    pub fn prohibited(text: impl Into<String>) -> Objection {
        Objection { kind: Kind::Prohibited, text: text.into(), limit: None }
    }

    /// It makes no sense in this zone, whoever asks.
    pub fn invalid(text: impl Into<String>) -> Objection {
        Objection { kind: Kind::Invalid, text: text.into(), limit: None }
    }

    /// The same, counted at a limit.
    pub fn at(self, limit: Limit) -> Objection {
        Objection { limit: Some(limit), ..self }
    }
}

/// Refuses what would be hidden or would exceed a limit.
pub fn check(ground: &Ground<'_>, outcome: &Outcome) -> Result<(), Objection> {
    hidden::check(ground, outcome)?;
    bounds::check(ground, outcome)
}
