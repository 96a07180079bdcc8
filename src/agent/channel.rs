//! The ways to register: what the agent wants of a server, whichever of them it takes.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::machine::{Order, Reply};
use super::registration::Registration;

/// Why an order has no reply that counts. The machine tries the next server in both cases; whoever reads the log knows
/// where to look.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing came that counts: whether the order was carried out isn't known.
    #[error("{0}")]
    Silent(String),
    /// It was not carried out, for this reason.
    #[error("{0}")]
    Refused(String),
}

/// A way to register with some servers.
#[async_trait]
pub trait Channel: Send + Sync {
    /// How many servers there are.
    fn servers(&self) -> usize;

    /// A server's name, for the log.
    fn name(&self, server: usize) -> String;

    /// The address and port of a server, for the route to it.
    async fn place(&self, server: usize) -> std::io::Result<std::net::SocketAddr>;

    /// Asks a server to carry out an order, for a part of the lease.
    async fn carry_out(&self, server: usize, order: Order, registration: &Registration) -> Result<Reply, Failure>;

    /// Returns once nobody can be using a member that these servers have drained, or says why that can't be known by the
    /// deadline.
    async fn wait_until_safe(
        &self,
        servers: &[usize],
        registration: &Registration,
        deadline: Instant,
    ) -> Result<(), Failure>;
}

/// How long one server may take for an order: a sixth of the lease, so that another one can still be asked in time; but
/// not less than an answer takes from anywhere on earth, and not longer than somebody would wait.
pub fn patience(registration: &Registration) -> Duration {
    let sixth = Duration::from_secs(registration.lease.into()) / 6;
    sixth.clamp(Duration::from_millis(500), Duration::from_secs(3))
}
