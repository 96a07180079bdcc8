//! What a reply of livezone must be whatever the peers say, by the question and by the zone as BIND loaded it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};

use hickory_proto::op::Message;

use crate::support::client::{read_framed, send_framed};
use crate::support::message::*;

use super::questions::Question;
use super::replies::{AUTHORITATIVE, Reply, TRUNCATED, owner_of, texts, type_of};

/// The RRsets of a zone, by owner and type, as texts.
#[derive(Debug, Default)]
pub(super) struct Facts(BTreeMap<(String, String), BTreeSet<String>>);

impl Facts {
    /// Transfers a zone.
    pub(super) fn transfer(server: SocketAddr, origin: &str) -> Facts {
        let mut stream = TcpStream::connect(server).unwrap();
        send_framed(&mut stream, &[header(next_id(), 0, [1, 0, 0, 0]), question(origin, 252, IN)].concat());
        let mut facts = Facts::default();
        let mut ends = 0;
        while ends < 2 {
            let message = Message::from_vec(&read_framed(&mut stream)).unwrap();
            assert!(!message.answers.is_empty(), "the transfer is refused: {message:?}");
            for text in texts(&message.answers) {
                facts.insert(&text);
            }
            ends += message.answers.iter().filter(|record| record.record_type() == SOA.into()).count();
        }
        facts
    }

    pub(super) fn insert(&mut self, record: &str) {
        let key = (owner_of(record).to_owned(), type_of(record).to_owned());
        self.0.entry(key).or_default().insert(record.to_owned());
    }

    fn set(&self, owner: &str, rtype: &str) -> Option<&BTreeSet<String>> {
        self.0.get(&(owner.to_owned(), rtype.to_owned()))
    }

    pub(super) fn has(&self, record: &str) -> bool {
        self.set(owner_of(record), type_of(record)).is_some_and(|set| set.contains(record))
    }

    fn sets_at(&self, owner: &str) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.0.iter().filter(move |((name, _), _)| name == owner).map(|((_, rtype), set)| (rtype.as_str(), set))
    }

    /// Whether these are all records of an RRset at this name: of its own, of a wildcard, or the alias that a DNAME makes.
    fn is_whole(&self, owner: &str, rtype: &str, records: &BTreeSet<&String>) -> bool {
        if let Some(set) = self.set(owner, rtype) {
            return set.len() == records.len() && records.iter().all(|record| set.contains(*record));
        }
        let tail = |record: &str| record.split_once(' ').expect("behind the owner").1.to_owned();
        let tails: BTreeSet<String> = records.iter().map(|record| tail(record)).collect();
        let parents = owner.match_indices('.').map(|(at, _)| &owner[at + 1..]).filter(|parent| !parent.is_empty());
        parents.into_iter().any(|parent| {
            let wildcard = self.set(&format!("*.{parent}"), rtype);
            wildcard.is_some_and(|set| set.iter().map(|record| tail(record)).collect::<BTreeSet<_>>() == tails)
                || rtype == "cname" && records.len() == 1 && self.set(parent, "dname").is_some()
        })
    }

    /// RRsets of addresses of names in the data of a reply that the reply doesn't show.
    pub(super) fn missing_addresses(&self, reply: &Reply) -> Vec<&BTreeSet<String>> {
        let shown = |record: &String| reply.additional.contains(record) || reply.answers.contains(record);
        let targets: BTreeSet<&str> =
            reply.answers.iter().chain(&reply.authority).flat_map(|record| named(record)).collect();
        let sets = targets.into_iter().flat_map(|target| [self.set(target, "a"), self.set(target, "aaaa")]);
        sets.flatten().filter(|set| !set.iter().all(shown)).collect()
    }

    /// Whether the zone has an RRset at the name of the question that the client's size doesn't take.
    pub(super) fn has_large_set(&self, question: &Question) -> bool {
        self.sets_at(&question.name.to_lowercase()).any(|(_, set)| least_octets(set) + question.end > question.limit())
    }
}

/// The names in the data of a record whose addresses belong beside it.
fn named(record: &str) -> Option<&str> {
    matches!(type_of(record), "ns" | "mx" | "srv" | "afsdb").then(|| record.rsplit(' ').next())?
}

/// What an RRset takes at least: a pointer for the owner, and the shortest data of its type.
pub(super) fn least_octets(set: &BTreeSet<String>) -> usize {
    let data = |record: &String| match type_of(record) {
        "a" => 4,
        "aaaa" => 16,
        "srv" => 7,
        "txt" => record.split(' ').skip(4).map(str::len).sum(),
        _ => 2,
    };
    set.iter().map(|record| 12 + data(record)).sum()
}

/// What is wrong with a reply of ours, by itself.
pub(super) fn faults(question: &Question, facts: &Facts, ours: Option<&Reply>) -> Vec<&'static str> {
    let Some(ours) = ours else { return vec!["silence"] };
    let mut found = Vec::new();
    let mut require = |holds: bool, fault| {
        if !holds {
            found.push(fault);
        }
    };
    // QR, with opcode, RD and CD as they were sent (RFC 1035 §4.1.1, RFC 4035 §3.1.6); RA, AD and Z are clear.
    let flags = 0x8000 | u16::from(question.opcode) << 11 | question.flags & 0x0110;
    require(ours.flags & !(AUTHORITATIVE | TRUNCATED) == flags, "flags");
    require(ours.question == question.packet[12..question.end], "the question is not the client's");
    // An OPT record for one, of version 0, with DO as it was sent (RFC 6891 §6.1.1, RFC 3225 §3).
    let edns = question.edns.map(|_| (0, if question.dnssec_ok() { 0x8000 } else { 0 }));
    require(ours.edns.as_ref().map(|(version, flags, _)| (*version, *flags)) == edns, "EDNS");
    require(ours.len <= question.limit(), "longer than the client takes");
    let refusal = refusal_of(question);
    if refusal != 0 || ours.rcode == 5 {
        require(ours.rcode == if refusal == 0 { 5 } else { refusal }, "rcode of a refusal");
        require(refusal != 0 || !question.is_in_zone(), "a question of the zone is refused");
        require(
            !ours.has(AUTHORITATIVE) && !ours.has(TRUNCATED) && ours.is_empty(),
            "a refusal says more than its rcode",
        );
        return found;
    }
    if question.class != IN {
        let identity = format!("{} 0 ch txt peer", question.name.to_lowercase());
        require(ours.rcode == 0 && ours.has(AUTHORITATIVE) && ours.answers.iter().eq([&identity]), "not the identity");
        return found;
    }
    require(question.is_in_zone(), "an answer for a name that is elsewhere");
    require(matches!(ours.rcode, 0 | 3 | 6), "rcode");
    require(ours.has(AUTHORITATIVE) != ours.is_referral(), "AA is clear in referrals alone (RFC 1035 section 4.1.1)");
    for (owner, rtype, records) in ours.sets() {
        require(facts.is_whole(owner, rtype, &records), "an RRset that isn't the zone's, or not all of it");
    }
    if ours.has(TRUNCATED) {
        require(ours.authority.iter().any(|record| type_of(record) == "ns") || ours.is_empty(), "cut, but not empty");
    }
    let targets: BTreeSet<&str> = ours.answers.iter().chain(&ours.authority).flat_map(|record| named(record)).collect();
    for record in &ours.additional {
        let is_address = matches!(type_of(record), "a" | "aaaa");
        require(is_address && facts.has(record), "an additional record that isn't an address of the zone");
        require(targets.contains(owner_of(record)), "an address that nothing in the answer asks for");
    }
    // RFC 9471 §3.1.
    if let Some(cut) = ours.authority.iter().find(|record| type_of(record) == "ns").filter(|_| !ours.has(TRUNCATED)) {
        let below = |set: &&BTreeSet<String>| set.iter().all(|record| owner_of(record).ends_with(owner_of(cut)));
        require(
            !facts.missing_addresses(ours).iter().any(below),
            "a referral without an address below the cut, nor TC",
        );
    }
    found
}

/// The rcode of what is no question for a zone; 0 if it is one, or one of what the server says of itself.
fn refusal_of(question: &Question) -> u16 {
    match question {
        Question { edns: Some((_, version)), .. } if *version != 0 => 16,
        Question { opcode, .. } if *opcode != 0 => 4,
        _ if question.class != IN && !question.is_identity() => 5,
        _ => 0,
    }
}
