//! `livezone man`: manual pages, made from the description of the command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::serve::print;

/// Print the manual page, or write one for each command
///
/// Without a folder the page of livezone itself goes to standard output. With one, livezone.1 and a page a command
/// (livezone-serve.1 and so on) are written there; those of before are replaced, and the folder is made if it is missing.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone man | man -l -\n  livezone man /usr/local/share/man/man1")]
pub struct Args {
    /// The folder for the pages: `man` finds those in a folder man1 below one of its own
    pub directory: Option<PathBuf>,
}

/// Why there are no pages, or not all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder.
    #[error("{file} can't be written: {cause}; name a folder that you may write to")]
    Folder {
        /// The page, or the folder.
        file: String,
        /// What went wrong.
        cause: std::io::Error,
    },
    /// Standard output.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// Prints or writes pages.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut root = super::Arguments::command().disable_help_subcommand(true);
    root.build();
    let Some(folder) = &args.directory else {
        return Ok(print(&page(&root)?)?);
    };
    let failed = |file: &Path| {
        let file = file.display().to_string();
        |cause| Error::Folder { file, cause }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    for command in [&root].into_iter().chain(root.get_subcommands()) {
        let file = folder.join(format!("{}.1", name_of(command)));
        std::fs::write(&file, page(command)?).map_err(failed(&file))?;
    }
    Ok(())
}

/// `livezone-serve`.
fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The page of a command.
fn page(command: &Command) -> std::io::Result<String> {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    examples(command, &mut text)?;
    let mut end = Roff::default();
    end.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in [
        ("0", "It is done."),
        ("1", "It didn't work; standard error has the reason, and what to do about it."),
        ("2", "The command line is wrong."),
    ] {
        end.control("TP", []).text([bold(status)]).text([roman(meaning)]);
    }
    if !command.has_subcommands() {
        end.control("SH", ["SEE ALSO"]).text([bold("livezone"), roman("(1)")]);
    }
    end.to_writer(&mut text)?;
    // Each part brings the same definition of the apostrophe along, and a page needs it once. The title is written here, since a
    // date that is left empty would lose its place.
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| !line.contains(".ds Aq "));
    let title = format!(".TH {} 1 \"\" \"livezone {}\" livezone", name_of(command), env!("CARGO_PKG_VERSION"));
    let head = [r".ie \n(.g .ds Aq \(aq", ".el .ds Aq '", &title];
    Ok(head.into_iter().chain(lines).flat_map(|line| [line, "\n"]).collect())
}

/// What the help ends with: examples, whose lines are indented and stay as they are, and sentences about them.
fn examples(command: &Command, out: &mut dyn Write) -> std::io::Result<()> {
    let Some(help) = command.get_after_help() else { return Ok(()) };
    let mut roff = Roff::default();
    roff.control("SH", ["EXAMPLES"]);
    let mut is_example = false;
    for line in help.to_string().lines().filter(|line| !line.starts_with("Example")) {
        let indented = line.starts_with("  ");
        if indented != is_example {
            roff.control(if indented { "nf" } else { "fi" }, []);
            is_example = indented;
        }
        if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line.trim_start())]);
        }
    }
    if is_example {
        roff.control("fi", []);
    }
    roff.to_writer(out)
}
