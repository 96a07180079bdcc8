//! `livezone serve`: the server.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::base::Epoch;
use crate::config;
use crate::server::{self, Options, Server, StartError, reading};

use super::{logging, show};

/// Run the server
///
/// Without a configuration file: listens on 127.0.0.1:5353, and for HTTP on 127.0.0.1:8053, serves the zones in ./zones,
/// and keeps its store in ./data.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  livezone serve\n  livezone serve --config /etc/livezone/livezone.toml --log-format json"
)]
pub struct Args {
    /// The configuration file; relative paths in it start at its folder
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen here instead of where the configuration says; may be repeated
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Serve HTTP here instead of where the configuration says; "" serves none
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_http)]
    pub http: Option<HttpAddress>,
    /// The first epoch of zones that the store doesn't know at this start, instead of the Unix time or what comes after
    /// the serials that their secondaries and name servers have, which are not asked then
    #[arg(long, value_name = "N")]
    pub epoch: Option<u64>,
    /// What to log, and how
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options about logging.
#[derive(clap::Args, Clone, Debug)]
pub struct LogArgs {
    /// What to log: a level, or as in RUST_LOG (info,livezone::server=debug)
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: logging::Format,
}

/// Why the server ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error("the configuration is wrong:\n{0}")]
    Configuration(#[from] config::Problems),
    /// Nobody could use it.
    #[error(
        "--http {0} is beyond loopback: that needs a [[token]] in livezone.toml (`livezone keygen --token NAME` makes one), or \
         `[http] open = true` to let everyone read and register who can reach it"
    )]
    Closed(SocketAddr),
    /// The log filter.
    #[error(transparent)]
    Logging(#[from] logging::Error),
    /// The start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The runtime.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
}

/// Serves until SIGTERM or SIGINT.
pub fn run(args: &Args) -> Result<(), Error> {
    logging::init(args.log.log.as_deref(), args.log.log_format)?;
    let path = args.config.as_deref();
    let (mut config, zones, source) = reading::read(path, None).whole(path)?;
    for warning in &source.warnings {
        tracing::warn!("{warning}");
    }
    if !args.listen.is_empty() {
        config.dns.listen.clone_from(&args.listen);
    }
    listen_for_http(&mut config, args.http)?;
    let options = Options { config, zones, source: Some(source), epoch: args.epoch.map(Epoch), on_commit: None };
    let runtime = server::runtime()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let Some(server) = start(options, &mut signals).await? else { return Ok(()) };
        print(&show::started(&server))?;
        let name = loop {
            match signals.next().await {
                Received::End(name) => break name,
                Received::Reload => server.reload(),
            }
        };
        tracing::info!(signal = name, "stopping");
        server.stop().await;
        Ok(())
    });
    // A name that the system still looks up keeps a thread, which can't be told to stop; so does a disk that hangs.
    runtime.shutdown_timeout(THREAD_PATIENCE);
    result
}

/// Where to serve HTTP, if at all.
#[derive(Clone, Copy, Debug)]
pub struct HttpAddress(pub Option<SocketAddr>);

/// Reads where to serve HTTP.
pub(super) fn parse_http(text: &str) -> Result<HttpAddress, String> {
    if text.is_empty() {
        return Ok(HttpAddress(None));
    }
    let address = text.parse().map_err(|_| "write an address with a port, as in 127.0.0.1:8053".to_owned())?;
    Ok(HttpAddress(Some(address)))
}

/// Serves HTTP there, if it says so; beyond loopback by the same rule as in livezone.toml.
pub(super) fn listen_for_http(config: &mut config::Config, address: Option<HttpAddress>) -> Result<(), Error> {
    let Some(HttpAddress(listen)) = address else { return Ok(()) };
    config.http.listen = listen;
    match listen {
        Some(address) if config.tokens.is_empty() && config.admission().are_required() => Err(Error::Closed(address)),
        _ => Ok(()),
    }
}

/// Starts the server; none if a signal ends the process before. On this thread, whose priority the threads of UDP inherit. What
/// is left of the start then goes aside, since the store waits for its thread when it is dropped.
pub(super) async fn start(options: Options, signals: &mut Signals) -> Result<Option<Server>, Error> {
    let mut starting = Box::pin(Server::start(options));
    loop {
        tokio::select! {
            started = &mut starting => return Ok(Some(started?)),
            received = signals.next() => match received {
                Received::End(name) => {
                    tracing::info!(signal = name, "stopping before the start was complete");
                    drop(tokio::task::spawn_blocking(move || drop(starting)));
                    return Ok(None);
                }
                // What it asks for is not there yet; the files are looked at again once it is.
                Received::Reload => {}
            },
        }
    }
}

/// How long the end waits for threads that the system keeps: everything else has ended before.
pub(super) const THREAD_PATIENCE: Duration = Duration::from_secs(1);

/// The signals that the process heeds.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received::End("SIGTERM"),
            _ = self.interrupt.recv() => Received::End("SIGINT"),
            _ = self.hangup.recv() => Received::Reload,
        }
    }
}

/// What a signal asks for.
pub(super) enum Received {
    /// The end, by the signal of this name.
    End(&'static str),
    /// To read all files again.
    Reload,
}

/// Prints to standard output; a reader that went away is no error.
pub(super) fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Whether a person reads what is printed.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
