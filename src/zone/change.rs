//! Changes of what is published, with their causes, and the commits that carry them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::{Epoch, Name, RecordType, Ttl, Wall};
use crate::membership::{Member, MemberId, Reason, Registration, State};

use super::delta::Delta;
use super::rrset::{Rdata, Record, Rrset};
use super::settings::Settings;

/// A member as it is published.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublishedMember {
    /// What it registered.
    pub registration: Arc<Registration>,
    /// How much of it is published.
    pub standing: Standing,
    /// Its slot, if it has one: its SRV target is the slot's name then.
    pub slot: Option<u32>,
    /// Its SRV weight: what it registered, or on the way there.
    pub weight: u16,
}

/// How much of a member is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// Its own host record, and the slot's: it drains.
    Leaving,
    /// All: it is in the SRV and address sets.
    InService,
    /// All, and that members of its service are held.
    Held,
    /// Nothing: it is registered, and damped or waits for a slot.
    Hidden,
}

impl PublishedMember {
    /// What is published of a registered member.
    pub fn of(member: &Member) -> PublishedMember {
        let standing = match member.state {
            State::Draining | State::Drained => Standing::Leaving,
            State::Damped => Standing::Hidden,
            _ if member.decided.waits => Standing::Hidden,
            State::Held => Standing::Held,
            State::Up | State::Suspect => Standing::InService,
        };
        let (slot, weight) = (member.decided.slot, member.weight());
        PublishedMember { registration: member.registration.clone(), standing, slot, weight }
    }

    /// A member that is published as it registered.
    pub fn in_service(registration: Arc<Registration>) -> PublishedMember {
        let weight = registration.weight;
        PublishedMember { registration, standing: Standing::InService, slot: None, weight }
    }

    /// Whether it is in the SRV and address sets.
    pub fn is_in_service(&self) -> bool {
        matches!(self.standing, Standing::InService | Standing::Held)
    }

    /// Whether its own names have its addresses.
    pub fn has_host(&self) -> bool {
        self.standing != Standing::Hidden
    }
}

/// One difference in what is published. Carries everything that policy decided, so that applying it reads nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// The zone file's settings.
    Settings(Arc<Settings>),
    /// The static records of one name; none: there are no more.
    Static {
        /// The owner.
        name: Name,
        /// All its static RRsets.
        rrsets: Vec<Rrset>,
    },
    /// A member came, changed, or went.
    Member {
        /// The SRV owner.
        service: Name,
        /// The member.
        id: MemberId,
        /// What is published of it; `None`: nothing.
        member: Option<PublishedMember>,
    },
    /// A leased RRset, whole; no data: it is gone.
    Leased {
        /// The owner.
        name: Name,
        /// The type.
        rtype: RecordType,
        /// The TTL.
        ttl: Ttl,
        /// The data, in order.
        rdatas: Vec<Rdata>,
    },
    /// How many slots a service has, where that is not told by those of its members.
    Slots {
        /// The SRV owner.
        service: Name,
        /// How many there are.
        count: u32,
    },
    /// A service that nobody is in, and that the configuration doesn't name, is no longer known.
    Forget {
        /// The SRV owner.
        service: Name,
    },
}

impl Change {
    /// The service that it is about.
    pub fn service(&self) -> Option<&Name> {
        match self {
            Change::Member { service, .. } | Change::Slots { service, .. } | Change::Forget { service } => {
                Some(service)
            }
            _ => None,
        }
    }
}

/// Why a change came about. Commits are stored with the number of theirs: new ones come last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Cause {
    /// Somebody registered it: a key or an address.
    Registered(Arc<str>),
    /// Somebody changed it.
    Changed(Arc<str>),
    /// Somebody withdrew it.
    Removed(Arc<str>),
    /// Somebody began to drain it.
    Drained(Arc<str>),
    /// Its lease ended.
    Lapsed,
    /// The configuration or a static file changed.
    Configured,
    /// Nobody was in it for long enough.
    Forgotten,
    /// Somebody's copy has it so: a primary and its address.
    Transferred(Arc<str>),
    /// Somebody ended the draining.
    Undrained(Arc<str>),
    /// Somebody withdrew what was held.
    Released(Arc<str>),
    /// Policy.
    Policy(Reason),
    /// Somebody removed free slots.
    Shrunk(Arc<str>),
    /// Somebody registered another member in its place: it drains.
    Replaced(Arc<str>, MemberId),
}

/// A change with its cause.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CausedChange {
    /// What.
    pub change: Change,
    /// Why.
    pub cause: Cause,
}

/// A batch of changes applied together: one epoch, one serial, one delta.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// The zone's epoch from this commit on.
    pub epoch: Epoch,
    /// When it was proposed.
    pub at: Wall,
    /// The changes, in order.
    pub changes: Vec<CausedChange>,
    /// The records that it takes away and adds; the SOA, which moves with every commit, is left out.
    pub delta: Delta,
}

/// For logs, in the words in which the history is told over HTTP.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Registered(by) => write!(f, "registered by {by}"),
            Cause::Changed(by) => write!(f, "changed by {by}"),
            Cause::Removed(by) => write!(f, "removed by {by}"),
            Cause::Drained(by) => write!(f, "drained by {by}"),
            Cause::Released(by) => write!(f, "released by {by}"),
            Cause::Shrunk(by) => write!(f, "rid of free slots by {by}"),
            Cause::Replaced(by, successor) => write!(f, "drained by {by}, {successor} takes its place"),
            Cause::Policy(reason) => f.write_str(reason.words()),
            Cause::Undrained(by) => write!(f, "brought back by {by}"),
            Cause::Lapsed => f.write_str("expired"),
            Cause::Configured => f.write_str("configured"),
            Cause::Forgotten => f.write_str("forgotten, nobody came back"),
            Cause::Transferred(by) => write!(f, "transferred by {by}"),
        }
    }
}

impl fmt::Display for CausedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Settings(settings) => write!(f, "settings of {}", settings.origin)?,
            Change::Static { name, .. } => write!(f, "static {name}")?,
            Change::Member { service, id, .. } => write!(f, "{id} in {service}")?,
            Change::Leased { name, rtype, .. } => write!(f, "{name} {rtype}")?,
            Change::Forget { service } | Change::Slots { service, .. } => write!(f, "{service}")?,
        }
        write!(f, " {}", self.cause)
    }
}

/// How many causes a summary names before it only counts the rest: a log line stays a line.
const SUMMARY: usize = 3;

impl Commit {
    /// Whether it is the first one of a zone: it has name servers from here on, which every zone has at any time. All of
    /// them are new and none goes.
    pub fn begins(&self, origin: &Name) -> bool {
        let is_server = |record: &&Record| record.rtype == RecordType::NS && record.owner == *origin;
        let sets = self.changes.iter().rev().find_map(|caused| match &caused.change {
            Change::Static { name, rrsets } if name == origin => Some(rrsets),
            _ => None,
        });
        let servers = sets.into_iter().flatten().find(|rrset| rrset.rtype == RecordType::NS);
        let Delta { removed, added } = &self.delta;
        servers.is_some_and(|servers| added.iter().filter(is_server).count() == servers.rdatas.len())
            && !removed.iter().any(|record| is_server(&record))
    }

    /// The causes in one line, for logs.
    pub fn summary(&self) -> String {
        let mut text = self.changes.iter().take(SUMMARY).map(CausedChange::to_string).collect::<Vec<_>>().join("; ");
        if self.changes.len() > SUMMARY {
            text.push_str(&format!("; and {} more", self.changes.len() - SUMMARY));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::Zone;
    use crate::zone::scenes::{Universe, caused};

    #[test]
    fn a_commit_begins_a_zone_if_there_was_no_name_server_before() {
        let settings = Universe::new("z.").settings();
        let origin: Name = "z.".parse().unwrap();
        let mut zone = Zone::new(settings.clone(), Epoch(99));
        let mut begins = |name: &str, rtype, ttl, servers: &[&str]| {
            let rdatas = servers.iter().map(|server| server.parse::<Name>().unwrap().as_wire().into()).collect();
            let rrsets = vec![Rrset { rtype, ttl: Ttl(ttl), rdatas }];
            zone.change(caused(Change::Settings(settings.clone())), Wall(0));
            zone.change(caused(Change::Static { name: name.parse().unwrap(), rrsets }), Wall(0));
            let staged = zone.stage(Wall(0));
            let commit = staged.commit.clone().unwrap();
            zone.publish(staged);
            commit.begins(&origin)
        };
        assert!(begins("z.", RecordType::NS, 5, &["a.", "b."]));
        assert!(!begins("z.", RecordType::NS, 5, &["a.", "b.", "c."]));
        assert!(!begins("z.", RecordType::NS, 5, &["d."]));
        assert!(!begins("z.", RecordType::NS, 6, &["d."]));
        assert!(!begins("sub.z.", RecordType::NS, 5, &["a."]));
        assert!(!begins("x.z.", RecordType::CNAME, 5, &["a."]));
    }
}
