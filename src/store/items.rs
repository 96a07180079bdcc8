//! The items of a zone on their way from the store: whoever takes them over is at work while the rest is still read.

use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};

use crate::membership::{Item, Stamp};

use super::StoreError;

/// An item, with its last recorded signature and the number of the run that it last renewed in.
pub type StoredItem = (Item, Stamp, u32);

/// Items in the order of their keys, by the part.
#[derive(Debug, Default)]
pub struct StoredItems {
    /// Those that are there.
    ready: Vec<StoredItem>,
    /// Where others come from; none once all are there.
    more: Option<Receiver<Result<Part, StoreError>>>,
}

/// What comes from whoever reads.
#[derive(Debug)]
pub enum Part {
    /// Some items.
    Items(Vec<StoredItem>),
    /// There are no more: without it they were cut off.
    End,
}

/// Takes the parts; fails if nobody wants them any more.
pub type Parts = SyncSender<Result<Part, StoreError>>;

/// Items of a part: far more than handing one over costs, and below a megabyte of usual ones.
pub const PART: usize = 4096;
/// Parts that wait to be taken over: so that neither side waits for the other's every pause.
pub const WAITING: usize = 4;

impl StoredItems {
    /// Items that are sent part by part.
    pub fn arriving() -> (Parts, StoredItems) {
        let (sender, receiver) = sync_channel(WAITING);
        (sender, StoredItems { ready: Vec::new(), more: Some(receiver) })
    }

    /// Waits until all of them are there.
    pub fn gather(&mut self) -> Result<(), StoreError> {
        let mut ready = std::mem::take(&mut self.ready);
        for part in &mut *self {
            ready.extend(part?);
        }
        self.ready = ready;
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
        match self.more.as_ref()?.recv() {
            Ok(Ok(Part::Items(items))) => return Some(Ok(items)),
            Ok(Ok(Part::End)) => self.more = None,
            Ok(Err(error)) => {
                self.more = None;
                return Some(Err(error));
            }
            Err(RecvError) => {
                self.more = None;
                let cause = "reading the store ended before all was read".to_owned();
                return Some(Err(StoreError::Io { path: "store".to_owned(), cause }));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_are_cut_off_are_an_error_and_not_all() {
        let (parts, mut items) = StoredItems::arriving();
        parts.send(Ok(Part::Items(Vec::new()))).unwrap();
        drop(parts);
        assert!(items.next().unwrap().is_ok());
        assert!(items.next().unwrap().is_err());
        assert!(items.next().is_none());
        let (parts, mut items) = StoredItems::arriving();
        parts.send(Ok(Part::End)).unwrap();
        assert!(items.next().is_none());
    }
}
