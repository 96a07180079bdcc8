//! When it is safe to stop, as far as DNS alone can tell: once every name server of the zone serves the serial with which
//! the member was drained, or a later one, and what resolvers had before has aged out of their caches.
//!
//! The serial is read from the server that drained the member, after it said so: whatever it serves then is without the
//! member's SRV record. A name server is satisfied when one of its addresses serves that serial or a later one (RFC 1982),
//! and none answers with an earlier one; an address that can't be reached from here speaks for nothing, as long as another
//! answers. The servers that drained the member need no asking. The TTL is that of the member's own addresses, which the
//! zone gives all records of its members; they stay while it drains.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::base::{Name, RecordType, Serial, Ttl};
use crate::config::agent::{Place, record_type};
use crate::net::ask;
use crate::zone::records::address;

use super::channel::Failure;
use super::dns::{Dns, resolve, silent};
use super::registration::Registration;

/// From one round of questions to the next: a notified secondary follows within a second.
const ROUND: Duration = Duration::from_millis(250);
/// How long a name server may take for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Beyond the TTL: caches count in whole seconds.
const MARGIN: Duration = Duration::from_secs(1);
/// The port of name servers that the zone names.
const PORT: u16 = 53;

/// Returns once it is safe to stop a member that these servers have drained.
pub(super) async fn wait(
    dns: &Dns,
    drained: &[SocketAddr],
    member: &Registration,
    deadline: Instant,
) -> Result<(), Failure> {
    let mut end = Instant::now();
    for &server in drained {
        let ttl = until(deadline, || ttl(dns, server, member, deadline)).await?;
        let serial = until(deadline, || serial(server, &member.zone, deadline)).await?;
        let mut open = until(deadline, || name_servers(dns, server, &member.zone, deadline)).await?;
        loop {
            let mut behind = Vec::new();
            for (name, addresses) in open {
                if let Some(why) = lags(&addresses, drained, &member.zone, serial, deadline).await {
                    behind.push((name, addresses, why));
                }
            }
            let Some((name, _, why)) = behind.first() else { break };
            let late = format!("{name} does not serve serial {serial} yet: {why}");
            pause(deadline).await.ok_or(Failure::Silent(late))?;
            open = behind.into_iter().map(|(name, addresses, _)| (name, addresses)).collect();
        }
        tracing::info!(serial = serial.0, ttl = ttl.0, "all name servers are without the member: caches have the rest");
        end = end.max(Instant::now() + Duration::from_secs(ttl.0.into()) + MARGIN);
    }
    sleep_until(end.min(deadline)).await;
    match end <= deadline {
        true => Ok(()),
        false => Err(Failure::Silent("caches may have the member for longer than --drain-timeout".to_owned())),
    }
}

/// Tries again until there is a result or the time is over.
async fn until<T, F: Future<Output = Result<T, Failure>>>(
    deadline: Instant,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure> {
    loop {
        match attempt().await {
            Ok(result) => return Ok(result),
            Err(failure) => pause(deadline).await.ok_or(failure)?,
        }
    }
}

/// Waits for the next round; `None` if there is none.
async fn pause(deadline: Instant) -> Option<()> {
    let next = Instant::now() + ROUND;
    if next >= deadline {
        return None;
    }
    sleep_until(next).await;
    Some(())
}

fn soon(deadline: Instant) -> Instant {
    deadline.min(Instant::now() + ANSWER)
}

async fn ttl(dns: &Dns, server: SocketAddr, member: &Registration, deadline: Instant) -> Result<Ttl, Failure> {
    let mut longest = None;
    for &own in &member.addresses {
        let found = dns.look_up(server, &member.host, record_type(own), soon(deadline)).await?;
        longest = longest.max(found.iter().map(|(ttl, _)| ttl.0).max());
    }
    let nothing = || Failure::Silent(format!("the server has no addresses at {}: its TTL isn't known", member.host));
    longest.map(Ttl).ok_or_else(nothing)
}

async fn serial(server: SocketAddr, zone: &Name, deadline: Instant) -> Result<Serial, Failure> {
    let told = ask::ask(server, std::slice::from_ref(zone), &[], soon(deadline)).await;
    let told = told.and_then(|mut told| told.pop()).unwrap_or(Err(ask::Silence::Late));
    told.map_err(|silence| Failure::Silent(format!("no serial from {server}: {silence}")))
}

/// Why a name server with these addresses is not satisfied; none if it is.
async fn lags(
    addresses: &[SocketAddr],
    drained: &[SocketAddr],
    zone: &Name,
    wanted: Serial,
    deadline: Instant,
) -> Option<String> {
    let mut is_served = addresses.iter().any(|address| drained.contains(address));
    let mut why = None;
    for &address in addresses.iter().filter(|address| !drained.contains(address)) {
        match serial(address, zone, deadline).await {
            Ok(found) if found >= wanted => is_served = true,
            Ok(found) => return Some(format!("{address} serves {found}")),
            Err(failure) => why = Some(failure.to_string()),
        }
    }
    if is_served { None } else { Some(why.unwrap_or_default()) }
}

/// The name servers to ask, with their addresses.
async fn name_servers(
    dns: &Dns,
    server: SocketAddr,
    zone: &Name,
    deadline: Instant,
) -> Result<Vec<(String, Vec<SocketAddr>)>, Failure> {
    let mut found = Vec::new();
    if !dns.name_servers.is_empty() {
        for place in &dns.name_servers {
            found.push((place.to_string(), resolve(place).await.map_err(silent)?));
        }
        return Ok(found);
    }
    for (_, rdata) in dns.look_up(server, zone, RecordType::NS, soon(deadline)).await? {
        let name = Name::from_wire(&rdata).map_err(silent)?;
        let mut addresses = Vec::new();
        if name.is_within(zone) {
            for rtype in [RecordType::A, RecordType::AAAA] {
                for (_, rdata) in dns.look_up(server, &name, rtype, soon(deadline)).await? {
                    addresses.extend(address::address(rtype, &rdata).map(|ip| SocketAddr::new(ip, PORT)));
                }
            }
        } else {
            let host = name.to_string();
            addresses = resolve(&Place { host, port: PORT }).await.map_err(silent)?;
        }
        if addresses.is_empty() {
            return Err(Failure::Silent(format!("the name server {name} has no address")));
        }
        found.push((name.to_string(), addresses));
    }
    match found.is_empty() {
        true => Err(Failure::Silent(format!("{zone} has no NS records at {server}"))),
        false => Ok(found),
    }
}
