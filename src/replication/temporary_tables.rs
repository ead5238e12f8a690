//! Temporary tables of the primary's sessions, which binary logs of statements bring along.
//!
//! The applier keeps them open until their session closes them, and they end with the private server.
//! A later statement that uses one then fails, or takes another table for it: the manuals of both
//! servers tell to shut a replica down only while it has none open.

use crate::error::Result;
use crate::server::mysqld::Mysqld;

/// How many the applier has open. MariaDB has the first name, MySQL 8.0 both.
///
/// # Errors
/// The private server's error; [`crate::error::Error::MysqldHung`] if it does not answer.
pub fn open(mysqld: &mut Mysqld) -> Result<u64> {
    let answer = mysqld.control()?.query(
        "SHOW GLOBAL STATUS WHERE Variable_name IN \
         ('Slave_open_temp_tables', 'Replica_open_temp_tables')",
    );
    let rows = answer.map_err(|t| mysqld.lost("answer to a status query", t))?;
    Ok(rows.iter().filter_map(|row| row.get(1)?.parse().ok()).max().unwrap_or(0))
}
