//! Durable truth: the trait and its conformance suite, and the embedded store.
//!
//! A publisher hands over one [`Write`] at a time: what changed in its table and zone, and the commit if anything that is
//! published differs. The store keeps it whole or not at all, and only if the zone's epoch is the one that the writer
//! expects. Writes of all zones that wait at the same moment share one transaction.
//!
//! Outside of commits, a checkpoint notes who has renewed since the start. From that, and from the times of former starts
//! ([`start`]), a restart tells who gets a fresh lease.

#[cfg(test)]
pub mod conformance;
pub mod embedded;
pub mod figures;
pub mod format;
pub mod items;
pub mod start;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::base::{Epoch, Name, Wall};
use crate::membership::{Item, Key, Slots, Stamp, Tombstone};
use crate::zone::{Commit, Lapses, ServiceState, Settings, StaticNode};

pub use embedded::{Embedded, inspect};
pub use figures::Figures;
pub use items::{StoredItem, StoredItems};
pub use start::Starts;

/// What one append writes.
#[derive(Clone, Debug)]
pub struct Write {
    /// The zone.
    pub zone: Name,
    /// The zone's epoch before; `None`: the store must not know the zone yet.
    pub expected: Option<Epoch>,
    /// The commit, if something that is published differs.
    pub commit: Option<Arc<Commit>>,
    /// Items that are new or changed, with the signature that brought them, and keys of those that are gone.
    pub items: Vec<(Key, Option<(Item, Stamp)>)>,
    /// Replay marks to keep, and those to forget.
    pub tombstones: Vec<(Key, Option<Tombstone>)>,
    /// What is known of services; `None`: nothing any more.
    pub services: Vec<(Name, Option<ServiceState>)>,
    /// The slots of services, where they have changed; `None`: it has none any more.
    pub slots: Vec<(Name, Option<Slots>)>,
    /// New settings.
    pub settings: Option<Arc<Settings>>,
    /// Static records that changed, a whole name each.
    pub statics: Vec<StaticNode>,
    /// Of a zone that is a copy: when its primary was known to have it so. A write with a commit or settings and
    /// without this makes a zone our own.
    pub refreshed: Option<Wall>,
    /// Whether everything that was kept of the zone goes, but for its starts; what is written here then is all.
    pub replaces: bool,
}

/// What became of an append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Appended {
    /// It is durable.
    Committed,
    /// The zone's epoch is another than expected; nothing was written.
    Conflict(Option<Epoch>),
    /// Nothing was written, and why.
    Unavailable(String),
    /// It may or may not be durable: read the epoch back before the next one.
    Unknown(String),
}

/// What the store keeps of a zone.
#[derive(Debug)]
pub struct StoredZone {
    /// The epoch of the last commit.
    pub epoch: Epoch,
    /// The settings of the last commit.
    pub settings: Arc<Settings>,
    /// The static records.
    pub statics: Vec<StaticNode>,
    /// The known services.
    pub services: Vec<(Name, ServiceState)>,
    /// The slots of services.
    pub slots: Vec<(Name, Slots)>,
    /// The items, as they were at the start; they may still be read.
    pub items: StoredItems,
    /// Replay marks.
    pub tombstones: Vec<(Key, Tombstone)>,
    /// The starts so far, this one included.
    pub starts: Starts,
    /// Of a zone that is a copy: when its primary was last known to have it so.
    pub refreshed: Option<Wall>,
    /// The newest commits, from the oldest: as many as are worth to be kept in memory.
    pub history: Vec<Arc<Commit>>,
    /// What all commits that are kept say of lapses.
    pub lapses: Lapses,
}

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store {0} is in use by another process; stop that one, or give this one its own data-dir")]
    InUse(String),
    /// The file is damaged or of another format. It was left as it is.
    #[error(
        "the store {path} can't be read: {cause}; nothing was removed from it: restore it from a backup, or move it away to start empty"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What was found.
        cause: String,
    },
    /// The disk refuses.
    #[error("the store {path}: {cause}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system says.
        cause: String,
    },
}

/// A future that a store returns.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Durable truth.
pub trait Store: Send + Sync + 'static {
    /// Starts a run: returns what is kept of the zone (`None`: it is new), with the start at `now` among its starts.
    /// Nothing is written: a start that comes to nothing gives nobody time to renew.
    fn start(&self, zone: &Name, now: Wall) -> Result<Option<StoredZone>, StoreError>;

    /// Notes the start, once messages can come in. May be called again.
    fn begin(&self, zone: &Name, now: Wall) -> Pending<Result<(), String>>;

    /// Appends one write. The store begins with it when it is called, not only when the outcome is waited for: whoever hands
    /// it over does other work meanwhile.
    fn append(&self, write: Write) -> Pending<Appended>;

    /// The epoch of the last commit, to settle [`Appended::Unknown`].
    fn epoch(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>>;

    /// The epoch of the oldest commit that is kept.
    fn oldest(&self, zone: &Name) -> Pending<Result<Option<Epoch>, String>>;

    /// Notes who has renewed in this run. One write; nothing published moves by it.
    fn checkpoint(&self, zone: &Name, renewed: Vec<(Key, Stamp)>) -> Pending<Result<(), String>>;

    /// Notes that the primary of a zone that is a copy has it as it is kept. Does nothing for any other zone.
    fn refreshed(&self, zone: &Name, at: Wall) -> Pending<Result<(), String>>;

    /// The commits kept of a zone after an epoch, or all, from the oldest: so many at most, and no more octets of them than
    /// [`HISTORY_PAGE_OCTETS`](crate::base::limits::HISTORY_PAGE_OCTETS) unless the first alone has more. None: there are
    /// no later ones.
    fn commits(&self, zone: &Name, since: Option<Epoch>, limit: usize) -> Pending<Result<Vec<Commit>, String>>;

    /// What it measures, if it does.
    fn figures(&self) -> Option<&Figures> {
        None
    }

    /// Octets that it takes on its disk, if that can be told. May wait for the disk.
    fn octets(&self) -> Option<u64> {
        None
    }
}
