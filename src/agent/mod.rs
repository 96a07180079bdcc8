//! `livezone agent`: runs beside a service and keeps it registered.
//!
//! ```text
//!   check ---> health ---> machine <--- answers, addresses, signals, time
//!                             |
//!                          actions: drive
//!                             |
//!                   channel: dns (UPDATE), http
//!                             |
//!                       the servers;  settle: when it is safe to stop
//! ```
//!
//! - [`machine`] decides, on times that it is handed; [`health`] counts checks, [`jitter`] spreads. They are pure.
//! - [`registration`] is what is registered, and the octets of its updates.
//! - [`channel`] is what is wanted of a server; [`dns`] and [`http`] are the two ways, and `settle` tells for DNS when nobody
//!   can be using a drained member any more.
//! - [`check`] looks at the service, and does what comes before it joins.
//! - [`drive`] puts sockets, timers and signals around a machine for each service; [`notify`] tells systemd.

pub mod channel;
pub mod check;
pub mod dns;
pub mod drive;
pub mod health;
pub mod http;
pub mod jitter;
pub mod machine;
pub mod notify;
pub mod registration;
mod settle;
