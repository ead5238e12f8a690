//! What is true of any MySQL or MariaDB server: positions, versions, sessions.

pub mod position;
pub mod session;
