//! The working directory of a pass, and what its data is worth after a death.

pub mod crash_safety;
pub mod foreign;
pub mod run_as;
pub mod unlogged_ddl;
pub mod working_directory;
