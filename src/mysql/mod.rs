//! What is true of any MySQL or MariaDB server: positions, versions, sessions.

pub mod account;
pub mod file_names;
pub mod flavor;
pub mod gtid;
pub mod position;
pub mod primary_log;
pub mod session;
pub mod settings;
pub mod target;
pub mod trouble;
pub mod version;
