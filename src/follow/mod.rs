//! `follow`: what the primary commits between two passes, kept in the repository all the time.

mod logs;
mod parts;
pub mod run;
