//! Precompiled answers: what is sent for each name and type, behind the question.
//!
//! An RRset whose data hold no names (addresses, TXT) needs no template: its node has the data in wire form, and the
//! owner is a pointer to the question. The other types are compiled when their name is touched: the answer records, then
//! the addresses of their targets as additional records, one cut point per RRset of those, so that an answer for a small
//! buffer is a shorter copy of the same octets.
//!
//! Cost: a commit compiles the touched names; a query copies.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::limits::MESSAGE_OCTETS;
use crate::base::{Name, RecordType};
use crate::zone::map::{Named, SnapshotMap, hash_name};
use crate::zone::records::schema;
use crate::zone::{Node, Published, RrsetRef, Snapshot};

use super::encode::{Encoder, HEADER, is_plain, plain_record};
use super::negative::SoaTail;

/// The answers of one snapshot. Immutable; readers load the current one by one pointer.
#[derive(Clone, Debug)]
pub struct Answers {
    snapshot: Snapshot,
    names: SnapshotMap<Entry>,
    soa: SoaTail,
}

#[derive(Clone, Debug)]
struct Entry {
    node: Arc<Node>,
    templates: Option<Arc<Vec<Template>>>,
}

impl Named for Entry {
    fn name(&self) -> &Name {
        self.node.name()
    }
}

/// The answer to one name and type.
#[derive(Debug)]
struct Template {
    rtype: RecordType,
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

/// What a zone has for a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// Records, whole; nothing was left out but additional ones.
    Answer(Counts),
    /// The answer's RRset does not fit: TC, and nothing written.
    Truncated,
    /// The name exists without such records: the SOA was written as authority (RFC 2308 §2.2).
    NoData(Counts),
    /// The name does not exist: likewise (RFC 2308 §2.1).
    NoName(Counts),
}

/// Names compiled at a time when all are.
const BUILD_CHUNK: usize = 8192;

impl Answers {
    /// Compiles a whole snapshot.
    pub fn build(snapshot: &Snapshot) -> Answers {
        let mut names = SnapshotMap::default();
        let mut nodes = snapshot.nodes().peekable();
        // In chunks, so that a start needs little more memory than what it builds.
        while nodes.peek().is_some() {
            let chunk = nodes.by_ref().take(BUILD_CHUNK);
            names = names.edit(chunk.map(|node| (node.name().clone(), Some(Entry::compile(node, snapshot)))).collect());
        }
        Answers { snapshot: snapshot.clone(), names, soa: SoaTail::new(snapshot) }
    }

    /// Compiles what a commit touched.
    pub fn advance(&self, published: &Published) -> Answers {
        let snapshot = &published.snapshot;
        let entries = published
            .touched
            .iter()
            .map(|name| (name.clone(), snapshot.node(name.as_wire()).map(|node| Entry::compile(node, snapshot))));
        let names = self.names.edit(entries.collect());
        Answers { snapshot: snapshot.clone(), names, soa: SoaTail::new(snapshot) }
    }

    /// The snapshot behind the answers.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Writes the sections for a question about `qname` (lower case, wire form, within the zone) behind `out`, whose
    /// message may grow to `limit` octets.
    pub fn lookup(&self, qname: &[u8], qtype: RecordType, limit: usize, out: &mut Vec<u8>) -> Lookup {
        let is_apex = qname == self.snapshot.origin().as_wire();
        if is_apex && (qtype == RecordType::SOA || qtype == RecordType::ANY) {
            return self.soa_answer(qname, limit, out);
        }
        match self.names.find_hashed(hash_name(qname), qname) {
            Some(entry) => match entry.answer(qtype, limit, out) {
                Some(lookup) => lookup,
                None => self.negative(qname, limit, out).map_or(Lookup::Truncated, Lookup::NoData),
            },
            None => self.negative(qname, limit, out).map_or(Lookup::Truncated, Lookup::NoName),
        }
    }

    fn soa_answer(&self, qname: &[u8], limit: usize, out: &mut Vec<u8>) -> Lookup {
        match self.soa.write(qname, limit, out) {
            true => Lookup::Answer(Counts { answers: 1, ..Counts::default() }),
            false => Lookup::Truncated,
        }
    }

    fn negative(&self, qname: &[u8], limit: usize, out: &mut Vec<u8>) -> Option<Counts> {
        self.soa.write(qname, limit, out).then(|| Counts { authority: 1, ..Counts::default() })
    }
}

impl Entry {
    fn compile(node: &Arc<Node>, snapshot: &Snapshot) -> Entry {
        let templates: Vec<Template> = node
            .rrsets()
            .filter(|rrset| !is_plain(rrset.rtype))
            .map(|rrset| Template::compile(node.name(), &rrset, snapshot))
            .collect();
        Entry { node: node.clone(), templates: (!templates.is_empty()).then(|| Arc::new(templates)) }
    }

    /// Writes what the name has for a type; `None` if it has nothing.
    fn answer(&self, qtype: RecordType, limit: usize, out: &mut Vec<u8>) -> Option<Lookup> {
        let rrset = match qtype {
            // One RRset is enough for ANY (RFC 8482 §4.1).
            RecordType::ANY => self.node.rrsets().next()?,
            _ => match self.node.rrset(qtype) {
                Some(found) => found,
                // RFC 1034 §3.6.2.
                None => self.node.rrset(RecordType::CNAME)?,
            },
        };
        let templates = self.templates.as_ref().map_or(&[][..], |templates| templates.as_slice());
        Some(match templates.iter().find(|template| template.rtype == rrset.rtype) {
            Some(template) => template.write(limit, out),
            None => write_plain(&rrset, limit.saturating_sub(out.len()), out),
        })
    }
}

/// Writes an RRset without names in its data; all of it, or nothing.
fn write_plain(rrset: &RrsetRef<'_>, room: usize, out: &mut Vec<u8>) -> Lookup {
    let start = out.len();
    for rdata in rrset.rdatas() {
        plain_record(out, rrset.rtype, rrset.ttl, rdata);
    }
    if out.len() - start > room {
        out.truncate(start);
        return Lookup::Truncated;
    }
    Lookup::Answer(Counts { answers: rrset.count(), ..Counts::default() })
}

impl Template {
    fn compile(owner: &Name, rrset: &RrsetRef<'_>, snapshot: &Snapshot) -> Template {
        let mut encoder = Encoder::after_question(owner);
        for rdata in rrset.rdatas() {
            encoder.record(owner.as_wire(), rrset.rtype, rrset.ttl, rdata);
        }
        let answer_end = encoder.len();
        let room = MESSAGE_OCTETS - HEADER - owner.as_wire().len() - 4;
        let mut cuts: Vec<Cut> = Vec::new();
        let mut shown: HashSet<&[u8], foldhash::fast::RandomState> = HashSet::default();
        let targets = rrset.rdatas().filter_map(|rdata| schema::additional_target(rrset.rtype, rdata));
        for target in targets {
            if target == owner.as_wire() || !shown.insert(target) {
                continue;
            }
            let Some(node) = snapshot.node(target) else { continue };
            for rtype in [RecordType::A, RecordType::AAAA] {
                let Some(glue) = node.rrset(rtype) else { continue };
                let before = encoder.len();
                for rdata in glue.rdatas() {
                    encoder.record(target, rtype, glue.ttl, rdata);
                }
                let additional = cuts.last().map_or(0, |cut| cut.additional).checked_add(glue.count());
                match (additional, u16::try_from(encoder.len())) {
                    (Some(additional), Ok(end)) if encoder.len() <= room => cuts.push(Cut { end, additional }),
                    _ => encoder.truncate(before),
                }
            }
        }
        Template {
            rtype: rrset.rtype,
            answers: rrset.count(),
            answer_end,
            tail: encoder.finish().into(),
            cuts: cuts.into(),
        }
    }

    /// Copies as much as fits: the answer whole, then whole RRsets of addresses.
    fn write(&self, limit: usize, out: &mut Vec<u8>) -> Lookup {
        let room = limit.saturating_sub(out.len());
        if self.answer_end > room {
            return Lookup::Truncated;
        }
        let fitting = self.cuts.partition_point(|cut| usize::from(cut.end) <= room);
        let (end, additional) = match fitting {
            0 => (self.answer_end, 0),
            count => (usize::from(self.cuts[count - 1].end), self.cuts[count - 1].additional),
        };
        out.extend_from_slice(&self.tail[..end]);
        Lookup::Answer(Counts { answers: self.answers, authority: 0, additional })
    }
}
