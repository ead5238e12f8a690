//! Proving a backup: all its bytes out of the repository, a server on them, every table checked.
//!
//! It has a directory of its own within the scratch directory and begins with nothing in it, so that
//! nothing but the packs is read, and data of an interrupted pass stays. No primary is asked, and
//! nothing replicates. A server that dies is a failure to be tried again; if it dies twice in the
//! check of the same table, that is what is wrong with the table.

use std::io;
use std::time::{Duration, Instant};

use crate::compare::check::{self, Job, UNLIMITED, Verdict};
use crate::compare::names::TableName;
use crate::compare::rotation::Turns;
use crate::error::{Cause, Error, Result, remedy};
use crate::journal::cut::Moment;
use crate::mysql::settings;
use crate::mysql::version::Version;
use crate::os::clock::Timestamp;
use crate::os::random::random_server_id;
use crate::pass::attempts::Attempts;
use crate::pass::plan::Plan;
use crate::pass::run::Look;
use crate::pass::subject::{Filled, Filling, Subject};
use crate::replication::catch_up;
use crate::report::keys::{Key, Phase};
use crate::repository::directory::{Repository, damaged};
use crate::repository::journals::Stores;
use crate::repository::proofs::{HELD, PROOF, Record};
use crate::scratch::working_directory::Scratch;
use crate::server::guest::read_only;
use crate::server::lifecycle::{explain, shut_down, wait_until_ready};
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::server::setup::{RelayLogs, Setup};
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::Supervisor;
use crate::supervisor::watched::Nothing;
use crate::text::{bytes, count, short};

/// So many tables are named in one message.
const NAMED: usize = 5;
/// The longest reason on record, in characters.
const REASON: usize = 500;

/// What the checks found.
#[derive(Default)]
struct Checks {
    /// Tables that are sound.
    good: u64,
    /// Tables that the server cannot check, and why.
    unchecked: Vec<(TableName, String)>,
    /// Tables that are not sound, and what the server says of them.
    bad: Vec<(TableName, String)>,
    /// The table that was being checked when the server died.
    at: Option<TableName>,
}

/// What a proof took and found.
struct Proof {
    restored: Duration,
    started: Duration,
    checked: Duration,
    checks: Checks,
    server: String,
    bytes: u64,
    /// Where the moment is, in words.
    ends: Vec<String>,
}

impl Proof {
    fn tell(&self, name: &str) {
        for (table, why) in &self.checks.unchecked {
            log::warn!("{table} of {name} cannot be checked: {why}");
        }
        log::info!(
            "proved {name}: restored {} in {}, started a server in {}, checked {} in {}",
            bytes(self.bytes),
            short(self.restored),
            short(self.started),
            count(self.checks.good, "table"),
            short(self.checked)
        );
    }
}

/// What a proof works with.
pub(crate) struct Prover<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) repo: &'a Repository,
    pub(crate) supervisor: &'a mut Supervisor,
    pub(crate) scratch: &'a Scratch,
}

impl Attempts<'_> {
    /// Proves the backup `name` that was just stored, with `--prove`. Returns what somebody should
    /// look at.
    ///
    /// # Errors
    /// A stop.
    pub(crate) fn prove(&mut self, name: &str) -> Result<Option<Look>> {
        let (plan, repo) = (self.plan, self.bases.repo);
        if !plan.storage.prove {
            return Ok(None);
        }
        if !plan.storage.keep_scratch {
            // Its room is needed.
            self.scratch.discard(self.supervisor)?;
        }
        let (supervisor, scratch) = (&mut *self.supervisor, &*self.scratch);
        // What the pass says of itself stays.
        let said = [Key::BaseBackup, Key::Cause, Key::Message, Key::Failures];
        let said = said.map(|key| (key, supervisor.checkpoint.get(key).map(String::from)));
        let proved = Prover { plan, repo, supervisor, scratch }.prove(name);
        for (key, value) in said {
            match value {
                // A message is put in quotes when it is set.
                Some(value) => self.supervisor.checkpoint.set(key, value.trim_matches('\'')),
                None => self.supervisor.checkpoint.clear(key),
            }
        }
        match proved {
            Ok(()) => Ok(None),
            Err(stop @ Error::Interrupted { .. }) => Err(stop),
            Err(e) => {
                log::warn!("{}: {e}", e.cause());
                Ok(Some(Look::At(e.cause(), remedy::with(&e))))
            }
        }
    }
}

impl Prover<'_> {
    /// Proves the backup `name`, and puts on record what was found.
    ///
    /// # Errors
    /// [`Error::Unequal`] and [`Error::BackupDamaged`] say what is wrong with it; others that it
    /// could not be proved or put on record.
    pub(crate) fn prove(&mut self, name: &str) -> Result<()> {
        let checkpoint = &mut self.supervisor.checkpoint;
        checkpoint.set(Key::BaseBackup, name);
        checkpoint.phase(Phase::Restore);
        // A proof may take hours, and is worth nothing if nobody learns of it.
        self.supervisor.unlocked(HELD, || self.repo.check_record(name))?;
        // Held until it is on record.
        let (_held, found) = match self.repo.hold(name) {
            Ok(held) => {
                let found = self.attempts(&Subject::Backup(self.repo, &held));
                (Some(held), found)
            }
            Err(e) => (None, Err(e)),
        };
        let record = Record::new(PROOF, Timestamp::now());
        match found {
            Ok(proof) => {
                proof.tell(name);
                let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
                let record = record
                    .with("result", "ok")
                    .with("restore_seconds", seconds(proof.restored))
                    .with("start_seconds", seconds(proof.started))
                    .with("check_seconds", seconds(proof.checked))
                    .with("tables", proof.checks.good)
                    .with("unchecked", proof.checks.unchecked.len())
                    .with("bytes", proof.bytes)
                    .with("server", proof.server);
                self.put_on_record(name, record)
            }
            Err(e) => {
                if matches!(e.cause(), Cause::Unequal | Cause::BackupDamaged | Cause::MysqldStart) {
                    let what: String = e.to_string().chars().take(REASON).collect();
                    let record = record.with("result", e.cause()).with("what", what);
                    if let Err(e) = self.put_on_record(name, record) {
                        log::warn!("{}: the failed proof is not on record: {e}", e.cause());
                    }
                }
                Err(e)
            }
        }
    }

    /// Proves a moment. Of that nothing is put on record, since the next one has another.
    ///
    /// # Errors
    /// As [`Prover::prove`]; [`Error::OutOfReach`].
    pub(crate) fn prove_moment(&mut self, stores: &Stores, moment: &Moment) -> Result<()> {
        let subject = Subject::Moment(stores, moment);
        let proof = self.attempts(&subject)?;
        proof.tell(&subject.name());
        proof.ends.iter().for_each(|line| log::info!("{line}"));
        Ok(())
    }

    fn put_on_record(&mut self, name: &str, record: Record) -> Result<()> {
        let (repo, lines) = (self.repo, [record]);
        self.supervisor.unlocked(HELD, || repo.put_on_record(name, &lines))
    }

    /// Attempts until one tells, or the breaker gives up.
    fn attempts(&mut self, subject: &Subject<'_>) -> Result<Proof> {
        let retries = &self.plan.retries;
        let (base, cap) = retries.backoff;
        let mut breaker = Breaker::new(retries.max_failures, base, cap);
        let mut died_in: Option<TableName> = None;
        loop {
            let mut checks = Checks::default();
            let mut proof = self.scratch.begin_proof(self.supervisor)?;
            let found = self.attempt(&mut proof, subject, &mut checks);
            self.supervisor.checkpoint.forget_mysqld();
            if matches!(found, Err(Error::Interrupted { .. })) {
                self.supervisor.begin_ending();
            }
            let gone = self.scratch.end_proof(proof, found.is_ok(), self.supervisor);
            let error = match found {
                Ok(found) => return gone.map(|()| found),
                Err(error) => error,
            };
            if let Err(e) = gone {
                log::warn!("{}: {e}", e.cause());
            }
            let error = match (error, checks.at.take()) {
                (Error::MysqldDied { how, log }, Some(table)) => {
                    let again = died_in.as_ref() == Some(&table);
                    if again || !checks.bad.is_empty() {
                        checks.bad.push((table, format!("the server dies in it: {how}")));
                        return Err(unequal(&subject.name(), &checks));
                    }
                    let how = format!("{how}, while it checked {table}");
                    died_in = Some(table);
                    Error::MysqldDied { how, log }
                }
                (error, _) => error,
            };
            if !subject.may_try_again(&error) {
                return Err(error);
            }
            let wait = breaker.failed(Instant::now(), 0.0);
            let failures = breaker.failures();
            let checkpoint = &mut self.supervisor.checkpoint;
            checkpoint.set(Key::Cause, error.cause());
            checkpoint.set(Key::Message, &error);
            checkpoint.set(Key::Failures, failures);
            checkpoint.metrics.breaker = Some(breaker.state().name());
            let Some(wait) = wait else { return Err(error) };
            log::warn!(
                "{}: {error}; failure {failures} of {}, retrying in {}",
                error.cause(),
                breaker.attempts(),
                short(wait)
            );
            self.supervisor.pause(&mut Nothing, wait)?;
            breaker.probe(Instant::now());
        }
    }

    fn attempt(
        &mut self,
        proof: &mut Scratch,
        subject: &Subject<'_>,
        checks: &mut Checks,
    ) -> Result<Proof> {
        self.supervisor.checkpoint.phase(Phase::Restore);
        let began = Instant::now();
        let (plan, supervisor) = (self.plan, &mut *self.supervisor);
        let filled = Filling { plan, supervisor, proof }.fill(subject)?;
        let restored = began.elapsed();

        let began = Instant::now();
        self.supervisor.checkpoint.phase(Phase::Start);
        let setup = self.setup(proof, &filled)?;
        let Filled { backup, flavor, position, bytes, ends, .. } = filled;
        forget_replication(&setup.data())?;
        let mut mysqld = Mysqld::spawn(&setup, false)?;
        proof.set_running(&mysqld, true)?;
        self.supervisor.checkpoint.set(Key::Socket, setup.socket().display());
        let patience = self.plan.patience;
        wait_until_ready(self.supervisor, &mut mysqld, patience.start)?;
        let started = began.elapsed();
        let prepared = catch_up::prepare(&mut mysqld, flavor, Some(&position)).and_then(|server| {
            mysqld.run(read_only(flavor))?;
            Ok(server)
        });
        let (server, _) = prepared
            .map_err(|e| explain(self.supervisor, &mut mysqld, e, patience.shutdown))
            .map_err(|e| match e {
                Error::BackupDamaged { what, .. } => damaged(&backup, what),
                e => e,
            })?;

        let began = Instant::now();
        self.check_all(&mut mysqld, checks)
            .map_err(|e| explain(self.supervisor, &mut mysqld, e, patience.shutdown))?;
        let checked = began.elapsed();
        self.supervisor.checkpoint.phase(Phase::Stop);
        if !checks.bad.is_empty() {
            return Err(unequal(&subject.name(), checks));
        }
        shut_down(self.supervisor, &mut mysqld, patience.shutdown)?;
        proof.set_clean()?;
        let checks = std::mem::take(checks);
        Ok(Proof { restored, started, checked, checks, server, bytes, ends })
    }

    /// Checks all tables. `checks` is what was found, also if the server dies meanwhile.
    fn check_all(&mut self, mysqld: &mut Mysqld, checks: &mut Checks) -> Result<()> {
        let (now, patience) = (Timestamp::now(), self.plan.patience.stall);
        let job = Job { turns: Turns::new(), without: Vec::new(), now, time: UNLIMITED, patience };
        let checked = check::check(self.supervisor, mysqld, job);
        let mut lacking = None;
        for (table, verdict) in checked.verdicts {
            match verdict {
                Verdict::Right => checks.good += 1,
                Verdict::Unknown(why) => checks.unchecked.push((table, why)),
                // What could not be looked at is not proven.
                Verdict::Lacking(why) => {
                    let doing = format!("let mysqld open the files of {table} ({why})");
                    let source = io::Error::from_raw_os_error(libc::EMFILE);
                    lacking.get_or_insert(Error::Io { doing, source });
                }
                Verdict::Wrong(what) => checks.bad.push((table, what)),
                Verdict::Cut => {}
            }
        }
        checks.at = checked.at;
        checked.ended?;
        // What is found is found.
        lacking.filter(|_| checks.bad.is_empty()).map_or(Ok(()), Err)
    }

    fn setup(&self, proof: &Scratch, filled: &Filled) -> Result<Setup> {
        // Out of a manifest: only what a server has gets to its command line.
        let settings = settings::of_manifest(&filled.backup, &filled.header.settings)?;
        Ok(Setup {
            program: self.plan.server.program.clone(),
            flavor: filled.flavor,
            scratch: proof.root().to_path_buf(),
            user: proof.user(),
            options: self.plan.server.options.clone(),
            settings,
            zone: None,
            server_id: random_server_id(0),
            call_timeout: self.plan.retries.ping_timeout,
            needs_grant_tables: filled.ours.as_ref().is_some_and(Version::needs_grant_tables),
            relay_logs: RelayLogs::Go,
            data_size: Some(filled.bytes),
        })
    }
}

/// The error for tables that are not sound, each of which the log names.
fn unequal(name: &str, checks: &Checks) -> Error {
    for (table, what) in &checks.bad {
        log::warn!("unequal: {table} of {name}: {what}");
    }
    let named = checks.bad.iter().take(NAMED);
    let named: Vec<String> = named.map(|(table, what)| format!("{table}: {what}")).collect();
    let more = match checks.bad.len() - named.len() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let what = format!("CHECK TABLE on {name} finds damage: {}{more}", named.join("; "));
    Error::Unequal { what }
}
