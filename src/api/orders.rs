//! What comes in over HTTP for members: register, renew, deregister, drain.
//!
//! A body says all of a member or nothing: `{"port": 11211, …}` registers or changes it, and is a heartbeat if it is
//! registered like that; `{}`, or no body, renews it as it is. Fields:
//!
//! | field | what | if absent or null |
//! | --- | --- | --- |
//! | `port` | SRV port | nothing else may be there: a heartbeat |
//! | `addresses` | a list of IP addresses | that of the sender, unless there is a `target` |
//! | `target` | SRV target, absolute, or below the zone | the member's own host name |
//! | `priority`, `weight` | of the SRV record | 0, 256 |
//! | `lease` | `"15s"`, or seconds | the zone's default |
//! | `metadata` | an object of texts, null for a key without a value (RFC 6763 §6.4) | none |
//! | `replaces` | the id of the member whose place it takes | nobody's |
//! | `drain` | true: it renews its lease and leaves the answers, until it registers without that | false |
//!
//! A batch is an array of such objects, each with `service` and `id`; each is carried out and reported by itself.
//!
//! Bounds: [`BODY_OCTETS`], [`BATCH_OCTETS`], [`BATCH_ITEMS`], [`BATCHES`], and those of the [`intake`](super::intake) while
//! a body comes in. Who may not write is told so before that.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::base::{Epoch, Name};
use crate::membership::member::sort_addresses;
use crate::membership::{IdError, MemberId, State};
use crate::zone::registration::order::{Action, Order, Report, Wanted};

use super::access::{Access, Caller};
use super::problem::Problem;
use super::serve::Peer;
use super::views::{MemberState, time};

/// Octets of the body of a request about one member: addresses and metadata within their limits take 3 KiB at most.
pub const BODY_OCTETS: usize = 64 << 10;
/// Octets of a batch: 10,000 items of 400 octets.
pub const BATCH_OCTETS: usize = 4 << 20;
/// Items of a batch.
pub const BATCH_ITEMS: usize = 10_000;
/// Batches at a time: each takes some megabytes until its client has the report. Further ones are told to come again.
pub const BATCHES: usize = 16;

/// What stands behind an id in a body. The weight is one that HAProxy takes for one step.
const WEIGHT: u16 = 256;
/// A string of a TXT record has a length octet (RFC 1035 §3.3).
const STRING_OCTETS: usize = 255;

/// What a member says of itself, as it comes in.
#[derive(Deserialize, Debug, Default, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct MemberBody<'a> {
    #[schema(maximum = 65535)]
    port: Option<u16>,
    #[schema(value_type = Option<Vec<String>>)]
    addresses: Option<Vec<IpAddr>>,
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    target: Option<Cow<'a, str>>,
    #[schema(maximum = 65535)]
    priority: Option<u16>,
    #[schema(maximum = 65535)]
    weight: Option<u16>,
    #[schema(value_type = Option<LeaseForm>)]
    lease: Option<Seconds>,
    metadata: Option<BTreeMap<String, Option<String>>>,
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    replaces: Option<Cow<'a, str>>,
    drain: Option<bool>,
}

/// The same in a batch. (serde's `flatten` would read each item twice.)
#[derive(Deserialize, Debug, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ItemBody<'a> {
    #[serde(borrow)]
    #[schema(value_type = String)]
    service: Cow<'a, str>,
    #[serde(borrow)]
    #[schema(value_type = String)]
    id: Cow<'a, str>,
    #[schema(maximum = 65535)]
    port: Option<u16>,
    #[schema(value_type = Option<Vec<String>>)]
    addresses: Option<Vec<IpAddr>>,
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    target: Option<Cow<'a, str>>,
    #[schema(maximum = 65535)]
    priority: Option<u16>,
    #[schema(maximum = 65535)]
    weight: Option<u16>,
    #[schema(value_type = Option<LeaseForm>)]
    lease: Option<Seconds>,
    metadata: Option<BTreeMap<String, Option<String>>>,
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    replaces: Option<Cow<'a, str>>,
    drain: Option<bool>,
}

/// A lease: whole seconds.
#[derive(Clone, Copy, Debug)]
struct Seconds(u32);

/// How a lease may be written.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what `Seconds` reads")]
enum LeaseForm {
    /// Seconds.
    Seconds(u32),
    /// A duration such as "15s".
    Duration(String),
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a duration such as \"15s\", or seconds")]
        enum Either<'a> {
            Number(u32),
            #[serde(borrow)]
            Text(Cow<'a, str>),
        }
        let whole = |text: &str| {
            let span = humantime::parse_duration(text).map_err(serde::de::Error::custom)?;
            u32::try_from(span.as_secs())
                .ok()
                .filter(|_| span.subsec_nanos() == 0)
                .map(Seconds)
                .ok_or_else(|| serde::de::Error::custom("a lease is a number of whole seconds, such as \"15s\""))
        };
        match Either::deserialize(deserializer)? {
            Either::Number(seconds) => Ok(Seconds(seconds)),
            Either::Text(text) => whole(&text),
        }
    }
}

/// What became of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Acknowledgement {
    /// The zone's epoch that it is visible from.
    pub epoch: u64,
    /// The serial of the zone's SOA record then.
    pub serial: u32,
    /// The lease granted, in seconds; null if the member is gone.
    pub lease: Option<u32>,
    /// Where the member stands; null if it is gone.
    pub state: Option<MemberState>,
    /// Until when it is damped, if it goes on to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damped_until: Option<String>,
    /// The number of its slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Whether it waits for a slot, unpublished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_slot: bool,
    /// Whether it differs from before; a heartbeat changes nothing.
    pub changed: bool,
}

/// What became of a batch.
#[derive(Serialize, Debug, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct BatchView {
    /// The zone's newest epoch among those of the items.
    epoch: u64,
    /// The serial then.
    serial: u32,
    /// What became of each item, in their order: an [`Acknowledgement`] or a [`Problem`].
    items: Vec<ItemView>,
}

#[derive(Serialize, Debug, ToSchema)]
#[serde(untagged)]
enum ItemView {
    Done(Acknowledgement),
    Failed(Problem),
}

/// What a body says; an empty one says nothing, as `{}`.
pub(super) fn parse_member(octets: &[u8]) -> Result<MemberBody<'_>, Problem> {
    if octets.iter().all(u8::is_ascii_whitespace) { Ok(MemberBody::default()) } else { parse(octets) }
}

fn parse<'de, T: Deserialize<'de>>(octets: &'de [u8]) -> Result<T, Problem> {
    let error = match serde_json::from_slice(octets) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    // Once more, to learn where: only what is wrong pays for that.
    let mut deserializer = serde_json::Deserializer::from_slice(octets);
    let (path, cause) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => (None, error), // behind the value
        Err(error) => (Some(error.path().to_string()), error.into_inner()),
    };
    let status = if cause.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
    let field = path.filter(|path| cause.is_data() && path != ".");
    Err(Problem { field, ..Problem::new(status, format!("the body can't be read: {cause}")) })
}

impl MemberBody<'_> {
    /// The action that it asks for.
    pub(super) fn action(self, origin: &Name, peer: Peer) -> Result<Action, Problem> {
        let MemberBody { port, addresses, target, priority, weight, lease, metadata, replaces, drain } = self;
        let others = addresses.is_some()
            || target.is_some()
            || metadata.is_some()
            || replaces.is_some()
            || drain.is_some()
            || priority.is_some()
            || weight.is_some()
            || lease.is_some();
        let Some(port) = port else {
            if others {
                let detail = "`port` is missing: say all of the member, or send {} to renew it as it is registered";
                return Err(Problem::field("port", detail));
            }
            return Ok(Action::Renew);
        };
        let target = target.map(|text| read_target(&text, origin)).transpose()?;
        let addresses = match (addresses, &target) {
            (Some(addresses), _) => sort_addresses(addresses.iter().map(IpAddr::to_canonical).collect()),
            (None, None) => [peer.0].into(),
            (None, Some(_)) => Box::default(),
        };
        let lease = lease.map(|Seconds(seconds)| seconds);
        if lease == Some(0) {
            return Err(Problem::field("lease", "a lease of 0 holds nobody: DELETE deregisters a member"));
        }
        let replaces = replaces.map(|id| read_id(&id, "replaces")).transpose()?;
        let metadata = metadata.map_or_else(|| Ok(Box::default()), |pairs| read_metadata(&pairs))?;
        let (priority, weight) = (priority.unwrap_or(0), weight.unwrap_or(WEIGHT));
        let drains = drain.unwrap_or(false);
        let wanted = Wanted { target, port, priority, weight, addresses, metadata, lease, replaces, drains };
        Ok(Action::Register(Box::new(wanted)))
    }
}

fn read_target(text: &str, origin: &Name) -> Result<Name, Problem> {
    Name::parse(text, Some(origin)).map_err(|error| {
        Problem::field(
            "target",
            format!("`target` is no name, \"{text}\": {error}; write one such as \"host1.example.\""),
        )
    })
}

/// A member's id.
pub(super) fn read_id(text: &str, field: &str) -> Result<MemberId, Problem> {
    MemberId::new(text).map_err(|error: IdError| Problem::field(field, format!("`{field}` is \"{text}\": {error}")))
}

/// Metadata as strings of a TXT record (RFC 6763 §6.3 and 6.4).
fn read_metadata(pairs: &BTreeMap<String, Option<String>>) -> Result<Box<[Box<[u8]>]>, Problem> {
    let string = |(key, value): (&String, &Option<String>)| {
        let field = || format!("metadata.{key}");
        if key.is_empty() || !key.bytes().all(|octet| (0x20..0x7f).contains(&octet) && octet != b'=') {
            let detail = "a key is printable ASCII without \"=\" (RFC 6763 §6.4)";
            return Err(Problem::field(field(), detail));
        }
        let text = value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"));
        if text.len() > STRING_OCTETS {
            return Err(Problem::field(field(), "a key with its value has at most 255 octets (RFC 6763 §6.1)"));
        }
        Ok(text.into_bytes().into_boxed_slice())
    };
    pairs.iter().map(string).collect()
}

/// The orders of a batch, each as far as it could be read and its service is covered.
pub(super) fn parse_batch(
    octets: &[u8],
    origin: &Name,
    caller: &Caller,
) -> Result<Vec<Result<Order, Problem>>, Problem> {
    let items: Vec<ItemBody<'_>> = parse(octets)?;
    if items.len() > BATCH_ITEMS {
        let detail = format!("{} items are more than a batch may have, {BATCH_ITEMS}: send several", items.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    // Most items are of a few services.
    let mut services: HashMap<Cow<'_, str>, Name> = HashMap::new(); // which the caller covers
    let mut orders = Vec::with_capacity(items.len());
    for (number, item) in items.into_iter().enumerate() {
        let service = match services.get(&item.service) {
            Some(service) => Ok(service.clone()),
            None => read_service(&item.service, origin)
                .and_then(|name| caller.must_cover(origin, &name, Access::Write).map(|()| name))
                .inspect(|name| {
                    services.insert(item.service.clone(), name.clone());
                }),
        };
        let order = service.and_then(|service| {
            let ItemBody { id, port, addresses, target, priority, weight, lease, metadata, replaces, drain, .. } = item;
            let body = MemberBody { port, addresses, target, priority, weight, lease, metadata, replaces, drain };
            Ok(Order { service, id: read_id(&id, "id")?, action: body.action(origin, caller.peer)? })
        });
        let placed = |field: String| format!("[{number}].{field}");
        orders.push(order.map_err(|problem| Problem { field: problem.field.map(placed), ..problem }));
    }
    Ok(orders)
}

/// A service below the zone, or absolute.
fn read_service(text: &str, origin: &Name) -> Result<Name, Problem> {
    super::routes::service_name(text, origin).ok_or_else(|| {
        let detail = format!("`service` is no service of {origin}, \"{text}\": write one such as \"_http._tcp\"");
        Problem::field("service", detail)
    })
}

impl Acknowledgement {
    fn of(report: Report) -> Result<Acknowledgement, Problem> {
        let done = report?;
        Ok(Acknowledgement {
            epoch: done.epoch.0,
            serial: done.epoch.serial().0,
            lease: done.lease.map(|lease| lease.0),
            state: done.state.map(MemberState::of),
            damped_until: done.damped_until.map(time),
            slot: done.slot,
            waits_for_slot: done.waits_for_slot,
            changed: done.changed,
        })
    }

    /// What became of the one order that was given.
    pub(super) fn of_one(reports: Vec<Report>) -> Result<Acknowledgement, Problem> {
        let lost = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no report came; see the server's log");
        reports.into_iter().next().map_or_else(|| Err(lost()), Acknowledgement::of)
    }
}

impl BatchView {
    /// What became of each item: the reports are of those that were orders.
    pub(super) fn of(read: Vec<Option<Problem>>, reports: Vec<Report>, epoch: Epoch) -> BatchView {
        let mut reports = reports.into_iter();
        let mut newest = epoch;
        let mut view = |problem: Option<Problem>| {
            let done = match problem {
                Some(problem) => Err(problem),
                None => Acknowledgement::of_one(reports.next().into_iter().collect()),
            };
            match done {
                Ok(done) => {
                    newest = newest.max(Epoch(done.epoch));
                    ItemView::Done(done)
                }
                Err(problem) => ItemView::Failed(problem),
            }
        };
        let items = read.into_iter().map(&mut view).collect();
        BatchView { epoch: newest.0, serial: newest.serial().0, items }
    }
}

impl MemberState {
    /// A state as it is told.
    pub(super) fn of(state: State) -> MemberState {
        match state {
            State::Up => MemberState::Up,
            State::Suspect => MemberState::Suspect,
            State::Held => MemberState::Held,
            State::Damped => MemberState::Damped,
            State::Draining | State::Drained => MemberState::Draining,
        }
    }
}
