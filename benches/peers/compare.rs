//! The comparison: cases one after the other, servers in turn within each round.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::cases::{CASES, Case, Settings, Target, Zone};
use crate::disk::fdatasync;
use crate::load::Outcome;
use crate::machine;
use crate::servers::{Program, Server, Setup};
use crate::support::keep_to;
use crate::table;
use crate::zones::{self, Size};

/// Runs in which others took a larger share of either core are repeated,
const OTHERS: f64 = 0.05;
/// so many times, and the quietest is kept.
const REPEATS: usize = 3;
/// Caches fill before it counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long a server may work through what it was flooded with, before the next run.
const SETTLE: Duration = Duration::from_secs(15);

/// One run of one case at one server.
pub(crate) struct Run {
    pub(crate) program: Program,
    pub(crate) round: usize,
    pub(crate) outcome: Outcome,
    pub(crate) wall: Duration,
    pub(crate) server_cpu: Duration,
    /// Share of either core that neither server nor generator took; the larger one.
    pub(crate) others: f64,
    pub(crate) rss_kib: u64,
}

struct Comparison {
    scratch: PathBuf,
    livezone: PathBuf,
    programs: Vec<Program>,
    server_core: usize,
    generator_core: usize,
    rounds: usize,
    duration: Duration,
    small: Size,
    large: Size,
    settings: Settings,
    json: Option<String>,
    /// Runs so far: each has members of its own.
    runs: u32,
}

/// The whole, by default.
pub(crate) fn run(mut arguments: Arguments) -> Result<(), String> {
    let wanted = arguments.list("cases");
    let cases: Vec<&Case> = match &wanted {
        None => CASES.iter().collect(),
        Some(names) => names
            .iter()
            .map(|name| CASES.iter().find(|case| case.name == name).ok_or(format!("there is no case {name}")))
            .collect::<Result<_, _>>()?,
    };
    let programs = programs(arguments.list("servers"))?;
    let folder = arguments.text("folder").map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::Builder::new().prefix("livezone-peers-").tempdir_in(&folder);
    let scratch = scratch.map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut comparison = Comparison {
        scratch: scratch.path().to_owned(),
        livezone: arguments.text("livezone").map_or_else(|| env!("CARGO_BIN_EXE_livezone").into(), PathBuf::from),
        programs,
        server_core: arguments.value("server-core")?.unwrap_or(0),
        generator_core: arguments.value("generator-core")?.unwrap_or(1),
        rounds: arguments.value("rounds")?.unwrap_or(5),
        duration: Duration::from_secs_f64(arguments.value("seconds")?.unwrap_or(3.0)),
        small: arguments.value("small")?.unwrap_or(Size { services: 20, each: 8 }),
        large: arguments.value("large")?.unwrap_or(Size { services: 2000, each: 50 }),
        settings: Settings {
            window: arguments.value("window")?.unwrap_or(256),
            members: arguments.value("members")?.unwrap_or(10_000),
            verify: arguments.text("verify").is_some_and(|verify| verify == "yes"),
        },
        json: arguments.text("json"),
        runs: 0,
    };
    arguments.finish()?;
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("servers and generator need a core each".to_owned());
    }
    keep_to(Some(comparison.generator_core));
    comparison.introduce();
    for zone in [Zone::Small, Zone::Large, Zone::Updated] {
        let of_zone: Vec<&Case> = cases.iter().copied().filter(|case| case.zone == zone).collect();
        if !of_zone.is_empty() {
            comparison.measure_zone(zone, &of_zone)?;
        }
    }
    Ok(())
}

/// Those that were named, or all.
fn programs(names: Option<Vec<String>>) -> Result<Vec<Program>, String> {
    let Some(names) = names else { return Ok(Program::ALL.to_vec()) };
    let find = |name: &String| {
        let found = Program::ALL.into_iter().find(|program| program.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("there is no server {name}"))
    };
    names.iter().map(find).collect()
}

impl Comparison {
    fn introduce(&self) {
        println!("{}.", machine::describe());
        println!(
            "Servers on core {}, one worker each; the generator on core {}, {} in flight. Medians of {} rounds of {} s.",
            self.server_core,
            self.generator_core,
            self.settings.window,
            self.rounds,
            self.duration.as_secs_f64()
        );
        println!("\n| server | version |\n| --- | --- |");
        for program in &self.programs {
            let told =
                program.missing(false).map_or_else(|| program.version(&self.livezone), |missing| missing + ": skipped");
            println!("| {} | {told} |", program.name());
        }
    }

    fn size(&self, zone: Zone) -> Size {
        if zone == Zone::Large { self.large } else { self.small }
    }

    /// Starts the servers of a zone, and measures its cases.
    fn measure_zone(&mut self, zone: Zone, cases: &[&Case]) -> Result<(), String> {
        let size = self.size(zone);
        let (updates, name) = match zone {
            Zone::Small => (false, "small"),
            Zone::Large => (false, "large"),
            Zone::Updated => (true, "updated"),
        };
        let folder = self.scratch.join(name);
        let file = zones::make(&folder.join(Program::Livezone.name()), size, &self.livezone, self.server_core)?;
        println!("\n## {} services of {} members", size.services, size.each);
        if updates {
            println!("\nAn append and an fdatasync take {:.0} µs here.", fdatasync(&folder).as_secs_f64() * 1e6);
        }
        let mut servers = Vec::new();
        for &program in self.programs.iter().filter(|&&program| program != Program::Limit) {
            if updates && !program.takes_updates() {
                println!("\n{} takes no updates.", program.name());
            } else if let Some(missing) = program.missing(updates) {
                println!("\n{} is skipped: {missing}.", program.name());
            } else {
                let own = folder.join(program.name());
                let setup = self.setup(&own, &file, updates);
                servers.push(Server::start(program, &setup)?);
            }
        }
        cases.iter().try_for_each(|case| self.measure_case(case, &servers, &folder, &file))
    }

    fn setup<'a>(&'a self, folder: &'a Path, file: &'a Path, updates: bool) -> Setup<'a> {
        Setup { folder, file, updates, core: self.server_core, livezone: &self.livezone, canned: file }
    }

    fn measure_case(&mut self, case: &Case, servers: &[Server], folder: &Path, file: &Path) -> Result<(), String> {
        let size = self.size(case.zone);
        println!("\n### {}\n", case.title);
        let mut taking = Vec::new();
        for server in servers.iter() {
            match case.kind.prepare(server.address, self.settings) {
                Ok(()) => taking.push(server),
                Err(error) => println!("{} is left out: {error}\n", server.program.name()),
            }
        }
        let canned = folder.join("canned");
        let limit = match taking.first() {
            Some(first) if case.kind.has_limit() && self.programs.contains(&Program::Limit) => {
                let answer = case.kind.ask(first.address, size, self.settings);
                std::fs::write(&canned, answer.map_err(|error| format!("{}: {error}", first.program.name()))?).unwrap();
                let own = folder.join("limit");
                let setup = Setup { canned: &canned, ..self.setup(&own, file, false) };
                Some(Server::start(Program::Limit, &setup)?)
            }
            _ => None,
        };
        let targets: Vec<&Server> = limit.iter().chain(taking).collect();
        let mut runs: Vec<Run> = Vec::new();
        for round in 0..self.rounds {
            for &server in &targets {
                let run = self.quietest(case, server, round)?;
                if let Some(file) = &self.json {
                    crate::alone::append(file, &table::as_json(case, size, &run))?;
                }
                runs.push(run);
            }
        }
        table::print(case.kind, &runs);
        let loud = runs.iter().filter(|run| run.others > OTHERS).count();
        if loud > 0 {
            println!(
                "\nIn {loud} of {} runs others took more than {:.0} % of a core, repeats included.",
                runs.len(),
                OTHERS * 100.0
            );
        }
        Ok(())
    }

    /// A run in which others took little, or the best of some.
    fn quietest(&mut self, case: &Case, server: &Server, round: usize) -> Result<Run, String> {
        self.load(case, server, round, WARM_UP)?;
        let mut best: Option<Run> = None;
        for _ in 0..=REPEATS {
            let run = self.load(case, server, round, self.duration)?;
            if best.as_ref().is_none_or(|best| run.others < best.others) {
                best = Some(run);
            }
            if best.as_ref().is_some_and(|best| best.others <= OTHERS) {
                break;
            }
        }
        Ok(best.expect("a run"))
    }

    fn load(&mut self, case: &Case, server: &Server, round: usize, duration: Duration) -> Result<Run, String> {
        self.runs += 1;
        let canned = server.program == Program::Limit;
        let target = Target { server: server.address, canned, duration };
        let cores = [self.server_core, self.generator_core];
        let (busy, cpu, began) = (cores.map(machine::busy), server.process.cpu(), Instant::now());
        let (outcome, left) = case.kind.run(&target, self.size(case.zone), self.settings, self.runs)?;
        let wall = began.elapsed();
        let server_cpu = server.process.cpu() - cpu;
        let [on_server, on_generator] = [0, 1].map(|at| machine::busy(cores[at]) - busy[at]);
        let others = on_server.saturating_sub(server_cpu).max(on_generator.saturating_sub(outcome.cpu));
        let others = others.as_secs_f64() / wall.as_secs_f64();
        case.kind.remove(server.address, self.settings, self.runs, left)?;
        settle(server);
        let rss_kib = server.process.rss_kib();
        Ok(Run { program: server.program, round, outcome, wall, server_cpu, others, rss_kib })
    }
}

/// Waits until a server has nothing more to do.
fn settle(server: &Server) {
    let began = Instant::now();
    while began.elapsed() < SETTLE {
        let before = server.process.cpu();
        std::thread::sleep(Duration::from_millis(100));
        if server.process.cpu() - before < Duration::from_millis(20) {
            return;
        }
    }
}

/// `limit address=… canned=FILE`: the process that shows what the machine allows.
pub(crate) fn limit(mut arguments: Arguments) -> Result<(), String> {
    let address: std::net::SocketAddr = arguments.value("address")?.ok_or("limit needs an address")?;
    let file = arguments.text("canned").ok_or("limit needs a file with its answer")?;
    arguments.finish()?;
    let canned = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
    let socket = std::net::UdpSocket::bind(address).map_err(|error| format!("{address}: {error}"))?;
    crate::load::limit::answer(&socket, &canned).map_err(|error| error.to_string())
}
