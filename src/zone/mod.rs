//! What the world should see: records, contents, delta, history, snapshot; and the file of a zone's static records.

pub mod change;
pub mod contents;
pub mod copy;
pub mod cut;
pub mod delta;
mod derive;
pub mod figures;
pub mod file;
pub mod history;
pub mod lapses;
pub mod layout;
pub mod live;
pub mod map;
mod members;
mod parts;
pub mod records;
pub mod registration;
mod restore;
pub mod room;
pub mod rrset;
#[cfg(test)]
pub(crate) mod scenes;
pub mod settings;
pub mod snapshot;
#[cfg(test)]
mod tests;

pub use change::{Cause, CausedChange, Change, Commit, PublishedMember, Standing};
pub use contents::Contents;
pub use delta::Delta;
pub use history::{Difference, History, Step};
pub use lapses::{Lapses, Returns};
pub use layout::Layout;
pub use live::{Published, ServiceState, Staged, Zone};
pub use restore::Restoring;
pub use room::{Growth, Overfull};
pub use rrset::{Node, Rdata, Record, Rrset, RrsetRef};
pub use settings::{HostName, ServiceSettings, Settings, StaticNode};
pub use snapshot::Snapshot;
