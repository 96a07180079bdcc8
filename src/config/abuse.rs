//! What of `[dns]` keeps forgers from using the server against others: cookies, and the rate of answers.

use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;

use crate::dns::cookie::{SECRETS, Secret};
use crate::dns::rate::{EXEMPT, SLIP_LIMIT, Settings};

use super::problems::{Findings, Position, Problem};
use super::read::read_text;
use super::{values, written};

/// From none to more than a machine sends.
const RATES: RangeInclusive<i64> = 0..=10_000_000;
/// From a quarter of all to one address.
const IPV4_PREFIXES: RangeInclusive<i64> = 1..=32;
/// Networks of more than 64 bits are one host's.
const IPV6_PREFIXES: RangeInclusive<i64> = 1..=64;

/// The rate of answers.
pub(super) fn check_rrl(findings: &mut Findings, written: &written::Rrl) -> Settings {
    let default = Settings::default();
    let (rate, slip) = (written.rate.as_ref(), written.slip.as_ref());
    let (ipv4, ipv6) = (written.ipv4_prefix.as_ref(), written.ipv6_prefix.as_ref());
    let mut exempt = default.exempt;
    if let Some(networks) = &written.exempt {
        if networks.get_ref().len() > EXEMPT {
            let message = format!("`exempt` has {} networks: at most {EXEMPT} can be", networks.get_ref().len());
            findings.problem(&networks.span(), message);
        }
        exempt = networks.get_ref().iter().filter_map(|network| values::network(findings, network)).collect();
    }
    Settings {
        per_second: values::integer(findings, "rate", rate, default.per_second, RATES),
        slip: values::integer(findings, "slip", slip, default.slip, 0..=SLIP_LIMIT.into()),
        ipv4_prefix: values::integer(findings, "ipv4-prefix", ipv4, default.ipv4_prefix, IPV4_PREFIXES),
        ipv6_prefix: values::integer(findings, "ipv6-prefix", ipv6, default.ipv6_prefix, IPV6_PREFIXES),
        exempt,
    }
}

/// The secrets of cookies, the one that makes them first; none if the server is to have a random one.
pub(super) fn check_secrets(findings: &mut Findings, written: &written::Dns, folder: &Path) -> Vec<Secret> {
    let (secrets, file) = (&written.cookie_secret, &written.cookie_secret_file);
    if let (Some(secrets), Some(_)) = (secrets, file) {
        let message = "`cookie-secret` and `cookie-secret-file` are two places for one thing: leave one out";
        findings.problem(&secrets.span(), message);
    }
    if let Some(part) = secrets.as_ref().map(Spanned::span).or(file.as_ref().map(Spanned::span))
        && written.cookies == Some(false)
    {
        findings.warn(&part, "the secret of cookies has no effect with `cookies = false`");
    }
    if let Some(secrets) = secrets {
        let texts = secrets.get_ref().0.iter().map(String::as_str);
        return read_secrets(texts).unwrap_or_else(|message| {
            findings.problem(&secrets.span(), format!("`cookie-secret`: {message}"));
            Vec::new()
        });
    }
    let Some(file) = file else { return Vec::new() };
    let path = folder.join(file.get_ref());
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(problem) if problem.position.is_none() => {
            let message = format!("the file of the cookie secret, {}, {}", path.display(), problem.message);
            findings.problem(&file.span(), message);
            return Vec::new();
        }
        Err(problem) => {
            findings.problem_elsewhere(problem);
            return Vec::new();
        }
    };
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    read_secrets(lines.filter(|line| !line.is_empty())).unwrap_or_else(|message| {
        findings.problem_elsewhere(Problem { file: path, position: Some(Position::of(&text, 0)), message });
        Vec::new()
    })
}

/// Reads secrets of 32 hexadecimal digits each, as BIND, Knot and NSD have them. What is wrong is said without a word of them.
fn read_secrets<'t>(texts: impl Iterator<Item = &'t str>) -> Result<Vec<Secret>, String> {
    let secrets: Vec<Secret> = texts
        .map(read_secret)
        .collect::<Option<_>>()
        .ok_or_else(|| "a secret is 32 hexadecimal digits, as `openssl rand -hex 16` prints them".to_owned())?;
    match secrets.len() {
        0 => Err("there is no secret: write one of 32 hexadecimal digits, or leave the key out".to_owned()),
        1..=SECRETS => Ok(secrets),
        count => Err(format!("there are {count} secrets: at most {SECRETS} can be, the one that makes cookies first")),
    }
}

fn read_secret(text: &str) -> Option<Secret> {
    let digits: [u8; 32] = text.as_bytes().try_into().ok()?;
    let mut secret = [0; 16];
    for (octet, pair) in secret.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
        *octet = high? << 4 | low?;
    }
    Some(Secret(secret))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ipnet::IpNet;
    use tempfile::TempDir;

    use super::*;
    use crate::config::load;
    use crate::config::tests::{assert_has, assert_one, server, server_problems};

    #[test]
    fn cookies_and_the_rate_of_answers_are_read_and_have_defaults() {
        let (config, warnings) = server("");
        assert_eq!((config.dns.cookies, config.dns.cookie_secrets, warnings), (true, Vec::new(), Vec::new()));
        let loopback: [IpNet; 2] = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        assert_eq!((config.dns.rrl.per_second, config.dns.rrl.exempt), (1000, loopback.to_vec()));
        let (config, warnings) = server(
            "[dns]\ncookie-secret = \"e5e973e5a6b2a43f48e7dc849e37bfcf\"\n[dns.rrl]\nrate = 0\nslip = 3\nipv4-prefix = 32\n\
             ipv6-prefix = 64\nexempt = [\"10.0.0.0/8\"]\n",
        );
        let [Secret(secret)] = &config.dns.cookie_secrets[..] else { panic!("{:?}", config.dns) };
        assert_eq!((secret[..3] == [0xe5, 0xe9, 0x73], secret[15], warnings), (true, 0xcf, Vec::new()));
        let exempt = vec!["10.0.0.0/8".parse().unwrap()];
        let expected = Settings { per_second: 0, slip: 3, ipv4_prefix: 32, ipv6_prefix: 64, exempt };
        assert_eq!(config.dns.rrl, expected);
        let (config, _) = server("[dns]\ncookies = false\nrrl = { exempt = [] }\n");
        assert_eq!((config.dns.cookies, config.dns.rrl), (false, Settings { exempt: vec![], ..Default::default() }));
        let none = "00000000000000000000000000000000";
        let (config, _) =
            server(&format!("[dns]\ncookie-secret = [\"{}\", \"{none}\"]\n", none.replace('0', "aB")[..32].to_owned()));
        assert_eq!(config.dns.cookie_secrets, [Secret([0xab; 16]), Secret([0; 16])]);
        let (_, warnings) = server(&format!("[dns]\ncookies = false\ncookie-secret = \"{none}\"\n"));
        assert_has(&warnings, "l.toml:3: ", &["no effect with `cookies = false`"]);
    }

    #[test]
    fn a_wrong_secret_of_cookies_is_told_without_the_secret() {
        let good = "0123456789abcdef0123456789abcdef";
        let five = format!("[\"{}\"]", [good; 5].join("\", \""));
        for (written, words) in [
            ("\"0123456789abcdef0123456789abcdeg\"", "32 hexadecimal digits"),
            ("\"0123456789abcdef\"", "openssl rand -hex 16"),
            ("[]", "there is no secret"),
            (&five, "at most 4"),
        ] {
            let problems = server_problems(&format!("[dns]\ncookie-secret = {written}\n"));
            assert_one(&problems, "l.toml:2:17: ", &["`cookie-secret`", words]);
            assert!(!problems[0].contains("abcdef"), "{problems:?}");
        }
        let both = format!("[dns]\ncookie-secret = \"{good}\"\ncookie-secret-file = \"f\"\n");
        assert_one(&server_problems(&both), "l.toml:2:17: ", &["leave one out"]);
        let problems = server_problems("[dns]\ncookie-secret-file = \"nothing-here\"\n");
        assert_one(&problems, "l.toml:2:22: ", &["nothing-here", "can't be read"]);
    }

    #[test]
    fn a_file_of_cookie_secrets_has_one_a_line_and_is_watched() {
        let folder = TempDir::new().unwrap();
        let (toml, file) = (folder.path().join("l.toml"), folder.path().join("cookies"));
        fs::write(&toml, "[dns]\ncookie-secret-file = \"cookies\"\n").unwrap();
        fs::write(&file, "# new\n  01010101010101010101010101010101 # since May\n\n02020202020202020202020202020202\n")
            .unwrap();
        let config = load(Some(&toml)).unwrap();
        assert_eq!(config.dns.cookie_secrets, [Secret([1; 16]), Secret([2; 16])]);
        assert_eq!(config.files, std::slice::from_ref(&file));
        for (text, words) in [("# nothing\n", "there is no secret"), ("0101\n", "32 hexadecimal digits")] {
            fs::write(&file, text).unwrap();
            let problems = load(Some(&toml)).unwrap_err().to_string();
            assert!(problems.contains("cookies") && problems.contains(words), "{problems}");
        }
    }

    #[test]
    fn rates_of_answers_have_ranges() {
        for (line, words) in [
            ("rate = -1", "`rate` must be 0 to 10000000"),
            ("slip = 11", "`slip` must be 0 to 10"),
            ("ipv4-prefix = 0", "`ipv4-prefix` must be 1 to 32"),
            ("ipv6-prefix = 65", "`ipv6-prefix` must be 1 to 64"),
            ("exempt = [\"10.0.0.1/8\"]", "bits set beyond its prefix"),
        ] {
            assert_one(&server_problems(&format!("[dns.rrl]\n{line}\n")), "l.toml:2:", &[words]);
        }
        let many = (0..65).map(|number| format!("\"10.0.{number}.0/24\"")).collect::<Vec<_>>().join(", ");
        assert_one(&server_problems(&format!("[dns.rrl]\nexempt = [{many}]\n")), "l.toml:2:", &["at most 64"]);
        assert_one(&server_problems("[dns.rrl]\nrates = 5\n"), "l.toml:2:1: ", &["rates"]);
    }
}
