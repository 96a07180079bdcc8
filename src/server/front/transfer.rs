//! A zone transfer under way: its messages, and word of its end.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::dns::transfer::outgoing::Outgoing;
use crate::net::Messages;
use crate::server::clock::Clock;
use crate::server::counters::Counters;
use crate::server::figures::Ending;
use crate::server::notifier::Notices;

/// A transfer under way.
pub(super) struct Transfer {
    pub(super) outgoing: Box<Outgoing>,
    pub(super) peer: SocketAddr,
    /// Where it is noted what its client has, if that is one of the zone's secondaries.
    pub(super) notices: Option<Notices>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<Counters>,
    /// Whether its last message was made.
    pub(super) is_complete: bool,
    #[expect(dead_code, reason = "held until the end")]
    pub(super) place: OwnedSemaphorePermit,
}

impl Messages for Transfer {
    fn next(&mut self, out: &mut Vec<u8>) -> bool {
        let more = self.outgoing.message(self.clock.now().wall, out);
        self.is_complete |= !more;
        more
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let ending = if self.is_complete { Ending::Complete } else { Ending::BrokenOff };
        self.counters.figures.transfers.count(self.outgoing.is_whole(), ending);
        if let Some(notices) = self.notices.as_ref().filter(|_| self.is_complete) {
            notices.transferred(self.peer.ip(), self.outgoing.serial());
        }
    }
}
