//! The response to a failed attempt: the pass ends, or waits and makes another one.
//!
//! `failure::after_failure` decides. Here the state of server and data is examined before the
//! decision, and the decision is carried out.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::os::random::random_fraction;
use crate::os::workers::locked;
use crate::pass::attempts::Attempts;
use crate::pass::failure::{Hand, Left, Next, With, after_failure};
use crate::pass::in_hand::{Data, InHand};
use crate::report::keys::Key;
use crate::scratch::unlogged_ddl::Doubt;
use crate::scratch::working_directory::Stage;
use crate::seed::dump::{self, First};
use crate::supervisor::watched::Nothing;
use crate::text::short;

impl Attempts<'_> {
    /// Kills mysqld if it runs, and gives up its data: the next attempt starts without any.
    pub(crate) fn start_over(&mut self) -> Result<()> {
        self.hand = InHand::Nothing;
        self.supervisor.checkpoint.forget_mysqld();
        self.supervisor.checkpoint.restart();
        self.forget_replication()?;
        self.scratch.set_stage(Stage::Partial, None)
    }

    pub(crate) fn discard(&mut self, why: &str) -> Result<()> {
        log::warn!("discarding the scratch data: {why}");
        self.start_over()
    }

    /// The server has died, or is killed here: keeps its data if that survives a kill.
    pub(crate) fn server_died(&mut self) {
        let entered = self.hand.mysqld().is_some_and(|mysqld| mysqld.is_being_entered());
        let data = self.hand.take_data();
        let lost = if entered { Err("its mysqld died early".into()) } else { Ok(()) };
        let tables = lost.and(self.tables_lost());
        self.supervisor.checkpoint.forget_mysqld();
        let flavor = self.flavor();
        let doubt = self.doubt(flavor);
        let _ = self.forget_replication();
        let safe = tables.and_then(|()| self.scratch.check_crash_safe(flavor)).and(doubt);
        self.hand = match (data, safe) {
            (None, _) => InHand::Nothing,
            (Some(mut data), Ok(doubt)) => {
                // An earlier doubt remains.
                data.doubt = data.doubt.or(doubt);
                data.fresh = false;
                InHand::Data(data)
            }
            (Some(_), Err(why)) => {
                log::warn!("discarding the scratch data: {why}");
                InHand::Nothing
            }
        };
    }

    /// What is in doubt about the scratch data, whose server was killed. All that it received in this life
    /// may be read for that, so the loop goes on meanwhile.
    pub(crate) fn doubt(&mut self, flavor: Flavor) -> Result<Option<Doubt>, String> {
        let (scratch, found) = (&*self.scratch, Mutex::new(None));
        let looked = self.supervisor.crew("look", 1).alone(|| {
            *locked(&found) = Some(scratch.doubt(flavor));
            Ok(())
        });
        // A stop that arrives meanwhile changes nothing of what was found, and ends the next wait.
        locked(&found)
            .take()
            .unwrap_or_else(|| Err(looked.err().map_or_else(String::new, |e| e.to_string())))
    }

    /// Checks data whose mysqld was killed against its position, which is known now. Discards data
    /// that fails the check, and returns `false`.
    pub(crate) fn check_doubt(&mut self) -> Result<bool> {
        let doubt = self.hand.data_mut().and_then(|data| data.doubt.take());
        let at = self.supervisor.checkpoint.progress().at();
        match doubt.and_then(|doubt| doubt.about(at?)) {
            Some(why) => self.discard(&why).map(|()| false),
            None => Ok(true),
        }
    }

    /// Kills a server that is useless after `error`, and examines its data if it has exited.
    pub(crate) fn examine_server(&mut self, error: &Error) -> Result<()> {
        // Without memory it makes no progress either, and does not release any.
        let useless = matches!(error, Error::MysqldHung { .. } | Error::OutOfMemory { .. });
        let Some(mysqld) = self.hand.mysqld() else { return Ok(()) };
        if !useless && !mysqld.has_exited() {
            return Ok(());
        }
        if !mysqld.exited_cleanly() {
            mysqld.kill();
            self.server_died();
            return Ok(());
        }
        self.supervisor.checkpoint.forget_mysqld();
        // The login must not remain, should the pass be stopped while waiting.
        self.forget_replication()?;
        self.scratch.set_clean()?;
        if let Some(data) = self.hand.take_data() {
            self.hand = InHand::Data(Data { fresh: false, ..data });
        }
        self.tables_lost().or_else(|why| self.discard(&why))
    }

    /// What the response to a failure depends on.
    fn situation(&mut self, suspect: bool, error: &Error) -> Hand {
        let applier_failed = self.applier_failed(error);
        let at = self.supervisor.checkpoint.progress().at();
        let base = self.bases.current().is_some();
        let left = match &self.hand {
            InHand::Nothing => Left::Nothing,
            InHand::Data(data) if data.doubt.is_some() => Left::Doubtful,
            InHand::Data(_) => Left::Data,
            InHand::Server(data, _) if data.doubt.is_some() => Left::Doubtful,
            InHand::Server(..) => Left::Server,
        };
        // A clone is of a single moment.
        let dumped = !base && self.plan.first == Some(First::Dump);
        let another_dump = dumped && self.dumps < dump::TRIES;
        Hand {
            left,
            suspect,
            base,
            another_dump,
            // What an older base leads to must not become the newest backup short of a newer one.
            progress: self.supervisor.checkpoint.progress().was_made() && self.bases.is_ahead(at),
            applier_failed,
            tried_again: at.is_some() && self.tried_again.as_ref() == at,
            // To know it, manifests are read.
            older: error.may_blame_data() && self.bases.older().is_some(),
            newer: self.bases.passes_over(),
            grant_tables: self.loads_all(),
        }
    }

    /// Responds to a failed attempt: an error ends the pass, `true` gives up with what was reached,
    /// `false` is another attempt, after a wait.
    pub(crate) fn recover(&mut self, error: Error) -> Result<bool> {
        // Before the server is examined: refusing to start on fresh data does not make it suspect.
        let suspect = self.hand.is_suspect();
        self.examine_server(&error)?;
        let error = match self.hand.mysqld() {
            // What it calls damaged then is only encrypted.
            Some(mysqld) if matches!(error, Error::ReplicationError { .. }) => {
                mysqld.lacks_keys().unwrap_or(error)
            }
            _ => error,
        };
        if self.make_room(&error) {
            return Ok(false);
        }
        let exhausted = self.breaker.is_exhausted();
        let next = after_failure(self.situation(suspect, &error), &error, exhausted);
        let error = match next {
            Next::SkipBase => return self.skip_base(&error).map(|()| false),
            Next::TryAgain => return self.try_again(&error).map(|()| false),
            Next::LoadGrantTables => return self.restart_with_grant_tables(&error).map(|()| false),
            Next::GoBack => return self.go_back(error).map(|()| false),
            Next::TakeNewest => return self.take_newest(&error).map(|()| false),
            Next::Retry(with) | Next::GiveUp(with) if with != With::InHand => {
                self.start_over()?;
                let how = match with {
                    With::Dump => "the dump spans several moments; dumping again",
                    _ => "the scratch data may be at fault; restoring it again",
                };
                log::warn!("{}: {how}", error.cause());
                // Counted: with fresh data the next attempt may succeed.
                Error::OnSuspectData(Box::new(error))
            }
            Next::GiveUp(_) if !error.is_temporary() => return Err(self.verdict(error)),
            _ => error,
        };
        if self.hand.data().is_none() {
            self.supervisor.checkpoint.restart();
        }
        let shorten = if error.blames_primary() { random_fraction() } else { 0.0 };
        let wait = self.breaker.failed(Instant::now(), shorten);
        let failures = self.breaker.failures();
        let checkpoint = &mut self.supervisor.checkpoint;
        checkpoint.set(Key::Cause, error.cause());
        checkpoint.set(Key::Message, &error);
        checkpoint.set(Key::Failures, failures);
        checkpoint.metrics.breaker = Some(self.breaker.state().name());
        let counted = format!("failure {failures} of {}", self.breaker.attempts());
        match (next, wait) {
            (Next::StoreShort, _) => {
                log::warn!("{}: {error}; {counted}", error.cause());
                Ok(true)
            }
            (_, Some(wait)) => {
                log::warn!("{}: {error}; {counted}, retrying in {}", error.cause(), short(wait));
                self.pause(wait)?;
                self.breaker.probe(Instant::now());
                self.supervisor.checkpoint.metrics.breaker = Some(self.breaker.state().name());
                Ok(false)
            }
            (_, None) => Err(error),
        }
    }

    /// Waits, and watches mysqld if it runs. If it dies meanwhile, the next attempt starts with
    /// what is left.
    fn pause(&mut self, wait: Duration) -> Result<()> {
        let until = Instant::now() + wait;
        if let Some(mysqld) = self.hand.mysqld() {
            match self.supervisor.pause(mysqld, wait) {
                Err(e @ (Error::Interrupted { .. } | Error::DiskFull { .. })) => return Err(e),
                Err(e) => {
                    log::warn!("{}: {e}; while waiting to retry", e.cause());
                    mysqld.kill();
                    self.server_died();
                }
                Ok(()) => return Ok(()),
            }
        }
        self.supervisor.pause(&mut Nothing, until.saturating_duration_since(Instant::now()))
    }
}
