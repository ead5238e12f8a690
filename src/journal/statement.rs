//! What a statement does, in words that hold no value: its verb, the kind of object, names. Pure.
//!
//! Statements hold passwords, and the values of rows. So nothing is shown because it stands in the text:
//! words are those of the lists below, and names are taken where the grammar has a name and nothing else.

mod changes;
mod objects;

use crate::journal::names::{Name, shown};
use crate::journal::words::{Token, Tokens};

/// So many characters of a definition are shown.
const MOST: usize = 80;

/// What a statement touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    /// A table, or another object of a database.
    Object(Name),
    /// A database and all in it.
    Database(Vec<u8>),
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// It begins or ends a transaction, or a part of one.
    Control,
    /// It defines something, or who may do what.
    Definition {
        /// As it is shown.
        text: String,
        /// What it touches.
        touches: Vec<Touch>,
    },
    /// It changes rows of these tables, if it can be told which, and nobody knows how many.
    Rows(Vec<Name>),
    /// It is something else.
    Other(&'static str),
}

/// Reads a statement, or its beginning. Names without a database are of `database`.
pub fn read(text: &[u8], database: &[u8]) -> Statement {
    let mut tokens = Tokens::new(text);
    // MariaDB: settings for the statement that follows.
    let mut ahead = tokens.clone();
    if ahead.eat("SET") && ahead.eat("STATEMENT") {
        ahead.cut_where_quotes_are_unclear();
        if ahead.any(|token| token.is("FOR")) {
            tokens = ahead;
        }
    }
    while tokens.eat_sign(b'(') {}
    let Some(first) = tokens.next() else { return Statement::Control };
    let mut parser = Parser { tokens, database };
    const CONTROL: [&str; 6] = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START"];
    if first.one_of(&CONTROL).is_some() {
        return Statement::Control;
    }
    if first.is("XA") {
        return match parser.tokens.next().and_then(|t| t.one_of(&["COMMIT", "ROLLBACK"])) {
            Some("COMMIT") => Statement::Other("XA COMMIT"),
            Some(_) => Statement::Other("XA ROLLBACK"),
            None => Statement::Control,
        };
    }
    if let Some(names) = parser.changes(&first) {
        return Statement::Rows(names);
    }
    if let Some((text, touches)) = parser.definition(&first) {
        return Statement::Definition { text: bounded(text), touches };
    }
    Statement::Other(first.one_of(&["SELECT", "CALL", "DO"]).unwrap_or("a statement"))
}

fn bounded(text: String) -> String {
    match text.char_indices().nth(MOST) {
        Some(_) => text.chars().take(MOST - 3).chain("...".chars()).collect(),
        None => text,
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    database: &'a [u8],
}

impl Parser<'_> {
    /// A name, if one follows.
    fn part(&mut self) -> Option<Vec<u8>> {
        let name = match self.tokens.peek()? {
            Token::Word(name) | Token::Quoted(name) => name,
            Token::Literal(_) | Token::Sign(_) => return None,
        };
        self.tokens.next();
        Some(name)
    }

    /// A name with or without its database.
    fn name(&mut self) -> Option<Name> {
        let first = self.part()?;
        if self.tokens.eat_sign(b'.') {
            return self.part().map(|object| Name { database: first, object });
        }
        Some(Name { database: self.database.to_vec(), object: first })
    }

    /// The name of an account, or of a role.
    fn account(&mut self) -> Option<String> {
        let mut part = || match self.tokens.next()? {
            Token::Word(name) | Token::Quoted(name) | Token::Literal(name) => Some(name),
            Token::Sign(_) => None,
        };
        let user = shown(&part()?);
        if !self.tokens.eat_sign(b'@') {
            return Some(user);
        }
        let host = match self.tokens.next()? {
            Token::Word(name) | Token::Quoted(name) | Token::Literal(name) => name,
            Token::Sign(_) => return Some(user),
        };
        Some(format!("{user}@{}", shown(&host)))
    }
}

#[cfg(test)]
mod tests;
