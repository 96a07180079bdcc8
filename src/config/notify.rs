//! `[notify]`: the secondaries of a zone.

use std::net::{IpAddr, SocketAddr};

use toml::Spanned;

use crate::base::Name;

use super::problems::Findings;
use super::{Secondary, values, written};

/// Secondaries of a zone: far more than anyone runs, and few enough to turn to all of them at once.
const SECONDARIES: usize = 64;

/// Checks the table.
pub(super) fn check(
    findings: &mut Findings,
    written: Option<&Spanned<written::Notify>>,
    knows_key: &dyn Fn(&Name) -> bool,
) -> Vec<Secondary> {
    let Some(notify) = written else { return Vec::new() };
    let entries = notify.get_ref().secondaries.as_deref().unwrap_or_default();
    if let Some(entry) = entries.get(SECONDARIES) {
        let count = entries.len();
        let message = format!("`notify.secondaries` has {count} entries, and may have {SECONDARIES}: leave some out");
        findings.problem(&entry.span(), message);
    }
    let mut found: Vec<(Secondary, usize)> = Vec::new();
    for entry in entries.iter().take(SECONDARIES) {
        let Some(secondary) = read_secondary(findings, entry, knows_key) else { continue };
        if let Some((twin, line)) = found.iter().find(|(other, _)| other.address == secondary.address) {
            let message = format!("{} stands in line {line} already: leave one of the two out", twin.address);
            findings.problem(&entry.span(), message);
            continue;
        }
        found.push((secondary, findings.position(&entry.span()).line));
    }
    found.into_iter().map(|(secondary, _)| secondary).collect()
}

fn read_secondary(
    findings: &mut Findings,
    entry: &Spanned<written::Secondary>,
    knows_key: &dyn Fn(&Name) -> bool,
) -> Option<Secondary> {
    let before = findings.count();
    let (address, key) = match entry.get_ref() {
        written::Secondary::Address(text) => (Some((text, entry.span())), None),
        written::Secondary::Entry(written::SecondaryEntry { address, key }) => {
            (address.as_ref().map(|text| (text.get_ref(), text.span())), key.as_ref())
        }
    };
    let key = key.and_then(|text| values::key(findings, text, knows_key));
    let Some((text, span)) = address else {
        findings.problem(&entry.span(), "a secondary needs its `address`, such as \"192.0.2.53:53\"");
        return None;
    };
    let address = read_address(text).map_err(|message| findings.problem(&span, message)).ok()?;
    (findings.count() == before).then_some(Secondary { address, key })
}

/// An address that messages can be sent to, in the form in which they come from there.
pub(super) fn read_address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => format!("\"{text}\" lacks the port: write \"{}\"", SocketAddr::new(address, 53)),
        Err(_) => format!(
            "\"{text}\" is no IP address with a port: write one such as \"192.0.2.53:53\" or \"[2001:db8::53]:53\""
        ),
    })?;
    let ip = address.ip().to_canonical();
    if address.port() == 0 {
        return Err(format!("nothing listens on port 0: write \"{}\"", SocketAddr::new(ip, 53)));
    }
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(format!("{ip} is the address of no server: write the one that the secondary has"));
    }
    // An IPv6 address as it is: it may have a scope.
    Ok(if ip == address.ip() { address } else { SocketAddr::new(ip, address.port()) })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{assert_has, assert_one, zone, zone_problems};

    #[test]
    fn secondaries_have_an_address_with_a_port_and_a_known_key() {
        let (read, warnings) = zone(
            "[notify]\nsecondaries = [\"192.0.2.53:53\", { address = \"[fe80::1%2]:5300\", key = \"Agents.\" },\n\
             { address = \"[::ffff:192.0.2.53]:5353\" }]\n",
        );
        let addresses: Vec<String> = read.secondaries.iter().map(|other| other.address.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.53:53", "[fe80::1%2]:5300", "192.0.2.53:5353"]);
        assert_eq!(read.secondaries[1].key, Some("agents.".parse().unwrap()));
        assert!(warnings.is_empty(), "{warnings:#?}");
        assert!(zone("[notify]\nsecondaries = []\n").1.is_empty());

        let problems = zone_problems(
            "[notify]\nsecondaries = [\"192.0.2.53\", \"2001:db8::53\", \"ns2.example.net:53\",\n\
             \"192.0.2.53:0\", \"0.0.0.0:53\", \"[ff02::1]:53\", \"192.0.2.54:53\",\n\
             { address = \"[::ffff:192.0.2.54]:53\", key = \"agents.\" },\n\
             { key = \"nobody.\" },\n\
             { address = \"192.0.2.55:53\", key = \"agents\" }]\n",
        );
        assert_eq!(problems.len(), 10, "{problems:#?}");
        assert_has(&problems, "z.toml:3:16: ", &["lacks the port", "\"192.0.2.53:53\""]);
        assert_has(&problems, "z.toml:3:30: ", &["lacks the port", "\"[2001:db8::53]:53\""]);
        assert_has(&problems, "z.toml:3:46: ", &["no IP address with a port", "\"[2001:db8::53]:53\""]);
        assert_has(&problems, "z.toml:4:1: ", &["port 0", "\"192.0.2.53:53\""]);
        assert_has(&problems, "z.toml:4:17: ", &["0.0.0.0", "no server"]);
        assert_has(&problems, "z.toml:4:31: ", &["ff02::1", "no server"]);
        assert_has(&problems, "z.toml:5:1: ", &["192.0.2.54:53", "in line 4 already", "leave one"]);
        assert_has(&problems, "z.toml:6:1: ", &["needs its `address`"]);
        assert_has(&problems, "z.toml:6:9: ", &["no key nobody.", "[[key]]"]);
        assert_has(&problems, "z.toml:7:36: ", &["\"agents.\""]);
        let problems = zone_problems("[notify]\nsecondaries = [5, { adress = \"192.0.2.1:53\" }]\n");
        assert_has(&problems, "z.toml:3:16: ", &["`5`", "\"address:port\""]);
        assert_has(&problems, "z.toml:3:21: ", &["unknown key `adress`"]);
    }

    #[test]
    fn secondaries_are_bounded() {
        let list = |count: usize| {
            let entries: Vec<String> = (1..=count).map(|port| format!("\"192.0.2.53:{port}\"")).collect();
            format!("[notify]\nsecondaries = [{}]\n", entries.join(",\n"))
        };
        assert_eq!(zone(&list(64)).0.secondaries.len(), 64);
        assert_one(&zone_problems(&list(70)), "z.toml:67:1: ", &["70 entries", "64"]);
    }
}
