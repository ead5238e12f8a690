//! The working directory of a pass, and whether its data can be trusted after a crash.

pub mod crash_safety;
pub mod foreign;
pub mod journal;
pub mod known_files;
pub mod opened;
pub mod packs_read;
pub mod proof;
mod removal;
pub mod run_as;
pub mod unlogged_ddl;
pub mod working_directory;
