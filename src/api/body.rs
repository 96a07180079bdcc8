//! Bodies: the pieces of those that go out, the frames of those that come in.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::zone::file::Chunks;

/// The next frame of a body; none at its end.
pub(super) async fn next_frame<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

/// A body in pieces, each made when the client has taken the ones before.
pub(super) struct Pieces {
    pieces: Box<dyn Iterator<Item = Bytes> + Send>,
    /// Its octets in all, where they are known.
    octets: Option<u64>,
    /// Its place among the large responses of the moment, held until it is taken.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pieces {
    /// A master file, which is of one snapshot.
    pub(super) fn master_file(chunks: Chunks, permit: OwnedSemaphorePermit) -> Pieces {
        Pieces { pieces: Box::new(chunks.map(Bytes::from)), octets: None, _permit: Some(permit) }
    }

    /// What is there as a whole.
    pub(super) fn whole(octets: Vec<u8>, permit: Option<OwnedSemaphorePermit>) -> Pieces {
        let length = u64::try_from(octets.len()).ok();
        Pieces { pieces: Box::new(std::iter::once(Bytes::from(octets))), octets: length, _permit: permit }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        self.octets.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
