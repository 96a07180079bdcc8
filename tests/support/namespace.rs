//! Tests that need a network, or more, of their own.

use std::path::Path;
use std::process::{Command, Stdio};

const INSIDE: &str = "LIVEZONE_TEST_NAMESPACE";

/// Where a test finds itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In namespaces of its own: it goes on.
    Inside,
    /// It has run there already, by itself, and is done.
    Ran,
    /// The system has none to give.
    Unavailable,
}

/// Whether the test has run in a network of its own already, by itself. False inside of that, and where the system has
/// none to give.
pub(crate) fn has_run(test: &str) -> bool {
    enter(test, &["--net"]) == Place::Ran
}

/// Runs a test again in namespaces of these kinds, by its whole name.
pub(crate) fn enter(test: &str, kinds: &[&str]) -> Place {
    if std::env::var_os(INSIDE).is_some() {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        return Place::Inside;
    }
    let works = |user: &&&[&str]| {
        let status = Command::new("unshare").args(kinds).args(**user).arg("true").stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    // As root, else as who seems to be root there.
    let users: [&[&str]; 2] = [&[], &["--map-root-user"]];
    let Some(user) = users.iter().find(works) else { return Place::Unavailable };
    let output = Command::new("unshare")
        .args(kinds)
        .args(*user)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    Place::Ran
}

/// Makes the system's resolver ask this server and nobody else, in a mount namespace of the test's own.
pub(crate) fn resolve_at(folder: &Path, server: &str) {
    assert!(std::env::var_os(INSIDE).is_some(), "the machine's own is left alone");
    for (name, text) in
        [("resolv.conf", format!("nameserver {server}\n")), ("nsswitch.conf", "hosts: dns\n".to_owned())]
    {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        // A mount stands in place of a link's target.
        let place = std::fs::canonicalize(Path::new("/etc").join(name)).unwrap();
        assert!(Command::new("mount").arg("--bind").args([&file, &place]).status().unwrap().success());
    }
}
