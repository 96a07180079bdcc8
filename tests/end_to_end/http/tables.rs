//! Tables: whole in a pipe, and on a terminal in lines that fit it.

use super::members::put;
use super::*;

/// What a command prints on a terminal of so many columns.
fn on_terminal(server: &TestServer, columns: u32, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_livezone");
    let command = format!("stty cols {columns} rows 24; exec {program} {arguments} --server http://{}", http(server));
    let output = run("script", &["-qec", &command, "/dev/null"], "");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

#[test]
fn members_and_slots_fit_the_terminal_and_are_whole_in_a_pipe() {
    let service = "[[service]]\nname = \"_memcached._tcp\"\nslots = true\nslow-start = \"1h\"\n";
    let server = TestServer::with(&Setup { tables: service.to_owned(), ..Setup::default() });
    let body = r#"{"port":11211,"addresses":["10.0.0.5","10.0.0.6","fd00::5"],"lease":3600}"#;
    put(&server, "cache-in-the-east-17", body);
    put(&server, "b", body);
    let whole = ask(&server, &["members"]);
    let head: Vec<&str> = whole.lines().next().unwrap().split("  ").filter(|word| !word.is_empty()).collect();
    let heads = ["SERVICE", "ID", "SLOT", "ADDRESS", "PORT", "WEIGHT", "STATE", "LEASE LEFT", "OWNER"];
    assert_eq!(head.iter().map(|word| word.trim()).collect::<Vec<_>>(), heads);
    for part in [MEMCACHED, "cache-in-the-east-17", "10.0.0.5,10.0.0.6,fd00::5", "64 of 256"] {
        assert!(whole.contains(part) && !whole.contains('…'), "no {part}:\n{whole}");
    }
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    let width = widest(&whole);
    for columns in [120, 80, 40, 20] {
        let text = on_terminal(&server, columns, "members");
        assert!(widest(&text) <= usize::try_from(columns).unwrap() && text.lines().count() == 3, "{columns}:\n{text}");
        assert!(usize::try_from(columns).unwrap() >= width || text.contains('…'), "{columns}:\n{text}");
        assert!(text.split_whitespace().any(|word| word == "b"), "{columns}:\n{text}");
    }
    let narrow = on_terminal(&server, 40, "members");
    assert!(narrow.contains("cache-in-th…") && !narrow.contains("OWNER"), "{narrow}");
    assert_eq!(widest(&on_terminal(&server, 300, "members")), width);
    let slots = on_terminal(&server, 30, "slots svc.example.test _memcached._tcp");
    assert!(widest(&slots) <= 30 && slots.contains('…'), "{slots}");
    assert_eq!(
        on_terminal(&server, 200, "slots svc.example.test _memcached._tcp"),
        ask(&server, &["slots", ZONE, "_memcached._tcp"])
    );
}
