//! Cookies and the rate of answers, as clients and forgers meet them.

use crate::dns::cookie::{Cookies, Secret};
use crate::dns::rate::{Rate, Settings};
use crate::dns::wire::{Opcode, Rcode};

use super::*;

const CLIENT: [u8; 8] = *b"a client";

/// A server that makes cookies, and lets a network have one answer.
fn server() -> Server {
    let settings = Settings { per_second: 1, slip: 2, ..Settings::default() };
    Server {
        cookies: Some(Cookies::new(&Secret([7; 16]), &[])),
        rate: Some(Rate::new(&settings, Arc::default())),
        ..Server::new()
    }
}

/// An OPT record with this version, and the cookie if there is one.
fn opt(version: u8, cookie: Option<&[u8]>) -> Vec<u8> {
    let option =
        cookie.map_or(Vec::new(), |cookie| [&[0, 10, 0, u8::try_from(cookie.len()).unwrap()], cookie].concat());
    let len = u8::try_from(option.len()).unwrap();
    [&[0, 0, 41, 4, 208, 0, version, 0, 0, 0, len], &option[..]].concat()
}

/// A request with the opcode in its flags, and perhaps OPT.
fn request(flags: u16, owner: &str, qtype: u16, class: u16, opt: &[u8]) -> Vec<u8> {
    let words = [9, flags, 1, 0, 0, u16::from(!opt.is_empty())].map(u16::to_be_bytes).concat();
    [&words[..], name(owner).as_wire(), &qtype.to_be_bytes(), &class.to_be_bytes(), opt].concat()
}

/// A usual query, with a cookie or without.
fn srv(cookie: Option<&[u8]>) -> Vec<u8> {
    request(0x0100, "_X._tcp.svc.z.", 33, 1, &opt(0, cookie))
}

/// The cookie in a reply.
fn cookie_of(reply: &[u8]) -> Option<Vec<u8>> {
    Envelope::parse_transfer(reply).unwrap().edns?.cookie.map(<[u8]>::to_vec)
}

/// A good cookie for the peer.
fn good(server: &Server) -> Vec<u8> {
    let (_, out) = server.handle(&srv(Some(&CLIENT)), Transport::Tcp);
    cookie_of(&out).unwrap()
}

#[test]
fn every_reply_to_a_message_with_a_cookie_has_one_whatever_its_rcode() {
    let server = Server { rate: None, ..server() };
    let cookie = opt(0, Some(&CLIENT));
    for (packet, rcode) in [
        (srv(Some(&CLIENT)), Rcode::NOERROR),
        (request(0, "nobody.svc.z.", 1, 1, &cookie), Rcode::NXDOMAIN),
        (request(0, "elsewhere.", 1, 1, &cookie), Rcode::REFUSED),
        (request(0, "version.bind.", 16, 3, &cookie), Rcode::REFUSED),
        (request(0, "svc.z.", 1, 1, &opt(1, Some(&CLIENT))), Rcode::BADVERS),
        (request(0x1000, "svc.z.", 1, 1, &cookie), Rcode::NOTIMP),
        (request(0x2800, "elsewhere.", 6, 1, &cookie), Rcode::NOTAUTH),
        (request(0x2000, "svc.z.", 6, 1, &cookie), Rcode::REFUSED),
        (sign(srv(Some(&CLIENT)), "k.", b"not the secret of this key", NOW, 300), Rcode::NOTAUTH),
    ] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let (verdict, out) = server.handle(&packet, transport);
            assert!(matches!(verdict, Verdict::Reply), "{verdict:?}");
            assert_eq!(Envelope::parse(&out).unwrap().rcode(), rcode);
            let cookie = cookie_of(&out).unwrap();
            assert!(cookie.len() == 24 && cookie.starts_with(&CLIENT), "{rcode}: {cookie:02x?}");
            // The good cookie comes back as it is.
            let again = request(0, "svc.z.", 6, 1, &opt(0, Some(&cookie)));
            assert_eq!(cookie_of(&server.handle(&again, transport).1), Some(cookie));
        }
    }
    let update = request(0x2800, "svc.z.", 6, 1, &cookie);
    let (verdict, mut out) = server.handle(&update, Transport::Udp);
    let Verdict::Update(request) = verdict else { panic!("{verdict:?}") };
    request.reply(&super::super::update::Verdict::Done(None), Wall(NOW * 1000), &mut out);
    assert!(cookie_of(&out).unwrap().starts_with(&CLIENT));
}

#[test]
fn a_reply_ends_with_opt_and_the_cookie_as_its_only_option() {
    let server = server();
    let (_, out) = server.handle(&srv(Some(&CLIENT)), Transport::Udp);
    let (_, end) = out.split_at(out.len() - 39);
    assert_eq!(end[..23], [&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 28, 0, 10, 0, 24][..], &CLIENT].concat());
}

#[test]
fn a_cookie_of_a_wrong_length_is_formerr_and_says_why() {
    let server = Server { rate: None, ..server() };
    for flags in [0, 0x2800] {
        for len in [0, 7, 9, 15, 41] {
            let (_, out) = server.handle(&request(flags, "svc.z.", 6, 1, &opt(0, Some(&vec![1; len]))), Transport::Udp);
            let envelope = Envelope::parse(&out).unwrap();
            assert_eq!((envelope.rcode(), cookie_of(&out)), (Rcode::FORMERR, None));
            let error = envelope.edns.unwrap().extended_error().unwrap();
            assert!(error.code == ExtendedError::INVALID_DATA && error.text.contains("cookie"), "{error:?}");
        }
    }
}

#[test]
fn of_several_cookies_the_first_counts() {
    let server = server();
    let mut packet = srv(Some(&CLIENT));
    packet.extend_from_slice(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let at = packet.len() - 25;
    assert_eq!(packet[at], 12, "the length of the options");
    packet[at] = 24;
    assert!(cookie_of(&server.reply(&packet)).unwrap().starts_with(&CLIENT));
}

#[test]
fn a_query_without_a_question_gets_its_cookie_and_nothing_else() {
    let server = Server { rate: None, ..server() };
    let ask = |opt: &[u8]| [&[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], opt].concat();
    let reply = server.reply(&ask(&opt(0, Some(&CLIENT))));
    assert_eq!(reply[..12], [0, 9, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let cookie = cookie_of(&reply).unwrap();
    assert_eq!((reply.len(), cookie.starts_with(&CLIENT)), (51, true));
    assert_eq!(cookie_of(&server.reply(&ask(&opt(0, Some(&cookie))))), Some(cookie));
    // Without a cookie, or with one that is none, it is what it was.
    for opt in [opt(0, None), opt(0, Some(&[1; 9])), opt(1, Some(&CLIENT))] {
        assert_eq!(server.reply(&ask(&opt)), [0, 9, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn without_cookies_the_option_is_one_that_nobody_knows() {
    let server = Server { cookies: None, rate: None, ..server() };
    for cookie in [&CLIENT[..], &[1; 9]] {
        let reply = server.reply(&srv(Some(cookie)));
        assert_eq!((reply[3] & 0xf, cookie_of(&reply)), (0, None));
        assert_eq!(reply, server.reply(&srv(None)));
    }
}

/// What came of so many: answers, and slips of which each is checked, and how many were dropped.
fn ask_many(server: &Server, packet: &[u8], count: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    for _ in 0..count {
        let (verdict, out) = server.handle(packet, Transport::Udp);
        match verdict {
            Verdict::Reply => counts[0] += 1,
            Verdict::ReplyAtLimit(Limit::AnswerSlips) => {
                counts[1] += 1;
                assert!(out.len() <= packet.len(), "{out:02x?} for {packet:02x?}");
                let (asked, told) = (Envelope::parse(packet), Envelope::parse_transfer(&out).unwrap());
                // Only a query is told to use TCP; what is refused in other messages is not said to be done.
                let is_query = told.header.opcode() == Opcode::QUERY;
                assert_eq!((told.header.is_truncated(), out[..2] == packet[..2]), (is_query, true));
                assert_eq!(told.rcode() == Rcode::NOERROR, is_query, "{out:02x?}");
                assert_eq!(told.header.counts[1..3], [0, 0]);
                let asked = asked.as_ref().ok();
                assert_eq!(told.question.map(|told| told.octets), asked.map(|asked| asked.question.octets));
                assert_eq!(told.edns.is_some(), asked.is_some_and(|asked| asked.edns.is_some()));
                assert!(told.edns.is_none_or(|edns| edns.options().is_empty()));
            }
            Verdict::Drop(Limit::AnswerRate) => counts[2] += 1,
            other => panic!("{other:?}"),
        }
    }
    counts
}

#[test]
fn what_exceeds_the_rate_is_told_to_use_tcp_by_no_more_than_its_query_or_dropped() {
    let forged = [&CLIENT[..], &[1; 16]].concat();
    for packet in [
        srv(None),
        srv(Some(&CLIENT)),
        srv(Some(&forged)),
        request(0, "_x._tcp.svc.z.", 33, 1, &[]),
        request(0, "nobody.svc.z.", 1, 1, &[]),
        request(0, "elsewhere.", 1, 1, &opt(0, None)),
        request(0x2800, "elsewhere.", 6, 1, &opt(0, None)),
        request(0x2800, "elsewhere.", 6, 1, &[]),
        request(0x2000, "elsewhere.", 6, 1, &opt(0, None)),
        // BADVERS, whose upper bits stand in the OPT record.
        request(0x2800, "elsewhere.", 6, 1, &opt(1, None)),
        request(0, "svc.z.", 6, 1, &opt(0, Some(&[1; 9]))),
        // Nothing can be read of the one, and the other asks for a cookie alone.
        [&[0, 9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0][..], &[1; 30]].concat(),
        [&[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &opt(0, Some(&CLIENT))].concat(),
        sign(srv(None), "k.", b"not the secret of this key", NOW, 300),
        sign(srv(None), "k.", SECRET, NOW - 1000, 300),
    ] {
        assert_eq!(ask_many(&server(), &packet, 21), [1, 10, 10], "{packet:02x?}");
    }
}

#[test]
fn who_proves_its_address_is_not_limited_and_not_counted() {
    let server = server();
    assert_eq!(ask_many(&server, &srv(Some(&good(&server))), 100), [100, 0, 0]);
    assert_eq!(ask_many(&server, &sign(srv(None), "k.", SECRET, NOW, 300), 100), [100, 0, 0]);
    for _ in 0..100 {
        assert!(matches!(server.handle(&srv(None), Transport::Tcp).0, Verdict::Reply));
        assert!(matches!(server.handle(&update().octets(), Transport::Udp).0, Verdict::Update(_)));
    }
    assert_eq!(ask_many(&server, &srv(None), 3), [1, 1, 1], "all of the rate is left");
    assert_eq!(ask_many(&server, &srv(Some(&good(&server))), 3), [3, 0, 0], "and used up for those without alone");
    // The cookie of one address says nothing of another.
    let stolen = srv(Some(&good(&server)));
    let verdicts: Vec<Verdict> =
        (0..3).map(|_| server.handle_from(&stolen, "198.51.100.1:53", Transport::Udp).0).collect();
    assert!(matches!(verdicts[..], [Verdict::Reply, Verdict::Drop(_), Verdict::ReplyAtLimit(_)]), "{verdicts:?}");
}
