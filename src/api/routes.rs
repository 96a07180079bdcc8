//! From requests to responses.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinError;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::base::limits::HISTORY_COMMITS;
use crate::base::{Epoch, Name};
use crate::zone::Snapshot;
use crate::zone::file::Chunks;

use super::access::{Access, Caller, admit};
use super::body::Pieces;
use super::discovery::TargetGroup;
use super::events::{self, EVENT_STREAM, Watcher};
use super::headers::{not_modified, prefers, tag, vary, wants_master_file};
use super::intake::Intake;
use super::openapi::{self, Description};
use super::orders::BATCHES;
use super::problem::Problem;
use super::ready::Readiness;
use super::serve::Standing;
use super::views::{Commits, ServiceSummary, ServiceView, Services, ZoneView, Zones};
use super::watches::Watches;
use super::{Directory, ServedZone, discovery, drain, history, members, page, ready};

/// Responses at a time that look at a whole zone or its history, or have more than [`SMALL_OCTETS`]: each takes some
/// megabytes, or holds its snapshot, until the client has taken it. Further ones are told to come again.
pub const LARGE_RESPONSES: usize = 16;
/// Pages of metrics at a time: one for each of a few Prometheus servers. They have places of their own, so that what else is
/// large doesn't hide how the server is.
pub const METRICS_PAGES: usize = 4;
/// Octets of a response that every connection may have waiting for its client.
pub const SMALL_OCTETS: usize = 64 << 10;
/// Commits of a page if the request doesn't say.
pub const PAGE_COMMITS: u64 = 100;
/// Commits of a page at most: no history has more.
pub const PAGE_COMMITS_LIMIT: u64 = HISTORY_COMMITS;

/// The media type of master files (RFC 4027).
pub const MASTER_FILE: &str = "text/dns";

/// What all requests share.
pub(super) struct Shared {
    pub(super) directory: Arc<dyn Directory>,
    large: Arc<Semaphore>,
    /// Places of batches.
    pub(super) batches: Arc<Semaphore>,
    pub(super) intake: Arc<Intake>,
    metrics: Arc<Semaphore>,
    watches: Arc<Watches>,
    /// Places of connections that watch.
    watchers: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

pub(super) type Api = State<Arc<Shared>>;
pub(super) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;
pub(super) type Answer = Result<Response, Problem>;

/// All resources.
pub fn router(
    directory: Arc<dyn Directory>,
    watches: Arc<Watches>,
    watchers: usize,
    stop: watch::Receiver<bool>,
) -> Router {
    let large = Arc::new(Semaphore::new(LARGE_RESPONSES));
    let admission = from_fn_with_state(directory.clone(), admit);
    let shared = Shared {
        directory,
        large,
        batches: Arc::new(Semaphore::new(BATCHES)),
        intake: Arc::default(),
        metrics: Arc::new(Semaphore::new(METRICS_PAGES)),
        watches,
        watchers: Arc::new(Semaphore::new(watchers)),
        stop,
    };
    let (routes, _) = described().split_for_parts();
    let description: Arc<[u8]> = description().into();
    let described = move || async move { document(description.to_vec(), None) };
    routes
        .route("/v1/openapi.json", get(described))
        .fallback(nothing_there)
        .method_not_allowed_fallback(not_allowed)
        .layer(admission)
        .with_state(Arc::new(shared))
}

/// The resources with what is said of them.
fn described() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(zones))
        .routes(routes!(zone))
        .routes(routes!(services))
        .routes(routes!(service))
        .routes(routes!(http_sd))
        .routes(routes!(members::member, members::register, members::deregister))
        .routes(routes!(drain::drain, drain::follow))
        .routes(routes!(drain::undrain))
        .routes(routes!(drain::release))
        .routes(routes!(drain::release_all))
        .routes(routes!(drain::slots))
        .routes(routes!(drain::shrink))
        .routes(routes!(members::heartbeats))
        .routes(routes!(commits))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(page))
}

/// The description of the API (OpenAPI 3.1), as JSON.
pub fn description() -> Vec<u8> {
    let mut api = described().into_openapi();
    openapi::complete(&mut api);
    json(&api)
}

#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "The process serves", body = String, content_type = "text/plain; charset=utf-8")))]
async fn healthz() -> &'static str {
    "ok\n"
}

#[utoipa::path(get, path = "/readyz", responses((status = 200, description = "Every part is ready", body = Readiness), (status = 503, description = "Some part is not", body = Readiness)))]
async fn readyz(State(api): Api) -> Response {
    let readiness = ready::look(&*api.directory).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, document(json(&readiness), None)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[utoipa::path(get, path = "/", responses((status = 200, description = "A page for people", body = String, content_type = "text/html; charset=utf-8")))]
async fn page(State(api): Api, Extension(caller): Extension<Caller>, parameters: Parameters) -> Answer {
    accept_parameters(parameters, &[])?;
    let _permit = api.large()?;
    Ok(page::page(&*api.directory, &caller).await)
}

#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Metrics for Prometheus", body = String, content_type = "text/plain; version=0.0.4")))]
async fn metrics(State(api): Api, parameters: Parameters) -> Answer {
    accept_parameters(parameters, &[])?;
    let permit = take_place(&api.metrics, METRICS_PAGES)?;
    let directory = api.directory.clone();
    let page = look(move || directory.metrics()).await?;
    let body = Body::new(Pieces::whole(page.into_bytes(), Some(permit)));
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

async fn nothing_there() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "nothing is here; there are /v1/zones, /v1/zones/{zone}, /v1/zones/{zone}/services, \
         /v1/zones/{zone}/services/{service}, …/members/{id}, …/members/{id}/drain, /undrain and /release, \
         …/services/{service}/http-sd, /slots and /release, /metrics, /v1/zones/{zone}/heartbeats, /v1/zones/{zone}/commits, /v1/openapi.json, /healthz and /readyz",
    )
}

async fn not_allowed(method: Method) -> Problem {
    let detail = format!("{method} is not possible here; `Allow` says what is");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

#[utoipa::path(get, path = "/v1/zones", responses((status = 200, description = "Every zone that the token covers", body = Zones)))]
async fn zones(State(api): Api, Extension(caller): Extension<Caller>, parameters: Parameters) -> Answer {
    accept_parameters(parameters, &[])?;
    let permit = api.large()?;
    let mut zones = api.directory.zones();
    zones.retain(|zone| caller.sees_zone(&zone.origin));
    let octets = look(move || json(&Zones { zones: zones.iter().map(ZoneView::of).collect() })).await?;
    Ok(document(octets, Some(permit)))
}

#[utoipa::path(get, path = "/v1/zones/{zone}", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out")), responses((status = 200, description = "One zone", content((ZoneView = "application/json"), (String = "text/dns"))), (status = 304, description = "Nothing has changed since the epoch that the request knows")))]
async fn zone(
    State(api): Api,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    method: Method,
    headers: HeaderMap,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let zone = api.find_zone(&caller, &path?, Access::Read)?;
    if wants_master_file(&headers) {
        caller.must_cover_all_services(&zone.origin)?;
    }
    if zone.copy.is_some() && zone.snapshot.is_none() && !wants_master_file(&headers) {
        // Why it is not there is what is asked for.
        let permit = api.large()?;
        return Ok(vary(document(json(&ZoneView::of(&zone)), Some(permit))));
    }
    let snapshot = loaded(&zone)?;
    let epoch = snapshot.epoch;
    if let Some(response) = not_modified(&headers, epoch) {
        return Ok(vary(response));
    }
    let permit = api.large()?;
    let response = if wants_master_file(&headers) {
        let body = if method == Method::HEAD {
            Body::empty()
        } else {
            Body::new(Pieces::master_file(look(move || Chunks::of(&snapshot)).await?, permit))
        };
        ([(header::CONTENT_TYPE, MASTER_FILE)], body).into_response()
    } else {
        document(look(move || json(&ZoneView::of(&zone))).await?, Some(permit))
    };
    Ok(vary(tag(response, epoch)))
}

#[utoipa::path(get, path = "/v1/zones/{zone}/services", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out")), responses((status = 200, description = "Its services", body = Services), (status = 304, description = "Nothing has changed since the epoch that the request knows")))]
async fn services(
    State(api): Api,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let snapshot = loaded(&api.find_zone(&caller, &path?, Access::Read)?)?;
    let epoch = snapshot.epoch;
    if let Some(response) = not_modified(&headers, epoch) {
        return Ok(response);
    }
    let permit = api.large()?;
    let sees = move |service: &Name, origin: &Name| caller.sees(origin, service);
    let octets = look(move || json(&Services::of(&snapshot, |name| sees(name, snapshot.origin())))).await?;
    Ok(tag(document(octets, Some(permit)), epoch))
}

#[utoipa::path(get, path = "/v1/zones/{zone}/services/{service}", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute"), ("since" = Option<u64>, Query, description = "Wait for an epoch beyond this one"), ("wait" = Option<String>, Query, description = "For how long, as in 30s; with since alone, not at all")), responses((status = 200, description = "The service with its members, or a stream of its changes", content((ServiceView = "application/json"), (String = "text/event-stream"))), (status = 304, description = "Nothing has changed since the epoch that the request knows")))]
async fn service(
    State(api): Api,
    Extension(caller): Extension<Caller>,
    Extension(standing): Extension<Arc<Standing>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Answer {
    let (since, wait) = read_watch(parameters)?;
    let Path((zone, text)) = path?;
    let zone = api.find_zone(&caller, &zone, Access::Read)?;
    let snapshot = loaded(&zone)?;
    let unknown = || Problem::unknown_service(&zone.origin, &text);
    let service = service_name(&text, &zone.origin).ok_or_else(unknown)?;
    caller.must_cover(&zone.origin, &service, Access::Read)?;
    let known = ServiceSummary::of(&snapshot, &service).map(|summary| Epoch(summary.epoch));
    if let Some(copy) = &zone.copy {
        known.ok_or_else(unknown)?;
        return Err(Problem::of_a_copy(&zone.origin, &copy.primaries));
    }
    if prefers(&headers, EVENT_STREAM) {
        known.ok_or_else(unknown)?;
        let seen = events::last_event(&headers).or(since).filter(|&seen| seen <= snapshot.epoch);
        return Ok(vary(api.watch(caller, &standing, zone.origin, service, seen)?.stream()));
    }
    // An epoch that is still to come is of another store.
    let since = since.filter(|&since| since <= snapshot.epoch);
    if let Some(known) = known.filter(|&known| since.is_some_and(|since| since >= known)) {
        let watcher = api.watch(caller, &standing, zone.origin, service, Some(known));
        return match watcher?.poll(wait).await? {
            Some((epoch, response)) => Ok(vary(tag(response, epoch))),
            None => Ok(vary(tag(StatusCode::NOT_MODIFIED.into_response(), known))),
        };
    }
    let view = api.directory.service(&zone.origin, &service).await?.ok_or_else(unknown)?;
    let epoch = Epoch(view.summary.epoch);
    if let Some(response) = not_modified(&headers, epoch) {
        return Ok(vary(response));
    }
    Ok(vary(tag(api.document(&view)?, epoch)))
}

#[utoipa::path(get, path = "/v1/zones/{zone}/services/{service}/http-sd", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute")), responses((status = 200, description = "Targets for Prometheus", body = Vec<TargetGroup>)))]
async fn http_sd(
    State(api): Api,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let Path((zone, text)) = path?;
    let zone = api.find_own(&caller, &zone, Access::Read)?;
    let unknown = || Problem::unknown_service(&zone.origin, &text);
    let service = service_name(&text, &zone.origin).ok_or_else(unknown)?;
    caller.must_cover(&zone.origin, &service, Access::Read)?;
    let view = api.directory.service(&zone.origin, &service).await?.ok_or_else(unknown)?;
    api.document(&discovery::groups(&view))
}

/// What a watch goes on from, and how long a long poll may take.
fn read_watch(parameters: Parameters) -> Result<(Option<Epoch>, Duration), Problem> {
    let [since, wait] = accept_parameters(parameters, &["since", "wait"])?;
    let since = since.map(|text| number("since", &text, "an epoch, as in ?since=1795393247")).transpose()?.map(Epoch);
    match wait {
        Some(_) if since.is_none() => {
            let detail = "`wait` is for the change after an epoch: say `since=EPOCH` too, the service's `epoch`";
            Err(Problem::parameter("wait", detail))
        }
        Some(text) => Ok((since, events::read_wait(&text)?)),
        None => Ok((since, Duration::ZERO)),
    }
}

// ---- history ------------------------------------------------------------------------------------------------------------

#[utoipa::path(get, path = "/v1/zones/{zone}/commits", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("since" = Option<u64>, Query, description = "Commits after this epoch"), ("limit" = Option<u64>, Query, minimum = 1, description = "How many at most")), responses((status = 200, description = "A page of the kept history", body = Commits)))]
async fn commits(
    State(api): Api,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Answer {
    let [since, limit] = accept_parameters(parameters, &["since", "limit"])?;
    let since = since.map(|text| number("since", &text, "an epoch, as in ?since=1795393247")).transpose()?.map(Epoch);
    let limit = limit.map(|text| number("limit", &text, "how many commits, from 1")).transpose()?;
    if limit == Some(0) {
        return Err(Problem::parameter("limit", "`limit` is 0: ask for 1 commit at the least"));
    }
    let limit = limit.unwrap_or(PAGE_COMMITS).min(PAGE_COMMITS_LIMIT);
    let most = usize::try_from(limit).expect("a few");
    let zone = api.find_zone(&caller, &path?, Access::Read)?;
    caller.must_cover_all_services(&zone.origin)?;
    let epoch = loaded(&zone)?.epoch;
    let permit = api.large()?;
    let page = api.directory.commits(&zone.origin, since, most).await?;
    let incomplete = page.incomplete;
    let commits = look(move || history::tell(&page)).await?;
    let last = commits.last().map(|last| last.epoch).filter(|&last| last < epoch.0);
    let page = Commits {
        zone: zone.origin.to_string(),
        epoch: epoch.0,
        incomplete,
        next: last.map(|last| {
            format!("/v1/zones/{}/commits?since={last}&limit={limit}", super::segment(&zone.origin.to_string()))
        }),
        commits,
    };
    Ok(document(look(move || json(&page)).await?, Some(permit)))
}

pub(super) fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("plain data with keys of text")
}

pub(super) fn document(octets: Vec<u8>, permit: Option<OwnedSemaphorePermit>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::new(Pieces::whole(octets, permit))).into_response()
}

impl Shared {
    /// A zone that the caller may see, or register with. Whether there is one is not told to others.
    fn find_zone(&self, caller: &Caller, text: &str, access: Access) -> Result<ServedZone, Problem> {
        let unknown = || Problem::unknown_zone(text);
        let origin = Name::parse(text, Some(&Name::root())).map_err(|_| unknown())?;
        caller.must_cover_zone(&origin, access)?;
        self.directory.zone(&origin).ok_or_else(unknown)
    }

    /// A zone that members register with here.
    pub(super) fn find_own(&self, caller: &Caller, text: &str, access: Access) -> Result<ServedZone, Problem> {
        let zone = self.find_zone(caller, text, access)?;
        match &zone.copy {
            Some(copy) => Err(Problem::of_a_copy(&zone.origin, &copy.primaries)),
            None => Ok(zone),
        }
    }

    /// Begins to watch a service.
    fn watch(
        &self,
        caller: Caller,
        standing: &Arc<Standing>,
        zone: Name,
        service: Name,
        seen: Option<Epoch>,
    ) -> Result<Watcher, Problem> {
        let watching = standing.watch(&self.watchers).ok_or_else(|| {
            let detail =
                "as many watch as may (an operator raises the limit of open files, or asks fewer); ask again later";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })?;
        Ok(Watcher {
            told: self.watches.watch(&self.directory, &zone, &service),
            watches: self.watches.clone(),
            directory: self.directory.clone(),
            caller,
            zone,
            service,
            stop: self.stop.clone(),
            seen,
            _watching: watching,
        })
    }

    /// A document that may have any size: a large one needs a place.
    pub(super) fn document(&self, what: &impl Serialize) -> Answer {
        let octets = json(what);
        let permit = (octets.len() > SMALL_OCTETS).then(|| self.large()).transpose()?;
        Ok(document(octets, permit))
    }

    fn large(&self) -> Result<OwnedSemaphorePermit, Problem> {
        take_place(&self.large, LARGE_RESPONSES)
    }
}

fn take_place(places: &Arc<Semaphore>, count: usize) -> Result<OwnedSemaphorePermit, Problem> {
    places.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{count} responses of this size are being read; ask again in a second");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}

pub(super) fn loaded(zone: &ServedZone) -> Result<Snapshot, Problem> {
    zone.snapshot.clone().ok_or_else(|| Problem::not_loaded(&zone.origin))
}

/// Does what takes a while for a large zone, away from the threads that serve.
pub(super) async fn look<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// A task did not come to its end.
pub(super) fn failed(_: JoinError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the response can't be made; see the server's log")
}

/// A service below the zone, or absolute.
pub(super) fn service_name(text: &str, origin: &Name) -> Option<Name> {
    // `_x._tcp.svc.example.test` without its final dot is meant absolute.
    let absolute = Name::parse(text, Some(&Name::root())).ok().filter(|name| name.is_within(origin));
    absolute.or_else(|| Name::parse(text, Some(origin)).ok())
}

// ---- parameters ---------------------------------------------------------------------------------------------------------

/// The values of these parameters. Another one is a mistake: who misspells `since` should not get the whole history.
pub(super) fn accept_parameters<const N: usize>(
    parameters: Parameters,
    names: &[&'static str; N],
) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for (name, value) in parameters?.0 {
        let Some(at) = names.iter().position(|known| *known == name) else {
            let known = if names.is_empty() { "there are none here".to_owned() } else { names.join(", ") };
            return Err(Problem::parameter(&name, format!("there is no parameter `{name}`: leave it out ({known})")));
        };
        if values[at].replace(value).is_some() {
            return Err(Problem::parameter(&name, format!("`{name}` is given twice: leave one out")));
        }
    }
    Ok(values)
}

fn number(name: &str, text: &str, wanted: &str) -> Result<u64, Problem> {
    text.parse()
        .map_err(|_| Problem::parameter(name, format!("`{name}` is no number that can be, \"{text}\": write {wanted}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_below_its_zone_or_absolute() {
        let origin: Name = "svc.example.test.".parse().unwrap();
        let full = "_x._tcp.svc.example.test.";
        for text in ["_x._tcp", "_X._TCP", full, "_x._tcp.svc.example.test"] {
            assert_eq!(service_name(text, &origin).unwrap().to_string(), full, "{text}");
        }
        assert_eq!(service_name("_x._tcp.east", &origin).unwrap().to_string(), "_x._tcp.east.svc.example.test.");
        assert!(service_name("a..b", &origin).is_none());
    }

    #[test]
    fn parameters_are_known_and_stand_once() {
        let accept = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            accept_parameters(Ok(Query(pairs)), &["since", "limit"])
        };
        assert_eq!(accept(&[("limit", "3")]).unwrap(), [None, Some("3".to_owned())]);
        assert_eq!(accept(&[("sinec", "3")]).unwrap_err().parameter.as_deref(), Some("sinec"));
        assert_eq!(accept(&[("since", "3"), ("since", "4")]).unwrap_err().parameter.as_deref(), Some("since"));
        assert!(number("since", "4294967296", "").is_ok());
        assert!(number("since", "", "").is_err());
    }
}
