//! Precompiled answers: what is sent for each name and type, behind the question.
//!
//! An RRset whose data hold no names (addresses, TXT) needs no template: its node has the data in wire form, and the
//! owner is a pointer to the question. The other types have templates: the answer records, then the addresses of their
//! targets as additional records, one cut point per RRset of those, so that an answer for a small buffer is a shorter copy
//! of the same octets.
//!
//! A template is compiled by whoever asks for it first. A commit that touches it compiles it again at once if somebody has
//! asked since the commit before that touched it; so what is queried is ready, and what is not takes neither memory nor
//! time of a commit.
//!
//! Cost: a query copies; the first one for a template compiles. A commit compiles what it touches and is asked for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::base::{Name, RecordType};
use crate::zone::map::{Named, SnapshotMap, hash_name};
use crate::zone::{Node, Published, RrsetRef, Snapshot};

use super::encode::{Encoder, is_plain, plain_record};
use super::negative::SoaTail;
use super::resolve::{Found, additional, largest_room};

/// The answers of one snapshot. Immutable; readers load the current one by one pointer.
#[derive(Clone, Debug)]
pub struct Answers {
    snapshot: Snapshot,
    names: SnapshotMap<Entry>,
    soa: SoaTail,
    /// Names at which a look-up from above ends: delegations and DNAME.
    pub(super) branches: usize,
    /// Names whose first label is an asterisk.
    pub(super) wildcards: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    node: Arc<Node>,
    compiled: Option<Arc<Compiled>>,
}

/// What is kept of a name beside its node, if there is a need.
#[derive(Debug)]
struct Compiled {
    kind: Kind,
    templates: Box<[Slot]>,
}

/// The place of a template.
#[derive(Debug)]
struct Slot {
    rtype: RecordType,
    /// Empty until somebody asks.
    template: OnceLock<Template>,
    /// Somebody has asked.
    asked: AtomicBool,
}

/// What a name means for look-ups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Its records, and no more.
    Plain,
    /// A CNAME.
    Alias,
    /// NS records below the apex (RFC 1034 §4.2.1).
    Delegation,
    /// A DNAME: what lies below is elsewhere (RFC 6672).
    Redirection,
}

impl Named for Entry {
    fn name(&self) -> &Name {
        self.node.name()
    }
}

/// The answer to one name and type.
#[derive(Debug)]
struct Template {
    answers: u16,
    answer_end: usize,
    tail: Box<[u8]>,
    /// After each RRset of the additional section.
    cuts: Box<[Cut]>,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    end: u16,
    additional: u16,
}

/// What was written behind a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// ANCOUNT.
    pub answers: u16,
    /// NSCOUNT.
    pub authority: u16,
    /// ARCOUNT.
    pub additional: u16,
}

/// What a zone has for a question, and what was written of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lookup {
    /// How it ended.
    pub end: End,
    /// AA: clear in a referral alone.
    pub authoritative: bool,
    /// TC: what was asked for doesn't fit, and wasn't written; or not all addresses that a referral needs were.
    pub truncated: bool,
    /// What was written.
    pub counts: Counts,
}

/// How a look-up ended, at the last name if there were aliases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Records, or a referral.
    Answer,
    /// The name exists without such records: the SOA was written as authority (RFC 2308 §2.2).
    NoData,
    /// The name does not exist: likewise (RFC 2308 §2.1).
    NoName,
    /// A DNAME leads to a name of more than 255 octets: YXDOMAIN (RFC 6672 §2.2).
    TooLong,
}

impl Lookup {
    /// Nothing was written, since it doesn't fit.
    pub const TRUNCATED: Lookup =
        Lookup { truncated: true, ..Lookup::of(End::Answer, Counts { answers: 0, authority: 0, additional: 0 }) };

    /// An authoritative, whole answer; nothing was left out but additional records.
    pub const fn of(end: End, counts: Counts) -> Lookup {
        Lookup { end, authoritative: true, truncated: false, counts }
    }
}

/// Look-ups that are prepared at the same time: a processor waits for about as many places in memory at once.
pub const AHEAD: usize = 16;

impl Answers {
    /// The answers of a whole snapshot. Nothing is compiled until it is asked for.
    pub fn build(snapshot: &Snapshot) -> Answers {
        let (branches, wildcards) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let names = snapshot.map_nodes(|nodes| {
            // In a large zone none of it is in the processor's cache; it waits for all nodes of a page at the same time.
            nodes.iter().for_each(|node| {
                std::hint::black_box(node.is_empty());
            });
            nodes.iter().for_each(|node| node.touch());
            let entries: Box<[Entry]> = nodes.iter().map(|node| Entry::new(node, snapshot)).collect();
            for (branch, wildcard) in entries.iter().map(Entry::weight).filter(|weight| *weight != (0, 0)) {
                branches.fetch_add(branch, Ordering::Relaxed);
                wildcards.fetch_add(wildcard, Ordering::Relaxed);
            }
            entries
        });
        let (branches, wildcards) = (branches.into_inner(), wildcards.into_inner());
        Answers { snapshot: snapshot.clone(), names, soa: SoaTail::new(snapshot), branches, wildcards }
    }

    /// What a commit touched anew, compiled where it was asked for since the last time.
    pub fn advance(&self, published: &Published) -> Answers {
        let snapshot = &published.snapshot;
        let (mut branches, mut wildcards) = (self.branches, self.wildcards);
        let entries = published.touched.iter().map(|name| {
            let (old, node) = (self.entry(name.as_wire()), snapshot.node(name.as_wire()));
            let entry = node.map(|node| Entry::new(node, snapshot).warmed(old, snapshot));
            let weight = |entry: Option<&Entry>| entry.map_or((0, 0), Entry::weight);
            let (before, after) = (weight(old), weight(entry.as_ref()));
            branches = branches + after.0 - before.0;
            wildcards = wildcards + after.1 - before.1;
            (name.clone(), entry)
        });
        let names = self.names.edit(entries.collect());
        Answers { snapshot: snapshot.clone(), names, soa: SoaTail::new(snapshot), branches, wildcards }
    }

    /// The snapshot behind the answers.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Reads what look-ups of names with these hashes will read. In a large zone none of it is in the processor's cache, and
    /// each step leads to the next; here it waits for each step of all names at the same time, instead of for one after another.
    pub fn touch(&self, hashes: impl Iterator<Item = (u64, RecordType)>) {
        let mut pages = [const { None }; AHEAD];
        let mut entries = [const { None }; AHEAD];
        let mut count = 0;
        for ((hash, qtype), page) in hashes.zip(&mut pages) {
            *page = Some((self.names.page_at(hash), hash, qtype));
            count += 1;
        }
        let pages = &pages[..count];
        let pages = || pages.iter().flatten();
        pages().for_each(|(page, ..)| page.touch());
        for ((page, hash, qtype), entry) in pages().zip(&mut entries) {
            *entry = page.candidate(*hash).map(|entry| (entry, *qtype));
        }
        let entries = || entries[..count].iter().flatten();
        entries().for_each(|(entry, _)| entry.touch());
        entries().for_each(|(entry, qtype)| entry.touch_records(*qtype));
    }

    /// Writes the sections for a question about `qname` (lower case, wire form, within the zone) behind `out`, whose
    /// message may grow to `limit` octets. A set of addresses begins with its record number `turn`, counted round.
    pub fn lookup(&self, qname: &[u8], qtype: RecordType, limit: usize, turn: u16, out: &mut Vec<u8>) -> Lookup {
        let is_apex = qname == self.snapshot.origin().as_wire();
        if is_apex && (qtype == RecordType::SOA || qtype == RecordType::ANY) {
            return match self.soa.write(qname, limit, out) {
                true => Lookup::of(End::Answer, Counts { answers: 1, ..Counts::default() }),
                false => Lookup::TRUNCATED,
            };
        }
        match self.search(qname, qtype) {
            Found::Exact(entry) if entry.stands_for_itself(qtype) => entry
                .answer(qtype, limit, turn, &self.snapshot, out)
                .unwrap_or_else(|| self.negative(End::NoData, qname, limit, out)),
            Found::Missing => self.negative(End::NoName, qname, limit, out),
            _ => self.resolve(qname, qtype, limit, turn, out),
        }
    }

    /// How many templates are compiled.
    #[cfg(test)]
    pub(super) fn compiled(&self) -> usize {
        self.names.iter().flat_map(Entry::slots).filter(|slot| slot.template.get().is_some()).count()
    }

    /// What is kept of a name.
    pub(super) fn entry(&self, name: &[u8]) -> Option<&Entry> {
        self.names.find_hashed(hash_name(name), name)
    }

    fn negative(&self, end: End, qname: &[u8], limit: usize, out: &mut Vec<u8>) -> Lookup {
        match self.soa.write_negative(qname, limit, out) {
            true => Lookup::of(end, Counts { authority: 1, ..Counts::default() }),
            false => Lookup::TRUNCATED,
        }
    }
}

impl Entry {
    fn new(node: &Arc<Node>, snapshot: &Snapshot) -> Entry {
        let types = node.rrsets().map(|rrset| rrset.rtype).filter(|rtype| !is_plain(*rtype));
        let templates: Box<[Slot]> = types.map(Slot::new).collect();
        let kind = kind_of(node, snapshot);
        let is_bare = templates.is_empty() && kind == Kind::Plain;
        Entry { node: node.clone(), compiled: (!is_bare).then(|| Arc::new(Compiled { kind, templates })) }
    }

    /// Compiles ahead what was asked for since the entry in whose place this one comes was made, so that queries in the
    /// midst of commits find it.
    fn warmed(self, before: Option<&Entry>, snapshot: &Snapshot) -> Entry {
        for slot in before.into_iter().flat_map(Entry::slots).filter(|slot| slot.asked.load(Ordering::Relaxed)) {
            if let Some(new) = self.slot(slot.rtype) {
                new.template(&self.node, snapshot);
            }
        }
        self
    }

    fn slots(&self) -> &[Slot] {
        self.compiled.as_ref().map_or(&[], |compiled| &compiled.templates)
    }

    /// The records.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Reads an octet of what the entry points to.
    fn touch(&self) {
        let compiled = self.compiled.as_ref().map_or(0, |compiled| compiled.templates.len());
        std::hint::black_box(self.node.is_empty() as usize + compiled);
    }

    /// Reads an octet of what an answer is made of.
    fn touch_records(&self, qtype: RecordType) {
        self.node.touch();
        if let Some(template) = self.slot(qtype).and_then(|slot| slot.template.get()) {
            std::hint::black_box(template.tail.first().copied());
        }
    }

    /// What the name means for look-ups.
    pub(super) fn kind(&self) -> Kind {
        self.compiled.as_ref().map_or(Kind::Plain, |compiled| compiled.kind)
    }

    /// What it adds to the counts of branches and of wildcards.
    fn weight(&self) -> (usize, usize) {
        let is_branch = matches!(self.kind(), Kind::Delegation | Kind::Redirection);
        (usize::from(is_branch), usize::from(self.node.name().first_label() == b"*"))
    }

    /// Whether a question for the name ends here.
    fn stands_for_itself(&self, qtype: RecordType) -> bool {
        self.kind() != Kind::Alias || !follows_aliases(qtype)
    }

    /// Writes what the name has for a type; `None` if it has nothing.
    fn answer(
        &self,
        qtype: RecordType,
        limit: usize,
        turn: u16,
        snapshot: &Snapshot,
        out: &mut Vec<u8>,
    ) -> Option<Lookup> {
        // Before the node, which a template makes it unnecessary to walk.
        if let Some(slot) = self.slot(qtype) {
            return Some(slot.ask(&self.node, snapshot).write(limit, out));
        }
        let rrset = match qtype {
            // One RRset is enough for ANY (RFC 8482 §4.1).
            RecordType::ANY => self.node.rrsets().next()?,
            _ => self.node.rrset(qtype)?,
        };
        Some(match self.slot(rrset.rtype) {
            Some(slot) => slot.ask(&self.node, snapshot).write(limit, out),
            None => write_plain(&rrset, limit.saturating_sub(out.len()), turn, out),
        })
    }

    fn slot(&self, rtype: RecordType) -> Option<&Slot> {
        self.slots().iter().find(|slot| slot.rtype == rtype)
    }
}

/// Whether an alias stands for what was asked for (RFC 1034 §3.6.2): not for itself, for anything, nor for what stands
/// beside it in signed zones (RFC 4034 §3 and §4).
pub(super) fn follows_aliases(qtype: RecordType) -> bool {
    !matches!(qtype, RecordType::CNAME | RecordType::ANY | RecordType::RRSIG | RecordType::NSEC)
}

fn kind_of(node: &Node, snapshot: &Snapshot) -> Kind {
    let has = |rtype| node.rrset(rtype).is_some();
    // A wildcard with NS or DNAME stands for nothing but its records (RFC 4592 §4.2, RFC 6672 §3.3).
    let is_wildcard = node.name().first_label() == b"*";
    if has(RecordType::CNAME) {
        Kind::Alias
    } else if has(RecordType::NS) && node.name() != snapshot.origin() && !is_wildcard {
        Kind::Delegation
    } else if has(RecordType::DNAME) && !is_wildcard {
        Kind::Redirection
    } else {
        Kind::Plain
    }
}

/// Writes an RRset without names in its data; all of it, or nothing.
fn write_plain(rrset: &RrsetRef<'_>, room: usize, turn: u16, out: &mut Vec<u8>) -> Lookup {
    let start = out.len();
    for rdata in rrset.turned(turn) {
        plain_record(out, rrset.rtype, rrset.ttl, rdata);
    }
    if out.len() - start > room {
        out.truncate(start);
        return Lookup::TRUNCATED;
    }
    Lookup::of(End::Answer, Counts { answers: rrset.count(), ..Counts::default() })
}

impl Slot {
    fn new(rtype: RecordType) -> Slot {
        Slot { rtype, template: OnceLock::new(), asked: AtomicBool::new(false) }
    }

    /// The template for a query.
    fn ask(&self, node: &Node, snapshot: &Snapshot) -> &Template {
        // Read before it is written: in the steady state no thread takes the cache line from another.
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
        self.template(node, snapshot)
    }

    /// The template, compiled if it wasn't. Any snapshot that has this entry gives the same octets, since what they depend
    /// on touches the entry. Of threads that compile at the same time the first one's result counts, and none waits.
    fn template(&self, node: &Node, snapshot: &Snapshot) -> &Template {
        if let Some(template) = self.template.get() {
            return template;
        }
        let rrset = node.rrset(self.rtype).expect("a slot is that of an RRset");
        let compiled = Template::compile(node.name(), &rrset, snapshot);
        self.template.get_or_init(|| compiled)
    }
}

impl Template {
    fn compile(owner: &Name, rrset: &RrsetRef<'_>, snapshot: &Snapshot) -> Template {
        let mut encoder = Encoder::after_question(owner);
        for rdata in rrset.rdatas() {
            encoder.record(owner.as_wire(), rrset.rtype, rrset.ttl, rdata);
        }
        let answer_end = encoder.len();
        let room = largest_room(owner);
        let mut cuts: Vec<Cut> = Vec::new();
        for (target, glue) in additional(owner, rrset, snapshot) {
            let before = encoder.len();
            for rdata in glue.rdatas() {
                encoder.record(target, glue.rtype, glue.ttl, rdata);
            }
            let count = cuts.last().map_or(0, |cut| cut.additional).checked_add(glue.count());
            match (count, u16::try_from(encoder.len())) {
                (Some(additional), Ok(end)) if encoder.len() <= room => cuts.push(Cut { end, additional }),
                _ => encoder.truncate(before),
            }
        }
        Template { answers: rrset.count(), answer_end, tail: encoder.tail().into(), cuts: cuts.into() }
    }

    /// Copies as much as fits: the answer whole, then whole RRsets of addresses.
    fn write(&self, limit: usize, out: &mut Vec<u8>) -> Lookup {
        let room = limit.saturating_sub(out.len());
        if self.answer_end > room {
            return Lookup::TRUNCATED;
        }
        let fitting = self.cuts.partition_point(|cut| usize::from(cut.end) <= room);
        let (end, additional) = match fitting {
            0 => (self.answer_end, 0),
            count => (usize::from(self.cuts[count - 1].end), self.cuts[count - 1].additional),
        };
        out.extend_from_slice(&self.tail[..end]);
        Lookup::of(End::Answer, Counts { answers: self.answers, authority: 0, additional })
    }
}
