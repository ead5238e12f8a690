//! Attempts: from a base to the goal, as often as it takes and the breaker allows.
//!
//! One attempt asks the primary, fills the scratch directory if its data is of no use, starts
//! mysqld if none runs, replicates up to the goal and shuts mysqld down. Each failure is either
//! for good, or is counted and answered with a wait; an outage of the primary leaves mysqld
//! running. Data that was resumed, or whose mysqld died, is suspect: an error on it is answered
//! by a fresh restore and not by a verdict.

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::version::Version;
use crate::os::clock::Timestamp;
use crate::pass::base::Bases;
use crate::pass::plan::Plan;
use crate::replication::catch_up::{self, Progress};
use crate::replication::primary::Facts;
use crate::replication::privileges;
use crate::replication::replica;
use crate::report::checkpoint::Facts as Checkpointed;
use crate::repository::directory::Repository;
use crate::scratch::unlogged_ddl::Doubt;
use crate::scratch::working_directory::Scratch;
use crate::seed::adopt::Source;
use crate::server::compatibility::{self, With};
use crate::server::lifecycle::{explain, shut_down, wait_until_ready};
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::Supervisor;
use crate::text::short;

/// How far the attempts came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The goal.
    Goal,
    /// Less: the primary was given up on, after progress.
    Short,
}

/// What the data in the scratch directory is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Nothing: it must be restored.
    None,
    /// Restored in this pass, and its mysqld was never killed.
    Fresh,
    /// Resumed, or its mysqld died.
    Suspect,
}

/// The attempts of one pass.
pub struct Attempts<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) supervisor: &'a mut Supervisor,
    pub(crate) repo: &'a Repository,
    pub(crate) scratch: &'a mut Scratch,
    anew: bool,
    /// Dumps made in this pass.
    pub(crate) dumps: u32,
    pub(crate) breaker: Breaker,
    pub(crate) bases: Bases<'a>,
    pub(crate) data: Data,
    pub(crate) doubt: Option<Doubt>,
    pub(crate) mysqld: Option<Mysqld>,
    pub(crate) facts: Option<Facts>,
    pub(crate) version: String,
    pub(crate) its_version: Option<Version>,
    pub(crate) flavor: Flavor,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) goal: Option<Position>,
    pub(crate) data_as_of: Timestamp,
    pub(crate) started: Timestamp,
    pub(crate) progress: Progress,
}

impl<'a> Attempts<'a> {
    /// Begins. `before` is what the last pass's checkpoint says; with `anew` nothing of its data
    /// is used and no backup is the base: a dump begins a new chain.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn new(
        plan: &'a Plan,
        supervisor: &'a mut Supervisor,
        repo: &'a Repository,
        scratch: &'a mut Scratch,
        before: Checkpointed,
        anew: bool,
    ) -> Result<Attempts<'a>> {
        let (base, cap) = plan.backoff;
        let mut attempts = Attempts {
            plan,
            supervisor,
            repo,
            scratch,
            anew,
            dumps: 0,
            breaker: Breaker::new(plan.max_failures, base, cap),
            bases: Bases::new(repo),
            data: Data::None,
            doubt: None,
            mysqld: None,
            facts: None,
            version: String::new(),
            its_version: None,
            flavor: Flavor::MariaDb,
            settings: Vec::new(),
            goal: None,
            data_as_of: Timestamp::now(),
            started: Timestamp::now(),
            progress: Progress::default(),
        };
        if !anew {
            attempts.pick_base()?;
            attempts.resume(&before);
        }
        Ok(attempts)
    }

    /// The loop, lent for a while.
    pub fn supervisor(&mut self) -> &mut Supervisor {
        self.supervisor
    }

    /// Where the data is.
    pub fn data(&self) -> PathBuf {
        self.scratch.data()
    }

    /// Attempts until the goal is reached, mysqld is shut down and the data can be stored.
    ///
    /// # Errors
    /// What ends the pass.
    pub fn reach_goal(&mut self) -> Result<Reached> {
        self.check_base()?;
        log::info!(
            "gives up after {} failures in a row without progress, {} of waiting at most",
            self.breaker.attempts(),
            short(self.breaker.longest_wait())
        );
        loop {
            let Err(error) = self.attempt() else { return Ok(Reached::Goal) };
            if self.recover(error)? {
                self.end_short()?;
                return Ok(Reached::Short);
            }
        }
    }

    /// Is there a backup to begin from, or may a dump or a clone take its place?
    pub(crate) fn check_base(&self) -> Result<()> {
        self.bases.check(self.plan.first.is_some() || self.anew)
    }

    fn attempt(&mut self) -> Result<()> {
        if self.mysqld.is_none() {
            self.scratch.check_gone()?;
        }
        let mut facts = self.ask_primary()?;
        if self.mysqld.is_none() {
            self.check_series()?;
            if self.data == Data::None {
                self.fill(&facts)?;
                // The goal is what the primary has when mysqld is about to start.
                facts = self.ask_primary()?;
            }
            if self.goal.is_none() {
                self.set_goal(&facts)?;
            }
            self.start(&facts)?;
            if self.cannot_be_trusted()? {
                return self.attempt();
            }
        }
        self.replicate(&facts)?;
        self.shut_down()
    }

    /// The first candidate that answers and can be followed from where we are.
    pub(crate) fn ask_primary(&mut self) -> Result<Facts> {
        let base = self.bases.current().map(|b| &b.position);
        let at = if self.data == Data::None { base } else { self.progress.at().or(base) };
        let supervisor = &mut *self.supervisor;
        let facts = self.plan.primary.choose(at, &mut || supervisor.breathe())?;
        self.check_pair(&facts)?;
        if self.facts.is_none() {
            self.plan.primary.check_privileges(&facts.address, privileges::NIGHTLY)?;
            self.bases.warn_if_old(facts.keeps);
        }
        self.supervisor.checkpoint.set("primary", &facts.address);
        self.flavor = facts.flavor;
        self.settings.clone_from(&facts.settings);
        self.facts = Some(facts.clone());
        Ok(facts)
    }

    /// Do private server, base and primary go together?
    fn check_pair(&mut self, facts: &Facts) -> Result<()> {
        self.ask_version()?;
        let program = &self.plan.program;
        let primary = facts.address.to_string();
        let base = self.bases.current();
        if let Some(base) = base {
            compatibility::check_settings(
                &base.name,
                &base.manifest.settings,
                &primary,
                &facts.settings,
            )?;
        }
        let Some(its) = &self.its_version else { return Ok(()) };
        if let Some(base) = base
            && let Some(version) = Version::parse(&base.manifest.version)
        {
            let what = With::Backup(&base.name, self.plan.allow_upgrade);
            compatibility::check(program, its, &what, &version)?;
        }
        if let Some(version) = Version::parse(&facts.version) {
            // A dump of an older server would bring its system tables along.
            compatibility::check(program, its, &With::Primary(&primary, base.is_some()), &version)?;
        }
        self.check_upgrade(facts.flavor)
    }

    fn ask_version(&mut self) -> Result<()> {
        if self.its_version.is_none() {
            self.its_version = compatibility::ask(self.supervisor, &self.plan.program)?;
        }
        Ok(())
    }

    /// Is the private server of the kind of the data to be adopted?
    pub(crate) fn check_kind(&mut self, source: &Source) -> Result<()> {
        self.ask_version()?;
        match &self.its_version {
            Some(its) => {
                compatibility::check_kind(&self.plan.program, its, source.path(), source.flavor())
            }
            None => Ok(()),
        }
    }

    fn set_goal(&mut self, facts: &Facts) -> Result<()> {
        facts.check_position()?;
        self.supervisor.checkpoint.set("goal", &facts.position);
        self.data_as_of = facts.asked;
        self.goal = Some(facts.position.clone());
        Ok(())
    }

    /// Starts mysqld on the data and closes the door behind us.
    fn start(&mut self, facts: &Facts) -> Result<()> {
        self.upgrade_data(facts)?;
        let began = Instant::now();
        self.supervisor.checkpoint.phase("start");
        let setup = self.setup(facts.flavor, &facts.settings, facts.server_id);
        forget_replication(&setup.data())?;
        let mysqld = self.mysqld.insert(Mysqld::spawn(&setup, false)?);
        self.scratch.set_running(mysqld, self.doubt.is_some())?;
        self.supervisor.checkpoint.set("socket", setup.socket().display());
        wait_until_ready(self.supervisor, mysqld, self.plan.patience.start)?;
        let base = match self.data {
            Data::Fresh => self.bases.current(),
            _ => None,
        };
        let prepared = catch_up::prepare(mysqld, facts, base.map(|b| &b.position));
        let (version, at) = prepared
            .map_err(|e| explain(self.supervisor, mysqld, e, self.plan.patience.shutdown))?;
        log::info!("started mysqld {version} (pid {}) in {}", mysqld.pid(), short(began.elapsed()));
        self.version = version;
        self.supervisor.checkpoint.set("position", &at);
        self.progress.start_at(at.clone());
        facts.judge(&at)
    }

    fn replicate(&mut self, facts: &Facts) -> Result<()> {
        let began = Instant::now();
        let Some(mysqld) = self.mysqld.as_mut() else { return Ok(()) };
        let Some(goal) = &self.goal else { return Ok(()) };
        self.supervisor.checkpoint.phase("catch-up");
        self.scratch.set_replicating()?;
        let (account, patience) = (&self.plan.primary.account, self.plan.patience);
        let chase =
            catch_up::Chase { facts, account, goal, poll: self.plan.poll, stall: patience.stall };
        let chased = chase
            .run(self.supervisor, mysqld, &mut self.breaker, &mut self.progress)
            .map_err(|e| explain(self.supervisor, mysqld, e, patience.shutdown));
        let reached = goal.to_string();
        chased.map_err(|e| self.judged_again(e))?;
        log::info!(
            "caught up with {} to {reached}: {} transactions in {}",
            facts.address,
            self.progress.transactions(),
            short(began.elapsed())
        );
        Ok(())
    }

    /// What a MySQL primary refuses for may have come about after it was asked for its facts.
    fn judged_again(&mut self, error: Error) -> Error {
        if !matches!(error, Error::ReplicationError { errno: 13114, .. }) {
            return error;
        }
        match self.ask_primary() {
            Err(e @ (Error::Purged { .. } | Error::Diverged { .. })) => e,
            _ => error,
        }
    }

    /// Stops replication, reads the position that the backup will have, and shuts mysqld down.
    fn shut_down(&mut self) -> Result<()> {
        let Some(mut mysqld) = self.mysqld.take() else { return Ok(()) };
        self.supervisor.checkpoint.phase("stop");
        let patience = self.plan.patience.shutdown;
        let ended = if mysqld.is_ready() {
            let flavor = self.flavor;
            let stopped = catch_up::stop(self.supervisor, &mut mysqld, flavor, patience)
                .and_then(|()| replica::position(&mut mysqld, flavor));
            match stopped {
                Ok(at) => {
                    self.supervisor.checkpoint.set("position", &at);
                    self.progress.saw(at);
                    shut_down(self.supervisor, &mut mysqld, patience)
                }
                Err(e) => Err(explain(self.supervisor, &mut mysqld, e, patience)),
            }
        } else {
            // Still starting: there is nobody to ask, and nothing was replicated.
            shut_down(self.supervisor, &mut mysqld, patience)
        };
        self.supervisor.checkpoint.forget_mysqld();
        if mysqld.ended_cleanly() || mysqld.left_clean_data() {
            self.scratch.set_clean()?;
            forget_replication(&self.scratch.data())?;
        } else {
            mysqld.kill();
            self.its_mysqld_died();
        }
        ended
    }

    /// After progress the primary was given up on: what there is gets stored.
    fn end_short(&mut self) -> Result<()> {
        log::warn!("giving up on the primary short of the goal; storing what was reached");
        if self.mysqld.is_none()
            && let Some(facts) = self.facts.clone()
        {
            self.start(&facts)?;
        }
        if let Some(mysqld) = &mut self.mysqld {
            catch_up::settle(self.supervisor, mysqld, self.flavor)
                .map_err(|e| explain(self.supervisor, mysqld, e, self.plan.patience.shutdown))?;
        }
        self.data_as_of = self.bases.current().map_or(self.started, |b| b.manifest.data_as_of);
        self.shut_down()
    }

    /// The end, well or not: no mysqld stays, and one that still runs after a stop or a
    /// temporary failure is shut down, so that its data can be gone on with.
    ///
    /// # Errors
    /// `result`'s.
    pub fn leave<T>(mut self, result: Result<T>) -> Result<T> {
        let resumable = match &result {
            Err(e) => matches!(e, Error::Interrupted { .. }) || e.is_temporary(),
            Ok(_) => false,
        };
        if self.mysqld.is_some() && resumable {
            self.supervisor.begin_stopping();
            if let Err(e) = self.shut_down() {
                log::warn!("{}: {e}; the scratch data was not shut down cleanly", e.cause());
            }
        }
        result
    }
}
