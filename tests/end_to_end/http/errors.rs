//! What the commands say to whoever asks for the wrong thing: what to do about it, and the exit status.

use super::commands::member;
use super::members::put;
use super::*;

/// What a command says on standard error, and its status.
fn told(server: &TestServer, arguments: &[&str]) -> (Option<i32>, String) {
    let url = format!("http://{}", http(server));
    let named = ["--server", url.as_str()];
    let needs_server = !arguments.contains(&"--server") && !["keygen", "check"].contains(&arguments[0]);
    let arguments = [arguments, if needs_server { &named[..] } else { &[] }].concat();
    let output = livezone().args(arguments).current_dir(server.folder()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn commands_say_what_to_do_about_it() {
    let server = TestServer::start();
    put(&server, "a", &member(1));
    let tls = format!("https://{}", http(&server));
    let service = |command| [command, ZONE, "_memcached._tcp"];
    for (arguments, status, words) in [
        // Wrong usage.
        (&["members", "a b"][..], 2, "a zone's name is made of letters"),
        (&["explain", "."], 2, "write one such as svc.example.test."),
        (&["keygen"], 2, "<NAME|--token <NAME>>"),
        (&["keygen", "k.", "--token", "t"], 2, "cannot be used with"),
        (&service("release"), 2, "<ID|--held>"),
        (&service("release"), 2, "livezone release [OPTIONS] <ZONE> <SERVICE> --held\n"),
        (&[&service("release")[..], &["--held", "a"]].concat(), 2, "cannot be used with"),
        (&[&service("watch")[..], &["--json", "--format", "nft"]].concat(), 2, "cannot be used with"),
        (&[&service("watch")[..], &["--format", "xml"]].concat(), 2, "json, hosts, haproxy, nft"),
        // What doesn't work.
        (&[&service("release")[..], &["a"]].concat(), 1, "is not held; `livezone drain` takes out"),
        (&[&service("drain")[..], &["b"]].concat(), 1, "no member b is registered"),
        (&[&service("slots")[..], &["--shrink"]].concat(), 1, "set `slots = true` in its [[service]] entry\n"),
        (&["members", "--server", &tls], 1, "it doesn't speak TLS there, write http; is `livezone serve`"),
        (&["members", "--server", "127.0.0.1:9"], 1, "no answer from http://127.0.0.1:9: Connection refused"),
        (&[&service("watch")[..], &["--once", "--exec", "exit 3"]].concat(), 1, "livezone: exit 3: exit status: 3\n"),
        (&["check", "--config", "none.toml"], 1, "none.toml: can't be read"),
        // What works, with a word about it.
        (&["explain", ZONE, "--since", "18446744073709551615"], 0, "the zone has come to epoch "),
    ] {
        let (found, said) = told(&server, arguments);
        assert!(found == Some(status) && said.contains(words), "{arguments:?} ended with {found:?}:\n{said}");
    }
    assert!(ask(&server, &service("slots")).starts_with("no slots: a service with `slots = true`"));
    let elsewhere = tempfile::TempDir::new().unwrap();
    let export = livezone().args(["export", ZONE]).current_dir(elsewhere.path()).output().unwrap();
    let said = String::from_utf8(export.stderr).unwrap();
    assert!(
        export.status.code() == Some(1) && said.contains("with --config, or a running server with --server"),
        "{said}"
    );
}

#[test]
fn every_command_has_help_with_an_example_of_its_own() {
    let listed = String::from_utf8(command(&["--help"]).stdout).unwrap();
    let commands = listed.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() >= 16, "{listed}");
    for name in commands.into_iter().filter(|name| *name != "help") {
        let help = command(&[name, "--help"]);
        let text = String::from_utf8(help.stdout).unwrap();
        assert_eq!(help.status.code(), Some(0), "{name}");
        let examples = text.split_once("Example").unwrap_or_else(|| panic!("{name}:\n{text}")).1;
        assert!(examples.contains(&format!("livezone {name}")), "{name}:\n{text}");
        assert!(examples.lines().all(|line| line.chars().count() <= 100), "{name}:\n{text}");
    }
}
