//! That the rules can fail: made-up replies of ours that no rule may explain.

use std::collections::BTreeSet;

use super::facts::{Facts, faults};
use super::judge;
use super::questions::Question;
use super::replies::{AUTHORITATIVE, Reply, TRUNCATED};
use crate::support::message::*;

const CH: u16 = 3;
const HOST: &str = "host.svc.example.test.";
const ZONE_RECORDS: [&str; 9] = [
    "_s._tcp.svc.example.test. 5 in srv 0 0 7 host.svc.example.test.",
    "_s._tcp.svc.example.test. 5 in srv 0 0 7 mail.svc.example.test.",
    "host.svc.example.test. 5 in a 192.0.2.1",
    "host.svc.example.test. 5 in a 192.0.2.2",
    "host.svc.example.test. 5 in txt x",
    "mail.svc.example.test. 5 in a 192.0.2.3",
    "svc.example.test. 2 in soa x",
    "b.svc.example.test. 5 in svcb 1 host.svc.example.test.",
    "sub.svc.example.test. 5 in ns host.svc.example.test.",
];

fn facts() -> Facts {
    let mut facts = Facts::default();
    ZONE_RECORDS.iter().for_each(|record| facts.insert(record));
    facts
}

fn asked(name: &str, qtype: u16, class: u16) -> Question {
    let packet = [header(next_id(), 0, [1, 0, 0, 0]), question(name, qtype, class)].concat();
    let end = packet.len();
    let name = name.to_owned();
    Question { packet, end, name, qtype, class, opcode: 0, flags: 0, edns: None, over_tcp: false }
}

/// A reply with the records of the zone that these words stand in.
fn reply(question: &Question, rcode: u16, flags: u16, answers: &[&str], additional: &[&str]) -> Reply {
    let records = |words: &[&str]| -> BTreeSet<String> {
        let has_word = |record: &&&str| words.iter().any(|word| record.contains(word));
        ZONE_RECORDS.iter().filter(has_word).map(|record| (*record).to_owned()).collect()
    };
    Reply {
        len: 200,
        plain_len: 300,
        rcode,
        flags: 0x8000 | flags,
        question: question.packet[12..question.end].to_vec(),
        answers: records(answers),
        additional: records(additional),
        ..Reply::default()
    }
}

/// Whether no peer's reply makes ours right.
fn is_caught(question: &Question, ours: &Reply, theirs: Option<&Reply>) -> bool {
    let facts = facts();
    let is_unexplained = |peer| judge(peer, question, &facts, ours, theirs).iter().any(|(_, rule)| rule.is_none());
    !faults(question, &facts, Some(ours)).is_empty() || ["bind", "knot", "nsd"].into_iter().all(is_unexplained)
}

#[test]
fn right_replies_are_not_caught() {
    let question = asked("_s._tcp.svc.example.test.", SRV, IN);
    let whole = reply(&question, 0, AUTHORITATIVE, &[" srv "], &[" a "]);
    assert_eq!(faults(&question, &facts(), Some(&whole)), Vec::<&str>::new());
    assert!(!is_caught(&question, &whole, Some(&whole)));
    let without = Reply { additional: BTreeSet::new(), ..whole.clone() };
    assert!(!is_caught(&question, &whole, Some(&without)), "a peer that sends no addresses");
    let full = Reply { len: 500, ..without };
    assert!(!is_caught(&question, &full, Some(&whole)), "no room");
}

#[test]
fn other_classes_are_refused_without_more() {
    let question = asked(HOST, A, CH);
    let right = reply(&question, 5, 0, &[], &[]);
    let guessed = reply(&question, 0, AUTHORITATIVE, &[" a 192.0.2.1", " a 192.0.2.2"], &[]);
    assert!(!is_caught(&question, &right, None));
    assert!(!is_caught(&question, &right, Some(&guessed)));
    for (rcode, flags) in [(0, 0), (3, 0), (4, 0), (5, AUTHORITATIVE), (5, TRUNCATED), (5, 0x0080)] {
        let wrong = reply(&question, rcode, flags, &[], &[]);
        assert!(is_caught(&question, &wrong, None), "{wrong:?}");
        assert!(is_caught(&question, &wrong, Some(&wrong)), "{wrong:?}");
    }
    assert!(is_caught(&question, &guessed, Some(&guessed)));
    assert_eq!(faults(&question, &facts(), None), ["silence"]);
}

#[test]
fn any_is_one_whole_set_with_rcode_and_aa() {
    let question = asked(HOST, ANY, IN);
    let right = reply(&question, 0, AUTHORITATIVE, &["host.svc.example.test. 5 in a "], &[]);
    let other = reply(&question, 0, AUTHORITATIVE, &[" txt "], &[]);
    assert!(!is_caught(&question, &right, Some(&other)));
    let wrong = [
        Reply { flags: 0x8000, ..right.clone() },
        Reply { rcode: 3, ..right.clone() },
        reply(&question, 0, AUTHORITATIVE, &["host.svc.example.test. 5 in a ", " txt "], &[]),
        reply(&question, 0, AUTHORITATIVE, &[" a 192.0.2.1"], &[]),
        reply(&question, 0, AUTHORITATIVE, &[], &[]),
        // Everything there would have fitted.
        reply(&question, 0, AUTHORITATIVE | TRUNCATED, &[], &[]),
    ];
    for wrong in &wrong {
        assert!(is_caught(&question, wrong, Some(&other)), "{wrong:?}");
    }
}

#[test]
fn sets_are_whole_and_cut_at_the_limit_alone() {
    let question = asked(HOST, A, IN);
    let right = reply(&question, 0, AUTHORITATIVE, &["host.svc.example.test. 5 in a "], &[]);
    let nearly = Reply { len: 500, ..right.clone() };
    let cut = reply(&question, 0, AUTHORITATIVE | TRUNCATED, &[], &[]);
    assert!(!is_caught(&question, &cut, Some(&nearly)));
    assert!(is_caught(&question, &cut, Some(&right)), "there was room");
    assert!(is_caught(&question, &Reply { flags: 0x8000 | TRUNCATED, ..cut.clone() }, Some(&nearly)), "AA");
    assert!(is_caught(&question, &Reply { rcode: 2, ..cut.clone() }, Some(&nearly)), "rcode");
    let torn = reply(&question, 0, AUTHORITATIVE, &[" a 192.0.2.1"], &[]);
    for flags in [0, TRUNCATED] {
        let torn = Reply { flags: torn.flags | flags, ..torn.clone() };
        assert!(is_caught(&question, &torn, Some(&nearly)), "{torn:?}");
        assert!(is_caught(&question, &torn, Some(&torn)), "{torn:?}");
    }
    // A peer's TC explains ours only if ours would be too long without compression.
    assert!(is_caught(&question, &right, Some(&cut)));
    assert!(!is_caught(&question, &Reply { plain_len: 513, ..right }, Some(&cut)));
}

#[test]
fn addresses_are_there_true_and_asked_for() {
    let question = asked("_s._tcp.svc.example.test.", SRV, IN);
    let whole = reply(&question, 0, AUTHORITATIVE, &[" srv "], &[" a "]);
    let missing = reply(&question, 0, AUTHORITATIVE, &[" srv "], &["mail.svc.example.test. 5 in a "]);
    assert!(is_caught(&question, &missing, Some(&whole)));
    let torn = reply(&question, 0, AUTHORITATIVE, &[" srv "], &["192.0.2.1", "192.0.2.3"]);
    assert!(is_caught(&question, &torn, Some(&torn)));
    let mut untrue = whole.clone();
    untrue.additional.insert("mail.svc.example.test. 5 in aaaa 2001:db8::9".to_owned());
    assert!(is_caught(&question, &untrue, Some(&untrue)));
    let question = asked(HOST, TXT, IN);
    let unasked = reply(&question, 0, AUTHORITATIVE, &[" txt "], &["mail.svc.example.test. 5 in a "]);
    assert!(is_caught(&question, &unasked, Some(&unasked)));
}

#[test]
fn any_and_svcb_excuse_no_more_addresses_than_they_say() {
    let question = asked("_s._tcp.svc.example.test.", ANY, IN);
    let whole = reply(&question, 0, AUTHORITATIVE, &[" srv "], &[" a "]);
    let without = Reply { additional: BTreeSet::new(), ..whole.clone() };
    assert!(!is_caught(&question, &whole, Some(&without)));
    assert!(is_caught(&question, &without, Some(&whole)));
    let question = asked("b.svc.example.test.", 64, IN);
    let right = reply(&question, 0, AUTHORITATIVE, &[" svcb "], &[]);
    let theirs = reply(&question, 0, AUTHORITATIVE, &[" svcb "], &["host.svc.example.test. 5 in a "]);
    let judged = |ours: &Reply| judge("bind", &question, &facts(), ours, Some(&theirs));
    assert!(matches!(judged(&right)[..], [(_, Some(_))]));
    assert!(judged(&Reply { rcode: 3, ..right.clone() }).iter().all(|(_, rule)| rule.is_none()));
}

#[test]
fn meta_types_and_refusals_have_no_data() {
    let question = asked(HOST, 253, IN);
    let refused = reply(&question, 4, 0, &[], &[]);
    let mut right = reply(&question, 0, AUTHORITATIVE, &[], &[]);
    right.authority.insert("svc.example.test. 2 in soa x".to_owned());
    assert!(!is_caught(&question, &right, Some(&refused)));
    let wrong = [
        reply(&question, 5, 0, &[], &[]),
        reply(&question, 2, 0, &[], &[]),
        reply(&question, 0, AUTHORITATIVE, &[" txt "], &[]),
        Reply { flags: 0x8000, ..right },
    ];
    for wrong in &wrong {
        assert!(is_caught(&question, wrong, Some(&refused)), "{wrong:?}");
    }
    let question = Question { opcode: 2, ..asked(HOST, A, IN) };
    let answered = reply(&question, 0, AUTHORITATIVE | 0x1000, &["host.svc.example.test. 5 in a "], &[]);
    assert!(is_caught(&question, &answered, Some(&refused)));
}
