//! What is refused at a limit, and what is not.

use crate::base::Limit;
use crate::base::limits::{HOST_SERVICES, MEMBER_ADDRESSES, METADATA_STRINGS, SERVICE_MEMBERS};

use super::*;

fn quotas(zone_leases: usize, zone_services: usize, owner_leases: usize, owner_services: usize) -> Quotas {
    Quotas { zone_leases, zone_services, owner_leases, owner_services }
}

fn with_quotas(quotas: Quotas) -> Bench {
    let mut bench = Bench::new();
    bench.rules.quotas = quotas;
    bench
}

/// The registration of a member in `_x._tcp`.
fn member(id: &str) -> Update {
    and_member(update(), "_x", id)
}

fn and_member(update: Update, service: &str, id: &str) -> Update {
    let host = service.trim_start_matches('_');
    update.add(&format!("{service}._tcp.z. SRV 0 0 80 {id}.{host}.z."))
}

/// Asserts a refusal at a limit, which its text names and gives.
#[track_caller]
fn assert_at(bench: &Bench, octets: &[u8], limit: Limit, words: &[&str]) {
    let refusal = bench.refusal(octets);
    assert_eq!((refusal.rcode, refusal.limit), (Rcode::REFUSED, Some(limit)));
    let text = refusal.error.expect("a reason").text;
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

fn is_taken(bench: &Bench, octets: &[u8]) -> bool {
    matches!(bench.execute(octets), Ok(Execution::Apply(_)))
}

#[test]
fn a_zone_takes_no_more_leases_than_its_limit_and_goes_on_to_serve_those_it_has() {
    let mut bench = with_quotas(quotas(3, 100, 3, 100));
    let now = bench.now;
    bench.apply(&member("a").octets());
    bench.apply(&update().add("waiting.x.z. A 192.0.2.1").octets());
    bench.apply(&by("a.", &update().add("host1.z. TXT x"), now));
    assert_eq!(bench.table.len(), 3);
    let words = ["zone-leases", "is 3", "withdraw", "raise"];
    for one_more in [member("b"), update().add("other.x.z. A 192.0.2.1")] {
        assert_at(&bench, &one_more.octets(), Limit::ZoneLeases, &words);
    }
    assert_at(&bench, &by("a.", &update().add("host1.z. TXT y"), now + 1), Limit::ZoneLeases, &words);
    // Renewals, changes, withdrawals, and a message that takes as many as it adds.
    for fine in [
        member("a"),
        member("a").lease(60),
        update().add("_x._tcp.z. SRV 0 9 80 a.x.z.").add("a.x.z. A 192.0.2.1"),
        member("b").delete_record("_x._tcp.z. SRV 0 0 80 a.x.z."),
        update().delete_rrset("_x._tcp.z.", "SRV").add("_x._tcp.z. SRV 0 0 80 c.x.z."),
        // The waiting addresses become a member's.
        member("waiting"),
        update().delete_name("_x._tcp.z."),
    ] {
        assert!(is_taken(&bench, &fine.octets()), "{fine:?}");
    }
    bench.apply(&update().delete_name("_x._tcp.z.").octets());
    bench.apply(&member("b").octets());
}

#[test]
fn an_owner_at_its_limit_of_leases_leaves_room_for_the_others() {
    let mut bench = with_quotas(quotas(10, 100, 2, 100));
    let now = bench.now;
    bench.apply(&by("a.", &member("a1"), now));
    bench.apply(&by("a.", &update().add("host1.z. TXT x"), now));
    let words = ["owner-leases", "is 2", "key a."];
    assert_at(&bench, &by("a.", &member("a2"), now + 1), Limit::OwnerLeases, &words);
    assert_at(&bench, &by("a.", &update().add("new.x.z. A 192.0.2.1"), now + 1), Limit::OwnerLeases, &words);
    assert!(is_taken(&bench, &by("a.", &member("a1"), now + 1)));
    bench.apply(&by("b.", &member("b1"), now));
    bench.apply(&member("c").octets());
    // A change by another leaves the member with its owner, whose holding doesn't grow.
    assert!(is_taken(&bench, &by("root.", &update().add("_x._tcp.z. SRV 0 9 80 a1.x.z."), now + 1)));
    bench.apply(&by("a.", &update().delete_name("host1.z."), now + 1));
    bench.apply(&by("a.", &member("a2"), now + 1));
}

#[test]
fn an_owner_is_in_so_many_services_and_may_leave_one_for_another() {
    let mut bench = with_quotas(quotas(100, 100, 100, 2));
    let now = bench.now;
    bench.apply(&by("a.", &and_member(member("a1"), "_y", "a1"), now));
    let third = and_member(update(), "_w", "a1");
    assert_at(&bench, &by("a.", &third, now + 1), Limit::OwnerServices, &["owner-services", "is 2", "key a."]);
    // More members of those, and other records.
    bench.apply(&by("a.", &member("a2").add("host1.z. TXT x"), now + 1));
    let leave = |id: &str| update().delete_record(&format!("_x._tcp.z. SRV 0 0 80 {id}.x.z."));
    bench.apply(&by("a.", &leave("a1"), now + 2));
    assert_at(&bench, &by("a.", &third, now + 3), Limit::OwnerServices, &["key a."]);
    bench.apply(&by("a.", &and_member(leave("a2"), "_w", "a1"), now + 3));
    bench.apply(&by("b.", &and_member(member("b1"), "_v", "b1"), now));
}

#[test]
fn a_zone_knows_so_many_services_and_takes_members_of_these() {
    let mut bench = with_quotas(quotas(100, 2, 100, 2));
    bench.apply(&and_member(member("a"), "_y", "a").octets());
    let third = and_member(update(), "_w", "a");
    assert_at(&bench, &third.octets(), Limit::ZoneServices, &["zone-services", "is 2"]);
    assert!(is_taken(&bench, &member("b").octets()));
    // One that nobody is in counts until it is forgotten.
    bench.apply(&update().delete_name("_y._tcp.z.").octets());
    assert_at(&bench, &third.octets(), Limit::ZoneServices, &[]);
    bench.zone.change(caused(Change::Forget { service: name("_y._tcp.z.") }), Wall(0));
    assert!(is_taken(&bench, &third.octets()));
}

#[test]
fn a_lowered_limit_removes_nothing_and_refuses_what_is_new() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.apply(&and_member(member(id), &format!("_s{id}"), id).octets());
    }
    bench.rules.quotas = quotas(2, 2, 2, 2);
    assert_at(&bench, &member("d").octets(), Limit::ZoneLeases, &["zone-leases"]);
    for fine in [member("a"), member("a").lease(99), update().add("_x._tcp.z. SRV 0 7 70 a.x.z.")] {
        assert!(is_taken(&bench, &fine.octets()), "{fine:?}");
    }
    assert_eq!((bench.table.len(), bench.zone.contents().service_count()), (6, 4));
    // Less, though still too much.
    bench.apply(&update().delete_name("_sa._tcp.z.").octets());
    assert_at(&bench, &member("d").octets(), Limit::ZoneLeases, &[]);
    // As much as goes may come.
    bench.apply(&update().delete_name("_sb._tcp.z.").add("_x._tcp.z. SRV 0 0 80 d.x.z.").octets());
}

#[test]
fn a_copy_of_what_was_accepted_has_its_outcome_at_the_limit_too() {
    let mut bench = Bench::new();
    let now = bench.now;
    let octets = by("a.", &member("a"), now);
    bench.apply(&octets);
    bench.rules.quotas = quotas(1, 1, 1, 1);
    assert!(matches!(bench.execute(&octets), Ok(Execution::Repeat(outcome)) if outcome.granted.is_none()));
    bench.apply(&by("a.", &update().delete_name("_x._tcp.z."), now + 2));
    bench.apply(&by("b.", &member("b"), now));
    assert_eq!(bench.execute(&by("a.", &member("a"), now + 1)), Ok(Execution::Older), "a replay, not a full zone");
}

#[test]
fn a_service_whose_records_would_not_fit_an_answer_takes_no_more_and_others_do() {
    let mut bench = Bench::new();
    let label = "m".repeat(55);
    let batch = |from: usize, to: usize| {
        let member = |number: usize| format!("_x._tcp.z. SRV 0 0 80 {label}{number:04}.x.z.");
        (from..to).fold(update(), |update, number| update.add(&member(number)))
    };
    // A target of 65 octets: 83 a record, 674 in 56,000.
    bench.apply(&batch(0, 600).octets());
    assert!(is_taken(&bench, &batch(600, 674).octets()));
    let words = ["56000 octets of SRV", "_x._tcp.z.", "split"];
    assert_at(&bench, &batch(600, 675).octets(), Limit::RrsetOctets, &words);
    assert_eq!(bench.table.member_count(&name("_x._tcp.z.")), 600);
    bench.apply(&batch(600, 674).octets());
    assert_at(&bench, &batch(700, 701).octets(), Limit::RrsetOctets, &words);
    // Others, heartbeats, changes, and one in the place of another.
    assert!(is_taken(&bench, &and_member(update(), "_y", "a").octets()));
    assert!(is_taken(&bench, &batch(7, 8).octets()));
    assert!(is_taken(&bench, &update().add(&format!("_x._tcp.z. SRV 0 9 80 {label}0007.x.z.")).octets()));
    let leaves = format!("_x._tcp.z. SRV 0 0 80 {label}0007.x.z.");
    bench.apply(&batch(700, 701).delete_record(&leaves).octets());
}

#[test]
fn a_service_has_so_many_members_also_if_they_are_not_in_its_sets() {
    let mut bench = Bench::new();
    let srv = |number: usize| format!("_x._tcp.z. SRV 0 0 80 m{number}.x.z.");
    let members = |from: usize, to: usize| (from..to).fold(update(), |update, number| update.add(&srv(number)));
    let half = SERVICE_MEMBERS / 2;
    bench.apply(&members(0, half).octets());
    let drain =
        |update: Update, number: usize| update.delete_record(&srv(number)).add(&format!("m{number}.x.z. A 192.0.2.1"));
    bench.apply(&(0..half).fold(update(), drain).octets());
    bench.apply(&members(half, SERVICE_MEMBERS - 1).octets());
    let words = ["3000 members", "_x._tcp.z."];
    assert_at(&bench, &members(5000, 5002).octets(), Limit::ServiceMembers, &words);
    bench.apply(&members(5000, 5001).octets());
    assert_at(&bench, &members(5001, 5002).octets(), Limit::ServiceMembers, &words);
    bench.apply(&members(5001, 5002).delete_record(&srv(half)).octets());
    assert_eq!(bench.table.member_count(&name("_x._tcp.z.")), SERVICE_MEMBERS);
}

#[test]
fn so_many_services_share_a_host_name() {
    let mut bench = Bench::new();
    let all = (0..HOST_SERVICES).fold(update(), |update, number| update.add(&format!("_x._t{number}.z. SRV 0 0 1 t.")));
    let more = update().add("_x._more.z. SRV 0 0 1 t.");
    assert_at(&bench, &all.clone().add("_x._more.z. SRV 0 0 1 t.").octets(), Limit::HostServices, &["64", "x.z."]);
    bench.apply(&all.octets());
    assert_at(&bench, &more.octets(), Limit::HostServices, &["64", "x.z."]);
    bench.apply(&update().add("_x._more.east.z. SRV 0 0 1 t.").octets());
}

#[test]
fn a_leased_set_fits_an_answer_beside_what_stands_there() {
    let mut bench = Bench::new();
    let now = bench.now;
    let text = "t".repeat(200);
    // 217 octets a record, 258 in 56,000.
    let texts = |from: usize, to: usize| {
        (from..to).fold(update(), |update, number| update.add(&format!("host1.z. TXT {text}{number:04}")))
    };
    bench.apply(&by("a.", &texts(0, 200), now));
    assert_at(&bench, &by("a.", &texts(200, 260), now + 1), Limit::RrsetOctets, &["56000 octets of TXT", "host1.z."]);
    bench.apply(&by("a.", &texts(200, 258), now + 1));
    let swap = texts(300, 301).delete_record(&format!("host1.z. TXT {text}0007"));
    bench.apply(&by("a.", &swap, now + 2));
    assert!(is_taken(&bench, &by("a.", &texts(0, 7), now + 3)), "a renewal");
    // What would stand there when nobody is in the service of that host name counts as well.
    bench.apply(&by("root.", &update().delete_name("host1.z."), now + 4));
    bench.apply(&by(
        "a.",
        &update().add("_host1._tcp.z. SRV 0 0 80 i.host1.z.").add("i.host1.z. A 192.0.2.1"),
        now + 5,
    ));
    bench.apply(&by("a.", &texts(0, 200), now + 5));
    bench.apply(&by("a.", &texts(200, 257), now + 6));
    assert_at(&bench, &by("a.", &texts(257, 258), now + 7), Limit::RrsetOctets, &["host1.z."]);
}

#[test]
fn a_member_has_so_many_addresses_and_so_has_a_host_that_waits() {
    let mut bench = Bench::new();
    let addresses = |update: Update, host: &str, count: usize| {
        (0..count).fold(update, |update, number| update.add(&format!("{host}.x.z. A 192.0.2.{number}")))
    };
    let words = ["would have 17 addresses", "at most 16"];
    assert!(is_taken(&bench, &addresses(member("a"), "a", MEMBER_ADDRESSES).octets()));
    assert_at(&bench, &addresses(member("a"), "a", MEMBER_ADDRESSES + 1).octets(), Limit::MemberAddresses, &words);
    let waiting = addresses(update(), "w", MEMBER_ADDRESSES + 1);
    assert_at(&bench, &waiting.octets(), Limit::MemberAddresses, &words);
    // One that would delete them again is told before it gets there.
    let many = (0..200).fold(member("a"), |update, number| update.add(&format!("a.x.z. A 192.0.2.{number}")));
    assert_at(&bench, &many.delete_rrset("a.x.z.", "A").octets(), Limit::MemberAddresses, &["at most 16"]);
    let twice = addresses(addresses(update(), "w", MEMBER_ADDRESSES), "w", MEMBER_ADDRESSES);
    assert!(is_taken(&bench, &twice.octets()));
    // In several messages, and one in the place of another.
    bench.apply(&addresses(member("a"), "a", MEMBER_ADDRESSES).octets());
    let more = update().add("a.x.z. AAAA fd00::1");
    assert_at(&bench, &more.clone().add("_x._tcp.z. SRV 0 0 80 a.x.z.").octets(), Limit::MemberAddresses, &words);
    bench.apply(&more.delete_record("a.x.z. A 192.0.2.0").octets());
    assert_eq!(bench.addresses("_x._tcp.z.", "a").len(), MEMBER_ADDRESSES);
}

#[test]
fn metadata_are_bounded_in_octets_and_in_strings() {
    let bench = Bench::new();
    let word = "m".repeat(250);
    let metadata = |strings: &[&str]| member("a").add(&format!("a._x._tcp.z. TXT {}", strings.join(" ")));
    assert!(is_taken(&bench, &metadata(&[word.as_str(); 4]).octets()));
    assert_at(&bench, &metadata(&[word.as_str(); 5]).octets(), Limit::Metadata, &["1255 octets", "at most 1024"]);
    assert!(is_taken(&bench, &metadata(&["k=v"; METADATA_STRINGS]).octets()));
    let words = ["65 strings", "in 64"];
    assert_at(&bench, &metadata(&["k=v"; METADATA_STRINGS + 1]).octets(), Limit::Metadata, &words);
    // Strings without an octet are strings as well.
    let empty = |count: usize| member("a").raw_change("a._x._tcp.z.", 16, 1, 5, &vec![0; count]).octets();
    assert!(is_taken(&bench, &empty(METADATA_STRINGS)));
    assert_at(&bench, &empty(1000), Limit::Metadata, &["1000 strings"]);
}

#[test]
fn a_member_whose_names_would_be_too_long_is_refused() {
    let bench = Bench::new();
    let deep = [&*"d".repeat(60), &"e".repeat(60), &"f".repeat(60)].join(".");
    // 13 octets are left for the label of a member below its service.
    let register = |id: &str| {
        update().add(&format!("_x._tcp.{deep}.{}.z. SRV 0 0 80 {id}.x.{deep}.{}.z.", "g".repeat(46), "g".repeat(46)))
    };
    assert!(is_taken(&bench, &register("i-12345678901").octets()));
    assert_at(&bench, &register("i-123456789012").octets(), Limit::NameOctets, &["255 octets"]);
}
