//! Names and addresses that belong to others: a target, or an address sent first, gives no right to them.

use super::*;

/// A bench where key c. may register in _evil._tcp alone, beside a. and b., which own what they register.
fn guarded() -> Bench {
    let mut bench = Bench::new();
    let narrow = UpdateEntry { services: Globs(vec!["_evil._tcp".to_owned()]), ..entry(Some("c."), Scope::Own, &[]) };
    bench.access =
        UpdateAccess::new(vec![entry(Some("a."), Scope::Own, &[]), entry(Some("b."), Scope::Own, &[]), narrow]);
    bench.keys = Keys::new(["a.", "b.", "c."].map(|key| Key::new(name(key), Algorithm::HmacSha256, b"secret")));
    bench
}

#[test]
fn a_target_gives_no_right_to_the_name_that_it_is() {
    let mut bench = guarded();
    let now = bench.now;
    bench.apply(&by("a.", &register(), now));
    let refused = |bench: &Bench, target: &str| {
        let update = update().add(&format!("_evil._tcp.z. SRV 0 0 80 {target}")).add(&format!("{target} A 6.6.6.6"));
        bench.refusal(&by("c.", &update, now)).rcode
    };
    // Another service's address set, another's member, one that isn't there yet, static records, the apex.
    for target in ["x.z.", "a.x.z.", "new.x.z.", "ns1.z."] {
        assert_eq!(refused(&bench, target), Rcode::REFUSED, "{target}");
    }
    // Nor by its own address.
    bench.rules.peer_address = true;
    for target in ["x.z.", "a.x.z.", "ns1.z."] {
        bench.apply(&by("c.", &update().add(&format!("_evil._tcp.z. SRV 0 0 80 {target}")), now));
    }
    assert_eq!(bench.published("x.z.", RecordType::A), [[192, 0, 2, 1]]);
    assert_eq!(bench.published("a.x.z.", RecordType::A), [[192, 0, 2, 1]]);
    assert_eq!(bench.published("ns1.z.", RecordType::A), [[192, 0, 2, 53]]);
}

#[test]
fn who_targets_anothers_host_neither_blocks_its_heartbeats_nor_speaks_for_it() {
    let mut bench = guarded();
    let now = bench.now;
    // c. is there first, with an address of its own at a free name and a target that a. will register.
    bench.apply(&by("c.", &update().add("_evil._tcp.z. SRV 0 0 80 a.x.z."), now));
    bench.apply(&by("a.", &register(), now));
    assert_eq!(bench.published("a.x.z.", RecordType::A), [[192, 0, 2, 1]]);
    assert_eq!(kinds(&bench.apply(&by("a.", &register(), now + 1))), (0, 0, 1));
    let moved = update().delete_rrset("a.x.z.", "A").add("a.x.z. A 192.0.2.9").add("_x._tcp.z. SRV 0 1 80 a.x.z.");
    bench.apply(&by("a.", &moved, now + 2));
    assert_eq!(bench.published("a.x.z.", RecordType::A), [[192, 0, 2, 9]]);
}

#[test]
fn addresses_that_another_left_waiting_are_not_taken_over() {
    let mut bench = guarded();
    let now = bench.now;
    bench.apply(&by("b.", &update().add("a.x.z. A 6.6.6.6"), now));
    bench.apply(&by("a.", &register(), now));
    assert_eq!(bench.addresses("_x._tcp.z.", "a"), ["192.0.2.1"]);
    assert_eq!(bench.published("a.x.z.", RecordType::A), [[192, 0, 2, 1]]);
}
