//! Values, names and texts as statements have them, whatever they hold. Pure.

use crate::mysql::session::Row;

/// How a value is read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text of a character set, or bytes.
    Bytes(Option<String>),
    /// As a DOUBLE.
    Float,
    /// By number, since its text may stand for two members.
    Member,
    /// The server's text of it.
    Text,
}

impl Kind {
    /// Of a column's type and character set.
    pub fn of(data_type: &str, charset: &str) -> Kind {
        match data_type {
            "float" => Kind::Float,
            "enum" | "set" => Kind::Member,
            "json" => Kind::Bytes(Some("utf8mb4".into())),
            _ if !charset.is_empty() => Kind::Bytes(Some(charset.into())),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "bit"
            | "vector" | "geometry" | "point" | "linestring" | "polygon" | "multipoint"
            | "multilinestring" | "multipolygon" | "geomcollection" | "geometrycollection" => {
                Kind::Bytes(None)
            }
            _ => Kind::Text,
        }
    }

    /// What is asked for in place of the column.
    pub fn expression(&self, column: &str) -> String {
        match self {
            Kind::Float => format!("CAST({column} AS DOUBLE)"),
            Kind::Member => format!("CAST({column} AS UNSIGNED)"),
            Kind::Bytes(_) | Kind::Text => column.to_string(),
        }
    }

    fn write(&self, value: Option<&[u8]>, to: &mut String) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let Some(value) = value else { return to.push_str("NULL") };
        match self {
            // What the server says is a number or a date; it ends no literal whatever it is.
            Kind::Float | Kind::Text => {
                let text = String::from_utf8_lossy(value);
                to.push('\'');
                to.extend(text.chars().filter(|c| !matches!(c, '\'' | '\\')));
                to.push('\'');
            }
            Kind::Member => {
                to.extend(value.iter().filter(|b| b.is_ascii_digit()).map(|b| *b as char))
            }
            Kind::Bytes(charset) => {
                if let Some(charset) = charset {
                    to.push('_');
                    to.push_str(charset);
                    to.push(' ');
                }
                to.push_str("x'");
                to.reserve(2 * value.len() + 1);
                for byte in value {
                    to.push(DIGITS[usize::from(byte >> 4)] as char);
                    to.push(DIGITS[usize::from(byte & 15)] as char);
                }
                to.push('\'');
            }
        }
    }
}

/// A row as `INSERT` has it.
pub fn write_row(columns: &[(String, Kind)], row: &Row, to: &mut String) {
    let mut before = '(';
    for ((_, kind), value) in columns.iter().zip(row) {
        to.push(before);
        kind.write(value.as_deref(), to);
        before = ',';
    }
    to.push(')');
}

/// A literal for any sql_mode: to some a backslash is one, to others it is not.
pub fn text(value: &str) -> String {
    let digits: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("_utf8mb4 x'{digits}'")
}

/// A statement, of which each character is a byte, for a session that sends Unicode: literals of bytes that
/// are none are written in hexadecimal. `None` if there are such bytes elsewhere.
pub fn as_unicode(statement: &str) -> Option<String> {
    let bytes: Vec<u8> = statement.chars().map(u8::try_from).collect::<Result<_, _>>().ok()?;
    let (mut made, mut rest) = (String::new(), bytes.as_slice());
    while let Some(from) = rest.iter().position(|b| b"'`".contains(b)) {
        made.push_str(std::str::from_utf8(&rest[..from]).ok()?);
        let (value, after) = literal(&rest[from..])?;
        let written = &rest[from..rest.len() - after.len()];
        match std::str::from_utf8(written) {
            Ok(text) => made.push_str(text),
            Err(_) if written[0] == b'\'' => {
                // Behind a character set.
                made.push_str(" X'");
                value.iter().for_each(|byte| made.push_str(&format!("{byte:02x}")));
                made.push('\'');
            }
            Err(_) => return None,
        }
        rest = after;
    }
    made.push_str(std::str::from_utf8(rest).ok()?);
    Some(made)
}

/// The value of a literal or name that `text` begins with, and what follows it.
fn literal(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let quote = text[0];
    let (mut value, mut at) = (Vec::new(), 1);
    loop {
        let (byte, next) = (*text.get(at)?, text.get(at + 1).copied());
        at += 1;
        if byte == quote && next != Some(quote) {
            return Some((value, &text[at..]));
        }
        let escapes = byte == b'\\' && quote == b'\'';
        at += usize::from(byte == quote || escapes);
        value.push(match next {
            Some(next) if escapes => match next {
                b'0' => 0,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'Z' => 26,
                other => other,
            },
            _ => byte,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_literals_that_end_where_they_should() {
        let columns: Vec<_> = [
            ("float", ""),
            ("enum", "utf8mb4"),
            ("varchar", "latin1"),
            ("blob", ""),
            ("datetime", ""),
            ("int", ""),
            ("json", ""),
        ]
        .map(|(data_type, charset)| ("c".to_string(), Kind::of(data_type, charset)))
        .into();
        let row: Row = ["-0", "0", "a'\u{fc}", "\0'", "2026-01-01' OR '", "", "{}"]
            .map(|v| Some(v.as_bytes().to_vec()))
            .into();
        let mut row = row;
        row[5] = None;
        let mut to = String::new();
        write_row(&columns, &row, &mut to);
        assert_eq!(
            to,
            "('-0',0,_latin1 x'6127c3bc',x'0027','2026-01-01 OR ',NULL,_utf8mb4 x'7b7d')"
        );
        assert_eq!(text("a'\\"), "_utf8mb4 x'61275c'");
    }

    #[test]
    fn bytes_of_other_character_sets_are_written_in_hexadecimal() {
        let bytes = |text: &[u8]| text.iter().copied().map(char::from).collect::<String>();
        let plain = "CREATE TABLE `é'` (`a``'b` ENUM('é','it''s\\'') COMMENT 'ü\\\\')";
        assert_eq!(as_unicode(&bytes(plain.as_bytes())).as_deref(), Some(plain));
        let mixed = b"(`a` AS (concat(_latin1'\xe9\\n''\\'x',_utf8mb4'\xc3\xa9'))";
        let made = as_unicode(&bytes(mixed));
        assert_eq!(made.as_deref(), Some("(`a` AS (concat(_latin1 X'e90a272778',_utf8mb4'é'))"));
        for odd in [b"(`\xe9`)".as_slice(), b"('\xe9", b"\xe9"] {
            assert_eq!(as_unicode(&bytes(odd)), None, "{odd:?}");
        }
    }
}
