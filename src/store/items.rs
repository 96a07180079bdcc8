//! The items of a zone on their way from the store: whoever takes them over is at work while the rest is still read.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::membership::{Item, Stamp};

use super::StoreError;

/// An item, with its last recorded signature and the number of the run that it last renewed in.
pub type StoredItem = (Item, Stamp, u32);

/// Items in the order of their keys, by the part.
#[derive(Debug, Default)]
pub struct StoredItems {
    /// Those that are there.
    ready: Vec<StoredItem>,
    /// Where others come from.
    more: Option<Receiver<Result<Vec<StoredItem>, StoreError>>>,
}

/// Takes the parts; fails if nobody wants them any more.
pub type Parts = SyncSender<Result<Vec<StoredItem>, StoreError>>;

/// Items of a part.
pub const PART: usize = 4096;
/// Parts that wait to be taken over.
const WAITING: usize = 4;

impl StoredItems {
    /// Items that are sent part by part, until the sender is dropped.
    pub fn arriving() -> (Parts, StoredItems) {
        let (sender, receiver) = sync_channel(WAITING);
        (sender, StoredItems { ready: Vec::new(), more: Some(receiver) })
    }

    /// Waits until all of them are there.
    pub fn gather(&mut self) -> Result<(), StoreError> {
        for part in self.more.take().into_iter().flatten() {
            self.ready.extend(part?);
        }
        Ok(())
    }

    /// Those that are there and not taken yet.
    pub fn ready(&self) -> &[StoredItem] {
        &self.ready
    }
}

impl From<Vec<StoredItem>> for StoredItems {
    fn from(ready: Vec<StoredItem>) -> StoredItems {
        StoredItems { ready, more: None }
    }
}

/// The parts, each as soon as it is there. After an error there are no more.
impl Iterator for StoredItems {
    type Item = Result<Vec<StoredItem>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.ready.is_empty() {
            return Some(Ok(std::mem::take(&mut self.ready)));
        }
        self.more.as_ref()?.recv().ok()
    }
}
