//! What the machine does meanwhile, from /proc.

use std::time::Duration;

/// How long a core did something since the machine started, for whomever: all but what it was idle or waited for a disk. So
/// what a hypervisor took counts.
pub(crate) fn busy(core: usize) -> Duration {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let name = format!("cpu{core} ");
    let line = text.lines().find(|line| line.starts_with(&name)).expect("a core of this machine");
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    let ticks = line.split_whitespace().skip(1).take(8).map(|ticks| ticks.parse::<u64>().unwrap());
    let busy: u64 = ticks.enumerate().filter(|(field, _)| ![3, 4].contains(field)).map(|(_, ticks)| ticks).sum();
    Duration::from_millis(10 * busy)
}

/// Processor, cores and kernel.
pub(crate) fn describe() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!("{cores} cores, {}, kernel {}", model.unwrap_or("unknown processor"), kernel.trim())
}
