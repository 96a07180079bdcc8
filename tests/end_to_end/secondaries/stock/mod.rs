//! The stock servers as secondaries, each as Debian has it and with the configuration in `examples/secondaries`: what
//! stands there goes in with the places of the test, and beside it stands what a server needs to run in a folder of its
//! own (the files of this folder).
//!
//! Each asks from an address of its own in 127.0.0.0/8, so that the primary's log tells who was sent what.

mod bind;
mod knot;
mod nsd;
mod powerdns;

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use base64::Engine as _;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::other::{Other, free_address};
use crate::support::server::make_key;
use crate::support::tsig::TsigKey;
use crate::support::{PATIENCE, ZONE, wait_until};

/// A stock server.
pub(super) trait Program: Debug {
    /// What it is called in messages.
    fn name(&self) -> &'static str;
    /// Writes its configuration, and makes what it needs.
    fn prepare(&self, place: &Place);
    /// Starts it.
    fn start(&self, folder: &Path) -> Other;
    /// The command that makes it look for a newer zone.
    fn refresh(&self, place: &Place) -> Command;
    /// The command that makes it keep what it has over a stop, if it doesn't by itself.
    fn keep(&self, _folder: &Path) -> Option<Command> {
        None
    }
}

/// All of them.
pub(super) fn all() -> [Box<dyn Program>; 4] {
    [Box::new(bind::Bind), Box::new(knot::Knot), Box::new(nsd::Nsd), Box::new(powerdns::PowerDns)]
}

/// BIND, as it stands in the example.
pub(super) fn bind() -> Box<dyn Program> {
    Box::new(bind::Bind)
}

/// Where a secondary is, and whom it follows.
#[derive(Debug)]
pub(super) struct Place {
    folder: TempDir,
    pub(super) address: SocketAddr,
    /// From where it asks.
    source: IpAddr,
    /// Another free port, for its control channel.
    control: SocketAddr,
    primary: SocketAddr,
    /// How it signs.
    pub(super) key: TsigKey,
    /// Texts of the example and what stands there instead.
    pub(super) instead: Vec<(String, String)>,
}

impl Place {
    /// A folder and an address that nobody else has.
    pub(super) fn new(key: &TsigKey) -> Place {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let process = std::process::id();
        let [.., high, low] = process.to_be_bytes();
        let source = Ipv4Addr::new(127, 64 + high % 128, low, NEXT.fetch_add(1, Ordering::Relaxed)).into();
        let address = free_address();
        let folder = TempDir::with_prefix("livezone-secondary-").unwrap();
        let control = free_address();
        Place { folder, address, source, control, primary: address, key: key.clone(), instead: Vec::new() }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder, from a text and what stands in it instead of other texts, which must be there.
    fn write(&self, file: &str, text: &str, instead: &[(&str, &str)]) {
        let text = instead.iter().fold(text.to_owned(), |text, (old, new)| {
            assert!(text.contains(old), "{file} has no {old}");
            text.replace(old, new)
        });
        std::fs::write(self.folder().join(file), text).unwrap();
    }

    /// The same for what the test has of its own.
    fn write_template(&self, file: &str, text: &str) {
        let folder = self.folder().to_str().unwrap();
        let (address, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let control = self.control.port().to_string();
        let source = self.source.to_string();
        let places = [
            ("@ADDRESS@", &*address),
            ("@SOURCE@", &source),
            ("@PORT@", &port),
            ("@CONTROL@", &control),
            ("@FOLDER@", folder),
        ];
        let there: Vec<_> = places.into_iter().filter(|(place, _)| text.contains(place)).collect();
        self.write(file, text, &there);
    }

    /// The same for the example of a configuration.
    fn write_example(&self, file: &str, text: &str, instead: &[(&str, &str)]) {
        let further = self.instead.iter().filter(|(old, _)| text.contains(old));
        let further = further.map(|(old, new)| (old.as_str(), new.as_str()));
        self.write(file, text, &further.chain(instead.iter().copied()).collect::<Vec<_>>());
    }

    /// The secret in base64.
    fn secret(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.key.secret)
    }
}

/// The secret in the examples.
const SECRET: &str = "xgjd6yRkUTE1PXYGXZmYMCvm22yFYbAySLuwh8uLSvI=";

/// A secondary of a primary, and its folder. Killed when dropped.
#[derive(Debug)]
pub(super) struct Secondary {
    program: Box<dyn Program>,
    /// Before its folder, which goes last.
    running: Option<Other>,
    pub(super) place: Place,
}

impl Secondary {
    /// Starts one.
    pub(super) fn start(program: Box<dyn Program>, mut place: Place, primary: SocketAddr) -> Secondary {
        place.primary = primary;
        program.prepare(&place);
        let mut secondary = Secondary { program, place, running: None };
        secondary.start_again();
        secondary
    }

    /// Starts it with what it has, and waits until it answers anything.
    pub(super) fn start_again(&mut self) {
        assert!(self.running.is_none());
        let mut other = self.program.start(self.place.folder());
        other.wait(self.address(), ZONE);
        self.running = Some(other);
    }

    /// Ends it in good order.
    pub(super) fn stop(&mut self) {
        if let Some(command) = self.program.keep(self.place.folder()) {
            carry_out(command);
        }
        self.running.take().expect("it runs").stop();
    }

    pub(super) fn name(&self) -> &'static str {
        self.program.name()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// From where it asks the primary.
    pub(super) fn ip(&self) -> IpAddr {
        self.place.source
    }

    /// Makes it look for a newer zone.
    pub(super) fn refresh(&self) {
        carry_out(self.program.refresh(&self.place));
    }

    /// The serial that it answers; none while it has no zone.
    pub(super) fn serial(&self) -> Option<u32> {
        Client::new(self.address()).try_serial(Duration::from_secs(2))
    }

    /// What it has written to its log since it was started last.
    pub(super) fn log(&self) -> String {
        self.running.as_ref().expect("it runs").log()
    }
}

/// Runs a command until it succeeds: a server that has just started may not listen to commands yet.
fn carry_out(mut command: Command) {
    let mut last = None;
    let deadline = std::time::Instant::now() + PATIENCE;
    wait_until(PATIENCE + Duration::from_secs(1), "a command that is taken", || {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(std::time::Instant::now() < deadline, "{command:?} fails: {last:?}");
        if output.status.success() { Some(()) } else { last.replace(output).and(None) }
    });
}

/// A key of `livezone keygen` that no server knows.
pub(super) fn foreign_key(folder: &Path, name: &str) -> TsigKey {
    let file = folder.join("foreign.key");
    make_key(name, "hmac-sha256", &file);
    TsigKey::read(&file)
}
