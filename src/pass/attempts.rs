//! Attempts to get from a base to the goal, as many as are needed and the breaker allows.
//!
//! An attempt queries the primary, fills the scratch directory unless it has usable data, starts
//! mysqld unless it runs, replicates up to the goal and shuts mysqld down. `failure` decides how to
//! respond to a failure, `recover` does it. During an outage of the primary mysqld keeps running.

use std::cell::Cell;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::mysql::position::Position;
use crate::mysql::primary_log::PrimaryLog;
use crate::mysql::target::Target;
use crate::mysql::version::Version;
use crate::os::clock::Timestamp;
use crate::pass::base::{Base, Bases};
use crate::pass::examined::Examined;
use crate::pass::finished::{Finished, Reached};
use crate::pass::in_hand::InHand;
use crate::pass::plan::Plan;
use crate::replication::catch_up::{self, CatchUp};
use crate::replication::primary::Facts;
use crate::replication::replica;
use crate::replication::time_zone;
use crate::report::checkpoint::Facts as Checkpointed;
use crate::report::keys::{Key, Phase};
use crate::repository::directory::Repository;
use crate::repository::manifest::Header;
use crate::scratch::working_directory::{Scratch, Stage};
use crate::server::access::without_functions;
use crate::server::globals;
use crate::server::lifecycle::{CleanShutdown, explain, shut_down, wait_until_ready};
use crate::server::mysqld::Mysqld;
use crate::server::purge;
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::Supervisor;
use crate::text::{count, short};

/// What a pass has to reach.
pub(crate) struct Goal {
    pub(crate) target: Target,
    /// When the primary had that position.
    pub(crate) as_of: Timestamp,
    /// The clock of the primary then.
    pub(crate) clock: Timestamp,
}

/// The attempts of one pass.
pub struct Attempts<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) supervisor: &'a mut Supervisor,
    pub(crate) scratch: &'a mut Scratch,
    /// True if a new chain begins, which has no base.
    new_chain: bool,
    pub(crate) started: Timestamp,
    pub(crate) bases: Bases<'a>,
    pub(crate) breaker: Breaker,
    pub(crate) hand: InHand,
    /// The version of the server program, once known.
    pub(crate) program_version: Option<Version>,
    /// The latest facts of the primary.
    pub(crate) facts: Option<Facts>,
    /// What may be wrong with the backup, although all went well.
    pub(crate) attention: Option<String>,
    /// It was said that the line to the primary is not encrypted.
    pub(crate) told_unencrypted: bool,
    pub(crate) goal: Option<Goal>,
    /// The number of dumps in this pass.
    pub(crate) dumps: u32,
    /// Where the applier was started again after a failure.
    pub(crate) tried_again: Option<Position>,
    /// Temporary tables that sessions of the primary have open, at the last look.
    pub(crate) open_tables: Cell<u64>,
    /// From which log of the primary the last catch-up began.
    pub(crate) primary_log: Option<PrimaryLog>,
    /// The data has functions or plugins that the private server loads with its grant tables only.
    pub(crate) grant_tables: bool,
    /// What was found when the data was looked at.
    pub(crate) examined: Examined,
    /// The journal was given up, since the disk was full.
    pub(crate) no_room: bool,
}

impl<'a> Attempts<'a> {
    /// Picks a base and resumes the data of the last pass, whose checkpoint is `before`; neither
    /// for a `new_chain`. Fails if the repository cannot be read.
    pub fn new(
        plan: &'a Plan,
        supervisor: &'a mut Supervisor,
        repo: &'a Repository,
        scratch: &'a mut Scratch,
        before: &Checkpointed,
        new_chain: bool,
    ) -> Result<Attempts<'a>> {
        let (base, cap) = plan.retries.backoff;
        let mut attempts = Attempts {
            plan,
            supervisor,
            scratch,
            new_chain,
            started: Timestamp::now(),
            bases: Bases::new(repo),
            breaker: Breaker::new(plan.retries.max_failures, base, cap),
            hand: InHand::Nothing,
            program_version: None,
            facts: None,
            attention: None,
            told_unencrypted: false,
            goal: None,
            dumps: 0,
            tried_again: None,
            open_tables: Cell::new(0),
            primary_log: None,
            grant_tables: false,
            examined: Examined::default(),
            no_room: false,
        };
        if !new_chain {
            attempts.pick_base()?;
            attempts.resume(before);
        }
        Ok(attempts)
    }

    /// Makes attempts until mysqld is shut down at the goal, or short of it, with data to store. An
    /// error ends the pass.
    pub fn reach_goal(&mut self) -> Result<Finished> {
        self.check_base()?;
        log::info!(
            "will give up after {} without progress (at most {} of back-off)",
            count(self.breaker.attempts(), "consecutive failure"),
            short(self.breaker.longest_wait())
        );
        loop {
            let error = match self.attempt() {
                Err(error) => error,
                finished => return finished,
            };
            if self.recover(error)? {
                break;
            }
        }
        let finished = self.end_short();
        if let Err(error) = &finished {
            self.examine_server(error)?;
        }
        finished
    }

    /// Fails unless there is a backup to start from, or a dump or a clone may replace it.
    pub(crate) fn check_base(&self) -> Result<()> {
        self.bases.check(self.plan.first.is_some() || self.new_chain)
    }

    fn attempt(&mut self) -> Result<Finished> {
        let mut facts;
        loop {
            if !self.hand.has_server() {
                self.scratch.check_gone()?;
            }
            facts = self.ask_primary()?;
            if self.hand.has_server() {
                break;
            }
            self.check_series()?;
            if self.hand.data().is_none() {
                self.fill(&facts)?;
                // The goal is the position of the primary when mysqld is about to start.
                facts = self.ask_primary()?;
            }
            if self.goal.is_none() {
                facts.check_position()?;
                self.supervisor.checkpoint.set(Key::Goal, &facts.position);
                let target = facts.target(facts.position.clone());
                self.goal = Some(Goal { target, as_of: facts.asked, clock: facts.clock });
            }
            self.start(&facts)?;
            if self.check_doubt()? {
                break;
            }
        }
        self.replicate(&facts)?;
        self.examined.begin();
        self.compare_definitions(&facts)?;
        self.compare_rows(&facts)?;
        self.check_tables()?;
        self.on_data()?;
        let clean = self.shut_down()?;
        self.finish(clean, Reached::Goal)
    }

    /// Starts mysqld on the data, and opens all sessions before the grant tables are loaded.
    fn start(&mut self, facts: &Facts) -> Result<()> {
        self.upgrade_data(facts)?;
        let began = Instant::now();
        self.supervisor.checkpoint.phase(Phase::Start);
        let setup = self.setup(facts.flavor, self.settings(facts)?, facts.server_id);
        self.forget_replication()?;
        let data = self.hand.data();
        self.open_tables.set(0);
        let doubtful = data.is_some_and(|d| d.doubt.is_some());
        // No server has run on it yet, so it is where its backup is.
        let fresh = data.is_some_and(|d| d.fresh);
        let untouched = fresh && data.is_some_and(|d| d.version.is_empty());
        let base_name = self.bases.current().map(|base| base.name.clone());
        let mysqld = Mysqld::spawn(&setup, false)?;
        let entered = mysqld.is_being_entered();
        if entered {
            self.scratch.set_stage(Stage::Partial, base_name.as_deref())?;
        }
        let Some(mysqld) = self.hand.start(mysqld) else { return Ok(()) };
        self.scratch.set_running(mysqld, doubtful)?;
        self.supervisor.checkpoint.set(Key::Socket, setup.socket().display());
        wait_until_ready(self.supervisor, mysqld, self.plan.patience.start)?;
        if entered {
            self.scratch.set_stage(Stage::Ready, base_name.as_deref())?;
        }
        let base = self.bases.current().filter(|_| untouched).map(|base| &base.position);
        let seeded = self.supervisor.checkpoint.progress().at().cloned();
        let seeded = seeded.filter(|_| fresh && self.bases.current().is_none());
        let prepared = catch_up::prepare(mysqld, facts.flavor, base).and_then(|(version, at)| {
            let zone = time_zone::check(mysqld, &facts.address.to_string(), &facts.zone)?;
            Ok((version, at, zone))
        });
        let (version, at, zone) = prepared
            .map_err(|e| explain(self.supervisor, mysqld, e, self.plan.patience.shutdown))?;
        if let Some(seeded) = seeded.filter(|seeded| *seeded != at) {
            let text = format!("the copy was at {seeded}, and is at {at} after a restart");
            return Err(Error::ReplicationError { errno: 0, text });
        }
        let at = catch_up::forget_deleted_domains(mysqld, facts, at)
            .map_err(|e| explain(self.supervisor, mysqld, e, self.plan.patience.shutdown))?;
        let functions = !setup.needs_grant_tables && mysqld.has_functions()?;
        log::info!("started mysqld {version} (pid {}) in {}", mysqld.pid(), short(began.elapsed()));
        self.needs_attention(zone);
        if let Some(data) = self.hand.data_mut() {
            data.version = version;
        }
        let verdict = facts.check_base(&at);
        self.supervisor.checkpoint.start_at(at);
        verdict?;
        if functions {
            log::info!("its data has loadable functions, so it is started with its grant tables");
            self.grant_tables = true;
            self.shut_down()?;
            return self.start(facts);
        }
        Ok(())
    }

    fn replicate(&mut self, facts: &Facts) -> Result<()> {
        let (began, loads, logs) = (Instant::now(), self.loads_all(), self.log_keeper());
        let (Some(mysqld), Some(goal)) = (self.hand.mysqld(), &self.goal) else { return Ok(()) };
        self.supervisor.checkpoint.phase(Phase::CatchUp);
        self.scratch.set_replicating()?;
        let from = self.supervisor.checkpoint.progress().at().unwrap_or(&facts.position).clone();
        let patience = self.plan.patience;
        let catch_up = CatchUp {
            facts,
            account: &self.plan.primary.account_at(facts),
            goal: &goal.target,
            poll: self.plan.retries.poll,
            stall: patience.stall,
            open_tables: &self.open_tables,
            logs: &logs,
            data: &self.scratch.data(),
        };
        let caught_up = catch_up
            .run(self.supervisor, mysqld, &mut self.breaker)
            .map_err(|e| if loads { e } else { without_functions(e) })
            .map_err(|e| explain(self.supervisor, mysqld, e, patience.shutdown));
        let reached = goal.target.position().to_string();
        // Also where a statement failed, since that may be why. A primary that is away tells nothing.
        if matches!(caught_up, Ok(()) | Err(Error::ReplicationError { .. })) {
            self.check_primary_log(facts, &from)?;
        }
        caught_up.map_err(|e| self.judge_again(e))?;
        let transactions = self.supervisor.checkpoint.progress().transactions();
        log::info!(
            "caught up with {} to {reached}: {} in {}",
            facts.address,
            count(transactions, "transaction"),
            short(began.elapsed())
        );
        self.close_tables(began.elapsed())
    }

    /// True if the private server is started with its grant tables, and so loads all that they name.
    pub(crate) fn loads_all(&self) -> bool {
        self.grant_tables || self.program_version.as_ref().is_some_and(Version::needs_grant_tables)
    }

    /// Stops replication, reads the position for the backup, and shuts mysqld down. The server stays
    /// in hand until it has exited, for the case of a failure or a stop.
    pub(crate) fn shut_down(&mut self) -> Result<CleanShutdown> {
        let (flavor, patience) = (self.flavor(), self.plan.patience.shutdown);
        let logs = self.log_keeper();
        self.supervisor.checkpoint.phase(Phase::Stop);
        let Some(mysqld) = self.hand.mysqld() else {
            return Err(Error::config("there is no private server to shut down"));
        };
        // One that is still starting cannot be queried, and has replicated nothing.
        if mysqld.is_ready() {
            let (open_tables, at) =
                catch_up::stop(self.supervisor, mysqld, flavor, patience, &logs)
                    .and_then(|open| Ok((open, replica::position(mysqld, flavor)?)))
                    .map_err(|e| explain(self.supervisor, mysqld, e, patience))?;
            self.open_tables.set(open_tables);
            self.supervisor.checkpoint.reach(at);
            globals::check(mysqld, flavor)
                .and_then(|()| purge::finish(self.supervisor, mysqld, flavor))
                .map_err(|e| explain(self.supervisor, mysqld, e, patience))?;
        }
        let ended = shut_down(self.supervisor, mysqld, patience);
        let clean = mysqld.shutdown_completed() || mysqld.exited_cleanly();
        if clean {
            self.supervisor.checkpoint.forget_mysqld();
            self.hand = self.hand.take_data().map_or(InHand::Nothing, InHand::Data);
            self.scratch.set_clean()?;
            self.forget_replication()?;
        } else {
            self.server_died();
        }
        ended
    }

    /// After giving up on the primary: shuts down what was reached, to be stored.
    fn end_short(&mut self) -> Result<Finished> {
        log::warn!("giving up on the primary before the goal; storing what was reached");
        if !self.hand.has_server()
            && let Some(facts) = self.facts.clone()
        {
            self.start(&facts)?;
        }
        let flavor = self.flavor();
        if let Some(mysqld) = self.hand.mysqld() {
            catch_up::drain(self.supervisor, mysqld, flavor)
                .map_err(|e| explain(self.supervisor, mysqld, e, self.plan.patience.shutdown))?;
        }
        self.on_data()?;
        let clean = self.shut_down()?;
        self.finish(clean, Reached::Short)
    }

    /// The data that was shut down, with the header of its manifest.
    fn finish(&mut self, clean: CleanShutdown, reached: Reached) -> Result<Finished> {
        let (Some(at), Some(facts)) = (self.supervisor.checkpoint.progress().at(), &self.facts)
        else {
            return Err(Error::config("there is nothing to store"));
        };
        let base = self.bases.current();
        let data_as_of = match (&self.goal, reached) {
            (Some(goal), Reached::Goal) => goal.as_of,
            _ => base.map_or(self.started, |base| base.manifest.header.data_as_of),
        };
        let header = Header {
            flavor: facts.flavor.name().into(),
            version: self.hand.data().map(|data| data.version.clone()).unwrap_or_default(),
            position: at.to_string(),
            data_as_of,
            started: self.started,
            base: base.map(|base| base.name.clone()),
            open_tables: self.open_tables.get(),
            primary_log: self.primary_log.clone().or(base.and_then(Base::primary_log)),
            settings: self.kept_settings(facts)?,
        };
        let journal = self.journal(reached)?;
        let known = self.hand.data_mut().and_then(|data| data.known.take());
        let finished = Finished::new(clean, self.scratch.data(), header, reached);
        Ok(finished.with_known(known).with_journal(journal))
    }

    /// Ends the attempts with `result`. A mysqld that still runs after a stop or a temporary failure
    /// is shut down, so that the next pass can resume its data; any other is killed.
    pub fn end<T>(mut self, result: Result<T>) -> Result<T> {
        let resumable = match &result {
            Err(e) => e.is_temporary() || matches!(e, Error::Interrupted { .. }),
            Ok(_) => false,
        };
        if self.hand.has_server() && resumable {
            self.supervisor.begin_ending();
            if let Err(e) = self.shut_down() {
                log::warn!("{}: {e}; the scratch data was not shut down cleanly", e.cause());
                self.server_died();
                // The next pass would start another server on it, and see nothing wrong.
                if let Error::ReplicationError { text, .. } = e
                    && let Err(e) = self.discard(&text)
                {
                    log::warn!("{}: {e}", e.cause());
                }
            }
            if let Err(why) = self.tables_lost()
                && let Err(e) = self.discard(&why)
            {
                log::warn!("{}: {e}", e.cause());
            }
        }
        result
    }
}
