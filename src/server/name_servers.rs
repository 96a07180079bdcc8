//! The name servers of a zone as its configuration has them: who they are, and where.

use std::io;
use std::net::SocketAddr;

use tokio::time::Instant;

use crate::base::{Name, RecordType};
use crate::net::peer;
use crate::zone::records::address;
use crate::zone::records::schema::additional_name;
use crate::zone::{Rdata, Rrset};

use super::reading::{self, Ready};

/// Name servers of a zone that are asked or told something: more than any zone has. The others go without.
pub(super) const NAME_SERVERS: usize = 16;
/// Addresses of a name server that are turned to: it is the same server at each, so a few are for those that can't be
/// reached.
pub(super) const ADDRESSES: usize = 4;
/// Where name servers listen.
const PORT: u16 = 53;

/// The targets of the apex's static NS records, or `soa.primary` without any.
pub(super) fn names(ready: &Ready) -> Vec<Name> {
    let settings = &ready.zone.settings;
    let servers = rrsets(ready, &settings.origin).filter(|rrset| rrset.rtype == RecordType::NS);
    let mut targets: Vec<Name> = servers
        .flat_map(|rrset| rrset.rdatas.iter().filter_map(|rdata| additional_name(RecordType::NS, rdata)))
        .take(NAME_SERVERS)
        .collect();
    if targets.is_empty() {
        targets.push(settings.primary.clone());
    }
    targets
}

/// Where name servers are: addresses that the static records have, and names outside of the zone to look up.
pub(super) fn locate(ready: &Ready, names: Vec<Name>) -> (Vec<SocketAddr>, Vec<Name>) {
    let (inside, outside): (Vec<Name>, Vec<Name>) = names.into_iter().partition(|name| name.is_within(ready.origin()));
    let addresses_of = |name: &Name| {
        let address = |rtype, rdata: &Rdata| address::address(rtype, rdata);
        let addresses = rrsets(ready, name)
            .flat_map(|rrset| rrset.rdatas.iter().filter_map(move |rdata| address(rrset.rtype, rdata)));
        addresses.map(|address| SocketAddr::new(address.to_canonical(), PORT)).take(ADDRESSES).collect::<Vec<_>>()
    };
    (inside.iter().flat_map(addresses_of).collect(), outside)
}

/// Where the system's resolver finds a name server.
pub(super) async fn look_up(name: &Name, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    peer::look_up(name, PORT, ADDRESSES, deadline).await
}

fn rrsets<'r>(ready: &'r Ready, name: &Name) -> impl Iterator<Item = &'r Rrset> + use<'r> {
    reading::find(&ready.statics, name).into_iter().flat_map(|located| &located.node.rrsets)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config;
    use crate::dns::tsig::Keys;

    /// A zone with these secondaries and static records.
    pub(in crate::server) fn ready(secondaries: &[&str], primary: &str, statics: &str) -> Ready {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("z.toml");
        let text = format!(
            "origin = \"z.test.\"\nstatic = \"z.zone\"\n[soa]\nprimary = \"{primary}\"\n[notify]\nsecondaries = \
             {secondaries:?}\n"
        );
        std::fs::write(&file, text).unwrap();
        std::fs::write(folder.path().join("z.zone"), statics).unwrap();
        let zone = config::load_zone(&file, &Keys::default()).unwrap();
        reading::read_zone(zone).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn name_servers_of(primary: &str, statics: &str) -> (Vec<String>, Vec<String>) {
        let ready = ready(&[], primary, statics);
        let (addresses, names) = locate(&ready, names(&ready));
        (addresses.iter().map(ToString::to_string).collect(), names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn name_servers_in_the_zone_have_their_static_addresses_and_others_are_looked_up() {
        let statics = "@ IN NS ns1\n@ IN NS ns2.sub\n@ IN NS ns.example.net.\nns1 IN A 192.0.2.1\nns1 IN AAAA 2001:db8::1\n\
                       ns1 IN TXT \"x\"\nsub IN NS ns2.sub\nns2.sub IN A 192.0.2.2\nother IN A 192.0.2.3\n";
        let (addresses, names) = name_servers_of("ns9.z.test.", statics);
        assert_eq!(addresses, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
        assert_eq!(names, ["ns.example.net."]);
    }

    #[test]
    fn without_ns_records_the_primary_is_the_name_server() {
        let (addresses, names) =
            name_servers_of("ns1.z.test.", "ns1 IN A 192.0.2.1\nsub IN NS ns.sub\nns.sub IN A 192.0.2.2\n");
        assert_eq!((addresses, names), (vec!["192.0.2.1:53".to_owned()], Vec::new()));
        let (addresses, names) = name_servers_of("ns.example.net.", "www IN A 192.0.2.1\n");
        assert_eq!((addresses, names), (Vec::new(), vec!["ns.example.net.".to_owned()]));
    }

    #[test]
    fn name_servers_and_their_addresses_are_bounded() {
        let mut statics = String::new();
        for number in 0..40 {
            statics += &format!("@ IN NS ns{number}\n");
            for last in 1..=9 {
                statics += &format!("ns{number} IN A 192.0.2.{last}\n");
            }
        }
        let (addresses, _) = name_servers_of("ns1.z.test.", &statics);
        assert_eq!(addresses.len(), NAME_SERVERS * ADDRESSES);
    }
}
