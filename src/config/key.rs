//! `[[key]]` entries and the files that their secrets stand in.
//!
//! A secret file holds the secret in base64 (with comments after `#`), or one key clause as `named.conf` has it:
//!
//! ```text
//! # made for the web servers
//! key "agents." { algorithm hmac-sha256; secret "c2l4dGVlbiBvY3RldHMhIQ=="; };
//! ```
//!
//! In a clause, comments are `#` and `//` to the end of the line and `/* */`, and a name without its final dot is
//! absolute, as for BIND's tools. What holds a `{` outside of `#` comments is read as a clause.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::Spanned;

use crate::base::Name;
use crate::dns::tsig::{Algorithm, Key};

use super::problems::{Findings, Position, Problem};
use super::read::read_text;
use super::{values, written};

/// Secrets shorter than this are worth a warning: 128 bits is what guessing can't reach.
const SHORT_SECRET: usize = 16;

/// The names of keys, with the places where they were given.
pub(super) type KeyNames = HashMap<Name, Position>;

/// What a secret file says.
#[derive(PartialEq, Eq)]
pub(crate) struct SecretFile {
    /// The name in the key clause.
    pub(crate) name: Option<Name>,
    /// The algorithm in the key clause.
    pub(crate) algorithm: Option<Algorithm>,
    /// The secret, decoded.
    pub(crate) secret: Vec<u8>,
}

/// Why a text is no secret file, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SecretFileError {
    /// The byte that it is about.
    pub(crate) offset: usize,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

/// Reads the `[[key]]` entries, in their order. `names` is every name that was legible, for the checks of what refers
/// to a key.
pub(super) fn read_keys(
    findings: &mut Findings,
    entries: &[Spanned<written::Key>],
    folder: &Path,
    names: &mut KeyNames,
) -> Vec<Key> {
    entries.iter().filter_map(|entry| read_key(findings, entry, folder, names)).collect()
}

fn read_key(
    findings: &mut Findings,
    entry: &Spanned<written::Key>,
    folder: &Path,
    names: &mut KeyNames,
) -> Option<Key> {
    let before = findings.count();
    let written = entry.get_ref();
    let mut name = written.name.as_ref().and_then(|name| values::name(findings, "name", name));
    let mut algorithm = written.algorithm.as_ref().and_then(|text| read_algorithm(findings, text));
    let legible = findings.count() == before;

    let secret = read_secret(findings, entry, folder);
    if let (Some((file, path)), true) = (&secret, legible) {
        let file_name = path.unwrap_or("its file");
        match (&file.name, &name, &written.name) {
            (Some(inside), Some(outside), Some(text)) if inside != outside => {
                findings.problem(
                    &text.span(),
                    format!("the key in {file_name} is called {inside}, not {outside}: mend either"),
                );
            }
            (Some(inside), None, _) => name = Some(inside.clone()),
            _ => {}
        }
        match (file.algorithm, algorithm, &written.algorithm) {
            (Some(inside), Some(outside), Some(text)) if inside != outside => findings.problem(
                &text.span(),
                format!("the key in {file_name} is for {}, not {}: mend either", inside.text(), outside.text()),
            ),
            (Some(inside), None, _) => algorithm = Some(inside),
            _ => {}
        }
        if name.is_none() {
            findings.problem(&entry.span(), "a key needs its `name`, as its users write it, with a final dot");
        }
    }

    let span = written.name.as_ref().map_or(entry.span(), Spanned::span);
    if let Some(name) = &name {
        let position = findings.position(&span);
        if let Some(first) = names.get(name) {
            let message = format!("there is a key {name} already, in line {}: give each its own name", first.line);
            findings.problem(&span, message);
        } else {
            names.insert(name.clone(), position);
        }
    }
    let ((file, _), name) = (secret?, name?);
    if file.secret.len() < SHORT_SECRET {
        let message =
            format!("the secret of key {name} has {} bytes; `livezone keygen` makes a long one", file.secret.len());
        findings.warn(&span, &message);
    }
    (findings.count() == before).then(|| Key::new(name, algorithm.unwrap_or(Algorithm::HmacSha256), &file.secret))
}

fn read_algorithm(findings: &mut Findings, written: &Spanned<String>) -> Option<Algorithm> {
    let algorithm = Algorithm::from_text(written.get_ref());
    if algorithm.is_none() {
        findings.problem(&written.span(), unknown_algorithm(written.get_ref()));
    }
    algorithm
}

fn unknown_algorithm(text: &str) -> String {
    format!("\"{text}\" is no algorithm here: write {}", Algorithm::ALL.map(Algorithm::text).join(", "))
}

/// The secret, and the path that it was read from as configured.
fn read_secret<'a>(
    findings: &mut Findings,
    entry: &'a Spanned<written::Key>,
    folder: &Path,
) -> Option<(SecretFile, Option<&'a str>)> {
    let written = entry.get_ref();
    match (&written.secret, &written.secret_file) {
        (Some(secret), None) => match decode(secret.get_ref()) {
            Ok(secret) => Some((SecretFile { name: None, algorithm: None, secret }, None)),
            Err(message) => {
                findings.problem(&secret.span(), message);
                None
            }
        },
        (None, Some(file)) => {
            let path = folder.join(file.get_ref());
            let text = match read_text(&path) {
                Ok(text) => text,
                Err(problem) if problem.position.is_none() => {
                    let message = format!("the secret file {} {}", path.display(), problem.message);
                    findings.problem(&file.span(), format!("{message}; `livezone keygen NAME` makes one"));
                    return None;
                }
                Err(problem) => {
                    findings.problem_elsewhere(problem);
                    return None;
                }
            };
            match parse_secret_file(&text) {
                Ok(parsed) => Some((parsed, Some(file.get_ref()))),
                Err(SecretFileError { offset, message }) => {
                    let position = Some(Position::of(&text, offset));
                    findings.problem_elsewhere(Problem { file: path, position, message });
                    None
                }
            }
        }
        (None, None) => {
            findings.problem(&entry.span(), "a key needs a `secret-file`, or its `secret` in base64");
            None
        }
        (Some(secret), Some(_)) => {
            findings.problem(&secret.span(), "a key has a `secret` or a `secret-file`, not both: leave one out");
            None
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let packed: String = text.split_ascii_whitespace().collect();
    match STANDARD.decode(packed) {
        Ok(secret) if secret.is_empty() => Err("the secret is empty: `livezone keygen NAME` makes one".to_owned()),
        Ok(secret) => Ok(secret),
        // The decoder's own words quote a byte of the secret, which is nothing for a log.
        Err(_) => Err("the secret is not base64: letters, digits, + and /, filled up with = to a multiple of four \
                       characters"
            .to_owned()),
    }
}

/// Reads the text of a secret file.
pub(crate) fn parse_secret_file(text: &str) -> Result<SecretFile, SecretFileError> {
    let bare: String = text.lines().map(|line| line.split('#').next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    if bare.contains('{') {
        return parse_clause(text);
    }
    let secret = decode(&bare).map_err(|message| {
        let first = text.lines().find(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
        let offset = first.map_or(0, |line| line.as_ptr().addr() - text.as_ptr().addr());
        SecretFileError { offset, message }
    })?;
    Ok(SecretFile { name: None, algorithm: None, secret })
}

fn parse_clause(text: &str) -> Result<SecretFile, SecretFileError> {
    let mut tokens = Tokens { text, at: 0 };
    tokens.expect("key")?;
    let (offset, name) = tokens.value("the key's name")?;
    let name = Name::parse(name, Some(&Name::root()))
        .map_err(|error| SecretFileError { offset, message: format!("\"{name}\" is no name: {error}") })?;
    tokens.expect("{")?;
    let (mut algorithm, mut secret) = (None, None);
    loop {
        let (offset, word) = tokens.value("`algorithm`, `secret` or `}`")?;
        match word {
            "}" => break,
            "algorithm" if algorithm.is_none() => {
                let (offset, text) = tokens.value("an algorithm")?;
                let known = Algorithm::from_text(text)
                    .ok_or_else(|| SecretFileError { offset, message: unknown_algorithm(text) })?;
                algorithm = Some(known);
            }
            "secret" if secret.is_none() => {
                let (offset, text) = tokens.value("a secret in base64")?;
                secret = Some(decode(text).map_err(|message| SecretFileError { offset, message })?);
            }
            _ => {
                let message = "expected one `algorithm`, one `secret` and then `}`".to_owned();
                return Err(SecretFileError { offset, message });
            }
        }
        tokens.expect(";")?;
    }
    let end = tokens.at;
    match tokens.next() {
        None | Some((_, ";")) => {}
        Some((offset, _)) => return Err(SecretFileError { offset, message: "expected `;`".to_owned() }),
    }
    if let Some((offset, _)) = tokens.next() {
        let message = "a secret file holds one key: move the others to their own files".to_owned();
        return Err(SecretFileError { offset, message });
    }
    let secret =
        secret.ok_or_else(|| SecretFileError { offset: end - 1, message: "the key has no `secret`".to_owned() })?;
    Ok(SecretFile { name: Some(name), algorithm, secret })
}

/// The words, quoted texts (without their quotes) and marks of a key clause, with where they stand.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn value(&mut self, what: &str) -> Result<(usize, &'a str), SecretFileError> {
        self.next().ok_or_else(|| SecretFileError {
            offset: self.text.len(),
            message: format!("the file ends where {what} was expected"),
        })
    }

    fn expect(&mut self, word: &str) -> Result<(), SecretFileError> {
        let (offset, found) = self.value(&format!("`{word}`"))?;
        if found == word {
            return Ok(());
        }
        let form = r#"key "name." { algorithm hmac-sha256; secret "…"; };"#;
        Err(SecretFileError { offset, message: format!("expected `{word}`, as in {form}") })
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blanks = rest.len() - rest.trim_start().len();
            let rest = &rest[blanks..];
            self.at += blanks;
            self.at += if rest.starts_with('#') || rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            } else {
                return;
            };
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<(usize, &'a str)> {
        self.skip_blanks();
        let start = self.at;
        let rest = &self.text[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            let len = quoted.find('"').unwrap_or(quoted.len());
            self.at = (start + len + 2).min(self.text.len());
            return Some((start, &quoted[..len]));
        }
        let mark = |c: char| matches!(c, '{' | '}' | ';' | '"');
        let len = match rest.chars().next()? {
            c if mark(c) => 1,
            _ => rest.find(|c: char| c.is_whitespace() || mark(c)).unwrap_or(rest.len()),
        };
        self.at = start + len;
        Some((start, &rest[..len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Problems, load};

    const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    /// Loads a configuration beside a secret file `k`.
    fn load_with(server: &str, secret_file: &str) -> Result<Config, Problems> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("k"), secret_file).unwrap();
        std::fs::write(folder.path().join("l.toml"), server).unwrap();
        load(Some(&folder.path().join("l.toml")))
    }

    /// The one problem, from its file's name on.
    #[track_caller]
    fn problem(server: &str, secret_file: &str) -> String {
        let problems = load_with(server, secret_file).unwrap_err();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let [line] = lines.as_slice() else { panic!("{lines:#?}") };
        let folder = problems.iter().next().unwrap().file.parent().unwrap().display().to_string();
        line.replacen(&format!("{folder}/"), "", 1)
    }

    #[track_caller]
    fn assert_problem(server: &str, secret_file: &str, place: &str, words: &[&str]) {
        let line = problem(server, secret_file);
        assert!(line.starts_with(place) && words.iter().all(|word| line.contains(word)), "{line}");
    }

    #[test]
    fn a_secret_stands_in_the_file_or_in_the_configuration() {
        let clause = format!(
            "# a comment with {{ and key\nkey agents {{ // no quotes, no dot\n /* two\n lines */ secret {SECRET};\n\
             algorithm \"HMAC-SHA512.\"; }}"
        );
        let cases = [
            (format!("[[key]]\nname = \"a.\"\nsecret = \"{SECRET}\"\n"), String::new(), "a.", "hmac-sha256"),
            (
                "[[key]]\nname = \"a.\"\nsecret-file = \"k\"\n".to_owned(),
                format!("# mine {{\n{SECRET}\n"),
                "a.",
                "hmac-sha256",
            ),
            ("[[key]]\nsecret-file = \"k\"\n".to_owned(), clause.clone(), "agents.", "hmac-sha512"),
            (
                "[[key]]\nname = \"Agents.\"\nalgorithm = \"hmac-sha512\"\nsecret-file = \"k\"\n".to_owned(),
                clause,
                "agents.",
                "hmac-sha512",
            ),
        ];
        for (server, file, name, algorithm) in cases {
            let config = load_with(&server, &file).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(config.keys.len(), 1);
            assert_eq!(config.keys[0].name.to_string(), name);
            assert_eq!(config.keys[0].algorithm.text(), algorithm);
            assert!(config.warnings.is_empty());
        }
    }

    #[test]
    fn the_secret_is_decoded() {
        let secret = |text: &str| parse_secret_file(text).unwrap_or_else(|error| panic!("{error:?}")).secret;
        assert_eq!(secret("//8=\n"), [255, 255]);
        assert_eq!(secret("key k { secret \"//8=\"; };"), [255, 255]);
        assert_eq!(secret("MDEy\n  MzQ1 # split\n"), b"012345");
    }

    #[test]
    fn a_key_is_whole_and_its_name_its_own() {
        assert_problem("[[key]]\nname = \"a.\"\n", "", "l.toml:1:", &["`secret-file`", "`secret`"]);
        assert_problem(
            "[[key]]\nname = \"a.\"\nsecret = \"AAAA\"\nsecret-file = \"k\"\n",
            "",
            "l.toml:3:10: ",
            &["not both"],
        );
        assert_problem("[[key]]\nsecret-file = \"k\"\n", SECRET, "l.toml:1:", &["`name`"]);
        assert_problem("[[key]]\nname = \"a\"\nsecret-file = \"k\"\n", SECRET, "l.toml:2:8: ", &["\"a.\""]);
        let md5 = "[[key]]\nname = \"a.\"\nalgorithm = \"hmac-md5\"\nsecret-file = \"k\"\n";
        assert_problem(md5, SECRET, "l.toml:3:13: ", &["hmac-md5", "hmac-sha256, hmac-sha384"]);
        let twice = format!("[[key]]\nname = \"a.\"\nsecret = \"{SECRET}\"\n").repeat(2).replacen("a.", "A.", 1);
        assert_problem(&twice, "", "l.toml:5:8: ", &["already", "line 2"]);
    }

    #[test]
    fn file_and_entry_agree() {
        let file = format!("key \"b.\" {{ algorithm hmac-sha384; secret \"{SECRET}\"; }};");
        let name = "[[key]]\nname = \"a.\"\nsecret-file = \"k\"\n";
        assert_problem(name, &file, "l.toml:2:8: ", &["b., not a."]);
        let algorithm = "[[key]]\nalgorithm = \"hmac-sha256\"\nsecret-file = \"k\"\n";
        assert_problem(algorithm, &file, "l.toml:2:13: ", &["hmac-sha384, not hmac-sha256"]);
    }

    #[test]
    fn a_bad_secret_is_shown_where_it_stands_and_not_quoted() {
        let inline = "[[key]]\nname = \"a.\"\nsecret = \"secret!\"\n";
        assert_problem(inline, "", "l.toml:3:10: ", &["not base64"]);
        assert!(!problem(inline, "").contains("secret!"));
        let file = "[[key]]\nname = \"a.\"\nsecret-file = \"k\"\n";
        assert_problem(file, "# x\n  ???\n", "k:2:", &["not base64"]);
        assert_problem(file, "", "k:1:1: ", &["empty", "livezone keygen"]);
        assert_problem(file, "key a. {\n  secret \"AAA\";\n};", "k:2:10: ", &["not base64"]);
        assert_problem(file, "key a. {\n  secrets \"AAAA\";\n};", "k:2:3: ", &["one `secret`"]);
        assert_problem(file, "key a. { algorithm md5; };", "k:1:20: ", &["md5", "hmac-sha256"]);
        assert_problem(file, "key a. { algorithm hmac-sha256; };", "k:1:33: ", &["no `secret`"]);
        assert_problem(file, "key a. { secret AAAA; }; key b. {", "k:1:26: ", &["one key"]);
        assert_problem(file, "keys a. { secret AAAA; };", "k:1:1: ", &["expected `key`"]);
        assert_problem(file, "key a. { secret AAAA", "k:1:21: ", &["ends", "`;`"]);
        assert_problem(
            "[[key]]\nname = \"a.\"\nsecret-file = \"no\"\n",
            "",
            "l.toml:3:15: ",
            &["no can't be read", "keygen"],
        );
    }

    #[test]
    fn a_short_secret_is_warned_of() {
        let config = load_with("[[key]]\nname = \"a.\"\nsecret = \"MDEyMzQ1Njc4OWFiY2Rl\"\n", "").unwrap();
        assert_eq!(config.keys.len(), 1);
        assert_eq!(config.warnings.len(), 1);
        assert!(config.warnings[0].contains("l.toml:2: ") && config.warnings[0].contains("15 bytes"));
    }
}
