//! One round of asking the primaries of a copy: what does one of them have that is newer?
//!
//! They are asked one after the other, the one that answered last first, until one has the zone as it is here or newer. A
//! round for the refresh time asks for the SOA record over UDP first, which is all that most of them cost; one after a
//! NOTIFY asks for the changes at once. What a primary doesn't answer as changes, or what doesn't fit, is asked for as a
//! whole in the same round.
//!
//! Whoever transfers waits for a turn first ([`super::TURNS`]), and has it until what came is taken over. To ask for a serial
//! takes none.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::base::{Name, Serial};
use crate::dns::edns::{self, Edns};
use crate::dns::soa;
use crate::dns::transaction::Transaction;
use crate::dns::transfer::incoming::{Bounds, Request, Transferred};
use crate::dns::tsig::{Exchange, Key};
use crate::net::transfer::Fetched;
use crate::net::{peer, transfer};
use crate::server::clock::Clock;
use crate::zone::Record;
use crate::zone::settings::serial_of;

/// How long a primary has for its SOA record, and how often it is asked within that.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;

/// What is asked, of whom.
#[derive(Clone)]
pub(super) struct Round {
    pub(super) origin: Name,
    /// In the order in which they are asked.
    pub(super) primaries: Vec<SocketAddr>,
    pub(super) key: Option<Key>,
    /// Our SOA record; none if there is no copy.
    pub(super) have: Option<Arc<Record>>,
    /// Whether the copy is past its time: then any other version is better.
    pub(super) expired: bool,
    /// Whether to ask for the SOA record first.
    pub(super) probes: bool,
    /// Whether to ask for the whole zone: differences didn't fit.
    pub(super) whole: bool,
    /// Where this server listens: it is not its own primary.
    pub(super) listening: Arc<[SocketAddr]>,
    /// The turns of all followers.
    pub(super) turns: Arc<Semaphore>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What a round found.
#[derive(Debug)]
pub(super) enum Found {
    /// It has what is here.
    Same,
    /// It has something else.
    Newer(Transferred),
}

/// A primary that answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) primary: SocketAddr,
    pub(super) found: Found,
    /// For how long it has the zone as good, if it says so: one that is a copy itself can't vouch for more (RFC 7314).
    pub(super) expires_in: Option<Duration>,
    /// By which what came is in memory.
    pub(super) _turn: Option<OwnedSemaphorePermit>,
}

/// What each primary that was asked in vain said.
pub(super) type Failures = Vec<(SocketAddr, String)>;

impl Round {
    /// Asks until one has something.
    pub(super) async fn run(self) -> Result<Answer, Failures> {
        let mut failures = Failures::new();
        for &primary in &self.primaries {
            match self.ask(primary).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failures.push((primary, failure)),
            }
        }
        Err(failures)
    }

    async fn ask(&self, primary: SocketAddr) -> Result<Answer, String> {
        let socket = peer::connect(primary, &self.listening).await.map_err(|error| error.to_string())?;
        let Some(socket) = socket else { return Err("it is this server itself".to_owned()) };
        if self.probes
            && let Some(have) = self.have.as_deref()
        {
            // A primary that is silent over UDP may well be there over TCP.
            if let Some((serial, expires_in)) = self.probe(&socket).await? {
                match self.compare(serial, have) {
                    Some(Ok(())) => return Ok(Answer { primary, found: Found::Same, expires_in, _turn: None }),
                    Some(Err(older)) => return Err(older),
                    None => {}
                }
            }
        }
        drop(socket);
        let turn = self.turns.clone().acquire_owned().await.expect("it is never closed");
        let mut found = None;
        if let Some(have) = self.have.as_deref().filter(|_| !self.expired && !self.whole) {
            let request =
                Request::ixfr(self.origin.clone(), id()?, have.clone()).ok_or("the copy has no SOA record")?;
            match self.fetch(primary, request).await {
                Ok(fetched) => found = Some(fetched),
                Err(failure) if suggests_axfr(&failure) => {
                    tracing::info!(zone = %self.origin, %primary, reason = %failure, "the whole zone is asked for");
                }
                Err(failure) => return Err(failure.to_string()),
            }
        }
        let Fetched { transferred, expires_in } = match found {
            Some(fetched) => fetched,
            None => {
                let request = Request::axfr(self.origin.clone(), id()?);
                self.fetch(primary, request).await.map_err(|failure| failure.to_string())?
            }
        };
        Ok(Answer { primary, found: self.judge(transferred)?, expires_in, _turn: Some(turn) })
    }

    /// Whether what came is newer than what is here.
    fn judge(&self, transferred: Transferred) -> Result<Found, String> {
        let Some(have) = self.have.as_deref() else { return Ok(Found::Newer(transferred)) };
        let serial = match &transferred {
            Transferred::Current(soa) => serial_of(soa),
            Transferred::Whole(whole) => serial_of(&whole.soa),
            Transferred::Changes(_) => return Ok(Found::Newer(transferred)),
        };
        match (self.compare(serial, have), &transferred) {
            // Asked for as a whole since the differences were no use: it is right, whatever we had.
            (Some(Ok(())), Transferred::Whole(_)) if self.whole => Ok(Found::Newer(transferred)),
            // RFC 1995 §4 lets a primary answer with the whole zone even if nothing is new.
            (Some(Ok(())), _) => Ok(Found::Same),
            (Some(Err(older)), _) => Err(older),
            (None, Transferred::Current(_)) => Err(format!("it has serial {serial}, and does not send it")),
            (None, _) => Ok(Found::Newer(transferred)),
        }
    }

    /// A primary's serial beside ours: the same, an error if it is behind, `None` if it is newer (RFC 1982 §3.2), or if
    /// anything will do.
    fn compare(&self, serial: Serial, have: &Record) -> Option<Result<(), String>> {
        let own = serial_of(have);
        match serial.partial_cmp(&own) {
            Some(Ordering::Equal) => Some(Ok(())),
            Some(Ordering::Less) if !self.expired => Some(Err(format!(
                "its serial {serial} is behind {own}, which is here; it counts once the copy has expired"
            ))),
            None if !self.expired => Some(Err(format!(
                "its serial {serial} is neither before nor after {own}, which is here (RFC 1982 §3.2)"
            ))),
            _ => None,
        }
    }

    /// The serial that a primary has, and for how long it has it as good; none if it says nothing of use over UDP. What is
    /// not authoritative comes from a cache, or from a copy that has expired: it vouches for nothing.
    async fn probe(&self, socket: &tokio::net::UdpSocket) -> Result<Option<(Serial, Option<Duration>)>, String> {
        let mut query = soa::query(id()?, &self.origin);
        edns::ask_for_expire(&mut query);
        let mut transaction = Transaction::begin(&mut query, self.key.as_ref(), self.clock.now().wall);
        let read = |packet: &[u8]| match transaction.accept(packet, self.clock.now().wall)? {
            // As a server does that limits its rate: over TCP it would say more.
            Ok(envelope) if envelope.header.is_truncated() => Some(Ok(None)),
            Ok(envelope) => {
                let expires_in = envelope.edns.as_ref().and_then(Edns::expires_in);
                let is_authoritative = envelope.header.is_authoritative();
                soa::record(&envelope, &self.origin).map(|record| Ok(Some((record, is_authoritative, expires_in))))
            }
            Err(distrust) => Some(Err(distrust)),
        };
        match peer::exchange(socket, &query, PROBES, Instant::now() + PROBE_PATIENCE, read).await {
            Ok(Some((Ok(soa), true, expires_in))) => Ok(Some((serial_of(&soa), expires_in))),
            Ok(Some((Ok(_), false, _))) => Err("its answer is not authoritative: does it serve the zone?".to_owned()),
            Ok(Some((Err(none), ..))) => Err(none.to_string()),
            Ok(None) => Ok(None),
            Err(failure) => {
                tracing::debug!(zone = %self.origin, %failure, "the serial is asked for over TCP");
                Ok(None)
            }
        }
    }

    async fn fetch(&self, primary: SocketAddr, request: Request) -> Result<Fetched, transfer::Failure> {
        let mut octets = request.octets();
        let now = || self.clock.now().wall;
        let exchange = self.key.as_ref().map(|key| Exchange::sign(key, &mut octets, now()));
        transfer::fetch(primary, &self.listening, &octets, request.incoming(exchange, Bounds::default()), now).await
    }
}

fn suggests_axfr(failure: &transfer::Failure) -> bool {
    matches!(failure, transfer::Failure::Transfer(error) if error.suggests_axfr())
}

fn id() -> Result<u16, String> {
    peer::random_id().map_err(|error| error.to_string())
}
