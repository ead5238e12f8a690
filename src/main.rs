//! Keeps a fresh, proven backup of a MySQL or MariaDB primary without touching its disks.
//!
//! This file is the table of contents: parse, start the logger, call the command, turn the
//! result into an exit status. What each room holds stands at the top of its file.

use std::process::ExitCode;

use rollforward::cli::options::{self, Request};
use rollforward::cli::{commands, logger, status};
use rollforward::error::Error;
use rollforward::os::sys;

fn main() -> ExitCode {
    sys::keep_no_freed_memory();
    sys::ignore_file_size_signal();
    let status = match options::parse_arguments() {
        Ok(Request::Print(text)) => commands::print(&text),
        Ok(Request::Command(options)) => {
            // Before the log: a usage error goes to standard error and makes no file.
            match commands::check(&options).and_then(|()| logger::start(&options)) {
                Ok(()) => commands::dispatch(&options),
                Err(e) => usage_error(&e),
            }
        }
        Err(e) => usage_error(&e),
    };
    ExitCode::from(status)
}

fn usage_error(error: &Error) -> u8 {
    logger::last_words(&format!("rollforward: {error}"));
    if options::asks_for_status() {
        status::Verdict::Unknown.exit_status()
    } else {
        error.exit_status()
    }
}
