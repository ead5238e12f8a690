//! MySQL's histograms, which its client dumps neither as they are nor by default. A replica has them, since
//! the binary log has the statements that make them.

use crate::compare::names::{TableName, identifier};
use crate::compare::sessions::ask_private;
use crate::error::Result;
use crate::mysql::flavor::Flavor;
use crate::mysql::session::quoted;
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, refused};
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::Supervisor;

const HISTOGRAMS: &str = "\
    SELECT schema_name, table_name, column_name, CAST(histogram AS CHAR) \
    FROM information_schema.column_statistics WHERE schema_name <> 'mysql'";

/// The statements that make those of the primary.
///
/// # Errors
/// Those of any query to it.
pub fn statements(primary: &Primary, facts: &Facts) -> Result<Vec<String>> {
    if facts.flavor == Flavor::MariaDb {
        return Ok(Vec::new());
    }
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let found = session.query(HISTOGRAMS).map_err(|t| refused(&facts.address, t))?;
    let make = |r: Vec<&str>| {
        let (table, column) = (TableName::new(r[0], r[1]).quoted(), identifier(r[2]));
        format!("ANALYZE TABLE {table} UPDATE HISTOGRAM ON {column} USING DATA {}", quoted(r[3]))
    };
    Ok(found.iter().map(make).collect())
}

/// Runs them. One that the server does not take is not needed to find any row.
///
/// # Errors
/// A stop, or what became of the server.
pub fn make(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    statements: Vec<String>,
) -> Result<()> {
    if statements.is_empty() {
        return Ok(());
    }
    let answer = ask_private(supervisor, mysqld, move |session| {
        for statement in &statements {
            match session.query(statement) {
                Ok(_) | Err(Trouble::Server { .. }) => {}
                Err(lost) => return Err(lost),
            }
        }
        Ok(())
    })?;
    answer.map_err(|t| mysqld.lost("histograms", t))
}
