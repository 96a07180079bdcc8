//! Manual pages, as the formatter reads them.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::{errors, run};
use crate::support::programs;

/// A page in plain text. Whatever the formatter has to say about it fails the test.
fn formatted(page: &str) -> String {
    // Without emphasis (-c, -b, -u, -o) and page breaks.
    let output = programs::run("groff", &["-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=100n"], page);
    let said = errors(&output);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
    String::from_utf8(output.stdout).unwrap().replace(['\u{2010}', '\u{2212}'], "-")
}

/// The options that a text names.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

#[test]
fn each_command_has_a_page_that_names_its_options_and_formats_without_a_warning() {
    let folder = TempDir::new().unwrap();
    let help = |arguments: &[&str]| String::from_utf8(run(folder.path(), arguments).stdout).unwrap();
    let listed = help(&["--help"]);
    let commands = listed.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    let commands: Vec<&str> = commands.into_iter().filter(|command| *command != "help").collect();
    assert!(commands.len() >= 15, "{listed}");
    // The folder is made.
    let output = run(folder.path(), &["man", "share/man1"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let pages = folder.path().join("share/man1");
    let found: BTreeSet<String> =
        std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let expected = commands.iter().map(|command| format!("livezone-{command}.1")).chain(["livezone.1".to_owned()]);
    assert_eq!(found, expected.collect());
    for command in &commands {
        let text = formatted(&std::fs::read_to_string(pages.join(format!("livezone-{command}.1"))).unwrap());
        assert!(text.trim_end().ends_with(&format!("livezone-{command}(1)")) && text.contains("livezone 0."), "{text}");
        let help = help(&[command, "--help"]);
        assert!(!options(&help).is_empty() && options(&help).is_subset(&options(&text)), "{command}:\n{text}\n{help}");
        for part in ["NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO", "livezone(1)"] {
            assert!(text.contains(part), "{command} has no {part}:\n{text}");
        }
        // Examples can be copied: each is a line of its own.
        let example = help.lines().find(|line| line.starts_with("  ") && line.contains(&format!("livezone {command}")));
        let example = example.unwrap_or_else(|| panic!("{command} has no example:\n{help}")).trim();
        assert!(text.lines().any(|line| line.trim() == example), "no {example}:\n{text}");
    }
    let page = help(&["man"]);
    assert_eq!(page, std::fs::read_to_string(pages.join("livezone.1")).unwrap());
    let text = formatted(&page);
    for command in commands {
        assert!(text.contains(&format!("livezone-{command}(1)")), "{text}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let output = run(folder.path(), &["man", "file/man1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("file/man1") && errors(&output).contains("name a folder"), "{output:?}");
}
