//! Whether everything that happens on a primary is in its binary log: what is not there is in no
//! replica and in no backup but the first.

use super::address::Address;
use super::refusal::refused;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::{Rows, Session};
use crate::mysql::trouble::Trouble;
use crate::text::harmless;

/// The variables that MariaDB has for its filters since 11.7.
pub(super) const FILTERS: [&str; 2] = ["binlog_do_db", "binlog_ignore_db"];
/// The number of connections from which it replicates.
pub(super) const REPLICATES: &str = "SHOW GLOBAL STATUS LIKE 'Slaves_running'";

/// Error number of a statement that a version does not know.
const SYNTAX: u16 = 1064;
/// The longest list of filters that is shown, characters.
const SHOWN: usize = 200;

/// Checks that it writes one, with GTIDs.
///
/// # Errors
/// [`Error::Configuration`].
pub(super) fn check(address: &Address, flavor: Flavor, rows: &Rows) -> Result<()> {
    if rows.require("logs")? != "1" {
        return Err(Error::config(format!(
            "primary {address} writes no binary log: set log_bin there"
        )));
    }
    if flavor == Flavor::MySql && rows.require("gtids")? != "ON" {
        return Err(Error::config(format!(
            "primary {address} has gtid_mode={}: set it to ON there",
            rows.require("gtids")?
        )));
    }
    Ok(())
}

/// Checks a MariaDB primary that has applied what it did not log: it may have been promoted since, but
/// not if it is `behind` that or still replicates, as `running` says.
///
/// # Errors
/// [`Error::Configuration`].
pub(super) fn check_replica(address: &Address, behind: bool, running: &Rows) -> Result<()> {
    let replicates = running.iter().any(|row| row.get(1).is_some_and(|n| *n != "0"));
    if !behind && !replicates {
        return Ok(());
    }
    Err(Error::config(format!(
        "primary {address} is a replica that does not log what it applies: nothing of that \
         would arrive here; set log_slave_updates there, or use its own primary"
    )))
}

/// Checks that no schema is left out of it. `false` if the account may not know.
///
/// # Errors
/// [`Error::Configuration`], naming the filters; those of any query to a primary.
pub(super) fn is_unfiltered(
    address: &Address,
    flavor: Flavor,
    variables: &[Vec<&str>],
    session: &mut Session,
) -> Result<bool> {
    let known = |name: &str| {
        let row = variables.iter().find(|row| row.first() == Some(&name));
        row.and_then(|row| row.get(1)).map(|value| value.to_string())
    };
    if let [Some(only), Some(without)] = FILTERS.map(known) {
        return check_filters(address, &only, &without).map(|()| true);
    }
    let statements = match flavor {
        Flavor::MariaDb => &["SHOW MASTER STATUS"][..],
        // The second one until 8.2.
        Flavor::MySql => &["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"],
    };
    for statement in statements {
        match session.query(statement) {
            Ok(rows) => {
                let [only, without] = ["Binlog_Do_DB", "Binlog_Ignore_DB"].map(|c| rows.require(c));
                return check_filters(address, only?, without?).map(|()| true);
            }
            Err(Trouble::Server { errno: SYNTAX, .. }) => {}
            Err(Trouble::Server { .. }) => return Ok(false),
            Err(trouble) => return Err(refused(address, trouble)),
        }
    }
    Ok(false)
}

fn check_filters(address: &Address, only: &str, without: &str) -> Result<()> {
    let filters = [("binlog-do-db", only), ("binlog-ignore-db", without)];
    let set = filters.iter().filter(|(_, schemas)| !schemas.trim().is_empty());
    let named: Vec<String> = set.map(|(name, schemas)| format!("{name}={schemas}")).collect();
    if named.is_empty() {
        return Ok(());
    }
    let named: String = harmless(&named.join(" and ")).chars().take(SHOWN).collect();
    Err(Error::config(format!(
        "primary {address} has {named}: what that keeps out of its binary log would stay in all \
         backups as it was in the first; remove it there and seed again, or replicate from a server \
         that logs everything"
    )))
}
