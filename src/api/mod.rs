//! The HTTP API: zones, their members and their history, for people, scripts and the client commands.
//!
//! What it reads and orders stands behind a [`Directory`], as what the transports call stands behind
//! [`net::Handler`](crate::net::Handler); the server provides it.
//!
//! # Resources
//!
//! | path | what |
//! | --- | --- |
//! | `/v1/zones` | every zone: [`views::Zones`] |
//! | `/v1/zones/{zone}` | one zone: [`views::ZoneView`]; with `Accept: text/dns` (RFC 4027) its master file |
//! | `/v1/zones/{zone}/services` | its services: [`views::Services`] |
//! | `/v1/zones/{zone}/services/{service}` | one service with its members: [`views::ServiceView`] |
//! | `/v1/zones/{zone}/services/{service}/members/{id}` | one member: [`views::MemberView`]; PUT registers, changes or renews it, DELETE deregisters it: [`orders`] |
//! | `…/members/{id}/drain` | POST takes it out of the answers, GET follows: [`drain::DrainView`] |
//! | `…/members/{id}/undrain`, `/release` | POST brings it back; withdraws it if it is held |
//! | `/v1/zones/{zone}/services/{service}/release` | POST withdraws all that are held: [`drain::ReleaseView`] |
//! | `/v1/zones/{zone}/heartbeats` | POST: a batch of these PUTs |
//! | `…/services/{service}?since=EPOCH&wait=30s` | waits for its next change; with `Accept: text/event-stream` a stream of them: [`events`] |
//! | `/v1/zones/{zone}/commits` | its kept history, `?since=EPOCH&limit=N`: [`views::Commits`] |
//! | `/metrics` | the server's metrics, for Prometheus |
//! | `…/services/{service}/http-sd` | targets for Prometheus: [`discovery`] |
//! | `/healthz` | 200 while the process serves |
//! | `/readyz` | 200 if every part of the server is ready, else 503: [`ready::Readiness`] |
//! | `/v1/openapi.json` | this, described: [`routes::description`] |
//! | `/` | a page for people |
//!
//! GET and HEAD where nothing else is said. A zone is named with or without its final dot; a service below its zone, or absolute. Bodies are JSON
//! with keys in kebab-case. Of a copy, members and their leases are not known here: its services are told without, and a
//! single one is 421 with the primaries to ask. Errors are problem documents (RFC 9457, [`problem`]). The `ETag` of a zone, of its master file
//! and of its services is the zone's epoch, that of a service the epoch of its last change.
//!
//! # Bounds
//!
//! [`mod@serve`] bounds connections, the time that a request may take to come in and a response to be taken, and a
//! connection's age. Large responses are made as they are read, or page by page, and so many at a time as [`routes`] says;
//! [`intake`] bounds bodies that come in.

pub mod access;
mod body;
mod browsers;
pub mod discovery;
pub mod drain;
pub mod events;
mod headers;
pub mod history;
pub mod intake;
mod leftover;
mod members;
mod openapi;
pub mod orders;
mod page;
pub mod problem;
pub mod ready;
pub mod routes;
pub mod serve;
#[cfg(test)]
mod tests;
pub mod views;
pub mod watches;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::base::{Epoch, Name};
use crate::membership::MemberId;
use crate::zone::registration::order::{Failure, Order, Orderer, Report};
use crate::zone::{Commit, Returns, Snapshot};

pub use serve::serve;

use access::Tokens;
use drain::DrainView;
use views::{CopyView, NotifyView, ServiceView};

/// A future that a directory returns.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A name as a segment of a path (RFC 3986 §3.3): the text of a name may have any ASCII character.
pub fn segment(name: &str) -> String {
    let escape = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    };
    name.bytes().map(escape).collect()
}

/// What became of removing free slots.
pub type Shrunk = Result<(u32, Epoch), Failure>;

/// What is read.
pub trait Directory: Send + Sync + 'static {
    /// Who may.
    fn tokens(&self) -> Arc<Tokens>;

    /// Whether the store takes writes.
    fn store(&self) -> Pending<Result<(), Unavailable>>;

    /// The zones that are served, in canonical order.
    fn zones(&self) -> Vec<ServedZone>;

    /// One of them.
    fn zone(&self, origin: &Name) -> Option<ServedZone>;

    /// A service with its members as they stand now; none: the zone doesn't know it.
    fn service(&self, origin: &Name, service: &Name) -> Pending<Result<Option<ServiceView>, Unavailable>>;

    /// Carries orders out, each by itself, and reports on each in their order.
    fn order(&self, origin: &Name, orderer: Orderer, orders: Vec<Order>) -> Pending<Result<Vec<Report>, Unavailable>>;

    /// How a member stands that drains since then; the zone as it is served now is without it.
    fn drained(&self, origin: &Name, service: &Name, id: &MemberId, since: &str) -> DrainView;

    /// Removes the free slots at the end of a service; says how many are left, and from which epoch on.
    fn shrink(&self, origin: &Name, service: &Name, by: Arc<str>) -> Pending<Result<Shrunk, Unavailable>>;

    /// Forgets what a member waited for.
    fn undrained(&self, origin: &Name, service: &Name, id: &MemberId);

    /// Commits kept of a zone after an epoch, or all, from the oldest: so many at most, and fewer where they are large.
    /// None: there are no later ones.
    fn commits(&self, origin: &Name, since: Option<Epoch>, limit: usize) -> Pending<Result<Page, Unavailable>>;

    /// The server's metrics in the text format of Prometheus, as they stand now. May take as long as a look at every zone.
    fn metrics(&self) -> String;
}

/// A page of the kept history.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The commits.
    pub commits: Vec<Arc<Commit>>,
    /// Which registrations in them brought back what had lapsed.
    pub returns: Returns,
    /// Whether commits between the epoch that was asked for and the first of these may be kept no longer.
    pub incomplete: bool,
}

/// A zone as it is served.
#[derive(Clone, Debug)]
pub struct ServedZone {
    /// Its apex.
    pub origin: Name,
    /// How it stands, if it is a copy of another server's.
    pub copy: Option<CopyView>,
    /// What became of NOTIFY for it.
    pub notify: Vec<NotifyView>,
    /// What is published; none while the zone isn't loaded.
    pub snapshot: Option<Snapshot>,
}

/// Why something can't be read at the moment, and what to do; it can be asked for again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);
