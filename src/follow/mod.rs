//! `follow`: what the primary commits between two passes, kept in the repository all the time.

mod parts;
pub mod run;
