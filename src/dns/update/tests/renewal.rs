//! Heartbeats in place: what has their form, what tells them apart, and what becomes of them. That they come to what the
//! general way comes to is shown beside the publisher.

use crate::dns::update::renewal::{Candidate, InPlace, Place, renew};
use crate::membership::{Digest, Index, MemberId, Owner, Registration};

use super::*;

const PEER: &str = "127.0.0.1:5000";
const SECRET: &[u8] = b"secret";

fn heartbeat() -> Update {
    Update::new("z.").add("_x._tcp.z. SRV 0 0 80 a.x.z.").add("a.x.z. A 192.0.2.1").lease(10)
}

fn has_form(octets: &[u8]) -> bool {
    Candidate::read(octets).is_some()
}

fn digest_from(octets: &[u8], sender: &str, connected: bool) -> Digest {
    Candidate::read(octets).unwrap().digest(sender.parse().unwrap(), connected)
}

fn digest(octets: &[u8]) -> Digest {
    digest_from(octets, "127.0.0.1", false)
}

#[test]
fn additions_with_a_lease_or_plain_edns_or_neither_signed_or_not_have_the_form_of_a_heartbeat() {
    let plain = Update::new("z.").add("_x._tcp.z. SRV 0 0 80 a.x.z.");
    for update in [plain.clone(), plain.clone().edns(), plain.clone().lease(10), plain.leases(10, 20)] {
        assert!(has_form(&update.octets()));
        assert!(has_form(&update.signed("k.", SECRET, 1)));
    }
}

#[test]
fn prerequisites_withdrawals_other_options_and_other_messages_have_another_form() {
    let mut query = heartbeat().octets();
    query[2] = 0;
    let mut response = heartbeat().octets();
    response[2] |= 0x80;
    let mut longer = heartbeat().octets();
    longer.push(0);
    let mut shorter = heartbeat().octets();
    shorter.pop();
    let mut cookie = heartbeat().edns().octets();
    let end = cookie.len();
    cookie[end - 1] = 12;
    cookie.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut version = heartbeat().edns().octets();
    version[end - 5] = 1;
    let others = [
        query,
        response,
        longer,
        shorter,
        cookie,
        version,
        heartbeat().in_use("z.").octets(),
        heartbeat().lease(0).octets(),
        heartbeat().ztype(1).octets(),
        Update::new("z.").octets(),
        Vec::new(),
    ];
    for octets in others {
        assert!(!has_form(&octets), "{octets:?}");
    }
}

#[test]
fn a_heartbeat_is_told_by_what_it_says_and_who_says_it_and_not_by_id_or_time() {
    let unsigned = heartbeat().octets();
    assert_eq!(digest(&unsigned), digest(&heartbeat().id(9).octets()));
    let signed = heartbeat().signed("k.", SECRET, 1);
    assert_eq!(digest(&signed), digest(&heartbeat().id(9).signed("k.", SECRET, 2)));
    assert_eq!(digest(&unsigned), digest_from(&unsigned, "::ffff:127.0.0.1", false));
    let others = [
        digest(&signed),
        digest(&heartbeat().signed("l.", SECRET, 1)),
        digest(&heartbeat().add("a.x.z. A 192.0.2.2").octets()),
        digest(&heartbeat().lease(20).octets()),
        digest_from(&unsigned, "127.0.0.2", false),
        digest_from(&unsigned, "127.0.0.1", true),
    ];
    for (at, other) in others.iter().enumerate() {
        assert!(*other != digest(&unsigned) && !others[..at].contains(other), "{at}");
    }
}

/// A table with the member, its heartbeat noted.
fn table(octets: &[u8]) -> (Table, Index) {
    let registration = Registration {
        target: name("a.x.z."),
        port: 80,
        priority: 0,
        weight: 0,
        addresses: ["192.0.2.1".parse().unwrap()].into(),
        metadata: Box::default(),
    };
    let member = Member {
        service: name("_x._tcp.z."),
        id: MemberId::new("a").unwrap(),
        registration: Arc::new(registration),
        owner: Owner("anyone".into()),
        lease: Lease(10),
        state: State::Up,
        decided: crate::membership::Decided::default(),
    };
    let mut table = Table::new(Duration::ZERO);
    let index = table.put(Item::Member(member), None).unwrap();
    table.accept(now_at(0));
    table.note(index, digest(octets));
    (table, index)
}

fn now_at(millis: u64) -> Now {
    Now { mono: Monotonic(1_000_000 + millis), wall: Wall(1_700_000_000_000 + millis) }
}

/// Hands a heartbeat to a server two seconds after the registration; `admit` says what the rate of its source does.
fn beat(table: &Table, octets: &[u8], key: &str, admit: bool) -> (InPlace, Vec<u8>) {
    let place = Place {
        renewals: table.renewals(),
        access: &UpdateAccess::new(UpdateEntry::loopback()),
        keys: &Keys::new([Key::new(name(key), Algorithm::HmacSha256, SECRET)]),
        udp_size: 1232,
        peer: PEER.parse().unwrap(),
        transport: Transport::Udp,
        now: now_at(2_000),
    };
    let mut out = Vec::new();
    (renew(&Candidate::read(octets).unwrap(), &place, &mut || admit, &mut out), out)
}

fn deadline(table: &Table, index: Index) -> u64 {
    table.reading(index).deadline.0 - 1_000_000
}

#[test]
fn what_exceeds_the_rate_of_its_source_is_dropped_and_moves_nothing() {
    let (table, index) = table(&heartbeat().octets());
    assert_eq!(beat(&table, &heartbeat().octets(), "k.", false), (InPlace::Dropped, Vec::new()));
    assert_eq!(deadline(&table, index), 10_000);
    assert_eq!(beat(&table, &heartbeat().octets(), "k.", true).0, InPlace::Answered);
    assert_eq!(deadline(&table, index), 12_000);
}

#[test]
fn a_heartbeat_that_is_handed_on_is_held_against_the_rate_of_its_source_once() {
    let (mut table, _) = table(&heartbeat().octets());
    assert_eq!(table.lapsed(Monotonic(1_010_000)).len(), 1, "claimed");
    assert_eq!(beat(&table, &heartbeat().octets(), "k.", true).0, InPlace::General);
    let other = heartbeat().lease(20).octets();
    assert_eq!(beat(&table, &other, "k.", true).0, InPlace::General);
}

#[test]
fn a_wrong_or_old_signature_goes_the_general_way_and_moves_nothing() {
    let signed = |secret: &[u8], time| heartbeat().signed("k.", secret, time);
    let (table, index) = table(&signed(SECRET, 1_700_000_002));
    for octets in [signed(b"another", 1_700_000_002), signed(SECRET, 1_699_999_000)] {
        assert_eq!(beat(&table, &octets, "k.", true).0, InPlace::General);
    }
    assert_eq!(beat(&table, &signed(SECRET, 1_700_000_002), "l.", true).0, InPlace::General);
    assert_eq!(deadline(&table, index), 10_000);
    assert_eq!(beat(&table, &signed(SECRET, 1_700_000_002), "k.", true).0, InPlace::Answered);
    // Signed before that one, within the fudge.
    assert_eq!(beat(&table, &signed(SECRET, 1_700_000_001), "k.", true).0, InPlace::General);
    assert_eq!(deadline(&table, index), 12_000);
}

#[test]
fn a_reply_that_a_datagram_does_not_take_is_left_to_the_general_way() {
    let label = "k".repeat(60);
    let key = format!("{label}.{label}.{label}.{label}.");
    let origin = format!("{0}.{0}.{0}.z.", "o".repeat(60));
    // 12 and 191 octets, 244 of the key's name, and 87 of the rest of the signature: beyond 512 octets.
    let update = Update::new(&origin).add(&format!("_x._tcp.{origin} SRV 0 0 80 a.x.{origin}"));
    let octets = update.signed(&key, SECRET, 1_700_000_002);
    let (table, index) = table(&octets);
    assert_eq!(beat(&table, &octets, &key, true).0, InPlace::General);
    assert_eq!(deadline(&table, index), 10_000);
}
