//! livezone: an authoritative DNS server whose zones are alive.
//!
//! Members of services send heartbeats as DNS UPDATE messages. A membership table says who is there; the zone is
//! computed from it; the SOA serial moves by one exactly when what is published changes. This page is the architecture.
//! README.md is the page for users.
//!
//! # Flow
//!
//! ```text
//!            net::udp, net::tcp, net::hickory  bytes, and where they came from
//!                    |
//!            server::front                     rate of unsigned updates, the zone's queue; heartbeats that
//!                    |                         the publisher has noted are counted and answered here
//!            dns::quick, dns::respond          one synchronous function from bytes to bytes, and its short form
//!             |              |
//!           query          update  ---------> a queue, one per zone, bounded
//!             |                                 |
//!      answer::Answers                   server::publisher, driven by server::task
//!      of one snapshot                          |
//!      (pointer load,                     dns::update      on a copy; what is new, gone, renewed
//!       look up, copy)                          |
//!             ^                           membership::Table and zone::Contents, edited with undo
//!             |                                 |
//!             |                           zone::Zone::stage      touched names, delta, commit or none
//!             |                                 |
//!             |                           store::Store::append   one durable write, shared by all that wait
//!             |                                 |
//!             |                           zone::Zone::publish    the next snapshot
//!             |                                 |
//!             +---- pointer swap ------- answer::Answers::advance, touched names only
//!                                               |
//!                                         replies to the registrars; server::notifier tells secondaries
//! ```
//!
//! # Modules, in the order in which data flows
//!
//! A module uses only what stands above it.
//!
//! - [`base`]: names, types, serial and epoch, time, TTL and lease, and every named limit of the core.
//! - [`membership`]: who is alive, until when, and who may say so.
//! - [`zone`]: what the world should see of that: contents, delta, commit, snapshot, history; record types; the master
//!   file.
//! - [`answer`]: the octets of every answer, compiled when they are first asked for.
//! - [`dns`]: messages: reader, EDNS, cookies, TSIG, replies and their rate, updates, zone transfers, NOTIFY, the question
//!   for a serial.
//! - [`store`]: durable truth.
//! - [`net`]: sockets: UDP threads, TCP connections, hickory-server's transports (TLS) behind one request handler; and
//!   asking and telling other servers.
//! - [`api`]: HTTP: zones, members, history and metrics, read through a trait of its own; problem documents.
//! - [`config`]: TOML as written to checked configuration.
//! - [`server`]: assembly: front, publishers, followers of copies, notifiers, start and stop.
//! - [`agent`]: what runs beside a service and keeps it registered, by UPDATE or over HTTP.
//! - [`cli`]: one file per subcommand.
//!
//! # Decisions
//!
//! **A pure core.** `base`, `membership`, `zone`, `answer` and `dns` open no socket and no file and read no clock:
//! `now` is an argument, deadlines are results. So their tests hand in times and never sleep. [`server::publisher`]
//! keeps that up: requests go in, a write for the store and replies come out; [`server::task`] adds queue, timers and
//! store.
//!
//! **Two clocks.** Leases run on the monotonic clock. What is compared with something outside of the process, a
//! signature's time or a stored deadline, is wall clock.
//!
//! **Time that nobody could use doesn't count** ([`membership::stall`]). Whoever drives a table looks at the clock all the
//! time; where it did not, the process stood still, and leases that ran go on for as long and one usual interval more. So
//! do suspensions, which the monotonic clock counts here, and the time from reading the store to the first message that can
//! come in. A change of the wall clock moves no lease.
//!
//! **Heartbeats move cells.** What a heartbeat changes (deadline, intervals, last signature) is a fixed-size cell per
//! lease, written as one whole without a lock ([`membership::cell`]); everything else belongs to one writer. Expiry
//! claims the cell by compare-and-swap, so that a heartbeat is either counted before or handed to the publisher. Timers are
//! data in a heap: one that fires reads the cell and re-arms, so that a lease costs O(log n) when it ends and nothing is
//! ever scanned.
//!
//! **Heartbeats in place.** A heartbeat is the update that registered its member, sent again. When the publisher has carried
//! out a message that did nothing but renew one member's lease, it notes a digest of it ([`membership::renewals`]); from then
//! on whoever receives the same message verifies it, moves the cell and answers ([`dns::update::renewal`]), with the octets
//! that the publisher would have sent. What could change the outcome of a noted message voids the note, and the publisher
//! notes it again at its next renewal: an edit of the member or of what shares a name with it, a new configuration, a write
//! that the store refused. So nothing is counted in place that the publisher has not counted before in this run, and who has
//! renewed since the start is noted as ever.
//!
//! **Policies are part of the table** ([`membership::policy`], [`membership::table`]). What keeps a fault from emptying the zone (grace,
//! hold, floor) and what keeps its list steady (damping, slots, slow start) is decided where edits and time meet the members,
//! by settings that are handed in; penalties and slots are edited with undo like members. What was decided is in the member and in the change
//! of what is published, so that a restart and another server find it so. A publisher carries decisions out as it does
//! withdrawals: one transaction, one commit.
//!
//! **One way in for whole members** ([`zone::registration`]). An update and an order of the HTTP API come to the same outcome, which
//! is held against the same limits and applied by the same publisher, in the same batches. Orders are many in a
//! submission and report one by one; those that only renew are done at once.
//!
//! **When it is safe to stop a drained member** is told from what secondaries serve, not from what they acknowledged
//! (`server::drains`): their SOA records are asked for while somebody waits.
//!
//! **Transactions with undo.** The table and the contents are edited in place, since later messages of a batch and
//! their prerequisites must see what earlier ones did; each edit notes how to take it back. A write that the store
//! refuses leaves both as they were, and the requests get SERVFAIL.
//!
//! **Stage, append, publish.** A batch is staged (does anything published differ? then epoch + 1 and a delta), appended
//! to the store, and only then published and acknowledged. One write of a zone is under way at a time; requests that
//! come meanwhile make the next batch, except that those which only renew are answered at once. That batch is with the store
//! before the answers of the commit just written are compiled and shown, and its requests replied to: so the store works
//! meanwhile, and whoever is told of a commit still finds it. A commit carries all
//! that policy decided, with causes; applying it reads no table, clock or configuration. What is published is a pure
//! function of the contents, so that equal state is equal octets and only touched names are built again.
//!
//! **The epoch** is 64 bits, counts commits, and is stored with them. The serial is its low 32 bits, and [`base::Serial`]
//! has no total order (RFC 1982). A zone that the store doesn't know starts at the Unix time, or beyond the serials that
//! its secondaries and name servers answer ([`base::Epoch::first`], [`net::ask`]), since a lost data folder takes the
//! epoch with it and leaves their copies.
//!
//! **Precompiled answers and one encoder.** Whoever puts a record into a message does it with [`answer::encode`].
//! Answers with names in their data are compiled behind a question at offset 12, with a cut point after each additional
//! RRset: a smaller answer is a shorter copy. That is done when they are first asked for, and by the commits that touch what
//! is asked for; so a commit pays nothing, and the memory holds nothing, for what nobody looks up. A query costs a pointer load, a hash, a copy and the echo of its own
//! question. An RRset goes out whole or not at all with TC; room for OPT and TSIG is kept before anything is written.
//!
//! **Two ways, one answer.** A UDP thread takes a batch of datagrams with one system call and answers plain queries itself
//! ([`dns::quick`]), without a lock or another call, and without allocation unless aliases, wildcards, delegations or a template
//! that nobody asked for before are in the way; everything else goes over a bounded queue to the thread beside
//! it, and there through [`dns::respond`]. The short way is for one kind of message and looks up by the same function, so it
//! gives the same octets, and tests compare them wherever a message is answered. The names of a batch are looked up together
//! ([`answer::Answers::touch`]), since in a large zone a look-up is mostly waiting for memory.
//!
//! **NOTIFY says that something changed, never what.** A publisher leaves the newest SOA record in a `watch`, and the zone's
//! notifier sends what is newest when it can send ([`server::notifier`]); so commits never wait for a secondary, and how many
//! there were does not show. Its schedule is as pure as the publisher: commits, answers and times go in, requests come out.
//!
//! **A copy is a zone of static records** ([`zone::copy`], [`server::follower`]). What a transfer brings becomes changes of
//! static records and of settings, so that contents, snapshot, delta, history, answers and store are those of any zone, and
//! copies can be copied on. Differences are applied strictly: where they don't fit, the whole zone is asked for. Its epoch is
//! the next one with the primary's serial, so that it counts on over every circle, and when the zone becomes our own. A copy
//! is visible before it is kept, unlike a commit of our own: nobody was promised anything, an older zone is the worse
//! answer, and what a crash loses is fetched again. When a primary was last known to have it so is kept beside it, since a
//! copy is good for its expire time from then, restarts included. When to ask is as pure as the notifier's schedule; one
//! round is under way at a time, and what takes seconds for a large zone is done aside of the tasks of its thread.
//!
//! **Updates for a copy pass through** ([`server::forward`]) octet for octet both ways, so that signatures hold from end to
//! end and the secondary needs no key. Only answers over TLS are encoded anew, once the primary's signature was verified, and
//! signed with the key, which has to be known here. Nothing in such a message can say that it was here before, so its octets
//! are remembered, and circles end.
//!
//! **Persistent maps.** Names to nodes and names to answers are trees over the hash of the name ([`zone::map`]): a commit
//! copies the touched pages and the branches above them, and readers keep the version that they loaded.
//!
//! **A transfer is a value** ([`dns::transfer::outgoing`]): a snapshot or a difference, the place in it, and what signs the
//! next message. A connection asks for that message when its client has taken the one before, so that a slow secondary
//! holds a version of the zone and one message, and holds up nobody. IXFR goes by the last commits, which are kept in
//! memory with the SOA records around them ([`zone::history`]) and condensed to what differs in the end; a start takes them
//! from the store.
//!
//! **Own TSIG and own message reader.** hickory-proto is a dependency of the demo, the examples and the tests alone.
//! Its TSIG compares algorithm names by case, answers BADTIME without the server's time, and signs a message that was
//! encoded again; ours covers the octets as they are sent ([`dns::tsig`]). The reader walks a message once and copies
//! nothing until asked ([`dns::wire`]), since an update must be held against RFC 2136 record by record, and a query
//! needs its first name only. In the tests, hickory is the independent reader and signer.
//!
//! **The store is one redb file** with one writing thread ([`store::embedded`]): whatever waits, of all zones, shares a
//! transaction and its fsync. Every record has a format version, and an unknown one is an error, never skipped. The file
//! without its thread is a value, on a file system or on a disk in memory that fails as tests want it to.
//!
//! **A disk that refuses** stops what it would have to keep, and nothing else: registrations get SERVFAIL, lapses wait,
//! renewals and answers go on. A write of unknown fate is settled by what the disk has, not by what the page cache shows,
//! before the next one; whoever waits longer than [`base::limits::STORE_PATIENCE`] for a write is told.
//!
//! **The restart rule** ([`store::start`]). While the process was down nobody could renew, so a start gives a fresh
//! lease; but only to those who renewed since the start before, or a crash loop would keep the dead. Who renewed is
//! noted outside of commits, within some 20 ms of the first renewal in a run; a start is, once messages can come in.
//!
//! **Bounds.** Queues, batches, caches and messages have a named limit with its reason ([`base::limits`], or beside the
//! code that checks it) and a defined behaviour there: refuse, hold back, or drop. What is refused, dropped or forgotten
//! early is counted by limit ([`base::Limit`], [`server::counters`]) and told in the log, few lines a minute. An RRset is
//! answered whole or not at all, so what would make one that doesn't fit is refused where it comes in, a registration or a
//! reload: [`zone::room`] bounds each set from above by its sources, so that no lapse makes one too large. What an owner
//! holds is counted with each edit of the table ([`membership::holdings`]).
//!
//! **Forged sources** get little from UDP: replies to a network are within a rate, and beyond it no larger than their
//! queries ([`dns::rate`]), unless a cookie or a signature proves the address ([`dns::cookie`]). Both keep nothing of a client: a
//! cookie verifies itself, and networks share a fixed table of words without a lock, which reloads leave as it is.
//!
//! **HTTP reads what is there** ([`api`]). Lists and master files come from the served snapshot, which costs its publisher
//! nothing; members come from the publisher's task, which takes one question after each batch of updates; the last commits
//! come from memory, and older ones from the store in steps of a megabyte. What is stored of a commit says who registered a
//! member; that this was a return after a lapse is derived from the commits before, once, and kept in memory
//! ([`zone::lapses`]). Large responses are made while they are taken, and so many at a time.
//! Who may ask for what is said by tokens of which the server has digests alone ([`api::access`]). A service that is watched has
//! one task, which is told of commits that touch its TXT record, asks the publisher once for each and hands all watchers the same
//! octets ([`api::watches`]): so they cost by what changes, and not by how many they are.
//!
//! **The agent is a client like any other** ([`agent`]): its updates are what nsupdate could send, and it knows of the server
//! what the answers say. What it decides is as pure as the publisher ([`agent::machine`]): results of checks, answers,
//! addresses, signals and times go in, orders and a deadline come out. A renewal has the same octets each time, so that it is
//! counted in place. What a service has in memory is thrown away before it joins only once a server has answered, and not where
//! it is still published: an outage of the servers must not empty every cache.

//! **Metrics are read where they stand** (`server::metrics`). Whoever counts adds to atomics of its own thread
//! ([`base::meters`], [`dns::tally`], [`server::figures`]), once for a batch of datagrams; a zone's writer leaves its numbers
//! beside the zone's answers ([`zone::figures`]), and the table counts members by state with each edit
//! ([`membership::census`]). A scrape adds up and asks nobody, so that it holds up nobody.
//!
//! **One simulated machine** (`server::simulation`, in tests). Publisher, task, front and store run as they are, in one
//! thread, on a clock, a disk and a network that a seed decides about; the process is killed at any step of a write, and
//! what must hold is checked from outside. Scripts (`tests/scripts`) play there too.
//!
//! # Sources
//!
//! RFC 1034 and 1035 (DNS, master files), 1982 (serials), 1995 (IXFR), 1996 (NOTIFY), 2136 (UPDATE), 2181 (RRsets), 2308
//! (negative answers), 2782 (SRV), 3225 (DO), 3597 (unknown types), 5936 (AXFR), 5952 (text of IPv6), 6672 (DNAME), 6763
//! (DNS-SD), 6891 (EDNS), 7314 (EXPIRE), 7766 (TCP), 7873 and 9018 (cookies), 8482 (ANY), 8552 (underscored names), 8914 (Extended DNS Errors), 8945
//! (TSIG), 9664
//! (Update Lease); 4027 (text/dns), 9110 (HTTP), 9457 (problem documents).

// In the order of the flow; the blank lines keep rustfmt from sorting them.

pub mod base;

pub mod membership;

pub mod zone;

pub mod answer;

pub mod dns;

pub mod store;

pub mod net;

pub mod api;

pub mod config;

pub mod server;

pub mod agent;

pub mod cli;
