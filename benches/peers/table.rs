//! What was measured, as a table in Markdown and as lines of JSON.

use std::time::Duration;

use crate::alone;
use crate::cases::{Case, Kind};
use crate::compare::Run;
use crate::load::Outcome;
use crate::load::message::cookie;
use crate::machine::Observation;
use crate::servers::Program;
use crate::support::median;
use crate::zones::Size;

/// Microseconds of server CPU an answer.
fn cost(run: &Run) -> f64 {
    each(run.observation.server_cpu, &run.outcome)
}

/// Microseconds of CPU time an answer.
pub(crate) fn each(cpu: Duration, outcome: &Outcome) -> f64 {
    // What came too late was answered too.
    cpu.as_secs_f64() * 1e6 / (outcome.answered + outcome.stray).max(1) as f64
}

/// Percent of the time that a load took.
pub(crate) fn share(of: Duration, observation: &Observation) -> f64 {
    100.0 * of.as_secs_f64() / observation.wall.as_secs_f64()
}

/// Percent of its core that the generator was at work.
pub(crate) fn at_work(outcome: &Outcome, observation: &Observation) -> f64 {
    share(outcome.cpu - outcome.waited, observation)
}

pub(crate) fn middle<R>(runs: &[&R], value: impl Fn(&R) -> f64) -> f64 {
    median(&mut runs.iter().map(|run| value(run)).collect::<Vec<f64>>())
}

/// A number as people read it.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A row a server.
pub(crate) fn print(kind: Kind, runs: &[Run]) {
    let unit = if kind.is_update() { "acknowledged" } else { "answers" };
    let of = |program: Program| runs.iter().filter(|run| run.program == program).collect::<Vec<&Run>>();
    let limit = Some(of(Program::Limit)).filter(|runs| !runs.is_empty()).map(|runs| middle(&runs, cost));
    let mut heading = vec![format!("{unit}/s"), "server CPU, µs each".to_owned()];
    if limit.is_some() {
        heading.push("× limit".to_owned());
    }
    if kind.is_single() {
        heading.extend(["p50, µs", "p99, µs"].map(str::to_owned));
    }
    heading.extend(["octets", "records", "server %", "generator %", "others %", "remarks"].map(str::to_owned));
    println!("| server | {} |", heading.join(" | "));
    println!("| --- |{}", " ---: |".repeat(heading.len() - 1) + " --- |");
    for program in Program::ALL {
        let runs = of(program);
        let Some(first) = runs.first() else { continue };
        let each = middle(&runs, cost);
        let mut cells = vec![grouped(middle(&runs, |run| run.outcome.rate())), format!("{each:.2}")];
        cells.extend(limit.map(|limit| format!("{:.2}", each / limit)));
        if kind.is_single() {
            cells.extend([0.5, 0.99].map(|at| grouped(middle(&runs, |run| run.outcome.latencies.quantile(at)))));
        }
        cells.push(grouped(middle(&runs, |run| run.outcome.mean_octets())));
        cells.push(records(&first.outcome.sample));
        cells.push(format!("{:.0}", middle(&runs, |run| share(run.observation.server_cpu, &run.observation))));
        cells.push(format!("{:.0}", middle(&runs, |run| at_work(&run.outcome, &run.observation))));
        cells.push(format!("{:.0}", middle(&runs, |run| 100.0 * run.observation.others)));
        let mut remarks = remarks(&runs, |run| &run.outcome);
        if kind == Kind::Cookies && cookie(&first.outcome.sample).is_none() {
            remarks.push("gives no cookies".to_owned());
        }
        cells.push(remarks.join(", "));
        println!("| {} | {} |", program.name(), cells.join(" | "));
    }
}

/// The records of an answer's three sections.
fn records(answer: &[u8]) -> String {
    if answer.len() < 12 {
        return "none".to_owned();
    }
    let count = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
    format!("{} + {} + {}", count(6), count(8), count(10))
}

/// What was not as it should be.
pub(crate) fn remarks<R>(runs: &[&R], outcome: impl Fn(&R) -> &Outcome) -> Vec<String> {
    let sum = |value: fn(&Outcome) -> u64| runs.iter().map(|run| value(outcome(run))).sum::<u64>();
    let sent = sum(|outcome| outcome.sent).max(1) as f64;
    let mut remarks = Vec::new();
    let mut remark = |what: &str, count: u64| {
        if count > 0 {
            remarks.push(format!("{:.2} % {what}", 100.0 * count as f64 / sent));
        }
    };
    remark("TC", sum(|outcome| outcome.truncated));
    remark("lost", sum(|outcome| outcome.lost));
    remark("retransmitted", sum(|outcome| outcome.retransmitted));
    remark("errors", sum(|outcome| outcome.errors()));
    remark("mismatched", sum(|outcome| outcome.mismatched));
    remarks
}

/// One run, for programs.
pub(crate) fn as_json(case: &Case, size: Size, run: &Run) -> serde_json::Value {
    let mut record = alone::as_json(&run.outcome);
    let observation = &run.observation;
    record["case"] = case.name.into();
    record["server"] = run.program.name().into();
    record["round"] = run.round.into();
    record["services"] = size.services.into();
    record["each"] = size.each.into();
    record["server_cpu"] = observation.server_cpu.as_secs_f64().into();
    record["server_cpu_us"] = cost(run).into();
    record["server_share"] = (share(observation.server_cpu, observation) / 100.0).into();
    record["others_share"] = observation.others.into();
    record["rss_kib"] = run.rss_kib.into();
    record
}
