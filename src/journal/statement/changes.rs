//! Statements that change rows, as the formats STATEMENT and MIXED log them: which tables they name.

use super::Parser;
use crate::journal::names::Name;
use crate::journal::words::Token;

/// What may stand between the verb and the table.
const MODIFIERS: [&str; 7] =
    ["LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "CONCURRENT", "QUICK", "IGNORE", "INTO"];

impl Parser<'_> {
    /// The tables that a statement beginning with `verb` may change. `None` if it is of another kind.
    pub(super) fn changes(&mut self, verb: &Token) -> Option<Vec<Name>> {
        let verb = verb.one_of(&["INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "WITH"])?;
        // Values stand before and among these names.
        self.tokens.cut_where_quotes_are_unclear();
        match verb {
            "INSERT" | "REPLACE" => {
                self.skip_modifiers();
                Some(self.name().into_iter().collect())
            }
            "LOAD" => {
                // LOAD DATA INFILE 'file' INTO TABLE name
                while let Some(token) = self.tokens.next() {
                    if token.is("INTO") && self.tokens.eat("TABLE") {
                        return Some(self.name().into_iter().collect());
                    }
                }
                Some(Vec::new())
            }
            "UPDATE" => {
                self.skip_modifiers();
                Some(self.references(&["SET"]))
            }
            "DELETE" => {
                self.skip_modifiers();
                // Several: those before FROM are changed, and named again behind it.
                if !self.tokens.eat("FROM") {
                    while self.tokens.next().is_some_and(|token| !token.is("FROM")) {}
                }
                Some(self.references(&["WHERE", "ORDER", "LIMIT", "RETURNING"]))
            }
            // What comes first is only read.
            _ => {
                let mut depth = 0_u32;
                while let Some(token) = self.tokens.next() {
                    match token {
                        Token::Sign(b'(') => depth += 1,
                        Token::Sign(b')') => depth = depth.saturating_sub(1),
                        token if depth == 0 && token.one_of(&["UPDATE", "DELETE"]).is_some() => {
                            return self.changes(&token);
                        }
                        _ => {}
                    }
                }
                Some(Vec::new())
            }
        }
    }

    fn skip_modifiers(&mut self) {
        while self.tokens.peek().is_some_and(|token| token.one_of(&MODIFIERS).is_some()) {
            self.tokens.next();
        }
    }

    /// All tables in a list of references, read or changed, up to one of these words.
    fn references(&mut self, ends: &[&'static str]) -> Vec<Name> {
        let mut names: Vec<Name> = Vec::new();
        let mut expected = true;
        while let Some(token) = self.tokens.peek() {
            if token.one_of(ends).is_some() || names.len() == MOST {
                break;
            }
            if expected && matches!(token, Token::Word(_) | Token::Quoted(_)) {
                names.extend(self.name());
                expected = false;
                continue;
            }
            self.tokens.next();
            let next = self.tokens.peek();
            if token == Token::Sign(b'(') {
                // Values, columns or another query; or a join in parentheses.
                let reads = |t: &Token| t.one_of(&["SELECT", "WITH", "VALUES"]).is_some();
                if !expected || next.as_ref().is_some_and(reads) {
                    self.skip_parentheses();
                    expected = false;
                }
                continue;
            }
            let opens = next == Some(Token::Sign(b'('));
            expected =
                token == Token::Sign(b',') || token.is("JOIN") || (token.is("USING") && !opens);
        }
        names.dedup();
        names
    }

    /// Goes on behind the parenthesis that ends what has begun.
    fn skip_parentheses(&mut self) {
        let mut depth = 1_u32;
        for token in self.tokens.by_ref() {
            match token {
                Token::Sign(b'(') => depth += 1,
                Token::Sign(b')') if depth == 1 => return,
                Token::Sign(b')') => depth -= 1,
                _ => {}
            }
        }
    }
}

/// No statement joins more.
const MOST: usize = 61;
