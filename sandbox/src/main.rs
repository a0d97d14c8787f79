//! The sandbox's binary. Two commands have to run while the process still has a single thread (`exec` and `enter`
//! change its namespaces), so nothing is started before the command is known.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox::cli::main()
}
