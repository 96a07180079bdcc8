//! Both sides against each other. That they do what others do is shown with hickory, nsupdate, dig, BIND, NSD and Knot.

use proptest::prelude::*;

use super::*;
use crate::dns::soa;

const NOW: Wall = Wall(1_800_000_000_000);

fn key(name: &str, secret: &[u8]) -> Key {
    Key::new(name.parse().unwrap(), Algorithm::HmacSha256, secret)
}

fn later(seconds: u64) -> Wall {
    Wall(NOW.0 + seconds * 1000)
}

/// A signed request as the server has it: the exchange of its sender, and what signs the answer.
fn request(key: &Key) -> (Exchange, Signer) {
    let mut packet = soa::query(7, &"z.test.".parse().unwrap());
    let before = packet.len();
    let exchange = Exchange::sign(key, &mut packet, NOW);
    assert_eq!(packet.len() - before, Exchange::signature_len(key));
    let signature = Envelope::parse(&packet).unwrap().tsig.unwrap();
    let signer = verify(&packet, &signature, &Keys::new([key.clone()]), NOW).unwrap();
    (exchange, signer)
}

/// A message of an answer, told from others by a number.
fn message(number: u16) -> Vec<u8> {
    let mut octets = soa::query(7, &"z.test.".parse().unwrap());
    octets[2..4].copy_from_slice(&(0x8400 | number & 0xf).to_be_bytes());
    octets
}

fn check(exchange: &mut Exchange, packet: &[u8], now: Wall) -> Result<(), Distrust> {
    exchange.verify(packet, Envelope::parse(packet).unwrap().tsig.as_ref(), now)
}

#[test]
fn each_message_of_an_answer_is_signed_over_the_one_before() {
    let (mut exchange, mut signer) = request(&key("k.", b"secret"));
    let mut messages: Vec<Vec<u8>> = (0..4).map(message).collect();
    messages.iter_mut().enumerate().for_each(|(at, message)| signer.sign_next(message, later(at as u64)));
    let fresh = exchange.clone();
    for message in &messages {
        assert_eq!(check(&mut exchange, message, NOW), Ok(()));
        assert!(exchange.is_settled());
    }
    // None is left out, comes twice, or in another order.
    for order in [[1, 2], [0, 2], [0, 0]] {
        let mut exchange = fresh.clone();
        let results = order.map(|at| check(&mut exchange, &messages[at], NOW));
        assert!(results.contains(&Err(Distrust::BadSignature)), "{order:?}: {results:?}");
    }
    let mut exchange = fresh.clone();
    assert_eq!(check(&mut exchange, &messages[0], NOW), Ok(()));
    assert_eq!(check(&mut exchange, &messages[1], later(400)), Err(Distrust::BadTime));
}

#[test]
fn unsigned_messages_count_once_a_signed_one_covers_them_and_not_more_than_99() {
    let (exchange, signer) = request(&key("k.", b"secret"));
    for count in [1, 99, 100] {
        let (mut exchange, mut signer) = (exchange.clone(), signer.clone());
        let mut first = message(0);
        signer.sign_next(&mut first, NOW);
        assert_eq!(check(&mut exchange, &first, NOW), Ok(()));
        let mut covered = hmac::Context::with_key(&signer.key.state);
        digest_prior(&mut covered, &signer.prior_mac);
        let results: Vec<_> = (0..count)
            .map(|number| {
                covered.update(&message(number));
                check(&mut exchange, &message(number), NOW)
            })
            .collect();
        if count == 100 {
            assert_eq!(results.last(), Some(&Err(Distrust::Unsigned)));
            continue;
        }
        assert!(results.iter().all(Result::is_ok) && !exchange.is_settled());
        let mut last = message(9);
        covered.update(&last);
        covered.update(&timers(NOW.seconds(), TSIG_FUDGE));
        append_signed(&mut last, &signer.key, covered.sign().as_ref(), NOW.seconds(), signer.original_id, 0, &[]);
        assert_eq!(check(&mut exchange, &last, NOW), Ok(()));
        assert!(exchange.is_settled());
    }
}

#[test]
fn an_answer_that_is_unsigned_or_signed_by_others_counts_for_nothing() {
    let (exchange, signer) = request(&key("k.", b"secret"));
    assert_eq!(check(&mut exchange.clone(), &message(0), NOW), Err(Distrust::Unsigned));
    let signed = |signer: &Signer, error| {
        let mut octets = message(0);
        signer.sign(&mut octets, NOW, error);
        octets
    };
    let (_, other) = request(&key("other.", b"secret"));
    assert_eq!(check(&mut exchange.clone(), &signed(&other, None), NOW), Err(Distrust::OtherKey));
    let (_, wrong) = request(&key("k.", b"another"));
    assert_eq!(check(&mut exchange.clone(), &signed(&wrong, None), NOW), Err(Distrust::BadSignature));
    assert_eq!(check(&mut exchange.clone(), &signed(&signer, None), later(301)), Err(Distrust::BadTime));
    let refused = check(&mut exchange.clone(), &signed(&signer, Some(TsigError::BadTime)), NOW);
    assert_eq!(refused, Err(Distrust::Refused(18)));
    // A wrong one over UDP doesn't keep the right one out.
    let mut exchange = exchange;
    assert!(check(&mut exchange, &signed(&wrong, None), NOW).is_err());
    assert_eq!(check(&mut exchange, &signed(&signer, None), NOW), Ok(()));
}

#[test]
fn a_server_without_the_key_says_so_without_a_signature() {
    let mut packet = soa::query(7, &"z.test.".parse().unwrap());
    let mut exchange = Exchange::sign(&key("k.", b"secret"), &mut packet, NOW);
    let signature = Envelope::parse(&packet).unwrap().tsig.unwrap();
    for (keys, error) in [(vec![], 17), (vec![key("k.", b"another")], 16)] {
        let Err(Rejection::Unsigned(rejection)) = verify(&packet, &signature, &Keys::new(keys), NOW) else {
            panic!("it is rejected without a MAC");
        };
        let mut answer = message(9);
        rejection.append(&mut answer);
        assert_eq!(check(&mut exchange, &answer, NOW), Err(Distrust::Refused(error)));
    }
}

/// A reply to a request with the key, as the server that has `keys` encodes it again.
fn seal_again_of(reply: &[u8], key: &Key, keys: &[&Key]) -> Option<Vec<u8>> {
    let mut packet = soa::query(7, &"z.test.".parse().unwrap());
    Exchange::sign(key, &mut packet, NOW);
    let mut octets = message(2);
    let keys = Keys::new(keys.iter().map(|&key| key.clone()));
    seal_again(&packet, reply, &mut octets, &keys, NOW).map(|()| octets)
}

#[test]
fn what_others_say_of_a_signature_is_passed_on_when_a_reply_is_sealed_again() {
    let (ours, theirs) = (key("k.", b"secret"), key("k.", b"another"));
    // The primary has no such key, or another secret; this server knows the key, or does not.
    for (at_primary, error) in [(vec![], 17), (vec![theirs], 16)] {
        let mut packet = soa::query(7, &"z.test.".parse().unwrap());
        Exchange::sign(&ours, &mut packet, NOW);
        let signature = Envelope::parse(&packet).unwrap().tsig.unwrap();
        let Err(Rejection::Unsigned(rejection)) = verify(&packet, &signature, &Keys::new(at_primary), NOW) else {
            panic!("it is not accepted");
        };
        let mut reply = message(1);
        rejection.append(&mut reply);
        for keys in [&[&ours][..], &[]] {
            let sealed = seal_again_of(&reply, &ours, keys).unwrap();
            let tsig = Envelope::parse(&sealed).unwrap().tsig.unwrap();
            assert_eq!((tsig.error, tsig.mac.len(), tsig.original_id), (error, 0, 7));
        }
    }
}

#[test]
fn only_a_reply_whose_signature_is_right_is_sealed_again() {
    let ours = key("k.", b"secret");
    let (mut exchange, signer) = request(&ours);
    let mut reply = message(1);
    signer.sign(&mut reply, NOW, None);
    let sealed = seal_again_of(&reply, &ours, &[&ours]).unwrap();
    assert_eq!(check(&mut exchange, &sealed, NOW), Ok(()));
    assert_eq!(seal_again_of(&reply, &ours, &[]), None, "the key is not here");
    // On its way from a primary anybody may have changed it.
    let mut changed = reply.clone();
    changed[3] ^= 1;
    assert_eq!(seal_again_of(&changed, &ours, &[&ours]), None);
    let (_, foreign) = request(&key("k.", b"another"));
    let mut forged = message(1);
    foreign.sign(&mut forged, NOW, None);
    assert_eq!(seal_again_of(&forged, &ours, &[&ours]), None);
    // BADTIME is signed.
    let mut late = message(1);
    signer.sign(&mut late, later(5000), Some(TsigError::BadTime));
    let sealed = seal_again_of(&late, &ours, &[&ours]).unwrap();
    assert_eq!(Envelope::parse(&sealed).unwrap().tsig.unwrap().error, 18);
}

proptest! {
    #[test]
    fn a_changed_octet_is_noticed(at in 0usize..1000, change in 1u8..=255) {
        let (mut exchange, mut signer) = request(&key("k.", b"secret"));
        let mut first = message(0);
        signer.sign_next(&mut first, NOW);
        prop_assert_eq!(check(&mut exchange, &first, NOW), Ok(()));
        let mut second = message(1);
        signer.sign_next(&mut second, NOW);
        // The id is not covered: the original one in the record is.
        let at = 2 + at % (second.len() - 2);
        // Names of keys and algorithms count in any case.
        prop_assume!(change != 0x20 || !second[at].is_ascii_alphabetic());
        second[at] ^= change;
        if let Ok(envelope) = Envelope::parse(&second) {
            let result = exchange.verify(&second, envelope.tsig.as_ref(), NOW);
            prop_assert!(result.is_err() || !exchange.is_settled());
        }
    }
}

#[test]
fn keys_are_equal_by_name_algorithm_and_secret() {
    let key = |name: &str, algorithm, secret: &[u8]| Key::new(name.parse().unwrap(), algorithm, secret);
    let one = key("k.", Algorithm::HmacSha256, b"secret");
    assert_eq!(one, key("K.", Algorithm::HmacSha256, b"secret"));
    let others = [
        key("l.", Algorithm::HmacSha256, b"secret"),
        key("k.", Algorithm::HmacSha512, b"secret"),
        key("k.", Algorithm::HmacSha256, b"secreT"),
    ];
    for other in &others {
        assert_ne!(one, *other);
        assert_ne!(Keys::new([one.clone()]), Keys::new([other.clone()]));
    }
    assert_ne!(Keys::new([one.clone()]), Keys::default());
    assert_eq!(Keys::new([one.clone(), others[0].clone()]), Keys::new([others[0].clone(), one]));
}
