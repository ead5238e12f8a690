//! The user's programs that run before and after a pass, and on its data.
//!
//! Each is started like any child: directly, in its own process group, tied to our life. Facts
//! reach it through its environment, and its output is logged line by line. Its time is limited,
//! and a stop ends it: TERM first, then KILL. A failure before the pass ends the pass; a failure
//! after it is a warning.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::os::files;
use crate::os::process::{self, Child, Exit};
use crate::os::sys;
use crate::report::keys::Key;
use crate::server::guest::{DEFAULTS_FILE, first_argument};
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::{Nothing, Watched};
use crate::text::{short, system_text};

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// The time for all hooks after a stop, since whatever stopped the pass is waiting.
const AFTER_STOP: Duration = Duration::from_secs(30);
/// Between two reads of its output; its exit is noticed at once.
const LOOK: Duration = Duration::from_millis(100);
/// The longest line that is logged, bytes.
const LINE: usize = 1000;
/// The most lines that are logged of one hook.
const LINES: usize = 1000;
/// The most reads at one look, so that endless output does not block the loop.
const READS: usize = 64;

/// What a hook inherits beyond every other child: the user that it runs as, and where that user's
/// files are.
const PERSON: [&str; 4] = ["HOME", "USER", "LOGNAME", "SHELL"];

/// A program and its arguments, as an option names them.
pub struct Hook {
    /// The option without its dashes.
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
}

impl Hook {
    /// The hook of the option `name`: the first word is the program, a path or a name in `PATH`.
    /// Fails if there is no such program.
    pub fn new(name: &'static str, words: Vec<String>) -> Result<Hook> {
        let mut args = words.into_iter();
        let named = args.next().unwrap_or_default();
        let program = find(&named).map_err(|why| Error::config(format!("--{name}: {why}")))?;
        Ok(Hook { name, program, args: args.collect() })
    }

    /// Its name in messages, without the arguments: they may be secret.
    fn label(&self) -> String {
        format!("--{} {}", self.name, self.program.display())
    }
}

/// The program that a word names, as a shell finds it: a path, or a name in `PATH`.
///
/// # Errors
/// Says why there is none.
pub(super) fn find(named: &str) -> Result<PathBuf, String> {
    let program = if named.contains('/') {
        std::path::absolute(named).ok().filter(|path| files::is_program(path))
    } else {
        let dirs = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&dirs).map(|dir| dir.join(named)).find(|p| files::is_program(p))
    };
    program.ok_or_else(|| {
        let what = match named.contains('/') {
            true if Path::new(named).exists() => "is not an executable file",
            true => "does not exist",
            false => "is not in PATH",
        };
        format!("{named} {what}")
    })
}

/// All hooks of a pass, and what they are told besides the keys of the checkpoint.
pub struct Hooks {
    /// Those that were named.
    pub hooks: Vec<Hook>,
    /// `--hook-timeout`.
    pub timeout: Duration,
    /// Variables that stay the same during a pass, without their prefix.
    pub variables: Vec<(&'static str, OsString)>,
}

/// Why a hook failed, as a sentence, and its last line, which is for the log alone: it may hold
/// anything.
struct Failure {
    why: String,
    last: String,
}

impl Hooks {
    fn named(&self, name: &str) -> Option<&Hook> {
        self.hooks.iter().find(|h| h.name == name)
    }

    /// Runs `--before`.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it fails: nothing was done, the data of an interrupted pass
    /// stays, and another attempt may fail as well. [`Error::Interrupted`].
    pub fn before(&self, supervisor: &mut Supervisor) -> Result<()> {
        let Some(hook) = self.named("before") else { return Ok(()) };
        supervisor.check_stop()?;
        let failure = self.run(hook, supervisor, self.timeout)?;
        failure.map_or(Ok(()), |Failure { why, last }| {
            if !last.is_empty() {
                log::warn!("--before: its last line was: {last}");
            }
            Err(Error::config(format!("{why}; the pass has not begun")))
        })
    }

    /// True if `--on-data` was given.
    pub(super) fn has_on_data(&self) -> bool {
        self.named("on-data").is_some()
    }

    /// Runs `--on-data` on the data of `mysqld`, which is watched meanwhile. It logs in by `option_file`.
    ///
    /// # Errors
    /// [`Error::Hook`] when it fails; what became of the server; a stop. It is gone by then.
    pub(super) fn on_data(
        &self,
        supervisor: &mut Supervisor,
        mysqld: &mut Mysqld,
        option_file: &Path,
    ) -> Result<()> {
        let Some(hook) = self.named("on-data") else { return Ok(()) };
        let (began, label) = (Instant::now(), hook.label());
        let failed = |why: String| Error::Hook { what: format!("{label}: {why}") };
        let mut command = self.command(hook, supervisor, Some(option_file));
        command.env(DEFAULTS_FILE, option_file);
        let mut running = Running::start(hook.name, command)
            .map_err(|e| failed(format!("it cannot be executed: {}", system_text(&e))))?;
        let Some(why) = running.run(supervisor, &mut Unhurried(mysqld), self.timeout)? else {
            log::info!("ran {label} in {}", short(began.elapsed()));
            return Ok(());
        };
        // It may have failed because the server has.
        mysqld.ping()?;
        mysqld.maintain()?;
        if !running.last.is_empty() {
            log::warn!("--on-data: its last line was: {}", running.last);
        }
        Err(failed(why))
    }

    /// Runs what follows a pass that ended with `status`. Neither a failure nor a stop changes
    /// the outcome of the pass any more.
    pub fn after(&self, supervisor: &mut Supervisor, status: u8) {
        let outcome = if status == 0 { "after-success" } else { "after-failure" };
        let mut first: Option<Instant> = None;
        for hook in [outcome, "after"].iter().filter_map(|name| self.named(name)) {
            let (stops, now) = (supervisor.ignore_past_signals(), Instant::now());
            let patience = match stops {
                0 => self.timeout,
                1 => self.timeout.min(AFTER_STOP.saturating_sub(now - *first.get_or_insert(now))),
                _ => {
                    log::warn!("not running {}: a second signal arrived", hook.label());
                    continue;
                }
            };
            if patience.is_zero() {
                log::warn!("not running {}: no time is left after the stop", hook.label());
                continue;
            }
            match self.run(hook, supervisor, patience) {
                Ok(None) => {}
                Ok(Some(Failure { why, last })) if last.is_empty() => log::warn!("{why}"),
                Ok(Some(Failure { why, last })) => log::warn!("{why}; its last line was: {last}"),
                Err(e) => log::warn!("{}: {e}", hook.label()),
            }
        }
    }

    /// Runs a hook until it has exited. Fails at a stop, unless the pass is ending; the hook is gone
    /// by then.
    fn run(
        &self,
        hook: &Hook,
        supervisor: &mut Supervisor,
        patience: Duration,
    ) -> Result<Option<Failure>> {
        let (began, label) = (Instant::now(), hook.label());
        let mut running = match Running::start(hook.name, self.command(hook, supervisor, None)) {
            Ok(running) => running,
            Err(e) => {
                let why = format!("{label}: it cannot be executed: {}", system_text(&e));
                return Ok(Some(Failure { why, last: String::new() }));
            }
        };
        let why = running.run(supervisor, &mut Nothing, patience)?;
        if why.is_none() {
            log::info!("ran {label} in {}", short(began.elapsed()));
        }
        Ok(why.map(|why| Failure { why: format!("{label}: {why}"), last: running.last }))
    }

    /// `option_file`: that of the server it is to log in to, if there is one.
    fn command(&self, hook: &Hook, supervisor: &Supervisor, option_file: Option<&Path>) -> Command {
        let mut command = process::command(&hook.program);
        command.args(option_file.and_then(|f| first_argument(&hook.program, &hook.args, f)));
        command.args(&hook.args).stdin(Stdio::null());
        command.envs(PERSON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        let variable = |key: &str| format!("ROLLFORWARD_{}", key.to_ascii_uppercase());
        command.env(variable("hook"), hook.name);
        for (key, value) in &self.variables {
            command.env(variable(key), value);
        }
        for key in Key::ALL {
            if let Some(value) = supervisor.checkpoint.get(*key) {
                let quotes: &[char] = if *key == Key::Message { &['\''] } else { &[] };
                command.env(variable(key.name()), value.trim_matches(quotes));
            }
        }
        command
    }
}

/// A hook that runs, and its output.
struct Running {
    name: &'static str,
    child: Child,
    output: File,
    line: Vec<u8>,
    lines: usize,
    last: String,
}

impl Running {
    /// Starts `command`, which is dropped here since it holds the other end of the pipe.
    fn start(name: &'static str, mut command: Command) -> io::Result<Running> {
        let (reader, writer) = io::pipe()?;
        let output = File::from(OwnedFd::from(reader));
        sys::set_nonblocking(&output)?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = Child::spawn(&mut command)?;
        Ok(Running { name, child, output, line: Vec::new(), lines: 0, last: String::new() })
    }

    /// Waits until it has exited, and ends it if need be, or if `watched` has ended. A failure is a sentence.
    fn run<W: Watched>(
        &mut self,
        supervisor: &mut Supervisor,
        watched: &mut W,
        patience: Duration,
    ) -> Result<Option<String>> {
        let waited = self.wait(supervisor, watched, patience);
        if let Ok(Some(exit)) = waited {
            return Ok((exit != Exit::Status(0)).then(|| exit.to_string()));
        }
        let stopped =
            matches!(waited, Err(Error::Interrupted { .. })) || supervisor.was_told_again();
        // Then the pass goes on, and a signal still counts.
        let alone = waited.is_err() && !stopped;
        if stopped {
            supervisor.begin_ending();
        }
        // A second signal shortens the grace period, also one that has arrived before it.
        if alone || supervisor.ignore_past_signals() < 2 {
            self.child.signal_group(libc::SIGTERM);
            let _ = self.wait(supervisor, &mut Nothing, GRACE);
        }
        // Its own children received the TERM, too, and may still run.
        self.child.signal_group(libc::SIGKILL);
        self.child.kill();
        self.look();
        waited?;
        Ok(Some(match stopped {
            true => "it was terminated because the pass was stopped".into(),
            false => format!("it took longer than {} and was ended", short(patience)),
        }))
    }

    fn wait<W: Watched>(
        &mut self,
        supervisor: &mut Supervisor,
        watched: &mut W,
        patience: Duration,
    ) -> Result<Option<Exit>> {
        let wait = Wait { every: LOOK, patience: Some(patience) };
        supervisor.wait_for(watched, wait, |_, _| Ok(self.look()))
    }

    /// Logs new output, and tells whether it has exited.
    fn look(&mut self) -> Look<Exit> {
        // In this order: once it has exited, all its output can be read.
        let exit = self.child.try_wait();
        self.read();
        let Some(exit) = exit else { return Look::Still };
        self.finish_line();
        Look::Done(exit)
    }

    /// Reads what is there. Its background processes may keep the pipe open for long, so nothing
    /// is waited for.
    fn read(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        for _ in 0..READS {
            let Ok(n @ 1..) = self.output.read(&mut buffer) else { return };
            for byte in &buffer[..n] {
                match byte {
                    b'\n' => self.finish_line(),
                    // One byte more than is logged tells that there was more.
                    _ if self.line.len() <= LINE => self.line.push(*byte),
                    _ => {}
                }
            }
        }
    }

    fn finish_line(&mut self) {
        let more = if self.line.len() > LINE { "..." } else { "" };
        self.line.truncate(LINE);
        // Clients part the columns of a table by tabs, which the log does not have.
        let line = String::from_utf8_lossy(&self.line).replace('\t', " ");
        let text = format!("{}{more}", line.trim_end());
        self.line.clear();
        if text.is_empty() {
            return;
        }
        self.lines += 1;
        if self.lines <= LINES {
            log::info!("--{} says: {text}", self.name);
        } else if self.lines == LINES + 1 {
            log::info!("--{} said more than {LINES} lines; the rest is not logged", self.name);
        }
        self.last = text;
    }
}

/// A server on which a program runs whose time is limited whatever it does: no sign of life counts.
struct Unhurried<'a>(&'a mut Mysqld);

impl Watched for Unhurried<'_> {
    fn ended(&mut self) -> Option<Error> {
        self.0.ended()
    }
    fn ping(&mut self) -> Result<()> {
        self.0.ping()
    }
    fn maintain(&mut self) -> Result<()> {
        self.0.maintain()
    }
}
