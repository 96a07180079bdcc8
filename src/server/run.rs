//! A running server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::base::limits::PUBLISHER_QUEUE;
use crate::base::{Epoch, Name};
use crate::config::{self, Config};
use crate::dns::identity::{IDENTITY_OCTETS, Identity};
use crate::dns::respond::{ServedZone, Zones};
use crate::dns::tsig::Keys;
use crate::membership::UpdateAccess;
use crate::net::{Handler, hickory, tcp, udp};
use crate::store::{Embedded, Store, StoreError};

use super::clock::Clock;
use super::front::{Drops, Front, RateLimit, Registrar, Routing};
use super::load::{self, StaticsError};
use super::task::{OnCommit, Task};

/// What a server is started with.
pub struct Options {
    /// The server's configuration.
    pub config: Config,
    /// Its zones.
    pub zones: Vec<config::Zone>,
    /// The epoch of the first commit of zones that the store doesn't know.
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
    /// A zone's static records.
    #[error(transparent)]
    Statics(#[from] StaticsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first commit of a zone.
    #[error("zone {zone}: the store refused its first commit: {cause}")]
    FirstCommit {
        /// The zone.
        zone: Name,
        /// What the store said.
        cause: String,
    },
    /// A listener.
    #[error("can't listen on {address}: {cause}; choose another address with [dns] listen or --listen")]
    Listen {
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
    zones: Vec<Arc<ServedZone>>,
    front: Arc<Front>,
    stop: watch::Sender<bool>,
    udp: Vec<udp::Listener>,
    transports: JoinSet<()>,
    publishers: JoinSet<()>,
    store: Arc<dyn Store>,
}

impl Server {
    /// Opens the store, brings every zone into force, and listens.
    pub async fn start(options: Options) -> Result<Server, StartError> {
        let Options { config, zones, epoch, on_commit } = options;
        if zones.is_empty() {
            return Err(StartError::NoZone(config.zones_dir.display().to_string()));
        }
        let clock = Clock::start();
        // Addresses first: whoever starts the same server twice learns that before anything else.
        let listeners = config.dns.listen.iter().map(|&address| Listeners::bind(address, threads(&config)));
        let listeners: Vec<Listeners> = listeners.collect::<Result<_, _>>()?;
        let tls = config.tls.as_ref().map(bind_tls).transpose()?;
        let statics: Vec<_> = zones.iter().map(load::read_statics).collect::<Result<_, _>>()?;
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&config.data_dir)?);
        let (stop, stopped) = watch::channel(false);
        let mut publishers = JoinSet::new();
        let mut queues = HashMap::new();
        let mut served = Vec::new();
        for (zone, statics) in zones.iter().zip(statics) {
            let origin = zone.settings.origin.clone();
            let entry = Arc::new(ServedZone {
                origin: origin.clone(),
                answers: ArcSwapOption::empty(),
                query: ArcSwapOption::new(zone.query.clone().map(Arc::new)),
            });
            let mut task = Task {
                publisher: load::open(zone, statics, &*store, epoch, clock.now())?,
                store: store.clone(),
                served: entry.clone(),
                clock,
                on_commit: on_commit.clone(),
                checkpoint_interval: zone.leases.min.duration() / 3,
            };
            task.begin().await.map_err(|cause| StartError::FirstCommit { zone: origin.clone(), cause })?;
            let (queue, requests) = mpsc::channel(PUBLISHER_QUEUE);
            queues.insert(origin, Registrar { queue, access: UpdateAccess::new(zone.update.clone()) });
            publishers.spawn(task.run(requests, stopped.clone()));
            served.push(entry);
        }
        let front = Arc::new(Front {
            routing: ArcSwap::from_pointee(Routing {
                zones: Zones::new(served.iter().cloned()),
                registrars: queues,
                keys: Keys::new(config.keys),
                identity: identity(&config.dns),
                udp_size: config.dns.udp_size,
            }),
            tcp_idle: config.limits.tcp.idle,
            clock,
            rate: Mutex::new(RateLimit::new(config.dns.update_rate)),
            drops: Drops::default(),
        });
        let mut server = Server {
            addresses: listeners.iter().map(|listener| listener.address).collect(),
            tls_addresses: Vec::new(),
            zones: served,
            front,
            stop,
            udp: Vec::new(),
            transports: JoinSet::new(),
            publishers,
            store,
        };
        let handler: Arc<dyn Handler> = server.front.clone();
        let places = Arc::new(tcp::Places::new(config.limits.tcp));
        for listener in listeners {
            let failed = |cause| StartError::Listen { address: listener.address, cause };
            server.udp.push(udp::Listener::start(listener.udp, &handler).map_err(failed)?);
            server.transports.spawn(tcp::serve(listener.tcp, handler.clone(), places.clone(), stopped.clone()));
        }
        if let Some(tls) = tls {
            let mut carried = hickory::Server::new(handler);
            for (address, listener) in tls {
                let certified = &config.tls.as_ref().expect("its listeners are bound").certified;
                let failed = |cause| StartError::Listen { address, cause };
                carried.serve_tls(listener, config.limits.tcp.idle, certified).map_err(failed)?;
                server.tls_addresses.push(address);
            }
            server.transports.spawn(carried.run(stopped.clone()));
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens for DNS over TLS.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// The zones that it serves.
    pub fn zones(&self) -> &[Arc<ServedZone>] {
        &self.zones
    }

    /// The side that the transports call, for those outside of the process's sockets.
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Stops listening, finishes the registrations under way, and closes the store.
    pub async fn stop(mut self) {
        for listener in self.udp.drain(..) {
            listener.stop();
        }
        let _ = self.stop.send(true);
        let transports = async { while self.transports.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(PATIENCE, transports).await;
        self.transports.shutdown().await;
        let publishers = async {
            while let Some(ended) = self.publishers.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a publisher ended badly");
                }
            }
        };
        if tokio::time::timeout(STORE_PATIENCE, publishers).await.is_err() {
            tracing::error!("the store doesn't answer; updates under way are not acknowledged");
        }
        self.publishers.shutdown().await;
        let store = self.store;
        drop(self.front);
        // The last handle waits for its thread.
        let _ = tokio::task::spawn_blocking(move || drop(store)).await;
    }
}

/// How long writes under way may take to end at shutdown.
const STORE_PATIENCE: Duration = Duration::from_secs(30);
/// How long connections may take to end at shutdown.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the configuration tells of the server; by default its host name and its version.
fn identity(dns: &config::Dns) -> Identity {
    let told = |text: &str| -> Option<Arc<[u8]>> {
        let octets = text.as_bytes();
        (!octets.is_empty()).then(|| octets[..octets.len().min(IDENTITY_OCTETS)].into())
    };
    let version = dns.version.as_deref().unwrap_or(concat!("livezone ", env!("CARGO_PKG_VERSION")));
    let host = rustix::system::uname();
    let nsid = dns.nsid.clone().unwrap_or_else(|| host.nodename().to_string_lossy().into_owned());
    Identity { nsid: told(&nsid), version: told(version) }
}

fn threads(config: &Config) -> usize {
    match config.dns.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// The listeners for DNS over TLS, with the addresses that they have.
fn bind_tls(tls: &config::Tls) -> Result<Vec<(SocketAddr, tokio::net::TcpListener)>, StartError> {
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
