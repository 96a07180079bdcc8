//! What updates come to, on a small zone with hand-fed times: message in, reply out, and what is there afterwards.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Epoch, Lease, Monotonic, Now, RecordType, Ttl, Wall};
use crate::dns::identity::Identity;
use crate::dns::messages::{Update, hashed_id, name};
use crate::dns::reply::Transport;
use crate::dns::respond::{Context, ServedZone, Verdict as Answer, Zones, respond};
use crate::dns::tsig::{Algorithm, Key, Keys};
use crate::membership::access::{Globs, Scope, UpdateEntry};
use crate::membership::{Item, LeaseLimits, Member, Policies, Quotas, ServicePolicy, State, Table, UpdateAccess};
use crate::zone::registration::Outcome;
use crate::zone::scenes::{Universe, caused};
use crate::zone::{Change, PublishedMember, Rrset, ServiceSettings, Zone};

use super::*;

mod bounds;
mod hidden;
mod outlook;
mod renewal;
mod rights;

/// A zone `z.` with static records at ns1, as a publisher would hold it.
struct Bench {
    peer: SocketAddr,
    zone: Zone,
    table: Table,
    rules: Rules,
    access: UpdateAccess,
    keys: Keys,
    now: u64,
}

fn entry(key: Option<&str>, scope: Scope, records: &[&str]) -> UpdateEntry {
    UpdateEntry {
        key: key.map(name),
        network: key.is_none().then(|| "127.0.0.0/8".parse().unwrap()),
        services: Globs::all(),
        ids: Globs::all(),
        members: scope,
        records: Globs(records.iter().map(|&glob| glob.to_owned()).collect()),
    }
}

impl Bench {
    fn new() -> Bench {
        let universe = Universe::new("z.");
        let mut zone = Zone::new(universe.settings(), Epoch(100));
        zone.change(caused(Change::Settings(universe.settings())), Wall(0));
        let a = Rrset { rtype: RecordType::A, ttl: Ttl(60), rdatas: vec![vec![192, 0, 2, 53].into()] };
        zone.change(caused(Change::Static { name: name("ns1.z."), rrsets: vec![a] }), Wall(0));
        let staged = zone.stage(Wall(0));
        zone.publish(staged);
        let records = ["_acme-challenge.*", "host*", "@"];
        let entries = vec![
            entry(Some("a."), Scope::Own, &records),
            entry(Some("b."), Scope::Own, &records),
            entry(Some("root."), Scope::Any, &["*"]),
            entry(None, Scope::Any, &[]),
        ];
        let keys = ["a.", "b.", "root."].map(|key| Key::new(name(key), Algorithm::HmacSha256, b"secret"));
        Bench {
            zone,
            table: Table::new(Duration::ZERO),
            rules: Rules {
                policies: Policies::of_zone(ServicePolicy::plain(LeaseLimits::default())).into(),
                quotas: Quotas::default(),
                peer_address: false,
                forwarders: Vec::new(),
            },
            peer: "127.0.0.1:5000".parse().unwrap(),
            access: UpdateAccess::new(entries),
            keys: Keys::new(keys),
            now: 1_000_000,
        }
    }

    fn time(&self) -> Now {
        Now { mono: Monotonic(self.now * 1000), wall: Wall(self.now * 1000) }
    }

    fn read(&self, octets: &[u8]) -> Result<Box<Request>, Vec<u8>> {
        let served = ServedZone::new(name("z."));
        let zones = Zones::new([Arc::new(served)]);
        let context = Context {
            tcp_idle: Duration::from_secs(10),
            transfers: true,
            cookies: None,
            rate: None,
            rotate: false,
            zones: &zones,
            keys: &self.keys,
            identity: &Identity::default(),
            udp_size: 1232,
            now: self.time().wall,
            peer: self.peer,
            transport: Transport::Udp,
        };
        let mut out = Vec::new();
        match respond(&context, octets, &mut out) {
            Answer::Update(request) => Ok(request),
            Answer::Reply | Answer::ReplyAtLimit(_) => Err(out),
            Answer::Silence => panic!("silence"),
            other => panic!("{other:?}"),
        }
    }

    fn execute(&self, octets: &[u8]) -> Result<Execution, Refusal> {
        let request = self.read(octets).expect("an update of this zone");
        let grant = self.access.grant(&request.identity);
        let scene = Scene {
            table: &self.table,
            contents: self.zone.contents(),
            snapshot: self.zone.snapshot(),
            rules: &self.rules,
            grant: grant.as_ref(),
            now: self.time(),
        };
        execute(&request, scene)
    }

    /// Carries an update out, as a commit of its own; it must be one to be applied.
    fn apply(&mut self, octets: &[u8]) -> Outcome {
        let stamp = self.read(octets).unwrap().stamp;
        let outcome = match self.execute(octets) {
            Ok(Execution::Apply(outcome)) => outcome,
            other => panic!("{other:?}"),
        };
        let mut items = Vec::new();
        for (index, _) in &outcome.removals {
            items.push((self.table.item(*index).unwrap().clone(), false));
            self.table.remove(*index, stamp);
        }
        for put in &outcome.puts {
            let item = put.item.clone();
            if put.heard { self.table.put(item, stamp) } else { self.table.amend(item) }.unwrap();
            items.push((put.item.clone(), true));
        }
        for index in &outcome.renewals {
            self.table.renew(*index, self.time().mono, stamp);
        }
        for (item, there) in items {
            let change = match &item {
                Item::Member(member) => Change::Member {
                    service: member.service.clone(),
                    id: member.id.clone(),
                    member: there.then(|| PublishedMember::of(member)),
                },
                Item::Leased(record) => {
                    let records = self.table.leased(&record.name).map(|(_, record)| record);
                    let records: Vec<_> = records.filter(|other| other.rtype == record.rtype).collect();
                    Change::Leased {
                        name: record.name.clone(),
                        rtype: record.rtype,
                        ttl: records.first().map_or(Ttl(0), |record| record.ttl),
                        rdatas: records.iter().map(|record| record.rdata.clone()).collect(),
                    }
                }
                Item::Held(_) => continue,
            };
            self.zone.change(caused(change), self.time().wall);
        }
        self.table.accept(self.time());
        let staged = self.zone.stage(self.time().wall);
        self.zone.publish(staged);
        outcome
    }

    fn refusal(&self, octets: &[u8]) -> Refusal {
        self.execute(octets).expect_err("it should be refused")
    }

    fn rcode(&self, update: &Update) -> Rcode {
        match self.execute(&update.octets()) {
            Ok(_) => Rcode::NOERROR,
            Err(refusal) => refusal.rcode,
        }
    }

    fn member(&self, service: &str, id: &str) -> Option<Member> {
        self.table.member(&name(service), id).map(|(_, member)| member.clone())
    }

    fn addresses(&self, service: &str, id: &str) -> Vec<String> {
        let member = self.member(service, id).expect("it is there");
        member.registration.addresses.iter().map(IpAddr::to_string).collect()
    }

    /// Data that are published, as text or octets.
    fn published(&self, owner: &str, rtype: RecordType) -> Vec<Vec<u8>> {
        let node = self.zone.snapshot().node(name(owner).as_wire());
        let rrset = node.and_then(|node| node.rrset(rtype));
        rrset.into_iter().flat_map(|rrset| rrset.rdatas().map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
    }
}

fn update() -> Update {
    Update::new("z.")
}

/// The usual registration.
fn register() -> Update {
    update().add("_x._tcp.z. SRV 0 1 80 a.x.z.").add("a.x.z. A 192.0.2.1")
}

/// The changes of a message signed with one of the bench's keys.
fn by(key: &str, update: &Update, now: u64) -> Vec<u8> {
    update.signed(key, b"secret", now)
}

fn kinds(outcome: &Outcome) -> (usize, usize, usize) {
    (outcome.puts.len(), outcome.removals.len(), outcome.renewals.len())
}

#[test]
fn a_registration_makes_a_member_and_its_repetition_is_a_heartbeat() {
    let mut bench = Bench::new();
    assert_eq!(kinds(&bench.apply(&register().octets())), (1, 0, 0));
    let member = bench.member("_x._tcp.z.", "a").unwrap();
    assert_eq!((member.lease, member.state, member.registration.port), (Lease(15), State::Up, 80));
    assert_eq!(bench.addresses("_x._tcp.z.", "a"), ["192.0.2.1"]);
    let epoch = bench.zone.snapshot().epoch;
    assert_eq!(kinds(&bench.apply(&register().octets())), (0, 0, 1));
    assert_eq!(bench.zone.snapshot().epoch, epoch);
}

#[test]
fn a_target_below_the_host_name_gives_the_id_and_another_port_is_a_change() {
    let mut bench = Bench::new();
    bench.apply(&register().octets());
    assert_eq!(kinds(&bench.apply(&update().add("_x._tcp.z. SRV 0 1 81 A.x.z.").octets())), (1, 0, 0));
    assert_eq!(bench.table.member_count(&name("_x._tcp.z.")), 1);
    assert_eq!(bench.member("_x._tcp.z.", "a").unwrap().registration.port, 81);
}

#[test]
fn any_other_target_gives_an_id_of_label_and_hash_and_another_port_is_another_member() {
    let mut bench = Bench::new();
    let long = "l".repeat(60);
    bench.apply(
        &update()
            .add("_x._tcp.z. SRV 0 1 80 far.example.")
            .add("_x._tcp.z. SRV 0 1 81 far.example.")
            .add("_x._tcp.z. SRV 0 1 80 deep.a.x.z.")
            .add("_x._tcp.z. SRV 0 1 80 _u.example.")
            .add(&format!("_x._tcp.z. SRV 0 1 80 {long}.example."))
            .octets(),
    );
    for id in [
        hashed_id("far", "far.example.", 80),
        hashed_id("far", "far.example.", 81),
        hashed_id("deep", "deep.a.x.z.", 80),
        hashed_id("u", "_u.example.", 80),
        hashed_id(&long[..40], &format!("{long}.example."), 80),
    ] {
        assert!(bench.member("_x._tcp.z.", &id).is_some(), "{id}");
    }
    assert_eq!(bench.table.member_count(&name("_x._tcp.z.")), 5);
    // A slot's form, once hashed, is none.
    bench.apply(&update().add("_x._tcp.z. SRV 0 1 80 s0001.example.").octets());
}

#[test]
fn nothing_is_leased_at_the_name_of_a_slot() {
    let mut bench = Bench::new();
    let mut settings = (**bench.zone.contents().settings()).clone();
    settings.services.push(ServiceSettings { slots: true, ..ServiceSettings::of(name("_x._tcp.z.")) });
    bench.zone.change(caused(Change::Settings(settings.into())), Wall(0));
    let staged = bench.zone.stage(Wall(0));
    bench.zone.publish(staged);
    bench.apply(&register().octets());
    let by = |update: Update, now| update.signed("root.", b"secret", now);
    for slot in ["s0000.x.z. TXT hello", "s0000.x.z. CNAME elsewhere.example.", "s12345.x.z. TXT hello"] {
        let refusal = bench.refusal(&by(update().add(slot), bench.now));
        assert_eq!(refusal.rcode, Rcode::REFUSED, "{slot}");
        assert!(refusal.error.unwrap().text.contains("slot of _x._tcp.z."), "{slot}");
    }
    bench.apply(&by(update().add("s0000.elsewhere.z. TXT hello"), bench.now));
    bench.apply(&by(update().add("s000.x.z. TXT hello"), bench.now));
}

#[test]
fn ids_of_the_form_of_slots_and_the_root_as_target_are_refused() {
    let bench = Bench::new();
    for target in ["s0007.x.z.", "s12345.x.z.", "a_b.x.z.", "."] {
        let refusal = bench.refusal(&update().add(&format!("_x._tcp.z. SRV 0 1 80 {target}")).octets());
        assert_eq!(refusal.rcode, Rcode::REFUSED, "{target}");
        assert!(refusal.error.is_some());
    }
}

#[test]
fn with_own_members_another_owners_are_out_of_reach_and_a_sweep_passes_them_by() {
    let mut bench = Bench::new();
    let now = bench.now;
    bench.apply(&register().signed("a.", b"secret", now));
    let by = |update: Update, key: &str| update.signed(key, b"secret", now);
    // An add of it, its exact record, its address.
    for update in [
        update().add("_x._tcp.z. SRV 0 9 80 a.x.z."),
        register(),
        update().delete_record("_x._tcp.z. SRV 0 1 80 a.x.z."),
        update().add("a.x.z. A 192.0.2.9"),
        update().delete_record("a.x.z. A 192.0.2.1"),
        update().add("a._x._tcp.z. TXT az=b"),
    ] {
        assert_eq!(bench.refusal(&by(update.clone(), "b.")).rcode, Rcode::REFUSED, "{update:?}");
    }
    for update in [
        update().delete_rrset("_x._tcp.z.", "SRV"),
        update().delete_name("_x._tcp.z."),
        update().delete_rrset("a.x.z.", "A"),
        update().delete_name("a.x.z."),
        update().delete_record("_x._tcp.z. SRV 0 2 80 a.x.z."),
    ] {
        let Ok(Execution::Apply(outcome)) = bench.execute(&by(update.clone(), "b.")) else { panic!("{update:?}") };
        assert_eq!(kinds(&outcome), (0, 0, 0), "{update:?}");
    }
    // Whoever may touch any member may, by key or network; ownership goes to the last who registered it anew only.
    assert_eq!(kinds(&bench.apply(&by(update().add("_x._tcp.z. SRV 0 9 80 a.x.z."), "root."))), (1, 0, 0));
    assert_eq!(&*bench.member("_x._tcp.z.", "a").unwrap().owner.0, "key a.");
    assert_eq!(kinds(&bench.apply(&update().delete_rrset("_x._tcp.z.", "SRV").octets())), (0, 1, 0));
}

#[test]
fn nobody_without_an_entry_changes_anything() {
    let mut bench = Bench::new();
    bench.access = UpdateAccess::new(vec![entry(Some("a."), Scope::Own, &[])]);
    assert_eq!(bench.refusal(&register().octets()).rcode, Rcode::REFUSED);
    assert_eq!(bench.refusal(&update().delete_name("_x._tcp.z.").octets()).rcode, Rcode::REFUSED);
    bench.access = UpdateAccess::new(vec![UpdateEntry {
        services: Globs(vec!["_y._tcp".to_owned()]),
        ids: Globs(vec!["web-*".to_owned()]),
        ..entry(None, Scope::Any, &[])
    }]);
    assert_eq!(bench.refusal(&register().octets()).rcode, Rcode::REFUSED);
    assert_eq!(bench.refusal(&update().add("_y._tcp.z. SRV 0 0 1 a.y.z.").octets()).rcode, Rcode::REFUSED);
    bench.apply(&update().add("_y._tcp.z. SRV 0 0 1 web-1.y.z.").octets());
}

#[test]
fn delete_and_add_in_one_message_is_a_heartbeat_that_keeps_everything() {
    let mut bench = Bench::new();
    bench.apply(&register().add("a._x._tcp.z. TXT az=a").octets());
    let again = |port: u16| {
        update()
            .delete_rrset("_x._tcp.z.", "SRV")
            .delete_rrset("a.x.z.", "A")
            .add("a.x.z. A 192.0.2.1")
            .add(&format!("_x._tcp.z. SRV 0 1 {port} a.x.z."))
            .octets()
    };
    assert_eq!(kinds(&bench.apply(&again(80))), (0, 0, 1));
    assert_eq!(kinds(&bench.apply(&again(81))), (1, 0, 0));
    let member = bench.member("_x._tcp.z.", "a").unwrap();
    assert_eq!(member.registration.metadata.len(), 1, "metadata stays");
    // In two messages it is a withdrawal and a return.
    assert_eq!(kinds(&bench.apply(&update().delete_rrset("_x._tcp.z.", "SRV").octets())), (0, 1, 0));
    assert_eq!(kinds(&bench.apply(&again(81))), (1, 0, 0));
    assert!(bench.member("_x._tcp.z.", "a").unwrap().registration.metadata.is_empty());
}

#[test]
fn addresses_before_the_member_wait_unpublished_for_one_lease() {
    let mut bench = Bench::new();
    let outcome = bench.apply(&update().add("a.x.z. A 192.0.2.1").octets());
    assert!(matches!(&outcome.puts[0].item, Item::Held(held) if held.lease == Lease(15)), "{outcome:?}");
    assert!(bench.published("a.x.z.", RecordType::A).is_empty());
    assert_eq!(kinds(&bench.apply(&update().add("a.x.z. A 192.0.2.1").octets())), (0, 0, 1));
    bench.apply(&update().add("a.x.z. AAAA 2001:db8::1").octets());
    // The member takes them, and they no longer wait.
    assert_eq!(kinds(&bench.apply(&update().add("_x._tcp.z. SRV 0 0 80 a.x.z.").octets())), (1, 1, 0));
    assert_eq!(bench.addresses("_x._tcp.z.", "a"), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(bench.published("a.x.z.", RecordType::A).len(), 1);
    assert!(bench.table.held(&name("a.x.z.")).is_none());
}

#[test]
fn held_addresses_are_their_owners() {
    let mut bench = Bench::new();
    let now = bench.now;
    bench.apply(&update().add("a.x.z. A 192.0.2.1").signed("a.", b"secret", now));
    let other = update().add("a.x.z. A 192.0.2.6").signed("b.", b"secret", now);
    assert_eq!(bench.refusal(&other).rcode, Rcode::REFUSED);
    assert_eq!(
        bench.refusal(&update().add("nowhere.z. A 192.0.2.1").signed("a.", b"secret", now)).rcode,
        Rcode::REFUSED
    );
}

#[test]
fn siblings_with_the_same_id_share_their_addresses() {
    let mut bench = Bench::new();
    bench.apply(&register().octets());
    bench.apply(&update().add("_x._udp.z. SRV 0 0 80 a.x.z.").octets());
    assert_eq!(bench.addresses("_x._udp.z.", "a"), ["192.0.2.1"]);
    let change = update().delete_rrset("a.x.z.", "A").add("a.x.z. A 192.0.2.2");
    assert_eq!(kinds(&bench.apply(&change.octets())), (2, 0, 0));
    for service in ["_x._tcp.z.", "_x._udp.z."] {
        assert_eq!(bench.addresses(service, "a"), ["192.0.2.2"]);
    }
    assert_eq!(bench.published("a.x.z.", RecordType::A), [[192, 0, 2, 2]]);
    // One goes, the other keeps them.
    bench.apply(&update().delete_rrset("_x._tcp.z.", "SRV").octets());
    assert_eq!(bench.published("a.x.z.", RecordType::A), [[192, 0, 2, 2]]);
}

#[test]
fn deleting_the_srv_record_and_renewing_the_address_drains() {
    let mut bench = Bench::new();
    bench.apply(&register().octets());
    let drain = update().delete_rrset("_x._tcp.z.", "SRV").add("a.x.z. A 192.0.2.1");
    let outcome = bench.apply(&drain.octets());
    assert!(matches!(outcome.puts[0].cause, crate::zone::Cause::Drained(_)));
    assert_eq!(bench.member("_x._tcp.z.", "a").unwrap().state, State::Draining);
    assert!(bench.published("_x._tcp.z.", RecordType::SRV).is_empty());
    assert_eq!(bench.published("a.x.z.", RecordType::A).len(), 1, "its own host record stays");
    assert!(bench.published("x.z.", RecordType::A).is_empty());
    // Again, or only the address: a heartbeat that keeps draining.
    assert_eq!(kinds(&bench.apply(&drain.octets())), (0, 0, 1));
    assert_eq!(kinds(&bench.apply(&update().add("a.x.z. A 192.0.2.1").octets())), (0, 0, 1));
    assert_eq!(kinds(&bench.apply(&register().octets())), (1, 0, 0));
    assert_eq!(bench.member("_x._tcp.z.", "a").unwrap().state, State::Up);
}

#[test]
fn metadata_stand_at_the_instance_name_in_any_order_and_need_a_member() {
    let mut bench = Bench::new();
    assert_eq!(bench.refusal(&update().add("a._x._tcp.z. TXT az=a").octets()).rcode, Rcode::REFUSED);
    bench.apply(&update().add("a._x._tcp.z. TXT az=a v=1").add("_x._tcp.z. SRV 0 0 80 a.x.z.").octets());
    let metadata = |bench: &Bench| bench.member("_x._tcp.z.", "a").unwrap().registration.metadata.to_vec();
    assert_eq!(metadata(&bench), [b"az=a".as_slice().into(), b"v=1".as_slice().into()] as [Box<[u8]>; 2]);
    bench.apply(&update().delete_record("a._x._tcp.z. TXT other").octets());
    assert_eq!(metadata(&bench).len(), 2);
    bench.apply(&update().delete_rrset("a._x._tcp.z.", "TXT").octets());
    assert!(metadata(&bench).is_empty());
}

#[test]
fn a_lease_of_0_withdraws_what_the_message_names() {
    let mut bench = Bench::new();
    let outcome = bench.apply(&register().lease(60).octets());
    assert_eq!(outcome.granted, Some((60, None)));
    assert_eq!(bench.member("_x._tcp.z.", "a").unwrap().lease, Lease(60));
    let outcome = bench.apply(&register().lease(0).octets());
    assert_eq!((kinds(&outcome), outcome.granted), ((0, 1, 0), Some((0, None))));
    assert!(bench.member("_x._tcp.z.", "a").is_none());
    // Of nobody: nothing.
    assert_eq!(kinds(&bench.apply(&register().lease(0).octets())), (0, 0, 0));
    bench.apply(&update().add("a.x.z. A 192.0.2.1").octets());
    assert_eq!(kinds(&bench.apply(&update().add("a.x.z. A 192.0.2.1").lease(0).octets())), (0, 1, 0));
}

#[test]
fn leases_are_granted_within_the_limits_in_the_form_that_was_asked_for() {
    let mut bench = Bench::new();
    assert_eq!(bench.apply(&register().octets()).granted, None);
    assert_eq!(bench.apply(&register().lease(1).octets()).granted, Some((5, None)));
    assert_eq!(bench.apply(&register().leases(u32::MAX, 7).octets()).granted, Some((3600, Some(7))));
}

#[test]
fn the_key_lease_is_that_of_key_records() {
    let mut bench = Bench::new();
    let now = bench.now;
    let both = update().add("host1.z. KEY octets").add("host1.z. TXT x").leases(60, 600).signed("a.", b"secret", now);
    let outcome = bench.apply(&both);
    let leases: Vec<(RecordType, Lease)> = outcome
        .puts
        .iter()
        .map(|put| match &put.item {
            Item::Leased(record) => (record.rtype, record.lease),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(leases, [(RecordType::KEY, Lease(600)), (RecordType::TXT, Lease(60))]);
}

#[test]
fn leased_records_need_a_rule_and_get_the_lease_of_records_and_one_ttl() {
    let mut bench = Bench::new();
    let now = bench.now;
    let by_a = |update: Update| update.signed("a.", b"secret", now);
    assert_eq!(bench.refusal(&by_a(update().add("other.z. TXT x"))).rcode, Rcode::REFUSED);
    assert_eq!(bench.refusal(&update().add("_acme-challenge.www.z. TXT x").octets()).rcode, Rcode::REFUSED);
    bench.apply(&by_a(update().add_with_ttl(600, "_acme-challenge.www.z. TXT x")));
    bench.apply(&by_a(update().add_with_ttl(3, "_acme-challenge.www.z. TXT y")));
    let records: Vec<_> = bench.table.leased(&name("_acme-challenge.www.z.")).map(|(_, record)| record).collect();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.ttl == Ttl(3) && record.lease == Lease(3600)));
    // Another owner's record is out of reach by its data, and passed by in a sweep.
    let exact = update().delete_record("_acme-challenge.www.z. TXT x").signed("b.", b"secret", now);
    assert_eq!(bench.refusal(&exact).rcode, Rcode::REFUSED);
    let sweep = update().delete_name("_acme-challenge.www.z.").signed("b.", b"secret", now);
    assert_eq!(kinds(&bench.apply(&sweep)), (0, 0, 0));
    assert_eq!(kinds(&bench.apply(&by_a(update().delete_rrset("_acme-challenge.www.z.", "TXT")))), (0, 2, 0));
    assert!(bench.published("_acme-challenge.www.z.", RecordType::TXT).is_empty());
}

#[test]
fn leased_records_that_a_secondary_would_refuse_are_not_taken() {
    let mut bench = Bench::new();
    let now = bench.now;
    let refusal = |bench: &Bench, rtype: RecordType, rdata: &[u8]| {
        bench.refusal(&update().raw_change("host1.z.", rtype.0, 1, 5, rdata).signed("a.", b"secret", now)).rcode
    };
    for (rtype, rdata) in [
        (RecordType::TLSA, &[3, 1, 1][..]),
        (RecordType::SSHFP, &[1, 2, 7]),
        (RecordType::CAA, &[0, 1, b'-', b'x']),
        (RecordType::KEY, &[2, 0, 3]),
    ] {
        assert_eq!(refusal(&bench, rtype, rdata), Rcode::FORMERR, "{rtype}");
    }
    for rtype in [RecordType::RRSIG, RecordType::NSEC, RecordType::NSEC3, RecordType::NSEC3PARAM] {
        assert_eq!(refusal(&bench, rtype, &[0; 30]), Rcode::REFUSED, "{rtype}");
    }
    let key = update().raw_change("host1.z.", RecordType::KEY.0, 1, 5, &[2, 0, 3, 13, 1]);
    bench.apply(&key.signed("a.", b"secret", now));
    assert_eq!(bench.published("host1.z.", RecordType::KEY).len(), 1);
}

/// 48,000 octets are 3000 addresses of IPv4: 187 members that have as many as they may, and eight.
#[test]
fn services_with_the_same_host_name_fill_its_address_set_together() {
    let mut bench = Bench::new();
    let member = |service: &str, third: usize, number: usize| {
        let host = format!("{}-{third}-{number}.x.z.", &service[1..]);
        let update = update().add(&format!("_x.{service}.z. SRV 0 1 80 {host}"));
        (0..16).fold(update, |update, last| update.add(&format!("{host} A 10.{third}.{number}.{last}")))
    };
    for number in 0..93 {
        bench.apply(&member("_tcp", 1, number).octets());
        // On the same machines: addresses that are there already take no room.
        bench.apply(&member("_sctp", 1, number).octets());
        bench.apply(&member("_udp", 2, number).octets());
    }
    bench.apply(&member("_udp", 2, 93).octets());
    assert_eq!(bench.published("x.z.", RecordType::A).len(), 187 * 16);
    for service in ["_tcp", "_udp", "_dccp"] {
        let refusal = bench.refusal(&member(service, 3, 1).octets());
        assert_eq!(refusal.rcode, Rcode::REFUSED);
        assert!(refusal.error.unwrap().text.contains("would not fit 64 KiB"), "{service}");
    }
    assert_eq!(kinds(&bench.apply(&member("_udp", 2, 7).octets())), (0, 0, 1), "renewals go on");
    bench.apply(&update().delete_rrset("_x._udp.z.", "SRV").octets());
    bench.apply(&member("_dccp", 3, 1).octets());
}

#[test]
fn a_record_added_beside_anothers_does_not_renew_that_one() {
    // One TTL for the set (RFC 2181 §5.2), but the other's lease is the other's.
    let mut bench = Bench::new();
    let start = bench.now;
    bench.apply(&update().add_with_ttl(5, "host1.z. TXT x").lease(60).signed("a.", b"secret", start));
    let (index, _) = bench.table.leased(&name("host1.z.")).next().unwrap();
    let before = bench.table.reading(index);
    bench.now += 30;
    bench.apply(&update().add_with_ttl(2, "host1.z. TXT y").lease(60).signed("b.", b"secret", start + 30));
    let after = bench.table.reading(index);
    assert_eq!((before.deadline, before.stamp), (after.deadline, after.stamp));
    assert!(bench.table.leased(&name("host1.z.")).all(|(_, record)| record.ttl == Ttl(2)));
}

#[test]
fn aliases_and_other_records_keep_apart_and_a_new_alias_replaces_the_former() {
    // RFC 2136 §3.4.2.2: such additions are ignored silently.
    let mut bench = Bench::new();
    let now = bench.now;
    let by_a = |update: Update| update.signed("a.", b"secret", now);
    bench.apply(&by_a(update().add("host1.z. TXT x").add("host2.z. CNAME t.z.")));
    assert_eq!(kinds(&bench.apply(&by_a(update().add("host1.z. CNAME t.z.")))), (0, 0, 0));
    assert_eq!(kinds(&bench.apply(&by_a(update().add("host2.z. TXT x")))), (0, 0, 0));
    assert_eq!(kinds(&bench.apply(&by_a(update().add("host2.z. CNAME u.z.")))), (1, 1, 0));
    assert_eq!(bench.published("host2.z.", RecordType::CNAME), [name("u.z.").as_wire().to_vec()]);
    // RFC 6672 §2.4: nor are there two DNAME records at a name.
    bench.apply(&by_a(update().add("host3.z. DNAME t.z.")));
    assert_eq!(kinds(&bench.apply(&by_a(update().add("host3.z. DNAME u.z.")))), (1, 1, 0));
    assert_eq!(bench.published("host3.z.", RecordType::DNAME), [name("u.z.").as_wire().to_vec()]);
    // In one message the deletion makes room.
    let swap = update().delete_name("host1.z.").add("host1.z. CNAME t.z.");
    assert_eq!(kinds(&bench.apply(&by_a(swap))), (1, 1, 0));
    // Static and derived names take none either.
    let root = |update: Update| update.signed("root.", b"secret", now);
    assert_eq!(kinds(&bench.apply(&root(update().add("ns1.z. CNAME t.z.")))), (0, 0, 0));
    bench.apply(&register().octets());
    assert_eq!(kinds(&bench.apply(&root(update().add("x.z. CNAME t.z.")))), (0, 0, 0));
}

#[test]
fn soa_and_ns_of_the_apex_are_untouchable_and_deleting_them_is_no_error() {
    let bench = Bench::new();
    let now = bench.now;
    let root = |update: Update| update.signed("root.", b"secret", now);
    assert_eq!(bench.refusal(&root(update().add("z. NS ns9.z."))).rcode, Rcode::REFUSED);
    assert_eq!(bench.refusal(&root(update().add("z. SOA a. b. 9 9 9 9 9"))).rcode, Rcode::REFUSED);
    assert_eq!(bench.refusal(&root(update().add("host1.z. SOA a. b. 9 9 9 9 9"))).rcode, Rcode::REFUSED);
    for update in [update().delete_rrset("z.", "NS"), update().delete_rrset("z.", "SOA"), update().delete_name("z.")] {
        let Ok(Execution::Apply(outcome)) = bench.execute(&root(update)) else { panic!() };
        assert_eq!(kinds(&outcome), (0, 0, 0));
    }
    // Static records stay, whoever asks.
    let exact = update().delete_record("ns1.z. A 192.0.2.53");
    assert_eq!(bench.refusal(&root(exact)).rcode, Rcode::REFUSED);
}

#[test]
fn a_members_own_names_must_be_free() {
    let mut bench = Bench::new();
    let a = Rrset { rtype: RecordType::A, ttl: Ttl(60), rdatas: vec![vec![192, 0, 2, 7].into()] };
    bench.zone.change(caused(Change::Static { name: name("a.x.z."), rrsets: vec![a] }), Wall(0));
    let staged = bench.zone.stage(Wall(0));
    bench.zone.publish(staged);
    assert_eq!(bench.refusal(&update().add("_x._tcp.z. SRV 0 0 80 a.x.z.").octets()).rcode, Rcode::REFUSED);
    assert_eq!(bench.refusal(&update().add("a.x.z. A 192.0.2.8").octets()).rcode, Rcode::REFUSED);
}

#[test]
fn prerequisites_are_held_against_the_zone_to_the_letter() {
    let mut bench = Bench::new();
    bench.apply(&register().octets());
    bench.apply(&update().add("_x._tcp.z. SRV 0 2 80 b.x.z.").octets());
    let both = || update().equals("_x._tcp.z. SRV 0 1 80 a.x.z.").equals("_x._tcp.z. SRV 0 2 80 b.x.z.");
    for (update, rcode) in [
        (update().in_use("_x._tcp.z."), Rcode::NOERROR),
        (update().in_use("nobody.z."), Rcode::NXDOMAIN),
        // An empty non-terminal has no record.
        (update().in_use("_tcp.z."), Rcode::NXDOMAIN),
        (update().in_use("z."), Rcode::NOERROR),
        (update().not_in_use("nobody.z."), Rcode::NOERROR),
        (update().not_in_use("_x._tcp.z."), Rcode::YXDOMAIN),
        (update().not_in_use("_tcp.z."), Rcode::NOERROR),
        (update().exists("_x._tcp.z.", "SRV"), Rcode::NOERROR),
        (update().exists("_x._tcp.z.", "MX"), Rcode::NXRRSET),
        (update().exists("z.", "SOA"), Rcode::NOERROR),
        (update().exists_not("_x._tcp.z.", "MX"), Rcode::NOERROR),
        (update().exists_not("_x._tcp.z.", "SRV"), Rcode::YXRRSET),
        (both(), Rcode::NOERROR),
        (update().equals("_x._tcp.z. SRV 0 1 80 a.x.z."), Rcode::NXRRSET),
        (both().equals("_x._tcp.z. SRV 0 3 80 c.x.z."), Rcode::NXRRSET),
        (update().equals("ns1.z. A 192.0.2.53"), Rcode::NOERROR),
        (update().in_use("elsewhere."), Rcode::NOTZONE),
        (update().raw_prerequisite("z.", 255, 255, 1, &[]), Rcode::FORMERR),
        (update().raw_prerequisite("z.", 255, 255, 0, &[1]), Rcode::FORMERR),
        (update().raw_prerequisite("z.", 1, 7, 0, &[]), Rcode::FORMERR),
        (update().raw_prerequisite("z.", 255, 1, 0, &[]), Rcode::FORMERR),
        // The first that fails decides.
        (update().exists("_x._tcp.z.", "MX").in_use("nobody.z."), Rcode::NXRRSET),
        (update().in_use("nobody.z.").in_use("elsewhere."), Rcode::NXDOMAIN),
        (update().in_use("elsewhere.").in_use("nobody.z."), Rcode::NOTZONE),
    ] {
        assert_eq!(bench.rcode(&update), rcode, "{update:?}");
    }
    // They come before the question what the requester may change, and behind the one whether it may change anything.
    let foreign = || update().add("elsewhere.z. A 192.0.2.1");
    assert_eq!(bench.rcode(&foreign()), Rcode::REFUSED);
    assert_eq!(bench.rcode(&foreign().in_use("nobody.z.")), Rcode::NXDOMAIN);
    bench.access = UpdateAccess::new(Vec::new());
    assert_eq!(bench.rcode(&register().in_use("nobody.z.")), Rcode::REFUSED);
    assert_eq!(bench.rcode(&register()), Rcode::REFUSED);
}

#[test]
fn malformed_changes_are_formerr_and_change_nothing_of_the_message() {
    let bench = Bench::new();
    for (update, rcode) in [
        (register().raw_change("a.x.z.", 255, 1, 0, &[]), Rcode::FORMERR),
        (register().raw_change("a.x.z.", 252, 255, 0, &[]), Rcode::FORMERR),
        (register().raw_change("a.x.z.", 1, 255, 1, &[]), Rcode::FORMERR),
        (register().raw_change("a.x.z.", 1, 255, 0, &[1, 2, 3, 4]), Rcode::FORMERR),
        (register().raw_change("a.x.z.", 1, 254, 5, &[1, 2, 3, 4]), Rcode::FORMERR),
        (register().raw_change("a.x.z.", 1, 1, 0, &[1, 2, 3]), Rcode::FORMERR),
        (register().raw_change("a.x.z.", 1, 3, 0, &[]), Rcode::FORMERR),
        (register().add("elsewhere. A 192.0.2.1"), Rcode::NOTZONE),
    ] {
        assert_eq!(bench.rcode(&update), rcode, "{update:?}");
    }
}

#[test]
fn the_zone_section_must_name_the_zone_exactly() {
    let bench = Bench::new();
    let rcode = |update: Update| bench.read(&update.octets()).expect_err("a reply at once")[3] & 0xf;
    assert_eq!(rcode(Update::new("x.z.").add("a.x.z. A 192.0.2.1")), 9);
    assert_eq!(rcode(Update::new("y.")), 9);
    assert_eq!(rcode(update().ztype(1)), 1);
    assert!(bench.read(&Update::new("Z.").octets()).is_ok());
}

#[test]
fn older_signatures_are_replays_and_the_same_one_has_the_same_outcome() {
    let mut bench = Bench::new();
    let now = bench.now;
    let sign = |update: Update, time: u64| update.signed("a.", b"secret", time);
    let first = sign(register(), now);
    bench.apply(&first);
    assert!(matches!(bench.execute(&first), Ok(Execution::Repeat(outcome)) if outcome.granted.is_none()));
    assert_eq!(bench.execute(&sign(register(), now - 1)), Ok(Execution::Older));
    // The same second with another MAC is another message.
    assert!(matches!(bench.execute(&sign(register().id(8), now)), Ok(Execution::Apply(_))));
    // A removal leaves its mark: what was signed before does not bring the member back.
    let later = sign(register(), now + 1);
    bench.apply(&sign(update().delete_name("_x._tcp.z."), now + 2));
    assert_eq!(bench.execute(&later), Ok(Execution::Older));
    assert!(matches!(bench.execute(&sign(register(), now + 2)), Ok(Execution::Apply(_))));
    // Nor after somebody registered it unsigned.
    bench.apply(&register().octets());
    let old = sign(update().add("_x._tcp.z. SRV 0 9 99 a.x.z."), now + 1);
    assert!(!matches!(bench.execute(&old), Ok(Execution::Apply(_))));
    // Another member is another story.
    assert!(matches!(bench.execute(&sign(update().add("_x._tcp.z. SRV 0 0 80 b.x.z."), now)), Ok(Execution::Apply(_))));
}

#[test]
fn peer_address_completes_a_member_in_the_zone_that_has_none() {
    let mut bench = Bench::new();
    bench.rules.peer_address = true;
    bench.apply(&update().add("_x._tcp.z. SRV 0 0 80 a.x.z.").add("_x._tcp.z. SRV 0 0 80 far.example.").octets());
    assert_eq!(bench.addresses("_x._tcp.z.", "a"), ["127.0.0.1"]);
    assert!(bench.addresses("_x._tcp.z.", &hashed_id("far", "far.example.", 80)).is_empty());
    bench.rules.peer_address = false;
    bench.apply(&update().add("_x._tcp.z. SRV 0 0 80 b.x.z.").octets());
    assert!(bench.addresses("_x._tcp.z.", "b").is_empty());
    assert_eq!(bench.published("_x._tcp.z.", RecordType::SRV).len(), 3);
}

#[test]
fn who_forwards_for_others_does_not_lend_its_address() {
    let mut bench = Bench::new();
    bench.rules.peer_address = true;
    bench.rules.forwarders = vec!["192.0.2.54".parse().unwrap()];
    let now = bench.now;
    for (id, peer, expected) in [("a", "192.0.2.7", vec!["192.0.2.7"]), ("b", "192.0.2.54", vec![])] {
        bench.peer = SocketAddr::new(peer.parse().unwrap(), 5000);
        bench.apply(&update().add(&format!("_x._tcp.z. SRV 0 0 80 {id}.x.z.")).signed("root.", b"secret", now));
        assert_eq!(bench.addresses("_x._tcp.z.", id), expected);
    }
}

#[test]
fn a_custom_target_in_the_zone_gets_the_addresses_that_come_with_it() {
    let mut bench = Bench::new();
    bench.apply(&update().add("node7.z. A 192.0.2.7").add("_x._tcp.z. SRV 0 0 80 node7.z.").octets());
    let id = hashed_id("node7", "node7.z.", 80);
    assert_eq!(bench.addresses("_x._tcp.z.", &id), ["192.0.2.7"]);
    assert_eq!(bench.published("node7.z.", RecordType::A), [[192, 0, 2, 7]]);
    assert_eq!(bench.published("x.z.", RecordType::A), [[192, 0, 2, 7]]);
    // A second service on the same host finds them.
    bench.apply(&update().add("_y._tcp.z. SRV 0 0 90 node7.z.").octets());
    assert_eq!(bench.addresses("_y._tcp.z.", &hashed_id("node7", "node7.z.", 90)), ["192.0.2.7"]);
}

#[test]
fn what_derived_records_hold_can_not_be_added() {
    let bench = Bench::new();
    let now = bench.now;
    for text in ["_x._tcp.z. TXT x", "_x._tcp.z. CNAME t.z."] {
        assert_eq!(bench.refusal(&update().add(text).signed("root.", b"secret", now)).rcode, Rcode::REFUSED, "{text}");
    }
    // What is there already as a static record stays as it is.
    let Ok(Execution::Apply(outcome)) = bench.execute(&update().add("ns1.z. A 192.0.2.53").octets()) else { panic!() };
    assert_eq!(kinds(&outcome), (0, 0, 0));
}

#[test]
fn the_reply_to_an_update_carries_what_was_granted_or_why_not() {
    let bench = Bench::new();
    let reply = |update: Update, verdict: Verdict| {
        let mut out = Vec::new();
        bench.read(&update.octets()).unwrap().reply(&verdict, bench.time().wall, &mut out);
        out
    };
    let out = reply(register().lease(60), Verdict::Done(Some((60, None))));
    assert_eq!(&out[..12], &[0, 7, 0xa8, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(&out[out.len() - 8..], &[0, 2, 0, 4, 0, 0, 0, 60]);
    let out = reply(register().edns(), Verdict::Refused(Refusal::prohibited("no rule")));
    assert_eq!(out[3], 5);
    assert!(out.ends_with(b"\x00\x0f\x00\x09\x00\x12no rule"));
    // Without EDNS there is no place for it.
    let out = reply(register(), Verdict::Refused(Refusal::prohibited("no rule")));
    assert_eq!((out[3], out[11], out.len()), (5, 0, 12 + 3 + 4));
}
