//! The list of a service as others read it. What is published stands in it: members that are up, suspect or held.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use crate::api::views::{MemberView, ServiceView};
use crate::cli::explain::json_line;

/// How to write a list.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The whole service, as the HTTP API tells it, on a line
    Json,
    /// Lines for /etc/hosts: addresses and the members' names
    Hosts,
    /// Server lines for a backend of HAProxy
    Haproxy,
    /// A script for `nft -f -`: sets with the members' addresses, replaced in one transaction
    Nft,
}

impl Format {
    /// The list in this format, with its line ends.
    pub(super) fn write(self, view: &ServiceView) -> String {
        match self {
            Format::Json => json_line(view),
            Format::Hosts => hosts(view),
            Format::Haproxy => haproxy(view),
            Format::Nft => nft(view),
        }
    }
}

/// Who is published.
fn published(view: &ServiceView) -> impl Iterator<Item = &MemberView> {
    view.members.iter().filter(|member| member.is_published())
}

/// What changed, in a line.
pub(super) fn line(before: Option<&ServiceView>, view: &ServiceView) -> String {
    let of = |view: &ServiceView| -> BTreeMap<String, MemberView> {
        published(view).map(|member| (member.id.clone(), member.clone())).collect()
    };
    let now = of(view);
    let mut text = format!("epoch {} members {}", view.summary.epoch, now.len());
    if view.summary.hold {
        text.push_str(" hold");
    }
    let Some(before) = before.map(of) else {
        let ids: Vec<&str> = now.keys().map(String::as_str).collect();
        return if ids.is_empty() { text + "\n" } else { format!("{text}: {}\n", ids.join(" ")) };
    };
    let mut changes = Vec::new();
    let says = |member: &MemberView| {
        let weight = member.published_weight.unwrap_or(member.weight);
        (member.target.clone(), member.port, member.priority, weight, member.addresses.clone(), member.slot)
    };
    for (id, member) in &now {
        match before.get(id) {
            None => changes.push(format!("+{id}")),
            Some(former) if says(former) != says(member) => changes.push(format!("~{id}")),
            Some(_) => {}
        }
    }
    changes.extend(before.keys().filter(|id| !now.contains_key(*id)).map(|id| format!("-{id}")));
    if changes.is_empty() { text + "\n" } else { format!("{text}: {}\n", changes.join(" ")) }
}

fn hosts(view: &ServiceView) -> String {
    let mut text = format!("# {} of {}, epoch {}\n", view.summary.service, view.zone, view.summary.epoch);
    for member in published(view) {
        for address in &member.addresses {
            line_of(&mut text, format_args!("{address} {}", member.target.trim_end_matches('.')));
        }
    }
    text
}

/// One server a member: by its first address, or its target where the zone knows no address, which may stay unknown until HAProxy
/// is started again. Its weights are 0 to 256, and one of its steps is 256 of ours, as where it reads SRV records.
fn haproxy(view: &ServiceView) -> String {
    let mut text = format!("# {} of {}, epoch {}\n", view.summary.service, view.zone, view.summary.epoch);
    for member in published(view) {
        let place = match member.addresses.first() {
            Some(IpAddr::V4(address)) => format!("{address}:{}", member.port),
            Some(IpAddr::V6(address)) => format!("[{address}]:{}", member.port),
            None => format!("{}:{}", member.target.trim_end_matches('.'), member.port),
        };
        let weight = member.published_weight.unwrap_or(member.weight).div_ceil(256);
        // Else a name without an address, and HAProxy would not start.
        let unknown = if member.addresses.is_empty() { " init-addr libc,none" } else { "" };
        line_of(&mut text, format_args!("server {} {place} weight {weight}{unknown}", member.id));
    }
    text
}

/// Both sets are there whether or not they have elements, so that rules can name them.
fn nft(view: &ServiceView) -> String {
    let addresses: BTreeSet<IpAddr> =
        published(view).flat_map(|member| member.addresses.iter().map(IpAddr::to_canonical)).collect();
    let below = view.summary.service.strip_suffix(view.zone.as_str()).unwrap_or(&view.summary.service);
    let labels: Vec<&str> = below.split('.').map(|label| label.trim_start_matches('_')).collect();
    let name: String = labels.join("_").trim_matches('_').chars().map(plain).collect();
    let mut text = String::from("add table inet livezone\n");
    for (family, wants) in [("ipv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("ipv6", IpAddr::is_ipv6)] {
        let set = format!("inet livezone {name}_{family}");
        line_of(&mut text, format_args!("add set {set} {{ type {family}_addr; }}\nflush set {set}"));
        let elements: Vec<String> =
            addresses.iter().filter(|address| wants(address)).map(ToString::to_string).collect();
        if !elements.is_empty() {
            line_of(&mut text, format_args!("add element {set} {{ {} }}", elements.join(", ")));
        }
    }
    text
}

/// What nft takes in a name.
fn plain(letter: char) -> char {
    if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '_' }
}

fn line_of(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a string takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(members: &[serde_json::Value]) -> ServiceView {
        let text = serde_json::json!({
            "zone": "z.example.", "service": "_memcached._tcp.east.z.example.", "host-name": null, "epoch": 7,
            "members-count": 0, "digest": "", "members": members,
        });
        serde_json::from_value(text).unwrap()
    }

    fn member(id: &str, state: &str, weight: u16, addresses: &[&str]) -> serde_json::Value {
        serde_json::json!({
            "id": id, "target": format!("{id}.z.example."), "port": 11211, "priority": 0, "weight": weight,
            "addresses": addresses, "state": state, "since": "", "late": false, "owner": "", "lease": 15,
            "lease-remaining": 1.0, "last-heartbeat": "", "metadata": {},
        })
    }

    fn several() -> ServiceView {
        view(&[
            member("a", "up", 256, &["10.0.0.2", "fd00::2"]),
            member("b", "held", 0, &["10.0.0.1"]),
            member("c", "draining", 256, &["10.0.0.3"]),
            member("d", "damped", 256, &["10.0.0.4"]),
            member("e", "up", 1000, &[]),
        ])
    }

    #[test]
    fn each_format_has_the_published_members_alone() {
        let head = "# _memcached._tcp.east.z.example. of z.example., epoch 7\n";
        assert_eq!(
            Format::Hosts.write(&several()),
            format!("{head}10.0.0.2 a.z.example\nfd00::2 a.z.example\n10.0.0.1 b.z.example\n")
        );
        assert_eq!(
            Format::Haproxy.write(&several()),
            format!(
                "{head}server a 10.0.0.2:11211 weight 1\nserver b 10.0.0.1:11211 weight 0\n\
                 server e e.z.example:11211 weight 4 init-addr libc,none\n"
            )
        );
        assert_eq!(
            Format::Nft.write(&several()),
            "add table inet livezone\n\
             add set inet livezone memcached_tcp_east_ipv4 { type ipv4_addr; }\n\
             flush set inet livezone memcached_tcp_east_ipv4\n\
             add element inet livezone memcached_tcp_east_ipv4 { 10.0.0.1, 10.0.0.2 }\n\
             add set inet livezone memcached_tcp_east_ipv6 { type ipv6_addr; }\n\
             flush set inet livezone memcached_tcp_east_ipv6\n\
             add element inet livezone memcached_tcp_east_ipv6 { fd00::2 }\n"
        );
    }

    #[test]
    fn nobody_makes_empty_sets_that_rules_can_still_name() {
        let text = Format::Nft.write(&view(&[]));
        assert!(!text.contains("element") && text.matches("flush set").count() == 2, "{text}");
    }

    #[test]
    fn a_line_says_who_came_changed_and_went() {
        let first = several();
        assert_eq!(line(None, &first), "epoch 7 members 3: a b e\n");
        let next = view(&[
            member("a", "up", 512, &["10.0.0.2", "fd00::2"]),
            member("d", "up", 256, &["10.0.0.4"]),
            member("e", "up", 1000, &[]),
        ]);
        assert_eq!(line(Some(&first), &next), "epoch 7 members 3: ~a +d -b\n");
        assert_eq!(line(Some(&next), &next), "epoch 7 members 3\n");
    }
}
