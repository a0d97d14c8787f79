//! The `sessionbackend` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sessionbackend::cli::main()
}
