//! First backups: by dump, by clone, by adoption of a data directory or of a stream.

pub mod adopt;
pub mod carried;
pub mod carry;
mod client_session;
pub mod clone;
pub mod definers;
pub mod dump;
pub mod dump_client;
pub mod dump_progress;
pub mod json;
pub mod layout;
mod literals;
pub mod memory;
pub mod mend;
pub mod moment;
pub mod pipe;
mod prepared;
mod read_only;
pub mod relay;
pub mod seeding;
mod sequences;
pub mod stream;
mod sys_schema;
pub mod tables;
pub mod unpack;
pub mod unpacked;
pub mod xbstream;
