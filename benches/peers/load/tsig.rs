//! Signs updates and verifies what is answered (RFC 8945), with hmac-sha256.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use ring::hmac;

use super::message::name;

pub(crate) const MAC_OCTETS: usize = 32;
const FUDGE: u16 = 300;

/// A key, with what all its signatures have in common.
#[derive(Clone)]
pub(crate) struct Signer {
    state: hmac::Key,
    /// In lower case, as the MAC covers it.
    key: Vec<u8>,
    algorithm: Vec<u8>,
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Signer {
    /// A key by its name and its secret in base64.
    pub(crate) fn new(key: &str, secret: &str) -> Signer {
        let secret = base64::engine::general_purpose::STANDARD.decode(secret).expect("a secret in base64");
        let state = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Signer { state, key: name(&key.to_ascii_lowercase()), algorithm: name("hmac-sha256") }
    }

    /// Signs a request and appends the TSIG record (RFC 8945 §4.2 and §4.3.3).
    pub(crate) fn sign(&self, message: &mut Vec<u8>) -> [u8; MAC_OCTETS] {
        let time = now().to_be_bytes();
        let mut digest = hmac::Context::with_key(&self.state);
        digest.update(message);
        self.cover_variables(&mut digest, &time[2..], FUDGE.to_be_bytes());
        let mac: [u8; MAC_OCTETS] = digest.sign().as_ref().try_into().expect("SHA-256");
        let original_id = [message[0], message[1]];
        message.extend_from_slice(&self.key);
        message.extend_from_slice(&[0, 250, 0, 255, 0, 0, 0, 0, 0, self.rdata_octets() as u8]);
        message.extend_from_slice(&self.algorithm);
        message.extend_from_slice(&time[2..]);
        message.extend_from_slice(&FUDGE.to_be_bytes());
        message.extend_from_slice(&[0, MAC_OCTETS as u8]);
        message.extend_from_slice(&mac);
        message.extend_from_slice(&original_id);
        message.extend_from_slice(&[0; 4]);
        // The additional section of an update has the OPT record at most.
        message[11] += 1;
        mac
    }

    /// Whether an answer is signed rightly, without an error in its TSIG record.
    pub(crate) fn verify(&self, answer: &[u8], request_mac: &[u8; MAC_OCTETS]) -> bool {
        let head = self.key.len() + 10;
        let Some(start) = answer.len().checked_sub(head + self.rdata_octets()).filter(|&start| start >= 12) else {
            return false;
        };
        let (signed, tsig) = answer.split_at(start);
        let (owner, fixed) = tsig.split_at(self.key.len());
        let (algorithm, rest) = fixed[10..].split_at(self.algorithm.len());
        let (mac, tail) = rest[10..].split_at(MAC_OCTETS);
        if !owner.eq_ignore_ascii_case(&self.key)
            || fixed[..2] != [0, 250]
            || !algorithm.eq_ignore_ascii_case(&self.algorithm)
            || rest[8..10] != [0, MAC_OCTETS as u8]
            || tail[2..] != [0; 4]
        {
            return false;
        }
        let additional = u16::from_be_bytes([signed[10], signed[11]]).wrapping_sub(1);
        let mut digest = hmac::Context::with_key(&self.state);
        digest.update(&[0, MAC_OCTETS as u8]);
        digest.update(request_mac);
        digest.update(&tail[..2]);
        digest.update(&signed[2..10]);
        digest.update(&additional.to_be_bytes());
        digest.update(&signed[12..]);
        self.cover_variables(&mut digest, &rest[..6], [rest[6], rest[7]]);
        digest.sign().as_ref() == mac
    }

    fn cover_variables(&self, digest: &mut hmac::Context, time: &[u8], fudge: [u8; 2]) {
        digest.update(&self.key);
        digest.update(&[0, 255, 0, 0, 0, 0]);
        digest.update(&self.algorithm);
        digest.update(time);
        digest.update(&fudge);
        digest.update(&[0; 4]);
    }

    fn rdata_octets(&self) -> usize {
        self.algorithm.len() + 6 + 2 + 2 + MAC_OCTETS + 2 + 2 + 2
    }
}
