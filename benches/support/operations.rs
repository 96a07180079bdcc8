//! What the server does most, one operation at a time, for whoever measures it.
//!
//! Each operation is carried out over many names, since hashes are seeded once a process: what one name costs depends on
//! where it lands, the mean of hundreds hardly does. What an operation needs is made outside of what is measured.

use std::cell::RefCell;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use livezone::answer::Answers;
use livezone::base::{Now, RecordType};
use livezone::config;
use livezone::dns::quick;
use livezone::dns::rate::{Admission, Rate, Settings};
use livezone::dns::reply::Transport;
use livezone::dns::respond::{Verdict, Zones, respond};
use livezone::dns::update::renewal::{Candidate, InPlace, Place, renew};
use livezone::membership::Renewals;
use livezone::net::Handler;
use livezone::net::udp::Received;
use livezone::net::udp::batch::{Answer, Local};
use livezone::server::clock::Clock;
use livezone::server::front::{Front, Routing};
use tokio::sync::mpsc;

use super::messages::{ORIGIN, lease, query, registration, service_name, wire};
use super::scene::Scene;

/// Operations between two preparations.
const CHUNK: usize = 1024;
/// A client whose answers are counted, unlike those of loopback.
const CLIENT: &str = "192.0.2.77:5000";
/// A registrar that needs no signature.
const LOCAL: &str = "127.0.0.1:5000";

/// Called with what is to be measured.
pub(crate) type Measure<'m> = &'m mut dyn FnMut(&mut dyn FnMut());
/// Carries out at most so many operations; returns how many.
type Step = Box<dyn FnMut(usize, Measure<'_>) -> usize>;

/// Something that the server does.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    step: Step,
}

impl Operation {
    fn new(name: &'static str, step: impl FnMut(usize, Measure<'_>) -> usize + 'static) -> Operation {
        Operation { name, step: Box::new(step) }
    }

    /// Carries it out so many times, and has it measured.
    pub(crate) fn run(&mut self, times: usize, measure: Measure<'_>) {
        let mut left = times;
        while left > 0 {
            left -= (self.step)(left, measure);
        }
    }
}

/// A zone without a store, and which of its services have how many members.
pub(crate) struct World {
    scene: Rc<RefCell<Scene>>,
    eights: Range<u32>,
    fifties: Range<u32>,
}

impl World {
    /// A zone of so many services of 8 members and so many of 50.
    pub(crate) fn new(eights: u32, fifties: u32) -> World {
        let mut scene = Scene::new(None);
        let (eights, fifties) = (0..eights, eights..eights + fifties);
        for (services, members) in [(eights.clone(), 8), (fifties.clone(), 50)] {
            for service in services {
                scene.commit(vec![lease(registration(service, 0..members, 1))], &mut |_| ());
            }
        }
        World { scene: Rc::new(RefCell::new(scene)), eights, fifties }
    }

    /// Plain queries.
    pub(crate) fn queries(&self) -> Vec<Operation> {
        let ask = |services: &Range<u32>, size| -> Vec<Vec<u8>> {
            shuffled(services).map(|service| query(&service_name(service), 33, size, &[])).collect()
        };
        let host = |service| format!("i-0003.cache{service:04}.{ORIGIN}");
        let addresses = shuffled(&self.eights).map(|service| query(&host(service), 1, 1232, &[])).collect();
        vec![
            self.quick("srv-8", ask(&self.eights, 1232), [0, 8, 16 + 1]),
            self.quick("srv-50", ask(&self.fifties, 4096), [0, 50, 0]),
            self.quick("srv-50-cut", ask(&self.fifties, 1232), [0, 0, 1]),
            self.quick("a", addresses, [0, 1, 1]),
            self.nxdomain(),
            self.general("respond-srv-8", ask(&self.eights, 1232)),
            self.front("front-srv-8", ask(&self.eights, 1232), 1),
            self.front("front-srv-8-batch", ask(&self.eights, 1232), 64),
        ]
    }

    /// Everything else.
    pub(crate) fn others(&self) -> Vec<Operation> {
        vec![
            self.cookie(),
            admission(),
            self.renewal("renewal-unsigned", 100_000, false),
            self.renewal("renewal-signed", 200_000, true),
            self.compile(),
            self.commit(),
        ]
    }

    /// The short way; `expected` are rcode, answers and additional records, these where they are known.
    fn quick(&self, name: &'static str, queries: Vec<Vec<u8>>, expected: [u8; 3]) -> Operation {
        let scene = self.scene.clone();
        let peer = CLIENT.parse().unwrap();
        let mut out = Vec::with_capacity(65_536);
        for query in &queries {
            assert!(quick::answer(&scene.borrow().context(peer), query, &mut out));
            let additional = if expected[2] == 0 { 0 } else { out[11] };
            assert_eq!([out[3] & 15, out[7], additional], expected, "{name}");
        }
        let mut queries = round(queries);
        Operation::new(name, move |most, measure| {
            let (scene, times) = (scene.borrow(), most.min(CHUNK));
            let context = scene.context(peer);
            measure(&mut || {
                for _ in 0..times {
                    assert!(quick::answer(&context, queries(), &mut out));
                    black_box(&out);
                }
            });
            times
        })
    }

    /// Names that nobody has asked for before.
    fn nxdomain(&self) -> Operation {
        let scene = self.scene.clone();
        let peer = CLIENT.parse().unwrap();
        let mut out = Vec::with_capacity(65_536);
        let mut queries = vec![query(&format!("n00000000.cache0000.{ORIGIN}"), 1, 1232, &[]); CHUNK];
        let mut names = 0u32;
        Operation::new("nxdomain", move |most, measure| {
            let (scene, times) = (scene.borrow(), most.min(CHUNK));
            let context = scene.context(peer);
            for query in &mut queries {
                query[14..22].copy_from_slice(format!("{names:08}").as_bytes());
                names = (names + 1) % 100_000_000;
            }
            measure(&mut || {
                for query in &queries[..times] {
                    assert!(quick::answer(&context, query, &mut out));
                    black_box(&out);
                }
            });
            assert_eq!(out[3] & 15, 3);
            times
        })
    }

    /// The general way.
    fn general(&self, name: &'static str, queries: Vec<Vec<u8>>) -> Operation {
        let scene = self.scene.clone();
        let peer = CLIENT.parse().unwrap();
        let mut out = Vec::with_capacity(65_536);
        let mut queries = round(queries);
        Operation::new(name, move |most, measure| {
            let (scene, times) = (scene.borrow(), most.min(CHUNK));
            let context = scene.context(peer);
            measure(&mut || {
                for _ in 0..times {
                    assert!(matches!(respond(&context, queries(), &mut out), Verdict::Reply));
                    black_box(&out);
                }
            });
            assert_eq!(out[7], 8);
            times
        })
    }

    /// What a UDP thread does with a query between two system calls, for batches of so many: all that is counted included.
    fn front(&self, name: &'static str, queries: Vec<Vec<u8>>, size: usize) -> Operation {
        let peer = CLIENT.parse().unwrap();
        let unlimited = Settings { per_second: 1_000_000_000, ..Settings::default() };
        let routing = Routing {
            zones: Zones::new([self.scene.borrow().visible.served.clone()]),
            udp_size: 4096,
            answer_rate: Some(Rate::new(&unlimited, Arc::default())),
            ..Routing::default()
        };
        let clock = Arc::new(Still(self.scene.borrow().now));
        let front = Front::new(routing, &config::load(None).unwrap(), clock, Arc::default(), mpsc::channel(1).0);
        let empty = || Answer { name: [0; 256], octets: Vec::with_capacity(4096), is_due: false };
        let mut answers: Vec<Answer> = (0..size).map(|_| empty()).collect();
        let mut queries = round(queries);
        Operation::new(name, move |most, measure| {
            let times = most.min(CHUNK);
            measure(&mut || {
                for from in (0..times).step_by(size) {
                    let batch = &mut answers[..size.min(times - from)];
                    let received = |answer| Received { packet: queries(), peer, local: Local::Bound, answer };
                    front.quick(&mut batch.iter_mut().map(received), &mut |_| panic!("it goes the general way"));
                    black_box(&answers);
                }
            });
            assert!(answers.iter_mut().all(|answer| std::mem::take(&mut answer.is_due) && answer.octets[7] == 8));
            times
        })
    }

    /// A cookie that the server made and that comes back.
    fn cookie(&self) -> Operation {
        let scene = self.scene.clone();
        let peer: SocketAddr = CLIENT.parse().unwrap();
        Operation::new("cookie", move |most, measure| {
            let (scene, times) = (scene.borrow(), most.min(CHUNK));
            let first = scene.cookies.answer(&[1; 8], peer.ip(), scene.now.wall).expect("a client cookie");
            measure(&mut || {
                for _ in 0..times {
                    let answered = scene.cookies.answer(black_box(&first.octets), peer.ip(), scene.now.wall);
                    assert!(answered.is_some_and(|answered| answered.is_proven));
                }
            });
            times
        })
    }

    /// Heartbeats that are noted, each member's in turn.
    fn renewal(&self, name: &'static str, first: u32, signed: bool) -> Operation {
        let services = first..first + 500;
        let messages: Vec<Vec<u8>> = services.map(|service| lease(registration(service, 0..1, 1))).collect();
        let mut scene = self.scene.borrow_mut();
        let at = |scene: &Scene, wall| -> Vec<Vec<u8>> {
            let sign = |message: &Vec<u8>| if signed { scene.sign(message.clone(), wall) } else { message.clone() };
            messages.iter().map(sign).collect()
        };
        let first_ones = at(&scene, scene.now.wall);
        scene.commit(first_ones, &mut |_| ());
        // Signed in another second: the same signature would make them retransmissions, of which nothing is noted.
        scene.now.mono.0 += 2000;
        scene.now.wall.0 += 2000;
        let mut again = at(&scene, scene.now.wall);
        again.iter_mut().for_each(|message| message[0] = 0xff);
        scene.renew(&again);
        let renewals: Arc<Renewals> = scene.publisher.table().renewals().clone();
        let mut now = scene.now;
        let scene = self.scene.clone();
        let mut out = Vec::with_capacity(512);
        Operation::new(name, move |most, measure| {
            let scene = scene.borrow();
            let times = most.min(messages.len());
            // An interval that counts as one.
            now.mono.0 += 2000;
            now.wall.0 += 2000;
            let sign = |message: &Vec<u8>| if signed { scene.sign(message.clone(), now.wall) } else { message.clone() };
            let messages: Vec<Vec<u8>> = messages[..times].iter().map(sign).collect();
            let place = Place {
                renewals: &renewals,
                access: &scene.access,
                keys: &scene.keys,
                udp_size: 1232,
                peer: LOCAL.parse().unwrap(),
                transport: Transport::Udp,
                now,
            };
            measure(&mut || {
                for message in &messages {
                    let candidate = Candidate::read(message).expect("a heartbeat");
                    let outcome = renew(&candidate, &place, &mut || true, &mut out);
                    assert_eq!(outcome, InPlace::Answered, "{name}");
                }
            });
            times
        })
    }

    /// A template of 50 members and their addresses, with the first answer by it.
    fn compile(&self) -> Operation {
        let scene = self.scene.clone();
        let names: Vec<Vec<u8>> = self.fifties.clone().map(|service| wire(&service_name(service))).collect();
        let mut out = Vec::with_capacity(65_536);
        Operation::new("compile-50", move |most, measure| {
            let answers = Answers::build(scene.borrow().answers().snapshot());
            let times = most.min(names.len());
            measure(&mut || {
                for name in &names[..times] {
                    out.clear();
                    black_box(answers.lookup(name, RecordType::SRV, 65_535, 0, &mut out));
                }
            });
            times
        })
    }

    /// One member of 50 changes its port: read, executed, staged, published and acknowledged.
    fn commit(&self) -> Operation {
        let services = 300_000..300_020;
        let mut scene = self.scene.borrow_mut();
        for service in services.clone() {
            scene.commit(vec![lease(registration(service, 0..50, 1))], &mut |_| ());
        }
        let scene = self.scene.clone();
        let mut commits = 0u32;
        Operation::new("commit", move |most, measure| {
            let mut scene = scene.borrow_mut();
            let times = most.min(services.len());
            // A port that the service did not have before: it comes again after 3,000 rounds.
            let port = 2 + (commits / 20 % 3000) as u16;
            let update = |service| vec![lease(registration(service, 7..8, port))];
            let mut messages: Vec<_> = services.clone().take(times).map(update).collect();
            commits += 20;
            measure(&mut || {
                for message in messages.drain(..) {
                    scene.commit(message, &mut |_| ());
                }
            });
            times
        })
    }
}

/// A clock that stands: valgrind doesn't get over the one of the machine.
#[derive(Debug)]
struct Still(Now);

impl Clock for Still {
    fn now(&self) -> Now {
        self.0
    }
}

/// A reply that is counted for its network, of which there are many.
fn admission() -> Operation {
    let rate = Rate::new(&Settings { per_second: 1_000_000_000, ..Settings::default() }, Arc::default());
    let mut now = Scene::new(None).now.mono;
    Operation::new("admission", move |most, measure| {
        let times = most.min(CHUNK);
        now.0 += 1;
        measure(&mut || {
            for network in 0..times as u32 {
                let peer = IpAddr::V4(Ipv4Addr::from_bits(0xc633_0000 | network << 8));
                assert_eq!(rate.admit(black_box(peer), now), Admission::Answer);
            }
        });
        times
    })
}

/// All of them, in an order without neighbours, so that what lies side by side in memory isn't asked for so.
fn shuffled(services: &Range<u32>) -> impl Iterator<Item = u32> {
    let mut services: Vec<u32> = services.clone().collect();
    fastrand::Rng::with_seed(7).shuffle(&mut services);
    services.into_iter()
}

/// One after the other, and from the start again.
fn round(queries: Vec<Vec<u8>>) -> impl FnMut() -> &'static [u8] {
    // As long as the process.
    let queries: &'static [Vec<u8>] = queries.leak();
    let mut next = queries.iter().cycle();
    move || next.next().expect("it goes on for ever")
}
