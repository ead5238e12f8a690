//! Keeps a fresh, proven backup of a MySQL or MariaDB primary without touching its disks.
//!
//! Each folder imports only from those before it in this order: text, error, os, mysql, report,
//! repository, journal, supervisor, server, replication, compare, scratch, receive,
//! seed, pass, follow, cli.

pub mod cli;
pub mod compare;
pub mod error;
pub mod follow;
pub mod journal;
pub mod mysql;
pub mod os;
pub mod pass;
pub mod receive;
pub mod replication;
pub mod report;
pub mod repository;
pub mod scratch;
pub mod seed;
pub mod server;
pub mod supervisor;
pub mod text;
