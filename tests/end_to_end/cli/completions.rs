//! Completions, by the shells themselves.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::run;
use crate::support::{PATIENCE, wait_until};

fn script(shell: &str, folder: &Path) -> String {
    let output = run(folder, &["completions", shell]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("livezone.bash"), script("bash", folder.path())).unwrap();
    // What readline does: it calls the function that is registered for the command, and reads the array that this fills.
    let completer = "source livezone.bash\n\
                     function=$(complete -p livezone | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
                     COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMPREPLY=()\n\
                     $function livezone \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"\n\
                     printf '%s\\n' \"${COMPREPLY[@]}\"";
    let complete = |words: &[&str]| -> Vec<String> {
        let output = Command::new("bash")
            .args(["--norc", "-c", completer, "bash", "livezone"])
            .args(words)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    assert_eq!(complete(&["un"]), ["undrain"]);
    assert_eq!(complete(&["dr"]), ["drain"]);
    assert_eq!(complete(&["completions", "po"]), ["powershell"]);
    assert_eq!(complete(&["watch", "z.", "_x._tcp", "--fo"]), ["--format"]);
    assert_eq!(complete(&["watch", "z.", "_x._tcp", "--format", ""]), ["json", "hosts", "haproxy", "nft"]);
    assert_eq!(complete(&["keygen", "k.", "--algorithm", "hmac-sha5"]), ["hmac-sha512"]);
    let all = complete(&[""]);
    for command in ["serve", "agent", "check", "demo", "members", "explain", "slots", "man"] {
        assert!(all.contains(&command.to_owned()), "{all:?}");
    }
    std::fs::write(folder.path().join("livezone.toml"), "").unwrap();
    assert_eq!(complete(&["serve", "--config", "liv"]), ["livezone.bash", "livezone.toml"], "files");
}

/// A shell of somebody who types, on a terminal: a key for completion, and what comes of it is run.
#[test]
fn zsh_completes_what_is_typed() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("_livezone"), script("zsh", folder.path())).unwrap();
    let mut shell = Command::new("script")
        .args(["-qec", "zsh -f -i", "/dev/null"])
        .current_dir(folder.path())
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut keys = shell.stdin.take().unwrap();
    let mut typed = |text: &str| {
        keys.write_all(text.as_bytes()).unwrap();
        keys.flush().unwrap();
    };
    // In place of the program: a function that notes what it was called with.
    typed(
        "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; livezone() { print -r -- \"$@\" >> ran }; : > ready\n",
    );
    wait_until(PATIENCE, "a shell", || file("ready").exists().then_some(()));
    typed("livezone undr\tz. _x._tcp i-1 --tok\tfile\n");
    typed("livezone watch z. _x._tcp --format hap\t--onc\t\n");
    typed("exit\n");
    let ran = wait_until(PATIENCE, "two commands", || {
        std::fs::read_to_string(file("ran")).ok().filter(|text| text.lines().count() == 2)
    });
    assert_eq!(ran, "undrain z. _x._tcp i-1 --token-file=file\nwatch z. _x._tcp --format haproxy --once\n");
    wait_until(PATIENCE, "the end of the shell", || shell.try_wait().unwrap());
}

#[test]
fn every_shell_has_its_script_and_no_other() {
    let folder = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = script(shell, folder.path());
        assert!(text.contains("livezone") && text.contains("token-file"), "{shell}:\n{text}");
    }
    let output = run(folder.path(), &["completions", "csh"]);
    let text = super::errors(&output);
    assert!(output.status.code() == Some(2) && text.contains("bash") && text.contains("powershell"), "{text}");
}
