//! Rows that no backup will hold, said while there is still time to choose.

use crate::compare::names::{TableName, some_of};
use crate::error::Result;
use crate::mysql::flavor::Flavor;
use crate::replication::primary::{Facts, Primary, refused};
use crate::seed::tables::NO_CACHE;

const WITH_ROWS: &str = "\
    SELECT table_schema, table_name FROM information_schema.tables \
    WHERE engine = 'MEMORY' AND table_type = 'BASE TABLE' AND table_rows > 0 \
      AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";

/// Warns of MEMORY tables with rows: each start of a server empties them, and each pass starts one.
///
/// # Errors
/// Those of any query to the primary.
pub fn warn(primary: &Primary, facts: &Facts) -> Result<()> {
    let refused = |t| refused(&facts.address, t);
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    if facts.flavor == Flavor::MySql {
        session.run(NO_CACHE).map_err(refused)?;
    }
    let found = session.query(WITH_ROWS).map_err(refused)?;
    let mut found: Vec<_> = found.iter().map(|r| TableName::new(r[0], r[1])).collect();
    found.sort();
    if !found.is_empty() {
        log::warn!(
            "no backup will hold the rows of MEMORY tables, here {}: each pass fails with error 1032 once the primary \
             has changed one of them and logged that by row; give them another engine",
            some_of(&found)
        );
    }
    Ok(())
}
