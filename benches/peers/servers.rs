//! The servers: each on a free port of loopback with one worker, on one core, with its files in a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::load::message::SOA;
use crate::load::questions::Questions;
use crate::load::{self, Outcome, Plan};
use crate::support::free_address;
use crate::support::process::Process;
use crate::zones::{SECRET, ZONE};

/// The largest answer over UDP that all are configured with; what is asked for says less.
const UDP_OCTETS: u16 = 4096;
/// How long a server may take until it answers: PowerDNS reads a hundred thousand members in ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// The loop that shows what the machine allows.
    Limit,
    Livezone,
    Knot,
    Nsd,
    Bind,
    PowerDns,
}

impl Program {
    /// In the order in which they are shown.
    pub(crate) const ALL: [Program; 6] =
        [Program::Limit, Program::Livezone, Program::Knot, Program::Nsd, Program::Bind, Program::PowerDns];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Limit => "limit",
            Program::Livezone => "livezone",
            Program::Knot => "Knot",
            Program::Nsd => "NSD",
            Program::Bind => "BIND",
            Program::PowerDns => "PowerDNS",
        }
    }

    /// What it needs to be installed, to answer and to take updates.
    fn needs(self, updates: bool) -> &'static [&'static str] {
        match self {
            Program::Limit | Program::Livezone => &[],
            Program::Knot => &["knotd"],
            Program::Nsd => &["nsd"],
            Program::Bind => &["named"],
            Program::PowerDns if updates => &["pdns_server", "pdnsutil", "sqlite3"],
            Program::PowerDns => &["pdns_server"],
        }
    }

    /// What is missing of it on this machine.
    pub(crate) fn missing(self, updates: bool) -> Option<String> {
        let missing: Vec<&str> =
            self.needs(updates).iter().copied().filter(|program| find(program).is_none()).collect();
        if !missing.is_empty() {
            return Some(format!("{} is not installed", missing.join(" and ")));
        }
        (self == Program::PowerDns && updates && schema().is_none())
            .then(|| "its schema for SQLite is not installed".to_owned())
    }

    pub(crate) fn takes_updates(self) -> bool {
        self != Program::Nsd
    }

    /// What it calls itself.
    pub(crate) fn version(self, livezone: &Path) -> String {
        let (program, argument) = match self {
            Program::Limit => return "recvmmsg, one canned answer, sendmmsg".to_owned(),
            Program::Livezone => (livezone.to_owned(), "--version"),
            Program::Knot => (find("knotd").unwrap_or_default(), "-V"),
            Program::Nsd => (find("nsd").unwrap_or_default(), "-v"),
            Program::Bind => (find("named").unwrap_or_default(), "-v"),
            Program::PowerDns => (find("pdns_server").unwrap_or_default(), "--version"),
        };
        let Ok(output) = Command::new(program).arg(argument).output() else { return "unknown".to_owned() };
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let line = text.lines().next().unwrap_or("unknown");
        if let (Program::Knot, Some((_, version))) = (self, line.split_once("version ")) {
            return format!("Knot DNS {version}");
        }
        // PowerDNS puts its version behind a time and other words.
        let start = line.find("PowerDNS").unwrap_or(0);
        line[start..].split(" (").next().unwrap_or(line).to_owned()
    }
}

/// A program on the path, or where programs of the system's administrator are.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Where PowerDNS's package keeps the schema.
fn schema() -> Option<&'static str> {
    [
        "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql",
        "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql",
    ]
    .into_iter()
    .find(|file| Path::new(file).is_file())
}

/// What a server is started with.
pub(crate) struct Setup<'a> {
    /// A folder of its own, which for livezone has its zone.
    pub(crate) folder: &'a Path,
    /// The zone as a master file.
    pub(crate) file: &'a Path,
    /// Whether it takes updates, unsigned and signed, and keeps them on the disk.
    pub(crate) updates: bool,
    pub(crate) core: usize,
    /// The livezone that is measured.
    pub(crate) livezone: &'a Path,
    /// What the limit answers.
    pub(crate) canned: &'a Path,
}

pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

impl Server {
    /// Starts a program, and waits until it answers.
    pub(crate) fn start(program: Program, setup: &Setup<'_>) -> Result<Server, String> {
        let address = free_address();
        let (place, port) = (setup.folder.display().to_string(), address.port());
        std::fs::create_dir_all(setup.folder).unwrap();
        let command = match program {
            Program::Limit => {
                let this = std::env::current_exe().unwrap();
                let canned = format!("canned={}", setup.canned.display());
                vec![this.display().to_string(), "limit".to_owned(), format!("address={address}"), canned]
            }
            Program::Livezone => {
                let config = setup.folder.join("livezone.toml").display().to_string();
                let livezone = setup.livezone.display().to_string();
                let listen = address.to_string();
                [&livezone, "serve", "--log", "error", "--listen", &listen, "--config", &config]
                    .map(str::to_owned)
                    .to_vec()
            }
            Program::Knot => {
                std::fs::create_dir_all(setup.folder.join("db")).unwrap();
                write(setup, "knot.conf", &knot(&place, port, setup));
                vec!["knotd".to_owned(), "-c".to_owned(), "knot.conf".to_owned()]
            }
            Program::Nsd => {
                write(setup, "nsd.conf", &nsd(&place, port, setup));
                ["nsd", "-d", "-c", "nsd.conf"].map(str::to_owned).to_vec()
            }
            Program::Bind => {
                write(setup, "named.conf", &bind(&place, port, setup));
                ["named", "-f", "-n", "1", "-c", "named.conf"].map(str::to_owned).to_vec()
            }
            Program::PowerDns => power_dns(&place, port, setup)?,
        };
        let (executable, arguments) = command.split_first().expect("a program");
        let executable = find(executable).unwrap_or_else(|| PathBuf::from(executable));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::spawn(setup.folder, &executable.display().to_string(), &arguments, Some(setup.core));
        Server { program, address, process }.answering(setup.folder)
    }

    fn answering(mut self, folder: &Path) -> Result<Server, String> {
        let began = Instant::now();
        let mut soa = Questions::new(vec![(ZONE.to_owned(), SOA)], 0).any_answer();
        let plan = Plan {
            window: 1,
            sockets: 1,
            patience: Duration::from_millis(200),
            ..Plan::new(self.address, Duration::ZERO)
        };
        loop {
            // Nothing is there yet, or it doesn't know the zone yet, unless it knows one answer alone.
            let ready =
                |outcome: &Outcome| outcome.rcodes[0] > 0 || self.program == Program::Limit && outcome.answered > 0;
            if load::udp::run(&plan, &mut soa).is_ok_and(|outcome| ready(&outcome)) {
                return Ok(self);
            }
            let name = self.program.name();
            if let Some(status) = self.process.ended() {
                let words = std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
                return Err(format!("{name} ended: {status}\n{words}"));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{name} does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn write(setup: &Setup<'_>, name: &str, text: &str) {
    std::fs::write(setup.folder.join(name), text).unwrap();
}

/// A server that takes updates writes into its zone file.
fn own_file(setup: &Setup<'_>) -> String {
    if !setup.updates {
        return setup.file.display().to_string();
    }
    let own = setup.folder.join("own.zone");
    std::fs::copy(setup.file, &own).unwrap();
    own.display().to_string()
}

/// Knot always adds addresses, and has no key to leave them out.
fn knot(place: &str, port: u16, setup: &Setup<'_>) -> String {
    let file = own_file(setup);
    let (journal, acl) = if setup.updates { ("changes", "    acl: [unsigned, signed]\n") } else { ("none", "") };
    format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {place}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         \x20 udp-max-payload: {UDP_OCTETS}\n  tcp-max-clients: 1000\n\
         database:\n  storage: {place}/db\nlog:\n  - target: {place}/log\n    any: warning\n\
         key:\n  - id: bench\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
         acl:\n  - id: unsigned\n    address: 127.0.0.1\n    action: update\n\
         \x20 - id: signed\n    key: bench\n    action: update\n\
         zone:\n  - domain: {ZONE}\n    storage: {place}\n    file: {file}\n    semantic-checks: off\n    zonefile-sync: -1\n\
         \x20   journal-content: {journal}\n{acl}"
    )
}

/// `minimal-responses: no`, since otherwise it adds no addresses; it adds the NS set too then.
fn nsd(place: &str, port: u16, setup: &Setup<'_>) -> String {
    let file = setup.file.display();
    format!(
        "server:\n  server-count: 1\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{place}\"\n\
         \x20 database: \"\"\n  logfile: \"{place}/log\"\n  pidfile: \"{place}/pid\"\n  xfrdfile: \"{place}/xfrd.state\"\n\
         \x20 xfrdir: \"{place}\"\n  zonelistfile: \"{place}/zone.list\"\n  ipv4-edns-size: {UDP_OCTETS}\n  tcp-count: 100\n\
         \x20 rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n  minimal-responses: no\n\
         remote-control:\n  control-enable: no\nzone:\n  name: {ZONE}\n  zonefile: {file}\n"
    )
}

/// `no-auth`: addresses, and no NS set.
fn bind(place: &str, port: u16, setup: &Setup<'_>) -> String {
    let file = own_file(setup);
    let allow = if setup.updates { "allow-update { 127.0.0.1; key bench; };" } else { "" };
    format!(
        "options {{ directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no;\n\
         pid-file none; lock-file none; session-keyfile \"session.key\"; dnssec-validation no; empty-zones-enable no;\n\
         notify no; querylog no; minimal-responses no-auth; rrset-order {{ order none; }}; max-udp-size {UDP_OCTETS};\n\
         edns-udp-size {UDP_OCTETS}; tcp-clients 1000; max-records-per-type 0; max-types-per-name 0;\n\
         check-names primary ignore; }};\n\
         key bench {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
         logging {{ channel l {{ file \"log\"; severity error; }}; category default {{ l; }}; }};\ncontrols {{ }};\n\
         zone \"{ZONE}\" {{ type primary; file \"{file}\"; {allow} }};\n"
    )
}

/// Its caches stay at their defaults. Its backend for files takes no updates, so these go to SQLite, which syncs.
fn power_dns(place: &str, port: u16, setup: &Setup<'_>) -> Result<Vec<String>, String> {
    let backend = if setup.updates {
        write(
            setup,
            "pdns.conf",
            &format!("launch=gsqlite3\ngsqlite3-database={place}/db\ngsqlite3-pragma-synchronous=2\n"),
        );
        let schema = schema().ok_or("PowerDNS has no schema")?;
        let create = format!(".read {schema}");
        prepare(setup, "sqlite3", &["db", &create])?;
        let config = format!("--config-dir={place}");
        let file = setup.file.display().to_string();
        let steps: [&[&str]; 4] = [
            &["load-zone", ZONE, &file],
            &["import-tsig-key", "bench", "hmac-sha256", SECRET],
            &["set-meta", ZONE, "TSIG-ALLOW-DNSUPDATE", "bench"],
            &["set-meta", ZONE, "SOA-EDIT-DNSUPDATE", "INCREASE"],
        ];
        steps.iter().try_for_each(|step| prepare(setup, "pdnsutil", &[&[config.as_str()], *step].concat()))?;
        "dnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8\n".to_owned()
    } else {
        let file = setup.file.display();
        write(setup, "zones.conf", &format!("zone \"{ZONE}\" {{ type master; file \"{file}\"; }};\n"));
        format!("launch=bind\nbind-config={place}/zones.conf\nbind-check-interval=0\n")
    };
    let before = std::fs::read_to_string(setup.folder.join("pdns.conf")).unwrap_or_default();
    let common = format!(
        "socket-dir={place}\nlocal-address=127.0.0.1\nlocal-port={port}\nguardian=no\ndisable-syslog=yes\nloglevel=3\n\
         security-poll-suffix=\nwebserver=no\nreceiver-threads=1\ndistributor-threads=1\nsigning-threads=1\nreuseport=no\n\
         udp-truncation-threshold={UDP_OCTETS}\nmax-tcp-connections=1000\n"
    );
    write(setup, "pdns.conf", &[before, backend, common].concat());
    Ok(["pdns_server", &format!("--config-dir={place}"), "--daemon=no"].map(str::to_owned).to_vec())
}

/// Runs a program in the folder until it ends.
fn prepare(setup: &Setup<'_>, program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(find(program).unwrap_or_default()).args(arguments).current_dir(setup.folder).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let words = || String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {}: {}", arguments.join(" "), words())) }
}
