//! Streams with signatures that are made by the letter of RFC 8945, without the code under test.

use ring::hmac;

use super::*;
use crate::dns::tsig::{Algorithm, Key};

const SECRET: &[u8] = b"secret";

/// The question for what is newer than serial 5, signed, and what reads its answer.
pub(super) fn signed_request(asked: Asked) -> (Vec<u8>, Incoming) {
    let request = match asked {
        Asked::Axfr => Request::axfr(name("z.test."), ID),
        Asked::Ixfr { serial } => Request::ixfr(name("z.test."), ID, record(&soa(serial.0))).unwrap(),
    };
    let mut octets = request.octets();
    let exchange = Exchange::sign(&Key::new(name("k."), Algorithm::HmacSha256, SECRET), &mut octets, NOW);
    (octets, request.incoming(Some(exchange), Bounds::default()))
}

/// Signs those messages of an answer that `is_signed` picks (RFC 8945 §4.3 and §5.3.1).
pub(super) fn sign_stream(request: &[u8], messages: &mut [Vec<u8>], is_signed: impl Fn(usize) -> bool) {
    let algorithm = name("hmac-sha256.");
    let prior = WireMessage::from_vec(request).unwrap().signature.unwrap().data.mac.clone();
    let with_length = |mac: &[u8]| [&u16::try_from(mac.len()).unwrap().to_be_bytes(), mac].concat();
    let timers = [&NOW.seconds().to_be_bytes()[2..], &300u16.to_be_bytes()].concat();
    let variables = [name("k.").as_wire(), &[0, 255, 0, 0, 0, 0], algorithm.as_wire(), &timers, &[0; 4]].concat();
    let (mut covered, mut follows) = (with_length(&prior), false);
    for (at, message) in messages.iter_mut().enumerate() {
        covered.extend_from_slice(message);
        if !is_signed(at) {
            continue;
        }
        covered.extend_from_slice(if follows { &timers } else { &variables });
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), &covered);
        let rdata = [algorithm.as_wire(), &timers, &with_length(mac.as_ref()), &message[..2], &[0; 4]].concat();
        message.extend_from_slice(name("k.").as_wire());
        message.extend_from_slice(&[0, 250, 0, 255, 0, 0, 0, 0]);
        message.extend_from_slice(&with_length(&rdata));
        message[11] += 1;
        (covered, follows) = (with_length(mac.as_ref()), true);
    }
}

#[test]
fn messages_may_come_unsigned_between_signed_ones() {
    // RFC 8945 §5.3.1.
    let a = "a.z.test. 5 A 192.0.2.1";
    for (asked, texts) in [
        (Asked::Axfr, vec![soa(9), a.to_owned(), a.to_owned(), soa(9)]),
        (IXFR, vec![soa(9), soa(5), soa(9), a.to_owned(), soa(9)]),
    ] {
        let (request, incoming) = signed_request(asked);
        let messages: Vec<Vec<u8>> = texts.chunks(1).map(|texts| message(qtype(asked), texts, |_| {})).collect();
        let (last, plain) = (messages.len() - 1, take(asked, &texts.chunks(1).collect::<Vec<_>>()));
        let signed = |is_signed: &dyn Fn(usize) -> bool| {
            let (mut messages, mut incoming) = (messages.clone(), fresh(&incoming));
            sign_stream(&request, &mut messages, is_signed);
            take_octets(&mut incoming, &messages)
        };
        assert_eq!(signed(&|_| true), plain);
        assert_eq!(signed(&|at| at == 0 || at == last), plain);
        let unsigned = Err(TransferError::Distrusted(Distrust::Unsigned));
        assert_eq!(signed(&|at| at == last), unsigned, "the first is signed");
        assert_eq!(signed(&|at| at < last), unsigned, "and so is the last");
    }
}

/// One that has not taken anything, of one that has not either.
pub(super) fn fresh(incoming: &Incoming) -> Incoming {
    Incoming::new(name("z.test."), ID, incoming.asked, incoming.exchange.clone(), incoming.bounds)
}

#[test]
fn a_signature_that_is_wrong_or_missing_is_an_error() {
    let (request, incoming) = signed_request(Asked::Axfr);
    let octets = message(WireType::AXFR, &[soa(9), soa(9)], |_| {});
    let mut signed = [octets.clone()];
    sign_stream(&request, &mut signed, |_| true);
    let [mut signed] = signed;
    let last = signed.len() - 7; // of the MAC: id, error and length of the rest follow
    signed[last] ^= 1;
    let bad = Err(TransferError::Distrusted(Distrust::BadSignature));
    assert_eq!(fresh(&incoming).take(&signed, NOW), bad);
    signed[last] ^= 1;
    assert!(matches!(fresh(&incoming).take(&signed, NOW), Ok(Progress::Done(_))));
    let late = Err(TransferError::Distrusted(Distrust::BadTime));
    assert_eq!(fresh(&incoming).take(&signed, Wall(NOW.0 + 301_000)), late);
    assert_eq!(fresh(&incoming).take(&octets, NOW), Err(TransferError::Distrusted(Distrust::Unsigned)));
    // An unsigned refusal ends it all the same, and says more.
    let refuse = |message: &mut WireMessage| message.metadata.response_code = ResponseCode::NotAuth;
    let refused = message(WireType::AXFR, &[""; 0], refuse);
    let error = Err(TransferError::Refused { rcode: Rcode::NOTAUTH, reason: None });
    assert_eq!(fresh(&incoming).take(&refused, NOW), error);
}
