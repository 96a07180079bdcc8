//! Queries: the same ones over and over, or one whose name is another each time.

use super::Load;
use super::message::{SRV, add_cookie, copy_with_id, query};
use super::slots::Slot;

/// Queries in turn.
pub(crate) struct Questions {
    messages: Vec<Vec<u8>>,
    next: usize,
    /// Octets of the OPT record that each ends with.
    options: usize,
    /// Where the number of a name that is new each time stands, in hexadecimal digits.
    fresh: Option<usize>,
    number: u64,
    /// Whether an answer must repeat the question.
    strict: bool,
}

const DIGITS: usize = 16;
/// An OPT record without an option.
const OPT_OCTETS: usize = 11;

impl Questions {
    /// These owners and types, in an order that has nothing to do with that in which a server has them.
    pub(crate) fn new(mut questions: Vec<(String, u16)>, size: u16) -> Questions {
        assert!(!questions.is_empty(), "questions");
        fastrand::Rng::with_seed(1).shuffle(&mut questions);
        let messages = questions.iter().map(|(owner, qtype)| query(owner, *qtype, size)).collect();
        Questions { messages, next: 0, options: opt_octets(size), fresh: None, number: 0, strict: true }
    }

    /// SRV queries for services that aren't there, each another one.
    pub(crate) fn of_nobody(zone: &str, size: u16) -> Questions {
        let label = "_none-";
        let owner = format!("{label}{:0DIGITS$x}._tcp.{zone}", 0);
        let messages = vec![query(&owner, SRV, size)];
        let fresh = Some(12 + 1 + label.len());
        Questions { messages, next: 0, options: opt_octets(size), fresh, number: 0, strict: true }
    }

    /// Sends a cookie with each.
    pub(crate) fn with_cookie(mut self, cookie: &[u8]) -> Questions {
        assert_eq!(self.options, OPT_OCTETS, "a cookie goes into an OPT record");
        self.messages.iter_mut().for_each(|message| add_cookie(message, cookie));
        self.options += 4 + cookie.len();
        self
    }

    /// Takes answers that repeat another question, as a canned one does.
    pub(crate) fn any_answer(mut self) -> Questions {
        self.strict = false;
        self
    }
}

/// Octets of the OPT record that offers a size.
fn opt_octets(size: u16) -> usize {
    if size > 0 { OPT_OCTETS } else { 0 }
}

impl Load for Questions {
    /// Octets of the header and the question.
    type Task = usize;

    fn write(&mut self, slot: &mut Slot<usize>) -> bool {
        let message = &self.messages[self.next];
        self.next = (self.next + 1) % self.messages.len();
        copy_with_id(&mut slot.message, message, slot.id);
        if let Some(at) = self.fresh {
            // Spread over all digits, so that names which follow each other aren't neighbours.
            self.number += 1;
            let spread = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for (digit, octet) in slot.message[at..at + DIGITS].iter_mut().enumerate() {
                *octet = b"0123456789abcdef"[(spread >> (4 * digit) & 15) as usize];
            }
        }
        slot.task = message.len() - self.options;
        true
    }

    fn read(&mut self, slot: &Slot<usize>, answer: &[u8]) -> bool {
        !self.strict || answer.get(12..slot.task) == Some(&slot.message[12..slot.task])
    }

    fn lose(&mut self, _: &usize) {}
}
