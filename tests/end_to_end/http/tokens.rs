//! Tokens: who may ask for what, with curl, and with the commands.

use std::path::PathBuf;
use std::process::Command;

use super::*;

const SERVICES: &str = "/v1/zones/svc.example.test/services";
const OTHER_ZONE: &str = "origin = \"other.test.\"\nstatic = \"svc.example.test.zone\"\n";

/// What `livezone keygen --token` prints: the token, and its table.
pub(crate) struct Made {
    pub(crate) file: String,
    pub(crate) token: String,
    pub(crate) table: String,
}

pub(crate) fn make(name: &str, more: &str) -> Made {
    let output = command(&["keygen", "--token", name]);
    assert!(output.status.success(), "{output:?}");
    let file = String::from_utf8(output.stdout).unwrap();
    let token = file.lines().find(|line| !line.starts_with('#')).unwrap().to_owned();
    let digest = file.lines().find_map(|line| line.split_once("sha256 = ")).unwrap().1;
    let table = format!("[[token]]\nname = \"{name}\"\nsha256 = {digest}\n{more}\n");
    Made { file, token, table }
}

fn with_tokens(tokens: &[&Made]) -> TestServer {
    let server = tokens.iter().map(|made| made.table.as_str()).collect();
    TestServer::with(&Setup { server, ..Setup::default() })
}

fn send(server: &TestServer, token: &str, arguments: &[&str], path: &str) -> Response {
    let header = format!("Authorization: Bearer {token}");
    curl(server, &[&["-H", header.as_str()], arguments].concat(), path)
}

#[test]
fn with_a_token_configured_every_request_needs_one_but_for_those_about_health() {
    let (reader, writer) = (make("reader", ""), make("writer", "access = \"write\""));
    let server = with_tokens(&[&reader, &writer]);
    for path in ["/v1/zones", SERVICES, "/v1/nothing", "/"] {
        let response = curl(&server, &[], path);
        response.assert_problem(401, "Authorization: Bearer TOKEN");
        assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"livezone\""));
        let response = send(&server, "wrong", &[], path);
        response.assert_problem(401, "none that is known");
        assert!(response.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    }
    assert_eq!(curl(&server, &[], "/healthz").status, 200);
    let member = format!("{SERVICES}/_memcached._tcp/members/i-1");
    let put = ["-X", "PUT", "-d", r#"{"port":11211,"addresses":["10.0.0.5"]}"#];
    curl(&server, &put, &member).assert_problem(401, "Authorization");
    send(&server, &reader.token, &put, &member).assert_problem(403, "token reader only reads");
    assert_eq!(send(&server, &writer.token, &put, &member).status, 200);
    let told = send(&server, &reader.token, &[], &member).json();
    assert_eq!(told["owner"], "token writer");
    let commits = send(&server, &reader.token, &[], "/v1/zones/svc.example.test/commits").json();
    assert_eq!(commits["commits"][1]["changes"][0]["by"], "token writer");
    assert_eq!(server.count_logged(&writer.token), 0, "a token is never logged");
    server.assert_logged("HTTP is for this machine with one of the tokens", 1);
}

#[test]
fn a_token_shows_and_touches_what_it_covers_and_nothing_else() {
    let own = "members = \"own\"\naccess = \"write\"";
    let narrow = make("narrow", &format!("zones = [\"svc.*\"]\nservices = [\"_http.*\"]\n{own}"));
    let other = make("other", &format!("zones = [\"svc.example.test.\"]\n{own}"));
    let wide = make("wide", "access = \"write\"");
    let mut server = with_tokens(&[&narrow, &other, &wide]);
    server.kill_9();
    std::fs::write(server.folder().join("zones/other.test.toml"), OTHER_ZONE).unwrap();
    server.restart();
    let put = |token: &str, service: &str, id: &str, port: u16| {
        let body = format!(r#"{{"port":{port},"addresses":["10.0.0.5"]}}"#);
        send(&server, token, &["-X", "PUT", "-d", &body], &format!("{SERVICES}/{service}/members/{id}"))
    };
    assert_eq!(put(&wide.token, "_memcached._tcp", "i-1", 1).status, 200);
    assert_eq!(put(&narrow.token, "_http._tcp", "i-1", 1).status, 200);
    put(&narrow.token, "_memcached._tcp", "i-1", 2).assert_problem(403, "does not cover the service _memcached._tcp");
    put(&other.token, "_http._tcp", "i-1", 2).assert_problem(403, "belongs to token narrow");
    assert_eq!(put(&wide.token, "_http._tcp", "i-1", 2).status, 200);
    let ask = |made: &Made, path: &str| send(&server, &made.token, &[], path);
    let names = |list: &Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&ask(&narrow, "/v1/zones").json()["zones"], "origin"), [ZONE]);
    assert_eq!(names(&ask(&wide, "/v1/zones").json()["zones"], "origin"), [ZONE, "other.test."]);
    assert_eq!(names(&ask(&narrow, SERVICES).json()["services"], "service"), ["_http._tcp.svc.example.test."]);
    assert_eq!(ask(&wide, SERVICES).json()["services"].as_array().unwrap().len(), 2);
    // Whether there is such a zone is not told either.
    for zone in ["other.test", "none.test"] {
        ask(&narrow, &format!("/v1/zones/{zone}")).assert_problem(403, "does not cover the zone");
    }
    ask(&wide, "/v1/zones/none.test").assert_problem(404, "no zone");
    for (path, accept) in [("/commits", "*/*"), ("", "text/dns")] {
        let path = format!("/v1/zones/{ZONE}{path}");
        let accept = format!("Accept: {accept}");
        send(&server, &narrow.token, &["-H", &accept], &path).assert_problem(403, "does not cover all services");
        assert_eq!(send(&server, &wide.token, &["-H", &accept], &path).status, 200);
    }
    let batch = r#"[{"service":"_http._tcp","id":"i-1"},{"service":"_memcached._tcp","id":"i-1"}]"#;
    let told = send(&server, &narrow.token, &["-d", batch], &format!("/v1/zones/{ZONE}/heartbeats")).json();
    assert_eq!((&told["items"][0]["changed"], &told["items"][1]["status"]), (&false.into(), &403.into()), "{told}");
}

#[test]
fn a_reload_takes_tokens_over_and_away() {
    let (first, second) = (make("first", ""), make("second", ""));
    let server = with_tokens(&[&first]);
    let status = |made: &Made| send(&server, &made.token, &[], "/v1/zones").status;
    assert_eq!((status(&first), status(&second)), (200, 401));
    std::fs::write(server.folder().join("livezone.toml"), &second.table).unwrap();
    assert!(Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap().success());
    wait_until(PATIENCE, "the other token", || (status(&second) == 200).then_some(()));
    assert_eq!(status(&first), 401);
}

#[test]
fn commands_present_the_token_of_a_file() {
    let made = make("reader", "");
    let server = with_tokens(&[&made]);
    let url = format!("http://{}", http(&server));
    let file: PathBuf = server.folder().join("reader.token");
    std::fs::write(&file, &made.file).unwrap();
    for arguments in [&["members"][..], &["explain", ZONE], &["export", ZONE]] {
        let without = command(&[arguments, &["--server", &url]].concat());
        let words = String::from_utf8(without.stderr).unwrap();
        assert!(!without.status.success() && words.contains("--token-file"), "{words}");
        ask(&server, &[arguments, &["--token-file", file.to_str().unwrap()]].concat());
    }
}

#[test]
fn beyond_loopback_nothing_is_served_without_a_token_or_on_purpose() {
    let folder = tempfile::TempDir::with_prefix("livezone-test-").unwrap();
    let config = folder.path().join("livezone.toml");
    std::fs::write(&config, "[http]\nlisten = \"0.0.0.0:8053\"\n").unwrap();
    let output = command(&["check", "--config", config.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && text.contains("livezone.toml:2:10: "), "{text}");
    std::fs::write(&config, "").unwrap();
    std::fs::create_dir(folder.path().join("zones")).unwrap();
    std::fs::write(folder.path().join("zones/z.toml"), "origin = \"z.\"\n[soa]\nprimary = \"ns.other.\"\n").unwrap();
    let output =
        command(&["serve", "--config", config.to_str().unwrap(), "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("beyond loopback: that needs a [[token]]"), "{text}");
}
