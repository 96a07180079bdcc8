//! The comparison: cases one after the other, servers in turn within each round.

mod beside;
mod limited;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::cases::{CASES, Case, Kind, Method, Settings, Target, Zone};
use crate::disk::fdatasync;
use crate::load::Outcome;
use crate::machine::{self, Observation};
use crate::servers::{Program, Server, Setup};
use crate::support::keep_to;
use crate::table;
use crate::zones::{self, Size};

/// Caches fill before it counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long a server may work through what it was flooded with, before the next run.
const SETTLE: Duration = Duration::from_secs(15);

/// One run of one case at one server.
pub(crate) struct Run {
    pub(crate) program: Program,
    pub(crate) round: usize,
    pub(crate) outcome: Outcome,
    pub(crate) observation: Observation,
    pub(crate) rss_kib: u64,
}

impl Run {
    fn others(&self) -> f64 {
        self.observation.others
    }
}

struct Comparison {
    scratch: PathBuf,
    livezone: PathBuf,
    programs: Vec<Program>,
    /// Whether the programs were named, or are all.
    named: bool,
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
    let named = arguments.list("servers");
    let programs = programs(named.as_deref())?;
    let folder = arguments.text("folder").map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::Builder::new().prefix("livezone-peers-").tempdir_in(&folder);
    let scratch = scratch.map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut comparison = Comparison {
        scratch: scratch.path().to_owned(),
        livezone: arguments.text("livezone").map_or_else(|| env!("CARGO_BIN_EXE_livezone").into(), PathBuf::from),
        programs,
        named: named.is_some(),
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
    for zone in [Zone::Small, Zone::Limited, Zone::Large, Zone::Updated] {
        let of_zone: Vec<&Case> = cases.iter().copied().filter(|case| case.zone == zone).collect();
        if !of_zone.is_empty() {
            comparison.measure_zone(zone, &of_zone)?;
        }
    }
    Ok(())
}

/// Those that were named, or all.
fn programs(names: Option<&[String]>) -> Result<Vec<Program>, String> {
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
            Zone::Limited => (false, "limited"),
            Zone::Large => (false, "large"),
            Zone::Updated => (true, "updated"),
        };
        let folder = self.scratch.join(name);
        let rate = if zone == Zone::Limited { zones::LIMITED } else { zones::UNLIMITED };
        let own = folder.join(Program::Livezone.name());
        let file = zones::make(&own, size, &self.livezone, self.server_core, rate)?;
        println!("\n## {} services of {} members", size.services, size.each);
        if updates {
            println!("\nAn append and an fdatasync take {:.0} µs here.", fdatasync(&folder).as_secs_f64() * 1e6);
        }
        let mut servers = Vec::new();
        let takes_part = |program: Program| match zone {
            Zone::Limited => program == Program::Livezone,
            _ => program != Program::Limit,
        };
        for &program in self.programs.iter().filter(|&&program| takes_part(program)) {
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
        cases.iter().try_for_each(|case| {
            println!("\n### {}\n", case.title);
            match case.method {
                Method::Alone => self.measure_case(case, &servers, &folder, &file),
                Method::Limited => self.measure_limited(case, &servers),
                Method::Beside => self.measure_beside(case, &servers),
            }
        })
    }

    fn setup<'a>(&'a self, folder: &'a Path, file: &'a Path, updates: bool) -> Setup<'a> {
        Setup { folder, file, updates, core: self.server_core, livezone: &self.livezone, canned: file }
    }

    fn measure_case(&mut self, case: &Case, servers: &[Server], folder: &Path, file: &Path) -> Result<(), String> {
        let size = self.size(case.zone);
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
                let run = self.quietest(case.kind, size, server, round)?;
                self.record(&table::as_json(case, size, &run))?;
                runs.push(run);
            }
        }
        table::print(case.kind, &runs);
        machine::tell_loud(&runs, Run::others);
        Ok(())
    }

    /// Appends a line of JSON, if that is asked for.
    fn record(&self, record: &serde_json::Value) -> Result<(), String> {
        self.json.as_ref().map_or(Ok(()), |file| crate::alone::append(file, record))
    }

    /// A run in which others took little, or the best of some.
    fn quietest(&mut self, kind: Kind, size: Size, server: &Server, round: usize) -> Result<Run, String> {
        self.load(kind, size, server, round, WARM_UP)?;
        machine::quietest(Run::others, || self.load(kind, size, server, round, self.duration))
    }

    fn load(
        &mut self,
        kind: Kind,
        size: Size,
        server: &Server,
        round: usize,
        duration: Duration,
    ) -> Result<Run, String> {
        self.runs += 1;
        let canned = server.program == Program::Limit;
        let target = Target { server: server.address, canned, duration };
        kind.use_up(server.address, size, self.settings)?;
        let ((outcome, left), observation) =
            self.observe(server, || kind.run(&target, size, self.settings, self.runs))?;
        kind.remove(server.address, self.settings, self.runs, left)?;
        settle(server);
        let rss_kib = server.process.rss_kib();
        Ok(Run { program: server.program, round, outcome, observation, rss_kib })
    }

    fn observe<T>(
        &self,
        server: &Server,
        load: impl FnOnce() -> Result<T, String>,
    ) -> Result<(T, Observation), String> {
        machine::observe(&server.process, [self.server_core, self.generator_core], load)
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
