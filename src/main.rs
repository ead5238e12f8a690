//! Keeps a fresh, proven backup of a MySQL or MariaDB primary without touching its disks.
//!
//! This file is the table of contents: parse, start the logger, call the command, turn the
//! result into an exit status. What each room holds stands at the top of its file.

mod attempt;
mod backup;
mod breaker;
mod catch_up;
mod checkpoint;
mod clock;
mod commands;
mod error;
mod gtid;
mod listing;
mod lock;
mod log_tail;
mod logger;
mod manifest;
mod memory;
mod mysqld;
mod mysqld_options;
mod option_file;
mod options;
mod packs;
mod partial;
mod plan;
mod pool;
mod primary;
mod privileges;
mod process;
mod prune;
mod replication;
mod repository;
mod restore;
mod retention;
mod run;
mod scratch;
mod seed;
mod session;
mod signals;
mod supervisor;
mod sys;
mod tables;
mod target;
mod tree;
mod verify;

use std::process::ExitCode;

use crate::options::Request;

fn main() -> ExitCode {
    sys::keep_no_freed_memory();
    let status = match options::parse_arguments() {
        Ok(Request::Print(text)) => commands::print(&text),
        Ok(Request::Command(options)) => match logger::start(&options) {
            Ok(()) => commands::dispatch(&options),
            Err(e) => usage_error(&e),
        },
        Err(e) => usage_error(&e),
    };
    ExitCode::from(status)
}

fn usage_error(error: &error::Error) -> u8 {
    logger::last_words(&format!("rollforward: {error}"));
    error.exit_status()
}
