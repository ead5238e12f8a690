//! The catch-up: replicate until the executed position contains the goal.
//!
//! Position decides, never "seconds behind": that reads 0 when replication stands still. And the
//! receiver must have been connected: a base that is ahead of a primary that was reset
//! "contains" the goal, too. Only transactions beyond the furthest position of the pass are
//! progress; what is applied again after a crash is not.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::account::Account;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::os::process::VitalSigns;
use crate::replication::primary::Facts;
use crate::replication::replica::{self, ReplicaStatus};
use crate::report::progress::Unit;
use crate::server::mysqld::Mysqld;
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::{Look, Supervisor, Wait, lives};
use crate::supervisor::watched::Watched;

/// So many looks in a row without a connection, so far apart, are a failed attempt.
const LOOKS: u32 = 3;
const APART: Duration = Duration::from_secs(1);
/// An applier that shows no sign of life for so long is not waited for when it is to stop.
const SETTLING: Duration = Duration::from_secs(5);
/// An applier that is stopped without a hurry has at least so long. MySQL's waits a minute for the
/// rest of a transaction of which it has only the beginning, `SLAVE_WAIT_GROUP_DONE` in its source.
const REST: Duration = Duration::from_secs(75);

/// How far the pass has come.
#[derive(Default)]
pub struct Progress {
    at: Option<Position>,
    furthest: Option<Position>,
    first: Option<Position>,
    made: bool,
}

impl Progress {
    /// The executed position, as it was read last.
    pub fn at(&self) -> Option<&Position> {
        self.at.as_ref()
    }

    /// Was there any in this pass?
    pub fn was_made(&self) -> bool {
        self.made
    }

    /// The data begins at `at`, which is no progress.
    pub fn start_at(&mut self, at: Position) {
        self.first.get_or_insert_with(|| at.clone());
        if self.furthest.is_none() {
            self.furthest = Some(at.clone());
        }
        self.at = Some(at);
    }

    /// The data was thrown away: where it was no longer counts, how far it was does.
    pub fn restart(&mut self) {
        self.at = None;
    }

    /// The executed position is `at`. Says whether it holds anything new.
    pub fn saw(&mut self, at: Position) -> bool {
        let new = self.furthest.as_ref().is_none_or(|f| !f.contains(&at));
        if new {
            self.furthest = Some(at.clone());
            self.made = true;
        }
        self.at = Some(at);
        new
    }

    /// Transactions executed in this pass.
    pub fn transactions(&self) -> u64 {
        match (&self.first, &self.at) {
            (Some(first), Some(at)) => first.distance_to(at),
            _ => 0,
        }
    }
}

/// Closes the door of a mysqld that has just started and asks for its version and position. A
/// fresh MariaDB that does not know where it is is told so: `base` is the position it has.
///
/// # Errors
/// What the server says, or [`Error::BackupDamaged`] when it is elsewhere than its backup says.
pub fn prepare(
    mysqld: &mut Mysqld,
    facts: &Facts,
    base: Option<&Position>,
) -> Result<(String, Position)> {
    mysqld.close_the_door(facts.flavor)?;
    let answer = mysqld.control()?.query("SELECT VERSION()");
    let version = answer.map_err(|t| mysqld.lost("answer to a query", t))?.first().to_string();
    let at = replica::position(mysqld, facts.flavor)?;
    match base {
        Some(base) if at.is_empty() && facts.flavor == Flavor::MariaDb => {
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

/// Lets the applier come to the end of what was received, as long as it moves or shows signs of
/// life: a STOP in the middle of an hour's ALTER would wait for it and answer nobody meanwhile.
///
/// # Errors
/// A stop, the death of mysqld, or no answer of it.
pub fn settle(supervisor: &mut Supervisor, mysqld: &mut Mysqld, flavor: Flavor) -> Result<()> {
    replica::stop_receiver(mysqld, flavor)?;
    let mut before: Option<Position> = None;
    let wait = Wait { every: Duration::from_millis(200), patience: Some(SETTLING) };
    supervisor.wait_for(mysqld, wait, |mysqld, checkpoint| {
        let status = ReplicaStatus::read(mysqld, flavor)?;
        let at = replica::position(mysqld, flavor)?;
        if !status.applier_runs || at.contains(&status.whole) {
            return Ok(Look::Done(()));
        }
        checkpoint.set("position", &at);
        let moved = before.as_ref() != Some(&at);
        before = Some(at);
        Ok(if moved { Look::Moving } else { Look::Still })
    })?;
    Ok(())
}

/// Stops replication and forgets the primary. An applier in the middle of a transaction is waited
/// for as long as it shows signs of life, for `patience` without any; when the pass is told to
/// stop, no longer than for an answer of its mysqld.
///
/// # Errors
/// [`Error::MysqldHung`] when it was not through by then; the death of mysqld, or what it says.
pub fn stop(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    flavor: Flavor,
    patience: Duration,
) -> Result<()> {
    let told = supervisor.is_told();
    let patience = if told { mysqld.call_timeout() } else { patience.max(REST) };
    let hung = || Error::MysqldHung { what: "end of replication".into(), after: Some(patience) };
    // What is logged is the answers to us: that is no sign of life here.
    let signs_of =
        |mysqld: &Mysqld| mysqld.vital_signs().map(|signs| VitalSigns { log_bytes: 0, ..signs });
    let (mut vital, mut looked) = (signs_of(mysqld), Instant::now());
    let mut moved = looked;
    let wait = Wait { every: Duration::from_millis(200), patience: None };
    let stopped = supervisor.wait_for(mysqld, wait, |mysqld, _| {
        if replica::stop_applier(mysqld, flavor)? {
            return replica::forget(mysqld, flavor).map(Look::Done);
        }
        let signs = signs_of(mysqld);
        if !told && lives(vital, signs, looked.elapsed()) {
            moved = Instant::now();
        }
        (vital, looked) = (signs, Instant::now());
        if moved.elapsed() >= patience { Err(hung()) } else { Ok(Look::Still) }
    })?;
    stopped.ok_or_else(hung)
}

/// One chase after the goal.
pub struct Chase<'a> {
    /// The primary to follow.
    pub facts: &'a Facts,
    /// The account on it.
    pub account: &'a Account,
    /// Where to.
    pub goal: &'a Position,
    /// `--poll-interval`.
    pub poll: Duration,
    /// `--stall-timeout`.
    pub stall: Option<Duration>,
}

impl Chase<'_> {
    /// Starts replication and waits for the goal.
    ///
    /// # Errors
    /// What keeps it from being reached.
    pub fn run(
        &self,
        supervisor: &mut Supervisor,
        mysqld: &mut Mysqld,
        breaker: &mut Breaker,
        progress: &mut Progress,
    ) -> Result<()> {
        let begin = progress.at().cloned();
        // Already there, as after a failure on the way out: only the connection is to be seen.
        let there = begin.as_ref().is_some_and(|at| at.contains(self.goal));
        let until = if there { None } else { Some(self.goal) };
        if !replica::is_at_work_for(mysqld, self.facts)? {
            settle(supervisor, mysqld, self.facts.flavor)?;
        }
        replica::start(mysqld, self.facts, self.account, until)?;
        let mut connection = Connection::default();
        // Until it is connected a look costs little and is worth much.
        let every = self.poll.min(Duration::from_millis(100));
        let wait = Wait { every, patience: None };
        supervisor.wait_for(mysqld, wait, |mysqld, _| {
            let status = ReplicaStatus::read(mysqld, self.facts.flavor)?;
            if !there {
                // So quick that it was connected between two looks.
                let at = replica::position(mysqld, self.facts.flavor)?;
                if begin.as_ref() != Some(&at) && at.contains(self.goal) {
                    return Ok(Look::Done(()));
                }
            }
            if status.has_connected() {
                return Ok(Look::Done(()));
            }
            self.check(&status, progress, &mut connection)?;
            Ok(Look::Still)
        })?;
        let mut received = String::new();
        let mut from: Option<Position> = None;
        let wait = Wait { every: self.poll, patience: self.stall };
        let reached = supervisor.wait_for(mysqld, wait, |mysqld, checkpoint| {
            let status = ReplicaStatus::read(mysqld, self.facts.flavor)?;
            let at = replica::position(mysqld, self.facts.flavor)?;
            checkpoint.set("position", &at);
            if let Some(begin) = progress.at() {
                from.get_or_insert_with(|| begin.clone());
            }
            let missing = at.distance_to(self.goal);
            let all = from.as_ref().map_or(missing, |f| f.distance_to(self.goal));
            let done = all.saturating_sub(missing);
            checkpoint.measure("catch-up", Unit::Transactions, done, Some(all));
            let mut moved = progress.at() != Some(&at) || status.received != received;
            received.clone_from(&status.received);
            if progress.saw(at.clone()) {
                let forgotten = breaker.progress();
                if forgotten > 0 {
                    log::info!("moves again after {forgotten} failures, at {at}");
                    checkpoint.set("failures", 0);
                    checkpoint.metrics.breaker(breaker.state().name());
                    checkpoint.clear("cause");
                    checkpoint.clear("message");
                }
                checkpoint.progressed();
                moved = true;
            }
            if at.contains(self.goal) {
                return Ok(Look::Done(()));
            }
            self.check(&status, progress, &mut connection)?;
            Ok(if moved { Look::Moving } else { Look::Still })
        })?;
        reached.ok_or_else(|| Error::Stalled {
            after: self.stall.unwrap_or_default(),
            what: format!(
                "replication from {} stands at {}, short of {}",
                self.facts.address,
                progress.at().map_or(String::new(), Position::to_string),
                self.goal
            ),
        })
    }

    fn check(
        &self,
        status: &ReplicaStatus,
        progress: &Progress,
        connection: &mut Connection,
    ) -> Result<()> {
        if let Some(at) = progress.at()
            && let Some(failure) = status.failure(self.facts, at)
        {
            return Err(failure);
        }
        if connection.is_lost(status.has_connected()) {
            return Err(status.not_connected(&self.facts.address));
        }
        Ok(())
    }
}

/// Counts looks without a connection.
#[derive(Default)]
struct Connection {
    looks: u32,
    last: Option<Instant>,
}

impl Connection {
    fn is_lost(&mut self, connected: bool) -> bool {
        if connected {
            *self = Connection::default();
        } else if self.last.is_none_or(|l| l.elapsed() >= APART) {
            self.looks += 1;
            self.last = Some(Instant::now());
        }
        self.looks >= LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_again_is_no_progress() {
        let position = |text| Position::parse(Flavor::MariaDb, text).unwrap();
        let mut progress = Progress::default();
        progress.start_at(position("0-1-100"));
        assert!(!progress.saw(position("0-1-100")));
        assert!(progress.saw(position("0-1-150")));
        // mysqld was killed and lost its last second.
        progress.start_at(position("0-1-120"));
        assert!(!progress.saw(position("0-1-149")));
        assert!(progress.saw(position("0-1-151")));
        assert_eq!(progress.transactions(), 51);
    }
}
