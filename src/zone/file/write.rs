//! The writer of master files: a whole zone as text that name servers load.
//!
//! One record a line, every name absolute, in canonical order behind the SOA (RFC 4034 §6.1), so that equal zones are
//! equal text. Data without a text of their own are written as octets (RFC 3597 §5).

use std::io::{self, Write};

use crate::zone::records::text::present;
use crate::zone::{Node, Record, Snapshot};

/// Writes a zone.
///
/// Cost: a sort of the names.
pub fn write(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    line(&snapshot.soa(), out)?;
    let mut nodes: Vec<&Node> = snapshot.nodes().map(AsRef::as_ref).filter(|node| !node.is_empty()).collect();
    nodes.sort_by(|a, b| a.name().canonical_cmp(b.name()));
    for node in nodes {
        for rrset in node.rrsets() {
            for record in rrset.records(node.name()) {
                line(&record, out)?;
            }
        }
    }
    Ok(())
}

fn line(record: &Record, out: &mut impl Write) -> io::Result<()> {
    let Record { owner, rtype, ttl, rdata } = record;
    writeln!(out, "{owner} {ttl} IN {rtype} {}", present(*rtype, rdata))
}
