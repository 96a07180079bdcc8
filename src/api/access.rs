//! Who may ask for what: bearer tokens (RFC 6750).
//!
//! Without a token in the configuration, whoever can reach the API may read and register: on loopback that is this machine,
//! but for the web pages that its browsers show (`browsers`). With one, every request needs a token, but for [`OPEN`]. A
//! token covers zones and services by globs; what it doesn't cover is left out of lists, and 403 where it is named. What
//! tells of all services at once, a master file or the history, needs a token for all services of the zone.
//!
//! Only digests are kept. A presented token is hashed and its digest compared with each of them, in a time that doesn't
//! depend on where they differ or which of them it is.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::base::Name;
use crate::membership::access::{Globs, Scope};
use crate::membership::{Owner, Permit};
use crate::net::tcp::places::client_of;
use crate::zone::registration::order::Orderer;

use super::problem::Problem;
use super::serve::Peer;
use super::{Directory, browsers};

/// What needs no token: whoever asks whether the server is well has none, and the description of the API is no secret.
pub const OPEN: [&str; 3] = ["/healthz", "/readyz", "/v1/openapi.json"];
/// Octets of a SHA-256 digest.
pub const DIGEST_OCTETS: usize = 32;

/// What a token lets its holder do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// Ask.
    Read,
    /// Register, renew and withdraw, too.
    Write,
}

/// A `[[token]]` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// SHA-256 of the token.
    pub digest: [u8; DIGEST_OCTETS],
    /// What it is called; none: it goes by the beginning of its digest.
    pub name: Option<String>,
    /// Zones, by their names without the final dot.
    pub zones: Globs,
    /// Services, by their names below the origin.
    pub services: Globs,
    /// What it lets its holder do.
    pub access: Access,
    /// On whose members.
    pub members: Scope,
}

impl Token {
    /// What it goes by, in logs and as an owner.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("token {name}"),
            None => format!("token {}", hex(&self.digest[..4])),
        }
    }

    /// Whether it is about this zone.
    pub fn covers_zone(&self, origin: &Name) -> bool {
        let text = origin.to_string();
        self.zones.match_text(text.strip_suffix('.').filter(|text| !text.is_empty()).unwrap_or(&text))
    }

    /// Whether it is about this service of a zone that it is about.
    pub fn covers_service(&self, origin: &Name, service: &Name) -> bool {
        self.services.match_name(service, origin)
    }

    /// Whether it is about all services.
    pub fn covers_all_services(&self) -> bool {
        self.services.0.iter().any(|glob| glob == "*")
    }
}

/// Octets in hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Who needs no token while there are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Openness {
    /// Nobody: others than this machine reach the API, and it isn't open to them.
    Nobody,
    /// This machine: no other reaches it.
    #[default]
    ThisMachine,
    /// Everyone, on purpose.
    Everyone,
}

/// The tokens of a server.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    tokens: Vec<Arc<Token>>,
    openness: Openness,
}

impl Tokens {
    /// These tokens, and who goes without if there are none.
    pub fn new(tokens: impl IntoIterator<Item = Token>, openness: Openness) -> Tokens {
        Tokens { tokens: tokens.into_iter().map(Arc::new).collect(), openness }
    }

    /// Whether a request needs one.
    pub fn are_required(&self) -> bool {
        self.openness == Openness::Nobody || !self.tokens.is_empty()
    }

    /// The token that somebody has presented.
    pub fn find(&self, presented: &[u8]) -> Option<Arc<Token>> {
        let digest = Sha256::digest(presented);
        let mut found = 0u64;
        for (number, token) in (1..).zip(&self.tokens) {
            let same: Choice = token.digest.ct_eq(digest.as_slice());
            found.conditional_assign(&number, same);
        }
        self.tokens.get(usize::try_from(found).ok()?.checked_sub(1)?).cloned()
    }

    /// The same token as it is now; none: it was taken away.
    fn current(&self, token: &Token) -> Option<&Arc<Token>> {
        self.tokens.iter().find(|other| other.digest == token.digest)
    }
}

/// Who asks, and with what right.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) peer: Peer,
    /// None where none is needed.
    token: Option<Arc<Token>>,
}

/// Who has a share of what there is for all: an address, or a network that is one site's, with its token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Client {
    pub(super) source: IpAddr,
    /// The digest.
    pub(super) token: Option<[u8; DIGEST_OCTETS]>,
}

impl Caller {
    /// Whose share it takes from.
    pub(super) fn client(&self) -> Client {
        Client { source: client_of(self.peer.0), token: self.token.as_ref().map(|token| token.digest) }
    }

    /// Refuses what the token doesn't cover in this zone.
    pub(super) fn must_cover_zone(&self, origin: &Name, access: Access) -> Result<(), Problem> {
        match &self.token {
            None => Ok(()),
            Some(token) if !token.covers_zone(origin) => Err(forbidden(token, &format!("the zone {origin}"))),
            Some(token) => must_have(token, access),
        }
    }

    /// Refuses what the token doesn't cover of a service in a zone that it covers.
    pub(super) fn must_cover(&self, origin: &Name, service: &Name, access: Access) -> Result<(), Problem> {
        match &self.token {
            None => Ok(()),
            Some(token) if !token.covers_service(origin, service) => {
                Err(forbidden(token, &format!("the service {service}")))
            }
            Some(token) => must_have(token, access),
        }
    }

    /// Refuses what tells of all services.
    pub(super) fn must_cover_all_services(&self, origin: &Name) -> Result<(), Problem> {
        match &self.token {
            Some(token) if !token.covers_all_services() => Err(forbidden(token, &format!("all services of {origin}"))),
            _ => Ok(()),
        }
    }

    /// Whether a list shows this zone.
    pub(super) fn sees_zone(&self, origin: &Name) -> bool {
        self.token.as_ref().is_none_or(|token| token.covers_zone(origin))
    }

    /// Whether a list shows this service of a zone.
    pub(super) fn sees(&self, origin: &Name, service: &Name) -> bool {
        self.token.as_ref().is_none_or(|token| token.covers_service(origin, service))
    }

    /// Whether somebody who asked for a service may still have it: tokens come and go while a watch lasts.
    pub(super) fn still_sees(&self, tokens: &Tokens, origin: &Name, service: &Name) -> bool {
        match &self.token {
            None => !tokens.are_required(),
            Some(token) => tokens
                .current(token)
                .is_some_and(|token| token.covers_zone(origin) && token.covers_service(origin, service)),
        }
    }

    /// As whom it registers members, and on whose.
    pub(super) fn orderer(&self) -> Orderer {
        let Peer(peer) = self.peer;
        let Some(token) = &self.token else {
            let owner = if peer.is_loopback() { "network 127.0.0.0/8" } else { "anyone" };
            let permit = Permit { owner: Owner(owner.into()), scope: Scope::Any };
            return Orderer { permit, by: format!("address {peer}").into() };
        };
        let label: Arc<str> = token.label().into();
        Orderer { permit: Permit { owner: Owner(label.clone()), scope: token.members }, by: label }
    }
}

fn must_have(token: &Token, access: Access) -> Result<(), Problem> {
    if token.access >= access {
        return Ok(());
    }
    let detail = format!("{} only reads: this needs one with access = \"write\"", token.label());
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

fn forbidden(token: &Token, what: &str) -> Problem {
    let detail = format!(
        "{} does not cover {what}; its `zones` and `services` in livezone.toml say what it does",
        token.label()
    );
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// Finds out who asks, and says no to those who have no token where one is needed, and to web pages where none is.
pub(super) async fn admit(State(directory): State<Arc<dyn Directory>>, mut request: Request, next: Next) -> Response {
    let Some(&peer) = request.extensions().get::<Peer>() else {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody knows who asks").into_response();
    };
    let tokens = directory.tokens();
    let token = if OPEN.contains(&request.uri().path()) {
        None
    } else if !tokens.are_required() {
        if let Err(problem) = browsers::check(&request, tokens.openness) {
            return problem.into_response();
        }
        None
    } else {
        match present(request.headers()).map(|presented| tokens.find(presented)) {
            Some(Some(token)) => Some(token),
            Some(None) => return unauthorized(Some("invalid_token"), "the token is none that is known here"),
            None => {
                let detail = "this needs a token: send it as `Authorization: Bearer TOKEN`; `livezone keygen --token NAME` \
                              makes one";
                return unauthorized(None, detail);
            }
        }
    };
    request.extensions_mut().insert(Caller { peer, token });
    next.run(request).await
}

/// The token that a request presents (RFC 6750 §2.1); schemes ignore case (RFC 9110 §11.1).
fn present(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(6)?;
    let blanks = token.iter().take_while(|&&octet| octet == b' ').count();
    (scheme.eq_ignore_ascii_case(b"bearer") && blanks > 0).then_some(token[blanks..].trim_ascii_end())
}

/// 401. Who presents none is not told of an error (RFC 6750 §3.1).
fn unauthorized(error: Option<&str>, detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    let error = error.map_or_else(String::new, |error| format!(", error=\"{error}\""));
    let challenge = HeaderValue::from_str(&format!("Bearer realm=\"livezone\"{error}")).expect("plain ASCII");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(secret: &str, zones: &[&str], services: &[&str]) -> Token {
        let globs = |globs: &[&str]| Globs(globs.iter().map(|glob| (*glob).to_owned()).collect());
        Token {
            digest: Sha256::digest(secret).into(),
            name: None,
            zones: globs(zones),
            services: globs(services),
            access: Access::Read,
            members: Scope::Any,
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_found_by_what_it_hashes_to_and_no_other_is() {
        let tokens = Tokens::new(["a", "b", "c"].map(|secret| token(secret, &["*"], &["*"])), Openness::Nobody);
        for secret in ["a", "b", "c"] {
            assert_eq!(tokens.find(secret.as_bytes()).unwrap().digest, <[u8; 32]>::from(Sha256::digest(secret)));
        }
        for other in ["", "d", "A", "a "] {
            assert!(tokens.find(other.as_bytes()).is_none(), "{other}");
        }
        assert!(Tokens::default().find(b"").is_none());
    }

    #[test]
    fn a_token_is_presented_as_a_bearer_in_any_case() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(text).unwrap())]);
            present(&headers).map(<[u8]>::to_vec)
        };
        for text in ["Bearer t", "bearer t", "BEARER   t"] {
            assert_eq!(read(text).as_deref(), Some(b"t".as_slice()), "{text}");
        }
        for text in ["Bearert", "Basic dDp0", "t", ""] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn zones_are_named_without_their_final_dot_and_services_below_the_origin() {
        let it = token("t", &["svc.example.test", "*.other"], &["_http.*", "_x._tcp.a.other."]);
        assert!(it.covers_zone(&name("SVC.example.test.")) && it.covers_zone(&name("a.other.")));
        assert!(!it.covers_zone(&name("example.test.")) && !it.covers_zone(&name(".")));
        assert!(it.covers_service(&name("a.other."), &name("_x._tcp.a.other.")));
        assert!(it.covers_service(&name("a.other."), &name("_http._tcp.a.other.")));
        assert!(!it.covers_service(&name("a.other."), &name("_y._tcp.a.other.")));
        assert!(!it.covers_all_services() && token("t", &[], &["*"]).covers_all_services());
    }

    #[test]
    fn a_token_that_is_taken_away_or_narrowed_sees_no_more() {
        let caller = |token: Option<Token>| Caller { peer: Peer([127, 0, 0, 1].into()), token: token.map(Arc::new) };
        let (origin, service) = (name("z."), name("_x._tcp.z."));
        let wide = token("t", &["*"], &["*"]);
        let narrow = token("t", &["*"], &["_y._tcp"]);
        let sees = |caller: &Caller, tokens: Vec<Token>, openness| {
            caller.still_sees(&Tokens::new(tokens, openness), &origin, &service)
        };
        use Openness::{Nobody, ThisMachine};
        assert!(sees(&caller(Some(wide.clone())), vec![wide.clone()], ThisMachine));
        assert!(!sees(&caller(Some(wide.clone())), vec![narrow], ThisMachine));
        assert!(!sees(&caller(Some(wide.clone())), Vec::new(), ThisMachine));
        assert!(sees(&caller(None), Vec::new(), ThisMachine));
        assert!(!sees(&caller(None), Vec::new(), Nobody) && !sees(&caller(None), vec![wide], ThisMachine));
    }
}
