//! The reader of master files (RFC 1035 §5) for the static records of a zone.
//!
//! Text in, [`StaticNode`]s out; the caller reads files, also included ones. Either everything is loaded, or every
//! problem is reported with its file, line and column: a line is never dropped silently.
//!
//! # Format
//!
//! `[owner] [TTL] [IN] type data`, TTL and class in either order. An owner left out (the line starts with a blank) is
//! the one before in the same file; `@` is the origin. TTLs may have units (`1h30m`). Escapes, quoted strings,
//! parentheses and comments are those of RFC 1035 §5.1; lines end with LF or CRLF, and a byte order mark is skipped.
//! A quoted string ends on its line. The text of data is read by [`records::text`](crate::zone::records::text).
//!
//! - `$ORIGIN name` completes the relative names behind it, up to the end of the file.
//! - `$TTL time` is the TTL of the records behind it that state none, to the end of everything (RFC 2308 §4). Before
//!   the first, the zone's own TTL is. `Deviates:` RFC 1035 §5.1, which repeats the last TTL that was stated; a line
//!   moved elsewhere would change its meaning.
//! - `$INCLUDE file [origin]` reads another file, relative to this one's folder; its name is taken as written, without
//!   escapes, and may be quoted. Origin and owner before it hold again behind it. The included file starts with the
//!   origin given or the present one, and without an owner.
//!
//! # Rules
//!
//! Each line by itself: the owner lies in the zone, the class is IN, a TTL is at most 2^31 - 1 (RFC 2181 §8), the type
//! is none that livezone makes itself (SOA), that exists in messages only, that is obsolete, or that belongs to a
//! signed zone.
//!
//! Between lines: equal records are merged; the records of an RRset have one TTL (RFC 2181 §5.2) and fit an answer; a
//! CNAME stands alone (RFC 1034 §3.6.2) and never at the apex; NS, MX and SRV records don't point to one in the zone
//! (RFC 2181 §10.3); a name server that only this file can give an address has one.
//!
//! # Bounds
//!
//! Includes nest [`INCLUDE_DEPTH`] deep, the only recursion; there are [`INCLUDES`] at most. An RRset has at most
//! the octets that there is [`room`](crate::zone::room) for. At each limit there is an error. Time is linear in the text but
//! for the final sorting of names; memory is that of the records and errors.

mod check;
mod lexer;
mod problem;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Name, RecordType, Ttl};
use crate::zone::StaticNode;
use crate::zone::records::text::{self, Position, Token, parse_seconds};

use check::Loaded;
use lexer::Lexer;
pub use lexer::LexicalError;
pub use problem::{FileError, Problem};
pub use write::{CHUNK_OCTETS, Chunks, record_text, write};

/// How deep includes may nest: deeper is a mistake, and recursion must end.
pub const INCLUDE_DEPTH: usize = 8;
/// How many files may be included in all: the depth alone would allow a few files to unfold without end.
pub const INCLUDES: usize = 1024;

/// The types of signed zones that the file may not hold, with names that [`RecordType`] doesn't know.
const SIGNED: [(&str, u16); 9] = [
    ("SIG", 24),
    ("NXT", 30),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("CDS", 59),
    ("CDNSKEY", 60),
];

/// The static records at a name, and the first place where the file has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedNode {
    /// The records.
    pub node: StaticNode,
    /// The file.
    pub file: Arc<Path>,
    /// Line and column.
    pub at: Position,
}

/// Reads the master file of a zone.
///
/// `file` is what errors call the text and the place that includes are relative to; `origin` is the zone's apex;
/// `default_ttl` holds until the first `$TTL`; `include` reads a file. The nodes are in canonical order, their RRsets
/// by ascending type, the data of each sorted and without duplicates, so that the order of lines means nothing. Errors
/// are in the order of the files and their lines.
pub fn parse(
    text: &str,
    file: &Path,
    origin: &Name,
    default_ttl: Ttl,
    include: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Vec<StaticNode>, Vec<FileError>> {
    let nodes = parse_located(text, file, origin, default_ttl, include)?;
    Ok(nodes.into_iter().map(|located| located.node).collect())
}

/// The same, with the places of the nodes.
pub fn parse_located(
    text: &str,
    file: &Path,
    origin: &Name,
    default_ttl: Ttl,
    include: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Vec<LocatedNode>, Vec<FileError>> {
    let mut reader = Reader {
        zone: origin,
        ttl: default_ttl,
        include,
        files: Vec::new(),
        open: Vec::new(),
        records: Vec::new(),
        problems: Vec::new(),
    };
    reader.read(text, file.to_path_buf(), origin.clone());
    let Reader { files, records, mut problems, .. } = reader;
    let nodes = check::check(origin, records, &mut problems);
    if problems.is_empty() {
        let located =
            |(node, place): (StaticNode, Place)| LocatedNode { node, file: files[place.file].clone(), at: place.at };
        return Ok(nodes.into_iter().map(located).collect());
    }
    problems.sort_by_key(|&(place, _)| place);
    let located =
        |(place, problem): (Place, Problem)| FileError { file: files[place.file].clone(), at: place.at, problem };
    Err(problems.into_iter().map(located).collect())
}

/// A position in one of the files that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Its number, in the order of opening.
    file: usize,
    at: Position,
}

/// The owner that a line without one refers to.
enum Owner {
    /// None yet.
    Missing,
    /// It was written, but is no good; that was reported.
    Bad,
    /// An owner inside the zone.
    Good(Name),
}

/// A TTL or the lack of one, before the type.
#[derive(Default)]
struct Prefix {
    ttl: Option<Ttl>,
    has_class: bool,
}

struct Reader<'r> {
    zone: &'r Name,
    /// Of records that state none.
    ttl: Ttl,
    include: &'r dyn Fn(&Path) -> io::Result<String>,
    /// Every file that was opened, in order; one that is included twice stands here twice.
    files: Vec<Arc<Path>>,
    /// The files being read, outermost first.
    open: Vec<PathBuf>,
    records: Vec<Loaded>,
    problems: Vec<(Place, Problem)>,
}

/// What holds within one file.
struct Context {
    file: usize,
    origin: Name,
    owner: Owner,
}

impl Reader<'_> {
    /// Reads one file to its end.
    fn read(&mut self, text: &str, path: PathBuf, origin: Name) {
        self.files.push(Arc::from(path.as_path()));
        self.open.push(path);
        let mut context = Context { file: self.files.len() - 1, origin, owner: Owner::Missing };
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        while let Some(entry) = lexer.next_entry(&mut tokens) {
            let outcome = match entry {
                Err((at, error)) => Err((at, error.into())),
                Ok(entry) if !entry.indented && !tokens[0].quoted && tokens[0].text.starts_with('$') => {
                    self.directive(&tokens, &mut context)
                }
                Ok(entry) => self.record(&tokens, entry.indented, &mut context),
            };
            if let Err((at, problem)) = outcome {
                self.problems.push((Place { file: context.file, at }, problem));
            }
        }
        self.open.pop();
    }

    fn directive(&mut self, tokens: &[Token<'_>], context: &mut Context) -> Result<(), (Position, Problem)> {
        let (first, arguments) = tokens.split_first().expect("an entry has at least one word");
        let is = |name: &str| first.text.eq_ignore_ascii_case(name);
        if is("$ORIGIN") {
            let [name] = exactly(first, "$ORIGIN", "a name", arguments)?;
            context.origin = parse_name(name, &context.origin)?;
        } else if is("$TTL") {
            let [ttl] = exactly(first, "$TTL", "a time", arguments)?;
            self.ttl = parse_ttl(ttl)?.ok_or((ttl.at, Problem::Ttl))?;
        } else if is("$INCLUDE") {
            let (file, origin) = match arguments {
                [file, origin] => (file, parse_name(origin, &context.origin)?),
                _ => {
                    let [file] = exactly(first, "$INCLUDE", "a file", arguments)?;
                    (file, context.origin.clone())
                }
            };
            self.include(file, origin).map_err(|problem| (file.at, problem))?;
        } else {
            return Err((first.at, Problem::Directive(first.text.to_owned())));
        }
        Ok(())
    }

    fn include(&mut self, file: &Token<'_>, origin: Name) -> Result<(), Problem> {
        let folder = self.open.last().and_then(|path| path.parent()).unwrap_or(Path::new(""));
        let path = folder.join(file.text);
        let shown = || path.display().to_string();
        if self.open.contains(&path) {
            return Err(Problem::IncludeCycle(shown()));
        }
        if self.open.len() > INCLUDE_DEPTH {
            return Err(Problem::IncludeDepth { limit: INCLUDE_DEPTH });
        }
        if self.files.len() > INCLUDES {
            return Err(Problem::Includes { limit: INCLUDES });
        }
        let text =
            (self.include)(&path).map_err(|error| Problem::Include { path: shown(), error: error.to_string() })?;
        self.read(&text, path, origin);
        Ok(())
    }

    /// A resource record. Returns the problem that ends its reading, reports those that don't.
    fn record(
        &mut self,
        tokens: &[Token<'_>],
        indented: bool,
        context: &mut Context,
    ) -> Result<(), (Position, Problem)> {
        let mut rest = tokens;
        if !indented {
            rest = &tokens[1..];
            context.owner = match self.owner(&tokens[0], &context.origin) {
                Ok(owner) => Owner::Good(owner),
                Err(problem) => {
                    self.problems.push((Place { file: context.file, at: tokens[0].at }, problem));
                    Owner::Bad
                }
            };
        } else if matches!(context.owner, Owner::Missing) {
            context.owner = Owner::Bad; // once is enough
            self.problems.push((Place { file: context.file, at: tokens[0].at }, Problem::NoOwner));
        }

        let (prefix, kind, data) = split_type(tokens, rest)?;
        let rtype = parse_type(kind)?;
        let rdata = text::parse(rtype, data, &context.origin)
            .map_err(|error| (error.at.unwrap_or(kind.at), Problem::Data { rtype, cause: error.cause }))?;
        if let Owner::Good(owner) = &context.owner {
            let place = Place { file: context.file, at: kind.at };
            let ttl = prefix.ttl.unwrap_or(self.ttl);
            self.records.push(Loaded { owner: owner.clone(), rtype, ttl, rdata, place });
        }
        Ok(())
    }

    fn owner(&self, token: &Token<'_>, origin: &Name) -> Result<Name, Problem> {
        let owner = parse_name(token, origin).map_err(|(_, problem)| problem)?;
        if owner.is_within(self.zone) {
            return Ok(owner);
        }
        Err(Problem::OutsideZone { owner, zone: self.zone.clone(), origin: origin.clone() })
    }
}

/// The single argument of a directive.
fn exactly<'t, 'a>(
    first: &Token<'a>,
    directive: &'static str,
    what: &'static str,
    arguments: &'t [Token<'a>],
) -> Result<[&'t Token<'a>; 1], (Position, Problem)> {
    match arguments {
        [] => Err((first.at, Problem::MissingArgument { directive, what })),
        [argument] => Ok([argument]),
        [.., extra] => Err((extra.at, Problem::ExtraArgument(directive))),
    }
}

/// Takes TTL and class from the front, in either order, and splits what follows at the type.
fn split_type<'t, 'a>(
    tokens: &'t [Token<'a>],
    mut rest: &'t [Token<'a>],
) -> Result<(Prefix, &'t Token<'a>, &'t [Token<'a>]), (Position, Problem)> {
    let mut prefix = Prefix::default();
    while let Some((token, tail)) = rest.split_first() {
        if let Some(class) = class(token) {
            if class != 1 {
                return Err((token.at, Problem::Class(token.text.to_owned())));
            }
            if std::mem::replace(&mut prefix.has_class, true) {
                return Err((token.at, Problem::Repeated("class")));
            }
        } else if let Some(ttl) = parse_ttl(token)? {
            if prefix.ttl.replace(ttl).is_some() {
                return Err((token.at, Problem::Repeated("TTL")));
            }
        } else {
            return Ok((prefix, token, tail));
        }
        rest = tail;
    }
    Err((tokens.last().expect("an entry has at least one word").at, Problem::NoType))
}

/// The number of a class (RFC 1035 §3.2.4, RFC 3597 §5).
fn class(token: &Token<'_>) -> Option<u16> {
    if token.quoted {
        return None;
    }
    for (mnemonic, class) in [("IN", 1), ("CS", 2), ("CH", 3), ("CHAOS", 3), ("HS", 4), ("HESIOD", 4), ("NONE", 254)] {
        if token.text.eq_ignore_ascii_case(mnemonic) {
            return Some(class);
        }
    }
    let (prefix, digits) = token.text.split_at_checked(5)?;
    digits.parse().ok().filter(|_| prefix.eq_ignore_ascii_case("CLASS"))
}

/// A TTL; `None` if the word is something else.
fn parse_ttl(token: &Token<'_>) -> Result<Option<Ttl>, (Position, Problem)> {
    if token.quoted || !token.text.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(None);
    }
    let too_large = (token.at, Problem::TtlTooLarge);
    match parse_seconds(token.text) {
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds) if seconds <= Ttl::MAX.0 => Ok(Some(Ttl(seconds))),
            _ => Err(too_large),
        },
        None if token.text.bytes().all(|byte| byte.is_ascii_digit()) => Err(too_large),
        None => Ok(None),
    }
}

/// A type that a static file may hold.
fn parse_type(token: &Token<'_>) -> Result<RecordType, (Position, Problem)> {
    let fail = |problem| Err((token.at, problem));
    let signed = |wanted: &dyn Fn(&str, u16) -> bool| SIGNED.iter().any(|&(name, number)| wanted(name, number));
    if !token.quoted && signed(&|name, _| token.text.eq_ignore_ascii_case(name)) {
        return fail(Problem::Signed(token.text.to_ascii_uppercase()));
    }
    match token.text.parse::<RecordType>() {
        _ if token.quoted => fail(Problem::UnknownWord(format!("\"{}\"", token.text))),
        Err(_) if token.text.starts_with('$') => fail(Problem::IndentedDirective(token.text.to_owned())),
        Err(_) => fail(Problem::UnknownWord(token.text.to_owned())),
        Ok(RecordType::SOA) => fail(Problem::Soa),
        Ok(rtype @ (RecordType::MD | RecordType::MF)) => fail(Problem::Obsolete(rtype)),
        Ok(rtype) if rtype.is_meta() => fail(Problem::Meta(rtype)),
        Ok(rtype) if signed(&|_, number| number == rtype.0) => fail(Problem::Signed(rtype.to_string())),
        Ok(rtype) => Ok(rtype),
    }
}

fn parse_name(token: &Token<'_>, origin: &Name) -> Result<Name, (Position, Problem)> {
    // The lexer lets a quotation mark into a word for the sake of service parameters; a name has none.
    if token.quoted || token.text.contains("=\"") {
        return Err((token.at, Problem::QuotedName));
    }
    Name::parse(token.text, Some(origin)).map_err(|error| (token.at, error.into()))
}

#[cfg(test)]
mod tests;
