//! Keeps a fresh, proven backup of a MySQL or MariaDB primary without touching its disks.
//!
//! This file is the table of contents: parse, start the logger, call the command, turn the
//! result into an exit status. What each room holds stands at the top of its file.

mod adopt;
mod advice;
mod attempt;
mod backup;
mod base;
mod breaker;
mod catch_up;
mod checkpoint;
mod client;
mod clock;
mod clone;
mod commands;
mod course;
mod dump_progress;
mod error;
mod files;
mod fill;
mod gtid;
mod handover;
mod hooks;
mod install;
mod inventory;
mod listing;
mod lock;
mod log_tail;
mod logger;
mod manifest;
mod memory;
mod meter;
mod metrics;
mod mysqld;
mod mysqld_options;
mod notify;
mod option_file;
mod options;
mod pace;
mod packs;
mod pair;
mod partial;
mod plan;
mod pool;
mod primary;
mod privileges;
mod process;
mod prune;
mod random;
mod recover;
mod replication;
mod repository;
mod restore;
mod retention;
mod run;
mod scratch;
mod seed;
mod session;
mod signals;
mod spread;
mod status;
mod supervisor;
mod sys;
mod tables;
mod target;
mod terminal;
mod tree;
mod upgrade;
mod usage;
mod verify;
mod watched;
mod words;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use crate::options::Request;

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

fn usage_error(error: &error::Error) -> u8 {
    logger::last_words(&format!("rollforward: {error}"));
    if options::asks_for_status() {
        status::Verdict::Unknown.exit_status()
    } else {
        error.exit_status()
    }
}
