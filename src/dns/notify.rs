//! NOTIFY (RFC 1996): that a zone has changed, as the primary tells it to a secondary.
//!
//! The request is a question for the SOA record with opcode 4, and the new record as a hint in its answer section (§3.7).
//! Its response is the same message with QR set, and tells by its rcode whether it was understood. What a secondary makes
//! of a request, it asks the primary itself: the hint is as trustworthy as its sender.

use crate::answer::encode::Encoder;
use crate::base::{Name, RecordType, Serial};
use crate::zone::Record;
use crate::zone::settings::serial_of;

use super::soa;
use super::transaction::request as question;
use super::wire::{CLASS_IN, Envelope, Malformed, Opcode};

/// Opcode NOTIFY with AA: the primary's own word (RFC 1996 §3.3).
const FLAGS: u16 = (Opcode::NOTIFY.0 as u16) << 11 | 0x0400;

/// A request that tells of a zone's new SOA record. [`super::transaction::Transaction`] signs it, and knows its response.
pub fn request(id: u16, soa: &Record) -> Vec<u8> {
    let mut out = question(id, FLAGS, &soa.owner);
    let mut encoder = Encoder::after_question(&soa.owner);
    encoder.record(soa.owner.as_wire(), soa.rtype, soa.ttl, &soa.rdata);
    out.extend_from_slice(encoder.tail());
    out[6..8].copy_from_slice(&1_u16.to_be_bytes()); // ANCOUNT
    out
}

/// What a request says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The zone that has changed.
    pub origin: Name,
    /// The serial that it is said to have, if that is told (RFC 1996 §3.7).
    pub serial: Option<Serial>,
}

/// Reads a request as a secondary gets it. `None` if it asks about anything but a zone's SOA record, of which RFC 1996 says
/// nothing (§3.11).
pub fn read(envelope: &Envelope<'_>) -> Result<Option<Notice>, Malformed> {
    let question = &envelope.question;
    if question.qtype != RecordType::SOA || question.class != CLASS_IN {
        return Ok(None);
    }
    let origin = Name::from_wire(question.name()).map_err(|_| Malformed("a name is malformed"))?;
    let serial = soa::find(envelope.first_section(), &origin)?.map(|record| serial_of(&record));
    Ok(Some(Notice { origin, serial }))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::SOA;
    use hickory_proto::rr::{DNSClass, Name as WireName, RData, Record as WireRecord, RecordType as WireType};
    use proptest::prelude::*;

    use super::*;
    use crate::base::{Ttl, Wall};
    use crate::dns::transaction::Transaction;
    use crate::dns::wire::Rcode;

    const ORIGIN: &str = "svc.example.test.";
    const ID: u16 = 0x1234;
    const NOW: Wall = Wall(1_800_000_000_000);

    fn wire_name(text: &str) -> WireName {
        WireName::from_ascii(text).unwrap()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn record() -> Record {
        let words = [41_u32, 1, 2, 3, 4].map(u32::to_be_bytes).concat();
        let (primary, contact) = (name("ns1.svc.example.test."), name("hostmaster.example.test."));
        let rdata = [primary.as_wire(), contact.as_wire(), &words].concat().into();
        Record { owner: name(ORIGIN), rtype: RecordType::SOA, ttl: Ttl(5), rdata }
    }

    /// The same as another implementation has it.
    fn wire_record(owner: &str) -> WireRecord {
        let soa = SOA::new(wire_name("ns1.svc.example.test."), wire_name("hostmaster.example.test."), 41, 1, 2, 3, 4);
        WireRecord::from_rdata(wire_name(owner), 5, RData::SOA(soa))
    }

    /// A request of a well-behaved primary, before a test changes it.
    fn sent(change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::new(ID, MessageType::Query, OpCode::Notify);
        message.metadata.authoritative = true;
        message.add_query(Query::query(wire_name("Svc.Example.TEST."), WireType::SOA));
        message.add_answer(wire_record(ORIGIN));
        change(&mut message);
        message.to_vec().unwrap()
    }

    fn read_changed(change: impl FnOnce(&mut Message)) -> Result<Option<Notice>, Malformed> {
        read(&Envelope::parse(&sent(change)).unwrap())
    }

    #[test]
    fn the_request_is_as_another_implementation_reads_it() {
        let message = Message::from_vec(&request(ID, &record())).unwrap();
        let mut question = Query::query(wire_name(ORIGIN), WireType::SOA);
        question.set_query_class(DNSClass::IN);
        assert_eq!(message.queries, [question]);
        assert_eq!((message.metadata.id, message.metadata.op_code), (ID, OpCode::Notify));
        assert_eq!(message.metadata.message_type, MessageType::Query);
        assert!(message.metadata.authoritative && !message.metadata.recursion_desired && !message.metadata.truncation);
        assert_eq!(message.answers, [wire_record(ORIGIN)]);
        assert!(message.authorities.is_empty() && message.additionals.is_empty() && message.edns.is_none());
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let octets = request(ID, &record());
        let notice = read(&Envelope::parse(&octets).unwrap()).unwrap();
        assert_eq!(notice, Some(Notice { origin: name(ORIGIN), serial: Some(Serial(41)) }));
    }

    #[test]
    fn the_hint_is_of_the_zone_itself_and_may_be_missing() {
        let serial = |change: fn(&mut Message)| read_changed(change).unwrap().unwrap().serial;
        assert_eq!(serial(|_| {}), Some(Serial(41)));
        assert_eq!(serial(|message| message.answers.clear()), None);
        assert_eq!(serial(|message| message.answers = vec![wire_record("example.test.")]), None);
        assert_eq!(read_changed(|message| message.answers.clear()).unwrap().unwrap().origin, name(ORIGIN));
    }

    #[test]
    fn only_the_soa_record_of_class_in_can_have_changed() {
        let asked = |rtype, class| {
            move |message: &mut Message| {
                let mut question = Query::query(wire_name(ORIGIN), rtype);
                question.set_query_class(class);
                message.queries = vec![question];
            }
        };
        assert_eq!(read_changed(asked(WireType::NS, DNSClass::IN)), Ok(None));
        assert_eq!(read_changed(asked(WireType::SOA, DNSClass::CH)), Ok(None));
        assert!(read_changed(asked(WireType::SOA, DNSClass::IN)).unwrap().is_some());
    }

    /// The rcode of the response that a secondary gives, changed by a test.
    fn answered(change: impl FnOnce(&mut Message)) -> Option<Rcode> {
        let mut octets = request(ID, &record());
        let mut transaction = Transaction::begin(&mut octets, None, NOW);
        let mut message = Message::from_vec(&octets).unwrap();
        message.metadata.message_type = MessageType::Response;
        change(&mut message);
        let response = message.to_vec().unwrap();
        let envelope = transaction.accept(&response, NOW)?.expect("nothing is signed");
        Some(envelope.header.rcode())
    }

    #[test]
    fn the_response_has_the_id_the_opcode_and_the_question_of_the_request() {
        assert_eq!(answered(|_| {}), Some(Rcode::NOERROR));
        assert_eq!(answered(|message| message.answers.clear()), Some(Rcode::NOERROR));
        assert_eq!(answered(|message| message.metadata.response_code = ResponseCode::NotImp), Some(Rcode::NOTIMP));
        assert_eq!(answered(|message| message.metadata.message_type = MessageType::Query), None);
        assert_eq!(answered(|message| message.metadata.id = ID + 1), None);
        assert_eq!(answered(|message| message.metadata.op_code = OpCode::Query), None);
        assert_eq!(answered(|message| message.queries.clear()), None);
        let elsewhere = |message: &mut Message| {
            message.queries = vec![Query::query(wire_name("example.test."), WireType::SOA)];
        };
        assert_eq!(answered(elsewhere), None);
    }

    proptest! {
        #[test]
        fn damaged_requests_never_panic(changes in prop::collection::vec((0usize..100, any::<u8>()), 1..6)) {
            let mut octets = sent(|_| {});
            for (at, octet) in changes {
                let at = at % octets.len();
                octets[at] = octet;
            }
            if let Ok(envelope) = Envelope::parse(&octets) {
                let _ = read(&envelope);
            }
        }
    }
}
