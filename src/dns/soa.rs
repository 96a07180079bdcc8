//! The question for a zone's SOA record, and what its answer tells: how one server learns which serial another has
//! (RFC 1034 §4.3.5).

use crate::base::{Name, RecordType, Serial, Ttl};
use crate::zone::Record;
use crate::zone::settings::serial_of;

use super::transaction::{request, response};
use super::wire::{CLASS_IN, Envelope, Malformed, Opcode, RawRecord, Rcode};

/// The answer to the question tells no serial. Asking again would bring the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoSerial {
    /// The server doesn't answer for the zone, or can't.
    #[error("it answers {0}")]
    Rcode(Rcode),
    /// It answers without the record, as one does that only knows whom to ask.
    #[error("its answer has no SOA record of the zone")]
    NoSoa,
}

/// A query for the SOA record: without RD, since what the server has itself is asked for and not what it would fetch, and
/// without EDNS, which an answer with one record has no need of. [`super::transaction::Transaction`] signs it.
pub fn query(id: u16, origin: &Name) -> Vec<u8> {
    request(id, 0, origin)
}

/// Reads what came from the server that was asked, without a signature. `None` if it is no answer to this question, or
/// can't be read: whoever waits for one waits on.
///
/// The answer need not be authoritative: a serial that a cache remembers was published as well.
pub fn read(packet: &[u8], id: u16, origin: &Name) -> Option<Result<Serial, NoSerial>> {
    let envelope = response(packet, id, Opcode::QUERY, origin)?;
    Some(record(&envelope, origin)?.map(|record| serial_of(&record)))
}

/// The SOA record of an answer to the question for it, its data in canonical form. `None` if it can't be read.
pub fn record(envelope: &Envelope<'_>, origin: &Name) -> Option<Result<Record, NoSerial>> {
    let rcode = envelope.header.rcode();
    if rcode != Rcode::NOERROR {
        return Some(Err(NoSerial::Rcode(rcode)));
    }
    match find(envelope.first_section(), origin) {
        Ok(found) => Some(found.ok_or(NoSerial::NoSoa)),
        Err(Malformed(_)) => None,
    }
}

/// The zone's SOA record among those of a section, if it is there.
pub(super) fn find<'m>(
    records: impl Iterator<Item = RawRecord<'m>>,
    origin: &Name,
) -> Result<Option<Record>, Malformed> {
    for record in records {
        if record.rtype == RecordType::SOA && record.class == CLASS_IN && record.name()? == *origin {
            let rdata = record.rdata()?;
            return Ok(Some(Record { owner: origin.clone(), rtype: record.rtype, ttl: Ttl(record.ttl), rdata }));
        }
    }
    Ok(None)
}

/// The serial in the data of a SOA record; `None` if they are too short for one.
pub fn serial(rdata: &[u8]) -> Option<Serial> {
    // SERIAL is the first of the five words behind the two names (RFC 1035 §3.3.13).
    let (serial, _) = rdata.last_chunk::<20>()?.split_first_chunk::<4>()?;
    Some(Serial(u32::from_be_bytes(*serial)))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::{NS, SOA};
    use hickory_proto::rr::{DNSClass, Name as WireName, RData, Record, RecordType as WireType};
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: &str = "svc.example.test.";
    const ID: u16 = 0x1234;

    fn origin() -> Name {
        ORIGIN.parse().unwrap()
    }

    fn wire_name(text: &str) -> WireName {
        WireName::from_ascii(text).unwrap()
    }

    fn soa(owner: &str, serial: u32) -> Record {
        let soa =
            SOA::new(wire_name("ns1.svc.example.test."), wire_name("hostmaster.example.test."), serial, 1, 2, 3, 4);
        Record::from_rdata(wire_name(owner), 5, RData::SOA(soa))
    }

    /// The answer of a well-behaved server, before a test changes it.
    fn answer(change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::new(ID, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(wire_name("Svc.Example.TEST."), WireType::SOA));
        message.add_answer(soa("svc.example.test.", 41));
        change(&mut message);
        message.to_vec().unwrap()
    }

    fn read_changed(change: impl FnOnce(&mut Message)) -> Option<Result<Serial, NoSerial>> {
        read(&answer(change), ID, &origin())
    }

    #[test]
    fn the_question_is_as_another_implementation_reads_it() {
        let message = Message::from_vec(&query(ID, &origin())).unwrap();
        let mut question = Query::query(wire_name(ORIGIN), WireType::SOA);
        question.set_query_class(DNSClass::IN);
        assert_eq!(message.queries, [question]);
        assert_eq!((message.metadata.id, message.metadata.op_code), (ID, OpCode::Query));
        assert_eq!(message.metadata.message_type, MessageType::Query);
        assert!(!message.metadata.recursion_desired);
        assert!(message.answers.is_empty() && message.authorities.is_empty() && message.edns.is_none());
    }

    #[test]
    fn an_answer_tells_the_serial() {
        assert_eq!(read_changed(|_| {}), Some(Ok(Serial(41))));
        let behind_another = read_changed(|message| {
            message.answers.insert(0, soa("example.test.", 7));
        });
        assert_eq!(behind_another, Some(Ok(Serial(41))));
    }

    #[test]
    fn an_answer_without_a_serial_is_final() {
        for (code, rcode) in [(ResponseCode::Refused, Rcode::REFUSED), (ResponseCode::ServFail, Rcode::SERVFAIL)] {
            let read = read_changed(|message| message.metadata.response_code = code);
            assert_eq!(read, Some(Err(NoSerial::Rcode(rcode))), "whatever else it holds");
        }
        assert_eq!(read_changed(|message| message.answers.clear()), Some(Err(NoSerial::NoSoa)));
        let of_the_parent = read_changed(|message| message.answers = vec![soa("example.test.", 41)]);
        assert_eq!(of_the_parent, Some(Err(NoSerial::NoSoa)));
        let referral = read_changed(|message| {
            message.authorities = std::mem::take(&mut message.answers);
            let ns = RData::NS(NS(wire_name("ns1.svc.example.test.")));
            message.answers.push(Record::from_rdata(wire_name(ORIGIN), 5, ns));
        });
        assert_eq!(referral, Some(Err(NoSerial::NoSoa)));
    }

    #[test]
    fn what_answers_another_question_is_none() {
        assert_eq!(read(&answer(|_| {}), ID + 1, &origin()), None);
        assert_eq!(read(&answer(|_| {}), ID, &"example.test.".parse().unwrap()), None);
        assert_eq!(read_changed(|message| message.metadata.message_type = MessageType::Query), None);
        assert_eq!(read_changed(|message| message.metadata.op_code = OpCode::Notify), None);
        assert_eq!(read_changed(|message| message.queries.clear()), None);
        let asked = |rtype, class| {
            move |message: &mut Message| {
                let mut question = Query::query(wire_name(ORIGIN), rtype);
                question.set_query_class(class);
                message.queries = vec![question];
            }
        };
        assert_eq!(read_changed(asked(WireType::NS, DNSClass::IN)), None);
        assert_eq!(read_changed(asked(WireType::SOA, DNSClass::CH)), None);
        assert_eq!(read_changed(asked(WireType::SOA, DNSClass::IN)), Some(Ok(Serial(41))));
    }

    #[test]
    fn a_cut_answer_is_none() {
        let whole = answer(|_| {});
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end], ID, &origin()), None, "cut at {end}");
        }
        assert_eq!(read(&[whole.as_slice(), &[0]].concat(), ID, &origin()), None);
    }

    proptest! {
        #[test]
        fn damaged_answers_never_panic(changes in prop::collection::vec((0usize..100, any::<u8>()), 1..6)) {
            let mut octets = answer(|_| {});
            for (at, octet) in changes {
                let at = at % octets.len();
                octets[at] = octet;
            }
            let _ = read(&octets, ID, &origin());
        }
    }
}
