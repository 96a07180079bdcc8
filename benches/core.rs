//! What one operation of the core takes, in this process and without sockets: answers, heartbeats, templates, commits.
//!
//! `cargo bench --bench core -- [FILTER]`, some 40 s for all. `small` is a zone of 58 members, `large` one of 100,000, whose
//! names and answers are in no cache. Answers are made with cookies on and replies counted for their networks. `commit` is
//! one change of a member of 50 without the store; `cargo bench --bench commits` tells its steps, and what a write adds.

#![allow(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

#[path = "support/messages.rs"]
#[allow(dead_code, reason = "nobody withdraws here")]
mod messages;
#[path = "support/operations.rs"]
mod operations;
#[path = "support/scene.rs"]
#[allow(dead_code, reason = "this bench names no steps")]
mod scene;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use operations::{Operation, World};

fn measure(criterion: &mut Criterion, group: &str, operations: Vec<Operation>) {
    let mut group = criterion.benchmark_group(group);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for mut operation in operations {
        group.bench_function(operation.name, |bencher| {
            bencher.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                operation.run(times as usize, &mut |part| {
                    let began = Instant::now();
                    part();
                    taken += began.elapsed();
                });
                taken
            });
        });
    }
    group.finish();
}

fn small(criterion: &mut Criterion) {
    // Of 8 and, so that there is an answer of them, of 50.
    measure(criterion, "small", World::new(1, 1).queries());
}

fn large(criterion: &mut Criterion) {
    let world = World::new(6250, 1000);
    measure(criterion, "large", world.queries());
    measure(criterion, "large", world.others());
}

criterion_group!(core, small, large);
criterion_main!(core);
