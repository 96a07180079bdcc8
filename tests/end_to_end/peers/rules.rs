//! The differences that are meant, each with its reason.
//!
//! A rule says which parts of the replies may differ, in which case, and what ours must still be in it. It never covers
//! what [`faults`](super::facts::faults) asks of ours: header, EDNS, whole RRsets, true addresses.

use Difference::{Additional, Answers, Authoritative, Authority, Edns, OtherFlags, Rcode, Silence, Truncated};

use crate::support::message::{ANY, IN};

use super::facts::{Facts, least_octets};
use super::questions::Question;
use super::replies::{AUTHORITATIVE, Difference, Reply, TRUNCATED, owner_of, type_of};

const CHECKING_DISABLED: u16 = 0x0010;
const AUTHENTIC_DATA: u16 = 0x0020;
const NSEC_AND_RRSIG: [u16; 2] = [46, 47];

/// What the encodings of one answer may differ by: names that one server compresses and another doesn't.
const COMPRESSION: usize = 80;

/// Two replies to a question.
pub(super) struct Case<'a> {
    pub(super) peer: &'a str,
    pub(super) question: &'a Question,
    pub(super) facts: &'a Facts,
    pub(super) ours: &'a Reply,
    /// Silence is the default reply.
    pub(super) theirs: &'a Reply,
}

struct Rule {
    reason: &'static str,
    /// The parts that may differ.
    parts: &'static [Difference],
    /// Of the question and of the peer's reply.
    case: fn(&Case) -> bool,
    /// What ours must be.
    ours: fn(&Case) -> bool,
}

/// The rule that explains a difference to a peer; none: it should not be.
pub(super) fn explain(case: &Case, difference: Difference) -> Option<&'static str> {
    let applies = |rule: &&Rule| rule.parts.contains(&difference) && (rule.case)(case) && (rule.ours)(case);
    RULES.iter().find(applies).map(|rule| rule.reason)
}

const RULES: [Rule; 19] = [
    Rule {
        reason: "classes other than IN have no zones: REFUSED with the reason (RFC 1035 section 4.1.1); peers drop, \
                 guess IN or say NOTIMP",
        parts: &[
            Silence,
            Rcode,
            Authoritative,
            Truncated,
            OtherFlags,
            Difference::Question,
            Answers,
            Authority,
            Additional,
            Edns,
        ],
        case: |case| case.question.class != IN && !case.question.is_identity(),
        ours: |case| matches!(case.ours.rcode, 4 | 5 | 16) && is_bare(case.ours),
    },
    Rule {
        reason: "what a server says of itself (RFC 4892) is its own data, for ANY too, so AA is set; Knot and NSD clear it, \
                 and Knot refuses ANY",
        parts: &[Rcode, Authoritative, Answers],
        case: |case| {
            let is_refused = case.peer == "knot" && case.question.qtype == ANY && case.theirs.rcode == 5;
            case.question.is_identity() && case.peer != "bind" && (is_refused || case.theirs.rcode == 0)
        },
        ours: |case| {
            let is_told = case.theirs.rcode == 5 || case.ours.answers == case.theirs.answers;
            case.ours.rcode == 0 && case.ours.has(AUTHORITATIVE) && case.ours.answers.len() == 1 && is_told
        },
    },
    Rule {
        reason: "what a server says of itself (RFC 4892) is said each time; BIND limits the rate of these replies",
        parts: &[Silence],
        case: |case| case.peer == "bind" && case.question.is_identity(),
        ours: |case| case.ours.rcode == 0 && case.ours.has(AUTHORITATIVE) && case.ours.answers.len() == 1,
    },
    Rule {
        reason: "CD comes back as it was sent (RFC 4035 section 3.1.6); they clear it",
        parts: &[OtherFlags],
        case: |case| case.peer != "bind" && case.theirs.flags & CHECKING_DISABLED == 0,
        ours: |case| other_flags(case) == CHECKING_DISABLED,
    },
    Rule {
        reason: "AD is never set (RFC 4035 section 3.1.6: data of an unsigned zone); BIND leaves the client's in what it \
                 cuts",
        parts: &[OtherFlags],
        case: |case| case.peer == "bind" && case.theirs.has(TRUNCATED),
        ours: |case| other_flags(case) == AUTHENTIC_DATA && case.ours.flags & AUTHENTIC_DATA == 0,
    },
    Rule {
        reason: "a type that exists in messages alone (RFC 6895 section 3.1) is one that no name has; they refuse in \
                 several ways",
        parts: &[
            Rcode,
            Authoritative,
            Truncated,
            OtherFlags,
            Difference::Question,
            Answers,
            Authority,
            Additional,
            Edns,
        ],
        case: |case| {
            let is_meta = matches!(case.question.qtype, 0 | 41 | 128..=254);
            is_meta && case.question.opcode == 0 && matches!(case.theirs.rcode, 1 | 4 | 5)
        },
        ours: |case| has_only_aliases(case.ours) || matches!(case.ours.rcode, 5 | 16) && is_bare(case.ours),
    },
    Rule {
        reason: "NOTIMP comes with question and flags of the request (RFC 1035 section 4.1.1), and behind BADVERS (RFC \
                 6891 section 6.1.3); they leave some of it out, or send all flags of the client's back",
        parts: &[Rcode, Authoritative, Truncated, OtherFlags, Difference::Question, Edns],
        case: |case| case.question.opcode != 0 && matches!(case.theirs.rcode, 4 | 16),
        ours: |case| matches!(case.ours.rcode, 4 | 16) && is_bare(case.ours),
    },
    Rule {
        reason: "BADVERS is no answer, so flags of answers are clear (RFC 6891 section 6.1.3); they send some of the \
                 client's back, or no question, or clear DO",
        parts: &[Authoritative, Truncated, OtherFlags, Difference::Question, Edns],
        case: |case| case.theirs.rcode == 16,
        ours: |case| case.ours.rcode == 16 && is_bare(case.ours),
    },
    Rule {
        reason: "NSEC and RRSIG stand beside a CNAME in signed zones (RFC 4034 sections 3 and 4), so it isn't followed; \
                 NSD follows it",
        parts: &[Rcode, Truncated, Answers, Authority, Additional],
        case: |case| {
            let is_followed = case.ours.answers.len() < case.theirs.answers.len();
            case.peer == "nsd" && NSEC_AND_RRSIG.contains(&case.question.qtype) && is_followed
        },
        ours: |case| {
            let has_soa = case.ours.authority.iter().any(|record| type_of(record) == "soa");
            case.ours.rcode == 0 && has_soa && case.ours.answers.is_subset(&case.theirs.answers)
        },
    },
    Rule {
        reason: "the aliases of a loop are the answer (RFC 1034 section 3.6.2); BIND says SERVFAIL with the same records",
        parts: &[Rcode],
        case: |case| case.peer == "bind" && case.theirs.rcode == 2,
        ours: |case| case.ours.rcode == 0 && has_only_aliases(case.ours) && case.ours.answers == case.theirs.answers,
    },
    Rule {
        reason: "ANY gets one RRset (RFC 8482 section 4.1); they choose another, or send all over TCP",
        parts: &[Answers, Additional],
        case: |case| {
            let is_other = case.ours.answers != case.theirs.answers;
            case.question.qtype == ANY && case.theirs.rcode == 0 && is_other
        },
        ours: |case| {
            let is_full = case.facts.missing_addresses(case.ours).is_empty() || has_no_room(case);
            case.ours.rcode == 0 && (is_one_set(case.ours) && is_full || is_cut_set(case))
        },
    },
    Rule {
        reason: "ANY gets one RRset (RFC 8482 section 4.1), which fits where all of them or another do not",
        parts: &[Truncated],
        case: |case| case.question.qtype == ANY && case.theirs.rcode == 0,
        ours: |case| match case.ours.has(TRUNCATED) {
            false => is_one_set(case.ours),
            true => is_cut_set(case),
        },
    },
    Rule {
        reason: "a DNAME's alias is followed for ANY (RFC 6672 section 3.2), as Knot and NSD do; BIND stops there",
        parts: &[Rcode, Truncated, Answers, Authority],
        case: |case| {
            let is_alias = |record: &String| type_of(record) == "cname";
            case.peer == "bind" && case.question.qtype == ANY && case.theirs.answers.iter().any(is_alias)
        },
        ours: |case| case.ours.has(TRUNCATED) || case.ours.answers.is_superset(&case.theirs.answers),
    },
    Rule {
        reason: "a negative answer without its SOA is cut, and says so (RFC 2308 section 3); Knot leaves the SOA out",
        parts: &[Rcode, Truncated],
        case: |case| {
            let is_negative = matches!(case.theirs.rcode, 0 | 3) && has_only_aliases(case.theirs);
            let is_without = is_negative && case.theirs.authority.is_empty() && !case.theirs.has(TRUNCATED);
            case.peer == "knot" && is_without && is_near_limit(case, case.theirs)
        },
        ours: |case| case.ours.rcode == 0 && case.ours.has(TRUNCATED) && case.ours.is_empty(),
    },
    Rule {
        reason: "the rcode of what was cut is that of the answer over TCP (RFC 2181 section 9); they send it early",
        parts: &[Rcode],
        case: |case| matches!(case.theirs.rcode, 3 | 6) && is_near_limit(case, case.theirs),
        ours: |case| case.ours.rcode == 0 && case.ours.has(TRUNCATED) && case.ours.is_empty(),
    },
    Rule {
        reason: "at the edge of the size that the client takes, compression (RFC 1035 section 4.1.4) decides",
        parts: &[Truncated],
        case: |case| case.ours.has(TRUNCATED) && is_near_limit(case, case.theirs),
        ours: |case| is_same_header(case) && case.ours.answers.is_empty(),
    },
    Rule {
        reason: "what fits by compression (RFC 1035 section 4.1.4) is sent; a peer that compresses less cuts it",
        parts: &[Rcode, Truncated],
        case: |case| case.theirs.has(TRUNCATED) && matches!(case.theirs.rcode, 0 | 3),
        ours: |case| {
            let is_early = case.theirs.rcode == 0 && case.ours.rcode == 3;
            !case.ours.has(TRUNCATED)
                && case.ours.plain_len > case.question.limit()
                && (is_early || is_same_header(case))
        },
    },
    Rule {
        reason: "addresses are added in the order of the answer while they fit, RRset by RRset (RFC 2181 section 9)",
        parts: &[Additional],
        case: |case| !case.question.over_tcp,
        ours: has_no_room,
    },
    Rule {
        reason: "addresses beside SVCB and HTTPS (RFC 9460 section 4.1, a SHOULD) are not sent; BIND and Knot send them",
        parts: &[Additional],
        case: |case| {
            let is_binding = |record: &String| matches!(type_of(record), "svcb" | "https");
            case.peer != "nsd" && case.theirs.answers.iter().any(is_binding)
        },
        ours: |case| {
            is_same_header(case) && case.ours.answers == case.theirs.answers && case.ours.additional.is_empty()
        },
    },
];

fn other_flags(case: &Case) -> u16 {
    (case.ours.flags ^ case.theirs.flags) & !(AUTHORITATIVE | TRUNCATED)
}

fn is_same_header(case: &Case) -> bool {
    case.ours.rcode == case.theirs.rcode && case.ours.has(AUTHORITATIVE) == case.theirs.has(AUTHORITATIVE)
}

fn is_near_limit(case: &Case, reply: &Reply) -> bool {
    reply.has(TRUNCATED) || reply.len + COMPRESSION > case.question.limit()
}

/// An address that ours lacks doesn't fit; those behind it are left out with it.
fn has_no_room(case: &Case) -> bool {
    let missing = case.facts.missing_addresses(case.ours);
    missing.into_iter().any(|set| case.ours.len + least_octets(set) > case.question.limit())
}

/// A refusal: no records, nor flags of answers.
fn is_bare(reply: &Reply) -> bool {
    reply.is_empty() && !reply.has(AUTHORITATIVE) && !reply.has(TRUNCATED)
}

/// No data at the end of aliases, if there are any: what is left are they, the SOA, or a referral.
fn has_only_aliases(reply: &Reply) -> bool {
    let is_alias = |record: &String| matches!(type_of(record), "cname" | "dname");
    let is_end = |record: &String| matches!(type_of(record), "soa" | "ns");
    matches!(reply.rcode, 0 | 3 | 6) && reply.answers.iter().all(is_alias) && reply.authority.iter().all(is_end)
}

/// One RRset, behind the aliases that a DNAME makes.
fn is_one_set(reply: &Reply) -> bool {
    let redirections: Vec<String> = reply
        .answers
        .iter()
        .filter(|record| type_of(record) == "dname")
        .map(|record| format!(".{}", owner_of(record)))
        .collect();
    let is_redirected = |owner: &str| redirections.iter().any(|above| owner.ends_with(above) || above[1..] == *owner);
    let shown = reply.sets().filter(|(owner, rtype, records)| {
        let is_alias = matches!(*rtype, "cname" | "dname") && is_redirected(owner);
        !is_alias && records.iter().any(|record| reply.answers.contains(*record))
    });
    let count = shown.count();
    reply.has(AUTHORITATIVE) && reply.authority.is_empty() && (count == 1 || count == 0 && !redirections.is_empty())
}

/// An RRset of the name that the client's size doesn't take.
fn is_cut_set(case: &Case) -> bool {
    case.ours.has(TRUNCATED) && case.ours.is_empty() && case.facts.has_large_set(case.question)
}
