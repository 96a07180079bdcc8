//! Which threads go first where there are more than cores.
//!
//! Whoever answers over UDP takes microseconds, and a client waits for it. A commit takes a millisecond and may wait. So the
//! threads that carry out commits, and all else of the runtime, have a higher nice value: the system lets a UDP thread that
//! has something to do interrupt them, and gives them a quarter of a core that it wants all of.

/// How much nicer the threads of the runtime are than those that answer over UDP.
const NICE: i32 = 5;
/// The largest nice value.
const NICEST: i32 = 19;

/// Has this thread, and those that it starts, give way to others. Linux counts priorities by thread (setpriority(2)). Where it
/// isn't allowed, nothing else changes.
pub fn give_way() {
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    let _ = rustix::process::setpriority_process(None, (own + NICE).min(NICEST));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_way_is_nicer_than_the_others() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let after = std::thread::spawn(move || {
            give_way();
            nice()
        });
        assert_eq!((after.join().unwrap(), nice()), ((before + NICE).min(NICEST), before));
    }
}
