//! What is told of updates before they are carried out.

use crate::zone::registration::Put;

use super::*;

fn foreseen(bench: &Bench, octets: &[u8]) -> bool {
    renews_nothing(&bench.read(octets).unwrap(), &bench.table, bench.zone.contents())
}

fn update() -> Update {
    Update::new("z.")
}

#[test]
fn what_registers_new_members_or_withdraws_is_foreseen_and_what_may_renew_is_not() {
    let mut bench = Bench::new();
    let old = update().add("_x._tcp.z. SRV 0 0 80 i-1.x.z.").add("i-1.x.z. A 10.0.0.1");
    let new = update().add("_x._tcp.z. SRV 0 0 80 i-2.x.z.").add("i-2.x.z. A 10.0.0.2").add("i-2.x.z. AAAA fd00::2");
    assert!(foreseen(&bench, &old.octets()) && foreseen(&bench, &new.octets()));
    bench.apply(&old.octets());
    let withdrawal = update().delete_record("_x._tcp.z. SRV 0 0 80 i-1.x.z.").delete_name("i-1.x.z.");
    assert!(foreseen(&bench, &withdrawal.octets()));
    // It is not that record which is there, so that the member stays.
    let mistaken = update().delete_record("_x._tcp.z. SRV 0 0 81 i-1.x.z.").delete_name("i-1.x.z.");
    assert!(!foreseen(&bench, &mistaken.octets()));
    // Another service's member with the same host name, and one that chose a host as its target.
    bench.apply(&update().add("_x._udp.z. SRV 0 0 80 i-3.x.z.").add("i-3.x.z. A 10.0.0.3").octets());
    bench.apply(&update().add("_y._tcp.z. SRV 0 0 80 i-4.x.z.").octets());
    assert!(foreseen(&bench, &new.octets()));
    assert!(foreseen(&bench, &update().delete_record("_x._tcp.z. SRV 0 0 80 i-1.x.z.").octets()));
    assert!(foreseen(&bench, &update().delete_rrset("_x._tcp.z.", "SRV").octets()));
    for other in [
        old,
        withdrawal, // the other service may have a member there
        update().add("_x._tcp.z. SRV 0 0 81 i-1.x.z."),
        update().add("_x._tcp.z. SRV 0 0 80 i-3.x.z.").add("i-3.x.z. A 10.0.0.3"),
        update().add("_x._tcp.z. SRV 0 0 80 i-4.x.z.").add("i-4.x.z. A 10.0.0.4"),
        update().add("_x._tcp.z. SRV 0 0 80 far.example."),
        update().add("_x._tcp.z. SRV 0 0 80 i-2.x.z.").add("i-1.x.z. A 10.0.0.1"),
        update().add("_x._tcp.z. SRV 0 0 80 i-2.x.z.").add("i-2._x._tcp.z. TXT a=b"),
        update().add("_x._tcp.z. SRV 0 0 80 i-2.x.z.").delete_record("_x._tcp.z. SRV 0 0 80 i-1.x.z."),
        update().delete_rrset("i-1.x.z.", "AAAA"),
        update().delete_name("i-1.x.z."),
        update().add("i-5.x.z. A 10.0.0.5"),
    ] {
        assert!(!foreseen(&bench, &other.octets()), "{other:?}");
    }
}

#[test]
fn what_is_foreseen_renews_nothing_and_speaks_for_nothing_that_is_there() {
    let records = [
        "_x._tcp.z. SRV 0 0 80 i-1.x.z.",
        "_x._udp.z. SRV 0 0 80 i-1.x.z.",
        "_y._tcp.z. SRV 0 0 80 i-1.x.z.",
        "i-1.x.z. A 10.0.0.1",
    ];
    let chosen =
        |mask: usize| records.iter().enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, text)| *text);
    let mut foretold = [0; 3];
    for before in 0..16 {
        let mut bench = Bench::new();
        if before > 0 {
            bench.apply(&chosen(before).fold(update(), Update::add).octets());
        }
        for (after, how) in (1..16).flat_map(|after| [(after, 0), (after, 1), (after, 2)]) {
            let step = |update: Update, text: &str| match (how, text.split_once(" A ")) {
                (0, _) => update.add(text),
                (1, _) | (_, None) => update.delete_record(text),
                (_, Some((name, _))) => update.delete_name(name),
            };
            let octets = chosen(after).fold(update(), step).octets();
            if !foreseen(&bench, &octets) {
                continue;
            }
            foretold[how] += 1;
            if let Ok(Execution::Apply(outcome)) = bench.execute(&octets) {
                assert!(outcome.renewals.is_empty(), "{before} {after} {how}");
                let known = |put: &Put| bench.table.find(&put.item.key()).is_some();
                assert!(!outcome.puts.iter().any(known), "{before} {after} {how}");
            }
        }
    }
    assert!(foretold[0] > 3 && foretold[1] > 50 && foretold[2] > 50, "{foretold:?}");
}
