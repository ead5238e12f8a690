//! Names of tables as they are shown, and as a user gives them. Pure.

use crate::text::is_harmful;

/// A table, or another object of a database. The bytes come from outside and may be of any character set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The database; empty if none is known.
    pub database: Vec<u8>,
    /// The object in it.
    pub object: Vec<u8>,
}

impl Name {
    /// Parses `DB.TABLE`, where each may be in backquotes. `None` if it is none.
    pub fn parse(text: &str) -> Option<Name> {
        let (database, rest) = part(text, true)?;
        let (object, rest) = part(rest.strip_prefix('.')?, false)?;
        let fits = rest.is_empty() && !database.is_empty() && !object.is_empty();
        fits.then(|| Name { database: database.into_bytes(), object: object.into_bytes() })
    }

    /// `db.table`, with odd names in backquotes.
    pub fn shown(&self) -> String {
        match self.database.as_slice() {
            [] => shown(&self.object),
            database => format!("{}.{}", shown(database), shown(&self.object)),
        }
    }
}

/// The next part of a name, and what follows.
fn part(text: &str, up_to_dot: bool) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('`') else {
        let end = if up_to_dot { text.find('.')? } else { text.len() };
        return Some((text[..end].into(), &text[end..]));
    };
    let mut name = String::new();
    loop {
        let (before, after) = rest.split_once('`')?;
        name += before;
        match after.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// A name as it is shown: in backquotes unless it is a plain word, on one line, and what is no text as
/// `\xE4`.
pub fn shown(name: &[u8]) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '#' | '@' | '%');
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_empty() && text.chars().all(is_plain) => return text.into(),
        _ => {}
    }
    let mut text = String::from("`");
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '`' => text.push_str("``"),
                c if is_harmful(c) => {
                    let mut bytes = [0; 4];
                    text.extend(c.encode_utf8(&mut bytes).bytes().map(|b| format!("\\x{b:02X}")));
                }
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02X}")));
    }
    text.push('`');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_names_can_be_given_again() {
        for (database, table, text) in [
            ("shop", "orders", "shop.orders"),
            ("größe", "表", "größe.表"),
            ("a.b", "c`d", "`a.b`.`c``d`"),
            ("shop", "two words", "shop.`two words`"),
        ] {
            let name = Name { database: database.into(), object: table.into() };
            assert_eq!(name.shown(), text);
            assert_eq!(Name::parse(text), Some(name));
        }
        let spaced = Name { database: "my shop".into(), object: "a.b".into() };
        assert_eq!(Name::parse("my shop.a.b"), Some(spaced));
        for text in ["", "orders", ".orders", "shop.", "`shop.orders", "`shop`orders", "`a`.`b`c"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_escaped() {
        let name = Name { database: b"sh\xf6p".to_vec(), object: b"a\n\x1b[0m".to_vec() };
        assert_eq!(name.shown(), "`sh\\xF6p`.`a\\x0A\\x1B[0m`");
        assert_eq!(shown(b""), "``");
    }
}
