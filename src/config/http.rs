//! `[http]`: where the HTTP API is served, and for whom.

use std::net::SocketAddr;
use std::path::Path;

use super::problems::Findings;
use super::{Http, tls, written};

/// Where to serve; beyond loopback only with tokens, or if it is open on purpose.
pub(super) fn check(findings: &mut Findings, written: &written::Http, has_tokens: bool, folder: &Path) -> Http {
    let default = Http::default();
    let listen = match &written.listen {
        None => default.listen,
        Some(text) => match text.get_ref().as_str() {
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
        },
    };
    let open = written.open.as_ref().filter(|open| *open.get_ref());
    match (listen, open) {
        (_, Some(open)) if has_tokens => {
            findings.warn(&open.span(), "`http.open` has no effect beside [[token]]: every request needs a token");
        }
        (None, Some(open)) => findings.warn(&open.span(), "`http.open` has no effect where HTTP is off"),
        (Some(address), None) if !has_tokens && !is_loopback(address) => {
            let message = format!(
                "`listen` of [http], {address}, is beyond loopback: that needs a [[token]] (`livezone keygen --token NAME` \
                 makes one), or `open = true` to let everyone read and register who can reach it"
            );
            findings.problem(&written.listen.as_ref().map_or(0..0, |text| text.span()), message);
        }
        _ => {}
    }
    let certified = written.certificate.as_ref().or(written.key.as_ref()).and_then(|either| {
        tls::certified(findings, "http", &either.span(), (&written.certificate, &written.key), folder)
    });
    Http { listen, open: open.is_some() && !has_tokens, certified }
}

/// Whether an address can be reached from this machine alone.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
