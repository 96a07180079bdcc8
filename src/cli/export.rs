//! `livezone export`: a zone as a master file.

use std::io::{BufWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::api::routes::MASTER_FILE;
use crate::api::segment;
use crate::base::Name;
use crate::config;
use crate::membership::Table;
use crate::server::clock::{Clock as _, SystemClock};
use crate::server::load;
use crate::store::{self, StoreError, StoredZone};
use crate::zone::file;

use super::client::{self, AskArgs, Client, ServerArgs, parse_url, parse_zone};

/// Write a zone as a master file
///
/// Of a running server, what it publishes at the moment, all of one serial: the server at --server, or the one that has the
/// store of the configuration, at its `http.listen`. Of a stopped one, the zone as its last commit left it in the store,
/// members included whose leases have ended since. Nothing is changed; other name servers load it.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:\n  livezone export svc.example.test. > svc.example.test.zone\n  \
                        named-checkzone svc.example.test. svc.example.test.zone")]
pub struct Args {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_zone)]
    pub zone: Name,
    /// The configuration file, which says where the store is; without it, the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The HTTP address of a running server, as in http://127.0.0.1:8053
    #[arg(long, value_name = "URL", value_parser = parse_url, conflicts_with = "config")]
    pub server: Option<String>,
    /// How a running server is asked
    #[command(flatten)]
    pub asking: AskArgs,
}

/// Why there is no file. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error("the configuration is wrong:\n{0}")]
    Configuration(#[from] config::Problems),
    /// Another process has the store, and can't be asked.
    #[error(
        "the store in {0} is in use, and the configuration says of no HTTP address to ask at ([http] listen): name it with \
         --server, or stop the server, and export then"
    )]
    InUse(String),
    /// The running server.
    #[error("{0}")]
    Server(#[from] client::Error),
    /// The connection broke.
    #[error("the zone came in part only: {0}; throw away what was written, and export again")]
    Broken(std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(StoreError),
    /// Its file.
    #[error(
        "{0}; name the livezone.toml of the server that keeps the zone with --config, or a running server with --server"
    )]
    Unreadable(StoreError),
    /// No such zone.
    #[error("the store in {folder} has no zone {zone}: name the origin of a zone that was served from there")]
    UnknownZone {
        /// The data folder.
        folder: String,
        /// What was asked for.
        zone: Name,
    },
    /// Standard output is closed or full.
    #[error("the zone can't be written to standard output: {0}; throw away what was")]
    Output(#[from] std::io::Error),
}

/// Prints the zone to standard output.
pub fn run(args: &Args) -> Result<(), Error> {
    let ask = |server: String| Client::new(&ServerArgs { server, asking: args.asking.clone() });
    if let Some(server) = &args.server {
        return export_served(&ask(server.clone())?, &args.zone);
    }
    let config = config::load(args.config.as_deref())?;
    let shown = || config.data_dir.display().to_string();
    match store::inspect(&config.data_dir, &args.zone) {
        Ok(Some(stored)) => export_stored(stored),
        Ok(None) => Err(Error::UnknownZone { folder: shown(), zone: args.zone.clone() }),
        Err(StoreError::InUse(_)) => {
            let server = config.http.listen.and_then(reachable).ok_or_else(|| Error::InUse(shown()))?;
            let scheme = if config.http.certified.is_some() { "https" } else { "http" };
            export_served(&ask(format!("{scheme}://{server}"))?, &args.zone)
        }
        Err(error @ StoreError::Io { .. }) => Err(Error::Unreadable(error)),
        Err(error) => Err(Error::Store(error)),
    }
}

/// Where a server that listens there is reached from this machine; none if the port isn't known.
fn reachable(listen: SocketAddr) -> Option<SocketAddr> {
    let address = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    (listen.port() != 0).then(|| SocketAddr::new(address, listen.port()))
}

/// What is kept of a zone.
fn export_stored(stored: StoredZone) -> Result<(), Error> {
    let table = Table::new(std::time::Duration::ZERO);
    let (zone, _) = load::revive(stored, table, SystemClock::start().now()).map_err(Error::Store)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    file::write(zone.snapshot(), &mut out)?;
    Ok(out.flush()?)
}

/// What a running server publishes.
fn export_served(client: &Client, zone: &Name) -> Result<(), Error> {
    let path = format!("/v1/zones/{}", segment(&zone.to_string()));
    let mut text = client.read(&path, MASTER_FILE)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut piece = vec![0; file::CHUNK_OCTETS];
    loop {
        match text.read(&mut piece).map_err(Error::Broken)? {
            0 => return Ok(out.flush()?),
            length => out.write_all(&piece[..length])?,
        }
    }
}
