//! Programs of the user's that run before and after a pass.
//!
//! Started like every child: directly, in a group of their own, tied to our life. They learn
//! what there is to know from their environment, and what they say goes to the log line by
//! line. Their time is bounded, and a stop reaches them: TERM first, then KILL. One that fails
//! before a pass ends it; one that fails after it is a warning.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::os::files;
use crate::os::process::{Child, Exit};
use crate::os::sys;
use crate::report::keys::Key;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Watched;
use crate::text::{short, system_text};

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// A pass that was told to stop has so much time for all that follows it: who stopped it waits.
const AFTER_STOP: Duration = Duration::from_secs(30);
/// Time between two looks at what it says; its end is noticed at once.
const LOOK: Duration = Duration::from_millis(100);
/// A longer line is cut.
const LINE: usize = 1000;
/// So many lines of one hook are logged.
const LINES: usize = 1000;
/// Reads at one look: the loop has more to do than to listen to who never stops talking.
const READS: usize = 64;

/// A program and its arguments, as an option names them.
pub struct Hook {
    /// The option without its dashes.
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
}

impl Hook {
    /// The hook of the option `name`: the first word is the program, a path or a name in `PATH`.
    ///
    /// # Errors
    /// [`Error::Configuration`] when there is no such program.
    pub fn new(name: &'static str, words: Vec<String>) -> Result<Hook> {
        let mut args = words.into_iter();
        let named = args.next().unwrap_or_default();
        let program = find(&named).ok_or_else(|| {
            let is_path = named.contains('/');
            let what = match is_path {
                true if Path::new(&named).exists() => "is not an executable file",
                true => "does not exist",
                false => "is not in PATH",
            };
            Error::config(format!("--{name}: {named} {what}"))
        })?;
        Ok(Hook { name, program, args: args.collect() })
    }

    /// For people. The arguments may hold what is nobody's business.
    fn called(&self) -> String {
        format!("--{} {}", self.name, self.program.display())
    }
}

fn find(named: &str) -> Option<PathBuf> {
    if named.contains('/') {
        let path = std::path::absolute(named).ok()?;
        return files::is_program(&path).then_some(path);
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&places).map(|p| p.join(named)).find(|p| files::is_program(p))
}

/// All hooks of a pass, and what they are told besides the keys of the checkpoint.
pub struct Hooks {
    /// Those that were named.
    pub hooks: Vec<Hook>,
    /// `--hook-timeout`.
    pub timeout: Duration,
    /// Variables that do not change in a pass, without their prefix.
    pub variables: Vec<(&'static str, OsString)>,
}

/// How a hook ended.
enum End {
    Exit(Exit),
    Late(Duration),
    Stopped,
}

/// Why a hook failed, as a sentence, and its last line: that is for the log alone, since nobody
/// knows what is in it.
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
    /// stays, and nobody knows whether another try would go better. [`Error::Interrupted`].
    pub fn before(&self, supervisor: &mut Supervisor) -> Result<()> {
        let Some(hook) = self.named("before") else { return Ok(()) };
        supervisor.check_stop()?;
        self.run(hook, supervisor, self.timeout)?.map_err(|failure| {
            if !failure.last.is_empty() {
                log::warn!("--before said at last: {}", failure.last);
            }
            Error::config(format!("{}; the pass has not begun", failure.why))
        })
    }

    /// Runs what is to follow a pass that ended with `status`. The pass is over: neither a
    /// failure nor a stop changes anything about it.
    pub fn after(&self, supervisor: &mut Supervisor, status: u8) {
        let outcome = if status == 0 { "after-success" } else { "after-failure" };
        let mut told: Option<Instant> = None;
        for hook in [outcome, "after"].iter().filter_map(|name| self.named(name)) {
            let stops = supervisor.ignore_past_signals();
            if stops > 1 {
                log::warn!("{} is not run: a second signal came", hook.called());
                continue;
            }
            let mut patience = self.timeout;
            if stops > 0 {
                let now = Instant::now();
                let gone = now.duration_since(*told.get_or_insert(now));
                patience = patience.min(AFTER_STOP.saturating_sub(gone));
            }
            if patience.is_zero() {
                log::warn!("{} is not run: no time is left after the stop", hook.called());
                continue;
            }
            match self.run(hook, supervisor, patience) {
                Ok(Ok(())) => {}
                Ok(Err(Failure { why, last })) if last.is_empty() => log::warn!("{why}"),
                Ok(Err(Failure { why, last })) => log::warn!("{why}; it said at last: {last}"),
                Err(e) => log::warn!("{}: {e}", hook.called()),
            }
        }
    }

    /// Runs a hook to its end.
    ///
    /// # Errors
    /// A stop of a pass that is not over, when the hook is gone.
    fn run(
        &self,
        hook: &Hook,
        supervisor: &mut Supervisor,
        patience: Duration,
    ) -> Result<Result<(), Failure>> {
        let began = Instant::now();
        let called = hook.called();
        let mut command = self.command(hook, supervisor);
        let mut running = match Running::start(hook.name, &mut command) {
            Ok(running) => running,
            Err(e) => {
                let why = format!("{called}: it cannot be executed: {}", system_text(&e));
                return Ok(Err(Failure { why, last: String::new() }));
            }
        };
        // It holds the other end of what is read.
        drop(command);
        let end = running.run(supervisor, patience)?;
        let why = match end {
            End::Exit(Exit::Status(0)) => {
                log::info!("ran {called} in {}", short(began.elapsed()));
                return Ok(Ok(()));
            }
            End::Exit(exit) => format!("{called}: {exit}"),
            End::Late(after) => {
                format!("{called}: it took longer than {} and was ended", short(after))
            }
            End::Stopped => format!("{called}: it was ended by a stop"),
        };
        Ok(Err(Failure { why, last: running.last }))
    }

    fn command(&self, hook: &Hook, supervisor: &Supervisor) -> Command {
        let mut command = Command::new(&hook.program);
        command.args(&hook.args).stdin(Stdio::null()).env_remove("MYSQL_PWD");
        let variable = |key: &str| format!("ROLLFORWARD_{}", key.to_ascii_uppercase());
        // What we inherited ourselves is not true of this pass.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"ROLLFORWARD_") {
                command.env_remove(name);
            }
        }
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

/// A hook that runs, and what it says.
struct Running {
    name: &'static str,
    child: Child,
    output: Option<File>,
    line: Vec<u8>,
    cut: bool,
    lines: usize,
    last: String,
}

impl Running {
    fn start(name: &'static str, command: &mut Command) -> io::Result<Running> {
        let (reader, writer) = io::pipe()?;
        let output = File::from(OwnedFd::from(reader));
        sys::set_nonblocking(&output)?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = Child::spawn(command)?;
        let (line, last) = (Vec::new(), String::new());
        Ok(Running { name, child, output: Some(output), line, cut: false, lines: 0, last })
    }

    fn run(&mut self, supervisor: &mut Supervisor, patience: Duration) -> Result<End> {
        let wait = Wait { every: LOOK, patience: Some(patience) };
        let waited = supervisor.wait_for(self, wait, |running, _| Ok(running.look()));
        if let Ok(Some(exit)) = waited {
            return Ok(End::Exit(exit));
        }
        let stopped = waited.is_err() || supervisor.was_told_again();
        if stopped {
            supervisor.begin_ending();
        }
        self.end(supervisor);
        waited?;
        Ok(if stopped { End::Stopped } else { End::Late(patience) })
    }

    /// TERM, and after a grace, or at a second signal, KILL.
    fn end(&mut self, supervisor: &mut Supervisor) {
        if supervisor.ignore_past_signals() < 2 {
            self.child.signal_group(libc::SIGTERM);
            let wait = Wait { every: LOOK, patience: Some(GRACE) };
            let _ = supervisor.wait_for(self, wait, |running, _| Ok(running.look()));
        }
        // What it started has heard the TERM, too, and may be there still.
        self.child.signal_group(libc::SIGKILL);
        self.child.kill();
        self.look();
    }

    fn look(&mut self) -> Look<Exit> {
        // In this order: what it said before its end is there to be read.
        let ended = self.child.try_wait();
        self.listen();
        match ended {
            Some(exit) => {
                if !self.line.is_empty() {
                    self.finish_line();
                }
                Look::Done(exit)
            }
            None => Look::Still,
        }
    }

    /// Reads what there is. What it left in the background may keep its end open for long, so
    /// nothing is waited for.
    fn listen(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        for _ in 0..READS {
            let Some(output) = &mut self.output else { return };
            match output.read(&mut buffer) {
                Ok(0) => self.output = None,
                Ok(n) => buffer[..n].iter().for_each(|byte| self.hear(*byte)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn hear(&mut self, byte: u8) {
        if byte == b'\n' {
            self.finish_line();
        } else if self.line.len() < LINE {
            self.line.push(byte);
        } else {
            self.cut = true;
        }
    }

    fn finish_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let more = if std::mem::take(&mut self.cut) { "..." } else { "" };
        let text = format!("{}{more}", text.trim_end());
        self.line.clear();
        if text.is_empty() {
            return;
        }
        self.lines += 1;
        match self.lines {
            ..=LINES => log::info!("--{} says: {text}", self.name),
            n if n == LINES + 1 => {
                log::info!("--{} says more than {LINES} lines: no more are logged", self.name);
            }
            _ => {}
        }
        self.last = text;
    }
}

/// Its time is bounded whatever it does, so nothing else counts.
impl Watched for Running {}
