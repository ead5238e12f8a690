//! MySQL's JSON values of types that their text does not tell: a dump would change them.
//!
//! `JSON_OBJECT('since', a_datetime)` stores a DATETIME, which comes out of a dump as a string; a DECIMAL
//! comes out as a DOUBLE, bytes as a base64 text. Of integers, text from 0 on is signed up to 32 bits and
//! unsigned above, while functions store what they are given.

use std::time::{Duration, Instant};

use crate::compare::names::identifier;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, refused};
use crate::text::harmless;

/// How long tables are searched for such values, in all.
const SEARCH: Duration = Duration::from_secs(120);
/// The number of a statement that took longer than it was allowed to.
const TOO_LONG: u16 = 3024;
/// The largest integer that text gives as a signed one.
const LARGEST_SIGNED: u32 = u32::MAX;

const COLUMNS: &str = "\
    SELECT c.table_schema, c.table_name, c.column_name \
    FROM information_schema.columns c JOIN information_schema.tables t \
      ON t.table_schema = c.table_schema AND t.table_name = c.table_name \
    WHERE c.data_type = 'json' AND COALESCE(c.generation_expression, '') = '' \
      AND t.table_type = 'BASE TABLE' AND t.engine NOT IN ('FEDERATED', 'MRG_MYISAM', 'BLACKHOLE') \
      AND c.table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') \
    ORDER BY t.data_length";

/// Fails if there are such values, as far as a short search finds them.
///
/// # Errors
/// [`Error::Configuration`] naming the column; those of any query to the primary.
pub fn check(primary: &Primary, facts: &Facts) -> Result<()> {
    if facts.flavor == Flavor::MariaDb {
        return Ok(());
    }
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let refused = |t| refused(&facts.address, t);
    let until = Instant::now() + SEARCH;
    for row in session.query(COLUMNS).map_err(refused)?.iter() {
        let column = format!("{}.{}.{}", row[0], row[1], row[2]);
        let left = until.saturating_duration_since(Instant::now()).as_millis().max(1);
        // Our own limit comes after the server's.
        session.set_timeout(SEARCH * 2);
        match session.query(&search(row[0], row[1], row[2], left)) {
            Ok(rows) if rows.first().is_empty() => {}
            Ok(_) => {
                return Err(Error::config(format!(
                    "a dump would change JSON values of {column}, which holds types that their text \
                     does not tell (DECIMAL, DATETIME, bytes, signed or unsigned integers): use --from clone, \
                     or --from dir:PATH"
                )));
            }
            Err(Trouble::Server { errno: TOO_LONG, .. }) => log::warn!(
                "{}: not searched to its end for JSON values that a dump would change; --from clone \
                 brings any",
                harmless(&column)
            ),
            Err(t) => return Err(refused(t)),
        }
    }
    Ok(())
}

fn search(schema: &str, table: &str, column: &str, milliseconds: u128) -> String {
    let column = format!("t.{}", identifier(column));
    let other = |value: &str| {
        format!(
            "(JSON_TYPE({value}) NOT IN ('OBJECT', 'ARRAY', 'STRING', 'INTEGER', 'UNSIGNED INTEGER', \
             'DOUBLE', 'BOOLEAN', 'NULL') OR JSON_TYPE({value}) = 'UNSIGNED INTEGER' \
             AND {value} <= CAST({LARGEST_SIGNED} AS JSON) OR JSON_TYPE({value}) = 'INTEGER' \
             AND {value} > CAST({LARGEST_SIGNED} AS JSON))"
        )
    };
    let inside = |path: &str| {
        format!(
            "EXISTS (SELECT 1 FROM JSON_TABLE({column}, '{path}' COLUMNS (v JSON PATH '$')) AS x \
             WHERE {})",
            other("x.v")
        )
    };
    format!(
        "SELECT /*+ MAX_EXECUTION_TIME({milliseconds}) */ 1 FROM {}.{} AS t \
         WHERE {} OR {} OR {} LIMIT 1",
        identifier(schema),
        identifier(table),
        other(&column),
        inside("$**.*"),
        inside("$**[*]")
    )
}
