//! What registrations cost a zone's publisher, in this process and without sockets.
//!
//! `cargo bench --bench commits -- [SERVICES] [MEMBERS-PER-SERVICE] [ROUNDS]`, by default 2000 services of 50 and 15 rounds.
//! Fills a zone that is kept in a scratch folder, then commits batches of signed registrations and withdrawals, step by
//! step as the server does it: read and verify, execute, stage, write, publish and compile, reply. Each figure is CPU time
//! of the thread that did the step, in microseconds an update, the median of the rounds. What the kernel does of a write
//! on other threads is in none of them. The second table has the members of the touched service as its parameter.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livezone::base::{Epoch, Lease, Monotonic, Name, Now, RecordType, Ttl, Wall};
use livezone::dns::identity::Identity;
use livezone::dns::reply::Transport;
use livezone::dns::respond::{Context, ServedZone, Verdict, Zones, respond};
use livezone::dns::tsig::{Algorithm, Exchange, Key, Keys};
use livezone::dns::update::Rules;
use livezone::membership::access::{Globs, Scope, UpdateEntry};
use livezone::membership::{LeaseLimits, Quotas, Table, UpdateAccess};
use livezone::server::publisher::{Policy, Publisher, Submission};
use livezone::server::visible::Visible;
use livezone::store::Appended;
use livezone::store::embedded::{Entry, StoreFile};
use livezone::zone::{Rrset, Settings, StaticNode, Zone};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

const ORIGIN: &str = "svc.example.test.";
const STEPS: [&str; 6] = ["verify", "execute", "stage", "write", "publish", "reply"];

fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (services, each, rounds) = (number(0, 2000), number(1, 50), number(2, 15));
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(folder.path());
    let began = Instant::now();
    for service in 0..services {
        scene.commit((0..each).map(|id| scene.registration(service, id..id + 1, 1)).collect());
    }
    println!("{} members in {services} services: filled in {:.1} s", services * each, began.elapsed().as_secs_f64());

    heading("updates");
    let port = |round: u32| 2 + round as u16;
    scene.measure("1 changes a member", rounds, |scene, round| {
        vec![scene.registration(round * 7 % services, 0..1, port(round))]
    });
    for batch in [16, 256] {
        let label = format!("{batch} register in as many services");
        scene.measure(&label, rounds, |scene, round| {
            (0..batch)
                .map(|at| scene.registration((round * 7 + at * 5) % services, 9000 + round..9001 + round, 1))
                .collect()
        });
        let label = format!("{batch} withdraw from as many services");
        scene.measure(&label, rounds, |scene, round| {
            (0..batch).map(|at| scene.withdrawal((round * 7 + at * 5) % services, 9000 + round)).collect()
        });
    }
    scene.measure("256 register in one service", rounds, |scene, round| {
        (0..256).map(|at| scene.registration(round * 7 % services, 5000 + at..5001 + at, 1)).collect()
    });

    heading("members of the touched service, one update");
    for (at, size) in [1, 10, 50, 200, 800].into_iter().enumerate() {
        let service = 8000 + at as u32;
        for start in (0..size).step_by(100) {
            scene.commit(vec![scene.registration(service, start..size.min(start + 100), 1)]);
        }
        scene.measure(&size.to_string(), rounds, |scene, round| vec![scene.registration(service, 0..1, port(round))]);
    }
}

fn heading(what: &str) {
    print!("\n| {what:<36} |");
    STEPS.iter().chain(&["sum"]).for_each(|step| print!(" {step:>8} |"));
    println!("\n| {} |{}", "-".repeat(36), " -------: |".repeat(STEPS.len() + 1));
}

struct Scene {
    publisher: Publisher,
    store: StoreFile,
    visible: Visible,
    zones: Zones,
    keys: Keys,
    key: Key,
    now: Now,
    messages: u16,
}

impl Scene {
    fn new(folder: &Path) -> Scene {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let now = Now { mono: Monotonic(1_000_000), wall: Wall(1_800_000_000_000) };
        let settings = Arc::new(Settings {
            origin: name(ORIGIN),
            ttl: Ttl(5),
            negative_ttl: Ttl(2),
            soa_ttl: Ttl(2),
            primary: name("ns1.svc.example.test."),
            contact: name("hostmaster.example.test."),
            refresh: 30,
            retry: 5,
            expire: 86_400,
            services: Vec::new(),
        });
        let key = Key::new(name("registrars."), Algorithm::HmacSha256, &[7; 32]);
        let entry = UpdateEntry {
            key: Some(key.name.clone()),
            network: None,
            services: Globs::all(),
            ids: Globs::all(),
            members: Scope::Any,
            records: Globs(Vec::new()),
        };
        let quotas = Quotas {
            owner_leases: 2_000_000,
            owner_services: 2_000_000,
            zone_leases: 2_000_000,
            zone_services: 2_000_000,
        };
        let policy = Policy {
            access: UpdateAccess::new(vec![entry]),
            rules: Rules {
                leases: LeaseLimits { default: Lease(3600), ..LeaseLimits::default() },
                quotas,
                peer_address: false,
                forwarders: Vec::new(),
            },
            settle: Duration::ZERO,
        };
        let zone = Zone::new(settings.clone(), Epoch(99));
        let publisher = Publisher::new(zone, Table::new(Duration::ZERO), policy, Arc::default(), None, now);
        let served = Arc::new(ServedZone::new(settings.origin.clone()));
        let (newest, _) = watch::channel(None);
        let mut store = StoreFile::open(Box::new(folder.join("livezone.redb"))).unwrap();
        store.start(&settings.origin, now.wall).unwrap();
        let mut scene = Scene {
            publisher,
            store,
            visible: Visible { served: served.clone(), newest, on_commit: None, retired: Mutex::default() },
            zones: Zones::new([served]),
            keys: Keys::new([key.clone()]),
            key,
            now,
            messages: 0,
        };
        let ns1 = Rrset { rtype: RecordType::A, ttl: Ttl(60), rdatas: vec![vec![192, 0, 2, 53].into()] };
        let statics = vec![StaticNode { name: name("ns1.svc.example.test."), rrsets: vec![ns1] }];
        scene.publisher.configure(settings, statics, now).unwrap();
        scene.commit(Vec::new());
        scene
    }

    /// Signed with the next id.
    fn sign(&self, mut message: Vec<u8>) -> Vec<u8> {
        Exchange::sign(&self.key, &mut message, self.now.wall);
        message
    }

    fn registration(&self, service: u32, members: Range<u32>, port: u16) -> Vec<u8> {
        let mut message = head(members.len() as u16 * 3);
        for member in members {
            let host = wire(&format!("i-{member:04}.cache{service:04}.{ORIGIN}"));
            let mut srv = [0u16, 256, port].iter().flat_map(|field| field.to_be_bytes()).collect::<Vec<u8>>();
            srv.extend(&host);
            let number = service << 16 | member;
            let mut aaaa = vec![0xfd, 0, 0, 0x53, 0, 0, 0, 0, 0, 0, 0, 0];
            aaaa.extend(number.to_be_bytes());
            record(&mut message, &service_name(service), 33, 1, &srv);
            record(&mut message, &host, 1, 1, &(0x0a00_0000 | number & 0xff_ffff).to_be_bytes());
            record(&mut message, &host, 28, 1, &aaaa);
        }
        self.sign(lease(message))
    }

    fn withdrawal(&self, service: u32, member: u32) -> Vec<u8> {
        let mut message = head(1);
        let mut srv = [0u16, 256, 1].iter().flat_map(|field| field.to_be_bytes()).collect::<Vec<u8>>();
        srv.extend(wire(&format!("i-{member:04}.cache{service:04}.{ORIGIN}")));
        record(&mut message, &service_name(service), 33, 254, &srv);
        self.sign(lease(message))
    }

    /// Commits one batch; what each step took.
    fn commit(&mut self, mut messages: Vec<Vec<u8>>) -> [Duration; 6] {
        self.now.mono.0 += 1;
        self.now.wall.0 += 1;
        for message in &mut messages {
            self.messages = self.messages.wrapping_add(1);
            message[..2].copy_from_slice(&self.messages.to_be_bytes());
        }
        let mut times = [Duration::ZERO; 6];
        let mut clock = cpu();
        let mut step = |at: usize| times[at] = std::mem::replace(&mut clock, cpu()).abs_diff(clock);
        let requests: Vec<_> = messages.iter().map(|message| self.read(message)).collect();
        step(0);
        for request in requests {
            let completion = Box::new(|reply: Vec<u8>| assert_eq!(reply[3] & 15, 0, "refused: {reply:?}"));
            self.publisher.submit(Submission { request, completion }, self.now);
        }
        step(1);
        let write = self.publisher.seal(self.now).expect("every batch changes something");
        step(2);
        let outcome = self.store.write(&[Entry::Append(Box::new(write))], Instant::now());
        assert_eq!(outcome, [Appended::Committed]);
        step(3);
        let advance = self.publisher.appended(&Appended::Committed, self.now).expect("and publishes it");
        let shown = self.visible.served.answers.load_full();
        let before = shown.as_deref().map(livezone::answer::Answers::snapshot);
        self.visible.advance(before, &advance.published, &advance.commit);
        drop(shown);
        drop(advance);
        step(4);
        self.publisher.take_replies().into_iter().for_each(|reply| reply.send(self.now));
        step(5);
        times
    }

    fn read(&self, message: &[u8]) -> Box<livezone::dns::update::Request> {
        let identity = Identity::default();
        let context = Context {
            cookies: None,
            rate: None,
            rotate: false,
            tcp_idle: Duration::from_secs(10),
            transfers: true,
            zones: &self.zones,
            keys: &self.keys,
            identity: &identity,
            udp_size: 1232,
            now: self.now.wall,
            peer: "127.0.0.1:5000".parse().unwrap(),
            transport: Transport::Udp,
        };
        match respond(&context, message, &mut Vec::new()) {
            Verdict::Update(request) => request,
            _ => panic!("no update"),
        }
    }

    fn measure(&mut self, label: &str, rounds: u32, batch: impl Fn(&Scene, u32) -> Vec<Vec<u8>>) {
        let mut all: Vec<[f64; 6]> = Vec::new();
        for round in 0..rounds {
            let messages = batch(self, round);
            let updates = messages.len() as f64;
            all.push(self.commit(messages).map(|time| time.as_secs_f64() * 1e6 / updates));
        }
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        print!("| {label:<36} |");
        (0..6).for_each(|at| print!(" {:8.2} |", median(all.iter().map(|times| times[at]).collect())));
        println!(" {:8.2} |", median(all.iter().map(|times| times.iter().sum()).collect()));
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
}

fn head(updates: u16) -> Vec<u8> {
    let mut message = vec![0, 0, 0x28, 0, 0, 1, 0, 0];
    message.extend(updates.to_be_bytes());
    message.extend([0, 1]);
    message.extend(wire(ORIGIN));
    message.extend([0, 6, 0, 1]);
    message
}

/// Adds the Update Lease option.
fn lease(mut message: Vec<u8>) -> Vec<u8> {
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 8, 0, 2, 0, 4, 0, 0, 14, 16]);
    message
}

fn service_name(service: u32) -> Vec<u8> {
    wire(&format!("_cache{service:04}._tcp.{ORIGIN}"))
}

fn wire(text: &str) -> Vec<u8> {
    text.parse::<Name>().unwrap().as_wire().to_vec()
}

fn record(message: &mut Vec<u8>, owner: &[u8], rtype: u16, class: u16, rdata: &[u8]) {
    message.extend(owner);
    message.extend(rtype.to_be_bytes());
    message.extend(class.to_be_bytes());
    message.extend(if class == 1 { [0, 0, 0, 5] } else { [0; 4] });
    message.extend((rdata.len() as u16).to_be_bytes());
    message.extend(rdata);
}
