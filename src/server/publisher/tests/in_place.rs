//! Heartbeats in place against the general way: two publishers that are told the same, one of which counts in place what it
//! can, give the same replies and stay in the same state.

use proptest::prelude::*;

use crate::dns::update::renewal::{Candidate, InPlace, Place, renew};

use super::*;

/// Replies by the number of their request.
type Replies = Arc<Mutex<Vec<(usize, Vec<u8>)>>>;

/// One server.
struct Side {
    stage: Stage,
    in_place: bool,
    /// Who may update at all, as the front has it.
    access: UpdateAccess,
    replies: Replies,
    sent: usize,
    /// Heartbeats that were counted in place.
    counted: usize,
}

#[derive(Clone, Copy)]
struct Sender {
    peer: &'static str,
    transport: Transport,
}

const SENDERS: [Sender; 4] = [
    Sender { peer: "127.0.0.1:5000", transport: Transport::Udp },
    Sender { peer: "127.0.0.2:5001", transport: Transport::Udp },
    Sender { peer: "192.0.2.9:5002", transport: Transport::Tcp },
    Sender { peer: "192.0.2.9:5002", transport: Transport::Udp },
];
const KEYS: [&str; 2] = ["k.", "l."];

impl Side {
    fn new(in_place: bool, grace: u64) -> Side {
        let mut stage = Stage::with(0, grace);
        stage.keys = Keys::new(KEYS.map(|key| TsigKey::new(name(key), Algorithm::HmacSha256, b"secret")));
        stage.publisher.policy = policy(0, grace);
        let access = stage.publisher.policy.access.clone();
        Side { stage, in_place, access, replies: Arc::default(), sent: 0, counted: 0 }
    }

    fn deliver(&mut self, octets: &[u8], sender: Sender) {
        let (peer, transport) = (sender.peer.parse::<SocketAddr>().unwrap(), sender.transport);
        let (number, now, mut out) = (self.sent, self.stage.time(), Vec::new());
        self.sent += 1;
        if self.in_place
            && let Some(candidate) = Candidate::read(octets)
        {
            let renewals = self.stage.publisher.table().renewals().clone();
            let (access, keys) = (&self.access, &self.stage.keys);
            let place = Place { renewals: &renewals, access, keys, udp_size: 1232, peer, transport, now };
            if renew(&candidate, &place, &mut || true, &mut out) == InPlace::Answered {
                self.counted += 1;
                return self.replies.lock().unwrap().push((number, out));
            }
        }
        let context = Context {
            tcp_idle: Duration::from_secs(10),
            transfers: true,
            cookies: None,
            rate: None,
            rotate: false,
            zones: &self.stage.zones,
            keys: &self.stage.keys,
            identity: &Identity::default(),
            udp_size: 1232,
            now: now.wall,
            peer,
            transport,
        };
        match respond(&context, octets, &mut out) {
            Answer::Update(request) => match request.refused_by(&self.access) {
                Some(refusal) => {
                    request.reply(&refusal, now.wall, &mut out);
                    self.replies.lock().unwrap().push((number, out));
                }
                None => {
                    let replies = self.replies.clone();
                    let completion: Completion = Box::new(move |reply| replies.lock().unwrap().push((number, reply)));
                    self.stage.publisher.submit(
                        Submission::Update(submission::Update { request, completion, received: Instant::now() }),
                        now,
                    );
                }
            },
            Answer::Reply => self.replies.lock().unwrap().push((number, out)),
            other => panic!("{other:?}"),
        }
        self.flush();
    }

    fn flush(&mut self) {
        for reply in self.stage.publisher.take_replies() {
            reply.send(self.stage.time());
        }
    }

    /// Lets time pass, with a look at the clock as often as the driver looks.
    fn pass(&mut self, millis: u64) {
        let end = self.stage.now + millis;
        while self.stage.now < end {
            self.stage.now = (self.stage.now + 100).min(end);
            self.stage.publisher.observe(Monotonic(self.stage.now));
            self.stage.publisher.tick(self.stage.time());
            self.flush();
        }
    }

    fn write(&mut self, result: &Appended) {
        if !self.stage.publisher.is_waiting_for_store() {
            self.stage.seal();
        }
        self.stage.end(result);
        self.flush();
    }

    fn reconfigure(&mut self, variant: u8, grace: u64) {
        if self.stage.publisher.is_waiting_for_store() {
            self.stage.end(&Appended::Committed);
        }
        let policy = policy(variant, grace);
        self.access = policy.access.clone();
        let (settings, statics) = (Universe::new("z.").settings(), statics(variant));
        let configuration = Configuration { settings, statics, policy };
        let _ = self.stage.publisher.reconfigure(configuration, self.stage.time());
        self.flush();
    }

    /// Replies in the order of their requests, and all that a heartbeat or a change moves.
    fn state(&self) -> impl PartialEq + fmt::Debug + use<> {
        let mut replies = self.replies.lock().unwrap().clone();
        replies.sort();
        let table = self.stage.publisher.table();
        let mut readings: Vec<String> = table
            .items()
            .map(|item| {
                let reading = table.reading(table.find(&item.key()).unwrap());
                let words = (reading.deadline, reading.last, reading.gaps, reading.lease, reading.stamp);
                format!("{:?} {words:?}", item.key())
            })
            .collect();
        readings.sort();
        (replies, readings, self.stage.state())
    }
}

fn policy(variant: u8, grace: u64) -> Policy {
    let entry = |key: Option<&str>, network: Option<&str>, services: &str, members| UpdateEntry {
        key: key.map(name),
        network: network.map(|network| network.parse().unwrap()),
        services: Globs(vec![services.to_owned()]),
        ids: Globs::all(),
        members,
        records: Globs(vec!["host*".to_owned(), "*.x".to_owned()]),
    };
    let entries = match variant {
        0 | 1 => vec![
            entry(None, Some("0.0.0.0/0"), "*", Scope::Any),
            entry(Some("k."), None, "*", Scope::Any),
            entry(Some("l."), None, "*", Scope::Own),
        ],
        2 => vec![
            entry(None, Some("127.0.0.0/31"), "_x*", Scope::Own),
            entry(Some("k."), Some("127.0.0.0/8"), "*", Scope::Own),
            entry(Some("l."), None, "_x*", Scope::Any),
        ],
        _ => vec![entry(Some("k."), None, "*", Scope::Any), entry(None, Some("127.0.0.2/32"), "*", Scope::Any)],
    };
    let max = Lease(if variant == 1 { 10 } else { 3600 });
    let leases = LeaseLimits { grace: Duration::from_millis(grace), min: Lease(1), max, ..LeaseLimits::default() };
    Policy {
        access: UpdateAccess::new(entries),
        rules: Rules {
            policies: Policies::of_zone(ServicePolicy::plain(leases)).into(),
            quotas: Quotas::default(),
            peer_address: variant == 3,
            forwarders: Vec::new(),
        },
        settle: Duration::ZERO,
    }
}

fn statics(variant: u8) -> Vec<StaticNode> {
    let node = |owner: &str| StaticNode {
        name: name(owner),
        rrsets: vec![Rrset { rtype: RecordType::A, ttl: Ttl(60), rdatas: vec![vec![192, 0, 2, 1].into()] }],
    };
    if variant == 2 { vec![node("ns1.z."), node("h.z.")] } else { vec![node("ns1.z.")] }
}

/// What somebody sends, again and again.
#[derive(Clone, Debug)]
struct Message {
    kind: u8,
    service: usize,
    member: usize,
    target: usize,
    addresses: usize,
    first: bool,
    metadata: usize,
    lease: u8,
    sender: usize,
    key: usize,
}

impl Message {
    fn octets(&self, id: u16, seconds: u64) -> Vec<u8> {
        let (service, host) = [("_x._tcp.z.", "x.z."), ("_x._udp.z.", "x.z."), ("_y._tcp.z.", "y.z.")][self.service];
        let own = format!("{}.{host}", ["a", "b"][self.member]);
        let target = [own.as_str(), own.as_str(), "h.z.", "y.z.", "a.x.z.", "other.example."][self.target];
        let mut message = update().id(id);
        let srv = format!("{service} SRV 0 0 80 {target}");
        match self.kind {
            0 => message = message.delete_rrset(service, "SRV"),
            1 => message = message.delete_name(&own),
            2 => message = message.add(&format!("{own} CNAME h.z.")),
            3 => message = message.add("host1.z. A 192.0.2.1"),
            4 => message = message.add(&format!("{own} A 192.0.2.1")),
            5 => message = message.delete_record(&srv),
            6 => message = message.in_use("ns1.z.").add(&srv),
            _ => {
                if self.first {
                    message = message.add(&srv);
                }
                for address in ["192.0.2.1", "192.0.2.2"].iter().take(self.addresses) {
                    message = message.add(&format!("{target} A {address}"));
                }
                if !self.first {
                    message = message.add(&srv);
                }
                if self.metadata > 0 {
                    message = message.add(&format!("{}.{service} TXT v={}", ["a", "b"][self.member], self.metadata));
                }
            }
        }
        message = match self.lease {
            0 => message,
            1 => message.lease(0),
            2 => message.leases(10, 10),
            3 => message.leases(10, 30),
            4 => message.edns(),
            5 => message.lease(20),
            _ => message.lease(10),
        };
        match self.key {
            0 => message.octets(),
            key => message.signed(KEYS[key - 1], b"secret", seconds),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        message: usize,
        id: u16,
        ago: u64,
    },
    /// The octets of an earlier message once more.
    Repeat(usize),
    Pass(u64),
    Seal,
    Write(bool),
    Reconfigure(u8),
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let kind = prop_oneof![1 => 0u8..7, 6 => Just(9)];
    let message = (
        kind,
        (0usize..3, 0usize..2, 0usize..6),
        (0usize..3, any::<bool>(), 0usize..3),
        0u8..9,
        (prop_oneof![4 => Just(0usize), 1 => 0usize..4], prop_oneof![2 => Just(0usize), 2 => 0usize..3]),
    );
    let message =
        message.prop_map(|(kind, (service, member, target), (addresses, first, metadata), lease, (sender, key))| {
            Message { kind, service, member, target, addresses, first, metadata, lease, sender, key }
        });
    prop::collection::vec(message, 2..7)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0usize..7, 0u16..3, prop_oneof![4 => Just(0u64), 1 => 0u64..4])
            .prop_map(|(message, id, ago)| Step::Send { message, id, ago }),
        1 => (0usize..50).prop_map(Step::Repeat),
        3 => (0u64..9_000).prop_map(Step::Pass),
        2 => Just(Step::Seal),
        5 => prop_oneof![6 => Just(true), 1 => Just(false)].prop_map(Step::Write),
        1 => (0u8..4).prop_map(Step::Reconfigure),
    ];
    prop::collection::vec(step, 10..80)
}

/// Plays the steps on both sides, and returns how many heartbeats were counted in place.
fn play(grace: u64, messages: &[Message], steps: &[Step]) -> Result<usize, TestCaseError> {
    let mut sides = [Side::new(true, grace), Side::new(false, grace)];
    let mut sent: Vec<(Vec<u8>, usize)> = Vec::new();
    for step in steps {
        match step {
            Step::Send { message, id, ago } => {
                let message = &messages[message % messages.len()];
                // The same id makes a retransmission of what is not signed.
                let id = if message.key == 0 { 100 * *id } else { 7 };
                sent.push((message.octets(id, sides[0].stage.seconds() - ago), message.sender));
            }
            Step::Repeat(at) if !sent.is_empty() => sent.push(sent[at % sent.len()].clone()),
            _ => {}
        }
        for side in &mut sides {
            match step {
                Step::Send { .. } | Step::Repeat(_) => {
                    if let Some((octets, sender)) = sent.last() {
                        side.deliver(octets, SENDERS[*sender]);
                    }
                }
                Step::Pass(millis) => side.pass(*millis),
                Step::Seal => drop(side.stage.seal()),
                Step::Write(true) => side.write(&Appended::Committed),
                Step::Write(false) => side.write(&UNAVAILABLE()),
                Step::Reconfigure(variant) => side.reconfigure(*variant, grace),
            }
        }
        let [in_place, general] = &sides;
        prop_assert_eq!(in_place.state(), general.state(), "after {:?}", step);
    }
    Ok(sides[0].counted)
}

proptest! {
    #[test]
    fn a_heartbeat_in_place_is_answered_and_counted_as_by_the_general_way(
        grace in prop_oneof![Just(0u64), Just(3_000)],
        messages in messages(),
        steps in steps(),
    ) {
        play(grace, &messages, &steps)?;
    }
}

/// The registration of a member with its own address.
fn registration(key: usize) -> Message {
    Message {
        kind: 9,
        service: 0,
        member: 0,
        target: 0,
        addresses: 1,
        first: true,
        metadata: 1,
        lease: 6,
        sender: 0,
        key,
    }
}

fn heartbeat(message: usize, id: u16) -> [Step; 2] {
    [Step::Pass(2_000), Step::Send { message, id, ago: 0 }]
}

/// Registers the first message, and sends its first heartbeat, which the publisher notes.
fn begin() -> Vec<Step> {
    [vec![Step::Send { message: 0, id: 0, ago: 0 }, Step::Write(true)], heartbeat(0, 1).to_vec()].concat()
}

#[test]
fn heartbeats_are_counted_in_place_from_the_second_on() {
    for key in 0..3 {
        let steps = [begin(), heartbeat(0, 2).to_vec(), heartbeat(0, 3).to_vec()].concat();
        assert_eq!(play(0, &[registration(key)], &steps).unwrap(), 2);
    }
}

#[test]
fn a_heartbeat_signed_before_the_last_goes_to_the_publisher_and_a_repeated_one_is_answered_in_place() {
    let late = Step::Send { message: 0, id: 0, ago: 3 };
    let steps = [begin(), heartbeat(0, 2).to_vec(), vec![Step::Repeat(2), late]].concat();
    assert_eq!(play(0, &[registration(1)], &steps).unwrap(), 2);
}

#[test]
fn a_suspect_member_is_handed_on_and_counted_in_place_again_afterwards() {
    let steps = [begin(), vec![Step::Pass(11_000), Step::Send { message: 0, id: 2, ago: 0 }], heartbeat(0, 3).to_vec()]
        .concat();
    assert_eq!(play(3_000, &[registration(0)], &steps).unwrap(), 1);
}

#[test]
fn a_change_of_the_member_or_of_the_configuration_or_a_refused_write_voids_the_note_once() {
    let changed = Message { metadata: 2, ..registration(0) };
    let other = Message { member: 1, ..registration(0) };
    for (between, counted) in [
        (vec![], 3),
        // The change itself, and then the way back; each is a commit.
        (vec![Step::Send { message: 1, id: 0, ago: 0 }, Step::Write(true)], 1),
        // Before either is durable as well.
        (vec![Step::Send { message: 1, id: 0, ago: 0 }], 1),
        (vec![Step::Reconfigure(1), Step::Write(true)], 2),
        (vec![Step::Send { message: 2, id: 0, ago: 0 }, Step::Seal, Step::Write(false)], 2),
        // Another member of the service is nobody's concern.
        (vec![Step::Send { message: 2, id: 0, ago: 0 }, Step::Write(true)], 3),
    ] {
        let after = (2..5).flat_map(|id| [heartbeat(0, id).to_vec(), vec![Step::Write(true)]].concat());
        let steps = [begin(), between.clone(), after.collect()].concat();
        let messages = [registration(0), changed.clone(), other.clone()];
        assert_eq!(play(0, &messages, &steps).unwrap(), counted, "{between:?}");
    }
}

#[test]
fn what_comes_to_share_the_address_of_a_member_voids_its_note() {
    // Both have the target h.z.; from then on, an address for it is one for both, and nothing is counted in place.
    let first = Message { target: 2, metadata: 0, ..registration(0) };
    let second = Message { service: 2, ..first.clone() };
    let join = vec![Step::Send { message: 1, id: 0, ago: 0 }, Step::Write(true)];
    let before = [begin(), heartbeat(0, 2).to_vec()].concat();
    let steps = [before, join, heartbeat(0, 3).to_vec(), heartbeat(0, 4).to_vec()].concat();
    assert_eq!(play(0, &[first, second], &steps).unwrap(), 1);
}
