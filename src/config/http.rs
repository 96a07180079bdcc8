//! `[http]`: where the HTTP API is served, and for whom.

use std::net::SocketAddr;

use super::problems::Findings;
use super::server::without_effect;
use super::{Http, written};

/// Where to serve; beyond loopback only if everybody is to read.
pub(super) fn check(findings: &mut Findings, written: &written::Http) -> Http {
    without_effect(findings, written.certificate.as_ref(), "http.certificate");
    without_effect(findings, written.key.as_ref(), "http.key");
    let Some(text) = &written.listen else {
        without_effect(findings, written.open.as_ref(), "http.open");
        return Http::default();
    };
    let listen = match text.get_ref().as_str() {
        "" => None,
        address => match address.parse::<SocketAddr>() {
            Ok(address) => Some(address),
            Err(_) => {
                let message = format!(
                    "`listen` of [http] is no IP address with a port, \"{address}\": write one such as \
                     \"127.0.0.1:8053\", or \"\" for no HTTP"
                );
                findings.problem(&text.span(), message);
                None
            }
        },
    };
    let open = written.open.as_ref().is_some_and(|open| *open.get_ref());
    match listen {
        // Whom it is open to anyway.
        Some(address) if is_loopback(address) => without_effect(findings, written.open.as_ref(), "http.open"),
        None => without_effect(findings, written.open.as_ref(), "http.open"),
        Some(_) if open => {}
        Some(address) => {
            let message = format!(
                "`listen` of [http], {address}, is beyond loopback: that needs tokens, which this version does not have; \
                 listen on 127.0.0.1 or ::1, or set `open = true` to let everyone read who can reach it"
            );
            findings.problem(&text.span(), message);
        }
    }
    Http { listen }
}

/// Whether an address can be reached from this machine alone.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
