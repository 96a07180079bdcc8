//! Arguments: words, and `key=value`.

use std::str::FromStr;

pub(crate) struct Arguments {
    words: Vec<String>,
    pairs: Vec<(String, String)>,
}

impl Arguments {
    /// Those of the program, but for what cargo adds.
    pub(crate) fn of_program() -> Arguments {
        let mut arguments = Arguments { words: Vec::new(), pairs: Vec::new() };
        let mut given = std::env::args().skip(1);
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--bench" => {}
                "--json" => arguments.pairs.push(("json".to_owned(), given.next().unwrap_or_default())),
                "--verify" => arguments.pairs.push(("verify".to_owned(), "yes".to_owned())),
                _ => match argument.split_once('=') {
                    Some((key, value)) => {
                        arguments.pairs.push((key.trim_start_matches('-').to_owned(), value.to_owned()));
                    }
                    None => arguments.words.push(argument),
                },
            }
        }
        arguments
    }

    /// Takes the next word.
    pub(crate) fn word(&mut self) -> Option<String> {
        (!self.words.is_empty()).then(|| self.words.remove(0))
    }

    /// Takes a value as it is written.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(other, _)| other == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Takes a value.
    pub(crate) fn value<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        let Some(text) = self.text(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{key}={text} can't be read"))
    }

    /// Takes a list, whose items are separated by commas.
    pub(crate) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let text = self.text(key)?;
        Some(text.split(',').map(str::to_owned).collect())
    }

    /// Nothing may be left that nobody knows.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        let pair = self.pairs.first().map(|(key, value)| format!("{key}={value}"));
        match self.word().or(pair) {
            Some(unknown) => Err(format!("unknown argument: {unknown}")),
            None => Ok(()),
        }
    }
}
