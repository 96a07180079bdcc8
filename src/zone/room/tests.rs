//! The bound against what is published, and the growth against the bound, over random zones.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::base::{Epoch, Wall};
use crate::membership::Registration;

use crate::zone::scenes::{self, Batch, Sources, Universe, caused};
use crate::zone::{Change, HostName, Rrset, ServiceSettings, Settings, Zone};

use super::*;

const TYPES: [RecordType; 9] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::TXT,
    RecordType::PTR,
    RecordType::NS,
    RecordType::MX,
    RecordType::CNAME,
    RecordType(65_280),
];

struct Run {
    universe: Universe,
    zone: Zone,
    sources: Sources,
}

impl Run {
    fn new() -> Run {
        let universe = Universe::new("svc.z.");
        let settings = universe.settings();
        let mut zone = Zone::new(settings.clone(), Epoch(1));
        zone.change(caused(Change::Settings(settings.clone())), Wall(0));
        Run { universe, zone, sources: Sources::new(settings) }
    }

    /// Applies what the acts stand for, all or nothing, and checks the bound.
    fn batch(&mut self, batch: &Batch) {
        let mut sources = self.sources.clone();
        for act in &batch.acts {
            if let Some(change) = self.universe.change(act, &sources) {
                sources.apply(&change);
                self.zone.change(caused(change), Wall(1));
            }
        }
        self.check_counts();
        let staged = self.zone.stage(Wall(1));
        if batch.refused {
            self.zone.revert(staged);
        } else {
            self.sources = sources;
            self.zone.publish(staged);
        }
        self.check_counts();
        self.check_bound();
    }

    /// What services count is what their members come to.
    fn check_counts(&self) {
        for (name, service) in &self.zone.contents().services {
            let mut sum = Octets::default();
            for (id, member) in service.members.iter() {
                let octets = Octets::of(&service.layout, name, id, member);
                sum.srv += octets.srv;
                sum.ptr += octets.ptr;
                sum.addresses.a += octets.addresses.a;
                sum.addresses.aaaa += octets.addresses.aaaa;
            }
            assert_eq!(service.members.octets(), sum, "{name}");
        }
    }

    /// Nothing published is larger than its bound.
    fn check_bound(&self) {
        let contents = self.zone.contents();
        for node in self.zone.snapshot().nodes() {
            for rrset in node.rrsets() {
                let published: usize = rrset.rdatas().map(|rdata| RECORD_OCTETS + rdata.len()).sum();
                let targets = match rrset.rtype.is_address() {
                    true => distinct_octets(contents.addresses_with_target(node.name(), |_| true)),
                    false => 0,
                };
                let bound = contents.octets(node.name(), rrset.rtype) + targets;
                assert!(published <= bound, "{} {}: {published} of {bound}", node.name(), rrset.rtype);
            }
        }
    }

    /// The bounds of all names that have or could have something.
    fn bounds(&self, more: &Growth<'_>) -> BTreeMap<(String, u16), i64> {
        let contents = self.zone.contents();
        let names = contents.all_names().into_iter().chain(more.sets.keys().map(|(name, _)| name.clone()));
        let sets = names.flat_map(|name| TYPES.map(|rtype| (name.clone(), rtype)));
        let bound = |(name, rtype): (Name, RecordType)| {
            let octets = i64::try_from(contents.octets(&name, rtype)).unwrap();
            ((name.to_string(), rtype.0), octets)
        };
        sets.map(bound).filter(|(_, octets)| *octets > 0).collect()
    }
}

/// What the change of a leased RRset means record by record.
fn grow_leased(growth: &mut Growth<'_>, contents: &Contents, change: &Change) {
    let Change::Leased { name, rtype, rdatas, .. } = change else { return };
    let before = contents.leased(name).iter().filter(|rrset| rrset.rtype == *rtype).flat_map(|rrset| &rrset.rdatas);
    before.clone().filter(|rdata| !rdatas.contains(rdata)).for_each(|rdata| growth.leased(name, *rtype, rdata, false));
    let before: Vec<&Rdata> = before.collect();
    rdatas.iter().filter(|rdata| !before.contains(rdata)).for_each(|rdata| growth.leased(name, *rtype, rdata, true));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_published_beyond_its_bound_and_growth_is_what_the_bound_grows_by(
        batches in scenes::batches(), acts in prop::collection::vec(scenes::acts(), 1..8),
    ) {
        let mut run = Run::new();
        batches.iter().for_each(|batch| run.batch(batch));
        let mut changes: BTreeMap<String, Change> = BTreeMap::new();
        for act in &acts {
            match run.universe.change(act, &run.sources) {
                // Nobody goes who isn't there.
                Some(Change::Member { service, id, member })
                    if member.is_some() || run.zone.contents().member(&service, &id).is_some() =>
                {
                    changes.insert(format!("{service} {id}"), Change::Member { service, id, member });
                }
                Some(Change::Leased { name, rtype, ttl, rdatas }) => {
                    changes.insert(format!("{name} {rtype}"), Change::Leased { name, rtype, ttl, rdatas });
                }
                _ => {}
            }
        }
        let contents = run.zone.contents();
        let mut growth = Growth::new(contents);
        for change in changes.values() {
            match change {
                Change::Member { service, id, member } => growth.member(service, id, member.clone()),
                leased => grow_leased(&mut growth, contents, leased),
            }
        }
        prop_assert_eq!(growth.check(), Ok(()));
        let mut expected = run.bounds(&growth);
        for ((name, rtype), change) in &growth.sets {
            let [won, lost] = [change.won, change.lost].map(|octets| i64::try_from(octets).unwrap());
            *expected.entry((name.to_string(), rtype.0)).or_default() += won - lost;
        }
        let sets: Vec<(Name, RecordType)> = growth.sets.keys().filter(|(_, rtype)| rtype.is_address()).cloned().collect();
        let distinct = |growth: &Growth<'_>| -> Vec<SeededSet<IpAddr>> {
            sets.iter().map(|(name, rtype)| growth.addresses(name, *rtype).collect()).collect()
        };
        let addresses = distinct(&growth);
        expected.retain(|_, octets| *octets > 0);
        for change in changes.into_values() {
            run.zone.change(caused(change), Wall(2));
        }
        let nothing = Growth::new(run.zone.contents());
        let found = run.bounds(&nothing);
        prop_assert_eq!(found, expected);
        prop_assert_eq!(distinct(&nothing), addresses, "addresses one by one");
    }

    #[test]
    fn what_goes_makes_no_set_larger(batches in scenes::batches()) {
        let mut run = Run::new();
        batches.iter().for_each(|batch| run.batch(batch));
        let members: Vec<(Name, MemberId)> =
            run.sources.members.iter().map(|((_, id), (service, _))| (service.clone(), id.clone())).collect();
        for (service, id) in members {
            let before = run.bounds(&Growth::new(run.zone.contents()));
            run.zone.change(caused(Change::Member { service, id, member: None }), Wall(3));
            for (set, octets) in run.bounds(&Growth::new(run.zone.contents())) {
                prop_assert!(before.get(&set).is_some_and(|before| octets <= *before), "{:?}", set);
            }
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A member with these addresses, whose target is its own host name or another.
fn member(service: &str, id: &str, target: Option<&str>, addresses: &[IpAddr]) -> Change {
    let host = service.trim_start_matches('_').split('.').next().unwrap();
    Change::Member {
        service: name(service),
        id: MemberId::new(id).unwrap(),
        member: Some(PublishedMember::in_service(Arc::new(Registration {
            target: name(target.unwrap_or(&format!("{id}.{host}.z."))),
            port: 80,
            priority: 0,
            weight: 0,
            addresses: addresses.into(),
            metadata: Box::default(),
        }))),
    }
}

fn ipv6(from: u128, count: u128) -> Vec<IpAddr> {
    (from..from + count).map(|number| IpAddr::from((0xfd00_u128 << 112 | number).to_be_bytes())).collect()
}

/// The growth by one member.
fn check(zone: &Zone, change: &Change) -> Result<(), Overfull> {
    let Change::Member { service, id, member } = change else { panic!("{change:?}") };
    let mut growth = Growth::new(zone.contents());
    growth.member(service, id, member.clone());
    growth.check()
}

fn zone() -> Zone {
    scenes::zone_of(&Universe::new("z."), [])
}

/// Settings with these services: host name, and whether they are announced.
fn settings(services: &[(&str, Option<&str>, bool)]) -> Arc<Settings> {
    let services = services.iter().map(|(service, host, dns_sd)| ServiceSettings {
        service: name(service),
        host_name: host.map_or(HostName::Default, |host| match host {
            "" => HostName::Unpublished,
            label => HostName::Label(label.as_bytes().into()),
        }),
        dns_sd: *dns_sd,
        slots: false,
    });
    Arc::new(Settings { services: services.collect(), ..(*Universe::new("z.").settings()).clone() })
}

fn configure(zone: &mut Zone, settings: &Arc<Settings>) -> Result<(), Overfull> {
    zone.try_change(vec![caused(Change::Settings(settings.clone()))], Wall(1))
}

#[test]
fn address_sets_of_services_with_one_host_name_share_its_room() {
    let mut zone = zone();
    // 1,714 IPv6 addresses fit 48,000 octets.
    for number in 0..107u32 {
        let service = if number % 2 == 0 { "_x._tcp.z." } else { "_x._udp.z." };
        let change = member(service, &format!("m{number}"), None, &ipv6(u128::from(number) * 16, 16));
        assert_eq!(check(&zone, &change), Ok(()), "{number}");
        zone.change(caused(change), Wall(1));
    }
    let set = |rtype| Err(Overfull::Rrset { name: name("x.z."), rtype });
    assert_eq!(check(&zone, &member("_x._tcp.z.", "last", None, &ipv6(5000, 2))), Ok(()));
    for service in ["_x._tcp.z.", "_x._udp.z.", "_x._sctp.z."] {
        assert_eq!(check(&zone, &member(service, "last", None, &ipv6(5000, 3))), set(RecordType::AAAA), "{service}");
    }
    // The other family, other services, and members that only change are not concerned.
    assert_eq!(check(&zone, &member("_x._tcp.z.", "last", None, &[[192, 0, 2, 1].into()])), Ok(()));
    assert_eq!(check(&zone, &member("_y._tcp.z.", "last", None, &ipv6(5000, 16))), Ok(()));
    assert_eq!(check(&zone, &member("_x._tcp.z.", "m0", None, &ipv6(6000, 16))), Ok(()));
    // Static records at the name take the place of the set.
    let rrset = Rrset { rtype: RecordType::A, ttl: crate::base::Ttl(5), rdatas: vec![vec![192, 0, 2, 1].into()] };
    zone.change(caused(Change::Static { name: name("x.z."), rrsets: vec![rrset] }), Wall(1));
    assert_eq!(check(&zone, &member("_x._tcp.z.", "last", None, &ipv6(5000, 16))), Ok(()));
}

#[test]
fn equal_addresses_of_a_set_take_its_room_once() {
    let mut zone = zone();
    // The same hosts in two services: 1,714 addresses, all of them twice.
    for number in 0..107 {
        for service in ["_x._tcp.z.", "_x._udp.z."] {
            let change = member(service, &format!("m{number}"), None, &ipv6(number * 16, 16));
            assert_eq!(check(&zone, &change), Ok(()), "{number}");
            zone.change(caused(change), Wall(1));
        }
    }
    let full = Err(Overfull::Rrset { name: name("x.z."), rtype: RecordType::AAAA });
    let change = |service: &str, id: &str, from: u128, count: u128| member(service, id, None, &ipv6(from, count));
    assert_eq!(check(&zone, &change("_x._tcp.z.", "new", 0, 16)), Ok(()), "all there");
    assert_eq!(check(&zone, &change("_x._tcp.z.", "new", 5000, 2)), Ok(()));
    assert_eq!(check(&zone, &change("_x._tcp.z.", "new", 5000, 3)), full);
    // One host gets other addresses in one of the services: the former stay by the other one.
    assert_eq!(check(&zone, &change("_x._tcp.z.", "m7", 5000, 16)), full);
    let mut growth = Growth::new(zone.contents());
    for service in ["_x._tcp.z.", "_x._udp.z."] {
        let Change::Member { service, id, member } = change(service, "m7", 5000, 16) else { panic!() };
        growth.member(&service, &id, member);
    }
    assert_eq!(growth.check(), Ok(()), "in both");
}

#[test]
fn members_that_share_a_target_share_its_room_and_equal_addresses_count_once() {
    let mut zone = zone();
    for number in 0..17 {
        let own = ipv6(number * 16, 16);
        zone.change(caused(member("_x._tcp.z.", &format!("m{number}"), Some("host.z."), &own)), Wall(1));
        zone.change(caused(member("_y._tcp.z.", &format!("m{number}"), Some("host.z."), &own)), Wall(1));
    }
    // 272 addresses so far; 285 fit.
    assert_eq!(check(&zone, &member("_x._tcp.z.", "new", Some("host.z."), &ipv6(1000, 13))), Ok(()));
    let full = Err(Overfull::Target { name: name("host.z.") });
    assert_eq!(check(&zone, &member("_x._tcp.z.", "new", Some("host.z."), &ipv6(1000, 14))), full);
    assert_eq!(check(&zone, &member("_x._tcp.z.", "new", Some("host.z."), &ipv6(0, 16))), Ok(()));
    assert_eq!(check(&zone, &member("_x._tcp.z.", "new", Some("other.z."), &ipv6(1000, 14))), Ok(()));
    // A name that belongs to another service is no way around: it might be free one day.
    zone.change(caused(member("_host._tcp.z.", "a", None, &ipv6(2000, 1))), Wall(1));
    assert_eq!(check(&zone, &member("_x._tcp.z.", "new", Some("host.z."), &ipv6(1000, 14))), full);
    // Whoever fills that room takes none from the name's owner.
    assert_eq!(check(&zone, &member("_host._tcp.z.", "b", None, &ipv6(3000, 16))), Ok(()));
}

#[test]
fn so_many_members_share_a_target() {
    let mut zone = zone();
    for number in 0..TARGET_MEMBERS {
        let change = member("_x._tcp.z.", &format!("m{number}"), Some("host.z."), &[]);
        assert_eq!(check(&zone, &change), Ok(()), "{number}");
        zone.change(caused(change), Wall(1));
    }
    let full = Err(Overfull::Sharers { name: name("host.z.") });
    assert_eq!(check(&zone, &member("_y._tcp.z.", "more", Some("host.z."), &[])), full);
    assert_eq!(check(&zone, &member("_x._tcp.z.", "m7", Some("host.z."), &ipv6(0, 1))), Ok(()), "a change");
    assert_eq!(check(&zone, &member("_x._tcp.z.", "more", Some("far.example."), &[])), Ok(()));
    // The member whose own host name it is counts for itself.
    assert_eq!(check(&zone, &member("_y._tcp.z.", "more", None, &[])), Ok(()));
    let mut growth = Growth::new(zone.contents());
    growth.member(&name("_x._tcp.z."), &MemberId::new("m7").unwrap(), None);
    let Change::Member { member, .. } = member("_y._tcp.z.", "more", Some("host.z."), &[]) else { panic!() };
    growth.member(&name("_y._tcp.z."), &MemberId::new("more").unwrap(), member);
    assert_eq!(growth.check(), Ok(()), "one in the place of another");
}

#[test]
fn so_many_services_share_a_host_name() {
    let mut zone = zone();
    for number in 0..HOST_SERVICES {
        let change = member(&format!("_x._t{number}.z."), "a", None, &[]);
        assert_eq!(check(&zone, &change), Ok(()), "{number}");
        zone.change(caused(change), Wall(1));
    }
    let full = Err(Overfull::Host { name: name("x.z.") });
    assert_eq!(check(&zone, &member("_x._one-more.z.", "a", None, &[])), full);
    assert_eq!(check(&zone, &member("_x._t7.z.", "b", None, &[])), Ok(()));
    assert_eq!(check(&zone, &member("_x._one-more.east.z.", "a", None, &[])), Ok(()));
    assert_eq!(configure(&mut zone, &settings(&[("_y._tcp.z.", Some("x"), false)])), full);
}

#[test]
fn settings_that_merge_or_make_sets_too_large_are_refused_and_change_nothing() {
    let mut zone = zone();
    configure(&mut zone, &settings(&[("_hidden._tcp.z.", Some(""), false)])).unwrap();
    let long = "m".repeat(50);
    for number in 0..60u32 {
        for (from, service) in [(0, "_x._tcp.z."), (10_000, "_y._tcp.z."), (20_000, "_hidden._tcp.z.")] {
            let addresses = ipv6(from + u128::from(number) * 16, 16);
            zone.change(caused(member(service, &format!("m{number}"), None, &addresses)), Wall(1));
        }
        // A short target, and a long id for its instance.
        for half in 0..12 {
            let id = format!("{long}{number:03}-{half:03}");
            zone.change(caused(member("_p._tcp.z.", &id, Some("t."), &[])), Wall(1));
        }
    }
    let staged = zone.stage(Wall(1));
    zone.publish(staged);
    let before = zone.contents().settings().clone();
    let cases = [
        (settings(&[("_y._tcp.z.", Some("x"), false)]), "x.z.", RecordType::AAAA),
        // Published again, beside the set of another service.
        (settings(&[("_hidden._tcp.z.", Some("y"), false)]), "y.z.", RecordType::AAAA),
        (settings(&[("_p._tcp.z.", None, true)]), "_p._tcp.z.", RecordType::PTR),
    ];
    for (changed, at, rtype) in cases {
        assert_eq!(configure(&mut zone, &changed), Err(Overfull::Rrset { name: name(at), rtype }));
        assert_eq!(*zone.contents().settings(), before);
        assert!(!zone.is_changed());
    }
    assert_eq!(configure(&mut zone, &settings(&[("_y._tcp.z.", None, true)])), Ok(()));
    assert!(zone.is_changed());
}

#[test]
fn services_that_are_announced_together_fit_their_list() {
    let label = "s".repeat(50);
    let names: Vec<String> = (0..900).map(|number| format!("_{label}{number:04}._tcp.z.")).collect();
    let announced = |count: usize| {
        let services: Vec<_> = names[..count].iter().map(|name| (name.as_str(), None, true)).collect();
        settings(&services)
    };
    // A name of 64 octets each: 76 a record.
    assert_eq!(configure(&mut zone(), &announced(736)), Ok(()));
    let list = Overfull::Rrset { name: name("_services._dns-sd._udp.z."), rtype: RecordType::PTR };
    assert_eq!(configure(&mut zone(), &announced(737)), Err(list));
}

#[test]
fn static_records_leave_members_the_rest_of_a_set() {
    let srv = |number: u16| {
        let mut rdata = vec![0, 0, 0, 0];
        rdata.extend(number.to_be_bytes());
        rdata.extend(name(&format!("{}.far.example.", "t".repeat(40))).as_wire());
        Rdata::from(rdata)
    };
    let statics = |count: u16| Change::Static {
        name: name("_x._tcp.z."),
        rrsets: vec![Rrset { rtype: RecordType::SRV, ttl: crate::base::Ttl(5), rdatas: (0..count).map(srv).collect() }],
    };
    let mut zone = zone();
    // 72 octets a record.
    zone.try_change(vec![caused(statics(777))], Wall(1)).unwrap();
    let member = |id: &str| member("_x._tcp.z.", id, None, &[]);
    assert_eq!(check(&zone, &member("a")), Ok(()));
    zone.change(caused(member("a")), Wall(1));
    let full = Overfull::Rrset { name: name("_x._tcp.z."), rtype: RecordType::SRV };
    assert_eq!(check(&zone, &member("b")), Ok(()));
    zone.change(caused(member("b")), Wall(1));
    assert_eq!(check(&zone, &member("c")), Err(full.clone()));
    // And the other way round.
    assert_eq!(zone.try_change(vec![caused(statics(778))], Wall(1)), Err(full));
    assert_eq!(zone.try_change(vec![caused(statics(776))], Wall(1)), Ok(()));
}

#[test]
fn a_service_with_slots_is_weighed_anew_when_its_host_name_changes() {
    let with_host = |host: &str| {
        let mut settings = (*settings(&[("_x._tcp.z.", Some(host), false)])).clone();
        settings.services[0].slots = true;
        Change::Settings(Arc::new(settings))
    };
    let Change::Settings(first) = with_host("x") else { unreachable!() };
    let mut zone = Zone::new(first, Epoch(1));
    let Change::Member { service, id, member: Some(published) } = member("_x._tcp.z.", "a", None, &[]) else {
        panic!("a member")
    };
    let slotted = PublishedMember { slot: Some(0), ..published };
    let comes = Change::Member { service: service.clone(), id: id.clone(), member: Some(slotted) };
    let goes = Change::Member { service: service.clone(), id, member: None };
    for change in [with_host("x"), comes, with_host("a-much-longer-host-name"), goes] {
        zone.change(caused(change), Wall(0));
        let staged = zone.stage(Wall(0));
        zone.publish(staged);
    }
    assert_eq!(zone.contents().octets(&service, RecordType::SRV), 0);
}
