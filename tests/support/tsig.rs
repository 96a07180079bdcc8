//! TSIG (RFC 8945) as a client does it, with ring: independent of the server's code, and able to do it wrong.

use base64::Engine as _;
use ring::hmac;

use super::message::{CLASS_ANY, name, record};

/// A key, with its names as they are to be written on the wire.
#[derive(Clone, Debug)]
pub(crate) struct TsigKey {
    pub(crate) name: String,
    pub(crate) algorithm: String,
    pub(crate) secret: Vec<u8>,
}

/// A signed message and what verifies its answer.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) octets: Vec<u8>,
    pub(crate) mac: Vec<u8>,
}

/// The TSIG record of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AnswerTsig {
    pub(crate) time: u64,
    pub(crate) fudge: u16,
    pub(crate) error: u16,
    pub(crate) other: Vec<u8>,
    /// None without a MAC; else whether it is right.
    pub(crate) verified: Option<bool>,
}

pub(crate) const BADSIG: u16 = 16;
pub(crate) const BADKEY: u16 = 17;
pub(crate) const BADTIME: u16 = 18;

/// The Unix time.
pub(crate) fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// What an answer's MAC covers of its request.
fn prior(request_mac: &[u8]) -> Vec<u8> {
    [&u16::try_from(request_mac.len()).unwrap().to_be_bytes()[..], request_mac].concat()
}

impl TsigKey {
    /// Reads what `livezone keygen` wrote.
    pub(crate) fn read(file: &std::path::Path) -> TsigKey {
        let text = std::fs::read_to_string(file).unwrap();
        let clause = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let after = |word: &str| {
            let rest = clause.split_once(word).unwrap().1.trim_start();
            rest.split([';', ' ', '{']).next().unwrap().trim_matches('"').to_owned()
        };
        let secret = base64::engine::general_purpose::STANDARD.decode(after("secret")).unwrap();
        TsigKey { name: after("key"), algorithm: format!("{}.", after("algorithm")), secret }
    }

    /// As `kdig -y` and `knsupdate -y` take it.
    pub(crate) fn as_argument(&self) -> String {
        let secret = base64::engine::general_purpose::STANDARD.encode(&self.secret);
        format!("{}:{}:{secret}", self.algorithm.trim_end_matches('.'), self.name)
    }

    fn state(&self) -> hmac::Key {
        let algorithm = match self.algorithm.to_ascii_lowercase().as_str() {
            "hmac-sha256." => hmac::HMAC_SHA256,
            "hmac-sha384." => hmac::HMAC_SHA384,
            "hmac-sha512." => hmac::HMAC_SHA512,
            other => panic!("unknown algorithm {other}"),
        };
        hmac::Key::new(algorithm, &self.secret)
    }

    /// RFC 8945 §4.3.3.
    fn variables(&self, time: u64, fudge: u16, error: u16, other: &[u8]) -> Vec<u8> {
        let mut octets = name(&self.name.to_ascii_lowercase());
        octets.extend(CLASS_ANY.to_be_bytes());
        octets.extend([0; 4]);
        octets.extend(name(&self.algorithm.to_ascii_lowercase()));
        octets.extend(&time.to_be_bytes()[2..]);
        octets.extend(fudge.to_be_bytes());
        octets.extend(error.to_be_bytes());
        octets.extend(u16::try_from(other.len()).unwrap().to_be_bytes());
        octets.extend(other);
        octets
    }

    /// Signs a message now.
    pub(crate) fn sign(&self, message: &[u8]) -> Signed {
        self.sign_at(message, unix_time())
    }

    /// Signs a message as if it were this time.
    pub(crate) fn sign_at(&self, message: &[u8], time: u64) -> Signed {
        self.sign_behind(&[], message, time)
    }

    /// Signs the answer to a request with this MAC.
    pub(crate) fn sign_answer(&self, message: &[u8], request_mac: &[u8]) -> Vec<u8> {
        self.sign_behind(&prior(request_mac), message, unix_time()).octets
    }

    fn sign_behind(&self, prior: &[u8], message: &[u8], time: u64) -> Signed {
        const FUDGE: u16 = 300;
        let covered = [prior, message, &self.variables(time, FUDGE, 0, &[])].concat();
        let mac = hmac::sign(&self.state(), &covered).as_ref().to_vec();
        let mut rdata = name(&self.algorithm);
        rdata.extend(&time.to_be_bytes()[2..]);
        rdata.extend(FUDGE.to_be_bytes());
        rdata.extend(u16::try_from(mac.len()).unwrap().to_be_bytes());
        rdata.extend(&mac);
        rdata.extend(&message[..2]);
        rdata.extend([0; 4]);
        let mut octets = message.to_vec();
        octets.extend(record(&self.name, 250, CLASS_ANY, 0, &rdata));
        let additional = u16::from_be_bytes([octets[10], octets[11]]) + 1;
        octets[10..12].copy_from_slice(&additional.to_be_bytes());
        Signed { octets, mac }
    }

    /// Reads the TSIG record at the end of an answer; `None` if there is none of this key.
    pub(crate) fn read_answer(&self, answer: &[u8], request_mac: &[u8]) -> Option<AnswerTsig> {
        self.read_behind(&prior(request_mac), answer, |tsig| {
            self.variables(tsig.time, tsig.fudge, tsig.error, &tsig.other)
        })
        .map(|(tsig, _)| tsig)
    }

    /// A request without its TSIG record, and its MAC; `None` unless it is signed with this key, and rightly.
    pub(crate) fn read_request(&self, request: &[u8]) -> Option<Signed> {
        let variables = |tsig: &AnswerTsig| self.variables(tsig.time, tsig.fudge, tsig.error, &tsig.other);
        let (tsig, signed) = self.read_behind(&[], request, variables)?;
        (tsig.verified == Some(true)).then_some(signed)
    }

    /// Verifies an answer of several messages, each of which is signed: the first like any answer, the others over the MAC
    /// of the one before and the timers alone (RFC 8945 §5.3.1).
    pub(crate) fn verify_messages(&self, messages: &[Vec<u8>], request_mac: &[u8]) {
        let mut mac = request_mac.to_vec();
        for (number, message) in messages.iter().enumerate() {
            let variables = |tsig: &AnswerTsig| match number {
                0 => self.variables(tsig.time, tsig.fudge, tsig.error, &tsig.other),
                _ => [&tsig.time.to_be_bytes()[2..], &tsig.fudge.to_be_bytes()].concat(),
            };
            let (tsig, signed) = self
                .read_behind(&prior(&mac), message, variables)
                .unwrap_or_else(|| panic!("message {number} is not signed"));
            assert_eq!((tsig.error, tsig.verified), (0, Some(true)), "message {number}");
            mac = signed.mac;
        }
    }

    /// Reads the TSIG record of a message, whose MAC covers `prior`, the message, and what `variables` gives.
    fn read_behind(
        &self,
        prior: &[u8],
        answer: &[u8],
        variables: impl Fn(&AnswerTsig) -> Vec<u8>,
    ) -> Option<(AnswerTsig, Signed)> {
        let owner = name(&self.name.to_ascii_lowercase());
        let head = [&owner[..], &[0, 250, 0, 255, 0, 0, 0, 0]].concat();
        let start = answer.windows(head.len()).rposition(|window| window.eq_ignore_ascii_case(&head))?;
        let rdata = &answer[start + head.len() + 2..];
        let rest = &rdata[name(&self.algorithm).len()..];
        let word = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
        let time = rest[..6].iter().fold(0, |time, &octet| time << 8 | u64::from(octet));
        let mac = &rest[10..10 + usize::from(word(8))];
        let tail = 10 + mac.len();
        let (original_id, error) = (word(tail), word(tail + 2));
        let other = rest[tail + 6..].to_vec();
        assert_eq!(other.len(), usize::from(word(tail + 4)), "the TSIG record ends the message");
        assert_eq!(original_id.to_be_bytes(), answer[..2]);
        let mut message = answer[..start].to_vec();
        let additional = u16::from_be_bytes([message[10], message[11]]) - 1;
        message[10..12].copy_from_slice(&additional.to_be_bytes());
        let mut tsig = AnswerTsig { time, fudge: word(6), error, other, verified: None };
        let covered = [prior, &message, &variables(&tsig)].concat();
        tsig.verified = (!mac.is_empty()).then(|| hmac::verify(&self.state(), &covered, mac).is_ok());
        Some((tsig, Signed { octets: message, mac: mac.to_vec() }))
    }
}
