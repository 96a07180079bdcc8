//! `livezone explain`: what happened to a zone, commit by commit.

use std::fmt::Write as _;

use crate::api::segment;
use crate::api::views::{CommitView, Commits};
use crate::base::Name;

use super::client::{Client, Error, ServerArgs, parse_zone};
use super::serve::print;
use super::show;

/// Tell every commit of a zone: when, who, why, and which records went and came
///
/// Asks a running server, from the oldest commit that it keeps. A commit has a line with its epoch, the zone's serial from
/// then on, the time (UTC) and the causes; then the records removed (-) and added (+). What changes nothing that is published
/// has no commit: a member that comes back damped, or waits for a slot, has its line when it is published.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone explain svc.example.test.\n  \
                        livezone explain svc.example.test. --since 1795393247 --json | jq -r '.changes[].cause'")]
pub struct Args {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_zone)]
    pub zone: Name,
    /// Only commits after this epoch
    #[arg(long, value_name = "EPOCH")]
    pub since: Option<u64>,
    /// Print JSON, a commit a line
    #[arg(long)]
    pub json: bool,
    /// Which server to ask
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Prints the commits as they come.
pub fn run(args: &Args) -> Result<(), Error> {
    let client = Client::new(&args.server)?;
    let path = format!("/v1/zones/{}/commits", segment(&args.zone.to_string()));
    let mut since = args.since;
    loop {
        let query = since.map_or_else(String::new, |since| format!("?since={since}"));
        let page: Commits = client.document(&format!("{path}{query}"))?;
        if page.incomplete {
            let after = since.unwrap_or_default();
            note(format_args!("the server keeps not all commits after epoch {after}; the older ones are gone"));
        }
        if since.is_some_and(|since| since > page.epoch) {
            note(format_args!("the zone has come to epoch {} only", page.epoch));
        }
        for commit in &page.commits {
            print(&if args.json { json_line(commit) } else { text(commit) })?;
        }
        match (page.next, page.commits.last()) {
            (Some(_), Some(last)) => since = Some(last.epoch),
            _ => return Ok(()),
        }
    }
}

/// Says something besides, to whoever looks.
fn note(text: std::fmt::Arguments<'_>) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("livezone: {text}\n"));
}

/// A document on a line of its own.
pub(super) fn json_line(document: &impl serde::Serialize) -> String {
    serde_json::to_string(document).expect("plain data with keys of text") + "\n"
}

fn text(commit: &CommitView) -> String {
    let causes: Vec<String> = commit.changes.iter().map(ToString::to_string).collect();
    let CommitView { epoch, serial, time, removed, added, .. } = commit;
    let mut text = String::new();
    writeln!(text, "epoch {epoch} serial {serial} {time}: {}", causes.join("; ")).expect("a string takes it");
    show::delta(&mut text, removed, added);
    text
}
