//! Asking another server for the serials of zones, over UDP.
//!
//! One connected socket a server ([`super::peer`]). The questions of several zones share it, told apart by their ids, which follow each other from a random one.
//! A question is sent again while there is time, since datagrams get lost; what is no answer to one is passed over.
//!
//! Whoever asks names a deadline, and has an outcome for each zone by then. Asking ends earlier when nothing is missing
//! any more, or the socket fails.
//!
//! Bounds: a server is asked for at most `QUESTIONS` zones, `BURST` of them in a row, each at most `SENDS` times.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::base::limits::UDP_OCTETS;
use crate::base::{Name, Serial};
use crate::dns::soa::{self, NoSerial};
use crate::dns::wire::Header;

use super::peer::{self, connect};

/// How often a question is sent: it gets through where one of two datagrams is lost.
const SENDS: u32 = 3;
/// How long until it is sent again: longer than an answer takes from anywhere on earth.
const AGAIN: Duration = Duration::from_millis(600);
/// Questions sent in a row: what the socket buffer of any server holds.
const BURST: usize = 64;
/// The pause between two such rows.
const PAUSE: Duration = Duration::from_millis(5);
/// Questions to one server: as many as there are ids. Further zones go without.
const QUESTIONS: usize = 1 << 16;

/// Why a server told no serial of a zone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Silence {
    /// Nothing that counts came before the deadline. It may be lost, late, or not allowed to come.
    #[error("no answer in time")]
    Late,
    /// It answered without a serial; its operator knows why.
    #[error(transparent)]
    NoSerial(#[from] NoSerial),
    /// It can't be reached, or nobody listens there.
    #[error("{0}")]
    Unreachable(String),
}

/// What a server told of one zone.
pub type Told = Result<Serial, Silence>;

/// Asks a server for the serials of these zones, in their order. `None` if that would be to ask ourselves, who listen at
/// these addresses.
pub async fn ask(
    server: SocketAddr,
    origins: &[Name],
    listening: &[SocketAddr],
    deadline: Instant,
) -> Option<Vec<Told>> {
    let mut told: Vec<Told> = vec![Err(Silence::Late); origins.len()];
    let count = origins.len().min(QUESTIONS);
    let result = match connect(server, listening).await {
        Ok(None) => return None,
        Ok(Some(socket)) => exchange(&socket, &origins[..count], &mut told, deadline).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        let missing = told.iter_mut().filter(|told| **told == Err(Silence::Late));
        missing.for_each(|told| *told = Err(Silence::Unreachable(error.to_string())));
    }
    Some(told)
}

/// Asks all questions until each is answered; what is not has its outcome as before.
async fn exchange(socket: &UdpSocket, origins: &[Name], told: &mut [Told], deadline: Instant) -> io::Result<()> {
    let first_id = peer::random_id()?;
    let mut missing = origins.len();
    let mut buffer = [0; UDP_OCTETS as usize];
    // Number, and how often it has been sent, by the time at which it is due.
    let start = Instant::now();
    let mut due: VecDeque<(Instant, u16, u32)> =
        (0..=u16::MAX).take(missing).map(|number| (start, number, 0)).collect();
    while missing > 0 && Instant::now() < deadline {
        let now = Instant::now();
        for _ in 0..BURST {
            let Some((_, number, sends)) = due.front().copied().filter(|(at, ..)| *at <= now) else { break };
            due.pop_front();
            let place = usize::from(number);
            if told[place] == Err(Silence::Late) {
                socket.send(&soa::query(first_id.wrapping_add(number), &origins[place])).await?;
                if sends + 1 < SENDS {
                    due.push_back((now + AGAIN, number, sends + 1));
                }
            }
        }
        let next = due.front().map_or(deadline, |(at, ..)| deadline.min((*at).max(now + PAUSE)));
        while missing > 0 && Instant::now() < next {
            let Ok(received) = timeout_at(next, socket.recv(&mut buffer)).await else { break };
            let packet = &buffer[..received?];
            let Some(Header { id, .. }) = Header::read(packet) else { continue };
            let place = usize::from(id.wrapping_sub(first_id));
            let Some(origin) = origins.get(place) else { continue };
            let answer = soa::read(packet, id, origin).filter(|_| told[place] == Err(Silence::Late));
            if let Some(answer) = answer {
                told[place] = answer.map_err(Silence::from);
                missing -= 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use hickory_proto::op::{Message, MessageType};
    use hickory_proto::rr::rdata::SOA;
    use hickory_proto::rr::{Name as WireName, RData, Record};

    use super::*;

    fn origins(count: usize) -> Vec<Name> {
        (0..count).map(|number| format!("z{number}.test.").parse().unwrap()).collect()
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// The answer with the number in the zone's name as its serial.
    fn answer(query: &[u8]) -> Vec<u8> {
        let mut message = Message::from_vec(query).unwrap();
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        let serial = name.to_ascii()[1..].split('.').next().unwrap().parse().unwrap();
        let soa = SOA::new(WireName::root(), WireName::root(), serial, 1, 1, 1, 1);
        message.add_answer(Record::from_rdata(name, 1, RData::SOA(soa)));
        message.to_vec().unwrap()
    }

    /// A server that does something for each datagram, until the test ends.
    pub(in crate::net) async fn server(mut reply: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
                for packet in reply(&buffer[..len]) {
                    socket.send_to(&packet, peer).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn we_do_not_ask_ourselves_behind_a_wildcard_either() {
        for (listening, server) in [("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.53.0.2"), ("127.53.0.2", "127.53.0.2")] {
            let socket = UdpSocket::bind((listening, 0)).await.unwrap();
            let listening = socket.local_addr().unwrap();
            let server = SocketAddr::new(server.parse().unwrap(), listening.port());
            assert_eq!(ask(server, &origins(1), &[listening], later()).await, None);
            let nothing = socket.try_recv(&mut [0; 512]).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[tokio::test]
    async fn each_of_many_zones_has_its_serial() {
        let server = server(|query| vec![answer(query), answer(query)]).await;
        let told = ask(server, &origins(500), &[], later()).await.unwrap();
        let expected: Vec<Told> = (0..500).map(|number| Ok(Serial(number))).collect();
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn a_question_is_asked_again_until_it_is_answered() {
        let mut count = 0;
        let server = server(move |query| {
            count += 1;
            if count <= 4 { Vec::new() } else { vec![answer(query)] }
        });
        let told = ask(server.await, &origins(2), &[], later()).await.unwrap();
        assert_eq!(told, [Ok(Serial(0)), Ok(Serial(1))]);
    }

    #[tokio::test]
    async fn rubbish_is_passed_over_and_a_refusal_is_not() {
        let rubbish = server(|query| {
            let good = answer(query);
            let mut other_id = answer(query);
            other_id[0] ^= 0x80;
            vec![Vec::new(), vec![0; 11], query.to_vec(), other_id, good[..good.len() - 1].to_vec(), good]
        });
        assert_eq!(ask(rubbish.await, &origins(1), &[], later()).await.unwrap(), [Ok(Serial(0))]);
        let refusing = server(|query| {
            let mut refusal = query.to_vec();
            refusal[2..4].copy_from_slice(&[0x80, 5]);
            vec![refusal, answer(query)]
        });
        let refusal = Silence::NoSerial(NoSerial::Rcode(crate::dns::wire::Rcode::REFUSED));
        assert_eq!(ask(refusing.await, &origins(1), &[], later()).await.unwrap(), [Err(refusal)]);
    }

    #[tokio::test]
    async fn the_silent_are_late_and_the_absent_are_known_at_once() {
        let silent = server(|_| Vec::new()).await;
        let soon = Instant::now() + Duration::from_millis(10);
        assert_eq!(ask(silent, &origins(1), &[], soon).await.unwrap(), [Err(Silence::Late)]);
        // Nothing listens there; the deadline is far away.
        let absent = "127.53.0.77:1".parse().unwrap();
        let told = ask(absent, &origins(2), &[], Instant::now() + Duration::from_secs(3600)).await.unwrap();
        assert!(told.iter().all(|told| matches!(told, Err(Silence::Unreachable(_)))), "{told:?}");
    }
}
