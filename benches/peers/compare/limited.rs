//! What a limit of answers makes of a flood, and that it leaves clients alone that carry cookies.

use crate::cases::{Case, Kind};
use crate::load::Outcome;
use crate::machine;
use crate::servers::Server;
use crate::table::{self, at_work, grouped, middle};
use crate::zones::LIMITED;

use super::{Comparison, Run};

impl Comparison {
    /// A flood without cookies and one with, in turn.
    pub(super) fn measure_limited(&mut self, case: &Case, servers: &[Server]) -> Result<(), String> {
        let [server] = servers else {
            println!("livezone alone is measured here, and was not named.");
            return Ok(());
        };
        println!(
            "livezone alone: the others are left out. All queries are of one network, which has {} answers a second.\n",
            grouped(LIMITED.into())
        );
        let size = self.size(case.zone);
        let mut runs = [false, true].map(|cookies| (cookies, Vec::new()));
        for round in 0..self.rounds {
            for (cookies, of_flood) in &mut runs {
                let run = self.quietest(Kind::Flood { cookies: *cookies }, size, server, round)?;
                let mut record = table::as_json(case, size, &run);
                record["cookies"] = (*cookies).into();
                self.record(&record)?;
                of_flood.push(run);
            }
        }
        println!(
            "| flood | queries/s | whole answers/s | TC answers/s | dropped % | server CPU, µs a query | server % | \
             generator % | others % |\n| --- |{}",
            " ---: |".repeat(8)
        );
        for (cookies, of_flood) in &runs {
            print_row(if *cookies { "valid cookies" } else { "no cookies" }, &of_flood.iter().collect::<Vec<&Run>>());
        }
        let all: Vec<Run> = runs.into_iter().flat_map(|(_, of_flood)| of_flood).collect();
        machine::tell_loud(&all, Run::others);
        Ok(())
    }
}

fn print_row(flood: &str, runs: &[&Run]) {
    let a_second = |count: fn(&Outcome) -> u64| {
        grouped(middle(runs, |run| count(&run.outcome) as f64 / run.outcome.took.as_secs_f64()))
    };
    // What came after it was given up was not dropped.
    let dropped = |outcome: &Outcome| outcome.lost.saturating_sub(outcome.stray) as f64 / outcome.sent.max(1) as f64;
    let each = |run: &Run| run.observation.server_cpu.as_secs_f64() * 1e6 / run.outcome.sent.max(1) as f64;
    let cells = [
        a_second(|outcome| outcome.sent),
        a_second(|outcome| outcome.answered - outcome.truncated),
        a_second(|outcome| outcome.truncated),
        format!("{:.2}", 100.0 * middle(runs, |run| dropped(&run.outcome))),
        format!("{:.2}", middle(runs, each)),
        format!("{:.0}", middle(runs, |run| table::share(run.observation.server_cpu, &run.observation))),
        format!("{:.0}", middle(runs, |run| at_work(&run.outcome, &run.observation))),
        format!("{:.0}", 100.0 * middle(runs, |run| run.observation.others)),
    ];
    println!("| {flood} | {} |", cells.join(" | "));
}
