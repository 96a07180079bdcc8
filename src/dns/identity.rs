//! What the server says of itself: NSID (RFC 5001), and the names of class CH that operators ask (RFC 4892).

use std::sync::Arc;

use crate::answer::Counts;
use crate::answer::encode::QUESTION_POINTER;
use crate::base::{Name, RecordType};

use super::wire::CLASS_CH;

/// The longest identity: it goes into every reply that asks for it, beside OPT and TSIG, within 512 octets.
pub const IDENTITY_OCTETS: usize = 64;

/// The identity of a server.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Which server this is, at most [`IDENTITY_OCTETS`]; `None`: not told.
    pub nsid: Option<Arc<[u8]>>,
    /// Which software, at most [`IDENTITY_OCTETS`]; `None`: not told.
    pub version: Option<Arc<[u8]>>,
}

impl Identity {
    /// Writes the TXT record behind a question of class CH; none if there is no such thing, or it isn't told.
    pub(super) fn answer(&self, qname: &[u8], qtype: RecordType, out: &mut Vec<u8>) -> Option<Counts> {
        let name = Name::from_wire(qname).ok()?.to_string();
        let text = match name.as_str() {
            // The two names of each are BIND's and RFC 4892's.
            "version.bind." | "version.server." => self.version.as_deref()?,
            "hostname.bind." | "id.server." => self.nsid.as_deref()?,
            _ => return None,
        };
        if !matches!(qtype, RecordType::TXT | RecordType::ANY) {
            return None;
        }
        let len = u8::try_from(text.len()).ok()?;
        out.extend_from_slice(&QUESTION_POINTER.to_be_bytes());
        out.extend_from_slice(&RecordType::TXT.0.to_be_bytes());
        out.extend_from_slice(&CLASS_CH.to_be_bytes());
        // Not to be cached: the next server asked under this address may be another.
        out.extend_from_slice(&[0, 0, 0, 0, 0, len + 1, len]);
        out.extend_from_slice(text);
        Some(Counts { answers: 1, ..Counts::default() })
    }
}
