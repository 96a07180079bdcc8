//! The command line: one file for each subcommand.
//!
//! Exit status: 0 done, 1 it didn't work (the reason on standard error), 2 wrong usage.

pub mod agent;
pub mod check;
pub mod client;
pub mod completions;
pub mod demo;
pub mod drain;
pub mod explain;
pub mod export;
pub mod keygen;
pub mod logging;
pub mod man;
pub mod members;
pub mod serve;
pub mod show;
pub mod slots;
mod table;
pub mod watch;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An authoritative DNS server whose zones are alive
///
/// Members send heartbeats by DNS UPDATE; the zone answers SRV, A and AAAA with who is there; the SOA serial moves by one
/// exactly when what is published changes.
#[derive(Parser, Debug)]
#[command(
    name = "livezone",
    version,
    max_term_width = 120,
    after_help = "Example:\n  livezone demo\n  livezone help serve"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(serve::Args),
    Agent(Box<agent::Args>),
    Check(check::Args),
    Demo(demo::Args),
    Keygen(keygen::Args),
    Export(export::Args),
    Members(members::Args),
    Watch(watch::Args),
    Explain(explain::Args),
    Drain(drain::DrainArgs),
    Undrain(drain::UndrainArgs),
    Release(drain::ReleaseArgs),
    Slots(slots::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::Serve(args) => serve::run(args).map_err(|error| error.to_string()),
        Command::Agent(args) => agent::run(args).map_err(|error| error.to_string()),
        Command::Check(args) => check::run(args).map_err(|error| error.to_string()),
        Command::Demo(args) => demo::run(args).map_err(|error| error.to_string()),
        Command::Export(args) => export::run(args).map_err(|error| error.to_string()),
        Command::Members(args) => members::run(args).map_err(|error| error.to_string()),
        Command::Watch(args) => watch::run(args).map_err(|error| error.to_string()),
        Command::Drain(args) => drain::drain(args).map_err(|error| error.to_string()),
        Command::Undrain(args) => drain::undrain(args).map_err(|error| error.to_string()),
        Command::Release(args) => drain::release(args).map_err(|error| error.to_string()),
        Command::Slots(args) => slots::run(args).map_err(|error| error.to_string()),
        Command::Explain(args) => explain::run(args).map_err(|error| error.to_string()),
        Command::Keygen(args) => keygen::run(args).map_err(|error| error.to_string()),
        Command::Completions(args) => completions::run(args).map_err(|error| format!("standard output: {error}")),
        Command::Man(args) => man::run(args).map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "livezone: {error}");
            ExitCode::FAILURE
        }
    }
}
