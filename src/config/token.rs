//! `[[token]]`: who may ask the HTTP API for what. Tokens themselves stand nowhere here, only what they hash to.

use std::collections::HashMap;

use toml::Spanned;

use crate::api::access::{Access, DIGEST_OCTETS, Token};
use crate::membership::access::{Globs, Scope};

use super::problems::Findings;
use super::written;

/// Reads the `[[token]]` entries. No two may be the same token, or have one name, since that is an owner of members.
pub(super) fn check(findings: &mut Findings, entries: &[Spanned<written::Token>]) -> Vec<Token> {
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut tokens = Vec::new();
    for entry in entries {
        let Some(token) = check_one(findings, entry) else { continue };
        let line = findings.position(&entry.span()).line;
        let digest = format!("sha256 {}", crate::api::access::hex(&token.digest));
        for twin in [digest, token.label()] {
            if let Some(first) = lines.insert(twin.clone(), line) {
                let message = format!("there is a [[token]] with this {twin} already, in line {first}: keep one");
                findings.problem(&entry.span(), message);
            }
        }
        tokens.push(token);
    }
    tokens
}

fn check_one(findings: &mut Findings, entry: &Spanned<written::Token>) -> Option<Token> {
    let before = findings.count();
    let written = entry.get_ref();
    let digest = match &written.sha256 {
        Some(text) => {
            let digest = read_digest(text.get_ref());
            if digest.is_none() {
                let message = "`sha256` is no SHA-256 of a token: 64 hexadecimal digits, as `livezone keygen --token NAME` \
                               prints them, or `printf %s TOKEN | sha256sum`";
                findings.problem(&text.span(), message);
            }
            digest
        }
        None => {
            findings.problem(
                &entry.span(),
                "[[token]] lacks `sha256`: `livezone keygen --token NAME` makes a token and prints it",
            );
            None
        }
    };
    let access = match written.access.as_ref().map(|text| (text.get_ref().as_str(), text)) {
        None | Some(("read", _)) => Access::Read,
        Some(("write", _)) => Access::Write,
        Some((other, text)) => {
            findings.problem(&text.span(), format!("`access` is \"read\" or \"write\", not \"{other}\""));
            Access::Read
        }
    };
    let members = match written.members.as_ref().map(|text| (text.get_ref().as_str(), text)) {
        None | Some(("any", _)) => Scope::Any,
        Some(("own", _)) => Scope::Own,
        Some((other, text)) => {
            findings.problem(&text.span(), format!("`members` is \"own\" or \"any\", not \"{other}\""));
            Scope::Own
        }
    };
    if let Some(name) = &written.name {
        let text = name.get_ref();
        if text.is_empty() || text.len() > NAME_OCTETS || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            findings.problem(
                &name.span(),
                format!("`name` is a word of at most {NAME_OCTETS} octets, for logs and as an owner"),
            );
        }
    }
    // A final dot makes no difference to a zone.
    let undotted = |glob: &String| glob.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(glob).to_owned();
    let zones = written.zones.as_ref().map(|globs| Globs(globs.iter().map(undotted).collect()));
    let token = Token {
        digest: digest?,
        name: written.name.as_ref().map(|name| name.get_ref().clone()),
        zones: zones.unwrap_or_else(Globs::all),
        services: written.services.clone().map_or_else(Globs::all, Globs),
        access,
        members,
    };
    (findings.count() == before).then_some(token)
}

/// Octets of a token's name: it stands in the cause of each commit and with each member.
const NAME_OCTETS: usize = 64;

fn read_digest(text: &str) -> Option<[u8; DIGEST_OCTETS]> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let octets: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect();
    octets?.try_into().ok()
}
