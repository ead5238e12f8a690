//! The receiver: an empty private server that only receives from the primary.

pub mod logs;
pub mod receiver;
