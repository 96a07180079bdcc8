//! The agent's file: as written, and what comes of it.

use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::base::Name;
use crate::base::limits::MEMBER_ADDRESSES;
use crate::membership::MemberId;

use super::super::problems::{Findings, Problem, Problems};
use super::super::written::{Text, Texts};
use super::super::{read, values};
use super::{
    Access, Agent, Check, DRAIN_TIMEOUT, FALL, INITIAL_DELAY, INTERVAL, JOIN_TIMEOUT, LEASE, OnJoin, Place, RISE,
    Service, TIMEOUT, check_metadata, id_of_this_host, parse_address, parse_host_name, parse_metadata, parse_service,
    parse_url, parse_zone, read_key_file, read_token_file,
};

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
