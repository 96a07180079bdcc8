//! From single values as written to checked ones. Each function reports what is wrong where it stands and returns a
//! stand-in, so that reading goes on; what was read counts only if nothing was reported.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use crate::base::{Name, NameError};

use super::problems::Findings;
use super::written::Text;

/// An absolute name; `None` when it is none.
pub(super) fn name(findings: &mut Findings, key: &str, written: &Spanned<String>) -> Option<Name> {
    let text = written.get_ref();
    let message = match text.parse() {
        Ok(name) => return Some(name),
        Err(_) if text.is_empty() => format!("`{key}` is empty: write a name with a final dot"),
        Err(NameError::Relative) => format!("`{key}` needs an absolute name: end it with a dot, \"{text}.\""),
        Err(error) => format!("`{key}` is no name: {error}"),
    };
    findings.problem(&written.span(), message);
    None
}

/// The name of a TSIG key; `None` when it is none, or of no key that there is.
pub(super) fn key(findings: &mut Findings, written: &Spanned<String>, knows: &dyn Fn(&Name) -> bool) -> Option<Name> {
    let name = name(findings, "key", written)?;
    if !knows(&name) {
        let message = format!("there is no key {name}: add a [[key]] entry to livezone.toml");
        findings.problem(&written.span(), message);
        return None;
    }
    Some(name)
}

/// A duration; the default when the key is absent or wrong.
pub(super) fn duration(findings: &mut Findings, key: &str, written: &Text, default: Duration) -> Duration {
    let Some(written) = written else { return default };
    humantime::parse_duration(written.get_ref()).unwrap_or_else(|error| {
        let text = written.get_ref();
        findings.problem(
            &written.span(),
            format!("`{key}` is no duration, \"{text}\": {error}; write one such as \"15s\", \"2m\" or \"1h 30m\""),
        );
        default
    })
}

/// A duration in whole seconds within a range; the default when the key is absent or wrong.
pub(super) fn seconds(
    findings: &mut Findings,
    key: &str,
    written: &Text,
    default: u32,
    range: RangeInclusive<u32>,
) -> u32 {
    let before = findings.count();
    let duration = duration(findings, key, written, Duration::from_secs(default.into()));
    let (Some(written), true) = (written, findings.count() == before) else { return default };
    let text = written.get_ref();
    if duration.subsec_nanos() != 0 {
        findings.problem(&written.span(), format!("`{key}` must be whole seconds, and is \"{text}\""));
        return default;
    }
    match u32::try_from(duration.as_secs()) {
        Ok(seconds) if range.contains(&seconds) => seconds,
        _ => {
            let (min, max) = range.into_inner();
            findings.problem(&written.span(), format!("`{key}` must be {min}s to {max}s, and is \"{text}\""));
            default
        }
    }
}

/// An integer within a range; the default when the key is absent or wrong.
pub(super) fn integer<T: TryFrom<i64>>(
    findings: &mut Findings,
    key: &str,
    written: Option<&Spanned<i64>>,
    default: T,
    range: RangeInclusive<i64>,
) -> T {
    let Some(written) = written else { return default };
    match T::try_from(*written.get_ref()) {
        Ok(value) if range.contains(written.get_ref()) => value,
        _ => {
            let (min, max) = range.into_inner();
            findings.problem(&written.span(), format!("`{key}` must be {min} to {max}, and is {written}"));
            default
        }
    }
}

/// A network; `None` when it is none.
pub(super) fn network(findings: &mut Findings, written: &Spanned<String>) -> Option<IpNet> {
    let text = written.get_ref();
    let message = match text.parse::<IpNet>() {
        Ok(network) if network.addr() == network.network() => return Some(network),
        // A slip in a rule about who may do what had better not widen it.
        Ok(network) => format!(
            "\"{text}\" has bits set beyond its prefix: write \"{}\", or \"{}\" for the one address",
            network.trunc(),
            IpNet::from(network.addr())
        ),
        Err(_) => match text.parse::<IpAddr>() {
            Ok(address) => format!("\"{text}\" lacks the prefix length: write \"{}\"", IpNet::from(address)),
            Err(_) => format!("\"{text}\" is no network: write one such as \"10.0.0.0/8\" or \"2001:db8::/32\""),
        },
    };
    findings.problem(&written.span(), message);
    None
}
