//! What a table is compared by: an expression over all of a row, and a key to go along. Pure.
//!
//! Both servers compute the same expression, to the last bit and without a collation: a FLOAT as the
//! DOUBLE it stands for, a text as its bytes, what may be long as a digest of it.

use crate::compare::names::{TableName, identifier};
use crate::mysql::session::{Rows, quoted};
use crate::text::harmless;

/// The longest part of a key that is shown, characters.
const SHOWN: usize = 40;

/// How the values of a key's column are written in statements.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    /// As digits.
    Number,
    /// In quotes.
    Text,
    /// As hexadecimal digits of its bytes, of this character set.
    Bytes(Option<String>),
}

#[derive(Clone, Debug)]
struct KeyColumn {
    name: String,
    literal: Literal,
}

/// A value of the key: for each column a number, a text, or hexadecimal digits.
pub type KeyValue = Vec<String>;

/// A range of the key: after the first, up to and with the second.
pub type Range = (Option<KeyValue>, Option<KeyValue>);

/// A table as it is compared.
#[derive(Clone, Debug)]
pub struct Layout {
    table: TableName,
    versioned: bool,
    row: String,
    key: Option<(String, Vec<KeyColumn>)>,
}

/// Asks for the columns of `table`.
pub fn columns_of(table: &TableName) -> String {
    format!(
        "SELECT column_name, LOWER(data_type), character_set_name, is_nullable, UPPER(extra), \
         generation_expression, LOWER(column_type) FROM information_schema.columns \
         WHERE table_schema = {} AND table_name = {} ORDER BY ordinal_position",
        quoted(&table.schema),
        quoted(&table.name)
    )
}

/// Asks for the columns of its unique indexes.
pub fn keys_of(table: &TableName) -> String {
    format!(
        "SELECT index_name, column_name, sub_part, nullable FROM information_schema.statistics \
         WHERE table_schema = {} AND table_name = {} AND non_unique = 0 \
           AND index_type = 'BTREE' ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
        quoted(&table.schema),
        quoted(&table.name)
    )
}

impl Layout {
    /// Of the answers to [`columns_of`] and [`keys_of`]. `None` for a table without columns that can be
    /// compared. `versioned`: with the history that MariaDB keeps.
    pub fn new(table: &TableName, columns: &Rows, keys: &Rows, versioned: bool) -> Option<Layout> {
        let (mut nulls, mut texts, mut literals) = (Vec::new(), Vec::new(), Vec::new());
        for column in columns.iter() {
            let [name, kind, charset, nullable, extra, generated, full] = column.as_slice() else {
                return None;
            };
            // Computed when it is read.
            if extra.contains("VIRTUAL") && !generated.is_empty() {
                continue;
            }
            // Numbers of transactions of the server that it is on.
            if kind.contains("bigint") && matches!(*generated, "ROW START" | "ROW END") {
                continue;
            }
            let quoted = identifier(name);
            if *nullable == "YES" {
                nulls.push(format!("ISNULL({quoted})"));
            }
            texts.push(expression(&quoted, kind, full));
            literals.push((name.to_string(), literal(kind, charset)));
        }
        if versioned && !columns.iter().any(|c| matches!(c[5], "ROW START" | "ROW END")) {
            texts.extend(["ROW_START".into(), "ROW_END".into()]);
        }
        if texts.is_empty() {
            return None;
        }
        let nulls =
            if nulls.is_empty() { "''".into() } else { format!("CONCAT({})", nulls.join(", ")) };
        let row = format!("SHA2(CONCAT_WS('#', {nulls}, {}), 224)", texts.join(", "));
        let key = usable_key(keys, &literals);
        Some(Layout { table: table.clone(), versioned, row, key })
    }

    /// The table.
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// True if it can be compared in parts.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    fn key(&self) -> &[KeyColumn] {
        self.key.as_ref().map_or(&[], |(_, columns)| columns)
    }

    /// The table in a FROM clause, read along its key.
    fn from(&self) -> String {
        let history = if self.versioned { " FOR SYSTEM_TIME ALL" } else { "" };
        let index =
            self.key.as_ref().map(|(index, _)| format!(" FORCE INDEX ({})", identifier(index)));
        format!("{}{history}{}", self.table.quoted(), index.unwrap_or_default())
    }

    /// Asks for the number of rows in a range and the sum of their digests.
    pub fn sum(&self, range: &Range) -> String {
        format!("SELECT {} FROM {} WHERE {}", self.digest(), self.from(), self.within(range))
    }

    /// Number and sum in one text.
    fn digest(&self) -> String {
        let sum = format!("SUM(CAST(CONV(LEFT({}, 15), 16, 10) AS UNSIGNED))", self.row);
        format!("CONCAT(COUNT(*), ' ', COALESCE({sum}, 0))")
    }

    /// Asks for the key of the row number `n` in a range, from 0.
    pub fn nth(&self, range: &Range, n: u64) -> String {
        let order: Vec<String> = self.key().iter().map(|c| identifier(&c.name)).collect();
        format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {n}, 1",
            self.key_texts(),
            self.from(),
            self.within(range),
            order.join(", ")
        )
    }

    /// Asks for each key in a range, at most `most` of them, and the digest of its row, with its history
    /// if it has one.
    pub fn rows(&self, range: &Range, most: usize) -> String {
        let key: Vec<String> = self.key().iter().map(|c| identifier(&c.name)).collect();
        let key = key.join(", ");
        format!(
            "SELECT {}, {} FROM {} WHERE {} GROUP BY {key} ORDER BY {key} LIMIT {most}",
            self.key_texts(),
            self.digest(),
            self.from(),
            self.within(range)
        )
    }

    /// Asks for the digest of the row with this key.
    pub fn row(&self, key: &[String]) -> String {
        let one = |(column, value): (&KeyColumn, &String)| {
            format!("{} = {}", identifier(&column.name), literal_of(&column.literal, value))
        };
        let all: Vec<String> = self.key().iter().zip(key).map(one).collect();
        format!("SELECT {} FROM {} WHERE {}", self.digest(), self.from(), all.join(" AND "))
    }

    fn key_texts(&self) -> String {
        let text = |column: &KeyColumn| match column.literal {
            Literal::Bytes(_) => format!("HEX(CAST({} AS BINARY))", identifier(&column.name)),
            _ => format!("CONCAT({})", identifier(&column.name)),
        };
        self.key().iter().map(text).collect::<Vec<_>>().join(", ")
    }

    fn within(&self, (after, upto): &Range) -> String {
        let after = after.iter().map(|value| self.beyond(value, ">", ">"));
        let upto = upto.iter().map(|value| self.beyond(value, "<", "<="));
        let both: Vec<String> = after.chain(upto).collect();
        if both.is_empty() { "1 = 1".into() } else { both.join(" AND ") }
    }

    /// `(a > 1 OR (a = 1 AND b >= 2))`: written so, both servers read a range of the index.
    fn beyond(&self, value: &[String], strictly: &str, last: &str) -> String {
        let columns = self.key();
        let mut words = String::new();
        for (n, (column, value)) in columns.iter().zip(value).enumerate().rev() {
            let (name, value) = (identifier(&column.name), literal_of(&column.literal, value));
            words = match n + 1 == columns.len() {
                true => format!("({name} {last} {value})"),
                false => format!("({name} {strictly} {value} OR ({name} = {value} AND {words}))"),
            };
        }
        words
    }

    /// The key in a row of an answer, whose first columns it is. `None` if it is not what a key can be.
    pub fn key_in(&self, row: &[&str]) -> Option<KeyValue> {
        let value = |(column, text): (&KeyColumn, &&str)| {
            fits(&column.literal, text).then(|| text.to_string())
        };
        let columns = self.key();
        let key: KeyValue = columns.iter().zip(row).map_while(value).collect();
        (key.len() == columns.len()).then_some(key)
    }

    /// The lowest and the highest of some keys, as far as we can tell: numbers by their value.
    pub fn ends<'k>(&self, keys: impl Iterator<Item = &'k KeyValue>) -> Option<(String, String)> {
        let mut keys: Vec<&KeyValue> = keys.collect();
        let number = |text: &String| text.parse::<i128>().ok();
        keys.sort_by_key(|key| {
            let numbers: Option<Vec<i128>> = key.iter().map(number).collect();
            (numbers.is_none(), numbers, (*key).clone())
        });
        Some((self.shown(keys.first()?), self.shown(keys.last()?)))
    }

    /// A value of the key for people.
    pub fn shown(&self, value: &[String]) -> String {
        let one = |(column, text): (&KeyColumn, &String)| match &column.literal {
            Literal::Bytes(Some(_)) => {
                let bytes: Vec<u8> = (0..text.len() / 2)
                    .filter_map(|n| u8::from_str_radix(&text[n * 2..n * 2 + 2], 16).ok())
                    .collect();
                let shown = harmless(&String::from_utf8_lossy(&bytes));
                format!("'{}'", shown.chars().take(SHOWN).collect::<String>())
            }
            Literal::Bytes(None) => format!("0x{}", text.chars().take(SHOWN).collect::<String>()),
            _ => harmless(text),
        };
        let parts: Vec<String> = self.key().iter().zip(value).map(one).collect();
        if parts.len() == 1 { parts.concat() } else { format!("({})", parts.join(", ")) }
    }
}

/// A key as it is put on record.
pub fn key_to_record(value: &[String]) -> String {
    value.join("/")
}

/// The same read back, for a table of this layout; `None` if it does not fit.
pub fn key_from_record(layout: &Layout, text: &str) -> Option<KeyValue> {
    let parts: Vec<&str> = text.split('/').collect();
    (parts.len() == layout.key().len()).then(|| layout.key_in(&parts)).flatten()
}

fn expression(column: &str, kind: &str, full: &str) -> String {
    match kind {
        "float" | "double" | "real" => format!("CAST({column} AS DOUBLE)"),
        "bit" | "enum" | "set" => format!("{column} + 0"),
        "char" | "varchar" | "binary" | "varbinary" => {
            format!("LENGTH({column}), CAST({column} AS BINARY)")
        }
        "json" => format!("SHA2(CAST({column} AS CHAR), 224)"),
        "vector" => format!("SHA2(HEX({column}), 224)"),
        text if text.ends_with("text") || text.ends_with("blob") => format!("SHA2({column}, 224)"),
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => {
            format!("ST_SRID({column}), SHA2(ST_AsWKB({column}), 224)")
        }
        _ if full.is_empty() => column.into(),
        _ => format!("CONCAT({column})"),
    }
}

fn literal(kind: &str, charset: &str) -> Option<Literal> {
    match kind {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" => {
            Some(Literal::Number)
        }
        "date" | "time" | "datetime" | "timestamp" | "uuid" | "inet4" | "inet6" => {
            Some(Literal::Text)
        }
        "char" | "varchar" => Some(Literal::Bytes(Some(charset.into()))),
        "binary" | "varbinary" => Some(Literal::Bytes(None)),
        _ => None,
    }
}

/// True if a value that a server gave, or the record, can be such a literal and no more.
fn fits(literal: &Literal, text: &str) -> bool {
    let all = |allowed: fn(u8) -> bool| text.bytes().all(allowed);
    match literal {
        Literal::Number => !text.is_empty() && all(|b| b.is_ascii_digit() || b"-.".contains(&b)),
        Literal::Text => all(|b| b.is_ascii_alphanumeric() || b"-.: ".contains(&b)),
        Literal::Bytes(_) => text.len().is_multiple_of(2) && all(|b| b.is_ascii_hexdigit()),
    }
}

fn literal_of(literal: &Literal, value: &str) -> String {
    match literal {
        Literal::Number => value.into(),
        Literal::Text => quoted(value),
        // An introducer and no conversion: the collation of the column counts.
        Literal::Bytes(Some(charset)) => format!("_{charset} X'{value}'"),
        Literal::Bytes(None) => format!("X'{value}'"),
    }
}

/// The primary key, or another one without NULL, of whole columns that can be written in statements.
fn usable_key(
    keys: &Rows,
    literals: &[(String, Option<Literal>)],
) -> Option<(String, Vec<KeyColumn>)> {
    let mut all: Vec<(String, Option<Vec<KeyColumn>>)> = Vec::new();
    for row in keys.iter() {
        let [index, column, part, nullable] = row.as_slice() else { return None };
        if all.last().is_none_or(|(last, _)| last != index) {
            all.push((index.to_string(), Some(Vec::new())));
        }
        let usable = part.is_empty() && *nullable != "YES";
        let known = literals.iter().find(|(name, _)| name == column);
        let literal = known.and_then(|(_, literal)| literal.clone()).filter(|_| usable);
        if let Some((_, columns)) = all.last_mut() {
            match (literal, columns.as_mut()) {
                (Some(literal), Some(columns)) => {
                    columns.push(KeyColumn { name: column.to_string(), literal });
                }
                _ => *columns = None,
            }
        }
    }
    all.into_iter().find_map(|(index, columns)| Some((index, columns?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(columns: &[[&str; 7]], keys: &[[&str; 4]]) -> Layout {
        let columns = Rows::of(columns.iter().map(|c| c.to_vec()));
        let keys = Rows::of(keys.iter().map(|k| k.to_vec()));
        Layout::new(&TableName::new("s", "t"), &columns, &keys, false).unwrap()
    }

    const ID: [&str; 7] = ["id", "bigint", "", "NO", "", "", "bigint(20)"];
    const NAME: [&str; 7] = ["na`me", "varchar", "latin1", "NO", "", "", "varchar(20)"];
    const NOTE: [&str; 7] = ["note", "varchar", "latin1", "YES", "", "", "varchar(20)"];

    #[test]
    fn a_range_of_a_composite_key_fits_its_index() {
        let table = layout(&[ID, NAME], &[["PRIMARY", "id", "", ""], ["PRIMARY", "na`me", "", ""]]);
        let key = table.key_in(&["-7", "6162", "digest"]).unwrap();
        let sql = table.nth(&(Some(key.clone()), None), 99);
        assert!(sql.contains("FORCE INDEX (`PRIMARY`)"), "{sql}");
        assert!(
            sql.contains(
                "WHERE (`id` > -7 OR (`id` = -7 AND (`na``me` > _latin1 X'6162'))) \
                 ORDER BY `id`, `na``me` LIMIT 99, 1"
            ),
            "{sql}"
        );
        let upto = table.within(&(None, Some(key.clone())));
        assert_eq!(upto, "(`id` < -7 OR (`id` = -7 AND (`na``me` <= _latin1 X'6162')))");
        assert_eq!(table.shown(&key), "(-7, 'ab')");
        assert_eq!(key_from_record(&table, &key_to_record(&key)), Some(key));
    }

    #[test]
    fn what_comes_back_from_a_record_is_no_statement() {
        let table = layout(&[ID, NAME], &[["PRIMARY", "id", "", ""], ["PRIMARY", "na`me", "", ""]]);
        for bad in ["1", "1/61/62", "1;x/61", "/61", "1/6", "1/6g", "1 OR 1/61"] {
            assert_eq!(key_from_record(&table, bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_with_null_or_parts_of_columns_are_not_used() {
        let f = ["f", "float", "", "NO", "", "", "float"];
        let keys = [
            ["PRIMARY", "f", "", ""],
            ["a", "note", "", "YES"],
            ["b", "na`me", "5", ""],
            ["c", "id", "", ""],
        ];
        let table = layout(&[ID, NAME, NOTE, f], &keys);
        assert!(table.nth(&(None, None), 1).contains("FORCE INDEX (`c`)"));
        assert!(!layout(&[ID, f], &keys[..1]).has_key());
        let keys: Vec<KeyValue> = ["10", "9", "-100"].map(|k| vec![k.to_string()]).to_vec();
        assert_eq!(table.ends(keys.iter()), Some(("-100".into(), "10".into())));
        let sum = table.sum(&(None, None));
        assert!(sum.contains("CONCAT_WS('#', CONCAT(ISNULL(`note`)), "), "{sum}");
        assert!(sum.contains("CAST(`f` AS DOUBLE)"), "{sum}");
    }
}
