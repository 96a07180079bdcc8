//! `livezone slots`: who holds which slot.

use crate::api::drain::{SlotView, SlotsView};
use crate::api::segment;
use crate::base::Name;

use super::client::{Client, Error, ServerArgs, parse_zone};
use super::explain::json_line;
use super::serve::print;
use super::table::{Column, table, terminal_width};

/// Who holds which slot of a service, and which are free
///
/// A slot keeps its number and its name while members come and go. Free slots at the end are removed by --shrink alone.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone slots svc.example.test. _memcached._tcp\n  \
                        livezone slots svc.example.test. _memcached._tcp --shrink")]
pub struct Args {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_zone)]
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
    Ok(print(&if args.json { json_line(&view) } else { text(&view, terminal_width()) })?)
}

const COLUMNS: [Column; 4] = [
    Column::new("SLOT").at_least(12),
    Column::new("MEMBER").at_least(12),
    Column::new("FREE SINCE").rank(2),
    Column::new("LAST MEMBER").at_least(12).rank(1),
];

fn text(view: &SlotsView, width: Option<usize>) -> String {
    if view.slots.is_empty() {
        return "no slots: a service with `slots = true` in its [[service]] entry has them from its first member on\n"
            .to_owned();
    }
    let row = |slot: &SlotView| {
        let SlotView { name, id, since, last, .. } = slot;
        let id = id.clone().unwrap_or_else(|| "-".to_owned());
        [name.clone(), id, since.clone().unwrap_or_default(), last.clone().unwrap_or_default()]
    };
    table(&COLUMNS, &view.slots.iter().map(row).collect::<Vec<_>>(), width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_slot_and_who_had_one_stand_side_by_side() {
        let slot = |number: u32, id: Option<&str>, last: Option<&str>| SlotView {
            number,
            name: format!("s{number:04}.x.z."),
            id: id.map(str::to_owned),
            last: last.map(str::to_owned),
            since: last.map(|_| "2026-11-29T06:25:55.123Z".to_owned()),
        };
        let slots = vec![slot(0, Some("a"), None), slot(1, None, Some("b"))];
        let mut view = SlotsView { zone: "z.".to_owned(), service: "_x._tcp.z.".to_owned(), epoch: 7, slots };
        assert_eq!(
            text(&view, None),
            "SLOT        MEMBER  FREE SINCE                LAST MEMBER\n\
             s0000.x.z.  a\n\
             s0001.x.z.  -       2026-11-29T06:25:55.123Z  b\n"
        );
        view.slots.pop();
        assert_eq!(text(&view, None), "SLOT        MEMBER\ns0000.x.z.  a\n");
        view.slots.pop();
        assert!(text(&view, None).starts_with("no slots: a service with `slots = true`"));
    }
}
