//! `--tables`: which files of a backup some tables need, with those of the server itself. Pure.
//!
//! A schema is a directory, and a table is the files in it that begin with its name.

use std::path::{Component, Path};

use crate::compare::names::TableName;
use crate::error::{Error, Result};
use crate::mysql::file_names::encoded;
use crate::repository::held::Held;
use crate::repository::manifest::FileEntry;

/// Schemas of the server's own.
const SYSTEM: [&str; 4] = ["mysql", "sys", "performance_schema", "information_schema"];

/// Reads `DB.TABLE[,...]`. Names with a dot, a comma or a backtick are written in backticks, as in SQL.
///
/// # Errors
/// Says what is wrong.
pub fn parse(text: &str) -> Result<Vec<TableName>, String> {
    let mut rest = text.chars().peekable();
    let mut tables = Vec::new();
    loop {
        let schema = name(&mut rest);
        let dot = rest.next();
        let table = name(&mut rest);
        if dot != Some('.') || schema.is_empty() || table.is_empty() {
            return Err(format!("malformed list of tables '{text}': DB.TABLE[,DB.TABLE...]"));
        }
        tables.push(TableName { schema, name: table });
        match rest.next() {
            None => return Ok(tables),
            Some(',') => {}
            Some(_) => return Err(format!("malformed list of tables '{text}'")),
        }
    }
}

fn name(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut name = String::new();
    if rest.next_if_eq(&'`').is_none() {
        while let Some(c) = rest.next_if(|c| !matches!(c, '.' | ',' | '`')) {
            name.push(c);
        }
        return name;
    }
    while let Some(c) = rest.next() {
        if c == '`' && rest.next_if_eq(&'`').is_none() {
            break;
        }
        name.push(c);
    }
    name
}

/// The backup without the files of all tables but `tables`.
///
/// # Errors
/// [`Error::NoBackup`], which names a table that the backup does not have.
pub fn only(held: &Held, tables: &[TableName]) -> Result<Held> {
    let settings = &held.manifest.header.settings;
    let folds =
        settings.iter().any(|(name, value)| name == "lower_case_table_names" && value != "0");
    let mut wanted: Vec<Wanted<'_>> =
        tables.iter().map(|table| Wanted::new(table, folds)).collect();
    let mut keep = |file: &FileEntry| {
        let mut parts = file.path.components();
        let (Some(Component::Normal(schema)), Some(Component::Normal(name)), None) =
            (parts.next(), parts.next(), parts.next())
        else {
            // Of the server: at the top, or deeper than any table.
            return true;
        };
        let (schema, name) = (schema.to_string_lossy(), name.to_string_lossy());
        if SYSTEM.contains(&&*schema) || schema.starts_with('#') {
            return true;
        }
        let here: Vec<&mut Wanted<'_>> = wanted.iter_mut().filter(|w| w.schema == schema).collect();
        let serves_all = is_shared(&name);
        let mut keep = name == "db.opt" || (serves_all && !here.is_empty());
        for wanted in here {
            if wanted.has(&name) {
                wanted.found = true;
                keep = true;
            }
        }
        keep
    };
    let files = held.manifest.files.iter().filter(|file| keep(file)).cloned().collect();
    match wanted.iter().find(|wanted| !wanted.found) {
        Some(absent) => {
            let what = format!("backup {} has no table {}", held.name, absent.table);
            Err(Error::NoBackup { what })
        }
        None => held.with_files(files),
    }
}

/// Files of a schema that do not tell by their names whose they are: triggers, and full-text indexes.
fn is_shared(name: &str) -> bool {
    let extension = Path::new(name).extension().is_some_and(|e| e == "TRN");
    extension || name.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("fts_"))
}

struct Wanted<'a> {
    table: &'a TableName,
    schema: String,
    name: String,
    found: bool,
}

impl Wanted<'_> {
    fn new(table: &TableName, folds: bool) -> Wanted<'_> {
        let file = |name: &str| match folds {
            true => encoded(&name.to_lowercase()),
            false => encoded(name),
        };
        let schema = file(&table.schema);
        // Whatever is in the server's own comes along, and may have no file of its own.
        let found = SYSTEM.contains(&schema.as_str());
        Wanted { table, schema, name: file(&table.name), found }
    }

    /// True for `t.ibd`, a partition `t#p#p0.ibd`, and MySQL's `t_347.sdi`.
    fn has(&self, file: &str) -> bool {
        let Some(rest) = file.strip_prefix(self.name.as_str()) else { return false };
        let number = rest.strip_prefix('_').and_then(|rest| rest.strip_suffix(".sdi"));
        rest.starts_with('.')
            || rest.get(..3).is_some_and(|mark| mark.eq_ignore_ascii_case("#p#"))
            || number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tables_are_read_as_in_sql() {
        let read =
            |text| parse(text).map(|all| all.iter().map(TableName::quoted).collect::<Vec<_>>());
        assert_eq!(read("shop.orders,x.y").unwrap(), ["`shop`.`orders`", "`x`.`y`"]);
        assert_eq!(read("`a.b`.`c,``d`").unwrap(), ["`a.b`.`c,``d`"]);
        for wrong in ["", "shop", "shop.", ".t", "a.b.c", "a.b,", "`a`b.c", "a.b c`d`"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_belong_to_tables_by_their_encoded_names() {
        let table = TableName::new("shop", "a-b");
        let wanted = Wanted::new(&table, false);
        for file in ["a@002db.ibd", "a@002db.frm", "a@002db#P#p0.ibd", "a@002db#p#p0#sp#s.MYD"] {
            assert!(wanted.has(file), "{file}");
        }
        for file in ["a@002dbc.ibd", "a@002db_c.ibd", "a.ibd", "db.opt", "a@002db_1x.sdi"] {
            assert!(!wanted.has(file), "{file}");
        }
        assert!(wanted.has("a@002db_347.sdi"));
        assert!(Wanted::new(&TableName::new("S", "T"), true).has("t.ibd"));
        assert!(is_shared("trigger.TRN") && is_shared("fts_0000_config.ibd"));
        assert!(!is_shared("orders.ibd"));
    }
}
