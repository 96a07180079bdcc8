//! A client of one server: octets out, octets or a read message back.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use super::PATIENCE;
use super::message::{SOA, SRV, Update, query};

/// A UDP socket connected to a server.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
}

/// An answer, as octets and as hickory reads it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) octets: Vec<u8>,
    pub(crate) message: Message,
}

impl Client {
    pub(crate) fn new(server: SocketAddr) -> Client {
        let own: IpAddr = if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let socket = UdpSocket::bind((own, 0)).unwrap();
        socket.connect(server).unwrap();
        Client { socket, server }
    }

    /// Sends without waiting.
    pub(crate) fn send(&self, packet: &[u8]) {
        self.socket.send(packet).unwrap();
    }

    /// The next datagram within a time; `None` also where the server isn't there.
    pub(crate) fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        self.try_receive(within).ok()
    }

    fn try_receive(&self, within: Duration) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; 65_535];
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).unwrap();
        loop {
            match self.socket.recv(&mut octets) {
                Ok(length) => {
                    octets.truncate(length);
                    return Ok(octets);
                }
                // A process that was stopped for a moment, or frozen, finds its receive with a timeout interrupted.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a message and waits for the answer with its id, for a while.
    pub(crate) fn try_ask(&self, packet: &[u8], within: Duration) -> Option<Answer> {
        self.exchange(packet, within).ok()
    }

    fn exchange(&self, packet: &[u8], within: Duration) -> io::Result<Answer> {
        self.socket.send(packet)?;
        let start = Instant::now();
        loop {
            let octets = self.try_receive(within.saturating_sub(start.elapsed()))?;
            if octets[..2] == packet[..2] {
                return Ok(Answer::read(octets));
            }
        }
    }

    /// Sends a message and waits for its answer.
    pub(crate) fn ask(&self, packet: &[u8]) -> Answer {
        let start = Instant::now();
        let answer = self.exchange(packet, PATIENCE);
        answer.unwrap_or_else(|error| panic!("no answer after {:?}: {error}: {packet:02x?}", start.elapsed()))
    }

    /// The same over a TCP connection of its own.
    pub(crate) fn ask_tcp(&self, packet: &[u8]) -> Answer {
        ask_tcp(self.server, packet)
    }

    /// Sends an update that must succeed.
    pub(crate) fn update(&self, update: &Update) -> Answer {
        let answer = self.ask(&update.encode());
        assert_eq!(answer.rcode(), 0, "{answer:?}");
        answer
    }

    /// The zone's serial.
    pub(crate) fn serial(&self) -> u32 {
        self.serial_of(super::ZONE)
    }

    /// The serial of any zone.
    pub(crate) fn serial_of(&self, zone: &str) -> u32 {
        self.try_serial_of(zone, PATIENCE).expect("an answer with a SOA record")
    }

    /// The zone's serial, if there is an answer in time.
    pub(crate) fn try_serial(&self, within: Duration) -> Option<u32> {
        self.try_serial_of(super::ZONE, within)
    }

    fn try_serial_of(&self, zone: &str, within: Duration) -> Option<u32> {
        let answer = self.try_ask(&query(zone, SOA), within)?;
        answer.message.answers.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.serial),
            _ => None,
        })
    }

    /// The targets of a service's SRV records, over TCP.
    pub(crate) fn targets(&self, service: &str) -> Vec<String> {
        let answer = self.ask_tcp(&query(service, SRV));
        assert!([0, 3].contains(&answer.rcode()), "{answer:?}");
        answer.targets()
    }
}

/// One exchange over TCP.
pub(crate) fn ask_tcp(server: SocketAddr, packet: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    send_framed(&mut stream, packet);
    Answer::read(read_framed(&mut stream))
}

/// Writes a message behind its length.
pub(crate) fn send_framed(stream: &mut TcpStream, packet: &[u8]) {
    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], packet].concat()).unwrap();
}

/// Reads a message behind its length.
pub(crate) fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).unwrap();
    octets
}

impl Answer {
    pub(crate) fn read(octets: Vec<u8>) -> Answer {
        let message = Message::from_vec(&octets).unwrap_or_else(|error| panic!("{error}: {octets:02x?}"));
        Answer { octets, message }
    }

    /// The rcode with its extended bits.
    pub(crate) fn rcode(&self) -> u16 {
        let low = u16::from(self.octets[3] & 0xf);
        self.message.edns.as_ref().map_or(low, |edns| low | u16::from(edns.rcode_high()) << 4)
    }

    pub(crate) fn targets(&self) -> Vec<String> {
        let target = |data: &RData| match data {
            RData::SRV(srv) => Some(srv.target.to_ascii()),
            _ => None,
        };
        self.message.answers.iter().filter_map(|record| target(&record.data)).collect()
    }

    fn option(&self, code: u16) -> Option<Vec<u8>> {
        match self.message.edns.as_ref()?.option(EdnsCode::from(code))? {
            EdnsOption::Unknown(_, data) => Some(data.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// The data of the Update Lease option.
    pub(crate) fn lease(&self) -> Option<Vec<u8>> {
        self.option(2)
    }

    /// The data of the cookie option.
    pub(crate) fn cookie(&self) -> Option<Vec<u8>> {
        self.option(10)
    }

    /// The text of the Extended DNS Error; empty without one.
    pub(crate) fn error_text(&self) -> String {
        self.option(15).map_or(String::new(), |data| String::from_utf8(data[2..].to_vec()).unwrap())
    }
}
