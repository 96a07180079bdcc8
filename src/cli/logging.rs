//! Logging to standard error: which lines, and in which form.
//!
//! `--log` goes before the environment variable `RUST_LOG`, which goes before `info`. A filter is a list of `level` and
//! `target=level`, as tracing's `EnvFilter` reads it, with one difference: a word that is neither is an error, where
//! `EnvFilter` takes it for a target, so that `--log verbose` would silence everything else.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The environment variable that holds a filter.
const VARIABLE: &str = "RUST_LOG";
/// The filter where there is none.
const DEFAULT: &str = "info";

/// The form of a line (`--log-format`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Why nothing is logged. The caller can go on or stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter can't be read.
    #[error(
        "{from} is no log filter, \"{filter}\": {reason}; write a level (error, warn, info, debug, trace) or a list such as \"info,livezone::dns=debug\""
    )]
    Filter {
        /// Where the filter came from.
        from: &'static str,
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something in this process logs already.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sets logging up for the whole process; once only. Colours are used only where standard error is a terminal, and not
/// if the environment variable `NO_COLOR` is set.
pub fn init(filter: Option<&str>, format: Format) -> Result<(), Error> {
    let variable = std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned());
    let filter = quieten(choose(filter, variable.as_deref())?);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => lines.with_ansi(colours).finish().try_init(),
        Format::Json => lines.json().flatten_event(true).finish().try_init(),
    }
    .map_err(|_| Error::AlreadySet)
}

/// hickory-server logs every query at info, and handshakes that come to nothing as warnings: unless a filter names it,
/// only its errors are let through.
fn quieten(filter: EnvFilter) -> EnvFilter {
    if filter.to_string().contains("hickory") || filter.max_level_hint() == Some(LevelFilter::OFF) {
        return filter;
    }
    let directives = ["hickory_server=error", "hickory_net=error"];
    directives
        .into_iter()
        .fold(filter, |filter, text| filter.add_directive(text.parse().expect("a directive of the form target=level")))
}

/// The filter that counts; an empty one is none.
fn choose(flag: Option<&str>, variable: Option<&str>) -> Result<EnvFilter, Error> {
    let given = [("--log", flag), (VARIABLE, variable)];
    let (from, text) = given
        .into_iter()
        .find_map(|(from, text)| text.filter(|text| !text.trim().is_empty()).map(|text| (from, text)))
        .unwrap_or(("the default", DEFAULT));
    let error = |reason: String| Error::Filter { from, filter: text.to_owned(), reason };
    for part in text.split(',').map(str::trim) {
        if !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err() {
            return Err(error(format!("\"{part}\" is no level")));
        }
    }
    EnvFilter::builder().parse(text).map_err(|reason| error(reason.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(flag: Option<&str>, variable: Option<&str>) -> String {
        choose(flag, variable).unwrap().to_string()
    }

    #[test]
    fn the_flag_beats_the_environment_which_beats_info() {
        assert_eq!(chosen(Some("debug"), Some("trace")), "debug");
        assert_eq!(chosen(None, Some("livezone::dns=trace")), "livezone::dns=trace");
        assert_eq!(chosen(None, None), "info");
        assert_eq!(chosen(None, Some("")), "info");
        assert_eq!(chosen(Some(" "), Some("warn")), "warn");
        assert_eq!(chosen(Some("off"), None), "off");
    }

    #[test]
    fn hickory_is_quiet_unless_it_is_named() {
        let quiet = |text: &str| quieten(choose(Some(text), None).unwrap()).to_string();
        assert!(quiet("debug").contains("hickory_server=error"));
        assert_eq!(
            quiet("info,hickory_server=info"),
            choose(Some("info,hickory_server=info"), None).unwrap().to_string()
        );
        assert_eq!(quiet("off"), "off");
    }

    #[test]
    fn a_bad_filter_says_where_it_came_from_and_what_is_right() {
        let message = |flag, variable| choose(flag, variable).unwrap_err().to_string();
        let verbose = message(Some("info,verbose"), None);
        assert!(
            verbose.starts_with("--log is no log filter") && verbose.contains("\"verbose\" is no level"),
            "{verbose}"
        );
        let unknown = message(None, Some("livezone=loud"));
        assert!(unknown.starts_with("RUST_LOG is no log filter") && unknown.contains("error, warn, info"), "{unknown}");
    }
}
