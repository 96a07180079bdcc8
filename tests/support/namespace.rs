//! Tests that need a network of their own.

use std::process::{Command, Stdio};

const INSIDE: &str = "LIVEZONE_TEST_NAMESPACE";

/// Whether the test has run in a namespace already, by itself. False inside of that, and where the system has none to
/// give.
pub(crate) fn has_run(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        return false;
    }
    let unshare: [&[&str]; 2] = [&["--net"], &["--net", "--map-root-user"]];
    let works = |arguments: &&&[&str]| {
        let status = Command::new("unshare").args(**arguments).arg("true").stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let Some(arguments) = unshare.iter().find(works) else { return false };
    let output = Command::new("unshare")
        .args(*arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    true
}
