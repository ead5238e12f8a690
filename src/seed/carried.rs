//! Which tables our own sessions carry past the dumping client: those that it may change, and those that
//! it leaves out with them.
//!
//! The client is told what to leave out by names of the form `schema.table`, as one text, and compares
//! them by latin1_swedish_ci, whatever the server does: `a.T` is also `a.t`, and table `c` of a schema
//! `a.b` is also table `b.c` of schema `a`. MariaDB's information_schema compares by a collation, too, so
//! rows are matched here, and no statement may have DISTINCT, GROUP BY or a join in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::names::{TableName, identifier, some_of};
use crate::error::{Error, Result};
use crate::mysql::session::Rows;
use crate::replication::primary::{Facts, Primary, refused};

/// Columns that a client may change, unless they are computed; and those that count, which it does not
/// load into an ARCHIVE table: schema, table, and whether it counts.
const COLUMNS: &str = "\
    SELECT table_schema, table_name, \
           NOT (data_type IN ('float', 'double') \
                OR data_type = 'enum' AND column_type REGEXP '[(,]''''[,)]' \
                OR COALESCE(character_set_name, 'utf8mb4') NOT IN ('utf8mb4', 'utf8mb3', 'utf8', \
                   'ucs2', 'utf16', 'utf16le', 'utf32', 'latin1', 'ascii')) \
    FROM information_schema.columns \
    WHERE (data_type IN ('float', 'double') \
           OR data_type = 'enum' AND column_type REGEXP '[(,]''''[,)]' \
           OR character_set_name NOT IN ('utf8mb4', 'utf8mb3', 'utf8', 'ucs2', 'utf16', \
              'utf16le', 'utf32', 'latin1', 'ascii') \
           OR extra = 'auto_increment') \
      AND COALESCE(generation_expression, '') = '' \
      AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";

/// All that a client looks at.
const TABLES: &str = "\
    SELECT table_schema, table_name, table_type, engine FROM information_schema.tables \
    WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'sys')";

const TRIGGERS: &str = "\
    SELECT event_object_schema, event_object_table FROM information_schema.triggers";

/// Engines without rows of their own.
const ELSEWHERE: [&str; 6] =
    ["MRG_MyISAM", "FEDERATED", "CONNECT", "BLACKHOLE", "SPIDER", "SEQUENCE"];

/// A table to be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// It has triggers, which the dumping client leaves out, too.
    pub triggers: bool,
    /// It has system versions, which are rows of their own.
    pub versioned: bool,
}

impl Table {
    /// As the dumping clients have it in options.
    pub fn full(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// For a statement.
    pub fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }
}

/// What a server says of something that has columns.
struct Kind {
    kind: String,
    engine: String,
}

impl Kind {
    /// True if our sessions can copy it.
    fn has_rows(&self, name: &TableName) -> bool {
        matches!(self.kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED")
            && name.schema != "mysql"
            && !ELSEWHERE.iter().any(|engine| engine.eq_ignore_ascii_case(&self.engine))
    }
}

/// The tables of the primary that are to be carried, in order.
///
/// # Errors
/// [`Error::Configuration`] if what cannot be carried would be left out with one of them; those of any
/// query to the primary.
pub fn list(primary: &Primary, facts: &Facts) -> Result<Vec<Table>> {
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let mut ask = |sql: &str| session.query(sql).map_err(|t| refused(&facts.address, t));
    let columns = ask(COLUMNS)?;
    if columns.iter().next().is_none() {
        return Ok(Vec::new());
    }
    let tables = ask(TABLES)?;
    let kind = |r: &[&str]| Kind { kind: r[2].to_string(), engine: r[3].to_string() };
    let tables = tables.iter().map(|r| (TableName::new(r[0], r[1]), kind(&r))).collect();
    let chosen = choose(&columns, &tables)?;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let triggers = ask(TRIGGERS)?;
    let triggers: BTreeSet<_> = triggers.iter().map(|r| TableName::new(r[0], r[1])).collect();
    let table = |name: &TableName| Table {
        schema: name.schema.clone(),
        name: name.name.clone(),
        triggers: triggers.contains(name),
        versioned: tables[name].kind == "SYSTEM VERSIONED",
    };
    Ok(chosen.into_iter().map(table).collect())
}

fn choose<'a>(columns: &Rows, tables: &'a BTreeMap<TableName, Kind>) -> Result<Vec<&'a TableName>> {
    let may_change = |r: &[&str]| {
        let name = TableName::new(r[0], r[1]);
        let kind = tables.get(&name)?;
        let counts = r[2] == "1";
        let may = kind.has_rows(&name) && (!counts || kind.engine.eq_ignore_ascii_case("ARCHIVE"));
        may.then(|| option(&name))
    };
    let options: BTreeSet<_> = columns.iter().filter_map(|r| may_change(&r)).collect();
    let with_them = tables.iter().filter(|(name, _)| options.contains(&option(name)));
    let (chosen, others): (Vec<_>, Vec<_>) =
        with_them.partition(|(name, kind)| kind.has_rows(name));
    let names = |found: Vec<(&'a TableName, _)>| found.into_iter().map(|(name, _)| name).collect();
    let (chosen, others): (Vec<_>, Vec<_>) = (names(chosen), names(others));
    if others.is_empty() {
        return Ok(chosen);
    }
    Err(Error::config(format!(
        "a dump would leave out {}, a name that the client takes for that of another table, which it \
         must leave out: it knows neither case nor where the name of a schema ends; rename one of them \
         on the primary, or copy the data directory (--from dir:PATH, or clone on MySQL)",
        some_of(&others)
    )))
}

/// What the clients see of a name: equal for those that they do not tell apart.
fn option(name: &TableName) -> Vec<u8> {
    let full = format!("{}.{}", name.schema, name.name);
    // Bytes of UTF-8, which they take for latin1. Those after the first of a character stay as they are.
    let weight = |byte: u8| match byte {
        0x00..0xc0 => byte.to_ascii_lowercase(),
        _ => match byte & !0x20 {
            0xc0..=0xc3 => 0xc0,
            0xc4 | 0xc6 => 0xc4,
            0xc8..=0xcb => 0xc8,
            0xcc..=0xcf => 0xcc,
            0xd2..=0xd5 => 0xd2,
            0xd9..=0xdb => 0xd9,
            0xdc | 0xdd => 0xdc,
            other => other,
        },
    };
    full.bytes().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_do_not_tell_apart_are_equal() {
        let same = |a: (&str, &str), b: (&str, &str)| {
            option(&TableName::new(a.0, a.1)) == option(&TableName::new(b.0, b.1))
        };
        assert!(same(("a", "T"), ("A", "t")));
        assert!(same(("a.b", "c"), ("a", "b.C")));
        assert!(same(("a", "é"), ("a", "©")));
        for (a, b) in [("é", "e"), ("é", "É"), ("ß", "s"), ("t", "u"), ("[", "Ä")] {
            assert!(!same(("a", a), ("a", b)), "{a} {b}");
        }
    }
}
