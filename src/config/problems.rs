//! What is wrong with a configuration, and where.
//!
//! Reading goes on after a problem wherever it can, so that one run shows all of them. [`Findings`] collects while a
//! file is read; [`Problems`] is what the caller gets.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::zone::file::FileError;

/// A place in a text file: line and column from 1, the column in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// Where the byte `offset` of a text stands; past its end is the end.
    pub fn of(text: &str, offset: usize) -> Position {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        Position {
            line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(),
            column: 1 + String::from_utf8_lossy(&before[start..]).chars().count(),
        }
    }
}

/// One thing that is wrong, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the file; `None` when it is about the file as a whole.
    pub position: Option<Position>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Problem {
        let (line, column) = (error.at.line, error.at.column);
        let position = Some(Position { line, column });
        Problem { file: error.file.to_path_buf(), position, message: error.problem.to_string() }
    }
}

/// Everything that was found wrong, in the order of the files and of the places in them; at least one. Nothing was
/// loaded; whoever wrote the files can mend them. Displays as `file:line:column: message`, one a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems, if there are any, in their order.
    pub fn new(problems: Vec<Problem>) -> Option<Problems> {
        (!problems.is_empty()).then_some(Problems(problems))
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A file that is being read, with what was found in it so far.
#[derive(Debug)]
pub(super) struct Findings {
    file: PathBuf,
    text: String,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Findings {
    pub(super) fn new(file: &Path, text: String) -> Findings {
        Findings { file: file.to_owned(), text, problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The folder that relative paths in this file start from.
    pub(super) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn position(&self, span: &Range<usize>) -> Position {
        Position::of(&self.text, span.start)
    }

    /// How many problems there are so far: two calls tell whether something between them went wrong.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    pub(super) fn problem(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let position = Some(self.position(span));
        self.problems.push(Problem { file: self.file.clone(), position, message: message.into() });
    }

    /// A problem with the file as a whole.
    pub(super) fn problem_of_file(&mut self, message: impl Into<String>) {
        self.problems.push(Problem { file: self.file.clone(), position: None, message: message.into() });
    }

    /// A problem in another file that this one names.
    pub(super) fn problem_elsewhere(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn warn(&mut self, span: &Range<usize>, message: &str) {
        let line = self.position(span).line;
        self.warnings.push(format!("{}:{line}: {message}", self.file.display()));
    }

    /// Warns about a key that is read and then left alone.
    pub(super) fn without_effect(&mut self, span: &Range<usize>, key: &str) {
        self.warn(span, &format!("`{key}` has no effect in this version"));
    }

    /// The problems in the order of their places, and the warnings.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<String>) {
        self.problems.sort_by_key(|problem| (problem.file != self.file, problem.position));
        (self.problems, self.warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nbc\r\nä = \"x\"";
        let at = |offset| (Position::of(text, offset).line, Position::of(text, offset).column);
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(3), (2, 2));
        assert_eq!(at(text.find('=').unwrap()), (3, 3));
        assert_eq!(at(1000), (3, 8));
    }

    #[test]
    fn problems_are_printed_one_a_line_in_the_order_of_the_file() {
        let mut findings = Findings::new(Path::new("dir/z.toml"), "a\nb\n".to_owned());
        findings.problem(&(2..3), "mend b");
        findings.problem(&(0..1), "mend a");
        findings.problem_of_file("add c");
        let problems = Problems::new(findings.finish().0).unwrap();
        assert_eq!(problems.to_string(), "dir/z.toml: add c\ndir/z.toml:1:1: mend a\ndir/z.toml:2:1: mend b");
        assert_eq!(Problems::new(Vec::new()), None);
    }
}
