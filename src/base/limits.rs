//! Every named limit of the core, with its reason. What happens at a limit stands at the place that checks it.

use std::time::Duration;

/// Longest name on the wire, root label included (RFC 1035 §2.3.4).
pub const NAME_OCTETS: usize = 255;
/// Longest label (RFC 1035 §2.3.4).
pub const LABEL_OCTETS: usize = 63;
/// Largest DNS message: the length field of TCP has 16 bits (RFC 1035 §4.2.2).
pub const MESSAGE_OCTETS: usize = 65_535;
/// Largest UDP answer to a query without EDNS (RFC 1035 §4.2.1).
pub const PLAIN_UDP_OCTETS: usize = 512;
/// The size that we advertise and the default for our largest UDP answer: avoids fragments on any path of today
/// (DNS flag day 2020).
pub const UDP_OCTETS: u16 = 1232;

/// Names of one chain of aliases that an answer follows; resolvers give up at about as many.
pub const CHAIN_LINKS: usize = 16;
/// Octets of such a chain: all names but the last lead on by a DNAME and the CNAME made of it, each a record with the
/// longest name as its data.
pub const CHAIN_OCTETS: usize = (CHAIN_LINKS - 1) * 2 * (RECORD_OCTETS + NAME_OCTETS);

/// What a record takes in an answer besides its data: a pointer to its owner, type, class, TTL and length.
pub const RECORD_OCTETS: usize = 12;
/// Octets of one RRset on the wire: it fits a message behind the longest question and the longest chain of aliases to it,
/// with [`SEAL_OCTETS`] kept free. Whatever would make a larger one is refused.
pub const RRSET_OCTETS: usize = 56_000;
/// OPT with cookie, keepalive and the longest NSID, and TSIG with the longest key name and MAC.
pub const SEAL_OCTETS: usize = 480;
const _: () = assert!(12 + NAME_OCTETS + 4 + CHAIN_OCTETS + RRSET_OCTETS + SEAL_OCTETS <= MESSAGE_OCTETS);
/// Of an address set, what is kept for addresses of members that chose its name as their target: 285 IPv6 addresses in
/// the tightest case, where a host has a few.
pub const TARGET_OCTETS: usize = 8_000;
/// Members that may have one name of the zone as their target, besides the one whose own host name it is: each on a port of
/// its own, and an address for the name is one for all of them.
pub const TARGET_MEMBERS: usize = 512;
/// Services that may have one host name (`_x._tcp` and `_x._udp` do): their members' addresses join there, and whoever
/// touches one looks at all.
pub const HOST_SERVICES: usize = 64;

/// Records in the prerequisite or update section of one message. A registration has three or four; a bulk load over
/// TCP a few thousand.
pub const UPDATE_RECORDS: usize = 4096;
/// Octets of TXT metadata of one member: what fits a UDP answer.
pub const METADATA_OCTETS: usize = 1024;
/// Character strings of these: each is kept by itself, and empty ones would take sixteen times their octets.
pub const METADATA_STRINGS: usize = 64;
/// Addresses of one member: more than any host has, few enough that one member can't fill an answer. In the middle of a
/// message there may be twice as many, since it may add before it deletes.
pub const MEMBER_ADDRESSES: usize = 16;
/// Members of one service, draining ones included: more than fit its SRV set (a record takes at least 21 octets, commonly
/// 50). Bounds what a look at all of them costs.
pub const SERVICE_MEMBERS: usize = 3000;

/// Expiry is looked at on this grid, so that members which lapse together leave in one commit; a lapse is published
/// at most this long (and one durable write) after the lease's end.
pub const EXPIRY_TICK: Duration = Duration::from_millis(50);
/// Gaps between heartbeats under this are retransmissions or noise, and don't count as an interval.
pub const SHORTEST_GAP: Duration = Duration::from_secs(1);
/// A service that the configuration doesn't name is forgotten this long after its last member left.
pub const FORGET_SERVICE_AFTER: Duration = Duration::from_secs(3600);

/// Zone transfers at once: each holds a version of a zone, and a message under way. More than a zone has secondaries; a
/// client that is refused tries again after the zone's retry time.
pub const TRANSFERS: usize = 64;
/// How long a transfer may take: a zone of a million members over a line of a megabit a second.
pub const TRANSFER_PATIENCE: Duration = Duration::from_secs(1800);

/// The largest TSIG fudge that is honoured, in seconds (RFC 8945 §10 recommends 300): bounds the replay window.
pub const TSIG_FUDGE: u16 = 300;
/// How long a removed member's replay mark is kept: twice the fudge, since a signature may lie that far ahead or back.
pub const TOMBSTONE: Duration = Duration::from_secs(2 * TSIG_FUDGE as u64);
/// Replay marks of removed members kept for a zone. At the limit the oldest goes first.
pub const TOMBSTONES: usize = 16_384;
/// Outcomes of recent updates kept for a zone, so that a retransmission gets the same answer. At the limit the oldest
/// goes first.
pub const RECENT_UPDATES: usize = 4096;
/// How long such an outcome is kept: nsupdate and resolver libraries retransmit within seconds.
pub const RECENT_UPDATE_AGE: Duration = Duration::from_secs(15);

/// Commits kept in the store for a zone, with their deltas: a secondary that is a few minutes behind can follow.
pub const HISTORY_COMMITS: u64 = 1024;
/// Octets of these commits: a mass lapse has a delta of its own size, and a thousand of those would fill a disk. The last
/// commit is kept whatever its size.
pub const HISTORY_OCTETS: u64 = 64 << 20;
/// Octets of the commits that are kept in memory too, for those who follow a zone by IXFR: a thousand usual ones take a
/// tenth of it. What is larger is as much as the whole zone, more often than not.
pub const HISTORY_MEMORY: usize = 16 << 20;
/// Lapses of a zone that are remembered, so that whoever registers again is told as one who returns: those of a hundred
/// thousand members at once, some 200 octets each. At the limit the oldest goes first.
pub const LAPSES: usize = 1 << 17;
/// Octets of commits, as stored, that are read from the store at a time: whoever reads the history in steps of this size
/// keeps writes waiting for some milliseconds at most, and little in memory. A larger commit is read by itself.
pub const HISTORY_PAGE_OCTETS: u64 = 1 << 20;
/// Records that one zone transfer may bring: eighty times the zone of a hundred thousand members. Each takes 32 octets
/// besides its data while it comes in. A message without any counts as one, so that every stream ends.
pub const TRANSFER_RECORDS: u32 = 16 << 20;
/// Octets of names and data that it may bring, 64 for each of these records; counted as they are kept, since a compressed
/// name unfolds to a hundred times what comes in.
pub const TRANSFER_OCTETS: u64 = 1 << 30;
/// Requests carried out in one go, each order of a batch counted, up to one submission more; the rest waits for the next
/// time. Bounds the latency of the first one in.
pub const BATCH_REQUESTS: usize = 4096;
/// Requests waiting for a zone's publisher. At the limit a UDP update is dropped and counted (its sender retransmits).
pub const PUBLISHER_QUEUE: usize = 8192;
/// The longest `settle`: acknowledgements wait that long, and registrars retransmit after some seconds.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// How long updates wait for a write under way before they are told that the store does not answer: registrars retransmit
/// after some seconds, and should hear why.
pub const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// Writes and questions that wait for the store. A zone has three under way at most, so that there is room for twenty
/// thousand zones; beyond that they are refused.
pub const STORE_QUEUE: usize = 65_536;
/// How many writes the store gathers into one transaction.
pub const STORE_BATCH: usize = 1024;
