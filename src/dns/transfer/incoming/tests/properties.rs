//! What holds of any zone, any changes and any damage.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::signed::{fresh, sign_stream, signed_request};
use super::*;

/// A version of a zone: which of the records of [`pool`] it has.
type Version = BTreeSet<usize>;

/// Records of several names, types and forms of data. Each set has one TTL.
fn pool() -> Vec<String> {
    let mut pool = Vec::new();
    for (number, owner) in ["z.test.", "a.z.test.", "b.a.z.test.", "*.z.test.", "_x._tcp.z.test."].iter().enumerate() {
        for data in 0..4 {
            pool.push(format!("{owner} {} A 192.0.2.{data}", 10 + number));
            pool.push(format!("{owner} {} TXT text-{data} more", 20 + number));
            pool.push(format!("{owner} {} SRV 0 {data} 80 h{data}.a.z.test.", 30 + number));
            pool.push(format!("{owner} {} MX {data} mail.h{data}.z.test.", 40 + number));
        }
    }
    pool
}

fn version() -> impl Strategy<Value = Version> {
    prop::collection::btree_set(0..pool().len(), 0..30)
}

/// Serials that are likely to wrap.
fn serial() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (u32::MAX - 4)..=u32::MAX]
}

/// Cuts records into messages at these places.
fn cut(asked: Asked, texts: &[String], places: &[Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(texts.len() - 1) + 1).collect();
    places.extend([0, texts.len()]);
    places.sort_unstable();
    places.dedup();
    let question = |message: &mut WireMessage, keep: bool| {
        if !keep {
            message.queries.clear();
        }
    };
    places
        .windows(2)
        .map(|ends| {
            // The question is left out of every other message.
            message(qtype(asked), &texts[ends[0]..ends[1]], |message| question(message, ends[0] % 2 == 0))
        })
        .collect()
}

fn texts(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let pool = pool();
    numbers.into_iter().map(|number| pool[number].clone()).collect()
}

fn set(records: &[Record]) -> BTreeSet<String> {
    records.iter().map(|record| format!("{record:?}")).collect()
}

fn set_of(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    set(&texts(numbers).iter().map(|text| record(text)).collect::<Vec<_>>())
}

fn axfr(serial: u32, version: &Version, repeated: &[Index]) -> Vec<String> {
    let mut records = texts(version.iter().copied());
    for place in repeated.iter().filter(|_| !version.is_empty()) {
        records.push(records[place.index(version.len())].clone());
    }
    [vec![soa(serial)], records, vec![soa(serial)]].concat()
}

fn ixfr(serials: &[u32], versions: &[Version]) -> Vec<String> {
    let last = soa(*serials.last().unwrap());
    let mut records = vec![last.clone()];
    for (at, pair) in versions.windows(2).enumerate() {
        records.push(soa(serials[at]));
        records.extend(texts(pair[0].difference(&pair[1]).copied()));
        records.push(soa(serials[at + 1]));
        records.extend(texts(pair[1].difference(&pair[0]).copied()));
    }
    records.push(last);
    records
}

proptest! {
    #[test]
    fn a_zone_comes_back_equal_from_any_messages(
        serial in serial(),
        version in version(),
        repeated in prop::collection::vec(any::<Index>(), 0..4),
        places in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let messages = cut(Asked::Axfr, &axfr(serial, &version, &repeated), &places);
        let Transferred::Whole(zone) = take_octets(&mut incoming(Asked::Axfr), &messages).unwrap() else {
            panic!("a zone was sent");
        };
        prop_assert_eq!(zone.soa, record(&soa(serial)));
        let mut records = Vec::new();
        let mut names = BTreeSet::new();
        for node in zone.nodes {
            prop_assert!(names.insert(node.name.to_string()));
            prop_assert!(node.rrsets.is_sorted_by(|a, b| a.rtype < b.rtype));
            for Rrset { rtype, ttl, rdatas } in node.rrsets {
                prop_assert!(rdatas.is_sorted_by(|a, b| a < b) && !rdatas.is_empty());
                let owner = &node.name;
                records.extend(rdatas.into_iter().map(|rdata| Record { owner: owner.clone(), rtype, ttl, rdata }));
            }
        }
        prop_assert_eq!(records.len(), version.len());
        prop_assert_eq!(set(&records), set_of(version));
    }

    #[test]
    fn changes_come_back_equal_from_any_messages(
        first in serial(),
        steps in prop::collection::vec((1u32..4, version()), 1..5),
        start in version(),
        places in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut serials = vec![first];
        let mut versions = vec![start];
        for (step, version) in steps {
            serials.push(serials.last().unwrap().wrapping_add(step));
            versions.push(version);
        }
        let asked = Asked::Ixfr { serial: Serial(first) };
        let messages = cut(asked, &ixfr(&serials, &versions), &places);
        let Transferred::Changes(differences) = take_octets(&mut incoming(asked), &messages).unwrap() else {
            panic!("changes were sent");
        };
        prop_assert_eq!(differences.len(), versions.len() - 1);
        let mut applied = set_of(versions[0].iter().copied());
        for (at, Difference { from, to, delta }) in differences.into_iter().enumerate() {
            prop_assert_eq!((from, to), (record(&soa(serials[at])), record(&soa(serials[at + 1]))));
            prop_assert_eq!(set(&delta.removed), set_of(versions[at].difference(&versions[at + 1]).copied()));
            prop_assert_eq!(set(&delta.added), set_of(versions[at + 1].difference(&versions[at]).copied()));
            applied = &(&applied - &set(&delta.removed)) | &set(&delta.added);
        }
        prop_assert_eq!(applied, set_of(versions.pop().unwrap()));
    }

    #[test]
    fn damage_is_never_taken_for_a_result(
        is_axfr in any::<bool>(),
        versions in prop::collection::vec(version(), 2..4),
        places in prop::collection::vec(any::<Index>(), 0..6),
        unsigned in any::<u8>(),
        damage in prop::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 0..4),
        lost in prop::option::of(any::<Index>()),
    ) {
        let serials: Vec<u32> = (5..).take(versions.len()).collect();
        let (asked, records) =
            if is_axfr { (Asked::Axfr, axfr(9, &versions[0], &[])) } else { (IXFR, ixfr(&serials, &versions)) };
        let mut messages = cut(asked, &records, &places);
        let original = take_octets(&mut incoming(asked), &messages).unwrap();
        let (request, signed_incoming) = signed_request(asked);
        let last = messages.len() - 1;
        sign_stream(&request, &mut messages, |at| at == 0 || at == last || unsigned >> (at % 8) & 1 == 0);
        let undamaged = take_octets(&mut fresh(&signed_incoming), &messages);
        prop_assert_eq!(undamaged.as_ref(), Ok(&original));
        for (message, place, octet) in damage {
            let message = message.get_mut(&mut messages);
            *place.get_mut(message) = octet;
        }
        if let Some(place) = lost {
            messages.remove(place.index(messages.len()));
        }
        let (mut signed_incoming, mut plain_incoming) = (signed_incoming, incoming(asked));
        for message in &messages {
            if let Ok(Progress::Done(done)) = signed_incoming.take(message, NOW) {
                prop_assert_eq!(&done, &original);
            }
            // Without a signature anything may come of it, but no panic.
            let _ = plain_incoming.take(message, NOW);
        }
    }

    #[test]
    fn any_octets_are_survived(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
        let mut incoming = incoming(IXFR);
        for packet in packets {
            let header: &[u8] = &[0, 7, 0x80, 0, 0, 0, 0, 3, 0, 0, 0, 0];
            let _ = incoming.take(&[header, &packet].concat(), NOW);
            let _ = incoming.cut_short();
        }
    }
}
