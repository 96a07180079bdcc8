//! Registering over HTTP: `PUT` and `DELETE` of the server's API, with a bearer token.
//!
//! A heartbeat is the `PUT` again, and a drain one that says so. The server itself says when it is safe to stop
//! (`GET …/drain`), so that nobody else is asked.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::api::drain::DrainView;
use crate::api::orders::Acknowledgement;
use crate::api::problem::{MEDIA_TYPE, Problem};
use crate::api::views::MemberState;
use crate::config::agent::{Place, Token};

use super::channel::{Channel, Failure, patience};
use super::dns::{resolve, silent};
use super::machine::{Order, Reply};
use super::registration::Registration;

/// Octets of an answer: more is none of ours.
const ANSWER_OCTETS: u64 = 64 << 10;
/// From one question whether it is safe to stop to the next.
const ROUND: Duration = Duration::from_millis(500);

/// Servers with an HTTP API.
#[derive(Debug)]
pub struct Http {
    urls: Vec<String>,
    token: Option<Token>,
    agent: ureq::Agent,
}

/// What a server answered: the status, and the body if it is JSON.
type Answer = (u16, Value);

impl Http {
    /// A channel to these servers. With a file of certificates, their ones are verified by those and no others.
    pub fn new(urls: Vec<String>, token: Option<Token>, ca: Option<&Path>) -> io::Result<Http> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = ca {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(read_certificates(path)?)));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A proxy of the environment is for the world outside.
            .proxy(None)
            // A token is for the server that it was made for.
            .max_redirects(0)
            .tls_config(tls.build());
        Ok(Http { urls, token, agent: config.build().new_agent() })
    }

    /// One request, on a thread that may wait.
    async fn ask(
        &self,
        method: Method,
        url: String,
        body: Option<Value>,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let (agent, token) = (self.agent.clone(), self.token.clone());
        let work = move || -> Result<Answer, Failure> {
            let mut request = Request::builder().method(method).uri(&url).header("accept", "application/json");
            if let Some(Token(token)) = &token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let sent = match body {
                Some(body) => {
                    let request = request.header("content-type", "application/json").body(body.to_string());
                    let request = agent.configure_request(request.map_err(silent)?);
                    agent.run(request.timeout_global(Some(patience)).build())
                }
                None => {
                    let request = agent.configure_request(request.body(()).map_err(silent)?);
                    agent.run(request.timeout_global(Some(patience)).build())
                }
            };
            let response = sent.map_err(silent)?;
            let status = response.status().as_u16();
            let is_problem = response.headers().get("content-type").is_some_and(|value| value == MEDIA_TYPE);
            let mut octets = Vec::new();
            let read = response.into_body().into_reader().take(ANSWER_OCTETS).read_to_end(&mut octets);
            read.map_err(silent)?;
            if is_problem {
                let problem: Option<Problem> = serde_json::from_slice(&octets).ok();
                let detail = problem.map(|problem| format!(" {}: {}", problem.title, problem.detail));
                return Err(refusal(status, &detail.unwrap_or_default()));
            }
            Ok((status, serde_json::from_slice(&octets).unwrap_or_default()))
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(silent(error)))
    }

    fn url(&self, server: usize, member: &Registration, rest: &str) -> String {
        let Registration { zone, service, id, .. } = member;
        format!("{}/v1/zones/{zone}/services/{service}/members/{id}{rest}", self.urls[server])
    }

    async fn drain_state(&self, server: usize, member: &Registration) -> Result<DrainView, Failure> {
        read(self.ask(Method::GET, self.url(server, member, "/drain"), None, patience(member)).await?)
    }

    fn missing(&self, server: usize, view: &DrainView) -> Failure {
        Failure::Silent(format!("{} waits for {}", self.urls[server], view.waiting_for.join(", ")))
    }
}

/// A time span of a document.
fn span(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// The document that a server answered with.
fn read<T: DeserializeOwned>((status, answer): Answer) -> Result<T, Failure> {
    if status != 200 && status != 201 {
        return Err(refusal(status, ""));
    }
    serde_json::from_value(answer).map_err(|error| {
        Failure::Silent(format!("the answer is none of livezone's HTTP API ({error}); does --api name it?"))
    })
}

fn granted(told: &Acknowledgement, unpublished: Option<String>) -> Reply {
    let lease = told.lease.map(|lease| Duration::from_secs(lease.into()));
    Reply::Granted { lease, slot: told.slot.map(|slot| slot.to_string()), unpublished }
}

/// Why somebody who is registered is not published.
fn unpublished(told: &Acknowledgement) -> Option<String> {
    match (told.state, &told.damped_until) {
        (Some(MemberState::Draining), _) => {
            Some("it drains by somebody's order; `livezone undrain` brings it back".to_owned())
        }
        (_, Some(until)) => Some(format!("it is damped until {until}: it came back too often")),
        _ if told.waits_for_slot => {
            Some("it waits for a slot: those that are free are kept for their former holders".to_owned())
        }
        _ => None,
    }
}

fn refusal(status: u16, detail: &str) -> Failure {
    let advice = match status {
        401 => "; --token-file must hold a token of the server's [[token]] entries",
        403 => "; the token's [[token]] entry must cover this zone and service, with access = \"write\"",
        404 | 405 if detail.is_empty() => "; does --api name livezone's HTTP API?",
        _ => "",
    };
    Failure::Refused(format!("status {status}{detail}{advice}"))
}

fn read_certificates(path: &Path) -> io::Result<Vec<Certificate<'static>>> {
    let wrong = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(&error))? {
            certificates.push(certificate);
        }
    }
    match certificates.is_empty() {
        true => Err(wrong(&"holds no certificate")),
        false => Ok(certificates),
    }
}

/// The body of a `PUT`.
fn body(member: &Registration) -> Value {
    let metadata: serde_json::Map<String, Value> =
        member.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "port": member.port,
        "addresses": member.addresses,
        "target": null,
        "priority": member.priority,
        "weight": member.weight,
        "lease": format!("{}s", member.lease),
        "metadata": metadata,
        "replaces": null,
    })
}

#[async_trait]
impl Channel for Http {
    fn servers(&self) -> usize {
        self.urls.len()
    }

    fn name(&self, server: usize) -> String {
        self.urls[server].clone()
    }

    async fn place(&self, server: usize) -> io::Result<SocketAddr> {
        let url = &self.urls[server];
        let (authority, port) = match url.strip_prefix("https://") {
            Some(authority) => (authority, 443),
            None => (url.trim_start_matches("http://"), 80),
        };
        let place = Place::parse(authority, Some(port)).map_err(io::Error::other)?;
        Ok(resolve(&place).await?[0])
    }

    async fn carry_out(&self, server: usize, order: Order, member: &Registration) -> Result<Reply, Failure> {
        let url = self.url(server, member, "");
        let patience = patience(member);
        match order {
            Order::Ask => {
                // Where a drain stands can be asked of those who are there.
                match self.drain_state(server, member).await {
                    Ok(view) => {
                        use MemberState::{Held, Suspect, Up};
                        Ok(Reply::Published(matches!(view.state, Up | Suspect | Held)))
                    }
                    Err(Failure::Refused(_)) => Ok(Reply::Published(false)),
                    Err(failure) => Err(failure),
                }
            }
            Order::Register { .. } => {
                let told = self.ask(Method::PUT, url, Some(body(member)), patience).await?;
                let told: Acknowledgement = read(told)?;
                Ok(granted(&told, unpublished(&told)))
            }
            Order::Drain => {
                // Not as an operator drains it: should this process end before it has deregistered, the next one registers.
                let mut body = body(member);
                body["drain"] = true.into();
                let told: Acknowledgement = read(self.ask(Method::PUT, url, Some(body), patience).await?)?;
                Ok(granted(&told, None))
            }
            Order::Deregister => match self.ask(Method::DELETE, url, None, patience).await {
                Ok((200..=299 | 404, _)) => Ok(Reply::Done),
                Ok((status, _)) => Err(refusal(status, "")),
                // It is gone already.
                Err(Failure::Refused(text)) if text.starts_with("status 404") => Ok(Reply::Done),
                Err(failure) => Err(failure),
            },
        }
    }

    async fn wait_until_safe(
        &self,
        servers: &[usize],
        member: &Registration,
        deadline: Instant,
    ) -> Result<(), Failure> {
        for &server in servers {
            loop {
                let view = self.drain_state(server, member).await;
                let late = match view.map(|view| (view.safe_in.and_then(span), view)) {
                    Ok((Some(Duration::ZERO), view)) => match view.timed_out {
                        true => return Err(self.missing(server, &view)),
                        false => break,
                    },
                    // Asked again then: a heartbeat of before the drain may come in late, and bring it back.
                    Ok((Some(span), _)) if Instant::now() + span <= deadline => {
                        sleep_until(Instant::now() + span + Duration::from_millis(1)).await;
                        continue;
                    }
                    Ok((Some(_), _)) => Failure::Silent("it is safe later than --drain-timeout".to_owned()),
                    Ok((None, view)) if view.state != MemberState::Draining => {
                        Failure::Silent(format!("{} has it back in the answers", self.urls[server]))
                    }
                    Ok((None, view)) => self.missing(server, &view),
                    Err(failure) => failure,
                };
                let next = Instant::now() + ROUND;
                if next >= deadline {
                    return Err(late);
                }
                sleep_until(next).await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
