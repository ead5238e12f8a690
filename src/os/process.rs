//! Child processes: started in their own group, polled, signalled, reaped.
//!
//! Every child dies with us. Dropping a running [`Child`] kills and reaps it, so an early return
//! leaves no process behind. Spawn from the main thread only. [`reap_orphans`] reaps children that
//! PID 1 inherits.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::os::sys;
use crate::text::short;

/// How long a killed process may take to exit. The kernel frees some GiB of memory per second.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// The children we wait for ourselves. Only the main thread starts and reaps.
static OURS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn ours() -> MutexGuard<'static, Vec<u32>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps processes we inherited when their parents died, so that a container where we are PID 1
/// does not fill with zombies. Never takes the exit status of a [`Child`].
pub fn reap_orphans() {
    let ours = ours();
    sys::reap_orphans(|pid| ours.contains(&(pid as u32)));
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Status(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Status(code) => write!(f, "it exited with status {code}"),
            Exit::Signal(signal) => write!(f, "it was killed by signal {signal}{}", name(*signal)),
        }
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => " (KILL)",
        libc::SIGSEGV => " (SEGV)",
        libc::SIGABRT => " (ABRT)",
        libc::SIGBUS => " (BUS)",
        libc::SIGTERM => " (TERM)",
        libc::SIGILL => " (ILL)",
        libc::SIGFPE => " (FPE)",
        libc::SIGXFSZ => " (XFSZ)",
        _ => "",
    }
}

/// Counters that only grow while a process does something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// CPU time used, milliseconds.
    pub cpu_ms: u64,
    /// Bytes read from and written to disks.
    pub io_bytes: u64,
    /// Bytes written to its log, where they are counted.
    pub log_bytes: u64,
}

/// The variables that a child inherits: where programs are, how texts and times look, where
/// temporary files go. Any other could lead it astray: a client reads the host of another server
/// from `MYSQL_HOST`, and options from files below `HOME` and `MYSQL_HOME`.
const INHERITED: [&str; 8] =
    ["PATH", "TZ", "TMPDIR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES"];
/// Where programs are if `PATH` is not set.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command for `program` in an environment made here. The only way to make a command.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(program);
    command.env_clear().env("PATH", USUAL_PATH);
    command.envs(INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command
}

/// A command of the user's own, in the environment that we were given but for the variables that lead
/// the servers' clients to another server or account.
pub fn command_of_user(program: impl AsRef<OsStr>) -> Command {
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(program);
    for name in
        ["MYSQL_HOST", "MYSQL_PWD", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT", "MYSQL_GROUP_SUFFIX"]
    {
        command.env_remove(name);
    }
    // A login file would beat every option of MySQL's clients. This one cannot exist.
    command.env("MYSQL_TEST_LOGIN_FILE", "/dev/null/none");
    command
}

/// A running child, or one that has exited and been reaped.
pub struct Child {
    child: process::Child,
    exit: Option<Exit>,
    /// It leads a process group of its own.
    leads: bool,
    /// Not even SIGKILL ended it.
    undying: bool,
}

impl Child {
    /// Starts `command` in its own process group, to be killed when we die.
    ///
    /// # Errors
    /// Those of fork or exec.
    pub fn spawn(command: &mut Command) -> io::Result<Child> {
        command.process_group(0);
        sys::die_with_parent(command, true);
        Child::start(command, true)
    }

    /// Starts a program of the user's, with files as private as the user has them. On a terminal it stays
    /// in our own process group (`leads` is false), so that the keys for signals and job control reach it.
    ///
    /// # Errors
    /// As [`Child::spawn`].
    pub fn spawn_of_user(command: &mut Command, leads: bool) -> io::Result<Child> {
        if leads {
            command.process_group(0);
        }
        sys::die_with_parent(command, false);
        Child::start(command, leads)
    }

    fn start(command: &mut Command, leads: bool) -> io::Result<Child> {
        let mut ours = ours();
        let child = command.spawn()?;
        ours.push(child.id());
        Ok(Child { child, exit: None, leads, undying: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child with the pipes that the command requested.
    pub fn pipes(&mut self) -> &mut process::Child {
        &mut self.child
    }

    /// Its exit, if it has ended. Never blocks.
    pub fn try_wait(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = match self.child.try_wait() {
                Ok(status) => status.map(Exit::from),
                // Only we reap our children, so this cannot happen; a process that cannot be waited
                // for counts as ended.
                Err(_) => Some(Exit::Signal(0)),
            };
        }
        self.exit
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&mut self, signal: i32) {
        if self.try_wait().is_none() {
            let _ = sys::kill(self.pid() as i32, signal);
        }
    }

    /// Sends a signal to its whole group, which may outlive it for a moment; to it alone in ours.
    pub fn signal_group(&mut self, signal: i32) {
        match self.leads {
            true => drop(sys::kill(-(self.pid() as i32), signal)),
            false => self.signal(signal),
        }
    }

    /// Kills and reaps it with its whole group. The kernel may need a moment to free its memory. A
    /// process that is stuck in the kernel (on a dead disk, in a frozen cgroup) does not end: after
    /// [`KILL_TIMEOUT`] it is abandoned for good and the result is `None`.
    pub fn kill(&mut self) -> Option<Exit> {
        self.kill_within(KILL_TIMEOUT)
    }

    fn kill_within(&mut self, patience: Duration) -> Option<Exit> {
        if self.try_wait().is_none() && !self.undying {
            let pid = self.pid();
            let _ = sys::kill(if self.leads { -(pid as i32) } else { pid as i32 }, libc::SIGKILL);
            let until = Instant::now() + patience;
            let mut left = patience;
            while self.try_wait().is_none() && !left.is_zero() {
                sys::wait_for_process(pid, left);
                left = until.saturating_duration_since(Instant::now());
            }
            if self.try_wait().is_none() {
                self.undying = true;
                log::warn!("pid {pid} was killed but has not exited for {}", short(patience));
            }
        }
        self.exit
    }

    /// Bytes it has written to files and pipes; 0 if unknown.
    pub fn written(&self) -> u64 {
        counter(self.pid(), "wchar:")
    }

    /// Bytes it has read from files and pipes; 0 if unknown.
    pub fn read(&self) -> u64 {
        counter(self.pid(), "rchar:")
    }

    /// Grows whenever it reads or writes, and whenever it waits, as for a network: not while it only
    /// computes. 0 if unknown.
    pub fn steps(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let waits = number(&status, "voluntary_ctxt_switches:");
        self.read() + self.written() + waits
    }

    /// Its activity counters; zeros if they cannot be read.
    pub fn activity(&self) -> Activity {
        activity(self.pid())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        let pid = self.pid();
        // A process that even SIGKILL could not end is an orphan from here on.
        ours().retain(|ours| *ours != pid);
    }
}

fn activity(pid: u32) -> Activity {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields after the name, which may contain spaces; see proc(5): utime is 14 and stime 15.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(vec![], |(_, rest)| rest.split_whitespace().collect());
    let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Activity {
        cpu_ms: (field(14) + field(15)) * 1000 / sys::ticks_per_second(),
        io_bytes: counter(pid, "read_bytes:") + counter(pid, "write_bytes:"),
        log_bytes: 0,
    }
}

fn counter(pid: u32, key: &str) -> u64 {
    number(&fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default(), key)
}

fn number(text: &str, key: &str) -> u64 {
    text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0)
}

/// True if the process holds a flock; `None` if the system does not tell.
pub fn holds_lock(pid: u32) -> Option<bool> {
    let text = fs::read_to_string("/proc/locks").ok()?;
    let pid = pid.to_string();
    // `3: FLOCK  ADVISORY  WRITE 4711 08:02:131 0 EOF`; a waiting process has an arrow there.
    Some(text.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1) == Some(&"FLOCK") && words.get(4) == Some(&pid.as_str())
    }))
}

/// When a process started, in clock ticks since boot. With the pid this is a unique identity.
/// `None` if there is no such process.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// What a process does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeds {
    /// It ends outright.
    Not,
    /// It catches or ignores it, or the system does not tell.
    Caught,
    /// It blocks it, for a thread that waits for signals, or will.
    Blocked,
}

/// What the process `pid` does with `signal`.
pub fn heeds(pid: u32, signal: i32) -> Heeds {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |name| signals(&status, name);
    match (mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:")) {
        // The C library blocks all for a moment, to make a process or a thread.
        (Some(blocked), Some(ignored), Some(caught)) => {
            match (
                has(blocked, signal) && !has(blocked, libc::SIGSEGV),
                has(ignored | caught, signal),
            ) {
                (true, _) => Heeds::Blocked,
                (false, true) => Heeds::Caught,
                (false, false) => Heeds::Not,
            }
        }
        _ => Heeds::Caught,
    }
}

/// True if this process ignores the signal.
pub fn ignores(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    signals(&status, "SigIgn:").is_some_and(|mask| has(mask, signal))
}

/// A mask of 64 bits; see proc(5).
fn signals(status: &str, name: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

fn has(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

/// True if the process that started at `start` and all its threads have ended. A zombie has ended.
pub fn is_gone(pid: u32, start: u64) -> bool {
    if start_time(pid) != Some(start) {
        return true;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|t| fs::read_to_string(t.path().join("stat")).unwrap_or_default()).all(|stat| {
        let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
        state.is_empty() || state.starts_with(['Z', 'X'])
    })
}

#[cfg(test)]
mod tests;
