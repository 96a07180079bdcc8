//! Who may hold a connection: a total, and a share for each client.
//!
//! A client is an IPv4 address or an IPv6 network of [`CLIENT_PREFIX`] bits, since whoever has one address of that has
//! all. At its own limit a client's new connection is refused. At the total, a connection makes room on which nothing is
//! under way (RFC 7766 §6.2.3): the one that has been idle longest of the client that holds the most, never of one
//! that holds fewer than the newcomer's. So a flood from one client ends at its share, and one from many clients takes
//! from those many, and everybody else still gets a place. If there is no such connection, the new one is refused.
//!
//! Bounds: [`Limits::connections`] entries; looking for the one that makes room goes over all of them, once for a
//! connection that is accepted at the limit. Cost of a message: two relaxed stores.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The part of an IPv6 address that stands for a client: what one site or host is usually given.
pub const CLIENT_PREFIX: u32 = 64;
/// Descriptors that connections leave to everything else: the store, UDP, listeners, files that are read again.
pub const DESCRIPTORS_KEPT: usize = 128;

/// Limits of connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open connections, of all listeners.
    pub connections: usize,
    /// Of these, connections of one client.
    pub per_client: usize,
    /// How long a connection may be idle, a message may take to come in, and an answer to be taken.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 1024, per_client: 128, idle: Duration::from_secs(10) }
    }
}

/// Counts of connections that were not left to end by themselves, by reason.
#[derive(Debug, Default)]
pub struct Cuts {
    /// Idle for longer than [`Limits::idle`].
    pub idle: AtomicU64,
    /// A message didn't come in whole in that time.
    pub slow_writer: AtomicU64,
    /// Answers were not taken in that time.
    pub slow_reader: AtomicU64,
    /// Idle, and made room for a new one at the total limit.
    pub displaced: AtomicU64,
    /// Refused at the limit of its client.
    pub client_limit: AtomicU64,
    /// Refused at the total limit.
    pub total_limit: AtomicU64,
    /// A request was dropped, so that its client had waited for ever.
    pub dropped: AtomicU64,
    /// Times that the system had no room for a connection.
    pub accept: AtomicU64,
}

/// The places of a server.
#[derive(Debug)]
pub struct Places {
    /// The limits.
    pub limits: Limits,
    /// What was cut off.
    pub cuts: Cuts,
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    connections: HashMap<u64, Entry>,
    clients: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    client: IpAddr,
    state: Arc<State>,
}

/// What a connection shows of itself.
#[derive(Debug)]
struct State {
    /// Milliseconds since the start when it became idle; [`BUSY`] while something is under way.
    idle_since: AtomicU64,
    leave: Notify,
}

const BUSY: u64 = u64::MAX;

/// A connection's place. Dropping it frees it.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    state: Arc<State>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// So many places. Fewer, with a warning, where the process may not open so many descriptors.
    pub fn new(mut limits: Limits) -> Places {
        let descriptors = raise_descriptors();
        let most = descriptors.saturating_sub(DESCRIPTORS_KEPT).max(1);
        if limits.connections > most {
            tracing::warn!(
                configured = limits.connections,
                descriptors,
                "at most {most} TCP connections: raise the limit of open files (LimitNOFILE=, ulimit -n)"
            );
            limits.connections = most;
        }
        Places {
            limits,
            cuts: Cuts::default(),
            free: Arc::new(Semaphore::new(limits.connections)),
            taken: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// A place for a connection from this address; `None` if it is to be refused.
    pub async fn take(self: &Arc<Places>, address: IpAddr) -> Option<Place> {
        let client = client_of(address);
        if self.share_of(client) >= self.limits.per_client {
            self.cuts.client_limit.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%client, reason = "client limit", "connection refused");
            return None;
        }
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if !self.make_room(client) {
                    self.cuts.total_limit.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%client, reason = "total limit", "connection refused");
                    return None;
                }
                // The one that was told to go does so at its next turn: it waits for nothing.
                self.free.clone().acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        let state = Arc::new(State { idle_since: AtomicU64::new(self.now()), leave: Notify::new() });
        let mut taken = self.taken.lock().expect("no panic holds it");
        let share = taken.clients.entry(client).or_default();
        // Another listener may have taken the last of them meanwhile.
        if *share >= self.limits.per_client {
            drop(taken);
            self.cuts.client_limit.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *share += 1;
        let number = taken.next;
        taken.next += 1;
        taken.connections.insert(number, Entry { client, state: state.clone() });
        Some(Place { places: self.clone(), number, state, _permit: permit })
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.taken.lock().expect("no panic holds it").connections.len()
    }

    fn share_of(&self, client: IpAddr) -> usize {
        self.taken.lock().expect("no panic holds it").clients.get(&client).copied().unwrap_or(0)
    }

    /// Tells one idle connection to go; false if there is none that may be told.
    fn make_room(&self, newcomer: IpAddr) -> bool {
        let mut taken = self.taken.lock().expect("no panic holds it");
        let share =
            |client: &IpAddr| taken.clients.get(client).copied().unwrap_or(0) + usize::from(*client == newcomer);
        let least = share(&newcomer);
        let mut chosen: Option<(usize, u64, u64)> = None;
        for (&number, entry) in &taken.connections {
            let since = entry.state.idle_since.load(Ordering::Relaxed);
            let share = share(&entry.client);
            if since == BUSY || share < least {
                continue;
            }
            // Most connections first, then longest idle, then oldest.
            let better = |(other, before, earlier): (usize, u64, u64)| {
                (other, std::cmp::Reverse((before, earlier))) < (share, std::cmp::Reverse((since, number)))
            };
            if chosen.is_none_or(better) {
                chosen = Some((share, since, number));
            }
        }
        let Some((_, _, number)) = chosen else { return false };
        // It leaves the books here, so that it is not chosen twice.
        if let Some(entry) = taken.forget(number) {
            entry.state.leave.notify_one();
        }
        self.cuts.displaced.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("584 million years")
    }
}

impl Taken {
    fn forget(&mut self, number: u64) -> Option<Entry> {
        let entry = self.connections.remove(&number)?;
        if let Some(share) = self.clients.get_mut(&entry.client) {
            *share -= 1;
            if *share == 0 {
                self.clients.remove(&entry.client);
            }
        }
        Some(entry)
    }
}

impl Place {
    /// The places that it is one of.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Says whether something is under way: a connection makes room only while nothing is.
    pub fn set_busy(&self, busy: bool) {
        let since = if busy { BUSY } else { self.places.now() };
        self.state.idle_since.store(since, Ordering::Relaxed);
    }

    /// Ends when the connection is to make room.
    pub async fn leave(&self) {
        self.state.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().expect("no panic holds it").forget(self.number);
    }
}

/// What counts as one client.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() >> (128 - CLIENT_PREFIX) << (128 - CLIENT_PREFIX)).into()
        }
    }
}

/// Raises the limit of open files as far as the process may, and says what it is.
fn raise_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What can't be raised stays; how many there are is asked again.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, per_client: usize) -> Arc<Places> {
        Arc::new(Places::new(Limits { connections, per_client, ..Limits::default() }))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Whether a connection was told to leave.
    async fn told(place: &Place) -> bool {
        tokio::time::timeout(Duration::ZERO, place.leave()).await.is_ok()
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(client_of(address("192.0.2.1")), address("192.0.2.1"));
        assert_eq!(client_of(address("::ffff:192.0.2.1")), address("192.0.2.1"));
        assert_eq!(client_of(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
        assert_ne!(client_of(address("2001:db8:1:3::1")), address("2001:db8:1:2::"));
    }

    #[tokio::test]
    async fn a_client_beyond_its_share_is_refused_and_another_is_not() {
        let places = places(10, 2);
        let held = [places.take(address("2001:db8::1")).await, places.take(address("2001:db8::2")).await];
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(address("2001:db8::3")).await.is_none());
        assert_eq!(places.cuts.client_limit.load(Ordering::Relaxed), 1);
        assert!(places.take(address("192.0.2.1")).await.is_some());
        drop(held);
        assert!(places.take(address("2001:db8::3")).await.is_some());
        assert_eq!(places.taken(), 0);
    }

    /// Takes a place while this one, told to leave, does so.
    async fn take_from(places: &Arc<Places>, newcomer: &str, from: Place) -> Place {
        let (taken, ()) = tokio::join!(places.take(address(newcomer)), async {
            from.leave().await;
            drop(from);
        });
        taken.unwrap()
    }

    #[tokio::test]
    async fn at_the_total_the_longest_idle_one_of_the_heaviest_client_makes_room() {
        let places = places(4, 3);
        let light = places.take(address("192.0.2.1")).await.unwrap();
        let first = places.take(address("192.0.2.2")).await.unwrap();
        let second = places.take(address("192.0.2.2")).await.unwrap();
        let busy = places.take(address("192.0.2.2")).await.unwrap();
        busy.set_busy(true);
        let newcomer = take_from(&places, "192.0.2.3", first).await;
        assert_eq!(places.taken(), 4);
        let next = take_from(&places, "192.0.2.4", second).await;
        for place in [&light, &busy, &newcomer, &next] {
            assert!(!told(place).await);
        }
        assert_eq!(places.cuts.displaced.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_client_takes_no_place_from_one_that_holds_fewer() {
        let places = places(3, 3);
        let light = places.take(address("192.0.2.1")).await.unwrap();
        let held = [places.take(address("192.0.2.2")).await.unwrap(), places.take(address("192.0.2.2")).await.unwrap()];
        held.iter().for_each(|place| place.set_busy(true));
        assert!(places.take(address("192.0.2.2")).await.is_none());
        assert!(!told(&light).await);
        assert_eq!(places.cuts.total_limit.load(Ordering::Relaxed), 1);
        // Nor is a connection cut off on which something is under way.
        light.set_busy(true);
        assert!(places.take(address("192.0.2.3")).await.is_none());
        // A client that holds as many as any gets the place of its own longest idle one.
        held.iter().for_each(|place| place.set_busy(false));
        let [first, second] = held;
        let third = take_from(&places, "192.0.2.2", first).await;
        assert!(!told(&second).await && !told(&third).await);
    }
}
