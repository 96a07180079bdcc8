//! `livezone members`: who is there.

use crate::api::segment;
use crate::api::views::{MemberState, MemberView, Role, ServiceView, Services, ZoneView, Zones};
use crate::base::Name;

use super::client::{Client, Error, ServerArgs};
use super::explain::json_line;
use super::keygen::parse_name;
use super::serve::print;

/// List members: where they are, how they stand, and how long their leases run
///
/// Asks a running server: of one service, of all services of a zone, or of all its zones.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone members\n  livezone members svc.example.test. _memcached._tcp\n  \
                        livezone members svc.example.test. _memcached._tcp --json | jq -r '.members[].target'")]
pub struct Args {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_name)]
    pub zone: Option<Name>,
    /// The service: _memcached._tcp, or the whole name
    pub service: Option<String>,
    /// Print JSON, a service a line
    #[arg(long)]
    pub json: bool,
    /// Which server to ask
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Prints a table, or the services as the server tells them.
pub fn run(args: &Args) -> Result<(), Error> {
    let client = Client::new(&args.server)?;
    let zones = match &args.zone {
        Some(zone) => vec![zone.to_string()],
        None => {
            let zones: Zones = client.document("/v1/zones")?;
            let is_own = |zone: &ZoneView| zone.role == Role::Primary && zone.epoch.is_some();
            zones.zones.into_iter().filter(is_own).map(|zone| zone.origin).collect()
        }
    };
    let mut rows = Vec::new();
    for zone in zones {
        let path = format!("/v1/zones/{}/services", segment(&zone));
        let services = match &args.service {
            Some(service) => vec![service.clone()],
            None => {
                let services: Services = client.document(&path)?;
                services.services.into_iter().map(|summary| summary.service).collect()
            }
        };
        for service in services {
            let view = match client.document(&format!("{path}/{}", segment(&service))) {
                // Forgotten since the list was read.
                Err(Error::Refused { problem, .. }) if problem.status == 404 && args.service.is_none() => continue,
                view => view?,
            };
            if args.json {
                print(&json_line(&view))?;
            } else {
                rows.extend(rows_of(&view));
            }
        }
    }
    if args.json {
        return Ok(());
    }
    if rows.is_empty() { Ok(print("no members\n")?) } else { Ok(print(&table(&rows))?) }
}

const COLUMNS: [&str; 7] = ["SERVICE", "ID", "ADDRESS", "PORT", "STATE", "LEASE LEFT", "OWNER"];

fn rows_of(view: &ServiceView) -> impl Iterator<Item = [String; 7]> {
    view.members.iter().map(|member| {
        let addresses: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
        [
            view.summary.service.clone(),
            member.id.clone(),
            // One that the zone knows no address of is found by its target.
            if addresses.is_empty() { member.target.clone() } else { addresses.join(",") },
            member.port.to_string(),
            state(member),
            format!("{:.0}s of {}s", member.lease_remaining, member.lease),
            member.owner.clone(),
        ]
    })
}

fn state(member: &MemberView) -> String {
    let mut text = match member.state {
        MemberState::Up if member.late => "late",
        MemberState::Up => "up",
        MemberState::Suspect => "suspect",
        MemberState::Held => "held",
        MemberState::Draining => "draining",
        MemberState::Damped => "damped",
    }
    .to_owned();
    if member.pending {
        text.push_str(", pending");
    }
    text
}

/// Columns as wide as their widest cell, two spaces between them.
fn table(rows: &[[String; 7]]) -> String {
    let head = COLUMNS.map(str::to_owned);
    let rows: Vec<&[String; 7]> = [&head].into_iter().chain(rows).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default());
    let line = |row: &&[String; 7]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned() {
        let row =
            |id: &str, owner: &str| ["_x._tcp.z.", id, "192.0.2.1", "80", "up", "9s of 15s", owner].map(str::to_owned);
        let text = table(&[row("i-1", "key agents."), row("a-long-id", "access")]);
        assert_eq!(
            text,
            "SERVICE     ID         ADDRESS    PORT  STATE  LEASE LEFT  OWNER\n\
             _x._tcp.z.  i-1        192.0.2.1  80    up     9s of 15s   key agents.\n\
             _x._tcp.z.  a-long-id  192.0.2.1  80    up     9s of 15s   access\n"
        );
    }
}
