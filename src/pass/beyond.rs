//! Beyond the goal, to where the primary has got meanwhile: for a comparison, and while sessions of the
//! primary have temporary tables open. Those end with the private server, and the next pass may need
//! them; most sessions close theirs soon.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::position::Position;
use crate::pass::attempts::Attempts;
use crate::replication::catch_up::CatchUp;
use crate::replication::primary::Facts;
use crate::replication::temporary_tables;
use crate::server::lifecycle::explain;
use crate::text::{count, short};

/// A report that fills a table and reads it takes seconds.
const LEAST: Duration = Duration::from_secs(5);
/// A session that keeps one for longer may keep it for good.
const MOST: Duration = Duration::from_secs(600);
/// Between two looks at a primary that writes nothing.
const PAUSE: Duration = Duration::from_millis(250);

impl Attempts<'_> {
    /// Follows the primary until no temporary table is open, at most as long again as the catch-up
    /// `took`. Tables that stay open are kept on record. What fails on the way ends this, and not the
    /// pass: the goal is reached.
    ///
    /// # Errors
    /// A stop, or the end of the private server.
    pub(crate) fn close_tables(&mut self, took: Duration) -> Result<()> {
        let mut open = self.count_open_tables()?;
        if open == 0 {
            return Ok(());
        }
        let most = took.clamp(LEAST, MOST);
        let until = Instant::now() + most;
        log::info!(
            "sessions of the primary have {} open; going on for {} at most until none is",
            count(open, "temporary table"),
            short(most)
        );
        while open > 0 && Instant::now() < until {
            match self.keep_up() {
                Ok(()) => {}
                Err(
                    e @ (Error::ReplicationError { .. }
                    | Error::PrimaryUnreachable { .. }
                    | Error::Stalled { .. }
                    | Error::AccessDenied { .. }
                    | Error::Purged { .. }
                    | Error::Diverged { .. }
                    | Error::Configuration { .. }),
                ) => {
                    log::warn!("{}: {e}; after the goal, so what was reached is stored", e.cause());
                    break;
                }
                Err(e) => return Err(e),
            }
            open = self.count_open_tables()?;
        }
        Ok(())
    }

    /// Replicates to where the primary is now, or waits a moment if that is where the data is.
    fn keep_up(&mut self) -> Result<()> {
        let facts = self.ask_primary()?;
        if self.follow(&facts, &facts.position)? {
            return Ok(());
        }
        match self.hand.mysqld() {
            Some(mysqld) => self.supervisor.pause(mysqld, PAUSE),
            None => Ok(()),
        }
    }

    /// Replicates to `to`, which the primary had after the goal. `false` if the data is there already.
    pub(crate) fn follow(&mut self, facts: &Facts, to: &Position) -> Result<bool> {
        let logs = self.log_keeper();
        let there = self.supervisor.checkpoint.progress().at();
        let target = facts.target(to.clone());
        let missing = there.is_none_or(|at| !target.is_reached_at(at));
        let Some(mysqld) = self.hand.mysqld().filter(|_| missing) else {
            return Ok(false);
        };
        let catch_up = CatchUp {
            facts,
            account: &self.plan.primary.account_at(facts),
            goal: &target,
            poll: self.plan.retries.poll.min(PAUSE),
            stall: self.plan.patience.stall,
            open_tables: &self.open_tables,
            logs: &logs,
            data: &self.scratch.data(),
        };
        catch_up
            .run(self.supervisor, mysqld, &mut self.breaker)
            .map(|()| true)
            .map_err(|e| explain(self.supervisor, mysqld, e, self.plan.patience.shutdown))
    }

    /// Counts the open temporary tables, and keeps that on record.
    fn count_open_tables(&mut self) -> Result<u64> {
        let Some(mysqld) = self.hand.mysqld() else { return Ok(0) };
        let open = temporary_tables::open(mysqld)
            .map_err(|e| explain(self.supervisor, mysqld, e, self.plan.patience.shutdown))?;
        self.open_tables.set(open);
        Ok(open)
    }
}
