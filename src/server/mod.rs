//! The private server: how it is started, entered, watched, diagnosed and shut down.

pub mod access;
pub mod buffers;
pub mod compatibility;
pub mod error_log;
pub mod globals;
pub mod guest;
pub mod initialize;
pub mod key_rotation;
pub mod lifecycle;
pub mod mandatory_roles;
pub mod mysqld;
pub mod purge;
pub mod reserved_options;
pub mod setup;
pub mod tools;
