//! What follows a failed attempt: an end for good, or a wait and another one.
//!
//! A failure that may pass is counted by the breaker. Data that was resumed, or whose mysqld died,
//! is suspect: an error on it is answered by a fresh restore and counted, too.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::os::random::random_fraction;
use crate::pass::attempts::{Attempts, Data};
use crate::scratch::working_directory::Stage;
use crate::seed::dump::{self, First};
use crate::server::mysqld::forget_replication;
use crate::supervisor::watched::Nobody;
use crate::text::short;

impl Attempts<'_> {
    /// Kills mysqld and gives its data up.
    pub(crate) fn end_mysqld(&mut self) {
        self.mysqld = None;
        self.data = Data::None;
        self.doubt = None;
        self.supervisor.checkpoint.forget_mysqld();
    }

    pub(crate) fn its_mysqld_died(&mut self) {
        self.supervisor.checkpoint.forget_mysqld();
        let flavor = self.flavor;
        let doubt = self.scratch.doubt(flavor);
        let _ = forget_replication(&self.scratch.data());
        let safe = self.scratch.check_crash_safe(flavor).and(doubt);
        self.data = match (self.data, safe) {
            (Data::None, _) => Data::None,
            (_, Ok(doubt)) => {
                // An older doubt is not settled by another death.
                self.doubt = self.doubt.take().or(doubt);
                Data::Suspect
            }
            (_, Err(why)) => {
                log::warn!("the scratch data is thrown away: {why}");
                self.doubt = None;
                Data::None
            }
        };
    }

    /// Settles the doubt about data whose mysqld was killed, now that its position is known. If
    /// that does not speak for it, the data is given up.
    pub(crate) fn cannot_be_trusted(&mut self) -> Result<bool> {
        let at = self.progress.at();
        let why = self.doubt.take().and_then(|doubt| doubt.about(at?));
        let Some(why) = why else { return Ok(false) };
        log::warn!("the scratch data is thrown away: {why}");
        self.end_mysqld();
        forget_replication(&self.scratch.data())?;
        self.scratch.set_stage(Stage::Partial, None)?;
        self.progress.restart();
        Ok(true)
    }

    /// What to do about a failed attempt: an error ends the pass, `true` gives up with what was
    /// reached, `false` tries again after a wait.
    pub(crate) fn recover(&mut self, mut error: Error) -> Result<bool> {
        if let Error::BackupDamaged { .. } = error
            && self.mysqld.is_some()
        {
            return self.pass_over_base(&error).map(|()| false);
        }
        // Without memory it gets no further either, and it does not give any back.
        let useless = matches!(error, Error::MysqldHung { .. } | Error::OutOfMemory { .. });
        // A mysqld that refuses to start on fresh data has not spoiled it.
        let suspect = self.data == Data::Suspect;
        if let Some(mysqld) = &mut self.mysqld
            && (useless || mysqld.has_exited())
        {
            let clean = mysqld.left_clean_data();
            mysqld.kill();
            self.mysqld = None;
            if clean {
                self.supervisor.checkpoint.forget_mysqld();
                // The login must not stay behind, should the pass be stopped in the wait.
                forget_replication(&self.scratch.data())?;
                self.scratch.set_clean()?;
                self.data = Data::Suspect;
            } else {
                self.its_mysqld_died();
            }
        }
        let dumped = self.is_the_dumps(&error);
        if dumped || (error.may_be_the_datas() && suspect) {
            self.end_mysqld();
            forget_replication(&self.scratch.data())?;
            self.scratch.set_stage(Stage::Partial, None)?;
            // It is counted: with fresh data it may go well.
            error = Error::OnSuspectData(Box::new(error));
            let how = if dumped {
                "a dump of several moments, which is made"
            } else {
                "data that may be to blame, which is restored"
            };
            log::warn!("{}: on {how} anew", error.cause());
        } else if !error.is_temporary() {
            return Err(error);
        }
        if self.data == Data::None {
            self.progress.restart();
        }
        let checkpoint = &mut self.supervisor.checkpoint;
        checkpoint.set("cause", error.cause());
        checkpoint.set("message", &error);
        let shorten = if error.is_the_primarys() { random_fraction() } else { 0.0 };
        let wait = self.breaker.failed(Instant::now(), shorten);
        checkpoint.set("failures", self.breaker.failures());
        checkpoint.metrics.breaker(self.breaker.state().name());
        let (failures, attempts) = (self.breaker.failures(), self.breaker.attempts());
        let Some(wait) = wait else {
            // A dump is whole at its goal only: see seed.rs.
            let trusted = self.data != Data::None && self.doubt.is_none();
            let worth_storing = self.bases.current().is_some() && trusted;
            if error.is_the_primarys() && self.progress.was_made() && worth_storing {
                log::warn!("{}: {error}; failure {failures} of {attempts}", error.cause());
                return Ok(true);
            }
            return Err(error);
        };
        log::warn!(
            "{}: {error}; failure {failures} of {attempts}, next try in {}",
            error.cause(),
            short(wait)
        );
        self.pause(wait)?;
        self.breaker.probe(Instant::now());
        self.supervisor.checkpoint.metrics.breaker(self.breaker.state().name());
        Ok(false)
    }

    /// Is it a statement that cannot be applied to what was dumped? Accounts, routines and views
    /// take no part in a dump's snapshot: one that was made meanwhile is in the dump, and comes
    /// again by replication. The next dump has it before its position.
    fn is_the_dumps(&self, error: &Error) -> bool {
        let applying = self.bases.current().is_none() && self.mysqld.is_some();
        let failed = matches!(error, Error::ReplicationError { errno, .. } if *errno != 0);
        // A clone is of one moment, all of it.
        let dumps = self.plan.first == Some(First::Dump) && self.dumps < dump::TRIES;
        applying && failed && dumps
    }

    /// Waits, with an eye on mysqld if it runs; its death then is found by the next attempt.
    fn pause(&mut self, wait: Duration) -> Result<()> {
        let until = Instant::now() + wait;
        if let Some(mysqld) = &mut self.mysqld {
            match self.supervisor.pause(mysqld, wait) {
                Err(e @ (Error::Interrupted { .. } | Error::DiskFull { .. })) => return Err(e),
                Err(e) => {
                    log::warn!("{}: {e}; while waiting for the next try", e.cause());
                    mysqld.kill();
                    self.mysqld = None;
                    self.its_mysqld_died();
                }
                Ok(()) => return Ok(()),
            }
        }
        self.supervisor.pause(&mut Nobody, until.saturating_duration_since(Instant::now()))
    }
}
