//! The zone of all servers: livezone's as its members registered it, the others' as `livezone export` writes it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::load::members::{Members, Pass};
use crate::load::{Plan, tcp};
use crate::servers::{Program, Server, Setup};

pub(crate) const ZONE: &str = "svc.example.test";
/// The key `bench` with hmac-sha256.
pub(crate) const SECRET: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I=";

/// Services, and members of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) services: u32,
    pub(crate) each: u32,
}

impl std::str::FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Size, ()> {
        let (services, each) = text.split_once('x').ok_or(())?;
        let number = |text: &str| text.parse().ok().filter(|&number| number > 0).ok_or(());
        Ok(Size { services: number(services)?, each: number(each)? })
    }
}

impl Size {
    /// Who is in the zone.
    pub(crate) fn members(self) -> Members {
        Members {
            zone: ZONE.to_owned(),
            label: "cache",
            services: self.services,
            run: 0,
            lease: None,
            signer: None,
            verify: false,
        }
    }
}

/// Answers a second to a network: more than any server gives, so that they are counted as they are beyond loopback,
pub(crate) const UNLIMITED: u32 = 10_000_000;
/// and livezone's default, of which loopback is not exempt here.
pub(crate) const LIMITED: u32 = 1000;

/// Registers all members with a livezone, whose folder this leaves, and writes the zone to a file. The rate is that of its
/// answers.
pub(crate) fn make(folder: &Path, size: Size, livezone: &Path, core: usize, rate: u32) -> Result<PathBuf, String> {
    configure(folder, rate);
    let file = folder.join("exported.zone");
    let setup = Setup { folder, file: &file, updates: true, core, livezone, canned: &file };
    let server = Server::start(Program::Livezone, &setup)?;
    let plan = Plan { window: 4, sockets: 1, duration: None, ..Plan::new(server.address, Duration::ZERO) };
    let members = size.members();
    let outcome = tcp::run(&plan, &mut Pass::registering_services(&members, size.each));
    let outcome = outcome.map_err(|error| format!("registering the zone: {error}"))?;
    if outcome.rcodes[0] != outcome.sent {
        return Err(format!("registering the zone: {outcome:?}"));
    }
    drop(server);
    let exported = Command::new(livezone)
        .args(["export", ZONE, "--config"])
        .arg(folder.join("livezone.toml"))
        .stdout(std::fs::File::create(&file).unwrap())
        .status();
    match exported {
        Ok(status) if status.success() => Ok(file),
        other => Err(format!("livezone export: {other:?}")),
    }
}

/// Cookies are on, as by default.
fn configure(folder: &Path, rate: u32) {
    std::fs::create_dir_all(folder.join("zones")).unwrap();
    let config = format!(
        "[dns]\nthreads = 1\nudp-size = 4096\n[dns.rrl]\nrate = {rate}\nexempt = []\n[http]\nlisten = \"\"\n\
         [[key]]\nname = \"bench.\"\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET}\"\n"
    );
    std::fs::write(folder.join("livezone.toml"), config).unwrap();
    // Nobody's lease ends while others are measured.
    let zone = format!(
        "origin = \"{ZONE}.\"\nstatic = \"static.zone\"\n[lease]\ndefault = \"7d\"\nmax = \"7d\"\n\
         [access]\nupdate = [{{ key = \"bench.\", services = [\"*\"] }}, {{ network = \"127.0.0.0/8\" }}]\n"
    );
    std::fs::write(folder.join("zones/zone.toml"), zone).unwrap();
    std::fs::write(folder.join("zones/static.zone"), "@ IN NS ns1\nns1 IN A 127.0.0.1\n").unwrap();
}
