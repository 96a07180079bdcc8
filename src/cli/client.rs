//! Asking a running server over HTTP.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::api::problem::{MEDIA_TYPE, Problem};
use crate::base::Name;
use crate::config::agent::{Token, read_token_file};

/// Which server to ask.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// The address of its HTTP API, `http.listen` in livezone.toml
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8053", value_parser = parse_url)]
    pub server: String,
    /// How it is asked
    #[command(flatten)]
    pub asking: AskArgs,
}

/// How a server is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct AskArgs {
    /// A file with the token to present: its first line that is no comment (#)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// With https: a PEM file with the certificates to trust, instead of those of public authorities
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// How long a server may take to accept a connection, and to answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
/// Octets of a problem document: more is none.
const PROBLEM_OCTETS: u64 = 64 << 10;

/// Why a server told nothing. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It isn't there, or the connection broke.
    #[error(
        "no answer from {server}: {cause}; is `livezone serve` running, with this address in its [http] listen? Name another one with --server"
    )]
    Silent {
        /// Whom we asked.
        server: String,
        /// What went wrong.
        cause: String,
    },
    /// It says no.
    #[error("{server}: {}", advice(problem))]
    Refused {
        /// Whom we asked.
        server: String,
        /// Why.
        problem: Box<Problem>,
    },
    /// It doesn't speak as livezone does.
    #[error(
        "{server} doesn't answer as livezone does: {cause}; name the address in livezone's [http] listen with --server"
    )]
    Strange {
        /// Whom we asked.
        server: String,
        /// What it said instead.
        cause: String,
    },
    /// The file of the certificates to trust.
    #[error(
        "the certificate in {file}: {cause}; name a PEM file with the certificate of the server's authority, or its own"
    )]
    Roots {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The file of the token.
    #[error("--token-file: {0}")]
    Token(crate::config::Problem),
    /// A drained member's secondaries.
    #[error(
        "these servers did not answer until the end of the wait, and caches behind them may still lead to the member: {0}"
    )]
    Missing(String),
    /// A drained member that drains no longer.
    #[error("somebody has brought the member back while it drained: it is in the answers, and not safe to stop")]
    Returned,
    /// A command that was given the list, once.
    #[error("{command}: {cause}")]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        cause: String,
    },
    /// Standard output is closed or full.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// What a problem says, for whoever has a command line rather than a browser.
fn advice(problem: &Problem) -> String {
    // What stands behind it is about requests.
    let what = problem.detail.split("; ").next().unwrap_or_default();
    match problem.status {
        401 => "it wants a token that it knows: name a file with one with --token-file".to_owned(),
        404 if what.contains(": ") => what.to_owned(),
        404 => format!("{what}; `livezone members` shows what the server knows"),
        409 => format!("{what}; `livezone drain` takes out a member that is not"),
        _ => problem.detail.clone(),
    }
}

/// Reads the address of a server; `http://` may be left out.
pub fn parse_url(text: &str) -> Result<String, String> {
    let mut scheme = "http";
    let address = match text.split_once("://") {
        None => text,
        Some(("http", address)) => address,
        Some(("https", address)) => {
            scheme = "https";
            address
        }
        Some((scheme, _)) => return Err(format!("a server is asked over http or https, not {scheme}")),
    };
    let address = address.trim_end_matches('/');
    if address.is_empty() || address.contains(['/', '?', '#', ' ']) {
        return Err("write the server alone, as in http://127.0.0.1:8053".to_owned());
    }
    Ok(format!("{scheme}://{address}"))
}

/// Reads the name of a zone; a missing final dot is added.
pub fn parse_zone(text: &str) -> Result<Name, String> {
    parse_plain(text, "a zone's name", "svc.example.test.")
}

/// Reads a name that needs no quotes and no escapes wherever it has to stand.
pub(super) fn parse_plain(text: &str, what: &str, example: &str) -> Result<Name, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.chars().all(plain) {
        return Err(format!("{what} is made of letters, digits, hyphens, underscores and dots, as in {example}"));
    }
    match Name::parse(text, Some(&Name::root())) {
        Ok(name) if name != Name::root() => Ok(name),
        Ok(_) => Err(format!("the root can't be {what}; write one such as {example}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The certificates in a PEM file.
fn read_roots(file: &Path) -> Result<RootCerts, Error> {
    let failed = |cause: String| Error::Roots { file: file.display().to_string(), cause };
    let octets = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    let items = parse_pem(&octets).collect::<Result<Vec<_>, _>>().map_err(|error| failed(error.to_string()))?;
    let certificates = items.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(failed("there is none".to_owned()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    server: String,
    /// What goes into `Authorization`.
    authorization: Option<String>,
}

impl Client {
    /// A client of the server at this address.
    pub fn new(args: &ServerArgs) -> Result<Client, Error> {
        let authorization = args.asking.token_file.as_deref().map(read_token_file).transpose().map_err(Error::Token)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A proxy of the environment is for the world outside.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(ANSWER));
        let config = match &args.asking.ca {
            Some(file) => config.tls_config(TlsConfig::builder().root_certs(read_roots(file)?).build()),
            None => config,
        };
        let authorization = authorization.map(|Token(token)| format!("Bearer {token}"));
        Ok(Client { agent: config.build().new_agent(), server: args.server.clone(), authorization })
    }

    /// A document.
    pub fn document<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.parse(self.ask(path, "application/json")?)
    }

    /// A document if there is news; the server may wait for that.
    pub fn poll<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        let request = self.agent.get(format!("{}{path}", self.server)).header("accept", "application/json");
        let response = self.authorize(request).call().map_err(|error| self.silent(&error))?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(None),
            _ => self.parse(self.judge(response)?).map(Some),
        }
    }

    /// What becomes of an action.
    pub fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let request = self.agent.post(format!("{}{path}", self.server)).header("accept", "application/json");
        let response = self.authorize(request).send_empty().map_err(|error| self.silent(&error))?;
        self.parse(self.judge(response)?)
    }

    fn parse<T: DeserializeOwned>(&self, response: Response<ureq::Body>) -> Result<T, Error> {
        serde_json::from_reader(response.into_body().into_reader())
            .map_err(|error| if error.is_io() { self.silent(&error) } else { self.strange(error.to_string()) })
    }

    fn authorize<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    /// Any representation, to be read as it comes.
    pub fn read(&self, path: &str, media_type: &str) -> Result<impl Read + use<>, Error> {
        let response = self.ask(path, media_type)?;
        let found = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if found != media_type {
            return Err(self.strange(format!("it has \"{found}\" where \"{media_type}\" was asked for")));
        }
        Ok(response.into_body().into_reader())
    }

    fn ask(&self, path: &str, media_type: &str) -> Result<Response<ureq::Body>, Error> {
        let request = self.agent.get(format!("{}{path}", self.server)).header("accept", media_type);
        self.judge(self.authorize(request).call().map_err(|error| self.silent(&error))?)
    }

    /// A response that has what was asked for; else why not.
    fn judge(&self, response: Response<ureq::Body>) -> Result<Response<ureq::Body>, Error> {
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let is_problem = response.headers().get("content-type").is_some_and(|value| value == MEDIA_TYPE);
        let body = response.into_body().into_reader().take(PROBLEM_OCTETS);
        let problem = is_problem.then(|| serde_json::from_reader(body).ok()).flatten();
        Err(match problem {
            Some(problem) => Error::Refused { server: self.server.clone(), problem: Box::new(problem) },
            None => self.strange(format!("status {status}")),
        })
    }

    /// What went wrong between us and the server.
    pub fn silent(&self, cause: &dyn std::fmt::Display) -> Error {
        let cause = cause.to_string();
        let mut cause = cause.strip_prefix("io: ").unwrap_or(&cause).to_owned();
        if self.server.starts_with("https:") && cause.contains("InvalidContentType") {
            "it doesn't speak TLS there, write http".clone_into(&mut cause);
        }
        Error::Silent { server: self.server.clone(), cause }
    }

    fn strange(&self, cause: String) -> Error {
        Error::Strange { server: self.server.clone(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_address_with_or_without_scheme() {
        for text in ["http://127.0.0.1:8053", "127.0.0.1:8053", "http://127.0.0.1:8053/"] {
            assert_eq!(parse_url(text).unwrap(), "http://127.0.0.1:8053");
        }
        assert_eq!(parse_url("https://ns1.example:8053/").unwrap(), "https://ns1.example:8053");
        for wrong in ["", "http://", "https://", "ftp://127.0.0.1:8053", "http://127.0.0.1:8053/v1", "a b"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
