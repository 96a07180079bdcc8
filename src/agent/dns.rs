//! Registering by DNS UPDATE: a datagram and its answer for each order, without a handshake; TCP where the message or its
//! answer is too large for that.
//!
//! Answers are verified: by their signature where there is a key, by socket, id and question otherwise. What can't be
//! trusted is passed over while there is time, since anybody may have sent it, and told if nothing better came.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::base::limits::UDP_OCTETS;
use crate::base::{Name, RecordType, Ttl, Wall};
use crate::config::agent::{Place, record_type};
use crate::dns::transaction::Transaction;
use crate::dns::tsig::{Distrust, Key};
use crate::dns::wire::{CLASS_IN, Envelope, Opcode, Rcode};
use crate::net::peer;
use crate::server::clock::{Clock, SystemClock};
use crate::zone::Rdata;
use crate::zone::records::address;

use super::channel::{Channel, Failure, patience};
use super::machine::{Order, Reply};
use super::registration::{Registration, query};
use super::settle;

/// How often a datagram is sent at most before the next server's turn.
const SENDS: u32 = 3;
/// How long looking up a server's name may take.
const RESOLVE: Duration = Duration::from_secs(3);

/// Servers that take updates.
#[derive(Debug)]
pub struct Dns {
    servers: Vec<Server>,
    key: Option<Key>,
    pub(super) name_servers: Vec<Place>,
    clock: SystemClock,
}

#[derive(Debug)]
struct Server {
    place: Place,
    /// The address that answered last, and how many have failed.
    known: Mutex<(Option<SocketAddr>, usize)>,
}

impl Server {
    /// Its address: the one that answered last, or else the next one that its name has.
    async fn address(&self) -> io::Result<SocketAddr> {
        let (known, failed) = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = known {
            return Ok(address);
        }
        let addresses = resolve(&self.place).await?;
        let address = addresses[failed % addresses.len()];
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(address);
        Ok(address)
    }

    /// It didn't answer: its name is looked up again, and may have another address.
    fn forget(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (None, known.1.wrapping_add(1));
    }
}

/// The addresses of a place, one at least, by the system's resolver.
pub(super) async fn resolve(place: &Place) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = place.host.parse() {
        return Ok(vec![SocketAddr::new(ip, place.port)]);
    }
    let found = timeout(RESOLVE, tokio::net::lookup_host((place.host.as_str(), place.port))).await??;
    let addresses: Vec<SocketAddr> = found.collect();
    match addresses.is_empty() {
        true => Err(io::Error::other(format!("{} has no address", place.host))),
        false => Ok(addresses),
    }
}

/// A record of an answer: TTL and data.
pub(super) type Found = (Ttl, Rdata);

impl Dns {
    /// A channel to these servers. Without name servers, those of the zone are asked while draining.
    pub fn new(servers: Vec<Place>, key: Option<Key>, name_servers: Vec<Place>) -> Dns {
        let server = |place| Server { place, known: Mutex::new((None, 0)) };
        let servers = servers.into_iter().map(server).collect();
        Dns { servers, key, name_servers, clock: SystemClock::start() }
    }

    fn now(&self) -> Wall {
        self.clock.now().wall
    }

    async fn update(&self, server: SocketAddr, order: Order, member: &Registration) -> Result<Reply, Failure> {
        let deadline = Instant::now() + patience(member);
        let begin = || -> io::Result<_> {
            let mut message = member.update(order, peer::random_id()?);
            let transaction = Transaction::begin(&mut message, self.key.as_ref(), self.now());
            Ok((message, transaction))
        };
        let (message, mut transaction) = begin().map_err(silent)?;
        if message.len() <= usize::from(UDP_OCTETS) {
            let socket = peer::connect(server, &[]).await.map_err(silent)?.expect("nothing listens here");
            let mut server_time = None;
            let read = |packet: &[u8]| {
                Some(match transaction.accept(packet, self.now())? {
                    Err(distrust) => {
                        server_time = time_in(packet).or(server_time);
                        Err(distrust)
                    }
                    Ok(answer) => Ok((!answer.header.is_truncated()).then(|| outcome(&answer, order, member))),
                })
            };
            match peer::exchange(&socket, &message, SENDS, deadline, read).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {} // its answer is too large for a datagram
                Err(peer::Failure::Distrusted(distrust)) => return Err(self.distrusted(&distrust, server_time)),
                Err(failure) => return Err(silent(failure)),
            }
        }
        let (message, mut transaction) = begin().map_err(silent)?;
        let answer = timeout_at(deadline, over_tcp(server, &message)).await.unwrap_or_else(|error| Err(error.into()));
        let answer = answer.map_err(|error| Failure::Silent(format!("over TCP: {error}")))?;
        match transaction.accept(&answer, self.now()) {
            None => Err(Failure::Silent("over TCP: the answer is to another message".to_owned())),
            Some(Err(distrust)) => Err(self.distrusted(&distrust, time_in(&answer))),
            Some(Ok(answer)) => outcome(&answer, order, member),
        }
    }

    fn distrusted(&self, distrust: &Distrust, server_time: Option<u64>) -> Failure {
        let advice = match (distrust, server_time) {
            (Distrust::Refused(18), Some(time)) => {
                let (own, time) = (self.now().seconds(), time);
                let (span, way) = if time > own { (time - own, "ahead of") } else { (own - time, "behind") };
                format!("; the server's clock is {span} s {way} this one: set the wrong one right")
            }
            (Distrust::Refused(17) | Distrust::OtherKey, _) => {
                "; name and algorithm in --key-file must be those of a [[key]] of the server".to_owned()
            }
            (Distrust::Unsigned, _) => "; it came from elsewhere, or from a server that knows no keys".to_owned(),
            _ => String::new(),
        };
        Failure::Refused(format!("{distrust}{advice}"))
    }

    /// What a server has at a name, of one type.
    pub(super) async fn look_up(
        &self,
        server: SocketAddr,
        name: &Name,
        rtype: RecordType,
        deadline: Instant,
    ) -> Result<Vec<Found>, Failure> {
        let id = peer::random_id().map_err(silent)?;
        let socket = peer::connect(server, &[]).await.map_err(silent)?.expect("nothing listens here");
        let read = |packet: &[u8]| read_answer(packet, id, name, rtype).map(Ok);
        match peer::exchange(&socket, &query(id, name, rtype), SENDS, deadline, read).await {
            Ok(Some(found)) => return found,
            Ok(None) => {}
            Err(failure) => return Err(silent(failure)),
        }
        let answer = timeout_at(deadline, over_tcp(server, &query(id, name, rtype))).await;
        let answer = answer.unwrap_or_else(|error| Err(error.into())).map_err(silent)?;
        let found = read_answer(&answer, id, name, rtype).flatten();
        found.unwrap_or_else(|| Err(Failure::Silent("over TCP: the answer can't be read".to_owned())))
    }

    /// Whether a server publishes the member.
    async fn publishes(&self, server: SocketAddr, member: &Registration) -> Result<Reply, Failure> {
        let deadline = Instant::now() + patience(member);
        let Some(&own) = member.addresses.first() else { return Ok(Reply::Published(false)) };
        match self.look_up(server, &member.host, record_type(own), deadline).await {
            Ok(found) => {
                let is_own = |(_, rdata): &Found| address::address(record_type(own), rdata) == Some(own);
                Ok(Reply::Published(found.iter().any(is_own)))
            }
            // Whoever may not ask is answered all the same, and may register.
            Err(Failure::Refused(_)) => Ok(Reply::Published(false)),
            Err(failure) => Err(failure),
        }
    }
}

pub(super) fn silent(error: impl std::fmt::Display) -> Failure {
    Failure::Silent(error.to_string())
}

/// The server's time in a BADTIME answer, if this is one.
fn time_in(packet: &[u8]) -> Option<u64> {
    Envelope::parse(packet).ok()?.tsig?.server_time()
}

/// Reads the answer to a query: `None` if it is none, or can't be read; without a value where it was cut.
fn read_answer(packet: &[u8], id: u16, name: &Name, rtype: RecordType) -> Option<Option<Result<Vec<Found>, Failure>>> {
    let answer = Envelope::parse(packet).ok()?;
    let (header, question) = (&answer.header, &answer.question);
    let is_answer = header.is_response() && header.id == id && header.opcode() == Opcode::QUERY;
    if !is_answer || question.name() != name.as_wire() || question.qtype != rtype || question.class != CLASS_IN {
        return None;
    }
    if header.is_truncated() {
        return Some(None);
    }
    Some(Some(match answer.rcode() {
        Rcode::NOERROR | Rcode::NXDOMAIN => {
            let records = answer.first_section().filter(|record| record.rtype == rtype && record.class == CLASS_IN);
            let records: Result<Vec<Found>, _> =
                records.map(|record| record.rdata().map(|rdata| (Ttl(record.ttl), rdata))).collect();
            Ok(records.ok()?)
        }
        Rcode::REFUSED => Err(Failure::Refused(format!("the query for {rtype} at {name} is REFUSED"))),
        rcode => Err(Failure::Silent(format!("the query for {rtype} at {name} is answered {rcode}"))),
    }))
}

/// What an answer to an update means.
fn outcome(answer: &Envelope<'_>, order: Order, member: &Registration) -> Result<Reply, Failure> {
    let rcode = answer.rcode();
    if rcode == Rcode::NOERROR {
        // RFC 9664 §4.2: a server that says nothing of the lease doesn't know the option; renewals go on as if it did.
        let lease = answer.edns.as_ref().and_then(|edns| edns.lease).map(|(lease, _)| lease);
        let lease = lease.filter(|&lease| lease > 0).map(|lease| Duration::from_secs(lease.into()));
        return Ok(match order {
            Order::Deregister => Reply::Done,
            _ => {
                let said = answer.edns.as_ref().and_then(|edns| edns.extended_error()).map(|error| error.text);
                Reply::Granted { lease, slot: None, unpublished: said.filter(|text| !text.is_empty()) }
            }
        });
    }
    let said = answer.edns.as_ref().and_then(|edns| edns.extended_error()).map(|error| error.text);
    let advice = match (rcode, said) {
        (_, Some(said)) if !said.is_empty() => said,
        (Rcode::NOTAUTH, _) => format!("it doesn't serve the zone {}: look at --zone and --server", member.zone),
        (Rcode::REFUSED, _) => "look at [access] update in the zone's file, and in the server's log".to_owned(),
        (Rcode::NOTIMP, _) => "it takes no updates: is it livezone?".to_owned(),
        (Rcode::SERVFAIL, _) => "it can't at the moment: its log says why".to_owned(),
        _ => "the server's log may say why".to_owned(),
    };
    Err(Failure::Refused(format!("{rcode}: {advice}")))
}

/// One message and its answer over a connection of their own (RFC 7766).
async fn over_tcp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = peer::connect_tcp(server, &[]).await?;
    stream.set_nodelay(true)?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[async_trait]
impl Channel for Dns {
    fn servers(&self) -> usize {
        self.servers.len()
    }

    fn name(&self, server: usize) -> String {
        self.servers[server].place.to_string()
    }

    async fn place(&self, server: usize) -> io::Result<SocketAddr> {
        self.servers[server].address().await
    }

    async fn carry_out(&self, server: usize, order: Order, member: &Registration) -> Result<Reply, Failure> {
        let server = &self.servers[server];
        let address = server.address().await.map_err(silent)?;
        let result = match order {
            Order::Ask => self.publishes(address, member).await,
            _ => self.update(address, order, member).await,
        };
        if matches!(result, Err(Failure::Silent(_))) {
            server.forget();
        }
        result
    }

    async fn wait_until_safe(
        &self,
        servers: &[usize],
        member: &Registration,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut drained = Vec::new();
        for &server in servers {
            drained.push(self.servers[server].address().await.map_err(silent)?);
        }
        settle::wait(self, &drained, member, deadline).await
    }
}

#[cfg(test)]
mod tests;
