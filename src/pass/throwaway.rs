//! `open`: a throw-away private server on a backup or a moment, for a program or until told to stop.
//!
//! It has a directory of its own in the scratch directory, beside the data of a pass, which goes whatever
//! happens: at the end, or when the next command finds that its process was killed. The backup is held
//! all the time. Failures before the program has begun are counted by a breaker, as in a pass; a program
//! is never run twice.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::compare::names::TableName;
use crate::error::{Cause, Error, Place, Result};
use crate::journal::cut::Moment;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::settings::{self, ZONE, value};
use crate::mysql::version::Version;
use crate::os::process::Exit;
use crate::os::random::random_server_id;
use crate::os::space::placed;
use crate::pass::means::Means;
use crate::pass::moment::{self, Sources, shown};
use crate::pass::plan::check_apart;
use crate::pass::program::Program;
use crate::pass::some_tables;
use crate::replication::catch_up;
use crate::replication::primary::Primary;
use crate::replication::time_zone;
use crate::repository::directory::{Repository, damaged};
use crate::repository::held::Held;
use crate::repository::journals::Stores;
use crate::repository::manifest::Header;
use crate::repository::restore::{self, Destination, Into, Kept};
use crate::scratch::opened;
use crate::scratch::run_as;
use crate::scratch::working_directory::{Scratch, Stage};
use crate::server::compatibility::{self, With};
use crate::server::guest::{Guest, Rights, read_only};
use crate::server::lifecycle::{explain, shut_down, wait_until_ready};
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::server::setup::{RelayLogs, Setup};
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Nothing;
use crate::text::{bytes, short};

/// What data a server is opened on.
pub enum Which {
    /// A backup, or the newest.
    Backup(Option<String>),
    /// A moment.
    At(Moment),
}

/// A server to be opened.
pub struct Opening {
    /// `--repo`.
    pub repo: PathBuf,
    /// `--scratch`.
    pub scratch: PathBuf,
    /// Other files of ours that may be in the scratch directory.
    pub others: Vec<PathBuf>,
    /// On what.
    pub which: Which,
    /// `--tables`; if there are none, all.
    pub tables: Vec<TableName>,
    /// `--writable`.
    pub writable: bool,
    /// For whom; if for nobody, until told to stop.
    pub program: Option<Program>,
    /// How the server is run.
    pub means: Means,
    /// Has what no journal has of a moment, if one is named.
    pub primary: Option<Result<Primary>>,
}

/// Data that a server can be started on.
struct Filled {
    held: Rc<Held>,
    header: Header,
    what: String,
}

impl Opening {
    /// Opens the server. Returns the exit status, which is that of the program.
    ///
    /// # Errors
    /// Usage, locks, a backup or moment that cannot be had; what became of the server; a stop.
    pub fn open(&self, supervisor: &mut Supervisor) -> Result<u8> {
        if self.program.is_none() {
            supervisor.end_on_hangup()?;
        }
        let user = self.means.server.user.as_deref();
        check_apart(
            ("repository", self.repo.as_path()),
            ("scratch directory", self.scratch.as_path()),
        )?;
        run_as::check(&self.scratch, user)?;
        let stores = Stores::new(Repository::open(&self.repo)?)?;
        let repo = &stores.backups;
        // Before anything is made.
        let on = match &self.which {
            Which::Backup(name) => {
                let held = repo.hold(&repo.find(name.as_deref())?)?;
                On::Backup(Rc::new(match self.tables.as_slice() {
                    [] => held,
                    some => some_tables::only(&held, some)?,
                }))
            }
            Which::At(moment) => On::Moment(moment),
        };
        let mut scratch = opened::make(&self.scratch, &self.others, user, supervisor)?;
        let root = scratch.root().to_path_buf();
        let scratch_dir = &mut scratch;
        let mut server =
            OnBackup { opening: self, stores: &stores, supervisor, scratch: scratch_dir, on };
        let ended = Error::contain(|| server.serve());
        let known = [(root.as_path(), Place::Scratch), (repo.root(), Place::Repository)];
        let ended = ended.map_err(|e| placed(e, &known));
        // A stop is over with the server, and what it left has to go.
        supervisor.begin_ending();
        let of_server = [Cause::MysqldDied, Cause::MysqldHung, Cause::MysqldStart];
        let failed = ended.as_ref().is_err_and(|e| of_server.contains(&e.cause()));
        if let Err(e) = opened::remove(scratch, failed, supervisor) {
            log::warn!("{}: {e}", e.cause());
        }
        ended
    }
}

struct OnBackup<'a> {
    opening: &'a Opening,
    stores: &'a Stores,
    supervisor: &'a mut Supervisor,
    scratch: &'a mut Scratch,
    on: On<'a>,
}

/// What the data is restored from.
enum On<'a> {
    Backup(Rc<Held>),
    Moment(&'a Moment),
}

impl OnBackup<'_> {
    fn serve(&mut self) -> Result<u8> {
        let began = Instant::now();
        let (mut mysqld, filled) = self.attempts()?;
        let flavor = flavor(&filled)?;
        let Opening { writable, program, means, .. } = self.opening;
        let socket = self.scratch.root().join("mysqld.sock");
        let shutdown = means.patience.shutdown;
        let rights = Rights { write: *writable, alone: true };
        let guest = Guest::admit(&mut mysqld, flavor, rights, &socket)
            .and_then(|guest| match writable {
                true => Ok(guest),
                false => mysqld.run(read_only(flavor)).map(|()| guest),
            })
            .map_err(|e| explain(self.supervisor, &mut mysqld, e, shutdown))?;
        log::info!(
            "opened {} at {}, {}, in {} (mysqld {}, pid {})",
            filled.what,
            filled.header.position,
            if *writable { "writable" } else { "read only" },
            short(began.elapsed()),
            filled.header.version,
            mysqld.pid()
        );
        let status = match program {
            Some(program) => {
                let file = guest.option_file();
                let exit = program.run(self.supervisor, &mut mysqld, &file, shutdown)?;
                status(exit)
            }
            None => self.wait(&mut mysqld, &guest)?,
        };
        mysqld.kill();
        Ok(status)
    }

    /// Waits for a stop. Returns the exit status that it means.
    fn wait(&mut self, mysqld: &mut Mysqld, guest: &Guest) -> Result<u8> {
        log::info!(
            "until TERM or INT, log in with --defaults-file={} (socket {})",
            guest.option_file().display(),
            guest.socket().display()
        );
        let wait = Wait { every: Duration::from_secs(1), patience: None };
        let ended = self.supervisor.wait_for(mysqld, wait, |_, _| Ok(Look::<()>::Still));
        match ended {
            Err(Error::Interrupted { signal }) => {
                log::info!("stopped by signal {signal}, as it is meant to be");
                Ok((128 + signal) as u8)
            }
            Err(e) => {
                let patience = self.opening.means.patience.shutdown;
                Err(explain(self.supervisor, mysqld, e, patience))
            }
            Ok(_) => Err(Error::Interrupted { signal: libc::SIGTERM }),
        }
    }

    /// Attempts until a server is ready, or the breaker gives up.
    fn attempts(&mut self) -> Result<(Mysqld, Filled)> {
        let retries = &self.opening.means.retries;
        let (base, cap) = retries.backoff;
        let mut breaker = Breaker::new(retries.max_failures, base, cap);
        loop {
            let error = match self.attempt() {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            self.scratch.check_gone()?;
            // The same journal fails in the same way.
            if !error.is_temporary() || matches!(error, Error::Stalled { .. }) {
                return Err(error);
            }
            let Some(wait) = breaker.failed(Instant::now(), 0.0) else { return Err(error) };
            log::warn!(
                "{}: {error}; failure {} of {}, restoring again in {}",
                error.cause(),
                breaker.failures(),
                breaker.attempts(),
                short(wait)
            );
            self.supervisor.pause(&mut Nothing, wait)?;
            breaker.probe(Instant::now());
            self.scratch.discard(self.supervisor)?;
        }
    }

    fn attempt(&mut self) -> Result<(Mysqld, Filled)> {
        self.scratch.set_stage(Stage::Partial, None)?;
        self.scratch.make_data()?;
        let filled = match &self.on {
            On::Moment(moment) => self.fill_moment(moment)?,
            On::Backup(held) => self.fill_backup(Rc::clone(held))?,
        };
        let mysqld = self.start(&filled)?;
        Ok((mysqld, filled))
    }

    fn fill_backup(&mut self, held: Rc<Held>) -> Result<Filled> {
        let data = self.scratch.data();
        let (path, owner, into) = (data.as_path(), self.scratch.user(), Into::Existing);
        let to = Destination { path, owner, into, kept: Kept::Cached, known: None };
        let mut crew = self.supervisor.crew("restore", self.opening.means.jobs);
        restore::restore(&self.stores.backups, &held, to, &mut crew)?;
        let header = held.manifest.header.clone();
        let what = format!("{} ({})", held.name, bytes(held.manifest.size));
        Ok(Filled { held, header, what })
    }

    fn fill_moment(&mut self, moment: &Moment) -> Result<Filled> {
        let primary = self.opening.primary.as_ref();
        let sources = Sources { stores: self.stores, primary };
        let means = &self.opening.means;
        let taken = moment::fill(sources, self.supervisor, moment, means, self.scratch)?;
        let header = taken.header();
        Ok(Filled { held: Rc::new(taken.held), header, what: shown(moment) })
    }

    fn start(&mut self, filled: &Filled) -> Result<Mysqld> {
        let held = &filled.held;
        let program = &self.opening.means.server.program;
        let ours = compatibility::program_version(self.supervisor, program)?;
        let theirs = Version::parse(&filled.header.version);
        if let (Some(ours), Some(theirs)) = (&ours, theirs) {
            compatibility::check(program, ours, &With::Proof(&held.name), &theirs)?;
        }
        let mut setup = self.setup(filled, ours.as_ref())?;
        let mut mysqld = self.start_once(filled, &setup)?;
        if !setup.needs_grant_tables && mysqld.has_functions()? {
            shut_down(self.supervisor, &mut mysqld, self.opening.means.patience.shutdown)?;
            setup.needs_grant_tables = true;
            mysqld = self.start_once(filled, &setup)?;
        }
        Ok(mysqld)
    }

    fn start_once(&mut self, filled: &Filled, setup: &Setup) -> Result<Mysqld> {
        let patience = self.opening.means.patience;
        forget_replication(&setup.data())?;
        let mut mysqld = Mysqld::spawn(setup, false)?;
        self.scratch.set_running(&mysqld, true)?;
        wait_until_ready(self.supervisor, &mut mysqld, patience.start)?;
        let name = &filled.held.name;
        let at = Position::parse(setup.flavor, &filled.header.position);
        let at = at.map_err(|what| damaged(name, what))?;
        catch_up::prepare(&mut mysqld, setup.flavor, Some(&at))
            .map_err(|e| explain(self.supervisor, &mut mysqld, e, patience.shutdown))
            .map_err(|e| match e {
                Error::BackupDamaged { what, .. } => damaged(name, what),
                e => e,
            })?;
        Ok(mysqld)
    }

    fn setup(&self, filled: &Filled, ours: Option<&Version>) -> Result<Setup> {
        let Filled { held, header, .. } = filled;
        // Out of a manifest: only what a server has gets to its command line.
        let settings = settings::of_manifest(&held.name, &header.settings)?;
        let zone = value(&settings, ZONE).filter(|zone| !time_zone::is_ours(zone));
        Ok(Setup {
            program: self.opening.means.server.program.clone(),
            flavor: flavor(filled)?,
            scratch: self.scratch.root().to_path_buf(),
            user: self.scratch.user(),
            options: self.opening.means.server.options.clone(),
            zone: zone.map(String::from),
            settings,
            server_id: random_server_id(0),
            call_timeout: self.opening.means.retries.ping_timeout,
            needs_grant_tables: ours.is_some_and(Version::needs_grant_tables),
            relay_logs: RelayLogs::Go,
            data_size: Some(held.manifest.size),
        })
    }
}

fn flavor(filled: &Filled) -> Result<Flavor> {
    let flavor = &filled.header.flavor;
    let unknown = || damaged(&filled.held.name, format!("unknown flavor {flavor}"));
    Flavor::from_name(flavor).ok_or_else(unknown)
}

/// The exit status, as a shell has it.
fn status(exit: Exit) -> u8 {
    match exit {
        Exit::Status(status) => status as u8,
        Exit::Signal(signal) => (128 + signal) as u8,
    }
}
