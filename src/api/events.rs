//! Watching one service: long polls, and streams of server-sent events.
//!
//! `?since=EPOCH&wait=30s` answers as soon as the service has an epoch beyond that one, and 304 when the time is over.
//! An epoch that the zone has not reached is from elsewhere (a lost store), and is answered at once.
//!
//! With `Accept: text/event-stream` (HTML Living Standard §9.2) there is an event for each change and one for how the service
//! stands at first, unless `Last-Event-ID` says that it is known:
//!
//! ```text
//! id: 1795393248
//! event: service
//! data: {"zone":"svc.example.test.","service":"_memcached._tcp.svc.example.test.",…}
//! ```
//!
//! A comment comes every [`KEEP_ALIVE`], so that both sides learn of a dead connection. A stream ends with the event `end`,
//! whose data says why: the server stops, the service is gone, or the token is.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use crate::base::{Epoch, Name};

use super::Directory;
use super::access::Caller;
use super::problem::Problem;
use super::serve::Watching;
use super::watches::{Told, Watches};

/// The media type of streams.
pub const EVENT_STREAM: &str = "text/event-stream";
/// How often a stream has a comment if there is nothing to tell: below what proxies and firewalls take for dead.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a long poll waits at most, whatever it asks for.
pub const WAIT_LIMIT: Duration = Duration::from_secs(300);
/// What a stream begins with: how long its client waits before it comes again.
const BEGINNING: &[u8] = b"retry: 2000\n\n";

/// Why a watch ended without a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Stopping,
    Gone,
    Revoked,
}

impl End {
    fn text(self) -> &'static str {
        match self {
            End::Stopping => "the server stops",
            End::Gone => "the service is gone, or its zone",
            End::Revoked => "the token is none that covers this any more",
        }
    }

    fn problem(self) -> Problem {
        let status = match self {
            End::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            End::Gone => StatusCode::NOT_FOUND,
            End::Revoked => StatusCode::UNAUTHORIZED,
        };
        Problem::new(status, self.text())
    }
}

/// Somebody who watches a service.
pub(super) struct Watcher {
    pub(super) watches: Arc<Watches>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) caller: Caller,
    pub(super) zone: Name,
    pub(super) service: Name,
    pub(super) told: watch::Receiver<Told>,
    pub(super) stop: watch::Receiver<bool>,
    /// The epoch that is known to whoever watches.
    pub(super) seen: Option<Epoch>,
    /// Its place.
    pub(super) _watching: Watching,
}

/// What a watcher woke for.
enum News {
    Change(Arc<super::watches::Shared>),
    Silence,
    End(End),
}

impl Watcher {
    /// Waits for a change, or until the time is over.
    async fn news(&mut self, mut late: Pin<&mut Sleep>) -> News {
        loop {
            match &*self.told.borrow_and_update() {
                Told::Service(shared) if self.seen.is_none_or(|seen| shared.epoch > seen) => {
                    self.seen = Some(shared.epoch);
                    return News::Change(shared.clone());
                }
                _ => {}
            }
            tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return News::End(End::Stopping),
                changed = self.told.changed() => {
                    self.watches.wake();
                    // One that was gone before this watch began is back, or about to be.
                    if changed.is_err() || matches!(*self.told.borrow(), Told::Gone) {
                        return News::End(End::Gone);
                    }
                }
                () = &mut late => return News::Silence,
            }
            if !self.is_admitted() {
                return News::End(End::Revoked);
            }
        }
    }

    fn is_admitted(&self) -> bool {
        self.caller.still_sees(&self.directory.tokens(), &self.zone, &self.service)
    }

    /// Answers a long poll.
    pub(super) async fn poll(mut self, wait: Duration) -> Result<Option<(Epoch, Response)>, Problem> {
        let late = pin!(sleep(wait.min(WAIT_LIMIT)));
        match self.news(late).await {
            News::Change(shared) => {
                let response = ([(header::CONTENT_TYPE, "application/json")], shared.document.clone());
                Ok(Some((shared.epoch, response.into_response())))
            }
            News::Silence => Ok(None),
            News::End(end) => Err(end.problem()),
        }
    }

    /// The stream.
    pub(super) fn stream(self) -> Response {
        let ready = Ready::default();
        let pieces = Box::pin(self.pieces(ready.clone()));
        let mut response = Body::new(Events { pieces: Some(pieces), ready }).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // nginx holds back what it passes on otherwise.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }

    /// Hands out the pieces of the stream; what it returns is the last one. All that a change costs a watcher is to be woken
    /// and to send: no timer is set anew for it, and nothing is allocated.
    async fn pieces(mut self, ready: Ready) -> Bytes {
        ready.hand_out(Bytes::from_static(BEGINNING)).await;
        let mut comment = pin!(sleep(KEEP_ALIVE));
        loop {
            let piece = match self.news(comment.as_mut()).await {
                News::Change(shared) => shared.event.clone(),
                News::Silence if self.is_admitted() => {
                    comment.as_mut().reset(Instant::now() + KEEP_ALIVE);
                    Bytes::from_static(b":\n\n")
                }
                News::Silence => return end(End::Revoked),
                News::End(reason) => return end(reason),
            };
            ready.hand_out(piece).await;
        }
    }
}

/// The last event.
fn end(end: End) -> Bytes {
    Bytes::from(format!("event: end\ndata: {}\n\n", end.text()))
}

/// The epoch that a client of a stream knows, if it says so in a way that can be.
pub(super) fn last_event(headers: &HeaderMap) -> Option<Epoch> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok().map(Epoch)
}

/// A place for one piece, between who makes pieces and the body that they are of.
#[derive(Clone, Default)]
struct Ready(Arc<Mutex<Option<Bytes>>>);

impl Ready {
    /// Leaves a piece, and goes on when the next one is asked for.
    async fn hand_out(&self, piece: Bytes) {
        *self.0.lock().expect("no panic holds it") = Some(piece);
        let mut is_asked = false;
        poll_fn(|_| if std::mem::replace(&mut is_asked, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn take(&self) -> Option<Bytes> {
        self.0.lock().expect("no panic holds it").take()
    }
}

/// A body whose pieces are waited for.
struct Events {
    /// Makes them; none once the last one is made.
    pieces: Option<Pin<Box<dyn Future<Output = Bytes> + Send>>>,
    ready: Ready,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(None) };
        let piece = match pieces.as_mut().poll(context) {
            Poll::Ready(last) => {
                self.pieces = None;
                Some(last)
            }
            Poll::Pending => self.ready.take(),
        };
        piece.map_or(Poll::Pending, |octets| Poll::Ready(Some(Ok(Frame::data(octets)))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none()
    }
}

/// How long to wait: a duration, or seconds.
pub(super) fn read_wait(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds
        .or_else(|| humantime::parse_duration(text).ok())
        .ok_or_else(|| Problem::parameter("wait", format!("`wait` is no duration, \"{text}\": write one such as 30s")))
}
