//! First backups: by dump, by clone, by adoption of a data directory.

pub mod adopt;
pub mod carry;
pub mod clone;
pub mod definers;
pub mod dump;
pub mod dump_client;
pub mod dump_progress;
pub mod json;
pub mod layout;
mod literals;
pub mod mend;
pub mod moment;
pub mod pipe;
pub mod relay;
pub mod seeding;
pub mod tables;
