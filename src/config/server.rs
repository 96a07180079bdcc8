//! `livezone.toml`: from as written to [`Config`].

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use crate::base::limits::UDP_OCTETS;
use crate::dns::identity::IDENTITY_OCTETS;
use crate::membership::Quotas;

use super::key::{KeyNames, read_keys};
use super::problems::Findings;
use super::{Config, Dns, Http, Limits, abuse, http, tls, token, values, written};

/// Answers of 512 octets are what every resolver takes without asking (RFC 1035 §4.2.1); above 4096 nothing but
/// fragments is to be won.
const UDP_SIZES: RangeInclusive<i64> = 512..=4096;
/// More threads than any machine has cores; a slip had better not start a million.
const THREADS: RangeInclusive<i64> = 0..=1024;
/// From one to what the descriptors of a process may at most be set to.
const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;
/// Below, a round trip is cut off; above, the keepalive option can't say it (RFC 7828 §3.1).
const IDLE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// From one to what a table of members can hold.
const LEASES: RangeInclusive<i64> = 1..=4_194_304;
/// From one to what takes about a gigabyte even if nobody is in them.
const SERVICES: RangeInclusive<i64> = 1..=1_000_000;
/// From one to more than any source can send.
const UPDATE_RATES: RangeInclusive<i64> = 1..=1_000_000;

/// Checks the whole. The configuration counts only if the findings hold no problem; the names are those of all keys
/// that were legible, either way.
pub(super) fn check(findings: &mut Findings, written: &written::Server, folder: &Path) -> (Config, KeyNames) {
    let mut names = KeyNames::new();
    let keys = read_keys(findings, &written.key, folder, &mut names);
    let dns = written.dns.as_ref().map_or_else(Dns::default, |dns| check_dns(findings, dns, folder));
    if let Some(store) = &written.store {
        check_store(findings, store);
    }
    let tokens = token::check(findings, &written.token);
    let has_tokens = !written.token.is_empty();
    let http =
        written.http.as_ref().map_or_else(Http::default, |written| http::check(findings, written, has_tokens, folder));
    without_effect(findings, written.cluster.as_ref(), "cluster");
    without_effect(findings, written.memcached_config.first(), "memcached-config");
    let tls = tls::check(findings, written, folder);
    let config = Config {
        data_dir: folder.join(written.data_dir.as_deref().unwrap_or("data")),
        zones_dir: folder.join(written.zones_dir.as_deref().unwrap_or("zones")),
        dns,
        tls,
        http,
        tokens,
        limits: written.limits.as_ref().map_or_else(Limits::default, |limits| check_limits(findings, limits)),
        keys,
        files: {
            let files = written.key.iter().filter_map(|key| key.get_ref().secret_file.as_ref());
            let cookie_file = written.dns.as_ref().and_then(|dns| dns.cookie_secret_file.as_ref());
            let of_http = written.http.iter().flat_map(|http| [&http.certificate, &http.key]).flatten();
            files.chain(cookie_file).chain(of_http).map(|file| folder.join(file.get_ref())).collect()
        },
        warnings: Vec::new(),
    };
    (config, names)
}

/// Warns about a part whose feature this version does not have.
pub(super) fn without_effect<T>(findings: &mut Findings, part: Option<&Spanned<T>>, key: &str) {
    if let Some(part) = part {
        findings.without_effect(&part.span(), key);
    }
}

fn check_dns(findings: &mut Findings, written: &written::Dns, folder: &Path) -> Dns {
    let default = Dns::default();
    without_effect(findings, written.https_listen.as_ref(), "dns.https-listen");
    without_effect(findings, written.quic_listen.as_ref(), "dns.quic-listen");
    Dns {
        listen: match &written.listen {
            Some(listen) => check_listen(findings, listen),
            None => default.listen,
        },
        threads: {
            let threads = values::integer(findings, "threads", written.threads.as_ref(), 0u16, THREADS);
            usize::from(threads)
        },
        udp_size: values::integer(findings, "udp-size", written.udp_size.as_ref(), UDP_OCTETS, UDP_SIZES),
        update_rate: values::integer(
            findings,
            "update-rate",
            written.update_rate.as_ref(),
            default.update_rate,
            UPDATE_RATES,
        ),
        nsid: identity(findings, "nsid", written.nsid.as_ref()),
        version: identity(findings, "version", written.version.as_ref()),
        cookies: written.cookies.unwrap_or(default.cookies),
        cookie_secrets: abuse::check_secrets(findings, written, folder),
        rrl: written.rrl.as_ref().map_or(default.rrl, |rrl| abuse::check_rrl(findings, rrl)),
        rotate: written.rotate.as_ref().is_some_and(|rotate| *rotate.get_ref()),
    }
}

/// What is told to whoever asks: it has to fit beside an answer.
fn identity(findings: &mut Findings, key: &str, written: Option<&Spanned<String>>) -> Option<String> {
    let written = written?;
    if written.get_ref().len() > IDENTITY_OCTETS {
        let text = format!("`{key}` has {} octets: at most {IDENTITY_OCTETS} can be told", written.get_ref().len());
        findings.problem(&written.span(), text);
    }
    Some(written.get_ref().clone())
}

fn check_limits(findings: &mut Findings, written: &written::Limits) -> Limits {
    let Limits { mut tcp, .. } = Limits::default();
    let (total, share) = (written.tcp_connections.as_ref(), written.tcp_connections_per_client.as_ref());
    tcp.connections = count(findings, "tcp-connections", total, tcp.connections, CONNECTIONS);
    let per_client = tcp.per_client.min(tcp.connections);
    tcp.per_client = count(findings, "tcp-connections-per-client", share, per_client, CONNECTIONS);
    let idle = values::duration(findings, "tcp-idle", &written.tcp_idle, tcp.idle);
    match &written.tcp_idle {
        Some(written) if !IDLE.contains(&idle) => {
            let text = written.get_ref();
            findings.problem(&written.span(), format!("`tcp-idle` must be 100ms to 1h, and is \"{text}\""));
        }
        _ => tcp.idle = idle,
    }
    Limits { tcp, quotas: check_quotas(findings, written) }
}

/// How much a zone takes, and how much of that one owner may have; by default no more than there is.
fn check_quotas(findings: &mut Findings, written: &written::Limits) -> Quotas {
    let default = Quotas::default();
    let mut pair = |[zone_key, owner_key]: [&str; 2],
                    [zone_text, owner_text]: [&Option<Spanned<i64>>; 2],
                    [zone, owner]: [usize; 2],
                    range: RangeInclusive<i64>| {
        let zone = count(findings, zone_key, zone_text.as_ref(), zone, range.clone());
        let before = findings.count();
        let owner = count(findings, owner_key, owner_text.as_ref(), owner.min(zone), range);
        if let Some(text) = owner_text.as_ref().filter(|_| findings.count() == before && owner > zone) {
            let message = format!(
                "`{owner_key}` ({owner}) may not exceed `{zone_key}` ({zone}): one owner can't have more than there is"
            );
            findings.problem(&text.span(), message);
        }
        [zone, owner]
    };
    let [zone_leases, owner_leases] = pair(
        ["zone-leases", "owner-leases"],
        [&written.zone_leases, &written.owner_leases],
        [default.zone_leases, default.owner_leases],
        LEASES,
    );
    let [zone_services, owner_services] = pair(
        ["zone-services", "owner-services"],
        [&written.zone_services, &written.owner_services],
        [default.zone_services, default.owner_services],
        SERVICES,
    );
    Quotas { zone_leases, zone_services, owner_leases, owner_services }
}

fn count(
    findings: &mut Findings,
    key: &str,
    written: Option<&Spanned<i64>>,
    default: usize,
    range: RangeInclusive<i64>,
) -> usize {
    let default = u32::try_from(default).expect("a default of ours");
    let count: u32 = values::integer(findings, key, written, default, range);
    usize::try_from(count).expect("32 bits")
}

fn check_listen(findings: &mut Findings, written: &Spanned<Vec<Spanned<String>>>) -> Vec<SocketAddr> {
    let listen = read_listen(findings, "listen", written);
    if written.get_ref().is_empty() {
        findings.problem(&written.span(), "`listen` is empty: name at least one address, such as \"127.0.0.1:5353\"");
    }
    listen
}

/// Addresses with ports, all different.
pub(super) fn read_listen(
    findings: &mut Findings,
    key: &str,
    written: &Spanned<Vec<Spanned<String>>>,
) -> Vec<SocketAddr> {
    let mut listen = Vec::new();
    for entry in written.get_ref() {
        match entry.get_ref().parse::<SocketAddr>() {
            // Port 0 is any free port, so two of them differ.
            Ok(address) if address.port() != 0 && listen.contains(&address) => {
                findings.problem(&entry.span(), format!("{address} stands in `{key}` twice: leave one out"));
            }
            Ok(address) => listen.push(address),
            Err(_) => findings.problem(
                &entry.span(),
                format!(
                    "\"{}\" is no IP address with a port: write one such as \"127.0.0.1:5353\" or \"[::1]:5353\"",
                    entry.get_ref()
                ),
            ),
        }
    }
    listen
}

fn check_store(findings: &mut Findings, written: &written::Store) {
    match &written.kind {
        None => {}
        Some(kind) => match kind.get_ref().as_str() {
            "embedded" => {}
            // Its endpoints and prefix go with it: one problem says it all.
            "etcd" => {
                return findings
                    .problem(&kind.span(), "`store.kind` \"etcd\" is not available in this version: use \"embedded\"");
            }
            other => {
                findings.problem(&kind.span(), format!("\"{other}\" is no kind of store: write \"embedded\""));
            }
        },
    }
    without_effect(findings, written.endpoints.as_ref(), "store.endpoints");
    without_effect(findings, written.prefix.as_ref(), "store.prefix");
}
