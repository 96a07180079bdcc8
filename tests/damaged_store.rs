//! A store with a damaged page: the server starts, or says that the store can't be read. It never ends by a panic.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const ZONE: &str = "origin = \"svc.example.test.\"\n[soa]\nprimary = \"ns.example.test.\"\n";
const PAGE: usize = 4096;

/// Kills the server when the test fails, too.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server; `None` once it is ready and stopped again, else how it ended and what it said.
fn start(folder: &Path) -> Option<(Option<i32>, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livezone"));
    // The name server lies outside of the zone; with an epoch given, nobody looks it up.
    command.args(["serve", "--epoch", "1", "--config"]).arg(folder.join("livezone.toml")).env("RUST_LOG", "error");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Server(command.spawn().unwrap());
    let output = BufReader::new(server.0.stdout.take().unwrap());
    if output.lines().map_while(Result::ok).any(|line| line.starts_with("zone ")) {
        return None;
    }
    let status = server.0.wait().unwrap();
    let said = std::io::read_to_string(server.0.stderr.take().unwrap()).unwrap();
    Some((status.code(), said))
}

#[test]
fn a_damaged_page_is_reported_whichever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("zones")).unwrap();
    std::fs::write(path("zones/svc.example.test.toml"), ZONE).unwrap();
    std::fs::write(path("livezone.toml"), "[dns]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n[http]\nlisten = \"\"\n")
        .unwrap();
    assert_eq!(start(folder.path()), None);
    let store = path("data/livezone.redb");
    let whole = std::fs::read(&store).unwrap();
    let mut reported = 0;
    for page in 0..whole.len() / PAGE {
        let mut damaged = whole.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0x5a);
        std::fs::write(&store, damaged).unwrap();
        if let Some((code, said)) = start(folder.path()) {
            assert_eq!(code, Some(1), "page {page}: {said}");
            assert!(said.contains("can't be read"), "page {page}: {said}");
            reported += 1;
        }
    }
    assert!(reported > 0, "some page matters");
}
