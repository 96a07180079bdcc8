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
    pub http: Option<config::Http>,
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
    config.http = args.http.unwrap_or(config.http);
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

/// Reads where to serve HTTP: on loopback, or nowhere.
pub(super) fn parse_http(text: &str) -> Result<config::Http, String> {
    if text.is_empty() {
        return Ok(config::Http { listen: None });
    }
    let address: SocketAddr =
        text.parse().map_err(|_| "write an address with a port, as in 127.0.0.1:8053".to_owned())?;
    let beyond = "beyond loopback only `[http] listen` with `open = true` in livezone.toml serves HTTP".to_owned();
    if address.ip().to_canonical().is_loopback() { Ok(config::Http { listen: Some(address) }) } else { Err(beyond) }
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
