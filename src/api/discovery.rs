//! A service as a list of targets, as Prometheus' HTTP service discovery reads it
//! (<https://prometheus.io/docs/prometheus/latest/http_sd/>).
//!
//! A group for each member that is in the answers, so that each has labels of its own. The target is its first address, or
//! its name where the zone has no address of it. Labels with `__meta_` are for relabelling, and gone after that.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::views::{MemberView, ServiceView};

/// Targets that share labels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TargetGroup {
    /// Where to scrape: `address:port` or `name:port`.
    pub targets: Vec<String>,
    /// `__meta_livezone_zone`, `_service`, `_member`, `_target`, and `_metadata_KEY` for each key.
    pub labels: BTreeMap<String, String>,
}

/// The groups of a service.
pub(super) fn groups(view: &ServiceView) -> Vec<TargetGroup> {
    view.members.iter().filter(|member| member.is_published()).map(|member| group(view, member)).collect()
}

fn group(view: &ServiceView, member: &MemberView) -> TargetGroup {
    let target = match member.addresses.first() {
        Some(&address) => SocketAddr::new(address, member.port).to_string(),
        None => format!("{}:{}", member.target.trim_end_matches('.'), member.port),
    };
    let meta = |name: &str, value: &str| (format!("__meta_livezone_{name}"), value.to_owned());
    let fixed = [
        meta("zone", &view.zone),
        meta("service", &view.summary.service),
        meta("member", &member.id),
        meta("target", &member.target),
    ];
    let metadata = member.metadata.iter();
    let metadata =
        metadata.map(|(key, value)| meta(&format!("metadata_{}", label(key)), value.as_deref().unwrap_or_default()));
    TargetGroup { targets: vec![target], labels: fixed.into_iter().chain(metadata).collect() }
}

/// A key of metadata as a part of a label's name, as Prometheus makes them itself of what other discoveries know.
fn label(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The addresses of a member, for people.
pub(super) fn shown(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::views::{MemberState, ServiceSummary};

    fn member(id: &str, state: MemberState, addresses: &[&str]) -> MemberView {
        MemberView {
            id: id.to_owned(),
            target: "h.example.".to_owned(),
            port: 80,
            priority: 0,
            weight: 1,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            state,
            since: String::new(),
            damped_until: None,
            slot: None,
            waits_for_slot: false,
            published_weight: None,
            late: false,
            pending: false,
            owner: String::new(),
            lease: 15,
            lease_remaining: 1.0,
            last_heartbeat: String::new(),
            metadata: [("a-z".to_owned(), Some("1".to_owned())), ("hot".to_owned(), None)].into(),
        }
    }

    #[test]
    fn whoever_is_in_the_answers_is_a_target_by_its_address_or_else_its_name() {
        let members = vec![
            member("v4", MemberState::Up, &["192.0.2.1", "2001:db8::1"]),
            member("v6", MemberState::Held, &["2001:db8::1"]),
            member("name", MemberState::Up, &[]),
            member("leaving", MemberState::Draining, &["192.0.2.2"]),
        ];
        let summary = ServiceSummary {
            service: "_x._tcp.z.".to_owned(),
            host_name: None,
            epoch: 1,
            members_count: 3,
            digest: String::new(),
            slots: None,
            hold: false,
        };
        let groups = groups(&ServiceView { zone: "z.".to_owned(), summary, members, free_slots: Vec::new() });
        let targets: Vec<&str> = groups.iter().map(|group| group.targets[0].as_str()).collect();
        assert_eq!(targets, ["192.0.2.1:80", "[2001:db8::1]:80", "h.example:80"]);
        let labels: Vec<(&str, &str)> =
            groups[0].labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            labels,
            [
                ("__meta_livezone_member", "v4"),
                ("__meta_livezone_metadata_a_z", "1"),
                ("__meta_livezone_metadata_hot", ""),
                ("__meta_livezone_service", "_x._tcp.z."),
                ("__meta_livezone_target", "h.example."),
                ("__meta_livezone_zone", "z."),
            ]
        );
    }
}
