//! Zones on a store that does not answer.

use crate::base::Wall;
use crate::config;
use crate::membership::{Key, Stamp};
use crate::server::clock::SystemClock;
use crate::server::reading;
use crate::store::{Appended, Pending, StoreError, StoredZone, Write};
use crate::zone::Commit;

use super::*;

/// A store whose disk hangs, or which can't tell what became of a write.
pub(in crate::server) struct Silent {
    pub(in crate::server) unknown: bool,
}

fn never<T: Send + 'static>() -> Pending<T> {
    Box::pin(std::future::pending())
}

impl Store for Silent {
    fn start(&self, _: &Name, _: Wall) -> Result<Option<StoredZone>, StoreError> {
        Ok(None)
    }

    fn begin(&self, _: &Name, _: Wall) -> Pending<Result<(), String>> {
        never()
    }

    fn append(&self, _: Write) -> Pending<Appended> {
        if self.unknown { Box::pin(async { Appended::Unknown("sync failed".to_owned()) }) } else { never() }
    }

    fn epoch(&self, _: &Name) -> Pending<Result<Option<Epoch>, String>> {
        if self.unknown { Box::pin(async { Err("read failed".to_owned()) }) } else { never() }
    }

    fn checkpoint(&self, _: &Name, _: Vec<(Key, Stamp)>) -> Pending<Result<(), String>> {
        never()
    }

    fn commits(&self, _: &Name) -> Pending<Result<Vec<Commit>, String>> {
        never()
    }
}

pub(in crate::server) fn fleet(store: Arc<dyn Store>) -> Fleet {
    Fleet {
        store,
        clock: Arc::new(SystemClock::start()),
        counters: Arc::default(),
        on_commit: None,
        listening: Vec::new(),
        open: watch::channel(true).0,
        running: BTreeMap::new(),
    }
}

/// Nobody listens where its name server is.
fn write_zone(folder: &std::path::Path, origin: &str, more: &str) {
    let zone = format!("origin = \"{origin}\"\nstatic = \"z.zone\"\n{more}");
    std::fs::write(folder.join("z.toml"), zone).unwrap();
    std::fs::write(folder.join("z.zone"), "@ 60 NS ns1\nns1 60 A 127.53.0.78\n").unwrap();
}

/// A zone whose file has more text.
pub(in crate::server) fn ready(origin: &str, more: &str) -> Ready {
    let folder = tempfile::tempdir().unwrap();
    write_zone(folder.path(), origin, more);
    let file = folder.path().join("z.toml");
    let zone = config::load_zone(&file, &Keys::default()).unwrap();
    reading::read_zone(zone).unwrap_or_else(|problems| panic!("{problems}"))
}

#[tokio::test(start_paused = true)]
async fn a_first_commit_that_the_store_does_not_answer_is_an_error_after_a_while() {
    for (unknown, says) in [(false, "no answer for 10 s;"), (true, "no answer for 10 s (sync failed);")] {
        let mut fleet = fleet(Arc::new(Silent { unknown }));
        let start = tokio::time::Instant::now();
        let error = fleet.add(ready("z.", ""), None).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(start.elapsed().as_secs(), 10);
        assert!(fleet.running.is_empty());
    }
}
