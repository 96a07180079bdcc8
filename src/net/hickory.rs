//! The transports that hickory-server carries: today DNS over TLS (RFC 7858).
//!
//! One `RequestHandler` stands between hickory-server and our [`Handler`]: the octets of a request go in as they came,
//! and what comes back is sent. DoH and DoQ are further listeners of the same [`Server`] with the same handler; nothing
//! outside of this file knows hickory-server.
//!
//! # Equal in content, not in octets
//!
//! hickory-server takes no octets but a `MessageResponse`, which it encodes itself, so our reply is read and encoded
//! once more. Header, question with the client's case, sections, OPT with all its options and order come out the same;
//! only where names are compressed differs (the question is no target in hickory's encoder). A signature over our octets
//! would be wrong over those, so that a signed reply is encoded first and those octets are signed
//! ([`Handler::seal_again`]); the encoder is deterministic, and puts the TSIG record behind the same octets when it
//! sends. A reply that would not fit into 65,535 octets that way loses its additional records; if that isn't enough, it
//! is SERVFAIL. That befalls a set which fits over TCP: hickory's encoder compresses 120 names of a message, and writes
//! the owners of further records in full. So does an answer of a copy's primary that is forged, or unreadable
//! ([`Unfit`]).
//!
//! # What hickory-server decides
//!
//! - A message that it can't read is FORMERR without a question or OPT, even one that claims to be a response: it says
//!   so before it looks. A readable response gets no reply, and neither does what is shorter than a header.
//! - The messages of a connection are handled in order: a query behind an update waits for its commit.
//! - The idle timeout (`tcp-idle`) bounds the handshake and the time to the next whole message. There is no limit on
//!   connections and none on a client that takes no answers beyond the 32 that hickory keeps for it; `tcp-connections`
//!   does not count these connections. Whoever offers TLS to strangers should limit them in front of the server.
//! - A request that is dropped (the rate of updates, a full queue) is SERVFAIL here, where our TCP closes.
//! - At shutdown connections end at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Message, Metadata, ResponseCode};
use hickory_server::proto::rr::Record;
use hickory_server::proto::serialize::binary::{BinDecoder, BinEncoder};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder, Queries};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::dns::reply::Transport;

use super::{Completion, Handled, Handler};

/// Replies up to this length are not measured before they are sent: fewer than 90 records fit, and each grows by two
/// names of 255 octets at most.
const SURELY_FITS: usize = 1024;
/// Octets of a header.
const HEADER: usize = 12;

/// hickory-server's transports on these listeners.
pub struct Server(hickory_server::Server<Adapter>);

impl Server {
    /// A server without listeners.
    pub fn new(handler: Arc<dyn Handler>) -> Server {
        Server(hickory_server::Server::new(Adapter { handler, told: Default::default() }))
    }

    /// Serves DNS over TLS on a listener.
    pub fn serve_tls(
        &mut self,
        listener: TcpListener,
        idle: Duration,
        certified: &CertifiedKey,
    ) -> std::io::Result<()> {
        self.0.register_tls_listener(listener, idle, Arc::new(SingleCertAndKey::from(certified.clone())))
    }

    /// Runs until `stop` turns.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let _ = stop.changed().await;
        if let Err(error) = self.0.shutdown_gracefully().await {
            tracing::debug!(%error, "ending the TLS listeners");
        }
    }
}

/// hickory-server's handler, over ours.
struct Adapter {
    handler: Arc<dyn Handler>,
    /// Whether the log has told of a reply that could not be sent, by the number of its cause.
    told: [AtomicBool; 3],
}

/// Why a reply can't be sent. The client gets SERVFAIL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum Unfit {
    /// hickory-server's form of it exceeds 65,535 octets.
    #[error("a reply is too large for TLS")]
    TooLarge,
    /// The signature that it came with is wrong, or its key has gone meanwhile: only an answer of a copy's primary.
    #[error("the signature of a reply is not right, so that it can't be signed anew for TLS")]
    Unsigned,
    /// It is no DNS message to hickory: only an answer of a copy's primary.
    #[error("a reply can't be read")]
    Unreadable,
}

/// What becomes of a request.
enum Outcome {
    Reply(Vec<u8>),
    Silence,
    Dropped,
}

#[async_trait::async_trait]
impl RequestHandler for Adapter {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let failed = || MessageResponseBuilder::from_message_request(request);
        let since = Instant::now();
        let outcome = self.handle(request.as_slice(), request.src()).await;
        let is_reply = matches!(outcome, Outcome::Reply(_));
        let sent = match outcome {
            Outcome::Silence => return info(request.metadata),
            Outcome::Dropped => {
                handle.send_response(failed().error_msg(&request.metadata, ResponseCode::ServFail)).await
            }
            Outcome::Reply(octets) => match self.read(request.as_slice(), &octets) {
                Ok(reply) => handle.send_response(reply.response()).await,
                Err(cause) => {
                    self.tell(cause, request.src());
                    handle.send_response(failed().error_msg(&request.metadata, ResponseCode::ServFail)).await
                }
            },
        };
        if is_reply {
            self.handler.answered(request.as_slice(), Transport::Tls, since.elapsed());
        }
        sent.unwrap_or_else(|error| {
            tracing::debug!(%error, peer = %request.src(), "sending over TLS");
            info(request.metadata)
        })
    }
}

impl Adapter {
    async fn handle(&self, packet: &[u8], peer: SocketAddr) -> Outcome {
        let mut out = Vec::new();
        let mut waiting = None;
        let handled = {
            let mut complete = || -> Completion {
                let (sender, receiver) = oneshot::channel();
                waiting = Some(receiver);
                Box::new(move |octets| drop(sender.send(octets)))
            };
            self.handler.handle(packet, peer, Transport::Tls, &mut out, &mut complete)
        };
        match (handled, waiting) {
            (Handled::Answered, _) => Outcome::Reply(out),
            (_, None) => Outcome::Silence,
            (_, Some(waiting)) => waiting.await.map_or(Outcome::Dropped, Outcome::Reply),
        }
    }

    /// Any client can have a reply fail again and again: one line for each cause is enough.
    fn tell(&self, cause: Unfit, peer: SocketAddr) {
        if self.told[cause as usize].swap(true, Ordering::Relaxed) {
            tracing::debug!(%peer, "{cause} and was SERVFAIL");
        } else if cause == Unfit::TooLarge {
            tracing::error!(%peer, "{cause} and was SERVFAIL; further ones are not logged");
        } else {
            tracing::warn!(%peer, "{cause} and was SERVFAIL; further ones are not logged");
        }
    }

    /// Our reply as hickory-server takes it, signed over the octets that it will send.
    fn read(&self, request: &[u8], octets: &[u8]) -> Result<Reply, Unfit> {
        let mut message = Message::from_vec(octets).map_err(|_| Unfit::Unreadable)?;
        let mut decoder = BinDecoder::new(octets);
        decoder.read_slice(HEADER).map_err(|_| Unfit::Unreadable)?;
        let questions = Queries::read(&mut decoder, message.queries.len()).map_err(|_| Unfit::Unreadable)?;
        let sealed = message.signature.take().is_some();
        let mut reply = Reply { message, questions };
        if !sealed && octets.len() <= SURELY_FITS {
            return Ok(reply);
        }
        let mut encoded = reply.encode(octets.len());
        if encoded.is_none() {
            reply.message.additionals.clear();
            encoded = reply.encode(octets.len());
        }
        let mut encoded = encoded.ok_or(Unfit::TooLarge)?;
        if sealed {
            if !self.handler.seal_again(request, octets, &mut encoded) {
                return Err(Unfit::Unsigned);
            }
            reply.message.signature = Message::from_vec(&encoded).map_err(|_| Unfit::Unreadable)?.signature;
        }
        Ok(reply)
    }
}

/// A reply that was read again.
struct Reply {
    message: Message,
    questions: Queries,
}

impl Reply {
    fn response(
        &self,
    ) -> MessageResponse<
        '_,
        '_,
        impl Iterator<Item = &Record> + Send,
        impl Iterator<Item = &Record> + Send,
        impl Iterator<Item = &Record> + Send,
        impl Iterator<Item = &Record> + Send,
    > {
        let Message { metadata, answers, authorities, additionals, edns, signature, .. } = &self.message;
        let builder = MessageResponseBuilder::new(&self.questions, edns.as_ref());
        let mut response = builder.build(*metadata, answers, authorities, [], additionals);
        if let Some(signature) = signature {
            response.set_signature(signature.clone());
        }
        response
    }

    /// The octets that will be sent, without a signature; `None` if they are too many. `before` is how many we made,
    /// with their signature: that has to fit behind them again.
    fn encode(&self, before: usize) -> Option<Vec<u8>> {
        let mut octets = Vec::with_capacity(before);
        let mut encoder = BinEncoder::new(&mut octets);
        // The longest TSIG record: two names, the largest MAC, the time.
        encoder.set_max_size(u16::MAX - 700);
        let info = self.response().destructive_emit(&mut encoder).ok()?;
        (info.truncation == self.message.metadata.truncation).then_some(octets)
    }
}

fn info(metadata: Metadata) -> ResponseInfo {
    Header { metadata, counts: HeaderCounts::default() }.into()
}
