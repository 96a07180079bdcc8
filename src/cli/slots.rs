//! `livezone slots`: who holds which slot.

use crate::api::drain::SlotsView;
use crate::api::segment;
use crate::base::Name;

use super::client::{Client, Error, ServerArgs};
use super::explain::json_line;
use super::keygen::parse_name;
use super::serve::print;

/// Who holds which slot of a service, and which are free
///
/// A slot keeps its number and its name while members come and go. Free slots at the end are removed by --shrink alone.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone slots svc.example.test. _memcached._tcp\n  \
                        livezone slots svc.example.test. _memcached._tcp --shrink")]
pub struct Args {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_name)]
    pub zone: Name,
    /// The service: _memcached._tcp, or the whole name
    pub service: String,
    /// Remove the free slots at the end
    #[arg(long)]
    pub shrink: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which server to ask
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Prints the slots, after they were shrunk if that is asked for.
pub fn run(args: &Args) -> Result<(), Error> {
    let client = Client::new(&args.server)?;
    let path = format!("/v1/zones/{}/services/{}/slots", segment(&args.zone.to_string()), segment(&args.service));
    let view: SlotsView = if args.shrink { client.post(&format!("{path}/shrink"))? } else { client.document(&path)? };
    Ok(print(&if args.json { json_line(&view) } else { text(&view) })?)
}

fn text(view: &SlotsView) -> String {
    if view.slots.is_empty() {
        return "no slots yet\n".to_owned();
    }
    let line = |slot: &crate::api::drain::SlotView| match (&slot.id, &slot.last) {
        (Some(id), _) => format!("{}  {id}\n", slot.name),
        (None, Some(last)) => {
            format!("{}  free since {}, {last} had it\n", slot.name, slot.since.clone().unwrap_or_default())
        }
        (None, None) => format!("{}  free\n", slot.name),
    };
    view.slots.iter().map(line).collect()
}
