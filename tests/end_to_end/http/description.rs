//! What the API says of itself, held against what it does.

use super::*;

#[test]
fn the_description_names_every_path_and_needs_no_token() {
    let server =
        TestServer::with(&Setup { server: format!("[[token]]\nsha256 = \"{:064}\"\n", 0), ..Setup::default() });
    let description = get(&server, "/v1/openapi.json").json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = description["paths"].as_object().unwrap();
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/v1/zones",
        "/v1/zones/{zone}",
        "/v1/zones/{zone}/commits",
        "/v1/zones/{zone}/heartbeats",
        "/v1/zones/{zone}/services",
        "/v1/zones/{zone}/services/{service}",
        "/v1/zones/{zone}/services/{service}/http-sd",
        "/v1/zones/{zone}/services/{service}/members/{id}",
        "/v1/zones/{zone}/services/{service}/members/{id}/drain",
        "/v1/zones/{zone}/services/{service}/members/{id}/undrain",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let put = &paths["/v1/zones/{zone}/services/{service}/members/{id}"]["put"];
    assert!(put["responses"]["422"]["content"]["application/problem+json"].is_object(), "{put}");
    assert_eq!(put["security"].as_array().unwrap().len(), 2);
}

/// Requests of every shape that the description allows, and of many that it doesn't: no answer is an error of the server's,
/// and each has a status, a type and a form that the description names. What is wrong beyond the form (a target that is no
/// name) is refused as well, so that requests of the right form need not be taken.
#[test]
fn schemathesis_finds_nothing_that_the_description_does_not_say() {
    let server = TestServer::start();
    for id in ["i-1", "i-2"] {
        server.client().update(&Update::member(MEMCACHED, id, "192.0.2.1").lease(3600));
    }
    let url = format!("http://{}/v1/openapi.json", http(&server));
    let arguments = [
        "run",
        &url,
        "--phases=coverage,fuzzing",
        "--checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
         unsupported_method",
        "--max-examples=25",
        "--max-time=20",
        "--seed=1",
        "--request-timeout=20",
        "--no-shrink",
        "--warnings=off",
    ];
    let output = run("schemathesis", &arguments, "");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.count_logged("panic"), 0);
}
