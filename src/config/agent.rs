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

mod file;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::limits::{METADATA_OCTETS, METADATA_STRINGS};
use crate::base::{Name, RecordType};
use crate::dns::tsig::{Algorithm, Key};
use crate::membership::MemberId;
use crate::zone::layout::is_service_name;

use super::problems::Problem;
use super::{key, read};

pub use file::load;

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

/// Reads a file with a bearer token: the first line that is neither empty nor a comment.
pub fn read_token_file(path: &Path) -> Result<Token, Problem> {
    let text = read::read_text(path)?;
    let problem = |message: &str| Problem { file: path.to_owned(), position: None, message: message.to_owned() };
    let token = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let token = token.ok_or_else(|| problem("holds no token; `livezone keygen --token NAME` prints such a file"))?;
    // What a header can say (RFC 6750 §2.1), so that the reason is not quoted with a secret in it.
    match token.bytes().all(|octet| octet.is_ascii_graphic()) {
        true => Ok(Token(token.to_owned())),
        false => Err(problem("holds other characters than a token is made of; a token stands on a line of its own")),
    }
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

/// Reads an address that others can reach.
pub fn parse_address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => Err(format!("{ip} is no address of a host")),
        Ok(ip) => Ok(ip),
        Err(_) => Err(format!("\"{text}\" is no IP address")),
    }
}

/// Reads the label that stands for a service's own.
pub fn parse_host_name(text: &str) -> Result<String, String> {
    MemberId::new(text).map(|label| label.to_string()).map_err(|_| {
        format!("\"{text}\" is no host name: write one label, as the zone's [[service]] has it in `host-name`")
    })
}

/// The type of record that holds an address.
pub fn record_type(address: IpAddr) -> RecordType {
    if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }
}
