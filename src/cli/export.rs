//! `livezone export`: a zone as a master file.

use std::io::BufWriter;
use std::path::PathBuf;

use crate::base::Name;
use crate::config;
use crate::membership::Table;
use crate::server::clock::{Clock as _, SystemClock};
use crate::server::load;
use crate::store::{self, StoreError};
use crate::zone::file;

use super::keygen::parse_name;

/// Write a zone as a master file
///
/// Reads the store of a stopped server, and changes nothing there. What is written is the zone as its last commit left it,
/// members included whose leases have ended since; other name servers load it.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:\n  livezone export svc.example.test. > svc.example.test.zone\n  \
                        named-checkzone svc.example.test. svc.example.test.zone")]
pub struct Args {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_name)]
    pub zone: Name,
    /// The configuration file, which says where the store is; without it, the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why there is no file. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error("the configuration is wrong:\n{0}")]
    Configuration(#[from] config::Problems),
    /// Another process has the store.
    #[error("the store in {0} is in use: stop the server, and export then")]
    InUse(String),
    /// The store.
    #[error(transparent)]
    Store(StoreError),
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
    let folder = config::load(args.config.as_deref())?.data_dir;
    let shown = || folder.display().to_string();
    let stored = store::inspect(&folder, &args.zone).map_err(|error| match error {
        StoreError::InUse(_) => Error::InUse(shown()),
        error => Error::Store(error),
    })?;
    let stored = stored.ok_or_else(|| Error::UnknownZone { folder: shown(), zone: args.zone.clone() })?;
    let table = Table::new(std::time::Duration::ZERO);
    let (zone, _) = load::revive(stored, table, SystemClock::start().now()).map_err(Error::Store)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    file::write(zone.snapshot(), &mut out)?;
    Ok(std::io::Write::flush(&mut out)?)
}
