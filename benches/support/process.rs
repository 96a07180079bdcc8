//! A server's processes: started on a core, looked at through /proc, and ended by their ids.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::keep_to;

/// A running program. Ended when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program in a folder, where its messages go to the file `stderr`.
    pub(crate) fn spawn(folder: &Path, program: &str, arguments: &[&str], core: Option<usize>) -> Process {
        let log = std::fs::File::create(folder.join("stderr")).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // A program keeps to the cores of the thread that started it.
        let started = std::thread::scope(|scope| {
            let start = scope.spawn(|| {
                keep_to(core);
                command.spawn()
            });
            start.join().expect("a thread that starts a program")
        });
        Process { child: started.unwrap_or_else(|error| panic!("{program}: {error}")) }
    }

    pub(crate) fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// User and system time of it and its descendants.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = family(self.id());
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if began.elapsed() > Duration::from_secs(5) {
                self.child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // NSD's children end with it; one that doesn't is left to init.
        for id in family.into_iter().skip(1) {
            if stat(id).is_some_and(|fields| fields[1] == "1")
                && let Some(id) = Pid::from_raw(id)
            {
                let _ = kill_process(id, Signal::KILL);
            }
        }
    }
}

/// User and system time of a process and its descendants, in ticks of 10 ms.
pub(crate) fn cpu(id: i32) -> Duration {
    let ticks = |id: i32| {
        let Some(fields) = stat(id) else { return 0 };
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    Duration::from_millis(10 * family(id).into_iter().map(ticks).sum::<u64>())
}

/// The fields of /proc/PID/stat behind the name: state, parent, …
fn stat(id: i32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(text.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect())
}

/// A process and its descendants.
fn family(id: i32) -> Vec<i32> {
    let others = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parents: Vec<(i32, i32)> = others.filter_map(|id| Some((id, stat(id)?[1].parse().ok()?))).collect();
    let mut family = vec![id];
    let mut at = 0;
    while at < family.len() {
        let parent = family[at];
        family.extend(parents.iter().filter(|(_, other)| *other == parent).map(|(child, _)| *child));
        at += 1;
    }
    family
}
