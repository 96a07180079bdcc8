//! The field's own programs, and what they print.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

/// An answer as dig or kdig print it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Printed {
    pub(crate) status: String,
    /// Lower case: `qr`, `aa`, `tc`, `rd`, `ra`.
    pub(crate) flags: Vec<String>,
    pub(crate) answers: Vec<String>,
    pub(crate) authority: Vec<String>,
    pub(crate) additional: Vec<String>,
    pub(crate) text: String,
}

impl Printed {
    pub(crate) fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }
}

/// Runs a program to its end.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs what the tests need"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs dig against a server.
pub(crate) fn dig(server: SocketAddr, arguments: &[&str]) -> Printed {
    look_up("dig", server, arguments)
}

/// Runs kdig against a server.
pub(crate) fn kdig(server: SocketAddr, arguments: &[&str]) -> Printed {
    look_up("kdig", server, arguments)
}

fn look_up(program: &str, server: SocketAddr, arguments: &[&str]) -> Printed {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let output = run(program, &[&[at.as_str(), "-p", &port], arguments].concat(), "");
    let printed = read(&text(&output));
    assert!(!printed.status.is_empty(), "{program} {arguments:?} got no answer:\n{}", printed.text);
    printed
}

/// Both print sections under `;; … SECTION:`, with comments behind semicolons.
fn read(text: &str) -> Printed {
    let mut printed = Printed { text: text.to_owned(), ..Printed::default() };
    let mut section = String::new();
    for line in text.lines() {
        let lower = line.to_ascii_lowercase();
        if let Some((_, rest)) = line.split_once("status: ") {
            printed.status = rest.split([',', ';']).next().unwrap().to_owned();
        } else if let Some(rest) = lower.strip_prefix(";; flags: ") {
            let flags = rest.split(';').next().unwrap();
            printed.flags = flags.split_whitespace().map(str::to_owned).collect();
        } else if line.starts_with(";; ") && line.ends_with(" SECTION:") {
            section = line.trim_start_matches(";; ").trim_end_matches(" SECTION:").to_owned();
        } else if line.is_empty() {
            section.clear();
        } else if !line.starts_with(';') {
            let record = line.split_whitespace().collect::<Vec<_>>().join(" ");
            match section.as_str() {
                "ANSWER" => printed.answers.push(record),
                "AUTHORITY" => printed.authority.push(record),
                "ADDITIONAL" => printed.additional.push(record),
                _ => {}
            }
        }
    }
    printed
}

/// How an update program ended.
#[derive(Clone, Debug)]
pub(crate) struct Updated {
    pub(crate) success: bool,
    pub(crate) text: String,
}

/// Runs nsupdate with a script; server, zone and `send` are added.
pub(crate) fn nsupdate(server: SocketAddr, arguments: &[&str], script: &str) -> Updated {
    update("nsupdate", server, arguments, script)
}

/// Runs knsupdate with a script, likewise.
pub(crate) fn knsupdate(server: SocketAddr, arguments: &[&str], script: &str) -> Updated {
    update("knsupdate", server, arguments, script)
}

fn update(program: &str, server: SocketAddr, arguments: &[&str], script: &str) -> Updated {
    let zone = if script.contains("zone ") { String::new() } else { format!("zone {}\n", super::ZONE) };
    let input = format!("server {} {}\n{zone}{script}\nsend\n", server.ip(), server.port());
    let output = run(program, arguments, &input);
    let text = text(&output);
    // knsupdate ends with 0 where it reads from a pipe, and says what failed.
    Updated { success: output.status.success() && !text.contains("failed"), text }
}
