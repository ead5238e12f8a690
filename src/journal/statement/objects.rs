//! Statements that define objects, or who may do what.

use super::{Parser, Touch};
use crate::journal::names::shown;
use crate::journal::words::Token;

/// What of a statement is shown, and what it touches.
type Shown = (String, Vec<Touch>);

/// The kinds of objects.
const KINDS: [&str; 17] = [
    "TABLE",
    "TABLES",
    "VIEW",
    "SEQUENCE",
    "DATABASE",
    "SCHEMA",
    "INDEX",
    "TRIGGER",
    "PROCEDURE",
    "FUNCTION",
    "EVENT",
    "USER",
    "ROLE",
    "SERVER",
    "TABLESPACE",
    "PACKAGE",
    "INSTANCE",
];
/// Words before the kind that are shown.
const SHOWN: [&str; 11] = [
    "OR",
    "REPLACE",
    "TEMPORARY",
    "UNIQUE",
    "FULLTEXT",
    "SPATIAL",
    "VECTOR",
    "AGGREGATE",
    "ONLINE",
    "UNDO",
    "BODY",
];
/// So many things a statement may touch; what is beyond is left out.
const MOST: usize = 10_000;

impl Parser<'_> {
    /// What is shown of a definition that begins with `verb`. `None` if it is none.
    pub(super) fn definition(&mut self, verb: &Token) -> Option<Shown> {
        let verb = verb.one_of(&[
            "CREATE",
            "ALTER",
            "DROP",
            "RENAME",
            "TRUNCATE",
            "GRANT",
            "REVOKE",
            "SET",
            "ANALYZE",
            "OPTIMIZE",
            "REPAIR",
            "CHECK",
            "FLUSH",
            "INSTALL",
            "UNINSTALL",
            "IMPORT",
        ])?;
        Some(match verb {
            "CREATE" | "ALTER" | "DROP" => self.object(verb),
            "RENAME" => self.renamed(),
            "TRUNCATE" => {
                self.tokens.eat("TABLE");
                self.objects("TRUNCATE TABLE".into(), 1)
            }
            "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" => {
                let _ = self.tokens.eat("NO_WRITE_TO_BINLOG") || self.tokens.eat("LOCAL");
                match self.tokens.eat("TABLE") || self.tokens.eat("TABLES") {
                    true => self.objects(format!("{verb} TABLE"), MOST),
                    false => (verb.into(), Vec::new()),
                }
            }
            "SET" => {
                let what = ["PASSWORD", "DEFAULT ROLE"];
                let word = if self.tokens.eat("DEFAULT") { "ROLE" } else { "PASSWORD" };
                let found = self.tokens.eat(word).then_some(what[usize::from(word == "ROLE")]);
                (found.map_or("SET".into(), |what| format!("SET {what}")), Vec::new())
            }
            "INSTALL" | "UNINSTALL" | "FLUSH" => {
                let words = [
                    "PLUGIN",
                    "SONAME",
                    "COMPONENT",
                    "PRIVILEGES",
                    "TABLES",
                    "TABLE",
                    "LOGS",
                    "STATUS",
                    "HOSTS",
                    "USER_RESOURCES",
                ];
                let word = self.tokens.next().and_then(|token| token.one_of(&words));
                (word.map_or(verb.into(), |word| format!("{verb} {word}")), Vec::new())
            }
            _ => (verb.into(), Vec::new()),
        })
    }

    /// `CREATE`, `ALTER` and `DROP` of whatever.
    fn object(&mut self, verb: &str) -> Shown {
        let mut text = verb.to_string();
        let Some(kind) = self.kind(&mut text) else { return (text, Vec::new()) };
        if kind == "PACKAGE" && self.tokens.eat("BODY") {
            text += " BODY";
        }
        self.if_exists(&mut text);
        match kind {
            "TABLE" | "TABLES" | "VIEW" | "SEQUENCE" => {
                let (text, mut touches) = self.objects(text, if verb == "DROP" { MOST } else { 1 });
                if verb == "ALTER" {
                    touches.extend(self.new_name());
                }
                (text, touches)
            }
            "DATABASE" | "SCHEMA" => match self.part() {
                Some(name) => {
                    text += &format!(" {}", shown(&name));
                    (text, vec![Touch::Database(name)])
                }
                None => (text, Vec::new()),
            },
            "INDEX" | "TRIGGER" => self.on_table(text, kind),
            "USER" | "ROLE" => {
                if let Some(account) = self.account() {
                    text += &format!(" {account}");
                }
                (text, Vec::new())
            }
            "INSTANCE" => (text, Vec::new()),
            "SERVER" | "TABLESPACE" => {
                if let Some(name) = self.part() {
                    text += &format!(" {}", shown(&name));
                }
                (text, Vec::new())
            }
            _ => self.objects(text, 1),
        }
    }

    /// The kind of object, which is added to the text with those words before it that matter.
    fn kind(&mut self, text: &mut String) -> Option<&'static str> {
        loop {
            let token = self.tokens.next()?;
            if let Some(kind) = token.one_of(&KINDS) {
                *text += &format!(" {kind}");
                return Some(kind);
            }
            if let Some(word) = token.one_of(&SHOWN) {
                *text += &format!(" {word}");
                continue;
            }
            match token.one_of(&["DEFINER", "ALGORITHM", "SQL", "IGNORE", "NO_WAIT", "RESOURCE"])? {
                // DEFINER = name@host, CURRENT_USER() or CURRENT_ROLE
                "DEFINER" => {
                    self.tokens.eat_sign(b'=');
                    self.account()?;
                    if self.tokens.eat_sign(b'(') {
                        self.tokens.eat_sign(b')');
                    }
                }
                "ALGORITHM" => {
                    self.tokens.eat_sign(b'=');
                    self.tokens.next()?;
                }
                "SQL" => {
                    self.tokens.eat("SECURITY").then_some(())?;
                    self.tokens.next()?;
                }
                "RESOURCE" => {
                    self.tokens.eat("GROUP").then(|| *text += " RESOURCE GROUP");
                    return None;
                }
                _ => {}
            }
        }
    }

    fn if_exists(&mut self, text: &mut String) {
        if self.tokens.eat("IF") {
            *text += " IF";
            if self.tokens.eat("NOT") {
                *text += " NOT";
            }
            if self.tokens.eat("EXISTS") {
                *text += " EXISTS";
            }
        }
    }

    /// At most so many names with commas between.
    fn objects(&mut self, mut text: String, most: usize) -> Shown {
        let mut touches = Vec::new();
        self.if_exists(&mut text);
        while let Some(name) = self.name() {
            text += if touches.is_empty() { " " } else { ", " };
            text += &name.shown();
            touches.push(Touch::Object(name));
            if touches.len() >= most || !self.tokens.eat_sign(b',') {
                break;
            }
        }
        (text, touches)
    }

    /// An object on a table: `name ... ON table`.
    fn on_table(&mut self, mut text: String, kind: &str) -> Shown {
        let name = if kind == "INDEX" { self.part().map(|name| shown(&name)) } else { None };
        let name = name.or_else(|| self.name().map(|name| name.shown()));
        text.extend(name.map(|name| format!(" {name}")));
        // Between there are words only: USING BTREE, or BEFORE INSERT.
        while let Some(token @ Token::Word(_)) = self.tokens.next() {
            if token.is("ON") {
                let Some(table) = self.name() else { break };
                text += &format!(" ON {}", table.shown());
                return (text, vec![Touch::Object(table)]);
            }
        }
        (text, Vec::new())
    }

    /// `RENAME TABLE a TO b, c TO d`, `RENAME USER`.
    fn renamed(&mut self) -> Shown {
        if !self.tokens.eat("TABLE") && !self.tokens.eat("TABLES") {
            let text = if self.tokens.eat("USER") { "RENAME USER" } else { "RENAME" };
            return (text.into(), Vec::new());
        }
        let (mut text, mut touches) = (String::from("RENAME TABLE"), Vec::new());
        self.if_exists(&mut text);
        while let Some(from) = self.name() {
            // MariaDB: WAIT n, NOWAIT
            while self.tokens.peek().is_some_and(|t| !t.is("TO") && matches!(t, Token::Word(_))) {
                self.tokens.next();
            }
            self.tokens.eat("TO");
            text += if touches.is_empty() { " " } else { ", " };
            text += &from.shown();
            touches.push(Touch::Object(from));
            if let Some(to) = self.name() {
                text += &format!(" TO {}", to.shown());
                touches.push(Touch::Object(to));
            }
            if touches.len() >= MOST || !self.tokens.eat_sign(b',') {
                break;
            }
        }
        (text, touches)
    }

    /// The new name that an `ALTER TABLE` gives, which is not shown: literals stand before it.
    fn new_name(&mut self) -> Option<Touch> {
        while let Some(token) = self.tokens.next() {
            if !token.is("RENAME") {
                continue;
            }
            if self.tokens.peek()?.one_of(&["COLUMN", "INDEX", "KEY"]).is_some() {
                continue;
            }
            let _ = self.tokens.eat("TO") || self.tokens.eat("AS") || self.tokens.eat_sign(b'=');
            return self.name().map(Touch::Object);
        }
        None
    }
}
