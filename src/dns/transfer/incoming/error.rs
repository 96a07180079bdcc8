//! Why a transfer brings nothing, and who can do something about it.

use std::fmt;

use crate::base::{Name, RecordType, Serial};
use crate::dns::edns::ExtendedError;
use crate::dns::tsig::Distrust;
use crate::dns::wire::{Malformed, Rcode};

/// A transfer ended without a result. The zone stays as it was, and the connection is of no more use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransferError {
    /// The octets are no message: the primary's fault, or damage on the way.
    #[error("the primary sends what can't be read: {0}")]
    Malformed(#[from] Malformed),
    /// Data that don't fit their type.
    #[error("the primary sends a {rtype} record for {owner} that can't be read: {cause}")]
    BadData {
        /// The owner.
        owner: Name,
        /// The type.
        rtype: RecordType,
        /// What is wrong with them.
        cause: Malformed,
    },
    /// A signature is missing or wrong.
    #[error("{0}")]
    Distrusted(#[from] Distrust),
    /// It answers something else than what was asked.
    #[error("the primary answers another question: {0}")]
    OtherAnswer(&'static str),
    /// It has an rcode other than NOERROR. Of an answer without a signature to a signed question this proves nothing.
    #[error("the primary answers {rcode}{}: {}", said(.reason.as_ref()), advice(*.rcode))]
    Refused {
        /// What it answers.
        rcode: Rcode,
        /// What it says of that.
        reason: Option<ExtendedError>,
    },
    /// TC over TCP.
    #[error("the primary cuts its answer (TC), which a zone transfer never is: this is for its operator")]
    Truncated,
    /// The answer is empty, or begins with another record.
    #[error("the primary's answer does not begin with the SOA record of the zone: does it serve the zone?")]
    NoSoa,
    /// RFC 1035 §6: a zone has one SOA record, at its apex.
    #[error("the primary sends a SOA record for {0}, which is not the zone's apex: take it out there")]
    MisplacedSoa(Name),
    /// A record of another class, or of a type that messages have and zones don't.
    #[error("the primary sends a record for {owner} of type {rtype} and class {class}, which no zone can have")]
    NoZoneRecord {
        /// Its owner.
        owner: Name,
        /// Its type.
        rtype: RecordType,
        /// Its class.
        class: u16,
    },
    /// The last SOA record is not the first one: the zone has changed meanwhile.
    #[error(
        "the primary's zone has changed while it sent it, from serial {first} to {last}, or has two SOA records: \
         ask again"
    )]
    SoaChanged {
        /// The serial that the transfer began with.
        first: Serial,
        /// The one that it would have ended with.
        last: Serial,
    },
    /// A difference that doesn't begin where the one before has ended.
    #[error("the primary sends changes that begin with serial {found} where {expected} is due: ask for the whole zone")]
    Broken {
        /// Ours, or the one that the difference before led to.
        expected: Serial,
        /// What it begins with.
        found: Serial,
    },
    /// Changes to a serial that doesn't come after the one before (RFC 1982 §3.2).
    #[error("the primary sends changes from serial {from} to {to}, which is not newer: ask for the whole zone")]
    Backwards {
        /// Before.
        from: Serial,
        /// After.
        to: Serial,
    },
    /// RFC 1982 §3.2.
    #[error(
        "the primary has serial {theirs}, which is neither newer nor older than ours, {ours} (RFC 1982 §3.2): \
         ask for the whole zone"
    )]
    NoOrder {
        /// Ours.
        ours: Serial,
        /// The primary's.
        theirs: Serial,
    },
    /// A newer SOA record came and nothing behind it.
    #[error(
        "the primary has serial {theirs}, newer than ours, {ours}, but refuses to send what changed: \
         ask for the whole zone"
    )]
    RefusesToSend {
        /// Ours.
        ours: Serial,
        /// The primary's.
        theirs: Serial,
    },
    /// The stream ended too early, or nothing came for too long.
    #[error("the transfer stopped behind {records} records: {missing}; it can be tried again")]
    CutShort {
        /// What should have come.
        missing: Missing,
        /// Records that came.
        records: u32,
    },
    /// A record or message behind the last SOA record, or behind an error.
    #[error("the primary goes on behind the end of the transfer")]
    AfterEnd,
    /// At [`Bounds::records`](super::Bounds::records).
    #[error("the primary sends more than {0} records, which is more than this server takes in one transfer")]
    TooManyRecords(u32),
    /// At [`Bounds::octets`](super::Bounds::octets).
    #[error("the primary sends more than {0} octets of names and data, which is more than this server takes")]
    TooManyOctets(u64),
    /// At [`RRSET_OCTETS`](crate::base::limits::RRSET_OCTETS).
    #[error(
        "the {rtype} records of {owner} take {octets} octets, and an answer has room for {limit}: \
         make them fewer in the primary's zone"
    )]
    RrsetTooLarge {
        /// Their owner.
        owner: Name,
        /// Their type.
        rtype: RecordType,
        /// What they take.
        octets: usize,
        /// What there is.
        limit: usize,
    },
}

impl TransferError {
    /// Whether this is about the changes that were asked for, so that the same primary may well send the whole zone.
    pub fn suggests_axfr(&self) -> bool {
        match self {
            // A server that doesn't know IXFR says so.
            TransferError::Refused { rcode, .. } => matches!(*rcode, Rcode::FORMERR | Rcode::NOTIMP),
            TransferError::Broken { .. }
            | TransferError::Backwards { .. }
            | TransferError::NoOrder { .. }
            | TransferError::RefusesToSend { .. }
            | TransferError::SoaChanged { .. } => true,
            _ => false,
        }
    }
}

/// What had to come yet when a transfer stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Any message.
    Everything,
    /// What follows the first SOA record.
    Records,
    /// More records, or the SOA record that ends them.
    LastSoa,
    /// The SOA record that the change from this serial leads to.
    Change(Serial),
    /// Records behind the SOA record with this serial, the next change, or the end.
    AfterChange(Serial),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Everything => f.write_str("no answer came"),
            Missing::Records => f.write_str("nothing follows the first SOA record"),
            Missing::LastSoa => f.write_str("the SOA record that ends the zone is missing"),
            Missing::Change(from) => write!(f, "the change from serial {from} is not complete"),
            Missing::AfterChange(to) => write!(f, "what follows the change to serial {to} is missing"),
        }
    }
}

/// The primary's own words, as a part of ours.
fn said(reason: Option<&ExtendedError>) -> String {
    match reason {
        None => String::new(),
        Some(ExtendedError { code, text }) if text.is_empty() => format!(" (extended error {code})"),
        Some(ExtendedError { code, text }) => format!(" (extended error {code}, \"{}\")", text.escape_debug()),
    }
}

fn advice(rcode: Rcode) -> &'static str {
    match rcode {
        Rcode::REFUSED => "allow this server's address or key there",
        Rcode::NOTAUTH => "it does not serve the zone, or refuses: allow this server's address or key there",
        Rcode::FORMERR | Rcode::NOTIMP => "it may not know this kind of transfer",
        Rcode::SERVFAIL => "it can't serve the zone now, its log says why",
        Rcode::NXDOMAIN => "it does not have the zone: set it up there",
        _ => "its log may say why",
    }
}
