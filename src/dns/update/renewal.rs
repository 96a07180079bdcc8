//! Heartbeats, counted and answered by whoever received them.
//!
//! A heartbeat is the update that registered its member, octet for octet, but for its id and its TSIG record. So nothing
//! of it has to be understood: when the publisher has carried out a message and all that came of it was the renewal of one
//! member's lease, it notes the digest of the message for that lease ([`crate::membership::renewals`]), and [`renew`] finds
//! it there. The signature is verified as ever, the requester must be one that the zone's access admits, and the cell
//! decides whether the heartbeat counts. Whatever is not plainly so goes to the publisher: the general way.
//!
//! What a message comes to depends on more than its member. [`of_member`] says which messages are noted: those whose
//! outcome can change only by an edit of the member, by one of what shares a name with it ([`names_of`]), by one that makes
//! a service known, or by the configuration; and each of these voids the note.
//!
//! The digest covers the sender's address, and whether a handshake proved it, since access entries may ask for both. The
//! reply is made by [`Reply`] like every other, so that the two ways give the same octets.
//!
//! Only datagrams are for this: the updates of a connection are carried out in their order, and a heartbeat behind one that
//! waits would overtake it. Over UDP their order is nobody's.
//!
//! Cost, as callgrind counts it from the handler on, for a member with an address and metadata: 2,900 instructions
//! unsigned; signed with hmac-sha256, 6,300 and what SHA-256 takes for both MACs. Nothing is allocated if `out` has room.

use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use foldhash::fast::RandomState;

use crate::answer::Counts;
use crate::base::limits::UPDATE_RECORDS;
use crate::base::{Name, Now, RecordType};
use crate::dns::edns::Edns;
use crate::dns::reply::{Reply, Transport};
use crate::dns::tsig::{self, Keys, Signature, Verified};
use crate::dns::wire::{Header, Opcode, RawRecord, Rcode};
use crate::membership::{Beat, Digest, Item, Member, Renewals, State, UpdateAccess};
use crate::zone::layout::{instance_name, is_service_name};
use crate::zone::registration::Outcome;
use crate::zone::{Contents, Layout};

use super::execute::Rules;
use super::request::{Instruction, Request};

/// Seeded once a process, so that nobody can tell which two messages would have the same digest.
static HASHERS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);

/// An update in the form of a heartbeat: no prerequisites, an OPT record with nothing but a lease or none, and a TSIG
/// record or none. What else it says was not looked at.
#[derive(Clone, Debug)]
pub struct Candidate<'m> {
    packet: &'m [u8],
    header: Header,
    /// Where the zone section ends.
    question_end: usize,
    /// Where the TSIG record starts, or the message ends.
    end: usize,
    edns: Option<Edns<'m>>,
    signature: Option<Signature<'m>>,
}

impl<'m> Candidate<'m> {
    /// Walks a message; `None` if it has another form.
    pub fn read(packet: &'m [u8]) -> Option<Candidate<'m>> {
        let header = Header::read(packet)?;
        let [questions, prerequisites, changes, additional] = header.counts;
        let has_form = header.opcode() == Opcode::UPDATE
            && !header.is_response()
            && (questions, prerequisites) == (1, 0)
            && (1..=UPDATE_RECORDS).contains(&usize::from(changes))
            && additional <= 2;
        if !has_form {
            return None;
        }
        let question_end = skip_owner(packet, 12)? + 4;
        if packet.get(question_end - 4..question_end)? != [0, 6, 0, 1] {
            return None;
        }
        let mut at = question_end;
        for _ in 0..changes {
            at = skip_record(packet, at)?;
        }
        let (mut edns, mut signature, mut end) = (None, None, packet.len());
        for number in 0..additional {
            let (record, next) = RawRecord::read(packet, at).ok()?;
            match record.rtype {
                RecordType::OPT if edns.is_none() && packet[at] == 0 => edns = Some(read_plain(&record)?),
                RecordType::TSIG if number + 1 == additional => {
                    signature = Some(Signature::read(&record).ok()?);
                    end = at;
                }
                _ => return None,
            }
            at = next;
        }
        (at == packet.len()).then_some(Candidate { packet, header, question_end, end, edns, signature })
    }

    /// The zone's name as it was sent.
    pub fn zone(&self) -> &'m [u8] {
        &self.packet[12..self.question_end - 4]
    }

    /// What the message says, and who says it: the octets behind the id as they were before it was signed, the key, the
    /// sender's address and whether that was proven.
    pub fn digest(&self, sender: IpAddr, connected: bool) -> Digest {
        let mut head = [0; 10];
        head.copy_from_slice(&self.packet[2..12]);
        if self.signature.is_some() {
            head[9] -= 1; // there are two additional records at most
        }
        let sender = match sender {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(&head);
            // Its end is told by its own counts and lengths, so that the key's name can't pass for a part of it.
            hasher.write(&self.packet[12..self.end]);
            hasher.write(self.signature.as_ref().map_or(&[], Signature::key));
            hasher.write_u128(sender.to_bits());
            hasher.write_u8(connected.into());
            hasher.finish()
        };
        Digest::new(hash(&HASHERS.0), hash(&HASHERS.1))
    }
}

/// Where a record's owner ends. Its labels are not looked at: what is found by its digest was read before, as a whole.
fn skip_owner(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += usize::from(len) + 1,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn skip_record(packet: &[u8], at: usize) -> Option<usize> {
    let fixed = skip_owner(packet, at)?;
    let length = packet.get(fixed + 8..fixed + 10)?;
    Some(fixed + 10 + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

/// An OPT record that asks for nothing but a lease, if for anything.
fn read_plain<'m>(record: &RawRecord<'m>) -> Option<Edns<'m>> {
    let edns = Edns::read(record.class, record.ttl, record.raw_rdata()).ok()?;
    let expected = match edns.lease {
        None => 0,
        Some((0, _)) => return None,
        Some((_, None)) => 8,
        Some((_, Some(_))) => 12,
    };
    (edns.version == 0 && edns.options().len() == expected).then_some(edns)
}

/// What a heartbeat meets.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What is noted in its zone.
    pub renewals: &'a Renewals,
    /// Who may update the zone at all.
    pub access: &'a UpdateAccess,
    /// The TSIG keys.
    pub keys: &'a Keys,
    /// The largest UDP answer.
    pub udp_size: u16,
    /// Where the message came from.
    pub peer: SocketAddr,
    /// How.
    pub transport: Transport,
    /// The time.
    pub now: Now,
}

/// What became of a message that may be a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InPlace {
    /// The lease runs anew, and the reply is written.
    Answered,
    /// Its source sends too much: it is dropped.
    Dropped,
    /// It is to go the general way. An unsigned one whose lease is somebody else's by now was held against the rate of its
    /// source already, and will be once more.
    General,
}

/// Counts and answers a heartbeat that the publisher has noted. `admit` holds an unsigned one against the rate of its
/// source.
pub fn renew(
    candidate: &Candidate<'_>,
    place: &Place<'_>,
    admit: &mut dyn FnMut() -> bool,
    out: &mut Vec<u8>,
) -> InPlace {
    let Place { renewals, access, keys, peer, now, .. } = *place;
    let connected = place.transport != Transport::Udp;
    let Some(noted) = renewals.find(candidate.digest(peer.ip(), connected)) else { return InPlace::General };
    let verified = match candidate.signature.as_ref() {
        None => None,
        Some(signature) => match tsig::check(candidate.packet, signature, keys, now.wall) {
            Ok(verified) => Some(verified),
            Err(_) => return InPlace::General, // which says why
        },
    };
    let key = verified.as_ref().map(Verified::key_name);
    let reply = Reply::new(candidate.header, candidate.edns.as_ref(), place.transport, place.udp_size);
    let asked = candidate.edns.and_then(|edns| edns.lease);
    let question = &candidate.packet[12..candidate.question_end];
    if !access.admits(key, peer.ip(), connected) || !has_room(&reply, question, asked, verified.as_ref()) {
        return InPlace::General;
    }
    if verified.is_none() && !admit() {
        return InPlace::Dropped;
    }
    let stamp = candidate.signature.as_ref().map(Signature::stamp);
    // A message that comes again gets its answer again.
    let (Beat::Renewed(lease) | Beat::Repeat(lease)) = renewals.beat(noted, now.mono, stamp) else {
        return InPlace::General;
    };
    let mut reply = reply;
    if let Some(edns) = &mut reply.edns {
        edns.lease = asked.map(|(_, key_lease)| (lease.0, key_lease.map(|_| lease.0)));
    }
    reply.begin(question, out);
    reply.finish(Rcode::NOERROR, false, false, Counts::default(), now.wall, out);
    if let Some(verified) = verified {
        verified.sign(out, now.wall);
    }
    InPlace::Answered
}

/// Whether the reply is one that need not be cut, as a datagram may have to be.
fn has_room(
    reply: &Reply,
    question: &[u8],
    asked: Option<(u32, Option<u32>)>,
    verified: Option<&Verified<'_>>,
) -> bool {
    let lease = asked.map_or(0, |(_, key_lease)| if key_lease.is_some() { 12 } else { 8 });
    12 + question.len() + lease + verified.map_or(0, Verified::len) <= reply.limit()
}

/// A member whose lease is all that a message moves, and will move as long as nothing changes that voids the note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Whether the outcome depends on which services there are: addresses for a name that is nobody's own are refused
    /// where a service has it.
    pub minds_services: bool,
}

/// Whether a message that has come to this may be counted in place the next time.
///
/// It consists of the SRV record of one member that is up, addresses for that record's target, and the member's metadata.
/// Such additions look at what is registered under the target, under the member's own host name and under its instance
/// name, and at nothing else that is registered; the first two are where other members could get, or stand against, the
/// addresses, and where an alias would stand against the member.
pub fn of_member(
    request: &Request,
    outcome: &Outcome,
    member: &Member,
    contents: &Contents,
    rules: &Rules,
) -> Option<Heartbeat> {
    let alone = outcome.puts.is_empty() && outcome.removals.is_empty() && outcome.renewals.len() == 1;
    let lease = member.lease.0;
    let granted = match outcome.granted {
        None => true,
        Some((granted, key_lease)) => granted == lease && key_lease.is_none_or(|granted| granted == lease),
    };
    if !alone || !granted || member.state != State::Up || !request.prerequisites.is_empty() {
        return None;
    }
    let target = &member.registration.target;
    // With `peer-address`, what a member without addresses gets is decided by what else has its target.
    if rules.peer_address && member.registration.addresses.is_empty() && target.is_within(&request.zone) {
        return None;
    }
    let instance = instance_name(&member.service, &member.id)?;
    let (mut registers, mut addressed) = (0, false);
    for instruction in request.instructions.as_ref().ok()? {
        let Instruction::Add(name, rtype, ..) = instruction else { return None };
        match *rtype {
            RecordType::SRV if *name == member.service && is_service_name(name, &request.zone) => registers += 1,
            RecordType::A | RecordType::AAAA if name == target => addressed = true,
            RecordType::TXT if *name == instance => {}
            _ => return None,
        }
    }
    let host = contents.layout(&member.service)?.member_host(&member.id);
    (registers == 1).then(|| Heartbeat { minds_services: addressed && host.as_ref() != Some(target) })
}

/// The names of an item, under which heartbeats of others look: whoever changes the item voids what is noted of members
/// that have one of them as their target, own host name or instance name.
pub fn names_of(item: &Item, layout: impl FnOnce(&Name) -> Option<Layout>) -> Vec<Name> {
    match item {
        Item::Member(member) => {
            let host = layout(&member.service).and_then(|layout| layout.member_host(&member.id));
            let instance = instance_name(&member.service, &member.id);
            let target = member.registration.target.clone();
            let own = host.filter(|host| *host != target);
            own.into_iter().chain(instance).chain([target]).collect()
        }
        Item::Leased(record) => vec![record.name.clone()],
        Item::Held(held) => vec![held.host.clone()],
    }
}
