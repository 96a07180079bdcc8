//! A copy beside what it is a copy of.

use proptest::prelude::*;

use super::*;
use crate::base::Wall;
use crate::zone::scenes::{self, Act, Batch, Universe, batches, caused};
use crate::zone::{Cause, CausedChange, Delta, Snapshot, Step, Zone, history};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn rdata(rtype: RecordType, text: &str) -> Rdata {
    let octets = match rtype {
        RecordType::NS | RecordType::CNAME => name(text).as_wire().to_vec(),
        RecordType::SRV => {
            let (port, target) = text.split_once(' ').unwrap();
            [&[0, 0, 0, 0], &port.parse::<u16>().unwrap().to_be_bytes()[..], name(target).as_wire()].concat()
        }
        _ => [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat(),
    };
    octets.into()
}

fn record(owner: &str, rtype: RecordType, ttl: u32, text: &str) -> Record {
    Record { owner: name(owner), rtype, ttl: Ttl(ttl), rdata: rdata(rtype, text) }
}

fn soa_with(serial: u32, ttl: u32, minimum: u32) -> Record {
    let words = [serial, 30, 5, 3600, minimum].map(u32::to_be_bytes).concat();
    let octets = [name("ns1.z.").as_wire(), name("h.z.").as_wire(), &words].concat();
    Record { owner: name("z."), rtype: RecordType::SOA, ttl: Ttl(ttl), rdata: octets.into() }
}

fn soa(serial: u32) -> Record {
    soa_with(serial, 60, 60)
}

fn difference(from: u32, to: u32, removed: &[Record], added: &[Record]) -> Difference {
    let delta = Delta { removed: removed.to_vec(), added: added.to_vec() };
    Difference { from: soa(from), to: soa(to), delta }
}

/// Records as the nodes that a transfer makes of them.
fn nodes(records: impl IntoIterator<Item = Record>) -> Vec<StaticNode> {
    let mut nodes: NameMap<Vec<Rrset>> = NameMap::default();
    for record in records {
        assert!(add(nodes.entry(record.owner.clone()).or_default(), &record), "{record:?} twice");
    }
    nodes.into_iter().map(|(name, rrsets)| StaticNode { name, rrsets }).collect()
}

fn whole_of(snapshot: &Snapshot) -> Vec<StaticNode> {
    nodes(snapshot.nodes().flat_map(|node| {
        node.rrsets().flat_map(|rrset| rrset.records(node.name()).collect::<Vec<_>>()).collect::<Vec<_>>()
    }))
}

/// Takes changes over as a follower does.
fn publish(zone: &mut Zone, soa: &Record, changes: Vec<Change>) {
    for change in changes {
        zone.change(CausedChange { change, cause: Cause::Transferred("p".into()) }, Wall(0));
    }
    let epoch = epoch_after(zone.snapshot().epoch, crate::zone::settings::serial_of(soa));
    let staged = zone.stage_copy(epoch, Wall(0));
    zone.publish(staged).expect("there is always a commit");
}

fn copy_of(soa: &Record, whole: Vec<StaticNode>) -> Zone {
    let mut zone = Zone::new(Arc::new(settings_of(soa).unwrap()), Epoch(0));
    let changes = replace(zone.contents(), soa, whole).unwrap();
    publish(&mut zone, soa, changes);
    zone
}

/// `z.` with these records besides its NS record.
fn zone_with(records: &[Record]) -> Zone {
    copy_of(&soa(1), nodes(records.iter().cloned().chain([record("z.", RecordType::NS, 60, "ns1.z.")])))
}

fn amended(zone: &Zone, difference: &Difference) -> Result<Zone, Unfit> {
    let mut next = copy_of(&difference.from, whole_of(zone.snapshot()));
    let changes = amend(next.contents(), std::slice::from_ref(difference))?;
    publish(&mut next, &difference.to, changes);
    Ok(next)
}

fn unfit(zone: &Zone, difference: &Difference) -> Unfit {
    amended(zone, difference).expect_err("it doesn't fit")
}

fn assert_same(a: &Zone, b: &Zone) {
    assert_eq!(scenes::nodes(a.snapshot()), scenes::nodes(b.snapshot()));
    assert_eq!(a.snapshot().soa(), b.snapshot().soa());
}

proptest! {
    /// A copy that follows by differences, one by one or several at once, is the same as one that is made anew, octet for
    /// octet, and has what its primary has.
    #[test]
    fn differences_lead_where_the_whole_zone_does(batches in batches(), stride in 1usize..4) {
        let universe = Universe::new("z.");
        let mut primary = scenes::zone_of(&universe, []);
        let mut sources = scenes::Sources::new(universe.settings());
        let mut steps: Vec<Step> = Vec::new();
        let mut copy: Option<Zone> = None;
        // The NS record that each zone has.
        let first = Batch { acts: vec![Act::Static { name: 0, sets: vec![5] }], refused: false };
        for (round, batch) in [first].into_iter().chain(batches).enumerate() {
            for act in batch.acts {
                let act = match act {
                    Act::Static { name: 0, sets } => {
                        Act::Static { name: 0, sets: sets.into_iter().chain([5]).collect() }
                    }
                    other => other,
                };
                let Some(change) = universe.change(&act, &sources) else { continue };
                sources.apply(&change);
                primary.change(caused(change), Wall(0));
            }
            let before = primary.snapshot().soa();
            let staged = primary.stage(Wall(0));
            let Some(commit) = staged.commit.clone() else { continue };
            primary.publish(staged);
            let after = primary.snapshot().soa();
            steps.push(Step { from: before.into(), to: after.clone().into(), commit });
            let Some(copy) = &mut copy else {
                copy = Some(copy_of(&after, whole_of(primary.snapshot())));
                steps.clear();
                continue;
            };
            if round % stride != 0 {
                continue;
            }
            // All at once, or one after the other in one transfer.
            let differences = if round % 2 == 0 {
                vec![history::Condensed::new(steps.clone()).unwrap().difference()]
            } else {
                steps.iter().map(|step| history::Condensed::new(vec![step.clone()]).unwrap().difference()).collect()
            };
            steps.clear();
            let changes = amend(copy.contents(), &differences).unwrap();
            publish(copy, &after, changes);
            let anew = copy_of(&after, whole_of(primary.snapshot()));
            assert_same(copy, &anew);
            prop_assert_eq!(scenes::records(copy.snapshot()), scenes::records(primary.snapshot()));
            prop_assert_eq!(copy.snapshot().soa(), primary.snapshot().soa());
            prop_assert_eq!(copy.snapshot().epoch, primary.snapshot().epoch);
            // And the whole zone in place of another says what differs, and no more.
            prop_assert!(replace(copy.contents(), &after, whole_of(primary.snapshot())).unwrap().is_empty());
        }
    }

    #[test]
    fn an_epoch_goes_on_to_the_serial_and_never_back(last in any::<u64>().prop_map(|last| last >> 8), serial: u32) {
        let next = epoch_after(Epoch(last), Serial(serial));
        prop_assert_eq!(next.serial(), Serial(serial));
        prop_assert!(next.0 > last && next.0 - last <= 1 << 32, "the first one after it");
    }
}

#[test]
fn the_epoch_counts_the_circles_of_a_serial() {
    let after = |last, serial| epoch_after(Epoch(last), Serial(serial)).0;
    assert_eq!(after(0, 1), 1);
    assert_eq!(after(0, 0), 1 << 32);
    assert_eq!(after(0, 2_025_010_100), 2_025_010_100);
    assert_eq!(after(u64::from(u32::MAX), 0), 1 << 32);
    assert_eq!(after(u64::from(u32::MAX) - 5, 7), (1 << 32) + 7);
    assert_eq!(after(1000, 2000), 2000);
    assert_eq!(after(2000, 1000), (1 << 32) + 1000, "a serial that went back, after the copy had expired");
    assert_eq!(after(1000, 1000), (1 << 32) + 1000);
}

#[test]
fn a_difference_that_does_not_fit_changes_nothing_and_says_where() {
    let (a, b) = (record("t.z.", RecordType::TXT, 5, "a"), record("t.z.", RecordType::TXT, 5, "b"));
    let zone = zone_with(std::slice::from_ref(&a));
    let at = |owner: &str, rtype| Unfit::Differences { owner: name(owner), rtype };
    assert_eq!(unfit(&zone, &difference(1, 2, std::slice::from_ref(&b), &[])), at("t.z.", RecordType::TXT));
    assert_eq!(unfit(&zone, &difference(1, 2, &[], std::slice::from_ref(&a))), at("t.z.", RecordType::TXT));
    let elsewhere = record("none.z.", RecordType::TXT, 5, "a");
    assert_eq!(unfit(&zone, &difference(1, 2, &[elsewhere], &[])), at("none.z.", RecordType::TXT));
    let twice = difference(1, 2, &[a.clone(), a.clone()], &[]);
    assert_eq!(unfit(&zone, &twice), at("t.z.", RecordType::TXT));
    // The same data of another type are something else.
    let hinfo = Record { rtype: RecordType(99), ..a.clone() };
    assert_eq!(unfit(&zone, &difference(1, 2, &[hinfo], &[])), at("t.z.", RecordType(99)));
    let swapped = amended(&zone, &difference(1, 2, std::slice::from_ref(&a), std::slice::from_ref(&b))).unwrap();
    assert_same(&swapped, &copy_of(&soa(2), whole_of(zone_with(&[b]).snapshot())));
}

#[test]
fn a_zone_keeps_its_name_servers() {
    let ns = |target| record("z.", RecordType::NS, 60, target);
    let zone = zone_with(&[]);
    assert_eq!(unfit(&zone, &difference(1, 2, &[ns("ns1.z.")], &[])), Unfit::NoNameServer);
    assert!(amended(&zone, &difference(1, 2, &[ns("ns1.z.")], &[ns("ns2.z.")])).is_ok());
    let none = nodes([record("t.z.", RecordType::TXT, 5, "a")]);
    assert_eq!(replace(zone.contents(), &soa(2), none), Err(Unfit::NoNameServer));
}

/// RFC 2181 §5.2: a set has one TTL.
#[test]
fn a_changed_ttl_is_that_of_the_set() {
    let txt = |ttl, text| record("t.z.", RecordType::TXT, ttl, text);
    let zone = zone_with(&[txt(5, "a"), txt(5, "b")]);
    let expected = zone_with(&[txt(9, "a"), txt(9, "b")]);
    let all = difference(1, 1, &[txt(5, "a"), txt(5, "b")], &[txt(9, "a"), txt(9, "b")]);
    assert_eq!(scenes::nodes(amended(&zone, &all).unwrap().snapshot()), scenes::nodes(expected.snapshot()));
    // As some primaries have it: the TTL of what goes is that after the change.
    let sloppy = difference(1, 1, &[txt(9, "a"), txt(9, "b")], &[txt(9, "a"), txt(9, "b")]);
    assert_eq!(scenes::nodes(amended(&zone, &sloppy).unwrap().snapshot()), scenes::nodes(expected.snapshot()));
    let joins = difference(1, 1, &[], &[txt(9, "c")]);
    let expected = zone_with(&[txt(9, "a"), txt(9, "b"), txt(9, "c")]);
    assert_eq!(scenes::nodes(amended(&zone, &joins).unwrap().snapshot()), scenes::nodes(expected.snapshot()));
}

#[test]
fn a_set_that_could_not_be_answered_is_not_taken() {
    let long = |number: usize| {
        let text = format!("{number:0>200}");
        record("t.z.", RecordType::TXT, 5, &text)
    };
    let zone = zone_with(&[]);
    let too_many: Vec<Record> = (0..300).map(long).collect();
    let too_large = Unfit::TooLarge { owner: name("t.z."), rtype: RecordType::TXT };
    assert_eq!(unfit(&zone, &difference(1, 2, &[], &too_many)), too_large);
    assert!(amended(&zone, &difference(1, 2, &[], &too_many[..200])).is_ok());
}

#[test]
fn what_the_soa_record_says_is_taken_over() {
    let mut zone = zone_with(&[]);
    let to = soa_with(7, 300, 20);
    let changes = amend(zone.contents(), &[Difference { to: to.clone(), ..difference(1, 7, &[], &[]) }]).unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    publish(&mut zone, &to, changes);
    assert_eq!(zone.snapshot().soa(), to);
    assert_eq!((zone.snapshot().settings.soa_ttl, zone.snapshot().settings.negative_ttl), (Ttl(300), Ttl(20)));
    // A serial alone is no change of settings, and a commit all the same.
    let changes = amend(zone.contents(), &[Difference { from: to, ..difference(7, 8, &[], &[]) }]).unwrap();
    assert_eq!(changes.len(), 1, "back to both TTLs of 60: {changes:?}");
    let changes = replace(zone.contents(), &soa_with(9, 300, 20), whole_of(zone.snapshot())).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    publish(&mut zone, &soa_with(9, 300, 20), changes);
    assert_eq!(zone.snapshot().soa(), soa_with(9, 300, 20));
}

#[test]
fn a_soa_record_that_can_not_be_read_is_none() {
    let short = Record { rdata: vec![0; 21].into(), ..soa(1) };
    assert_eq!(settings_of(&short), Err(Unfit::NoSoa));
    let zone = zone_with(&[]);
    assert_eq!(replace(zone.contents(), &short, whole_of(zone.snapshot())), Err(Unfit::NoSoa));
}

/// As the primary has members: by id.
#[test]
fn srv_records_stand_in_the_order_of_their_targets() {
    let srv = |text| record("_x._tcp.z.", RecordType::SRV, 5, text);
    let listed = ["80 a.x.z.", "80 a-b.x.z.", "9 a10.x.z.", "80 a2.x.z.", "7 b.x.z.", "80 b.x.z."];
    let zone = zone_with(&[]);
    let zone = amended(&zone, &difference(1, 2, &[], &listed.map(srv))).unwrap();
    let node = zone.snapshot().node(name("_x._tcp.z.").as_wire()).unwrap();
    let found: Vec<Vec<u8>> = node.rrset(RecordType::SRV).unwrap().rdatas().map(<[u8]>::to_vec).collect();
    assert_eq!(found, listed.map(|text| rdata(RecordType::SRV, text).to_vec()));
    // Data that are none are told apart all the same.
    assert_eq!(data_order(RecordType::SRV, &[1], &[2]), Ordering::Less);
    assert_eq!(data_order(RecordType::SRV, &[0, 0, 0, 0, 0, 0, 9, 1], &[0; 7]), Ordering::Greater);
}
