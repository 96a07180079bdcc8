//! What updates do to queries that come in at half of the rate that a server answers at most.
//!
//! Half of the rate is more than half of the work: a full window comes in batches, and these queries one by one. All threads
//! of a server share its core, so that what updates take of it shows in the latencies of queries. Where the core is full
//! (server % near 100), latencies are those of a queue, and differ much from round to round.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::alone;
use crate::cases::{Case, Kind, Target};
use crate::load::message::{SOA, serial};
use crate::load::questions::Questions;
use crate::load::{self, Outcome, Plan, udp};
use crate::machine::{self, Observation};
use crate::servers::{Program, Server};
use crate::table::{self, at_work, each, grouped, middle, share};
use crate::zones::ZONE;

use super::{Comparison, WARM_UP, settle};

/// What comes in: a quarter of a second of it may wait for its commit.
const UPDATES: Kind = Kind::Registrations(256);
/// Registrations and removals a second.
const RATE: f64 = 1000.0;
/// How long the maximum is looked for.
const MAXIMUM: Duration = Duration::from_secs(1);
/// Of the maximum.
const SHARE: f64 = 0.5;

/// Queries for a time.
struct Phase {
    outcome: Outcome,
    observation: Observation,
}

/// A round at a server.
struct Round {
    program: Program,
    maximum: Phase,
    quiet: Phase,
    beside: Phase,
    updates: Outcome,
    /// Commits a second.
    commits: f64,
}

impl Comparison {
    /// At livezone, and at others that were named.
    pub(super) fn measure_beside(&mut self, case: &Case, servers: &[Server]) -> Result<(), String> {
        let takes_part = |server: &&Server| self.named || server.program == Program::Livezone;
        let targets: Vec<&Server> = servers.iter().filter(takes_part).collect();
        if !self.named {
            println!("livezone alone: others take part if they are named.\n");
        }
        let mut rounds: Vec<Round> = Vec::new();
        for number in 0..self.rounds {
            for &server in &targets {
                let round = machine::quietest(Round::others, || self.round(case, server))?;
                self.record(&round.as_json(case, number))?;
                rounds.push(round);
            }
        }
        println!(
            "| server | phase | answers/s | lost % | p50, µs | p99, µs | UDP thread, µs each | updates/s | commits/s | \
             server % | generator % | others % | remarks |\n| --- | --- |{} --- |",
            " ---: |".repeat(10)
        );
        for server in targets {
            print(server.program, &rounds.iter().filter(|round| round.program == server.program).collect::<Vec<_>>());
        }
        machine::tell_loud(&rounds, Round::others);
        Ok(())
    }

    /// The maximum, half of it, and half of it with updates beside.
    fn round(&mut self, case: &Case, server: &Server) -> Result<Round, String> {
        self.runs += 1;
        let size = self.size(case.zone);
        let target = |duration| Target { server: server.address, canned: false, duration };
        let full = |duration| case.kind.plan(&target(duration), self.settings);
        let queries = |plan: &Plan| {
            let run = || udp::run(plan, &mut case.kind.questions(size)).map_err(failed(server));
            self.observe(server, run).map(|(outcome, observation)| Phase { outcome, observation })
        };
        queries(&full(WARM_UP))?;
        let maximum = queries(&full(MAXIMUM))?;
        let half = Plan { rate: Some(SHARE * maximum.outcome.rate()), ..full(self.duration) };
        let quiet = queries(&half)?;
        let plan = Plan { rate: Some(RATE), ..UPDATES.plan(&target(self.duration), self.settings).of_updates() };
        let mut registrations = UPDATES.registrations(self.settings, self.runs);
        let (before, began) = (serial_of(server.address)?, Instant::now());
        let ((outcome, updates), observation) = self.observe(server, || {
            let queries = (&half, &mut case.kind.questions(size));
            udp::run_beside(queries, (&plan, &mut registrations)).map_err(failed(server))
        })?;
        // A serial may pass its highest number (RFC 1982 §3.1).
        let commits = serial_of(server.address)?.wrapping_sub(before);
        let commits = f64::from(commits) / began.elapsed().as_secs_f64();
        UPDATES.remove(server.address, self.settings, self.runs, registrations.left().collect())?;
        settle(server);
        let beside = Phase { outcome, observation };
        Ok(Round { program: server.program, maximum, quiet, beside, updates, commits })
    }
}

fn failed(server: &Server) -> impl Fn(std::io::Error) -> String {
    let name = server.program.name();
    move |error| format!("{name}: {error}")
}

fn serial_of(server: SocketAddr) -> Result<u32, String> {
    let answer = load::ask(server, &mut Questions::new(vec![(ZONE.to_owned(), SOA)], 0));
    let answer = answer.map_err(|error| format!("{server}: {error}"))?;
    serial(&answer).ok_or_else(|| format!("{server} answers no SOA"))
}

impl Phase {
    /// Microseconds an answer of the threads for UDP alone.
    fn udp_cost(&self) -> Option<f64> {
        self.observation.udp_cpu.map(|cpu| each(cpu, &self.outcome))
    }

    fn as_json(&self) -> serde_json::Value {
        let mut record = alone::as_json(&self.outcome);
        record["server_cpu"] = self.observation.server_cpu.as_secs_f64().into();
        record["udp_cpu_us"] = self.udp_cost().into();
        record["others_share"] = self.observation.others.into();
        record
    }
}

impl Round {
    fn others(&self) -> f64 {
        [&self.maximum, &self.quiet, &self.beside].map(|phase| phase.observation.others).into_iter().fold(0.0, f64::max)
    }

    fn as_json(&self, case: &Case, round: usize) -> serde_json::Value {
        serde_json::json!({
            "case": case.name,
            "server": self.program.name(),
            "round": round,
            "maximum": self.maximum.as_json(),
            "quiet": self.quiet.as_json(),
            "beside": self.beside.as_json(),
            "updates": alone::as_json(&self.updates),
            "commits": self.commits,
        })
    }
}

/// A row a phase, and one of ratios.
fn print(program: Program, rounds: &[&Round]) {
    print_phase(program, "maximum", rounds, |round| &round.maximum);
    print_phase(program, "quiet", rounds, |round| &round.quiet);
    print_phase(program, "beside", rounds, |round| &round.beside);
    let ratio = |at: f64| {
        let of = |round: &Round| [&round.beside, &round.quiet].map(|phase| phase.outcome.latencies.quantile(at));
        format!("× {:.2}", middle(rounds, |round| of(round)[0] / of(round)[1]))
    };
    let costs = |round: &Round| Some(round.beside.udp_cost()? / round.quiet.udp_cost()?);
    let cells = [ratio(0.5), ratio(0.99), told(program, rounds, costs)];
    println!("| {} | beside / quiet | | | {} | | | | | | |", program.name(), cells.join(" | "));
}

fn print_phase(program: Program, name: &str, rounds: &[&Round], phase: impl Fn(&Round) -> &Phase) {
    let sum = |value: fn(&Outcome) -> u64| rounds.iter().map(|round| value(&phase(round).outcome)).sum::<u64>() as f64;
    let lost = sum(|outcome| outcome.lost) / sum(|outcome| outcome.sent).max(1.0);
    let mut cells = vec![grouped(middle(rounds, |round| phase(round).outcome.rate())), format!("{:.2}", 100.0 * lost)];
    cells.extend([0.5, 0.99].map(|at| grouped(middle(rounds, |round| phase(round).outcome.latencies.quantile(at)))));
    cells.push(told(program, rounds, |round| phase(round).udp_cost()));
    let mut remarks = table::remarks(rounds, |round| &phase(round).outcome);
    if name == "beside" {
        cells.push(grouped(middle(rounds, |round| round.updates.rate())));
        cells.push(grouped(middle(rounds, |round| round.commits)));
        let of_updates = table::remarks(rounds, |round| &round.updates);
        remarks.extend(of_updates.iter().map(|remark| format!("updates: {remark}")));
    } else {
        cells.extend([String::new(), String::new()]);
    }
    let server = |phase: &Phase| share(phase.observation.server_cpu, &phase.observation);
    cells.push(format!("{:.0}", middle(rounds, |round| server(phase(round)))));
    let generator = |phase: &Phase| at_work(&phase.outcome, &phase.observation);
    cells.push(format!("{:.0}", middle(rounds, |round| generator(phase(round)))));
    cells.push(format!("{:.0}", 100.0 * middle(rounds, |round| phase(round).observation.others)));
    println!("| {} | {name} | {} | {} |", program.name(), cells.join(" | "), remarks.join(", "));
}

/// Of livezone alone: threads of others are called otherwise, and do other things.
fn told(program: Program, rounds: &[&Round], value: impl Fn(&Round) -> Option<f64>) -> String {
    if program != Program::Livezone {
        return String::new();
    }
    format!("{:.2}", middle(rounds, |round| value(round).unwrap_or(f64::NAN)))
}
