//! The `tollgate` command.

use std::process::ExitCode;

use tollgate::database::embedded::watchdog;

fn main() -> ExitCode {
    // Before anything else: the embedded Postgres runs under a second, hidden life of this binary,
    // which must start fast and know nothing of the rest.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == watchdog::COMMAND) {
        return watchdog::run(arguments);
    }
    tollgate::cli::main()
}
