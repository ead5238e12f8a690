//! Tables that a dumping client may change.
//!
//! Both servers print a FLOAT with six digits, which is not enough to get it back; as a DOUBLE they print all
//! of it. A DOUBLE of -0 becomes 0, since the clients do not quote it. The text of an ENUM does not tell a
//! member '' from the value that stands for none. Text passes as Unicode, from which not all of it comes back
//! to an older character set: a backslash of sjis becomes another one. A replica's next change of such a row may not find it. An
//! ARCHIVE table that counts is made with its counter, and then takes no row with a lower number. So
//! these tables are left out of the dump, and copied by sessions of ours, one of which reads at the moment
//! of the dump.

use crate::compare::names::identifier;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::{LARGEST_PACKET, Rows, Session};
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, denies_access, refused, show_all};
use crate::seed::carried::Table;
use crate::seed::literals::{Kind, as_unicode, text, write_row};
use crate::seed::modes::{UNKNOWN_VARIABLE, accepted, modes};
use crate::seed::tables::NO_CACHE;
use crate::server::error_log::without_statement;
use crate::text::{harmless, plain};

/// A statement that inserts is not begun to be made longer than this, bytes.
const STATEMENT: usize = 1 << 20;

/// A session with the primary that reads rows of any size.
///
/// # Errors
/// Those of any login to the primary.
pub fn reader(primary: &Primary, facts: &Facts) -> Result<Session> {
    let account = primary.account_at(facts);
    let (host, port) = (&facts.address.host, facts.address.port);
    let refused = |t| refused(&facts.address, t);
    let mut session = Session::over_tcp_of(host, port, &account, primary.patience, LARGEST_PACKET)
        .map_err(refused)?;
    session.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").map_err(refused)?;
    // A server waits that long for us to read on.
    let settings = "SET NAMES utf8mb4, SESSION net_write_timeout = 86400, \
         SESSION wait_timeout = 86400, SESSION time_zone = '+00:00', SESSION sql_mode = ''";
    session.run(settings).map_err(refused)?;
    show_all(&mut session, facts);
    if facts.flavor == Flavor::MySql {
        session.run(NO_CACHE).map_err(refused)?;
    }
    Ok(session)
}

/// Copies tables from the primary to the private server.
pub struct Carrier {
    /// Reads, at one moment.
    pub from: Session,
    /// Writes.
    pub to: Session,
    /// The tables.
    pub tables: Vec<Table>,
    /// Whose tables.
    pub facts: Facts,
}

impl Carrier {
    /// Makes the tables, still empty: views of the dump need them.
    ///
    /// # Errors
    /// Those of the primary, and of a table that the private server cannot make.
    pub fn define(&mut self) -> Result<()> {
        for setting in [
            "SESSION foreign_key_checks = 0, SESSION unique_checks = 0, SESSION time_zone = '+00:00'",
            &format!("SESSION sql_mode = '{}'", modes(self.facts.flavor, &self.facts.settings)),
        ] {
            self.apply("a setting", &format!("SET {setting}"))?;
        }
        // The global settings came after this session.
        for setting in accepted(self.facts.flavor) {
            match self.to.run(&format!("SET SESSION {setting} = 0")) {
                Err(Trouble::Server { errno: UNKNOWN_VARIABLE, .. }) => {}
                done => done.map_err(|t| failed("a setting", t))?,
            }
        }
        if self.tables.iter().any(|table| table.versioned) {
            self.apply("a setting", "SET SESSION system_versioning_insert_history = 1")?;
        }
        for at in 0..self.tables.len() {
            let table = self.tables[at].clone();
            let schema = identifier(&table.schema);
            if at == 0 || self.tables[at - 1].schema != table.schema {
                let make = format!("SHOW CREATE DATABASE IF NOT EXISTS {schema}");
                let make = self.ask(&make)?.require("Create Database")?.to_string();
                self.apply(&table.schema, &make)?;
            }
            let make = without_counter(&self.printed(&table)?);
            self.apply(&table.full(), &format!("USE {schema}"))?;
            self.apply(&table.full(), &make)?;
        }
        Ok(())
    }

    /// The statement that makes a table.
    fn printed(&mut self, table: &Table) -> Result<String> {
        let sql = format!("SHOW CREATE TABLE {}", table.quoted());
        if self.facts.flavor == Flavor::MariaDb {
            return Ok(self.ask(&sql)?.require("Create Table")?.to_string());
        }
        // MySQL prints a literal in the bytes of its own character set, and then takes them for Unicode.
        self.run_there("SET SESSION character_set_results = NULL")?;
        let answer = self.from.query_bytes(&sql).map_err(|t| self.refused(t))?;
        self.run_there("SET SESSION character_set_results = utf8mb4")?;
        as_unicode(answer.require("Create Table")?).ok_or_else(|| {
            Error::config(format!(
                "a dump would lose text in the definition of {}: use --from clone",
                plain(&table.full())
            ))
        })
    }

    /// Copies the rows.
    ///
    /// # Errors
    /// Those of the primary, and of a row that the private server does not take.
    pub fn fill(mut self) -> Result<()> {
        // Bytes as they are stored, in whatever character set.
        self.run_there("SET SESSION character_set_results = binary")?;
        let tables = std::mem::take(&mut self.tables);
        tables.iter().try_for_each(|table| self.copy(table))
    }

    fn copy(&mut self, table: &Table) -> Result<()> {
        // Going back to it lets go of the table, which could not be changed until the end otherwise.
        self.run_there("SAVEPOINT carried")?;
        let columns = self.columns(table)?;
        let list = |each: &dyn Fn(&(String, Kind)) -> String| {
            columns.iter().map(each).collect::<Vec<_>>().join(", ")
        };
        let select = format!(
            "SELECT {} FROM {}{}",
            list(&|(name, kind)| kind.expression(&identifier(name))),
            table.quoted(),
            if table.versioned { " FOR SYSTEM_TIME ALL" } else { "" }
        );
        let names = list(&|(name, _)| identifier(name));
        let begin = format!("INSERT INTO {} ({names}) VALUES ", table.quoted());
        let full = table.full();
        let mut insert = String::new();
        let to = &mut self.to;
        let copied = self.from.stream(&select, |row| {
            insert.push_str(if insert.is_empty() { &begin } else { "," });
            write_row(&columns, &row, &mut insert);
            if insert.len() < STATEMENT {
                return Ok(());
            }
            let run = to.run(&insert);
            insert.clear();
            run
        });
        copied.map_err(|t| self.refused(t))?.map_err(|t| failed(&full, t))?;
        if !insert.is_empty() {
            self.apply(&full, &insert)?;
        }
        self.run_there("ROLLBACK TO SAVEPOINT carried")
    }

    /// What is stored: also the columns of a period, which are computed for new rows only.
    fn columns(&mut self, table: &Table) -> Result<Vec<(String, Kind)>> {
        let sql = format!(
            "SELECT column_name, data_type, character_set_name, generation_expression \
             FROM information_schema.columns WHERE table_schema = {} AND table_name = {} \
             AND COALESCE(generation_expression, '') IN ('', 'ROW START', 'ROW END') \
             ORDER BY ordinal_position",
            text(&table.schema),
            text(&table.name)
        );
        let rows = self.ask(&sql)?;
        let column = |r: Vec<&str>| (r[0].to_string(), Kind::of(&r[1].to_lowercase(), r[2]));
        let mut columns: Vec<_> = rows.iter().map(column).collect();
        if table.versioned && rows.iter().all(|r| r[3].is_empty()) {
            columns.extend(["row_start", "row_end"].map(|name| (name.to_string(), Kind::Text)));
        }
        Ok(columns)
    }

    fn ask(&mut self, sql: &str) -> Result<Rows> {
        self.from.query(sql).map_err(|t| self.refused(t))
    }

    fn run_there(&mut self, sql: &str) -> Result<()> {
        self.ask(sql).map(drop)
    }

    fn apply(&mut self, what: &str, sql: &str) -> Result<()> {
        self.to.run(sql).map_err(|t| failed(what, t))
    }

    fn refused(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Server { errno, text } if !denies_access(errno) => Error::ReplicationError {
                errno,
                text: format!("reading a table: {}", plain(&text)),
            },
            trouble => refused(&self.facts.address, trouble),
        }
    }
}

/// The definition of an ARCHIVE table without the number that it counts from.
fn without_counter(make: &str) -> String {
    match make.rsplit_once(" ENGINE=ARCHIVE AUTO_INCREMENT=") {
        Some((columns, rest)) => {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{columns} ENGINE=ARCHIVE{rest}")
        }
        None => make.to_string(),
    }
}

/// What the private server says of `what`.
fn failed(what: &str, trouble: Trouble) -> Error {
    match trouble {
        Trouble::Server { errno, text } => Error::ReplicationError {
            errno,
            text: format!("loading {}: {}", harmless(what), without_statement(&text)),
        },
        _ => Error::MysqldHung { what: "answer to the load".into(), after: None },
    }
}
