//! The side that asks: a signed request, and what verifies the messages of its answer (RFC 8945 §5.1 and §5.4).

use ring::hmac;

use crate::base::Wall;
use crate::base::limits::TSIG_FUDGE;

use super::{
    Key, Signature, append_signed, constant_time_eq, digest_prior, digest_signed, digest_variables, record_len, timers,
};

/// Messages of an answer that may follow each other without a signature (RFC 8945 §5.3.1).
const UNSIGNED: u32 = 99;

/// Why a message of an answer counts for nothing. Whoever waits over UDP waits on, since anybody may have sent it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Distrust {
    /// It has no signature, where one is needed.
    #[error("an answer is not signed")]
    Unsigned,
    /// It is signed with another key or algorithm.
    #[error("an answer is signed with another key")]
    OtherKey,
    /// The MAC is wrong, or cut short.
    #[error("the signature of an answer is wrong: do both sides have the same secret?")]
    BadSignature,
    /// It was signed at another time.
    #[error("an answer was signed at another time: set the clocks of both sides")]
    BadTime,
    /// The other side doesn't accept our signature, and says why by this TSIG error (RFC 8945 §3).
    #[error("the other side does not accept our signature: {}", error_text(*.0))]
    Refused(u16),
}

fn error_text(error: u16) -> String {
    match error {
        16 => "BADSIG, the secrets differ".to_owned(),
        17 => "BADKEY, it has no such key, or one with another algorithm".to_owned(),
        18 => "BADTIME, the clocks differ".to_owned(),
        22 => "BADTRUNC".to_owned(),
        other => format!("TSIG error {other}"),
    }
}

/// A signed request on its way, and how far its answer is verified.
#[derive(Clone, Debug)]
pub struct Exchange {
    key: Key,
    /// The MAC of the request, or of the last message of the answer that was signed.
    prior_mac: Box<[u8]>,
    /// Whether a message of the answer was verified already.
    follows: bool,
    /// Covers what came unsigned since.
    digest: Option<hmac::Context>,
    unsigned: u32,
}

impl Exchange {
    /// How many octets [`Exchange::sign`] appends.
    pub fn signature_len(key: &Key) -> usize {
        record_len(&key.name, key.algorithm, 0)
    }

    /// Signs a request as it stands in `message`, and appends the TSIG record.
    pub fn sign(key: &Key, message: &mut Vec<u8>, now: Wall) -> Exchange {
        let time = now.seconds();
        let mut digest = hmac::Context::with_key(&key.state);
        digest.update(message);
        digest_variables(&mut digest, key, time, TSIG_FUDGE, 0, &[]);
        let mac = digest.sign();
        let id = u16::from_be_bytes([message[0], message[1]]);
        append_signed(message, key, mac.as_ref(), time, id, 0, &[]);
        Exchange { key: key.clone(), prior_mac: mac.as_ref().into(), follows: false, digest: None, unsigned: 0 }
    }

    /// Verifies the next message of the answer. One without a signature counts only once a signed one that covers it has
    /// been verified, which [`Exchange::is_settled`] tells; the first is always signed.
    pub fn verify(&mut self, packet: &[u8], signature: Option<&Signature<'_>>, now: Wall) -> Result<(), Distrust> {
        let Some(signature) = signature else {
            if !self.follows || self.unsigned >= UNSIGNED {
                return Err(Distrust::Unsigned);
            }
            self.unsigned += 1;
            let mut digest = self.digest();
            digest.update(packet);
            self.digest = Some(digest);
            return Ok(());
        };
        if signature.key() != self.key.name.as_wire() || !signature.is_of(self.key.algorithm) {
            return Err(Distrust::OtherKey);
        }
        if signature.mac.is_empty() && signature.error != 0 {
            // BADKEY and BADSIG come without a MAC (RFC 8945 §5.3.2): a hint, and no proof.
            return Err(Distrust::Refused(signature.error));
        }
        let mut digest = self.digest();
        digest_signed(&mut digest, packet, signature);
        if self.follows {
            digest.update(&timers(signature.time, signature.fudge));
        } else {
            let Signature { time, fudge, error, other, .. } = *signature;
            digest_variables(&mut digest, &self.key, time, fudge, error, other);
        }
        let mac = digest.sign();
        if !constant_time_eq(mac.as_ref(), signature.mac) {
            return Err(Distrust::BadSignature);
        }
        if signature.error != 0 {
            return Err(Distrust::Refused(signature.error));
        }
        if now.seconds().abs_diff(signature.time) > u64::from(signature.fudge.min(TSIG_FUDGE)) {
            return Err(Distrust::BadTime);
        }
        self.prior_mac = mac.as_ref().into();
        (self.follows, self.digest, self.unsigned) = (true, None, 0);
        Ok(())
    }

    /// Whether all messages so far are covered by a verified signature: the last one of an answer has to be.
    pub fn is_settled(&self) -> bool {
        self.follows && self.digest.is_none()
    }

    fn digest(&mut self) -> hmac::Context {
        self.digest.take().unwrap_or_else(|| {
            let mut digest = hmac::Context::with_key(&self.key.state);
            digest_prior(&mut digest, &self.prior_mac);
            digest
        })
    }
}
