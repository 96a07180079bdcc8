//! The HTTP API over TLS.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::tls::make_certificate;

/// A server with the certificate `server.pem` of a folder.
fn secured(folder: &Path) -> TestServer {
    make_certificate(folder, "server");
    let at = folder.display();
    TestServer::with(&Setup {
        server: format!(
            "[http]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{at}/server.pem\"\nkey = \"{at}/server.key\"\n"
        ),
        ..Setup::default()
    })
}

/// The status of a request that trusts this certificate alone; 0 if there is no answer.
fn status(server: &TestServer, certificate: &Path) -> u16 {
    let url = format!("https://{}/v1/zones", http(server));
    let certificate = certificate.to_str().unwrap();
    let output = run("curl", &["-s", "-m", "20", "-o", "-", "-w", "\n%{http_code}", "--cacert", certificate, &url], "");
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap().parse().unwrap()
}

#[test]
fn https_is_spoken_to_curl_and_to_the_commands_and_nothing_else_is() {
    let folder = TempDir::with_prefix("livezone-tls-").unwrap();
    let server = secured(folder.path());
    server.client().update(&Update::member(MEMCACHED, "i-1", "192.0.2.1").lease(60));
    let certificate = folder.path().join("server.pem");
    assert_eq!(status(&server, &certificate), 200);
    let plain = run("curl", &["-s", "-m", "20", &format!("http://{}/healthz", http(&server))], "");
    assert!(!plain.status.success());
    let url = format!("https://{}", http(&server));
    let trusted = command(&["members", "--server", &url, "--ca", certificate.to_str().unwrap()]);
    assert!(trusted.status.success() && String::from_utf8(trusted.stdout).unwrap().contains("i-1"));
    let untrusted = command(&["members", "--server", &url]);
    let words = String::from_utf8(untrusted.stderr).unwrap();
    assert!(!untrusted.status.success() && words.contains("certificate"), "{words}");
    server.assert_logged("tls=true", 1);
}

#[test]
fn a_changed_certificate_is_taken_over_without_a_restart() {
    let folder = TempDir::with_prefix("livezone-tls-").unwrap();
    let server = secured(folder.path());
    let (first, second) = (folder.path().join("first.pem"), folder.path().join("second.pem"));
    std::fs::copy(folder.path().join("server.pem"), &first).unwrap();
    assert_eq!((status(&server, &first), server.count_logged("error")), (200, 0));
    make_certificate(folder.path(), "second");
    // One behind the other: between the two they don't belong together, and what runs goes on.
    std::fs::copy(&second, folder.path().join("server.pem")).unwrap();
    server.wait_for_line("is not that of the certificate");
    assert_eq!(status(&server, &first), 200);
    std::fs::copy(folder.path().join("second.key"), folder.path().join("server.key")).unwrap();
    wait_until(PATIENCE, "the other certificate", || (status(&server, &second) == 200).then_some(()));
    assert_eq!(status(&server, &first), 0);
}

#[test]
fn a_handshake_that_does_not_come_in_is_cut_off() {
    let folder = TempDir::with_prefix("livezone-tls-").unwrap();
    let server = secured(folder.path());
    let start = Instant::now();
    let mut stream = TcpStream::connect(http(&server)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    let took = start.elapsed();
    assert!(took > Duration::from_secs(8) && took < Duration::from_secs(15), "{took:?}");
}
