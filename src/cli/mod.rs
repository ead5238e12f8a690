//! The command line: options, commands, and their output.

pub mod commands;
mod greeting;
mod keep;
mod last_pass;
pub mod logger;
pub mod next_steps;
mod older_data;
pub mod opening;
pub mod option_file;
pub mod options;
pub mod output;
mod own_files;
pub mod pass_options;
mod prefixes;
pub mod print;
pub mod report;
pub mod restore;
pub mod restore_dir;
pub mod shell_words;
pub mod status;
mod status_command;
pub mod transactions;
pub mod unpack;
pub mod until;
pub mod usage;
pub mod verdict;
pub mod windows;
