//! The servers, each on a free port of loopback with its files in a scratch folder, and ended by its id.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::free_address;
use crate::support::process::Process;
use crate::wire::{SECRET, ZONE, serial};

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: Process,
}

/// Where a server gets its zone from, and whom it tells.
#[derive(Clone, Copy, Default)]
pub(crate) struct Role<'a> {
    /// A master file; else a primary.
    pub(crate) file: Option<&'a Path>,
    pub(crate) primary: Option<SocketAddr>,
    /// Secondaries that a primary tells.
    pub(crate) secondaries: &'a [SocketAddr],
    /// BIND's `notify-delay`, in seconds.
    pub(crate) notify_delay: Option<u32>,
    /// NSD's `xfrd-reload-timeout`.
    pub(crate) reload_timeout: u32,
    /// The core that the server keeps to.
    pub(crate) core: Option<usize>,
}

/// The livezone that is measured: the one that was built, or one to compare it with.
fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let named = std::env::args().find_map(|argument| argument.strip_prefix("livezone=").map(str::to_owned));
        named.unwrap_or_else(|| env!("CARGO_BIN_EXE_livezone").to_owned())
    })
}

/// What livezone is configured with; its store stays over restarts.
pub(crate) fn configure_livezone(folder: &Path, secondaries: &[SocketAddr]) {
    std::fs::create_dir_all(folder.join("zones")).unwrap();
    let config = format!(
        "[http]\nlisten = \"\"\n[[key]]\nname = \"xfer.\"\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET}\"\n"
    );
    std::fs::write(folder.join("livezone.toml"), config).unwrap();
    let secondaries: Vec<String> = secondaries.iter().map(SocketAddr::to_string).collect();
    let zone = format!(
        "origin = \"{ZONE}.\"\nstatic = \"static.zone\"\n[lease]\ndefault = \"1h\"\n\
         [access]\nupdate = [{{ network = \"127.0.0.0/8\" }}]\n\
         transfer = [{{ network = \"127.0.0.0/8\" }}, {{ key = \"xfer.\" }}]\n[notify]\nsecondaries = {secondaries:?}\n"
    );
    std::fs::write(folder.join("zones/zone.toml"), zone).unwrap();
    std::fs::write(folder.join("zones/static.zone"), "@ IN NS ns1\nns1 IN A 127.0.0.1\n").unwrap();
}

impl Server {
    pub(crate) fn livezone(folder: &Path, core: Option<usize>) -> Server {
        let address = free_address();
        let listen = address.to_string();
        let arguments = ["serve", "--log", "error", "--listen", &listen, "--config", "livezone.toml"];
        let process = Process::spawn(folder, program(), &arguments, core);
        Server { name: "livezone", address, process }.answering()
    }

    /// The master file that livezone's store makes while it is stopped.
    pub(crate) fn export(folder: &Path, file: &Path) {
        let exported = Command::new(program())
            .args(["export", ZONE, "--config"])
            .arg(folder.join("livezone.toml"))
            .stdout(std::fs::File::create(file).unwrap())
            .status();
        assert!(exported.unwrap().success(), "livezone export");
    }

    pub(crate) fn knot(folder: &Path, address: SocketAddr, role: Role<'_>) -> Server {
        let (place, port) = (folder.display(), address.port());
        let mut conf = format!(
            "server:\n  listen: 127.0.0.1@{port}\n  rundir: {place}\n\
             database:\n  storage: {place}/db\nlog:\n  - target: {place}/log\n    any: warning\n\
             key:\n  - id: xfer\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
             acl:\n  - id: open\n    address: 127.0.0.1\n    action: [transfer, notify, update]\n\
             \x20 - id: signed\n    key: xfer\n    action: transfer\n"
        );
        if let Some(primary) = role.primary {
            write!(conf, "remote:\n  - id: primary\n    address: 127.0.0.1@{}\n", primary.port()).unwrap();
        }
        write!(
            conf,
            "zone:\n  - domain: {ZONE}\n    storage: {place}\n    zonefile-sync: -1\n    acl: [open, signed]\n"
        )
        .unwrap();
        match role.file {
            Some(file) => write!(conf, "    file: {}\n    semantic-checks: off\n", file.display()).unwrap(),
            None => conf.push_str("    master: primary\n    journal-content: all\n    zonefile-load: none\n"),
        }
        std::fs::create_dir_all(folder.join("db")).unwrap();
        std::fs::write(folder.join("knot.conf"), conf).unwrap();
        Server { name: "Knot", address, process: Process::spawn(folder, "knotd", &["-c", "knot.conf"], role.core) }
    }

    pub(crate) fn bind(folder: &Path, address: SocketAddr, role: Role<'_>) -> Server {
        let (place, port) = (folder.display(), address.port());
        let mut conf = format!(
            "options {{ directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no;\n\
             pid-file none; lock-file none; session-keyfile \"session.key\"; dnssec-validation no; empty-zones-enable no;\n\
             allow-transfer {{ 127.0.0.1; key xfer; }}; transfers-out 100; tcp-clients 1000; serial-query-rate 1000;\n\
             max-records-per-type 0; notify explicit; check-names primary ignore; }};\n\
             key xfer {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             logging {{ channel l {{ file \"log\"; severity warning; }}; category default {{ l; }}; }};\ncontrols {{ }};\n"
        );
        match (role.file, role.primary) {
            (Some(file), _) => {
                // Updates go into its journal, and in time into the file.
                std::fs::copy(file, folder.join("copy.zone")).unwrap();
                let delay = role.notify_delay.map(|delay| format!("notify-delay {delay};")).unwrap_or_default();
                let told: String =
                    role.secondaries.iter().map(|to| format!("127.0.0.1 port {}; ", to.port())).collect();
                writeln!(
                    conf,
                    "zone \"{ZONE}\" {{ type primary; file \"copy.zone\"; allow-update {{ 127.0.0.1; }}; {delay} \
                     also-notify {{ {told} }}; }};"
                )
                .unwrap();
            }
            (None, Some(primary)) => writeln!(
                conf,
                "zone \"{ZONE}\" {{ type secondary; primaries port {} {{ 127.0.0.1; }}; file \"copy.zone\"; }};",
                primary.port()
            )
            .unwrap(),
            (None, None) => unreachable!("a role has a source"),
        }
        std::fs::write(folder.join("named.conf"), conf).unwrap();
        Server {
            name: "BIND",
            address,
            process: Process::spawn(folder, "named", &["-f", "-c", "named.conf"], role.core),
        }
    }

    pub(crate) fn nsd(folder: &Path, address: SocketAddr, role: Role<'_>) -> Server {
        let (place, port) = (folder.display(), address.port());
        let mut conf = format!(
            "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{place}\"\n  database: \"\"\n\
             \x20 logfile: \"{place}/log\"\n  pidfile: \"{place}/pid\"\n  xfrdfile: \"{place}/xfrd.state\"\n  xfrdir: \"{place}\"\n\
             \x20 zonelistfile: \"{place}/zone.list\"\n  rrl-ratelimit: 0\n  tcp-count: 100\n  xfrd-reload-timeout: {}\n\
             remote-control:\n  control-enable: no\n\
             key:\n  name: xfer\n  algorithm: hmac-sha256\n  secret: \"{SECRET}\"\n\
             zone:\n  name: {ZONE}\n  provide-xfr: 127.0.0.1 NOKEY\n  provide-xfr: 127.0.0.1 xfer\n",
            role.reload_timeout
        );
        match (role.file, role.primary) {
            (Some(file), _) => writeln!(conf, "  zonefile: {}", file.display()).unwrap(),
            (None, Some(primary)) => writeln!(
                conf,
                "  zonefile: copy.zone\n  allow-notify: 127.0.0.1 NOKEY\n  request-xfr: 127.0.0.1@{} NOKEY",
                primary.port()
            )
            .unwrap(),
            (None, None) => unreachable!("a role has a source"),
        }
        std::fs::write(folder.join("nsd.conf"), conf).unwrap();
        Server { name: "NSD", address, process: Process::spawn(folder, "nsd", &["-d", "-c", "nsd.conf"], role.core) }
    }

    /// Waits until the server answers for the zone.
    pub(crate) fn answering(mut self) -> Server {
        let began = Instant::now();
        while serial(self.address).is_none() {
            if let Some(status) = self.process.ended() {
                panic!("{} ended: {status}", self.name);
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{} does not answer", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    pub(crate) fn rss_kib(&self) -> u64 {
        self.process.rss_kib()
    }

    /// User and system time of its processes, in ticks of 10 ms.
    pub(crate) fn cpu(&self) -> Duration {
        self.process.cpu()
    }
}
