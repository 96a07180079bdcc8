//! Runs a machine for each service: its actions become tasks, what comes of them its events.
//!
//! A service's tasks are those that the machine allows, and one that follows the own address. They end with it.
//!
//! Bounds: [`EVENTS`] wait for a machine; whoever has another one waits.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::base::{Monotonic, NameError};
use crate::config::agent::{self as config, Access, Agent};
use crate::server::clock::{Clock, SystemClock};

use super::channel::{Channel, Failure};
use super::check::{self, Own};
use super::dns::Dns;
use super::health::{Health, Rhythm};
use super::http::Http;
use super::jitter::Jitter;
use super::machine::{Action, Event, Machine, Order, Plan, Reply};
use super::notify::Notify;
use super::registration::{Registration, names};

/// Events waiting for a machine: more than it has tasks.
const EVENTS: usize = 64;
/// How often the own address is looked at: an address that changed is published within a fraction of any lease. Nothing is
/// sent for it.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Why an agent doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Names of the member would be too long.
    #[error("{service}, id {id}: {cause}; choose a shorter id")]
    Names {
        /// The service.
        service: String,
        /// The id.
        id: String,
        /// Why.
        cause: NameError,
    },
    /// The system.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
}

/// What the tasks of a service share.
#[derive(Clone)]
struct Shared {
    channel: Arc<dyn Channel>,
    service: Arc<config::Service>,
    events: mpsc::Sender<Told>,
}

/// An event on its way to the machine.
enum Told {
    Event(Event),
    Addresses(Vec<IpAddr>),
    /// An order came to nothing.
    Failed {
        seat: usize,
        server: usize,
        order: Order,
        failure: Failure,
    },
}

/// Runs an agent until it was told to stop, by `stops` counting up, and has left. Returns whether that was clean: nobody
/// can be using its members any more.
pub async fn run(agent: Agent, stops: watch::Receiver<u32>, notify: Notify) -> Result<bool, Error> {
    let channel: Arc<dyn Channel> = match agent.access.clone() {
        Access::Dns { servers, key } => Arc::new(Dns::new(servers, key, agent.name_servers.clone())),
        Access::Http { urls, token, ca } => Arc::new(Http::new(urls, token, ca.as_deref())?),
    };
    let notify = Arc::new(Standing { notify, count: agent.services.len(), registered: std::sync::Mutex::default() });
    let mut services = JoinSet::new();
    for (number, service) in agent.services.iter().enumerate() {
        let member = registration(service)?;
        let plan = Plan {
            servers: channel.servers(),
            all_servers: agent.all_servers,
            lease: Duration::from_secs(service.lease.into()),
            initial_delay: agent.initial_delay,
            drain_timeout: agent.drain_timeout,
            joins: service.on_join.is_some(),
        };
        let driver = Driver::new(channel.clone(), service.clone(), member, plan, number, notify.clone())?;
        services.spawn(driver.run(stops.clone()));
    }
    let mut clean = true;
    while let Some(result) = services.join_next().await {
        clean &= result.unwrap_or_else(|error| {
            tracing::error!(%error, "a service's task ended");
            false
        });
    }
    Ok(clean)
}

/// How many services stand, for systemd.
struct Standing {
    notify: Notify,
    count: usize,
    /// Which services are registered, and whether any has been.
    registered: std::sync::Mutex<(Vec<usize>, bool)>,
}

impl Standing {
    fn tell(&self, number: usize, is_registered: bool) {
        let mut standing = self.registered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        standing.0.retain(|&other| other != number);
        if is_registered {
            standing.0.push(number);
        }
        let first = is_registered && !std::mem::replace(&mut standing.1, true);
        let ready = if first { "READY=1\n" } else { "" };
        let (some, all) = (standing.0.len(), self.count);
        self.notify.tell(&format!("{ready}STATUS={some} of {all} services registered"));
    }
}

fn registration(service: &config::Service) -> Result<Registration, Error> {
    let label = service.host_name.as_deref();
    let (host, instance) = names(&service.service, label, &service.id).map_err(|cause| Error::Names {
        service: service.service.to_string(),
        id: service.id.to_string(),
        cause,
    })?;
    Ok(Registration {
        zone: service.zone.clone(),
        service: service.service.clone(),
        id: service.id.clone(),
        host,
        instance,
        port: service.port,
        priority: service.priority,
        weight: service.weight,
        addresses: service.addresses.clone(),
        metadata: service.metadata.clone(),
        lease: service.lease,
    })
}

/// A machine with its tasks.
struct Driver {
    shared: Shared,
    received: mpsc::Receiver<Told>,
    machine: Machine,
    member: Arc<Registration>,
    clock: SystemClock,
    plan: Plan,
    /// Told last of each server, so that the log has each reason once.
    told: Vec<Option<Failure>>,
    number: usize,
    standing: Arc<Standing>,
    tasks: JoinSet<()>,
    /// When draining began, on the clock of timers.
    stopping: Option<Instant>,
    /// What was told last: whether it is registered, and why it is not published all the same.
    registered: bool,
    unpublished: Option<String>,
}

impl Driver {
    fn new(
        channel: Arc<dyn Channel>,
        service: config::Service,
        member: Registration,
        plan: Plan,
        number: usize,
        standing: Arc<Standing>,
    ) -> io::Result<Driver> {
        let clock = SystemClock::start();
        let now = clock.now().mono;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let rhythm = Rhythm { interval: service.interval, rise: service.rise, fall: service.fall };
        let health = Health::new(service.check.is_some().then_some(rhythm), now);
        let machine = Machine::new(plan.clone(), health, Jitter::new(u64::from_ne_bytes(seed)), now);
        let (events, received) = mpsc::channel(EVENTS);
        let told = vec![None; channel.servers()];
        let shared = Shared { channel, service: Arc::new(service), events };
        Ok(Driver {
            shared,
            received,
            machine,
            member: Arc::new(member),
            clock,
            plan,
            told,
            number,
            standing,
            tasks: JoinSet::new(),
            stopping: None,
            registered: false,
            unpublished: None,
        })
    }

    fn now(&self) -> Monotonic {
        self.clock.now().mono
    }

    async fn run(mut self, mut stops: watch::Receiver<u32>) -> bool {
        match self.member.addresses.is_empty() {
            true => drop(self.tasks.spawn(follow_address(self.shared.clone()))),
            false => self.machine.handle(Event::Addressed, self.clock.now().mono),
        }
        let mut stopped = 0;
        loop {
            while let Some(action) = self.machine.next_action() {
                if let Action::End { clean } = action {
                    self.tasks.shutdown().await;
                    return clean;
                }
                self.act(action);
            }
            self.tell_standing();
            let deadline = self.machine.deadline().map(|at| Instant::now() + at.since(self.now()));
            tokio::select! {
                biased;
                changed = stops.wait_for(|&count| count > stopped) => {
                    stopped += 1;
                    if changed.is_err() {
                        return false;
                    }
                    self.stop(stopped);
                }
                told = self.received.recv() => self.take(told),
                Some(_) = self.tasks.join_next() => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let now = self.now();
                    self.machine.advance(now);
                }
            }
        }
    }

    fn stop(&mut self, count: u32) {
        if count == 1 {
            self.stopping = Some(Instant::now());
            self.standing.notify.tell("STOPPING=1");
        }
        let now = self.now();
        self.machine.handle(Event::Stop, now);
    }

    fn take(&mut self, told: Option<Told>) {
        let Some(told) = told else { return };
        let event = match told {
            Told::Event(event) => {
                self.explain(&event);
                event
            }
            Told::Addresses(addresses) => {
                tracing::info!(service = %self.member.service, ?addresses, "the address by the route to the server");
                self.member = Arc::new(Registration { addresses, ..(*self.member).clone() });
                Event::Addressed
            }
            Told::Failed { seat, server, order, failure } => {
                let name = self.shared.channel.name(server);
                let reply = matches!(failure, Failure::Refused(_)).then_some(Reply::Refused);
                if self.told[server].as_ref() != Some(&failure) {
                    tracing::warn!(service = %self.member.service, server = name, "{}: {failure}", describe(order));
                    self.told[server] = Some(failure);
                }
                Event::Told { seat, reply }
            }
        };
        let now = self.now();
        self.machine.handle(event, now);
    }

    /// Tells whether the service is registered, when that has changed.
    fn tell_standing(&mut self) {
        let is = self.machine.is_registered();
        if std::mem::replace(&mut self.registered, is) == is {
            return;
        }
        self.standing.tell(self.number, is);
        if self.stopping.is_none() {
            let Registration { service, id, addresses, .. } = &*self.member;
            match is {
                true => tracing::info!(%service, %id, ?addresses, "registered"),
                false => tracing::warn!(%service, %id, "not registered any more"),
            }
        }
    }

    fn explain(&mut self, event: &Event) {
        if let Event::Told { reply: Some(reply), .. } = event {
            self.told.iter_mut().for_each(|told| *told = None);
            if let Reply::Granted { unpublished, .. } = reply
                && *unpublished != self.unpublished
            {
                if let Some(why) = unpublished {
                    let Registration { service, id, .. } = &*self.member;
                    tracing::warn!(%service, %id, "registered, and not published: {why}");
                }
                self.unpublished.clone_from(unpublished);
            }
        }
    }

    fn own(&self) -> Own {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Own { address: self.member.addresses.first().copied().unwrap_or(loopback), port: self.member.port }
    }

    fn act(&mut self, action: Action) {
        let (shared, own, member) = (self.shared.clone(), self.own(), self.member.clone());
        match action {
            Action::Check => drop(self.tasks.spawn(async move {
                let service = &shared.service;
                let Some(check) = &service.check else { return };
                let result = check::check(check, own, service.timeout).await;
                if let Err(error) = &result {
                    tracing::debug!(service = %service.service, error, "a check failed");
                }
                shared.tell(Event::Checked(result.is_ok())).await;
            })),
            Action::Join => drop(self.tasks.spawn(async move {
                let service = &shared.service;
                let Some(on_join) = &service.on_join else { return };
                let result = check::join(on_join, own, service.join_timeout).await;
                match &result {
                    Ok(()) => tracing::info!(service = %service.service, "what comes before joining is done"),
                    Err(error) => {
                        tracing::warn!(service = %service.service, error, "not joining before --on-join has succeeded");
                    }
                }
                shared.tell(Event::Joined(result.is_ok())).await;
            })),
            Action::Send { seat, server, order } => drop(self.tasks.spawn(async move {
                let told = match shared.channel.carry_out(server, order, &member).await {
                    Ok(reply) => Told::Event(Event::Told { seat, reply: Some(reply) }),
                    Err(failure) => Told::Failed { seat, server, order, failure },
                };
                let _ = shared.events.send(told).await;
            })),
            Action::WaitUntilSafe { servers } => {
                let start = self.stopping.unwrap_or_else(Instant::now);
                let deadline = start + self.plan.drain_timeout;
                tracing::info!(service = %member.service, "drained: waiting until it is safe to stop");
                drop(self.tasks.spawn(async move {
                    let result = shared.channel.wait_until_safe(&servers, &member, deadline).await;
                    if let Err(failure) = &result {
                        tracing::warn!(service = %member.service, "stopping before it is known to be safe: {failure}");
                    }
                    shared.tell(Event::Safe(result.is_ok())).await;
                }));
            }
            Action::Ready | Action::End { .. } => {}
        }
    }
}

impl Shared {
    async fn tell(&self, event: Event) {
        // Nobody listens once the machine has ended.
        let _ = self.events.send(Told::Event(event)).await;
    }
}

fn describe(order: Order) -> &'static str {
    match order {
        Order::Ask => "can't ask whether the member is published",
        Order::Register { .. } => "not registered",
        Order::Drain => "not drained",
        Order::Deregister => "not removed",
    }
}

/// Tells the own address, as the route to the first server that has one says, and each other one that it changes to.
async fn follow_address(shared: Shared) {
    let mut known = None;
    let mut complained = false;
    loop {
        let mut found = Err(io::Error::other("no server"));
        for server in 0..shared.channel.servers() {
            found = match shared.channel.place(server).await {
                Ok(place) => route_to(place),
                Err(error) => Err(error),
            };
            if found.is_ok() {
                break;
            }
        }
        match found {
            Ok(address) if known != Some(address) => {
                known = Some(address);
                if shared.events.send(Told::Addresses(vec![address])).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) if known.is_none() && !complained => {
                complained = true;
                tracing::warn!(%error, "no route to a server tells the own address: give one with --address");
            }
            // While there is no route, the address stays.
            Err(_) => {}
        }
        sleep_until(Instant::now() + ADDRESS_INTERVAL).await;
    }
}

/// The address that the system would talk to a server from. Nothing is sent.
fn route_to(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip().to_canonical())
}
