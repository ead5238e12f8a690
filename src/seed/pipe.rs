//! The dumping client and the loading client behind it, watched until both have ended well.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::os::process::{Activity, Child, Exit};
use crate::os::sys;
use crate::os::workers::Aside;
use crate::replication::primary::{Facts, Primary};
use crate::report::meter::Unit;
use crate::seed::dump_client::{client_options, dump_command, dump_error, errno_of, load_command};
use crate::seed::dump_progress::DumpProgress;
use crate::seed::mend::Mended;
use crate::seed::modes::{Accepting, modes};
use crate::seed::relay;
use crate::seed::tables::Tables;
use crate::server::error_log::without_statement;
use crate::server::mysqld::Mysqld;
use crate::server::setup::Setup;
use crate::server::tools::{self, complaint, spawn};
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Watched;

/// What the clients print on standard error, in the scratch directory.
const DUMP_REPORT: &str = "dump.err";
const LOAD_REPORT: &str = "load.err";

/// The most that is read of a dump before it is loaded, bytes.
const HEAD: usize = 32 << 10;

/// A dumping client that was started. Nothing is read from it yet.
pub struct Dump {
    child: Child,
    report: PathBuf,
    address: String,
    flavor: Flavor,
    /// Its steps at the last look, and what it had used when they last grew.
    seen: Cell<(u64, Activity)>,
}

/// What a dumping client writes, with what was read of it already.
pub struct Output {
    head: Vec<u8>,
    passed: usize,
    rest: File,
}

impl Output {
    /// Waits until there is something to read, for at most `patience`.
    pub fn wait(&self, patience: Duration) {
        let _ = sys::wait_readable(&self.rest, patience);
    }

    /// Reads on until `found` finds something in what was read so far, for at most `patience` and
    /// [`HEAD`]; what was read is not lost.
    pub fn find<T>(&mut self, patience: Duration, found: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let until = Instant::now() + patience;
        loop {
            if let Some(found) = found(&self.head) {
                return Some(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            let (mut chunk, length) = (vec![0; 4096], self.head.len());
            if left.is_zero() || length >= HEAD || !sys::wait_readable(&self.rest, left).ok()? {
                return None;
            }
            let read = self.rest.read(&mut chunk).ok().filter(|read| *read > 0)?;
            self.head.extend_from_slice(&chunk[..read]);
        }
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.head.len().saturating_sub(self.passed).min(buffer.len());
        if length == 0 {
            return self.rest.read(buffer);
        }
        buffer[..length].copy_from_slice(&self.head[self.passed..self.passed + length]);
        self.passed += length;
        Ok(length)
    }
}

impl Dump {
    /// Takes over what it writes.
    pub fn take_output(&mut self) -> Option<Output> {
        let stdout = self.child.pipes().stdout.take()?;
        Some(Output { head: Vec::new(), passed: 0, rest: OwnedFd::from(stdout).into() })
    }

    /// Starts a client that dumps `what`.
    ///
    /// # Errors
    /// When it is not installed or cannot be started.
    pub fn start(setup: &Setup, primary: &Primary, facts: &Facts, what: &[String]) -> Result<Dump> {
        let (flavor, scratch) = (setup.flavor, &setup.scratch);
        let report = scratch.join(DUMP_REPORT);
        let mut command = dump_command(setup)?;
        command.args(what).stderr(tools::output(&report)?);
        let fail = |e| Error::io("make a pipe to", scratch, e);
        let (reader, mut writer) = io::pipe().map_err(fail)?;
        if let Some((uid, gid)) = setup.user {
            // It opens the pipe by name.
            fchown(&reader, Some(uid), Some(gid)).map_err(fail)?;
        }
        let child = spawn(command.stdin(reader))?;
        let options = client_options(&primary.account_at(facts), &facts.address, facts.flavor);
        // They fit into a pipe's buffer; a client that died reports that itself.
        let _ = writer.write_all(options.as_bytes());
        let (address, seen) = (facts.address.to_string(), Cell::default());
        Ok(Dump { child, report, address, flavor, seen })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Where it says what it does.
    pub fn report(&self) -> &Path {
        &self.report
    }

    /// What keeps it from going on, if it has failed.
    pub fn failure(&mut self) -> Option<Error> {
        let exit = self.child.try_wait()?;
        self.complaint(exit)
    }

    /// What it had used when it last read, wrote or waited for anything: what only computes may do so
    /// for ever.
    fn activity(&self) -> Activity {
        let (steps, (seen, used)) = (self.child.steps(), self.seen.get());
        if steps <= seen {
            return used;
        }
        let now = self.child.activity();
        self.seen.set((steps, now));
        now
    }

    fn complaint(&self, exit: Exit) -> Option<Error> {
        let complained = complaint(&self.report);
        (exit != Exit::Status(0) || !complained.is_empty())
            .then(|| dump_error(&self.address, self.flavor, &or_exit(complained, exit)))
    }
}

fn or_exit(text: String, exit: Exit) -> String {
    if text.is_empty() { exit.to_string() } else { text }
}

/// A dumping client, the loading client behind it, and the mysqld that is loaded.
pub struct Pipe<'a> {
    dump: Dump,
    load: Child,
    mysqld: &'a mut Mysqld,
    scratch: PathBuf,
}

impl<'a> Pipe<'a> {
    /// Starts to load what `dump` dumps, into the schema `into` if it names none. At most `room` bytes wait
    /// on the disk.
    ///
    /// # Errors
    /// When the loading client is not installed or cannot be started.
    pub fn start(
        setup: &Setup,
        mysqld: &'a mut Mysqld,
        dump: Dump,
        output: Option<Output>,
        into: Option<&str>,
        room: u64,
    ) -> Result<Pipe<'a>> {
        let scratch = setup.scratch.clone();
        let mut command = load_command(setup)?;
        // As the value of an option, whatever it begins with.
        command.args(into.map(|schema| format!("--database={schema}"))).stdin(Stdio::piped());
        command.stderr(tools::output(&scratch.join(LOAD_REPORT))?);
        let mut load = spawn(&mut command)?;
        if let (Some(from), Some(to)) = (output, load.pipes().stdin.take()) {
            let from = Accepting::new(from, modes(setup.flavor, &setup.settings));
            let started = match setup.flavor {
                Flavor::MariaDb => relay::start(from, to, &scratch, room),
                Flavor::MySql => relay::start(Mended::new(from), to, &scratch, room),
            };
            started.map_err(|e| Error::io("pass on a dump in", &scratch, e))?;
        }
        Ok(Pipe { dump, load, mysqld, scratch })
    }

    /// Watches both to their ends, and what goes on `beside` them.
    ///
    /// # Errors
    /// What either of them complains of; no progress for `stall`.
    pub fn run(
        mut self,
        supervisor: &mut Supervisor,
        stall: Option<Duration>,
        tables: &Tables,
        mut beside: Option<Aside<()>>,
    ) -> Result<()> {
        let stalled = || Error::Stalled {
            after: stall.unwrap_or_default(),
            what: "the dump of the primary".into(),
        };
        let mut progress = DumpProgress::new(tables, self.dump.report.clone());
        let wait = Wait { every: Duration::from_secs(1), patience: stall };
        let load = supervisor.wait_for(&mut self, wait, |pipe, checkpoint| {
            let moved = progress.advance(pipe.dump.child.written());
            let (done, total) = progress.done_of();
            checkpoint.measure("dump", Unit::Bytes, done, Some(total));
            if let Some(aside) = &mut beside {
                match aside.take() {
                    Some(ended) => {
                        ended?;
                        beside = None;
                    }
                    None if aside.is_lost() => return Err(stalled()),
                    None => {}
                }
            }
            // What it has dumped may be waiting for hours of loading.
            if let Some(exit) = pipe.dump.child.try_wait()
                && exit != Exit::Status(0)
                && let Some(error) = pipe.dump.complaint(exit)
                && pipe.load.try_wait().is_none()
            {
                return Err(error);
            }
            // A loader that failed breaks the pipe: the dump need not be waited for.
            Ok(match pipe.load.try_wait() {
                Some(exit) if beside.is_none() || exit != Exit::Status(0) => Look::Done(exit),
                _ if moved => Look::Moving,
                _ => Look::Still,
            })
        })?;
        supervisor.checkpoint.measured();
        let load = load.ok_or_else(stalled)?;
        let wait = Wait { every: Duration::from_millis(200), patience: stall };
        let dump = supervisor.wait_for(&mut self, wait, |pipe, _| {
            Ok(pipe.dump.child.try_wait().map_or(Look::Still, Look::Done))
        })?;
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
        self.dump.complaint(dump).map_or(Ok(()), Err)
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
            // What the loader takes from the relay counts as well.
            io_bytes: a.io_bytes + b.io_bytes + self.load.read(),
            log_bytes: a.log_bytes,
        })
    }
    fn maintain(&mut self) -> Result<()> {
        self.mysqld.maintain()
    }
}
