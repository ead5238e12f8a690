//! A child process: started in a group of its own, asked whether it ended, signalled, reaped.
//!
//! Every child dies with us. A [`Child`] that is dropped while it runs is killed and reaped, so
//! that no way out of a function leaves a process behind. Spawn from the main thread only.
//! Children that we never started, as PID 1 gets them, are reaped by [`reap_orphans`].

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::os::sys;
use crate::text::short;

/// How long a killed process may take to end. The kernel frees some GiB of memory in a second.
pub const DYING: Duration = Duration::from_secs(30);

/// The children that somebody here waits for. Only the main thread starts and reaps.
static OURS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn ours() -> MutexGuard<'static, Vec<u32>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps whoever became a child of ours because its own parent died, so that a container whose
/// PID 1 we are does not fill with zombies. The status of a [`Child`] is never taken from it.
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
            Exit::Status(code) => write!(f, "it ended with status {code}"),
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

/// Signs that a process does something: they only ever grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VitalSigns {
    /// CPU time used, milliseconds.
    pub cpu_ms: u64,
    /// Bytes read from and written to disks.
    pub io_bytes: u64,
    /// Bytes it has written to its log, where somebody keeps count.
    pub log_bytes: u64,
}

/// A running child, or one that has ended and was reaped.
pub struct Child {
    child: process::Child,
    exit: Option<Exit>,
    /// Not even a kill ends it.
    undying: bool,
}

impl Child {
    /// Starts `command` in its own process group, tied to our life.
    ///
    /// # Errors
    /// What fork or exec said.
    pub fn spawn(command: &mut Command) -> io::Result<Child> {
        command.process_group(0);
        // Both servers know this protocol, and would speak for us.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
            command.env_remove(variable);
        }
        sys::die_with_parent(command);
        let mut ours = ours();
        let child = command.spawn()?;
        ours.push(child.id());
        Ok(Child { child, exit: None, undying: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipes that the command asked for.
    pub fn pipes(&mut self) -> &mut process::Child {
        &mut self.child
    }

    /// Has it ended? Never blocks.
    pub fn try_wait(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = match self.child.try_wait() {
                Ok(status) => status.map(Exit::from),
                // Nobody else reaps our children, so this cannot happen; a process that
                // cannot be waited for is as good as gone.
                Err(_) => Some(Exit::Signal(0)),
            };
        }
        self.exit
    }

    /// Sends a signal to it, unless it has ended.
    pub fn signal(&mut self, signal: i32) {
        if self.try_wait().is_none() {
            let _ = sys::kill(self.pid() as i32, signal);
        }
    }

    /// Sends a signal to all of its group, which may outlive it for a moment.
    pub fn signal_group(&self, signal: i32) {
        let _ = sys::kill(-(self.pid() as i32), signal);
    }

    /// Kills it and all of its group, and reaps it. The kernel may need a moment to free its
    /// memory; what waits in there, for a disk that does not answer or in a frozen cgroup, does
    /// not end at all: after [`DYING`] it is left alone, once and for all, and `None` comes back.
    pub fn kill(&mut self) -> Option<Exit> {
        self.kill_within(DYING)
    }

    fn kill_within(&mut self, patience: Duration) -> Option<Exit> {
        if self.try_wait().is_none() && !self.undying {
            let pid = self.pid();
            let _ = sys::kill(-(pid as i32), libc::SIGKILL);
            let until = Instant::now() + patience;
            let mut left = patience;
            while self.try_wait().is_none() && !left.is_zero() {
                sys::wait_for_process(pid, left);
                left = until.saturating_duration_since(Instant::now());
            }
            if self.try_wait().is_none() {
                self.undying = true;
                log::warn!("pid {pid} was killed and has not ended for {}", short(patience));
            }
        }
        self.exit
    }

    /// Bytes it has written so far, to files and pipes alike; 0 when that cannot be read.
    pub fn written(&self) -> u64 {
        counter(self.pid(), "wchar:")
    }

    /// Its vital signs; zeros when they cannot be read.
    pub fn vital_signs(&self) -> VitalSigns {
        vital_signs(self.pid())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        let pid = self.pid();
        // One that not even a kill ended is an orphan from here on.
        ours().retain(|ours| *ours != pid);
    }
}

fn vital_signs(pid: u32) -> VitalSigns {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields after the name, which may hold spaces: proc(5), utime and stime are 14 and 15.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(vec![], |(_, rest)| rest.split_whitespace().collect());
    let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    VitalSigns {
        cpu_ms: (field(14) + field(15)) * 1000 / sys::ticks_per_second(),
        io_bytes: counter(pid, "read_bytes:") + counter(pid, "write_bytes:"),
        log_bytes: 0,
    }
}

fn counter(pid: u32, key: &str) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0)
}

/// Does the process hold a flock? `None` where the system does not tell.
pub fn holds_a_lock(pid: u32) -> Option<bool> {
    let text = fs::read_to_string("/proc/locks").ok()?;
    let pid = pid.to_string();
    // `3: FLOCK  ADVISORY  WRITE 4711 08:02:131 0 EOF`; who only waits has an arrow there.
    Some(text.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1) == Some(&"FLOCK") && words.get(4) == Some(&pid.as_str())
    }))
}

/// When a process started, in clock ticks since boot: with its pid, an identity that is never
/// used again. `None` when there is no such process.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// Has the process that started at `start` ended, all of its threads? One that nobody has reaped
/// yet has.
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
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_is_gone() {
        let child = Child::spawn(Command::new("sleep").arg("60")).unwrap();
        let pid = child.pid();
        assert!(start_time(pid).is_some());
        drop(child);
        assert_eq!(start_time(pid), None);
    }

    #[test]
    fn reaping_leaves_the_status_of_a_child_to_its_waiter() {
        let mut child = Child::spawn(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        let (pid, start) = (child.pid(), start_time(child.pid()).unwrap());
        while !is_gone(pid, start) {
            std::thread::yield_now();
        }
        reap_orphans();
        assert_eq!(child.try_wait(), Some(Exit::Status(7)));
    }

    #[test]
    fn exit_tells_a_signal_from_a_status() {
        let mut child = Child::spawn(Command::new("sleep").arg("60")).unwrap();
        assert_eq!(child.try_wait(), None);
        assert_eq!(child.kill(), Some(Exit::Signal(9)));
        assert_eq!(child.try_wait(), Some(Exit::Signal(9)));
        let mut child = Child::spawn(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        while child.try_wait().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(child.try_wait(), Some(Exit::Status(7)));
    }

    #[test]
    fn waiting_for_an_unkillable_process_has_a_limit() {
        // Without a group of its own the kill, which goes to the group, does not reach it.
        let mut ours = ours();
        let started = Command::new("sleep").arg("60").spawn().unwrap();
        ours.push(started.id());
        drop(ours);
        let mut child = Child { child: started, exit: None, undying: false };
        let (pid, start) = (child.pid(), start_time(child.pid()).unwrap());
        assert!(!is_gone(pid, start) && is_gone(pid, start + 1));
        let since = Instant::now();
        assert_eq!(child.kill_within(Duration::from_millis(200)), None);
        assert!(since.elapsed() >= Duration::from_millis(200));
        // Once and for all.
        let since = Instant::now();
        assert_eq!(child.kill(), None);
        assert!(since.elapsed() < Duration::from_secs(5));
        sys::kill(pid as i32, libc::SIGKILL).unwrap();
        while child.try_wait().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(child.kill(), Some(Exit::Signal(9)));
        assert!(is_gone(pid, start));
    }
}
