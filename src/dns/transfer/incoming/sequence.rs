//! Which record may follow which: the grammar of the stream, driven by its SOA records.

use std::mem;

use crate::base::Serial;
use crate::dns::soa;
use crate::zone::{Delta, Record};

use super::collect::{self, Collected, Owners};
use super::{Asked, Difference, TransferError, Transferred, WholeZone};

/// Where in the stream we are.
#[derive(Debug)]
pub(super) enum Sequence {
    /// Before everything.
    Start,
    /// Behind the SOA record that is the last one too.
    First(Record),
    /// Among the records of a zone.
    Whole { soa: Record, records: Vec<Collected> },
    /// Among the records that went.
    Removing { chain: Chain, from: Record, removed: Vec<Collected> },
    /// Among the records that came.
    Adding { chain: Chain, from: Record, removed: Vec<Record>, to: Record, added: Vec<Collected> },
    /// Behind everything, or behind an error.
    Ended,
}

/// The differences so far, and where they lead.
#[derive(Debug)]
pub(super) struct Chain {
    soa: Record,
    differences: Vec<Difference>,
}

/// The serial of a SOA record whose data were read from a message.
pub(super) fn serial(soa: &Record) -> Serial {
    soa::serial(&soa.rdata).expect("the reader checks the length of SOA data")
}

impl Sequence {
    /// A record that is no SOA record, behind the first one.
    pub(super) fn push(&mut self, record: Collected) {
        if let Sequence::First(_) = self
            && let Sequence::First(soa) = mem::replace(self, Sequence::Ended)
        {
            // RFC 1995 §4: behind the first SOA record, another record tells that the whole zone follows.
            *self = Sequence::Whole { soa, records: Vec::new() };
        }
        match self {
            Sequence::Whole { records, .. }
            | Sequence::Removing { removed: records, .. }
            | Sequence::Adding { added: records, .. } => records.push(record),
            Sequence::Start | Sequence::First(_) | Sequence::Ended => {
                unreachable!("the caller lets nothing in before the first SOA record, nor behind the last one")
            }
        }
    }

    /// A SOA record of the apex.
    pub(super) fn soa(
        &mut self,
        soa: Record,
        asked: Asked,
        owners: &Owners,
    ) -> Result<Option<Transferred>, TransferError> {
        *self = match mem::replace(self, Sequence::Ended) {
            Sequence::Start => Sequence::First(soa),
            Sequence::First(first) => match asked {
                Asked::Ixfr { serial: ours } if serial(&soa) != serial(&first) => {
                    // RFC 1995 §4: a SOA record with another serial begins a difference.
                    forward(ours, serial(&first))?;
                    Chain { soa: first, differences: Vec::new() }.begin(ours, soa)?
                }
                _ => return whole(first, Vec::new(), &soa, owners).map(Some),
            },
            Sequence::Whole { soa: first, records } => return whole(first, records, &soa, owners).map(Some),
            Sequence::Removing { chain, from, removed } => {
                forward(serial(&from), serial(&soa))?;
                let removed = collect::records(removed, owners)?;
                Sequence::Adding { chain, from, removed, to: soa, added: Vec::new() }
            }
            Sequence::Adding { mut chain, from, removed, to, added } => {
                let reached = serial(&to);
                let added = collect::records(added, owners)?;
                if reached == serial(&chain.soa) {
                    same(&chain.soa, &to)?;
                    same(&chain.soa, &soa)?;
                    chain.differences.push(Difference { from, to, delta: Delta { removed, added } });
                    return Ok(Some(Transferred::Changes(chain.differences)));
                }
                chain.differences.push(Difference { from, to, delta: Delta { removed, added } });
                chain.begin(reached, soa)?
            }
            Sequence::Ended => return Err(TransferError::AfterEnd),
        };
        Ok(None)
    }
}

impl Chain {
    /// The next difference, which must begin where the one before has ended, the first one with what we have.
    fn begin(self, at: Serial, from: Record) -> Result<Sequence, TransferError> {
        if serial(&from) != at {
            return Err(TransferError::Broken { expected: at, found: serial(&from) });
        }
        Ok(Sequence::Removing { chain: self, from, removed: Vec::new() })
    }
}

fn whole(soa: Record, records: Vec<Collected>, last: &Record, owners: &Owners) -> Result<Transferred, TransferError> {
    same(&soa, last)?;
    Ok(Transferred::Whole(WholeZone { soa, nodes: collect::nodes(records, owners)? }))
}

/// RFC 5936 §2.2, RFC 1995 §4: a transfer ends with the SOA record that it began with. Their TTL is not compared.
fn same(first: &Record, last: &Record) -> Result<(), TransferError> {
    if first.rdata == last.rdata {
        return Ok(());
    }
    Err(TransferError::SoaChanged { first: serial(first), last: serial(last) })
}

/// A later version has a serial that comes after that of an earlier one (RFC 1982 §3.2).
fn forward(from: Serial, to: Serial) -> Result<(), TransferError> {
    if from < to { Ok(()) } else { Err(TransferError::Backwards { from, to }) }
}
