//! Zones that are copies: NOTIFY, updates, and both TTLs of a SOA record.

use std::net::IpAddr;

use crate::base::{Epoch, RecordType, Ttl};
use crate::dns::edns::ExtendedError;
use crate::dns::notify;
use crate::dns::respond::{Forward, Source};
use crate::dns::wire::{Envelope as WireEnvelope, Question, Rcode};
use crate::zone::{Record, Rrset, StaticNode, Zone, copy};

use super::*;

const ORIGIN: &str = "copy.z.";
const SERIAL: u32 = 41;

fn soa(serial: u32, ttl: u32, minimum: u32) -> Record {
    let words = [serial, 30, 5, 3600, minimum].map(u32::to_be_bytes).concat();
    let octets = [name("ns1.z.").as_wire(), name("h.z.").as_wire(), &words].concat();
    Record { owner: name(ORIGIN), rtype: RecordType::SOA, ttl: Ttl(ttl), rdata: octets.into() }
}

fn copied(soa: &Record) -> Zone {
    let mut zone = Zone::new(Arc::new(copy::settings_of(soa).unwrap()), Epoch(0));
    let ns = Rrset { rtype: RecordType::NS, ttl: Ttl(60), rdatas: vec![name("ns1.z.").as_wire().into()] };
    let set = |owner: &str, rtype, octets: &[u8]| {
        let rrset = Rrset { rtype, ttl: Ttl(60), rdatas: vec![octets.into()] };
        StaticNode { name: name(owner), rrsets: vec![rrset] }
    };
    let nodes = vec![
        StaticNode { name: name(ORIGIN), rrsets: vec![ns] },
        set("*.wild.copy.z.", RecordType::TXT, &[1, 7]),
        set("alias.copy.z.", RecordType::CNAME, name("none.copy.z.").as_wire()),
    ];
    for change in copy::replace(zone.contents(), soa, nodes).unwrap() {
        zone.change(scenes::caused(change), Wall(0));
    }
    let staged = zone.stage_copy(copy::epoch_after(Epoch(0), crate::zone::settings::serial_of(soa)), Wall(0));
    zone.publish(staged);
    zone
}

/// A server with a zone of its own, `svc.z.`, and this copy.
fn server(zone: Option<&Zone>, primaries: &[&str], key: Option<&str>) -> Server {
    let mut server = Server::new();
    let source = Source {
        primaries: primaries.iter().map(|primary| primary.parse::<IpAddr>().unwrap()).collect(),
        key: key.map(name),
    };
    let answers = ArcSwapOption::from(zone.map(|zone| Arc::new(Answers::build(zone.snapshot()))));
    let source = ArcSwapOption::from_pointee(source);
    let served = Arc::new(ServedZone { answers, source, ..ServedZone::new(name(ORIGIN)) });
    server.zones = Zones::new(server.zones.iter().cloned().chain([served]));
    server
}

/// The peer of these tests is the primary.
fn of_the_peer() -> Server {
    server(Some(&copied(&soa(SERIAL, 60, 60))), &["192.0.2.1"], None)
}

fn notify_of(zone: &str, serial: u32) -> Vec<u8> {
    notify::request(7, &Record { owner: name(zone), ..soa(serial, 60, 60) })
}

fn error_text(reply: &[u8]) -> (Rcode, Option<ExtendedError>) {
    let message: WireEnvelope<'_, Option<Question<'_>>> = WireEnvelope::parse_transfer(reply).unwrap();
    (message.rcode(), message.edns.and_then(|edns| edns.extended_error()))
}

/// The same with an OPT record, so that the reply says more.
fn with_edns(mut packet: Vec<u8>) -> Vec<u8> {
    packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    packet[11] += 1;
    packet
}

#[test]
fn a_notify_of_a_primary_is_acknowledged_and_heeded() {
    let server = of_the_peer();
    for transport in [Transport::Udp, Transport::Tcp] {
        let sent = notify_of(ORIGIN, SERIAL + 1);
        let (verdict, out) = server.handle(&sent, transport);
        assert!(matches!(&verdict, Verdict::Notified(zone) if *zone == name(ORIGIN)), "{verdict:?}");
        let reply = Message::from_vec(&out).unwrap();
        assert_eq!((reply.metadata.id, reply.metadata.op_code), (7, OpCode::Notify));
        assert_eq!(reply.metadata.message_type, MessageType::Response);
        assert!(reply.metadata.authoritative && reply.answers.is_empty() && reply.queries.len() == 1);
        assert_eq!(error_text(&out).0, Rcode::NOERROR);
    }
    // Without the hint, too (RFC 1996 §3.7).
    let mut bare = notify_of(ORIGIN, 1);
    bare.truncate(12 + ORIGIN.len() + 1 + 4);
    bare[7] = 0;
    assert!(matches!(server.handle(&bare, Transport::Udp).0, Verdict::Notified(_)));
}

#[test]
fn a_notify_of_what_is_here_is_acknowledged_and_not_heeded() {
    let (verdict, out) = of_the_peer().handle(&notify_of(ORIGIN, SERIAL), Transport::Udp);
    assert!(matches!(verdict, Verdict::Reply), "{verdict:?}");
    assert_eq!(error_text(&out).0, Rcode::NOERROR);
    // There is nothing here: whatever the primary has is news.
    let server = server(None, &["192.0.2.1"], None);
    assert!(matches!(server.handle(&notify_of(ORIGIN, SERIAL), Transport::Udp).0, Verdict::Notified(_)));
}

#[test]
fn a_notify_of_anybody_else_is_refused() {
    let server = server(Some(&copied(&soa(SERIAL, 60, 60))), &["192.0.2.2"], Some("k."));
    let notify = with_edns(notify_of(ORIGIN, SERIAL + 1));
    let (rcode, error) = error_text(&server.reply(&notify));
    assert_eq!(rcode, Rcode::REFUSED);
    assert!(error.unwrap().text.contains("none of the zone's primaries"));
    // With the key of the zone, from wherever; with another one, from nowhere.
    let key = |key: &str| sign(notify_of(ORIGIN, SERIAL + 1), key, SECRET, NOW, 300);
    let (verdict, out) = server.handle(&key("k."), Transport::Udp);
    assert!(matches!(verdict, Verdict::Notified(_)), "{verdict:?}");
    assert!(Message::from_vec(&out).unwrap().signature.is_some(), "and its acknowledgement is signed");
    assert_eq!(error_text(&server.reply(&key("hmac-sha256.key."))).0, Rcode::REFUSED);
    assert_eq!(error_text(&server.reply(&key("nobody."))).0, Rcode::NOTAUTH);
}

#[test]
fn a_notify_of_anything_but_a_copy_is_told_so() {
    let server = of_the_peer();
    let rcode = |packet: &[u8]| error_text(&server.reply(packet)).0;
    assert_eq!(rcode(&notify_of("svc.z.", 9)), Rcode::REFUSED, "our own");
    assert_eq!(rcode(&notify_of("other.z.", 9)), Rcode::NOTAUTH);
    assert_eq!(rcode(&notify_of("below.copy.z.", 9)), Rcode::NOTAUTH, "not the apex");
    let mut of_ns = notify_of(ORIGIN, 9);
    let qtype = 12 + ORIGIN.len() + 1;
    of_ns[qtype + 1] = 2;
    assert_eq!(rcode(&of_ns), Rcode::NOTIMP);
    let mut cut = notify_of(ORIGIN, 9);
    let last = cut.len() - 1;
    cut.truncate(last);
    assert_eq!(rcode(&cut), Rcode::FORMERR);
}

fn update_of_copy() -> Vec<u8> {
    Update::new(ORIGIN).add("h.copy.z. A 192.0.2.1").octets()
}

#[test]
fn an_unsigned_update_of_a_copy_is_refused_and_says_where_to_go() {
    let server = of_the_peer();
    let (rcode, error) = error_text(&server.reply(&with_edns(update_of_copy())));
    let error = error.unwrap();
    assert_eq!((rcode, error.code), (Rcode::REFUSED, ExtendedError::PROHIBITED));
    assert!(error.text.contains("send it to the primary"), "{error:?}");
}

#[test]
fn a_signed_update_of_a_copy_goes_on_to_the_primary() {
    let server = server(None, &["192.0.2.9"], None);
    let signed = |key: &str, secret: &[u8], time| sign(update_of_copy(), key, secret, time, 300);
    let forwarded = |packet: &[u8]| match server.handle(packet, Transport::Udp).0 {
        Verdict::Forward(Forward { zone, is_verified }) => Some((zone, is_verified)),
        _ => None,
    };
    assert_eq!(forwarded(&signed("k.", SECRET, NOW)), Some((name(ORIGIN), true)));
    assert_eq!(forwarded(&signed("nobody.", SECRET, NOW)), Some((name(ORIGIN), false)), "the primary may know it");
    // What is wrong for sure goes no further (RFC 8945 §5.2).
    for (wrong, what) in [(signed("k.", b"another", NOW), "signature"), (signed("k.", SECRET, NOW - 4000), "time")] {
        assert_eq!(forwarded(&wrong), None, "{what}");
        assert_eq!(error_text(&server.reply(&wrong)).0, Rcode::NOTAUTH, "{what}");
    }
    // A zone of our own is as it was.
    let own = Update::new("svc.z.").add("h.svc.z. A 192.0.2.1").octets();
    let unknown = sign(own, "nobody.", SECRET, NOW, 300);
    assert_eq!(error_text(&server.reply(&unknown)).0, Rcode::NOTAUTH);
    // Queries with a key that is not known aren't forwarded.
    let mut query = notify_of(ORIGIN, 1);
    query.truncate(12 + ORIGIN.len() + 1 + 4);
    (query[2], query[7]) = (0, 0);
    let unknown = sign(query, "nobody.", SECRET, NOW, 300);
    assert_eq!(error_text(&server.reply(&unknown)).0, Rcode::NOTAUTH);
}

#[test]
fn an_update_that_comes_from_a_primary_goes_no_further() {
    let server = server(None, &["192.0.2.1", "127.0.0.1"], None);
    let packets = ["k.", "nobody."].map(|key| sign(with_edns(update_of_copy()), key, SECRET, NOW, 300));
    for packet in &packets {
        for peer in ["192.0.2.1:5000", "[::ffff:192.0.2.1]:5000"] {
            let (verdict, out) = server.handle_from(packet, peer, Transport::Udp);
            assert!(matches!(verdict, Verdict::Reply), "{verdict:?}");
            let (rcode, error) = error_text(&out);
            assert_eq!(rcode, Rcode::REFUSED);
            assert!(error.unwrap().text.contains("the address of one of the zone's primaries"));
        }
        // On loopback, servers and agents share an address.
        for peer in ["192.0.2.2:5000", "127.0.0.1:5000"] {
            assert!(matches!(server.handle_from(packet, peer, Transport::Udp).0, Verdict::Forward(_)), "{peer}");
        }
    }
    let (_, out) = server.handle_from(&packets[0], "192.0.2.1:5000", Transport::Udp);
    assert!(Message::from_vec(&out).unwrap().signature.is_some(), "a key that is known here signs the refusal");
}

/// Answers are signed anew for TLS, which takes the key.
#[test]
fn over_tls_only_updates_with_a_known_key_are_forwarded() {
    let server = server(None, &["192.0.2.9"], None);
    let signed = |key: &str| sign(with_edns(update_of_copy()), key, SECRET, NOW, 300);
    let (verdict, _) = server.handle(&signed("k."), Transport::Tls);
    assert!(matches!(&verdict, Verdict::Forward(Forward { is_verified: true, .. })), "{verdict:?}");
    let (verdict, out) = server.handle(&signed("nobody."), Transport::Tls);
    assert!(matches!(verdict, Verdict::Reply), "{verdict:?}");
    let (rcode, error) = error_text(&out);
    assert_eq!(rcode, Rcode::REFUSED);
    assert!(error.unwrap().text.contains("over TLS"));
}

/// RFC 2308 §3 and §5: a negative answer has the lesser of both TTLs.
#[test]
fn both_ttls_of_a_soa_record_are_heeded() {
    for (ttl, minimum) in [(300, 20), (20, 300)] {
        let server = server(Some(&copied(&soa(SERIAL, ttl, minimum))), &["192.0.2.1"], None);
        let ask = |owner: &str, qtype| {
            let mut query = Message::new(9, MessageType::Query, OpCode::Query);
            query.add_query(Query::query(WireName::from_str(owner).unwrap(), qtype));
            Message::from_vec(&server.reply(&query.to_vec().unwrap())).unwrap()
        };
        let answer = ask(ORIGIN, WireType::SOA);
        assert_eq!(answer.answers[0].ttl, ttl);
        let RData::SOA(data) = &answer.answers[0].data else { panic!("{answer:?}") };
        assert_eq!((data.minimum, data.serial), (minimum, SERIAL));
        for (owner, qtype) in [
            (ORIGIN, WireType::TXT),
            ("none.copy.z.", WireType::A),
            ("a.wild.copy.z.", WireType::A),
            ("alias.copy.z.", WireType::A),
        ] {
            let answer = ask(owner, qtype);
            assert_eq!(answer.authorities[0].ttl, 20, "{answer:?}");
        }
    }
}

#[test]
fn a_copy_that_is_not_there_is_servfail() {
    let server = server(None, &["192.0.2.1"], None);
    let mut query = Message::new(9, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(WireName::from_str(ORIGIN).unwrap(), WireType::SOA));
    let (rcode, error) = error_text(&server.reply(&with_edns(query.to_vec().unwrap())));
    assert_eq!(rcode, Rcode::SERVFAIL);
    assert!(error.unwrap().text.contains("missing or has expired"));
}
