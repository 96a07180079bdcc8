//! What can be wrong with a master file, each with what to do about it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::base::{Name, NameError, RecordType, Ttl};
use crate::zone::records::text::{Cause, Position};

use super::lexer::LexicalError;

/// One problem and its place. Nothing of the zone is loaded while there is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The file: as it was named by the caller, or, of an included one, beside the file that includes it.
    pub file: Arc<Path>,
    /// Line and column.
    pub at: Position,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.at, self.problem)
    }
}

impl std::error::Error for FileError {}

/// What is wrong, for the one who edits the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text can't be split into words.
    #[error("{0}")]
    Lexical(#[from] LexicalError),
    /// Not a name.
    #[error("{0}")]
    Name(#[from] NameError),
    /// A name in quotation marks.
    #[error("a name stands without quotation marks")]
    QuotedName,
    /// The data of the record.
    #[error("{rtype}: {cause}")]
    Data {
        /// The type of the record.
        rtype: RecordType,
        /// What is wrong with them.
        cause: Cause,
    },
    /// A directive that needs a word.
    #[error("{directive} needs {what} behind it")]
    MissingArgument {
        /// The directive.
        directive: &'static str,
        /// What it needs.
        what: &'static str,
    },
    /// A directive with too many words.
    #[error("{0} ends before this word: remove it")]
    ExtraArgument(&'static str),
    /// A directive that livezone doesn't have.
    #[error(
        "livezone does not know {0}, only $ORIGIN, $TTL and $INCLUDE: write the records out, or start a name with \\$"
    )]
    Directive(String),
    /// A directive behind blanks.
    #[error("{0} is a directive only in the first column: remove the blanks before it")]
    IndentedDirective(String),
    /// A line without an owner, and none before it.
    #[error("the line starts with blanks, which means the owner before, but this file has none yet: write the name")]
    NoOwner,
    /// Neither TTL, class nor type.
    #[error("{0} is no record type, TTL or class that livezone knows; another type can be written as TYPEn with \\#")]
    UnknownWord(String),
    /// The line ends before the type.
    #[error("the record has no type: write one behind the owner, such as A")]
    NoType,
    /// The word was given twice.
    #[error("the record has a {0} already")]
    Repeated(&'static str),
    /// Another class.
    #[error("livezone serves the class IN only, not {0}: remove the record or its class")]
    Class(String),
    /// Not a TTL, behind `$TTL`.
    #[error("not a TTL; it looks like 300 or 1h30m")]
    Ttl,
    /// RFC 2181 §8.
    #[error("a TTL is at most 2147483647 seconds (RFC 2181 §8)")]
    TtlTooLarge,
    /// The included file can't be read.
    #[error("{path} can't be read: {error}")]
    Include {
        /// The file.
        path: String,
        /// Why.
        error: String,
    },
    /// A file that includes itself, perhaps through others.
    #[error("{0} is being read already: a file can't include itself")]
    IncludeCycle(String),
    /// Too deep.
    #[error("files are included more than {limit} deep: put the records into fewer files")]
    IncludeDepth {
        /// The limit.
        limit: usize,
    },
    /// Too many.
    #[error("more than {limit} files are included: put the records into fewer files")]
    Includes {
        /// The limit.
        limit: usize,
    },
    /// The owner is not part of the zone.
    #[error(
        "{owner} is outside the zone {zone} (names are completed by {origin} here): \
         is a final dot missing, or one too many?"
    )]
    OutsideZone {
        /// The owner.
        owner: Name,
        /// The zone.
        zone: Name,
        /// The origin at that line.
        origin: Name,
    },
    /// A SOA record.
    #[error("livezone makes the SOA record itself: remove it, and set its fields under [soa] in the zone's settings")]
    Soa,
    /// RFC 1035 §3.3.4 and §3.3.5.
    #[error("{0} is obsolete: use MX (RFC 1035 §3.3.4)")]
    Obsolete(RecordType),
    /// A query type or the like.
    #[error("{0} exists in messages only and can't be stored in a zone: remove it")]
    Meta(RecordType),
    /// A type of signed zones.
    #[error("{0} belongs to a signed zone, and livezone does not serve signed zones yet: remove it")]
    Signed(String),
    /// RFC 2181 §5.2.
    #[error(
        "the {rtype} records of {owner} have the TTLs {first} (line {line}) and {found}: \
         give all of them the same (RFC 2181 §5.2)"
    )]
    TtlDiffers {
        /// The owner.
        owner: Name,
        /// The type.
        rtype: RecordType,
        /// The TTL of the first record.
        first: Ttl,
        /// Its line.
        line: usize,
        /// The TTL of this one.
        found: Ttl,
    },
    /// RFC 1034 §3.6.2.
    #[error(
        "{owner} has a CNAME and a {other} record (line {line}), \
         but an alias can have nothing else: remove one (RFC 1034 §3.6.2)"
    )]
    CnameAndOther {
        /// The owner.
        owner: Name,
        /// The type of the other record.
        other: RecordType,
        /// Its line.
        line: usize,
    },
    /// At the apex stand the SOA and NS records.
    #[error("the apex can't be an alias, since the zone's SOA and NS records stand there: use A and AAAA records")]
    CnameAtApex,
    /// RFC 2181 §10.1, RFC 6672 §2.4.
    #[error("{owner} has a {rtype} record already (line {line}), and can have only one")]
    Several {
        /// The owner.
        owner: Name,
        /// The type.
        rtype: RecordType,
        /// The line of the first.
        line: usize,
    },
    /// Larger than an answer can be.
    #[error(
        "the {rtype} records of {owner} exceed {limit} octets with this one, so no answer could hold them: remove some"
    )]
    RrsetTooLarge {
        /// The owner.
        owner: Name,
        /// The type.
        rtype: RecordType,
        /// The limit.
        limit: usize,
    },
    /// A name server without an address.
    #[error("the name server {0} needs glue: it lies in this zone, so add its A or AAAA record")]
    NeedsGlue(Name),
    /// RFC 2181 §10.3.
    #[error(
        "{target} is an alias (CNAME, line {line}), which {rtype} must not point to: name its target (RFC 2181 §10.3)"
    )]
    TargetIsAlias {
        /// The type of this record.
        rtype: RecordType,
        /// The target.
        target: Name,
        /// The line of the alias.
        line: usize,
    },
}
