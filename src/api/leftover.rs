//! Bodies that nobody reads to their end: of requests that are refused before their body comes, or for its size.
//!
//! Were the connection closed on them, what still comes would be answered with a reset, and the client might lose the
//! response that says why (RFC 9112 §9.6). So it is read and thrown away while the response goes out.
//!
//! Not of a client that waits to be told to go on (`Expect: 100-continue`, RFC 9110 §10.1.1) and never was: it sends none.
//!
//! Bounds: [`LEFT_OCTETS`] within [`PATIENCE`]; then the connection ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::http::{Request, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::body::next_frame;
use super::orders::BATCH_OCTETS;
use super::serve::PATIENCE;

/// Octets that are thrown away: the largest body that anybody reads, twice.
const LEFT_OCTETS: usize = 2 * BATCH_OCTETS;

/// A body as it comes in. Dropped before its end, its rest is thrown away.
#[derive(Debug)]
pub(super) struct Lingering {
    /// None behind its end.
    body: Option<Incoming>,
    /// Its client waits to be told to go on, which is done when it is read.
    waits: bool,
}

impl Lingering {
    /// The body of a request.
    pub(super) fn of(request: Request<Incoming>) -> Request<Lingering> {
        let waits = request.headers().contains_key(header::EXPECT);
        request.map(|body| Lingering { body: Some(body), waits })
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream() && !self.waits);
        if let Some(body) = rest {
            tokio::spawn(timeout(PATIENCE, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = LEFT_OCTETS;
    while let Some(Ok(frame)) = next_frame(&mut body).await {
        let octets = frame.data_ref().map_or(0, Bytes::len);
        if octets > left {
            return;
        }
        left -= octets;
    }
}
