//! The first backup: a dump by the primary's own client, loaded into a fresh private server.
//!
//! A dump may end with status 0 and without the data, so nothing is taken on trust: privileges
//! are checked before, every complaint is a failure, the tables are compared afterwards, those
//! outside of InnoDB must not have been written. A table that was dropped meanwhile is missing:
//! the dump is whole only when it has caught up with the primary of after it. The password
//! reaches the client through a pipe.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::error::{Error, Place, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::session::Session;
use crate::os::process::{Child, Exit, VitalSigns};
use crate::os::space::check_room;
use crate::replication::primary::{Facts, Primary};
use crate::replication::privileges;
use crate::replication::replica;
use crate::report::meter::Unit;
use crate::scratch::working_directory::Scratch;
use crate::seed::dump_client::{client_options, dump_command, dump_error, errno_of, load_command};
use crate::seed::dump_progress::DumpProgress;
use crate::seed::tables::{self, Tables};
use crate::server::error_log::without_statement;
use crate::server::initialize::install;
use crate::server::lifecycle::{Patience, explain, shut_down, wait_until_ready};
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::server::setup::Setup;
use crate::server::tools::{complaint, output, spawn};
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Watched;

/// What takes the place of the restore when there is no backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A logical dump.
    Dump,
    /// MySQL's CLONE.
    Clone,
}

/// The position of what was dumped or cloned, and the version of the server that holds it.
#[allow(missing_docs)]
pub struct Seeded {
    pub position: Position,
    pub version: String,
}

/// A dump that failed while tables came, went or changed is made, all in all, so often; and so is
/// one that what happened meanwhile cannot be applied to.
pub const TRIES: u32 = 3;

/// What a server without any tables takes, with its redo log.
const EMPTY_SERVER: u64 = 120 << 20;

/// Fills the scratch directory with a dump of the primary, as a data directory that was shut
/// down cleanly.
///
/// # Errors
/// What keeps it from being complete and of one moment.
pub fn dump(
    supervisor: &mut Supervisor,
    setup: &Setup,
    scratch: &mut Scratch,
    primary: &Primary,
    facts: &Facts,
    patience: Patience,
) -> Result<Seeded> {
    primary.check_privileges(&facts.address, privileges::dump(facts.flavor))?;
    for tries in 1.. {
        let mut session = primary.open(&facts.address)?;
        let mut before = tables::list_primary(&mut session, facts)?;
        tables::tell_binary(session, &mut before);
        let space: u64 = before.values().map(|t| t.bytes + t.index_bytes).sum();
        scratch.discard(supervisor)?;
        check_room(scratch.root(), space + EMPTY_SERVER, Place::Scratch)?;
        let dumped = dump_once(supervisor, setup, scratch, primary, facts, patience, &before);
        let Err(e @ Error::ReplicationError { .. }) = dumped else { return dumped };
        // "Table definition has changed" and "no such table" of the servers' error references.
        let changed = matches!(e, Error::ReplicationError { errno: 1412 | 1146, .. });
        let mut session = primary.open(&facts.address)?;
        let after = tables::list_primary(&mut session, facts)?;
        if tries == TRIES || (!changed && before.keys().eq(after.keys())) {
            return Err(e);
        }
        log::warn!("{}: {e}; tables were changed meanwhile, dumping anew", e.cause());
    }
    unreachable!("the last try returns")
}

fn dump_once(
    supervisor: &mut Supervisor,
    setup: &Setup,
    scratch: &mut Scratch,
    primary: &Primary,
    facts: &Facts,
    patience: Patience,
    before: &Tables,
) -> Result<Seeded> {
    scratch.discard(supervisor)?;
    scratch.make_data()?;
    install(supervisor, setup, patience.start)?;
    let mut mysqld = Mysqld::spawn(setup, true)?;
    scratch.set_running(&mysqld, false)?;
    wait_until_ready(supervisor, &mut mysqld, patience.start)?;
    let pipe = Pipe::start(setup, &mut mysqld, primary, facts)?;
    let progress = DumpProgress::new(before, setup.scratch.join("dump.err"), Instant::now());
    pipe.run(supervisor, patience, progress)
        .map_err(|e| explain(supervisor, &mut mysqld, e, patience.shutdown))?;
    let seeded = check(setup, &mut mysqld, primary, facts, before)
        .map_err(|e| explain(supervisor, &mut mysqld, e, patience.shutdown))?;
    shut_down(supervisor, &mut mysqld, patience.shutdown)?;
    scratch.set_clean()?;
    forget_replication(&scratch.data())?;
    Ok(seeded)
}

/// The dump's client and the loader behind it, with the mysqld that is loaded.
struct Pipe<'a> {
    dump: Child,
    load: Child,
    mysqld: &'a mut Mysqld,
    address: String,
    flavor: Flavor,
    scratch: PathBuf,
    counts: bool,
}

impl<'a> Pipe<'a> {
    fn start(
        setup: &Setup,
        mysqld: &'a mut Mysqld,
        primary: &Primary,
        facts: &Facts,
    ) -> Result<Pipe<'a>> {
        let mut dump = dump_command(setup)?;
        dump.stderr(output(&setup.scratch.join("dump.err"))?);
        let mut dump = spawn(&mut dump)?;
        let options = client_options(&primary.account, &facts.address, facts.flavor);
        if let Some(mut stdin) = dump.pipes().stdin.take() {
            // Smaller than a pipe holds; a client that died will say so itself.
            let _ = stdin.write_all(options.as_bytes());
        }
        let mut command = load_command(setup)?;
        command.stderr(output(&setup.scratch.join("load.err"))?);
        match dump.pipes().stdout.take() {
            Some(stdout) => command.stdin(Stdio::from(stdout)),
            None => command.stdin(Stdio::null()),
        };
        let load = spawn(&mut command)?;
        let address = facts.address.to_string();
        let (flavor, scratch) = (setup.flavor, setup.scratch.clone());
        Ok(Pipe { dump, load, mysqld, address, flavor, scratch, counts: true })
    }

    /// Rows that were written since the server started; asks no more once it was not answered.
    fn rows(&mut self) -> Option<u64> {
        if !self.counts {
            return None;
        }
        let answer = self.mysqld.control().ok()?.query("SHOW GLOBAL STATUS LIKE 'Handler_write'");
        self.counts = answer.is_ok();
        answer.ok()?.get("Value").parse().ok()
    }

    fn run(
        mut self,
        supervisor: &mut Supervisor,
        patience: Patience,
        mut progress: DumpProgress,
    ) -> Result<()> {
        let (before, mut written) = (self.rows().unwrap_or(0), 0);
        let wait = Wait { every: Duration::from_secs(1), patience: patience.stall };
        let ended = supervisor.wait_for(&mut self, wait, |pipe, checkpoint| {
            let rows = pipe.rows().map(|rows| rows.saturating_sub(before));
            let (done, total, left) = progress.measure(rows, pipe.dump.written(), Instant::now());
            checkpoint.measure("dump", Unit::Bytes, done, Some(total));
            checkpoint.expect(left);
            // The total is an estimate: past it, the bytes of the dump still show that it moves.
            if std::mem::replace(&mut written, pipe.dump.written()) != written {
                checkpoint.progressed();
            }
            // A loader that failed breaks the pipe: do not wait for the dump then.
            let done = match (pipe.dump.try_wait(), pipe.load.try_wait()) {
                (_, Some(load)) => Look::Done(load),
                _ => Look::Still,
            };
            Ok(done)
        })?;
        supervisor.checkpoint.measured();
        let Some(load) = ended else {
            let after = patience.stall.unwrap_or_default();
            return Err(Error::Stalled { after, what: "the dump of the primary".into() });
        };
        let wait = Wait { every: Duration::from_millis(200), patience: patience.stall };
        let dump = supervisor.wait_for(&mut self, wait, |pipe, _| {
            Ok(pipe.dump.try_wait().map_or(Look::Still, Look::Done))
        })?;
        let loaded = complaint(&self.scratch.join("load.err"));
        if load != Exit::Status(0) || !loaded.is_empty() {
            let text = if loaded.is_empty() { load.to_string() } else { loaded };
            let errno = errno_of(&text);
            if matches!(errno, 1053 | 2002 | 2006 | 2013) {
                let lost = Error::MysqldHung { what: "answer to the load".into(), after: None };
                return Err(explain(supervisor, self.mysqld, lost, patience.shutdown));
            }
            let text = format!("loading the dump: {}", without_statement(&text));
            return Err(Error::ReplicationError { errno, text });
        }
        let complained = complaint(&self.scratch.join("dump.err"));
        match dump {
            Some(Exit::Status(0)) if complained.is_empty() => Ok(()),
            Some(exit) => {
                let text = if complained.is_empty() { exit.to_string() } else { complained };
                Err(dump_error(&self.address, self.flavor, &text))
            }
            None => Err(Error::Stalled {
                after: patience.stall.unwrap_or_default(),
                what: "the dump of the primary".into(),
            }),
        }
    }
}

impl Watched for Pipe<'_> {
    fn ended(&mut self) -> Option<Error> {
        self.mysqld.ended()
    }
    fn ping(&mut self) -> Result<()> {
        self.mysqld.ping()
    }
    fn vital_signs(&self) -> Option<VitalSigns> {
        let (a, b) = (self.mysqld.vital_signs()?, self.dump.vital_signs());
        Some(VitalSigns {
            cpu_ms: a.cpu_ms + b.cpu_ms,
            io_bytes: a.io_bytes + b.io_bytes,
            log_bytes: a.log_bytes,
        })
    }
    fn look_after(&mut self) -> Result<()> {
        self.mysqld.look_after()
    }
}

/// Compares what was loaded with the primary, and reads the position.
fn check(
    setup: &Setup,
    mysqld: &mut Mysqld,
    primary: &Primary,
    facts: &Facts,
    before: &Tables,
) -> Result<Seeded> {
    let mut session: Session = primary.open(&facts.address)?;
    let after = tables::list_primary(&mut session, facts)?;
    let loaded = tables::list_private(mysqld, setup.flavor)?;
    tables::compare(before, &after, &loaded)?;
    if setup.flavor == Flavor::MariaDb {
        // The dump holds a CHANGE MASTER.
        mysqld.run("RESET SLAVE ALL")?;
    }
    let position = replica::position(mysqld, setup.flavor)?;
    if position.is_empty() {
        return Err(Error::ReplicationError { errno: 0, text: "the dump has no position".into() });
    }
    let answer = mysqld.control()?.query("SELECT VERSION()");
    let version = answer.map_err(|t| mysqld.lost("answer to a query", t))?.first().to_string();
    Ok(Seeded { position, version })
}
