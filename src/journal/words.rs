//! Splits a statement into words, names, literals and signs. Pure.
//!
//! Comments are passed over, and those that a server executes are read as it does.

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A keyword, or a name without quotes.
    Word(Vec<u8>),
    /// A name in backquotes, or whatever is in double quotes.
    Quoted(Vec<u8>),
    /// A literal in single quotes: a value, or a part of an account's name.
    Literal(Vec<u8>),
    /// Any other character.
    Sign(u8),
}

impl Token {
    /// True for this keyword, given in upper case.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(text) if text.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The one of these keywords that it is.
    pub fn one_of(&self, words: &[&'static str]) -> Option<&'static str> {
        words.iter().copied().find(|word| self.is(word))
    }
}

/// The pieces of a statement.
#[derive(Clone)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// Those of `text`, which may be cut off anywhere.
    pub fn new(text: &'a [u8]) -> Tokens<'a> {
        Tokens { rest: text }
    }

    /// The next one, which stays.
    pub fn peek(&self) -> Option<Token> {
        self.clone().next()
    }

    /// Takes the next one if it is this keyword.
    pub fn eat(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is(word));
        if found {
            self.next();
        }
        found
    }

    /// Takes the next one if it is this sign.
    pub fn eat_sign(&mut self, sign: u8) -> bool {
        let found = self.peek() == Some(Token::Sign(sign));
        if found {
            self.next();
        }
        found
    }

    /// Gives up what follows the first byte from which on quotes may end elsewhere than they seem to: a
    /// backslash, which escapes or does not; a character of which a part looks like a quote.
    pub fn cut_where_quotes_are_unclear(&mut self) {
        let text = self.rest.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
        let slash = self.rest.iter().position(|byte| *byte == b'\\');
        self.rest = &self.rest[..slash.unwrap_or(text).min(text)];
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest;
            let after = |mark: &[u8], end: &[u8]| {
                let inside = rest.strip_prefix(mark)?;
                let at = inside.windows(end.len()).position(|window| window == end);
                Some(at.map_or(&[][..], |at| &inside[at + end.len()..]))
            };
            self.rest = match rest {
                [blank, more @ ..] if blank.is_ascii_whitespace() || *blank == 0x0b => more,
                // What is in these is executed; a number in front names a version.
                [b'/', b'*', b'!', more @ ..] | [b'/', b'*', b'M', b'!', more @ ..] => {
                    let digits = more.iter().take_while(|b| b.is_ascii_digit()).count();
                    &more[digits..]
                }
                [b'*', b'/', more @ ..] => more,
                [b'/', b'*', ..] => after(b"/*", b"*/").unwrap_or_default(),
                [b'#', ..] => after(b"#", b"\n").unwrap_or_default(),
                [b'-', b'-'] => &[],
                [b'-', b'-', blank, ..] if blank.is_ascii_whitespace() => {
                    after(b"--", b"\n").unwrap_or_default()
                }
                _ => return,
            };
        }
    }

    /// What is in quotes, after the first one.
    fn quoted(&mut self, quote: u8) -> Vec<u8> {
        let mut text = Vec::new();
        loop {
            match self.rest {
                [] => return text,
                [b'\\', byte, more @ ..] if quote != b'`' => {
                    text.push(*byte);
                    self.rest = more;
                }
                [a, b, more @ ..] if *a == quote && *b == quote => {
                    text.push(quote);
                    self.rest = more;
                }
                [byte, more @ ..] => {
                    self.rest = more;
                    if *byte == quote {
                        return text;
                    }
                    text.push(*byte);
                }
            }
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..);
        let length = self.rest.iter().take_while(|b| is_word(b)).count();
        if length > 0 {
            let (word, rest) = self.rest.split_at(length);
            self.rest = rest;
            return Some(Token::Word(word.to_vec()));
        }
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match first {
            b'`' | b'"' => Token::Quoted(self.quoted(*first)),
            b'\'' => Token::Literal(self.quoted(b'\'')),
            sign => Token::Sign(*sign),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        Tokens::new(text.as_bytes()).collect()
    }

    #[test]
    fn comments_are_passed_over_unless_they_are_executed() {
        let word = |text: &str| Token::Word(text.into());
        let plain = vec![word("DROP"), word("TABLE"), Token::Quoted("a`b".into())];
        for text in [
            "DROP TABLE `a``b`",
            "/* a 'b */ DROP/**/TABLE -- c '\n `a``b` # '",
            "/*!50003 DROP*/ /*M!100000 TABLE */\t`a``b` /* generated by server */",
            "DROP TABLE --\n\"a`b\" --",
        ] {
            assert_eq!(tokens(text), plain, "{text}");
        }
        assert_eq!(tokens("-/*"), [Token::Sign(b'-')]);
    }

    #[test]
    fn literals_end_where_a_server_ends_them() {
        let literal = |text: &str| Token::Literal(text.into());
        for (text, inside) in [("'a''b'", "a'b"), (r"'a\'b'", "a'b"), ("'ab", "ab"), ("''", "")] {
            assert_eq!(tokens(text), [literal(inside)], "{text}");
        }
    }
}
