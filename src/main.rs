//! The `livezone` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    livezone::cli::main()
}
