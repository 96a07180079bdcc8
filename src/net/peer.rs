//! Another server that is asked or told something.
//!
//! One connected socket for it: nothing counts that comes from elsewhere, and where nobody listens the system says so at
//! once. [`exchange`] carries one request over UDP, signed or not; [`super::ask`] asks one server for many serials.
//!
//! Sockets have the address that this server listens at, where it listens at a specific one: that is the one which other
//! servers are configured with, as a primary or as whom they admit, and the route's may be another. Their ports are free
//! ones.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::base::Name;
use crate::base::limits::UDP_OCTETS;
use crate::dns::tsig::Distrust;

/// How long until a request is sent again for the first time; twice as long each time from then on. Longer than an answer
/// takes from anywhere on earth.
const AGAIN: Duration = Duration::from_millis(600);

/// Why a request has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing that counts came in time. It may be lost, late, or not allowed to come.
    #[error("no answer in time")]
    Late,
    /// What came in time could not be trusted; this is why, of the last such answer.
    #[error(transparent)]
    Distrusted(Distrust),
    /// It can't be reached, or nobody listens there.
    #[error("{0}")]
    Unreachable(String),
}

/// Sends a request, at most `sends` times while there is time, and returns what `read` makes of the first answer that it
/// takes. What it makes nothing of is passed over, and so is what it doesn't trust: anybody may have sent it.
pub async fn exchange<T>(
    socket: &UdpSocket,
    request: &[u8],
    sends: u32,
    deadline: Instant,
    mut read: impl FnMut(&[u8]) -> Option<Result<T, Distrust>>,
) -> Result<T, Failure> {
    let unreachable = |error: io::Error| Failure::Unreachable(error.to_string());
    let mut buffer = [0; UDP_OCTETS as usize];
    let mut failure = Failure::Late;
    let mut pause = AGAIN;
    for left in (0..sends).rev() {
        socket.send(request).await.map_err(unreachable)?;
        let until = if left > 0 { deadline.min(Instant::now() + pause) } else { deadline };
        pause *= 2;
        // Looked at each time, since a flood leaves a receive nothing to wait for.
        while Instant::now() < until {
            let Ok(received) = timeout_at(until, socket.recv(&mut buffer)).await else { break };
            match read(&buffer[..received.map_err(unreachable)?]) {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(distrust)) => failure = Failure::Distrusted(distrust),
                None => {}
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(failure)
}

/// An id that nobody can guess.
pub fn random_id() -> io::Result<u16> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    Ok(u16::from_ne_bytes(id))
}

/// The addresses of a name with this port, at most `limit`, as the system's resolver has them.
pub async fn look_up(name: &Name, port: u16, limit: usize, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    // With its final dot, so that no search list is tried.
    let found = timeout_at(deadline, tokio::net::lookup_host((name.to_string(), port))).await??;
    let mut addresses = Vec::new();
    for address in found.map(|found| SocketAddr::new(found.ip().to_canonical(), port)) {
        if !addresses.contains(&address) && addresses.len() < limit {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// A socket for one server; `None` if the server is us, who listen at these addresses.
pub async fn connect(server: SocketAddr, listening: &[SocketAddr]) -> io::Result<Option<UdpSocket>> {
    if is_own(server, is_here(server).await?, listening) {
        return Ok(None);
    }
    let socket = UdpSocket::bind(source(server, listening)).await?;
    socket.connect(server).await?;
    Ok(Some(socket))
}

/// A connection to one server, which [`connect`] has found not to be us, who listen at these addresses.
pub async fn connect_tcp(server: SocketAddr, listening: &[SocketAddr]) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let source = source(server, listening);
    // What the system chooses it chooses better while connecting: a port may serve for several servers.
    if !source.ip().is_unspecified() {
        socket.bind(source)?;
    }
    socket.connect(server).await
}

/// Where to talk to a server from: the first specific address that we listen at from which it can be reached, or else what
/// the system chooses. Loopback reaches loopback alone, and answers to it go nowhere else.
fn source(server: SocketAddr, listening: &[SocketAddr]) -> SocketAddr {
    let reaches = |own: &&SocketAddr| {
        own.is_ipv4() == server.is_ipv4()
            && !own.ip().is_unspecified()
            && own.ip().is_loopback() == server.ip().is_loopback()
    };
    match listening.iter().find(reaches) {
        Some(&(mut own)) => {
            own.set_port(0);
            own
        }
        None => any(server),
    }
}

/// Any address of a server's family.
fn any(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

/// Whether an address is one of this machine.
async fn is_here(server: SocketAddr) -> io::Result<bool> {
    // From a socket that may choose, the system talks to an address of this machine from that address, and to all of
    // 127.0.0.0/8 from one in it. Nothing is sent for this.
    let chooser = UdpSocket::bind(any(server)).await?;
    chooser.connect(server).await?;
    Ok(server.ip().is_loopback() || server.ip() == chooser.local_addr()?.ip())
}

/// Whether this process listens there. A wildcard stands for all addresses of its family, as listeners are made.
fn is_own(server: SocketAddr, is_here: bool, listening: &[SocketAddr]) -> bool {
    let covers = |own: &SocketAddr| match own.ip() {
        ip if ip.is_unspecified() => is_here && own.is_ipv4() == server.is_ipv4(),
        ip => ip == server.ip(),
    };
    listening.iter().any(|own| own.port() == server.port() && covers(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_us_where_we_listen_and_nowhere_else() {
        let own = |server: &str, is_here, listening: &[&str]| {
            let listening: Vec<SocketAddr> = listening.iter().map(|address| address.parse().unwrap()).collect();
            is_own(server.parse().unwrap(), is_here, &listening)
        };
        assert!(own("192.0.2.1:53", true, &["198.51.100.1:53", "192.0.2.1:53"]));
        assert!(!own("192.0.2.1:53", true, &["192.0.2.1:5353"]), "another daemon at its port");
        assert!(!own("192.0.2.2:53", true, &["192.0.2.1:53"]), "another daemon at its address");
        assert!(own("192.0.2.2:53", true, &["0.0.0.0:53"]));
        assert!(!own("192.0.2.2:53", false, &["0.0.0.0:53"]), "another machine");
        assert!(own("[2001:db8::1]:53", true, &["[::]:53"]));
        assert!(!own("192.0.2.2:53", true, &["[::]:53"]), "listeners of IPv6 take nothing else");
        assert!(!own("[2001:db8::1]:53", true, &["0.0.0.0:53"]));
    }

    #[test]
    fn a_server_is_talked_to_from_the_first_listening_address_that_reaches_it() {
        let from = |server: &str, listening: &[&str]| {
            let listening: Vec<SocketAddr> = listening.iter().map(|address| address.parse().unwrap()).collect();
            source(server.parse().unwrap(), &listening).to_string()
        };
        let both = ["127.0.0.1:53", "[2001:db8::1]:53", "192.0.2.1:53", "192.0.2.2:5300"];
        assert_eq!(from("198.51.100.1:53", &both), "192.0.2.1:0");
        assert_eq!(from("192.0.2.2:53", &both), "192.0.2.1:0", "another daemon of this machine");
        assert_eq!(from("127.53.0.2:53", &both), "127.0.0.1:0");
        assert_eq!(from("[2001:db8::2]:53", &both), "[2001:db8::1]:0");
        assert_eq!(from("[::1]:53", &both), "[::]:0");
        assert_eq!(from("127.0.0.1:53", &["192.0.2.1:53"]), "0.0.0.0:0");
        assert_eq!(from("192.0.2.1:53", &["127.0.0.1:53"]), "0.0.0.0:0");
        assert_eq!(from("192.0.2.1:53", &["0.0.0.0:53", "[2001:db8::1]:53"]), "0.0.0.0:0");
        assert_eq!(from("192.0.2.1:53", &[]), "0.0.0.0:0");
    }

    #[tokio::test]
    async fn other_servers_see_the_listening_address() {
        let listening: Vec<SocketAddr> = vec!["127.53.7.1:5300".parse().unwrap()];
        let udp = UdpSocket::bind("127.53.7.2:0").await.unwrap();
        let socket = connect(udp.local_addr().unwrap(), &listening).await.unwrap().unwrap();
        socket.send(b"?").await.unwrap();
        let (_, peer) = udp.recv_from(&mut [0; 8]).await.unwrap();
        assert_eq!(peer.ip(), listening[0].ip());
        let tcp = tokio::net::TcpListener::bind("127.53.7.2:0").await.unwrap();
        let (stream, accepted) = tokio::join!(connect_tcp(tcp.local_addr().unwrap(), &listening), tcp.accept());
        assert_eq!(accepted.unwrap().1, stream.unwrap().local_addr().unwrap());
        let stream = connect_tcp(tcp.local_addr().unwrap(), &listening).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), listening[0].ip());
    }

    #[tokio::test]
    async fn we_are_told_from_another_daemon_at_the_same_machine_whatever_we_bind() {
        // A wildcard covers the server's address, though another address would be the source.
        let listening = ["127.53.7.1:5300".parse().unwrap(), "0.0.0.0:5301".parse().unwrap()];
        for (server, own) in [("127.53.7.2:5301", true), ("127.53.7.2:5300", false), ("127.53.7.1:5300", true)] {
            let socket = connect(server.parse().unwrap(), &listening).await.unwrap();
            assert_eq!(socket.is_none(), own, "{server}");
        }
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// A socket connected to a server that does something for each datagram, until the test ends.
    async fn server(reply: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> UdpSocket {
        let address = crate::net::ask::tests::server(reply).await;
        connect(address, &[]).await.unwrap().unwrap()
    }

    /// Takes what begins with `y`, and trusts nothing that begins with `n`.
    fn read(packet: &[u8]) -> Option<Result<Vec<u8>, Distrust>> {
        match packet.first()? {
            b'y' => Some(Ok(packet.to_vec())),
            b'n' => Some(Err(Distrust::BadSignature)),
            _ => None,
        }
    }

    fn packets(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[tokio::test]
    async fn what_does_not_count_is_passed_over() {
        let socket = server(|_| packets(&["", "x", "no", "yes", "yes again"])).await;
        assert_eq!(exchange(&socket, b"?", 1, later(), read).await, Ok(b"yes".to_vec()));
    }

    #[tokio::test]
    async fn a_request_is_sent_again_while_there_is_time() {
        let mut count = 0;
        let socket = server(move |_| {
            count += 1;
            packets(if count < 3 { &[] } else { &["yes"] })
        });
        assert_eq!(exchange(&socket.await, b"?", 3, later(), read).await, Ok(b"yes".to_vec()));
    }

    #[tokio::test]
    async fn it_says_why_there_is_no_answer() {
        let soon = || Instant::now() + Duration::from_millis(30);
        let silent = server(|_| Vec::new()).await;
        assert_eq!(exchange(&silent, b"?", 3, soon(), read).await, Err(Failure::Late));
        let distrusted = server(|_| packets(&["no", "x"])).await;
        let failure = Failure::Distrusted(Distrust::BadSignature);
        assert_eq!(exchange(&distrusted, b"?", 3, soon(), read).await, Err(failure));
        let absent = connect("127.53.0.77:1".parse().unwrap(), &[]).await.unwrap().unwrap();
        let failure = exchange(&absent, b"?", 3, later(), read).await;
        assert!(matches!(failure, Err(Failure::Unreachable(_))), "{failure:?}");
    }

    #[tokio::test]
    async fn a_flood_of_rubbish_ends_at_the_deadline() {
        let socket = server(|_| vec![vec![b'x'; 10]; 2000]).await;
        for _ in 0..50 {
            socket.send(b"?").await.unwrap();
        }
        let start = Instant::now();
        let deadline = start + Duration::from_millis(20);
        assert_eq!(exchange(&socket, b"?", 1, deadline, |_| None::<Result<(), _>>).await, Err(Failure::Late));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
