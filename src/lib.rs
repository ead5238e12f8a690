//! Keeps a fresh, proven backup of a MySQL or MariaDB primary without touching its disks.
//!
//! The folders from the ground up: each imports only from those above it in this list.

pub mod cli;
pub mod error;
pub mod mysql;
pub mod os;
pub mod pass;
pub mod replication;
pub mod report;
pub mod repository;
pub mod scratch;
pub mod seed;
pub mod server;
pub mod supervisor;
pub mod text;
