//! A zone in this process, without sockets: its publisher, what it shows, and its store if it has one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use livezone::answer::Answers;
use livezone::base::{Epoch, Lease, Monotonic, Name, Now, RecordType, Ttl, Wall};
use livezone::dns::cookie::{Cookies, Secret};
use livezone::dns::identity::Identity;
use livezone::dns::rate::{self, Rate};
use livezone::dns::reply::Transport;
use livezone::dns::respond::{Context, ServedZone, Verdict, Zones, respond};
use livezone::dns::tsig::{Algorithm, Exchange, Key, Keys};
use livezone::dns::update::{Request, Rules};
use livezone::membership::access::{Globs, Scope, UpdateEntry};
use livezone::membership::{LeaseLimits, Policies, Quotas, ServicePolicy, Table, UpdateAccess};
use livezone::server::publisher::{Policy, Publisher, Submission, Update};
use livezone::server::visible::Visible;
use livezone::store::Appended;
use livezone::store::embedded::{Entry, StoreFile};
use livezone::zone::{Rrset, Settings, StaticNode, Zone};
use tokio::sync::watch;

use super::messages::ORIGIN;

/// The steps of a commit, in order.
pub(crate) const STEPS: [&str; 6] = ["verify", "execute", "stage", "write", "publish", "reply"];
/// Whose signed updates are admitted, as are unsigned ones from loopback.
const REGISTRARS: &str = "registrars.";

/// A zone that nobody serves. It has a name server, and whoever registers.
pub(crate) struct Scene {
    pub(crate) publisher: Publisher,
    pub(crate) visible: Visible,
    pub(crate) keys: Keys,
    pub(crate) access: UpdateAccess,
    pub(crate) cookies: Cookies,
    pub(crate) now: Now,
    rate: Rate,
    identity: Identity,
    zones: Zones,
    key: Key,
    store: Option<StoreFile>,
    messages: u16,
}

impl Scene {
    /// An empty zone, kept in a folder if there is one.
    pub(crate) fn new(folder: Option<&Path>) -> Scene {
        let now = Now { mono: Monotonic(1_000_000), wall: Wall(1_800_000_000_000) };
        let settings = Arc::new(settings());
        let key = Key::new(name(REGISTRARS), Algorithm::HmacSha256, &[7; 32]);
        let access = access(&key);
        let zone = Zone::new(settings.clone(), Epoch(99));
        let policy = policy(access.clone());
        let publisher = Publisher::new(zone, Table::new(Duration::ZERO), policy, Arc::default(), None, now);
        let served = Arc::new(ServedZone::new(settings.origin.clone()));
        let (newest, _) = watch::channel(None);
        let store = folder.map(|folder| {
            let mut store = StoreFile::open(Box::new(folder.join("livezone.redb"))).unwrap();
            store.start(&settings.origin, now.wall).unwrap();
            store
        });
        // Answers are counted, and none is held back.
        let unlimited = rate::Settings { per_second: 1_000_000_000, ..rate::Settings::default() };
        let mut scene = Scene {
            publisher,
            visible: Visible { served: served.clone(), newest, on_commit: None, retired: Mutex::default() },
            keys: Keys::new([key.clone()]),
            access,
            cookies: Cookies::new(&Secret([5; 16]), &[]),
            now,
            rate: Rate::new(&unlimited, Arc::default()),
            identity: Identity::default(),
            zones: Zones::new([served]),
            key,
            store,
            messages: 0,
        };
        let ns1 = Rrset { rtype: RecordType::A, ttl: Ttl(60), rdatas: vec![vec![192, 0, 2, 53].into()] };
        let statics = vec![StaticNode { name: name("ns1.svc.example.test."), rrsets: vec![ns1] }];
        scene.publisher.configure(settings, statics, now).unwrap();
        scene.commit(Vec::new(), &mut |_| ());
        scene
    }

    /// Signs a message with the registrars' key.
    pub(crate) fn sign(&self, mut message: Vec<u8>, at: Wall) -> Vec<u8> {
        Exchange::sign(&self.key, &mut message, at);
        message
    }

    /// What a datagram meets.
    pub(crate) fn context(&self, peer: SocketAddr) -> Context<'_> {
        Context {
            cookies: Some(&self.cookies),
            rate: Some((&self.rate, self.now.mono)),
            rotate: false,
            tcp_idle: Duration::from_secs(10),
            transfers: true,
            zones: &self.zones,
            keys: &self.keys,
            identity: &self.identity,
            udp_size: 4096,
            now: self.now.wall,
            peer,
            transport: Transport::Udp,
        }
    }

    /// What is answered now.
    pub(crate) fn answers(&self) -> Arc<Answers> {
        self.visible.served.answers.load_full().expect("the zone is shown")
    }

    /// Commits one batch as the server does it, and calls after each of [`STEPS`].
    pub(crate) fn commit(&mut self, mut messages: Vec<Vec<u8>>, step: &mut dyn FnMut(usize)) {
        self.now.mono.0 += 1;
        self.now.wall.0 += 1;
        for message in &mut messages {
            self.messages = self.messages.wrapping_add(1);
            message[..2].copy_from_slice(&self.messages.to_be_bytes());
        }
        let requests: Vec<_> = messages.iter().map(|message| self.read(message)).collect();
        step(0);
        requests.into_iter().for_each(|request| self.submit(request));
        step(1);
        let write = self.publisher.seal(self.now).expect("every batch changes something");
        step(2);
        if let Some(store) = &mut self.store {
            assert_eq!(store.write(&[Entry::Append(Box::new(write))], Instant::now()), [Appended::Committed]);
        }
        step(3);
        let advance = self.publisher.appended(&Appended::Committed, self.now).expect("and publishes it");
        let shown = self.visible.served.answers.load_full();
        let before = shown.as_deref().map(Answers::snapshot);
        self.visible.advance(before, &advance.published, &advance.commit);
        drop(shown);
        drop(advance);
        step(4);
        self.reply();
        step(5);
    }

    /// Has the publisher carry out messages that change nothing, so that they are noted as heartbeats.
    pub(crate) fn renew(&mut self, messages: &[Vec<u8>]) {
        for message in messages {
            let request = self.read(message);
            self.submit(request);
        }
        assert!(self.publisher.seal(self.now).is_none(), "a renewal publishes nothing");
        self.reply();
    }

    fn read(&self, message: &[u8]) -> Box<Request> {
        match respond(&self.context("127.0.0.1:5000".parse().unwrap()), message, &mut Vec::new()) {
            Verdict::Update(request) => request,
            _ => panic!("no update"),
        }
    }

    fn submit(&mut self, request: Box<Request>) {
        let completion = Box::new(|reply: Vec<u8>| assert_eq!(reply[3] & 15, 0, "refused: {reply:?}"));
        self.publisher.submit(Submission::Update(Update { request, completion, received: Instant::now() }), self.now);
    }

    fn reply(&mut self) {
        self.publisher.take_replies().into_iter().for_each(|reply| reply.send(self.now));
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn settings() -> Settings {
    Settings {
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
    }
}

fn access(key: &Key) -> UpdateAccess {
    let keyed = UpdateEntry {
        key: Some(key.name.clone()),
        network: None,
        services: Globs::all(),
        ids: Globs::all(),
        members: Scope::Any,
        records: Globs(Vec::new()),
    };
    UpdateAccess::new([vec![keyed], UpdateEntry::loopback()].concat())
}

/// One registrar has all members.
fn policy(access: UpdateAccess) -> Policy {
    let quotas =
        Quotas { owner_leases: 2_000_000, owner_services: 2_000_000, zone_leases: 2_000_000, zone_services: 2_000_000 };
    let leases = LeaseLimits { default: Lease(3600), ..LeaseLimits::default() };
    Policy {
        access,
        rules: Rules {
            policies: Policies::of_zone(ServicePolicy::plain(leases)).into(),
            quotas,
            peer_address: false,
            forwarders: Vec::new(),
        },
        settle: Duration::ZERO,
    }
}
