//! Who holds how much of a table: the leases of each owner, and the services that it has members in.
//!
//! Kept in step with each edit, so that a limit costs two look-ups and no walk. Owners also share their octets here:
//! many members have the same one.

use std::collections::HashMap;
use std::num::NonZeroU32;

use crate::base::{Name, NameMap};

use super::access::Owner;
use super::member::Item;

/// What one owner holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holding {
    leases: usize,
    /// Members by service.
    services: NameMap<NonZeroU32>,
}

impl Holding {
    /// Its members, leased records and waiting addresses.
    pub fn leases(&self) -> usize {
        self.leases
    }

    /// In how many services it has members.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// Its members in a service.
    pub fn members(&self, service: &Name) -> usize {
        self.services.get(service).map_or(0, |count| usize::try_from(count.get()).expect("32 bits fit"))
    }
}

/// The holdings of all owners; one without any is not in it.
#[derive(Debug, Default)]
pub(super) struct Holdings(HashMap<Owner, Holding, foldhash::fast::RandomState>);

impl Holdings {
    pub(super) fn get(&self, owner: &Owner) -> Option<&Holding> {
        self.0.get(owner)
    }

    /// Counts an item in. Its owner is replaced by an equal one that others have already.
    pub(super) fn add(&mut self, item: &mut Item) {
        match self.0.get_key_value(item.owner()) {
            Some((shared, _)) => *item.owner_mut() = shared.clone(),
            None => drop(self.0.insert(item.owner().clone(), Holding::default())),
        }
        let holding = self.0.get_mut(item.owner()).expect("inserted above");
        holding.leases += 1;
        if let Item::Member(member) = item {
            let members = holding.services.get(&member.service).map_or(1, |count| count.get() + 1);
            let members = NonZeroU32::new(members).expect("at least one");
            holding.services.insert(member.service.clone(), members);
        }
    }

    /// Counts an item out.
    pub(super) fn take(&mut self, item: &Item) {
        let holding = self.0.get_mut(item.owner()).expect("what is taken out was counted in");
        holding.leases -= 1;
        if let Item::Member(member) = item {
            let members = holding.services.get_mut(&member.service).expect("what is taken out was counted in");
            match NonZeroU32::new(members.get() - 1) {
                Some(fewer) => *members = fewer,
                None => drop(holding.services.remove(&member.service)),
            }
        }
        if holding.leases == 0 {
            self.0.remove(item.owner());
        } else if holding.services.capacity() > 4 * holding.services.len() + 64 {
            holding.services.shrink_to_fit();
        }
    }
}
