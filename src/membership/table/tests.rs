//! Cases of the table, each by itself; beside a model in `model`.

use crate::base::limits::TOMBSTONES;
use crate::base::{Lease, RecordType, Ttl};
use crate::membership::cell::Beat;
use crate::membership::{Decided, Owner, Registration};

use super::*;

mod model;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn registration(weight: u16) -> Arc<Registration> {
    Arc::new(Registration {
        target: name("i.x.z."),
        port: 80,
        priority: 0,
        weight,
        addresses: Box::default(),
        metadata: Box::default(),
    })
}

fn member(id: &str, lease: u32) -> Item {
    Item::Member(Member {
        service: name("_x._tcp.z."),
        id: MemberId::new(id).unwrap(),
        registration: registration(0),
        owner: Owner("test".into()),
        lease: Lease(lease),
        state: State::Up,
        decided: Decided::default(),
    })
}

/// One of twelve items: members of two services, records of two names (two of one RRset each), held addresses.
fn item(number: usize, variant: u16, lease: u32) -> Item {
    let owner = Owner(format!("owner {variant}").into());
    let lease = Lease(lease);
    match number {
        0..6 => Item::Member(Member {
            service: name(["_x._tcp.z.", "_y._udp.z."][number % 2]),
            id: MemberId::new(["a", "b", "c"][number / 2]).unwrap(),
            registration: registration(variant),
            owner,
            lease,
            state: if variant == 3 { State::Draining } else { State::Up },
            decided: Decided::default(),
        }),
        6..10 => Item::Leased(LeasedRecord {
            name: name(["r1.z.", "r2.z."][number % 2]),
            rtype: RecordType::TXT,
            ttl: Ttl(u32::from(variant)),
            rdata: [1, b'0' + u8::try_from(number / 2).unwrap()].as_slice().into(),
            owner,
            lease,
        }),
        _ => Item::Held(HeldAddresses {
            host: name(["h1.x.z.", "h2.x.z."][number % 2]),
            addresses: [std::net::IpAddr::from([192, 0, 2, u8::try_from(variant).unwrap()])].into(),
            owner,
            lease,
        }),
    }
}

fn stamp(time: u64) -> Option<Stamp> {
    Some(Stamp { time, mac: time })
}

fn at(millis: u64) -> Now {
    Now { mono: Monotonic(millis), wall: Wall(millis) }
}

/// A table with one accepted member of this lease.
fn table_with_member(lease: u32) -> (Table, Index) {
    let mut table = Table::new(Duration::ZERO);
    let index = table.put(member("i-1", lease), stamp(100)).unwrap();
    table.accept(at(0));
    (table, index)
}

#[test]
fn a_change_of_an_item_that_is_due_keeps_it() {
    // The change came before the expiry, in the same batch; its lease begins when the batch is durable.
    let (mut table, index) = table_with_member(5);
    table.put(item(0, 1, 5), None).unwrap();
    let Some(Item::Member(changed)) = table.item(index).cloned() else { panic!() };
    table.put(Item::Member(Member { registration: registration(9), ..changed }), stamp(101)).unwrap();
    assert_eq!(table.lapsed(Monotonic(5_050)), []);
    table.accept(at(5_100));
    assert_eq!(table.lapsed(Monotonic(10_000)), []);
    assert_eq!(table.lapsed(Monotonic(10_100)).len(), 2);
}

#[test]
fn a_change_that_the_store_refused_does_not_put_off_expiry() {
    let (mut table, index) = table_with_member(5);
    table.put(item(0, 1, 5), None).unwrap();
    table.remove(index, None);
    table.abandon(Monotonic(4_900), Monotonic(4_900));
    assert_eq!(table.next_wake(), Some(Monotonic(5_000)));
    assert_eq!(table.lapsed(Monotonic(5_000)), [index]);
}

#[test]
fn whoever_was_heard_of_in_a_refused_change_lives_on() {
    let mut table = Table::new(Duration::from_secs(10));
    let index = table.put(member("i-1", 5), None).unwrap();
    let other = table.put(member("i-2", 5), None).unwrap();
    table.accept(at(0));
    assert_eq!(table.lapsed(Monotonic(5_000)), []);
    // Changed, and deleted and added again.
    table.put(member("i-1", 6), stamp(200)).unwrap();
    table.remove(other, None);
    table.put(member("i-2", 7), None).unwrap();
    let new = table.put(member("i-3", 5), None).unwrap();
    table.abandon(Monotonic(6_000), Monotonic(6_000));
    assert!(table.item(new).is_none());
    for index in [index, other] {
        assert!(matches!(table.item(index), Some(Item::Member(member)) if member.state == State::Up));
        assert_eq!((table.reading(index).deadline, table.reading(index).lease), (Monotonic(11_000), Lease(5)));
    }
    // What was signed was not accepted, and may come again.
    assert_eq!(table.stamp(&member("i-1", 5).key(), Wall(0)), Stamp::default());
    assert_eq!(table.lapsed(Monotonic(20_950)), []);
    assert_eq!(table.lapsed(Monotonic(21_000)).len(), 2);
}

#[test]
fn a_suspect_member_stays_the_publishers_after_a_refused_change() {
    let mut table = Table::new(Duration::from_secs(10));
    let index = table.put(member("i-1", 5), None).unwrap();
    table.accept(at(0));
    assert_eq!(table.lapsed(Monotonic(5_000)), []);
    // Nobody was heard of by it.
    table.amend(member("i-1", 6)).unwrap();
    table.abandon(Monotonic(6_000), Monotonic(6_000));
    assert!(matches!(table.item(index), Some(Item::Member(member)) if member.state == State::Suspect));
    let generation = table.reading(index).generation();
    assert_eq!(table.cells().beat(CellId(index.0), generation, Monotonic(6_000), None), Beat::HandOn);
    assert_eq!(table.lapsed(Monotonic(15_000)), [index]);
}

#[test]
fn a_signature_counts_within_the_transaction_that_brought_it() {
    let (mut table, index) = table_with_member(5);
    let key = member("i-1", 5).key();
    table.put(member("i-1", 6), stamp(200)).unwrap();
    assert_eq!(table.stamp(&key, Wall(0)).freshness(stamp(150)), crate::membership::Freshness::Older);
    table.abandon(Monotonic(1_000), Monotonic(1_000));
    assert_eq!(table.stamp(&key, Wall(0)), stamp(100).unwrap());
    table.remove(index, stamp(300));
    assert_eq!(table.stamp(&key, Wall(0)).freshness(stamp(250)), crate::membership::Freshness::Older);
}

#[test]
fn a_renewal_in_the_batch_of_its_registration_counts_as_signed() {
    let (mut table, index) = table_with_member(5);
    table.put(member("i-1", 6), stamp(200)).unwrap();
    table.renew(index, Monotonic(1_000), stamp(210));
    assert_eq!(table.edits()[0].stamp, stamp(210).unwrap());
    table.accept(at(1_000));
    assert_eq!(table.reading(index).stamp, stamp(210).unwrap());
}

#[test]
fn an_unsigned_registration_does_not_wipe_the_mark_of_a_removed_one() {
    let (mut table, index) = table_with_member(5);
    table.remove(index, stamp(300));
    table.accept(at(1_000));
    table.put(member("i-1", 5), None).unwrap();
    table.accept(at(2_000));
    let key = member("i-1", 5).key();
    assert_eq!(table.stamp(&key, Wall(2_000)), stamp(300).unwrap());
    let over = u64::try_from(TOMBSTONE.as_millis()).unwrap() + 1_000;
    assert_eq!(table.stamp(&key, Wall(over)), Stamp::default());
}

#[test]
fn tombstones_are_bounded_and_the_store_learns_which_went() {
    let mut table = Table::new(Duration::ZERO);
    for number in 0..TOMBSTONES + 3 {
        let index = table.put(member(&format!("i-{number}"), 5), stamp(100)).unwrap();
        table.accept(at(0));
        table.remove(index, None);
        table.accept(at(1));
    }
    assert_eq!((table.tombstones.len(), table.tombstone_order.len()), (TOMBSTONES, TOMBSTONES));
    assert_eq!((table.take_displaced(), table.take_displaced()), (3, 0));
    assert_eq!(table.slots.len(), 1, "the place is used again");
    let oldest: Vec<Key> = (0..3).map(|number| member(&format!("i-{number}"), 5).key()).collect();
    assert_eq!(table.sweep_tombstones(Wall(2)), oldest);
    assert_eq!(table.sweep_tombstones(Wall(2)), []);
    table.restore_swept(oldest.clone());
    let over = Wall(1).after(TOMBSTONE);
    let swept = table.sweep_tombstones(over);
    assert_eq!((&swept[..3], swept.len()), (oldest.as_slice(), TOMBSTONES + 3));
    assert!(table.tombstones.is_empty());
}

#[test]
fn what_was_loaded_and_renewed_since_is_told_once() {
    let mut table = Table::new(Duration::ZERO);
    let start = Monotonic(1_000);
    for id in ["a", "b", "c"] {
        table.load(member(id, 5), Stamp { time: 50, mac: 1 }, Monotonic(6_000), start).unwrap();
    }
    assert_eq!(table.renewed_since_start(), []);
    let key = |id| member(id, 5).key();
    let beat = |table: &Table, id, at, time| {
        let index = table.find(&key(id)).unwrap();
        let generation = table.reading(index).generation();
        let beat = table.cells().beat(CellId(index.0), generation, Monotonic(at), stamp(time));
        assert!(matches!(beat, Beat::Renewed(_)), "{beat:?}");
    };
    // Within a second of the start counts as well.
    beat(&table, "a", 1_500, 60);
    assert_eq!(table.renewed_since_start(), [(key("a"), stamp(60).unwrap())]);
    beat(&table, "a", 3_000, 61);
    assert_eq!(table.renewed_since_start(), []);
    // A change is told to the store by itself.
    table.put(member("b", 9), stamp(60)).unwrap();
    table.accept(at(2_000));
    beat(&table, "b", 3_000, 61);
    assert_eq!(table.renewed_since_start(), []);
    // What a checkpoint could not write is told again.
    beat(&table, "c", 3_000, 70);
    let told = table.renewed_since_start();
    assert_eq!(told.len(), 1);
    table.restore_unrenewed(&told);
    assert!(table.awaits_checkpoint());
    assert_eq!(table.renewed_since_start(), told);
    assert!(!table.awaits_checkpoint());
}

#[test]
fn equal_owners_share_their_octets_and_who_holds_nothing_is_forgotten() {
    let mut table = Table::new(Duration::ZERO);
    table.load(member("a", 5), Stamp::default(), Monotonic(5_000), Monotonic(0)).unwrap();
    let index = table.put(member("b", 5), None).unwrap();
    table.accept(at(0));
    let owners: Vec<&Owner> = table.items().map(Item::owner).collect();
    assert!(Arc::ptr_eq(&owners[0].0, &owners[1].0));
    let owner = Owner("test".into());
    table.remove(index, None);
    assert_eq!(table.holding(&owner).map(Holding::leases), Some(1));
    table.remove(table.find(&member("a", 5).key()).unwrap(), None);
    assert_eq!((table.holding(&owner), table.len()), (None, 0));
    table.abandon(Monotonic(1), Monotonic(1));
    assert_eq!(table.holding(&owner).map(Holding::leases), Some(2));
}

#[test]
fn a_heartbeat_costs_no_timer_and_expiry_one_for_each_lease_that_was_renewed() {
    let mut table = Table::new(Duration::ZERO);
    for number in 0..1000 {
        table.put(member(&format!("i-{number}"), 5), None).unwrap();
    }
    table.accept(at(0));
    for round in 1..=4 {
        for number in 0..500 {
            let index = table.find(&member(&format!("i-{number}"), 5).key()).unwrap();
            table.renew(index, Monotonic(round * 1_000), None);
        }
    }
    assert_eq!(table.timers.len(), 1000, "heartbeats leave the timers alone");
    assert_eq!(table.lapsed(Monotonic(5_000)).len(), 500);
    assert_eq!(table.timers.len(), 500, "those that were renewed wait for their new deadline");
    assert_eq!(table.next_wake(), Some(Monotonic(9_000)));
}
