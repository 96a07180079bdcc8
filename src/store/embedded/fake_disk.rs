//! A disk in memory that fails as disks do: full, read-only, failing, losing power with writes on their way, and lying
//! about what is durable. What it does is decided by a seed.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::{Database, DatabaseError, StorageBackend};

use super::Medium;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// What is wrong with the disk at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// No room: the file can't grow, and writes fail.
    Full,
    /// Every write fails, reads work.
    ReadOnly,
    /// Writes work, syncs fail; what was written since the last one may be lost, though it can still be read.
    Unsynced,
    /// Syncs say that they have worked and did nothing.
    Lying,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Write(offset, data) => put(image, *offset, data),
            Change::Length(length) => image.resize(*length, 0),
        }
    }
}

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    /// What is there after a power loss, whatever happens.
    durable: Vec<u8>,
    /// What was written since.
    pending: Vec<Change>,
    /// What a reader sees.
    visible: Vec<u8>,
    fault: Fault,
    /// The process that uses it; backends of those before are dead.
    process: u64,
    /// How many more operations there are before the process is stopped in the middle of one.
    remaining: Option<u64>,
}

/// The disk. A clone is the same disk.
#[derive(Clone, Debug)]
pub struct FakeDisk(Arc<Mutex<State>>);

impl FakeDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> FakeDisk {
        FakeDisk(Arc::new(Mutex::new(State {
            rng: fastrand::Rng::with_seed(seed),
            durable: Vec::new(),
            pending: Vec::new(),
            visible: Vec::new(),
            fault: Fault::None,
            process: 0,
            remaining: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What is wrong from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// Stops the process that uses it after so many operations.
    pub fn stop_after(&self, operations: u64) {
        self.state().remaining = Some(operations);
    }

    /// Lets the process that uses it go on, unless it was stopped already.
    pub fn run_on(&self) {
        let mut state = self.state();
        state.remaining = state.remaining.filter(|&remaining| remaining == 0);
    }

    /// Whether the process was stopped in the middle of an operation.
    pub fn is_stopped(&self) -> bool {
        self.state().remaining == Some(0)
    }

    /// The process is killed: what it had written can still be read by the next one.
    pub fn kill(&self) {
        let mut state = self.state();
        state.process += 1;
        state.remaining = None;
    }

    /// The power fails: of what was not synced, any sector may be there or not.
    pub fn lose_power(&self) {
        let mut state = self.state();
        state.process += 1;
        state.remaining = None;
        let pending = std::mem::take(&mut state.pending);
        for change in pending {
            state.survive(change);
        }
        state.visible = state.durable.clone();
    }
}

impl State {
    /// Lets a change survive the power loss, in part.
    fn survive(&mut self, change: Change) {
        match change {
            Change::Length(length) => {
                if self.rng.bool() {
                    self.durable.resize(length, 0);
                }
            }
            Change::Write(offset, data) => {
                // Often all or nothing, as with a disk that was idle or one that had not begun.
                let whole = self.rng.u8(0..4);
                for (number, sector) in data.chunks(SECTOR).enumerate() {
                    let kept = match whole {
                        0 => true,
                        1 => false,
                        _ => self.rng.bool(),
                    };
                    if kept {
                        put(&mut self.durable, offset + number * SECTOR, sector);
                    }
                }
            }
        }
    }

    /// Counts an operation of a process.
    fn operate(&mut self, process: u64) -> io::Result<()> {
        match &mut self.remaining {
            _ if process != self.process => Err(io::Error::other("this process is dead")),
            Some(0) => Err(io::Error::other("this process was stopped")),
            Some(remaining) => {
                *remaining -= 1;
                if *remaining == 0 { Err(io::Error::other("this process was stopped")) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }
}

fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

impl Medium for FakeDisk {
    fn open(&self, _create: bool) -> Result<Database, DatabaseError> {
        let process = {
            let mut state = self.state();
            // As with a real file, what the disk could not keep is not read from the cache (`Medium for PathBuf`).
            let mut visible = state.durable.clone();
            for change in &state.pending {
                change.apply(&mut visible);
            }
            state.visible = visible;
            state.process
        };
        let mut builder = Database::builder();
        builder.set_cache_size(1 << 20);
        builder.create_with_backend(Backend { disk: self.clone(), process })
    }

    fn probe(&self) -> io::Result<()> {
        match self.state().fault {
            Fault::None | Fault::Lying => Ok(()),
            Fault::Full => Err(io::ErrorKind::StorageFull.into()),
            Fault::ReadOnly => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Fault::Unsynced => Err(io::Error::other("the disk failed to sync")),
        }
    }

    fn path(&self) -> &Path {
        Path::new("fake disk")
    }
}

/// The disk as one process has it open.
#[derive(Debug)]
struct Backend {
    disk: FakeDisk,
    process: u64,
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.disk.state().visible.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let offset = size(offset);
        let found = state.visible.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate(self.process)?;
        let length = size(length);
        match state.fault {
            Fault::ReadOnly => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Fault::Full if length > state.visible.len() => return Err(io::ErrorKind::StorageFull.into()),
            _ => {}
        }
        state.visible.resize(length, 0);
        state.pending.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate(self.process)?;
        match state.fault {
            Fault::Lying => return Ok(()),
            Fault::Unsynced => {
                // The system takes the pages for clean from here on, and some of them never reached the disk; or all of
                // them did, and only the word of it was lost.
                let pending = std::mem::take(&mut state.pending);
                let all = state.rng.u8(0..3) == 0;
                for change in pending {
                    if all { change.apply(&mut state.durable) } else { state.survive(change) }
                }
                return Err(io::Error::other("the disk failed to sync"));
            }
            Fault::None | Fault::Full | Fault::ReadOnly => {}
        }
        let pending = std::mem::take(&mut state.pending);
        for change in &pending {
            change.apply(&mut state.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate(self.process)?;
        let fault = state.fault;
        match fault {
            Fault::ReadOnly => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            // Some pages have their place already.
            Fault::Full if state.rng.bool() => return Err(io::ErrorKind::StorageFull.into()),
            _ => {}
        }
        put(&mut state.visible, size(offset), data);
        state.pending.push(Change::Write(size(offset), data.to_vec()));
        Ok(())
    }
}
