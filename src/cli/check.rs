//! `livezone check`: what is wrong with the configuration, the zones and the static files; all of it.

use std::path::PathBuf;

use crate::config::Problems;
use crate::server::reading;

use super::serve::print;

/// Validate the configuration, the zones and their static files
///
/// Reads what `livezone serve` would read and prints every problem with file, line and column, and what to do about it.
/// Exit status 1 if there is any. Nothing is started, and no store is opened.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:\n  livezone check --config /etc/livezone/livezone.toml && systemctl reload livezone")]
pub struct Args {
    /// The configuration file; relative paths in it start at its folder
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why the check fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is wrong.
    #[error("{} found:\n{problems}", counted(problems))]
    Problems {
        /// All of it.
        problems: Problems,
    },
    /// Standard output.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

fn counted(problems: &Problems) -> String {
    match problems.iter().len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    }
}

/// Reads everything and reports.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut reading = reading::read(args.config.as_deref(), None);
    if let (Some(zones), Some(dir)) = (&reading.zones, &reading.zones_dir)
        && zones.is_empty()
    {
        reading.problems.push(reading::no_zone(dir));
    }
    for warning in &reading.warnings {
        print(&format!("warning: {warning}\n"))?;
    }
    let (_, zones, _) = reading.whole(None).map_err(|problems| Error::Problems { problems })?;
    for ready in &zones {
        if let Some(following) = &ready.zone.following {
            let primaries = following.primaries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let (file, origin) = (ready.zone.source.display(), ready.origin());
            print(&format!("{file}: zone {origin}, a copy of {primaries}\n"))?;
            continue;
        }
        let records: usize =
            ready.statics.iter().flat_map(|located| &located.node.rrsets).map(|set| set.rdatas.len()).sum();
        print(&format!("{}: zone {}, {records} static records\n", ready.zone.source.display(), ready.origin()))?;
    }
    Ok(())
}
