//! Tells when files of the configuration change.
//!
//! Folders are watched and not files: editors replace a file by renaming another over it, and Kubernetes swaps the
//! symbolic link `..data` beside it. Each file is followed through all symbolic links on its way, every one of which is
//! watched in its own folder. Since links may point elsewhere after a change, [`Watch::follow`] is called again after each
//! reading, and counts a change itself when what has to be watched has moved: something may have happened in between.
//!
//! A change is told after [`QUIET`] without another one, or [`LONGEST`] after the first: endless writes don't starve it.
//!
//! Errors: where the system refuses (inotify has limits for watches and instances) it says so once, and whoever changes
//! something sends SIGHUP.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// How long nothing may change before a change is told: an editor's writes and renames come within it.
pub const QUIET: Duration = Duration::from_millis(200);
/// How long after the first change it is told at the latest.
pub const LONGEST: Duration = Duration::from_secs(2);
/// Symbolic links on the way to one file; the system itself follows as many.
const LINKS: usize = 40;

/// What is watched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Places {
    /// Files, links on the way to them, and the folders that they are in.
    names: BTreeSet<PathBuf>,
    /// The folders of all of these, with what tells one from another of the same name.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    /// The folder whose `*.toml` are all of interest.
    zones: Option<PathBuf>,
}

/// Watches the files of the configuration.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<()>,
    sender: mpsc::Sender<()>,
    places: Places,
    watcher: Option<RecommendedWatcher>,
    /// It was said that the system refuses.
    told: bool,
}

impl Default for Watch {
    fn default() -> Watch {
        // One change that waits is as good as many.
        let (sender, changes) = mpsc::channel(1);
        Watch { changes, sender, places: Places::default(), watcher: None, told: false }
    }
}

impl Watch {
    /// Watches these files from now on, and any zone file in `zones_dir`.
    pub fn follow(&mut self, files: &[PathBuf], zones_dir: &Path) {
        let places = Places::of(files, zones_dir);
        if places == self.places && self.watcher.is_some() {
            return;
        }
        // The new one first: nothing goes unseen between the two.
        match self.start(&places) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.places = places;
                if std::mem::take(&mut self.told) {
                    tracing::info!("changed files are noticed again");
                }
                let _ = self.sender.try_send(());
            }
            Err(error) => {
                self.watcher = None;
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        "changed files go unnoticed: {error}; send SIGHUP after a change, or raise the limit \
                         (fs.inotify.max_user_instances, fs.inotify.max_user_watches) and send it once"
                    );
                }
            }
        }
    }

    fn start(&self, places: &Places) -> notify::Result<RecommendedWatcher> {
        let (interest, sender) = (places.clone(), self.sender.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| interest.concerns(&event)) {
                let _ = sender.try_send(()); // full: one waits already
            }
        })?;
        for folder in places.folders.keys() {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                // Gone since it was looked at: the next reading tells.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                result => result?,
            }
        }
        Ok(watcher)
    }

    /// Waits for a change, and then for quiet.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            return std::future::pending().await; // not reached: `self` holds a sender
        }
        let latest = Instant::now() + LONGEST;
        while let Ok(Some(())) = timeout_at(latest.min(Instant::now() + QUIET), self.changes.recv()).await {
            if Instant::now() >= latest {
                return;
            }
        }
    }
}

impl Places {
    fn of(files: &[PathBuf], zones_dir: &Path) -> Places {
        let mut places = Places::default();
        for file in files {
            places.trace(file);
        }
        places.zones = places.trace(zones_dir);
        let folders = places.names.iter().filter_map(|name| name.parent().map(Path::to_owned));
        let folders: BTreeSet<PathBuf> = folders.chain(places.zones.clone()).collect();
        for folder in folders {
            if let Some(metadata) = std::fs::metadata(&folder).ok().filter(std::fs::Metadata::is_dir) {
                places.folders.insert(folder, (metadata.dev(), metadata.ino()));
            }
        }
        places
    }

    /// Notes a file, every symbolic link on the way to it, and its folder. Returns where it really is.
    fn trace(&mut self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        let mut rest: VecDeque<OsString> = path.components().map(|part| part.as_os_str().to_owned()).collect();
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::ParentDir) => drop(at.pop()),
                Some(Component::RootDir) => at = PathBuf::from("/"),
                Some(Component::Normal(name)) => {
                    at.push(name);
                    if let Ok(target) = std::fs::read_link(&at)
                        && links < LINKS
                    {
                        links += 1;
                        self.names.insert(at.clone());
                        at.pop();
                        for part in target.components().rev() {
                            rest.push_front(part.as_os_str().to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(folder) = at.parent().filter(|folder| folder.parent().is_some()) {
            self.names.insert(folder.to_owned());
        }
        self.names.insert(at.clone());
        Some(at)
    }

    /// Whether an event is about one of these places. That a file was read is none: we read them all.
    fn concerns(&self, event: &Event) -> bool {
        let read = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            EventKind::Access(_) => true,
            _ => false,
        };
        let zone_file = |path: &Path| {
            path.parent() == self.zones.as_deref()
                && path.extension().is_some_and(|extension| extension == "toml")
                && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
        };
        event.need_rescan() || (!read && event.paths.iter().any(|path| self.names.contains(path) || zone_file(path)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A folder with one zone file, as the system names it.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        fs::create_dir(path.join("zones")).unwrap();
        fs::write(path.join("zones/a.toml"), "1").unwrap();
        (folder, path)
    }

    /// A watch that has told of its own beginning.
    async fn watch(path: &Path, file: &str) -> Watch {
        let mut watch = Watch::default();
        watch.follow(&[path.join(file)], &path.join("zones"));
        while tokio::time::timeout(QUIET * 2, watch.changed()).await.is_ok() {}
        watch
    }

    async fn tells(watch: &mut Watch) -> bool {
        tokio::time::timeout(PATIENCE, watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_written_in_place_or_replaced_or_added_or_removed_is_told() {
        let (_folder, path) = folder();
        let mut watch = watch(&path, "zones/a.toml").await;
        fs::write(path.join("zones/a.toml"), "2").unwrap();
        assert!(tells(&mut watch).await);
        fs::write(path.join("zones/.a.toml.new"), "3").unwrap();
        fs::rename(path.join("zones/.a.toml.new"), path.join("zones/a.toml")).unwrap();
        assert!(tells(&mut watch).await);
        fs::write(path.join("zones/b.toml"), "new").unwrap();
        assert!(tells(&mut watch).await);
        fs::remove_file(path.join("zones/b.toml")).unwrap();
        assert!(tells(&mut watch).await);
    }

    #[tokio::test]
    async fn a_link_that_is_swapped_anywhere_on_the_way_is_told() {
        let (_folder, path) = folder();
        for version in ["..1", "..2"] {
            fs::create_dir(path.join(version)).unwrap();
            fs::write(path.join(version).join("s.zone"), version).unwrap();
        }
        symlink("..1", path.join("..data")).unwrap();
        symlink("../..data/s.zone", path.join("zones/s.zone")).unwrap();
        let mut watch = watch(&path, "zones/s.zone").await;
        symlink("..2", path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
        assert!(tells(&mut watch).await);
        // The file is another one now, and is followed there.
        watch.follow(&[path.join("zones/s.zone")], &path.join("zones"));
        while tokio::time::timeout(QUIET * 2, watch.changed()).await.is_ok() {}
        fs::write(path.join("..2/s.zone"), "more").unwrap();
        assert!(tells(&mut watch).await);
    }

    #[test]
    fn reading_a_file_and_files_of_others_are_no_change() {
        let (_folder, path) = folder();
        let places = Places::of(&[path.join("livezone.toml")], &path.join("zones"));
        let event = |kind, file: &str| Event::new(kind).add_path(path.join(file));
        let any = EventKind::Any;
        let write = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        assert!(places.concerns(&event(any, "livezone.toml")) && places.concerns(&event(write, "livezone.toml")));
        assert!(places.concerns(&event(any, "zones/new.toml")) && places.concerns(&event(any, "zones")));
        assert!(!places.concerns(&event(read, "livezone.toml")));
        for other in ["data", "zones/.new.toml", "zones/notes.txt", "other.toml"] {
            assert!(!places.concerns(&event(any, other)), "{other}");
        }
    }

    #[tokio::test]
    async fn endless_changes_are_told_all_the_same() {
        let mut watch = Watch::default();
        let sender = watch.sender.clone();
        let endless = tokio::spawn(async move {
            loop {
                let _ = sender.try_send(());
                tokio::time::sleep(QUIET / 8).await;
            }
        });
        assert!(tells(&mut watch).await);
        endless.abort();
    }
}
