//! Hostile packets: valid ones of every kind, ones that break a rule each, and what mutation makes of both. All choices come
//! from one seed; keys and the time of signatures differ from run to run, which changes octets but no lengths.

use fastrand::Rng;

use crate::support::message::*;
use crate::support::tsig::{TsigKey, unix_time};
use crate::support::{MEMCACHED, ZONE};

/// Where hostile updates with the right key may register.
pub(super) const OTHER: &str = "_other._tcp.svc.example.test.";

const PTR: u16 = 12;
const OPT: u16 = 41;
const TSIG: u16 = 250;

const NAMES: [&str; 22] = [
    ZONE,
    MEMCACHED,
    OTHER,
    ".",
    "test.",
    "_tcp.svc.example.test.",
    "memcached.svc.example.test.",
    "i-1.memcached.svc.example.test.",
    "i-1._memcached._tcp.svc.example.test.",
    "i-7.other.svc.example.test.",
    "h.hosts.svc.example.test.",
    "missing.svc.example.test.",
    "www.svc.example.test.",
    "loop.svc.example.test.",
    "any.wild.svc.example.test.",
    "*.wild.svc.example.test.",
    "host.sub.svc.example.test.",
    "a.old.svc.example.test.",
    "www.example.net.",
    "version.bind.",
    // As long as a name may be: 254 octets as text, 255 on the wire.
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.\
     ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc.dddddddddddddddddddddddddddddddddddddddd.svc.example.test.",
    "xn--a.\u{7f}\u{1}.svc.example.test.",
];
const TYPES: [u16; 24] =
    [A, A, NS, CNAME, SOA, TXT, TXT, AAAA, SRV, SRV, ANY, PTR, 13, 15, 18, 25, 35, 39, 43, 44, 46, 52, 64, 257];
/// Types that stand for something else than records.
const META: [u16; 8] = [0, OPT, 128, 249, TSIG, 251, 252, u16::MAX];
const CLASSES: [u16; 7] = [IN, IN, IN, 3, CLASS_NONE, CLASS_ANY, 0];
/// Octets that mean something in many places.
const TELLING: [u8; 16] = [0, 1, 2, 4, 8, 12, 41, 63, 64, 0x7f, 0x80, 0xc0, 0xc1, 250, 254, 255];

/// A source of packets.
pub(super) struct Packets {
    pub(super) random: Rng,
    /// The right one first; then ones that the server refuses.
    keys: Vec<TsigKey>,
}

impl Packets {
    pub(super) fn new(seed: u64, key: &TsigKey) -> Packets {
        let wrong = TsigKey { secret: vec![7; 32], ..key.clone() };
        let unknown = TsigKey { name: "nobody.example.".to_owned(), ..key.clone() };
        // Comes back in the answer, with its name.
        let long = TsigKey { name: NAMES[20].to_owned(), ..key.clone() };
        Packets { random: Rng::with_seed(seed), keys: vec![key.clone(), wrong, unknown, long] }
    }

    /// Any packet.
    pub(super) fn any(&mut self) -> Vec<u8> {
        match self.random.u8(..20) {
            0 => self.octets(600),
            1 | 2 => self.odd(),
            3 | 4 => self.valid(),
            5 | 6 => {
                let packet = self.odd();
                self.mutate(packet)
            }
            // Mutated first, so that the signature is right and what it covers is read to its end.
            7..11 => {
                let packet = self.update();
                let packet = self.mutate(packet);
                let may_be_signed = packet.len() >= 12 && packet[10..12] != [0xff; 2];
                if may_be_signed { self.keys[0].sign(&packet).octets } else { packet }
            }
            _ => {
                let packet = self.valid();
                self.mutate(packet)
            }
        }
    }

    /// Every beginning of some packets of every kind.
    pub(super) fn beginnings(&mut self) -> Vec<Vec<u8>> {
        let whole: Vec<Vec<u8>> = (0..8).flat_map(|_| [self.query(), self.update(), self.odd()]).collect();
        let signed: Vec<Vec<u8>> = (0..4).map(|_| self.signed()).collect();
        let beginnings = |packet: &Vec<u8>| (0..=packet.len()).map(|end| packet[..end].to_vec()).collect::<Vec<_>>();
        whole.iter().chain(&signed).flat_map(beginnings).collect()
    }

    /// Octets without any form.
    pub(super) fn octets(&mut self, most: usize) -> Vec<u8> {
        let length = self.random.usize(..=most);
        (0..length).map(|_| self.octet()).collect()
    }

    fn octet(&mut self) -> u8 {
        if self.random.bool() { self.one_of(&TELLING) } else { self.random.u8(..) }
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())]
    }

    fn valid(&mut self) -> Vec<u8> {
        match self.random.u8(..3) {
            0 => self.query(),
            1 => self.update(),
            _ => self.signed(),
        }
    }

    fn name(&mut self) -> Vec<u8> {
        let mut octets = name(self.one_of(&NAMES));
        if self.random.u8(..4) == 0 {
            octets.iter_mut().filter(|octet| octet.is_ascii_alphabetic()).for_each(|octet| {
                if self.random.bool() {
                    octet.make_ascii_uppercase();
                }
            });
        }
        octets
    }

    /// An owner or target behind a question: whole, or compressed.
    fn later_name(&mut self) -> Vec<u8> {
        match self.random.u8(..4) {
            0 => vec![0xc0, 12],
            1 => vec![3, b'i', b'-', b'7', 0xc0, 12],
            _ => self.name(),
        }
    }

    fn rtype(&mut self) -> u16 {
        match self.random.u8(..32) {
            0 => self.random.u16(..),
            1 => self.one_of(&META),
            _ => self.one_of(&TYPES),
        }
    }

    fn class(&mut self) -> u16 {
        if self.random.u8(..32) == 0 { self.random.u16(..) } else { self.one_of(&CLASSES) }
    }

    fn rdata(&mut self, rtype: u16) -> Vec<u8> {
        let numbers = self.random.u128(..).to_be_bytes();
        match rtype {
            A => numbers[..4].to_vec(),
            AAAA => numbers.to_vec(),
            SRV => [&numbers[..6], &self.later_name()].concat(),
            15 => [&numbers[..2], &self.later_name()].concat(),
            NS | CNAME | PTR | 39 => self.later_name(),
            SOA => [self.later_name(), self.name(), numbers.to_vec(), numbers[..4].to_vec()].concat(),
            TXT => txt(&["az=a", "", "rack=7"]),
            _ => self.octets(40),
        }
    }

    /// A prerequisite or a change, most often of a form that is right.
    fn record(&mut self) -> Vec<u8> {
        let (rtype, owner) = (self.rtype(), self.later_name());
        let rdata = self.rdata(rtype);
        let ttl = self.one_of(&[0, 0, 5, u32::MAX]);
        let (class, ttl, rdata) = match self.random.u8(..8) {
            0..3 => (IN, ttl, &rdata[..]),
            3 | 4 => (CLASS_ANY, 0, &[][..]),
            5 | 6 => (CLASS_NONE, 0, &rdata[..]),
            _ => (self.class(), ttl, &rdata[..]),
        };
        [&owner[..], &record(".", rtype, class, ttl, rdata)[1..]].concat()
    }

    /// An OPT record, most often a right one.
    fn edns(&mut self) -> Vec<u8> {
        let mut options = Vec::new();
        for _ in 0..self.random.u8(..3) {
            let code = self.one_of(&[2, 3, 8, 10, 11, 12, 15, 65_001]);
            let data = match code {
                2 => [0, 0, 0, self.one_of(&[0, 1, 60])].repeat(self.one_of(&[1, 1, 1, 2, 2, 3])),
                3 | 11 => Vec::new(),
                _ => self.octets(20),
            };
            options.extend(option(code, &data));
        }
        let size = self.one_of(&[0, 511, 512, 600, 1232, 1232, 4096, u16::MAX]);
        let version = if self.random.u8(..16) == 0 { self.random.u8(..) } else { 0 };
        opt(size, version, &options)
    }

    /// Flags of a request: an opcode, and any of AA, TC, RD, RA, Z, AD and CD.
    fn flags(&mut self, opcode: u16) -> u16 {
        let bits = if self.random.u8(..3) == 0 { self.random.u16(..) & 0x07ff } else { 0 };
        opcode << 11 | bits
    }

    fn query(&mut self) -> Vec<u8> {
        let edns = if self.random.bool() { vec![self.edns()] } else { Vec::new() };
        let flags = self.flags(0);
        self.message(flags, &[], &[], &edns)
    }

    /// A message with one question and these sections.
    fn message(&mut self, flags: u16, second: &[Vec<u8>], third: &[Vec<u8>], additional: &[Vec<u8>]) -> Vec<u8> {
        let count = |records: &[Vec<u8>]| u16::try_from(records.len()).unwrap();
        let counts = [1, count(second), count(third), count(additional)];
        let (qname, qtype, class) = match flags >> 11 {
            // The zone section of an update.
            5 if self.random.u8(..16) != 0 => (name(ZONE), SOA, IN),
            _ => (self.name(), self.rtype(), self.class()),
        };
        let question = [&qname[..], &qtype.to_be_bytes(), &class.to_be_bytes()].concat();
        [header(next_id(), flags, counts), question, second.concat(), third.concat(), additional.concat()].concat()
    }

    fn update(&mut self) -> Vec<u8> {
        let id = format!("i-{}", self.random.u8(..40));
        let service = if self.random.u8(..4) == 0 { MEMCACHED } else { OTHER };
        match self.random.u8(..6) {
            0 => Update::member(service, &id, "192.0.2.7").lease(self.one_of(&[0, 1, 60])).encode(),
            1 => {
                let update =
                    Update::new().require(service, SRV, CLASS_ANY, &[]).and_member(service, &id, "2001:db8::7");
                update.add(&format!("{id}.{service}"), TXT, 5, &txt(&["az=b"])).lease(60).encode()
            }
            2 => Update::new().delete_rrset(service, SRV).without_edns().encode(),
            3 => Update::new().delete_name(self.one_of(&[MEMCACHED, OTHER, ZONE, NAMES[7], NAMES[9]])).encode(),
            _ => {
                let prerequisites: Vec<_> = (0..self.random.u8(..3)).map(|_| self.record()).collect();
                let changes: Vec<_> = (0..self.random.u8(..4)).map(|_| self.record()).collect();
                let edns = if self.random.bool() { vec![self.edns()] } else { Vec::new() };
                let flags = self.flags(5);
                self.message(flags, &prerequisites, &changes, &edns)
            }
        }
    }

    fn signed(&mut self) -> Vec<u8> {
        let packet = if self.random.u8(..3) == 0 { self.query() } else { self.update() };
        let key = if self.random.bool() { 0 } else { self.random.usize(..self.keys.len()) };
        let time = unix_time() - if self.random.u8(..8) == 0 { 4000 } else { 0 };
        self.keys[key].sign_at(&packet, time).octets
    }

    /// A packet that breaks a rule.
    fn odd(&mut self) -> Vec<u8> {
        let plain = [header(next_id(), 0, [1, 0, 0, 0]), question(ZONE, SOA, IN)].concat();
        let with = |counts: [u16; 4], tail: &[u8]| [&header(next_id(), 0, counts)[..], &plain[12..], tail].concat();
        let name_at_12 = |octets: &[u8]| [&header(next_id(), 0, [1, 0, 0, 0])[..], octets, &[0, 1, 0, 1]].concat();
        match self.random.u8(..22) {
            // NOTIFY with the SOA that changed, STATUS, and opcodes that nobody has.
            0 => {
                let soa = record(ZONE, SOA, IN, 5, &self.rdata(SOA));
                let flags = self.flags(4);
                self.message(flags, &[soa], &[], &[])
            }
            1 => {
                let opcode = self.one_of(&[1, 2, 3, 6, 7, 9, 15]);
                let (flags, edns) = (self.flags(opcode), self.edns());
                self.message(flags, &[], &[], &[edns])
            }
            2 => with([0, 0, 0, 0], &[]),
            3 => with([2, 0, 0, 0], &plain[12..]),
            // Counts that lie.
            4 => {
                let mut packet = self.valid();
                let at = 4 + 2 * self.random.usize(..4);
                packet[at + 1] = self.octet();
                packet[at] = self.one_of(&[0, 0, 0, 1, 255]);
                packet
            }
            // Pointers: to itself, to each other, forwards, into the header, behind the end; in chains that lead nowhere.
            5 => name_at_12(&[0xc0, 12]),
            6 => name_at_12(&[1, b'a', 0xc0, 16, 0xc0, 14]),
            7 => name_at_12(&[0xc0, self.one_of(&[0, 2, 11, 40, 255])]),
            8 => {
                let chain: Vec<u8> = (0..100).flat_map(|link| [0xc0, 29 + 2 * link]).collect();
                with([1, 1, 0, 0], &[&chain[..], &[0, 1, 0, 1, 0, 0, 0, 0, 0, 0]].concat())
            }
            // Kinds of labels that were never used.
            9 => name_at_12(&[self.one_of(&[0x40, 0x41, 0x7f, 0x80, 0xbf]), 1, b'a', 0]),
            // Names that are too long, and one that never ends.
            10 => name_at_12(&[&[&[63][..], &[b'a'; 63]].concat().repeat(self.random.usize(3..9))[..], &[0]].concat()),
            11 => name_at_12(&[1, b'a'].repeat(self.random.usize(100..300))),
            // OPT twice, in other sections, and with a name.
            12 => with([1, 0, 0, 2], &[self.edns(), self.edns()].concat()),
            13 => with(self.one_of(&[[1, 1, 0, 0], [1, 0, 1, 0]]), &self.edns()),
            14 => with([1, 0, 0, 1], &record("x.", OPT, 1232, 0, &[])),
            15 => with([1, 0, 0, 1], &opt(1232, 0, &[0, self.octet(), 0, self.octet(), 1])),
            // TSIG not last, twice, with a wrong class and TTL, with a MAC cut short.
            16 => {
                let mut packet = [self.signed(), self.edns()].concat();
                packet[11] = packet[11].wrapping_add(1);
                packet
            }
            17 => {
                let packet = self.signed();
                self.keys[0].sign(&packet).octets
            }
            18 => with([1, 0, 0, 1], &record("agents.", TSIG, self.class(), self.random.u32(..2), &self.octets(60))),
            19 => {
                let length = self.one_of(&[0, 9, 16, 31]);
                let mac = u16::try_from(length).unwrap().to_be_bytes();
                let time = &unix_time().to_be_bytes()[2..];
                let rdata = [&name("hmac-sha256.")[..], time, &[1, 44], &mac, &vec![7; length], &[0; 6]].concat();
                with([1, 0, 0, 1], &record("agents.", TSIG, CLASS_ANY, 0, &rdata))
            }
            // Data that end behind the message, and octets behind the last record.
            20 => {
                let mut tail = self.record();
                let rtype = self.rtype();
                tail.extend(&record(".", rtype, IN, 0, &[0; 8])[..17]);
                with([1, 0, 0, 2], &tail)
            }
            _ => [self.valid(), self.octets(20)].concat(),
        }
    }

    /// Changes a packet in a few places: bits, octets, insertions, deletions, its end, or parts of another one.
    fn mutate(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        let other = self.valid();
        let most = self.one_of(&[1, 1, 1, 4]);
        for _ in 0..self.random.u8(1..=most) {
            let at = self.random.usize(..=packet.len());
            match self.random.u8(..12) {
                0 => packet.truncate(at),
                1 => packet.insert(at, self.octet()),
                2 => {
                    let end = (at + self.random.usize(..8)).min(packet.len());
                    packet.drain(at..end);
                }
                3 => {
                    let from = self.random.usize(..=other.len());
                    let to = self.random.usize(from..=other.len());
                    packet.splice(at..at, other[from..to].iter().copied());
                }
                4 => {
                    packet.truncate(at);
                    packet.extend_from_slice(&other[at.min(other.len())..]);
                }
                5..9 if at < packet.len() => packet[at] ^= 1 << self.random.u8(..8),
                _ if at < packet.len() => packet[at] = self.octet(),
                _ => {}
            }
        }
        packet
    }
}
