//! What the quick way answers, and that it answers like the general one.

use hickory_proto::rr::RecordType as WireType;
use proptest::prelude::*;

use super::super::cookie::{Cookies, Secret};
use super::super::quick;
use super::super::rate::{Rate, Settings};
use super::super::reply::Transport;
use super::super::respond::{Context, respond};
use super::{PEER, Server, query, update};

/// Octets that make a query another kind of message, or none.
fn spoilt_queries() -> impl Strategy<Value = Vec<u8>> {
    let names = ["svc.z.", "_x._tcp.svc.z.", "A.X.svc.z.", "nobody.svc.z.", "elsewhere.", "."];
    let types = [WireType::SRV, WireType::A, WireType::ANY, WireType::SOA, WireType::DS, WireType::TXT, WireType::OPT];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let options: [&[u8]; 7] = [
        &[],
        &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 10, 0, 24, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8],
        &[0, 10, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        &[0, 10, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 3, 0, 0],
        &[0, 3, 0, 0],
    ];
    let edns = (any::<u16>(), prop::sample::select(options.map(<[u8]>::to_vec).to_vec()));
    let base =
        (prop::sample::select(names.to_vec()), prop::sample::select(types.to_vec()), prop::option::weighted(0.7, edns));
    (base, edits, prop::option::weighted(0.1, any::<prop::sample::Index>()), 0usize..3).prop_map(
        |((text, rtype, edns), edits, cut, extra)| {
            let mut packet = query(text, rtype).to_vec().unwrap();
            if let Some((size, options)) = edns {
                packet[11] = 1;
                packet.extend_from_slice(&[0, 0, 41]);
                packet.extend_from_slice(&size.to_be_bytes());
                packet.extend_from_slice(&[0; 5]);
                packet.push(u8::try_from(options.len()).unwrap());
                packet.extend_from_slice(&options);
            }
            for (at, octet) in edits {
                let at = at.index(packet.len());
                packet[at] = octet;
            }
            if let Some(cut) = cut {
                packet.truncate(cut.index(packet.len()));
            }
            packet.extend(vec![0; extra / 2]);
            packet
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_answered_quickly_is_answered_alike(packets in prop::collection::vec(spoilt_queries(), 8)) {
        let server = Server { cookies: Some(Cookies::new(&Secret([7; 16]), &[])), ..Server::new() };
        for packet in packets {
            server.handle(&packet, Transport::Udp); // compares
        }
    }
}

#[test]
fn plain_queries_are_answered_quickly_and_others_are_not() {
    let server = Server::new();
    let is_quick = |packet: &[u8]| quick::tests::assert_same(&server.context(PEER, Transport::Udp), packet);
    for (text, rtype) in [("_x._tcp.svc.z.", WireType::SRV), ("svc.z.", WireType::SOA), ("nobody.svc.z.", WireType::A)]
    {
        assert!(is_quick(&query(text, rtype).to_vec().unwrap()), "{text}");
    }
    for (text, rtype) in [("svc.z.", WireType::AXFR), ("svc.z.", WireType::DS), ("elsewhere.", WireType::A)] {
        assert!(!is_quick(&query(text, rtype).to_vec().unwrap()), "{text}");
    }
    assert!(!is_quick(&update().octets()));
}

/// A query with a COOKIE option.
fn with_cookie(cookie: &[u8]) -> Vec<u8> {
    let mut packet = query("_x._tcp.svc.z.", WireType::SRV).to_vec().unwrap();
    packet[11] = 1;
    let len = u8::try_from(cookie.len()).unwrap();
    packet.extend_from_slice(&[0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, len + 4, 0, 10, 0, len]);
    packet.extend_from_slice(cookie);
    packet
}

#[test]
fn cookies_are_answered_quickly_and_a_good_one_has_no_rate() {
    let settings = Settings { per_second: 1, exempt: Vec::new(), ..Settings::default() };
    let server = Server {
        cookies: Some(Cookies::new(&Secret([7; 16]), &[])),
        rate: Some(Rate::new(&settings, std::sync::Arc::default())),
        ..Server::new()
    };
    let context = server.context(PEER, Transport::Udp);
    let mut out = Vec::new();
    let first = with_cookie(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(quick::tests::assert_same(&context, &first));
    assert!(quick::answer(&context, &first, &mut out));
    let cookie = out[out.len() - 24..].to_vec();
    // The second of the same second is one too many, unless it proves its address.
    assert!(!quick::answer(&context, &first, &mut out));
    let second = with_cookie(&cookie);
    assert!(quick::tests::assert_same(&context, &second));
    assert!((0..5).all(|_| quick::answer(&context, &second, &mut out)));
}

#[test]
fn what_is_beyond_the_rate_is_told_to_use_tcp_as_the_general_way_does() {
    let settings = Settings { per_second: 1, slip: 1, exempt: Vec::new(), ..Settings::default() };
    for packet in [query("_x._tcp.svc.z.", WireType::SRV).to_vec().unwrap(), with_cookie(&[1; 8])] {
        let slipped = |answer: &dyn Fn(&Context<'_>, &mut Vec<u8>)| {
            let server = Server { rate: Some(Rate::new(&settings, std::sync::Arc::default())), ..Server::new() };
            let (context, mut out) = (server.context(PEER, Transport::Udp), Vec::new());
            (0..2).for_each(|_| answer(&context, &mut out));
            out
        };
        let quick = slipped(&|context, out| {
            quick::answer(context, &packet, out);
        });
        let general = slipped(&|context, out| drop(respond(context, &packet, out)));
        assert_eq!(quick, general);
        assert!(quick.len() <= packet.len() && quick[2] & 2 != 0);
    }
}
