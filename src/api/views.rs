//! What the API says, one type for each document; the client commands read the same types.
//!
//! Names are absolute with their final dot, in lower case. Times are RFC 3339 in UTC with milliseconds, durations are
//! seconds.

mod commits;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::{Monotonic, Name, Now, RecordType, Wall};
use crate::membership::cell::Reading;
use crate::membership::{FreeSlot, Member};
use crate::zone::layout::is_service_name;
use crate::zone::records::txt;
use crate::zone::{Layout, Node, Snapshot};

pub use crate::base::text::time;
pub use commits::{CauseView, ChangeView, CommitView, Commits, What};

use super::ServedZone;

/// `/v1/zones`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Zones {
    /// The zones, in canonical order.
    pub zones: Vec<ZoneView>,
}

/// How a server comes by a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// Members register with it.
    Primary,
    /// It has a copy of another server's zone.
    Secondary,
}

/// A zone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ZoneView {
    /// Its apex.
    pub origin: String,
    /// How this server comes by it.
    pub role: Role,
    /// The epoch of its last commit; null while it isn't loaded.
    pub epoch: Option<u64>,
    /// The serial of its SOA record: the epoch's low 32 bits.
    pub serial: Option<u32>,
    /// How many names it has, empty non-terminals included.
    pub names: usize,
    /// How many services it knows.
    pub services: usize,
    /// Of a copy: where it comes from and how it stands.
    #[serde(flatten)]
    pub copy: Option<CopyView>,
    /// What became of NOTIFY to its secondaries and name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyView>,
}

/// How a copy stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CopyView {
    /// Its primaries, in the order of the configuration.
    pub primaries: Vec<String>,
    /// The primary that last had it as it is here; null: none since the start.
    pub primary: Option<String>,
    /// When; null: there is no copy.
    pub refreshed: Option<String>,
    /// Until when it is good; null: there is no copy.
    pub expires: Option<String>,
    /// Whether it is past that time, or there is none: it is answered with SERVFAIL.
    pub expired: bool,
    /// What each primary said that was asked in vain, if none had it in the last round.
    pub failures: Vec<FailureView>,
}

/// Why a primary was asked in vain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FailureView {
    /// The primary.
    pub primary: String,
    /// Why.
    pub reason: String,
}

/// What became of NOTIFY to one server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct NotifyView {
    /// Where it listens.
    pub address: String,
    /// The key that requests to it are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether the zone file lists it; else it is a name server of the zone.
    pub listed: bool,
    /// How it stands to the newest commit: `waiting`, `acknowledged`, `unanswered`, `unreachable` or `refused`.
    pub standing: String,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it stands so.
    pub since: String,
    /// The serial that it was told last; null: none.
    pub sent: Option<u32>,
    /// The serial that it acknowledged last; null: none.
    pub acknowledged: Option<u32>,
    /// Requests in a row that were not answered.
    pub unanswered: u32,
}

/// `/v1/zones/{zone}/services`: all of one epoch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Services {
    /// The zone.
    pub zone: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its serial.
    pub serial: u32,
    /// The services that it knows, those that nobody is in included, in canonical order.
    pub services: Vec<ServiceSummary>,
}

/// A service without its members.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceSummary {
    /// The SRV owner.
    pub service: String,
    /// The name of its address set; null: it publishes none.
    pub host_name: Option<String>,
    /// The epoch of its last change.
    pub epoch: u64,
    /// How many members its SRV set is made of.
    pub members_count: usize,
    /// The digest over its list, as in its TXT record.
    pub digest: String,
    /// How many slots there are, if it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Whether members are held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
}

/// A service with its members.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceView {
    /// The zone.
    pub zone: String,
    /// What is published of it.
    #[serde(flatten)]
    pub summary: ServiceSummary,
    /// Its members by id.
    pub members: Vec<MemberView>,
    /// The slots that nobody has, in the order in which they became free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub free_slots: Vec<FreeSlotView>,
}

/// A slot that nobody has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FreeSlotView {
    /// Its number.
    pub number: u32,
    /// Who had it last.
    pub last: String,
    /// Since when it is free.
    pub since: String,
}

impl FreeSlotView {
    /// A slot as it is told.
    pub fn of(slot: &FreeSlot) -> FreeSlotView {
        FreeSlotView { number: slot.number, last: slot.last.to_string(), since: time(slot.since) }
    }
}

/// A member.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MemberView {
    /// Its id within the service.
    pub id: String,
    /// The SRV target.
    pub target: String,
    /// The SRV port.
    pub port: u16,
    /// The SRV priority.
    pub priority: u16,
    /// The SRV weight.
    pub weight: u16,
    /// Its addresses: IPv4 before IPv6, ascending.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Where it stands.
    pub state: MemberState,
    /// Since when it stands there; that it is suspect is not counted.
    pub since: String,
    /// Until when it is damped, if it goes on to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damped_until: Option<String>,
    /// The number of its slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Whether it waits for a slot, unpublished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_slot: bool,
    /// The weight that is published, while that is less than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_weight: Option<u16>,
    /// Whether its heartbeat is overdue while its lease runs.
    pub late: bool,
    /// What it registered, or changed, waits for the store and is not published yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Who registered it: a key or an access entry.
    pub owner: String,
    /// The lease that each heartbeat grants, in seconds.
    pub lease: u32,
    /// What is left of it, in seconds; 0 once it has ended.
    pub lease_remaining: f64,
    /// When its last heartbeat came; after a restart, the start.
    pub last_heartbeat: String,
    /// Its metadata by key (RFC 6763 §6.4); null for a key without a value.
    pub metadata: BTreeMap<String, Option<String>>,
}

/// Where a member stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MemberState {
    /// Its lease runs.
    Up,
    /// Its lease has ended within the zone's grace; still published.
    Suspect,
    /// It fell silent with too many others, or too few would be left: still published, and marked.
    Held,
    /// It is out of the answers and keeps its own name until its lease ends.
    Draining,
    /// It came back too often: not published for a while.
    Damped,
}

impl ZoneView {
    /// A zone. Cost: a look at each of its names.
    pub fn of(zone: &ServedZone) -> ZoneView {
        let snapshot = zone.snapshot.as_ref();
        ZoneView {
            origin: zone.origin.to_string(),
            role: if zone.copy.is_some() { Role::Secondary } else { Role::Primary },
            epoch: snapshot.map(|snapshot| snapshot.epoch.0),
            serial: snapshot.map(|snapshot| snapshot.epoch.serial().0),
            names: snapshot.map_or(0, Snapshot::len),
            services: snapshot.map_or(0, |snapshot| service_nodes(snapshot).count()),
            copy: zone.copy.clone(),
            notify: zone.notify.clone(),
        }
    }
}

impl Services {
    /// The services of a zone that are to be shown. Cost: a look at each of its names, and a sort of the services.
    pub fn of(snapshot: &Snapshot, is_shown: impl Fn(&Name) -> bool) -> Services {
        let mut nodes: Vec<&Node> = service_nodes(snapshot).filter(|node| is_shown(node.name())).collect();
        nodes.sort_by(|a, b| a.name().canonical_cmp(b.name()));
        Services {
            zone: snapshot.origin().to_string(),
            epoch: snapshot.epoch.0,
            serial: snapshot.epoch.serial().0,
            services: nodes.into_iter().filter_map(|node| ServiceSummary::of(snapshot, node.name())).collect(),
        }
    }
}

/// The names of services. A static file may have names of that form which are none: they lack the TXT record.
fn service_nodes(snapshot: &Snapshot) -> impl Iterator<Item = &Node> {
    let origin = snapshot.origin();
    let nodes = snapshot.nodes().map(AsRef::as_ref);
    nodes.filter(move |node| is_service_name(node.name(), origin) && state_of(node).is_some())
}

/// What a service's TXT record says.
fn state_of(node: &Node) -> Option<txt::ServiceText> {
    node.rrset(RecordType::TXT)?.rdatas().find_map(txt::read_service)
}

impl ServiceSummary {
    /// What a snapshot says of a service; none: it isn't known.
    pub fn of(snapshot: &Snapshot, service: &Name) -> Option<ServiceSummary> {
        let text = state_of(snapshot.node(service.as_wire())?)?;
        let layout = Layout::of(service, &snapshot.settings)?;
        Some(ServiceSummary {
            service: service.to_string(),
            host_name: layout.address_set.map(|name| name.to_string()),
            epoch: text.epoch.0,
            members_count: text.members,
            digest: text.digest,
            slots: text.slots,
            hold: text.hold,
        })
    }
}

impl MemberView {
    /// A member whose heartbeats stand like that, and whose lease ends then. `pending`: the store doesn't have it as it
    /// stands.
    pub fn of(member: &Member, reading: &Reading, deadline: Monotonic, pending: bool, now: Now) -> MemberView {
        let registration = &member.registration;
        let left = deadline.since(now.mono);
        let last = Wall(now.wall.0.saturating_sub(millis(now.mono.since(reading.last))));
        MemberView {
            id: member.id.to_string(),
            target: registration.target.to_string(),
            port: registration.port,
            priority: registration.priority,
            weight: registration.weight,
            addresses: registration.addresses.to_vec(),
            state: MemberState::of(member.state),
            since: time(member.decided.since),
            damped_until: None,
            slot: member.decided.slot,
            waits_for_slot: false,
            published_weight: Some(member.weight()).filter(|weight| *weight != registration.weight),
            late: reading.is_late(now.mono),
            pending,
            owner: member.owner.to_string(),
            lease: member.lease.0,
            lease_remaining: left.as_secs_f64(),
            last_heartbeat: time(last),
            metadata: metadata(&registration.metadata),
        }
    }
}

impl MemberView {
    /// Whether it is in the answers.
    pub fn is_published(&self) -> bool {
        matches!(self.state, MemberState::Up | MemberState::Suspect | MemberState::Held) && !self.waits_for_slot
    }

    /// The same with what policy keeps besides.
    pub fn governed(self, damped_until: Option<Monotonic>, waits_for_slot: bool, now: Now) -> MemberView {
        let damped_until = damped_until.map(|until| time(now.wall.after(until.since(now.mono))));
        MemberView { damped_until, waits_for_slot, ..self }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Metadata as pairs: of a key that occurs twice, the first counts (RFC 6763 §6.4), and so it does with a key whose case
/// differs. What is no UTF-8 is shown with a replacement character.
fn metadata(strings: &[Box<[u8]>]) -> BTreeMap<String, Option<String>> {
    let mut pairs: BTreeMap<String, Option<String>> = BTreeMap::new();
    for string in strings {
        let text = String::from_utf8_lossy(string);
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (&*text, None),
        };
        if !pairs.keys().any(|other| other.eq_ignore_ascii_case(key)) {
            pairs.insert(key.to_owned(), value);
        }
    }
    pairs
}
