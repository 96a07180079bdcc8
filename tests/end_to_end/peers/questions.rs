//! Questions, generated: names that exist, that nearly do, and that don't, in any case; types, classes, flags and EDNS.

use std::fmt;

use crate::support::ZONE;
use crate::support::message::*;

/// One question, as it is sent.
pub(super) struct Question {
    pub(super) packet: Vec<u8>,
    /// Where the question section ends.
    pub(super) end: usize,
    pub(super) name: String,
    pub(super) qtype: u16,
    pub(super) class: u16,
    pub(super) opcode: u8,
    pub(super) flags: u16,
    /// Size and version.
    pub(super) edns: Option<(u16, u8)>,
    pub(super) over_tcp: bool,
}

impl Question {
    /// The largest reply.
    pub(super) fn limit(&self) -> usize {
        match (self.over_tcp, self.edns) {
            (true, _) => 65_535,
            (false, None) => 512,
            (false, Some((size, _))) => usize::from(size.clamp(512, 1232)),
        }
    }

    pub(super) fn is_in_zone(&self) -> bool {
        let name = self.name.to_lowercase();
        name == ZONE || name.ends_with(&format!(".{ZONE}"))
    }

    /// Whether it asks for what the server says of itself (RFC 4892), and is told.
    pub(super) fn is_identity(&self) -> bool {
        self.class == 3
            && matches!(self.qtype, TXT | ANY)
            && matches!(self.name.to_lowercase().as_str(), "id.server." | "hostname.bind." | "version.bind.")
    }

    pub(super) fn dnssec_ok(&self) -> bool {
        self.edns.is_some() && self.packet[self.end + 7] & 0x80 != 0
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { name, qtype, class, opcode, flags, edns, over_tcp, .. } = self;
        write!(f, "{name} type {qtype} class {class} opcode {opcode} flags {flags:04x} edns {edns:?} tcp {over_tcp}")
    }
}

const TYPES: [u16; 40] = [
    1, 1, 1, 2, 2, 5, 6, 12, 13, 15, 16, 16, 17, 18, 28, 28, 29, 33, 33, 33, 35, 39, 41, 43, 43, 44, 46, 47, 48, 52,
    64, 65, 253, 254, 255, 255, 256, 257, 65_280, 0,
];

pub(super) struct Questions {
    state: u64,
    /// Labels of the names that have records, the first one first.
    names: Vec<Vec<String>>,
}

impl Questions {
    pub(super) fn new(seed: u64, zone: &str) -> Questions {
        let owner = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let mut owners: Vec<String> = zone.lines().map(owner).filter(|name| !name.contains('\\')).collect();
        owners.dedup();
        let labels = |name: &String| name.split('.').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        Questions { state: seed, names: owners.iter().map(labels).collect() }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn name(&mut self) -> String {
        if self.one_in(40) {
            return self
                .pick(&[
                    ".",
                    "test.",
                    "example.test.",
                    "www.example.net.",
                    "xsvc.example.test.",
                    "version.bind.",
                    "id.server.",
                ])
                .to_owned();
        }
        let at = self.below(self.names.len());
        let mut labels = self.names[at].clone();
        match self.below(8) {
            0 => drop(labels.remove(0)),
            1 | 2 => labels.insert(0, self.pick(&["a", "b", "x", "*", "_tcp", "q9", "ns", "ent", "host"]).to_owned()),
            3 => {
                for _ in 0..1 + self.below(3) {
                    labels.insert(0, self.pick(&["a", "x", "*", "deep", "b"]).to_owned());
                }
            }
            4 if self.one_in(4) => {
                while labels.iter().map(|label| label.len() + 1).sum::<usize>() < 190 {
                    labels.insert(0, "x".repeat(60));
                }
            }
            _ => {}
        }
        let mut name: String = labels.iter().flat_map(|label| [label.as_str(), "."]).collect();
        if name.is_empty() {
            ".".clone_into(&mut name);
        }
        if self.one_in(4) {
            let mask = self.random();
            let upper = |(at, letter): (usize, char)| {
                if mask >> (at % 64) & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
            };
            name = name.chars().enumerate().map(upper).collect();
        }
        name
    }

    pub(super) fn next(&mut self) -> Question {
        let mut name = self.name();
        let mut qtype = self.pick(&TYPES);
        let mut class = if self.one_in(30) { self.pick(&[3u16, 4, 254, 255, 0, 77]) } else { IN };
        if self.one_in(200) {
            self.pick(&["version.bind.", "id.server.", "hostname.bind."]).clone_into(&mut name);
            (qtype, class) = (self.pick(&[TXT, TXT, ANY, A]), 3);
        }
        let opcode = if self.one_in(200) { self.pick(&[1u8, 2, 3, 7, 15]) } else { 0 };
        // RD, CD, AD, Z, TC, AA; RA.
        let mut flags = 0;
        for (bit, odds) in
            [(0x0100, 2), (0x0010, 6), (0x0020, 6), (0x0040, 20), (0x0200, 40), (0x0400, 20), (0x0080, 20)]
        {
            if self.one_in(odds) {
                flags |= bit;
            }
        }
        let edns = (!self.one_in(3)).then(|| {
            let version = if self.one_in(40) { self.pick(&[1u8, 7, 255]) } else { 0 };
            (self.pick(&[0u16, 511, 512, 513, 900, 1232, 1232, 4096, 65_535]), version)
        });
        let mut options = Vec::new();
        if self.one_in(8) {
            options.extend(option(65_001, b"unknown"));
        }
        if self.one_in(8) {
            options.extend(option(3, &[]));
        }
        let mut packet = header(next_id(), u16::from(opcode) << 11 | flags, [1, 0, 0, u16::from(edns.is_some())]);
        packet.extend(question(&name, qtype, class));
        let end = packet.len();
        if let Some((size, version)) = edns {
            let mut record = opt(size, version, &options);
            if self.one_in(3) {
                record[7] |= 0x80;
            }
            if self.one_in(20) {
                record[8] |= 1;
            }
            packet.extend(record);
        }
        Question { packet, end, name, qtype, class, opcode, flags, edns, over_tcp: self.one_in(10) }
    }
}
