//! Assembly: publisher, tasks, reload, shutdown.

pub mod clock;
pub mod front;
pub mod load;
pub mod publisher;
pub mod run;
pub mod task;

pub use run::{Options, Server, StartError};
