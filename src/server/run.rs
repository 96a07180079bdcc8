//! A running server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::api;
use crate::api::watches::Watches;
use crate::base::{Epoch, Name};
use crate::config::{self, Config, Problem};
use crate::dns::cookie::Secret;
use crate::dns::identity::{IDENTITY_OCTETS, Identity};
use crate::dns::respond::ServedZone;
use crate::dns::tsig::Keys;
use crate::net::priority::Nicer;
use crate::net::{Handler, hickory, tcp, udp};
use crate::store::{Embedded, Store, StoreError};

use super::clock::{Clock, SystemClock};
use super::counters::{self, Counters};
use super::defence::Defence;
use super::directory::Directory;
use super::drains::Drains;
use super::first_epoch;
use super::fleet::{Fleet, STORE_PATIENCE};
use super::follower;
use super::forward;
use super::front::Front;
use super::http_tls;
use super::metrics::Sources;
use super::notifier;
use super::reading::Ready;
use super::reload::{Reloader, Source};
use super::runtime::publishing;
use super::store_health::{Health, Watched};
use super::task::FIRST_COMMIT_PATIENCE;
use super::visible::OnCommit;

/// What a server is started with.
pub struct Options {
    /// The server's configuration.
    pub config: Config,
    /// Its zones.
    pub zones: Vec<Ready>,
    /// Where all of that was read from, if it is to be followed from then on.
    pub source: Option<Source>,
    /// The first epoch of these zones, where the store doesn't know them; else the Unix time, or one after what others have.
    pub epoch: Option<Epoch>,
    /// Told of each commit.
    pub on_commit: Option<OnCommit>,
}

/// Why a server doesn't start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No zone is configured.
    #[error(
        "no zone in {0}: put a file like svc.example.test.toml there, with at least origin = \"svc.example.test.\""
    )]
    NoZone(String),
    /// A zone's static records stand in the way of members that the store kept.
    #[error("{0}")]
    Clash(Problem),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first commit of a zone.
    #[error("zone {zone}: the store has not taken its first commit: {cause}")]
    FirstCommit {
        /// The zone.
        zone: Name,
        /// What the store said.
        cause: String,
    },
    /// The secret of cookies.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A thread.
    #[error("can't start a thread: {0}")]
    Thread(std::io::Error),
    /// A listener.
    #[error("can't listen on {address}: {cause}; choose another address with [dns] listen or --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The listener of the HTTP API.
    #[error(
        "can't serve HTTP on {address}: {cause}; choose another address with [http] listen or --http, or none: \"\""
    )]
    ListenHttp {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// A running server. Dropping it doesn't stop it; [`Server::stop`] does.
pub struct Server {
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    http_address: Option<SocketAddr>,
    front: Arc<Front>,
    stop: watch::Sender<bool>,
    udp: Vec<udp::Listener>,
    transports: JoinSet<()>,
    /// Zone transfers are made there.
    _bulk: tcp::bulk::Bulk,
    /// Zones are published and written there.
    _publishing: Nicer,
    reloads: mpsc::Sender<()>,
    /// Owns the zones until it is told to stop.
    reloader: JoinHandle<Fleet>,
    store: Arc<dyn Store>,
}

impl Server {
    /// Opens the store, brings every zone into force, and listens.
    pub async fn start(options: Options) -> Result<Server, StartError> {
        let Options { config, zones, source, epoch, on_commit } = options;
        if zones.is_empty() {
            return Err(StartError::NoZone(config.zones_dir.display().to_string()));
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        // Addresses first: whoever starts the same server twice learns that before anything else.
        let listeners = config.dns.listen.iter().map(|&address| Listeners::bind(address, threads(&config)));
        let listeners: Vec<Listeners> = listeners.collect::<Result<_, _>>()?;
        let tls = config.tls.as_ref().map(bind_tls).transpose()?;
        let http = config.http.listen.map(bind_http).transpose()?;
        let publishing = publishing().map_err(StartError::Thread)?;
        let (store, health) = open(&config.data_dir, &publishing.handle()).await?;
        let started = Server::bring_up(
            Options { config, zones, source, epoch, on_commit },
            clock,
            listeners,
            (tls, http),
            publishing,
            (&store, health),
        );
        match started.await {
            Ok(server) => Ok(server),
            Err(error) => {
                close(store, Instant::now() + CLOSING_PATIENCE).await;
                Err(error)
            }
        }
    }

    /// The rest of a start, once its addresses and its store are there.
    async fn bring_up(
        options: Options,
        clock: Arc<dyn Clock>,
        listeners: Vec<Listeners>,
        (tls, http): (Option<Vec<Bound>>, Option<Bound>),
        publishing: Nicer,
        (store, health): (&Arc<dyn Store>, Arc<Health>),
    ) -> Result<Server, StartError> {
        let Options { config, zones, source, epoch, on_commit } = options;
        let (stop, stopped) = watch::channel(false);
        let counters: Arc<Counters> = Arc::default();
        let (open, _) = watch::channel(false);
        let watches: Arc<Watches> = Arc::default();
        let mut secret = Secret([0; 16]);
        getrandom::fill(&mut secret.0).map_err(StartError::Random)?;
        let addresses: Vec<SocketAddr> = listeners.iter().map(|listener| listener.address).collect();
        let mut fleet = Fleet {
            store: store.clone(),
            clock: clock.clone(),
            counters: counters.clone(),
            on_commit: Some(telling(watches.clone(), on_commit)),
            listening: addresses.clone(),
            defence: Defence::new(secret),
            notifying: notifier::Shared::new(addresses.clone(), clock.clone(), keys(&config)),
            turns: Arc::new(Semaphore::new(follower::TURNS)),
            publishing: publishing.handle(),
            open,
            running: BTreeMap::new(),
            absent: BTreeMap::new(),
            leaving: BTreeMap::new(),
            opening: None,
        };
        let first = first_epoch::choose(&fleet, &zones, epoch).await;
        for (ready, first) in zones.into_iter().zip(first) {
            fleet.add(ready, first).await?;
        }
        let (forwards, forwarded) = mpsc::channel(forward::UNDER_WAY);
        let front = Arc::new(Front::new(fleet.routing(&config), &config, clock, counters.clone(), forwards));
        let mut udp = Vec::new();
        let mut transports = JoinSet::new();
        transports.spawn(forward::run(forwarded, addresses.clone().into(), counters.clone(), stopped.clone()));
        transports.spawn(counters::report(counters, stopped.clone()));
        let mut tls_addresses = Vec::new();
        let handler: Arc<dyn Handler> = front.clone();
        let places = Arc::new(tcp::Places::new(config.limits.tcp));
        let bulk = tcp::bulk::Bulk::start().map_err(StartError::Thread)?;
        for listener in listeners {
            let failed = |cause| StartError::Listen { address: listener.address, cause };
            udp.push(udp::Listener::start(listener.udp, &handler).map_err(failed)?);
            transports.spawn(tcp::serve(listener.tcp, handler.clone(), places.clone(), bulk.handle(), stopped.clone()));
        }
        if let Some(tls) = tls {
            let mut carried = hickory::Server::new(handler);
            for (address, listener) in tls {
                let certified = &config.tls.as_ref().expect("its listeners are bound").certified;
                let failed = |cause| StartError::Listen { address, cause };
                carried.serve_tls(listener, config.limits.tcp.idle, certified).map_err(failed)?;
                tls_addresses.push(address);
            }
            transports.spawn(carried.run(stopped.clone()));
        }
        let http_address = http.as_ref().map(|(address, _)| *address);
        if let Some((address, listener)) = http {
            tell_http(address, &config);
            let sources = Sources {
                front: front.clone(),
                store: store.clone(),
                places: places.clone(),
                listening: addresses.clone().into(),
            };
            let drains: Arc<Drains> = Arc::default();
            let asking = drains.clone().run(front.clock.clone(), addresses.clone().into(), stopped.clone());
            transports.spawn(asking);
            let directory = Arc::new(Directory { sources, drains, health });
            let failed = |cause: rustls::Error| StartError::ListenHttp { address, cause: std::io::Error::other(cause) };
            let tls =
                config.http.certified.is_some().then(|| http_tls::acceptor(&front)).transpose().map_err(failed)?;
            let room = api::serve::room(config.limits.tcp.connections);
            transports.spawn(api::serve((listener, tls), directory, watches, room, stopped.clone()));
        }
        fleet.open();
        // One more request than the one being carried out is as good as many.
        let (reloads, requests) = mpsc::channel(1);
        let reloader = Reloader::new(fleet, front.clone(), config, source);
        let reloader = tokio::spawn(reloader.run(requests, stopped));
        let store = store.clone();
        Ok(Server {
            addresses,
            tls_addresses,
            http_address,
            front,
            stop,
            udp,
            transports,
            _bulk: bulk,
            _publishing: publishing,
            reloads,
            reloader,
            store,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens for DNS over TLS.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Where it serves the HTTP API.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// The zones that it serves, in canonical order.
    pub fn zones(&self) -> Vec<Arc<ServedZone>> {
        let mut zones: Vec<_> = self.front.routing.load().zones.iter().cloned().collect();
        zones.sort_by(|a, b| a.origin.canonical_cmp(&b.origin));
        zones
    }

    /// The side that the transports call, for those outside of the process's sockets.
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Asks for all files to be read again; the log tells what came of it.
    pub fn reload(&self) {
        let _ = self.reloads.try_send(()); // full: a reload that has not begun yet will do
    }

    /// Stops listening, finishes the registrations under way, and closes the store. What has not ended after
    /// [`STORE_PATIENCE`] is left, and logged.
    pub async fn stop(mut self) {
        let deadline = Instant::now() + STORE_PATIENCE;
        for listener in self.udp.drain(..) {
            listener.stop();
        }
        let _ = self.stop.send(true);
        let transports = async { while self.transports.join_next().await.is_some() {} };
        let _ = timeout(PATIENCE, transports).await;
        self.transports.shutdown().await;
        match timeout_at(deadline, self.reloader).await {
            Ok(Ok(fleet)) => fleet.stop(deadline).await,
            Ok(Err(error)) => tracing::error!(%error, "the reloading task ended badly"),
            Err(_) => tracing::error!("a reload doesn't end; updates under way are not acknowledged"),
        }
        drop(self.front);
        close(self.store, deadline).await;
    }
}

/// Opens the store, whose thread is as nice as those that open it. That may take its time, after a crash of a large one, so it
/// is only said that it does.
async fn open(folder: &Path, publishing: &Handle) -> Result<(Arc<dyn Store>, Arc<Health>), StartError> {
    let path = folder.to_owned();
    let mut opening = publishing.spawn_blocking(move || Embedded::open(&path));
    let opened = match timeout(FIRST_COMMIT_PATIENCE, &mut opening).await {
        Ok(opened) => opened,
        Err(_) => {
            let folder = folder.display();
            tracing::warn!(%folder, "the store is still being opened: it is long, or its disk does not answer");
            opening.await
        }
    };
    let failed = |error: JoinError| StoreError::Io { path: folder.display().to_string(), cause: error.to_string() };
    let store = Watched::new(Arc::new(opened.map_err(failed)??));
    let health = store.health();
    Ok((Arc::new(store), health))
}

/// Closes the store, which waits for the writes that it was handed, up to the deadline.
async fn close(store: Arc<dyn Store>, deadline: Instant) {
    // The last handle waits for its thread.
    let closing = tokio::task::spawn_blocking(move || drop(store));
    if timeout_at(deadline, closing).await.is_err() {
        tracing::error!("the store doesn't answer, so it is not closed; what was acknowledged is in it");
    }
}

/// How long the store may take to close when a start has failed.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);
/// How long connections may take to end at shutdown.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the configuration tells of the server; by default its host name and its version.
pub(super) fn identity(dns: &config::Dns) -> Identity {
    let told = |text: &str| -> Option<Arc<[u8]>> {
        let octets = text.as_bytes();
        (!octets.is_empty()).then(|| octets[..octets.len().min(IDENTITY_OCTETS)].into())
    };
    let version = dns.version.as_deref().unwrap_or(concat!("livezone ", env!("CARGO_PKG_VERSION")));
    let host = rustix::system::uname();
    let nsid = dns.nsid.clone().unwrap_or_else(|| host.nodename().to_string_lossy().into_owned());
    Identity { nsid: told(&nsid), version: told(version) }
}

/// The TSIG keys.
pub(super) fn keys(config: &Config) -> Keys {
    Keys::new(config.keys.iter().cloned())
}

fn threads(config: &Config) -> usize {
    match config.dns.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// A listener with the address that it has.
type Bound = (SocketAddr, tokio::net::TcpListener);

/// The listener of the HTTP API.
fn bind_http(address: SocketAddr) -> Result<Bound, StartError> {
    let bind = || -> std::io::Result<Bound> {
        let listener = tcp::bind(address)?;
        Ok((listener.local_addr()?, listener))
    };
    bind().map_err(|cause| StartError::ListenHttp { address, cause })
}

/// Tells whoever watches a service over HTTP of each commit, ahead of anybody else who is told.
fn telling(watches: Arc<Watches>, others: Option<OnCommit>) -> OnCommit {
    Arc::new(move |zone, commit| {
        watches.tell(zone, commit);
        if let Some(others) = &others {
            others(zone, commit);
        }
    })
}

/// Says who may use the HTTP API.
fn tell_http(address: SocketAddr, config: &Config) {
    let tls = config.http.certified.is_some();
    let reach = if address.ip().to_canonical().is_loopback() { "this machine" } else { "whoever can reach it" };
    match config.tokens.len() {
        0 if config.http.open => {
            tracing::warn!(%address, tls, "HTTP is open: everyone who can reach it may read and register");
        }
        0 => tracing::info!(%address, tls, "HTTP is open to {reach}, for reading and registering"),
        tokens => tracing::info!(%address, tls, tokens, "HTTP is for {reach} with one of the tokens"),
    }
}

/// The listeners for DNS over TLS, with the addresses that they have.
fn bind_tls(tls: &config::Tls) -> Result<Vec<Bound>, StartError> {
    let bind = |&address: &SocketAddr| {
        let failed = |cause| StartError::Listen { address, cause };
        let listener = tcp::bind(address).map_err(failed)?;
        Ok((listener.local_addr().map_err(failed)?, listener))
    };
    tls.listen.iter().map(bind).collect()
}

/// The sockets of one address.
struct Listeners {
    address: SocketAddr,
    tcp: tokio::net::TcpListener,
    udp: Vec<std::net::UdpSocket>,
}

impl Listeners {
    fn bind(address: SocketAddr, threads: usize) -> Result<Listeners, StartError> {
        let failed = |cause| StartError::Listen { address, cause };
        let tcp = tcp::bind(address).map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        let udp = udp::bind(address, threads).map_err(failed)?;
        Ok(Listeners { address, tcp, udp })
    }
}
