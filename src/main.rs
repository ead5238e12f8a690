//! Keeps a fresh, proven backup of a MySQL or MariaDB primary without touching its disks.
//!
//! Parses the command line, starts the log, runs the command, and exits with its status.

use std::process::ExitCode;

use rollforward::cli::commands::Command;
use rollforward::cli::options::{self, Request};
use rollforward::cli::print::print;
use rollforward::cli::{logger, verdict};
use rollforward::error::Error;
use rollforward::os::sys;

fn main() -> ExitCode {
    sys::return_freed_memory();
    sys::ignore_file_size_signal();
    sys::set_limits();
    // A panic is an error of ours, said once and by the log.
    std::panic::set_hook(Box::new(|panic| log::debug!("{panic}")));
    let status = match options::parse_arguments() {
        Ok(Request::Print(text)) => print(&text),
        Ok(Request::Command(options)) => {
            // Before the log: a usage error goes to standard error and makes no file.
            let command = Command::new(&options);
            match command.and_then(|command| logger::start(&options).map(|()| command)) {
                Ok(command) => command.run(),
                Err(e) => usage_error(&e),
            }
        }
        Err(e) => usage_error(&e),
    };
    ExitCode::from(status)
}

fn usage_error(error: &Error) -> u8 {
    logger::print_error(&format!("rollforward: {error}"));
    if options::asks_for_status() {
        verdict::Verdict::Unknown.exit_status()
    } else {
        error.exit_status()
    }
}
