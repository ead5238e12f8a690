//! MySQL's schemas that are read-only: a dump shows that in a comment only.

use crate::compare::names::identifier;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, refused};
use crate::server::mysqld::Mysqld;

const READ_ONLY: &str = "\
    SELECT schema_name FROM information_schema.schemata_extensions WHERE options LIKE '%READ ONLY=1%'";
/// "Unknown table": before 8.0.22 there is no such option.
const UNKNOWN_TABLE: u16 = 1109;
/// It was dropped after the dump, which the binary log says, too.
const UNKNOWN_SCHEMA: u16 = 1049;

/// The primary's read-only schemas, in order.
///
/// # Errors
/// Those of any query to the primary.
pub fn schemas(primary: &Primary, facts: &Facts) -> Result<Vec<String>> {
    if facts.flavor == Flavor::MariaDb {
        return Ok(Vec::new());
    }
    match primary.open(facts)?.query(READ_ONLY) {
        Ok(rows) => Ok(rows.iter().map(|row| row[0].to_string()).collect()),
        Err(Trouble::Server { errno: UNKNOWN_TABLE, .. }) => Ok(Vec::new()),
        Err(trouble) => Err(refused(&facts.address, trouble)),
    }
}

/// Makes these read-only. An applier may still write to them.
///
/// # Errors
/// The private server's.
pub fn make(mysqld: &mut Mysqld, schemas: &[String]) -> Result<()> {
    for schema in schemas {
        match mysqld.run(&format!("ALTER DATABASE {} READ ONLY = 1", identifier(schema))) {
            Err(Error::ReplicationError { errno: UNKNOWN_SCHEMA, .. }) => {}
            done => done?,
        }
    }
    Ok(())
}
