//! TOML as written, to validated configuration.
//!
//! `livezone.toml` becomes a [`Config`], each file `*.toml` in its `zones-dir` a [`Zone`]. The shape of the files is in
//! `written`, one type for each table; the checks of `livezone.toml` are in `server`, those of a zone file in `zone`. The
//! agent's file is read by [`agent`].
//! Relative paths start from the folder of `livezone.toml` when one is given, else from the working directory; `static`
//! starts from the folder of its zone file.
//!
//! Errors: reading goes on after a problem, and [`Problems`] holds all of them with file, line and column. Syntax comes
//! first: a file that is no TOML is not looked at further, nor are the values of one where some have a wrong type. A zone
//! file with problems still says where its static records are, as a [`FaultyZone`], so that theirs are found with its own.
//! Documented keys of features that this version does not have are accepted, with a warning where they ask for
//! something. Warnings are texts with file and line, for whoever starts the server to show.
//!
//! Bounds: a file is at most 1 MiB.

mod abuse;
pub mod agent;
mod http;
mod key;
mod later;
mod notify;
mod policy;
mod problems;
mod read;
mod secondary;
mod server;
mod tls;
mod token;
mod values;
pub mod watch;
mod written;
mod zone;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::sign::CertifiedKey;

use crate::api::access::{Openness, Token, Tokens};
use crate::base::Name;
use crate::base::limits::UDP_OCTETS;
use crate::dns::cookie::Secret;
use crate::dns::rate;
use crate::dns::tsig::{Key, Keys};
use crate::membership::access::{TransferAccess, UpdateEntry};
use crate::membership::limits::{LeaseLimits, Quotas};
use crate::membership::policy::Policies;
use crate::zone::Settings;

pub use problems::{Position, Problem, Problems};

#[cfg(test)]
pub(crate) use key::parse_secret_file;

use key::KeyNames;
use problems::Findings;

/// What `livezone.toml` says.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the embedded store.
    pub data_dir: PathBuf,
    /// The folder of the zone files.
    pub zones_dir: PathBuf,
    /// The `[dns]` table.
    pub dns: Dns,
    /// The `[limits]` table.
    pub limits: Limits,
    /// DNS over TLS, if it is to be served.
    pub tls: Option<Tls>,
    /// The `[http]` table.
    pub http: Http,
    /// The `[[token]]` entries, their tokens and names all different.
    pub tokens: Vec<Token>,
    /// The TSIG keys, their names all different.
    pub keys: Vec<Key>,
    /// The files of the keys' secrets, and of the certificate of HTTP.
    pub files: Vec<PathBuf>,
    /// What is accepted but worth a word, as `file:line: text`.
    pub warnings: Vec<String>,
}

/// The `[dns]` table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// Addresses to serve, each over UDP and TCP; at least one.
    pub listen: Vec<SocketAddr>,
    /// UDP threads; 0 is one per core.
    pub threads: usize,
    /// The largest UDP answer, in octets, whatever the client offers.
    pub udp_size: u16,
    /// Updates a second per source address.
    pub update_rate: u32,
    /// Whether to answer DNS cookies.
    pub cookies: bool,
    /// What they are made with, the first, and were or will be made with; none: a random secret.
    pub cookie_secrets: Vec<Secret>,
    /// The rate of answers over UDP.
    pub rrl: rate::Settings,
    /// Whether to rotate A and AAAA sets.
    pub rotate: bool,
    /// Which server this is, for NSID and `id.server`; `None` is the host name, an empty one is not told.
    pub nsid: Option<String>,
    /// Which software this is, for `version.bind`; `None` is its name and version, an empty one is not told.
    pub version: Option<String>,
}

impl Default for Dns {
    fn default() -> Dns {
        Dns {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5353))],
            threads: 0,
            udp_size: UDP_OCTETS,
            update_rate: 100,
            cookies: true,
            cookie_secrets: Vec::new(),
            rrl: rate::Settings::default(),
            rotate: false,
            nsid: None,
            version: None,
        }
    }
}

/// `[dns] tls-listen` and the `[tls]` table.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Addresses to serve DNS over TLS on; at least one.
    pub listen: Vec<SocketAddr>,
    /// The certificate chain and its key, which match.
    pub certified: Arc<CertifiedKey>,
}

/// The `[http]` table.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where to serve the HTTP API, if at all.
    pub listen: Option<SocketAddr>,
    /// Whether everyone may use it who can reach it, by whatever name, if there are no tokens.
    pub open: bool,
    /// The certificate chain and its key, which match; none: without TLS.
    pub certified: Option<Arc<CertifiedKey>>,
}

impl PartialEq for Http {
    /// The key is that of the certificate.
    fn eq(&self, other: &Http) -> bool {
        let chain = |http: &Http| http.certified.as_ref().map(|certified| certified.cert.clone());
        (self.listen, self.open) == (other.listen, other.open) && chain(self) == chain(other)
    }
}

impl Default for Http {
    fn default() -> Http {
        Http { listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8053))), open: false, certified: None }
    }
}

impl Config {
    /// Who may use the HTTP API. Where others than this machine reach it, somebody needs a token, or it is open on purpose.
    pub fn admission(&self) -> Tokens {
        let openness = match self.http.listen {
            _ if self.http.open => Openness::Everyone,
            Some(address) if !http::is_loopback(address) => Openness::Nobody,
            _ => Openness::ThisMachine,
        };
        Tokens::new(self.tokens.iter().cloned(), openness)
    }
}

/// The `[limits]` table.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Connections over TCP and TLS.
    pub tcp: crate::net::tcp::Limits,
    /// Leases and services of each zone, and of an owner in it.
    pub quotas: Quotas,
}

/// What a zone file says.
#[derive(Clone, PartialEq, Debug)]
pub struct Zone {
    /// What decides about the zone's records.
    pub settings: Settings,
    /// The master file of static records. Whether it can be read is for its reader to find out.
    pub static_file: Option<PathBuf>,
    /// How long to gather changes for one commit; at most a second.
    pub settle: Duration,
    /// What leases are granted; `min` is at least the zone's TTL.
    pub leases: LeaseLimits,
    /// What holds for its members, and those of each service: these leases, and what keeps a fault from emptying it.
    pub policies: Arc<Policies>,
    /// How long a drained member waits for secondaries.
    pub drain_timeout: Duration,
    /// Whether a member without an address gets its sender's.
    pub peer_address: bool,
    /// Whose copy it is; none: it is our own, and what follows is what decides about it.
    pub following: Option<Following>,
    /// Who may update.
    pub update: Vec<UpdateEntry>,
    /// Who may query; `None` is everyone, an empty list nobody.
    pub query: Option<Vec<IpNet>>,
    /// Who may transfer the zone.
    pub transfer: TransferAccess,
    /// Who keeps copies of the zone; all different.
    pub secondaries: Vec<Secondary>,
    /// The zone file.
    pub source: PathBuf,
    /// Where its origin stands, for problems that are about the zone as a whole.
    pub at: Position,
    /// What is accepted but worth a word, as `file:line: text`.
    pub warnings: Vec<String>,
}

/// Where a zone comes from that is a copy.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Following {
    /// Servers to transfer it from, in the order in which they are asked; all different, at least one.
    pub primaries: Vec<SocketAddr>,
    /// The TSIG key that all of them share with this server.
    pub key: Option<Name>,
}

/// A server that keeps a copy of a zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secondary {
    /// Where it listens, never an IPv4 address mapped into IPv6.
    pub address: SocketAddr,
    /// The TSIG key that it shares with this server.
    pub key: Option<Name>,
}

/// A zone file, judged for itself.
#[derive(Clone, Debug)]
pub struct ZoneFile {
    /// The file.
    pub path: PathBuf,
    /// The zone that it is about, if that much is legible.
    pub origin: Option<Name>,
    /// The zone, if nothing is wrong with its file.
    pub zone: Option<Zone>,
    /// What is legible of it, if something is.
    pub faulty: Option<FaultyZone>,
}

/// What is legible of a zone file with problems: good for finding more of them, and never to be loaded.
#[derive(Clone, Debug)]
pub struct FaultyZone {
    /// The zone, with stand-ins for what is wrong in it.
    pub zone: Zone,
    /// Whether its `soa.primary` is what the file says, and no stand-in.
    pub has_primary: bool,
}

/// All of the configuration as it stands in its files, each judged for itself.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What `livezone.toml` says, if nothing is wrong with it.
    pub config: Option<Config>,
    /// The folder of the zone files, as far as it is known.
    pub zones_dir: Option<PathBuf>,
    /// The zone files; `None` if their folder can't be read or isn't known.
    pub zones: Option<Vec<ZoneFile>>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// Reads `livezone.toml` and the zone files. Where `livezone.toml` is wrong, the zone files are held against
/// `running`, or else against what is legible of it.
pub fn read_all(path: Option<&Path>, running: Option<&Config>) -> Reading {
    let (read, mut problems) = read_config(path);
    let good = problems.is_empty();
    let against = match (running.filter(|_| !good), &read) {
        (Some(running), _) => {
            Some((running.zones_dir.clone(), running.keys.iter().map(|key| key.name.clone()).collect::<HashSet<_>>()))
        }
        (None, Some((config, names))) => Some((config.zones_dir.clone(), names.keys().cloned().collect())),
        (None, None) => None,
    };
    let zones = against.as_ref().and_then(|(dir, names)| match read_zone_files(dir, &|name| names.contains(name)) {
        Ok((files, found)) => {
            problems.extend(found);
            Some(files)
        }
        Err(problem) => {
            problems.push(problem);
            None
        }
    });
    let config = read.map(|(config, _)| config).filter(|_| good);
    Reading { config, zones_dir: against.map(|(dir, _)| dir), zones, problems }
}

/// Reads `livezone.toml`; without a path, the defaults.
pub fn load(path: Option<&Path>) -> Result<Config, Problems> {
    let (config, problems) = read_config(path);
    match (config, Problems::new(problems)) {
        (Some((config, _)), None) => Ok(config),
        (_, Some(problems)) => Err(problems),
        (None, None) => unreachable!("a configuration that is not read leaves a problem"),
    }
}

/// Reads one zone file. Its access entries may name these keys.
pub fn load_zone(path: &Path, keys: &Keys) -> Result<Zone, Problems> {
    let (zone, problems) = read_zone(path, &|name| keys.find(name).is_some());
    match (zone, Problems::new(problems)) {
        (Some(zone), None) => Ok(zone),
        (_, Some(problems)) => Err(problems),
        (None, None) => unreachable!("a zone that is not read leaves a problem"),
    }
}

/// Reads every `*.toml` of a folder, in the order of the file names; hidden files are left alone. Two files may not
/// have the same origin; one zone may lie inside another.
pub fn load_zones(dir: &Path, keys: &Keys) -> Result<Vec<Zone>, Problems> {
    let (zones, problems) = read_zones(dir, &|name| keys.find(name).is_some());
    Problems::new(problems).map_or(Ok(zones), Err)
}

/// Reads `livezone.toml` and all its zones, with the problems of both. The zones are left out where `livezone.toml` is
/// so wrong that their folder isn't known.
pub fn load_all(path: Option<&Path>) -> Result<(Config, Vec<Zone>), Problems> {
    let (config, mut problems) = read_config(path);
    let config = config.map(|(config, names)| {
        let (zones, of_zones) = read_zones(&config.zones_dir, &|name| names.contains_key(name));
        problems.extend(of_zones);
        (config, zones)
    });
    match (config, Problems::new(problems)) {
        (Some(loaded), None) => Ok(loaded),
        (_, Some(problems)) => Err(problems),
        (None, None) => unreachable!("a configuration that is not read leaves a problem"),
    }
}

/// The configuration, with stand-ins for what is wrong in it, and the names of its keys; and the problems. Without a
/// configuration there is at least one.
fn read_config(path: Option<&Path>) -> (Option<(Config, KeyNames)>, Vec<Problem>) {
    let text = match path.map(read::read_text).transpose() {
        Ok(text) => text.unwrap_or_default(),
        Err(problem) => return (None, vec![problem]),
    };
    let mut findings = Findings::new(path.unwrap_or(Path::new("")), text);
    let folder = findings.folder().to_owned();
    let config = read::parse(&mut findings).map(|written| server::check(&mut findings, &written, &folder));
    let (problems, warnings) = findings.finish();
    (config.map(|(config, names)| (Config { warnings, ..config }, names)), problems)
}

/// The zone, and the problems; without a zone there is at least one.
fn read_zone(path: &Path, knows_key: &dyn Fn(&Name) -> bool) -> (Option<Zone>, Vec<Problem>) {
    let (legible, problems) = read_legible_zone(path, knows_key);
    (legible.map(|legible| legible.zone).filter(|_| problems.is_empty()), problems)
}

/// What is legible of a zone, and the problems; it is faulty if there are some.
fn read_legible_zone(path: &Path, knows_key: &dyn Fn(&Name) -> bool) -> (Option<FaultyZone>, Vec<Problem>) {
    let text = match read::read_text(path) {
        Ok(text) => text,
        Err(problem) => return (None, vec![problem]),
    };
    let mut findings = Findings::new(path, text);
    let Some((written, whole)) = read::parse_form(&mut findings) else { return (None, findings.finish().0) };
    let zone = if whole {
        zone::check(&mut findings, &written, knows_key)
    } else {
        // What is said of values beside those of a wrong type may come from these.
        zone::check(&mut Findings::new(path, findings.text().to_owned()), &written, knows_key)
    };
    let (problems, warnings) = findings.finish();
    let legible = zone.map(|zone| FaultyZone {
        // The stand-in is the origin.
        has_primary: whole && (problems.is_empty() || zone.settings.primary != zone.settings.origin),
        zone: Zone { warnings, ..zone },
    });
    (legible, problems)
}

fn read_zones(dir: &Path, knows_key: &dyn Fn(&Name) -> bool) -> (Vec<Zone>, Vec<Problem>) {
    match read_zone_files(dir, knows_key) {
        Ok((files, problems)) => (files.into_iter().filter_map(|file| file.zone).collect(), problems),
        Err(problem) => (Vec::new(), vec![problem]),
    }
}

/// The zone files of a folder, and what is wrong in them; or why the folder can't be read.
fn read_zone_files(dir: &Path, knows_key: &dyn Fn(&Name) -> bool) -> Result<(Vec<ZoneFile>, Vec<Problem>), Problem> {
    let paths = zone_files(dir).map_err(|error| {
        let message = format!("the folder of zone files can't be read: {error}; create it, or set `zones-dir`");
        Problem { file: dir.to_owned(), position: None, message }
    })?;
    let mut files: Vec<ZoneFile> = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        let (legible, mut found) = read_legible_zone(&path, knows_key);
        let origin = legible.as_ref().map(|legible| legible.zone.settings.origin.clone());
        let twin = files.iter_mut().find(|file| origin.is_some() && file.origin == origin);
        if let (Some(twin), Some(FaultyZone { zone, .. })) = (twin, &legible) {
            let message = format!("{} is the zone of {} already: keep one", zone.settings.origin, twin.path.display());
            found.push(Problem { file: path.clone(), position: Some(zone.at), message });
            // Which of the two is meant is not for us to guess.
            let twin_zone = twin.zone.take().map(|zone| FaultyZone { zone, has_primary: true });
            twin.faulty = twin_zone.or(twin.faulty.take());
        }
        let (zone, faulty) = match legible {
            Some(legible) if found.is_empty() => (Some(legible.zone), None),
            faulty => (None, faulty),
        };
        files.push(ZoneFile { path, origin, zone, faulty });
        problems.extend(found);
    }
    Ok((files, problems))
}

fn zone_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // Editors keep half-written copies under names with a dot in front.
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && Path::new(&name).extension().is_some_and(|extension| extension == "toml") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
