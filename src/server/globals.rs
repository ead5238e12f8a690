//! Global settings of the private server that a replicated statement must not change.
//!
//! An account of the primary's that may write one table can have a function called by a statement that is
//! logged as such. There `SET GLOBAL` fails for want of a privilege; the applier has them all. With the
//! event scheduler, events of the data would change it; with another `innodb_fast_shutdown`, the server
//! would leave data that was not shut down; and what decides the results of statements would decide other
//! ones.

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::settings::{self, Values};
use crate::server::mysqld::Mysqld;

/// Besides what decides results: none of them does the server itself change.
const MORE: &[&str] = &[
    "event_scheduler",
    "general_log",
    "init_connect",
    "init_slave",
    "init_replica",
    "innodb_fast_shutdown",
    "innodb_read_only_compressed",
    "read_only",
    "replica_exec_mode",
    "replica_type_conversions",
    "slave_exec_mode",
    "slave_run_triggers_for_rbr",
    "slave_type_conversions",
    "slow_query_log",
    "super_read_only",
];

/// Notes them, before the server applies anything.
///
/// # Errors
/// The private server's; [`Error::MysqldHung`] if it does not answer.
pub fn note(mysqld: &mut Mysqld) -> Result<()> {
    if mysqld.globals.is_empty() {
        mysqld.globals = read(mysqld)?;
    }
    Ok(())
}

fn read(mysqld: &mut Mysqld) -> Result<Values> {
    let answer = mysqld.control()?.query(&settings::query(MORE));
    let rows = answer.map_err(|t| mysqld.lost("answer to a query", t))?;
    let pair = |row: &[&str]| Some((row.first()?.to_string(), row.get(1)?.to_string()));
    Ok(rows.iter().filter_map(|row| pair(&row)).collect())
}

/// Fails if one is not as it was noted, or if the server replicates from a server that we did not name.
///
/// # Errors
/// [`Error::ReplicationError`], naming what changed; those of [`note`].
pub fn check(mysqld: &mut Mysqld, flavor: Flavor) -> Result<()> {
    let wrong = |text: String| Err(Error::ReplicationError { errno: 0, text });
    let now = read(mysqld)?;
    let of = |name: &str| now.iter().find(|(other, _)| other == name).map(|(_, is)| is.as_str());
    let mut pairs = mysqld.globals.iter().map(|(name, was)| (name, was, of(name).unwrap_or("")));
    if let Some((name, was, is)) = pairs.find(|(_, was, is)| was != is) {
        return wrong(format!(
            "a replicated statement has set {name} of the private server from '{was}' to '{is}', so \
             what follows is not to be trusted"
        ));
    }
    let sources = match flavor {
        Flavor::MariaDb => "SHOW ALL SLAVES STATUS",
        Flavor::MySql => "SHOW REPLICA STATUS",
    };
    let answer = mysqld.control()?.query(sources);
    let sources = answer.map_err(|t| mysqld.lost("answer to a status query", t))?;
    if sources.iter().count() > 1 {
        return wrong(
            "a replicated statement has the private server replicate from another server too"
                .into(),
        );
    }
    Ok(())
}
