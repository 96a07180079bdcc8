//! Against primaries on sockets, which answer what a test wants.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::dns::messages::Update;

fn update(id: u16) -> Vec<u8> {
    Update::new("z.test.").add("h.z.test. A 192.0.2.1").id(id).octets()
}

/// An answer with so many octets behind its header.
fn answer(packet: &[u8], flags: u8, more: usize) -> Vec<u8> {
    let mut answer = packet[..12].to_vec();
    answer[2] |= 0x80 | flags;
    answer.resize(12 + more, 0);
    answer
}

/// A primary over UDP; it counts what comes, and answers with what `reply` makes of it.
async fn udp_primary(reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
            counted.fetch_add(1, Ordering::Relaxed);
            if let Some(reply) = reply(&buffer[..len]) {
                socket.send_to(&reply, peer).await.unwrap();
            }
        }
    });
    (address, count)
}

/// A primary over TCP that answers with so many octets, or takes connections and is silent.
async fn tcp_primary(more: Option<usize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if let Some(more) = more {
                let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut packet).await.unwrap();
                let answer = answer(&packet, 0, more);
                stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
            open.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_primary_that_is_silent_over_tcp_has_its_turn_and_no_more() {
    let primaries = [tcp_primary(None).await, tcp_primary(Some(0)).await];
    let packet = update(1);
    let carried = timeout(PATIENCE, carry(&packet, &primaries, true, &[])).await.expect("in time");
    assert_eq!(carried, Some(answer(&packet, 0, 0)));
}

#[tokio::test]
async fn a_truncated_answer_goes_back_as_it_is() {
    let (primary, _) = udp_primary(|packet| Some(answer(packet, 2, 0))).await;
    assert_eq!(carry(&update(1), &[primary], false, &[]).await, Some(answer(&update(1), 2, 0)));
}

#[tokio::test]
async fn a_udp_client_gets_no_more_than_it_takes() {
    let mut long = update(1);
    long.resize(usize::from(UDP_OCTETS) + 1, 0);
    let (fits, too_long) = (tcp_primary(Some(500)).await, tcp_primary(Some(501)).await);
    assert_eq!(carry(&long, &[fits], false, &[]).await.map(|answer| answer.len()), Some(512));
    assert_eq!(carry(&long, &[too_long, fits], false, &[]).await, None);
    assert_eq!(carry(&long, &[too_long], true, &[]).await.map(|answer| answer.len()), Some(513), "over TCP");
    assert_eq!(takes(&Update::new("z.test.").lease(30).octets()), 1232);
}
