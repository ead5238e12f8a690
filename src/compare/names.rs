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
    fn names_are_safe_in_statements_and_in_lines() {
        let table = TableName::new("a`b", "c\n.d");
        assert_eq!(table.quoted(), "`a``b`.`c\n.d`");
        assert_eq!(table.to_string(), "a`b.c?.d");
        assert_eq!(some_of(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
    }
}
