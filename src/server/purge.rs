//! The purge of MariaDB's InnoDB, which removes rows marked as deleted, and the ids of transactions from
//! rows that they changed. What a server leaves of it is done by the next one: a night with nothing new
//! would change half as many pages once more as the night before (10.11, 1 % of the rows, at random).
//! MySQL keeps these ids, and purges the rest while it stops.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::mysql::flavor::Flavor;
use crate::mysql::trouble::Trouble;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::{Look, Stop, Supervisor, Wait};

/// How long it is waited for. It keeps pace with a long catch-up, so that little is left at its end.
const MOST: Duration = Duration::from_secs(10);

/// `ER_STATEMENT_TIMEOUT` of MariaDB.
const TIMED_OUT: u16 = 1969;

/// Lets a server that changes nothing else finish its purge, for [`MOST`]; not in a pass that is ending
/// for another reason.
///
/// # Errors
/// A stop; a server that died, or does not answer.
pub fn finish(supervisor: &mut Supervisor, mysqld: &mut Mysqld, flavor: Flavor) -> Result<()> {
    if flavor != Flavor::MariaDb || supervisor.stop() != Stop::No {
        return Ok(());
    }
    let began = Instant::now();
    let wait = Wait { every: Duration::from_millis(1), patience: None };
    let left = supervisor.wait_for(mysqld, wait, |mysqld, _| {
        let left = left(mysqld)?;
        let done = left == 0 || began.elapsed() >= MOST || !go_on(mysqld)?;
        Ok(if done { Look::Done(left) } else { Look::Still })
    })?;
    if let Some(left @ 1..) = left {
        log::debug!("the next pass will purge {left} undo logs more");
    }
    Ok(())
}

/// The number of undo logs to be purged; 0 where the server does not tell.
fn left(mysqld: &mut Mysqld) -> Result<u64> {
    let answer = mysqld.control()?.query("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'");
    match answer {
        Ok(rows) => Ok(rows.iter().next().and_then(|row| row.get(1)?.parse().ok()).unwrap_or(0)),
        Err(Trouble::Server { .. }) => Ok(0),
        Err(trouble) => Err(mysqld.lost("answer to a status query", trouble)),
    }
}

/// Wakes the purge, where an idle server would wait for up to a second, and waits for it in steps of a tenth
/// of a second; the variable itself does not change. `false` if the server has no such statement.
fn go_on(mysqld: &mut Mysqld) -> Result<bool> {
    let sql = "SET STATEMENT max_statement_time = 0.1 FOR SET GLOBAL innodb_max_purge_lag_wait = 0";
    match mysqld.control()?.run(sql) {
        Ok(()) | Err(Trouble::Server { errno: TIMED_OUT, .. }) => Ok(true),
        Err(Trouble::Server { .. }) => Ok(false),
        Err(trouble) => Err(mysqld.lost("answer to a statement", trouble)),
    }
}
