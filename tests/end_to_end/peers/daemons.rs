//! The other servers, each as plain as it gets: no rate limits, no extras; BIND and Knot send additional addresses, NSD
//! few. BIND also transfers the zone as it loaded it, which is what replies are held against.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::support::ZONE;
use crate::support::other::{Other, free_address};

pub(super) struct Peers {
    running: Vec<(&'static str, SocketAddr, Other)>,
    _folder: TempDir,
}

impl Peers {
    pub(super) fn start(zone: &str) -> Peers {
        let folder = TempDir::with_prefix("livezone-peers-").unwrap();
        std::fs::write(folder.path().join("zone.txt"), zone).unwrap();
        let mut running = Vec::new();
        for (name, start) in
            [("bind", start_bind as fn(&Path, SocketAddr) -> Other), ("knot", start_knot), ("nsd", start_nsd)]
        {
            let address = free_address();
            let mut other = start(folder.path(), address);
            other.wait(address, ZONE);
            running.push((name, address, other));
        }
        Peers { running, _folder: folder }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.running.iter().map(|(name, address, _)| (*name, *address))
    }
}

fn start_bind(folder: &Path, address: SocketAddr) -> Other {
    let (place, port) = (folder.display(), address.port());
    let conf = format!(
        "options {{ directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no;\n\
         pid-file none; lock-file none; session-keyfile \"session.key\"; dnssec-validation no; empty-zones-enable no;\n\
         allow-query {{ any; }}; allow-transfer {{ 127.0.0.1; }}; zero-no-soa-ttl no; minimal-responses no-auth; minimal-any yes; max-udp-size 1232;\n\
         edns-udp-size 1232; server-id \"peer\"; hostname \"peer\"; version \"peer\"; check-names primary ignore; tcp-clients 1000; }};\n\
         controls {{ }};\nzone \"svc.example.test\" {{ type primary; file \"zone.txt\"; }};\n"
    );
    std::fs::write(folder.join("named.conf"), conf).unwrap();
    Other::start(folder, "named", &["-g", "-n", "1", "-c", "named.conf"])
}

fn start_knot(folder: &Path, address: SocketAddr) -> Other {
    let (place, port) = (folder.display(), address.port());
    let conf = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {place}\n  udp-max-payload: 1232\n  nsid: peer\n  identity: peer\n  version: peer\n\
         database:\n  storage: {place}/knot-db\n\
         log:\n  - target: stderr\n    any: warning\n\
         zone:\n  - domain: {ZONE}\n    file: {place}/zone.txt\n    journal-content: none\n    semantic-checks: off\n"
    );
    std::fs::write(folder.join("knot.conf"), conf).unwrap();
    Other::start(folder, "knotd", &["-c", "knot.conf"])
}

fn start_nsd(folder: &Path, address: SocketAddr) -> Other {
    let (place, port) = (folder.display(), address.port());
    let conf = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  port: {port}\n  username: \"\"\n  zonesdir: \"{place}\"\n  database: \"\"\n\
         pidfile: \"{place}/nsd.pid\"\n  xfrdfile: \"{place}/xfrd.state\"\n  zonelistfile: \"{place}/zone.list\"\n  xfrdir: \"{place}\"\n\
         minimal-responses: yes\n  refuse-any: no\n  ipv4-edns-size: 1232\n  nsid: ascii_peer\n  identity: peer\n  version: peer\n\
         rrl-ratelimit: 0\n  tcp-count: 100\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: {ZONE}\n  zonefile: zone.txt\n"
    );
    std::fs::write(folder.join("nsd.conf"), conf).unwrap();
    Other::start(folder, "nsd", &["-d", "-c", "nsd.conf"])
}
