//! The runtime that a server runs on.

use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::net::priority::give_way;

/// How much nicer the threads of the runtime are than those that answer over UDP, which take microseconds while a client
/// waits. A commit takes a millisecond and may wait: the system lets a UDP thread that has something to do interrupt it, and
/// leaves it a quarter of a core that UDP wants all of.
const NICE: i32 = 5;

/// A runtime whose threads give way to those that answer over UDP, as long as these are started by whoever blocks on it.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().on_thread_start(|| give_way(NICE)).enable_all().build()
}
