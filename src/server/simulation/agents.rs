//! Who registers: members that come, renew, change, fall silent, withdraw and return, over a network that loses, repeats
//! and reorders.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::base::Name;
use crate::dns::messages::Update;
use crate::membership::MemberId;
use crate::server::clock::Clock as _;

use super::oracle::{Delivery, Intent, Number};
use super::world::{KEY, SECRET, World};

/// What the network does to a datagram, in per cent and milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) lost: u32,
    pub(super) repeated: u32,
    pub(super) delay: u64,
    /// Agents whom nothing reaches, and who reach nobody.
    cut_off: Arc<Mutex<HashSet<usize>>>,
    rng: Arc<Mutex<fastrand::Rng>>,
}

impl Network {
    pub(super) fn new(rng: &mut fastrand::Rng) -> Network {
        Network {
            lost: rng.u32(0..25),
            repeated: rng.u32(0..15),
            delay: [0, 20, 300, 2_000][rng.usize(0..4)],
            cut_off: Arc::default(),
            rng: Arc::new(Mutex::new(rng.fork())),
        }
    }

    /// Cuts these off, and nobody else.
    pub(super) fn cut_off(&self, agents: impl IntoIterator<Item = usize>) {
        *self.cut_off.lock().unwrap() = agents.into_iter().collect();
    }

    /// The delays of the copies that arrive, from this agent or at it.
    fn fates(&self, agent: usize) -> Vec<u64> {
        if self.cut_off.lock().unwrap().contains(&agent) {
            return Vec::new();
        }
        let mut rng = self.rng.lock().unwrap();
        let copies = 1 + usize::from(rng.u32(0..100) < self.repeated);
        let mut fates = Vec::new();
        for _ in 0..copies {
            if rng.u32(0..100) >= self.lost {
                fates.push(rng.u64(0..=self.delay));
            }
        }
        fates
    }
}

/// An update on its way.
struct Packet {
    agent: usize,
    member: Number,
    intent: Intent,
    octets: Vec<u8>,
    port: u16,
    signed: bool,
    delivered: AtomicUsize,
    answered: Notify,
}

/// A member.
pub(super) struct Agent {
    pub(super) number: usize,
    pub(super) world: Arc<World>,
    pub(super) network: Network,
    pub(super) rng: fastrand::Rng,
    pub(super) stop: Arc<AtomicBool>,
}

pub(super) const SERVICES: [&str; 3] = ["_x._tcp.z.", "_x._udp.z.", "_y._tcp.z."];

/// How often an update is sent before the member waits for its next turn, and how far apart.
const ATTEMPTS: usize = 3;
const PATIENCE: Duration = Duration::from_millis(400);

impl Agent {
    /// Registers at the first service, and renews at a third of the lease as `livezone agent` does, until it is stopped.
    pub(super) async fn renew(mut self, lease: u32) {
        let service: Name = SERVICES[0].parse().unwrap();
        let id = format!("i-{}", self.number);
        let member = self.world.oracle().add_member(service.clone(), MemberId::new(&id).unwrap());
        let interval = u64::from(lease) * 1000 / 3;
        self.pause(0..interval).await;
        while !self.stopped() {
            let update = self.registration(&service, &id, 1).lease(lease);
            self.send(member, Intent::Register(u64::from(lease) * 1000), &update, false).await;
            self.pause(interval * 9 / 10..interval * 11 / 10).await;
        }
    }

    /// Plays until the simulation has it stop.
    pub(super) async fn live(mut self) {
        let service: Name = SERVICES[self.number % SERVICES.len()].parse().unwrap();
        let id = format!("i-{}", self.number);
        let member = self.world.oracle().add_member(service.clone(), MemberId::new(&id).unwrap());
        let lease = self.rng.u32(2..9);
        let interval = u64::from(lease) * 1000 / 3;
        let signs = self.rng.bool();
        self.pause(0..3_000).await;
        while !self.stopped() {
            let until = self.world.now() + self.rng.u64(1_000..20_000);
            let mut weight = self.rng.u16(..);
            while self.world.now() < until && !self.stopped() {
                let update = self.registration(&service, &id, weight).lease(lease);
                self.send(member, Intent::Register(u64::from(lease) * 1000), &update, signs).await;
                if self.rng.u8(0..8) == 0 {
                    weight = self.rng.u16(..);
                } else {
                    self.pause(interval * 8 / 10..interval).await;
                }
            }
            if self.rng.u8(0..3) == 0 {
                let update = self.registration(&service, &id, weight).lease(0);
                self.send(member, Intent::Withdraw, &update, signs).await;
            }
            self.pause(100..12_000).await;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn pause(&mut self, range: std::ops::Range<u64>) {
        let millis = if range.is_empty() { range.start } else { self.rng.u64(range) };
        sleep(Duration::from_millis(millis)).await;
    }

    fn host(&self, id: &str) -> String {
        let label = ["x", "x", "y"][self.number % SERVICES.len()];
        format!("{id}.{label}.z.")
    }

    fn srv(&self, service: &Name, id: &str, weight: u16) -> String {
        format!("{service} SRV 0 {weight} 80 {}", self.host(id))
    }

    fn registration(&mut self, service: &Name, id: &str, weight: u16) -> Update {
        let address = format!("{} A 192.0.2.{}", self.host(id), self.number);
        Update::new("z.").add(&self.srv(service, id, weight)).add(&address)
    }

    async fn send(&mut self, member: Number, intent: Intent, update: &Update, signs: bool) {
        let update = update.clone().id(self.rng.u16(..));
        let octets = match signs {
            true => update.signed(KEY, SECRET, self.world.clock.now().wall.seconds()),
            false => update.octets(),
        };
        let port = 1000 + u16::try_from(self.number).unwrap();
        let packet = Arc::new(Packet {
            agent: self.number,
            member,
            intent,
            octets,
            port,
            signed: signs,
            delivered: AtomicUsize::new(0),
            answered: Notify::new(),
        });
        for _ in 0..ATTEMPTS {
            for delay in self.network.fates(self.number) {
                let (world, network, packet) = (self.world.clone(), self.network.clone(), packet.clone());
                tokio::spawn(async move {
                    sleep(Duration::from_millis(delay)).await;
                    deliver(&world, network, &packet);
                });
            }
            if timeout(PATIENCE, packet.answered.notified()).await.is_ok() {
                return;
            }
        }
    }
}

fn deliver(world: &Arc<World>, network: Network, packet: &Arc<Packet>) {
    if !world.is_running() {
        return;
    }
    let first = packet.delivered.fetch_add(1, Ordering::Relaxed) == 0;
    let delivery = Delivery { first, signed: packet.signed, at: world.now() };
    world.oracle().note_delivery(packet.member, packet.intent);
    let (replying, answered) = (world.clone(), packet.clone());
    let reply = move |octets: Vec<u8>| {
        let now = replying.now();
        replying.oracle().note_reply(answered.member, answered.intent, delivery, &octets, now);
        for delay in network.fates(answered.agent) {
            let answered = answered.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(delay)).await;
                answered.answered.notify_one();
            });
        }
    };
    world.deliver(&packet.octets, packet.port, reply);
}
