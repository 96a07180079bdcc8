//! `livezone keygen`: a new TSIG key, as configuration and as a key file; or a token for HTTP.
//!
//! The output is one text for three readers: people, who find in its comments where the key goes; `nsupdate -k` and
//! `dig -k`, which read the key clause; and `secret-file` in `livezone.toml`. The secret has the length of the MAC, as
//! RFC 8945 §8 asks for at the least.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::ArgGroup;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sha2::{Digest as _, Sha256};

use crate::api::access::hex;
use crate::base::Name;
use crate::dns::tsig::Algorithm;

use super::client::parse_plain;

/// Make a TSIG key, or a token for HTTP
///
/// Prints a key file that `nsupdate -k`, `dig -k` and `secret-file` in livezone.toml read; or, with --token, a file that
/// `--token-file` reads. Comments say where it goes.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:\n  (umask 077; livezone keygen agents. > agents.key)\n  nsupdate -k agents.key\n  \
                        (umask 077; livezone keygen --token ci > ci.token)")]
#[command(group = ArgGroup::new("what").required(true).args(["name", "token"]))]
pub struct Args {
    /// The key's name, which both sides write the same; a missing final dot is added
    #[arg(value_parser = parse_name)]
    pub name: Option<Name>,
    /// Make a token of this name instead
    #[arg(long, value_name = "NAME", value_parser = parse_token_name, conflicts_with = "algorithm")]
    pub token: Option<String>,
    /// The algorithm of the signatures
    #[arg(long, value_name = "ALGORITHM", default_value = "hmac-sha256", ignore_case = true,
          value_parser = algorithm_parser())]
    pub algorithm: Algorithm,
}

/// Why there is no key. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gave no random octets.
    #[error("no random octets from the operating system: {0}")]
    Random(getrandom::Error),
    /// Standard output is closed or full.
    #[error("the key can't be written to standard output: {0}; throw away what was")]
    Output(#[from] std::io::Error),
}

/// Makes a key and prints it to standard output.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut secret = vec![0; args.algorithm.mac_len()];
    getrandom::fill(&mut secret).map_err(Error::Random)?;
    let text = match (&args.name, &args.token) {
        (_, Some(name)) => render_token(name, &secret),
        (Some(name), None) => render(name, args.algorithm, &secret),
        (None, None) => return Ok(()), // clap asks for either
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The token file. The token is there once, and the server has what it hashes to.
pub fn render_token(name: &str, secret: &[u8]) -> String {
    let token = URL_SAFE_NO_PAD.encode(secret);
    let digest = hex(&Sha256::digest(&token));
    format!(
        r#"# Token {name} for livezone over HTTP. Whoever can read this can use it: keep it from others (chmod 600).
#
# In livezone.toml, which keeps only what it hashes to:
#     [[token]]
#     name = "{name}"
#     sha256 = "{digest}"
#     zones = ["*"]
#     services = ["*"]
#     access = "write"
#
# To use it:
#     livezone members --token-file {name}.token
#     curl -H "Authorization: Bearer $(grep -v '^#' {name}.token)" http://127.0.0.1:8053/v1/zones
{token}
"#
    )
}

/// A token's name: a word that needs no quotes anywhere.
fn parse_token_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err("a token's name is made of letters, digits, hyphens, underscores and dots".to_owned());
    }
    Ok(text.to_owned())
}

/// The key file.
pub fn render(name: &Name, algorithm: Algorithm, secret: &[u8]) -> String {
    let text = name.to_string();
    let file = format!("{}.key", text.trim_end_matches('.'));
    let algorithm = algorithm.text();
    let secret = STANDARD.encode(secret);
    format!(
        r#"# TSIG key {text} Whoever can read this can sign with it: keep it from others (chmod 600).
#
# Save this text as {file}, on the server and wherever the key is used.
#
# In livezone.toml:
#     [[key]]
#     name = "{text}"
#     algorithm = "{algorithm}"
#     secret-file = "{file}"
#
# In the zone file, what the key is allowed to do:
#     [access]
#     update = [{{ key = "{text}", services = ["*"], ids = ["*"] }}]
#
# To use it:
#     nsupdate -k {file}
#     dig -k {file} ...
key "{text}" {{
	algorithm {algorithm};
	secret "{secret}";
}};
"#
    )
}

/// A key's name.
fn parse_name(text: &str) -> Result<Name, String> {
    parse_plain(text, "a key's name", "agents.")
}

fn algorithm_parser() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::ALL.map(Algorithm::text))
        .map(|text| Algorithm::from_text(&text).expect("one of the possible values"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_secret_file;
    use clap::{Args as _, FromArgMatches as _};

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        let command = Args::augment_args(clap::Command::new("keygen"));
        Args::from_arg_matches(&command.try_get_matches_from([&["keygen"], args].concat())?)
    }

    #[test]
    fn the_output_is_a_secret_file() {
        let name: Name = "agents.example.".parse().unwrap();
        for algorithm in Algorithm::ALL {
            let secret: Vec<u8> = (0..algorithm.mac_len()).map(|i| u8::try_from(255 - i).unwrap()).collect();
            let file = parse_secret_file(&render(&name, algorithm, &secret)).unwrap();
            assert_eq!(file.name.as_ref(), Some(&name));
            assert_eq!(file.algorithm, Some(algorithm));
            assert_eq!(file.secret, secret);
        }
    }

    #[test]
    fn everything_before_the_key_clause_is_a_comment() {
        let text = render(&"k.".parse().unwrap(), Algorithm::HmacSha256, &[7; 32]);
        let (comments, clause) = text.split_once("key \"k.\" {\n").unwrap();
        assert!(comments.lines().all(|line| line.starts_with('#')));
        assert!(clause.ends_with("};\n"));
        assert!(comments.contains("[[key]]") && comments.contains("secret-file = \"k.key\""));
    }

    #[test]
    fn a_token_stands_alone_in_its_file_and_its_digest_in_the_comments() {
        let text = render_token("ci", &[7; 32]);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let [token] = lines.as_slice() else { panic!("{text}") };
        assert!(text.contains(&format!("sha256 = \"{}\"", hex(&Sha256::digest(token)))));
        assert!(parse(&["--token", "ci"]).is_ok());
        for wrong in [&["--token", "a b"][..], &["--token", ""], &["k.", "--token", "ci"], &[]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_gets_its_final_dot() {
        let args = parse(&["Agents"]).unwrap();
        assert_eq!(args.name.unwrap().to_string(), "agents.");
        assert_eq!(args.algorithm, Algorithm::HmacSha256);
        assert_eq!(parse(&["a.b.", "--algorithm", "HMAC-sha512"]).unwrap().algorithm, Algorithm::HmacSha512);
    }

    #[test]
    fn bad_arguments_say_what_is_right() {
        let message = |args: &[&str]| parse(args).unwrap_err().to_string();
        assert!(message(&["a b"]).contains("letters, digits"));
        assert!(message(&["."]).contains("root"));
        assert!(message(&["a..b"]).contains("empty label"));
        assert!(message(&["a", "--algorithm", "hmac-md5"]).contains("hmac-sha256, hmac-sha384, hmac-sha512"));
        assert!(message(&["--help"]).contains("Example:"));
    }
}
