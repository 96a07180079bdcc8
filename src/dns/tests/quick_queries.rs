//! What the quick way answers, and that it answers like the general one.

use hickory_proto::rr::RecordType as WireType;
use proptest::prelude::*;

use super::super::quick;
use super::super::reply::Transport;
use super::{PEER, Server, query, update};

/// Octets that make a query another kind of message, or none.
fn spoilt_queries() -> impl Strategy<Value = Vec<u8>> {
    let names = ["svc.z.", "_x._tcp.svc.z.", "A.X.svc.z.", "nobody.svc.z.", "elsewhere.", "."];
    let types = [WireType::SRV, WireType::A, WireType::ANY, WireType::SOA, WireType::DS, WireType::TXT, WireType::OPT];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let base =
        (prop::sample::select(names.to_vec()), prop::sample::select(types.to_vec()), prop::option::of(any::<u16>()));
    (base, edits, prop::option::weighted(0.1, any::<prop::sample::Index>()), 0usize..3).prop_map(
        |((text, rtype, edns), edits, cut, extra)| {
            let mut packet = query(text, rtype).to_vec().unwrap();
            if let Some(size) = edns {
                packet[11] = 1;
                packet.extend_from_slice(&[0, 0, 41]);
                packet.extend_from_slice(&size.to_be_bytes());
                packet.extend_from_slice(&[0; 6]);
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
        let server = Server::new();
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
