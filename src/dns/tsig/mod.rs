//! Transaction signatures (RFC 8945): verify what came in, sign what goes out.
//!
//! Works on the raw message: the MAC covers the octets as they were sent (with the original id and without the TSIG
//! record), so nothing is decoded and encoded again. The key state of HMAC is computed once a key, and so are the octets
//! of the key's and the algorithm's name that every MAC covers; a record is read where it stands. So a request is
//! verified ([`check`]) and its answer signed without allocating anything.
//!
//! An answer may have several messages, each signed here: the first over the request's MAC, each later one over the MAC of
//! the one before (RFC 8945 §5.3.1). [`exchange`] is the other side: requests that we send, and what is answered.
//!
//! Own code, where hickory has some: its TSIG compares algorithm names by case, answers BADTIME without the server's
//! time, and signs a re-encoded message.

mod exchange;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use ring::hmac;

use crate::base::limits::{NAME_OCTETS, TSIG_FUDGE};
use crate::base::name::wire_len;
use crate::base::{Name, NameMap, RecordType, Wall};
use crate::membership::Stamp;

use super::wire::{CLASS_ANY, Envelope, Malformed, RawRecord};

pub use exchange::{Distrust, Exchange};

/// A MAC algorithm (RFC 8945 §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// hmac-sha256, the one that everybody must have.
    HmacSha256,
    /// hmac-sha384.
    HmacSha384,
    /// hmac-sha512.
    HmacSha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 3] = [Algorithm::HmacSha256, Algorithm::HmacSha384, Algorithm::HmacSha512];

    /// The name as configured, without the final dot.
    pub fn text(self) -> &'static str {
        match self {
            Algorithm::HmacSha256 => "hmac-sha256",
            Algorithm::HmacSha384 => "hmac-sha384",
            Algorithm::HmacSha512 => "hmac-sha512",
        }
    }

    /// Reads the name in any case, with or without the final dot.
    pub fn from_text(text: &str) -> Option<Algorithm> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.text().eq_ignore_ascii_case(text))
    }

    /// Octets of the full MAC.
    pub fn mac_len(self) -> usize {
        match self {
            Algorithm::HmacSha256 => 32,
            Algorithm::HmacSha384 => 48,
            Algorithm::HmacSha512 => 64,
        }
    }

    /// The name on the wire, lower case.
    pub fn wire_name(self) -> &'static [u8] {
        static NAMES: LazyLock<[Name; 3]> = LazyLock::new(|| {
            Algorithm::ALL.map(|algorithm| Name::root().child(algorithm.text().as_bytes()).expect("one short label"))
        });
        NAMES[self as usize].as_wire()
    }

    fn ring(self) -> hmac::Algorithm {
        match self {
            Algorithm::HmacSha256 => hmac::HMAC_SHA256,
            Algorithm::HmacSha384 => hmac::HMAC_SHA384,
            Algorithm::HmacSha512 => hmac::HMAC_SHA512,
        }
    }
}

/// A shared secret with its name.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key's name, as both sides write it.
    pub name: Name,
    /// Its algorithm: a signature with another one is BADKEY (RFC 8945 §5.2.1).
    pub algorithm: Algorithm,
    state: hmac::Key,
    /// What every MAC covers of the key: its name, class ANY, TTL 0, and the algorithm's name (RFC 8945 §4.3.3).
    variables: Arc<[u8]>,
}

impl Key {
    /// Prepares a key from its secret.
    pub fn new(name: Name, algorithm: Algorithm, secret: &[u8]) -> Key {
        let fixed = [&CLASS_ANY.to_be_bytes()[..], &0u32.to_be_bytes()].concat();
        let variables = [name.as_wire(), &fixed, algorithm.wire_name()].concat().into();
        Key { name, algorithm, state: hmac::Key::new(algorithm.ring(), secret), variables }
    }
}

/// Two keys are equal if they sign alike. The secrets are gone once the states are computed, so each signs the same
/// octets; the comparison takes the same time wherever the signatures differ.
impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        let signature = || hmac::sign(&self.state, b"livezone");
        self.name == other.name
            && self.algorithm == other.algorithm
            && hmac::verify(&other.state, b"livezone", signature().as_ref()).is_ok()
    }
}

impl Eq for Key {}

/// The keys of a server, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys(Arc<NameMap<Key>>);

impl Keys {
    /// Collects keys; of two with the same name the later one counts.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Keys {
        Keys(Arc::new(keys.into_iter().map(|key| (key.name.clone(), key)).collect()))
    }

    /// Looks a key up by its name.
    pub fn find(&self, name: &Name) -> Option<&Key> {
        self.0.get(name)
    }

    /// The same by its wire form, lower case.
    fn find_wire(&self, name: &[u8]) -> Option<&Key> {
        self.0.get(name)
    }
}

/// A TSIG record as it came in (RFC 8945 §4.2), read where it stands.
#[derive(Clone, Debug)]
pub struct Signature<'m> {
    /// Where the record starts: the MAC covers what stands before.
    start: usize,
    /// The key's name, lower case; the first `key_len` octets.
    key: [u8; NAME_OCTETS],
    key_len: usize,
    /// The algorithm's name in wire form, in the case in which it was sent.
    algorithm: &'m [u8],
    /// Time Signed, in seconds since the Unix epoch.
    pub time: u64,
    fudge: u16,
    mac: &'m [u8],
    original_id: u16,
    error: u16,
    other: &'m [u8],
}

impl<'m> Signature<'m> {
    /// Reads a TSIG record.
    pub fn read(record: &RawRecord<'m>) -> Result<Signature<'m>, Malformed> {
        const SHORT: Malformed = Malformed("a TSIG record ends early");
        // RFC 8945 §4.2: class ANY, TTL 0.
        if record.class != CLASS_ANY || record.ttl != 0 {
            return Err(Malformed("a TSIG record must have class ANY and TTL 0"));
        }
        let rdata = record.raw_rdata();
        // The algorithm's name is not compressed (RFC 8945 §4.2).
        let (algorithm, rest) = rdata.split_at(wire_len(rdata).map_err(|_| SHORT)?);
        let (fixed, rest) = rest.split_at_checked(10).ok_or(SHORT)?;
        let time = fixed[..6].iter().fold(0, |time, &octet| time << 8 | u64::from(octet));
        let fudge = u16::from_be_bytes([fixed[6], fixed[7]]);
        let (mac, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([fixed[8], fixed[9]]))).ok_or(SHORT)?;
        let (tail, other) = rest.split_at_checked(6).ok_or(SHORT)?;
        if other.len() != usize::from(u16::from_be_bytes([tail[4], tail[5]])) {
            return Err(SHORT);
        }
        let mut key = [0; NAME_OCTETS];
        let key_len = record.owner(&mut key)?.len();
        Ok(Signature {
            start: record.start,
            key,
            key_len,
            algorithm,
            time,
            fudge,
            mac,
            original_id: u16::from_be_bytes([tail[0], tail[1]]),
            error: u16::from_be_bytes([tail[2], tail[3]]),
            other,
        })
    }

    /// The key's name in wire form, lower case.
    pub fn key(&self) -> &[u8] {
        &self.key[..self.key_len]
    }

    /// The same as a name.
    pub fn key_name(&self) -> Name {
        Name::from_wire(self.key()).expect("the record was read")
    }

    fn is_of(&self, algorithm: Algorithm) -> bool {
        self.algorithm.eq_ignore_ascii_case(algorithm.wire_name())
    }

    /// In an answer with BADTIME, the time of whoever answers (RFC 8945 §5.2.3).
    pub fn server_time(&self) -> Option<u64> {
        let is_bad_time = self.error == TsigError::BadTime as u16 && self.other.len() == 6;
        is_bad_time.then(|| self.other.iter().fold(0, |time, &octet| time << 8 | u64::from(octet)))
    }

    /// The mark that replays are told by.
    pub fn stamp(&self) -> Stamp {
        let mac = self.mac.iter().take(8).fold(0, |prefix, &octet| prefix << 8 | u64::from(octet));
        Stamp { time: self.time, mac }
    }
}

/// Errors that TSIG itself reports (RFC 8945 §3, "extended RCODEs").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TsigError {
    /// The MAC is wrong.
    BadSig = 16,
    /// The key or its algorithm isn't known here.
    BadKey = 17,
    /// Time Signed is outside of the fudge, or older than what was accepted before.
    BadTime = 18,
    /// The MAC is right but shortened more than we accept: at all.
    BadTrunc = 22,
}

/// A verified request, as far as its answer is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    key: &'a Key,
    /// The MAC of the request.
    mac: &'a [u8],
    original_id: u16,
}

/// The same for an answer that is signed later, or has several messages; or a request that is verified but for its time or
/// the length of its MAC.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Key,
    /// The MAC of the request, or of the message before.
    prior_mac: Box<[u8]>,
    /// Whether a message of the answer was signed already.
    follows: bool,
    /// Time Signed of the request, for BADTIME.
    request_time: u64,
    original_id: u16,
}

/// Why a signed request is not accepted, and how to say so.
#[derive(Clone, Debug)]
pub enum Rejection {
    /// BADKEY or BADSIG: the answer has a TSIG record without a MAC (RFC 8945 §5.2.1, §5.2.2).
    Unsigned(UnsignedError),
    /// BADTIME or BADTRUNC: the answer is signed (RFC 8945 §5.2.3, §5.2.4).
    Signed(Box<Signer>, TsigError),
    /// A MAC length that no sender may use (RFC 8945 §5.2.2.1): FORMERR.
    Malformed,
}

impl Rejection {
    /// What is wrong, for the log.
    pub fn text(&self) -> &'static str {
        match self {
            Rejection::Unsigned(UnsignedError { error, .. }) | Rejection::Signed(_, error) => match error {
                TsigError::BadSig => "BADSIG: the secret is another one there, or the message was changed on its way",
                TsigError::BadKey => "BADKEY: no [[key]] has this name and this algorithm",
                TsigError::BadTime => "BADTIME: the clocks differ by more than the fudge",
                TsigError::BadTrunc => "BADTRUNC: the MAC is shortened",
            },
            Rejection::Malformed => "FORMERR: no MAC has that length",
        }
    }
}

/// A TSIG record without a MAC.
#[derive(Clone, Debug)]
pub struct UnsignedError {
    key: Name,
    algorithm: Name,
    time: u64,
    fudge: u16,
    original_id: u16,
    error: TsigError,
}

/// Verifies a request, as [`check`] does, for an answer that is signed later.
pub fn verify(packet: &[u8], signature: &Signature<'_>, keys: &Keys, now: Wall) -> Result<Signer, Rejection> {
    check(packet, signature, keys, now).map(|verified| Signer::new(verified.key, signature))
}

/// Verifies a request (RFC 8945 §5.2): the key, then the MAC, then the time.
pub fn check<'a>(
    packet: &[u8],
    signature: &'a Signature<'_>,
    keys: &'a Keys,
    now: Wall,
) -> Result<Verified<'a>, Rejection> {
    let unsigned = |error| {
        Rejection::Unsigned(UnsignedError {
            key: signature.key_name(),
            algorithm: Name::from_wire(signature.algorithm).expect("the record was read"),
            time: signature.time,
            fudge: signature.fudge,
            original_id: signature.original_id,
            error,
        })
    };
    let Some(key) = keys.find_wire(signature.key()).filter(|key| signature.is_of(key.algorithm)) else {
        return Err(unsigned(TsigError::BadKey));
    };
    let full = key.algorithm.mac_len();
    if signature.mac.len() > full || signature.mac.len() < (full / 2).max(10) {
        return Err(Rejection::Malformed);
    }
    let mut digest = hmac::Context::with_key(&key.state);
    digest_signed(&mut digest, packet, signature);
    digest_variables(&mut digest, key, signature.time, signature.fudge, signature.error, signature.other);
    let mac = digest.sign();
    // Equal length as far as it goes; the comparison takes the same time wherever they differ.
    if !constant_time_eq(&mac.as_ref()[..signature.mac.len()], signature.mac) {
        return Err(unsigned(TsigError::BadSig));
    }
    let signed = |error| Rejection::Signed(Box::new(Signer::new(key, signature)), error);
    let fudge = u64::from(signature.fudge.min(TSIG_FUDGE));
    if now.seconds().abs_diff(signature.time) > fudge {
        return Err(signed(TsigError::BadTime));
    }
    if signature.mac.len() < full {
        return Err(signed(TsigError::BadTrunc));
    }
    Ok(Verified { key, mac: signature.mac, original_id: signature.original_id })
}

/// Seals a reply whose octets changed since it was sealed, as it was sealed then: `octets` is the reply without its TSIG
/// record, which is appended. `None` if request or reply aren't signed as they were: a reply may be the primary's of a copy,
/// and what was changed on the way from there is not made good here.
pub fn seal_again(request: &[u8], reply: &[u8], octets: &mut Vec<u8>, keys: &Keys, now: Wall) -> Option<()> {
    let before = Envelope::parse(reply).ok()?.tsig?;
    if before.mac.is_empty() && before.error != 0 {
        // It says of a signature that it isn't accepted, ours or the primary's, and covers nothing.
        let Signature { algorithm, time, fudge, mac, original_id, error, other, .. } = before;
        append(octets, before.key(), &Rdata { algorithm, time, fudge, mac, original_id, error, other });
        return Some(());
    }
    let asked = Envelope::parse(request).ok()?.tsig?;
    let (signer, error) = match verify(request, &asked, keys, now) {
        // A replay is found after the signature was verified.
        Ok(signer) => (signer, (before.error == TsigError::BadTime as u16).then_some(TsigError::BadTime)),
        Err(Rejection::Signed(signer, error)) => (*signer, Some(error)),
        Err(_) => return None,
    };
    if !signer.has_signed(reply, before) {
        return None;
    }
    signer.sign(octets, now, error);
    Some(())
}

fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The part of a MAC that covers a message with a TSIG record: as it was before that was added, under its first id (RFC 8945
/// §4.3.2).
fn digest_signed(digest: &mut hmac::Context, packet: &[u8], signature: &Signature<'_>) {
    let mut header = [0; 12];
    header.copy_from_slice(&packet[..12]);
    header[..2].copy_from_slice(&signature.original_id.to_be_bytes());
    let additional = u16::from_be_bytes([header[10], header[11]]);
    header[10..].copy_from_slice(&additional.saturating_sub(1).to_be_bytes());
    digest.update(&header);
    digest.update(&packet[12..signature.start]);
}

/// The part that covers the MAC of the message before, of the request at first (RFC 8945 §4.3.1).
fn digest_prior(digest: &mut hmac::Context, mac: &[u8]) {
    digest.update(&u16::try_from(mac.len()).expect("at most 64").to_be_bytes());
    digest.update(mac);
}

/// What covers the time in all messages of an answer but the first (RFC 8945 §5.3.1).
fn timers(time: u64, fudge: u16) -> [u8; 8] {
    let mut octets = time.to_be_bytes();
    octets.rotate_left(2);
    octets[6..].copy_from_slice(&fudge.to_be_bytes());
    octets
}

/// The part that covers the TSIG variables (RFC 8945 §4.3.3).
fn digest_variables(digest: &mut hmac::Context, key: &Key, time: u64, fudge: u16, error: u16, other: &[u8]) {
    let mut rest = [0; 12];
    rest[..8].copy_from_slice(&timers(time, fudge));
    rest[8..10].copy_from_slice(&error.to_be_bytes());
    rest[10..].copy_from_slice(&u16::try_from(other.len()).expect("at most a record's data").to_be_bytes());
    digest.update(&key.variables);
    digest.update(&rest);
    digest.update(other);
}

/// Signs an answer of one message as it stands, over the MAC of its request (RFC 8945 §5.3), and appends the TSIG record.
fn seal(message: &mut Vec<u8>, verified: Verified<'_>, time: u64, error: u16, other: &[u8]) {
    let Verified { key, mac, original_id } = verified;
    let mut digest = hmac::Context::with_key(&key.state);
    digest_prior(&mut digest, mac);
    digest.update(message);
    digest_variables(&mut digest, key, time, TSIG_FUDGE, error, other);
    append_signed(message, key, digest.sign().as_ref(), time, original_id, error, other);
}

fn append_signed(message: &mut Vec<u8>, key: &Key, mac: &[u8], time: u64, original_id: u16, error: u16, other: &[u8]) {
    let algorithm = key.algorithm.wire_name();
    let rdata = Rdata { algorithm, time, fudge: TSIG_FUDGE, mac, original_id, error, other };
    append(message, key.name.as_wire(), &rdata);
}

impl<'a> Verified<'a> {
    /// The key that the request was signed with.
    pub fn key_name(&self) -> &'a Name {
        &self.key.name
    }

    /// How many octets are kept for a signature, as by [`Signer::len`].
    pub fn len(&self) -> usize {
        record_len(&self.key.name, self.key.algorithm, 6)
    }

    /// Always false.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Signs the answer as it stands in `message` and appends the TSIG record, as [`Signer::sign`] does without an error.
    pub fn sign(&self, message: &mut Vec<u8>, now: Wall) {
        seal(message, *self, now.seconds(), 0, &[]);
    }
}

impl Signer {
    fn new(key: &Key, signature: &Signature<'_>) -> Signer {
        Signer {
            key: key.clone(),
            prior_mac: signature.mac.into(),
            follows: false,
            request_time: signature.time,
            original_id: signature.original_id,
        }
    }

    /// The key that the request was signed with.
    pub fn key_name(&self) -> &Name {
        &self.key.name
    }

    /// How many octets [`Signer::sign`] appends at most.
    pub fn len(&self) -> usize {
        record_len(&self.key.name, self.key.algorithm, 6)
    }

    /// Always false.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Signs the answer as it stands in `message` and appends the TSIG record (RFC 8945 §5.3). The octets must be the very
    /// ones that are sent.
    pub fn sign(&self, message: &mut Vec<u8>, now: Wall, error: Option<TsigError>) {
        // BADTIME: the client's own time, and ours in Other Data (RFC 8945 §5.2.3).
        let bad_time = error == Some(TsigError::BadTime);
        let time = if bad_time { self.request_time } else { now.seconds() };
        let other: &[u8] = if bad_time { &now.seconds().to_be_bytes()[2..] } else { &[] };
        let error = error.map_or(0, |error| error as u16);
        let verified = Verified { key: &self.key, mac: &self.prior_mac, original_id: self.original_id };
        seal(message, verified, time, error, other);
    }

    /// Whether this is the signature of an answer as [`Signer::sign`] makes it, by whoever has the key.
    fn has_signed(&self, answer: &[u8], mut signature: Signature<'_>) -> bool {
        if signature.key() != self.key.name.as_wire() || !signature.is_of(self.key.algorithm) {
            return false;
        }
        // The octets are signed under the id that they have.
        signature.original_id = u16::from_be_bytes([answer[0], answer[1]]);
        let Signature { time, fudge, error, other, .. } = signature;
        let mut digest = hmac::Context::with_key(&self.key.state);
        digest_prior(&mut digest, &self.prior_mac);
        digest_signed(&mut digest, answer, &signature);
        digest_variables(&mut digest, &self.key, time, fudge, error, other);
        constant_time_eq(digest.sign().as_ref(), signature.mac)
    }

    /// Signs the next message of an answer that has several (RFC 8945 §5.3.1), the first one like an answer that has one.
    pub fn sign_next(&mut self, message: &mut Vec<u8>, now: Wall) {
        let time = now.seconds();
        let mut digest = hmac::Context::with_key(&self.key.state);
        digest_prior(&mut digest, &self.prior_mac);
        digest.update(message);
        if self.follows {
            digest.update(&timers(time, TSIG_FUDGE));
        } else {
            digest_variables(&mut digest, &self.key, time, TSIG_FUDGE, 0, &[]);
        }
        let mac = digest.sign();
        append_signed(message, &self.key, mac.as_ref(), time, self.original_id, 0, &[]);
        self.prior_mac = mac.as_ref().into();
        self.follows = true;
    }
}

impl UnsignedError {
    /// Whether the key isn't known here, or has another algorithm: the signature may be right all the same.
    pub fn is_of_key(&self) -> bool {
        self.error == TsigError::BadKey
    }

    /// How many octets [`UnsignedError::append`] appends.
    pub fn len(&self) -> usize {
        self.key.as_wire().len() + 10 + self.algorithm.as_wire().len() + 16
    }

    /// Always false.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Appends the TSIG record without a MAC.
    pub fn append(&self, message: &mut Vec<u8>) {
        let rdata = Rdata {
            algorithm: self.algorithm.as_wire(),
            time: self.time,
            fudge: self.fudge,
            mac: &[],
            original_id: self.original_id,
            error: self.error as u16,
            other: &[],
        };
        append(message, self.key.as_wire(), &rdata);
    }
}

struct Rdata<'a> {
    algorithm: &'a [u8],
    time: u64,
    fudge: u16,
    mac: &'a [u8],
    original_id: u16,
    error: u16,
    other: &'a [u8],
}

fn record_len(key: &Name, algorithm: Algorithm, other: usize) -> usize {
    key.as_wire().len() + 10 + algorithm.wire_name().len() + 16 + algorithm.mac_len() + other
}

/// Appends a TSIG record and counts it in the header.
fn append(message: &mut Vec<u8>, key: &[u8], rdata: &Rdata<'_>) {
    let short = |len: usize| u16::try_from(len).expect("parts of a TSIG record are short").to_be_bytes();
    let length = rdata.algorithm.len() + 16 + rdata.mac.len() + rdata.other.len();
    message.extend_from_slice(key);
    message.extend_from_slice(&RecordType::TSIG.0.to_be_bytes());
    message.extend_from_slice(&CLASS_ANY.to_be_bytes());
    message.extend_from_slice(&0u32.to_be_bytes());
    message.extend_from_slice(&short(length));
    message.extend_from_slice(rdata.algorithm);
    message.extend_from_slice(&rdata.time.to_be_bytes()[2..]);
    message.extend_from_slice(&rdata.fudge.to_be_bytes());
    message.extend_from_slice(&short(rdata.mac.len()));
    message.extend_from_slice(rdata.mac);
    message.extend_from_slice(&rdata.original_id.to_be_bytes());
    message.extend_from_slice(&rdata.error.to_be_bytes());
    message.extend_from_slice(&short(rdata.other.len()));
    message.extend_from_slice(rdata.other);
    let additional = u16::from_be_bytes([message[10], message[11]]) + 1;
    message[10..12].copy_from_slice(&additional.to_be_bytes());
}
