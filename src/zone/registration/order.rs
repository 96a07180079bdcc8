//! What somebody wants of one member: the channel for requests that speak of whole members by their ids.
//!
//! Unlike an update, an order names the member, so that its id need not follow from its target. What it says of itself is
//! whole: a registration that differs from the one before in anything is a change of it, and one that doesn't is a
//! heartbeat.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::limits::{MEMBER_ADDRESSES, METADATA_OCTETS, METADATA_STRINGS, NAME_OCTETS};
use crate::base::{Epoch, Lease, Limit, Name, RecordType, Wall};
use crate::membership::{Decided, Index, Item, LeaseLimits, Member, MemberId, Permit, Registration, State};

use super::{Ground, Kind, Objection, Outcome, Put, check, check_addresses};
use crate::zone::change::Cause;
use crate::zone::contents::Contents;
use crate::zone::layout::{Layout, instance_name};

/// What somebody wants of one member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The SRV owner.
    pub service: Name,
    /// The member's id within it.
    pub id: MemberId,
    /// What is to be done.
    pub action: Action,
}

/// What is to be done with a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Register it, change it, or renew its lease if it says nothing new.
    Register(Box<Wanted>),
    /// Renew its lease as it is registered.
    Renew,
    /// Deregister it.
    Withdraw,
    /// Take it out of the answers, but for its own host record. Its heartbeats don't bring it back.
    Drain,
    /// Bring it back.
    Undrain,
    /// Deregister it if it is held.
    Release,
}

/// What a member says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The SRV target; none: its own host name.
    pub target: Option<Name>,
    /// The SRV port.
    pub port: u16,
    /// The SRV priority.
    pub priority: u16,
    /// The SRV weight.
    pub weight: u16,
    /// Its addresses, in their order ([`sort_addresses`](crate::membership::member::sort_addresses)).
    pub addresses: Box<[IpAddr]>,
    /// Its metadata.
    pub metadata: Box<[Box<[u8]>]>,
    /// The lease asked for, in seconds; none: the zone's default.
    pub lease: Option<u32>,
    /// The member whose place it takes: that one is drained when this one comes.
    pub replaces: Option<MemberId>,
    /// It drains: it renews its lease and leaves the answers, until it says otherwise.
    pub drains: bool,
}

/// Who orders, and with what right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Orderer {
    /// As whom, and on whose members.
    pub permit: Permit,
    /// For the causes of commits.
    pub by: Arc<str>,
}

/// What became of an order.
pub type Report = Result<Done, Failure>;

/// An order was carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// The zone's epoch that it is visible from, or that it changed nothing in.
    pub epoch: Epoch,
    /// The lease that was granted; none if the member is gone.
    pub lease: Option<Lease>,
    /// Where the member stands; none if it is gone.
    pub state: Option<State>,
    /// Until when it is damped.
    pub damped_until: Option<Wall>,
    /// Its slot, if it has one.
    pub slot: Option<u32>,
    /// Whether it waits for a slot, unpublished.
    pub waits_for_slot: bool,
    /// Whether it differs from before.
    pub changed: bool,
}

/// Why an order was not carried out. Nothing was changed by it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Something stands against it.
    #[error(transparent)]
    Objection(#[from] Objection),
    /// The store isn't ready; it may go through later.
    #[error("{0}")]
    Unavailable(String),
}

/// Finds out what an order comes to.
pub fn carry_out(
    order: &Order,
    orderer: &Orderer,
    ground: &Ground<'_>,
    leases: &LeaseLimits,
) -> Result<Outcome, Objection> {
    let found = ground.table.member(&order.service, order.id.as_str());
    if let Some((_, member)) = found
        && !orderer.permit.covers(&member.owner)
    {
        return Err(Objection::prohibited(format!("{} in {} belongs to {}", order.id, order.service, member.owner)));
    }
    let by = || orderer.by.clone();
    let outcome = match (&order.action, found) {
        (Action::Register(wanted), found) => register(order, wanted, found, orderer, ground, leases)?,
        (_, None) => return Err(unknown(order)),
        (Action::Renew, Some((index, _))) => Outcome { renewals: vec![index], ..Outcome::default() },
        (Action::Withdraw, Some((index, _))) => {
            Outcome { removals: vec![(index, Cause::Removed(by()))], ..Outcome::default() }
        }
        (Action::Drain, Some((_, member))) => moved(member, State::Drained, Cause::Drained(by())),
        (Action::Undrain, Some((_, member))) if member.state.is_draining() => {
            moved(member, State::Up, Cause::Undrained(by()))
        }
        (Action::Release, Some((index, member))) if member.state == State::Held => {
            Outcome { removals: vec![(index, Cause::Released(by()))], ..Outcome::default() }
        }
        (Action::Undrain | Action::Release, Some(_)) => Outcome::default(),
    };
    check(ground, &outcome)?;
    Ok(outcome)
}

fn unknown(order: &Order) -> Objection {
    let text = format!("no member {} is registered in {}", order.id, order.service);
    Objection { kind: Kind::Unknown, text, limit: None }
}

/// A member in another state; nothing if it is in that state already. Its lease runs on.
fn moved(member: &Member, state: State, cause: Cause) -> Outcome {
    if member.state == state {
        return Outcome::default();
    }
    let item = Item::Member(Member { state, ..member.clone() });
    Outcome { puts: vec![Put::of(item, cause, false)], ..Outcome::default() }
}

fn register(
    order: &Order,
    wanted: &Wanted,
    found: Option<(Index, &Member)>,
    orderer: &Orderer,
    ground: &Ground<'_>,
    leases: &LeaseLimits,
) -> Result<Outcome, Objection> {
    let Order { service, id, .. } = order;
    if found.is_none() && wanted.drains {
        return Err(unknown(order));
    }
    let lease = leases.grant(wanted.lease);
    let by = || orderer.by.clone();
    let is_same = |member: &Member| {
        // Who was drained by somebody's order stays so.
        (member.state == State::Drained || wanted.drains == (member.state == State::Draining))
            && member.lease == lease
            && says_the_same(order, wanted, &member.registration, ground.contents)
    };
    if let Some((index, _)) = found.filter(|(_, member)| is_same(member)) {
        return Ok(Outcome { renewals: vec![index], ..Outcome::default() });
    }
    let Some(layout) = ground.contents.layout(service) else {
        let text = format!("{service} can't be a service: two labels with an underscore come first, as in _http._tcp");
        return Err(Objection::invalid(text));
    };
    check_own_names(ground.contents, &layout, service, id, |name| {
        ground.table.leased(name).any(|(_, record)| record.rtype == RecordType::CNAME)
    })?;
    let registration = registration(order, wanted, &layout)?;
    let (state, owner, cause) = match found {
        Some((_, member)) => {
            let state = match member.state {
                State::Drained => State::Drained,
                _ if wanted.drains => State::Draining,
                State::Damped => State::Damped,
                // A member that is suspect or held is heard of by this, and one that drained itself has thought better of it.
                State::Suspect | State::Held | State::Draining | State::Up => State::Up,
            };
            let drains = state == State::Draining && member.state != state;
            (state, member.owner.clone(), if drains { Cause::Drained(by()) } else { Cause::Changed(by()) })
        }
        None => (State::Up, orderer.permit.owner.clone(), Cause::Registered(by())),
    };
    let registration = match found {
        // Unchanged registrations stay shared.
        Some((_, member)) if *member.registration == registration => member.registration.clone(),
        _ => Arc::new(registration),
    };
    let (service, id) = (service.clone(), id.clone());
    let decided = found.map_or_else(Decided::default, |(_, member)| member.decided);
    let item = Item::Member(Member { service, id, registration, owner, lease, state, decided });
    let mut put = Put::of(item, cause, true);
    let mut outcome = Outcome::default();
    // One that is not published yet takes nobody's place: its predecessor stays as it is.
    let comes = found.is_none() && !ground.table.would_damp(&order.service, &order.id);
    if let Some(predecessor) = wanted.replaces.as_ref().filter(|_| comes) {
        replace(order, predecessor, orderer, ground, &mut outcome)?;
        put.replaces = Some(predecessor.clone());
    }
    outcome.puts.push(put);
    Ok(outcome)
}

/// A planned replacement: its predecessor drains from the commit on that brings the member.
fn replace(
    order: &Order,
    predecessor: &MemberId,
    orderer: &Orderer,
    ground: &Ground<'_>,
    outcome: &mut Outcome,
) -> Result<(), Objection> {
    let Some((_, member)) = ground.table.member(&order.service, predecessor.as_str()) else { return Ok(()) };
    if !orderer.permit.covers(&member.owner) {
        let text = format!("{predecessor} in {}, which it would replace, belongs to {}", order.service, member.owner);
        return Err(Objection::prohibited(text));
    }
    // Its slot goes with its place.
    let decided = Decided { slot: None, ..member.decided };
    let item = Item::Member(Member { state: State::Drained, decided, ..member.clone() });
    outcome.puts.push(Put::of(item, Cause::Replaced(orderer.by.clone(), order.id.clone()), false));
    Ok(())
}

/// Whether a member says what it is registered with. Looks at the fields as they come, since most orders are heartbeats.
fn says_the_same(order: &Order, wanted: &Wanted, registration: &Registration, contents: &Contents) -> bool {
    let same_target = match &wanted.target {
        Some(target) => *target == registration.target,
        None => {
            let host = contents.services.get(&order.service).map(|service| service.layout.host.as_wire());
            registration.target.first_label() == order.id.as_str().as_bytes()
                && registration.target.parent_wire() == host
        }
    };
    same_target
        && (wanted.port, wanted.priority, wanted.weight)
            == (registration.port, registration.priority, registration.weight)
        && wanted.metadata == registration.metadata
        && wanted.addresses == registration.addresses
}

/// The registration of what a member says of itself, if that can be.
fn registration(order: &Order, wanted: &Wanted, layout: &Layout) -> Result<Registration, Objection> {
    let own = layout.member_host(&order.id);
    let target = match &wanted.target {
        None => own.ok_or_else(|| too_long(&order.service, &order.id))?,
        Some(target) if *target == Name::root() => {
            let text = "a target of \".\" says that there is no service; deregister the member instead";
            return Err(Objection::invalid(text));
        }
        Some(target) if target.parent().as_ref() == Some(&layout.host) && Some(target) != own.as_ref() => {
            let text =
                format!("{target} is the host name of another member of {}: leave the target out", order.service);
            return Err(Objection::invalid(text));
        }
        Some(target) => target.clone(),
    };
    check_addresses(&order.id, &wanted.addresses, MEMBER_ADDRESSES)?;
    let (octets, strings) = (wanted.metadata.iter().map(|text| 1 + text.len()).sum(), wanted.metadata.len());
    check_metadata(&order.id, octets, strings)?;
    Ok(Registration {
        target,
        port: wanted.port,
        priority: wanted.priority,
        weight: wanted.weight,
        addresses: wanted.addresses.clone(),
        metadata: wanted.metadata.clone(),
    })
}

/// A member's own names must fit, and be free of static records and aliases.
pub fn check_own_names(
    contents: &Contents,
    layout: &Layout,
    service: &Name,
    id: &MemberId,
    mut has_alias: impl FnMut(&Name) -> bool,
) -> Result<(), Objection> {
    for name in [layout.member_host(id), instance_name(service, id)] {
        let name = name.ok_or_else(|| too_long(service, id))?;
        if !contents.statics(&name).is_empty() {
            return Err(Objection::prohibited(format!("{name} holds static records")));
        }
        if has_alias(&name) {
            return Err(Objection::invalid(format!("{name} holds a CNAME")));
        }
    }
    Ok(())
}

fn too_long(service: &Name, id: &MemberId) -> Objection {
    Objection::invalid(format!("names of {id} in {service} would exceed {NAME_OCTETS} octets")).at(Limit::NameOctets)
}

/// Refuses metadata that are too much for a TXT record of a member.
pub fn check_metadata(id: &MemberId, octets: usize, strings: usize) -> Result<(), Objection> {
    if octets <= METADATA_OCTETS && strings <= METADATA_STRINGS {
        return Ok(());
    }
    let text = format!(
        "metadata of {id} have {octets} octets in {strings} strings: at most {METADATA_OCTETS} in {METADATA_STRINGS}"
    );
    Err(Objection::invalid(text).at(Limit::Metadata))
}
