//! The primary, and replication from it to the private server.

pub mod catch_up;
pub mod connection;
pub mod keeping;
pub mod kept_logs;
pub mod primary;
pub mod privileges;
pub mod received;
pub mod replay;
pub mod replica;
pub mod replica_file;
pub mod temporary_tables;
pub mod time_zone;
pub mod values;
