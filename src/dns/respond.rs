//! From bytes to bytes: what every transport calls for every message.
//!
//! Queries are answered here, from the precompiled answers of one snapshot. An update is checked as a message, and its
//! signature verified; it then goes to the publisher of its zone as an [`update::Request`] that carries all that its reply
//! needs. One reply at most, and never one to a response. Replies over UDP to addresses that may be forged are within a rate
//! ([`super::rate`]).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;

use crate::answer::{Answers, Counts, End};
use crate::base::{Limit, Monotonic, Name, NameMap, RecordType, Ttl, Wall};
use crate::membership::access::TransferAccess;
use crate::zone::History;
use crate::zone::figures::Figures;

use super::cookie::Cookies;
use super::edns::{Edns, ExtendedError};
use super::identity;
use super::rate::{Admission, Rate};
use super::reply::{Reply, Seal, Transport};
use super::transfer::outgoing::Outgoing;
use super::tsig::{self, Keys, Rejection};
use super::update;
use super::wire::{CLASS_CH, CLASS_IN, Envelope, Header, Opcode, Rcode};

mod copies;

use copies::{forward, notified, tell_expire, transfer};

/// A zone as the transports see it.
#[derive(Debug)]
pub struct ServedZone {
    /// The apex.
    pub origin: Name,
    /// The current answers; none while the zone could not be loaded, which is SERVFAIL.
    pub answers: ArcSwapOption<Answers>,
    /// Who may query; none: everyone. A reload replaces it.
    pub query: ArcSwapOption<Vec<IpNet>>,
    /// Who may transfer the zone. A reload replaces it.
    pub transfer: ArcSwap<TransferAccess>,
    /// Where it comes from, if it is a copy. A reload replaces it.
    pub source: ArcSwapOption<Source>,
    /// Of a copy: until when it is good, if there is one.
    pub expires: ArcSwapOption<Wall>,
    /// The commits that led to the answers, and perhaps beyond: a commit is here before its answers are there.
    pub history: Mutex<History>,
    /// The TTL of the members' records before it was lowered last, and when that was: caches have such records for as long.
    pub lowered: Mutex<Option<(Ttl, Wall)>>,
    /// Its numbers.
    pub figures: Figures,
}

impl ServedZone {
    /// A zone that is not loaded.
    pub fn new(origin: Name) -> ServedZone {
        ServedZone {
            origin,
            answers: ArcSwapOption::empty(),
            query: ArcSwapOption::empty(),
            transfer: ArcSwap::default(),
            source: ArcSwapOption::empty(),
            expires: ArcSwapOption::empty(),
            history: Mutex::default(),
            lowered: Mutex::default(),
            figures: Figures::default(),
        }
    }
}

impl ServedZone {
    /// For how many seconds the zone is good: as long as it says of itself, or what is left of that in a copy (RFC 7314
    /// §3.2). So nobody who has it from a copy keeps it for longer than the copy.
    fn expire(&self, answers: &Answers, now: Wall) -> u32 {
        match self.expires.load().as_deref() {
            None => answers.snapshot().settings.expire,
            Some(expires) => u32::try_from(expires.since(now).as_secs()).unwrap_or(u32::MAX),
        }
    }
}

/// Whose copy a zone is: who may say that it has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Its primaries.
    pub primaries: Vec<IpAddr>,
    /// The key that they have.
    pub key: Option<Name>,
}

/// The zones of a server, by origin.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: NameMap<Arc<ServedZone>>,
    /// A bit for each length that an origin has: no other end of a name need be looked up.
    lengths: [u64; 4],
}

impl Zones {
    /// Collects zones.
    pub fn new(zones: impl IntoIterator<Item = Arc<ServedZone>>) -> Zones {
        let zones: NameMap<_> = zones.into_iter().map(|zone| (zone.origin.clone(), zone)).collect();
        let mut lengths = [0; 4];
        for origin in zones.keys() {
            let len = origin.as_wire().len();
            lengths[len / 64] |= 1 << (len % 64);
        }
        Zones { zones, lengths }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ServedZone>> {
        self.zones.values()
    }

    /// The zone with exactly this origin, in wire form.
    pub fn find(&self, origin: &[u8]) -> Option<&Arc<ServedZone>> {
        self.zones.get(origin)
    }

    /// The closest zone that a name is in.
    pub fn closest(&self, name: &[u8]) -> Option<&Arc<ServedZone>> {
        let mut rest = name;
        loop {
            let len = rest.len();
            if self.lengths[len / 64] >> (len % 64) & 1 != 0
                && let Some(zone) = self.zones.get(rest)
            {
                return Some(zone);
            }
            match rest[0] {
                0 => return None,
                len => rest = &rest[usize::from(len) + 1..],
            }
        }
    }
}

/// What a message meets.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The zones.
    pub zones: &'a Zones,
    /// The TSIG keys.
    pub keys: &'a Keys,
    /// What the server says of itself.
    pub identity: &'a identity::Identity,
    /// The largest UDP answer.
    pub udp_size: u16,
    /// The wall clock, for signatures.
    pub now: Wall,
    /// Where the message came from.
    pub peer: SocketAddr,
    /// How.
    pub transport: Transport,
    /// How long a connection may be idle.
    pub tcp_idle: Duration,
    /// Whether there may be one more zone transfer.
    pub transfers: bool,
    /// What cookies are made with; none: they are not answered.
    pub cookies: Option<&'a Cookies>,
    /// The rate of replies over UDP, at this time; none: no limit.
    pub rate: Option<(&'a Rate, Monotonic)>,
    /// Whether A and AAAA sets begin with another record each time.
    pub rotate: bool,
}

impl Context<'_> {
    /// Counts a reply to a peer that has not proven its address, and says what becomes of it.
    pub fn admit(&self) -> Admission {
        match self.rate {
            Some((rate, now)) if self.transport == Transport::Udp => rate.admit(self.peer.ip(), now),
            _ => Admission::Answer,
        }
    }

    /// By how many records the addresses in the answer to a message are turned: by its id, which clients choose at random
    /// (RFC 5452 §9.2), so that nothing is counted here.
    pub(super) fn turn(&self, packet: &[u8]) -> u16 {
        if self.rotate { u16::from_be_bytes([packet[0], packet[1]]) } else { 0 }
    }
}

/// What to do with a message.
#[derive(Debug)]
pub enum Verdict {
    /// Send what was written.
    Reply,
    /// The same: a refusal at this limit.
    ReplyAtLimit(Limit),
    /// Send nothing: the reply is beyond this limit.
    Drop(Limit),
    /// Send nothing.
    Silence,
    /// Hand this to the publisher of its zone; the reply comes by its completion.
    Update(Box<update::Request>),
    /// Send its messages, as fast as the client takes them.
    Transfer(Box<Outgoing>),
    /// Send what was written, and have this copy see what its primary has.
    Notified(Name),
    /// Hand the message on to the primary of this copy, as it is, and send what comes back.
    Forward(Forward),
}

/// An update for a zone that is a copy (RFC 2136 §6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The zone.
    pub zone: Name,
    /// Whether its signature was verified here. It need not be: the primary may have keys that this server has not.
    pub is_verified: bool,
}

/// Answers one message into `out`, or says what else to do with it.
pub fn respond(context: &Context<'_>, packet: &[u8], out: &mut Vec<u8>) -> Verdict {
    let Some(header) = Header::read(packet) else { return Verdict::Silence };
    if header.is_response() {
        return Verdict::Silence;
    }
    let mut is_proven = false;
    let verdict = judge(context, header, packet, &mut is_proven, out);
    if is_proven || !matches!(verdict, Verdict::Reply | Verdict::ReplyAtLimit(_)) {
        return verdict;
    }
    let admission = hold(context, packet, out);
    match (admission.limit(), admission) {
        (None, _) => verdict,
        (Some(limit), Admission::Drop) => Verdict::Drop(limit),
        (Some(limit), _) => Verdict::ReplyAtLimit(limit),
    }
}

/// Holds a reply to the rate, whose request proves nothing of its sender's address: it stays, or what tells to use TCP takes
/// its place, or it is not to be sent.
pub fn hold(context: &Context<'_>, packet: &[u8], out: &mut Vec<u8>) -> Admission {
    let admission = context.admit();
    if let (Admission::Slip, Some(header)) = (admission, Header::read(packet)) {
        slip(context, header, packet, out);
    }
    admission
}

/// Puts in place of a reply what is never larger than the request: header, question, and an OPT record without options if the
/// request has one, since a reply without would say that there is no EDNS here (RFC 6891 §6.1.1). The client of a query is told
/// to come by TCP. In other messages TC means nothing (RFC 2136 §2.2), and theirs learn that they are refused, but not why.
fn slip(context: &Context<'_>, header: Header, packet: &[u8], out: &mut Vec<u8>) {
    let envelope = Envelope::parse(packet);
    let (question, edns) = match &envelope {
        Ok(envelope) => (envelope.question.octets, envelope.edns.as_ref()),
        Err(_) => (&[][..], None),
    };
    let is_query = header.opcode() == Opcode::QUERY;
    let refusal = || Envelope::parse_transfer(out).map_or(Rcode::SERVFAIL, |reply| reply.rcode());
    let rcode = if is_query { Rcode::NOERROR } else { refusal() };
    let reply = Reply::new(header, edns, context.transport, context.udp_size);
    reply.begin(question, out);
    reply.finish(rcode, false, is_query, Counts::default(), context.now, out);
}

/// The same for a request, whatever the rate; and whether its sender has proven its address.
fn judge(context: &Context<'_>, header: Header, packet: &[u8], is_proven: &mut bool, out: &mut Vec<u8>) -> Verdict {
    let Ok(envelope) = Envelope::parse(packet) else {
        let reply = cookie_alone(context, header, packet, is_proven);
        let rcode = match &reply {
            Some(_) => Rcode::NOERROR,
            None if is_known(header) => Rcode::FORMERR,
            None => Rcode::NOTIMP,
        };
        let reply = reply.unwrap_or_else(|| Reply::new(header, None, context.transport, context.udp_size));
        reply.refuse(rcode, &[], context.now, out);
        return Verdict::Reply;
    };
    let mut reply = Reply::new(header, envelope.edns.as_ref(), context.transport, context.udp_size);
    if let Err(why) = read_options(context, &envelope, &mut reply, is_proven) {
        return refuse(context, &envelope, reply, why, out);
    }
    let copy = || context.zones.find(envelope.question.name()).filter(|zone| zone.source.load().is_some());
    let key = match authenticate(context, &envelope, &mut reply) {
        Ok(key) => key,
        Err(rcode) => {
            let is_of_key = matches!(&reply.seal, Seal::Unsigned(error) if error.is_of_key());
            if is_of_key
                && header.opcode() == Opcode::UPDATE
                && let Some(zone) = copy()
            {
                return forward(context, &envelope, zone, false, reply, out);
            }
            let text = "the signature is not accepted; see the error of the TSIG record";
            return refuse(context, &envelope, reply, (rcode, ExtendedError::PROHIBITED, text), out);
        }
    };
    *is_proven |= key.is_some();
    match header.opcode() {
        Opcode::NOTIFY => notified(context, &envelope, key.as_ref(), reply, out),
        Opcode::UPDATE if let Some(zone) = copy() => {
            if key.is_some() {
                return forward(context, &envelope, zone, true, reply, out);
            }
            let text = "this server has a copy of the zone and forwards signed updates alone: send it to the primary";
            refuse(context, &envelope, reply, (Rcode::REFUSED, ExtendedError::PROHIBITED, text), out)
        }
        Opcode::UPDATE => match update::Request::read(context, &envelope, key, reply) {
            Ok(request) => Verdict::Update(Box::new(request)),
            Err(refusal) => {
                let limit = refusal.limit();
                refusal.write(envelope.question.octets, context.now, out);
                limit.map_or(Verdict::Reply, Verdict::ReplyAtLimit)
            }
        },
        _ if matches!(envelope.question.qtype, RecordType::AXFR | RecordType::IXFR) => {
            transfer(context, &envelope, key, reply, out)
        }
        _ => {
            answer(context, &envelope, reply, out);
            Verdict::Reply
        }
    }
}

/// Has the reply heed the options of a message, and finds what is wrong with these, or with the kind of message.
fn read_options(
    context: &Context<'_>,
    envelope: &Envelope<'_>,
    reply: &mut Reply,
    is_proven: &mut bool,
) -> Result<(), Why> {
    let edns = envelope.edns.as_ref();
    let cookie = answer_cookie(context, edns, reply, is_proven);
    if edns.is_some_and(|edns| edns.version != 0) {
        return Err((Rcode::BADVERS, ExtendedError::NOT_SUPPORTED, "this server speaks EDNS version 0"));
    }
    if !is_known(envelope.header) {
        let text = "this server knows queries, updates and NOTIFY only";
        return Err((Rcode::NOTIMP, ExtendedError::NOT_SUPPORTED, text));
    }
    if cookie.is_err() {
        let text = "a cookie has 8 octets, or 16 to 40 with the server's (RFC 7873 §4)";
        return Err((Rcode::FORMERR, ExtendedError::INVALID_DATA, text));
    }
    if let Some(ours) = reply.edns.as_mut().filter(|_| edns.is_some_and(|edns| edns.nsid)) {
        ours.nsid.clone_from(&context.identity.nsid);
    }
    keep_alive(context, envelope, reply).map_err(|()| {
        let text = "the keepalive option of a query holds no data (RFC 7828 §3.2.1): send it empty";
        (Rcode::FORMERR, ExtendedError::INVALID_DATA, text)
    })
}

fn is_known(header: Header) -> bool {
    matches!(header.opcode(), Opcode::QUERY | Opcode::UPDATE | Opcode::NOTIFY)
}

impl End {
    /// What a response says of it.
    pub(super) fn rcode(self) -> Rcode {
        match self {
            End::Answer | End::NoData => Rcode::NOERROR,
            End::NoName => Rcode::NXDOMAIN,
            End::TooLong => Rcode::YXDOMAIN,
        }
    }
}

/// Why a message is refused: the rcode, the code of the Extended DNS Error, and its text.
type Why = (Rcode, u16, &'static str);

/// Refuses a message, and says why.
fn refuse(
    context: &Context<'_>,
    envelope: &Envelope<'_>,
    mut reply: Reply,
    (rcode, code, text): Why,
    out: &mut Vec<u8>,
) -> Verdict {
    reply.explain(ExtendedError::new(code, text));
    reply.refuse(rcode, envelope.question.octets, context.now, out);
    Verdict::Reply
}

/// Verifies the signature, if there is one, and has the reply be authenticated as it must. Returns the key.
fn authenticate(context: &Context<'_>, envelope: &Envelope<'_>, reply: &mut Reply) -> Result<Option<Name>, Rcode> {
    let Some(signature) = &envelope.tsig else { return Ok(None) };
    let rejection = match tsig::verify(envelope.packet, signature, context.keys, context.now) {
        Ok(signer) => {
            let key = signer.key_name().clone();
            reply.seal = Seal::Sign(Box::new(signer), None);
            return Ok(Some(key));
        }
        Err(rejection) => rejection,
    };
    tracing::debug!(peer = %context.peer, key = %signature.key_name(), error = rejection.text(), "signature not accepted");
    match rejection {
        Rejection::Unsigned(error) => reply.seal = Seal::Unsigned(error),
        Rejection::Signed(signer, error) => reply.seal = Seal::Sign(signer, Some(error)),
        Rejection::Malformed => return Err(Rcode::FORMERR),
    }
    Err(Rcode::NOTAUTH)
}

/// Tells a client that asks how long its connection may be idle (RFC 7828 §3.3.2). It has no say in that: data in its
/// option is an error. Over UDP the option means nothing (§3.2.1).
fn keep_alive(context: &Context<'_>, envelope: &Envelope<'_>, reply: &mut Reply) -> Result<(), ()> {
    let asked = envelope.edns.as_ref().and_then(|edns| edns.keepalive);
    let (Some(data), Some(edns), false) = (asked, &mut reply.edns, context.transport == Transport::Udp) else {
        return Ok(());
    };
    if !data.is_empty() {
        return Err(());
    }
    edns.keepalive = Some(u16::try_from(context.tcp_idle.as_millis() / 100).unwrap_or(u16::MAX));
    Ok(())
}

/// Answers a cookie, and notes whether it proves the client's address. An error if it has a length that no cookie has.
fn answer_cookie(
    context: &Context<'_>,
    edns: Option<&Edns<'_>>,
    reply: &mut Reply,
    is_proven: &mut bool,
) -> Result<(), ()> {
    let asked = edns.and_then(|edns| edns.cookie);
    let (Some(asked), Some(cookies), Some(edns)) = (asked, context.cookies, &mut reply.edns) else { return Ok(()) };
    let answered = cookies.answer(asked, context.peer.ip(), context.now).ok_or(())?;
    edns.cookie = Some(answered.octets);
    *is_proven |= answered.is_proven;
    Ok(())
}

/// The reply to a query without a question, which asks for a cookie and nothing else (RFC 7873 §5.4).
fn cookie_alone(context: &Context<'_>, header: Header, packet: &[u8], is_proven: &mut bool) -> Option<Reply> {
    if header.opcode() != Opcode::QUERY || header.counts != [0, 0, 0, 1] {
        return None;
    }
    let edns = Envelope::parse_transfer(packet).ok()?.edns.filter(|edns| edns.version == 0)?;
    let mut reply = Reply::new(header, Some(&edns), context.transport, context.udp_size);
    answer_cookie(context, Some(&edns), &mut reply, is_proven).ok()?;
    reply.edns.as_ref()?.cookie.is_some().then_some(reply)
}

fn answer(context: &Context<'_>, envelope: &Envelope<'_>, mut reply: Reply, out: &mut Vec<u8>) {
    let question = &envelope.question;
    if question.class != CLASS_IN {
        return answer_of_class(context, envelope, reply, out);
    }
    let zone = zone_of(context.zones, question.name(), question.qtype);
    let refusal = match zone {
        None => Some((Rcode::REFUSED, ExtendedError::NOT_AUTHORITATIVE, "this server has no zone for that name")),
        Some(zone) if !may_query(zone, context) => {
            Some((Rcode::REFUSED, ExtendedError::PROHIBITED, "queries for this zone are not open to this address"))
        }
        Some(_) => None,
    };
    if let Some((rcode, code, text)) = refusal {
        reply.explain(ExtendedError::new(code, text));
        return reply.refuse(rcode, question.octets, context.now, out);
    }
    let loaded = zone.map(|zone| zone.answers.load());
    let Some(answers) = loaded.as_deref().and_then(Option::as_ref) else {
        reply.explain(ExtendedError::new(ExtendedError::NOT_READY, absence(zone)));
        return reply.refuse(Rcode::SERVFAIL, question.octets, context.now, out);
    };
    if question.qtype == RecordType::SOA
        && let Some(zone) = zone.filter(|zone| zone.origin.as_wire() == question.name())
    {
        tell_expire(envelope, zone, answers, context, &mut reply);
    }
    reply.begin(question.octets, out);
    let turn = context.turn(envelope.packet);
    let found = answers.lookup(question.name(), question.qtype, reply.limit(), turn, out);
    reply.finish(found.end.rcode(), found.authoritative, found.truncated, found.counts, context.now, out);
}

/// Why a zone is not there.
fn absence(zone: Option<&Arc<ServedZone>>) -> &'static str {
    match zone {
        Some(zone) if zone.source.load().is_some() => "the copy of the zone is missing or has expired",
        _ => "the zone is not loaded",
    }
}

/// The zone that answers: the closest one, but for DS, which the parent has (RFC 4035 §3.1.4.1).
fn zone_of<'z>(zones: &'z Zones, name: &[u8], qtype: RecordType) -> Option<&'z Arc<ServedZone>> {
    let zone = zones.closest(name)?;
    if qtype == RecordType::DS && name.len() > 1 && zone.origin.as_wire() == name {
        return Some(zones.closest(&name[usize::from(name[0]) + 1..]).unwrap_or(zone));
    }
    Some(zone)
}

/// Other classes have no zones here; what the server says of itself stands in CH.
fn answer_of_class(context: &Context<'_>, envelope: &Envelope<'_>, mut reply: Reply, out: &mut Vec<u8>) {
    let question = &envelope.question;
    reply.begin(question.octets, out);
    if question.class == CLASS_CH
        && let Some(counts) = context.identity.answer(question.name(), question.qtype, out)
    {
        return reply.finish(Rcode::NOERROR, true, false, counts, context.now, out);
    }
    reply.explain(ExtendedError::new(ExtendedError::NOT_AUTHORITATIVE, "this server has zones of class IN only"));
    reply.refuse(Rcode::REFUSED, question.octets, context.now, out);
}

pub(super) fn may_query(zone: &ServedZone, context: &Context<'_>) -> bool {
    let address = context.peer.ip().to_canonical();
    zone.query.load().as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(&address)))
}
