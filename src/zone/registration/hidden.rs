//! What a query would never be answered with: names at or below a delegation, and names below a DNAME.
//!
//! Nothing is registered there, since it would be acknowledged and never seen; and no leased record takes registered members
//! out of sight. An update is held against this as a whole, by what it comes to, so that the order of its
//! records doesn't matter.

use crate::base::{Name, RecordType, SeededMap, SeededSet};
use crate::membership::{Index, Item, Member};
use crate::zone::cut::{Cut, can_hide};
use crate::zone::layout::instance_name;

use super::{Ground, Objection, Outcome};

/// Refuses an update of which something would be hidden, or would hide something.
pub(super) fn check(ground: &Ground<'_>, outcome: &Outcome) -> Result<(), Objection> {
    if outcome.puts.is_empty() {
        return Ok(());
    }
    let after = After::of(ground, outcome);
    for put in &outcome.puts {
        match &put.item {
            Item::Member(member) => {
                for name in after.names_of(member) {
                    after.check(&name, "register in another domain")?;
                }
            }
            Item::Held(held) => after.check(&held.host, "register in another domain")?,
            Item::Leased(record) => after.check_leased(&record.name, record.rtype)?,
        }
    }
    after.check_members()
}

/// The zone as the update would leave it.
struct After<'a> {
    ground: &'a Ground<'a>,
    /// By how many records leased NS and DNAME RRsets grow.
    grown: SeededMap<(&'a Name, RecordType), i64>,
    /// Such RRsets that are new.
    new: SeededSet<(&'a Name, RecordType)>,
    removed: SeededSet<Index>,
}

impl<'a> After<'a> {
    fn of(ground: &'a Ground<'a>, outcome: &'a Outcome) -> After<'a> {
        let mut grown: SeededMap<(&Name, RecordType), i64> = SeededMap::default();
        let mut count = |item: &'a Item, by| match item {
            Item::Leased(record) if can_hide(record.rtype) => {
                *grown.entry((&record.name, record.rtype)).or_default() += by;
            }
            _ => {}
        };
        for (index, _) in &outcome.removals {
            ground.table.item(*index).into_iter().for_each(|item| count(item, -1));
        }
        for put in outcome.puts.iter().filter(|put| ground.table.find(&put.item.key()).is_none()) {
            count(&put.item, 1);
        }
        let is_new = |(&(name, rtype), &by): (&(&'a Name, RecordType), &i64)| {
            (by > 0 && leased(ground, name, rtype) == 0).then_some((name, rtype))
        };
        let new = grown.iter().filter_map(is_new).collect();
        let removed = outcome.removals.iter().map(|(index, _)| *index).collect();
        After { ground, grown, new, removed }
    }

    fn has(&self, name: &Name, rtype: RecordType) -> bool {
        self.has_static(name, rtype)
            || leased(self.ground, name, rtype) + self.grown.get(&(name, rtype)).copied().unwrap_or(0) > 0
    }

    fn has_static(&self, name: &Name, rtype: RecordType) -> bool {
        self.ground.contents.statics(name).iter().any(|rrset| rrset.rtype == rtype)
    }

    fn cut(&self, name: &Name) -> Option<Cut> {
        Cut::above(name, &self.ground.contents.settings().origin, |name, rtype| self.has(name, rtype))
    }

    /// Refuses a name that is hidden.
    fn check(&self, name: &Name, instead: &str) -> Result<(), Objection> {
        let Some(cut) = self.cut(name) else { return Ok(()) };
        let (above, rtype, verb) = (&cut.name, cut.rtype, cut.verb());
        let of = |source: &str| {
            format!(
                "{above} is {verb} by a {source} {rtype} record, so {name} would never be answered: {instead}, or remove \
                 that record first"
            )
        };
        Err(if self.has_static(above, rtype) {
            Objection::prohibited(of("static"))
        } else {
            Objection::invalid(of("leased"))
        })
    }

    /// The same of a leased record.
    fn check_leased(&self, name: &Name, rtype: RecordType) -> Result<(), Objection> {
        match self.cut(name) {
            Some(cut) if !is_seen(&cut, name, rtype) => self.check(name, "choose a name elsewhere"),
            _ => Ok(()),
        }
    }

    /// The names that are a member's own, the lowest ones: its service and its service's host name stand above them.
    fn names_of(&self, member: &Member) -> impl Iterator<Item = Name> + use<> {
        let host = self.ground.contents.layout(&member.service).and_then(|layout| layout.member_host(&member.id));
        host.into_iter().chain(instance_name(&member.service, &member.id))
    }

    /// Refuses new delegations and DNAME above registered members. Walks over services and never over their members.
    fn check_members(&self) -> Result<(), Objection> {
        let (contents, table) = (self.ground.contents, self.ground.table);
        let stays = |(index, member): (Index, &'a Member)| (!self.removed.contains(&index)).then_some(member);
        for (name, rtype) in &self.new {
            // A member's own names lie below those of its service, or are the very name of the records.
            let parent = name.parent().filter(|_| *rtype == RecordType::NS);
            let at_host = parent.iter().flat_map(|parent| contents.services_at_host(parent));
            let id = std::str::from_utf8(name.first_label()).unwrap_or_default();
            let mut own = at_host.chain(&parent).filter_map(|service| table.member(service, id));
            if let Some(member) = own.find_map(stays) {
                return Err(hides(name, *rtype, name, member));
            }
        }
        if self.new.is_empty() {
            return Ok(());
        }
        for (service, ..) in contents.services() {
            let Some(member) = table.members(service).find_map(stays) else { continue };
            let host = contents.layout(service).map(|layout| layout.host);
            for name in host.iter().chain([service]) {
                if let Some(cut) = self.cut(name).filter(|cut| self.new.contains(&(&cut.name, cut.rtype))) {
                    return Err(hides(&cut.name, cut.rtype, name, member));
                }
            }
        }
        Ok(())
    }
}

fn hides(cut: &Name, rtype: RecordType, name: &Name, member: &Member) -> Objection {
    Objection::invalid(format!(
        "{rtype} at {cut} would hide {name} of the registered member {} of {}: choose a name elsewhere, or deregister the \
         member first",
        member.id, member.service
    ))
}

/// How many leased records there are.
fn leased(ground: &Ground<'_>, name: &Name, rtype: RecordType) -> i64 {
    let rrset = ground.contents.leased(name).iter().find(|rrset| rrset.rtype == rtype);
    rrset.map_or(0, |rrset| i64::try_from(rrset.rdatas.len()).expect("what is in memory fits 63 bits"))
}

/// Whether a record is seen in spite of a cut: the delegation itself with its DS (RFC 4035 §3.1.4.1), and glue.
fn is_seen(cut: &Cut, name: &Name, rtype: RecordType) -> bool {
    let at_cut = cut.name == *name && matches!(rtype, RecordType::NS | RecordType::DS);
    cut.rtype == RecordType::NS && (at_cut || rtype.is_address())
}
