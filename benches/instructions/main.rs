//! Instructions an operation, held against a record: the same on each run, whatever else the machine does.
//!
//! - `cargo bench --bench instructions`: counts, and fails where an operation takes more than 3 % above its record
//!   (`benches/instructions/recorded.toml`), or has none. Needs `valgrind`.
//! - `cargo bench --bench instructions -- --record`: counts, and writes the record: for a change that is meant to cost, and for
//!   one that saves, so that what it saved is kept.
//!
//! The operations are those of `cargo bench --bench core`, over fixed inputs. Each runs inside of a function of its own
//! ([`COUNTERS`]), and what callgrind says of calls to that is the figure, so that nothing of the preparation is in it. Hashes are seeded by the process, so where a name lands differs; over
//! hundreds of names this comes to little, and the record is of the median of [`RUNS`] runs.
//!
//! What counts depend on: the compiler, whose version the record tells; the architecture; and, in `renewal-signed` alone, which
//! of its SHA-256 ring takes for the processor that valgrind shows. The C library is told to take the same functions on
//! any processor of x86-64 (`GLIBC_TUNABLES`).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

#[path = "../support/messages.rs"]
#[allow(dead_code, reason = "nobody withdraws here")]
mod messages;
#[path = "../support/operations.rs"]
mod operations;
mod record;
#[path = "../support/scene.rs"]
#[allow(dead_code, reason = "this bench names no steps")]
mod scene;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use operations::World;
use record::{Counts, Record};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/recorded.toml");
/// Enough for a median that one unlucky seed does not move.
const RUNS: usize = 3;
/// Operations counted in a run: some of each name.
const TIMES: usize = 2000;
/// Those that take as long as hundreds of others.
const LONG: [(&str, usize); 2] = [("compile-50", 60), ("commit", 60)];

fn main() -> ExitCode {
    let given = |option: &str| std::env::args().any(|argument| argument == option);
    if given("--count") {
        count();
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<Counts> = (0..RUNS).map(|run| run_counted(&folder.path().join(run.to_string()))).collect();
    let counted = Record { compiler: compiler(), counts: medians(&runs) };
    if given("--record") {
        std::fs::write(RECORDED, counted.to_toml()).unwrap();
        println!("recorded {} operations in {RECORDED}", counted.counts.len());
        return ExitCode::SUCCESS;
    }
    let recorded = Record::parse(&std::fs::read_to_string(RECORDED).unwrap_or_default()).unwrap();
    let comparison = record::compare(&recorded, &counted);
    println!("{}", comparison.text);
    for (name, count) in runs.iter().flatten() {
        let median = counted.counts[name];
        if count.abs_diff(median) * 100 > median {
            println!("{name}: a run counted {count}, more than 1 % from the median");
        }
    }
    if comparison.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Carries out each operation; tells what each stretch of [`counted`] was.
fn count() {
    let world = World::new(100, 20);
    let operations: Vec<_> = [world.queries(), world.others()].into_iter().flatten().collect();
    assert!(operations.len() <= COUNTERS.len(), "a counter for each operation");
    for (mut operation, (counter, counted)) in operations.into_iter().zip(COUNTERS) {
        let long = LONG.iter().find(|(name, _)| *name == operation.name);
        let times = long.map_or(TIMES, |(_, times)| *times);
        // What is allocated or compiled once is not what an operation takes.
        operation.run(times.min(200), &mut |part| part());
        operation.run(times, &mut |part| counted(part));
        println!("counted {} {times} {counter}", operation.name);
    }
}

/// Functions that callgrind tells apart.
macro_rules! counters {
    ($($name:ident)*) => {
        $(
            #[inline(never)]
            fn $name(part: &mut dyn FnMut()) {
                part();
                // Something of its own behind the call: else this is a jump, and all of them are one function.
                std::hint::black_box(stringify!($name));
            }
        )*
        /// With their names.
        const COUNTERS: &[(&str, fn(&mut dyn FnMut()))] = &[$((stringify!($name), $name)),*];
    };
}

counters! {
    counter_a counter_b counter_c counter_d counter_e counter_f counter_g counter_h counter_i counter_j counter_k counter_l
    counter_m counter_n counter_o counter_p
}

/// Counts in a process under callgrind, which writes into a folder.
fn run_counted(folder: &Path) -> Counts {
    std::fs::create_dir(folder).unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", folder.join("out").display()))
        .arg(std::env::current_exe().unwrap())
        .arg("--count")
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2_Usable,-AVX2,-AVX512F,-AVX512VL,-ERMS,-AVX_Fast_Unaligned_Load")
        .stderr(Stdio::piped())
        .output()
        .expect("valgrind runs: install the package valgrind");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let profile = std::fs::read_to_string(folder.join("out")).unwrap();
    let mut counts = Counts::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let [_, name, times, counter] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let sum = instructions(&profile, counter);
        assert!(sum > 0, "callgrind has counted no call of {counter}");
        counts.insert(name.to_owned(), sum / times.parse::<u64>().unwrap());
    }
    counts
}

/// What calls of a function took, with all that it called: in callgrind's format a line `cfn=` tells who is called, a line
/// `calls=` follows, and behind that one whose last number is the cost.
fn instructions(profile: &str, function: &str) -> u64 {
    let lines: Vec<&str> = profile.lines().collect();
    let calls = lines.windows(3).filter(|lines| {
        lines[0].strip_prefix("cfn=").is_some_and(|callee| callee.ends_with(function)) && lines[1].starts_with("calls=")
    });
    calls.map(|lines| lines[2].rsplit(' ').next().and_then(|cost| cost.parse::<u64>().ok()).expect("a cost")).sum()
}

fn medians(runs: &[Counts]) -> Counts {
    let mut all: BTreeMap<&String, Vec<u64>> = BTreeMap::new();
    for (name, count) in runs.iter().flatten() {
        all.entry(name).or_default().push(*count);
    }
    let median = |mut counts: Vec<u64>| {
        counts.sort_unstable();
        counts[counts.len() / 2]
    };
    all.into_iter().map(|(name, counts)| (name.clone(), median(counts))).collect()
}

/// The compiler that most likely made this.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!("{version}, {}", std::env::consts::ARCH)
}
