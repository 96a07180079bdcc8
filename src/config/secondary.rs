//! A zone that is a copy of another server's: `primary` and `key`, and what makes no sense beside them.

use std::net::SocketAddr;
use std::ops::Range;

use crate::base::Name;

use super::problems::Findings;
use super::{Following, notify, values, written};

/// Primaries of a zone: more than anyone has, and few enough to ask one after the other.
const PRIMARIES: usize = 16;

/// Checks `primary` and `key`; none for a zone of our own.
pub(super) fn check(
    findings: &mut Findings,
    written: &written::Zone,
    knows_key: &dyn Fn(&Name) -> bool,
) -> Option<Following> {
    let Some(entries) = &written.primary else {
        if let Some(key) = &written.key {
            findings.problem(&key.span(), "`key` goes with `primary`, and there is none: leave it out");
        }
        return None;
    };
    let list = entries.get_ref();
    if list.is_empty() || list.len() > PRIMARIES {
        let count = list.len();
        let message = format!("`primary` lists 1 to {PRIMARIES} servers, such as \"192.0.2.1:53\", and here {count}");
        findings.problem(&entries.span(), message);
    }
    let mut primaries: Vec<SocketAddr> = Vec::new();
    for entry in list.iter().take(PRIMARIES) {
        match notify::read_address(entry.get_ref()) {
            Ok(address) if primaries.contains(&address) => {
                findings.problem(&entry.span(), format!("{address} stands here twice: leave one of the two out"));
            }
            Ok(address) => primaries.push(address),
            Err(message) => findings.problem(&entry.span(), message),
        }
    }
    for (key, span) in foreign(written) {
        let message = format!("`{key}` has no place in a zone with `primary`, which has all from there: leave it out");
        findings.problem(&span, message);
    }
    let key = written.key.as_ref().and_then(|text| values::key(findings, text, knows_key));
    Some(Following { primaries, key })
}

/// What the primary decides.
fn foreign(written: &written::Zone) -> Vec<(&'static str, Range<usize>)> {
    let written::Zone { soa, lease, access, .. } = written;
    let texts = [
        ("ttl", &written.ttl),
        ("negative-ttl", &written.negative_ttl),
        ("settle", &written.settle),
        ("drain-timeout", &written.drain_timeout),
        ("static", &written.static_file),
        ("soa.primary", &soa.primary),
        ("soa.contact", &soa.contact),
        ("soa.refresh", &soa.refresh),
        ("soa.retry", &soa.retry),
        ("soa.expire", &soa.expire),
        ("lease.default", &lease.default),
        ("lease.min", &lease.min),
        ("lease.max", &lease.max),
        ("lease.grace", &lease.grace),
        ("lease.records", &lease.records),
    ];
    let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?.span())));
    let others = [
        ("peer-address", written.peer_address.as_ref().map(toml::Spanned::span)),
        ("hold", written.hold.as_ref().map(toml::Spanned::span)),
        ("damping", written.damping.as_ref().map(toml::Spanned::span)),
        ("history", written.history.as_ref().map(toml::Spanned::span)),
        ("service", written.service.first().map(toml::Spanned::span)),
        ("access.update", access.update.as_ref().map(toml::Spanned::span)),
    ];
    texts.chain(others.into_iter().filter_map(|(key, span)| Some((key, span?)))).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{assert_has, assert_one, zone, zone_problems};

    #[test]
    fn a_secondary_zone_names_its_primaries_and_may_name_a_key() {
        let (zone, warnings) = zone("primary = [\"192.0.2.1:53\", \"[2001:db8::1]:5300\"]\nkey = \"agents.\"\n");
        let following = zone.following.unwrap();
        assert_eq!(
            following.primaries.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.1:53", "[2001:db8::1]:5300"]
        );
        assert_eq!(following.key, Some("agents.".parse().unwrap()));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn what_the_primary_decides_is_a_problem_beside_it() {
        let rest = "static = \"z.zone\"\nttl = \"5s\"\npeer-address = true\n[soa]\nrefresh = \"1s\"\n[lease]\nmin = \"5s\"\n\
                    [access]\nupdate = []\ntransfer = []\nquery = []\n[notify]\nsecondaries = [\"192.0.2.53:53\"]\n\
                    [[service]]\nname = \"_x._tcp\"\n";
        let problems = zone_problems(&format!("primary = [\"192.0.2.1:53\"]\n{rest}"));
        for key in ["static", "ttl", "peer-address", "soa.refresh", "lease.min", "access.update", "service"] {
            assert_has(&problems, "z.toml:", &[&format!("`{key}` has no place"), "leave it out"]);
        }
        assert_eq!(problems.len(), 7, "{problems:?}");
    }

    #[test]
    fn primaries_are_addresses_and_the_key_goes_with_them() {
        assert_one(&zone_problems("primary = []\n"), "z.toml:2:11: ", &["1 to 16", "192.0.2.1:53"]);
        assert_one(&zone_problems("primary = [\"192.0.2.1\"]\n"), "z.toml:2:12: ", &["lacks the port"]);
        let twice = zone_problems("primary = [\"192.0.2.1:53\", \"192.0.2.1:53\"]\n");
        assert_one(&twice, "z.toml:2:28: ", &["twice"]);
        let nobody = zone_problems("primary = [\"192.0.2.1:53\"]\nkey = \"nobody.\"\n");
        assert_one(&nobody, "z.toml:3:7: ", &["no key nobody."]);
        assert_one(&zone_problems("key = \"agents.\"\n"), "z.toml:2:7: ", &["`primary`", "leave it out"]);
    }
}
