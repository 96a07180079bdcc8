//! Replies, and in what they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};

use crate::support::client::{Client, read_framed, send_framed};

use super::facts::Facts;
use super::questions::Question;

/// What matters of a reply. The default is silence.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) len: usize,
    /// How long it would be without compression of names.
    pub(super) plain_len: usize,
    pub(super) rcode: u16,
    /// The flags of the header, without the rcode.
    pub(super) flags: u16,
    pub(super) question: Vec<u8>,
    pub(super) answers: BTreeSet<String>,
    pub(super) authority: BTreeSet<String>,
    pub(super) additional: BTreeSet<String>,
    /// Version, DO and other flags, codes of options.
    pub(super) edns: Option<(u8, u16, BTreeSet<u16>)>,
}

/// One thing in which two replies differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Difference {
    Silence,
    Rcode,
    Authoritative,
    Truncated,
    OtherFlags,
    Question,
    Answers,
    Authority,
    /// The peer has an address that we don't.
    Additional,
    Edns,
}

pub(super) const AUTHORITATIVE: u16 = 0x0400;
pub(super) const TRUNCATED: u16 = 0x0200;

impl Reply {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn is_referral(&self) -> bool {
        self.rcode == 0 && self.answers.is_empty() && self.authority.iter().any(|record| type_of(record) == "ns")
    }

    /// Whether no section has a record.
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.authority.is_empty() && self.additional.is_empty()
    }

    /// The RRsets of all sections, with owner and type.
    pub(super) fn sets(&self) -> impl Iterator<Item = (&str, &str, BTreeSet<&String>)> {
        let mut sets: BTreeMap<_, BTreeSet<&String>> = BTreeMap::new();
        for record in self.answers.iter().chain(&self.authority).chain(&self.additional) {
            sets.entry((owner_of(record), type_of(record))).or_default().insert(record);
        }
        sets.into_iter().map(|((owner, rtype), records)| (owner, rtype, records))
    }
}

/// The owner in the text of a record.
pub(super) fn owner_of(record: &str) -> &str {
    record.split(' ').next().unwrap_or_default()
}

/// The type in the text of a record.
pub(super) fn type_of(record: &str) -> &str {
    record.split(' ').nth(3).unwrap_or_default()
}

/// Records as lines: owner, TTL, class, type and data in small letters, since names in the data may point into the question,
/// with its case.
pub(super) fn texts(records: &[Record]) -> BTreeSet<String> {
    let text = |record: &Record| {
        let Record { name, ttl, dns_class, data, .. } = record;
        let data = match data {
            // Names that the codec leaves in wire form.
            RData::Unknown { code: RecordType::Unknown(18), rdata } => {
                let octets = &rdata.anything;
                format!("{} {}", u16::from_be_bytes([octets[0], octets[1]]), Name::from_bytes(&octets[2..]).unwrap())
            }
            _ => data.to_string(),
        };
        let rtype = match record.record_type() {
            RecordType::Unknown(18) => "afsdb".to_owned(),
            RecordType::Unknown(code) => format!("type{code}"),
            rtype => rtype.to_string(),
        };
        format!("{} {ttl} {dns_class:?} {rtype} {data}", name.to_ascii()).to_lowercase()
    };
    records.iter().map(text).collect()
}

/// Asks one server; none if it stays silent.
pub(super) fn ask(server: SocketAddr, question: &Question) -> Option<Reply> {
    let octets = if question.over_tcp {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        send_framed(&mut stream, &question.packet);
        read_framed(&mut stream)
    } else {
        Client::new(server).try_ask(&question.packet, Duration::from_secs(2))?.octets
    };
    assert_eq!(octets[..2], question.packet[..2]);
    let message = Message::from_vec(&octets).unwrap_or_else(|error| panic!("{error}: {question}: {octets:02x?}"));
    let word = u16::from_be_bytes([octets[2], octets[3]]);
    let high = message.edns.as_ref().map_or(0, |edns| u16::from(edns.rcode_high()));
    let has_question = octets[5] == 1;
    let edns = message.edns.as_ref().map(|edns| {
        let flags = edns.flags();
        let codes = edns.options().as_ref().iter().map(|(code, _)| u16::from(*code)).collect();
        (edns.version(), u16::from(flags.dnssec_ok) << 15 | flags.z, codes)
    });
    Some(Reply {
        len: octets.len(),
        plain_len: plain_len(&message),
        rcode: word & 0xf | high << 4,
        flags: word & 0xfff0,
        question: if has_question { octets[12..question.end.min(octets.len())].to_vec() } else { Vec::new() },
        answers: texts(&message.answers),
        authority: texts(&message.authorities),
        additional: texts(&message.additionals),
        edns,
    })
}

/// The octets of a message whose names aren't compressed.
fn plain_len(message: &Message) -> usize {
    let mut rest = message.clone();
    let sections = [&mut rest.answers, &mut rest.authorities, &mut rest.additionals];
    let records = sections.into_iter().flat_map(std::mem::take);
    let len: usize = records.map(|record| record.to_bytes().unwrap().len()).sum();
    len + rest.to_vec().unwrap().len()
}

/// A reply on a few lines.
pub(super) fn show(reply: Option<&Reply>) -> String {
    let Some(reply) = reply else { return "nothing".to_owned() };
    let Reply { len, rcode, flags, answers, authority, additional, edns, .. } = reply;
    let list = |records: &BTreeSet<String>| records.iter().take(8).cloned().collect::<Vec<_>>().join(" | ");
    let (answers, authority, additional) = (list(answers), list(authority), list(additional));
    format!("{len} octets rcode {rcode} flags {flags:04x} edns {edns:?} [{answers}] [{authority}] [{additional}]")
}

/// In what a reply of ours differs from a peer's. What ours must be by itself is judged by [`Facts`] alone.
pub(super) fn differences(facts: &Facts, ours: &Reply, theirs: Option<&Reply>) -> Vec<Difference> {
    let Some(theirs) = theirs else { return vec![Difference::Silence] };
    let mut found = Vec::new();
    let mut note = |differs: bool, difference| {
        if differs {
            found.push(difference);
        }
    };
    note(ours.rcode != theirs.rcode, Difference::Rcode);
    note(ours.has(AUTHORITATIVE) != theirs.has(AUTHORITATIVE), Difference::Authoritative);
    note(ours.has(TRUNCATED) != theirs.has(TRUNCATED), Difference::Truncated);
    let rest = !(AUTHORITATIVE | TRUNCATED);
    note(ours.flags & rest != theirs.flags & rest, Difference::OtherFlags);
    note(ours.question != theirs.question, Difference::Question);
    // What one server cut is a part of what the other has; two that are cut may hold what fits.
    match (ours.has(TRUNCATED), theirs.has(TRUNCATED)) {
        (false, false) => {
            note(ours.answers != theirs.answers, Difference::Answers);
            note(ours.authority != theirs.authority, Difference::Authority);
        }
        (true, false) => note(!ours.answers.is_subset(&theirs.answers), Difference::Answers),
        (false, true) => note(!theirs.answers.is_subset(&ours.answers), Difference::Answers),
        (true, true) => {}
    }
    if !ours.has(TRUNCATED) {
        let mut addresses = theirs.additional.iter().filter(|record| facts.has(record));
        let is_missing = |record: &String| !ours.additional.contains(record) && !ours.answers.contains(record);
        note(addresses.any(is_missing), Difference::Additional);
    }
    let codes_aside = |reply: &Reply| reply.edns.as_ref().map(|(version, flags, _)| (*version, *flags));
    note(codes_aside(ours) != codes_aside(theirs), Difference::Edns);
    found
}
