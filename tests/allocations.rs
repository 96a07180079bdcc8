//! What queries and heartbeats cost a UDP thread in memory: nothing.
//!
//! A binary of its own, since its allocator counts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use livezone::answer::Answers;
use livezone::base::{Epoch, Lease, Name, RecordType, Ttl, Wall};
use livezone::config;
use livezone::dns::cookie::{Cookies, Secret};
use livezone::dns::rate::{self, Rate};
use livezone::dns::respond::{ServedZone, Zones};
use livezone::dns::tsig::{Algorithm, Key, Keys};
use livezone::dns::update::renewal::Candidate;
use livezone::membership::access::{Globs, Scope, UpdateEntry};
use livezone::membership::{Decided, Item, Member, MemberId, Owner, Registration, State, Table, UpdateAccess};
use livezone::net::Handler;
use livezone::net::udp::batch::Batch;
use livezone::server::clock::{Clock, SystemClock};
use livezone::server::front::{Front, Registrar, Routing};
use livezone::zone::{Cause, CausedChange, Change, Rrset, Settings, Zone};
use ring::hmac;
use tokio::sync::mpsc;

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

#[expect(unsafe_code, reason = "the trait is unsafe to implement; it hands on what it is given")]
// SAFETY: every call goes to the system's allocator with the arguments that it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what `alloc` and `realloc` return is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: likewise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const PEER: &str = "127.0.0.1:5000";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn record(owner: &str, numbers: [u16; 2], ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let numbers = numbers.map(u16::to_be_bytes).concat();
    let length = u16::try_from(rdata.len()).unwrap().to_be_bytes();
    [name(owner).as_wire(), &numbers, &ttl.to_be_bytes(), &length, rdata].concat()
}

/// The registration of i-1 with an address and metadata, for ten seconds.
fn heartbeat(id: u16) -> Vec<u8> {
    let header = [id, 0x2800, 1, 0, 3, 1].map(u16::to_be_bytes).concat();
    let srv = [&[0, 0, 0, 0, 0x2b, 0xcb], name("i-1.memcached.svc.example.test.").as_wire()].concat();
    [
        header,
        [name("svc.example.test.").as_wire(), &[0, 6, 0, 1]].concat(),
        record("_memcached._tcp.svc.example.test.", [33, 1], 5, &srv),
        record("i-1.memcached.svc.example.test.", [1, 1], 5, &[192, 0, 2, 1]),
        record("i-1._memcached._tcp.svc.example.test.", [16, 1], 5, b"\x05v=1.6"),
        record(".", [41, 1232], 0, &[0, 2, 0, 4, 0, 0, 0, 10]),
    ]
    .concat()
}

/// The same, signed (RFC 8945 §4.3).
fn signed_heartbeat(id: u16, time: u64) -> Vec<u8> {
    let mut message = heartbeat(id);
    let algorithm = name("hmac-sha256.");
    let timers = [&time.to_be_bytes()[2..], &[1, 44]].concat();
    let fixed = [name("agents.").as_wire(), &[0, 255, 0, 0, 0, 0], algorithm.as_wire()].concat();
    let covered = [message.as_slice(), &fixed, &timers, &[0; 4]].concat();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), &covered);
    let rdata = [algorithm.as_wire(), &timers, &[0, 32], mac.as_ref(), &id.to_be_bytes(), &[0; 4]].concat();
    message.extend(record("agents.", [250, 255], 0, &rdata));
    message[11] += 1;
    message
}

/// A table with that member, and this message noted for it.
fn table(clock: &SystemClock, message: &[u8]) -> Table {
    let member = Member {
        service: name("_memcached._tcp.svc.example.test."),
        id: MemberId::new("i-1").unwrap(),
        registration: Arc::new(Registration {
            target: name("i-1.memcached.svc.example.test."),
            port: 11211,
            priority: 0,
            weight: 0,
            addresses: ["192.0.2.1".parse().unwrap()].into(),
            metadata: [b"v=1.6".as_slice().into()].into(),
        }),
        owner: Owner("key agents.".into()),
        lease: Lease(10),
        state: State::Up,
        decided: Decided::default(),
    };
    let mut table = Table::new(Duration::ZERO);
    let index = table.put(Item::Member(member), None).unwrap();
    table.accept(clock.now());
    let peer: SocketAddr = PEER.parse().unwrap();
    table.note(index, Candidate::read(message).unwrap().digest(peer.ip(), false));
    table
}

/// A zone with a service of one server, whose address goes along.
fn answers() -> Answers {
    let settings = Arc::new(Settings {
        origin: name("svc.example.test."),
        ttl: Ttl(5),
        negative_ttl: Ttl(2),
        soa_ttl: Ttl(2),
        primary: name("ns1.svc.example.test."),
        contact: name("hostmaster.example.test."),
        refresh: 30,
        retry: 5,
        expire: 3600,
        services: Vec::new(),
    });
    let mut zone = Zone::new(settings.clone(), Epoch(1));
    let fixed = |owner: &str, rtype: RecordType, rdata: Vec<u8>| {
        let rrsets = vec![Rrset { rtype, ttl: Ttl(5), rdatas: vec![rdata.into()] }];
        Change::Static { name: name(owner), rrsets }
    };
    let srv = [&[0, 0, 0, 0, 0, 80], name("a.svc.example.test.").as_wire()].concat();
    for change in [
        Change::Settings(settings),
        fixed("_web._tcp.svc.example.test.", RecordType::SRV, srv),
        fixed("a.svc.example.test.", RecordType::A, vec![192, 0, 2, 1]),
    ] {
        zone.change(CausedChange { change, cause: Cause::Configured }, Wall(0));
    }
    let staged = zone.stage(Wall(0));
    Answers::build(&zone.publish(staged).unwrap().snapshot)
}

fn front(clock: SystemClock, table: &Table) -> Front {
    let origin = name("svc.example.test.");
    let keyed = UpdateEntry {
        key: Some(name("agents.")),
        network: None,
        services: Globs::all(),
        ids: Globs::all(),
        members: Scope::Own,
        records: Globs::default(),
    };
    let entries = [vec![keyed], UpdateEntry::loopback()].concat();
    let (queue, requests) = mpsc::channel(1);
    // A publisher that lives, and is asked nothing.
    std::mem::forget(requests);
    let registrar = Registrar {
        queue,
        inquiries: mpsc::channel(1).0,
        access: UpdateAccess::new(entries),
        renewals: table.renewals().clone(),
        draining: Default::default(),
    };
    let zone = ServedZone { answers: ArcSwapOption::from_pointee(answers()), ..ServedZone::new(origin.clone()) };
    let limited = rate::Settings { exempt: Vec::new(), ..rate::Settings::default() };
    let routing = Routing {
        zones: Zones::new([Arc::new(zone)]),
        registrars: [(origin, registrar)].into_iter().collect(),
        keys: Keys::new([Key::new(name("agents."), Algorithm::HmacSha256, SECRET)]),
        udp_size: 1232,
        cookies: Some(Cookies::new(&Secret([7; 16]), &[])),
        answer_rate: Some(Rate::new(&limited, Arc::default())),
        ..Routing::default()
    };
    Front::new(routing, &config::load(None).unwrap(), Arc::new(clock), Arc::default(), mpsc::channel(1).0)
}

/// Sends each message to a UDP thread's side of a server that has noted `noted`, in batches; returns how often it allocated
/// since the first ones, for which it may get ready. All have to be answered there, with this rcode.
fn allocations(noted: &[u8], messages: &[Vec<u8>], rcode: u8) -> u64 {
    let clock = SystemClock::start();
    let table = table(&clock, noted);
    let front = front(clock, &table);
    let [server, client] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    }
    client.connect(server.local_addr().unwrap()).unwrap();
    let mut batch = Batch::new(server.local_addr().unwrap());
    let mut allocated = 0;
    for (round, sent) in messages.chunks(10).enumerate() {
        for message in sent {
            client.send(message).unwrap();
        }
        let mut answered = 0;
        while answered < sent.len() {
            server.peek(&mut [0]).unwrap();
            let before = ALLOCATIONS.get();
            answered += batch.receive(&server).unwrap();
            front.quick(&mut batch.datagrams(), &mut |_| panic!("it goes the general way"));
            batch.send(&server, || false, |error, _| panic!("{error}"));
            allocated += if round == 0 { 0 } else { ALLOCATIONS.get() - before };
        }
        let mut octets = [0; 2048];
        for message in sent {
            let len = client.recv(&mut octets).unwrap();
            assert!(len > 12 && octets[..2] == message[..2] && octets[3] & 15 == rcode);
        }
    }
    allocated
}

fn query(id: u16, owner: &str, rtype: u16) -> Vec<u8> {
    let header = [id, 0, 1, 0, 0, 1].map(u16::to_be_bytes).concat();
    let question = [name(owner).as_wire(), &[rtype, 1].map(u16::to_be_bytes).concat()].concat();
    let cookie = [&[0, 10, 0, 8][..], &u64::from(id).to_be_bytes()].concat();
    [header, question, record(".", [41, 1232], 0, &cookie)].concat()
}

#[test]
fn a_query_allocates_nothing() {
    for (owner, rtype, rcode) in
        [("_web._tcp.svc.example.test.", 33, 0), ("a.svc.example.test.", 1, 0), ("nobody.svc.example.test.", 1, 3)]
    {
        let queries: Vec<_> = (0..100).map(|id| query(id, owner, rtype)).collect();
        assert_eq!(allocations(&heartbeat(0), &queries, rcode), 0, "{owner}");
    }
}

#[test]
fn an_unsigned_heartbeat_allocates_nothing() {
    let messages: Vec<_> = (0..100).map(heartbeat).collect();
    assert_eq!(allocations(&messages[0], &messages, 0), 0);
}

#[test]
fn a_signed_heartbeat_allocates_nothing() {
    let time = SystemClock::start().now().wall.seconds();
    let messages: Vec<_> = (0..100).map(|id| signed_heartbeat(id, time)).collect();
    assert_eq!(allocations(&messages[0], &messages, 0), 0);
}

#[test]
fn the_allocations_of_a_thread_are_counted() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1u8; 64]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
