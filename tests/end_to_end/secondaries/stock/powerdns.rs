//! PowerDNS, with SQLite.

use std::path::Path;
use std::process::Command;

use super::{Other, Place, Program};
use crate::support::ZONE;

#[derive(Debug)]
pub(super) struct PowerDns;

impl Program for PowerDns {
    fn name(&self) -> &'static str {
        "PowerDNS"
    }

    fn prepare(&self, place: &Place) {
        let folder = place.folder().to_str().unwrap();
        std::fs::create_dir(place.folder().join("pdns.d")).unwrap();
        place.write_template("pdns.conf", include_str!("pdns.conf"));
        place.write_example(
            "pdns.d/secondary.conf",
            include_str!("../../../../examples/secondaries/pdns.conf"),
            &[("/var/lib/powerdns", folder), ("xfr-cycle-interval=5", "xfr-cycle-interval=1")],
        );
        std::fs::write(place.folder().join("xfer.key"), format!("\tsecret \"{}\";\n", place.secret())).unwrap();
        let name = place.key.name.trim_end_matches('.');
        place.write_example(
            "pdns.sh",
            include_str!("../../../../examples/secondaries/pdns.sh"),
            &[
                ("/var/lib/powerdns", folder),
                ("pdnsutil ", &format!("pdnsutil --config-dir={folder} ")),
                ("192.0.2.1:53", &place.primary.to_string()),
                ("import-tsig-key xfer", &format!("import-tsig-key {name}")),
                ("svc.example.test xfer", &format!("svc.example.test {name}")),
            ],
        );
        let output = Command::new("sh").arg("pdns.sh").current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn start(&self, folder: &Path) -> Other {
        Other::start(folder, "pdns_server", &[&format!("--config-dir={}", folder.display())])
    }

    fn refresh(&self, place: &Place) -> Command {
        let mut command = Command::new("pdns_control");
        command
            .arg(format!("--socket-dir={}", place.folder().display()))
            .args(["retrieve", ZONE.trim_end_matches('.')]);
        command
    }
}
