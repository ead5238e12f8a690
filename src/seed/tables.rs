//! Which tables a server has, and whether a dump brought all of them from one moment.

use std::collections::BTreeMap;

use crate::compare::names::TableName;
use crate::compare::sessions::ask_private;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::{Rows, Session};
use crate::mysql::trouble::Trouble;
use crate::mysql::version::Version;
use crate::replication::primary::{Facts, Primary, refused};
use crate::seed::bodies;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::Supervisor;
use crate::text::harmless;

/// What a server says of one of its tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// For a table outside InnoDB, its engine, and when and how large it was last written; else
    /// empty.
    pub changed: String,
    /// Bytes of rows and indexes, by the server's statistics.
    pub bytes: u64,
}

/// Tables by name. A text `schema.table` may stand for two of them: both names may have a dot.
pub type Tables = BTreeMap<TableName, Table>;

/// Tables of every schema but the server's own views of itself. On MariaDB those of `mysql` are
/// Aria tables, and running events write them; an account statement that changed them meanwhile
/// shows when it is replicated. Left out is what a server writes by itself: logs, statistics, its
/// position. A CSV table has no time, and reading it changes its number of rows: see [`CSV`].
const LIST: &str = "\
    SELECT table_schema, table_name, \
           IF(table_schema <> 'mysql' AND engine IN ('MyISAM', 'Aria', 'CSV', 'ARCHIVE'), \
              CONCAT_WS(' ', engine, IF(engine = 'CSV', NULL, \
              CONCAT_WS(' ', update_time, table_rows, data_length))), ''), \
           IF(engine IN ('FEDERATED', 'CONNECT', 'SEQUENCE'), 0, \
              COALESCE(data_length, 0) + COALESCE(index_length, 0)) \
    FROM information_schema.tables \
    WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'sys') \
      AND NOT (table_schema = 'mysql' AND table_name IN ('general_log', 'slow_log', \
               'table_stats', 'column_stats', 'index_stats', 'innodb_table_stats', \
               'innodb_index_stats', 'transaction_registry', 'gtid_slave_pos', \
               'gtid_executed'))";

/// By default MySQL reports statistics that are up to a day old, when a table was written included.
pub const NO_CACHE: &str = "SET SESSION information_schema_stats_expiry = 0";

/// The CSV tables.
const CSV: &str = "\
    SELECT table_schema, table_name FROM information_schema.tables \
    WHERE engine = 'CSV' \
      AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";

/// All views.
const VIEWS: &str = "\
    SELECT table_schema, table_name FROM information_schema.tables \
    WHERE table_type = 'VIEW' \
      AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";
/// All events that a client dumps.
const EVENTS: &str = "\
    SELECT event_schema, event_name FROM information_schema.events WHERE event_schema <> 'sys'";
/// Schemas with names that both clients escape once too often when they dump routines and events.
const SCHEMAS: &str = "\
    SELECT schema_name FROM information_schema.schemata \
    WHERE INSTR(schema_name, CHAR(39)) + INSTR(schema_name, CHAR(34)) + INSTR(schema_name, CHAR(92)) \
          + INSTR(schema_name, CHAR(10)) + INSTR(schema_name, CHAR(13)) + INSTR(schema_name, CHAR(26)) > 0";
/// Schemas whose names are those of the servers' own but for case or accents, which clients leave out like
/// these, or we take for them; and one that MySQL's client leaves out by its name.
const LIKE_OWN: &str = "\
    SELECT schema_name FROM information_schema.schemata \
    WHERE CONVERT(schema_name USING utf8mb4) COLLATE utf8mb4_general_ci \
            IN ('mysql', 'performance_schema', 'sys', 'ndbinfo') \
      AND CAST(schema_name AS BINARY) NOT IN ('mysql', 'performance_schema', 'sys')";
/// MySQL's tablespaces of several tables, which a dump refers to and does not make.
const SPACES: &str = "\
    SELECT name FROM information_schema.innodb_tablespaces \
    WHERE space_type = 'General' AND name <> 'mysql'";
/// MySQL's tables with files in directories of their own. A server that is told of none does not make them
/// at all, or makes them where its data is, and then not those that are replicated.
const OUTSIDE: &str = "\
    SELECT name FROM information_schema.innodb_tablespaces_brief \
    WHERE path NOT LIKE './%' AND INSTR(name, '/') > 0 ORDER BY name";
/// Columns with members of bytes that are no text, in whose place MariaDB prints a question mark. MySQL does
/// not make them.
const UNPRINTABLE: &str = "\
    SELECT CONCAT(table_schema, '.', table_name, '.', column_name) FROM information_schema.columns \
    WHERE data_type IN ('enum', 'set') AND character_set_name = 'binary' \
      AND INSTR(column_type, '?') > 0 \
      AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";
/// MariaDB's tables with system versions, and whether these are numbered by its transactions.
const VERSIONED: &str = "\
    SELECT CONCAT(t.table_schema, '.', t.table_name), COUNT(c.column_name) \
    FROM information_schema.tables t LEFT JOIN information_schema.columns c \
      ON c.table_schema = t.table_schema AND c.table_name = t.table_name \
         AND c.generation_expression = 'ROW START' AND c.data_type = 'bigint' \
    WHERE t.table_type = 'SYSTEM VERSIONED' GROUP BY 1 ORDER BY 1";
/// The first MariaDB whose client dumps history.
const DUMPS_HISTORY: [u32; 2] = [10, 11];
/// The first MariaDB whose client is known to dump events with any text.
const DUMPS_EVENTS: [u32; 2] = [11, 8];
/// So many are named.
const NAMED: usize = 10;
/// The number of an error about a table that is not there.
const NO_TABLE: u16 = 1146;

/// Fails if there are views that cannot be used, and so not be dumped, since what they refer to is gone, or
/// the rights on it: they would end the dump after hours, one at a time. The client asks the same of each.
fn check_views(session: &mut Session) -> std::result::Result<Option<String>, Trouble> {
    let mut broken = Vec::new();
    for view in session.query(VIEWS)?.iter().map(name) {
        for question in ["SHOW CREATE TABLE", "SHOW FIELDS FROM"] {
            match session.query(&format!("{question} {}", view.quoted())) {
                Ok(_) => {}
                // It was dropped meanwhile.
                Err(Trouble::Server { errno: NO_TABLE, text })
                    if text.contains(&format!("{}.{}", view.schema, view.name)) => {}
                Err(Trouble::Server { .. }) => {
                    broken.push(view.to_string());
                    break;
                }
                Err(lost) => return Err(lost),
            }
        }
    }
    Ok(named(broken).map(|views| {
        format!(
            "a dump would fail at {views}: what such a view refers to is missing, or its definer, or the \
             account lacks EXECUTE on a function in it; mend or drop each on the primary, or copy the \
             data directory (--from dir:PATH, or clone on MySQL)"
        )
    }))
}

/// Fails if there are events with `;;` in their text: MySQL's client and older ones of MariaDB look for a
/// longer delimiter for such an event, never make it longer, and look for ever.
fn check_events(
    session: &mut Session,
    facts: &Facts,
) -> std::result::Result<Option<String>, Trouble> {
    let version = Version::parse(&facts.version);
    if facts.flavor == Flavor::MariaDb
        && version.is_some_and(|v| v.series() >= DUMPS_EVENTS.as_slice())
    {
        return Ok(None);
    }
    let mut endless = Vec::new();
    for event in session.query(EVENTS)?.iter().map(name) {
        match session.query(&format!("SHOW CREATE EVENT {}", event.quoted())) {
            Ok(made) if made.require("Create Event").is_ok_and(|text| text.contains(";;")) => {
                endless.push(event.to_string());
            }
            // Dropped meanwhile, or one that the client cannot read either, and says so.
            Ok(_) | Err(Trouble::Server { .. }) => {}
            Err(lost) => return Err(lost),
        }
    }
    Ok(named(endless).map(|events| {
        format!(
            "a dump would never end at the event {events}: the client looks for ever for a delimiter \
             where the text of an event has ;; in it; write it otherwise on the primary, or copy the \
             data directory (--from dir:PATH, or clone on MySQL)"
        )
    }))
}

fn check_schemas(found: &Rows) -> Result<()> {
    let Some(schemas) = named(firsts(found)) else { return Ok(()) };
    Err(Error::config(format!(
        "a dump would fail at the schema {}: the client cannot dump one with a quote, a backslash or a \
         line break in its name; use --from dir:PATH, or clone on MySQL",
        harmless(&schemas)
    )))
}

fn check_like_own(found: &Rows) -> Result<()> {
    let Some(schemas) = named(firsts(found)) else { return Ok(()) };
    Err(Error::config(format!(
        "a dump would leave out the schema {}, whose name is like one of the server's own: use --from \
         dir:PATH, or clone on MySQL",
        harmless(&schemas)
    )))
}

fn check_spaces(found: &Rows) -> Result<()> {
    let Some(spaces) = named(firsts(found)) else { return Ok(()) };
    Err(Error::config(format!(
        "a dump would not bring the tablespace of several tables {spaces}: use --from clone, or \
         --from dir:PATH"
    )))
}

fn check_outside(found: &Rows) -> Result<()> {
    let Some(tables) = named(firsts(found)) else { return Ok(()) };
    Err(Error::config(format!(
        "a dump cannot bring {}, which the primary has outside its data directory (DATA DIRECTORY), and no \
         backup would hold: move it back there",
        harmless(&tables)
    )))
}

fn check_members(found: &Rows) -> Result<()> {
    let Some(columns) = named(firsts(found)) else { return Ok(()) };
    Err(Error::config(format!(
        "a dump would change the members of {}, which are not text but of the character set binary: \
         use --from dir:PATH",
        harmless(&columns)
    )))
}

/// Fails if the client would fail, which is to be found out before it begins.
///
/// # Errors
/// [`Error::Configuration`] naming views, events or schemas; those of any query to the primary.
pub fn check_names(primary: &Primary, facts: &Facts) -> Result<()> {
    let mut session = primary.open(facts)?;
    let refused = |t| refused(&facts.address, t);
    session.set_timeout(primary.listing);
    // As the client has it: a view may depend on the collation of who looks at it.
    session.run("SET NAMES utf8mb4").map_err(refused)?;
    check_schemas(&session.query(SCHEMAS).map_err(refused)?)?;
    check_like_own(&session.query(LIKE_OWN).map_err(refused)?)?;
    if facts.flavor == Flavor::MariaDb {
        check_members(&session.query(UNPRINTABLE).map_err(refused)?)?;
    }
    bodies::check(&mut session, facts.flavor).map_err(refused)??;
    let events = check_events(&mut session, facts).map_err(refused)?;
    let found = events.or(check_views(&mut session).map_err(refused)?);
    found.map_or(Ok(()), |text| Err(Error::config(text)))
}

/// Whether a dump must bring history.
///
/// # Errors
/// [`Error::Configuration`] naming the tables whose history it cannot bring.
pub fn check_versions(primary: &Primary, facts: &Facts) -> Result<bool> {
    if facts.flavor == Flavor::MySql {
        return Ok(false);
    }
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let rows = session.query(VERSIONED).map_err(|t| refused(&facts.address, t))?;
    let old = Version::parse(&facts.version).is_none_or(|v| v.series() < DUMPS_HISTORY.as_slice());
    let lost = rows.iter().filter(|r| old || r[1] != "0").map(|r| r[0].to_string()).collect();
    match named(lost) {
        None => Ok(rows.iter().next().is_some()),
        Some(tables) => Err(Error::config(format!(
            "a dump would lose the history of the system-versioned table {tables}, which {}: use \
             --from dir:PATH",
            if old { "this version cannot dump" } else { "is numbered by transactions" }
        ))),
    }
}

fn firsts(rows: &Rows) -> Vec<String> {
    rows.iter().map(|row| row[0].to_string()).collect()
}

/// The names, or the first of them; `None` if there are none.
fn named(names: Vec<String>) -> Option<String> {
    let more = names.len().saturating_sub(NAMED);
    let and = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| names[..names.len() - more].join(", ") + &and)
}

/// The tables of the primary.
///
/// # Errors
/// Those of any query to the primary.
pub fn list_primary(primary: &Primary, facts: &Facts) -> Result<Tables> {
    let mut session = primary.open(facts)?;
    let refused = |t| refused(&facts.address, t);
    session.set_timeout(primary.listing);
    let mut tables = list(&mut session, facts.flavor).map_err(refused)?;
    if facts.flavor == Flavor::MySql {
        check_spaces(&session.query(SPACES).map_err(refused)?)?;
        check_outside(&session.query(OUTSIDE).map_err(refused)?)?;
    }
    for name in session.query(CSV).map_err(refused)?.iter().map(name) {
        let sum = session.query(&format!("CHECKSUM TABLE {}", name.quoted())).map_err(refused)?;
        if let Some(table) = tables.get_mut(&name) {
            table.changed = format!("CSV {}", sum.require("Checksum")?);
        }
    }
    Ok(tables)
}

/// The tables of the private server, which opens each of them for that.
///
/// # Errors
/// Those of any query to it.
pub fn list_private(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    flavor: Flavor,
) -> Result<Tables> {
    let answer = ask_private(supervisor, mysqld, move |session| list(session, flavor))?;
    answer.map_err(|t| mysqld.lost("list of tables", t))
}

fn list(session: &mut Session, flavor: Flavor) -> std::result::Result<Tables, Trouble> {
    if flavor == Flavor::MySql {
        session.run(NO_CACHE)?;
    }
    session.query(LIST).map(collect)
}

fn collect(rows: Rows) -> Tables {
    let table = |r: &[&str]| Table { changed: r[2].to_string(), bytes: r[3].parse().unwrap_or(0) };
    rows.iter().map(|r| (TableName::new(r[0], r[1]), table(&r))).collect()
}

fn name(row: Vec<&str>) -> TableName {
    TableName::new(row[0], row[1])
}

/// Checks that `loaded` has every table that the primary had both `before` and `after` the dump,
/// and that none of those without a snapshot was written in between.
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
                 are dumped as of one moment: stop its writers and seed again"
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
        let name = |full: &str| TableName::new(&full[..1], &full[2..]);
        list.iter().map(|(t, c)| (name(t), table(c))).collect()
    }

    #[test]
    fn missing_and_changed_tables_are_named() {
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
