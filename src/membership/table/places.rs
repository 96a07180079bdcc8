//! Where items stand: places, given out and given back, and the indexes over what stands there.

use crate::base::SeededSet;
use crate::membership::cell::Cells;

use super::time::UNARMED;
use super::{Full, Index, Item, Slot, Table};

impl Table {
    /// Where a member with an id stands among those of its service, or would stand.
    pub(super) fn place(&self, members: &[Index], id: &str) -> Result<usize, usize> {
        let id_of = |index: &Index| match self.item(*index) {
            Some(Item::Member(member)) => member.id.as_str(),
            _ => "",
        };
        // Ids often arrive in order, at a start always.
        match members.last() {
            Some(last) if id_of(last) < id => Err(members.len()),
            _ => members.binary_search_by(|index| id_of(index).cmp(id)),
        }
    }

    pub(super) fn allocate(&mut self) -> Result<Index, Full> {
        if let Some(index) = self.free.pop() {
            return Ok(index);
        }
        if self.slots.len() >= Cells::LIMIT {
            return Err(Full);
        }
        if self.slots.len() == self.slots.capacity() {
            // Doubling would leave half of a large table empty.
            self.slots.reserve_exact(self.slots.len() / 8 + 64);
        }
        self.slots.push(Slot { item: None, armed: UNARMED });
        Ok(Index(u32::try_from(self.slots.len() - 1).expect("the limit is below 2^32")))
    }

    /// Gives a place back, once.
    pub(super) fn release(&mut self, index: Index, freed: &mut SeededSet<Index>) {
        if freed.insert(index) {
            self.slots[index.at()].armed = UNARMED;
            self.cells.retire(index.cell());
            self.free.push(index);
        }
    }

    /// Replaces what stands at a place and keeps the indexes in step.
    pub(super) fn set(&mut self, index: Index, mut item: Option<Item>) -> Option<Item> {
        self.note_standing(index, item.as_ref());
        if let Some(Item::Member(member)) = &mut item {
            // All members of a service share the octets of its name.
            if let Some((name, _)) = self.services.get_key_value(&member.service) {
                member.service = name.clone();
            }
        }
        // What is noted was noted of the item as it stood.
        self.renewals.void(index.cell());
        if let Some(item) = &mut item {
            self.items += 1;
            self.census.add(item);
            self.holdings.add(item);
        }
        self.unlist_member(index);
        let before = std::mem::replace(&mut self.slots[index.at()].item, item);
        if let Some(before) = &before {
            self.items -= 1;
            self.census.take(before);
            self.holdings.take(before);
        }
        match &before {
            Some(Item::Leased(record)) => {
                if let Some(indexes) = self.leased.get_mut(&record.name) {
                    indexes.retain(|&other| other != index);
                    if indexes.is_empty() {
                        self.leased.remove(&record.name);
                    }
                }
            }
            Some(Item::Held(held)) => {
                self.held.remove(&held.host);
            }
            Some(Item::Member(_)) | None => {}
        }
        match &self.slots[index.at()].item {
            Some(Item::Member(_)) => self.list_member(index),
            Some(Item::Leased(record)) => self.leased.entry(record.name.clone()).or_default().push(index),
            Some(Item::Held(held)) => {
                self.held.insert(held.host.clone(), index);
            }
            None => {}
        }
        before
    }

    /// Lists the member at a place with its service.
    pub(super) fn list_member(&mut self, index: Index) {
        let Some(Item::Member(member)) = self.item(index) else { return };
        let service = member.service.clone();
        let place = match self.services.get(&service) {
            Some(members) => self.place(members, member.id.as_str()),
            None => Err(0),
        };
        let members = self.services.entry(service).or_default();
        match place {
            Ok(place) => members[place] = index,
            Err(place) => {
                if members.len() == members.capacity() {
                    // Doubling would leave half of many services empty.
                    members.reserve_exact(members.len() / 4 + 2);
                }
                members.insert(place, index);
            }
        }
    }

    /// Takes the member at a place out of its service, while it still stands there to be compared with others.
    pub(super) fn unlist_member(&mut self, index: Index) {
        let Some(Item::Member(member)) = self.item(index) else { return };
        let service = member.service.clone();
        let Some(members) = self.services.get(&service) else { return };
        let Ok(place) = self.place(members, member.id.as_str()) else { return };
        let members = self.services.get_mut(&service).expect("found above");
        members.remove(place);
        if members.is_empty() {
            self.services.remove(&service);
        } else if members.capacity() > 2 * members.len() + 8 {
            members.shrink_to(members.len() + members.len() / 4);
        }
    }
}
