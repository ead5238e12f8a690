//! First backups: by dump, by clone, by adoption of a data directory.

pub mod adopt;
pub mod clone;
pub mod dump;
pub mod dump_client;
pub mod dump_progress;
pub mod seeding;
pub mod tables;
