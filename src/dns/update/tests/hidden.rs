//! What lies at or below a delegation, or below a DNAME.

use super::*;

fn wire(text: &str) -> Vec<u8> {
    name(text).as_wire().to_vec()
}

/// A zone with `east NS ns1` and `old DNAME new`.
fn with_static_cuts() -> Bench {
    let mut bench = Bench::new();
    for (owner, rtype, target) in [
        ("east.z.", RecordType::NS, "ns1.z."),
        ("old.z.", RecordType::DNAME, "new.z."),
        ("z.", RecordType::NS, "ns1.z."),
    ] {
        let rrset = Rrset { rtype, ttl: Ttl(60), rdatas: vec![wire(target).into()] };
        bench.zone.change(caused(Change::Static { name: name(owner), rrsets: vec![rrset] }), Wall(0));
    }
    let staged = bench.zone.stage(Wall(0));
    bench.zone.publish(staged);
    bench
}

#[track_caller]
fn assert_refused(bench: &Bench, octets: &[u8], words: &[&str]) {
    let refusal = bench.refusal(octets);
    assert_eq!(refusal.rcode, Rcode::REFUSED);
    let text = refusal.error.expect("a reason").text;
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

fn by_root(bench: &mut Bench, update: &Update) -> Vec<u8> {
    bench.now += 1;
    update.signed("root.", b"secret", bench.now)
}

#[test]
fn nothing_is_registered_at_or_below_a_delegation_or_below_a_dname() {
    let mut bench = with_static_cuts();
    for (service, host, words) in [
        ("_x._tcp.east.z.", "x.east.z.", ["east.z. is delegated by a static NS", "remove"]),
        ("_x._tcp.deep.east.z.", "x.deep.east.z.", ["east.z. is delegated by a static NS", "remove"]),
        ("_x._tcp.old.z.", "x.old.z.", ["old.z. is redirected by a static DNAME", "remove"]),
        // Its host name alone.
        ("_east._tcp.z.", "east.z.", ["east.z. is delegated by a static NS", "a.east.z."]),
        ("_old._tcp.z.", "old.z.", ["old.z. is redirected by a static DNAME", "a.old.z."]),
    ] {
        let update = update().add(&format!("{service} SRV 0 1 80 a.{host}"));
        assert_refused(&bench, &update.octets(), &words);
        assert_refused(&bench, &update.add(&format!("a.{host} A 192.0.2.1")).octets(), &words);
        // An address that waits for its member.
        assert_refused(&bench, &super::update().add(&format!("a.{host} A 192.0.2.1")).octets(), &words[..1]);
    }
    bench.apply(&register().octets());
    bench.apply(&update().add("_x._tcp.easter.z. SRV 0 1 80 a.x.easter.z.").octets());
}

#[test]
fn leased_records_are_refused_where_none_would_see_them_and_glue_is_not() {
    let mut bench = with_static_cuts();
    for hidden in
        ["east.z. TXT x", "a.east.z. TXT x", "a.old.z. A 192.0.2.1", "a.old.z. NS ns1.z.", "a.east.z. NS ns1.z."]
    {
        let octets = by_root(&mut bench, &update().add(hidden));
        assert_refused(&bench, &octets, &["would never be answered", "choose a name elsewhere"]);
    }
    for seen in ["old.z. TXT x", "ns.east.z. A 192.0.2.1", "east.z. AAAA ::1"] {
        let octets = by_root(&mut bench, &update().add(seen));
        bench.apply(&octets);
    }
}

#[test]
fn leased_delegations_and_dname_hide_no_members_whatever_the_order() {
    let mut bench = Bench::new();
    bench.apply(&update().add("_x._tcp.west.z. SRV 0 1 80 a.x.west.z.").octets());
    for cut in [
        "west.z. NS ns1.z.",
        "west.z. DNAME new.z.",
        "x.west.z. NS ns1.z.",
        "_tcp.west.z. DNAME new.z.",
        "a.x.west.z. NS ns1.z.",
        "a._x._tcp.west.z. NS ns1.z.",
    ] {
        let octets = by_root(&mut bench, &update().add(cut));
        assert_refused(&bench, &octets, &["would hide", "registered member a of _x._tcp.west.z.", "deregister"]);
    }
    // In one message, in either order.
    let (cut, member) = ("far.z. NS ns1.z.", "_x._tcp.far.z. SRV 0 1 80 a.x.far.z.");
    for [first, second] in [[cut, member], [member, cut]] {
        let octets = by_root(&mut bench, &update().add(first).add(second));
        assert_refused(&bench, &octets, &["far.z. is delegated by a leased NS", "register in another domain"]);
    }
    // Once the member goes, and until the records do.
    let octets = by_root(&mut bench, &update().delete_rrset("_x._tcp.west.z.", "SRV").add("west.z. NS ns1.z."));
    bench.apply(&octets);
    let back = update().add("_x._tcp.west.z. SRV 0 1 80 a.x.west.z.");
    assert_refused(&bench, &back.octets(), &["west.z. is delegated by a leased NS"]);
    let octets =
        by_root(&mut bench, &update().delete_rrset("west.z.", "NS").add("_x._tcp.west.z. SRV 0 1 80 a.x.west.z."));
    bench.apply(&octets);
}
