//! The primary as a round sees it: what there is, a session, and how many statements it took.

use std::collections::BTreeSet;

use mysql::Conn;

use super::values::{Column, any};
use crate::support::server::query;
use crate::support::{Primary, flavor};
use crate::torture::plan::Dice;

/// Names that end, begin or are taken for something else when they are not quoted; a number follows.
const NAMES: [&str; 24] = [
    "plain", "a b", "a.b", "a`b", "a\"b", "a'b", "sélect", "UpPer", "$x", "#sql", "a%b", "a\\b",
    "日本", "1e", "a-b", "a/b", "a;b", "-- x", "/*x", "*/x", "a\tb", "a,(b)", "@a", "a\nb",
];
/// Names of columns as they are, as long as nothing else is called so.
const WORDS: [&str; 8] = ["select", "key", "order", "row_count", "c", "`", "id of a row", "ÄöÜß"];

/// A table of the round.
#[derive(Clone, Debug)]
pub struct Table {
    /// Quoted.
    pub schema: String,
    /// Quoted, with its schema.
    pub name: String,
    /// In lower case.
    pub engine: String,
    /// The first is a number.
    pub columns: Vec<Column>,
}

impl Table {
    /// Columns that may be given a value.
    pub fn given(&self) -> Vec<&Column> {
        self.columns.iter().filter(|c| !c.generated).collect()
    }

    /// The number of its rows, quoted.
    pub fn id(&self) -> &str {
        &self.columns[0].name
    }

    /// A replica that was started again has no rows of it.
    pub fn forgets(&self) -> bool {
        self.engine == "memory"
    }
}

/// What there is by now, and the dice that decide what comes.
pub struct World {
    /// The number of the round.
    pub round: u64,
    /// Decides everything.
    pub dice: Dice,
    /// What the primary was told and took, for whoever looks for a cause.
    pub said: Vec<String>,
    /// Statements that it took, and those that it refused.
    pub taken: u32,
    pub refused: u32,
    /// Quoted.
    pub schemas: Vec<String>,
    pub tables: Vec<Table>,
    /// Quoted, with their schemas.
    pub sequences: Vec<String>,
    pub views: Vec<String>,
    /// `FUNCTION name` and the like, with what a call of it gets.
    pub routines: Vec<(String, &'static str)>,
    /// As statements have them.
    pub users: Vec<String>,
    pub roles: Vec<String>,
    session: Conn,
    names: BTreeSet<String>,
    count: u64,
}

impl World {
    /// The world of a round, empty.
    pub fn new(primary: &Primary, seed: u64, round: u64) -> World {
        World {
            round,
            dice: Dice::new(seed, round),
            said: Vec::new(),
            taken: 0,
            refused: 0,
            schemas: Vec::new(),
            tables: Vec::new(),
            sequences: Vec::new(),
            views: Vec::new(),
            routines: Vec::new(),
            users: Vec::new(),
            roles: Vec::new(),
            session: primary.open().unwrap(),
            names: BTreeSet::new(),
            count: 0,
        }
    }

    /// Goes on in another session.
    pub fn reconnect(&mut self, primary: &Primary) {
        self.session = primary.open().unwrap();
        self.said.push("-- another session".into());
    }

    /// Another number each time.
    pub fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// A name of a schema, table or the like that is not used yet, quoted.
    pub fn name(&mut self) -> String {
        let n = self.next();
        let word = match self.dice.percent(6) {
            true => "x".repeat(58),
            false if self.dice.percent(40) => "t".into(),
            // MariaDB loses a partitioned table with a slash in its name when a partition is dropped.
            false => self.dice.pick(&NAMES).replace('/', flavor::either("|", "/")),
        };
        quoted(&format!("{word}{n}"))
    }

    /// A name of a column, quoted.
    pub fn column_name(&mut self) -> String {
        let word = quoted(self.dice.pick(&WORDS));
        if self.dice.percent(50) || !self.names.insert(word.clone()) { self.name() } else { word }
    }

    /// Columns of another table may be called like those of the last one.
    pub fn new_table(&mut self) {
        self.names.clear();
    }

    /// A name in a schema, quoted.
    pub fn full_name(&mut self) -> String {
        let (schema, name) = (self.schema(), self.name());
        format!("{schema}.{name}")
    }

    /// One of the schemas.
    pub fn schema(&mut self) -> String {
        let n = self.dice.below(self.schemas.len() as u64);
        self.schemas[n as usize].clone()
    }

    /// One of the tables.
    pub fn table(&mut self) -> Option<Table> {
        one(&mut self.dice, &self.tables.clone())
    }

    /// One of the words, see [`any`].
    pub fn word(&mut self, words: &'static str) -> &'static str {
        any(&mut self.dice, words)
    }

    /// True so many times in a hundred: then the words, else nothing.
    pub fn maybe(&mut self, percent: u64, words: &str) -> String {
        if self.dice.percent(percent) { format!(" {words}") } else { String::new() }
    }

    /// Says something to the primary; did it take that?
    pub fn say(&mut self, statement: &str) -> bool {
        match query(&mut self.session, statement) {
            Ok(_) => {
                self.taken += 1;
                self.said.push(statement.to_string());
                true
            }
            Err(mysql::Error::MySqlError(e)) => {
                self.refused += 1;
                self.said.push(format!("-- {} {}: {statement}", e.code, e.message));
                false
            }
            Err(e) => panic!("the primary ended the session: {statement}: {e}"),
        }
    }

    /// Says what must be done, and is not counted.
    pub fn set(&mut self, statement: &str) {
        query(&mut self.session, statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        self.said.push(statement.to_string());
    }

    /// The first column of what it answers.
    pub fn ask(&mut self, statement: &str) -> Vec<String> {
        let rows = query(&mut self.session, statement);
        let rows = rows.unwrap_or_else(|e| panic!("{statement}: {e}"));
        rows.into_iter().map(|mut row| row.remove(0)).collect()
    }

    /// Looks at what tables there are now.
    pub fn look(&mut self) {
        let srid = flavor::either("''", "COALESCE(c.srs_id, '')");
        let rows = query(
            &mut self.session,
            &format!(
                "SELECT c.table_schema, c.table_name, LOWER(t.engine), c.column_name, \
                   LOWER(c.data_type), LOWER(c.column_type), COALESCE(c.character_set_name, ''), \
                   c.is_nullable, COALESCE(c.generation_expression, ''), {srid} \
                 FROM information_schema.columns c JOIN information_schema.tables t \
                   ON t.table_schema = c.table_schema AND t.table_name = c.table_name \
                 WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND c.table_schema NOT IN \
                   ('mysql', 'sys', 'information_schema', 'performance_schema') \
                 ORDER BY c.table_schema, c.table_name, c.ordinal_position"
            ),
        );
        self.tables.clear();
        for row in rows.expect("columns") {
            let [schema, name, engine, rest @ ..] = row.as_slice() else { continue };
            let schema = quoted(schema);
            let name = format!("{schema}.{}", quoted(name));
            if self.tables.last().is_none_or(|t| t.name != name) {
                let (engine, columns) = (engine.clone(), Vec::new());
                self.tables.push(Table { schema, name, engine, columns });
            }
            self.tables.last_mut().expect("a table").columns.push(Column::of(rest));
        }
        // Others were made by a statement of which only a part was taken.
        self.tables.retain(|t| t.columns[0].data_type.ends_with("int"));
    }
}

/// One of them, if there are any.
pub fn one<T: Clone>(dice: &mut Dice, all: &[T]) -> Option<T> {
    (!all.is_empty()).then(|| all[dice.below(all.len() as u64) as usize].clone())
}

/// A name for any statement.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
