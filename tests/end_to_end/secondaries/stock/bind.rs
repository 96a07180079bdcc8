//! BIND.

use std::path::Path;
use std::process::Command;

use super::{Other, Place, Program};
use crate::support::server::make_key;

#[derive(Debug)]
pub(super) struct Bind;

impl Program for Bind {
    fn name(&self) -> &'static str {
        "BIND"
    }

    fn prepare(&self, place: &Place) {
        make_key("rndc-key.", "hmac-sha256", &place.folder().join("rndc.key"));
        place.write_template("named.conf", include_str!("named.conf"));
        let key = place.folder().join("xfer.key");
        let (name, secret) = (&place.key.name, place.secret());
        std::fs::write(&key, format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n")).unwrap();
        place.write_example(
            "secondary.conf",
            include_str!("../../../../examples/secondaries/named.conf"),
            &[
                ("/etc/bind/xfer.key", key.to_str().unwrap()),
                ("key \"xfer.\"", &format!("key \"{name}\"")),
                ("192.0.2.1 port 53", &format!("{} port {}", place.primary.ip(), place.primary.port())),
                ("/var/cache/bind", place.folder().to_str().unwrap()),
            ],
        );
    }

    fn start(&self, folder: &Path) -> Other {
        Other::start(folder, "named", &["-g", "-n", "1", "-c", "named.conf"])
    }

    fn refresh(&self, place: &Place) -> Command {
        let mut command = Command::new("rndc");
        let (address, port) = (place.control.ip().to_string(), place.control.port().to_string());
        command.arg("-k").arg(place.folder().join("rndc.key")).args(["-y", "rndc-key.", "-s", &address, "-p", &port]);
        command.args(["refresh", crate::support::ZONE]);
        command
    }
}
