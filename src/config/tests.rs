//! The rules of the configuration, by files as people write them.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::base::{Lease, Ttl};
use crate::dns::tsig::Algorithm;
use crate::membership::access::{Globs, Scope};
use crate::membership::policy::ServicePolicy;
use crate::zone::HostName;

/// 32 octets.
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The documented `livezone.toml`, with the secrets in it.
const SERVER: &str = r#"data-dir  = "data"                       # embedded store
zones-dir = "zones"                      # one TOML file per zone; watched and reloaded

[dns]
listen = ["127.0.0.1:5353"]              # each: UDP and TCP
threads = 0                              # UDP threads; 0: one per core
udp-size = 1232                          # largest UDP answer, whatever the client offers
update-rate = 100                        # updates a second per source address; loopback and verified keys exempt
rotate = false                           # rotate A and AAAA sets per answer
[http]
listen = "127.0.0.1:8053"                # "" switches HTTP off
[[key]]                                  # TSIG
name = "agents."
algorithm = "hmac-sha256"
secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
[store]
kind = "embedded"
[cluster]                                # only with etcd: the link between servers
listen = "127.0.0.1:8153"
advertise = "127.0.0.1:8153"
secret-file = "cluster.key"              # or secret = "base64"; or certificate, key, ca
[[memcached-config]]                     # answers `config get cluster`; none unless configured
listen = "127.0.0.1:11210"
zone = "svc.example.test."
service = "_memcached._tcp"
[[key]]
name = "xfer."
secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"#;

/// The documented zone file.
const ZONE: &str = r#"origin       = "svc.example.test."
ttl          = "5s"
negative-ttl = "2s"
static       = "svc.example.test.zone"
settle       = "0s"

[soa]
primary = "ns1.svc.example.test."
contact = "hostmaster.example.test."
refresh = "30s"
retry   = "5s"
expire  = "1h"

[lease]
default = "15s"
min     = "5s"
max     = "1h"
grace   = "0s"                           # published this long after a lapse, as suspect
records = "1h"

[access]                                 # absent entries mean what the comments say; IPv6 likewise
update   = [{ key = "agents.", services = ["*"], ids = ["*"], members = "own", records = [] },
            { network = "127.0.0.0/8", services = ["*"], members = "any" }]
transfer = [{ key = "xfer." }]
query    = [{ network = "0.0.0.0/0" }]
[notify]
secondaries = [{ address = "192.0.2.53:53", key = "xfer." }, "192.0.2.54:53"]

[hold]                                   # when many of a service fall silent together, the fault is probably ours
fraction = 0.5                           # 1.0 switches it off
min-members = 4
max      = "10m"
floor    = 0

[damping]
half-life = "1m"
suppress = 3.0
reuse    = 1.0
[[service]]                              # optional per-service settings
name  = "_memcached._tcp"
slots = true
host-name = "memcached"
dns-sd = false
"#;

/// A folder with files.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let folder = Files(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = folder.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Lines as displayed, without the folder.
    fn lines(&self, text: &str) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        text.lines().map(|line| line.replace(&folder, "")).collect()
    }
}

fn keys() -> Keys {
    Keys::new([Key::new("agents.".parse().unwrap(), Algorithm::HmacSha256, &[1; 32])])
}

/// The problems of a `livezone.toml`, as displayed.
pub(super) fn server_problems(text: &str) -> Vec<String> {
    let files = Files::new(&[("l.toml", text)]);
    files.lines(&load(Some(&files.path("l.toml"))).unwrap_err().to_string())
}

pub(super) fn server(text: &str) -> (Config, Vec<String>) {
    let files = Files::new(&[("l.toml", text)]);
    let config = load(Some(&files.path("l.toml"))).unwrap_or_else(|problems| panic!("{problems}"));
    let warnings = files.lines(&config.warnings.join("\n"));
    (config, warnings)
}

/// The problems of a zone file whose first line is its origin, as displayed.
pub(super) fn zone_problems(rest: &str) -> Vec<String> {
    let files = Files::new(&[("z.toml", &format!("origin = \"z.test.\"\n{rest}"))]);
    files.lines(&load_zone(&files.path("z.toml"), &keys()).unwrap_err().to_string())
}

pub(super) fn zone(rest: &str) -> (Zone, Vec<String>) {
    let files = Files::new(&[("z.toml", &format!("origin = \"z.test.\"\n{rest}"))]);
    let zone = load_zone(&files.path("z.toml"), &keys()).unwrap_or_else(|problems| panic!("{problems}"));
    let warnings = files.lines(&zone.warnings.join("\n"));
    (zone, warnings)
}

/// Asserts that there is one problem, at this place, with these words.
#[track_caller]
pub(super) fn assert_one(problems: &[String], place: &str, words: &[&str]) {
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_has(problems, place, words);
}

#[track_caller]
pub(super) fn assert_has(problems: &[String], place: &str, words: &[&str]) {
    let found = problems.iter().any(|line| line.starts_with(place) && words.iter().all(|word| line.contains(word)));
    assert!(found, "no {place} with {words:?} in {problems:#?}");
}

#[test]
fn the_documented_files_load() {
    let files = Files::new(&[("livezone.toml", SERVER), ("zones/svc.example.test.toml", ZONE)]);
    let (config, zones) = load_all(Some(&files.path("livezone.toml"))).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.data_dir, files.path("data"));
    assert_eq!(config.zones_dir, files.path("zones"));
    assert_eq!(config.dns, Dns::default());
    assert_eq!(config.http, Http::default());
    assert_eq!(config.keys.len(), 2);
    assert_eq!(
        files.lines(&config.warnings.join("\n")),
        ["cluster", "memcached-config"]
            .iter()
            .zip([18, 22])
            .map(|(key, line)| format!("livezone.toml:{line}: `{key}` has no effect in this version"))
            .collect::<Vec<_>>()
    );

    let [zone] = zones.as_slice() else { panic!("{zones:?}") };
    assert_eq!(zone.source, files.path("zones/svc.example.test.toml"));
    assert_eq!(zone.static_file, Some(files.path("zones/svc.example.test.zone")));
    assert_eq!(zone.settings.origin.to_string(), "svc.example.test.");
    assert_eq!(zone.settings.contact.to_string(), "hostmaster.example.test.");
    assert_eq!(zone.leases, LeaseLimits::default());
    assert_eq!(zone.update.len(), 2);
    assert_eq!(zone.update[0].members, Scope::Own);
    assert_eq!(zone.update[1].network.unwrap().to_string(), "127.0.0.0/8");
    assert_eq!(zone.query.as_deref(), Some(["0.0.0.0/0".parse().unwrap()].as_slice()));
    assert_eq!(zone.settings.services.len(), 1);
    assert_eq!(zone.settings.services[0].host_name, HostName::Default);
    let secondaries: Vec<_> = zone.secondaries.iter().map(|other| (other.address.to_string(), &other.key)).collect();
    let key = Some("xfer.".parse().unwrap());
    assert_eq!(secondaries, [("192.0.2.53:53".to_owned(), &key), ("192.0.2.54:53".to_owned(), &None)]);
    let warned: Vec<String> = files.lines(&zone.warnings.join("\n"));
    assert_eq!(warned, [""; 0]);
    let policy = zone.policies.of(&"_memcached._tcp.svc.example.test.".parse().unwrap());
    assert_eq!(*policy, ServicePolicy { slot_hold: Some(Duration::ZERO), ..ServicePolicy::default() });
    assert_eq!(zone.policies.zone, ServicePolicy::default());
}

#[test]
fn without_a_file_the_defaults_hold() {
    let config = load(None).unwrap();
    assert_eq!(config.data_dir, Path::new("data"));
    assert_eq!(config.zones_dir, Path::new("zones"));
    assert_eq!(config.dns.listen, ["127.0.0.1:5353".parse().unwrap()]);
    assert_eq!((config.dns.threads, config.dns.udp_size, config.dns.update_rate), (0, 1232, 100));
    assert!(!config.dns.rotate && config.keys.is_empty() && config.warnings.is_empty());
}

#[test]
fn a_zone_needs_an_origin_and_nothing_else() {
    let (zone, warnings) = zone("");
    assert!(warnings.is_empty());
    let settings = &zone.settings;
    assert_eq!((settings.ttl, settings.negative_ttl), (Ttl(5), Ttl(2)));
    assert_eq!(settings.primary.to_string(), "ns1.z.test.");
    assert_eq!(settings.contact.to_string(), "hostmaster.z.test.");
    assert_eq!((settings.refresh, settings.retry, settings.expire), (30, 5, 3600));
    assert_eq!(zone.leases, LeaseLimits::default());
    assert_eq!(zone.update, UpdateEntry::loopback());
    assert_eq!((zone.query, zone.static_file, zone.settle), (None, None, Duration::ZERO));
    assert!(!zone.peer_address && zone.secondaries.is_empty());

    let files = Files::new(&[("z.toml", "ttl = \"5s\"\n")]);
    let problems = load_zone(&files.path("z.toml"), &keys()).unwrap_err();
    assert_one(&files.lines(&problems.to_string()), "z.toml: ", &["origin = "]);
    assert_eq!(problems.iter().next().unwrap().position, None);
}

#[test]
fn limits_of_connections_have_defaults_and_a_range() {
    assert_eq!(server("").0.limits, Limits::default());
    // A client's share is at most the whole.
    assert_eq!(server("[limits]\ntcp-connections = 5\n").0.limits.tcp.per_client, 5);
    let text = "[limits]\ntcp-connections = 9\ntcp-connections-per-client = 3\ntcp-idle = \"200ms\"\n";
    let tcp = server(text).0.limits.tcp;
    assert_eq!((tcp.connections, tcp.per_client, tcp.idle), (9, 3, Duration::from_millis(200)));

    let text = "[limits]\ntcp-connections = 0\ntcp-connections-per-client = -1\ntcp-idle = \"20ms\"\n";
    let files = Files::new(&[("l.toml", text)]);
    let problems = files.lines(&load(Some(&files.path("l.toml"))).unwrap_err().to_string());
    assert_has(&problems, "l.toml:2:19: ", &["`tcp-connections` must be 1 to 1000000"]);
    assert_has(&problems, "l.toml:3:30: ", &["`tcp-connections-per-client` must be 1 to"]);
    assert_has(&problems, "l.toml:4:12: ", &["`tcp-idle` must be 100ms to 1h"]);
}

#[test]
fn quotas_have_defaults_and_a_range_and_an_owner_has_at_most_the_whole() {
    assert_eq!(server("").0.limits.quotas, Quotas::default());
    assert_eq!(crate::membership::Cells::LIMIT, 4_194_304, "the upper end of the range");
    let text = "[limits]\nzone-leases = 50\nzone-services = 40\nowner-leases = 50\nowner-services = 3\n";
    let quotas = Quotas { zone_leases: 50, zone_services: 40, owner_leases: 50, owner_services: 3 };
    assert_eq!(server(text).0.limits.quotas, quotas);
    // By default an owner may have all where that is less than its share.
    let quotas = Quotas { zone_leases: 7, owner_leases: 7, ..Quotas::default() };
    assert_eq!(server("[limits]\nzone-leases = 7\n").0.limits.quotas, quotas);

    let text =
        "[limits]\nzone-leases = 0\nzone-services = 1000001\nowner-leases = 4194305\nowner-services = \"many\"\n";
    assert_one(&server_problems(text), "l.toml:5:18: ", &["many"]);
    let problems = server_problems(&text.replace("\"many\"", "-1"));
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert_has(&problems, "l.toml:2:15: ", &["`zone-leases` must be 1 to 4194304"]);
    assert_has(&problems, "l.toml:3:17: ", &["`zone-services` must be 1 to 1000000"]);
    assert_has(&problems, "l.toml:4:16: ", &["`owner-leases` must be"]);
    assert_has(&problems, "l.toml:5:18: ", &["`owner-services` must be"]);
    let problems = server_problems("[limits]\nowner-services = 11\nzone-services = 10\n");
    assert_one(&problems, "l.toml:2:18: ", &["`owner-services` (11) may not exceed `zone-services` (10)"]);
    let problems = server_problems("[limits]\nowner-leases = 1000001\n");
    assert_one(&problems, "l.toml:2:16: ", &["`zone-leases` (1000000)"]);
}

#[test]
fn http_beyond_loopback_is_for_tokens_or_for_everyone_or_not_at_all() {
    let listen = |text: &str| server(&format!("[http]\n{text}\n"));
    assert_eq!(server("").0.http.listen, Some("127.0.0.1:8053".parse().unwrap()));
    for loopback in ["127.0.0.1:0", "127.3.2.1:80", "[::1]:8053", "[::ffff:127.0.0.1]:1"] {
        let (config, warnings) = listen(&format!("listen = \"{loopback}\""));
        assert_eq!((config.http.listen, warnings.len()), (Some(loopback.parse().unwrap()), 0));
    }
    for beyond in ["0.0.0.0:8053", "[::]:8053", "192.0.2.1:80"] {
        let text = format!("[http]\nlisten = \"{beyond}\"\n");
        assert_one(&server_problems(&text), "l.toml:2:10: ", &[beyond, "[[token]]", "`open = true`"]);
        assert_eq!(server_problems(&format!("{text}open = false\n")).len(), 1);
        let (config, warnings) = listen(&format!("listen = \"{beyond}\"\nopen = true"));
        assert_eq!((config.http.listen, warnings.len()), (Some(beyond.parse().unwrap()), 0));
        assert!(!config.admission().are_required());
        let token = format!("[[token]]\nsha256 = \"{:064}\"", 7);
        let (config, warnings) = listen(&format!("listen = \"{beyond}\"\n{token}"));
        assert!(config.admission().are_required() && warnings.is_empty());
        let (config, warnings) = listen(&format!("listen = \"{beyond}\"\nopen = true\n{token}"));
        assert!(config.admission().are_required());
        assert_has(&warnings, "l.toml:3: ", &["`http.open` has no effect beside [[token]]"]);
    }
    // On loopback it is for other names of this machine.
    let (config, warnings) = listen("open = true");
    assert!(config.http.open && !config.admission().are_required() && warnings.is_empty());
    let (_, warnings) = listen("listen = \"\"\nopen = true");
    assert_has(&warnings, "l.toml:3: ", &["`http.open` has no effect"]);
    for wrong in ["8053", "localhost:8053", "127.0.0.1"] {
        let problems = server_problems(&format!("[http]\nlisten = \"{wrong}\"\n"));
        assert_one(&problems, "l.toml:2:10: ", &[wrong, "127.0.0.1:8053"]);
    }
}

#[test]
fn a_token_says_what_it_hashes_to_and_what_it_covers() {
    use crate::api::access::Access;
    let digest = "0123456789abcdefABCDEF0123456789abcdefabcdef0123456789abcdef0123";
    let (config, _) = server(&format!("[[token]]\nsha256 = \"{digest}\"\n"));
    let [token] = config.tokens.as_slice() else { panic!("{:?}", config.tokens) };
    assert_eq!((token.digest[0], token.digest[31], token.label().as_str()), (0x01, 0x23, "token 01234567"));
    assert_eq!((&token.zones, &token.services, token.access), (&Globs::all(), &Globs::all(), Access::Read));
    assert_eq!(token.members, Scope::Any);
    let (config, _) = server(&format!(
        "[[token]]\nsha256 = \"{digest}\"\nname = \"ci\"\nzones = [\"a.test.\", \"b.test\"]\n\
         services = [\"_x.*\"]\naccess = \"write\"\nmembers = \"own\"\n"
    ));
    let token = &config.tokens[0];
    assert_eq!((token.label().as_str(), token.access, token.members), ("token ci", Access::Write, Scope::Own));
    assert_eq!(token.zones.0, ["a.test", "b.test"]);

    let problems = server_problems(
        "[[token]]\nname = \"a\"\n[[token]]\nsha256 = \"00\"\naccess = \"all\"\nmembers = \"mine\"\nname = \"a b\"\n",
    );
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert_has(&problems, "l.toml:1:1: ", &["lacks `sha256`", "livezone keygen --token"]);
    assert_has(&problems, "l.toml:4:10: ", &["64 hexadecimal digits"]);
    assert_has(&problems, "l.toml:5:10: ", &["\"read\" or \"write\""]);
    assert_has(&problems, "l.toml:6:11: ", &["\"own\" or \"any\""]);
    assert_has(&problems, "l.toml:7:8: ", &["a word"]);
    let twice = format!("[[token]]\nsha256 = \"{digest}\"\nname = \"a\"\n");
    let twice = format!("{twice}{}", twice.replace("\"a\"", "\"b\""));
    assert_one(&server_problems(&twice), "l.toml:4:1: ", &["already, in line 1"]);
}

#[test]
fn every_documented_key_of_later_versions_is_accepted() {
    let (_, warnings) = server(
        "[dns]\ntls-listen = []\nhttps-listen = []\nquic-listen = []\n\
         [http]\nlisten = \"\"\nopen = true\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n\
         client-ca = \"ca\"\n[store]\nprefix = \"/livezone\"\n",
    );
    for key in ["dns.https-listen", "dns.quic-listen"] {
        assert_has(&warnings, "l.toml:", &[&format!("`{key}` has no effect in this version")]);
    }
    assert_has(&warnings, "l.toml:3: ", &["dns.https-listen"]);
    for key in ["http.open", "tls", "store.prefix"] {
        assert_has(&warnings, "l.toml:", &[&format!("`{key}`")]);
    }
    assert!(!warnings.iter().any(|warning| warning.contains("http.listen")));
    let (config, _) = server("[http]\nlisten = \"\"\n");
    assert_eq!(config.http.listen, None);

    let (_, warnings) = zone("[history]\ncommits = 5\n[[service]]\nname = \"_x._tcp\"\nafsdb = 1\n");
    for key in ["history", "afsdb"] {
        assert_has(&warnings, "z.toml:", &[&format!("`{key}`")]);
    }
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
}

#[test]
fn a_service_has_the_policies_of_its_zone_but_where_it_has_its_own() {
    let (zone, warnings) = zone(
        "drain-timeout = \"2m\"\n[hold]\nfraction = 0.9\nmin-members = 9\n[damping]\nsuppress = 2.5\n[[service]]\n\
         name = \"_x._tcp\"\nslots = true\nslot-hold = \"1m\"\nslow-start = \"40s\"\n[service.lease]\nmin = \"7s\"\n\
         grace = \"3s\"\n[service.hold]\nfloor = 2\nmax = \"5m\"\n[service.damping]\nreuse = 0.5\n[[service]]\n\
         name = \"_y._tcp\"\n",
    );
    assert!(warnings.is_empty());
    assert_eq!(zone.drain_timeout, Duration::from_secs(120));
    let of = |service: &str| *zone.policies.of(&format!("{service}.z.test.").parse().unwrap());
    assert_eq!(of("_y._tcp"), zone.policies.zone);
    assert_eq!((of("_y._tcp").hold.fraction, of("_y._tcp").hold.min_members, of("_y._tcp").slot_hold), (0.9, 9, None));
    let own = of("_x._tcp");
    assert_eq!((own.hold.fraction, own.hold.floor, own.hold.max), (0.9, 2, Duration::from_secs(300)));
    assert_eq!((own.damping.suppress, own.damping.reuse), (2.5, 0.5));
    assert_eq!((own.slot_hold, own.slow_start), (Some(Duration::from_secs(60)), Duration::from_secs(40)));
    assert_eq!((own.leases.min, own.leases.default, own.leases.grace), (Lease(7), Lease(15), Duration::from_secs(3)));
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    assert!(zone("[hold]\n").1.is_empty());
    assert_one(&zone_problems("[hold]\nfraction = 1.5\n"), "z.toml:3:12: ", &["`hold.fraction` must be 0 to 1", "1.5"]);
    assert_one(&zone_problems("[hold]\nmax = \"soon\"\n"), "z.toml:3:7: ", &["`hold.max`", "soon"]);
    assert_one(&zone_problems("[hold]\nfloor = -1\n"), "z.toml:3:9: ", &["`hold.floor`"]);
    let reversed = "[damping]\nsuppress = 1.0\n";
    assert_one(&zone_problems(reversed), "z.toml:2:", &["`damping.reuse` (1) must be less than", "(1)"]);
    assert_one(&zone_problems("[damping]\nreuse = 0.0\n"), "z.toml:3:9: ", &["`damping.reuse` must be 0.1 to 4"]);
    let service = |keys: &str| zone_problems(&format!("[[service]]\nname = \"_x._tcp\"\n{keys}"));
    assert_one(&service("slot-hold = \"1m\"\n"), "z.toml:4:13: ", &["needs `slots = true`"]);
    let two = "slots = true\n[[service]]\nname = \"_x._udp\"\nslots = true\n";
    assert_one(&service(two), "z.toml:1:", &["_x._tcp", "_x._udp", "`host-name`"]);
    assert_one(&service("slow-start = \"2h\"\n"), "z.toml:4:14: ", &["1h at most"]);
    assert_one(&service("[service.lease]\nmin = \"20s\"\n"), "z.toml:5:7: ", &["`service.lease.min` (20s)"]);
    assert_one(&service("[service.lease]\nmin = \"1s\"\n"), "z.toml:5:7: ", &["`ttl`", "`service.lease.min` (1s)"]);
    assert_one(&service("[service.lease]\nrecords = \"1m\"\n"), "z.toml:5:11: ", &["leased records"]);
}

#[test]
fn what_is_not_available_is_a_problem() {
    assert_one(
        &server_problems("[store]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\nprefix = \"/livezone\"\n"),
        "l.toml:2:8: ",
        &["not available in this version", "embedded"],
    );
    assert_one(&server_problems("[store]\nkind = \"sqlite\"\n"), "l.toml:2:8: ", &["sqlite", "\"embedded\""]);
}

#[test]
fn errors_of_form_are_all_reported_with_their_place() {
    assert_one(&server_problems("[dns]\nlisten = [\n"), "l.toml:", &["unclosed array"]);
    assert_one(&server_problems("\n[dns]\n  listn = []\n"), "l.toml:3:3: ", &["unknown key `listn`", "`listen`"]);
    let problems = zone_problems(
        "orgin = 1\nttl = 5\n[soa]\nrefesh = \"1s\"\n[access]\nupdate = [{ keys = \"a.\" }, 7]\n[[service]]\nslots = \"no\"\n",
    );
    assert_eq!(problems.len(), 6, "{problems:#?}");
    assert_has(&problems, "z.toml:2:1: ", &["unknown key `orgin`"]);
    assert_has(&problems, "z.toml:3:7: ", &["in quotes", "\"5s\""]);
    assert_has(&problems, "z.toml:5:1: ", &["unknown key `refesh`"]);
    assert_has(&problems, "z.toml:7:13: ", &["unknown key `keys`"]);
    assert_has(&problems, "z.toml:7:28: ", &["`7`", "expected a table"]);
    assert_has(&problems, "z.toml:9:9: ", &["boolean"]);
    // Unknown keys don't keep the values from being looked at.
    let problems = zone_problems("tll = \"1s\"\nttl = \"0s\"\n");
    assert_eq!(problems.len(), 2, "{problems:#?}");
    let problems = zone_problems("[notify]\nsecondaries = [{ adress = \"192.0.2.1:53\" }]\n");
    assert_has(&problems, "z.toml:3:18: ", &["unknown key `adress`"]);
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let files = Files::new(&[("bad.toml", ""), ("zones/.hidden.toml", "x"), ("zones/readme", "x")]);
    assert_one(
        &files.lines(&load(Some(&files.path("none.toml"))).unwrap_err().to_string()),
        "none.toml: ",
        &["can't be read"],
    );
    fs::write(files.path("bad.toml"), b"a = 1\nb\xff").unwrap();
    assert_one(
        &files.lines(&load(Some(&files.path("bad.toml"))).unwrap_err().to_string()),
        "bad.toml:2:2: ",
        &["UTF-8"],
    );
    fs::write(files.path("bad.toml"), " ".repeat((1 << 20) + 1)).unwrap();
    assert_one(
        &files.lines(&load(Some(&files.path("bad.toml"))).unwrap_err().to_string()),
        "bad.toml: ",
        &["larger than 1048576"],
    );
    assert_one(
        &files.lines(&load_zones(&files.path("nowhere"), &keys()).unwrap_err().to_string()),
        "nowhere: ",
        &["create it", "zones-dir"],
    );
    assert!(load_zones(&files.path("zones"), &keys()).unwrap().is_empty());
}

#[test]
fn dns_values_have_bounds() {
    let (config, _) =
        server("[dns]\nlisten = [\"[::1]:53\", \"0.0.0.0:0\"]\nthreads = 8\nudp-size = 4096\nupdate-rate = 1\n");
    assert_eq!(config.dns.listen, ["[::1]:53".parse().unwrap(), "0.0.0.0:0".parse().unwrap()]);
    assert_eq!((config.dns.threads, config.dns.udp_size, config.dns.update_rate), (8, 4096, 1));

    let problems = server_problems(
        "[dns]\nlisten = [\"127.0.0.1:53\", \"localhost:53\",\n  \"127.0.0.1\", \"127.0.0.1:53\"]\n\
         threads = -1\nudp-size = 511\nupdate-rate = 0\n",
    );
    assert_eq!(problems.len(), 6, "{problems:#?}");
    assert_has(&problems, "l.toml:2:27: ", &["localhost:53", "127.0.0.1:5353"]);
    assert_has(&problems, "l.toml:3:3: ", &["with a port"]);
    assert_has(&problems, "l.toml:3:16: ", &["twice"]);
    assert_has(&problems, "l.toml:4:11: ", &["`threads`", "0 to 1024", "-1"]);
    assert_has(&problems, "l.toml:5:12: ", &["`udp-size`", "512 to 4096", "511"]);
    assert_has(&problems, "l.toml:6:15: ", &["`update-rate`", "1 to"]);
    assert_one(&server_problems("[dns]\nudp-size = 4097\n"), "l.toml:2:12: ", &["4097"]);
    assert_one(&server_problems("[dns]\nlisten = []\n"), "l.toml:2:10: ", &["at least one"]);
}

#[test]
fn relative_paths_start_from_the_folder_of_the_file() {
    let files = Files::new(&[("etc/l.toml", "data-dir = \"d\"\nzones-dir = \"/abs\"\n")]);
    let config = load(Some(&files.path("etc/l.toml"))).unwrap();
    assert_eq!(config.data_dir, files.path("etc/d"));
    assert_eq!(config.zones_dir, Path::new("/abs"));
}

#[test]
fn names_are_absolute() {
    let files = Files::new(&[("z.toml", "origin = \"z.test\"\n")]);
    let problems = load_zone(&files.path("z.toml"), &keys()).unwrap_err();
    assert_one(&files.lines(&problems.to_string()), "z.toml:1:10: ", &["end it with a dot", "\"z.test.\""]);
    let problems = zone_problems("[soa]\nprimary = \"ns\"\ncontact = \"a.b@z.test\"\n");
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert_has(&problems, "z.toml:3:11: ", &["`soa.primary`", "\"ns.\""]);
    assert_has(&problems, "z.toml:4:11: ", &["\"a\\\\.b.z.test.\""]);
    assert_one(&zone_problems("[soa]\nprimary = \"a..b.\"\n"), "z.toml:3:11: ", &["empty label"]);
    let long = format!("origin = \"{}\"\n", "abcdefg.".repeat(31));
    let files = Files::new(&[("z.toml", &long)]);
    let problems = load_zone(&files.path("z.toml"), &keys()).unwrap_err().to_string();
    assert!(problems.contains("too long") && problems.contains("soa.contact"), "{problems}");
}

#[test]
fn times_are_in_order_and_in_bounds() {
    let (zone, _) = zone(
        "ttl = \"2s\"\nnegative-ttl = \"0s\"\nsettle = \"250ms\"\n[lease]\ndefault = \"1m 30s\"\nmin = \"2s\"\n\
         max = \"90s\"\ngrace = \"500ms\"\nrecords = \"1day\"\n",
    );
    let (default, min, max, records) = (Lease(90), Lease(2), Lease(90), Lease(86400));
    assert_eq!(zone.leases, LeaseLimits { default, min, max, grace: Duration::from_millis(500), records });
    assert_eq!((zone.settings.ttl, zone.settings.negative_ttl), (Ttl(2), Ttl(0)));
    assert_eq!(zone.settle, Duration::from_millis(250));

    assert_one(&zone_problems("ttl = \"6s\"\n"), "z.toml:2:7: ", &["`ttl` (6s)", "`lease.min` (5s, its default)"]);
    assert_one(
        &zone_problems("ttl = \"20s\"\n[lease]\nmin = \"10s\"\n"),
        "z.toml:4:7: ",
        &["`ttl` (20s)", "`lease.min` (10s)"],
    );
    assert_one(&zone_problems("[lease]\nmin = \"2s\"\n"), "z.toml:3:7: ", &["`ttl` (5s, its default)"]);
    assert_one(
        &zone_problems("[lease]\nmin = \"30s\"\n"),
        "z.toml:3:7: ",
        &["`lease.min` (30s)", "`lease.default` (15s, its default)"],
    );
    assert_one(
        &zone_problems("[lease]\nmax = \"10s\"\n"),
        "z.toml:3:7: ",
        &["`lease.default` (15s, its default)", "`lease.max` (10s)"],
    );
    let problems =
        zone_problems("ttl = \"0s\"\nnegative-ttl = \"1500ms\"\nsettle = \"1001ms\"\n[lease]\nmin = \"0s\"\n");
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert_has(&problems, "z.toml:2:7: ", &["`ttl`", "1s to 2147483647s"]);
    assert_has(&problems, "z.toml:3:16: ", &["whole seconds", "1500ms"]);
    assert_has(&problems, "z.toml:4:10: ", &["`settle`", "1s at most"]);
    assert_has(&problems, "z.toml:6:7: ", &["`lease.min`", "1s to"]);
    assert_one(&zone_problems("ttl = \"2147483648s\"\n"), "z.toml:2:7: ", &["2147483647s"]);
    assert_one(&zone_problems("ttl = \"5\"\n"), "z.toml:2:7: ", &["`ttl` is no duration", "\"15s\""]);
    assert_one(&zone_problems("[soa]\nretry = \"0s\"\n"), "z.toml:3:9: ", &["`soa.retry`"]);
}

#[test]
fn access_entries_name_who_is_admitted() {
    let (zone, _) = zone(
        "[access]\nupdate = [{ key = \"agents.\" }, { network = \"10.0.0.0/8\" },\n\
         { key = \"AGENTS.\", network = \"::1/128\", services = [\"_x._tcp\"], ids = [\"a*\"], members = \"any\", \
         records = [\"_acme-challenge.*\"] }]\nquery = []\n",
    );
    assert_eq!((zone.update[0].members, zone.update[1].members), (Scope::Own, Scope::Any));
    assert_eq!((&zone.update[0].services, &zone.update[0].ids), (&Globs::all(), &Globs::all()));
    assert_eq!(zone.update[0].records, Globs::default());
    let both = &zone.update[2];
    assert_eq!(both.key, Some("agents.".parse().unwrap()));
    assert_eq!((both.members, &both.ids.0), (Scope::Any, &vec!["a*".to_owned()]));
    assert_eq!(both.records.0, ["_acme-challenge.*"]);
    assert_eq!(zone.query, Some(Vec::new()));

    let problems = zone_problems(
        "[access]\nupdate = [{ services = [\"*\"] }, { key = \"nobody.\" }, { key = \"agents\" },\n\
         { network = \"10.0.0.1/8\" }, { network = \"10.0.0.1\" }, { network = \"here\" },\n\
         { key = \"agents.\", members = \"all\" }]\n\
         query = [{}, { key = \"agents.\" }, { network = \"::/300\" }]\n",
    );
    assert_eq!(problems.len(), 10, "{problems:#?}");
    assert_has(&problems, "z.toml:3:11: ", &["`key`", "`network`"]);
    assert_has(&problems, "z.toml:3:41: ", &["no key nobody.", "[[key]]"]);
    assert_has(&problems, "z.toml:3:62: ", &["\"agents.\""]);
    assert_has(&problems, "z.toml:4:13: ", &["\"10.0.0.0/8\"", "\"10.0.0.1/32\""]);
    assert_has(&problems, "z.toml:4:41: ", &["\"10.0.0.1/32\""]);
    assert_has(&problems, "z.toml:4:67: ", &["no network"]);
    assert_has(&problems, "z.toml:5:30: ", &["\"own\" or \"any\""]);
    assert_has(&problems, "z.toml:6:10: ", &["names a `network`"]);
    assert_has(&problems, "z.toml:6:22: ", &["leave the key out"]);
    assert_has(&problems, "z.toml:6:47: ", &["no network"]);
}

#[test]
fn services_have_two_underscore_labels() {
    let (zone, _) = zone(
        "[[service]]\nname = \"_Memcached._tcp.east\"\nhost-name = \"Cache\"\n[[service]]\nname = \"_x._udp.z.test.\"\n\
         host-name = \"\"\ndns-sd = true\n[[service]]\nname = \"_y._tcp\"\nhost-name = \"y\"\n",
    );
    let services = &zone.settings.services;
    assert_eq!(services[0].service.to_string(), "_memcached._tcp.east.z.test.");
    assert_eq!(services[0].host_name, HostName::Label(b"cache".as_slice().into()));
    assert_eq!(services[1].service.to_string(), "_x._udp.z.test.");
    assert_eq!((&services[1].host_name, services[1].dns_sd), (&HostName::Unpublished, true));
    assert_eq!(services[2].host_name, HostName::Default);

    let problems = zone_problems(
        "[[service]]\nname = \"memcached._tcp\"\n[[service]]\nname = \"_x\"\n[[service]]\nname = \"_x._tcp.other.\"\n\
         [[service]]\n[[service]]\nname = \"_y._tcp\"\nhost-name = \"a_b\"\n[[service]]\nname = \"_y._tcp.z.test.\"\n\
         [[service]]\nname = \"_z..tcp\"\n",
    );
    assert_eq!(problems.len(), 7, "{problems:#?}");
    assert_has(&problems, "z.toml:3:8: ", &["underscore", "memcached._tcp"]);
    assert_has(&problems, "z.toml:5:8: ", &["underscore"]);
    assert_has(&problems, "z.toml:7:8: ", &["not within z.test."]);
    assert_has(&problems, "z.toml:8:", &["needs its `name`"]);
    assert_has(&problems, "z.toml:11:13: ", &["one label"]);
    assert_has(&problems, "z.toml:13:8: ", &["already"]);
    assert_has(&problems, "z.toml:15:8: ", &["empty label"]);
}

#[test]
fn a_folder_of_zones_is_read_in_order() {
    let files = Files::new(&[
        ("zones/b.toml", "origin = \"z.test.\"\n"),
        ("zones/a.toml", "origin = \"sub.z.test.\"\n"),
        ("zones/c.zone", "no TOML"),
    ]);
    let zones = load_zones(&files.path("zones"), &keys()).unwrap();
    let origins: Vec<String> = zones.iter().map(|zone| zone.settings.origin.to_string()).collect();
    assert_eq!(origins, ["sub.z.test.", "z.test."]);

    fs::write(files.path("zones/d.toml"), "ttl = \"5s\"\norigin = \"Z.test.\"\n").unwrap();
    fs::write(files.path("zones/e.toml"), "origin = \"e\"\n").unwrap();
    let problems = files.lines(&load_zones(&files.path("zones"), &keys()).unwrap_err().to_string());
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert_has(&problems, "zones/d.toml:2:10: ", &["zones/b.toml", "keep one"]);
    assert_has(&problems, "zones/e.toml:1:10: ", &["dot"]);
}

#[test]
fn problems_of_the_server_and_its_zones_come_together() {
    let key = format!("[[key]]\nname = \"agents.\"\nsecret = \"{SECRET}\"\n");
    let files = Files::new(&[
        ("l.toml", &format!("[dns]\nthreads = 9999\n{key}")),
        ("zones/z.toml", "origin = \"z.test.\"\nttl = \"0s\"\n[access]\nupdate = [{ key = \"agents.\" }]\n"),
    ]);
    let problems = files.lines(&load_all(Some(&files.path("l.toml"))).unwrap_err().to_string());
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert_has(&problems, "l.toml:2:11: ", &["threads"]);
    assert_has(&problems, "zones/z.toml:2:7: ", &["ttl"]);
    fs::write(files.path("l.toml"), "zones-dir = \n").unwrap();
    assert_one(&files.lines(&load_all(Some(&files.path("l.toml"))).unwrap_err().to_string()), "l.toml:1:", &[]);
}
