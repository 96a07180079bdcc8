//! What comes in together, through the fast way of UDP.

use super::*;

use arc_swap::ArcSwapOption;

use crate::answer::Answers;
use crate::base::RecordType;
use crate::config;
use crate::dns::messages::{Update, name};
use crate::dns::respond::ServedZone;
use crate::net::udp::batch::{Answer, Local};
use crate::server::clock::SystemClock;
use crate::zone::scenes;

const PEER: &str = "192.0.2.1:5000";

fn served(origin: &str) -> ServedZone {
    let zone = scenes::zone_with_members(origin, &["a", "b", "c"]);
    ServedZone {
        answers: ArcSwapOption::from_pointee(Answers::build(zone.snapshot())),
        ..ServedZone::new(name(origin))
    }
}

/// Two zones that are served, and one that isn't loaded.
fn front() -> Front {
    let zones = [served("one.z."), served("two.z."), ServedZone::new(name("absent.z."))].map(Arc::new);
    let routing = Routing { zones: Zones::new(zones), udp_size: 1232, ..Routing::default() };
    let clock = Arc::new(SystemClock::start());
    Front::new(routing, &config::load(None).unwrap(), clock, Arc::default(), mpsc::channel(1).0)
}

fn query(id: u16, owner: &str, rtype: RecordType) -> Vec<u8> {
    let header = [id, 0x0100, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
    [&header, name(owner).as_wire(), &rtype.0.to_be_bytes(), &[0, 1]].concat()
}

/// What goes out for datagrams that came in together; `None`: they went the general way.
fn answers(front: &Front, packets: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
    let mut answers: Vec<Answer> =
        packets.iter().map(|_| Answer { name: [0; 256], octets: Vec::new(), is_due: false }).collect();
    let mut general = Vec::new();
    let peer = PEER.parse().unwrap();
    let received = packets.iter().zip(&mut answers);
    let mut received = received.map(|(packet, answer)| Received { packet, peer, local: Local::Bound, answer });
    let before = answered(front);
    let queries = front.quick(&mut received, &mut |received| general.push(received.packet.as_ptr()));
    assert_eq!(answered(front) - before, queries);
    let each = packets.iter().zip(answers).map(|(packet, answer)| match general.contains(&packet.as_ptr()) {
        true => None,
        false => Some(if answer.is_due { answer.octets } else { Vec::new() }),
    });
    each.collect()
}

/// Queries that were counted.
fn answered(front: &Front) -> u64 {
    front.counters.figures.queries.answered().iter().map(|(.., count)| count).sum()
}

/// What one datagram by itself is answered.
fn alone(front: &Front, packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let no_wait = &mut || -> Completion { panic!("nothing here has to wait") };
    let handled = front.handle(packet, PEER.parse().unwrap(), Transport::Udp, &mut out, no_wait);
    assert!(matches!(handled, Handled::Answered | Handled::Nothing), "{packet:?}");
    out
}

#[test]
fn what_comes_in_together_is_answered_as_by_itself_whatever_zones_it_is_for() {
    let front = front();
    let kinds: [&dyn Fn(u16) -> Vec<u8>; 9] = [
        &|id| query(id, "_x._tcp.one.z.", RecordType::SRV),
        &|id| query(id, "a.x.one.z.", RecordType::A),
        &|id| query(id, "_x._tcp.two.z.", RecordType::SRV),
        &|id| query(id, "nobody.two.z.", RecordType::A),
        &|id| query(id, "x.one.z.", RecordType::A),
        &|id| query(id, "_x._tcp.absent.z.", RecordType::SRV),
        &|id| query(id, "elsewhere.", RecordType::A),
        &|id| {
            [&id.to_be_bytes()[..], &Update::new("one.z.").add("_x._tcp.one.z. SRV 0 0 80 d.x.one.z.").octets()[2..]]
                .concat()
        },
        &|_| b"rubbish".to_vec(),
    ];
    // Runs of each length for one zone, so that groups fill up, and end in every way.
    let mut random = fastrand::Rng::with_seed(5);
    let (mut quick, mut general) = (0, 0);
    for run in 1..40 {
        let mut packets: Vec<Vec<u8>> = Vec::new();
        while packets.len() < 128 {
            let kind = random.usize(0..kinds.len());
            for _ in 0..run {
                // Two kinds of the first zone change off.
                let kind = if kind < 2 { packets.len() % 2 } else { kind };
                packets.push(kinds[kind](u16::try_from(packets.len()).unwrap()));
            }
        }
        for (packet, answer) in packets.iter().zip(answers(&front, &packets)) {
            let Some(answer) = answer else {
                general += 1;
                continue;
            };
            quick += 1;
            assert_eq!(answer, alone(&front, packet), "{packet:?}");
        }
    }
    assert!(quick > 1000 && general > 500, "{quick} {general}");
    // Each that was quick was asked twice, and both ways are counted alike.
    assert_eq!(answered(&front), 2 * quick);
}

#[test]
fn a_plain_query_of_a_loaded_zone_is_answered_at_once_and_another_is_not() {
    let front = front();
    let loaded = query(1, "_x._tcp.one.z.", RecordType::SRV);
    let absent = query(2, "_x._tcp.absent.z.", RecordType::SRV);
    let [first, second] = answers(&front, &[loaded, absent.clone()]).try_into().unwrap();
    let first = first.expect("it is answered");
    assert_eq!((first[3] & 15, first[7]), (0, 3), "three SRV records");
    assert_eq!(second, None);
    assert_eq!(alone(&front, &absent)[3] & 15, 2, "SERVFAIL");
}
