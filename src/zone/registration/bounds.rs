//! What an update may add: the quotas of the zone and of each owner, and the room that services and RRsets have.
//!
//! An update is held against its limits as a whole, by what it comes to: what it removes makes room for what it adds. What
//! only renews or changes is never refused for what is there already. The ground shows earlier messages of the batch.

use std::fmt;
use std::net::IpAddr;

use crate::base::limits::{MEMBER_ADDRESSES, SERVICE_MEMBERS};
use crate::base::{Limit, Name, SeededMap, SeededSet};
use crate::membership::{Holding, Item, Member, Owner, Table};
use crate::zone::{Growth, Overfull, PublishedMember, Standing};

use super::{Ground, Objection, Outcome};

/// Refuses an update that would exceed a limit.
pub(super) fn check(ground: &Ground<'_>, outcome: &Outcome) -> Result<(), Objection> {
    if outcome.puts.is_empty() {
        return Ok(());
    }
    let balance = Balance::of(ground.table, outcome);
    check_zone(ground, outcome, &balance)?;
    check_owners(ground, &balance)?;
    check_services(ground, &balance)?;
    check_room(ground, outcome)
}

/// What an update adds and takes.
#[derive(Default)]
struct Balance<'a> {
    leases: i64,
    owners: SeededMap<&'a Owner, Change<'a>>,
    /// Members by service.
    services: SeededMap<&'a Name, i64>,
}

/// The same of one owner.
#[derive(Default)]
struct Change<'a> {
    leases: i64,
    members: SeededMap<&'a Name, i64>,
}

impl<'a> Balance<'a> {
    fn of(table: &'a Table, outcome: &'a Outcome) -> Balance<'a> {
        let mut balance = Balance::default();
        for (index, _) in &outcome.removals {
            table.item(*index).into_iter().for_each(|item| balance.count(item, -1));
        }
        for put in &outcome.puts {
            let before = table.find(&put.item.key()).and_then(|index| table.item(index));
            if before.is_none_or(|before| before.owner() != put.item.owner()) {
                before.into_iter().for_each(|item| balance.count(item, -1));
                balance.count(&put.item, 1);
            }
        }
        balance
    }

    fn count(&mut self, item: &'a Item, by: i64) {
        self.leases += by;
        let owner = self.owners.entry(item.owner()).or_default();
        owner.leases += by;
        if let Item::Member(member) = item {
            *owner.members.entry(&member.service).or_default() += by;
            *self.services.entry(&member.service).or_default() += by;
        }
    }
}

impl Change<'_> {
    /// How many services its owner comes to have members in, less those that it leaves.
    fn services(&self, holding: Option<&Holding>) -> i64 {
        let gained = self.members.iter().map(|(service, by)| {
            let before = holding.map_or(0, |holding| count(holding.members(service)));
            i64::from(before + by > 0) - i64::from(before > 0)
        });
        gained.sum()
    }
}

fn check_zone(ground: &Ground<'_>, outcome: &Outcome, balance: &Balance<'_>) -> Result<(), Objection> {
    let quotas = ground.quotas;
    if is_over(ground.table.len(), balance.leases, quotas.zone_leases) {
        let text = format!(
            "zone-leases in [limits] is {}: withdraw some leases of the zone first, or raise the limit",
            quotas.zone_leases
        );
        return Err(Objection::prohibited(text).at(Limit::ZoneLeases));
    }
    let services = outcome.puts.iter().filter_map(|put| match &put.item {
        Item::Member(member) => Some(&member.service),
        _ => None,
    });
    let new: SeededSet<&Name> = services.filter(|service| !ground.contents.knows_service(service)).collect();
    if is_over(ground.contents.service_count(), count(new.len()), quotas.zone_services) {
        let text = format!(
            "zone-services in [limits] is {}: use services that the zone has, wait until it forgets one that nobody is \
             in, or raise the limit",
            quotas.zone_services
        );
        return Err(Objection::prohibited(text).at(Limit::ZoneServices));
    }
    Ok(())
}

fn check_owners(ground: &Ground<'_>, balance: &Balance<'_>) -> Result<(), Objection> {
    let quotas = ground.quotas;
    for (owner, change) in &balance.owners {
        let holding = ground.table.holding(owner);
        if is_over(holding.map_or(0, Holding::leases), change.leases, quotas.owner_leases) {
            let text = format!(
                "owner-leases in [limits] is {}: withdraw some leases of {owner} first, or raise the limit",
                quotas.owner_leases
            );
            return Err(Objection::prohibited(text).at(Limit::OwnerLeases));
        }
        if is_over(holding.map_or(0, Holding::services), change.services(holding), quotas.owner_services) {
            let text = format!(
                "owner-services in [limits] is {}: withdraw all members of {owner} from another service first, or raise \
                 the limit",
                quotas.owner_services
            );
            return Err(Objection::prohibited(text).at(Limit::OwnerServices));
        }
    }
    Ok(())
}

fn check_services(ground: &Ground<'_>, balance: &Balance<'_>) -> Result<(), Objection> {
    let full = |(service, by): &(&&Name, &i64)| is_over(ground.table.member_count(service), **by, SERVICE_MEMBERS);
    match balance.services.iter().find(full) {
        None => Ok(()),
        Some((service, _)) => {
            let text = format!("a service has {SERVICE_MEMBERS} members at most: split {service} into subdomains");
            Err(Objection::invalid(text).at(Limit::ServiceMembers))
        }
    }
}

/// An RRset that an answer could not hold is never made.
fn check_room(ground: &Ground<'_>, outcome: &Outcome) -> Result<(), Objection> {
    let mut growth = Growth::new(ground.contents);
    for (index, _) in &outcome.removals {
        match ground.table.item(*index) {
            Some(Item::Member(member)) => growth.member(&member.service, &member.id, None),
            Some(Item::Leased(record)) => growth.leased(&record.name, record.rtype, &record.rdata, false),
            Some(Item::Held(_)) | None => {}
        }
    }
    for put in &outcome.puts {
        match &put.item {
            Item::Member(member) => growth.member(&member.service, &member.id, Some(as_published(ground, member))),
            Item::Leased(record) if ground.table.find(&put.item.key()).is_none() => {
                growth.leased(&record.name, record.rtype, &record.rdata, true);
            }
            Item::Leased(_) | Item::Held(_) => {}
        }
    }
    growth.check().map_err(|overfull| {
        let limit = match overfull {
            Overfull::Sharers { .. } => Limit::TargetMembers,
            Overfull::Host { .. } => Limit::HostServices,
            Overfull::Rrset { .. } | Overfull::Target { .. } => Limit::RrsetOctets,
        };
        Objection::invalid(overfull.to_string()).at(limit)
    })
}

/// What may be published of a member at the most: policy decides later, and by time alone.
fn as_published(ground: &Ground<'_>, member: &Member) -> PublishedMember {
    let mut published = PublishedMember::of(member);
    if published.standing == Standing::Hidden {
        published.standing = Standing::InService;
    }
    // Any number of four digits takes as much room.
    published.slot = ground.contents.has_slots(&member.service).then(|| member.decided.slot.unwrap_or(0));
    published
}

/// Whether something grows beyond its limit. What is beyond it already, since that was lowered, may stay and shrink.
fn is_over(before: usize, by: i64, limit: usize) -> bool {
    by > 0 && count(before) + by > count(limit)
}

/// Refuses more addresses of a member or of a host than `most`.
pub fn check_addresses(whose: &dyn fmt::Display, addresses: &[IpAddr], most: usize) -> Result<(), Objection> {
    if addresses.len() <= most {
        return Ok(());
    }
    let text = format!("{whose} would have {} addresses: at most {MEMBER_ADDRESSES}", addresses.len());
    Err(Objection::invalid(text).at(Limit::MemberAddresses))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).expect("what is in memory fits 63 bits")
}
