//! Accounts that act while a dump is loaded.
//!
//! Views are made last, and one that calls a function, or reads another view, is refused unless the
//! server knows the account of its definer (1449). The rows of the accounts are there by then, but the
//! server has not read them, and must not: no client of ours would get in any more. So accounts of these
//! names are made before. They are in memory alone once the dump has replaced the tables, and gone with
//! that server.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::mysql::session::quoted;
use crate::replication::primary::{Facts, Primary, refused};
use crate::server::mysqld::Mysqld;

/// The definers of all routines and views. Without ALL, MariaDB takes App for app.
const DEFINERS: &str = "SELECT definer FROM information_schema.routines \
    UNION ALL SELECT definer FROM information_schema.views";

/// The names and hosts of the accounts for which routines and views of the primary act.
///
/// # Errors
/// Those of any login to the primary.
pub fn list(primary: &Primary, facts: &Facts) -> Result<BTreeSet<(String, String)>> {
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let rows = session.query(DEFINERS).map_err(|t| refused(&facts.address, t))?;
    let account = |row: &str| {
        let (name, host) = row.rsplit_once('@')?;
        Some((name.to_string(), host.to_string()))
    };
    Ok(rows.iter().filter_map(|row| account(row[0])).collect())
}

/// Makes them known to the fresh server. One that it does not take is missed later, if it is needed.
///
/// # Errors
/// [`Error::MysqldHung`] if it does not answer.
pub fn make_known(mysqld: &mut Mysqld, definers: &BTreeSet<(String, String)>) -> Result<()> {
    for (name, host) in definers {
        let (kind, account) = match host.as_str() {
            "" => ("ROLE", quoted(name)),
            host => ("USER", format!("{}@{}", quoted(name), quoted(host))),
        };
        for statement in [
            format!("CREATE {kind} IF NOT EXISTS {account}"),
            format!("GRANT ALL PRIVILEGES ON *.* TO {account}"),
        ] {
            match mysqld.run(&statement) {
                Err(Error::ReplicationError { errno, .. }) => {
                    log::debug!("a definer cannot be made known: error {errno}");
                }
                done => done?,
            }
        }
    }
    Ok(())
}
