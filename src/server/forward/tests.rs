//! Against primaries on sockets, which answer what a test wants.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;

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

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
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

/// The queue of a forwarder, what it counts, and what stops it.
fn start() -> (mpsc::Sender<Forwarded>, Arc<Counters>, watch::Sender<bool>) {
    let (queue, forwarded) = mpsc::channel(UNDER_WAY * 2);
    let (stop, stopped) = watch::channel(false);
    let counters: Arc<Counters> = Arc::default();
    tokio::spawn(run(forwarded, Arc::default(), counters.clone(), stopped));
    (queue, counters, stop)
}

/// Sends one from a port of its own, and returns what takes its answer.
async fn send(
    queue: &mpsc::Sender<Forwarded>,
    id: u16,
    is_verified: bool,
    primary: SocketAddr,
) -> oneshot::Receiver<Vec<u8>> {
    let (sender, receiver) = oneshot::channel();
    let completion: Completion = Box::new(move |octets| drop(sender.send(octets)));
    let (packet, primaries) = (update(id), vec![primary]);
    let sender = address("192.0.2.1:5000");
    let forwarded = Forwarded { packet, sender, is_verified, primaries, connected: false, completion };
    assert!(queue.send(forwarded).await.is_ok());
    receiver
}

#[tokio::test]
async fn what_is_under_way_is_dropped_when_it_comes_again() {
    let (primary, count) = udp_primary(|_| None).await;
    let (queue, _counters, _stop) = start();
    let first = send(&queue, 1, true, primary).await;
    for _ in 0..20 {
        assert!(send(&queue, 1, true, primary).await.await.is_err(), "it is dropped at once");
    }
    let (other, _) = udp_primary(|packet| Some(answer(packet, 0, 0))).await;
    assert!(send(&queue, 2, true, other).await.await.is_ok());
    assert!(first.await.is_err());
    assert_eq!(count.load(Ordering::Relaxed), 1);
    // It has ended without an answer: its sender may try again.
    assert!(send(&queue, 1, true, other).await.await.is_ok());
}

#[tokio::test]
async fn unverified_updates_leave_places_for_verified_ones() {
    let (silent, _) = udp_primary(|_| None).await;
    let (answering, _) = udp_primary(|packet| Some(answer(packet, 0, 0))).await;
    let (queue, counters, _stop) = start();
    let mut waiting = Vec::new();
    for id in 0..300 {
        waiting.push(send(&queue, id, false, silent).await);
    }
    assert!(send(&queue, 1000, true, answering).await.await.is_ok());
    assert_eq!(counters.at(Limit::Forwards), 300 - UNVERIFIED as u64);
}

#[test]
fn an_unanswered_message_that_comes_back_from_elsewhere_has_gone_in_a_circle() {
    let mut passing = Passing::default();
    let (agent, same, other) = (address("192.0.2.1:5000"), address("[::ffff:192.0.2.1]:6000"), address("192.0.2.2:53"));
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let message = passing.identify(b"message");
    assert!(passing.admits(message, agent, at(0)));
    passing.begin(message, agent, at(0));
    assert!(!passing.admits(message, agent, at(1)) && !passing.admits(message, other, at(1)), "it is under way");
    let another = passing.identify(b"another");
    assert!(passing.admits(another, other, at(1)));
    passing.end(message, false);
    assert!(passing.admits(message, same, at(5)) && !passing.admits(message, other, at(5)));
    // The time counts from when it last set out.
    passing.begin(message, agent, at(6));
    passing.end(message, false);
    assert!(!passing.admits(message, other, at(35)) && passing.admits(message, other, at(36)));
    // What was answered has ended.
    passing.begin(message, agent, at(40));
    passing.end(message, true);
    assert!(passing.admits(message, other, at(40)));
    assert!(passing.messages.is_empty());
    // On loopback the port tells who it is.
    passing.begin(message, address("127.0.0.1:1"), at(50));
    passing.end(message, false);
    assert!(passing.admits(message, address("127.0.0.1:1"), at(50)));
    assert!(!passing.admits(message, address("127.0.0.1:2"), at(50)));
}

#[test]
fn so_many_messages_are_remembered() {
    let mut passing = Passing::default();
    let (sender, now) = (address("192.0.2.1:5000"), Instant::now());
    for number in 0..10_000 {
        assert!(passing.admits(number, sender, now));
        passing.begin(number, sender, now);
    }
    assert!(passing.messages.len() <= REMEMBERED + 1 && passing.order.len() <= REMEMBERED + 1);
}
