//! What was measured, as a table in Markdown and as lines of JSON.

use crate::alone;
use crate::cases::{Case, Kind};
use crate::compare::Run;
use crate::servers::Program;
use crate::support::median;
use crate::zones::Size;

/// Microseconds of server CPU an answer.
fn cost(run: &Run) -> f64 {
    // What came too late was answered too.
    run.server_cpu.as_secs_f64() * 1e6 / (run.outcome.answered + run.outcome.stray).max(1) as f64
}

fn share(of: std::time::Duration, run: &Run) -> f64 {
    100.0 * of.as_secs_f64() / run.wall.as_secs_f64()
}

fn middle(runs: &[&Run], value: impl Fn(&Run) -> f64) -> f64 {
    median(&mut runs.iter().map(|run| value(run)).collect::<Vec<f64>>())
}

fn grouped(number: f64) -> String {
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
        cells.push(format!("{:.0}", middle(&runs, |run| share(run.server_cpu, run))));
        cells.push(format!("{:.0}", middle(&runs, |run| share(run.outcome.cpu - run.outcome.waited, run))));
        cells.push(format!("{:.0}", middle(&runs, |run| 100.0 * run.others)));
        cells.push(remarks(&runs));
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
fn remarks(runs: &[&Run]) -> String {
    let sum = |value: fn(&Run) -> u64| runs.iter().map(|run| value(run)).sum::<u64>();
    let sent = sum(|run| run.outcome.sent).max(1) as f64;
    let mut remarks = Vec::new();
    let mut remark = |what: &str, count: u64| {
        if count > 0 {
            remarks.push(format!("{:.2} % {what}", 100.0 * count as f64 / sent));
        }
    };
    remark("TC", sum(|run| run.outcome.truncated));
    remark("lost", sum(|run| run.outcome.lost));
    remark("retransmitted", sum(|run| run.outcome.retransmitted));
    remark("errors", sum(|run| run.outcome.errors()));
    remark("mismatched", sum(|run| run.outcome.mismatched));
    remarks.join(", ")
}

/// One run, for programs.
pub(crate) fn as_json(case: &Case, size: Size, run: &Run) -> serde_json::Value {
    let mut record = alone::as_json(&run.outcome);
    record["case"] = case.name.into();
    record["server"] = run.program.name().into();
    record["round"] = run.round.into();
    record["services"] = size.services.into();
    record["each"] = size.each.into();
    record["server_cpu"] = run.server_cpu.as_secs_f64().into();
    record["server_cpu_us"] = cost(run).into();
    record["server_share"] = (share(run.server_cpu, run) / 100.0).into();
    record["others_share"] = run.others.into();
    record["rss_kib"] = run.rss_kib.into();
    record
}
