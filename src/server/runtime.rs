//! The threads that a server runs on, beside those of UDP.

use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::net::priority::{Nicer, give_way};

/// How much nicer the threads of the runtime, which have the connections, are than those that answer over UDP: these take
/// microseconds while a client waits. The system leaves such a thread a quarter of a core that UDP wants all of, so that who
/// comes over TCP since UDP is flooded is served.
const NICE: i32 = 5;
/// The same of the threads that publish zones and write them. A commit takes a millisecond and may wait: with less of a core
/// each takes along what has come meanwhile, so that a thousand updates a second become a hundred commits, and cost a tenth.
/// What the system leaves them is a thirtieth of a core that UDP wants all of; that is some hundred updates a second.
const PUBLISHING_NICE: i32 = 15;

/// A runtime whose threads give way to those that answer over UDP, as long as these are started by whoever blocks on it.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().on_thread_start(|| give_way(NICE)).enable_all().build()
}

/// Threads for publishers and the store.
pub(super) fn publishing() -> io::Result<Nicer> {
    Nicer::start("zones", None, PUBLISHING_NICE)
}
