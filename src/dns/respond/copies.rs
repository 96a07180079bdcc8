//! What is answered to servers that copy a zone, and to those that it is copied from: transfers, NOTIFY, updates that go on
//! to a primary.

use crate::answer::{Answers, Counts};
use crate::base::{Limit, Name, RecordType, Serial};
use crate::dns::edns::ExtendedError;
use crate::dns::notify;
use crate::dns::reply::{Reply, Transport};
use crate::dns::soa;
use crate::dns::transfer::outgoing::{Body, Outgoing};
use crate::dns::wire::{CLASS_IN, Envelope, Malformed, Rcode};
use crate::membership::access::Identity;
use crate::zone::Snapshot;
use crate::zone::settings::serial_of;

use super::{Context, Forward, ServedZone, Source, Verdict, Why, absence, refuse};

/// A primary says that a zone has changed (RFC 1996 §3). It is taken at its word only as far as to ask it.
pub(super) fn notified(
    context: &Context<'_>,
    envelope: &Envelope<'_>,
    key: Option<&Name>,
    reply: Reply,
    out: &mut Vec<u8>,
) -> Verdict {
    let question = &envelope.question;
    let refusal = match (notify::read(envelope), context.zones.find(question.name())) {
        (Err(Malformed(text)), _) => Err((Rcode::FORMERR, ExtendedError::INVALID_DATA, text)),
        (Ok(None), _) => Err((Rcode::NOTIMP, ExtendedError::NOT_SUPPORTED, "NOTIFY is about the SOA record of a zone")),
        (Ok(Some(_)), None) => {
            Err((Rcode::NOTAUTH, ExtendedError::NOT_AUTHORITATIVE, "this is not the apex of a zone of this server"))
        }
        (Ok(Some(notice)), Some(zone)) => match zone.source.load().as_deref() {
            None => Err((Rcode::REFUSED, ExtendedError::PROHIBITED, "this server is the primary of the zone")),
            Some(source) => {
                let sender = context.peer.ip().to_canonical();
                let by_key = key.is_some() && source.key.as_ref() == key;
                if by_key || source.primaries.contains(&sender) {
                    Ok((zone, notice))
                } else {
                    Err((Rcode::REFUSED, ExtendedError::PROHIBITED, "this address is none of the zone's primaries"))
                }
            }
        },
    };
    match refusal {
        Err(why) => refuse(context, envelope, reply, why, out),
        Ok((zone, notice)) => {
            reply.begin(question.octets, out);
            reply.finish(Rcode::NOERROR, true, false, Counts::default(), context.now, out);
            let own = zone.answers.load().as_deref().map(|answers| answers.snapshot().epoch.serial());
            if own.is_some() && own == notice.serial { Verdict::Reply } else { Verdict::Notified(notice.origin) }
        }
    }
}

/// A signed update for a copy goes on to the primary, unless it came from there, or its answer could not go back.
pub(super) fn forward(
    context: &Context<'_>,
    envelope: &Envelope<'_>,
    zone: &ServedZone,
    is_verified: bool,
    reply: Reply,
    out: &mut Vec<u8>,
) -> Verdict {
    let sender = context.peer.ip().to_canonical();
    // A primary that hands it to us is a copy itself and has us for its primary. Not so on loopback, an address that
    // servers and their agents share.
    let is_primary = |source: &Source| !sender.is_loopback() && source.primaries.contains(&sender);
    let (code, text) = if zone.source.load().as_deref().is_some_and(is_primary) {
        let text = "this server has a copy of the zone, and this is the address of one of the zone's primaries: \
                    an update that comes from there is not sent back";
        (ExtendedError::PROHIBITED, text)
    } else if context.transport == Transport::Tls && !is_verified {
        let text = "this server has a copy of the zone and forwards updates over TLS with keys that it knows alone: \
                    send it over TCP or UDP, or to the primary";
        (ExtendedError::NOT_SUPPORTED, text)
    } else {
        return Verdict::Forward(Forward { zone: zone.origin.clone(), is_verified });
    };
    tracing::debug!(zone = %zone.origin, peer = %context.peer, reason = text, "update not forwarded");
    // Deviates: RFC 8945 §5.2.1 has NOTAUTH for a key that a server which forwards nothing doesn't know. The primary may
    // well know this one, so it isn't to blame.
    refuse(context, envelope, reply, (Rcode::REFUSED, code, text), out)
}

/// A zone for whoever may have it (RFC 5936, RFC 1995).
pub(super) fn transfer(
    context: &Context<'_>,
    envelope: &Envelope<'_>,
    key: Option<Name>,
    mut reply: Reply,
    out: &mut Vec<u8>,
) -> Verdict {
    let question = &envelope.question;
    let by_udp = context.transport == Transport::Udp;
    let identity = Identity { key, address: context.peer.ip(), connected: !by_udp };
    let (zone, serial, snapshot) = match grant(context, envelope, &identity, &mut reply) {
        Ok(granted) => granted,
        Err(why) => {
            let key = identity.key.as_ref().map(tracing::field::display);
            let name = Name::from_wire(question.name()).ok().map(tracing::field::display);
            tracing::debug!(zone = name, peer = %context.peer, key, reason = why.2, "zone transfer refused");
            return refuse(context, envelope, reply, why, out);
        }
    };
    let since = serial.filter(|_| question.qtype == RecordType::IXFR);
    if since.is_some_and(|serial| Body::is_current(serial, &snapshot)) {
        // One record, which is no work.
        Outgoing::new(reply, question.octets, Body::Current(snapshot.soa())).only_message(context.now, out);
        return Verdict::Reply;
    }
    if !by_udp && !context.transfers {
        let text = "too many zone transfers are under way; try again later";
        refuse(context, envelope, reply, (Rcode::SERVFAIL, ExtendedError::NOT_READY, text), out);
        return Verdict::ReplyAtLimit(Limit::Transfers);
    }
    let history = |from, to| zone.history.lock().expect("no panic holds it").between(from, to);
    let body = since.map_or_else(|| Body::whole(&snapshot), |serial| Body::since(serial, &snapshot, history));
    let outgoing = Outgoing::new(reply, question.octets, body);
    if by_udp {
        outgoing.only_message(context.now, out);
        return Verdict::Reply;
    }
    Verdict::Transfer(Box::new(outgoing))
}

/// The zone that somebody may have, the serial that they have, and the version that they get.
fn grant<'z>(
    context: &Context<'z>,
    envelope: &Envelope<'_>,
    identity: &Identity,
    reply: &mut Reply,
) -> Result<(&'z ServedZone, Option<Serial>, Snapshot), Why> {
    let question = &envelope.question;
    let refused = |code, text| Err((Rcode::REFUSED, code, text));
    let Some(zone) = context.zones.find(question.name()).filter(|_| question.class == CLASS_IN) else {
        let text = "this is not the apex of a zone of this server";
        return Err((Rcode::NOTAUTH, ExtendedError::NOT_AUTHORITATIVE, text));
    };
    if context.transport == Transport::Udp && question.qtype == RecordType::AXFR {
        return refused(ExtendedError::NOT_SUPPORTED, "a whole zone is transferred over TCP (RFC 5936 §4.2)");
    }
    if context.transport == Transport::Tls {
        return refused(ExtendedError::NOT_SUPPORTED, "zones are transferred over TCP and not over TLS");
    }
    if !zone.transfer.load().admits(identity) {
        return refused(ExtendedError::PROHIBITED, "needs an [access] transfer entry for this key or address");
    }
    let loaded = zone.answers.load();
    let Some(answers) = loaded.as_deref() else {
        return Err((Rcode::SERVFAIL, ExtendedError::NOT_READY, absence(Some(zone))));
    };
    let serial = read_serial(envelope);
    if serial.is_none() && question.qtype == RecordType::IXFR {
        let text = "the authority section needs your SOA (RFC 1995 §3)";
        return Err((Rcode::FORMERR, ExtendedError::INVALID_DATA, text));
    }
    tell_expire(envelope, zone, answers, context, reply);
    Ok((zone, serial, answers.snapshot().clone()))
}

/// The serial that the asker of an IXFR has: that of the zone's SOA record in its authority section (RFC 1995 §3).
fn read_serial(envelope: &Envelope<'_>) -> Option<Serial> {
    let origin = Name::from_wire(envelope.question.name()).ok()?;
    soa::find(envelope.second_section(), &origin).ok()?.map(|soa| serial_of(&soa))
}

/// Tells for how long a zone is good, where that was asked for.
pub(super) fn tell_expire(
    envelope: &Envelope<'_>,
    zone: &ServedZone,
    answers: &Answers,
    context: &Context<'_>,
    reply: &mut Reply,
) {
    let is_asked = envelope.edns.is_some_and(|edns| edns.expire.is_some());
    if let Some(edns) = reply.edns.as_mut().filter(|_| is_asked) {
        edns.expire = Some(zone.expire(answers, context.now));
    }
}
