//! The first backup: a dump by the primary's own client, loaded into a fresh private server.
//!
//! A client may exit with status 0 although data is missing, so nothing is taken on trust:
//! privileges are checked before, every complaint is a failure, the tables are compared
//! afterwards, and those outside InnoDB must not have been written meanwhile. A table that was
//! dropped meanwhile is missing: the dump is consistent only once it has caught up to where the
//! primary was after it. The password reaches the client through a pipe.

use std::io::{self, Write};
use std::os::unix::fs::fchown;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::os::process::{Activity, Child, Exit};
use crate::replication::primary::{Facts, Primary};
use crate::replication::privileges;
use crate::replication::replica;
use crate::replication::time_zone;
use crate::report::meter::Unit;
use crate::seed::dump_client::{client_options, dump_command, dump_error, errno_of, load_command};
use crate::seed::dump_progress::DumpProgress;
use crate::seed::seeding::{Seeded, Seeding};
use crate::seed::tables::{self, Tables};
use crate::server::error_log::without_statement;
use crate::server::mysqld::Mysqld;
use crate::server::setup::Setup;
use crate::server::tools::{complaint, output, spawn};
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::{Nothing, Watched};

/// What the clients print on standard error, in the scratch directory.
const DUMP_REPORT: &str = "dump.err";
const LOAD_REPORT: &str = "load.err";

/// How the first backup is taken from the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A logical dump.
    Dump,
    /// MySQL's CLONE.
    Clone,
}

/// The maximum number of dumps made while tables come, go or change, or while what happened during
/// it cannot be applied to it.
pub const TRIES: u32 = 3;

/// What a server without any tables takes, with its redo log.
const EMPTY_SERVER: u64 = 120 << 20;

/// Fills the scratch directory with a dump of the primary, as a data directory that was shut
/// down cleanly.
///
/// # Errors
/// What keeps it from being complete and of one moment.
pub fn dump(seeding: &mut Seeding, primary: &Primary, facts: &Facts) -> Result<Seeded> {
    let asked = facts.clone();
    primary.question(seeding.supervisor, &mut Nothing, move |primary| {
        primary.check_privileges(&asked, privileges::dump(asked.flavor))
    })?;
    for tries in 1.. {
        let before = list_primary(seeding.supervisor, &mut Nothing, primary, facts)?;
        let dumped = dump_once(seeding, primary, facts, &before);
        let Err(e @ Error::ReplicationError { .. }) = dumped else { return dumped };
        // "Table definition has changed" and "no such table" of the servers' error references.
        let changed = matches!(e, Error::ReplicationError { errno: 1412 | 1146, .. });
        let after = list_primary(seeding.supervisor, &mut Nothing, primary, facts)?;
        if tries == TRIES || (!changed && before.keys().eq(after.keys())) {
            return Err(e);
        }
        log::warn!("{}: {e}; tables changed meanwhile, dumping again", e.cause());
    }
    unreachable!("the last try returns")
}

fn dump_once(
    seeding: &mut Seeding,
    primary: &Primary,
    facts: &Facts,
    before: &Tables,
) -> Result<Seeded> {
    let space: u64 = before.values().map(|t| t.bytes).sum();
    seeding.make_empty(space + EMPTY_SERVER)?;
    let mut mysqld = seeding.start(true)?;
    time_zone::check(&mut mysqld, &facts.address.to_string(), &facts.zone)
        .map_err(|e| seeding.explain(&mut mysqld, e))?;
    let pipe = Pipe::start(&seeding.setup, &mut mysqld, primary, facts)?;
    let seeded = pipe
        .run(seeding.supervisor, seeding.patience.stall, before)
        .and_then(|()| check(seeding.supervisor, &mut mysqld, primary, facts, before))
        .map_err(|e| seeding.explain(&mut mysqld, e))?;
    seeding.finish(mysqld)?;
    Ok(seeded)
}

/// The dumping client, the loading client behind it, and the mysqld that is loaded.
struct Pipe<'a> {
    dump: Child,
    load: Child,
    mysqld: &'a mut Mysqld,
    address: String,
    flavor: Flavor,
    scratch: PathBuf,
}

impl<'a> Pipe<'a> {
    fn start(
        setup: &Setup,
        mysqld: &'a mut Mysqld,
        primary: &Primary,
        facts: &Facts,
    ) -> Result<Pipe<'a>> {
        let (flavor, scratch) = (setup.flavor, setup.scratch.clone());
        let mut dump = dump_command(setup)?;
        dump.stderr(output(&scratch.join(DUMP_REPORT))?);
        let fail = |e| Error::io("make a pipe to", &scratch, e);
        let (reader, mut writer) = io::pipe().map_err(fail)?;
        if let Some((uid, gid)) = setup.user {
            // It opens the pipe by name.
            fchown(&reader, Some(uid), Some(gid)).map_err(fail)?;
        }
        let mut dump = spawn(dump.stdin(reader))?;
        let options = client_options(&primary.account_at(facts), &facts.address, facts.flavor);
        // They fit into a pipe's buffer; a client that died reports that itself.
        let _ = writer.write_all(options.as_bytes());
        drop(writer);
        let mut command = load_command(setup)?;
        command.stderr(output(&scratch.join(LOAD_REPORT))?);
        match dump.pipes().stdout.take() {
            Some(stdout) => command.stdin(Stdio::from(stdout)),
            None => command.stdin(Stdio::null()),
        };
        let load = spawn(&mut command)?;
        Ok(Pipe { dump, load, mysqld, address: facts.address.to_string(), flavor, scratch })
    }

    fn run(
        mut self,
        supervisor: &mut Supervisor,
        stall: Option<Duration>,
        tables: &Tables,
    ) -> Result<()> {
        let stalled = || Error::Stalled {
            after: stall.unwrap_or_default(),
            what: "the dump of the primary".into(),
        };
        let mut progress = DumpProgress::new(tables, self.scratch.join(DUMP_REPORT));
        let wait = Wait { every: Duration::from_secs(1), patience: stall };
        let load = supervisor.wait_for(&mut self, wait, |pipe, checkpoint| {
            let moved = progress.advance(pipe.dump.written());
            let (done, total) = progress.done_of();
            checkpoint.measure("dump", Unit::Bytes, done, Some(total));
            // A loader that failed breaks the pipe: the dump need not be waited for.
            Ok(match pipe.load.try_wait() {
                Some(exit) => Look::Done(exit),
                None if moved => Look::Moving,
                None => Look::Still,
            })
        })?;
        supervisor.checkpoint.measured();
        let load = load.ok_or_else(stalled)?;
        let wait = Wait { every: Duration::from_millis(200), patience: stall };
        let dump = supervisor.wait_for(&mut self, wait, |pipe, _| {
            Ok(pipe.dump.try_wait().map_or(Look::Still, Look::Done))
        })?;
        let or_exit = |text: String, exit: Exit| match text.is_empty() {
            true => exit.to_string(),
            false => text,
        };
        let complained = complaint(&self.scratch.join(LOAD_REPORT));
        if load != Exit::Status(0) || !complained.is_empty() {
            let text = or_exit(complained, load);
            let errno = errno_of(&text);
            if matches!(errno, 1053 | 2002 | 2006 | 2013) {
                return Err(Error::MysqldHung { what: "answer to the load".into(), after: None });
            }
            let text = format!("loading the dump: {}", without_statement(&text));
            return Err(Error::ReplicationError { errno, text });
        }
        let dump = dump.ok_or_else(stalled)?;
        let complained = complaint(&self.scratch.join(DUMP_REPORT));
        if dump != Exit::Status(0) || !complained.is_empty() {
            return Err(dump_error(&self.address, self.flavor, &or_exit(complained, dump)));
        }
        Ok(())
    }
}

impl Watched for Pipe<'_> {
    fn ended(&mut self) -> Option<Error> {
        self.mysqld.ended()
    }
    fn ping(&mut self) -> Result<()> {
        self.mysqld.ping()
    }
    fn activity(&self) -> Option<Activity> {
        let (a, b) = (self.mysqld.activity()?, self.dump.activity());
        Some(Activity {
            cpu_ms: a.cpu_ms + b.cpu_ms,
            io_bytes: a.io_bytes + b.io_bytes,
            log_bytes: a.log_bytes,
        })
    }
    fn maintain(&mut self) -> Result<()> {
        self.mysqld.maintain()
    }
}

fn list_primary<W: Watched>(
    supervisor: &mut Supervisor,
    watched: &mut W,
    primary: &Primary,
    facts: &Facts,
) -> Result<Tables> {
    let facts = facts.clone();
    primary.question(supervisor, watched, move |primary| tables::list_primary(primary, &facts))
}

/// Compares what was loaded with the primary, and reads the position.
fn check(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    primary: &Primary,
    facts: &Facts,
    before: &Tables,
) -> Result<Seeded> {
    let after = list_primary(supervisor, mysqld, primary, facts)?;
    let loaded = tables::list_private(mysqld, facts.flavor)?;
    tables::compare(before, &after, &loaded)?;
    if facts.flavor == Flavor::MariaDb {
        // The dump holds a CHANGE MASTER.
        mysqld.run("RESET SLAVE ALL")?;
    }
    let position = replica::position(mysqld, facts.flavor)?;
    if position.is_empty() {
        return Err(Error::ReplicationError { errno: 0, text: "the dump has no position".into() });
    }
    let answer = mysqld.control()?.query("SELECT VERSION()");
    let version = answer.map_err(|t| mysqld.lost("answer to a query", t))?.first().to_string();
    Ok(Seeded { position, version })
}
