//! Sets that are filled until one more is refused are answered whole, with everything around them that takes the most
//! octets: the longest question and chain of aliases, a cookie, NSID, keepalive and a signature.

use crate::answer::Answers;
use crate::base::limits::{CHAIN_LINKS, HOST_SERVICES, MESSAGE_OCTETS, SEAL_OCTETS};
use crate::dns::cookie::{COOKIE_OCTETS, Cookies, Secret};
use crate::dns::identity::IDENTITY_OCTETS;
use crate::dns::messages::{hashed_id, sign};
use crate::dns::wire::Envelope;
use crate::zone::{HostName, ServiceSettings};

use super::*;

/// What is asked for at the end of each chain.
const SETS: [(&str, RecordType); 6] = [
    ("_s._tcp.z.", RecordType::SRV),
    ("x.z.", RecordType::AAAA),
    ("x.z.", RecordType::A),
    ("_p._tcp.z.", RecordType::PTR),
    ("host1.z.", RecordType::A),
    ("host3.z.", RecordType::TXT),
];

/// A name of a chain: as long as can be, and no two share more than the zone.
fn link(chain: usize, number: usize) -> String {
    let label = |c: char| format!("{}{chain:02}{number:02}", c.to_string().repeat(57));
    ['a', 'b', 'c', 'd'].map(label).join(".") + ".z."
}

/// A chain of aliases to each of the names.
fn chains() -> Vec<StaticNode> {
    let alias = |owner: &str, target: &str| {
        let rdatas = vec![name(target).as_wire().into()];
        let rrset = Rrset { rtype: RecordType::CNAME, ttl: Ttl(60), rdatas };
        StaticNode { name: name(owner), rrsets: vec![rrset] }
    };
    let chain = |(chain, (end, _)): (usize, &(&str, RecordType))| {
        let targets = (1..CHAIN_LINKS - 1).map(|number| link(chain, number)).chain([(*end).to_owned()]);
        targets.enumerate().map(|(number, target)| alias(&link(chain, number), &target)).collect::<Vec<_>>()
    };
    SETS.iter().enumerate().flat_map(chain).collect()
}

/// A stage with the chains, a service that is announced, and one without an address set of its own.
fn stage() -> Stage {
    let mut stage = Stage::new();
    let service =
        |text: &str, host_name, dns_sd| ServiceSettings { host_name, dns_sd, ..ServiceSettings::of(name(text)) };
    let services =
        vec![service("_p._tcp.z.", HostName::Default, true), service("_x._sctp.z.", HostName::Unpublished, false)];
    let settings = Settings { services, ..(*Universe::new("z.").settings()).clone() };
    let configuration =
        Configuration { settings: Arc::new(settings), statics: chains(), policy: stage.publisher.policy.clone() };
    stage.publisher.reconfigure(configuration, stage.time()).expect("nobody is registered");
    stage.seal().expect("a change");
    stage.end(&Appended::Committed).expect("visible");
    assert_eq!(stage.publisher.take_configured(), Some(Ok(())));
    stage
}

/// Sends updates of so many registrations, then of fewer, until not even one is taken.
fn fill(stage: &mut Stage, register: impl Fn(Update, u16) -> Update) -> u16 {
    let (mut taken, mut id) = (0, 0);
    for step in [64, 8, 1] {
        loop {
            id += 1;
            stage.send(id, (taken..taken + step).fold(update(), &register));
            match stage.replies().as_slice() {
                [] => taken += step,
                [(_, REFUSED)] => break,
                other => panic!("{other:?}"),
            }
        }
    }
    taken
}

fn commit(stage: &mut Stage) {
    stage.seal().expect("a change");
    stage.end(&Appended::Committed).expect("visible");
    assert!(stage.replies().iter().all(|(_, rcode)| *rcode == NOERROR));
}

/// Asks what is published over TCP, signed and with all options; the answer's count of answer records and its octets.
fn ask(stage: &Stage, owner: &str, rtype: RecordType) -> (u16, usize) {
    let answers = Answers::build(stage.publisher.snapshot());
    let answers = ArcSwapOption::from_pointee(answers);
    let served = ServedZone { answers, ..ServedZone::new(name("z.")) };
    let key = link(99, 99);
    let identity = Identity { nsid: Some(vec![7; IDENTITY_OCTETS].into()), version: None };
    let context = Context {
        tcp_idle: Duration::from_secs(10),
        transfers: true,
        cookies: Some(&Cookies::new(&Secret([7; 16]), &[])),
        rate: None,
        rotate: false,
        zones: &Zones::new([Arc::new(served)]),
        keys: &Keys::new([TsigKey::new(name(&key), Algorithm::HmacSha256, b"secret")]),
        identity: &identity,
        udp_size: 1232,
        now: stage.time().wall,
        peer: "127.0.0.1:5000".parse::<SocketAddr>().unwrap(),
        transport: Transport::Tcp,
    };
    let mut query = vec![0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    query.extend_from_slice(name(owner).as_wire());
    query.extend_from_slice(&rtype.0.to_be_bytes());
    // NSID, keepalive and a cookie.
    query.extend_from_slice(&[0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 20, 0, 3, 0, 0, 0, 11, 0, 0]);
    query.extend_from_slice(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut out = Vec::new();
    let verdict = respond(&context, &sign(query, &key, b"secret", stage.seconds(), 300), &mut out);
    assert!(matches!(verdict, Answer::Reply));
    assert_eq!((out[2] & 2, out[3] & 15), (0, 0), "{owner} {rtype}: TC and rcode");
    let envelope = Envelope::parse(&out).expect("our own answers can be read");
    assert!(envelope.tsig.is_some() && envelope.edns.is_some());
    // A MAC of HMAC-SHA-512 has 32 octets more.
    assert!(out.len() + 32 <= MESSAGE_OCTETS, "{owner} {rtype}: {} octets", out.len());
    (envelope.header.counts[1], out.len())
}

/// Asks for each set itself and through its chain.
fn assert_whole(stage: &Stage, set: usize, records: u16) {
    let (owner, rtype) = SETS[set];
    assert_eq!(ask(stage, owner, rtype).0, records, "{owner} {rtype}");
    let links = u16::try_from(CHAIN_LINKS - 1).unwrap();
    assert_eq!(ask(stage, &link(set, 0), rtype).0, records + links, "{owner} {rtype} behind its chain");
}

#[test]
fn what_is_kept_free_is_enough_for_every_option_and_signature() {
    let key = 255 + 10 + 13 + 16 + 64 + 6; // name, fixed part, hmac-sha512., timers and lengths, MAC, Other Data
    let opt = 11 + (4 + COOKIE_OCTETS) + (4 + IDENTITY_OCTETS) + 6;
    assert!(key + opt <= SEAL_OCTETS);
}

#[test]
fn a_full_srv_set_is_answered_whole() {
    let mut stage = stage();
    let far = [&*"f".repeat(60), &"e".repeat(60)].join(".");
    let members = fill(&mut stage, |update, port| update.add(&format!("_s._tcp.z. SRV 0 0 {port} t.{far}.example.")));
    assert_eq!(members, 56_000 / 151);
    commit(&mut stage);
    assert_whole(&stage, 0, members);
}

#[test]
fn a_full_address_set_of_services_and_of_members_that_chose_its_name_is_answered_whole() {
    let mut stage = stage();
    let register = |update: Update, number: u16, from: u16| {
        let service = ["_x._tcp", "_x._udp"][usize::from(number % 2)];
        let update = update.add(&format!("{service}.z. SRV 0 0 80 m{number}.x.z."));
        (0..16)
            .fold(update, |update, host| update.add(&format!("m{number}.x.z. AAAA fd00::{from:x}:{number:x}:{host:x}")))
    };
    let mut members = fill(&mut stage, |update, number| register(update, number, 1));
    assert_eq!(members, 48_000 / 28 / 16);
    // Two addresses were left.
    stage.send(
        2000,
        update().add("_x._tcp.z. SRV 0 0 80 last.x.z.").add("last.x.z. AAAA fd00::7").add("last.x.z. AAAA fd00::8"),
    );
    assert_eq!(stage.replies(), []);
    members = members * 16 + 2;
    // With the set's name as their target: each sends addresses at its own name.
    let guests = fill(&mut stage, |update, port| {
        let host = format!("{}.x.z.", hashed_id("x", "x.z.", port));
        let update = update.add(&format!("_x._sctp.z. SRV 0 0 {port} x.z.")).delete_rrset(&host, "AAAA");
        (0..15).fold(update, |update, last| update.add(&format!("{host} AAAA fd00::9:{port:x}:{last:x}")))
    });
    assert_eq!(guests, 285 / 15);
    commit(&mut stage);
    assert_whole(&stage, 1, members + 285);
    // The other family has its own room.
    let more = fill(&mut stage, |update, number| {
        let update = update.add(&format!("_x._tcp.z. SRV 0 0 80 v{number}.x.z."));
        (0..16).fold(update, |update, host| {
            update.add(&format!("v{number}.x.z. A 10.{}.{}.{host}", number / 250, number % 250))
        })
    });
    assert_eq!(more, 48_000 / 16 / 16);
    commit(&mut stage);
    assert_whole(&stage, 2, more * 16);
    assert_whole(&stage, 1, members + 285);
}

#[test]
fn a_full_list_of_instances_is_answered_whole() {
    let mut stage = stage();
    let long = "i".repeat(58);
    let members =
        fill(&mut stage, |update, number| update.add(&format!("_p._tcp.z. SRV 0 0 80 {long}-{number:04}.p.z.")));
    commit(&mut stage);
    // 87 octets an instance: its name, whole.
    assert_eq!(members, 56_000 / 87);
    assert_whole(&stage, 3, members);
    assert_eq!(ask(&stage, "_p._tcp.z.", RecordType::SRV).0, members);
}

#[test]
fn full_leased_sets_are_answered_whole_also_when_marks_of_services_join_them() {
    let mut stage = stage();
    let hosts =
        fill(&mut stage, |update, number| update.add(&format!("host1.z. A 10.1.{}.{}", number / 250, number % 250)));
    assert_eq!(hosts, 3000);
    let services = (0..HOST_SERVICES).fold(update(), |update, number| {
        let transport = format!("_{number:02}{}", "t".repeat(60));
        update.add(&format!("_host3.{transport}.z. SRV 0 0 80 a.host3.z."))
    });
    stage.send(5000, services.add("a.host3.z. A 192.0.2.1"));
    commit(&mut stage);
    let text = "t".repeat(200);
    let texts = fill(&mut stage, |update, number| update.add(&format!("host3.z. TXT {text}{number:04}")));
    commit(&mut stage);
    assert_whole(&stage, 4, hosts);
    assert_whole(&stage, 5, texts);
    // Nobody is left in any of the services: their host name says whose it is, beside the records.
    let leave = (0..HOST_SERVICES).fold(update(), |update, number| {
        let transport = format!("_{number:02}{}", "t".repeat(60));
        update.delete_rrset(&format!("_host3.{transport}.z."), "SRV")
    });
    stage.send(6000, leave);
    commit(&mut stage);
    assert_whole(&stage, 5, texts + u16::try_from(HOST_SERVICES).unwrap());
}

#[test]
fn one_full_set_keeps_no_one_from_another() {
    let mut stage = stage();
    let far = [&*"f".repeat(60), &"e".repeat(60)].join(".");
    fill(&mut stage, |update, port| update.add(&format!("_s._tcp.z. SRV 0 0 {port} t.{far}.example.")));
    let before = stage.publisher.counters.at(Limit::RrsetOctets);
    assert_eq!(before, 3, "one for each step");
    stage.send(7000, srv("a"));
    commit(&mut stage);
    assert!(stage.is_published("a"));
    assert_eq!(stage.publisher.counters.at(Limit::RrsetOctets), before);
    // A withdrawal in the batch makes room in the batch.
    stage.send(7001, update().delete_record(&format!("_s._tcp.z. SRV 0 0 7 t.{far}.example.")));
    stage.send(7002, update().add(&format!("_s._tcp.z. SRV 0 0 7777 t.{far}.example.")));
    stage.send(7003, update().add(&format!("_s._tcp.z. SRV 0 0 7778 t.{far}.example.")));
    assert_eq!(stage.replies(), [(7003, REFUSED)]);
    commit(&mut stage);
}

#[test]
fn a_configuration_that_would_make_a_set_too_large_is_refused_and_leaves_all_as_it_was() {
    let mut stage = stage();
    fill(&mut stage, |update, number| {
        let update = update.add(&format!("_x._tcp.z. SRV 0 0 80 m{number}.x.z."));
        (0..16).fold(update, |update, host| update.add(&format!("m{number}.x.z. AAAA fd00::{number:x}:{host:x}")))
    });
    commit(&mut stage);
    stage.send(
        8000,
        update()
            .add("_y._tcp.z. SRV 0 0 80 a.y.z.")
            .add("a.y.z. AAAA fd01::1")
            .add("a.y.z. AAAA fd01::2")
            .add("a.y.z. AAAA fd01::3"),
    );
    commit(&mut stage);
    let before = stage.state();
    let mut settings = (**stage.publisher.zone.contents().settings()).clone();
    let merged = HostName::Label(b"x".as_slice().into());
    settings.services.push(ServiceSettings { host_name: merged, ..ServiceSettings::of(name("_y._tcp.z.")) });
    let mut policy = stage.publisher.policy.clone();
    policy.rules.peer_address = true;
    let configuration = Configuration { settings: Arc::new(settings), statics: chains(), policy };
    let clash = stage.publisher.reconfigure(configuration, stage.time()).expect_err("the sets would merge");
    assert_eq!(*clash.name(), name("x.z."));
    assert!(clash.to_string().contains("48000 octets of AAAA"), "{clash}");
    assert!(stage.tick().is_none());
    assert_eq!(stage.state(), before);
    assert!(!stage.publisher.policy.rules.peer_address && stage.publisher.take_configured().is_none());
}
