//! The writer of master files: a whole zone as text that name servers load.
//!
//! One record a line, every name absolute, in canonical order behind the SOA (RFC 4034 §6.1), so that equal zones are
//! equal text. Data without a text of their own are written as octets (RFC 3597 §5).

use std::io::{self, Write};
use std::sync::Arc;

use crate::zone::records::text::present;
use crate::zone::{Node, Record, Snapshot};

/// The text of a zone in pieces of some [`CHUNK_OCTETS`], each made when it is asked for, so that whoever passes it on to
/// a slow reader needs no memory for the whole. All of it is of one snapshot.
#[derive(Debug)]
pub struct Chunks {
    /// The SOA record, until it is written.
    soa: Option<Record>,
    nodes: std::vec::IntoIter<Arc<Node>>,
}

/// What a piece has at the least, but for the last one: few writes for a large zone. It ends with a name, so that it can
/// have as much more as one name has text.
pub const CHUNK_OCTETS: usize = 64 << 10;

impl Chunks {
    /// The zone's text. Cost: a sort of the names.
    pub fn of(snapshot: &Snapshot) -> Chunks {
        let mut nodes: Vec<Arc<Node>> = snapshot.nodes().filter(|node| !node.is_empty()).cloned().collect();
        nodes.sort_by(|a, b| a.name().canonical_cmp(b.name()));
        Chunks { soa: Some(snapshot.soa()), nodes: nodes.into_iter() }
    }
}

impl Iterator for Chunks {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut text = self.soa.take().map_or_else(String::new, |soa| line(&soa));
        while text.len() < CHUNK_OCTETS
            && let Some(node) = self.nodes.next()
        {
            for record in node.rrsets().flat_map(|rrset| rrset.records(node.name())) {
                text.push_str(&line(&record));
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

/// Writes a zone.
pub fn write(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    Chunks::of(snapshot).try_for_each(|chunk| out.write_all(chunk.as_bytes()))
}

/// A record as a line of a master file.
fn line(record: &Record) -> String {
    format!("{}\n", record_text(record))
}

/// A record as people write it: owner, TTL, class, type and data.
pub fn record_text(record: &Record) -> String {
    let Record { owner, rtype, ttl, rdata } = record;
    format!("{owner} {ttl} IN {rtype} {}", present(*rtype, rdata))
}
