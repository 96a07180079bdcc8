//! A small ordered map by member id, in one run of memory.
//!
//! A service has some dozens of members, at most a few thousand. A sorted vector
//! takes half the memory of a search tree, is read in order without chasing pointers, and inserting into it moves at most
//! some kilobytes.

use super::member::MemberId;

/// Values by member id, in the order of the ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roster<V>(Vec<(MemberId, V)>);

impl<V> Default for Roster<V> {
    fn default() -> Self {
        Roster(Vec::new())
    }
}

impl<V> Roster<V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, id: &str) -> Result<usize, usize> {
        // Ids often arrive in order, at a start always.
        match self.0.last() {
            Some((last, _)) if last.as_str() < id => Err(self.0.len()),
            _ => self.0.binary_search_by(|(other, _)| other.as_str().cmp(id)),
        }
    }

    /// One value.
    pub fn get(&self, id: &str) -> Option<&V> {
        self.place(id).ok().map(|at| &self.0[at].1)
    }

    /// Whether there is such a member.
    pub fn contains(&self, id: &str) -> bool {
        self.place(id).is_ok()
    }

    /// Puts a value; returns the one that it replaces.
    pub fn insert(&mut self, id: MemberId, value: V) -> Option<V> {
        match self.place(id.as_str()) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(self.0.len() / 4 + 2);
                }
                self.0.insert(at, (id, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, id: &str) -> Option<V> {
        let value = self.place(id).ok().map(|at| self.0.remove(at).1);
        if self.0.capacity() > 2 * self.0.len() + 8 {
            self.0.shrink_to(self.0.len() + self.0.len() / 4);
        }
        value
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&MemberId, &V)> + Clone {
        self.0.iter().map(|(id, value)| (id, value))
    }

    /// The values, in order.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_like_a_search_tree(steps in prop::collection::vec((0u8..40, prop::option::of(any::<u32>())), 0..200)) {
            let mut roster = Roster::default();
            let mut model: BTreeMap<String, u32> = BTreeMap::new();
            for (number, value) in steps {
                let id = MemberId::new(&format!("i-{number}")).unwrap();
                let before = match value {
                    Some(value) => (roster.insert(id.clone(), value), model.insert(id.to_string(), value)),
                    None => (roster.remove(id.as_str()), model.remove(id.as_str())),
                };
                prop_assert_eq!(before.0, before.1);
                prop_assert_eq!(roster.len(), model.len());
                prop_assert_eq!(roster.is_empty(), model.is_empty());
                prop_assert_eq!(roster.contains(id.as_str()), model.contains_key(id.as_str()));
                prop_assert_eq!(roster.get(id.as_str()), model.get(id.as_str()));
                prop_assert!(roster.iter().map(|(id, value)| (id.as_str(), value)).eq(model.iter().map(|(id, value)| (id.as_str(), value))));
                prop_assert!(roster.values().eq(model.values()));
            }
        }
    }
}
