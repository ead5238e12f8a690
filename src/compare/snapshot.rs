//! A session with the primary whose rows are those of one position, without a lock.
//!
//! Each chunk is read below a savepoint that is rolled back: otherwise the transaction would hold on to
//! the definition of each table, and an ALTER on the primary, and all behind it, would wait for us. With a
//! binary log MariaDB holds on to it all the same, so that there no snapshot may last for long.

use std::time::Duration;

use crate::compare::sessions::position;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::session::{Rows, Session, quoted};
use crate::mysql::trouble::Trouble;
use crate::replication::primary::Facts;

/// MySQL does not say where a snapshot is, and MariaDB neither if the log up to there has an event larger than
/// max_allowed_packet. So many times one is taken in the hope that nothing happens meanwhile, so far apart.
const TRIES: u32 = 100;
const APART: &str = "DO SLEEP(0.02)";
/// No chunk takes longer, and no statement of ours runs on for longer when we are gone. If all the time
/// there is for a comparison is less, no chunk takes longer than that, but a second it may.
const LONGEST: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(1);

/// How long a snapshot may be kept: it keeps the primary from purging old versions of rows, and MariaDB from
/// changing the tables that were read.
pub fn lifetime(flavor: Flavor) -> Duration {
    match flavor {
        Flavor::MariaDb => Duration::from_secs(5),
        Flavor::MySql => Duration::from_secs(300),
    }
}

/// A session with the primary for comparisons.
pub struct Snapshot {
    session: Session,
    facts: Facts,
}

impl Snapshot {
    /// Prepares `session` for a comparison that has `time`: no statement waits for a lock for more than a
    /// second, or runs for long.
    ///
    /// # Errors
    /// Those of the session.
    pub fn prepare(
        mut session: Session,
        facts: &Facts,
        time: Duration,
    ) -> Result<Snapshot, Trouble> {
        let longest = time.clamp(SHORTEST, LONGEST);
        session.set_timeout(longest * 2);
        let limit = match facts.flavor {
            Flavor::MariaDb => format!("max_statement_time = {}", longest.as_secs_f64()),
            Flavor::MySql => format!("max_execution_time = {}", longest.as_millis()),
        };
        session.run(&format!(
            "SET SESSION {limit}, SESSION lock_wait_timeout = 1, SESSION wait_timeout = 28800"
        ))?;
        session.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        Ok(Snapshot { session, facts: facts.clone() })
    }

    /// Takes a snapshot in the place of an earlier one. `None` if the primary does not
    /// say where it is and gave no moment of rest.
    ///
    /// # Errors
    /// Those of the session.
    pub fn take(&mut self) -> Result<Option<Position>, Trouble> {
        const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
        self.end()?;
        if self.facts.flavor == Flavor::MariaDb {
            self.session.run(BEGIN)?;
            let at = self.said()?;
            if !at.is_empty() {
                return Ok(Some(at));
            }
            self.end()?;
        }
        for _ in 0..TRIES {
            let before = position(&mut self.session, &self.facts)?;
            self.session.run(BEGIN)?;
            if position(&mut self.session, &self.facts)? == before {
                return Ok(Some(before));
            }
            self.end()?;
            self.session.run(APART)?;
        }
        Ok(None)
    }

    /// Where MariaDB says that the snapshot is: empty if it does not.
    fn said(&mut self) -> Result<Position, Trouble> {
        let rows = self.session.query("SHOW STATUS LIKE 'binlog\\_snapshot\\_%'")?;
        let value = |name: &str| {
            let row = rows.iter().find(|row| row[0].eq_ignore_ascii_case(name));
            row.map_or(String::new(), |row| row[1].to_string())
        };
        let (file, at) = (value("Binlog_snapshot_file"), value("Binlog_snapshot_position"));
        let at: u64 = at.parse().unwrap_or(0);
        let sql = format!("SELECT BINLOG_GTID_POS({}, {at})", quoted(&file));
        let text = self.session.query(&sql)?.first().to_string();
        Position::parse(Flavor::MariaDb, &text).map_err(Trouble::Lost)
    }

    /// Reads below a savepoint.
    ///
    /// # Errors
    /// Those of the session.
    pub fn read(&mut self, sql: &str) -> Result<Rows, Trouble> {
        self.session.run("SAVEPOINT chunk")?;
        let rows = self.session.query(sql);
        if self.session.is_alive() {
            self.session.run("ROLLBACK TO SAVEPOINT chunk")?;
        }
        rows
    }

    /// Ends the snapshot.
    ///
    /// # Errors
    /// Those of the session.
    pub fn end(&mut self) -> Result<(), Trouble> {
        self.session.run("ROLLBACK")
    }
}
