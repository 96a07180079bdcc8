//! DNS over TLS (RFC 7858): the same answers as over TCP, to the field's own programs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::support::client::{Answer, ask_tcp};
use crate::support::message::*;
use crate::support::programs::{kdig, run};
use crate::support::server::{Setup, TestServer, livezone};
use crate::support::tsig::{AnswerTsig, BADKEY, BADSIG, BADTIME, unix_time};
use crate::support::{MEMCACHED, PATIENCE, ZONE, wait_until};

const NAME: &str = "ns1.svc.example.test";

/// Writes `NAME.pem` and `NAME.key`.
pub(super) fn make_certificate(folder: &Path, name: &str) {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let mut arguments = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    arguments.extend(["-days", "2", "-subj", "/CN=livezone test", "-keyout", key, "-out", certificate]);
    let subject = format!("subjectAltName=DNS:{NAME},IP:127.0.0.1");
    arguments.extend(["-addext", &subject, "-addext", "basicConstraints=critical,CA:FALSE"]);
    let output = run("openssl", &arguments, "");
    assert!(output.status.success(), "{output:?}");
}

/// A server with DNS over TLS, and the folder of its certificate.
pub(super) struct Secured {
    pub(super) server: TestServer,
    tls: SocketAddr,
    folder: TempDir,
}

impl Secured {
    pub(super) fn start(mut setup: Setup) -> Secured {
        let folder = TempDir::with_prefix("livezone-tls-").unwrap();
        make_certificate(folder.path(), "server");
        let at = folder.path().display();
        setup.server = format!(
            "{}\n[dns]\ntls-listen = [\"127.0.0.1:0\"]\nnsid = \"here\"\n[tls]\ncertificate = \"{at}/server.pem\"\n\
             key = \"{at}/server.key\"\n",
            setup.server
        );
        let server = TestServer::with(&setup);
        let address = |line: &String| line.strip_prefix("listening on ")?.strip_suffix(", DNS over TLS")?.parse().ok();
        let tls = wait_until(PATIENCE, "the address of TLS", || server.stdout.lock().unwrap().iter().find_map(address));
        Secured { server, tls, folder }
    }

    fn certificate(&self) -> String {
        self.folder.path().join("server.pem").to_str().unwrap().to_owned()
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certificate()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
        let stream = TcpStream::connect(self.tls).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(connection, stream)
    }

    pub(super) fn ask(&self, packet: &[u8]) -> Answer {
        let mut stream = self.connect();
        send(&mut stream, packet);
        Answer::read(receive(&mut stream))
    }
}

fn send(stream: &mut impl Write, packet: &[u8]) {
    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], packet].concat()).unwrap();
    stream.flush().unwrap();
}

fn receive(stream: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).unwrap();
    octets
}

/// Everything that a reader of the message sees; names with their case.
fn assert_equal(tls: &Answer, tcp: &Answer, question: &[u8], what: &str) {
    assert_eq!(tls.octets[..12], tcp.octets[..12], "{what}: header");
    assert!(tls.octets[12..].starts_with(question), "{what}: question");
    for (ours, theirs) in [
        (&tls.message.answers, &tcp.message.answers),
        (&tls.message.authorities, &tcp.message.authorities),
        (&tls.message.additionals, &tcp.message.additionals),
    ] {
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{what}");
    }
    assert_eq!(format!("{:?}", tls.message.edns), format!("{:?}", tcp.message.edns), "{what}");
    assert_eq!(tls.rcode(), tcp.rcode(), "{what}");
}

const AXFR: u16 = 252;

const STATICS: &str = "$TTL 1h\n@ IN NS ns1\nns1 IN A 127.0.0.1\nns1 IN AAAA ::1\nalias IN CNAME ns1\n\
    mail IN MX 10 ns1\n*.wild IN TXT \"w\"\nsub IN NS ns.sub\nns.sub IN A 192.0.2.53\ntree IN DNAME ns1\n\
    odd IN TYPE65400 \\# 3 010203\nafs IN AFSDB 1 ns1\nloc IN LOC 51 30 12.748 N 0 7 39.611 W 0.00m\n\
    caa IN CAA 0 issue \"x\"\nweb IN HTTPS 1 . alpn=h2\n";

#[test]
fn answers_over_tls_equal_those_over_tcp() {
    let secured = Secured::start(Setup { statics: STATICS.to_owned(), ..Setup::default() });
    let client = secured.server.client();
    for number in 0..30 {
        client.update(&Update::member(MEMCACHED, &format!("i-{number}"), &format!("192.0.2.{number}")));
    }
    let (mut over_tls, mut asked) = (secured.connect(), 0);
    let names =
        ["", "alias.", "mail.", "x.wild.", "deep.sub.", "a.tree.", "odd.", "afs.", "loc.", "caa.", "web.", "_tcp."];
    let names = names.map(|label| format!("{label}{ZONE}")).into_iter();
    let others = [
        MEMCACHED,
        "memcached.SVC.example.TEST.",
        "i-1.memcached.svc.example.test.",
        "elsewhere.test.",
        "nIcHtS.svc.example.test.",
    ];
    for name in names.chain(others.map(str::to_owned)) {
        for qtype in [A, NS, CNAME, SOA, TXT, AAAA, SRV, ANY, 15, 18, 29, 39, 65, AXFR, 257, 65_400] {
            if (qtype, &*name) == (AXFR, ZONE) {
                continue;
            }
            let question = question(&name, qtype, IN);
            let options = [Vec::new(), [option(3, &[]), option(11, &[]), option(65_001, b"x")].concat()];
            let plain = [header(next_id(), 0x0110, [1, 0, 0, 0]), question.clone()].concat();
            let with_edns = options
                .map(|options| [header(next_id(), 0, [1, 0, 0, 1]), question.clone(), opt(4096, 0, &options)].concat());
            for packet in [plain].into_iter().chain(with_edns) {
                send(&mut over_tls, &packet);
                let answer = Answer::read(receive(&mut over_tls));
                let tcp = ask_tcp(secured.server.address, &packet);
                assert_equal(&answer, &tcp, &question, &format!("{name} {qtype}: {packet:02x?}"));
                asked += 1;
            }
        }
    }
    assert!(asked > 800);
    // Another class, another opcode, another version of EDNS.
    let question = question(ZONE, SOA, IN);
    let chaos =
        [header(next_id(), 0, [1, 0, 0, 0]), crate::support::message::question("version.bind.", TXT, 3)].concat();
    let notify = [header(next_id(), 4 << 11, [1, 0, 0, 1]), question.clone(), opt(1232, 0, &[])].concat();
    let version = [header(next_id(), 0, [1, 0, 0, 1]), question.clone(), opt(1232, 1, &[])].concat();
    for packet in [chaos, notify, version] {
        let (tls, tcp) = (secured.ask(&packet), ask_tcp(secured.server.address, &packet));
        assert_equal(&tls, &tcp, &tcp.octets[12..tcp.octets.len().min(20)], &format!("{packet:02x?}"));
    }
}

/// What carries TLS sends one message as an answer.
#[test]
fn zones_are_not_transferred_over_tls() {
    let secured = Secured::start(Setup::default());
    let soa = record(ZONE, SOA, IN, 0, &[0; 22]);
    let ixfr = [header(next_id(), 0, [1, 0, 1, 1]), question(ZONE, 251, IN), soa, opt(1232, 0, &[])].concat();
    for packet in [edns_query(ZONE, AXFR, 1232), ixfr] {
        let answer = secured.ask(&packet);
        assert_eq!((answer.rcode(), answer.message.answers.len()), (5, 0));
        assert!(answer.error_text().contains("not over TLS"), "{}", answer.error_text());
    }
}

#[test]
fn a_large_answer_comes_whole_over_tls() {
    let secured = Secured::start(Setup::default());
    let client = secured.server.client();
    for chunk in (0..500).collect::<Vec<_>>().chunks(20) {
        let update = chunk.iter().fold(Update::new(), |update, number| {
            update.and_member(MEMCACHED, &format!("i-{number}"), &format!("192.0.2.{}", number % 250))
        });
        client.update(&update);
    }
    let packet = edns_query(MEMCACHED, SRV, 1232);
    let (tls, tcp) = (secured.ask(&packet), ask_tcp(secured.server.address, &packet));
    assert_eq!(tls.message.answers.len(), 500);
    assert_equal(&tls, &tcp, &question(MEMCACHED, SRV, IN), "500 members");
}

#[test]
fn a_set_that_fits_tcp_and_not_the_encoder_of_tls_is_servfail_there_and_logged_once() {
    let secured = Secured::start(Setup::default());
    let client = secured.server.client();
    // 52 octets each over TCP, of 56,000; over TLS 84 from the 121st on.
    for chunk in (0..1050).collect::<Vec<_>>().chunks(30) {
        let update = chunk.iter().fold(Update::new(), |update, number| {
            update.and_member(MEMCACHED, &format!("i-{number}"), &format!("192.0.2.{}", number % 250))
        });
        client.update(&update);
    }
    let packet = edns_query(MEMCACHED, SRV, 1232);
    assert_eq!(ask_tcp(secured.server.address, &packet).message.answers.len(), 1050);
    for _ in 0..3 {
        assert_eq!(secured.ask(&packet).rcode(), 2);
    }
    secured.server.assert_logged("too large for TLS", 1);
}

#[test]
fn signed_messages_are_answered_with_a_valid_signature_over_tls() {
    let secured = Secured::start(Setup {
        keys: vec![("agents", "hmac-sha256"), ("large", "hmac-sha512")],
        tables: "[access]\nupdate = [{ key = \"agents.\", services = [\"*\"], ids = [\"*\"] }, \
                 { key = \"large.\", services = [\"*\"], ids = [\"*\"] }]\n"
            .to_owned(),
        ..Setup::default()
    });
    for name in ["agents", "large"] {
        let key = secured.server.key(name);
        let id = format!("i-{name}");
        let update = key.sign(&Update::member(MEMCACHED, &id, "192.0.2.1").lease(60).encode());
        let answer = secured.ask(&update.octets);
        assert_eq!((answer.rcode(), answer.lease()), (0, Some(60u32.to_be_bytes().to_vec())));
        let seal = key.read_answer(&answer.octets, &update.mac).unwrap();
        assert_eq!((seal.verified, seal.error), (Some(true), 0));
        // Names in the answer, and the large set as well.
        for packet in [edns_query(MEMCACHED, SRV, 1232), query(ZONE, NS), query("none.svc.example.test.", A)] {
            let signed = key.sign(&packet);
            let answer = secured.ask(&signed.octets);
            assert_eq!(key.read_answer(&answer.octets, &signed.mac).unwrap().verified, Some(true));
        }
        // Refused by policy, and signed all the same.
        let foreign = key.sign(&Update::new().add(&format!("x.{ZONE}"), TXT, 5, &txt(&["x"])).encode());
        let answer = secured.ask(&foreign.octets);
        assert_eq!((answer.rcode(), answer.error_text().is_empty()), (5, false));
        assert_eq!(key.read_answer(&answer.octets, &foreign.mac).unwrap().verified, Some(true));
    }
    assert_eq!(secured.server.client().targets(MEMCACHED).len(), 2);
    let key = secured.server.key("agents");
    let check = |packet: &[u8], mac: &[u8]| -> (u16, AnswerTsig) {
        let answer = secured.ask(packet);
        (answer.rcode(), key.read_answer(&answer.octets, mac).unwrap())
    };
    // Older than what was accepted: the server's time, signed.
    let update = || Update::member(MEMCACHED, "i-agents", "192.0.2.2").encode();
    for time in [unix_time() - 100, unix_time() - 4000] {
        let late = key.sign_at(&update(), time);
        let (rcode, seal) = check(&late.octets, &late.mac);
        assert_eq!((rcode, seal.error, seal.verified, seal.other.len()), (9, BADTIME, Some(true), 6));
    }
    let mut wrong = key.clone();
    wrong.secret[0] ^= 1;
    let forged = wrong.sign(&update());
    let (rcode, seal) = check(&forged.octets, &forged.mac);
    assert_eq!((rcode, seal.error, seal.verified), (9, BADSIG, None));
    let mut unknown = key.clone();
    unknown.name = "nobody.".to_owned();
    let signed = unknown.sign(&update());
    let answer = secured.ask(&signed.octets);
    let seal = unknown.read_answer(&answer.octets, &signed.mac).unwrap();
    assert_eq!((answer.rcode(), seal.error, seal.verified), (9, BADKEY, None));
}

#[test]
fn unsigned_updates_over_tls_follow_the_rules_of_tcp() {
    let secured = Secured::start(Setup::default());
    let answer = secured.ask(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(30).encode());
    assert_eq!((answer.rcode(), answer.lease()), (0, Some(30u32.to_be_bytes().to_vec())));
    let refused = Update::new().add(&format!("x.{ZONE}"), TXT, 5, &txt(&["x"])).encode();
    let (tls, tcp) = (secured.ask(&refused), ask_tcp(secured.server.address, &refused));
    assert_equal(&tls, &tcp, &question(ZONE, SOA, IN), "refused");
}

#[test]
fn rubbish_over_tls_harms_nobody_and_a_response_gets_no_reply() {
    let secured = Secured::start(Setup::default());
    let mut stream = secured.connect();
    let response = [header(next_id(), 0x8000, [1, 0, 0, 0]), question(ZONE, SOA, IN)].concat();
    send(&mut stream, &response);
    send(&mut stream, &[0; 5]);
    let after = query(ZONE, SOA);
    send(&mut stream, &after);
    assert_eq!(receive(&mut stream)[..2], after[..2]);
    // What hickory-server can't read.
    let broken = header(next_id(), 0, [1, 0, 0, 0]);
    send(&mut stream, &broken);
    let answer = receive(&mut stream);
    assert_eq!((&answer[..2], answer[3] & 0xf), (&broken[..2], 1));
    // No TLS at all, and half a handshake.
    let mut plain = TcpStream::connect(secured.tls).unwrap();
    plain.write_all(&[0x16, 3, 1, 0xff]).unwrap();
    drop(plain);
    assert_eq!(secured.ask(&query(ZONE, SOA)).rcode(), 0);
}

#[test]
fn kdig_reads_over_tls_and_checks_the_certificate() {
    let secured = Secured::start(Setup::default());
    let opportunistic = kdig(secured.tls, &["+tls", ZONE, "SOA"]);
    assert_eq!((opportunistic.status.as_str(), opportunistic.answers.len()), ("NOERROR", 1));
    assert!(opportunistic.has_flag("aa"));
    let (ca, host) = (format!("+tls-ca={}", secured.certificate()), format!("+tls-hostname={NAME}"));
    let strict = kdig(secured.tls, &[&ca, &host, ZONE, "SOA"]);
    assert_eq!(strict.answers, opportunistic.answers);
    // Another certificate is not believed.
    make_certificate(secured.folder.path(), "other");
    let ca = format!("+tls-ca={}", secured.folder.path().join("other.pem").display());
    let port = secured.tls.port().to_string();
    let output = run("kdig", &["@127.0.0.1", "-p", &port, "+retry=0", &ca, &host, ZONE, "SOA"], "");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("NOERROR"), "{output:?}");
}

#[test]
fn unbound_forwards_over_tls() {
    let secured = Secured::start(Setup::default());
    secured.server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1"));
    let folder = secured.folder.path();
    let mut unbound = wait_until(PATIENCE, "unbound", || {
        let port = UdpSocket::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "server:\n directory: \"{0}\"\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n use-syslog: no\n\
             \x20interface: 127.0.0.1@{port}\n do-not-query-localhost: no\n module-config: \"iterator\"\n\
             \x20tls-cert-bundle: \"{1}\"\n local-zone: \"test.\" nodefault\n\
             remote-control:\n control-enable: no\n\
             forward-zone:\n name: \"{ZONE}\"\n forward-tls-upstream: yes\n forward-addr: 127.0.0.1@{2}#{NAME}\n",
            folder.display(),
            secured.certificate(),
            secured.tls.port()
        );
        let file = folder.join("unbound.conf");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(folder.join("unbound.log")).unwrap();
        let mut command = Command::new("unbound");
        command.args(["-d", "-c"]).arg(&file).stdout(Stdio::null()).stderr(log);
        let mut process = command.env("PATH", path()).spawn().unwrap();
        // Another process may have taken the port meanwhile.
        let up = wait_until(PATIENCE, "unbound to listen", || match process.try_wait().unwrap() {
            Some(_) => Some(false),
            None => TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true),
        });
        up.then_some((process, SocketAddr::from(([127, 0, 0, 1], port))))
    });
    let printed = kdig(unbound.1, &[MEMCACHED, "SRV"]);
    let log = std::fs::read_to_string(folder.join("unbound.log")).unwrap();
    unbound.0.kill().unwrap();
    unbound.0.wait().unwrap();
    assert_eq!(printed.status, "NOERROR", "{}\n{log}", printed.text);
    assert!(printed.answers.iter().any(|line| line.ends_with("i-1.memcached.svc.example.test.")), "{}", printed.text);
}

/// Daemons are not on everybody's path.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

#[test]
fn a_changed_certificate_takes_a_restart_and_a_reload_says_so() {
    let secured = Secured::start(Setup::default());
    make_certificate(secured.folder.path(), "server");
    let pid = secured.server.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    secured.server.assert_logged("`tls.certificate` has changed", 1);
}

#[test]
fn what_is_wrong_with_certificate_or_key_is_said_with_its_place() {
    let folder = TempDir::with_prefix("livezone-tls-").unwrap();
    for name in ["a", "b"] {
        make_certificate(folder.path(), name);
    }
    std::fs::write(folder.path().join("empty.pem"), "nothing\n").unwrap();
    std::fs::create_dir(folder.path().join("zones")).unwrap();
    let config = folder.path().join("livezone.toml");
    let refusal = |tls: &str| {
        std::fs::write(&config, format!("[dns]\ntls-listen = [\"127.0.0.1:0\"]\n{tls}")).unwrap();
        let output = livezone().args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&config).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let says = |tls: &str, parts: &[&str]| {
        let text = refusal(tls);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    says("", &["livezone.toml:2:14: `tls-listen` needs a certificate: add [tls]"]);
    says("[tls]\nkey = \"a.key\"\n", &["livezone.toml:3:1: [tls] lacks `certificate`"]);
    says(
        "[tls]\ncertificate = \"a.pem\"\nkey = \"gone.key\"\n",
        &["livezone.toml:5:7: `key`: ", "gone.key can't be read"],
    );
    says(
        "[tls]\ncertificate = \"empty.pem\"\nkey = \"a.key\"\n",
        &["livezone.toml:4:15: `certificate`: ", "no readable certificate"],
    );
    says(
        "[tls]\ncertificate = \"a.pem\"\nkey = \"a.pem\"\n",
        &["livezone.toml:5:7: `key`: ", "no readable private key"],
    );
    says(
        "[tls]\ncertificate = \"a.pem\"\nkey = \"b.key\"\n",
        &["livezone.toml:5:7: `key` is not that of the certificate in a.pem"],
    );
}
