//! Asking a running server over HTTP.

use std::io::Read;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use crate::api::problem::{MEDIA_TYPE, Problem};

/// Which server to ask.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// The address of its HTTP API, `http.listen` in livezone.toml
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8053", value_parser = parse_url)]
    pub server: String,
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
        problem: Problem,
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
    /// Standard output is closed or full.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// What a problem says, for whoever has a command line rather than a browser.
fn advice(problem: &Problem) -> String {
    match problem.status {
        404 => {
            let what = problem.detail.split("; ").next().unwrap_or_default();
            format!("{what}; `livezone members` shows what the server knows")
        }
        _ => problem.detail.clone(),
    }
}

/// Reads the address of a server; `http://` may be left out.
pub fn parse_url(text: &str) -> Result<String, String> {
    let address = match text.split_once("://") {
        None => text,
        Some(("http", address)) => address,
        Some((scheme, _)) => return Err(format!("a server is asked over http, not {scheme}")),
    };
    let address = address.trim_end_matches('/');
    if address.is_empty() || address.contains(['/', '?', '#', ' ']) {
        return Err("write the server alone, as in http://127.0.0.1:8053".to_owned());
    }
    Ok(format!("http://{address}"))
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    server: String,
}

impl Client {
    /// A client of the server at this address.
    pub fn new(server: &str) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A proxy of the environment is for the world outside.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(ANSWER));
        Client { agent: config.build().new_agent(), server: server.to_owned() }
    }

    /// A document.
    pub fn document<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.ask(path, "application/json")?;
        serde_json::from_reader(response.into_body().into_reader())
            .map_err(|error| if error.is_io() { self.silent(&error) } else { self.strange(error.to_string()) })
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
        let response = request.call().map_err(|error| self.silent(&error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let is_problem = response.headers().get("content-type").is_some_and(|value| value == MEDIA_TYPE);
        let body = response.into_body().into_reader().take(PROBLEM_OCTETS);
        let problem = is_problem.then(|| serde_json::from_reader(body).ok()).flatten();
        Err(match problem {
            Some(problem) => Error::Refused { server: self.server.clone(), problem },
            None => self.strange(format!("status {status}")),
        })
    }

    /// What went wrong between us and the server.
    pub fn silent(&self, cause: &dyn std::fmt::Display) -> Error {
        Error::Silent { server: self.server.clone(), cause: cause.to_string() }
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
        for wrong in ["", "http://", "https://127.0.0.1:8053", "http://127.0.0.1:8053/v1", "a b"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
