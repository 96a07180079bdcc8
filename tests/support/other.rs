//! Other servers that the tests run.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::client::Client;
use super::message::{SOA, query};
use super::{PATIENCE, wait_until};

/// Ports that systems don't give to whoever asks for any, so that nobody has one by chance when the server starts, or
/// starts again.
const PORTS: Range<u16> = 10_240..32_768;

/// An address whose port is free for UDP and TCP, and stays so: each process looks from a place of its own, and each port
/// once.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let place = std::process::id().wrapping_mul(257).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from(place % u32::from(PORTS.end - PORTS.start)).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], PORTS.start + offset));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Another server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Other {
    process: Child,
    log: PathBuf,
}

impl Other {
    /// Starts a copy of a program, since security modules confine such programs to their usual folders by their path.
    pub(crate) fn start(folder: &Path, program: &str, arguments: &[&str]) -> Other {
        let installed = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(|place| Path::new(place).join(program));
        let installed = installed.into_iter().find(|path| path.exists());
        let installed = installed.unwrap_or_else(|| panic!("no {program}; tests/run installs what the tests need"));
        let copy = folder.join(program);
        std::fs::copy(installed, &copy).unwrap();
        let log = folder.join(format!("{program}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(copy);
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        // A child that another test has just forked may still have the copy open for writing.
        let process = wait_until(PATIENCE, "a program that nobody writes to", || match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            spawned => Some(spawned.unwrap()),
        });
        Other { process, log }
    }

    /// Waits until it answers.
    pub(crate) fn wait(&mut self, at: SocketAddr, name: &str) {
        let client = Client::new(at);
        wait_until(PATIENCE, &format!("an answer of {at}"), || {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", std::fs::read_to_string(&self.log).unwrap());
            client.try_ask(&query(name, SOA), Duration::from_millis(100))
        });
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        wait_until(PATIENCE, "the end of a server", || self.process.try_wait().unwrap());
    }
}

impl Other {
    /// kill -9.
    pub(crate) fn kill_9(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}
