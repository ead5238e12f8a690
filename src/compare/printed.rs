//! What `SHOW CREATE TABLE` says of the values that MySQL computes for columns and indexes.
//!
//! `information_schema` shows the text that was stored as a statement was read: with the character set of the
//! session that literals came from, and times in its time zone. A dump is read in another session, so that
//! the text differs for ever where the columns are the same. What the server prints is made of what it
//! computes with, and is what a dump carries. It is not all that `information_schema` says, so it is only asked
//! where that differs.

use std::collections::BTreeMap;

use crate::compare::names::TableName;
use crate::mysql::session::Session;
use crate::mysql::trouble::Trouble;

/// Where the computed value begins in the line of a column, behind its type.
const BEGINNINGS: [&str; 2] = [" DEFAULT ", " GENERATED ALWAYS AS ("];

/// The values of columns, or indexes of values, by name.
pub type Values = BTreeMap<String, String>;

/// Asks for the values of each of these objects, `schema.table`: those of its columns, or of what `noun` is.
/// Those that are not printed, or not in the way that we know, are left out.
///
/// # Errors
/// Those of the session; not that there is no such table.
pub fn read<'o>(
    session: &mut Session,
    noun: &str,
    objects: impl Iterator<Item = &'o str>,
) -> Result<BTreeMap<String, Values>, Trouble> {
    let mut found = BTreeMap::new();
    // A literal has the bytes of its own character set: made Unicode, many of them would be the same "?".
    session.run("SET SESSION character_set_results = NULL")?;
    for object in objects {
        let Some(table) = TableName::of_object(object) else { continue };
        match session.query_bytes(&format!("SHOW CREATE TABLE {}", table.quoted())) {
            Ok(rows) => {
                let values = rows.iter().next().and_then(|row| values(row.get(1)?, noun));
                found.extend(values.map(|values| (object.to_string(), values)));
            }
            Err(Trouble::Server { .. }) => {}
            Err(lost) => return Err(lost),
        }
    }
    session.run("SET NAMES utf8mb4")?;
    Ok(found)
}

/// The values in a printed table, of which each character is a byte. `None` if a line of it is nothing that we
/// know, as those of a name with a line break are.
fn values(printed: &str, noun: &str) -> Option<Values> {
    const KEYS: [&str; 6] = ["PRIMARY ", "UNIQUE ", "KEY ", "FULLTEXT ", "SPATIAL ", "CONSTRAINT "];
    let mut lines = printed.split('\n');
    lines.next().filter(|first| first.starts_with("CREATE ") && first.ends_with(" ("))?;
    let mut found = Values::new();
    for line in lines {
        if line.starts_with(')') {
            return Some(found);
        }
        let line = line.strip_prefix("  ")?;
        let line = line.strip_suffix(',').unwrap_or(line);
        if KEYS.iter().any(|key| line.starts_with(key)) {
            // A part of an index that is a value has parentheses of its own.
            let index = line.split_once("KEY `").filter(|_| !line.starts_with("CONSTRAINT "));
            if let Some((_, index)) = index.filter(|_| noun == "index") {
                let (name, parts) = name(index)?;
                if parts.contains("((") || parts.contains(",(") {
                    found.insert(name, parts.to_string());
                }
            }
            continue;
        }
        let (name, rest) = name(line.strip_prefix('`')?)?;
        if noun != "index" {
            found.insert(name, value(rest).to_string());
        }
    }
    None
}

/// The name of a column behind its first quote, and what follows its last one.
fn name(text: &str) -> Option<(String, &str)> {
    let mut name = Vec::new();
    let mut bytes = text.chars().enumerate().peekable();
    while let Some((_, c)) = bytes.next() {
        let doubled = c == '`' && bytes.next_if(|(_, next)| *next == '`').is_some();
        if c == '`' && !doubled {
            let name = String::from_utf8(name).ok()?;
            let rest = bytes.next().map_or(text.chars().count(), |(at, _)| at);
            let rest = text.char_indices().nth(rest).map_or("", |(at, _)| &text[at..]);
            return (!name.is_empty()).then_some((name, rest));
        }
        name.push(u8::try_from(c).ok()?);
    }
    None
}

/// What a column is computed with, and what is printed after it. The members of an ENUM may have the words.
fn value(rest: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '\'' => quoted = !quoted,
            ' ' if !quoted && BEGINNINGS.iter().any(|b| rest[at..].starts_with(b)) => {
                return &rest[at..];
            }
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MySQL 9.7 prints them.
    const PRINTED: &str = "CREATE TABLE `a (b` (\n  \
        `id` int NOT NULL,\n  \
        `b``x` char(10) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT 'a,\\\\',\n  \
        `e` enum('x DEFAULT y','it''s\\' DEFAULT z') COLLATE utf8mb4_bin DEFAULT 'x',\n  \
        `s` varchar(40) GENERATED ALWAYS AS (concat(`b``x`,_latin1'-',`id`)) STORED,\n  \
        `t` timestamp NULL DEFAULT '2025-12-31 15:00:00',\n  \
        PRIMARY KEY (`id`),\n  \
        KEY `f` ((concat(`e`,_latin1'-'))),\n  \
        CONSTRAINT `c` CHECK ((`id` <> 3))\n\
        ) ENGINE=InnoDB DEFAULT CHARSET=latin1";

    #[test]
    fn values_are_found_behind_types() {
        let found = values(PRINTED, "column").unwrap();
        let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            found,
            [
                ("b`x", " DEFAULT 'a,\\\\'"),
                ("e", " DEFAULT 'x'"),
                ("id", ""),
                ("s", " GENERATED ALWAYS AS (concat(`b``x`,_latin1'-',`id`)) STORED"),
                ("t", " DEFAULT '2025-12-31 15:00:00'"),
            ]
        );
        let found = values(PRINTED, "index").unwrap();
        assert_eq!(found, Values::from([("f".into(), " ((concat(`e`,_latin1'-')))".into())]));
    }

    #[test]
    fn another_type_is_no_other_value_but_text_is() {
        let again = |from: &str, to: &str| {
            assert!(PRINTED.contains(from));
            let values =
                |text: &str| (values(text, "column").unwrap(), values(text, "index").unwrap());
            values(&PRINTED.replace(from, to)) == values(PRINTED)
        };
        assert!(again("char(10) CHARACTER SET latin1 COLLATE latin1_bin", "char(10)"));
        assert!(again("=latin1", "=utf8mb4"));
        assert!(!again("_latin1'-',`id`", "_latin1'+',`id`"));
        assert!(!again("_latin1'-',`id`", "_latin1'\u{e9}',`id`"));
        assert!(!again("_latin1'-',`id`", "_utf8mb4'-',`id`"));
        assert!(!again("'2025-12-31 15", "'2025-12-31 16"));
        assert!(!again("'a,\\\\'", "'a,'"));
        assert!(!again("(`e`,_latin1'-'", "(`e`,_latin1'+'"));
        assert!(!again("  `t` timestamp NULL DEFAULT '2025-12-31 15:00:00',\n", ""));
    }

    #[test]
    fn tables_with_line_breaks_in_names_are_passed_over() {
        assert_eq!(values(&PRINTED.replace("`t`", "`t\nu`"), "column"), None);
        assert_eq!(values(&PRINTED.replace("`b``x`", "`b\n  ``x`"), "column"), None);
        assert_eq!(values(&PRINTED.replace("a (b", "a\n(b"), "column"), None);
        assert_eq!(values(&PRINTED[..300], "column"), None);
        // Each byte of a name is a character here.
        let found = values(&PRINTED.replace("`t`", "`\u{c3}\u{a9}`"), "column").unwrap();
        assert!(found.contains_key("é"), "{found:?}");
    }
}
