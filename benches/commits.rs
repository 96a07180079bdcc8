//! What registrations cost a zone's publisher, in this process and without sockets.
//!
//! `cargo bench --bench commits -- [SERVICES] [MEMBERS-PER-SERVICE] [ROUNDS]`, by default 2000 services of 50 and 15 rounds.
//! Fills a zone that is kept in a scratch folder, then commits batches of signed registrations and withdrawals, step by
//! step as the server does it: read and verify, execute, stage, write, publish and compile, reply. Each figure is CPU time
//! of the thread that did the step, in microseconds an update, the median of the rounds. What the kernel does of a write
//! on other threads is in none of them. The second table has the members of the touched service as its parameter.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

#[path = "support/messages.rs"]
#[allow(dead_code, reason = "this bench sends no queries")]
mod messages;
#[path = "support/scene.rs"]
#[allow(dead_code, reason = "this bench answers nothing")]
mod scene;

use std::ops::Range;
use std::time::{Duration, Instant};

use messages::lease;
use rustix::time::{ClockId, clock_gettime};
use scene::{STEPS, Scene};

fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (services, each, rounds) = (number(0, 2000), number(1, 50), number(2, 15));
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench { scene: Scene::new(Some(folder.path())) };
    let began = Instant::now();
    for service in 0..services {
        bench.commit((0..each).map(|id| bench.registration(service, id..id + 1, 1)).collect());
    }
    println!("{} members in {services} services: filled in {:.1} s", services * each, began.elapsed().as_secs_f64());

    heading("updates");
    let port = |round: u32| 2 + round as u16;
    bench.measure("1 changes a member", rounds, |bench, round| {
        vec![bench.registration(round * 7 % services, 0..1, port(round))]
    });
    for batch in [16, 256] {
        let label = format!("{batch} register in as many services");
        bench.measure(&label, rounds, |bench, round| {
            (0..batch)
                .map(|at| bench.registration((round * 7 + at * 5) % services, 9000 + round..9001 + round, 1))
                .collect()
        });
        let label = format!("{batch} withdraw from as many services");
        bench.measure(&label, rounds, |bench, round| {
            (0..batch).map(|at| bench.withdrawal((round * 7 + at * 5) % services, 9000 + round)).collect()
        });
    }
    bench.measure("256 register in one service", rounds, |bench, round| {
        (0..256).map(|at| bench.registration(round * 7 % services, 5000 + at..5001 + at, 1)).collect()
    });

    heading("members of the touched service, one update");
    for (at, size) in [1, 10, 50, 200, 800].into_iter().enumerate() {
        let service = 8000 + at as u32;
        for start in (0..size).step_by(100) {
            bench.commit(vec![bench.registration(service, start..size.min(start + 100), 1)]);
        }
        bench.measure(&size.to_string(), rounds, |bench, round| vec![bench.registration(service, 0..1, port(round))]);
    }
}

fn heading(what: &str) {
    print!("\n| {what:<36} |");
    STEPS.iter().chain(&["sum"]).for_each(|step| print!(" {step:>8} |"));
    println!("\n| {} |{}", "-".repeat(36), " -------: |".repeat(STEPS.len() + 1));
}

/// A zone that is kept in a folder, and told by steps.
struct Bench {
    scene: Scene,
}

impl Bench {
    fn registration(&self, service: u32, members: Range<u32>, port: u16) -> Vec<u8> {
        self.scene.sign(lease(messages::registration(service, members, port)), self.scene.now.wall)
    }

    fn withdrawal(&self, service: u32, member: u32) -> Vec<u8> {
        self.scene.sign(lease(messages::withdrawal(service, member)), self.scene.now.wall)
    }

    /// Commits one batch; what each step took.
    fn commit(&mut self, messages: Vec<Vec<u8>>) -> [Duration; STEPS.len()] {
        let mut times = [Duration::ZERO; STEPS.len()];
        let mut clock = cpu();
        self.scene.commit(messages, &mut |at| times[at] = std::mem::replace(&mut clock, cpu()).abs_diff(clock));
        times
    }

    fn measure(&mut self, label: &str, rounds: u32, batch: impl Fn(&Bench, u32) -> Vec<Vec<u8>>) {
        let mut all: Vec<[f64; STEPS.len()]> = Vec::new();
        for round in 0..rounds {
            let messages = batch(self, round);
            let updates = messages.len() as f64;
            all.push(self.commit(messages).map(|time| time.as_secs_f64() * 1e6 / updates));
        }
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        print!("| {label:<36} |");
        (0..STEPS.len()).for_each(|at| print!(" {:8.2} |", median(all.iter().map(|times| times[at]).collect())));
        println!(" {:8.2} |", median(all.iter().map(|times| times.iter().sum()).collect()));
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
}
