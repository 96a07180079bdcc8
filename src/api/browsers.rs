//! What web pages may not do where no token keeps them out.
//!
//! A browser on a machine that reaches the API sends it what any page asks for: a form or a `fetch` of another site, which
//! can't read the answer and doesn't have to (CSRF), and, once that site's name leads to this address (DNS rebinding),
//! requests that are of the page's own origin and read everything. Browsers tell both: the first by `Origin` (RFC 6454 §7)
//! and `Sec-Fetch-Site`, the second by the name in `Host`, which is still the site's (RFC 9110 §7.2). A page can't
//! change any of the three, and programs send no `Origin`.
//!
//! With a token none of this is needed: no page of another site can add one.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};

use super::access::Openness;
use super::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a page of another site asks for.
pub(super) fn check<B>(request: &Request<B>, openness: Openness) -> Result<(), Problem> {
    let host = host(request);
    if openness == Openness::ThisMachine && !host.is_none_or(is_of_this_machine) {
        let detail = "the request names another host than this machine: ask for 127.0.0.1, [::1] or localhost; to be reached \
                      by other names, livezone.toml needs a [[token]], or `open = true` in [http]";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_safe && is_of_another_site(request.headers(), host.unwrap_or_default()) {
        let detail = "a web page of another origin asks for this: only programs and pages of this server may without a token; \
                      leave `Origin` and `Sec-Fetch-Site` out, or set up a [[token]] in livezone.toml and send it";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(())
}

/// The host that a request is for (RFC 9112 §3.2.2 and 3.3); none: it doesn't say, as in HTTP/1.0.
fn host<B>(request: &Request<B>) -> Option<&str> {
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    request.uri().authority().map(Authority::as_str).or(named).filter(|host| !host.is_empty())
}

/// Whether that is a name which no DNS server can lead here (RFC 6761 §6.3), or an address.
fn is_of_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost") || address.parse::<IpAddr>().is_ok()
}

fn is_of_another_site(headers: &HeaderMap, host: &str) -> bool {
    let is_foreign = |origin: &str| {
        // "null" has no authority.
        !origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    };
    let texts = |name| headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default());
    texts(header::ORIGIN).any(is_foreign)
        || texts(SEC_FETCH_SITE).any(|site| matches!(site, "cross-site" | "same-site"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(openness: Openness, method: &str, uri: &str, headers: &[(&str, &str)]) -> bool {
        let request = Request::builder().method(method).uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let refusal = check(&request.body(()).unwrap(), openness).err();
        refusal.inspect(|problem| assert_eq!(problem.status, 403)).is_some()
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let host = ("host", "127.0.0.1:8053");
        let refused = |openness, method: &str, more: (&str, &str)| is_refused(openness, method, "/", &[host, more]);
        for openness in [Openness::ThisMachine, Openness::Everyone] {
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                for origin in
                    ["https://evil.test", "http://127.0.0.1", "http://localhost:8053", "null", "", "127.0.0.1:8053"]
                {
                    assert!(refused(openness, method, ("origin", origin)), "{method} {origin}");
                }
                assert!(!refused(openness, method, ("origin", "http://127.0.0.1:8053")));
                for site in ["cross-site", "same-site"] {
                    assert!(refused(openness, method, ("sec-fetch-site", site)), "{method} {site}");
                }
                for site in ["same-origin", "none"] {
                    assert!(!refused(openness, method, ("sec-fetch-site", site)), "{method} {site}");
                }
                assert!(!refused(openness, method, ("accept", "*/*")));
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(!refused(openness, method, ("origin", "https://evil.test")));
                assert!(!refused(openness, method, ("sec-fetch-site", "cross-site")));
            }
        }
        assert!(is_refused(Openness::Everyone, "POST", "/", &[("origin", "http://a")]), "of which host?");
    }

    #[test]
    fn on_loopback_a_host_is_this_machine_or_an_address() {
        let refused = |openness, host: &str| is_refused(openness, "GET", "/", &[("host", host)]);
        for host in [
            "localhost",
            "LOCALHOST:8053",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8053",
            "[::1]:8053",
            "192.0.2.1:80",
            "[2001:db8::1]",
            "",
        ] {
            assert!(!refused(Openness::ThisMachine, host), "{host}");
        }
        for host in [
            "evil.test",
            "evil.test:8053",
            "localhost.evil.test",
            "evillocalhost",
            "127.0.0.1.evil.test",
            "::1",
            "a b",
            "1.2.3",
            ".",
        ] {
            assert!(refused(Openness::ThisMachine, host), "{host}");
            assert!(!refused(Openness::Everyone, host), "{host}");
        }
        for (uri, expected) in [("http://evil.test/", true), ("http://127.0.0.1/", false)] {
            let found = is_refused(Openness::ThisMachine, "GET", uri, &[("host", "localhost")]);
            assert_eq!(found, expected, "{uri}");
        }
        assert!(!is_refused(Openness::ThisMachine, "POST", "/", &[]), "HTTP/1.0 has none");
    }
}
