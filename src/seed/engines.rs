//! Storage engines that tables of the primary have and the private server lacks.
//!
//! In the sql_mode of a dump, a server makes a table of its default engine in place of one that it does not
//! have, and says so in a warning that no client shows.

use crate::compare::names::{TableName, some_of};
use crate::compare::sessions::ask_private;
use crate::error::{Error, Result};
use crate::replication::primary::{Facts, Primary, refused};
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::Supervisor;

/// Tables of engines that a server may lack.
const USED: &str = "\
    SELECT table_schema, table_name, engine FROM information_schema.tables \
    WHERE engine <> 'InnoDB' \
      AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";

/// Tables with their engines.
pub type Engines = Vec<(TableName, String)>;

/// Those of the primary's tables.
///
/// # Errors
/// Those of any query to it.
pub fn list(primary: &Primary, facts: &Facts) -> Result<Engines> {
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let rows = session.query(USED).map_err(|t| refused(&facts.address, t))?;
    Ok(rows.iter().map(|r| (TableName::new(r[0], r[1]), r[2].to_string())).collect())
}

/// Checks that the fresh server has all of them.
///
/// # Errors
/// [`Error::Configuration`] naming what it lacks; those of any query to it.
pub fn check(supervisor: &mut Supervisor, mysqld: &mut Mysqld, used: &Engines) -> Result<()> {
    let answer = ask_private(supervisor, mysqld, |session| {
        let rows = session.query("SHOW ENGINES")?;
        let has = rows.iter().filter(|r| matches!(r[1], "YES" | "DEFAULT"));
        Ok(has.map(|r| r[0].to_string()).collect::<Vec<_>>())
    })?;
    let has = answer.map_err(|t| mysqld.lost("list of engines", t))?;
    let lacks = |engine: &str| !has.iter().any(|name| name.eq_ignore_ascii_case(engine));
    let Some((_, engine)) = used.iter().find(|(_, engine)| lacks(engine)) else { return Ok(()) };
    let tables = used.iter().filter(|(_, of)| of == engine);
    let tables: Vec<_> = tables.map(|(name, _)| name.to_string()).collect();
    Err(Error::config(format!(
        "a dump would give {} another engine, since --mysqld does not have {engine}: have it load the \
         plugin, as with --mysqld-option=--plugin-load-add=NAME, or switch it on, as with \
         --mysqld-option=--federated",
        some_of(&tables)
    )))
}
