use hickory_proto::op::{Message, MessageType};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::agent::registration::tests::registration;
use crate::dns::tsig::{self, Algorithm, Keys, TsigError};

const RENEW: Order = Order::Register { anew: false };

fn key(secret: &[u8]) -> Key {
    Key::new("agents.".parse().unwrap(), Algorithm::HmacSha256, secret)
}

/// The answer to an update: its head and question with these flags.
fn answer(request: &[u8], flags: u16, more: &[u8], additional: u8) -> Vec<u8> {
    let end = 12 + registration().zone.as_wire().len() + 4;
    let mut octets = request[..end].to_vec();
    octets[2..4].copy_from_slice(&(0xa800 | flags).to_be_bytes());
    octets[6..12].copy_from_slice(&[0, 0, 0, 0, 0, additional]);
    octets.extend_from_slice(more);
    octets
}

/// An OPT record with one option.
fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    let option = [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat();
    [&[0, 0, 41, 4, 208, 0, 0, 0, 0][..], &u16::try_from(option.len()).unwrap().to_be_bytes(), &option].concat()
}

/// A server that answers each datagram so; its address and a channel to it.
async fn server(key: Option<Key>, mut reply: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Dns {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
            for packet in reply(&buffer[..count]) {
                socket.send_to(&packet, peer).await.unwrap();
            }
        }
    });
    Dns::new(vec![Place::parse(&address.to_string(), None).unwrap()], key, Vec::new())
}

async fn renew(dns: &Dns) -> Result<Reply, Failure> {
    dns.carry_out(0, RENEW, &registration()).await
}

fn granted(seconds: u64) -> Reply {
    Reply::Granted { lease: Some(Duration::from_secs(seconds)), slot: None, unpublished: None }
}

#[tokio::test]
async fn a_datagram_is_answered_with_the_lease_that_is_granted_and_what_is_no_answer_is_passed_over() {
    let dns = server(None, |request| {
        let good = answer(request, 0, &option(2, &[0, 0, 0, 9]), 1);
        let mut other = answer(request, 5, &[], 0);
        other[0] ^= 1;
        vec![vec![1, 2], request.to_vec(), other, good]
    });
    assert_eq!(renew(&dns.await).await, Ok(granted(9)));
    let silent_of_leases = server(None, |request| vec![answer(request, 0, &[], 0)]).await;
    assert_eq!(renew(&silent_of_leases).await, Ok(Reply::Granted { lease: None, slot: None, unpublished: None }));
    let removed = silent_of_leases.carry_out(0, Order::Deregister, &registration()).await;
    assert_eq!(removed, Ok(Reply::Done));
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let mut count = 0;
    let dns = server(None, move |request| {
        count += 1;
        if count == 1 { Vec::new() } else { vec![answer(request, 0, &[], 0)] }
    });
    assert!(renew(&dns.await).await.is_ok());
}

#[tokio::test]
async fn a_refusal_says_what_the_server_said_or_where_to_look() {
    let refused = server(None, |request| vec![answer(request, 5, &option(15, b"\0\x12needs an entry"), 1)]);
    assert_eq!(renew(&refused.await).await, Err(Failure::Refused("REFUSED: needs an entry".to_owned())));
    let elsewhere = server(None, |request| vec![answer(request, 9, &[], 0)]).await;
    let Err(Failure::Refused(text)) = renew(&elsewhere).await else { panic!() };
    assert!(text.starts_with("NOTAUTH: ") && text.contains("svc.example.test.") && text.contains("--zone"), "{text}");
}

#[tokio::test]
async fn an_answer_that_was_cut_is_fetched_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).await.unwrap();
    let datagrams = tokio::spawn(async move {
        let mut buffer = [0; 1500];
        let (count, peer) = socket.recv_from(&mut buffer).await.unwrap();
        socket.send_to(&answer(&buffer[..count], 0x0200, &[], 0), peer).await.unwrap();
    });
    let connections = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut request).await.unwrap();
        let answer = answer(&request, 0, &option(2, &[0, 0, 0, 20]), 1);
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
        request
    });
    let dns = Dns::new(vec![Place::parse(&address.to_string(), None).unwrap()], None, Vec::new());
    assert_eq!(renew(&dns).await, Ok(granted(20)));
    datagrams.await.unwrap();
    let request = connections.await.unwrap();
    assert_eq!(request[2..], registration().update(RENEW, 0)[2..], "the same update");
}

/// A signed answer, by a server whose clock is off by this much.
fn signed(request: &[u8], secret: &[u8], off: i64) -> Vec<u8> {
    let envelope = Envelope::parse(request).unwrap();
    let now = Wall(SystemClock::start().now().wall.0.checked_add_signed(off * 1000).unwrap());
    let (signer, error) = match tsig::verify(request, envelope.tsig.as_ref().unwrap(), &Keys::new([key(secret)]), now) {
        Ok(signer) => (signer, None),
        Err(tsig::Rejection::Signed(signer, TsigError::BadTime)) => (*signer, Some(TsigError::BadTime)),
        Err(other) => panic!("{other:?}"),
    };
    let mut octets = answer(request, if error.is_some() { 9 } else { 0 }, &[], 0);
    signer.sign(&mut octets, now, error);
    octets
}

#[tokio::test]
async fn with_a_key_only_a_signed_answer_counts() {
    let dns = server(Some(key(b"secret")), |request| vec![answer(request, 0, &[], 0), signed(request, b"secret", 0)]);
    assert!(renew(&dns.await).await.is_ok());
    let dns = server(Some(key(b"secret")), |request| vec![answer(request, 0, &[], 0)]).await;
    let Err(Failure::Refused(text)) = renew(&dns).await else { panic!() };
    assert!(text.contains("not signed"), "{text}");
}

#[tokio::test]
async fn clocks_that_differ_are_told_with_the_server_s_time() {
    for (off, words) in [(4000, "s ahead of this one"), (-4000, "s behind this one")] {
        let dns = server(Some(key(b"secret")), move |request| vec![signed(request, b"secret", off)]).await;
        let Err(Failure::Refused(text)) = renew(&dns).await else { panic!() };
        assert!(text.contains("BADTIME") && text.contains(words), "{text}");
        assert!(["3999", "4000", "4001"].iter().any(|span| text.contains(span)), "{text}");
    }
}

#[tokio::test]
async fn a_server_says_whether_it_publishes_the_member() {
    let ask = |address: Option<[u8; 4]>| async move {
        let dns = server(None, move |request| {
            let mut message = Message::from_vec(request).unwrap();
            message.metadata.message_type = MessageType::Response;
            if let Some(address) = address {
                let name = message.queries[0].name().clone();
                let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A(address.into()));
                message.add_answer(hickory_proto::rr::Record::from_rdata(name, 1, data));
            }
            vec![message.to_vec().unwrap()]
        });
        dns.await.carry_out(0, Order::Ask, &registration()).await
    };
    assert_eq!(ask(Some([192, 0, 2, 7])).await, Ok(Reply::Published(true)));
    assert_eq!(ask(Some([192, 0, 2, 8])).await, Ok(Reply::Published(false)));
    assert_eq!(ask(None).await, Ok(Reply::Published(false)));
}
