//! The session that a dumping client gets from a primary.
//!
//! A primary runs its init_connect for each account without SUPER or CONNECTION ADMIN, and has limits for
//! all: a client that is shown only so many rows of each table would dump so many, and not know it. What
//! the client does not set by itself, MySQL's can be told to; MariaDB's cannot, so that is looked at before.

use crate::compare::names::TableName;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::Session;
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, SHOW_KEYS, refused};
use crate::text::{harmless, plain};

/// What there is to ask of such a session: the most rows, and the character set of the names that a client
/// asks for, which it writes as UTF-8.
const ASKED: &str =
    "SELECT @@session.sql_select_limit AS most, @@session.character_set_client AS charset";
/// Whether a query that may look at many rows is refused, as it is with a max_join_size.
const SELECTS: &str = "SELECT @@session.sql_big_selects";
/// The most rows of those who have no limit.
const UNLIMITED: &str = "18446744073709551615";
/// In these every name is what the client takes it for: names have no characters beyond utf8mb3.
const UNICODE: [&str; 3] = ["utf8mb4", "utf8mb3", "utf8"];

/// Tables and columns of the information schema that have the names a client asks for.
const NAMES: [(&str, &str, &str); 6] = [
    ("schemata", "schema_name", "''"),
    ("tables", "table_schema", "table_name"),
    ("columns", "table_name", "column_name"),
    ("routines", "routine_schema", "routine_name"),
    ("triggers", "trigger_schema", "trigger_name"),
    ("events", "event_schema", "event_name"),
];

/// The option of MySQL's client for what it must set first: names and text pass as they are, no row is left
/// out, keys that the server makes by itself are shown, and no query is cut off (MariaDB's sees to that).
/// Older clients lack the option, so only where it is needed.
///
/// # Errors
/// [`Error::Configuration`] for what MariaDB's would have to set; those of any query to the primary.
pub fn begins_with(primary: &Primary, facts: &Facts) -> Result<Option<String>> {
    let refused = |t| refused(&facts.address, t);
    let mut session = primary.open_as_it_is(facts)?;
    let rows = session.query(ASKED).map_err(refused)?;
    let (most, charset) = (rows.require("most")?, rows.require("charset")?);
    let (limited, unicode) = (most != UNLIMITED, UNICODE.contains(&charset));
    if facts.flavor == Flavor::MariaDb {
        if limited {
            return Err(cut_short(facts, most));
        }
        session.set_timeout(primary.listing);
        if let Some(name) = too_large(&mut session).map_err(refused)? {
            return Err(cut_off(facts, &name));
        }
        let name = if unicode { None } else { foreign_name(&mut session).map_err(refused)? };
        return name.map_or(Ok(None), |name| Err(misread(facts, &name, charset)));
    }
    let mut settings: Vec<String> = Vec::new();
    settings.extend((!unicode).then(|| "NAMES utf8mb4".into()));
    settings.extend(limited.then(|| format!("SESSION sql_select_limit = {UNLIMITED}")));
    if hides_keys(&mut session).map_err(refused)? {
        settings.push(format!("SESSION {SHOW_KEYS}"));
    }
    let limit = session.query("SELECT @@session.max_execution_time").map_err(refused)?;
    settings.extend((limit.first() != "0").then(|| "SESSION max_execution_time = 0".into()));
    let selects = session.query(SELECTS).map_err(refused)?;
    settings.extend((selects.first() == "0").then(|| "SESSION sql_big_selects = 1".into()));
    let settings = settings.join(", ");
    Ok((!settings.is_empty()).then(|| format!("--init-command=SET {settings}")))
}

/// Whether it is not shown the keys that MySQL makes by itself.
fn hides_keys(session: &mut Session) -> std::result::Result<bool, Trouble> {
    let shown = "SELECT @@session.show_gipk_in_create_table_and_information_schema";
    match session.query(shown) {
        Ok(rows) => Ok(rows.first() == "0"),
        // An older one does not know of them.
        Err(Trouble::Server { .. }) => Ok(false),
        Err(lost) => Err(lost),
    }
}

/// The name of a table that the session may not read as a whole.
fn too_large(session: &mut Session) -> std::result::Result<Option<String>, Trouble> {
    if session.query(SELECTS)?.first() != "0" {
        return Ok(None);
    }
    // The list may be too long for it as well.
    session.run("SET SESSION sql_big_selects = 1")?;
    let found = session.query(
        "SELECT table_schema, table_name FROM information_schema.tables \
         WHERE table_rows > @@session.max_join_size AND table_type <> 'SYSTEM VIEW' \
         AND table_schema NOT IN ('information_schema', 'performance_schema') LIMIT 1",
    )?;
    Ok(found.iter().next().map(|row| TableName::new(row[0], row[1]).to_string()))
}

/// The name of something that is not in ASCII.
fn foreign_name(session: &mut Session) -> std::result::Result<Option<String>, Trouble> {
    // The names are to arrive as they are, and so are ours.
    session.run("SET NAMES utf8mb4")?;
    for (table, schema, name) in NAMES {
        let text = format!("CONCAT({schema}, {name})");
        let found = session.query(&format!(
            "SELECT {schema}, {name} FROM information_schema.{table} \
             WHERE LENGTH({text}) <> CHAR_LENGTH({text}) LIMIT 1"
        ))?;
        let first = found.iter().next().map(|row| TableName::new(row[0], row[1]).to_string());
        if let Some(first) = first {
            return Ok(Some(first.trim_end_matches('.').to_string()));
        }
    }
    Ok(None)
}

/// What to do about it.
const REMEDY: &str = "or grant the account CONNECTION ADMIN, for which init_connect is not run, or use \
    --from dir:PATH";

fn cut_short(facts: &Facts, most: &str) -> Error {
    Error::config(format!(
        "a dump would have no more than {} rows of each table, the sql_select_limit that {} gives its \
         sessions by a global setting or by init_connect, and mariadb-dump cannot lift it: set it to \
         DEFAULT there, {REMEDY}",
        plain(most),
        facts.address
    ))
}

fn cut_off(facts: &Facts, name: &str) -> Error {
    Error::config(format!(
        "a dump would fail at {}, which has more rows than the max_join_size that {} gives its sessions by \
         a global setting or by init_connect, and mariadb-dump cannot lift it: set it to DEFAULT there, \
         {REMEDY}",
        harmless(name),
        facts.address
    ))
}

fn misread(facts: &Facts, name: &str, charset: &str) -> Error {
    Error::config(format!(
        "a dump would fail at {}: {} takes the names that mariadb-dump asks for as {}, which is set by \
         init_connect or skip-character-set-client-handshake there: have it set utf8mb4, {REMEDY}",
        harmless(name),
        facts.address,
        plain(charset)
    ))
}
