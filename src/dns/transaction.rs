//! The side that asks: a request about a zone's SOA record, signed or not, and what counts as its response. Queries for a
//! serial ([`super::soa`]) and NOTIFY ([`super::notify`]) are such requests.

use crate::base::{Name, RecordType, Wall};

use super::tsig::{Distrust, Exchange, Key};
use super::wire::{CLASS_IN, Envelope, Header, Opcode, read_question};

/// A request on its way.
#[derive(Debug)]
pub struct Transaction {
    id: u16,
    opcode: Opcode,
    origin: Name,
    /// What its response is verified by, if it is signed.
    exchange: Option<Exchange>,
}

impl Transaction {
    /// Begins with a request as it stands in `message`, about the SOA record of a zone, which is signed if there is a key.
    pub fn begin(message: &mut Vec<u8>, key: Option<&Key>, now: Wall) -> Transaction {
        let header = Header::read(message).expect("a request has a header");
        let (question, _) = read_question(message).expect("a request has a question");
        let origin = Name::from_wire(question.name()).expect("the name of a zone");
        let exchange = key.map(|key| Exchange::sign(key, message, now));
        Transaction { id: header.id, opcode: header.opcode(), origin, exchange }
    }

    /// Reads what came from the server that was asked. `None` if it is no response to this request, or can't be read; an
    /// error if it is one that can't be trusted. In both cases whoever waits over UDP waits on, since anybody may have sent
    /// it.
    pub fn accept<'m>(&mut self, packet: &'m [u8], now: Wall) -> Option<Result<Envelope<'m>, Distrust>> {
        let envelope = response(packet, self.id, self.opcode, &self.origin)?;
        if let Some(exchange) = &mut self.exchange
            && let Err(distrust) = exchange.verify(packet, envelope.tsig.as_ref(), now)
        {
            return Some(Err(distrust));
        }
        Some(Ok(envelope))
    }
}

/// A message that is the response to a request about a zone's SOA record: id, opcode and question are the same.
pub(super) fn response<'m>(packet: &'m [u8], id: u16, opcode: Opcode, origin: &Name) -> Option<Envelope<'m>> {
    let envelope = Envelope::parse(packet).ok()?;
    let (header, question) = (&envelope.header, &envelope.question);
    let is_response = header.is_response() && header.id == id && header.opcode() == opcode;
    let is_to_this =
        question.name() == origin.as_wire() && question.qtype == RecordType::SOA && question.class == CLASS_IN;
    (is_response && is_to_this).then_some(envelope)
}

/// A request about a zone's SOA record, without any record.
pub(super) fn request(id: u16, flags: u16, origin: &Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + origin.as_wire().len() + 4);
    let counts = [1, 0, 0, 0];
    for word in [id, flags].into_iter().chain(counts) {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(origin.as_wire());
    out.extend_from_slice(&RecordType::SOA.0.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Serial;
    use crate::dns::tsig::{self, Algorithm, Keys};
    use crate::dns::wire::Rcode;
    use crate::dns::{notify, soa};
    use crate::zone::Record;
    use crate::zone::settings::serial_of;

    const NOW: Wall = Wall(1_800_000_000_000);
    const ID: u16 = 0x1234;

    fn key(secret: &[u8]) -> Key {
        Key::new("xfer.".parse().unwrap(), Algorithm::HmacSha256, secret)
    }

    fn origin() -> Name {
        "z.test.".parse().unwrap()
    }

    /// The SOA record with this serial.
    fn record(serial: u32) -> Record {
        let words = [serial, 1, 2, 3, 4].map(u32::to_be_bytes).concat();
        Record {
            owner: origin(),
            rtype: RecordType::SOA,
            ttl: crate::base::Ttl(5),
            rdata: [&[0, 0][..], &words].concat().into(),
        }
    }

    /// A signed response, made of the request, by a server that has the key of this secret.
    fn respond(request: &[u8], flags: u16, secret: &[u8], now: Wall) -> Vec<u8> {
        let envelope = Envelope::parse(request).unwrap();
        let keys = Keys::new([key(secret)]);
        let signer = tsig::verify(request, envelope.tsig.as_ref().unwrap(), &keys, now).expect("the request verifies");
        // A NOTIFY but for its flags: the question with the record as its answer.
        let mut out = notify::request(ID, &record(41));
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        signer.sign(&mut out, now, None);
        out
    }

    #[test]
    fn a_signed_query_takes_a_signed_answer_alone() {
        let mut query = soa::query(ID, &origin());
        let unsigned = query.clone();
        let mut transaction = Transaction::begin(&mut query, Some(&key(b"secret")), NOW);
        assert!(query.starts_with(&unsigned[..10]) && query.len() > unsigned.len());
        let answer = respond(&query, 0x8400, b"secret", NOW);
        // The same without its signature.
        let mut bare = notify::request(ID, &record(42));
        bare[2..4].copy_from_slice(&0x8400_u16.to_be_bytes());
        assert_eq!(transaction.accept(&bare, NOW).unwrap().unwrap_err(), Distrust::Unsigned);
        let mut wrong = answer.clone();
        let at = wrong.len() - 20;
        wrong[at] ^= 1;
        assert_eq!(transaction.accept(&wrong, NOW).unwrap().unwrap_err(), Distrust::BadSignature);
        let envelope = transaction.accept(&answer, NOW).unwrap().unwrap();
        let found = soa::record(&envelope, &origin()).unwrap().unwrap();
        assert_eq!((serial_of(&found), found), (Serial(41), record(41)));
    }

    #[test]
    fn a_response_to_another_request_is_passed_over_whoever_signed_it() {
        let mut notify = notify::request(ID, &record(41));
        let mut transaction = Transaction::begin(&mut notify, Some(&key(b"secret")), NOW);
        assert!(transaction.accept(&respond(&notify, 0x8400, b"secret", NOW), NOW).is_none(), "to a query");
        assert!(transaction.accept(&notify, NOW).is_none(), "its own request");
        let refusal = respond(&notify, 0xa405, b"secret", NOW);
        let envelope = transaction.accept(&refusal, NOW);
        assert_eq!(envelope.unwrap().unwrap().header.rcode(), Rcode::REFUSED);
    }
}
