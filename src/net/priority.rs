//! Which threads go first where there are more than cores.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// The largest nice value.
const NICEST: i32 = 19;

/// A runtime whose threads give way to others.
#[derive(Debug)]
pub struct Nicer(Option<Runtime>);

impl Nicer {
    /// Starts it: threads of this name, one for each core or so many, nicer by so much than the thread that starts them.
    pub fn start(name: &str, workers: Option<usize>, by: i32) -> io::Result<Nicer> {
        let mut builder = Builder::new_multi_thread();
        builder.thread_name(name).on_thread_start(move || give_way(by)).enable_all();
        if let Some(workers) = workers {
            builder.worker_threads(workers);
        }
        Ok(Nicer(Some(builder.build()?)))
    }

    /// Where its tasks are spawned.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().expect("it is taken when it is dropped").handle().clone()
    }
}

impl Drop for Nicer {
    fn drop(&mut self) {
        // Without waiting: whoever drops it may be a task.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes this thread, and those that it starts, nicer by so much. Linux counts priorities by thread (setpriority(2)). Where it
/// isn't allowed, nothing else changes.
pub fn give_way(by: i32) {
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    let _ = rustix::process::setpriority_process(None, (own + by).min(NICEST));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The nice value of this thread.
    pub(in super::super) fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    /// The nice value of a thread that gives way to one with another.
    pub(in super::super) fn nicer(than: i32, by: i32) -> i32 {
        (than + by).min(NICEST)
    }

    #[test]
    fn a_thread_that_gives_way_is_nicer_than_the_others() {
        let before = nice();
        let after = std::thread::spawn(|| {
            give_way(5);
            nice()
        });
        assert_eq!((after.join().unwrap(), nice()), (nicer(before, 5), before));
    }
}
