//! From a file to the configuration as written.
//!
//! Every error of syntax is reported, else every unknown key and every value of a wrong type: what an error points at
//! is taken out and the rest read again. Serde alone would stop at the first.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problems::{Findings, Position, Problem};

/// The largest file that is read: far above any configuration, and small enough to hold on to. A larger one is a
/// problem.
const FILE_OCTETS: u64 = 1 << 20;
/// Errors of form reported for one file; each costs another pass over it. Whoever has that many mends those first.
const FORM_PROBLEMS: usize = 50;

/// Reads a whole text file. The problem says why it can't be.
pub(super) fn read_text(path: &Path) -> Result<String, Problem> {
    let problem = |position, message| Problem { file: path.to_owned(), position, message };
    let mut octets = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_OCTETS + 1).read_to_end(&mut octets))
        .map_err(|error| problem(None, format!("can't be read: {error}")))?;
    if octets.len() as u64 > FILE_OCTETS {
        return Err(problem(None, format!("is larger than {FILE_OCTETS} octets; is it the right file?")));
    }
    String::from_utf8(octets).map_err(|error| {
        let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        problem(Some(Position::of(&valid, valid.len())), "is not UTF-8 from here on; save it as UTF-8".to_owned())
    })
}

/// Reads a document. `None` when its form is so wrong that its values can't be judged; unknown keys alone don't hinder
/// that. What is wrong stands in the findings.
pub(super) fn parse<T: DeserializeOwned>(findings: &mut Findings) -> Option<T> {
    parse_form(findings).and_then(|(written, whole)| whole.then_some(written))
}

/// The same, also without the values that have a wrong type; and whether there are none such.
pub(super) fn parse_form<T: DeserializeOwned>(findings: &mut Findings) -> Option<(T, bool)> {
    let text = findings.text().to_owned();
    let (mut document, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        for error in errors.iter().take(FORM_PROBLEMS) {
            findings.problem(&error.span().unwrap_or(text.len()..text.len()), sentence(error.message()));
        }
        return None;
    }
    let mut wrong_values = false;
    for _ in 0..FORM_PROBLEMS {
        let error = match T::deserialize(toml::Deserializer::from(document.clone())) {
            Ok(written) => return Some((written, !wrong_values)),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        findings.problem(&span, sentence(error.message()));
        match take_out(&mut document, &span) {
            Some(Part::Key) => {}
            Some(Part::Value) => wrong_values = true,
            None => return None,
        }
    }
    None
}

/// What an error pointed at.
enum Part {
    /// A key, which is unknown.
    Key,
    /// A value, which has the wrong type.
    Value,
}

/// Takes what stands at exactly this place out of a table; `None` when nothing does.
fn take_out(table: &mut Spanned<DeTable<'_>>, span: &Range<usize>) -> Option<Part> {
    take_out_of_table(table.get_mut(), span)
}

fn take_out_of_table(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Part> {
    let found = table.iter().find_map(|(key, value)| {
        let part = if key.span() == *span {
            Part::Key
        } else if value.span() == *span {
            Part::Value
        } else {
            return None;
        };
        Some((key.get_ref().to_string(), part))
    });
    if let Some((key, part)) = found {
        table.remove(key.as_str());
        return Some(part);
    }
    table.iter_mut().find_map(|(_, value)| take_out_of_value(value.get_mut(), span))
}

fn take_out_of_value(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<Part> {
    match value {
        DeValue::Table(table) => take_out_of_table(table, span),
        DeValue::Array(array) => {
            if array.iter().any(|element| element.span() == *span) {
                let elements = std::mem::replace(array, DeArray::new());
                *array = elements.into_iter().filter(|element| element.span() != *span).collect();
                return Some(Part::Value);
            }
            array.iter_mut().find_map(|element| take_out_of_value(element.get_mut(), span))
        }
        _ => None,
    }
}

/// The parser's words in ours, with what to do where they don't say it.
fn sentence(message: &str) -> String {
    let message = message.replace("unknown field", "unknown key").replace("missing field", "missing key");
    if message.starts_with("invalid type: integer") && message.ends_with("expected a string") {
        return format!("{message}; write it in quotes, and a duration with its unit, as in \"5s\"");
    }
    match message.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table"),
        None => message,
    }
}
