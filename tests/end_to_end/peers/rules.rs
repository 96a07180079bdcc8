//! The differences that are meant, each with its reason.

use crate::support::message::ANY;

use super::questions::Question;
use super::replies::{AUTHORITATIVE, Difference, Reply, TRUNCATED};

const CHECKING_DISABLED: u16 = 0x0010;
const AUTHENTIC_DATA: u16 = 0x0020;
const NSEC_AND_RRSIG: [u16; 2] = [46, 47];

/// What the encodings of one answer may differ by: names that one server compresses and another doesn't.
const COMPRESSION: usize = 80;

/// The rule that explains a difference to a peer; none: it should not be.
pub(super) fn explain(
    peer: &str,
    question: &Question,
    difference: Difference,
    ours: Option<&Reply>,
    theirs: Option<&Reply>,
) -> Option<&'static str> {
    if question.class != 1 {
        return Some(
            "classes other than IN have no zones: REFUSED with the reason; peers drop, guess IN or say NOTIMP",
        );
    }
    let (ours, theirs) = (ours?, theirs?);
    let is_meta = matches!(question.qtype, 0 | 41 | 128..=254);
    let differing = (ours.flags ^ theirs.flags) & !(AUTHORITATIVE | TRUNCATED);
    let len = ours.len.max(theirs.len);
    match difference {
        Difference::OtherFlags if peer != "bind" && differing == CHECKING_DISABLED => {
            Some("CD comes back as it was sent (RFC 4035 section 3.1.6); they clear it")
        }
        _ if is_meta && matches!(theirs.rcode, 1 | 4 | 5) => {
            Some("a type that exists in messages alone is one that no name has; they refuse in several ways")
        }
        _ if question.opcode != 0 && [ours, theirs].iter().all(|reply| matches!(reply.rcode, 4 | 16)) => {
            Some("NOTIMP comes with question and flags of the request, and behind BADVERS; they leave some of it out")
        }
        _ if peer == "nsd" && NSEC_AND_RRSIG.contains(&question.qtype) && ours.answers.len() < theirs.answers.len() => {
            Some("NSEC and RRSIG stand beside a CNAME in signed zones, so it isn't followed; NSD follows it")
        }
        Difference::Rcode if peer == "bind" && theirs.rcode == 2 && ours.answers == theirs.answers => {
            Some("the aliases of a loop are the answer; BIND says SERVFAIL with the same records")
        }
        _ if question.qtype == ANY && ours.answers != theirs.answers && ours.rcode == 0 && theirs.rcode == 0 => {
            Some("ANY gets one RRset (RFC 8482 section 4.1); they choose another, or send all over TCP")
        }
        Difference::OtherFlags if peer == "bind" && differing == AUTHENTIC_DATA && theirs.has(TRUNCATED) => Some(
            "AD is never set (RFC 4035 section 3.1.6: data of an unsigned zone); BIND leaves the client's in what it cuts",
        ),
        _ if (ours.rcode, theirs.rcode) == (16, 16) => Some(
            "BADVERS is no answer, so flags of answers are clear; they send some of the client's back, or no question",
        ),
        _ if peer == "knot" && ours.has(TRUNCATED) && theirs.rcode == 3 && theirs.authority.is_empty() => {
            Some("a negative answer without its SOA is cut, and says so; Knot leaves the SOA out")
        }
        Difference::Rcode if ours.has(TRUNCATED) && theirs.has(TRUNCATED) => {
            Some("the rcode of what was cut is that of the answer over TCP; they send it early")
        }
        _ if peer == "bind"
            && question.qtype == ANY
            && theirs.answers.iter().any(|record| record.contains(" in cname ")) =>
        {
            Some("a DNAME's alias is followed for ANY, as Knot and NSD do; BIND stops there")
        }
        _ if (ours.has(TRUNCATED) || theirs.has(TRUNCATED)) && len + COMPRESSION > question.limit() => {
            Some("at the edge of the size that the client takes, compression decides")
        }
        _ => None,
    }
}
