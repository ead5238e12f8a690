//! Names of tables, for statements and for people.

use std::fmt;

use crate::text::harmless;

/// A table: its schema and its own name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The name in it.
    pub name: String,
}

impl TableName {
    /// The table `name` of `schema`.
    pub fn new(schema: &str, name: &str) -> TableName {
        TableName { schema: schema.into(), name: name.into() }
    }

    /// Of `schema.name`, with the schema as in [`as_part`].
    pub fn of_object(object: &str) -> Option<TableName> {
        let Some(rest) = object.strip_prefix('`') else {
            return object.split_once('.').map(|(schema, name)| TableName::new(schema, name));
        };
        // No quote of the schema itself is alone.
        let mut end = 0;
        loop {
            end += rest[end..].find('`')?;
            match rest[end..].strip_prefix("``") {
                Some(_) => end += 2,
                None => break,
            }
        }
        let name = rest[end..].strip_prefix("`.")?;
        Some(TableName::new(&rest[..end].replace("``", "`"), name))
    }

    /// For a statement.
    pub fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", harmless(&self.schema), harmless(&self.name))
    }
}

/// A name quoted for a statement.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A schema as the first part of `schema.name`, so that no two of them give the same text: quoted if it has
/// a dot of its own.
pub fn as_part(schema: &str) -> String {
    if schema.contains(['.', '`']) { identifier(schema) } else { schema.to_string() }
}

/// The same of a `column` with schemas, as an expression.
pub fn part_of(column: &str) -> String {
    format!(
        "IF(INSTR({column}, '.') + INSTR({column}, '`') > 0, \
         CONCAT('`', REPLACE({column}, '`', '``'), '`'), {column})"
    )
}

/// The first few of many things, and how many more there are.
pub fn some_of<T: fmt::Display>(all: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = all.iter().take(SHOWN).map(T::to_string).collect();
    let more = all.len().saturating_sub(SHOWN);
    let and = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &and
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_its_schema_and_its_name() {
        for (schema, name) in
            [("a", "b"), ("a", "b.c`d"), ("a.b", "c"), ("a`.`b", "`.`"), ("`", ".")]
        {
            let object = format!("{}.{name}", as_part(schema));
            assert_eq!(
                TableName::of_object(&object),
                Some(TableName::new(schema, name)),
                "{object}"
            );
        }
        assert_eq!(TableName::of_object("`a.b"), None);
    }

    #[test]
    fn names_are_safe_in_statements_and_in_lines() {
        let table = TableName::new("a`b", "c\n.d");
        assert_eq!(table.quoted(), "`a``b`.`c\n.d`");
        assert_eq!(table.to_string(), "a`b.c?.d");
        assert_eq!(["a", "a.b", "a`b"].map(as_part), ["a", "`a.b`", "`a``b`"]);
        assert_eq!(some_of(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
    }
}
