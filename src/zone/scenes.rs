//! Random zones for tests: a small universe of names in which everything that can meet does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use crate::base::{Epoch, Name, RecordType, Ttl, Wall};
use crate::membership::member::sort_addresses;
use crate::membership::{MemberId, Registration};

use super::rrset::Record;
use super::{
    Cause, CausedChange, Change, HostName, Node, PublishedMember, Rdata, Rrset, ServiceSettings, ServiceState,
    Settings, Snapshot, Standing, Zone,
};

/// One change, by numbers into the universe.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Member { service: usize, id: usize, member: Option<MemberAct> },
    Static { name: usize, sets: Vec<usize> },
    Leased { name: usize, set: usize, count: usize },
    Settings { ttl: u32, negative_ttl: u32, host_name: usize, dns_sd: bool, second: bool },
    Forget { service: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct MemberAct {
    target: usize,
    port: u16,
    addresses: u8,
    metadata: bool,
    in_service: bool,
}

/// What happens to the changes of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub acts: Vec<Act>,
    /// The store refuses.
    pub refused: bool,
}

pub(crate) const SERVICES: [&str; 4] = ["_x._tcp", "_x._udp", "_y._tcp", "_y._tcp.east"];
const IDS: [&str; 4] = ["a", "b", "c", "d"];
const TARGETS: [&str; 9] = ["", "", "", "t1", "x", "a.y", "ns1", "far.example.", "_y._tcp"];
const STATIC_NAMES: [&str; 13] =
    ["@", "ns1", "t1", "_x._tcp", "x", "deep.er.and.deeper", "alias", "_y._tcp", "*", "*.er", "alias3", "sub", "b.sub"];
/// Names that hold a CNAME, or nothing.
const ALIASES: [&str; 3] = ["alias", "alias3", "*.er"];
const LEASED_NAMES: [&str; 7] = ["h1", "t1", "er", "one.two.h1", "alias2", "_acme.x", "east"];

pub(crate) fn acts() -> impl Strategy<Value = Act> {
    let member = (0..TARGETS.len(), 1u16..3, 0u8..64, any::<bool>(), prop::bool::weighted(0.8)).prop_map(
        |(target, port, addresses, metadata, in_service)| MemberAct { target, port, addresses, metadata, in_service },
    );
    prop_oneof![
        8 => (0..SERVICES.len(), 0..IDS.len(), prop::option::weighted(0.75, member))
            .prop_map(|(service, id, member)| Act::Member { service, id, member }),
        3 => (0..STATIC_NAMES.len(), prop::collection::vec(0usize..14, 0..4))
            .prop_map(|(name, sets)| Act::Static { name, sets }),
        2 => (0..LEASED_NAMES.len(), 0usize..6, 0usize..4)
            .prop_map(|(name, set, count)| Act::Leased { name, set, count }),
        1 => (4u32..6, 1u32..3, 0usize..4, any::<bool>(), any::<bool>())
            .prop_map(|(ttl, negative_ttl, host_name, dns_sd, second)| {
                Act::Settings { ttl, negative_ttl, host_name, dns_sd, second }
            }),
        1 => (0..SERVICES.len()).prop_map(|service| Act::Forget { service }),
    ]
}

pub(crate) fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let batch = (prop::collection::vec(acts(), 0..6), prop::bool::weighted(0.2))
        .prop_map(|(acts, refused)| Batch { acts, refused });
    prop::collection::vec(batch, 1..10)
}

/// Names and changes of a universe with this origin.
#[derive(Clone, Debug)]
pub(crate) struct Universe {
    pub origin: Name,
}

impl Universe {
    pub(crate) fn new(origin: &str) -> Universe {
        Universe { origin: origin.parse().unwrap() }
    }

    pub(crate) fn name(&self, text: &str) -> Name {
        Name::parse(text, Some(&self.origin)).unwrap()
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings_with(5, 2, 0, false, false)
    }

    fn settings_with(
        &self,
        ttl: u32,
        negative_ttl: u32,
        host_name: usize,
        dns_sd: bool,
        second: bool,
    ) -> Arc<Settings> {
        let host_name = match host_name {
            0 | 1 => HostName::Default,
            2 => HostName::Label(b"cache".as_slice().into()),
            _ => HostName::Unpublished,
        };
        let mut services = Vec::new();
        if dns_sd || host_name != HostName::Default {
            services.push(ServiceSettings { host_name, dns_sd, ..ServiceSettings::of(self.name("_x._tcp")) });
        }
        if second {
            services.push(ServiceSettings { dns_sd: true, ..ServiceSettings::of(self.name("_y._tcp.east")) });
        }
        Arc::new(Settings {
            origin: self.origin.clone(),
            ttl: Ttl(ttl),
            negative_ttl: Ttl(negative_ttl),
            soa_ttl: Ttl(negative_ttl),
            primary: self.name("ns1"),
            contact: self.name("hostmaster.example."),
            refresh: 30,
            retry: 5,
            expire: 3600,
            services,
        })
    }

    /// The change that an act stands for; none if it would break what the publisher sees to.
    pub(crate) fn change(&self, act: &Act, sources: &Sources) -> Option<Change> {
        Some(match act {
            Act::Member { service, id, member } => {
                let service = self.name(SERVICES[*service]);
                let id = MemberId::new(IDS[*id]).unwrap();
                let member = member.as_ref().map(|act| self.member(&service, &id, act, &sources.settings));
                Change::Member { service, id, member }
            }
            Act::Static { name, sets } => {
                let name = self.name(STATIC_NAMES[*name]);
                let mut rrsets: BTreeMap<RecordType, Rrset> = BTreeMap::new();
                for set in sets {
                    let rrset = self.static_set(*set);
                    let is_service = name.first_label().first() == Some(&b'_');
                    // What `check` refuses: aliases beside other records, SRV records of members elsewhere.
                    let alias = rrset.rtype == RecordType::CNAME;
                    let only_alias = ALIASES.iter().any(|alias| name == self.name(alias));
                    if alias != only_alias || (rrset.rtype == RecordType::SRV) != is_service {
                        continue;
                    }
                    rrsets.insert(rrset.rtype, rrset);
                }
                Change::Static { name, rrsets: rrsets.into_values().collect() }
            }
            Act::Leased { name, set, count } => {
                let name = self.name(LEASED_NAMES[*name]);
                let (rtype, rdatas) = self.leased_set(*set, &name);
                Change::Leased {
                    name,
                    rtype,
                    ttl: Ttl(u32::try_from(*count).unwrap() + 2),
                    rdatas: rdatas.into_iter().take(*count).collect(),
                }
            }
            Act::Settings { ttl, negative_ttl, host_name, dns_sd, second } => {
                Change::Settings(self.settings_with(*ttl, *negative_ttl, *host_name, *dns_sd, *second))
            }
            Act::Forget { service } => {
                let service = self.name(SERVICES[*service]);
                let configured = sources.settings.services.iter().any(|entry| entry.service == service);
                if configured || sources.members.values().any(|(other, _)| *other == service) {
                    return None;
                }
                Change::Forget { service }
            }
        })
    }

    fn member(&self, service: &Name, id: &MemberId, act: &MemberAct, settings: &Settings) -> PublishedMember {
        let own = super::Layout::of(service, settings).unwrap().member_host(id).unwrap();
        let target = match TARGETS[act.target] {
            "" => own,
            other => self.name(other),
        };
        let addresses = (0..6).filter(|bit| act.addresses >> bit & 1 == 1).map(|bit: u8| match bit {
            0..3 => IpAddr::from([192, 0, 2, 20 - bit * 9]),
            _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(bit)]),
        });
        let member = PublishedMember::in_service(Arc::new(Registration {
            target,
            port: act.port,
            priority: 0,
            weight: 256,
            addresses: sort_addresses(addresses.collect()),
            metadata: if act.metadata { [b"az=a".as_slice().into()].into() } else { Box::default() },
        }));
        let standing = if act.in_service { member.standing } else { Standing::Leaving };
        PublishedMember { standing, ..member }
    }

    fn static_set(&self, number: usize) -> Rrset {
        let wire = |name: &str| self.name(name).as_wire().to_vec();
        let prefixed = |prefix: &[u8], name: &str| [prefix, &wire(name)].concat();
        let (rtype, rdatas): (RecordType, Vec<Vec<u8>>) = match number {
            0 => (RecordType::A, vec![vec![192, 0, 2, 2], vec![192, 0, 2, 53]]),
            1 => (RecordType::A, vec![vec![192, 0, 2, 54]]),
            2 => (RecordType::AAAA, vec![vec![1; 16]]),
            3 => (RecordType::TXT, vec![b"\x02hi".to_vec()]),
            4 => (RecordType::MX, vec![prefixed(&[0, 1], "t1"), prefixed(&[0, 2], "a.x")]),
            5 => (RecordType::NS, vec![wire("ns1"), wire("ns2.example.")]),
            6 => (
                RecordType::SRV,
                vec![prefixed(&[0, 0, 0, 0, 0, 9], "t1"), prefixed(&[0, 0, 0, 0, 0, 9], "far.example.")],
            ),
            7 => (RecordType::SRV, vec![prefixed(&[0, 0, 0, 0, 0, 10], "a.y")]),
            8 => (RecordType::CNAME, vec![wire("t1")]),
            9 => (RecordType::CNAME, vec![wire("alias3")]),
            10 => (RecordType::CNAME, vec![wire("q.sub")]),
            11 => (RecordType::CNAME, vec![wire("alias")]),
            12 => (RecordType::DNAME, vec![wire("er")]),
            _ => (RecordType::DNAME, vec![wire("more.sub")]),
        };
        Rrset { rtype, ttl: Ttl(60), rdatas: rdatas.into_iter().map(Rdata::from).collect() }
    }

    fn leased_set(&self, number: usize, name: &Name) -> (RecordType, Vec<Rdata>) {
        let wire = |name: &str| self.name(name).as_wire().to_vec();
        let prefixed = |prefix: &[u8], name: &str| [prefix, &wire(name)].concat();
        if *name == self.name("alias2") {
            return (RecordType::CNAME, vec![wire("h1").into()]);
        }
        let (rtype, rdatas): (RecordType, Vec<Vec<u8>>) = match number {
            0 => (RecordType::TXT, vec![b"\x01a".to_vec(), b"\x01b".to_vec(), b"\x02cc".to_vec()]),
            1 => (RecordType::MX, vec![prefixed(&[0, 5], "h1"), prefixed(&[0, 6], "b.x")]),
            2 => (RecordType::SRV, vec![prefixed(&[0; 6], "a.x"), prefixed(&[0; 6], "h1"), prefixed(&[0; 6], "x")]),
            3 => (RecordType::NS, vec![wire("h1"), wire("ns1")]),
            4 => (RecordType::A, vec![vec![192, 0, 2, 99], vec![192, 0, 2, 100]]),
            _ => (RecordType(65_280), vec![vec![0], vec![1], vec![2, 2]]),
        };
        (rtype, rdatas.into_iter().map(Rdata::from).collect())
    }
}

/// What the changes so far come to, kept as simply as can be.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub settings: Arc<Settings>,
    pub members: BTreeMap<(String, MemberId), (Name, PublishedMember)>,
    pub statics: BTreeMap<String, (Name, Vec<Rrset>)>,
    pub leased: BTreeMap<(String, RecordType), Change>,
}

impl Sources {
    pub(crate) fn new(settings: Arc<Settings>) -> Sources {
        Sources { settings, members: BTreeMap::new(), statics: BTreeMap::new(), leased: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Settings(settings) => self.settings = settings.clone(),
            Change::Static { name, rrsets } if rrsets.is_empty() => drop(self.statics.remove(&name.to_string())),
            Change::Static { name, rrsets } => {
                self.statics.insert(name.to_string(), (name.clone(), rrsets.clone()));
            }
            Change::Leased { name, rtype, rdatas, .. } if rdatas.is_empty() => {
                self.leased.remove(&(name.to_string(), *rtype));
            }
            Change::Leased { name, rtype, .. } => {
                self.leased.insert((name.to_string(), *rtype), change.clone());
            }
            Change::Member { service, id, member: Some(member) } => {
                self.members.insert((service.to_string(), id.clone()), (service.clone(), member.clone()));
            }
            Change::Member { service, id, member: None } => {
                self.members.remove(&(service.to_string(), id.clone()));
            }
            Change::Forget { .. } | Change::Slots { .. } => {}
        }
    }

    /// The changes that lead here from nothing.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let statics =
            self.statics.values().map(|(name, rrsets)| Change::Static { name: name.clone(), rrsets: rrsets.clone() });
        let members = self.members.iter().map(|((_, id), (service, member))| Change::Member {
            service: service.clone(),
            id: id.clone(),
            member: Some(member.clone()),
        });
        statics.chain(members).chain(self.leased.values().cloned()).collect()
    }
}

pub(crate) fn caused(change: Change) -> CausedChange {
    CausedChange { change, cause: Cause::Configured }
}

/// All nodes by the text of their name.
pub(crate) fn nodes(snapshot: &Snapshot) -> BTreeMap<String, Node> {
    snapshot.nodes().map(|node| (node.name().to_string(), (**node).clone())).collect()
}

/// All records, the SOA left out.
pub(crate) fn records(snapshot: &Snapshot) -> BTreeSet<(String, u16, u32, Rdata)> {
    snapshot
        .nodes()
        .flat_map(|node| node.rrsets().flat_map(|rrset| rrset.records(node.name()).collect::<Vec<_>>()))
        .map(|record| record_parts(&record))
        .collect()
}

pub(crate) fn record_parts(record: &Record) -> (String, u16, u32, Rdata) {
    (record.owner.to_string(), record.rtype.0, record.ttl.0, record.rdata.clone())
}

/// What the store would keep of the services.
pub(crate) fn service_states(zone: &Zone) -> BTreeMap<String, (Name, ServiceState)> {
    zone.contents()
        .services()
        .map(|(name, ..)| (name.to_string(), (name.clone(), zone.service_state(name).unwrap())))
        .collect()
}

/// The zone as it would be after a restart.
pub(crate) fn restored(sources: &Sources, zone: &Zone) -> Zone {
    let services: Vec<(Name, ServiceState)> = service_states(zone).into_values().collect();
    Zone::restore(sources.settings.clone(), zone.snapshot().epoch, sources.changes(), services)
}

/// A zone with everything of a batch published at once.
pub(crate) fn zone_of(universe: &Universe, changes: impl IntoIterator<Item = Change>) -> Zone {
    let mut zone = Zone::new(universe.settings(), Epoch(100));
    zone.change(caused(Change::Settings(universe.settings())), Wall(0));
    for change in changes {
        zone.change(caused(change), Wall(0));
    }
    let staged = zone.stage(Wall(0));
    zone.publish(staged);
    zone
}

/// A zone whose service `_x._tcp` has these members, all at one address.
pub(crate) fn zone_with_members(origin: &str, ids: &[&str]) -> Zone {
    let universe = Universe::new(origin);
    let member = |id: &&str| Change::Member {
        service: universe.name("_x._tcp"),
        id: MemberId::new(id).unwrap(),
        member: Some(PublishedMember::in_service(Arc::new(Registration {
            target: universe.name(&format!("{id}.x")),
            port: 80,
            priority: 0,
            weight: 0,
            addresses: [[192, 0, 2, 1].into()].into(),
            metadata: Box::default(),
        }))),
    };
    zone_of(&universe, ids.iter().map(member))
}

/// Addresses that a snapshot publishes at a name.
pub(crate) fn published_addresses(snapshot: &Snapshot, wire: &[u8]) -> Vec<IpAddr> {
    let Some(node) = snapshot.node(wire) else { return Vec::new() };
    let rrsets = [RecordType::A, RecordType::AAAA].into_iter().filter_map(|rtype| node.rrset(rtype));
    rrsets
        .flat_map(|rrset| {
            rrset.rdatas().filter_map(|rdata| super::records::address::address(rrset.rtype, rdata)).collect::<Vec<_>>()
        })
        .collect()
}
