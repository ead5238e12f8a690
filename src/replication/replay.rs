//! Applies relay logs that lie in the data directory, up to where they end. No primary is there.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::replication::replica::{self, ReplicaStatus};
use crate::report::meter::Unit;
use crate::server::mysqld::Mysqld;
use crate::server::{globals, key_rotation, mandatory_roles};
use crate::supervisor::main_loop::{Look, Supervisor, Wait};

/// Between two looks at the position.
const EVERY: Duration = Duration::from_millis(100);

/// How a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// At its goal.
    AtGoal,
    /// Before it, after a [rotation](key_rotation) that was passed over: another replay, on the server
    /// started again, goes on from there.
    Rotated,
}

/// Applies the relay logs from the first on, until the executed position is `goal`, where they end. The
/// applier then waits for more.
///
/// # Errors
/// The applier's; [`Error::Stalled`] if nothing moves for `stall`.
pub fn replay(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    goal: &Position,
    stall: Option<Duration>,
) -> Result<Ended> {
    let flavor = goal.flavor();
    globals::note(mysqld)?;
    // They begin where the data is, so it takes no position: the log ends where the data shall end.
    match flavor {
        Flavor::MariaDb => {
            mysqld.run(
                "CHANGE MASTER TO MASTER_HOST='none', MASTER_USER='none', MASTER_USE_GTID=no, \
                 RELAY_LOG_FILE='relay.000001', RELAY_LOG_POS=4",
            )?;
            mysqld.run("START SLAVE SQL_THREAD")?;
        }
        Flavor::MySql => {
            mysqld.run(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='none', SOURCE_USER='none', \
                 SOURCE_AUTO_POSITION=0, RELAY_LOG_FILE='relay.000001', RELAY_LOG_POS=4",
            )?;
            mysqld.run("START REPLICA SQL_THREAD")?;
        }
    }
    let begin = replica::position(mysqld, flavor)?;
    let all = begin.distance_to(goal);
    let mut last = begin;
    let wait = Wait { every: EVERY, patience: stall };
    let reached = supervisor.wait_for(mysqld, wait, |mysqld, checkpoint| {
        // Before the position: what it did before it stopped counts.
        let status = ReplicaStatus::read(mysqld, flavor)?;
        let at = replica::position(mysqld, flavor)?;
        if at == *goal {
            // Looked at again: what counts as executed may be what it has just stopped at.
            let failure = ReplicaStatus::read(mysqld, flavor)?.applier_failure();
            let failure = failure.filter(mandatory_roles::is_counted);
            return failure.map_or(Ok(Look::Done(Ended::AtGoal)), Err);
        }
        let done = all.saturating_sub(at.distance_to(goal));
        checkpoint.measure("replay", Unit::Transactions, done, Some(all));
        if let Some(failure) = status.applier_failure() {
            if key_rotation::pass_over(mysqld, &failure)? {
                return Ok(Look::Done(Ended::Rotated));
            }
            if mandatory_roles::provide(mysqld, &failure)? {
                mysqld.run("START REPLICA SQL_THREAD")?;
                return Ok(Look::Moving);
            }
            return Err(failure);
        }
        let moved = at != last;
        last = at;
        Ok(if moved { Look::Moving } else { Look::Still })
    });
    supervisor.checkpoint.measured();
    let ended = reached?.ok_or_else(|| Error::Stalled {
        after: stall.unwrap_or_default(),
        what: format!("the replay is at {last}, short of {goal}"),
    })?;
    globals::check(mysqld, flavor).map(|()| ended)
}
