//! Transactions that a primary has prepared (XA): no dump holds them, and their end, which the binary log
//! has after it, can then not be applied. So a dump begins at a moment when there are none.
//!
//! MySQL shows them only to those with XA_RECOVER_ADMIN. Others see that a transaction has no session, as
//! with one that is prepared, and those of sessions that have not let go of theirs.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::{Rows, Session};
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, refused};
use crate::supervisor::main_loop::Supervisor;
use crate::supervisor::watched::Watched;

/// How long the end of those that are prepared is waited for in all: an application commits them at once.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// As many are named.
const NAMED: usize = 5;
/// The longest name that is shown, characters.
const LONGEST: usize = 300;

/// Prepared transactions that have no session; a background one lasts for a moment.
const WITHOUT_SESSION: &str = "\
    SELECT CONCAT('transaction ', trx_id, ' without a session') FROM information_schema.innodb_trx \
    WHERE trx_mysql_thread_id = 0 AND trx_state = 'RUNNING' AND trx_rows_modified > 0";

/// Those of sessions, where the server notes it.
const OF_SESSIONS: &str = "\
    SELECT xid_gtrid FROM performance_schema.events_transactions_current WHERE xa_state = 'PREPARED'";

/// Statements that end one.
const ENDS: &str = "\
    SHOW GLOBAL STATUS WHERE variable_name IN ('Com_xa_commit', 'Com_xa_rollback')";

/// How many statements the primary had been given to end one: none is prepared and ended unseen between two
/// looks that see none if that is the same. MariaDB lists one only when it has written it to its disk, so
/// one that is in its binary log may still be missing: its end is then an error, and the dump is made again.
#[derive(Debug, PartialEq, Eq)]
pub struct Ends(Vec<String>);

/// Looks for a moment without any.
pub struct Absence<'a> {
    primary: &'a Primary,
    facts: &'a Facts,
    left: Duration,
}

impl<'a> Absence<'a> {
    /// On the primary of `facts`; it has not waited yet.
    pub fn new(primary: &'a Primary, facts: &'a Facts) -> Absence<'a> {
        Absence { primary, facts, left: PATIENCE }
    }

    /// Waits until none is prepared.
    ///
    /// # Errors
    /// [`Error::Configuration`] naming those that stay prepared; those of any query to the primary.
    pub fn wait<W: Watched>(
        &mut self,
        supervisor: &mut Supervisor,
        watched: &mut W,
    ) -> Result<Ends> {
        let began = Instant::now();
        let mut told = false;
        loop {
            let (names, ends) = self.look(supervisor, watched, Order::EndsFirst)?;
            if names.is_empty() {
                if told {
                    self.left = self.left.saturating_sub(began.elapsed());
                }
                return Ok(ends);
            }
            if began.elapsed() >= self.left {
                return Err(stays(self.facts, &names));
            }
            if !told {
                log::info!("waiting for prepared transactions (XA) to end: {}", listed(&names));
                told = true;
            }
            supervisor.pause(watched, PAUSE)?;
        }
    }

    /// True if none was prepared at any moment since that was seen with `ends`, or, without these, if none
    /// is now.
    ///
    /// # Errors
    /// Those of any query to the primary.
    pub fn lasted<W: Watched>(
        &self,
        ends: Option<&Ends>,
        supervisor: &mut Supervisor,
        watched: &mut W,
    ) -> Result<bool> {
        let (names, now) = self.look(supervisor, watched, Order::ListFirst)?;
        Ok(names.is_empty() && ends.is_none_or(|ends| now == *ends))
    }

    fn look<W: Watched>(
        &self,
        supervisor: &mut Supervisor,
        watched: &mut W,
        order: Order,
    ) -> Result<(Vec<String>, Ends)> {
        let facts = self.facts.clone();
        self.primary.question(supervisor, watched, move |primary| look(primary, &facts, order))
    }
}

/// In which the two questions of a look are asked: what ends between them is to be in one of the answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    EndsFirst,
    ListFirst,
}

fn look(primary: &Primary, facts: &Facts, order: Order) -> Result<(Vec<String>, Ends)> {
    let refused = |t| refused(&facts.address, t);
    let mut session = primary.open(facts)?;
    let mut names = Vec::new();
    if order == Order::ListFirst {
        names = list(&mut session, facts.flavor).map_err(refused)?;
    }
    let ends = session.query(ENDS).map_err(refused)?;
    let ends = Ends(ends.iter().map(|row| row.join(" ")).collect());
    if order == Order::EndsFirst {
        names = list(&mut session, facts.flavor).map_err(refused)?;
    }
    Ok((names, ends))
}

/// The names of all that are prepared now.
///
/// # Errors
/// A lost session.
pub fn list(session: &mut Session, flavor: Flavor) -> Result<Vec<String>, Trouble> {
    let listing = match flavor {
        Flavor::MariaDb => "XA RECOVER FORMAT='SQL'",
        Flavor::MySql => "XA RECOVER CONVERT XID",
    };
    match session.query(listing) {
        Ok(rows) => return Ok(names(&rows)),
        Err(Trouble::Server { errno, .. }) => log::debug!("error {errno} from {listing}"),
        Err(lost) => return Err(lost),
    }
    let mut names = Vec::new();
    for sql in [WITHOUT_SESSION, OF_SESSIONS] {
        match session.query(sql) {
            Ok(rows) => names.extend(rows.iter().map(|row| row.concat())),
            Err(Trouble::Server { errno, .. }) => log::debug!("error {errno} from {sql}"),
            Err(lost) => return Err(lost),
        }
    }
    Ok(names)
}

/// As `XA COMMIT` takes them: MariaDB says so by itself, MySQL gives the bytes of both parts.
fn names(rows: &Rows) -> Vec<String> {
    let name = |row: Vec<&str>| {
        let data = row.get(3).copied().unwrap_or_default();
        let parts = data.strip_prefix("0x").and_then(|hex| {
            let length: usize = row[1].parse().ok()?;
            Some((hex.get(..length.checked_mul(2)?)?, hex.get(length * 2..)?))
        });
        match parts {
            Some((global, branch)) => {
                format!("{},{},{}", literal(global), literal(branch), row[0])
            }
            None => data.to_string(),
        }
    };
    rows.iter().map(name).collect()
}

/// Bytes in hexadecimal as text where they are that.
fn literal(hex: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    let simple = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'\'' | b'\\');
    match bytes {
        Some(bytes) if bytes.iter().all(simple) => {
            format!("'{}'", String::from_utf8_lossy(&bytes))
        }
        _ => format!("X'{hex}'"),
    }
}

fn listed(names: &[String]) -> String {
    let short = |name: &String| name.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    let mut shown: Vec<String> = names.iter().take(NAMED).map(short).collect();
    if names.len() > NAMED {
        shown.push(format!("{} more", names.len() - NAMED));
    }
    shown.join("; ")
}

fn stays(facts: &Facts, names: &[String]) -> Error {
    let other = match facts.flavor {
        Flavor::MariaDb => "--from dir:PATH",
        Flavor::MySql => "--from clone or dir:PATH",
    };
    Error::config(format!(
        "a dump does not hold the transactions that {} has prepared (XA), and their end could not be \
         applied to it: {}; commit or roll them back there (XA RECOVER lists them), or use {other}",
        facts.address,
        listed(names)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_transactions_are_named_as_statements_take_them() {
        let rows = [
            vec!["1", "2", "0", "0x7831"],
            vec!["7", "2", "1", "0x783A62"],
            vec!["1", "1", "1", "0x0027"],
            vec!["1", "9", "0", "0x78"],
            vec!["1", "2", "0", "X'7831',X'',1"],
        ];
        let expected = ["'x1','',1", "'x:','b',7", "X'00',X'27',1", "0x78", "X'7831',X'',1"];
        assert_eq!(names(&Rows::of(rows.into_iter())), expected);
        let many: Vec<String> = (0..7).map(|n| format!("'{n}\n'")).collect();
        assert_eq!(listed(&many), "'0'; '1'; '2'; '3'; '4'; 2 more");
    }
}
