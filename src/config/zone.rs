//! A zone file: from as written to [`Zone`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use crate::base::limits::LABEL_OCTETS;
use crate::base::{Lease, Name, Ttl};
use crate::membership::access::{Globs, Scope, TransferAccess, TransferEntry, UpdateEntry};
use crate::membership::limits::LeaseLimits;
use crate::zone::{HostName, Layout, ServiceSettings, Settings};

use super::problems::Findings;
use super::server::without_effect;
use super::{Zone, notify, policy, secondary, values, written};

/// The longest time to gather changes for one commit: it is added to the time that a registrar waits for its answer.
const SETTLE: Duration = Duration::from_secs(1);

/// How long a drained member waits for secondaries by default: as long as one that works takes to refresh, twice.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Checks the whole. The zone counts only if the findings hold no problem. `None` without an origin, as nothing else
/// makes sense then.
pub(super) fn check(
    findings: &mut Findings,
    written: &written::Zone,
    knows_key: &dyn Fn(&Name) -> bool,
) -> Option<Zone> {
    let Some(text) = &written.origin else {
        findings.problem_of_file("the zone needs its name: add a line such as origin = \"svc.example.test.\"");
        return None;
    };
    let origin = values::name(findings, "origin", text)?;
    let following = secondary::check(findings, written, knows_key);
    let (ttl, leases) = check_times(findings, written);
    let settle = values::duration(findings, "settle", &written.settle, Duration::ZERO);
    if let Some(text) = written.settle.as_ref().filter(|_| settle > SETTLE) {
        findings.problem(&text.span(), format!("`settle` may be 1s at most, and is \"{}\"", text.get_ref()));
    }
    check_later(findings, written);
    let service_of = |text: &str| Name::parse(text, Some(&origin)).ok();
    let policies = Arc::new(policy::check(findings, written, leases, ttl, service_of));
    let negative_ttl = Ttl(values::seconds(findings, "negative-ttl", &written.negative_ttl, 2, 0..=Ttl::MAX.0));
    let settings = Settings {
        ttl,
        negative_ttl,
        soa_ttl: negative_ttl,
        primary: soa_name(findings, "soa.primary", &written.soa.primary, "ns1", &origin, &text.span()),
        contact: soa_name(findings, "soa.contact", &written.soa.contact, "hostmaster", &origin, &text.span()),
        refresh: values::seconds(findings, "soa.refresh", &written.soa.refresh, 30, 1..=Ttl::MAX.0),
        retry: values::seconds(findings, "soa.retry", &written.soa.retry, 5, 1..=Ttl::MAX.0),
        expire: values::seconds(findings, "soa.expire", &written.soa.expire, 3600, 1..=Ttl::MAX.0),
        services: check_services(findings, &written.service, &origin),
        origin,
    };
    check_slots(findings, &settings, &text.span());
    let update = match &written.access.update {
        None => UpdateEntry::loopback(),
        Some(entries) => {
            entries.get_ref().iter().filter_map(|entry| update_entry(findings, entry, knows_key)).collect()
        }
    };
    let query = written
        .access
        .query
        .as_ref()
        .map(|entries| entries.iter().filter_map(|entry| query_entry(findings, entry)).collect());
    let transfer = match &written.access.transfer {
        None => TransferAccess::default(),
        Some(entries) => {
            TransferAccess(entries.iter().filter_map(|entry| transfer_entry(findings, entry, knows_key)).collect())
        }
    };
    let zone = Zone {
        settings,
        static_file: written.static_file.as_ref().map(|file| findings.folder().join(file.get_ref())),
        settle,
        leases,
        policies,
        drain_timeout: values::duration(findings, "drain-timeout", &written.drain_timeout, DRAIN_TIMEOUT),
        peer_address: written.peer_address.as_ref().is_some_and(|asked| *asked.get_ref()),
        following,
        update,
        query,
        transfer,
        secondaries: notify::check(findings, written.notify.as_ref(), knows_key),
        source: findings.file().to_owned(),
        at: findings.position(&text.span()),
        warnings: Vec::new(),
    };
    Some(zone)
}

/// `ttl` and `[lease]`, which hang together: `ttl <= lease.min <= lease.default <= lease.max`.
fn check_times(findings: &mut Findings, written: &written::Zone) -> (Ttl, LeaseLimits) {
    let before = findings.count();
    let ttl = values::seconds(findings, "ttl", &written.ttl, 5, 1..=Ttl::MAX.0);
    let limits = read_leases(findings, "lease", &written.lease, LeaseLimits::default());
    if findings.count() == before {
        check_order(findings, "lease", (ttl, &written.ttl), &limits, &written.lease);
    }
    (Ttl(ttl), limits)
}

/// The `[lease]` table of a service, in place of the zone's.
pub(super) fn check_leases(
    findings: &mut Findings,
    key: &str,
    written: &written::Lease,
    zone: LeaseLimits,
    ttl: Ttl,
) -> LeaseLimits {
    let before = findings.count();
    let limits = read_leases(findings, key, written, zone);
    if findings.count() == before {
        check_order(findings, key, (ttl.0, &None), &limits, written);
    }
    limits
}

fn read_leases(findings: &mut Findings, key: &str, lease: &written::Lease, default: LeaseLimits) -> LeaseLimits {
    let mut seconds = |name: &str, text, default: Lease| {
        Lease(values::seconds(findings, &format!("{key}.{name}"), text, default.0, 1..=u32::MAX))
    };
    LeaseLimits {
        default: seconds("default", &lease.default, default.default),
        min: seconds("min", &lease.min, default.min),
        max: seconds("max", &lease.max, default.max),
        records: seconds("records", &lease.records, default.records),
        grace: values::duration(findings, &format!("{key}.grace"), &lease.grace, default.grace),
    }
}

fn check_order(
    findings: &mut Findings,
    key: &str,
    ttl: (u32, &written::Text),
    limits: &LeaseLimits,
    lease: &written::Lease,
) {
    let mut in_order = |low: (&str, u32, &written::Text), high: (&str, u32, &written::Text), why: &str| {
        if low.1 <= high.1 {
            return;
        }
        // At least one of them is written, since the defaults are in order.
        let Some(place) = high.2.as_ref().or(low.2.as_ref()) else { return };
        let value = |(key, seconds, text): (&str, u32, &written::Text)| match text {
            Some(_) => format!("`{key}` ({seconds}s)"),
            None => format!("`{key}` ({seconds}s, its default)"),
        };
        findings.problem(&place.span(), format!("{} may not exceed {}{why}", value(low), value(high)));
    };
    let [min_key, default_key, max_key] = ["min", "default", "max"].map(|name| format!("{key}.{name}"));
    let min = (min_key.as_str(), limits.min.0, &lease.min);
    let usual = (default_key.as_str(), limits.default.0, &lease.default);
    let why = format!(": caches would outlive a lease; lower `ttl` or raise `{min_key}`");
    in_order(("ttl", ttl.0, ttl.1), min, &why);
    in_order(min, usual, "");
    in_order(usual, (max_key.as_str(), limits.max.0, &lease.max), "");
}

/// A name of the SOA, or its default below the origin.
fn soa_name(
    findings: &mut Findings,
    key: &str,
    written: &written::Text,
    label: &str,
    origin: &Name,
    origin_span: &Range<usize>,
) -> Name {
    if let Some(text) = written {
        if let (Some((user, domain)), "soa.contact") = (text.get_ref().split_once('@'), key) {
            let message = format!(
                "`{key}` is written as a name, with a dot for the @: \"{}.{}.\"",
                user.replace('.', "\\\\."),
                domain.trim_end_matches('.')
            );
            findings.problem(&text.span(), message);
            return origin.clone();
        }
        return values::name(findings, key, text).unwrap_or_else(|| origin.clone());
    }
    origin.child(label.as_bytes()).unwrap_or_else(|_| {
        let message = format!("the origin is too long for the default of `{key}`, {label}.{origin}: set `{key}`");
        findings.problem(origin_span, message);
        origin.clone()
    })
}

fn check_services(
    findings: &mut Findings,
    written: &[Spanned<written::Service>],
    origin: &Name,
) -> Vec<ServiceSettings> {
    let mut services: Vec<ServiceSettings> = Vec::new();
    for entry in written {
        let service = entry.get_ref();
        check_later_of_service(findings, service);
        let Some(text) = &service.name else {
            findings.problem(&entry.span(), "a service needs its `name`, such as \"_memcached._tcp\"");
            continue;
        };
        let Some(name) = service_name(findings, text, origin) else { continue };
        if services.iter().any(|other| other.service == name) {
            findings.problem(&text.span(), format!("there is a service {name} already: merge the two entries"));
        }
        let host_name = match &service.host_name {
            None => HostName::Default,
            Some(text) => host_name(findings, text, &name),
        };
        if let (HostName::Label(label), Some(text)) = (&host_name, &service.host_name) {
            let domain = name.parent().and_then(|parent| parent.parent());
            // The shortest id at least has to fit in front of it.
            let host = domain.and_then(|domain| domain.child(label).ok());
            if label.len() <= LABEL_OCTETS && host.is_none_or(|host| host.child(b"i").is_err()) {
                let message = "`host-name` is too long below this origin: members' names would have more than 255 \
                               octets (RFC 1035 §2.3.4); choose a shorter one";
                findings.problem(&text.span(), message);
            }
        }
        services.push(ServiceSettings {
            service: name,
            host_name,
            dns_sd: service.dns_sd.unwrap_or(false),
            slots: service.slots.as_ref().is_some_and(|slots| *slots.get_ref()),
        });
    }
    services
}

/// Slots of two services at one host name would have the same names.
fn check_slots(findings: &mut Findings, settings: &Settings, at: &Range<usize>) {
    let slotted = settings.services.iter().filter(|entry| entry.slots);
    let hosts: Vec<(&Name, Layout)> =
        slotted.filter_map(|entry| Some((&entry.service, Layout::of(&entry.service, settings)?))).collect();
    for (number, (service, layout)) in hosts.iter().enumerate() {
        if let Some((other, _)) = hosts[..number].iter().find(|(_, other)| other.host == layout.host) {
            let message = format!(
                "{other} and {service} both have slots, whose names would be the same below {}: give one of them a \
                 `host-name` of its own",
                layout.host
            );
            findings.problem(at, message);
        }
    }
}

fn service_name(findings: &mut Findings, written: &Spanned<String>, origin: &Name) -> Option<Name> {
    let text = written.get_ref();
    let message = match Name::parse(text, Some(origin)) {
        Err(error) => format!("\"{text}\" is no name of a service: {error}"),
        Ok(name) if !name.is_within(origin) => {
            format!("\"{text}\" is not within {origin}: write it without a final dot, below the origin")
        }
        Ok(name) => {
            let below = name.labels().count() - origin.labels().count();
            let underscored = |label: &[u8]| label.len() > 1 && label[0] == b'_';
            if below >= 2 && name.labels().take(2).all(underscored) {
                return Some(name);
            }
            format!("\"{text}\" is no service: two labels with an underscore come first, as in \"_memcached._tcp\"")
        }
    };
    findings.problem(&written.span(), message);
    None
}

fn host_name(findings: &mut Findings, written: &Spanned<String>, service: &Name) -> HostName {
    let label = written.get_ref().to_ascii_lowercase().into_bytes();
    if label.is_empty() {
        return HostName::Unpublished;
    }
    let letters = label.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    if !letters || label.len() > LABEL_OCTETS || label.starts_with(b"-") || label.ends_with(b"-") {
        let message =
            "`host-name` is one label of letters, digits and hyphens, such as \"memcached\", or \"\" for none";
        findings.problem(&written.span(), message);
    }
    // The default spelled out is the default: nothing changes for the zone.
    match service.first_label() {
        [b'_', default @ ..] if default == label => HostName::Default,
        _ => HostName::Label(label.into()),
    }
}

fn update_entry(
    findings: &mut Findings,
    entry: &Spanned<written::UpdateEntry>,
    knows_key: &dyn Fn(&Name) -> bool,
) -> Option<UpdateEntry> {
    let before = findings.count();
    let written = entry.get_ref();
    let (key, network) = demand(findings, &entry.span(), &written.key, &written.network, knows_key);
    let members = match &written.members {
        None if key.is_some() => Scope::Own,
        None => Scope::Any,
        Some(text) => match text.get_ref().as_str() {
            "own" => Scope::Own,
            "any" => Scope::Any,
            other => {
                findings.problem(&text.span(), format!("`members` is \"own\" or \"any\", not \"{other}\""));
                Scope::Own
            }
        },
    };
    let globs = |written: &Option<Vec<String>>| written.clone().map(Globs);
    let entry = UpdateEntry {
        key,
        network,
        services: globs(&written.services).unwrap_or_else(Globs::all),
        ids: globs(&written.ids).unwrap_or_else(Globs::all),
        members,
        records: globs(&written.records).unwrap_or_default(),
    };
    (findings.count() == before).then_some(entry)
}

fn transfer_entry(
    findings: &mut Findings,
    entry: &Spanned<written::TransferEntry>,
    knows_key: &dyn Fn(&Name) -> bool,
) -> Option<TransferEntry> {
    let before = findings.count();
    let written::TransferEntry { key, network } = entry.get_ref();
    let (key, network) = demand(findings, &entry.span(), key, network, knows_key);
    (findings.count() == before).then_some(TransferEntry { key, network })
}

/// The key and the network that an entry demands, one of them at least.
fn demand(
    findings: &mut Findings,
    entry: &Range<usize>,
    key: &written::Text,
    network: &written::Text,
    knows_key: &dyn Fn(&Name) -> bool,
) -> (Option<Name>, Option<IpNet>) {
    if key.is_none() && network.is_none() {
        findings.problem(entry, "an entry names a `key`, a `network`, or both: it would admit everyone");
    }
    let key = key.as_ref().and_then(|text| values::key(findings, text, knows_key));
    let network = network.as_ref().and_then(|text| values::network(findings, text));
    (key, network)
}

fn query_entry(findings: &mut Findings, entry: &Spanned<written::QueryEntry>) -> Option<IpNet> {
    let written = entry.get_ref();
    if let Some(key) = &written.key {
        findings.problem(&key.span(), "`query` goes by `network` alone: leave the key out");
    }
    match &written.network {
        Some(text) => values::network(findings, text),
        None if written.key.is_some() => None,
        None => {
            findings.problem(&entry.span(), "an entry of `query` names a `network`, such as \"10.0.0.0/8\"");
            None
        }
    }
}

/// What is read and has no effect yet.
fn check_later(findings: &mut Findings, written: &written::Zone) {
    without_effect(findings, written.history.as_ref(), "history");
}

fn check_later_of_service(findings: &mut Findings, written: &written::Service) {
    without_effect(findings, written.afsdb.as_ref(), "afsdb");
}
