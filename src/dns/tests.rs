//! The protocol as a whole: signatures against another implementation (hickory's), and hostile packets.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name as WireName, RData, Record, RecordType as WireType, TSigner};

use crate::answer::Answers;
use crate::base::limits::UPDATE_RECORDS;
use crate::base::{Limit, Monotonic, Wall};
use crate::membership::access::{TransferAccess, TransferEntry};
use crate::zone::scenes;

use super::cookie::{Cookies, Secret};
use super::edns::ExtendedError;
use super::identity::Identity;
use super::messages::{Update, name, sign};
use super::quick;
use super::rate::Rate;
use super::reply::Transport;
use super::respond::{Context, ServedZone, Verdict, Zones, respond};
use super::tsig::{Algorithm, Key, Keys};
use super::wire::Envelope;

const NOW: u64 = 1_700_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const PEER: &str = "192.0.2.1:5000";

mod abuse;
mod copies;
mod quick_queries;

struct Server {
    zones: Zones,
    keys: Keys,
    identity: Identity,
    transfers: bool,
    cookies: Option<Cookies>,
    rate: Option<Rate>,
}

impl Server {
    fn new() -> Server {
        let zone = scenes::zone_with_members("svc.z.", &["a", "b", "c"]);
        let answers = ArcSwapOption::from_pointee(Answers::build(zone.snapshot()));
        let served = Arc::new(ServedZone { answers, ..ServedZone::new(name("svc.z.")) });
        let keys = Algorithm::ALL
            .map(|algorithm| Key::new(name(&format!("{}.key.", algorithm.text())), algorithm, SECRET))
            .into_iter()
            .chain(["k.", &long_key()].map(|key| Key::new(name(key), Algorithm::HmacSha256, SECRET)));
        Server {
            zones: Zones::new([served]),
            keys: Keys::new(keys),
            identity: Identity::default(),
            transfers: true,
            cookies: None,
            rate: None,
        }
    }

    fn zone(&self) -> &ServedZone {
        self.zones.find(name("svc.z.").as_wire()).unwrap()
    }

    fn handle(&self, packet: &[u8], transport: Transport) -> (Verdict, Vec<u8>) {
        self.handle_from(packet, PEER, transport)
    }

    fn context(&self, peer: &str, transport: Transport) -> Context<'_> {
        Context {
            tcp_idle: std::time::Duration::from_secs(10),
            zones: &self.zones,
            keys: &self.keys,
            identity: &self.identity,
            udp_size: 1232,
            now: Wall(NOW * 1000),
            peer: peer.parse::<SocketAddr>().unwrap(),
            transport,
            transfers: self.transfers,
            cookies: self.cookies.as_ref(),
            rate: self.rate.as_ref().map(|rate| (rate, Monotonic(0))),
            rotate: false,
        }
    }

    fn handle_from(&self, packet: &[u8], peer: &str, transport: Transport) -> (Verdict, Vec<u8>) {
        let context = self.context(peer, transport);
        let mut out = vec![1, 2, 3];
        let verdict = respond(&context, packet, &mut out);
        if transport == Transport::Udp {
            quick::tests::assert_same(&context, packet);
        }
        (verdict, out)
    }

    fn reply(&self, packet: &[u8]) -> Vec<u8> {
        let (verdict, out) = self.handle(packet, Transport::Udp);
        assert!(matches!(verdict, Verdict::Reply), "{verdict:?}");
        out
    }
}

fn long_key() -> String {
    format!("{}.{}.", "k".repeat(60), "y".repeat(60))
}

fn update() -> Update {
    Update::new("svc.z.").add("_x._tcp.svc.z. SRV 0 0 80 d.x.svc.z.").add("d.x.svc.z. A 192.0.2.4").lease(30)
}

fn query(text: &str, rtype: WireType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(WireName::from_str(text).unwrap(), rtype));
    message
}

/// The TSIG record of a message, as hickory reads it.
fn tsig_of(message: &[u8]) -> hickory_proto::rr::rdata::tsig::TSIG {
    Message::from_vec(message).unwrap().signature.expect("a TSIG record").data.clone()
}

/// An IXFR from this serial on, with the SOA record where RFC 1995 §3 wants it.
fn ixfr(serial: u32) -> Vec<u8> {
    ixfr_with("svc.z.", serial)
}

/// The same with the SOA record of another owner.
fn ixfr_with(owner: &str, serial: u32) -> Vec<u8> {
    let mut packet = query("svc.z.", WireType::IXFR).to_vec().unwrap();
    packet[9] = 1;
    packet.extend_from_slice(name(owner).as_wire());
    packet.extend_from_slice(&[0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0]);
    packet.extend_from_slice(&serial.to_be_bytes());
    packet.extend_from_slice(&[0; 16]);
    packet
}

/// With an OPT record, so that errors are explained.
fn with_edns(mut packet: Vec<u8>) -> Vec<u8> {
    packet[11] += 1;
    packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    packet
}

fn anywhere() -> TransferEntry {
    TransferEntry { key: None, network: Some("0.0.0.0/0".parse().unwrap()) }
}

/// Where the TSIG record of a message signed by [`sign`] starts.
fn tsig_start(signed: &[u8], key: &str) -> usize {
    signed.len() - (name(key).as_wire().len() + 10 + name("hmac-sha256.").as_wire().len() + 16 + 32)
}

#[test]
fn signatures_of_hickory_are_verified_and_ours_by_hickory() {
    let server = Server::new();
    for (algorithm, theirs) in Algorithm::ALL.into_iter().zip([
        TsigAlgorithm::HmacSha256,
        TsigAlgorithm::HmacSha384,
        TsigAlgorithm::HmacSha512,
    ]) {
        let key = WireName::from_str(&format!("{}.key.", algorithm.text())).unwrap();
        let signer = TSigner::new(SECRET.to_vec(), theirs, key, 300).unwrap();
        let mut message = query("_x._tcp.svc.z.", WireType::SRV);
        let (record, _) = signer.sign_message(&message, NOW).unwrap();
        let mac = record.data.mac.clone();
        message.set_signature(record);
        let reply = server.reply(&message.to_vec().unwrap());
        assert_eq!((reply[3] & 0xf, u16::from_be_bytes([reply[6], reply[7]])), (0, 3), "{}", algorithm.text());
        let (_, time, _) = signer.verify_message_byte(&reply, Some(&mac), true).expect("a signature that holds");
        assert_eq!(time, NOW);
        assert_eq!(tsig_of(&reply).mac.len(), algorithm.mac_len());
        // Under another request's MAC it doesn't.
        assert!(signer.verify_message_byte(&reply, Some(&mac[1..]), true).is_err());
        // An update of hickory's, with records of every class that updates use.
        let mut message = Message::new(78, MessageType::Query, OpCode::Update);
        message.add_query(Query::query(WireName::from_str("svc.z.").unwrap(), WireType::SOA));
        let owner = WireName::from_str("d.x.svc.z.").unwrap();
        message.add_authority(Record::from_rdata(owner, 5, RData::A(std::net::Ipv4Addr::new(192, 0, 2, 4).into())));
        let (record, _) = signer.sign_message(&message, NOW).unwrap();
        message.set_signature(record);
        let (verdict, _) = server.handle(&message.to_vec().unwrap(), Transport::Udp);
        let Verdict::Update(request) = verdict else { panic!("{verdict:?}") };
        assert_eq!(request.identity.key, Some(name(&format!("{}.key.", algorithm.text()))));
        let mut reply = Vec::new();
        request.reply(&super::update::Verdict::Done(None), Wall(NOW * 1000), &mut reply);
        let mac = message.signature.as_ref().unwrap().data.mac.clone();
        signer.verify_message_byte(&reply, Some(&mac), true).expect("a signature that holds");
    }
}

#[test]
fn a_message_with_any_bit_flipped_is_not_accepted() {
    // The id is replaced by the original one in the digest, and names are compared and digested without case
    // (RFC 8945 §4.3.2, §4.3.3): these bits don't count.
    let server = Server::new();
    let signed = update().signed("k.", SECRET, NOW);
    assert!(matches!(server.handle(&signed, Transport::Udp).0, Verdict::Update(_)));
    let start = tsig_start(&signed, "k.");
    let names = (start..start + 2).chain(start + 13..start + 13 + "Xhmac-sha256".len());
    let letters: Vec<usize> = names.filter(|&at| signed[at].is_ascii_alphabetic()).collect();
    for bit in 0..signed.len() * 8 {
        let mut flipped = signed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let free = bit < 16 || (letters.contains(&(bit / 8)) && bit % 8 == 5);
        let (verdict, _) = server.handle(&flipped, Transport::Udp);
        // Without its type the record is none of TSIG, and the update one that nobody has signed.
        let accepted = matches!(verdict, Verdict::Update(request) if request.identity.key.is_some());
        assert_eq!(accepted, free, "bit {} of octet {}", bit % 8, bit / 8);
    }
}

#[test]
fn algorithm_and_key_names_count_in_any_case() {
    let server = Server::new();
    let mut signed = update().signed("k.", SECRET, NOW);
    let start = tsig_start(&signed, "k.");
    let end = start + 3 + 10 + name("hmac-sha256.").as_wire().len();
    signed[start..end].make_ascii_uppercase();
    let (verdict, _) = server.handle(&signed, Transport::Udp);
    assert!(matches!(verdict, Verdict::Update(_)), "{verdict:?}");
}

#[test]
fn a_signature_out_of_its_time_is_answered_signed_with_both_times() {
    // RFC 8945 §5.2.3.
    let server = Server::new();
    let signer =
        TSigner::new(SECRET.to_vec(), TsigAlgorithm::HmacSha256, WireName::from_str("k.").unwrap(), 300).unwrap();
    for time in [NOW - 301, NOW + 301] {
        let signed = update().signed("k.", SECRET, time);
        let reply = server.reply(&signed);
        assert_eq!(reply[3] & 0xf, 9, "NOTAUTH");
        let tsig = tsig_of(&reply);
        assert_eq!(tsig.error.map(u16::from), Some(18), "BADTIME");
        assert_eq!(tsig.time, time, "the client's own time");
        assert_eq!(tsig.other, NOW.to_be_bytes()[2..], "and the server's");
        assert_eq!(tsig.oid, 7);
        let request_mac = tsig_of(&signed).mac;
        signer.verify_message_byte(&reply, Some(&request_mac), true).expect("a signature that holds");
    }
    for time in [NOW - 300, NOW + 300] {
        let (verdict, _) = server.handle(&update().signed("k.", SECRET, time), Transport::Udp);
        assert!(matches!(verdict, Verdict::Update(_)));
    }
    // A larger fudge than ours doesn't widen the window, a smaller one narrows it.
    let (verdict, _) = server.handle(&sign(update().octets(), "k.", SECRET, NOW - 301, 3000), Transport::Udp);
    assert!(matches!(verdict, Verdict::Reply));
    let (verdict, _) = server.handle(&sign(update().octets(), "k.", SECRET, NOW - 11, 10), Transport::Udp);
    assert!(matches!(verdict, Verdict::Reply));
}

#[test]
fn unknown_keys_and_wrong_macs_are_answered_without_a_mac() {
    // RFC 8945 §5.2.1, §5.2.2, §5.3.2.
    let server = Server::new();
    for (key, secret, error) in
        [("unknown.", SECRET, 17), ("k.", b"wrong".as_slice(), 16), ("hmac-sha512.key.", SECRET, 17)]
    {
        let reply = server.reply(&update().signed(key, secret, NOW));
        assert_eq!(reply[3] & 0xf, 9, "NOTAUTH");
        let tsig = tsig_of(&reply);
        assert_eq!((tsig.error.map(u16::from), tsig.mac.len(), tsig.other.len()), (Some(error), 0, 0));
        assert_eq!(Message::from_vec(&reply).unwrap().signature.unwrap().name, WireName::from_str(key).unwrap());
    }
}

#[test]
fn shortened_macs_are_badtrunc_and_absurd_ones_formerr() {
    // RFC 8945 §5.2.2.1, §5.2.4.
    let server = Server::new();
    let shortened = |len: usize| {
        let mut signed = update().signed("k.", SECRET, NOW);
        let mac = signed.len() - 6 - 32;
        signed.drain(mac + len..mac + 32);
        let rdlength = tsig_start(&update().signed("k.", SECRET, NOW), "k.") + 3 + 8;
        let old = u16::from_be_bytes([signed[rdlength], signed[rdlength + 1]]);
        let cut = u16::try_from(32 - len).unwrap();
        signed[rdlength..rdlength + 2].copy_from_slice(&(old - cut).to_be_bytes());
        signed[mac - 2..mac].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        server.reply(&signed)
    };
    let reply = shortened(16);
    assert_eq!((reply[3] & 0xf, tsig_of(&reply).error.map(u16::from)), (9, Some(22)));
    for len in [0, 9, 15] {
        let reply = shortened(len);
        assert_eq!(reply[3] & 0xf, 1, "{len}: FORMERR");
    }
}

#[test]
fn a_reply_stays_within_what_the_client_takes_whatever_it_explains() {
    let server = Server::new();
    // A zone that isn't ours, with a long name, signed, from a client that takes 512 octets.
    let zone = format!("{}.svc.z.", vec!["z".repeat(58); 4].join("."));
    let mut packet = Update::new(&zone).edns().octets();
    let opt = packet.windows(5).position(|octets| octets == [0, 0, 41, 4, 208]).unwrap();
    packet[opt + 3..opt + 5].copy_from_slice(&512u16.to_be_bytes());
    let packet = sign(packet, &long_key(), SECRET, NOW, 300);
    let reply = server.reply(&packet);
    assert_eq!(reply[3] & 0xf, 9);
    assert!(reply.len() <= 512, "{} octets", reply.len());
    assert!(Message::from_vec(&reply).unwrap().signature.is_some());
}

/// The names of question, key and algorithm come back in the reply, and may have 255 octets each.
#[test]
fn a_reply_whose_names_alone_are_too_long_is_cut_and_tells_so() {
    let server = Server::new();
    let long = format!("{}.{}.svc.z.", vec!["z".repeat(60); 3].join("."), "z".repeat(50));
    let question = query(&long, WireType::A).to_vec().unwrap();
    let signed = |key: &str, algorithm: &str| {
        let mac = [&[1, 44, 0, 32][..], &[7; 32], &[0; 6]].concat();
        let rdata = [name(algorithm).as_wire(), &NOW.to_be_bytes()[2..], &mac].concat();
        let mut packet = [&question[..], name(key).as_wire(), &[0, 250, 0, 255, 0, 0, 0, 0]].concat();
        packet.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
        packet.extend(rdata);
        packet[11] += 1;
        packet
    };
    for (key, algorithm, seals) in [(&long[..], "hmac-sha256.", 1), (&long, &long, 0)] {
        let packet = signed(key, algorithm);
        let reply = server.reply(&packet);
        assert!(reply.len() <= 512, "{} octets", reply.len());
        assert_eq!((reply[2] & 2, reply[3] & 0xf, &reply[4..12]), (2, 9, &[0, 0, 0, 0, 0, 0, 0, seals][..]));
        assert_eq!(Message::from_vec(&reply).unwrap().signature.is_some(), seals == 1);
        let (_, whole) = server.handle(&packet, Transport::Tcp);
        assert_eq!((whole[2] & 2, whole[3] & 0xf, &whole[4..12]), (0, 9, &[0, 1, 0, 0, 0, 0, 0, 1][..]));
    }
}

#[test]
fn opcodes_versions_classes_and_strange_zones_get_their_rcodes() {
    let server = Server::new();
    let plain = query("_x._tcp.svc.z.", WireType::SRV).to_vec().unwrap();
    let with = |at: usize, value: u8| {
        let mut packet = plain.clone();
        packet[at] = value;
        server.reply(&packet)
    };
    assert_eq!(with(2, 4 << 3)[3] & 0xf, 4, "NOTIFY is not implemented");
    assert_eq!(with(2, 2 << 3)[3] & 0xf, 4, "nor is STATUS");
    let chaos = with(plain.len() - 1, 3);
    assert_eq!((chaos[3] & 0xf, chaos[2] & 4), (5, 0), "REFUSED without AA");
    let outside = server.reply(&query("www.example.", WireType::A).to_vec().unwrap());
    assert_eq!((outside[3] & 0xf, outside[2] & 4), (5, 0));
    let mut versioned = plain.clone();
    versioned[11] = 1;
    versioned.extend_from_slice(&[0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0]);
    let reply = Message::from_vec(&server.reply(&versioned)).unwrap();
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS");
    // Two questions, none, or a second OPT: FORMERR of a header alone.
    assert_eq!(with(5, 2).len(), 12);
    assert_eq!(with(5, 0)[3] & 0xf, 1);
    let mut twice = versioned.clone();
    twice[11] = 2;
    twice.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    assert_eq!(server.reply(&twice)[3] & 0xf, 1);
    // A zone that isn't loaded.
    server.zones.find(name("svc.z.").as_wire()).unwrap().answers.store(None);
    let reply = server.reply(&plain);
    assert_eq!((reply[3] & 0xf, u16::from_be_bytes([reply[6], reply[7]])), (2, 0), "SERVFAIL, never an empty answer");
}

/// Small, fast, the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % below
    }

    fn octet(&mut self) -> u8 {
        // Octets that mean something in many places come more often.
        const TELLING: [u8; 14] = [0, 1, 2, 4, 8, 12, 41, 63, 64, 0x80, 0xc0, 250, 254, 255];
        match self.next(2) {
            0 => TELLING[self.next(TELLING.len())],
            _ => u8::try_from(self.next(256)).unwrap(),
        }
    }

    fn mutate(&mut self, packet: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.next(4) {
            let at = if packet.is_empty() { 0 } else { self.next(packet.len()) };
            match self.next(6) {
                0 => packet.truncate(at),
                1 => packet.insert(at, self.octet()),
                2 if !packet.is_empty() => drop(packet.remove(at)),
                3 => {
                    let from = self.next(other.len());
                    let to = from + self.next(other.len() - from);
                    packet.splice(at..at, other[from..to].iter().copied());
                }
                _ if !packet.is_empty() => packet[at] = self.octet(),
                _ => {}
            }
        }
    }
}

#[test]
fn hostile_packets_never_panic_and_get_one_fitting_reply_at_most() {
    let server = Server { cookies: Some(Cookies::new(&Secret([7; 16]), &[])), ..Server::new() };
    let mut with_option = query("a.x.svc.z.", WireType::A).to_vec().unwrap();
    with_option[11] = 1;
    with_option.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 6, 0, 10, 0, 2, 1, 2]);
    let with_cookie =
        [&[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8][..], b"a client"]
            .concat();
    let corpus: Vec<Vec<u8>> = vec![
        with_cookie,
        query("_x._tcp.svc.z.", WireType::SRV).to_vec().unwrap(),
        query("nobody.svc.z.", WireType::ANY).to_vec().unwrap(),
        with_option,
        update().octets(),
        update().signed("k.", SECRET, NOW),
        update().leases(5, 6).signed("k.", SECRET, NOW - 1000),
        update().in_use("svc.z.").equals("x.svc.z. A 192.0.2.1").delete_name("a.x.svc.z.").edns().octets(),
        update().delete_record("svc.z. MX 5 a.svc.z.").add("svc.z. SOA a. b. 1 2 3 4 5").octets(),
        sign(query("_x._tcp.svc.z.", WireType::SRV).to_vec().unwrap(), "k.", SECRET, NOW, 300),
        query("svc.z.", WireType::AXFR).to_vec().unwrap(),
        sign(query("svc.z.", WireType::AXFR).to_vec().unwrap(), "k.", SECRET, NOW, 300),
        ixfr(99),
        sign(ixfr(100), "k.", SECRET, NOW, 300),
    ];
    server.zone().transfer.store(Arc::new(TransferAccess(vec![anywhere()])));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut replies, mut updates, mut transfers, mut silences) = (0, 0, 0, 0);
    for round in 0..400_000 {
        let mut packet = corpus[random.next(corpus.len())].clone();
        let other = &corpus[random.next(corpus.len())];
        random.mutate(&mut packet, other);
        let transport = if round % 4 == 0 { Transport::Tcp } else { Transport::Udp };
        let (verdict, mut out) = server.handle(&packet, transport);
        let is_request = packet.len() >= 12 && packet[2] & 0x80 == 0;
        match verdict {
            Verdict::Silence => {
                assert!(!is_request);
                silences += 1;
                continue;
            }
            Verdict::Reply | Verdict::ReplyAtLimit(_) => replies += 1,
            Verdict::Notified(_) | Verdict::Forward(_) => panic!("no zone here is a copy"),
            Verdict::Drop(_) => panic!("there is no rate"),
            Verdict::Transfer(mut transfer) => {
                transfers += 1;
                assert!(transport == Transport::Tcp);
                assert!(!transfer.message(Wall(NOW * 1000), &mut out), "it is a small zone");
            }
            Verdict::Update(request) => {
                updates += 1;
                let verdict = match round % 3 {
                    0 => super::update::Verdict::Done(request.lease),
                    1 => super::update::Verdict::Refused(super::update::Refusal::prohibited("x".repeat(300))),
                    _ => super::update::Verdict::Replayed,
                };
                request.reply(&verdict, Wall(NOW * 1000), &mut out);
            }
        }
        assert!(is_request);
        assert!(out[2] & 0x80 != 0 && out[..2] == packet[..2]);
        assert_eq!(out[2] & 0x78, packet[2] & 0x78, "the opcode comes back");
        if out.len() > 12 {
            let envelope = Envelope::parse_transfer(&out).expect("our own replies can be read");
            let limit = envelope.edns.map_or(512, |_| 1232);
            assert!(transport == Transport::Tcp || out.len() <= limit, "{} octets", out.len());
        } else {
            assert_eq!(out[4..], [0; 8]);
        }
        if Message::from_vec(&packet).is_ok() {
            Message::from_vec(&out).expect("who can read the request can read the reply");
        }
    }
    assert!(replies > 100_000 && updates > 1_000 && silences > 1_000, "{replies} {updates} {silences}");
    assert!(transfers > 500, "{transfers}");
}

#[test]
fn an_update_with_too_many_records_is_refused_and_counts_at_its_limit() {
    let server = Server::new();
    let deletions = |count: usize| {
        let update = Update::new("svc.z.").edns();
        (0..count).fold(update, |update, _| update.delete_rrset("svc.z.", "A")).octets()
    };
    let (verdict, _) = server.handle(&deletions(UPDATE_RECORDS), Transport::Tcp);
    assert!(matches!(verdict, Verdict::Update(_)), "{verdict:?}");
    let (verdict, out) = server.handle(&deletions(UPDATE_RECORDS + 1), Transport::Tcp);
    assert!(matches!(verdict, Verdict::ReplyAtLimit(Limit::UpdateRecords)), "{verdict:?}");
    assert_eq!(out[3] & 0xf, 5);
    assert!(String::from_utf8_lossy(&out).contains("an update may have 4096 records; split it"));
}

#[test]
fn rubbish_is_silence_or_an_error() {
    let server = Server::new();
    let mut random = Random(42);
    for _ in 0..100_000 {
        let packet: Vec<u8> = (0..random.next(60)).map(|_| random.octet()).collect();
        let (verdict, out) = server.handle(&packet, Transport::Udp);
        let is_request = packet.len() >= 12 && packet[2] & 0x80 == 0;
        assert_eq!(matches!(verdict, Verdict::Silence), !is_request);
        if let Verdict::Reply = verdict {
            assert!(out.len() <= 512);
        }
    }
}

#[test]
fn update_leases_are_read_in_both_forms_only() {
    let server = Server::new();
    let lease = |option: &[u8]| {
        let mut packet = Update::new("svc.z.").edns().octets();
        let at = packet.len() - 2;
        packet[at..].copy_from_slice(&u16::try_from(option.len()).unwrap().to_be_bytes());
        packet.extend_from_slice(option);
        match server.handle(&packet, Transport::Udp) {
            (Verdict::Update(request), _) => Ok(request.lease),
            (_, out) => Err(out[3] & 0xf),
        }
    };
    assert_eq!(lease(&[]), Ok(None));
    assert_eq!(lease(&[0, 2, 0, 4, 0, 0, 1, 0]), Ok(Some((256, None))));
    assert_eq!(lease(&[0, 2, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2]), Ok(Some((1, Some(2)))));
    assert_eq!(lease(&[0, 10, 0, 1, 9, 0, 2, 0, 4, 0, 0, 1, 0]), Ok(Some((256, None))));
    for bad in [&[0, 2, 0, 3, 0, 0, 1][..], &[0, 2, 0, 4, 0, 0, 1], &[0, 2, 0], &[0, 2, 0, 0]] {
        assert_eq!(lease(bad), Err(1), "{bad:?}");
    }
}

/// The rcode and the code of the Extended DNS Error; `None` if a transfer begins.
fn refusal(server: &Server, packet: &[u8], peer: &str, transport: Transport) -> Option<(u8, u16)> {
    let (verdict, out) = server.handle_from(packet, peer, transport);
    match verdict {
        Verdict::Transfer(_) => None,
        Verdict::Reply | Verdict::ReplyAtLimit(Limit::Transfers) => {
            let message = Message::from_vec(&out).unwrap();
            assert!(message.answers.is_empty() && message.metadata.authoritative == (out[2] & 4 != 0));
            let option = message.edns.as_ref().and_then(|edns| edns.option(15.into()).cloned());
            let Some(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(15, data)) = option else {
                panic!("no reason given: {message:?}")
            };
            Some((out[3] & 0xf, u16::from_be_bytes([data[0], data[1]])))
        }
        other => panic!("{other:?}"),
    }
}

const LOOPBACK: &str = "127.0.0.1:5000";

fn axfr(zone: &str) -> Vec<u8> {
    with_edns(query(zone, WireType::AXFR).to_vec().unwrap())
}

#[test]
fn transfers_are_of_a_zone_by_its_apex_in_class_in_over_tcp() {
    let server = Server::new();
    let ask = |packet: Vec<u8>, transport| refusal(&server, &packet, LOOPBACK, transport);
    assert_eq!(ask(axfr("svc.z."), Transport::Tcp), None);
    assert_eq!(ask(axfr("SVC.z."), Transport::Tcp), None);
    // RFC 5936 §2.2.1: NOTAUTH for what is no zone here.
    for zone in ["x.svc.z.", "a.x.svc.z.", "nobody.svc.z.", "z.", ".", "elsewhere."] {
        for rtype in [WireType::AXFR, WireType::IXFR] {
            let packet = with_edns(query(zone, rtype).to_vec().unwrap());
            assert_eq!(ask(packet, Transport::Tcp), Some((9, ExtendedError::NOT_AUTHORITATIVE)), "{zone}");
        }
    }
    for class in [3, 4, 255] {
        let mut packet = query("svc.z.", WireType::AXFR).to_vec().unwrap();
        *packet.last_mut().unwrap() = class;
        assert_eq!(ask(with_edns(packet), Transport::Tcp), Some((9, ExtendedError::NOT_AUTHORITATIVE)));
    }
    // RFC 5936 §4.2.
    assert_eq!(ask(axfr("svc.z."), Transport::Udp), Some((5, ExtendedError::NOT_SUPPORTED)));
    for packet in [axfr("svc.z."), with_edns(ixfr(99))] {
        assert_eq!(ask(packet, Transport::Tls), Some((5, ExtendedError::NOT_SUPPORTED)));
    }
    server.zone().answers.store(None);
    for packet in [axfr("svc.z."), with_edns(ixfr(99))] {
        assert_eq!(ask(packet, Transport::Tcp), Some((2, ExtendedError::NOT_READY)));
    }
}

/// The data of the expire option.
fn expire(octets: &[u8]) -> Option<Vec<u8>> {
    let option = Message::from_vec(octets).unwrap().edns?.option(9.into()).cloned()?;
    let hickory_proto::rr::rdata::opt::EdnsOption::Unknown(9, data) = option else { panic!("{option:?}") };
    Some(data)
}

#[test]
fn whoever_asks_hears_for_how_long_the_zone_is_good() {
    let server = Server::new();
    let asking = |mut packet: Vec<u8>| {
        super::edns::ask_for_expire(&mut packet);
        packet
    };
    let soa = asking(query("SVC.z.", WireType::SOA).to_vec().unwrap());
    let seconds = |seconds: u32| Some(seconds.to_be_bytes().to_vec());
    let answer = |packet: &[u8]| server.handle_from(packet, LOOPBACK, Transport::Udp).1;
    let whole = server.zone().answers.load().as_deref().unwrap().snapshot().settings.expire;
    assert_eq!(expire(&answer(&soa)), seconds(whole));
    assert_eq!(expire(&answer(&with_edns(query("svc.z.", WireType::SOA).to_vec().unwrap()))), None, "not asked for");
    assert_eq!(expire(&answer(&asking(query("a.x.svc.z.", WireType::SOA).to_vec().unwrap()))), None, "not the apex");
    assert_eq!(expire(&answer(&asking(ixfr(101)))), seconds(whole));
    let (Verdict::Transfer(mut transfer), mut out) =
        server.handle_from(&asking(query("svc.z.", WireType::AXFR).to_vec().unwrap()), LOOPBACK, Transport::Tcp)
    else {
        panic!("it is transferred")
    };
    transfer.message(Wall(NOW * 1000), &mut out);
    assert_eq!(expire(&out), seconds(whole));
    // A copy: what is left.
    server.zone().expires.store(Some(Arc::new(Wall((NOW + 41) * 1000))));
    assert_eq!(expire(&answer(&soa)), seconds(41));
    server.zone().expires.store(Some(Arc::new(Wall((NOW - 1) * 1000))));
    assert_eq!(expire(&answer(&soa)), seconds(0));
}

#[test]
fn a_transfer_beyond_the_limit_is_servfail_before_anything_is_done_for_it() {
    let server = Server { transfers: false, ..Server::new() };
    for packet in [axfr("svc.z."), with_edns(ixfr(100))] {
        assert_eq!(refusal(&server, &packet, LOOPBACK, Transport::Tcp), Some((2, ExtendedError::NOT_READY)));
    }
    // Whoever is not behind takes no place.
    let (verdict, out) = server.handle_from(&with_edns(ixfr(101)), LOOPBACK, Transport::Tcp);
    assert!(matches!(verdict, Verdict::Reply) && Message::from_vec(&out).unwrap().answers.len() == 1);
    // Over UDP it is done at once.
    let (verdict, out) = server.handle_from(&with_edns(ixfr(100)), LOOPBACK, Transport::Udp);
    assert!(matches!(verdict, Verdict::Reply) && out[3] & 0xf == 0);
    // And whoever may not have the zone hears that, whatever the limit.
    assert_eq!(refusal(&server, &axfr("svc.z."), PEER, Transport::Tcp), Some((5, ExtendedError::PROHIBITED)));
}

#[test]
fn an_ixfr_needs_the_soa_record_of_the_zone_in_its_authority() {
    let server = Server::new();
    let ask = |packet: Vec<u8>, transport| refusal(&server, &packet, LOOPBACK, transport);
    let wrong = Some((1, ExtendedError::INVALID_DATA));
    let without = query("svc.z.", WireType::IXFR).to_vec().unwrap();
    let (mut in_answers, mut short, mut chaos) = (ixfr(99), ixfr(99), ixfr(99));
    (in_answers[7], in_answers[9]) = (1, 0);
    let rdlength = short.len() - 23;
    short[rdlength] -= 4;
    short.truncate(short.len() - 4);
    chaos[rdlength - 6] = 3;
    for packet in [without, in_answers, short, chaos, ixfr_with("z.", 99), ixfr_with("x.svc.z.", 99)] {
        for transport in [Transport::Tcp, Transport::Udp] {
            assert_eq!(ask(with_edns(packet.clone()), transport), wrong, "{packet:?}");
        }
    }
    for owner in ["svc.z.", "SVC.Z."] {
        assert_eq!(ask(with_edns(ixfr_with(owner, 99)), Transport::Tcp), None);
    }
}

#[test]
fn an_ixfr_over_udp_is_answered_at_once() {
    let server = Server::new();
    // Epoch 101, to which no history leads: everything, where it fits.
    for (serial, least) in [(101, 1), (102, 1), (100, 5)] {
        let (verdict, out) = server.handle_from(&with_edns(ixfr(serial)), LOOPBACK, Transport::Udp);
        assert!(matches!(verdict, Verdict::Reply));
        let answers = Message::from_vec(&out).unwrap().answers;
        assert_eq!(answers.len() > 1, least > 1, "{answers:?}");
        let ends = [answers.first(), answers.last()].map(|record| record.unwrap().record_type());
        assert!(answers.len() >= least && ends == [WireType::SOA; 2]);
    }
}

#[test]
fn transfers_are_for_whom_the_entries_admit() {
    let server = Server::new();
    let of = |key: Option<&str>, network: Option<&str>| TransferEntry {
        key: key.map(name),
        network: network.map(|network| network.parse().unwrap()),
    };
    let access = |entries: &[TransferEntry]| server.zone().transfer.store(Arc::new(TransferAccess(entries.to_vec())));
    let signed = |packet: Vec<u8>| sign(packet, "k.", SECRET, NOW, 300);
    let no = Some((5, ExtendedError::PROHIBITED));
    let ask = |packet: Vec<u8>, peer: &str| refusal(&server, &packet, peer, Transport::Tcp);
    // Without entries: loopback, in any form, whoever signed.
    for peer in [LOOPBACK, "[::1]:5000", "[::ffff:127.0.0.1]:5000"] {
        assert_eq!(ask(axfr("svc.z."), peer), None, "{peer}");
        assert_eq!(ask(signed(axfr("svc.z.")), peer), None, "{peer}");
    }
    for packet in [axfr("svc.z."), signed(axfr("svc.z.")), with_edns(ixfr(1)), signed(with_edns(ixfr(1)))] {
        assert_eq!(ask(packet, PEER), no);
    }
    access(&[of(Some("k."), None)]);
    assert_eq!(ask(signed(axfr("svc.z.")), PEER), None);
    assert_eq!(ask(axfr("svc.z."), PEER), no);
    assert_eq!(ask(axfr("svc.z."), LOOPBACK), no);
    access(&[of(None, Some("192.0.2.0/24"))]);
    assert_eq!(ask(axfr("svc.z."), PEER), None);
    assert_eq!(ask(signed(axfr("svc.z.")), PEER), None);
    assert_eq!(ask(axfr("svc.z."), LOOPBACK), no);
    // The source of a datagram may be forged.
    assert_eq!(refusal(&server, &with_edns(ixfr(100)), PEER, Transport::Udp), no);
    access(&[of(Some("k."), Some("192.0.2.0/24"))]);
    assert_eq!(ask(signed(axfr("svc.z.")), PEER), None);
    assert_eq!(ask(axfr("svc.z."), PEER), no);
    assert_eq!(ask(signed(axfr("svc.z.")), LOOPBACK), no);
    let (verdict, out) = server.handle_from(&signed(ixfr(101)), PEER, Transport::Udp);
    assert!(matches!(verdict, Verdict::Reply) && out[3] & 0xf == 0 && out[7] == 1, "with the key by UDP too");
    access(&[]);
    assert_eq!(ask(signed(axfr("svc.z.")), LOOPBACK), no);
    // A refusal is signed like any other answer.
    let (_, out) = server.handle_from(&signed(axfr("svc.z.")), PEER, Transport::Tcp);
    assert_eq!(tsig_of(&out).mac.len(), 32);
}

#[test]
fn a_transfer_that_is_signed_wrongly_is_answered_like_any_query() {
    let server = Server::new();
    server.zone().transfer.store(Arc::new(TransferAccess(vec![anywhere()])));
    for packet in [axfr("svc.z."), with_edns(ixfr(99))] {
        for (key, secret, time, error) in
            [("unknown.", SECRET, NOW, 17), ("k.", b"wrong".as_slice(), NOW, 16), ("k.", SECRET, NOW - 301, 18)]
        {
            let (verdict, out) = server.handle(&sign(packet.clone(), key, secret, time, 300), Transport::Tcp);
            assert!(matches!(verdict, Verdict::Reply), "{verdict:?}");
            let tsig = tsig_of(&out);
            assert_eq!((out[3] & 0xf, tsig.error.map(u16::from)), (9, Some(error)));
            assert_eq!(tsig.mac.is_empty(), error != 18);
        }
    }
}
