//! Attempts: from a base to the goal, as often as it takes and the breaker allows.
//!
//! One attempt asks the primary, fills the scratch directory if its data is of no use, starts
//! mysqld if none runs, replicates up to the goal and shuts mysqld down. Each failure is either
//! for good, or is counted and answered with a wait; an outage of the primary leaves mysqld
//! running. Data that was resumed, or whose mysqld died, is suspect: an error on it is answered
//! by a fresh restore and not by a verdict.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::breaker::Breaker;
use crate::catch_up::{self, Progress};
use crate::checkpoint::Facts as Checkpointed;
use crate::clock::{Timestamp, short};
use crate::error::{Error, Result, bytes};
use crate::gtid::{Flavor, Position};
use crate::manifest::Manifest;
use crate::mysqld::{Mysqld, Setup, forget_replication};
use crate::partial::Header;
use crate::plan::Plan;
use crate::primary::Facts;
use crate::privileges;
use crate::replication;
use crate::repository::Repository;
use crate::restore::{self, Into};
use crate::scratch::{Scratch, Stage};
use crate::seed;
use crate::supervisor::{Nobody, Supervisor};

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
enum Data {
    /// Nothing: it must be restored.
    None,
    /// Restored in this pass, and its mysqld was never killed.
    Fresh,
    /// Resumed, or its mysqld died.
    Suspect,
}

/// A backup to begin from.
struct Base {
    name: String,
    manifest: Manifest,
    position: Position,
}

/// The attempts of one pass.
pub struct Attempts<'a> {
    plan: &'a Plan,
    supervisor: &'a mut Supervisor,
    repo: &'a Repository,
    scratch: &'a mut Scratch,
    anew: bool,
    breaker: Breaker,
    base: Option<Base>,
    passed_over: Vec<String>,
    data: Data,
    mysqld: Option<Mysqld>,
    facts: Option<Facts>,
    version: String,
    goal: Option<Position>,
    data_as_of: Timestamp,
    started: Timestamp,
    progress: Progress,
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
            breaker: Breaker::new(plan.max_failures, base, cap),
            base: None,
            passed_over: Vec::new(),
            data: Data::None,
            mysqld: None,
            facts: None,
            version: String::new(),
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

    /// Was a damaged backup passed over?
    pub fn passed_over(&self) -> bool {
        !self.passed_over.is_empty()
    }

    /// Is the newest backup younger than `min_interval`?
    pub fn not_due(&self, min_interval: Duration) -> bool {
        let Some(base) = &self.base else { return false };
        let age = base.manifest.data_as_of.age(Timestamp::now());
        let young = self.passed_over.is_empty() && age < min_interval;
        if young {
            log::info!("nothing is due: {} is {} old", base.name, short(age));
        }
        young
    }

    /// Looks for the newest backup that is not damaged.
    fn pick_base(&mut self) -> Result<()> {
        self.base = None;
        for name in self.repo.names()?.into_iter().rev() {
            if self.passed_over.contains(&name) {
                continue;
            }
            match self.look_at(&name) {
                Ok(base) => {
                    self.supervisor.checkpoint.set("base_backup", &base.name);
                    self.supervisor.checkpoint.set("position", &base.position);
                    self.data_as_of = base.manifest.data_as_of;
                    self.base = Some(base);
                    return Ok(());
                }
                Err(e @ Error::BackupDamaged { .. }) => {
                    log::warn!("backup-damaged: passing over a backup: {e}");
                    self.passed_over.push(name);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn look_at(&self, name: &str) -> Result<Base> {
        let manifest = self.repo.load(name)?;
        let damaged = |what: String| Error::BackupDamaged { backup: name.into(), what };
        if let Some(what) = self.repo.state(&manifest) {
            return Err(damaged(what));
        }
        let flavor = Flavor::from_name(&manifest.flavor)
            .ok_or_else(|| damaged(format!("unknown flavor '{}'", manifest.flavor)))?;
        let position = Position::parse(flavor, &manifest.position).map_err(damaged)?;
        Ok(Base { name: name.to_string(), manifest, position })
    }

    /// Goes on with the data of an interrupted pass if that is safe.
    fn resume(&mut self, before: &Checkpointed) {
        let name = self.base.as_ref().map(|b| b.name.as_str());
        if !self.scratch.has_data() || (name.is_none() && !self.passed_over.is_empty()) {
            return;
        }
        let flavor = match (&self.base, before.get("position")) {
            (Some(base), _) => Flavor::from_name(&base.manifest.flavor),
            (None, Some(position)) if position.contains(':') => Some(Flavor::MySql),
            (None, _) => Some(Flavor::MariaDb),
        };
        let flavor = flavor.unwrap_or(Flavor::MariaDb);
        let fits = if before.get("base_backup").map(String::as_str) == name {
            self.scratch.check_resumable(name, flavor)
        } else {
            Err("no checkpoint fits it".into())
        };
        let position = before.get("position").map(String::as_str).unwrap_or_default();
        match fits.and_then(|()| Position::parse(flavor, position)) {
            Ok(at) => {
                log::info!("going on with the data of an interrupted pass, at {at}");
                self.supervisor.checkpoint.set("position", &at);
                self.progress.start_at(at);
                self.data = Data::Suspect;
            }
            Err(why) => log::info!("the scratch data is not gone on with: {why}"),
        }
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

    fn check_base(&self) -> Result<()> {
        if self.base.is_some() {
            return Ok(());
        }
        if let Some(name) = self.passed_over.first() {
            let what = "and so is every other one".to_string();
            return Err(Error::BackupDamaged { backup: name.clone(), what });
        }
        if self.plan.dumps_first || self.anew {
            return Ok(());
        }
        let repo = self.repo.root().display();
        let what = format!(
            "repository {repo} has no backup: take the first one with 'rollforward seed --from \
             dump', or run with --first-backup=dump"
        );
        Err(Error::NoBackup { what })
    }

    fn attempt(&mut self) -> Result<()> {
        let mut facts = self.ask_primary()?;
        if self.mysqld.is_none() {
            if self.data == Data::None {
                self.fill(&facts)?;
                // The goal is what the primary has when mysqld is about to start.
                facts = self.ask_primary()?;
            }
            if self.goal.is_none() {
                self.set_goal(&facts)?;
            }
            self.start(&facts)?;
        }
        self.replicate(&facts)?;
        self.shut_down()
    }

    /// The first candidate that answers and can be followed from where we are.
    fn ask_primary(&mut self) -> Result<Facts> {
        let base = self.base.as_ref().map(|b| &b.position);
        let at = if self.data == Data::None { base } else { self.progress.at().or(base) };
        let facts = self.plan.primary.choose(at)?;
        if let Some(base) = &self.base
            && base.manifest.flavor != facts.flavor.name()
        {
            return Err(Error::config(format!(
                "backup {} is of {}, and primary {} is {}",
                base.name,
                base.manifest.flavor,
                facts.address,
                facts.flavor.name()
            )));
        }
        if self.facts.is_none() {
            self.plan.primary.check_privileges(&facts.address, privileges::NIGHTLY)?;
        }
        self.supervisor.checkpoint.set("primary", &facts.address);
        self.facts = Some(facts.clone());
        Ok(facts)
    }

    fn set_goal(&mut self, facts: &Facts) -> Result<()> {
        check_has_position(facts)?;
        self.supervisor.checkpoint.set("goal", &facts.position);
        self.data_as_of = facts.asked;
        self.goal = Some(facts.position.clone());
        Ok(())
    }

    /// Brings data into the scratch directory: of the base, or of a dump when there is none.
    fn fill(&mut self, facts: &Facts) -> Result<()> {
        loop {
            let Some(base) = &self.base else { return self.dump_from(facts) };
            let name = base.name.clone();
            match self.restore(&name) {
                Err(e @ Error::BackupDamaged { .. }) => {
                    log::warn!("backup-damaged: passing over a backup: {e}");
                    self.passed_over.push(name);
                    self.pick_base()?;
                    self.check_base()?;
                    let base = self.base.as_ref().map(|b| &b.position);
                    base.map_or(Ok(()), |b| facts.judge(b))?;
                }
                result => return result,
            }
        }
    }

    fn restore(&mut self, name: &str) -> Result<()> {
        let began = Instant::now();
        self.supervisor.checkpoint.phase("restore");
        let held = self.repo.hold(name)?;
        let into = if self.scratch.has_data() { Into::Existing } else { Into::Empty };
        self.scratch.set_stage(Stage::Partial, Some(name))?;
        self.scratch.make_data()?;
        let (data, user) = (self.scratch.data(), self.scratch.user());
        let waker = self.supervisor.waker();
        let supervisor = &mut *self.supervisor;
        let mut watch = |gauge: &crate::pool::Gauge| supervisor.wait_for_workers(gauge);
        let jobs = self.plan.jobs;
        let restored =
            restore::restore(self.repo, &held, &data, user, into, false, jobs, waker, &mut watch)?;
        self.scratch.set_clean()?;
        self.scratch.set_stage(Stage::Ready, Some(name))?;
        self.data = Data::Fresh;
        self.progress.restart();
        log::info!(
            "restored {name}: {} files, {}, {} written, in {}",
            restored.files,
            bytes(restored.bytes),
            bytes(restored.written),
            short(began.elapsed())
        );
        Ok(())
    }

    fn dump_from(&mut self, facts: &Facts) -> Result<()> {
        let began = Instant::now();
        check_has_position(facts)?;
        self.supervisor.checkpoint.phase("seed");
        self.facts = Some(facts.clone());
        let setup = self.setup(facts);
        let (supervisor, scratch) = (&mut *self.supervisor, &mut *self.scratch);
        let (primary, patience) = (&self.plan.primary, self.plan.patience);
        let seeded = seed::dump(supervisor, &setup, scratch, primary, facts, patience)?;
        self.scratch.set_stage(Stage::Ready, None)?;
        self.data = Data::Fresh;
        self.data_as_of = facts.asked;
        self.version = seeded.version;
        self.supervisor.checkpoint.set("position", &seeded.position);
        log::info!(
            "dumped and loaded {} at {} in {}",
            facts.address,
            seeded.position,
            short(began.elapsed())
        );
        self.progress.restart();
        self.progress.start_at(seeded.position);
        Ok(())
    }

    fn setup(&self, facts: &Facts) -> Setup {
        Setup {
            program: self.plan.program.clone(),
            flavor: facts.flavor,
            scratch: self.scratch.root().to_path_buf(),
            user: self.scratch.user(),
            options: self.plan.mysqld_options.clone(),
            settings: facts.settings.clone(),
            server_id: random_server_id(facts.server_id),
            call_timeout: self.plan.ping_timeout,
        }
    }

    /// Starts mysqld on the data and closes the door behind us.
    fn start(&mut self, facts: &Facts) -> Result<()> {
        let began = Instant::now();
        self.supervisor.checkpoint.phase("start");
        let setup = self.setup(facts);
        forget_replication(&setup.data())?;
        let mysqld = self.mysqld.insert(Mysqld::spawn(&setup, false)?);
        self.scratch.set_running(mysqld)?;
        self.supervisor.checkpoint.set("socket", setup.socket().display());
        seed::wait_until_ready(self.supervisor, mysqld, self.plan.patience.start)?;
        let base = match self.data {
            Data::Fresh => self.base.as_ref(),
            _ => None,
        };
        let prepared = catch_up::prepare(mysqld, facts, base.map(|b| &b.position));
        let (version, at) = prepared
            .map_err(|e| self.supervisor.explain(mysqld, e, self.plan.patience.shutdown))?;
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
        let (account, patience) = (&self.plan.primary.account, self.plan.patience);
        catch_up::Chase { facts, account, goal, poll: self.plan.poll, stall: patience.stall }
            .run(self.supervisor, mysqld, &mut self.breaker, &mut self.progress)
            .map_err(|e| self.supervisor.explain(mysqld, e, patience.shutdown))?;
        log::info!(
            "caught up with {} to {goal}: {} transactions in {}",
            facts.address,
            self.progress.transactions(),
            short(began.elapsed())
        );
        Ok(())
    }

    /// Stops replication, reads the position that the backup will have, and shuts mysqld down.
    fn shut_down(&mut self) -> Result<()> {
        let Some(mut mysqld) = self.mysqld.take() else { return Ok(()) };
        let Some(facts) = &self.facts else { return Ok(()) };
        self.supervisor.checkpoint.phase("stop");
        let patience = self.plan.patience.shutdown;
        let ended = if mysqld.is_ready() {
            let stopped = replication::stop(&mut mysqld, facts.flavor)
                .and_then(|()| replication::position(&mut mysqld, facts.flavor));
            match stopped {
                Ok(at) => {
                    self.supervisor.checkpoint.set("position", &at);
                    self.progress.saw(at);
                    seed::end(self.supervisor, &mut mysqld, patience)
                }
                Err(e) => Err(self.supervisor.explain(&mut mysqld, e, patience)),
            }
        } else {
            // Still starting: there is nobody to ask, and nothing was replicated.
            seed::end(self.supervisor, &mut mysqld, patience)
        };
        if mysqld.ended_cleanly() {
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
        self.data_as_of = self.base.as_ref().map_or(self.started, |b| b.manifest.data_as_of);
        self.shut_down()
    }

    fn its_mysqld_died(&mut self) {
        let flavor = self.facts.as_ref().map_or(Flavor::MariaDb, |f| f.flavor);
        let _ = forget_replication(&self.scratch.data());
        self.data = match (self.data, self.scratch.check_crash_safe(flavor)) {
            (Data::None, _) => Data::None,
            (_, Ok(())) => Data::Suspect,
            (_, Err(why)) => {
                log::warn!("the scratch data is thrown away: {why}");
                Data::None
            }
        };
    }

    /// What to do about a failed attempt: an error ends the pass, `true` gives up with what was
    /// reached, `false` tries again after a wait.
    fn recover(&mut self, error: Error) -> Result<bool> {
        let hung = matches!(error, Error::MysqldHung { .. });
        // As it was: a refusal to start on fresh data is a verdict, and makes it suspect only now.
        let suspect = self.data == Data::Suspect;
        if let Some(mysqld) = &mut self.mysqld
            && (hung || mysqld.has_exited())
        {
            mysqld.kill();
            self.mysqld = None;
            self.its_mysqld_died();
        }
        if error.may_be_the_datas() && suspect {
            self.mysqld = None;
            self.data = Data::None;
            log::warn!("{}: on data that may be to blame, which is restored anew", error.cause());
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
        let (failures, attempts) = (self.breaker.failures(), self.breaker.attempts());
        let Some(wait) = wait else {
            // A dump is whole at its goal only: see seed.rs.
            let worth_storing = self.base.is_some() && self.data != Data::None;
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
        Ok(false)
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

    /// What the manifest of the backup to be stored says.
    ///
    /// # Errors
    /// When there is no position, which cannot be.
    pub fn header(&self) -> Result<Header> {
        let (Some(facts), Some(at)) = (&self.facts, self.progress.at()) else {
            return Err(Error::config("there is nothing to store"));
        };
        Ok(Header {
            flavor: facts.flavor.name().into(),
            version: self.version.clone(),
            position: at.to_string(),
            data_as_of: self.data_as_of,
            started: self.started,
            base: self.base.as_ref().map(|b| b.name.clone()),
            settings: facts.settings.clone(),
        })
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

fn check_has_position(facts: &Facts) -> Result<()> {
    if facts.position.is_empty() {
        return Err(Error::config(format!(
            "primary {} has no position: nothing was written to its binary log yet",
            facts.address
        )));
    }
    Ok(())
}

/// A server id that is hardly anybody else's, and never the primary's.
fn random_server_id(primary: u32) -> u32 {
    let id = (1 << 31) | (random_fraction() * f64::from(1u32 << 31)) as u32;
    if id == primary { id ^ 1 } else { id }
}

/// Between 0 and 1, from the system's random numbers.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut bytes));
    if read.is_err() {
        bytes = std::process::id().to_be_bytes();
    }
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}
