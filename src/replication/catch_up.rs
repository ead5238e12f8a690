//! The catch-up: replicates until the executed position contains the goal.
//!
//! The position decides, never "seconds behind", which reads 0 while replication is stopped. The
//! receiver must have connected as well: a base that is ahead of a reset primary "contains" the
//! goal, too.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::account::Account;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::target::Target;
use crate::os::process::Activity;
use crate::replication::connection::Connection;
use crate::replication::keeping::Keeping;
use crate::replication::kept_logs::KeepLogs;
use crate::replication::primary::Facts;
use crate::replication::received::{Received, logs};
use crate::replication::replica::{self, ReplicaStatus};
use crate::replication::temporary_tables;
use crate::report::meter::Unit;
use crate::server::globals;
use crate::server::lifecycle::out_of_patience;
use crate::server::mandatory_roles;
use crate::server::mysqld::Mysqld;
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::{Look, Supervisor, Wait, is_active};
use crate::supervisor::watched::Watched;
use crate::text::count;

/// How long to wait at most for the first bytes of a receiver that has connected, and has nothing to receive.
const HEAD: Duration = Duration::from_secs(1);
/// Before a stop, how long to wait for an applier that shows no sign of life.
const DRAINING: Duration = Duration::from_secs(5);
/// The minimum time allowed for the applier to stop, unless in a hurry. MySQL's waits a minute for
/// the rest of a partly received transaction: `SLAVE_WAIT_GROUP_DONE` in its source.
const REST: Duration = Duration::from_secs(75);

/// Loads the grant tables of a mysqld that has just started, and reads its version and position. A
/// restored MariaDB without a position gets that of its backup, `base`.
///
/// # Errors
/// Those of the server, or [`Error::BackupDamaged`] if its position is not that of its backup.
pub fn prepare(
    mysqld: &mut Mysqld,
    flavor: Flavor,
    base: Option<&Position>,
) -> Result<(String, Position)> {
    mysqld.load_grant_tables(flavor)?;
    let answer = mysqld.control()?.query("SELECT VERSION()");
    let version = answer.map_err(|t| mysqld.lost("answer to a query", t))?.first().to_string();
    let at = replica::position(mysqld, flavor)?;
    match base {
        Some(base) if at.is_empty() && flavor == Flavor::MariaDb => {
            replica::set_position(mysqld, base)?;
            Ok((version, base.clone()))
        }
        Some(base) if at != *base => Err(Error::BackupDamaged {
            backup: "just restored".into(),
            what: format!("its data is at {at}, and its manifest says {base}"),
        }),
        _ => Ok((version, at)),
    }
}

/// Forgets the domains of a position that the primary has deleted from its binary log. Returns the rest.
///
/// # Errors
/// Those of the server.
pub fn forget_deleted_domains(
    mysqld: &mut Mysqld,
    facts: &Facts,
    at: Position,
) -> Result<Position> {
    let Some(rest) = facts.without_deleted_domains(&at) else { return Ok(at) };
    log::info!(
        "{} has deleted domains of {at} from its binary log: going on from {rest}",
        facts.address
    );
    replica::set_position(mysqld, &rest).map(|()| rest)
}

/// Lets the applier finish what was received, while it moves or shows signs of life. A STOP during
/// an ALTER of an hour would wait for it and block all other sessions.
///
/// # Errors
/// A stop, or a mysqld that died or does not answer.
pub fn drain(supervisor: &mut Supervisor, mysqld: &mut Mysqld, flavor: Flavor) -> Result<()> {
    replica::stop_receiver(mysqld, flavor)?;
    let mut before: Option<Position> = None;
    let wait = Wait { every: Duration::from_millis(200), patience: Some(DRAINING) };
    supervisor.wait_for(mysqld, wait, |mysqld, checkpoint| {
        let status = ReplicaStatus::read(mysqld, flavor)?;
        let at = replica::position(mysqld, flavor)?;
        if !status.applier_runs || at.contains(&status.whole) {
            return Ok(Look::Done(()));
        }
        let moved = before.as_ref() != Some(&at);
        // Only shown: it counts as progress once the catch-up sees it.
        checkpoint.expect_at(&at);
        before = Some(at);
        Ok(if moved { Look::Moving } else { Look::Still })
    })?;
    globals::check(mysqld, flavor)
}

/// Stops replication and forgets the primary. Returns the number of temporary tables that were open
/// then, and are no more. Waits for an applier within a transaction while it
/// shows signs of life, and for `patience` without any; after a stop, only for the time-out of one
/// answer.
///
/// # Errors
/// [`Error::MysqldHung`] if it has not finished by then; a mysqld that died, or its error.
pub fn stop(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    flavor: Flavor,
    patience: Duration,
    logs: &dyn KeepLogs,
) -> Result<u64> {
    let told = supervisor.was_told();
    let patience = if told { mysqld.call_timeout() } else { patience.max(REST) };
    let hung = || Error::MysqldHung { what: "end of replication".into(), after: Some(patience) };
    if told && mysqld.has_lost_a_session() {
        // Whoever stops us has waited for one answer already.
        return Err(hung());
    }
    // Our own statements cause log lines here: they are no sign of life.
    let signs_of =
        |mysqld: &Mysqld| mysqld.activity().map(|signs| Activity { log_bytes: 0, ..signs });
    let (mut vital, mut looked) = (signs_of(mysqld), Instant::now());
    let mut moved = looked;
    let wait = Wait { every: Duration::from_millis(200), patience: None };
    let stopped = supervisor.wait_for(mysqld, wait, |mysqld, _| {
        if replica::stop_applier(mysqld, flavor)? {
            let open_tables = temporary_tables::open(mysqld)?;
            return replica::forget(mysqld, flavor, logs).map(|()| Look::Done(open_tables));
        }
        let signs = signs_of(mysqld);
        if !told && is_active(vital, signs, looked.elapsed()) {
            moved = Instant::now();
        }
        (vital, looked) = (signs, Instant::now());
        if moved.elapsed() >= patience { Err(hung()) } else { Ok(Look::Still) }
    })?;
    // Without patience only a second signal ends the wait.
    stopped.ok_or_else(|| out_of_patience(supervisor, "end of replication", patience))
}

/// A catch-up to be made.
pub struct CatchUp<'a> {
    /// The primary.
    pub facts: &'a Facts,
    /// The account on it.
    pub account: &'a Account,
    /// What to reach.
    pub goal: &'a Target,
    /// `--poll-interval`.
    pub poll: Duration,
    /// `--stall-timeout`.
    pub stall: Option<Duration>,
    /// The temporary tables that were open at the last look.
    pub open_tables: &'a Cell<u64>,
    /// Keeps the relay logs.
    pub logs: &'a dyn KeepLogs,
    /// The data directory, where they are.
    pub data: &'a Path,
}

impl CatchUp<'_> {
    /// Starts replication and waits for the goal.
    pub fn run(
        &self,
        supervisor: &mut Supervisor,
        mysqld: &mut Mysqld,
        breaker: &mut Breaker,
    ) -> Result<()> {
        let begin = supervisor.checkpoint.progress().at().cloned();
        // Already there, for example after a failure to stop: only the connection is missing.
        let goal = self.goal.position();
        let there = begin.as_ref().is_some_and(|at| self.goal.is_reached_at(at));
        let until = if there { None } else { Some(goal) };
        if !replica::is_applying_from(mysqld, self.facts)? {
            drain(supervisor, mysqld, self.facts.flavor)?;
        }
        globals::note(mysqld)?;
        replica::start(mysqld, self.facts, self.account, until, self.logs)?;
        let mut connection = Connection::default();
        // Until it has connected, checking often costs little and saves time.
        let every = self.poll.min(Duration::from_millis(100));
        let wait = Wait { every, patience: None };
        let mut keeping = Keeping::new(mysqld, self.logs);
        supervisor.wait_for(&mut keeping, wait, |keeping, _| {
            let status = keeping.status(self.facts.flavor)?;
            if !there {
                // It may have connected and finished between two checks.
                let at = replica::position(keeping.mysqld, self.facts.flavor)?;
                if begin.as_ref() != Some(&at) && self.goal.is_reached_at(&at) {
                    return Ok(Look::Done(()));
                }
            }
            if status.has_connected() {
                return Ok(Look::Done(()));
            }
            self.check(&status, begin.as_ref(), &mut connection)?;
            Ok(Look::Still)
        })?;
        if there {
            self.wait_for_head(supervisor, &mut keeping)?;
        }
        let mut received = String::new();
        let all = begin.as_ref().map(|begin| begin.distance_to(goal));
        let wait = Wait { every: self.poll, patience: self.stall };
        let reached = supervisor.wait_for(&mut keeping, wait, |keeping, checkpoint| {
            let status = keeping.status(self.facts.flavor)?;
            self.open_tables.set(temporary_tables::open(keeping.mysqld)?);
            let at = replica::position(keeping.mysqld, self.facts.flavor)?;
            let missing = at.distance_to(goal);
            let all = all.unwrap_or(missing);
            let done = all.saturating_sub(missing);
            checkpoint.measure("catch-up", Unit::Transactions, done, Some(all));
            let moved = checkpoint.progress().at() != Some(&at) || status.received != received;
            received.clone_from(&status.received);
            let new = checkpoint.reach(at.clone());
            if new {
                let failures = breaker.progress();
                if failures > 0 {
                    let failures = count(failures, "failure");
                    log::info!("making progress again at {at} after {failures}");
                    checkpoint.metrics.breaker = Some(breaker.state().name());
                    checkpoint.forget_failures();
                }
                checkpoint.progressed();
                // Not only at the end: after a kill nobody could tell.
                globals::check(keeping.mysqld, self.facts.flavor)?;
            }
            if self.goal.is_reached_at(&at) {
                // Looked at again: what counts as executed may be what it has just stopped at.
                let failure = keeping.status(self.facts.flavor)?.applier_failure();
                let failure = failure.filter(mandatory_roles::is_counted);
                return failure.map_or(Ok(Look::Done(())), Err);
            }
            self.check(&status, Some(&at), &mut connection)?;
            Ok(if moved || new { Look::Moving } else { Look::Still })
        })?;
        reached.ok_or_else(|| Error::Stalled {
            after: self.stall.unwrap_or_default(),
            what: format!(
                "replication from {} is at {}, short of {}",
                self.facts.address,
                supervisor.checkpoint.progress().at().map_or(String::new(), Position::to_string),
                goal
            ),
        })?;
        globals::check(mysqld, self.facts.flavor)
    }

    /// Waits until the relay logs say with which log of the primary they begin, so that this is on record
    /// although nothing else is to come. A receiver has connected before it has written that.
    fn wait_for_head(&self, supervisor: &mut Supervisor, keeping: &mut Keeping<'_>) -> Result<()> {
        let (began, wait) = (Instant::now(), Wait { every: HEAD / 100, patience: None });
        let waited = supervisor.wait_for(keeping, wait, |_, _| {
            let there = Received::in_logs(self.facts, &logs(self.data)).is_some();
            Ok(if there || began.elapsed() >= HEAD { Look::Done(()) } else { Look::Still })
        });
        waited.map(drop)
    }

    fn check(
        &self,
        status: &ReplicaStatus,
        at: Option<&Position>,
        connection: &mut Connection,
    ) -> Result<()> {
        if let Some(at) = at
            && let Some(failure) = status.failure(self.facts, at)
        {
            return Err(failure);
        }
        connection.check(status, status.has_connected(), self.facts)
    }
}
