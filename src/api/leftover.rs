//! Bodies that nobody reads to their end: of requests that are refused before their body comes, or for its size.
//!
//! Were the connection closed on them, what still comes would be answered with a reset, and the client might lose the
//! response that says why (RFC 9112 §9.6). So it is read and thrown away while the response goes out.
//!
//! Bounds: [`LEFT_OCTETS`] within [`PATIENCE`]; then the connection ends.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::orders::BATCH_OCTETS;
use super::serve::PATIENCE;

/// Octets that are thrown away: the largest body that anybody reads, twice.
const LEFT_OCTETS: usize = 2 * BATCH_OCTETS;

/// A body as it comes in. Dropped before its end, its rest is thrown away.
#[derive(Debug)]
pub(super) struct Lingering(Option<Incoming>);

impl Lingering {
    pub(super) fn new(body: Incoming) -> Lingering {
        Lingering(Some(body))
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.0 = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) {
            tokio::spawn(timeout(PATIENCE, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = LEFT_OCTETS;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let octets = frame.data_ref().map_or(0, Bytes::len);
        if octets > left {
            return;
        }
        left -= octets;
    }
}
