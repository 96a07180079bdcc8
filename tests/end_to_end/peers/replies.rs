//! Replies, and in what they differ.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::Record;

use crate::support::client::{Client, read_framed, send_framed};

use super::questions::Question;

/// What matters of a reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) len: usize,
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
    Glue,
    Edns,
}

pub(super) const AUTHORITATIVE: u16 = 0x0400;
pub(super) const TRUNCATED: u16 = 0x0200;

impl Reply {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn is_referral(&self) -> bool {
        self.rcode == 0 && self.answers.is_empty() && self.authority.iter().any(|record| record.contains(" in ns "))
    }
}

fn texts(records: &[Record]) -> BTreeSet<String> {
    let text = |record: &Record| {
        let Record { name, ttl, dns_class, data, .. } = record;
        // Names in the data point into the question, with its case.
        format!("{} {ttl} {dns_class:?} {} {data}", name.to_ascii(), record.record_type()).to_lowercase()
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
        rcode: word & 0xf | high << 4,
        flags: word & 0xfff0,
        question: if has_question { octets[12..question.end.min(octets.len())].to_vec() } else { Vec::new() },
        answers: texts(&message.answers),
        authority: texts(&message.authorities),
        additional: texts(&message.additionals),
        edns,
    })
}

/// A reply on a few lines.
pub(super) fn show(reply: Option<&Reply>) -> String {
    let Some(reply) = reply else { return "nothing".to_owned() };
    let Reply { len, rcode, flags, answers, authority, additional, edns, .. } = reply;
    let list = |records: &BTreeSet<String>| records.iter().take(8).cloned().collect::<Vec<_>>().join(" | ");
    let (answers, authority, additional) = (list(answers), list(authority), list(additional));
    format!("{len} octets rcode {rcode} flags {flags:04x} edns {edns:?} [{answers}] [{authority}] [{additional}]")
}

pub(super) fn differences(question: &Question, ours: Option<&Reply>, theirs: Option<&Reply>) -> Vec<Difference> {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return if ours.is_none() && theirs.is_none() { Vec::new() } else { vec![Difference::Silence] };
    };
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
    note(!ours.question.is_empty() && ours.question != question.packet[12..question.end], Difference::Question);
    // A truncated answer may hold whatever fits, or nothing; the client asks again.
    if !ours.has(TRUNCATED) && !theirs.has(TRUNCATED) {
        note(ours.answers != theirs.answers, Difference::Answers);
        note(ours.authority != theirs.authority, Difference::Authority);
        if ours.is_referral() {
            let cut = ours.authority.first().and_then(|record| record.split(' ').next()).unwrap_or_default();
            let needed = |reply: &Reply| -> BTreeSet<String> {
                let owner = |record: &&String| record.split(' ').next().unwrap_or_default().ends_with(cut);
                reply.additional.iter().filter(owner).cloned().collect()
            };
            note(needed(ours) != needed(theirs), Difference::Glue);
        }
    }
    let codes_aside = |reply: &Reply| reply.edns.as_ref().map(|(version, flags, _)| (*version, *flags));
    note(codes_aside(ours) != codes_aside(theirs), Difference::Edns);
    found
}
