//! NSD.

use std::path::Path;
use std::process::Command;

use super::{Other, Place, Program, SECRET};
use crate::support::ZONE;

#[derive(Debug)]
pub(super) struct Nsd;

fn control(folder: &Path, command: &str) -> Command {
    let mut program = Command::new("nsd-control");
    program.arg("-c").arg(folder.join("nsd.conf")).args([command, ZONE]);
    program
}

impl Program for Nsd {
    fn name(&self) -> &'static str {
        "NSD"
    }

    fn prepare(&self, place: &Place) {
        place.write_template("nsd.conf", include_str!("nsd.conf"));
        let name = &place.key.name;
        let (ip, port) = (place.primary.ip(), place.primary.port());
        place.write_example(
            "secondary.conf",
            include_str!("../../../../examples/secondaries/nsd.conf"),
            &[
                ("name: \"xfer.\"", &format!("name: \"{name}\"")),
                (SECRET, &place.secret()),
                ("allow-notify: 192.0.2.1 xfer.", &format!("allow-notify: {ip} {name}")),
                (
                    "request-xfr: 192.0.2.1@53 xfer.\n",
                    &format!(
                        "request-xfr: {ip}@{port} {name}\n    outgoing-interface: {}\n    provide-xfr: 127.0.0.0/8 NOKEY\n",
                        place.source
                    ),
                ),
            ],
        );
    }

    fn start(&self, folder: &Path) -> Other {
        Other::start(folder, "nsd", &["-d", "-c", "nsd.conf"])
    }

    fn refresh(&self, place: &Place) -> Command {
        control(place.folder(), "transfer")
    }

    /// Zones are written into their files once an hour, and else when it is told to.
    fn keep(&self, folder: &Path) -> Option<Command> {
        Some(control(folder, "write"))
    }
}
