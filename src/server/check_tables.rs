//! `CHECK TABLE` on the tables of a private server, those of the system included.
//!
//! Views, and tables that only lead to others (MERGE, FEDERATED and the like), hold no data of their
//! own and are left out: if one is broken, it is broken on the primary, too. The statements run one
//! by one on a thread of their own, and take as long as they take; the loop watches the server.

use std::net::Shutdown;
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::session::Session;
use crate::mysql::trouble::Trouble;
use crate::os::workers::{Crew, Gauge, locked};
use crate::server::error_log::without_statement;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::{Look, Supervisor, Telling, Wait};
use crate::text::harmless;

/// A longer text of a server says nothing more. Characters.
const LONGEST: usize = 200;

/// MariaDB lists engine and type without opening the table.
const TABLES: &str = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
    WHERE COALESCE(TABLE_TYPE, '') NOT IN ('VIEW', 'SYSTEM VIEW') \
    AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema') \
    AND COALESCE(ENGINE, '') NOT IN \
    ('MRG_MyISAM', 'FEDERATED', 'CONNECT', 'SPIDER', 'S3', 'BLACKHOLE', 'ndbcluster') \
    ORDER BY 1, 2";

/// What the checks found.
#[derive(Debug, Default)]
pub struct Checks {
    /// Tables that are sound.
    pub good: u64,
    /// Tables that the server cannot check, and why.
    pub unchecked: Vec<(String, String)>,
    /// Tables that are not sound, and what the server says of them.
    pub bad: Vec<(String, String)>,
    /// The table that is being checked, or was when the server died.
    pub at: Option<String>,
}

/// What the server says of one table.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Unchecked(String),
    Bad(String),
}

/// Checks all tables. `checks` is what was found, also if the server dies meanwhile.
///
/// # Errors
/// A stop; a server that died, does not answer, or shows no sign of life for `patience`.
pub fn check_all(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    patience: Option<Duration>,
    checks: &mut Checks,
) -> Result<()> {
    let mut session = mysqld.take_session()?;
    let lost = || Error::MysqldHung { what: "session with it is left".into(), after: None };
    let line = session.shutdown_handle().ok_or_else(lost)?;
    // One statement may take hours: the loop watches, and closes the connection if need be.
    session.set_timeout(Duration::ZERO);
    let found = Mutex::new(Checks::default());
    let waker = supervisor.waker();
    let mut crew = Crew::new(1, waker, |gauge| {
        let watched = watch(supervisor, mysqld, gauge, patience);
        if watched.is_err() {
            let _ = line.shutdown(Shutdown::Both);
        }
        watched
    });
    let gauge = crew.gauge();
    let checked = crew.alone(|| Ok(check_each(&mut session, &gauge, &found)));
    drop(crew);
    *checks = std::mem::take(&mut *locked(&found));
    checked?.map_err(|trouble| mysqld.lost("answer to CHECK TABLE", trouble))
}

fn watch(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    gauge: &Gauge,
    patience: Option<Duration>,
) -> Result<()> {
    let wait = Wait { every: Duration::from_millis(500), patience };
    let mut telling = Telling::new("tables are still being checked", Duration::from_secs(120));
    let mut before = 0;
    let waited = supervisor.wait_for(mysqld, wait, |_, _| {
        telling.look();
        let done = gauge.done();
        let moved = std::mem::replace(&mut before, done) != done;
        Ok(match gauge.finished() {
            true => Look::Done(()),
            false if moved => Look::Moving,
            false => Look::Still,
        })
    })?;
    let hung = || Error::MysqldHung { what: "end of CHECK TABLE".into(), after: patience };
    waited.ok_or_else(hung)
}

fn check_each(session: &mut Session, gauge: &Gauge, found: &Mutex<Checks>) -> Result<(), Trouble> {
    // The words of the answers are looked at.
    session.run("SET SESSION lc_messages = 'en_US'")?;
    let tables = session.query(TABLES)?;
    for row in tables.iter() {
        let [schema, table] = row[..] else { continue };
        if gauge.stopped() {
            break;
        }
        let name = harmless(&format!("{schema}.{table}"));
        locked(found).at = Some(name.clone());
        let sql = format!("CHECK TABLE {}.{}", identifier(schema), identifier(table));
        let said = match session.query(&sql) {
            Ok(rows) => {
                // Table, operation, kind of message, message.
                let said: Vec<(String, String)> = rows
                    .iter()
                    .filter_map(|row| Some((row.get(2)?.to_string(), row.get(3)?.to_string())))
                    .collect();
                verdict(&said)
            }
            Err(Trouble::Server { errno, text }) => {
                Verdict::Bad(format!("error {errno}: {}", short(&without_statement(&text))))
            }
            Err(trouble) => return Err(trouble),
        };
        let mut checks = locked(found);
        match said {
            Verdict::Good => checks.good += 1,
            Verdict::Unchecked(why) => checks.unchecked.push((name, why)),
            Verdict::Bad(what) => checks.bad.push((name, what)),
        }
        checks.at = None;
        gauge.add(1);
    }
    Ok(())
}

/// What the messages of one CHECK TABLE mean, each with its kind. The last one is the status.
fn verdict(said: &[(String, String)]) -> Verdict {
    let is_status = |kind: &str| kind.eq_ignore_ascii_case("status");
    match said.last() {
        Some((kind, text))
            if is_status(kind) && (text == "OK" || text == "Table is already up to date") =>
        {
            return Verdict::Good;
        }
        _ => {}
    }
    // The reason comes first, then that the operation failed.
    let reason = said.iter().find(|(kind, _)| !is_status(kind)).or(said.last());
    let reason = reason.map_or("it says nothing", |(_, text)| text.as_str());
    // Nothing is wrong with the data: an engine that cannot check or that this server lacks, or a
    // table of an old version.
    let excuses = [
        "doesn't support check",
        "Unknown storage engine",
        "is not loaded",
        "rebuild required",
        "upgrade required",
    ];
    if said.iter().any(|(_, text)| excuses.iter().any(|excuse| text.contains(excuse))) {
        Verdict::Unchecked(short(reason))
    } else {
        Verdict::Bad(short(reason))
    }
}

fn short(text: &str) -> String {
    harmless(text).chars().take(LONGEST).collect()
}

fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_finds_wrong_is_bad() {
        for (said, verdict) in [
            ("status:OK", "good"),
            ("warning:1 client is using or hasn't closed the table properly|status:OK", "good"),
            ("note:The storage engine for the table doesn't support check", "unchecked"),
            ("Error:Unknown storage engine 'X'|error:Corrupt", "unchecked"),
            ("error:Table rebuild required. Please do \"ALTER TABLE `t` FORCE\"", "unchecked"),
            ("Warning:InnoDB: Index 'k' contains 1 entries, should be 2.|error:Corrupt", "bad"),
            ("error:Size of indexfile is: 1, should be: 2|status:Operation failed", "bad"),
            ("status:Operation failed", "bad"),
            ("", "bad"),
        ] {
            let said: Vec<(String, String)> = said
                .split('|')
                .filter_map(|one| one.split_once(':'))
                .map(|(kind, text)| (kind.into(), text.into()))
                .collect();
            let found = match super::verdict(&said) {
                Verdict::Good => "good",
                Verdict::Unchecked(_) => "unchecked",
                Verdict::Bad(what) => {
                    assert!(said.len() < 2 || !what.contains("failed"), "{what}");
                    "bad"
                }
            };
            assert_eq!(found, verdict, "{said:?}");
        }
    }
}
