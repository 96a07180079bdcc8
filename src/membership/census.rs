//! How many there are of what: members by state, leased records, waiting addresses. Kept in step with each edit of the table,
//! so that whoever asks walks nothing.

use super::member::{Item, State};

/// Counts of a table's items.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    members: [usize; State::ALL.len()],
    /// Leased records.
    pub leased: usize,
    /// Addresses that wait for their member.
    pub held: usize,
}

impl Census {
    /// Members in a state.
    pub fn members(&self, state: State) -> usize {
        self.members[state as usize]
    }

    fn count(&mut self, item: &Item) -> &mut usize {
        match item {
            Item::Member(member) => &mut self.members[member.state as usize],
            Item::Leased(_) => &mut self.leased,
            Item::Held(_) => &mut self.held,
        }
    }

    /// Counts an item in.
    pub(super) fn add(&mut self, item: &Item) {
        *self.count(item) += 1;
    }

    /// Counts an item out.
    pub(super) fn take(&mut self, item: &Item) {
        *self.count(item) -= 1;
    }

    /// A member's state has changed in place.
    pub(super) fn turn(&mut self, from: State, to: State) {
        self.members[from as usize] -= 1;
        self.members[to as usize] += 1;
    }
}
