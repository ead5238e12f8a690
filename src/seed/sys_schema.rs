//! What users have put into the schema `sys`, which no client dumps.
//!
//! The changes that they make there later are in the binary log all the same, and what these refer to would
//! be missed. So the rows of the server's own table there are carried, and all else is named. The schema
//! that a server makes by itself differs by version: what belongs to it is told from what was added by what
//! a fresh server has, and by the account that it acts for.
//!
//! The clients take a schema `SYS` for `sys`, whether or not the server does.

use std::collections::BTreeSet;

use crate::compare::definitions::SAME;
use crate::compare::names::{TableName, some_of};
use crate::compare::sessions::ask_private;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::{Rows, Session, quoted};
use crate::mysql::trouble::Trouble;
use crate::mysql::version::Version;
use crate::replication::primary::{Facts, Primary, refused};
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::Supervisor;

const SYS: &str = "sys";
/// The one table that servers have there.
const CONFIG: &str = "sys_config";
/// Its triggers.
const TRIGGERS: [&str; 2] = ["sys_config_insert_set_user", "sys_config_update_set_user"];
/// For whom the servers' own views and routines there act.
const SERVER: [&str; 2] = ["mysql.sys@localhost", "mariadb.sys@localhost"];

/// The first MariaDB that has it. The clients dump one of an older server as any other schema.
const LEAVES_OUT: [u32; 2] = [10, 6];

/// Its columns; a NULL is not hexadecimal.
const ROWS: &str = "\
    SELECT IFNULL(HEX(CONVERT(variable USING utf8mb4)), '-'), \
           IFNULL(HEX(CONVERT(value USING utf8mb4)), '-'), \
           IFNULL(HEX(CONVERT(set_time USING utf8mb4)), '-'), \
           IFNULL(HEX(CONVERT(set_by USING utf8mb4)), '-') \
    FROM sys.sys_config ORDER BY 1";

/// What a primary has in its `sys`.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    objects: BTreeSet<Object>,
    /// The rows of `sys_config`; `None` if it has none that the account may read.
    rows: Option<Vec<String>>,
}

/// The kind of something there, and its name.
type Object = (String, TableName);

/// Reads what the primary has there.
///
/// # Errors
/// [`Error::Configuration`] naming what can only have been added; those of any query to the primary.
pub fn list(primary: &Primary, facts: &Facts) -> Result<Contents> {
    let version = Version::parse(&facts.version);
    if facts.flavor == Flavor::MariaDb
        && version.is_some_and(|v| v.series() < LEAVES_OUT.as_slice())
    {
        return Ok(Contents { objects: BTreeSet::new(), rows: None });
    }
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let read = session.run(SAME).and_then(|()| {
        let added = objects(&mut session, &ADDED)?.into_iter().filter(is_added).collect();
        Ok((added, objects(&mut session, &PERHAPS)?, rows(&mut session)))
    });
    let (added, objects, rows): (Vec<Object>, _, _) =
        read.map_err(|t| refused(&facts.address, t))?;
    if !added.is_empty() {
        return Err(lost(facts, &added));
    }
    let rows = match rows {
        Ok(rows) => Some(rows),
        // It was dropped, or is from before there was one.
        Err(Trouble::Server { errno: 1049 | 1146, .. }) => None,
        // One with other columns is named once those are compared.
        Err(Trouble::Server { errno, .. }) => {
            log::warn!(
                "sys.sys_config cannot be read (error {errno}): a dump will not hold changes of it"
            );
            None
        }
        Err(t) => return Err(refused(&facts.address, t)),
    };
    Ok(Contents { objects, rows })
}

/// Brings what can be brought to the fresh server, before anything else is loaded.
///
/// # Errors
/// [`Error::Configuration`] naming what it does not have by itself; those of any query to it.
pub fn carry(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    facts: &Facts,
    contents: &Contents,
) -> Result<()> {
    let answer = ask_private(supervisor, mysqld, all_objects)?;
    let fresh = answer.map_err(|t| mysqld.lost("list of what is in sys", t))?;
    let added: Vec<_> = contents.objects.difference(&fresh).cloned().collect();
    if !added.is_empty() {
        return Err(lost(facts, &added));
    }
    let Some(wanted) = contents.rows.clone() else { return Ok(()) };
    let answer = ask_private(supervisor, mysqld, move |session| {
        if rows(session)? == wanted {
            return Ok(true);
        }
        // They would write that it was us.
        session.run("SET @sys.ignore_sys_config_triggers = true")?;
        session.run("DELETE FROM sys.sys_config")?;
        let insert = "INSERT INTO sys.sys_config (variable, value, set_time, set_by) VALUES";
        for row in &wanted {
            session.run(&format!("{insert} ({row})"))?;
        }
        Ok(rows(session)? == wanted)
    })?;
    if answer.map_err(|t| mysqld.lost("change of sys.sys_config", t))? {
        return Ok(());
    }
    let text = "the rows of sys.sys_config could not be carried".into();
    Err(Error::ReplicationError { errno: 0, text })
}

/// Fails if it changed while the dump ran, which then may be of before or after.
///
/// # Errors
/// [`Error::ReplicationError`] for another dump; as [`list`].
pub fn check_unchanged(primary: &Primary, facts: &Facts, before: &Contents) -> Result<()> {
    if list(primary, facts)? == *before {
        return Ok(());
    }
    // That of a table whose definition has changed.
    let text = "the schema sys was changed while the dump ran".into();
    Err(Error::ReplicationError { errno: 1412, text })
}

/// Kind, name and for whom it acts of all that only users make there, but for the server's own table and
/// triggers.
const ADDED: [&str; 3] = [
    "SELECT table_schema, 'table', table_name, '' FROM information_schema.tables \
     WHERE table_type <> 'VIEW' AND table_schema = ",
    "SELECT trigger_schema, 'trigger', trigger_name, '' FROM information_schema.triggers \
     WHERE trigger_schema = ",
    "SELECT event_schema, 'event', event_name, '' FROM information_schema.events \
     WHERE event_schema = ",
];
/// The same of what a server may have by itself.
const PERHAPS: [&str; 3] = [
    "SELECT table_schema, 'column', CONCAT(table_name, '.', column_name), '' \
     FROM information_schema.columns WHERE table_name = 'sys_config' AND table_schema = ",
    "SELECT table_schema, 'view', table_name, definer FROM information_schema.views \
     WHERE table_schema = ",
    "SELECT routine_schema, LOWER(routine_type), routine_name, definer \
     FROM information_schema.routines WHERE routine_schema = ",
];

/// What `queries` say of each schema that a client takes for `sys`, without what acts for the server itself.
fn objects(session: &mut Session, queries: &[&str]) -> Result<BTreeSet<Object>, Trouble> {
    let by_users = |r: &Vec<&str>| !SERVER.contains(&r[3]);
    Ok(select(session, queries)?.iter().flat_map(Rows::iter).filter(by_users).map(object).collect())
}

/// All views and routines there.
fn all_objects(session: &mut Session) -> Result<BTreeSet<Object>, Trouble> {
    Ok(select(session, &PERHAPS)?.iter().flat_map(Rows::iter).map(object).collect())
}

fn select(session: &mut Session, queries: &[&str]) -> Result<Vec<Rows>, Trouble> {
    let schemas = session.query("SELECT schema_name FROM information_schema.schemata")?;
    let schemas = schemas.iter().filter(|row| row[0].eq_ignore_ascii_case(SYS));
    let mut found = Vec::new();
    for schema in schemas.map(|row| quoted(row[0])) {
        for query in queries {
            // A server that compares the name by a collation finds all of them for each.
            found.push(session.query(&format!("{query} {schema}"))?);
        }
    }
    Ok(found)
}

fn object(row: Vec<&str>) -> Object {
    (row[1].to_string(), TableName::new(row[0], row[2]))
}

/// True unless it is the server's own table or one of its triggers.
fn is_added((kind, name): &Object) -> bool {
    let own = match kind.as_str() {
        "table" => name.name == CONFIG,
        "trigger" => TRIGGERS.contains(&name.name.as_str()),
        _ => false,
    };
    !(own && name.schema == SYS)
}

/// The rows of `sys_config`, each as a list of literals.
fn rows(session: &mut Session) -> Result<Vec<String>, Trouble> {
    let literal = |value: &&str| match *value {
        "-" => "NULL".to_string(),
        hex => {
            let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
            format!("_utf8mb4 x'{digits}'")
        }
    };
    let row = |row: Vec<&str>| row.iter().map(literal).collect::<Vec<_>>().join(", ");
    Ok(session.query(ROWS)?.iter().map(row).collect())
}

fn lost(facts: &Facts, added: &[Object]) -> Error {
    let other = match facts.flavor {
        Flavor::MariaDb => "--from dir:PATH",
        Flavor::MySql => "--from clone or dir:PATH",
    };
    let names: Vec<_> = added.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    Error::config(format!(
        "a dump does not hold what was added to the schema sys of {}: {}; move it to another schema, or \
         use {other}",
        facts.address,
        some_of(&names)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_table_and_triggers_are_expected() {
        let added = |kind: &str, schema: &str, name: &str| {
            is_added(&(kind.to_string(), TableName::new(schema, name)))
        };
        assert!(!added("table", "sys", "sys_config"));
        assert!(!added("trigger", "sys", "sys_config_update_set_user"));
        assert!(added("table", "SYS", "sys_config"));
        assert!(added("table", "sys", "SYS_CONFIG"));
        assert!(added("trigger", "sys", "sys_config"));
        assert!(added("event", "sys", "sys_config"));
    }
}
