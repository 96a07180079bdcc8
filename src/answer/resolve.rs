//! Answers that are more than one copy: aliases and their chains, wildcards, delegations.
//!
//! [`Answers::search`] says what stands at a name: RFC 1034 §4.3.2 step 3, from the apex down, with the wildcards of RFC
//! 4592 and the DNAME of RFC 6672. Whatever is not a record at the very name asked for is put together here, record by
//! record, with the encoder that also compiles the templates.
//!
//! Bounds: a chain ends after [`CHAIN_LINKS`] aliases, or where it comes back to a name; what was gathered is the answer.
//!
//! Cost: a zone without delegations, DNAME and wildcards pays nothing. With them, a look-up walks down the labels as far as
//! names exist.

use std::collections::HashSet;

use crate::base::limits::{CHAIN_LINKS, NAME_OCTETS};
use crate::base::{Name, RecordType, Ttl};
use crate::zone::records::schema;
use crate::zone::{Node, Record, RrsetRef, Snapshot};

use super::encode::{Encoder, HEADER};
use super::table::{Answers, Counts, End, Entry, Kind, Lookup, follows_aliases};

/// What a zone has at a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// The name itself.
    Exact(&'a Entry),
    /// The wildcard that stands for it (RFC 4592 §3.3.1).
    Wildcard(&'a Entry),
    /// It lies at or below this delegation.
    Delegation(&'a Entry),
    /// It lies below this DNAME.
    Redirection(&'a Entry),
    /// Nothing.
    Missing,
}

impl Answers {
    /// What stands at a name within the zone, for a question of this type.
    pub(super) fn search(&self, name: &[u8], qtype: RecordType) -> Found<'_> {
        if self.branches == 0 {
            match self.entry(name) {
                Some(entry) => return Found::Exact(entry),
                None if self.wildcards == 0 => return Found::Missing,
                None => {}
            }
        }
        let apex = name.len() - self.snapshot().origin().as_wire().len();
        let mut starts = [0u8; NAME_OCTETS / 2 + 1];
        let mut count = 0;
        let mut at = 0;
        while at <= apex {
            starts[count] = u8::try_from(at).expect("within a name");
            count += 1;
            at += usize::from(name[at]) + 1;
        }
        let mut encloser = apex;
        for &start in starts[..count].iter().rev() {
            let start = usize::from(start);
            let Some(entry) = self.entry(&name[start..]) else { return self.wildcard(&name[encloser..]) };
            match entry.kind() {
                // The parent answers for DS at the cut itself (RFC 4035 §3.1.4.1).
                Kind::Delegation if start > 0 || qtype != RecordType::DS => return Found::Delegation(entry),
                Kind::Redirection if start > 0 => return Found::Redirection(entry),
                _ if start == 0 => return Found::Exact(entry),
                _ => encloser = start,
            }
        }
        Found::Missing
    }

    /// The wildcard below the closest encloser of a name that doesn't exist. The name has a label more, so there is room.
    fn wildcard(&self, encloser: &[u8]) -> Found<'_> {
        let mut buffer = [0; NAME_OCTETS + 2];
        buffer[..2].copy_from_slice(b"\x01*");
        buffer[2..2 + encloser.len()].copy_from_slice(encloser);
        self.entry(&buffer[..2 + encloser.len()]).map_or(Found::Missing, Found::Wildcard)
    }

    /// Puts an answer together.
    pub(super) fn resolve(
        &self,
        qname: &[u8],
        qtype: RecordType,
        limit: usize,
        turn: u16,
        out: &mut Vec<u8>,
    ) -> Lookup {
        let name = Name::from_wire(qname).expect("the name of a question that was read");
        let room = limit.saturating_sub(out.len());
        let mut answer = Answer {
            answers: self,
            qtype,
            turn,
            room,
            encoder: Encoder::after_question(&name),
            lookup: Lookup::of(End::Answer, Counts::default()),
        };
        if answer.follow(name).is_none() {
            // Whole, or not at all (RFC 2181 §9).
            let authoritative = answer.lookup.authoritative;
            return Lookup { authoritative, ..Lookup::TRUNCATED };
        }
        out.extend_from_slice(answer.encoder.tail());
        answer.lookup
    }
}

/// An answer under way.
struct Answer<'a> {
    answers: &'a Answers,
    qtype: RecordType,
    /// Which record of a set of addresses comes first.
    turn: u16,
    room: usize,
    encoder: Encoder,
    lookup: Lookup,
}

/// What is needed doesn't fit.
type Fits = Option<()>;

impl<'a> Answer<'a> {
    /// Follows aliases from a name to where they end. The rcode is that of the last name (RFC 6604 §3).
    fn follow(&mut self, mut name: Name) -> Fits {
        let snapshot = self.answers.snapshot();
        let mut visited = vec![name.clone()];
        let mut redirections: HashSet<&Name> = HashSet::new();
        loop {
            let target = match self.answers.search(name.as_wire(), self.qtype) {
                Found::Exact(entry) | Found::Wildcard(entry) => {
                    let node = entry.node();
                    match self.alias(node) {
                        Some(alias) => {
                            self.answer(&name, &alias)?;
                            alias.rdatas().next().and_then(|rdata| Name::from_wire(rdata).ok())
                        }
                        None => return self.end(&name, node),
                    }
                }
                Found::Missing => return self.negative(End::NoName),
                Found::Delegation(entry) => {
                    // AA tells of the first name of the answer (RFC 1035 §4.1.1).
                    self.lookup.authoritative = visited.len() > 1;
                    return self.refer(entry.node());
                }
                Found::Redirection(entry) => {
                    let node = entry.node();
                    let dname = node.rrset(RecordType::DNAME).expect("what makes the node a redirection");
                    if redirections.insert(node.name()) {
                        self.answer(node.name(), &dname)?;
                    }
                    let Some(target) = substitute(&name, node.name(), &dname) else {
                        self.lookup.end = End::TooLong;
                        return Some(());
                    };
                    self.record(&name, RecordType::CNAME, &dname, target.as_wire())?;
                    if self.qtype == RecordType::CNAME {
                        return Some(()); // this is what was asked for
                    }
                    Some(target)
                }
            };
            match target.filter(|target| target.is_within(snapshot.origin()) && !visited.contains(target)) {
                Some(target) if visited.len() < CHAIN_LINKS => {
                    visited.push(target.clone());
                    name = target;
                }
                // Elsewhere: the resolver goes on from there.
                _ => return Some(()),
            }
        }
    }

    /// The CNAME of a node, if it stands for what was asked for.
    fn alias(&self, node: &'a Node) -> Option<RrsetRef<'a>> {
        node.rrset(RecordType::CNAME).filter(|_| follows_aliases(self.qtype))
    }

    /// The last name: its records with their additional ones, or none.
    fn end(&mut self, name: &Name, node: &'a Node) -> Fits {
        let snapshot = self.answers.snapshot();
        if name == snapshot.origin() && matches!(self.qtype, RecordType::SOA | RecordType::ANY) {
            let soa = self.answers.snapshot().soa();
            self.soa(&soa, soa.ttl)?;
            self.lookup.counts.answers += 1;
            return Some(());
        }
        let rrset = match self.qtype {
            RecordType::ANY => node.rrsets().next(),
            rtype => node.rrset(rtype),
        };
        let Some(rrset) = rrset else { return self.negative(End::NoData) };
        self.answer(name, &rrset)?;
        for (target, glue) in additional(name, &rrset, snapshot) {
            if self.additional(target, &glue).is_none() {
                break;
            }
        }
        Some(())
    }

    fn answer(&mut self, owner: &Name, rrset: &RrsetRef<'_>) -> Fits {
        self.rrset(owner.as_wire(), rrset)?;
        self.lookup.counts.answers += rrset.count();
        Some(())
    }

    /// One record of the answer, with the TTL of the RRset that it follows from.
    fn record(&mut self, owner: &Name, rtype: RecordType, like: &RrsetRef<'_>, rdata: &[u8]) -> Fits {
        self.encoder.record(owner.as_wire(), rtype, like.ttl, rdata);
        self.lookup.counts.answers += 1;
        (self.encoder.len() <= self.room).then_some(())
    }

    fn additional(&mut self, owner: &[u8], rrset: &RrsetRef<'_>) -> Fits {
        self.rrset(owner, rrset)?;
        self.lookup.counts.additional += rrset.count();
        Some(())
    }

    /// A whole RRset, or nothing.
    fn rrset(&mut self, owner: &[u8], rrset: &RrsetRef<'_>) -> Fits {
        let before = self.encoder.len();
        for rdata in rrset.turned(self.turn) {
            self.encoder.record(owner, rrset.rtype, rrset.ttl, rdata);
        }
        if self.encoder.len() > self.room {
            self.encoder.truncate(before);
            return None;
        }
        Some(())
    }

    fn soa(&mut self, soa: &Record, ttl: Ttl) -> Fits {
        self.encoder.record(soa.owner.as_wire(), soa.rtype, ttl, &soa.rdata);
        (self.encoder.len() <= self.room).then_some(())
    }

    /// Nothing at the last name: the SOA as authority (RFC 2308 §2.1 and 2.2, aliases included), with the lesser of its TTL
    /// and MINIMUM (§3).
    fn negative(&mut self, end: End) -> Fits {
        let soa = self.answers.snapshot().soa();
        self.soa(&soa, soa.ttl.min(self.answers.snapshot().settings.negative_ttl))?;
        self.lookup.counts.authority = 1;
        self.lookup.end = end;
        Some(())
    }

    /// A referral (RFC 1034 §4.3.2 step 3b). Addresses of name servers below the cut must be there, or TC says that they
    /// are not (RFC 9471 §3.1); those of others are welcome.
    fn refer(&mut self, cut: &'a Node) -> Fits {
        let servers = cut.rrset(RecordType::NS).expect("what makes the node a delegation");
        self.rrset(cut.name().as_wire(), &servers)?;
        self.lookup.counts.authority += servers.count();
        let glue: Vec<_> = additional(cut.name(), &servers, self.answers.snapshot()).collect();
        let is_needed = |target: &[u8]| Name::from_wire(target).is_ok_and(|target| target.is_within(cut.name()));
        for (target, rrset) in glue.iter().filter(|(target, _)| is_needed(target)) {
            if self.additional(target, rrset).is_none() {
                self.lookup.truncated = true;
                return Some(());
            }
        }
        for (target, rrset) in glue.iter().filter(|(target, _)| !is_needed(target)) {
            if self.additional(target, rrset).is_none() {
                break;
            }
        }
        Some(())
    }
}

/// The name with its end replaced (RFC 6672 §2.2); none if it would be too long.
fn substitute(name: &Name, owner: &Name, dname: &RrsetRef<'_>) -> Option<Name> {
    let kept = &name.as_wire()[..name.as_wire().len() - owner.as_wire().len()];
    let target = dname.rdatas().next()?;
    Name::from_wire(&[kept, target].concat()).ok()
}

/// The addresses of the targets of an RRset, for the additional section: each target once, and the owner itself only if it
/// is its own name server.
pub(super) fn additional<'s>(
    owner: &Name,
    rrset: &RrsetRef<'s>,
    snapshot: &'s Snapshot,
) -> impl Iterator<Item = (&'s [u8], RrsetRef<'s>)> + use<'s> {
    let rtype = rrset.rtype;
    let mut shown: HashSet<&[u8], foldhash::fast::RandomState> = HashSet::default();
    if rtype != RecordType::NS {
        shown.extend(snapshot.node(owner.as_wire()).map(|node| node.name().as_wire()));
    }
    let targets = rrset.rdatas().filter_map(move |rdata| schema::additional_target(rtype, rdata));
    targets.filter(move |target| shown.insert(target)).flat_map(|target| {
        let node = snapshot.node(target);
        [RecordType::A, RecordType::AAAA].into_iter().filter_map(move |rtype| Some((target, node?.rrset(rtype)?)))
    })
}

/// How much the sections behind a question for a name may take in the largest message.
pub(super) fn largest_room(owner: &Name) -> usize {
    crate::base::limits::MESSAGE_OCTETS - HEADER - owner.as_wire().len() - 4
}
