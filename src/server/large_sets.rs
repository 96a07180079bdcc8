//! RRsets that grow beyond what a stock server takes without being told to.
//!
//! BIND takes no RRset of more than 100 records (since 9.18.28, as Debian has it): neither with a zone that it transfers nor
//! into its cache. The zone of its secondary stands still then, at the version before, until it expires. Its option
//! `max-records-per-type 0`, of a zone or of all, lifts that. So whoever runs a service that grows to that size should know.
//!
//! The rule: an RRset that a commit takes beyond [`RECORDS`] is told in the log, and told again only when it does so after
//! a commit that left it half as many or fewer. One that moves around the limit makes one line. A start begins anew, and
//! tells nothing of those that are beyond the limit already.
//!
//! Bounds: what was told is remembered for RRsets of more than half the limit alone, so it is a small part of the zone; a
//! commit makes one line, which names [`NAMED`] RRsets.

use std::sync::Arc;

use crate::base::{Name, NameMap, RecordType};
use crate::zone::{Node, Published, Snapshot};

/// The records that an RRset may have in BIND unless it is told otherwise.
const RECORDS: u16 = 100;
/// Those of an RRset that has become small again.
const FEW: u16 = RECORDS / 2;
/// RRsets that one line names.
const NAMED: usize = 3;

/// The RRsets of a zone that were told of, and have not become small since.
#[derive(Debug, Default)]
pub struct LargeSets(NameMap<Vec<RecordType>>);

/// An RRset with its number of records.
type Passing = (Name, RecordType, u16);

impl LargeSets {
    /// Tells of the RRsets that a commit takes beyond the limit.
    pub fn tell(&mut self, before: Option<&Snapshot>, published: &Published) {
        let passing = self.passing(before, published);
        if passing.is_empty() {
            return;
        }
        let named = passing.iter().take(NAMED).map(|(name, rtype, count)| format!("{name} {rtype}: {count} records"));
        tracing::warn!(
            zone = %published.snapshot.origin(),
            rrsets = named.collect::<Vec<_>>().join(", "),
            more = passing.len().saturating_sub(NAMED),
            "more than {RECORDS} records in an RRset: BIND, as a secondary or a resolver, takes it with `max-records-per-type 0` alone"
        );
    }

    /// The RRsets that a commit takes beyond the limit, by the rule, in the order of names.
    fn passing(&mut self, before: Option<&Snapshot>, published: &Published) -> Vec<Passing> {
        let mut passing = Vec::new();
        for name in &published.touched {
            let node = published.snapshot.node(name.as_wire());
            if let Some(told) = self.0.get_mut(name) {
                told.retain(|rtype| count(node, *rtype) > FEW);
                if told.is_empty() {
                    self.0.remove(name);
                }
            }
            let old = before.and_then(|before| before.node(name.as_wire()));
            for rrset in node.into_iter().flat_map(|node| node.rrsets()) {
                let (rtype, records) = (rrset.rtype, rrset.count());
                let is_told = || self.0.get(name).is_some_and(|told| told.contains(&rtype));
                if records > RECORDS && count(old, rtype) <= RECORDS && !is_told() {
                    self.0.entry(name.clone()).or_default().push(rtype);
                    passing.push((name.clone(), rtype, records));
                }
            }
        }
        passing.sort_by(|(a, a_type, _), (b, b_type, _)| a.canonical_cmp(b).then(a_type.0.cmp(&b_type.0)));
        passing
    }
}

/// How many records of a type there are.
fn count(node: Option<&Arc<Node>>, rtype: RecordType) -> u16 {
    node.and_then(|node| node.rrset(rtype)).map_or(0, |rrset| rrset.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Epoch, Ttl, Wall};
    use crate::zone::scenes::{Universe, caused};
    use crate::zone::{Change, Rrset, Zone};

    /// A zone, and what is told of its commits.
    struct Scene {
        zone: Zone,
        sets: LargeSets,
    }

    impl Scene {
        fn new() -> Scene {
            let settings = Universe::new("z.").settings();
            let mut scene = Scene { zone: Zone::new(settings.clone(), Epoch(1)), sets: LargeSets::default() };
            scene.zone.change(caused(Change::Settings(settings)), Wall(0));
            assert_eq!(scene.commit(&[]), [""; 0]);
            scene
        }

        /// One commit that makes names have so many addresses; what is told of it.
        fn commit(&mut self, counts: &[(&str, u16)]) -> Vec<String> {
            for (name, count) in counts {
                let rdatas = (0..*count).map(|at| [&[10, 0][..], &at.to_be_bytes()].concat().into()).collect();
                let rrset = Rrset { rtype: RecordType::A, ttl: Ttl(1), rdatas };
                let rrsets = if *count == 0 { Vec::new() } else { vec![rrset] };
                self.zone.change(caused(Change::Static { name: name.parse().unwrap(), rrsets }), Wall(0));
            }
            let before = self.zone.snapshot().clone();
            let staged = self.zone.stage(Wall(0));
            let published = self.zone.publish(staged).expect("a commit");
            let passing = self.sets.passing(Some(&before), &published);
            passing.into_iter().map(|(name, rtype, count)| format!("{name} {rtype} {count}")).collect()
        }
    }

    #[test]
    fn an_rrset_is_told_of_when_it_passes_the_limit_and_again_only_after_it_was_small() {
        let mut scene = Scene::new();
        assert_eq!(scene.commit(&[("a.z.", 100)]), [""; 0]);
        assert_eq!(scene.commit(&[("a.z.", 101)]), ["a.z. A 101"]);
        for around in [102, 100, 101, 51, 150] {
            assert_eq!(scene.commit(&[("a.z.", around)]), [""; 0], "{around}");
        }
        assert_eq!(scene.commit(&[("a.z.", 50)]), [""; 0]);
        assert_eq!(scene.commit(&[("a.z.", 101)]), ["a.z. A 101"]);
        assert_eq!(scene.commit(&[("a.z.", 0)]), [""; 0]);
        assert!(scene.sets.0.is_empty(), "what is gone is forgotten");
        assert_eq!(scene.commit(&[("b.z.", 300), ("a.z.", 101), ("c.z.", 3)]), ["a.z. A 101", "b.z. A 300"]);
    }

    #[test]
    fn a_start_tells_of_no_set_that_was_large_before() {
        let mut scene = Scene::new();
        assert_eq!(scene.commit(&[("a.z.", 200)]), ["a.z. A 200"]);
        scene.sets = LargeSets::default();
        assert_eq!(scene.commit(&[("a.z.", 201)]), [""; 0]);
    }
}
