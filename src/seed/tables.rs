//! Which tables a server has, and whether a dump brought all of them from one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::{Rows, Session};
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, refused};
use crate::server::mysqld::Mysqld;

/// Listing the tables of a large server opens each of them.
pub const LISTING: Duration = Duration::from_secs(30);

/// What a server says of one of its tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Of a table outside of InnoDB its engine, and when and how large it last was written;
    /// else empty.
    pub changed: String,
    /// Rows, as the server's statistics have them.
    pub rows: u64,
    /// Bytes of its rows, as the statistics have them.
    pub bytes: u64,
    /// Bytes of its secondary indexes.
    pub index_bytes: u64,
    /// How much of its rows are bytes that may have any value, about.
    pub binary_percent: u64,
}

/// What is only good to know is not waited for.
const BRIEF: Duration = Duration::from_secs(5);

/// By `schema.table`.
pub type Tables = BTreeMap<String, Table>;

/// Tables of every schema but the server's own views of itself. Those of `mysql` are of Aria on
/// MariaDB, and an event that runs writes them; what an account statement did to them meanwhile
/// comes up when it is replayed. What a server writes by itself is left out: logs, statistics,
/// its position. A CSV table has no time, and a number of rows that reading it changes: see
/// [`CSV`].
const LIST: &str = "\
    SELECT CONCAT(table_schema, '.', table_name), \
           IF(table_schema <> 'mysql' AND engine IN ('MyISAM', 'Aria', 'CSV', 'ARCHIVE'), \
              CONCAT_WS(' ', engine, IF(engine = 'CSV', NULL, \
              CONCAT_WS(' ', update_time, table_rows, data_length))), ''), \
           COALESCE(table_rows, 0), \
           IF(engine IN ('FEDERATED', 'CONNECT', 'SEQUENCE'), 0, COALESCE(data_length, 0)), \
           IF(engine IN ('FEDERATED', 'CONNECT', 'SEQUENCE'), 0, COALESCE(index_length, 0)) \
    FROM information_schema.tables \
    WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'sys') \
      AND NOT (table_schema = 'mysql' AND table_name IN ('general_log', 'slow_log', \
               'table_stats', 'column_stats', 'index_stats', 'innodb_table_stats', \
               'innodb_index_stats', 'transaction_registry', 'gtid_slave_pos', \
               'gtid_executed'))";

/// MySQL would tell for a day when a table was written last.
pub const NO_CACHE: &str = "SET SESSION information_schema_stats_expiry = 0";

/// The CSV tables, as they are in the list and as they stand in a statement.
const CSV: &str = "\
    SELECT CONCAT(table_schema, '.', table_name), \
           CONCAT('`', REPLACE(table_schema, '`', '``'), '`.`', \
                  REPLACE(table_name, '`', '``'), '`') \
    FROM information_schema.tables \
    WHERE engine = 'CSV' \
      AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";

/// How much of a table is binary, in percent, as its columns tell: a text or BLOB has many bytes,
/// of a VARCHAR half of what it may have is taken, anything else has few.
const BINARY: &str = "\
    SELECT name, ROUND(100 * SUM(is_binary * bytes) / SUM(bytes)) AS percent FROM \
    (SELECT CONCAT(table_schema, '.', table_name) AS name, \
            data_type LIKE '%blob' OR data_type LIKE '%binary' AS is_binary, \
            CASE WHEN data_type LIKE '%blob' OR data_type LIKE '%text' THEN 500 \
                 WHEN data_type LIKE 'var%' THEN LEAST(500, character_maximum_length / 2 + 1) \
                 ELSE LEAST(500, COALESCE(character_maximum_length, 6)) END AS bytes \
     FROM information_schema.columns \
     WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'sys')) AS columns \
    GROUP BY name HAVING percent > 0";

/// The tables of the primary.
///
/// # Errors
/// As every question to the primary.
pub fn list_primary(session: &mut Session, facts: &Facts) -> Result<Tables> {
    let refused = |t| refused(&facts.address, t);
    let mut tables = list(session, facts.flavor).map_err(refused)?;
    for row in session.query(CSV).map_err(refused)?.iter() {
        let sum = session.query(&format!("CHECKSUM TABLE {}", row[1])).map_err(refused)?;
        if let Some(table) = tables.get_mut(row[0]) {
            table.changed = format!("CSV {}", sum.get("Checksum"));
        }
    }
    Ok(tables)
}

/// The tables of the private server.
///
/// # Errors
/// As every question to it.
pub fn list_private(mysqld: &mut Mysqld, flavor: Flavor) -> Result<Tables> {
    let answer = list(mysqld.control()?, flavor);
    answer.map_err(|t| mysqld.lost("list of tables", t))
}

fn list(session: &mut Session, flavor: Flavor) -> std::result::Result<Tables, Trouble> {
    session.set_timeout(LISTING);
    if flavor == Flavor::MySql {
        session.run(NO_CACHE)?;
    }
    session.query(LIST).map(collect)
}

fn collect(rows: Rows) -> Tables {
    let number = |text: &str| text.parse().unwrap_or(0);
    let table = |r: &[&str]| Table {
        changed: r[1].to_string(),
        rows: number(r[2]),
        bytes: number(r[3]),
        index_bytes: number(r[4]),
        binary_percent: 0,
    };
    rows.iter().map(|r| (r[0].to_string(), table(&r))).collect()
}

/// Tells of the primary's tables how much of them is binary. It is of use for the time left alone:
/// where it is refused or takes long, it stays unknown, and the session may be of no more use.
pub fn tell_binary(mut session: Session, tables: &mut Tables) {
    session.set_timeout(BRIEF);
    let Ok(rows) = session.query(BINARY) else { return };
    for row in rows.iter() {
        if let Some(table) = tables.get_mut(row[0]) {
            table.binary_percent = row[1].parse().unwrap_or(0);
        }
    }
}

/// Does `loaded` have every table that the primary had both `before` and `after` the dump, and
/// was none of those that take no part in a snapshot written in between?
///
/// # Errors
/// [`Error::ReplicationError`] naming the first such table.
pub fn compare(before: &Tables, after: &Tables, loaded: &Tables) -> Result<()> {
    let failed = |text: String| Err(Error::ReplicationError { errno: 0, text });
    for (table, Table { changed, .. }) in before {
        let Some(Table { changed: changed_after, .. }) = after.get(table) else { continue };
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
        let table = |changed: &str| Table { changed: changed.to_string(), ..Table::default() };
        list.iter().map(|(t, c)| (t.to_string(), table(c))).collect()
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
