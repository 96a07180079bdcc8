//! `livezone completions`: what a shell needs to complete commands and options.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::serve::print;

/// Print a script with which a shell completes livezone's commands and options
///
/// The script is the shell's to keep: where it looks for those of programs, or read at its start.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  livezone completions bash > ~/.local/share/bash-completion/completions/livezone\n  \
                        livezone completions zsh > \"${fpath[1]}/_livezone\"\n  \
                        livezone completions fish > ~/.config/fish/completions/livezone.fish"
)]
pub struct Args {
    /// Whose script
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> std::io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Arguments::command(), "livezone", &mut script);
    print(&String::from_utf8_lossy(&script))
}
