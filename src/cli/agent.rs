//! `livezone agent`: keeps a service registered, from beside it.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::agent::drive;
use crate::agent::notify::Notify;
use crate::base::limits::MEMBER_ADDRESSES;
use crate::config::agent as config;
use crate::config::agent::{Access, Agent, Check, OnJoin, Place, Service};
use crate::config::{Problem, Problems};
use crate::membership::MemberId;

use super::logging;
use super::serve::{LogArgs, THREAD_PATIENCE};

/// Keep a service registered
///
/// Runs beside a service: registers it by signed DNS UPDATE (or over HTTP), renews its lease, and takes it out of the answers
/// when its checks fail. SIGTERM drains: the member leaves the answers, the agent waits until no client can be using it, removes
/// it, and ends with status 0; a second SIGTERM stops the waiting.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  livezone agent --zone svc.example.test --service _memcached._tcp --port 11211 \\
      --server 192.0.2.53:53 --key-file agents.key --check memcached --on-join flush
  livezone agent --config /etc/livezone/agent.toml")]
pub struct Args {
    /// Read everything from this file, for one or several services
    #[arg(long, value_name = "FILE", conflicts_with_all = ["zone", "service", "port", "server", "api"])]
    pub config: Option<PathBuf>,
    /// The zone
    #[arg(long, value_name = "ZONE", required_unless_present = "config")]
    pub zone: Option<String>,
    /// The service, such as _memcached._tcp
    #[arg(long, value_name = "SERVICE", required_unless_present = "config")]
    pub service: Option<String>,
    /// The service's port
    #[arg(long, value_name = "PORT", required_unless_present = "config", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// A server to register with by DNS UPDATE; may be repeated: they are tried in turn
    #[arg(long, value_name = "HOST:PORT", required_unless_present_any = ["config", "api"], conflicts_with = "api", value_parser = server)]
    pub server: Vec<Place>,
    /// The TSIG key that updates are signed with, as `livezone keygen` prints it
    #[arg(long, value_name = "FILE", conflicts_with = "api")]
    pub key_file: Option<PathBuf>,
    /// A server to register with over HTTP; may be repeated
    #[arg(long, value_name = "URL", value_parser = config::parse_url)]
    pub api: Vec<String>,
    /// The bearer token for that
    #[arg(long, value_name = "FILE", requires = "api")]
    pub token_file: Option<PathBuf>,
    /// Certificates that verify those of the servers, in place of the web's
    #[arg(long, value_name = "FILE", requires = "api")]
    pub api_ca: Option<PathBuf>,
    /// Register with every server, and not with one of them
    #[arg(long)]
    pub all_servers: bool,
    /// The member's id [default: this host's name]
    #[arg(long, value_name = "ID", value_parser = id)]
    pub id: Option<MemberId>,
    /// An address of the member; may be repeated [default: the one from which the server is reached, followed when it changes]
    #[arg(long, value_name = "IP", value_parser = config::parse_address)]
    pub address: Vec<IpAddr>,
    /// SRV weight
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub weight: u16,
    /// SRV priority
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub priority: u16,
    /// Metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::parse_metadata)]
    pub meta: Vec<(String, String)>,
    /// The service's `host-name`, where the zone sets one
    #[arg(long, value_name = "LABEL", value_parser = config::parse_host_name)]
    pub host_name: Option<String>,
    /// The lease to ask for; the server's limits decide
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = whole_seconds)]
    pub lease: u32,
    /// How to check the service: tcp, memcached, http://HOST:PORT/PATH or exec:COMMAND; tcp:HOST:PORT and memcached:HOST:PORT
    /// look elsewhere than at the registered address
    #[arg(long, value_name = "CHECK", value_parser = Check::parse)]
    pub check: Option<Check>,
    /// From check to check
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = span)]
    pub interval: Duration,
    /// How long a check may take
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = span)]
    pub timeout: Duration,
    /// Good checks in a row that bring the member in
    #[arg(long, value_name = "N", default_value_t = config::RISE, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rise: u32,
    /// Bad checks in a row that take it out
    #[arg(long, value_name = "N", default_value_t = config::FALL, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub fall: u32,
    /// What must have succeeded before the member joins, at the start and after each lapse or withdrawal: flush (memcached's
    /// flush_all), flush:HOST:PORT or exec:COMMAND
    #[arg(long, value_name = "ACTION", value_parser = OnJoin::parse)]
    pub on_join: Option<OnJoin>,
    /// How long that may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = span)]
    pub join_timeout: Duration,
    /// The first registration is delayed by chance, up to this long (RFC 9664) [default: 3s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub initial_delay: Option<Duration>,
    /// How long SIGTERM may take; 0s removes the member at once [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub drain_timeout: Option<Duration>,
    /// Whom to ask for the serial while draining; may be repeated [default: the zone's NS records]
    #[arg(long, value_name = "HOST:PORT", value_parser = server)]
    pub name_server: Vec<Place>,
    /// What to log, and how
    #[command(flatten)]
    pub log: LogArgs,
}

/// Why an agent ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("the configuration is wrong:\n{0}")]
    Configuration(#[from] Problems),
    /// A file that an option names.
    #[error("{0}")]
    File(Problem),
    /// An option.
    #[error("{0}")]
    Option(String),
    /// The log filter.
    #[error(transparent)]
    Logging(#[from] logging::Error),
    /// The start.
    #[error(transparent)]
    Start(#[from] drive::Error),
    /// The system.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    /// It ended before nobody could be using the member any more.
    #[error(
        "stopped before it was known to be safe: clients may still have been using the service; the log says what was missing"
    )]
    Unsafe,
}

fn server(text: &str) -> Result<Place, String> {
    Place::parse(text, Some(53))
}

fn id(text: &str) -> Result<MemberId, String> {
    MemberId::new(text).map_err(|error| error.to_string())
}

fn span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span.is_zero() => Err("it can't be zero".to_owned()),
        result => result.map_err(|error| error.to_string()),
    }
}

fn whole_seconds(text: &str) -> Result<u32, String> {
    let span = span(text)?;
    match u32::try_from(span.as_secs()) {
        Ok(seconds) if span.subsec_nanos() == 0 => Ok(seconds),
        _ => Err("a lease is whole seconds".to_owned()),
    }
}

/// What the command line says, in the form of a file.
fn from_options(args: &Args) -> Result<Agent, Error> {
    let option = |name: &str, message: String| Error::Option(format!("--{name}: {message}"));
    let zone = config::parse_zone(args.zone.as_deref().unwrap_or_default()).map_err(|error| option("zone", error))?;
    let service = config::parse_service(args.service.as_deref().unwrap_or_default(), &zone);
    let service = service.map_err(|error| option("service", error))?;
    let id = args.id.clone().map_or_else(config::id_of_this_host, Ok).map_err(|error| option("id", error))?;
    config::check_metadata(&args.meta).map_err(|error| option("meta", error))?;
    if args.address.len() > MEMBER_ADDRESSES {
        return Err(option("address", format!("a member has at most {MEMBER_ADDRESSES} addresses")));
    }
    let key = args.key_file.as_deref().map(config::read_key_file).transpose().map_err(Error::File)?;
    let token = args.token_file.as_deref().map(config::read_token_file).transpose().map_err(Error::File)?;
    let access = match args.api.is_empty() {
        true => Access::Dns { servers: args.server.clone(), key },
        false => Access::Http { urls: args.api.clone(), token, ca: args.api_ca.clone() },
    };
    let service = Service {
        zone,
        service,
        host_name: args.host_name.clone(),
        id,
        port: args.port.unwrap_or_default(),
        addresses: args.address.clone(),
        priority: args.priority,
        weight: args.weight,
        metadata: args.meta.clone(),
        lease: args.lease,
        check: args.check.clone(),
        interval: args.interval,
        timeout: args.timeout,
        rise: args.rise,
        fall: args.fall,
        on_join: args.on_join.clone(),
        join_timeout: args.join_timeout,
    };
    Ok(Agent {
        access,
        all_servers: args.all_servers,
        name_servers: args.name_server.clone(),
        initial_delay: config::INITIAL_DELAY,
        drain_timeout: config::DRAIN_TIMEOUT,
        services: vec![service],
    })
}

/// Runs until SIGTERM or SIGINT, and what follows from it.
pub fn run(args: &Args) -> Result<(), Error> {
    logging::init(args.log.log.as_deref(), args.log.log_format)?;
    let mut agent = match &args.config {
        Some(path) => config::load(path)?,
        None => from_options(args)?,
    };
    agent.all_servers |= args.all_servers;
    agent.initial_delay = args.initial_delay.unwrap_or(agent.initial_delay);
    agent.drain_timeout = args.drain_timeout.unwrap_or(agent.drain_timeout);
    if let Access::Http { urls, token: Some(_), .. } = &agent.access {
        for url in urls.iter().filter(|url| config::is_in_the_clear(url)) {
            tracing::warn!(url, "the token goes over the wire as it is: anybody there can use it; write https");
        }
    }
    // One thread: an agent has little to do, and a node has other work.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clean = runtime.block_on(async {
        let (sender, stops) = watch::channel(0);
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut running = Box::pin(drive::run(agent, stops, Notify::from_environment()));
        loop {
            let name = tokio::select! {
                clean = &mut running => return Ok::<bool, Error>(clean?),
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            let count = *sender.borrow();
            tracing::info!(signal = name, "{}", if count == 0 { "leaving" } else { "leaving at once" });
            sender.send_replace(count + 1);
        }
    });
    // A name that the system still looks up keeps a thread.
    runtime.shutdown_timeout(THREAD_PATIENCE);
    if clean? { Ok(()) } else { Err(Error::Unsafe) }
}
