//! `CHECK TABLE` on the private server, one table after the other: for a pass until its time is up, for
//! a proof until all are done.
//!
//! The statements run on a session of their own and a thread of their own: one of them may take hours.
//! It is killed when the time is up or the program is told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::compare::names::TableName;
use crate::compare::rotation::{self, Turns};
use crate::error::{Error, Result};
use crate::mysql::session::{Rows, Session};
use crate::mysql::trouble::Trouble;
use crate::os::clock::Timestamp;
use crate::os::workers::{Aside, locked};
use crate::server::error_log::without_statement;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::{Look, Supervisor, Telling, Wait};
use crate::text::harmless;

/// All tables but those that hold no data of their own: views, and tables that only lead to others. If
/// one of these is broken, it is broken on the primary, too. MariaDB lists engine and type without
/// opening the table; a table that cannot be opened has neither.
const TABLES: &str = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
    WHERE COALESCE(TABLE_TYPE, '') NOT IN ('VIEW', 'SYSTEM VIEW') \
    AND COALESCE(TABLE_TYPE, '') NOT LIKE 'TEMPORARY%' \
    AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema') \
    AND COALESCE(ENGINE, '') NOT IN \
    ('MRG_MyISAM', 'FEDERATED', 'CONNECT', 'SPIDER', 'S3', 'BLACKHOLE', 'ndbcluster')";
/// All the time there is: every table is checked.
pub const UNLIMITED: Duration = Duration::MAX;
/// Between two lines of the log that say that it goes on.
const TELL: Duration = Duration::from_secs(120);
/// How long a statement that was killed may take to end.
const GRACE: Duration = Duration::from_secs(30);
/// Errors of tables that are whole: made by an older server, without their file on purpose, or of an
/// engine that is not here.
const HARMLESS: [&str; 5] = [
    "upgrade required",
    "rebuild required",
    "has been discarded",
    "unknown storage engine",
    "is not loaded",
];
/// Words of an error that says nothing of the table. Not those of memory: a damaged one may ask for any.
const LACKING: &str = "too many open files";
/// The longest finding, characters.
const LONGEST: usize = 300;

/// What a check says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is whole.
    Right,
    /// It is not.
    Wrong(String),
    /// The server cannot tell, and why.
    Unknown(String),
    /// The server was refused files for it, and how it says so.
    Lacking(String),
    /// The time was up.
    Cut,
}

/// What is to be checked.
pub struct Job {
    /// The last turns of the tables.
    pub turns: Turns,
    /// These are left out.
    pub without: Vec<TableName>,
    /// When this is.
    pub now: Timestamp,
    /// For so long in all.
    pub time: Duration,
    /// A server that shows no sign of life for so long hangs; `None` trusts in the end of the time.
    pub patience: Option<Duration>,
}

/// What was checked, and how it came to an end.
pub struct Checked {
    /// Each table with its verdict, in order.
    pub verdicts: Vec<(TableName, Verdict)>,
    /// All tables that can be checked; empty if they could not be listed.
    pub listed: Vec<TableName>,
    /// Those of them that would take too long.
    pub too_long: Vec<TableName>,
    /// The table that was being checked when the server was lost.
    pub at: Option<TableName>,
    /// A stop, or what became of the server.
    pub ended: Result<()>,
}

/// What the thread tells the loop while it works.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// When the first table was begun.
    began: Mutex<Option<Instant>>,
    /// The time was up, and what ran was killed.
    killed: AtomicBool,
    at: Mutex<Option<TableName>>,
    verdicts: Mutex<Vec<(TableName, Verdict)>>,
    listed: Mutex<Vec<TableName>>,
    too_long: Mutex<Vec<TableName>>,
}

/// Checks tables in the order of their turns until the time is up.
pub fn check(supervisor: &mut Supervisor, mysqld: &mut Mysqld, job: Job) -> Checked {
    let shared = Arc::new(Shared::default());
    let mut ended = run(supervisor, mysqld, job, shared.clone());
    // Its thread may still be at it; what it finds now counts no more.
    shared.stop.store(true, Ordering::Release);
    let mut verdicts = std::mem::take(&mut *locked(&shared.verdicts));
    let wrong = verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Wrong(_)));
    if wrong && let Some(error) = mysqld.lacks_keys() {
        // What it cannot read is not damaged.
        verdicts.clear();
        ended = ended.and(Err(error));
    } else if wrong && mysqld.lacks_files() {
        for (_, verdict) in &mut verdicts {
            if let Verdict::Wrong(what) = verdict {
                *verdict = Verdict::Lacking(format!("{what} (its log: Too many open files)"));
            }
        }
    }
    Checked {
        verdicts,
        listed: std::mem::take(&mut *locked(&shared.listed)),
        too_long: std::mem::take(&mut *locked(&shared.too_long)),
        at: locked(&shared.at).take(),
        ended,
    }
}

fn run(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    job: Job,
    shared: Arc<Shared>,
) -> Result<()> {
    let (time, patience) = (job.time, job.patience);
    let mut session = mysqld.lend()?;
    // The loop watches the time.
    session.set_timeout(Duration::ZERO);
    let id = session.query("SELECT CONNECTION_ID()");
    let id: u64 = id
        .map_err(|t| mysqld.lost("answer to a query", t))?
        .first()
        .parse()
        .map_err(|_| Error::config("the private server has no connection id"))?;
    let theirs = shared.clone();
    let mut answer = Aside::ask(supervisor.waker(), move || {
        let ended = work(&mut session, &theirs, job);
        Ok((session, ended))
    })?;
    let every = time.clamp(Duration::from_millis(10), Duration::from_millis(100));
    let wait = Wait { every, patience };
    let (mut killed, mut at) = (None, None);
    let mut telling = Telling::new("tables are still being checked", TELL);
    let waited = supervisor.wait_for(mysqld, wait, |mysqld, _| {
        telling.look();
        if let Some(answer) = answer.take() {
            return answer.map(|answer| Look::Done(Some(answer)));
        }
        let now_at = locked(&shared.at).clone();
        let moved = now_at != at;
        if moved {
            if let Some(table) = &now_at {
                log::debug!("checking table {table}");
            }
            at = now_at;
        }
        let began = *locked(&shared.began);
        if began.is_some_and(|began| began.elapsed() >= time) {
            shared.killed.store(true, Ordering::Release);
            let since = *killed.get_or_insert_with(Instant::now);
            // The first one may come between two statements.
            kill(mysqld, id)?;
            if since.elapsed() >= GRACE {
                return Ok(Look::Done(None));
            }
        }
        Ok(if moved { Look::Moving } else { Look::Still })
    });
    match waited {
        Ok(Some(Some((session, ended)))) => {
            mysqld.give_back(session);
            ended.map_err(|t| mysqld.lost("answer to a check", t))
        }
        // The server ends it when it is shut down.
        Ok(Some(None)) => Ok(()),
        Ok(None) => Err(Error::MysqldHung { what: "end of CHECK TABLE".into(), after: patience }),
        Err(stop @ Error::Interrupted { .. }) => {
            shared.stop.store(true, Ordering::Release);
            let _ = kill(mysqld, id);
            Err(stop)
        }
        Err(e) => Err(e),
    }
}

/// Ends the statement that the session `id` is at, if any.
fn kill(mysqld: &mut Mysqld, id: u64) -> Result<()> {
    match mysqld.run(&format!("KILL QUERY {id}")) {
        // It is gone.
        Err(Error::ReplicationError { errno: 1094, .. }) => Ok(()),
        done => done,
    }
}

fn work(session: &mut Session, shared: &Shared, job: Job) -> Result<(), Trouble> {
    // The words of the answers are looked at.
    session.run("SET SESSION lc_messages = 'en_US'")?;
    let tables = session.query(TABLES)?;
    let mut tables: Vec<TableName> =
        tables.iter().map(|row| TableName::new(row[0], row[1])).collect();
    tables.sort();
    locked(&shared.listed).clone_from(&tables);
    let (tables, too_long) = rotation::order(tables, &job.turns, job.now, job.time);
    *locked(&shared.too_long) = too_long;
    let began = Instant::now();
    *locked(&shared.began) = Some(began);
    for table in tables {
        if began.elapsed() >= job.time || shared.stop.load(Ordering::Acquire) {
            break;
        }
        if job.without.contains(&table) {
            continue;
        }
        *locked(&shared.at) = Some(table.clone());
        let answer = session.query(&format!("CHECK TABLE {}", table.quoted()));
        let verdict = match answer {
            // One that was killed says so in one way or another.
            Ok(_) | Err(Trouble::Server { .. }) if shared.killed.load(Ordering::Acquire) => {
                Verdict::Cut
            }
            Ok(rows) => judge(&rows),
            // Not of a server that is being shut down.
            Err(Trouble::Server { errno, text }) if !matches!(errno, 1053 | 3169) => {
                failed(errno, &without_statement(&text))
            }
            Err(lost) => return Err(lost),
        };
        *locked(&shared.at) = None;
        locked(&shared.verdicts).push((table, verdict));
    }
    Ok(())
}

/// What it means that the statement itself failed. 23 and 24 are of opening files.
fn failed(errno: u16, text: &str) -> Verdict {
    let said = format!("error {errno}: {text}");
    let lacks = matches!(errno, 23 | 24) || text.to_lowercase().contains(LACKING);
    if lacks { Verdict::Lacking(said) } else { Verdict::Wrong(said) }
}

/// What the answer of `CHECK TABLE` means: rows of table, operation, type and text of a message.
fn judge(rows: &Rows) -> Verdict {
    let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
    let (mut found, mut is_well, mut is_wrong, mut unknown) = (Vec::new(), false, false, None);
    for row in rows.iter() {
        let [_, _, kind, text] = row.as_slice() else { continue };
        let (kind, text) = (kind.to_lowercase(), harmless(text));
        let lower = text.to_lowercase();
        match kind.as_str() {
            "status" if matches!(lower.as_str(), "ok" | "table is already up to date") => {
                is_well = true;
            }
            "note" if lower.contains("doesn't support") => unknown = Some(short(&text)),
            "error" | "warning" | "status" if lower.contains(LACKING) => {
                return Verdict::Lacking(short(&text));
            }
            "error" if HARMLESS.iter().any(|words| lower.contains(words)) => {
                return Verdict::Unknown(short(&text));
            }
            "status" | "error" | "warning" => {
                is_wrong |= kind != "warning";
                found.push(text);
            }
            _ => {}
        }
    }
    found.dedup();
    match unknown {
        _ if is_wrong => Verdict::Wrong(short(&found.join("; "))),
        Some(why) => Verdict::Unknown(why),
        None if is_well => Verdict::Right,
        None => Verdict::Wrong("no answer".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_and_bad_ends_are_a_finding() {
        let rows = |rows: &[(&str, &str)]| {
            Rows::of(rows.iter().map(|(kind, text)| vec!["a.t", "check", kind, text]))
        };
        let wrong = |text: &str| Verdict::Wrong(text.into());
        let unknown = |text: &str| Verdict::Unknown(text.into());
        for (said, verdict) in [
            (vec![("status", "OK")], Verdict::Right),
            // A MyISAM table of a server that was killed.
            (vec![("warning", "1 client is using it"), ("status", "OK")], Verdict::Right),
            (
                vec![("note", "The storage engine for the table doesn't support check")],
                unknown("The storage engine for the table doesn't support check"),
            ),
            (
                vec![("error", "Table rebuild required. Please do \"ALTER TABLE\"")],
                unknown("Table rebuild required. Please do \"ALTER TABLE\""),
            ),
            (
                vec![("Error", "Unknown storage engine 'X'"), ("error", "Corrupt")],
                unknown("Unknown storage engine 'X'"),
            ),
            (
                vec![("Warning", "InnoDB: bad\nindex"), ("error", "Corrupt")],
                wrong("InnoDB: bad?index; Corrupt"),
            ),
            (
                vec![
                    ("Error", "Got error 24 \"Too many open files\" from storage engine InnoDB"),
                    ("error", "Corrupt"),
                ],
                Verdict::Lacking(
                    "Got error 24 \"Too many open files\" from storage engine InnoDB".into(),
                ),
            ),
            (
                vec![("Error", "Out of memory (Needed 4294967295 bytes)"), ("error", "Corrupt")],
                wrong("Out of memory (Needed 4294967295 bytes); Corrupt"),
            ),
            (vec![("status", "Operation failed")], wrong("Operation failed")),
            (
                vec![("Error", "Size of indexfile is: 1, should be: 2"), ("status", "OK")],
                wrong("Size of indexfile is: 1, should be: 2"),
            ),
            (vec![], wrong("no answer")),
            (
                vec![
                    ("Error", "Table 'a.t' doesn't exist in engine"),
                    ("status", "Operation failed"),
                ],
                wrong("Table 'a.t' doesn't exist in engine; Operation failed"),
            ),
        ] {
            assert_eq!(judge(&rows(&said)), verdict, "{said:?}");
        }
    }
}
