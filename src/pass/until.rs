//! A backup brought to a later moment: restored, and the journal that leads on from it applied up to
//! there by a private server.
//!
//! All of it happens in a directory within the target, so that the target has no data that a server would
//! start on before it is the data of that moment. The log is cut at the byte after the last transaction
//! that is to be in; so no server has to be told where to stop, and times, GTIDs and `before:` are one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{Error, IoExt, Result};
use crate::journal::cut::{Cut, Moment};
use crate::journal::group::Group;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::settings::{self, ZONE, value};
use crate::mysql::version::Version;
use crate::os::files;
use crate::os::random::random_server_id;
use crate::os::workers::Gauge;
use crate::pass::failure::is_not_loaded;
use crate::pass::live::{self, Live};
use crate::pass::means::Means;
use crate::pass::taken_in;
use crate::pass::until_files::{self, WORK};
use crate::replication::catch_up;
use crate::replication::kept_logs::NoLogs;
use crate::replication::primary::Primary;
use crate::replication::received::Newest;
use crate::replication::replay::{Ended, replay};
use crate::replication::replica;
use crate::replication::time_zone;
use crate::repository::directory::damaged;
use crate::repository::held::Held;
use crate::repository::journals::Stores;
use crate::repository::restore::{self, Destination, Into, Kept};
use crate::scratch::working_directory::Scratch;
use crate::server::access::without_functions;
use crate::server::compatibility::{self, With};
use crate::server::lifecycle::{explain, shut_down, wait_until_ready};
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::server::setup::{RelayLogs, Setup};
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::Supervisor;
use crate::text::{count, short};

/// The directory to be filled.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Empty, or with older data that may be made use of.
    pub path: &'a Path,
    /// Who shall own it and all in it, if not we.
    pub owner: Option<(u32, u32)>,
    /// Whom the private server runs as, if not us.
    pub user: Option<(u32, u32)>,
}

/// A backup, those whose journals lead on from it, and the moment in the last of these.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// Where it begins.
    pub base: &'a Held,
    /// Whose journals they are, in order.
    pub steps: &'a [Held],
    /// The last of them can be restored as well as replayed.
    pub ends_well: bool,
    /// Where it ends.
    pub moment: &'a Moment,
    /// Who has what follows the last of them, if that is needed.
    pub beyond: Option<&'a Primary>,
}

impl Way<'_> {
    fn last_backup(&self) -> &Held {
        self.steps.iter().rfind(|held| !held.is_received()).unwrap_or(self.base)
    }

    /// True if the data of `cut` is neither that of the backup at its beginning, nor of one at its end.
    pub fn is_replayed(&self, cut: &Cut) -> bool {
        cut.transactions > 0 && !(cut.next.is_none() && self.ends_well)
    }
}

/// Brings a backup to a later moment.
pub struct Replay<'a> {
    /// Where the backups are, and what was received since.
    pub stores: &'a Stores,
    /// The loop.
    pub supervisor: &'a mut Supervisor,
    /// The private server.
    pub means: &'a Means,
    /// The directory to be filled.
    pub target: Target<'a>,
}

impl Replay<'_> {
    /// Fills the target with the data of the moment. Returns where the journal was cut: if that is at its
    /// end or its beginning, nothing was done, and one of the two backups is of that moment.
    ///
    /// # Errors
    /// Those of reading the journal, of the server, and of the applier; a stop. What is in the target then
    /// is useless.
    pub fn restore(&mut self, way: Way<'_>) -> Result<Cut> {
        let ours = self.check_programs(way)?;
        let mut work = self.make_work()?;
        if let Some(primary) = way.beyond {
            let from = position(way.steps.last().unwrap_or(way.base))?;
            let newest = way.last_backup();
            let led = way.steps.last().unwrap_or(way.base).manifest.journal.last_log.clone();
            let newest = Newest {
                position: position(newest)?,
                log: newest.manifest.header.primary_log.clone(),
                as_of: newest.manifest.journal.as_of,
                led: led.map(|log| (from.clone(), log)),
            };
            let Replay { supervisor, means, target, .. } = &mut *self;
            let user = target.user;
            let mut live = Live { supervisor, means, primary, user, newest };
            live.receive(work.root(), from, way.moment)?;
        }
        let logs = self.restore_logs(&work, way)?;
        let mut crew = self.supervisor.crew("journal", 1);
        let gauge = crew.gauge();
        let cut = crew.alone(|| find(way, &logs, &gauge))?;
        drop(crew);
        if way.is_replayed(&cut) {
            let Target { path, owner, .. } = self.target;
            let gate = taken_in::take_in(path, owner, &work.data(), way.base)?;
            self.attempts(&mut work, way, &cut, ours.as_ref())?;
            until_files::hand_over(work.root(), path, owner, &gate)?;
        }
        drop(work);
        until_files::remove_work(self.target.path)?;
        Ok(cut)
    }

    /// Fails unless the server program is of the series of all these backups.
    fn check_programs(&mut self, way: Way<'_>) -> Result<Option<Version>> {
        let program = &self.means.server.program;
        let ours = compatibility::program_version(self.supervisor, program)?;
        for held in std::iter::once(way.base).chain(way.steps).filter(|held| !held.is_received()) {
            let theirs = Version::parse(&held.manifest.header.version);
            if let (Some(ours), Some(theirs)) = (&ours, theirs) {
                compatibility::check(program, ours, &With::Proof(&held.name), &theirs)?;
            }
        }
        Ok(ours)
    }

    fn make_work(&self) -> Result<Scratch> {
        let root = self.target.path.join(WORK);
        until_files::make_dir(self.target.path, &root, self.target.user)?;
        Scratch::at(root, self.target.user, "restore")
    }

    /// Restores the logs of the journals. Returns their paths, with names that go on from one journal to
    /// the next.
    fn restore_logs(&mut self, work: &Scratch, way: Way<'_>) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (number, held) in way.steps.iter().enumerate() {
            let dir = work.root().join(format!("logs-{number}"));
            let first = paths.len() + 1;
            let all = first..first + held.manifest.journal.logs.len();
            let names: Vec<PathBuf> = all.map(|n| format!("relay.{n:06}").into()).collect();
            self.fill(&held.logs(&names)?, &dir)?;
            paths.extend(names.into_iter().map(|name| dir.join(name)));
        }
        if way.beyond.is_some() {
            live::place_again(work.root(), &mut paths)?;
        }
        Ok(paths)
    }

    fn fill(&mut self, held: &Held, dir: &Path) -> Result<()> {
        let (path, owner, into) = (dir, self.target.user, Into::Existing);
        let to = Destination { path, owner, into, kept: Kept::Cached, known: None };
        let mut crew = self.supervisor.crew("restore", self.means.jobs);
        restore::restore(self.stores.of(held), held, to, &mut crew).map(drop)
    }

    /// Attempts until one succeeds, or the breaker gives up.
    fn attempts(
        &mut self,
        work: &mut Scratch,
        way: Way<'_>,
        cut: &Cut,
        ours: Option<&Version>,
    ) -> Result<()> {
        let retries = &self.means.retries;
        let (base, cap) = retries.backoff;
        let mut breaker = Breaker::new(retries.max_failures, base, cap);
        let mut loads_all = ours.is_some_and(Version::needs_grant_tables);
        loop {
            let error = match self.attempt(work, way, cut, loads_all) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            work.check_gone()?;
            // The statements may need functions that the base has not yet.
            if is_not_loaded(&error) && !loads_all {
                log::info!(
                    "{error}: that was a mysqld without its grant tables; restoring again for one \
                     with them"
                );
                loads_all = true;
                continue;
            }
            // The log is the same in each attempt.
            if !error.is_temporary() || matches!(error, Error::Stalled { .. }) {
                return Err(error);
            }
            self.supervisor.back_off(&mut breaker, error, "restoring again")?;
        }
    }

    /// One attempt, from nothing: data whose server was killed is not gone on with.
    fn attempt(
        &mut self,
        work: &mut Scratch,
        way: Way<'_>,
        cut: &Cut,
        loads_all: bool,
    ) -> Result<()> {
        self.fill(way.base, &work.data())?;
        forget_replication(&work.data())?;
        let logs = self.restore_logs(work, way)?;
        until_files::place_logs(&logs, cut, &work.data(), self.target.user)?;
        let began = Instant::now();
        let mut setup = self.setup(work, way, cut, loads_all)?;
        let base = position(way.base)?;
        let mut mysqld = self.start(work, way, &setup, &base)?;
        if !setup.needs_grant_tables && mysqld.has_functions()? {
            shut_down(self.supervisor, &mut mysqld, self.means.patience.shutdown)?;
            setup.needs_grant_tables = true;
            mysqld = self.start(work, way, &setup, &base)?;
        }
        let patience = self.means.patience;
        let (flavor, goal) = (setup.flavor, &cut.position);
        let mut replayed = replay(self.supervisor, &mut mysqld, goal, patience.stall);
        while let Ok(Ended::Rotated) = replayed {
            // Its logs go with its replication; what they brought stays, and is not applied again.
            catch_up::stop(self.supervisor, &mut mysqld, flavor, patience.shutdown, &NoLogs)?;
            let at = replica::position(&mut mysqld, flavor)?;
            shut_down(self.supervisor, &mut mysqld, patience.shutdown)?;
            forget_replication(&work.data())?;
            let logs = self.restore_logs(work, way)?;
            until_files::place_logs(&logs, cut, &work.data(), self.target.user)?;
            mysqld = self.start(work, way, &setup, &at)?;
            replayed = replay(self.supervisor, &mut mysqld, goal, patience.stall);
        }
        let replayed = replayed
            .and_then(|_| {
                let shutdown = patience.shutdown;
                catch_up::stop(self.supervisor, &mut mysqld, flavor, shutdown, &NoLogs)
            })
            .and_then(|open| Ok((open, replica::position(&mut mysqld, flavor)?)));
        let (open_tables, at) = replayed
            .map_err(|e| if loads_all { e } else { without_functions(e) })
            .map_err(|e| explain(self.supervisor, &mut mysqld, e, patience.shutdown))?;
        if at != *goal {
            let text = format!("the replay ended at {at} and not at {goal}");
            return Err(Error::ReplicationError { errno: 0, text });
        }
        if open_tables > 0 {
            let open = count(open_tables, "temporary table");
            log::info!("sessions of the primary had {open} open at that moment, which are gone");
        }
        shut_down(self.supervisor, &mut mysqld, patience.shutdown)?;
        work.set_clean()?;
        forget_replication(&work.data())?;
        let transactions = count(cut.transactions, "transaction");
        log::info!("applied {transactions} after {} in {}", way.base.name, short(began.elapsed()));
        Ok(())
    }

    /// Starts a private server on data that is at `at`.
    fn start(
        &mut self,
        work: &mut Scratch,
        way: Way<'_>,
        setup: &Setup,
        at: &Position,
    ) -> Result<Mysqld> {
        let patience = self.means.patience;
        let mut mysqld = Mysqld::spawn(setup, false)?;
        work.set_running(&mysqld, true)?;
        wait_until_ready(self.supervisor, &mut mysqld, patience.start)?;
        catch_up::prepare(&mut mysqld, setup.flavor, Some(at))
            .map_err(|e| explain(self.supervisor, &mut mysqld, e, patience.shutdown))
            .map_err(|e| match e {
                Error::BackupDamaged { what, .. } => damaged(&way.base.name, what),
                e => e,
            })?;
        Ok(mysqld)
    }

    /// As in the pass that kept the journal, whose settings are those of the last backup.
    fn setup(&self, work: &Scratch, way: Way<'_>, cut: &Cut, loads_all: bool) -> Result<Setup> {
        let last = way.last_backup();
        let of_next = &last.manifest.header.settings;
        let settings = settings::of_manifest(&last.name, of_next)?;
        let zone = value(of_next, ZONE).filter(|zone| !time_zone::is_ours(zone));
        Ok(Setup {
            program: self.means.server.program.clone(),
            flavor: cut.position.flavor(),
            scratch: work.root().to_path_buf(),
            user: work.user(),
            options: self.means.server.options.clone(),
            settings,
            zone: zone.map(String::from),
            server_id: random_server_id(0),
            call_timeout: self.means.retries.ping_timeout,
            needs_grant_tables: loads_all,
            relay_logs: RelayLogs::Given,
            data_size: Some(way.base.manifest.size),
        })
    }
}

/// The position of a backup.
fn position(held: &Held) -> Result<Position> {
    let header = &held.manifest.header;
    let what = |what| damaged(&held.name, what);
    let flavor = Flavor::from_name(&header.flavor);
    let flavor = flavor.ok_or_else(|| what(format!("unknown flavor {}", header.flavor)))?;
    Position::parse(flavor, &header.position).map_err(what)
}

/// Finds the moment in the logs, which must lead to where the manifests say.
fn find(way: Way<'_>, logs: &[PathBuf], gauge: &Gauge) -> Result<Cut> {
    let base = position(way.base)?;
    let mut cut = Cut::begin(base.clone());
    let mut group = Group::default();
    let entries = way.steps.iter().flat_map(|held| {
        let logs = held.manifest.journal.logs.iter();
        logs.map(move |entry| (held, entry))
    });
    let mut logs = logs.iter().enumerate();
    // In this order: the first log that is of none of them stays.
    for ((held, entry), (number, path)) in entries.zip(logs.by_ref()) {
        if gauge.stopped() {
            return Ok(cut);
        }
        let wrong = |what| damaged(&held.name, what);
        let name = entry.file.path.display();
        let at = |text: &str| Position::parse(base.flavor(), text).map_err(wrong);
        let from = at(&entry.span.from)?;
        if from != *cut.at() && !cut.begin_before(from) {
            return Err(wrong(format!("{name} does not begin at {}", cut.at())));
        }
        let log = files::open_no_link(path).doing("read", path)?;
        let read = cut.read(number, log, &mut group, way.moment);
        if read.map_err(|what| wrong(format!("{name}: {what}")))? {
            return Ok(cut);
        }
        if at(&entry.span.to)? != *cut.at() {
            return Err(wrong(format!("{name} does not lead to {}", entry.span.to)));
        }
    }
    if cut.has_missed() {
        let what = format!("what follows it does not come to {}", cut.position);
        return Err(damaged(&way.base.name, what));
    }
    // What was received just now.
    for (number, path) in logs {
        let log = files::open_no_link(path).doing("read", path)?;
        let read = cut.read(number, log, &mut group, way.moment).map_err(io::Error::other);
        if gauge.stopped() || read.doing("use", path)? {
            break;
        }
    }
    Ok(cut)
}
