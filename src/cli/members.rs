//! `livezone members`: who is there.

use crate::api::segment;
use crate::api::views::{MemberState, MemberView, Role, ServiceView, Services, ZoneView, Zones};
use crate::base::Name;

use super::client::{Client, Error, ServerArgs, parse_zone};
use super::explain::json_line;
use super::serve::print;
use super::table::{Column, table, terminal_width};

/// List members: where they are, how they stand, and how long their leases run
///
/// Asks a running server: of one service, of all services of a zone, or of all its zones.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone members\n  livezone members svc.example.test. _memcached._tcp\n  \
                        livezone members svc.example.test. _memcached._tcp --json | jq -r '.members[].target'")]
pub struct Args {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_zone)]
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
    let text = if rows.is_empty() { "no members\n".to_owned() } else { text(&rows, terminal_width()) };
    Ok(print(&text)?)
}

const COLUMNS: [Column; 9] = [
    Column::new("SERVICE").at_least(12).rank(1),
    Column::new("ID").at_least(12),
    Column::new("SLOT"),
    Column::new("ADDRESS").at_least(15),
    Column::new("PORT").rank(2),
    Column::new("WEIGHT").rank(3),
    Column::new("STATE").at_least(8),
    Column::new("LEASE LEFT").rank(4),
    Column::new("OWNER").at_least(8).rank(5),
];
const WEIGHT: usize = 5;

fn rows_of(view: &ServiceView) -> impl Iterator<Item = [String; 9]> {
    view.members.iter().map(|member| {
        let addresses: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
        [
            view.summary.service.clone(),
            member.id.clone(),
            member.slot.map(|number| number.to_string()).unwrap_or_default(),
            // One that the zone knows no address of is found by its target.
            if addresses.is_empty() { member.target.clone() } else { addresses.join(",") },
            member.port.to_string(),
            weight(member),
            state(member),
            format!("{:.0}s of {}s", member.lease_remaining, member.lease),
            member.owner.clone(),
        ]
    })
}

/// The weight that is published, and what it will be.
fn weight(member: &MemberView) -> String {
    match member.published_weight {
        Some(published) => format!("{published}{OF}{}", member.weight),
        None => member.weight.to_string(),
    }
}

const OF: &str = " of ";

fn state(member: &MemberView) -> String {
    let since = |word: &str| format!("{word} since {}", seconds(&member.since));
    let mut text = match (member.state, &member.damped_until) {
        (MemberState::Up, _) if member.late => "late".to_owned(),
        (MemberState::Up, _) => "up".to_owned(),
        (MemberState::Suspect, _) => "suspect".to_owned(),
        (MemberState::Held, _) => since("held"),
        (MemberState::Draining, _) => since("draining"),
        (MemberState::Damped, Some(until)) => format!("damped until {}", seconds(until)),
        (MemberState::Damped, None) => since("damped"),
    };
    if member.waits_for_slot {
        text.push_str(", waits for a slot");
    }
    if member.pending {
        text.push_str(", pending");
    }
    text
}

/// A time without its fraction of a second.
fn seconds(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))
}

/// The members' table. Weights stand in it while one differs from what its member registered.
fn text(rows: &[[String; 9]], width: Option<usize>) -> String {
    if rows.iter().any(|row| row[WEIGHT].contains(OF)) {
        return table(&COLUMNS, rows, width);
    }
    let without = |row: &[String; 9]| {
        let mut row = row.clone();
        row[WEIGHT].clear();
        row
    };
    table(&COLUMNS, &rows.iter().map(without).collect::<Vec<_>>(), width)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service with members that have these fields besides.
    fn view(members: &[(&str, serde_json::Value)]) -> ServiceView {
        let member = |(id, more): &(&str, serde_json::Value)| {
            let mut member = serde_json::json!({
                "id": id, "target": format!("{id}.x.z."), "port": 80, "priority": 0, "weight": 256,
                "addresses": ["192.0.2.1"], "state": "up", "since": "2026-11-29T06:25:55.123Z", "late": false,
                "owner": "key agents.", "lease": 15, "lease-remaining": 9.2, "last-heartbeat": "", "metadata": {},
            });
            member.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            member
        };
        let members: Vec<_> = members.iter().map(member).collect();
        serde_json::from_value(serde_json::json!({
            "zone": "z.", "service": "_x._tcp.z.", "host-name": null, "epoch": 7, "members-count": 0, "digest": "",
            "members": members,
        }))
        .unwrap()
    }

    fn told(members: &[(&str, serde_json::Value)], width: Option<usize>) -> String {
        text(&rows_of(&view(members)).collect::<Vec<_>>(), width)
    }

    #[test]
    fn members_that_nothing_happened_to_have_no_more_columns_than_they_need() {
        let several = [("i-1", serde_json::json!({})), ("b", serde_json::json!({"addresses": [], "late": true}))];
        assert_eq!(
            told(&several, None),
            "SERVICE     ID   ADDRESS    PORT  STATE  LEASE LEFT  OWNER\n\
             _x._tcp.z.  i-1  192.0.2.1  80    up     9s of 15s   key agents.\n\
             _x._tcp.z.  b    b.x.z.     80    late   9s of 15s   key agents.\n"
        );
    }

    #[test]
    fn slots_weights_and_what_policy_does_are_told() {
        let several = [
            ("a", serde_json::json!({"slot": 0, "published-weight": 64})),
            ("b", serde_json::json!({"slot": 11, "state": "held"})),
            ("c", serde_json::json!({"waits-for-slot": true, "pending": true})),
            ("d", serde_json::json!({"state": "damped", "damped-until": "2026-11-29T06:26:55.5Z"})),
            ("e", serde_json::json!({"state": "draining"})),
        ];
        assert_eq!(
            told(&several, None),
            "SERVICE     ID  SLOT  ADDRESS    PORT  WEIGHT     STATE                                LEASE LEFT  OWNER\n\
             _x._tcp.z.  a   0     192.0.2.1  80    64 of 256  up                                   9s of 15s   key agents.\n\
             _x._tcp.z.  b   11    192.0.2.1  80    256        held since 2026-11-29T06:25:55Z      9s of 15s   key agents.\n\
             _x._tcp.z.  c         192.0.2.1  80    256        up, waits for a slot, pending        9s of 15s   key agents.\n\
             _x._tcp.z.  d         192.0.2.1  80    256        damped until 2026-11-29T06:26:55Z    9s of 15s   key agents.\n\
             _x._tcp.z.  e         192.0.2.1  80    256        draining since 2026-11-29T06:25:55Z  9s of 15s   key agents.\n"
        );
        let narrow = told(&several, Some(72));
        assert!(narrow.lines().all(|line| line.chars().count() <= 72), "{narrow}");
        assert!(narrow.starts_with("SERVICE     ID  SLOT  ADDRESS    PORT  WEIGHT     STATE "), "{narrow}");
    }
}
