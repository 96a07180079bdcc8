//! Assembly: publisher, tasks, reload, shutdown.

pub mod clock;
pub mod counters;
mod defence;
pub mod directory;
mod drains;
pub mod figures;
mod first_epoch;
mod fleet;
pub mod follower;
pub mod forward;
pub mod front;
mod http_tls;
mod large_sets;
pub mod load;
mod metrics;
mod name_servers;
pub mod notifier;
pub mod publisher;
pub mod reading;
pub mod reload;
pub mod run;
mod runtime;
#[cfg(test)]
mod simulation;
mod store_health;
mod supervision;
pub mod task;
mod update_rate;
pub mod visible;

pub use reload::Source;
pub use run::{Options, Server, StartError};
pub use runtime::runtime;
