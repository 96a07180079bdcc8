//! Web pages that a browser on this machine shows, and what they may not do without a token.

use super::members::{MEMBERS, put, send, targets};
use super::*;

#[test]
fn a_web_page_of_another_site_drains_nobody_and_reads_nothing() {
    let server = TestServer::start();
    put(&server, "i-1", r#"{"port":1,"addresses":["10.0.0.1"]}"#);
    let drain = format!("{MEMBERS}/i-1/drain");
    let from = |header: &str, method: &str, path: &str| curl(&server, &["-X", method, "-H", header], path);
    for header in
        ["Origin: https://evil.test", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]
    {
        from(header, "POST", &drain).assert_problem(403, "set up a [[token]]");
    }
    // Its name leads here by now.
    for (method, path) in
        [("GET", "/v1/zones"), ("POST", &drain), ("GET", "/"), ("GET", "/metrics"), ("GET", "/nothing")]
    {
        from("Host: evil.test:8053", method, path).assert_problem(403, "ask for 127.0.0.1, [::1] or localhost");
    }
    for path in ["/healthz", "/readyz", "/v1/openapi.json"] {
        assert_eq!(from("Host: livezone.example.test", "GET", path).status, 200, "{path}");
    }
    assert_eq!(targets(&server).len(), 1);
    // This server's own, and programs.
    let own = format!("Origin: http://{}", http(&server));
    for header in [own.as_str(), "Host: localhost:8053", "Host:", "Content-Type: application/x-www-form-urlencoded"] {
        assert_eq!(from(header, "POST", &drain).status, 200, "{header}");
    }
    assert_eq!(curl(&server, &["--http1.0", "-H", "Host:", "-X", "POST"], &drain).status, 200);
}

#[test]
fn what_is_open_to_everyone_has_any_name_and_with_a_token_who_asks_is_known() {
    let open = "[http]\nlisten = \"127.0.0.1:0\"\nopen = true\n".to_owned();
    let server = TestServer::with(&Setup { server: open, ..Setup::default() });
    let named = ["-H", "Host: livezone.example.test"];
    assert_eq!(curl(&server, &named, "/v1/zones").status, 200);
    put(&server, "i-1", r#"{"port":1}"#);
    let page = ["-X", "POST", "-H", "Origin: https://evil.test"];
    curl(&server, &page, &format!("{MEMBERS}/i-1/drain")).assert_problem(403, "a web page of another origin");
    let drained = [&page[..2], &named, &["-H", "Origin: https://livezone.example.test"]].concat();
    assert_eq!(curl(&server, &drained, &format!("{MEMBERS}/i-1/drain")).status, 200);

    let made = tokens::make("writer", "access = \"write\"");
    let server = TestServer::with(&Setup { server: made.table.clone(), ..Setup::default() });
    let presented = format!("Authorization: Bearer {}", made.token);
    let with_token = [&page[..], &named, &["-H", &presented]].concat();
    curl(&server, &with_token, &format!("{MEMBERS}/i-1/drain")).assert_problem(404, "no member i-1");
    send(&server, "GET", "/v1/zones", "").assert_problem(401, "Authorization");
}
