//! Which tables a server has, and whether a dump brought all of them from one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysqld::Mysqld;
use crate::primary::{Address, refused};
use crate::session::{Rows, Session};

/// Listing the tables of a large server opens each of them.
const LISTING: Duration = Duration::from_secs(30);

/// By `schema.table`, for tables outside of InnoDB when and how large they last
/// were written, else nothing.
pub type Tables = BTreeMap<String, String>;

/// Tables of every schema but the server's own. The server's own are of Aria, and an event that
/// runs writes them; what an account statement did to them meanwhile comes up when it is replayed.
/// statistics of the server's own that it writes
/// by itself are left out.
const LIST: &str = "\
    SELECT CONCAT(table_schema, '.', table_name), \
           IF(table_schema <> 'mysql' AND engine IN ('MyISAM', 'Aria', 'CSV', 'ARCHIVE'), \
              CONCAT_WS(' ', engine, update_time, table_rows, data_length), '') \
    FROM information_schema.tables \
    WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'sys') \
      AND NOT (table_schema = 'mysql' AND table_name IN ('general_log', 'slow_log', \
               'table_stats', 'column_stats', 'index_stats', 'innodb_table_stats', \
               'innodb_index_stats', 'transaction_registry', 'gtid_slave_pos'))";

/// The tables of the primary.
///
/// # Errors
/// As every question to the primary.
pub fn list_primary(session: &mut Session, address: &Address) -> Result<Tables> {
    session.set_timeout(LISTING);
    session.query(LIST).map(collect).map_err(|t| refused(address, t))
}

/// Bytes that the tables of the primary take there, with their indexes, by its statistics.
///
/// # Errors
/// As every question to the primary.
pub fn space_on_primary(session: &mut Session, address: &Address) -> Result<u64> {
    session.set_timeout(LISTING);
    let sql = "SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS UNSIGNED) \
               FROM information_schema.tables \
               WHERE engine NOT IN ('MEMORY', 'BLACKHOLE', 'FEDERATED', 'CONNECT', 'SEQUENCE')";
    let rows = session.query(sql).map_err(|t| refused(address, t))?;
    Ok(rows.first().parse().unwrap_or(0))
}

/// The tables of the private server.
///
/// # Errors
/// As every question to it.
pub fn list_private(mysqld: &mut Mysqld) -> Result<Tables> {
    let session = mysqld.control()?;
    session.set_timeout(LISTING);
    let answer = session.query(LIST).map(collect);
    answer.map_err(|t| mysqld.lost("list of tables", t))
}

fn collect(rows: Rows) -> Tables {
    rows.iter().map(|r| (r[0].to_string(), r[1].to_string())).collect()
}

/// Does `loaded` have every table that the primary had both `before` and `after` the dump, and
/// was none of those that take no part in a snapshot written in between?
///
/// # Errors
/// [`Error::ReplicationError`] naming the first such table.
pub fn compare(before: &Tables, after: &Tables, loaded: &Tables) -> Result<()> {
    let failed = |text: String| Err(Error::ReplicationError { errno: 0, text });
    for (table, changed) in before {
        let Some(changed_after) = after.get(table) else { continue };
        if !loaded.contains_key(table) {
            return failed(format!(
                "the dump lacks table {table}, which the primary has: does the account see it?"
            ));
        }
        if changed != changed_after {
            let engine = changed_after.split(' ').next().unwrap_or_default();
            return failed(format!(
                "table {table} ({engine}) was written while the dump ran, and only InnoDB tables \
                 are of one moment: stop its writers and seed again"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(list: &[(&str, &str)]) -> Tables {
        list.iter().map(|(t, c)| (t.to_string(), c.to_string())).collect()
    }

    #[test]
    fn what_the_dump_lacks_or_could_not_freeze_is_named() {
        let before = tables(&[("a.t", ""), ("a.log", "MyISAM 10:00"), ("a.gone", "")]);
        let after = tables(&[("a.t", ""), ("a.log", "MyISAM 10:00"), ("a.new", "")]);
        assert!(compare(&before, &after, &before).is_ok());
        let error = compare(&before, &after, &tables(&[("a.log", "")])).unwrap_err().to_string();
        assert!(error.contains("lacks table a.t"), "{error}");
        let written = tables(&[("a.t", ""), ("a.log", "MyISAM 10:07")]);
        let error = compare(&before, &written, &before).unwrap_err().to_string();
        assert!(error.contains("a.log (MyISAM) was written"), "{error}");
    }
}
