//! Records that keep queries from what lies below them: delegations, and DNAME.

use crate::base::{Name, RecordType};

/// A record above a name, because of which no query finds what the zone has there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Its owner.
    pub name: Name,
    /// NS or DNAME.
    pub rtype: RecordType,
}

impl Cut {
    /// The cut that hides a name, the highest one. `has` tells whether there are records of a type at a name.
    pub fn above(name: &Name, origin: &Name, has: impl Fn(&Name, RecordType) -> bool) -> Option<Cut> {
        let mut found = None;
        for above in std::iter::successors(Some(name.clone()), Name::parent) {
            let is_apex = above == *origin;
            // A referral hides the very name of its records too (RFC 1034 §4.3.2 3b), a DNAME not its own (RFC 6672 §2.3).
            for (rtype, counts) in [(RecordType::DNAME, above != *name), (RecordType::NS, !is_apex)] {
                if counts && has(&above, rtype) {
                    found = Some(Cut { name: above.clone(), rtype });
                }
            }
            if is_apex {
                break;
            }
        }
        found
    }

    /// What becomes of the names that it hides.
    pub fn verb(&self) -> &'static str {
        if self.rtype == RecordType::NS { "delegated" } else { "redirected" }
    }
}

/// Whether such records can hide a name.
pub fn can_hide(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::NS | RecordType::DNAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn ns_hides_its_own_name_and_those_below_but_for_the_apex_and_dname_only_those_below() {
        let cut = |text: &str, at: &str, rtype| {
            let found = Cut::above(&name(text), &name("z."), |other, wanted| *other == name(at) && wanted == rtype);
            found.is_some_and(|cut| cut == Cut { name: name(at), rtype })
        };
        assert!(cut("a.z.", "a.z.", RecordType::NS) && cut("b.a.z.", "a.z.", RecordType::NS));
        assert!(!cut("z.", "z.", RecordType::NS) && !cut("a.z.", "z.", RecordType::NS));
        assert!(!cut("a.z.", "a.z.", RecordType::DNAME) && cut("c.b.a.z.", "a.z.", RecordType::DNAME));
        assert!(!cut("z.", "z.", RecordType::DNAME) && cut("a.z.", "z.", RecordType::DNAME));
        assert!(!cut("b.z.", "a.z.", RecordType::NS) && !cut("a.z.", "b.a.z.", RecordType::NS));
    }

    #[test]
    fn the_highest_cut_is_the_one_that_answers() {
        let all = Cut::above(&name("c.b.a.z."), &name("z."), |_, rtype| rtype == RecordType::NS);
        assert_eq!(all, Some(Cut { name: name("a.z."), rtype: RecordType::NS }));
    }
}
