//! `[dns] tls-listen` and `[tls]`: the certificate and its key are read, and held against each other, here.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use toml::Spanned;

use super::problems::Findings;
use super::server::{read_listen, without_effect};
use super::{Tls, read, written};

/// DNS over TLS, if it is asked for and everything that it needs is there.
pub(super) fn check(findings: &mut Findings, written: &written::Server, folder: &Path) -> Option<Tls> {
    if let Some(tls) = &written.tls {
        without_effect(findings, tls.get_ref().client_ca.as_ref(), "tls.client-ca");
    }
    let listen = written.dns.as_ref().and_then(|dns| dns.tls_listen.as_ref());
    let Some(listen) = listen.filter(|listen| !listen.get_ref().is_empty()) else {
        if let Some(tls) = &written.tls {
            findings.warn(&tls.span(), "`tls` has no effect without `dns.tls-listen`");
        }
        return None;
    };
    let addresses = read_listen(findings, "tls-listen", listen);
    let Some(tls) = &written.tls else {
        findings.problem(
            &listen.span(),
            "`tls-listen` needs a certificate: add [tls] with certificate = \"cert.pem\" and key = \"key.pem\"",
        );
        return None;
    };
    let (certificate, key) = (&tls.get_ref().certificate, &tls.get_ref().key);
    let certified = certified(findings, "tls", &tls.span(), (certificate, key), folder)?;
    Some(Tls { listen: addresses, certified })
}

/// The certificate chain and key that a table names, both of which it has to.
pub(super) fn certified(
    findings: &mut Findings,
    table: &str,
    span: &Range<usize>,
    (certificate, key): (&written::Text, &written::Text),
    folder: &Path,
) -> Option<Arc<CertifiedKey>> {
    let mut named = |key: &str, written: &Option<Spanned<String>>| {
        if written.is_none() {
            findings.problem(span, format!("[{table}] lacks `{key}`: name the PEM file, as in {key} = \"{key}.pem\""));
        }
        written.clone()
    };
    let (certificate, key) = (named("certificate", certificate), named("key", key));
    let (certificate, key) = (certificate?, key?);
    let chain = read_pem(findings, "certificate", &certificate, folder, |octets| {
        let chain = CertificateDer::pem_slice_iter(octets).collect::<Result<Vec<_>, _>>();
        chain.ok().filter(|chain| !chain.is_empty())
    });
    let secret = read_pem(findings, "key", &key, folder, |octets| PrivateKeyDer::from_pem_slice(octets).ok());
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain?, secret?, &provider) {
        Ok(certified) => Some(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let message = format!(
                "`key` is not that of the certificate in {}: name the two files that belong together",
                certificate.get_ref()
            );
            findings.problem(&key.span(), message);
            None
        }
        Err(error) => {
            let message = format!("`certificate` and `key` can't be used: {error}; use an ECDSA, Ed25519 or RSA key");
            findings.problem(&key.span(), message);
            None
        }
    }
}

/// Reads a PEM file; what is wrong is said where its name stands.
fn read_pem<T>(
    findings: &mut Findings,
    key: &str,
    written: &Spanned<String>,
    folder: &Path,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Option<T> {
    let path = folder.join(written.get_ref());
    let text = match read::read_text(&path) {
        Ok(text) => text,
        Err(problem) => {
            findings.problem(&written.span(), format!("`{key}`: {} {}", path.display(), problem.message));
            return None;
        }
    };
    let parsed = parse(text.as_bytes());
    if parsed.is_none() {
        let what = if key == "key" { "private key (BEGIN PRIVATE KEY)" } else { "certificate (BEGIN CERTIFICATE)" };
        findings.problem(&written.span(), format!("`{key}`: {} holds no readable {what} in PEM", path.display()));
    }
    parsed
}
