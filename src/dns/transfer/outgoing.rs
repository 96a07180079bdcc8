//! A zone on its way to somebody who follows it, message by message.
//!
//! [`Outgoing`] owns all that it needs: a snapshot, which is two pointers, or the difference to it; where it stands; and
//! how its messages are begun and signed. [`Outgoing::message`] fills the next one when there is room for it, so that a slow
//! client holds a pointer and one message, and neither the server's memory nor its commits.
//!
//! The question stands in every message, so that names are compressed against the apex from the first record on; OPT in the
//! first alone. Messages are packed full (RFC 5936 §2.2), up to [`PACKED`] octets, with names compressed, and each is signed if
//! the request was (RFC 8945 §5.3.1).
//!
//! Deviates: RFC 5936 §3.4 wants compression to keep the case of names. Ours are in lower case; those that end in the
//! question's name show the case that the client wrote there.
//!
//! Cost: that of encoding each record once; the order of a whole zone is that of its pages, so nothing is sorted.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::answer::Counts;
use crate::answer::encode::Encoder;
use crate::base::{Name, RecordType, Serial, Ttl, Wall};
use crate::zone::history::{Condensed, Step};
use crate::zone::map::Position;
use crate::zone::settings::serial_of;
use crate::zone::{Node, Record, Snapshot};

use crate::dns::reply::Reply;
use crate::dns::wire::Rcode;

/// What is sent.
#[derive(Debug)]
pub enum Body {
    /// The SOA record alone: there is nothing newer, or not over this transport (RFC 1995 §2 and §4).
    Current(Record),
    /// Everything, between twice the SOA record (RFC 5936 §2.2).
    Whole {
        /// The SOA record.
        soa: Record,
        /// The zone.
        snapshot: Snapshot,
    },
    /// What differs from an earlier version (RFC 1995 §4).
    Changes(Condensed),
}

impl Body {
    /// What answers an IXFR of somebody who has `serial`: nothing but the SOA record for whoever is not behind, what differs
    /// if the steps from there are known, and everything if they aren't, or if that is less. Two serials without an order
    /// (RFC 1982 §3.2) tell nothing of who is behind: everything.
    pub fn since(serial: Serial, snapshot: &Snapshot, steps: impl FnOnce(Serial, Serial) -> Option<Vec<Step>>) -> Body {
        let own = snapshot.epoch.serial();
        if Body::is_current(serial, snapshot) {
            return Body::Current(snapshot.soa());
        }
        if serial.partial_cmp(&own).is_none() {
            return Body::whole(snapshot);
        }
        match steps(serial, own).and_then(Condensed::new) {
            Some(condensed) if !exceeds(&condensed, snapshot) => Body::Changes(condensed),
            _ => Body::whole(snapshot),
        }
    }

    /// Whether whoever has this serial is not behind.
    pub fn is_current(serial: Serial, snapshot: &Snapshot) -> bool {
        matches!(serial.partial_cmp(&snapshot.epoch.serial()), Some(Ordering::Equal | Ordering::Greater))
    }

    /// The SOA record of the version that it leads to.
    fn soa(&self) -> &Record {
        match self {
            Body::Current(soa) | Body::Whole { soa, .. } => soa,
            Body::Changes(condensed) => condensed.to(),
        }
    }

    /// Everything.
    pub fn whole(snapshot: &Snapshot) -> Body {
        Body::Whole { soa: snapshot.soa(), snapshot: snapshot.clone() }
    }
}

/// Whether a difference has more records than the whole zone.
fn exceeds(condensed: &Condensed, snapshot: &Snapshot) -> bool {
    let records = condensed.len();
    // Most names have a record or more; only a large difference is worth counting them.
    records > snapshot.len() && {
        let count = |node: &Arc<Node>| node.rrsets().map(|rrset| usize::from(rrset.count())).sum::<usize>();
        records > snapshot.nodes().map(count).sum()
    }
}

/// Nodes that are touched before the first of them is encoded. A whole zone is read in the order of hashes, so that nearly
/// each node comes from memory; more than this many a processor doesn't wait for at once.
const AHEAD: usize = 32;

/// Octets up to which a message is filled, OPT and TSIG aside: as far as a compression pointer reaches (RFC 1035 §4.1.4), as
/// with other servers. Names beyond it could be pointed to by none: a longer message takes more octets a record, and its
/// client four times the memory.
pub const PACKED: usize = 16 << 10;

/// A transfer under way.
#[derive(Debug)]
pub struct Outgoing {
    reply: Reply,
    question: Box<[u8]>,
    encoder: Option<Box<Encoder>>,
    body: Body,
    at: Place,
}

/// The record that is sent next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The SOA record that everything begins with.
    First,
    /// In a difference: the SOA record of the version before.
    Before,
    /// A record that goes.
    Removed(usize),
    /// In a difference: the SOA record of the version after.
    After,
    /// A record that comes.
    Added(usize),
    /// A record of a node: by number of its RRset, and in that.
    Node(Position, usize, usize),
    /// The SOA record that everything but a single one ends with.
    Last,
    End,
}

/// Records of one message, and no room for more in it.
struct Full;

impl Outgoing {
    /// A transfer that answers a question for the apex.
    pub fn new(reply: Reply, question: &[u8], body: Body) -> Outgoing {
        Outgoing { reply, question: question.into(), encoder: None, body, at: Place::First }
    }

    /// The zone.
    pub fn origin(&self) -> &Name {
        &self.body.soa().owner
    }

    /// The serial that it leads to.
    pub fn serial(&self) -> Serial {
        serial_of(self.body.soa())
    }

    /// What is sent, in a word.
    pub fn form(&self) -> &'static str {
        match self.body {
            Body::Current(_) => "current",
            Body::Whole { .. } => "whole",
            Body::Changes(_) => "changes",
        }
    }

    /// Whether everything is sent.
    pub fn is_whole(&self) -> bool {
        matches!(self.body, Body::Whole { .. })
    }

    /// Puts the next message into `out`. False once it was the last.
    ///
    /// A record that fits no message would come up for ever: the transfer ends before it, without the SOA record that a whole
    /// one ends with, and so counts for nothing. RRsets are bounded to what fits ([`zone::room`](crate::zone::room)).
    pub fn message(&mut self, now: Wall, out: &mut Vec<u8>) -> bool {
        let count = self.fill(now, out);
        self.at != Place::End && count > 0
    }

    /// Puts what fits into `out`, and returns how many records those are.
    fn fill(&mut self, now: Wall, out: &mut Vec<u8>) -> u16 {
        // One for all messages, whose room it keeps.
        let mut encoder = self.encoder.take().unwrap_or_else(|| Box::new(Encoder::after_question(self.origin())));
        encoder.restart();
        let (mut count, limit) = (0, self.reply.limit());
        while self.at != Place::End && self.write(&mut encoder, limit.min(PACKED), &mut count).is_ok() {}
        if count == 0 && limit > PACKED {
            // A record that is larger has a message to itself.
            let _ = self.write(&mut encoder, limit, &mut count);
        }
        self.reply.begin(&self.question, out);
        out.extend_from_slice(encoder.tail());
        self.encoder = Some(encoder);
        let counts = Counts { answers: count, ..Counts::default() };
        self.reply.finish_next(counts, now, out);
        count
    }

    /// Puts all of it into `out`, if it fits.
    fn fill_all(mut self, now: Wall, out: &mut Vec<u8>) -> bool {
        self.fill(now, out);
        self.at == Place::End
    }

    /// The whole answer as one message, if it fits; else the SOA record alone, which tells a client to ask again over TCP
    /// (RFC 1995 §2).
    pub fn only_message(self, now: Wall, out: &mut Vec<u8>) {
        let (reply, question) = (self.reply.clone(), self.question.clone());
        let current = Body::Current(self.body.soa().clone());
        if !self.fill_all(now, out) && !Outgoing::new(reply.clone(), &question, current).fill_all(now, out) {
            // Long names in a short datagram.
            reply.begin(&question, out);
            reply.finish(Rcode::NOERROR, true, true, Counts::default(), now, out);
        }
    }

    /// Writes what comes next, and moves on.
    fn write(&mut self, encoder: &mut Encoder, limit: usize, count: &mut u16) -> Result<(), Full> {
        let mut put = |record: &Record| {
            let written = encoder.try_record(record.owner.as_wire(), record.rtype, record.ttl, &record.rdata, limit);
            *count += u16::from(written);
            if written { Ok(()) } else { Err(Full) }
        };
        match &self.body {
            Body::Current(soa) => {
                put(soa)?;
                self.at = Place::End;
            }
            Body::Changes(condensed) => {
                self.at = match self.at {
                    Place::First => put(condensed.to()).map(|()| Place::Before)?,
                    Place::Before => put(condensed.from()).map(|()| Place::Removed(0))?,
                    Place::Removed(at) => match condensed.removed(at) {
                        Some(record) => put(record).map(|()| Place::Removed(at + 1))?,
                        None => Place::After,
                    },
                    Place::After => put(condensed.to()).map(|()| Place::Added(0))?,
                    Place::Added(at) => match condensed.added(at) {
                        Some(record) => put(record).map(|()| Place::Added(at + 1))?,
                        None => Place::Last,
                    },
                    Place::Node(..) | Place::Last | Place::End => put(condensed.to()).map(|()| Place::End)?,
                };
            }
            Body::Whole { soa, snapshot } => {
                let start = match self.at {
                    Place::First => {
                        put(soa)?;
                        (Position::default(), 0, 0)
                    }
                    Place::Node(node, rrset, record) => (node, rrset, record),
                    _ => {
                        put(soa)?;
                        self.at = Place::End;
                        return Ok(());
                    }
                };
                self.at = write_nodes(encoder, snapshot, start, limit, count);
                if self.at != Place::Last {
                    return Err(Full);
                }
            }
        }
        Ok(())
    }
}

/// [`Encoder::try_record`], or for further records of one owner [`Encoder::try_further_record`].
type WriteRecord = fn(&mut Encoder, &[u8], RecordType, Ttl, &[u8], usize) -> bool;

/// Writes the records of a zone from a place on, as many as fit; returns the place of the next one.
fn write_nodes(
    encoder: &mut Encoder,
    snapshot: &Snapshot,
    start: (Position, usize, usize),
    limit: usize,
    count: &mut u16,
) -> Place {
    let (first, mut skip_sets, mut skip_records) = start;
    let mut nodes = snapshot.nodes_from(first);
    let mut ahead = [None; AHEAD];
    loop {
        ahead.fill_with(|| nodes.next());
        ahead.iter().flatten().for_each(|(_, node)| node.touch());
        for next in ahead {
            let Some((position, node)) = next else { return Place::Last };
            let mut write: WriteRecord = Encoder::try_record;
            for (number, rrset) in node.rrsets().enumerate().skip(std::mem::take(&mut skip_sets)) {
                for (at, rdata) in rrset.rdatas().enumerate().skip(std::mem::take(&mut skip_records)) {
                    if !write(encoder, node.name().as_wire(), rrset.rtype, rrset.ttl, rdata, limit) {
                        return Place::Node(position, number, at);
                    }
                    write = Encoder::try_further_record;
                    *count += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
