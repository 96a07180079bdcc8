//! What every transport calls: a message in, a reply out, or an update on its way to its publisher.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::answer::AHEAD;
use crate::api::access::Tokens;
use crate::base::limits::TRANSFERS;
use crate::base::{Limit, Name, NameMap, Now};
use crate::config::Config;
use crate::dns::cookie::Cookies;
use crate::dns::identity::Identity;
use crate::dns::quick;
use crate::dns::rate::{Admission, Rate};
use crate::dns::reply::Transport;
use crate::dns::respond::{Context, Verdict, Zones, hold, respond};
use crate::dns::tally::Tally;
use crate::dns::transfer::outgoing::Outgoing;
use crate::dns::tsig::{self, Keys};
use crate::dns::update::Request;
use crate::dns::update::renewal::{self, Candidate, InPlace, Place};
use crate::dns::wire::{Header, Opcode, Rcode};
use crate::membership::{Renewals, UpdateAccess};
use crate::net::udp::Received;
use crate::net::{Completion, Handled, Handler};

use super::clock::Clock;
use super::counters::Counters;
use super::directory::Inquiry;
use super::figures::{Channel, Figures, Outcome};
use super::follower::{FollowState, Notified};
use super::forward::Forwarded;
use super::notifier::Notices;
use super::publisher::{Submission, Update};
use super::update_rate::RateLimit;

use transfer::Transfer;

/// A zone's side that takes updates.
#[derive(Debug)]
pub struct Registrar {
    /// The publisher's queue.
    pub queue: mpsc::Sender<Submission>,
    /// Where its publisher is asked.
    pub inquiries: mpsc::Sender<Inquiry>,
    /// The heartbeats that need no publisher.
    pub renewals: Arc<Renewals>,
    /// Who may update at all: the others are refused before they take a place in the queue.
    pub access: UpdateAccess,
    /// The secondaries that a drained member waits for, and for how long.
    pub draining: (Vec<SocketAddr>, Duration),
}

/// The side of a copy that hears of its primary.
#[derive(Debug)]
pub struct Copied {
    /// Its primaries.
    pub primaries: Vec<SocketAddr>,
    /// Where its follower hears that it has changed.
    pub notified: watch::Sender<Notified>,
    /// How it stands.
    pub state: Arc<Mutex<FollowState>>,
}

/// What a reload replaces, as a whole: a message meets either all of the old or all of the new.
#[derive(Debug, Default)]
pub struct Routing {
    /// The zones.
    pub zones: Zones,
    /// Where updates go, by zone, unless it is a copy.
    pub registrars: NameMap<Registrar>,
    /// Zones that are copies.
    pub copies: HashMap<Name, Copied>,
    /// What became of NOTIFY to the secondaries of each zone.
    pub notices: HashMap<Name, Notices>,
    /// The TSIG keys.
    pub keys: Keys,
    /// The certificate of HTTP, if it is served over TLS.
    pub certified: Option<Arc<CertifiedKey>>,
    /// Who may use the HTTP API.
    pub tokens: Arc<Tokens>,
    /// What the server says of itself.
    pub identity: Identity,
    /// The largest UDP answer.
    pub udp_size: u16,
    /// What cookies are made with; none: they are not answered.
    pub cookies: Option<Cookies>,
    /// The rate of answers over UDP; none: no limit.
    pub answer_rate: Option<Rate>,
    /// Whether A and AAAA sets begin with another record each time.
    pub rotate: bool,
}

/// The shared side of all transports.
#[derive(Debug)]
pub struct Front {
    /// Zones, keys and what else a reload replaces.
    pub routing: ArcSwap<Routing>,
    /// How long a connection may be idle.
    pub tcp_idle: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where updates for copies go, on their way to the primary.
    pub forwards: mpsc::Sender<Forwarded>,
    /// Places for zone transfers.
    pub transfers: Arc<Semaphore>,
    /// Unsigned updates a second from one source.
    pub rate: Mutex<RateLimit>,
    /// What was refused or dropped.
    pub counters: Arc<Counters>,
}

impl Handler for Front {
    fn quick(&self, datagrams: &mut dyn Iterator<Item = Received<'_>>, general: &mut dyn FnMut(Received<'_>)) -> u64 {
        let now = self.clock.now();
        let routing = self.routing.load();
        let mut group: Group<'_, '_> = Group::default();
        let (mut renewed, mut dropped) = (0, 0);
        for mut received in datagrams {
            let context = self.context(&routing, received.peer, Transport::Udp, now);
            if let Some(query) = quick::read(&context, received.packet, &mut received.answer.name) {
                group.take(context, query, received, &self.counters, general);
                continue;
            }
            match self.renew(&routing, &mut received, now) {
                InPlace::Answered => {
                    received.answer.is_due = true;
                    renewed += 1;
                }
                InPlace::Dropped => dropped += 1,
                InPlace::General => general(received),
            }
        }
        group.answer(&self.counters, general);
        let Figures { queries, heartbeats, .. } = &self.counters.figures;
        queries.add(Transport::Udp, &group.tally);
        heartbeats.count_many(Channel::Udp, Outcome::Renewed, renewed);
        heartbeats.count_many(Channel::Udp, Outcome::Dropped, dropped);
        group.tally.answered()
    }

    fn took(&self, queries: u64, took: Duration) {
        self.counters.figures.queries.observe(Transport::Udp, took, queries);
    }

    fn answered(&self, packet: &[u8], transport: Transport, took: Duration) {
        if Header::read(packet).is_some_and(|header| header.opcode() == Opcode::QUERY) {
            self.counters.figures.queries.observe(transport, took, 1);
        }
    }

    fn count(&self, limit: Limit, count: u64) {
        self.counters.count_many(limit, count);
    }

    fn handle(
        &self,
        packet: &[u8],
        peer: SocketAddr,
        transport: Transport,
        out: &mut Vec<u8>,
        complete: &mut dyn FnMut() -> Completion,
    ) -> Handled {
        let handled = self.carry_out(packet, peer, transport, out, complete);
        self.tell(packet, transport, &handled, out);
        handled
    }

    fn seal_again(&self, request: &[u8], reply: &[u8], octets: &mut Vec<u8>) -> bool {
        tsig::seal_again(request, reply, octets, &self.routing.load().keys, self.clock.now().wall).is_some()
    }
}

impl Front {
    /// A front for these zones.
    pub fn new(
        routing: Routing,
        config: &Config,
        clock: Arc<dyn Clock>,
        counters: Arc<Counters>,
        forwards: mpsc::Sender<Forwarded>,
    ) -> Front {
        Front {
            routing: ArcSwap::from_pointee(routing),
            tcp_idle: config.limits.tcp.idle,
            clock,
            forwards,
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            rate: Mutex::new(RateLimit::new(config.dns.update_rate)),
            counters,
        }
    }

    /// Counts what was answered at once.
    fn tell(&self, packet: &[u8], transport: Transport, handled: &Handled, out: &[u8]) {
        let Some(header) = Header::read(packet) else { return };
        let Figures { queries, heartbeats, .. } = &self.counters.figures;
        match (header.opcode(), handled) {
            (Opcode::QUERY, Handled::Answered) => queries.count(transport, packet, Some(out)),
            (Opcode::QUERY, Handled::Stream(_)) => queries.count(transport, packet, None),
            (Opcode::UPDATE, Handled::Answered) => {
                let refused = Header::read(out).map_or(Rcode::SERVFAIL, |reply| reply.rcode());
                heartbeats.count(transport, Outcome::of_rcode(refused));
            }
            _ => {}
        }
    }

    /// Handles one message.
    fn carry_out(
        &self,
        packet: &[u8],
        peer: SocketAddr,
        transport: Transport,
        out: &mut Vec<u8>,
        complete: &mut dyn FnMut() -> Completion,
    ) -> Handled {
        let now = self.clock.now();
        let routing = self.routing.load();
        let context = self.context(&routing, peer, transport, now);
        // Datagrams come here since they are not for that. Heartbeats are not counted in place over a connection, whose updates
        // are carried out in their order.
        if transport != Transport::Udp && quick::answer(&context, packet, out) {
            return Handled::Answered;
        }
        match respond(&context, packet, out) {
            Verdict::Reply => Handled::Answered,
            Verdict::ReplyAtLimit(limit) => {
                self.counters.count(limit);
                Handled::Answered
            }
            Verdict::Drop(limit) => {
                self.counters.count(limit);
                if Header::read(packet).is_some_and(|header| header.opcode() == Opcode::UPDATE) {
                    self.counters.figures.heartbeats.count(transport, Outcome::Dropped);
                }
                Handled::Nothing
            }
            Verdict::Silence => Handled::Nothing,
            Verdict::Transfer(outgoing) => {
                let notices = routing.notices.get(outgoing.origin()).cloned();
                self.transfer(outgoing, peer, notices, complete)
            }
            Verdict::Notified(zone) => {
                self.counters.figures.notified.fetch_add(1, Ordering::Relaxed);
                if let Some(copied) = routing.copies.get(&zone) {
                    copied.notified.send_replace(Some(peer.ip().to_canonical()));
                }
                Handled::Answered
            }
            Verdict::Forward(forward) => {
                if let Some(copied) = routing.copies.get(&forward.zone)
                    && (forward.is_verified || self.may_update(peer, transport, now, complete))
                {
                    self.forward(packet, peer, forward.is_verified, copied, transport, complete());
                }
                Handled::Nothing
            }
            Verdict::Update(request) => {
                // Deviates: RFC 9664 §5.3 has a least interval between updates of one client; several members may share an
                // address, so livezone has a rate per source instead. What exceeds it is ignored silently, as there.
                if request.identity.key.is_none() && !self.may_update(peer, transport, now, complete) {
                    return Handled::Nothing;
                }
                self.submit(&routing, &context, packet, request, out, complete)
            }
        }
    }

    /// What a message meets.
    fn context<'r>(&self, routing: &'r Routing, peer: SocketAddr, transport: Transport, now: Now) -> Context<'r> {
        Context {
            zones: &routing.zones,
            keys: &routing.keys,
            identity: &routing.identity,
            udp_size: routing.udp_size,
            now: now.wall,
            peer,
            transport,
            tcp_idle: self.tcp_idle,
            transfers: self.transfers.available_permits() > 0,
            cookies: routing.cookies.as_ref(),
            rate: routing.answer_rate.as_ref().map(|rate| (rate, now.mono)),
            rotate: routing.rotate,
        }
    }

    /// Counts and answers a heartbeat that needs no publisher. It needs one that runs all the same: where nobody sees
    /// leases end, none is renewed.
    fn renew(&self, routing: &Routing, received: &mut Received<'_>, now: Now) -> InPlace {
        let found = Candidate::read(received.packet)
            .and_then(|candidate| Some((routing.registrars.get(candidate.zone())?, candidate)))
            .filter(|(registrar, _)| !registrar.queue.is_closed());
        let Some((registrar, candidate)) = found else { return InPlace::General };
        let place = Place {
            renewals: &registrar.renewals,
            access: &registrar.access,
            keys: &routing.keys,
            udp_size: routing.udp_size,
            peer: received.peer,
            transport: Transport::Udp,
            now,
        };
        let out = &mut received.answer.octets;
        renewal::renew(&candidate, &place, &mut || self.is_within_rate(received.peer, now), out)
    }

    /// Whether an update that is not known to be signed is within the rate of its source. If it isn't, it is dropped.
    fn may_update(
        &self,
        peer: SocketAddr,
        transport: Transport,
        now: Now,
        complete: &mut dyn FnMut() -> Completion,
    ) -> bool {
        let admitted = self.is_within_rate(peer, now);
        if !admitted {
            self.counters.figures.heartbeats.count(transport, Outcome::Dropped);
        }
        if !admitted && transport != Transport::Udp {
            drop(complete()); // closes the connection: a client that waits there should know
        }
        admitted
    }

    /// Counts an update against the rate of its source.
    fn is_within_rate(&self, peer: SocketAddr, now: Now) -> bool {
        if peer.ip().to_canonical().is_loopback() {
            return true;
        }
        let admitted = self.rate.lock().expect("no panic holds it").admit(peer.ip(), now.mono);
        admitted.inspect_err(|&limit| self.counters.count(limit)).is_ok()
    }

    /// Hands an update to the publisher of its zone, unless no access entry admits its sender.
    fn submit(
        &self,
        routing: &Routing,
        context: &Context<'_>,
        packet: &[u8],
        request: Box<Request>,
        out: &mut Vec<u8>,
        complete: &mut dyn FnMut() -> Completion,
    ) -> Handled {
        let registrar = routing.registrars.get(&request.zone);
        if let Some(refusal) = registrar.and_then(|registrar| request.refused_by(&registrar.access)) {
            self.counters.note(&request, &refusal, self.clock.now().mono);
            request.reply(&refusal, context.now, out);
            // Why it is refused may take more octets than the update has.
            let admission = match request.identity.key {
                Some(_) => Admission::Answer,
                None => hold(context, packet, out),
            };
            if let Some(limit) = admission.limit() {
                self.counters.count(limit);
            }
            if admission == Admission::Drop {
                self.counters.figures.heartbeats.count(context.transport, Outcome::Dropped);
                return Handled::Nothing;
            }
            return Handled::Answered;
        }
        let submission = Submission::Update(Update { request, completion: complete(), received: Instant::now() });
        if registrar.is_none_or(|registrar| registrar.queue.try_send(submission).is_err()) {
            // Its sender retransmits; the queue has emptied by then, or tells so again.
            self.counters.count(Limit::PublisherQueue);
            self.counters.figures.heartbeats.count(context.transport, Outcome::Dropped);
        }
        Handled::Nothing
    }

    /// Hands an update on to the primary of a copy, beginning with the one that last answered.
    fn forward(
        &self,
        packet: &[u8],
        sender: SocketAddr,
        is_verified: bool,
        copied: &Copied,
        transport: Transport,
        completion: Completion,
    ) {
        let mut primaries = copied.primaries.clone();
        let last = copied.state.lock().expect("no panic holds it").primary;
        primaries.sort_by_key(|&primary| Some(primary) != last);
        let connected = transport != Transport::Udp;
        let forwarded = Forwarded { packet: packet.to_vec(), sender, is_verified, primaries, connected, completion };
        let sent = self.forwards.try_send(forwarded).is_ok();
        if !sent {
            self.counters.count(Limit::Forwards);
        }
        let outcome = if sent { Outcome::Forwarded } else { Outcome::Dropped };
        self.counters.figures.heartbeats.count(transport, outcome);
    }

    /// Begins a transfer. Another message may have taken the last place since this one was read; then its client tries again.
    fn transfer(
        &self,
        outgoing: Box<Outgoing>,
        peer: SocketAddr,
        notices: Option<Notices>,
        complete: &mut dyn FnMut() -> Completion,
    ) -> Handled {
        let Ok(place) = self.transfers.clone().try_acquire_owned() else {
            self.counters.count(Limit::Transfers);
            drop(complete()); // closes the connection
            return Handled::Nothing;
        };
        let (zone, serial, form) = (outgoing.origin(), outgoing.serial(), outgoing.form());
        if outgoing.is_whole() {
            tracing::info!(%zone, %serial, %peer, form, "zone transfer");
        } else {
            tracing::debug!(%zone, %serial, %peer, form, "zone transfer");
        }
        Handled::Stream(Box::new(Transfer {
            outgoing,
            peer,
            notices,
            clock: self.clock.clone(),
            counters: self.counters.clone(),
            is_complete: false,
            place,
        }))
    }
}

/// Queries for one zone that came in together, so that what their answers are made of can be fetched together.
#[derive(Default)]
struct Group<'b, 'r> {
    queries: [Option<(Context<'r>, quick::Query<'b, 'r>, Received<'b>)>; AHEAD],
    len: usize,
    /// Those that were answered.
    tally: Tally,
}

impl<'b, 'r> Group<'b, 'r> {
    /// Takes a query. Those before are answered if it is for another zone, or there is no more room.
    fn take(
        &mut self,
        context: Context<'r>,
        query: quick::Query<'b, 'r>,
        received: Received<'b>,
        counters: &Counters,
        general: &mut dyn FnMut(Received<'_>),
    ) {
        let is_other = |first: &(_, quick::Query<'_, '_>, _)| !Arc::ptr_eq(first.1.zone, query.zone);
        if self.len == AHEAD || self.queries[0].as_ref().is_some_and(is_other) {
            self.answer(counters, general);
        }
        self.queries[self.len] = Some((context, query, received));
        self.len += 1;
    }

    /// Answers what was taken; without answers of the zone it is for the general way to say so.
    fn answer(&mut self, counters: &Counters, general: &mut dyn FnMut(Received<'_>)) {
        let Some((_, first, _)) = &self.queries[0] else { return };
        let loaded = first.zone.answers.load();
        let queries = &mut self.queries[..std::mem::take(&mut self.len)];
        if let Some(answers) = loaded.as_deref()
            && queries.len() > 1
        {
            answers.touch(queries.iter().flatten().map(|(_, query, _)| query.sought()));
        }
        for (context, query, received) in queries.iter_mut().filter_map(Option::take) {
            match loaded.as_deref() {
                Some(answers) => {
                    let answer = received.answer;
                    let admission = query.answer(&context, answers, &answer.name, &mut answer.octets);
                    answer.is_due = admission != Admission::Drop;
                    if answer.is_due {
                        self.tally.note(&counters.figures.queries, Transport::Udp, query.qtype(), &answer.octets);
                    }
                    if let Some(limit) = admission.limit() {
                        counters.count(limit);
                    }
                }
                None => general(received),
            }
        }
    }
}

#[cfg(test)]
mod tests;
mod transfer;
