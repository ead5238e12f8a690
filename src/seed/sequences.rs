//! The sequences of a primary, made before all tables of a dump.
//!
//! The default of a column may take its value from a sequence of any schema, and the client makes those of
//! a schema before its tables, one schema after the other. So all of them are made first, as anything:
//! the dump makes each again as it is. They are listed once the dump has its moment. What is dropped after
//! that is dropped here by replication, so none stays that the primary has not.

use crate::compare::names::{TableName, identifier};
use crate::error::Result;
use crate::mysql::flavor::Flavor;
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, refused};
use crate::server::mysqld::Mysqld;

/// All that the client dumps.
const SEQUENCES: &str = "\
    SELECT table_schema, table_name FROM information_schema.tables \
    WHERE table_type = 'SEQUENCE' AND table_schema <> 'sys' ORDER BY table_schema, table_name";
/// "Unknown database" of the servers' error references.
const NO_SCHEMA: u16 = 1049;

/// The names of all of them.
///
/// # Errors
/// Those of any query to the primary.
pub fn names(primary: &Primary, facts: &Facts) -> Result<Vec<TableName>> {
    if facts.flavor == Flavor::MySql {
        return Ok(Vec::new());
    }
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let found = session.query(SEQUENCES).map_err(|t| refused(&facts.address, t))?;
    Ok(found.iter().map(|row| TableName::new(row[0], row[1])).collect())
}

/// The statements that make them, and the schemas they are in.
///
/// # Errors
/// Those of any query to the primary.
pub fn statements(primary: &Primary, facts: &Facts) -> Result<Vec<String>> {
    let names = names(primary, facts)?;
    let mut session = primary.open(facts)?;
    let mut statements = Vec::new();
    for of_schema in names.chunk_by(|a, b| a.schema == b.schema) {
        let schema = identifier(&of_schema[0].schema);
        let make = match session.query(&format!("SHOW CREATE DATABASE IF NOT EXISTS {schema}")) {
            Ok(make) => make,
            // It was dropped meanwhile.
            Err(Trouble::Server { errno: NO_SCHEMA, .. }) => continue,
            Err(t) => return Err(refused(&facts.address, t)),
        };
        statements.push(make.require("Create Database")?.to_string());
        let make = |name: &TableName| format!("CREATE SEQUENCE {} ENGINE=InnoDB", name.quoted());
        statements.extend(of_schema.iter().map(make));
    }
    Ok(statements)
}

/// Runs them on the fresh server.
///
/// # Errors
/// As those of [`Mysqld::run`].
pub fn make(mysqld: &mut Mysqld, statements: &[String]) -> Result<()> {
    statements.iter().try_for_each(|statement| mysqld.run(statement))
}
