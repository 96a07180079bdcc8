//! Recorded counts, and what new ones are against them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// How far above its record a count may be, in percent: more than seeds of hashes make of it, less than a change worth
/// knowing of.
const TOLERANCE: u64 = 3;
const HEAD: &str = "# Instructions an operation. Written by `cargo bench --bench instructions -- --record`.\n";

/// Instructions by operation.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What was counted, and what compiled it.
#[derive(Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Record {
    pub(crate) compiler: String,
    pub(crate) counts: Counts,
}

/// How counts stand to a record.
pub(crate) struct Comparison {
    pub(crate) is_good: bool,
    pub(crate) text: String,
}

impl Record {
    pub(crate) fn parse(text: &str) -> Result<Record, toml::de::Error> {
        toml::from_str(text)
    }

    pub(crate) fn to_toml(&self) -> String {
        HEAD.to_owned() + &toml::to_string(self).expect("strings and numbers")
    }
}

/// Holds counts against a record: none may be more than [`TOLERANCE`] above, and both have the same operations.
pub(crate) fn compare(recorded: &Record, counted: &Record) -> Comparison {
    let mut text = format!("{:<20} {:>12} {:>12} {:>8}\n", "instructions", "recorded", "counted", "");
    let (mut problems, mut advice) = (Vec::new(), Vec::new());
    for (name, &count) in &counted.counts {
        let Some(&record) = recorded.counts.get(name) else {
            problems.push(format!("{name} has no record: {count} were counted"));
            continue;
        };
        let change = (count as f64 / record as f64 - 1.0) * 100.0;
        let _ = writeln!(text, "{name:<20} {record:>12} {count:>12} {change:>+7.1}%");
        if count * 100 > record * (100 + TOLERANCE) {
            problems.push(format!("{name} takes {change:.1} % more than its record: {count} for {record}"));
        } else if count * 100 < record * (100 - TOLERANCE) {
            advice.push(format!("{name} takes {:.1} % less than its record, which should be lowered", -change));
        }
    }
    let gone = recorded.counts.keys().filter(|name| !counted.counts.contains_key(*name));
    problems.extend(gone.map(|name| format!("{name} is recorded and was not counted")));
    if !problems.is_empty() && recorded.compiler != counted.compiler {
        let (then, now) = (&recorded.compiler, &counted.compiler);
        advice.push(format!("the record is by \"{then}\", this is \"{now}\": that alone may be it"));
    }
    if !problems.is_empty() || !advice.is_empty() {
        advice.push("to change the record on purpose: cargo bench --bench instructions -- --record".to_owned());
    }
    for line in problems.iter().chain(&advice) {
        let _ = write!(text, "\n{line}");
    }
    Comparison { is_good: problems.is_empty(), text }
}
