//! What is measured.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::load::members::{Heartbeats, Members, Pass, Registrations};
use crate::load::message::{self, A, SRV};
use crate::load::questions::Questions;
use crate::load::tsig::Signer;
use crate::load::{self, Outcome, Plan, tcp, udp};
use crate::zones::{SECRET, Size, ZONE};

/// Which zone a case needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Zone {
    Small,
    /// The small one, with a livezone that limits its answers.
    Limited,
    Large,
    /// The small one, with servers that take updates.
    Updated,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// SRV of services, with this size offered.
    Srv(u16),
    /// The same with a valid cookie in each.
    Cookies,
    /// The same as a flood, of which what is dropped is soon given up.
    Flood { cookies: bool },
    /// A of members.
    A,
    /// SRV of names that nobody has, each another one.
    Nobody,
    /// SRV over TCP, on so many connections.
    Tcp(usize),
    /// Signed registrations and removals, so many in flight.
    Registrations(usize),
    /// Renewals.
    Heartbeats { signed: bool },
}

/// How a case is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    /// One load at a time.
    Alone,
    /// A flood that meets a limit.
    Limited,
    /// Queries while updates come in.
    Beside,
}

pub(crate) struct Case {
    /// As it is named in `cases=`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) zone: Zone,
    pub(crate) kind: Kind,
    pub(crate) method: Method,
}

const fn case(name: &'static str, zone: Zone, kind: Kind, title: &'static str) -> Case {
    Case { name, title, zone, kind, method: Method::Alone }
}

const LIMITED: Case = Case {
    name: "limited",
    title: "SRV beyond the rate of answers",
    zone: Zone::Limited,
    kind: Kind::Flood { cookies: false },
    method: Method::Limited,
};
const BESIDE: Case = Case {
    name: "beside",
    title: "SRV at half of the maximum, and 1,000 signed registrations and removals a second beside",
    zone: Zone::Updated,
    kind: Kind::Srv(1232),
    method: Method::Beside,
};

pub(crate) const CASES: [Case; 17] = [
    case("srv", Zone::Small, Kind::Srv(1232), "SRV"),
    case("cookies", Zone::Small, Kind::Cookies, "SRV with valid cookies"),
    case("a", Zone::Small, Kind::A, "A"),
    case("nxdomain", Zone::Small, Kind::Nobody, "NXDOMAIN, each for another name"),
    case("tcp", Zone::Small, Kind::Tcp(4), "SRV over 4 TCP connections, pipelined"),
    case("tcp-single", Zone::Small, Kind::Tcp(0), "SRV over TCP connections with one query in flight each"),
    LIMITED,
    case("srv-4096", Zone::Large, Kind::Srv(4096), "SRV, 4096 octets offered"),
    case("srv-1232", Zone::Large, Kind::Srv(1232), "SRV, 1232 octets offered"),
    case("a-large", Zone::Large, Kind::A, "A"),
    case("nxdomain-large", Zone::Large, Kind::Nobody, "NXDOMAIN, each for another name"),
    case("tcp-large", Zone::Large, Kind::Tcp(4), "SRV over 4 TCP connections, pipelined"),
    case("registrations", Zone::Updated, Kind::Registrations(256), "Signed registrations and removals, durable"),
    case("single", Zone::Updated, Kind::Registrations(1), "Signed registrations and removals, durable, one at a time"),
    case("heartbeats", Zone::Updated, Kind::Heartbeats { signed: true }, "Signed heartbeats"),
    case("heartbeats-unsigned", Zone::Updated, Kind::Heartbeats { signed: false }, "Unsigned heartbeats"),
    BESIDE,
];

/// Different queries at most: what the generator itself looks at should stay in its caches.
const QUESTIONS: u32 = 20_000;
/// Members that stand while others come and go.
const STANDING: u32 = 200;
/// The client's part of all cookies (RFC 7873 §4.1).
const CLIENT_COOKIE: [u8; 8] = *b"livezone";
/// How many windows a flood has in flight, since what is dropped holds its place until it is given up,
const FLOOD_WINDOWS: usize = 4;
/// after this time.
const FLOOD_PATIENCE: Duration = Duration::from_millis(10);
/// In this time a flood has had what a limit allows at once.
const FLOOD_USE_UP: Duration = Duration::from_millis(100);
/// Connections with one query in flight each.
const CONNECTIONS: usize = 32;

/// What all cases have in common.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) window: usize,
    /// Members that renew their leases.
    pub(crate) members: u32,
    pub(crate) verify: bool,
}

impl Kind {
    /// Whether the limit can be asked the same.
    pub(crate) fn has_limit(self) -> bool {
        !matches!(self, Kind::Tcp(_) | Kind::Registrations(_))
    }

    pub(crate) fn is_update(self) -> bool {
        matches!(self, Kind::Registrations(_) | Kind::Heartbeats { .. })
    }

    pub(crate) fn is_single(self) -> bool {
        self == Kind::Registrations(1)
    }

    /// A full window.
    pub(crate) fn plan(self, target: &Target, settings: Settings) -> Plan {
        let plan = Plan::new(target.server, target.duration);
        let patience = if let Kind::Flood { .. } = self { FLOOD_PATIENCE } else { plan.patience };
        let window = self.window(settings);
        Plan { window, sockets: plan.sockets.min(window), patience, ..plan }
    }

    /// So many are in flight.
    fn window(self, settings: Settings) -> usize {
        match self {
            Kind::Flood { .. } => FLOOD_WINDOWS * settings.window,
            Kind::Registrations(window) => window.min(settings.window),
            Kind::Tcp(0) => CONNECTIONS,
            _ => settings.window,
        }
    }

    /// What a server is asked: with the cookie that it gives, if there is to be one.
    fn questions_to(self, server: SocketAddr, size: Size) -> io::Result<Questions> {
        let questions = self.questions(size);
        if !matches!(self, Kind::Cookies | Kind::Flood { cookies: true }) {
            return Ok(questions);
        }
        let answer = load::ask(server, &mut self.questions(size).with_cookie(&CLIENT_COOKIE).any_answer())?;
        // A server that gives none ignores ours.
        Ok(questions.with_cookie(message::cookie(&answer).unwrap_or(&CLIENT_COOKIE)))
    }

    pub(crate) fn questions(self, size: Size) -> Questions {
        let members = size.members();
        match self {
            Kind::A => {
                let count = size.services * size.each;
                let step = count.div_ceil(QUESTIONS).max(1) as usize;
                let names = (0..count).step_by(step).map(|number| (format!("{}.{ZONE}", members.host(number)), A));
                Questions::new(names.collect(), 1232)
            }
            Kind::Nobody => Questions::of_nobody(ZONE, 1232),
            _ => {
                let offered = if let Kind::Srv(offered) = self { offered } else { 1232 };
                let names = (0..size.services).map(|service| (format!("{}.{ZONE}", members.service(service)), SRV));
                Questions::new(names.collect(), offered)
            }
        }
    }

    /// Whoever registers; another one each time, unless it is about who is there already.
    fn members(self, settings: Settings, run: u32) -> Members {
        let signer = (self != Kind::Heartbeats { signed: false }).then(|| Signer::new("bench", SECRET));
        let services = if let Kind::Heartbeats { .. } = self { (settings.members / 50).max(1) } else { 20 };
        let zone = ZONE.to_owned();
        Members { zone, label: "load", services, run, lease: Some(86_400), signer, verify: settings.verify }
    }

    /// What must be done before it is measured at a server.
    pub(crate) fn prepare(self, server: SocketAddr, settings: Settings) -> Result<(), String> {
        let Kind::Heartbeats { .. } = self else { return Ok(()) };
        let members = self.members(settings, 0);
        let plan = Plan { duration: None, ..Plan::new(server, Duration::ZERO).of_updates() };
        crate::alone::once(&plan, &mut Pass::registering(&members, 0..settings.members), "registered")
    }

    /// What a server answers to the first of these messages.
    pub(crate) fn ask(self, server: SocketAddr, size: Size, settings: Settings) -> io::Result<Vec<u8>> {
        match self {
            Kind::Heartbeats { .. } => load::ask(server, &mut Heartbeats::new(self.members(settings, 0), 1)),
            Kind::Registrations(_) => load::ask(server, &mut Registrations::new(self.members(settings, u32::MAX), 1)),
            _ => load::ask(server, &mut self.questions_to(server, size)?),
        }
    }

    /// Has of a limit what it allows at once, so that a flood finds what it allows a second.
    pub(crate) fn use_up(self, server: SocketAddr, size: Size, settings: Settings) -> Result<(), String> {
        if self != (Kind::Flood { cookies: false }) {
            return Ok(());
        }
        self.run(&Target { server, canned: false, duration: FLOOD_USE_UP }, size, settings, 0).map(drop)
    }

    /// Members that come and go, others at each run.
    pub(crate) fn registrations(self, settings: Settings, run: u32) -> Registrations {
        Registrations::new(self.members(settings, run), STANDING)
    }

    /// Loads a server. `run` is another number each time. Tells who was left there.
    pub(crate) fn run(
        self,
        target: &Target,
        size: Size,
        settings: Settings,
        run: u32,
    ) -> Result<(Outcome, Vec<u32>), String> {
        let plan = self.plan(target, settings);
        let mut left = Vec::new();
        let outcome = match self {
            Kind::Srv(_) | Kind::Cookies | Kind::Flood { .. } | Kind::A | Kind::Nobody => {
                self.questions_to(target.server, size).and_then(|questions| {
                    udp::run(&plan, &mut if target.canned { questions.any_answer() } else { questions })
                })
            }
            Kind::Tcp(connections) => {
                let sockets = if connections == 0 { CONNECTIONS } else { connections };
                tcp::run(&Plan { sockets, ..plan }, &mut self.questions(size))
            }
            Kind::Heartbeats { .. } => {
                let members = Members { verify: settings.verify && !target.canned, ..self.members(settings, 0) };
                udp::run(&plan.of_updates(), &mut Heartbeats::new(members, settings.members))
            }
            Kind::Registrations(_) => {
                let mut registrations = self.registrations(settings, run);
                let outcome = udp::run(&plan.of_updates(), &mut registrations);
                left.extend(registrations.left());
                outcome
            }
        };
        Ok((outcome.map_err(|error| format!("{}: {error}", target.server))?, left))
    }

    /// Removes who was left by a run, so that the next one finds the zone as it was.
    pub(crate) fn remove(self, server: SocketAddr, settings: Settings, run: u32, left: Vec<u32>) -> Result<(), String> {
        let members = self.members(settings, run);
        let plan = Plan { duration: None, ..Plan::new(server, Duration::ZERO).of_updates() };
        crate::alone::once(&plan, &mut Pass::removing(&members, left), "removed")
    }
}

/// Whom a load goes to, and for how long.
pub(crate) struct Target {
    pub(crate) server: SocketAddr,
    /// Whether it answers with canned octets.
    pub(crate) canned: bool,
    pub(crate) duration: Duration,
}
