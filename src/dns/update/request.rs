//! An update message, read.
//!
//! What the order of RFC 2136 §3 reports later is kept until then: a broken prerequisite or change doesn't hide the result
//! of an earlier prerequisite.

use std::hash::{BuildHasher, Hash};
use std::net::SocketAddr;
use std::sync::LazyLock;

use foldhash::fast::RandomState;

use crate::answer::Counts;
use crate::base::limits::UPDATE_RECORDS;
use crate::base::{Limit, Name, RecordType, Wall};
use crate::dns::edns::ExtendedError;
use crate::dns::reply::{Reply, Seal, Transport};
use crate::dns::respond::Context;
use crate::dns::tsig::{Signature, TsigError};
use crate::dns::wire::{CLASS_ANY, CLASS_IN, CLASS_NONE, Envelope, RawRecord, Rcode};
use crate::membership::{Digest, Identity, Stamp, UpdateAccess};
use crate::zone::Rdata;

use super::renewal::Candidate;
use super::{Refusal, RefusedReply};

/// One prerequisite (RFC 2136 §2.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prerequisite {
    /// The name has a record (§2.4.4).
    NameInUse(Name),
    /// The name has none (§2.4.5).
    NameNotInUse(Name),
    /// The RRset exists (§2.4.1).
    RrsetExists(Name, RecordType),
    /// The RRset doesn't exist (§2.4.3).
    RrsetDoesNotExist(Name, RecordType),
    /// One record of an RRset that must exist with just the records listed (§2.4.2).
    RrsetEquals(Name, RecordType, Rdata),
}

/// One change (RFC 2136 §2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Instruction {
    /// Add a record (§2.5.1).
    Add(Name, RecordType, u32, Rdata),
    /// Delete an RRset (§2.5.2).
    DeleteRrset(Name, RecordType),
    /// Delete all RRsets of a name (§2.5.3).
    DeleteName(Name),
    /// Delete a record (§2.5.4).
    DeleteRecord(Name, RecordType, Rdata),
}

/// What tells a message from every other, and is the same for its retransmissions: a hash over its octets and its sender.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MessageId(u64, u64);

/// Seeded once a process, so that nobody can make two messages with the same id.
static HASHERS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);

/// An update on its way to the publisher of its zone, with all that its reply needs.
#[derive(Debug)]
pub struct Request {
    /// The zone.
    pub zone: Name,
    /// Who sent it.
    pub identity: Identity,
    /// Where the reply goes.
    pub peer: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// The mark against replays, of a signed one.
    pub stamp: Option<Stamp>,
    /// What its retransmissions are told by.
    pub id: MessageId,
    /// What the same message is told by when it comes again as a heartbeat, if it has that form.
    pub renewal: Option<Digest>,
    /// The prerequisites in order, each as far as it could be read.
    pub prerequisites: Vec<Result<Prerequisite, Refusal>>,
    /// The changes in order, unless one of them is malformed.
    pub instructions: Result<Vec<Instruction>, Refusal>,
    /// The lease asked for, and the key lease.
    pub lease: Option<(u32, Option<u32>)>,
    question: Box<[u8]>,
    reply: Reply,
}

/// What became of an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Carried out. The leases granted, if the request asked for some.
    Done(Option<(u32, Option<u32>)>),
    /// The same, and something to be told with it, for people.
    Noted(Option<(u32, Option<u32>)>, String),
    /// Not carried out.
    Refused(Refusal),
    /// Signed before what was accepted last: BADTIME.
    Replayed,
}

impl Request {
    /// Reads an update whose signature, if any, is right (`key`). `reply` is how it will be answered.
    pub fn read(
        context: &Context<'_>,
        envelope: &Envelope<'_>,
        key: Option<Name>,
        reply: Reply,
    ) -> Result<Request, Box<RefusedReply>> {
        let refuse = |refusal, reply| Err(Box::new(RefusedReply { reply, refusal }));
        let question = &envelope.question;
        // RFC 2136 §3.1.1: one zone, of type SOA; and it must be ours exactly.
        if question.qtype != RecordType::SOA {
            return refuse(Refusal::malformed("the zone section must have type SOA"), reply);
        }
        if question.class != CLASS_IN || context.zones.find(question.name()).is_none() {
            let text = "the zone section must name a zone of this server exactly";
            return refuse(Refusal::explained(Rcode::NOTAUTH, ExtendedError::NOT_AUTHORITATIVE, text), reply);
        }
        let records = usize::from(envelope.header.counts[1]) + usize::from(envelope.header.counts[2]);
        if records > UPDATE_RECORDS {
            let text = format!("an update may have {UPDATE_RECORDS} records; split it");
            return refuse(Refusal::invalid(text).at(Limit::UpdateRecords), reply);
        }
        let zone = Name::from_wire(question.name()).expect("the envelope has read it as a name");
        let prerequisites = envelope.first_section().map(|record| read_prerequisite(&record, &zone)).collect();
        let instructions = envelope.second_section().map(|record| read_instruction(&record, &zone)).collect();
        let connected = context.transport != Transport::Udp;
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            envelope.packet.hash(&mut hasher);
            // A signature makes a message one of its kind, wherever it comes from; an unsigned one is told by its sender.
            if key.is_none() {
                context.peer.hash(&mut hasher);
            }
            std::hash::Hasher::finish(&hasher)
        };
        let renewal = Candidate::read(envelope.packet).map(|message| message.digest(context.peer.ip(), connected));
        Ok(Request {
            zone,
            renewal,
            peer: context.peer,
            transport: context.transport,
            stamp: envelope.tsig.as_ref().map(Signature::stamp),
            id: MessageId(hash(&HASHERS.0), hash(&HASHERS.1)),
            identity: Identity { key, address: context.peer.ip(), connected },
            prerequisites,
            instructions,
            lease: envelope.edns.and_then(|edns| edns.lease),
            question: question.octets.into(),
            reply,
        })
    }

    /// The refusal of a requester that no access entry admits.
    pub fn refused_by(&self, access: &UpdateAccess) -> Option<Verdict> {
        access.grant(&self.identity).is_none().then(|| Verdict::Refused(super::execute::nobody_admits(self)))
    }

    /// Writes the reply to a verdict.
    pub fn reply(&self, verdict: &Verdict, now: Wall, out: &mut Vec<u8>) {
        let mut reply = self.reply.clone();
        let rcode = match verdict {
            Verdict::Done(lease) | Verdict::Noted(lease, _) => {
                if let Some(edns) = &mut reply.edns {
                    edns.lease = *lease;
                }
                if let Verdict::Noted(_, text) = verdict {
                    // RFC 8914 §3: also with NOERROR.
                    reply.explain(ExtendedError::new(ExtendedError::OTHER, text));
                }
                Rcode::NOERROR
            }
            Verdict::Refused(refusal) => {
                if let Some(error) = &refusal.error {
                    reply.explain(error.clone());
                }
                refusal.rcode
            }
            Verdict::Replayed => {
                if let Seal::Sign(_, error) = &mut reply.seal {
                    *error = Some(TsigError::BadTime);
                }
                Rcode::NOTAUTH
            }
        };
        reply.begin(&self.question, out);
        reply.finish(rcode, false, false, Counts::default(), now, out);
    }
}

fn name_in(record: &RawRecord<'_>, zone: &Name) -> Result<Name, Refusal> {
    let name = record.name().map_err(|malformed| Refusal::malformed(malformed.0))?;
    if name.is_within(zone) { Ok(name) } else { Err(Refusal::outside(&name)) }
}

/// RFC 2136 §3.2.5.
fn read_prerequisite(record: &RawRecord<'_>, zone: &Name) -> Result<Prerequisite, Refusal> {
    if record.ttl != 0 {
        return Err(Refusal::malformed("a prerequisite must have TTL 0"));
    }
    let name = name_in(record, zone)?;
    let any = record.rtype == RecordType::ANY;
    let empty = record.raw_rdata().is_empty();
    match record.class {
        CLASS_ANY | CLASS_NONE if !empty => Err(Refusal::malformed("this prerequisite must have no data")),
        CLASS_ANY if any => Ok(Prerequisite::NameInUse(name)),
        CLASS_ANY => Ok(Prerequisite::RrsetExists(name, record.rtype)),
        CLASS_NONE if any => Ok(Prerequisite::NameNotInUse(name)),
        CLASS_NONE => Ok(Prerequisite::RrsetDoesNotExist(name, record.rtype)),
        CLASS_IN if record.rtype.is_meta() => Err(Refusal::malformed("this prerequisite needs a data type")),
        CLASS_IN => {
            let rdata = record.rdata().map_err(|malformed| Refusal::malformed(malformed.0))?;
            Ok(Prerequisite::RrsetEquals(name, record.rtype, rdata))
        }
        _ => Err(Refusal::malformed("a prerequisite has an unknown class")),
    }
}

/// RFC 2136 §3.4.1.3.
fn read_instruction(record: &RawRecord<'_>, zone: &Name) -> Result<Instruction, Refusal> {
    let name = name_in(record, zone)?;
    let any = record.rtype == RecordType::ANY;
    let rdata = || record.rdata().map_err(|malformed| Refusal::malformed(malformed.0));
    match record.class {
        CLASS_IN if record.rtype.is_meta() => Err(Refusal::malformed("only data types can be added")),
        CLASS_IN => Ok(Instruction::Add(name, record.rtype, record.ttl, rdata()?)),
        CLASS_ANY | CLASS_NONE if record.ttl != 0 => Err(Refusal::malformed("a deletion must have TTL 0")),
        CLASS_ANY if !record.raw_rdata().is_empty() => {
            Err(Refusal::malformed("the deletion of an RRset must have no data"))
        }
        CLASS_ANY if any => Ok(Instruction::DeleteName(name)),
        CLASS_ANY | CLASS_NONE if record.rtype.is_meta() => Err(Refusal::malformed("only data types can be deleted")),
        CLASS_ANY => Ok(Instruction::DeleteRrset(name, record.rtype)),
        CLASS_NONE => Ok(Instruction::DeleteRecord(name, record.rtype, rdata()?)),
        _ => Err(Refusal::malformed("a change has an unknown class")),
    }
}

/// The lease option of the reply: the form of the request, with what was granted (RFC 9664 §4).
pub fn granted(asked: Option<(u32, Option<u32>)>, grant: impl Fn(u32) -> u32) -> Option<(u32, Option<u32>)> {
    asked.map(|(lease, key_lease)| (grant(lease), key_lease.map(&grant)))
}
