//! Knot DNS.

use std::path::Path;
use std::process::Command;

use super::{Other, Place, Program, SECRET};
use crate::support::ZONE;

#[derive(Debug)]
pub(super) struct Knot;

impl Program for Knot {
    fn name(&self) -> &'static str {
        "Knot"
    }

    fn prepare(&self, place: &Place) {
        place.write_template("knot.conf", include_str!("knot.conf"));
        let name = &place.key.name;
        let (ip, port) = (place.primary.ip(), place.primary.port());
        let acl = "acl:\n  - id: tests\n    address: 127.0.0.0/8\n    action: transfer\n";
        place.write_example(
            "secondary.conf",
            include_str!("../../../../examples/secondaries/knot.conf"),
            &[
                (": xfer.", &format!(": {name}")),
                (SECRET, &place.secret()),
                ("address: 192.0.2.1@53\n", &format!("address: {ip}@{port}\n    via: {}\n", place.source)),
                ("address: 192.0.2.1\n", &format!("address: {ip}\n")),
                ("acl:\n", acl),
                ("acl: notify-from-livezone", "acl: [notify-from-livezone, tests]"),
            ],
        );
    }

    fn start(&self, folder: &Path) -> Other {
        Other::start(folder, "knotd", &["-c", "knot.conf"])
    }

    fn refresh(&self, place: &Place) -> Command {
        let mut command = Command::new("knotc");
        command.arg("-s").arg(place.folder().join("knot.sock")).args(["zone-refresh", ZONE]);
        command
    }
}
