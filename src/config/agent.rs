//! What `livezone agent` is told: by its file (`--config`), or by its command line, which is put into the same form.
//!
//! The file has what all services share at its top, and a `[[service]]` table for each:
//!
//! ```toml
//! zone     = "svc.example.test."
//! server   = ["192.0.2.53:53", "192.0.2.54:53"]
//! key-file = "agents.key"
//!
//! [[service]]
//! name  = "_memcached._tcp"
//! port  = 11211
//! check = "memcached"
//! ```
//!
//! Errors are those of [`super`]: all of them at once, each with its line. Relative paths start from the file's folder.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::base::limits::{MEMBER_ADDRESSES, METADATA_OCTETS, METADATA_STRINGS};
use crate::base::{Name, RecordType};
use crate::dns::tsig::{Algorithm, Key};
use crate::membership::MemberId;
use crate::zone::layout::is_service_name;

use super::problems::{Findings, Problem, Problems};
use super::written::{Text, Texts};
use super::{key, read, values};

/// The lease that is asked for unless said otherwise.
pub const LEASE: u32 = 15;
/// How late the first registration may be sent (RFC 9664 §5.1: a random delay of up to 3 s).
pub const INITIAL_DELAY: Duration = Duration::from_secs(3);
/// How long the end may wait: below the 90 s that systemd gives a service to stop.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// From check to check, and how long one may take.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// How long a check may take: below the interval, so that checks don't pile up.
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// How long an on-join command may take.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Good checks in a row that make a service well, and bad ones that end it.
pub const RISE: u32 = 2;
/// See [`RISE`].
pub const FALL: u32 = 3;

/// Everything that one agent does.
#[derive(Clone, Debug)]
pub struct Agent {
    /// How it registers.
    pub access: Access,
    /// Whether with each server, or with one of them.
    pub all_servers: bool,
    /// Whom it asks for the serial while it drains, in place of the zone's NS records.
    pub name_servers: Vec<Place>,
    /// How late the first registration may be.
    pub initial_delay: Duration,
    /// How long the end may wait; zero: for nothing.
    pub drain_timeout: Duration,
    /// The services, one at least.
    pub services: Vec<Service>,
}

/// How an agent registers.
#[derive(Clone, Debug)]
pub enum Access {
    /// By DNS UPDATE.
    Dns {
        /// The servers, in the order in which they are tried.
        servers: Vec<Place>,
        /// What updates are signed with.
        key: Option<Key>,
    },
    /// Over HTTP.
    Http {
        /// The servers' addresses, without a final slash.
        urls: Vec<String>,
        /// The bearer token.
        token: Option<Token>,
        /// A file of certificates that the servers' ones are verified by, in place of the web's.
        ca: Option<PathBuf>,
    },
}

/// A secret that is not for the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// One service on this node.
#[derive(Clone, Debug)]
pub struct Service {
    /// The zone.
    pub zone: Name,
    /// The owner of the SRV record.
    pub service: Name,
    /// The `host-name` that the zone gives the service, if it gives it one.
    pub host_name: Option<String>,
    /// The member's id.
    pub id: MemberId,
    /// The port.
    pub port: u16,
    /// Its addresses; none: the one that reaches the server.
    pub addresses: Vec<IpAddr>,
    /// SRV priority.
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
    /// Key and value.
    pub metadata: Vec<(String, String)>,
    /// The lease that is asked for, in seconds.
    pub lease: u32,
    /// How the service is checked, if it is.
    pub check: Option<Check>,
    /// From check to check.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// Good checks in a row that make it well.
    pub rise: u32,
    /// Bad ones that end that.
    pub fall: u32,
    /// What runs before it joins.
    pub on_join: Option<OnJoin>,
    /// How long that may take.
    pub join_timeout: Duration,
}

/// A host, by address or by name, and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Place {
    /// Reads `HOST:PORT`; without a port where there is a default.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Place, String> {
        let wrong = || format!("\"{text}\" is no HOST:PORT, such as 192.0.2.53:53 or ns1.example.test:53");
        let plain = |host: &str, port| Place { host: host.to_owned(), port };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(plain(&address.ip().to_string(), address.port()));
        }
        if let (Ok(ip), Some(port)) = (text.parse::<IpAddr>(), default_port) {
            return Ok(plain(&ip.to_string(), port));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let fits = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        match port.or(default_port) {
            Some(port) if fits && port > 0 => Ok(plain(host, port)),
            _ => Err(wrong()),
        }
    }
}

/// How a service is checked. Without a place: at its registered address and port, where clients will look for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Check {
    /// It takes a connection.
    Tcp(Option<Place>),
    /// It answers memcached's `version`.
    Memcached(Option<Place>),
    /// It answers a GET with 2xx.
    Http {
        /// Where to.
        place: Place,
        /// Path and query.
        path: String,
    },
    /// `sh -c` ends with status 0.
    Exec(String),
}

impl Check {
    /// Reads a check as written.
    pub fn parse(text: &str) -> Result<Check, String> {
        match text.split_once(':') {
            None if text == "tcp" => Ok(Check::Tcp(None)),
            None if text == "memcached" => Ok(Check::Memcached(None)),
            Some(("tcp", place)) => Ok(Check::Tcp(Some(Place::parse(place, None)?))),
            Some(("memcached", place)) => Ok(Check::Memcached(Some(Place::parse(place, None)?))),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Check::Exec(command.to_owned())),
            Some(("http", rest)) if rest.starts_with("//") => {
                let rest = &rest[2..];
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
                    return Err(format!("\"{text}\" has a blank in its path: write %20"));
                }
                let path = if path.is_empty() { "/" } else { path };
                Ok(Check::Http { place: Place::parse(authority, Some(80))?, path: path.to_owned() })
            }
            _ => Err(format!(
                "\"{text}\" is no check: write tcp, memcached, http://HOST:PORT/PATH or exec:COMMAND; \
                 tcp:HOST:PORT and memcached:HOST:PORT look elsewhere than at the registered address"
            )),
        }
    }
}

/// What runs before a member joins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OnJoin {
    /// memcached's `flush_all`.
    Flush(Option<Place>),
    /// `sh -c`.
    Exec(String),
}

impl OnJoin {
    /// Reads it as written.
    pub fn parse(text: &str) -> Result<OnJoin, String> {
        match text.split_once(':') {
            None if text == "flush" => Ok(OnJoin::Flush(None)),
            Some(("flush", place)) => Ok(OnJoin::Flush(Some(Place::parse(place, None)?))),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(OnJoin::Exec(command.to_owned())),
            _ => {
                Err(format!("\"{text}\" is nothing to do before joining: write flush, flush:HOST:PORT or exec:COMMAND"))
            }
        }
    }
}

/// Reads the name of a zone; a missing final dot is added.
pub fn parse_zone(text: &str) -> Result<Name, String> {
    match Name::parse(text, Some(&Name::root())) {
        Ok(name) if name != Name::root() => Ok(name),
        Ok(_) => Err("the root is no zone of members".to_owned()),
        Err(error) => Err(format!("\"{text}\" is no zone: {error}")),
    }
}

/// Reads the name of a service in a zone.
pub fn parse_service(text: &str, zone: &Name) -> Result<Name, String> {
    let wrong = |why: String| format!("\"{text}\" is no service of {zone}: {why}");
    let name = Name::parse(text, Some(zone)).map_err(|error| wrong(error.to_string()))?;
    match is_service_name(&name, zone) {
        true => Ok(name),
        false => Err(wrong("write two labels with an underscore, such as _memcached._tcp".to_owned())),
    }
}

/// Reads `key=value`.
pub fn parse_metadata(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && text.len() <= 255 => Ok((key.to_owned(), value.to_owned())),
        Some((key, _)) if !key.is_empty() => Err(format!("metadata {key} is longer than 255 octets")),
        _ => Err(format!("\"{text}\" is no metadata: write key=value")),
    }
}

/// Metadata that a server will take.
pub fn check_metadata(metadata: &[(String, String)]) -> Result<(), String> {
    let octets: usize = metadata.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    if metadata.len() > METADATA_STRINGS || octets > METADATA_OCTETS {
        return Err(format!("metadata are at most {METADATA_STRINGS} entries and {METADATA_OCTETS} octets"));
    }
    Ok(())
}

/// This machine's name as an id: the first label of its host name, in lower case.
pub fn id_of_this_host() -> Result<MemberId, String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let label = name.split('.').next().unwrap_or_default();
    MemberId::new(label).map_err(|error| format!("this host's name, \"{name}\", gives no id ({error}): give an id"))
}

/// Reads the file of a TSIG key, as `livezone keygen` prints it.
pub fn read_key_file(path: &Path) -> Result<Key, Problem> {
    let text = read::read_text(path)?;
    let problem = |position, message: String| Problem { file: path.to_owned(), position, message };
    let file = key::parse_secret_file(&text)
        .map_err(|error| problem(Some(super::Position::of(&text, error.offset)), error.message))?;
    let name = file.name.ok_or_else(|| {
        problem(None, "has a secret without the key's name: `livezone keygen NAME` prints a whole key".to_owned())
    })?;
    Ok(Key::new(name, file.algorithm.unwrap_or(Algorithm::HmacSha256), &file.secret))
}

/// Reads a file with a bearer token alone in it.
pub fn read_token_file(path: &Path) -> Result<Token, Problem> {
    let text = read::read_text(path)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "holds no token: one line without blanks".to_owned();
        return Err(Problem { file: path.to_owned(), position: None, message });
    }
    Ok(Token(token.to_owned()))
}

/// Reads the address of an HTTP API.
pub fn parse_url(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match authority.map(|authority| authority.trim_end_matches('/')) {
        Some(authority) if !authority.is_empty() && !authority.contains(['/', '?', '#', ' ', '@']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("\"{text}\" is no address of an API, such as https://livezone.example.test:8053")),
    }
}

/// Warns of what a token would be sent in the clear to; loopback is no wire.
pub fn is_in_the_clear(url: &str) -> bool {
    let Some(authority) = url.strip_prefix("http://") else { return false };
    let host = Place::parse(authority, Some(80)).map(|place| place.host);
    !host.is_ok_and(|host| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

/// The file as written.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    zone: Text,
    server: Option<Spanned<Texts>>,
    key_file: Text,
    api: Option<Spanned<Texts>>,
    token_file: Text,
    api_ca: Text,
    all_servers: Option<bool>,
    name_server: Option<Spanned<Texts>>,
    initial_delay: Text,
    drain_timeout: Text,
    id: Text,
    address: Option<Spanned<Texts>>,
    lease: Text,
    #[serde(default)]
    service: Vec<Spanned<WrittenService>>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenService {
    name: Text,
    port: Option<Spanned<i64>>,
    zone: Text,
    id: Text,
    host_name: Text,
    address: Option<Spanned<Texts>>,
    priority: Option<Spanned<i64>>,
    weight: Option<Spanned<i64>>,
    meta: Option<Spanned<toml::Table>>,
    lease: Text,
    check: Text,
    interval: Text,
    timeout: Text,
    rise: Option<Spanned<i64>>,
    fall: Option<Spanned<i64>>,
    on_join: Text,
    join_timeout: Text,
}

/// Reads a configuration file of the agent.
pub fn load(path: &Path) -> Result<Agent, Problems> {
    let (agent, problems) = match read::read_text(path) {
        Err(problem) => (None, vec![problem]),
        Ok(text) => {
            let mut findings = Findings::new(path, text);
            let written: Option<Written> = read::parse(&mut findings);
            let agent = written.and_then(|written| check(&mut findings, &written));
            (agent, findings.finish().0)
        }
    };
    match (agent, Problems::new(problems)) {
        (Some(agent), None) => Ok(agent),
        (_, Some(problems)) => Err(problems),
        (None, None) => unreachable!("a configuration that is not read leaves a problem"),
    }
}

/// A value by its own reader; `None`, with what is wrong, if it has none or a wrong one.
fn value<T>(findings: &mut Findings, text: &Text, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    let text = text.as_ref()?;
    parse(text.get_ref()).map_err(|message| findings.problem(&text.span(), message)).ok()
}

fn list<T>(
    findings: &mut Findings,
    texts: Option<&Spanned<Texts>>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let Some(texts) = texts else { return Vec::new() };
    let read = texts.get_ref().0.iter().map(|text| parse(text));
    let read: Vec<Result<T, String>> = read.collect();
    read.into_iter().filter_map(|one| one.map_err(|message| findings.problem(&texts.span(), message)).ok()).collect()
}

fn check(findings: &mut Findings, written: &Written) -> Option<Agent> {
    let access = check_access(findings, written);
    if written.service.is_empty() {
        findings.problem_of_file("names no [[service]]: there is nothing to register");
    }
    let shared = Shared {
        zone: value(findings, &written.zone, parse_zone),
        id: value(findings, &written.id, |text| MemberId::new(text).map_err(|error| error.to_string())),
        addresses: list(findings, written.address.as_ref(), parse_address),
        lease: values::seconds(findings, "lease", &written.lease, LEASE, 1..=u32::MAX),
    };
    let services: Vec<Option<Service>> =
        written.service.iter().map(|service| check_service(findings, service, &shared)).collect();
    let mut seen: Vec<(Name, MemberId)> = Vec::new();
    for (service, entry) in services.iter().zip(&written.service) {
        let Some(service) = service else { continue };
        let key = (service.service.clone(), service.id.clone());
        if seen.contains(&key) {
            let message = format!("{} has {} already: give each member its own id", key.0, key.1);
            findings.problem(&entry.span(), message);
        }
        seen.push(key);
    }
    Some(Agent {
        access: access?,
        all_servers: written.all_servers.unwrap_or(false),
        name_servers: list(findings, written.name_server.as_ref(), |text| Place::parse(text, Some(53))),
        initial_delay: values::duration(findings, "initial-delay", &written.initial_delay, INITIAL_DELAY),
        drain_timeout: values::duration(findings, "drain-timeout", &written.drain_timeout, DRAIN_TIMEOUT),
        services: services.into_iter().flatten().collect(),
    })
}

/// Reads an address that others can reach.
pub fn parse_address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => Err(format!("{ip} is no address of a host")),
        Ok(ip) => Ok(ip),
        Err(_) => Err(format!("\"{text}\" is no IP address")),
    }
}

fn check_access(findings: &mut Findings, written: &Written) -> Option<Access> {
    let folder = findings.folder().to_owned();
    let file = |text: &Text, findings: &mut Findings| {
        text.as_ref().map(|text| (folder.join(text.get_ref()), text.span())).map(|(path, span)| {
            if !path.exists() {
                findings.problem(&span, format!("{} is not there", path.display()));
            }
            path
        })
    };
    let key_file = file(&written.key_file, findings);
    let token_file = file(&written.token_file, findings);
    let ca = file(&written.api_ca, findings);
    let elsewhere = |findings: &mut Findings, problem: Problem| findings.problem_elsewhere(problem);
    match (&written.server, &written.api) {
        (Some(server), None) => {
            let servers = list(findings, Some(server), |text| Place::parse(text, Some(53)));
            if let Some(text) = written.token_file.as_ref().or(written.api_ca.as_ref()) {
                findings.problem(&text.span(), "goes with `api`: updates are signed with a `key-file`");
            }
            let key = key_file.filter(|path| path.exists()).map(|path| read_key_file(&path)).transpose();
            let key = key.map_err(|problem| elsewhere(findings, problem)).ok()?;
            if servers.is_empty() {
                findings.problem(&server.span(), "names no server");
            }
            Some(Access::Dns { servers, key })
        }
        (None, Some(api)) => {
            let urls = list(findings, Some(api), parse_url);
            if let Some(text) = &written.key_file {
                findings.problem(&text.span(), "goes with `server`: over HTTP a `token-file` says who asks");
            }
            let token = token_file.filter(|path| path.exists()).map(|path| read_token_file(&path)).transpose();
            let token = token.map_err(|problem| elsewhere(findings, problem)).ok()?;
            if urls.is_empty() {
                findings.problem(&api.span(), "names no server");
            }
            Some(Access::Http { urls, token, ca })
        }
        (Some(_), Some(api)) => {
            findings.problem(&api.span(), "is another way than `server`: leave one out");
            None
        }
        (None, None) => {
            findings.problem_of_file("needs `server`, the livezone servers to register with, or `api`");
            None
        }
    }
}

/// What services have from the top of the file.
struct Shared {
    zone: Option<Name>,
    id: Option<MemberId>,
    addresses: Vec<IpAddr>,
    lease: u32,
}

fn check_service(findings: &mut Findings, entry: &Spanned<WrittenService>, shared: &Shared) -> Option<Service> {
    let before = findings.count();
    let written = entry.get_ref();
    let zone = value(findings, &written.zone, parse_zone).or_else(|| shared.zone.clone());
    if zone.is_none() && written.zone.is_none() {
        findings.problem(&entry.span(), "a service needs its `zone`, here or at the top of the file");
    }
    let service = match (&zone, &written.name) {
        (Some(zone), Some(_)) => value(findings, &written.name, |text| parse_service(text, zone)),
        (_, None) => {
            findings.problem(&entry.span(), "a service needs its `name`, such as \"_memcached._tcp\"");
            None
        }
        (None, Some(_)) => None,
    };
    if written.port.is_none() {
        findings.problem(&entry.span(), "a service needs its `port`");
    }
    let id = value(findings, &written.id, |text| MemberId::new(text).map_err(|error| error.to_string()));
    let id = id.or_else(|| shared.id.clone()).map_or_else(id_of_this_host, Ok);
    let id = id.map_err(|message| findings.problem(&entry.span(), message)).ok();
    let metadata = metadata(findings, written.meta.as_ref());
    let mut addresses = list(findings, written.address.as_ref(), parse_address);
    if addresses.is_empty() {
        addresses.clone_from(&shared.addresses);
    }
    if addresses.len() > MEMBER_ADDRESSES {
        findings.problem(&entry.span(), format!("a member has at most {MEMBER_ADDRESSES} addresses"));
    }
    let interval = values::duration(findings, "interval", &written.interval, INTERVAL);
    let service = Service {
        zone: zone?,
        service: service?,
        host_name: value(findings, &written.host_name, parse_host_name),
        id: id?,
        port: values::integer(findings, "port", written.port.as_ref(), 0, 1..=65_535),
        addresses,
        priority: values::integer(findings, "priority", written.priority.as_ref(), 0, 0..=65_535),
        weight: values::integer(findings, "weight", written.weight.as_ref(), 256, 0..=65_535),
        metadata,
        lease: values::seconds(findings, "lease", &written.lease, shared.lease, 1..=u32::MAX),
        check: value(findings, &written.check, Check::parse),
        interval,
        timeout: values::duration(findings, "timeout", &written.timeout, TIMEOUT),
        rise: values::integer(findings, "rise", written.rise.as_ref(), RISE, 1..=1000),
        fall: values::integer(findings, "fall", written.fall.as_ref(), FALL, 1..=1000),
        on_join: value(findings, &written.on_join, OnJoin::parse),
        join_timeout: values::duration(findings, "join-timeout", &written.join_timeout, JOIN_TIMEOUT),
    };
    if interval.is_zero() || service.timeout.is_zero() {
        findings.problem(&entry.span(), "`interval` and `timeout` can't be zero");
    }
    (findings.count() == before).then_some(service)
}

/// Reads the label that stands for a service's own.
pub fn parse_host_name(text: &str) -> Result<String, String> {
    MemberId::new(text).map(|label| label.to_string()).map_err(|_| {
        format!("\"{text}\" is no host name: write one label, as the zone's [[service]] has it in `host-name`")
    })
}

fn metadata(findings: &mut Findings, written: Option<&Spanned<toml::Table>>) -> Vec<(String, String)> {
    let Some(written) = written else { return Vec::new() };
    let text = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::String(value) => parse_metadata(&format!("{key}={value}")),
        _ => Err(format!("metadata {key} must be a string")),
    };
    let read: Result<Vec<_>, String> = written.get_ref().iter().map(text).collect();
    match read.and_then(|metadata| check_metadata(&metadata).map(|()| metadata)) {
        Ok(metadata) => metadata,
        Err(message) => {
            findings.problem(&written.span(), message);
            Vec::new()
        }
    }
}

/// The type of record that holds an address.
pub fn record_type(address: IpAddr) -> RecordType {
    if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }
}

#[cfg(test)]
mod tests;
